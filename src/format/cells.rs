//! A batch's columns as typed slices, so that encoders can go row by row without asking each cell for its type.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};

use super::{Fault, codes};
use crate::model::row::type_name;

/// One column.
pub(super) struct Cells<'a> {
    nulls: Option<&'a NullBuffer>,
    pub(super) values: CellValues<'a>,
}

/// Its values, by logical type.
pub(super) enum CellValues<'a> {
    Bool(&'a BooleanArray),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Decimal(i8, &'a [i128]),
    Date(&'a [i32]),
    Time32(TimeUnit, &'a [i32]),
    Time64(TimeUnit, &'a [i64]),
    Timestamp(TimeUnit, bool, &'a [i64]),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Fixed(&'a FixedSizeBinaryArray),
    List(&'a [i32], Box<Cells<'a>>),
    Map(&'a [i32], Box<Cells<'a>>, Box<Cells<'a>>),
    Struct(Vec<Cells<'a>>),
}

/// A column in the contract's type. Other forms of the same values (views, dictionaries, narrower numbers) are converted;
/// a type that would lose something is refused.
pub(super) fn in_type(array: &ArrayRef, field: &Field) -> Result<ArrayRef, Fault> {
    let (found, wanted) = (array.data_type(), field.data_type());
    if found.equals_datatype(wanted) {
        return Ok(array.clone());
    }
    let refuse = |why: String| {
        Fault::new(codes::WRONG_TYPE, format!("{} can't be written as {}{why}", type_name(found), type_name(wanted)))
            .in_field(field.name())
    };
    if !keeps_all(found, wanted) {
        return Err(refuse(String::new()));
    }
    cast_with_options(array, wanted, &CastOptions { safe: false, ..CastOptions::default() })
        .map_err(|error| refuse(format!(": {error}")))
}

fn keeps_all(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Dictionary, FixedSizeList, Float32, Float64, Int8, Int16, Int32, Int64, LargeBinary, LargeList,
        LargeUtf8, List, ListView, Map, Null, Struct, Timestamp, UInt8, UInt16, UInt32, Utf8, Utf8View,
    };
    match (from, to) {
        (a, b) if a.equals_datatype(b) => true,
        (Null, _) => true,
        (Dictionary(_, value), to) => keeps_all(value, to),
        (Utf8View | LargeUtf8, Utf8) | (BinaryView | LargeBinary, Binary) => true,
        (Int8 | UInt8, Int16 | Int32 | Int64) | (Int16 | UInt16, Int32 | Int64) | (Int32 | UInt32, Int64) => true,
        (Int8 | Int16 | UInt8 | UInt16, Float32) | (Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | Float32, Float64) => true,
        (Timestamp(a, from), Timestamp(b, to)) => a == b && from.is_some() == to.is_some(),
        (List(a) | LargeList(a) | FixedSizeList(a, _) | ListView(a), List(b)) | (Map(a, _), Map(b, _)) => {
            keeps_all(a.data_type(), b.data_type())
        }
        (Struct(a), Struct(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| keeps_all(a.data_type(), b.data_type())),
        _ => false,
    }
}

fn numbers<T: ArrowPrimitiveType>(array: &ArrayRef) -> Option<&[T::Native]> {
    array.as_primitive_opt::<T>().map(|array| array.values().as_ref())
}

impl<'a> Cells<'a> {
    /// The cells of an array of one of the types that columns can have.
    pub(super) fn new(array: &'a ArrayRef) -> Result<Self, Fault> {
        let values = values(array)
            .ok_or_else(|| Fault::new(codes::WRONG_TYPE, format!("{} can't be written", type_name(array.data_type()))))??;
        Ok(Cells { nulls: array.nulls(), values })
    }

    #[inline]
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }
}

fn values(array: &ArrayRef) -> Option<Result<CellValues<'_>, Fault>> {
    let values = match array.data_type() {
        DataType::Boolean => CellValues::Bool(array.as_boolean_opt()?),
        DataType::Int8 => CellValues::I8(numbers::<Int8Type>(array)?),
        DataType::Int16 => CellValues::I16(numbers::<Int16Type>(array)?),
        DataType::Int32 => CellValues::I32(numbers::<Int32Type>(array)?),
        DataType::Int64 => CellValues::I64(numbers::<Int64Type>(array)?),
        DataType::UInt8 => CellValues::U8(numbers::<UInt8Type>(array)?),
        DataType::UInt16 => CellValues::U16(numbers::<UInt16Type>(array)?),
        DataType::UInt32 => CellValues::U32(numbers::<UInt32Type>(array)?),
        DataType::UInt64 => CellValues::U64(numbers::<UInt64Type>(array)?),
        DataType::Float32 => CellValues::F32(numbers::<Float32Type>(array)?),
        DataType::Float64 => CellValues::F64(numbers::<Float64Type>(array)?),
        DataType::Decimal128(_, scale) => CellValues::Decimal(*scale, numbers::<Decimal128Type>(array)?),
        DataType::Date32 => CellValues::Date(numbers::<Date32Type>(array)?),
        DataType::Time32(unit, ..) => CellValues::Time32(
            *unit,
            match unit {
                TimeUnit::Second => numbers::<Time32SecondType>(array)?,
                _ => numbers::<Time32MillisecondType>(array)?,
            },
        ),
        DataType::Time64(unit) => CellValues::Time64(
            *unit,
            match unit {
                TimeUnit::Nanosecond => numbers::<Time64NanosecondType>(array)?,
                _ => numbers::<Time64MicrosecondType>(array)?,
            },
        ),
        DataType::Timestamp(unit, zone) => CellValues::Timestamp(
            *unit,
            zone.is_some(),
            match unit {
                TimeUnit::Second => numbers::<TimestampSecondType>(array)?,
                TimeUnit::Millisecond => numbers::<TimestampMillisecondType>(array)?,
                TimeUnit::Microsecond => numbers::<TimestampMicrosecondType>(array)?,
                TimeUnit::Nanosecond => numbers::<TimestampNanosecondType>(array)?,
            },
        ),
        DataType::Utf8 => CellValues::Text(array.as_string_opt()?),
        DataType::Binary => CellValues::Bytes(array.as_binary_opt()?),
        DataType::FixedSizeBinary(_) => CellValues::Fixed(array.as_fixed_size_binary_opt()?),
        _ => return nested(array),
    };
    Some(Ok(values))
}

fn nested(array: &ArrayRef) -> Option<Result<CellValues<'_>, Fault>> {
    let values = match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list_opt::<i32>()?;
            Cells::new(list.values()).map(|items| CellValues::List(list.value_offsets(), Box::new(items)))
        }
        DataType::Map(..) => {
            let map = array.as_map_opt()?;
            Cells::new(map.keys())
                .and_then(|keys| Ok(CellValues::Map(map.value_offsets(), Box::new(keys), Box::new(Cells::new(map.values())?))))
        }
        DataType::Struct(_) => {
            let columns = array.as_struct_opt()?.columns();
            columns.iter().map(Cells::new).collect::<Result<_, _>>().map(CellValues::Struct)
        }
        _ => return None,
    };
    Some(values)
}

/// The items of a row of a list or map.
pub(super) fn items(ends: &[i32], row: usize) -> std::ops::Range<usize> {
    match (ends.get(row), ends.get(row + 1)) {
        (Some(start), Some(end)) => *start as usize..*end as usize,
        _ => 0..0,
    }
}
