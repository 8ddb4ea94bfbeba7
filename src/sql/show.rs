//! Expressions as SQL, for `mesh explain`, messages and the names of inner columns.

use datafusion_common::ScalarValue;
use datafusion_expr::expr::{AggregateFunction, Like, Sort};
use datafusion_expr::{BinaryExpr, Case, Expr, Operator};

use crate::model::row::type_name;

/// An expression as SQL.
pub(crate) fn sql(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => column.flat_name(),
        Expr::Literal(value, _) => literal(value),
        Expr::Alias(alias) => sql(&alias.expr),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let weaker = |side: &Expr, or_equal: bool| match side {
                Expr::BinaryExpr(inner) => {
                    inner.op.precedence() < op.precedence()
                        || (or_equal && inner.op.precedence() == op.precedence() && !matches!(op, Operator::And | Operator::Or))
                }
                Expr::Between(_) | Expr::Like(_) | Expr::SimilarTo(_) | Expr::InList(_) | Expr::Not(_) => true,
                _ => false,
            };
            let side = |e: &Expr, or_equal| if weaker(e, or_equal) { format!("({})", sql(e)) } else { sql(e) };
            let op = if op.to_string() == "!=" { "<>".to_string() } else { op.to_string() };
            format!("{} {op} {}", side(left, false), side(right, true))
        }
        Expr::Not(inner) => format!("NOT ({})", sql(inner)),
        Expr::Negative(inner) => format!("-({})", sql(inner)),
        Expr::Cast(cast) => format!("CAST({} AS {})", sql(&cast.expr), type_name(cast.field.data_type())),
        Expr::TryCast(cast) => format!("TRY_CAST({} AS {})", sql(&cast.expr), type_name(cast.field.data_type())),
        Expr::IsNull(e) => format!("{} IS NULL", operand(e)),
        Expr::IsNotNull(e) => format!("{} IS NOT NULL", operand(e)),
        Expr::IsTrue(e) => format!("{} IS TRUE", operand(e)),
        Expr::IsFalse(e) => format!("{} IS FALSE", operand(e)),
        Expr::IsUnknown(e) => format!("{} IS UNKNOWN", operand(e)),
        Expr::IsNotTrue(e) => format!("{} IS NOT TRUE", operand(e)),
        Expr::IsNotFalse(e) => format!("{} IS NOT FALSE", operand(e)),
        Expr::IsNotUnknown(e) => format!("{} IS NOT UNKNOWN", operand(e)),
        Expr::Between(b) => {
            format!("{} {}BETWEEN {} AND {}", operand(&b.expr), not(b.negated), operand(&b.low), operand(&b.high))
        }
        Expr::Like(like) => pattern(like, if like.case_insensitive { "ILIKE" } else { "LIKE" }),
        Expr::SimilarTo(like) => pattern(like, "SIMILAR TO"),
        Expr::InList(list) => format!("{} {}IN ({})", operand(&list.expr), not(list.negated), list_of(&list.list)),
        Expr::Case(case) => case_sql(case),
        Expr::ScalarFunction(call) => format!("{}({})", call.name(), list_of(&call.args)),
        Expr::AggregateFunction(call) => match call.params.args.as_slice() {
            [Expr::Literal(value, _)] if call.func.name() == "count" && !value.is_null() && !call.params.distinct => {
                aggregate(call, &[])
            }
            arguments => aggregate(call, arguments),
        },
        other => other.to_string(),
    }
}

fn aggregate(call: &AggregateFunction, arguments: &[Expr]) -> String {
    let distinct = if call.params.distinct { "DISTINCT " } else { "" };
    let arguments = if arguments.is_empty() { "*".to_string() } else { list_of(arguments) };
    let ordered = |sort: &Sort| {
        let nulls = match (sort.asc, sort.nulls_first) {
            (true, true) => " NULLS FIRST",
            (false, false) => " NULLS LAST",
            _ => "",
        };
        format!("{}{}{nulls}", sql(&sort.expr), if sort.asc { "" } else { " DESC" })
    };
    let order = match call.params.order_by.as_slice() {
        [] => String::new(),
        order => format!(" ORDER BY {}", order.iter().map(ordered).collect::<Vec<_>>().join(", ")),
    };
    let filter = call.params.filter.as_ref().map(|filter| format!(" FILTER (WHERE {})", sql(filter))).unwrap_or_default();
    format!("{}({distinct}{arguments}{order}){filter}", call.func.name())
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

fn list_of(list: &[Expr]) -> String {
    list.iter().map(sql).collect::<Vec<_>>().join(", ")
}

/// An expression in a place where an operator would need parentheses.
fn operand(expr: &Expr) -> String {
    match expr {
        Expr::Column(_)
        | Expr::Literal(..)
        | Expr::Cast(_)
        | Expr::TryCast(_)
        | Expr::ScalarFunction(_)
        | Expr::AggregateFunction(_) => sql(expr),
        other => format!("({})", sql(other)),
    }
}

fn pattern(like: &Like, word: &str) -> String {
    let escape = like.escape_char.map(|c| format!(" ESCAPE '{c}'")).unwrap_or_default();
    format!("{} {}{word} {}{escape}", operand(&like.expr), not(like.negated), operand(&like.pattern))
}

fn case_sql(case: &Case) -> String {
    let mut text = "CASE".to_string();
    if let Some(operand) = &case.expr {
        text += &format!(" {}", sql(operand));
    }
    for (when, then) in &case.when_then_expr {
        text += &format!(" WHEN {} THEN {}", sql(when), sql(then));
    }
    if let Some(otherwise) = &case.else_expr {
        text += &format!(" ELSE {}", sql(otherwise));
    }
    text + " END"
}

fn literal(value: &ScalarValue) -> String {
    match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            format!("'{}'", text.replace('\'', "''"))
        }
        ScalarValue::Boolean(Some(value)) => value.to_string().to_uppercase(),
        ScalarValue::Int8(Some(_)) | ScalarValue::Int16(Some(_)) | ScalarValue::Int32(Some(_)) | ScalarValue::Int64(Some(_)) => {
            value.to_string()
        }
        ScalarValue::Float64(Some(number)) => format!("{number:?}"),
        ScalarValue::Decimal128(Some(_), _, _) => format!("DECIMAL '{value}'"),
        ScalarValue::IntervalMonthDayNano(Some(i)) => {
            let parts = [(i64::from(i.months), "MONTH"), (i64::from(i.days), "DAY"), (i.nanoseconds / 1_000_000, "MILLISECOND")];
            let parts: Vec<String> = parts.iter().filter(|(n, _)| *n != 0).map(|(n, unit)| format!("{n} {unit}")).collect();
            let parts = if parts.is_empty() { vec!["0 SECOND".into()] } else { parts };
            format!("INTERVAL '{}'", parts.join(" "))
        }
        null if null.is_null() => "NULL".into(),
        ScalarValue::TimestampMillisecond(..) | ScalarValue::TimestampMicrosecond(..) => {
            let text = value.cast_to(&arrow::datatypes::DataType::Utf8).unwrap_or_else(|_| value.clone());
            format!("{} '{text}'", type_name(&value.data_type()))
        }
        other => format!("{} '{other}'", type_name(&other.data_type())),
    }
}
