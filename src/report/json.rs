//! Plans and diagnostics as JSON, for programs. Places carry line and column beside their bytes.

use serde_json::{Map, Value, json};

use super::text::summary;
use crate::model::{Diagnostic, Place, Severity, Texts};
use crate::plan::step::{Plan, SCHEMA_VERSION};

/// A plan as an object with `schema_version`.
pub fn plan_json(plan: &Plan, texts: &Texts) -> String {
    let mut tree = serde_json::to_value(plan).unwrap_or_default();
    locate(&mut tree, texts);
    if let Value::Object(fields) = &mut tree {
        fields.insert("summary".into(), summary(plan).into());
    }
    print(&tree)
}

/// Diagnostics alone, as an object with `schema_version`.
pub fn diagnostics_json(all: &[Diagnostic], texts: &Texts) -> String {
    let list: Vec<Value> = all.iter().map(|d| diagnostic(d, texts)).collect();
    print(&json!({"schema_version": SCHEMA_VERSION, "diagnostics": list}))
}

pub(super) fn print(tree: &Value) -> String {
    let mut text = serde_json::to_string_pretty(tree).unwrap_or_default();
    text.push('\n');
    text
}

fn diagnostic(diagnostic: &Diagnostic, texts: &Texts) -> Value {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let related: Vec<Value> =
        diagnostic.related.iter().map(|(at, label)| json!({"label": label, "place": place(at, texts)})).collect();
    json!({
        "code": diagnostic.code.0,
        "severity": severity,
        "message": diagnostic.message,
        "help": diagnostic.help,
        "place": diagnostic.place.as_ref().map(|at| place(at, texts)),
        "related": related,
    })
}

pub(super) fn place(place: &Place, texts: &Texts) -> Value {
    let (line, column) = texts.line_column(place);
    json!({"file": &*place.file, "line": line, "column": column, "start": place.start, "end": place.end})
}

/// Adds line and column to every place of the tree.
fn locate(tree: &mut Value, texts: &Texts) {
    match tree {
        Value::Array(items) => items.iter_mut().for_each(|item| locate(item, texts)),
        Value::Object(fields) => {
            if let Some(at) = fields.get("place").and_then(as_place) {
                fields.insert("place".into(), place(&at, texts));
            }
            fields.iter_mut().filter(|(name, _)| *name != "place").for_each(|(_, value)| locate(value, texts));
        }
        _ => {}
    }
}

fn as_place(value: &Value) -> Option<Place> {
    let fields: &Map<String, Value> = value.as_object()?;
    let byte = |name: &str| usize::try_from(fields.get(name)?.as_u64()?).ok();
    Some(Place::new(fields.get("file")?.as_str()?, byte("start")?..byte("end")?))
}
