//! What a query's dataflow costs, and why: its operators with the keys that their rows are brought together by, the lag of
//! their watermarks, and the size of what they remember; for `mesh explain`.
//!
//! Sizes are estimates from the columns' types: of texts, arrays and maps only the usual size is known.

use std::collections::BTreeSet;

use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::compile::lag_ms;
use super::dataflow::{Dataflow, Rebuild};
use super::describe::{Description, State};
use crate::model::row::DataType;
use crate::sql::expression_sql;
use crate::sql::query::{Node, Query, Windows};

/// Bytes of a text or of bytes, as they usually are, with their length.
const TEXT: usize = 28;
/// Items of an array or a map, as they usually are.
const ITEMS: usize = 4;
/// What a remembered row takes beside its columns: its key's place in a hash map, its event time.
const ENTRY: usize = 56;
/// What an aggregate keeps beside its value.
const ACCUMULATOR: usize = 16;

/// One operator of a dataflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// What it is, its details, and what the changes on its output mean.
    pub description: Description,
    /// For each input the columns by which its rows are brought together; `None`: they come as they are.
    pub rekeyed: Vec<Option<Vec<String>>>,
    /// How far the watermark of its output lies behind that of the dataflow's inputs, in milliseconds.
    pub lag_ms: i64,
    /// Estimated bytes of one row of its output.
    pub row_bytes: usize,
    /// What one entry of its state is, and how many bytes it takes, estimated.
    pub entries: Vec<(&'static str, usize)>,
    /// Of a scan: its place among the query's inputs.
    pub input: Option<usize>,
    /// What feeds it, left first.
    pub inputs: Vec<Explained>,
}

impl Dataflow {
    /// The dataflow of `query`, from which it was compiled, with what it costs.
    pub fn explain(&self, query: &Query) -> Explained {
        explain(query, &query.root, self.describe())
    }

    /// What is read of an input after a restart, in words.
    pub fn rebuild_text(&self, input: usize) -> String {
        match self.rebuild(input) {
            Rebuild::Nothing => "read on from the committed offset".into(),
            Rebuild::Whole => "read again from the start up to the committed offset".into(),
            Rebuild::Window { ms } => format!("read again from {ms} ms before the watermark"),
        }
    }
}

fn explain(query: &Query, node: &Node, mut description: Description) -> Explained {
    let below = std::mem::take(&mut description.inputs);
    let inputs: Vec<Explained> =
        node.inputs().into_iter().zip(below).map(|(node, description)| explain(query, node, description)).collect();
    if let Some(state) = &mut description.state {
        // It is not running.
        state.what = state.what.replace(" each of 0 ", " each of its ").replace(" of 0 ", " of ");
    }
    let rekeyed = |(port, input): (usize, &Node)| {
        let wanted = together_by(node, port)?;
        let spread = spread(query, input);
        let met = !spread.is_empty()
            && spread.iter().all(|names| names.iter().any(|name| wanted.contains(name)))
            && (joins(node).is_none() || spread.len() == wanted.len());
        (!met).then_some(wanted)
    };
    Explained {
        rekeyed: node.inputs().into_iter().enumerate().map(rekeyed).collect(),
        lag_ms: lag_ms(node),
        row_bytes: width(node),
        entries: description.state.as_ref().map_or_else(Vec::new, |state| entries(node, state)),
        input: if let Node::Scan { input, .. } = node { Some(*input) } else { None },
        description,
        inputs,
    }
}

/// Both inputs of a join, and what it joins them on.
fn joins(node: &Node) -> Option<&[crate::sql::query::On]> {
    match node {
        Node::LookupJoin { on, .. } | Node::IntervalJoin { on, .. } | Node::TableJoin { on, .. } => Some(on),
        _ => None,
    }
}

/// The expressions by which rows of an input must be brought together for the node; `None`: it takes them as they come.
fn together_by(node: &Node, port: usize) -> Option<Vec<String>> {
    let texts = |exprs: &[Expr]| Some(exprs.iter().map(expression_sql).collect());
    match node {
        Node::Aggregate { group, .. } => texts(group),
        Node::TopN { partition, .. } => texts(partition),
        Node::Window { windows: Windows::Session { partition, .. }, .. } => texts(partition),
        Node::Rekey { input, key } => Some(key.iter().filter_map(|at| name(input.schema(), *at)).collect()),
        _ => joins(node).map(|on| on.iter().map(|on| expression_sql(if port == 0 { &on.left } else { &on.right })).collect()),
    }
}

/// The columns by which a node's rows are spread, each under all of its names; empty if that is not known.
fn spread(query: &Query, node: &Node) -> Vec<BTreeSet<String>> {
    let single = |name: String| BTreeSet::from([name]);
    match node {
        Node::Scan { input, schema, .. } => {
            let of = query.inputs.get(*input);
            of.map_or_else(Vec::new, |of| of.key.iter().filter_map(|at| name(schema, *at)).map(single).collect())
        }
        Node::Filter { input, .. }
        | Node::Retract { input }
        | Node::Distinct { input, .. }
        | Node::Window { input, .. }
        | Node::Unnest { input, .. } => spread(query, input),
        Node::TopN { partition, .. } => partition.iter().map(expression_sql).map(single).collect(),
        Node::Rekey { input, key } => key.iter().filter_map(|at| name(input.schema(), *at)).map(single).collect(),
        Node::Aggregate { group, schema, .. } => (0..group.len()).filter_map(|at| name(schema, at)).map(single).collect(),
        Node::Project { input, columns, schema, .. } => {
            let to =
                |text: &str| columns.iter().position(|column| expression_sql(column) == text).and_then(|at| name(schema, at));
            renamed(&spread(query, input), to)
        }
        Node::Rename { input, schema } => {
            let to = |text: &str| {
                let fields = input.schema().fields().len();
                (0..fields).find(|at| name(input.schema(), *at).as_deref() == Some(text)).and_then(|at| name(schema, at))
            };
            renamed(&spread(query, input), to)
        }
        Node::Union { .. } => Vec::new(),
        Node::LookupJoin { on, .. } | Node::IntervalJoin { on, .. } | Node::TableJoin { on, .. } => {
            on.iter().map(|on| BTreeSet::from([expression_sql(&on.left), expression_sql(&on.right)])).collect()
        }
    }
}

/// The same columns under new names; none if one of them is not passed on.
fn renamed(spread: &[BTreeSet<String>], to: impl Fn(&str) -> Option<String>) -> Vec<BTreeSet<String>> {
    let column = |names: &BTreeSet<String>| {
        let names: BTreeSet<String> = names.iter().filter_map(|name| to(name)).collect();
        (!names.is_empty()).then_some(names)
    };
    spread.iter().map(column).collect::<Option<Vec<_>>>().unwrap_or_default()
}

fn name(schema: &DFSchema, at: usize) -> Option<String> {
    schema.columns().get(at).map(|column| column.flat_name())
}

/// What one entry of a node's state is, and its size.
fn entries(node: &Node, _: &State) -> Vec<(&'static str, usize)> {
    let input = |at: usize| node.inputs().get(at).map_or(0, |input| width(input));
    match node {
        Node::LookupJoin { .. } => vec![("row of the table", input(1) + ENTRY)],
        Node::IntervalJoin { .. } | Node::TableJoin { .. } => {
            vec![("row of the left", input(0) + ENTRY), ("row of the right", input(1) + ENTRY)]
        }
        Node::Aggregate { aggregates, window, .. } => {
            let noun = if window.is_some() { "group of an open window" } else { "group" };
            vec![(noun, width(node) + aggregates.len() * ACCUMULATOR + ENTRY)]
        }
        Node::Filter { .. } => vec![("key", TEXT + ENTRY)],
        _ => vec![("row", input(0) + ENTRY)],
    }
}

fn width(node: &Node) -> usize {
    node.schema().fields().iter().map(|field| bytes(field.data_type())).sum()
}

/// Bytes that a value of a type usually takes.
fn bytes(data_type: &DataType) -> usize {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Binary | DataType::LargeBinary => TEXT,
        DataType::BinaryView => TEXT,
        DataType::FixedSizeBinary(size) => usize::try_from(*size).unwrap_or(TEXT),
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => 4 + ITEMS * bytes(item.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| bytes(field.data_type())).sum(),
        other => other.primitive_width().unwrap_or(1),
    }
}
