//! Batches: rows that travel along an edge of the dataflow.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::ScalarBuffer;

/// Rows with their event times and what each does.
#[derive(Debug, Clone)]
pub struct Batch {
    pub rows: RecordBatch,
    /// Event time of each row, milliseconds since 1970, UTC.
    pub times: ScalarBuffer<i64>,
    /// `true` where the row is deleted; `None`: all are inserted. What a delete means is the edge's `Changes`.
    pub deletes: Option<BooleanArray>,
}

impl Batch {
    /// A batch of inserts.
    pub fn inserts(rows: RecordBatch, times: ScalarBuffer<i64>) -> Self {
        debug_assert_eq!(rows.num_rows(), times.len());
        Batch { rows, times, deletes: None }
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
}
