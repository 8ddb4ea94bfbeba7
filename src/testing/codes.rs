//! The codes of tests: M07xx. M070x are of what a manifest says, M071x of what came out.

use crate::model::diagnostic::{Code, CodeDoc};

pub const FORM: Code = Code("M0701");
pub const UNKNOWN_INPUT: Code = Code("M0702");
pub const UNKNOWN_COLUMN: Code = Code("M0703");
pub const BAD_VALUE: Code = Code("M0704");
pub const MISSING_COLUMN: Code = Code("M0705");
pub const KEY: Code = Code("M0706");
pub const NOTHING_GIVEN: Code = Code("M0707");
pub const NO_DERIVATION: Code = Code("M0708");
pub const NAMED_TWICE: Code = Code("M0709");
pub const DIFFERS: Code = Code("M0711");
pub const MISSING_ROW: Code = Code("M0712");
pub const EXTRA_ROW: Code = Code("M0713");
pub const DEAD_LETTERS: Code = Code("M0714");
pub const LATE: Code = Code("M0715");
pub const NOTHING_EXPECTED: Code = Code("M0716");
pub const NOT_RUN: Code = Code("M0717");

const fn doc(code: Code, title: &'static str, explanation: &'static str) -> CodeDoc {
    CodeDoc { code, title, explanation }
}

/// All of them.
pub const ALL: &[CodeDoc] = &[
    doc(
        FORM,
        "step of a test out of form",
        "A given step is a record (`{at: 00:00:10, value: {id: A}}`), a delete of a table's key (`{at: 00:00:20, key: A, delete: true}`), or the \
         advance of the input's watermark (`{watermark: 00:01:00}`), and only one of them. An expected row has a `value`, or in a changelog `delete: true`.",
    ),
    doc(
        UNKNOWN_INPUT,
        "not an input of the query",
        "A test gives records to the products that the query reads in FROM, by the names of their manifests. A derivation is tested by itself: \
         where it reads another derivation, the test gives that one's rows.",
    ),
    doc(UNKNOWN_COLUMN, "unknown column", "The contract of the input, or the result of the query, has no such column."),
    doc(
        BAD_VALUE,
        "value that the column can't hold",
        "The value is not of the column's type. Values are JSON as the contract has it: timestamps are texts such as `2023-07-17T00:30:58Z`, bytes are base64, \
         a text that looks like a number is quoted.",
    ),
    doc(
        MISSING_COLUMN,
        "required column missing",
        "The query reads the column and the input's contract requires it, so no record comes without it. Columns that may be NULL can be left out, and so can \
         those that the query does not read.",
    ),
    doc(
        KEY,
        "key that does not fit",
        "`key` is the value of the one column that the product's `key` names, or a map of all of them if there are several. Beside a `value` it must be the \
         same as there. A delete needs it.",
    ),
    doc(NOTHING_GIVEN, "nothing given", "A test that gives no record shows nothing, whatever it expects."),
    doc(
        NO_DERIVATION,
        "tests without a derivation",
        "Tests are of a query. A product that a source or another program fills has none.",
    ),
    doc(NAMED_TWICE, "two tests of one name", "A test is told by its name in reports, so names are unique within a product."),
    doc(
        DIFFERS,
        "row that differs",
        "The row comes out with other values than expected. All columns count: one that is left out of the expected row must be NULL. \
         If what came out is right, `mesh test --update` writes it into the manifest, for review.",
    ),
    doc(MISSING_ROW, "row that does not come out", "An expected row does not come out at all, or not at its place in the order."),
    doc(
        EXTRA_ROW,
        "row that is not expected",
        "A row comes out that the test does not expect. Tests are exact: they list every row.",
    ),
    doc(
        DEAD_LETTERS,
        "dead letters not as expected",
        "A record for which the query can't be computed, or whose result the contract does not take, goes to the dead letters. A test lists them under \
         `dead_letters`; when it does not, there must be none.",
    ),
    doc(
        LATE,
        "late records not as expected",
        "A record that comes after the watermark has passed what it belongs to is left out and goes to the late channel. A test lists such records under \
         `late`; when it does not, there must be none. The watermark follows the records' times less the inputs' `time.disorder`, and `watermark` steps.",
    ),
    doc(
        NOTHING_EXPECTED,
        "test that expects nothing",
        "A test says what must come out: `expect` (the rows at the end), `changelog` (every change), `dead_letters` or `late`. `expect: []` says that nothing \
         does. `mesh test --update` writes what came out, for review.",
    ),
    doc(
        NOT_RUN,
        "test that can't be run",
        "The query could not be carried out over the given records at all; the message says why.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        assert!(ALL.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert!(ALL.iter().all(|doc| !doc.explanation.contains("  ")));
    }
}
