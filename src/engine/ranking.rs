//! Ranked rows: what the operators share that send the first rows of each partition and need those behind them when one
//! of the first goes.
//!
//! Rows are ranked by an order, and by their arrival where it says nothing. The arrival of a row is known to nobody else
//! once the row is there, so the rows are kept in the changelog, each in a record of its own under its arrival.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::error::StateError;
use super::key::KeyMap;
use super::operator::WriteState;
use super::saved::{Reader, Saved};
use super::whole_row::Cause;

#[derive(Debug)]
pub(crate) struct Ranking {
    rules: Rules,
    partitions: KeyMap<Partition>,
    /// The arrivals of equal rows, where rows may go.
    arrivals: HashMap<Arc<[u8]>, Vec<u64>, FixedState>,
    /// How many rows have arrived, and how many had when that was saved.
    next: u64,
    saved_next: u64,
    /// State records that were not written yet, by arrival.
    unsaved: BTreeMap<u64, Option<Vec<u8>>>,
    bytes: usize,
    rows: usize,
}

/// What decides which rows are the first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// How many rows of a partition are first ones.
    pub(crate) limit: usize,
    /// Whether rows go, so that those behind the first may come back.
    pub(crate) keeps_all: bool,
    /// Of rows whose order is equal the newest is first, not the oldest.
    pub(crate) newest_first: bool,
    /// Whether a row is another one if it comes with another event time.
    pub(crate) timed: bool,
    /// Tells state of this query from that of another.
    pub(crate) layout: u32,
}

/// The rows of a partition.
#[derive(Debug, Default)]
struct Partition {
    first: BTreeMap<Rank, Ranked>,
    /// Empty while there are less than `limit` first ones.
    behind: BTreeMap<Rank, Ranked>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    order: Box<[u8]>,
    /// The arrival, or its complement where the newest is first.
    tie: u64,
}

/// A row in its place.
#[derive(Debug, Clone)]
pub(crate) struct Ranked {
    pub(crate) row: Arc<[u8]>,
    /// The event time with which it was sent last, or with which it came if it never was.
    pub(crate) time: i64,
}

/// Which row leaves the first ones and which becomes one. They are not equal.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) gone: Option<Arc<[u8]>>,
    pub(crate) came: Option<Arc<[u8]>>,
}

/// A row of a batch as the ranking takes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) partition: &'a [u8],
    pub(crate) order: &'a [u8],
    pub(crate) row: &'a [u8],
    pub(crate) cause: Cause,
}

/// What a row takes beside its bytes, and a partition beside its key's.
const ROW: usize = size_of::<Rank>() + size_of::<Ranked>() + 16;
const PARTITION: usize = size_of::<Partition>() + size_of::<Box<[u8]>>() + 8;

/// The key of the state record that says how many rows have arrived; those of rows have eight bytes.
const NEXT: &[u8] = &[];

impl Ranking {
    pub(crate) fn new(rules: Rules) -> Self {
        Ranking {
            rules,
            partitions: KeyMap::default(),
            arrivals: HashMap::default(),
            next: 0,
            saved_next: 0,
            unsaved: BTreeMap::new(),
            bytes: 0,
            rows: 0,
        }
    }

    /// Adds a row.
    pub(crate) fn insert(&mut self, given: Given<'_>) -> Change {
        let Rules { limit, keeps_all, .. } = self.rules;
        let rank = self.rules.rank(given.order, self.next);
        self.next += 1;
        let ranked = Ranked { row: given.row.into(), time: given.cause.time };
        let partition = self.partitions.entry_ref(given.partition).or_insert_with(|| {
            self.bytes += PARTITION + given.partition.len();
            Partition::default()
        });
        let pushed_out = partition.offer(rank.clone(), ranked.clone(), limit);
        let is_first = pushed_out.as_ref().is_none_or(|(out, _)| *out != rank);
        if keeps_all {
            partition.behind.extend(pushed_out.clone());
            self.arrivals.entry(ranked.row.clone()).or_default().push(self.rules.arrival(&rank));
        } else if let Some((out, row)) = pushed_out.as_ref().filter(|_| is_first) {
            self.forget(out, &row.row);
        }
        if is_first || keeps_all {
            self.rows += 1;
            self.bytes += ROW + given.order.len() + given.row.len();
            self.save(given.partition, &rank, &ranked);
        }
        match pushed_out {
            _ if !is_first => Change::default(),
            Some((_, gone)) => self.exchange(given, rank, ranked, gone),
            None => Change { gone: None, came: Some(ranked.row) },
        }
    }

    /// Takes the last to come of equal rows away.
    pub(crate) fn delete(&mut self, given: Given<'_>) -> Change {
        let Some(arrival) = self.last_arrival(given.row) else { return Change::default() };
        let rank = self.rules.rank(given.order, arrival);
        self.forget(&rank, given.row);
        let Some(partition) = self.partitions.get_mut(given.partition) else { return Change::default() };
        let Some(gone) = partition.first.remove(&rank) else {
            partition.behind.remove(&rank);
            return Change::default();
        };
        if let Some((rank, ranked)) = partition.behind.pop_first() {
            let ranked = Ranked { time: given.cause.time, ..ranked };
            partition.first.insert(rank.clone(), ranked.clone());
            self.save(given.partition, &rank, &ranked);
            return self.exchange(given, rank, ranked, gone);
        }
        if partition.first.is_empty() {
            self.partitions.remove(given.partition);
            self.bytes = self.bytes.saturating_sub(PARTITION + given.partition.len());
        }
        Change { gone: Some(gone.row), came: None }
    }

    /// One of the first rows for another. Where they are equal nothing changes: the row that was sent stays.
    fn exchange(&mut self, given: Given<'_>, rank: Rank, ranked: Ranked, gone: Ranked) -> Change {
        if ranked.row != gone.row || self.rules.timed {
            return Change { gone: Some(gone.row), came: Some(ranked.row) };
        }
        let ranked = Ranked { time: gone.time, ..ranked };
        self.save(given.partition, &rank, &ranked);
        if let Some(partition) = self.partitions.get_mut(given.partition) {
            partition.first.insert(rank, ranked);
        }
        Change::default()
    }

    fn last_arrival(&mut self, row: &[u8]) -> Option<u64> {
        let arrivals = self.arrivals.get_mut(row)?;
        let last = arrivals.pop();
        if arrivals.is_empty() {
            self.arrivals.remove(row);
        }
        last
    }

    fn forget(&mut self, rank: &Rank, row: &[u8]) {
        self.rows = self.rows.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(ROW + rank.order.len() + row.len());
        self.unsaved.insert(self.rules.arrival(rank), None);
    }

    /// The first rows of a partition, in order.
    pub(crate) fn first(&self, partition: &[u8]) -> Vec<Ranked> {
        self.partitions.get(partition).map_or_else(Vec::new, |partition| partition.first.values().cloned().collect())
    }

    /// Sends what differs between the first rows of a partition and those that were there before, under their numbers from
    /// 1; the last flag says that there is no row under that number any more.
    pub(crate) fn renumber(&mut self, given: Given<'_>, before: &[Ranked], mut send: impl FnMut(&[u8], i64, bool)) {
        let mut changed = Vec::new();
        let mut count = 0;
        if let Some(partition) = self.partitions.get_mut(given.partition) {
            count = partition.first.len();
            for ((at, (rank, ranked)), number) in partition.first.iter_mut().enumerate().zip(1i64..) {
                let old = before.get(at);
                if old.is_some_and(|old| Arc::ptr_eq(&old.row, &ranked.row)) {
                    continue;
                }
                match old.filter(|old| old.row == ranked.row && !self.rules.timed) {
                    Some(old) => ranked.time = old.time,
                    None => {
                        ranked.time = given.cause.time;
                        send(&ranked.row, number, false);
                    }
                }
                changed.push((rank.clone(), ranked.clone()));
            }
        }
        changed.iter().for_each(|(rank, ranked)| self.save(given.partition, rank, ranked));
        before.iter().zip(1i64..).skip(count).for_each(|(old, number)| send(&old.row, number, true));
    }

    /// All first rows with their numbers, in the order of the times at which they were sent.
    pub(crate) fn all_first(&self) -> Vec<(&Ranked, i64)> {
        let numbered = self.partitions.values().flat_map(|partition| partition.first.values().zip(1i64..));
        let mut all: Vec<(&Ranked, i64)> = numbered.collect();
        all.sort_by(|(a, i), (b, j)| (a.time, &a.row, i).cmp(&(b.time, &b.row, j)));
        all
    }

    /// How many rows and partitions it holds.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.rows, self.partitions.len())
    }

    /// Estimate of the memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn save(&mut self, partition: &[u8], rank: &Rank, ranked: &Ranked) {
        let arrival = self.rules.arrival(rank);
        let mut saved = Saved::default();
        saved.integer(ranked.time);
        saved.bytes(partition);
        saved.bytes(&rank.order);
        saved.bytes(&ranked.row);
        self.unsaved.insert(arrival, Some(saved.finish(self.rules.layout, &arrival.to_be_bytes())));
    }

    /// Writes the rows that changed since the last call.
    pub(crate) fn drain_changelog(&mut self, write: &mut WriteState<'_>) {
        if self.next > self.saved_next {
            self.saved_next = self.next;
            let mut saved = Saved::default();
            saved.integer(self.next.cast_signed());
            write(NEXT, Some(&saved.finish(self.rules.layout, NEXT)));
        }
        for (arrival, record) in std::mem::take(&mut self.unsaved) {
            write(&arrival.to_be_bytes(), record.as_deref());
        }
    }

    /// Takes back one state record.
    pub(crate) fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let mut saved = Reader::open(value, self.rules.layout, key)?;
        if key == NEXT {
            self.next = saved.integer()?.cast_unsigned();
            self.saved_next = self.next;
            return saved.end();
        }
        let arrival =
            key.try_into().map(u64::from_be_bytes).map_err(|_| StateError::Damaged("its key is not an arrival".into()))?;
        let time = saved.integer()?;
        let (partition, order, row) = (saved.bytes()?, saved.bytes()?, saved.bytes()?);
        saved.end()?;
        let ranked = Ranked { row: row.into(), time };
        if self.rules.keeps_all {
            let arrivals = self.arrivals.entry(ranked.row.clone()).or_default();
            let at = arrivals.partition_point(|other| *other < arrival);
            arrivals.insert(at, arrival);
        }
        self.rows += 1;
        self.bytes += ROW + order.len() + row.len();
        let rank = self.rules.rank(order, arrival);
        let partition = self.partitions.entry_ref(partition).or_insert_with(|| {
            self.bytes += PARTITION + partition.len();
            Partition::default()
        });
        let behind = partition.offer(rank, ranked, self.rules.limit);
        partition.behind.extend(behind);
        Ok(())
    }
}

impl Rules {
    fn rank(&self, order: &[u8], arrival: u64) -> Rank {
        Rank { order: order.into(), tie: if self.newest_first { u64::MAX - arrival } else { arrival } }
    }

    fn arrival(&self, rank: &Rank) -> u64 {
        if self.newest_first { u64::MAX - rank.tie } else { rank.tie }
    }
}

impl Partition {
    /// Puts a row among the first ones if it is one; returns the row for which there is no place.
    fn offer(&mut self, rank: Rank, ranked: Ranked, limit: usize) -> Option<(Rank, Ranked)> {
        if self.first.len() >= limit && self.first.last_key_value().is_none_or(|(last, _)| *last < rank) {
            return Some((rank, ranked));
        }
        self.first.insert(rank, ranked);
        if self.first.len() > limit { self.first.pop_last() } else { None }
    }
}
