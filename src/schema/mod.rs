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
mod protobuf;
mod text;

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use columns::{Columns, Mismatch, mismatches};
pub use contract::{from_row_type, key_schema, locate};
pub(crate) use protobuf::{Member, MemberKind, Messages, Presence, Scalar};

pub use crate::model::product::{Compatibility, Format};

/// A schema that another one names, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The name by which it is referred to: a full name in Avro, a URI in JSON Schema, an import path in Protobuf.
    pub name: String,
    pub text: String,
    /// What it refers to itself.
    #[serde(default)]
    pub references: Vec<Reference>,
}

/// A schema that records were written with, as it was registered: its text, and all that it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub text: String,
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
    Protobuf(Box<protobuf::Protobuf>),
}

/// Reads a schema. `references` are those that the text names, each with its own.
pub fn parse(format: Format, text: &str, references: &[Reference]) -> Result<Schema, SchemaError> {
    let language = match format {
        Format::Avro => Language::Avro(avro::parse(text, &in_order(references)?)?),
        Format::Json => Language::Json(json::parse(text, &in_order(references)?)?),
        Format::Protobuf => Language::Protobuf(Box::new(protobuf::parse(text, references)?)),
    };
    Ok(Schema { language, references: references.to_vec() })
}

impl Schema {
    /// Its language.
    pub fn format(&self) -> Format {
        match &self.language {
            Language::Avro(_) => Format::Avro,
            Language::Json(_) => Format::Json,
            Language::Protobuf(_) => Format::Protobuf,
        }
    }

    /// The text as the registry keeps it: without whitespace, and in one form for all texts that it takes as equal;
    /// with `normalize`, in one form for all that it takes as equal when asked with `normalize=true`.
    pub fn stored(&self, normalize: bool) -> String {
        match &self.language {
            Language::Avro(schema) => schema.print(normalize),
            Language::Json(schema) => schema.print(normalize),
            Language::Protobuf(schema) => schema.print(normalize),
        }
    }

    /// What the registry answers when it is asked with `format=serialized`: of Protobuf the file's descriptor in Base64. Other
    /// languages have no such form.
    pub fn serialized(&self) -> Option<String> {
        match &self.language {
            Language::Protobuf(schema) => Some(schema.serialized()),
            _ => None,
        }
    }

    /// The messages of a Protobuf schema, for who reads and writes records.
    pub(crate) fn messages(&self) -> Option<Messages> {
        match &self.language {
            Language::Protobuf(schema) => Some(schema.messages()),
            _ => None,
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
        for line in reference_lines(self.format(), &self.references) {
            hash_part(&mut hash, &line);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether the registry gives both the same id in one subject, asked with or without `normalize=true`.
    pub fn same_as(&self, other: &Schema, normalize: bool) -> bool {
        self.format() == other.format()
            && self.stored(normalize) == other.stored(normalize)
            && reference_lines(self.format(), &self.references) == reference_lines(self.format(), &other.references)
    }

    /// The columns of a record of this schema.
    pub fn columns(&self) -> Columns {
        match &self.language {
            Language::Avro(schema) => schema.columns(),
            Language::Json(schema) => schema.columns(),
            Language::Protobuf(schema) => schema.columns(),
        }
    }

    /// The columns of a Protobuf message that is called so, with or without its package; `None` where there is no such
    /// message, and in other languages.
    pub fn columns_of(&self, message: &str) -> Option<Columns> {
        match &self.language {
            Language::Protobuf(schema) => schema.columns_of(message),
            _ => None,
        }
    }

    /// The type of a schema that is no record (a key's bare `"string"`), and whether null is allowed; `None` for records
    /// and for what no column can hold.
    pub fn bare(&self) -> Option<(crate::model::row::DataType, bool)> {
        match &self.language {
            Language::Avro(schema) => schema.bare(),
            Language::Json(schema) => schema.bare(),
            // Every Protobuf record is a message.
            Language::Protobuf(_) => None,
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
        (Language::Protobuf(reader), Language::Protobuf(writer)) => protobuf::incompatibilities(reader, writer),
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

/// Name and text of all references, each after those that it refers to itself; a name that was met before is not met again.
pub(crate) fn in_order(references: &[Reference]) -> Result<Vec<(&str, &str)>, SchemaError> {
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

/// References in one form and order: name, text in one form, then what it refers to.
fn reference_lines(format: Format, references: &[Reference]) -> Vec<String> {
    let mut lines: Vec<String> = references
        .iter()
        .map(|reference| {
            let text = match format {
                Format::Protobuf => protobuf::reprint(&reference.text),
                _ => text::read_whole(&reference.text).map(|value| value.print(true)).ok(),
            };
            let text = text.unwrap_or_else(|| reference.text.clone());
            let inner = reference_lines(format, &reference.references).join("\n");
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> Schema {
        parse(Format::Json, text, &[]).unwrap()
    }

    fn avro(text: &str) -> Schema {
        parse(Format::Avro, text, &[]).unwrap()
    }

    fn protobuf(text: &str) -> Schema {
        parse(Format::Protobuf, &format!("syntax = \"proto3\"; package p; {text}"), &[]).unwrap()
    }

    fn lines(found: &[Incompatibility]) -> String {
        let line = |i: &Incompatibility| format!("{:?} v{} {} {}: {}", i.direction, i.version, i.kind, i.path, i.message);
        found.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn reasons_are_told_by_field() {
        let old = avro(r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"u","type":["null","int"]}]}"#);
        let new = avro(
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"},{"name":"b","type":"int"},{"name":"u","type":["null"]}]}"#,
        );
        insta::assert_snapshot!(lines(&check(Compatibility::Backward, &new, &[old])), @r#"
        Backward v0 TYPE_MISMATCH /fields/0/type: type string in the new schema can't read type int of the old schema
        Backward v0 READER_FIELD_MISSING_DEFAULT_VALUE /fields/1: field "b" of R has no default in the new schema and does not exist in the old schema
        Backward v0 MISSING_UNION_BRANCH /fields/2/type/1: no branch of the union in the new schema can read type int of the old schema
        "#);
        let old =
            json(r#"{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer","minimum":1}},"required":["a"]}"#);
        let new = json(
            r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer","minimum":5},"c":{}},"required":["a","b"],"additionalProperties":false}"#,
        );
        insta::assert_snapshot!(lines(&check(Compatibility::Full, &new, &[old])), @r#"
        Backward v0 REQUIRED_ATTRIBUTE_ADDED #/required/b: "b" is required in the new schema and optional in the old schema; a default would make it compatible
        Backward v0 TYPE_CHANGED #/properties/a: "a" has another type in the new schema than in the old schema
        Backward v0 MINIMUM_INCREASED #/properties/b/minimum: "b.minimum" is stricter in the new schema than in the old schema
        Backward v0 ADDITIONAL_PROPERTIES_REMOVED #/additionalProperties: the schema allows undeclared properties in the old schema and none in the new schema
        Forward v0 TYPE_CHANGED #/properties/a: "a" has another type in the old schema than in the new schema
        "#);
    }

    #[test]
    fn reasons_in_protobuf_are_told_by_field() {
        let old = protobuf(
            "message M { int32 a = 1; string b = 2; int32 c = 3; N n = 4; oneof o { bool x = 5; bool y = 6; } map<string, int32> m = 7; } message N {}",
        );
        let new = protobuf(
            "message M { string a = 1; oneof q { string b = 2; int32 c = 3; } O n = 4; oneof o { bool x = 5; } map<string, N2> m = 7; message N2 {} } message O {}",
        );
        insta::assert_snapshot!(lines(&check(Compatibility::Full, &new, &[old])), @"
        Backward v0 MULTIPLE_FIELDS_MOVED_TO_ONEOF #/M/q: oneof q of M takes in b, c, of which records of the old schema may have more than one
        Backward v0 ONEOF_FIELD_REMOVED #/M/o/6: field y of oneof o of M is not in it in the new schema
        Backward v0 FIELD_SCALAR_KIND_CHANGED #/M/1: field a of M is string in the new schema and int32 in the old schema, which have other bytes
        Backward v0 FIELD_NAMED_TYPE_CHANGED #/M/4: field n of M is of type O in the new schema and N in the old schema
        Backward v0 FIELD_KIND_CHANGED #/M/7: field m of M is N2 in the new schema and int32 in the old schema
        Backward v0 MESSAGE_REMOVED #/N: message N is in the old schema and not in the new schema
        Forward v0 FIELD_SCALAR_KIND_CHANGED #/M/1: field a of M is int32 in the old schema and string in the new schema, which have other bytes
        Forward v0 FIELD_NAMED_TYPE_CHANGED #/M/4: field n of M is of type N in the old schema and O in the new schema
        Forward v0 FIELD_KIND_CHANGED #/M/7: field m of M is int32 in the old schema and N2 in the new schema
        Forward v0 MESSAGE_REMOVED #/M/N2: message M.N2 is in the new schema and not in the old schema
        Forward v0 MESSAGE_REMOVED #/O: message O is in the new schema and not in the old schema
        ");
        let old =
            parse(Format::Protobuf, "message R { required int32 a = 1; oneof o { int32 b = 2; } optional int32 c = 3; }", &[])
                .unwrap();
        let new =
            parse(Format::Protobuf, "package q; message R { oneof o { int32 b = 2; int32 c = 3; } required int32 d = 4; }", &[])
                .unwrap();
        insta::assert_snapshot!(lines(&check(Compatibility::Backward, &new, &[old])), @r#"
        Backward v0 PACKAGE_CHANGED #/: the package is "q" in the new schema and none in the old schema
        Backward v0 FIELD_MOVED_TO_EXISTING_ONEOF #/R/o: field c of R is in oneof o in the new schema, beside fields that were in a oneof before
        Backward v0 REQUIRED_FIELD_REMOVED #/R/1: field a of R is required in the old schema and not in the new schema
        Backward v0 REQUIRED_FIELD_ADDED #/R/4: field d of R is required in the new schema and not in the old schema
        "#);
    }

    #[test]
    fn errors_in_protobuf_say_where() {
        let error = |text: &str| {
            let e = parse(Format::Protobuf, text, &[]).unwrap_err();
            format!("{} {:?}", e.message, e.at.map(|at| text.get(at).unwrap().to_owned()))
        };
        let texts = [
            "hello world",
            "syntax = \"proto4\";",
            "edition = \"2023\";",
            "message M { int32 a = 1 }",
            "syntax = \"proto3\"; message M { int32 a = 1 string b = 2; }",
            "syntax = \"proto3\"; message M { int32 a = x; }",
            "syntax = \"proto3\"; message M { Nope a = 1; }",
            "message M {",
            "message A {} enum A {}",
            "package p; syntax = \"proto3\";",
            "message M { required int32 1a = 1; }",
            "option a = \"b;",
            "/* no end",
            "syntax = \"proto3\"; message M { int32 a = 1; /* x */ int32 b = 2; }",
            "message M { optional map<string, int32> a = 1; }",
            "syntax = \"proto3\"; message M { required int32 a = 1; }",
            "message M { reserved 1 two 3; }",
            "service S { rpc Get (google.protobuf.Empty) gives (google.protobuf.Empty); }",
            "service S { message M {} }",
        ];
        insta::assert_snapshot!(texts.map(error).join("\n"), @r#"
        not Protobuf: found "hello" where message, enum, import or another declaration is expected Some("hello")
        syntax "proto4" is none; there are "proto2" and "proto3" Some("syntax = \"proto4\"")
        editions are not supported by the registry; use syntax = "proto3" Some("edition")
        found "int32" where a field begins: required, optional or repeated, unless the file has syntax = "proto3" Some("int32")
        not Protobuf: found 's' where ';' is expected Some("")
        not Protobuf: found "x" where a whole number is expected Some("x")
        field a: nothing is called Nope, neither here nor in a reference; declare it or add the reference that does Some("Nope a = 1;")
        not Protobuf: the text ends where more is expected Some("")
        A is declared twice Some("")
        syntax must be the first declaration, and the only one of its kind Some("syntax =")
        "1a" begins with a digit, which names of fields and values may not Some("1a")
        not Protobuf: a string that does not end Some("")
        not Protobuf: a comment that does not end Some("")
        not Protobuf here: more text on the line behind a trailing comment Some("")
        a map has no label Some("optional map<string, int32>")
        proto3 has no required fields Some("required")
        a ',', a ';' or "to" is expected behind a number Some("two")
        rpc Get: returns is expected behind the request Some(" gives")
        found "message" where rpc or option is expected Some("message")
        "#);
        let reference = Reference { name: "x.proto".into(), text: "hello".into(), references: Vec::new() };
        insta::assert_snapshot!(parse(Format::Protobuf, "", &[reference]).unwrap_err(), @r#"reference x.proto: not Protobuf: found "hello" where message, enum, import or another declaration is expected"#);
    }

    #[test]
    fn levels_ask_for_the_latest_or_for_all() {
        let versions = ["\"int\"", "\"long\"", "\"double\""].map(avro);
        let [int, long, double] = versions.clone();
        assert!(check(Compatibility::BackwardTransitive, &double, &versions[..2]).is_empty());
        assert_eq!(check(Compatibility::None, &int, &versions[1..]), []);
        assert_eq!(check(Compatibility::Backward, &long, &[]), []);
        // The latest is asked first, and only it when it is incompatible.
        assert_eq!(
            check(Compatibility::ForwardTransitive, &double, &[int.clone(), long]).iter().map(|i| i.version).collect::<Vec<_>>(),
            [1]
        );
        assert_eq!(check(Compatibility::Backward, &int, std::slice::from_ref(&int)), []);
    }

    #[test]
    fn different_languages_are_incompatible() {
        assert_eq!(
            lines(&check(Compatibility::Backward, &json("{}"), &[avro("\"int\"")])),
            "Backward v0 UNDECIDED : one schema is JSON and the other AVRO"
        );
    }

    #[test]
    fn fingerprints_see_meaning_and_references() {
        let reference = |text: &str| vec![Reference { name: "a.json".into(), text: text.into(), references: Vec::new() }];
        let with = |text: &str, of: &str| parse(Format::Json, text, &reference(of)).unwrap().fingerprint();
        let one = with(r#"{"a":1,"$ref":"a.json"}"#, r#"{"type":"string"}"#);
        assert_eq!(one, with(r#"{ "$ref": "a.json", "a": 1 }"#, r#" {"type": "string"} "#));
        assert_ne!(one, with(r#"{"a":1,"$ref":"a.json"}"#, r#"{"type":"integer"}"#));
        assert_ne!(avro("\"int\"").fingerprint(), json("\"int\"").fingerprint());
        assert_eq!(one.len(), 64);
    }

    /// A schema of many levels, each within the one before.
    fn nested(levels: usize, open: &str, close: &str, inner: &str) -> String {
        format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
    }

    #[test]
    fn a_thousand_levels_are_refused() {
        let json = nested(1000, r#"{"type":"object","properties":{"a":"#, "}}", "{}");
        assert_eq!(parse(Format::Json, &json, &[]).unwrap_err().message, "nested deeper than 128 levels");
        let avro = nested(1000, r#"{"type":"array","items":"#, "}", "\"int\"");
        assert_eq!(parse(Format::Avro, &avro, &[]).unwrap_err().message, "nested deeper than 128 levels");
    }

    #[test]
    fn protobuf_that_nests_is_bounded() {
        let text = |levels: usize, inner: &str| format!("syntax = \"proto3\"; {}", nested(levels, "message M { ", "}", inner));
        assert_eq!(parse(Format::Protobuf, &text(1000, ""), &[]).unwrap_err().message, "nested deeper than 64 levels");
        let (old, new) = (text(65, "int32 a = 1;"), text(65, "string a = 1;"));
        let (old, new) = (parse(Format::Protobuf, &old, &[]).unwrap(), parse(Format::Protobuf, &new, &[]).unwrap());
        assert_eq!(check(Compatibility::Full, &new, &[old]).len(), 2);
        let option = format!("option a = {};", nested(1000, "{ a: ", "}", "1"));
        assert_eq!(parse(Format::Protobuf, &option, &[]).unwrap_err().message, "nested deeper than 64 levels");
        let list = format!("option a = {};", nested(100_000, "[", "]", "1"));
        assert_eq!(parse(Format::Protobuf, &list, &[]).unwrap_err().message, "nested deeper than 64 levels");
        let maps = format!("message M {{ {} a = 1; }}", nested(100_000, "map<string, ", ">", "int32"));
        assert_eq!(parse(Format::Protobuf, &maps, &[]).unwrap_err().message, "nested deeper than 64 levels");
        let groups = format!("syntax = \"proto3\"; message M {{ {} }}", nested(100_000, "group G = 1 { ", "}", ""));
        assert_eq!(parse(Format::Protobuf, &groups, &[]).unwrap_err().message, "a group within a group");
    }

    #[test]
    fn protobuf_files_that_refer_to_each_other_come_to_an_end() {
        // Each message has all others: without a bound the comparison in depth would have no end.
        let names = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L"];
        let text = |kind: &str| {
            let fields: Vec<String> =
                names.iter().zip(1..).map(|(name, number)| format!("{name} f{number} = {number};")).collect();
            let messages: Vec<String> = names.iter().map(|name| format!("message {name} {{ {} }}", fields.concat())).collect();
            format!("syntax = \"proto3\"; package x; {} message Z {{ {kind} z = 1; }}", messages.concat())
        };
        let with = |kind: &str| {
            let reference = Reference { name: "x.proto".into(), text: text(kind), references: Vec::new() };
            parse(Format::Protobuf, "syntax = \"proto3\"; import \"x.proto\"; message M { x.A a = 1; }", &[reference]).unwrap()
        };
        let found = check(Compatibility::Backward, &with("int32"), &[with("string")]);
        assert_eq!(found.iter().map(|found| found.kind).collect::<Vec<_>>(), [UNDECIDED]);
        assert_eq!(check(Compatibility::Backward, &with("int32"), &[with("int32")]), []);
        assert_ne!(with("int32").fingerprint(), with("string").fingerprint());
    }

    #[test]
    fn as_many_levels_as_are_allowed_fit_the_stack() {
        let modern = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","allOf":[{"title":"t"},"#;
        for (open, close, levels) in [
            (r#"{"type":"object","additionalProperties":"#, "}", 120),
            (r#"{"type":"object","properties":{"a":"#, "}}", 60),
            (r#"{"anyOf":[{"type":"null"},"#, "]}", 60),
            (r#"{"not":"#, "}", 120),
        ] {
            for prefix in ["", modern] {
                let end = if prefix.is_empty() { "" } else { "]}" };
                let text = |inner: &str| format!("{prefix}{}{end}", nested(levels, open, close, inner));
                let (old, new) = (json(&text(r#"{"type":"string"}"#)), json(&text(r#"{"type":"integer"}"#)));
                assert!(!check(Compatibility::Full, &new, std::slice::from_ref(&old)).is_empty());
                assert!(check(Compatibility::Full, &old, std::slice::from_ref(&old)).is_empty());
                let _ = (new.columns(), new.fingerprint(), new.bare());
            }
        }
        let deep = |inner: &str| avro(&nested(120, r#"{"type":"map","values":"#, "}", inner));
        let found = check(Compatibility::Full, &deep("\"int\""), &[deep("\"string\"")]);
        assert_eq!(found.len(), 2);
        let _ = (deep("\"int\"").columns(), deep("\"int\"").fingerprint());
    }

    #[test]
    fn schemas_that_lead_back_to_themselves_come_to_an_end() {
        let modern = r##""$schema":"https://json-schema.org/draft/2020-12/schema","##;
        for draft in ["", modern] {
            for rest in [
                r##""type":"object","properties":{"v":{"type":"TYPE"},"next":{"$ref":"#"}}"##,
                r##""allOf":[{"$ref":"#"},{"$ref":"#"},{"type":"TYPE"}]"##,
                r##""anyOf":[{"$ref":"#"},{"$ref":"#"},{"type":"TYPE"}]"##,
                r##""$ref":"#""##,
                r##""$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a","type":"TYPE"}}"##,
                r##""$ref":"#/$defs/t","$defs":{"t":{"type":"object","properties":{"l":{"$ref":"#/$defs/t"},"r":{"$ref":"#/$defs/t"},"v":{"type":"TYPE"}}}}"##,
                r##""oneOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/b"}],"$defs":{"a":{"type":"object","properties":{"x":{"oneOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/b"}]}}},
                    "b":{"type":"object","properties":{"y":{"oneOf":[{"$ref":"#/$defs/b"},{"$ref":"#/$defs/a"}]},"v":{"type":"TYPE"}}}}"##,
            ] {
                let schema = |kind: &str| parse(Format::Json, &format!("{{{draft}{}}}", rest.replace("TYPE", kind)), &[]);
                let (Ok(old), Ok(new)) = (schema("string"), schema("integer")) else { continue };
                let _ =
                    (check(Compatibility::Full, &new, std::slice::from_ref(&old)), new.columns(), new.bare(), new.fingerprint());
                assert!(check(Compatibility::Full, &old, std::slice::from_ref(&old)).is_empty());
            }
        }
        let tree = |kind: &str| {
            avro(&format!(
                r#"{{"type":"record","name":"T","fields":[{{"name":"v","type":"{kind}"}},{{"name":"l","type":["null","T"]}}]}}"#
            ))
        };
        // What a record is compared with while it is being compared counts as compatible.
        assert_eq!(check(Compatibility::Full, &tree("int"), &[tree("long")]).len(), 1);
    }

    /// JSON Schemas of many shapes.
    fn json_schema() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::json;
        let leaf = prop_oneof![
            Just(json!({})),
            any::<bool>().prop_map(|flag| json!(flag)),
            prop_oneof!["string", "integer", "number", "boolean", "null", "object", "array"]
                .prop_map(|kind| json!({"type": kind})),
            (0..3_i32, 3..9_i32).prop_map(|(low, high)| json!({"type": "string", "minLength": low, "maxLength": high})),
            (0..9_i32).prop_map(|limit| json!({"type": ["integer", "null"], "minimum": limit, "multipleOf": limit + 1})),
            proptest::collection::vec("[a-c]", 1..4).prop_map(|values| json!({"type": "string", "enum": values})),
            Just(json!({"const": {"a": [1, 1.0, null]}})),
            // Straight within a combination it would lead back to itself, on which the registry fails.
            Just(json!({"type": "object", "properties": {"r": {"$ref": "#"}}})),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let many = proptest::collection::vec(inner.clone(), 1..4);
            let named = proptest::collection::btree_map("[a-d]", inner.clone(), 0..4);
            prop_oneof![
                (named, proptest::collection::vec("[a-d]", 0..3), any::<Option<bool>>()).prop_map(
                    |(properties, required, open)| {
                        let mut object = json!({"type": "object", "properties": properties, "required": required});
                        if let (Some(object), Some(open)) = (object.as_object_mut(), open) {
                            object.insert("additionalProperties".into(), json!(open));
                        }
                        object
                    }
                ),
                inner.clone().prop_map(|items| json!({"type": "array", "items": items, "uniqueItems": true})),
                inner.clone().prop_map(
                    |values| json!({"type": "object", "patternProperties": {"^x": values}, "additionalProperties": false})
                ),
                inner.prop_map(|other| json!({"not": other})),
                (many, prop_oneof!["allOf", "anyOf", "oneOf"]).prop_map(|(branches, key)| json!({ key: branches })),
            ]
        })
    }

    /// Avro schemas of many shapes; named types are numbered, so that none is defined twice.
    fn avro_schema() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::json;
        let primitive = prop_oneof!["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
        let leaf = prop_oneof![
            primitive.prop_map(|name| json!(name)),
            Just(json!({"type": "long", "logicalType": "timestamp-millis"})),
            (1..9_i32).prop_map(|size| json!({"type": "fixed", "name": "?", "size": size})),
            proptest::sample::subsequence(vec!["A", "B", "C"], 1..4)
                .prop_map(|symbols| json!({"type": "enum", "name": "?", "symbols": symbols, "doc": "d"})),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
                inner.clone().prop_map(|values| json!({"type": "map", "values": values, "extra": {"b": 1, "a": 2.50}})),
                proptest::collection::vec(inner, 0..4).prop_map(|types| {
                    let fields: Vec<_> = types
                        .into_iter()
                        .enumerate()
                        .map(|(at, kind)| json!({"name": format!("f{at}"), "type": kind, "order": "ignore"}))
                        .collect();
                    json!({"type": "record", "name": "?", "namespace": "x", "fields": fields})
                }),
            ]
        })
    }

    /// What Protobuf files are made of, in no order.
    fn protobuf_words() -> impl Strategy<Value = Vec<&'static str>> {
        let words = vec![
            "syntax",
            "=",
            "\"proto3\"",
            "\"proto2\"",
            ";",
            "; ",
            "{",
            "}",
            " message ",
            " enum ",
            " oneof ",
            " map",
            "<",
            ">",
            ",",
            "[",
            "]",
            "(",
            ")",
            " a ",
            " b ",
            "M",
            ".",
            " = 1",
            " = 2;",
            " int32 ",
            " string ",
            " repeated ",
            " optional ",
            " option ",
            " reserved ",
            " to ",
            "max",
            "'x'",
            "\\",
            "\"",
            "/",
            "//",
            "/*",
            "*/",
            "\n",
            " import ",
            " extend ",
            " extensions ",
            " service ",
            " rpc ",
            " returns ",
            "group ",
            "é",
            "-1",
            "0x",
            ":",
            "int32 a = 1;",
            "message M {",
            "option (a).b = { c: [1, {d: 'e'}] };",
            "package p;",
            "enum E { A = 0; }",
            "map<string, M> b = 3;",
            "E e = 4 [(f.g) = 1.5];",
        ];
        proptest::collection::vec(proptest::sample::select(words), 0..40)
    }

    /// Members of a message called M in package p, beside an enum E.
    fn protobuf_body() -> impl Strategy<Value = String> {
        let kind = proptest::sample::select(vec![
            "int32",
            "string",
            "bytes",
            "fixed64",
            "M",
            ".p.M",
            "p.E",
            "E",
            "N",
            "google.protobuf.Timestamp",
        ]);
        let label = proptest::sample::select(vec!["", "optional ", "repeated "]);
        let option = proptest::sample::select(vec![
            "",
            " [deprecated = true]",
            " [json_name = \"x\", (confluent.field_meta).tags = \"t\"]",
        ]);
        let field = (label, kind.clone(), "[a-d]{1,2}", option).prop_map(|(l, k, n, o)| format!("{l}{k} {n} = #{o};"));
        let plain = (kind, "[a-d]").prop_map(|(k, n)| format!("{k} {n} = #;"));
        let leaf = prop_oneof![
            field.clone(),
            field.clone(),
            field,
            (prop_oneof!["string", "int32", "bool"], prop_oneof!["M", "E", "double"])
                .prop_map(|(k, v)| format!("map<{k}, {v}> m# = #;")),
            (1..30_i32, 1..9_i32).prop_map(|(a, b)| format!("reserved {a}, {a} to {}, \"z\";", a + b)),
            proptest::collection::vec(plain, 1..3).prop_map(|fields| format!("oneof o {{ {} }}", fields.concat())),
            Just("option deprecated = true; extensions 100 to max;".to_owned()),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            ("[A-D]", proptest::collection::vec(inner, 0..6))
                .prop_map(|(name, inner)| format!("message {name} {{ {} }}", inner.concat()))
        })
        .prop_map(|body| {
            // A number that stands twice makes a message incompatible with itself when one of them is in a oneof.
            let parts = body.split_inclusive('#').zip((1..80).rev());
            parts.map(|(part, number)| part.replace('#', &number.to_string())).collect::<String>()
        })
    }

    fn number_names(value: &mut serde_json::Value, next: &mut usize) {
        match value {
            serde_json::Value::Object(object) => {
                if object.get("name").is_some_and(|name| name == "?") {
                    object.insert("name".into(), format!("N{next}").into());
                    *next += 1;
                }
                object.values_mut().for_each(|inner| number_names(inner, next));
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(|inner| number_names(inner, next)),
            _ => {}
        }
    }

    const LEVELS: [Compatibility; 7] = [
        Compatibility::None,
        Compatibility::Backward,
        Compatibility::BackwardTransitive,
        Compatibility::Forward,
        Compatibility::ForwardTransitive,
        Compatibility::Full,
        Compatibility::FullTransitive,
    ];

    /// What holds of every schema: it is compatible with itself, its canonical text means the same and is its own.
    fn holds(format: Format, text: &str) -> Result<(), TestCaseError> {
        let schema = match parse(format, text, &[]) {
            Ok(schema) => schema,
            // A reference that leads straight back to itself is refused in modern drafts.
            Err(e) => return Err(TestCaseError::fail(format!("{text}: {e}"))),
        };
        for level in LEVELS {
            prop_assert_eq!(check(level, &schema, &[schema.clone(), schema.clone()]), [], "{:?} {}", level, text);
        }
        // The shortcut for equal schemas aside.
        if let Language::Json(inner) = &schema.language {
            prop_assert_eq!(json::incompatibilities(inner, inner), [], "{}", text);
        }
        for normalize in [false, true] {
            let stored = schema.stored(normalize);
            let again = parse(format, &stored, &[]).map_err(|e| TestCaseError::fail(format!("{stored}: {e}")))?;
            prop_assert_eq!(again.stored(normalize), stored);
            prop_assert!(again.same_as(&schema, true));
            prop_assert_eq!(again.fingerprint(), schema.fingerprint());
            prop_assert_eq!(again.columns(), schema.columns());
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_json_schema_is_compatible_with_itself(value in json_schema()) {
            holds(Format::Json, &value.to_string())?;
        }

        #[test]
        fn any_modern_json_schema_is_compatible_with_itself(value in json_schema()) {
            // Wrapped, so that a reference to the root finds it.
            let text = format!(r##"{{"$schema":"https://json-schema.org/draft/2019-09/schema","type":"object","properties":{{"p":{value}}}}}"##);
            holds(Format::Json, &text)?;
        }

        #[test]
        fn any_avro_schema_is_compatible_with_itself(value in avro_schema()) {
            let mut value = value;
            number_names(&mut value, &mut 0);
            holds(Format::Avro, &value.to_string())?;
        }

        #[test]
        fn no_text_panics(text in "[\\[{\"]{0,3}[a-z$#:,\\[\\]{}\"0-9 ]{0,40}") {
            for format in [Format::Json, Format::Avro, Format::Protobuf] {
                if let Ok(schema) = parse(format, &text, &[]) {
                    let _ = (schema.columns(), schema.bare(), schema.fingerprint());
                }
                let _ = locate(format, &text, "a");
            }
        }

        #[test]
        fn no_words_of_protobuf_panic(words in protobuf_words()) {
            let text = words.concat();
            if let Ok(schema) = parse(Format::Protobuf, &text, &[]) {
                let _ = (schema.columns(), schema.columns_of("a"));
                holds(Format::Protobuf, &text)?;
            }
            let _ = locate(Format::Protobuf, &text, "a");
        }

        #[test]
        fn any_protobuf_schema_is_compatible_with_itself(body in protobuf_body()) {
            holds(Format::Protobuf, &format!("syntax = \"proto3\"; package p; enum E {{ Z = 0; }} message M {{ {body} }} message N {{ M m = 1; }}"))?;
        }
    }
}
