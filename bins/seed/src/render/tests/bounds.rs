//! What no template can do: run or write without an end, take all memory, make the engine panic.

use super::*;
use proptest::prelude::*;

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

proptest! {
    #[test]
    fn no_template_makes_it_panic(
        text in "([{]{2}|[}]{2}|[{]%|%[}]|[{]#|#[}]| values| env|[.]db|[.]prot|\\[| 'a'|[|] to_yaml|[|] indent[(]2[)]|                  if| for x in| set x =| endif| endfor| include| macro m[(][)]|[-+*/~]|1|é|\n|\"){0,24}",
        is_inline in any::<bool>(),
    ) {
        let _ = Bench::new().render(&text, is_inline).map_err(|error| error.hint());
    }
}
