//! Scalars with a form of their own: spans of time, sizes, rates, timestamps.
//!
//! Each is a type with a JSON Schema (its pattern helps editors) and a parser that says what the right form is.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

/// The forms by the `format` that the JSON Schema gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Span,
    ByteSize,
    Rate,
    Timestamp,
    At,
    Date,
    Start,
    /// Any scalar, taken as its text.
    Text,
}

impl Form {
    const ALL: [Form; 8] =
        [Form::Span, Form::ByteSize, Form::Rate, Form::Timestamp, Form::At, Form::Date, Form::Start, Form::Text];

    /// The JSON Schema's `format`.
    pub fn name(self) -> &'static str {
        match self {
            Form::Span => "mesh-span",
            Form::ByteSize => "mesh-byte-size",
            Form::Rate => "mesh-rate",
            Form::Timestamp => "date-time",
            Form::At => "mesh-at",
            Form::Date => "date",
            Form::Start => "mesh-start",
            Form::Text => "mesh-text",
        }
    }

    /// The form of a `format`.
    pub fn named(name: &str) -> Option<Form> {
        Form::ALL.into_iter().find(|form| form.name() == name)
    }

    /// What it is, with an example, for messages.
    pub fn noun(self) -> &'static str {
        match self {
            Form::Span => "a span of time such as `500ms`, `60s`, `1m`, `2h` or `7d`",
            Form::ByteSize => "a size such as `512B`, `64KiB` or `1MiB`",
            Form::Rate => "a rate such as `10/s` or `200/m`",
            Form::Timestamp => "a timestamp such as `2023-07-17T00:00:00Z`",
            Form::At => "a time such as `00:01:00` or `2023-07-17T00:00:00Z`",
            Form::Date => "a day such as `2027-01-31`",
            Form::Start => "`earliest`, `latest` or a timestamp such as `2023-07-17T00:00:00Z`",
            Form::Text => "a text, a number, or true or false",
        }
    }

    /// Whether a text has the form.
    pub fn fits(self, text: &str) -> bool {
        match self {
            Form::Span => span_ms(text).is_some(),
            Form::ByteSize => byte_size(text).is_some(),
            Form::Rate => rate(text).is_some(),
            Form::Timestamp => timestamp_ms(text).is_some(),
            Form::At => timestamp_ms(text).is_some() || time_of_day_ms(text).is_some(),
            Form::Date => day_number(text).is_some(),
            Form::Start => matches!(text, "earliest" | "latest") || timestamp_ms(text).is_some(),
            Form::Text => true,
        }
    }

    /// The regular expression that editors get; coarser than [`Form::fits`].
    fn pattern(self) -> Option<&'static str> {
        match self {
            Form::Span => Some("^[0-9]+(ms|s|m|h|d)$"),
            Form::ByteSize => Some("^[0-9]+(B|KiB|MiB|GiB)$"),
            Form::Rate => Some("^[0-9]+/(s|m|h)$"),
            Form::Timestamp => {
                Some("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$")
            }
            Form::Date => Some("^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
            Form::Start => Some("^(earliest|latest|[0-9]{4}-.*)$"),
            Form::At | Form::Text => None,
        }
    }

    fn schema(self) -> Schema {
        let mut schema = match self {
            Form::Text => json_schema!({"type": ["string", "integer", "number", "boolean"]}),
            _ => json_schema!({"type": "string"}),
        };
        schema.insert("format".into(), Value::from(self.name()));
        if let Some(pattern) = self.pattern() {
            schema.insert("pattern".into(), Value::from(pattern));
        }
        schema
    }
}

macro_rules! form {
    ($(#[$doc:meta])* $name:ident($inner:ty), $form:expr, $parse:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(pub $inner);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let parse: fn(&str) -> Option<$inner> = $parse;
                parse(&text).map($name).ok_or_else(|| format!("takes {}", $form.noun()))
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $form.schema()
            }
        }
    };
}

form!(/** A span of time in milliseconds. */ Span(i64), Form::Span, span_ms);
form!(/** A size in bytes. */ ByteSize(u64), Form::ByteSize, byte_size);
form!(/** A number per second, minute or hour: the number, and the unit's milliseconds. */ Rate((u64, u64)), Form::Rate, rate);
form!(/** Milliseconds since 1970, UTC. */ Timestamp(i64), Form::Timestamp, timestamp_ms);
form!(/** Milliseconds since 1970, or since midnight of that day. */ At(i64), Form::At, |t| timestamp_ms(t).or_else(|| time_of_day_ms(t)));
form!(/** A day, counted from 1970-01-01. */ Date(i64), Form::Date, day_number);
form!(/** A scalar of any type, as it is written. */ Text(String), Form::Text, |t| Some(t.to_owned()));
form!(/** Where a derivation starts to read. */ StartAt(StartPoint), Form::Start, |t| match t {
    "earliest" => Some(StartPoint::Earliest),
    "latest" => Some(StartPoint::Latest),
    _ => timestamp_ms(t).map(StartPoint::Timestamp),
});

/// Where a derivation starts to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPoint {
    Earliest,
    Latest,
    /// Milliseconds since 1970.
    Timestamp(i64),
}

/// Digits and then one of the units; the product of both.
fn number_and_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let cut = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(cut);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn span_ms(text: &str) -> Option<i64> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    number_and_unit(text, &units).and_then(|ms| i64::try_from(ms).ok())
}

fn byte_size(text: &str) -> Option<u64> {
    number_and_unit(text, &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)])
}

fn rate(text: &str) -> Option<(u64, u64)> {
    let (number, unit) = text.split_once('/')?;
    let unit = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    digits(number).map(|number| (number, unit))
}

fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// `2027-01-31` as days since 1970-01-01.
fn day_number(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return None };
    if (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let (year, month, day) = (digits(year)? as i64, digits(month)? as i64, digits(day)? as i64);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Years are counted from March, so that the leap day is a year's last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let of_year = (153 * m + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// `12:30:00` or `12:30:00.250` as milliseconds since midnight.
fn time_of_day_ms(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<&str> = clock.split(':').collect();
    let [hours, minutes, seconds] = parts.as_slice() else { return None };
    if parts.iter().any(|part| part.len() != 2) {
        return None;
    }
    let (hours, minutes, seconds) = (digits(hours)?, digits(minutes)?, digits(seconds)?);
    if hours > 23 || minutes > 59 || seconds > 59 || fraction.len() > 9 {
        return None;
    }
    let nanos = digits(fraction)? * 10u64.pow(9 - fraction.len() as u32);
    i64::try_from(((hours * 60 + minutes) * 60 + seconds) * 1000 + nanos / 1_000_000).ok()
}

/// An RFC 3339 timestamp as milliseconds since 1970, UTC.
pub fn timestamp_ms(text: &str) -> Option<i64> {
    let (day, rest) = text.split_once('T')?;
    let (clock, offset_ms) = match rest.strip_suffix('Z') {
        Some(clock) => (clock, 0),
        None => {
            let at = rest.rfind(['+', '-'])?;
            let (clock, offset) = rest.split_at(at);
            let ms = time_of_day_ms(&format!("{}:00", &offset[1..]))?;
            (clock, if offset.starts_with('-') { -ms } else { ms })
        }
    };
    Some(day_number(day)? * 86_400_000 + time_of_day_ms(clock)? - offset_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_sizes_and_rates() {
        assert_eq!(span_ms("1m"), Some(60_000));
        assert_eq!(span_ms("500ms"), Some(500));
        assert_eq!(byte_size("64KiB"), Some(65_536));
        assert_eq!(rate("200/s"), Some((200, 1000)));
        for wrong in ["", "1", "m", "1 m", "-1m", "1.5m", "1w", "99999999999999999999s", "9223372036854775807d"] {
            assert_eq!(span_ms(wrong), None, "{wrong}");
        }
        assert_eq!(rate("/s"), None);
        assert_eq!(rate("+1/s"), None);
    }

    #[test]
    fn timestamps_are_utc_milliseconds() {
        assert_eq!(timestamp_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(timestamp_ms("2023-07-17T00:00:00Z"), Some(1_689_552_000_000));
        assert_eq!(timestamp_ms("2023-07-17T02:00:00.250+02:00"), Some(1_689_552_000_250));
        assert_eq!(timestamp_ms("2024-02-29T00:00:00-01:30"), Some(1_709_170_200_000));
        for wrong in [
            "2023-07-17",
            "2023-07-17T00:00:00",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-07-17T24:00:00Z",
            "T",
            "é-é-éT",
        ] {
            assert_eq!(timestamp_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_form_is_found_by_its_name() {
        for form in Form::ALL {
            assert_eq!(Form::named(form.name()), Some(form));
        }
    }
}
