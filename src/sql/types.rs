//! Types of SQL: how they are written, which of them compare, and in which form results keep them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::{Result, plan_err};
use datafusion_expr::planner::TypePlanner;
use datafusion_sql::sqlparser::ast::{DataType as SqlType, TimezoneInfo};

/// Types that DataFusion would read otherwise than this program: timestamps default to milliseconds, as in contracts.
#[derive(Debug)]
pub(crate) struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        Ok(arrow_type(sql_type)?.map(|t| Arc::new(Field::new("", t, true))))
    }
}

fn arrow_type(sql_type: &SqlType) -> Result<Option<DataType>> {
    Ok(Some(match sql_type {
        SqlType::Timestamp(precision, zone) => {
            let unit = match precision {
                None | Some(0..=3) => TimeUnit::Millisecond,
                Some(4..=6) => TimeUnit::Microsecond,
                Some(_) => return plan_err!("TIMESTAMP has at most 6 digits of seconds"),
            };
            let zoned = matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone);
            DataType::Timestamp(unit, zoned.then(|| "UTC".into()))
        }
        SqlType::Bytes(_) | SqlType::Varbinary(_) | SqlType::Binary(_) | SqlType::Blob(_) => DataType::Binary,
        SqlType::Character(_) | SqlType::CharacterVarying(_) | SqlType::CharVarying(_) => DataType::Utf8,
        SqlType::Float64 => DataType::Float64,
        SqlType::Int64 => DataType::Int64,
        _ => return Ok(None),
    }))
}

/// A family of types whose members compare and mix without a cast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Null,
    Boolean,
    Number,
    Text,
    Bytes,
    Time,
    Interval,
    Nested,
}

pub(crate) fn family(t: &DataType) -> Family {
    match t {
        DataType::Null => Family::Null,
        DataType::Boolean => Family::Boolean,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Family::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Family::Bytes,
        DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => Family::Time,
        DataType::Interval(_) | DataType::Duration(_) => Family::Interval,
        t if t.is_numeric() => Family::Number,
        DataType::Dictionary(_, value) => family(value),
        _ => Family::Nested,
    }
}

/// Whether values of the two types compare. A time compares with text only if the text is a literal.
pub(crate) fn comparable(left: (&DataType, bool), right: (&DataType, bool)) -> bool {
    match (family(left.0), family(right.0)) {
        (Family::Null, _) | (_, Family::Null) => true,
        (Family::Time, Family::Text) => right.1,
        (Family::Text, Family::Time) => left.1,
        (a, b) => a == b,
    }
}

/// The type in which a result keeps a value: one that contracts have.
pub(crate) fn kept(t: &DataType) -> DataType {
    match t {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::UInt8 | DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Timestamp(TimeUnit::Second, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Dictionary(_, value) => kept(value),
        DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            DataType::List(Arc::new(item.as_ref().clone().with_data_type(kept(item.data_type()))))
        }
        other => other.clone(),
    }
}

/// The type that holds all values of both, where one does without a change of kind.
pub(crate) fn united(a: &DataType, b: &DataType) -> Option<DataType> {
    let (a, b) = (kept(a), kept(b));
    if a == b {
        return Some(a);
    }
    Some(match (&a, &b) {
        (DataType::Float32, DataType::Float64) | (DataType::Float64, DataType::Float32) => DataType::Float64,
        (a, b) if a.is_integer() && b.is_integer() => {
            if a.primitive_width() >= b.primitive_width() {
                a.clone()
            } else {
                b.clone()
            }
        }
        (a, b) if a.is_numeric() && b.is_numeric() && (a.is_floating() || b.is_floating()) => DataType::Float64,
        (a, b) if a.is_numeric() && b.is_numeric() => {
            let ((whole_a, scale_a), (whole_b, scale_b)) = (digits(a)?, digits(b)?);
            let scale = scale_a.max(scale_b);
            let precision = whole_a.max(whole_b).checked_add(u8::try_from(scale).ok()?)?;
            (precision <= 38).then_some(DataType::Decimal128(precision, scale))?
        }
        (DataType::Timestamp(unit_a, zone_a), DataType::Timestamp(unit_b, zone_b)) if zone_a == zone_b => {
            DataType::Timestamp(*unit_a.max(unit_b), zone_a.clone())
        }
        (DataType::List(a), DataType::List(b)) => DataType::List(united_field(a, b)?),
        (DataType::Struct(a), DataType::Struct(b))
            if a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name() == b.name()) =>
        {
            DataType::Struct(a.iter().zip(b).map(|(a, b)| united_field(a, b)).collect::<Option<_>>()?)
        }
        (DataType::Map(a, sorted), DataType::Map(b, _)) => DataType::Map(united_field(a, b)?, *sorted),
        _ => return None,
    })
}

fn united_field(a: &FieldRef, b: &FieldRef) -> Option<FieldRef> {
    let data_type = united(a.data_type(), b.data_type())?;
    Some(Arc::new(Field::new(a.name(), data_type, a.is_nullable() || b.is_nullable())))
}

/// The digits of a whole number or a decimal before the point, and behind it.
fn digits(t: &DataType) -> Option<(u8, i8)> {
    Some(match t {
        DataType::Int8 => (3, 0),
        DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        DataType::Int64 => (19, 0),
        DataType::Decimal128(precision, scale) => (precision.checked_sub(u8::try_from(*scale).ok()?)?, *scale),
        _ => return None,
    })
}
