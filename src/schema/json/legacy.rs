//! Reads drafts 4, 6 and 7 into nodes, by the rules of the library that the registry reads them with.
//!
//! A `$ref` hides its siblings. Its target is read apart from where it stands in the document, so that a schema that is
//! referred to exists twice; references to one target share it.

use std::collections::{HashMap, HashSet};

use super::model::{ArrayShape, Criterion, Id, Model, Node, Numeric, ObjectShape, Pattern, Shape, Text};
use super::{Draft, MAX_NODES, uri};
use crate::schema::SchemaError;
use crate::schema::text::{Data, MAX_NESTING, Number, Object, Value};

const NUMBER_KEYS: &[&str] = &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
const STRING_KEYS: &[&str] = &["minLength", "maxLength", "pattern", "format"];
const OBJECT_KEYS: &[&str] = &[
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "dependencies",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
];
const ARRAY_KEYS: &[&str] = &["items", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains"];

/// Formats that count when two subschemas are told apart, by the first draft that knows them.
const FORMATS: &[(&str, Draft)] = &[
    ("date-time", Draft::Four),
    ("uri", Draft::Four),
    ("email", Draft::Four),
    ("ipv4", Draft::Four),
    ("ipv6", Draft::Four),
    ("hostname", Draft::Four),
    ("json-pointer", Draft::Six),
    ("uri-reference", Draft::Six),
    ("uri-template", Draft::Six),
    ("date", Draft::Seven),
    ("time", Draft::Seven),
    ("regex", Draft::Seven),
    ("relative-json-pointer", Draft::Seven),
];

/// Reads a schema and what it refers to. `documents` are the referenced texts by name.
pub(super) fn load(root: &Value, documents: &[(String, Value)]) -> Result<Model, SchemaError> {
    let draft = Draft::of(root);
    if let Some(url) = root.get("$schema").filter(|url| url.as_str().is_none()) {
        return Err(SchemaError::new("\"$schema\" is a string", Some(url.span.clone())));
    }
    let base = root.get(draft.id_keyword()).and_then(Value::as_str);
    let mut by_uri = HashMap::new();
    for (name, document) in documents {
        by_uri.insert(uri::resolve(base, name), document);
    }
    let mut loader = Loader { draft, by_uri, model: Model::default(), knots: HashMap::new(), ids: HashMap::new(), depth: 0 };
    let root = loader.schema(root, &Scope { document: root, base: None, own: true })?;
    loader.model.root = root;
    Ok(loader.model)
}

/// Where a schema stands.
#[derive(Clone)]
struct Scope<'a> {
    /// The root of its document.
    document: &'a Value,
    base: Option<String>,
    /// Whether the text is the user's own, so that places in it mean something.
    own: bool,
}

struct Loader<'a> {
    draft: Draft,
    by_uri: HashMap<String, &'a Value>,
    model: Model,
    /// Slots of targets by their URI.
    knots: HashMap<String, usize>,
    /// Schemas with an `$id`, by document and that text, each with its base.
    ids: HashMap<*const Value, HashMap<String, (&'a Value, Option<String>)>>,
    depth: usize,
}

type Read<T> = Result<T, SchemaError>;

#[cold]
fn wrong<T>(message: impl Into<String>, at: &Value, scope: &Scope<'_>) -> Read<T> {
    Err(SchemaError::new(message, scope.own.then(|| at.span.clone())))
}

/// A schema object on its way into nodes: its keywords, less those that a node was made of.
struct Keywords<'v> {
    object: &'v Object,
    taken: HashSet<&'static str>,
}

impl<'v> Keywords<'v> {
    fn take(&mut self, key: &'static str) -> Option<&'v Value> {
        let found = self.object.get(key);
        if found.is_some() {
            self.taken.insert(key);
        }
        found
    }

    /// Whether any of the keys is there and not yet taken; takes them all when so.
    fn any(&mut self, keys: &'static [&'static str], draft: Draft) -> bool {
        let known = |key: &&'static str| !(draft == Draft::Four && matches!(*key, "contains" | "propertyNames"));
        let found = keys.iter().copied().filter(known).any(|key| self.object.has(key) && !self.taken.contains(key));
        if found {
            self.take_all(keys);
        }
        found
    }

    fn take_all(&mut self, keys: &'static [&'static str]) {
        for key in keys {
            self.take(key);
        }
    }
}

impl<'a> Loader<'a> {
    fn schema(&mut self, value: &'a Value, scope: &Scope<'a>) -> Read<Id> {
        if self.depth > MAX_NESTING || self.model.nodes.len() > MAX_NODES {
            return wrong("the schema and what it refers to nest too deep", value, scope);
        }
        match &value.data {
            Data::Bool(true) => Ok(self.model.add(Node::new(Shape::True))),
            Data::Bool(false) => Ok(self.model.add(Node::new(Shape::False))),
            Data::Object(object) => {
                self.depth += 1;
                let inside = self.inside(value, scope)?;
                let id = self.object_schema(object, &inside)?;
                self.depth -= 1;
                Ok(id)
            }
            _ => wrong(format!("a schema is an object or a boolean, not {}", value.kind()), value, scope),
        }
    }

    fn inside(&self, value: &Value, scope: &Scope<'a>) -> Read<Scope<'a>> {
        Ok(Scope { base: self.base_of(value, scope)?, ..scope.clone() })
    }

    /// The base that a schema object's own id gives to what stands in it.
    fn base_of(&self, value: &Value, scope: &Scope<'_>) -> Read<Option<String>> {
        match value.get(self.draft.id_keyword()) {
            Some(Value { data: Data::String(id), span }) => match uri::fault(id) {
                None => Ok(Some(uri::resolve(scope.base.as_deref(), id))),
                Some(fault) => Err(SchemaError::new(fault, scope.own.then(|| span.clone()))),
            },
            _ => Ok(scope.base.clone()),
        }
    }

    fn object_schema(&mut self, object: &'a Object, scope: &Scope<'a>) -> Read<Id> {
        self.check_annotations(object, scope)?;
        let mut keywords = Keywords { object, taken: HashSet::new() };
        if let Some(reference) = keywords.take("$ref") {
            return self.reference(reference, &keywords, scope);
        }
        let mut shapes = Vec::new();
        self.values(&mut keywords, scope, &mut shapes)?;
        self.combinations(&mut keywords, scope, &mut shapes)?;
        if let Some(kind) = keywords.take("type") {
            shapes.push(self.typed(kind, &mut keywords, scope)?);
        }
        self.untyped(&mut keywords, scope, &mut shapes)?;
        Ok(self.finish(&keywords, shapes))
    }

    /// One node of all that an object says.
    fn finish(&mut self, keywords: &Keywords<'_>, mut shapes: Vec<Shape>) -> Id {
        let shape = match shapes.len() {
            0 => Shape::Empty,
            1 => shapes.remove(0),
            _ => {
                let branches = shapes.into_iter().map(|shape| self.model.add(Node::new(shape))).collect();
                Shape::Combined { criterion: Criterion::All, branches, generated: false }
            }
        };
        self.model.add(Node { shape, has_default: keywords.object.has("default"), rest: rest(keywords) })
    }

    fn values(&mut self, keywords: &mut Keywords<'a>, scope: &Scope<'a>, shapes: &mut Vec<Shape>) -> Read<()> {
        if let Some(values) = keywords.take("enum") {
            match values.as_array() {
                Some(values) => shapes.push(Shape::Enum(values.to_vec())),
                None => return wrong("\"enum\" is an array", values, scope),
            }
        }
        if self.draft != Draft::Four
            && let Some(value) = keywords.take("const")
        {
            shapes.push(Shape::Const(Box::new(value.clone())));
        }
        Ok(())
    }

    fn combinations(&mut self, keywords: &mut Keywords<'a>, scope: &Scope<'a>, shapes: &mut Vec<Shape>) -> Read<()> {
        for (key, criterion) in [("allOf", Criterion::All), ("anyOf", Criterion::Any), ("oneOf", Criterion::One)] {
            if let Some(list) = keywords.take(key) {
                let branches = self.schemas(list, key, scope)?;
                shapes.push(Shape::Combined { criterion, branches, generated: false });
            }
        }
        if let Some(inner) = keywords.take("not") {
            shapes.push(Shape::Not(self.schema(inner, scope)?));
        }
        Ok(())
    }

    /// Titles and the like must have their types, too.
    fn check_annotations(&self, object: &Object, scope: &Scope<'_>) -> Read<()> {
        for key in [self.draft.id_keyword(), "title", "description"] {
            if let Some(value) = object.get(key).filter(|value| value.as_str().is_none()) {
                return wrong(format!("{key:?} is a string"), value, scope);
            }
        }
        for key in ["readOnly", "writeOnly"] {
            if let Some(value) = object.get(key).filter(|value| self.draft == Draft::Seven && value.as_bool().is_none()) {
                return wrong(format!("{key:?} is a boolean"), value, scope);
            }
        }
        Ok(())
    }

    fn schemas(&mut self, list: &'a Value, key: &str, scope: &Scope<'a>) -> Read<Vec<Id>> {
        match list.as_array() {
            Some(items) => items.iter().map(|item| self.schema(item, scope)).collect(),
            None => wrong(format!("{key:?} is an array of schemas"), list, scope),
        }
    }

    fn typed(&mut self, kind: &'a Value, keywords: &mut Keywords<'a>, scope: &Scope<'a>) -> Read<Shape> {
        if let Some(names) = kind.as_array() {
            let mut branches = Vec::new();
            for name in names {
                let shape = self.of_type(name, keywords, scope)?;
                branches.push(self.model.add(Node::new(shape)));
            }
            return Ok(Shape::Combined { criterion: Criterion::Any, branches, generated: false });
        }
        self.of_type(kind, keywords, scope)
    }

    fn of_type(&mut self, name: &'a Value, keywords: &mut Keywords<'a>, scope: &Scope<'a>) -> Read<Shape> {
        let Some(text) = name.as_str() else {
            return wrong("\"type\" is a type's name or a list of names", name, scope);
        };
        match text {
            "string" => {
                keywords.take_all(STRING_KEYS);
                self.text(keywords.object, true, scope)
            }
            "integer" | "number" => {
                keywords.take_all(NUMBER_KEYS);
                self.numeric(keywords.object, true, text == "integer", scope)
            }
            "boolean" => Ok(Shape::Boolean),
            "null" => Ok(Shape::Null),
            "array" => {
                keywords.take_all(ARRAY_KEYS);
                self.array(keywords.object, true, scope)
            }
            "object" => {
                keywords.take_all(OBJECT_KEYS);
                self.object(keywords.object, true, scope)
            }
            _ => wrong(format!("unknown type {text:?}"), name, scope),
        }
    }

    /// Keywords of types that `type` does not say.
    fn untyped(&mut self, keywords: &mut Keywords<'a>, scope: &Scope<'a>, shapes: &mut Vec<Shape>) -> Read<()> {
        if keywords.any(ARRAY_KEYS, self.draft) {
            shapes.push(self.array(keywords.object, false, scope)?);
        }
        if keywords.any(OBJECT_KEYS, self.draft) {
            shapes.push(self.object(keywords.object, false, scope)?);
        }
        if keywords.any(NUMBER_KEYS, self.draft) {
            shapes.push(self.numeric(keywords.object, false, false, scope)?);
        }
        if keywords.any(STRING_KEYS, self.draft) {
            shapes.push(self.text(keywords.object, false, scope)?);
        }
        if self.draft == Draft::Seven && keywords.any(&["if", "then", "else"], self.draft) {
            let mut parts = [None; 3];
            for (part, key) in parts.iter_mut().zip(["if", "then", "else"]) {
                *part = keywords.object.get(key).map(|value| self.schema(value, scope)).transpose()?;
            }
            shapes.push(Shape::Conditional(parts));
        }
        Ok(())
    }

    fn text(&mut self, object: &Object, required: bool, scope: &Scope<'_>) -> Read<Shape> {
        let pattern = match object.get("pattern") {
            None => None,
            Some(value) => Some(pattern(value, value.as_str(), scope)?.text),
        };
        let format = match object.get("format") {
            None => None,
            Some(value) => match value.as_str() {
                Some(name) => {
                    FORMATS.iter().find(|(known, since)| *known == name && self.draft >= *since).map(|(known, _)| *known)
                }
                None => return wrong("\"format\" is a string", value, scope),
            },
        };
        Ok(Shape::Text(Box::new(Text {
            required,
            min_length: integer(object, "minLength", scope)?,
            max_length: integer(object, "maxLength", scope)?,
            pattern,
            format: format.map(str::to_owned),
        })))
    }

    fn numeric(&mut self, object: &Object, required: bool, is_integer: bool, scope: &Scope<'_>) -> Read<Shape> {
        let mut exclusive = [None, None];
        for (limit, key) in exclusive.iter_mut().zip(["exclusiveMinimum", "exclusiveMaximum"]) {
            match object.get(key) {
                // Draft 4 has a flag here, which counts for nothing.
                Some(value) if self.draft == Draft::Four && value.as_bool().is_none() => {
                    return wrong(format!("{key:?} is a boolean in draft 4"), value, scope);
                }
                Some(_) if self.draft != Draft::Four => *limit = number(object, key, scope)?,
                _ => {}
            }
        }
        let [exclusive_minimum, exclusive_maximum] = exclusive;
        Ok(Shape::Numeric(Box::new(Numeric {
            required,
            integer: is_integer,
            minimum: number(object, "minimum", scope)?,
            maximum: number(object, "maximum", scope)?,
            exclusive_minimum,
            exclusive_maximum,
            multiple_of: number(object, "multipleOf", scope)?,
        })))
    }

    fn array(&mut self, object: &'a Object, required_type: bool, scope: &Scope<'a>) -> Read<Shape> {
        let mut array = Box::new(ArrayShape::new(required_type));
        array.min = integer(object, "minItems", scope)?;
        array.max = integer(object, "maxItems", scope)?;
        array.unique = boolean(object, "uniqueItems", scope)?;
        match object.get("additionalItems") {
            None => {}
            Some(Value { data: Data::Bool(allow), .. }) => array.additional = *allow,
            Some(value) => array.additional_schema = Some(self.object_only(value, "additionalItems", scope)?),
        }
        match object.get("items") {
            None => {}
            Some(value) if value.as_array().is_some() => array.items = self.schemas(value, "items", scope)?,
            Some(value) if self.draft == Draft::Four => array.all_items = Some(self.object_only(value, "items", scope)?),
            Some(value) => array.all_items = Some(self.schema(value, scope)?),
        }
        if let Some(contains) = object.get("contains").filter(|_| self.draft != Draft::Four) {
            array.contains = Some(self.schema(contains, scope)?);
        }
        // One schema for all items leaves no further ones to forbid.
        array.additional |= array.all_items.is_some();
        Ok(Shape::Array(array))
    }

    fn object_only(&mut self, value: &'a Value, key: &str, scope: &Scope<'a>) -> Read<Id> {
        match value.data {
            Data::Object(_) => self.schema(value, scope),
            _ => wrong(format!("{key:?} is not {}", value.kind()), value, scope),
        }
    }

    fn object(&mut self, object: &'a Object, required_type: bool, scope: &Scope<'a>) -> Read<Shape> {
        let mut shape = Box::new(ObjectShape::new(required_type));
        shape.min = integer(object, "minProperties", scope)?;
        shape.max = integer(object, "maxProperties", scope)?;
        self.properties(object, &mut shape, scope)?;
        match object.get("additionalProperties") {
            None => {}
            Some(Value { data: Data::Bool(allow), .. }) => shape.additional = *allow,
            Some(value) => shape.additional_schema = Some(self.object_only(value, "additionalProperties", scope)?),
        }
        if let Some(list) = object.get("required") {
            shape.required = strings(list, "required", scope)?.into_iter().collect();
        }
        self.patterns(object, &mut shape, scope)?;
        self.dependencies(object, &mut shape, scope)?;
        if let Some(names) = object.get("propertyNames").filter(|_| self.draft != Draft::Four) {
            shape.names = Some(self.schema(names, scope)?);
        }
        Ok(Shape::Object(shape))
    }

    fn properties(&mut self, object: &'a Object, shape: &mut ObjectShape, scope: &Scope<'a>) -> Read<()> {
        for member in members(object, "properties", scope)? {
            let is_id = member.key == self.draft.id_keyword() && member.value.as_object().is_none();
            if !is_id {
                let id = self.schema(&member.value, scope)?;
                shape.properties.push((member.key.clone(), id));
            }
        }
        Ok(())
    }

    fn patterns(&mut self, object: &'a Object, shape: &mut ObjectShape, scope: &Scope<'a>) -> Read<()> {
        for member in members(object, "patternProperties", scope)? {
            let id = self.schema(&member.value, scope)?;
            shape.patterns.push((pattern(&member.value, Some(&member.key), scope)?, id));
        }
        Ok(())
    }

    fn dependencies(&mut self, object: &'a Object, shape: &mut ObjectShape, scope: &Scope<'a>) -> Read<()> {
        for member in members(object, "dependencies", scope)? {
            if member.value.as_array().is_some() {
                let names = strings(&member.value, "dependencies", scope)?;
                if !names.is_empty() {
                    shape.array_dependencies.insert(member.key.clone(), names.into_iter().collect());
                }
                continue;
            }
            let id = match self.draft {
                Draft::Four => self.object_only(&member.value, "dependencies", scope)?,
                _ => self.schema(&member.value, scope)?,
            };
            shape.schema_dependencies.insert(member.key.clone(), id);
        }
        Ok(())
    }

    fn reference(&mut self, reference: &'a Value, keywords: &Keywords<'a>, scope: &Scope<'a>) -> Read<Id> {
        let Some(text) = reference.as_str() else {
            return wrong("\"$ref\" is a string", reference, scope);
        };
        if let Some(fault) = uri::fault(text) {
            return wrong(fault, reference, scope);
        }
        let target = uri::resolve(scope.base.as_deref(), text);
        let (slot, pending, text) = match self.knots.get(&target) {
            Some(slot) => (*slot, self.model.slots.get(*slot).is_some_and(Option::is_none), target.clone()),
            None => {
                let slot = self.model.slots.len();
                self.model.slots.push(None);
                self.knots.insert(target.clone(), slot);
                let (value, inside) = self.find(text, &target, reference, scope)?;
                let id = self.schema(value, &inside)?;
                if let Some(place) = self.model.slots.get_mut(slot) {
                    *place = Some(id);
                }
                (slot, false, text.to_owned())
            }
        };
        // A default beside a reference counts only while its target is still being read.
        let has_default = pending && keywords.object.has("default");
        let shape = Shape::Reference { text, slot };
        Ok(self.model.add(Node { shape, has_default, rest: rest(keywords) }))
    }

    /// What a reference refers to.
    fn find(&mut self, text: &str, target: &str, at: &Value, scope: &Scope<'a>) -> Read<(&'a Value, Scope<'a>)> {
        if let Some((value, base)) = self.by_id(scope, target) {
            return Ok((value, Scope { base, ..scope.clone() }));
        }
        if text.starts_with('#') {
            return self.pointer(text, at, scope);
        }
        let (document_uri, fragment) = uri::split(target);
        let (document, fragment) = match self.by_uri.get(target) {
            Some(document) => (*document, "#"),
            None => match self.by_uri.get(document_uri) {
                Some(document) => (*document, fragment),
                None => return wrong(format!("{text:?} refers to nothing: no reference has this name"), at, scope),
            },
        };
        let inside = Scope { document, base: Some(document_uri.to_owned()), own: false };
        self.pointer(fragment, at, &inside)
    }

    /// Walks a JSON pointer from the document's root; the scope is the one in which the found schema stands.
    fn pointer(&mut self, fragment: &str, at: &Value, scope: &Scope<'a>) -> Read<(&'a Value, Scope<'a>)> {
        if let Some((value, base)) = self.by_id(scope, fragment) {
            return Ok((value, Scope { base, ..scope.clone() }));
        }
        let mut value = scope.document;
        let mut inside = scope.clone();
        if scope.own {
            inside.base = None;
        }
        let mut tokens: Vec<&str> = fragment.split('/').skip(1).collect();
        while tokens.last().is_some_and(|token| token.is_empty()) {
            tokens.pop();
        }
        for token in tokens {
            inside.base = self.base_of(value, &inside)?;
            let token = uri::pointer_token(token);
            let next = match &value.data {
                Data::Object(object) => object.get(&token),
                Data::Array(items) => token.parse::<usize>().ok().and_then(|at| items.get(at)),
                _ => None,
            };
            value = match next {
                Some(next) => next,
                None => return wrong(format!("{fragment:?} refers to nothing: there is no {token:?}"), at, scope),
            };
        }
        Ok((value, inside))
    }

    /// A schema of the document by the text of its id.
    fn by_id(&mut self, scope: &Scope<'a>, id: &str) -> Option<(&'a Value, Option<String>)> {
        let keyword = self.draft.id_keyword();
        let ids = self.ids.entry(std::ptr::from_ref(scope.document)).or_insert_with(|| {
            let mut ids = HashMap::new();
            let base = if scope.own { None } else { scope.base.clone() };
            collect_ids(scope.document, base, keyword, &mut ids);
            ids
        });
        ids.get(id).cloned()
    }
}

/// Everything with an id below a value, with the base in which it stands.
fn collect_ids<'a>(
    value: &'a Value,
    base: Option<String>,
    keyword: &str,
    out: &mut HashMap<String, (&'a Value, Option<String>)>,
) {
    match &value.data {
        Data::Object(object) => {
            let own = object.get(keyword).and_then(Value::as_str);
            if let Some(id) = own {
                out.insert(id.to_owned(), (value, base.clone()));
            }
            let base = own.map_or(base.clone(), |id| Some(uri::resolve(base.as_deref(), id)));
            object.iter().for_each(|member| collect_ids(&member.value, base.clone(), keyword, out));
        }
        Data::Array(items) => items.iter().for_each(|item| collect_ids(item, base.clone(), keyword, out)),
        _ => {}
    }
}

/// What no node was made of, as text.
fn rest(keywords: &Keywords<'_>) -> String {
    let mut left: Vec<String> = keywords
        .object
        .iter()
        .filter(|member| !keywords.taken.contains(member.key.as_str()))
        .map(|member| format!("{:?}:{}", member.key, member.value.print(true)))
        .collect();
    left.sort();
    left.join(",")
}

fn integer(object: &Object, key: &str, scope: &Scope<'_>) -> Read<Option<i32>> {
    let Some(value) = object.get(key) else { return Ok(None) };
    match value.as_number().and_then(Number::as_i32) {
        Some(number) => Ok(Some(number)),
        None => wrong(format!("{key:?} is a whole number"), value, scope),
    }
}

fn number(object: &Object, key: &str, scope: &Scope<'_>) -> Read<Option<Number>> {
    let Some(value) = object.get(key) else { return Ok(None) };
    match value.as_number() {
        Some(number) => Ok(Some(number.clone())),
        None => wrong(format!("{key:?} is a number"), value, scope),
    }
}

fn boolean(object: &Object, key: &str, scope: &Scope<'_>) -> Read<bool> {
    let Some(value) = object.get(key) else { return Ok(false) };
    match value.as_bool() {
        Some(flag) => Ok(flag),
        None => wrong(format!("{key:?} is a boolean"), value, scope),
    }
}

fn members<'v>(object: &'v Object, key: &str, scope: &Scope<'_>) -> Read<Vec<&'v crate::schema::text::Member>> {
    let Some(value) = object.get(key) else { return Ok(Vec::new()) };
    match value.as_object() {
        Some(inner) => Ok(inner.iter().collect()),
        None => wrong(format!("{key:?} is an object"), value, scope),
    }
}

fn strings(list: &Value, key: &str, scope: &Scope<'_>) -> Read<Vec<String>> {
    let Some(items) = list.as_array() else {
        return wrong(format!("{key:?} is an array of names"), list, scope);
    };
    items
        .iter()
        .map(|item| match item.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => wrong(format!("{key:?} is an array of names, not of {}", item.kind()), item, scope),
        })
        .collect()
}

fn pattern(at: &Value, text: Option<&str>, scope: &Scope<'_>) -> Read<Pattern> {
    let Some(text) = text else {
        return wrong("\"pattern\" is a string", at, scope);
    };
    Pattern::new(text).or_else(|message| wrong(message, at, scope))
}
