//! Bad templates, `envsubst` texts, variables and secrets, one a row: the exact message, the exit code, and a target
//! that stays untouched.

use crate::kit::Sandbox;

/// The template in `@/app.j2` (or the text of `envsubst`), the rest of the config, the exit code, and stderr without
/// the prefix `podkit-seed: `; `@` is the sandbox.
type Row = (&'static str, &'static str, i32, &'static str);

const TEMPLATE: &str = "files: [{path: a, template: '@/app.j2'}]\n";

const TEMPLATES: &[(&str, &str)] = &[
    (
        "x: {{ values.db.prot }}",
        " line 1 column 7: `values.db.prot` is undefined\nhint: line 1: x: {{ values.db.prot }} (did you mean `values.db.port`?)",
    ),
    ("{{ port }}", " line 1 column 4: `port` is undefined\nhint: line 1: {{ port }}"),
    (
        "{{ db.port }}",
        " line 1 column 4: `db` is undefined\nhint: line 1: {{ db.port }} (did you mean `values.db`?)",
    ),
    (
        "a\n\n  {{ env.PODKIT_UNSET }}",
        " line 3 column 6: `env.PODKIT_UNSET` is undefined\nhint: line 3: {{ env.PODKIT_UNSET }} (set the environment variable PODKIT_UNSET, or write `env.PODKIT_UNSET | default('…')`)",
    ),
    (
        "{% for s in values.list %}{{ s.nmae }}{% endfor %}",
        " line 1 column 30: `s.nmae` is undefined\nhint: line 1: {% for s in values.list %}{{ s.nmae }}{% endfor %} (did you mean `s.name`?)",
    ),
    (
        "{{ values.none | required('set values.none in prod.yaml') }}",
        " line 1 column 18: set values.none in prod.yaml\nhint: line 1: {{ values.none | required('set values.none in prod.yaml') }}",
    ),
    (
        "{{ values.db | b64encode }}",
        " line 1 column 16: `b64encode` takes a text, and this is a map\nhint: line 1: {{ values.db | b64encode }}",
    ),
    (
        "{{ 'x' | b64decode }}",
        " line 1 column 10: `b64decode` was given what is no base64\nhint: line 1: {{ 'x' | b64decode }}",
    ),
    (
        "{{ 'x' | regex_replace('[', '') }}",
        " line 1 column 10: \"[\" is no regular expression: unclosed character class\nhint: line 1: {{ 'x' | regex_replace('[', '') }}",
    ),
    (
        "{{ cidr_host('10.0.0.0/99', 1) }}",
        " line 1 column 4: \"10.0.0.0/99\" is no network like \"10.0.0.0/8\"\nhint: line 1: {{ cidr_host('10.0.0.0/99', 1) }}",
    ),
    (
        "{{ values.db | toyaml }}",
        " line 1 column 16: there is no filter `toyaml`\nhint: line 1: {{ values.db | toyaml }} (did you mean `to_yaml`?)",
    ),
    (
        "{{ b64encode('x') }}",
        " line 1 column 4: there is no function `b64encode`\nhint: line 1: {{ b64encode('x') }} (it is a filter: write `value | b64encode`)",
    ),
    (
        "{% if x is defind %}{% endif %}",
        " line 1 column 12: there is no test `defind`\nhint: line 1: {% if x is defind %}{% endif %} (did you mean `defined`?)",
    ),
    (
        "a\n{% if true %}\nb\n",
        " line 2 column 14: syntax error: unexpected end of input, expected end of block\nhint: line 2: {% if true %}",
    ),
    (
        "{{ 'a' }",
        " line 1 column 8: syntax error: unexpected `}`, expected end of variable block\nhint: line 1: {{ 'a' }",
    ),
    ("{{ 1 / 0 }}", " line 1 column 4: unable to calculate 1 / 0\nhint: line 1: {{ 1 / 0 }}"),
    (
        "{% include 'prat.j2' %}",
        " line 1 column 4: there is no template \"prat.j2\"\nhint: line 1: {% include 'prat.j2' %} (did you mean `part.j2`?)",
    ),
    (
        "{% include '../values.yaml' %}",
        " line 1 column 4: the template \"../values.yaml\" is outside of \"@/t\", the directory `templates`\nhint: line 1: {% include '../values.yaml' %}",
    ),
    (
        "{% include 'out.j2' %}",
        " line 1 column 4: the template \"out.j2\" is outside of \"@/t\", the directory `templates`\nhint: line 1: {% include 'out.j2' %}",
    ),
    (
        "\n{% include 'part.j2' %}",
        " line 2, in \"@/t/part.j2\" line 2 column 4: `values.nope` is undefined\nhint: line 2: {{ values.nope }} (did you mean `values.none`?)",
    ),
    (
        "{% include 'self.j2' %}",
        " line 1, in \"@/t/self.j2\" line 1 column 4: its includes or macros call each other without an end\nhint: line 1: {% include 'self.j2' %}",
    ),
    (
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        " line 1: it takes too long: a loop without an end?",
    ),
    ("{% for a in range(9999) %}{{ 'x' * 10000 }}{% endfor %}", ": it renders to more than 16 MiB"),
    (
        "{{ file('/no/such') }}",
        " line 1 column 4: cannot read \"/no/such\": no such file or directory\nhint: line 1: {{ file('/no/such') }}",
    ),
    (
        "{{ secret('/dev/zero') }}",
        " line 1 column 4: cannot use \"/dev/zero\": it is not a regular file\nhint: line 1: {{ secret('/dev/zero') }}",
    ),
];

const OTHERS: &[Row] = &[
    (
        "listen $PODKIT_PROT;\n",
        "files: [{path: a, envsubst: {from: '@/app.j2', only: [PODKIT_PROT]}}]\n",
        1,
        "cannot render \"a\" from \"@/app.j2\" line 1 column 8: `PODKIT_PROT` is not set\nhint: line 1: listen $PODKIT_PROT; (the variable `PODKIT_PORT` is set; did you mean that?)",
    ),
    (
        "a\n  ${QQ:?give it} $host\n",
        "files: [{path: a, envsubst: {from: '@/app.j2', only: [QQ]}}]\n",
        1,
        "cannot render \"a\" from \"@/app.j2\" line 2 column 3: `QQ` is not set: give it\nhint: line 2: ${QQ:?give it} $host",
    ),
    (
        "${PODKIT_PORT%%/*}",
        "files: [{path: a, envsubst: {from: '@/app.j2', only: [PODKIT_PORT]}}]\n",
        1,
        "cannot render \"a\" from \"@/app.j2\" line 1 column 1: `${PODKIT_PORT%%…}` is no form that is known\nhint: line 1: ${PODKIT_PORT%%/*} (known are `${V}`, `${V:-text}`, `${V:+text}` and `${V:?message}`, and these without the colon)",
    ),
    (
        "${PODKIT_PORT:-80\n}",
        "files: [{path: a, envsubst: {from: '@/app.j2', only: [PODKIT_PORT]}}]\n",
        1,
        "cannot render \"a\" from \"@/app.j2\" line 1 column 1: `${PODKIT_PORT` has no closing brace on its line\nhint: line 1: ${PODKIT_PORT:-80",
    ),
    (
        "",
        "files: [{path: a, envsubst: {inline: 'pw=80port80 $QQ', only: [QQ]}}]\n",
        1,
        "cannot render \"a\" from its inline text line 1 column 13: `QQ` is not set\nhint: line 1: pw=*** $QQ (set it, or write `${QQ:-default}`)",
    ),
    (
        "",
        "files: [{path: a, env: {only: [PODKIT_PROT]}}]\n",
        1,
        "cannot render \"a\" from the environment: `PODKIT_PROT` is not set\nhint: the variable `PODKIT_PORT` is set; did you mean that?",
    ),
    (
        "",
        "files: [{path: a, env: {set: {A: {secretRef: '@/none'}}}}]\n",
        1,
        "cannot read \"@/none\": no such file or directory\nhint: check the path, and that the volume is mounted into this container",
    ),
    (
        "",
        "files: [{path: a, env: {set: {a.b: x}}}]\n",
        64,
        "@/seed.yaml:3: files[0].env.set.a.b: \"a.b\" is no name of a variable\nhint: a dotenv file takes what a shell does; `format: properties` takes all",
    ),
    (
        "",
        "files: [{path: a, envsubst: {from: '@/app.j2'}}]\n",
        64,
        "@/seed.yaml:3: files[0].envsubst.only: is required\nhint: list the variables: what is not in it stays as it is",
    ),
    (
        "",
        "files: [{path: a, envsubst: {from: '@/app.j2', only: ['$A']}}]\n",
        64,
        "@/seed.yaml:3: files[0].envsubst.only[0]: \"$A\" is no name of a variable",
    ),
    (
        "",
        "files: [{path: a, env: {only: ['*']}}]\n",
        64,
        "@/seed.yaml:3: files[0].env.only[0]: \"*\" would be all variables, also those that Kubernetes sets\nhint: give the beginning of the names: `APP_*`",
    ),
    (
        "x",
        "secrets: [values.db.passwrd]\nfiles: [{path: a, template: '@/app.j2'}]\n",
        1,
        "cannot hide the secret `values.db.passwrd`: nothing has that name\nhint: did you mean `values.db.password`?",
    ),
    (
        "x",
        "secrets: [db.password]\nfiles: [{path: a, template: '@/app.j2'}]\n",
        64,
        "@/seed.yaml:3: secrets[0]: \"db.password\" names no value\nhint: write it as a template does: `values.db.password` or `env.TOKEN`",
    ),
    (
        "{% include 'x' %}",
        "NO TEMPLATES\nfiles: [{path: a, template: '@/app.j2'}]\n",
        1,
        "cannot render \"a\" from \"@/app.j2\" line 1 column 4: the template \"x\" is included, and there is no directory `templates`\nhint: line 1: {% include 'x' %} (set `templates: DIR` in the config: others are included from there)",
    ),
];

/// What is wrong with what is said.
fn check(text: &str, config: &str, exit: i32, message: &str) -> Option<String> {
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: old, inline: old}]\n");
    let before = sandbox.picture();
    sandbox.write("app.j2", text);
    sandbox.write("values.yaml", "db: {port: 5432, password: hunter2}\nlist: [{name: x}]\nnone: null\n");
    sandbox.write("t/part.j2", "a\n{{ values.nope }}");
    sandbox.write("t/self.j2", "{% include 'self.j2' %}");
    sandbox.link("t/out.j2", sandbox.path("values.yaml"));
    let head = if config.contains("NO TEMPLATES") { "" } else { "templates: '@/t'\n" };
    let config = config.replace("NO TEMPLATES\n", "");
    sandbox.config(&format!("{head}{config}"));
    let finished = sandbox
        .seed()
        .env("PODKIT_PORT", "80port80")
        .env("PODKIT_SEED_VALUES", sandbox.path("values.yaml"))
        .expect_exit(exit);
    let root = sandbox.path("");
    let expected =
        format!("podkit-seed: {message}\n").replace('@', root.to_str().unwrap().trim_end_matches('/'));
    assert_eq!(sandbox.picture(), before, "{text}");
    (finished.stderr != expected).then(|| format!("{text}\n got {:?}\nwant {expected:?}\n", finished.stderr))
}

fn check_all(rows: impl Iterator<Item = (&'static str, &'static str, i32, String)>) {
    let wrong: Vec<_> =
        rows.filter_map(|(text, config, exit, message)| check(text, config, exit, &message)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_mistake_of_a_template_is_told_with_its_place_and_nothing_is_touched() {
    let whole = |message: &str| format!("cannot render \"a\" from \"@/app.j2\"{message}");
    check_all(TEMPLATES.iter().map(|(text, message)| (*text, TEMPLATE, 1, whole(message))));
}

#[test]
fn each_mistake_of_variables_and_secrets_is_told_and_nothing_is_touched() {
    check_all(
        OTHERS.iter().map(|(text, config, exit, message)| (*text, *config, *exit, (*message).to_owned())),
    );
}
