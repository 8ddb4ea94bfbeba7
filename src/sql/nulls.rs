//! Which values may be NULL: it decides whether a result fulfils what a contract requires.

use std::collections::HashSet;

use datafusion_common::{Column, DFSchema, ExprSchema};
use datafusion_expr::{Between, BinaryExpr, Case, Expr, Operator};

use super::functions::{self, Nulls};

/// What is known of the rows that are looked at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// Columns that are not NULL.
    known: HashSet<Column>,
    /// Columns of which one at least is not NULL.
    either: Vec<Vec<Column>>,
}

impl Facts {
    pub(crate) fn new() -> Self {
        Facts::default()
    }

    /// These columns are not NULL, too.
    pub(crate) fn extend(&mut self, columns: impl IntoIterator<Item = Column>) {
        self.known.extend(columns);
    }

    /// This column is not NULL, too.
    pub(crate) fn insert(&mut self, column: Column) {
        self.known.insert(column);
    }

    /// One of these columns at least is not NULL.
    pub(crate) fn insert_either(&mut self, columns: Vec<Column>) {
        self.either.push(columns);
    }

    /// Columns of which one at least is not NULL, if the expression is one of them and never NULL: a column, or what
    /// COALESCE makes of some.
    pub(crate) fn either_of(&self, expr: &Expr, schema: &DFSchema) -> Option<Vec<Column>> {
        if nullable(expr, schema, self) {
            return None;
        }
        match expr {
            Expr::Case(case) => {
                let results = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
                results.map(|result| bare(result).cloned()).collect()
            }
            expr => Some(vec![bare(expr)?.clone()]),
        }
    }

    /// Where these columns are NULL, others are not.
    fn extend_where_null(&mut self, null: &[Column]) {
        for either in &self.either {
            let mut rest = either.iter().filter(|column| !null.contains(column));
            if let (Some(only), None) = (rest.next(), rest.next()) {
                self.known.insert(only.clone());
            }
        }
    }
}

/// The column that an expression is, but for a cast.
fn bare(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Cast(cast) => bare(&cast.expr),
        _ => None,
    }
}

/// Whether the expression may be NULL, for rows of `schema` of which `facts` hold.
pub(crate) fn nullable(expr: &Expr, schema: &DFSchema, facts: &Facts) -> bool {
    let may = |e: &Expr| nullable(e, schema, facts);
    match expr {
        Expr::Column(column) => {
            !facts.known.contains(column) && !schema.field_from_column(column).is_ok_and(|field| !field.is_nullable())
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

/// A CASE may be NULL if a branch may, or if there is no ELSE. In a branch its condition holds, and those before it do not:
/// COALESCE is such a CASE.
fn case_nullable(case: &Case, schema: &DFSchema, facts: &Facts) -> bool {
    let Some(otherwise) = &case.else_expr else { return true };
    let (mut facts, mut null) = (facts.clone(), Vec::new());
    for (when, then) in &case.when_then_expr {
        let mut inside = facts.clone();
        if case.expr.is_none() {
            inside.extend(facts_of(when));
        }
        if nullable(then, schema, &inside) {
            return true;
        }
        if let (None, Expr::IsNotNull(column)) = (&case.expr, when.as_ref()) {
            null.extend(bare(column).cloned());
            facts.extend_where_null(&null);
        }
    }
    nullable(otherwise, schema, &facts)
}

/// The columns that are not NULL wherever the condition is true.
pub(crate) fn facts_of(condition: &Expr) -> HashSet<Column> {
    let mut facts = HashSet::new();
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
fn needed(expr: &Expr, facts: &mut HashSet<Column>) {
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
