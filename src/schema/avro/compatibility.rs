//! Whether a reader's Avro schema can read what a writer's wrote, by the rules of Avro 1.11, which are the registry's.
//!
//! Findings are remembered by pair of types, with the path at which the pair was met first. A union tries its branches
//! apart from where it stands: what is wrong inside a branch is not told, and a path found there begins anew. Both is
//! how the registry answers.

use std::collections::HashMap;

use super::super::{Finding, UNDECIDED};
use super::{Avro, Field, Id, Kind, Named, Primitive};
use crate::schema::text::MAX_NESTING;

/// How many pairs of types are looked at before the pair of schemas is called undecided.
const MAX_PAIRS: usize = 1_000_000;

/// Why `reader` can't read what `writer` wrote; empty when it can.
pub(in crate::schema) fn incompatibilities(reader: &Avro, writer: &Avro) -> Vec<Finding> {
    let mut check = Check { reader, writer, known: HashMap::new(), depth: 0, stopped: None };
    let found = check.pair(reader.root, writer.root, &mut Vec::new());
    match check.stopped {
        Some(message) => vec![Finding { kind: UNDECIDED, path: String::new(), message }],
        None => found,
    }
}

struct Check<'a> {
    reader: &'a Avro,
    writer: &'a Avro,
    /// `None` while a pair is being looked at: it counts as compatible until proven otherwise.
    known: HashMap<(Id, Id), Option<Vec<Finding>>>,
    depth: usize,
    /// Why the comparison was given up.
    stopped: Option<String>,
}

/// Path below the root, from the outermost.
type Path = Vec<String>;

impl Check<'_> {
    fn pair(&mut self, reader: Id, writer: Id, path: &mut Path) -> Vec<Finding> {
        if let Some(known) = self.known.get(&(reader, writer)) {
            return known.clone().unwrap_or_default();
        }
        if self.stopped.is_some() {
            return Vec::new();
        }
        if self.depth > MAX_NESTING || self.known.len() > MAX_PAIRS {
            self.stopped = Some("the schemas nest or recurse too deep to be compared".into());
            return Vec::new();
        }
        self.depth += 1;
        self.known.insert((reader, writer), None);
        let found = self.compare(reader, writer, path);
        self.known.insert((reader, writer), Some(found.clone()));
        self.depth -= 1;
        found
    }

    fn step(&mut self, token: &str, reader: Id, writer: Id, path: &mut Path) -> Vec<Finding> {
        path.push(token.to_owned());
        let found = self.pair(reader, writer, path);
        path.pop();
        found
    }

    fn compare(&mut self, reader: Id, writer: Id, path: &mut Path) -> Vec<Finding> {
        let (old, new) = (self.writer.kind(writer), self.reader.kind(reader));
        match (new, old) {
            (Kind::Primitive(new), Kind::Primitive(old)) => {
                if reads(*new, *old) {
                    Vec::new()
                } else {
                    self.mismatch(reader, writer, path)
                }
            }
            (Kind::Array(new), Kind::Array(old)) => self.step("items", *new, *old, path),
            (Kind::Map(new), Kind::Map(old)) => self.step("values", *new, *old, path),
            (Kind::Fixed { named: new, size }, Kind::Fixed { named: old, size: before }) => {
                let mut found = names(new, old, path);
                if size != before {
                    let message = format!("{} is {size} bytes long in {{reader}} and {before} in {{writer}}", new.name.full());
                    found.push(finding("FIXED_SIZE_MISMATCH", path, &["size"], message));
                }
                found
            }
            (Kind::Enum { named: new, symbols, default }, Kind::Enum { named: old, symbols: before, .. }) => {
                let mut found = names(new, old, path);
                let missing: Vec<&str> = before.iter().filter(|symbol| !symbols.contains(symbol)).map(String::as_str).collect();
                if !missing.is_empty() && default.is_none() {
                    let message =
                        format!("enum {} lacks in {{reader}} what {{writer}} has: {}", new.name.full(), missing.join(", "));
                    found.push(finding("MISSING_ENUM_SYMBOLS", path, &["symbols"], message));
                }
                found
            }
            (Kind::Record { named: new, fields, .. }, Kind::Record { named: old, fields: before, .. }) => {
                let mut found = names(new, old, path);
                found.extend(self.fields(&new.name.name, fields, before, writer, path));
                found
            }
            (Kind::Union(_), Kind::Union(branches)) => self.union_of_unions(reader, branches, path),
            (_, Kind::Union(branches)) => {
                branches.iter().flat_map(|branch| self.pair(reader, *branch, &mut Vec::new())).collect()
            }
            (Kind::Union(branches), _) => {
                if branches.iter().any(|branch| self.pair(*branch, writer, &mut Vec::new()).is_empty()) {
                    return Vec::new();
                }
                vec![self.missing_branch(writer, path)]
            }
            _ => self.mismatch(reader, writer, path),
        }
    }

    fn union_of_unions(&mut self, reader: Id, branches: &[Id], path: &mut Path) -> Vec<Finding> {
        let mut found = Vec::new();
        for (at, branch) in branches.iter().enumerate() {
            if !self.pair(reader, *branch, &mut Vec::new()).is_empty() {
                path.push(at.to_string());
                found.push(self.missing_branch(*branch, path));
                path.pop();
            }
        }
        found
    }

    fn fields(&mut self, record: &str, fields: &[Field], before: &[Field], writer: Id, path: &mut Path) -> Vec<Finding> {
        let mut found = Vec::new();
        path.push("fields".into());
        for (at, field) in fields.iter().enumerate() {
            path.push(at.to_string());
            // An alias that repeats the field's own name makes the field ambiguous, too.
            let wanted = std::iter::once(&field.name).chain(&field.aliases);
            let mut sources = wanted.filter_map(|name| before.iter().find(|old| old.name == *name));
            match (sources.next(), sources.next()) {
                (Some(_), Some(_)) => {
                    let message =
                        format!("field {:?} of {record} and its aliases match several fields in {{writer}}", field.name);
                    self.stopped.get_or_insert(message);
                }
                (Some(old), None) => found.extend(self.step("type", field.id, old.id, path)),
                (None, _) if field.default.is_some() => {}
                // An enum's own default stands in for the field's, but then the field is read from the whole record.
                (None, _) if matches!(self.reader.kind(field.id), Kind::Enum { default: Some(_), .. }) => {
                    found.extend(self.step("type", field.id, writer, path));
                }
                (None, _) => {
                    let message = format!(
                        "field {:?} of {record} has no default in {{reader}} and does not exist in {{writer}}",
                        field.name
                    );
                    found.push(finding("READER_FIELD_MISSING_DEFAULT_VALUE", path, &[], message));
                }
            }
            path.pop();
        }
        path.pop();
        found
    }

    fn mismatch(&self, reader: Id, writer: Id, path: &Path) -> Vec<Finding> {
        let (new, old) = (self.reader.type_name(reader), self.writer.type_name(writer));
        vec![finding("TYPE_MISMATCH", path, &[], format!("type {new} in {{reader}} can't read type {old} of {{writer}}"))]
    }

    fn missing_branch(&self, writer: Id, path: &Path) -> Finding {
        let old = self.writer.type_name(writer);
        finding(
            "MISSING_UNION_BRANCH",
            path,
            &[],
            format!("no branch of the union in {{reader}} can read type {old} of {{writer}}"),
        )
    }
}

/// Whether one primitive type reads another.
fn reads(reader: Primitive, writer: Primitive) -> bool {
    use Primitive::{Bytes, Double, Float, Int, Long, String};
    reader == writer
        || matches!(
            (reader, writer),
            (Long, Int) | (Float, Int | Long) | (Double, Int | Long | Float) | (Bytes, String) | (String, Bytes)
        )
}

/// Only the unqualified name counts, or one of the reader's aliases, which are full names.
fn names(reader: &Named, writer: &Named, path: &Path) -> Vec<Finding> {
    let full = writer.name.full();
    let alias = reader.aliases.iter().any(|alias| match (&alias.space, &reader.name.space) {
        (None, Some(_)) => format!(".{}", alias.name) == full,
        _ => alias.full() == full,
    });
    if reader.name.name == writer.name.name || alias {
        return Vec::new();
    }
    let message = format!("the type is named {} in {{reader}} and {full} in {{writer}}", reader.name.full());
    vec![finding("NAME_MISMATCH", path, &["name"], message)]
}

fn finding(kind: &'static str, path: &Path, below: &[&str], message: String) -> Finding {
    let tokens = path.iter().map(String::as_str).chain(below.iter().copied());
    let escaped: Vec<String> = tokens.map(|token| token.replace('~', "~0").replace('/', "~1")).collect();
    Finding { kind, path: format!("/{}", escaped.join("/")), message }
}
