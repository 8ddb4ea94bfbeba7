//! A Protobuf file as declarations: what stands in it, in its order, comments left out.

use std::ops::Range;

/// The largest number of a field; a range up to it is printed as `max`.
pub(super) const MAX_NUMBER: i32 = (1 << 29) - 1;

/// The types that are no messages and no enums.
pub(super) const SCALARS: [&str; 15] = [
    "bool", "bytes", "double", "float", "fixed32", "fixed64", "int32", "int64", "sfixed32", "sfixed64", "sint32", "sint64",
    "string", "uint32", "uint64",
];

/// One file.
#[derive(Debug, Clone, Default)]
pub(in crate::schema) struct File {
    pub(super) syntax: Option<Syntax>,
    pub(super) package: Option<String>,
    pub(super) imports: Vec<String>,
    pub(super) public_imports: Vec<String>,
    pub(super) weak_imports: Vec<String>,
    pub(super) options: Vec<Choice>,
    pub(super) types: Vec<Type>,
    pub(super) extends: Vec<Extend>,
    pub(super) services: Vec<Service>,
}

/// The language's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Proto2,
    Proto3,
}

#[derive(Debug, Clone)]
pub(super) enum Type {
    Message(Message),
    Enum(Enum),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Message {
    pub(super) name: String,
    pub(super) types: Vec<Type>,
    pub(super) options: Vec<Choice>,
    pub(super) reserved: Vec<Vec<Reserved>>,
    pub(super) fields: Vec<Field>,
    pub(super) oneofs: Vec<OneOf>,
    pub(super) extensions: Vec<Extensions>,
    pub(super) groups: Vec<Group>,
    pub(super) extends: Vec<Extend>,
}

#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) label: Option<Label>,
    /// As written, or `map<K, V>`.
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) number: i32,
    pub(super) default: Option<String>,
    pub(super) json_name: Option<String>,
    pub(super) options: Vec<Choice>,
    /// The declaration's bytes.
    pub(super) at: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    Required,
    Optional,
    Repeated,
}

#[derive(Debug, Clone)]
pub(super) struct OneOf {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
    pub(super) groups: Vec<Group>,
    pub(super) options: Vec<Choice>,
}

/// A field and its message type in one.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) label: Option<Label>,
    pub(super) name: String,
    pub(super) number: i32,
    pub(super) fields: Vec<Field>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Enum {
    pub(super) name: String,
    pub(super) options: Vec<Choice>,
    pub(super) constants: Vec<Constant>,
    pub(super) reserved: Vec<Vec<Reserved>>,
}

#[derive(Debug, Clone)]
pub(super) struct Constant {
    pub(super) name: String,
    pub(super) number: i32,
    pub(super) options: Vec<Choice>,
}

/// A number, a range with both of its ends, or a name that is not to be used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reserved {
    Number(i32),
    Range(i32, i32),
    Name(String),
}

/// Numbers that other files may use.
#[derive(Debug, Clone)]
pub(super) struct Extensions {
    pub(super) values: Vec<Reserved>,
    pub(super) options: Vec<Choice>,
}

#[derive(Debug, Clone)]
pub(super) struct Extend {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
}

#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) calls: Vec<Call>,
    pub(super) options: Vec<Choice>,
}

/// An `rpc`.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) request: String,
    pub(super) request_streams: bool,
    pub(super) response: String,
    pub(super) response_streams: bool,
    pub(super) options: Vec<Choice>,
}

/// An `option`, or what stands in brackets behind a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) name: String,
    /// Whether the name stands in parentheses: it is an extension of the options.
    pub(super) custom: bool,
    pub(super) value: Value,
}

/// An option's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Word(String),
    Number(String),
    /// `(a).b = 1`: the option `b` of `a`.
    Inner(Box<Choice>),
    Map(Vec<(String, Value)>),
    List(Vec<Value>),
}

impl File {
    /// Its messages, in order.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        messages(&self.types)
    }
}

/// The messages among types.
pub(super) fn messages(types: &[Type]) -> impl Iterator<Item = &Message> {
    types.iter().filter_map(|declared| match declared {
        Type::Message(message) => Some(message),
        Type::Enum(_) => None,
    })
}

impl Type {
    pub(super) fn name(&self) -> &str {
        match self {
            Type::Message(message) => &message.name,
            Type::Enum(declared) => &declared.name,
        }
    }
}

impl Message {
    /// Fields in and outside of oneofs, with the oneof's name; those outside come first.
    pub(super) fn all_fields(&self) -> impl Iterator<Item = (&Field, Option<&str>)> {
        let inside = self.oneofs.iter().flat_map(|oneof| oneof.fields.iter().map(|field| (field, Some(oneof.name.as_str()))));
        self.fields.iter().map(|field| (field, None)).chain(inside)
    }

    /// Whether it stands for the entries of a map.
    pub(super) fn is_map_entry(&self) -> bool {
        self.options.iter().rev().find(|option| option.name.trim_start_matches('.') == "map_entry").is_some_and(
            |option| matches!(&option.value, Value::Word(word) | Value::Text(word) if word.eq_ignore_ascii_case("true")),
        )
    }
}

/// Key and value of a `map<K, V>`.
pub(super) fn map_types(kind: &str) -> Option<(&str, &str)> {
    let (key, value) = kind.strip_prefix("map<")?.strip_suffix('>')?.split_once(',')?;
    Some((key.trim(), value.trim()))
}
