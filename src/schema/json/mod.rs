//! JSON Schema: from the text to the form in which schemas are compared, and back to the text that the registry keeps.

mod columns;
mod compatibility;
mod legacy;
mod model;
mod modern;
mod uri;

use super::SchemaError;
use super::text::{self, Data, Value};

pub(super) use compatibility::incompatibilities;

/// A JSON Schema.
#[derive(Debug, Clone)]
pub(super) struct Json {
    value: Value,
    model: model::Model,
}

/// The drafts that read differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Draft {
    Four,
    Six,
    Seven,
    /// 2019-09 and 2020-12.
    Modern,
}

impl Draft {
    /// The draft that a `$schema` names; anything unknown counts as draft 7.
    fn of(value: &Value) -> Draft {
        let url = value.get("$schema").and_then(Value::as_str).unwrap_or("");
        let url = url.strip_suffix('#').unwrap_or(url);
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or("");
        match rest {
            "json-schema.org/draft/2019-09/schema" | "json-schema.org/draft/2020-12/schema" => Draft::Modern,
            _ if rest.starts_with("json-schema.org/draft-04/schema") => Draft::Four,
            _ if rest.starts_with("json-schema.org/draft-06/schema") => Draft::Six,
            _ => Draft::Seven,
        }
    }

    fn id_keyword(self) -> &'static str {
        if self == Draft::Four { "id" } else { "$id" }
    }
}

/// How many nodes a schema may have, references unfolded.
const MAX_NODES: usize = 200_000;

/// Reads a schema. Text after it counts for nothing, as in the registry.
pub(super) fn parse(text: &str, references: &[(&str, &str)]) -> Result<Json, SchemaError> {
    let (value, _) = text::read(text).map_err(SchemaError::malformed)?;
    let mut documents = Vec::new();
    for (name, text) in references {
        let within = |message: String| SchemaError::new(format!("in the referenced schema {name:?}: {message}"), None);
        let (document, _) = text::read(text).map_err(|e| within(e.message))?;
        documents.push(((*name).to_owned(), document));
    }
    let model = match &value.data {
        Data::Null => return Err(SchemaError::new("null is no schema", Some(value.span))),
        Data::Bool(allow) => single(if *allow { model::Shape::True } else { model::Shape::False }),
        Data::Object(_) if Draft::of(&value) == Draft::Modern => modern::load(&value, &documents)?,
        Data::Object(_) => legacy::load(&value, &documents)?,
        // The registry takes them as schemas that allow anything.
        Data::Number(_) | Data::String(_) | Data::Array(_) => single(model::Shape::Empty),
    };
    Ok(Json { value, model })
}

fn single(shape: model::Shape) -> model::Model {
    let mut model = model::Model::default();
    model.root = model.add(model::Node::new(shape));
    model
}

impl Json {
    /// The text without whitespace, with `normalize` also with sorted keys.
    pub(super) fn print(&self, normalize: bool) -> String {
        self.value.print(normalize)
    }
}
