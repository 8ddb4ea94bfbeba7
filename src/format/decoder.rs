//! Records to an engine batch: framing, schema ids, deletes, event times, and what becomes of a bad record.

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use chrono::DateTime;
use hashbrown::HashMap;

use super::avro_read::{AvroReader, Writer};
use super::column::Column;
use super::frame::SchemaId;
use super::json_read::JsonReader;
use super::protobuf_read::{self, ProtobufReader};
use super::{Bad, Decoded, Fault, FormatError, Layout, Record, Written, codes, frame};
use crate::engine::batch::Batch;
use crate::model::product::{Format, Framing, Shape};

/// Decodes one product's records. One instance for each thread: its buffers are used again for each batch.
pub struct Decoder {
    layout: Layout,
    columns: Vec<Column>,
    reader: Reader,
    ids: HashMap<SchemaId, usize, foldhash::fast::RandomState>,
    schemas: Vec<Known>,
    /// The id of the last record and its place in `schemas`: most records have the same.
    last: (SchemaId, usize),
    /// How far an event time may lie in the future of its record's own timestamp.
    ahead_ms: i64,
}

enum Reader {
    Json(Box<JsonReader>),
    Avro(Box<AvroReader>),
    Protobuf(Box<ProtobufReader>),
}

/// What is known of a schema id.
enum Known {
    /// JSON needs nothing of the writer's schema: a text says itself what it is.
    Json,
    Avro(Box<Writer>),
    Protobuf(Box<protobuf_read::Writer>),
    Refused(&'static str, String),
}

/// Why a record gave no row.
enum Failure {
    Missing(SchemaId),
    Bad(Fault),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Bad(fault)
    }
}

/// What a record does, and when.
enum Row {
    Insert(i64),
    Delete(i64),
}

/// The rows of a batch, beside their columns.
#[derive(Default)]
struct Rows {
    records: Vec<u32>,
    times: Vec<i64>,
    deletes: Vec<bool>,
}

impl Decoder {
    /// A decoder for a contract's text. `key_schema` is that of the record's key, where it has one: Avro needs it to read
    /// the keys of deletes; without it, it is derived from the contract.
    pub fn new<'a>(
        layout: Layout,
        reader_schema: impl Into<Written<'a>>,
        key_schema: Option<&str>,
    ) -> Result<Decoder, FormatError> {
        let reader_schema = reader_schema.into();
        let columns = layout.row_type.fields().iter().map(Column::new).collect::<Result<Vec<_>, _>>()?;
        let reader = match layout.format {
            Format::Json => Reader::Json(Box::new(JsonReader::new(&columns, &layout.key))),
            Format::Avro => Reader::Avro(Box::new(AvroReader::new(&columns, &layout.key, reader_schema, key_schema)?)),
            Format::Protobuf => Reader::Protobuf(Box::new(ProtobufReader::new(&columns, &layout.key, reader_schema)?)),
        };
        let last = (SchemaId::Id(0), usize::MAX);
        Ok(Decoder { layout, columns, reader, ids: HashMap::default(), schemas: Vec::new(), last, ahead_ms: i64::MAX })
    }

    /// Records whose event time lies further than this in the future of their own timestamp are bad from now on.
    pub fn bound_event_time(&mut self, ahead_ms: i64) {
        self.ahead_ms = ahead_ms;
    }

    /// Makes a writer's schema known under its id. After an error, records with this id are bad, not missing.
    pub fn add_schema<'a>(&mut self, id: impl Into<SchemaId>, schema: impl Into<Written<'a>>) -> Result<(), FormatError> {
        let (id, schema) = (id.into(), schema.into());
        let parsed = match self.reader {
            Reader::Json(_) => serde_json::from_str::<serde_json::Value>(schema.text)
                .map(|_| Known::Json)
                .map_err(|error| FormatError::Schema(format!("schema {id} is not a JSON text: {error}"))),
            Reader::Avro(_) => Writer::new(schema).map(|writer| Known::Avro(Box::new(writer))),
            Reader::Protobuf(_) => protobuf_read::Writer::new(schema).map(|writer| Known::Protobuf(Box::new(writer))),
        };
        let (known, result) = match parsed {
            Ok(known) => (known, Ok(())),
            Err(error) => (Known::Refused(codes::INCOMPATIBLE_SCHEMA, format!("schema {id}: {error}")), Err(error)),
        };
        self.know(id, known);
        result
    }

    /// Records with this id are bad: the registry does not know it, or it belongs to another topic, as `reason` says.
    pub fn refuse_schema(&mut self, id: impl Into<SchemaId>, reason: &str) {
        self.know(id.into(), Known::Refused(codes::UNKNOWN_SCHEMA, reason.into()));
    }

    fn know(&mut self, id: SchemaId, known: Known) {
        match self.ids.get(&id).and_then(|at| self.schemas.get_mut(*at)) {
            Some(place) => *place = known,
            None => {
                self.ids.insert(id, self.schemas.len());
                self.schemas.push(known);
            }
        }
    }

    /// Decodes records into one batch. It never fails as a whole: what can't be read is in `bad`.
    pub fn decode(&mut self, records: &[Record<'_>]) -> Decoded {
        let mut rows =
            Rows { records: Vec::with_capacity(records.len()), times: Vec::with_capacity(records.len()), deletes: Vec::new() };
        let (mut bad, mut missing) = (Vec::new(), Vec::new());
        for (index, record) in (0_u32..).zip(records) {
            match self.row(record, rows.records.len()) {
                Ok(row) => rows.push(index, &row),
                Err(Failure::Bad(fault)) => {
                    self.columns.iter_mut().for_each(|column| column.truncate(rows.records.len()));
                    bad.push(fault.bad(index));
                }
                Err(Failure::Missing(id)) if missing.contains(&id) => {}
                Err(Failure::Missing(id)) => missing.push(id),
            }
        }
        if !missing.is_empty() {
            self.columns.iter_mut().for_each(|column| column.truncate(0));
            return self.without_rows(Vec::new(), missing);
        }
        match self.take(rows.records.len()) {
            Ok(batch) => {
                let Rows { records, times, deletes } = rows;
                let deletes = (!deletes.is_empty()).then(|| BooleanArray::from(deletes));
                Decoded {
                    batch: Batch { rows: batch, times: ScalarBuffer::from(times), deletes, origins: None },
                    records,
                    bad,
                    missing,
                }
            }
            Err(error) => {
                self.columns.iter_mut().for_each(|column| column.truncate(0));
                let reason = format!("the batch can't be built: {error}");
                let all =
                    (0_u32..).zip(records).map(|(record, _)| Bad { record, code: codes::MALFORMED, reason: reason.clone() });
                self.without_rows(all.collect(), missing)
            }
        }
    }

    fn without_rows(&self, bad: Vec<Bad>, missing: Vec<SchemaId>) -> Decoded {
        let rows = RecordBatch::new_empty(self.layout.row_type.clone());
        Decoded {
            batch: Batch { rows, times: ScalarBuffer::from(Vec::new()), deletes: None, origins: None },
            records: Vec::new(),
            bad,
            missing,
        }
    }

    fn take(&mut self, rows: usize) -> Result<RecordBatch, ArrowError> {
        let arrays = self.columns.iter_mut().map(Column::take).collect::<Result<Vec<ArrayRef>, _>>()?;
        RecordBatch::try_new_with_options(
            self.layout.row_type.clone(),
            arrays,
            &RecordBatchOptions::new().with_row_count(Some(rows)),
        )
    }

    /// Appends a record to the columns, as their row `at`.
    fn row(&mut self, record: &Record<'_>, at: usize) -> Result<Row, Failure> {
        let Some(value) = record.value else {
            return match self.layout.shape {
                Shape::Table => self.delete(record, at),
                Shape::Stream => Err(Fault::new(codes::NULL_VALUE, "the value is null; a stream has no deletes").into()),
            };
        };
        self.value(record.value_schema, value)?;
        if self.layout.shape == Shape::Table {
            self.check_key(at)?;
        }
        let time = match self.layout.time_column.and_then(|column| self.columns.get(column)) {
            None => record.timestamp,
            Some(column) => {
                let of_column = |fault: Fault| fault.in_field(column.field.name());
                let time =
                    column.millis(at).ok_or_else(|| of_column(Fault::new(codes::NO_EVENT_TIME, "the event time is null")))?;
                // A record of a client older than timestamps has nothing to be compared with.
                if record.timestamp > 0 && time.saturating_sub(record.timestamp) > self.ahead_ms {
                    return Err(of_column(too_far(time, record.timestamp, self.ahead_ms)).into());
                }
                time
            }
        };
        Ok(Row::Insert(time))
    }

    /// Appends a value to the columns.
    fn value(&mut self, named: Option<&[u8]>, value: &[u8]) -> Result<(), Failure> {
        if let (Framing::None, Reader::Json(reader)) = (self.layout.framing, &mut self.reader) {
            return Ok(reader.value(value, &mut self.columns)?);
        }
        let (id, body) = frame::locate(named, value).map_err(|error| Fault::new(codes::NOT_FRAMED, error.to_string()))?;
        match (&mut self.reader, known(&self.ids, &mut self.schemas, &mut self.last, id)?) {
            (_, Known::Refused(code, reason)) => return Err(Fault::new(code, reason.clone()).into()),
            (Reader::Json(reader), _) => reader.value(&body, &mut self.columns)?,
            (Reader::Avro(reader), Known::Avro(writer)) => reader.value(writer, &body, &mut self.columns)?,
            (Reader::Protobuf(reader), Known::Protobuf(writer)) => reader.value(writer, &body, &mut self.columns)?,
            (Reader::Avro(_) | Reader::Protobuf(_), _) => return Err(Failure::Missing(id)),
        }
        Ok(())
    }

    /// Appends the key's columns from a record's key.
    fn key(&mut self, named: Option<&[u8]>, key: &[u8]) -> Result<(), Failure> {
        let in_key = |fault: Fault| fault.in_field("key");
        if let (Framing::None, Reader::Json(reader)) = (self.layout.framing, &mut self.reader) {
            let bare = match self.layout.key.as_slice() {
                [only] => self.layout.row_type.fields().get(*only).is_some_and(|field| *field.data_type() == DataType::Utf8),
                _ => false,
            };
            let quoted = if bare { quoted(key).map_err(in_key)? } else { key.to_vec() };
            return Ok(reader.key(&quoted, &mut self.columns).map_err(in_key)?);
        }
        let (id, body) = frame::locate(named, key).map_err(|error| in_key(Fault::new(codes::NOT_FRAMED, error.to_string())))?;
        match (&mut self.reader, known(&self.ids, &mut self.schemas, &mut self.last, id)?) {
            (_, Known::Refused(code, reason)) => return Err(in_key(Fault::new(code, reason.clone())).into()),
            (Reader::Json(reader), _) => reader.key(&body, &mut self.columns).map_err(in_key)?,
            (Reader::Avro(reader), Known::Avro(writer)) => reader.key(writer, &body, &mut self.columns).map_err(in_key)?,
            (Reader::Protobuf(reader), Known::Protobuf(writer)) => {
                reader.key(writer, &body, &mut self.columns).map_err(in_key)?;
            }
            (Reader::Avro(_) | Reader::Protobuf(_), _) => return Err(Failure::Missing(id)),
        }
        Ok(())
    }

    /// Appends a delete as row `at`: the key's columns from the record's key, defaults in the others.
    fn delete(&mut self, record: &Record<'_>, at: usize) -> Result<Row, Failure> {
        let Some(key) = record.key.filter(|_| !self.layout.key.is_empty()) else {
            return Err(Fault::new(codes::BAD_KEY, "a delete without a key").into());
        };
        self.key(record.key_schema, key)?;
        self.check_key(at)?;
        for column in self.columns.iter_mut().filter(|column| column.len() == at) {
            column.push_default();
        }
        Ok(Row::Delete(record.timestamp))
    }

    fn check_key(&self, at: usize) -> Result<(), Fault> {
        match self.layout.key.iter().filter_map(|column| self.columns.get(*column)).find(|column| column.is_null(at)) {
            Some(column) => Err(Fault::new(codes::BAD_KEY, "null in a key column of a table").in_field(column.field.name())),
            None => Ok(()),
        }
    }
}

#[cold]
fn too_far(time: i64, arrival: i64, ahead_ms: i64) -> Fault {
    let text = |ms: i64| DateTime::from_timestamp_millis(ms).map_or_else(|| format!("{ms} ms"), |time| time.to_string());
    let reason = format!("the event time {} is more than {ahead_ms} ms after the record's own, {}", text(time), text(arrival));
    Fault::new(codes::FAR_FUTURE, reason)
}

fn known<'a>(
    ids: &HashMap<SchemaId, usize, foldhash::fast::RandomState>,
    schemas: &'a mut [Known],
    last: &mut (SchemaId, usize),
    id: SchemaId,
) -> Result<&'a mut Known, Failure> {
    if last.0 != id || last.1 == usize::MAX {
        *last = (id, *ids.get(&id).ok_or(Failure::Missing(id))?);
    }
    schemas.get_mut(last.1).ok_or(Failure::Missing(id))
}

/// A bare text as the JSON that a key is read as.
fn quoted(key: &[u8]) -> Result<Vec<u8>, Fault> {
    let text = std::str::from_utf8(key).map_err(|error| Fault::new(codes::INVALID_UTF8, error.to_string()))?;
    Ok(serde_json::Value::from(text).to_string().into_bytes())
}

impl Rows {
    fn push(&mut self, record: u32, row: &Row) {
        let time = match row {
            Row::Insert(time) => {
                if !self.deletes.is_empty() {
                    self.deletes.push(false);
                }
                *time
            }
            Row::Delete(time) => {
                self.deletes.resize(self.records.len(), false);
                self.deletes.push(true);
                *time
            }
        };
        self.records.push(record);
        self.times.push(time);
    }
}
