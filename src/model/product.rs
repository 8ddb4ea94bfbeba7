//! Data products: a topic with a promise, and what makes it. Everything a manifest may leave out is filled in here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::diagnostic::Place;
use super::row::ROWTIME;
use super::test::Test;

/// One data product, as its manifest and the environment's defaults say.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// `[a-z0-9-]`, at most 63 characters, unique in the mesh.
    pub name: String,
    pub description: Option<String>,
    pub tags: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub version: Option<String>,
    pub lifecycle: Lifecycle,
    /// A Domain's name.
    pub domain: Option<String>,
    /// A Team's name.
    pub team: Option<String>,
    pub owner: Option<Owner>,
    pub shape: Shape,
    /// Columns of the value that form the record key, in order. Empty only for streams.
    pub key: Vec<String>,
    pub time: Time,
    pub topic: Topic,
    pub contract: Contract,
    pub origin: Origin,
    pub deletion: Deletion,
    /// Whether a topic that exists and is not owned may be taken over.
    pub adopt: bool,
    /// Tests of the derivation, in the manifest's order.
    pub tests: Vec<Test>,
    /// Sections that are read and checked for shape but not carried out yet, as `spec` paths, with their places.
    pub not_yet: Vec<(String, Option<Place>)>,
    /// Where each part of the manifest stands, by JSON pointer (`/spec/topic/partitions`); `""` is `metadata.name`.
    pub places: BTreeMap<String, Place>,
    /// SHA-256 (hex) of all that decides what is applied: the rendered document, SQL and schema texts, defaults.
    pub fingerprint: String,
}

impl Product {
    /// The place of a part of the manifest: the longest known prefix of `pointer`, at last the product's name.
    pub fn place(&self, pointer: &str) -> Option<Place> {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.places.get(pointer) {
                return Some(place.clone());
            }
            match pointer.rfind('/') {
                Some(0) | None => return self.places.get("").cloned(),
                Some(cut) => pointer = &pointer[..cut],
            }
        }
    }

    /// The subject of its values' schema.
    pub fn value_subject(&self) -> String {
        format!("{}-value", self.topic.name)
    }

    /// The subject of its keys' schema; `None` without a key.
    pub fn key_subject(&self) -> Option<String> {
        (!self.key.is_empty()).then(|| format!("{}-key", self.topic.name))
    }

    /// The name under which SQL knows it.
    pub fn relation(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Its derivation, if it has one.
    pub fn derivation(&self) -> Option<&Derivation> {
        match &self.origin {
            Origin::Derivation(derivation) => Some(derivation),
            _ => None,
        }
    }
}

/// A stage of a product's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    Draft,
    Active,
    Deprecated,
    Retired,
}

/// Who answers for a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub name: String,
    pub contact: Option<String>,
}

/// What a product's records mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Append-only: every record is a fact of its own.
    Stream,
    /// The latest record of a key is its value; a null value deletes it.
    Table,
}

/// A product's event time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    /// A timestamp column, or `rowtime`: the record's own timestamp.
    pub field: String,
    /// How far records of one partition may be out of order, in milliseconds.
    pub disorder_ms: i64,
    /// How far an event time may lie in the future of its record's own timestamp, in milliseconds. A record beyond it is
    /// bad: taken, it would make all that come after it late.
    pub ahead_ms: i64,
    /// How long a partition must be quiet at its end to hold the others back no longer, in milliseconds.
    pub idle_ms: i64,
}

impl Time {
    /// What `ahead` is when left out: a day.
    pub const AHEAD_MS: i64 = 24 * 60 * 60 * 1000;
    /// What `idle` is when left out.
    pub const IDLE_MS: i64 = 500;

    /// How far ahead of its record's own timestamp an event time may be; `None` where both are the same.
    pub fn bound_ms(&self) -> Option<i64> {
        (self.field != ROWTIME).then_some(self.ahead_ms)
    }
}

/// The topic that carries a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub partitions: i32,
    /// `None`: the broker's default.
    pub replication: Option<i16>,
    /// Only what the manifest says; everything else is not ours.
    pub config: BTreeMap<String, String>,
}

/// The schema of a product's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    pub format: Format,
    pub framing: Framing,
    /// The schema's text and its file; `None`: inferred from the derivation.
    pub text: Option<SchemaText>,
    /// `None`: the environment's default.
    pub compatibility: Compatibility,
}

/// A schema file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaText {
    /// As places name it.
    pub file: Arc<str>,
    pub text: Arc<str>,
}

/// A schema language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Json,
    Avro,
    Protobuf,
}

impl Format {
    /// The registry's `schemaType`.
    pub fn registry_name(self) -> &'static str {
        match self {
            Format::Json => "JSON",
            Format::Avro => "AVRO",
            Format::Protobuf => "PROTOBUF",
        }
    }
}

/// What stands around a key's or a value's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// A schema id before the bytes, or in a header, as Confluent's serializers write them.
    #[default]
    Confluent,
    /// Nothing: plain JSON; a key of one text column is the bare text.
    None,
}

/// A compatibility level of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Compatibility {
    None,
    Backward,
    BackwardTransitive,
    Forward,
    ForwardTransitive,
    Full,
    FullTransitive,
}

impl Compatibility {
    /// The registry's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Compatibility::None => "NONE",
            Compatibility::Backward => "BACKWARD",
            Compatibility::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Compatibility::Forward => "FORWARD",
            Compatibility::ForwardTransitive => "FORWARD_TRANSITIVE",
            Compatibility::Full => "FULL",
            Compatibility::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    /// Whether the new schema must read what the old ones wrote.
    pub fn backward(self) -> bool {
        !matches!(self, Compatibility::None | Compatibility::Forward | Compatibility::ForwardTransitive)
    }

    /// Whether the old schemas must read what the new one writes.
    pub fn forward(self) -> bool {
        !matches!(self, Compatibility::None | Compatibility::Backward | Compatibility::BackwardTransitive)
    }

    /// Whether all versions count, not only the latest.
    pub fn transitive(self) -> bool {
        matches!(self, Compatibility::BackwardTransitive | Compatibility::ForwardTransitive | Compatibility::FullTransitive)
    }
}

impl std::str::FromStr for Compatibility {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [
            Compatibility::None,
            Compatibility::Backward,
            Compatibility::BackwardTransitive,
            Compatibility::Forward,
            Compatibility::ForwardTransitive,
            Compatibility::Full,
            Compatibility::FullTransitive,
        ];
        all.into_iter().find(|level| level.name() == name).ok_or_else(|| format!("unknown compatibility level {name:?}"))
    }
}

/// Where a product's records come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Another program writes the topic.
    External,
    /// mesh brings the records in.
    Source(Source),
    /// mesh computes the records from other products.
    Derivation(Derivation),
}

/// A source that mesh carries out.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Records of a file, written once.
    Replay(Replay),
    /// A kind of source that is read and checked but not carried out yet; its name.
    NotYet(String),
}

/// Replays a file of JSON lines, plain or gzip.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// To open it: already resolved against the manifest's folder and checked to be below the project root.
    pub path: PathBuf,
    /// As the manifest names it.
    pub file: String,
    /// A line is `{"ts", "key"?, "value"}`; else a line is the value.
    pub envelope: bool,
    /// The record time of lines without an envelope, in milliseconds since 1970.
    pub at_ms: Option<i64>,
    /// Event time divided by wall time; 0: as fast as it goes.
    pub speed: f64,
    /// First and last record time, and the number of records, when the file could be looked at.
    pub oldest_ms: Option<i64>,
}

/// A product that is computed by a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derivation {
    pub sql: SqlText,
    pub start: Start,
    pub on_bad_record: OnBadRecord,
}

/// A query's text, rendered, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlText {
    pub text: Arc<str>,
    pub origin: SqlOrigin,
}

/// How a byte of a query's text is found in what the user wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlOrigin {
    /// The query's text is the text of `file` in `Texts`, byte for byte. A rendered template is kept in `Texts`
    /// under a name that says so (`sql/high.sql (rendered)`).
    Whole { file: Arc<str> },
    /// The query stands inside a YAML document: for each of its lines, the byte in `file` where the line starts.
    Lines { file: Arc<str>, starts: Vec<usize> },
}

impl SqlText {
    /// The place of a range of bytes of the query's text.
    pub fn place(&self, bytes: std::ops::Range<usize>) -> Place {
        match &self.origin {
            SqlOrigin::Whole { file } => Place::new(file.clone(), bytes),
            SqlOrigin::Lines { file, starts } => {
                let find = |byte: usize| {
                    let before = &self.text.as_bytes()[..byte.min(self.text.len())];
                    let line = before.iter().filter(|b| **b == b'\n').count();
                    let column = before.len() - before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
                    starts.get(line).or(starts.last()).map_or(0, |start| start + column)
                };
                Place::new(file.clone(), find(bytes.start)..find(bytes.end))
            }
        }
    }
}

/// Where a derivation starts to read when it has no committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    Earliest,
    Latest,
    /// Milliseconds since 1970.
    Timestamp(i64),
}

/// What happens to a record that can't be read or computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRecord {
    DeadLetter,
    Stop,
}

/// Whether a product that is no longer declared may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deletion {
    Protect,
    Allow,
}
