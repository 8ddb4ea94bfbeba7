//! Groups: rows are taken into groups by key and out of them again, and each group's aggregates are one row.
//!
//! This is what `aggregate` and `window_aggregate` share: who may enter, and when a group's row is sent or the group ends,
//! is theirs to say. The state is kept in the changelog, since a group's rows are long gone from the input: one record for
//! each group, and one more for each value that an aggregate keeps one by one. All `latest` aggregates of a query with the
//! same FILTER are arguments of one and the same row, so one encoded row is kept for them, and one for all `earliest`.

use std::hash::BuildHasher;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, Rows};
use datafusion_common::DFSchema;
use datafusion_expr::Expr;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::accumulator::Accumulator;
use super::arguments::Arguments;
use super::batch::{Batch, rows_of};
use super::error::{CompileError, Failure, StateError};
use super::expression::{Expression, nullable, text_of};
use super::key::{KeyEncoder, Keys, convert, row_converter};
use super::operator::WriteState;
use super::saved::{Reader, Saved};
use super::sequence::Arrival;
use super::sketch::hash;
use super::value::Value;
use crate::model::row::ROWTIME;
use crate::sql::query;

/// Rows per batch of results.
const BATCH_ROWS: usize = 1024;

/// Groups by key, with what their aggregates remember. A group is known by its place, which it keeps as long as it has rows.
pub(crate) struct Groups {
    key: KeyEncoder,
    /// Without a key there is one group, which stays when its last row goes.
    keyless: bool,
    accumulators: Vec<Accumulator>,
    /// By aggregate: the accumulator that its column comes from, and which of its columns it is.
    columns: Vec<(usize, usize)>,
    schema: SchemaRef,
    /// What tells a row from others, where aggregates must find it again to take it out.
    identity: Option<(Vec<usize>, RowConverter)>,
    /// Encodes results, where they must be compared to know whether they changed.
    sent: Option<RowConverter>,
    /// Tells state of this query from that of another.
    layout: u32,
    hasher: FixedState,
    /// Positions in `groups` by key.
    index: HashTable<usize>,
    groups: Vec<Group>,
    /// Of each group as many as there are accumulators.
    values: Vec<Value>,
    /// Positions that are not taken.
    free: Vec<usize>,
    /// Groups whose result may have changed since the last flush, and whose state has since it was last saved.
    changed: Vec<usize>,
    unsaved: Vec<usize>,
    /// Keys of saved records of groups that were forgotten since.
    gone: Vec<Vec<u8>>,
    bytes: usize,
}

#[derive(Default)]
struct Group {
    key: Box<[u8]>,
    /// The greatest event time of its rows, and of those that went; `None`: it never had any.
    time: Option<i64>,
    /// How many rows it has.
    rows: i64,
    /// The digest of the row that was sent for it, if one was and was not taken back.
    sent: Option<[u64; 2]>,
    changed: bool,
    unsaved: bool,
    /// The changelog has it.
    saved: bool,
}

/// A batch's rows in the forms that groups take them in.
pub(crate) struct Prepared {
    keys: Keys,
    arguments: Vec<Arguments>,
    identity: Option<Rows>,
}

impl Groups {
    /// Groups rows of `input`, which are only added. `schema` is that of the results: the key's columns, then the
    /// aggregates. `meaning` is what else decides what a state record means.
    pub(crate) fn compile(
        group: &[Expr],
        aggregates: &[query::Aggregate],
        input: &DFSchema,
        schema: &DFSchema,
        meaning: &str,
    ) -> Result<Self, CompileError> {
        Self::compile_for(group, aggregates, (input, false), schema, meaning)
    }

    /// The same for rows that are taken out again if `retracts`.
    pub(crate) fn compile_for(
        group: &[Expr],
        aggregates: &[query::Aggregate],
        (input, retracts): (&DFSchema, bool),
        schema: &DFSchema,
        meaning: &str,
    ) -> Result<Self, CompileError> {
        let out_types: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
        let mut accumulators: Vec<Accumulator> = Vec::new();
        let mut columns = Vec::with_capacity(aggregates.len());
        for (aggregate, out_type) in aggregates.iter().zip(out_types.iter().skip(group.len())) {
            let mut new = Some(Accumulator::compile(aggregate, input, out_type, retracts)?);
            for (at, known) in accumulators.iter_mut().enumerate() {
                if let Some(other) = new.take() {
                    new = known.join(other)?;
                    if new.is_none() {
                        columns.push((at, known.results.len() - 1));
                    }
                }
            }
            if let Some(new) = new {
                accumulators.push(new);
                columns.push((accumulators.len() - 1, 0));
            }
        }
        // All that decides what a state record means.
        let keys = group.iter().zip(&out_types).map(|(expr, data_type)| format!("{} as {data_type}", text_of(expr)));
        let meaning: Vec<String> =
            std::iter::once(meaning.to_owned()).chain(keys).chain(accumulators.iter().map(Accumulator::meaning)).collect();
        let compares = retracts || !accumulators.iter().all(Accumulator::tells_changes);
        let keys = group.iter().map(|expr| Expression::compile(expr, input)).collect::<Result<_, _>>()?;
        Ok(Groups {
            key: KeyEncoder::for_rows(keys)?,
            keyless: group.is_empty(),
            identity: accumulators.iter().any(Accumulator::needs_rows).then(|| identity(input)).transpose()?,
            sent: compares.then(|| row_converter(out_types.iter().copied())).transpose()?,
            accumulators,
            columns,
            schema: nullable(schema),
            layout: Saved::layout(&meaning.join("\n")),
            hasher: FixedState::default(),
            index: HashTable::new(),
            groups: Vec::new(),
            values: Vec::new(),
            free: Vec::new(),
            changed: Vec::new(),
            unsaved: Vec::new(),
            gone: Vec::new(),
            bytes: 0,
        })
    }

    /// Whether all columns of the input must be there, not only those that expressions read: a row that is taken out is
    /// found by all of them.
    pub(crate) fn reads_whole_rows(&self) -> bool {
        self.identity.is_some()
    }

    /// Evaluates all that can fail. Rows that FILTER leaves out of all aggregates are rows of their group all the same.
    pub(crate) fn prepare(&self, batch: &Batch) -> Result<Prepared, Failure> {
        let identity = self.identity.as_ref().map(|(columns, converter)| {
            let columns: Vec<ArrayRef> = columns.iter().filter_map(|at| batch.rows.columns().get(*at)).cloned().collect();
            convert(converter, &columns, batch.len())
        });
        Ok(Prepared {
            keys: self.key.encode(&batch.rows)?,
            arguments: self.accumulators.iter().map(|accumulator| Arguments::of(accumulator, batch)).collect::<Result<_, _>>()?,
            identity: identity.transpose()?,
        })
    }

    /// Adds row `i` to its group. Gives the group's place, and whether it is new.
    pub(crate) fn add(&mut self, batch: &Prepared, i: usize, time: i64) -> (usize, bool) {
        self.change(batch, i, time, false)
    }

    /// Takes row `i` into its group, which is made if there is none, or out of it. Gives the group's place, and whether it
    /// had no row before.
    pub(crate) fn change(&mut self, batch: &Prepared, i: usize, time: i64, delete: bool) -> (usize, bool) {
        let at = self.position(batch.keys.bytes(i));
        let Some(group) = self.groups.get_mut(at) else { return (at, false) };
        let new = group.rows == 0;
        if delete && new {
            // Nothing is there that could be taken out.
            self.mark(at, false);
            return (at, new);
        }
        let mut changed = new;
        group.time = if new && !self.keyless { Some(time) } else { group.time.max(Some(time)) };
        group.rows += if delete { -1 } else { 1 };
        let emptied = group.rows == 0;
        let arrival = Arrival { time, row: batch.identity.as_ref().map(|rows| rows.row(i).data()) };
        let values = values_of(&mut self.values, self.accumulators.len(), at);
        for ((value, accumulator), arguments) in values.iter_mut().zip(&self.accumulators).zip(&batch.arguments) {
            changed |= accumulator.change(value, arguments, (i, arrival, delete), &mut self.bytes);
        }
        if emptied && !self.keyless {
            self.clear(at);
        }
        self.mark(at, changed || emptied);
        (at, new)
    }

    /// The position of a key's group, which is made if there is none.
    fn position(&mut self, key: &[u8]) -> usize {
        let hash = self.hasher.hash_one(key);
        let groups = &self.groups;
        let same = |at: &usize| groups.get(*at).is_some_and(|group| *group.key == *key);
        let rehash = |at: &usize| groups.get(*at).map_or(0, |group| self.hasher.hash_one(&*group.key));
        match self.index.entry(hash, same, rehash) {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(place) => {
                let at = self.free.pop().unwrap_or(self.groups.len());
                place.insert(at);
                self.bytes += bytes_of_group(key, self.accumulators.len());
                let group = Group { key: key.into(), ..Group::default() };
                match self.groups.get_mut(at) {
                    Some(free) => *free = group,
                    None => {
                        self.groups.push(group);
                        self.values.extend(self.accumulators.iter().map(Accumulator::start));
                    }
                }
                at
            }
        }
    }

    fn mark(&mut self, at: usize, changed: bool) {
        let Some(group) = self.groups.get_mut(at) else { return };
        if changed && !group.changed {
            group.changed = true;
            self.changed.push(at);
        }
        if !group.unsaved {
            group.unsaved = true;
            self.unsaved.push(at);
        }
    }

    /// Forgets a group's values.
    fn clear(&mut self, at: usize) {
        let values = values_of(&mut self.values, self.accumulators.len(), at);
        for (value, accumulator) in values.iter_mut().zip(&self.accumulators) {
            value.clear(accumulator.start(), &mut self.bytes);
        }
    }

    /// Forgets a group: it leaves the changelog, and nothing is sent for it any more.
    pub(crate) fn remove(&mut self, at: usize) {
        self.clear(at);
        let Some(group) = self.groups.get_mut(at).map(std::mem::take) else { return };
        if let Ok(found) = self.index.find_entry(self.hasher.hash_one(&*group.key), |place| *place == at) {
            found.remove();
            self.free.push(at);
            self.bytes = self.bytes.saturating_sub(bytes_of_group(&group.key, self.accumulators.len()));
        }
        let key = record_key(&group.key);
        let gone = &mut self.gone;
        drain_values(values_of(&mut self.values, self.accumulators.len(), at), &key, &mut |key, _| {
            if group.saved {
                gone.push(key.into());
            }
        });
        if group.saved {
            self.gone.push(key);
        }
    }

    /// The groups whose row may have changed since the last call, those among them whose last row went.
    pub(crate) fn take_changed(&mut self) -> Vec<usize> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.retain(|at| self.groups.get_mut(*at).is_some_and(|group| std::mem::take(&mut group.changed)));
        changed
    }

    /// All groups that have a row.
    pub(crate) fn places(&self) -> Vec<usize> {
        (0..self.groups.len()).filter(|at| self.groups.get(*at).is_some_and(|group| self.is_there(group))).collect()
    }

    /// How many groups have a row.
    pub(crate) fn len(&self) -> usize {
        self.groups.iter().filter(|group| self.is_there(group)).count()
    }

    fn is_there(&self, group: &Group) -> bool {
        group.rows > 0 || (self.keyless && group.time.is_some())
    }

    /// The greatest event time of a group's rows.
    pub(crate) fn time(&self, at: usize) -> Option<i64> {
        self.groups.get(at).and_then(|group| group.time)
    }

    /// The rows of some groups under the times given with their places, in the order of these times. Groups that have no
    /// result are left out, and why is put into `failures`.
    pub(crate) fn rows(&self, wanted: &[(i64, usize)], failures: &mut Vec<Failure>) -> Result<Vec<Batch>, Failure> {
        let wanted = self.sorted(wanted, failures);
        wanted.chunks(BATCH_ROWS).map(|wanted| self.batch_of(wanted)).collect()
    }

    /// The same of groups that changed, without the rows that were sent like this before: what was sent is remembered. Of
    /// a group whose last row went there is a delete, of which only the key's columns are said, if a row was sent.
    pub(crate) fn news(&mut self, wanted: &[(i64, usize)], failures: &mut Vec<Failure>) -> Result<Vec<Batch>, Failure> {
        let mut batches = Vec::new();
        for wanted in self.sorted(wanted, failures).chunks(BATCH_ROWS) {
            let gone = wanted.iter().map(|(_, at)| !self.groups.get(*at).is_some_and(|group| self.is_there(group)));
            let gone: Vec<bool> = gone.collect();
            let batch = self.batch_of(wanted)?;
            let batch = if gone.contains(&true) { self.with_deletes(batch, gone.into())? } else { batch };
            let gone: Vec<usize> =
                wanted.iter().enumerate().filter(|(i, _)| batch.is_delete(*i)).map(|(_, (_, at))| *at).collect();
            batches.extend(self.unknown(batch, wanted)?);
            gone.into_iter().for_each(|at| self.remove(at));
        }
        Ok(batches)
    }

    /// The groups that have a result or a delete, in the order of the times given with them.
    fn sorted(&self, wanted: &[(i64, usize)], failures: &mut Vec<Failure>) -> Vec<(i64, usize)> {
        let mut sorted: Vec<(i64, &[u8], usize)> = Vec::with_capacity(wanted.len());
        for (time, at) in wanted {
            let Some(group) = self.groups.get(*at) else { continue };
            match self.failure(*at).filter(|_| self.is_there(group)) {
                Some(failure) => failures.push(failure),
                None => sorted.push((*time, &group.key, *at)),
            }
        }
        sorted.sort_unstable();
        sorted.into_iter().map(|(time, _, at)| (time, at)).collect()
    }

    /// The columns of some groups' keys.
    pub(crate) fn key_columns(&self, groups: &[usize]) -> Result<Vec<ArrayRef>, Failure> {
        self.key.decode(groups.iter().filter_map(|at| self.groups.get(*at)).map(|group| group.key.as_ref()))
    }

    /// The rows of some groups, in the given order.
    fn batch_of(&self, wanted: &[(i64, usize)]) -> Result<Batch, Failure> {
        let (times, places): (Vec<i64>, Vec<usize>) = wanted.iter().copied().unzip();
        let mut columns = self.key_columns(&places)?;
        let finished = self.accumulators.iter().enumerate().map(|(nth, accumulator)| {
            let values: Vec<&Value> = places.iter().filter_map(|at| self.value(*at, nth)).collect();
            accumulator.finish(&values)
        });
        let finished: Vec<Vec<ArrayRef>> = finished.collect::<Result<_, _>>()?;
        columns.extend(self.columns.iter().filter_map(|(nth, column)| finished.get(*nth)?.get(*column).cloned()));
        Ok(Batch::inserts(rows_of(&self.schema, columns, places.len())?, times.into()))
    }

    /// The same with some rows as deletes, of which only the key's columns are said.
    fn with_deletes(&self, batch: Batch, deletes: BooleanArray) -> Result<Batch, Failure> {
        let key = self.schema.fields().len().saturating_sub(self.columns.len());
        let column = |(at, column): (usize, &ArrayRef)| if at < key { Ok(column.clone()) } else { nullif(column, &deletes) };
        let columns = batch.rows.columns().iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
        Ok(Batch { rows: rows_of(&self.schema, columns, batch.len())?, deletes: Some(deletes), ..batch })
    }

    /// The rows of a batch that differ from what was sent last for their groups, and the deletes of what was sent.
    fn unknown(&mut self, batch: Batch, wanted: &[(i64, usize)]) -> Result<Option<Batch>, Failure> {
        let digests = match &self.sent {
            Some(converter) => Some(convert(converter, batch.rows.columns(), batch.len())?),
            None => None,
        };
        let mut unknown = Vec::with_capacity(wanted.len());
        for (i, (_, at)) in wanted.iter().enumerate() {
            let Some(group) = self.groups.get_mut(*at) else { continue };
            let digest = || digests.as_ref().map_or([0; 2], |rows| [0, 1].map(|seed| hash(seed, rows.row(i).data())));
            let sent = (!batch.is_delete(i)).then(digest);
            if group.sent != sent || (self.sent.is_none() && sent.is_some()) {
                unknown.push(i as u32);
            }
            group.sent = sent;
        }
        Ok(match unknown.len() {
            0 => None,
            all if all == batch.len() => Some(batch),
            _ => Some(batch.take(&unknown)?),
        })
    }

    fn value(&self, at: usize, nth: usize) -> Option<&Value> {
        self.values.get(at * self.accumulators.len() + nth)
    }

    /// Why a group has no result, if it has none.
    fn failure(&self, at: usize) -> Option<Failure> {
        self.accumulators.iter().enumerate().find_map(|(nth, accumulator)| accumulator.failure(self.value(at, nth)?))
    }

    /// Writes the state that changed since the last call.
    pub(crate) fn drain(&mut self, write: &mut WriteState<'_>) {
        // A key that is gone may have come back since.
        std::mem::take(&mut self.gone).iter().for_each(|key| write(key, None));
        for at in std::mem::take(&mut self.unsaved) {
            let Some(group) = self.groups.get_mut(at).filter(|group| group.unsaved) else { continue };
            (group.unsaved, group.saved) = (false, true);
            let key = record_key(&group.key);
            let values = values_of(&mut self.values, self.accumulators.len(), at);
            let mut saved = Saved::default();
            saved.integer(group.time.unwrap_or(i64::MIN));
            saved.integer(group.rows);
            saved.integer(i64::from(group.sent.is_some()));
            group.sent.iter().flatten().for_each(|part| saved.integer(*part as i64));
            values.iter().for_each(|value| value.save(&mut saved));
            write(&key, Some(&saved.finish(self.layout, &key)));
            drain_values(values, &key, &mut |key, record| {
                let record = record.map(|record| {
                    let mut saved = Saved::default();
                    saved.bytes(record);
                    saved.finish(self.layout, key)
                });
                write(key, record.as_deref());
            });
        }
    }

    /// Takes back one state record. Returns the group's position.
    pub(crate) fn restore(&mut self, key: &[u8], record: &[u8]) -> Result<usize, StateError> {
        let mut saved = Reader::open(record, self.layout, key)?;
        let damaged = || StateError::Damaged("its key is none of a group".into());
        let (length, rest) = key.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (group_key, element) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(damaged)?;
        let at = self.position(group_key);
        let values = values_of(&mut self.values, self.accumulators.len(), at);
        if element.is_empty() {
            let group = self.groups.get_mut(at).ok_or_else(damaged)?;
            group.saved = true;
            (group.time, group.rows) = (Some(saved.integer()?).filter(|time| *time > i64::MIN), saved.integer()?);
            group.sent = match saved.integer()? {
                0 => None,
                _ => Some([saved.integer()? as u64, saved.integer()? as u64]),
            };
            values.iter_mut().try_for_each(|value| value.load(&mut saved, &mut self.bytes))?;
        } else {
            let (nth, element) = element.split_first_chunk::<2>().ok_or_else(damaged)?;
            let value = values.get_mut(usize::from(u16::from_be_bytes(*nth))).ok_or_else(damaged)?;
            value.restore(element, saved.bytes()?, &mut self.bytes)?;
        }
        saved.end()?;
        Ok(at)
    }

    /// Estimate of the memory that the state takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The columns of its rows.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What it groups by, and its aggregates, as SQL.
    pub(crate) fn text(&self) -> (String, String) {
        let texts = self.accumulators.iter().flat_map(Accumulator::texts).map(String::as_str);
        (self.key.text(), texts.collect::<Vec<_>>().join(", "))
    }

    /// What aggregates keep one by one: `each value of array_agg(x)`.
    pub(crate) fn kept(&self) -> Option<String> {
        let kept = self.accumulators.iter().filter_map(|a| Some(format!("{} of {}", a.keeps()?, a.texts().join(", "))));
        let kept: Vec<String> = kept.collect();
        (!kept.is_empty()).then(|| kept.join(", "))
    }
}

/// The columns that tell rows of the input from others. Event times are not among them: a delete has the time of the
/// change that caused it.
fn identity(input: &DFSchema) -> Result<(Vec<usize>, RowConverter), CompileError> {
    let fields = input.fields().iter().enumerate().filter(|(_, field)| field.name() != ROWTIME);
    let (columns, types): (Vec<usize>, Vec<&DataType>) = fields.map(|(at, field)| (at, field.data_type())).unzip();
    Ok((columns, row_converter(types.into_iter())?))
}

/// The values of a group.
fn values_of(values: &mut [Value], width: usize, at: usize) -> &mut [Value] {
    values.get_mut(at * width..(at + 1) * width).unwrap_or_default()
}

/// Writes what has records of its own, under the keys of these records.
fn drain_values(values: &mut [Value], key: &[u8], write: &mut WriteState<'_>) {
    for (nth, value) in (0u16..).zip(values) {
        let mut whole = key.to_vec();
        whole.extend(nth.to_be_bytes());
        let length = whole.len();
        value.drain(&mut |element, record| {
            whole.truncate(length);
            whole.extend(element);
            write(&whole, record);
        });
    }
}

fn bytes_of_group(key: &[u8], width: usize) -> usize {
    key.len() + size_of::<Group>() + size_of::<usize>() + width * size_of::<Value>()
}

/// The key of a group's record. Those of its elements begin with it, and with no other group's.
fn record_key(key: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(key.len() + 4);
    whole.extend(u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
    whole.extend(key);
    whole
}
