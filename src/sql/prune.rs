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
    let mut add = |expr: &Expr| read.extend(expr.column_refs().into_iter().cloned());
    match node {
        Node::Scan { .. } => {}
        Node::Filter { input, predicate } => {
            add(predicate);
            columns_of(input, read);
        }
        Node::Project { input, columns, .. } => {
            columns.iter().for_each(add);
            columns_of(input, read);
        }
        Node::LookupJoin { stream: left, table: right, on, residual, .. }
        | Node::IntervalJoin { left, right, on, residual, .. }
        | Node::TableJoin { left, right, on, residual, .. } => {
            on.iter().flat_map(|on| [&on.left, &on.right]).chain(residual).for_each(add);
            columns_of(left, read);
            columns_of(right, read);
        }
        Node::Aggregate { input, group, aggregates, .. } => {
            group.iter().chain(aggregates.iter().filter_map(|a| a.argument.as_ref())).for_each(add);
            columns_of(input, read);
        }
    }
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

/// The same operators over narrower scans. Only scans and joins change their columns.
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
        Node::Aggregate { input, group, aggregates, schema, changes } => {
            Node::Aggregate { input: again(input), group, aggregates, schema, changes }
        }
        Node::LookupJoin { stream, table, on, residual, kind, schema } => {
            let (stream, table) = (again(stream), again(table));
            let schema = joined(&schema, &stream, &table);
            Node::LookupJoin { stream, table, on, residual, kind, schema }
        }
        Node::IntervalJoin { left, right, on, lower_ms, upper_ms, residual, kind, schema } => {
            let (left, right) = (again(left), again(right));
            let schema = joined(&schema, &left, &right);
            Node::IntervalJoin { left, right, on, lower_ms, upper_ms, residual, kind, schema }
        }
        Node::TableJoin { left, right, on, residual, kind, schema, .. } => {
            let (left, right) = (again(left), again(right));
            let schema = joined(&schema, &left, &right);
            // The left side's columns come first, so its key stands where it stood.
            let changes = left.changes().clone();
            Node::TableJoin { left, right, on, residual, kind, schema, changes }
        }
    }
}

/// The columns of a join's output that its sides still have, as nullable as they were.
fn joined(schema: &DFSchema, left: &Node, right: &Node) -> Arc<DFSchema> {
    let kept = |column: &Column| left.schema().has_column(column) || right.schema().has_column(column);
    let columns = schema.iter().filter(|(q, f)| kept(&Column::new(q.map(|q| (*q).clone()), f.name().clone())));
    Arc::new(schema_of(columns.map(|(q, f)| (q.cloned(), f.clone())).collect()))
}
