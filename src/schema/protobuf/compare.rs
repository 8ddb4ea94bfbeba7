//! Whether records of one Protobuf schema can be read with another, as the registry sees it.
//!
//! Fields are compared by number, messages by name, enums not at all. A field whose message is declared in a reference
//! that differs, or behind one, is compared with it in depth; there paths begin with the message.

use std::collections::{BTreeMap, BTreeSet};

use super::Protobuf;
use super::names::{Declared, Kind, Names, Origin};
use super::tree::{Field, Label, Message, OneOf, Type, messages};
use crate::schema::{Finding, UNDECIDED};

/// How many fields are compared before the pair of schemas is called undecided.
const MAX_STEPS: usize = 200_000;

/// How deep a comparison may follow fields into other files.
const MAX_DEPTH: usize = 64;

/// Why `reader` can't read what `writer` wrote.
pub(in crate::schema) fn incompatibilities(reader: &Protobuf, writer: &Protobuf) -> Vec<Finding> {
    let (old_names, new_names) = (writer.names(), reader.names());
    let package = |file: &Protobuf| file.file.package.clone().unwrap_or_default();
    let mut check =
        Check { old_names: &old_names, new_names: &new_names, same: same_references(reader, writer), steps: 0, stopped: false };
    let mut scope = Scope {
        old_package: package(writer),
        new_package: package(reader),
        path: Vec::new(),
        names: Vec::new(),
        open: Vec::new(),
        found: Vec::new(),
    };
    if writer.file.package != reader.file.package {
        let show = |package: &Option<String>| package.as_ref().map_or("none".to_owned(), |name| format!("{name:?}"));
        let message = format!(
            "the package is {} in {{reader}} and {} in {{writer}}",
            show(&reader.file.package),
            show(&writer.file.package)
        );
        scope.report("PACKAGE_CHANGED", message);
    }
    check.types(&mut scope, &writer.file.types, &reader.file.types);
    if check.stopped {
        let message = "the schemas refer to each other too deep or too often to be compared".into();
        return vec![Finding { kind: UNDECIDED, path: String::new(), message }];
    }
    scope.found
}

/// Pairs of direct references, of the writer and of the reader, that are the same version of a schema.
fn same_references(reader: &Protobuf, writer: &Protobuf) -> BTreeSet<(usize, usize)> {
    let mut same = BTreeSet::new();
    for (old, one) in writer.references.iter().enumerate() {
        for (new, other) in reader.references.iter().enumerate() {
            if one.text == other.text && one.references == other.references {
                same.insert((old, new));
            }
        }
    }
    same
}

struct Check<'a> {
    old_names: &'a Names<'a>,
    new_names: &'a Names<'a>,
    same: BTreeSet<(usize, usize)>,
    steps: usize,
    stopped: bool,
}

/// Where the comparison is, and what was found since it got into this file.
struct Scope {
    old_package: String,
    new_package: String,
    /// What is printed.
    path: Vec<String>,
    /// The messages of it.
    names: Vec<String>,
    /// The old messages that are being compared, by their places in memory.
    open: Vec<*const Message>,
    found: Vec<Finding>,
}

impl Scope {
    fn report(&mut self, kind: &'static str, message: String) {
        self.found.push(Finding { kind, path: format!("#/{}", self.path.join("/")), message });
    }

    /// The message in which the comparison is, for messages.
    fn here(&self) -> String {
        self.names.join(".")
    }
}

impl<'a> Check<'a> {
    fn types(&mut self, scope: &mut Scope, old: &'a [Type], new: &'a [Type]) {
        let by_name =
            |types: &'a [Type]| messages(types).map(|message| (message.name.as_str(), message)).collect::<BTreeMap<_, _>>();
        let (old, new) = (by_name(old), by_name(new));
        for (name, before) in old {
            scope.path.push(name.to_owned());
            scope.names.push(name.to_owned());
            match new.get(name) {
                Some(after) => self.messages(scope, before, after),
                None => {
                    let known = self.old_names.resolve(name, &scope.old_package, &scope.names);
                    if known.is_some_and(|(_, declared)| !declared.message().is_some_and(Message::is_map_entry)) {
                        let message = format!("message {} is in {{writer}} and not in {{reader}}", scope.here());
                        scope.report("MESSAGE_REMOVED", message);
                    }
                }
            }
            scope.names.pop();
            scope.path.pop();
        }
    }

    fn messages(&mut self, scope: &mut Scope, old: &'a Message, new: &'a Message) {
        if !scope.open.contains(&std::ptr::from_ref(old)) && !self.stopped {
            scope.open.push(old);
            self.fields(scope, old, new);
            scope.open.pop();
        }
        self.types(scope, &old.types, &new.types);
    }

    fn fields(&mut self, scope: &mut Scope, old: &'a Message, new: &'a Message) {
        let mut before = by_number(&old.fields);
        let after = by_number(&new.fields);
        let in_oneofs: BTreeSet<i32> = old.oneofs.iter().flat_map(|oneof| &oneof.fields).map(|field| field.number).collect();
        for oneof in &new.oneofs {
            // A field that moves into a oneof is not compared any more.
            let (mut moved, mut existing) = (Vec::new(), 0);
            for field in &oneof.fields {
                match before.remove(&field.number) {
                    Some(field) => moved.push(field),
                    None => existing += usize::from(in_oneofs.contains(&field.number)),
                }
            }
            scope.path.push(oneof.name.clone());
            match moved.as_slice() {
                [_, _, ..] => {
                    let names: Vec<&str> = moved.iter().map(|field| field.name.as_str()).collect();
                    let message = format!(
                        "oneof {} of {} takes in {}, of which records of {{writer}} may have more than one",
                        oneof.name,
                        scope.here(),
                        names.join(", ")
                    );
                    scope.report("MULTIPLE_FIELDS_MOVED_TO_ONEOF", message);
                }
                [field] if existing > 0 => {
                    let message = format!(
                        "field {} of {} is in oneof {} in {{reader}}, beside fields that were in a oneof before",
                        field.name,
                        scope.here(),
                        oneof.name
                    );
                    scope.report("FIELD_MOVED_TO_EXISTING_ONEOF", message);
                }
                _ => {}
            }
            scope.path.pop();
        }
        let oneofs = |message: &'a Message| message.oneofs.iter().map(|o| (o.name.as_str(), o)).collect::<BTreeMap<_, _>>();
        let new_oneofs = oneofs(new);
        for (name, before) in oneofs(old) {
            if let Some(after) = new_oneofs.get(name) {
                self.oneof(scope, before, after);
            }
        }
        for (number, field) in &before {
            match after.get(number) {
                Some(now) => self.at_field(scope, field, now),
                None if field.label == Some(Label::Required) => scope.at(*number, "REQUIRED_FIELD_REMOVED", |here| {
                    format!("field {} of {here} is required in {{writer}} and not in {{reader}}", field.name)
                }),
                None => {}
            }
        }
        for (number, field) in &after {
            if !before.contains_key(number) && field.label == Some(Label::Required) {
                scope.at(*number, "REQUIRED_FIELD_ADDED", |here| {
                    format!("field {} of {here} is required in {{reader}} and not in {{writer}}", field.name)
                });
            }
        }
    }

    fn oneof(&mut self, scope: &mut Scope, old: &'a OneOf, new: &'a OneOf) {
        let after = by_number(&new.fields);
        scope.path.push(old.name.clone());
        for (number, field) in by_number(&old.fields) {
            match after.get(&number) {
                Some(now) => self.at_field(scope, field, now),
                None => scope.at(number, "ONEOF_FIELD_REMOVED", |here| {
                    format!("field {} of oneof {} of {here} is not in it in {{reader}}", field.name, old.name)
                }),
            }
        }
        scope.path.pop();
    }

    fn at_field(&mut self, scope: &mut Scope, old: &Field, new: &Field) {
        scope.path.push(old.number.to_string());
        self.kinds(scope, &new.name, &old.kind, &new.kind);
        scope.path.pop();
    }

    /// Compares two types; those of a map's keys and values, too.
    fn kinds(&mut self, scope: &mut Scope, field: &str, old: &str, new: &str) {
        self.steps += 1;
        self.stopped |= self.steps > MAX_STEPS || scope.open.len() > MAX_DEPTH;
        if self.stopped {
            return;
        }
        let before = self.old_names.kind(old, &scope.old_package, &scope.names);
        let after = self.new_names.kind(new, &scope.new_package, &scope.names);
        let here = scope.here();
        match (before, after) {
            (Kind::Scalar | Kind::Enum(_), Kind::Scalar | Kind::Enum(_)) => {
                let group = |kind: &str, names: &Names<'_>, package: &str| match names.resolve(kind, package, &scope.names) {
                    Some((_, declared)) if declared.message().is_none() => "general",
                    _ => scalar_group(kind),
                };
                let is = group(new, self.new_names, &scope.new_package);
                if is != group(old, self.old_names, &scope.old_package) {
                    let message =
                        format!("field {field} of {here} is {new} in {{reader}} and {old} in {{writer}}, which have other bytes");
                    scope.report("FIELD_SCALAR_KIND_CHANGED", message);
                }
            }
            (Kind::Map(key, value), Kind::Map(new_key, new_value)) => {
                self.kinds(scope, field, &key, &new_key);
                self.kinds(scope, field, &value, &new_value);
            }
            (Kind::Message(old_name, before), Kind::Message(new_name, after)) => {
                self.named(scope, field, (&old_name, before), (&new_name, after));
            }
            (Kind::Message(..) | Kind::Unknown, Kind::Message(..) | Kind::Unknown) => {
                if old != new {
                    let message = format!("field {field} of {here} is of type {new} in {{reader}} and {old} in {{writer}}");
                    scope.report("FIELD_NAMED_TYPE_CHANGED", message);
                }
            }
            _ => {
                let message = format!("field {field} of {here} is {new} in {{reader}} and {old} in {{writer}}");
                scope.report("FIELD_KIND_CHANGED", message);
            }
        }
    }

    /// Two message types: they must have one name within their packages. If they are from other files, their fields are compared.
    fn named(&mut self, scope: &mut Scope, field: &str, old: (&str, Declared<'a>), new: (&str, Declared<'a>)) {
        let (old_name, before) = (local(old.0, old.1.package), old.1);
        let (new_name, after) = (local(new.0, new.1.package), new.1);
        if old_name != new_name {
            let message =
                format!("field {field} of {} is of type {new_name} in {{reader}} and {old_name} in {{writer}}", scope.here());
            scope.report("FIELD_NAMED_TYPE_CHANGED", message);
            return;
        }
        let same = match (before.origin, after.origin) {
            (Origin::Own, Origin::Own) | (Origin::Known, Origin::Known) => true,
            (Origin::Reference(old), Origin::Reference(new)) => self.same.contains(&(old, new)),
            _ => false,
        };
        let (Some(old_message), Some(new_message), false) = (before.message(), after.message(), same) else { return };
        let names: Vec<String> = old_name.split('.').map(str::to_owned).collect();
        let mut inner = Scope {
            old_package: before.package.to_owned(),
            new_package: after.package.to_owned(),
            path: names.clone(),
            names,
            open: scope.open.clone(),
            found: Vec::new(),
        };
        self.messages(&mut inner, old_message, new_message);
        let differs = !inner.found.is_empty();
        scope.found.append(&mut inner.found);
        if differs {
            let message = format!("field {field} of {} is of type {new_name}, which differs", scope.here());
            scope.report("FIELD_NAMED_TYPE_CHANGED", message);
        }
    }
}

impl Scope {
    /// Reports at a field's number.
    fn at(&mut self, number: i32, kind: &'static str, message: impl Fn(&str) -> String) {
        let message = message(&self.here());
        self.path.push(number.to_string());
        self.report(kind, message);
        self.path.pop();
    }
}

/// Fields by number; of two with one number the later counts.
fn by_number(fields: &[Field]) -> BTreeMap<i32, &Field> {
    fields.iter().map(|field| (field.number, field)).collect()
}

/// A full name without its package.
fn local<'n>(full: &'n str, package: &str) -> &'n str {
    full.strip_prefix(package).and_then(|rest| rest.strip_prefix('.')).filter(|_| !package.is_empty()).unwrap_or(full)
}

/// Types whose bytes are read by each other.
fn scalar_group(kind: &str) -> &'static str {
    match kind {
        "int32" | "int64" | "uint32" | "uint64" | "bool" => "general",
        "sint32" | "sint64" => "zigzag",
        "string" | "bytes" => "text",
        "fixed32" | "sfixed32" => "four bytes",
        "fixed64" | "sfixed64" => "eight bytes",
        "float" => "float",
        _ => "double",
    }
}
