//! The seam inside the engine: what every operator does.

use super::batch::Batch;
use super::describe::Description;
use super::error::{Failure, StateError};

/// Receives state records: a key and the bytes kept under it, `None` when the key is gone.
pub type WriteState<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// One node of a dataflow. Rows arrive at ports: 0 is the left, the stream or the only input, 1 the right or the table.
pub trait Operator: Send {
    /// Takes rows and returns what they cause at once. On failure nothing was changed.
    fn push(&mut self, port: usize, batch: &Batch) -> Result<Option<Batch>, Failure>;

    /// Whether `push` at this port changes no state, so that it may be tried again.
    fn is_pure(&self, port: usize) -> bool;

    /// Returns what `push` held back only to do it once for many rows.
    fn flush(&mut self) -> Result<Vec<Batch>, Failure> {
        Ok(Vec::new())
    }

    /// Ends a step: returns what `flush` would and what the watermark releases, in event-time order, and forgets what no
    /// row at or after the watermark can need.
    fn advance(&mut self, watermark: i64) -> Result<Vec<Batch>, Failure> {
        let batches = self.flush()?;
        self.forget(watermark);
        Ok(batches)
    }

    /// Forgets what no row at or after `horizon` can need, and returns nothing.
    fn forget(&mut self, _horizon: i64) {}

    /// Results that `advance` or `push` had to leave out because an expression failed on them.
    fn take_failures(&mut self) -> Vec<Failure> {
        Vec::new()
    }

    /// The rows that came after the watermark had passed them and went into no result, since the last call.
    fn take_late(&mut self) -> Vec<Batch> {
        Vec::new()
    }

    /// How many rows came after the watermark had passed them, so that results may be missing.
    fn late_rows(&self) -> u64 {
        0
    }

    /// Estimate of the memory its state takes.
    fn state_bytes(&self) -> usize {
        0
    }

    /// Whether its state is kept in the changelog.
    fn has_changelog(&self) -> bool {
        false
    }

    /// Writes the state that changed since the last call.
    fn drain_changelog(&mut self, _write: &mut WriteState<'_>) {}

    /// Takes back one state record.
    fn restore(&mut self, _key: &[u8], _value: &[u8]) -> Result<(), StateError> {
        Err(StateError::UnknownOperator)
    }

    /// After a restore: all rows it has sent and not taken back, for operators above that must remember them.
    fn recall(&mut self) -> Result<Vec<Batch>, Failure> {
        Ok(Vec::new())
    }

    /// What it is; `inputs` describe what feeds it.
    fn describe(&self, inputs: Vec<Description>) -> Description;
}
