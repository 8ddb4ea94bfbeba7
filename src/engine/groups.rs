//! Groups: what rows with the same key have been added up to, for the operators that aggregate.
//!
//! All `latest` aggregates of a query are arguments of one and the same row, so one encoded row is kept for them, and one
//! for all `earliest`. The groups are kept in the changelog: their rows are long gone from the input. A group that is
//! forgotten leaves the changelog too.

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
use super::error::{CompileError, Failure, StateError};
use super::expression::{Expression, nullable, text_of};
use super::key::{KeyEncoder, Keys, convert, row_converter, unconvert};
use super::operator::WriteState;
use super::saved::{Reader, Saved};
use crate::sql::query::{self, AggregateFunction};

/// Rows per batch of results.
const BATCH_ROWS: usize = 1024;

/// The groups of one operator. Each has a place, a number that stays while the group is there.
pub(crate) struct Groups {
    key: KeyEncoder,
    latest: Picked,
    earliest: Picked,
    accumulators: Vec<(Accumulator, Option<Expression>, String)>,
    /// Where each aggregate's column comes from.
    results: Vec<Column>,
    schema: SchemaRef,
    /// Tells state of this query from that of another.
    layout: u32,
    hasher: FixedState,
    /// Places in `groups` by key.
    index: HashTable<usize>,
    groups: Vec<Group>,
    /// Places of groups that were forgotten.
    free: Vec<usize>,
    /// Groups whose row has changed since it was asked for, and groups whose state has since it was saved.
    changed: Vec<usize>,
    unsaved: Vec<usize>,
    /// Keys of saved groups that were forgotten since.
    gone: Vec<Box<[u8]>>,
    bytes: usize,
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
    /// The greatest event time of its rows; `None`: it has none, or the place is free.
    time: Option<i64>,
    latest: Option<(i64, Box<[u8]>)>,
    earliest: Option<(i64, Box<[u8]>)>,
    values: Box<[Value]>,
    changed: bool,
    unsaved: bool,
    /// The changelog has it.
    saved: bool,
}

/// A batch's rows in the forms that groups take them in.
pub(crate) struct Prepared {
    keys: Keys,
    latest: Option<Rows>,
    earliest: Option<Rows>,
    arguments: Vec<Arguments>,
}

impl Groups {
    /// Groups rows of `input` by expressions. `meaning` is what else decides what a state record means.
    pub(crate) fn compile(
        group: &[Expr],
        aggregates: &[query::Aggregate],
        input: &DFSchema,
        schema: &DFSchema,
        meaning: &str,
    ) -> Result<Self, CompileError> {
        let compile = |expr: &Expr| Expression::compile(expr, input);
        let (mut latest, mut earliest, mut accumulators, mut results) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut meaning: Vec<String> = std::iter::once(meaning.to_string()).filter(|meaning| !meaning.is_empty()).collect();
        meaning.extend(group.iter().zip(schema.fields()).map(|(e, f)| format!("{} as {}", text_of(e), f.data_type())));
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
        let layout = Saved::layout(&meaning.join("\n"));
        Ok(Groups {
            key,
            latest: Picked::new(latest)?,
            earliest: Picked::new(earliest)?,
            accumulators,
            results,
            schema: nullable(schema),
            layout,
            hasher: FixedState::default(),
            index: HashTable::new(),
            groups: Vec::new(),
            free: Vec::new(),
            changed: Vec::new(),
            unsaved: Vec::new(),
            gone: Vec::new(),
            bytes: 0,
        })
    }

    /// Evaluates all that can fail.
    pub(crate) fn prepare(&self, batch: &Batch) -> Result<Prepared, Failure> {
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

    /// The place of a key's group, which is made if there is none.
    fn place(&mut self, key: &[u8]) -> usize {
        let hash = self.hasher.hash_one(key);
        let groups = &self.groups;
        let same = |at: &usize| groups.get(*at).is_some_and(|group| *group.key == *key);
        let rehash = |at: &usize| groups.get(*at).map_or(0, |group| self.hasher.hash_one(&*group.key));
        match self.index.entry(hash, same, rehash) {
            hashbrown::hash_table::Entry::Occupied(found) => *found.get(),
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                let at = self.free.pop().unwrap_or(groups.len());
                vacant.insert(at);
                let values: Box<[Value]> = self.accumulators.iter().map(|(accumulator, ..)| accumulator.start()).collect();
                let group = Group { key: key.into(), values, ..Group::default() };
                self.bytes += group.bytes();
                match self.groups.get_mut(at) {
                    Some(free) => *free = group,
                    None => self.groups.push(group),
                }
                at
            }
        }
    }

    /// Adds row `i` to its group. Gives the group's place, and whether it is new.
    pub(crate) fn add(&mut self, batch: &Prepared, i: usize, time: i64) -> (usize, bool) {
        let at = self.place(batch.keys.bytes(i));
        let Some(group) = self.groups.get_mut(at) else { return (at, false) };
        let new = group.time.is_none();
        let mut changed = new;
        group.time = group.time.max(Some(time));
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
        (at, new)
    }

    /// Forgets a group.
    pub(crate) fn remove(&mut self, at: usize) {
        let Some(group) = self.groups.get_mut(at).map(std::mem::take) else { return };
        if let Ok(found) = self.index.find_entry(self.hasher.hash_one(&*group.key), |place| *place == at) {
            found.remove();
            self.free.push(at);
            self.bytes = self.bytes.saturating_sub(group.bytes());
            if group.saved {
                self.gone.push(group.key);
            }
        }
    }

    /// The groups whose row has changed since the last call.
    pub(crate) fn take_changed(&mut self) -> Vec<usize> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.retain(|at| self.groups.get_mut(*at).is_some_and(|group| std::mem::take(&mut group.changed)));
        changed
    }

    /// All groups.
    pub(crate) fn places(&self) -> Vec<usize> {
        (0..self.groups.len()).filter(|at| self.time(*at).is_some()).collect()
    }

    /// The greatest event time of a group's rows.
    pub(crate) fn time(&self, at: usize) -> Option<i64> {
        self.groups.get(at).and_then(|group| group.time)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Estimate of the memory they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows of some groups under the times given with their places, in the order of these times. Groups that have no
    /// row are left out, and why is put into `failures`.
    pub(crate) fn rows(&self, wanted: &[(i64, usize)], failures: &mut Vec<Failure>) -> Result<Vec<Batch>, Failure> {
        let mut groups = Vec::with_capacity(wanted.len());
        for (time, group) in wanted.iter().filter_map(|(time, at)| Some((*time, self.groups.get(*at)?))) {
            match self.overflow(group) {
                Some(failure) => failures.push(failure),
                None => groups.push((time, group)),
            }
        }
        groups.sort_by(|(a_time, a), (b_time, b)| (a_time, &a.key).cmp(&(b_time, &b.key)));
        groups.chunks(BATCH_ROWS).map(|groups| self.batch_of_groups(groups)).collect()
    }

    fn batch_of_groups(&self, groups: &[(i64, &Group)]) -> Result<Batch, Failure> {
        let mut columns = self.key.decode(groups.iter().map(|(_, group)| group.key.as_ref()))?;
        let latest = self.latest.decode(groups.iter().map(|(_, group)| &group.latest))?;
        let earliest = self.earliest.decode(groups.iter().map(|(_, group)| &group.earliest))?;
        for column in &self.results {
            let column = match *column {
                Column::Latest(at) => latest.get(at).cloned(),
                Column::Earliest(at) => earliest.get(at).cloned(),
                Column::Accumulated(at) => match self.accumulators.get(at) {
                    Some((accumulator, ..)) => {
                        Some(accumulator.finish(groups.iter().filter_map(|(_, group)| group.values.get(at)))?)
                    }
                    None => None,
                },
            };
            columns.extend(column);
        }
        let times = groups.iter().map(|(time, _)| *time).collect();
        Ok(Batch::inserts(rows_of(&self.schema, columns, groups.len())?, times))
    }

    /// Why a group has no row, if it has none.
    fn overflow(&self, group: &Group) -> Option<Failure> {
        self.accumulators.iter().zip(&group.values).find_map(|((accumulator, _, text), value)| {
            let reason = accumulator.overflow(value)?;
            Some(Failure { expression: text.clone(), reason })
        })
    }

    /// Writes the groups that changed since the last call.
    pub(crate) fn drain(&mut self, write: &mut WriteState<'_>) {
        // A key that is gone may have come back since.
        std::mem::take(&mut self.gone).iter().for_each(|key| write(key, None));
        for at in std::mem::take(&mut self.unsaved) {
            let Some(group) = self.groups.get_mut(at).filter(|group| group.unsaved) else { continue };
            group.unsaved = false;
            group.saved = true;
            let mut saved = Saved::default();
            saved.integer(group.time.unwrap_or(i64::MIN));
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

    /// Takes back what was written of a group. Gives its place.
    pub(crate) fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<usize, StateError> {
        let mut reader = Reader::open(value, self.layout, key)?;
        let time = Some(reader.integer()?);
        let mut picked: [Option<(i64, Box<[u8]>)>; 2] = [None, None];
        for picked in &mut picked {
            if reader.integer()? != 0 {
                *picked = Some((reader.integer()?, reader.bytes()?.into()));
            }
        }
        let values = self.accumulators.iter().map(|(accumulator, ..)| Value::load(&accumulator.start(), &mut reader));
        let values = values.collect::<Result<Box<[Value]>, _>>()?;
        reader.end()?;
        let at = self.place(key);
        if let Some(group) = self.groups.get_mut(at) {
            let [latest, earliest] = picked;
            let restored = Group { key: key.into(), time, latest, earliest, values, changed: false, unsaved: false, saved: true };
            self.bytes = (self.bytes + restored.bytes()).saturating_sub(group.bytes());
            *group = restored;
        }
        Ok(at)
    }

    /// The columns of some groups' keys.
    pub(crate) fn key_columns(&self, places: &[usize]) -> Result<Vec<ArrayRef>, Failure> {
        self.key.decode(places.iter().filter_map(|at| self.groups.get(*at)).map(|group| group.key.as_ref()))
    }

    /// The columns of its rows.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What it groups by, and its aggregates, as SQL.
    pub(crate) fn text(&self) -> (String, String) {
        let picked =
            |name: &str, picked: &Picked| picked.expressions.iter().map(|e| format!("{name}({})", e.text())).collect::<Vec<_>>();
        let mut aggregates = picked("latest", &self.latest);
        aggregates.extend(picked("earliest", &self.earliest));
        aggregates.extend(self.accumulators.iter().map(|(_, _, text)| text.clone()));
        (self.key.text(), aggregates.join(", "))
    }
}

impl Group {
    fn bytes(&self) -> usize {
        let picked: usize = [&self.latest, &self.earliest].into_iter().flatten().map(|(_, row)| row.len()).sum();
        self.key.len() + picked + size_of::<Group>() + size_of::<usize>() + self.values.len() * size_of::<Value>()
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

/// An aggregate as SQL.
fn text_of_aggregate(aggregate: &query::Aggregate) -> String {
    format!("{}({})", aggregate.function.name(), aggregate.arguments.first().map_or("*".into(), text_of))
}
