//! What a type's name means: the innermost declaration of it, seen from where it stands.
//!
//! All files of a schema are one set of names, whether they are imported or not, and so are those that need no reference.

use std::collections::HashMap;

use super::known;
use super::tree::{Enum, Extend, Field, File, Label, Message, Syntax, Type, map_types};

/// Where a type is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Own,
    /// In the reference of this place among those that the schema names itself.
    Reference(usize),
    /// In a reference of a reference.
    Behind,
    Known,
}

/// A declared type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared<'a> {
    pub(super) what: What<'a>,
    pub(super) package: &'a str,
    pub(super) syntax: Option<Syntax>,
    pub(super) origin: Origin,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    Message(&'a Message),
    Enum(&'a Enum),
}

impl<'a> Declared<'a> {
    pub(super) fn message(&self) -> Option<&'a Message> {
        match self.what {
            What::Message(message) => Some(message),
            What::Enum(_) => None,
        }
    }

    /// The `map<K, V>` that it stands for, if it is a map's entry.
    pub(super) fn map(&self) -> Option<String> {
        let message = self.message().filter(|message| message.is_map_entry())?;
        let kind = |name: &str| message.fields.iter().find(|field| field.name == name).map(|field| field.kind.as_str());
        Some(format!("map<{}, {}>", kind("key")?, kind("value")?))
    }
}

/// Types and extensions by their full names.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    types: HashMap<String, Declared<'a>>,
    extensions: HashMap<String, &'a Field>,
}

impl<'a> Names<'a> {
    /// Adds a file's declarations; of two with the same name, the later counts.
    pub(super) fn add(&mut self, file: &'a File, origin: Origin) {
        let package = file.package.as_deref().unwrap_or_default();
        let mut path: Vec<&str> = if package.is_empty() { Vec::new() } else { vec![package] };
        self.add_extensions(&file.extends, &path);
        self.add_types(&file.types, (package, file.syntax, origin), &mut path);
    }

    fn add_types(&mut self, types: &'a [Type], file: (&'a str, Option<Syntax>, Origin), path: &mut Vec<&'a str>) {
        for declared in types {
            path.push(declared.name());
            let what = match declared {
                Type::Message(message) => {
                    self.add_extensions(&message.extends, path);
                    What::Message(message)
                }
                Type::Enum(declared) => What::Enum(declared),
            };
            let (package, syntax, origin) = file;
            self.types.insert(path.join("."), Declared { what, package, syntax, origin });
            if let Type::Message(message) = declared {
                self.add_types(&message.types, file, path);
            }
            path.pop();
        }
    }

    fn add_extensions(&mut self, extends: &'a [Extend], path: &[&str]) {
        for field in extends.iter().flat_map(|extend| &extend.fields) {
            let full = path.iter().copied().chain([field.name.as_str()]).collect::<Vec<_>>().join(".");
            self.extensions.insert(full, field);
        }
    }

    /// The type with this full name; a dot before it does not count.
    pub(super) fn full(&self, name: &str) -> Option<Declared<'a>> {
        let name = name.strip_prefix('.').unwrap_or(name);
        self.types.get(name).copied().or_else(|| known::NAMES.types.get(name).copied())
    }

    /// The full name of a type that is called `name` at a place in a package, and the type.
    pub(super) fn resolve(&self, name: &str, package: &str, path: &[String]) -> Option<(String, Declared<'a>)> {
        look_up(name, package, path, |full| self.full(full))
    }

    /// The same for an extension.
    pub(super) fn resolve_extension(&self, name: &str, package: &str, path: &[String]) -> Option<(String, &'a Field)> {
        look_up(name, package, path, |full| self.extension(full))
    }

    /// The extension with this full name.
    pub(super) fn extension(&self, full: &str) -> Option<&'a Field> {
        let full = full.strip_prefix('.').unwrap_or(full);
        self.extensions.get(full).copied().or_else(|| known::NAMES.extensions.get(full).copied())
    }

    /// Whether this is the full name of an option that is known, and can be given once only.
    pub(super) fn is_single(&self, full: &str) -> bool {
        self.extension(full).is_some_and(|field| field.label != Some(Label::Repeated))
    }

    /// What a field's type is.
    pub(super) fn kind(&self, kind: &str, package: &str, path: &[String]) -> Kind<'a> {
        if super::tree::SCALARS.contains(&kind) {
            return Kind::Scalar;
        }
        if let Some((key, value)) = map_types(kind) {
            return Kind::Map(key.to_owned(), value.to_owned());
        }
        match self.resolve(kind, package, path) {
            None => Kind::Unknown,
            Some((full, declared)) => match (declared.what, declared.map()) {
                (_, Some(map)) => match map_types(&map) {
                    Some((key, value)) => Kind::Map(key.to_owned(), value.to_owned()),
                    None => Kind::Unknown,
                },
                (What::Enum(declared), _) => Kind::Enum(declared),
                (What::Message(_), None) => Kind::Message(full, declared),
            },
        }
    }
}

/// A field's type, understood.
#[derive(Debug)]
pub(super) enum Kind<'a> {
    Scalar,
    Enum(&'a Enum),
    /// Names of the types of key and value.
    Map(String, String),
    /// Its full name.
    Message(String, Declared<'a>),
    Unknown,
}

/// Looks from the innermost scope outwards.
fn look_up<T>(name: &str, package: &str, path: &[String], find: impl Fn(&str) -> Option<T>) -> Option<(String, T)> {
    if let Some(full) = name.strip_prefix('.') {
        return find(full).map(|found| (full.to_owned(), found));
    }
    let mut scope: Vec<&str> =
        package.split('.').filter(|part| !part.is_empty()).chain(path.iter().map(String::as_str)).collect();
    loop {
        let full = scope.iter().copied().chain([name]).collect::<Vec<_>>().join(".");
        if let Some(found) = find(&full) {
            return Some((full, found));
        }
        scope.pop()?;
    }
}
