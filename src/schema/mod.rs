//! What an Avro, JSON Schema or Protobuf text means: whether it is a schema at all, which texts are the same schema,
//! whether one schema can read what another wrote, and which columns its records have.
//!
//! The rules are those of Confluent's schema registry, its oddities included, since a plan that says "compatible" must
//! be right when the registry is asked. `tests/registry_verdicts.rs` holds them against recorded verdicts. JSON Schema is
//! read into the form in which that registry compares it (`json::model`), Avro into its types (`avro`).
//!
//! **Invariant:** nothing here recurses deeper or works longer than a bound; a pair that passes the bound is reported as
//! incompatible of kind [`UNDECIDED`], never as compatible.

mod avro;
mod columns;
mod contract;
mod json;
mod text;

use std::ops::Range;

use sha2::{Digest, Sha256};

pub use columns::{Columns, Mismatch, mismatches};
pub use contract::{from_row_type, key_schema, locate};

pub use crate::model::product::{Compatibility, Format};

/// A schema that another one names, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The name by which it is referred to: a full name in Avro, a URI in JSON Schema, an import path in Protobuf.
    pub name: String,
    pub text: String,
    /// What it refers to itself.
    pub references: Vec<Reference>,
}

/// Why a text is no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SchemaError {
    pub message: String,
    /// Bytes of the text, where known. `None` for what is wrong in a referenced text.
    pub at: Option<Range<usize>>,
}

impl SchemaError {
    fn new(message: impl Into<String>, at: Option<Range<usize>>) -> Self {
        SchemaError { message: message.into(), at }
    }

    fn malformed(e: text::Malformed) -> Self {
        SchemaError { at: Some(e.at..e.at), message: e.message }
    }
}

/// A schema that was understood.
#[derive(Debug, Clone)]
pub struct Schema {
    language: Language,
    references: Vec<Reference>,
}

#[derive(Debug, Clone)]
enum Language {
    Avro(avro::Avro),
    Json(json::Json),
}

/// Reads a schema. `references` are those that the text names, each with its own.
pub fn parse(format: Format, text: &str, references: &[Reference]) -> Result<Schema, SchemaError> {
    let language = match format {
        Format::Avro => Language::Avro(avro::parse(text, &in_order(references)?)?),
        Format::Json => Language::Json(json::parse(text, &in_order(references)?)?),
        Format::Protobuf => return Err(SchemaError::new("Protobuf schemas are not read yet", None)),
    };
    Ok(Schema { language, references: references.to_vec() })
}

impl Schema {
    /// Its language.
    pub fn format(&self) -> Format {
        match &self.language {
            Language::Avro(_) => Format::Avro,
            Language::Json(_) => Format::Json,
        }
    }

    /// The text as the registry keeps it: without whitespace, and in one form for all texts that it takes as equal;
    /// with `normalize`, in one form for all that it takes as equal when asked with `normalize=true`.
    pub fn stored(&self, normalize: bool) -> String {
        match &self.language {
            Language::Avro(schema) => schema.print(normalize),
            Language::Json(schema) => schema.print(normalize),
        }
    }

    /// One text for all schemas that are equal under `normalize=true`, references left out.
    pub fn canonical(&self) -> String {
        self.stored(true)
    }

    /// SHA-256 (hex) of the canonical text and of the references, theirs included.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash_part(&mut hash, self.format().registry_name());
        hash_part(&mut hash, &self.canonical());
        for line in reference_lines(&self.references) {
            hash_part(&mut hash, &line);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether the registry gives both the same id in one subject, asked with or without `normalize=true`.
    pub fn same_as(&self, other: &Schema, normalize: bool) -> bool {
        self.format() == other.format()
            && self.stored(normalize) == other.stored(normalize)
            && reference_lines(&self.references) == reference_lines(&other.references)
    }

    /// The columns of a record of this schema.
    pub fn columns(&self) -> Columns {
        match &self.language {
            Language::Avro(schema) => schema.columns(),
            Language::Json(schema) => schema.columns(),
        }
    }

    /// The type of a schema that is no record (a key's bare `"string"`), and whether null is allowed; `None` for records
    /// and for what no column can hold.
    pub fn bare(&self) -> Option<(crate::model::row::DataType, bool)> {
        match &self.language {
            Language::Avro(schema) => schema.bare(),
            Language::Json(schema) => schema.bare(),
        }
    }
}

/// Who could not read whose data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The new schema reads what the old one wrote.
    Backward,
    /// The old schema reads what the new one writes.
    Forward,
}

/// One reason why two schemas are incompatible.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Incompatibility {
    /// The registry's name for it, such as `READER_FIELD_MISSING_DEFAULT_VALUE`, or [`UNDECIDED`].
    pub kind: &'static str,
    /// Where, as the registry prints it: `/fields/1` in Avro, `#/properties/b` in JSON Schema. May be empty.
    pub path: String,
    /// What a person should know, in terms of fields.
    pub message: String,
    pub direction: Direction,
    /// Which of the old schemas, by its position.
    pub version: usize,
}

/// The kind of an incompatibility that stands for "could not be compared", which counts as incompatible: the schemas nest
/// or recurse too deep, or a rule has no answer for them.
pub const UNDECIDED: &str = "UNDECIDED";

/// What stands between `new` and the schemas that `level` compares it with. `old` is oldest first. Like the registry it
/// goes back from the latest version and stops at the first that is incompatible.
pub fn check(level: Compatibility, new: &Schema, old: &[Schema]) -> Vec<Incompatibility> {
    let count = if level.transitive() { old.len() } else { old.len().min(1) };
    for (version, before) in old.iter().enumerate().rev().take(count) {
        let mut found = Vec::new();
        if level.backward() {
            found.extend(read_by(new, before, Direction::Backward, version));
        }
        if level.forward() {
            found.extend(read_by(before, new, Direction::Forward, version));
        }
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// Why `reader` can't read what `writer` writes.
fn read_by(reader: &Schema, writer: &Schema, direction: Direction, version: usize) -> Vec<Incompatibility> {
    let findings = match (&reader.language, &writer.language) {
        (Language::Avro(reader), Language::Avro(writer)) => avro::incompatibilities(reader, writer),
        // Equal schemas need no comparison, however deep they recurse.
        (Language::Json(_), Language::Json(_)) if reader.same_as(writer, true) => return Vec::new(),
        (Language::Json(reader), Language::Json(writer)) => json::incompatibilities(reader, writer),
        _ => vec![Finding {
            kind: UNDECIDED,
            path: String::new(),
            message: format!(
                "one schema is {} and the other {}",
                reader.format().registry_name(),
                writer.format().registry_name()
            ),
        }],
    };
    let mut out: Vec<Incompatibility> = Vec::new();
    for finding in findings {
        let Finding { kind, path, message } = finding;
        let names = match direction {
            Direction::Backward => ("the new schema", "the old schema"),
            Direction::Forward => ("the old schema", "the new schema"),
        };
        let message = message.replace("{reader}", names.0).replace("{writer}", names.1);
        if !out.iter().any(|known| known.kind == kind && known.path == path) {
            out.push(Incompatibility { kind, path, message, direction, version });
        }
    }
    out
}

/// An incompatibility of one pair. The message calls the schemas `{reader}` and `{writer}`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    kind: &'static str,
    path: String,
    message: String,
}

/// How deep references may refer on.
const MAX_REFERENCES: usize = 64;

/// All references, each after those that it refers to itself; a name that was met before is not met again.
fn in_order(references: &[Reference]) -> Result<Vec<(&str, &str)>, SchemaError> {
    fn walk<'a>(references: &'a [Reference], depth: usize, out: &mut Vec<(&'a str, &'a str)>) -> Result<(), SchemaError> {
        if depth > MAX_REFERENCES {
            return Err(SchemaError::new(format!("references that refer on more than {MAX_REFERENCES} times"), None));
        }
        for reference in references {
            if out.iter().any(|(name, _)| *name == reference.name) {
                continue;
            }
            walk(&reference.references, depth + 1, out)?;
            if !out.iter().any(|(name, _)| *name == reference.name) {
                out.push((&reference.name, &reference.text));
            }
        }
        Ok(())
    }
    let mut out = Vec::new();
    walk(references, 0, &mut out)?;
    Ok(out)
}

/// References in one form and order: name, text without whitespace and with sorted keys, then what it refers to.
fn reference_lines(references: &[Reference]) -> Vec<String> {
    let mut lines: Vec<String> = references
        .iter()
        .map(|reference| {
            let text = text::read_whole(&reference.text).map_or_else(|_| reference.text.clone(), |value| value.print(true));
            let inner = reference_lines(&reference.references).join("\n");
            format!("{}\n{}\n{text}\n{}\n{inner}", reference.name, text.len(), inner.len())
        })
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

/// Length first, so that no two lists of parts hash alike.
fn hash_part(hash: &mut Sha256, part: &str) {
    hash.update((part.len() as u64).to_be_bytes());
    hash.update(part.as_bytes());
}
