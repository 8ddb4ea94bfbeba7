//! Which forms an expression may have; all others are refused by name, at their place.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, CastKind, CeilFloorKind, DateTimeField, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArguments, Query, Spanned, UnaryOperator, Value, Visit, Visitor,
};

use super::aggregate_call;
use super::codes;
use super::functions::{self, Meaning};
use super::relations::nearest;
use super::text::Text;
use super::windows;
use crate::model::diagnostic::{Code, Diagnostic, Diagnostics, Place};

/// Whether aggregates may stand in an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregates {
    Allowed,
    /// Not in this clause ("WHERE").
    NotIn(&'static str),
}

/// Refuses what the expression has no meaning for. `around` is the place of the clause that it stands in.
pub(crate) fn check(expr: &Expr, text: &Text<'_>, around: Place, aggregates: Aggregates) -> Diagnostics {
    let mut forms = Forms { text, aggregates, places: vec![around], inside_aggregate: 0, refused: 0, diagnostics: Vec::new() };
    let _ = expr.visit(&mut forms);
    forms.diagnostics
}

struct Forms<'a> {
    text: &'a Text<'a>,
    aggregates: Aggregates,
    /// The places of the expressions around, the innermost last.
    places: Vec<Place>,
    /// How many aggregates are around.
    inside_aggregate: usize,
    /// How many refused expressions are around: what stands in them is not looked at.
    refused: usize,
    diagnostics: Diagnostics,
}

impl Visitor for Forms<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let around = self.places.last().cloned();
        let place = self.text.place_of_expr(expr).or(around).unwrap_or_else(|| self.text.start());
        self.places.push(place.clone());
        if self.refused == 0
            && let Some(diagnostic) = self.refusal(expr, place)
        {
            self.diagnostics.push(diagnostic);
            self.refused += 1;
        } else if self.refused > 0 {
            self.refused += 1;
        }
        self.inside_aggregate += usize::from(is_aggregate(expr));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.places.pop();
        self.refused = self.refused.saturating_sub(1);
        self.inside_aggregate -= usize::from(is_aggregate(expr));
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Whether the expression is a call of an aggregate.
fn is_aggregate(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(call) if functions::meaning(&call_name(call)) == Meaning::Aggregate)
}

/// A call's name in lower case.
pub(crate) fn call_name(call: &Function) -> String {
    call.name
        .0
        .iter()
        .map(|part| part.as_ident().map_or_else(|| part.to_string(), |i| i.value.clone()))
        .collect::<Vec<_>>()
        .join(".")
        .to_lowercase()
}

fn unsupported(place: Place, what: &str) -> Diagnostic {
    Diagnostic::error(codes::UNSUPPORTED, place, format!("{what} is not supported"))
}

/// Why a sub-query stands nowhere but in FROM, and the join that says the same.
fn subquery_refused(expr: &Expr, place: Place) -> Diagnostic {
    let (what, help) = match expr {
        Expr::InSubquery { negated: false, .. } => (
            "IN with a sub-query",
            "JOIN (SELECT DISTINCT x FROM ..) AS other ON a.x = other.x keeps the rows that have a partner",
        ),
        Expr::InSubquery { .. } => {
            ("NOT IN with a sub-query", "LEFT JOIN the sub-query in FROM, and keep the rows WHERE other.x IS NULL")
        }
        Expr::Exists { negated: false, .. } => {
            ("EXISTS", "JOIN (SELECT DISTINCT x FROM ..) AS other ON a.x = other.x keeps the rows that have a partner")
        }
        Expr::Exists { .. } => ("NOT EXISTS", "LEFT JOIN the sub-query in FROM, and keep the rows WHERE other.x IS NULL"),
        _ => ("a sub-query as a value", "JOIN it in FROM on equal columns, and name its column"),
    };
    let message = format!("{what} is not supported: sub-queries stand in FROM");
    Diagnostic::error(codes::UNSUPPORTED, place, message).help(help)
}

impl Forms<'_> {
    /// Why the expression itself, without its children, is refused.
    fn refusal(&self, expr: &Expr, place: Place) -> Option<Diagnostic> {
        let refuse = |what: &str| Some(unsupported(place.clone(), what));
        match expr {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::CompoundFieldAccess { .. } | Expr::Nested(_) => None,
            Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_) => None,
            Expr::IsUnknown(_) | Expr::IsNotUnknown(_) | Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => None,
            Expr::InList { .. }
            | Expr::Between { .. }
            | Expr::Case { .. }
            | Expr::TypedString(_)
            | Expr::Interval(_)
            | Expr::Array(_) => None,
            Expr::Substring { substring_from: None, substring_for: None, .. } => {
                refuse("substr without a position").map(|d| d.help("write substr(text, position)"))
            }
            Expr::Position { .. } | Expr::Substring { .. } | Expr::Trim { .. } | Expr::Overlay { .. } | Expr::Extract { .. } => {
                None
            }
            Expr::Like { any, .. } | Expr::ILike { any, .. } => {
                if *any {
                    refuse("LIKE ANY")
                } else {
                    None
                }
            }
            Expr::SimilarTo { .. } => refuse("SIMILAR TO").map(|d| d.help("write LIKE, or regexp_like(text, pattern)")),
            Expr::Cast { kind, array, format, .. } => match kind {
                _ if *array => refuse("a CAST to ARRAY after the type"),
                _ if format.is_some() => refuse("a CAST with FORMAT"),
                CastKind::Cast | CastKind::DoubleColon | CastKind::TryCast | CastKind::SafeCast => None,
            },
            Expr::Ceil { field, .. } | Expr::Floor { field, .. } => match field {
                CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) => None,
                _ => refuse("CEIL or FLOOR of a time").map(|d| d.help("write date_trunc('hour', t)")),
            },
            Expr::AtTimeZone { time_zone, .. } => match time_zone.as_ref() {
                Expr::Value(v) if matches!(v.value, Value::SingleQuotedString(_)) => None,
                _ => refuse("AT TIME ZONE with anything but a literal"),
            },
            Expr::BinaryOp { op, left, right } => self.operator(op, left, right, place),
            Expr::UnaryOp { op, .. } => match op {
                UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not => None,
                other => refuse(&format!("the operator {other}")),
            },
            Expr::Value(value) => match &value.value {
                Value::Number(digits, _) if digits.len() > 38 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                    refuse("a whole number of more than 38 digits").map(|d| d.help("write it as a text"))
                }
                Value::Number(..)
                | Value::SingleQuotedString(_)
                | Value::Boolean(_)
                | Value::Null
                | Value::EscapedStringLiteral(_) => None,
                Value::HexStringLiteral(_) => None,
                Value::Placeholder(name) => refuse(&format!("the parameter {name}"))
                    .map(|d| d.help("write the value itself; a template gives it: sql: {file: x.sql, template: true}")),
                _ => refuse("this kind of literal").map(|d| d.help("write text in single quotes")),
            },
            Expr::Function(call) => self.call(call, place),
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => Some(subquery_refused(expr, place)),
            Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => {
                refuse("GROUPING SETS, CUBE or ROLLUP").map(|d| d.help("make a product of its own for each grouping"))
            }
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => refuse("`*` in an expression"),
            Expr::Tuple(_) => {
                refuse("a row of values in parentheses").map(|d| d.help("compare column by column: a = 1 AND b = 2"))
            }
            Expr::Collate { .. } => refuse("COLLATE"),
            Expr::JsonAccess { .. } => {
                refuse("access to JSON with `:`").map(|d| d.help("columns have the types of the contract: write `a.b` or a['b']"))
            }
            Expr::AnyOp { .. } | Expr::AllOp { .. } => {
                refuse("ANY or ALL").map(|d| d.help("write array_has(array, value), or x IN (..)"))
            }
            Expr::RLike { .. } => refuse("RLIKE").map(|d| d.help("write regexp_like(text, pattern)")),
            Expr::Convert { .. } => refuse("CONVERT").map(|d| d.help("write CAST(x AS type)")),
            Expr::Lambda(_) => refuse("a lambda function"),
            Expr::Map(_) | Expr::Struct { .. } | Expr::Named { .. } => None,
            Expr::Dictionary(_) => refuse("this constructor").map(|d| d.help("write STRUCT(x AS a, y AS b), or MAP {'k': v}")),
            Expr::InUnnest { .. } => refuse("IN UNNEST").map(|d| d.help("write array_has(array, value)")),
            Expr::IsNormalized { .. }
            | Expr::Prefixed { .. }
            | Expr::MatchAgainst { .. }
            | Expr::OuterJoin(_)
            | Expr::Prior(_)
            | Expr::MemberOf(_) => refuse("this form of expression"),
        }
    }

    fn operator(&self, op: &BinaryOperator, left: &Expr, right: &Expr, place: Place) -> Option<Diagnostic> {
        use BinaryOperator as B;
        let null = |e: &Expr| matches!(e, Expr::Value(v) if v.value == Value::Null);
        match op {
            B::Eq | B::NotEq if null(left) || null(right) => {
                let is = if *op == B::Eq { "IS NULL" } else { "IS NOT NULL" };
                let message = format!("`{op} NULL` is never true: nothing is equal to NULL, or known to differ from it");
                Some(Diagnostic::error(codes::NEVER_TRUE, place, message).help(format!("write `{is}`")))
            }
            B::Plus | B::Minus | B::Multiply | B::Divide | B::Modulo | B::StringConcat => None,
            B::Gt | B::Lt | B::GtEq | B::LtEq | B::Eq | B::NotEq | B::And | B::Or => None,
            B::BitwiseOr | B::BitwiseAnd | B::PGBitwiseXor | B::PGBitwiseShiftLeft | B::PGBitwiseShiftRight => None,
            B::PGRegexMatch | B::PGRegexIMatch | B::PGRegexNotMatch | B::PGRegexNotIMatch => None,
            B::BitwiseXor | B::PGExp => Some(unsupported(place, "the operator ^").help("write power(x, y)")),
            B::DuckIntegerDivide | B::MyIntegerDivide => {
                Some(unsupported(place, "the operator DIV").help("`/` of two integers gives an integer already"))
            }
            B::Spaceship => Some(unsupported(place, "the operator <=>").help("write `a IS NOT DISTINCT FROM b`")),
            B::Arrow | B::LongArrow | B::HashArrow | B::HashLongArrow => Some(
                unsupported(place, &format!("the operator {op}"))
                    .help("columns have the types of the contract: write `a.b` or a['b']"),
            ),
            other => Some(unsupported(place, &format!("the operator {other}"))),
        }
    }

    fn call(&self, call: &Function, place: Place) -> Option<Diagnostic> {
        let name = call_name(call);
        let at = self.text.known_place(&call.name).unwrap_or_else(|| place.clone());
        let error = |code: Code, message: String| Some(Diagnostic::error(code, at.clone(), message));
        if call.over.is_some() {
            return Some(super::top_n::over_refused(at, &name));
        }
        if name == "unnest" {
            let help = "write it in FROM: `FROM a CROSS JOIN UNNEST(a.list) AS t(element)`";
            return error(codes::UNSUPPORTED, "UNNEST outside of FROM is not supported".into()).map(|d| d.help(help));
        }
        match functions::meaning(&name) {
            Meaning::NotDeterministic => error(codes::NOT_DETERMINISTIC, format!("{name} is not determined by its input"))
                .map(|d| d.help("use `rowtime`, the event time of the row: the same input must always give the same result")),
            Meaning::NotYet => error(codes::UNSUPPORTED, format!("the function {name} is not supported yet"))
                .map(|d| d.help(format!("aggregates are {}", functions::AGGREGATES.join(", ")))),
            Meaning::Unknown if windows::is_window(&name) => Some(windows::misplaced(at, &name)),
            Meaning::Unknown => {
                let aliases = functions::AGGREGATE_ALIASES.iter().map(|(alias, _)| *alias);
                let known = functions::scalar_names().chain(functions::AGGREGATES.iter().copied()).chain(aliases);
                let help = match nearest(&name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "docs/functions.md lists the functions".into(),
                };
                error(codes::UNKNOWN_FUNCTION, format!("unknown function `{name}`")).map(|d| d.help(help))
            }
            Meaning::Aggregate => self.aggregate(call, &name, at.clone()).or_else(|| self.arguments(call, &name, place)),
            Meaning::Scalar => self.arguments(call, &name, place),
        }
    }

    fn aggregate(&self, call: &Function, name: &str, at: Place) -> Option<Diagnostic> {
        if let Aggregates::NotIn(clause) = self.aggregates {
            let help = match clause {
                "WHERE" => "HAVING filters groups",
                _ => "aggregates stand in SELECT and HAVING",
            };
            return Some(
                Diagnostic::error(codes::GROUPING, at, format!("the aggregate {name} can't stand in {clause}")).help(help),
            );
        }
        if self.inside_aggregate > 0 {
            return Some(
                Diagnostic::error(codes::GROUPING, at, format!("the aggregate {name} stands inside another one"))
                    .help("make the inner one a product of its own"),
            );
        }
        aggregate_call::check(call, name, at, self.text)
    }

    /// Refuses what a call may hold besides plain arguments.
    fn arguments(&self, call: &Function, name: &str, place: Place) -> Option<Diagnostic> {
        let refuse = |what: String| Some(unsupported(place.clone(), &what));
        let aggregate = functions::aggregate(name).is_some();
        if call.uses_odbc_syntax {
            return refuse("{fn ..}".into());
        }
        if let Some(filter) = call.filter.as_ref().filter(|_| !aggregate) {
            let message = format!("{name} is no aggregate, so it has no FILTER");
            let place = self.text.place(filter.as_ref());
            return Some(
                Diagnostic::error(codes::UNSUPPORTED, place, message)
                    .help(format!("write CASE WHEN condition THEN {name}(..) END")),
            );
        }
        if call.null_treatment.is_some() {
            let refused = refuse("IGNORE NULLS or RESPECT NULLS".into());
            return refused.map(|d| if aggregate { d.help(format!("write {name}(x) FILTER (WHERE x IS NOT NULL)")) } else { d });
        }
        if !call.within_group.is_empty() {
            return refuse("WITHIN GROUP".into()).map(|d| d.help("write approx_percentile(x, 0.5), or array_agg(x ORDER BY y)"));
        }
        if !matches!(call.parameters, FunctionArguments::None) {
            return refuse("a call with two lists of arguments".into());
        }
        let list = match &call.args {
            FunctionArguments::List(list) => list,
            FunctionArguments::None => return refuse(format!("{name} without parentheses")),
            FunctionArguments::Subquery(_) => return refuse("a sub-query as an argument".into()),
        };
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) && !aggregate {
            return refuse(format!("{name}(DISTINCT ..)"));
        }
        let ordered = |clause: &&FunctionArgumentClause| aggregate && matches!(clause, FunctionArgumentClause::OrderBy(_));
        if let Some(clause) = list.clauses.iter().find(|clause| !ordered(clause)) {
            return refuse(format!("{clause} inside a call"));
        }
        let plain = |arg: &FunctionArg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(_)) => true,
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => name == "count",
            _ => false,
        };
        match list.args.iter().find(|arg| !plain(arg)) {
            Some(arg) => {
                let span = arg.span();
                let place = if span.start.line > 0 { self.text.place_of(span) } else { place };
                Some(
                    unsupported(place, &format!("the argument `{arg}` of {name}"))
                        .help("write the arguments in their order, without names"),
                )
            }
            None => None,
        }
    }
}
