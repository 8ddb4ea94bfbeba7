//! The form in which the registry compares JSON Schemas: one node for each schema, of one shape each.
//!
//! Keywords of different types beside each other (`type` and `enum`, say) become an `allOf` of one node each, a list of
//! types an `anyOf`. What no rule looks at is kept as text, since subschemas of a combination that print alike count once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use regex::Regex;

use crate::schema::text::{Number, Value};

/// The position of a node in [`Model::nodes`].
pub(super) type Id = usize;

/// A schema as nodes. Nodes are told apart by position: a schema that is referred to twice may stand here twice, where
/// the registry tells its copies apart, too.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) nodes: Vec<Node>,
    /// Targets of references, by the reference's slot.
    pub(super) slots: Vec<Option<Id>>,
    pub(super) root: Id,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) shape: Shape,
    pub(super) has_default: bool,
    /// Everything that is not part of the shape: titles, descriptions, unknown keywords.
    pub(super) rest: String,
}

#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// `{}`.
    Empty,
    True,
    False,
    Null,
    Boolean,
    Text(Box<Text>),
    Numeric(Box<Numeric>),
    Object(Box<ObjectShape>),
    Array(Box<ArrayShape>),
    Const(Box<Value>),
    Enum(Vec<Value>),
    Not(Id),
    Combined {
        criterion: Criterion,
        branches: Vec<Id>,
        generated: bool,
    },
    /// if, then, else.
    Conditional([Option<Id>; 3]),
    Reference {
        text: String,
        slot: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Criterion {
    All,
    Any,
    One,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Text {
    /// Whether `"type": "string"` is said, and not only a keyword for strings.
    pub(super) required: bool,
    pub(super) min_length: Option<i32>,
    pub(super) max_length: Option<i32>,
    pub(super) pattern: Option<String>,
    pub(super) format: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Numeric {
    pub(super) required: bool,
    pub(super) integer: bool,
    pub(super) minimum: Option<Number>,
    pub(super) maximum: Option<Number>,
    pub(super) exclusive_minimum: Option<Number>,
    pub(super) exclusive_maximum: Option<Number>,
    pub(super) multiple_of: Option<Number>,
}

#[derive(Debug, Clone)]
pub(super) struct ObjectShape {
    pub(super) required_type: bool,
    /// In the text's order.
    pub(super) properties: Vec<(String, Id)>,
    pub(super) required: BTreeSet<String>,
    /// `additionalProperties` is not false.
    pub(super) additional: bool,
    pub(super) additional_schema: Option<Id>,
    pub(super) patterns: Vec<(Pattern, Id)>,
    pub(super) min: Option<i32>,
    pub(super) max: Option<i32>,
    pub(super) array_dependencies: BTreeMap<String, BTreeSet<String>>,
    pub(super) schema_dependencies: BTreeMap<String, Id>,
    pub(super) names: Option<Id>,
}

/// A regular expression; `None` where the engine here does not know a construct that the registry's knows.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pub(super) text: String,
    pub(super) regex: Option<Regex>,
}

#[derive(Debug, Clone)]
pub(super) struct ArrayShape {
    pub(super) required_type: bool,
    pub(super) all_items: Option<Id>,
    pub(super) items: Vec<Id>,
    /// `additionalItems` is not false.
    pub(super) additional: bool,
    pub(super) additional_schema: Option<Id>,
    pub(super) contains: Option<Id>,
    pub(super) min: Option<i32>,
    pub(super) max: Option<i32>,
    pub(super) unique: bool,
}

impl ObjectShape {
    pub(super) fn new(required_type: bool) -> Self {
        ObjectShape {
            required_type,
            properties: Vec::new(),
            required: BTreeSet::new(),
            additional: true,
            additional_schema: None,
            patterns: Vec::new(),
            min: None,
            max: None,
            array_dependencies: BTreeMap::new(),
            schema_dependencies: BTreeMap::new(),
            names: None,
        }
    }

    pub(super) fn property(&self, name: &str) -> Option<Id> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, id)| *id)
    }
}

impl ArrayShape {
    pub(super) fn new(required_type: bool) -> Self {
        ArrayShape {
            required_type,
            all_items: None,
            items: Vec::new(),
            additional: true,
            additional_schema: None,
            contains: None,
            min: None,
            max: None,
            unique: false,
        }
    }
}

impl Pattern {
    /// Compiles a pattern; an error says why it is none. Look-around, back-references and possessive quantifiers are
    /// patterns, but can't be matched here.
    pub(super) fn new(text: &str) -> Result<Pattern, String> {
        match Regex::new(text) {
            Ok(regex) => Ok(Pattern { text: text.to_owned(), regex: Some(regex) }),
            Err(_) if beyond_this_engine(text) => Ok(Pattern { text: text.to_owned(), regex: None }),
            Err(e) => {
                let why = e.to_string();
                let why = why.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
                Err(format!("{text:?} is no regular expression: {why}"))
            }
        }
    }
}

fn beyond_this_engine(text: &str) -> bool {
    let constructs = [
        "(?=", "(?!", "(?<=", "(?<!", "(?>", "++", "*+", "?+", "}+", "\\k<", "\\Q", "\\h", "\\R", "\\Z", "\\G", "&&", "\\p{",
        "\\u",
    ];
    let back_reference = text.as_bytes().windows(2).any(|pair| matches!(pair, [b'\\', b'1'..=b'9']));
    back_reference || constructs.iter().any(|construct| text.contains(construct))
}

impl Criterion {
    pub(super) fn name(self) -> &'static str {
        match self {
            Criterion::All => "allOf",
            Criterion::Any => "anyOf",
            Criterion::One => "oneOf",
        }
    }
}

impl Node {
    pub(super) fn new(shape: Shape) -> Node {
        Node { shape, has_default: false, rest: String::new() }
    }
}

/// What stands in for a node that could not exist.
static NOTHING: Node = Node { shape: Shape::Empty, has_default: false, rest: String::new() };

impl Model {
    pub(super) fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        self.nodes.get(id).unwrap_or(&NOTHING)
    }

    pub(super) fn shape(&self, id: Id) -> &Shape {
        &self.node(id).shape
    }

    /// A reference's target, one step; anything else itself.
    pub(super) fn target(&self, id: Id) -> Id {
        match self.shape(id) {
            Shape::Reference { slot, .. } => self.slots.get(*slot).copied().flatten().unwrap_or(id),
            _ => id,
        }
    }

    /// A node's text, equal for subschemas that count once.
    pub(super) fn print(&self, id: Id) -> String {
        let mut out = String::new();
        self.print_into(id, &mut out);
        out
    }

    fn print_into(&self, id: Id, out: &mut String) {
        let node = self.node(id);
        out.push('(');
        match &node.shape {
            Shape::Empty => out.push('*'),
            Shape::True => out.push_str("true"),
            Shape::False => out.push_str("false"),
            Shape::Null => out.push_str("null"),
            Shape::Boolean => out.push_str("boolean"),
            Shape::Text(text) => {
                let _ = write!(out, "{text:?}");
            }
            Shape::Numeric(numeric) => {
                let _ = write!(out, "{numeric:?}");
            }
            Shape::Object(object) => self.print_object(object, out),
            Shape::Array(array) => {
                let ArrayShape { required_type, additional, min, max, unique, .. } = array.as_ref();
                let _ = write!(out, "array {required_type} {additional} {min:?} {max:?} {unique}");
                for part in [array.all_items, array.additional_schema, array.contains] {
                    self.print_part(part, out);
                }
                array.items.iter().for_each(|item| self.print_into(*item, out));
            }
            Shape::Const(value) => {
                out.push_str("const ");
                value.print_into(true, out);
            }
            Shape::Enum(values) => {
                out.push_str("enum");
                let values: BTreeSet<String> = values.iter().map(|value| value.print(true)).collect();
                values.iter().for_each(|value| {
                    let _ = write!(out, " {value}");
                });
            }
            Shape::Not(inner) => {
                out.push_str("not ");
                self.print_into(*inner, out);
            }
            Shape::Combined { criterion, branches, .. } => {
                out.push_str(criterion.name());
                branches.iter().for_each(|branch| self.print_into(*branch, out));
            }
            Shape::Conditional(parts) => {
                out.push_str("if");
                parts.iter().for_each(|part| self.print_part(*part, out));
            }
            Shape::Reference { text, .. } => {
                let _ = write!(out, "$ref {text:?}");
            }
        }
        out.push_str(&node.rest);
        out.push(')');
    }

    fn print_object(&self, object: &ObjectShape, out: &mut String) {
        let ObjectShape { required_type, required, additional, min, max, array_dependencies, .. } = object;
        let _ = write!(out, "object {required_type} {required:?} {additional} {min:?} {max:?} {array_dependencies:?}");
        for part in [object.additional_schema, object.names] {
            self.print_part(part, out);
        }
        let named = object.properties.iter().map(|(name, id)| ('p', name, *id));
        let patterns = object.patterns.iter().map(|(pattern, id)| ('r', &pattern.text, *id));
        let dependencies = object.schema_dependencies.iter().map(|(name, id)| ('d', name, *id));
        let mut parts: Vec<(char, &String, Id)> = named.chain(patterns).chain(dependencies).collect();
        parts.sort();
        for (kind, name, id) in parts {
            let _ = write!(out, "{kind}{name:?}");
            self.print_into(id, out);
        }
    }

    fn print_part(&self, part: Option<Id>, out: &mut String) {
        match part {
            Some(id) => self.print_into(id, out),
            None => out.push('-'),
        }
    }
}
