//! Lines of a layout that the user describes by a regex with named groups. Groups called like a time, a level or a
//! message are taken as that; what they do not tell, and all other groups, are pairs.

use regex::{CaptureLocations, Regex};

use super::object::{LEVELS, MESSAGES, TIMES};

/// What a group's name says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Time,
    Level,
    Message,
    Pair,
}

/// A regex at work; the places of its groups are kept, so that a line costs no allocation.
#[derive(Debug, Clone)]
pub(super) struct Named {
    regex: Regex,
    places: CaptureLocations,
    groups: Vec<(usize, String, Role)>,
}

impl Named {
    pub(super) fn new(regex: &Regex) -> Self {
        let groups = regex.capture_names().enumerate().filter_map(|(index, name)| {
            let name = name?;
            Some((index, name.to_owned(), role(name)))
        });
        Self { groups: groups.collect(), places: regex.capture_locations(), regex: regex.clone() }
    }

    /// Shows the groups that took part in a match, in their order; false where the line does not match.
    pub(super) fn read<'a>(&mut self, line: &'a str, mut each: impl FnMut(Role, &str, &'a str)) -> bool {
        if self.regex.captures_read(&mut self.places, line).is_none() {
            return false;
        }
        for (index, name, role) in &self.groups {
            if let Some((start, end)) = self.places.get(*index) {
                each(*role, name, &line[start..end]);
            }
        }
        true
    }
}

fn role(name: &str) -> Role {
    if TIMES.contains(&name) {
        Role::Time
    } else if LEVELS.contains(&name) {
        Role::Level
    } else if MESSAGES.contains(&name) {
        Role::Message
    } else {
        Role::Pair
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_what_their_names_say() {
        let regex =
            Regex::new(r"^(?P<time>\S+) (?:(?P<user>\w+)@)?(?P<severity>\w+) (\d)(?P<message>.*)$").unwrap();
        let mut named = Named::new(&regex);
        let mut seen = Vec::new();
        assert!(named.read("now bob@WARN 7hello", |role, name, text| seen.push((
            role,
            name.to_owned(),
            text
        ))));
        let want = [
            (Role::Time, "time", "now"),
            (Role::Pair, "user", "bob"),
            (Role::Level, "severity", "WARN"),
            (Role::Message, "message", "hello"),
        ];
        assert_eq!(seen, want.map(|(role, name, text)| (role, name.to_owned(), text)));
        let mut count = 0;
        assert!(named.read("now WARN 7", |_, _, _| count += 1));
        assert_eq!(count, 3, "a group that took no part is left out");
        assert!(!named.read("x", |_, _, _| ()));
    }
}
