//! Rekey: rows under another key, of which the last to come counts; when it goes, the one before it comes back.
//!
//! All rows of a key are kept, in the order in which they came. A row whose new key has a NULL part can't be found again
//! in a topic: at the root such a row goes up once, for the encoder to set it aside, and is not kept. Below other operators
//! NULL is a value like any other.

use datafusion_common::DFSchema;

use super::batch::Batch;
use super::describe::{Description, State};
use super::error::{CompileError, Failure, StateError};
use super::expression::Expression;
use super::key::KeyEncoder;
use super::operator::{Operator, WriteState};
use super::ranking::{Given, Ranking, Rules};
use super::saved::Saved;
use super::whole_row::{Cause, Sending, WholeRow, batches};
use crate::sql::query::Changes;

pub(crate) struct Rekey {
    key: KeyEncoder,
    form: WholeRow,
    changes: Changes,
    /// Whether its results go to the topic.
    at_root: bool,
    rows: Ranking,
}

impl Rekey {
    /// For rows of `schema` that are taken back whole. `timed`: event times are read above.
    pub(crate) fn compile(
        key: &[usize],
        schema: &DFSchema,
        wanted: &[bool],
        timed: bool,
        at_root: bool,
    ) -> Result<Self, CompileError> {
        let columns = key.iter().map(|at| Expression::column(*at, schema)).collect::<Result<_, _>>()?;
        let form = WholeRow::new(schema, wanted)?;
        let layout = Saved::layout(&format!("rekey by {key:?}\n{}", form.meaning()));
        let rules = Rules { limit: 1, keeps_all: true, newest_first: true, timed, layout };
        let (key, changes) = (KeyEncoder::for_rows(columns)?, Changes::Upsert(key.to_vec()));
        Ok(Rekey { key, form, changes, at_root, rows: Ranking::new(rules) })
    }
}

impl Operator for Rekey {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let keys = self.key.encode(&batch.rows)?;
        let rows = self.form.encode(&batch.rows)?;
        let mut sending = Sending::default();
        for i in 0..batch.len() {
            let cause = Cause::row(batch, i);
            let given = Given { partition: keys.bytes(i), order: &[], row: rows.bytes(i), cause };
            let delete = batch.is_delete(i);
            if self.at_root && keys.is_null(i) {
                if !delete {
                    sending.insert(given.row, cause);
                }
                continue;
            }
            let change = if delete { self.rows.delete(given) } else { self.rows.insert(given) };
            match (change.came, change.gone) {
                (Some(row), _) => sending.insert(&row, cause),
                (None, Some(row)) => sending.delete(&row, cause),
                (None, None) => {}
            }
        }
        sending.into_batch(&self.form, &self.changes)
    }

    fn is_pure(&self, _port: usize) -> bool {
        false
    }

    fn state_bytes(&self) -> usize {
        self.rows.bytes()
    }

    fn has_changelog(&self) -> bool {
        true
    }

    fn drain_changelog(&mut self, write: &mut WriteState<'_>) {
        self.rows.drain_changelog(write);
    }

    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.rows.restore(key, value)
    }

    fn recall(&mut self) -> Result<Vec<Batch>, Failure> {
        let sent = self.rows.all_first();
        batches(sent.iter().map(|(ranked, _)| (ranked.row.as_ref(), ranked.time)), &self.form, &self.changes)
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let (rows, keys) = self.rows.counts();
        Description::stateless("rekey", self.form.schema(), &self.changes, inputs).detail("key", self.key.text()).state(State {
            what: format!("all {rows} rows of {keys} keys, in the order in which they came; it grows with the tables below"),
            why: "since the row before comes back when the last one of a key goes".into(),
            rebuilt: "the changelog, since the tables' topics do not know that order any more".into(),
            bytes: self.rows.bytes(),
        })
    }
}
