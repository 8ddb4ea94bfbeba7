//! Expressions: from the parser's tree to DataFusion's, typed and coerced, or a diagnostic at the narrowest part that is wrong.

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion_expr::{
    AggregateUDF, BinaryExpr, Expr, ExprSchemable, HigherOrderUDF, Operator, ScalarUDF, TableSource, WindowUDF,
};
use datafusion_optimizer::analyzer::type_coercion::TypeCoercionRewriter;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{Expr as Ast, Value, Visit, Visitor};

use super::aggregate;
use super::check::{Refusal, check_types};
use super::codes;
use super::desugar::desugar;
use super::forms::{self, Aggregates};
use super::functions;
use super::names::Scope;
use super::rewrite;
use super::types::Types;
use crate::model::diagnostic::{Diagnostic, Place};
use crate::model::row::type_name;

/// An expression that was bound: its typed form, the tree that it came from with its names written out, and its place.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) expr: Expr,
    pub(crate) ast: Ast,
    pub(crate) place: Place,
}

impl Scope<'_> {
    /// Binds an expression against `schema`; what is wrong with it is kept in the scope's diagnostics.
    pub(crate) fn bind(&mut self, ast: &Ast, schema: &DFSchema, around: &Place, aggregates: Aggregates) -> Option<Bound> {
        let refusals = forms::check(ast, self.text, around.clone(), aggregates);
        if !refusals.is_empty() {
            self.diagnostics.extend(refusals);
            return None;
        }
        let mut ast = ast.clone();
        if !self.resolve(&mut ast) {
            return None;
        }
        let place = self.text.place_of_expr(&ast).unwrap_or_else(|| around.clone());
        match plan(&ast, schema) {
            Ok(expr) if depth(&expr) > MAX_DEPTH => {
                let message = format!("the expression nests {} deep, more than {MAX_DEPTH}", depth(&expr));
                let help = "write `x IN (..)` instead of a chain of OR, or compute a part of it in a product of its own";
                self.diagnostics.push(Diagnostic::error(codes::TOO_LARGE, place, message).help(help));
                None
            }
            Ok(expr) => Some(Bound { expr, ast, place }),
            Err(error) => {
                let diagnostic = self.narrowest(&ast, schema, place, error);
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    /// Binds a condition: an expression that is BOOLEAN. `clause` names where it stands.
    pub(crate) fn bind_condition(
        &mut self,
        ast: &Ast,
        schema: &DFSchema,
        clause: &'static str,
        aggregates: Aggregates,
    ) -> Option<Bound> {
        let around = self.text.place_of_expr(ast).unwrap_or_else(|| self.text.start());
        let bound = self.bind(ast, schema, &around, aggregates)?;
        match bound.expr.get_type(schema) {
            Ok(DataType::Boolean) => Some(bound),
            Ok(other) => {
                let message = format!("{clause} needs BOOLEAN, not {}", type_name(&other));
                self.diagnostics.push(
                    Diagnostic::error(codes::TYPE_MISMATCH, bound.place, message).help("write a comparison, such as `x > 0`"),
                );
                None
            }
            Err(_) => None,
        }
    }

    /// The diagnostic for the innermost expression that can't be planned although all that it holds can.
    fn narrowest(&self, ast: &Ast, schema: &DFSchema, place: Place, error: DataFusionError) -> Diagnostic {
        let children = children(ast);
        for child in &children {
            if let Err(error) = plan(child, schema) {
                let place = self.text.place_of_expr(child).unwrap_or(place);
                return self.narrowest(child, schema, place, error);
            }
        }
        let types: Vec<String> = children
            .iter()
            .map(|c| plan(c, schema).and_then(|e| e.get_type(schema)).map_or_else(|_| "?".into(), |t| type_name(&t)))
            .collect();
        explain(ast, &types, place, &error)
    }
}

/// What is wrong with an expression whose parts are right, given the parts' types.
fn explain(ast: &Ast, types: &[String], place: Place, error: &DataFusionError) -> Diagnostic {
    let mismatch = |message: String| Diagnostic::error(codes::TYPE_MISMATCH, place.clone(), message);
    if let Some(refusal) = refusal(error) {
        return mismatch(refusal.message.clone()).help(refusal.help.clone());
    }
    let listed = types.join(", ");
    match (ast, types) {
        (Ast::BinaryOp { left, right, .. }, [left_type, right_type])
            if time_literal(left, right_type) || time_literal(right, left_type) =>
        {
            let (literal, t) = if time_literal(left, right_type) { (left, right_type) } else { (right, left_type) };
            mismatch(format!("{literal} is not a {t}"))
                .help("write TIMESTAMP '2024-01-31 12:00:00', DATE '2024-01-31' or TIME '12:00:00'")
        }
        (Ast::BinaryOp { op, .. }, [left, right]) => {
            let help = match (left.as_str(), right.as_str()) {
                ("STRING", "STRING") => "text is joined by ||; CAST(x AS BIGINT) makes a number of it".to_string(),
                ("STRING", other) | (other, "STRING") => {
                    format!("write CAST(x AS {other}), or CAST(x AS STRING), for one of them")
                }
                _ => "CAST one of them to the type of the other".to_string(),
            };
            mismatch(format!("`{op}` has no meaning for {left} and {right}")).help(help)
        }
        (Ast::UnaryOp { op, .. }, [one]) => mismatch(format!("`{op}` has no meaning for {one}")),
        (Ast::Function(call), _) => {
            let name = forms::call_name(call);
            if let Some(filter) = Some(cleaned(error)).filter(|text| text.starts_with("fILTER")) {
                return mismatch(filter.replacen('f', "F", 1)).help("write a comparison, such as FILTER (WHERE x > 0)");
            }
            let diagnostic = mismatch(format!("{name} does not take ({listed})"));
            match functions::scalar(&name).map(|f| syntax(&name, &f.udf)) {
                Some(syntax) => diagnostic.help(format!("it is written {syntax}")),
                None => diagnostic.help(aggregate::takes(&name)),
            }
        }
        (Ast::Cast { expr, data_type, .. }, _) if matches!(expr.as_ref(), Ast::Value(_)) => {
            mismatch(format!("{expr} can't be cast to {data_type}"))
        }
        (Ast::Cast { data_type, .. }, [one]) => mismatch(format!("{one} can't be cast to {data_type}")),
        (Ast::Like { .. } | Ast::ILike { .. } | Ast::SimilarTo { .. }, _) => {
            mismatch(format!("a pattern matches STRING, not {listed}")).help("write CAST(x AS STRING)")
        }
        (Ast::Between { .. }, [value, low, high]) => {
            mismatch(format!("{value} can't be compared with {low} and {high}")).help("CAST them to one type")
        }
        (Ast::InList { .. }, [value, rest @ ..]) => {
            mismatch(format!("{value} can't be compared with {}", rest.join(", "))).help("CAST them to one type")
        }
        (Ast::Case { operand, conditions, .. }, types) => {
            let skipped = usize::from(operand.is_some());
            let (pairs, otherwise) = types.split_at((skipped + 2 * conditions.len()).min(types.len()));
            let branches: Vec<&str> = pairs.iter().skip(skipped + 1).step_by(2).chain(otherwise).map(String::as_str).collect();
            mismatch(format!("the branches of CASE do not fit, or its conditions: {}", branches.join(", ")))
                .help("CAST them to one type")
        }
        (
            Ast::IsTrue(_) | Ast::IsFalse(_) | Ast::IsNotTrue(_) | Ast::IsNotFalse(_) | Ast::IsUnknown(_) | Ast::IsNotUnknown(_),
            [one],
        ) => mismatch(format!("{one} is not BOOLEAN")),
        (Ast::IsDistinctFrom(..) | Ast::IsNotDistinctFrom(..), [left, right]) => {
            mismatch(format!("{left} can't be compared with {right}"))
        }
        (Ast::Interval(_), _) => {
            mismatch("this is not an interval".into()).help("write INTERVAL '10' MINUTE, or INTERVAL '1 hour 30 minutes'")
        }
        (Ast::Array(_) | Ast::Map(_), types) => mismatch(format!("the elements do not fit: {}", types.join(", ")))
            .help("CAST them to one type; a STRUCT(x AS a, y AS b) holds values of several"),
        (Ast::CompoundFieldAccess { .. }, [root, ..]) => {
            mismatch(format!("{root} has no such element")).help("write map['key'], array[1] or struct['field']")
        }
        _ => mismatch(cleaned(error)),
    }
}

/// The refusal that an error is, if it is one of ours.
fn refusal(error: &DataFusionError) -> Option<&Refusal> {
    match error.find_root() {
        DataFusionError::External(error) => error.downcast_ref(),
        _ => None,
    }
}

/// Whether a text stands where a time is expected.
fn time_literal(ast: &Ast, other: &str) -> bool {
    let text = matches!(ast, Ast::Value(v) if matches!(v.value, Value::SingleQuotedString(_)));
    text && ["TIMESTAMP", "DATE", "TIME"].iter().any(|t| other.starts_with(t))
}

/// DataFusion's own words, where we have none: the first line, without its prefixes.
fn cleaned(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let line = text.lines().next().unwrap_or_default();
    let line = line.rsplit("caused by").next().unwrap_or(line).trim();
    let line = ["Error during planning: ", "This feature is not implemented: ", "SQL error: ", "Arrow error: ", "Parser error: "]
        .iter()
        .fold(line, |line, prefix| line.strip_prefix(prefix).unwrap_or(line));
    if line.contains("Span(") {
        return "this expression has no meaning".into();
    }
    let mut chars = line.trim_end_matches('.').chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_else(|| "this expression has no meaning".into())
}

/// How a function is written.
fn syntax(name: &str, udf: &ScalarUDF) -> String {
    if name == super::geo::NAME {
        return "geo_distance(lat1, lon1, lat2, lon2 [, 'km' | 'miles'])".into();
    }
    udf.documentation()
        .map_or_else(|| format!("{name}(..)"), |doc| doc.syntax_example.lines().next().unwrap_or_default().to_string())
}

/// The expressions directly inside one.
fn children(ast: &Ast) -> Vec<Ast> {
    struct Children {
        depth: usize,
        found: Vec<Ast>,
    }
    impl Visitor for Children {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Ast) -> ControlFlow<()> {
            if self.depth == 1 {
                self.found.push(expr.clone());
            }
            self.depth += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_expr(&mut self, _: &Ast) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
    }
    let mut children = Children { depth: 0, found: Vec::new() };
    let _ = ast.visit(&mut children);
    children.found
}

/// Plans, checks and coerces an expression whose names are written out.
pub(crate) fn plan(ast: &Ast, schema: &DFSchema) -> Result<Expr> {
    let options = ParserOptions::new().with_map_string_types_to_utf8view(false);
    let planner = SqlToRel::new_with_options(&*WORDS, options);
    let mut ast = ast.clone();
    desugar(&mut ast);
    let expr = planner.sql_to_expr(ast, schema, &mut PlannerContext::new())?;
    let expr = rewrite::before_coercion(expr.unalias_nested().data, schema)?;
    check_types(&expr, schema)?;
    aggregate::check(&expr, schema)?;
    let expr = expr.rewrite(&mut TypeCoercionRewriter::new(schema))?.data;
    let expr = rewrite::after_coercion(expr, schema)?;
    expr.get_type(schema)?;
    Ok(expr.transform_down(|e| Ok(balanced(e)))?.data)
}

/// The deepest expression that is let through: the engine walks it on any thread's stack.
const MAX_DEPTH: usize = 80;

/// How deep an expression is.
fn depth(expr: &Expr) -> usize {
    let mut deepest = 0;
    let _ = expr.apply_children(|child| {
        deepest = deepest.max(depth(child));
        Ok(TreeNodeRecursion::Continue)
    });
    deepest + 1
}

/// A chain of AND or of OR as a tree that is no deeper than it must be: the parser makes it as deep as it is long.
fn balanced(expr: Expr) -> Transformed<Expr> {
    let op = match &expr {
        Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => *op,
        _ => return Transformed::no(expr),
    };
    let mut operands = Vec::new();
    let mut rest = vec![expr];
    while let Some(part) = rest.pop() {
        match part {
            Expr::BinaryExpr(BinaryExpr { left, op: inner, right }) if inner == op => {
                rest.push(*right);
                rest.push(*left);
            }
            other => operands.push(other),
        }
    }
    match tree(operands, op) {
        Some(tree) => Transformed::yes(tree),
        None => Transformed::no(Expr::Literal(datafusion_common::ScalarValue::Null, None)),
    }
}

/// The operands in their order under one operator.
fn tree(mut operands: Vec<Expr>, op: Operator) -> Option<Expr> {
    if operands.len() <= 1 {
        return operands.pop();
    }
    let right = operands.split_off(operands.len().div_ceil(2));
    Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(tree(operands, op)?), op, Box::new(tree(right, op)?))))
}

/// All conditions in one.
pub(crate) fn conjunction(conditions: Vec<Expr>) -> Option<Expr> {
    tree(conditions, Operator::And)
}

/// What the planner may call, and how it reads types.
#[derive(Debug)]
struct Words {
    options: ConfigOptions,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let mut options = ConfigOptions::default();
    options.execution.time_zone = Some("UTC".into());
    let planners: Vec<Arc<dyn ExprPlanner>> = vec![
        Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
        Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
        Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
        Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
        Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
    ];
    Words { options, planners }
});

impl ContextProvider for Words {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("no relation {name}")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        functions::scalar(name).map(|f| f.udf.clone())
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        aggregate::marker(name)
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        functions::scalar_names().map(str::to_string).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        functions::AGGREGATES.iter().map(ToString::to_string).collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
