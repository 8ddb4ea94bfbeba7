//! Columns: what a contract declares, and whether a query's result fulfils it.

use std::sync::Arc;

use arrow::datatypes::TimeUnit;

use crate::model::product::Format;
use crate::model::row::{DataType, Field, RowType, type_name};

/// The columns of a contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns {
    pub format: Format,
    /// Columns that a row can have, in the text's order, in Protobuf in that of the numbers. What need not be there is
    /// nullable.
    pub row_type: RowType,
    /// Columns that no row can have, each with the reason. An error only for who reads or writes them. With an empty
    /// name: why the schema as a whole has no columns.
    pub unsupported: Vec<(String, String)>,
    /// Names of the columns that must be there, supported or not.
    pub required: Vec<String>,
    /// Whether records may have more than is declared.
    pub open: bool,
}

/// What keeps a query's result from fulfilling a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    pub column: String,
    /// "is INTEGER in the contract, but the query computes STRING".
    pub reason: String,
}

/// How a query's result falls short of a declared contract; empty when it fulfils it. Columns are compared by name.
pub fn mismatches(declared: &Columns, computed: &RowType) -> Vec<Mismatch> {
    let mut found = Vec::new();
    let mut report = |column: &str, reason: String| found.push(Mismatch { column: column.to_owned(), reason });
    for (name, reason) in &declared.unsupported {
        if name.is_empty() || computed.field_with_name(name).is_ok() || declared.required.contains(name) {
            report(name, format!("is declared in a way that can't be written: {reason}"));
        }
    }
    for field in declared.row_type.fields() {
        match computed.field_with_name(field.name()) {
            Ok(column) => {
                if let Err(reason) = fits(declared.format, field, column) {
                    report(field.name(), reason);
                }
            }
            Err(_) => report(field.name(), "is in the contract, but the query does not compute it".into()),
        }
    }
    for column in computed.fields() {
        let known = declared.row_type.field_with_name(column.name()).is_ok()
            || declared.unsupported.iter().any(|(name, _)| name == column.name());
        if !known && !declared.open {
            report(column.name(), "is computed by the query, but the contract does not have it and allows nothing else".into());
        }
    }
    found
}

/// Whether values of `computed` may stand in a column that is declared as `declared`.
fn fits(format: Format, declared: &Field, computed: &Field) -> Result<(), String> {
    if computed.is_nullable() && !declared.is_nullable() {
        if format == Format::Protobuf && !matches!(declared.data_type(), DataType::List(_) | DataType::Map(..)) {
            return Err(format!(
                "can't be null in the contract, as it is not declared optional, but the query computes {} that may be null",
                type_name(computed.data_type())
            ));
        }
        return Err(format!(
            "is required in the contract, but the query computes {} that may be null",
            type_name(computed.data_type())
        ));
    }
    let differs = || {
        let (declared, computed) = (described(declared.data_type()), described(computed.data_type()));
        format!("is {declared} in the contract, but the query computes {computed}")
    };
    match (declared.data_type(), plain(computed.data_type())) {
        (DataType::Struct(fields), DataType::Struct(computed)) => {
            for field in fields {
                match computed.iter().find(|column| column.name() == field.name()) {
                    Some(column) => fits(format, field, column).map_err(|reason| inside(field.name(), &reason))?,
                    None => return Err(inside(field.name(), "is in the contract, but the query does not compute it")),
                }
            }
            Ok(())
        }
        (DataType::List(item), DataType::List(computed) | DataType::LargeList(computed)) => {
            fits(format, item, computed).map_err(|reason| inside("each item", &reason))
        }
        (DataType::Map(entries, _), DataType::Map(computed, _)) => match (map_value(entries), map_value(computed)) {
            (Some(value), Some(computed)) => fits(format, &value, &computed).map_err(|reason| inside("each value", &reason)),
            _ => Err(differs()),
        },
        (declared, computed) => {
            if scalar_fits(format, declared, computed) {
                Ok(())
            } else {
                Err(differs())
            }
        }
    }
}

fn inside(name: &str, reason: &str) -> String {
    format!("does not fit: {name} {reason}")
}

fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

/// The values of a map's entries.
pub(super) fn map_value(entries: &Field) -> Option<Arc<Field>> {
    match entries.data_type() {
        DataType::Struct(fields) => fields.get(1).cloned(),
        _ => None,
    }
}

/// A JSON record can carry any number as a number and has strings for times and bytes. An Avro record carries exactly its
/// types, but for whole numbers that are narrower; everything else needs a CAST in the query. So does a Protobuf record,
/// whose times have any unit.
fn scalar_fits(format: Format, declared: &DataType, computed: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Date32, Date64, Decimal128, Decimal256, FixedSizeBinary, Float16, Float32, Float64, Int8, Int16,
        Int32, Int64, LargeBinary, LargeUtf8, Null, Time32, Time64, Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8, Utf8View,
    };
    let json = format == Format::Json;
    let protobuf = format == Format::Protobuf;
    match (declared, computed) {
        // Only nulls, and those were looked at before.
        (_, Null) => true,
        (Utf8, Utf8 | LargeUtf8 | Utf8View) | (Binary, Binary | LargeBinary | BinaryView) => true,
        (Int32, Int8 | Int16 | Int32 | UInt8 | UInt16) => true,
        (Int64, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32) => true,
        (Int64, UInt64) => json,
        // Numbers out of range are told when they are written: queries have no unsigned numbers.
        (UInt64, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32) => protobuf,
        (Float64, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float16 | Float32) => json,
        (Float64, Decimal128(..) | Decimal256(..)) => json,
        (
            Utf8,
            Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(..) | Binary | LargeBinary | BinaryView | FixedSizeBinary(_),
        ) => json,
        (Decimal128(precision, scale), Decimal128(p, s)) => s == scale && p <= precision,
        (Timestamp(_, Some(_)), Timestamp(_, Some(_))) if protobuf => true,
        (Time64(_), Time32(_) | Time64(_)) if protobuf => true,
        (Timestamp(unit, zone), Timestamp(own, computed)) => unit == own && zone.is_some() == computed.is_some(),
        (declared, computed) => declared == computed,
    }
}

/// A type's name, and the part of a second that its values count, which tells otherwise equal names apart.
fn described(data_type: &DataType) -> String {
    let unit = match data_type {
        DataType::Time32(unit) | DataType::Time64(unit) | DataType::Timestamp(unit, _) => unit,
        other => return type_name(other),
    };
    let unit = match unit {
        TimeUnit::Second => "seconds",
        TimeUnit::Millisecond => "milliseconds",
        TimeUnit::Microsecond => "microseconds",
        TimeUnit::Nanosecond => "nanoseconds",
    };
    format!("{} in {unit}", type_name(data_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::parse;

    fn contract(text: &str) -> Columns {
        parse(Format::Json, text, &[]).unwrap().columns()
    }

    fn lines(declared: &Columns, computed: Vec<Field>) -> Vec<String> {
        mismatches(declared, &RowType::new(computed)).into_iter().map(|m| format!("{} {}", m.column, m.reason)).collect()
    }

    #[test]
    fn a_result_that_fulfils_its_contract() {
        let declared = contract(
            r#"{"type":"object","properties":{"id":{"type":"string"},"n":{"type":"number"},"at":{"type":"string","format":"date-time"},
                "tags":{"type":"array","items":{"type":"string"}}},"required":["id"],"additionalProperties":false}"#,
        );
        let tags = DataType::List(Arc::new(Field::new("item", DataType::Utf8, false)));
        let columns = vec![
            Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
            Field::new("id", DataType::Utf8, false),
            Field::new("n", DataType::Int64, true),
            Field::new("tags", tags, false),
        ];
        assert_eq!(lines(&declared, columns), Vec::<String>::new());
    }

    #[test]
    fn everything_that_may_be_wrong() {
        let declared = contract(
            r#"{"type":"object","properties":{"id":{"type":"string"},"n":{"type":"integer"},"gone":{"type":"string"},"any":{},
                "s":{"type":"object","properties":{"x":{"type":"integer"}},"required":["x"]}},"required":["id"],"additionalProperties":false}"#,
        );
        let inner = DataType::Struct(vec![Field::new("x", DataType::Int64, true)].into());
        let columns = vec![
            Field::new("id", DataType::Utf8, true),
            Field::new("n", DataType::Float64, true),
            Field::new("s", inner, true),
            Field::new("more", DataType::Utf8, true),
            Field::new("any", DataType::Utf8, true),
        ];
        insta::assert_snapshot!(lines(&declared, columns).join("\n"), @r"
        any is declared in a way that can't be written: its schema says no type
        id is required in the contract, but the query computes STRING that may be null
        n is BIGINT in the contract, but the query computes DOUBLE
        gone is in the contract, but the query does not compute it
        s does not fit: x is required in the contract, but the query computes BIGINT that may be null
        more is computed by the query, but the contract does not have it and allows nothing else
        ");
    }

    #[test]
    fn avro_takes_its_own_types_only() {
        let text = r#"{"type":"record","name":"R","fields":[{"name":"d","type":"double"},{"name":"l","type":"long"},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;
        let declared = parse(Format::Avro, text, &[]).unwrap().columns();
        let columns = vec![
            Field::new("d", DataType::Int64, false),
            Field::new("l", DataType::Int32, false),
            Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false),
        ];
        insta::assert_snapshot!(lines(&declared, columns).join("\n"), @r"
        d is DOUBLE in the contract, but the query computes BIGINT
        at is TIMESTAMP WITH TIME ZONE in milliseconds in the contract, but the query computes TIMESTAMP WITH TIME ZONE in nanoseconds
        ");
    }

    #[test]
    fn protobuf_has_null_where_it_is_declared() {
        let text = r#"syntax = "proto3"; import "google/protobuf/timestamp.proto";
            message M { string a = 1; optional string b = 2; uint64 n = 3; google.protobuf.Timestamp at = 4; repeated int32 l = 5; }"#;
        let declared = parse(Format::Protobuf, text, &[]).unwrap().columns();
        let columns = vec![
            Field::new("a", DataType::Utf8, true),
            Field::new("b", DataType::Utf8, true),
            Field::new("n", DataType::Int64, false),
            Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
            Field::new("l", DataType::List(Arc::new(Field::new("item", DataType::Int32, true))), false),
            Field::new("more", DataType::Utf8, true),
        ];
        insta::assert_snapshot!(lines(&declared, columns).join("\n"), @"
        a can't be null in the contract, as it is not declared optional, but the query computes STRING that may be null
        l does not fit: each item can't be null in the contract, as it is not declared optional, but the query computes INTEGER that may be null
        more is computed by the query, but the contract does not have it and allows nothing else
        ");
    }

    #[test]
    fn an_open_contract_takes_more_columns() {
        let declared = contract(r#"{"type":"object","properties":{"id":{"type":"string"}}}"#);
        assert!(
            lines(&declared, vec![Field::new("id", DataType::Utf8, true), Field::new("more", DataType::Utf8, true)]).is_empty()
        );
    }
}
