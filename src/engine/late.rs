//! Late rows: those that came after the watermark had passed them and went into no result, for the late channel.

use arrow::array::RecordBatch;

use super::batch::Batch;

/// A row that an operator had to leave out because it came too late.
#[derive(Debug, Clone, PartialEq)]
pub struct LateRow {
    /// The record that it came from: position of its batch among those given to `step`, and of its row there. `None`
    /// when the row is the result of a join or of an aggregate and has no single cause.
    pub record: Option<(usize, usize)>,
    /// The input that record belongs to.
    pub input: Option<usize>,
    /// Its event time, milliseconds since 1970, UTC.
    pub time: i64,
    /// The row as it came to the operator: its columns there, of which those that nobody reads may be null.
    pub row: RecordBatch,
}

/// The place of a row among the batches given to a step, as `Batch::origins` has it.
pub(crate) fn origin(batch: usize, row: usize) -> u64 {
    const MOST: usize = u32::MAX as usize;
    (batch.min(MOST) as u64) << 32 | row.min(MOST) as u64
}

/// The rows of a batch that an operator left out, one by one. `inputs`: those of the batches given to the step.
pub(crate) fn late_rows<'a>(batch: &'a Batch, inputs: &'a [usize]) -> impl Iterator<Item = LateRow> + 'a {
    batch.times.iter().enumerate().map(|(i, time)| {
        let record = batch.origin(i);
        let input = record.and_then(|(at, _)| inputs.get(at).copied());
        LateRow { record, input, time: *time, row: batch.rows.slice(i, 1) }
    })
}
