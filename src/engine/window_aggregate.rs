//! Aggregate over windows: one row for each group of a window of event time.
//!
//! A group is closed when the watermark reaches its window's end and the grace after it. With `Emit::Final` it is sent
//! then, once; with `Emit::Changes` it was sent with each step that changed it. Then it is forgotten, so that the state
//! is no larger than the windows that are open, and rows that come for it are late. What was closed is known by the
//! watermark alone, which is kept in the changelog beside the groups: a window that was sent is not opened again.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType};
use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::batch::Batch;
use super::dataflow::Rebuild;
use super::describe::{Description, State};
use super::error::{CompileError, Failure, StateError};
use super::expression::Expression;
use super::groups::{Groups, Prepared};
use super::operator::{Operator, WriteState};
use super::saved::{Reader, Saved};
use crate::sql::query::{self, Changes, Emit, WindowGroup};

/// The state record that holds the watermark. A group's key is never empty: its window is a part of it.
const WATERMARK: &[u8] = b"";

pub(crate) struct WindowAggregate {
    groups: Groups,
    window: WindowGroup,
    /// The end of a row's window.
    end: Expression,
    changes: Changes,
    /// The groups by the ends of their windows. Those that are closed, and only kept, stand before the others.
    ends: BTreeSet<(i64, usize)>,
    /// How long a closed group is kept, for an operator above that has to be told again after a restart; `None`: not at all.
    keep_ms: Option<i64>,
    watermark: i64,
    saved_watermark: i64,
    layout: u32,
    late: Vec<Batch>,
    late_rows: u64,
    failures: Vec<Failure>,
}

impl WindowAggregate {
    /// Groups rows of `input`. `rebuild`: which of its results have to be made again after a restart.
    pub(crate) fn compile(
        (group, window): (&[Expr], WindowGroup),
        aggregates: &[query::Aggregate],
        input: &DFSchema,
        schema: &DFSchema,
        changes: &Changes,
        rebuild: Rebuild,
    ) -> Result<Self, CompileError> {
        let missing = || CompileError("a group of a window lacks the window's end".into());
        let end = Expression::compile(group.get(window.end).ok_or_else(missing)?, input)?;
        if !matches!(end.data_type(), DataType::Timestamp(TimeUnit::Millisecond, _)) {
            return Err(CompileError(format!("the end of a window is a timestamp in milliseconds, not {}", end.data_type())));
        }
        if window.grace_ms < 0 {
            return Err(CompileError("the grace of a window is not negative".into()));
        }
        let meaning = format!("{:?} after {} ms", window.emit, window.grace_ms);
        Ok(WindowAggregate {
            groups: Groups::compile(group, aggregates, input, schema, &meaning)?,
            window,
            end,
            changes: changes.clone(),
            ends: BTreeSet::new(),
            keep_ms: match rebuild {
                Rebuild::Nothing => None,
                Rebuild::Window { ms } => Some(ms),
                Rebuild::Whole => Some(i64::MAX),
            },
            watermark: i64::MIN,
            saved_watermark: i64::MIN,
            layout: Saved::layout(&format!("watermark of a window: {meaning}")),
            late: Vec::new(),
            late_rows: 0,
            failures: Vec::new(),
        })
    }

    /// Windows that end up to here are closed at a watermark.
    fn horizon(&self, watermark: i64) -> i64 {
        watermark.saturating_sub(self.window.grace_ms)
    }

    /// The ends of the rows' windows.
    fn ends_of(&self, column: &ArrayRef) -> Result<Vec<i64>, Failure> {
        let fail = |reason: &str| Failure { expression: self.end.text().into(), reason: reason.into() };
        let ends = column.as_primitive_opt::<TimestampMillisecondType>().ok_or_else(|| fail("is not a timestamp"))?;
        if ends.null_count() > 0 {
            return Err(fail("the end of the row's window is NULL"));
        }
        Ok(ends.values().to_vec())
    }

    /// Puts rows into their groups, of which none is closed.
    fn add(&mut self, batch: &Batch, prepared: &Prepared, ends: &[i64]) {
        for (i, (time, end)) in batch.times.iter().zip(ends).enumerate() {
            let (at, new) = self.groups.add(prepared, i, *time);
            if new {
                self.ends.insert((*end, at));
            }
        }
    }

    /// The groups whose windows end after `from` and not after `to`, with the event times of their rows.
    fn ending(&self, from: i64, to: i64) -> Vec<(i64, usize)> {
        let ending = self.ends.range((from, usize::MAX)..).skip_while(|(end, _)| *end <= from);
        ending.take_while(|(end, _)| *end <= to).map(|(end, at)| (end.saturating_sub(1), *at)).collect()
    }

    /// The rows of groups that have changed since they were sent.
    fn changed(&mut self) -> Result<Vec<Batch>, Failure> {
        let changed = self.groups.take_changed();
        if self.window.emit == Emit::Final {
            return Ok(Vec::new());
        }
        let ends = self.ends_of_groups(&changed)?;
        let timed: Vec<(i64, usize)> = ends.into_iter().map(|end| end.saturating_sub(1)).zip(changed).collect();
        self.groups.news(&timed, &mut self.failures)
    }

    fn ends_of_groups(&self, places: &[usize]) -> Result<Vec<i64>, Failure> {
        match self.groups.key_columns(places)?.get(self.window.end) {
            Some(column) => self.ends_of(column),
            None => Ok(Vec::new()),
        }
    }

    /// Forgets closed groups that nobody has to be told of again.
    fn forget_closed(&mut self) {
        let to = match self.keep_ms {
            None => self.horizon(self.watermark),
            Some(ms) => self.horizon(self.watermark).min(self.watermark.saturating_sub(ms)),
        };
        for (time, at) in self.ending(i64::MIN, to) {
            self.ends.remove(&(time.saturating_add(1), at));
            self.groups.remove(at);
        }
    }

    fn state(&self) -> State {
        let open = self.ending(self.horizon(self.watermark), i64::MAX).len();
        let kept = match self.keep_ms {
            None => String::new(),
            Some(i64::MAX) => format!(", and for ever each of the {} that are closed", self.groups.len() - open),
            Some(ms) => format!(", and each of the {} that were closed in the last {ms} ms", self.groups.len() - open),
        };
        let why = match self.keep_ms {
            None => "since their windows may still get rows",
            Some(_) => "since their windows may still get rows, and an operator above remembers the results",
        };
        State {
            what: format!("one entry for each of {open} groups of open windows{kept}"),
            why: why.into(),
            rebuilt: "the changelog".into(),
            bytes: self.state_bytes(),
        }
    }
}

impl Operator for WindowAggregate {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let mut ends = self.ends_of(&self.end.evaluate(&batch.rows)?)?;
        let horizon = self.horizon(self.watermark);
        if ends.iter().all(|end| *end > horizon) {
            let prepared = self.groups.prepare(batch)?;
            self.add(batch, &prepared, &ends);
            return Ok(None);
        }
        let (late, on_time): (Vec<u32>, Vec<u32>) =
            (0u32..).take(batch.len()).partition(|i| ends.get(*i as usize).is_some_and(|end| *end <= horizon));
        let (late, on_time) = (batch.take(&late)?, batch.take(&on_time)?);
        let prepared = self.groups.prepare(&on_time)?;
        ends.retain(|end| *end > horizon);
        self.add(&on_time, &prepared, &ends);
        self.late_rows += late.len() as u64;
        self.late.push(late);
        Ok(None)
    }

    fn is_pure(&self, _port: usize) -> bool {
        false
    }

    fn flush(&mut self) -> Result<Vec<Batch>, Failure> {
        self.changed()
    }

    fn advance(&mut self, watermark: i64) -> Result<Vec<Batch>, Failure> {
        let mut batches = self.changed()?;
        let watermark = self.watermark.max(watermark);
        if self.window.emit == Emit::Final {
            let closing = self.ending(self.horizon(self.watermark), self.horizon(watermark));
            batches = self.groups.rows(&closing, &mut self.failures)?;
        }
        self.watermark = watermark;
        self.forget_closed();
        Ok(batches)
    }

    fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    fn take_late(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.late)
    }

    fn late_rows(&self) -> u64 {
        self.late_rows
    }

    fn state_bytes(&self) -> usize {
        self.groups.bytes() + self.ends.len() * size_of::<(i64, usize)>()
    }

    fn has_changelog(&self) -> bool {
        true
    }

    fn drain_changelog(&mut self, write: &mut WriteState<'_>) {
        self.groups.drain(write);
        if self.watermark != self.saved_watermark {
            self.saved_watermark = self.watermark;
            let mut saved = Saved::default();
            saved.integer(self.watermark);
            write(WATERMARK, Some(&saved.finish(self.layout, WATERMARK)));
        }
    }

    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        if key == WATERMARK {
            let mut saved = Reader::open(value, self.layout, key)?;
            self.watermark = saved.integer()?;
            self.saved_watermark = self.watermark;
            return saved.end();
        }
        let at = self.groups.restore(key, value)?;
        let ends = self.ends_of_groups(&[at]).map_err(|failure| StateError::Damaged(failure.reason))?;
        self.ends.extend(ends.first().map(|end| (*end, at)));
        Ok(())
    }

    /// Groups that have no row were told when they lost it.
    fn recall(&mut self) -> Result<Vec<Batch>, Failure> {
        let last = if self.window.emit == Emit::Final { self.horizon(self.watermark) } else { i64::MAX };
        self.groups.rows(&self.ending(i64::MIN, last), &mut Vec::new())
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let (group, aggregates) = self.groups.text();
        let when = match self.window.emit {
            Emit::Final => "once, when its window closes",
            Emit::Changes => "whenever it changes, until its window closes",
        };
        Description::stateless("window aggregate", self.groups.schema(), &self.changes, inputs)
            .detail("group by", group)
            .detail("aggregates", aggregates)
            .detail("window", format!("closes {} ms after {}", self.window.grace_ms, self.end.text()))
            .detail("sends", format!("each group {when}"))
            .state(self.state())
    }
}
