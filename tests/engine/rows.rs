//! Operators on whole rows against their twins, and plans made of several of them.
//!
//! A twin takes the whole history of an edge, row after row, and says what each makes of the operator's result by
//! computing that result anew from all rows up to it. What comes out must be exactly that, in that order, however the
//! history is cut.

use super::*;

/// What happens on an edge. Of a delete on an upsert edge only the key counts.
type History = Vec<Record>;

// --------------------------------------------------------------------------------------------------------------- plans

/// A plan whose rows are taken back whole, or only added. All have the columns k, n and t, and `rowtime` behind them
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
    Distinct(Box<Plan>),
}

fn plan(depth: u32) -> BoxedStrategy<Plan> {
    let leaf = Just(Plan::Scan);
    leaf.prop_recursive(depth, 12, 3, |inner| {
        let one = inner.clone().prop_map(Box::new);
        prop_oneof![
            (0i64..4, one.clone()).prop_map(|(at, plan)| Plan::Filter(at, plan)),
            one.clone().prop_map(Plan::Divide),
            one.clone().prop_map(Plan::Timed),
            one.clone().prop_map(Plan::Renamed),
            one.prop_map(Plan::Distinct),
            prop::collection::vec(inner, 2..4).prop_map(Plan::Union),
        ]
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
            Plan::Distinct(plan) => {
                let node = distinct(self.node(plan));
                if self.shape == Shape::Table { Node::Retract { input: Box::new(node) } } else { node }
            }
        }
    }
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

/// Each change of a table, which is known by some columns, as changes of whole rows. `timed`: a row that comes again with
/// another event time is another row.
fn slow_retract(history: &History, key: &[usize], timed: bool) -> History {
    let mut out = Vec::new();
    for (i, record) in history.iter().enumerate() {
        let same_key = |other: &&Record| key.iter().all(|at| other.row[*at] == record.row[*at]);
        let before = history[..i].iter().rfind(same_key).filter(|before| !before.delete);
        let again = |before: &Record| before.row == record.row && (!timed || before.time == record.time);
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

fn divided(record: &Record) -> Option<Record> {
    let n = match record.row[1].integer() {
        Some(0) => return None,
        Some(n) => Value::Integer(12 / n),
        None => null(),
    };
    Some(Record { row: vec![record.row[0].clone(), n, record.row[2].clone()], ..record.clone() })
}

/// A plan's history, from those of its inputs. Whether event times are read above it is said by `timed`. Each row has
/// the place of the arrival that caused it.
fn slow(plan: &Plan, arrivals: &[(Arrival, i64)], shape: Shape, timed: bool, scans: &mut usize) -> Vec<(usize, Record)> {
    let each = |history: Vec<(usize, Record)>, twin: &dyn Fn(&History) -> History| by_cause(&history, twin);
    match plan {
        Plan::Scan => {
            *scans += 1;
            let of_input = arrivals.iter().enumerate().filter(|(_, ((at, _), _))| *at == *scans - 1);
            let history = of_input.map(|(cause, ((_, record), _))| (cause, record.clone())).collect();
            if shape == Shape::Table { each(history, &|history| slow_retract(history, &[0], timed)) } else { history }
        }
        Plan::Filter(at, plan) => {
            let mut history = slow(plan, arrivals, shape, timed, scans);
            history.retain(|(_, record)| record.row[1].integer().is_some_and(|n| n > *at));
            history
        }
        Plan::Divide(plan) => {
            let history = slow(plan, arrivals, shape, timed, scans);
            history.iter().filter_map(|(cause, record)| Some((*cause, divided(record)?))).collect()
        }
        Plan::Timed(plan) => each(slow(plan, arrivals, shape, true, scans), &slow_timed),
        Plan::Renamed(plan) => slow(plan, arrivals, shape, timed, scans),
        Plan::Union(plans) => {
            let mut all: Vec<(usize, Record)> = plans.iter().flat_map(|plan| slow(plan, arrivals, shape, timed, scans)).collect();
            all.sort_by_key(|(cause, _)| *cause);
            all
        }
        Plan::Distinct(plan) => {
            let history = each(slow(plan, arrivals, shape, timed, scans), &slow_distinct);
            if shape == Shape::Table { each(history, &|history| slow_retract(history, &[0, 1, 2], timed)) } else { history }
        }
    }
}

/// Lets a twin work on a history whose rows know their causes.
fn by_cause(history: &[(usize, Record)], twin: &dyn Fn(&History) -> History) -> Vec<(usize, Record)> {
    let records = |count: usize| history[..count].iter().map(|(_, record)| record.clone()).collect::<History>();
    let mut out: Vec<(usize, Record)> = Vec::new();
    for (i, (cause, _)) in history.iter().enumerate() {
        // What one more row in the history makes more.
        let now = twin(&records(i + 1));
        out.extend(now.into_iter().skip(out.len()).map(|record| (*cause, record)).collect::<Vec<_>>());
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
    let history: History = slow(plan, &arrivals, shape, false, &mut 0).into_iter().map(|(_, record)| record).collect();
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

    #[test]
    fn plans_over_tables_are_their_twins(
        plan in plan(4), histories in histories(12, 14), cuts in cuts(), replay in cuts(), at in 0.0f64..1.0,
    ) {
        let (query, arrivals, wanted) = with_twin(&plan, Shape::Table, &histories);
        prop_assert_eq!(run_all(&query, &cut(&arrivals, &cuts)), wanted);
        restart(&query, &arrivals, &cuts, &replay, at)?;
    }

    #[test]
    fn plans_over_streams_are_their_twins(
        plan in plan(4), histories in histories(12, 14), cuts in cuts(), replay in cuts(), at in 0.0f64..1.0,
    ) {
        let (query, arrivals, wanted) = with_twin(&plan, Shape::Stream, &histories);
        prop_assert_eq!(run_all(&query, &cut(&arrivals, &cuts)), wanted);
        restart(&query, &arrivals, &cuts, &replay, at)?;
    }
}
