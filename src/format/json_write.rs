//! Rows to JSON: compact texts, columns in the contract's order.

use arrow::datatypes::{DataType, FieldRef};
use serde_json::Value;

use super::cells::{CellValues, Cells, items};
use super::column::map_fields;
use super::text::{self, TextError};
use super::{Fault, FormatError, codes};

/// Writes values and keys as a contract in JSON Schema wants them.
pub(super) struct JsonWriter {
    members: Vec<Member>,
    /// The key's columns, and their members: one is written bare, several as an object.
    key: Vec<(usize, Member)>,
}

/// One property.
struct Member {
    /// `"name":`
    prefix: Vec<u8>,
    null: Null,
    plan: Plan,
}

/// What is written for null.
#[derive(Clone, Copy, PartialEq)]
enum Null {
    /// The property is optional: it is left out.
    Absent,
    /// The property is required and may be null.
    Written,
    Refused,
}

/// How a value is written, beyond what its cells say.
enum Plan {
    /// Dates, times and decimals as texts.
    Plain,
    /// Timestamps and decimals as numbers, since the contract says so.
    Number,
    Items(Null, Box<Plan>),
    Object(Vec<Member>),
}

impl JsonWriter {
    /// A writer for columns of a contract, of which `key` form the record's key.
    pub(super) fn new(columns: &[FieldRef], key: &[usize], contract: &str) -> Result<Self, FormatError> {
        let root: Value =
            serde_json::from_str(contract).map_err(|error| FormatError::Schema(format!("not a JSON text: {error}")))?;
        let key = key.iter().filter_map(|at| Some((*at, member(columns.get(*at)?, &Part::whole(&root))))).collect();
        Ok(JsonWriter { members: members(columns, &Part::whole(&root)), key })
    }

    /// Writes a row's value.
    pub(super) fn value(&self, cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        write_object(self.members.iter().zip(cells), row, out)
    }

    /// Writes a row's key where no frame tells what it is: a text as it is, all else as JSON.
    pub(super) fn bare_key(&self, cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        let start = out.len();
        self.key(cells, row, out)?;
        if out.get(start) == Some(&b'"')
            && let Some(Ok(text)) = out.get(start..).map(serde_json::from_slice::<String>)
        {
            out.truncate(start);
            out.extend_from_slice(text.as_bytes());
        }
        Ok(())
    }

    /// Writes a row's key.
    pub(super) fn key(&self, cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self.key.as_slice() {
            [(at, member)] => match cells.get(*at) {
                Some(cells) => write(&member.plan, cells, row, out),
                None => Ok(()),
            },
            several => write_object(several.iter().filter_map(|(at, member)| Some((member, cells.get(*at)?))), row, out),
        }
    }
}

fn members(fields: &[FieldRef], contract: &Part<'_>) -> Vec<Member> {
    fields.iter().map(|field| member(field, contract)).collect()
}

fn member(field: &FieldRef, contract: &Part<'_>) -> Member {
    let mut prefix = Vec::new();
    write_text(field.name(), &mut prefix);
    prefix.push(b':');
    let null = match (field.is_nullable(), contract.requires(field.name())) {
        (false, _) => Null::Refused,
        (true, true) => Null::Written,
        (true, false) => Null::Absent,
    };
    Member { prefix, null, plan: plan(field, &contract.property(field.name())) }
}

fn plan(field: &FieldRef, contract: &Part<'_>) -> Plan {
    let null = |item: &FieldRef| if item.is_nullable() { Null::Written } else { Null::Refused };
    match field.data_type() {
        DataType::List(item) => Plan::Items(null(item), Box::new(plan(item, &contract.inside("items")))),
        DataType::Map(entries, _) => match map_fields(entries) {
            Some((_, value)) => Plan::Items(null(value), Box::new(plan(value, &contract.inside("additionalProperties")))),
            None => Plan::Plain,
        },
        DataType::Struct(fields) => Plan::Object(members(fields, contract)),
        _ if (contract.allows("number") || contract.allows("integer")) && !contract.allows("string") => Plan::Number,
        _ => Plan::Plain,
    }
}

/// All schemas that a value must or may fulfil at one place of a contract: the schema itself, what it refers to, and the
/// members of its `allOf`, `anyOf` and `oneOf`.
struct Part<'a> {
    root: &'a Value,
    schemas: Vec<&'a Value>,
}

impl<'a> Part<'a> {
    fn whole(root: &'a Value) -> Self {
        Part::new(root, Some(root))
    }

    fn new(root: &'a Value, schemas: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut part = Part { root, schemas: Vec::new() };
        schemas.into_iter().for_each(|schema| part.add(schema));
        part
    }

    fn add(&mut self, schema: &'a Value) {
        // Each schema once: references may go round in circles.
        if self.schemas.iter().any(|known| std::ptr::eq(*known, schema)) || self.schemas.len() > 1_000 {
            return;
        }
        self.schemas.push(schema);
        if let Some(target) =
            schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')).and_then(|p| self.root.pointer(p))
        {
            self.add(target);
        }
        for word in ["allOf", "anyOf", "oneOf"] {
            schema.get(word).and_then(Value::as_array).into_iter().flatten().for_each(|member| self.add(member));
        }
    }

    fn requires(&self, name: &str) -> bool {
        self.schemas.iter().filter_map(|schema| schema.get("required")?.as_array()).flatten().any(|required| required == name)
    }

    fn property(&self, name: &str) -> Part<'a> {
        Part::new(self.root, self.schemas.iter().filter_map(|schema| schema.get("properties")?.get(name)))
    }

    fn inside(&self, word: &str) -> Part<'a> {
        Part::new(self.root, self.schemas.iter().filter_map(|schema| schema.get(word)))
    }

    fn allows(&self, name: &str) -> bool {
        self.schemas.iter().filter_map(|schema| schema.get("type")).any(|allowed| match allowed {
            Value::Array(several) => several.iter().any(|one| one == name),
            one => one == name,
        })
    }
}

fn write_object<'a, 'b: 'a>(
    members: impl Iterator<Item = (&'a Member, &'a Cells<'b>)>,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    out.push(b'{');
    let empty = out.len();
    for (member, cells) in members {
        if cells.is_null(row) {
            match member.null {
                Null::Absent => continue,
                Null::Written => {}
                Null::Refused => return Err(null_fault().in_field(&name(member))),
            }
        }
        if out.len() > empty {
            out.push(b',');
        }
        out.extend_from_slice(&member.prefix);
        write(&member.plan, cells, row, out).map_err(|fault| fault.in_field(&name(member)))?;
    }
    out.push(b'}');
    Ok(())
}

/// The property's name, for messages.
fn name(member: &Member) -> String {
    String::from_utf8_lossy(&member.prefix).trim_end_matches(':').trim_matches('"').to_owned()
}

#[cold]
fn null_fault() -> Fault {
    Fault::new(codes::NULL_VALUE, "null, and the contract requires a value")
}

/// Writes one value.
fn write(plan: &Plan, cells: &Cells<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    if cells.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match &cells.values {
        CellValues::Bool(array) => out.extend_from_slice(if array.value(row) { b"true" } else { b"false" }),
        CellValues::I8(v) => write_integer(v.get(row), out),
        CellValues::I16(v) => write_integer(v.get(row), out),
        CellValues::I32(v) => write_integer(v.get(row), out),
        CellValues::I64(v) => write_integer(v.get(row), out),
        CellValues::U8(v) => write_integer(v.get(row), out),
        CellValues::U16(v) => write_integer(v.get(row), out),
        CellValues::U32(v) => write_integer(v.get(row), out),
        CellValues::U64(v) => write_integer(v.get(row), out),
        CellValues::F32(v) => write_float(v.get(row), out)?,
        CellValues::F64(v) => write_float(v.get(row), out)?,
        CellValues::Text(array) => write_text(array.value(row), out),
        CellValues::Struct(columns) => match plan {
            Plan::Object(members) => write_object(members.iter().zip(columns), row, out)?,
            _ => out.extend_from_slice(b"{}"),
        },
        CellValues::List(ends, inner) => write_array(plan, items(ends, row), inner, out)?,
        CellValues::Map(ends, keys, values) => write_map(plan, items(ends, row), keys, values, out)?,
        values => write_as_text(plan, values, row, out)?,
    }
    Ok(())
}

/// Types that JSON has no form for.
fn write_as_text(plan: &Plan, values: &CellValues<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    match (values, plan) {
        (CellValues::Timestamp(_, _, v) | CellValues::Time64(_, v), Plan::Number) => {
            write_integer(v.get(row), out);
            return Ok(());
        }
        (CellValues::Date(v) | CellValues::Time32(_, v), Plan::Number) => {
            write_integer(v.get(row), out);
            return Ok(());
        }
        (CellValues::Decimal(scale, v), Plan::Number) => {
            text::write_decimal(v.get(row).copied().unwrap_or_default(), *scale, out);
            return Ok(());
        }
        _ => {}
    }
    out.push(b'"');
    match values {
        CellValues::Decimal(scale, v) => text::write_decimal(v.get(row).copied().unwrap_or_default(), *scale, out),
        CellValues::Date(v) => text::write_date(i64::from(v.get(row).copied().unwrap_or_default()), out).map_err(time_fault)?,
        CellValues::Time32(unit, v) => {
            text::write_time(i64::from(v.get(row).copied().unwrap_or_default()), *unit, out).map_err(time_fault)?;
        }
        CellValues::Time64(unit, v) => {
            text::write_time(v.get(row).copied().unwrap_or_default(), *unit, out).map_err(time_fault)?;
        }
        CellValues::Timestamp(unit, instant, v) => {
            text::write_timestamp(v.get(row).copied().unwrap_or_default(), *unit, *instant, out).map_err(time_fault)?;
        }
        CellValues::Bytes(array) => text::write_base64(array.value(row), out),
        CellValues::Fixed(array) => text::write_base64(array.value(row), out),
        _ => {}
    }
    out.push(b'"');
    Ok(())
}

#[cold]
fn time_fault(_: TextError) -> Fault {
    Fault::new(codes::OUT_OF_RANGE, "the date or time can't be written: years go from 0 to 9999, times from 00:00:00 to 23:59:59")
}

fn write_array(plan: &Plan, rows: std::ops::Range<usize>, inner: &Cells<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let Plan::Items(null, plan) = plan else { return Ok(()) };
    out.push(b'[');
    for (index, row) in rows.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if *null == Null::Refused && inner.is_null(row) {
            return Err(null_fault().in_item(index));
        }
        write(plan, inner, row, out).map_err(|fault| fault.in_item(index))?;
    }
    out.push(b']');
    Ok(())
}

fn write_map(
    plan: &Plan,
    rows: std::ops::Range<usize>,
    keys: &Cells<'_>,
    values: &Cells<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let (Plan::Items(null, plan), CellValues::Text(names)) = (plan, &keys.values) else {
        return Err(Fault::new(codes::WRONG_TYPE, "a map's keys must be texts"));
    };
    out.push(b'{');
    for (index, row) in rows.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let name = names.value(row);
        write_text(name, out);
        out.push(b':');
        if *null == Null::Refused && values.is_null(row) {
            return Err(null_fault().in_field(name));
        }
        write(plan, values, row, out).map_err(|fault| fault.in_field(name))?;
    }
    out.push(b'}');
    Ok(())
}

#[inline]
fn write_integer<T: itoa::Integer + Copy>(value: Option<&T>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        out.extend_from_slice(itoa::Buffer::new().format(*value).as_bytes());
    }
}

/// The shortest text that reads back as the same number: 1.4, 16.0.
fn write_float<T: ryu::Float + Into<f64>>(value: Option<&T>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let Some(value) = value else { return Ok(()) };
    let as_double: f64 = (*value).into();
    if !as_double.is_finite() {
        return Err(Fault::new(codes::NOT_FINITE, format!("{as_double} is no JSON number")));
    }
    out.extend_from_slice(ryu::Buffer::new().format_finite(*value).as_bytes());
    Ok(())
}

/// For each byte whether it is escaped in a JSON text: 0 for no, `u` for `\u00..`, else the letter behind the backslash.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Writes a text in quotes, escaped as far as JSON requires.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| ESCAPES[usize::from(*byte)] != 0) {
        let (plain, escaped) = rest.split_at(at);
        out.extend_from_slice(plain);
        let [byte, after @ ..] = escaped else { break };
        match ESCAPES[usize::from(*byte)] {
            b'u' => {
                out.extend_from_slice(b"\\u00");
                out.push(b'0' + (byte >> 4));
                out.push(b"0123456789abcdef"[usize::from(byte & 15)]);
            }
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}
