//! Unnest: one row for each element of an array, or for each entry of a map, in their order.
//!
//! A delete of a whole row takes back all rows that its insert made: they are made of it in the same way.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StructArray, UInt64Array, new_null_array};
use arrow::compute::{is_null, nullif, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::batch::{Batch, rows_of};
use super::describe::Description;
use super::error::{CompileError, Failure};
use super::expression::{Expression, nullable};
use super::operator::Operator;
use crate::model::row::type_name;
use crate::sql::query::Changes;

pub(crate) struct Unnest {
    list: Expression,
    outer: bool,
    ordinality: bool,
    /// Whether an element that is a struct becomes a column for each of its fields.
    spread: bool,
    /// How many columns the input has, and which of them anybody reads above.
    width: usize,
    wanted: Vec<bool>,
    schema: SchemaRef,
    changes: Changes,
}

impl Unnest {
    /// The elements of `list` over rows of `input`; the columns behind the input's in `schema` say whether structs are
    /// spread.
    pub(crate) fn compile(
        list: &Expr,
        (outer, ordinality): (bool, bool),
        (input, changes): (&DFSchema, &Changes),
        schema: &DFSchema,
        wanted: &[bool],
    ) -> Result<Self, CompileError> {
        let list = Expression::compile(list, input)?;
        let width = input.fields().len();
        let made: Vec<&DataType> = schema.fields().iter().skip(width).map(|field| field.data_type()).collect();
        let made = made.get(..made.len().saturating_sub(usize::from(ordinality))).unwrap_or_default();
        let same = |types: &[&DataType]| types.len() == made.len() && types.iter().zip(made).all(|(a, b)| a.equals_datatype(b));
        let spread = match list.data_type() {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => match item.data_type() {
                whole if same(&[whole]) => Some(false),
                DataType::Struct(fields) if same(&fields.iter().map(|f| f.data_type()).collect::<Vec<_>>()) => Some(true),
                _ => None,
            },
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if same(&fields.iter().map(|f| f.data_type()).collect::<Vec<_>>()) => Some(true),
                _ => None,
            },
            other => {
                return Err(CompileError(format!("{} is {}, which has no elements", list.text(), type_name(other))));
            }
        };
        let Some(spread) = spread else {
            return Err(CompileError(format!("the columns that {} makes are not its elements", list.text())));
        };
        let (schema, changes) = (nullable(schema), changes.clone());
        Ok(Unnest { list, outer, ordinality, spread, width, wanted: wanted.to_vec(), schema, changes })
    }

    /// The element's columns for the elements at some places.
    fn elements(&self, values: &ArrayRef, at: &UInt64Array) -> Result<Vec<ArrayRef>, Failure> {
        match values.as_any().downcast_ref::<StructArray>().filter(|_| self.spread) {
            None => Ok(vec![take(values, at, None)?]),
            Some(structs) => {
                let missing = is_null(structs)?;
                let field = |field: &ArrayRef| Ok(take(&nullif(field, &missing)?, at, None)?);
                structs.columns().iter().map(field).collect()
            }
        }
    }
}

/// All elements of a column of lists, and where those of each row begin and end.
fn elements_of(lists: &ArrayRef) -> Option<(ArrayRef, Vec<(usize, usize)>)> {
    fn ends<O: Copy + TryInto<usize>>(offsets: &[O]) -> Vec<(usize, usize)> {
        let at = |offset: O| offset.try_into().unwrap_or(0);
        offsets.iter().zip(offsets.iter().skip(1)).map(|(start, end)| (at(*start), at(*end))).collect()
    }
    match lists.data_type() {
        DataType::List(_) => lists.as_list_opt::<i32>().map(|lists| (lists.values().clone(), ends(lists.value_offsets()))),
        DataType::LargeList(_) => lists.as_list_opt::<i64>().map(|lists| (lists.values().clone(), ends(lists.value_offsets()))),
        DataType::FixedSizeList(_, size) => lists.as_fixed_size_list_opt().map(|lists| {
            let size = usize::try_from(*size).unwrap_or(0);
            (lists.values().clone(), (0..lists.len()).map(|i| (i * size, (i + 1) * size)).collect())
        }),
        DataType::Map(..) => {
            lists.as_map_opt().map(|maps| (Arc::new(maps.entries().clone()) as ArrayRef, ends(maps.value_offsets())))
        }
        _ => None,
    }
}

impl Operator for Unnest {
    fn push(&mut self, _port: usize, batch: &Batch) -> Result<Option<Batch>, Failure> {
        let lists = self.list.evaluate(&batch.rows)?;
        let Some((values, ends)) = elements_of(&lists) else {
            return Err(Failure { expression: self.list.text().into(), reason: "is not of the type it was compiled for".into() });
        };
        let (mut parents, mut at, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for ((row, (start, end)), parent) in ends.into_iter().enumerate().zip(0u32..) {
            let elements = if lists.is_null(row) { 0..0 } else { start..end };
            if elements.is_empty() && self.outer {
                parents.push(parent);
                at.push(None);
                positions.push(None);
            }
            for (element, position) in elements.zip(1i64..) {
                parents.push(parent);
                at.push(Some(element as u64));
                positions.push(Some(position));
            }
        }
        if parents.is_empty() {
            return Ok(None);
        }
        // What nobody reads is not repeated, the list itself least of all.
        let given = batch.rows.columns().iter().zip(batch.rows.schema_ref().fields()).zip(&self.wanted).take(self.width);
        let given = given.map(|((column, field), wanted)| match wanted {
            true => column.clone(),
            false => new_null_array(field.data_type(), batch.len()),
        });
        let given = rows_of(batch.rows.schema_ref(), given.collect(), batch.len())?;
        let out = Batch { rows: given, ..batch.clone() }.take(&parents)?;
        let mut columns = out.rows.columns().to_vec();
        columns.extend(self.elements(&values, &UInt64Array::from(at))?);
        if self.ordinality {
            columns.push(Arc::new(Int64Array::from(positions)));
        }
        Ok(Some(Batch { rows: rows_of(&self.schema, columns, out.times.len())?, ..out }))
    }

    fn is_pure(&self, _port: usize) -> bool {
        true
    }

    fn describe(&self, inputs: Vec<Description>) -> Description {
        let name = if self.outer { "unnest, keeping rows without elements" } else { "unnest" };
        Description::stateless(name, &self.schema, &self.changes, inputs).detail("elements of", self.list.text())
    }
}
