//! Forms of SQL that stand for others: they are written out before an expression is planned.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    AccessExpr, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, Subscript, UnaryOperator, Value, VisitMut, VisitorMut,
};

use super::zones;

/// Writes such forms out, everywhere in an expression.
pub(crate) fn desugar(expr: &mut Expr) {
    let _ = expr.visit(&mut Desugar);
}

struct Desugar;

impl VisitorMut for Desugar {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let written = match expr {
            Expr::AtTimeZone { timestamp, time_zone } => {
                Some(call(zones::NAME, vec![timestamp.as_ref().clone(), time_zone.as_ref().clone()]))
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: number } => large_integer(number, "-"),
            Expr::Value(_) => large_integer(expr, ""),
            Expr::CompoundFieldAccess { access_chain, .. } => {
                access_chain.iter_mut().for_each(bounded_slice);
                None
            }
            _ => None,
        };
        if let Some(written) = written {
            *expr = written;
        }
        ControlFlow::Continue(())
    }
}

/// A call of a function.
fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// A whole number that is too large for a BIGINT is a DECIMAL, of as many digits as it has: DataFusion would make a DOUBLE
/// of it, which has 15.
fn large_integer(number: &Expr, sign: &str) -> Option<Expr> {
    let Expr::Value(value) = number else { return None };
    let Value::Number(digits, _) = &value.value else { return None };
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || format!("{sign}{digits}").parse::<i64>().is_ok() {
        return None;
    }
    let text = Value::SingleQuotedString(format!("{sign}{digits}")).with_span(value.span);
    Some(Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::Value(text)),
        data_type: DataType::Decimal(ExactNumberInfo::PrecisionAndScale(digits.len() as u64, 0)),
        array: false,
        format: None,
    })
}

/// `a[2:]` goes to the last element, `a[:2]` begins with the first.
fn bounded_slice(access: &mut AccessExpr) {
    if let AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, .. }) = access {
        let number = |digits: &str| Expr::Value(Value::Number(digits.into(), false).with_empty_span());
        lower_bound.get_or_insert_with(|| number("1"));
        upper_bound.get_or_insert_with(|| Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number("1")) });
    }
}
