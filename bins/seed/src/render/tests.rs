//! What templates can do, and what is said when they cannot.

use super::*;
use podkit_cli::Report as _;
use proptest::prelude::*;
use serde_json::json;

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
fn what_filters_cannot_take_is_told() {
    for (text, expected) in [
        ("{{ values.nothing | required('set values.nothing') }}", "set values.nothing"),
        ("{{ values.qq | required('set values.qq') }}", "set values.qq"),
        ("{{ values.empty | required }}", "a value is required and is not there"),
        ("{{ values.db | b64encode }}", "`b64encode` takes a text, and this is a map"),
        ("{{ none | quote }}", "`quote` takes a text, and this is null"),
        ("{{ values.qq | b64encode }}", "`values.qq` is undefined"),
        ("{{ values.qq | to_yaml }}", "`values.qq` is undefined"),
        ("{{ values.qq | upper }}", "`values.qq` is undefined"),
        ("{{ '%%%' | b64decode }}", "`b64decode` was given what is no base64"),
        ("{{ '/w==' | b64decode }}", "`b64decode` makes texts, and what is in this base64 is none"),
        ("{{ 'a' | regex_replace('(', '') }}", "\"(\" is no regular expression: unclosed group"),
        ("{{ 'a' | indent(9999) }}", "an indentation of 9999 is more than 256"),
        ("{{ cidr_host('10.0.0.0/30', 4) }}", "the network \"10.0.0.0/30\" has no address number 4"),
        ("{{ cidr_host('10.0.0.0/30', -5) }}", "the network \"10.0.0.0/30\" has no address number -5"),
        ("{{ cidr_host('10.0.0.0', 1) }}", "\"10.0.0.0\" is no network like \"10.0.0.0/8\""),
        ("{{ ip_version('db') }}", "\"db\" is no IP address"),
    ] {
        let (message, _) = refused(text);
        assert!(message.ends_with(&format!(": {expected}")), "{text}: {message}");
    }
}

#[test]
fn what_is_undefined_is_named_with_its_place_and_its_neighbour() {
    for (text, line, column, name, hint) in [
        (
            "a\n {{ values.db.prot }}",
            2,
            5,
            "values.db.prot",
            "line 2: {{ values.db.prot }} (did you mean `values.db.port`?)",
        ),
        ("{{ vlaues.db.port }}", 1, 4, "vlaues", "line 1: {{ vlaues.db.port }} (did you mean `values`?)"),
        ("\n\n{{ db.port }}", 3, 4, "db", "line 3: {{ db.port }} (did you mean `values.db`?)"),
        ("é {{ env.HOTS }}", 1, 6, "env.HOTS", "line 1: é {{ env.HOTS }} (did you mean `env.HOST`?)"),
        (
            "{{ env.QQ }}",
            1,
            4,
            "env.QQ",
            "line 1: {{ env.QQ }} (set the environment variable QQ, or write `env.QQ | default('…')`)",
        ),
        ("{% if values.qq %}x{% endif %}", 1, 7, "values.qq", "line 1: {% if values.qq %}x{% endif %}"),
        (
            "{% for x in values.qq %}{% endfor %}",
            1,
            13,
            "values.qq",
            "line 1: {% for x in values.qq %}{% endfor %}",
        ),
        (
            "{{ values.db['prot'] }}",
            1,
            4,
            "values.db['prot']",
            "line 1: {{ values.db['prot'] }} (did you mean `values.db.port`?)",
        ),
        (
            "{% for s in values.servers %}{{ s.hots }}{% endfor %}",
            1,
            33,
            "s.hots",
            "line 1: {% for s in values.servers %}{{ s.hots }}{% endfor %} (did you mean `s.host`?)",
        ),
        (
            "{% set server = 1 %}{{ servre }}",
            1,
            24,
            "servre",
            "line 1: {% set server = 1 %}{{ servre }} (did you mean `server`?)",
        ),
    ] {
        let expected = format!(
            "cannot render \"app.html\" from \"/t.j2\" line {line} column {column}: `{name}` is undefined"
        );
        assert_eq!(refused(text), (expected, Some(hint.to_owned())), "{text}");
    }
}

#[test]
fn mistakes_name_their_place_and_what_may_have_been_meant() {
    for (text, expected, hint) in [
        (
            "a\n{{ oops",
            "line 2 column 4: syntax error: unexpected end of input, expected end of variable block",
            "line 2: {{ oops",
        ),
        (
            "{{ 1 | to_ymal }}",
            "line 1 column 8: there is no filter `to_ymal`",
            "line 1: {{ 1 | to_ymal }} (did you mean `to_yaml`?)",
        ),
        (
            "{{ 1 is defnied }}",
            "line 1 column 9: there is no test `defnied`",
            "line 1: {{ 1 is defnied }} (did you mean `defined`?)",
        ),
        (
            "\n{{ flie('/x') }}",
            "line 2 column 4: there is no function `flie`",
            "line 2: {{ flie('/x') }} (did you mean `file`?)",
        ),
        (
            "{{ b64encode('x') }}",
            "line 1 column 4: there is no function `b64encode`",
            "line 1: {{ b64encode('x') }} (it is a filter: write `value | b64encode`)",
        ),
        (
            "{{ env.HOST.upper() }}",
            "line 1 column 12: unknown method: string has no method named upper",
            "line 1: {{ env.HOST.upper() }} (write `value | upper`)",
        ),
        (
            "\n\n{{ file('/no/such') }}",
            "line 3 column 4: cannot read \"/no/such\": no such file or directory",
            "line 3: {{ file('/no/such') }}",
        ),
    ] {
        let message = format!("cannot render \"app.html\" from \"/t.j2\" {expected}");
        assert_eq!(refused(text), (message, Some(hint.to_owned())), "{text}");
    }
}

#[test]
fn a_long_line_is_shown_around_its_place() {
    let (_, hint) = refused(&format!("{}{{{{ qqq }}}}{}", "a".repeat(200), "b".repeat(200)));
    let hint = hint.unwrap();
    assert!(
        hint.starts_with("line 1: …aaa") && hint.contains("aa{{ qqq }}bb") && hint.ends_with("bbb…"),
        "{hint}"
    );
    assert!(hint.chars().count() < 120, "{hint}");
}

#[test]
fn a_template_that_never_ends_is_ended() {
    let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a %}{% endfor %}{% endfor %}";
    let (message, _) = refused(loops);
    assert!(message.ends_with("it takes too long: a loop without an end?"), "{message}");
    for text in ["{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{% include 'self.j2' %}"] {
        let bench = Bench::new();
        bench.write("self.j2", text);
        let (message, _) = bench.refused(text);
        assert!(message.ends_with("its includes or macros call each other without an end"), "{message}");
    }
}

/// Each instruction is cheap for the engine, and goes through a list that is long.
#[test]
fn time_is_bounded_where_filters_take_it() {
    let text = "{% for a in range(99999) %}{{ range(99) | list | sort | length }}{% endfor %}";
    let end = Instant::now() + Duration::from_millis(10);
    let template = Template { name: "\"/t.j2\"".to_owned(), text, is_inline: false };
    let error = Bench::new().renderer().render_until("a", &template, end).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot render \"a\" from \"/t.j2\": it takes too long: a loop without an end?"
    );
}

#[test]
fn towers_of_brackets_and_chains_of_operators_do_no_harm() {
    let towers = [
        ("(", ")"),
        ("[", "]"),
        ("{'a':", "}"),
        ("not ", ""),
        ("- ", ""),
        ("1 + ", ""),
        ("1 if 1 else ", ""),
    ];
    let chains = ["|abs", ".x", "()", "~'a'", " and 1"].map(|link| ("", link));
    for (open, shut) in towers.into_iter().chain(chains) {
        let longest = 8_000 / (open.len() + shut.len());
        for count in [500, longest, 200_000] {
            let tower = format!("{{{{ {}1{} }}}}", open.repeat(count), shut.repeat(count));
            let refused = Bench::new().render(&tower, false).err().map(|error| error.to_string());
            let is_refused = refused.is_some_and(|why| why.ends_with("put data into values"));
            assert_eq!(is_refused, count == 200_000, "{open}{shut} {count}");
        }
    }
    for (open, shut) in
        [("{% if 1 %}", "{% endif %}"), ("{% for x in [1] %}", "{% endfor %}"), ("{% set x %}", "")]
    {
        let (message, _) = refused(&format!("{}x{}", open.repeat(5_000), shut.repeat(5_000)));
        assert!(message.contains("maximum recursion limits"), "{message}");
    }
    let (message, _) = refused(&format!("\n{{{{ {}1 }}}}", "-".repeat(5_000)));
    assert!(
        message.ends_with("line 2: more than 8 KiB between the braces; put data into values"),
        "{message}"
    );
    assert_eq!(render(&format!("{{# {} #}}x", "-".repeat(50_000))), "x");
    let many = format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(20_000));
    let bench = Bench::new();
    bench.write("many.j2", &many);
    let (message, _) = bench.refused(&many);
    assert!(message.ends_with("line 1: more than 500 branches of one `if`"), "{message}");
    let (message, _) = bench.refused("{% include 'many.j2' %}");
    assert!(
        message.ends_with("the template \"many.j2\", line 1: more than 500 branches of one `if`"),
        "{message}"
    );
}

proptest! {
    #[test]
    fn no_template_makes_it_panic(
        text in "([{]{2}|[}]{2}|[{]%|%[}]|[{]#|#[}]| values| env|[.]db|[.]prot|\\[| 'a'|[|] to_yaml|[|] indent[(]2[)]|                  if| for x in| set x =| endif| endfor| include| macro m[(][)]|[-+*/~]|1|é|\n|\"){0,24}",
        is_inline in any::<bool>(),
    ) {
        let _ = Bench::new().render(&text, is_inline).map_err(|error| error.hint());
    }
}

#[test]
fn a_template_that_writes_without_end_is_stopped() {
    let (message, hint) = refused("{% for a in range(9999) %}{{ 'x' * 10000 }}{% endfor %}");
    assert_eq!(message, "cannot render \"app.html\" from \"/t.j2\": it renders to more than 16 MiB");
    assert_eq!(hint, None);
}

#[test]
fn a_file_that_is_no_config_is_not_read_into_memory() {
    let bench = Bench::new();
    let path = bench.dir.path().join("large");
    std::fs::File::create(&path).unwrap().set_len((16 << 20) + 1).unwrap();
    let (message, _) = bench.refused(&format!("{{{{ file({path:?}) }}}}"));
    assert!(
        message
            .ends_with("cannot read \"@/large\": it is larger than 16MiB, the most that is read of a file"),
        "{message}"
    );
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
fn an_error_in_an_include_names_both_files() {
    let bench = Bench::new();
    bench.write("parts/bad.j2", "x\n  {{ values.db.prot }}\n");
    bench.write("macros.j2", "{% macro url() %}{{ nope }}{% endmacro %}");
    bench.write("broken.j2", "\n{% if %}");
    for (text, place, why, hint) in [
        (
            "\n{% include 'parts/bad.j2' %}",
            "\"/t.j2\" line 2, in \"@/parts/bad.j2\" line 2 column 6",
            "`values.db.prot` is undefined",
            "line 2: {{ values.db.prot }} (did you mean `values.db.port`?)",
        ),
        (
            "{% import 'macros.j2' as m %}\n{{ m.url() }}",
            "\"/t.j2\", in \"@/macros.j2\" line 1 column 21",
            "`nope` is undefined",
            "line 1: {% macro url() %}{{ nope }}{% endmacro %}",
        ),
        (
            "{% include 'broken.j2' %}",
            "\"/t.j2\", in \"@/broken.j2\" line 2 column 7",
            "syntax error: unexpected end of block",
            "line 2: {% if %}",
        ),
        (
            "{% include 'parts/bda.j2' %}",
            "\"/t.j2\" line 1 column 4",
            "there is no template \"parts/bda.j2\"",
            "line 1: {% include 'parts/bda.j2' %} (did you mean `parts/bad.j2`?)",
        ),
    ] {
        let expected = format!("cannot render \"app.html\" from {place}: {why}");
        assert_eq!(bench.refused(text), (expected, Some(hint.to_owned())), "{text}");
    }
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

#[test]
fn the_line_of_an_inline_template_is_shown_without_what_variables_put_there() {
    let error = Bench::new().render("token=hunter2hunter2 {{ nope }}", true).unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("line 1: token=*** {{ nope }}"));
}
