//! Table join: two tables joined on their whole keys. The result is a table by the left's key.
//!
//! For each key the newest row of either side is kept, and what was sent for it: nothing, the left row with nulls, or
//! both. A change of either side gives at most one record: the new result, or a delete when there is none any more.

use arrow::array::{ArrayRef, BooleanArray};
use arrow::error::ArrowError;
use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::arena::{Arena, NO_ROW, RowId};
use super::batch::Batch;
use super::describe::{Description, State};
use super::error::{CompileError, Failure};
use super::expression::nullable;
use super::key::{KeyEncoder, KeyMap, Keys};
use super::operator::Operator;
use super::pairs::{Output, Residual, Rows};
use crate::sql::query::{Changes, JoinKind};

const LEFT: usize = 0;

/// Garbage below this many rows is not worth a collection.
const SMALL: usize = 4096;

pub(crate) struct TableJoin {
    /// Both keys, nulls included.
    keys: [KeyEncoder; 2],
    residual: Option<Residual>,
    kind: JoinKind,
    output: Output,
    changes: Changes,
    rows: [Arena; 2],
    pairs: KeyMap<Pair>,
    /// How many rows of each side are wanted.
    live: [usize; 2],
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    sides: [Option<Held>; 2],
    sent: Sent,
}

/// The newest row of a side.
#[derive(Debug, Clone, Copy)]
struct Held {
    row: RowId,
    time: i64,
}

/// What the last record of a key said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sent {
    /// Nothing, or a delete.
    #[default]
    Nothing,
    /// The left row without a partner.
    Alone,
    /// Both rows.
    Both,
}

/// One row of a batch and what its key's sides are after it.
struct Change {
    row: usize,
    sides: [Option<Held>; 2],
}

/// Rows to be sent: numbers of both sides, times, and which are deletes.
#[derive(Default)]
struct Records {
    left: Vec<RowId>,
    right: Vec<RowId>,
    times: Vec<i64>,
    deletes: Vec<bool>,
}

impl TableJoin {
    /// Joins by the equality of two keys, each the whole key of its side, in encodings that know nulls.
    pub(crate) fn compile(
        keys: [KeyEncoder; 2],
        inputs: (&DFSchema, &DFSchema),
        residual: Option<&Expr>,
        kind: JoinKind,
        (schema, wanted): (&DFSchema, &[bool]),
        changes: &Changes,
    ) -> Result<Self, CompileError> {
        Ok(TableJoin {
            keys,
            residual: residual.map(|condition| Residual::compile(condition, schema)).transpose()?,
            kind,
            output: Output::new(schema, wanted),
            changes: changes.clone(),
            rows: [Arena::new(nullable(inputs.0)), Arena::new(nullable(inputs.1))],
            pairs: KeyMap::default(),
            live: [0, 0],
        })
    }

    /// What each row of a batch makes of its key's sides. Rows that can't matter are left out.
    fn changes_of(&self, port: usize, batch: &Batch, keys: &Keys, first: RowId) -> Vec<Change> {
        let mut seen: KeyMap<[Option<Held>; 2]> = KeyMap::default();
        let mut changes = Vec::with_capacity(batch.len());
        for (row, time) in batch.times.iter().enumerate() {
            // A null key has no partner; only a left row that is wanted without one matters.
            if keys.is_null(row) && !(port == LEFT && self.kind == JoinKind::Left) {
                continue;
            }
            let key = keys.bytes(row);
            let mut sides = match seen.get(key) {
                Some(sides) => *sides,
                None => self.pairs.get(key).map_or([None, None], |pair| pair.sides),
            };
            let held = (!batch.is_delete(row)).then_some(Held { row: first + row as RowId, time: *time });
            let Some(side) = sides.get_mut(port) else { continue };
            if side.is_none() && held.is_none() {
                continue;
            }
            *side = held;
            seen.insert(key.into(), sides);
            changes.push(Change { row, sides });
        }
        changes
    }

    /// For each change whether both sides are there and fit together.
    fn fits(&self, changes: &[Change]) -> Result<Vec<bool>, Failure> {
        let both = |change: &Change| match change.sides {
            [Some(left), Some(right)] => Some((left.row, right.row)),
            _ => None,
        };
        let Some(residual) = &self.residual else { return Ok(changes.iter().map(|change| both(change).is_some()).collect()) };
        let (left, right): (Vec<_>, Vec<_>) = changes.iter().filter_map(both).unzip();
        let [left_rows, right_rows] = &self.rows;
        let holds = residual.holds(Rows::Kept(left_rows, &left), Rows::Kept(right_rows, &right))?;
        let mut holds = holds.values().iter();
        Ok(changes.iter().map(|change| both(change).is_some() && holds.next().unwrap_or(false)).collect())
    }

    /// Makes a change the truth, and adds to the output what it means.
    fn carry_out(&mut self, port: usize, key: &[u8], change: &Change, fits: bool, given: Held, records: &mut Records) {
        let [left, right] = change.sides;
        let pair = self.pairs.entry_ref(key).or_default();
        let before = *pair;
        pair.sides = change.sides;
        pair.sent = match (left, fits, self.kind) {
            (Some(_), true, _) => Sent::Both,
            (Some(_), false, JoinKind::Left) => Sent::Alone,
            _ => Sent::Nothing,
        };
        let sent = pair.sent;
        if left.is_none() && right.is_none() {
            self.pairs.remove(key);
        }
        for (live, (before, after)) in self.live.iter_mut().zip(before.sides.iter().zip(&change.sides)) {
            *live = (*live + usize::from(after.is_some())).saturating_sub(usize::from(before.is_some()));
        }
        let number = |side: Option<Held>| side.map_or(NO_ROW, |held| held.row);
        let unchanged = sent == before.sent
            && match sent {
                Sent::Nothing => true,
                Sent::Alone if port != LEFT => true,
                Sent::Alone | Sent::Both => {
                    let (old, new) = (before.sides.get(port).copied().flatten(), change.sides.get(port).copied().flatten());
                    self.looks_same(port, number(old), number(new))
                }
            };
        if unchanged {
            return;
        }
        let delete = sent == Sent::Nothing;
        // A delete needs the left's key: from its row, or from the delete that came.
        records.left.push(left.map_or(given.row, |held| held.row));
        records.right.push(if sent == Sent::Both { number(right) } else { NO_ROW });
        records.times.push([left, right].into_iter().flatten().map(|held| held.time).fold(given.time, i64::max));
        records.deletes.push(delete);
    }

    /// Whether two rows of a side have the same values in all columns that anybody reads.
    fn looks_same(&self, port: usize, old: RowId, new: RowId) -> bool {
        let first = if port == LEFT { 0 } else { self.rows.first().map_or(0, |left| left.schema().fields().len()) };
        self.rows.get(port).is_some_and(|rows| rows.same(old, new, |column| self.output.wants(first + column)))
    }

    fn send(&self, records: Records) -> Result<Option<Batch>, ArrowError> {
        if records.times.is_empty() {
            return Ok(None);
        }
        let [left_rows, right_rows] = &self.rows;
        let width = left_rows.schema().fields().len();
        let wanted = (0..width).filter(|column| self.output.wants(*column));
        let mut columns: Vec<ArrayRef> = if records.deletes.contains(&true) {
            // Of a delete only the key's columns are said.
            let said = records.left.iter().zip(&records.deletes).map(|(row, delete)| if *delete { NO_ROW } else { *row });
            let said: Vec<RowId> = said.collect();
            let is_key = |column: usize| matches!(&self.changes, Changes::Upsert(key) if key.contains(&column));
            let rows = |column| if is_key(column) { &records.left } else { &said };
            let gathered = wanted.map(|column| left_rows.gather(rows(column), std::iter::once(column)));
            gathered.collect::<Result<Vec<_>, _>>()?.concat()
        } else {
            left_rows.gather(&records.left, wanted)?
        };
        let right_columns = (0..right_rows.schema().fields().len()).filter(|column| self.output.wants(width + column));
        columns.extend(right_rows.gather(&records.right, right_columns)?);
        let rows = self.output.rows(columns, records.times.len())?;
        let deletes = records.deletes.contains(&true).then(|| BooleanArray::from(records.deletes));
        Ok(Some(Batch { rows, times: records.times.into(), deletes, origins: None }))
    }

    /// Copies the wanted rows of a side together when most are not wanted any more.
    fn collect_garbage(&mut self, port: usize) -> Result<(), ArrowError> {
        let (Some(rows), Some(live)) = (self.rows.get_mut(port), self.live.get(port)) else { return Ok(()) };
        if rows.len() <= 2 * live + SMALL {
            return Ok(());
        }
        let held = |pair: &Pair| pair.sides.get(port).copied().flatten();
        let kept: Vec<RowId> = self.pairs.values().filter_map(held).map(|held| held.row).collect();
        let first = rows.keep(&kept)?;
        let moved = self.pairs.values_mut().filter_map(|pair| pair.sides.get_mut(port)?.as_mut());
        moved.zip(first..).for_each(|(held, row)| held.row = row);
        Ok(())
    }
}

impl Operator for TableJoin {
    fn push(&mut self, port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let (Some(encoder), Some(rows)) = (self.keys.get(port), self.rows.get_mut(port)) else { return Ok(None) };
        let keys = encoder.encode(&batch.rows)?;
        let first = rows.append(&batch.rows, &batch.times)?;
        let changes = self.changes_of(port, batch, &keys, first);
        let fits = self.fits(&changes)?;
        let mut records = Records::default();
        for (change, fits) in changes.iter().zip(fits) {
            let time = batch.times.get(change.row).copied().unwrap_or(i64::MIN);
            let given = Held { row: first + change.row as RowId, time };
            self.carry_out(port, keys.bytes(change.row), change, fits, given, &mut records);
        }
        let out = self.send(records)?;
        self.collect_garbage(port)?;
        Ok(out)
    }

    fn is_pure(&self, _port: usize) -> bool {
        false
    }

    fn state_bytes(&self) -> usize {
        let keys: usize = self.pairs.keys().map(|key| key.len() + 24 + size_of::<Pair>()).sum();
        self.rows.iter().map(Arena::bytes).sum::<usize>() + keys
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let name = match self.kind {
            JoinKind::Inner => "table join".to_string(),
            kind => format!("{} table join", kind.name()),
        };
        let on: Vec<String> = self.keys.iter().map(KeyEncoder::text).collect();
        Description::stateless(&name, self.output.schema(), &self.changes, inputs)
            .detail("on", on.join(" = "))
            .detail_if("where", self.residual.as_ref().map(Residual::text))
            .state(State {
                what: "the newest row of either side by key".into(),
                why: "since a change of one side needs the other's row".into(),
                rebuilt: "the tables' topics, read whole".into(),
                bytes: self.state_bytes(),
            })
    }
}
