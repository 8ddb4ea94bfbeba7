//! Rows to Protobuf, by the contract's first message.

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use chrono::{Datelike, Duration, NaiveDate};
use hashbrown::HashMap;

use super::avro::write_long;
use super::cells::{CellValues, Cells, items};
use super::column::map_fields;
use super::protobuf::{self, Special, put_varint, special};
use super::{Fault, FormatError, codes};
use crate::model::row::type_name;
use crate::schema::{self, Member, MemberKind, Messages, Presence, Scalar};

/// Writes values and keys as a contract in Protobuf wants them.
pub(super) struct ProtobufWriter {
    fields: Vec<Part>,
    /// The key's columns, as the fields of the message that a key's schema has.
    key: Vec<Part>,
}

/// One field of a message.
struct Part {
    column: usize,
    name: String,
    number: u32,
    presence: Presence,
    packed: bool,
    oneof: Option<String>,
    put: Put,
}

/// How a value is written; what it is, its cells say.
enum Put {
    Scalar(Scalar),
    Enum(HashMap<String, i32, foldhash::fast::RandomState>),
    Special(Special),
    Message(Vec<Part>),
    Items(Box<Put>),
    Entries(Box<Put>),
}

impl ProtobufWriter {
    /// A writer for columns of a contract, of which `key` form the record's key.
    pub(super) fn new(columns: &[FieldRef], key: &[usize], contract: &str) -> Result<Self, FormatError> {
        let messages = protobuf::messages(contract)?;
        let root = messages.first().ok_or_else(|| FormatError::Mismatch("the contract declares no message".into()))?;
        let wanted: Vec<(usize, &FieldRef)> = columns.iter().enumerate().collect();
        let fields = parts(&messages, root, &wanted).map_err(FormatError::Mismatch)?;
        let wanted: Vec<(usize, &FieldRef)> = key.iter().filter_map(|at| Some((*at, columns.get(*at)?))).collect();
        let own: Vec<_> = wanted.iter().map(|(_, column)| column.as_ref().clone()).collect();
        let keys = protobuf::messages(&schema::key_schema(crate::model::product::Format::Protobuf, &own))?;
        let key = parts(&keys, keys.first().unwrap_or_default(), &wanted).map_err(FormatError::Mismatch)?;
        Ok(ProtobufWriter { fields, key })
    }

    /// Writes a row's value.
    pub(super) fn value(&self, cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        // The first message of its file.
        out.push(0);
        write_message(&self.fields, cells, row, out)
    }

    /// Writes a row's key.
    pub(super) fn key(&self, cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.push(0);
        write_message(&self.key, cells, row, out)
    }
}

fn parts(messages: &Messages, id: usize, columns: &[(usize, &FieldRef)]) -> Result<Vec<Part>, String> {
    let shape = messages.get(id).ok_or("the contract declares no message")?;
    let missing = shape
        .members
        .iter()
        .find(|member| member.presence == Presence::Required && !columns.iter().any(|(_, column)| *column.name() == member.name));
    if let Some(member) = missing {
        return Err(format!("field {:?} is required and has no column", member.name));
    }
    let mut parts = columns
        .iter()
        .map(|(at, column)| {
            let member = protobuf::member(messages, id, column.name())?;
            let put = member_put(messages, member, column.data_type());
            Ok(Part {
                column: *at,
                name: member.name.clone(),
                number: member.number,
                presence: member.presence,
                packed: member.packed,
                oneof: member.oneof.clone(),
                put: put.map_err(|reason| format!("field {:?}: {reason}", member.name))?,
            })
        })
        .collect::<Result<Vec<Part>, String>>()?;
    parts.sort_by_key(|part| part.number);
    Ok(parts)
}

fn member_put(messages: &Messages, member: &Member, data_type: &DataType) -> Result<Put, String> {
    match (&member.kind, member.presence, data_type) {
        (MemberKind::Map(Scalar::String, value), _, DataType::Map(entries, _)) => match map_fields(entries) {
            Some((key, found)) if *key.data_type() == DataType::Utf8 => {
                Ok(Put::Entries(Box::new(put(messages, value, found.data_type())?)))
            }
            _ => Err(misfit(data_type, "a map")),
        },
        (MemberKind::Map(..), _, _) => Err(misfit(data_type, "a map")),
        (kind, Presence::Repeated, DataType::List(item)) => Ok(Put::Items(Box::new(put(messages, kind, item.data_type())?))),
        (_, Presence::Repeated, _) => Err(misfit(data_type, "a repeated field")),
        (kind, _, _) => put(messages, kind, data_type),
    }
}

fn put(messages: &Messages, kind: &MemberKind, data_type: &DataType) -> Result<Put, String> {
    match kind {
        MemberKind::Scalar(scalar) if scalar_fits(*scalar, data_type) => Ok(Put::Scalar(*scalar)),
        MemberKind::Scalar(scalar) => Err(misfit(data_type, &format!("{scalar:?}").to_lowercase())),
        MemberKind::Enum(symbols) if *data_type == DataType::Utf8 => Ok(Put::Enum(symbols.iter().cloned().collect())),
        MemberKind::Enum(_) => Err(misfit(data_type, "an enum")),
        MemberKind::Message(id) => {
            let name = messages.get(*id).map_or("", |shape| shape.name.as_str());
            match (special(name), data_type) {
                (Some(found @ Special::Timestamp), DataType::Timestamp(_, Some(_)))
                | (Some(found @ Special::Date), DataType::Date32)
                | (Some(found @ Special::TimeOfDay), DataType::Time32(_) | DataType::Time64(_))
                | (Some(found @ Special::Decimal), DataType::Decimal128(..)) => Ok(Put::Special(found)),
                (Some(found @ Special::Wrapper(scalar)), data_type) if scalar_fits(scalar, data_type) => Ok(Put::Special(found)),
                (_, DataType::Struct(fields)) => {
                    let wanted: Vec<(usize, &FieldRef)> = fields.iter().enumerate().collect();
                    Ok(Put::Message(parts(messages, *id, &wanted)?))
                }
                _ => Err(misfit(data_type, name)),
            }
        }
        MemberKind::Map(..) => Err(misfit(data_type, "a map")),
        MemberKind::Not(reason) => Err(reason.clone()),
    }
}

fn misfit(data_type: &DataType, what: &str) -> String {
    format!("{} can't be written as {what}", type_name(data_type))
}

fn scalar_fits(scalar: Scalar, data_type: &DataType) -> bool {
    use DataType::{Binary, Boolean, Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Utf8};
    match scalar {
        Scalar::Bool => *data_type == Boolean,
        Scalar::Bytes => *data_type == Binary,
        Scalar::String => *data_type == Utf8,
        Scalar::Double => *data_type == Float64,
        Scalar::Float => *data_type == Float32,
        Scalar::Int32 | Scalar::Sint32 | Scalar::Sfixed32 => matches!(data_type, Int8 | Int16 | Int32 | UInt8 | UInt16),
        Scalar::Uint64 | Scalar::Fixed64 => matches!(data_type, UInt8 | UInt16 | UInt32 | UInt64),
        _ => matches!(data_type, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32),
    }
}

fn write_message(parts: &[Part], cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut taken: Vec<(&str, &str)> = Vec::new();
    for part in parts {
        let Some(cells) = cells.get(part.column) else {
            return Err(Fault::new(codes::MISSING, "the batch has no such column").in_field(&part.name));
        };
        if cells.is_null(row) {
            if part.presence == Presence::Optional {
                continue;
            }
            return Err(Fault::new(codes::NULL_VALUE, "null, and the contract has none there").in_field(&part.name));
        }
        if let Some(oneof) = part.oneof.as_deref() {
            if let Some((_, other)) = taken.iter().find(|(known, _)| *known == oneof) {
                let reason = format!("{other} has a value, too, and oneof {oneof} allows one of them");
                return Err(Fault::new(codes::CONTRACT, reason).in_field(&part.name));
            }
            taken.push((oneof, &part.name));
        }
        write_field(part, cells, row, out).map_err(|fault| fault.in_field(&part.name))?;
    }
    Ok(())
}

fn write_field(part: &Part, cells: &Cells<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    match (&part.put, &cells.values) {
        (Put::Items(put), CellValues::List(ends, inner)) => {
            let rows = items(ends, row);
            let number = matches!(&**put, Put::Enum(_))
                || matches!(&**put, Put::Scalar(scalar) if !matches!(scalar, Scalar::String | Scalar::Bytes));
            if part.packed && number {
                if rows.is_empty() {
                    return Ok(());
                }
                return counted(part.number, out, |out| {
                    rows.enumerate().try_for_each(|(index, row)| {
                        not_null(inner, row).and_then(|()| bare(put, inner, row, out)).map_err(|fault| fault.in_item(index))
                    })
                });
            }
            rows.enumerate().try_for_each(|(index, row)| {
                let written = not_null(inner, row).and_then(|()| one(part.number, put, inner, row, out));
                written.map_err(|fault| fault.in_item(index))
            })
        }
        (Put::Entries(put), CellValues::Map(ends, keys, values)) => {
            let CellValues::Text(names) = &keys.values else {
                return Err(Fault::new(codes::WRONG_TYPE, "a map's keys must be texts"));
            };
            for row in items(ends, row) {
                let name = names.value(row);
                counted(part.number, out, |out| {
                    counted(1, out, |out| {
                        out.extend_from_slice(name.as_bytes());
                        Ok(())
                    })?;
                    not_null(values, row).and_then(|()| one(2, put, values, row, out)).map_err(|fault| fault.in_field(name))
                })?;
            }
            Ok(())
        }
        (put, _) => {
            let start = out.len();
            one(part.number, put, cells, row, out)?;
            // What is zero is not written where there is no null.
            if part.presence == Presence::Implicit && is_zero(put, out.get(start..).unwrap_or_default()) {
                out.truncate(start);
            }
            Ok(())
        }
    }
}

fn not_null(cells: &Cells<'_>, row: usize) -> Result<(), Fault> {
    if cells.is_null(row) { Err(Fault::new(codes::NULL_VALUE, "null, and Protobuf has none here")) } else { Ok(()) }
}

/// Whether a field's bytes, its tag included, say zero.
fn is_zero(put: &Put, mut bytes: &[u8]) -> bool {
    let tag = protobuf::varint(&mut bytes).is_ok();
    tag && matches!(put, Put::Scalar(_) | Put::Enum(_))
        && bytes.iter().all(|byte| *byte == 0)
        && !(matches!(put, Put::Scalar(Scalar::String | Scalar::Bytes)) && bytes.len() > 1)
}

/// Writes a field with its tag.
fn one(number: u32, put: &Put, cells: &Cells<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    match put {
        Put::Scalar(Scalar::String | Scalar::Bytes) | Put::Special(_) | Put::Message(_) => {
            counted(number, out, |out| bare(put, cells, row, out))
        }
        _ => {
            let kind = match put {
                Put::Scalar(Scalar::Double | Scalar::Fixed64 | Scalar::Sfixed64) => 1,
                Put::Scalar(Scalar::Float | Scalar::Fixed32 | Scalar::Sfixed32) => 5,
                _ => 0,
            };
            put_varint(u64::from(number) << 3 | kind, out);
            bare(put, cells, row, out)
        }
    }
}

/// Writes a field whose bytes have their length before them.
fn counted(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Fault>) -> Result<(), Fault> {
    put_varint(u64::from(number) << 3 | 2, out);
    let start = out.len();
    write(out)?;
    let mut length = Vec::with_capacity(5);
    put_varint((out.len() - start) as u64, &mut length);
    out.splice(start..start, length);
    Ok(())
}

/// Writes a value's own bytes.
fn bare(put: &Put, cells: &Cells<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    match (put, &cells.values) {
        (Put::Scalar(Scalar::String), CellValues::Text(array)) => out.extend_from_slice(array.value(row).as_bytes()),
        (Put::Scalar(Scalar::Bytes), CellValues::Bytes(array)) => out.extend_from_slice(array.value(row)),
        (Put::Scalar(Scalar::Bool), CellValues::Bool(array)) => out.push(u8::from(array.value(row))),
        (Put::Scalar(Scalar::Double), CellValues::F64(v)) => {
            out.extend_from_slice(&v.get(row).copied().unwrap_or_default().to_le_bytes());
        }
        (Put::Scalar(Scalar::Float), CellValues::F32(v)) => {
            out.extend_from_slice(&v.get(row).copied().unwrap_or_default().to_le_bytes());
        }
        (Put::Scalar(Scalar::Uint64), CellValues::U64(v)) => put_varint(v.get(row).copied().unwrap_or_default(), out),
        (Put::Scalar(Scalar::Fixed64), CellValues::U64(v)) => {
            out.extend_from_slice(&v.get(row).copied().unwrap_or_default().to_le_bytes());
        }
        (Put::Scalar(scalar), values) => integer(*scalar, whole(values, row)?, out)?,
        (Put::Enum(symbols), CellValues::Text(array)) => {
            let symbol = array.value(row);
            // A number that the contract does not know was read as one.
            let number = symbols
                .get(symbol)
                .copied()
                .or_else(|| symbol.parse().ok())
                .ok_or_else(|| Fault::new(codes::OUT_OF_RANGE, format!("{symbol:?} is no value of the contract's enum")))?;
            put_varint(i64::from(number).cast_unsigned(), out);
        }
        (Put::Special(Special::Wrapper(scalar)), _) => {
            let start = out.len();
            let put = Put::Scalar(*scalar);
            one(1, &put, cells, row, out)?;
            if is_zero(&put, out.get(start..).unwrap_or_default()) {
                out.truncate(start);
            }
        }
        (Put::Special(special), values) => write_special(*special, values, row, out)?,
        (Put::Message(parts), CellValues::Struct(columns)) => write_message(parts, columns, row, out)?,
        _ => return Err(Fault::new(codes::WRONG_TYPE, "the value does not fit its field")),
    }
    Ok(())
}

fn whole(values: &CellValues<'_>, row: usize) -> Result<i64, Fault> {
    let value = match values {
        CellValues::I8(v) => v.get(row).map(|v| i64::from(*v)),
        CellValues::I16(v) => v.get(row).map(|v| i64::from(*v)),
        CellValues::I32(v) => v.get(row).map(|v| i64::from(*v)),
        CellValues::I64(v) => v.get(row).copied(),
        CellValues::U8(v) => v.get(row).map(|v| i64::from(*v)),
        CellValues::U16(v) => v.get(row).map(|v| i64::from(*v)),
        CellValues::U32(v) => v.get(row).map(|v| i64::from(*v)),
        _ => None,
    };
    value.ok_or_else(|| Fault::new(codes::WRONG_TYPE, "the value does not fit its field"))
}

fn integer(scalar: Scalar, value: i64, out: &mut Vec<u8>) -> Result<(), Fault> {
    let out_of_range =
        || Fault::new(codes::OUT_OF_RANGE, format!("{value} is out of the range of {}", format!("{scalar:?}").to_lowercase()));
    let unsigned = || u32::try_from(value).map_err(|_| out_of_range());
    match scalar {
        Scalar::Sint32 | Scalar::Sint64 => write_long(value, out),
        Scalar::Uint32 => put_varint(u64::from(unsigned()?), out),
        Scalar::Fixed32 => out.extend_from_slice(&unsigned()?.to_le_bytes()),
        Scalar::Sfixed32 => out.extend_from_slice(&i32::try_from(value).map_err(|_| out_of_range())?.to_le_bytes()),
        Scalar::Sfixed64 => out.extend_from_slice(&value.to_le_bytes()),
        Scalar::Uint64 | Scalar::Fixed64 if value < 0 => return Err(out_of_range()),
        Scalar::Fixed64 => out.extend_from_slice(&value.to_le_bytes()),
        _ => put_varint(value.cast_unsigned(), out),
    }
    Ok(())
}

/// Writes a message of numbers: those that are not zero.
fn numbers(values: &[(u32, i64)], out: &mut Vec<u8>) {
    for (number, value) in values.iter().filter(|(_, value)| *value != 0) {
        put_varint(u64::from(*number) << 3, out);
        put_varint(value.cast_unsigned(), out);
    }
}

fn write_special(special: Special, values: &CellValues<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let split = |value: i64, unit: TimeUnit| match unit {
        TimeUnit::Second => (value, 0),
        TimeUnit::Millisecond => (value.div_euclid(1_000), value.rem_euclid(1_000) * 1_000_000),
        TimeUnit::Microsecond => (value.div_euclid(1_000_000), value.rem_euclid(1_000_000) * 1_000),
        TimeUnit::Nanosecond => (value.div_euclid(1_000_000_000), value.rem_euclid(1_000_000_000)),
    };
    let time_of_day = |(seconds, nanos): (i64, i64), out: &mut Vec<u8>| {
        numbers(&[(1, seconds / 3600), (2, seconds / 60 % 60), (3, seconds % 60), (4, nanos)], out);
    };
    match (special, values) {
        (Special::Timestamp, CellValues::Timestamp(unit, true, v)) => {
            let (seconds, nanos) = split(v.get(row).copied().unwrap_or_default(), *unit);
            numbers(&[(1, seconds), (2, nanos)], out);
        }
        (Special::Date, CellValues::Date(v)) => {
            let days = v.get(row).copied().unwrap_or_default();
            let date = NaiveDate::default().checked_add_signed(Duration::days(i64::from(days)));
            let date = date.filter(|date| (1..=9999).contains(&date.year())).ok_or_else(|| {
                Fault::new(codes::OUT_OF_RANGE, format!("{days} days since 1970 are not within the years 1 to 9999"))
            })?;
            numbers(&[(1, i64::from(date.year())), (2, i64::from(date.month())), (3, i64::from(date.day()))], out);
        }
        (Special::TimeOfDay, CellValues::Time32(unit, v)) => {
            time_of_day(split(i64::from(v.get(row).copied().unwrap_or_default()), *unit), out);
        }
        (Special::TimeOfDay, CellValues::Time64(unit, v)) => {
            time_of_day(split(v.get(row).copied().unwrap_or_default(), *unit), out);
        }
        (Special::Decimal, CellValues::Decimal(scale, v)) => {
            let value = v.get(row).copied().unwrap_or_default();
            let word = value.to_be_bytes();
            let sign = if value < 0 { 0xff } else { 0 };
            // As few bytes as keep the sign.
            let skip =
                word.windows(2).take_while(|pair| matches!(pair, [a, b] if *a == sign && (*b >= 0x80) == (value < 0))).count();
            counted(1, out, |out| {
                out.extend_from_slice(word.get(skip..).unwrap_or_default());
                Ok(())
            })?;
            let digits = value.unsigned_abs().checked_ilog10().map_or(1, |digits| i64::from(digits) + 1);
            numbers(&[(2, digits.max(i64::from(*scale))), (3, i64::from(*scale))], out);
        }
        _ => return Err(Fault::new(codes::WRONG_TYPE, "the value does not fit its field")),
    }
    Ok(())
}
