//! `t AT TIME ZONE 'Europe/Berlin'`: a time without a zone becomes the moment at which clocks there show it, and a moment
//! becomes what clocks there show.
//!
//! The rules of the zones are those that were compiled in, so that the same program gives the same result anywhere. A time
//! that clocks show twice is the second one, and one that they skip is read by the offset before: both are standard time,
//! where the other is daylight-saving time.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{ArrowTimestampType, DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType};
use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone};
use datafusion_common::{Result, exec_err, plan_err};

use super::own::{Own, is_text, text, texts};

pub(crate) const NAME: &str = "at_time_zone";

/// Whether it is a zone: `UTC`, `+02:00` or a name of the IANA database.
pub(crate) fn is_zone(name: &str) -> bool {
    name.parse::<Tz>().is_ok()
}

/// The function as it is offered.
pub(crate) fn own() -> Own {
    Own { name: NAME, takes, gives, compute, strict: true }
}

fn takes(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [time, zone] if is_text(zone) => {
            let time = match time {
                DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, own) => {
                    DataType::Timestamp(TimeUnit::Millisecond, own.clone())
                }
                DataType::Timestamp(_, own) => DataType::Timestamp(TimeUnit::Microsecond, own.clone()),
                DataType::Date32 => DataType::Timestamp(TimeUnit::Millisecond, None),
                _ => return plan_err!("takes a TIMESTAMP and a zone"),
            };
            Ok(vec![time, DataType::Utf8])
        }
        _ => plan_err!("takes a TIMESTAMP and a zone"),
    }
}

fn gives(types: &[DataType]) -> Result<DataType> {
    match types.first() {
        Some(DataType::Timestamp(unit, None)) => Ok(DataType::Timestamp(*unit, Some("UTC".into()))),
        Some(DataType::Timestamp(unit, Some(_))) => Ok(DataType::Timestamp(*unit, None)),
        _ => plan_err!("takes a TIMESTAMP and a zone"),
    }
}

fn compute(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let zones = texts(columns, 1)?;
    let Some(times) = columns.first() else { return exec_err!("at_time_zone takes a TIMESTAMP and a zone") };
    match times.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            shifted::<TimestampMillisecondType>(times, zone.is_some(), rows, 1_000, |row| text(zones, row))
        }
        DataType::Timestamp(_, zone) => {
            shifted::<TimestampMicrosecondType>(times, zone.is_some(), rows, 1_000_000, |row| text(zones, row))
        }
        other => exec_err!("at_time_zone does not take {other}"),
    }
}

fn shifted<'a, T: ArrowTimestampType>(
    times: &ArrayRef,
    moments: bool,
    rows: usize,
    per_second: i64,
    zone: impl Fn(usize) -> Option<&'a str>,
) -> Result<ArrayRef> {
    let times = times.as_primitive::<T>();
    let mut known: Option<(&str, Tz)> = None;
    let mut one = |row: usize| -> Result<Option<i64>> {
        let Some(name) = zone(row).filter(|_| times.is_valid(row)) else { return Ok(None) };
        let tz = match known {
            Some((text, tz)) if text == name => tz,
            _ => match name.parse::<Tz>() {
                Ok(tz) => known.insert((name, tz)).1,
                Err(_) => return exec_err!("'{name}' is no time zone"),
            },
        };
        let value = times.value(row);
        let seconds = value.div_euclid(per_second);
        let shift = DateTime::from_timestamp(seconds, 0).and_then(|time| {
            let offset = if moments {
                i64::from(tz.offset_from_utc_datetime(&time.naive_utc()).fix().local_minus_utc())
            } else {
                -i64::from(offset_of_local(tz, time.naive_utc())?)
            };
            value.checked_add(offset.checked_mul(per_second)?)
        });
        match shift {
            Some(shifted) => Ok(Some(shifted)),
            None => exec_err!("the time is out of range"),
        }
    };
    let shifted = (0..rows).map(&mut one).collect::<Result<PrimitiveArray<T>>>()?;
    Ok(Arc::new(shifted.with_timezone_opt((!moments).then(|| Arc::<str>::from("UTC")))))
}

/// The seconds by which clocks that show `local` are ahead of UTC.
fn offset_of_local(tz: Tz, local: NaiveDateTime) -> Option<i32> {
    // A day was skipped once, nothing longer.
    for hours in 0..=25 {
        let before = local.checked_sub_signed(TimeDelta::try_hours(hours)?)?;
        match tz.offset_from_local_datetime(&before) {
            LocalResult::Single(offset) => return Some(offset.fix().local_minus_utc()),
            LocalResult::Ambiguous(first, second) => {
                return Some(first.fix().local_minus_utc().min(second.fix().local_minus_utc()));
            }
            LocalResult::None => {}
        }
    }
    None
}
