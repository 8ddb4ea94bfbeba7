//! Protobuf's bytes: what a record's parts are, and which of the schema's messages it is.
//!
//! <https://protobuf.dev/programming-guides/encoding/>; before a message, Confluent's framing has the message's place in
//! its file: how many indexes, and the indexes, as zigzag numbers. A single zero stands for the first message.

use std::sync::Arc;

use super::avro::{malformed, unzigzag, utf8};
use super::{Fault, FormatError, MAX_DEPTH, Written, codes};
use crate::model::product::Format;
use crate::schema::{self, Member, MemberKind, Messages, Scalar, Schema};

/// One field's value as it is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Eight(u64),
    Four(u32),
    Bytes(&'a [u8]),
}

/// Reads a schema's text, and those that it refers to.
pub(super) fn parse<'a>(schema: impl Into<Written<'a>>) -> Result<Schema, FormatError> {
    let Written { text, references } = schema.into();
    schema::parse(Format::Protobuf, text, references).map_err(|error| FormatError::Schema(error.message))
}

/// Reads a schema's messages.
pub(super) fn messages<'a>(schema: impl Into<Written<'a>>) -> Result<Arc<Messages>, FormatError> {
    let messages = parse(schema)?.messages().ok_or_else(|| FormatError::Schema("it is no Protobuf schema".into()))?;
    Ok(Arc::new(messages))
}

/// The indexes of a record's message, and the message behind them.
pub(super) fn indexes(mut body: &[u8]) -> Result<(Vec<usize>, &[u8]), Fault> {
    let place = |bytes: &mut &[u8]| {
        let value = unzigzag(varint(bytes)?);
        usize::try_from(value).map_err(|_| malformed("a message's index is negative"))
    };
    let count = place(&mut body)?;
    if count == 0 {
        return Ok((vec![0], body));
    }
    if count > MAX_DEPTH {
        return Err(malformed(&format!("a message within {count} others; the bytes before it are no indexes")));
    }
    let indexes = (0..count).map(|_| place(&mut body)).collect::<Result<_, _>>()?;
    Ok((indexes, body))
}

/// The next field's number and value; `None` at the end. Groups are skipped.
pub(super) fn next<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u32, Wire<'a>)>, Fault> {
    loop {
        if bytes.is_empty() {
            return Ok(None);
        }
        let (number, kind) = tag(bytes)?;
        if kind == 3 {
            skip_group(bytes, number)?;
            continue;
        }
        return Ok(Some((number, value(bytes, kind)?)));
    }
}

fn tag(bytes: &mut &[u8]) -> Result<(u32, u64), Fault> {
    let tag = varint(bytes)?;
    let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
    Ok((number.ok_or_else(|| malformed(&format!("a field of number {}", tag >> 3)))?, tag & 7))
}

fn value<'a>(bytes: &mut &'a [u8], kind: u64) -> Result<Wire<'a>, Fault> {
    Ok(match kind {
        0 => Wire::Varint(varint(bytes)?),
        1 => Wire::Eight(u64::from_le_bytes(take(bytes, 8)?.try_into().unwrap_or_default())),
        2 => {
            let length = varint(bytes)?;
            Wire::Bytes(take(bytes, usize::try_from(length).unwrap_or(usize::MAX))?)
        }
        5 => Wire::Four(u32::from_le_bytes(take(bytes, 4)?.try_into().unwrap_or_default())),
        4 => return Err(malformed("a group ends that did not begin")),
        other => return Err(malformed(&format!("a field of wire type {other}"))),
    })
}

/// Skips to the end of a group and of those within it.
fn skip_group(bytes: &mut &[u8], number: u32) -> Result<(), Fault> {
    let mut open = vec![number];
    while let Some(innermost) = open.last().copied() {
        let (number, kind) = tag(bytes)?;
        match kind {
            3 if open.len() >= MAX_DEPTH => {
                return Err(Fault::new(codes::TOO_DEEP, format!("groups nest deeper than {MAX_DEPTH} levels")));
            }
            3 => open.push(number),
            4 if number == innermost => drop(open.pop()),
            _ => drop(value(bytes, kind)?),
        }
    }
    Ok(())
}

pub(super) fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Fault> {
    match bytes.split_at_checked(length) {
        Some((taken, rest)) => {
            *bytes = rest;
            Ok(taken)
        }
        None => {
            let reason = format!("the body ends too early: {length} bytes are expected, {} are left", bytes.len());
            Err(Fault::new(codes::TRUNCATED, reason))
        }
    }
}

pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0_u64;
    for shift in (0..70_u32).step_by(7) {
        let Some((byte, rest)) = bytes.split_first() else {
            return Err(Fault::new(codes::TRUNCATED, "the body ends within a number"));
        };
        *bytes = rest;
        if shift == 63 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift.min(63);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed("a number of more than 64 bits"))
}

pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A scalar's value, of one of four sorts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Plain<'a> {
    Int(i64),
    Unsigned(u64),
    Float(f64),
    Bool(bool),
    Bytes(&'a [u8]),
    Text(&'a str),
}

/// What a scalar's bytes say.
pub(super) fn plain<'a>(scalar: Scalar, wire: Wire<'a>) -> Result<Plain<'a>, Fault> {
    // As all readers of Protobuf do, numbers are cut off to their bits.
    Ok(match (scalar, wire) {
        (Scalar::Bool, Wire::Varint(value)) => Plain::Bool(value != 0),
        (Scalar::Int32, Wire::Varint(value)) => Plain::Int(i64::from(value as i32)),
        (Scalar::Int64, Wire::Varint(value)) => Plain::Int(value.cast_signed()),
        (Scalar::Uint32, Wire::Varint(value)) => Plain::Int(i64::from(value as u32)),
        (Scalar::Uint64, Wire::Varint(value)) | (Scalar::Fixed64, Wire::Eight(value)) => Plain::Unsigned(value),
        (Scalar::Sint32, Wire::Varint(value)) => Plain::Int(i64::from(unzigzag(u64::from(value as u32)) as i32)),
        (Scalar::Sint64, Wire::Varint(value)) => Plain::Int(unzigzag(value)),
        (Scalar::Fixed32, Wire::Four(value)) => Plain::Int(i64::from(value)),
        (Scalar::Sfixed32, Wire::Four(value)) => Plain::Int(i64::from(value.cast_signed())),
        (Scalar::Sfixed64, Wire::Eight(value)) => Plain::Int(value.cast_signed()),
        (Scalar::Float, Wire::Four(value)) => Plain::Float(f64::from(f32::from_bits(value))),
        (Scalar::Double, Wire::Eight(value)) => Plain::Float(f64::from_bits(value)),
        (Scalar::Bytes, Wire::Bytes(bytes)) => Plain::Bytes(bytes),
        (Scalar::String, Wire::Bytes(bytes)) => Plain::Text(utf8(bytes)?),
        _ => return Err(other_bytes()),
    })
}

#[cold]
pub(super) fn other_bytes() -> Fault {
    Fault::new(codes::INCOMPATIBLE_SCHEMA, "the writer's bytes are of another type than the contract's field")
}

/// The value that a scalar has where none is written.
pub(super) fn zero(scalar: Scalar) -> Plain<'static> {
    match scalar {
        Scalar::Bool => Plain::Bool(false),
        Scalar::Bytes => Plain::Bytes(b""),
        Scalar::String => Plain::Text(""),
        Scalar::Double | Scalar::Float => Plain::Float(0.0),
        Scalar::Uint64 | Scalar::Fixed64 => Plain::Unsigned(0),
        _ => Plain::Int(0),
    }
}

/// A message that stands for one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    Timestamp,
    Date,
    TimeOfDay,
    Decimal,
    Wrapper(Scalar),
}

/// What a message of this name stands for.
pub(super) fn special(name: &str) -> Option<Special> {
    Some(match name {
        "google.protobuf.Timestamp" => Special::Timestamp,
        "google.type.Date" => Special::Date,
        "google.type.TimeOfDay" => Special::TimeOfDay,
        "confluent.type.Decimal" => Special::Decimal,
        "google.protobuf.DoubleValue" => Special::Wrapper(Scalar::Double),
        "google.protobuf.FloatValue" => Special::Wrapper(Scalar::Float),
        "google.protobuf.Int64Value" => Special::Wrapper(Scalar::Int64),
        "google.protobuf.UInt64Value" => Special::Wrapper(Scalar::Uint64),
        "google.protobuf.Int32Value" => Special::Wrapper(Scalar::Int32),
        "google.protobuf.UInt32Value" => Special::Wrapper(Scalar::Uint32),
        "google.protobuf.BoolValue" => Special::Wrapper(Scalar::Bool),
        "google.protobuf.StringValue" => Special::Wrapper(Scalar::String),
        "google.protobuf.BytesValue" => Special::Wrapper(Scalar::Bytes),
        _ => return None,
    })
}

/// The member of a message that has this name.
pub(super) fn member<'a>(messages: &'a Messages, id: usize, name: &str) -> Result<&'a Member, String> {
    let shape = messages.get(id).ok_or("the contract declares no message")?;
    let found = shape.members.iter().find(|member| member.name == name);
    let member = found.ok_or_else(|| format!("message {} has no field {name:?}", shape.name))?;
    match &member.kind {
        MemberKind::Not(reason) => Err(format!("field {name:?}: {reason}")),
        _ => Ok(member),
    }
}
