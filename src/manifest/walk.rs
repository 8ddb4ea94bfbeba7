//! Checks a tree of nodes against the format, and makes JSON of it, every scalar of its declared type.
//!
//! The walk collects all that is wrong, each with its place, instead of stopping at the first. It reads the same JSON
//! Schema that editors use, so the two can't disagree. Scalars are read *as* the type that is declared for them: a text
//! that looks like a number is refused where a text is declared, never converted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value as Json};

use super::codes;
use super::document::Kind;
use super::json_schema::{API_VERSION, parts};
use super::units::Form;
use super::yaml::{Entry, Node, Resolved, Scalar, Style, Value, resolve};
use crate::model::diagnostic::{Code, Diagnostic, Diagnostics, Place};

/// The most complaints about one document; more help nobody.
const MAX_COMPLAINTS: usize = 100;

/// What a place of a document takes.
#[derive(Debug)]
enum Type {
    Any,
    Text {
        /// A template over records, which is not rendered now.
        per_record: bool,
    },
    Form(Form),
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
    },
    Choice(Vec<String>),
    List(Box<Type>),
    Map(Box<Type>),
    Struct(Box<Struct>),
    /// A scalar of the first, or else a map of the second.
    Either(Box<Type>, Box<Type>),
    Ref(String),
}

/// A map with known fields.
#[derive(Debug, Default)]
struct Struct {
    fields: BTreeMap<String, Field>,
    required: Vec<String>,
    /// Exactly one of the fields.
    one: bool,
    /// It says where a secret is, and no other value may stand in its place.
    secret: bool,
}

#[derive(Debug)]
struct Field {
    takes: Type,
    description: String,
}

/// The format, compiled from its JSON Schema once.
struct Format {
    kinds: BTreeMap<Kind, Type>,
    definitions: BTreeMap<String, Type>,
}

static FORMAT: LazyLock<Format> = LazyLock::new(|| {
    let (kinds, definitions) = parts();
    let envelope = |kind: Kind, metadata: &Json, spec: &Json| {
        let field = |takes, description: &str| Field { takes, description: description.into() };
        let fields = BTreeMap::from([
            ("apiVersion".to_owned(), field(Type::Choice(vec![API_VERSION.into()]), "the format's version, `mesh/v1`")),
            ("kind".to_owned(), field(Type::Choice(vec![kind.name().into()]), "what the document declares")),
            ("metadata".to_owned(), field(compile(metadata), "its name and description")),
            ("spec".to_owned(), field(compile(spec), "what it says")),
        ]);
        let required = fields.keys().cloned().collect();
        Type::Struct(Box::new(Struct { fields, required, one: false, secret: false }))
    };
    Format {
        kinds: kinds.iter().map(|(kind, metadata, spec)| (*kind, envelope(*kind, metadata, spec))).collect(),
        definitions: definitions.iter().map(|(name, schema)| (name.clone(), compile(schema))).collect(),
    }
});

/// A JSON Schema of the format as a type. It knows the forms that `json_schema` makes, no others.
fn compile(schema: &Json) -> Type {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/definitions/")) {
        return Type::Ref(name.into());
    }
    if let Some([only]) = schema["allOf"].as_array().map(Vec::as_slice) {
        return compile(only);
    }
    if let Some(options) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let words = options.iter().filter_map(|o| o["const"].as_str().map(|word| vec![word]).or_else(|| strings(o)));
        let words: Vec<String> = words.flatten().map(str::to_owned).collect();
        return match options.as_slice() {
            _ if !words.is_empty() => Type::Choice(words),
            [first, second] => Type::Either(Box::new(compile(first)), Box::new(compile(second))),
            _ => Type::Any,
        };
    }
    if let Some(words) = strings(schema) {
        return Type::Choice(words.into_iter().map(str::to_owned).collect());
    }
    if let Some(form) = schema["format"].as_str().and_then(Form::named) {
        return Type::Form(form);
    }
    match schema["type"].as_str() {
        Some("string") => Type::Text { per_record: schema["x-per-record"] == true },
        Some("boolean") => Type::Bool,
        Some("integer") => {
            let (low, high) = match schema["format"].as_str() {
                Some("int16") => (i16::MIN.into(), i16::MAX.into()),
                Some("int32") => (i32::MIN.into(), i32::MAX.into()),
                _ => (i64::MIN, i64::MAX),
            };
            let bound = |name: &str| schema[name].as_f64().map(|b| b as i64);
            Type::Int { min: bound("minimum").unwrap_or(low), max: bound("maximum").unwrap_or(high) }
        }
        Some("number") => Type::Number { min: schema["minimum"].as_f64().unwrap_or(f64::MIN) },
        Some("array") => Type::List(Box::new(compile(&schema["items"]))),
        Some("object") => compile_map(schema),
        _ => Type::Any,
    }
}

fn strings(schema: &Json) -> Option<Vec<&str>> {
    schema["enum"].as_array().map(|words| words.iter().filter_map(Json::as_str).collect())
}

fn compile_map(schema: &Json) -> Type {
    let Some(properties) = schema["properties"].as_object() else {
        return Type::Map(Box::new(compile(&schema["additionalProperties"])));
    };
    let field = |schema: &Json| {
        let description = schema["description"].as_str().unwrap_or_default().to_owned();
        Field { takes: compile(schema), description }
    };
    Type::Struct(Box::new(Struct {
        fields: properties.iter().map(|(name, schema)| (name.clone(), field(schema))).collect(),
        required: schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect(),
        one: schema["minProperties"] == 1 && schema["maxProperties"] == 1,
        secret: schema["x-secret"] == true,
    }))
}

/// What becomes of a scalar before it is read as its type.
pub(super) enum Rewritten {
    Same,
    /// It is this text now.
    Text(String),
    /// It is not known here, and whatever is declared is fine.
    Unknown,
    Refused {
        code: Code,
        message: String,
        help: String,
    },
}

/// What a walk found.
#[derive(Default)]
pub(super) struct Walked {
    /// The document; `None` when a complaint or an unknown scalar leaves a hole.
    pub(super) value: Option<Json>,
    /// The place of each part, by JSON pointer: a scalar's own, a list's or map's key.
    pub(super) places: BTreeMap<String, Place>,
    /// The scalars that were rewritten, by JSON pointer.
    pub(super) rewritten: BTreeSet<String>,
    /// Bytes that hold a secret, not to be shown.
    pub(super) secrets: Vec<Range<usize>>,
    pub(super) diagnostics: Diagnostics,
}

/// Checks a document of a kind; `rewrite` renders scalars first.
pub(super) fn walk(kind: Kind, document: &Node, file: &Arc<str>, rewrite: &dyn Fn(&str) -> Rewritten) -> Walked {
    let mut walk =
        Walk { file, rewrite, walked: Walked::default(), pointer: String::new(), unknown: false, hidden: false, more: 0 };
    let value = FORMAT.kinds.get(&kind).and_then(|takes| walk.value(takes, document, &document.bytes));
    if walk.more > 0 {
        let message = format!("{} more errors in this document", walk.more);
        let place = Place::new(file.clone(), document.bytes.clone());
        walk.walked.diagnostics.push(Diagnostic::error(codes::TOO_LARGE, place, message).help("mend those before it first"));
    }
    walk.walked.value = value.filter(|_| !walk.unknown && walk.walked.diagnostics.is_empty());
    walk.walked
}

struct Walk<'a> {
    file: &'a Arc<str>,
    rewrite: &'a dyn Fn(&str) -> Rewritten,
    walked: Walked,
    pointer: String,
    unknown: bool,
    /// Whether the scalar at hand came from variables: it may hold a secret, and messages must not repeat it.
    hidden: bool,
    /// Complaints that were left out.
    more: usize,
}

impl Walk<'_> {
    fn complain(&mut self, code: Code, bytes: &Range<usize>, message: String, help: impl Into<String>) {
        if self.walked.diagnostics.len() >= MAX_COMPLAINTS {
            self.more += 1;
            return;
        }
        let place = Place::new(self.file.clone(), bytes.clone());
        let help = help.into();
        let diagnostic = Diagnostic::error(code, place, message);
        self.walked.diagnostics.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
    }

    /// The node as JSON; `None` after a complaint. `key` is where it is named.
    fn value(&mut self, takes: &Type, node: &Node, key: &Range<usize>) -> Option<Json> {
        let shown = if matches!(node.value, Value::Scalar(_)) && !node.bytes.is_empty() { &node.bytes } else { key };
        self.walked.places.insert(self.pointer.clone(), Place::new(self.file.clone(), shown.clone()));
        match (takes, &node.value) {
            (Type::Ref(name), _) => self.value(FORMAT.definitions.get(name)?, node, key),
            (Type::Either(scalar, _), Value::Scalar(_)) => self.value(scalar, node, key),
            (Type::Either(_, map), Value::Map(_)) => self.value(map, node, key),
            (Type::Struct(known), Value::Map(entries)) => self.fields(known, entries, key),
            (Type::Struct(known), _) if known.secret => {
                self.walked.secrets.push(node.bytes.clone());
                let message = format!("{} holds a secret itself", self.path());
                self.complain(codes::SECRET_IN_TEXT, key, message, "name where it is found: `{env: NAME}` or `{file: PATH}`");
                None
            }
            (Type::List(item), Value::List(items)) => self.items(item, items),
            (Type::Any, Value::List(items)) => self.items(&Type::Any, items),
            (Type::Map(value), Value::Map(entries)) => self.entries(value, entries),
            (Type::Any, Value::Map(entries)) => self.entries(&Type::Any, entries),
            (Type::Struct(_) | Type::List(_) | Type::Map(_) | Type::Either(..), _) => self.wrong(takes, node, shown),
            (_, Value::Scalar(scalar)) => self.scalar(takes, node, scalar, shown),
            (_, Value::List(_) | Value::Map(_)) => self.wrong(takes, node, shown),
        }
    }

    fn items(&mut self, item: &Type, nodes: &[Node]) -> Option<Json> {
        let values: Vec<Option<Json>> = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| self.inside(&index.to_string(), |walk| walk.value(item, node, &node.bytes)))
            .collect();
        values.into_iter().collect::<Option<Vec<Json>>>().map(Json::Array)
    }

    fn entries(&mut self, value: &Type, entries: &[Entry]) -> Option<Json> {
        let values: Vec<Option<(String, Json)>> = entries
            .iter()
            .map(|e| self.inside(&e.key, |walk| walk.value(value, &e.node, &e.key_bytes)).map(|json| (e.key.clone(), json)))
            .collect();
        values.into_iter().collect::<Option<Map<String, Json>>>().map(Json::Object)
    }

    fn fields(&mut self, known: &Struct, entries: &[Entry], key: &Range<usize>) -> Option<Json> {
        let before = self.walked.diagnostics.len();
        let mut map = Some(Map::new());
        for entry in entries {
            let value = match known.fields.get(&entry.key) {
                Some(field) => self.inside(&entry.key, |walk| walk.value(&field.takes, &entry.node, &entry.key_bytes)),
                None => {
                    if known.secret {
                        self.walked.secrets.push(entry.node.bytes.clone());
                    }
                    self.unknown_field(known, entry)
                }
            };
            match (&mut map, value) {
                (Some(map), Some(value)) => _ = map.insert(entry.key.clone(), value),
                _ => map = None,
            }
        }
        for name in known.required.iter().filter(|name| entries.iter().all(|e| e.key != **name)) {
            let what = known.fields.get(name).map_or("", |field| &field.description);
            let message = format!("{} has no `{name}`", self.path());
            self.complain(codes::MISSING_FIELD, key, message, format!("add `{name}`: {}", first_sentence(what)));
            map = None;
        }
        if known.one && entries.len() != 1 && self.walked.diagnostics.len() == before {
            let names: Vec<String> = known.fields.keys().map(|name| format!("`{name}`")).collect();
            let found = if entries.is_empty() { "none".to_owned() } else { format!("{} of them", entries.len()) };
            let message = format!("{} takes one of {}, and names {found}", self.path(), names.join(", "));
            self.complain(codes::ONE_OF, key, message, "name exactly one");
            map = None;
        }
        map.map(Json::Object)
    }

    fn unknown_field(&mut self, known: &Struct, entry: &Entry) -> Option<Json> {
        if entry.key == "<<" {
            let message = "a merge key".to_owned();
            self.complain(
                codes::UNSUPPORTED_YAML,
                &entry.key_bytes,
                message,
                "write the fields out, or name a whole value by an alias",
            );
            return None;
        }
        let names: Vec<&str> = known.fields.keys().map(String::as_str).collect();
        let help = match closest(&entry.key, &names) {
            Some(close) => format!("did you mean `{close}`?"),
            // A test's row: its columns are taken for its fields.
            None if matches!(known.fields.get("value"), Some(Field { takes: Type::Any, .. })) => {
                format!(
                    "a column stands under `value`: {{value: {{{}: ..}}}}; known here: {}",
                    shorten(&entry.key),
                    names.join(", ")
                )
            }
            None => format!("known here: {}", names.join(", ")),
        };
        let message = format!("unknown field `{}` in {}", shorten(&entry.key), self.path());
        self.complain(codes::UNKNOWN_FIELD, &entry.key_bytes, message, help);
        None
    }

    fn inside<T>(&mut self, step: &str, visit: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(&step.replace('~', "~0").replace('/', "~1"));
        let result = visit(self);
        self.pointer.truncate(length);
        result
    }

    /// The pointer as people write it: `spec.topic.partitions`, `spec.key[0]`.
    fn path(&self) -> String {
        let mut path = String::new();
        for step in self.pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            if step.bytes().all(|b| b.is_ascii_digit()) && !step.is_empty() {
                path.push_str(&format!("[{step}]"));
            } else {
                path.push_str(if path.is_empty() { "" } else { "." });
                path.push_str(&shorten(&step));
            }
        }
        if path.is_empty() { "the document".into() } else { format!("`{path}`") }
    }

    fn scalar(&mut self, takes: &Type, node: &Node, scalar: &Scalar, shown: &Range<usize>) -> Option<Json> {
        if has_credentials(&scalar.text) {
            self.walked.secrets.push(node.bytes.clone());
        }
        let rewritten = match takes {
            Type::Text { per_record: true } => Rewritten::Same,
            _ => (self.rewrite)(&scalar.text),
        };
        let scalar = match rewritten {
            Rewritten::Same => return self.read(takes, node, scalar, shown),
            Rewritten::Unknown => {
                self.unknown = true;
                return Some(Json::Null);
            }
            Rewritten::Refused { code, message, help } => {
                let message = format!("{}: {message}", self.path());
                self.complain(code, shown, message, help);
                return None;
            }
            Rewritten::Text(text) => Scalar { text, style: scalar.style },
        };
        self.walked.rewritten.insert(self.pointer.clone());
        // The result is the value itself where a number or a word is declared, and a text where a text is.
        let style = match takes {
            Type::Text { .. } | Type::Any | Type::Form(_) => Style::Quoted,
            _ => Style::Plain,
        };
        let made = Node { bytes: node.bytes.clone(), value: Value::Scalar(Scalar { style, ..scalar.clone() }) };
        self.hidden = true;
        let value = self.read(takes, &made, &Scalar { style, ..scalar }, shown);
        self.hidden = false;
        value
    }

    /// What stands at a node, for messages.
    fn found(&self, node: &Node) -> String {
        match &node.value {
            _ if self.hidden => "what its variables make of it".into(),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
            Value::Scalar(Scalar { text, style: Style::Plain }) => match resolve(text) {
                Resolved::Null => "nothing".into(),
                Resolved::Bool(value) => format!("{value}"),
                Resolved::Int(_) | Resolved::Float(_) | Resolved::Doubtful(_) => format!("the number {}", shorten(text)),
                Resolved::Text => format!("the text `{}`", shorten(text)),
            },
            Value::Scalar(scalar) => format!("the text `{}`", shorten(&scalar.text)),
        }
    }

    fn read(&mut self, takes: &Type, node: &Node, scalar: &Scalar, shown: &Range<usize>) -> Option<Json> {
        let plain = (scalar.style == Style::Plain).then(|| resolve(&scalar.text));
        let text = scalar.text.as_str();
        match (takes, plain) {
            (Type::Any, Some(Resolved::Null)) => Some(Json::Null),
            (Type::Any, Some(Resolved::Bool(value))) | (Type::Bool, Some(Resolved::Bool(value))) => Some(value.into()),
            (Type::Any, Some(Resolved::Int(value))) => Some(value.into()),
            (Type::Any, Some(Resolved::Float(value))) => Some(value.into()),
            (Type::Any, Some(Resolved::Text) | None) => Some(text.into()),
            (Type::Form(Form::Text), Some(Resolved::Null)) => self.wrong(takes, node, shown),
            (Type::Form(Form::Text), _) => Some(text.into()),
            (Type::Any | Type::Int { .. } | Type::Number { .. }, Some(Resolved::Doubtful(why))) => {
                let message = format!("the number in {} {why}", self.path());
                let help = if matches!(takes, Type::Any) { "quote it if it is a text" } else { "write it plainly, in digits" };
                self.complain(codes::DOUBTFUL_NUMBER, shown, message, help);
                None
            }
            (Type::Text { .. }, Some(Resolved::Text) | None) => Some(text.into()),
            (Type::Text { .. }, Some(Resolved::Bool(_) | Resolved::Int(_) | Resolved::Float(_) | Resolved::Doubtful(_))) => {
                let message = format!("{} takes a text, not {}", self.path(), self.found(node));
                self.complain(codes::WRONG_TYPE, shown, message, format!("quote it: \"{}\"", shorten(text)));
                None
            }
            (Type::Int { min, max }, Some(Resolved::Int(value))) if (*min..=*max).contains(&value) => Some(value.into()),
            (Type::Int { min, max }, Some(Resolved::Int(_))) => {
                let range = if *max >= i16::MAX.into() && *max != 100_000 {
                    format!("at least {min}")
                } else {
                    format!("{min} to {max}")
                };
                let message = format!("{} takes {range}, not {}", self.path(), self.found(node));
                self.complain(codes::BAD_VALUE, shown, message, "");
                None
            }
            (Type::Number { min }, Some(Resolved::Int(_) | Resolved::Float(_))) => {
                let value: f64 = text.parse().unwrap_or(f64::MIN);
                if value >= *min {
                    return Some(value.into());
                }
                let message = format!("{} takes at least {min}, not {}", self.path(), self.found(node));
                self.complain(codes::BAD_VALUE, shown, message, "");
                None
            }
            (_, Some(Resolved::Null)) => self.wrong(takes, node, shown),
            (Type::Choice(words), _) => self.choose(words, node, text, shown),
            (Type::Form(form), _) if form.fits(text) => Some(text.into()),
            (Type::Form(form), _) => {
                let message = format!("{} takes {}, not {}", self.path(), form.noun(), self.found(node));
                self.complain(codes::BAD_VALUE, shown, message, "");
                None
            }
            _ => self.wrong(takes, node, shown),
        }
    }

    fn choose(&mut self, words: &[String], node: &Node, text: &str, shown: &Range<usize>) -> Option<Json> {
        if words.iter().any(|word| word == text) {
            return Some(text.into());
        }
        let names: Vec<&str> = words.iter().map(String::as_str).collect();
        let known = format!("one of {}", names.join(", "));
        let help = closest(text, &names).map_or(known, |close| format!("did you mean `{close}`?"));
        let message = format!("{} does not know {}", self.path(), self.found(node));
        self.complain(codes::UNKNOWN_VALUE, shown, message, help);
        None
    }

    fn wrong(&mut self, takes: &Type, node: &Node, shown: &Range<usize>) -> Option<Json> {
        if node.is_nothing() {
            let message = format!("{} has no value", self.path());
            self.complain(codes::WRONG_TYPE, shown, message, "give it one, or leave the field out");
            return None;
        }
        let wanted = match takes {
            Type::Any | Type::Ref(_) => "a value".into(),
            Type::Text { .. } => "a text".into(),
            Type::Form(form) => form.noun().to_owned(),
            Type::Bool => "true or false".into(),
            Type::Int { .. } => "a whole number".into(),
            Type::Number { .. } => "a number".into(),
            Type::Choice(words) => format!("one of {}", words.join(", ")),
            Type::List(_) => "a list".into(),
            Type::Map(_) => "a map".into(),
            Type::Struct(known) => {
                format!("a map with {}", known.fields.keys().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "))
            }
            Type::Either(..) => "a text or a map".into(),
        };
        let help = match (takes, node.text().map(str::to_lowercase).as_deref()) {
            (Type::Bool, Some("yes" | "on" | "y")) => "YAML 1.2 writes `true`".into(),
            (Type::Bool, Some("no" | "off" | "n")) => "YAML 1.2 writes `false`".into(),
            (Type::Bool | Type::Int { .. } | Type::Number { .. }, Some(text)) if resolve(text) != Resolved::Text => {
                "write it without quotes".to_owned()
            }
            (Type::List(_), Some(text)) => format!("write [{}]", shorten(text)),
            _ => String::new(),
        };
        let message = format!("{} takes {wanted}, not {}", self.path(), self.found(node));
        self.complain(codes::WRONG_TYPE, shown, message, help);
        None
    }
}

/// Whether a text is a URL with a user's name or password in it.
fn has_credentials(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@')))
}

/// A text's first line, at most 40 characters of it.
fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    let short: String = line.chars().filter(|c| !c.is_control()).take(40).collect();
    if short.len() < text.len() { format!("{short}..") } else { short }
}

/// A description's first sentence, as the rest of another.
fn first_sentence(description: &str) -> String {
    let sentence = description.split_once(". ").map_or(description, |(first, _)| first).trim_end_matches('.');
    let mut chars = sentence.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

/// The name that a misspelled one was probably meant to be.
pub fn closest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    if name.len() > 100 {
        return None;
    }
    let folded = |s: &str| s.to_lowercase().replace(['-', '_'], "");
    let distance = |other: &str| strsim::damerau_levenshtein(&folded(name), &folded(other));
    let allowed = 1 + name.chars().count() / 4;
    known.iter().map(|other| (distance(other), *other)).filter(|(d, _)| *d <= allowed).min().map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;

    /// A document's complaints, one a line, and its value when there are none.
    fn check(kind: Kind, text: &str) -> String {
        let (documents, refusals) = yaml::read(text);
        assert_eq!(refusals, vec![]);
        let walked = walk(kind, &documents[0], &"x.yaml".into(), &|_| Rewritten::Same);
        let show = |d: &Diagnostic| {
            let place = d.place.as_ref().unwrap();
            let help = d.help.as_ref().map(|help| format!(" / {help}")).unwrap_or_default();
            format!("{} {:?} {}{help}\n", d.code, &text[place.start..place.end], d.message)
        };
        match walked.value {
            Some(value) => value.to_string(),
            None => walked.diagnostics.iter().map(show).collect(),
        }
    }

    fn product(spec: &str) -> String {
        check(
            Kind::DataProduct,
            &format!("apiVersion: mesh/v1\nkind: DataProduct\nmetadata: {{name: a}}\nspec: {{shape: stream, {spec}}}\n"),
        )
    }

    #[test]
    fn a_good_document_becomes_json() {
        insta::assert_snapshot!(product("version: 1.0.0, topic: {partitions: 6, config: {retention.ms: -1, cleanup.policy: compact}}, adopt: true"), @r#"{"apiVersion":"mesh/v1","kind":"DataProduct","metadata":{"name":"a"},"spec":{"shape":"stream","version":"1.0.0","topic":{"partitions":6,"config":{"retention.ms":"-1","cleanup.policy":"compact"}},"adopt":true}}"#);
        insta::assert_snapshot!(product("derivation: {sql: SELECT 1, start: earliest}, time: {disorder: 1m}"), @r#"{"apiVersion":"mesh/v1","kind":"DataProduct","metadata":{"name":"a"},"spec":{"shape":"stream","derivation":{"sql":"SELECT 1","start":"earliest"},"time":{"disorder":"1m"}}}"#);
        insta::assert_snapshot!(product("derivation: {sql: {file: a.sql}}, tests: [{name: a, given: {b: [{at: 00:00:00, value: {x: NO, y: 1.50, z: ~}}]}, expect: []}]"), @r#"{"apiVersion":"mesh/v1","kind":"DataProduct","metadata":{"name":"a"},"spec":{"shape":"stream","derivation":{"sql":{"file":"a.sql"}},"tests":[{"name":"a","given":{"b":[{"at":"00:00:00","value":{"x":"NO","y":1.5,"z":null}}]},"expect":[]}]}}"#);
    }

    #[test]
    fn every_complaint_is_collected() {
        insta::assert_snapshot!(product("version: 1.0, topics: {}, adopt: NO, lifecycle: activ, topic: {partitions: 012, replication: 0, config: 3}, key: id"), @r#"
M0103 "1.0" `spec.version` takes a text, not the number 1.0 / quote it: "1.0"
M0102 "topics" unknown field `topics` in `spec` / did you mean `topic`?
M0103 "NO" `spec.adopt` takes true or false, not the text `NO` / YAML 1.2 writes `false`
M0105 "activ" `spec.lifecycle` does not know the text `activ` / did you mean `active`?
M0108 "012" the number in `spec.topic.partitions` begins with 0, which some YAML readers drop and others take for octal / write it plainly, in digits
M0107 "0" `spec.topic.replication` takes at least 1, not the number 0
M0103 "3" `spec.topic.config` takes a map, not the number 3
M0103 "id" `spec.key` takes a list, not the text `id` / write [id]
"#);
        insta::assert_snapshot!(product("topic: {partitions: 12345678901234567890123, replication: \"3\"}, time: {disorder: 1 minute}, owner: {contact: x}"), @r#"
M0108 "12345678901234567890123" the number in `spec.topic.partitions` is too large for 64 bits / write it plainly, in digits
M0103 "\"3\"" `spec.topic.replication` takes a whole number, not the text `3` / write it without quotes
M0107 "1 minute" `spec.time.disorder` takes a span of time such as `500ms`, `60s`, `1m`, `2h` or `7d`, not the text `1 minute`
M0104 "owner" `spec.owner` has no `name` / add `name`: a person's name
"#);
        insta::assert_snapshot!(product("topic: , source: {}, schema: [], tags: a, deletion: no"), @r#"
M0103 "topic" `spec.topic` has no value / give it one, or leave the field out
M0116 "source" `spec.source` takes one of `generator`, `http`, `poll`, `replay`, and names none / name exactly one
M0103 "schema" `spec.schema` takes a map with `compatibility`, `file`, `format`, `framing`, not a list
M0102 "tags" unknown field `tags` in `spec` / known here: access, adopt, api, deletion, derivation, domain, key, lifecycle, owner, quality, schema, shape, sinks, slo, source, team, tests, time, topic, version, views
M0105 "no" `spec.deletion` does not know the text `no` / one of protect, allow
"#);
        insta::assert_snapshot!(product("tests: [{name: x, given: {a: [{id: 1}]}, expect: []}]"), @r#"M0102 "id" unknown field `id` in `spec.tests[0].given.a[0]` / a column stands under `value`: {value: {id: ..}}; known here: at, delete, key, value, watermark"#);
        insta::assert_snapshot!(product("source: {replay: {file: a}, http: {path: /}}, <<: {a: b}, derivation: {sql: [1]}"), @r#"
M0116 "source" `spec.source` takes one of `generator`, `http`, `poll`, `replay`, and names 2 of them / name exactly one
M0111 "<<" a merge key / write the fields out, or name a whole value by an alias
M0103 "sql" `spec.derivation.sql` takes a text or a map, not a list
"#);
        insta::assert_snapshot!(product("topic: {partitions: 100001}, source: {replay: {file: a, speed: -1, at: yesterday, envelope: yes}}"), @r#"
M0107 "100001" `spec.topic.partitions` takes 1 to 100000, not the number 100001
M0107 "-1" `spec.source.replay.speed` takes at least 0, not the number -1
M0107 "yesterday" `spec.source.replay.at` takes a timestamp such as `2023-07-17T00:00:00Z`, not the text `yesterday`
M0103 "yes" `spec.source.replay.envelope` takes true or false, not the text `yes` / YAML 1.2 writes `true`
"#);
    }

    #[test]
    fn a_secret_is_not_repeated() {
        let text = "apiVersion: mesh/v1\nkind: Environment\nmetadata: {name: a}\nspec:\n  registry: {url: http://r, basic: {username: u, password: hunter2}}\n";
        insta::assert_snapshot!(check(Kind::Environment, text), @r#"M0117 "password" `spec.registry.basic.password` holds a secret itself / name where it is found: `{env: NAME}` or `{file: PATH}`"#);
    }

    #[test]
    fn misspelled_names_find_their_way() {
        assert_eq!(closest("partition", &["name", "partitions"]), Some("partitions"));
        assert_eq!(closest("onBadRecord", &["on_bad_record", "start"]), Some("on_bad_record"));
        assert_eq!(closest("xyz", &["name", "partitions"]), None);
    }
}
