//! Rows to Avro, by the contract's schema.

use arrow::datatypes::{DataType, FieldRef};
use hashbrown::HashMap;

use super::avro::{Avro, Field, Id, Kind, Logical, write_counted, write_decimal_bytes, write_decimal_fixed, write_long};
use super::avro_json::{self, Form};
use super::cells::{CellValues, Cells, items};
use super::column::map_fields;
use super::{Fault, FormatError, codes};
use crate::model::row::type_name;

/// Writes values and keys as a contract in Avro wants them.
pub(super) struct AvroWriter {
    fields: Vec<Part>,
    /// The key's columns. A record's bytes are its fields' one after the other, so one column or several are the same.
    key: Vec<(usize, String, Put)>,
}

/// One field of a record.
enum Part {
    Column(usize, String, Put),
    /// The contract's field has no column; these are its default's bytes.
    Fixed(Vec<u8>),
}

/// How a value is written; what it is, its cells say.
enum Put {
    Plain,
    DecimalCounted,
    DecimalFixed(usize),
    Enum(HashMap<String, i64, foldhash::fast::RandomState>),
    Items(Box<Put>),
    Record(Vec<Part>),
    /// The branch of null, if there is one, and that of values.
    Union(Option<i64>, i64, Box<Put>),
}

impl AvroWriter {
    /// A writer for columns of a contract, of which `key` form the record's key.
    pub(super) fn new(columns: &[FieldRef], key: &[usize], contract: &str) -> Result<Self, FormatError> {
        let schema = Avro::parse(contract)?;
        let Kind::Record(fields) = schema.kind(schema.root) else {
            return Err(FormatError::Mismatch(format!("a contract is a record, not {}", schema.describe(schema.root))));
        };
        let parts = parts(&schema, fields, columns).map_err(FormatError::Mismatch)?;
        let key = key.iter().filter_map(|at| Some((*at, columns.get(*at)?))).map(|(at, column)| {
            let field = fields
                .iter()
                .find(|field| field.name == *column.name())
                .ok_or_else(|| format!("the contract has no field {:?}", column.name()))?;
            // Keys are never null, and their schemas do not allow it.
            let id = match schema.kind(field.id) {
                Kind::Union(branches) => {
                    branches.iter().copied().find(|id| !matches!(schema.kind(*id), Kind::Null)).unwrap_or(field.id)
                }
                _ => field.id,
            };
            Ok((at, column.name().clone(), put(&schema, id, column.data_type())?))
        });
        let key = key.collect::<Result<_, String>>().map_err(FormatError::Mismatch)?;
        Ok(AvroWriter { fields: parts, key })
    }

    /// Writes a row's value.
    pub(super) fn value(&self, cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        write_record(&self.fields, cells, row, out)
    }

    /// Writes a row's key.
    pub(super) fn key(&self, cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        for (at, name, put) in &self.key {
            if let Some(cells) = cells.get(*at) {
                write(put, cells, row, out).map_err(|fault| fault.in_field(name))?;
            }
        }
        Ok(())
    }
}

fn parts(schema: &Avro, fields: &[Field], columns: &[FieldRef]) -> Result<Vec<Part>, String> {
    if let Some(column) = columns.iter().find(|column| fields.iter().all(|field| field.name != *column.name())) {
        return Err(format!("the contract has no field {:?}", column.name()));
    }
    fields
        .iter()
        .map(|field| {
            let name = &field.name;
            match (columns.iter().position(|column| column.name() == name), &field.default) {
                (Some(at), _) => {
                    let data_type = columns.get(at).map_or(&DataType::Null, |column| column.data_type());
                    let put = put(schema, field.id, data_type).map_err(|reason| format!("field {name:?}: {reason}"))?;
                    Ok(Part::Column(at, name.clone(), put))
                }
                (None, Some(default)) => {
                    let mut bytes = Vec::new();
                    avro_json::write(schema, field.id, default, Form::Default, &mut bytes)
                        .map_err(|fault| format!("the default of field {name:?}: {fault}"))?;
                    Ok(Part::Fixed(bytes))
                }
                (None, None) => Err(format!("field {name:?} has neither a column nor a default")),
            }
        })
        .collect()
}

/// How values of a column are written as a type.
fn put(schema: &Avro, id: Id, data_type: &DataType) -> Result<Put, String> {
    let mismatch = || Err(format!("{} can't be written as {}", type_name(data_type), schema.describe(id)));
    let decimal = matches!(schema.get(id).logical, Logical::Decimal { .. });
    let scale_fits = |scale: i8| matches!(schema.get(id).logical, Logical::Decimal { scale: own, .. } if own == scale);
    Ok(match (schema.kind(id), data_type) {
        (Kind::Union(branches), _) => {
            let null =
                (0_i64..).zip(branches).find(|(_, branch)| matches!(schema.kind(**branch), Kind::Null)).map(|(index, _)| index);
            let others = (0_i64..).zip(branches).filter(|(_, branch)| !matches!(schema.kind(**branch), Kind::Null));
            let mut found = others.filter_map(|(index, branch)| Some((index, put(schema, *branch, data_type).ok()?)));
            match found.next() {
                Some((index, put)) => Put::Union(null, index, Box::new(put)),
                None => return mismatch(),
            }
        }
        (Kind::Boolean, DataType::Boolean)
        | (
            Kind::Int,
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::UInt8
            | DataType::UInt16
            | DataType::Date32
            | DataType::Time32(_),
        )
        | (
            Kind::Long,
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32,
        )
        | (Kind::Long, DataType::Time64(_) | DataType::Timestamp(..))
        | (Kind::Float, DataType::Float32)
        | (Kind::Double, DataType::Float64)
        | (Kind::String, DataType::Utf8) => Put::Plain,
        (Kind::Bytes, DataType::Binary) if !decimal => Put::Plain,
        (Kind::Fixed(size), DataType::FixedSizeBinary(own)) if !decimal && i32::try_from(*size) == Ok(*own) => Put::Plain,
        (Kind::Bytes, DataType::Decimal128(_, scale)) if scale_fits(*scale) => Put::DecimalCounted,
        (Kind::Fixed(size), DataType::Decimal128(_, scale)) if scale_fits(*scale) => Put::DecimalFixed(*size),
        (Kind::Enum { symbols, .. }, DataType::Utf8) => Put::Enum(symbols.iter().cloned().zip(0_i64..).collect()),
        (Kind::Array(inner), DataType::List(item)) => Put::Items(Box::new(put(schema, *inner, item.data_type())?)),
        (Kind::Map(inner), DataType::Map(entries, _)) => match map_fields(entries) {
            Some((key, value)) if *key.data_type() == DataType::Utf8 => {
                Put::Items(Box::new(put(schema, *inner, value.data_type())?))
            }
            _ => return mismatch(),
        },
        (Kind::Record(fields), DataType::Struct(columns)) => Put::Record(parts(schema, fields, columns)?),
        _ => return mismatch(),
    })
}

fn write_record(parts: &[Part], cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    for part in parts {
        match part {
            Part::Fixed(bytes) => out.extend_from_slice(bytes),
            Part::Column(at, name, put) => match cells.get(*at) {
                Some(cells) => write(put, cells, row, out).map_err(|fault| fault.in_field(name))?,
                None => return Err(Fault::new(codes::MISSING, "the batch has no such column").in_field(name)),
            },
        }
    }
    Ok(())
}

/// Writes one value.
fn write(put: &Put, cells: &Cells<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    if let Put::Union(null, index, put) = put {
        if !cells.is_null(row) {
            write_long(*index, out);
            return write(put, cells, row, out);
        }
        if let Some(null) = null {
            write_long(*null, out);
            return Ok(());
        }
    }
    if cells.is_null(row) {
        return Err(Fault::new(codes::NULL_VALUE, "null, and the contract requires a value"));
    }
    match &cells.values {
        CellValues::Text(array) => match put {
            Put::Enum(symbols) => match symbols.get(array.value(row)) {
                Some(index) => write_long(*index, out),
                None => {
                    return Err(Fault::new(
                        codes::OUT_OF_RANGE,
                        format!("{:?} is no symbol of the contract's enum", array.value(row)),
                    ));
                }
            },
            _ => write_counted(array.value(row).as_bytes(), out),
        },
        CellValues::I64(v) | CellValues::Time64(_, v) | CellValues::Timestamp(_, _, v) => long(v.get(row).copied(), out),
        CellValues::I32(v) | CellValues::Date(v) | CellValues::Time32(_, v) => long(v.get(row).copied(), out),
        CellValues::I8(v) => long(v.get(row).copied(), out),
        CellValues::I16(v) => long(v.get(row).copied(), out),
        CellValues::U8(v) => long(v.get(row).copied(), out),
        CellValues::U16(v) => long(v.get(row).copied(), out),
        CellValues::U32(v) => long(v.get(row).copied(), out),
        CellValues::F64(v) => out.extend_from_slice(&v.get(row).copied().unwrap_or_default().to_le_bytes()),
        CellValues::F32(v) => out.extend_from_slice(&v.get(row).copied().unwrap_or_default().to_le_bytes()),
        CellValues::Bool(array) => out.push(u8::from(array.value(row))),
        CellValues::Bytes(array) => write_counted(array.value(row), out),
        CellValues::Fixed(array) => out.extend_from_slice(array.value(row)),
        CellValues::Decimal(_, v) => {
            let value = v.get(row).copied().unwrap_or_default();
            match put {
                Put::DecimalFixed(size) => write_decimal_fixed(value, *size, out)?,
                _ => write_decimal_bytes(value, out),
            }
        }
        _ => nested(put, cells, row, out)?,
    }
    Ok(())
}

fn nested(put: &Put, cells: &Cells<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    match (put, &cells.values) {
        (Put::Record(parts), CellValues::Struct(columns)) => write_record(parts, columns, row, out),
        (Put::Items(put), CellValues::List(ends, inner)) => {
            let rows = items(ends, row);
            if !rows.is_empty() {
                write_long(rows.len() as i64, out);
            }
            for (index, row) in rows.enumerate() {
                write(put, inner, row, out).map_err(|fault| fault.in_item(index))?;
            }
            out.push(0);
            Ok(())
        }
        (Put::Items(put), CellValues::Map(ends, keys, values)) => {
            let CellValues::Text(names) = &keys.values else {
                return Err(Fault::new(codes::WRONG_TYPE, "a map's keys must be texts"));
            };
            let rows = items(ends, row);
            if !rows.is_empty() {
                write_long(rows.len() as i64, out);
            }
            for row in rows {
                write_counted(names.value(row).as_bytes(), out);
                write(put, values, row, out).map_err(|fault| fault.in_field(names.value(row)))?;
            }
            out.push(0);
            Ok(())
        }
        _ => Err(Fault::new(codes::WRONG_TYPE, "the value does not fit its field")),
    }
}

#[inline]
fn long<T: Into<i64>>(value: Option<T>, out: &mut Vec<u8>) {
    write_long(value.map_or(0, Into::into), out);
}
