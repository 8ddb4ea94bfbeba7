//! A source's JSON lines to records: checked against the contract, the key taken from the key's columns.

use serde_json::{Map, Value};

use super::avro::{Avro, Id, Kind};
use super::avro_json::{self, Form};
use super::generic::{as_json, json_contract, protobuf_columns, protobuf_layout};
use super::{Decoder, Encoded, EncodedRecord, Encoder, Fault, FormatError, Record, codes, frame};
use crate::model::product::{Format, Framing};

/// One line of a source, as JSON.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// `None` or null deletes the key.
    pub value: Option<&'a Value>,
    /// The key if the line says it: bare for one column, an object for several. Else it comes from the value.
    pub key: Option<&'a Value>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

/// Encodes one product's lines.
pub struct LineEncoder {
    contract: Contract,
    /// The key's columns.
    key: Vec<String>,
    framing: Framing,
    value_schema: i32,
    key_schema: Option<i32>,
}

enum Contract {
    Json(Box<jsonschema::Validator>),
    /// With the types of the key's columns, null left out.
    Avro(Avro, Vec<Id>),
    Protobuf(Box<ByColumns>),
}

/// Lines that are read as rows, and written as records.
struct ByColumns {
    /// Closed: what the contract doesn't have would be left out silently.
    validator: jsonschema::Validator,
    read: Decoder,
    write: Encoder,
    written: Encoded,
}

impl LineEncoder {
    /// An encoder for a contract's text and the columns of its key; the ids are those under which the schemas are
    /// registered. Without a key schema's id, records have no key.
    pub fn new(
        (format, framing): (Format, Framing),
        contract: &str,
        key: &[String],
        value_schema_id: i32,
        key_schema_id: Option<i32>,
    ) -> Result<Self, FormatError> {
        let contract = match format {
            Format::Json => Contract::Json(Box::new(validator(contract)?)),
            Format::Avro => {
                let schema = Avro::parse(contract)?;
                let ids = key.iter().map(|name| key_type(&schema, name)).collect::<Result<_, _>>()?;
                Contract::Avro(schema, ids)
            }
            Format::Protobuf => Contract::Protobuf(Box::new(ByColumns::new(contract, key, value_schema_id, key_schema_id)?)),
        };
        let key_schema = key_schema_id.filter(|_| !key.is_empty());
        Ok(LineEncoder { contract, key: key.to_vec(), framing, value_schema: value_schema_id, key_schema })
    }

    /// Appends a line's record to `out`; after an error `out` is as before.
    pub fn encode_line(&mut self, line: &Line<'_>, out: &mut Encoded) -> Result<(), FormatError> {
        let start = out.slab.len();
        match self.write(line, &mut out.slab) {
            Ok((keyed, value)) => {
                let end = out.slab.len();
                out.records.push(EncodedRecord {
                    key: keyed.then_some(start..value),
                    value: (end > value).then_some(value..end),
                    timestamp: line.timestamp,
                    row: u32::try_from(out.records.len()).unwrap_or(u32::MAX),
                });
                Ok(())
            }
            Err(fault) => {
                out.slab.truncate(start);
                Err(fault.into())
            }
        }
    }

    /// Writes key and value; whether there is a key, and where the value begins.
    fn write(&mut self, line: &Line<'_>, slab: &mut Vec<u8>) -> Result<(bool, usize), Fault> {
        let value = line.value.filter(|value| !value.is_null());
        if let (Contract::Json(validator), Some(value)) = (&self.contract, value) {
            validate(validator, value)?;
        }
        let key = self.key_of(line.key.filter(|key| !key.is_null()), value)?;
        if value.is_none() && key.is_none() {
            return Err(Fault::new(codes::BAD_KEY, "a delete needs a key"));
        }
        if let Contract::Protobuf(columns) = &mut self.contract {
            let mut text = Vec::new();
            if let Some((_, key)) = &key {
                write_json_key(&self.key, Framing::None, key, &mut text)?;
            }
            return columns.write(key.is_some().then_some(text.as_slice()), value, slab);
        }
        if let Some((id, key)) = &key {
            self.frame(*id, slab);
            self.write_key(key, slab).map_err(|fault| fault.in_field("key"))?;
        }
        let start = slab.len();
        if let Some(value) = value {
            self.frame(self.value_schema, slab);
            match &self.contract {
                Contract::Avro(schema, _) => avro_json::write(schema, schema.root, value, Form::Line, slab)?,
                _ => write_json(value, slab)?,
            }
        }
        Ok((key.is_some(), start))
    }

    fn frame(&self, id: i32, slab: &mut Vec<u8>) {
        if self.framing == Framing::Confluent {
            frame::write(id, slab);
        }
    }

    /// The key's schema id and its values in the order of the columns.
    fn key_of<'a>(&self, said: Option<&'a Value>, value: Option<&'a Value>) -> Result<Option<(i32, Vec<&'a Value>)>, Fault> {
        let Some(id) = self.key_schema else {
            return match said {
                Some(_) => Err(Fault::new(
                    codes::BAD_KEY,
                    "the line has a key, and the product declares none; name the key's columns in its manifest",
                )),
                None => Ok(None),
            };
        };
        let said = said.map(|said| self.said_key(said)).transpose()?;
        let own = value.map(|value| self.own_key(value));
        match (said, own) {
            (Some(said), Some(own)) if own.as_ref().is_some_and(|own| *own != said) => {
                Err(Fault::new(codes::BAD_KEY, format!("the line's key is not what its value has in {}", self.key.join(", "))))
            }
            (Some(said), _) => Ok(Some((id, said))),
            (None, Some(Some(own))) => Ok(Some((id, own))),
            (None, Some(None)) => {
                Err(Fault::new(codes::BAD_KEY, format!("the value has nothing in {}, which form the key", self.key.join(", "))))
            }
            (None, None) => Ok(None),
        }
    }

    fn said_key<'a>(&self, said: &'a Value) -> Result<Vec<&'a Value>, Fault> {
        let wrong = || {
            Fault::new(
                codes::BAD_KEY,
                match self.key.as_slice() {
                    [only] => format!("the line's key is the bare value of {only}"),
                    several => format!("the line's key is an object of {}", several.join(", ")),
                },
            )
        };
        match (self.key.as_slice(), said) {
            ([_], Value::Object(_) | Value::Array(_)) => Err(wrong()),
            ([_], bare) => Ok(vec![bare]),
            (several, Value::Object(object)) if object.len() == several.len() => {
                several.iter().map(|name| object.get(name).filter(|value| !value.is_null()).ok_or_else(wrong)).collect()
            }
            _ => Err(wrong()),
        }
    }

    /// The key's columns of a value; `None` if one of them is missing or null.
    fn own_key<'a>(&self, value: &'a Value) -> Option<Vec<&'a Value>> {
        self.key.iter().map(|name| value.get(name).filter(|value| !value.is_null())).collect()
    }

    fn write_key(&self, key: &[&Value], slab: &mut Vec<u8>) -> Result<(), Fault> {
        let Contract::Avro(schema, ids) = &self.contract else {
            return write_json_key(&self.key, self.framing, key, slab);
        };
        ids.iter().zip(key).try_for_each(|(id, value)| avro_json::write(schema, *id, value, Form::Line, slab))
    }
}

/// A key in JSON: bare if it has one column, then without quotes where nothing frames it; else an object.
fn write_json_key(names: &[String], framing: Framing, key: &[&Value], slab: &mut Vec<u8>) -> Result<(), Fault> {
    match key {
        [Value::String(text)] if framing == Framing::None => {
            slab.extend_from_slice(text.as_bytes());
            Ok(())
        }
        [only] => write_json(only, slab),
        several => {
            let object: Map<String, Value> = names.iter().cloned().zip(several.iter().copied().cloned()).collect();
            write_json(&Value::Object(object), slab)
        }
    }
}

impl ByColumns {
    fn new(contract: &str, key: &[String], value_schema: i32, key_schema: Option<i32>) -> Result<Self, FormatError> {
        let layout = protobuf_layout(protobuf_columns(contract)?, key)?;
        let json = json_contract(&layout.row_type)?;
        Ok(ByColumns {
            validator: validator(&json)?,
            read: Decoder::new(as_json(layout.clone()), &json, None)?,
            write: Encoder::new(layout, contract, value_schema, key_schema)?,
            written: Encoded::default(),
        })
    }

    /// Writes key and value; whether there is a key, and where the value begins. The key is in plain JSON.
    fn write(&mut self, key: Option<&[u8]>, value: Option<&Value>, slab: &mut Vec<u8>) -> Result<(bool, usize), Fault> {
        if let Some(value) = value {
            validate(&self.validator, value)?;
        }
        let text = value.map(|value| value.to_string().into_bytes());
        let decoded = self.read.decode(&[Record::new(key, text.as_deref(), 0)]);
        let encoded = self.write.encode(&decoded.batch, &mut self.written).err().unwrap_or_default();
        if let Some(bad) = decoded.bad.into_iter().chain(encoded).next() {
            return Err(Fault::new(bad.code, bad.reason));
        }
        let record = self.written.records.first();
        let key = record.and_then(|record| self.written.key(record));
        slab.extend_from_slice(key.unwrap_or_default());
        let start = slab.len();
        slab.extend_from_slice(record.and_then(|record| self.written.value(record)).unwrap_or_default());
        Ok((key.is_some(), start))
    }
}

fn validator(contract: &str) -> Result<jsonschema::Validator, FormatError> {
    let schema: Value =
        serde_json::from_str(contract).map_err(|error| FormatError::Schema(format!("not a JSON text: {error}")))?;
    jsonschema::validator_for(&schema).map_err(|error| FormatError::Schema(error.to_string()))
}

fn key_type(schema: &Avro, name: &str) -> Result<Id, FormatError> {
    let fields = match schema.kind(schema.root) {
        Kind::Record(fields) => fields.as_slice(),
        _ => &[],
    };
    let field = fields.iter().find(|field| field.name == *name);
    let id = field.ok_or_else(|| FormatError::Mismatch(format!("the contract has no field {name:?}, which is to be a key")))?.id;
    Ok(match schema.kind(id) {
        Kind::Union(branches) => branches.iter().copied().find(|id| !matches!(schema.kind(*id), Kind::Null)).unwrap_or(id),
        _ => id,
    })
}

fn write_json(value: &Value, slab: &mut Vec<u8>) -> Result<(), Fault> {
    serde_json::to_writer(slab, value).map_err(|error| Fault::new(codes::NOT_JSON, error.to_string()))
}

/// The first two reasons, without the values themselves: a reason is shown and kept where the data may not be.
fn validate(validator: &jsonschema::Validator, value: &Value) -> Result<(), Fault> {
    if validator.is_valid(value) {
        return Ok(());
    }
    let reasons: Vec<String> = validator
        .iter_errors(value)
        .take(2)
        .map(|error| match error.instance_path().as_str() {
            "" => error.masked().to_string(),
            place => format!("{place}: {}", error.masked()),
        })
        .collect();
    Err(Fault::new(codes::CONTRACT, reasons.join("; ")))
}
