//! Bytes to rows and back: framing, JSON, Avro and Protobuf, by the product's contract.
//!
//! Transport moves bytes, this room makes rows of them, the engine only steps. [`Decoder`] turns a batch of records into an
//! engine batch with just the columns a query reads; [`Encoder`] turns a batch into the bytes of its records, in one slab;
//! [`LineEncoder`] turns a source's JSON lines into records; [`to_json`] shows one record whole.
//!
//! A record that can't be read is [`Bad`], with a stable code and a reason, and leaves no trace in its batch. Nothing here
//! allocates more than a bounded multiple of a record's bytes, and no input makes it recurse without limit.

mod avro;
mod avro_json;
mod avro_read;
mod avro_write;
mod cells;
pub mod codes;
mod column;
mod decoder;
mod encoder;
pub mod frame;
mod generic;
mod json_read;
mod json_scan;
mod json_write;
mod line;
pub mod murmur2;
mod protobuf;
mod protobuf_read;
mod protobuf_write;
mod text;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::Field;
use thiserror::Error;

use crate::engine::batch::Batch;
use crate::model::product::{Format, Framing, Shape};
use crate::model::row::{RowType, type_name};
use crate::schema::{self, Reference};
use frame::SchemaId;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use generic::{plain_to_json, to_json};
pub use line::{Line, LineEncoder};

/// A schema that records were written with: its text, and all that it refers to.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    pub text: &'a str,
    pub references: &'a [Reference],
}

impl<'a> From<&'a str> for Written<'a> {
    fn from(text: &'a str) -> Self {
        Written { text, references: &[] }
    }
}

impl<'a> From<&'a schema::Written> for Written<'a> {
    fn from(schema: &'a schema::Written) -> Self {
        Written { text: &schema.text, references: &schema.references }
    }
}

impl<'a> From<&'a String> for Written<'a> {
    fn from(text: &'a String) -> Self {
        text.as_str().into()
    }
}

/// The largest key or value that is decoded, in bytes.
pub const MAX_RECORD: usize = 8 << 20;

/// The deepest nesting of a value that is read.
pub const MAX_DEPTH: usize = 128;

/// One record as it came from the broker.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// The headers that name the schemas of key and value ([`frame::KEY_HEADER`], [`frame::VALUE_HEADER`]).
    pub key_schema: Option<&'a [u8]>,
    pub value_schema: Option<&'a [u8]>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

impl<'a> Record<'a> {
    /// A record without headers.
    pub fn new(key: Option<&'a [u8]>, value: Option<&'a [u8]>, timestamp: i64) -> Self {
        Record { key, value, key_schema: None, value_schema: None, timestamp }
    }
}

/// How a product's records are laid out in rows.
#[derive(Debug, Clone)]
pub struct Layout {
    pub format: Format,
    pub framing: Framing,
    /// The columns wanted, a subset of the contract's, under its names and types.
    pub row_type: Arc<RowType>,
    /// Positions in `row_type` of the record key's columns, in key order.
    pub key: Vec<usize>,
    /// The column that is the event time; `None`: the record's timestamp.
    pub time_column: Option<usize>,
    pub shape: Shape,
}

/// What became of a batch of records.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The rows, of exactly the layout's row type. A table's null value is a delete: its key columns come from the record's
    /// key, the others are null, or zero and empty where the row type has no null. A delete's event time is the record's.
    pub batch: Batch,
    /// For each row, the index of its record.
    pub records: Vec<u32>,
    pub bad: Vec<Bad>,
    /// Schema ids to fetch. If there are any, `batch`, `records` and `bad` are empty: add the schemas and decode again.
    pub missing: Vec<SchemaId>,
}

/// A record that can't be decoded, or a row that can't be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The index of the record in its batch, or of the row.
    pub record: u32,
    /// One of [`codes`].
    pub code: &'static str,
    /// What was wrong, where, and what would be right.
    pub reason: String,
}

/// The bytes of a batch's records.
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    /// Keys and values, one after the other.
    pub slab: Vec<u8>,
    pub records: Vec<EncodedRecord>,
}

/// One record as ranges of the slab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRecord {
    pub key: Option<Range<usize>>,
    /// `None` deletes the key.
    pub value: Option<Range<usize>>,
    /// Milliseconds since 1970: the row's event time.
    pub timestamp: i64,
    /// The row it was made from.
    pub row: u32,
}

impl Encoded {
    /// A record's key.
    pub fn key(&self, record: &EncodedRecord) -> Option<&[u8]> {
        record.key.clone().and_then(|range| self.slab.get(range))
    }

    /// A record's value.
    pub fn value(&self, record: &EncodedRecord) -> Option<&[u8]> {
        record.value.clone().and_then(|range| self.slab.get(range))
    }
}

/// Why a contract or a schema can't be used at all, or a single record can't be shown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FormatError {
    #[error("column {column} has the type {found}, which records can't carry")]
    Unsupported { column: String, found: String },
    #[error("the schema can't be read: {0}")]
    Schema(String),
    #[error("the schemas do not fit: {0}")]
    Mismatch(String),
    #[error("{reason}")]
    Record { code: &'static str, reason: String },
}

impl FormatError {
    fn unsupported(field: &Field) -> Self {
        FormatError::Unsupported { column: field.name().clone(), found: type_name(field.data_type()) }
    }
}

/// Why a value is bad, and where in the record. One pointer wide: results pass through every value that is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault(Box<FaultParts>);

#[derive(Debug, PartialEq, Eq)]
struct FaultParts {
    code: &'static str,
    path: String,
    reason: String,
}

impl Fault {
    #[cold]
    fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Fault(Box::new(FaultParts { code, path: String::new(), reason: reason.into() }))
    }

    /// The same, inside of a field.
    #[cold]
    fn in_field(mut self, name: &str) -> Self {
        let separator = if self.0.path.is_empty() || self.0.path.starts_with('[') { "" } else { "." };
        // Names come from the record; a reason becomes a header, so they are kept short.
        let name: String = name.chars().take(100).collect();
        self.0.path = format!("{name}{separator}{}", self.0.path);
        self
    }

    /// The same, inside of an array's item.
    #[cold]
    fn in_item(mut self, index: usize) -> Self {
        let separator = if self.0.path.is_empty() || self.0.path.starts_with('[') { "" } else { "." };
        self.0.path = format!("[{index}]{separator}{}", self.0.path);
        self
    }

    fn bad(self, record: u32) -> Bad {
        Bad { record, code: self.0.code, reason: self.to_string() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.path.is_empty() {
            write!(f, "{}: ", self.0.path)?;
        }
        f.write_str(&self.0.reason)
    }
}

impl From<Fault> for FormatError {
    fn from(fault: Fault) -> Self {
        FormatError::Record { code: fault.0.code, reason: fault.to_string() }
    }
}
