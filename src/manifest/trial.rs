//! A product's `tests`: from the document's types to the nouns that are run. Whether they fit the query is for those
//! who run them to say, since that needs the query.

use serde_json::Value;

use super::document::{self, DataProductSpec};
use super::read::Declared;
use super::units::At;
use crate::model::test::{SetAside, Test, TestRecord, TestStep};

/// The tests that a document declares.
pub(super) fn tests(declared: &Declared<'_, DataProductSpec>) -> Vec<Test> {
    let said = |pointer: String| declared.walked.places.contains_key(&pointer);
    let of = |(index, test): (usize, &document::Test)| {
        let pointer = format!("/spec/tests/{index}");
        let steps = |(product, steps): (&String, &Vec<document::TestStep>)| {
            let at = format!("{pointer}/given/{}", product.replace('~', "~0").replace('/', "~1"));
            let step = |(i, step): (usize, &document::TestStep)| TestStep {
                watermark_ms: step.watermark.as_ref().map(ms),
                record: record(&step.at, &step.key, &step.value, step.delete, said(format!("{at}/{i}/value"))),
            };
            (product.clone(), steps.iter().enumerate().map(step).collect())
        };
        let records = |field: &str, list: &Option<Vec<document::TestRecord>>| {
            let one = |(i, r): (usize, &document::TestRecord)| {
                record(&r.at, &r.key, &r.value, r.delete, said(format!("{pointer}/{field}/{i}/value")))
            };
            list.as_ref().map(|list| list.iter().enumerate().map(one).collect())
        };
        let letter = |l: &document::TestLetter| SetAside { reason: l.reason.clone(), ..aside(&l.input, &l.at, &l.value) };
        let late = |l: &document::TestLate| aside(&l.input, &l.at, &l.value);
        Test {
            name: test.name.clone(),
            given: test.given.iter().map(steps).collect(),
            expect: records("expect", &test.expect),
            changelog: records("changelog", &test.changelog),
            dead_letters: test.dead_letters.iter().flatten().map(letter).collect(),
            late: test.late.iter().flatten().map(late).collect(),
        }
    };
    declared.spec.tests.iter().flatten().enumerate().map(of).collect()
}

fn ms(at: &At) -> i64 {
    at.0
}

fn record(at: &Option<At>, key: &Value, value: &Value, delete: bool, said: bool) -> TestRecord {
    TestRecord {
        at_ms: at.as_ref().map(ms),
        key: (!key.is_null()).then(|| key.clone()),
        value: said.then(|| value.clone()),
        delete,
    }
}

fn aside(input: &Option<String>, at: &Option<At>, value: &Value) -> SetAside {
    SetAside { input: input.clone(), at_ms: at.as_ref().map(ms), value: (!value.is_null()).then(|| value.clone()), reason: None }
}
