//! Rename: a sub-query's rows under its alias, with `rowtime`, their event time, as one more column.
//!
//! A delete of a whole row comes with its own event time, and must take back the row that has the old one. So where rows
//! are taken back whole, and somebody reads `rowtime`, the times of the rows that are there are kept; of equal rows the
//! last to come goes first.

use arrow::array::{ArrayRef, TimestampMillisecondArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion_common::DFSchema;
use std::sync::Arc;

use super::batch::{Batch, rows_of};
use super::describe::{Description, State};
use super::error::{CompileError, Failure};
use super::expression::nullable;
use super::key::KeyMap;
use super::operator::Operator;
use super::whole_row::WholeRow;
use crate::sql::query::Changes;

pub(crate) struct Rename {
    schema: SchemaRef,
    changes: Changes,
    zone: Option<Arc<str>>,
    there: Option<There>,
}

/// The rows that are there, and their times in the order in which they came.
struct There {
    form: WholeRow,
    times: KeyMap<Vec<i64>>,
    bytes: usize,
}

impl Rename {
    /// Rows of `input` under the names of `schema`. `times`: somebody reads their `rowtime`, or their event time.
    pub(crate) fn compile(input: &DFSchema, schema: &DFSchema, changes: &Changes, wanted: &[bool]) -> Result<Self, CompileError> {
        let width = input.fields().len();
        let zone = match schema.fields().get(width).map(|rowtime| rowtime.data_type()) {
            Some(DataType::Timestamp(TimeUnit::Millisecond, zone)) if schema.fields().len() == width + 1 => zone.clone(),
            _ => return Err(CompileError("a sub-query's columns are not its rows' and then rowtime".into())),
        };
        let there = match changes {
            Changes::Retract if wanted.get(width).copied().unwrap_or(false) => {
                let form = WholeRow::new(input, &vec![true; width])?;
                Some(There { form, times: KeyMap::default(), bytes: 0 })
            }
            _ => None,
        };
        Ok(Rename { schema: nullable(schema), changes: changes.clone(), zone, there })
    }

    /// Whether it has a state.
    pub(crate) fn remembers(&self) -> bool {
        self.there.is_some()
    }

    fn renamed(&self, batch: &Batch, rowtimes: ScalarBuffer<i64>) -> Result<Batch, Failure> {
        let rowtime = TimestampMillisecondArray::new(rowtimes, None).with_timezone_opt(self.zone.clone());
        let mut columns = batch.rows.columns().to_vec();
        columns.push(Arc::new(rowtime) as ArrayRef);
        Ok(Batch { rows: rows_of(&self.schema, columns, batch.len())?, ..batch.clone() })
    }
}

impl There {
    /// Positions of the rows that are to be sent, and their `rowtime`s: a delete of what is not there is not.
    fn take_in(&mut self, batch: &Batch) -> Result<(Vec<u32>, Vec<i64>), Failure> {
        let rows = self.form.encode(&batch.rows)?;
        let (mut at, mut rowtimes) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for ((i, time), position) in batch.times.iter().enumerate().zip(0u32..) {
            let row = rows.bytes(i);
            let time = if batch.is_delete(i) { self.remove(row) } else { Some(self.add(row, *time)) };
            if let Some(time) = time {
                at.push(position);
                rowtimes.push(time);
            }
        }
        Ok((at, rowtimes))
    }

    fn add(&mut self, row: &[u8], time: i64) -> i64 {
        let times = self.times.entry_ref(row).or_insert_with(|| {
            self.bytes += row.len() + 48;
            Vec::with_capacity(1)
        });
        times.push(time);
        self.bytes += size_of::<i64>();
        time
    }

    fn remove(&mut self, row: &[u8]) -> Option<i64> {
        let times = self.times.get_mut(row)?;
        let time = times.pop()?;
        self.bytes = self.bytes.saturating_sub(size_of::<i64>());
        if times.is_empty() {
            self.times.remove(row);
            self.bytes = self.bytes.saturating_sub(row.len() + 48);
        }
        Some(time)
    }
}

impl Operator for Rename {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let Some(there) = &mut self.there else { return self.renamed(batch, batch.times.clone()).map(Some) };
        let (at, rowtimes) = there.take_in(batch)?;
        if at.is_empty() {
            return Ok(None);
        }
        self.renamed(&batch.take(&at)?, rowtimes.into()).map(Some)
    }

    fn is_pure(&self, _port: usize) -> bool {
        self.there.is_none()
    }

    fn state_bytes(&self) -> usize {
        self.there.as_ref().map_or(0, |there| there.bytes)
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let description = Description::stateless("sub-query", &self.schema, &self.changes, inputs);
        match &self.there {
            None => description,
            Some(there) => description.state(State {
                what: format!("the event times of {} different rows that are there", there.times.len()),
                why: "since a row is taken back with the rowtime that it came with".into(),
                rebuilt: "the tables below, their topics read whole".into(),
                bytes: there.bytes,
            }),
        }
    }
}
