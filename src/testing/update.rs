//! What a section of a test should say, for `mesh test --update`: rows that came out as expected stay as they are written.

use serde_json::{Map, Value, json};

use super::drive::{Change, Left};
use crate::model::Product;

/// One row of a section that is written anew.
#[derive(Debug, Clone, PartialEq)]
pub enum Rewrite {
    /// The row that stands at this place of the section now.
    Keep(usize),
    /// A row that came out.
    New(Value),
}

/// A change as a manifest says it; with its time, if that is wanted.
pub(super) fn change(product: &Product, change: &Change, with_time: bool) -> Value {
    let mut record = Map::new();
    if let Some(ms) = change.at_ms.filter(|_| with_time) {
        record.insert("at".into(), time(ms).into());
    }
    if change.delete {
        let key = match product.key.as_slice() {
            [only] => change.row.get(only).cloned().unwrap_or_default(),
            _ => Value::Object(change.row.clone()),
        };
        record.insert("key".into(), key);
        record.insert("delete".into(), true.into());
    } else {
        record.insert("value".into(), Value::Object(change.row.clone()));
    }
    Value::Object(record)
}

/// A record that was put aside, as a manifest says it.
pub(super) fn left(left: &Left) -> Value {
    let mut record = json!({});
    if let Some(input) = &left.input {
        record["input"] = input.as_str().into();
    }
    record["at"] = time(left.at_ms).into();
    if !left.reason.is_empty() {
        record["reason"] = left.reason.as_str().into();
    }
    record
}

/// A time as manifests say it: of 1970-01-01 without the day.
pub(super) fn time(ms: i64) -> String {
    let Some(time) = chrono::DateTime::from_timestamp_millis(ms) else { return ms.to_string() };
    let form = match (ms.div_euclid(86_400_000), ms.rem_euclid(1000)) {
        (0, 0) => "%H:%M:%S",
        (0, _) => "%H:%M:%S%.3f",
        (_, 0) => "%Y-%m-%dT%H:%M:%SZ",
        _ => "%Y-%m-%dT%H:%M:%S%.3fZ",
    };
    time.format(form).to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_written_as_they_are_read() {
        for text in ["00:00:00", "23:59:59.250", "2023-07-17T00:00:00Z", "1969-12-31T23:59:59.999Z"] {
            let at = crate::manifest::units::At::try_from(text.to_owned()).unwrap();
            assert_eq!(super::time(at.0), text);
        }
    }
}
