//! Reads drafts 2019-09 and 2020-12 into nodes, by the rules of the registry.
//!
//! There every keyword is a schema of its own, and the schemas of one object are joined pair by pair. What a join makes
//! depends on the order of the keywords, which is that of a Java hash map, so that order is followed here. A `$ref` is
//! one keyword among the others. A target is copied for each reference to it.

use std::collections::HashMap;

use super::model::{ArrayShape, Criterion, Id, Model, Node, Numeric, ObjectShape, Pattern, Shape, Text};
use super::{MAX_NODES, uri};
use crate::schema::SchemaError;
use crate::schema::text::{Data, MAX_NESTING, Number, Object, Value};

const BASE: &str = "mem://input";

/// Reads a schema and what it refers to. `documents` are the referenced texts by name.
pub(super) fn load(root: &Value, documents: &[(String, Value)]) -> Result<Model, SchemaError> {
    let mut by_uri = HashMap::new();
    for (name, document) in documents {
        by_uri.insert(name.clone(), document);
        if !uri::absolute(name) && !name.starts_with('.') {
            by_uri.insert(format!("./{name}"), document);
        }
    }
    let mut loader = Loader { by_uri, anchors: HashMap::new(), model: Model::default(), depth: 0, nested: 0 };
    loader.collect_anchors(root, BASE, true, false);
    let base = base_of(root, BASE);
    loader.anchors.entry(BASE.to_owned()).or_insert(Target { value: root, base: BASE.to_owned(), own: true });
    let mut queue = Queue::default();
    let (node, known) = loader.schema(root, &Scope { base: base.clone(), own: true }, &mut queue)?;
    if known {
        queue.known.insert(without_hash(&base).to_owned(), node.clone());
    }
    loader.resolve(&mut queue)?;
    loader.model.root = loader.model.add(node);
    Ok(loader.model)
}

#[derive(Clone)]
struct Scope {
    base: String,
    /// Whether the text is the user's own, so that places in it mean something.
    own: bool,
}

#[derive(Clone)]
struct Target<'a> {
    value: &'a Value,
    base: String,
    own: bool,
}

/// What the keywords of an object have been joined to, and how often.
#[derive(Default)]
struct Joined {
    node: Option<Node>,
    joins: usize,
}

/// References that wait for their targets, and targets that were read already.
#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    known: HashMap<String, Node>,
}

struct Waiting {
    slot: usize,
    uri: String,
    at: Option<std::ops::Range<usize>>,
    text: String,
}

struct Loader<'a> {
    by_uri: HashMap<String, &'a Value>,
    anchors: HashMap<String, Target<'a>>,
    model: Model,
    depth: usize,
    /// How many readings of definitions and targets stand within each other.
    nested: usize,
}

/// How many may: the registry has no bound but its stack, and refuses what recurses past that.
const MAX_NESTED: usize = 24;

type Read<T> = Result<T, SchemaError>;

fn wrong<T>(message: impl Into<String>, at: &Value, scope: &Scope) -> Read<T> {
    Err(SchemaError::new(message, scope.own.then(|| at.span.clone())))
}

fn base_of(value: &Value, base: &str) -> String {
    match value.get("$id").and_then(Value::as_str) {
        Some(id) if !base.ends_with(id) => uri::resolve(Some(base), id),
        _ => base.to_owned(),
    }
}

fn without_hash(uri: &str) -> &str {
    uri.strip_suffix('#').unwrap_or(uri)
}

impl<'a> Loader<'a> {
    /// Keeps all schemas that have an id or an anchor, by their URI.
    fn collect_anchors(&mut self, value: &'a Value, base: &str, own: bool, map_like: bool) {
        match &value.data {
            Data::Object(object) => {
                let base = base_of(value, base);
                let target = || Target { value, base: base.clone(), own };
                if object.get("$id").and_then(Value::as_str).is_some() {
                    self.anchors.insert(without_hash(&base).to_owned(), target());
                }
                for key in ["$anchor", "$dynamicAnchor"] {
                    if let Some(anchor) = object.get(key).and_then(Value::as_str) {
                        self.anchors.insert(uri::resolve(Some(&base), &format!("#{anchor}")), target());
                    }
                }
                for member in object.iter() {
                    let key = member.key.as_str();
                    let follow = map_like || (KEYWORDS.contains(&key) && !matches!(key, "enum" | "const"));
                    if follow {
                        self.collect_anchors(&member.value, &base, own, MAP_LIKE.contains(&key) && !map_like);
                    }
                }
            }
            Data::Array(items) => items.iter().for_each(|item| self.collect_anchors(item, base, own, false)),
            _ => {}
        }
    }

    /// A schema as a node that is not yet among the nodes, and whether references find it rather than read it again.
    fn schema(&mut self, value: &'a Value, scope: &Scope, queue: &mut Queue) -> Read<(Node, bool)> {
        if self.depth > MAX_NESTING || self.model.nodes.len() > MAX_NODES {
            return wrong("the schema and what it refers to nest too deep", value, scope);
        }
        self.depth += 1;
        let found = match &value.data {
            Data::Bool(true) => (Node::new(Shape::True), true),
            Data::Bool(false) => (Node::new(Shape::False), true),
            Data::Object(object) => {
                let scope = Scope { base: base_of(value, &scope.base), own: scope.own };
                self.object_schema(object, &scope, queue)?
            }
            _ => return wrong(format!("a schema is an object or a boolean, not {}", value.kind()), value, scope),
        };
        self.depth -= 1;
        Ok(found)
    }

    /// A schema within another one.
    fn child(&mut self, value: &'a Value, scope: &Scope, queue: &mut Queue) -> Read<Id> {
        let (node, _) = self.schema(value, scope, queue)?;
        Ok(self.model.add(node))
    }

    fn object_schema(&mut self, object: &'a Object, scope: &Scope, queue: &mut Queue) -> Read<(Node, bool)> {
        let mut joined = Joined::default();
        for (key, value) in java_order(object) {
            if let Some(shape) = self.keyword(key, value, object, scope, queue)? {
                self.join_next(&mut joined, Node::new(shape));
            }
        }
        let mut known = joined.node.is_none();
        if known {
            joined.node = Some(Node::new(generated_all(Vec::new())));
        }
        for part in [self.properties(object, scope, queue)?, self.patterns(object, scope, queue)?].into_iter().flatten() {
            self.join_next(&mut joined, part);
        }
        known |= joined.joins > 0;
        self.definitions(object, scope)?;
        Ok((self.finish(joined, object), known))
    }

    fn join_next(&mut self, joined: &mut Joined, next: Node) {
        joined.node = Some(match joined.node.take() {
            Some(before) => {
                joined.joins += 1;
                self.join(Criterion::All, false, before, next)
            }
            None => next,
        });
    }

    /// The joined schema, out of its wrapping where that holds one or none, with what is said beside.
    fn finish(&self, joined: Joined, object: &Object) -> Node {
        let mut node = joined.node.unwrap_or_else(|| Node::new(Shape::Empty));
        if let Shape::Combined { criterion: Criterion::All, branches, generated: true } = &node.shape {
            match branches.as_slice() {
                [] => node = Node::new(Shape::Empty),
                [only] => node = self.model.node(*only).clone(),
                _ => {}
            }
        }
        node.has_default |= object.get("default").is_some_and(|value| !matches!(value.data, Data::Null));
        node.rest = rest(object);
        node
    }

    /// Definitions are read apart, for the sake of their errors.
    fn definitions(&mut self, object: &'a Object, scope: &Scope) -> Read<()> {
        for member in members(object, "$defs", scope)? {
            self.nest(&member.value, scope)?;
            let mut queue = Queue::default();
            self.schema(&member.value, scope, &mut queue)?;
            self.resolve(&mut queue)?;
            self.nested -= 1;
        }
        Ok(())
    }

    fn nest(&mut self, at: &Value, scope: &Scope) -> Read<()> {
        self.nested += 1;
        if self.nested > MAX_NESTED {
            return wrong("a reference that leads back to itself in a way that the registry can't read", at, scope);
        }
        Ok(())
    }

    /// Gives waiting references their targets.
    fn resolve(&mut self, queue: &mut Queue) -> Read<()> {
        while !queue.waiting.is_empty() {
            let waiting = queue.waiting.remove(0);
            let node = match queue.known.get(&waiting.uri) {
                Some(node) => node.clone(),
                None => self.read_target(&waiting, queue)?,
            };
            let id = self.model.add(node);
            if let Some(slot) = self.model.slots.get_mut(waiting.slot) {
                *slot = Some(id);
            }
        }
        Ok(())
    }

    fn read_target(&mut self, waiting: &Waiting, queue: &mut Queue) -> Read<Node> {
        let target = self.find(waiting)?;
        let scope = Scope { base: target.base, own: target.own };
        self.nest(target.value, &scope)?;
        let (node, known) = self.schema(target.value, &scope, queue)?;
        if known {
            queue.known.insert(waiting.uri.clone(), node.clone());
        }
        // What the target refers to is resolved before what came after it.
        self.resolve(queue)?;
        self.nested -= 1;
        Ok(node)
    }

    fn find(&mut self, waiting: &Waiting) -> Read<Target<'a>> {
        if let Some(target) = self.anchors.get(&waiting.uri) {
            return Ok(target.clone());
        }
        let nowhere = |message: String| SchemaError::new(message, waiting.at.clone());
        let (document, fragment) = uri::split(&waiting.uri);
        let root = match (self.anchors.get(document), self.by_uri.get(document)) {
            (Some(target), _) => target.clone(),
            (None, Some(value)) => {
                let value = *value;
                self.collect_anchors(value, document, false, false);
                let target = Target { value, base: document.to_owned(), own: false };
                self.anchors.insert(document.to_owned(), target.clone());
                target
            }
            (None, None) => return Err(nowhere(format!("{:?} refers to nothing: no reference has this name", waiting.text))),
        };
        if let Some(target) = self.anchors.get(&waiting.uri) {
            return Ok(target.clone());
        }
        let mut target = root;
        for token in fragment.split('/').skip(1) {
            target.base = base_of(target.value, &target.base);
            let token = uri::pointer_token(token);
            let next = match &target.value.data {
                Data::Object(object) => object.get(&token),
                Data::Array(items) => token.parse::<usize>().ok().and_then(|at| items.get(at)),
                _ => None,
            };
            match next {
                Some(next) => target.value = next,
                None => return Err(nowhere(format!("{:?} refers to nothing: there is no {token:?}", waiting.text))),
            }
        }
        Ok(target)
    }

    /// The schema that one keyword is; `None` for keywords that are none. Each kind is a function of its own, since what
    /// stands in this one's frame stands on the stack for each level of nesting.
    fn keyword(
        &mut self,
        key: &str,
        value: &'a Value,
        object: &'a Object,
        scope: &Scope,
        queue: &mut Queue,
    ) -> Read<Option<Shape>> {
        let shape = match key {
            "allOf" | "anyOf" | "oneOf" => self.combination(key, value, scope, queue),
            "not" => self.negation(value, scope, queue),
            "if" => self.condition(value, object, scope, queue),
            "items" | "prefixItems" | "contains" => self.array_keyword(key, value, object, scope, queue),
            "additionalProperties" | "dependentSchemas" | "propertyNames" => self.object_keyword(key, value, scope, queue),
            "unevaluatedItems" | "unevaluatedProperties" => return self.child(value, scope, queue).map(|_| None),
            "$ref" => self.reference(value, scope, queue),
            "type" => self.typed(value, scope),
            _ => return flat_keyword(key, value, scope),
        };
        shape.map(Some)
    }

    fn negation(&mut self, value: &'a Value, scope: &Scope, queue: &mut Queue) -> Read<Shape> {
        self.child(value, scope, queue).map(Shape::Not)
    }

    fn condition(&mut self, value: &'a Value, object: &'a Object, scope: &Scope, queue: &mut Queue) -> Read<Shape> {
        let mut parts = [Some(self.child(value, scope, queue)?), None, None];
        for (part, key) in parts.iter_mut().skip(1).zip(["then", "else"]) {
            if let Some(value) = object.get(key) {
                *part = Some(self.child(value, scope, queue)?);
            }
        }
        Ok(Shape::Conditional(parts))
    }

    fn reference(&mut self, value: &Value, scope: &Scope, queue: &mut Queue) -> Read<Shape> {
        let text = string("$ref", value, scope)?;
        let (document, _) = uri::split(text);
        let uri = if uri::absolute(text) || (!document.is_empty() && self.by_uri.contains_key(document)) {
            text.to_owned()
        } else if scope.base.starts_with("urn:") {
            format!("{}{text}", scope.base)
        } else {
            uri::resolve(Some(&scope.base), text)
        };
        let slot = self.model.slots.len();
        self.model.slots.push(None);
        let at = scope.own.then(|| value.span.clone());
        queue.waiting.push(Waiting { slot, uri: without_hash(&uri).to_owned(), at, text: text.to_owned() });
        Ok(Shape::Reference { text: uri.strip_prefix(BASE).unwrap_or(&uri).to_owned(), slot })
    }

    fn typed(&mut self, value: &Value, scope: &Scope) -> Read<Shape> {
        if let Some(names) = value.as_array() {
            let mut branches = Vec::new();
            for name in names {
                let shape = of_type(name, scope)?;
                branches.push(self.model.add(Node::new(shape)));
            }
            return Ok(Shape::Combined { criterion: Criterion::Any, branches, generated: true });
        }
        of_type(value, scope)
    }

    fn combination(&mut self, key: &str, value: &'a Value, scope: &Scope, queue: &mut Queue) -> Read<Shape> {
        let criterion = match key {
            "allOf" => Criterion::All,
            "anyOf" => Criterion::Any,
            _ => Criterion::One,
        };
        let mut node = Node::new(Shape::Combined { criterion, branches: Vec::new(), generated: false });
        for item in array(key, value, scope)? {
            let (branch, _) = self.schema(item, scope, queue)?;
            node = self.join(criterion, true, node, branch);
        }
        Ok(node.shape)
    }

    fn array_keyword(
        &mut self,
        key: &str,
        value: &'a Value,
        object: &'a Object,
        scope: &Scope,
        queue: &mut Queue,
    ) -> Read<Shape> {
        let mut shape = Box::new(ArrayShape::new(false));
        match key {
            "items" => {
                let id = self.child(value, scope, queue)?;
                let prefixed = object.get("prefixItems").and_then(Value::as_array).is_some_and(|items| !items.is_empty());
                match self.model.shape(id) {
                    Shape::False => shape.additional = false,
                    Shape::True => {}
                    _ if prefixed => shape.additional_schema = Some(id),
                    _ => shape.all_items = Some(id),
                }
            }
            "prefixItems" => {
                for item in array(key, value, scope)? {
                    let id = self.child(item, scope, queue)?;
                    shape.items.push(id);
                }
            }
            _ => shape.contains = Some(self.child(value, scope, queue)?),
        }
        Ok(Shape::Array(shape))
    }

    fn object_keyword(&mut self, key: &str, value: &'a Value, scope: &Scope, queue: &mut Queue) -> Read<Shape> {
        let mut shape = Box::new(ObjectShape::new(false));
        match key {
            "additionalProperties" => {
                let id = self.child(value, scope, queue)?;
                match self.model.shape(id) {
                    Shape::False => shape.additional = false,
                    Shape::True => {}
                    _ => shape.additional_schema = Some(id),
                }
            }
            "dependentSchemas" => {
                for member in object_of(key, value, scope)?.iter() {
                    let id = self.child(&member.value, scope, queue)?;
                    shape.schema_dependencies.insert(member.key.clone(), id);
                }
            }
            _ => shape.names = Some(self.child(value, scope, queue)?),
        }
        Ok(Shape::Object(shape))
    }

    fn properties(&mut self, object: &'a Object, scope: &Scope, queue: &mut Queue) -> Read<Option<Node>> {
        let found = members(object, "properties", scope)?;
        let mut shape = ObjectShape::new(false);
        for member in &found {
            let id = self.child(&member.value, scope, queue)?;
            shape.properties.push((member.key.clone(), id));
        }
        Ok((!found.is_empty()).then(|| Node::new(Shape::Object(Box::new(shape)))))
    }

    fn patterns(&mut self, object: &'a Object, scope: &Scope, queue: &mut Queue) -> Read<Option<Node>> {
        let found = members(object, "patternProperties", scope)?;
        let mut shape = ObjectShape::new(false);
        for member in &found {
            let pattern = pattern(&member.key, &member.value, scope)?;
            let id = self.child(&member.value, scope, queue)?;
            shape.patterns.push((pattern, id));
        }
        Ok((!found.is_empty()).then(|| Node::new(Shape::Object(Box::new(shape)))))
    }

    /// Joins two nodes of one object, or (`listed`) a combination and its next branch.
    fn join(&mut self, criterion: Criterion, listed: bool, before: Node, next: Node) -> Node {
        if let Some(merged) = merge(&before, &next) {
            return merged;
        }
        if let Some(shape) = self.join_types(&before, &next).or_else(|| self.join_types(&next, &before)) {
            return Node::new(shape);
        }
        if listed && let Shape::Combined { branches, .. } = &before.shape {
            let mut branches = branches.clone();
            branches.extend(self.flatten(&next));
            return Node::new(Shape::Combined { criterion, branches, generated: false });
        }
        let mut branches = Vec::new();
        for id in self.flatten(&before).into_iter().chain(self.flatten(&next)) {
            self.accumulate(&mut branches, id);
        }
        Node::new(generated_all(branches))
    }

    /// A list of types takes in a schema of one of these types.
    fn join_types(&mut self, types: &Node, other: &Node) -> Option<Shape> {
        let Shape::Combined { criterion: Criterion::Any, branches, generated: true } = &types.shape else { return None };
        if !branches.iter().any(|branch| same_class(self.model.shape(*branch), &other.shape)) {
            return None;
        }
        let mut branches = branches.clone();
        let id = self.model.add(other.clone());
        self.accumulate(&mut branches, id);
        Some(Shape::Combined { criterion: Criterion::Any, branches, generated: true })
    }

    /// Merges a branch into the first of its kind, or appends it.
    fn accumulate(&mut self, branches: &mut Vec<Id>, id: Id) {
        let next = self.model.node(id).clone();
        for branch in branches.iter_mut() {
            if let Some(merged) = merge(self.model.node(*branch), &next) {
                *branch = self.model.add(merged);
                return;
            }
        }
        branches.push(id);
    }

    fn flatten(&mut self, node: &Node) -> Vec<Id> {
        match &node.shape {
            Shape::Combined { criterion: Criterion::All, branches, generated: true } => branches.clone(),
            _ => vec![self.model.add(node.clone())],
        }
    }
}

/// A keyword that has no schemas in it.
fn flat_keyword(key: &str, value: &Value, scope: &Scope) -> Read<Option<Shape>> {
    Ok(Some(match key {
        "enum" => Shape::Enum(array(key, value, scope)?.to_vec()),
        "const" => Shape::Const(Box::new(value.clone())),
        "minLength" => Shape::Text(Box::new(Text { min_length: Some(whole(key, value, scope)?), ..Text::default() })),
        "maxLength" => Shape::Text(Box::new(Text { max_length: Some(whole(key, value, scope)?), ..Text::default() })),
        "pattern" => {
            let pattern = pattern(string(key, value, scope)?, value, scope)?;
            Shape::Text(Box::new(Text { pattern: Some(pattern.text), ..Text::default() }))
        }
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
            Shape::Numeric(Box::new(limit(key, number(key, value, scope)?.clone())))
        }
        "minItems" | "maxItems" | "uniqueItems" => {
            let mut shape = ArrayShape::new(false);
            match key {
                "minItems" => shape.min = Some(whole(key, value, scope)?),
                "maxItems" => shape.max = Some(whole(key, value, scope)?),
                _ => shape.unique = flag(key, value, scope)?,
            }
            Shape::Array(Box::new(shape))
        }
        "required" | "minProperties" | "maxProperties" | "dependentRequired" => {
            Shape::Object(Box::new(flat_object(key, value, scope)?))
        }
        // Nothing of their own, but a schema all the same.
        "format" => string(key, value, scope).map(|_| generated_all(Vec::new()))?,
        "readOnly" | "writeOnly" => flag(key, value, scope).map(|_| generated_all(Vec::new()))?,
        "title" | "description" | "$dynamicRef" | "$dynamicAnchor" => return string(key, value, scope).map(|_| None),
        "deprecated" => return flag(key, value, scope).map(|_| None),
        _ => return Ok(None),
    }))
}

fn flat_object(key: &str, value: &Value, scope: &Scope) -> Read<ObjectShape> {
    let mut shape = ObjectShape::new(false);
    match key {
        "required" => shape.required = strings(key, value, scope)?.into_iter().collect(),
        "minProperties" => shape.min = Some(whole(key, value, scope)?),
        "maxProperties" => shape.max = Some(whole(key, value, scope)?),
        _ => {
            for member in object_of(key, value, scope)?.iter() {
                let names = strings(key, &member.value, scope)?;
                if !names.is_empty() {
                    shape.array_dependencies.insert(member.key.clone(), names.into_iter().collect());
                }
            }
        }
    }
    Ok(shape)
}

fn generated_all(branches: Vec<Id>) -> Shape {
    Shape::Combined { criterion: Criterion::All, branches, generated: true }
}

/// Whether two shapes are of one kind.
fn same_class(a: &Shape, b: &Shape) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// Both in one, when both are about strings, numbers, objects or arrays.
fn merge(before: &Node, next: &Node) -> Option<Node> {
    let shape = match (&before.shape, &next.shape) {
        (Shape::Text(a), Shape::Text(b)) => Shape::Text(Box::new(Text {
            required: a.required || b.required,
            min_length: b.min_length.or(a.min_length),
            max_length: b.max_length.or(a.max_length),
            pattern: b.pattern.clone().or_else(|| a.pattern.clone()),
            format: b.format.clone().or_else(|| a.format.clone()),
        })),
        (Shape::Numeric(a), Shape::Numeric(b)) => {
            let either = |a: &Option<Number>, b: &Option<Number>| b.clone().or_else(|| a.clone());
            Shape::Numeric(Box::new(Numeric {
                required: a.required || b.required,
                integer: a.integer || b.integer,
                minimum: either(&a.minimum, &b.minimum),
                maximum: either(&a.maximum, &b.maximum),
                exclusive_minimum: either(&a.exclusive_minimum, &b.exclusive_minimum),
                exclusive_maximum: either(&a.exclusive_maximum, &b.exclusive_maximum),
                multiple_of: either(&a.multiple_of, &b.multiple_of),
            }))
        }
        (Shape::Object(a), Shape::Object(b)) => Shape::Object(Box::new(merge_objects(a, b))),
        (Shape::Array(a), Shape::Array(b)) => {
            let mut all = a.as_ref().clone();
            all.required_type |= b.required_type;
            all.all_items = b.all_items.or(a.all_items);
            all.items.extend(&b.items);
            all.additional &= b.additional;
            all.additional_schema = b.additional_schema.or(a.additional_schema);
            all.contains = b.contains.or(a.contains);
            all.min = b.min.or(a.min);
            all.max = b.max.or(a.max);
            all.unique |= b.unique;
            Shape::Array(Box::new(all))
        }
        _ => return None,
    };
    let rest = if next.rest.is_empty() { before.rest.clone() } else { next.rest.clone() };
    Some(Node { shape, has_default: before.has_default || next.has_default, rest })
}

fn merge_objects(a: &ObjectShape, b: &ObjectShape) -> ObjectShape {
    let mut all = a.clone();
    all.required_type |= b.required_type;
    for (name, id) in &b.properties {
        match all.properties.iter_mut().find(|(known, _)| known == name) {
            Some(known) => known.1 = *id,
            None => all.properties.push((name.clone(), *id)),
        }
    }
    all.required.extend(b.required.iter().cloned());
    all.additional &= b.additional;
    all.additional_schema = b.additional_schema.or(a.additional_schema);
    all.patterns.extend(b.patterns.iter().cloned());
    all.min = b.min.or(a.min);
    all.max = b.max.or(a.max);
    for (name, names) in &b.array_dependencies {
        all.array_dependencies.entry(name.clone()).or_default().extend(names.iter().cloned());
    }
    all.schema_dependencies.extend(b.schema_dependencies.iter().map(|(name, id)| (name.clone(), *id)));
    all.names = b.names.or(a.names);
    all
}

fn of_type(value: &Value, scope: &Scope) -> Read<Shape> {
    let Some(name) = value.as_str() else {
        return wrong("\"type\" is a type's name or a list of names", value, scope);
    };
    Ok(match name {
        "string" => Shape::Text(Box::new(Text { required: true, ..Text::default() })),
        "integer" | "number" => {
            Shape::Numeric(Box::new(Numeric { required: true, integer: name == "integer", ..Numeric::default() }))
        }
        "boolean" => Shape::Boolean,
        "null" => Shape::Null,
        "array" => Shape::Array(Box::new(ArrayShape::new(true))),
        "object" => Shape::Object(Box::new(ObjectShape::new(true))),
        _ => return wrong(format!("unknown type {name:?}"), value, scope),
    })
}

fn limit(key: &str, number: Number) -> Numeric {
    let mut numeric = Numeric::default();
    let place = match key {
        "minimum" => &mut numeric.minimum,
        "maximum" => &mut numeric.maximum,
        "exclusiveMinimum" => &mut numeric.exclusive_minimum,
        "exclusiveMaximum" => &mut numeric.exclusive_maximum,
        _ => &mut numeric.multiple_of,
    };
    *place = Some(number);
    numeric
}

/// Members in the order of a Java hash map.
fn java_order(object: &Object) -> Vec<(&str, &Value)> {
    let mut members: Vec<(&str, &Value)> = object.iter().map(|member| (member.key.as_str(), &member.value)).collect();
    let mut buckets = 16_usize;
    while members.len() * 4 > buckets * 3 {
        buckets *= 2;
    }
    members.sort_by_key(|(key, _)| {
        let hash = key.encode_utf16().fold(0_u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
        (hash ^ (hash >> 16)) as usize & (buckets - 1)
    });
    members
}

/// Keywords that are known, so that ids and anchors below them count.
const KEYWORDS: [&str; 57] = [
    "$id",
    "$anchor",
    "$dynamicRef",
    "$dynamicAnchor",
    "$ref",
    "$defs",
    "$schema",
    "$vocabulary",
    "minLength",
    "maxLength",
    "allOf",
    "anyOf",
    "oneOf",
    "additionalProperties",
    "properties",
    "patternProperties",
    "title",
    "description",
    "readOnly",
    "writeOnly",
    "deprecated",
    "default",
    "enum",
    "const",
    "false",
    "true",
    "type",
    "not",
    "required",
    "maximum",
    "minimum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "multipleOf",
    "uniqueItems",
    "items",
    "prefixItems",
    "contains",
    "minContains",
    "maxContains",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependentRequired",
    "unevaluatedItems",
    "unevaluatedProperties",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "propertyNames",
    "pattern",
    "format",
    "$comment",
    "examples",
    "contentEncoding",
];

/// Keywords whose value is an object of schemas by name.
const MAP_LIKE: [&str; 3] = ["$defs", "properties", "patternProperties"];

/// What no node is made of, as text.
fn rest(object: &Object) -> String {
    let annotation =
        |key: &str| matches!(key, "title" | "description" | "default" | "$comment" | "examples") || !KEYWORDS.contains(&key);
    let mut left: Vec<String> = object
        .iter()
        .filter(|member| annotation(&member.key))
        .map(|member| format!("{:?}:{}", member.key, member.value.print(true)))
        .collect();
    left.sort();
    left.join(",")
}

fn string<'v>(key: &str, value: &'v Value, scope: &Scope) -> Read<&'v str> {
    value.as_str().map_or_else(|| wrong(format!("{key:?} is a string"), value, scope), Ok)
}

fn flag(key: &str, value: &Value, scope: &Scope) -> Read<bool> {
    value.as_bool().map_or_else(|| wrong(format!("{key:?} is a boolean"), value, scope), Ok)
}

fn number<'v>(key: &str, value: &'v Value, scope: &Scope) -> Read<&'v Number> {
    value.as_number().map_or_else(|| wrong(format!("{key:?} is a number"), value, scope), Ok)
}

/// A number, cut to a whole one.
fn whole(key: &str, value: &Value, scope: &Scope) -> Read<i32> {
    #[expect(clippy::cast_possible_truncation, reason = "limits beyond 32 bits mean the same as the largest one")]
    number(key, value, scope).map(|number| number.as_f64() as i32)
}

fn array<'v>(key: &str, value: &'v Value, scope: &Scope) -> Read<&'v [Value]> {
    value.as_array().map_or_else(|| wrong(format!("{key:?} is an array"), value, scope), Ok)
}

fn object_of<'v>(key: &str, value: &'v Value, scope: &Scope) -> Read<&'v Object> {
    value.as_object().map_or_else(|| wrong(format!("{key:?} is an object"), value, scope), Ok)
}

fn members<'v>(object: &'v Object, key: &str, scope: &Scope) -> Read<Vec<&'v crate::schema::text::Member>> {
    match object.get(key) {
        Some(value) => Ok(object_of(key, value, scope)?.iter().collect()),
        None => Ok(Vec::new()),
    }
}

fn strings(key: &str, value: &Value, scope: &Scope) -> Read<Vec<String>> {
    array(key, value, scope)?.iter().map(|item| string(key, item, scope).map(str::to_owned)).collect()
}

fn pattern(text: &str, at: &Value, scope: &Scope) -> Read<Pattern> {
    Pattern::new(text).or_else(|message| wrong(message, at, scope))
}
