//! `date_trunc` and `date_bin` of our own: DataFusion's count nanoseconds, and know no year past 2262.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowTimestampType, DataType, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType,
};
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime};
use datafusion_common::{Result, exec_err, plan_err};

use super::own::{Own, is_text, text, texts};

/// What a time can be cut to.
pub(crate) const UNITS: &[&str] =
    &["year", "quarter", "month", "week", "day", "hour", "minute", "second", "millisecond", "microsecond"];

const DAY_MS: i64 = 86_400_000;

/// The functions of this file.
pub(crate) fn all() -> [Own; 2] {
    [
        Own { name: "date_trunc", takes: takes_unit, gives: |types| time_at(types, 1), compute: date_trunc, strict: true },
        Own { name: "date_bin", takes: takes_stride, gives: |types| time_at(types, 1), compute: date_bin, strict: true },
    ]
}

/// A time in the form in which it is cut: with milliseconds or microseconds.
fn time(t: &DataType) -> Result<DataType> {
    match t {
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, zone) => {
            Ok(DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))
        }
        DataType::Timestamp(_, zone) => Ok(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
        DataType::Date32 | DataType::Null => Ok(DataType::Timestamp(TimeUnit::Millisecond, None)),
        _ => plan_err!("takes a time"),
    }
}

fn time_at(types: &[DataType], at: usize) -> Result<DataType> {
    types.get(at).map_or_else(|| plan_err!("takes a time"), time)
}

fn takes_unit(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [unit, t] if is_text(unit) => Ok(vec![DataType::Utf8, time(t)?]),
        _ => plan_err!("takes a unit and a time"),
    }
}

fn takes_stride(types: &[DataType]) -> Result<Vec<DataType>> {
    let stride = DataType::Interval(IntervalUnit::MonthDayNano);
    match types {
        [DataType::Interval(_) | DataType::Null, t] => Ok(vec![stride, time(t)?]),
        [DataType::Interval(_) | DataType::Null, t, _] => Ok(vec![stride, time(t)?, time(t)?]),
        _ => plan_err!("takes an interval, a time and maybe an origin"),
    }
}

fn date_trunc(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let units = texts(columns, 0)?;
    each(columns, rows, |row, time, per_second| {
        let Some(unit) = text(units, row) else { return Ok(None) };
        truncated(&unit.to_lowercase(), time, per_second).map(Some)
    })
}

fn date_bin(columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let strides = columns.first().and_then(|column| column.as_primitive_opt::<IntervalMonthDayNanoType>());
    let Some(strides) = strides else { return exec_err!("date_bin takes an interval") };
    let origins = columns.get(2);
    each(columns, rows, |row, time, per_second| {
        let origin = match origins {
            Some(origins) => value(origins, row),
            None => Some(0),
        };
        let (Some(origin), true) = (origin, strides.is_valid(row)) else { return Ok(None) };
        let stride = strides.value(row);
        let found = match (stride.months, stride.days, stride.nanoseconds) {
            (months, 0, 0) if months > 0 => month_bin(months, time, origin, per_second),
            (0, days, nanoseconds) if days > 0 || nanoseconds > 0 => {
                let of_days = i64::from(days).checked_mul(DAY_MS / 1_000).and_then(|seconds| seconds.checked_mul(per_second));
                let of_rest = nanoseconds / (1_000_000_000 / per_second);
                let stride = of_days.and_then(|days| days.checked_add(of_rest)).filter(|stride| *stride > 0);
                stride.and_then(|stride| time.checked_sub(time.checked_sub(origin)?.rem_euclid(stride)))
            }
            _ => return exec_err!("the interval of date_bin is not positive, or has months and days"),
        };
        match found {
            Some(found) => Ok(Some(found)),
            None => exec_err!("the time or the interval is out of range"),
        }
    })
}

/// A row's time; `None` where it is NULL.
fn value(times: &ArrayRef, row: usize) -> Option<i64> {
    if times.is_null(row) {
        return None;
    }
    match times.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => Some(times.as_primitive::<TimestampMillisecondType>().value(row)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(times.as_primitive::<TimestampMicrosecondType>().value(row)),
        _ => None,
    }
}

/// The second argument's times, each made into another; with the units of a second that they count.
fn each(columns: &[ArrayRef], rows: usize, made: impl Fn(usize, i64, i64) -> Result<Option<i64>>) -> Result<ArrayRef> {
    let Some(times) = columns.get(1) else { return exec_err!("there is no time") };
    match times.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            all_of::<TimestampMillisecondType>(times, rows, zone.clone(), |row, time| made(row, time, 1_000))
        }
        DataType::Timestamp(_, zone) => {
            all_of::<TimestampMicrosecondType>(times, rows, zone.clone(), |row, time| made(row, time, 1_000_000))
        }
        other => exec_err!("{other} is no time"),
    }
}

fn all_of<T: ArrowTimestampType>(
    times: &ArrayRef,
    rows: usize,
    zone: Option<Arc<str>>,
    made: impl Fn(usize, i64) -> Result<Option<i64>>,
) -> Result<ArrayRef> {
    let one = |row: usize| value(times, row).map_or(Ok(None), |time| made(row, time));
    let made = (0..rows).map(one).collect::<Result<PrimitiveArray<T>>>()?;
    Ok(Arc::new(made.with_timezone_opt(zone)))
}

fn truncated(unit: &str, time: i64, per_second: i64) -> Result<i64> {
    let seconds = match unit {
        "microsecond" => return Ok(time),
        "millisecond" => return Ok(time - time.rem_euclid(per_second / 1_000)),
        "second" => Some(1),
        "minute" => Some(60),
        "hour" => Some(3_600),
        "day" => Some(86_400),
        unit if UNITS.contains(&unit) => None,
        _ => return exec_err!("'{unit}' is no unit to cut a time to"),
    };
    let found = match seconds {
        Some(seconds) => time.checked_sub(time.rem_euclid(seconds * per_second)),
        None => date_of(time, per_second).and_then(|date| moment(first_day(unit, date)?, per_second)),
    };
    match found {
        Some(found) => Ok(found),
        None => exec_err!("the time is out of range"),
    }
}

/// The first day of the year, quarter, month or week that holds a day.
fn first_day(unit: &str, date: NaiveDate) -> Option<NaiveDate> {
    let month = match unit {
        "week" => return date.checked_sub_days(Days::new(u64::from(date.weekday().num_days_from_monday()))),
        "year" => 1,
        "quarter" => date.month0() / 3 * 3 + 1,
        _ => date.month(),
    };
    NaiveDate::from_ymd_opt(date.year(), month, 1)
}

fn date_time(time: i64, per_second: i64) -> Option<NaiveDateTime> {
    let nanoseconds = u32::try_from(time.rem_euclid(per_second) * (1_000_000_000 / per_second)).ok()?;
    Some(DateTime::from_timestamp(time.div_euclid(per_second), nanoseconds)?.naive_utc())
}

fn date_of(time: i64, per_second: i64) -> Option<NaiveDate> {
    date_time(time, per_second).map(|time| time.date())
}

fn moment(date: NaiveDate, per_second: i64) -> Option<i64> {
    date.and_hms_opt(0, 0, 0)?.and_utc().timestamp().checked_mul(per_second)
}

/// The start of the bin of some months that holds a time; the bins are counted from the origin, with its day and hour.
fn month_bin(months: i32, time: i64, origin: i64, per_second: i64) -> Option<i64> {
    let (start, wanted) = (date_time(origin, per_second)?, date_time(time, per_second)?);
    let index = |date: NaiveDateTime| i64::from(date.year()) * 12 + i64::from(date.month0());
    let apart = index(wanted).checked_sub(index(start))?;
    let shifted = |by: i64| match u32::try_from(by.unsigned_abs()).ok().map(Months::new)? {
        by_months if by < 0 => start.checked_sub_months(by_months),
        by_months => start.checked_add_months(by_months),
    };
    let mut bin = apart.div_euclid(i64::from(months)) * i64::from(months);
    if shifted(bin)? > wanted {
        bin -= i64::from(months);
    }
    let found = shifted(bin)?.and_utc();
    let rest = i64::from(found.timestamp_subsec_nanos()) / (1_000_000_000 / per_second);
    found.timestamp().checked_mul(per_second)?.checked_add(rest)
}
