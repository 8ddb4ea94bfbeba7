//! A batch's columns as typed slices, so that encoders can go row by row without asking each cell for its type.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray, MapArray, StringArray, StructArray,
    new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Fields, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use super::column::map_fields;
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

/// The type in which values are written: one of those that [`Cells`] know, with the same values.
pub(super) fn written_type(found: &DataType) -> DataType {
    let inner = |field: &Field| Arc::new(field.clone().with_data_type(written_type(field.data_type())));
    match found {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => written_type(values),
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(inner(item))
        }
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| inner(field)).collect()),
        other => other.clone(),
    }
}

/// A column's values in another type of the same meaning; the same rules by which a query's result may fulfil a contract.
/// Structs are matched by the names of their fields.
pub(super) fn conform(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, Fault> {
    let found = array.data_type();
    let failed = |error: ArrowError| Fault::new(codes::WRONG_TYPE, error.to_string());
    match (found, wanted) {
        (a, b) if a == b => Ok(array.clone()),
        (DataType::Null, _) => Ok(new_null_array(wanted, array.len())),
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let Some(from) = array.as_struct_opt() else { return Err(refuse(found, wanted)) };
            let columns = fields.iter().map(|field| match from.column_by_name(field.name()) {
                Some(column) => conform(column, field.data_type()).map_err(|fault| fault.in_field(field.name())),
                None if field.is_nullable() => Ok(new_null_array(field.data_type(), array.len())),
                None => Err(Fault::new(codes::MISSING, "missing, and the contract requires it").in_field(field.name())),
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            // Whether nulls are allowed is for the writer to say, row by row.
            let fields: Fields = fields.iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect();
            Ok(Arc::new(StructArray::try_new_with_length(fields, columns, from.nulls().cloned(), array.len()).map_err(failed)?))
        }
        (DataType::List(_), DataType::List(item)) => {
            let Some(from) = array.as_list_opt::<i32>() else { return Err(refuse(found, wanted)) };
            let values = conform(from.values(), item.data_type())?;
            let item = Arc::new(Field::new("item", values.data_type().clone(), true));
            Ok(Arc::new(ListArray::try_new(item, from.offsets().clone(), values, from.nulls().cloned()).map_err(failed)?))
        }
        (DataType::Map(..), DataType::Map(entries, _)) => {
            let (Some(from), Some((_, value))) = (array.as_map_opt(), map_fields(entries)) else {
                return Err(refuse(found, wanted));
            };
            let values = conform(from.values(), value.data_type())?;
            let keys = conform(from.keys(), &DataType::Utf8)?;
            let fields = Fields::from(vec![
                Field::new("key", DataType::Utf8, false),
                Field::new("value", values.data_type().clone(), true),
            ]);
            let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None).map_err(failed)?;
            let entries = Arc::new(Field::new("entries", DataType::Struct(fields), false));
            Ok(Arc::new(MapArray::try_new(entries, from.offsets().clone(), pairs, from.nulls().cloned(), false).map_err(failed)?))
        }
        _ if found.is_nested() && !wanted.is_nested() => Err(refuse(found, wanted)),
        _ if fits(wanted, &written_type(found)) || written_type(found) == *wanted => {
            cast_with_options(array, wanted, &CastOptions { safe: false, ..CastOptions::default() }).map_err(failed)
        }
        _ => Err(refuse(found, wanted)),
    }
}

fn refuse(found: &DataType, wanted: &DataType) -> Fault {
    Fault::new(codes::WRONG_TYPE, format!("{} can't be written as {}", type_name(found), type_name(wanted)))
}

/// Whether plain values of one type may be written as another.
fn fits(wanted: &DataType, found: &DataType) -> bool {
    use DataType::{
        Binary, Decimal128, FixedSizeBinary, Float32, Float64, Int8, Int16, Int32, Int64, List, Map, Struct, Time32, Time64,
        Timestamp, UInt8, UInt16, UInt32, UInt64,
    };
    match (wanted, found) {
        (a, b) if a == b => true,
        (Int16, Int8 | UInt8) | (Int32, Int8 | Int16 | UInt8 | UInt16) => true,
        (Int64, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32) => true,
        // Only Protobuf's contracts have it; a cast says which value is out of its range.
        (UInt64, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32) => true,
        (Float32, Int8 | Int16 | UInt8 | UInt16) => true,
        (Float64, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float32) => true,
        (Decimal128(precision, scale), Decimal128(p, s)) => {
            s <= scale && i16::from(*p) - i16::from(*s) <= i16::from(*precision) - i16::from(*scale)
        }
        (Decimal128(..), Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32) | (Binary, FixedSizeBinary(_)) => true,
        (Time32(_) | Time64(_), Time32(_) | Time64(_)) => true,
        // Finer parts of a second are cut off; the plan says so of a query that has them.
        (Timestamp(_, a), Timestamp(_, b)) => a.is_some() == b.is_some(),
        (List(_), List(_)) | (Map(..), Map(..)) | (Struct(_), Struct(_)) => true,
        _ => false,
    }
}

/// Whether JSON has values of one type where the contract says another: numbers and texts are of few types there.
pub(super) fn fits_json(declared: &DataType, found: &DataType) -> bool {
    use DataType::{Binary, Date32, Decimal128, FixedSizeBinary, Float64, Int64, Null, Time32, Time64, Timestamp, UInt64, Utf8};
    match (declared, found) {
        (_, Null) => true,
        (Utf8, Date32 | Time32(_) | Time64(_) | Timestamp(..) | Binary | FixedSizeBinary(_)) => true,
        (Float64, Decimal128(..)) | (Int64, UInt64) => true,
        (declared, found) => fits(declared, found),
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
