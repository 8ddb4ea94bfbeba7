//! Joins: what the shapes of the two sides make of one, and what each kind requires.

use arrow::datatypes::DataType;
use datafusion_common::{Column, DFSchema, ScalarValue};
use datafusion_expr::{Between, BinaryExpr, Cast, Expr, ExprSchemable, Operator};
use datafusion_sql::sqlparser::ast::Expr as Ast;
use std::sync::Arc;

use super::codes;
use super::expr::{Bound, conjunction};
use super::forms::Aggregates;
use super::from::{Side, event_time};
use super::names::Scope;
use super::query::{AsOf, Changes, JoinKind, Node, On};
use super::relations::schema_of;
use crate::model::diagnostic::{Diagnostic, Place};
use crate::model::row::type_name;

const MS_PER_DAY: i64 = 86_400_000;

/// One part of a join's condition, as the join sees it.
#[derive(Debug, Clone)]
pub(crate) struct Conjunct {
    pub(crate) bound: Bound,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Equal values of the two sides.
    Equal(On),
    /// A bound on `right.rowtime - left.rowtime`, in milliseconds. `exact`: it says all that the conjunct says.
    Time {
        left: usize,
        lower: Option<i64>,
        upper: Option<i64>,
        exact: bool,
    },
    Other,
}

/// A join that is asked for.
pub(crate) struct Request {
    pub(crate) left: Side,
    pub(crate) right: Side,
    pub(crate) kind: JoinKind,
    pub(crate) conjuncts: Vec<Conjunct>,
    /// The right relation's name.
    pub(crate) place: Place,
    pub(crate) as_of: Option<Ast>,
}

/// Sorts a part of the condition that joins the input `newest` to those before it.
pub(crate) fn classify(bound: Bound, newest: usize, scope: &Scope<'_>) -> Conjunct {
    let kind = time_bound(&bound.expr, newest, scope).or_else(|| equality(&bound.expr, newest, scope)).unwrap_or(Kind::Other);
    Conjunct { bound, kind }
}

/// On which side of the join an expression's columns stand: `Some(true)` right, `Some(false)` left, `None` both or none.
fn is_right(expr: &Expr, newest: usize, scope: &Scope<'_>) -> Option<bool> {
    let newest = scope.inputs.get(newest)?.alias.as_str();
    let mut sides = expr.column_refs().into_iter().map(|c| c.relation.as_ref().is_some_and(|r| r.table() == newest));
    let first = sides.next()?;
    sides.all(|side| side == first).then_some(first)
}

fn equality(expr: &Expr, newest: usize, scope: &Scope<'_>) -> Option<Kind> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = expr else { return None };
    match (is_right(left, newest, scope)?, is_right(right, newest, scope)?) {
        (false, true) => Some(Kind::Equal(On { left: left.as_ref().clone(), right: right.as_ref().clone() })),
        (true, false) => Some(Kind::Equal(On { left: right.as_ref().clone(), right: left.as_ref().clone() })),
        _ => None,
    }
}

/// An input's event time, moved by some milliseconds.
struct Moment {
    input: usize,
    offset_ms: i64,
    /// Whether the column counts in milliseconds, as `rowtime` does.
    exact: bool,
}

fn moment(expr: &Expr, scope: &Scope<'_>) -> Option<Moment> {
    match expr {
        Expr::Column(column) => {
            let alias = column.relation.as_ref()?.table();
            let input = scope.inputs.iter().position(|i| i.alias == alias)?;
            let owner = scope.inputs.get(input)?;
            if !owner.is_time(&column.name) {
                return None;
            }
            let exact = match owner.column(&column.name)? {
                DataType::Timestamp(unit, _) => {
                    matches!(unit, arrow::datatypes::TimeUnit::Millisecond | arrow::datatypes::TimeUnit::Second)
                }
                _ => return None,
            };
            Some(Moment { input, offset_ms: 0, exact })
        }
        Expr::Cast(Cast { expr, field }) if matches!(field.data_type(), DataType::Timestamp(..)) => moment(expr, scope),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (base, offset) = match (op, interval_ms(left), interval_ms(right)) {
                (Operator::Plus, None, Some(ms)) => (left, ms),
                (Operator::Plus, Some(ms), None) => (right, ms),
                (Operator::Minus, None, Some(ms)) => (left, ms.checked_neg()?),
                _ => return None,
            };
            let base = moment(base, scope)?;
            Some(Moment { offset_ms: base.offset_ms.checked_add(offset)?, ..base })
        }
        _ => None,
    }
}

/// A literal interval in whole milliseconds. Months have no fixed length.
pub(crate) fn interval_ms(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(i)), _) if i.months == 0 && i.nanoseconds % 1_000_000 == 0 => {
            i64::from(i.days).checked_mul(MS_PER_DAY)?.checked_add(i.nanoseconds / 1_000_000)
        }
        Expr::Negative(inner) => interval_ms(inner)?.checked_neg(),
        Expr::Cast(cast) => interval_ms(&cast.expr),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => interval_ms(left)?.checked_add(interval_ms(right)?),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => interval_ms(left)?.checked_sub(interval_ms(right)?),
        _ => None,
    }
}

/// What a comparison of the two sides' event times says of `right.rowtime - left.rowtime`.
fn time_bound(expr: &Expr, newest: usize, scope: &Scope<'_>) -> Option<Kind> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => compare(&moment(left, scope)?, *op, &moment(right, scope)?, newest),
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let (middle, low, high) = (moment(expr, scope)?, moment(low, scope)?, moment(high, scope)?);
            both(compare(&middle, Operator::GtEq, &low, newest)?, compare(&middle, Operator::LtEq, &high, newest)?)
        }
        _ => None,
    }
}

fn compare(a: &Moment, op: Operator, b: &Moment, newest: usize) -> Option<Kind> {
    if b.input == newest && a.input != newest {
        return compare(b, op.swap()?, a, newest);
    }
    if a.input != newest || b.input == newest {
        return None;
    }
    // a is right's: right + a.offset OP left + b.offset.
    let difference = b.offset_ms.checked_sub(a.offset_ms)?;
    let exact = a.exact && b.exact;
    // Finer times than milliseconds may satisfy `<` within one millisecond: the bound is wider, the condition stays.
    let step = i64::from(exact);
    let (lower, upper) = match op {
        Operator::Eq => (Some(difference), Some(difference)),
        Operator::GtEq => (Some(difference), None),
        Operator::Gt => (Some(difference.checked_add(step)?), None),
        Operator::LtEq => (None, Some(difference)),
        Operator::Lt => (None, Some(difference.checked_sub(step)?)),
        _ => return None,
    };
    Some(Kind::Time { left: b.input, lower, upper, exact })
}

fn both(a: Kind, b: Kind) -> Option<Kind> {
    match (a, b) {
        (
            Kind::Time { left, lower: lower_a, upper: upper_a, exact: exact_a },
            Kind::Time { left: left_b, lower: lower_b, upper: upper_b, exact: exact_b },
        ) if left == left_b => {
            Some(Kind::Time { left, lower: lower_a.max(lower_b), upper: least(upper_a, upper_b), exact: exact_a && exact_b })
        }
        _ => None,
    }
}

fn least(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Joins the two sides as their shapes say. `same` gathers columns that are equal to columns of the key.
pub(crate) fn join(
    request: Request,
    scope: &mut Scope<'_>,
    filter: &mut Vec<Ast>,
    schema: &DFSchema,
    same: &mut Vec<(Column, Column)>,
) -> Option<Side> {
    let stream = |side: &Side| side.node.changes() == Changes::Append;
    match (stream(&request.left), stream(&request.right)) {
        (true, true) => {
            if request.as_of.is_some() {
                let message = "FOR SYSTEM_TIME AS OF stands behind a table, and this is a stream";
                scope
                    .diagnostics
                    .push(Diagnostic::error(codes::JOIN, request.place, message).help("leave it out, and bound the times in ON"));
                return None;
            }
            interval_join(request, scope, filter, schema)
        }
        (true, false) => lookup_join(request, scope),
        (false, true) => {
            if request.kind == JoinKind::Left {
                let message = "a table can't be LEFT JOINed with a stream: each of its rows would wait for ever for a partner";
                scope
                    .diagnostics
                    .push(Diagnostic::error(codes::JOIN, request.place, message).help("write FROM stream LEFT JOIN table"));
                return None;
            }
            let exchanged = request.conjuncts.into_iter().map(|c| match c.kind {
                Kind::Equal(On { left, right }) => Conjunct { kind: Kind::Equal(On { left: right, right: left }), ..c },
                _ => Conjunct { kind: Kind::Other, ..c },
            });
            let exchanged = exchanged.collect();
            lookup_join(Request { left: request.right, right: request.left, conjuncts: exchanged, ..request }, scope)
        }
        (false, false) => {
            if request.as_of.is_some() {
                let message = "FOR SYSTEM_TIME AS OF has no meaning between two tables: the result follows both";
                scope.diagnostics.push(Diagnostic::error(codes::JOIN, request.place, message).help("leave it out"));
                return None;
            }
            table_join(request, scope, same)
        }
    }
}

/// The equalities of a request, and all other conjuncts in one.
fn parts(conjuncts: Vec<Conjunct>) -> (Vec<(On, Place)>, Vec<Expr>) {
    let mut equal = Vec::new();
    let mut others = Vec::new();
    for conjunct in conjuncts {
        match conjunct.kind {
            Kind::Equal(on) => equal.push((on, conjunct.bound.place)),
            Kind::Time { exact: true, .. } => {}
            Kind::Time { .. } | Kind::Other => others.push(conjunct.bound.expr),
        }
    }
    (equal, others)
}

/// The output of a join: the columns of both sides, those of an optional side nullable.
fn schema_of_join(left: &Node, right: &Node, kind: JoinKind) -> Arc<DFSchema> {
    let right = right.schema().iter().map(|(q, f)| {
        let field = if kind == JoinKind::Left { Arc::new(f.as_ref().clone().with_nullable(true)) } else { f.clone() };
        (q.cloned(), field)
    });
    Arc::new(schema_of(left.schema().iter().map(|(q, f)| (q.cloned(), f.clone())).chain(right).collect()))
}

fn interval_join(request: Request, scope: &mut Scope<'_>, filter: &mut Vec<Ast>, schema: &DFSchema) -> Option<Side> {
    let Request { left, right, kind, mut conjuncts, place, .. } = request;
    let newest = right.time?;
    let right_alias = scope.inputs.get(newest)?.alias.clone();
    let Some(time) = left.time else {
        let message = "a join of two streams can't be joined with a third stream yet";
        let help = "make a product of its own of the first join, and join that";
        scope.diagnostics.push(Diagnostic::error(codes::JOIN, place, message).help(help));
        return None;
    };
    let left_alias = scope.inputs.get(time)?.alias.clone();
    if kind == JoinKind::Inner {
        take_bounds(filter, &mut conjuncts, newest, schema, scope);
    }
    let bounds = conjuncts.iter().filter_map(|c| match &c.kind {
        Kind::Time { left, .. } if *left == time => Some(c.kind.clone()),
        _ => None,
    });
    let bounds = bounds.reduce(|a, b| both(a.clone(), b).unwrap_or(a));
    let (Some(lower_ms), Some(upper_ms)) = (match bounds {
        Some(Kind::Time { lower, upper, .. }) => (lower, upper),
        _ => (None, None),
    }) else {
        let one_side = if conjuncts.iter().any(|c| matches!(c.kind, Kind::Time { .. })) { " on both sides" } else { "" };
        let message = format!("two streams can be joined only within a bound of time{one_side}: neither can be kept for ever");
        let help = format!(
            "add `AND {right_alias}.rowtime BETWEEN {left_alias}.rowtime - INTERVAL '1' MINUTE AND {left_alias}.rowtime + INTERVAL '1' MINUTE` to ON"
        );
        scope.diagnostics.push(Diagnostic::error(codes::JOIN, place, message).help(help));
        return None;
    };
    if lower_ms > upper_ms {
        let message = "the bound of time is never met: its lower end is later than its upper end";
        scope.diagnostics.push(Diagnostic::error(codes::JOIN, place, message));
        return None;
    }
    let (equal, residual) = parts(conjuncts);
    if equal.is_empty() {
        let message = "two streams are joined on equal columns, and ON has none";
        let help = format!("add `{left_alias}.column = {right_alias}.column`");
        scope.diagnostics.push(Diagnostic::error(codes::JOIN, place, message).help(help));
        return None;
    }
    let schema = schema_of_join(&left.node, &right.node, kind);
    let on = equal.into_iter().map(|(on, _)| on).collect();
    let (left_unique, right_unique) = (left.unique, right.unique);
    let (left, right) = (Box::new(left.node), Box::new(right.node));
    let node = Node::IntervalJoin { left, right, on, lower_ms, upper_ms, residual: conjunction(residual), kind, schema };
    Some(Side { node, time: None, unique: both_unique(left_unique, right_unique) })
}

/// Moves the bounds on time that stand in WHERE into an inner join's condition. What they say exactly is said there.
fn take_bounds(filter: &mut Vec<Ast>, conjuncts: &mut Vec<Conjunct>, newest: usize, schema: &DFSchema, scope: &mut Scope<'_>) {
    filter.retain(|part| {
        let (diagnostics, uses) = (scope.diagnostics.len(), scope.uses.len());
        let around = scope.text.place(part);
        let bound = scope.bind(part, schema, &around, Aggregates::NotIn("WHERE"));
        // What can't be bound here, with the relations so far, is looked at again when WHERE is.
        scope.diagnostics.truncate(diagnostics);
        let conjunct = bound.map(|bound| classify(bound, newest, scope));
        let exact = conjunct.as_ref().is_some_and(|c| matches!(c.kind, Kind::Time { exact: true, .. }));
        conjuncts.extend(conjunct.filter(|c| matches!(c.kind, Kind::Time { .. })));
        if !exact {
            scope.uses.truncate(uses);
        }
        !exact
    });
}

fn lookup_join(request: Request, scope: &mut Scope<'_>) -> Option<Side> {
    let Request { left: stream, right: table, kind, conjuncts, place, as_of } = request;
    if let Some(as_of) = as_of {
        check_as_of(&as_of, &stream, scope)?;
    }
    let key = key_of(&table, &place, scope)?;
    let conjuncts = conjuncts.into_iter().map(without_time).collect();
    let (equal, mut residual) = parts(conjuncts);
    let (on, rest, missing) = match_key(equal, &key, scope)?;
    if !missing.is_empty() {
        let owner = key.first().and_then(|c| c.relation.as_ref()).map(|r| r.table().to_string()).unwrap_or_default();
        let names: Vec<&str> = key.iter().map(|c| c.name.as_str()).collect();
        let message = format!("a stream is joined with a table on the table's whole key, {}", names.join(", "));
        let help = format!("add `{owner}.{} = ..` to ON", missing.join(" = ..` and `"));
        scope.diagnostics.push(Diagnostic::error(codes::JOIN, place, message).help(help));
        return None;
    }
    residual.extend(rest);
    let schema = schema_of_join(&stream.node, &table.node, kind);
    let (time, unique) = (stream.time, stream.unique);
    let (stream, table) = (Box::new(stream.node), Box::new(table.node));
    let node = Node::LookupJoin { stream, table, on, residual: conjunction(residual), kind, as_of: AsOf::EventTime, schema };
    Some(Side { node, time, unique })
}

/// Conditions on times mean nothing special outside of a join of two streams.
fn without_time(conjunct: Conjunct) -> Conjunct {
    match conjunct.kind {
        Kind::Time { .. } => Conjunct { kind: Kind::Other, ..conjunct },
        _ => conjunct,
    }
}

/// `FOR SYSTEM_TIME AS OF` must name the stream's own event time, which is what the join does anyway.
fn check_as_of(as_of: &Ast, stream: &Side, scope: &mut Scope<'_>) -> Option<()> {
    let place = scope.text.place(as_of);
    let mut written = as_of.clone();
    if !scope.resolve(&mut written) {
        return None;
    }
    let named = match &written {
        Ast::CompoundIdentifier(names) => event_time(names, scope),
        _ => None,
    };
    if named.is_some() && named == stream.time {
        return Some(());
    }
    let alias = stream.time.and_then(|input| scope.inputs.get(input)).map(|i| i.alias.clone());
    let message = "a table is joined as of the event time of the stream's row, and of no other time";
    let help = alias
        .map_or_else(|| "leave FOR SYSTEM_TIME AS OF out".into(), |alias| format!("write FOR SYSTEM_TIME AS OF {alias}.rowtime"));
    scope.diagnostics.push(Diagnostic::error(codes::JOIN, place, message).help(help));
    None
}

/// The columns of a table's key. Refuses a table without one.
fn key_of(side: &Side, place: &Place, scope: &mut Scope<'_>) -> Option<Vec<Column>> {
    let key = side.key();
    if key.is_none() {
        let message = "a join of a table whose rows have no key is not supported yet";
        let help = "make a product of its own of it, with a key";
        scope.diagnostics.push(Diagnostic::error(codes::JOIN, place.clone(), message).help(help));
    }
    key
}

/// The columns that no two pairs have equal, where each side has such columns.
fn both_unique(left: Option<Vec<Column>>, right: Option<Vec<Column>>) -> Option<Vec<Column>> {
    let (mut left, right) = (left?, right?);
    left.extend(right);
    Some(left)
}

type Matched = (Vec<On>, Vec<Expr>, Vec<String>);

/// The equalities that name the columns of `key` on their right side, in the key's order; all other equalities as
/// expressions; and the key's columns that no equality names. Error: a type that does not fit the key's.
fn match_key(equal: Vec<(On, Place)>, key: &[Column], scope: &mut Scope<'_>) -> Option<Matched> {
    let mut found: Vec<Option<On>> = vec![None; key.len()];
    let mut rest = Vec::new();
    let mut fine = true;
    for (on, place) in equal {
        let at = key.iter().position(|column| bare(&on.right).is_some_and(|c| c == column));
        match at.and_then(|at| found.get_mut(at)) {
            Some(slot) if slot.is_none() => {
                if let Some(wrong) = lossy(&on.right, scope) {
                    let message = format!("the key column is {}, and is compared as {}", wrong.0, wrong.1);
                    let help = "CAST the other side to the key's type";
                    scope.diagnostics.push(Diagnostic::error(codes::TYPE_MISMATCH, place, message).help(help));
                    fine = false;
                }
                *slot = Some(on);
            }
            _ => rest.push(Expr::BinaryExpr(BinaryExpr::new(Box::new(on.left), Operator::Eq, Box::new(on.right)))),
        }
    }
    let missing = key.iter().zip(&found).filter(|(_, on)| on.is_none()).map(|(c, _)| c.name.clone()).collect();
    fine.then(|| (found.into_iter().flatten().collect(), rest, missing))
}

/// The column that an expression is, but for a cast that coercion put around it.
fn bare(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Cast(cast) => bare(&cast.expr),
        _ => None,
    }
}

/// The types of a cast of a key column that may make two keys equal which differ.
fn lossy(expr: &Expr, scope: &Scope<'_>) -> Option<(String, String)> {
    let Expr::Cast(Cast { expr: inner, field }) = expr else { return None };
    let schema = super::from::in_sight(scope);
    let from = inner.get_type(&schema).ok()?;
    let to = field.data_type();
    let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let safe = (from.is_integer() && to.is_integer())
        || (text(&from) && text(to))
        || (from == DataType::Float32 && *to == DataType::Float64);
    (!safe).then(|| (type_name(&from), type_name(to)))
}

fn table_join(request: Request, scope: &mut Scope<'_>, same: &mut Vec<(Column, Column)>) -> Option<Side> {
    let Request { left, right, kind, conjuncts, place, .. } = request;
    let (left_key, right_key) = (key_of(&left, &place, scope)?, key_of(&right, &place, scope)?);
    let conjuncts = conjuncts.into_iter().map(without_time).collect();
    let (equal, mut residual) = parts(conjuncts);
    let (on, rest, missing) = match_key(equal, &right_key, scope)?;
    let pairs: Vec<(&Column, &Column)> = on.iter().filter_map(|on| Some((bare(&on.left)?, bare(&on.right)?))).collect();
    let whole_left = left_key.iter().all(|column| pairs.iter().any(|(l, _)| same_as(l, column, same)));
    let whole =
        whole_left && missing.is_empty() && pairs.len() == left_key.len() && on.iter().all(|on| lossy(&on.left, scope).is_none());
    if !whole {
        let names = |key: &[Column]| key.iter().map(|c| c.flat_name()).collect::<Vec<_>>().join(", ");
        let message = format!(
            "foreign-key joins of tables are not carried out yet: two tables are joined on both whole keys, {} and {}",
            names(&left_key),
            names(&right_key)
        );
        let help = "make a product of one of them that has the other's key, or a stream of the one whose changes count";
        scope.diagnostics.push(Diagnostic::error(codes::JOIN, place, message).help(help));
        return None;
    }
    let on = on.into_iter().map(|on| by_key(on, &left_key, same)).collect::<Vec<_>>();
    if kind == JoinKind::Inner {
        for on in &on {
            if let (Expr::Column(l), Expr::Column(r)) = (&on.left, &on.right) {
                let key = same.iter().find(|(column, _)| column == l).map_or(l, |(_, key)| key);
                same.push((r.clone(), key.clone()));
            }
        }
    }
    residual.extend(rest);
    let schema = schema_of_join(&left.node, &right.node, kind);
    let positions = left_key.iter().filter_map(|c| schema.maybe_index_of_column(c)).collect();
    let changes = Changes::Upsert(positions);
    let (left, right) = (Box::new(left.node), Box::new(right.node));
    let node = Node::TableJoin { left, right, on, residual: conjunction(residual), kind, schema, changes };
    Some(Side { node, time: None, unique: None })
}

/// The same equality by the key's own column: a delete carries no other.
fn by_key(on: On, key: &[Column], same: &[(Column, Column)]) -> On {
    let own = bare(&on.left).and_then(|column| key.iter().find(|k| *k != column && same_as(column, k, same)));
    match own {
        Some(own) if matches!(on.left, Expr::Column(_)) => On { left: Expr::Column(own.clone()), right: on.right },
        _ => on,
    }
}

/// Whether a column is the key's column, or known to be equal to it.
fn same_as(column: &Column, key: &Column, same: &[(Column, Column)]) -> bool {
    column == key || same.iter().any(|(c, k)| c == column && k == key)
}
