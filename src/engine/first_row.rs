//! First row: of rows that are only added the first one of each partition by event time, once and for ever.
//!
//! A row is held until the watermark says that none before it comes any more; of equal times the first to arrive counts.
//! Which partitions have sent their row is remembered for ever. A row that would have been the first and comes later is late.

use std::collections::BTreeSet;

use datafusion_common::DFSchema;
use datafusion_expr::Expr;
use hashbrown::hash_map::EntryRef;

use super::batch::Batch;
use super::describe::{Description, State};
use super::error::{CompileError, Failure, StateError};
use super::expression::Expression;
use super::key::{KeyEncoder, KeyMap};
use super::operator::{Operator, WriteState};
use super::saved::{Reader, Saved};
use super::whole_row::{Cause, Sending, WholeRow};
use crate::sql::query::Changes;

pub(crate) struct FirstRow {
    partition: KeyEncoder,
    form: WholeRow,
    numbered: bool,
    /// Whether rows that were sent are kept, for operators above that must remember them.
    keeps_sent: bool,
    /// Tells state of this query from that of another.
    layout: u32,
    first: KeyMap<First>,
    /// Partitions whose row is held, by its time.
    held: BTreeSet<(i64, Box<[u8]>)>,
    unsaved: BTreeSet<Box<[u8]>>,
    late: Vec<Batch>,
    late_rows: u64,
    bytes: usize,
}

/// The first row of a partition so far.
struct First {
    time: i64,
    /// `None` when it was sent and nobody needs it any more.
    row: Option<Box<[u8]>>,
    sent: bool,
}

/// What a partition's entry takes beside its bytes.
const ENTRY: usize = size_of::<First>() + size_of::<Box<[u8]>>() + 8;

impl FirstRow {
    /// For rows of `input`, which are made rows of `schema`: the same with a number if `numbered`. `read` says which of the
    /// input's columns anybody reads.
    pub(crate) fn compile(
        partition: &[Expr],
        numbered: bool,
        (input, schema): (&DFSchema, &DFSchema),
        read: &[bool],
        keeps_sent: bool,
    ) -> Result<Self, CompileError> {
        let partition = partition.iter().map(|expr| Expression::compile(expr, input)).collect::<Result<_, _>>()?;
        let partition = KeyEncoder::for_rows(partition)?;
        let form = WholeRow::new(input, read)?;
        let layout = Saved::layout(&format!("first row\n{}\n{}\n{keeps_sent}", partition.text(), form.meaning()));
        Ok(FirstRow {
            partition,
            form: form.sent_as(schema),
            numbered,
            keeps_sent,
            layout,
            first: KeyMap::default(),
            held: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            late: Vec::new(),
            late_rows: 0,
            bytes: 0,
        })
    }

    /// Takes a row in; returns whether it is late.
    fn offer(&mut self, partition: &[u8], time: i64, row: &[u8]) -> bool {
        match self.first.entry_ref(partition) {
            EntryRef::Vacant(place) => {
                place.insert(First { time, row: Some(row.into()), sent: false });
                self.bytes += ENTRY + partition.len() + row.len();
            }
            EntryRef::Occupied(mut place) => {
                let first = place.get_mut();
                if first.time <= time {
                    return false;
                }
                if first.sent {
                    return true;
                }
                self.held.remove(&(first.time, partition.into()));
                let before = first.row.replace(row.into());
                self.bytes = (self.bytes + row.len()).saturating_sub(before.map_or(0, |row| row.len()));
                first.time = time;
            }
        }
        self.held.insert((time, partition.into()));
        self.unsaved.insert(partition.into());
        false
    }

    fn send(&self, row: &[u8], time: i64, sending: &mut Sending) {
        match self.numbered {
            true => sending.numbered(row, 1, Cause::time(time), false),
            false => sending.insert(row, Cause::time(time)),
        }
    }

    /// The rows that none can precede any more.
    fn release(&mut self, watermark: i64) -> Result<Option<Batch>, Failure> {
        let mut sending = Sending::default();
        while self.held.first().is_some_and(|(time, _)| *time <= watermark) {
            let Some((time, partition)) = self.held.pop_first() else { break };
            let Some(mut first) = self.first.remove(&partition) else { continue };
            first.sent = true;
            let row = if self.keeps_sent { first.row.clone() } else { first.row.take() };
            self.send(row.as_deref().unwrap_or_default(), time, &mut sending);
            if first.row.is_none() {
                self.bytes = self.bytes.saturating_sub(row.map_or(0, |row| row.len()));
            }
            self.first.insert(partition.clone(), first);
            self.unsaved.insert(partition);
        }
        sending.into_batch(&self.form, &Changes::Append)
    }
}

impl Operator for FirstRow {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let partitions = self.partition.encode(&batch.rows)?;
        let rows = self.form.encode(&batch.rows)?;
        let mut late = Vec::new();
        for ((i, time), at) in batch.times.iter().enumerate().zip(0u32..) {
            if self.offer(partitions.bytes(i), *time, rows.bytes(i)) {
                late.push(at);
            }
        }
        if !late.is_empty() {
            self.late_rows += late.len() as u64;
            self.late.push(batch.take(&late)?);
        }
        Ok(None)
    }

    fn is_pure(&self, _port: usize) -> bool {
        false
    }

    fn advance(&mut self, watermark: i64) -> Result<Vec<Batch>, Failure> {
        Ok(self.release(watermark)?.into_iter().collect())
    }

    fn take_late(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.late)
    }

    fn late_rows(&self) -> u64 {
        self.late_rows
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }

    fn has_changelog(&self) -> bool {
        true
    }

    fn drain_changelog(&mut self, write: &mut WriteState<'_>) {
        for partition in std::mem::take(&mut self.unsaved) {
            let Some(first) = self.first.get(&partition) else { continue };
            let mut saved = Saved::default();
            saved.integer(first.time);
            saved.integer(i64::from(first.sent));
            saved.integer(i64::from(first.row.is_some()));
            saved.bytes(first.row.as_deref().unwrap_or_default());
            write(&partition, Some(&saved.finish(self.layout, &partition)));
        }
    }

    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let mut saved = Reader::open(value, self.layout, key)?;
        let (time, sent, kept) = (saved.integer()?, saved.integer()? != 0, saved.integer()? != 0);
        let row: Option<Box<[u8]>> = Some(saved.bytes()?).filter(|_| kept).map(Into::into);
        saved.end()?;
        if !sent {
            self.held.insert((time, key.into()));
        }
        self.bytes += ENTRY + key.len() + row.as_ref().map_or(0, |row| row.len());
        self.first.insert(key.into(), First { time, row, sent });
        Ok(())
    }

    fn recall(&mut self) -> Result<Vec<Batch>, Failure> {
        let sent = self.first.iter().filter(|(_, first)| first.sent);
        let mut sent: Vec<(i64, &[u8], &[u8])> =
            sent.filter_map(|(partition, first)| Some((first.time, partition.as_ref(), first.row.as_deref()?))).collect();
        sent.sort_unstable();
        let mut sending = Sending::default();
        sent.iter().for_each(|(time, _, row)| self.send(row, *time, &mut sending));
        Ok(sending.into_batch(&self.form, &Changes::Append)?.into_iter().collect())
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let (partitions, held) = (self.first.len(), self.held.len());
        let rows = if self.keeps_sent { " with their rows" } else { "" };
        Description::stateless("first row", self.form.schema(), &Changes::Append, inputs)
            .detail("partition by", self.partition.text())
            .detail("order by", "rowtime")
            .state(State {
                what: format!(
                    "{held} rows until the watermark passes them, and {partitions} partitions{rows}, for ever: it grows with them"
                ),
                why: "since a partition sends its row once".into(),
                rebuilt: "the changelog".into(),
                bytes: self.bytes,
            })
    }
}
