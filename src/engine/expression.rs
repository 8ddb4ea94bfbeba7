//! Scalar expressions: compiled once, evaluated per batch.
//!
//! DataFusion's compiled expressions do the work; this file makes them fit for a stream: arithmetic on integers fails
//! instead of wrapping, functions that depend on a clock or on chance are refused, failures name the expression.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, Operator, Volatility};
use datafusion_physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal, NegativeExpr};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr, create_physical_expr};

use super::error::{CompileError, Failure};
use super::limited::Limited;
use super::logical::Logical;
use crate::sql::show;

/// An expression over the rows of one schema.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    compiled: Arc<dyn PhysicalExpr>,
    text: String,
    data_type: DataType,
    /// Whether it is too large to be sure of the caller's stack.
    large: bool,
}

/// An expression of so many parts may be so deep that its evaluation needs a stack of its own.
const LARGE: usize = 100;

/// Runs on a stack that is large enough for the deepest expression that `sql` lets through. Its pages are taken as they
/// are used.
pub(crate) fn on_own_stack<T>(work: impl FnOnce() -> T) -> T {
    const BYTES: usize = 64 * 1024 * 1024;
    stacker::grow(BYTES, work)
}

impl Expression {
    /// Compiles an expression over rows of `schema`.
    pub(crate) fn compile(expr: &Expr, schema: &DFSchema) -> Result<Self, CompileError> {
        refuse_unrepeatable(expr)?;
        let compiled = create_physical_expr(expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
        let rows = nullable(schema);
        let mut parts = 0;
        let compiled = compiled.transform_up(|node| {
            parts += 1;
            Ok(checked(node, &rows))
        })?;
        let data_type = compiled.data.data_type(&rows)?;
        Ok(Expression { compiled: compiled.data, text: shortened(text_of(expr)), data_type, large: parts > LARGE })
    }

    /// Compiles a condition: an expression of type boolean.
    pub(crate) fn compile_condition(expr: &Expr, schema: &DFSchema) -> Result<Self, CompileError> {
        let condition = Expression::compile(expr, schema)?;
        match condition.data_type {
            DataType::Boolean => Ok(condition),
            _ => Err(CompileError(format!("{} is not a condition", condition.text))),
        }
    }

    /// The column at a position.
    pub(crate) fn column(at: usize, schema: &DFSchema) -> Result<Self, CompileError> {
        match schema.columns().into_iter().nth(at) {
            Some(column) => Expression::compile(&Expr::Column(column), schema),
            None => Err(CompileError(format!("there is no column at position {at}"))),
        }
    }

    /// As SQL, for messages.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The type of its values.
    pub(crate) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// The position of the column that it is, if it is nothing but a column.
    pub(crate) fn as_column(&self) -> Option<usize> {
        self.compiled.downcast_ref::<Column>().map(Column::index)
    }

    /// The position of the column that it is, or that it is a cast of in which different values stay different.
    pub(crate) fn as_lossless_column(&self, schema: &DFSchema) -> Option<usize> {
        let Some(cast) = self.compiled.downcast_ref::<CastExpr>() else { return self.as_column() };
        let at = cast.expr().downcast_ref::<Column>()?.index();
        is_lossless(schema.fields().get(at)?.data_type(), cast.cast_type()).then_some(at)
    }

    /// Positions of the columns that it reads, in order.
    pub(crate) fn columns(&self) -> Vec<usize> {
        let mut columns = BTreeSet::new();
        // The closure never fails.
        let _ = self.compiled.apply(|node| {
            columns.extend(node.downcast_ref::<Column>().map(Column::index));
            Ok(TreeNodeRecursion::Continue)
        });
        columns.into_iter().collect()
    }

    /// The same over rows that have only the columns at `kept`, which are all that it reads.
    pub(crate) fn over_columns(self, kept: &[usize]) -> Result<Self, CompileError> {
        let compiled = self.compiled.transform_up(|node| {
            let moved = node.downcast_ref::<Column>().and_then(|column| {
                let at = kept.iter().position(|k| *k == column.index())?;
                Some(Arc::new(Column::new(column.name(), at)) as Arc<dyn PhysicalExpr>)
            });
            Ok(moved.map_or_else(|| Transformed::no(node), Transformed::yes))
        })?;
        Ok(Expression { compiled: compiled.data, ..self })
    }

    /// Its value for each row.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, Failure> {
        if let Some(column) = self.as_column().and_then(|at| rows.columns().get(at)) {
            return Ok(column.clone());
        }
        let evaluate = || self.compiled.evaluate(rows).and_then(|value| value.into_array(rows.num_rows()));
        let value = if self.large { on_own_stack(evaluate) } else { evaluate() };
        value.map_err(|error| Failure::of(&self.text, &error))
    }

    /// For each row whether it is true; never null.
    pub(crate) fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, Failure> {
        let values = self.evaluate(rows)?;
        let Some(values) = values.as_any().downcast_ref::<BooleanArray>() else {
            return Err(Failure { expression: self.text.clone(), reason: "is not a condition".into() });
        };
        Ok(match values.nulls() {
            None => values.clone(),
            Some(valid) => BooleanArray::new(values.values() & valid.inner(), None),
        })
    }
}

/// The Arrow schema of a node's rows. All columns may be null, since a delete carries its key only.
pub(crate) fn nullable(schema: &DFSchema) -> SchemaRef {
    nullable_fields(schema.as_arrow())
}

/// The same columns, all of which may be null.
pub(crate) fn nullable_fields(schema: &Schema) -> SchemaRef {
    let fields: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

/// An expression as users wrote it, nearly.
pub(crate) fn text_of(expr: &Expr) -> String {
    show::sql(expr)
}

/// At most 200 characters of a text.
fn shortened(text: String) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{} ..", text.get(..end).unwrap_or_default()),
    }
}

/// Whether different values of one type are different values of another. An integer that does not fit fails to be cast.
fn is_lossless(from: &DataType, to: &DataType) -> bool {
    let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    from == to
        || (from.is_integer() && to.is_integer())
        || (text(from) && text(to))
        || (*from == DataType::Float32 && *to == DataType::Float64)
}

/// Refuses what would give another result for the same row another time.
fn refuse_unrepeatable(expr: &Expr) -> Result<(), CompileError> {
    let mut found = None;
    expr.apply(|node| {
        if let Expr::ScalarFunction(function) = node
            && function.func.signature().volatility != Volatility::Immutable
        {
            found = Some(function.func.name().to_owned());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match found {
        None => Ok(()),
        Some(name) => Err(CompileError(format!("{name}() gives another value each time, so a row computed twice would differ"))),
    }
}

/// The node in its form that fails on overflow, and computes nothing that is not asked for.
fn checked(node: Arc<dyn PhysicalExpr>, rows: &Schema) -> Transformed<Arc<dyn PhysicalExpr>> {
    if let Some(binary) = node.downcast_ref::<BinaryExpr>() {
        return match binary.op() {
            Operator::And => Transformed::yes(Arc::new(Logical::and(binary.left().clone(), binary.right().clone()))),
            Operator::Or => Transformed::yes(Arc::new(Logical::or(binary.left().clone(), binary.right().clone()))),
            Operator::StringConcat => Transformed::yes(Arc::new(Limited::new(node))),
            op if op.is_numerical_operators() => {
                let checks = matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply);
                let strict = Arc::new(binary.clone().with_fail_on_overflow(checks));
                match strict.data_type(rows) {
                    Ok(DataType::Decimal128(..) | DataType::Decimal256(..)) => Transformed::yes(Arc::new(Limited::new(strict))),
                    _ => Transformed::yes(strict),
                }
            }
            _ => Transformed::no(node),
        };
    }
    if let Some(negative) = node.downcast_ref::<NegativeExpr>() {
        let integer = negative.data_type(rows).ok().filter(DataType::is_signed_integer);
        if let Some(zero) = integer.and_then(|t| ScalarValue::new_zero(&t).ok()) {
            let difference = BinaryExpr::new(Arc::new(Literal::new(zero)), Operator::Minus, negative.arg().clone());
            return Transformed::yes(Arc::new(difference.with_fail_on_overflow(true)));
        }
    }
    if let Some(call) = node.downcast_ref::<ScalarFunctionExpr>()
        && LENGTHENS.contains(&call.name())
    {
        return Transformed::yes(Arc::new(Limited::new(node)));
    }
    Transformed::no(node)
}

/// Functions whose value is as long as their arguments together.
const LENGTHENS: &[&str] =
    &["concat", "concat_ws", "array_concat", "make_array", "array_append", "array_prepend", "round", "power"];

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::Field;
    use datafusion_expr::{col, lit};

    fn schema() -> DFSchema {
        let fields = vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Int64, true)];
        DFSchema::try_from(Schema::new(fields)).unwrap()
    }

    fn evaluate(expr: &Expr, a: Option<i64>, b: Option<i64>) -> Result<Option<i64>, String> {
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![a])), Arc::new(Int64Array::from(vec![b]))];
        let rows = RecordBatch::try_new(nullable(&schema()), columns).unwrap();
        let value = Expression::compile(expr, &schema()).unwrap().evaluate(&rows);
        let value = value.map_err(|failure| format!("{}: {}", failure.expression, failure.reason))?;
        let value = value.as_any().downcast_ref::<Int64Array>().unwrap();
        Ok(value.is_valid(0).then(|| value.value(0)))
    }

    #[test]
    fn arithmetic_fails_instead_of_wrapping() {
        let max = Some(i64::MAX);
        let fails = |expr: Expr| evaluate(&expr, max, Some(-2)).unwrap_err();
        insta::assert_snapshot!(fails(col("a") + lit(1i64)), @"a + 1: overflow happened on: 9223372036854775807 + 1");
        insta::assert_snapshot!(fails(col("a") - col("b")), @"a - b: overflow happened on: 9223372036854775807 - -2");
        insta::assert_snapshot!(fails(col("a") * col("b")), @"a * b: overflow happened on: 9223372036854775807 * -2");
        insta::assert_snapshot!(fails(col("a") / (col("b") + lit(2i64))), @"a / (b + 2): division by zero");
        insta::assert_snapshot!(evaluate(&-col("a"), Some(i64::MIN), None).unwrap_err(), @"-(a): overflow happened on: 0 - -9223372036854775808");
        assert_eq!(evaluate(&-col("a"), Some(7), None), Ok(Some(-7)));
        assert_eq!(evaluate(&-col("a"), None, None), Ok(None));
    }

    #[test]
    fn a_condition_that_is_null_does_not_hold() {
        let condition = Expression::compile_condition(&col("a").gt(col("b")), &schema()).unwrap();
        let a = Int64Array::from(vec![Some(1), Some(3), None]);
        let b = Int64Array::from(vec![Some(2), Some(2), Some(2)]);
        let rows = RecordBatch::try_new(nullable(&schema()), vec![Arc::new(a), Arc::new(b)]).unwrap();
        assert_eq!(condition.holds(&rows).unwrap(), BooleanArray::from(vec![false, true, false]));
        insta::assert_snapshot!(Expression::compile_condition(&col("a"), &schema()).unwrap_err(), @"a is not a condition");
    }

    #[test]
    fn fewer_columns_are_enough_when_it_reads_no_more() {
        let whole = Expression::compile(&(col("b") + lit(1i64)), &schema()).unwrap();
        assert_eq!(whole.columns(), vec![1]);
        let narrow = whole.over_columns(&[1]).unwrap();
        let rows = Arc::new(Schema::new(vec![Field::new("b", DataType::Int64, true)]));
        let rows = RecordBatch::try_new(rows, vec![Arc::new(Int64Array::from(vec![4]))]).unwrap();
        assert_eq!(narrow.evaluate(&rows).unwrap().as_ref(), &Int64Array::from(vec![5]) as &dyn Array);
    }
}
