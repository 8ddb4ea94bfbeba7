//! The text that the registry keeps of an Avro schema: a fixed order of keys, short names where they suffice, everything
//! without a meaning of its own sorted.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::{Avro, Field, Id, Kind, Named, Order, Primitive};
use crate::schema::text::{Data, Value, print_string};

impl Avro {
    /// The text. `normalize` also gives numbers in defaults the form of their type, and drops empty docs.
    pub(in crate::schema) fn print(&self, normalize: bool) -> String {
        let known = self.referenced.iter().cloned().collect();
        let mut printer = Printer { schema: self, normalize, known, out: String::new() };
        printer.schema(self.root, None);
        printer.out
    }
}

struct Printer<'a> {
    schema: &'a Avro,
    normalize: bool,
    /// Full names of what was printed already, or need not be.
    known: HashSet<String>,
    out: String,
}

impl Printer<'_> {
    fn schema(&mut self, id: Id, space: Option<&str>) {
        let schema = self.schema;
        let properties = schema.properties(id);
        match schema.kind(id) {
            Kind::Primitive(primitive) if properties.is_empty() => print_string(primitive.name(), &mut self.out),
            Kind::Primitive(primitive) => {
                let _ = write!(self.out, "{{\"type\":\"{}\"", primitive.name());
                self.properties(properties);
                self.out.push('}');
            }
            Kind::Array(inner) => self.collection("array", "items", *inner, properties, space),
            Kind::Map(inner) => self.collection("map", "values", *inner, properties, space),
            Kind::Union(branches) => {
                self.out.push('[');
                for (at, branch) in branches.iter().enumerate() {
                    self.comma(at);
                    self.schema(*branch, space);
                }
                self.out.push(']');
            }
            Kind::Record { named, fields, error } => {
                let kind = if *error && !self.normalize { "error" } else { "record" };
                if self.begin_named(kind, named, space) {
                    self.out.push_str(",\"fields\":[");
                    for (at, field) in fields.iter().enumerate() {
                        self.comma(at);
                        self.field(field, named.name.space.as_deref());
                    }
                    self.out.push(']');
                    self.end_named(named, properties);
                }
            }
            Kind::Enum { named, symbols, default } => {
                if self.begin_named("enum", named, space) {
                    self.out.push_str(",\"symbols\":");
                    self.strings(symbols.iter().cloned());
                    if let Some(default) = default {
                        self.text_member("default", default);
                    }
                    self.end_named(named, properties);
                }
            }
            Kind::Fixed { named, size } => {
                if self.begin_named("fixed", named, space) {
                    let _ = write!(self.out, ",\"size\":{size}");
                    self.end_named(named, properties);
                }
            }
        }
    }

    fn collection(&mut self, kind: &str, key: &str, inner: Id, properties: &[(String, Value)], space: Option<&str>) {
        let _ = write!(self.out, "{{\"type\":\"{kind}\",\"{key}\":");
        self.schema(inner, space);
        self.properties(properties);
        self.out.push('}');
    }

    /// Prints a known type's name and says `false`; else begins its definition.
    fn begin_named(&mut self, kind: &str, named: &Named, space: Option<&str>) -> bool {
        let full = named.name.full();
        if !self.known.insert(full.clone()) {
            let reserved = Primitive::named(&named.name.name).is_some() || RESERVED.contains(&named.name.name.as_str());
            let short = named.name.space.is_some() && named.name.space.as_deref() == space && !reserved;
            print_string(if short { &named.name.name } else { &full }, &mut self.out);
            return false;
        }
        let _ = write!(self.out, "{{\"type\":\"{kind}\"");
        self.text_member("name", &named.name.name);
        match (&named.name.space, space) {
            (Some(own), _) if Some(own.as_str()) != space => self.text_member("namespace", own),
            (None, Some(_)) => self.text_member("namespace", ""),
            _ => {}
        }
        if let Some(doc) = named.doc.as_ref().filter(|doc| !(self.normalize && doc.is_empty())) {
            self.text_member("doc", doc);
        }
        true
    }

    fn end_named(&mut self, named: &Named, properties: &[(String, Value)]) {
        self.properties(properties);
        if !named.aliases.is_empty() {
            self.out.push_str(",\"aliases\":");
            let short = |alias: &super::Name| {
                if alias.space == named.name.space && alias.space.is_some() { alias.name.clone() } else { alias.full() }
            };
            self.strings(named.aliases.iter().map(short));
        }
        self.out.push('}');
    }

    fn field(&mut self, field: &Field, space: Option<&str>) {
        self.out.push_str("{\"name\":");
        print_string(&field.name, &mut self.out);
        self.out.push_str(",\"type\":");
        self.schema(field.id, space);
        if let Some(doc) = &field.doc {
            self.text_member("doc", doc);
        }
        if let Some(default) = &field.default {
            self.out.push_str(",\"default\":");
            self.value(default, self.normalize.then_some(field.id));
        }
        match field.order {
            Order::Ascending => {}
            Order::Descending => self.text_member("order", "descending"),
            Order::Ignore => self.text_member("order", "ignore"),
        }
        if !field.aliases.is_empty() {
            self.out.push_str(",\"aliases\":");
            self.strings(field.aliases.iter().cloned());
        }
        self.properties(&field.properties);
        self.out.push('}');
    }

    fn properties(&mut self, properties: &[(String, Value)]) {
        for (key, value) in properties {
            self.out.push(',');
            print_string(key, &mut self.out);
            self.out.push(':');
            self.value(value, None);
        }
    }

    /// A JSON value with sorted keys and numbers as doubles; with a type, whole numbers become doubles where it says so.
    fn value(&mut self, value: &Value, id: Option<Id>) {
        let kind = id.map(|id| self.schema.kind(id));
        let kind = match kind {
            Some(Kind::Union(branches)) => branches.first().map(|id| self.schema.kind(*id)),
            kind => kind,
        };
        match &value.data {
            Data::Number(number) => {
                let double = matches!(kind, Some(Kind::Primitive(Primitive::Float | Primitive::Double)));
                if number.integer && !double {
                    self.out.push_str(&number.print());
                } else {
                    let _ = write!(self.out, "{:?}", number.as_f64());
                }
            }
            Data::Array(items) => {
                let inner = if let Some(Kind::Array(inner)) = kind { Some(*inner) } else { None };
                self.out.push('[');
                for (at, item) in items.iter().enumerate() {
                    self.comma(at);
                    self.value(item, inner);
                }
                self.out.push(']');
            }
            Data::Object(object) => {
                let mut members: Vec<_> = object.iter().collect();
                members.sort_by(|a, b| a.key.cmp(&b.key));
                self.out.push('{');
                for (at, member) in members.into_iter().enumerate() {
                    let inner = match kind {
                        Some(Kind::Map(inner)) => Some(*inner),
                        Some(Kind::Record { fields, .. }) => fields.iter().find(|f| f.name == member.key).map(|f| f.id),
                        _ => None,
                    };
                    self.comma(at);
                    print_string(&member.key, &mut self.out);
                    self.out.push(':');
                    self.value(&member.value, inner);
                }
                self.out.push('}');
            }
            _ => value.print_into(true, &mut self.out),
        }
    }

    fn strings(&mut self, items: impl Iterator<Item = String>) {
        self.out.push('[');
        for (at, item) in items.enumerate() {
            self.comma(at);
            print_string(&item, &mut self.out);
        }
        self.out.push(']');
    }

    fn text_member(&mut self, key: &str, text: &str) {
        let _ = write!(self.out, ",\"{key}\":");
        print_string(text, &mut self.out);
    }

    fn comma(&mut self, at: usize) {
        if at > 0 {
            self.out.push(',');
        }
    }
}

/// Names of kinds of types: a type called so is referred to by its full name.
const RESERVED: [&str; 6] = ["record", "enum", "array", "map", "union", "fixed"];

#[cfg(test)]
mod tests {
    fn print(text: &str, normalize: bool) -> String {
        super::super::parse(text, &[]).map_or_else(|e| e.message, |schema| schema.print(normalize))
    }

    #[test]
    fn short_names_sorted_properties_and_no_whitespace() {
        let text = r#" {"name": "x.R", "namespace": "y", "type": "record", "z": 1, "a": {"c": 2, "b": 1.50}, "aliases": ["Q", "x.P"],
            "fields": [{"name": "n", "type": {"type": "record", "name": "N", "namespace": "x", "fields": []}},
                       {"name": "m", "type": ["null", "x.N"], "default": null, "order": "ascending"}]} "#;
        assert_eq!(
            print(text, false),
            r#"{"type":"record","name":"R","namespace":"x","fields":[{"name":"n","type":{"type":"record","name":"N","fields":[]}},{"name":"m","type":["null","N"],"default":null}],"a":{"b":1.5,"c":2},"z":1,"aliases":["P","Q"]}"#
        );
    }

    #[test]
    fn normalizing_gives_numbers_their_type() {
        let text = r#"{"type":"record","name":"R","doc":"","fields":[{"name":"a","type":{"type":"array","items":"double"},"default":[1]}]}"#;
        assert!(print(text, false).contains(r#""default":[1]"#));
        assert_eq!(
            print(text, true),
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":"double"},"default":[1.0]}]}"#
        );
    }
}
