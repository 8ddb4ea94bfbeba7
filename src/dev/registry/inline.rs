//! An Avro schema that refers to others, written out as one text: each named type stands where it is first used.
//!
//! That is what `format=resolved` answers, and what a client that resolved the references itself looks up.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::schema::Reference;

/// How deep the text that results may nest.
const DEEPEST: usize = 400;

/// The text with everything written into it that it takes from `references`; `None` if it nests too deep.
pub(super) fn write_out(text: &str, references: &[Reference]) -> Option<String> {
    let mut writer = Writer { types: BTreeMap::new(), written: BTreeSet::new() };
    writer.collect_all(references, 0)?;
    let whole = writer.schema(&serde_json::from_str(text).ok()?, "", 0)?;
    Some(whole.to_string())
}

struct Writer {
    /// The named types of the references by full name, each with its namespace written into it.
    types: BTreeMap<String, Value>,
    /// The full names of those that stand in the text already.
    written: BTreeSet<String>,
}

impl Writer {
    fn collect_all(&mut self, references: &[Reference], depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        for reference in references {
            self.collect_all(&reference.references, depth + 1)?;
            self.collect(&serde_json::from_str(&reference.text).ok()?, "", 0)?;
        }
        Some(())
    }

    /// Notes the named types of a schema.
    fn collect(&mut self, schema: &Value, namespace: &str, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        match schema {
            Value::Array(branches) => branches.iter().try_for_each(|branch| self.collect(branch, namespace, depth + 1)),
            Value::Object(object) => {
                let mut inner = namespace.to_owned();
                if let Some((space, name)) = named(object, namespace) {
                    let mut whole = object.clone();
                    whole.insert("name".to_owned(), Value::String(name.clone()));
                    whole.insert("namespace".to_owned(), Value::String(space.clone()));
                    self.types.entry(full(&space, &name)).or_insert(Value::Object(whole));
                    inner = space;
                }
                parts(object).into_iter().try_for_each(|part| self.collect(part, &inner, depth + 1))
            }
            _ => Some(()),
        }
    }

    fn schema(&mut self, schema: &Value, namespace: &str, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        match schema {
            Value::String(name) => self.name(name, namespace, depth),
            Value::Array(branches) => {
                branches.iter().map(|branch| self.schema(branch, namespace, depth + 1)).collect::<Option<_>>().map(Value::Array)
            }
            Value::Object(object) => self.object(object, namespace, depth),
            other => Some(other.clone()),
        }
    }

    fn name(&mut self, name: &str, namespace: &str, depth: usize) -> Option<Value> {
        if PRIMITIVE.contains(&name) {
            return Some(Value::String(name.to_owned()));
        }
        let name = if name.contains('.') { name.to_owned() } else { full(namespace, name) };
        match self.types.get(&name).cloned() {
            Some(definition) if !self.written.contains(&name) => self.schema(&definition, "", depth + 1),
            _ => Some(Value::String(name)),
        }
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str, depth: usize) -> Option<Value> {
        let mut whole = object.clone();
        let mut inner = namespace.to_owned();
        if let Some((space, name)) = named(object, namespace) {
            self.written.insert(full(&space, &name));
            inner = space;
        } else if let Some(part) = object.get("type") {
            let is_complex = part == "array" || part == "map";
            whole.insert("type".to_owned(), if is_complex { part.clone() } else { self.schema(part, &inner, depth + 1)? });
        }
        for key in ["items", "values"] {
            if let Some(part) = object.get(key) {
                whole.insert(key.to_owned(), self.schema(part, &inner, depth + 1)?);
            }
        }
        if let Some(Value::Array(fields)) = object.get("fields") {
            let mut written = Vec::with_capacity(fields.len());
            for field in fields {
                let mut field = field.clone();
                if let Some(part) = field.get_mut("type") {
                    *part = self.schema(part, &inner, depth + 1)?;
                }
                written.push(field);
            }
            whole.insert("fields".to_owned(), Value::Array(written));
        }
        Some(Value::Object(whole))
    }
}

const PRIMITIVE: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// Namespace and name of a record, error, enum or fixed.
fn named(object: &Map<String, Value>, namespace: &str) -> Option<(String, String)> {
    let kind = object.get("type")?.as_str()?;
    if !["record", "error", "enum", "fixed"].contains(&kind) {
        return None;
    }
    let name = object.get("name")?.as_str()?;
    Some(match name.rsplit_once('.') {
        Some((space, name)) => (space.to_owned(), name.to_owned()),
        None => (object.get("namespace").and_then(Value::as_str).unwrap_or(namespace).to_owned(), name.to_owned()),
    })
}

fn full(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// The schemas within an object.
fn parts(object: &Map<String, Value>) -> Vec<&Value> {
    let fields = object.get("fields").and_then(Value::as_array).into_iter().flatten();
    let own = ["type", "items", "values"].into_iter().filter_map(|key| object.get(key));
    own.chain(fields.filter_map(|field| field.get("type"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str, references: Vec<Reference>) -> Reference {
        Reference { name: "-".into(), text: text.into(), references }
    }

    #[test]
    fn types_stand_where_they_are_first_used() {
        let size = reference(r#"{"type":"enum","name":"Size","namespace":"y","symbols":["S"]}"#, Vec::new());
        let address = reference(
            r#"{"type":"record","name":"x.A","fields":[{"name":"s","type":["null","y.Size"]},{"name":"i","type":{"type":"fixed","name":"In","size":2}}]}"#,
            vec![size],
        );
        let text = r#"{"type":"record","name":"U","namespace":"x","fields":[{"name":"p","type":"A"},{"name":"q","type":{"type":"array","items":"A"}},{"name":"r","type":{"type":"map","values":["y.Size","x.In"]}},{"name":"self","type":["null","U"]}]}"#;
        insta::assert_snapshot!(write_out(text, &[address]).unwrap(), @r#"{"type":"record","name":"U","namespace":"x","fields":[{"name":"p","type":{"type":"record","name":"A","fields":[{"name":"s","type":["null",{"type":"enum","name":"Size","namespace":"y","symbols":["S"]}]},{"name":"i","type":{"type":"fixed","name":"In","size":2}}],"namespace":"x"}},{"name":"q","type":{"type":"array","items":"x.A"}},{"name":"r","type":{"type":"map","values":["y.Size","x.In"]}},{"name":"self","type":["null","x.U"]}]}"#);
    }

    #[test]
    fn what_has_no_references_stays() {
        assert_eq!(write_out("\"string\"", &[]).as_deref(), Some("\"string\""));
        assert_eq!(
            write_out(r#"{"type":"array","items":{"type":"int","logicalType":"date"}}"#, &[]).as_deref(),
            Some(r#"{"type":"array","items":{"type":"int","logicalType":"date"}}"#)
        );
    }
}
