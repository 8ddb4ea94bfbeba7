//! The bodies of requests, read as generously as Confluent's registry reads them: a number where text is meant is taken as
//! its text, unknown fields are passed over, what follows the value is not looked at.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::errors::Refusal;
use super::records::{Metadata, Reference};

/// A schema that is registered, looked up or checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Posted {
    /// The number it shall have: the next one, given by who wants to be sure; -1 the latest; 0 where none is given.
    pub version: i32,
    /// The id it shall have, which only the mode IMPORT allows; -1 where none is given.
    pub id: i32,
    /// The language's name, as given.
    pub kind: String,
    pub references: Vec<Reference>,
    pub metadata: Option<Metadata>,
    /// Empty: that of the version before.
    pub text: String,
}

/// A field of a change: not named, or named with a value, or with null, which takes away.
pub(super) type Change<T> = Option<Option<T>>;

/// What is to change in a config.
#[derive(Debug, Default)]
pub(super) struct ConfigChange {
    pub alias: Change<String>,
    pub normalize: Change<bool>,
    pub validate_fields: Change<bool>,
    pub validate_rules: Change<bool>,
    pub compatibility: Change<String>,
    pub compatibility_group: Change<String>,
    pub default_metadata: Change<Metadata>,
    pub override_metadata: Change<Metadata>,
}

/// The JSON object of a body.
///
/// # Errors
/// 422 for no body, an empty one or null; 400 for what is no JSON or no object.
pub(super) fn object(body: &[u8]) -> Result<Fields, Refusal> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    match values.next() {
        Some(Ok(Value::Object(fields))) => Ok(Fields(fields)),
        None | Some(Ok(Value::Null)) => Err(Refusal::http(422, "The request needs a body, which must not be null")),
        Some(Ok(other)) => Err(malformed("the body", "an object", &other)),
        Some(Err(error)) => Err(Refusal::http(400, format!("The body is no JSON: {error}"))),
    }
}

/// A JSON object by its fields.
#[derive(Debug)]
pub(super) struct Fields(serde_json::Map<String, Value>);

impl Fields {
    /// Reads a schema. Rule sets are left out, as Confluent's community registry leaves them out.
    ///
    /// # Errors
    /// 400 for a field of the wrong type; 422 for tags within the schema, which are not served.
    pub(super) fn posted(&self) -> Result<Posted, Refusal> {
        for tags in ["schemaTagsToAdd", "schemaTagsToRemove"] {
            if self.get(tags).is_some_and(|tags| tags.as_array().is_none_or(|tags| !tags.is_empty())) {
                return Err(Refusal::invalid_schema(format!("Invalid schema: {tags} is not served by this registry")));
            }
        }
        Ok(Posted {
            version: self.number("version")?.unwrap_or(0),
            id: self.number("id")?.unwrap_or(-1),
            kind: self.text("schemaType")?.unwrap_or_else(|| "AVRO".to_owned()),
            references: self.references()?,
            metadata: self.metadata("metadata")?,
            text: self.text("schema")?.unwrap_or_default(),
        })
    }

    /// Reads a change of a config.
    ///
    /// # Errors
    /// 400 for a field of the wrong type.
    pub(super) fn config(&self) -> Result<ConfigChange, Refusal> {
        Ok(ConfigChange {
            alias: self.change("alias", Fields::text)?,
            normalize: self.change("normalize", Fields::flag)?,
            validate_fields: self.change("validateFields", Fields::flag)?,
            validate_rules: self.change("validateRules", Fields::flag)?,
            compatibility: self.change("compatibility", Fields::text)?,
            compatibility_group: self.change("compatibilityGroup", Fields::text)?,
            default_metadata: self.change("defaultMetadata", Fields::metadata)?,
            override_metadata: self.change("overrideMetadata", Fields::metadata)?,
        })
    }

    /// Reads a mode: not named, null, or a name.
    ///
    /// # Errors
    /// 400 for what is no name.
    pub(super) fn mode(&self) -> Result<Change<String>, Refusal> {
        self.change("mode", Fields::text)
    }

    fn change<T>(&self, key: &str, read: fn(&Fields, &str) -> Result<Option<T>, Refusal>) -> Result<Change<T>, Refusal> {
        if self.0.contains_key(key) { read(self, key).map(Some) } else { Ok(None) }
    }

    /// A field that is there and not null.
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Result<Option<String>, Refusal> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
            Some(other) => Err(malformed(key, "text", other)),
        }
    }

    fn number(&self, key: &str) -> Result<Option<i32>, Refusal> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = match value {
            Value::String(text) if text.trim().is_empty() => return Ok(None),
            Value::String(text) => text.trim().parse().ok(),
            #[expect(clippy::cast_possible_truncation, reason = "fractions are cut off; what is out of range is refused below")]
            Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)),
            _ => None,
        };
        number
            .and_then(|number| i32::try_from(number).ok())
            .map(Some)
            .ok_or_else(|| malformed(key, "a whole number of 32 bits", value))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, Refusal> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::Number(number)) => Ok(Some(number.as_i64() != Some(0))),
            Some(value @ Value::String(text)) => match text.trim() {
                "" => Ok(None),
                "true" | "True" | "TRUE" => Ok(Some(true)),
                "false" | "False" | "FALSE" => Ok(Some(false)),
                _ => Err(malformed(key, "true or false", value)),
            },
            Some(other) => Err(malformed(key, "true or false", other)),
        }
    }

    fn metadata(&self, key: &str) -> Result<Option<Metadata>, Refusal> {
        self.get(key).map(|value| typed(key, value)).transpose()
    }

    fn references(&self) -> Result<Vec<Reference>, Refusal> {
        let key = "references";
        let list = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(malformed(key, "a list", other)),
        };
        list.iter()
            .map(|reference| match reference {
                Value::Object(fields) => Fields(fields.clone()).reference(),
                other => Err(malformed(key, "objects", other)),
            })
            .collect()
    }

    fn reference(&self) -> Result<Reference, Refusal> {
        let (name, subject, version) = (self.text("name")?, self.text("subject")?, self.number("version")?);
        match (name, subject, version) {
            (Some(name), Some(subject), Some(version)) => Ok(Reference { name, subject, version }),
            _ => Err(Refusal::invalid_schema("Invalid schema: a reference needs a name, a subject and a version")),
        }
    }
}

fn typed<T: DeserializeOwned>(key: &str, value: &Value) -> Result<T, Refusal> {
    T::deserialize(value).map_err(|error| Refusal::http(400, format!("Cannot deserialize {key}: {error}")))
}

fn malformed(key: &str, wanted: &str, value: &Value) -> Refusal {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number that is none",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Refusal::http(400, format!("Cannot deserialize {key}: {wanted} is wanted, and it is {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(body: &str) -> Result<Posted, u16> {
        object(body.as_bytes()).and_then(|fields| fields.posted()).map_err(|refusal| refusal.status)
    }

    #[test]
    fn scalars_are_taken_for_each_other() {
        let read =
            posted(r#"{"schema":5,"version":"3","id":7.9,"schemaType":null,"surprise":{},"references":null} trailing"#).unwrap();
        assert_eq!((read.text.as_str(), read.version, read.id, read.kind.as_str()), ("5", 3, 7, "AVRO"));
        assert_eq!(posted(r#"{"id":"","version":null}"#).unwrap(), Posted { id: -1, kind: "AVRO".into(), ..Posted::default() });
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (body, status) in [
            ("", 422),
            (" \n", 422),
            ("null", 422),
            ("[]", 400),
            ("\"a\"", 400),
            ("{", 400),
            ("{not json", 400),
            (r#"{"schema":{}}"#, 400),
            (r#"{"version":"x"}"#, 400),
            (r#"{"version":2147483648}"#, 400),
            (r#"{"id":true}"#, 400),
            (r#"{"references":"x"}"#, 400),
            (r#"{"references":["x"]}"#, 400),
            (r#"{"references":[{"name":"x"}]}"#, 422),
            (r#"{"metadata":{"properties":[]}}"#, 400),
            (r#"{"schemaTagsToAdd":[{}]}"#, 422),
        ] {
            assert_eq!(posted(body), Err(status), "{body}");
        }
        assert_eq!(object(b"{\"schema\":\"\xff\"}").unwrap_err().status, 400);
        assert_eq!(object("[".repeat(100_000).as_bytes()).unwrap_err().status, 400);
    }

    #[test]
    fn a_change_tells_null_from_nothing() {
        let change = object(br#"{"alias":null,"normalize":"true","compatibility":"x"}"#).unwrap().config().unwrap();
        assert_eq!((change.alias, change.normalize, change.validate_rules), (Some(None), Some(Some(true)), None));
        assert!(object(br#"{"normalize":"maybe"}"#).unwrap().config().is_err());
    }
}
