//! The columns of a Protobuf message.
//!
//! Columns stand in the order of their numbers, as the registry does not keep that of the text. What a record can be without is nullable; a proto3 field without a label is not, as it is zero then. Messages that
//! stand for a value are one: timestamps, wrappers, decimals with precision and scale, dates and times of day.

use std::sync::Arc;

use arrow::datatypes::TimeUnit;

use super::Protobuf;
use super::shape::{Id, Member, MemberKind, Messages, Presence, Scalar};
use crate::model::product::Format;
use crate::model::row::{DataType, Field, RowType};
use crate::schema::columns::Columns;

/// How many types are looked at for one message's columns; messages that hold each other grow fast.
const MAX_STEPS: usize = 10_000;

impl Protobuf {
    /// The columns of the first message.
    pub(in crate::schema) fn columns(&self) -> Columns {
        let messages = Messages::of(self);
        match messages.first() {
            Some(id) => columns(&messages, id),
            None => unsupported("", "the file declares no message"),
        }
    }

    /// The columns of a message of this name, with or without its package.
    pub(in crate::schema) fn columns_of(&self, message: &str) -> Option<Columns> {
        let messages = Messages::of(self);
        messages.by_name(message).map(|id| columns(&messages, id))
    }

    /// Its messages, resolved.
    pub(in crate::schema) fn messages(&self) -> Messages {
        Messages::of(self)
    }
}

fn unsupported(name: &str, reason: &str) -> Columns {
    let unsupported = vec![(name.to_owned(), reason.to_owned())];
    Columns { format: Format::Protobuf, row_type: RowType::empty(), unsupported, required: Vec::new(), open: false }
}

fn columns(messages: &Messages, id: Id) -> Columns {
    let mut columns = unsupported("", "");
    columns.unsupported.clear();
    let mut walk = Walk { messages, steps: 0, open: vec![id] };
    let mut supported: Vec<Field> = Vec::new();
    for member in messages.get(id).map_or(&[][..], |shape| &shape.members) {
        if member.presence == Presence::Required {
            columns.required.push(member.name.clone());
        }
        let known = supported.iter().any(|field| *field.name() == member.name);
        match walk.member(member) {
            Ok(_) if known => columns.unsupported.push((member.name.clone(), "it is declared twice".into())),
            Ok(field) => supported.push(field),
            Err(reason) => columns.unsupported.push((member.name.clone(), reason)),
        }
    }
    columns.row_type = RowType::new(supported);
    columns
}

struct Walk<'a> {
    messages: &'a Messages,
    steps: usize,
    /// The messages in which it is.
    open: Vec<Id>,
}

impl Walk<'_> {
    fn member(&mut self, member: &Member) -> Result<Field, String> {
        let (data_type, wrapped) = self.kind(&member.kind, member.decimal)?;
        let repeated = member.presence == Presence::Repeated && !matches!(member.kind, MemberKind::Map(..));
        if repeated {
            let item = Arc::new(Field::new("item", data_type, false));
            return Ok(Field::new(&member.name, DataType::List(item), false));
        }
        let nullable = wrapped && member.presence != Presence::Required || member.presence == Presence::Optional;
        Ok(Field::new(&member.name, data_type, nullable))
    }

    /// A type, and whether it is a wrapper, made to be absent.
    fn kind(&mut self, kind: &MemberKind, decimal: Option<(u8, i8)>) -> Result<(DataType, bool), String> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err("its messages hold too many others".into());
        }
        let data_type = match kind {
            MemberKind::Scalar(scalar) => scalar_type(*scalar),
            MemberKind::Enum(_) => DataType::Utf8,
            MemberKind::Map(Scalar::String, value) => {
                let (value, _) = self.kind(value, None).map_err(|reason| format!("its values: {reason}"))?;
                crate::schema::avro::map_of(value, false)
            }
            MemberKind::Map(..) => return Err("a map whose keys are no strings is no type for a column".into()),
            MemberKind::Message(id) => return self.message(*id, decimal),
            MemberKind::Not(reason) => return Err(reason.clone()),
        };
        Ok((data_type, false))
    }

    fn message(&mut self, id: Id, decimal: Option<(u8, i8)>) -> Result<(DataType, bool), String> {
        let Some(shape) = self.messages.get(id) else { return Err("its message does not exist".into()) };
        if let Some(known) = value_message(&shape.name, decimal) {
            return Ok((known, shape.name.starts_with("google.protobuf.") && shape.name.ends_with("Value")));
        }
        if self.open.contains(&id) {
            return Err(format!("message {} contains itself", shape.name));
        }
        if shape.members.is_empty() {
            return Err(format!("message {} has no fields", shape.name));
        }
        self.open.push(id);
        let fields: Result<Vec<Field>, String> = shape
            .members
            .iter()
            .map(|member| self.member(member).map_err(|reason| format!("{}: {reason}", member.name)))
            .collect();
        self.open.pop();
        let fields = fields?;
        for (at, field) in fields.iter().enumerate() {
            if fields.iter().take(at).any(|known| known.name() == field.name()) {
                return Err(format!("{}: it is declared twice", field.name()));
            }
        }
        Ok((DataType::Struct(fields.into()), false))
    }
}

/// A scalar's type. Where 32 bits have no sign, 64 bits with one take all values.
fn scalar_type(scalar: Scalar) -> DataType {
    match scalar {
        Scalar::Bool => DataType::Boolean,
        Scalar::Bytes => DataType::Binary,
        Scalar::Double => DataType::Float64,
        Scalar::Float => DataType::Float32,
        Scalar::Int32 | Scalar::Sint32 | Scalar::Sfixed32 => DataType::Int32,
        Scalar::Int64 | Scalar::Sint64 | Scalar::Sfixed64 | Scalar::Uint32 | Scalar::Fixed32 => DataType::Int64,
        Scalar::Uint64 | Scalar::Fixed64 => DataType::UInt64,
        Scalar::String => DataType::Utf8,
    }
}

/// The type of a message that stands for a value.
fn value_message(name: &str, decimal: Option<(u8, i8)>) -> Option<DataType> {
    Some(match name {
        "google.protobuf.Timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "google.type.Date" => DataType::Date32,
        "google.type.TimeOfDay" => DataType::Time64(TimeUnit::Microsecond),
        "confluent.type.Decimal" => {
            let (precision, scale) = decimal?;
            DataType::Decimal128(precision, scale)
        }
        "google.protobuf.DoubleValue" => DataType::Float64,
        "google.protobuf.FloatValue" => DataType::Float32,
        "google.protobuf.Int64Value" | "google.protobuf.UInt32Value" => DataType::Int64,
        "google.protobuf.UInt64Value" => DataType::UInt64,
        "google.protobuf.Int32Value" => DataType::Int32,
        "google.protobuf.BoolValue" => DataType::Boolean,
        "google.protobuf.StringValue" => DataType::Utf8,
        "google.protobuf.BytesValue" => DataType::Binary,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use crate::model::row::type_name;

    fn lines(columns: &Columns) -> String {
        let mut lines: Vec<String> = columns
            .row_type
            .fields()
            .iter()
            .map(|f| format!("{} {}{}", f.name(), type_name(f.data_type()), if f.is_nullable() { "?" } else { "" }))
            .collect();
        lines.extend(columns.unsupported.iter().map(|(name, reason)| format!("{name}: {reason}")));
        lines.join("\n")
    }

    #[test]
    fn types_and_what_can_be_no_column() {
        let text = r#"syntax = "proto3"; package p;
            import "google/protobuf/timestamp.proto"; import "google/type/date.proto"; import "confluent/type/decimal.proto";
            message M {
              int32 i = 1; oneof pick { string card = 2; N n = 3; } optional sint64 l = 4; uint32 u = 5; fixed64 w = 6; E e = 7;
              google.protobuf.Timestamp at = 8; google.protobuf.StringValue s = 9; google.type.Date day = 10; google.type.TimeOfDay t = 30;
              confluent.type.Decimal d = 11 [(confluent.field_meta).params = [{ value: "9", key: "precision" }, { key: "scale", value: "2" }]];
              confluent.type.Decimal free = 12; repeated N ns = 13; map<string, double> m = 14; map<int32, N> by = 15; M self = 16;
              google.protobuf.Struct any = 17; bytes b = 0; float f = 18; float g = 18; google.protobuf.Empty none = 19; map<string, map<string, int32>> mm = 20;
              message N { bool x = 1; }
            }
            enum E { ZERO = 0; }"#;
        insta::assert_snapshot!(lines(&parse(text, &[]).unwrap().columns()), @"
        i INTEGER
        card STRING?
        n STRUCT<x BOOLEAN>?
        l BIGINT?
        u BIGINT
        w UINT64
        e STRING
        at TIMESTAMP WITH TIME ZONE?
        s STRING?
        day DATE?
        d DECIMAL(9, 2)?
        free STRUCT<value BYTES, precision BIGINT, scale INTEGER>?
        ns ARRAY<STRUCT<x BOOLEAN>>
        m MAP<STRING, DOUBLE>
        f FLOAT
        t TIME?
        b: no record can have a field of number 0
        by: a map whose keys are no strings is no type for a column
        self: message p.M contains itself
        any: fields: its values: struct_value: message google.protobuf.Struct contains itself
        g: its number 18 is that of f, too
        none: message google.protobuf.Empty has no fields
        mm: map<string, map<string, int32>> is no type that records can have
        ");
    }

    #[test]
    fn of_a_chosen_message() {
        let text = r#"syntax = "proto2"; package p; message M { required int32 a = 1; message N { optional string b = 1; repeated int32 c = 2 [packed = true]; } }"#;
        let schema = parse(text, &[]).unwrap();
        assert_eq!(lines(&schema.columns()), "a INTEGER");
        assert_eq!(schema.columns().required, ["a"]);
        for name in ["p.M.N", "M.N", "N"] {
            assert_eq!(schema.columns_of(name).as_ref().map(lines).unwrap(), "b STRING?\nc ARRAY<INTEGER>");
        }
        assert_eq!(schema.columns_of("Q"), None);
        assert_eq!(lines(&parse("", &[]).unwrap().columns()), ": the file declares no message");
    }
}
