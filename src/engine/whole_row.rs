//! Whole rows as bytes: the form in which operators that take rows back keep, compare and send them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, new_null_array};
use arrow::compute::nullif;
use arrow::datatypes::SchemaRef;
use datafusion_common::DFSchema;

use super::batch::{Batch, rows_of};
use super::error::{CompileError, Failure};
use super::expression::{Expression, nullable};
use super::key::{KeyEncoder, Keys};
use crate::sql::query::Changes;

/// Rows per batch of rows that are sent again.
const BATCH_ROWS: usize = 1024;

/// The columns of a row that anybody reads, as bytes. The others come back as nulls: rows that differ only in them are
/// equal.
#[derive(Debug)]
pub(crate) struct WholeRow {
    encoder: KeyEncoder,
    /// Positions of the columns that are kept.
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl WholeRow {
    /// Rows of `schema`; `wanted` says of each column whether anybody reads it.
    pub(crate) fn new(schema: &DFSchema, wanted: &[bool]) -> Result<Self, CompileError> {
        WholeRow::kept(schema, wanted, KeyEncoder::verbatim)
    }

    /// Rows of `schema` of which equal ones, as SQL means it, are one.
    pub(crate) fn compared(schema: &DFSchema) -> Result<Self, CompileError> {
        WholeRow::kept(schema, &vec![true; schema.fields().len()], KeyEncoder::for_rows)
    }

    fn kept(
        schema: &DFSchema,
        wanted: &[bool],
        encoder: impl Fn(Vec<Expression>) -> Result<KeyEncoder, CompileError>,
    ) -> Result<Self, CompileError> {
        let wanted = wanted.get(..schema.fields().len()).unwrap_or(wanted);
        let columns: Vec<usize> = wanted.iter().enumerate().filter(|(_, wanted)| **wanted).map(|(column, _)| column).collect();
        let expressions = columns.iter().map(|at| Expression::column(*at, schema)).collect::<Result<_, _>>()?;
        Ok(WholeRow { encoder: encoder(expressions)?, columns, schema: nullable(schema) })
    }

    /// The same rows, which are sent with the columns of `schema`: those that they have not are added by who sends them.
    pub(crate) fn sent_as(self, schema: &DFSchema) -> Self {
        WholeRow { schema: nullable(schema), ..self }
    }

    /// The rows' columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What decides the bytes' meaning.
    pub(crate) fn meaning(&self) -> String {
        let column = |at: &usize| format!("{at} {}", self.schema.field(*at).data_type());
        self.columns.iter().map(column).collect::<Vec<_>>().join(", ")
    }

    /// A batch's rows as bytes.
    pub(crate) fn encode(&self, rows: &RecordBatch) -> Result<Keys, Failure> {
        self.encoder.encode(rows)
    }

    /// The columns of some rows; nulls for those that were not kept.
    fn decode<'a>(&self, rows: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, Failure> {
        let length = rows.len();
        let mut kept = self.columns.iter().zip(self.encoder.decode(rows)?).peekable();
        let column = |at: usize| match kept.next_if(|(column, _)| **column == at) {
            Some((_, values)) => values,
            None => new_null_array(self.schema.field(at).data_type(), length),
        };
        Ok((0..self.schema.fields().len()).map(column).collect())
    }
}

/// Rows to be sent, in the order in which they were caused.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    bytes: Vec<u8>,
    /// Where each row's bytes end.
    ends: Vec<usize>,
    times: Vec<i64>,
    deletes: Vec<bool>,
    origins: Vec<u64>,
    /// The values of a last column that the kept rows do not have; none at all if they have it.
    numbers: Vec<i64>,
}

/// What caused a row: its event time is the result's, and so is its record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cause {
    pub(crate) time: i64,
    origin: Option<u64>,
}

impl Cause {
    /// Row `i` of a batch.
    pub(crate) fn row(batch: &Batch, i: usize) -> Self {
        let time = batch.times.get(i).copied().unwrap_or(i64::MIN);
        Cause { time, origin: batch.origins.as_ref().and_then(|origins| origins.get(i).copied()) }
    }

    /// A time of which the record is not known any more.
    pub(crate) fn time(time: i64) -> Self {
        Cause { time, origin: None }
    }
}

impl Sending {
    pub(crate) fn insert(&mut self, row: &[u8], cause: Cause) {
        self.push(row, cause, false);
    }

    pub(crate) fn delete(&mut self, row: &[u8], cause: Cause) {
        self.push(row, cause, true);
    }

    /// The same with a number behind the row's columns.
    pub(crate) fn numbered(&mut self, row: &[u8], number: i64, cause: Cause, delete: bool) {
        self.push(row, cause, delete);
        self.numbers.push(number);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    fn push(&mut self, row: &[u8], cause: Cause, delete: bool) {
        self.bytes.extend(row);
        self.ends.push(self.bytes.len());
        self.times.push(cause.time);
        self.deletes.push(delete);
        self.origins.extend(cause.origin);
    }

    fn rows(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.ends.len()).map(|i| {
            let start = i.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
            self.ends.get(i).and_then(|end| self.bytes.get(start..*end)).unwrap_or_default()
        })
    }

    /// The rows as a batch; `None` if there are none. Of a delete on an upsert edge only the key's columns are said.
    pub(crate) fn into_batch(self, form: &WholeRow, changes: &Changes) -> Result<Option<Batch>, Failure> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut columns = form.decode(self.rows())?;
        if !self.numbers.is_empty() {
            columns.pop();
            columns.push(Arc::new(Int64Array::from(self.numbers)));
        }
        let deletes = self.deletes.contains(&true).then(|| BooleanArray::from(self.deletes));
        if let (Changes::Upsert(key), Some(deletes)) = (changes, &deletes) {
            for (_, column) in columns.iter_mut().enumerate().filter(|(at, _)| !key.contains(at)) {
                *column = nullif(column, deletes)?;
            }
        }
        let rows = rows_of(&form.schema, columns, self.times.len())?;
        // All rows of one batch have origins or none has.
        let origins = (self.origins.len() == self.times.len()).then(|| self.origins.into());
        Ok(Some(Batch { rows, times: self.times.into(), deletes, origins }))
    }
}

/// Rows that were sent before, with their times, as batches of inserts.
pub(crate) fn batches<'a>(
    rows: impl Iterator<Item = (&'a [u8], i64)>,
    form: &WholeRow,
    changes: &Changes,
) -> Result<Vec<Batch>, Failure> {
    let mut batches = Vec::new();
    let mut sending = Sending::default();
    for (row, time) in rows {
        sending.insert(row, Cause::time(time));
        if sending.len() == BATCH_ROWS {
            batches.extend(std::mem::take(&mut sending).into_batch(form, changes)?);
        }
    }
    batches.extend(sending.into_batch(form, changes)?);
    Ok(batches)
}
