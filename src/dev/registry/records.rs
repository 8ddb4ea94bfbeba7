//! The records of the topic `_schemas`, in Confluent's JSON, so that other tools can read the topic and ours can read
//! theirs.
//!
//! A key names its kind: `SCHEMA`, `CONFIG`, `MODE`, `DELETE_SUBJECT`, `CLEAR_SUBJECT`, `CONTEXT`, `NOOP`. A record
//! without a value takes away what its key names.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::model::product::{Compatibility, Format};

/// What one record of the topic says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// A version, as it is from now on; `None`: it is gone for good.
    Schema { subject: String, version: i32, value: Option<SchemaValue> },
    /// A subject's config, a context's, or without a subject the global one.
    Config { subject: Option<String>, value: Option<Config> },
    /// A mode, likewise.
    Mode { subject: Option<String>, value: Option<Mode> },
    /// All versions up to this one are deleted softly.
    DeleteSubject { subject: String, version: i32 },
    /// What is deleted softly in a subject or context, or anywhere, is gone for good.
    ClearSubject { subject: Option<String> },
    /// The context is in use.
    Context { context: String },
}

/// A version of a subject as the topic has it. Names and order of the fields are Confluent's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaValue {
    pub subject: String,
    pub version: i32,
    pub id: i32,
    #[serde(default, deserialize_with = "kind_or_avro", serialize_with = "kind_name")]
    pub schema_type: Option<Format>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    pub schema: String,
    #[serde(default)]
    pub deleted: bool,
}

/// A schema that another one names, by subject and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reference {
    pub name: String,
    pub subject: String,
    /// -1 in a request: the latest.
    pub version: i32,
}

/// What a user keeps beside a schema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Metadata {
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, BTreeSet<String>>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeSet::is_empty")]
    pub sensitive: BTreeSet<String>,
}

/// A subject's settings; what is not set comes from the defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate_fields: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate_rules: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compatibility_level: Option<Compatibility>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compatibility_group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_metadata: Option<Metadata>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub override_metadata: Option<Metadata>,
}

/// What may be done with a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Mode {
    Readwrite,
    Readonly,
    /// Read only, whatever a subject's own mode says.
    ReadonlyOverride,
    /// Schemas are written with the ids and versions that they have elsewhere.
    Import,
}

impl Mode {
    pub(super) const ALL: [Mode; 4] = [Mode::Readwrite, Mode::Readonly, Mode::ReadonlyOverride, Mode::Import];

    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::Readwrite => "READWRITE",
            Mode::Readonly => "READONLY",
            Mode::ReadonlyOverride => "READONLY_OVERRIDE",
            Mode::Import => "IMPORT",
        }
    }
}

/// The language that a registry's name means.
pub(super) fn format(name: &str) -> Option<Format> {
    [Format::Avro, Format::Json, Format::Protobuf].into_iter().find(|format| format.registry_name() == name)
}

/// Null as if it were not there.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

fn kind_or_avro<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Format>, D::Error> {
    let name = Option::<String>::deserialize(from)?;
    let unknown = || serde::de::Error::custom("a schemaType that is none");
    name.map(|name| format(&name).ok_or_else(unknown)).transpose()
}

#[expect(clippy::ref_option, reason = "serde's form")]
fn kind_name<S: serde::Serializer>(kind: &Option<Format>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.unwrap_or(Format::Avro).registry_name())
}

/// A key, with the fields of all kinds.
#[derive(Deserialize)]
struct Key {
    keytype: String,
    subject: Option<String>,
    version: Option<i32>,
    context: Option<String>,
}

impl Record {
    /// The key, as Confluent writes it: the kind first, `magic` last.
    pub(super) fn key(&self) -> Bytes {
        let with_subject = |kind: &str, subject: Option<&String>| match subject {
            Some(subject) => json!({"keytype": kind, "subject": subject, "magic": 0}),
            None => json!({"keytype": kind, "magic": 0}),
        };
        let key = match self {
            Record::Schema { subject, version, .. } => {
                json!({"keytype": "SCHEMA", "subject": subject, "version": version, "magic": 1})
            }
            Record::Config { subject, .. } => with_subject("CONFIG", subject.as_ref()),
            Record::Mode { subject, .. } => with_subject("MODE", subject.as_ref()),
            Record::DeleteSubject { subject, .. } => with_subject("DELETE_SUBJECT", Some(subject)),
            Record::ClearSubject { subject } => with_subject("CLEAR_SUBJECT", subject.as_ref()),
            Record::Context { context } => json!({"keytype": "CONTEXT", "tenant": "default", "context": context, "magic": 0}),
        };
        Bytes::from(key.to_string())
    }

    /// The value; `None` for a record that takes away.
    pub(super) fn value(&self) -> Option<Bytes> {
        let value = match self {
            Record::Schema { value, .. } => serde_json::to_value(value.as_ref()?).ok()?,
            Record::Config { subject, value } => {
                let mut value = serde_json::to_value(value.as_ref()?).ok()?;
                if let (Some(subject), Value::Object(fields)) = (subject, &mut value) {
                    fields.insert("subject".to_owned(), json!(subject));
                }
                value
            }
            Record::Mode { subject: Some(subject), value } => json!({"subject": subject, "mode": (*value)?.name()}),
            Record::Mode { subject: None, value } => json!({"mode": (*value)?.name()}),
            Record::DeleteSubject { subject, version } => json!({"subject": subject, "version": version}),
            Record::ClearSubject { subject: Some(subject) } => json!({"subject": subject}),
            Record::ClearSubject { subject: None } => json!({}),
            Record::Context { context } => json!({"tenant": "default", "context": context}),
        };
        Some(Bytes::from(value.to_string()))
    }

    /// Reads a record of the topic; `None` for what says nothing: a `NOOP`, or what no registry wrote.
    pub(super) fn read(key: &[u8], value: Option<&[u8]>) -> Option<Record> {
        let Key { keytype, subject, version, context } = serde_json::from_slice(key).ok()?;
        fn parsed<T: for<'a> Deserialize<'a>>(value: Option<&[u8]>) -> Option<Option<T>> {
            value.map_or(Some(None), |value| serde_json::from_slice(value).ok().map(Some))
        }
        Some(match keytype.as_str() {
            "SCHEMA" => {
                let value: Option<SchemaValue> = parsed(value)?;
                Record::Schema { subject: subject?, version: version?, value }
            }
            "CONFIG" => Record::Config { subject, value: parsed(value)? },
            "MODE" => {
                #[derive(Deserialize)]
                struct Value {
                    mode: Mode,
                }
                Record::Mode { subject, value: parsed::<Value>(value)?.map(|value| value.mode) }
            }
            "DELETE_SUBJECT" => {
                #[derive(Deserialize)]
                struct Value {
                    version: i32,
                }
                Record::DeleteSubject { subject: subject?, version: parsed::<Value>(value)??.version }
            }
            "CLEAR_SUBJECT" if value.is_some() => Record::ClearSubject { subject },
            "CONTEXT" if value.is_some() => Record::Context { context: context? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(record: &Record) -> String {
        let value = record.value().map_or("-".to_owned(), |value| String::from_utf8(value.to_vec()).unwrap());
        format!("{} {value}", String::from_utf8(record.key().to_vec()).unwrap())
    }

    fn schema(value: &str) -> Record {
        Record::read(br#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#, Some(value.as_bytes())).unwrap()
    }

    #[test]
    fn records_look_like_confluents() {
        let full = schema(
            r#"{"subject":"s","version":1,"id":7,"schemaType":"JSON","references":[{"name":"n","subject":"r","version":2}],"metadata":{"properties":{"a":"b"}},"schema":"{}","deleted":true}"#,
        );
        let config =
            Config { compatibility_level: Some(Compatibility::FullTransitive), normalize: Some(true), ..Config::default() };
        insta::assert_snapshot!([
            full,
            Record::Schema { subject: "s".into(), version: 2, value: None },
            Record::Config { subject: Some("s".into()), value: Some(config) },
            Record::Config { subject: None, value: None },
            Record::Mode { subject: None, value: Some(Mode::ReadonlyOverride) },
            Record::Mode { subject: Some("s".into()), value: Some(Mode::Import) },
            Record::DeleteSubject { subject: "s".into(), version: 3 },
            Record::ClearSubject { subject: None },
            Record::Context { context: ".c".into() },
        ].iter().map(text).collect::<Vec<_>>().join("\n"), @r#"
        {"keytype":"SCHEMA","subject":"s","version":1,"magic":1} {"subject":"s","version":1,"id":7,"schemaType":"JSON","references":[{"name":"n","subject":"r","version":2}],"metadata":{"properties":{"a":"b"}},"schema":"{}","deleted":true}
        {"keytype":"SCHEMA","subject":"s","version":2,"magic":1} -
        {"keytype":"CONFIG","subject":"s","magic":0} {"normalize":true,"compatibilityLevel":"FULL_TRANSITIVE","subject":"s"}
        {"keytype":"CONFIG","magic":0} -
        {"keytype":"MODE","magic":0} {"mode":"READONLY_OVERRIDE"}
        {"keytype":"MODE","subject":"s","magic":0} {"subject":"s","mode":"IMPORT"}
        {"keytype":"DELETE_SUBJECT","subject":"s","magic":0} {"subject":"s","version":3}
        {"keytype":"CLEAR_SUBJECT","magic":0} {}
        {"keytype":"CONTEXT","tenant":"default","context":".c","magic":0} {"tenant":"default","context":".c"}
        "#);
    }

    #[test]
    fn what_is_written_is_read() {
        let config = Config { alias: Some("a".into()), default_metadata: Some(Metadata::default()), ..Config::default() };
        for record in [
            schema(r#"{"subject":"s","version":1,"id":7,"schemaType":"AVRO","schema":"\"int\"","deleted":false}"#),
            Record::Schema { subject: "s".into(), version: 2, value: None },
            Record::Config { subject: None, value: Some(config) },
            Record::Mode { subject: Some("s".into()), value: None },
            Record::DeleteSubject { subject: "s".into(), version: 3 },
            Record::ClearSubject { subject: Some("s".into()) },
            Record::Context { context: ".c".into() },
        ] {
            assert_eq!(Record::read(&record.key(), record.value().as_deref()), Some(record));
        }
    }

    #[test]
    fn older_and_foreign_records_do_no_harm() {
        // Older registries leave the type out, and write null for what is not there.
        let old = schema(
            r#"{"subject":"s","version":1,"id":7,"md5":null,"references":null,"metadata":null,"schema":"\"int\"","more":1}"#,
        );
        let Record::Schema { value: Some(value), .. } = &old else { panic!("{old:?}") };
        assert_eq!((value.schema_type, value.deleted), (None, false));
        assert!(text(&old).contains(r#""schemaType":"AVRO""#));
        let old = Record::read(br#"{"keytype":"CONFIG","subject":null,"magic":0}"#, Some(br#"{"compatibilityLevel":"NONE"}"#));
        assert!(matches!(old, Some(Record::Config { subject: None, value: Some(_) })));
        for (key, value) in [
            (r#"{"keytype":"NOOP","magic":0}"#, None),
            ("nonsense", None),
            (r#"{"keytype":"SCHEMA","subject":"s","magic":1}"#, Some("{}")),
            (r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#, Some("[]")),
            (r#"{"keytype":"MODE","subject":"s","magic":0}"#, Some(r#"{"mode":"ODD"}"#)),
            (r#"{"keytype":"DELETE_SUBJECT","subject":"s","magic":0}"#, None),
            (r#"{"keytype":"LATER","magic":9}"#, Some("{}")),
        ] {
            assert_eq!(Record::read(key.as_bytes(), value.map(str::as_bytes)), None, "{key}");
        }
    }
}
