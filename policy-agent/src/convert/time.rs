//! Timestamps of RFC 3339, as Kubernetes writes them.

use policy_core::model::Timestamp;

/// The moment that `text` names; of a fraction nine digits count.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_once('T')?;
    let (clock, offset_s) = split_offset(rest)?;
    let (clock, ns) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, nanoseconds(fraction)?),
        None => (clock, 0),
    };
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = fields(clock, ':', [2, 2, 2])?;
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let of_day = hour * 3600 + minute * 60 + second;
    in_range.then(|| Timestamp { s: days_since_epoch(year, month, day) * 86_400 + of_day - offset_s, ns })
}

fn nanoseconds(fraction: &str) -> Option<u32> {
    let is_number = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    is_number.then(|| digits.fold(0, |sum, byte| sum * 10 + u32::from(byte - b'0')))
}

fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix('Z') {
        return Some((clock, 0));
    }
    let at = text.rfind(['+', '-'])?;
    let (clock, offset) = text.split_at(at);
    let [hours, minutes] = fields(&offset[1..], ':', [2, 2])?;
    let seconds = hours * 3600 + minutes * 60;
    (hours < 24 && minutes < 60).then_some((clock, if offset.starts_with('-') { -seconds } else { seconds }))
}

fn fields<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut values = [0; N];
    for (value, digits) in values.iter_mut().zip(digits) {
        *value = number(parts.next()?, digits)?;
    }
    parts.next().is_none().then_some(values)
}

/// Exactly `digits` digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != digits || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(bytes.iter().fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0')))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar (Howard Hinnant's `days_from_civil`).
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_count_from_the_epoch() {
        let table = [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2024-02-29T12:34:56Z", 1_709_210_096, 0),
            ("2024-02-29T12:34:56.789123Z", 1_709_210_096, 789_123_000),
            ("2024-02-29T12:34:56.000000001Z", 1_709_210_096, 1),
            ("2024-02-29T12:34:56.99999999999999999999Z", 1_709_210_096, 999_999_999),
            ("2024-02-29T14:34:56+02:00", 1_709_210_096, 0),
            ("2024-02-29T07:04:56.5-05:30", 1_709_210_096, 500_000_000),
            ("1969-12-31T23:59:59Z", -1, 0),
            ("1969-12-31T23:59:59.25Z", -1, 250_000_000),
            ("0000-03-01T00:00:00Z", -62_162_035_200, 0),
        ];
        for (text, s, ns) in table {
            assert_eq!(parse(text), Some(Timestamp { s, ns }), "{text}");
        }
    }

    #[test]
    fn other_strings_name_no_moment() {
        let table = [
            "",
            "T",
            "now",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:60Z",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01 00:00:00Z",
            "24-01-01T00:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.5x5Z",
            "2024-01-01T00:00:00.1234567890xZ",
            "2024-01-01T00:00:00+0200",
            "2024-01-01T00:00:00+25:00",
            "+024-01-01T00:00:00Z",
        ];
        for text in table {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
