//! Joins: what the shapes of the two sides make of one, and what each kind requires.
//!
//! * Two streams meet within a bound of time, which stands in ON, or for an inner join in WHERE: an interval join. The
//!   event time of a pair is the later one, so that a third stream's bound on one of them is a bound on the pair, too.
//! * A stream's row meets a table's row, by the table's whole key: a lookup join, inner or left. It is the table's row as of
//!   the stream row's event time, which `FOR SYSTEM_TIME AS OF stream.rowtime` says aloud, or with `FOR SYSTEM_TIME AS OF
//!   arrival()` the one that has arrived last. `table RIGHT JOIN stream` is `stream LEFT JOIN table`.
//! * Two tables meet on any equal columns: a table join. Where one of them is joined on its whole key, so that the other's
//!   rows have one result at most, the result is a table by the other's key. Else, and where a FULL JOIN adds rows of
//!   both, it has no key of its own: its rows are taken back whole, and the product that they make declares one.

use arrow::datatypes::{DataType, Field};
use datafusion_common::{Column, DFSchema, ScalarValue, TableReference};
use datafusion_expr::{Between, BinaryExpr, Cast, Expr, ExprSchemable, Operator};
use datafusion_sql::sqlparser::ast::{Expr as Ast, FunctionArguments, JoinOperator};
use std::sync::Arc;

use super::codes;
use super::expr::{Bound, conjunction};
use super::forms::Aggregates;
use super::from::{Side, event_time};
use super::names::Scope;
use super::nulls::Facts;
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

/// How far the event time of a stream's rows may be behind that of an input that they are made of, in milliseconds:
/// `least_ms <= row's - input's <= most_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Near {
    input: usize,
    least_ms: i64,
    most_ms: i64,
}

impl Near {
    /// The input's event time is the rows'.
    pub(crate) fn same(input: usize) -> Self {
        Near { input, least_ms: 0, most_ms: 0 }
    }

    fn is_same(self) -> bool {
        (self.least_ms, self.most_ms) == (0, 0)
    }

    /// The same of pairs, whose event time is that of a partner at most so much later.
    fn paired(self, most_ms: i64) -> Self {
        Near { most_ms: self.most_ms.saturating_add(most_ms.max(0)), ..self }
    }
}

/// Whether a join keeps the rows of its right side that have no partner.
pub(crate) fn keeps_right(operator: &JoinOperator) -> bool {
    matches!(operator, JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_))
}

/// What is known of the rows of a FULL JOIN: of two columns that are joined on, and have a value in their own rows, one has
/// a value.
pub(crate) fn either_side(conjuncts: &[Conjunct], before: &Facts, schema: &DFSchema) -> Facts {
    let mut facts = Facts::new();
    for conjunct in conjuncts {
        if let Kind::Equal(On { left, right }) = &conjunct.kind
            && let (Some(mut either), Some(right)) = (before.either_of(left, schema), before.either_of(right, schema))
        {
            either.extend(right);
            facts.insert_either(either);
        }
    }
    facts
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

/// Refuses a join at its place.
fn refuse<T>(scope: &mut Scope<'_>, place: Place, message: impl Into<String>, help: impl Into<String>) -> Option<T> {
    scope.diagnostics.push(Diagnostic::error(codes::JOIN, place, message.into()).help(help.into()));
    None
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
    let (left, right) = (stream(&request.left), stream(&request.right));
    if right && request.as_of.is_some() {
        let message = "FOR SYSTEM_TIME AS OF stands behind a table, and this is a stream";
        let help = if left { "leave it out, and bound the times in ON" } else { "leave it out" };
        return refuse(scope, request.place, message, help);
    }
    match (left, right, request.kind) {
        (true, true, _) => interval_join(request, scope, filter, schema),
        (true, false, JoinKind::Inner | JoinKind::Left) => lookup_join(request, scope),
        (true, false, JoinKind::Right | JoinKind::Full) => {
            let message = format!(
                "a {} JOIN with a table keeps the table's rows that no row of the stream meets; the stream has no end, so none could ever be sent",
                request.kind.name().to_uppercase()
            );
            refuse(scope, request.place, message, "write LEFT JOIN to keep the stream's rows, or JOIN")
        }
        (false, true, JoinKind::Inner) => lookup_join(request.exchanged(JoinKind::Inner), scope),
        (false, true, JoinKind::Right) => lookup_join(request.exchanged(JoinKind::Left), scope),
        (false, true, JoinKind::Left | JoinKind::Full) => {
            let message = format!(
                "a table can't be {} JOINed with a stream: each of its rows would wait for ever for a partner",
                request.kind.name().to_uppercase()
            );
            refuse(scope, request.place, message, "write FROM stream LEFT JOIN table")
        }
        (false, false, _) => {
            if request.as_of.is_some() {
                let message = "FOR SYSTEM_TIME AS OF has no meaning between two tables: the result follows both";
                return refuse(scope, request.place, message, "leave it out");
            }
            Some(table_join(request, scope, same)?)
        }
    }
}

impl Request {
    /// The same with the sides exchanged.
    fn exchanged(self, kind: JoinKind) -> Self {
        let conjuncts = self.conjuncts.into_iter().map(|conjunct| match conjunct.kind {
            Kind::Equal(on) => Conjunct { kind: Kind::Equal(on.exchanged()), ..conjunct },
            Kind::Time { .. } | Kind::Other => Conjunct { kind: Kind::Other, ..conjunct },
        });
        Request { conjuncts: conjuncts.collect(), left: self.right, right: self.left, kind, ..self }
    }
}

impl On {
    fn exchanged(self) -> Self {
        On { left: self.right, right: self.left }
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
    let columns = |node: &Node, optional: bool| {
        let field = |(q, f): (Option<&TableReference>, &Arc<Field>)| {
            (q.cloned(), if optional { Arc::new(f.as_ref().clone().with_nullable(true)) } else { f.clone() })
        };
        node.schema().iter().map(field).collect::<Vec<_>>()
    };
    let mut all = columns(left, matches!(kind, JoinKind::Right | JoinKind::Full));
    all.extend(columns(right, matches!(kind, JoinKind::Left | JoinKind::Full)));
    Arc::new(schema_of(all))
}

fn interval_join(request: Request, scope: &mut Scope<'_>, filter: &mut Vec<Ast>, schema: &DFSchema) -> Option<Side> {
    let Request { left, right, kind, mut conjuncts, place, .. } = request;
    let newest = right.time?;
    let (mut in_where, uses) = (Vec::new(), scope.uses.len());
    let mut rest = filter.clone();
    take_bounds(&mut rest, &mut in_where, &left.near, newest, schema, scope);
    let unused = kind != JoinKind::Inner && !in_where.is_empty();
    if kind == JoinKind::Inner {
        *filter = rest;
        conjuncts.append(&mut in_where);
    } else {
        scope.uses.truncate(uses);
    }
    let conjuncts: Vec<Conjunct> = conjuncts.into_iter().map(|conjunct| of_rows(conjunct, &left.near)).collect();
    let (lower_ms, upper_ms) = bounds(&conjuncts, &left, newest, unused, &place, scope)?;
    let (equal, residual) = parts(conjuncts);
    let (left_alias, right_alias) = (alias_of(&left, scope), alias_of(&right, scope));
    if equal.is_empty() {
        let message = "two streams are joined on equal columns, and ON has none: every row would meet every row near it";
        return refuse(scope, place, message, format!("add `{left_alias}.column = {right_alias}.column`"));
    }
    let schema = schema_of_join(&left.node, &right.node, kind);
    let on = equal.into_iter().map(|(on, _)| on).collect();
    let unique = both_unique(left.unique, right.unique);
    let of_left = left.near.into_iter().map(|near| near.paired(upper_ms));
    let near: Vec<Near> = of_left.chain(right.near.into_iter().map(|near| near.paired(lower_ms.saturating_neg()))).collect();
    let always = near.iter().find(|near| kind == JoinKind::Inner && near.is_same());
    let time = always.map(|near| near.input);
    let (left, right) = (Box::new(left.node), Box::new(right.node));
    let node = Node::IntervalJoin { left, right, on, lower_ms, upper_ms, residual: conjunction(residual), kind, schema };
    Some(Side { node, time, unique, near })
}

/// What a bound on the event time of an input says of that of the rows: less, where these may be later.
fn of_rows(conjunct: Conjunct, near: &[Near]) -> Conjunct {
    let Kind::Time { left, lower, upper, exact } = conjunct.kind else { return conjunct };
    let kind = match near.iter().find(|near| near.input == left) {
        None => Kind::Other,
        Some(near) => Kind::Time {
            left,
            lower: lower.map(|ms| ms.saturating_sub(near.most_ms)),
            upper: upper.map(|ms| ms.saturating_sub(near.least_ms)),
            exact: exact && near.is_same(),
        },
    };
    Conjunct { kind, ..conjunct }
}

/// The bound on `right's time - left's time`. Refuses a join without one. `in_where`: there is one that WHERE asks.
fn bounds(
    conjuncts: &[Conjunct],
    left: &Side,
    newest: usize,
    in_where: bool,
    place: &Place,
    scope: &mut Scope<'_>,
) -> Option<(i64, i64)> {
    let (mut lower, mut upper, mut any) = (None, None, false);
    for conjunct in conjuncts {
        if let Kind::Time { lower: l, upper: u, .. } = &conjunct.kind {
            (lower, upper, any) = (lower.max(*l), least(upper, *u), true);
        }
    }
    let (Some(lower_ms), Some(upper_ms)) = (lower, upper) else {
        let right_alias = scope.inputs.get(newest).map(|input| input.alias.clone()).unwrap_or_default();
        let left_alias = alias_of(left, scope);
        let message = if in_where {
            "two streams can be joined only within a bound of time, which stands in ON for an outer join: WHERE is asked of its \
             results, also of those without a partner"
                .to_string()
        } else {
            let one_side = if any { " on both sides" } else { "" };
            format!("two streams can be joined only within a bound of time{one_side}: neither can be kept for ever")
        };
        let help = format!(
            "add `AND {right_alias}.rowtime BETWEEN {left_alias}.rowtime - INTERVAL '1' MINUTE AND {left_alias}.rowtime + INTERVAL '1' MINUTE` to ON"
        );
        return refuse(scope, place.clone(), message, help);
    };
    if lower_ms > upper_ms {
        let message = "the bound of time is never met: its lower end is later than its upper end";
        scope.diagnostics.push(Diagnostic::error(codes::JOIN, place.clone(), message));
        return None;
    }
    Some((lower_ms, upper_ms))
}

/// The alias of an input that a stream's rows are made of.
fn alias_of(side: &Side, scope: &Scope<'_>) -> String {
    let input = side.near.first().and_then(|near| scope.inputs.get(near.input));
    input.map(|input| input.alias.clone()).unwrap_or_default()
}

/// Takes the bounds on time that stand in WHERE, for the condition of an inner join. What they say exactly of the rows is
/// said there.
fn take_bounds(
    filter: &mut Vec<Ast>,
    conjuncts: &mut Vec<Conjunct>,
    near: &[Near],
    newest: usize,
    schema: &DFSchema,
    scope: &mut Scope<'_>,
) {
    filter.retain(|part| {
        let (diagnostics, uses) = (scope.diagnostics.len(), scope.uses.len());
        let around = scope.text.place(part);
        let bound = scope.bind(part, schema, &around, Aggregates::NotIn("WHERE"));
        // What can't be bound here, with the relations so far, is looked at again when WHERE is.
        scope.diagnostics.truncate(diagnostics);
        let conjunct = bound.map(|bound| classify(bound, newest, scope));
        let time = |c: &Conjunct| match of_rows(c.clone(), near).kind {
            Kind::Time { exact, .. } => Some(exact),
            Kind::Equal(_) | Kind::Other => None,
        };
        let exact = conjunct.as_ref().and_then(time);
        conjuncts.extend(conjunct.filter(|_| exact.is_some()));
        if exact != Some(true) {
            scope.uses.truncate(uses);
        }
        exact != Some(true)
    });
}

fn lookup_join(request: Request, scope: &mut Scope<'_>) -> Option<Side> {
    let Request { left: stream, right: table, kind, conjuncts, place, as_of } = request;
    let as_of = match as_of {
        Some(as_of) => version(&as_of, &stream, scope)?,
        None => AsOf::EventTime,
    };
    let Some(key) = table.key() else {
        let message = "a stream is joined with a table by the table's key, and the rows of this one have none";
        return refuse(scope, place, message, "make a product of its own of it, with a key, and read that");
    };
    if is_grouped(&table.node) {
        let message = "a stream can't be joined with groups, or the first rows of them, in the same query: what they were before is not kept";
        return refuse(scope, place, message, "make a product of its own of the sub-query, and read that");
    }
    let conjuncts = conjuncts.into_iter().map(without_time).collect();
    let (equal, mut residual) = parts(conjuncts);
    let (on, rest, missing) = match_key(equal, &key, scope)?;
    if !missing.is_empty() {
        let owner = key.first().and_then(|c| c.relation.as_ref()).map(|r| r.table().to_string()).unwrap_or_default();
        let names: Vec<&str> = key.iter().map(|c| c.name.as_str()).collect();
        let message = format!("a stream is joined with a table on the table's whole key, {}", names.join(", "));
        let help = format!("add `{owner}.{} = ..` to ON", missing.join(" = ..` and `"));
        return refuse(scope, place, message, help);
    }
    residual.extend(rest);
    let schema = schema_of_join(&stream.node, &table.node, kind);
    let Side { node, time, unique, near } = stream;
    let (stream, table) = (Box::new(node), Box::new(table.node));
    let node = Node::LookupJoin { stream, table, on, residual: conjunction(residual), kind, as_of, schema };
    Some(Side { node, time, unique, near })
}

/// Whether a table's older rows are lost: groups come when a step ends, and after a restart they, and the first rows of
/// partitions, come back as they are then.
fn is_grouped(table: &Node) -> bool {
    let grouped = matches!(table, Node::Aggregate { .. } | Node::TopN { .. } | Node::Rekey { .. });
    grouped || table.inputs().into_iter().any(is_grouped)
}

/// Conditions on times mean nothing special outside of a join of two streams.
fn without_time(conjunct: Conjunct) -> Conjunct {
    match conjunct.kind {
        Kind::Time { .. } => Conjunct { kind: Kind::Other, ..conjunct },
        _ => conjunct,
    }
}

/// Which version `FOR SYSTEM_TIME AS OF` means: that of the stream's own event time, which is what the join does anyway, or
/// with `arrival()` the last to arrive.
fn version(as_of: &Ast, stream: &Side, scope: &mut Scope<'_>) -> Option<AsOf> {
    let place = scope.text.place(as_of);
    if let Ast::Function(call) = as_of
        && super::forms::call_name(call) == "arrival"
    {
        let none = match &call.args {
            FunctionArguments::None => true,
            FunctionArguments::List(list) => list.args.is_empty(),
            FunctionArguments::Subquery(_) => false,
        };
        return if none { Some(AsOf::Arrival) } else { refuse(scope, place, "arrival() has no arguments", "write `arrival()`") };
    }
    let mut written = as_of.clone();
    if !scope.resolve(&mut written) {
        return None;
    }
    let named = match &written {
        Ast::CompoundIdentifier(names) => event_time(names, scope),
        _ => None,
    };
    if named.is_some() && named == stream.time {
        return Some(AsOf::EventTime);
    }
    let alias = stream.time.and_then(|input| scope.inputs.get(input)).map(|i| i.alias.clone());
    let message = "a table is joined as of the event time of the stream's row, or of its arrival, and of no other time";
    let help = match alias {
        Some(alias) => format!("write FOR SYSTEM_TIME AS OF {alias}.rowtime, or arrival()"),
        None => "leave FOR SYSTEM_TIME AS OF out, or write arrival()".into(),
    };
    refuse(scope, place, message, help)
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
    let conjuncts = request.conjuncts.into_iter().map(without_time).collect();
    let (equal, mut residual) = parts(conjuncts);
    if equal.is_empty() {
        let message = "two tables are joined on equal columns, and ON has none: every row would meet every row";
        return refuse(scope, request.place, message, "add `AND a.column = b.column` to ON");
    }
    let (mut left, mut right, mut kind) = (request.left, request.right, request.kind);
    let mut equal: Vec<On> = equal.into_iter().map(|(on, _)| on).collect();
    let one_partner = |left: &Side, right: &Side, equal: &[On]| left.key().is_some() && by_key(right, equal, scope).is_some();
    let pointed_to = || {
        let exchanged: Vec<On> = equal.iter().cloned().map(On::exchanged).collect();
        !one_partner(&left, &right, &equal) && one_partner(&right, &left, &exchanged)
    };
    if kind == JoinKind::Right || (kind == JoinKind::Inner && pointed_to()) {
        // The same, but for the order of the columns, and the key is that of the side whose rows have one result at most.
        (left, right) = (right, left);
        equal = equal.into_iter().map(On::exchanged).collect();
        kind = if kind == JoinKind::Right { JoinKind::Left } else { kind };
        same.clear();
    }
    let schema = schema_of_join(&left.node, &right.node, kind);
    let (on, changes) = match (left.key(), by_key(&right, &equal, scope)) {
        (Some(key), Some((on, rest))) if kind != JoinKind::Full => {
            let equality = |on: On| Expr::BinaryExpr(BinaryExpr::new(Box::new(on.left), Operator::Eq, Box::new(on.right)));
            residual.extend(rest.into_iter().map(equality));
            let on: Vec<On> = on.into_iter().map(|on| by_own_key(on, &key, same)).collect();
            if kind == JoinKind::Inner {
                equal_to_key(&on, &key, same);
            }
            let positions = key.iter().filter_map(|column| schema.maybe_index_of_column(column)).collect();
            (on, Changes::Upsert(positions))
        }
        _ => {
            same.clear();
            (equal, Changes::Retract)
        }
    };
    let (left, right) = (Box::new(left.node), Box::new(right.node));
    let node = Node::TableJoin { left, right, on, residual: conjunction(residual), kind, schema, changes };
    Some(Side { node, time: None, unique: None, near: Vec::new() })
}

/// If a table is joined on its whole key: the equalities that say so, in the key's order, and all others.
fn by_key(table: &Side, equal: &[On], scope: &Scope<'_>) -> Option<(Vec<On>, Vec<On>)> {
    let mut rest = equal.to_vec();
    let mut on = Vec::new();
    for column in table.key()? {
        let names = |on: &On| bare(&on.right).is_some_and(|c| *c == column) && lossy(&on.right, scope).is_none();
        on.push(rest.remove(rest.iter().position(names)?));
    }
    Some((on, rest))
}

/// Notes the columns of the other side that are equal to a column of the key in all rows.
fn equal_to_key(on: &[On], key: &[Column], same: &mut Vec<(Column, Column)>) {
    for on in on {
        if let (Expr::Column(l), Expr::Column(r)) = (&on.left, &on.right) {
            let own = same.iter().find(|(column, _)| column == l).map_or(l, |(_, key)| key).clone();
            if key.contains(&own) {
                same.push((r.clone(), own));
            }
        }
    }
}

/// The same equality by the key's own column: a delete carries no other.
fn by_own_key(on: On, key: &[Column], same: &[(Column, Column)]) -> On {
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
