//! Columns under construction: what decoders append values to, row by row.
//!
//! A record that turns out to be bad has already filled some columns; [`Column::truncate`] takes that back, so that its
//! neighbours in the batch are not touched. Arrow's own builders cannot do that.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray, Time32MillisecondArray,
    Time32SecondArray, Time64MicrosecondArray, Time64NanosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;

use super::{Fault, FormatError, codes};

/// A column under construction.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) field: FieldRef,
    nulls: Nulls,
    pub(super) values: Values,
}

/// The values so far. Each variant is one logical type, so that a decoder's match on it says what a value means.
#[derive(Debug)]
pub(super) enum Values {
    Bool(Vec<bool>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Decimal(u8, i8, Vec<i128>),
    /// Days since 1970.
    Date(Vec<i32>),
    /// Since midnight.
    Time32(TimeUnit, Vec<i32>),
    Time64(TimeUnit, Vec<i64>),
    /// Since 1970; the flag says whether it is an instant (UTC) or a local time.
    Timestamp(TimeUnit, bool, Vec<i64>),
    Text(Texts),
    Bytes(Texts),
    Fixed(usize, Vec<u8>),
    List(Vec<i32>, Box<Column>),
    Map(Vec<i32>, Box<Column>, Box<Column>),
    Struct(Vec<Column>, usize),
}

/// Texts or bytes: one buffer, and where each ends.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Texts {
    #[inline]
    pub(super) fn push(&mut self, text: &[u8]) -> Result<(), Fault> {
        let Ok(end) = i32::try_from(self.bytes.len() + text.len()) else {
            return Err(Fault::new(codes::TOO_LARGE, "the texts of one batch pass 2 GiB"));
        };
        self.bytes.extend_from_slice(text);
        self.ends.push(end);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        self.ends.get(row).and_then(|end| self.bytes.get(start..*end as usize)).unwrap_or_default()
    }

    /// A row's text, for messages.
    pub(super) fn show(&self, row: usize) -> String {
        String::from_utf8_lossy(self.get(row)).into_owned()
    }

    /// A text that stands twice among the rows from `start` on.
    pub(super) fn twice(&self, start: usize) -> Option<String> {
        if self.len() < start + 2 {
            return None;
        }
        let mut rows: Vec<usize> = (start..self.len()).collect();
        rows.sort_unstable_by_key(|row| self.get(*row));
        rows.windows(2).find_map(|pair| match pair {
            [a, b] if self.get(*a) == self.get(*b) => Some(self.show(*a)),
            _ => None,
        })
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.bytes.truncate(self.ends.last().map_or(0, |end| *end as usize));
    }
}

/// Which rows are null; no memory is used before the first one.
#[derive(Debug, Default)]
struct Nulls {
    valid: Vec<bool>,
    any: bool,
}

impl Nulls {
    #[inline]
    fn push(&mut self, rows_before: usize, valid: bool) {
        if self.any {
            self.valid.push(valid);
        } else if !valid {
            self.any = true;
            self.valid.resize(rows_before, true);
            self.valid.push(false);
        }
    }

    fn truncate(&mut self, rows: usize) {
        self.valid.truncate(rows);
    }

    fn take(&mut self) -> Option<NullBuffer> {
        self.any = false;
        let valid = std::mem::take(&mut self.valid);
        (!valid.is_empty()).then(|| NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0)
    }
}

/// Runs `$body` for the vector of a primitive variant; the other arms follow.
macro_rules! each_vector {
    ($values:expr, $v:ident => $body:expr, $($other:tt)*) => {
        match $values {
            Values::Bool($v) => $body,
            Values::I8($v) => $body,
            Values::I16($v) => $body,
            Values::I32($v) => $body,
            Values::I64($v) => $body,
            Values::U8($v) => $body,
            Values::U16($v) => $body,
            Values::U32($v) => $body,
            Values::U64($v) => $body,
            Values::F32($v) => $body,
            Values::F64($v) => $body,
            Values::Decimal(_, _, $v) => $body,
            Values::Date($v) => $body,
            Values::Time32(_, $v) => $body,
            Values::Time64(_, $v) => $body,
            Values::Timestamp(_, _, $v) => $body,
            $($other)*
        }
    };
}

impl Column {
    /// A column for a field's values; an error for a type that no format carries.
    pub(super) fn new(field: &FieldRef) -> Result<Column, FormatError> {
        let values = match field.data_type() {
            DataType::Boolean => Values::Bool(Vec::new()),
            DataType::Int8 => Values::I8(Vec::new()),
            DataType::Int16 => Values::I16(Vec::new()),
            DataType::Int32 => Values::I32(Vec::new()),
            DataType::Int64 => Values::I64(Vec::new()),
            DataType::UInt8 => Values::U8(Vec::new()),
            DataType::UInt16 => Values::U16(Vec::new()),
            DataType::UInt32 => Values::U32(Vec::new()),
            DataType::UInt64 => Values::U64(Vec::new()),
            DataType::Float32 => Values::F32(Vec::new()),
            DataType::Float64 => Values::F64(Vec::new()),
            DataType::Decimal128(precision, scale) => Values::Decimal(*precision, *scale, Vec::new()),
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Time32(unit @ (TimeUnit::Second | TimeUnit::Millisecond)) => Values::Time32(*unit, Vec::new()),
            DataType::Time64(unit @ (TimeUnit::Microsecond | TimeUnit::Nanosecond)) => Values::Time64(*unit, Vec::new()),
            DataType::Timestamp(unit, zone) => Values::Timestamp(*unit, zone.is_some(), Vec::new()),
            DataType::Utf8 => Values::Text(Texts::default()),
            DataType::Binary => Values::Bytes(Texts::default()),
            DataType::FixedSizeBinary(size) if *size > 0 => Values::Fixed(*size as usize, Vec::new()),
            DataType::List(item) => Values::List(Vec::new(), Box::new(Column::new(item)?)),
            DataType::Map(entries, _) => {
                let (key, value) = map_fields(entries).ok_or_else(|| FormatError::unsupported(field))?;
                Values::Map(Vec::new(), Box::new(Column::new(key)?), Box::new(Column::new(value)?))
            }
            DataType::Struct(fields) => Values::Struct(fields.iter().map(Column::new).collect::<Result<_, _>>()?, 0),
            _ => return Err(FormatError::unsupported(field)),
        };
        Ok(Column { field: field.clone(), nulls: Nulls::default(), values })
    }

    /// How many values it has.
    #[inline]
    pub(super) fn len(&self) -> usize {
        each_vector!(&self.values, v => v.len(),
            Values::Text(texts) | Values::Bytes(texts) => texts.ends.len(),
            Values::Fixed(size, bytes) => bytes.len() / (*size).max(1),
            Values::List(ends, _) | Values::Map(ends, ..) => ends.len(),
            Values::Struct(_, len) => *len,
        )
    }

    /// To be called after a value was pushed to `values`: the new row is not null.
    #[inline]
    pub(super) fn valid(&mut self) {
        if self.nulls.any {
            self.nulls.valid.push(true);
        }
    }

    /// Appends a null, or says that the column has none.
    pub(super) fn push_null(&mut self) -> Result<(), Fault> {
        if !self.field.is_nullable() {
            return Err(Fault::new(codes::NULL_VALUE, "null, and the schema requires a value"));
        }
        let rows = self.len();
        self.push_blank();
        self.nulls.push(rows, false);
        Ok(())
    }

    /// Appends null where the column may be null, else a blank: zero, an empty text, a struct of such.
    pub(super) fn push_default(&mut self) {
        let rows = self.len();
        self.push_blank();
        self.nulls.push(rows, !self.field.is_nullable());
    }

    fn push_blank(&mut self) {
        each_vector!(&mut self.values, v => v.push(Default::default()),
            Values::Text(texts) | Values::Bytes(texts) => texts.ends.push(texts.ends.last().copied().unwrap_or(0)),
            Values::Fixed(size, bytes) => bytes.resize(bytes.len() + *size, 0),
            Values::List(ends, _) | Values::Map(ends, ..) => ends.push(ends.last().copied().unwrap_or(0)),
            Values::Struct(columns, len) => {
                columns.iter_mut().for_each(Column::push_default);
                *len += 1;
            }
        );
    }

    /// Keeps the first `rows` values, nested ones included.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.nulls.truncate(rows);
        each_vector!(&mut self.values, v => v.truncate(rows),
            Values::Text(texts) | Values::Bytes(texts) => texts.truncate(rows),
            Values::Fixed(size, bytes) => bytes.truncate(rows * *size),
            Values::List(ends, item) => {
                ends.truncate(rows);
                item.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Values::Map(ends, key, value) => {
                ends.truncate(rows);
                let len = ends.last().map_or(0, |end| *end as usize);
                key.truncate(len);
                value.truncate(len);
            }
            Values::Struct(columns, len) => {
                columns.iter_mut().for_each(|column| column.truncate(rows));
                *len = rows.min(*len);
            }
        );
    }

    /// Whether the value of a row is null.
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.any && self.nulls.valid.get(row) == Some(&false)
    }

    /// A row's value as milliseconds since 1970, for an event time; `None` if it is null.
    pub(super) fn millis(&self, row: usize) -> Option<i64> {
        if self.is_null(row) {
            return None;
        }
        match &self.values {
            Values::I64(values) => values.get(row).copied(),
            Values::Date(values) => values.get(row).map(|days| i64::from(*days) * 86_400_000),
            Values::Timestamp(unit, _, values) => values.get(row).map(|value| match unit {
                TimeUnit::Second => value.saturating_mul(1_000),
                TimeUnit::Millisecond => *value,
                TimeUnit::Microsecond => value.div_euclid(1_000),
                TimeUnit::Nanosecond => value.div_euclid(1_000_000),
            }),
            _ => None,
        }
    }

    /// The column as an array, and a column without values to go on with.
    pub(super) fn take(&mut self) -> Result<ArrayRef, ArrowError> {
        let len = self.len();
        let nulls = self.nulls.take();
        Ok(match &mut self.values {
            Values::Bool(v) => Arc::new(BooleanArray::new(renew(v).into(), nulls)),
            Values::I8(v) => Arc::new(Int8Array::try_new(scalars(v), nulls)?),
            Values::I16(v) => Arc::new(Int16Array::try_new(scalars(v), nulls)?),
            Values::I32(v) => Arc::new(Int32Array::try_new(scalars(v), nulls)?),
            Values::I64(v) => Arc::new(Int64Array::try_new(scalars(v), nulls)?),
            Values::U8(v) => Arc::new(UInt8Array::try_new(scalars(v), nulls)?),
            Values::U16(v) => Arc::new(UInt16Array::try_new(scalars(v), nulls)?),
            Values::U32(v) => Arc::new(UInt32Array::try_new(scalars(v), nulls)?),
            Values::U64(v) => Arc::new(UInt64Array::try_new(scalars(v), nulls)?),
            Values::F32(v) => Arc::new(Float32Array::try_new(scalars(v), nulls)?),
            Values::F64(v) => Arc::new(Float64Array::try_new(scalars(v), nulls)?),
            Values::Decimal(precision, scale, v) => {
                Arc::new(Decimal128Array::try_new(scalars(v), nulls)?.with_precision_and_scale(*precision, *scale)?)
            }
            Values::Date(v) => Arc::new(Date32Array::try_new(scalars(v), nulls)?),
            Values::Time32(TimeUnit::Second, v) => Arc::new(Time32SecondArray::try_new(scalars(v), nulls)?),
            Values::Time32(_, v) => Arc::new(Time32MillisecondArray::try_new(scalars(v), nulls)?),
            Values::Time64(TimeUnit::Nanosecond, v) => Arc::new(Time64NanosecondArray::try_new(scalars(v), nulls)?),
            Values::Time64(_, v) => Arc::new(Time64MicrosecondArray::try_new(scalars(v), nulls)?),
            Values::Timestamp(unit, _, v) => timestamps(*unit, &self.field, scalars(v), nulls)?,
            Values::Text(texts) => {
                Arc::new(StringArray::try_new(ends_to_offsets(&mut texts.ends), Buffer::from(renew(&mut texts.bytes)), nulls)?)
            }
            Values::Bytes(texts) => {
                Arc::new(BinaryArray::try_new(ends_to_offsets(&mut texts.ends), Buffer::from(renew(&mut texts.bytes)), nulls)?)
            }
            Values::Fixed(size, bytes) => {
                Arc::new(FixedSizeBinaryArray::try_new(i32::try_from(*size).unwrap_or(0), Buffer::from(renew(bytes)), nulls)?)
            }
            Values::List(ends, item) => {
                let values = item.take()?;
                Arc::new(ListArray::try_new(item.field.clone(), ends_to_offsets(ends), values, nulls)?)
            }
            Values::Map(ends, key, value) => {
                let DataType::Map(entries, sorted) = self.field.data_type() else {
                    return Err(ArrowError::ComputeError("not a map".into()));
                };
                let fields = Fields::from(vec![key.field.clone(), value.field.clone()]);
                let pairs = StructArray::try_new(fields, vec![key.take()?, value.take()?], None)?;
                Arc::new(MapArray::try_new(entries.clone(), ends_to_offsets(ends), pairs, nulls, *sorted)?)
            }
            Values::Struct(columns, count) => {
                *count = 0;
                let fields: Fields = columns.iter().map(|column| column.field.clone()).collect();
                let arrays = columns.iter_mut().map(Column::take).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new_with_length(fields, arrays, nulls, len)?)
            }
        })
    }
}

/// A map's key and value fields.
pub(super) fn map_fields(entries: &Field) -> Option<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) => match fields.as_ref() {
            [key, value] => Some((key, value)),
            _ => None,
        },
        _ => None,
    }
}

/// Takes a vector's values and leaves one with as much room.
fn renew<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = values.len();
    std::mem::replace(values, Vec::with_capacity(room))
}

fn scalars<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    ScalarBuffer::from(renew(values))
}

fn ends_to_offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.append(ends);
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

fn timestamps(
    unit: TimeUnit,
    field: &Field,
    values: ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let zone = match field.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    Ok(match unit {
        TimeUnit::Second => Arc::new(TimestampSecondArray::try_new(values, nulls)?.with_timezone_opt(zone)),
        TimeUnit::Millisecond => Arc::new(TimestampMillisecondArray::try_new(values, nulls)?.with_timezone_opt(zone)),
        TimeUnit::Microsecond => Arc::new(TimestampMicrosecondArray::try_new(values, nulls)?.with_timezone_opt(zone)),
        TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::try_new(values, nulls)?.with_timezone_opt(zone)),
    })
}
