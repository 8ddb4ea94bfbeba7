//! How aggregates are called: how many arguments each takes, which of them are literals within which bounds, and where
//! DISTINCT and ORDER BY have a meaning.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    FunctionArguments, Spanned, UnaryOperator, Value, visit_expressions,
};

use super::codes;
use super::forms::call_name;
use super::functions;
use super::text::Text;
use crate::model::diagnostic::{Diagnostic, Place};

/// Bins of a histogram, or values of `topk`, at most.
const MOST: f64 = 10_000.0;

/// Why a call of an aggregate is refused. Its arguments' types are not looked at.
pub(crate) fn check(call: &Function, name: &str, at: Place, text: &Text<'_>) -> Option<Diagnostic> {
    let canonical = functions::aggregate(name)?;
    let list = match &call.args {
        FunctionArguments::List(list) => Some(list),
        _ => None,
    };
    let arguments = list.map_or(&[] as &[FunctionArg], |list| list.args.as_slice());
    let shape = shape(canonical);
    let star = |arg: &FunctionArg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Wildcard));
    let mismatch =
        |message: String| Some(Diagnostic::error(codes::TYPE_MISMATCH, at.clone(), message).help(format!("write {shape}")));
    let distinct = list.is_some_and(|list| list.duplicate_treatment == Some(DuplicateTreatment::Distinct));
    match arguments {
        [one] if star(one) && canonical != "count" => return mismatch(format!("{name}(*) has no meaning")),
        [one] if star(one) && distinct => return mismatch(format!("{name}(DISTINCT *) has no meaning")),
        several if several.len() != wanted(canonical) => {
            let takes = match wanted(canonical) {
                1 => "one argument".to_string(),
                n => format!("{n} arguments"),
            };
            return mismatch(format!("{name} takes {takes}, not {}", several.len()));
        }
        _ => {}
    }
    let list = list?;
    literals(canonical, name, arguments, text).or_else(|| modifiers(canonical, name, distinct, list, text, &at))
}

/// The aggregates of an expression that can't take a row out again, refused: rows are taken out of their input.
pub(crate) fn irrevocable(ast: &Expr, text: &Text<'_>) -> Vec<Diagnostic> {
    let mut refused = Vec::new();
    let _ = visit_expressions(ast, |expr| {
        if let Expr::Function(call) = expr
            && functions::aggregate(&call_name(call)) == Some("approx_distinct")
        {
            let message = "approx_distinct can't forget a row, and the rows that it would count here are replaced and deleted";
            let place = text.place(expr);
            refused.push(Diagnostic::error(codes::UNSUPPORTED, place, message).help("write count(DISTINCT x), which can"));
        }
        ControlFlow::<()>::Continue(())
    });
    refused
}

fn wanted(canonical: &str) -> usize {
    match canonical {
        "histogram" => 4,
        "string_agg" | "approx_percentile" | "topk" => 2,
        _ => 1,
    }
}

fn shape(canonical: &str) -> String {
    match canonical {
        "histogram" => "histogram(column, lo, hi, bins), such as histogram(x, 0, 100, 10)".into(),
        "string_agg" => "string_agg(column, ', ')".into(),
        "approx_percentile" => "approx_percentile(column, 0.95)".into(),
        "topk" => "topk(column, 3)".into(),
        other => format!("{other}(column)"),
    }
}

/// Refuses arguments behind the first that are no literals, or out of their bounds.
fn literals(canonical: &str, name: &str, arguments: &[FunctionArg], text: &Text<'_>) -> Option<Diagnostic> {
    let place = |arg: &FunctionArg| text.place_of(arg.span());
    let refuse = |arg: &FunctionArg, message: String| {
        Some(Diagnostic::error(codes::TYPE_MISMATCH, place(arg), message).help(format!("write {}", shape(canonical))))
    };
    let not_literal = |arg: &FunctionArg, what: &str, kind: &str| refuse(arg, format!("{what} of {name} must be a {kind}"));
    let whole = |arg: &FunctionArg, what: &str| match number(arg) {
        Some(n) if (1.0..=MOST).contains(&n) && n.fract() == 0.0 => None,
        Some(_) => refuse(arg, format!("{what} of {name} must be a whole number between 1 and {MOST}")),
        None => not_literal(arg, what, "literal whole number"),
    };
    match (canonical, arguments) {
        ("string_agg", [_, separator]) => match literal(separator) {
            Some(Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_)) => None,
            _ => not_literal(separator, "the separator", "literal text"),
        },
        ("topk", [_, k]) => whole(k, "the number of values"),
        ("approx_percentile", [_, p]) => match number(p) {
            Some(share) if (0.0..=1.0).contains(&share) => None,
            Some(_) => refuse(p, format!("the share of {name} must be between 0 and 1")),
            None => not_literal(p, "the share", "literal number"),
        },
        ("histogram", [_, low, high, bins]) => match (number(low), number(high)) {
            (None, _) => not_literal(low, "the lower bound", "literal number"),
            (_, None) => not_literal(high, "the upper bound", "literal number"),
            (Some(lo), Some(hi)) if lo >= hi || !lo.is_finite() || !hi.is_finite() => {
                refuse(high, format!("the upper bound of {name} must be above the lower one"))
            }
            _ => whole(bins, "the number of bins"),
        },
        _ => None,
    }
}

/// Refuses DISTINCT and ORDER BY where they have no meaning.
fn modifiers(
    canonical: &str,
    name: &str,
    distinct: bool,
    list: &FunctionArgumentList,
    text: &Text<'_>,
    at: &Place,
) -> Option<Diagnostic> {
    let refuse =
        |place: Place, message: String, help: &str| Some(Diagnostic::error(codes::UNSUPPORTED, place, message).help(help));
    if distinct && matches!(canonical, "latest" | "earliest") {
        return refuse(at.clone(), format!("{name}(DISTINCT ..) has no meaning: it picks one row"), "leave DISTINCT out");
    }
    let order = list.clauses.iter().find_map(|clause| match clause {
        FunctionArgumentClause::OrderBy(order) => Some(order),
        _ => None,
    })?;
    let place = order.first().map_or_else(|| at.clone(), |first| text.place_of(first.span()));
    if !matches!(canonical, "array_agg" | "string_agg") {
        let help = match canonical {
            "latest" | "earliest" => "they go by event time; topk(x, 1) gives the greatest value",
            _ => "only array_agg and string_agg have an order; leave ORDER BY out",
        };
        return refuse(place, format!("the order of its arguments does not matter to {name}"), help);
    }
    if distinct {
        let message = format!("{name}(DISTINCT ..) sorts its values by themselves, so ORDER BY has no meaning");
        return refuse(place, message, "leave ORDER BY out, or DISTINCT");
    }
    let position = order.iter().find(|order| matches!(&order.expr, Expr::Value(_)))?;
    let message = "ORDER BY a literal sorts nothing: in an aggregate it is no position".to_string();
    refuse(text.place_of(position.span()), message, "name the column to sort by")
}

fn literal(arg: &FunctionArg) -> Option<&Value> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => Some(&value.value),
        _ => None,
    }
}

/// The number that a literal is, with its sign.
fn number(arg: &FunctionArg) -> Option<f64> {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg else { return None };
    let (sign, expr) = match expr {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => (-1.0, expr.as_ref()),
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => (1.0, expr.as_ref()),
        expr => (1.0, expr),
    };
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse::<f64>().ok().map(|number| sign * number),
            _ => None,
        },
        _ => None,
    }
}
