//! One record as JSON, whole and by its own schema, for people to look at.

use serde_json::Value;

use super::avro::{Avro, Cursor};
use super::{Fault, FormatError, avro_json, codes};
use crate::model::product::Format;

/// A plain key or value as JSON: what is no JSON text is a text.
pub fn plain_to_json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(bytes)))
}

/// The body of a key or value (see [`super::frame::locate`]) as JSON. Avro needs the schema it was written with; there bytes are
/// base64, decimals and times are texts.
pub fn to_json(format: Format, writer_schema: Option<&str>, body: &[u8]) -> Result<Value, FormatError> {
    match (format, writer_schema) {
        (Format::Json, _) => {
            serde_json::from_slice(body).map_err(|error| Fault::new(codes::NOT_JSON, format!("not a JSON text: {error}")).into())
        }
        (Format::Avro, Some(text)) => {
            let schema = Avro::parse(text)?;
            let mut cursor = Cursor::new(body)?;
            let value = avro_json::read(&schema, schema.root, &mut cursor)?;
            cursor.end()?;
            Ok(value)
        }
        (Format::Avro, None) => Err(FormatError::Schema("Avro can't be read without the schema it was written with".into())),
        (other, _) => Err(FormatError::NotYet(other)),
    }
}
