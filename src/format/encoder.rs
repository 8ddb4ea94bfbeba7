//! A batch's rows to records: keys, values and deletes in one slab.

use arrow::array::{ArrayRef, RecordBatch};

use super::avro_write::AvroWriter;
use super::cells::{Cells, in_type};
use super::json_write::JsonWriter;
use super::{Bad, Encoded, EncodedRecord, Fault, FormatError, Layout, codes, frame};
use crate::engine::batch::Batch;
use crate::model::product::{Format, Shape};

/// Encodes one product's rows.
pub struct Encoder {
    layout: Layout,
    writer: Writer,
    value_schema: i32,
    key_schema: Option<i32>,
}

enum Writer {
    Json(JsonWriter),
    Avro(Box<AvroWriter>),
}

impl Encoder {
    /// An encoder for a contract's text; the ids are those under which the schemas are registered. The layout's row type
    /// has all columns of the contract. Without a key schema's id, records have no key.
    pub fn new(layout: Layout, contract: &str, value_schema_id: i32, key_schema_id: Option<i32>) -> Result<Encoder, FormatError> {
        let columns = layout.row_type.fields();
        let writer = match layout.format {
            Format::Json => Writer::Json(JsonWriter::new(columns, &layout.key, contract)?),
            Format::Avro => Writer::Avro(Box::new(AvroWriter::new(columns, &layout.key, contract)?)),
            other => return Err(FormatError::NotYet(other)),
        };
        let key_schema = key_schema_id.filter(|_| !layout.key.is_empty());
        Ok(Encoder { layout, writer, value_schema: value_schema_id, key_schema })
    }

    /// Encodes a batch, whose columns are the layout's in order, in place of what `out` held. An error lists the rows that
    /// could not be encoded; the others are in `out` all the same.
    pub fn encode(&mut self, batch: &Batch, out: &mut Encoded) -> Result<(), Vec<Bad>> {
        out.slab.clear();
        out.records.clear();
        let all = |fault: Fault| {
            let (code, reason) = (fault.0.code, fault.to_string());
            (0_u32..).zip(batch.times.iter()).map(|(record, _)| Bad { record, code, reason: reason.clone() }).collect::<Vec<_>>()
        };
        let arrays = self.columns(&batch.rows).map_err(all)?;
        let cells = arrays.iter().map(Cells::new).collect::<Result<Vec<_>, _>>().map_err(all)?;
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

    fn columns(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>, Fault> {
        let fields = self.layout.row_type.fields();
        if rows.num_columns() != fields.len() {
            let reason = format!("{} columns are expected, the batch has {}", fields.len(), rows.num_columns());
            return Err(Fault::new(codes::WRONG_TYPE, reason));
        }
        rows.columns().iter().zip(fields).map(|(array, field)| in_type(array, field)).collect()
    }

    /// Writes a row; whether it has a key, and where its value begins.
    fn row(&self, cells: &[Cells<'_>], row: usize, delete: bool, slab: &mut Vec<u8>) -> Result<(bool, usize), Fault> {
        let keyed = self.key(cells, row, slab)?;
        if delete && !(keyed && self.layout.shape == Shape::Table) {
            return Err(Fault::new(codes::BAD_KEY, "a delete needs a table with a key"));
        }
        let value = slab.len();
        if !delete {
            frame::write(self.value_schema, slab);
            match &self.writer {
                Writer::Json(writer) => writer.value(cells, row, slab)?,
                Writer::Avro(writer) => writer.value(cells, row, slab)?,
            }
        }
        Ok((keyed, value))
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
        frame::write(id, slab);
        match &self.writer {
            Writer::Json(writer) => writer.key(cells, row, slab)?,
            Writer::Avro(writer) => writer.key(cells, row, slab)?,
        }
        Ok(true)
    }
}
