//! A query as an indented tree, for `mesh explain` and for tests.

use std::fmt;

use datafusion_expr::Expr;

use super::query::{Aggregate, AsOf, Changes, Emit, Node, On, Order, Query, Windows};
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
            _ => {
                let (operator, details) = (operator(node), details(node));
                let colon = if details.is_empty() { "" } else { ": " };
                writeln!(f, "{indent}{operator} [{changes}]{colon}{details}")?;
                node.inputs().into_iter().try_for_each(|input| self.node(f, input, depth + 1))
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

fn operator(node: &Node) -> String {
    match node {
        Node::Scan { .. } => "scan".into(),
        Node::Filter { .. } => "filter".into(),
        Node::Project { .. } => "project".into(),
        Node::Rename { .. } => "sub-query".into(),
        Node::Retract { .. } => "retract".into(),
        Node::Rekey { .. } => "rekey".into(),
        Node::Window { .. } => "window".into(),
        Node::Unnest { .. } => "unnest".into(),
        Node::Union { .. } => "union".into(),
        Node::Distinct { .. } => "distinct".into(),
        Node::TopN { .. } => "top n".into(),
        Node::LookupJoin { kind, as_of: AsOf::EventTime, .. } => format!("lookup join, {}", kind.name()),
        Node::LookupJoin { kind, as_of: AsOf::Arrival, .. } => format!("lookup join by arrival, {}", kind.name()),
        Node::IntervalJoin { kind, .. } => format!("interval join, {}", kind.name()),
        Node::TableJoin { kind, .. } => format!("table join, {}", kind.name()),
        Node::Aggregate { .. } => "aggregate".into(),
    }
}

fn details(node: &Node) -> String {
    let list = |texts: Vec<String>| texts.join(", ");
    match node {
        Node::Scan { .. } | Node::Retract { .. } | Node::Rekey { .. } | Node::Union { .. } | Node::Distinct { .. } => {
            String::new()
        }
        Node::Filter { predicate, .. } => show::sql(predicate),
        Node::Project { columns, schema, .. } => {
            list(columns.iter().zip(schema.fields()).map(|(expr, field)| named(expr, field.name())).collect())
        }
        Node::Rename { schema, .. } => schema.iter().find_map(|(alias, _)| alias).map(ToString::to_string).unwrap_or_default(),
        Node::Window { windows, .. } => window(windows),
        Node::Unnest { list, outer, ordinality, .. } => {
            let outer = if *outer { ", empty ones too" } else { "" };
            format!("{}{outer}{}", show::sql(list), if *ordinality { ", with ordinality" } else { "" })
        }
        Node::TopN { partition, order, limit, .. } => {
            let (partition, order) = (list(partition.iter().map(show::sql).collect()), list(order.iter().map(ordered).collect()));
            if partition.is_empty() { format!("{limit} by {order}") } else { format!("{limit} by {order} of each {partition}") }
        }
        Node::LookupJoin { on, residual, .. } | Node::TableJoin { on, residual, .. } => condition(on, residual.as_ref()),
        Node::IntervalJoin { on, lower_ms, upper_ms, residual, .. } => {
            let condition = condition(on, residual.as_ref());
            format!("{condition}, {lower_ms} ms <= right - left <= {upper_ms} ms")
        }
        Node::Aggregate { group, aggregates, window, .. } => {
            let aggregates = list(aggregates.iter().map(aggregate).collect());
            let closes = window.as_ref().map(|window| match window.emit {
                Emit::Final => format!(", when the window closes, grace {} ms", window.grace_ms),
                Emit::Changes => format!(", at each change, grace {} ms", window.grace_ms),
            });
            format!("{aggregates} by {}{}", list(group.iter().map(show::sql).collect()), closes.unwrap_or_default())
        }
    }
}

fn window(windows: &Windows) -> String {
    match windows {
        Windows::Tumble { size_ms, offset_ms } => format!("tumble {size_ms} ms, offset {offset_ms} ms"),
        Windows::Hop { size_ms, step_ms, offset_ms } => format!("hop {size_ms} ms every {step_ms} ms, offset {offset_ms} ms"),
        Windows::Cumulate { size_ms, step_ms, offset_ms } => {
            format!("cumulate {step_ms} ms up to {size_ms} ms, offset {offset_ms} ms")
        }
        Windows::Session { gap_ms, grace_ms, partition } => {
            let partition = partition.iter().map(show::sql).collect::<Vec<_>>().join(", ");
            let of = if partition.is_empty() { "all rows".into() } else { format!("each {partition}") };
            format!("session gap {gap_ms} ms, grace {grace_ms} ms, of {of}")
        }
    }
}

fn condition(on: &[On], residual: Option<&Expr>) -> String {
    let equal = on.iter().map(|on| format!("{} = {}", show::sql(&on.left), show::sql(&on.right)));
    let residual = residual.map(show::sql);
    equal.chain(residual).collect::<Vec<_>>().join(" AND ")
}

fn ordered(order: &Order) -> String {
    let direction = if order.descending { " DESC" } else { "" };
    let nulls = if order.nulls_first == order.descending {
        ""
    } else if order.nulls_first {
        " NULLS FIRST"
    } else {
        " NULLS LAST"
    };
    format!("{}{direction}{nulls}", show::sql(&order.expr))
}

/// An aggregate as SQL.
fn aggregate(aggregate: &Aggregate) -> String {
    let list = |texts: Vec<String>| texts.join(", ");
    let arguments = match aggregate.arguments.as_slice() {
        [] => "*".into(),
        arguments => list(arguments.iter().map(show::sql).collect()),
    };
    let distinct = if aggregate.distinct { "DISTINCT " } else { "" };
    let order = match aggregate.order.as_slice() {
        [] => String::new(),
        order => format!(" ORDER BY {}", list(order.iter().map(ordered).collect())),
    };
    let filter = aggregate.filter.as_ref().map(|filter| format!(" FILTER (WHERE {})", show::sql(filter))).unwrap_or_default();
    format!("{}({distinct}{arguments}{order}){filter}", aggregate.function.name())
}
