//! The verdicts of a real schema registry, held against ours. The cases and what their fields mean are described in
//! `tests/data/registry/README.md`; nothing in `mesh` knows them.
//!
//! A pair agrees in its verdict when both directions do, and in its errors when the sets of type and path do, too. Every
//! case that does not agree stands in `EXCEPTIONS` with the reason; one that is listed and agrees fails the test.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails by panicking and prints its figures"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mesh::model::product::{Compatibility, Format};
use mesh::schema::{Direction, Incompatibility, Reference, Schema, UNDECIDED, check, parse};
use serde_json::Value;

/// The share of cases that must agree.
const REQUIRED: f64 = 0.99;

/// Cases that do not agree: id and reason.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// How the cases of one file came out.
#[derive(Default)]
struct Tally {
    total: usize,
    verdicts: usize,
    errors: usize,
    /// Cases where the registry itself failed.
    skipped: BTreeMap<&'static str, usize>,
    /// Id and what differs.
    wrong: BTreeMap<String, String>,
}

impl Tally {
    fn skip(&mut self, why: &'static str) {
        *self.skipped.entry(why).or_default() += 1;
    }

    /// Counts a case; `verdict` and `errors` say what differs.
    fn count(&mut self, case: &Value, verdict: Option<String>, errors: Option<String>) {
        self.total += 1;
        self.verdicts += usize::from(verdict.is_none());
        self.errors += usize::from(verdict.is_none() && errors.is_none());
        if let Some(difference) = verdict.or(errors) {
            self.wrong.insert(text(case, "id").to_owned(), format!("{}: {difference}", text(case, "why")));
        }
    }

    /// Prints the figures and fails on too little agreement, on unlisted differences and on listed agreement.
    fn judge(&self, file: &str) {
        let share = |count: usize| 100.0 * count as f64 / self.total.max(1) as f64;
        println!(
            "{file}: verdicts {}/{} ({:.2} %), errors {}/{} ({:.2} %), skipped {:?}",
            self.verdicts,
            self.total,
            share(self.verdicts),
            self.errors,
            self.total,
            share(self.errors),
            self.skipped
        );
        for (id, difference) in &self.wrong {
            println!("  {id} {difference}");
        }
        assert!(self.total > 0, "{file}: no cases");
        assert!(share(self.verdicts) >= 100.0 * REQUIRED, "{file}: too few verdicts agree");
        assert!(share(self.errors) >= 100.0 * REQUIRED, "{file}: too few errors agree");
        let listed: BTreeSet<&str> = EXCEPTIONS.iter().map(|(id, _)| *id).collect();
        let unlisted: Vec<&String> = self.wrong.keys().filter(|id| !listed.contains(id.as_str())).collect();
        assert!(unlisted.is_empty(), "{file}: differ without a reason in EXCEPTIONS: {unlisted:?}");
    }

    /// Fails when a listed case of the file agrees.
    fn judge_exceptions(&self, cases: &[Value]) {
        for (id, _) in EXCEPTIONS {
            let here = cases.iter().any(|case| text(case, "id") == *id);
            assert!(!here || self.wrong.contains_key(*id), "{id} agrees: take it out of EXCEPTIONS");
        }
    }
}

fn cases(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/registry").join(file);
    let lines = std::fs::read_to_string(path).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn format(case: &Value) -> Format {
    match text(case, "format") {
        "AVRO" => Format::Avro,
        "JSON" => Format::Json,
        "PROTOBUF" => Format::Protobuf,
        other => panic!("a format called {other}"),
    }
}

/// The recorded errors as a set of type and path.
fn recorded(verdict: &Value) -> BTreeSet<(String, String)> {
    let errors = verdict["errors"].as_array().map_or(&[][..], Vec::as_slice);
    errors.iter().map(|error| (text(error, "type").to_owned(), text(error, "path").to_owned())).collect()
}

/// Ours; what could not be decided has no type in the registry.
fn ours(found: &[Incompatibility]) -> BTreeSet<(String, String)> {
    found.iter().filter(|found| found.kind != UNDECIDED).map(|found| (found.kind.to_owned(), found.path.clone())).collect()
}

/// What differs between a recorded verdict and ours: in the verdict, in the errors.
fn compare(recorded_verdict: &Value, found: &[Incompatibility], what: &str) -> (Option<String>, Option<String>) {
    let compatible = recorded_verdict["compatible"].as_bool().unwrap();
    let verdict = (compatible != found.is_empty()).then(|| format!("{what} compatible is {compatible}, found {:?}", ours(found)));
    let (theirs, ours) = (recorded(recorded_verdict), ours(found));
    let errors = (theirs != ours).then(|| format!("{what} recorded {theirs:?}, found {ours:?}"));
    (verdict, errors)
}

/// Holds one pair with both of its directions against the record.
fn judge_pair(case: &Value, old: Result<Schema, String>, new: Result<Schema, String>, tally: &mut Tally) {
    for (side, parsed) in [("old", &old), ("new", &new)] {
        let refused = case["invalid"][side].is_object();
        match parsed {
            Err(e) if !refused => return tally.count(case, Some(format!("{side} is valid, but: {e}")), None),
            Ok(_) if refused => return tally.count(case, Some(format!("{side} is invalid")), None),
            _ => {}
        }
    }
    let (Ok(old), Ok(new)) = (old, new) else {
        return tally.count(case, None, None);
    };
    let (mut verdict, mut errors) = (None, None);
    let mut judged = false;
    for (key, level, direction) in
        [("backward", Compatibility::Backward, Direction::Backward), ("forward", Compatibility::Forward, Direction::Forward)]
    {
        if case[key]["status"] == 500 {
            continue;
        }
        judged = true;
        let found = check(level, &new, std::slice::from_ref(&old));
        assert!(found.iter().all(|found| found.direction == direction && !found.message.is_empty()), "{found:?}");
        let (v, e) = compare(&case[key], &found, key);
        verdict = verdict.or(v);
        errors = errors.or(e);
    }
    if judged { tally.count(case, verdict, errors) } else { tally.skip("registry failed") }
}

fn judge_compatibility(file: &str) {
    let cases = cases(file);
    let mut tally = Tally::default();
    for case in &cases {
        let format = format(case);
        let read = |key| parse(format, text(case, key), &[]).map_err(|e| e.message);
        judge_pair(case, read("old"), read("new"), &mut tally);
    }
    tally.judge(file);
    tally.judge_exceptions(&cases);
}

#[test]
fn avro_pairs() {
    judge_compatibility("compatibility-avro.jsonl");
}

#[test]
fn json_pairs() {
    judge_compatibility("compatibility-json.jsonl");
}

#[test]
fn protobuf_pairs() {
    judge_compatibility("compatibility-protobuf.jsonl");
}

#[test]
fn three_versions() {
    let cases = cases("transitive.jsonl");
    let mut tally = Tally::default();
    for case in &cases {
        let format = format(case);
        let versions: Vec<Schema> =
            case["versions"].as_array().unwrap().iter().map(|text| parse(format, text.as_str().unwrap(), &[]).unwrap()).collect();
        let [first, second, third] = versions.as_slice() else { panic!("three versions in {case}") };
        let (mut verdict, mut errors) = (None, None);
        for (level, recorded) in case["levels"].as_object().unwrap() {
            let found = check(level.parse().unwrap(), third, &[first.clone(), second.clone()]);
            let (v, e) = compare(recorded, &found, level);
            verdict = verdict.or(v);
            errors = errors.or(e);
        }
        tally.count(case, verdict, errors);
    }
    tally.judge("transitive.jsonl");
    tally.judge_exceptions(&cases);
}

/// What a list of references means, given the schemas that were registered; `None` when one does not exist.
fn resolve(references: &Value, registered: &Value) -> Option<Vec<Reference>> {
    let list = references.as_array().map_or(&[][..], Vec::as_slice);
    list.iter()
        .map(|reference| {
            let wanted = |known: &&Value| known["subject"] == reference["subject"] && known["version"] == reference["version"];
            let found = registered.as_array().unwrap().iter().find(wanted)?;
            Some(Reference {
                name: text(reference, "name").to_owned(),
                text: text(found, "schema").to_owned(),
                references: resolve(&found["references"], registered)?,
            })
        })
        .collect()
}

#[test]
fn references() {
    let cases = cases("references.jsonl");
    let mut tally = Tally::default();
    for case in &cases {
        let format = format(case);
        let read = |side: &str| {
            let references =
                resolve(&case[format!("{side}_references")], &case["referenced"]).ok_or("a reference that does not exist")?;
            parse(format, text(case, side), &references).map_err(|e| e.message)
        };
        judge_pair(case, read("old"), read("new"), &mut tally);
    }
    tally.judge("references.jsonl");
    tally.judge_exceptions(&cases);
}

#[test]
fn equality() {
    let cases = cases("equality.jsonl");
    let mut tally = Tally::default();
    for case in &cases {
        let format = format(case);
        let (one, other) = (parse(format, text(case, "one"), &[]), parse(format, text(case, "other"), &[]));
        let (mut verdict, mut stored) = (None, None);
        for (key, normalize) in [("plain", false), ("normalize", true)] {
            let recorded = &case[key];
            let refused = |side: &str| recorded[side]["status"].as_u64().is_some_and(|status| status != 200);
            if recorded["same_id"].is_null() {
                let agree = one.is_err() == refused("one") && other.is_err() == refused("other");
                verdict = verdict.or((!agree).then(|| format!("{key}: one {:?}, other {:?}", one.is_ok(), other.is_ok())));
                continue;
            }
            let (Ok(one), Ok(other)) = (&one, &other) else {
                verdict = Some(format!("{key}: valid, but not here"));
                continue;
            };
            let same = recorded["same_id"].as_bool().unwrap();
            verdict = verdict.or((one.same_as(other, normalize) != same).then(|| format!("{key}: same is {same}")));
            for (schema, stored_key) in [(one, "stored_one"), (other, "stored_other")] {
                let text = text(recorded, stored_key);
                let differs = schema.stored(normalize) != text;
                stored = stored.or(differs.then(|| format!("{key}: stored as {text}, here {}", schema.stored(normalize))));
            }
            assert_eq!(one.fingerprint() == other.fingerprint(), one.same_as(other, true), "{case}");
        }
        tally.count(case, verdict, stored);
    }
    tally.judge("equality.jsonl");
    tally.judge_exceptions(&cases);
}
