//! Diagnostics: what is wrong with a text that a user wrote, and where.
//!
//! Reading user text returns a value *and* diagnostics, always both. A diagnostic carries a stable code
//! (`M0102`, explained by `mesh explain M0102`), a place, a message and a help line.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A stable code, such as `M0102`. Each room lists its own in `codes.rs`; `mesh explain CODE` reads those lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub &'static str);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What `mesh explain CODE` says of a code.
#[derive(Debug, Clone, Copy)]
pub struct CodeDoc {
    pub code: Code,
    /// A few words: "unknown field".
    pub title: &'static str,
    /// Why it is refused, and what to write instead, with a small example.
    pub explanation: &'static str,
}

/// How much a diagnostic matters: an error stops `plan`, a warning is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Warning,
    Error,
}

/// A range of bytes in a text that the user wrote. The text itself stands in [`Texts`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The file as the user named it, relative to where mesh was started.
    pub file: Arc<str>,
    /// First byte of the range, in the file's text.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
}

impl Place {
    /// The range `bytes` of `file`.
    pub fn new(file: impl Into<Arc<str>>, bytes: Range<usize>) -> Self {
        Place { file: file.into(), start: bytes.start, end: bytes.end }
    }

    /// The start of a file, for what concerns it as a whole.
    pub fn start_of(file: impl Into<Arc<str>>) -> Self {
        Place::new(file, 0..0)
    }
}

/// One thing that is wrong, or worrying, in a user's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: Code,
    pub severity: Severity,
    /// What is wrong, one sentence without a full stop, starting in lower case.
    pub message: String,
    /// Where; `None` only for what has no text (a command line, a whole mesh).
    pub place: Option<Place>,
    /// Further places that belong to it, each with a label ("first declared here").
    pub related: Vec<(Place, String)>,
    /// What would be right, one sentence.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at `place`.
    pub fn error(code: Code, place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Diagnostic {
            code,
            severity: Severity::Error,
            message: message.into(),
            place: place.into(),
            related: Vec::new(),
            help: None,
        }
    }

    /// A warning at `place`.
    pub fn warning(code: Code, place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, place, message) }
    }

    /// The same with a help line.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with a further place.
    #[must_use]
    pub fn related(mut self, place: Place, label: impl Into<String>) -> Self {
        self.related.push((place, label.into()));
        self
    }
}

/// All that is wrong with what was read, in the order of the files.
pub type Diagnostics = Vec<Diagnostic>;

/// Whether any of them is an error.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|d| d.severity == Severity::Error)
}

/// The texts that places point into, by the file's name.
#[derive(Debug, Clone, Default)]
pub struct Texts(BTreeMap<Arc<str>, Arc<str>>);

impl Texts {
    /// Keeps a file's text.
    pub fn insert(&mut self, file: impl Into<Arc<str>>, text: impl Into<Arc<str>>) {
        self.0.insert(file.into(), text.into());
    }

    /// A file's text, if it was read.
    pub fn get(&self, file: &str) -> Option<&Arc<str>> {
        self.0.get(file)
    }

    /// Takes over the texts of `other`.
    pub fn extend(&mut self, other: Texts) {
        self.0.extend(other.0);
    }

    /// Line and column of a place's start, both counted from 1, the column in characters.
    pub fn line_column(&self, place: &Place) -> (usize, usize) {
        let Some(text) = self.get(&place.file) else { return (1, 1) };
        let mut start = place.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        (line, column)
    }
}
