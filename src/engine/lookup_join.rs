//! Lookup join: a stream's rows with a table's row as of their event time, or with the one that has arrived last.
//!
//! The table's versions are kept by key and event time, deletes included: a stream row at T sees the version with the
//! greatest time at or before T, of equal ones the last to arrive. Below the watermark only the newest version of a key is
//! kept, since no stream row that is not late can ask for an older one. The driver hands over a stream's row only when the
//! table has reached its time. As of arrival there is one version of a key, whatever its time.

use arrow::array::UInt32Array;
use arrow::error::ArrowError;
use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::arena::{Arena, NO_ROW, RowId};
use super::batch::Batch;
use super::describe::{Description, State};
use super::error::{CompileError, Failure};
use super::expression::nullable;
use super::key::{KeyEncoder, KeyMap};
use super::operator::Operator;
use super::pairs::{Output, Residual, Rows};
use crate::sql::query::{AsOf, Changes, JoinKind};

/// The port of the stream's rows; the table's is 1.
const STREAM: usize = 0;

/// Garbage below this many rows is not worth a collection.
const SMALL: usize = 4096;

pub(crate) struct LookupJoin {
    stream_key: KeyEncoder,
    table_key: KeyEncoder,
    residual: Option<Residual>,
    kind: JoinKind,
    as_of: AsOf,
    output: Output,
    /// The table's rows.
    rows: Arena,
    /// By key, in the order of time.
    versions: KeyMap<Vec<Version>>,
    /// How many versions have a row.
    live: usize,
    horizon: i64,
    late: u64,
}

#[derive(Debug, Clone, Copy)]
struct Version {
    time: i64,
    /// `NO_ROW`: the key was deleted.
    row: RowId,
}

impl LookupJoin {
    /// Joins by the equality of two keys, the table's being its whole key.
    pub(crate) fn compile(
        keys: (KeyEncoder, KeyEncoder),
        table: &DFSchema,
        residual: Option<&Expr>,
        (kind, as_of): (JoinKind, AsOf),
        (schema, wanted): (&DFSchema, &[bool]),
    ) -> Result<Self, CompileError> {
        Ok(LookupJoin {
            stream_key: keys.0,
            table_key: keys.1,
            residual: residual.map(|condition| Residual::compile(condition, schema)).transpose()?,
            kind,
            as_of,
            output: Output::new(schema, wanted),
            rows: Arena::new(nullable(table)),
            versions: KeyMap::default(),
            live: 0,
            horizon: i64::MIN,
            late: 0,
        })
    }

    fn push_table(&mut self, batch: &Batch) -> Result<(), Failure> {
        let keys = self.table_key.encode(&batch.rows)?;
        let first = self.rows.append(&batch.rows, &batch.times)?;
        for (i, time) in batch.times.iter().enumerate() {
            // No stream row can ask for a null key.
            let Some(key) = keys.get(i) else { continue };
            let row = if batch.is_delete(i) { NO_ROW } else { first + i as RowId };
            let versions = self.versions.entry_ref(key).or_default();
            self.live += usize::from(row != NO_ROW);
            let (time, horizon) = match self.as_of {
                AsOf::EventTime => (*time, self.horizon),
                // All versions are of the same time, so that the last to arrive stays.
                AsOf::Arrival => (i64::MIN, i64::MIN),
            };
            self.live -= insert_version(versions, Version { time, row });
            self.live -= prune(versions, horizon);
            if versions.is_empty() {
                self.versions.remove(key);
            }
        }
        if self.rows.len() > 2 * self.live + SMALL {
            self.collect_garbage()?;
        }
        Ok(())
    }

    /// Forgets the versions that nobody can ask for, and copies the rows that are left together.
    fn collect_garbage(&mut self) -> Result<(), ArrowError> {
        self.versions.retain(|_, versions| {
            self.live -= prune(versions, self.horizon);
            !versions.is_empty()
        });
        if self.rows.len() <= 2 * self.live + SMALL {
            return Ok(());
        }
        let mut kept = Vec::with_capacity(self.live);
        let rows = self.versions.values().flatten().map(|version| version.row).filter(|row| *row != NO_ROW);
        kept.extend(rows);
        let first = self.rows.keep(&kept)?;
        let moved = self.versions.values_mut().flatten().filter(|version| version.row != NO_ROW);
        moved.zip(first..).for_each(|(version, row)| version.row = row);
        Ok(())
    }

    /// For each row of the stream the table's row, or `NO_ROW`; and how many came late.
    fn find(&self, batch: &Batch) -> Result<(Vec<RowId>, u64), Failure> {
        let keys = self.stream_key.encode(&batch.rows)?;
        let as_of =
            |(i, time): (usize, &i64)| keys.get(i).and_then(|key| self.versions.get(key)).map_or(NO_ROW, |v| row_at(v, *time));
        let found = batch.times.iter().enumerate().map(as_of).collect();
        let late = match self.as_of {
            AsOf::EventTime => batch.times.iter().filter(|time| **time < self.horizon).count() as u64,
            AsOf::Arrival => 0,
        };
        Ok((found, late))
    }

    fn push_stream(&mut self, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let (mut found, late) = self.find(batch)?;
        if let Some(residual) = &self.residual {
            let (at, rows): (Vec<u32>, Vec<RowId>) = (0u32..).zip(&found).filter(|(_, row)| **row != NO_ROW).unzip();
            let at = UInt32Array::from(at);
            let holds = residual.holds(Rows::Given(&batch.rows, Some(&at)), Rows::Kept(&self.rows, &rows))?;
            for (at, holds) in at.values().iter().zip(holds.values()) {
                if let (false, Some(row)) = (holds, found.get_mut(*at as usize)) {
                    *row = NO_ROW;
                }
            }
        }
        let out = match self.kind {
            JoinKind::Inner if found.contains(&NO_ROW) => {
                let (at, rows): (Vec<u32>, Vec<RowId>) = (0u32..).zip(&found).filter(|(_, row)| **row != NO_ROW).unzip();
                self.joined(&batch.take(&at)?, &rows)
            }
            _ => self.joined(batch, &found),
        }?;
        self.late += late;
        Ok(out)
    }

    fn joined(&self, batch: &Batch, found: &[RowId]) -> Result<Option<Batch>, ArrowError> {
        if batch.is_empty() {
            return Ok(None);
        }
        let rows = self.output.pairs(Rows::Given(&batch.rows, None), Rows::Kept(&self.rows, found))?;
        Ok(Some(Batch { rows, ..batch.clone() }))
    }
}

/// The row that was there at a time.
fn row_at(versions: &[Version], time: i64) -> RowId {
    match versions.last() {
        Some(last) if last.time <= time => last.row,
        _ => {
            let later = versions.partition_point(|version| version.time <= time);
            later.checked_sub(1).and_then(|at| versions.get(at)).map_or(NO_ROW, |version| version.row)
        }
    }
}

/// Puts a version in its place in time; returns how many rows it replaces: of equal times the last to arrive stays.
fn insert_version(versions: &mut Vec<Version>, version: Version) -> usize {
    let at = versions.partition_point(|other| other.time <= version.time);
    match at.checked_sub(1).and_then(|before| versions.get_mut(before)) {
        Some(before) if before.time == version.time => {
            let replaced = usize::from(before.row != NO_ROW);
            *before = version;
            replaced
        }
        _ => {
            versions.insert(at, version);
            0
        }
    }
}

/// Forgets the versions before the newest one at or before `horizon`, and that one too if it is a delete; returns how
/// many rows are gone.
fn prune(versions: &mut Vec<Version>, horizon: i64) -> usize {
    let mut gone = versions.partition_point(|version| version.time <= horizon).saturating_sub(1);
    // A delete with nothing before it says nothing, once nothing can come before it.
    gone += versions.iter().skip(gone).take_while(|version| version.row == NO_ROW && version.time <= horizon).count();
    versions.drain(..gone).filter(|version| version.row != NO_ROW).count()
}

impl Operator for LookupJoin {
    fn push(&mut self, port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        if port == STREAM { self.push_stream(batch) } else { self.push_table(batch).map(|()| None) }
    }

    fn is_pure(&self, port: usize) -> bool {
        port == STREAM
    }

    fn forget(&mut self, horizon: i64) {
        self.horizon = self.horizon.max(horizon);
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn state_bytes(&self) -> usize {
        let keys: usize = self.versions.keys().map(|key| key.len() + 48).sum();
        let versions: usize = self.versions.values().map(|versions| versions.capacity() * size_of::<Version>()).sum();
        self.rows.bytes() + keys + versions
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let name = match self.kind {
            JoinKind::Inner => "lookup join".to_string(),
            kind => format!("{} lookup join", kind.name()),
        };
        let table_key = self.table_key.text();
        let (what, why, as_of) = match self.as_of {
            AsOf::EventTime => {
                let what = format!("the table's rows by {table_key}, and older versions down to the watermark");
                (what, "since a row of the stream sees the table as of its own time", None)
            }
            AsOf::Arrival => {
                let what = format!("the table's rows by {table_key}");
                (what, "since a row of the stream sees the table as it is when it arrives", Some("arrival"))
            }
        };
        Description::stateless(&name, self.output.schema(), &Changes::Append, inputs)
            .detail("on", format!("{} = {table_key}", self.stream_key.text()))
            .detail_if("as of", as_of)
            .detail_if("where", self.residual.as_ref().map(Residual::text))
            .state(State { what, why: why.into(), rebuilt: "the table's topic, read whole".into(), bytes: self.state_bytes() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(list: &[(i64, RowId)]) -> Vec<Version> {
        list.iter().map(|(time, row)| Version { time: *time, row: *row }).collect()
    }

    fn as_list(versions: &[Version]) -> Vec<(i64, RowId)> {
        versions.iter().map(|version| (version.time, version.row)).collect()
    }

    #[test]
    fn the_version_at_a_time_is_the_newest_at_or_before_it() {
        let versions = versions(&[(10, 0), (20, NO_ROW), (30, 2)]);
        let seen: Vec<RowId> = [9, 10, 19, 20, 29, 30, 99].iter().map(|time| row_at(&versions, *time)).collect();
        assert_eq!(seen, vec![NO_ROW, 0, 0, NO_ROW, NO_ROW, 2, 2]);
        assert_eq!(row_at(&[], 5), NO_ROW);
    }

    #[test]
    fn of_equal_times_the_last_to_arrive_stays() {
        let mut list = versions(&[(10, 0), (20, 1)]);
        assert_eq!(insert_version(&mut list, Version { time: 10, row: 5 }), 1);
        assert_eq!(insert_version(&mut list, Version { time: 15, row: 6 }), 0);
        assert_eq!(as_list(&list), vec![(10, 5), (15, 6), (20, 1)]);
    }

    #[test]
    fn below_the_horizon_only_the_newest_stays_and_no_delete() {
        let mut list = versions(&[(10, 0), (20, 1), (30, 2)]);
        assert_eq!(prune(&mut list, 25), 1);
        assert_eq!(as_list(&list), vec![(20, 1), (30, 2)]);
        let mut list = versions(&[(10, 0), (20, NO_ROW), (30, 2)]);
        assert_eq!(prune(&mut list, 25), 1);
        assert_eq!(as_list(&list), vec![(30, 2)]);
        let mut list = versions(&[(20, NO_ROW)]);
        assert_eq!(prune(&mut list, 19), 0);
        assert_eq!(as_list(&list), vec![(20, NO_ROW)]);
        let mut list = versions(&[(10, 0), (20, NO_ROW)]);
        assert_eq!(prune(&mut list, 20), 1);
        assert!(list.is_empty());
    }
}
