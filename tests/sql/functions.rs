//! Expressions and what they give: `functions.txt`.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use mesh::engine::{Batch, Dataflow};
use mesh::model::product::{Shape, SqlOrigin, SqlText};
use mesh::sql::{Relation, Relations, Target, bind, functions};

/// One stream without a key: expressions are computed over one row of it, in which everything is NULL.
#[derive(Debug)]
struct Nothing;

impl Relations for Nothing {
    fn find(&self, name: &str) -> Option<Arc<Relation>> {
        (name == "nothing").then(|| {
            Arc::new(Relation {
                product: "nothing".into(),
                row_type: Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)])),
                unsupported: Vec::new(),
                shape: Shape::Stream,
                key: Vec::new(),
                time_field: "rowtime".into(),
                disorder_ms: 0,
            })
        })
    }

    fn names(&self) -> Vec<String> {
        vec!["nothing".into()]
    }
}

/// A value as text.
fn text_of(values: &ArrayRef) -> String {
    let options = FormatOptions::default().with_null("NULL");
    ArrayFormatter::try_new(values, &options).unwrap().value(0).to_string()
}

/// What an expression without columns gives: its value, or why there is none.
fn value(expr: &str) -> String {
    let text = SqlText {
        text: format!("SELECT {expr} AS x FROM nothing").into(),
        origin: SqlOrigin::Whole { file: "query.sql".into() },
    };
    let (query, diagnostics) = bind(&text, &Nothing, &Target { shape: Shape::Stream, key: &[] });
    let Some(query) = query else {
        let refusals = diagnostics
            .iter()
            .map(|d| d.help.as_ref().map_or_else(|| d.message.clone(), |help| format!("{} ({help})", d.message)));
        return format!("refused: {}", refusals.collect::<Vec<_>>().join("; "));
    };
    let mut dataflow = match Dataflow::compile(&query) {
        Ok(dataflow) => dataflow,
        Err(error) => return format!("does not compile: {error}"),
    };
    let schema = dataflow.input_schema(0);
    let columns = schema.fields().iter().map(|f| new_null_array(f.data_type(), 1)).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(schema, columns, &options).unwrap();
    match dataflow.step(vec![(0, Batch::inserts(row, vec![0].into()))], 0) {
        Ok(results) => {
            let result = results[0].rows.column(0);
            assert!(!result.is_null(0) || query.row_type.field(0).is_nullable(), "{expr} is NULL, and was said not to be");
            text_of(result)
        }
        Err(error) => format!("error in {}: {}", error.expression, error.reason),
    }
}

#[test]
fn functions_give_what_the_list_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/functions.txt");
    let text = std::fs::read_to_string(&file).unwrap();
    let rewritten: Vec<String> = text
        .lines()
        .map(|line| match line.split_once(" => ") {
            Some((expr, _)) => format!("{expr} => {}", value(expr)),
            None => line.to_string(),
        })
        .collect();
    let rewritten = rewritten.join("\n") + "\n";
    if std::env::var_os("MESH_UPDATE").is_some() {
        std::fs::write(file, &rewritten).unwrap();
    } else {
        assert_eq!(rewritten, text);
    }
}

/// Writes the file if that is asked for, and else compares it.
fn settle(file: &Path, text: &str, rewritten: &str) {
    if std::env::var_os("MESH_UPDATE").is_some() {
        std::fs::write(file, rewritten).unwrap();
    } else {
        assert_eq!(rewritten, text);
    }
}

/// `docs/functions.md` lists what is offered, no more and no less, and every example gives what it says.
#[test]
fn the_documented_functions_are_those_that_are_offered() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/functions.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (mut listed, mut rewritten) = (Vec::new(), String::new());
    let (tables, _) = text.split_once("## Other names\n").unwrap();
    for line in tables.lines() {
        let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").collect();
        match cells.as_slice() {
            [signature, _, example, _] if signature.starts_with('`') => {
                let name = signature.trim_matches('`').split('(').next().unwrap();
                let offered = functions::scalar(name).unwrap_or_else(|| panic!("{name} is not offered"));
                assert_eq!(offered.udf.name(), name, "the table has the functions' own names");
                assert!(example.contains(&format!("{name}(")), "{example} is no example of {name}");
                listed.push(name.to_owned());
                let (nulls, gives) = (format!("{:?}", offered.nulls).to_lowercase(), value(example.trim_matches('`')));
                assert!(!gives.starts_with("refused") && !gives.starts_with("error"), "{example}: {gives}");
                rewritten += &format!("| {signature} | {nulls} | {example} | `{gives}` |\n");
            }
            _ => rewritten += &format!("{line}\n"),
        }
    }
    let missing: Vec<&str> = functions::scalar_names()
        .filter(|n| functions::scalar(n).unwrap().udf.name() == *n)
        .filter(|n| !listed.iter().any(|l| l == n))
        .collect();
    assert!(missing.is_empty(), "not documented: {missing:?}");
    let other = functions::scalar_names().filter_map(|name| {
        let own = functions::scalar(name).unwrap().udf.name();
        (own != name).then(|| format!("`{name}` is `{own}`"))
    });
    rewritten += &format!("## Other names\n\n{}.\n", other.collect::<Vec<_>>().join(",\n"));
    settle(&file, &text, &rewritten);
}

/// Three-valued logic, all of it: computed by its definition, with true above unknown above false.
#[test]
fn logic_has_three_values() {
    let values = [("TRUE", 2), ("CAST(NULL AS BOOLEAN)", 1), ("FALSE", 0)];
    let shown = |rank: i32| ["false", "NULL", "true"][rank as usize];
    for (a, x) in values {
        assert_eq!(value(&format!("NOT {a}")), shown(2 - x));
        for (test, holds) in [("TRUE", x == 2), ("FALSE", x == 0), ("UNKNOWN", x == 1), ("NULL", x == 1)] {
            assert_eq!(value(&format!("{a} IS {test}")), holds.to_string(), "{a} IS {test}");
            assert_eq!(value(&format!("{a} IS NOT {test}")), (!holds).to_string(), "{a} IS NOT {test}");
        }
        for (b, y) in values {
            assert_eq!(value(&format!("{a} AND {b}")), shown(x.min(y)), "{a} AND {b}");
            assert_eq!(value(&format!("{a} OR {b}")), shown(x.max(y)), "{a} OR {b}");
            let equal = if x == 1 || y == 1 { 1 } else { 2 * i32::from(x == y) };
            assert_eq!(value(&format!("{a} = {b}")), shown(equal), "{a} = {b}");
            assert_eq!(value(&format!("{a} <> {b}")), shown(2 - equal), "{a} <> {b}");
            assert_eq!(value(&format!("{a} IS DISTINCT FROM {b}")), (x != y).to_string());
            assert_eq!(value(&format!("{a} IS NOT DISTINCT FROM {b}")), (x == y).to_string());
        }
    }
}

/// Results of whole-number arithmetic over one batch, each row's by itself, against 128 bits.
#[test]
fn whole_numbers_never_wrap() {
    let numbers = [i64::MIN, i64::MIN + 1, -4_294_967_296, -3, -1, 0, 1, 2, 7, 3_037_000_500, i64::MAX - 1, i64::MAX];
    let literal = |n: i64| format!("CAST('{n}' AS BIGINT)");
    let expected = |n: Option<i128>| n.and_then(|n| i64::try_from(n).ok()).map(|n| n.to_string());
    let check = |expr: String, exact: Option<i128>| {
        let gives = value(&expr);
        match expected(exact) {
            Some(number) => assert_eq!(gives, number, "{expr}"),
            None => assert!(gives.starts_with("error in "), "{expr} gives {gives}"),
        }
    };
    for a in numbers {
        check(format!("-{}", literal(a)), Some(-i128::from(a)));
        check(format!("abs({})", literal(a)), Some(i128::from(a).abs()));
        for b in numbers {
            let (x, y) = (i128::from(a), i128::from(b));
            check(format!("{} + {}", literal(a), literal(b)), Some(x + y));
            check(format!("{} - {}", literal(a), literal(b)), Some(x - y));
            check(format!("{} * {}", literal(a), literal(b)), Some(x * y));
            check(format!("{} / {}", literal(a), literal(b)), x.checked_div(y));
            check(format!("{} % {}", literal(a), literal(b)), x.checked_rem(y));
        }
    }
}
