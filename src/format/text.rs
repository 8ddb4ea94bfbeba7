//! Dates, times, decimals and bytes as texts, for formats that have no such types. Exact, or refused.

use arrow::datatypes::TimeUnit;

/// How many of a unit are in a second.
pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Why a text is not the value that it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextError {
    /// Not of this form.
    Form,
    /// Of the form, but outside of what the column can hold.
    Range,
}

/// Reads bytes from the left.
struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    /// Exactly `n` digits.
    fn digits(&mut self, n: usize) -> Result<i64, TextError> {
        let (digits, rest) = self.0.split_at_checked(n).ok_or(TextError::Form)?;
        let mut value = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return Err(TextError::Form);
            }
            value = value * 10 + i64::from(digit - b'0');
        }
        self.0 = rest;
        Ok(value)
    }

    fn take(&mut self, wanted: u8) -> bool {
        match self.0 {
            [first, rest @ ..] if *first == wanted => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, wanted: u8) -> Result<(), TextError> {
        if self.take(wanted) { Ok(()) } else { Err(TextError::Form) }
    }

    fn end(&self) -> Result<(), TextError> {
        if self.0.is_empty() { Ok(()) } else { Err(TextError::Form) }
    }

    /// `YYYY-MM-DD` as days since 1970.
    fn date(&mut self) -> Result<i64, TextError> {
        let year = self.digits(4)?;
        self.expect(b'-')?;
        let month = self.digits(2)?;
        self.expect(b'-')?;
        let day = self.digits(2)?;
        if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
            return Err(TextError::Range);
        }
        Ok(days_from_civil(year, month, day))
    }

    /// `HH:MM:SS[.fraction]` as units since midnight; digits that the unit can't hold must be zero.
    fn time(&mut self, unit: TimeUnit) -> Result<i64, TextError> {
        let hour = self.digits(2)?;
        self.expect(b':')?;
        let minute = self.digits(2)?;
        self.expect(b':')?;
        let second = self.digits(2)?;
        if hour > 23 || minute > 59 || second > 59 {
            return Err(TextError::Range);
        }
        let fraction = self.fraction(unit)?;
        Ok((hour * 3600 + minute * 60 + second) * per_second(unit) + fraction)
    }

    fn fraction(&mut self, unit: TimeUnit) -> Result<i64, TextError> {
        if !self.take(b'.') {
            return Ok(0);
        }
        let (mut value, mut weight, mut any) = (0, per_second(unit), false);
        while let [digit @ b'0'..=b'9', rest @ ..] = self.0 {
            any = true;
            weight /= 10;
            if weight == 0 && *digit != b'0' {
                return Err(TextError::Range);
            }
            value += i64::from(digit - b'0') * weight;
            self.0 = rest;
        }
        if any { Ok(value) } else { Err(TextError::Form) }
    }

    /// `Z` or `+HH:MM` as seconds; `None` without one.
    fn offset(&mut self) -> Result<Option<i64>, TextError> {
        if self.take(b'Z') || self.take(b'z') {
            return Ok(Some(0));
        }
        let sign = if self.take(b'+') {
            1
        } else if self.take(b'-') {
            -1
        } else {
            return Ok(None);
        };
        let hour = self.digits(2)?;
        self.expect(b':')?;
        let minute = self.digits(2)?;
        if hour > 23 || minute > 59 {
            return Err(TextError::Range);
        }
        Ok(Some(sign * (hour * 3600 + minute * 60)))
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date in the Gregorian calendar. Years start in March here, so that the leap day is the last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of days since 1970.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// `YYYY-MM-DD` as days since 1970.
pub(super) fn parse_date(text: &str) -> Result<i32, TextError> {
    let mut scanner = Scanner(text.as_bytes());
    let days = scanner.date()?;
    scanner.end()?;
    i32::try_from(days).map_err(|_| TextError::Range)
}

/// `HH:MM:SS[.fraction]` as units since midnight.
pub(super) fn parse_time(text: &str, unit: TimeUnit) -> Result<i64, TextError> {
    let mut scanner = Scanner(text.as_bytes());
    let time = scanner.time(unit)?;
    scanner.end()?;
    Ok(time)
}

/// `YYYY-MM-DDTHH:MM:SS[.fraction]`, with an offset (`Z`, `+02:00`) where it is an instant and without where it is a
/// local time, as units since 1970.
pub(super) fn parse_timestamp(text: &str, unit: TimeUnit, instant: bool) -> Result<i64, TextError> {
    let mut scanner = Scanner(text.as_bytes());
    let days = scanner.date()?;
    if !(scanner.take(b'T') || scanner.take(b't') || scanner.take(b' ')) {
        return Err(TextError::Form);
    }
    let time = scanner.time(unit)?;
    let offset = scanner.offset()?;
    scanner.end()?;
    if offset.is_some() != instant {
        return Err(TextError::Form);
    }
    let seconds = days * 86_400 - offset.unwrap_or(0);
    seconds.checked_mul(per_second(unit)).and_then(|units| units.checked_add(time)).ok_or(TextError::Range)
}

fn push_padded(value: i64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value);
    out.resize(out.len() + width.saturating_sub(digits.len()), b'0');
    out.extend_from_slice(digits.as_bytes());
}

/// Writes days since 1970 as `YYYY-MM-DD`; an error for years outside of 0 to 9999.
pub(super) fn write_date(days: i64, out: &mut Vec<u8>) -> Result<(), TextError> {
    let (year, month, day) = civil_from_days(days);
    if !(0..=9_999).contains(&year) {
        return Err(TextError::Range);
    }
    push_padded(year, 4, out);
    out.push(b'-');
    push_padded(month, 2, out);
    out.push(b'-');
    push_padded(day, 2, out);
    Ok(())
}

/// Writes units since midnight as `HH:MM:SS`, with as many digits of a fraction as the unit has, none for none.
pub(super) fn write_time(value: i64, unit: TimeUnit, out: &mut Vec<u8>) -> Result<(), TextError> {
    let per_second = per_second(unit);
    let seconds = value.div_euclid(per_second);
    if !(0..86_400).contains(&seconds) {
        return Err(TextError::Range);
    }
    push_padded(seconds / 3_600, 2, out);
    out.push(b':');
    push_padded(seconds / 60 % 60, 2, out);
    out.push(b':');
    push_padded(seconds % 60, 2, out);
    let fraction = value.rem_euclid(per_second);
    if fraction != 0 {
        out.push(b'.');
        push_padded(fraction, per_second.ilog10() as usize, out);
    }
    Ok(())
}

/// Writes units since 1970 as `YYYY-MM-DDTHH:MM:SS[.fraction]`, with `Z` where it is an instant.
pub(super) fn write_timestamp(value: i64, unit: TimeUnit, instant: bool, out: &mut Vec<u8>) -> Result<(), TextError> {
    let per_day = 86_400 * per_second(unit);
    write_date(value.div_euclid(per_day), out)?;
    out.push(b'T');
    write_time(value.rem_euclid(per_day), unit, out)?;
    if instant {
        out.push(b'Z');
    }
    Ok(())
}

/// A decimal number's text (`-12.50`, `1.25e3`) as an integer of `scale` decimals; digits that would be lost must be zero.
pub(super) fn parse_decimal(text: &str, precision: u8, scale: i8) -> Result<i128, TextError> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| TextError::Form)?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if whole.is_empty() || fraction.is_empty() {
        return Err(TextError::Form);
    }
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return Err(TextError::Form);
        }
        value = value.checked_mul(10).and_then(|v| v.checked_add(i128::from(digit - b'0'))).ok_or(TextError::Range)?;
    }
    let decimals = i32::try_from(fraction.len()).map_err(|_| TextError::Range)?;
    let shift = exponent.saturating_sub(decimals).saturating_add(i32::from(scale));
    let value = shift_decimal(value, shift)?;
    if !has_digits(value, precision) {
        return Err(TextError::Range);
    }
    Ok(if negative { -value } else { value })
}

/// Whether a decimal's integer has at most `precision` digits.
pub(super) fn has_digits(value: i128, precision: u8) -> bool {
    10_u128.checked_pow(u32::from(precision)).is_some_and(|limit| value.unsigned_abs() < limit)
}

/// A value times ten to the power of `shift`; an error if digits would be lost.
pub(super) fn shift_decimal(mut value: i128, shift: i32) -> Result<i128, TextError> {
    if value == 0 {
        return Ok(0);
    }
    for _ in 0..shift.unsigned_abs() {
        value = if shift > 0 {
            value.checked_mul(10).ok_or(TextError::Range)?
        } else if value % 10 == 0 {
            value / 10
        } else {
            return Err(TextError::Range);
        };
    }
    Ok(value)
}

/// Writes an integer of `scale` decimals as a plain number, all decimals kept: `12.50`.
pub(super) fn write_decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unsigned_abs()).as_bytes();
    let Ok(scale) = usize::try_from(scale) else {
        out.extend_from_slice(digits);
        if value != 0 {
            out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
        }
        return;
    };
    let whole = digits.len().saturating_sub(scale);
    let (before, after) = digits.split_at(whole);
    out.extend_from_slice(if before.is_empty() { b"0" } else { before });
    if scale > 0 {
        out.push(b'.');
        out.resize(out.len() + (scale - after.len()), b'0');
        out.extend_from_slice(after);
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes bytes as base64 with padding.
pub(super) fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let mut word = [0_u8; 3];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for i in 0..4 {
            let six = (word >> (18 - 6 * i)) & 63;
            out.push(if i <= chunk.len() { BASE64[six as usize] } else { b'=' });
        }
    }
}

/// Bytes from base64 with padding; no white space, no stray bits, so that there is one text for each value.
pub(super) fn parse_base64(text: &str, out: &mut Vec<u8>) -> Result<(), TextError> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return Err(TextError::Form);
    }
    let groups = text.len() / 4;
    for (i, group) in text.chunks(4).enumerate() {
        let padding = if i + 1 == groups { group.iter().rev().take_while(|b| **b == b'=').count() } else { 0 };
        if padding > 2 {
            return Err(TextError::Form);
        }
        let mut word = 0_u32;
        for byte in &group[..4 - padding] {
            word = (word << 6) | u32::from(six_bits(*byte).ok_or(TextError::Form)?);
        }
        word <<= 6 * padding;
        let [_, bytes @ ..] = word.to_be_bytes();
        let (kept, dropped) = bytes.split_at(3 - padding);
        if dropped.iter().any(|b| *b != 0) {
            return Err(TextError::Form);
        }
        out.extend_from_slice(kept);
    }
    Ok(())
}

fn six_bits(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};

    fn written(write: impl FnOnce(&mut Vec<u8>) -> Result<(), TextError>) -> Result<String, TextError> {
        let mut out = Vec::new();
        write(&mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Days by Python's datetime.date(..).toordinal() - 719163.
        for (text, days) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2000-02-29", 11_016),
            ("2023-07-17", 19_555),
            ("0001-01-01", -719_162),
            ("9999-12-31", 2_932_896),
        ] {
            assert_eq!(parse_date(text), Ok(days), "{text}");
            assert_eq!(written(|out| write_date(i64::from(days), out)).as_deref(), Ok(text));
        }
        for days in (-719_528..2_932_896).step_by(13) {
            let text = written(|out| write_date(days, out)).unwrap();
            assert_eq!(parse_date(&text).map(i64::from), Ok(days), "{text}");
        }
        assert_eq!(parse_date("2023-02-29"), Err(TextError::Range));
        assert_eq!(parse_date("2023-2-9"), Err(TextError::Form));
        assert_eq!(parse_date("2023-02-09 "), Err(TextError::Form));
        assert_eq!(written(|out| write_date(2_932_897, out)), Err(TextError::Range));
    }

    #[test]
    fn timestamps_keep_their_unit_or_are_refused() {
        assert_eq!(parse_timestamp("2023-07-17T00:30:58Z", Millisecond, true), Ok(1_689_553_858_000));
        assert_eq!(parse_timestamp("2023-07-17T02:30:58.250+02:00", Millisecond, true), Ok(1_689_553_858_250));
        assert_eq!(parse_timestamp("1969-12-31T23:59:59.999999Z", Microsecond, true), Ok(-1));
        assert_eq!(parse_timestamp("2023-07-17T00:30:58.0001Z", Millisecond, true), Err(TextError::Range));
        assert_eq!(parse_timestamp("2023-07-17T00:30:58", Millisecond, true), Err(TextError::Form));
        assert_eq!(parse_timestamp("2023-07-17T00:30:58Z", Millisecond, false), Err(TextError::Form));
        assert_eq!(parse_timestamp("2023-07-17 00:30:58", Second, false), Ok(1_689_553_858));
        assert_eq!(parse_timestamp("2023-07-17T24:00:00Z", Second, true), Err(TextError::Range));
        assert_eq!(parse_timestamp("9999-07-17T00:00:00Z", Nanosecond, true), Err(TextError::Range));
        assert_eq!(written(|out| write_timestamp(-1, Microsecond, true, out)).as_deref(), Ok("1969-12-31T23:59:59.999999Z"));
        assert_eq!(
            written(|out| write_timestamp(1_689_553_858_000, Millisecond, false, out)).as_deref(),
            Ok("2023-07-17T00:30:58")
        );
        assert_eq!(parse_time("23:59:59.5", Millisecond), Ok(86_399_500));
        assert_eq!(written(|out| write_time(86_399_500, Millisecond, out)).as_deref(), Ok("23:59:59.500"));
        assert_eq!(parse_time("23:59:59.", Millisecond), Err(TextError::Form));
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(parse_decimal("12.5", 6, 2), Ok(1_250));
        assert_eq!(parse_decimal("-0.01", 6, 2), Ok(-1));
        assert_eq!(parse_decimal("1.25e3", 6, 2), Ok(125_000));
        assert_eq!(parse_decimal("12.500", 6, 2), Ok(1_250));
        assert_eq!(parse_decimal("12.505", 6, 2), Err(TextError::Range));
        assert_eq!(parse_decimal("10000", 6, 2), Err(TextError::Range));
        assert_eq!(parse_decimal("0e999999999", 6, 2), Ok(0));
        for text in ["", "-", ".5", "1.", "1.2.3", "+1", "NaN", "1e", " 1"] {
            assert_eq!(parse_decimal(text, 6, 2), Err(TextError::Form), "{text:?}");
        }
        for (value, scale, text) in [
            (1_250, 2, "12.50"),
            (-1, 2, "-0.01"),
            (0, 2, "0.00"),
            (7, 0, "7"),
            (7, -2, "700"),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
        ] {
            let mut out = Vec::new();
            write_decimal(value, scale, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(
                written(|out| {
                    write_base64(bytes.as_bytes(), out);
                    Ok(())
                })
                .as_deref(),
                Ok(text)
            );
            let mut back = Vec::new();
            assert_eq!(parse_base64(text, &mut back), Ok(()));
            assert_eq!(back, bytes.as_bytes());
        }
        for text in ["Zg", "Zg=", "Z===", "====", "Zh==", "Zm9v Zg=", "Zg==Zm9v", "Zm9-"] {
            assert_eq!(parse_base64(text, &mut Vec::new()), Err(TextError::Form), "{text:?}");
        }
    }
}
