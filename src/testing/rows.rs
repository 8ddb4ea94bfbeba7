//! JSON of tests to rows, and rows to JSON: by the decoder and encoder of production, whatever the contract's format.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::Schema;
use serde_json::{Map, Value};

use super::codes;
use crate::engine::Batch;
use crate::format::{self, Decoder, Encoded, Encoder, FormatError, Layout, Record, frame};
use crate::model::RowType;
use crate::model::diagnostic::Code;
use crate::model::product::{Format, Framing, Product, Shape};
use crate::plan::ProductContract;
use crate::sql::query::Query;

/// A row as JSON: its columns that are not NULL.
pub(super) type Row = Map<String, Value>;

/// One record to read.
pub(super) struct Asked {
    pub(super) at_ms: i64,
    /// The columns of the value; those of the key where it deletes.
    pub(super) columns: Row,
    pub(super) delete: bool,
}

/// What is wrong with one record.
#[derive(Debug, PartialEq)]
pub(super) struct Complaint {
    pub(super) record: usize,
    /// `None`: the record as a whole.
    pub(super) column: Option<String>,
    pub(super) code: Code,
    pub(super) reason: String,
}

/// The bytes of a record's key and value.
type Framed = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Reads records of one row type.
pub(super) struct RowReader {
    layout: Layout,
    decoder: Decoder,
}

impl RowReader {
    /// For rows of this type; `key` and `time_column` are positions in it.
    pub(super) fn new(
        row_type: Arc<RowType>,
        key: Vec<usize>,
        time_column: Option<usize>,
        shape: Shape,
    ) -> Result<RowReader, FormatError> {
        let layout = Layout { format: Format::Json, framing: Framing::Confluent, row_type, key, time_column, shape };
        Ok(RowReader { decoder: decoder(&layout)?, layout })
    }

    /// The rows' type.
    pub(super) fn row_type(&self) -> &Arc<RowType> {
        &self.layout.row_type
    }

    /// Names of the key's columns.
    pub(super) fn key(&self) -> impl Iterator<Item = &str> {
        let fields = self.layout.row_type.fields();
        self.layout.key.iter().filter_map(|at| fields.get(*at)).map(|field| field.name().as_str())
    }

    /// All records as one batch, or all that is wrong with them.
    pub(super) fn read(&mut self, records: &[Asked]) -> Result<Batch, Vec<Complaint>> {
        let framed: Vec<Framed> = records.iter().map(|record| self.framed(record)).collect();
        let decoded = self.decoder.decode(
            &framed
                .iter()
                .zip(records)
                .map(|((key, value), record)| Record::new(key.as_deref(), value.as_deref(), record.at_ms))
                .collect::<Vec<_>>(),
        );
        if decoded.bad.is_empty() {
            return Ok(decoded.batch);
        }
        let at = |bad: &format::Bad| usize::try_from(bad.record).unwrap_or(usize::MAX);
        let complaints = decoded.bad.iter().flat_map(|bad| {
            let record = at(bad);
            let mut found = records.get(record).map_or_else(Vec::new, |asked| self.complaints(record, asked));
            if found.is_empty() {
                let code = if bad.code == format::codes::BAD_KEY { codes::KEY } else { codes::BAD_VALUE };
                found.push(Complaint { record, column: None, code, reason: bad.reason.clone() });
            }
            found
        });
        Err(complaints.collect())
    }

    fn framed(&self, record: &Asked) -> Framed {
        if !record.delete {
            return (None, Some(framed(&Value::Object(record.columns.clone()))));
        }
        let mut names = self.key();
        let key = match (names.next(), names.next()) {
            (Some(only), None) => record.columns.get(only).cloned().unwrap_or_default(),
            _ => Value::Object(record.columns.clone()),
        };
        (Some(framed(&key)), None)
    }

    /// What is wrong with the columns of one record, each looked at by itself.
    fn complaints(&self, record: usize, asked: &Asked) -> Vec<Complaint> {
        let one = |field: &Arc<arrow::datatypes::Field>| {
            let value = asked.columns.get(field.name());
            if asked.delete && value.is_none() {
                return None;
            }
            let layout = Layout {
                row_type: Arc::new(Schema::new(vec![field.clone()])),
                key: Vec::new(),
                time_column: None,
                shape: Shape::Stream,
                ..self.layout.clone()
            };
            let only: Row = value.map(|value| (field.name().clone(), value.clone())).into_iter().collect();
            let bytes = framed(&Value::Object(only));
            let bad = decoder(&layout).ok()?.decode(&[Record::new(None, Some(&bytes), 0)]).bad;
            let bad = bad.into_iter().next()?;
            let missing = value.is_none() && bad.code == format::codes::MISSING;
            let code = if missing { codes::MISSING_COLUMN } else { codes::BAD_VALUE };
            Some(Complaint { record, column: Some(field.name().clone()), code, reason: bad.reason })
        };
        self.layout.row_type.fields().iter().filter_map(one).collect()
    }
}

fn decoder(layout: &Layout) -> Result<Decoder, FormatError> {
    let mut decoder = Decoder::new(layout.clone(), "{}", None)?;
    decoder.add_schema(0, "{}")?;
    Ok(decoder)
}

fn framed(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write(0, &mut bytes);
    bytes.extend(value.to_string().into_bytes());
    bytes
}

/// An encoder for a derivation's results, as production has it.
pub(super) fn writer(product: &Product, contract: &ProductContract, query: &Query) -> Result<Encoder, FormatError> {
    let position = |column: &String| query.row_type.index_of(column).ok();
    let layout = Layout {
        format: contract.format,
        framing: Framing::Confluent,
        row_type: query.row_type.clone(),
        key: product.key.iter().filter_map(position).collect(),
        time_column: None,
        shape: product.shape,
    };
    Encoder::new(layout, &contract.value, 0, contract.key.as_ref().map(|_| 0))
}

/// Brings a result's rows into one form, so that the expected and the found can be compared and shown.
pub(super) struct Canon {
    reader: RowReader,
    encoder: Encoder,
    encoded: Encoded,
}

impl Canon {
    pub(super) fn new(contract: &ProductContract, query: &Query) -> Result<Canon, FormatError> {
        let fields = query.row_type.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let row_type = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let text = if contract.format == Format::Json { contract.value.as_str() } else { "{}" };
        let layout = Layout {
            format: Format::Json,
            framing: Framing::None,
            row_type: row_type.clone(),
            key: Vec::new(),
            time_column: None,
            shape: Shape::Stream,
        };
        let encoder = Encoder::new(layout, text, 0, None)?;
        let reader = RowReader::new(row_type, Vec::new(), None, Shape::Stream)?;
        Ok(Canon { reader, encoder, encoded: Encoded::default() })
    }

    /// The result's row type, in which every column may be NULL.
    pub(super) fn row_type(&self) -> &Arc<RowType> {
        self.reader.row_type()
    }

    /// Expected rows as they would come out, or what is wrong with them.
    pub(super) fn expected(&mut self, records: &[Asked]) -> Result<Vec<Row>, Vec<Complaint>> {
        let batch = self.reader.read(records)?;
        Ok(self.rows(&batch))
    }

    /// The rows of a batch. What JSON can't show is told in its place.
    pub(super) fn rows(&mut self, batch: &Batch) -> Vec<Row> {
        let inserts = Batch { deletes: None, ..batch.clone() };
        let bad = self.encoder.encode(&inserts, &mut self.encoded).err().unwrap_or_default();
        let mut rows: Vec<Row> = (0..batch.len()).map(|_| Row::new()).collect();
        for record in &self.encoded.records {
            let value = self.encoded.value(record).and_then(|bytes| format::to_json(Format::Json, None, bytes).ok());
            if let (Some(Value::Object(mut columns)), Some(row)) = (value, rows.get_mut(record.row as usize)) {
                columns.retain(|_, value| !value.is_null());
                *row = columns;
            }
        }
        for bad in bad {
            if let Some(row) = rows.get_mut(bad.record as usize) {
                row.insert("(can't be shown)".into(), Value::String(bad.reason));
            }
        }
        rows
    }
}

/// The columns of a batch that another row type has, by name.
pub(super) fn project(batch: &Batch, row_type: &Arc<RowType>) -> Result<Batch, String> {
    let columns = row_type.fields().iter().map(|field| batch.rows.column_by_name(field.name()).cloned());
    let columns: Option<Vec<_>> = columns.collect();
    let columns = columns.ok_or("an input's columns are not those of its contract")?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.len()));
    let rows = RecordBatch::try_new_with_options(row_type.clone(), columns, &options).map_err(|error| error.to_string())?;
    Ok(Batch { rows, ..batch.clone() })
}

/// All rows of several batches of one schema, in order.
pub(super) fn together(batches: &[Batch]) -> Result<Option<Batch>, String> {
    let Some(first) = batches.first() else { return Ok(None) };
    let rows = arrow::compute::concat_batches(&first.rows.schema(), batches.iter().map(|batch| &batch.rows));
    let deletes = batches.iter().flat_map(|batch| (0..batch.len()).map(|row| Some(batch.is_delete(row))));
    let deletes: BooleanArray = deletes.collect();
    Ok(Some(Batch {
        rows: rows.map_err(|error| error.to_string())?,
        times: batches.iter().flat_map(|batch| batch.times.iter().copied()).collect(),
        deletes: Some(deletes),
        origins: None,
    }))
}
