//! One record as JSON, whole and by its own schema, for people to look at.

use std::sync::Arc;

use serde_json::Value;

use super::avro::{Avro, Cursor};
use super::{Decoder, Encoded, Encoder, Fault, FormatError, Layout, Record, Written, avro_json, codes, frame, protobuf};
use crate::model::product::{Format, Framing, Shape};
use crate::model::row::RowType;
use crate::schema;

/// A plain key or value as JSON: what is no JSON text is a text.
pub fn plain_to_json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(bytes)))
}

/// The body of a key or value (see [`super::frame::locate`]) as JSON. Avro and Protobuf need the schema it was written with;
/// their bytes are base64, their times are texts, and Avro's decimals too.
pub fn to_json(format: Format, writer_schema: Option<Written<'_>>, body: &[u8]) -> Result<Value, FormatError> {
    match (format, writer_schema) {
        (Format::Json, _) => {
            serde_json::from_slice(body).map_err(|error| Fault::new(codes::NOT_JSON, format!("not a JSON text: {error}")).into())
        }
        (Format::Avro, Some(schema)) => {
            let schema = Avro::parse(schema)?;
            let mut cursor = Cursor::new(body)?;
            let value = avro_json::read(&schema, schema.root, &mut cursor)?;
            cursor.end()?;
            Ok(value)
        }
        (Format::Protobuf, Some(schema)) => protobuf_to_json(schema, body),
        (format @ (Format::Avro | Format::Protobuf), None) => {
            Err(FormatError::Schema(format!("{format:?} can't be read without the schema it was written with")))
        }
    }
}

/// By way of the columns of the schema's first message.
fn protobuf_to_json(schema: Written<'_>, body: &[u8]) -> Result<Value, FormatError> {
    let layout = protobuf_layout(protobuf_columns(schema)?, &[])?;
    let mut decoder = Decoder::new(layout.clone(), schema, None)?;
    decoder.add_schema(0, schema)?;
    let mut value = Vec::with_capacity(body.len() + 5);
    frame::write(0, &mut value);
    value.extend_from_slice(body);
    let decoded = decoder.decode(&[Record::new(None, Some(&value), 0)]);
    if let Some(bad) = decoded.bad.into_iter().next() {
        return Err(FormatError::Record { code: bad.code, reason: bad.reason });
    }
    let mut encoder = Encoder::new(as_json(layout.clone()), &json_contract(&layout.row_type)?, 0, None)?;
    let mut out = Encoded::default();
    if let Err(bad) = encoder.encode(&decoded.batch, &mut out) {
        let reason = bad.into_iter().map(|bad| bad.reason).collect::<Vec<_>>().join("; ");
        return Err(FormatError::Record { code: codes::WRONG_TYPE, reason });
    }
    let written = out.records.first().and_then(|record| out.value(record)).unwrap_or_default();
    serde_json::from_slice(written).map_err(|error| Fault::new(codes::NOT_JSON, error.to_string()).into())
}

/// The columns of a Protobuf schema's first message. One that has fields which can't be columns is refused: they would be
/// left out silently.
pub(super) fn protobuf_columns<'a>(schema: impl Into<Written<'a>>) -> Result<RowType, FormatError> {
    let columns = protobuf::parse(schema)?.columns();
    match columns.unsupported.first() {
        Some((name, reason)) if name.is_empty() => Err(FormatError::Schema(reason.clone())),
        Some((name, reason)) => Err(FormatError::Schema(format!("field {name}: {reason}"))),
        None => Ok(columns.row_type),
    }
}

/// How whole Protobuf records are laid out whose key has these columns.
pub(super) fn protobuf_layout(row_type: RowType, key: &[String]) -> Result<Layout, FormatError> {
    let at = |name: &String| {
        let missing = |_| FormatError::Mismatch(format!("the contract has no field {name:?}, which is to be a key"));
        row_type.index_of(name).map_err(missing)
    };
    let key = key.iter().map(at).collect::<Result<Vec<_>, _>>()?;
    let shape = if key.is_empty() { Shape::Stream } else { Shape::Table };
    let (format, framing) = (Format::Protobuf, Framing::Confluent);
    Ok(Layout { format, framing, row_type: Arc::new(row_type), key, time_column: None, shape })
}

/// The same rows, in plain JSON.
pub(super) fn as_json(layout: Layout) -> Layout {
    Layout { format: Format::Json, framing: Framing::None, ..layout }
}

/// A closed contract in JSON Schema for the same rows.
pub(super) fn json_contract(row_type: &RowType) -> Result<String, FormatError> {
    schema::from_row_type(Format::Json, "record", row_type).map_err(FormatError::Schema)
}
