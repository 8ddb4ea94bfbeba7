//! What the format says of a kind or a field, for `mesh explain KIND.field`: read from the JSON Schema that editors use.

use serde_json::Value;

use super::document::Kind;
use super::json_schema::parts;
use super::units::Form;
use super::walk::closest;

/// The documentation of a field or a kind as text; an error says what would be known there. `None`: the path does not begin
/// with a kind.
pub fn field(path: &str) -> Option<Result<String, String>> {
    let mut steps = path.split('.');
    let first = steps.next()?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(first))?;
    let (kinds, definitions) = parts();
    let (_, metadata, spec) = kinds.into_iter().find(|(of, _, _)| *of == kind)?;
    let mut schema = serde_json::json!({
        "description": kind.description(),
        "type": "object",
        "required": ["metadata", "spec"],
        "properties": {"metadata": described(metadata, "What names and describes it."), "spec": described(spec, "What it says.")},
    });
    let mut at = kind.name().to_owned();
    let (mut description, mut required) = (kind.description().to_owned(), false);
    for step in steps.map(|step| step.trim_end_matches("[]")).filter(|step| !step.is_empty()) {
        let here = inside(&schema, &definitions);
        let Some(next) = here["properties"].get(step).or(here.get("additionalProperties").filter(|other| other.is_object()))
        else {
            let names: Vec<&str> = here["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let known = match (closest(step, &names), names.is_empty()) {
                (Some(close), _) => format!("did you mean {at}.{close}?"),
                (None, true) => format!("{at} has no fields"),
                (None, false) => format!("{at} has {}", names.join(", ")),
            };
            return Some(Err(known));
        };
        required = strings(&here["required"]).contains(&step);
        let next = next.clone();
        if let Some(text) = text_of(&next, &definitions) {
            description = text;
        }
        schema = next;
        at = format!("{at}.{step}");
    }
    Some(Ok(render(&at, &schema, &definitions, &description, required)))
}

type Definitions = serde_json::Map<String, Value>;

fn described(mut schema: Value, description: &str) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("description".into(), description.into());
    }
    schema
}

/// A schema behind its references.
fn resolved(schema: &Value, definitions: &Definitions) -> Value {
    let mut schema = schema.clone();
    for _ in 0..8 {
        let target = schema["$ref"].as_str().or(schema["allOf"][0]["$ref"].as_str());
        let target = target.and_then(|target| definitions.get(target.strip_prefix("#/definitions/")?));
        match target {
            Some(target) => schema = target.clone(),
            None => break,
        }
    }
    schema
}

/// The map in which a schema's fields stand: itself, its items, or the one of several forms that is a map.
fn inside(schema: &Value, definitions: &Definitions) -> Value {
    let mut schema = resolved(schema, definitions);
    for _ in 0..8 {
        let next = match (&schema["items"], schema["anyOf"].as_array()) {
            (items @ Value::Object(_), _) => resolved(items, definitions),
            (_, Some(forms)) => {
                let map = forms.iter().map(|form| resolved(form, definitions)).find(|form| form["properties"].is_object());
                match map {
                    Some(map) => map,
                    None => break,
                }
            }
            _ => break,
        };
        schema = next;
    }
    schema
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn text_of(schema: &Value, definitions: &Definitions) -> Option<String> {
    let own = schema["description"].as_str().map(str::to_owned);
    own.or_else(|| resolved(schema, definitions)["description"].as_str().map(str::to_owned))
}

fn render(at: &str, schema: &Value, definitions: &Definitions, description: &str, required: bool) -> String {
    let whole = resolved(schema, definitions);
    let mut out =
        format!("{at}: {}{}\n\n{description}\n", type_of(&whole, definitions), if required { ", required" } else { "" });
    for (name, word) in [("minimum", "at least"), ("maximum", "at most"), ("pattern", "of the form")] {
        if let Some(bound) = whole.get(name).filter(|bound| !bound.is_null()) {
            let bound = bound.as_str().map_or_else(|| bound.to_string(), str::to_owned);
            out.push_str(&format!("{word} {bound}\n"));
        }
    }
    for (word, text) in choices(&whole) {
        out.push_str(format!("  {word:<22} {text}").trim_end());
        out.push('\n');
    }
    let here = inside(schema, definitions);
    let must = strings(&here["required"]);
    if let Some(fields) = here["properties"].as_object() {
        out.push_str("\nFields\n");
        for (name, field) in fields {
            let mark = if must.contains(&name.as_str()) { " (required)" } else { "" };
            let kind = type_of(&resolved(field, definitions), definitions);
            out.push_str(&format!("  {name}: {kind}{mark}\n"));
            if let Some(text) = text_of(field, definitions) {
                out.push_str(&format!("      {text}\n"));
            }
        }
    }
    out
}

/// The words that a field takes, each with what it means.
fn choices(schema: &Value) -> Vec<(String, String)> {
    let forms = schema["oneOf"].as_array().or(schema["anyOf"].as_array()).into_iter().flatten();
    let one = |form: &Value| {
        let text = form["description"].as_str().unwrap_or_default().to_owned();
        let words = form["const"].as_str().map(|word| vec![word]).unwrap_or_else(|| strings(&form["enum"]));
        words.into_iter().map(|word| (word.to_owned(), text.clone())).collect::<Vec<_>>()
    };
    let own = strings(&schema["enum"]).into_iter().map(|word| (word.to_owned(), String::new()));
    forms.flat_map(one).chain(own).collect()
}

/// What a field takes, in words.
fn type_of(schema: &Value, definitions: &Definitions) -> String {
    if let Some(form) = schema["format"].as_str().and_then(Form::named) {
        return form.noun().to_owned();
    }
    if !choices(schema).is_empty() {
        return "one of a few words".into();
    }
    match schema["type"].as_str() {
        Some("string") => "a text".into(),
        Some("boolean") => "true or false".into(),
        Some("integer") => "a whole number".into(),
        Some("number") => "a number".into(),
        Some("array") => format!("a list, each {}", type_of(&resolved(&schema["items"], definitions), definitions)),
        Some("object") if schema["properties"].is_object() => "a map".into(),
        Some("object") => {
            let of = type_of(&resolved(&schema["additionalProperties"], definitions), definitions);
            format!("a map of names, each {of}")
        }
        _ => match schema["anyOf"].as_array() {
            Some(forms) => {
                forms.iter().map(|form| type_of(&resolved(form, definitions), definitions)).collect::<Vec<_>>().join(" or ")
            }
            None => "any value".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn every_field_of_the_format_is_explained() {
        let mut seen = 0;
        let mut open = vec![("DataProduct".to_owned(), 0), ("Environment".to_owned(), 0), ("Policy".to_owned(), 0)];
        while let Some((path, depth)) = open.pop() {
            let text = field(&path).unwrap().unwrap();
            assert!(text.starts_with(&format!("{path}: ")) && text.lines().count() >= 3, "{text}");
            seen += 1;
            let fields = text.split("\nFields\n").nth(1).unwrap_or_default();
            let names = fields.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
            // An index is a sink again: without an end.
            let further = names.map(|line| line.trim().split(':').next().unwrap().to_owned()).filter(|_| depth < 6);
            open.extend(further.map(|name| (format!("{path}.{name}"), depth + 1)));
        }
        assert!(seen > 150, "{seen}");
    }

    #[test]
    fn a_field_is_explained_by_its_path() {
        let said = [
            "Team.spec",
            "dataproduct.spec.tests[].expect.at",
            "DataProduct.spec.derivation.on_bad_record",
            "DataProduct.spec.derivation",
        ];
        let said: String = said.into_iter().map(|path| field(path).unwrap().unwrap()).collect();
        insta::assert_snapshot!(said, @r##"
Team.spec: a map, required

What it says.

Fields
  display_name: a text
      The name that people read.
  channel: a text
      Where the team can be reached, such as `"#station-ops-oncall"`.
  slack_alias: a text
      Who is called there, such as `"@station-ops-oncall"`.
DataProduct.spec.tests.expect.at: a time such as `00:01:00` or `2023-07-17T00:00:00Z`

Its event time; not looked at when left out.
DataProduct.spec.derivation.on_bad_record: one of a few words

What happens to a record that can't be read or computed; `dead_letter` when left out.
  dead_letter            It goes to the dead-letter topic, and the rest goes on.
  stop                   The derivation stops.
DataProduct.spec.derivation: a map

The query that makes it of other products. Not together with `source`.

Fields
  sql: a text or a map (required)
      One SELECT over other products: the text, or `{file: ..}`.
  start: `earliest`, `latest` or a timestamp such as `2023-07-17T00:00:00Z`
      Where it starts to read when it has not run before: `earliest`, `latest` or a timestamp; `earliest` when left out.
  on_bad_record: one of a few words
      What happens to a record that can't be read or computed; `dead_letter` when left out.
"##);
        assert_eq!(
            field("DataProduct.spec.topic.partition"),
            Some(Err("did you mean DataProduct.spec.topic.partitions?".into()))
        );
        assert_eq!(field("DataProduct.spec.version.x"), Some(Err("DataProduct.spec.version has no fields".into())));
        assert_eq!(field("orders.spec"), None);
    }
}
