//! Results of manifests' tests: as text with a table of what differs, as JSON, and as JUnit XML.

use std::fmt::Write as _;

use annotate_snippets::Renderer;
use serde_json::{Value, json};

use super::diagnostics::one;
use super::json::{place, print};
use super::paint::{Paint, clean, line};
use crate::model::Texts;
use crate::model::test::{Cell, Mismatch, TestResult};
use crate::plan::step::SCHEMA_VERSION;

/// The widest table that is laid out in columns; wider values stand one below the other.
const WIDTH: usize = 76;
/// Rows of one test that are shown; more help nobody.
const MAX_ROWS: usize = 20;

/// One line for each test, what differs below those that failed, and a summary.
pub fn tests_text(results: &[TestResult], texts: &Texts, color: bool) -> String {
    let paint = Paint(color);
    let renderer = if color { Renderer::styled().hyperlink(false) } else { Renderer::plain() };
    let mut out = String::new();
    for result in results {
        let word = match (result.passed(), result.updated) {
            (true, _) => paint.green("ok     "),
            (false, true) => paint.yellow("updated"),
            (false, false) => paint.bold(&paint.red("FAILED ")),
        };
        let _ = writeln!(
            out,
            "{word} {}: {} {}",
            result.product,
            line(&result.name),
            paint.dim(&format!("({})", took(result.micros)))
        );
        if !result.passed() && !result.updated {
            out.push('\n');
            for mismatch in result.mismatches.iter().take(MAX_ROWS) {
                out.push_str(&one(&mismatch.diagnostic, texts, &renderer));
                out.push('\n');
                out.push_str(&table(&mismatch.cells));
                out.push('\n');
            }
            if let Some(more) = result.mismatches.len().checked_sub(MAX_ROWS).filter(|more| *more > 0) {
                let _ = writeln!(out, "and {more} more rows of this test\n");
            }
        }
    }
    out.push_str(&summary(results));
    out
}

/// `11 tests: 10 passed, 1 failed (12.3 ms)`.
fn summary(results: &[TestResult]) -> String {
    let updated = results.iter().filter(|result| result.updated).count();
    let failed = results.iter().filter(|result| !result.passed() && !result.updated).count();
    let passed = results.len() - failed - updated;
    let mut parts = vec![format!("{passed} passed")];
    if failed > 0 {
        parts.push(format!("{failed} failed"));
    }
    if updated > 0 {
        parts.push(format!("{updated} updated"));
    }
    let noun = if results.len() == 1 { "test" } else { "tests" };
    let micros = results.iter().map(|result| result.micros).sum();
    format!("{} {noun}: {} ({})\n", results.len(), parts.join(", "), took(micros))
}

fn took(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

/// The columns that differ, side by side where they fit.
fn table(cells: &[Cell]) -> String {
    if cells.is_empty() {
        return String::new();
    }
    let extra = cells.iter().all(|cell| cell.expected.is_none()) && cells.iter().any(|cell| cell.found.is_some());
    let shown = |value: &Option<String>| value.as_ref().map_or_else(|| "NULL".to_owned(), |value| line(value));
    let mut rows: Vec<[String; 3]> = vec![["column".into(), "expected".into(), "found".into()]];
    rows.extend(cells.iter().map(|cell| [line(&cell.column), shown(&cell.expected), shown(&cell.found)]));
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|text| text.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    if 3 + width(0) + 2 + width(1) + 2 + width(2) <= WIDTH {
        for [column, expected, found] in &rows {
            let pad = |text: &str, to: usize| format!("{text}{}", " ".repeat(to.saturating_sub(text.chars().count())));
            let middle = if extra { String::new() } else { format!("{}  ", pad(expected, width(1))) };
            let _ = writeln!(out, "   {}  {middle}{found}", pad(column, width(0)));
        }
        return out;
    }
    for [column, expected, found] in rows.iter().skip(1) {
        let _ = writeln!(out, "   {column}");
        if !extra {
            let _ = writeln!(out, "     expected {expected}");
        }
        let _ = writeln!(out, "     found    {found}");
    }
    out
}

/// The results for programs.
pub fn tests_json(results: &[TestResult], texts: &Texts) -> String {
    let cell = |cell: &Cell| json!({"column": cell.column, "expected": cell.expected, "found": cell.found});
    let mismatch = |mismatch: &Mismatch| {
        json!({
            "section": mismatch.section.field(),
            "code": mismatch.diagnostic.code.0,
            "message": mismatch.diagnostic.message,
            "help": mismatch.diagnostic.help,
            "place": mismatch.diagnostic.place.as_ref().map(|at| place(at, texts)),
            "columns": mismatch.cells.iter().map(cell).collect::<Vec<Value>>(),
        })
    };
    let test = |result: &TestResult| {
        json!({
            "product": result.product,
            "name": result.name,
            "passed": result.passed(),
            "updated": result.updated,
            "microseconds": result.micros,
            "place": result.place.as_ref().map(|at| place(at, texts)),
            "mismatches": result.mismatches.iter().map(mismatch).collect::<Vec<Value>>(),
        })
    };
    let failed = results.iter().filter(|result| !result.passed() && !result.updated).count();
    print(&json!({
        "schema_version": SCHEMA_VERSION,
        "tests": results.iter().map(test).collect::<Vec<Value>>(),
        "failed": failed,
        "summary": summary(results).trim_end(),
    }))
}

/// The results as JUnit XML: a suite for each product.
pub fn tests_junit(results: &[TestResult], texts: &Texts) -> String {
    let mut products: Vec<&str> = results.iter().map(|result| result.product.as_str()).collect();
    products.dedup();
    let head = |name: &str, of: &[&TestResult]| {
        let failed = of.iter().filter(|result| !result.passed()).count();
        let micros = of.iter().map(|result| result.micros).sum();
        format!("name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" time=\"{}\"", xml(name), of.len(), seconds(micros))
    };
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites {}>", head("mesh test", &results.iter().collect::<Vec<_>>()));
    for product in products {
        let of: Vec<&TestResult> = results.iter().filter(|result| result.product == product).collect();
        let _ = writeln!(out, "  <testsuite {}>", head(product, &of));
        for result in of {
            let at = result.place.as_ref().map(|at| (texts.line_column(at).0, &at.file));
            let at = at.map_or(String::new(), |(line, file)| format!(" file=\"{}\" line=\"{line}\"", xml(file)));
            let name = xml(&result.name);
            let _ = write!(
                out,
                "    <testcase classname=\"{}\" name=\"{name}\"{at} time=\"{}\"",
                xml(product),
                seconds(result.micros)
            );
            match result.mismatches.first() {
                None => out.push_str("/>\n"),
                Some(first) => {
                    let text: Vec<String> = result.mismatches.iter().map(|mismatch| plain(mismatch, texts)).collect();
                    let (kind, message) = (first.diagnostic.code.0, xml(&first.diagnostic.message));
                    let _ = writeln!(
                        out,
                        ">\n      <failure type=\"{kind}\" message=\"{message}\">{}</failure>",
                        xml(&text.join("\n"))
                    );
                    out.push_str("    </testcase>\n");
                }
            }
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// A mismatch without its text: place, message and table.
fn plain(mismatch: &Mismatch, texts: &Texts) -> String {
    let at = mismatch.diagnostic.place.as_ref().map_or(String::new(), |at| {
        let (line, column) = texts.line_column(at);
        format!("{}:{line}:{column}: ", at.file)
    });
    format!("{at}{}\n{}", mismatch.diagnostic.message, table(&mismatch.cells))
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// Text that XML can hold.
fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
