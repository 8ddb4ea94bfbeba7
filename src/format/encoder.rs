//! A batch's rows to records: keys, values and deletes in one slab.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef};

use super::avro_write::AvroWriter;
use super::cells::{Cells, conform, fits_json, written_type};
use super::column::map_fields;
use super::json_write::JsonWriter;
use super::protobuf_write::ProtobufWriter;
use super::{Bad, Encoded, EncodedRecord, Fault, FormatError, Layout, codes, frame};
use crate::engine::batch::Batch;
use crate::model::product::{Format, Framing, Shape};
use crate::model::row::type_name;

/// Encodes one product's rows.
pub struct Encoder {
    layout: Layout,
    contract: String,
    plan: Plan,
    value_schema: i32,
    key_schema: Option<i32>,
}

/// How batches of one schema are written.
struct Plan {
    batch: SchemaRef,
    columns: Vec<Column>,
    writer: Writer,
}

/// A column to write: where it stands in the batch, and the type in which it is written.
struct Column {
    /// `None`: the batch does not have it, it is null throughout.
    at: Option<usize>,
    field: FieldRef,
}

enum Writer {
    Json(JsonWriter),
    Avro(Box<AvroWriter>),
    Protobuf(Box<ProtobufWriter>),
}

impl Encoder {
    /// An encoder for a contract's text; the ids are those under which the schemas are registered. The layout's row type
    /// has all columns of the contract. Without a key schema's id, records have no key.
    pub fn new(layout: Layout, contract: &str, value_schema_id: i32, key_schema_id: Option<i32>) -> Result<Encoder, FormatError> {
        let plan = Plan::new(&layout, contract, &layout.row_type)?;
        let key_schema = key_schema_id.filter(|_| !layout.key.is_empty());
        Ok(Encoder { layout, contract: contract.to_owned(), plan, value_schema: value_schema_id, key_schema })
    }

    /// Encodes a batch in place of what `out` held. Its columns are found by their names; types may differ as far as the
    /// values are the same. Columns that the contract lacks are written behind the others in JSON. An error lists the rows
    /// that could not be encoded; the others are in `out` all the same.
    pub fn encode(&mut self, batch: &Batch, out: &mut Encoded) -> Result<(), Vec<Bad>> {
        out.slab.clear();
        out.records.clear();
        let all = |(code, reason): (&'static str, String)| {
            (0_u32..).zip(batch.times.iter()).map(|(record, _)| Bad { record, code, reason: reason.clone() }).collect::<Vec<_>>()
        };
        let fault = |fault: Fault| all((fault.0.code, fault.to_string()));
        let schema = batch.rows.schema();
        if !Arc::ptr_eq(&schema, &self.plan.batch) && schema != self.plan.batch {
            self.plan =
                Plan::new(&self.layout, &self.contract, &schema).map_err(|error| all((codes::WRONG_TYPE, error.to_string())))?;
        }
        let arrays =
            self.plan.columns.iter().map(|column| column.take(&batch.rows)).collect::<Result<Vec<_>, _>>().map_err(fault)?;
        let cells = arrays.iter().map(Cells::new).collect::<Result<Vec<_>, _>>().map_err(fault)?;
        let mut bad = Vec::new();
        for ((row, index), timestamp) in (0_u32..).zip(0_usize..).zip(batch.times.iter()) {
            let start = out.slab.len();
            match self.row(&cells, index, batch.is_delete(index), &mut out.slab) {
                Ok((key, value)) => out.records.push(EncodedRecord {
                    key: key.then_some(start..value),
                    value: (!batch.is_delete(index)).then_some(value..out.slab.len()),
                    timestamp: *timestamp,
                    row,
                }),
                Err(fault) => {
                    out.slab.truncate(start);
                    bad.push(fault.bad(row));
                }
            }
        }
        if bad.is_empty() { Ok(()) } else { Err(bad) }
    }

    /// Writes a row; whether it has a key, and where its value begins.
    fn row(&self, cells: &[Cells<'_>], row: usize, delete: bool, slab: &mut Vec<u8>) -> Result<(bool, usize), Fault> {
        let keyed = self.key(cells, row, slab)?;
        if delete && !(keyed && self.layout.shape == Shape::Table) {
            return Err(Fault::new(codes::BAD_KEY, "a delete needs a table with a key"));
        }
        let value = slab.len();
        if !delete {
            self.frame(self.value_schema, slab);
            match &self.plan.writer {
                Writer::Json(writer) => writer.value(cells, row, slab)?,
                Writer::Avro(writer) => writer.value(cells, row, slab)?,
                Writer::Protobuf(writer) => writer.value(cells, row, slab)?,
            }
        }
        Ok((keyed, value))
    }

    fn frame(&self, id: i32, slab: &mut Vec<u8>) {
        if self.layout.framing == Framing::Confluent {
            frame::write(id, slab);
        }
    }

    /// Writes a row's key, if it has one. A table's key columns are never null; a stream's row without any of them has
    /// no key.
    fn key(&self, cells: &[Cells<'_>], row: usize, slab: &mut Vec<u8>) -> Result<bool, Fault> {
        let Some(id) = self.key_schema else { return Ok(false) };
        let mut columns = self.layout.key.iter().filter_map(|at| Some((*at, cells.get(*at)?)));
        match self.layout.shape {
            Shape::Table => {
                if let Some((at, _)) = columns.find(|(_, cells)| cells.is_null(row)) {
                    let name = self.layout.row_type.fields().get(at).map_or("", |field| field.name());
                    return Err(Fault::new(codes::BAD_KEY, "null in a key column of a table").in_field(name));
                }
            }
            Shape::Stream => {
                if columns.all(|(_, cells)| cells.is_null(row)) {
                    return Ok(false);
                }
            }
        }
        self.frame(id, slab);
        match &self.plan.writer {
            Writer::Json(writer) if self.layout.framing == Framing::None => writer.bare_key(cells, row, slab)?,
            Writer::Json(writer) => writer.key(cells, row, slab)?,
            Writer::Avro(writer) => writer.key(cells, row, slab)?,
            Writer::Protobuf(writer) => writer.key(cells, row, slab)?,
        }
        Ok(true)
    }
}

impl Plan {
    fn new(layout: &Layout, contract: &str, batch: &SchemaRef) -> Result<Plan, FormatError> {
        let declared = layout.row_type.fields();
        let mut columns = Vec::new();
        for field in declared {
            let found = batch.column_with_name(field.name());
            if found.is_none() && !field.is_nullable() {
                return Err(FormatError::Mismatch(format!("column {} is missing, and the contract requires it", field.name())));
            }
            let field = match (layout.format, found) {
                (Format::Json, Some((_, found))) => Arc::new(overlaid(field, found.data_type())?),
                _ => field.clone(),
            };
            columns.push(Column { at: found.map(|(at, _)| at), field });
        }
        for (at, extra) in
            batch.fields().iter().enumerate().filter(|(_, extra)| layout.row_type.column_with_name(extra.name()).is_none())
        {
            if layout.format != Format::Json {
                return Err(FormatError::Mismatch(format!("the contract has no column {}", extra.name())));
            }
            columns.push(Column {
                at: Some(at),
                field: Arc::new(extra.as_ref().clone().with_data_type(written_type(extra.data_type()))),
            });
        }
        let fields: Vec<FieldRef> = columns.iter().map(|column| column.field.clone()).collect();
        let writer = match layout.format {
            Format::Json => Writer::Json(JsonWriter::new(&fields, &layout.key, contract)?),
            Format::Avro => Writer::Avro(Box::new(AvroWriter::new(&fields, &layout.key, contract)?)),
            Format::Protobuf => Writer::Protobuf(Box::new(ProtobufWriter::new(&fields, &layout.key, contract)?)),
        };
        Ok(Plan { batch: batch.clone(), columns, writer })
    }
}

impl Column {
    fn take(&self, rows: &RecordBatch) -> Result<ArrayRef, Fault> {
        match self.at.and_then(|at| rows.columns().get(at)) {
            Some(array) => conform(array, self.field.data_type()).map_err(|fault| fault.in_field(self.field.name())),
            None => Ok(new_null_array(self.field.data_type(), rows.num_rows())),
        }
    }
}

/// A declared field with the type in which its values are found, as far as JSON has both alike; whether null is allowed
/// is as declared.
fn overlaid(declared: &Field, found: &DataType) -> Result<Field, FormatError> {
    let unfit = || {
        FormatError::Mismatch(format!(
            "column {}: {} can't be written as {}",
            declared.name(),
            type_name(found),
            type_name(declared.data_type())
        ))
    };
    let written = written_type(found);
    let data_type = match (declared.data_type(), &written) {
        (_, DataType::Null) => declared.data_type().clone(),
        (DataType::Struct(fields), DataType::Struct(own)) => {
            let mut out = Vec::new();
            for field in fields {
                match own.iter().find(|own| own.name() == field.name()) {
                    Some(own) => out.push(overlaid(field, own.data_type())?),
                    None if field.is_nullable() => out.push(field.as_ref().clone()),
                    None => return Err(unfit()),
                }
            }
            DataType::Struct(out.into())
        }
        (DataType::List(item), DataType::List(own)) => DataType::List(Arc::new(overlaid(item, own.data_type())?)),
        (DataType::Map(entries, sorted), DataType::Map(own, _)) => match (map_fields(entries), map_fields(own)) {
            (Some((key, value)), Some((_, own))) => {
                let fields = Fields::from(vec![key.clone(), Arc::new(overlaid(value, own.data_type())?)]);
                DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(DataType::Struct(fields))), *sorted)
            }
            _ => return Err(unfit()),
        },
        (declared, own) if fits_json(declared, own) => own.clone(),
        _ => return Err(unfit()),
    };
    Ok(declared.clone().with_data_type(data_type))
}
