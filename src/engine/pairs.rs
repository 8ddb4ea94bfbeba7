//! Joined rows: what all joins share. A pair is two row numbers; the rest of a join's condition is evaluated on the few
//! columns that it reads before the pair's columns are gathered.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::error::ArrowError;
use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::arena::{Arena, RowId};
use super::batch::rows_of;
use super::error::{CompileError, Failure};
use super::expression::{Expression, nullable};

/// The part of a join's condition that is not an equality of keys, and the pair's columns that it reads.
#[derive(Debug)]
pub(crate) struct Residual {
    condition: Expression,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl Residual {
    /// Compiles a condition over a join's output.
    pub(crate) fn compile(condition: &Expr, schema: &DFSchema) -> Result<Self, CompileError> {
        let condition = Expression::compile_condition(condition, schema)?;
        let columns = condition.columns();
        let schema = Arc::new(nullable(schema).project(&columns)?);
        Ok(Residual { condition: condition.over_columns(&columns)?, columns, schema })
    }

    /// As SQL.
    pub(crate) fn text(&self) -> &str {
        self.condition.text()
    }

    /// For each pair whether the condition holds.
    pub(crate) fn holds(&self, left: Rows<'_>, right: Rows<'_>) -> Result<BooleanArray, Failure> {
        self.condition.holds(&self.rows(left, right)?)
    }

    /// For each pair whether the condition holds; `None` where it can't be computed, with why in `failures`.
    pub(crate) fn try_each(
        &self,
        left: Rows<'_>,
        right: Rows<'_>,
        failures: &mut Vec<Failure>,
    ) -> Result<Vec<Option<bool>>, Failure> {
        let rows = self.rows(left, right)?;
        let mut results = Vec::with_capacity(rows.num_rows());
        self.halve(&rows, &mut results, failures);
        Ok(results)
    }

    /// The pairs' columns that the condition reads.
    fn rows(&self, left: Rows<'_>, right: Rows<'_>) -> Result<RecordBatch, ArrowError> {
        let width = left.width();
        let mut gathered = left.gather(self.columns.iter().copied().filter(|c| *c < width))?;
        gathered.extend(right.gather(self.columns.iter().filter_map(|c| c.checked_sub(width)))?);
        rows_of(&self.schema, gathered, left.len())
    }

    fn halve(&self, rows: &RecordBatch, results: &mut Vec<Option<bool>>, failures: &mut Vec<Failure>) {
        match self.condition.holds(rows) {
            Ok(values) => results.extend(values.values().iter().map(Some)),
            Err(failure) if rows.num_rows() <= 1 => {
                failures.push(failure);
                results.push(None);
            }
            Err(_) => {
                let middle = rows.num_rows() / 2;
                self.halve(&rows.slice(0, middle), results, failures);
                self.halve(&rows.slice(middle, rows.num_rows() - middle), results, failures);
            }
        }
    }
}

/// Rows of one side of a join.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// Rows that an operator keeps.
    Kept(&'a Arena, &'a [RowId]),
    /// Rows of the batch at hand, all of them or those at these positions.
    Given(&'a RecordBatch, Option<&'a UInt32Array>),
}

impl Rows<'_> {
    fn len(&self) -> usize {
        match self {
            Rows::Kept(_, rows) => rows.len(),
            Rows::Given(rows, at) => at.map_or(rows.num_rows(), UInt32Array::len),
        }
    }

    fn width(&self) -> usize {
        match self {
            Rows::Kept(arena, _) => arena.schema().fields().len(),
            Rows::Given(rows, _) => rows.num_columns(),
        }
    }

    fn gather(&self, columns: impl Iterator<Item = usize>) -> Result<Vec<ArrayRef>, ArrowError> {
        match self {
            Rows::Kept(arena, rows) => arena.gather(rows, columns),
            Rows::Given(rows, Some(at)) => columns.map(|column| take(rows.column(column), *at, None)).collect(),
            Rows::Given(rows, None) => Ok(columns.map(|column| rows.column(column).clone()).collect()),
        }
    }
}

/// What a join makes of pairs: the left side's columns, then the right's. Those that nobody above reads come out null.
#[derive(Debug)]
pub(crate) struct Output {
    schema: SchemaRef,
    wanted: Vec<bool>,
}

impl Output {
    /// `wanted` says of each column of `schema` whether anybody reads it.
    pub(crate) fn new(schema: &DFSchema, wanted: &[bool]) -> Self {
        Output { schema: nullable(schema), wanted: wanted.to_vec() }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether anybody reads a column.
    pub(crate) fn wants(&self, column: usize) -> bool {
        self.wanted.get(column).copied().unwrap_or(false)
    }

    /// Pairs as rows.
    pub(crate) fn pairs(&self, left: Rows<'_>, right: Rows<'_>) -> Result<RecordBatch, ArrowError> {
        let wanted: Vec<usize> = (0..self.schema.fields().len()).filter(|column| self.wants(*column)).collect();
        let width = left.width();
        let mut gathered = left.gather(wanted.iter().copied().filter(|c| *c < width))?;
        gathered.extend(right.gather(wanted.iter().filter_map(|c| c.checked_sub(width)))?);
        self.rows(gathered, left.len())
    }

    /// The wanted columns, and nulls for the others, as rows.
    pub(crate) fn rows(&self, gathered: Vec<ArrayRef>, length: usize) -> Result<RecordBatch, ArrowError> {
        let mut gathered = gathered.into_iter();
        let column = |(at, field): (usize, &FieldRef)| {
            if self.wants(at) { gathered.next() } else { None }.unwrap_or_else(|| new_null_array(field.data_type(), length))
        };
        let columns = self.schema.fields().iter().enumerate().map(column).collect();
        rows_of(&self.schema, columns, length)
    }
}
