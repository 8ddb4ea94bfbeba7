//! Narrows a query to the columns that it reads, so that decoders decode no others, and sub-queries compute no others.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion_common::{Column, DFSchema};
use datafusion_expr::Expr;

use super::query::{Changes, Input, Node};
use super::relations::{Scanned, schema_of};
use crate::model::row::{ROWTIME, RowType};

/// Columns of a node's output that are read.
type Read = HashSet<Column>;

/// `root` over the columns that it reads, and the scanned inputs with just those.
pub(crate) fn prune(root: Node, scanned: &[Scanned]) -> (Node, Vec<Input>) {
    let read = root.schema().columns().into_iter().collect();
    let mut prune = Prune { inputs: scanned.iter().map(|input| narrowed(input, |_| false)).collect(), scanned };
    let root = prune.node(root, read);
    (root, prune.inputs)
}

struct Prune<'a> {
    scanned: &'a [Scanned],
    inputs: Vec<Input>,
}

impl Prune<'_> {
    /// The same operator with the columns of its output that are read, at least; its key is always.
    fn node(&mut self, node: Node, mut read: Read) -> Node {
        read.extend(key_of(&node));
        let expressions: Vec<Column> = node.expressions().into_iter().flat_map(Expr::column_refs).cloned().collect();
        match node {
            Node::Scan { input, schema, changes } => self.scan(input, &schema, changes, &read),
            Node::Project { input, columns, schema, changes } => self.project(*input, columns, &schema, changes, &read),
            Node::Rename { input, schema } => self.rename(*input, &schema, &read),
            Node::Aggregate { input, group, aggregates, window, schema, changes } => {
                let input = self.input(*input, expressions.into_iter().collect());
                Node::Aggregate { input, group, aggregates, window, schema, changes }
            }
            // What compares whole rows reads whole rows.
            Node::Distinct { input, changes } => Node::Distinct { input: self.whole(*input), changes },
            Node::Rekey { input, key } => Node::Rekey { input: self.whole(*input), key },
            Node::Union { inputs, schema, changes } => {
                Node::Union { inputs: inputs.into_iter().map(|input| *self.whole(input)).collect(), schema, changes }
            }
            other => {
                read.extend(expressions);
                self.passing(other, read)
            }
        }
    }

    /// An operator whose output has its inputs' columns.
    fn passing(&mut self, node: Node, read: Read) -> Node {
        match node {
            Node::Filter { input, predicate } => Node::Filter { input: self.input(*input, read), predicate },
            Node::Retract { input } => Node::Retract { input: self.input(*input, read) },
            Node::Window { input, windows, schema } => {
                let (schema, input) = self.passed_on(&schema, *input, read);
                Node::Window { input, windows, schema }
            }
            Node::Unnest { input, list, outer, ordinality, schema } => {
                let (schema, input) = self.passed_on(&schema, *input, read);
                Node::Unnest { input, list, outer, ordinality, schema }
            }
            Node::TopN { input, partition, order, limit, numbered, schema: whole, changes } => {
                let (schema, input) = self.passed_on(&whole, *input, read);
                let changes = moved(changes, &whole, &schema);
                Node::TopN { input, partition, order, limit, numbered, schema, changes }
            }
            Node::LookupJoin { stream, table, on, residual, kind, as_of, schema } => {
                let (stream, table) = (self.input(*stream, read.clone()), self.input(*table, read));
                let schema = joined(&schema, &stream, &table);
                Node::LookupJoin { stream, table, on, residual, kind, as_of, schema }
            }
            Node::IntervalJoin { left, right, on, lower_ms, upper_ms, residual, kind, schema } => {
                let (left, right) = (self.input(*left, read.clone()), self.input(*right, read));
                let schema = joined(&schema, &left, &right);
                Node::IntervalJoin { left, right, on, lower_ms, upper_ms, residual, kind, schema }
            }
            Node::TableJoin { left, right, on, residual, kind, schema: whole, changes } => {
                let (left, right) = (self.input(*left, read.clone()), self.input(*right, read));
                let schema = joined(&whole, &left, &right);
                let changes = moved(changes, &whole, &schema);
                Node::TableJoin { left, right, on, residual, kind, schema, changes }
            }
            other => other,
        }
    }

    fn input(&mut self, input: Node, read: Read) -> Box<Node> {
        Box::new(self.node(input, read))
    }

    fn whole(&mut self, input: Node) -> Box<Node> {
        let read = input.schema().columns().into_iter().collect();
        self.input(input, read)
    }

    fn scan(&mut self, input: usize, schema: &DFSchema, changes: Changes, read: &Read) -> Node {
        let narrow = self
            .scanned
            .get(input)
            .map(|scanned| narrowed(scanned, |name| read.contains(&Column::new(Some(scanned.alias.clone()), name))));
        let mut key = Vec::new();
        let mut kept = vec![ROWTIME.to_string()];
        if let (Some(narrow), Some(slot)) = (narrow, self.inputs.get_mut(input)) {
            key.clone_from(&narrow.key);
            kept.extend(narrow.row_type.fields().iter().map(|f| f.name().clone()));
            *slot = narrow;
        }
        let changes = match changes {
            Changes::Upsert(_) => Changes::Upsert(key),
            other => other,
        };
        Node::Scan { input, schema: without(schema, |column| kept.contains(&column.name)), changes }
    }

    /// Computes only what is read; one column at least, since a batch has rows by its columns.
    fn project(&mut self, input: Node, columns: Vec<Expr>, schema: &Arc<DFSchema>, changes: Changes, read: &Read) -> Node {
        let of = schema.columns();
        let any = of.iter().any(|column| read.contains(column));
        let is_read = |at: usize| of.get(at).is_some_and(|column| read.contains(column)) || (!any && at == 0);
        let kept: Vec<Expr> = columns.into_iter().enumerate().filter(|(at, _)| is_read(*at)).map(|(_, expr)| expr).collect();
        let narrow = without_at(schema, is_read);
        let changes = moved(changes, schema, &narrow);
        let input = self.input(input, kept.iter().flat_map(Expr::column_refs).cloned().collect());
        Node::Project { input, columns: kept, schema: narrow, changes }
    }

    /// A sub-query's columns stand where they stand inside, and `rowtime` behind them.
    fn rename(&mut self, input: Node, schema: &DFSchema, read: &Read) -> Node {
        let (inside, outside) = (input.schema().columns(), schema.columns());
        let pairs: Vec<(Column, Column)> = inside.into_iter().zip(outside).collect();
        let wanted = pairs.iter().filter(|(_, out)| read.contains(out)).map(|(column, _)| column.clone()).collect();
        let input = self.input(input, wanted);
        let left: Read = input.schema().columns().into_iter().collect();
        let schema = without_at(schema, |at| pairs.get(at).is_none_or(|(column, _)| left.contains(column)));
        Node::Rename { input, schema }
    }

    /// An operator's input, narrowed, and the operator's columns without those that the input lost.
    fn passed_on(&mut self, schema: &DFSchema, input: Node, read: Read) -> (Arc<DFSchema>, Box<Node>) {
        let before = input.schema().clone();
        let input = self.input(input, read);
        let kept = |column: &Column| !before.has_column(column) || input.schema().has_column(column);
        (without(schema, kept), input)
    }
}

/// The columns of an upsert output's key.
fn key_of(node: &Node) -> Vec<Column> {
    let Changes::Upsert(key) = node.changes() else { return Vec::new() };
    let columns = node.schema().columns();
    key.into_iter().filter_map(|at| columns.get(at).cloned()).collect()
}

fn narrowed(scanned: &Scanned, is_read: impl Fn(&str) -> bool) -> Input {
    let relation = &scanned.relation;
    let needed = |name: &str| is_read(name) || relation.key.iter().any(|k| k == name) || relation.time_field == name;
    let fields: Vec<_> = relation.row_type.fields().iter().filter(|f| f.name() != ROWTIME && needed(f.name())).cloned().collect();
    let position = |name: &String| fields.iter().position(|f| f.name() == name);
    let key = relation.key.iter().filter_map(position).collect();
    let time_column = relation.time_column().and_then(|_| position(&relation.time_field));
    Input {
        product: relation.product.clone(),
        alias: scanned.alias.clone(),
        shape: relation.shape,
        row_type: Arc::new(RowType::new(fields)),
        key,
        time_column,
        disorder_ms: relation.disorder_ms,
    }
}

/// The columns of a join's output that its sides still have, as nullable as they were.
fn joined(schema: &DFSchema, left: &Node, right: &Node) -> Arc<DFSchema> {
    without(schema, |column| left.schema().has_column(column) || right.schema().has_column(column))
}

fn without(schema: &DFSchema, kept: impl Fn(&Column) -> bool) -> Arc<DFSchema> {
    let columns = schema.columns();
    without_at(schema, |at| columns.get(at).is_some_and(&kept))
}

fn without_at(schema: &DFSchema, kept: impl Fn(usize) -> bool) -> Arc<DFSchema> {
    let columns = schema.iter().enumerate().filter(|(at, _)| kept(*at));
    Arc::new(schema_of(columns.map(|(_, (q, f))| (q.cloned(), f.clone())).collect()))
}

/// The key's columns, which are never left out, where they stand now.
fn moved(changes: Changes, before: &DFSchema, after: &DFSchema) -> Changes {
    let Changes::Upsert(key) = changes else { return changes };
    let columns = before.columns();
    let position = |at: usize| after.maybe_index_of_column(columns.get(at)?);
    Changes::Upsert(key.into_iter().filter_map(position).collect())
}
