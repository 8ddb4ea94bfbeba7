//! Arguments: what an aggregate reads of a batch, evaluated once for all its rows.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal256Array, Float64Array, Int64Array, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Decimal256Type, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::row::Rows;

use super::accumulator::Accumulator;
use super::batch::Batch;
use super::error::Failure;
use super::key::{canonical, convert};

/// An aggregate's arguments in one batch.
pub(crate) struct Arguments {
    /// For each row its place in the arrays, `NO_PLACE` for one that FILTER leaves out. `None`: they have all rows.
    places: Option<Vec<u32>>,
    /// Places that do not count since the argument is NULL there.
    nulls: Option<NullBuffer>,
    pub(crate) numbers: Numbers,
    /// The encoded arguments.
    pub(crate) rows: Option<Rows>,
    /// The encoded expressions of ORDER BY.
    pub(crate) order: Option<Rows>,
}

const NO_PLACE: u32 = u32::MAX;

/// The first argument in the type that it is computed in.
pub(crate) enum Numbers {
    None,
    Integers(Int64Array),
    Unsigned(UInt64Array),
    Floats(Float64Array),
    Decimals(Decimal256Array),
    Booleans(BooleanArray),
}

impl Arguments {
    /// Evaluates all that can fail. Arguments of rows that FILTER leaves out are not.
    pub(crate) fn of(accumulator: &Accumulator, batch: &Batch) -> Result<Self, Failure> {
        let mut rows = batch.rows.clone();
        let mut places = None;
        if let Some(filter) = &accumulator.filter {
            let holds = filter.holds(&rows)?;
            if holds.has_false() {
                rows = filter_record_batch(&rows, &holds)?;
                let mut next = 0..NO_PLACE;
                let place = |holds| if holds { next.next().unwrap_or(NO_PLACE) } else { NO_PLACE };
                places = Some(holds.values().iter().map(place).collect());
            }
        }
        let evaluate = |expressions: &[super::expression::Expression]| {
            expressions.iter().map(|expression| expression.evaluate(&rows)).collect::<Result<Vec<ArrayRef>, Failure>>()
        };
        let mut columns = evaluate(&accumulator.arguments)?;
        let first = columns.first();
        let nulls = first.filter(|_| accumulator.skips_nulls()).and_then(|first| first.logical_nulls());
        let numbers = match (first, accumulator.over()) {
            (Some(first), Some(over)) => Numbers::of(first, &over)?,
            _ => Numbers::None,
        };
        if accumulator.compares() {
            columns.iter_mut().for_each(|column| *column = canonical(column));
        }
        let elements = accumulator.elements.as_ref().map(|converter| convert(converter, &columns, rows.num_rows()));
        let order = accumulator.order.as_ref().map(|(expressions, converter)| {
            let mut columns = evaluate(expressions)?;
            columns.iter_mut().for_each(|column| *column = canonical(column));
            convert(converter, &columns, rows.num_rows())
        });
        Ok(Arguments { places, nulls, numbers, rows: elements.transpose()?, order: order.transpose()? })
    }

    /// Where row `i` stands in the arrays; `None` if it does not count.
    pub(crate) fn place(&self, i: usize) -> Option<usize> {
        let place = match &self.places {
            None => i,
            Some(places) => places.get(i).copied().filter(|place| *place != NO_PLACE)? as usize,
        };
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(place)).then_some(place)
    }
}

impl Numbers {
    fn of(values: &ArrayRef, over: &DataType) -> Result<Self, ArrowError> {
        let values = cast(values, over)?;
        Ok(match over {
            DataType::Float64 => Numbers::Floats(values.as_primitive::<Float64Type>().clone()),
            DataType::UInt64 => Numbers::Unsigned(values.as_primitive::<UInt64Type>().clone()),
            DataType::Decimal256(..) => Numbers::Decimals(values.as_primitive::<Decimal256Type>().clone()),
            DataType::Boolean => Numbers::Booleans(values.as_boolean().clone()),
            DataType::Int64 => Numbers::Integers(values.as_primitive::<Int64Type>().clone()),
            _ => Numbers::None,
        })
    }
}
