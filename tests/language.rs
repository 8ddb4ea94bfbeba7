//! The examples of `docs/sql.md`: each query runs over the inputs that the document shows, and gives what it says.
//!
//! A block ```` ```input NAME stream|table [key=COLUMN] [disorder=MS] ```` is an input: its columns with their types, then a
//! row a line in the order of arrival, two spaces between cells; `deleted` behind the key deletes. A block ```` ```sql stream|table [key=..] ````
//! is a query, and the block behind it what it gives: the rows in the order in which they come, with `changes` each behind `+` or `-`; of a
//! table without it the rows that are left. `refused` instead of a shape: what `validate` says. When all rows have come, all windows close.
//! `MESH_UPDATE=1 cargo test --test language` writes what came out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says so when it fails")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use mesh::engine::{BadRow, Batch, Dataflow};
use mesh::model::product::{Shape, SqlOrigin, SqlText};
use mesh::sql::{Query, Relation, Relations, Target, bind};
use serde_json::Value;
use types::data_type;

mod types;

/// A row as it arrives: its time, its cells by column (`None`: null), whether it deletes.
struct Arrival {
    time: i64,
    cells: BTreeMap<String, Option<String>>,
    delete: bool,
}

struct Input {
    relation: Arc<Relation>,
    rows: Vec<Arrival>,
}

#[derive(Default)]
struct Inputs(BTreeMap<String, Input>);

impl Relations for Inputs {
    fn find(&self, name: &str) -> Option<Arc<Relation>> {
        self.0.get(name).map(|input| input.relation.clone())
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

// ------------------------------------------------------------------------------------------------------------- reading

/// The cells of a line; two spaces or more stand between them.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

/// `12:34:56.789` of the first day, in milliseconds.
fn time(text: &str) -> i64 {
    let (clock, ms) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<i64> = clock.split(':').map(|part| part.parse().unwrap()).collect();
    parts.iter().fold(0, |sum, part| sum * 60 + part) * 1000 + ms.parse::<i64>().unwrap()
}

/// What stands behind `NAME=` in the line that opens a block.
fn option<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn names(list: Option<&str>) -> Vec<String> {
    list.into_iter().flat_map(|list| list.split(',')).map(str::to_string).collect()
}

fn input(info: &str, body: &str) -> (String, Input) {
    let words: Vec<&str> = info.split_whitespace().collect();
    let mut lines = body.lines();
    let header = cells(lines.next().unwrap());
    let columns: Vec<(&str, &str)> = header.iter().skip(1).map(|column| column.split_once(' ').unwrap()).collect();
    let key = names(option(info, "key"));
    let fields = columns.iter().map(|(name, of)| {
        let (of, nullable) = of.strip_suffix(" NULL").map_or((*of, false), |of| (of, true));
        Field::new(*name, data_type(of), nullable)
    });
    let relation = Relation {
        product: words[1].into(),
        row_type: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        unsupported: Vec::new(),
        shape: if words[2] == "table" { Shape::Table } else { Shape::Stream },
        key,
        time_field: "rowtime".into(),
        disorder_ms: option(info, "disorder").map_or(0, |ms| ms.parse().unwrap()),
    };
    let rows = lines.map(|line| {
        let given = cells(line);
        let delete = given.last() == Some(&"deleted");
        let names = columns.iter().map(|(name, _)| name.to_string());
        let known = |cell: &&str| (*cell != "NULL").then(|| (*cell).to_string());
        assert!(delete || given.len() == columns.len() + 1, "{line}: {} cells", given.len());
        let cells = names.zip(given.iter().skip(1).filter(|cell| **cell != "deleted").map(known)).collect();
        Arrival { time: time(given[0]), cells, delete }
    });
    (words[1].into(), Input { rows: rows.collect(), relation: Arc::new(relation) })
}

/// Values of one column. Nested ones are JSON.
fn column(of: &DataType, values: &[Option<Value>]) -> ArrayRef {
    match of {
        DataType::List(item) => {
            let lists: Vec<Vec<Value>> =
                values.iter().map(|v| v.as_ref().and_then(Value::as_array).cloned().unwrap_or_default()).collect();
            let items: Vec<Option<Value>> = lists.iter().flatten().map(|v| (!v.is_null()).then(|| v.clone())).collect();
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
            let nulls = NullBuffer::from_iter(values.iter().map(Option::is_some));
            Arc::new(ListArray::new(item.clone(), offsets, column(item.data_type(), &items), Some(nulls)))
        }
        DataType::Map(entries, sorted) => {
            let DataType::Struct(fields) = entries.data_type() else { panic!("a map has entries") };
            let maps: Vec<Vec<(String, Value)>> = values
                .iter()
                .map(|v| v.as_ref().and_then(Value::as_object).map(|o| o.clone().into_iter().collect()).unwrap_or_default())
                .collect();
            let keys: Vec<Option<Value>> = maps.iter().flatten().map(|(k, _)| Some(Value::from(k.clone()))).collect();
            let items: Vec<Option<Value>> = maps.iter().flatten().map(|(_, v)| (!v.is_null()).then(|| v.clone())).collect();
            let columns = vec![column(fields[0].data_type(), &keys), column(fields[1].data_type(), &items)];
            let offsets = OffsetBuffer::from_lengths(maps.iter().map(Vec::len));
            let nulls = NullBuffer::from_iter(values.iter().map(Option::is_some));
            Arc::new(MapArray::new(
                entries.clone(),
                offsets,
                StructArray::new(fields.clone(), columns, None),
                Some(nulls),
                *sorted,
            ))
        }
        DataType::Struct(fields) => {
            let field = |name: &str| -> Vec<Option<Value>> {
                values.iter().map(|v| v.as_ref().and_then(|v| v.get(name)).filter(|v| !v.is_null()).cloned()).collect()
            };
            let columns = fields.iter().map(|f| column(f.data_type(), &field(f.name()))).collect();
            let nulls = NullBuffer::from_iter(values.iter().map(Option::is_some));
            Arc::new(StructArray::new(fields.clone(), columns, Some(nulls)))
        }
        _ => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
            let texts: StringArray = values.iter().map(|value| value.as_ref().map(text)).collect();
            cast(&texts, of).unwrap()
        }
    }
}

fn batch(schema: &Schema, row: &Arrival) -> Batch {
    let value = |field: &Field| {
        let cell = row.cells.get(field.name())?.as_ref()?;
        Some(if field.data_type().is_nested() { serde_json::from_str(cell).unwrap() } else { Value::from(cell.clone()) })
    };
    let columns = schema.fields().iter().map(|field| column(field.data_type(), &[value(field)])).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let rows = RecordBatch::try_new_with_options(Arc::new(schema.clone()), columns, &options).unwrap();
    Batch { deletes: row.delete.then(|| BooleanArray::from(vec![true])), ..Batch::inserts(rows, vec![row.time].into()) }
}

// ------------------------------------------------------------------------------------------------------------- running

/// What came out of a query, in order.
struct Outcome {
    columns: Vec<String>,
    /// Whether it goes, and its cells.
    rows: Vec<(bool, Vec<String>)>,
    notes: Vec<String>,
}

/// The rows of all inputs as the driver merges them: each input in its own order, and by time among each other; each with how far
/// its input has come.
fn merged<'a>(query: &Query, inputs: &'a Inputs) -> Vec<(usize, &'a Arrival, i64)> {
    let mut rows = Vec::new();
    for (at, of) in query.inputs.iter().enumerate() {
        let mut reached = i64::MIN;
        for row in &inputs.0[&of.product].rows {
            reached = reached.max(row.time);
            rows.push((at, row, reached));
        }
    }
    // At the same time, what a table knows goes before what a stream asks.
    rows.sort_by_key(|(at, _, reached)| (*reached, query.inputs[*at].shape == Shape::Stream));
    rows
}

fn run(query: &Query, inputs: &Inputs) -> Result<Outcome, String> {
    let mut flow = Dataflow::compile(query).map_err(|error| format!("{error}\n{query}"))?;
    flow.on_bad_row(BadRow::SetAside);
    let schema = flow.output_schema();
    let columns = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut out = Outcome { columns, rows: Vec::new(), notes: Vec::new() };
    let disorder = query.inputs.iter().map(|input| input.disorder_ms).max().unwrap_or(0);
    let merged = merged(query, inputs);
    let steps = merged.iter().map(|(at, row, reached)| (vec![(*at, batch(&flow.input_schema(*at), row))], reached - disorder));
    let last = (Vec::new(), i64::MAX / 4);
    for (batches, watermark) in steps.collect::<Vec<_>>().into_iter().chain([last]) {
        for batch in flow.step(batches, watermark).map_err(|error| error.to_string())? {
            out.rows.extend((0..batch.len()).map(|i| (batch.is_delete(i), texts(&batch, i, query))));
        }
        out.notes.extend(flow.take_bad_rows().iter().map(|bad| format!("dead letter: {bad}")));
        let late: usize = flow.take_late_rows().len();
        out.notes.extend((late > 0).then(|| format!("late: {late}")));
    }
    Ok(out)
}

/// A row's cells; a delete of an upsert has its key only.
fn texts(batch: &Batch, i: usize, query: &Query) -> Vec<String> {
    let options = FormatOptions::new()
        .with_null("NULL")
        .with_timestamp_tz_format(Some("%H:%M:%S%.3f"))
        .with_timestamp_format(Some("%H:%M:%S%.3f"));
    let cell = |(at, column): (usize, &ArrayRef)| {
        if batch.is_delete(i) && !query.key.contains(&at) {
            return String::new();
        }
        let text = ArrayFormatter::try_new(column, &options).unwrap().value(i).to_string();
        text.strip_suffix(".000").map(str::to_string).unwrap_or(text)
    };
    batch.rows.columns().iter().enumerate().map(cell).collect()
}

/// The rows that are left of a table.
fn left(rows: Vec<(bool, Vec<String>)>, key: &[usize]) -> Vec<(bool, Vec<String>)> {
    let mut left = BTreeMap::new();
    for (goes, row) in rows {
        let key: Vec<String> = key.iter().map(|at| row[*at].clone()).collect();
        if goes {
            left.remove(&key)
        } else {
            left.insert(key, (goes, row))
        };
    }
    left.into_values().collect()
}

fn table(outcome: &Outcome, changes: bool) -> String {
    let sign = |goes: bool| if goes { "-" } else { "+" };
    let first = |text: &str| if changes { vec![text.to_string()] } else { Vec::new() };
    let mut rows = vec![[first("change"), outcome.columns.clone()].concat()];
    rows.extend(outcome.rows.iter().map(|(goes, row)| [first(sign(*goes)), row.clone()].concat()));
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    outcome.notes.iter().for_each(|note| writeln!(text, "{note}").unwrap());
    text
}

/// What an example gives, as text. Error: why it is not carried out.
fn example(info: &str, sql: &str, inputs: &Inputs) -> Result<String, String> {
    let words: Vec<&str> = info.split_whitespace().collect();
    let key = names(option(info, "key"));
    let shape = if words.contains(&"table") { Shape::Table } else { Shape::Stream };
    let text = SqlText { text: sql.into(), origin: SqlOrigin::Whole { file: "query.sql".into() } };
    let (query, diagnostics) = bind(&text, inputs, &Target { shape, key: &key });
    if words.contains(&"refused") {
        if query.is_some() {
            return Err("it is not refused".into());
        }
        let shown = diagnostics.iter().map(|d| {
            let place = d.place.as_ref().map_or("", |place| &sql[place.start..place.end]);
            let help = d.help.as_ref().map(|help| format!("\n  help: {help}")).unwrap_or_default();
            format!("at `{}`: {}{help}\n", place.split_whitespace().collect::<Vec<_>>().join(" "), d.message)
        });
        return Ok(shown.collect());
    }
    let query = query.ok_or_else(|| diagnostics.iter().map(|d| format!("{}\n{:?}\n", d.message, d.help)).collect::<String>())?;
    let changes = words.contains(&"changes");
    let mut outcome = run(&query, inputs)?;
    if shape == Shape::Table && !changes {
        outcome.rows = left(outcome.rows, &query.key);
    }
    Ok(table(&outcome, changes))
}

/// What other documents show as ours is carried out, too.
#[test]
fn every_query_for_newcomers_is_carried_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let blocks = |text: &str| -> Vec<(String, String)> {
        text.split("```").skip(1).step_by(2).filter_map(|part| part.split_once('\n')).map(|(i, b)| (i.into(), b.into())).collect()
    };
    let inputs = blocks(&read("sql.md")).into_iter().filter(|(info, _)| info.starts_with("input "));
    let inputs = Inputs(inputs.map(|(info, body)| input(&info, body.trim_end())).collect());
    for name in ["coming-from-flink.md", "coming-from-ksqldb.md"] {
        let queries: Vec<(String, String)> =
            blocks(&read(name)).into_iter().filter(|(info, _)| info.starts_with("sql ")).collect();
        assert!(queries.len() >= 4, "{name} has {} queries", queries.len());
        for (info, sql) in queries {
            let given = example(&info, &sql, &inputs).unwrap_or_else(|error| panic!("{name}: {error}\n{sql}"));
            assert!(given.lines().count() > 1, "{name}: nothing comes of\n{sql}");
        }
    }
}

#[test]
fn every_example_of_the_language_gives_what_the_document_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sql.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (mut inputs, mut rewritten, mut wrong, mut seen) = (Inputs::default(), String::new(), Vec::new(), 0);
    let mut expected: Option<(String, String)> = None;
    for (at, part) in text.split("```").enumerate() {
        let (info, body) = part.split_once('\n').unwrap_or((part, ""));
        let mut body = body.to_string();
        if at % 2 == 1 {
            if let Some((sql, result)) = expected.take() {
                seen += 1;
                if body != result {
                    wrong.push(format!("{sql}\nsays\n{body}\nand gives\n{result}"));
                }
                body = result;
            } else if info.starts_with("input ") {
                let (name, input) = input(info, body.trim_end());
                inputs.0.insert(name, input);
            } else if info.starts_with("sql ") {
                let given = example(info, &body, &inputs);
                expected = Some((body.clone(), given.unwrap_or_else(|error| format!("IT FAILS: {error}\n"))));
            }
        }
        write!(rewritten, "{}{info}\n{body}", if at == 0 { "" } else { "```" }).unwrap();
    }
    if std::env::var_os("MESH_UPDATE").is_some() {
        std::fs::write(&file, rewritten).unwrap();
        return;
    }
    assert!(seen > 20, "only {seen} examples were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
