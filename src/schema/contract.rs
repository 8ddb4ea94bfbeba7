//! Contracts' texts: made from row types, and where a column stands in one.

use std::ops::Range;

use serde_json::{Map, Value as Json, json};

use super::columns::map_value;
use super::protobuf;
use super::text::{self, Value};
use crate::model::product::Format;
use crate::model::row::{DataType, Field, RowType, type_name};
use arrow::datatypes::TimeUnit;

/// The text of a contract for records of this row type, or which column can't be in one. JSON Schemas are closed, and
/// require the columns that are not nullable. `name` becomes the title, or the record's or message's name.
pub fn from_row_type(format: Format, name: &str, row: &RowType) -> Result<String, String> {
    let schema = match format {
        Format::Json => {
            let mut schema = json!({"title": name});
            if let (Some(schema), Json::Object(object)) = (schema.as_object_mut(), json_object(row.fields())?) {
                schema.extend(object);
            }
            in_draft_07(schema)
        }
        Format::Avro => avro_record(&avro_name(name), row.fields())?,
        Format::Protobuf => return protobuf_file(name, row.fields()),
    };
    serde_json::to_string_pretty(&schema).map_err(|e| e.to_string())
}

/// The text of the schema of a record key. One column is its bare type (`"type":"string"`, `"string"`), several are an
/// object or a record; in Protobuf both are a message. A column that the format has no type for is a string.
pub fn key_schema(format: Format, key: &[Field]) -> String {
    let schema = match (format, key) {
        (Format::Json, [column]) => in_draft_07(json_type(column.data_type()).unwrap_or_else(|_| json!({"type": "string"}))),
        (Format::Json, columns) => {
            let mut properties = Map::new();
            for column in columns {
                let schema = json_type(column.data_type()).unwrap_or_else(|_| json!({"type": "string"}));
                properties.insert(column.name().clone(), schema);
            }
            let required: Vec<&String> = columns.iter().map(Field::name).collect();
            in_draft_07(json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false}))
        }
        (Format::Avro, [column]) => avro_type(column.data_type(), "Key").unwrap_or_else(|_| json!("string")),
        (Format::Avro, columns) => {
            let fields: Vec<Json> = columns
                .iter()
                .map(|column| {
                    let inner = format!("Key_{}", column.name());
                    json!({"name": avro_name(column.name()), "type": avro_type(column.data_type(), &inner).unwrap_or_else(|_| json!("string"))})
                })
                .collect();
            json!({"type": "record", "name": "Key", "fields": fields})
        }
        (Format::Protobuf, columns) => {
            let fields: Vec<std::sync::Arc<Field>> = columns.iter().cloned().map(std::sync::Arc::new).collect();
            // Keys are never null.
            let fields =
                fields.iter().map(|field| std::sync::Arc::new(field.as_ref().clone().with_nullable(false))).collect::<Vec<_>>();
            return protobuf_file("Key", &fields).unwrap_or_else(|_| {
                let texts =
                    columns.iter().map(|column| std::sync::Arc::new(Field::new(avro_name(column.name()), DataType::Utf8, false)));
                protobuf_file("Key", &texts.collect::<Vec<_>>()).unwrap_or_default()
            });
        }
    };
    schema.to_string()
}

/// Says which JSON Schema it is: a bare `{"type":"string"}` is not taken for one by every registry.
fn in_draft_07(schema: Json) -> Json {
    let mut dialect = json!({"$schema": "http://json-schema.org/draft-07/schema#"});
    if let (Some(dialect), Json::Object(schema)) = (dialect.as_object_mut(), schema) {
        dialect.extend(schema);
    }
    dialect
}

fn json_object<'a>(fields: impl IntoIterator<Item = &'a std::sync::Arc<Field>>) -> Result<Json, String> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields {
        let schema = json_type(field.data_type()).map_err(|reason| format!("column {}: {reason}", field.name()))?;
        let schema = if field.is_nullable() { or_null(schema) } else { schema };
        properties.insert(field.name().clone(), schema);
        if !field.is_nullable() {
            required.push(field.name().clone());
        }
    }
    let mut object = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if let Some(object) = object.as_object_mut().filter(|_| !required.is_empty()) {
        object.insert("required".into(), json!(required));
    }
    Ok(object)
}

/// A schema that also allows null: a nullable column is written as null, not left out.
fn or_null(mut schema: Json) -> Json {
    if let Some(kind) = schema.get("type").cloned()
        && let Some(object) = schema.as_object_mut()
    {
        object.insert("type".into(), json!([kind, "null"]));
    }
    schema
}

fn json_type(data_type: &DataType) -> Result<Json, String> {
    Ok(match data_type {
        DataType::Boolean => json!({"type": "boolean"}),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => json!({"type": "integer"}),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => json!({"type": "integer", "minimum": 0}),
        DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            json!({"type": "number"})
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!({"type": "string"}),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            json!({"type": "string", "contentEncoding": "base64"})
        }
        DataType::Date32 | DataType::Date64 => json!({"type": "string", "format": "date"}),
        DataType::Time32(_) | DataType::Time64(_) => json!({"type": "string", "format": "time"}),
        DataType::Timestamp(..) => json!({"type": "string", "format": "date-time"}),
        DataType::List(item) | DataType::LargeList(item) => json!({"type": "array", "items": json_inner(item)?}),
        DataType::Struct(fields) => json_object(fields)?,
        DataType::Map(entries, _) => match map_value(entries) {
            Some(value) => json!({"type": "object", "additionalProperties": json_inner(&value)?}),
            None => return Err(no_type(data_type)),
        },
        DataType::Dictionary(_, values) => json_type(values)?,
        other => return Err(no_type(other)),
    })
}

fn json_inner(field: &Field) -> Result<Json, String> {
    let schema = json_type(field.data_type())?;
    Ok(if field.is_nullable() { or_null(schema) } else { schema })
}

fn no_type(data_type: &DataType) -> String {
    format!("a schema has no type for {}", type_name(data_type))
}

fn avro_record<'a>(name: &str, fields: impl IntoIterator<Item = &'a std::sync::Arc<Field>>) -> Result<Json, String> {
    let mut written = Vec::new();
    for field in fields {
        if avro_name(field.name()) != *field.name() || field.name().contains('.') {
            return Err(format!(
                "column {:?}: Avro allows letters, digits and underscores in names only, no digit first",
                field.name()
            ));
        }
        let simple = name.rsplit('.').next().unwrap_or(name);
        let schema = avro_type(field.data_type(), &format!("{simple}_{}", field.name()));
        let schema = schema.map_err(|reason| format!("column {}: {reason}", field.name()))?;
        written.push(if field.is_nullable() {
            json!({"name": field.name(), "type": ["null", schema], "default": null})
        } else {
            json!({"name": field.name(), "type": schema})
        });
    }
    let (space, name) = name.rsplit_once('.').map_or((None, name), |(space, name)| (Some(space), name));
    let mut record = json!({"type": "record", "name": name});
    if let Some(record) = record.as_object_mut() {
        if let Some(space) = space {
            record.insert("namespace".into(), json!(space));
        }
        record.insert("fields".into(), Json::Array(written));
    }
    Ok(record)
}

/// A name with everything that Avro does not allow replaced by underscores; dots part namespaces.
fn avro_name(name: &str) -> String {
    let parts = name.split('.').filter(|part| !part.is_empty()).map(|part| {
        let part: String = part.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if part.starts_with(|c: char| c.is_ascii_digit()) { format!("_{part}") } else { part }
    });
    let name = parts.collect::<Vec<_>>().join(".");
    if name.is_empty() { "_".into() } else { name }
}

/// `name` is for records and fixed types.
fn avro_type(data_type: &DataType, name: &str) -> Result<Json, String> {
    let logical = |kind: &str, logical: &str| json!({"type": kind, "logicalType": logical});
    Ok(match data_type {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => json!("int"),
        DataType::Int64 | DataType::UInt32 => json!("long"),
        DataType::Float16 | DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!("string"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => json!("bytes"),
        DataType::FixedSizeBinary(size) => json!({"type": "fixed", "name": avro_name(name), "size": size}),
        DataType::Decimal128(precision, scale) => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        DataType::Date32 | DataType::Date64 => logical("int", "date"),
        DataType::Time32(_) => logical("int", "time-millis"),
        DataType::Time64(_) => logical("long", "time-micros"),
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, Some(_)) => logical("long", "timestamp-millis"),
        DataType::Timestamp(_, Some(_)) => logical("long", "timestamp-micros"),
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, None) => logical("long", "local-timestamp-millis"),
        DataType::Timestamp(_, None) => logical("long", "local-timestamp-micros"),
        DataType::List(item) | DataType::LargeList(item) => json!({"type": "array", "items": avro_inner(item, name)?}),
        DataType::Struct(fields) => avro_record(&avro_name(name), fields)?,
        DataType::Map(entries, _) => match map_value(entries) {
            Some(value) => json!({"type": "map", "values": avro_inner(&value, name)?}),
            None => return Err(no_type(data_type)),
        },
        DataType::Dictionary(_, values) => avro_type(values, name)?,
        other => return Err(no_type(other)),
    })
}

fn avro_inner(field: &Field, name: &str) -> Result<Json, String> {
    let schema = avro_type(field.data_type(), name)?;
    Ok(if field.is_nullable() { json!(["null", schema]) } else { schema })
}

/// A Protobuf file with one message. Fields are numbered by their order, so a column that is added belongs at the end.
fn protobuf_file<'a>(name: &str, fields: impl IntoIterator<Item = &'a std::sync::Arc<Field>>) -> Result<String, String> {
    let name = avro_name(name);
    let (package, name) = name.rsplit_once('.').map_or((None, name.as_str()), |(package, name)| (Some(package), name));
    let mut imports: Vec<&str> = Vec::new();
    let message = protobuf_message(name, fields, 0, &mut imports)?;
    imports.sort_unstable();
    imports.dedup();
    let mut text = String::from("syntax = \"proto3\";\n");
    if let Some(package) = package {
        text.push_str(&format!("package {package};\n"));
    }
    if !imports.is_empty() {
        text.push('\n');
        text.extend(imports.iter().map(|path| format!("import \"{path}\";\n")));
    }
    Ok(format!("{text}\n{message}"))
}

/// A message, and those of its structs within it.
fn protobuf_message<'a>(
    name: &str,
    fields: impl IntoIterator<Item = &'a std::sync::Arc<Field>>,
    depth: usize,
    imports: &mut Vec<&'static str>,
) -> Result<String, String> {
    let indent = "  ".repeat(depth);
    let (mut lines, mut nested) = (String::new(), String::new());
    for (number, field) in (1_usize..).zip(fields) {
        let column = field.name();
        if avro_name(column) != *column || column.contains('.') {
            return Err(format!(
                "column {column:?}: Protobuf allows letters, digits and underscores in names only, no digit first"
            ));
        }
        let written = protobuf_type(field, &format!("{column}_message"), depth + 1, &mut nested, imports)
            .map_err(|reason| format!("column {column}: {reason}"))?;
        // Numbers from 19000 on belong to Protobuf itself.
        if number >= 19_000 {
            return Err(format!("column {column}: a message has fewer than 19000 fields"));
        }
        let optional = if field.is_nullable() { "optional " } else { "" };
        let (label, options) = match field.data_type() {
            DataType::List(_) | DataType::LargeList(_) => ("repeated ", String::new()),
            DataType::Map(..) => ("", String::new()),
            DataType::Decimal128(precision, scale) => {
                imports.push("confluent/meta.proto");
                let params = [("precision", precision.to_string()), ("scale", scale.to_string())];
                let params = params.map(|(key, value)| format!("{{ key: \"{key}\", value: \"{value}\" }}")).join(", ");
                (optional, format!(" [(confluent.field_meta).params = [{params}]]"))
            }
            _ => (optional, String::new()),
        };
        lines.push_str(&format!("{indent}  {label}{written} {column} = {number}{options};\n"));
    }
    Ok(format!("{indent}message {name} {{\n{lines}{nested}{indent}}}\n"))
}

/// A field's type without its label. `name` is for the message of a struct, which goes to `nested`.
fn protobuf_type(
    field: &Field,
    name: &str,
    depth: usize,
    nested: &mut String,
    imports: &mut Vec<&'static str>,
) -> Result<String, String> {
    let no_null = |what: &str| format!("Protobuf has no null for {what}; COALESCE it in the query");
    let scalar = match field.data_type() {
        DataType::Boolean => "bool",
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => "int32",
        DataType::Int64 => "int64",
        DataType::UInt32 => "uint32",
        DataType::UInt64 => "uint64",
        DataType::Float16 | DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytes",
        DataType::Date32 | DataType::Date64 => {
            imports.push("google/type/date.proto");
            "google.type.Date"
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            imports.push("google/type/timeofday.proto");
            "google.type.TimeOfDay"
        }
        DataType::Timestamp(_, Some(_)) => {
            imports.push("google/protobuf/timestamp.proto");
            "google.protobuf.Timestamp"
        }
        DataType::Timestamp(_, None) => {
            return Err(
                "Protobuf has no type for a TIMESTAMP without a zone; CAST it to TIMESTAMP WITH TIME ZONE or STRING".into()
            );
        }
        DataType::Decimal128(..) => {
            imports.push("confluent/type/decimal.proto");
            "confluent.type.Decimal"
        }
        DataType::Dictionary(_, values) => {
            return protobuf_type(&field.clone().with_data_type(values.as_ref().clone()), name, depth, nested, imports);
        }
        DataType::Struct(fields) => {
            nested.push_str(&protobuf_message(name, fields, depth, imports)?);
            return Ok(name.to_owned());
        }
        DataType::List(item) | DataType::LargeList(item) => {
            if field.is_nullable() || item.is_nullable() {
                return Err(no_null(if field.is_nullable() { "an array" } else { "an array's items" }));
            }
            if matches!(item.data_type(), DataType::List(_) | DataType::LargeList(_) | DataType::Map(..)) {
                return Err("Protobuf has no arrays of arrays or maps".into());
            }
            return protobuf_type(item, name, depth, nested, imports);
        }
        DataType::Map(entries, _) => {
            let value = map_value(entries).ok_or_else(|| no_type(field.data_type()))?;
            if field.is_nullable() || value.is_nullable() {
                return Err(no_null(if field.is_nullable() { "a map" } else { "a map's values" }));
            }
            if matches!(
                value.data_type(),
                DataType::List(_) | DataType::LargeList(_) | DataType::Map(..) | DataType::Decimal128(..)
            ) {
                return Err(format!("Protobuf has no maps of {}", type_name(value.data_type())));
            }
            return Ok(format!("map<string, {}>", protobuf_type(&value, name, depth, nested, imports)?));
        }
        other => return Err(no_type(other)),
    };
    Ok(scalar.to_owned())
}

/// The bytes of a column's declaration in a schema's text: a property with its name, a record's field.
pub fn locate(format: Format, text: &str, column: &str) -> Option<Range<usize>> {
    let value = match format {
        Format::Avro => text::read_whole(text).ok()?,
        Format::Json => text::read(text).ok()?.0,
        Format::Protobuf => return protobuf::locate(text, column),
    };
    match format {
        Format::Json => property(&value, column),
        Format::Avro => {
            let named = |field: &&Value| field.get("name").and_then(Value::as_str) == Some(column);
            value.get("fields")?.as_array()?.iter().find(named).map(|field| field.span.clone())
        }
        Format::Protobuf => None,
    }
}

/// Looks for a property in a schema, in the parts of its `allOf` and behind its `$ref` within the document.
fn property(root: &Value, column: &str) -> Option<Range<usize>> {
    let mut open = vec![root];
    let mut seen: Vec<&Value> = Vec::new();
    while let Some(schema) = open.pop() {
        if seen.iter().any(|known| std::ptr::eq(*known, schema)) {
            continue;
        }
        seen.push(schema);
        if let Some(member) = schema.get("properties").and_then(Value::as_object).and_then(|properties| properties.member(column))
        {
            return Some(member.key_span.start..member.value.span.end);
        }
        let referred = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix("#/"));
        let referred = referred.and_then(|pointer| {
            pointer.split('/').try_fold(root, |value, token| value.get(&token.replace("~1", "/").replace("~0", "~")))
        });
        open.extend(schema.get("allOf").and_then(Value::as_array).unwrap_or(&[]));
        open.extend(referred);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::schema::{avro, parse};

    fn row() -> RowType {
        let inner = DataType::Struct(vec![Field::new("x", DataType::Int32, false), Field::new("y", DataType::Utf8, true)].into());
        RowType::new(vec![
            Field::new("id", DataType::Utf8, false),
            Field::new("n", DataType::Int64, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
            Field::new("s", inner, true),
            Field::new("tags", DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), false),
            Field::new("m", avro::map_of(DataType::Float64, false), false),
        ])
    }

    #[test]
    fn contracts_have_the_columns_they_were_made_from() {
        let text = from_row_type(Format::Avro, "inventory.pairs-v1", &row()).unwrap();
        let schema = parse(Format::Avro, &text, &[]).unwrap();
        assert_eq!(schema.columns().row_type, row());
        assert!(
            schema.stored(false).starts_with(r#"{"type":"record","name":"pairs_v1","namespace":"inventory","#),
            "{}",
            schema.stored(false)
        );

        let text = from_row_type(Format::Json, "pairs", &row()).unwrap();
        let columns = parse(Format::Json, &text, &[]).unwrap().columns();
        assert_eq!(crate::schema::mismatches(&columns, &row()), []);
        assert!(!columns.open);
        insta::assert_snapshot!(parse(Format::Json, &text, &[]).unwrap().stored(false), @r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"pairs","type":"object","properties":{"id":{"type":"string"},"n":{"type":["integer","null"]},"at":{"type":"string","format":"date-time"},"s":{"type":["object","null"],"properties":{"x":{"type":"integer"},"y":{"type":["string","null"]}},"additionalProperties":false,"required":["x"]},"tags":{"type":"array","items":{"type":["string","null"]}},"m":{"type":"object","additionalProperties":{"type":"number"}}},"additionalProperties":false,"required":["id","at","tags","m"]}"#);
    }

    #[test]
    fn protobuf_contracts_have_the_columns_they_were_made_from() {
        let inner = DataType::Struct(vec![Field::new("x", DataType::Int32, false), Field::new("y", DataType::Utf8, true)].into());
        let row = RowType::new(vec![
            Field::new("id", DataType::Utf8, false),
            Field::new("n", DataType::Int64, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("s", inner.clone(), true),
            Field::new("all", DataType::List(Arc::new(Field::new("item", inner, false))), false),
            Field::new("d", DataType::Decimal128(9, 2), true),
            Field::new("m", avro::map_of(DataType::Date32, false), false),
        ]);
        let text = from_row_type(Format::Protobuf, "inventory.pairs-v1", &row).unwrap();
        let schema = parse(Format::Protobuf, &text, &[]).unwrap();
        assert_eq!(schema.columns().row_type, row);
        insta::assert_snapshot!(text, @r#"
        syntax = "proto3";
        package inventory;

        import "confluent/meta.proto";
        import "confluent/type/decimal.proto";
        import "google/protobuf/timestamp.proto";
        import "google/type/date.proto";

        message pairs_v1 {
          string id = 1;
          optional int64 n = 2;
          optional google.protobuf.Timestamp at = 3;
          optional s_message s = 4;
          repeated all_message all = 5;
          optional confluent.type.Decimal d = 6 [(confluent.field_meta).params = [{ key: "precision", value: "9" }, { key: "scale", value: "2" }]];
          map<string, google.type.Date> m = 7;
          message s_message {
            int32 x = 1;
            optional string y = 2;
          }
          message all_message {
            int32 x = 1;
            optional string y = 2;
          }
        }
        "#);
        let bad = |column: Field| from_row_type(Format::Protobuf, "r", &RowType::new(vec![column])).unwrap_err();
        let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        insta::assert_snapshot!(bad(Field::new("tags", list, false)), @"column tags: Protobuf has no null for an array's items; COALESCE it in the query");
        insta::assert_snapshot!(bad(Field::new("a-b", DataType::Utf8, false)), @r#"column "a-b": Protobuf allows letters, digits and underscores in names only, no digit first"#);
        insta::assert_snapshot!(bad(Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), false)), @"column at: Protobuf has no type for a TIMESTAMP without a zone; CAST it to TIMESTAMP WITH TIME ZONE or STRING");
    }

    #[test]
    fn what_has_no_type_is_named() {
        let row = RowType::new(vec![Field::new("a b", DataType::Utf8, false)]);
        assert_eq!(
            from_row_type(Format::Avro, "r", &row).unwrap_err(),
            "column \"a b\": Avro allows letters, digits and underscores in names only, no digit first"
        );
        let row = RowType::new(vec![Field::new("gap", DataType::Duration(TimeUnit::Second), false)]);
        assert_eq!(from_row_type(Format::Json, "r", &row).unwrap_err(), "column gap: a schema has no type for INTERVAL");
    }

    #[test]
    fn keys() {
        let (id, n) = (Field::new("id", DataType::Utf8, false), Field::new("n", DataType::Int64, false));
        assert_eq!(
            key_schema(Format::Json, std::slice::from_ref(&id)),
            r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"string"}"#
        );
        assert_eq!(key_schema(Format::Avro, std::slice::from_ref(&id)), r#""string""#);
        assert_eq!(
            key_schema(Format::Json, &[id.clone(), n.clone()]),
            r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"id":{"type":"string"},"n":{"type":"integer"}},"required":["id","n"],"additionalProperties":false}"#
        );
        assert_eq!(
            key_schema(Format::Protobuf, &[id.clone(), n.clone()]),
            "syntax = \"proto3\";\n\nmessage Key {\n  string id = 1;\n  int64 n = 2;\n}\n"
        );
        assert_eq!(
            key_schema(Format::Avro, &[id, n]),
            r#"{"type":"record","name":"Key","fields":[{"name":"id","type":"string"},{"name":"n","type":"long"}]}"#
        );
    }

    #[test]
    fn places() {
        let text =
            r##"{"allOf": [{"$ref": "#/definitions/b"}], "definitions": {"b": {"properties": {"a": {"type": "string"}}}}}"##;
        assert_eq!(locate(Format::Json, text, "a").and_then(|at| text.get(at)), Some(r#""a": {"type": "string"}"#));
        assert_eq!(locate(Format::Json, text, "b"), None);
        let text = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}, {"type":"int","name":"b"}]}"#;
        assert_eq!(locate(Format::Avro, text, "b").and_then(|at| text.get(at)), Some(r#"{"type":"int","name":"b"}"#));
        let text = "syntax = \"proto3\"; // é\nmessage M { oneof o { int32 a = 1; }\n  /* x */ repeated N b = 2; message N { bool c = 1; } }";
        assert_eq!(locate(Format::Protobuf, text, "b").and_then(|at| text.get(at)), Some("repeated N b = 2;"));
        assert_eq!(locate(Format::Protobuf, text, "a").and_then(|at| text.get(at)), Some("int32 a = 1;"));
        assert_eq!(locate(Format::Protobuf, text, "c"), None);
    }
}
