//! Aggregates: pinned values (`tests/engine/aggregates.txt`), and twins that compute each group anew from all its rows.
//!
//! Every pinned value is computed twice: over a stream, and over a table whose rows are first others and then replaced,
//! beside rows that are deleted again.

use super::*;
use arrow::compute::cast;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use mesh::model::product::{SqlOrigin, SqlText};
use mesh::sql::{Relation, Relations, Target, bind};

/// One product with these columns: a stream `s` or a table `t`.
struct Product(Arc<Relation>);

impl Relations for Product {
    fn find(&self, name: &str) -> Option<Arc<Relation>> {
        (name == self.0.product).then(|| self.0.clone())
    }

    fn names(&self) -> Vec<String> {
        vec![self.0.product.clone()]
    }
}

fn product(shape: Shape, columns: &[(&str, DataType)]) -> Product {
    let fields: Vec<Field> = columns.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect();
    Product(Arc::new(Relation {
        product: if shape == Shape::Table { "t" } else { "s" }.into(),
        row_type: Arc::new(Schema::new(fields)),
        unsupported: Vec::new(),
        shape,
        key: if shape == Shape::Table { vec![columns[0].0.into()] } else { Vec::new() },
        time_field: "rowtime".into(),
        disorder_ms: DISORDER,
    }))
}

fn bound(sql: &str, product: &Product, key: &str) -> Query {
    let text = SqlText { text: sql.into(), origin: SqlOrigin::Whole { file: "query.sql".into() } };
    let (query, diagnostics) = bind(&text, product, &Target { shape: Shape::Table, key: &[key.to_string()] });
    query.unwrap_or_else(|| panic!("{sql}: {diagnostics:?}"))
}

// ------------------------------------------------------------------------------------------------------- pinned values

fn data_type(name: &str) -> DataType {
    match name {
        "BIGINT" => DataType::Int64,
        "INTEGER" => DataType::Int32,
        "FLOAT" => DataType::Float32,
        "DOUBLE" => DataType::Float64,
        "STRING" => DataType::Utf8,
        "BOOLEAN" => DataType::Boolean,
        "DATE" => DataType::Date32,
        "DECIMAL(10,2)" => DataType::Decimal128(10, 2),
        "DECIMAL(38,0)" => DataType::Decimal128(38, 0),
        other => panic!("no type {other}"),
    }
}

/// The columns `id`, `g` (always `g`) and `x` of some rows, as a query reads them.
fn rows(query: &Query, ids: &[usize], values: &ArrayRef, deletes: bool, times: Vec<i64>) -> Batch {
    let id: ArrayRef = Arc::new(ids.iter().map(|id| Some(*id as i64)).collect::<Int64Array>());
    let g: ArrayRef = Arc::new(StringArray::from(vec![Some("g"); ids.len()]));
    let schema = Dataflow::compile(query).unwrap().input_schema(0);
    let column = |field: &Arc<Field>| match field.name().as_str() {
        "id" => id.clone(),
        "g" => g.clone(),
        _ => values.clone(),
    };
    let batch =
        Batch::inserts(RecordBatch::try_new(schema.clone(), schema.fields().iter().map(column).collect()).unwrap(), times.into());
    Batch { deletes: deletes.then(|| BooleanArray::from(vec![true; ids.len()])), ..batch }
}

/// The one result of a query in these steps, or why there is none.
fn result(query: &Query, steps: Vec<Batch>) -> String {
    let mut dataflow = Dataflow::compile(query).unwrap();
    dataflow.on_bad_row(BadRow::SetAside);
    let mut last = String::new();
    for batch in steps {
        for out in dataflow.step(vec![(0, batch)], 0).unwrap() {
            let options = FormatOptions::default().with_null("NULL");
            last = ArrayFormatter::try_new(out.rows.column(1), &options).unwrap().value(out.len() - 1).to_string();
        }
        let bad = dataflow.take_bad_rows();
        last = bad.last().map_or(last, |bad| bad.reason.clone());
    }
    last
}

fn computed(aggregate: &str, t: &DataType, values: &ArrayRef) -> [String; 2] {
    let columns = [("id", DataType::Int64), ("g", DataType::Utf8), ("x", t.clone())];
    let sql = |from: &str| format!("SELECT g, {aggregate} AS a FROM {from} GROUP BY g");
    let n = values.len();
    let (ids, times): (Vec<usize>, Vec<i64>) = (0..n).map(|i| (i, 1000 + i as i64)).unzip();
    let stream = bound(&sql("s"), &product(Shape::Stream, &columns), "g");
    let of_stream = result(&stream, vec![rows(&stream, &ids, values, false, times.clone())]);
    // It can't forget rows, and is refused over tables.
    if aggregate.starts_with("approx_") && aggregate.contains("distinct(") {
        return [of_stream.clone(), of_stream];
    }
    let table = bound(&sql("t"), &product(Shape::Table, &columns), "g");
    // At first each row has the value of the one behind it, and there is every value once more under another id.
    let turned: Vec<u32> = (0..n as u32).map(|i| (i + 1) % n as u32).collect();
    let turned = arrow::compute::take(values, &arrow::array::UInt32Array::from(turned), None).unwrap();
    let others: Vec<usize> = (n..2 * n).collect();
    let steps = vec![
        rows(&table, &ids, &turned, false, times.iter().map(|time| time - 500).collect()),
        rows(&table, &others, values, false, times.clone()),
        rows(&table, &ids, values, false, times.clone()),
        rows(&table, &others, &arrow::array::new_null_array(t, n), true, times),
    ];
    [of_stream, result(&table, steps)]
}

#[test]
fn every_aggregate_gives_what_the_list_says() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/aggregates.txt");
    let text = std::fs::read_to_string(&file).unwrap();
    let (mut t, mut values): (DataType, ArrayRef) = (DataType::Null, Arc::new(Int64Array::from(Vec::<i64>::new())));
    let mut wrong = Vec::new();
    let mut tested = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(list) = line.strip_prefix("x ") {
            let (name, list) = list.split_once(": ").unwrap();
            t = data_type(name);
            let list: StringArray = list.split(", ").map(|v| (v != "NULL").then_some(v)).collect();
            values = cast(&(Arc::new(list) as ArrayRef), &t).unwrap();
            continue;
        }
        let (aggregate, expected) = line.split_once(" => ").unwrap();
        tested.extend(aggregate.split(['(', ' ']).map(str::to_string));
        for got in computed(aggregate, &t, &values) {
            if got != expected {
                wrong.push(format!("{aggregate} of {values:?}: {got}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let missing: Vec<_> = mesh::sql::functions::AGGREGATES.iter().filter(|name| !tested.contains(**name)).collect();
    assert!(missing.is_empty(), "no value is pinned of {missing:?}");
}

// --------------------------------------------------------------------------------------------------------------- twins

const ALL: &str = "SELECT t AS g, count(*) AS rows, latest(n) AS newest, earliest(k) AS oldest, count(DISTINCT n) AS kinds,
    sum(n) AS total, sum(DISTINCT n) AS total_of_kinds, min(n) AS least, max(k) AS greatest, CAST(avg(n) AS STRING) AS mean,
    CAST(var_pop(n) AS STRING) AS variance, array_to_string(array_agg(n), ',', '-') AS list,
    array_to_string(array_agg(DISTINCT n), ',', '-') AS values_of, string_agg(k, '+' ORDER BY n DESC, k) AS keys,
    CAST(bool_and(n > 1) AS STRING) AS large, array_to_string(histogram(n, 1, 5, 2), ',') AS bins,
    array_to_string(topk(n, 2), ',') AS top, CAST(approx_percentile(n, 0.5) AS STRING) AS middle,
    count(*) FILTER (WHERE n > 2) AS many, latest(k) FILTER (WHERE n > 2) AS newest_large
    FROM input GROUP BY t";

fn all(shape: Shape) -> Query {
    let columns: Vec<(&str, DataType)> = COLUMNS.to_vec();
    bound(&ALL.replace("input", if shape == Shape::Table { "t" } else { "s" }), &product(shape, &columns), "g")
}

/// A row that is there: its time, when it came, and its values.
type There = (i64, usize, Row);

/// The rows that are there after some arrivals, in the order of time and arrival.
fn there(arrivals: &[(Arrival, i64)], shape: Shape) -> Vec<There> {
    let mut rows: Vec<There> = Vec::new();
    for (arrived, ((_, record), _)) in arrivals.iter().enumerate() {
        if shape == Shape::Table {
            // What says nothing new does not come.
            if rows.iter().any(|(time, _, row)| !record.delete && *time == record.time && *row == record.row) {
                continue;
            }
            rows.retain(|(_, _, row)| row[0] != record.row[0]);
        }
        if !record.delete {
            rows.push((record.time, arrived, record.row.clone()));
        }
    }
    sorted(rows)
}

fn text(values: impl IntoIterator<Item = Value>, separator: &str) -> Value {
    let texts = values.into_iter().map(|value| match value {
        Value::Null => "-".to_string(),
        Value::Integer(n) => n.to_string(),
        Value::Text(text) => text,
    });
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() { Value::Null } else { Value::Text(texts.join(separator)) }
}

fn slow_all(rows: &[There]) -> BTreeMap<Row, Row> {
    let mut groups: BTreeMap<Row, Vec<&There>> = BTreeMap::new();
    for row in rows {
        groups.entry(vec![row.2[2].clone()]).or_default().push(row);
    }
    groups.into_iter().map(|(key, rows)| (key.clone(), slow_group(&key, &rows))).collect()
}

fn slow_group(key: &Row, rows: &[&There]) -> Row {
    let mut numbers: Vec<i64> = rows.iter().filter_map(|r| r.2[1].integer()).collect();
    let in_order = numbers.clone();
    numbers.sort_unstable();
    let kinds: BTreeSet<i64> = numbers.iter().copied().collect();
    let some = |n: Option<i64>| n.map_or(Value::Null, Value::Integer);
    let keys: Vec<Value> = rows.iter().map(|r| r.2[0].clone()).filter(|k| *k != null()).collect();
    let (n, sum) = (numbers.len() as i64, numbers.iter().sum::<i64>());
    let squares: i64 = numbers.iter().map(|x| x * x).sum();
    let float = |x: f64| Value::Text(format!("{x:?}"));
    let unless_empty = |value: Value| if n == 0 { null() } else { value };
    let mut by_number = rows.to_vec();
    // Stable: of equal ones the rows' own order stays. Descending, NULL first; then keys, NULL last.
    by_number.sort_by_key(|r| (r.2[1].integer().map_or(i64::MIN, |n| -n), r.2[0] == null(), r.2[0].clone()));
    let ordered = by_number.iter().map(|r| r.2[0].clone()).filter(|k| *k != null());
    let mut distinct: Vec<Value> = kinds.iter().map(|n| Value::Integer(*n)).collect();
    distinct.extend(rows.iter().any(|r| r.2[1] == null()).then_some(Value::Null));
    let bins = [i64::MIN..1, 1..3, 3..5, 5..i64::MAX]
        .map(|bin| Value::Integer(numbers.iter().filter(|n| bin.contains(n)).count() as i64));
    let mut large = rows.iter().filter(|r| r.2[1].integer().is_some_and(|n| n > 2));
    vec![
        key[0].clone(),
        Value::Integer(rows.len() as i64),
        rows.last().unwrap().2[1].clone(),
        rows.iter().min_by_key(|r| r.0).unwrap().2[0].clone(),
        Value::Integer(kinds.len() as i64),
        unless_empty(Value::Integer(sum)),
        unless_empty(Value::Integer(kinds.iter().sum())),
        some(numbers.first().copied()),
        keys.iter().max().cloned().unwrap_or(Value::Null),
        unless_empty(float(sum as f64 / n as f64)),
        unless_empty(float((n * squares - sum * sum) as f64 / (n * n) as f64)),
        text(rows.iter().map(|r| r.2[1].clone()), ","),
        text(distinct, ","),
        text(ordered, "+"),
        unless_empty(Value::Text(in_order.iter().all(|n| *n > 1).to_string())),
        text(bins, ","),
        text(numbers.iter().rev().take(2).map(|n| Value::Integer(*n)), ","),
        unless_empty(float(numbers.get(((n + 1) / 2 - 1).max(0) as usize).copied().unwrap_or(0) as f64)),
        Value::Integer(large.clone().count() as i64),
        large.next_back().map_or(Value::Null, |r| r.2[0].clone()),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn aggregate_is_its_twin(histories in histories(1, 40), cuts in cuts()) {
        let query = aggregate_query();
        let arrivals = merged(&query, &histories);
        let mut dataflow = Dataflow::compile(&query).unwrap();
        let (mut seen, mut known) = (0, BTreeMap::new());
        for step in cut(&arrivals, &cuts) {
            seen += step.0.iter().map(|(_, batch)| batch.len()).sum::<usize>();
            let out = step_once(&mut dataflow, &step);
            prop_assert!(out.is_sorted_by_key(|record| record.time));
            let keys = sorted(out.iter().map(|r| r.row[0].clone()).collect());
            prop_assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "a group came twice in one step");
            for record in out {
                let before = known.insert(vec![record.row[0].clone()], record.clone());
                prop_assert!(before.is_none_or(|before| before.row != record.row), "a record that says nothing new");
            }
            prop_assert_eq!(&known, &slow_groups(inserted(&arrivals[..seen], 0)));
        }
    }

    #[test]
    fn all_aggregates_are_their_twins(histories in histories(1, 40), cuts in cuts(), of_table: bool) {
        let shape = if of_table { Shape::Table } else { Shape::Stream };
        let query = all(shape);
        let arrivals = merged(&query, &histories);
        let mut dataflow = Dataflow::compile(&query).unwrap();
        let (mut seen, mut known): (usize, BTreeMap<Row, Row>) = (0, BTreeMap::new());
        for step in cut(&arrivals, &cuts) {
            seen += step.0.iter().map(|(_, batch)| batch.len()).sum::<usize>();
            for record in step_once(&mut dataflow, &step) {
                carry_out(&mut known, record)?;
            }
            prop_assert_eq!(&known, &slow_all(&there(&arrivals[..seen], shape)));
        }
        // Without rows there is no state, but for the rows that the table's own operator keeps.
        if arrivals.is_empty() {
            prop_assert_eq!(dataflow.state_bytes(), 0);
        }
    }

    #[test]
    fn a_restart_changes_nothing(
        histories in histories(1, 40), cuts in cuts(), replay in cuts(), at in 0.0f64..1.0, of_table: bool,
    ) {
        let query = all(if of_table { Shape::Table } else { Shape::Stream });
        restart(&query, &merged(&query, &histories), &cuts, &replay, at)?;
    }
}

// ------------------------------------------------------------------------------------------------------------ examples

fn steps(query: &Query, steps: Vec<Vec<Record>>) -> (Dataflow, Vec<Vec<Record>>) {
    let mut dataflow = Dataflow::compile(query).unwrap();
    let out = steps.iter().zip(1..).map(|(rows, time)| step_once(&mut dataflow, &(vec![(0, batch_of(rows))], time))).collect();
    (dataflow, out)
}

fn gone(time: i64, key: &str) -> Record {
    Record { time, row: vec![Value::Text(key.into()), null(), null()], delete: true }
}

/// Groups the table's rows by `t`, which is `-` in all of them.
fn grouped_table(group: Vec<Expr>) -> Query {
    let inputs = vec![input("a", Shape::Table)];
    let rows = Node::Retract { input: Box::new(scan(0, &inputs[0])) };
    let aggregates = vec![
        (AggregateFunction::Count, None, DataType::Int64),
        (AggregateFunction::Sum, Some(col("a.n")), DataType::Int64),
        (AggregateFunction::Max, Some(col("a.n")), DataType::Int64),
    ];
    query(inputs, aggregate_node(rows, group, aggregates))
}

#[test]
fn a_group_without_rows_is_deleted_here_and_downstream() {
    let query = grouped_table(vec![col("a.t")]);
    let history =
        vec![vec![record(1, "x", Some(5)), record(1, "y", Some(7))], vec![gone(2, "y")], vec![gone(3, "x")], vec![gone(4, "x")]];
    let (mut dataflow, out) = steps(&query, history);
    let row = |values: [i64; 3]| [vec![Value::Text("-".into())], values.map(Value::Integer).to_vec()].concat();
    assert_eq!(out[0], vec![Record { time: 1, row: row([2, 12, 7]), delete: false }]);
    assert_eq!(out[1], vec![Record { time: 2, row: row([1, 5, 5]), delete: false }]);
    assert_eq!(out[2], vec![Record { time: 3, row: vec![Value::Text("-".into()), null(), null(), null()], delete: true }]);
    assert_eq!(out[3], vec![]);
    assert_eq!(dataflow.state_bytes(), 0);
    let mut written = Vec::new();
    dataflow.drain_changelog(&mut |_, value| written.push(value.is_some()));
    assert_eq!(written, Vec::<bool>::new(), "it came and went between two epochs");
    // Once saved, it leaves the changelog: the group's record, and that of the value that max remembers.
    step_once(&mut dataflow, &(vec![(0, batch_of(&[record(5, "x", Some(5))]))], 5));
    dataflow.drain_changelog(&mut |_, value| written.push(value.is_some()));
    step_once(&mut dataflow, &(vec![(0, batch_of(&[gone(6, "x")]))], 6));
    dataflow.drain_changelog(&mut |_, value| written.push(value.is_some()));
    assert_eq!(written, vec![true, true, false, false]);
}

#[test]
fn the_only_group_of_a_query_without_group_by_stays() {
    let (dataflow, out) = steps(&grouped_table(Vec::new()), vec![vec![record(1, "x", Some(5))], vec![gone(2, "x")]]);
    assert_eq!(out[0], vec![Record { time: 1, row: [1, 5, 5].map(Value::Integer).to_vec(), delete: false }]);
    assert_eq!(out[1], vec![Record { time: 2, row: vec![Value::Integer(0), null(), null()], delete: false }]);
    assert!(dataflow.state_bytes() > 0);
}

#[test]
fn a_table_row_that_comes_again_sends_nothing() {
    let update = |n| vec![record(1, "x", Some(n))];
    let (_, out) = steps(&grouped_table(vec![col("a.t")]), vec![update(5), update(5), update(6), update(5)]);
    assert_eq!(out.iter().map(Vec::len).collect::<Vec<_>>(), vec![1, 0, 1, 1]);
    let inputs = vec![input("a", Shape::Table)];
    let rows = Node::Retract { input: Box::new(scan(0, &inputs[0])) };
    let node = aggregate_node(rows, vec![col("a.t")], vec![(AggregateFunction::Count, None, DataType::Int64)]);
    let (_, out) = steps(&query(inputs, node), vec![update(5), update(6)]);
    assert_eq!(out.iter().map(Vec::len).collect::<Vec<_>>(), vec![1, 0], "the count is what it was");
}

/// The error is of the group, and of each step that changes it; when the sum fits again it is sent.
#[test]
fn a_sum_that_does_not_fit_is_an_error_of_its_group() {
    let mut dataflow = Dataflow::compile(&grouped_table(vec![col("a.t")])).unwrap();
    dataflow.on_bad_row(BadRow::SetAside);
    let mut sent = |rows: &[Record], time| {
        let out = step_once(&mut dataflow, &(vec![(0, batch_of(rows))], time));
        (out.first().map(|r| r.row[2].clone()), dataflow.take_bad_rows().iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let overflow = "sum(a.n): overflow: the sum does not fit into BIGINT".to_string();
    assert_eq!(sent(&[record(1, "x", Some(i64::MAX)), record(1, "y", Some(1))], 1), (None, vec![overflow.clone()]));
    assert_eq!(sent(&[record(2, "z", Some(1))], 2), (None, vec![overflow]));
    assert_eq!(sent(&[gone(3, "x")], 3), (Some(Value::Integer(2)), vec![]));
}

#[test]
fn a_filter_keeps_its_aggregate_from_rows_that_it_can_not_compute() {
    let product = product(Shape::Stream, &COLUMNS);
    let query = bound("SELECT t AS g, sum(12 / n) FILTER (WHERE n <> 0) AS a, count(k) AS c FROM s GROUP BY t", &product, "g");
    let (_, out) = steps(&query, vec![vec![record(1, "x", Some(3)), record(1, "x", Some(0)), record(1, "x", Some(4))]]);
    assert_eq!(out[0][0].row[1..], [Value::Integer(7), Value::Integer(3)]);
}

#[test]
fn what_grows_is_described() {
    let stream = Dataflow::compile(&all(Shape::Stream)).unwrap().describe().to_string();
    let kept = stream.lines().find(|line| line.contains("remembers")).unwrap();
    insta::assert_snapshot!(kept.trim(), @"remembers: one entry for each of 0 groups, with each different value of count(DISTINCT s.n), each different value of sum(DISTINCT s.n), each value of array_agg(s.n), each different value of array_agg(DISTINCT s.n), each value of string_agg(s.k, '+' ORDER BY s.n DESC, s.k), since the next row of a group changes its result (0 bytes)");
    let table = Dataflow::compile(&all(Shape::Table)).unwrap().describe().to_string();
    let kept = table.lines().find(|line| line.contains("remembers")).unwrap();
    insta::assert_snapshot!(kept.trim(), @"remembers: one entry for each of 0 groups, with each value of latest(t.n), each value of earliest(t.k), each different value of count(DISTINCT t.n), each different value of sum(DISTINCT t.n), each different value of min(t.n), each different value of max(t.k), each value of array_agg(t.n), each different value of array_agg(DISTINCT t.n), each value of string_agg(t.k, '+' ORDER BY t.n DESC, t.k), each different value of topk(t.n, 2), each value of latest(t.k) FILTER (WHERE t.n > 2), since the next row of a group changes its result (0 bytes)");
}

#[test]
fn a_sketch_that_can_not_forget_takes_no_table() {
    let inputs = vec![input("a", Shape::Table)];
    let rows = Node::Retract { input: Box::new(scan(0, &inputs[0])) };
    let node =
        aggregate_node(rows, vec![col("a.t")], vec![(AggregateFunction::ApproxDistinct, Some(col("a.n")), DataType::Int64)]);
    let refused = Dataflow::compile(&query(inputs, node)).err().unwrap().to_string();
    insta::assert_snapshot!(refused, @"approx_distinct(a.n) can't take rows away again, and its input does; write count(DISTINCT x)");
}
