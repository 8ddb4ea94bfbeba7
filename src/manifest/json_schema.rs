//! The JSON Schema of the manifest format (draft-07), generated from the types in `document`.
//!
//! It stands in `schemas/mesh.schema.json` for editors; a test says when that file is stale.

use schemars::JsonSchema;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::document::{self, Kind};

/// The `apiVersion` of every document.
pub const API_VERSION: &str = "mesh/v1";

/// The whole schema: the envelope, and for each kind what its `spec` may say.
pub fn json_schema() -> Value {
    let (kinds, definitions) = parts();
    let names: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
    let by_kind: Vec<Value> = kinds
        .iter()
        .map(|(kind, _, spec)| {
            json!({
                "if": {"properties": {"kind": {"const": kind.name()}}, "required": ["kind"]},
                "then": {"properties": {"spec": spec}},
            })
        })
        .collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "mesh manifest",
        "description": "One document of a mesh manifest.",
        "type": "object",
        "properties": {
            "apiVersion": {"description": "The format's version.", "const": API_VERSION},
            "kind": {"description": "What the document declares.", "enum": names},
            "metadata": {"$ref": "#/definitions/Metadata"},
            "spec": {"description": "What it says, by kind."},
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "allOf": by_kind,
        "definitions": definitions,
    })
}

/// A kind with the schemas of its `metadata` and `spec`.
pub(super) type KindSchema = (Kind, Value, Value);

/// Each kind's schemas, and the definitions they refer to.
pub(super) fn parts() -> (Vec<KindSchema>, Map<String, Value>) {
    let mut generator = SchemaSettings::draft07().into_generator();
    let metadata = reference::<document::Metadata>(&mut generator);
    let mut kinds = Vec::new();
    for kind in Kind::ALL {
        let spec = match kind {
            Kind::DataProduct => reference::<document::DataProductSpec>(&mut generator),
            Kind::Domain => reference::<document::DomainSpec>(&mut generator),
            Kind::Team => reference::<document::TeamSpec>(&mut generator),
            Kind::Policy => reference::<document::PolicySpec>(&mut generator),
            Kind::Environment => reference::<document::EnvironmentSpec>(&mut generator),
        };
        kinds.push((kind, metadata.clone(), spec));
    }
    let mut definitions = generator.take_definitions(true);
    definitions.values_mut().for_each(without_null);
    definitions.sort_keys();
    (kinds, definitions)
}

fn reference<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

/// Takes null away from what may be left out: a field that is there has a value. Defaults of null go too.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(fields) => {
            fields.values_mut().for_each(without_null);
            if fields.get("default").is_some_and(Value::is_null) {
                fields.remove("default");
            }
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    fields.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(options)) = fields.get_mut("anyOf") {
                options.retain(|option| option != &json!({"type": "null"}));
                if options.len() == 1 {
                    let only = fields.remove("anyOf");
                    fields.insert("allOf".into(), only.unwrap_or_default());
                }
            }
        }
        _ => {}
    }
}
