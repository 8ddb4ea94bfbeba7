//! What an expression is checked for before it runs: values of different families that would mix by themselves, casts that
//! have no meaning, and literals that their function can make nothing of.

use std::fmt;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, Result, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

use super::types::{Family, comparable, family};
use super::{calendar, geo, json, zones};
use crate::model::row::type_name;

/// A refusal with a help line, as it passes through DataFusion's planner.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) help: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// A refusal as an error of the planner.
pub(crate) fn refused<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T> {
    Err(DataFusionError::External(Box::new(Refusal { message: message.into(), help: help.into() })))
}

/// Refuses comparisons that DataFusion would make possible by turning text into numbers, or numbers into text, and what
/// can never be computed.
pub(crate) fn check_types(expr: &Expr, schema: &DFSchema) -> Result<()> {
    expr.apply(|e| {
        match e {
            Expr::BinaryExpr(binary) => operator(binary, schema)?,
            Expr::Between(between) => {
                same_family(&between.expr, &between.low, schema)?;
                same_family(&between.expr, &between.high, schema)?;
            }
            Expr::InList(list) => {
                for item in &list.list {
                    same_family(&list.expr, item, schema)?;
                }
            }
            Expr::Like(like) | Expr::SimilarTo(like) => {
                for side in [&like.expr, &like.pattern] {
                    if !matches!(family(&side.get_type(schema)?), Family::Text | Family::Null) {
                        return plan_err!("not STRING");
                    }
                }
            }
            Expr::Case(case) => {
                if let Some(operand) = &case.expr {
                    for (when, _) in &case.when_then_expr {
                        same_family(operand, when, schema)?;
                    }
                }
                one_family(case.when_then_expr.iter().map(|(_, then)| then.as_ref()).chain(case.else_expr.as_deref()), schema)?;
            }
            Expr::Cast(cast) => castable(&cast.expr.get_type(schema)?, cast.field.data_type())?,
            Expr::TryCast(cast) => castable(&cast.expr.get_type(schema)?, cast.field.data_type())?,
            Expr::ScalarFunction(call) => function(call, schema)?,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn operator(BinaryExpr { left, op, right }: &BinaryExpr, schema: &DFSchema) -> Result<()> {
    match op {
        op if compares(*op) => same_family(left, right, schema),
        op if op.is_numerical_operators() => calculable(left, right, schema),
        op if op.is_logic_operator() => {
            for side in [left, right] {
                if !matches!(family(&side.get_type(schema)?), Family::Boolean | Family::Null) {
                    return plan_err!("not BOOLEAN");
                }
            }
            Ok(())
        }
        Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch => {
            pattern(right, "write the pattern in the syntax of Rust's regex, such as '^a.*[0-9]+$'")
        }
        _ => Ok(()),
    }
}

/// Whether it is a comparison.
pub(crate) fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn same_family(left: &Expr, right: &Expr, schema: &DFSchema) -> Result<()> {
    let side = |e: &Expr| Ok::<_, DataFusionError>((e.get_type(schema)?, matches!(e, Expr::Literal(..))));
    let (left, right) = (side(left)?, side(right)?);
    if comparable((&left.0, left.1), (&right.0, right.1)) { Ok(()) } else { plan_err!("types differ") }
}

/// Values that become one column are of one family; NULL is of any.
fn one_family<'a>(values: impl Iterator<Item = &'a Expr>, schema: &DFSchema) -> Result<()> {
    let families = values.map(|value| Ok(family(&value.get_type(schema)?))).collect::<Result<Vec<_>>>()?;
    let mut typed = families.iter().filter(|f| **f != Family::Null);
    let first = typed.next();
    if typed.any(|f| Some(f) != first) { plan_err!("types differ") } else { Ok(()) }
}

/// Numbers are calculated with numbers, times with intervals and times.
fn calculable(left: &Expr, right: &Expr, schema: &DFSchema) -> Result<()> {
    let families = (family(&left.get_type(schema)?), family(&right.get_type(schema)?));
    match families {
        (Family::Null, _) | (_, Family::Null) | (Family::Number, Family::Number) => Ok(()),
        (Family::Time | Family::Interval, Family::Time | Family::Interval) => Ok(()),
        (Family::Interval, Family::Number) | (Family::Number, Family::Interval) => {
            refused("an interval can't be multiplied or divided", "write the whole of it: INTERVAL '30' MINUTE")
        }
        _ => plan_err!("types differ"),
    }
}

/// Refuses casts that Arrow would carry out by its own idea of what they mean.
fn castable(from: &DataType, to: &DataType) -> Result<()> {
    let refuse = |help: &str| refused(format!("{} can't be cast to {}", type_name(from), type_name(to)), help);
    match (family(from), family(to)) {
        (Family::Nested, Family::Text) => refuse("write to_json(x), or array_to_string(x, ',')"),
        (Family::Number, Family::Time) if !matches!(to, DataType::Timestamp(..)) => {
            refuse("CAST it to TIMESTAMP first: it counts milliseconds since 1970")
        }
        (Family::Time, Family::Number) if !matches!(from, DataType::Timestamp(..)) => refuse("write date_part('day', x)"),
        (Family::Interval, Family::Number) => refuse("write extract(epoch FROM x), which is in seconds"),
        (Family::Number | Family::Time | Family::Boolean, Family::Bytes) => refuse("CAST it to STRING first"),
        _ => Ok(()),
    }
}

/// Functions whose arguments from one position on become one column.
const MIXING: &[(&str, usize)] =
    &[("coalesce", 0), ("nvl", 0), ("nvl2", 1), ("nullif", 0), ("greatest", 0), ("least", 0), ("make_array", 0)];

fn function(call: &ScalarFunction, schema: &DFSchema) -> Result<()> {
    if let Some((_, from)) = MIXING.iter().find(|(name, _)| *name == call.name()) {
        one_family(call.args.iter().skip(*from), schema)?;
    }
    match call.name() {
        geo::NAME => literal(call, 4, |unit| match geo::knows_unit(unit) {
            true => Ok(()),
            false => plan_err!("unknown unit"),
        }),
        name if name.starts_with("regexp_") => match call.args.get(1) {
            Some(argument) => pattern(argument, "write the pattern in the syntax of Rust's regex, such as '^a.*[0-9]+$'"),
            None => Ok(()),
        },
        "date_part" => literal(call, 0, |part| one_of(part, "part of a time", PARTS)),
        "date_trunc" => literal(call, 0, |part| one_of(part, "unit to cut a time to", calendar::UNITS)),
        "encode" | "decode" => literal(call, 1, |name| one_of(name, "encoding", &["base64", "base64pad", "hex"])),
        "digest" => literal(call, 1, |name| one_of(name, "digest", DIGESTS)),
        "to_char" => literal(call, 1, format),
        "to_date" | "to_timestamp" | "to_timestamp_seconds" | "to_timestamp_millis" | "to_timestamp_micros" | "to_unixtime" => {
            (1..call.args.len()).try_for_each(|at| literal(call, at, format))
        }
        zones::NAME => literal(call, 1, |zone| match zones::is_zone(zone) {
            true => Ok(()),
            false => refused(format!("'{zone}' is no time zone"), "write 'UTC', '+02:00' or a name such as 'Europe/Berlin'"),
        }),
        name if name.starts_with("json_") => literal(call, 1, |path| match json::path_error(path) {
            None => Ok(()),
            Some(error) => refused(error, "write such as '$.a.b[0]', or '$[\"a b\"]'"),
        }),
        _ => Ok(()),
    }
}

const PARTS: &[&str] = &[
    "year",
    "isoyear",
    "quarter",
    "month",
    "week",
    "day",
    "doy",
    "dow",
    "isodow",
    "hour",
    "minute",
    "second",
    "millisecond",
    "microsecond",
    "epoch",
];

const DIGESTS: &[&str] = &["md5", "sha224", "sha256", "sha384", "sha512", "blake2s", "blake2b", "blake3"];

/// Checks an argument if it is a literal text.
fn literal(call: &ScalarFunction, at: usize, check: impl Fn(&str) -> Result<()>) -> Result<()> {
    match call.args.get(at).and_then(Expr::as_literal).and_then(|value| value.try_as_str().flatten()) {
        Some(text) => check(text),
        None => Ok(()),
    }
}

fn one_of(name: &str, what: &str, known: &[&str]) -> Result<()> {
    match known.contains(&name.to_lowercase().as_str()) {
        true => Ok(()),
        false => refused(format!("'{name}' is no {what}"), format!("it is one of {}", known.join(", "))),
    }
}

fn pattern(argument: &Expr, help: &str) -> Result<()> {
    let Some(text) = argument.as_literal().and_then(|value| value.try_as_str().flatten()) else { return Ok(()) };
    match regex::Regex::new(text) {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => refused("the regular expression is too large", help),
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            refused(format!("'{text}' is no regular expression: {reason}"), help)
        }
    }
}

/// A form of a time, such as '%Y-%m-%d'.
fn format(text: &str) -> Result<()> {
    use chrono::format::{Item, StrftimeItems};
    match StrftimeItems::new(text).any(|item| matches!(item, Item::Error)) {
        false => Ok(()),
        true => refused(format!("'{text}' is no form of a time"), "write such as '%Y-%m-%d %H:%M:%S'"),
    }
}
