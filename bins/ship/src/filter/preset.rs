//! What `redact` knows by name: the usual secrets of a log, each as a pattern and what tells it from its like.
//!
//! Each takes rather too little than what is plainly none: a masked order number is a lost order number.

use std::ops::Range;

use regex::Captures;

/// One kind of secret.
#[derive(Debug)]
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    /// What every text with such a secret has in it.
    pub(super) needs: Needs,
    pub(super) find: Find,
    /// What stands in its place; keeps what tells the kind.
    pub(super) with: &'static str,
}

/// What tells at a glance that a text has no such secret.
#[derive(Debug, Clone, Copy)]
pub(super) enum Needs {
    /// One of these: a regex of literals of at most four letters, so that all of them in all cases are few enough
    /// to be looked for 16 bytes at a time.
    Literals(&'static str),
    /// An `@`. A literal as short would slow down the others.
    At,
    /// See [`may_have_card`].
    Digits,
}

/// How a secret is found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Find {
    /// By a pattern, and what of its matches is meant.
    Pattern(&'static str, fn(&Captures<'_>) -> bool),
    /// By [`cards`].
    Cards,
}

/// All presets, in the order in which messages name them.
pub(crate) static PRESETS: [Preset; 8] = [
    // RFC 6750, 2.1. Without the header's name before it, prose has the word too ("the bearer of"): the token must
    // look like one then.
    Preset {
        name: "bearer",
        needs: Needs::Literals("(?i-u:eare)"),
        find: Find::Pattern(
            r#"(?i-u)\b(authorization[ \t:=>'"\\]{1,8})?(bearer(?:[ \t]+|%20))([a-z0-9._~+/-]+=*)"#,
            |found| found.get(1).is_some() || is_token(&found[3]),
        ),
        with: "${1}${2}***",
    },
    // RFC 7617: base64 of `user:password`. Without the header's name it must be just that ("basic authentication").
    Preset {
        name: "basic_auth",
        needs: Needs::Literals("(?i-u:asic)"),
        find: Find::Pattern(
            r#"(?i-u)\b(authorization[ \t:=>'"\\]{1,8})?(basic(?:[ \t]+|%20))([a-z0-9+/_-]+={0,2})"#,
            |found| found.get(1).is_some() || is_user_and_password(&found[3]),
        ),
        with: "${1}${2}***",
    },
    // 13 to 19 digits, see `cards`.
    Preset { name: "credit_card", needs: Needs::Digits, find: Find::Cards, with: "[card ***]" },
    Preset {
        name: "email",
        needs: Needs::At,
        find: Find::Pattern(r"[\w.%+-]+@[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}", |_| true),
        with: "***@***",
    },
    // RFC 7519: three parts, or five where it is encrypted; the first is base64url of `{"`. Parts may be empty.
    Preset {
        name: "jwt",
        needs: Needs::Literals("eyJ"),
        find: Find::Pattern(r"(?-u:\b)eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){2,4}", |_| true),
        with: "eyJ***",
    },
    // The key's id (long-lived AKIA, temporary ASIA), and the secret key after its name.
    Preset {
        name: "aws_access_key",
        needs: Needs::Literals("A[KS]IA|(?i-u:ecre)"),
        find: Find::Pattern(
            r#"(?-u)\b(A[KS]IA)[A-Z0-9]{16}\b|(?i-u)(secret_?(?:access_?)?key[ \t:=>'"\\]{1,8})[a-z0-9/+]{40}"#,
            |_| true,
        ),
        with: "${1}${2}***",
    },
    // RFC 7468, with line ends of any kind, also written as `\n`. To its end, or to the end of a text that was cut.
    Preset {
        name: "private_key",
        needs: Needs::Literals("VATE"),
        find: Find::Pattern(
            r"(?s)(-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----)(.*?-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|.*)",
            |found| !found[2].starts_with(MASK),
        ),
        with: "${1}***",
    },
    // RFC 3986, 3.2.1. To the last `@` of the authority: some passwords have one in them.
    Preset {
        name: "url_password",
        needs: Needs::At,
        find: Find::Pattern(
            r#"(?i-u)\b([a-z][a-z0-9+.-]*://[!$-.0-9;=A-Z_a-z~]*:)((?u:[^\s/?\#"]+))@"#,
            |found| &found[2] != MASK,
        ),
        with: "${1}***@",
    },
];

/// What is masked already is no hit, were it to come by again.
const MASK: &str = "***";

impl Preset {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }
}

/// Whether what follows a scheme is no word of prose. In doubt it is a secret: a masked word is a small loss.
fn is_token(word: &str) -> bool {
    let has = |what: fn(&u8) -> bool| word.as_bytes().iter().any(what);
    let has_digit = word.len() >= 4 && has(u8::is_ascii_digit);
    let is_mixed = word.len() >= 8 && has(|byte| b"._~+-".contains(byte));
    let is_long = word.len() >= 16 && !has(|byte| *byte == b'/');
    has_digit || is_mixed || is_long
}

/// Whether base64 (RFC 4648, of either alphabet) stands for a text with a colon in it.
fn is_user_and_password(base64: &str) -> bool {
    let digits = base64.trim_end_matches('=');
    if digits.len() % 4 == 1 {
        return false;
    }
    let mut decoded = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in digits.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.extend_from_slice(&(bits >> count).to_be_bytes()[3..]);
        }
    }
    let text = std::str::from_utf8(&decoded);
    text.is_ok_and(|text| text.contains(':') && !text.contains(char::is_control))
}

const SHORTEST_CARD: usize = 13;
const LONGEST_CARD: usize = 19;

/// Whether a text may have a card in it. Looks at every 13th byte: no card hides between two of them.
pub(super) fn may_have_card(text: &[u8]) -> bool {
    let of_card = |byte: &u8| matches!(byte, b'0'..=b'9' | b' ' | b'-');
    let mut at = SHORTEST_CARD - 1;
    while at < text.len() {
        if of_card(&text[at]) {
            let before = text[..at].iter().rev().take_while(|byte| of_card(byte)).count();
            let after = text[at..].iter().take_while(|byte| of_card(byte)).count();
            let run = &text[at - before..at + after];
            if run.iter().filter(|byte| byte.is_ascii_digit()).count() >= SHORTEST_CARD {
                return true;
            }
            at += after;
        }
        at += SHORTEST_CARD;
    }
    false
}

/// The numbers of payment cards in a text: 13 to 19 digits in one run, or in groups of 3 to 6 after a first of 4 with
/// all the same separator, a space or a dash; with the prefix and length of a known issuer, and the right check digit.
/// What is a part of a word, of a longer number or of a fraction is none.
pub(super) fn cards(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            if !bytes[at].is_ascii_digit() {
                at += 1;
                continue;
            }
            let start = at;
            at += bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if let Some(end) = card_at(bytes, start) {
                at = end;
                return Some(start..end);
            }
        }
        None
    })
}

/// The end of the longest card that starts here.
fn card_at(text: &[u8], start: usize) -> Option<usize> {
    let is_word = |at: usize| text.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let is_digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let is_point = |at: usize| text.get(at) == Some(&b'.');
    let in_word = start > 0 && is_word(start - 1);
    let in_fraction = start > 1 && is_point(start - 1) && is_digit(start - 2);
    if in_word || in_fraction {
        return None;
    }
    let mut digits = [0; LONGEST_CARD];
    let (mut count, mut at, mut end, mut separator) = (0, start, None, None);
    loop {
        let group = at;
        while is_digit(at) {
            *digits.get_mut(count)? = text[at] - b'0';
            count += 1;
            at += 1;
            if count == LONGEST_CARD && is_digit(at) {
                return end;
            }
        }
        let length = at - group;
        let fits = separator.is_none() || (3..=6).contains(&length);
        if fits && !is_word(at) && !(is_point(at) && is_digit(at + 1)) && is_card(&digits[..count]) {
            end = Some(at);
        }
        let first = separator.is_none();
        let next = text.get(at).copied().filter(|byte| matches!(byte, b' ' | b'-'));
        let goes_on = next.is_some() && is_digit(at + 1) && (first || next == separator);
        if !goes_on || !fits || (first && length != 4) || count == LONGEST_CARD {
            return end;
        }
        separator = next;
        at += 1;
    }
}

/// Whether digits have the prefix and length of a known issuer (ISO/IEC 7812-1) and the right check digit.
fn is_card(digits: &[u8]) -> bool {
    let count = digits.len();
    if !(SHORTEST_CARD..=LONGEST_CARD).contains(&count) {
        return false;
    }
    let prefix = digits[..4].iter().fold(0, |sum, digit| sum * 10 + u32::from(*digit));
    let known = match prefix {
        4000..=4999 => matches!(count, 13 | 16 | 19),           // Visa
        5100..=5599 | 2221..=2720 => count == 16,               // Mastercard
        3400..=3499 | 3700..=3799 => count == 15,               // American Express
        3000..=3059 | 3600..=3699 | 3800..=3999 => count >= 14, // Diners Club
        3528..=3589 | 6011 | 6440..=6599 | 6200..=6299 => count >= 16, // JCB, Discover, UnionPay
        5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763 => true, // Maestro
        _ => false,
    };
    known && luhn(digits)
}

/// The check digit of ISO/IEC 7812-1, annex B.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Digits with the check digit that makes them right.
    fn checked(mut digits: Vec<u8>) -> Vec<u8> {
        digits.push(0);
        while !luhn(&digits) {
            *digits.last_mut().unwrap() += 1;
        }
        digits
    }

    proptest! {
        #[test]
        fn luhn_has_one_check_digit_and_sees_every_wrong_one(
            digits in proptest::collection::vec(0_u8..10, 12..19),
            at in 0_usize..19,
            by in 1_u8..10,
        ) {
            let mut digits = checked(digits);
            prop_assert!(*digits.last().unwrap() < 10);
            let at = at % digits.len();
            digits[at] = (digits[at] + by) % 10;
            prop_assert!(!luhn(&digits));
        }

        #[test]
        fn a_card_is_found_wherever_it_stands(
            digits in proptest::collection::vec(0_u8..10, 14..15),
            before in "[a-z =:\"é]{0,30}[=: é]",
            after in "[,; \"é][a-z =:\"é]{0,30}",
            separator in "[ -]?",
        ) {
            let digits = checked([vec![4], digits].concat());
            let groups: Vec<String> =
                digits.chunks(4).map(|group| group.iter().map(u8::to_string).collect()).collect();
            let card = groups.join(&separator);
            let text = format!("{before}{card}{after}");
            prop_assert!(may_have_card(text.as_bytes()));
            let found: Vec<&str> = cards(&text).map(|range| &text[range]).collect();
            prop_assert_eq!(found, [card]);
        }

        #[test]
        fn the_first_look_misses_no_card(text in "[0-9 -]{0,24}([a-z. ]{0,3}[0-9 -]{0,24}){0,3}") {
            prop_assert!(cards(&text).next().is_none() || may_have_card(text.as_bytes()));
        }
    }
}
