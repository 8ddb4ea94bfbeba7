//! Which values may be NULL: it decides whether a result fulfils what a contract requires.

use std::collections::HashSet;

use datafusion_common::{Column, DFSchema, ExprSchema};
use datafusion_expr::{Between, BinaryExpr, Case, Expr, Operator};

use super::functions::{self, Nulls};

/// Columns that are known not to be NULL in the rows that are looked at.
pub(crate) type Facts = HashSet<Column>;

/// Whether the expression may be NULL, for rows of `schema` of which `facts` hold.
pub(crate) fn nullable(expr: &Expr, schema: &DFSchema, facts: &Facts) -> bool {
    let may = |e: &Expr| nullable(e, schema, facts);
    match expr {
        Expr::Column(column) => {
            !facts.contains(column) && !schema.field_from_column(column).is_ok_and(|field| !field.is_nullable())
        }
        Expr::Literal(value, _) => value.is_null(),
        Expr::Alias(alias) => may(&alias.expr),
        Expr::BinaryExpr(BinaryExpr { op: Operator::IsDistinctFrom | Operator::IsNotDistinctFrom, .. }) => false,
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => may(left) || may(right),
        Expr::Not(inner) | Expr::Negative(inner) => may(inner),
        Expr::Cast(cast) => may(&cast.expr),
        Expr::Like(like) | Expr::SimilarTo(like) => may(&like.expr) || may(&like.pattern),
        Expr::Between(Between { expr, low, high, .. }) => may(expr) || may(low) || may(high),
        Expr::InList(list) => may(&list.expr) || list.list.iter().any(may),
        Expr::IsNull(_) | Expr::IsNotNull(_) | Expr::IsTrue(_) | Expr::IsFalse(_) | Expr::IsUnknown(_) => false,
        Expr::IsNotTrue(_) | Expr::IsNotFalse(_) | Expr::IsNotUnknown(_) => false,
        Expr::Case(case) => case_nullable(case, schema, facts),
        Expr::ScalarFunction(call) => match functions::scalar(call.name()).map(|f| f.nulls) {
            Some(Nulls::Strict) => call.args.iter().any(may),
            Some(Nulls::First) => call.args.iter().all(may),
            Some(Nulls::Never) => false,
            Some(Nulls::May) | None => true,
        },
        _ => true,
    }
}

/// A CASE may be NULL if a branch may, or if there is no ELSE. In a branch its condition holds.
fn case_nullable(case: &Case, schema: &DFSchema, facts: &Facts) -> bool {
    let Some(otherwise) = &case.else_expr else { return true };
    let branch = |(when, then): &(Box<Expr>, Box<Expr>)| {
        let mut inside = facts.clone();
        if case.expr.is_none() {
            inside.extend(facts_of(when));
        }
        nullable(then, schema, &inside)
    };
    case.when_then_expr.iter().any(branch) || nullable(otherwise, schema, facts)
}

/// The columns that are not NULL wherever the condition is true.
pub(crate) fn facts_of(condition: &Expr) -> Facts {
    let mut facts = Facts::new();
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            facts.extend(facts_of(left));
            facts.extend(facts_of(right));
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let right = facts_of(right);
            facts.extend(facts_of(left).into_iter().filter(|column| right.contains(column)));
        }
        Expr::BinaryExpr(_) => needed(condition, &mut facts),
        Expr::IsNotNull(inner) => needed(inner, &mut facts),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::IsNull(inner) => needed(inner, &mut facts),
            inner => needed(inner, &mut facts),
        },
        Expr::IsTrue(inner) => facts = facts_of(inner),
        Expr::IsFalse(inner) => needed(inner, &mut facts),
        Expr::Like(like) => {
            needed(&like.expr, &mut facts);
            needed(&like.pattern, &mut facts);
        }
        Expr::Between(between) if !between.negated => {
            needed(&between.expr, &mut facts);
            needed(&between.low, &mut facts);
            needed(&between.high, &mut facts);
        }
        Expr::InList(list) => needed(&list.expr, &mut facts),
        Expr::Column(column) => {
            facts.insert(column.clone());
        }
        _ => {}
    }
    facts
}

/// Adds the columns without which the expression is NULL.
fn needed(expr: &Expr, facts: &mut Facts) {
    match expr {
        Expr::Column(column) => {
            facts.insert(column.clone());
        }
        Expr::Cast(cast) => needed(&cast.expr, facts),
        Expr::TryCast(cast) => needed(&cast.expr, facts),
        Expr::Negative(inner) | Expr::Not(inner) => needed(inner, facts),
        // AND and OR may have a value although one side is NULL, and IS DISTINCT FROM always has one.
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if !matches!(op, Operator::And | Operator::Or | Operator::IsDistinctFrom | Operator::IsNotDistinctFrom) =>
        {
            needed(left, facts);
            needed(right, facts);
        }
        Expr::ScalarFunction(call) if functions::scalar(call.name()).is_some_and(|f| f.nulls == Nulls::Strict) => {
            for argument in &call.args {
                needed(argument, facts);
            }
        }
        _ => {}
    }
}
