//! What is not as expected: rows that are missing, that come out beside, and the columns in which others differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::drive::{Change, Found, Left};
use super::form::Script;
use super::rows::Row;
use super::update::{self, Rewrite, time};
use super::{Outcome, codes};
use crate::model::diagnostic::Code;
use crate::model::test::{Cell, Mismatch, Section, SetAside, Test};
use crate::model::{Diagnostic, Product, Shape};

/// Above this many pairs of rows, rows are compared by their places alone.
const MAX_PAIRS: usize = 1_000_000;

/// An expected row beside what came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pair {
    Both(usize, usize),
    Missing(usize),
    Extra(usize),
}

/// Compares what came out with what the test expects.
pub(super) fn compare(product: &Product, test: &Test, index: usize, script: &Script, found: &Found) -> Outcome {
    let mut comparison = Comparison { product, pointer: format!("/spec/tests/{index}"), outcome: Outcome::default() };
    if let Some(expected) = &script.expect {
        comparison.expect(expected, &found.changes);
    }
    if let Some(expected) = &script.changelog {
        comparison.changelog(expected, &found.changes);
    }
    comparison.asides(Section::DeadLetters, &test.dead_letters, &found.dead);
    comparison.asides(Section::Late, &test.late, &found.late);
    let says_nothing = script.expect.is_none() && script.changelog.is_none();
    if says_nothing && test.dead_letters.is_empty() && test.late.is_empty() {
        let message = format!("the test says nothing of what comes out: {}", counted(found.changes.len(), "change"));
        let help = "add `expect`, the rows at the end, or `changelog`, every change; `mesh test --update` writes what came out";
        comparison.mismatch(Section::Expect, codes::NOTHING_EXPECTED, "/name", message, Vec::new(), Some(help));
        comparison.expect_rewritten(&found.changes);
    }
    comparison.outcome
}

struct Comparison<'a> {
    product: &'a Product,
    pointer: String,
    outcome: Outcome,
}

impl Comparison<'_> {
    fn mismatch(&mut self, section: Section, code: Code, below: &str, message: String, cells: Vec<Cell>, help: Option<&str>) {
        let diagnostic = Diagnostic::error(code, self.product.place(&format!("{}{below}", self.pointer)), message);
        let diagnostic = match help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        };
        self.outcome.mismatches.push(Mismatch { section, diagnostic, cells });
    }

    /// The rows at the end.
    fn expect(&mut self, expected: &[Change], changes: &[Change]) {
        let found = self.at_the_end(changes);
        let before = self.outcome.mismatches.len();
        let (mut keep, mut done) = (BTreeMap::new(), BTreeSet::new());
        let by_key = |rows: &[&Change]| {
            let mut keys: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            rows.iter().enumerate().for_each(|(at, row)| keys.entry(self.key_of(&row.row)).or_default().push(at));
            keys
        };
        let expected: Vec<&Change> = expected.iter().collect();
        let (wanted, came) = (by_key(&expected), by_key(&found));
        let mut keys: Vec<&String> = wanted.keys().chain(came.keys().filter(|key| !wanted.contains_key(*key))).collect();
        keys.sort_by_key(|key| wanted.get(*key).and_then(|rows| rows.first()).copied().unwrap_or(usize::MAX));
        for key in keys.into_iter().filter(|key| done.insert((*key).clone())).collect::<Vec<_>>() {
            let (wanted, came) = (wanted.get(key).cloned().unwrap_or_default(), came.get(key).cloned().unwrap_or_default());
            let several = wanted.len().max(came.len()) > 1;
            let row = |at: usize| match (self.product.key.is_empty(), several) {
                (true, _) => format!("row {}", at + 1),
                (false, true) => format!("row {} of {key}", at + 1),
                (false, false) => format!("row {key}"),
            };
            for pair in align(wanted.len(), came.len(), |a, b| match (wanted.get(a), came.get(b)) {
                (Some(a), Some(b)) => same(expected.get(*a).copied(), found.get(*b).copied()),
                _ => false,
            }) {
                let name = match pair {
                    Pair::Both(at, _) | Pair::Missing(at) | Pair::Extra(at) => row(at),
                };
                let pair = absolute(pair, &wanted, &came);
                if let Some((wanted, found)) = self.pair(Section::Expect, pair, &name, &expected, &found) {
                    keep.insert(found, wanted);
                }
            }
        }
        if self.outcome.mismatches.len() > before {
            self.rewrite(Section::Expect, &expected, &found, &keep);
        }
    }

    /// What `expect` should say of a test that says nothing.
    fn expect_rewritten(&mut self, changes: &[Change]) {
        let found = self.at_the_end(changes);
        self.rewrite(Section::Expect, &[], &found, &BTreeMap::new());
    }

    /// The rows that are there at the end: a stream's all, a table's last of each key.
    fn at_the_end<'c>(&self, changes: &'c [Change]) -> Vec<&'c Change> {
        if self.product.shape == Shape::Stream {
            return changes.iter().collect();
        }
        let mut rows: Vec<(String, &Change)> = Vec::new();
        for change in changes {
            let key = self.key_of(&change.row);
            match rows.iter_mut().find(|(other, _)| *other == key) {
                Some((_, row)) => *row = change,
                None => rows.push((key, change)),
            }
        }
        rows.into_iter().map(|(_, row)| row).filter(|row| !row.delete).collect()
    }

    /// Every change in order.
    fn changelog(&mut self, expected: &[Change], changes: &[Change]) {
        let (expected, found): (Vec<&Change>, Vec<&Change>) = (expected.iter().collect(), changes.iter().collect());
        let before = self.outcome.mismatches.len();
        let mut keep = BTreeMap::new();
        for pair in align(expected.len(), found.len(), |a, b| same(expected.get(a).copied(), found.get(b).copied())) {
            let (number, row) = match pair {
                Pair::Both(at, _) | Pair::Missing(at) => (at, expected.get(at)),
                Pair::Extra(at) => (at, found.get(at)),
            };
            let key = row.map(|row| self.key_of(&row.row)).filter(|key| !key.is_empty());
            let name = format!("change {}{}", number + 1, key.map_or(String::new(), |key| format!(", of {key},")));
            if let Some((wanted, found)) = self.pair(Section::Changelog, pair, &name, &expected, &found) {
                keep.insert(found, wanted);
            }
        }
        if self.outcome.mismatches.len() > before {
            self.rewrite(Section::Changelog, &expected, &found, &keep);
        }
    }

    /// Says what is wrong with a pair, if anything is; else gives both places.
    fn pair(
        &mut self,
        section: Section,
        pair: Pair,
        name: &str,
        expected: &[&Change],
        found: &[&Change],
    ) -> Option<(usize, usize)> {
        let field = section.field();
        match pair {
            Pair::Missing(at) => {
                let message = format!("{name} does not come out");
                self.mismatch(section, codes::MISSING_ROW, &format!("/{field}/{at}"), message, Vec::new(), None);
            }
            Pair::Extra(at) => {
                let change = found.get(at)?;
                let cells = cells(None, change, &change.row);
                let message = format!("{name} comes out and is not expected");
                self.mismatch(section, codes::EXTRA_ROW, &format!("/{field}"), message, cells, None);
            }
            Pair::Both(wanted, came) => {
                let (row, change) = (expected.get(wanted)?, found.get(came)?);
                let cells = cells(Some(row), change, &change.row);
                let Some(first) = cells.first() else { return Some((wanted, came)) };
                let below = match first.column.as_str() {
                    "(time)" => format!("/{field}/{wanted}/at"),
                    "(delete)" => format!("/{field}/{wanted}"),
                    column => format!("/{field}/{wanted}/value/{}", column.replace('~', "~0").replace('/', "~1")),
                };
                let message = format!("{name} differs in {}", counted(cells.len(), "column"));
                self.mismatch(section, codes::DIFFERS, &below, message, cells, None);
            }
        }
        None
    }

    fn rewrite(&mut self, section: Section, expected: &[&Change], found: &[&Change], keep: &BTreeMap<usize, usize>) {
        let stream = self.product.shape == Shape::Stream || section == Section::Changelog;
        let with_time = if expected.is_empty() { stream } else { expected.iter().any(|row| row.at_ms.is_some()) };
        let row = |(at, change): (usize, &&Change)| match keep.get(&at) {
            Some(place) => Rewrite::Keep(*place),
            None => Rewrite::New(update::change(self.product, change, with_time)),
        };
        let rows = found.iter().enumerate().map(row).collect();
        self.outcome.rewrites.insert(section, rows);
    }

    /// A row's key in words; empty without one.
    fn key_of(&self, row: &Row) -> String {
        let value = |name: &String| row.get(name).map_or_else(|| "NULL".to_owned(), bare);
        match self.product.key.as_slice() {
            [only] => value(only),
            several => several.iter().map(|name| format!("{name}={}", value(name))).collect::<Vec<_>>().join(", "),
        }
    }

    /// Dead letters and late records.
    fn asides(&mut self, section: Section, expected: &[SetAside], found: &[Left]) {
        let (code, went) = match section {
            Section::DeadLetters => (codes::DEAD_LETTERS, "goes to the dead letters"),
            _ => (codes::LATE, "is late"),
        };
        let field = section.field();
        let before = self.outcome.mismatches.len();
        let mut rewrites = Vec::new();
        let fits = |a: usize, b: usize| expected.get(a).zip(found.get(b)).is_some_and(|(wanted, left)| fits(wanted, left));
        for pair in align(expected.len(), found.len(), fits) {
            match pair {
                Pair::Both(wanted, came) if fits(wanted, came) => rewrites.push(Rewrite::Keep(wanted)),
                Pair::Missing(at) => {
                    let message = format!("no such record {went}");
                    self.mismatch(section, code, &format!("/{field}/{at}"), message, Vec::new(), None);
                }
                Pair::Both(wanted, came) => {
                    let Some(left) = found.get(came) else { continue };
                    let message = format!("another record {went}: {}", named(left));
                    self.mismatch(section, code, &format!("/{field}/{wanted}"), message, Vec::new(), None);
                    rewrites.push(Rewrite::New(update::left(left)));
                }
                Pair::Extra(came) => {
                    let Some(left) = found.get(came) else { continue };
                    let below = match (&left.input, left.step) {
                        (Some(input), Some(step)) => format!("/given/{input}/{step}"),
                        _ => "/name".to_owned(),
                    };
                    let message = format!("a record {went}, and the test does not say so: {}", named(left));
                    let help = format!("if that is right, list it under `{field}`");
                    self.mismatch(section, code, &below, message, Vec::new(), Some(&help));
                    rewrites.push(Rewrite::New(update::left(left)));
                }
            }
        }
        if self.outcome.mismatches.len() > before {
            self.outcome.rewrites.insert(section, rewrites);
        }
    }
}

/// A record that was put aside, in words.
fn named(left: &Left) -> String {
    let from = match &left.input {
        Some(input) => format!("of {input} at {}", time(left.at_ms)),
        None => format!("a result at {}", time(left.at_ms)),
    };
    if left.reason.is_empty() { from } else { format!("{from}, {}", left.reason) }
}

fn fits(wanted: &SetAside, left: &Left) -> bool {
    let columns = |value: &Value| {
        value
            .as_object()
            .is_some_and(|columns| columns.iter().all(|(name, value)| left.row.get(name).unwrap_or(&Value::Null) == value))
    };
    wanted.input.as_ref().is_none_or(|input| left.input.as_ref() == Some(input))
        && wanted.at_ms.is_none_or(|at| at == left.at_ms)
        && wanted.reason.as_ref().is_none_or(|reason| left.reason.contains(reason.as_str()))
        && wanted.value.as_ref().is_none_or(columns)
}

fn same(expected: Option<&Change>, found: Option<&Change>) -> bool {
    expected.zip(found).is_some_and(|(expected, found)| {
        expected.delete == found.delete && expected.at_ms.is_none_or(|at| found.at_ms == Some(at)) && expected.row == found.row
    })
}

/// The columns in which a row differs; of a row that is not expected all of them.
fn cells(expected: Option<&Change>, found: &Change, row: &Row) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut cell = |column: &str, wanted: Option<String>, came: Option<String>| {
        cells.push(Cell { column: column.into(), expected: wanted, found: came });
    };
    let Some(wanted) = expected else {
        if found.delete {
            cell("(delete)", None, Some("yes".into()));
        }
        row.iter().for_each(|(name, value)| cell(name, None, Some(value.to_string())));
        return cells;
    };
    if let Some(at) = wanted.at_ms.filter(|at| found.at_ms != Some(*at)) {
        cell("(time)", Some(time(at)), found.at_ms.map(time));
    }
    if wanted.delete != found.delete {
        let word = |delete: bool| Some(if delete { "yes" } else { "no" }.to_owned());
        cell("(delete)", word(wanted.delete), word(found.delete));
    }
    let others = row.keys().filter(|name| !wanted.row.contains_key(*name));
    for name in wanted.row.keys().chain(others) {
        let (a, b) = (wanted.row.get(name), row.get(name));
        if a != b {
            cell(name, a.map(Value::to_string), b.map(Value::to_string));
        }
    }
    cells
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The places of a pair among all rows, for places among those of one key.
fn absolute(pair: Pair, wanted: &[usize], came: &[usize]) -> Pair {
    let of = |places: &[usize], at: usize| places.get(at).copied().unwrap_or(at);
    match pair {
        Pair::Both(a, b) => Pair::Both(of(wanted, a), of(came, b)),
        Pair::Missing(a) => Pair::Missing(of(wanted, a)),
        Pair::Extra(b) => Pair::Extra(of(came, b)),
    }
}

/// Pairs two lists: as many equal rows as can be in both orders, and between them what is left, one by one.
fn align(wanted: usize, came: usize, same: impl Fn(usize, usize) -> bool) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let (mut a, mut b) = (0, 0);
    let anchors = if wanted.saturating_mul(came) > MAX_PAIRS { Vec::new() } else { common(wanted, came, same) };
    for (x, y) in anchors.into_iter().chain([(wanted, came)]) {
        let both = (x - a).min(y - b);
        pairs.extend((0..both).map(|step| Pair::Both(a + step, b + step)));
        pairs.extend((a + both..x).map(Pair::Missing));
        pairs.extend((b + both..y).map(Pair::Extra));
        if x < wanted && y < came {
            pairs.push(Pair::Both(x, y));
        }
        (a, b) = (x + 1, y + 1);
    }
    pairs
}

/// The longest sequence of equal rows that stands in both lists, in order.
fn common(wanted: usize, came: usize, same: impl Fn(usize, usize) -> bool) -> Vec<(usize, usize)> {
    let width = came + 1;
    let mut longest = vec![0u32; (wanted + 1) * width];
    let mut equal = vec![false; wanted * came];
    let at = |longest: &[u32], a: usize, b: usize| longest.get(a * width + b).copied().unwrap_or(0);
    for a in (0..wanted).rev() {
        for b in (0..came).rev() {
            let is = same(a, b);
            let here = match is {
                true => at(&longest, a + 1, b + 1) + 1,
                false => at(&longest, a + 1, b).max(at(&longest, a, b + 1)),
            };
            if let (Some(cell), Some(flag)) = (longest.get_mut(a * width + b), equal.get_mut(a * came + b)) {
                (*cell, *flag) = (here, is);
            }
        }
    }
    let (mut a, mut b, mut pairs) = (0, 0, Vec::new());
    while a < wanted && b < came {
        if equal.get(a * came + b).copied().unwrap_or(false) {
            pairs.push((a, b));
            (a, b) = (a + 1, b + 1);
        } else if at(&longest, a + 1, b) >= at(&longest, a, b + 1) {
            a += 1;
        } else {
            b += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aligned(wanted: &str, came: &str) -> String {
        let (a, b): (Vec<char>, Vec<char>) = (wanted.chars().collect(), came.chars().collect());
        let show = |pair: Pair| match pair {
            Pair::Both(x, y) if a[x] == b[y] => format!("{}", a[x]),
            Pair::Both(x, y) => format!("{}/{}", a[x], b[y]),
            Pair::Missing(x) => format!("-{}", a[x]),
            Pair::Extra(y) => format!("+{}", b[y]),
        };
        align(a.len(), b.len(), |x, y| a[x] == b[y]).into_iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn equal_rows_hold_the_others_in_place() {
        assert_eq!(aligned("abc", "abc"), "a b c");
        assert_eq!(aligned("abc", "bc"), "-a b c");
        assert_eq!(aligned("abc", "axc"), "a b/x c");
        assert_eq!(aligned("ac", "abbc"), "a +b +b c");
        assert_eq!(aligned("abcd", "bxd"), "-a b c/x d");
        assert_eq!(aligned("", "ab"), "+a +b");
        assert_eq!(aligned("ab", ""), "-a -b");
    }
}
