//! Expressions that DataFusion would compute otherwise than this program documents, in a form that it computes right.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion_expr::expr::{Like, ScalarFunction};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator};

use super::check::{compares, refused};
use super::functions;
use super::types::{Family, family, kept};
use crate::model::row::type_name;

/// Rewrites that come before types are made to fit.
pub(crate) fn before_coercion(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let expr = expr.transform_up(|e| {
        Ok(match e {
            Expr::ScalarFunction(call) => scalar_function(call, schema)?,
            Expr::BinaryExpr(binary) => operator(binary, schema)?,
            Expr::Like(like) => escaped(like)?,
            Expr::Between(mut between) => {
                let (t, mut changed) = (between.expr.get_type(schema)?, false);
                for bound in [&mut between.low, &mut between.high] {
                    changed |= aligned(bound, &t, schema)?;
                    if let Some(exact) = exact_decimal(bound).filter(|_| is_decimal(&t)) {
                        (**bound, changed) = (exact, true);
                    }
                }
                if changed { Transformed::yes(Expr::Between(between)) } else { Transformed::no(Expr::Between(between)) }
            }
            Expr::InList(mut list) => {
                let (t, mut changed) = (list.expr.get_type(schema)?, false);
                for item in &mut list.list {
                    changed |= aligned(item, &t, schema)?;
                    if let Some(exact) = exact_decimal(item).filter(|_| is_decimal(&t)) {
                        (*item, changed) = (exact, true);
                    }
                }
                if changed { Transformed::yes(Expr::InList(list)) } else { Transformed::no(Expr::InList(list)) }
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(expr.data)
}

/// Rewrites that come after types were made to fit.
pub(crate) fn after_coercion(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    Ok(expr.transform_up(|e| folded_cast(e, schema))?.data.transform_up(computable)?.data)
}

fn scalar_function(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let first = call.args.first().map(|argument| argument.get_type(schema)).transpose()?;
    match (call.name(), call.args.len(), first) {
        // An integer is its own floor and ceiling; DataFusion would make a DOUBLE of it.
        ("floor" | "ceil", 1, Some(t)) if t.is_integer() => match call.args.pop() {
            Some(argument) => Ok(Transformed::yes(argument)),
            None => plan_err!("there is no argument"),
        },
        // Of a text it counts nanoseconds first, and knows no year past 2262; a cast does.
        (name, 1, Some(t)) if family(&t) == Family::Text => match timestamp(name) {
            Some(to) => Ok(Transformed::yes(Expr::Cast(Cast::new(Box::new(call.args.remove(0)), to)))),
            None => Ok(Transformed::no(Expr::ScalarFunction(call))),
        },
        ("to_timestamp", 1, Some(t)) if t.is_integer() => match functions::scalar("to_timestamp_seconds") {
            Some(seconds) => {
                let seconds = seconds.udf.call(call.args);
                Ok(Transformed::yes(Expr::Cast(Cast::new(Box::new(seconds), DataType::Timestamp(TimeUnit::Microsecond, None)))))
            }
            None => Ok(Transformed::no(Expr::ScalarFunction(call))),
        },
        // Unsigned counts would turn whatever they meet into other types.
        _ => {
            let expr = Expr::ScalarFunction(call);
            match expr.get_type(schema) {
                Ok(t) if t.is_unsigned_integer() => Ok(Transformed::yes(Expr::Cast(Cast::new(Box::new(expr), kept(&t))))),
                _ => Ok(Transformed::no(expr)),
            }
        }
    }
}

/// What the functions that read a timestamp give.
fn timestamp(name: &str) -> Option<DataType> {
    match name {
        "to_timestamp" | "to_timestamp_micros" => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        "to_timestamp_seconds" | "to_timestamp_millis" => Some(DataType::Timestamp(TimeUnit::Millisecond, None)),
        _ => None,
    }
}

/// A date or a literal text in the type of the time that it is compared with: DataFusion would compare nanoseconds.
fn aligned(expr: &mut Expr, other: &DataType, schema: &DFSchema) -> Result<bool> {
    let own = expr.get_type(schema)?;
    let date = own == DataType::Date32 && matches!(other, DataType::Timestamp(..));
    let text = family(&own) == Family::Text && family(other) == Family::Time && matches!(expr, Expr::Literal(..));
    if date || text {
        *expr = Expr::Cast(Cast::new(Box::new(expr.clone()), other.clone()));
    }
    Ok(date || text)
}

fn operator(mut binary: BinaryExpr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (left, right) = (binary.left.get_type(schema)?, binary.right.get_type(schema)?);
    let calculates = matches!(binary.op, Operator::Plus | Operator::Minus);
    let mut changed =
        compares(binary.op) && (aligned(&mut binary.left, &right, schema)? | aligned(&mut binary.right, &left, schema)?);
    if calculates {
        fine_enough(&left, &binary.right)?;
        fine_enough(&right, &binary.left)?;
    }
    if calculates && left == DataType::Date32 && family(&right) == Family::Interval && !is_days(&binary.right) {
        binary.left = Box::new(as_timestamp(*binary.left));
        changed = true;
    } else if calculates && right == DataType::Date32 && family(&left) == Family::Interval && !is_days(&binary.left) {
        binary.right = Box::new(as_timestamp(*binary.right));
        changed = true;
    } else if binary.op.is_numerical_operators() || compares(binary.op) {
        if let (true, Some(exact)) = (is_decimal(&left), exact_decimal(&binary.right)) {
            binary.right = Box::new(exact);
            changed = true;
        } else if let (true, Some(exact)) = (is_decimal(&right), exact_decimal(&binary.left)) {
            binary.left = Box::new(exact);
            changed = true;
        }
    }
    let expr = Expr::BinaryExpr(binary);
    Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
}

/// Refuses an interval of parts of a millisecond beside a time that counts milliseconds: they would be lost.
fn fine_enough(time: &DataType, interval: &Expr) -> Result<()> {
    let milliseconds = matches!(time, DataType::Timestamp(TimeUnit::Millisecond, _) | DataType::Time32(_));
    match interval.as_literal() {
        Some(ScalarValue::IntervalMonthDayNano(Some(parts))) if milliseconds && parts.nanoseconds % 1_000_000 != 0 => refused(
            format!("the {} counts milliseconds, and the interval has less", type_name(time)),
            "CAST it to one of microseconds first: CAST(x AS TIMESTAMP(6))",
        ),
        _ => Ok(()),
    }
}

/// Whether it is an interval of whole days: a date stays a date with it, and else becomes a timestamp.
fn is_days(interval: &Expr) -> bool {
    match interval.as_literal() {
        Some(ScalarValue::IntervalMonthDayNano(Some(parts))) => parts.nanoseconds == 0,
        Some(ScalarValue::IntervalYearMonth(_)) => true,
        Some(ScalarValue::IntervalDayTime(Some(parts))) => parts.milliseconds == 0,
        _ => false,
    }
}

fn as_timestamp(date: Expr) -> Expr {
    Expr::Cast(Cast::new(Box::new(date), DataType::Timestamp(TimeUnit::Millisecond, None)))
}

fn is_decimal(t: &DataType) -> bool {
    matches!(t, DataType::Decimal128(..))
}

/// A number with a point that is written beside a DECIMAL is one too: `price * 1.19` is exact. More than 15 digits are not
/// known to be those that were written.
fn exact_decimal(expr: &Expr) -> Option<Expr> {
    let Some(ScalarValue::Float64(Some(number))) = expr.as_literal() else { return None };
    let text = format!("{number}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits: String = whole.trim_start_matches(['-', '0']).chars().chain(fraction.chars()).collect();
    if !number.is_finite() || digits.len() > 15 {
        return None;
    }
    let value: i128 = digits.parse().ok().or_else(|| digits.is_empty().then_some(0))?;
    let value = if number.is_sign_negative() { -value } else { value };
    let (precision, scale) = (u8::try_from(digits.len().max(1)).ok()?, i8::try_from(fraction.len()).ok()?);
    Some(Expr::Literal(ScalarValue::Decimal128(Some(value), precision.max(scale.unsigned_abs()), scale), None))
}

/// `LIKE .. ESCAPE '#'` as a pattern with the one escape that is computed, the backslash.
fn escaped(mut like: Like) -> Result<Transformed<Expr>> {
    let Some(escape) = like.escape_char.filter(|c| *c != '\\') else { return Ok(Transformed::no(Expr::Like(like))) };
    let Some(pattern) = like.pattern.as_literal().and_then(|value| value.try_as_str().flatten()) else {
        return refused("ESCAPE needs a literal pattern", "write the pattern as a literal, or escape with a backslash");
    };
    let mut written = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c == escape => match chars.next() {
                Some(next) => written.extend(['\\', next]),
                None => return refused(format!("the pattern ends with its escape '{escape}'"), "escape a character behind it"),
            },
            '\\' => written.push_str("\\\\"),
            c => written.push(c),
        }
    }
    *like.pattern = Expr::Literal(ScalarValue::Utf8(Some(written)), None);
    like.escape_char = None;
    Ok(Transformed::yes(Expr::Like(like)))
}

/// Functions that DataFusion computes only as the CASE that they stand for.
fn computable(expr: Expr) -> Result<Transformed<Expr>> {
    match expr {
        Expr::ScalarFunction(call) if matches!(call.name(), "coalesce" | "nvl" | "nvl2") => {
            let func = call.func;
            match func.simplify(call.args, &SimplifyContext::default())? {
                ExprSimplifyResult::Simplified(simpler) => Ok(Transformed::yes(simpler)),
                ExprSimplifyResult::Original(args) => Ok(Transformed::no(func.call(args))),
            }
        }
        other => Ok(Transformed::no(other)),
    }
}

/// A literal in the type that it is cast to. Errors: a cast that can't be, of the literal or of any value.
fn folded_cast(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::Cast(cast) = &expr else { return Ok(Transformed::no(expr)) };
    let to = cast.field.data_type();
    if let Expr::Literal(value, _) = cast.expr.as_ref() {
        return Ok(Transformed::yes(Expr::Literal(value.cast_to(to)?, None)));
    }
    let from = cast.expr.get_type(schema)?;
    if from != *to && !arrow::compute::can_cast_types(&from, to) {
        return plan_err!("{} can't be cast to {}", type_name(&from), type_name(to));
    }
    Ok(Transformed::no(expr))
}
