//! Expressions and what they give: `functions.txt`.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use mesh::engine::{Batch, Dataflow};
use mesh::model::product::{Shape, SqlOrigin, SqlText};
use mesh::sql::{Relation, Relations, Target, bind};

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

#[test]
fn probe() {
    let Some(file) = std::env::var_os("PROBE") else { return };
    for line in std::fs::read_to_string(file).unwrap().lines().filter(|l| !l.is_empty()) {
        let shown = std::panic::catch_unwind(|| value(line)).unwrap_or_else(|_| "PANIC".into());
        eprintln!("{line} => {}", shown.chars().take(160).collect::<String>());
    }
}
