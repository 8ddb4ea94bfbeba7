//! Avro schemas: from the text to types, and back to the text that the registry keeps.
//!
//! What is taken as valid is what the registry takes: names are checked but namespaces are not, defaults are not, and a
//! type must stand before its use.

mod columns;
mod compatibility;
mod print;

use std::collections::HashMap;
use std::ops::Range;

use super::SchemaError;
use super::text::{self, MAX_NESTING, Number, Object, Value};

pub(super) use columns::map_of;
pub(super) use compatibility::incompatibilities;

/// A schema's types. Each use of a primitive is a type of its own, each named type exists once.
#[derive(Debug, Clone)]
pub(super) struct Avro {
    types: Vec<Type>,
    root: Id,
    /// Full names of what the references define at their top.
    referenced: Vec<String>,
}

/// The position of a type in [`Avro::types`].
pub(super) type Id = usize;

#[derive(Debug, Clone)]
struct Type {
    kind: Kind,
    /// Everything that Avro itself gives no meaning to, logical types included, sorted by key.
    properties: Vec<(String, Value)>,
}

#[derive(Debug, Clone)]
enum Kind {
    Primitive(Primitive),
    Array(Id),
    Map(Id),
    Union(Vec<Id>),
    Record { named: Named, fields: Vec<Field>, error: bool },
    Enum { named: Named, symbols: Vec<String>, default: Option<String> },
    Fixed { named: Named, size: i32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Primitive {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
}

/// What records, enums and fixed types have in common.
#[derive(Debug, Clone)]
struct Named {
    name: Name,
    doc: Option<String>,
    /// Full names.
    aliases: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    space: Option<String>,
    name: String,
}

#[derive(Debug, Clone)]
struct Field {
    name: String,
    id: Id,
    doc: Option<String>,
    default: Option<Value>,
    order: Order,
    aliases: Vec<String>,
    properties: Vec<(String, Value)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
    Ignore,
}

impl Primitive {
    const ALL: [Primitive; 8] = [
        Primitive::Null,
        Primitive::Boolean,
        Primitive::Int,
        Primitive::Long,
        Primitive::Float,
        Primitive::Double,
        Primitive::Bytes,
        Primitive::String,
    ];

    fn name(self) -> &'static str {
        match self {
            Primitive::Null => "null",
            Primitive::Boolean => "boolean",
            Primitive::Int => "int",
            Primitive::Long => "long",
            Primitive::Float => "float",
            Primitive::Double => "double",
            Primitive::Bytes => "bytes",
            Primitive::String => "string",
        }
    }

    fn named(name: &str) -> Option<Primitive> {
        Primitive::ALL.into_iter().find(|primitive| primitive.name() == name)
    }
}

impl Name {
    /// A name that may be qualified; `space` counts only where it is not.
    fn new(name: &str, space: Option<&str>) -> Name {
        let (space, name) = name.rsplit_once('.').map_or((space, name), |(space, name)| (Some(space), name));
        Name { space: space.filter(|space| !space.is_empty()).map(str::to_owned), name: name.to_owned() }
    }

    fn full(&self) -> String {
        self.space.as_ref().map_or_else(|| self.name.clone(), |space| format!("{space}.{}", self.name))
    }
}

impl Avro {
    fn kind(&self, id: Id) -> &Kind {
        // Ids are only made by `Reader::add`; null stands in for an id that could not exist.
        self.types.get(id).map_or(&Kind::Primitive(Primitive::Null), |found| &found.kind)
    }

    fn properties(&self, id: Id) -> &[(String, Value)] {
        self.types.get(id).map_or(&[], |found| &found.properties)
    }

    /// The type's name: a full one, or that of the kind.
    fn type_name(&self, id: Id) -> String {
        match self.kind(id) {
            Kind::Primitive(primitive) => primitive.name().into(),
            Kind::Array(_) => "array".into(),
            Kind::Map(_) => "map".into(),
            Kind::Union(_) => "union".into(),
            Kind::Record { named, .. } | Kind::Enum { named, .. } | Kind::Fixed { named, .. } => named.name.full(),
        }
    }
}

/// Reads a schema, after the texts that it refers to.
pub(super) fn parse(text: &str, references: &[(&str, &str)]) -> Result<Avro, SchemaError> {
    let mut reader = Reader::default();
    let mut referenced = Vec::new();
    for (name, text) in references {
        let within = |e: SchemaError| SchemaError::new(format!("in the referenced schema {name:?}: {}", e.message), None);
        let value = text::read_whole(text).map_err(SchemaError::malformed).map_err(within)?;
        let id = reader.schema(&value, None).map_err(within)?;
        if let Some(Type { kind: Kind::Record { named, .. } | Kind::Enum { named, .. } | Kind::Fixed { named, .. }, .. }) =
            reader.types.get(id)
        {
            referenced.push(named.name.full());
        }
    }
    let value = text::read_whole(text).map_err(SchemaError::malformed)?;
    let root = reader.schema(&value, None)?;
    let schema = Avro { types: reader.types, root, referenced };
    schema.check_depth(value.span)?;
    Ok(schema)
}

impl Avro {
    /// Refuses types that nest deeper than may be walked; within one text the reader already did, names reach further.
    fn check_depth(&self, span: Range<usize>) -> Result<(), SchemaError> {
        let mut seen = vec![false; self.types.len()];
        let mut open = vec![(self.root, 0)];
        while let Some((id, depth)) = open.pop() {
            if depth > MAX_NESTING {
                return Err(SchemaError::new(format!("types nest deeper than {MAX_NESTING} levels"), Some(span)));
            }
            match seen.get_mut(id) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            match self.kind(id) {
                Kind::Array(inner) | Kind::Map(inner) => open.push((*inner, depth + 1)),
                Kind::Union(branches) => open.extend(branches.iter().rev().map(|id| (*id, depth + 1))),
                Kind::Record { fields, .. } => open.extend(fields.iter().rev().map(|field| (field.id, depth + 1))),
                Kind::Primitive(_) | Kind::Enum { .. } | Kind::Fixed { .. } => {}
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Reader {
    types: Vec<Type>,
    /// Named types by full name.
    names: HashMap<String, Id>,
}

type Read<T> = Result<T, SchemaError>;

fn wrong<T>(message: impl Into<String>, at: &Value) -> Read<T> {
    Err(SchemaError::new(message, Some(at.span.clone())))
}

/// The keys to which Avro gives a meaning, in schemas and in fields.
const SCHEMA_KEYS: [&str; 10] = ["doc", "fields", "items", "name", "namespace", "size", "symbols", "values", "type", "aliases"];
const FIELD_KEYS: [&str; 6] = ["default", "doc", "name", "order", "type", "aliases"];

impl Reader {
    fn add(&mut self, kind: Kind, properties: Vec<(String, Value)>) -> Id {
        self.types.push(Type { kind, properties });
        self.types.len() - 1
    }

    fn schema(&mut self, value: &Value, space: Option<&str>) -> Read<Id> {
        if let Some(name) = value.as_str() {
            return self.find(name, space, value);
        }
        if let Some(branches) = value.as_array() {
            return self.union(branches, space, value);
        }
        let Some(object) = value.as_object() else {
            return wrong(format!("a schema is a type's name, an object or a union, not {}", value.kind()), value);
        };
        let Some(kind) = object.get("type").and_then(Value::as_str) else {
            return wrong("a schema object needs a \"type\" that is a string", value);
        };
        if let Some(primitive) = Primitive::named(kind) {
            return Ok(self.add(Kind::Primitive(primitive), properties(object, &SCHEMA_KEYS)));
        }
        match kind {
            "record" | "error" => self.record(object, kind == "error", space, value),
            "enum" => self.enumeration(object, space, value),
            "fixed" => self.fixed(object, space, value),
            "array" | "map" => {
                let key = if kind == "array" { "items" } else { "values" };
                let Some(inner) = object.get(key) else {
                    return wrong(format!("type {kind:?} needs {key:?}"), value);
                };
                let inner = self.schema(inner, space)?;
                let kind = if kind == "array" { Kind::Array(inner) } else { Kind::Map(inner) };
                Ok(self.add(kind, properties(object, &SCHEMA_KEYS)))
            }
            name => self.find_qualified(name, space, object.get("type").unwrap_or(value)),
        }
    }

    /// A type by its name: a primitive, one of the namespace, one without a namespace.
    fn find(&mut self, name: &str, space: Option<&str>, at: &Value) -> Read<Id> {
        if let Some(primitive) = Primitive::named(name) {
            return Ok(self.add(Kind::Primitive(primitive), Vec::new()));
        }
        let without_space = Name::new(name, None).full();
        match self.names.get(&Name::new(name, space).full()).or_else(|| self.names.get(&without_space)) {
            Some(id) => Ok(*id),
            None => wrong(format!("unknown type {name:?}; a type must be defined before it is used"), at),
        }
    }

    fn find_qualified(&mut self, name: &str, space: Option<&str>, at: &Value) -> Read<Id> {
        match self.names.get(&Name::new(name, space).full()) {
            Some(id) => Ok(*id),
            None => wrong(format!("unknown type {name:?}"), at),
        }
    }

    fn union(&mut self, branches: &[Value], space: Option<&str>, _at: &Value) -> Read<Id> {
        let mut ids = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for branch in branches {
            let id = self.schema(branch, space)?;
            let name = match self.types.get(id).map(|found| &found.kind) {
                Some(Kind::Union(_)) => return wrong("a union can't be a branch of a union", branch),
                Some(Kind::Primitive(primitive)) => primitive.name().to_owned(),
                Some(Kind::Array(_)) => "array".into(),
                Some(Kind::Map(_)) => "map".into(),
                Some(Kind::Record { named, .. } | Kind::Enum { named, .. } | Kind::Fixed { named, .. }) => named.name.full(),
                None => continue,
            };
            if names.contains(&name) {
                return wrong(format!("{name:?} stands twice in a union"), branch);
            }
            names.push(name);
            ids.push(id);
        }
        Ok(self.add(Kind::Union(ids), Vec::new()))
    }

    fn named(&self, object: &Object, space: Option<&str>, at: &Value) -> Read<Named> {
        let Some(name_at) = object.get("name") else {
            return wrong("a named type needs a \"name\"", at);
        };
        let Some(written) = name_at.as_str() else {
            return wrong("a type's \"name\" is a string", name_at);
        };
        let name = Name::new(written, optional_text(object, "namespace").or(space));
        check_name(&name.name, name_at)?;
        let full = name.full();
        if Primitive::named(&full).is_some() {
            return wrong(format!("a type can't be named {full:?}: that is a primitive type"), name_at);
        }
        if self.names.contains_key(&full) {
            return wrong(format!("type {full:?} is defined twice"), name_at);
        }
        let mut aliases = Vec::new();
        for (alias, at) in read_aliases(object)? {
            let alias = Name::new(&alias, name.space.as_deref());
            check_name(&alias.name, at)?;
            aliases.push(alias);
        }
        aliases.sort();
        aliases.dedup();
        Ok(Named { name, doc: optional_text(object, "doc").map(str::to_owned), aliases })
    }

    fn record(&mut self, object: &Object, error: bool, space: Option<&str>, at: &Value) -> Read<Id> {
        let named = self.named(object, space, at)?;
        let space = named.name.space.clone();
        let full = named.name.full();
        // Known before its fields are read, so that they may refer to it.
        let id = self.add(Kind::Record { named: named.clone(), fields: Vec::new(), error }, properties(object, &SCHEMA_KEYS));
        self.names.insert(full.clone(), id);
        let Some(written) = object.get("fields").and_then(Value::as_array) else {
            return wrong(format!("record {full:?} needs an array of \"fields\""), at);
        };
        let mut fields: Vec<Field> = Vec::new();
        for value in written {
            let field = self.field(value, space.as_deref())?;
            if fields.iter().any(|known| known.name == field.name) {
                return wrong(format!("record {full:?} has two fields named {:?}", field.name), value);
            }
            fields.push(field);
        }
        if let Some(found) = self.types.get_mut(id) {
            found.kind = Kind::Record { named, fields, error };
        }
        Ok(id)
    }

    fn field(&mut self, value: &Value, space: Option<&str>) -> Read<Field> {
        let Some(object) = value.as_object() else {
            return wrong(format!("a field is an object, not {}", value.kind()), value);
        };
        let Some(name) = optional_text(object, "name") else {
            return wrong("a field needs a \"name\"", value);
        };
        let Some(written) = object.get("type") else {
            return wrong(format!("field {name:?} needs a \"type\""), value);
        };
        let id = self.schema(written, space)?;
        let order = match object.get("order") {
            None => Order::Ascending,
            Some(order) => match order.as_str().map(str::to_ascii_lowercase).as_deref() {
                Some("ascending") => Order::Ascending,
                Some("descending") => Order::Descending,
                Some("ignore") => Order::Ignore,
                _ => return wrong("a field's order is ascending, descending or ignore", order),
            },
        };
        check_name(name, object.get("name").unwrap_or(value))?;
        let default = object.get("default").cloned();
        let default = match (default, self.types.get(id).map(|found| &found.kind)) {
            (Some(default), Some(Kind::Primitive(Primitive::Float | Primitive::Double))) => Some(floating_default(default)?),
            (default, _) => default,
        };
        let mut aliases: Vec<String> = read_aliases(object)?.into_iter().map(|(alias, _)| alias).collect();
        aliases.sort();
        aliases.dedup();
        Ok(Field {
            name: name.to_owned(),
            id,
            doc: optional_text(object, "doc").map(str::to_owned),
            default,
            order,
            aliases,
            properties: properties(object, &FIELD_KEYS),
        })
    }

    fn enumeration(&mut self, object: &Object, space: Option<&str>, at: &Value) -> Read<Id> {
        let named = self.named(object, space, at)?;
        let full = named.name.full();
        let Some(written) = object.get("symbols").and_then(Value::as_array) else {
            return wrong(format!("enum {full:?} needs an array of \"symbols\""), at);
        };
        let mut symbols: Vec<String> = Vec::new();
        for value in written {
            let Some(symbol) = value.as_str() else {
                return wrong(format!("an enum's symbol is a string, not {}", value.kind()), value);
            };
            check_name(symbol, value)?;
            if symbols.iter().any(|known| known == symbol) {
                return wrong(format!("symbol {symbol:?} stands twice in enum {full:?}"), value);
            }
            symbols.push(symbol.to_owned());
        }
        let default = optional_text(object, "default").map(str::to_owned);
        if let Some(default) = default.as_ref().filter(|default| !symbols.contains(default)) {
            return wrong(format!("the default {default:?} is no symbol of enum {full:?}"), object.get("default").unwrap_or(at));
        }
        let mut properties = properties(object, &SCHEMA_KEYS);
        properties.retain(|(key, _)| key != "default");
        let id = self.add(Kind::Enum { named, symbols, default }, properties);
        self.names.insert(full, id);
        Ok(id)
    }

    fn fixed(&mut self, object: &Object, space: Option<&str>, at: &Value) -> Read<Id> {
        let named = self.named(object, space, at)?;
        let full = named.name.full();
        let size = object.get("size").and_then(Value::as_number).and_then(Number::as_i32).filter(|size| *size >= 0);
        let Some(size) = size else {
            return wrong(format!("fixed {full:?} needs a \"size\" in bytes"), object.get("size").unwrap_or(at));
        };
        let id = self.add(Kind::Fixed { named, size }, properties(object, &SCHEMA_KEYS));
        self.names.insert(full, id);
        Ok(id)
    }
}

/// A member that is a string; anything else counts as absent.
fn optional_text<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

fn properties(object: &Object, reserved: &[&str]) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> = object
        .iter()
        .filter(|member| !reserved.contains(&member.key.as_str()))
        .map(|member| (member.key.clone(), member.value.clone()))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn read_aliases(object: &Object) -> Read<Vec<(String, &Value)>> {
    let Some(written) = object.get("aliases") else { return Ok(Vec::new()) };
    let Some(items) = written.as_array() else {
        return wrong("\"aliases\" is an array of names", written);
    };
    items
        .iter()
        .map(|item| match item.as_str() {
            Some(alias) => Ok((alias.to_owned(), item)),
            None => wrong(format!("an alias is a name, not {}", item.kind()), item),
        })
        .collect()
}

/// The default of a float or double may be written as a string, which must then be a number.
fn floating_default(mut default: Value) -> Read<Value> {
    let Some(text) = default.as_str().map(str::trim) else { return Ok(default) };
    let unsigned = text.trim_start_matches(['-', '+']);
    if matches!(unsigned, "NaN" | "Infinity") {
        return Ok(default);
    }
    let digits = text.trim_end_matches(['f', 'F', 'd', 'D']);
    let number = digits.parse::<f64>().ok().filter(|_| unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.'));
    match number {
        Some(number) => {
            default.data = text::read(&format!("{number:?}")).map_or(default.data, |(value, _)| value.data);
            Ok(default)
        }
        None => wrong(format!("the default {text:?} is no number"), &default),
    }
}

/// Names are made of letters, digits and underscores, and do not begin with a digit. Letters of any script count.
fn check_name(name: &str, at: &Value) -> Read<()> {
    let letter = |c: char| c == '_' || (c.is_alphabetic() && u32::from(c) < 0x1_0000);
    let fine = name.chars().next().is_some_and(letter) && name.chars().all(|c| letter(c) || c.is_numeric());
    if fine { Ok(()) } else { wrong(format!("{name:?} is no name: letters, digits and underscores, no digit first"), at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        match parse(text, &[]) {
            Ok(_) => "fine".into(),
            Err(e) => match e.at.and_then(|at| text.get(at)) {
                Some(at) if at.len() < 30 => format!("{} @ {at}", e.message),
                _ => e.message,
            },
        }
    }

    #[test]
    fn refuses_what_is_no_schema() {
        for (text, message) in [
            ("5", "a schema is a type's name, an object or a union, not a number @ 5"),
            ("{}", "a schema object needs a \"type\" that is a string @ {}"),
            ("\"strng\"", "unknown type \"strng\"; a type must be defined before it is used @ \"strng\""),
            (r#"{"type":"record","fields":[]}"#, r#"a named type needs a "name" @ {"type":"record","fields":[]}"#),
            (
                r#"{"type":"record","name":"R"}"#,
                "record \"R\" needs an array of \"fields\" @ {\"type\":\"record\",\"name\":\"R\"}",
            ),
            (
                r#"{"type":"record","name":"R-2","fields":[]}"#,
                "\"R-2\" is no name: letters, digits and underscores, no digit first @ \"R-2\"",
            ),
            (
                r#"{"type":"record","name":"int","fields":[]}"#,
                "a type can't be named \"int\": that is a primitive type @ \"int\"",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
                "record \"R\" has two fields named \"a\" @ {\"name\":\"a\",\"type\":\"int\"}",
            ),
            (r#"["int","int"]"#, "\"int\" stands twice in a union @ \"int\""),
            (r#"["int",["null"]]"#, "a union can't be a branch of a union @ [\"null\"]"),
            (r#"{"type":"array"}"#, "type \"array\" needs \"items\" @ {\"type\":\"array\"}"),
            (r#"{"type":"fixed","name":"F","size":-1}"#, "fixed \"F\" needs a \"size\" in bytes @ -1"),
            (r#"{"type":"enum","name":"E","symbols":["A","A"]}"#, "symbol \"A\" stands twice in enum \"E\" @ \"A\""),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"double","default":"x"}]}"#,
                "the default \"x\" is no number @ \"x\"",
            ),
            (
                r#"{"type":"enum","name":"E","symbols":["A"],"default":"B"}"#,
                "the default \"B\" is no symbol of enum \"E\" @ \"B\"",
            ),
        ] {
            assert_eq!(error(text), message, "{text}");
        }
    }

    #[test]
    fn takes_what_the_registry_takes() {
        for text in [
            r#"{"type":"record","name":"R","namespace":"a..b","fields":[{"name":"a","type":"int","default":"x"}]}"#,
            r#"{"type":"enum","name":"E","symbols":[]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"double","default":"1.5"}]} "#,
            r#"{"type":"record","name":"Tree","fields":[{"name":"next","type":["null","Tree"]}]}"#,
        ] {
            assert_eq!(error(text), "fine", "{text}");
        }
    }

    #[test]
    fn references_are_read_first_and_their_errors_named() {
        let record = r#"{"type":"record","name":"R","namespace":"x","fields":[{"name":"a","type":"A"}]}"#;
        assert!(parse(record, &[("x.A", r#"{"type":"fixed","name":"x.A","size":1}"#)]).is_ok());
        assert_eq!(
            parse(record, &[("x.A", "nope")]).unwrap_err().message,
            "in the referenced schema \"x.A\": not JSON: found 'n' where a value is expected"
        );
    }

    #[test]
    fn depth_is_bounded_across_names() {
        let mut records = vec![r#"{"type":"record","name":"R0","fields":[]}"#.to_owned()];
        for n in 1..1000 {
            records.push(format!(r#"{{"type":"record","name":"R{n}","fields":[{{"name":"a","type":"R{}"}}]}}"#, n - 1));
        }
        records.reverse();
        let references: Vec<(&str, &str)> = records.iter().rev().map(|text| ("r", text.as_str())).collect();
        assert_eq!(parse("\"R999\"", &references).unwrap_err().message, "types nest deeper than 128 levels");
        assert!(parse("\"R99\"", &references).is_ok());
    }
}
