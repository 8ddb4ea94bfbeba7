//! Union: the rows of all inputs, in the order in which they come.

use arrow::datatypes::SchemaRef;
use datafusion_common::DFSchema;

use super::batch::{Batch, rows_of};
use super::describe::Description;
use super::error::Failure;
use super::expression::nullable;
use super::operator::Operator;
use crate::sql::query::Changes;

pub(crate) struct Union {
    schema: SchemaRef,
    changes: Changes,
}

impl Union {
    /// For inputs whose columns have the types of `schema`'s.
    pub(crate) fn new(schema: &DFSchema, changes: &Changes) -> Self {
        Union { schema: nullable(schema), changes: changes.clone() }
    }
}

impl Operator for Union {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let rows = rows_of(&self.schema, batch.rows.columns().to_vec(), batch.len())?;
        Ok(Some(Batch { rows, ..batch.clone() }))
    }

    fn is_pure(&self, _port: usize) -> bool {
        true
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        Description::stateless("union", &self.schema, &self.changes, inputs)
    }
}
