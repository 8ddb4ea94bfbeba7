//! Aggregate: one row for each group, over inputs that only append.
//!
//! A step sends a group's row at most once, after all its changes; it has the greatest event time of the rows that went
//! into it. All `latest` aggregates of a query are arguments of one and the same row, so one encoded row is kept for them,
//! and one for all `earliest`. The state is kept in the changelog: a group's rows are long gone from the input.

use std::hash::BuildHasher;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows};
use datafusion_common::DFSchema;
use datafusion_expr::Expr;
use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::accumulator::{Accumulator, Arguments, Value};
use super::batch::{Batch, rows_of};
use super::describe::{Description, State};
use super::error::{CompileError, Failure, StateError};
use super::expression::{Expression, nullable, text_of};
use super::key::{KeyEncoder, Keys, convert, row_converter, unconvert};
use super::operator::{Operator, WriteState};
use super::saved::{Reader, Saved};
use crate::sql::query::{self, AggregateFunction, Changes};

/// Rows per batch of results.
const BATCH_ROWS: usize = 1024;

pub(crate) struct Aggregate {
    key: KeyEncoder,
    latest: Picked,
    earliest: Picked,
    accumulators: Vec<(Accumulator, Option<Expression>, String)>,
    /// Where each aggregate's column comes from.
    results: Vec<Column>,
    schema: SchemaRef,
    changes: Changes,
    /// Tells state of this query from that of another.
    layout: u32,
    hasher: FixedState,
    /// Positions in `groups` by key.
    index: HashTable<usize>,
    groups: Vec<Group>,
    /// Groups whose row has changed since it was sent, and groups whose state has since it was saved.
    changed: Vec<usize>,
    unsaved: Vec<usize>,
    bytes: usize,
    failures: Vec<Failure>,
}

#[derive(Debug, Clone, Copy)]
enum Column {
    Latest(usize),
    Earliest(usize),
    Accumulated(usize),
}

/// Arguments that are taken from one row of a group.
struct Picked {
    expressions: Vec<Expression>,
    converter: RowConverter,
}

#[derive(Default)]
struct Group {
    key: Box<[u8]>,
    /// The greatest event time of its rows.
    time: i64,
    latest: Option<(i64, Box<[u8]>)>,
    earliest: Option<(i64, Box<[u8]>)>,
    values: Box<[Value]>,
    changed: bool,
    unsaved: bool,
}

/// A batch's rows in the forms that groups take them in.
struct Prepared {
    keys: Keys,
    latest: Option<Rows>,
    earliest: Option<Rows>,
    arguments: Vec<Arguments>,
}

impl Aggregate {
    /// Groups rows of `input` by expressions.
    pub(crate) fn compile(
        group: &[Expr],
        aggregates: &[query::Aggregate],
        input: &DFSchema,
        schema: &DFSchema,
        changes: &Changes,
    ) -> Result<Self, CompileError> {
        let compile = |expr: &Expr| Expression::compile(expr, input);
        let (mut latest, mut earliest, mut accumulators, mut results) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut meaning: Vec<String> =
            group.iter().zip(schema.fields()).map(|(e, f)| format!("{} as {}", text_of(e), f.data_type())).collect();
        let out_types = schema.fields().iter().skip(group.len()).map(|field| field.data_type());
        for (aggregate, out_type) in aggregates.iter().zip(out_types) {
            if aggregate.distinct || aggregate.filter.is_some() || !aggregate.order.is_empty() {
                return Err(CompileError("DISTINCT, FILTER and ORDER BY in an aggregate are not carried out yet".into()));
            }
            let argument = aggregate.arguments.first().map(compile).transpose()?;
            let text = text_of_aggregate(aggregate);
            meaning.push(format!("{text} of {:?} as {out_type}", argument.as_ref().map(Expression::data_type)));
            let accumulator = Accumulator::compile(aggregate.function, argument.as_ref().map(Expression::data_type), out_type)?;
            let column = match (accumulator, argument) {
                (Some(accumulator), argument) => {
                    accumulators.push((accumulator, argument, text));
                    Column::Accumulated(accumulators.len() - 1)
                }
                (None, None) => return Err(CompileError(format!("{text} needs an argument"))),
                (None, Some(argument)) => {
                    let first = aggregate.function == AggregateFunction::Earliest;
                    let picked = if first { &mut earliest } else { &mut latest };
                    picked.push(argument);
                    if first { Column::Earliest(picked.len() - 1) } else { Column::Latest(picked.len() - 1) }
                }
            };
            results.push(column);
        }
        let key = KeyEncoder::for_rows(group.iter().map(compile).collect::<Result<_, _>>()?)?;
        // All that decides what a state record means.
        let layout = Saved::layout(&meaning.join("\n"));
        Ok(Aggregate {
            key,
            latest: Picked::new(latest)?,
            earliest: Picked::new(earliest)?,
            accumulators,
            results,
            schema: nullable(schema),
            changes: changes.clone(),
            layout,
            hasher: FixedState::default(),
            index: HashTable::new(),
            groups: Vec::new(),
            changed: Vec::new(),
            unsaved: Vec::new(),
            bytes: 0,
            failures: Vec::new(),
        })
    }

    /// Evaluates all that can fail.
    fn prepare(&self, batch: &Batch) -> Result<Prepared, Failure> {
        let arguments = |(accumulator, argument, _): &(Accumulator, Option<Expression>, String)| {
            let values = argument.as_ref().map(|argument| argument.evaluate(&batch.rows)).transpose()?;
            accumulator.arguments(values.as_ref())
        };
        Ok(Prepared {
            keys: self.key.encode(&batch.rows)?,
            latest: self.latest.encode(batch)?,
            earliest: self.earliest.encode(batch)?,
            arguments: self.accumulators.iter().map(arguments).collect::<Result<_, _>>()?,
        })
    }

    /// The position of a key's group, which is made if there is none.
    fn group(&mut self, key: &[u8]) -> usize {
        let hash = self.hasher.hash_one(key);
        let groups = &self.groups;
        let same = |at: &usize| groups.get(*at).is_some_and(|group| *group.key == *key);
        let rehash = |at: &usize| groups.get(*at).map_or(0, |group| self.hasher.hash_one(&*group.key));
        match self.index.entry(hash, same, rehash) {
            hashbrown::hash_table::Entry::Occupied(found) => *found.get(),
            hashbrown::hash_table::Entry::Vacant(place) => {
                let at = self.groups.len();
                place.insert(at);
                let values: Box<[Value]> = self.accumulators.iter().map(|(accumulator, ..)| accumulator.start()).collect();
                self.bytes += key.len() + size_of::<Group>() + size_of::<usize>() + values.len() * size_of::<Value>();
                self.groups.push(Group { key: key.into(), time: i64::MIN, values, ..Group::default() });
                at
            }
        }
    }

    /// Adds row `i` to its group.
    fn add(&mut self, batch: &Prepared, i: usize, time: i64) {
        let at = self.group(batch.keys.bytes(i));
        let Some(group) = self.groups.get_mut(at) else { return };
        let mut changed = group.time == i64::MIN;
        group.time = group.time.max(time);
        if let Some(rows) = &batch.latest
            && group.latest.as_ref().is_none_or(|(latest, _)| *latest <= time)
        {
            changed |= pick(&mut group.latest, time, rows.row(i).data(), &mut self.bytes);
        }
        if let Some(rows) = &batch.earliest
            && group.earliest.as_ref().is_none_or(|(earliest, _)| *earliest > time)
        {
            changed |= pick(&mut group.earliest, time, rows.row(i).data(), &mut self.bytes);
        }
        for ((value, (accumulator, ..)), arguments) in group.values.iter_mut().zip(&self.accumulators).zip(&batch.arguments) {
            changed |= accumulator.add(value, arguments, i);
        }
        if changed && !group.changed {
            group.changed = true;
            self.changed.push(at);
        }
        if !group.unsaved {
            group.unsaved = true;
            self.unsaved.push(at);
        }
    }

    /// The rows of some groups, in the order of time.
    fn rows_of_groups(&self, mut groups: Vec<&Group>) -> Result<Vec<Batch>, Failure> {
        groups.sort_by(|a, b| (a.time, &a.key).cmp(&(b.time, &b.key)));
        groups.chunks(BATCH_ROWS).map(|groups| self.batch_of_groups(groups)).collect()
    }

    fn batch_of_groups(&self, groups: &[&Group]) -> Result<Batch, Failure> {
        let mut columns = self.key.decode(groups.iter().map(|group| group.key.as_ref()))?;
        let latest = self.latest.decode(groups.iter().map(|group| &group.latest))?;
        let earliest = self.earliest.decode(groups.iter().map(|group| &group.earliest))?;
        for column in &self.results {
            let column = match *column {
                Column::Latest(at) => latest.get(at).cloned(),
                Column::Earliest(at) => earliest.get(at).cloned(),
                Column::Accumulated(at) => match self.accumulators.get(at) {
                    Some((accumulator, ..)) => Some(accumulator.finish(groups.iter().filter_map(|group| group.values.get(at)))?),
                    None => None,
                },
            };
            columns.extend(column);
        }
        let times = groups.iter().map(|group| group.time).collect();
        Ok(Batch::inserts(rows_of(&self.schema, columns, groups.len())?, times))
    }

    /// Why a group has no row, if it has none.
    fn overflow(&self, group: &Group) -> Option<Failure> {
        self.accumulators.iter().zip(&group.values).find_map(|((accumulator, _, text), value)| {
            let reason = accumulator.overflow(value)?;
            Some(Failure { expression: text.clone(), reason })
        })
    }
}

/// Replaces a picked row; returns whether it differs.
fn pick(picked: &mut Option<(i64, Box<[u8]>)>, time: i64, row: &[u8], bytes: &mut usize) -> bool {
    match picked {
        Some((at, kept)) => {
            *at = time;
            if **kept == *row {
                return false;
            }
            *bytes = (*bytes + row.len()).saturating_sub(kept.len());
            if kept.len() == row.len() {
                kept.copy_from_slice(row);
            } else {
                *kept = row.into();
            }
            true
        }
        None => {
            *bytes += row.len();
            *picked = Some((time, row.into()));
            true
        }
    }
}

impl Picked {
    fn new(expressions: Vec<Expression>) -> Result<Self, CompileError> {
        let converter = row_converter(expressions.iter().map(Expression::data_type))?;
        Ok(Picked { expressions, converter })
    }

    /// `None` if nothing is to be picked.
    fn encode(&self, batch: &Batch) -> Result<Option<Rows>, Failure> {
        if self.expressions.is_empty() {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = self.expressions.iter().map(|e| e.evaluate(&batch.rows)).collect::<Result<_, _>>()?;
        convert(&self.converter, &columns, batch.len()).map(Some)
    }

    fn decode<'a>(&self, rows: impl Iterator<Item = &'a Option<(i64, Box<[u8]>)>>) -> Result<Vec<ArrayRef>, Failure> {
        if self.expressions.is_empty() {
            return Ok(Vec::new());
        }
        unconvert(&self.converter, rows.filter_map(|row| row.as_ref().map(|(_, row)| row.as_ref())))
    }
}

impl Operator for Aggregate {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let prepared = self.prepare(batch)?;
        for (i, time) in batch.times.iter().enumerate() {
            self.add(&prepared, i, *time);
        }
        Ok(None)
    }

    fn is_pure(&self, _port: usize) -> bool {
        false
    }

    fn flush(&mut self) -> Result<Vec<Batch>, Failure> {
        let changed = std::mem::take(&mut self.changed);
        for at in &changed {
            if let Some(group) = self.groups.get_mut(*at) {
                group.changed = false;
            }
        }
        let mut failures = Vec::new();
        let mut rows = Vec::with_capacity(changed.len());
        for group in changed.iter().filter_map(|at| self.groups.get(*at)) {
            match self.overflow(group) {
                Some(failure) => failures.push(failure),
                None => rows.push(group),
            }
        }
        let batches = self.rows_of_groups(rows);
        self.failures.append(&mut failures);
        batches
    }

    fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }

    fn has_changelog(&self) -> bool {
        true
    }

    fn drain_changelog(&mut self, write: &mut WriteState<'_>) {
        for at in std::mem::take(&mut self.unsaved) {
            let Some(group) = self.groups.get_mut(at) else { continue };
            group.unsaved = false;
            let mut saved = Saved::default();
            saved.integer(group.time);
            for picked in [&group.latest, &group.earliest] {
                saved.integer(i64::from(picked.is_some()));
                if let Some((time, row)) = picked {
                    saved.integer(*time);
                    saved.bytes(row);
                }
            }
            group.values.iter().for_each(|value| value.save(&mut saved));
            write(&group.key, Some(&saved.finish(self.layout, &group.key)));
        }
    }

    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let mut saved = Reader::open(value, self.layout, key)?;
        let time = saved.integer()?;
        let mut picked: [Option<(i64, Box<[u8]>)>; 2] = [None, None];
        for picked in &mut picked {
            if saved.integer()? != 0 {
                *picked = Some((saved.integer()?, saved.bytes()?.into()));
            }
        }
        let values = self.accumulators.iter().map(|(accumulator, ..)| Value::load(&accumulator.start(), &mut saved));
        let values = values.collect::<Result<Box<[Value]>, _>>()?;
        saved.end()?;
        let at = self.group(key);
        if let Some(group) = self.groups.get_mut(at) {
            let [latest, earliest] = picked;
            self.bytes += [&latest, &earliest].into_iter().flatten().map(|(_, row)| row.len()).sum::<usize>();
            *group = Group { key: key.into(), time, latest, earliest, values, changed: false, unsaved: false };
        }
        Ok(())
    }

    fn recall(&mut self) -> Result<Vec<Batch>, Failure> {
        let sent = self.groups.iter().filter(|group| self.overflow(group).is_none()).collect();
        self.rows_of_groups(sent)
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let picked =
            |name: &str, picked: &Picked| picked.expressions.iter().map(|e| format!("{name}({})", e.text())).collect::<Vec<_>>();
        let mut aggregates = picked("latest", &self.latest);
        aggregates.extend(picked("earliest", &self.earliest));
        aggregates.extend(self.accumulators.iter().map(|(_, _, text)| text.clone()));
        Description::stateless("aggregate", &self.schema, &self.changes, inputs)
            .detail("group by", self.key.text())
            .detail("aggregates", aggregates.join(", "))
            .state(State {
                what: format!("one entry for each of {} groups", self.groups.len()),
                why: "since the next row of a group changes its result".into(),
                rebuilt: "the changelog".into(),
                bytes: self.bytes,
            })
    }
}

/// An aggregate as SQL.
fn text_of_aggregate(aggregate: &query::Aggregate) -> String {
    format!("{}({})", aggregate.function.name(), aggregate.arguments.first().map_or("*".into(), text_of))
}
