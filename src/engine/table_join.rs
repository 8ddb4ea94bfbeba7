//! Table join: two tables joined on any equal columns, the result following both.
//!
//! The rows of either side are kept by what they are joined on, in groups. A change of a row finds its partners in the
//! other side's part of its group. First all that a batch changes is only planned: which rows it replaces, which pairs
//! these make, whether the rest of the condition holds. Then the results are made, and last the changes are carried out,
//! so that a batch that fails has changed nothing.
//!
//! Where a left row has one partner at most and right rows alone are not wanted, the result is a table by the left's key:
//! a change gives at most one record for each left row that it reaches, the new result, or a delete when there is none any
//! more. Else whole rows are taken back, and each row of a side that is wanted alone counts its partners for that. A record's
//! event time is the latest of its rows' and of the change that caused it.

use std::borrow::Cow;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::error::ArrowError;
use datafusion_common::DFSchema;
use datafusion_expr::Expr;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::arena::{Arena, NO_ROW, RowId};
use super::batch::Batch;
use super::describe::{Description, State};
use super::error::{CompileError, Failure};
use super::expression::{Expression, nullable};
use super::key::{KeyEncoder, KeyMap, Keys};
use super::operator::Operator;
use super::pairs::{Output, Residual, Rows};
use crate::sql::query::{Changes, JoinKind};

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// Garbage below this many rows is not worth a collection.
const SMALL: usize = 4096;

/// Pairs whose condition is evaluated at once.
const CONDITION_ROWS: usize = 4096;

pub(crate) struct TableJoin {
    sides: [Side; 2],
    residual: Option<Residual>,
    kind: JoinKind,
    output: Output,
    changes: Changes,
    /// Whether event times are read above.
    times: bool,
    /// By what rows are joined on, nulls included.
    groups: KeyMap<Group>,
}

/// One input.
struct Side {
    on: KeyEncoder,
    rows: Arena,
    index: Index,
    /// The columns that anybody reads: rows that are equal in them are equal.
    read: Vec<bool>,
    /// How many of the rows are wanted.
    live: usize,
}

/// How the row is found that a change replaces or takes back.
enum Index {
    /// It is the only one of its group: the side is joined on its whole key.
    Group,
    /// By its key.
    Key(KeyEncoder, KeyMap<Known>),
    /// By all its columns that anybody reads; of equal rows the last to come goes first.
    Whole(KeyEncoder, KeyMap<Vec<(RowId, i64)>>),
}

/// A row that is known by its key, with what it is joined on.
#[derive(Debug, Clone)]
struct Known {
    row: RowId,
    time: i64,
    on: Box<[u8]>,
    null: bool,
}

/// The rows that are joined on the same, by number.
#[derive(Debug, Default)]
struct Group {
    left: Vec<Entry>,
    right: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    row: RowId,
    time: i64,
    /// How many partners it has; kept where its side is wanted alone.
    partners: usize,
}

/// What a row of a batch means: a row goes, a row comes, or one replaces another.
struct Change<'a> {
    /// The row's position in the batch.
    at: usize,
    before: Option<Placed<'a>>,
    after: Option<Placed<'a>>,
}

/// A row, and its group.
#[derive(Debug, Clone)]
struct Placed<'a> {
    row: RowId,
    time: i64,
    on: Cow<'a, [u8]>,
    /// Nothing equals a null.
    null: bool,
    /// Its partners' entries, those that fit.
    partners: Vec<Entry>,
}

/// A result: a row of each side, or of one.
#[derive(Debug, Clone, Copy)]
struct Pair {
    left: RowId,
    right: RowId,
    time: i64,
}

/// Rows to be sent: numbers of both sides, times, and which are deletes.
#[derive(Default)]
struct Records {
    left: Vec<RowId>,
    right: Vec<RowId>,
    times: Vec<i64>,
    deletes: Vec<bool>,
}

/// What the rows of a batch have made of the index so far.
type Seen<'a, V> = HashMap<&'a [u8], V, FixedState>;

/// What a table join is made of: equal expressions of both sides, in an encoding that knows nulls; for each whether they
/// are its whole key.
pub(crate) struct Sides<'a> {
    pub(crate) on: [KeyEncoder; 2],
    pub(crate) whole: [bool; 2],
    pub(crate) schemas: [&'a DFSchema; 2],
    pub(crate) changes: [Changes; 2],
    /// The columns that anybody reads.
    pub(crate) read: [Vec<bool>; 2],
}

impl TableJoin {
    pub(crate) fn compile(
        sides: Sides<'_>,
        residual: Option<&Expr>,
        kind: JoinKind,
        (schema, wanted): (&DFSchema, &[bool]),
        (changes, times): (&Changes, bool),
    ) -> Result<Self, CompileError> {
        let Sides { on: [left, right], whole, schemas, changes: inputs, read: [read_left, read_right] } = sides;
        let [left_changes, right_changes] = &inputs;
        let by_key = matches!(changes, Changes::Upsert(_));
        let one_partner = matches!((left_changes, right_changes), (Changes::Upsert(_), Changes::Upsert(_))) && whole[RIGHT];
        if by_key && !(one_partner && matches!(kind, JoinKind::Inner | JoinKind::Left)) {
            return Err(CompileError("a table join whose rows may have several results has no key".into()));
        }
        Ok(TableJoin {
            sides: [
                Side::new(left, schemas[LEFT], left_changes, whole[LEFT], read_left)?,
                Side::new(right, schemas[RIGHT], right_changes, whole[RIGHT], read_right)?,
            ],
            residual: residual.map(|condition| Residual::compile(condition, schema)).transpose()?,
            kind,
            output: Output::new(schema, wanted),
            changes: changes.clone(),
            times,
            groups: KeyMap::default(),
        })
    }

    /// Whether the rows of a side are sent without a partner, too.
    fn keeps(&self, port: usize) -> bool {
        match self.kind {
            JoinKind::Inner => false,
            JoinKind::Left => port == LEFT,
            JoinKind::Right => port == RIGHT,
            JoinKind::Full => true,
        }
    }

    fn side(&self, port: usize) -> &Side {
        let [left, right] = &self.sides;
        if port == LEFT { left } else { right }
    }

    fn side_mut(&mut self, port: usize) -> &mut Side {
        let [left, right] = &mut self.sides;
        if port == LEFT { left } else { right }
    }

    fn entries(&self, port: usize, on: &[u8]) -> &[Entry] {
        self.groups.get(on).map_or(&[], |group| group.side(port))
    }

    /// What each row of a batch means. Rows that can't matter are left out.
    fn changes_of<'a>(&self, port: usize, batch: &Batch, keys: &'a RowKeys, first: RowId) -> Vec<Change<'a>> {
        let RowKeys { on, index } = keys;
        let rows = batch.times.iter().enumerate().map(|(at, time)| {
            let placed = Placed {
                row: first + at as RowId,
                time: *time,
                on: Cow::Borrowed(on.bytes(at)),
                null: on.is_null(at),
                partners: Vec::new(),
            };
            (at, placed, batch.is_delete(at))
        });
        match (&self.side(port).index, index) {
            (Index::Key(_, known), Some(index)) => self.changes_by_key(port, rows, known, index),
            (Index::Whole(_, known), Some(index)) => self.changes_of_rows(port, rows, known, index),
            _ => self.changes_by_group(port, rows, on),
        }
    }

    /// A null has no partner: it matters only where it is wanted alone.
    fn matters(&self, port: usize, placed: &Placed<'_>) -> bool {
        !placed.null || self.keeps(port)
    }

    /// Whether a row that replaces another changes nothing. Where results are tables by key it counts all the same: its
    /// event time may be that of later results.
    fn idle(&self, port: usize, before: (RowId, i64), after: &Placed<'_>) -> bool {
        let side = self.side(port);
        let read = |column: usize| side.read.get(column).copied().unwrap_or(true);
        let counts = self.changes != Changes::Retract || (self.times && before.1 != after.time);
        !counts && side.rows.same(before.0, after.row, read)
    }

    fn changes_by_group<'a>(
        &self,
        port: usize,
        rows: impl Iterator<Item = (usize, Placed<'a>, bool)>,
        on: &'a Keys,
    ) -> Vec<Change<'a>> {
        let mut seen: Seen<'a, Option<(RowId, i64)>> = Seen::default();
        let change = |(at, placed, delete): (usize, Placed<'a>, bool)| {
            if !self.matters(port, &placed) {
                return None;
            }
            let kept = || self.entries(port, &placed.on).last().map(|entry| (entry.row, entry.time));
            let before = seen.get(on.bytes(at)).copied().unwrap_or_else(kept);
            if before.is_some_and(|before| !delete && self.idle(port, before, &placed)) {
                return None;
            }
            seen.insert(on.bytes(at), (!delete).then_some((placed.row, placed.time)));
            let before = before.map(|(row, time)| Placed { row, time, ..placed.clone() });
            Change::some(at, before, (!delete).then_some(placed))
        };
        rows.filter_map(change).collect()
    }

    fn changes_by_key<'a>(
        &self,
        port: usize,
        rows: impl Iterator<Item = (usize, Placed<'a>, bool)>,
        known: &KeyMap<Known>,
        index: &'a Keys,
    ) -> Vec<Change<'a>> {
        let mut seen: Seen<'a, Option<Known>> = Seen::default();
        let change = |(at, placed, delete): (usize, Placed<'a>, bool)| {
            let before = seen.get(index.bytes(at)).cloned().unwrap_or_else(|| known.get(index.bytes(at)).cloned());
            let after = (!delete && self.matters(port, &placed)).then_some(placed);
            if let (Some(before), Some(after)) = (&before, &after)
                && self.idle(port, (before.row, before.time), after)
            {
                return None;
            }
            seen.insert(index.bytes(at), after.as_ref().map(Placed::known));
            let before = before.map(|Known { row, time, on, null }| Placed {
                row,
                time,
                on: Cow::Owned(on.into_vec()),
                null,
                partners: Vec::new(),
            });
            Change::some(at, before, after)
        };
        rows.filter_map(change).collect()
    }

    fn changes_of_rows<'a>(
        &self,
        port: usize,
        rows: impl Iterator<Item = (usize, Placed<'a>, bool)>,
        known: &KeyMap<Vec<(RowId, i64)>>,
        index: &'a Keys,
    ) -> Vec<Change<'a>> {
        let mut seen: Seen<'a, Vec<(RowId, i64)>> = Seen::default();
        let change = |(at, placed, delete): (usize, Placed<'a>, bool)| {
            if !self.matters(port, &placed) {
                return None;
            }
            let key = index.bytes(at);
            let equal = seen.entry(key).or_insert_with(|| known.get(key).cloned().unwrap_or_default());
            if !delete {
                equal.push((placed.row, placed.time));
                return Change::some(at, None, Some(placed));
            }
            let (row, time) = equal.pop()?;
            Change::some(at, Some(Placed { row, time, ..placed }), None)
        };
        rows.filter_map(change).collect()
    }

    /// Finds the partners of all rows that come and go.
    fn pair(&self, port: usize, changes: &mut [Change<'_>]) -> Result<(), Failure> {
        let other = other(port);
        let mut pairs: Vec<(RowId, RowId)> = Vec::new();
        for placed in changes.iter_mut().flat_map(Change::placed) {
            if !placed.null {
                placed.partners = self.entries(other, &placed.on).to_vec();
                if self.residual.is_some() {
                    pairs.extend(placed.partners.iter().map(|partner| (placed.row, partner.row)));
                }
            }
        }
        let Some(residual) = &self.residual else { return Ok(()) };
        let mut holds = Vec::with_capacity(pairs.len());
        for part in pairs.chunks(CONDITION_ROWS) {
            let (own, others): (Vec<_>, Vec<_>) = part.iter().copied().unzip();
            let (left, right) = if port == LEFT { (own, others) } else { (others, own) };
            let [left_side, right_side] = &self.sides;
            let holding = residual.holds(Rows::Kept(&left_side.rows, &left), Rows::Kept(&right_side.rows, &right))?;
            holds.extend(holding.values().iter());
        }
        let mut holds = holds.into_iter();
        for placed in changes.iter_mut().flat_map(Change::placed) {
            placed.partners.retain(|_| holds.next().unwrap_or(false));
        }
        Ok(())
    }

    /// What the changes make of a result that is a table by the left's key.
    fn records_by_key(&self, port: usize, batch: &Batch, changes: &[Change<'_>]) -> Records {
        let mut records = Records::default();
        for Change { at, before, after } in changes {
            let given = batch.times.get(*at).copied().unwrap_or(i64::MIN);
            if port == LEFT {
                let result = |placed: &Placed<'_>| self.result((placed.row, placed.time), placed.partners.first().copied());
                let (old, new) = (before.as_ref().and_then(result), after.as_ref().and_then(result));
                if let Some((pair, delete)) = self.record(old, new, given) {
                    records.push(pair, delete);
                }
                continue;
            }
            // A right row and the one that replaces it are in the same group.
            let Some(placed) = after.as_ref().or(before.as_ref()).filter(|placed| !placed.null) else { continue };
            let pairs = |placed: &Option<Placed<'_>>, left: RowId| {
                let placed = placed.as_ref()?;
                let fits = placed.partners.binary_search_by_key(&left, |partner| partner.row).is_ok();
                fits.then_some(Entry { row: placed.row, time: placed.time, partners: 0 })
            };
            for left in self.entries(LEFT, &placed.on) {
                let result = |placed| self.result((left.row, left.time), pairs(placed, left.row));
                if let Some((pair, delete)) = self.record(result(before), result(after), given) {
                    records.push(pair, delete);
                }
            }
        }
        records
    }

    /// The result of a left row that has this partner.
    fn result(&self, (left, time): (RowId, i64), partner: Option<Entry>) -> Option<Pair> {
        match partner {
            Some(right) => Some(Pair { left, right: right.row, time: time.max(right.time) }),
            None => self.keeps(LEFT).then_some(Pair { left, right: NO_ROW, time }),
        }
    }

    /// What says that a result has become another.
    fn record(&self, old: Option<Pair>, new: Option<Pair>, given: i64) -> Option<(Pair, bool)> {
        match (old, new) {
            (None, None) => None,
            (Some(old), None) => Some((Pair { time: old.time.max(given), ..old }, true)),
            (None, Some(new)) => Some((new, false)),
            (Some(old), Some(new)) => {
                let later = self.times && old.time != new.time;
                let same = !later && self.looks_same(LEFT, old.left, new.left) && self.looks_same(RIGHT, old.right, new.right);
                (!same).then_some((Pair { time: new.time.max(given), ..new }, false))
            }
        }
    }

    /// Whether two rows of a side have the same values in all columns of the result that anybody reads.
    fn looks_same(&self, port: usize, old: RowId, new: RowId) -> bool {
        let first = if port == LEFT { 0 } else { self.side(LEFT).rows.schema().fields().len() };
        old == new || self.side(port).rows.same(old, new, |column| self.output.wants(first + column))
    }

    /// What the changes make of a result whose rows are taken back whole. Of one change what goes comes before what
    /// comes.
    fn records_taken_back(&self, port: usize, batch: &Batch, changes: &[Change<'_>]) -> Records {
        let mut records = Records::default();
        // How the numbers of partners differ from those that are kept, so far.
        let mut partners: HashMap<RowId, usize, FixedState> = HashMap::default();
        let (keeps, keeps_other) = (self.keeps(port), self.keeps(other(port)));
        for Change { at, before, after } in changes {
            let given = batch.times.get(*at).copied().unwrap_or(i64::MIN);
            let mut record = |pair: Pair, delete| records.push(Pair { time: pair.time.max(given), ..pair }, delete);
            let (mut alone, mut coming): (Vec<&Entry>, Vec<&Entry>) = (Vec::new(), Vec::new());
            if keeps_other {
                let mut count = |entry: &Entry, add: bool| {
                    let count = partners.entry(entry.row).or_insert(entry.partners);
                    let old = *count;
                    *count = if add { old.saturating_add(1) } else { old.saturating_sub(1) };
                    (old, *count)
                };
                let lost = before.iter().flat_map(|placed| &placed.partners);
                let lost: Vec<&Entry> = lost.filter(|entry| count(entry, false).1 == 0).collect();
                let found = after.iter().flat_map(|placed| &placed.partners);
                let found: Vec<&Entry> = found.filter(|entry| count(entry, true).0 == 0).collect();
                // One that loses its only partner and finds another was not alone in between.
                let among = |entry: &Entry, list: &[&Entry]| list.binary_search_by_key(&entry.row, |other| other.row).is_ok();
                alone.extend(found.iter().filter(|entry| !among(entry, &lost)).copied());
                coming.extend(lost.iter().filter(|entry| !among(entry, &found)).copied());
            }
            for placed in before.iter() {
                placed.results(keeps).for_each(|partner| record(placed.pair(port, partner), true));
            }
            for entry in alone {
                record(entry.alone(other(port)), true);
            }
            for entry in coming {
                record(entry.alone(other(port)), false);
            }
            for placed in after.iter() {
                placed.results(keeps).for_each(|partner| record(placed.pair(port, partner), false));
            }
        }
        records
    }

    fn send(&self, records: &Records) -> Result<Option<Batch>, ArrowError> {
        if records.times.is_empty() {
            return Ok(None);
        }
        let [left_side, right_side] = &self.sides;
        let width = left_side.rows.schema().fields().len();
        let deletes = records.deletes.contains(&true);
        let key = match &self.changes {
            Changes::Upsert(key) if deletes => Some(key),
            _ => None,
        };
        // Of a delete by key only the key's columns are said.
        let unsaid = |rows: &[RowId]| -> Vec<RowId> {
            let said = rows.iter().zip(&records.deletes).map(|(row, delete)| if *delete { NO_ROW } else { *row });
            said.collect()
        };
        let gather = |side: &Side, rows: &[RowId], first: usize| -> Result<Vec<ArrayRef>, ArrowError> {
            let wanted = (0..side.rows.schema().fields().len()).filter(|column| self.output.wants(first + column));
            let Some(key) = key else { return side.rows.gather(rows, wanted) };
            let said = unsaid(rows);
            let rows_of = |column: usize| if key.contains(&(first + column)) { rows } else { said.as_slice() };
            let columns = wanted.map(|column| side.rows.gather(rows_of(column), std::iter::once(column)));
            Ok(columns.collect::<Result<Vec<_>, _>>()?.concat())
        };
        let mut columns = gather(left_side, &records.left, 0)?;
        columns.extend(gather(right_side, &records.right, width)?);
        let rows = self.output.rows(columns, records.times.len())?;
        let deletes = deletes.then(|| BooleanArray::from(records.deletes.clone()));
        Ok(Some(Batch { rows, times: records.times.as_slice().to_vec().into(), deletes, origins: None }))
    }

    /// Makes the changes the truth.
    fn carry_out(&mut self, port: usize, changes: Vec<Change<'_>>, index: Option<&Keys>) {
        let count = self.keeps(other(port));
        for Change { at, before, after } in changes {
            for placed in before.iter() {
                if let Some(group) = self.groups.get_mut(placed.on.as_ref()) {
                    remove(group.side_mut(port), placed.row);
                    if count {
                        let less = |entry: &mut Entry| entry.partners = entry.partners.saturating_sub(1);
                        change_each(group.side_mut(other(port)), &placed.partners, less);
                    }
                    if group.left.is_empty() && group.right.is_empty() {
                        self.groups.remove(placed.on.as_ref());
                    }
                }
            }
            for placed in after.iter() {
                let group = self.groups.entry_ref(placed.on.as_ref()).or_default();
                let entry = Entry { row: placed.row, time: placed.time, partners: placed.partners.len() };
                group.side_mut(port).push(entry);
                if count {
                    let more = |entry: &mut Entry| entry.partners = entry.partners.saturating_add(1);
                    change_each(group.side_mut(other(port)), &placed.partners, more);
                }
            }
            let side = self.side_mut(port);
            side.live = (side.live + usize::from(after.is_some())).saturating_sub(usize::from(before.is_some()));
            if let Some(index) = index {
                side.index.carry_out(index.bytes(at), before.as_ref(), after.as_ref());
            }
        }
    }

    /// Copies the wanted rows of a side together when most are not wanted any more.
    fn collect_garbage(&mut self, port: usize) -> Result<(), ArrowError> {
        let side = self.side(port);
        if side.rows.len() <= 2 * side.live + SMALL {
            return Ok(());
        }
        let entries = self.groups.values().flat_map(|group| group.side(port));
        let mut kept: Vec<RowId> = entries.map(|entry| entry.row).collect();
        // In their old order, in which entries are sorted.
        kept.sort_unstable();
        let first = self.side_mut(port).rows.keep(&kept)?;
        let moved = |row: &mut RowId| {
            if let Ok(at) = kept.binary_search(row) {
                *row = first + at as RowId;
            }
        };
        self.groups.values_mut().flat_map(|group| group.side_mut(port)).for_each(|entry| moved(&mut entry.row));
        match &mut self.side_mut(port).index {
            Index::Group => {}
            Index::Key(_, rows) => rows.values_mut().for_each(|known| moved(&mut known.row)),
            Index::Whole(_, rows) => rows.values_mut().flatten().for_each(|(row, _)| moved(row)),
        }
        Ok(())
    }
}

impl Side {
    fn new(on: KeyEncoder, schema: &DFSchema, changes: &Changes, whole: bool, read: Vec<bool>) -> Result<Self, CompileError> {
        let encoder = |columns: &mut dyn Iterator<Item = usize>| {
            KeyEncoder::for_rows(columns.map(|at| Expression::column(at, schema)).collect::<Result<_, _>>()?)
        };
        let index = match changes {
            Changes::Append => return Err(CompileError("a join of tables needs tables".into())),
            Changes::Upsert(_) if whole => Index::Group,
            Changes::Upsert(key) => Index::Key(encoder(&mut key.iter().copied())?, KeyMap::default()),
            Changes::Retract => {
                let mut columns = read.iter().enumerate().filter(|(_, read)| **read).map(|(column, _)| column);
                Index::Whole(encoder(&mut columns)?, KeyMap::default())
            }
        };
        Ok(Side { on, rows: Arena::new(nullable(schema)), index, read, live: 0 })
    }

    fn keys(&self, batch: &Batch) -> Result<RowKeys, Failure> {
        let index = match &self.index {
            Index::Group => None,
            Index::Key(encoder, _) | Index::Whole(encoder, _) => Some(encoder.encode(&batch.rows)?),
        };
        Ok(RowKeys { on: self.on.encode(&batch.rows)?, index })
    }
}

/// What the rows of a batch are joined on, and under what their side's index has them.
struct RowKeys {
    on: Keys,
    index: Option<Keys>,
}

impl Index {
    fn carry_out(&mut self, key: &[u8], before: Option<&Placed<'_>>, after: Option<&Placed<'_>>) {
        match self {
            Index::Group => {}
            Index::Key(_, rows) => match after {
                Some(after) => drop(rows.insert(key.into(), after.known())),
                None => drop(rows.remove(key)),
            },
            Index::Whole(_, rows) => {
                if let (Some(before), Some(equal)) = (before, rows.get_mut(key)) {
                    equal.retain(|(row, _)| *row != before.row);
                    if equal.is_empty() {
                        rows.remove(key);
                    }
                }
                if let Some(after) = after {
                    rows.entry_ref(key).or_default().push((after.row, after.time));
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Index::Group => 0,
            Index::Key(_, rows) => rows.iter().map(|(key, known)| key.len() + known.on.len() + 24 + size_of::<Known>()).sum(),
            Index::Whole(_, rows) => {
                let row = size_of::<(RowId, i64)>();
                rows.iter().map(|(key, equal)| key.len() + 48 + equal.capacity() * row).sum()
            }
        }
    }
}

impl<'a> Change<'a> {
    fn some(at: usize, before: Option<Placed<'a>>, after: Option<Placed<'a>>) -> Option<Self> {
        (before.is_some() || after.is_some()).then_some(Change { at, before, after })
    }

    fn placed(&mut self) -> impl Iterator<Item = &mut Placed<'a>> {
        self.before.iter_mut().chain(&mut self.after)
    }
}

impl Placed<'_> {
    fn known(&self) -> Known {
        Known { row: self.row, time: self.time, on: self.on.as_ref().into(), null: self.null }
    }

    /// Its partners; none, once, if it is sent alone.
    fn results(&self, keeps: bool) -> impl Iterator<Item = Option<Entry>> {
        let alone = (keeps && self.partners.is_empty()).then_some(None);
        self.partners.iter().copied().map(Some).chain(alone)
    }

    /// Its result with a partner, or alone.
    fn pair(&self, port: usize, partner: Option<Entry>) -> Pair {
        let (other, other_time) = partner.map_or((NO_ROW, i64::MIN), |partner| (partner.row, partner.time));
        let (left, right) = if port == LEFT { (self.row, other) } else { (other, self.row) };
        Pair { left, right, time: self.time.max(other_time) }
    }
}

impl Entry {
    /// Its result without a partner.
    fn alone(&self, port: usize) -> Pair {
        let (left, right) = if port == LEFT { (self.row, NO_ROW) } else { (NO_ROW, self.row) };
        Pair { left, right, time: self.time }
    }
}

impl Group {
    fn side(&self, port: usize) -> &Vec<Entry> {
        if port == LEFT { &self.left } else { &self.right }
    }

    fn side_mut(&mut self, port: usize) -> &mut Vec<Entry> {
        if port == LEFT { &mut self.left } else { &mut self.right }
    }
}

/// The entries of a list that are also in another; both are sorted.
fn change_each(entries: &mut [Entry], which: &[Entry], change: impl Fn(&mut Entry)) {
    for entry in which {
        if let Ok(at) = entries.binary_search_by_key(&entry.row, |entry| entry.row)
            && let Some(entry) = entries.get_mut(at)
        {
            change(entry);
        }
    }
}

fn remove(entries: &mut Vec<Entry>, row: RowId) {
    if let Ok(at) = entries.binary_search_by_key(&row, |entry| entry.row) {
        entries.remove(at);
    }
}

fn other(port: usize) -> usize {
    if port == LEFT { RIGHT } else { LEFT }
}

impl Records {
    fn push(&mut self, pair: Pair, delete: bool) {
        self.left.push(pair.left);
        self.right.push(pair.right);
        self.times.push(pair.time);
        self.deletes.push(delete);
    }
}

impl Operator for TableJoin {
    fn push(&mut self, port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        self.collect_garbage(port)?;
        let keys = self.side(port).keys(batch)?;
        let first = self.side_mut(port).rows.append(&batch.rows, &batch.times)?;
        let mut changes = self.changes_of(port, batch, &keys, first);
        self.pair(port, &mut changes)?;
        let records = match self.changes {
            Changes::Upsert(_) => self.records_by_key(port, batch, &changes),
            Changes::Append | Changes::Retract => self.records_taken_back(port, batch, &changes),
        };
        let out = self.send(&records)?;
        self.carry_out(port, changes, keys.index.as_ref());
        Ok(out)
    }

    fn is_pure(&self, _port: usize) -> bool {
        false
    }

    fn state_bytes(&self) -> usize {
        let entries = |group: &Group| (group.left.capacity() + group.right.capacity()) * size_of::<Entry>();
        let groups: usize = self.groups.iter().map(|(key, group)| key.len() + 24 + size_of::<Group>() + entries(group)).sum();
        groups + self.sides.iter().map(|side| side.rows.bytes() + side.index.bytes()).sum::<usize>()
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let name = match self.kind {
            JoinKind::Inner => "table join".to_string(),
            kind => format!("{} table join", kind.name()),
        };
        let on: Vec<String> = self.sides.iter().map(|side| side.on.text()).collect();
        Description::stateless(&name, self.output.schema(), &self.changes, inputs)
            .detail("on", on.join(" = "))
            .detail_if("where", self.residual.as_ref().map(Residual::text))
            .state(State {
                what: "the rows of both tables".into(),
                why: "since a change of one side needs the other's rows".into(),
                rebuilt: "the tables' topics, read whole".into(),
                bytes: self.state_bytes(),
            })
    }
}
