//! Projection: one column for each expression.
//!
//! On an upsert edge a delete carries its key only, so the other expressions are not evaluated for it: they come out null.
//! Where rows are taken back whole, a delete is computed like the insert that it takes back.

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::batch::{Batch, rows_of};
use super::describe::Description;
use super::error::{CompileError, Failure};
use super::expression::{Expression, nullable};
use super::operator::Operator;
use crate::sql::query::Changes;

pub(crate) struct Project {
    columns: Vec<Expression>,
    schema: SchemaRef,
    changes: Changes,
}

impl Project {
    /// `columns` over rows of `input`, which make rows of `schema`.
    pub(crate) fn compile(
        columns: &[Expr],
        input: &DFSchema,
        schema: &DFSchema,
        changes: &Changes,
    ) -> Result<Self, CompileError> {
        let columns = columns.iter().map(|expr| Expression::compile(expr, input)).collect::<Result<Vec<_>, _>>()?;
        Ok(Project { columns, schema: nullable(schema), changes: changes.clone() })
    }

    fn is_key(&self, column: usize) -> bool {
        matches!(&self.changes, Changes::Upsert(key) if key.contains(&column))
    }

    /// The columns of a batch in which some rows are deletes.
    fn with_deletes(&self, batch: &Batch) -> Result<Vec<ArrayRef>, Failure> {
        let inserted = batch.inserted();
        let inserts = batch.take(&inserted)?;
        let mut back: Vec<Option<u32>> = vec![None; batch.len()];
        for (at, row) in (0u32..).zip(&inserted) {
            if let Some(place) = back.get_mut(*row as usize) {
                *place = Some(at);
            }
        }
        let back = UInt32Array::from(back);
        let column = |(i, expression): (usize, &Expression)| match self.is_key(i) {
            true => expression.evaluate(&batch.rows),
            false => Ok(take(&expression.evaluate(&inserts.rows)?, &back, None)?),
        };
        self.columns.iter().enumerate().map(column).collect()
    }
}

impl Operator for Project {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let columns = match batch.has_deletes() && matches!(self.changes, Changes::Upsert(_)) {
            true => self.with_deletes(batch)?,
            false => self.columns.iter().map(|column| column.evaluate(&batch.rows)).collect::<Result<_, _>>()?,
        };
        let rows = rows_of(&self.schema, columns, batch.len())?;
        Ok(Some(Batch { rows, ..batch.clone() }))
    }

    fn is_pure(&self, _port: usize) -> bool {
        true
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let columns = self.columns.iter().zip(self.schema.fields()).map(|(column, field)| match column.text() {
            text if text == field.name() || text.ends_with(&format!(".{}", field.name())) => text.to_owned(),
            text => format!("{text} AS {}", field.name()),
        });
        Description::stateless("project", &self.schema, &self.changes, inputs)
            .detail("columns", columns.collect::<Vec<_>>().join(", "))
    }
}
