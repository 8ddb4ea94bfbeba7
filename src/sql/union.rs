//! UNION: the rows of several SELECTs under the names of the first, their types brought together; and DISTINCT.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::Column;
use datafusion_expr::{Cast, Expr};
use datafusion_sql::sqlparser::ast::{SetExpr, SetOperator, SetQuantifier};

use super::codes;
use super::names::Scope;
use super::query::{Changes, Node};
use super::refuse;
use super::relations::schema_of;
use super::select::Selected;
use super::subquery::{self, Outside};
use super::types::united;
use crate::model::diagnostic::Diagnostic;
use crate::model::row::type_name;

/// Binds a body of SELECTs that UNION combines; EXCEPT and INTERSECT are refused.
pub(crate) fn bind<'a>(body: &'a SetExpr, outside: Outside, scope: &mut Scope<'a>) -> Option<Selected> {
    let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right } = body else {
        let refused = refuse::body(body, scope.text);
        scope.diagnostics.extend(refused);
        return None;
    };
    let refused = refuse::set_quantifier(set_quantifier, body, scope.text);
    if !refused.is_empty() {
        scope.diagnostics.extend(refused);
        return None;
    }
    let all = *set_quantifier == SetQuantifier::All;
    let mut arms = Vec::new();
    gather(left, all, &mut arms);
    arms.push(right);
    // Each is looked at, also after one that is wrong. Only the first one's names count.
    let bound: Vec<Option<Selected>> = arms
        .into_iter()
        .enumerate()
        .map(|(at, arm)| {
            let outside = Outside { renamed: outside.renamed || at > 0, first: None };
            scope.nested(|scope| subquery::body(arm, outside, scope))
        })
        .collect();
    let union = united_arms(bound.into_iter().collect::<Option<_>>()?, scope)?;
    Some(if all { union } else { distinct(union) })
}

/// The arms of a chain: those that UNION ALL combines, or, under one that keeps equal rows once, all.
fn gather<'a>(body: &'a SetExpr, all: bool, arms: &mut Vec<&'a SetExpr>) {
    let mut rest = vec![body];
    while let Some(body) = rest.pop() {
        match body {
            SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right }
                if *set_quantifier == SetQuantifier::All
                    || (!all && matches!(set_quantifier, SetQuantifier::None | SetQuantifier::Distinct)) =>
            {
                rest.push(right);
                rest.push(left);
            }
            other => arms.push(other),
        }
    }
}

fn united_arms(arms: Vec<Selected>, scope: &mut Scope<'_>) -> Option<Selected> {
    let (first, others) = arms.split_first()?;
    let mut fields: Vec<Field> = first.root.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    for (at, other) in others.iter().enumerate() {
        unite(&mut fields, other, at + 2, scope)?;
    }
    let mut times = first.times.clone();
    times.retain(|time| others.iter().all(|other| other.times.contains(time)));
    let places = first.places.clone();
    let changes = match arms.iter().all(|arm| arm.root.changes() == Changes::Append) {
        true => Changes::Append,
        false => Changes::Retract,
    };
    let inputs = arms.into_iter().map(|arm| retracting(of_types(arm.root, &fields))).collect();
    let fields = fields.into_iter().map(|f| (None, Arc::new(f))).collect();
    let root = Node::Union { inputs, schema: Arc::new(schema_of(fields)), changes };
    Some(Selected { root, places, lost_key: Vec::new(), unique: None, times })
}

/// Widens the columns so that they hold those of one more SELECT.
fn unite(fields: &mut [Field], other: &Selected, number: usize, scope: &mut Scope<'_>) -> Option<()> {
    let columns = other.root.schema().fields();
    if columns.len() != fields.len() {
        let place = other.places.last().cloned();
        let (own, its) = (fields.len(), columns.len());
        let message = format!("SELECT {number} of the UNION has another number of columns than the first: {its}, not {own}");
        let help = "the columns are combined by their positions: write as many in each";
        scope.diagnostics.push(Diagnostic::error(codes::TYPE_MISMATCH, place, message).help(help));
        return None;
    }
    let mut fine = Some(());
    for (at, (field, column)) in fields.iter_mut().zip(columns).enumerate() {
        match united(field.data_type(), column.data_type()) {
            Some(data_type) => {
                let nullable = field.is_nullable() || column.is_nullable();
                *field = Field::new(field.name(), data_type, nullable);
            }
            None => {
                let (own, its) = (type_name(field.data_type()), type_name(column.data_type()));
                let message =
                    format!("column {} of the UNION, `{}`, is {own}, and {its} in SELECT {number}", at + 1, field.name());
                let help = "columns are combined by their positions: CAST one of them to the type of the other";
                let place = other.places.get(at).cloned();
                scope.diagnostics.push(Diagnostic::error(codes::TYPE_MISMATCH, place, message).help(help));
                fine = None;
            }
        }
    }
    fine
}

/// The same rows with columns of these types.
fn of_types(node: Node, fields: &[Field]) -> Node {
    let pairs = || node.schema().fields().iter().zip(fields);
    if pairs().all(|(own, field)| own.data_type() == field.data_type()) {
        return node;
    }
    let cast = |expr: Expr, own: &FieldRef, to: &DataType| match own.data_type() == to {
        true => expr,
        false => Expr::Cast(Cast::new(Box::new(expr), to.clone())),
    };
    let schema = pairs().map(|(own, field)| (None, Arc::new(own.as_ref().clone().with_data_type(field.data_type().clone()))));
    let schema = Arc::new(schema_of(schema.collect()));
    let own = node.schema().fields().clone();
    let casts = |columns: Vec<Expr>| -> Vec<Expr> {
        columns.into_iter().zip(&own).zip(fields).map(|((expr, own), field)| cast(expr, own, field.data_type())).collect()
    };
    match node {
        Node::Project { input, columns, changes: changes @ (Changes::Append | Changes::Retract), .. } => {
            Node::Project { input, columns: casts(columns), schema, changes }
        }
        // A key's value must stay the one that a delete carries.
        other => {
            let other = retracting(other);
            let changes = other.changes();
            let columns = own.iter().map(|f| Expr::Column(Column::new_unqualified(f.name()))).collect();
            Node::Project { input: Box::new(other), columns: casts(columns), schema, changes }
        }
    }
}

/// Rows that can be taken back whole, where they can be taken back at all.
pub(crate) fn retracting(node: Node) -> Node {
    match node.changes() {
        Changes::Upsert(_) => Node::Retract { input: Box::new(node) },
        Changes::Append | Changes::Retract => node,
    }
}

/// Each row once.
pub(crate) fn distinct(selected: Selected) -> Selected {
    let Selected { root, places, lost_key, unique, times } = selected;
    // Rows that differ in a key are all different.
    if matches!(root.changes(), Changes::Upsert(_)) || unique.is_some() {
        return Selected { root, places, lost_key, unique, times };
    }
    let all: Vec<usize> = (0..root.schema().fields().len()).collect();
    let (changes, unique) = match root.changes() {
        Changes::Append => (Changes::Append, Some(all)),
        _ => (Changes::Upsert(all), None),
    };
    let root = Node::Distinct { input: Box::new(root), changes };
    Selected { root, places, lost_key: Vec::new(), unique, times }
}
