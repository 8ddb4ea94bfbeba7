//! The dataflow against its slow twins: plain loops over the whole history, which share no code with the operators.
//!
//! Histories are random: several inputs, updates, deletes, nulls, rows out of order within a bound. They are merged as the
//! driver merges them, cut into steps and batches at random, and what comes out must be what the twin says; a dataflow
//! that is stopped anywhere and built again must go on as if nothing had happened.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says so when it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMillisecondType};
use datafusion_common::{DFSchema, DFSchemaRef, TableReference};
use datafusion_expr::{Expr, col, lit};
use mesh::engine::{BadRow, Batch, Dataflow, Rebuild, RowError};
use mesh::model::product::Shape;
use mesh::model::row::rowtime_type;
use mesh::sql::query::{Aggregate, AggregateFunction, AsOf, Changes, Input, JoinKind, Node, On, Query};
use proptest::prelude::*;

mod windows;

mod aggregate;
mod first_row;
mod interval_join;
mod lookup_join;
mod rows;
mod table_join;

/// How far rows of an input may be out of order.
const DISORDER: i64 = 4;

// ---------------------------------------------------------------------------------------------------------------- rows

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Null,
    Integer(i64),
    Text(String),
}

impl Value {
    fn integer(&self) -> Option<i64> {
        if let Value::Integer(n) = self { Some(*n) } else { None }
    }
}

type Row = Vec<Value>;

/// A row of an input, or one that came out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    time: i64,
    row: Row,
    delete: bool,
}

/// A row with the input it belongs to, in the order of arrival.
type Arrival = (usize, Record);

/// All inputs have these columns: a key, a number, a text.
const COLUMNS: [(&str, DataType); 3] = [("k", DataType::Utf8), ("n", DataType::Int64), ("t", DataType::Utf8)];

fn batch_of(records: &[Record]) -> Batch {
    let column = |at: usize, data_type: &DataType| -> ArrayRef {
        match data_type {
            DataType::Int64 => Arc::new(records.iter().map(|r| r.row[at].integer()).collect::<Int64Array>()),
            _ => {
                let text = |value: &Value| if let Value::Text(text) = value { Some(text.clone()) } else { None };
                Arc::new(records.iter().map(|r| text(&r.row[at])).collect::<StringArray>())
            }
        }
    };
    let fields: Vec<Field> = COLUMNS.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect();
    let columns = COLUMNS.iter().enumerate().map(|(at, (_, t))| column(at, t)).collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let mut batch = Batch::inserts(rows, records.iter().map(|r| r.time).collect());
    if records.iter().any(|r| r.delete) {
        batch.deletes = Some(BooleanArray::from(records.iter().map(|r| r.delete).collect::<Vec<_>>()));
    }
    batch
}

fn records_of(batch: &Batch) -> Vec<Record> {
    let value = |column: &ArrayRef, i: usize| match column.data_type() {
        _ if column.is_null(i) => Value::Null,
        DataType::Int64 => Value::Integer(column.as_primitive::<Int64Type>().value(i)),
        DataType::Timestamp(..) => Value::Integer(column.as_primitive::<TimestampMillisecondType>().value(i)),
        DataType::Utf8 => Value::Text(column.as_string::<i32>().value(i).to_owned()),
        other => panic!("a column of type {other}"),
    };
    let row = |i| batch.rows.columns().iter().map(|column| value(column, i)).collect();
    (0..batch.len()).map(|i| Record { time: batch.times[i], row: row(i), delete: batch.is_delete(i) }).collect()
}

// ------------------------------------------------------------------------------------------------------------- queries

fn input(alias: &str, shape: Shape) -> Input {
    let fields: Vec<Field> = COLUMNS.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect();
    let key = if shape == Shape::Table { vec![0] } else { Vec::new() };
    Input {
        product: alias.into(),
        alias: alias.into(),
        shape,
        row_type: Arc::new(Schema::new(fields)),
        key,
        time_column: None,
        disorder_ms: DISORDER,
    }
}

fn scan(at: usize, input: &Input) -> Node {
    let changes = if input.shape == Shape::Table { Changes::Upsert(vec![0]) } else { Changes::Append };
    let columns = input.row_type.fields().iter().map(|f| f.as_ref().clone());
    let columns = columns.chain([Field::new("rowtime", rowtime_type(), false)]);
    let qualifier = TableReference::bare(input.alias.clone());
    Node::Scan { input: at, schema: schema(columns.map(|f| (Some(qualifier.clone()), f)).collect()), changes }
}

fn schema(fields: Vec<(Option<TableReference>, Field)>) -> DFSchemaRef {
    let fields = fields.into_iter().map(|(qualifier, field)| (qualifier, Arc::new(field))).collect();
    Arc::new(DFSchema::new_with_metadata(fields, Default::default()).unwrap())
}

fn joined(left: &Node, right: &Node) -> DFSchemaRef {
    Arc::new(left.schema().join(right.schema()).unwrap())
}

fn project(node: Node, columns: &[(&str, Expr, DataType)], changes: Changes) -> Node {
    let fields = columns.iter().map(|(name, _, t)| (None, Field::new(*name, t.clone(), true))).collect();
    let columns = columns.iter().map(|(_, expr, _)| expr.clone()).collect();
    Node::Project { input: Box::new(node), columns, schema: schema(fields), changes }
}

fn query(inputs: Vec<Input>, root: Node) -> Query {
    let fields: Vec<Field> = root.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    let key = if let Changes::Upsert(key) = root.changes() { key } else { Vec::new() };
    Query { inputs, root, row_type: Arc::new(Schema::new(fields)), key, uses: Vec::new() }
}

fn on(left: &str, right: &str) -> Vec<On> {
    vec![On { left: col(left), right: col(right) }]
}

/// `s` with the version of `t` at its time, or that has arrived last: s.k, s.n, t.n, t.t
fn lookup_query(kind: JoinKind, residual: bool, as_of: AsOf) -> Query {
    let inputs = vec![input("s", Shape::Stream), input("t", Shape::Table)];
    let (s, t) = (scan(0, &inputs[0]), scan(1, &inputs[1]));
    let schema = joined(&s, &t);
    let residual = residual.then(|| col("s.n").lt_eq(col("t.n")));
    let join = Node::LookupJoin { stream: Box::new(s), table: Box::new(t), on: on("s.k", "t.k"), residual, kind, as_of, schema };
    let columns = [
        ("k", col("s.k"), DataType::Utf8),
        ("n", col("s.n"), DataType::Int64),
        ("tn", col("t.n"), DataType::Int64),
        ("tt", col("t.t"), DataType::Utf8),
    ];
    query(inputs, project(join, &columns, Changes::Append))
}

fn interval_node(
    left: Node,
    right: Node,
    bounds: (i64, i64),
    kind: JoinKind,
    residual: Option<Expr>,
    keys: (&str, &str),
) -> Node {
    let schema = joined(&left, &right);
    Node::IntervalJoin {
        left: Box::new(left),
        right: Box::new(right),
        on: on(keys.0, keys.1),
        lower_ms: bounds.0,
        upper_ms: bounds.1,
        residual,
        kind,
        schema,
    }
}

/// `a` with `b`: a.k, a.n, b.k, b.n, b.t
fn interval_query(bounds: (i64, i64), kind: JoinKind, residual: bool) -> Query {
    let inputs = vec![input("a", Shape::Stream), input("b", Shape::Stream)];
    let residual = residual.then(|| col("a.n").gt_eq(col("b.n")));
    let join = interval_node(scan(0, &inputs[0]), scan(1, &inputs[1]), bounds, kind, residual, ("a.k", "b.k"));
    let columns = [
        ("k", col("a.k"), DataType::Utf8),
        ("n", col("a.n"), DataType::Int64),
        ("bk", col("b.k"), DataType::Utf8),
        ("bn", col("b.n"), DataType::Int64),
        ("bt", col("b.t"), DataType::Utf8),
    ];
    query(inputs, project(join, &columns, Changes::Append))
}

fn table_join_node(left: Node, right: Node, kind: JoinKind, residual: Option<Expr>, keys: (&str, &str)) -> Node {
    let schema = joined(&left, &right);
    let changes = left.changes();
    Node::TableJoin { left: Box::new(left), right: Box::new(right), on: on(keys.0, keys.1), residual, kind, schema, changes }
}

/// `a` with `b`: a.k, a.n, a.t, b.n, b.t
fn table_query(kind: JoinKind, residual: bool) -> Query {
    let inputs = vec![input("a", Shape::Table), input("b", Shape::Table)];
    let residual = residual.then(|| col("a.n").lt_eq(col("b.n")));
    let join = table_join_node(scan(0, &inputs[0]), scan(1, &inputs[1]), kind, residual, ("a.k", "b.k"));
    let columns = [
        ("k", col("a.k"), DataType::Utf8),
        ("n", col("a.n"), DataType::Int64),
        ("t", col("a.t"), DataType::Utf8),
        ("bn", col("b.n"), DataType::Int64),
        ("bt", col("b.t"), DataType::Utf8),
    ];
    query(inputs, project(join, &columns, Changes::Upsert(vec![0])))
}

/// `a`, `b` and `c`: a.k, a.n, b.n, c.n
fn three_tables_query() -> Query {
    let inputs = vec![input("a", Shape::Table), input("b", Shape::Table), input("c", Shape::Table)];
    let first = table_join_node(scan(0, &inputs[0]), scan(1, &inputs[1]), JoinKind::Left, None, ("a.k", "b.k"));
    let join = table_join_node(first, scan(2, &inputs[2]), JoinKind::Inner, None, ("a.k", "c.k"));
    let columns = [
        ("k", col("a.k"), DataType::Utf8),
        ("n", col("a.n"), DataType::Int64),
        ("bn", col("b.n"), DataType::Int64),
        ("cn", col("c.n"), DataType::Int64),
    ];
    query(inputs, project(join, &columns, Changes::Upsert(vec![0])))
}

fn aggregate_node(input: Node, group: Vec<Expr>, aggregates: Vec<(AggregateFunction, Option<Expr>, DataType)>) -> Node {
    let fields = group.iter().enumerate().map(|(i, _)| (format!("g{i}"), DataType::Utf8));
    let fields = fields.chain(aggregates.iter().enumerate().map(|(i, (_, _, t))| (format!("a{i}"), t.clone())));
    let schema = schema(fields.map(|(name, t)| (None, Field::new(name, t, true))).collect());
    let changes = Changes::Upsert((0..group.len()).collect());
    let aggregates = aggregates
        .into_iter()
        .map(|(function, argument, _)| Aggregate::plain(function, argument.into_iter().collect()))
        .collect();
    Node::Aggregate { input: Box::new(input), group, aggregates, window: None, schema, changes }
}

fn all_aggregates(prefix: &str) -> Vec<(AggregateFunction, Option<Expr>, DataType)> {
    use AggregateFunction::{Count, Earliest, Latest, Max, Min, Sum};
    let (n, t) = (|| Some(col(format!("{prefix}.n"))), || Some(col(format!("{prefix}.t"))));
    vec![
        (Latest, t(), DataType::Utf8),
        (Count, None, DataType::Int64),
        (Latest, n(), DataType::Int64),
        (Earliest, n(), DataType::Int64),
        (Count, n(), DataType::Int64),
        (Sum, n(), DataType::Int64),
        (Min, n(), DataType::Int64),
        (Max, t(), DataType::Utf8),
    ]
}

fn aggregate_query() -> Query {
    let inputs = vec![input("s", Shape::Stream)];
    let node = aggregate_node(scan(0, &inputs[0]), vec![col("s.k")], all_aggregates("s"));
    query(inputs, node)
}

/// Two joins in time on top of one another. Of inner ones it matters in which order results arrive: the newest of equal
/// ones. A left one sends rows without a partner only when the watermark has passed them.
fn three_streams_query(kind: JoinKind) -> Query {
    let inputs = vec![input("a", Shape::Stream), input("b", Shape::Stream), input("c", Shape::Stream)];
    let first = interval_node(scan(0, &inputs[0]), scan(1, &inputs[1]), (-4, 4), kind, None, ("a.k", "b.k"));
    let join = interval_node(scan(2, &inputs[2]), first, (-5, 6), kind, Some(col("c.n").gt_eq(col("a.n"))), ("c.k", "a.k"));
    use AggregateFunction::{Count, Latest, Max, Sum};
    let newest = if kind == JoinKind::Inner { Latest } else { Max };
    let aggregates = vec![
        (newest, Some(col("a.t")), DataType::Utf8),
        (newest, Some(col("b.n")), DataType::Int64),
        (newest, Some(col("c.t")), DataType::Utf8),
        (Count, Some(col("b.k")), DataType::Int64),
        (Sum, Some(col("c.n")), DataType::Int64),
    ];
    query(inputs, aggregate_node(join, vec![col("c.k"), col("a.k")], aggregates))
}

/// Everything at once: two streams, each enriched by a table, joined in time, grouped by a third key.
fn whole_query(having: bool) -> Query {
    let inputs = vec![input("a", Shape::Stream), input("x", Shape::Table), input("b", Shape::Stream), input("y", Shape::Table)];
    let enriched = |stream: usize, table: usize, keys: (&str, &str), kind: JoinKind| {
        let (stream, table) = (scan(stream, &inputs[stream]), scan(table, &inputs[table]));
        let schema = joined(&stream, &table);
        Node::LookupJoin {
            stream: Box::new(stream),
            table: Box::new(table),
            on: on(keys.0, keys.1),
            residual: None,
            kind,
            as_of: AsOf::EventTime,
            schema,
        }
    };
    let left = enriched(0, 1, ("a.k", "x.k"), JoinKind::Left);
    let right = enriched(2, 3, ("b.k", "y.k"), JoinKind::Inner);
    let residual = Some(col("a.n").gt_eq(col("b.n")));
    let join = interval_node(left, right, (-6, 9), JoinKind::Left, residual, ("a.k", "b.k"));
    let join = Node::Filter { predicate: col("a.n").is_not_null(), input: Box::new(join) };
    use AggregateFunction::{Count, Latest, Sum};
    let aggregates = vec![
        (Latest, Some(col("b.t")), DataType::Utf8),
        (Latest, Some(col("x.n")), DataType::Int64),
        (Count, None, DataType::Int64),
        (Sum, Some(col("y.n")), DataType::Int64),
    ];
    let mut node = aggregate_node(join, vec![col("a.t"), col("b.k")], aggregates);
    if having {
        node = Node::Filter { predicate: col("a2").gt(lit(2i64)), input: Box::new(node) };
    }
    query(inputs, node)
}

// ----------------------------------------------------------------------------------------------------------- histories

#[derive(Debug, Clone)]
struct Spec {
    advance: i64,
    back: i64,
    key: Option<u8>,
    n: Option<i64>,
    delete: bool,
}

fn spec() -> impl Strategy<Value = Spec> {
    let key = prop_oneof![1 => Just(None), 12 => (0u8..4).prop_map(Some)];
    let n = prop_oneof![1 => Just(None), 5 => (0i64..6).prop_map(Some)];
    (
        prop_oneof![3 => Just(0i64), 3 => 1i64..4, 1 => 4i64..15],
        prop_oneof![2 => Just(0i64), 1 => 0..=DISORDER],
        key,
        n,
        prop::bool::weighted(0.2),
    )
        .prop_map(|(advance, back, key, n, delete)| Spec { advance, back, key, n, delete })
}

fn histories(inputs: usize, longest: usize) -> impl Strategy<Value = Vec<Vec<Spec>>> {
    prop::collection::vec(prop::collection::vec(spec(), 0..longest), inputs)
}

/// How a history is cut: rows per step, rows per batch, both used in turn.
#[derive(Debug, Clone)]
struct Cuts {
    steps: Vec<usize>,
    batches: Vec<usize>,
}

fn cuts() -> impl Strategy<Value = Cuts> {
    let steps = prop::collection::vec(prop_oneof![Just(1usize), 1usize..12, Just(1000)], 1..4);
    let batches = prop::collection::vec(prop_oneof![Just(1usize), 1usize..6, Just(1000)], 1..4);
    (steps, batches).prop_map(|(steps, batches)| Cuts { steps, batches })
}

/// The rows of all inputs in the order in which the driver hands them over: by the greatest time that an input has shown,
/// of equal ones a table's first; and the watermark after each.
fn merged(query: &Query, histories: &[Vec<Spec>]) -> Vec<(Arrival, i64)> {
    let mut all = Vec::new();
    for (at, (input, specs)) in query.inputs.iter().zip(histories).enumerate() {
        let (mut high, mut position) = (100, i64::MIN);
        for (i, spec) in specs.iter().enumerate() {
            high += spec.advance;
            let time = high - spec.back;
            position = position.max(time);
            let table = input.shape == Shape::Table;
            let delete = table && spec.delete;
            let key = spec.key.map_or(Value::Null, |key| Value::Text(format!("k{key}")));
            let row = match delete {
                true => vec![key, Value::Null, Value::Null],
                false => vec![key, spec.n.map_or(Value::Null, Value::Integer), Value::Text(format!("{at}.{}", i % 3))],
            };
            all.push(((position, !table, at, i), (at, Record { time, row, delete })));
        }
    }
    all.sort_by_key(|(order, _)| *order);
    all.into_iter().map(|((position, ..), arrival)| (arrival, position - DISORDER)).collect()
}

/// One step: batches and the watermark after them.
type Step = (Vec<(usize, Batch)>, i64);

fn cut(arrivals: &[(Arrival, i64)], cuts: &Cuts) -> Vec<Step> {
    let (mut steps, mut sizes, mut rest) = (Vec::new(), cuts.steps.iter().cycle(), arrivals);
    let mut batch_sizes = cuts.batches.iter().cycle();
    while !rest.is_empty() {
        let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        rest = later;
        steps.push((batches(now.iter().map(|(arrival, _)| arrival), &mut batch_sizes), now.last().unwrap().1));
    }
    steps
}

fn batches<'a, 'b>(
    arrivals: impl Iterator<Item = &'a Arrival>,
    sizes: &mut impl Iterator<Item = &'b usize>,
) -> Vec<(usize, Batch)> {
    let mut runs: Vec<(usize, Vec<Record>, usize)> = Vec::new();
    for (input, record) in arrivals {
        match runs.last_mut() {
            Some((last, run, size)) if last == input && run.len() < *size => run.push(record.clone()),
            _ => runs.push((*input, vec![record.clone()], *sizes.next().unwrap())),
        }
    }
    runs.into_iter().map(|(input, run, _)| (input, batch_of(&run))).collect()
}

/// A time after all others.
const END: i64 = 1_000_000;

fn run(query: &Query, steps: &[Step]) -> Vec<Vec<Record>> {
    let mut dataflow = Dataflow::compile(query).unwrap();
    let mut out: Vec<Vec<Record>> = steps.iter().map(|step| step_once(&mut dataflow, step)).collect();
    out.push(step_once(&mut dataflow, &(Vec::new(), END)));
    assert_eq!(dataflow.late_rows(), 0);
    out
}

fn step_once(dataflow: &mut Dataflow, (batches, watermark): &Step) -> Vec<Record> {
    let out = dataflow.step(batches.clone(), *watermark).unwrap();
    out.iter().for_each(|batch| assert_eq!(batch.rows.schema(), dataflow.output_schema()));
    out.iter().flat_map(records_of).collect()
}

fn inserted(arrivals: &[(Arrival, i64)], input: usize) -> impl Iterator<Item = &Record> {
    arrivals.iter().filter(move |((at, record), _)| *at == input && !record.delete).map(|((_, record), _)| record)
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
}

/// Carries a change of an upsert by the first column out: a delete has its key only and finds a row, a row says something new.
fn carry_out(known: &mut BTreeMap<Row, Row>, record: Record) -> Result<(), TestCaseError> {
    let key = vec![record.row[0].clone()];
    if record.delete {
        prop_assert!(record.row[1..].iter().all(|value| *value == Value::Null));
        prop_assert!(known.remove(&key).is_some(), "a delete of what is not there");
    } else {
        let before = known.insert(key, record.row.clone());
        prop_assert_ne!(before, Some(record.row), "a record that says nothing new");
    }
    Ok(())
}

/// A table made of records: its rows by key, the last record of a key counting.
fn table<'a>(records: impl Iterator<Item = &'a Record>, key: &[usize]) -> BTreeMap<Row, Row> {
    let mut table = BTreeMap::new();
    for record in records {
        let key: Row = key.iter().map(|at| record.row[*at].clone()).collect();
        match record.delete {
            true => table.remove(&key),
            false => table.insert(key, record.row.clone()),
        };
    }
    table
}

fn null() -> Value {
    Value::Null
}

/// `a <= b` in SQL: null is not true.
fn at_most(a: &Value, b: &Value) -> bool {
    a.integer().zip(b.integer()).is_some_and(|(a, b)| a <= b)
}

/// 64 cases, or as many as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 64 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

// --------------------------------------------------------------------------------------------------------------- twins

/// Groups by the first column; see `all_aggregates`. Each with its event time.
fn slow_groups<'a>(rows: impl Iterator<Item = &'a Record>) -> BTreeMap<Row, Record> {
    let mut groups: BTreeMap<Row, Vec<&Record>> = BTreeMap::new();
    for record in rows {
        groups.entry(vec![record.row[0].clone()]).or_default().push(record);
    }
    let result = |(key, rows): (Row, Vec<&Record>)| {
        let latest = rows.iter().max_by_key(|r| r.time).unwrap();
        let earliest = rows.iter().min_by_key(|r| r.time).unwrap();
        let numbers: Vec<i64> = rows.iter().filter_map(|r| r.row[1].integer()).collect();
        let texts = rows.iter().filter_map(|r| if let Value::Text(t) = &r.row[2] { Some(t.clone()) } else { None });
        let some = |n: Option<i64>| n.map_or(Value::Null, Value::Integer);
        let row = vec![
            key[0].clone(),
            latest.row[2].clone(),
            Value::Integer(rows.len() as i64),
            latest.row[1].clone(),
            earliest.row[1].clone(),
            Value::Integer(numbers.len() as i64),
            some((!numbers.is_empty()).then(|| numbers.iter().sum())),
            some(numbers.iter().min().copied()),
            texts.max().map_or(Value::Null, Value::Text),
        ];
        (key, Record { time: latest.time, row, delete: false })
    };
    groups.into_iter().map(result).collect()
}

// --------------------------------------------------------------------------------------------------------------- tests

proptest! {
    #![proptest_config(config())]

    #[test]
    fn filter_and_project_of_a_stream(histories in histories(1, 30), cuts in cuts()) {
        let inputs = vec![input("s", Shape::Stream)];
        let filter = Node::Filter { predicate: col("s.n").gt(lit(1i64)), input: Box::new(scan(0, &inputs[0])) };
        let columns = [("k", col("s.k"), DataType::Utf8), ("m", col("s.n") * lit(2i64) - lit(1i64), DataType::Int64)];
        let query = query(inputs, project(filter, &columns, Changes::Append));
        let arrivals = merged(&query, &histories);
        let wanted: Vec<Record> = inserted(&arrivals, 0).filter_map(|r| {
            let n = r.row[1].integer().filter(|n| *n > 1)?;
            Some(Record { row: vec![r.row[0].clone(), Value::Integer(n * 2 - 1)], ..r.clone() })
        }).collect();
        prop_assert_eq!(run(&query, &cut(&arrivals, &cuts)).concat(), wanted);
    }

    /// `10 / n` fails on a delete whose `n` is not null but zero, and on null deletes nothing may be evaluated at all.
    #[test]
    fn filter_and_project_of_a_table(histories in histories(1, 30), cuts in cuts()) {
        let inputs = vec![input("t", Shape::Table)];
        let filter = Node::Filter { predicate: col("t.n").gt(lit(1i64)), input: Box::new(scan(0, &inputs[0])) };
        let columns = [("m", lit(60i64) / col("t.n"), DataType::Int64), ("k", col("t.k"), DataType::Utf8)];
        let query = query(inputs, project(filter, &columns, Changes::Upsert(vec![1])));
        let arrivals = merged(&query, &histories);
        let mut wanted = BTreeMap::new();
        for (key, row) in table(arrivals.iter().map(|((_, r), _)| r), &[0]) {
            if let Some(n) = row[1].integer().filter(|n| *n > 1) {
                wanted.insert(key, vec![Value::Integer(60 / n), row[0].clone()]);
            }
        }
        let out = run(&query, &cut(&arrivals, &cuts)).concat();
        prop_assert_eq!(table(out.iter(), &[1]), wanted);
        prop_assert!(out.iter().all(|r| !r.delete || r.row[0] == Value::Null));
    }

    #[test]
    fn any_batching_gives_the_same_result(histories in histories(4, 25), cuts in cuts(), which in 0usize..4) {
        let query = match which {
            0 => whole_query(false),
            1 => whole_query(true),
            2 => three_streams_query(JoinKind::Inner),
            _ => three_streams_query(JoinKind::Left),
        };
        let arrivals = merged(&query, &histories);
        let row_by_row = Cuts { steps: vec![1], batches: vec![1] };
        let one = run(&query, &cut(&arrivals, &row_by_row)).concat();
        let other = run(&query, &cut(&arrivals, &cuts)).concat();
        prop_assert_eq!(table(one.iter(), &[0, 1]), table(other.iter(), &[0, 1]));
        let mut there = BTreeSet::new();
        for record in &other {
            let key = record.row[..2].to_vec();
            let known = if record.delete { there.remove(&key) } else { there.insert(key) };
            prop_assert!(known || !record.delete, "a delete of what is not there");
        }
    }
}

proptest! {
    // What is compared depends on which rows stand near the cut, so it takes more of them.
    #![proptest_config(ProptestConfig { cases: config().cases * 8, ..config() })]

    #[test]
    fn a_restart_changes_nothing(
        histories in histories(4, 25), cuts in cuts(), replay in cuts(), at in 0.0f64..1.0, which in 0usize..11,
        lower in -8i64..8, width in 0i64..12,
    ) {
        let bounds = (lower, lower + width);
        let query = match which {
            0 => lookup_query(JoinKind::Left, true, AsOf::EventTime),
            1 => interval_query(bounds, JoinKind::Inner, false),
            2 => interval_query(bounds, JoinKind::Left, true),
            3 => three_streams_query(JoinKind::Inner),
            9 => three_streams_query(JoinKind::Left),
            4 => table_query(JoinKind::Left, true),
            5 => three_tables_query(),
            6 => aggregate_query(),
            7 => whole_query(true),
            _ => whole_query(false),
        };
        restart(&query, &merged(&query, &histories), &cuts, &replay, at)?;
    }
}

/// Stops a dataflow after some steps, builds another from what it saved and from its inputs, and compares what both make
/// of the rest.
fn restart(query: &Query, arrivals: &[(Arrival, i64)], cuts: &Cuts, replay: &Cuts, at: f64) -> Result<(), TestCaseError> {
    let steps = cut(arrivals, cuts);
    let (before, after) = steps.split_at((steps.len() as f64 * at) as usize);
    let mut old = Dataflow::compile(query).unwrap();
    old.on_bad_row(BadRow::SetAside);
    let mut changelog: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
    for step in before {
        step_once(&mut old, step);
        old.drain_changelog(&mut |key, value| {
            changelog.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        });
    }
    let mut new = Dataflow::compile(query).unwrap();
    new.on_bad_row(BadRow::SetAside);
    for (key, value) in changelog.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
        new.restore(key, value).unwrap();
    }
    if let Some((_, watermark)) = before.last() {
        let seen = before.iter().flat_map(|(batches, _)| batches).map(|(_, batch)| batch.len()).sum::<usize>();
        let again = arrivals[..seen].iter().filter(|((input, record), _)| match new.rebuild(*input) {
            Rebuild::Nothing => false,
            Rebuild::Whole => true,
            Rebuild::Window { ms } => record.time >= watermark - ms,
        });
        let again: Vec<(Arrival, i64)> = again.cloned().collect();
        for (batches, _) in cut(&again, replay) {
            new.replay(batches, *watermark).unwrap();
        }
        new.replay(Vec::new(), *watermark).unwrap();
    }
    for step in after.iter().chain([&(Vec::new(), END)]) {
        prop_assert_eq!(step_once(&mut new, step), step_once(&mut old, step));
    }
    prop_assert_eq!((new.late_rows(), old.late_rows()), (0, 0));
    let saved = |dataflow: &mut Dataflow| {
        let mut saved = BTreeMap::new();
        dataflow.drain_changelog(&mut |key, value| {
            saved.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        });
        saved
    };
    prop_assert_eq!(saved(&mut new), saved(&mut old));
    Ok(())
}

// ------------------------------------------------------------------------------------------------------------ examples

fn record(time: i64, key: &str, n: Option<i64>) -> Record {
    let n = n.map_or(Value::Null, Value::Integer);
    Record { time, row: vec![Value::Text(key.into()), n, Value::Text("-".into())], delete: false }
}

fn divided() -> Query {
    let inputs = vec![input("s", Shape::Stream), input("t", Shape::Table)];
    let (s, t) = (scan(0, &inputs[0]), scan(1, &inputs[1]));
    let schema = joined(&s, &t);
    let join = Node::LookupJoin {
        stream: Box::new(s),
        table: Box::new(t),
        on: on("s.k", "t.k"),
        residual: None,
        kind: JoinKind::Inner,
        as_of: AsOf::EventTime,
        schema,
    };
    let columns = [("k", col("s.k"), DataType::Utf8), ("q", col("t.n") / col("s.n"), DataType::Int64)];
    query(inputs, project(join, &columns, Changes::Append))
}

/// As long as `sql` lets an expression be, on a thread with the usual stack.
#[test]
fn a_long_expression_is_computed() {
    let computed = || {
        let inputs = [input("s", Shape::Stream)];
        let sum = (0..1000i64).fold(col("s.n"), |sum, i| sum + lit(i));
        let query =
            query(vec![input("s", Shape::Stream)], project(scan(0, &inputs[0]), &[("n", sum, DataType::Int64)], Changes::Append));
        let mut dataflow = Dataflow::compile(&query).unwrap();
        let out = step_once(&mut dataflow, &(vec![(0, batch_of(&[record(1, "x", Some(7))]))], 1));
        assert_eq!(out[0].row, vec![Value::Integer(7 + 499_500)]);
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(computed).unwrap().join().unwrap();
}

#[test]
fn a_row_that_cannot_be_computed_is_named_and_the_rest_goes_on() {
    let table = batch_of(&[record(1, "a", Some(12))]);
    let stream: Vec<Record> = [3, 0, 4, 0, 6].iter().zip(2..).map(|(n, time)| record(time, "a", Some(*n))).collect();
    let batches = vec![(1, table), (0, batch_of(&stream))];
    let mut dataflow = Dataflow::compile(&divided()).unwrap();
    let error = dataflow.step(batches.clone(), 10).unwrap_err();
    let wanted = RowError { record: Some((1, 1)), input: Some(0), expression: "n / n".into(), reason: "division by zero".into() };
    assert_eq!(RowError { expression: "n / n".into(), ..error.clone() }, wanted);
    assert_eq!(error.to_string(), "t.n / s.n: division by zero");

    let mut dataflow = Dataflow::compile(&divided()).unwrap();
    dataflow.on_bad_row(BadRow::SetAside);
    let out = dataflow.step(batches, 10).unwrap();
    let quotients: Vec<Value> = out.iter().flat_map(records_of).map(|r| r.row[1].clone()).collect();
    assert_eq!(quotients, vec![Value::Integer(4), Value::Integer(3), Value::Integer(2)]);
    let bad: Vec<_> = dataflow.take_bad_rows().into_iter().map(|error| error.record).collect();
    assert_eq!(bad, vec![Some((1, 1)), Some((1, 3))]);
    assert!(dataflow.take_bad_rows().is_empty());
}

#[test]
fn a_pair_and_a_group_that_cannot_be_computed_are_left_out() {
    let residual = Some((col("b.n") / col("a.n")).gt(lit(0i64)));
    let inputs = vec![input("a", Shape::Stream), input("b", Shape::Stream)];
    let join = interval_node(scan(0, &inputs[0]), scan(1, &inputs[1]), (-5, 5), JoinKind::Inner, residual, ("a.k", "b.k"));
    let node = aggregate_node(join, vec![col("a.k")], vec![(AggregateFunction::Sum, Some(col("b.n")), DataType::Int64)]);
    let mut dataflow = Dataflow::compile(&query(inputs, node)).unwrap();
    dataflow.on_bad_row(BadRow::SetAside);
    let a = batch_of(&[record(1, "x", Some(0)), record(1, "x", Some(1)), record(1, "y", Some(1))]);
    let b = batch_of(&[record(2, "x", Some(7)), record(2, "y", Some(i64::MAX)), record(2, "y", Some(1))]);
    let out = dataflow.step(vec![(0, a), (1, b)], 3).unwrap();
    let out: Vec<Record> = out.iter().flat_map(records_of).collect();
    assert_eq!(out, vec![Record { time: 2, row: vec![Value::Text("x".into()), Value::Integer(7)], delete: false }]);
    let bad: Vec<String> = dataflow.take_bad_rows().iter().map(ToString::to_string).collect();
    assert_eq!(bad, vec!["b.n / a.n > 0: division by zero", "sum(b.n): overflow: the sum does not fit into BIGINT"]);
}

#[test]
fn a_group_that_stays_the_same_is_not_sent_again() {
    let inputs = vec![input("s", Shape::Stream)];
    let latest = (AggregateFunction::Latest, Some(col("s.n")), DataType::Int64);
    let least = (AggregateFunction::Min, Some(col("s.n")), DataType::Int64);
    let query = query(inputs.clone(), aggregate_node(scan(0, &inputs[0]), vec![col("s.k")], vec![latest, least]));
    let mut dataflow = Dataflow::compile(&query).unwrap();
    let mut sent = |time, n| step_once(&mut dataflow, &(vec![(0, batch_of(&[record(time, "x", Some(n))]))], time)).len();
    assert_eq!([sent(1, 5), sent(2, 5), sent(3, 6), sent(2, 7), sent(4, 6), sent(4, 2)], [1, 0, 1, 0, 0, 1]);
    // Its time moved on all the same, and is saved.
    let mut saved = 0;
    dataflow.drain_changelog(&mut |_, _| saved += 1);
    assert_eq!(saved, 1);
}

#[test]
fn what_the_watermark_has_passed_is_forgotten() {
    let mut dataflow = Dataflow::compile(&interval_query((-5, 5), JoinKind::Left, false)).unwrap();
    let batch = |time: i64| batch_of(&(0..500).map(|i| record(time, &format!("k{}", i % 50), Some(i))).collect::<Vec<_>>());
    let mut most = 0;
    for time in (0..2000).step_by(10) {
        dataflow.step(vec![(0, batch(time)), (1, batch(time))], time).unwrap();
        most = most.max(dataflow.state_bytes());
        assert!(dataflow.state_bytes() < 1_000_000, "{} bytes at {time}", dataflow.state_bytes());
    }
    assert!(most > 10_000);
    let mut dataflow = Dataflow::compile(&lookup_query(JoinKind::Inner, false, AsOf::EventTime)).unwrap();
    for time in (0..2000).step_by(10) {
        dataflow.step(vec![(1, batch(time))], time).unwrap();
        assert!(dataflow.state_bytes() < 1_500_000, "{} bytes at {time}", dataflow.state_bytes());
    }
}

#[test]
fn state_of_another_query_is_refused() {
    let mut records = Vec::new();
    let mut dataflow = Dataflow::compile(&aggregate_query()).unwrap();
    step_once(&mut dataflow, &(vec![(0, batch_of(&[record(1, "x", Some(1))]))], 1));
    dataflow.drain_changelog(&mut |key, value| records.push((key.to_vec(), value.unwrap().to_vec())));
    let (key, value) = records.pop().unwrap();
    let restore = |query: &Query, key: &[u8], value: &[u8]| {
        Dataflow::compile(query).unwrap().restore(key, value).map_err(|e| e.to_string())
    };
    assert_eq!(restore(&aggregate_query(), &key, &value), Ok(()));
    let fewer = query(
        vec![input("s", Shape::Stream)],
        aggregate_node(scan(0, &input("s", Shape::Stream)), vec![col("s.k")], all_aggregates("s")[..2].to_vec()),
    );
    insta::assert_snapshot!(restore(&fewer, &key, &value).unwrap_err(), @"the state record was written by another query or another version of mesh");
    insta::assert_snapshot!(restore(&aggregate_query(), &[0, 9, 1], &value).unwrap_err(), @"the state record's key names no operator of this query");
    insta::assert_snapshot!(restore(&aggregate_query(), &key, &value[..value.len() - 1]).unwrap_err(), @"the state record is damaged: its checksum differs");
    insta::assert_snapshot!(restore(&lookup_query(JoinKind::Inner, false, AsOf::EventTime), &key, &value).unwrap_err(), @"the state record's key names no operator of this query");
}

#[test]
fn what_has_no_dataflow_is_refused() {
    let refused = |query: &Query| Dataflow::compile(query).err().unwrap().to_string();
    let inputs = vec![input("a", Shape::Table)];
    let node = aggregate_node(scan(0, &inputs[0]), vec![col("a.k")], all_aggregates("a"));
    insta::assert_snapshot!(refused(&query(inputs, node)), @"an aggregate needs rows that are only added, but these replace one another by key");
    let inputs = vec![input("s", Shape::Stream)];
    let node =
        aggregate_node(scan(0, &inputs[0]), vec![col("s.k")], vec![(AggregateFunction::Sum, Some(col("s.t")), DataType::Int64)]);
    insta::assert_snapshot!(refused(&query(inputs, node)), @"values of type STRING can't be added up");
    let inputs = vec![input("s", Shape::Stream), input("a", Shape::Stream)];
    let table = aggregate_node(scan(1, &inputs[1]), vec![col("a.k")], all_aggregates("a"));
    let stream = scan(0, &inputs[0]);
    let schema = joined(&stream, &table);
    let (kind, residual) = (JoinKind::Inner, None);
    let join = Node::LookupJoin {
        stream: Box::new(stream),
        table: Box::new(table),
        on: on("s.k", "g0"),
        residual,
        kind,
        as_of: AsOf::EventTime,
        schema,
    };
    insta::assert_snapshot!(refused(&query(inputs, join)), @"a stream can't be joined with an aggregate in the same query, since its older results are not kept; make an aggregate a product of its own");
}

#[test]
fn an_aggregate_joined_with_a_table_survives_a_restart() {
    let inputs = vec![input("s", Shape::Stream), input("t", Shape::Table)];
    let counted = aggregate_node(scan(0, &inputs[0]), vec![col("s.k")], vec![(AggregateFunction::Count, None, DataType::Int64)]);
    let join = table_join_node(counted, scan(1, &inputs[1]), JoinKind::Inner, None, ("g0", "t.k"));
    let columns = [("k", col("g0"), DataType::Utf8), ("c", col("a0"), DataType::Int64), ("n", col("t.n"), DataType::Int64)];
    let query = query(inputs, project(join, &columns, Changes::Upsert(vec![0])));
    let mut old = Dataflow::compile(&query).unwrap();
    assert_eq!((old.rebuild(0), old.rebuild(1), old.has_changelog()), (Rebuild::Nothing, Rebuild::Whole, true));
    let table = batch_of(&[record(1, "x", Some(5))]);
    step_once(&mut old, &(vec![(1, table.clone()), (0, batch_of(&[record(2, "x", None), record(2, "y", None)]))], 2));
    let mut new = Dataflow::compile(&query).unwrap();
    old.drain_changelog(&mut |key, value| new.restore(key, value.unwrap()).unwrap());
    new.replay(vec![(1, table)], 2).unwrap();
    // A change of the table alone finds the group that came from the changelog.
    let change = (vec![(1, batch_of(&[record(3, "y", Some(6)), record(3, "x", Some(7))]))], 3);
    let out = step_once(&mut new, &change);
    assert_eq!(out.len(), 2);
    assert_eq!(out, step_once(&mut old, &change));
}

#[test]
fn a_dataflow_describes_itself() {
    let dataflow = Dataflow::compile(&whole_query(true)).unwrap();
    let text = dataflow.describe().to_string();
    insta::assert_snapshot!(text, @r#"
    filter [upsert by g0, g1]
        where: a2 > 2
        remembers: the keys (g0, g1) of the rows it let through, so that only these are taken back (0 bytes)
        rebuilt from: the operator below
      aggregate [upsert by g0, g1]
          group by: a.t, b.k
          aggregates: latest(b.t), latest(x.n), count(*), sum(y.n)
          remembers: one entry for each of 0 groups, since the next row of a group changes its result (0 bytes)
          rebuilt from: the changelog
        filter [append]
            where: a.n IS NOT NULL
          left interval join [append]
              on: a.k = b.k
              time: right - left between -6 ms and 9 ms
              where: a.n >= b.n
              remembers: the left rows of the last 9 ms before the watermark, the right ones of the last 6 ms, since their partners may still come (0 bytes)
              rebuilt from: the inputs' topics, read from that far before the watermark
            left lookup join [append]
                on: a.k = x.k
                remembers: the table's rows by x.k, and older versions down to the watermark, since a row of the stream sees the table as of its own time (0 bytes)
                rebuilt from: the table's topic, read whole
              scan a [append]
              scan x [upsert by k]
            lookup join [append]
                on: b.k = y.k
                remembers: the table's rows by y.k, and older versions down to the watermark, since a row of the stream sees the table as of its own time (0 bytes)
                rebuilt from: the table's topic, read whole
              scan b [append]
              scan y [upsert by k]
    "#);
}
