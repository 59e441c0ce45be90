//! Plans for links; those for the plain layout are tested in their own file.

use super::*;

fn plan(wanted: &Tree, names: &Names, seen: &SeenTree) -> Result<Plan, InTheWay> {
    links(wanted, names, seen, &FoundTree::new(), &State::default())
}

pub(super) const CURRENT: &str = "..2026_11_22_05_10_00.123456789";
const OLDER: &str = "..2026_11_21_00_00_00.000000000";

pub(super) fn wanted(paths: &[&str]) -> Tree {
    let content = crate::content::Content::new(b"12345".to_vec(), 0o644);
    paths.iter().map(|path| (RelPath::parse(path).unwrap(), content.clone())).collect()
}

pub(super) fn seen(paths: &[(&str, bool)]) -> SeenTree {
    paths.iter().map(|(path, same)| (RelPath::parse(path).unwrap(), Seen { size: 3, same: *same })).collect()
}

pub(super) fn names(entries: &[(&str, Name)]) -> Names {
    entries.iter().map(|(name, what)| (OsString::from(name), what.clone())).collect()
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

pub(super) fn link(to: &str) -> Name {
    Name::Link(PathBuf::from(to))
}

pub(super) fn told(plan: &Plan) -> Vec<String> {
    plan.files.iter().map(|(path, (change, size))| format!("{path} {} {size}", change.as_str())).collect()
}

#[test]
fn a_first_run_creates_all() {
    let plan = plan(&wanted(&["a", "d/x", "d/y"]), &names(&[]), &seen(&[])).unwrap();
    assert_eq!(told(&plan), ["a created 5", "d/x created 5", "d/y created 5"]);
    assert_eq!(plan.link, ["a", "d"]);
    assert!(plan.rewrite && plan.in_force.is_none());
}

#[test]
fn the_same_again_is_nothing() {
    let names = names(&[
        ("a", link("..data/a")),
        (DATA, link(CURRENT)),
        (CURRENT, Name::Entry(Kind::Directory)),
        ("theirs", Name::Entry(Kind::File)),
        ("theirs-too", link("/somewhere")),
    ]);
    let plan = plan(&wanted(&["a"]), &names, &seen(&[("a", true)])).unwrap();
    assert!(plan.is_nothing());
    assert_eq!(told(&plan), ["a unchanged 5"]);
}

#[test]
fn one_changed_file_rewrites_and_what_is_gone_is_unlinked() {
    let names = names(&[
        ("a", link("..data/a")),
        ("old", link("..data/old")),
        (DATA, link(CURRENT)),
        (CURRENT, Name::Entry(Kind::Directory)),
        (OLDER, Name::Entry(Kind::Directory)),
        (DATA_NEXT, link(OLDER)),
    ]);
    let plan = plan(&wanted(&["a", "b"]), &names, &seen(&[("a", false), ("old", false)])).unwrap();
    assert_eq!(told(&plan), ["a changed 5", "b created 5", "old removed 3"]);
    assert_eq!(
        (plan.link, plan.unlink, plan.debris),
        (vec!["b".into()], vec!["old".into()], vec![OLDER.into()])
    );
    assert_eq!(plan.stale, [DATA_NEXT]);
}

#[test]
fn a_lost_link_is_mended_without_a_rewrite() {
    let names = names(&[(DATA, link(CURRENT)), (CURRENT, Name::Entry(Kind::Directory))]);
    let plan = plan(&wanted(&["d/x"]), &names, &seen(&[("d/x", true)])).unwrap();
    assert!(!plan.rewrite && !plan.is_nothing());
    assert_eq!(plan.link, ["d"]);
}

#[test]
fn a_link_to_a_directory_of_ours_stays_while_a_file_in_it_is_wanted() {
    let names = names(&[
        ("d", link("..data/d")),
        ("d-e", link("..data/d-e")),
        (DATA, link(CURRENT)),
        (CURRENT, Name::Entry(Kind::Directory)),
    ]);
    let plan = plan(&wanted(&["d/x"]), &names, &seen(&[("d/x", true), ("d-e", true)])).unwrap();
    assert_eq!(plan.unlink, ["d-e"]);
}

#[test]
fn a_generation_that_is_gone_is_written_anew() {
    let names = names(&[("a", link("..data/a")), (DATA, link(CURRENT))]);
    let plan = plan(&wanted(&["a"]), &names, &seen(&[])).unwrap();
    assert!(plan.rewrite && plan.in_force.is_none());
}

#[test]
fn what_is_not_ours_is_in_the_way() {
    for (entries, who) in [
        (vec![("a", Name::Entry(Kind::File))], "a"),
        (vec![("a", Name::Entry(Kind::Directory))], "a"),
        (vec![("a", link("/etc/passwd"))], "a"),
        (vec![("a", link("..data/b"))], "a"),
        (vec![(DATA, link("/etc"))], DATA),
        (vec![(DATA, link("../elsewhere"))], DATA),
        (vec![(DATA, Name::Entry(Kind::Directory))], DATA),
        (vec![(DATA, link(CURRENT)), (CURRENT, link("/etc"))], CURRENT),
        (vec![(DATA_NEXT, Name::Entry(Kind::File))], DATA_NEXT),
    ] {
        let refused = plan(&wanted(&["a"]), &names(&entries), &seen(&[])).unwrap_err();
        assert_eq!(refused.name, who, "{entries:?}");
    }
}
