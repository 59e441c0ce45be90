//! What is said of a template that cannot be rendered: where, why, and what may have been meant.

use super::*;

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
fn the_line_of_an_inline_template_is_shown_without_what_variables_put_there() {
    let error = Bench::new().render("token=hunter2hunter2 {{ nope }}", true).unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("line 1: token=*** {{ nope }}"));
}
