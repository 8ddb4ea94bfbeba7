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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Int64Builder, ListArray, ListBuilder, MapBuilder, RecordBatch, StringArray, StringBuilder};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::{Field, Fields, Schema};
    use arrow::util::display::array_value_to_string;
    use datafusion_expr::col;

    /// What comes of rows a, b and c with these lists, of which b is deleted: a line for each row, without the list.
    fn unnested(lists: ArrayRef, made: &[DataType], outer: bool, ordinality: bool) -> Result<String, CompileError> {
        let fields = vec![Field::new("name", DataType::Utf8, true), Field::new("list", lists.data_type().clone(), true)];
        let input = Schema::new(fields.clone());
        let names = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let rows = RecordBatch::try_new(Arc::new(input.clone()), vec![names, lists]).unwrap();
        let deletes = Some(BooleanArray::from(vec![false, true, false]));
        let batch = Batch { deletes, ..Batch::inserts(rows, vec![1, 2, 3].into()) };
        let made = made.iter().enumerate().map(|(i, made)| Field::new(format!("c{i}"), made.clone(), true));
        let schema = Schema::new(fields.into_iter().chain(made).collect::<Vec<_>>());
        let (input, schema) = (DFSchema::try_from(input).unwrap(), DFSchema::try_from(schema).unwrap());
        let wanted: Vec<bool> = schema.fields().iter().map(|field| field.name() != "list").collect();
        let edge = (&input, &Changes::Retract);
        let out = Unnest::compile(&col("list"), (outer, ordinality), edge, &schema, &wanted)?.push(0, &batch).unwrap().unwrap();
        assert_eq!(out.rows.column(1).null_count(), out.len(), "the list is repeated");
        let line = |i: usize| {
            let values = out.rows.columns().iter().enumerate().filter(|(at, _)| *at != 1);
            let value = |column: &ArrayRef| match column.is_null(i) {
                true => "null".to_owned(),
                false => array_value_to_string(column, i).unwrap(),
            };
            let values: Vec<String> = values.map(|(_, column)| value(column)).collect();
            format!("{}{} {}", if out.is_delete(i) { '-' } else { '+' }, out.times[i], values.join(" "))
        };
        Ok((0..out.len()).map(line).collect::<Vec<_>>().join("; "))
    }

    /// `[7, null]`, `[8]`, and `[]` or null.
    fn numbers(null: bool) -> ArrayRef {
        let mut list = ListBuilder::new(Int64Builder::new());
        list.append_value([Some(7), None]);
        list.append_value([Some(8)]);
        list.append(!null);
        Arc::new(list.finish())
    }

    #[test]
    fn elements_come_in_their_order() {
        let made = [DataType::Int64, DataType::Int64];
        for null in [false, true] {
            let of =
                |outer, ordinality| unnested(numbers(null), &made[..1 + usize::from(ordinality)], outer, ordinality).unwrap();
            assert_eq!(of(false, false), "+1 a 7; +1 a null; -2 b 8");
            assert_eq!(of(true, true), "+1 a 7 1; +1 a null 2; -2 b 8 1; +3 c null null");
        }
    }

    #[test]
    fn structs_are_spread_where_the_schema_says_so() {
        let fields = Fields::from(vec![Field::new("n", DataType::Int64, true), Field::new("t", DataType::Utf8, true)]);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![1, 2, 3])), Arc::new(StringArray::from(vec![Some("x"), Some("hidden"), None]))];
        let structs = StructArray::new(fields.clone(), columns, Some(NullBuffer::from(vec![true, false, true])));
        let item = Arc::new(Field::new("item", structs.data_type().clone(), true));
        let ends = OffsetBuffer::new(vec![0, 2, 3, 3].into());
        let lists: ArrayRef = Arc::new(ListArray::new(item, ends, Arc::new(structs), None));
        let spread = unnested(lists.clone(), &[DataType::Int64, DataType::Utf8], true, false).unwrap();
        assert_eq!(spread, "+1 a 1 x; +1 a null null; -2 b 3 null; +3 c null null");
        let whole = unnested(lists.clone(), &[DataType::Struct(fields)], false, false).unwrap();
        assert_eq!(whole, "+1 a {n: 1, t: x}; +1 a null; -2 b {n: 3, t: }");
        let refused = unnested(lists, &[DataType::Utf8], false, false).unwrap_err().to_string();
        assert_eq!(refused, "the columns that list makes are not its elements");
    }

    #[test]
    fn a_map_gives_keys_and_values() {
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        for entries in [vec![("x", Some(1)), ("y", None)], vec![("z", Some(3))], vec![]] {
            for (key, value) in entries {
                map.keys().append_value(key);
                map.values().append_option(value);
            }
            map.append(true).unwrap();
        }
        let made = [DataType::Utf8, DataType::Int64, DataType::Int64];
        let out = unnested(Arc::new(map.finish()), &made, false, true).unwrap();
        assert_eq!(out, "+1 a x 1 1; +1 a y null 2; -2 b z 3 1");
    }

    /// Slices of lists begin elsewhere in the values.
    #[test]
    fn what_has_no_elements_is_refused_and_a_slice_is_its_rows() {
        let more: ArrayRef = arrow::compute::concat(&[numbers(false).as_ref(), numbers(false).as_ref()]).unwrap();
        let out = unnested(more.slice(1, 3), &[DataType::Int64], false, false).unwrap();
        assert_eq!(out, "+1 a 8; +3 c 7; +3 c null");
        let refused = unnested(Arc::new(Int64Array::from(vec![1, 2, 3])), &[DataType::Int64], false, false).unwrap_err();
        assert_eq!(refused.to_string(), "list is BIGINT, which has no elements");
    }
}
