//! Merging a derivation's inputs by event time, so that a back-fill gives what the live run gave.
//!
//! Every partition of every input is a *lane*: rows in the order of their offsets. A row's *position in time* is the
//! greatest event time seen in its lane so far, so that a row out of order travels with its predecessors. Rows are
//! released lowest position first; of equal ones a table's row goes before a stream's. An empty lane holds the others
//! back at its bound: what the producer of that partition is known to have finished, or nothing once it is idle.

use std::collections::VecDeque;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::compute::interleave_record_batch;
use arrow::error::ArrowError;

use crate::engine::batch::Batch;

/// Rows per released batch at most: small enough for the cache, large enough to spread the cost of a call.
const BATCH_ROWS: usize = 1024;

/// How far an empty lane is known to have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Rows to come are at this event time or later.
    At(i64),
    /// Nothing is expected: the lane holds nobody back.
    Idle,
}

/// All lanes of one derivation.
#[derive(Debug, Default)]
pub(crate) struct Merge {
    lanes: Vec<Lane>,
    frontier: i64,
}

#[derive(Debug)]
struct Lane {
    input: usize,
    /// 0 for a table, 1 for a stream: who goes first at equal times.
    rank: u8,
    chunks: VecDeque<Chunk>,
    rows: usize,
    /// The greatest event time released or queued so far; positions never go back.
    high: i64,
    bound: Bound,
}

#[derive(Debug)]
struct Chunk {
    batch: Batch,
    offsets: Vec<i64>,
    positions: Vec<i64>,
    at: usize,
}

impl Lane {
    fn head(&self) -> Option<(i64, u8)> {
        let chunk = self.chunks.front()?;
        Some((*chunk.positions.get(chunk.at)?, self.rank))
    }
}

/// Rows picked for one input, not yet copied together.
#[derive(Default)]
struct Picked {
    input: usize,
    sources: Vec<Batch>,
    rows: Vec<(usize, usize)>,
}

impl Merge {
    /// Lanes in order: for each the input it belongs to and whether that is a table.
    pub(crate) fn new(lanes: impl IntoIterator<Item = (usize, bool)>) -> Self {
        let lane = |(input, table): (usize, bool)| Lane {
            input,
            rank: u8::from(!table),
            chunks: VecDeque::new(),
            rows: 0,
            high: i64::MIN,
            bound: Bound::At(i64::MIN),
        };
        Merge { lanes: lanes.into_iter().map(lane).collect(), frontier: i64::MIN }
    }

    /// Appends rows to a lane, with the offset of each.
    pub(crate) fn push(&mut self, lane: usize, batch: Batch, offsets: Vec<i64>) {
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        if batch.is_empty() {
            return;
        }
        let positions = batch.times.iter().map(|time| {
            lane.high = lane.high.max(*time);
            lane.high
        });
        let positions = positions.collect();
        lane.rows += batch.len();
        lane.chunks.push_back(Chunk { batch, offsets, positions, at: 0 });
    }

    /// Says how far a lane is known to have come; used while it is empty.
    pub(crate) fn set_bound(&mut self, lane: usize, bound: Bound) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.bound = bound;
        }
    }

    /// Rows that wait in a lane.
    pub(crate) fn waiting(&self, lane: usize) -> usize {
        self.lanes.get(lane).map_or(0, |lane| lane.rows)
    }

    /// Whether no lane has rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.rows == 0)
    }

    /// Whether a lane is known to hold nobody back.
    pub(crate) fn is_idle(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_none_or(|lane| lane.bound == Bound::Idle)
    }

    /// The offset of the first row of a lane that was not released, if any waits.
    pub(crate) fn first_waiting(&self, lane: usize) -> Option<i64> {
        let chunk = self.lanes.get(lane)?.chunks.front()?;
        chunk.offsets.get(chunk.at).copied()
    }

    /// No row to come has a position below this event time. It never goes back; `i64::MIN` until something is known.
    pub(crate) fn frontier(&self) -> i64 {
        self.frontier
    }

    /// Starts from a frontier that was committed before.
    pub(crate) fn restore_frontier(&mut self, frontier: i64) {
        self.frontier = self.frontier.max(frontier);
    }

    /// Releases up to about `max_rows` rows that nothing can come before, as batches in that order.
    pub(crate) fn release(&mut self, max_rows: usize) -> Result<Vec<(usize, Batch)>, ArrowError> {
        let mut out = Vec::new();
        let mut picked = Picked::default();
        let mut total = 0;
        while total < max_rows {
            let Some(first) = self.first_lane() else { break };
            let taken = self.take_run(first, &mut picked, &mut out)?;
            if taken == 0 {
                break;
            }
            total += taken;
        }
        picked.flush(&mut out)?;
        self.advance_frontier();
        Ok(out)
    }

    /// The lane whose head goes first.
    fn first_lane(&self) -> Option<usize> {
        let heads = self.lanes.iter().enumerate().filter_map(|(i, lane)| lane.head().map(|head| (head, i)));
        heads.min().map(|(_, i)| i)
    }

    /// Takes rows from the lane that goes first for as long as it does; returns how many.
    fn take_run(&mut self, first: usize, picked: &mut Picked, out: &mut Vec<(usize, Batch)>) -> Result<usize, ArrowError> {
        let others = self.lanes.iter().enumerate().filter(|(i, _)| *i != first);
        let next = others.clone().filter_map(|(i, lane)| lane.head().map(|head| (head, i))).min();
        let held_at = others.filter(|(_, lane)| lane.rows == 0).filter_map(|(_, lane)| match lane.bound {
            Bound::At(time) => Some(time),
            Bound::Idle => None,
        });
        let held_at = held_at.min();
        let Some(lane) = self.lanes.get_mut(first) else { return Ok(0) };
        let (input, rank) = (lane.input, lane.rank);
        let Some(chunk) = lane.chunks.front_mut() else { return Ok(0) };
        if picked.input != input {
            picked.flush(out)?;
            picked.input = input;
        }
        let start = chunk.at;
        let room = BATCH_ROWS.saturating_sub(picked.rows.len()).max(1);
        let may_go = |position: i64| {
            next.is_none_or(|next| ((position, rank), first) < next)
                // A row of a table at the very time of a bound may still be overtaken by nothing that matters to it.
                && held_at.is_none_or(|held| if rank == 0 { position <= held } else { position < held })
        };
        let taken = chunk.positions.iter().skip(start).take(room).take_while(|position| may_go(**position)).count();
        if taken == 0 {
            return Ok(0);
        }
        picked.add(&chunk.batch, start, taken);
        chunk.at += taken;
        lane.rows -= taken;
        if chunk.at == chunk.positions.len() {
            lane.chunks.pop_front();
        }
        if picked.rows.len() >= BATCH_ROWS {
            picked.flush(out)?;
        }
        Ok(taken)
    }

    fn advance_frontier(&mut self) {
        let known = self.lanes.iter().filter_map(|lane| match (lane.head(), lane.bound) {
            (Some((head, _)), _) => Some(head),
            (None, Bound::At(time)) => Some(time.max(lane.high)),
            (None, Bound::Idle) => None,
        });
        // When every lane is idle the latest row seen is all that is known.
        let reached = known.min().unwrap_or_else(|| self.lanes.iter().map(|lane| lane.high).max().unwrap_or(i64::MIN));
        self.frontier = self.frontier.max(reached);
    }
}

impl Picked {
    fn add(&mut self, batch: &Batch, start: usize, count: usize) {
        let source = match self.sources.last() {
            Some(last) if same_rows(&last.rows, &batch.rows) => self.sources.len() - 1,
            _ => {
                self.sources.push(batch.clone());
                self.sources.len() - 1
            }
        };
        self.rows.extend((start..start + count).map(|row| (source, row)));
    }

    /// Copies the picked rows into one batch.
    fn flush(&mut self, out: &mut Vec<(usize, Batch)>) -> Result<(), ArrowError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        let sources = std::mem::take(&mut self.sources);
        out.push((self.input, gather(&sources, &rows)?));
        Ok(())
    }
}

/// Whether two batches are the same allocation, so that their rows can be named by one source.
fn same_rows(a: &RecordBatch, b: &RecordBatch) -> bool {
    a.num_rows() == b.num_rows()
        && a.columns().iter().zip(b.columns()).all(|(a, b)| std::sync::Arc::ptr_eq(a, b))
        && a.num_columns() > 0
}

fn gather(sources: &[Batch], rows: &[(usize, usize)]) -> Result<Batch, ArrowError> {
    if let ([only], Some(first), Some(last)) = (sources, rows.first(), rows.last())
        && last.1 - first.1 + 1 == rows.len()
    {
        return Ok(only.slice(first.1, rows.len()));
    }
    let batches: Vec<&RecordBatch> = sources.iter().map(|source| &source.rows).collect();
    let times: ScalarBuffer<i64> = rows.iter().map(|(source, row)| sources[*source].times[*row]).collect::<Vec<i64>>().into();
    let deletes = sources.iter().any(|source| source.deletes.is_some());
    let deletes =
        deletes.then(|| rows.iter().map(|(source, row)| Some(sources[*source].is_delete(*row))).collect::<BooleanArray>());
    Ok(Batch { rows: interleave_record_batch(&batches, rows)?, times, deletes, origins: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn rows(times: &[i64]) -> (Batch, Vec<i64>) {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(times.to_vec()))]).unwrap();
        (Batch::inserts(batch, times.to_vec().into()), (0..times.len() as i64).collect())
    }

    fn released(merge: &mut Merge) -> Vec<(usize, Vec<i64>)> {
        merge.release(usize::MAX).unwrap().into_iter().map(|(input, batch)| (input, batch.times.to_vec())).collect()
    }

    #[test]
    fn a_lane_without_rows_holds_the_others_back_until_its_bound_passes() {
        let mut merge = Merge::new([(0, false), (1, false)]);
        let (batch, offsets) = rows(&[1, 5, 9]);
        merge.push(0, batch, offsets);
        assert_eq!(released(&mut merge), vec![]);
        merge.set_bound(1, Bound::At(6));
        assert_eq!(released(&mut merge), vec![(0, vec![1, 5])]);
        assert_eq!(merge.frontier(), 6);
        assert_eq!(merge.first_waiting(0), Some(2));
        merge.set_bound(1, Bound::Idle);
        assert_eq!(released(&mut merge), vec![(0, vec![9])]);
    }

    #[test]
    fn a_table_goes_before_a_stream_at_equal_times_even_when_its_row_is_still_to_come() {
        let mut merge = Merge::new([(0, false), (1, true)]);
        let (batch, offsets) = rows(&[4, 5]);
        merge.push(0, batch, offsets);
        merge.set_bound(1, Bound::At(5));
        assert_eq!(released(&mut merge), vec![(0, vec![4])]);
        let (batch, offsets) = rows(&[5]);
        merge.push(1, batch, offsets);
        merge.set_bound(1, Bound::Idle);
        merge.set_bound(0, Bound::Idle);
        assert_eq!(released(&mut merge), vec![(1, vec![5]), (0, vec![5])]);
    }

    #[test]
    fn rows_out_of_order_travel_with_their_predecessors() {
        let mut merge = Merge::new([(0, false), (0, false)]);
        let (batch, offsets) = rows(&[10, 2, 11]);
        merge.push(0, batch, offsets);
        let (batch, offsets) = rows(&[1, 12]);
        merge.push(1, batch, offsets);
        merge.set_bound(0, Bound::Idle);
        merge.set_bound(1, Bound::Idle);
        assert_eq!(released(&mut merge), vec![(0, vec![1, 10, 2, 11, 12])]);
    }

    proptest! {
        /// However the rows are cut into chunks and calls, they come out once each, in the order of their positions.
        #[test]
        fn any_batching_gives_one_order(lanes in prop::collection::vec(prop::collection::vec(0i64..40, 0..30), 1..4), cut in 1usize..7, step in 1usize..9) {
            let whole = order(&lanes, usize::MAX, usize::MAX);
            prop_assert_eq!(&order(&lanes, cut, step), &whole);
            prop_assert_eq!(whole.len(), lanes.iter().map(Vec::len).sum::<usize>());
        }
    }

    fn order(lanes: &[Vec<i64>], cut: usize, step: usize) -> Vec<i64> {
        let mut merge = Merge::new(lanes.iter().map(|_| (0, false)));
        for (i, times) in lanes.iter().enumerate() {
            for part in times.chunks(cut.min(times.len().max(1))) {
                let (batch, offsets) = rows(part);
                merge.push(i, batch, offsets);
            }
            merge.set_bound(i, Bound::Idle);
        }
        let mut out = Vec::new();
        while !merge.is_empty() {
            out.extend(merge.release(step).unwrap().into_iter().flat_map(|(_, batch)| batch.times.to_vec()));
        }
        out
    }
}
