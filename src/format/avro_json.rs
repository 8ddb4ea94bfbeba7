//! Single values between JSON and Avro, led by the schema alone: defaults, a source's lines, records to look at.
//!
//! Bytes are base64, decimals and times are texts, a union's value stands bare. Only in a schema's defaults bytes and
//! decimals are texts of one character for each byte, as Avro wants them.

use arrow::datatypes::TimeUnit;
use serde_json::{Map, Value};

use super::avro::{
    Avro, Cursor, Field, Id, Kind, Logical, malformed, write_counted, write_decimal_bytes, write_decimal_fixed, write_long,
};
use super::text::{self, TextError};
use super::{Fault, MAX_DEPTH, codes};

/// Where a JSON value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In a schema, as a field's default.
    Default,
    /// In a source's line.
    Line,
}

/// Writes a JSON value as Avro. A record's missing fields are its defaults, or null; unknown ones are refused.
pub(super) fn write(schema: &Avro, id: Id, value: &Value, form: Form, out: &mut Vec<u8>) -> Result<(), Fault> {
    put(schema, id, value, form, 0, out)
}

fn put(schema: &Avro, id: Id, value: &Value, form: Form, depth: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    check_depth(depth)?;
    let mismatch = || Err(Fault::new(codes::WRONG_TYPE, format!("{} is expected, found {}", schema.describe(id), shown(value))));
    match (schema.kind(id), value) {
        (Kind::Null, Value::Null) => {}
        (Kind::Boolean, Value::Bool(value)) => out.push(u8::from(*value)),
        (Kind::Int, Value::Number(_) | Value::String(_)) => {
            let value = integer(schema.get(id).logical, value)?;
            let value = i32::try_from(value)
                .map_err(|_| Fault::new(codes::OUT_OF_RANGE, format!("{value} does not fit into 4 bytes")))?;
            write_long(i64::from(value), out);
        }
        (Kind::Long, Value::Number(_) | Value::String(_)) => write_long(integer(schema.get(id).logical, value)?, out),
        (Kind::Float, Value::Number(_) | Value::String(_)) => {
            let wide = double(value)?;
            if wide.is_finite() && !(wide as f32).is_finite() {
                return Err(Fault::new(codes::OUT_OF_RANGE, format!("{wide:e} does not fit into 4 bytes")));
            }
            out.extend_from_slice(&(wide as f32).to_le_bytes());
        }
        (Kind::Double, Value::Number(_) | Value::String(_)) => out.extend_from_slice(&double(value)?.to_le_bytes()),
        (Kind::String, Value::String(text)) => write_counted(text.as_bytes(), out),
        (Kind::Bytes | Kind::Fixed(_), Value::String(_) | Value::Number(_)) => put_bytes(schema, id, value, form, out)?,
        (Kind::Enum { symbols, .. }, Value::String(text)) => match (0_i64..).zip(symbols).find(|(_, symbol)| *symbol == text) {
            Some((index, _)) => write_long(index, out),
            None => {
                return Err(Fault::new(codes::OUT_OF_RANGE, format!("{} is no symbol of {}", shown(value), schema.describe(id))));
            }
        },
        (Kind::Array(item), Value::Array(values)) => {
            put_count(values.len(), out);
            for (index, value) in values.iter().enumerate() {
                put(schema, *item, value, form, depth + 1, out).map_err(|fault| fault.in_item(index))?;
            }
            put_end(values.len(), out);
        }
        (Kind::Map(inner), Value::Object(values)) => {
            put_count(values.len(), out);
            for (name, value) in values {
                write_counted(name.as_bytes(), out);
                put(schema, *inner, value, form, depth + 1, out).map_err(|fault| fault.in_field(name))?;
            }
            put_end(values.len(), out);
        }
        (Kind::Record(fields), Value::Object(values)) => put_record(schema, fields, values, form, depth, out)?,
        (Kind::Union(branches), value) => put_union(schema, branches, value, form, depth, out)?,
        _ => return mismatch(),
    }
    Ok(())
}

fn put_record(
    schema: &Avro,
    fields: &[Field],
    values: &Map<String, Value>,
    form: Form,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    for field in fields {
        let (value, form) = match (values.get(&field.name), &field.default) {
            (Some(value), _) => (value, form),
            (None, Some(default)) => (default, Form::Default),
            // What is not there is null, where null may be.
            (None, None) => (&Value::Null, form),
        };
        put(schema, field.id, value, form, depth + 1, out).map_err(|fault| fault.in_field(&field.name))?;
    }
    match values.keys().find(|name| fields.iter().all(|field| field.name != **name)) {
        Some(unknown) => Err(Fault::new(codes::CONTRACT, "the contract has no such field").in_field(unknown)),
        None => Ok(()),
    }
}

/// The first branch that takes the value.
fn put_union(schema: &Avro, branches: &[Id], value: &Value, form: Form, depth: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let start = out.len();
    let mut first = None;
    for (index, branch) in (0_i64..).zip(branches) {
        write_long(index, out);
        match put(schema, *branch, value, form, depth + 1, out) {
            Ok(()) => return Ok(()),
            // Of several reasons that of the branch that is not null says most.
            Err(fault) if first.is_none() && !matches!(schema.kind(*branch), Kind::Null) => first = Some(fault),
            Err(_) => {}
        }
        out.truncate(start);
    }
    Err(first.unwrap_or_else(|| Fault::new(codes::WRONG_TYPE, format!("null is expected, found {}", shown(value)))))
}

fn put_bytes(schema: &Avro, id: Id, value: &Value, form: Form, out: &mut Vec<u8>) -> Result<(), Fault> {
    let found = schema.get(id);
    if let (Logical::Decimal { precision, scale }, Form::Line) = (found.logical, form) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let decimal = text::parse_decimal(&text, precision, scale)
            .map_err(|error| text_fault(error, "a decimal number of the contract's precision", &text))?;
        return match found.kind {
            Kind::Fixed(size) => write_decimal_fixed(decimal, size, out),
            _ => {
                write_decimal_bytes(decimal, out);
                Ok(())
            }
        };
    }
    let Value::String(text) = value else {
        return Err(Fault::new(codes::WRONG_TYPE, format!("{} is expected, found {}", schema.describe(id), shown(value))));
    };
    let mut bytes = Vec::new();
    match form {
        Form::Line => text::parse_base64(text, &mut bytes).map_err(|error| text_fault(error, "base64", text))?,
        Form::Default => {
            for c in text.chars() {
                bytes.push(
                    u8::try_from(u32::from(c))
                        .map_err(|_| Fault::new(codes::WRONG_TYPE, "a default's bytes are the characters U+0000 to U+00FF"))?,
                );
            }
        }
    }
    match found.kind {
        Kind::Fixed(size) if size != bytes.len() => {
            return Err(Fault::new(codes::WRONG_TYPE, format!("{size} bytes are expected, found {}", bytes.len())));
        }
        Kind::Fixed(_) => out.extend_from_slice(&bytes),
        _ => write_counted(&bytes, out),
    }
    Ok(())
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    if count > 0 {
        write_long(count as i64, out);
    }
}

fn put_end(_count: usize, out: &mut Vec<u8>) {
    out.push(0);
}

fn check_depth(depth: usize) -> Result<(), Fault> {
    if depth > MAX_DEPTH { Err(Fault::new(codes::TOO_DEEP, format!("nested more than {MAX_DEPTH} levels deep"))) } else { Ok(()) }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(_) => "an array".into(),
        other => other.to_string().chars().take(40).collect(),
    }
}

fn text_fault(error: TextError, form: &str, text: &str) -> Fault {
    let shown: String = text.chars().take(40).collect();
    match error {
        TextError::Form => Fault::new(codes::WRONG_TYPE, format!("{form} is expected, found {shown:?}")),
        TextError::Range => Fault::new(codes::OUT_OF_RANGE, format!("{shown:?} is not {form} that the field can hold")),
    }
}

/// A number without a fraction, or the text of what it means.
fn integer(logical: Logical, value: &Value) -> Result<i64, Fault> {
    if let Some(value) = value.as_i64() {
        return Ok(value);
    }
    if let Some(value) = value.as_f64() {
        if value.fract() != 0.0 {
            return Err(Fault::new(codes::WRONG_TYPE, format!("an integer is expected, found {value}")));
        }
        if value.abs() > 9_007_199_254_740_992.0 {
            return Err(Fault::new(codes::OUT_OF_RANGE, format!("{value:e} does not fit into 8 bytes, or is not exact")));
        }
        return Ok(value as i64);
    }
    let text = value.as_str().unwrap_or_default();
    match logical {
        Logical::Date => text::parse_date(text).map(i64::from).map_err(|error| text_fault(error, "a date (YYYY-MM-DD)", text)),
        Logical::Time(unit) => {
            text::parse_time(text, time_unit(unit)).map_err(|error| text_fault(error, "a time (HH:MM:SS)", text))
        }
        Logical::Timestamp(unit) => text::parse_timestamp(text, time_unit(unit), true)
            .map_err(|error| text_fault(error, "a date-time with an offset", text)),
        Logical::LocalTimestamp(unit) => text::parse_timestamp(text, time_unit(unit), false)
            .map_err(|error| text_fault(error, "a date-time without an offset", text)),
        _ => Err(Fault::new(codes::WRONG_TYPE, format!("an integer is expected, found {}", shown(value)))),
    }
}

fn double(value: &Value) -> Result<f64, Fault> {
    match value {
        Value::String(text) => match text.as_str() {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Err(Fault::new(codes::WRONG_TYPE, format!("a number is expected, found {}", shown(value)))),
        },
        other => Ok(other.as_f64().unwrap_or_default()),
    }
}

fn time_unit(per_second: i64) -> TimeUnit {
    match per_second {
        1 => TimeUnit::Second,
        1_000 => TimeUnit::Millisecond,
        1_000_000 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

/// Reads one Avro value as JSON.
pub(super) fn read(schema: &Avro, id: Id, cursor: &mut Cursor<'_>) -> Result<Value, Fault> {
    get(schema, id, cursor, 0)
}

fn get(schema: &Avro, id: Id, cursor: &mut Cursor<'_>, depth: usize) -> Result<Value, Fault> {
    check_depth(depth)?;
    let logical = schema.get(id).logical;
    Ok(match schema.kind(id) {
        Kind::Null => {
            cursor.spend(1)?;
            Value::Null
        }
        Kind::Boolean => Value::Bool(cursor.boolean()?),
        Kind::Int => whole(logical, i64::from(cursor.int()?)),
        Kind::Long => whole(logical, cursor.long()?),
        Kind::Float => {
            let value = cursor.float()?;
            // By its own shortest text: 0.1 stays 0.1 and does not become 0.10000000149011612.
            fraction(ryu::Buffer::new().format(value).parse().unwrap_or(f64::from(value)))
        }
        Kind::Double => fraction(cursor.double()?),
        Kind::Bytes => binary(logical, cursor.counted()?)?,
        Kind::Fixed(size) => binary(logical, cursor.bytes(*size)?)?,
        Kind::String => Value::String(cursor.text()?.to_owned()),
        Kind::Enum { symbols, .. } => {
            let index = cursor.long()?;
            match usize::try_from(index).ok().and_then(|index| symbols.get(index)) {
                Some(symbol) => Value::String(symbol.clone()),
                None => return Err(malformed(&format!("symbol {index} of an enum of {}", symbols.len()))),
            }
        }
        Kind::Union(branches) => {
            let index = cursor.long()?;
            match usize::try_from(index).ok().and_then(|index| branches.get(index)) {
                Some(branch) => get(schema, *branch, cursor, depth + 1)?,
                None => return Err(malformed(&format!("branch {index} of a union of {}", branches.len()))),
            }
        }
        Kind::Record(fields) => {
            cursor.spend(1)?;
            let mut object = Map::new();
            for field in fields {
                let value = get(schema, field.id, cursor, depth + 1).map_err(|fault| fault.in_field(&field.name))?;
                object.insert(field.name.clone(), value);
            }
            Value::Object(object)
        }
        Kind::Array(item) => {
            let mut values = Vec::new();
            loop {
                let count = cursor.block()?;
                if count == 0 {
                    break Value::Array(values);
                }
                for _ in 0..count {
                    values.push(get(schema, *item, cursor, depth + 1)?);
                }
            }
        }
        Kind::Map(inner) => {
            let mut object = Map::new();
            loop {
                let count = cursor.block()?;
                if count == 0 {
                    break Value::Object(object);
                }
                for _ in 0..count {
                    let name = cursor.text()?.to_owned();
                    object.insert(name, get(schema, *inner, cursor, depth + 1)?);
                }
            }
        }
    })
}

/// An integer, or the text of what it means; outside of what texts can say it stays a number.
fn whole(logical: Logical, value: i64) -> Value {
    let mut out = Vec::new();
    let written = match logical {
        Logical::Date => text::write_date(value, &mut out),
        Logical::Time(unit) => text::write_time(value, time_unit(unit), &mut out),
        Logical::Timestamp(unit) => text::write_timestamp(value, time_unit(unit), true, &mut out),
        Logical::LocalTimestamp(unit) => text::write_timestamp(value, time_unit(unit), false, &mut out),
        _ => return Value::from(value),
    };
    match (written, String::from_utf8(out)) {
        (Ok(()), Ok(text)) => Value::String(text),
        _ => Value::from(value),
    }
}

fn fraction(value: f64) -> Value {
    let name = if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    serde_json::Number::from_f64(value).map_or_else(|| Value::String(name.into()), Value::Number)
}

fn binary(logical: Logical, bytes: &[u8]) -> Result<Value, Fault> {
    let mut out = Vec::new();
    match logical {
        Logical::Decimal { scale, .. } => text::write_decimal(Cursor::decimal(bytes)?, scale, &mut out),
        _ => text::write_base64(bytes, &mut out),
    }
    Ok(Value::String(String::from_utf8(out).unwrap_or_default()))
}
