//! Sessions: rows of one partition of which no neighbours are a gap or more apart, sent when the session has closed.
//!
//! Which session a row belongs to is not known until no row can come that joins it to another, so the rows are kept till
//! then. A row may begin a session, be added to one, or join two to one. It is late if it would stand alone, and a session
//! of it alone would be closed already; a late row that an open session takes in is not lost. The rows are kept in the
//! changelog: they are long gone from the input when a long session closes.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::RowConverter;
use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::batch::Batch;
use super::describe::{Description, State};
use super::error::{CompileError, Failure, StateError};
use super::expression::{Expression, nullable};
use super::key::{KeyEncoder, KeyMap, convert, row_converter, unconvert};
use super::operator::{Operator, WriteState};
use super::pairs::Output;
use super::saved::{Reader, Saved};
use super::window::{out_of_range, timestamps};
use crate::sql::query::Changes;

/// Rows per batch of results.
const BATCH_ROWS: usize = 1024;

/// The state record that holds the watermark and the next row's number. A row's key is its number, which is never empty.
const PROGRESS: &[u8] = b"";

pub(crate) struct Session {
    gap_ms: i64,
    grace_ms: i64,
    partition: KeyEncoder,
    /// The columns that are kept: those that somebody reads.
    kept: Vec<usize>,
    converter: RowConverter,
    output: Output,
    sessions: BTreeMap<u64, Open>,
    next_session: u64,
    /// The open sessions of each partition.
    by_key: KeyMap<Vec<u64>>,
    /// The open sessions by their ends.
    by_end: BTreeSet<(i64, u64)>,
    watermark: i64,
    /// The number of the next row, in the order of arrival.
    next_row: u64,
    saved_progress: (i64, u64),
    /// State records of rows that the changelog lacks, and rows that it has and that are gone.
    unsaved: BTreeMap<u64, Vec<u8>>,
    gone: Vec<u64>,
    layout: u32,
    bytes: usize,
    late: Vec<Batch>,
    late_rows: u64,
}

/// A session that may still get rows.
struct Open {
    key: Box<[u8]>,
    /// The event times of its first and its last row.
    first: i64,
    last: i64,
    rows: Vec<Kept>,
}

/// A row of a session.
struct Kept {
    time: i64,
    number: u64,
    row: Box<[u8]>,
}

impl Session {
    /// Sessions of `input`'s rows.
    pub(crate) fn compile(
        (gap_ms, grace_ms): (i64, i64),
        partition: &[Expr],
        input: &DFSchema,
        (schema, wanted): (&DFSchema, &[bool]),
    ) -> Result<Self, CompileError> {
        if gap_ms <= 0 || grace_ms < 0 {
            return Err(CompileError("the gap of a session is longer than nothing, and its grace is not negative".into()));
        }
        let partition = partition.iter().map(|expr| Expression::compile(expr, input)).collect::<Result<Vec<_>, _>>()?;
        let width = input.fields().len();
        let kept: Vec<usize> = (0..width).filter(|at| wanted.get(*at).copied().unwrap_or(false)).collect();
        let arrow = nullable(input);
        let types: Vec<&DataType> = kept.iter().filter_map(|at| arrow.fields().get(*at)).map(|field| field.data_type()).collect();
        let converter = row_converter(types.iter().copied())?;
        let partition = KeyEncoder::for_rows(partition)?;
        let layout = Saved::layout(&format!("session of {gap_ms} ms and {grace_ms} ms by {}: {types:?}", partition.text()));
        // The bounds come behind the kept columns, whoever reads them.
        let wanted: Vec<bool> = wanted.iter().enumerate().map(|(at, wanted)| *wanted || at >= width).collect();
        Ok(Session {
            gap_ms,
            grace_ms,
            partition,
            kept,
            converter,
            output: Output::new(schema, &wanted),
            sessions: BTreeMap::new(),
            next_session: 0,
            by_key: KeyMap::default(),
            by_end: BTreeSet::new(),
            watermark: i64::MIN,
            next_row: 0,
            saved_progress: (i64::MIN, 0),
            unsaved: BTreeMap::new(),
            gone: Vec::new(),
            layout,
            bytes: 0,
            late: Vec::new(),
            late_rows: 0,
        })
    }

    /// Sessions that end up to here are closed at a watermark.
    fn horizon(&self, watermark: i64) -> i64 {
        watermark.saturating_sub(self.grace_ms)
    }

    /// The open sessions of a partition that a row of this time belongs to: none, one, or two that it joins.
    fn around(&self, key: &[u8], time: i64) -> Vec<u64> {
        let near = |id: &&u64| {
            self.sessions
                .get(*id)
                .is_some_and(|open| time.saturating_sub(open.last) < self.gap_ms && open.first.saturating_sub(time) < self.gap_ms)
        };
        self.by_key.get(key).into_iter().flatten().filter(near).copied().collect()
    }

    /// Puts a row into its session.
    fn keep(&mut self, key: &[u8], kept: Kept, around: &[u64]) {
        self.bytes += kept.row.len() + size_of::<Kept>();
        if let [id] = around
            && let Some(open) = self.sessions.get_mut(id)
        {
            if kept.time > open.last {
                self.by_end.remove(&(open.last.saturating_add(self.gap_ms), *id));
                self.by_end.insert((kept.time.saturating_add(self.gap_ms), *id));
            }
            (open.first, open.last) = (open.first.min(kept.time), open.last.max(kept.time));
            open.rows.push(kept);
            return;
        }
        let mut open = Open { key: key.into(), first: kept.time, last: kept.time, rows: Vec::new() };
        for id in around {
            let Some(mut other) = self.take(*id) else { continue };
            (open.first, open.last) = (open.first.min(other.first), open.last.max(other.last));
            if other.rows.len() > open.rows.len() {
                std::mem::swap(&mut open.rows, &mut other.rows);
            }
            open.rows.append(&mut other.rows);
        }
        open.rows.push(kept);
        let id = self.next_session;
        self.next_session += 1;
        self.bytes += open.bytes();
        self.by_end.insert((open.last.saturating_add(self.gap_ms), id));
        self.by_key.entry_ref(key).or_default().push(id);
        self.sessions.insert(id, open);
    }

    /// Takes a session out of the open ones.
    fn take(&mut self, id: u64) -> Option<Open> {
        let open = self.sessions.remove(&id)?;
        self.bytes = self.bytes.saturating_sub(open.bytes());
        self.by_end.remove(&(open.last.saturating_add(self.gap_ms), id));
        if let Some(ids) = self.by_key.get_mut(&open.key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_key.remove(&open.key);
            }
        }
        Some(open)
    }

    /// The state record of a row.
    fn record(&self, key: &[u8], kept: &Kept) -> Vec<u8> {
        let mut saved = Saved::default();
        saved.integer(kept.time);
        saved.bytes(key);
        saved.bytes(&kept.row);
        saved.finish(self.layout, &kept.number.to_be_bytes())
    }

    /// The rows of some sessions, in the order of the sessions' ends, and in each in that of time, then of arrival.
    fn rows_of(&self, sessions: &[&Open]) -> Result<Vec<Batch>, Failure> {
        let mut rows: Vec<(&Open, &Kept)> = Vec::new();
        for open in sessions {
            let first = rows.len();
            rows.extend(open.rows.iter().map(|kept| (*open, kept)));
            rows.get_mut(first..).unwrap_or_default().sort_by_key(|(_, kept)| (kept.time, kept.number));
        }
        rows.chunks(BATCH_ROWS).map(|rows| self.batch_of(rows)).collect()
    }

    fn batch_of(&self, rows: &[(&Open, &Kept)]) -> Result<Batch, Failure> {
        let mut columns: Vec<ArrayRef> = match self.kept.is_empty() {
            true => Vec::new(),
            false => unconvert(&self.converter, rows.iter().map(|(_, kept)| kept.row.as_ref()))?,
        };
        let types = self.output.schema().fields().iter().skip(self.output.schema().fields().len().saturating_sub(2));
        let bounds = [
            rows.iter().map(|(open, _)| open.first).collect(),
            rows.iter().map(|(open, _)| open.last.saturating_add(self.gap_ms)).collect(),
        ];
        columns.extend(bounds.into_iter().zip(types).map(|(times, field)| timestamps(times, field.data_type())));
        let times = rows.iter().map(|(_, kept)| kept.time).collect();
        Ok(Batch::inserts(self.output.rows(columns, rows.len())?, times))
    }

    /// Forgets a session that was sent.
    fn forget_session(&mut self, id: u64) {
        let Some(open) = self.take(id) else { return };
        for kept in &open.rows {
            self.bytes = self.bytes.saturating_sub(kept.row.len() + size_of::<Kept>());
            if self.unsaved.remove(&kept.number).is_none() {
                self.gone.push(kept.number);
            }
        }
    }
}

impl Open {
    /// What it takes beside its rows.
    fn bytes(&self) -> usize {
        2 * self.key.len() + size_of::<Open>() + size_of::<(i64, u64)>() + size_of::<u64>()
    }
}

impl Operator for Session {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        if let Some(time) = batch.times.iter().find(|time| time.checked_add(self.gap_ms).is_none()) {
            return Err(out_of_range(*time));
        }
        let keys = self.partition.encode(&batch.rows)?;
        let columns: Vec<ArrayRef> = self.kept.iter().map(|at| batch.rows.column(*at).clone()).collect();
        let rows = convert(&self.converter, &columns, batch.len())?;
        let horizon = self.horizon(self.watermark);
        for (i, time) in batch.times.iter().copied().enumerate() {
            let key = keys.bytes(i);
            let around = self.around(key, time);
            if around.is_empty() && time.saturating_add(self.gap_ms) <= horizon {
                self.late_rows += 1;
                self.late.push(batch.slice(i, 1));
                continue;
            }
            let kept = Kept { time, number: self.next_row, row: rows.row(i).data().into() };
            self.next_row += 1;
            self.unsaved.insert(kept.number, self.record(key, &kept));
            self.keep(key, kept, &around);
        }
        Ok(None)
    }

    fn is_pure(&self, _port: usize) -> bool {
        false
    }

    fn advance(&mut self, watermark: i64) -> Result<Vec<Batch>, Failure> {
        let watermark = self.watermark.max(watermark);
        let horizon = self.horizon(watermark);
        let closing: Vec<u64> = self.by_end.iter().take_while(|(end, _)| *end <= horizon).map(|(_, id)| *id).collect();
        let mut sessions: Vec<&Open> = closing.iter().filter_map(|id| self.sessions.get(id)).collect();
        sessions.sort_by_key(|open| (open.last, open.first, &open.key));
        let batches = self.rows_of(&sessions)?;
        closing.into_iter().for_each(|id| self.forget_session(id));
        self.watermark = watermark;
        Ok(batches)
    }

    fn take_late(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.late)
    }

    fn late_rows(&self) -> u64 {
        self.late_rows
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }

    fn has_changelog(&self) -> bool {
        true
    }

    fn drain_changelog(&mut self, write: &mut WriteState<'_>) {
        std::mem::take(&mut self.gone).iter().for_each(|number| write(&number.to_be_bytes(), None));
        for (number, record) in std::mem::take(&mut self.unsaved) {
            write(&number.to_be_bytes(), Some(&record));
        }
        let progress = (self.watermark, self.next_row);
        if progress != self.saved_progress {
            self.saved_progress = progress;
            let mut saved = Saved::default();
            saved.integer(self.watermark);
            saved.bytes(&self.next_row.to_be_bytes());
            write(PROGRESS, Some(&saved.finish(self.layout, PROGRESS)));
        }
    }

    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let number = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).map(u64::from_be_bytes).map_err(|_| StateError::UnknownOperator);
        let mut saved = Reader::open(value, self.layout, key)?;
        if key == PROGRESS {
            self.watermark = saved.integer()?;
            self.next_row = number(saved.bytes()?)?;
            self.saved_progress = (self.watermark, self.next_row);
            return saved.end();
        }
        let (time, partition, row) = (saved.integer()?, saved.bytes()?, saved.bytes()?);
        saved.end()?;
        let around = self.around(partition, time);
        self.keep(partition, Kept { time, number: number(key)?, row: row.into() }, &around);
        Ok(())
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let rows: usize = self.sessions.values().map(|open| open.rows.len()).sum();
        Description::stateless("sessions", self.output.schema(), &Changes::Append, inputs)
            .detail_if("partition by", Some(self.partition.text()).filter(|text| !text.is_empty()))
            .detail("windows", format!("rows less than {} ms apart, closed {} ms after their end", self.gap_ms, self.grace_ms))
            .state(State {
                what: format!("the {rows} rows of {} open sessions", self.sessions.len()),
                why: "since a row to come may join two of them".into(),
                rebuilt: "the changelog".into(),
                bytes: self.bytes,
            })
    }
}
