//! A query as an indented tree, for `mesh explain` and for tests.

use std::fmt;

use datafusion_expr::Expr;

use super::query::{Aggregate, AggregateFunction, Changes, JoinKind, Node, On, Query};
use super::show;
use crate::model::product::Shape;
use crate::model::row::{RowType, type_name};

impl fmt::Display for Query {
    /// The result's columns and key, then one line for each operator with the kind of its output's changes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "result: {}", columns(&self.row_type))?;
        let key: Vec<&str> =
            self.key.iter().filter_map(|at| self.row_type.fields().get(*at)).map(|c| c.name().as_str()).collect();
        writeln!(f, "key: {}", if key.is_empty() { "none".to_string() } else { key.join(", ") })?;
        self.node(f, &self.root, 0)
    }
}

impl Query {
    fn node(&self, f: &mut fmt::Formatter<'_>, node: &Node, depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth);
        let changes = self.changes(node);
        match node {
            Node::Scan { input, .. } => {
                let Some(input) = self.inputs.get(*input) else { return writeln!(f, "{indent}scan") };
                let shape = match input.shape {
                    Shape::Stream => "stream",
                    Shape::Table => "table",
                };
                let time =
                    input.time_column.and_then(|at| input.row_type.fields().get(at)).map_or("the record's own", |c| c.name());
                writeln!(
                    f,
                    "{indent}scan {shape} {} AS {} [{changes}]: {}",
                    input.product,
                    input.alias,
                    columns(&input.row_type)
                )?;
                writeln!(f, "{indent}  event time: {time}, disorder {} ms", input.disorder_ms)
            }
            Node::Filter { input, predicate } => {
                writeln!(f, "{indent}filter [{changes}]: {}", show::sql(predicate))?;
                self.node(f, input, depth + 1)
            }
            Node::Project { input, columns, schema, .. } => {
                let named = columns.iter().zip(schema.fields()).map(|(expr, field)| named(expr, field.name()));
                writeln!(f, "{indent}project [{changes}]: {}", named.collect::<Vec<_>>().join(", "))?;
                self.node(f, input, depth + 1)
            }
            Node::LookupJoin { stream, table, on, residual, kind, .. } => {
                writeln!(f, "{indent}lookup join, {} [{changes}]: {}", kind_name(*kind), condition(on, residual.as_ref()))?;
                self.node(f, stream, depth + 1)?;
                self.node(f, table, depth + 1)
            }
            Node::IntervalJoin { left, right, on, lower_ms, upper_ms, residual, kind, .. } => {
                let kind = kind_name(*kind);
                let condition = condition(on, residual.as_ref());
                writeln!(
                    f,
                    "{indent}interval join, {kind} [{changes}]: {condition}, {lower_ms} ms <= right - left <= {upper_ms} ms"
                )?;
                self.node(f, left, depth + 1)?;
                self.node(f, right, depth + 1)
            }
            Node::TableJoin { left, right, on, residual, kind, .. } => {
                writeln!(f, "{indent}table join, {} [{changes}]: {}", kind_name(*kind), condition(on, residual.as_ref()))?;
                self.node(f, left, depth + 1)?;
                self.node(f, right, depth + 1)
            }
            Node::Aggregate { input, group, aggregates, .. } => {
                let aggregates: Vec<String> = aggregates.iter().map(aggregate).collect();
                let group: Vec<String> = group.iter().map(show::sql).collect();
                writeln!(f, "{indent}aggregate [{changes}]: {} by {}", aggregates.join(", "), group.join(", "))?;
                self.node(f, input, depth + 1)
            }
        }
    }

    /// The kind of a node's output, with the names of the key's columns.
    fn changes(&self, node: &Node) -> String {
        match node.changes() {
            Changes::Append => "append".into(),
            Changes::Retract => "retract".into(),
            Changes::Upsert(key) => {
                let schema = node.schema();
                let names = key.iter().filter_map(|at| schema.fields().get(*at)).map(|field| field.name().clone());
                format!("upsert by {}", names.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A row type's columns with their types: `a STRING NOT NULL, b BIGINT`.
fn columns(row_type: &RowType) -> String {
    let column = |f: &crate::model::row::Field| {
        format!("{} {}{}", f.name(), type_name(f.data_type()), if f.is_nullable() { "" } else { " NOT NULL" })
    };
    row_type.fields().iter().map(|f| column(f)).collect::<Vec<_>>().join(", ")
}

fn named(expr: &Expr, name: &str) -> String {
    match expr {
        Expr::Column(column) if column.name == name => column.flat_name(),
        other => format!("{} AS {name}", show::sql(other)),
    }
}

fn kind_name(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "inner",
        JoinKind::Left => "left",
    }
}

fn condition(on: &[On], residual: Option<&Expr>) -> String {
    let equal = on.iter().map(|on| format!("{} = {}", show::sql(&on.left), show::sql(&on.right)));
    let residual = residual.map(show::sql);
    equal.chain(residual).collect::<Vec<_>>().join(" AND ")
}

fn aggregate(aggregate: &Aggregate) -> String {
    let name = match aggregate.function {
        AggregateFunction::Latest => "latest",
        AggregateFunction::Earliest => "earliest",
        AggregateFunction::Count => "count",
        AggregateFunction::Sum => "sum",
        AggregateFunction::Min => "min",
        AggregateFunction::Max => "max",
        AggregateFunction::Avg => "avg",
    };
    match &aggregate.argument {
        Some(argument) => format!("{name}({})", show::sql(argument)),
        None => format!("{name}(*)"),
    }
}
