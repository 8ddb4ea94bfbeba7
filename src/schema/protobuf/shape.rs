//! Messages with all their names resolved: what who reads and writes records needs to know of them.

use std::collections::HashMap;

use super::Protobuf;
use super::names::{Declared, Kind, Names, What};
use super::tree::{Choice, Field, Label, MAX_NUMBER, Message, Syntax, Value, messages};

/// The place of a message among [`Messages`].
pub(crate) type Id = usize;

/// The messages of a file, and those that they need from other files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Messages {
    all: Vec<Shape>,
    /// Those that the file declares at its top, in order.
    top: Vec<Id>,
}

/// One message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    /// With the package, without a dot before it.
    pub(crate) name: String,
    /// In the order of their numbers: the registry's print does not keep that of the text.
    pub(crate) members: Vec<Member>,
    /// The messages that are declared in it, in order.
    nested: Vec<Id>,
}

/// One field.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) kind: MemberKind,
    pub(crate) presence: Presence,
    /// Whether a repeated number is written packed.
    pub(crate) packed: bool,
    /// The oneof that it is in.
    pub(crate) oneof: Option<String>,
    /// Precision and scale, where the field's options say them.
    pub(crate) decimal: Option<(u8, i8)>,
}

/// How often a field has a value, and what it means that it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// A record without it is not one.
    Required,
    /// Absent is null.
    Optional,
    /// Absent is the type's zero.
    Implicit,
    Repeated,
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MemberKind {
    Scalar(Scalar),
    /// Names and numbers, in the text's order.
    Enum(Vec<(String, i32)>),
    Message(Id),
    Map(Scalar, Box<MemberKind>),
    /// Why it can't be read.
    Not(String),
}

/// The types that are no messages and no enums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    Bytes,
    Double,
    Float,
    Fixed32,
    Fixed64,
    Int32,
    Int64,
    Sfixed32,
    Sfixed64,
    Sint32,
    Sint64,
    String,
    Uint32,
    Uint64,
}

impl Messages {
    pub(super) fn of(schema: &Protobuf) -> Messages {
        let names = schema.names();
        let mut out = Messages::default();
        let mut open = Open { names: &names, known: HashMap::new(), waiting: Vec::new() };
        let package = schema.file.package.clone().unwrap_or_default();
        for message in schema.file.messages() {
            let id = out.place(&mut open, message, &package, std::slice::from_ref(&message.name));
            out.top.push(id);
        }
        while let Some((id, message, package, path)) = open.waiting.pop() {
            let proto3 = open.names.full(&join(&package, &path)).is_some_and(|declared| declared.syntax == Some(Syntax::Proto3));
            let members = message_members(&mut out, &mut open, message, &package, &path, proto3);
            if let Some(shape) = out.all.get_mut(id) {
                shape.members = members;
            }
        }
        out
    }

    /// The message's place; its members, and messages within it, come later.
    fn place<'a>(&mut self, open: &mut Open<'a>, message: &'a Message, package: &str, path: &[String]) -> Id {
        let name = join(package, path);
        if let Some(id) = open.known.get(&name) {
            return *id;
        }
        let id = self.all.len();
        self.all.push(Shape { name: name.clone(), ..Shape::default() });
        open.known.insert(name, id);
        open.waiting.push((id, message, package.to_owned(), path.to_vec()));
        let mut nested = Vec::new();
        for inner in messages(&message.types) {
            let path: Vec<String> = path.iter().chain([&inner.name]).cloned().collect();
            nested.push(self.place(open, inner, package, &path));
        }
        if let Some(shape) = self.all.get_mut(id) {
            shape.nested = nested;
        }
        id
    }

    /// A message.
    pub(crate) fn get(&self, id: Id) -> Option<&Shape> {
        self.all.get(id)
    }

    /// The message that a record's indexes say: the place at the top, then the place in that, and so on.
    pub(crate) fn by_indexes(&self, indexes: &[usize]) -> Option<Id> {
        let (first, rest) = indexes.split_first()?;
        rest.iter().try_fold(*self.top.get(*first)?, |id, index| self.get(id)?.nested.get(*index).copied())
    }

    /// The file's first message.
    pub(crate) fn first(&self) -> Option<Id> {
        self.top.first().copied()
    }

    /// A message by its name, with or without the package.
    pub(crate) fn by_name(&self, name: &str) -> Option<Id> {
        let full = self.all.iter().position(|shape| shape.name == name);
        full.or_else(|| self.all.iter().position(|shape| shape.name.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))))
    }
}

/// What is being resolved.
struct Open<'a> {
    names: &'a Names<'a>,
    known: HashMap<String, Id>,
    waiting: Vec<(Id, &'a Message, String, Vec<String>)>,
}

fn join(package: &str, path: &[String]) -> String {
    [package].into_iter().filter(|part| !part.is_empty()).chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(".")
}

fn message_members<'a>(
    out: &mut Messages,
    open: &mut Open<'a>,
    message: &'a Message,
    package: &str,
    path: &[String],
    proto3: bool,
) -> Vec<Member> {
    let mut fields: Vec<(&Field, Option<&str>)> = message.all_fields().collect();
    fields.sort_by(|(a, _), (b, _)| (a.number, &a.name, &a.kind).cmp(&(b.number, &b.name, &b.kind)));
    let mut members: Vec<Member> = Vec::new();
    let mut numbers: HashMap<i32, String> = HashMap::new();
    for (field, oneof) in fields {
        let mut kind = out.kind(open, &field.kind, package, path);
        if !(1..=MAX_NUMBER).contains(&field.number) || (19_000..20_000).contains(&field.number) {
            kind = MemberKind::Not(format!("no record can have a field of number {}", field.number));
        } else if let Some(other) = numbers.insert(field.number, field.name.clone()) {
            kind = MemberKind::Not(format!("its number {} is that of {other}, too", field.number));
        }
        let presence = match (field.label, &kind) {
            (_, MemberKind::Map(..)) | (Some(Label::Repeated), _) => Presence::Repeated,
            (Some(Label::Required), _) => Presence::Required,
            (Some(Label::Optional), _) | (_, MemberKind::Message(_)) => Presence::Optional,
            (None, _) if oneof.is_some() || !proto3 => Presence::Optional,
            (None, _) => Presence::Implicit,
        };
        let packed = field.options.iter().rev().find(|option| option.name == "packed");
        members.push(Member {
            name: field.name.clone(),
            number: u32::try_from(field.number).unwrap_or(0),
            kind,
            presence,
            packed: packed.map_or(proto3, |option| matches!(&option.value, Value::Word(word) if word == "true")),
            oneof: oneof.map(str::to_owned),
            decimal: decimal(&field.options),
        });
    }
    for group in &message.groups {
        let reason = "a group is no type for a column; declare a message and a field of it".to_owned();
        members.push(Member {
            name: group.name.to_ascii_lowercase(),
            number: u32::try_from(group.number).unwrap_or(0),
            kind: MemberKind::Not(reason),
            presence: if group.label == Some(Label::Required) { Presence::Required } else { Presence::Optional },
            packed: false,
            oneof: None,
            decimal: None,
        });
    }
    members
}

impl Messages {
    fn kind<'a>(&mut self, open: &mut Open<'a>, kind: &str, package: &str, path: &[String]) -> MemberKind {
        if let Some(scalar) = Scalar::of(kind) {
            return MemberKind::Scalar(scalar);
        }
        match open.names.kind(kind, package, path) {
            Kind::Enum(declared) => {
                MemberKind::Enum(declared.constants.iter().map(|constant| (constant.name.clone(), constant.number)).collect())
            }
            Kind::Message(full, declared) => match declared.what {
                What::Message(message) => {
                    let (package, path) = scope_of(&full, &declared);
                    MemberKind::Message(self.place(open, message, &package, &path))
                }
                What::Enum(_) => MemberKind::Not("an enum where a message is expected".into()),
            },
            Kind::Map(key, value) => match Scalar::of(&key) {
                // A map of maps is taken by the registry, but no record can have it.
                Some(key) if super::tree::map_types(&value).is_none() => {
                    MemberKind::Map(key, Box::new(self.kind(open, &value, package, path)))
                }
                _ => MemberKind::Not(format!("map<{key}, {value}> is no type that records can have")),
            },
            Kind::Scalar | Kind::Unknown => MemberKind::Not(format!("nothing is called {kind}")),
        }
    }
}

/// Package and path of a declared type.
fn scope_of(full: &str, declared: &Declared<'_>) -> (String, Vec<String>) {
    let local = full.strip_prefix(declared.package).filter(|_| !declared.package.is_empty()).unwrap_or(full);
    (declared.package.to_owned(), local.trim_start_matches('.').split('.').map(str::to_owned).collect())
}

impl Scalar {
    fn of(name: &str) -> Option<Scalar> {
        Some(match name {
            "bool" => Scalar::Bool,
            "bytes" => Scalar::Bytes,
            "double" => Scalar::Double,
            "float" => Scalar::Float,
            "fixed32" => Scalar::Fixed32,
            "fixed64" => Scalar::Fixed64,
            "int32" => Scalar::Int32,
            "int64" => Scalar::Int64,
            "sfixed32" => Scalar::Sfixed32,
            "sfixed64" => Scalar::Sfixed64,
            "sint32" => Scalar::Sint32,
            "sint64" => Scalar::Sint64,
            "string" => Scalar::String,
            "uint32" => Scalar::Uint32,
            "uint64" => Scalar::Uint64,
            _ => return None,
        })
    }
}

/// Precision and scale of a decimal, from `(confluent.field_meta).params`.
fn decimal(options: &[Choice]) -> Option<(u8, i8)> {
    let metas = options.iter().filter(|option| option.custom && option.name.trim_start_matches('.').ends_with("field_meta"));
    let mut params: Vec<(String, String)> = Vec::new();
    for meta in metas {
        let value = match &meta.value {
            Value::Inner(inner) if inner.name == "params" => Some(&inner.value),
            Value::Map(entries) => entries.iter().find(|(key, _)| key == "params").map(|(_, value)| value),
            _ => None,
        };
        let list = match value {
            Some(Value::List(list)) => list.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => continue,
        };
        for entry in list {
            let Value::Map(entry) = entry else { continue };
            let text = |name: &str| {
                entry.iter().find(|(key, _)| key == name).and_then(|(_, value)| match value {
                    Value::Text(text) => Some(text.clone()),
                    _ => None,
                })
            };
            params.extend(text("key").zip(text("value")));
        }
    }
    let number = |name: &str| params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let precision: u8 = number("precision")?.parse().ok().filter(|precision| (1..=38).contains(precision))?;
    let scale: i8 = number("scale").unwrap_or("0").parse().ok()?;
    (0..=precision.cast_signed()).contains(&scale).then_some((precision, scale))
}
