//! What templates can do, and the bench that they are tried on.

use super::*;
use podkit_cli::Report as _;
use serde_json::json;

mod bounds;
mod mistakes;

struct Bench {
    dir: tempfile::TempDir,
    secrets: Arc<Secrets>,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), secrets: Arc::default() }
    }

    /// Writes a file of the directory of templates.
    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn renderer(&self) -> Renderer {
        let env = [("HOST", "web-1"), ("TOKEN", "hunter2hunter2")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let values = json!({
            "db": {"port": 5432, "host": "db"}, "list": ["b", "a"], "z": 1, "a": 2, "empty": "", "nothing": null,
            "servers": [{"host": "x"}],
        });
        let sources = Arc::new(Sources::default());
        let templates = Some(self.dir.path().to_owned());
        Renderer::new(values, env, templates, &sources, &self.secrets)
    }

    fn render(&self, text: &str, is_inline: bool) -> Result<Rendered, Error> {
        let template = Template { name: "\"/t.j2\"".to_owned(), text, is_inline };
        self.renderer().render("app.html", &template)
    }

    fn refused(&self, text: &str) -> (String, Option<String>) {
        let error = self.render(text, false).unwrap_err();
        let message = error.to_string().replace(self.dir.path().to_str().unwrap(), "@");
        (message, error.hint().map(|hint| hint.replace(self.dir.path().to_str().unwrap(), "@")))
    }
}

fn render(text: &str) -> String {
    Bench::new().render(text, false).map(|rendered| rendered.text).unwrap()
}

fn refused(text: &str) -> (String, Option<String>) {
    Bench::new().refused(text)
}

#[test]
fn names_resolve_and_text_stays_as_written() {
    for (text, expected) in [
        ("{{ values.db.host }}:{{ values.db.port }} @{{ env.HOST }}\n", "db:5432 @web-1\n"),
        ("a\n\n", "a\n\n"),
        ("<{{ '<&>' }}> $host ${x}", "<<&>> $host ${x}"),
        ("{% for x in values.list %}{{ x }}{% endfor %}", "ba"),
        ("{{ values.none | default('d') }}{{ values.none is defined }}", "dfalse"),
        ("{% for k in values %}{{ k }} {% endfor %}", "db list z a empty nothing servers "),
    ] {
        assert_eq!(render(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_text_is_written_as_config_files_have_it() {
    assert_eq!(
        render(
            "{{ true }} {{ 1 > 2 }} {{ none }} {{ [true] | tojson }} {{ values.db }} {{ ['a', none] }} {{ range(2) }}"
        ),
        r#"true false null [true] {"port":5432,"host":"db"} ["a",null] [0,1]"#
    );
}

#[test]
fn filters_do_what_their_names_say() {
    for (text, expected) in [
        ("{{ values.db | to_json }}", r#"{"port":5432,"host":"db"}"#),
        ("{{ ['<&>'] | to_json(indent=1) }}", "[\n \"<&>\"\n]"),
        ("{{ values.db | to_yaml }}", "port: 5432\nhost: db"),
        ("a:\n  {{ values.db | to_yaml | indent(2) }}\n", "a:\n  port: 5432\n  host: db\n"),
        ("a:{{ values.db | to_yaml | nindent(2) }}", "a:\n  port: 5432\n  host: db"),
        ("{{ {'k': {'x': 'a\\nb'}} | to_yaml(4) }}", "k:\n    x: |-\n        a\n        b"),
        ("{{ 'a\\n\\nb\\n' | indent(2) }}|", "a\n\n  b\n|"),
        ("{{ 'a\\n\\nb' | indent(2, true, blank=true) }}", "  a\n  \n  b"),
        (
            "{{ 'user:pass' | b64encode }} {{ 'dXNlcg==' | b64decode }} {{ 'dXNlcg' | b64decode }}",
            "dXNlcjpwYXNz user user",
        ),
        ("{{ 'abc' | sha256 }}", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("{{ 'a\"b' | quote }} {{ 5 | quote }} {{ \"it's\" | squote }}", r#""a\"b" "5" 'it''s'"#),
        ("{{ values.a | required('no') }} {{ false | required }}", "2 false"),
        ("{{ 'a,b' | split(',') | last }}", "b"),
        ("{{ 'v1.2.3' | regex_replace('^v(\\\\d+)\\\\..*', '${1}') }}", "1"),
        ("{{ 'abc' | regex_match('^a') }} {{ 'abc' | regex_match('^b') }}", "true false"),
        (
            "{{ cidr_host('10.1.2.3/16', 5) }} {{ '10.0.0.0/24' | cidr_host(-1) }} {{ cidr_host('fd00::/64', 1) }}",
            "10.1.0.5 10.0.0.255 fd00::1",
        ),
        (
            "{{ cidr_contains('10.0.0.0/8', '10.1.1.1') }} {{ cidr_contains('10.0.0.0/8', '::1') }}",
            "true false",
        ),
        ("{{ cidr_network('10.1.2.3/16') }} {{ cidr_netmask('10.1.2.3/20') }}", "10.1.0.0 255.255.240.0"),
        ("{{ ip_version('::1') }} {{ '10.0.0.1' | ip_version }}", "6 4"),
        ("{{ '::1' | url_host }} {{ '10.0.0.1' | url_host }} {{ 'db' | url_host }}", "[::1] 10.0.0.1 db"),
    ] {
        assert_eq!(render(text), expected, "{text}");
    }
}

#[test]
fn each_name_that_is_offered_is_there() {
    for name in filters::NAMES.iter().chain(filters::BUILT_IN).chain(address::NAMES) {
        assert_eq!(render(&format!("{{{{ '{name}' is filter }}}}")), "true", "{name}");
    }
    for name in ["defined", "mapping", "startingwith"] {
        assert_eq!(render(&format!("{{{{ '{name}' is test }}}}")), "true", "{name}");
    }
}

#[test]
fn templates_include_import_and_extend_others() {
    let bench = Bench::new();
    bench.write("parts/head.j2", "[{{ values.db.host }}]");
    bench.write("macros.j2", "{% macro url(x) %}http://{{ x }}{% endmacro %}");
    bench.write("base.j2", "<{% block b %}{% endblock %}>");
    let made = |text: &str| bench.render(text, false).unwrap().text;
    assert_eq!(made("{% include 'parts/head.j2' %}"), "[db]");
    assert_eq!(made("{% import 'macros.j2' as m %}{{ m.url('a') }}"), "http://a");
    assert_eq!(made("{% extends 'base.j2' %}{% block b %}x{% endblock %}"), "<x>");
    assert_eq!(made("a{% include 'none.j2' ignore missing %}b"), "ab");
}

#[test]
fn no_include_leaves_the_directory_of_templates() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("x"), "outside").unwrap();
    let bench = Bench::new();
    bench.write("..2026_x/in.j2", "in");
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, bench.dir.path().join(name)).unwrap();
    link(Path::new("..2026_x"), "..data");
    link(Path::new("..data/in.j2"), "in.j2");
    link(&outside.path().join("x"), "out.j2");
    link(outside.path(), "dir");
    assert_eq!(bench.render("{% include 'in.j2' %}", false).unwrap().text, "in");
    for name in ["../x", "/etc/passwd", "a/../../x", "out.j2", "dir/x", "", "./in.j2"] {
        let (message, _) = bench.refused(&format!("{{% include '{name}' %}}"));
        let expected = format!("the template {name:?} is outside of \"@\", the directory `templates`");
        assert!(message.ends_with(&expected), "{message}");
    }
}

#[test]
fn secrets_are_known_once_they_are_read() {
    let bench = Bench::new();
    bench.write("password", "s3cret-word\n");
    bench.write("short", "abc\n");
    let path = |name: &str| bench.dir.path().join(name).display().to_string();
    let made = |text: String| bench.render(&text, false).unwrap();
    let rendered = made(format!(
        "p: {{{{ secret('{}') }}}} {{{{ ('u:' ~ secret('{0}')) | b64encode }}}}",
        path("password")
    ));
    assert_eq!(
        rendered,
        Rendered { text: "p: s3cret-word dTpzM2NyZXQtd29yZA==".to_owned(), is_secret: false }
    );
    assert_eq!(bench.secrets.mask(&rendered.text), "p: *** ***");
    // Too short to be masked, or in a form that nobody knows: nothing of the file is shown.
    assert!(made(format!("{{{{ secret('{}') }}}}", path("short"))).is_secret);
    assert!(made(format!("{{{{ secret('{}') | reverse }}}}", path("password"))).is_secret);
    assert!(!made("nothing".to_owned()).is_secret);
}
