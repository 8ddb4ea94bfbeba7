//! Steps a dataflow over a test's records: the merge of production, fed row by row.

use serde_json::Value;

use super::form::{Item, Script};
use super::rows::{Canon, Row, together};
use crate::engine::{BadRow, Batch, Dataflow};
use crate::format::{Encoded, Encoder};
use crate::model::Shape;
use crate::run::merge::{Bound, Merge};
use crate::sql::query::Query;

/// What came out of the dataflow.
pub(super) struct Driven {
    results: Vec<Batch>,
    dead: Vec<(Option<Cause>, String)>,
    late: Vec<Option<Cause>>,
}

/// The record that was taken when something happened: its lane, and its row there.
type Cause = (usize, usize);

/// What came out of a test.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) changes: Vec<Change>,
    pub(super) dead: Vec<Left>,
    pub(super) late: Vec<Left>,
}

/// One change of the result.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    /// `None` where the expectation does not say.
    pub(super) at_ms: Option<i64>,
    pub(super) delete: bool,
    /// Of a delete only the key's columns.
    pub(super) row: Row,
}

/// A record that was left out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Left {
    /// The product it was given to; `None`: it is a result of the query.
    pub(super) input: Option<String>,
    /// Its place among the steps given to that product.
    pub(super) step: Option<usize>,
    pub(super) at_ms: i64,
    pub(super) row: Row,
    pub(super) reason: String,
}

/// The lanes of a test while it runs.
struct Lanes<'a> {
    script: &'a Script,
    merge: Merge,
    /// For each lane the item that comes next.
    next: Vec<usize>,
    /// The watermark that a lane waits at.
    holds: Vec<Option<i64>>,
    disorder_ms: i64,
}

impl Lanes<'_> {
    /// Gives every empty lane its next row, or says that it waits at a watermark or is idle.
    fn fill(&mut self) {
        for (at, lane) in self.script.lanes.iter().enumerate() {
            let (Some(next), Some(hold)) = (self.next.get_mut(at), self.holds.get_mut(at)) else { continue };
            if self.merge.waiting(at) > 0 || hold.is_some() {
                continue;
            }
            match lane.items.get(*next) {
                Some(Item::Row(row)) => {
                    self.merge.push(at, lane.batch.slice(*row, 1), vec![i64::try_from(*row).unwrap_or(i64::MAX)]);
                    *next += 1;
                }
                Some(Item::Watermark(ms)) => {
                    // The watermark lies behind what a lane has reached.
                    let reached = ms.saturating_add(self.disorder_ms);
                    self.merge.set_bound(at, Bound::At(reached));
                    *hold = Some(reached);
                    *next += 1;
                }
                None => self.merge.set_bound(at, Bound::Idle),
            }
        }
    }

    /// Lets the lane go on that waits at the lowest watermark.
    fn go_on(&mut self) -> bool {
        let lowest = self.holds.iter().enumerate().filter_map(|(at, hold)| hold.map(|hold| (hold, at))).min();
        if let Some(hold) = lowest.and_then(|(_, at)| self.holds.get_mut(at)) {
            *hold = None;
        }
        lowest.is_some()
    }

    /// For each lane the row that waits there.
    fn waiting(&self) -> Vec<Option<i64>> {
        (0..self.next.len()).map(|lane| self.merge.first_waiting(lane)).collect()
    }
}

/// Steps the dataflow over the script.
pub(super) fn drive(mut flow: Dataflow, query: &Query, script: &Script) -> Result<Driven, String> {
    flow.on_bad_row(BadRow::SetAside);
    let disorder_ms = query.inputs.iter().map(|input| input.disorder_ms).max().unwrap_or(0);
    let table = |input: usize| query.inputs.get(input).is_some_and(|input| input.shape == Shape::Table);
    let mut lanes = Lanes {
        script,
        merge: Merge::new(script.lanes.iter().map(|lane| (lane.input, table(lane.input))), disorder_ms),
        next: vec![0; script.lanes.len()],
        holds: vec![None; script.lanes.len()],
        disorder_ms,
    };
    let mut driven = Driven { results: Vec::new(), dead: Vec::new(), late: Vec::new() };
    loop {
        lanes.fill();
        let before = lanes.waiting();
        let steps = lanes.merge.release(1).map_err(|error| error.to_string())?;
        let moved = steps.iter().any(|step| !step.batches.is_empty());
        let mut gone = lanes.waiting().into_iter().zip(before).enumerate().filter(|(_, (now, before))| now != before);
        let cause = gone.find_map(|(lane, (_, before))| Some((lane, usize::try_from(before?).ok()?)));
        for step in steps {
            let watermark = step.frontier.saturating_sub(disorder_ms);
            driven.results.extend(flow.step(step.batches, watermark).map_err(|error| error.to_string())?);
            driven.dead.extend(flow.take_bad_rows().into_iter().map(|bad| (cause, bad.to_string())));
            driven.late.extend(flow.take_late_rows().into_iter().map(|_| cause));
        }
        if !moved && !lanes.go_on() {
            return Ok(driven);
        }
    }
}

/// What came out, as JSON. Results that the contract does not take are dead letters.
pub(super) fn found(
    driven: Driven,
    query: &Query,
    script: &Script,
    writer: &mut Encoder,
    canon: &mut Canon,
) -> Result<Found, String> {
    let mut found = Found::default();
    let left = |cause: Option<Cause>, reason: String| {
        let lane = cause.and_then(|(lane, row)| Some((script.lanes.get(lane)?, row)));
        let given = lane.and_then(|(lane, row)| Some((lane, script.given.get(&lane.product)?.get(row)?)));
        Left {
            input: given.map(|(lane, _)| lane.product.clone()),
            step: given.map(|(_, given)| given.step),
            at_ms: given.map_or(0, |(_, given)| given.at_ms),
            row: given.map_or_else(Row::new, |(_, given)| given.row.clone()),
            reason,
        }
    };
    found.dead = driven.dead.into_iter().map(|(cause, reason)| left(cause, reason)).collect();
    found.late = driven.late.into_iter().map(|cause| left(cause, String::new())).collect();
    let Some(batch) = together(&driven.results)? else { return Ok(found) };
    let bad = writer.encode(&batch, &mut Encoded::default()).err().unwrap_or_default();
    let key: Vec<&str> =
        query.key.iter().filter_map(|at| query.row_type.fields().get(*at)).map(|field| field.name().as_str()).collect();
    for (at, mut row) in canon.rows(&batch).into_iter().enumerate() {
        let delete = batch.is_delete(at);
        let at_ms = batch.times.get(at).copied().unwrap_or_default();
        if let Some(bad) = bad.iter().find(|bad| bad.record as usize == at) {
            let reason = format!("the result does not fit its contract: {}", bad.reason);
            found.dead.push(Left { input: None, step: None, at_ms, row, reason });
            continue;
        }
        if delete {
            row.retain(|column, _: &mut Value| key.contains(&column.as_str()));
        }
        found.changes.push(Change { at_ms: Some(at_ms), delete, row });
    }
    Ok(found)
}
