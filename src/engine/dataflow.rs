//! The running dataflow: rows in, rows out, one step after the other.

use arrow::array::TimestampMillisecondArray;
use arrow::datatypes::{DataType, SchemaRef};
use std::sync::Arc;

use super::batch::{Batch, rows_of};
use super::compile::{Feed, Graph, Target};
use super::describe::Description;
use super::error::{CompileError, Failure, RowError, StateError};
use super::expression::{nullable, nullable_fields, on_own_stack};
use super::late::{self, LateRow};
use super::operator::{Operator, WriteState};
use crate::model::row::type_name;
use crate::sql::query::{Changes, Input, Node, Query};

/// How an input's share of the state comes back after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuild {
    /// Nothing depends on rows read before: resume at the committed offset.
    Nothing,
    /// Read the whole input up to the committed offset, and replay it.
    Whole,
    /// Replay the rows whose event time is at or after the watermark minus this.
    Window { ms: i64 },
}

/// What happens to a row that can't be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BadRow {
    /// The step fails. The state is then undefined: go back to what was committed.
    #[default]
    Stop,
    /// The row is left out and told by [`Dataflow::take_bad_rows`]; all else goes on.
    SetAside,
}

/// A query that runs.
pub struct Dataflow {
    graph: Graph,
    inputs: Vec<InputEdge>,
    output: SchemaRef,
    bad_row: BadRow,
    bad_rows: Vec<RowError>,
    late: Vec<LateRow>,
    results: Vec<Batch>,
    /// While true, results go nowhere and operators with a changelog hear nothing.
    quiet: bool,
    restored: bool,
    /// The watermark of the last replay, until its end is made known to the operators.
    replayed: Option<i64>,
    /// The greatest event time that was replayed, and how far rows of any input may be out of order.
    replayed_to: i64,
    disorder_ms: i64,
    /// Rows that counted as late in replays: they counted before.
    replayed_late: u64,
}

/// An input as it enters the dataflow.
struct InputEdge {
    product: String,
    alias: String,
    given: SchemaRef,
    scanned: SchemaRef,
    changes: Changes,
}

/// Where a batch's first row stands among what was given to `step`.
#[derive(Debug, Clone, Copy)]
struct Origin {
    input: usize,
    batch: usize,
    row: usize,
}

impl Dataflow {
    /// Makes a dataflow of a query.
    pub fn compile(query: &Query) -> Result<Dataflow, CompileError> {
        on_own_stack(|| Dataflow::compile_here(query))
    }

    fn compile_here(query: &Query) -> Result<Dataflow, CompileError> {
        let graph = Graph::compile(query)?;
        check_result(query)?;
        let inputs = query.inputs.iter().enumerate().map(|(i, input)| input_edge(query, i, input)).collect();
        Ok(Dataflow {
            graph,
            inputs,
            output: nullable_fields(&query.row_type),
            bad_row: BadRow::Stop,
            bad_rows: Vec::new(),
            late: Vec::new(),
            results: Vec::new(),
            quiet: false,
            restored: false,
            replayed: None,
            replayed_to: i64::MIN,
            disorder_ms: query.inputs.iter().map(|input| input.disorder_ms).max().unwrap_or(0),
            replayed_late: 0,
        })
    }

    /// How an input's share of the state comes back after a restart.
    pub fn rebuild(&self, input: usize) -> Rebuild {
        self.graph.entries.get(input).map_or(Rebuild::Nothing, |entry| entry.rebuild)
    }

    /// How far the event times of results may lie behind the watermark that they come with, where operators hold rows back
    /// until it has passed them; `None`: results come with the rows that cause them.
    pub fn results_lag_ms(&self) -> Option<i64> {
        self.graph.results_lag_ms
    }

    /// The columns that a batch of an input has: those of its row type, all of which may be null, since a delete carries
    /// its key only. `rowtime` is not among them: it is made of the batch's times.
    pub fn input_schema(&self, input: usize) -> SchemaRef {
        self.inputs.get(input).map_or_else(|| Arc::new(arrow::datatypes::Schema::empty()), |input| input.given.clone())
    }

    /// The columns of the results: those of the query's row type, all of which may be null.
    pub fn output_schema(&self) -> SchemaRef {
        self.output.clone()
    }

    /// What happens to rows that can't be computed; at first the step fails.
    pub fn on_bad_row(&mut self, bad_row: BadRow) {
        self.bad_row = bad_row;
    }

    /// The rows that were set aside since the last call.
    pub fn take_bad_rows(&mut self) -> Vec<RowError> {
        std::mem::take(&mut self.bad_rows)
    }

    /// The rows that came after the watermark had passed them and went into no result, since the last call. They are kept
    /// until then; their places are those of the step that they came in.
    pub fn take_late_rows(&mut self) -> Vec<LateRow> {
        std::mem::take(&mut self.late)
    }

    /// Takes batches, each with its input, in the order of their rows' arrival, and returns their results. After it no row
    /// with an event time below `watermark` is expected.
    pub fn step(&mut self, batches: Vec<(usize, Batch)>, watermark: i64) -> Result<Vec<Batch>, RowError> {
        self.settle()?;
        let inputs: Vec<usize> = batches.iter().map(|(input, _)| *input).collect();
        self.arrive(batches)?;
        for slot in 0..self.graph.slots.len() {
            let watermark = watermark.saturating_sub(self.lag_ms(slot));
            let batches = self.ask(slot, |operator| operator.advance(watermark))?;
            self.pass_on(slot, batches)?;
        }
        let late = self.graph.slots.iter_mut().flat_map(|slot| slot.operator.take_late());
        self.late.extend(late.flat_map(|batch| late::late_rows(&batch, &inputs).collect::<Vec<_>>()));
        std::mem::take(&mut self.results).into_iter().map(|batch| self.named(batch)).collect()
    }

    /// Takes rows that were taken before the restart: the state absorbs them and nothing comes out. `watermark` is that of
    /// the last step before the restart. Operators with a changelog ignore it: theirs comes back by [`Dataflow::restore`].
    pub fn replay(&mut self, batches: Vec<(usize, Batch)>, watermark: i64) -> Result<(), RowError> {
        let late = self.late_of_operators();
        self.quiet = true;
        let replayed = self.replay_quietly(batches, watermark);
        self.quiet = false;
        self.replayed = Some(self.replayed.map_or(watermark, |before| before.max(watermark)));
        self.replayed_late += self.late_of_operators() - late;
        // They were told before.
        self.graph.slots.iter_mut().for_each(|slot| drop(slot.operator.take_late()));
        replayed
    }

    fn replay_quietly(&mut self, batches: Vec<(usize, Batch)>, watermark: i64) -> Result<(), RowError> {
        let times = batches.iter().flat_map(|(_, batch)| batch.times.iter());
        self.replayed_to = times.fold(self.replayed_to, |high, time| high.max(*time));
        self.arrive(batches)?;
        // No operator may know more of the time than it did when it took these rows the first time.
        let horizon = watermark.min(self.replayed_to.saturating_sub(self.disorder_ms)).saturating_sub(self.longest_window());
        for slot in 0..self.graph.slots.len() {
            let held_back = self.ask(slot, |operator| {
                let batches = operator.flush();
                operator.forget(horizon);
                batches
            })?;
            self.pass_on(slot, held_back)?;
        }
        Ok(())
    }

    /// Before the first step after a restart: what was released before it is released again, for operators that remember
    /// it, and to nobody else.
    fn settle(&mut self) -> Result<(), RowError> {
        let (replayed, restored) = (self.replayed.take(), std::mem::take(&mut self.restored));
        if replayed.is_none() && !restored {
            return Ok(());
        }
        self.quiet = true;
        let late = self.late_of_operators();
        let settled = (0..self.graph.slots.len()).try_for_each(|slot| {
            if restored && self.is_remembered(slot) {
                let batches = self.ask(slot, |operator| operator.recall())?;
                self.pass_on(slot, batches)?;
            }
            if let Some(watermark) = replayed {
                let watermark = watermark.saturating_sub(self.lag_ms(slot));
                let batches = self.ask(slot, |operator| operator.advance(watermark))?;
                self.pass_on(slot, batches)?;
            }
            Ok(())
        });
        self.quiet = false;
        self.replayed_late += self.late_of_operators() - late;
        self.results.clear();
        self.graph.slots.iter_mut().for_each(|slot| drop(slot.operator.take_late()));
        settled
    }

    /// Whether an operator above remembers what this one sends.
    fn is_remembered(&self, slot: usize) -> bool {
        let mut target = self.graph.slots.get(slot).and_then(|slot| slot.target);
        while let Some((above, port)) = target {
            let Some(above) = self.graph.slots.get(above) else { return false };
            if !above.operator.is_pure(port) {
                // What is kept in the changelog comes back from there.
                return !above.operator.has_changelog();
            }
            target = above.target;
        }
        false
    }

    /// Whether any operator's state is kept in the changelog.
    pub fn has_changelog(&self) -> bool {
        self.graph.slots.iter().any(|slot| slot.operator.has_changelog())
    }

    /// Writes the state that changed since the last call, as keys and values; no value: the key is gone.
    pub fn drain_changelog(&mut self, write: &mut WriteState<'_>) {
        for (at, slot) in (0u16..).zip(&mut self.graph.slots) {
            let mut whole = Vec::new();
            slot.operator.drain_changelog(&mut |key, value| {
                whole.clear();
                whole.extend(at.to_be_bytes());
                whole.extend(key);
                write(&whole, value);
            });
        }
    }

    /// Takes back one record of the changelog; of a key only the last one counts.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let (at, key) = key.split_first_chunk::<2>().ok_or(StateError::UnknownOperator)?;
        let slot = self.graph.slots.get_mut(usize::from(u16::from_be_bytes(*at))).ok_or(StateError::UnknownOperator)?;
        self.restored = true;
        slot.operator.restore(key, value)
    }

    /// Estimate of the memory that the state takes.
    pub fn state_bytes(&self) -> usize {
        self.graph.slots.iter().map(|slot| slot.operator.state_bytes()).sum()
    }

    /// How many rows came after the watermark had passed them, at an operator to which it matters.
    pub fn late_rows(&self) -> u64 {
        self.late_of_operators() - self.replayed_late
    }

    fn late_of_operators(&self) -> u64 {
        self.graph.slots.iter().map(|slot| slot.operator.late_rows()).sum()
    }

    /// What the dataflow is made of.
    pub fn describe(&self) -> Description {
        self.describe_feed(self.graph.root)
    }

    fn describe_feed(&self, feed: Feed) -> Description {
        match feed {
            Feed::Operator(slot) => match self.graph.slots.get(slot) {
                Some(slot) => slot.operator.describe(slot.feeds.iter().map(|feed| self.describe_feed(*feed)).collect()),
                None => Description::stateless("nothing", &self.output, &Changes::Append, Vec::new()),
            },
            Feed::Input(input) => match self.inputs.get(input) {
                Some(input) => {
                    let name = if input.product == input.alias {
                        input.product.clone()
                    } else {
                        format!("{} AS {}", input.product, input.alias)
                    };
                    Description::stateless(&format!("scan {name}"), &input.scanned, &input.changes, Vec::new())
                }
                None => Description::stateless("nothing", &self.output, &Changes::Append, Vec::new()),
            },
        }
    }

    fn lag_ms(&self, slot: usize) -> i64 {
        self.graph.slots.get(slot).map_or(0, |slot| slot.lag_ms)
    }

    fn longest_window(&self) -> i64 {
        let window = |rebuild: Rebuild| if let Rebuild::Window { ms } = rebuild { ms } else { 0 };
        self.graph.entries.iter().map(|entry| window(entry.rebuild)).max().unwrap_or(0)
    }

    /// Lets batches in, one after the other.
    fn arrive(&mut self, batches: Vec<(usize, Batch)>) -> Result<(), RowError> {
        for (at, (input, batch)) in batches.into_iter().enumerate() {
            let Some(entry) = self.graph.entries.get(input).filter(|entry| entry.read && !batch.is_empty()) else { continue };
            let (target, origins) = (entry.target, entry.origins.then_some(at));
            let scanned = self.inputs.get(input).map(|edge| scan(edge, batch, origins));
            match scanned {
                Some(Ok(batch)) => self.deliver(target, batch, Some(Origin { input, batch: at, row: 0 }))?,
                Some(Err(failure)) => return Err(row_error(failure, None)),
                None => {}
            }
        }
        Ok(())
    }

    /// Brings rows to an operator and their results all the way up. When that fails the rows are halved, down to the
    /// one that can't be computed.
    fn deliver(&mut self, target: Target, batch: Batch, origin: Option<Origin>) -> Result<(), RowError> {
        match self.carry(target, &batch) {
            Ok(None) => Ok(()),
            Ok(Some((None, results))) => {
                if !self.quiet {
                    self.results.push(results);
                }
                Ok(())
            }
            Ok(Some((further, results))) => self.deliver(further, results, None),
            // What it takes back could not be computed either, and that was told.
            Err(_) if batch.len() <= 1 && batch.is_delete(0) => Ok(()),
            Err(failure) if batch.len() <= 1 => self.bad(row_error(failure, origin)),
            Err(_) => {
                let middle = batch.len() / 2;
                let second = origin.map(|origin| Origin { row: origin.row + middle, ..origin });
                self.deliver(target, batch.slice(0, middle), origin)?;
                self.deliver(target, batch.slice(middle, batch.len() - middle), second)
            }
        }
    }

    /// Brings rows up through operators that change no state, and through the first one that does. On failure nothing was
    /// changed.
    fn carry(&mut self, mut target: Target, batch: &Batch) -> Result<Option<(Target, Batch)>, Failure> {
        let mut rows = batch.clone();
        loop {
            let Some((at, port)) = target else { return Ok(Some((None, rows))) };
            let Some(slot) = self.graph.slots.get_mut(at) else { return Ok(None) };
            if self.quiet && slot.operator.has_changelog() {
                return Ok(None);
            }
            let pure = slot.operator.is_pure(port);
            let Some(results) = slot.operator.push(port, &rows)? else { return Ok(None) };
            (target, rows) = (slot.target, results);
            if !pure {
                return Ok(Some((target, rows)));
            }
        }
    }

    /// Asks an operator for rows, and for what it had to leave out.
    fn ask(
        &mut self,
        slot: usize,
        question: impl FnOnce(&mut dyn Operator) -> Result<Vec<Batch>, Failure>,
    ) -> Result<Vec<Batch>, RowError> {
        let Some(slot) = self.graph.slots.get_mut(slot) else { return Ok(Vec::new()) };
        let answer = question(slot.operator.as_mut()).map_err(|failure| row_error(failure, None))?;
        let failures = slot.operator.take_failures();
        for failure in failures {
            self.bad(row_error(failure, None))?;
        }
        Ok(answer)
    }

    fn pass_on(&mut self, slot: usize, batches: Vec<Batch>) -> Result<(), RowError> {
        let target = self.graph.slots.get(slot).and_then(|slot| slot.target);
        batches.into_iter().filter(|batch| !batch.is_empty()).try_for_each(|batch| self.deliver(target, batch, None))
    }

    fn bad(&mut self, error: RowError) -> Result<(), RowError> {
        match self.bad_row {
            // What failed in a replay failed, and was told, before.
            _ if self.quiet => Ok(()),
            BadRow::Stop => Err(error),
            BadRow::SetAside => {
                self.bad_rows.push(error);
                Ok(())
            }
        }
    }

    /// Results under the names of the query's row type.
    fn named(&self, batch: Batch) -> Result<Batch, RowError> {
        let rows = rows_of(&self.output, batch.rows.columns().to_vec(), batch.times.len());
        Ok(Batch { rows: rows.map_err(|error| row_error(error.into(), None))?, ..batch })
    }
}

fn row_error(failure: Failure, origin: Option<Origin>) -> RowError {
    RowError {
        record: origin.map(|origin| (origin.batch, origin.row)),
        input: origin.map(|origin| origin.input),
        expression: failure.expression,
        reason: failure.reason,
    }
}

/// The input's rows with `rowtime`; with their origins, if the batch's place among those given to the step is asked for.
fn scan(edge: &InputEdge, batch: Batch, at: Option<usize>) -> Result<Batch, Failure> {
    let mut columns = batch.rows.columns().to_vec();
    let rowtime = edge.scanned.fields().last().filter(|_| columns.len() < edge.scanned.fields().len());
    if let Some(DataType::Timestamp(_, zone)) = rowtime.map(|field| field.data_type()) {
        let times = TimestampMillisecondArray::new(batch.times.clone(), None);
        columns.push(Arc::new(times.with_timezone_opt(zone.clone())));
    }
    let origins = at.map(|at| (0..batch.len()).map(|row| late::origin(at, row)).collect());
    Ok(Batch { rows: rows_of(&edge.scanned, columns, batch.times.len())?, origins, ..batch })
}

fn input_edge(query: &Query, at: usize, input: &Input) -> InputEdge {
    let given = nullable_fields(&input.row_type);
    let (scanned, changes) = match find_scan(&query.root, at) {
        Some(Node::Scan { schema, changes, .. }) => (nullable(schema), changes.clone()),
        _ => (given.clone(), Changes::Append),
    };
    InputEdge { product: input.product.clone(), alias: input.alias.clone(), given, scanned, changes }
}

fn find_scan(node: &Node, wanted: usize) -> Option<&Node> {
    match node {
        Node::Scan { input, .. } => (*input == wanted).then_some(node),
        _ => node.inputs().into_iter().find_map(|input| find_scan(input, wanted)),
    }
}

/// The root's columns are the result's, under other names.
fn check_result(query: &Query) -> Result<(), CompileError> {
    let (made, promised) = (query.root.schema().fields(), query.row_type.fields());
    if made.len() != promised.len() {
        return Err(CompileError(format!("the query makes {} columns but its row type has {}", made.len(), promised.len())));
    }
    for (made, promised) in made.iter().zip(promised.iter()) {
        if !made.data_type().equals_datatype(promised.data_type()) {
            let (a, b) = (type_name(made.data_type()), type_name(promised.data_type()));
            return Err(CompileError(format!("column {} is {a} but the row type says {b}", promised.name())));
        }
    }
    Ok(())
}
