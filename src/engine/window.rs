//! Window: each row once for every window of event time that it belongs to, with the window's bounds behind its columns.
//!
//! Tumbling, hopping and cumulating windows are known from a row's time alone, so nothing is remembered. Sessions are not:
//! they have a file of their own.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMillisecondArray, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::DFSchema;

use super::batch::{Batch, rows_of};
use super::describe::Description;
use super::error::{CompileError, Failure};
use super::expression::nullable;
use super::operator::Operator;
use crate::sql::query::{Changes, Windows};

pub(crate) struct Window {
    assigner: Assigner,
    /// For each column of the output whether anybody reads it.
    wanted: Vec<bool>,
    schema: SchemaRef,
}

/// Where windows begin and end. Calculated in 128 bits, so that no time overflows.
#[derive(Debug, Clone, Copy)]
enum Assigner {
    /// Windows of `size` begin every `step`.
    Sliding { size: i128, step: i128, offset: i128 },
    /// Windows begin every `size`, and end after each multiple of `step` up to it.
    Cumulating { size: i128, step: i128, offset: i128 },
}

impl Window {
    pub(crate) fn compile(windows: &Windows, (schema, wanted): (&DFSchema, &[bool])) -> Result<Self, CompileError> {
        let (assigner, size, step) = match *windows {
            Windows::Tumble { size_ms: size, offset_ms } => {
                (Assigner::Sliding { size: size.into(), step: size.into(), offset: offset_ms.into() }, size, size)
            }
            Windows::Hop { size_ms: size, step_ms: step, offset_ms } => {
                (Assigner::Sliding { size: size.into(), step: step.into(), offset: offset_ms.into() }, size, step)
            }
            Windows::Cumulate { size_ms: size, step_ms: step, offset_ms } => {
                (Assigner::Cumulating { size: size.into(), step: step.into(), offset: offset_ms.into() }, size, step)
            }
            Windows::Session { .. } => return Err(CompileError("sessions are not known from one row's time".into())),
        };
        if size <= 0 || step <= 0 {
            return Err(CompileError("the size and the step of a window are longer than nothing".into()));
        }
        Ok(Window { assigner, wanted: wanted.to_vec(), schema: nullable(schema) })
    }

    /// The windows of all rows: each row's number with the window's bounds.
    fn assign(&self, times: &[i64]) -> Result<Assigned, Failure> {
        let mut assigned = Assigned::default();
        for (row, time) in (0u32..).zip(times) {
            self.assigner.windows(*time, |start, end| {
                assigned.rows.push(row);
                assigned.starts.push(start);
                assigned.ends.push(end);
            })?;
        }
        Ok(assigned)
    }
}

#[derive(Default)]
struct Assigned {
    rows: Vec<u32>,
    starts: Vec<i64>,
    ends: Vec<i64>,
}

impl Assigner {
    /// Gives the windows of a time, in the order of their starts, of equal ones in that of their ends.
    fn windows(self, time: i64, mut give: impl FnMut(i64, i64)) -> Result<(), Failure> {
        let wide = i128::from(time);
        let mut give = |start: i128, end: i128| match (i64::try_from(start), i64::try_from(end)) {
            (Ok(start), Ok(end)) => {
                give(start, end);
                Ok(())
            }
            _ => Err(out_of_range(time)),
        };
        match self {
            Assigner::Sliding { size, step, offset } => {
                let last = begin(wide, step, offset);
                // As many steps back as the window still reaches over the time.
                let before = (last + size - wide - 1).div_euclid(step);
                (0..=before).rev().try_for_each(|back| give(last - back * step, last - back * step + size))
            }
            Assigner::Cumulating { size, step, offset } => {
                let start = begin(wide, size, offset);
                let passed = (wide - start) / step;
                (passed + 1..=size / step).try_for_each(|steps| give(start, start + steps * step))
            }
        }
    }

    fn text(self) -> String {
        let (text, offset) = match self {
            Assigner::Sliding { size, step, offset } if size == step => (format!("{size} ms each"), offset),
            Assigner::Sliding { size, step, offset } => (format!("{size} ms each, one begins every {step} ms"), offset),
            Assigner::Cumulating { size, step, offset } => {
                (format!("one begins every {size} ms, and ends after each {step} ms of it"), offset)
            }
        };
        if offset == 0 { text } else { format!("{text}, moved by {offset} ms") }
    }
}

/// The last multiple of `step`, moved by `offset`, that is not after `time`.
fn begin(time: i128, step: i128, offset: i128) -> i128 {
    (time - offset).div_euclid(step) * step + offset
}

/// That a row's window has a bound that no timestamp can say.
pub(crate) fn out_of_range(time: i64) -> Failure {
    let reason = format!("overflow: the window of the event time {time} ms reaches beyond the range of timestamps");
    Failure { expression: "window".into(), reason }
}

/// Times as a column of this type, which is a timestamp in milliseconds.
pub(crate) fn timestamps(times: Vec<i64>, data_type: &DataType) -> ArrayRef {
    let zone = if let DataType::Timestamp(_, zone) = data_type { zone.clone() } else { None };
    Arc::new(TimestampMillisecondArray::from(times).with_timezone_opt(zone))
}

impl Operator for Window {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let Assigned { rows, starts, ends } = self.assign(&batch.times)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let length = rows.len();
        let once = length == batch.len() && (0u32..).zip(&rows).all(|(i, row)| i == *row);
        let at = UInt32Array::from(rows);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for (column, wanted) in batch.rows.columns().iter().zip(&self.wanted) {
            columns.push(match (wanted, once) {
                (_, true) => column.clone(),
                (true, false) => take(column, &at, None)?,
                (false, false) => new_null_array(column.data_type(), length),
            });
        }
        for bounds in [starts, ends] {
            let data_type = self.schema.fields().get(columns.len()).map_or(&DataType::Null, |field| field.data_type());
            columns.push(timestamps(bounds, data_type));
        }
        let rows: RecordBatch = rows_of(&self.schema, columns, length)?;
        if once {
            return Ok(Some(Batch { rows, ..batch.clone() }));
        }
        let times = at.values().iter().filter_map(|row| batch.times.get(*row as usize)).copied().collect();
        let origins = batch
            .origins
            .as_ref()
            .map(|origins| at.values().iter().filter_map(|row| origins.get(*row as usize)).copied().collect());
        Ok(Some(Batch { rows, times, deletes: None, origins }))
    }

    fn is_pure(&self, _port: usize) -> bool {
        true
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let name = match self.assigner {
            Assigner::Sliding { size, step, .. } if size == step => "tumbling windows",
            Assigner::Sliding { .. } => "hopping windows",
            Assigner::Cumulating { .. } => "cumulating windows",
        };
        Description::stateless(name, &self.schema, &Changes::Append, inputs).detail("windows", self.assigner.text())
    }
}
