//! The columns of an Avro record.

use std::sync::Arc;

use arrow::datatypes::TimeUnit;

use super::{Avro, Id, Kind, Primitive};
use crate::model::product::Format;
use crate::model::row::{DataType, Field, RowType};
use crate::schema::columns::Columns;
use crate::schema::text::{Number, Value};

impl Avro {
    /// The columns of the record; none, and the reason, when it is no record.
    pub(in crate::schema) fn columns(&self) -> Columns {
        let mut columns = Columns {
            format: Format::Avro,
            row_type: RowType::empty(),
            unsupported: Vec::new(),
            required: Vec::new(),
            open: false,
        };
        let Kind::Record { fields, .. } = self.kind(self.root) else {
            let reason = format!("the schema is {}, not a record", self.type_name(self.root));
            columns.unsupported.push((String::new(), reason));
            return columns;
        };
        let mut supported = Vec::new();
        for field in fields {
            columns.required.push(field.name.clone());
            match self.column(field.id, &mut vec![self.root]) {
                Ok((data_type, nullable)) => supported.push(Field::new(&field.name, data_type, nullable)),
                Err(reason) => columns.unsupported.push((field.name.clone(), reason)),
            }
        }
        columns.row_type = RowType::new(supported);
        columns
    }

    /// The type of a schema that is no record.
    pub(in crate::schema) fn bare(&self) -> Option<(DataType, bool)> {
        match self.kind(self.root) {
            Kind::Record { .. } => None,
            _ => self.column(self.root, &mut Vec::new()).ok(),
        }
    }

    /// A type as a column's, and whether it may be null. `open` are the records in which it stands.
    fn column(&self, id: Id, open: &mut Vec<Id>) -> Result<(DataType, bool), String> {
        let data_type = match self.kind(id) {
            Kind::Union(branches) => return self.union(branches, open),
            Kind::Primitive(Primitive::Null) => return Err("null is no type for a column".into()),
            Kind::Primitive(primitive) => self.primitive(id, *primitive),
            Kind::Enum { .. } => DataType::Utf8,
            Kind::Fixed { size, .. } => self.decimal(id, Some(*size)).unwrap_or(DataType::FixedSizeBinary(*size)),
            Kind::Array(inner) => {
                let (data_type, nullable) = self.column(*inner, open)?;
                DataType::List(Arc::new(Field::new("item", data_type, nullable)))
            }
            Kind::Map(inner) => {
                let (data_type, nullable) = self.column(*inner, open)?;
                map_of(data_type, nullable)
            }
            Kind::Record { named, fields, .. } => {
                if open.contains(&id) {
                    return Err(format!("record {} contains itself", named.name.full()));
                }
                open.push(id);
                let fields: Result<Vec<Field>, String> = fields
                    .iter()
                    .map(|field| {
                        let (data_type, nullable) =
                            self.column(field.id, open).map_err(|reason| format!("{}: {reason}", field.name))?;
                        Ok(Field::new(&field.name, data_type, nullable))
                    })
                    .collect();
                open.pop();
                DataType::Struct(fields?.into())
            }
        };
        Ok((data_type, false))
    }

    fn union(&self, branches: &[Id], open: &mut Vec<Id>) -> Result<(DataType, bool), String> {
        let null = |id: &&Id| matches!(self.kind(**id), Kind::Primitive(Primitive::Null));
        let nullable = branches.iter().any(|id| null(&id));
        match branches.iter().filter(|id| !null(id)).collect::<Vec<_>>().as_slice() {
            [only] => Ok((self.column(**only, open)?.0, nullable)),
            [] => Err("null is no type for a column".into()),
            several => {
                let names: Vec<String> = several.iter().map(|id| self.type_name(**id)).collect();
                Err(format!("a union of {} is no type for a column", names.join(", ")))
            }
        }
    }

    fn logical_type(&self, id: Id) -> Option<&str> {
        self.property(id, "logicalType").and_then(Value::as_str)
    }

    fn property(&self, id: Id, key: &str) -> Option<&Value> {
        self.properties(id).iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    fn primitive(&self, id: Id, primitive: Primitive) -> DataType {
        let utc = || Some("UTC".into());
        match (primitive, self.logical_type(id)) {
            (Primitive::Int, Some("date")) => DataType::Date32,
            (Primitive::Int, Some("time-millis")) => DataType::Time32(TimeUnit::Millisecond),
            (Primitive::Long, Some("time-micros")) => DataType::Time64(TimeUnit::Microsecond),
            (Primitive::Long, Some("timestamp-millis")) => DataType::Timestamp(TimeUnit::Millisecond, utc()),
            (Primitive::Long, Some("timestamp-micros")) => DataType::Timestamp(TimeUnit::Microsecond, utc()),
            (Primitive::Long, Some("timestamp-nanos")) => DataType::Timestamp(TimeUnit::Nanosecond, utc()),
            (Primitive::Long, Some("local-timestamp-millis")) => DataType::Timestamp(TimeUnit::Millisecond, None),
            (Primitive::Long, Some("local-timestamp-micros")) => DataType::Timestamp(TimeUnit::Microsecond, None),
            (Primitive::Long, Some("local-timestamp-nanos")) => DataType::Timestamp(TimeUnit::Nanosecond, None),
            (Primitive::Bytes, _) => self.decimal(id, None).unwrap_or(DataType::Binary),
            (Primitive::Int, _) => DataType::Int32,
            (Primitive::Long, _) => DataType::Int64,
            (Primitive::Float, _) => DataType::Float32,
            (Primitive::Double, _) => DataType::Float64,
            (Primitive::Boolean, _) => DataType::Boolean,
            (Primitive::String, _) => DataType::Utf8,
            (Primitive::Null, _) => DataType::Null,
        }
    }

    /// A decimal, when its parameters make sense and fit into 128 bits; else the bytes remain bytes.
    fn decimal(&self, id: Id, size: Option<i32>) -> Option<DataType> {
        if self.logical_type(id) != Some("decimal") {
            return None;
        }
        let number = |key| self.property(id, key).and_then(Value::as_number).and_then(Number::as_i32);
        let precision = u8::try_from(number("precision")?).ok().filter(|precision| (1..=38).contains(precision))?;
        let scale =
            i8::try_from(number("scale").unwrap_or(0)).ok().filter(|scale| (0..=precision.cast_signed()).contains(scale))?;
        let fits = size.is_none_or(|size| f64::from(size) * 8.0 - 1.0 >= f64::from(precision) * std::f64::consts::LOG2_10);
        fits.then_some(DataType::Decimal128(precision, scale))
    }
}

/// A map with strings for keys.
pub(in crate::schema) fn map_of(data_type: DataType, nullable: bool) -> DataType {
    let entries =
        DataType::Struct(vec![Field::new("key", DataType::Utf8, false), Field::new("value", data_type, nullable)].into());
    DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::model::row::type_name;

    #[test]
    fn types_and_what_can_be_no_column() {
        let text = r#"{"type":"record","name":"R","fields":[
            {"name":"i","type":"int"}, {"name":"l","type":["null","long"],"default":null}, {"name":"e","type":{"type":"enum","name":"E","symbols":["A"]}},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}, {"name":"local","type":{"type":"long","logicalType":"local-timestamp-micros"}},
            {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}, {"name":"wrong","type":{"type":"bytes","logicalType":"decimal"}},
            {"name":"f","type":{"type":"fixed","name":"F","size":3}}, {"name":"m","type":{"type":"map","values":["null","string"]}},
            {"name":"a","type":{"type":"array","items":{"type":"record","name":"N","fields":[{"name":"x","type":"double"}]}}},
            {"name":"u","type":["int","string"]}, {"name":"n","type":"null"}, {"name":"self","type":["null","R"]},
            {"name":"day","type":{"type":"int","logicalType":"date"}}, {"name":"id","type":{"type":"string","logicalType":"uuid"}}]}"#;
        let columns = parse(text, &[]).unwrap().columns();
        let mut lines: Vec<String> = columns
            .row_type
            .fields()
            .iter()
            .map(|f| format!("{} {}{}", f.name(), type_name(f.data_type()), if f.is_nullable() { "?" } else { "" }))
            .collect();
        lines.extend(columns.unsupported.iter().map(|(name, reason)| format!("{name}: {reason}")));
        insta::assert_snapshot!(lines.join("\n"), @r"
        i INTEGER
        l BIGINT?
        e STRING
        at TIMESTAMP WITH TIME ZONE
        local TIMESTAMP
        d DECIMAL(9, 2)
        wrong BYTES
        f BYTES
        m MAP<STRING, STRING>
        a ARRAY<STRUCT<x DOUBLE>>
        day DATE
        id STRING
        u: a union of int, string is no type for a column
        n: null is no type for a column
        self: record R contains itself
        ");
    }

    #[test]
    fn a_bare_type() {
        let schema = parse("[\"null\",\"long\"]", &[]).unwrap();
        assert_eq!(schema.bare(), Some((crate::model::row::DataType::Int64, true)));
        assert_eq!(schema.columns().unsupported, [(String::new(), "the schema is union, not a record".to_owned())]);
    }
}
