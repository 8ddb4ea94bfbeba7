//! Results: what accumulators make of the values of some groups, as columns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Decimal256Array, Float64Array, Int64Array, ListArray, StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, i256};
use arrow::row::RowConverter;

use super::accumulator::{Accumulator, Kind};
use super::error::Failure;
use super::key::unconvert;
use super::value::Value;
use crate::model::row::type_name;

impl Accumulator {
    /// Why the state has no result, if it has none.
    pub(crate) fn failure(&self, value: &Value) -> Option<Failure> {
        let result = self.results.first()?;
        let most = |precision: u8| 10u128.saturating_pow(u32::from(precision));
        let fits = match (counted(value), &self.kind, result) {
            (Value::Integers { sum, .. }, Kind::Sum, DataType::Int64) => i64::try_from(*sum).is_ok(),
            (Value::Integers { sum, .. }, Kind::Sum, DataType::UInt64) => u64::try_from(*sum).is_ok(),
            (decimals @ Value::Decimals { count: 1.., .. }, _, DataType::Decimal128(precision, _)) => {
                let number = self.decimal(decimals).and_then(i256::to_i128);
                number.is_some_and(|number| number.unsigned_abs() < most(*precision))
            }
            (Value::Floats(sum), ..) => sum.total().is_some(),
            (Value::Moments(moments), Kind::Variance { population, .. }, _) => {
                moments.variance(*population).is_none_or(|variance| !variance.is_infinite())
            }
            _ => true,
        };
        let what = match self.kind {
            Kind::Avg => "average",
            Kind::Variance { .. } => "variance",
            _ => "sum",
        };
        let reason = || format!("overflow: the {what} does not fit into {}", type_name(result));
        (!fits).then(|| Failure { expression: self.text().to_owned(), reason: reason() })
    }

    /// The results of some groups: a column for each of its results.
    pub(crate) fn finish(&self, values: &[&Value]) -> Result<Vec<ArrayRef>, Failure> {
        let column: ArrayRef = match &self.kind {
            Kind::Picked { newest } => return self.picked(values, *newest),
            Kind::Extreme { greatest } => return self.rows(values.iter().map(|value| extreme(value, *greatest))),
            Kind::Elements { separator: None } => self.lists(values.iter().map(|value| elements(value)))?,
            Kind::TopK { k } => self.lists(values.iter().map(|value| self.first_of(value, *k)))?,
            Kind::Elements { separator: Some(separator) } => self.texts_of(values, separator)?,
            Kind::Histogram { .. } => self.histograms(values)?,
            Kind::Count => Arc::new(values.iter().map(|value| count(value)).collect::<Int64Array>()),
            Kind::ApproxDistinct => Arc::new(values.iter().map(|value| estimate(value)).collect::<Int64Array>()),
            Kind::Boolean { all } => Arc::new(values.iter().map(|value| truth(value, *all)).collect::<BooleanArray>()),
            Kind::Sum | Kind::Avg => self.sums(values)?,
            Kind::Variance { .. } | Kind::ApproxPercentile { .. } => {
                Arc::new(values.iter().map(|value| self.float(value)).collect::<Float64Array>())
            }
        };
        let Some(result) = self.results.first() else { return Ok(vec![column]) };
        let options = CastOptions { safe: false, ..Default::default() };
        Ok(vec![cast_with_options(&column, result, &options)?])
    }

    fn sums(&self, values: &[&Value]) -> Result<ArrayRef, Failure> {
        Ok(match (self.over(), &self.kind) {
            (Some(DataType::Decimal256(..)), _) => {
                let numbers: Decimal256Array = values.iter().map(|value| self.decimal(counted(value))).collect();
                Arc::new(numbers.with_precision_and_scale(76, self.scales().1)?)
            }
            (Some(DataType::Float64), _) | (_, Kind::Avg) => {
                Arc::new(values.iter().map(|value| self.float(value)).collect::<Float64Array>())
            }
            // 38 digits hold every sum of 64-bit integers that is no failure.
            _ => {
                let numbers: Decimal128Array = values.iter().map(|value| integer_sum(counted(value))).collect();
                Arc::new(numbers.with_precision_and_scale(38, 0)?)
            }
        })
    }

    fn float(&self, value: &Value) -> Option<f64> {
        match (counted(value), &self.kind) {
            (Value::Floats(sum), _) if sum.count < 1 => None,
            (Value::Floats(sum), Kind::Avg) => sum.total().map(|total| total / sum.count as f64),
            (Value::Floats(sum), _) => sum.total(),
            (Value::Integers { sum, count: count @ 1.. }, _) => Some(*sum as f64 / *count as f64),
            (Value::Moments(moments), Kind::Variance { population, root }) => {
                moments.variance(*population).map(|variance| if *root { variance.sqrt() } else { variance })
            }
            (Value::Quantiles(quantiles), Kind::ApproxPercentile { p }) => quantiles.at(*p),
            _ => None,
        }
    }

    /// The scales of its decimal argument and of its result.
    fn scales(&self) -> (i8, i8) {
        let argument = if let Some(DataType::Decimal256(_, scale)) = self.over() { scale } else { 0 };
        match self.results.first() {
            Some(DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale)) => (argument, *scale),
            _ => (argument, argument),
        }
    }

    /// A sum, or an average rounded half away from zero, in the scale of the result.
    fn decimal(&self, value: &Value) -> Option<i256> {
        let Value::Decimals { sum, count: count @ 1.. } = value else { return None };
        let (argument, result) = self.scales();
        let more = u32::try_from(result.checked_sub(argument)?).ok()?;
        let scaled = sum.checked_mul(i256::from_i128(10).checked_pow(more)?)?;
        if self.kind == Kind::Sum {
            return Some(scaled);
        }
        let count = i256::from(*count);
        let half = count.checked_div(i256::from(2))?;
        let rounded = if scaled < i256::ZERO { scaled.checked_sub(half)? } else { scaled.checked_add(half)? };
        rounded.checked_div(count)
    }

    fn picked(&self, values: &[&Value], newest: bool) -> Result<Vec<ArrayRef>, Failure> {
        self.rows(values.iter().map(|value| match value {
            Value::Picked(picked) => picked.as_ref().map(|(_, row)| row.as_ref()),
            Value::Sequence(sequence) if newest => sequence.elements().next_back(),
            Value::Sequence(sequence) => sequence.elements().next(),
            _ => None,
        }))
    }

    /// Encoded rows as columns, nulls where there is none.
    fn rows<'a>(&self, rows: impl Iterator<Item = Option<&'a [u8]>>) -> Result<Vec<ArrayRef>, Failure> {
        let Some(converter) = &self.elements else { return Ok(Vec::new()) };
        let rows: Vec<Option<&[u8]>> = rows.collect();
        let missing = if rows.contains(&None) { null_row(converter)? } else { Vec::new() };
        unconvert(converter, rows.into_iter().map(|row| row.unwrap_or(&missing)))
    }

    fn first_of<'a>(&self, value: &'a Value, k: u64) -> Vec<&'a [u8]> {
        let Value::Multiset(set) = value else { return Vec::new() };
        let k = usize::try_from(k).unwrap_or(usize::MAX);
        if self.distinct { set.values().rev().take(k).collect() } else { set.descending().take(k).collect() }
    }

    /// One list of each group's elements, NULL for one without any.
    fn lists<'a>(&self, groups: impl Iterator<Item = Vec<&'a [u8]>>) -> Result<ArrayRef, Failure> {
        let groups: Vec<Vec<&[u8]>> = groups.collect();
        self.within_bounds(&groups)?;
        let nulls: NullBuffer = groups.iter().map(|group| !group.is_empty()).collect();
        let offsets = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
        let values = self.rows(groups.iter().flatten().map(|element| Some(*element)))?;
        self.list(offsets, values, Some(nulls))
    }

    fn list(&self, offsets: OffsetBuffer<i32>, values: Vec<ArrayRef>, nulls: Option<NullBuffer>) -> Result<ArrayRef, Failure> {
        let values = values.into_iter().next().unwrap_or_else(|| Arc::new(Int64Array::from(Vec::<i64>::new())));
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        Ok(Arc::new(ListArray::try_new(field, offsets, values, nulls)?))
    }

    /// Refuses what has no Arrow array: its offsets have 31 bits.
    fn within_bounds(&self, groups: &[Vec<&[u8]>]) -> Result<(), Failure> {
        let bytes: usize = groups.iter().flatten().map(|element| element.len()).sum();
        i32::try_from(bytes).map(drop).map_err(|_| self.too_large())
    }

    fn too_large(&self) -> Failure {
        Failure { expression: self.text().to_owned(), reason: "the results of a step are larger than 2 GiB".into() }
    }

    fn histograms(&self, values: &[&Value]) -> Result<ArrayRef, Failure> {
        let counts: Vec<&[i64]> = values
            .iter()
            .map(|value| match counted(value) {
                Value::Counts(counts) => counts.as_ref(),
                _ => &[],
            })
            .collect();
        let offsets = OffsetBuffer::from_lengths(counts.iter().map(|counts| counts.len()));
        self.list(offsets, vec![Arc::new(Int64Array::from(counts.concat()))], None)
    }

    fn texts_of(&self, values: &[&Value], separator: &str) -> Result<ArrayRef, Failure> {
        let groups: Vec<Vec<&[u8]>> = values.iter().map(|value| elements(value)).collect();
        self.within_bounds(&groups)?;
        let parts = self.rows(groups.iter().flatten().map(|element| Some(*element)))?;
        let parts = parts.first().and_then(|parts| parts.as_string_opt::<i32>());
        let mut parts = parts.into_iter().flat_map(|parts| parts.iter());
        let texts: Vec<Option<String>> = groups
            .iter()
            .map(|group| {
                let parts: Vec<&str> = parts.by_ref().take(group.len()).flatten().collect();
                (!group.is_empty()).then(|| parts.join(separator))
            })
            .collect();
        if i32::try_from(texts.iter().flatten().map(String::len).sum::<usize>()).is_err() {
            return Err(self.too_large());
        }
        Ok(Arc::new(StringArray::from(texts)))
    }
}

/// The value that counts each different argument once, if that is what it does.
fn counted(value: &Value) -> &Value {
    if let Value::Distinct(distinct) = value { &distinct.1 } else { value }
}

fn count(value: &Value) -> i64 {
    match value {
        Value::Count(count) => *count,
        Value::Multiset(set) => set.kinds() as i64,
        _ => 0,
    }
}

fn estimate(value: &Value) -> i64 {
    if let Value::Registers(registers) = value { registers.estimate() } else { 0 }
}

fn truth(value: &Value, all: bool) -> Option<bool> {
    match value {
        Value::Booleans { trues: 0, falses: 0 } => None,
        Value::Booleans { falses, .. } if all => Some(*falses == 0),
        Value::Booleans { trues, .. } => Some(*trues > 0),
        _ => None,
    }
}

fn integer_sum(value: &Value) -> Option<i128> {
    if let Value::Integers { sum, count: 1.. } = value { Some(*sum) } else { None }
}

fn extreme(value: &Value, greatest: bool) -> Option<&[u8]> {
    match value {
        Value::Extreme(best) => best.as_deref(),
        Value::Multiset(set) if greatest => set.greatest(),
        Value::Multiset(set) => set.least(),
        _ => None,
    }
}

fn elements(value: &Value) -> Vec<&[u8]> {
    match value {
        Value::Sequence(sequence) => sequence.elements().collect(),
        Value::Multiset(set) => nulls_last(set.values().collect()),
        _ => Vec::new(),
    }
}

/// NULL, which sorts first as bytes, moved to the end, where PostgreSQL has it.
fn nulls_last(mut elements: Vec<&[u8]>) -> Vec<&[u8]> {
    if elements.first().is_some_and(|first| first.first() == Some(&0)) {
        elements.rotate_left(1);
    }
    elements
}

/// The encoding of nulls.
fn null_row(converter: &RowConverter) -> Result<Vec<u8>, Failure> {
    // Every type encodes null as one byte, followed by nothing or by zeroes of the type's width: ask rather than know.
    let empty = converter.convert_rows(std::iter::empty())?;
    let nulls: Vec<ArrayRef> = empty.iter().map(|column| arrow::array::new_null_array(column.data_type(), 1)).collect();
    Ok(converter.convert_columns(&nulls)?.row(0).data().to_vec())
}
