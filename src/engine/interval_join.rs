//! Interval join: the rows of two streams that have the same key and event times close to each other.
//!
//! Both sides are kept by key and time for as long as a row that is not late can find them. A row that arrives meets the
//! kept rows of the other side, so each pair is found once, when its later row arrives. Pairs are only numbers until the
//! step ends: then the rest of the condition is evaluated over all of them, and the results are made in event-time order.
//! A row without a partner is sent, where its side is wanted whole, when the watermark has passed its last chance: a left
//! row at T can find one up to T + upper, a right one up to T - lower. Of the other side's rows it is told as late if it
//! came after that and found nobody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::arena::{Arena, NO_ROW, RowId};
use super::batch::Batch;
use super::describe::{Description, State};
use super::error::{CompileError, Failure};
use super::expression::nullable;
use super::key::{KeyEncoder, KeyMap};
use super::operator::Operator;
use super::pairs::{Output, Residual, Rows};
use crate::sql::query::{Changes, JoinKind};

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// Rows per batch of results.
const BATCH_ROWS: usize = 1024;

/// Pairs whose condition is evaluated at once, and pairs that may wait for it.
const CONDITION_ROWS: usize = 4096;

pub(crate) struct IntervalJoin {
    left: Side,
    right: Side,
    /// `right.time - left.time` lies between these.
    bounds: (i64, i64),
    residual: Option<Residual>,
    kind: JoinKind,
    output: Output,
    /// Whether results are made at each push, since an operator above depends on their order among other rows.
    eager: bool,
    /// Pairs of this step that the residual condition has not seen, in order of arrival.
    candidates: Vec<Pair>,
    /// Pairs of this step that are results.
    results: Vec<Pair>,
    watermark: i64,
    late: u64,
    /// Rows of this step, by port and number, that came after their last chance and are not sent without a partner.
    too_late: BTreeMap<(usize, RowId), Batch>,
    failures: Vec<Failure>,
}

/// The kept rows of one input.
struct Side {
    key: KeyEncoder,
    rows: Arena,
    /// By key, in the order of time, of equal ones in that of arrival.
    buckets: KeyMap<VecDeque<(i64, RowId)>>,
    /// How many entries the buckets have, those included that are too old.
    entries: usize,
    /// How long after its own time a row may find a partner.
    lasts_ms: i64,
    /// Rows older than this are gone.
    horizon: i64,
    /// Rows that have no partner yet, where they are sent without one: time and number.
    unmatched: Option<BTreeSet<(i64, RowId)>>,
}

#[derive(Debug, Clone, Copy)]
struct Pair {
    left: RowId,
    right: RowId,
    left_time: i64,
    right_time: i64,
}

impl Pair {
    fn time(&self) -> i64 {
        self.left_time.max(self.right_time)
    }
}

/// Whether a join sends the rows of a side without a partner, too.
fn keeps(kind: JoinKind, port: usize) -> bool {
    match kind {
        JoinKind::Inner => false,
        JoinKind::Left => port == LEFT,
        JoinKind::Right => port == RIGHT,
        JoinKind::Full => true,
    }
}

impl IntervalJoin {
    /// Joins by the equality of two keys, where `bounds.0 <= right.rowtime - left.rowtime <= bounds.1`.
    pub(crate) fn compile(
        keys: (KeyEncoder, KeyEncoder),
        inputs: (&DFSchema, &DFSchema),
        bounds: (i64, i64),
        residual: Option<&Expr>,
        kind: JoinKind,
        (schema, wanted): (&DFSchema, &[bool]),
        eager: bool,
    ) -> Result<Self, CompileError> {
        if bounds.0 > bounds.1 {
            return Err(CompileError(format!("no pair of rows is between {} ms and {} ms apart", bounds.0, bounds.1)));
        }
        Ok(IntervalJoin {
            left: Side::new(keys.0, inputs.0, bounds.1.max(0), keeps(kind, LEFT)),
            right: Side::new(keys.1, inputs.1, bounds.0.saturating_neg().max(0), keeps(kind, RIGHT)),
            bounds,
            residual: residual.map(|condition| Residual::compile(condition, schema)).transpose()?,
            kind,
            output: Output::new(schema, wanted),
            eager,
            candidates: Vec::new(),
            results: Vec::new(),
            watermark: i64::MIN,
            late: 0,
            too_late: BTreeMap::new(),
            failures: Vec::new(),
        })
    }

    /// How far before the watermark the left and the right input must be read again to have the same state, and to make
    /// again the results of the last `results_ms` before the watermark.
    pub(crate) fn windows_ms(bounds: (i64, i64), kind: JoinKind, results_ms: i64) -> (i64, i64) {
        let left = results_ms.saturating_add(bounds.1.max(0));
        let right = results_ms.saturating_add(bounds.0.saturating_neg().max(0));
        // Whether a row has found a partner already must be known too, and that may be the oldest it could have.
        let partners_of_left = if keeps(kind, LEFT) { left.saturating_sub(bounds.0) } else { right };
        let partners_of_right = if keeps(kind, RIGHT) { right.saturating_add(bounds.1) } else { left };
        (left.max(partners_of_right), right.max(partners_of_left))
    }

    /// How far the event times of results may lie behind the watermark: that of a row without a partner, when it is sent.
    pub(crate) fn lag_ms((lower, upper): (i64, i64), kind: JoinKind) -> i64 {
        let left = if keeps(kind, LEFT) { upper.max(0) } else { 0 };
        let right = if keeps(kind, RIGHT) { lower.saturating_neg().max(0) } else { 0 };
        left.max(right)
    }

    /// Pairs the rows of a batch with the kept rows of the other side, and keeps them.
    fn meet(&mut self, port: usize, batch: &Batch) -> Result<(), Failure> {
        let (lower, upper) = self.bounds;
        let (own, other) = if port == LEFT { (&mut self.left, &self.right) } else { (&mut self.right, &self.left) };
        let keys = own.key.encode(&batch.rows)?;
        let first = own.rows.append(&batch.rows, &batch.times)?;
        for (i, time) in batch.times.iter().enumerate() {
            let (row, time) = (first + i as RowId, *time);
            self.late += u64::from(time < self.watermark);
            match &mut own.unmatched {
                Some(unmatched) => drop(unmatched.insert((time, row))),
                None if time < own.horizon => drop(self.too_late.insert((port, row), batch.slice(i, 1))),
                None => {}
            }
            let Some(key) = keys.get(i) else { continue };
            if port == LEFT {
                let partners = other.between(key, time.saturating_add(lower), time.saturating_add(upper));
                let pair = |(right_time, right)| Pair { left: row, right, left_time: time, right_time };
                self.candidates.extend(partners.map(pair));
            } else {
                let partners = other.between(key, time.saturating_sub(upper), time.saturating_sub(lower));
                let pair = |(left_time, left)| Pair { left, right: row, left_time, right_time: time };
                self.candidates.extend(partners.map(pair));
            }
            own.keep(key, time, row);
        }
        Ok(())
    }

    /// Evaluates the rest of the condition on the candidates.
    fn decide(&mut self) -> Result<(), Failure> {
        let candidates = std::mem::take(&mut self.candidates);
        let before = self.results.len();
        if let Some(residual) = &self.residual {
            for part in candidates.chunks(CONDITION_ROWS) {
                let (left, right): (Vec<_>, Vec<_>) = part.iter().map(|pair| (pair.left, pair.right)).unzip();
                let left = Rows::Kept(&self.left.rows, &left);
                let right = Rows::Kept(&self.right.rows, &right);
                let holds = residual.try_each(left, right, &mut self.failures)?;
                self.results.extend(part.iter().zip(holds).filter(|(_, holds)| *holds == Some(true)).map(|(pair, _)| *pair));
            }
        } else {
            self.results.extend_from_slice(&candidates);
        }
        for pair in self.results.iter().skip(before) {
            self.left.found(pair.left_time, pair.left);
            self.right.found(pair.right_time, pair.right);
            if !self.too_late.is_empty() {
                self.too_late.remove(&(LEFT, pair.left));
                self.too_late.remove(&(RIGHT, pair.right));
            }
        }
        self.candidates = candidates;
        self.candidates.clear();
        Ok(())
    }

    /// Rows that have had their last chance become results.
    fn give_up(&mut self, watermark: i64) {
        let left = self.left.given_up(watermark).map(|(left_time, left)| (left, NO_ROW, left_time, i64::MIN));
        let right = self.right.given_up(watermark).map(|(right_time, right)| (NO_ROW, right, i64::MIN, right_time));
        let alone = left.chain(right).map(|(left, right, left_time, right_time)| Pair { left, right, left_time, right_time });
        self.results.extend(alone);
    }

    /// Makes the results' rows, in the order of time, of equal ones in that of arrival.
    fn send(&mut self, most: usize) -> Result<Vec<Batch>, Failure> {
        let mut results = std::mem::take(&mut self.results);
        if !results.is_sorted_by_key(Pair::time) {
            results.sort_by_key(Pair::time);
        }
        let batch = |part: &[Pair]| {
            let (left, right): (Vec<_>, Vec<_>) = part.iter().map(|pair| (pair.left, pair.right)).unzip();
            let (left, right) = (Rows::Kept(&self.left.rows, &left), Rows::Kept(&self.right.rows, &right));
            let rows = self.output.pairs(left, right)?;
            Ok(Batch::inserts(rows, part.iter().map(Pair::time).collect()))
        };
        results.chunks(most.max(1)).map(batch).collect()
    }
}

impl Side {
    fn new(key: KeyEncoder, schema: &DFSchema, lasts_ms: i64, keeps: bool) -> Self {
        let (rows, unmatched) = (Arena::new(nullable(schema)), keeps.then(BTreeSet::new));
        Side { key, rows, buckets: KeyMap::default(), entries: 0, lasts_ms, horizon: i64::MIN, unmatched }
    }

    /// A row has a partner.
    fn found(&mut self, time: i64, row: RowId) {
        if let Some(unmatched) = &mut self.unmatched {
            unmatched.remove(&(time, row));
        }
    }

    /// Takes the rows that can't find a partner any more, by time.
    fn given_up(&mut self, watermark: i64) -> impl Iterator<Item = (i64, RowId)> + use<> {
        let horizon = watermark.saturating_sub(self.lasts_ms);
        let gone = self.unmatched.as_mut().map(|unmatched| {
            let later = unmatched.split_off(&(horizon, RowId::MIN));
            std::mem::replace(unmatched, later)
        });
        gone.into_iter().flatten()
    }

    /// The kept rows of a key with a time from `first` to `last`, both included.
    fn between(&self, key: &[u8], first: i64, last: i64) -> impl Iterator<Item = (i64, RowId)> + '_ {
        let first = first.max(self.horizon);
        let bucket = self.buckets.get(key);
        let rows = bucket.map(|bucket| bucket.range(bucket.partition_point(|(time, _)| *time < first)..));
        rows.into_iter().flatten().take_while(move |(time, _)| *time <= last).copied()
    }

    fn keep(&mut self, key: &[u8], time: i64, row: RowId) {
        if time < self.horizon {
            return;
        }
        let bucket = self.buckets.entry_ref(key).or_default();
        while bucket.front().is_some_and(|(time, _)| *time < self.horizon) {
            bucket.pop_front();
            self.entries -= 1;
        }
        match bucket.back() {
            Some((last, _)) if *last > time => bucket.insert(bucket.partition_point(|(other, _)| *other <= time), (time, row)),
            _ => bucket.push_back((time, row)),
        }
        self.entries += 1;
    }

    fn forget(&mut self, horizon: i64) {
        self.horizon = self.horizon.max(horizon.saturating_sub(self.lasts_ms));
        self.rows.drop_before(self.horizon);
        drop(self.given_up(horizon));
        if self.entries > 2 * self.rows.len() + CONDITION_ROWS {
            let mut entries = 0;
            self.buckets.retain(|_, bucket| {
                bucket.drain(..bucket.partition_point(|(time, _)| *time < self.horizon));
                entries += bucket.len();
                !bucket.is_empty()
            });
            self.entries = entries;
        }
    }

    fn bytes(&self) -> usize {
        let keys: usize = self.buckets.keys().map(|key| key.len() + 64).sum();
        let unmatched = self.unmatched.as_ref().map_or(0, BTreeSet::len);
        self.rows.bytes() + keys + (self.entries + unmatched) * size_of::<(i64, RowId)>()
    }
}

impl Operator for IntervalJoin {
    fn push(&mut self, port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        self.meet(port, batch)?;
        if self.eager {
            self.decide()?;
            return Ok(self.send(usize::MAX)?.pop());
        }
        if self.candidates.len() >= CONDITION_ROWS {
            self.decide()?;
        }
        Ok(None)
    }

    fn is_pure(&self, _port: usize) -> bool {
        false
    }

    fn flush(&mut self) -> Result<Vec<Batch>, Failure> {
        self.decide()?;
        self.send(BATCH_ROWS)
    }

    fn advance(&mut self, watermark: i64) -> Result<Vec<Batch>, Failure> {
        self.decide()?;
        self.give_up(watermark);
        let batches = self.send(BATCH_ROWS)?;
        self.watermark = self.watermark.max(watermark);
        self.forget(watermark);
        Ok(batches)
    }

    fn forget(&mut self, horizon: i64) {
        self.left.forget(horizon);
        self.right.forget(horizon);
    }

    fn take_late(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.too_late).into_values().collect()
    }

    fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn state_bytes(&self) -> usize {
        self.left.bytes() + self.right.bytes()
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let name = match self.kind {
            JoinKind::Inner => "interval join".to_string(),
            kind => format!("{} interval join", kind.name()),
        };
        Description::stateless(&name, self.output.schema(), &Changes::Append, inputs)
            .detail("on", format!("{} = {}", self.left.key.text(), self.right.key.text()))
            .detail("time", format!("right - left between {} ms and {} ms", self.bounds.0, self.bounds.1))
            .detail_if("where", self.residual.as_ref().map(Residual::text))
            .state(State {
                what: format!(
                    "the left rows of the last {} ms before the watermark, the right ones of the last {} ms",
                    self.left.lasts_ms, self.right.lasts_ms
                ),
                why: "since their partners may still come".into(),
                rebuilt: "the inputs' topics, read from that far before the watermark".into(),
                bytes: self.state_bytes(),
            })
    }
}
