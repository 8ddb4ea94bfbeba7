//! Types of SQL: how they are written, which of them compare, and in which form results keep them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::Result;
use datafusion_expr::planner::TypePlanner;
use datafusion_sql::sqlparser::ast::{DataType as SqlType, ExactNumberInfo, TimezoneInfo};

use super::check::refused;

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
            let zoned = matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone);
            DataType::Timestamp(unit("TIMESTAMP", *precision)?, zoned.then(|| "UTC".into()))
        }
        SqlType::Time(_, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
            return refused("a TIME has no zone", "write TIME, or TIMESTAMP WITH TIME ZONE");
        }
        SqlType::Time(precision, _) => match unit("TIME", *precision)? {
            TimeUnit::Millisecond => DataType::Time32(TimeUnit::Millisecond),
            finer => DataType::Time64(finer),
        },
        SqlType::Bytes(None) | SqlType::Varbinary(None) | SqlType::Binary(None) | SqlType::Blob(None) => DataType::Binary,
        SqlType::Bytes(_) | SqlType::Varbinary(_) | SqlType::Binary(_) | SqlType::Blob(_) => {
            return refused("BYTES have no declared length", "write BYTES");
        }
        SqlType::Character(None)
        | SqlType::Char(None)
        | SqlType::CharacterVarying(None)
        | SqlType::CharVarying(None)
        | SqlType::Varchar(None) => DataType::Utf8,
        SqlType::Character(_)
        | SqlType::Char(_)
        | SqlType::CharacterVarying(_)
        | SqlType::CharVarying(_)
        | SqlType::Varchar(_) => {
            return refused("a STRING has no declared length", "write STRING, and left(x, 3) to cut one");
        }
        SqlType::Decimal(ExactNumberInfo::None)
        | SqlType::Numeric(ExactNumberInfo::None)
        | SqlType::Dec(ExactNumberInfo::None) => {
            return refused("a DECIMAL needs its precision and scale", "write DECIMAL(10, 2): ten digits, two behind the point");
        }
        SqlType::Uuid => {
            return refused("a UUID is a STRING here", "write to_uuid(x): it checks the text, and gives its canonical form");
        }
        SqlType::JSON | SqlType::JSONB => {
            return refused("JSON is a STRING here", "write json_value(x, '$.a'), and is_json(x) to check it");
        }
        t if is_unsigned(t) => return refused(format!("{t}: numbers have a sign here"), "write BIGINT"),
        SqlType::Float64 => DataType::Float64,
        SqlType::Int64 => DataType::Int64,
        _ => return Ok(None),
    }))
}

/// Milliseconds unless microseconds are declared.
fn unit(name: &str, precision: Option<u64>) -> Result<TimeUnit> {
    match precision {
        None | Some(3) => Ok(TimeUnit::Millisecond),
        Some(6) => Ok(TimeUnit::Microsecond),
        Some(other) => refused(
            format!("{name}({other}): a {name} counts milliseconds or microseconds"),
            format!("write {name}(3), which is {name}, or {name}(6)"),
        ),
    }
}

fn is_unsigned(t: &SqlType) -> bool {
    let name = t.to_string();
    name.contains("UNSIGNED") || name.starts_with("UINT") || name.starts_with("UTINYINT")
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
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) => DataType::Time32(TimeUnit::Millisecond),
        DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, zone) => {
            DataType::Timestamp(TimeUnit::Millisecond, zone.as_ref().map(|_| "UTC".into()))
        }
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "UTC".into())),
        DataType::Dictionary(_, value) => kept(value),
        DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => DataType::List(kept_field(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(kept_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(kept_field(entries), *sorted),
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

fn kept_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(kept(field.data_type())))
}
