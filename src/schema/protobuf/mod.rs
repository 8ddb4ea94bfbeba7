//! Protobuf: files as the registry reads, keeps and compares them.
//!
//! The parser is our own. The libraries that there are (protox-parse, protobuf-parse) refuse what the registry takes:
//! numbers used twice, zero, negative or reserved, imports of what nobody knows, enums that do not begin at zero. They also
//! take what it refuses, and give descriptors, from which its print can't be made again: that keeps names as they are
//! written, the order of declarations and the values of options.
//!
//! One walk: `parse` reads declarations (`tree`), or `descriptor` does from a descriptor's bytes in Base64, which some
//! clients register; `names` finds what a type's name means; `print` gives the text that is kept, `compare` the verdicts,
//! `columns` the row type.

mod columns;
mod compare;
mod descriptor;
mod known;
mod names;
mod parse;
mod print;
mod shape;
mod tree;

use std::ops::Range;

pub(in crate::schema) use compare::incompatibilities;
pub(crate) use shape::{Member, MemberKind, Messages, Presence, Scalar};

use names::{Names, Origin};
use tree::File;

use super::{Reference, SchemaError, in_order};

/// A file that was understood, with those that it refers to.
#[derive(Debug, Clone)]
pub(in crate::schema) struct Protobuf {
    file: File,
    /// Those that the file names itself.
    references: Vec<Reference>,
    /// All files that it needs, and the place among `references` of those that it names itself.
    files: Vec<(File, Option<usize>)>,
    /// Their paths.
    paths: Vec<String>,
    plain: String,
    normal: String,
}

/// Reads a file.
pub(in crate::schema) fn parse(text: &str, references: &[Reference]) -> Result<Protobuf, SchemaError> {
    let (mut files, mut paths) = (Vec::new(), Vec::new());
    for (name, text) in in_order(references)? {
        let inner = file(text).map_err(|e| SchemaError::new(format!("reference {name}: {}", e.message), None))?;
        files.push((inner, references.iter().position(|reference| reference.name == name)));
        paths.push(name.to_owned());
    }
    let mut schema = Protobuf {
        file: file(text)?,
        references: references.to_vec(),
        files,
        paths,
        plain: String::new(),
        normal: String::new(),
    };
    schema.plain = print::plain(&schema.file)?;
    let normal = print::normal(&schema.file, &schema.names())?;
    schema.normal = normal;
    // The registry reads again what it has printed.
    if let Err(e) = parse::file(&schema.normal) {
        return Err(SchemaError::new(format!("its normal form can't be read: {}", e.message), None));
    }
    Ok(schema)
}

/// A file's declarations, from a text or from a descriptor.
fn file(text: &str) -> Result<File, SchemaError> {
    parse::file(text).or_else(|e| descriptor::read(text).ok_or(e))
}

/// A file's text as the registry keeps it, read without its references; `None` for what is no file.
pub(in crate::schema) fn reprint(text: &str) -> Option<String> {
    print::plain(&file(text).ok()?).ok()
}

impl Protobuf {
    /// The text that the registry keeps.
    pub(in crate::schema) fn print(&self, normalize: bool) -> String {
        if normalize { self.normal.clone() } else { self.plain.clone() }
    }

    /// The descriptor of the file (`google.protobuf.FileDescriptorProto`, its name `default`) in Base64.
    pub(in crate::schema) fn serialized(&self) -> String {
        descriptor::write(self)
    }

    /// All names that count in the file.
    fn names(&self) -> Names<'_> {
        let mut names = Names::default();
        for (file, place) in &self.files {
            names.add(file, place.map_or(Origin::Behind, Origin::Reference));
        }
        names.add(&self.file, Origin::Own);
        names
    }
}

/// The bytes of a field's declaration in the first message.
pub(in crate::schema) fn locate(text: &str, column: &str) -> Option<Range<usize>> {
    let file = parse::file(text).ok()?;
    let message = file.messages().next()?;
    message.all_fields().find(|(field, _)| field.name == column).map(|(field, _)| field.at.clone())
}
