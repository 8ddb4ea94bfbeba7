//! Tests of derivations: what a manifest gives and expects, and what came out when it was run.
//!
//! The manifest's reader makes [`Test`]s, `testing` runs them, reports show the [`TestResult`]s.

use serde_json::Value;

use super::diagnostic::{Diagnostic, Place};

/// One test of a product's derivation. Its parts stand in the manifest below `/spec/tests/INDEX`.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// What it shows.
    pub name: String,
    /// What happens to each input, by the product's name, in the order of arrival.
    pub given: Vec<(String, Vec<TestStep>)>,
    /// The rows at the end: a table's by key, a stream's in order per key. `None`: not looked at.
    pub expect: Option<Vec<TestRecord>>,
    /// Every change, in order. `None`: not looked at.
    pub changelog: Option<Vec<TestRecord>>,
    /// What went to the dead letters, in order; none when it is left out.
    pub dead_letters: Vec<SetAside>,
    /// What came too late, in order; none when it is left out.
    pub late: Vec<SetAside>,
}

/// Something that happens to an input.
#[derive(Debug, Clone, PartialEq)]
pub struct TestStep {
    /// The watermark of the input reaches this time; there is no record then.
    pub watermark_ms: Option<i64>,
    pub record: TestRecord,
}

/// A record that is given or expected.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TestRecord {
    pub at_ms: Option<i64>,
    /// The key as it is written: the bare value of one column, or an object of several.
    pub key: Option<Value>,
    /// `None`: not said; null deletes.
    pub value: Option<Value>,
    pub delete: bool,
}

impl TestRecord {
    /// Whether it deletes its key.
    pub fn deletes(&self) -> bool {
        self.delete || self.value == Some(Value::Null)
    }
}

/// A given record that is expected to have been put aside. What is left out is not looked at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SetAside {
    /// The product it was given to.
    pub input: Option<String>,
    pub at_ms: Option<i64>,
    /// Some of its columns.
    pub value: Option<Value>,
    /// Part of the reason.
    pub reason: Option<String>,
}

/// What a test looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    Expect,
    Changelog,
    DeadLetters,
    Late,
}

impl Section {
    /// All of them, in the order they are written.
    pub const ALL: [Section; 4] = [Section::Expect, Section::Changelog, Section::DeadLetters, Section::Late];

    /// Its field in a manifest.
    pub fn field(self) -> &'static str {
        match self {
            Section::Expect => "expect",
            Section::Changelog => "changelog",
            Section::DeadLetters => "dead_letters",
            Section::Late => "late",
        }
    }
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TestResult {
    pub product: String,
    pub name: String,
    /// Where the test's name stands.
    pub place: Option<Place>,
    pub micros: u64,
    /// Empty when it passed.
    pub mismatches: Vec<Mismatch>,
    /// Whether what came out was written into the manifest.
    pub updated: bool,
}

impl TestResult {
    /// Whether all came out as expected.
    pub fn passed(&self) -> bool {
        self.mismatches.is_empty()
    }
}

/// One row that is not as expected, and where the manifest expects it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    pub section: Section,
    pub diagnostic: Diagnostic,
    /// The columns that tell the difference.
    pub cells: Vec<Cell>,
}

/// A column of a row that is not as expected; the values as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    pub column: String,
    /// `None`: there is none.
    pub expected: Option<String>,
    pub found: Option<String>,
}
