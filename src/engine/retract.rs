//! Retract: a table's rows as inserts and deletes of whole rows, for operators that must take old rows back.
//!
//! The last row of each key is kept. A new one takes the old one back, first the delete, then the insert, both with the
//! new row's event time. A row that is equal to the one that is there, in all columns that anybody reads, changes nothing;
//! where event times are read above, it must have the same one. A delete of a key that is not there vanishes.

use hashbrown::hash_map::EntryRef;

use super::batch::Batch;
use super::describe::{Description, State};
use super::error::{CompileError, Failure};
use super::expression::Expression;
use super::key::{KeyEncoder, KeyMap};
use super::operator::Operator;
use super::whole_row::{Cause, Sending, WholeRow};
use crate::sql::query::Changes;
use datafusion_common::DFSchema;

pub(crate) struct Retract {
    key: KeyEncoder,
    form: WholeRow,
    /// Whether event times are read above.
    times: bool,
    last: KeyMap<Last>,
    bytes: usize,
}

/// The last row of a key.
struct Last {
    time: i64,
    row: Box<[u8]>,
}

/// What a key's entry takes beside its bytes.
const ENTRY: usize = size_of::<Box<[u8]>>() + size_of::<Last>() + 8;

impl Retract {
    /// For rows of `schema` that replace one another by the columns at `key`.
    pub(crate) fn compile(key: &[usize], schema: &DFSchema, wanted: &[bool], times: bool) -> Result<Self, CompileError> {
        let key = key.iter().map(|at| Expression::column(*at, schema)).collect::<Result<_, _>>()?;
        let form = WholeRow::new(schema, wanted)?;
        Ok(Retract { key: KeyEncoder::for_rows(key)?, form, times, last: KeyMap::default(), bytes: 0 })
    }

    fn insert(&mut self, key: &[u8], row: &[u8], cause: Cause, sending: &mut Sending) {
        let last = || Last { time: cause.time, row: row.into() };
        match self.last.entry_ref(key) {
            EntryRef::Vacant(place) => {
                self.bytes += ENTRY + key.len() + row.len();
                place.insert(last());
            }
            EntryRef::Occupied(mut place) => {
                let before = place.get_mut();
                if *before.row == *row && (before.time == cause.time || !self.times) {
                    return;
                }
                self.bytes = (self.bytes + row.len()).saturating_sub(before.row.len());
                sending.delete(&before.row, cause);
                *before = last();
            }
        }
        sending.insert(row, cause);
    }

    fn delete(&mut self, key: &[u8], cause: Cause, sending: &mut Sending) {
        if let Some(before) = self.last.remove(key) {
            self.bytes = self.bytes.saturating_sub(ENTRY + key.len() + before.row.len());
            sending.delete(&before.row, cause);
        }
    }
}

impl Operator for Retract {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let keys = self.key.encode(&batch.rows)?;
        let rows = self.form.encode(&batch.rows)?;
        let mut sending = Sending::default();
        for i in 0..batch.len() {
            let cause = Cause::row(batch, i);
            match batch.is_delete(i) {
                true => self.delete(keys.bytes(i), cause, &mut sending),
                false => self.insert(keys.bytes(i), rows.bytes(i), cause, &mut sending),
            }
        }
        sending.into_batch(&self.form, &Changes::Retract)
    }

    fn is_pure(&self, _port: usize) -> bool {
        false
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        Description::stateless("retract", self.form.schema(), &Changes::Retract, inputs).state(State {
            what: format!("the last row of each of {} keys ({})", self.last.len(), self.key.text()),
            why: "since an operator above must take back the whole row when it changes".into(),
            rebuilt: "the tables below, their topics read whole".into(),
            bytes: self.bytes,
        })
    }
}
