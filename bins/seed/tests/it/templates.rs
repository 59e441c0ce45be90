//! What templates, `envsubst` and `env` put into files, from end to end; secrets, and the verb `render`.

use std::fs;
use std::process::Command;

use crate::kit::{Sandbox, seed};

const VALUES: &str = "name: shop\ndb: {host: db.prod, port: 5432, password: hunter2hunter2}\n\
    hosts: [a, b]\nlabels: {app: shop, version: '1.10', 'on': 'yes'}\nmotd: |\n  hello\n  world\ncidr: 10.4.0.0/16\n";

#[test]
fn a_config_map_is_made_of_filters_includes_and_macros() {
    let sandbox = Sandbox::new();
    sandbox.write("values.yaml", VALUES);
    sandbox.write(
        "templates/lib/urls.j2",
        "{% macro db(d) %}postgres://{{ d.host }}:{{ d.port }}{% endmacro %}",
    );
    sandbox.write("templates/labels.j2", "{{ values.labels | to_yaml }}");
    sandbox
        .write("templates/base.j2", "apiVersion: v1\nmetadata:\n  labels:{% block labels %}{% endblock %}\n");
    let app = "{% extends 'base.j2' %}{% import 'lib/urls.j2' as urls %}{% block labels %}\n    \
        {%- set labels %}{% include 'labels.j2' %}{% endset %}{{ labels | nindent(4) }}\n  \
        url: {{ urls.db(values.db) | quote }}\n  hosts: {{ values.hosts | to_json }}\n  \
        motd: {{ values.motd | quote }}\n  auth: {{ 'u:p' | b64encode }}\n  dns: {{ cidr_host(values.cidr, 10) }}\n  \
        debug: {{ values.debug | default(false) }}\n  first: {{ values.name | required('name it') | regex_replace('s(h)', '$1') }}\
        {% endblock %}";
    sandbox.write("app.j2", app);
    sandbox.run(
        "templates: '@/templates'\nvalues: '@/values.yaml'\nfiles: [{path: app.yaml, template: '@/app.j2'}]\n",
    );
    assert_eq!(
        sandbox.read("app.yaml"),
        "apiVersion: v1\nmetadata:\n  labels:\n    app: shop\n    version: \"1.10\"\n    \"on\": \"yes\"\n  \
         url: \"postgres://db.prod:5432\"\n  hosts: [\"a\",\"b\"]\n  motd: \"hello\\nworld\\n\"\n  auth: dTpw\n  \
         dns: 10.4.0.10\n  debug: false\n  first: hop\n"
    );
}

#[test]
fn envsubst_leaves_nginx_its_own_variables() {
    let sandbox = Sandbox::new();
    let nginx = "upstream app { server ${UPSTREAM:-127.0.0.1:8080}; }\nserver {\n  listen $PORT;\n  \
        proxy_set_header Host $host;\n  proxy_set_header X-Real-IP ${remote_addr};\n  \
        rewrite ^/(.*)$ /$1?$args last; # $$ $PORTAL\n  server_name ${NAME:?set NAME};\n}\n";
    sandbox.write("nginx.conf", nginx);
    sandbox.config(
        "files:\n  - path: nginx.conf\n    envsubst: {from: '@/nginx.conf', only: [PORT, NAME, UPSTREAM]}\n  \
         - path: same\n    envsubst: {from: '@/nginx.conf', only: []}\n",
    );
    sandbox.seed().env("PORT", "80").env("NAME", "a.b").env("host", "wrong").expect_exit(0);
    let expected = nginx
        .replace("${UPSTREAM:-127.0.0.1:8080}", "127.0.0.1:8080")
        .replace("$PORT;", "80;")
        .replace("${NAME:?set NAME}", "a.b");
    assert_eq!(sandbox.read("nginx.conf"), expected);
    assert_eq!(sandbox.read("same"), nginx);
}

#[test]
fn variables_become_files_that_shells_and_java_read() {
    let sandbox = Sandbox::new();
    sandbox.write("password", "it's $ecret \"x\" \\ #\n");
    sandbox.config(
        "files:\n  - path: app.env\n    env:\n      only: ['APP_*']\n      set:\n        APP_MODE: prod\n        \
         APP_PASSWORD: {secretRef: '@/password'}\n  - path: app.properties\n    env:\n      format: properties\n      \
         only: [APP_TITLE]\n      set: {db.url: 'jdbc:x=é', APP_MODE: 'a b'}\n",
    );
    sandbox.seed().env("APP_TITLE", "two\nlines").env("APP_MODE", "dev").env("OTHER", "no").expect_exit(0);
    let text = sandbox.read("app.env");
    assert_eq!(
        text,
        "APP_MODE=prod\nAPP_PASSWORD='it'\\''s $ecret \"x\" '\\\\' #'\nAPP_TITLE='two\nlines'\n"
    );
    let script = "set -a; . \"$0\"; printf %s \"$APP_PASSWORD|$APP_TITLE\"";
    let out =
        Command::new("/bin/sh").args(["-c", script]).arg(sandbox.target().join("app.env")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "it's $ecret \"x\" \\ #|two\nlines");
    assert_eq!(
        sandbox.read("app.properties"),
        "APP_MODE=a b\nAPP_TITLE=two\\nlines\ndb.url=jdbc\\:x\\=\\u00E9\n"
    );
}

#[test]
fn a_template_takes_secrets_and_no_line_of_the_run_tells_them() {
    let sandbox = Sandbox::new();
    sandbox.write("values.yaml", VALUES);
    sandbox.write("token", "t0k3n-t0k3n\n");
    sandbox.write("key", "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----\n");
    let path = |name: &str| sandbox.path(name).display().to_string();
    let template = format!(
        "token: {{{{ secret('{}') }}}}\nbasic: {{{{ ('u:' ~ values.db.password) | b64encode }}}}\nkey: |\n  {{{{ secret('{}') | indent(2) }}}}\n",
        path("token"),
        path("key")
    );
    sandbox.write("app.j2", &template);
    let config = "values: '@/values.yaml'\nsecrets: [values.db.password, env.API_KEY]\nlog_level: debug\nfiles:\n  \
        - {path: app.yaml, template: '@/app.j2'}\n";
    sandbox.config(config);
    let told = sandbox.seed().env("API_KEY", "k3yk3yk3y").expect_exit(0);
    assert_eq!(
        sandbox.read("app.yaml"),
        "token: t0k3n-t0k3n\nbasic: dTpodW50ZXIyaHVudGVyMg==\nkey: |\n  -----BEGIN KEY-----\n  MIIEvQIBADANBg\n  \
         -----END KEY-----\n"
    );
    assert_eq!(sandbox.mode("app.yaml"), 0o644);
    // In errors too: what a template says, and the line that it stands in.
    let token = path("token");
    for (n, bad) in [
        format!("{{{{ none | required('got ' ~ secret('{token}')) }}}}"),
        "{{ none | required('got ' ~ values.db.password ~ env.API_KEY) }}".to_owned(),
        "{# hunter2hunter2 k3yk3yk3y #}{{ nope }}".to_owned(),
        format!("{{{{ file(secret('{token}')) }}}}"),
        "{{ none | required('got ' ~ (values.db.password | b64encode)) }}".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        sandbox.write(&format!("bad{n}.j2"), bad);
    }
    let files: String = (0..5).map(|n| format!("  - {{path: b{n}, template: '@/bad{n}.j2'}}\n")).collect();
    sandbox.config(&format!("{config}{files}"));
    let failed = sandbox.seed().env("API_KEY", "k3yk3yk3y").expect_exit(1);
    for text in [&told.stdout, &told.stderr, &failed.stdout, &failed.stderr] {
        for secret in ["t0k3n", "hunter2", "k3yk3y", "aHVudGVyMmh", "MIIEv"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert!(failed.stderr.contains("got ***"), "{}", failed.stderr);
    let shown = sandbox.seed().arg("check").expect_exit(0);
    assert!(shown.stdout.contains("secrets:\n  - values.db.password\n  - env.API_KEY\n"), "{}", shown.stdout);
}

#[test]
fn render_prints_what_a_template_becomes_and_touches_nothing() {
    let sandbox = Sandbox::new();
    let values = sandbox.write("values.yaml", VALUES);
    let template = sandbox.write("app.j2", "{% include 'p.j2' %} {{ values.db.password }}{{ env.POD }}\n");
    sandbox.write("templates/p.j2", "{{ values.name }}");
    sandbox.config(
        "values: '@/values.yaml'\ntemplates: '@/templates'\nsecrets: values.db.password\nwait: [{file: /no/such}]\n\
         files: [{path: other, copy: /no/such}]\n",
    );
    let shown = sandbox.seed().arg("render").arg(&template).env("POD", "-0").expect_exit(0);
    assert_eq!((shown.stdout.as_str(), shown.stderr.as_str()), ("shop hunter2hunter2-0\n", ""));
    assert!(!sandbox.target().exists());
    // Without a config file, too.
    let shown = seed()
        .args(["render", "--templates"])
        .arg(sandbox.path("templates"))
        .arg("--values")
        .arg(&values)
        .arg(&template)
        .env("POD", "")
        .expect_exit(0);
    assert_eq!(shown.stdout, "shop hunter2hunter2\n");

    fs::write(&template, "x\n{{ values.nmae }}").unwrap();
    let failed = sandbox.seed().arg("render").arg(&template).expect_exit(1);
    assert_eq!(
        (failed.stdout.as_str(), failed.stderr),
        (
            "",
            format!(
                "podkit-seed: cannot render \"stdout\" from {template:?} line 2 column 4: `values.nmae` is undefined\n\
                 hint: line 2: {{{{ values.nmae }}}} (did you mean `values.name`?)\n"
            )
        )
    );
    seed().arg("render").expect_exit(64);
}

#[test]
fn a_volume_of_templates_that_is_swapped_is_read_as_one() {
    let sandbox = Sandbox::new();
    for side in ["x", "y"] {
        sandbox.write(&format!("t/..{side}/part.j2"), side);
    }
    sandbox.link("t/..data", "..x");
    sandbox.link("t/part.j2", "..data/part.j2");
    sandbox.run("templates: '@/t'\nfiles: [{path: a, inline: \"{% include 'part.j2' %}\"}]\n");
    assert_eq!(sandbox.read("a"), "x");
    fs::remove_file(sandbox.path("t/..data")).unwrap();
    sandbox.link("t/..data", "..y");
    sandbox.seed().expect_exit(0);
    assert_eq!(sandbox.read("a"), "y");
}
