//! ROW_NUMBER(): the first rows of each partition. It needs a bound, in WHERE around its sub-query or in QUALIFY, so that
//! no more than the first rows must be kept.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion_common::{Column, DFSchema, ScalarValue};
use datafusion_expr::{Expr, ExprSchemable, Operator, binary_expr};
use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Expr as Ast, Function, FunctionArguments, Ident, JoinOperator, Query, Select, SelectItem, SetExpr, Value,
    WindowSpec, WindowType, visit_expressions,
};

use super::codes;
use super::expr::{Bound, conjunction};
use super::forms::{Aggregates, call_name};
use super::from::split;
use super::names::Scope;
use super::parse::name_of;
use super::query::{Changes, Node, Order};
use super::relations::schema_of;
use super::select::Rows;
use super::types::{Family, family};
use super::union::retracting;
use crate::model::diagnostic::{Diagnostic, Place};
use crate::model::row::{ROWTIME, type_name};

/// The column that numbers the rows; no column of a product can have its name.
const NUMBER: &str = "row_number()";
const HELP: &str =
    "write SELECT .. FROM (SELECT .., ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) AS n FROM ..) AS x WHERE x.n <= 10";

/// How WHERE bounds the ROW_NUMBER() of a sub-query.
#[derive(Debug)]
pub(crate) struct FirstRows {
    limit: u64,
    /// Whether the number itself is read outside.
    numbered: bool,
}

/// The first rows of each partition, before aggregates are taken out of the expressions.
pub(crate) struct Numbering {
    pub(crate) partition: Vec<Bound>,
    /// What is sorted by, with whether it is descending, and whether NULL comes first.
    pub(crate) order: Vec<(Bound, bool, bool)>,
    limit: u64,
    numbered: bool,
    /// What else QUALIFY says of the number.
    rest: Vec<Expr>,
}

impl Numbering {
    /// Whether the list of columns holds the number.
    pub(crate) fn is_listed(&self) -> bool {
        self.numbered
    }
}

/// The call, if the expression is a ROW_NUMBER() OVER (..).
pub(crate) fn row_number(expr: &Ast) -> Option<&Function> {
    match expr {
        Ast::Nested(inner) => row_number(inner),
        Ast::Function(call) if call.over.is_some() && call_name(call) == "row_number" => Some(call),
        _ => None,
    }
}

/// The number, as a column of the rows.
pub(crate) fn number() -> Expr {
    Expr::Column(Column::new_unqualified(NUMBER))
}

pub(crate) fn is_number(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(column) if column.relation.is_none() && column.name == NUMBER)
}

/// Why a window function is refused where it stands.
pub(crate) fn over_refused(at: Place, name: &str) -> Diagnostic {
    let (message, help) = match name {
        "row_number" => ("ROW_NUMBER() stands alone in the list of columns, or in QUALIFY".to_string(), HELP),
        "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "ntile" => (
            format!("the window function {name} is not supported"),
            "write ROW_NUMBER() OVER (..) <= n in QUALIFY, which keeps the first rows of each partition",
        ),
        "lag" | "lead" | "first_value" | "last_value" | "nth_value" => (
            format!("the window function {name} is not supported: a row would have to wait for others, or to be kept for them"),
            "join the stream with itself within a bound of time, or GROUP BY with latest(x) and earliest(x)",
        ),
        _ => (
            format!("{name}(..) OVER is not supported: each row would change with those that come after it"),
            "GROUP BY gives one row for each group; windows as TUMBLE(..) give one for each window",
        ),
    };
    Diagnostic::error(codes::UNSUPPORTED, at, message).help(help)
}

/// What a comparison says of a number.
struct Said {
    /// The greatest number that fulfils it.
    limit: Option<u64>,
    /// What it says besides.
    rest: Option<(Operator, u64)>,
}

/// What a condition says of the number that `is_number` knows, if it compares just that with a literal.
fn said(condition: &Ast, is_number: &dyn Fn(&Ast) -> bool) -> Option<Said> {
    match condition {
        Ast::Nested(inner) => said(inner, is_number),
        Ast::BinaryOp { left, op, right } if is_number(left) => compared(op, literal(right)?),
        Ast::BinaryOp { left, op, right } if is_number(right) => {
            let swapped = match op {
                BinaryOperator::Eq => BinaryOperator::Eq,
                BinaryOperator::Lt => BinaryOperator::Gt,
                BinaryOperator::LtEq => BinaryOperator::GtEq,
                BinaryOperator::Gt => BinaryOperator::Lt,
                BinaryOperator::GtEq => BinaryOperator::LtEq,
                _ => return None,
            };
            compared(&swapped, literal(left)?)
        }
        Ast::Between { expr, negated: false, low, high } if is_number(expr) => {
            let low = literal(low)?;
            Some(Said { limit: Some(literal(high)?), rest: (low > 1).then_some((Operator::GtEq, low)) })
        }
        _ => None,
    }
}

fn compared(op: &BinaryOperator, value: u64) -> Option<Said> {
    Some(match op {
        BinaryOperator::Eq => Said { limit: Some(value), rest: (value > 1).then_some((Operator::Eq, value)) },
        BinaryOperator::LtEq => Said { limit: Some(value), rest: None },
        BinaryOperator::Lt => Said { limit: Some(value.saturating_sub(1)), rest: None },
        BinaryOperator::GtEq => Said { limit: None, rest: Some((Operator::GtEq, value)) },
        BinaryOperator::Gt => Said { limit: None, rest: Some((Operator::Gt, value)) },
        _ => return None,
    })
}

fn literal(expr: &Ast) -> Option<u64> {
    match expr {
        Ast::Nested(inner) => literal(inner),
        Ast::Value(value) => match &value.value {
            Value::Number(number, _) => number.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// The name of a query's column that is its ROW_NUMBER().
fn number_of(query: &Query) -> Option<String> {
    match query.body.as_ref() {
        SetExpr::Query(query) => number_of(query),
        SetExpr::Select(select) if select.qualify.is_none() => listed_name(select),
        _ => None,
    }
}

fn listed_name(select: &Select) -> Option<String> {
    select.projection.iter().find_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } => row_number(expr).map(|_| name_of(alias)),
        _ => None,
    })
}

/// How the conditions of `filter` bound the ROW_NUMBER() of a sub-query that FROM of `select` calls `alias`. Those that say
/// nothing else are taken out.
pub(crate) fn asked(query: &Query, alias: &str, select: &Select, filter: &mut Vec<Ast>) -> Option<FirstRows> {
    let name = number_of(query)?;
    let same = |ident: &Ident, name: &str| {
        ident.value == name || (ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case(name))
    };
    let alone = select.from.len() == 1 && select.from.iter().all(|tables| tables.joins.is_empty());
    let is_number = |expr: &Ast| match expr {
        Ast::Identifier(column) => alone && same(column, &name),
        Ast::CompoundIdentifier(parts) => matches!(parts.as_slice(), [a, c] if same(a, alias) && same(c, &name)),
        _ => false,
    };
    let limit = filter.iter().filter_map(|part| said(part, &is_number)?.limit).min()?;
    let mut read = references(select, &|ident| same(ident, &name));
    // An outer join makes rows in which the number is NULL, and its condition must see them.
    let kept =
        |operator: &JoinOperator| matches!(operator, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_));
    if select.from.iter().flat_map(|tables| &tables.joins).all(|join| kept(&join.join_operator)) {
        filter.retain(|part| {
            let exact = said(part, &is_number).is_some_and(|said| said.limit.is_some() && said.rest.is_none());
            read = read.saturating_sub(usize::from(exact));
            !exact
        });
    }
    let star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    Some(FirstRows { limit, numbered: read > 0 || select.projection.iter().any(star) })
}

/// How often a SELECT names a column of that name.
fn references(select: &Select, same: &dyn Fn(&Ident) -> bool) -> usize {
    let mut found = 0;
    let _ = visit_expressions(select, |expr| {
        found += usize::from(match expr {
            Ast::Identifier(column) => same(column),
            Ast::CompoundIdentifier(parts) => parts.iter().any(same),
            _ => false,
        });
        ControlFlow::<()>::Continue(())
    });
    found
}

/// The ROW_NUMBER() of a SELECT, and what bounds it. Refuses one without a bound.
pub(crate) fn bind(select: &Select, first: Option<FirstRows>, schema: &DFSchema, scope: &mut Scope<'_>) -> Option<Numbering> {
    let listed = select.projection.iter().find_map(|item| match item {
        SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr) => row_number(expr),
        _ => None,
    });
    let qualify: Vec<&Ast> = select.qualify.iter().flat_map(split).collect();
    let call = match listed {
        Some(call) => call,
        None => {
            let clause = select.qualify.as_ref()?;
            let found = visit_expressions(clause, |expr| match row_number(expr) {
                Some(call) => ControlFlow::Break(call.clone()),
                None => ControlFlow::Continue(()),
            });
            match found {
                ControlFlow::Break(call) => return qualified(&call, false, &qualify, select, first, schema, scope),
                ControlFlow::Continue(()) => {
                    let message = "QUALIFY compares a ROW_NUMBER() with a number, and has none";
                    let help =
                        "write QUALIFY ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) <= 10, and other conditions into WHERE";
                    let place = scope.text.place(clause);
                    scope.diagnostics.push(Diagnostic::error(codes::UNSUPPORTED, place, message).help(help));
                    return None;
                }
            }
        }
    };
    qualified(call, true, &qualify, select, first, schema, scope)
}

/// The same for the call that was found in the list of columns, or in QUALIFY.
fn qualified(
    call: &Function,
    listed: bool,
    qualify: &[&Ast],
    select: &Select,
    first: Option<FirstRows>,
    schema: &DFSchema,
    scope: &mut Scope<'_>,
) -> Option<Numbering> {
    let place = scope.text.known_place(&call.name).unwrap_or_else(|| scope.text.start());
    let refuse = |scope: &mut Scope<'_>, message: &str, help: &str| {
        scope.diagnostics.push(Diagnostic::error(codes::UNSUPPORTED, place.clone(), message).help(help));
    };
    let spec = window(call, &refuse, scope)?;
    let name = listed_name(select);
    let is_number = |expr: &Ast| match expr {
        Ast::Identifier(column) => name.as_ref().is_some_and(|name| column.value.eq_ignore_ascii_case(name)),
        // Equal trees read alike; their places differ.
        other => row_number(other).is_some_and(|other| other.to_string() == call.to_string()),
    };
    let mut limit = first.as_ref().map(|first| first.limit);
    let mut rest = Vec::new();
    for condition in qualify {
        let Some(said) = said(condition, &is_number) else {
            let place = scope.text.place_of_expr(condition).unwrap_or_else(|| place.clone());
            let message = "QUALIFY holds comparisons of one ROW_NUMBER() with literal numbers, joined by AND, and nothing else";
            let help = "write other conditions into WHERE; what must hold for the first rows stands around a sub-query";
            scope.diagnostics.push(Diagnostic::error(codes::UNSUPPORTED, place, message).help(help));
            return None;
        };
        limit = limit.into_iter().chain(said.limit).min();
        rest.extend(said.rest.map(|(op, value)| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            binary_expr(number(), op, Expr::Literal(ScalarValue::Int64(Some(value)), None))
        }));
    }
    let Some(limit) = limit else {
        refuse(scope, "ROW_NUMBER() needs a bound: without one all rows of a partition would be kept, and numbered anew", HELP);
        return None;
    };
    if limit == 0 {
        let message = "no row has a number below 1";
        scope.diagnostics.push(Diagnostic::error(codes::NEVER_TRUE, place, message).help("the first row has the number 1"));
        return None;
    }
    let numbered = listed && first.is_none_or(|first| first.numbered);
    let (partition, order) = (partition(spec, schema, &place, scope), order(spec, schema, &place, scope));
    Some(Numbering { partition: partition?, order: order?, limit, numbered, rest })
}

/// The window behind OVER, if it is a plain one.
fn window<'c>(call: &'c Function, refuse: &dyn Fn(&mut Scope<'_>, &str, &str), scope: &mut Scope<'_>) -> Option<&'c WindowSpec> {
    let spec = match &call.over {
        Some(WindowType::WindowSpec(spec)) => spec,
        _ => {
            refuse(scope, "a named window is not supported", "write the window behind OVER, in parentheses");
            return None;
        }
    };
    let plain = spec.window_name.is_none()
        && spec.window_frame.is_none()
        && call.filter.is_none()
        && call.null_treatment.is_none()
        && call.within_group.is_empty()
        && matches!(&call.args, FunctionArguments::List(list) if list.args.is_empty() && list.clauses.is_empty());
    if !plain {
        refuse(
            scope,
            "ROW_NUMBER() has no arguments, no FILTER and no frame",
            "write ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..)",
        );
        return None;
    }
    if spec.order_by.is_empty() {
        let help = "write OVER (PARTITION BY .. ORDER BY rowtime DESC), for instance";
        refuse(scope, "ROW_NUMBER() without ORDER BY numbers the rows in no certain order", help);
        return None;
    }
    Some(spec)
}

fn partition(spec: &WindowSpec, schema: &DFSchema, around: &Place, scope: &mut Scope<'_>) -> Option<Vec<Bound>> {
    let bound: Vec<_> = spec.partition_by.iter().map(|expr| scope.bind(expr, schema, around, Aggregates::Allowed)).collect();
    bound.into_iter().collect()
}

fn order(spec: &WindowSpec, schema: &DFSchema, around: &Place, scope: &mut Scope<'_>) -> Option<Vec<(Bound, bool, bool)>> {
    let mut order = Vec::new();
    for by in &spec.order_by {
        let bound = scope.bind(&by.expr, schema, around, Aggregates::Allowed)?;
        let data_type = bound.expr.get_type(schema).ok()?;
        if matches!(family(&data_type), Family::Nested | Family::Interval | Family::Null) {
            let message = format!("rows can't be sorted by {}", type_name(&data_type));
            let help = "sort by a number, a text, a time or a BOOLEAN";
            scope.diagnostics.push(Diagnostic::error(codes::TYPE_MISMATCH, bound.place, message).help(help));
            return None;
        }
        let descending = by.options.asc == Some(false);
        order.push((bound, descending, by.options.nulls_first.unwrap_or(descending)));
    }
    Some(order)
}

/// What decides between rows that are equal in all that a table's are sorted by, so that it is not the order in which they
/// happen to come: a table that is read again has another one, and groups come when a step of the dataflow ends.
fn ties(node: &Node, partition: &[Expr], order: &[Order]) -> Vec<Order> {
    let columns = node.schema().columns();
    let by: Vec<Column> = match node.changes() {
        Changes::Append => Vec::new(),
        Changes::Upsert(key) => key.into_iter().filter_map(|at| columns.get(at).cloned()).collect(),
        Changes::Retract => columns.into_iter().filter(|column| column.name != ROWTIME).collect(),
    };
    let by = by.into_iter().map(Expr::Column);
    by.filter(|expr| !partition.contains(expr) && !order.iter().any(|order| order.expr == *expr))
        .map(|expr| Order { expr, descending: false, nulls_first: false })
        .collect()
}

/// The first rows of each partition, by expressions over the rows.
pub(crate) fn first_rows(rows: Rows, numbering: Numbering) -> Rows {
    let Numbering { partition, order, limit, numbered, rest } = numbering;
    let numbered = numbered || !rest.is_empty();
    let partition: Vec<Expr> = partition.into_iter().map(|bound| bound.expr).collect();
    let mut order: Vec<Order> =
        order.into_iter().map(|(bound, descending, nulls_first)| Order { expr: bound.expr, descending, nulls_first }).collect();
    let Rows { node, schema, facts, unique, same, times, .. } = rows;
    // Before a table's rows are taken apart: their key tells equal ones apart.
    order.extend(ties(&node, &partition, &order));
    let node = retracting(node);
    let with_number = |schema: &DFSchema| {
        let own = schema.iter().map(|(q, f)| (q.cloned(), f.clone()));
        let number = numbered.then(|| (None, Arc::new(Field::new(NUMBER, DataType::Int64, false))));
        schema_of(own.chain(number).collect())
    };
    let output = with_number(node.schema());
    let columns: Option<Vec<Column>> = partition.iter().map(|expr| expr.try_as_col().cloned()).collect();
    let by_time = |order: &Order| !order.descending && order.expr.try_as_col().is_some_and(|column| times.contains(column));
    let first = limit == 1 && node.changes() == Changes::Append && matches!(order.as_slice(), [only] if by_time(only));
    let mut key = Vec::new();
    let changes = match &columns {
        _ if first => Changes::Append,
        Some(columns) if limit == 1 || numbered => {
            key.clone_from(columns);
            key.extend((limit > 1).then(|| Column::new_unqualified(NUMBER)));
            Changes::Upsert(key.iter().filter_map(|column| output.maybe_index_of_column(column)).collect())
        }
        _ => Changes::Retract,
    };
    let unique = columns.filter(|_| first).or(unique);
    let times = if first { times } else { Vec::new() };
    let schema = with_number(&schema);
    let node = Node::TopN { input: Box::new(node), partition, order, limit, numbered, schema: Arc::new(output), changes };
    let node = match conjunction(rest) {
        Some(predicate) => Node::Filter { input: Box::new(node), predicate },
        None => node,
    };
    Rows { node, schema, facts, key, unique, same, times }
}
