//! Distinct: each row once.
//!
//! Of rows that are only added the first of equal ones goes on, and what has gone on is remembered for ever; it is kept in
//! the changelog, since those rows are long gone from the input. Of rows that are taken back equal ones are counted: the
//! first insert goes on, and the last delete. The counts come back with the tables below.

use datafusion_common::DFSchema;
use hashbrown::hash_map::EntryRef;

use super::batch::Batch;
use super::describe::{Description, State};
use super::error::{CompileError, Failure, StateError};
use super::key::KeyMap;
use super::operator::{Operator, WriteState};
use super::saved::{Reader, Saved};
use super::whole_row::{Cause, Sending, WholeRow, batches};
use crate::sql::query::Changes;

pub(crate) struct Distinct {
    form: WholeRow,
    changes: Changes,
    /// Tells state of this query from that of another.
    layout: u32,
    there: KeyMap<There>,
    /// Rows that came since the state was saved. Only where rows are only added.
    unsaved: Vec<Box<[u8]>>,
    bytes: usize,
}

/// What is known of a row.
struct There {
    /// The event time of the row that went on.
    time: i64,
    /// How many equal rows there are. Of rows that are only added it stays 1.
    count: u64,
}

/// What a row's entry takes beside its bytes.
const ENTRY: usize = size_of::<Box<[u8]>>() + size_of::<There>() + 8;

impl Distinct {
    /// For rows of `schema`, which are only added if `changes` says so.
    pub(crate) fn compile(schema: &DFSchema, changes: &Changes) -> Result<Self, CompileError> {
        let form = WholeRow::compared(schema)?;
        let layout = Saved::layout(&format!("distinct\n{}", form.meaning()));
        let changes = changes.clone();
        Ok(Distinct { form, changes, layout, there: KeyMap::default(), unsaved: Vec::new(), bytes: 0 })
    }

    fn insert(&mut self, row: &[u8], cause: Cause, sending: &mut Sending) {
        let appends = self.has_changelog();
        match self.there.entry_ref(row) {
            EntryRef::Occupied(mut place) => {
                let there = place.get_mut();
                there.count = if appends { 1 } else { there.count.saturating_add(1) };
            }
            EntryRef::Vacant(place) => {
                place.insert(There { time: cause.time, count: 1 });
                self.bytes += ENTRY + row.len();
                sending.insert(row, cause);
                if appends {
                    self.unsaved.push(row.into());
                }
            }
        }
    }

    fn delete(&mut self, row: &[u8], cause: Cause, sending: &mut Sending) {
        let Some(there) = self.there.get_mut(row) else { return };
        there.count = there.count.saturating_sub(1);
        if there.count == 0 {
            self.there.remove(row);
            self.bytes = self.bytes.saturating_sub(ENTRY + row.len());
            sending.delete(row, cause);
        }
    }
}

impl Operator for Distinct {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let rows = self.form.encode(&batch.rows)?;
        let mut sending = Sending::default();
        for i in 0..batch.len() {
            let cause = Cause::row(batch, i);
            match batch.is_delete(i) {
                true => self.delete(rows.bytes(i), cause, &mut sending),
                false => self.insert(rows.bytes(i), cause, &mut sending),
            }
        }
        sending.into_batch(&self.form, &self.changes)
    }

    fn is_pure(&self, _port: usize) -> bool {
        false
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }

    fn has_changelog(&self) -> bool {
        self.changes == Changes::Append
    }

    fn drain_changelog(&mut self, write: &mut WriteState<'_>) {
        for row in std::mem::take(&mut self.unsaved) {
            let Some(there) = self.there.get(&row) else { continue };
            let mut saved = Saved::default();
            saved.integer(there.time);
            write(&row, Some(&saved.finish(self.layout, &row)));
        }
    }

    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        if !self.has_changelog() {
            return Err(StateError::UnknownOperator);
        }
        let mut saved = Reader::open(value, self.layout, key)?;
        let time = saved.integer()?;
        saved.end()?;
        if self.there.insert(key.into(), There { time, count: 1 }).is_none() {
            self.bytes += ENTRY + key.len();
        }
        Ok(())
    }

    fn recall(&mut self) -> Result<Vec<Batch>, Failure> {
        if !self.has_changelog() {
            return Ok(Vec::new());
        }
        let mut rows: Vec<(&[u8], i64)> = self.there.iter().map(|(row, there)| (row.as_ref(), there.time)).collect();
        rows.sort_unstable_by_key(|(row, time)| (*time, *row));
        batches(rows.into_iter(), &self.form, &self.changes)
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let description = Description::stateless("distinct", self.form.schema(), &self.changes, inputs);
        let (what, why, rebuilt) = match self.has_changelog() {
            true => (
                format!("one entry for each of {} different rows, for ever: it grows with them", self.there.len()),
                "since an equal row may come at any time",
                "the changelog",
            ),
            false => (
                format!("how often each of {} different rows is there", self.there.len()),
                "since a row goes when the last of equal ones does",
                "the tables below, their topics read whole",
            ),
        };
        description.state(State { what, why: why.into(), rebuilt: rebuilt.into(), bytes: self.bytes })
    }
}
