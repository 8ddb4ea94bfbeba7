//! Operators on whole rows against their twins, and plans made of several of them.
//!
//! A twin takes the whole history of an edge, row after row, and says what each makes of the operator's result by
//! computing that result anew from all rows up to it. What comes out must be exactly that, in that order, however the
//! history is cut.

use super::*;
use arrow::array::{ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Fields;
use datafusion_common::ScalarValue;
use mesh::sql::query::Order;

/// What happens on an edge. Of a delete on an upsert edge only the key counts.
type History = Vec<Record>;

/// A record of a history, and where it comes from.
#[derive(Debug, Clone)]
struct Caused {
    /// The place of the arrival that caused it.
    cause: usize,
    /// The row that an operator with state, or the input, last made it of. Where a part of such a row can't be computed,
    /// nothing of it goes on.
    row: usize,
    record: Record,
}

// --------------------------------------------------------------------------------------------------------------- plans

/// A plan whose rows are taken back whole, or only added: then it has neither `Top` nor `Rekey`. All have the columns k, n and t, and `rowtime` behind them
/// where they are an input's or a sub-query's.
#[derive(Debug, Clone)]
enum Plan {
    /// A table, or a stream.
    Scan,
    /// `n > at`
    Filter(i64, Box<Plan>),
    /// `k, 12 / n, t`, which fails where n is 0.
    Divide(Box<Plan>),
    /// A sub-query, of which `k, n, rowtime` become the columns.
    Timed(Box<Plan>),
    /// A sub-query, of which nobody reads rowtime.
    Renamed(Box<Plan>),
    Union(Vec<Plan>),
    Unnest(Unnest, Box<Plan>),
    Distinct(Box<Plan>),
    Top(Top, Box<Plan>),
    /// By n. Only of tables.
    Rekey(Box<Plan>),
}

/// The first rows of each k, or of each t.
#[derive(Debug, Clone, Copy)]
struct Top {
    by_t: bool,
    descending: bool,
    nulls_first: bool,
    limit: usize,
    /// With the row's number instead of t.
    numbered: bool,
}

/// The elements of the list that a row's n stands for; a number that no list belongs to stands for null.
#[derive(Debug, Clone)]
struct Unnest {
    lists: Vec<Option<Vec<Element>>>,
    /// An element is a struct, and its fields become columns; else it is a number.
    structs: bool,
    outer: bool,
    ordinality: bool,
}

/// Null, or a text and a number.
type Element = Option<(Option<String>, Option<i64>)>;

fn unnest() -> impl Strategy<Value = Unnest> {
    let element = prop::option::weighted(0.8, (prop::option::weighted(0.8, "[a-c]"), prop::option::weighted(0.8, 0i64..6)));
    let lists = prop::collection::vec(prop::option::weighted(0.8, prop::collection::vec(element, 0..4)), 6);
    (lists, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(lists, structs, outer, ordinality)| Unnest {
        lists,
        structs,
        outer,
        ordinality,
    })
}

fn top() -> impl Strategy<Value = Top> {
    (any::<bool>(), any::<bool>(), any::<bool>(), 1usize..4, any::<bool>())
        .prop_map(|(by_t, descending, nulls_first, limit, numbered)| Top { by_t, descending, nulls_first, limit, numbered })
}

fn plan(depth: u32, shape: Shape) -> BoxedStrategy<Plan> {
    let leaf = Just(Plan::Scan);
    leaf.prop_recursive(depth, 12, 3, move |inner| {
        let one = inner.clone().prop_map(Box::new);
        let any = prop_oneof![
            (0i64..4, one.clone()).prop_map(|(at, plan)| Plan::Filter(at, plan)),
            one.clone().prop_map(Plan::Divide),
            one.clone().prop_map(Plan::Timed),
            one.clone().prop_map(Plan::Renamed),
            (unnest(), one.clone()).prop_map(|(unnest, plan)| Plan::Unnest(unnest, plan)),
            one.clone().prop_map(Plan::Distinct),
            prop::collection::vec(inner, 2..4).prop_map(Plan::Union),
        ];
        match shape {
            Shape::Stream => any.boxed(),
            Shape::Table => prop_oneof![
                2 => any,
                1 => one.clone().prop_map(Plan::Rekey),
                1 => (top(), one).prop_map(|(top, plan)| Plan::Top(top, plan)),
            ]
            .boxed(),
        }
    })
    .boxed()
}

/// Makes nodes of a plan: each scan gets an input of its own.
struct Builder {
    inputs: Vec<Input>,
    shape: Shape,
    names: usize,
}

impl Builder {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("q{}", self.names)
    }

    /// A node with the columns k, n and t.
    fn node(&mut self, plan: &Plan) -> Node {
        match plan {
            Plan::Scan => {
                let input = input(&format!("i{}", self.inputs.len()), self.shape);
                let node = scan(self.inputs.len(), &input);
                self.inputs.push(input);
                let node = if self.shape == Shape::Table { Node::Retract { input: Box::new(node) } } else { node };
                columns(node, |[k, n, t, _]| [k, n, t])
            }
            Plan::Filter(at, plan) => {
                let input = self.node(plan);
                Node::Filter { predicate: named(&input, 1).gt(lit(*at)), input: Box::new(input) }
            }
            Plan::Divide(plan) => columns(self.node(plan), |[k, n, t, _]| [k, lit(12i64) / n, t]),
            Plan::Timed(plan) => {
                let node = self.node(plan);
                let node = rename(node, &self.name());
                columns(node, |[k, n, _, rowtime]| {
                    [k, n, datafusion_expr::cast(datafusion_expr::cast(rowtime, DataType::Int64), DataType::Utf8)]
                })
            }
            Plan::Renamed(plan) => {
                let node = self.node(plan);
                let node = rename(node, &self.name());
                columns(node, |[k, n, t, _]| [k, n, t])
            }
            Plan::Union(plans) => {
                let inputs: Vec<Node> = plans.iter().map(|plan| self.node(plan)).collect();
                let (schema, changes) = (inputs[0].schema().clone(), inputs[0].changes());
                Node::Union { inputs, schema, changes }
            }
            Plan::Unnest(unnest, plan) => {
                let input = self.node(plan);
                unnest_node(input, unnest, &self.name())
            }
            Plan::Distinct(plan) => {
                let node = distinct(self.node(plan));
                if self.shape == Shape::Table { Node::Retract { input: Box::new(node) } } else { node }
            }
            Plan::Top(top, plan) => {
                let node = top_n(self.node(plan), *top);
                let node = if node.changes() == Changes::Retract { node } else { Node::Retract { input: Box::new(node) } };
                match top.numbered {
                    true => columns(node, |[k, n, _, number]| [k, n, datafusion_expr::cast(number, DataType::Utf8)]),
                    false => node,
                }
            }
            Plan::Rekey(plan) => {
                let node = Node::Rekey { input: Box::new(self.node(plan)), key: vec![1] };
                Node::Retract { input: Box::new(node) }
            }
        }
    }
}

/// A row of a node with the columns k, n and t for each element of the list of n: k, the element's number, and for t the
/// element's position, its text, or t.
fn unnest_node(input: Node, unnest: &Unnest, alias: &str) -> Node {
    let mut added: Vec<Field> = match unnest.structs {
        true => fields_of_elements().iter().map(|field| field.as_ref().clone()).collect(),
        false => vec![Field::new("number", DataType::Int64, true)],
    };
    added.extend(unnest.ordinality.then(|| Field::new("ordinality", DataType::Int64, true)));
    let number = if unnest.structs { 4 } else { 3 };
    let qualifier = Some(TableReference::bare(alias));
    let added = added.into_iter().map(|field| (qualifier.clone(), Arc::new(field)));
    let fields = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).chain(added);
    let schema = Arc::new(DFSchema::new_with_metadata(fields.collect(), Default::default()).unwrap());
    let list = unnest.list_at(named(&input, 1));
    let node = Node::Unnest { input: Box::new(input), list, outer: unnest.outer, ordinality: unnest.ordinality, schema };
    let t = match unnest {
        Unnest { ordinality: true, .. } => datafusion_expr::cast(named(&node, number + 1), DataType::Utf8),
        Unnest { structs: true, .. } => named(&node, 3),
        _ => named(&node, 2),
    };
    let (k, n, changes) = (named(&node, 0), named(&node, number), node.changes());
    project(node, &[("k", k, DataType::Utf8), ("n", n, DataType::Int64), ("t", t, DataType::Utf8)], changes)
}

fn fields_of_elements() -> Fields {
    Fields::from(vec![Field::new("text", DataType::Utf8, true), Field::new("number", DataType::Int64, true)])
}

impl Unnest {
    /// `CASE n WHEN 0 THEN [..] WHEN 1 THEN [..] .. END`
    fn list_at(&self, n: Expr) -> Expr {
        let lists = self.lists.iter().map(|list| lit(ScalarValue::List(Arc::new(self.list(list.as_deref())))));
        let when = lists.zip(0i64..).map(|(list, at)| (Box::new(lit(at)), Box::new(list))).collect();
        Expr::Case(datafusion_expr::Case::new(Some(Box::new(n)), when, None))
    }

    /// A column of one list.
    fn list(&self, list: Option<&[Element]>) -> ListArray {
        let elements = list.unwrap_or_default();
        let numbers: ArrayRef = Arc::new(elements.iter().map(|e| e.as_ref()?.1).collect::<Int64Array>());
        let values: ArrayRef = if self.structs {
            let texts: ArrayRef = Arc::new(elements.iter().map(|e| e.as_ref()?.0.clone()).collect::<StringArray>());
            let there = NullBuffer::from(elements.iter().map(Option::is_some).collect::<Vec<_>>());
            Arc::new(
                StructArray::try_new_with_length(fields_of_elements(), vec![texts, numbers], Some(there), elements.len())
                    .unwrap(),
            )
        } else {
            numbers
        };
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        let null = list.is_none().then(|| NullBuffer::new_null(1));
        ListArray::try_new(item, OffsetBuffer::from_lengths([elements.len()]), values, null).unwrap()
    }
}

/// The first rows of a node with the columns k, n and t.
fn top_n(node: Node, top: Top) -> Node {
    let by = if top.by_t { 2 } else { 0 };
    let order = vec![Order { expr: named(&node, 1), descending: top.descending, nulls_first: top.nulls_first }];
    let number = top.numbered.then(|| (None, Arc::new(Field::new("row_number", DataType::Int64, false))));
    let fields = node.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).chain(number);
    let schema = Arc::new(DFSchema::new_with_metadata(fields.collect(), Default::default()).unwrap());
    let changes = match (top.limit, top.numbered) {
        (1, _) => Changes::Upsert(vec![by]),
        (_, true) => Changes::Upsert(vec![by, 3]),
        _ => Changes::Retract,
    };
    let (partition, limit) = (vec![named(&node, by)], top.limit as u64);
    Node::TopN { input: Box::new(node), partition, order, limit, numbered: top.numbered, schema, changes }
}

/// The column at a position.
fn named(node: &Node, at: usize) -> Expr {
    Expr::Column(node.schema().columns()[at].clone())
}

/// k, n and t of the input's columns, the fourth of which may be rowtime.
fn columns(node: Node, of: impl Fn([Expr; 4]) -> [Expr; 3]) -> Node {
    let width = node.schema().fields().len();
    let [k, n, t] = of(std::array::from_fn(|at| named(&node, at.min(width - 1))));
    let changes = node.changes();
    project(node, &[("k", k, DataType::Utf8), ("n", n, DataType::Int64), ("t", t, DataType::Utf8)], changes)
}

fn rename(node: Node, alias: &str) -> Node {
    let qualifier = TableReference::bare(alias);
    let fields = node.schema().fields().iter().map(|f| f.as_ref().clone()).chain([Field::new("rowtime", rowtime_type(), false)]);
    let schema = schema(fields.map(|field| (Some(qualifier.clone()), field)).collect());
    Node::Rename { input: Box::new(node), schema }
}

fn distinct(node: Node) -> Node {
    let changes = match node.changes() {
        Changes::Append => Changes::Append,
        _ => Changes::Upsert((0..node.schema().fields().len()).collect()),
    };
    Node::Distinct { input: Box::new(node), changes }
}

// --------------------------------------------------------------------------------------------------------------- twins

/// The rows that are there after a history, in the order in which they came; of equal rows the last goes first.
fn there(history: &[Record]) -> Vec<&Record> {
    let mut rows: Vec<&Record> = Vec::new();
    for record in history {
        if !record.delete {
            rows.push(record);
        } else if let Some(at) = rows.iter().rposition(|row| row.row == record.row) {
            rows.remove(at);
        }
    }
    rows
}

/// Each change of a table, which is known by the columns at `key`, as changes of whole rows. `timed`: a row that comes
/// again with another event time is another row. Of a row only the columns at `read` count.
fn slow_retract(history: &History, key: &[usize], read: &[usize], timed: bool) -> History {
    let mut out = Vec::new();
    for (i, record) in history.iter().enumerate() {
        let same = |other: &Record, columns: &[usize]| columns.iter().all(|at| other.row[*at] == record.row[*at]);
        let before = history[..i].iter().rfind(|other| same(other, key)).filter(|before| !before.delete);
        let again = |before: &Record| same(before, read) && (!timed || before.time == record.time);
        if !record.delete && before.is_some_and(again) {
            continue;
        }
        out.extend(before.map(|before| Record { time: record.time, row: before.row.clone(), delete: true }));
        out.extend((!record.delete).then(|| record.clone()));
    }
    out
}

/// Each row once: it comes with the first of equal rows and goes with the last.
fn slow_distinct(history: &History) -> History {
    let is_there = |history: &[Record], row: &Row| there(history).iter().any(|other| other.row == *row);
    let changes = history
        .iter()
        .enumerate()
        .filter(|(i, record)| is_there(&history[..*i], &record.row) != is_there(&history[..=*i], &record.row));
    changes.map(|(_, record)| record.clone()).collect()
}

/// Whether one value comes before, with or after another.
fn compared(a: &Value, b: &Value, top: Top) -> std::cmp::Ordering {
    match (a.integer(), b.integer()) {
        (Some(a), Some(b)) if top.descending => b.cmp(&a),
        (Some(a), Some(b)) => a.cmp(&b),
        (a, b) if top.nulls_first => a.is_some().cmp(&b.is_some()),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

/// The rows of a partition that are the first after a history.
fn first_rows<'a>(history: &'a [Record], like: &Record, top: Top) -> Vec<&'a Record> {
    let by = if top.by_t { 2 } else { 0 };
    let mut rows = there(history);
    rows.retain(|record| record.row[by] == like.row[by]);
    // A stable sort: of equal ones the first to come stays first.
    rows.sort_by(|a, b| compared(&a.row[1], &b.row[1], top));
    rows.truncate(top.limit);
    rows
}

fn is_same(a: &Record, b: &Record, timed: bool) -> bool {
    if timed { std::ptr::eq(a, b) } else { a.row == b.row }
}

/// The first rows, with a number behind where they are numbered. One row of a partition, and one under a number,
/// replaces the one before; others are inserts and deletes of whole rows.
fn slow_top(history: &History, top: Top, timed: bool) -> History {
    let mut out = Vec::new();
    for (i, record) in history.iter().enumerate() {
        let (before, after) = (first_rows(&history[..i], record, top), first_rows(&history[..=i], record, top));
        let change = |other: &Record, number: usize, delete| {
            let number = top.numbered.then_some(Value::Integer(number as i64 + 1));
            Record { time: record.time, row: other.row.iter().cloned().chain(number).collect(), delete }
        };
        if top.numbered || top.limit == 1 {
            for number in 0..before.len().max(after.len()) {
                match (before.get(number), after.get(number)) {
                    (Some(old), Some(new)) if std::ptr::eq(*old, *new) || is_same(old, new, timed) => {}
                    (_, Some(new)) => out.push(change(new, number, false)),
                    (Some(old), None) => out.push(change(old, number, true)),
                    (None, None) => unreachable!(),
                }
            }
            continue;
        }
        let gone = before.iter().find(|row| !after.iter().any(|other| std::ptr::eq(*other, **row)));
        let came = after.iter().find(|row| !before.iter().any(|other| std::ptr::eq(*other, **row)));
        if gone.zip(came).is_some_and(|(gone, came)| is_same(gone, came, timed)) {
            continue;
        }
        out.extend(gone.map(|row| change(row, 0, true)));
        out.extend(came.map(|row| change(row, 0, false)));
    }
    out
}

/// Of the rows with the same value at `key` the last to come.
fn slow_rekey(history: &History, key: usize, timed: bool) -> History {
    let mut out = Vec::new();
    for (i, record) in history.iter().enumerate() {
        let last = |history| there(history).into_iter().rfind(|other: &&Record| other.row[key] == record.row[key]);
        match (last(&history[..i]), last(&history[..=i])) {
            (Some(old), Some(new)) if std::ptr::eq(old, new) || is_same(old, new, timed) => {}
            (_, Some(new)) => out.push(Record { time: record.time, ..new.clone() }),
            (Some(old), None) => out.push(Record { time: record.time, delete: true, ..old.clone() }),
            (None, None) => {}
        }
    }
    out
}

/// The rows with their event time as text for t; a row goes with the time that it came with.
fn slow_timed(history: &History) -> History {
    let timed = |(i, record): (usize, &Record)| {
        let time = match record.delete {
            false => record.time,
            true => there(&history[..i]).iter().rev().find(|row| row.row == record.row)?.time,
        };
        let row = vec![record.row[0].clone(), record.row[1].clone(), Value::Text(time.to_string())];
        Some(Record { row, ..record.clone() })
    };
    history.iter().enumerate().filter_map(timed).collect()
}

/// `None` where it fails.
fn divided(record: &Record) -> Option<Record> {
    let n = match record.row[1].integer() {
        Some(0) => return None,
        Some(n) => Value::Integer(12 / n),
        None => null(),
    };
    Some(Record { row: vec![record.row[0].clone(), n, record.row[2].clone()], ..record.clone() })
}

/// The rows that an UNNEST makes of one.
fn slow_unnest(unnest: &Unnest, record: &Record) -> Vec<Record> {
    let list = record.row[1].integer().and_then(|n| unnest.lists.get(usize::try_from(n).unwrap())?.clone());
    let mut elements: Vec<(Option<i64>, Element)> = (1..).map(Some).zip(list.unwrap_or_default()).collect();
    if elements.is_empty() && unnest.outer {
        elements.push((None, None));
    }
    let row = |(position, element): (Option<i64>, Element)| {
        let (text, number) = element.unwrap_or_default();
        let t = match unnest {
            Unnest { ordinality: true, .. } => position.map(|position| position.to_string()).map_or(Value::Null, Value::Text),
            Unnest { structs: true, .. } => text.map_or(Value::Null, Value::Text),
            _ => record.row[2].clone(),
        };
        Record { row: vec![record.row[0].clone(), number.map_or(Value::Null, Value::Integer), t], ..record.clone() }
    };
    elements.into_iter().map(row).collect()
}

/// A plan's history, from those of its inputs. Whether event times are read above it is said by `timed`.
fn slow(plan: &Plan, arrivals: &[(Arrival, i64)], shape: Shape, timed: bool, scans: &mut usize) -> Vec<Caused> {
    let each = |history: Vec<Caused>, twin: &dyn Fn(&History) -> History| by_cause(&history, twin);
    match plan {
        Plan::Scan => {
            *scans += 1;
            let of_input = arrivals.iter().enumerate().filter(|(_, ((at, _), _))| *at == *scans - 1);
            let history =
                of_input.map(|(cause, ((_, record), _))| Caused { cause, row: cause, record: record.clone() }).collect();
            if shape == Shape::Table { each(history, &|history| slow_retract(history, &[0], &[0, 1, 2], timed)) } else { history }
        }
        Plan::Filter(at, plan) => {
            let mut history = slow(plan, arrivals, shape, timed, scans);
            history.retain(|caused| caused.record.row[1].integer().is_some_and(|n| n > *at));
            history
        }
        Plan::Divide(plan) => {
            let mut history = slow(plan, arrivals, shape, timed, scans);
            let failed: BTreeSet<usize> = history.iter().filter(|c| divided(&c.record).is_none()).map(|c| c.row).collect();
            history.retain(|caused| !failed.contains(&caused.row));
            history.into_iter().map(|c| Caused { record: divided(&c.record).unwrap(), ..c }).collect()
        }
        Plan::Unnest(unnest, plan) => {
            let history = slow(plan, arrivals, shape, timed, scans);
            let rows = |c: Caused| slow_unnest(unnest, &c.record).into_iter().map(move |record| Caused { record, ..c });
            history.into_iter().flat_map(rows).collect()
        }
        Plan::Timed(plan) => {
            let history = slow(plan, arrivals, shape, true, scans);
            let timed = |c: Caused| Caused { record: slow_timed(&vec![c.record]).remove(0), ..c };
            if shape == Shape::Table { each(history, &slow_timed) } else { history.into_iter().map(timed).collect() }
        }
        Plan::Renamed(plan) => slow(plan, arrivals, shape, timed, scans),
        Plan::Union(plans) => {
            let mut all = Vec::new();
            for (at, plan) in plans.iter().enumerate() {
                let history = slow(plan, arrivals, shape, timed, scans);
                all.extend(history.into_iter().map(|c| Caused { row: c.row * plans.len() + at, ..c }));
            }
            all.sort_by_key(|caused| caused.cause);
            all
        }
        Plan::Distinct(plan) => {
            let history = each(slow(plan, arrivals, shape, timed, scans), &slow_distinct);
            if shape == Shape::Table {
                each(history, &|history| slow_retract(history, &[0, 1, 2], &[0, 1, 2], timed))
            } else {
                history
            }
        }
        Plan::Top(top, plan) => {
            let history = each(slow(plan, arrivals, shape, timed, scans), &|history| slow_top(history, *top, timed));
            let by = if top.by_t { 2 } else { 0 };
            let history = match (top.numbered, top.limit) {
                (true, 1) => each(history, &|history| slow_retract(history, &[by], &[0, 1, 3, by], timed)),
                (true, _) => each(history, &|history| slow_retract(history, &[by, 3], &[0, 1, 3, by], timed)),
                (false, 1) => each(history, &|history| slow_retract(history, &[by], &[0, 1, 2], timed)),
                (false, _) => return history,
            };
            let numbers = |record: Record| match record.row[3].integer() {
                Some(number) => {
                    Record { row: vec![record.row[0].clone(), record.row[1].clone(), Value::Text(number.to_string())], ..record }
                }
                None => record,
            };
            match top.numbered {
                true => history.into_iter().map(|c| Caused { record: numbers(c.record), ..c }).collect(),
                false => history,
            }
        }
        Plan::Rekey(plan) => {
            let history = each(slow(plan, arrivals, shape, timed, scans), &|history| slow_rekey(history, 1, timed));
            each(history, &|history| slow_retract(history, &[1], &[0, 1, 2], timed))
        }
    }
}

/// Lets a twin of an operator with state work on a history whose rows know their causes.
fn by_cause(history: &[Caused], twin: &dyn Fn(&History) -> History) -> Vec<Caused> {
    let records = |count: usize| history[..count].iter().map(|caused| caused.record.clone()).collect::<History>();
    let mut out: Vec<Caused> = Vec::new();
    for (i, Caused { cause, .. }) in history.iter().enumerate() {
        // What one more row in the history makes more.
        let now = twin(&records(i + 1)).into_iter().enumerate().skip(out.len());
        out.extend(now.map(|(row, record)| Caused { cause: *cause, row, record }));
    }
    out
}

// --------------------------------------------------------------------------------------------------------------- tests

/// A plan with DISTINCT on top, and what its twin makes of the histories.
fn with_twin(plan: &Plan, shape: Shape, histories: &[Vec<Spec>]) -> (Query, Vec<(Arrival, i64)>, History) {
    let mut builder = Builder { inputs: Vec::new(), shape, names: 0 };
    let root = distinct(builder.node(plan));
    let query = query(builder.inputs, root);
    let arrivals = merged(&query, histories);
    let history: History = slow(plan, &arrivals, shape, false, &mut 0).into_iter().map(|caused| caused.record).collect();
    let wanted = slow_distinct(&history);
    (query, arrivals, wanted)
}

fn run_all(query: &Query, steps: &[Step]) -> History {
    let mut dataflow = Dataflow::compile(query).unwrap();
    dataflow.on_bad_row(BadRow::SetAside);
    let out = steps.iter().flat_map(|step| step_once(&mut dataflow, step)).collect();
    assert!(dataflow.take_bad_rows().iter().all(|bad| bad.reason == "division by zero"));
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases * 4, ..config() })]

    /// Alone, over a table and over a stream.
    #[test]
    fn unnest_is_its_twin(
        unnest in unnest(), table: bool, histories in histories(1, 14), cuts in cuts(), replay in cuts(), at in 0.0f64..1.0,
    ) {
        let shape = if table { Shape::Table } else { Shape::Stream };
        let (query, arrivals, wanted) = with_twin(&Plan::Unnest(unnest, Box::new(Plan::Scan)), shape, &histories);
        prop_assert_eq!(run_all(&query, &cut(&arrivals, &cuts)), wanted);
        restart(&query, &arrivals, &cuts, &replay, at)?;
    }

    #[test]
    fn plans_over_tables_are_their_twins(
        plan in plan(4, Shape::Table), histories in histories(12, 14), cuts in cuts(), replay in cuts(), at in 0.0f64..1.0,
    ) {
        let (query, arrivals, wanted) = with_twin(&plan, Shape::Table, &histories);
        prop_assert_eq!(run_all(&query, &cut(&arrivals, &cuts)), wanted);
        restart(&query, &arrivals, &cuts, &replay, at)?;
    }

    #[test]
    fn plans_over_streams_are_their_twins(
        plan in plan(4, Shape::Stream), histories in histories(12, 14), cuts in cuts(), replay in cuts(), at in 0.0f64..1.0,
    ) {
        let (query, arrivals, wanted) = with_twin(&plan, Shape::Stream, &histories);
        prop_assert_eq!(run_all(&query, &cut(&arrivals, &cuts)), wanted);
        restart(&query, &arrivals, &cuts, &replay, at)?;
    }

    /// Results by key, as they go to a topic.
    #[test]
    fn results_by_key_are_their_twins(
        plan in plan(2, Shape::Table), histories in histories(8, 14), top in top(), rekeyed: Option<bool>, cuts in cuts(),
        replay in cuts(), at in 0.0f64..1.0,
    ) {
        let mut builder = Builder { inputs: Vec::new(), shape: Shape::Table, names: 0 };
        let node = builder.node(&plan);
        let top = Top { numbered: top.numbered || top.limit > 1, ..top };
        let key = rekeyed.map(usize::from);
        let root = match key {
            Some(key) => Node::Rekey { input: Box::new(node), key: vec![key] },
            None => top_n(node, top),
        };
        let query = query(builder.inputs, root);
        let arrivals = merged(&query, &histories);
        let history: History = slow(&plan, &arrivals, Shape::Table, false, &mut 0).into_iter().map(|caused| caused.record).collect();
        let mut wanted = match key {
            Some(key) => slow_rekey_of_topic(&history, key),
            None => slow_top(&history, top, false),
        };
        for record in wanted.iter_mut().filter(|record| record.delete) {
            let others = record.row.iter_mut().enumerate().filter(|(at, _)| !query.key.contains(at));
            others.for_each(|(_, value)| *value = null());
        }
        prop_assert_eq!(run_all(&query, &cut(&arrivals, &cuts)), wanted);
        restart(&query, &arrivals, &cuts, &replay, at)?;
    }
}

/// A row without a key goes up once and is not kept.
fn slow_rekey_of_topic(history: &History, key: usize) -> History {
    let all = history.iter().cloned().enumerate().map(|(at, record)| Caused { cause: at, row: at, record });
    let (without, with): (Vec<_>, Vec<_>) = all.partition(|caused| caused.record.row[key] == null());
    let mut out = by_cause(&with, &|history| slow_rekey(history, key, false));
    out.extend(without.into_iter().filter(|caused| !caused.record.delete));
    out.sort_by_key(|caused| caused.cause);
    out.into_iter().map(|caused| caused.record).collect()
}

fn table_plan(plan: &Plan) -> (Vec<Input>, Node) {
    let mut builder = Builder { inputs: Vec::new(), shape: Shape::Table, names: 0 };
    let node = builder.node(plan);
    (builder.inputs, node)
}

/// It takes back what was never sent, and that was told when it came.
#[test]
fn a_delete_of_a_row_that_could_not_be_computed_is_silent() {
    let (inputs, node) = table_plan(&Plan::Divide(Box::new(Plan::Scan)));
    let mut dataflow = Dataflow::compile(&query(inputs, distinct(node))).unwrap();
    dataflow.on_bad_row(BadRow::SetAside);
    let delete = Record { delete: true, ..record(3, "x", None) };
    let mut step = |record: Record| {
        let sent = step_once(&mut dataflow, &(vec![(0, batch_of(&[record]))], 0)).len();
        (sent, dataflow.take_bad_rows().len())
    };
    assert_eq!(step(record(1, "x", Some(0))), (0, 1));
    assert_eq!(step(record(2, "x", Some(3))), (1, 0));
    assert_eq!(step(record(2, "x", Some(0))), (1, 1));
    assert_eq!(step(delete), (0, 0));
}

#[test]
fn a_result_without_a_key_is_refused() {
    let (inputs, node) = table_plan(&Plan::Scan);
    let refused = Dataflow::compile(&query(inputs, node)).err().unwrap().to_string();
    insta::assert_snapshot!(refused, @"the result takes back whole rows, and a topic can only take back what it knows by a key; give the product a key, or group the rows");
}

/// What was kept for rows that are gone is gone.
#[test]
fn state_goes_with_the_rows() {
    let top = Top { by_t: false, descending: true, nulls_first: false, limit: 2, numbered: true };
    let plan = Plan::Rekey(Box::new(Plan::Top(top, Box::new(Plan::Timed(Box::new(Plan::Distinct(Box::new(Plan::Scan))))))));
    let (inputs, node) = table_plan(&plan);
    let mut dataflow = Dataflow::compile(&query(inputs, distinct(node))).unwrap();
    let records: Vec<Record> = (0..100).map(|i| record(i, &format!("k{i}"), Some(i % 7))).collect();
    step_once(&mut dataflow, &(vec![(0, batch_of(&records))], 0));
    assert!(dataflow.state_bytes() > 10_000);
    let mut there = BTreeSet::new();
    let mut drain = |dataflow: &mut Dataflow| {
        dataflow.drain_changelog(&mut |key, value| {
            if value.is_some() {
                there.insert(key.to_vec())
            } else {
                there.remove(key)
            };
        });
        there.len()
    };
    assert!(drain(&mut dataflow) > 200);
    let deletes: Vec<Record> = records.into_iter().map(|record| Record { delete: true, ..record }).collect();
    step_once(&mut dataflow, &(vec![(0, batch_of(&deletes))], 200));
    assert_eq!(dataflow.state_bytes(), 0);
    // How many rows have come.
    assert_eq!(drain(&mut dataflow), 2);
}

#[test]
fn what_operators_on_rows_remember_is_said() {
    let plan = Plan::Union(vec![Plan::Timed(Box::new(Plan::Scan)), Plan::Scan]);
    let (inputs, node) = table_plan(&plan);
    let root = Node::Rekey { input: Box::new(node), key: vec![1] };
    let text = Dataflow::compile(&query(inputs, root)).unwrap().describe().to_string();
    for wanted in [
        "rekey [upsert by n]",
        "all 0 rows of 0 keys, in the order in which they came; it grows with the tables below",
        "rebuilt from: the changelog, since the tables' topics do not know that order any more",
        "the event times of 0 different rows that are there",
        "the last row of each of 0 keys (i1.k)",
        "rebuilt from: the tables below, their topics read whole",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
}
