//! Batches: rows that travel along an edge of the dataflow.

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{cast, take, take_arrays};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

/// Rows with their event times and what each does.
#[derive(Debug, Clone)]
pub struct Batch {
    pub rows: RecordBatch,
    /// Event time of each row, milliseconds since 1970, UTC.
    pub times: ScalarBuffer<i64>,
    /// `true` where the row is deleted; `None`: all are inserted. What a delete means is the edge's `Changes`.
    pub deletes: Option<BooleanArray>,
    /// The record that each row came from, for rows that are told by it when they fail or are late: its batch among those
    /// given to the step (upper 32 bits), and its row there. `None` above operators whose results have no single cause.
    pub origins: Option<ScalarBuffer<u64>>,
}

impl Batch {
    /// A batch of inserts.
    pub fn inserts(rows: RecordBatch, times: ScalarBuffer<i64>) -> Self {
        debug_assert_eq!(rows.num_rows(), times.len());
        Batch { rows, times, deletes: None, origins: None }
    }

    /// The record that row `i` came from, where it is known: its batch among those given to the step, and its row there.
    pub fn origin(&self, i: usize) -> Option<(usize, usize)> {
        let origin = *self.origins.as_ref()?.get(i)?;
        Some(((origin >> 32) as usize, (origin & u64::from(u32::MAX)) as usize))
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Whether row `i` is deleted.
    pub fn is_delete(&self, i: usize) -> bool {
        self.deletes.as_ref().is_some_and(|d| d.value(i))
    }

    /// Whether any row is deleted.
    pub fn has_deletes(&self) -> bool {
        self.deletes.as_ref().is_some_and(|deletes| deletes.has_true())
    }

    /// `length` rows from `start`, without copying.
    #[must_use]
    pub fn slice(&self, start: usize, length: usize) -> Self {
        Batch {
            rows: self.rows.slice(start, length),
            times: self.times.slice(start, length),
            deletes: self.deletes.as_ref().map(|deletes| deletes.slice(start, length)),
            origins: self.origins.as_ref().map(|origins| origins.slice(start, length)),
        }
    }

    /// The rows at `indices`, which are below its length, in that order.
    pub fn take(&self, indices: &[u32]) -> Result<Self, ArrowError> {
        let wanted = UInt32Array::from(indices.to_vec());
        let columns = take_arrays(self.rows.columns(), &wanted, None)?;
        let deletes = match &self.deletes {
            Some(deletes) => Some(BooleanArray::from(take(deletes, &wanted, None)?.to_data())),
            None => None,
        };
        let times = indices.iter().filter_map(|i| self.times.get(*i as usize)).copied().collect();
        let taken = |origins: &ScalarBuffer<u64>| indices.iter().filter_map(|i| origins.get(*i as usize)).copied().collect();
        let origins = self.origins.as_ref().map(taken);
        Ok(Batch { rows: rows_of(&self.rows.schema(), columns, indices.len())?, times, deletes, origins })
    }

    /// Positions of the rows that are not deleted.
    pub fn inserted(&self) -> Vec<u32> {
        (0..self.len()).filter(|i| !self.is_delete(*i)).filter_map(|i| u32::try_from(i).ok()).collect()
    }
}

/// Columns of `length` rows as a record batch of this schema; nested types that differ only in names or nullability are
/// brought to the schema's.
pub(crate) fn rows_of(schema: &SchemaRef, mut columns: Vec<ArrayRef>, length: usize) -> Result<RecordBatch, ArrowError> {
    for (column, field) in columns.iter_mut().zip(schema.fields()) {
        if column.data_type() != field.data_type() {
            *column = cast(column, field.data_type())?;
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(length));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}
