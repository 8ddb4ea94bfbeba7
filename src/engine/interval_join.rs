//! Interval join: the rows of two streams that have the same key and event times close to each other.
//!
//! Both sides are kept by key and time for as long as a row that is not late can find them. A row that arrives meets the
//! kept rows of the other side, so each pair is found once, when its later row arrives. Pairs are only numbers until the
//! step ends: then the rest of the condition is evaluated over all of them, and the results are made in event-time order.
//! A left row without a partner is sent when the watermark has passed its last chance.

use std::collections::{BTreeSet, VecDeque};

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
    /// Left rows that have no partner yet, when they are wanted: time and number.
    unmatched: BTreeSet<(i64, RowId)>,
    watermark: i64,
    late: u64,
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
            left: Side::new(keys.0, inputs.0, bounds.1.max(0)),
            right: Side::new(keys.1, inputs.1, bounds.0.saturating_neg().max(0)),
            bounds,
            residual: residual.map(|condition| Residual::compile(condition, schema)).transpose()?,
            kind,
            output: Output::new(schema, wanted),
            eager,
            candidates: Vec::new(),
            results: Vec::new(),
            unmatched: BTreeSet::new(),
            watermark: i64::MIN,
            late: 0,
            failures: Vec::new(),
        })
    }

    /// How far before the watermark the left and the right input must be read again to have the same state, and to make
    /// again the results of the last `results_ms` before the watermark.
    pub(crate) fn windows_ms(bounds: (i64, i64), kind: JoinKind, results_ms: i64) -> (i64, i64) {
        let left = results_ms.saturating_add(bounds.1.max(0));
        let right = results_ms.saturating_add(bounds.0.saturating_neg().max(0));
        match kind {
            JoinKind::Inner | JoinKind::Right | JoinKind::Full => (left, right),
            // Whether a left row has found a partner already must be known too.
            JoinKind::Left => (left, right.max(left.saturating_sub(bounds.0))),
        }
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
            if port == LEFT && self.kind == JoinKind::Left {
                self.unmatched.insert((time, row));
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
        if self.kind == JoinKind::Left {
            for pair in self.results.iter().skip(before) {
                self.unmatched.remove(&(pair.left_time, pair.left));
            }
        }
        self.candidates = candidates;
        self.candidates.clear();
        Ok(())
    }

    /// Left rows that have had their last chance become results.
    fn give_up(&mut self, watermark: i64) {
        let horizon = watermark.saturating_sub(self.left.lasts_ms);
        while let Some((left_time, left)) = self.unmatched.first().copied().filter(|(time, _)| *time < horizon) {
            self.unmatched.pop_first();
            self.results.push(Pair { left, right: NO_ROW, left_time, right_time: i64::MIN });
        }
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
    fn new(key: KeyEncoder, schema: &DFSchema, lasts_ms: i64) -> Self {
        let rows = Arena::new(nullable(schema));
        Side { key, rows, buckets: KeyMap::default(), entries: 0, lasts_ms, horizon: i64::MIN }
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
        self.rows.bytes() + keys + self.entries * size_of::<(i64, RowId)>()
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
        let gone = self.left.horizon;
        while self.unmatched.first().is_some_and(|(time, _)| *time < gone) {
            self.unmatched.pop_first();
        }
    }

    fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn state_bytes(&self) -> usize {
        self.left.bytes() + self.right.bytes() + self.unmatched.len() * size_of::<(i64, RowId)>()
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
