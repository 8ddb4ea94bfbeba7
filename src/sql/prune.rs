//! Narrows a query to the columns that it reads, so that decoders decode no others.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion_common::{Column, DFSchema};
use datafusion_expr::Expr;

use super::query::{Changes, Input, Node};
use super::relations::{self, schema_of};
use crate::model::row::{ROWTIME, RowType};

/// The inputs with the columns that `root` reads, and `root` over them.
pub(crate) fn prune(root: Node, inputs: &[relations::Input]) -> (Node, Vec<Input>) {
    let mut read = HashSet::new();
    columns_of(&root, &mut read);
    let inputs: Vec<Input> = inputs.iter().map(|input| narrowed(input, &read)).collect();
    (rebuilt(root, &inputs), inputs)
}

/// Adds all columns that a node's expressions, and those below it, name.
fn columns_of(node: &Node, read: &mut HashSet<Column>) {
    read.extend(node.expressions().into_iter().flat_map(Expr::column_refs).cloned());
    // What has all columns of its input, reads them all.
    if matches!(node, Node::Distinct { .. } | Node::Rekey { .. } | Node::Union { .. }) {
        read.extend(node.inputs().into_iter().flat_map(|input| input.schema().columns()));
    }
    node.inputs().into_iter().for_each(|input| columns_of(input, read));
}

fn narrowed(input: &relations::Input, read: &HashSet<Column>) -> Input {
    let relation = &input.relation;
    let is_read = |name: &str| read.contains(&Column::new(Some(input.alias.clone()), name));
    let needed = |name: &str| is_read(name) || relation.key.iter().any(|k| k == name) || relation.time_field == name;
    let fields: Vec<_> = relation.row_type.fields().iter().filter(|f| f.name() != ROWTIME && needed(f.name())).cloned().collect();
    let position = |name: &String| fields.iter().position(|f| f.name() == name);
    let key = relation.key.iter().filter_map(position).collect();
    let time_column = relation.time_column().and_then(|_| position(&relation.time_field));
    Input {
        product: relation.product.clone(),
        alias: input.alias.clone(),
        shape: relation.shape,
        row_type: Arc::new(RowType::new(fields)),
        key,
        time_column,
        disorder_ms: relation.disorder_ms,
    }
}

/// The same operators over narrower scans. Only scans, and what passes their columns on, change theirs.
fn rebuilt(node: Node, inputs: &[Input]) -> Node {
    let again = |node: Box<Node>| Box::new(rebuilt(*node, inputs));
    match node {
        Node::Scan { input, schema, changes } => {
            let Some(owner) = inputs.get(input) else { return Node::Scan { input, schema, changes } };
            let kept = |name: &str| name == ROWTIME || owner.row_type.index_of(name).is_ok();
            let schema = Arc::new(schema_of(
                schema.iter().filter(|(_, f)| kept(f.name())).map(|(q, f)| (q.cloned(), f.clone())).collect(),
            ));
            let changes = match changes {
                Changes::Upsert(_) => Changes::Upsert(owner.key.clone()),
                other => other,
            };
            Node::Scan { input, schema, changes }
        }
        Node::Filter { input, predicate } => Node::Filter { input: again(input), predicate },
        Node::Project { input, columns, schema, changes } => Node::Project { input: again(input), columns, schema, changes },
        Node::Rename { input, schema } => Node::Rename { input: again(input), schema },
        Node::Retract { input } => Node::Retract { input: again(input) },
        Node::Rekey { input, key } => Node::Rekey { input: again(input), key },
        Node::Distinct { input, changes } => Node::Distinct { input: again(input), changes },
        Node::Union { inputs: of, schema, changes } => {
            Node::Union { inputs: of.into_iter().map(|input| rebuilt(input, inputs)).collect(), schema, changes }
        }
        Node::Window { input, windows, schema } => {
            let (schema, input) = passed_on(&schema, *input, inputs);
            Node::Window { input, windows, schema }
        }
        Node::Unnest { input, list, outer, ordinality, schema } => {
            let (schema, input) = passed_on(&schema, *input, inputs);
            Node::Unnest { input, list, outer, ordinality, schema }
        }
        Node::TopN { input, partition, order, limit, numbered, schema: whole, changes } => {
            let (schema, input) = passed_on(&whole, *input, inputs);
            let changes = moved(changes, &whole, &schema);
            Node::TopN { input, partition, order, limit, numbered, schema, changes }
        }
        Node::Aggregate { input, group, aggregates, window, schema, changes } => {
            Node::Aggregate { input: again(input), group, aggregates, window, schema, changes }
        }
        Node::LookupJoin { stream, table, on, residual, kind, as_of, schema } => {
            let (stream, table) = (again(stream), again(table));
            let schema = joined(&schema, &stream, &table);
            Node::LookupJoin { stream, table, on, residual, kind, as_of, schema }
        }
        Node::IntervalJoin { left, right, on, lower_ms, upper_ms, residual, kind, schema } => {
            let (left, right) = (again(left), again(right));
            let schema = joined(&schema, &left, &right);
            Node::IntervalJoin { left, right, on, lower_ms, upper_ms, residual, kind, schema }
        }
        Node::TableJoin { left, right, on, residual, kind, schema: whole, changes } => {
            let (left, right) = (again(left), again(right));
            let schema = joined(&whole, &left, &right);
            let changes = moved(changes, &whole, &schema);
            Node::TableJoin { left, right, on, residual, kind, schema, changes }
        }
    }
}

/// An operator's input, narrowed, and the operator's columns without those that the input lost.
fn passed_on(schema: &DFSchema, input: Node, inputs: &[Input]) -> (Arc<DFSchema>, Box<Node>) {
    let before = input.schema().clone();
    let input = Box::new(rebuilt(input, inputs));
    let kept = |column: &Column| !before.has_column(column) || input.schema().has_column(column);
    (without(schema, kept), input)
}

/// The columns of a join's output that its sides still have, as nullable as they were.
fn joined(schema: &DFSchema, left: &Node, right: &Node) -> Arc<DFSchema> {
    without(schema, |column| left.schema().has_column(column) || right.schema().has_column(column))
}

fn without(schema: &DFSchema, kept: impl Fn(&Column) -> bool) -> Arc<DFSchema> {
    let columns = schema.iter().filter(|(q, f)| kept(&Column::new(q.map(|q| (*q).clone()), f.name().clone())));
    Arc::new(schema_of(columns.map(|(q, f)| (q.cloned(), f.clone())).collect()))
}

/// The key's columns, which are never left out, where they stand now.
fn moved(changes: Changes, before: &DFSchema, after: &DFSchema) -> Changes {
    let Changes::Upsert(key) = changes else { return changes };
    let columns = before.columns();
    let position = |at: usize| after.maybe_index_of_column(columns.get(at)?);
    Changes::Upsert(key.into_iter().filter_map(position).collect())
}
