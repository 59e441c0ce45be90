//! The name of a generation: `..2026_11_22_05_10_00.123456789`, as the kubelet names its own, with nanoseconds.
//!
//! Pure. The pattern is strict: what matches it may be removed as debris, so nothing else may match.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The link that says which generation is in force.
pub(crate) const DATA: &str = "..data";
/// The same link before it is renamed into force.
pub(crate) const DATA_NEXT: &str = "..data_tmp";

/// A visible link before it is renamed over a file of the plain layout.
pub(crate) const LINK_NEXT: &str = "..link_tmp";

/// A letter stands for itself, `0` for any digit.
const PATTERN: &[u8] = b"..0000_00_00_00_00_00.000000000";

/// The name of a generation that begins now, in UTC.
pub(crate) fn name(now: SystemTime) -> OsString {
    // A clock before 1970 is a clock that was never set: any name is as good, and names need not be ordered.
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let nanos = since.subsec_nanos();
    format!("..{year:04}_{month:02}_{day:02}_{hour:02}_{minute:02}_{second:02}.{nanos:09}").into()
}

/// Whether a name has the shape that [`name`] gives.
pub(crate) fn is_name(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.len() == PATTERN.len()
        && bytes.iter().zip(PATTERN).all(|(byte, want)| match want {
            b'0' => byte.is_ascii_digit(),
            _ => byte == want,
        })
}

/// Days since 1970-01-01 to year, month and day. Howard Hinnant's `civil_from_days`, for dates after 1970:
/// years begin in March there, so that the leap day is the last day of a year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097); // an era is 400 years
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153; // from March
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_utc_with_nanoseconds() {
        for (seconds, nanos, expected) in [
            (0, 0, "..1970_01_01_00_00_00.000000000"),
            (951_782_400, 7, "..2000_02_29_00_00_00.000000007"),
            (1_795_324_200, 123_456_789, "..2026_11_22_05_10_00.123456789"),
            (4_107_542_399, 999_999_999, "..2100_02_28_23_59_59.999999999"),
            (4_107_542_400, 0, "..2100_03_01_00_00_00.000000000"),
        ] {
            let name = name(UNIX_EPOCH + Duration::new(seconds, nanos));
            assert_eq!(name, expected);
            assert!(is_name(&name));
        }
    }

    #[test]
    fn nothing_else_passes_for_a_generation() {
        for other in [
            "..data",
            "..data_tmp",
            "..2026_11_22_05_10_00",
            "..2026_11_22_05_10_00.12345678",
            "..2026_11_22_05_10_00.1234567890",
            ".2026_11_22_05_10_00.123456789",
            "..2026_11_22_05_10_00.12345678x",
            "..2026-11-22_05_10_00.123456789",
        ] {
            assert!(!is_name(OsStr::new(other)), "{other}");
        }
    }
}
