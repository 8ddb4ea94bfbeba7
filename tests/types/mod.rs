//! Types of columns as the tests' texts name them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

/// The type of that name: `BIGINT`, `ARRAY<STRING>`, `MAP<STRING, DOUBLE>`, ..
pub(crate) fn data_type(name: &str) -> DataType {
    let inside = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>'));
    if let Some(item) = inside("ARRAY<") {
        return DataType::List(Arc::new(Field::new("item", data_type(item), true)));
    }
    if let Some(fields) = inside("STRUCT<") {
        let field = |f: &str| f.split_once(' ').map(|(n, t)| Field::new(n, data_type(t), true)).unwrap();
        return DataType::Struct(fields.split(", ").map(field).collect());
    }
    if let Some(entry) = inside("MAP<") {
        let (key, value) = entry.split_once(", ").unwrap();
        let fields = Fields::from(vec![Field::new("keys", data_type(key), false), Field::new("values", data_type(value), true)]);
        return DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false);
    }
    match name {
        "STRING" => DataType::Utf8,
        "BOOLEAN" => DataType::Boolean,
        "SMALLINT" => DataType::Int16,
        "INTEGER" => DataType::Int32,
        "BIGINT" => DataType::Int64,
        "FLOAT" => DataType::Float32,
        "DOUBLE" => DataType::Float64,
        "BYTES" => DataType::Binary,
        "DATE" => DataType::Date32,
        "DECIMAL(10,2)" => DataType::Decimal128(10, 2),
        "TIMESTAMP(3)" => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        "TIMESTAMP(6)" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => panic!("no type {other}"),
    }
}
