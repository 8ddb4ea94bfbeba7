//! Small functions over texts that DataFusion lacks: `crc32` and `to_uuid`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err, plan_err};

use super::own::{Own, each_text, is_text, text, texts};
use super::types::{Family, family};

/// The functions of this file.
pub(crate) fn all() -> [Own; 2] {
    [
        Own {
            name: "crc32",
            takes: |types| match types {
                [t] if is_text(t) || family(t) == Family::Bytes => Ok(vec![DataType::Binary]),
                _ => plan_err!("takes a text or bytes"),
            },
            gives: |_| Ok(DataType::Int64),
            compute: crc32,
            strict: true,
        },
        Own {
            name: "to_uuid",
            takes: |types| match types {
                [t] if is_text(t) => Ok(vec![DataType::Utf8]),
                _ => plan_err!("takes a text"),
            },
            gives: |_| Ok(DataType::Utf8),
            compute: to_uuid,
            strict: true,
        },
    ]
}

/// The checksum of zip and PNG files.
fn crc32(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let Some(values) = columns.first().and_then(|column| column.as_binary_opt::<i32>()) else {
        return exec_err!("crc32 takes a text or bytes");
    };
    let sum = |row: usize| {
        values.is_valid(row).then(|| {
            let mut crc = flate2::Crc::new();
            crc.update(values.value(row));
            i64::from(crc.sum())
        })
    };
    Ok(Arc::new((0..rows).map(sum).collect::<Int64Array>()))
}

/// A UUID's text in its canonical form: lower case, with hyphens.
fn to_uuid(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let values = texts(columns, 0)?;
    each_text(rows, |row| match text(values, row) {
        None => Ok(None),
        Some(text) => match canonical(text) {
            Some(uuid) => Ok(Some(uuid)),
            None => exec_err!("'{}' is no UUID", text.chars().take(50).collect::<String>()),
        },
    })
}

/// 32 hexadecimal digits, with hyphens behind the 8th, 12th, 16th and 20th or with none.
fn canonical(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let digits = digits.to_ascii_lowercase();
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    let uuid = [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-");
    (text.len() == 32 || text.eq_ignore_ascii_case(&uuid)).then_some(uuid)
}
