//! Accumulators: what an aggregate remembers of a group, other than whole rows.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Decimal256Array, Float64Array, Int64Array, PrimitiveArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal256Type, Float64Type, Int64Type, UInt64Type, i256};
use arrow::row::{RowConverter, Rows};

use super::error::{CompileError, Failure};
use super::key::{convert, row_converter, unconvert};
use crate::sql::query::AggregateFunction;

/// What an accumulator computes, and of what.
#[derive(Debug)]
pub(crate) struct Accumulator {
    kind: Kind,
    /// The type its values are computed in.
    over: DataType,
    /// The type of its result.
    result: DataType,
}

#[derive(Debug)]
enum Kind {
    Count,
    Sum,
    Avg,
    Extreme { greatest: bool, converter: RowConverter },
}

/// An aggregate's state in one group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Count(i64),
    /// Wide enough that adding never overflows; the result is checked when it is sent.
    Integers {
        sum: i128,
        count: i64,
    },
    Floats {
        sum: f64,
        count: i64,
    },
    Decimals {
        sum: i256,
        count: i64,
    },
    /// The row encoding of the smallest or greatest value, whose bytes sort as the values do.
    Extreme(Option<Box<[u8]>>),
}

/// An aggregate's arguments in one batch.
pub(crate) enum Arguments {
    /// `count`: only whether they are null matters.
    Present(Option<NullBuffer>),
    Integers(Int64Array),
    Unsigned(UInt64Array),
    Floats(Float64Array),
    Decimals(Decimal256Array),
    Encoded {
        rows: Rows,
        nulls: Option<NullBuffer>,
    },
}

impl Accumulator {
    /// `None` for an aggregate that keeps a whole row (`latest`, `earliest`). `argument` is `None` for `count(*)`.
    pub(crate) fn compile(
        function: AggregateFunction,
        argument: Option<&DataType>,
        result: &DataType,
    ) -> Result<Option<Self>, CompileError> {
        let kind = match function {
            AggregateFunction::Latest | AggregateFunction::Earliest => return Ok(None),
            AggregateFunction::Count => Kind::Count,
            AggregateFunction::Sum => Kind::Sum,
            AggregateFunction::Avg => Kind::Avg,
            AggregateFunction::Min | AggregateFunction::Max => {
                let argument = argument.ok_or_else(|| CompileError("min and max need an argument".into()))?;
                let converter = row_converter(std::iter::once(argument))?;
                Kind::Extreme { greatest: function == AggregateFunction::Max, converter }
            }
            other => return Err(CompileError(format!("{} is not carried out yet", other.name()))),
        };
        let over = match (&kind, argument) {
            (Kind::Count, _) => DataType::Null,
            (Kind::Extreme { .. }, Some(argument)) => argument.clone(),
            (_, Some(argument)) => sum_type(argument)?,
            (_, None) => return Err(CompileError("sum and avg need an argument".into())),
        };
        Ok(Some(Accumulator { kind, over, result: result.clone() }))
    }

    /// The state of a group without rows.
    pub(crate) fn start(&self) -> Value {
        match (&self.kind, &self.over) {
            (Kind::Count, _) => Value::Count(0),
            (Kind::Extreme { .. }, _) => Value::Extreme(None),
            (_, DataType::Float64) => Value::Floats { sum: 0.0, count: 0 },
            (_, DataType::Decimal256(..)) => Value::Decimals { sum: i256::ZERO, count: 0 },
            _ => Value::Integers { sum: 0, count: 0 },
        }
    }

    /// Brings a batch's arguments into the form that [`Accumulator::add`] reads.
    pub(crate) fn arguments(&self, values: Option<&ArrayRef>) -> Result<Arguments, Failure> {
        let Some(values) = values else { return Ok(Arguments::Present(None)) };
        let nulls = values.logical_nulls();
        match (&self.kind, &self.over) {
            (Kind::Count, _) => Ok(Arguments::Present(nulls)),
            (Kind::Extreme { converter, .. }, _) => {
                Ok(Arguments::Encoded { rows: convert(converter, std::slice::from_ref(values), values.len())?, nulls })
            }
            (_, over) => {
                let values = cast(values, over)?;
                Ok(match over {
                    DataType::Float64 => Arguments::Floats(values.as_primitive::<Float64Type>().clone()),
                    DataType::UInt64 => Arguments::Unsigned(values.as_primitive::<UInt64Type>().clone()),
                    DataType::Decimal256(..) => Arguments::Decimals(values.as_primitive::<Decimal256Type>().clone()),
                    _ => Arguments::Integers(values.as_primitive::<Int64Type>().clone()),
                })
            }
        }
    }

    /// Adds the argument of row `i`; returns whether the state changed.
    pub(crate) fn add(&self, value: &mut Value, arguments: &Arguments, i: usize) -> bool {
        match (value, arguments) {
            (Value::Count(count), Arguments::Present(nulls)) => {
                let counts = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(i));
                *count += i64::from(counts);
                counts
            }
            (Value::Integers { sum, count }, Arguments::Integers(values)) => {
                add_valid(values, i, count, |v| *sum += i128::from(v))
            }
            (Value::Integers { sum, count }, Arguments::Unsigned(values)) => {
                add_valid(values, i, count, |v| *sum += i128::from(v))
            }
            (Value::Floats { sum, count }, Arguments::Floats(values)) => add_valid(values, i, count, |v| *sum += v),
            (Value::Decimals { sum, count }, Arguments::Decimals(values)) => {
                add_valid(values, i, count, |v| *sum = sum.wrapping_add(v))
            }
            (Value::Extreme(best), Arguments::Encoded { rows, nulls }) => {
                let candidate = rows.row(i).data();
                let greatest = matches!(self.kind, Kind::Extreme { greatest: true, .. });
                let better = best.as_deref().is_none_or(|best| if greatest { candidate > best } else { candidate < best });
                let better = better && nulls.as_ref().is_none_or(|nulls| nulls.is_valid(i));
                if better {
                    *best = Some(candidate.into());
                }
                better
            }
            _ => false,
        }
    }

    /// Why the state has no result, if it has none.
    pub(crate) fn overflow(&self, value: &Value) -> Option<String> {
        let fits = match (value, &self.kind, &self.result) {
            (Value::Integers { sum, .. }, Kind::Sum, DataType::Int64) => i64::try_from(*sum).is_ok(),
            (Value::Integers { sum, .. }, Kind::Sum, DataType::UInt64) => u64::try_from(*sum).is_ok(),
            (Value::Decimals { sum, .. }, Kind::Sum, DataType::Decimal128(precision, _)) => {
                sum.to_i128().is_some_and(|sum| sum.unsigned_abs() < 10u128.saturating_pow(u32::from(*precision)))
            }
            _ => true,
        };
        (!fits).then(|| format!("overflow: the sum does not fit into {}", crate::model::row::type_name(&self.result)))
    }

    /// The results of some groups.
    pub(crate) fn finish<'a>(&self, values: impl Iterator<Item = &'a Value>) -> Result<ArrayRef, Failure> {
        let array: ArrayRef = match (&self.kind, &self.over) {
            (Kind::Count, _) => {
                Arc::new(values.map(|value| if let Value::Count(n) = value { *n } else { 0 }).collect::<Int64Array>())
            }
            (Kind::Extreme { converter, .. }, _) => return extremes(converter, values),
            (Kind::Sum, DataType::Float64) => Arc::new(values.map(float_sum).collect::<Float64Array>()),
            (Kind::Avg, DataType::Float64 | DataType::Int64 | DataType::UInt64) => {
                Arc::new(values.map(average).collect::<Float64Array>())
            }
            (kind, DataType::Decimal256(_, scale)) => {
                let out = match self.result {
                    DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => scale,
                    _ => *scale,
                };
                let average = matches!(kind, Kind::Avg);
                let decimal = |value: &Value| decimal_result(value, average, out - scale);
                Arc::new(values.map(decimal).collect::<Decimal256Array>().with_precision_and_scale(76, out)?)
            }
            // 38 digits hold every sum of 64-bit integers that `overflow` lets through.
            _ => Arc::new(values.map(integer_sum).collect::<Decimal128Array>().with_precision_and_scale(38, 0)?),
        };
        let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
        Ok(arrow::compute::cast_with_options(&array, &self.result, &options)?)
    }
}

/// The type in which values of a type are added up.
fn sum_type(argument: &DataType) -> Result<DataType, CompileError> {
    match argument {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Ok(DataType::Int64),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Ok(DataType::UInt64),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Ok(DataType::Float64),
        DataType::Decimal32(_, s) | DataType::Decimal64(_, s) | DataType::Decimal128(_, s) | DataType::Decimal256(_, s) => {
            Ok(DataType::Decimal256(76, *s))
        }
        other => Err(CompileError(format!("values of type {} can't be added up", crate::model::row::type_name(other)))),
    }
}

fn add_valid<T: arrow::datatypes::ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    i: usize,
    count: &mut i64,
    add: impl FnOnce(T::Native),
) -> bool {
    let valid = values.is_valid(i);
    if valid {
        add(values.value(i));
        *count += 1;
    }
    valid
}

fn float_sum(value: &Value) -> Option<f64> {
    if let Value::Floats { sum, count: 1.. } = value { Some(*sum) } else { None }
}

fn integer_sum(value: &Value) -> Option<i128> {
    if let Value::Integers { sum, count: 1.. } = value { Some(*sum) } else { None }
}

fn average(value: &Value) -> Option<f64> {
    match value {
        Value::Floats { sum, count: count @ 1.. } => Some(sum / *count as f64),
        Value::Integers { sum, count: count @ 1.. } => Some(*sum as f64 / *count as f64),
        _ => None,
    }
}

/// A decimal sum, or average rounded half away from zero, with `more` digits behind the point than its arguments have.
fn decimal_result(value: &Value, average: bool, more: i8) -> Option<i256> {
    let Value::Decimals { sum, count: count @ 1.. } = value else { return None };
    let scaled = sum.checked_mul(i256::from_i128(10).checked_pow(u32::try_from(more).unwrap_or(0))?)?;
    if !average {
        return Some(scaled);
    }
    let count = i256::from(*count);
    let half = count.checked_div(i256::from(2))?;
    let rounded = if scaled < i256::ZERO { scaled.checked_sub(half)? } else { scaled.checked_add(half)? };
    rounded.checked_div(count)
}

fn extremes<'a>(converter: &RowConverter, values: impl Iterator<Item = &'a Value>) -> Result<ArrayRef, Failure> {
    let missing = unconvert_null(converter)?;
    let best = |value: &'a Value| match value {
        Value::Extreme(Some(best)) => Some(best.as_ref()),
        _ => None,
    };
    let rows: Vec<&[u8]> = values.map(|value| best(value).unwrap_or(&missing)).collect();
    let columns = unconvert(converter, rows.into_iter())?;
    columns.into_iter().next().ok_or_else(|| Failure { expression: "min or max".into(), reason: "has no column".into() })
}

/// The encoding of a null.
fn unconvert_null(converter: &RowConverter) -> Result<Vec<u8>, Failure> {
    // Every type encodes null as one byte, followed by nothing or by zeroes of the type's width: ask rather than know.
    let empty = converter.convert_rows(std::iter::empty())?;
    let nulls: Vec<ArrayRef> = empty.iter().map(|column| arrow::array::new_null_array(column.data_type(), 1)).collect();
    Ok(converter.convert_columns(&nulls)?.row(0).data().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, StringArray};

    fn result(function: AggregateFunction, values: ArrayRef, result: DataType) -> Result<ArrayRef, String> {
        let accumulator = Accumulator::compile(function, Some(values.data_type()), &result).map_err(|e| e.to_string())?.unwrap();
        let arguments = accumulator.arguments(Some(&values)).unwrap();
        let mut value = accumulator.start();
        for i in 0..values.len() {
            accumulator.add(&mut value, &arguments, i);
        }
        accumulator.overflow(&value).map_or(Ok(()), Err)?;
        Ok(accumulator.finish([&value].into_iter()).unwrap())
    }

    fn shown(array: &ArrayRef) -> String {
        arrow::util::display::array_value_to_string(array, 0).unwrap()
    }

    #[test]
    fn nulls_count_for_nothing() {
        let some: ArrayRef = Arc::new(Int32Array::from(vec![Some(4), None, Some(-1), Some(6)]));
        let none: ArrayRef = Arc::new(Int32Array::from(vec![None, None]));
        let of = |function, values: &ArrayRef, data_type| shown(&result(function, values.clone(), data_type).unwrap());
        assert_eq!(of(AggregateFunction::Count, &some, DataType::Int64), "3");
        assert_eq!(of(AggregateFunction::Sum, &some, DataType::Int64), "9");
        assert_eq!(of(AggregateFunction::Avg, &some, DataType::Float64), "3.0");
        assert_eq!(of(AggregateFunction::Min, &some, DataType::Int32), "-1");
        assert_eq!(of(AggregateFunction::Max, &some, DataType::Int32), "6");
        assert_eq!(of(AggregateFunction::Count, &none, DataType::Int64), "0");
        for function in [AggregateFunction::Sum, AggregateFunction::Min, AggregateFunction::Max] {
            let data_type = if function == AggregateFunction::Sum { DataType::Int64 } else { DataType::Int32 };
            assert_eq!(of(function, &none, data_type), "");
        }
        assert_eq!(of(AggregateFunction::Avg, &none, DataType::Float64), "");
    }

    #[test]
    fn a_sum_that_does_not_fit_is_refused_and_one_that_comes_back_is_not() {
        let of = |values: Vec<i64>| result(AggregateFunction::Sum, Arc::new(Int64Array::from(values)), DataType::Int64);
        insta::assert_snapshot!(of(vec![i64::MAX, 1]).unwrap_err(), @"overflow: the sum does not fit into BIGINT");
        assert_eq!(shown(&of(vec![i64::MAX, 1, -1]).unwrap()), i64::MAX.to_string());
        assert_eq!(shown(&of(vec![i64::MIN]).unwrap()), i64::MIN.to_string());
    }

    #[test]
    fn decimals_texts_and_floats() {
        let decimals: ArrayRef = Arc::new(Decimal128Array::from(vec![150, 225, -5]).with_precision_and_scale(10, 2).unwrap());
        let of = |function, values: &ArrayRef, data_type| shown(&result(function, values.clone(), data_type).unwrap());
        assert_eq!(of(AggregateFunction::Sum, &decimals, DataType::Decimal128(20, 2)), "3.70");
        assert_eq!(of(AggregateFunction::Avg, &decimals, DataType::Decimal128(14, 6)), "1.233333");
        let nines: ArrayRef = Arc::new(Decimal128Array::from(vec![99, 1]).with_precision_and_scale(2, 0).unwrap());
        insta::assert_snapshot!(result(AggregateFunction::Sum, nines, DataType::Decimal128(2, 0)).unwrap_err(), @"overflow: the sum does not fit into DECIMAL(2, 0)");
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["b", "", "é", "a"]));
        assert_eq!(of(AggregateFunction::Max, &texts, DataType::Utf8), "é");
        assert_eq!(of(AggregateFunction::Min, &texts, DataType::Utf8), "");
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 0.25]));
        assert_eq!(of(AggregateFunction::Avg, &floats, DataType::Float64), "0.375");
        insta::assert_snapshot!(result(AggregateFunction::Sum, texts, DataType::Utf8).unwrap_err(), @"values of type STRING can't be added up");
    }
}
