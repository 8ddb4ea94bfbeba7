//! Merging a derivation's inputs by event time, so that a back-fill gives what the live run gave.
//!
//! Every partition of every input is a *lane*: rows in the order of their offsets. A row's *position in time* is the
//! greatest event time seen in its lane so far, so that a row out of order travels with its predecessors. Rows are
//! released lowest position first; of equal ones a table's row goes before a stream's. An empty lane holds the others
//! back at its bound: what the producer of that partition is known to have finished, or nothing once it is idle.
//!
//! Whether a row is late must not depend on how many rows are released at once. So a step ends before a row that lies
//! further behind its position than the inputs' disorder: by then all is known of what has passed it.

use std::collections::VecDeque;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::compute::interleave_record_batch;
use arrow::error::ArrowError;

use crate::engine::batch::{Batch, rows_of};

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
    /// How far rows may be out of order.
    disorder_ms: i64,
    /// Counts the chunks that came.
    chunks: u64,
}

/// Rows for one step of the dataflow.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// By input, in the order of their positions.
    pub(crate) batches: Vec<(usize, Batch)>,
    /// No row behind these has a position below it.
    pub(crate) frontier: i64,
    /// Of each batch where its rows came from.
    sources: Vec<Picked>,
    picked: Picked,
}

/// The steps of a release.
#[derive(Debug, Default)]
struct Steps {
    ended: Vec<Step>,
    open: Step,
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
    number: u64,
    batch: Batch,
    offsets: ScalarBuffer<i64>,
    positions: Vec<i64>,
    /// Whether any row lies further behind its position than the disorder.
    behind: bool,
    at: usize,
}

impl Chunk {
    /// The position of a row that lies further behind it than the disorder.
    fn behind_at(&self, row: usize, disorder_ms: i64) -> Option<i64> {
        let (time, position) = (self.batch.times.get(row)?, self.positions.get(row)?);
        (self.behind && *time < position.saturating_sub(disorder_ms)).then_some(*position)
    }
}

impl Lane {
    fn head(&self) -> Option<(i64, u8)> {
        let chunk = self.chunks.front()?;
        Some((*chunk.positions.get(chunk.at)?, self.rank))
    }
}

/// Rows picked for one input: of which source, and which of its rows.
#[derive(Debug, Default)]
struct Picked {
    input: usize,
    sources: Vec<Source>,
    rows: Vec<(usize, usize)>,
}

/// A chunk of which rows are picked.
#[derive(Debug)]
struct Source {
    lane: usize,
    chunk: u64,
    offsets: ScalarBuffer<i64>,
    /// Until its rows have been copied.
    batch: Option<Batch>,
}

impl Merge {
    /// Lanes in order: for each the input it belongs to and whether that is a table. Rows may be out of order by `disorder_ms`.
    pub(crate) fn new(lanes: impl IntoIterator<Item = (usize, bool)>, disorder_ms: i64) -> Self {
        let lane = |(input, table): (usize, bool)| Lane {
            input,
            rank: u8::from(!table),
            chunks: VecDeque::new(),
            rows: 0,
            high: i64::MIN,
            bound: Bound::At(i64::MIN),
        };
        Merge { lanes: lanes.into_iter().map(lane).collect(), frontier: i64::MIN, disorder_ms, chunks: 0 }
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
        let positions: Vec<i64> = positions.collect();
        let behind = batch.times.iter().zip(&positions).any(|(time, position)| *time < position.saturating_sub(self.disorder_ms));
        lane.rows += batch.len();
        self.chunks += 1;
        lane.chunks.push_back(Chunk { number: self.chunks, batch, offsets: offsets.into(), positions, behind, at: 0 });
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

    /// Releases up to about `max_rows` rows that nothing can come before, as steps in that order. There is at least one,
    /// which may be without rows.
    pub(crate) fn release(&mut self, max_rows: usize) -> Result<Vec<Step>, ArrowError> {
        let mut steps = Steps::default();
        let mut total = 0;
        while total < max_rows {
            let Some(first) = self.first_lane() else { break };
            let taken = self.take_run(first, &mut steps)?;
            if taken == 0 {
                break;
            }
            total += taken;
        }
        self.advance_frontier();
        steps.end(self.frontier)?;
        Ok(steps.ended)
    }

    /// The lane whose head goes first.
    fn first_lane(&self) -> Option<usize> {
        let heads = self.lanes.iter().enumerate().filter_map(|(i, lane)| lane.head().map(|head| (head, i)));
        heads.min().map(|(_, i)| i)
    }

    /// Takes rows from the lane that goes first for as long as it does; returns how many.
    fn take_run(&mut self, first: usize, steps: &mut Steps) -> Result<usize, ArrowError> {
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
        let room = steps.open.room(input)?;
        let may_go = |position: i64| {
            next.is_none_or(|next| ((position, rank), first) < next)
                // A row of a table at the very time of a bound may still be overtaken by nothing that matters to it.
                && held_at.is_none_or(|held| if rank == 0 { position <= held } else { position < held })
        };
        let mut taken = chunk.positions.iter().skip(chunk.at).take(room).take_while(|position| may_go(**position)).count();
        if taken == 0 {
            return Ok(0);
        }
        if chunk.behind {
            if let Some(position) = chunk.behind_at(chunk.at, self.disorder_ms).filter(|position| *position > self.frontier) {
                self.frontier = position;
                steps.end(position)?;
                steps.open.room(input)?;
            }
            let (frontier, disorder_ms) = (self.frontier, self.disorder_ms);
            let ends = |at: &usize| chunk.behind_at(*at, disorder_ms).is_some_and(|position| position > frontier);
            taken = (chunk.at + 1..chunk.at + taken).find(ends).map_or(taken, |at| at - chunk.at);
        }
        steps.open.picked.add(first, chunk, taken);
        chunk.at += taken;
        lane.rows -= taken;
        if chunk.at == chunk.positions.len() {
            lane.chunks.pop_front();
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
    /// Picks the next `count` rows of a lane's chunk.
    fn add(&mut self, lane: usize, chunk: &Chunk, count: usize) {
        // Lanes take turns, so it is one of the last.
        let known = self.sources.iter().rposition(|source| source.lane == lane && source.chunk == chunk.number);
        let source = known.unwrap_or_else(|| {
            let (offsets, batch) = (chunk.offsets.clone(), Some(chunk.batch.clone()));
            self.sources.push(Source { lane, chunk: chunk.number, offsets, batch });
            self.sources.len() - 1
        });
        self.rows.extend((chunk.at..chunk.at + count).map(|row| (source, row)));
    }
}

impl Steps {
    /// Ends the open step: no row behind it has a position below `frontier`.
    fn end(&mut self, frontier: i64) -> Result<(), ArrowError> {
        let mut step = std::mem::take(&mut self.open);
        step.flush()?;
        self.ended.push(Step { frontier, ..step });
        Ok(())
    }
}

impl Step {
    /// How many rows of an input may still be picked into one batch. Those of another input are copied first.
    fn room(&mut self, input: usize) -> Result<usize, ArrowError> {
        if self.picked.input != input || self.picked.rows.len() >= BATCH_ROWS {
            self.flush()?;
            self.picked.input = input;
        }
        Ok(BATCH_ROWS - self.picked.rows.len())
    }

    /// Copies the picked rows into one batch, and notes where they came from.
    fn flush(&mut self) -> Result<(), ArrowError> {
        if self.picked.rows.is_empty() {
            return Ok(());
        }
        let mut picked = std::mem::take(&mut self.picked);
        let sources: Vec<Batch> = picked.sources.iter_mut().filter_map(|source| source.batch.take()).collect();
        self.batches.push((picked.input, gather(&sources, &picked.rows)?));
        self.sources.push(picked);
        Ok(())
    }

    /// Where its rows came from, for when its batches have gone their way.
    pub(crate) fn origins(&mut self) -> Origins {
        Origins { batches: std::mem::take(&mut self.sources) }
    }
}

/// Where the rows of a step came from.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    batches: Vec<Picked>,
}

impl Origins {
    /// The lane and the offset of a row, by the number of its batch and its place there.
    pub(crate) fn find(&self, batch: usize, row: usize) -> Option<(usize, i64)> {
        let picked = self.batches.get(batch)?;
        let (source, row) = picked.rows.get(row)?;
        let source = picked.sources.get(*source)?;
        Some((source.lane, *source.offsets.get(*row)?))
    }
}

fn gather(sources: &[Batch], rows: &[(usize, usize)]) -> Result<Batch, ArrowError> {
    if let ([only], Some(first), Some(last)) = (sources, rows.first(), rows.last())
        && last.1 - first.1 + 1 == rows.len()
    {
        return Ok(only.slice(first.1, rows.len()));
    }
    let batches: Vec<&RecordBatch> = sources.iter().map(|source| &source.rows).collect();
    let columns = match batches.first() {
        // Arrow can't tell how many rows there are when a query reads no column.
        Some(first) if first.num_columns() == 0 => rows_of(&first.schema(), Vec::new(), rows.len())?,
        _ => interleave_record_batch(&batches, rows)?,
    };
    let times: ScalarBuffer<i64> = rows.iter().map(|(source, row)| sources[*source].times[*row]).collect::<Vec<i64>>().into();
    let deletes = sources.iter().any(|source| source.deletes.is_some());
    let deletes =
        deletes.then(|| rows.iter().map(|(source, row)| Some(sources[*source].is_delete(*row))).collect::<BooleanArray>());
    Ok(Batch { rows: columns, times, deletes, origins: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Decoder, Layout, Record};
    use crate::model::product::{Format, Framing, Shape};
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
        let batches = merge.release(usize::MAX).unwrap().into_iter().flat_map(|step| step.batches);
        batches.map(|(input, batch)| (input, batch.times.to_vec())).collect()
    }

    #[test]
    fn a_lane_without_rows_holds_the_others_back_until_its_bound_passes() {
        let mut merge = Merge::new([(0, false), (1, false)], 0);
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
        let mut merge = Merge::new([(0, false), (1, true)], 0);
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
        let mut merge = Merge::new([(0, false), (0, false)], 10);
        let (batch, offsets) = rows(&[10, 2, 11]);
        merge.push(0, batch, offsets);
        let (batch, offsets) = rows(&[1, 12]);
        merge.push(1, batch, offsets);
        merge.set_bound(0, Bound::Idle);
        merge.set_bound(1, Bound::Idle);
        assert_eq!(released(&mut merge), vec![(0, vec![1, 10, 2, 11, 12])]);
    }

    #[test]
    fn a_step_ends_before_a_row_that_was_passed_by_more_than_the_disorder() {
        let mut merge = Merge::new([(0, false), (0, false)], 3);
        let (batch, offsets) = rows(&[10, 8, 6, 11, 7]);
        merge.push(0, batch, offsets);
        let (batch, offsets) = rows(&[9, 12]);
        merge.push(1, batch, offsets);
        merge.set_bound(0, Bound::Idle);
        merge.set_bound(1, Bound::Idle);
        let steps: Vec<(Vec<i64>, i64)> =
            merge.release(usize::MAX).unwrap().iter().map(|step| (times_of(step), step.frontier)).collect();
        assert_eq!(steps, [(vec![9, 10, 8], 10), (vec![6, 11], 11), (vec![7, 12], 12)]);
    }

    #[test]
    fn a_row_that_was_passed_waits_like_the_others_where_another_lane_holds_it_back() {
        let mut merge = Merge::new([(0, false), (0, false)], 0);
        let (batch, offsets) = rows(&[10, 8]);
        merge.push(0, batch, offsets);
        merge.set_bound(1, Bound::At(10));
        assert!(merge.release(usize::MAX).unwrap().iter().all(|step| step.batches.is_empty() && step.frontier == 10));
        let (batch, offsets) = rows(&[9]);
        merge.push(1, batch, offsets);
        merge.set_bound(0, Bound::At(10));
        assert_eq!(released(&mut merge), vec![(0, vec![9])], "what is held back says nothing yet");
    }

    #[test]
    fn a_row_is_found_again_by_lane_and_offset() {
        let mut merge = Merge::new([(0, false), (0, false), (1, false)], 0);
        for (lane, times) in [(0, &[1, 4, 5][..]), (1, &[2, 3, 6]), (2, &[4, 7])] {
            let (batch, offsets) = rows(times);
            merge.push(lane, batch, offsets.iter().map(|offset| offset * 10).collect());
            merge.set_bound(lane, Bound::Idle);
        }
        let mut found = Vec::new();
        for mut step in merge.release(usize::MAX).unwrap() {
            let origins = step.origins();
            for (at, (_, batch)) in step.batches.iter().enumerate() {
                found.extend((0..batch.len()).map(|row| (batch.times[row], origins.find(at, row).unwrap())));
            }
            assert_eq!(origins.find(99, 0), None);
        }
        let expected =
            [(1, (0, 0)), (2, (1, 0)), (3, (1, 10)), (4, (0, 10)), (4, (2, 0)), (5, (0, 20)), (6, (1, 20)), (7, (2, 10))];
        assert_eq!(found, expected);
    }

    #[test]
    fn rows_of_which_no_column_is_read_are_merged_too() {
        let none = |times: &[i64]| {
            let rows = rows_of(&Arc::new(Schema::empty()), Vec::new(), times.len()).unwrap();
            Batch::inserts(rows, times.to_vec().into())
        };
        let mut merge = Merge::new([(0, false), (0, false)], 0);
        merge.push(0, none(&[1, 3]), vec![0, 1]);
        merge.push(1, none(&[2]), vec![0]);
        merge.set_bound(0, Bound::Idle);
        merge.set_bound(1, Bound::Idle);
        assert_eq!(released(&mut merge), vec![(0, vec![1, 2, 3])]);
    }

    proptest! {
        /// However the rows are cut into chunks and calls, they come out once each, in the order of their positions, and
        /// each meets the same watermark where that decides whether it is late.
        #[test]
        fn any_batching_gives_one_order(lanes in prop::collection::vec(prop::collection::vec(0i64..40, 0..30), 1..4), cut in 1usize..7, step in 1usize..9, disorder in 0i64..9) {
            let whole = order(&lanes, usize::MAX, usize::MAX, disorder);
            prop_assert_eq!(&order(&lanes, cut, step, disorder), &whole);
            prop_assert_eq!(whole.len(), lanes.iter().map(Vec::len).sum::<usize>());
        }

        /// Rows that are read as they come give what they give when all are there: with a partition that falls silent and
        /// comes back, and rows from a far future, which the decoder refuses.
        #[test]
        fn a_backfill_gives_what_the_live_run_gave(
            rows in prop::collection::vec((0usize..3, 0i64..4, 0i64..12, prop::bool::weighted(0.05)), 0..80),
            silent in 20usize..60,
            cut in 1usize..7,
        ) {
            let history = history(&rows, silent);
            prop_assert_eq!(live(&history, silent), backfill(&history, cut));
        }
    }

    fn times_of(step: &Step) -> Vec<i64> {
        step.batches.iter().flat_map(|(_, batch)| batch.times.to_vec()).collect()
    }

    /// The rows of steps, each with the watermark before it if it is late by that.
    fn seen(steps: &[Step], before: &mut i64, disorder: i64) -> Vec<(i64, Option<i64>)> {
        let mut seen = Vec::new();
        for step in steps {
            let watermark = before.saturating_sub(disorder);
            seen.extend(times_of(step).into_iter().map(|time| (time, (time < watermark).then_some(watermark))));
            *before = step.frontier;
        }
        seen
    }

    fn order(lanes: &[Vec<i64>], cut: usize, step: usize, disorder: i64) -> Vec<(i64, Option<i64>)> {
        let mut merge = Merge::new(lanes.iter().map(|_| (0, false)), disorder);
        for (i, times) in lanes.iter().enumerate() {
            for part in times.chunks(cut.min(times.len().max(1))) {
                let (batch, offsets) = rows(part);
                merge.push(i, batch, offsets);
            }
            merge.set_bound(i, Bound::Idle);
        }
        let (mut out, mut before) = (Vec::new(), i64::MIN);
        while !merge.is_empty() {
            out.extend(seen(&merge.release(step).unwrap(), &mut before, disorder));
        }
        out
    }

    const DISORDER: i64 = 5;
    const AHEAD: i64 = 1000;

    /// Records in order of arrival: lane, event time, time of arrival. `rows`: lane, time since the one before, how far
    /// behind its arrival its event time is, whether that is from the far future. The last lane is silent from the row
    /// `silent` on for twenty rows, and comes back with a row that is on time: what lies behind those who did not wait for
    /// it is another story.
    fn history(rows: &[(usize, i64, i64, bool)], silent: usize) -> Vec<(usize, i64, i64)> {
        let (mut now, mut back) = (100_000, false);
        let mut history = Vec::new();
        for (at, (lane, pause, behind, far)) in rows.iter().enumerate() {
            // No two records arrive at once: at equal times the order of lanes decides, whoever is silent.
            now += 1 + pause;
            let lane = if *lane == 2 && (silent..silent + 20).contains(&at) { at % 2 } else { *lane };
            let on_time = lane == 2 && at >= silent && !back;
            back |= on_time && !far;
            history.push((
                lane,
                if *far {
                    now + 10 * AHEAD
                } else if on_time {
                    now
                } else {
                    now - behind
                },
                now,
            ));
        }
        history
    }

    /// What the decoder makes of records: rows and their offsets, from `first` on.
    fn decoded(records: &[(i64, i64)], first: i64) -> (Batch, Vec<i64>) {
        let time = Arc::new(Schema::new(vec![Field::new("t", DataType::Int64, false)]));
        let (format, framing, shape) = (Format::Json, Framing::Confluent, Shape::Stream);
        let layout = Layout { format, framing, row_type: time, key: vec![], time_column: Some(0), shape };
        let mut decoder = Decoder::new(layout, "{}", None).unwrap();
        decoder.bound_event_time(AHEAD);
        decoder.add_schema(1, "{}").unwrap();
        let bytes: Vec<Vec<u8>> =
            records.iter().map(|(t, _)| [&[0, 0, 0, 0, 1][..], format!("{{\"t\":{t}}}").as_bytes()].concat()).collect();
        let records: Vec<Record<'_>> =
            bytes.iter().zip(records).map(|(bytes, (_, timestamp))| Record::new(None, Some(bytes), *timestamp)).collect();
        let decoded = decoder.decode(&records);
        let offsets = decoded.records.iter().map(|record| first + i64::from(*record)).collect();
        (decoded.batch, offsets)
    }

    fn three_lanes() -> Merge {
        Merge::new([(0, false), (0, false), (0, false)], DISORDER)
    }

    /// Each record is read when it comes; a lane that has nothing yet holds the others back, until it counts as idle.
    fn live(history: &[(usize, i64, i64)], silent: usize) -> Vec<(i64, Option<i64>)> {
        let mut merge = three_lanes();
        let (mut out, mut before) = (Vec::new(), i64::MIN);
        for (at, (lane, time, arrival)) in history.iter().enumerate() {
            let (batch, offsets) = decoded(&[(*time, *arrival)], at as i64);
            merge.push(*lane, batch, offsets);
            merge.set_bound(2, if (silent + 5..silent + 20).contains(&at) { Bound::Idle } else { Bound::At(i64::MIN) });
            out.extend(seen(&merge.release(usize::MAX).unwrap(), &mut before, DISORDER));
        }
        (0..3).for_each(|lane| merge.set_bound(lane, Bound::Idle));
        out.extend(seen(&merge.release(usize::MAX).unwrap(), &mut before, DISORDER));
        out
    }

    /// All is there before the first row is released.
    fn backfill(history: &[(usize, i64, i64)], cut: usize) -> Vec<(i64, Option<i64>)> {
        let mut merge = three_lanes();
        for lane in 0..3 {
            let records: Vec<(i64, i64)> =
                history.iter().filter(|(of, ..)| *of == lane).map(|(_, time, arrival)| (*time, *arrival)).collect();
            for part in records.chunks(cut) {
                let (batch, offsets) = decoded(part, 0);
                merge.push(lane, batch, offsets);
            }
            merge.set_bound(lane, Bound::Idle);
        }
        let (mut out, mut before) = (Vec::new(), i64::MIN);
        while !merge.is_empty() {
            out.extend(seen(&merge.release(3).unwrap(), &mut before, DISORDER));
        }
        out
    }
}
