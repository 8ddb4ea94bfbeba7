//! Accumulators: what an aggregate makes of the rows that come to a group and go from it.
//!
//! Of an input that only appends they keep as little as they can: `min` one value, `latest` one row. Of one that retracts
//! they keep what is needed to go back: `min` all values, `latest` all rows; sums and counts just subtract. Nothing depends
//! on how rows are cut into batches. Floating point numbers sort and compare as in PostgreSQL: NaN equals itself and is
//! greater than all others, -0.0 is 0.0; their sums are exact until they are sent.

use arrow::array::{ArrowPrimitiveType, PrimitiveArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, i256};
use arrow::row::{RowConverter, SortField};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::Expr;

use super::arguments::{Arguments, Numbers};
use super::error::CompileError;
use super::exact::{FloatSum, Moments};
use super::expression::{Expression, text_of};
use super::key::row_converter;
use super::multiset::Multiset;
use super::sequence::Arrival;
use super::sketch::{HyperLogLog, Quantiles};
use super::value::Value;
use crate::model::row::type_name;
use crate::sql::query::{Aggregate, AggregateFunction};

/// What an accumulator computes, and of what.
pub(crate) struct Accumulator {
    pub(crate) kind: Kind,
    /// What is evaluated for each row; of `Picked` for all aggregates that pick the same row.
    pub(crate) arguments: Vec<Expression>,
    pub(crate) filter: Option<Expression>,
    /// What elements are sorted by before their times.
    pub(crate) order: Option<(Vec<Expression>, RowConverter)>,
    /// How arguments are kept as bytes, if they are.
    pub(crate) elements: Option<RowConverter>,
    /// Whether equal arguments count once.
    pub(crate) distinct: bool,
    /// Whether rows are taken away, too.
    retracts: bool,
    /// The types of its results.
    pub(crate) results: Vec<DataType>,
    texts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Count,
    Sum,
    Avg,
    Variance {
        population: bool,
        root: bool,
    },
    Boolean {
        all: bool,
    },
    Extreme {
        greatest: bool,
    },
    Picked {
        newest: bool,
    },
    /// `array_agg`, or `string_agg` with its separator.
    Elements {
        separator: Option<String>,
    },
    TopK {
        k: u64,
    },
    Histogram {
        low: f64,
        high: f64,
        bins: usize,
    },
    ApproxDistinct,
    ApproxPercentile {
        p: f64,
    },
}

impl Accumulator {
    /// Over rows of `input`. `retracts`: rows are taken away, too.
    pub(crate) fn compile(
        aggregate: &Aggregate,
        input: &DFSchema,
        result: &DataType,
        retracts: bool,
    ) -> Result<Self, CompileError> {
        let compile = |expr: &Expr| Expression::compile(expr, input);
        let kind = Kind::of(aggregate)?;
        let text = text_of_aggregate(aggregate);
        let arguments = aggregate.arguments.iter().take(1).map(compile).collect::<Result<Vec<_>, _>>()?;
        if arguments.is_empty() && kind != Kind::Count {
            return Err(CompileError(format!("{text} needs an argument")));
        }
        if retracts && kind == Kind::ApproxDistinct {
            return Err(CompileError(format!("{text} can't take rows away again, and its input does; write count(DISTINCT x)")));
        }
        // Of these it does not matter how often a value is there.
        let idle = matches!(kind, Kind::Extreme { .. } | Kind::Boolean { .. } | Kind::Picked { .. } | Kind::ApproxDistinct);
        let accumulator = Accumulator {
            filter: aggregate.filter.as_ref().map(|filter| Expression::compile_condition(filter, input)).transpose()?,
            order: order(aggregate, input, &kind)?,
            elements: None,
            distinct: aggregate.distinct && !idle,
            retracts,
            results: vec![result.clone()],
            texts: vec![text],
            kind,
            arguments,
        };
        accumulator.check_types()?;
        accumulator.with_elements()
    }

    /// The same with one more column of the row that it picks, if this aggregate picks the same one.
    pub(crate) fn join(&mut self, other: Accumulator) -> Result<Option<Accumulator>, CompileError> {
        let text = |filter: &Option<Expression>| filter.as_ref().map(|filter| filter.text().to_owned());
        if !matches!(self.kind, Kind::Picked { .. }) || self.kind != other.kind || text(&self.filter) != text(&other.filter) {
            return Ok(Some(other));
        }
        self.arguments.extend(other.arguments);
        self.results.extend(other.results);
        self.texts.extend(other.texts);
        self.elements = Some(row_converter(self.arguments.iter().map(Expression::data_type))?);
        Ok(None)
    }

    fn with_elements(self) -> Result<Self, CompileError> {
        let bytes = self.distinct
            || matches!(
                self.kind,
                Kind::Extreme { .. } | Kind::Picked { .. } | Kind::Elements { .. } | Kind::TopK { .. } | Kind::ApproxDistinct
            );
        let elements = bytes.then(|| row_converter(self.arguments.iter().map(Expression::data_type))).transpose()?;
        Ok(Accumulator { elements, ..self })
    }

    fn check_types(&self) -> Result<(), CompileError> {
        let Some(argument) = self.arguments.first().map(Expression::data_type) else { return Ok(()) };
        let refuse = |what: &str| Err(CompileError(format!("values of type {} {what}", type_name(argument))));
        match self.kind {
            Kind::Sum | Kind::Avg | Kind::Variance { .. } | Kind::Histogram { .. } | Kind::ApproxPercentile { .. }
                if self.over().is_none() =>
            {
                refuse("can't be added up")
            }
            Kind::Boolean { .. } if *argument != DataType::Boolean => refuse("are not true or false"),
            Kind::Elements { separator: Some(_) } if *argument != DataType::Utf8 => refuse("can't be joined to a text"),
            _ => Ok(()),
        }
    }

    /// The type in which its first argument is computed, if it is a number or a truth value.
    pub(crate) fn over(&self) -> Option<DataType> {
        let argument = self.arguments.first()?.data_type();
        let exact = |argument: &DataType| match argument {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(DataType::Int64),
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Some(DataType::UInt64),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Some(DataType::Float64),
            DataType::Decimal32(_, s) | DataType::Decimal64(_, s) | DataType::Decimal128(_, s) => {
                Some(DataType::Decimal256(76, *s))
            }
            _ => None,
        };
        match self.kind {
            Kind::Sum | Kind::Avg => exact(argument),
            Kind::Variance { .. } => match exact(argument)? {
                DataType::Int64 => Some(DataType::Int64),
                _ => Some(DataType::Float64),
            },
            Kind::Histogram { .. } | Kind::ApproxPercentile { .. } => exact(argument).map(|_| DataType::Float64),
            Kind::Boolean { .. } => Some(DataType::Boolean),
            _ => None,
        }
    }

    /// Whether rows whose argument is NULL do not count.
    pub(crate) fn skips_nulls(&self) -> bool {
        !matches!(self.kind, Kind::Picked { .. } | Kind::Elements { separator: None })
    }

    /// Whether its elements are compared with one another, rather than only kept.
    pub(crate) fn compares(&self) -> bool {
        self.distinct || matches!(self.kind, Kind::Extreme { .. } | Kind::TopK { .. } | Kind::ApproxDistinct)
    }

    /// Whether [`Accumulator::change`] is right in saying that the result changed, not only that it may have.
    pub(crate) fn tells_changes(&self) -> bool {
        !self.retracts && matches!(self.kind, Kind::Count | Kind::Extreme { .. } | Kind::Picked { .. })
    }

    /// Whether elements must be found again by the row that they came from.
    pub(crate) fn needs_rows(&self) -> bool {
        self.retracts && matches!(self.start(), Value::Sequence(_))
    }

    /// As SQL: one text for each of its results.
    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    pub(crate) fn text(&self) -> &str {
        self.texts.first().map_or("", String::as_str)
    }

    /// What decides the meaning of its state.
    pub(crate) fn meaning(&self) -> String {
        let types: Vec<_> = self.arguments.iter().map(|argument| argument.data_type().to_string()).collect();
        format!("{} of {} as {:?}, {}", self.texts.join(", "), types.join(", "), self.results, self.retracts)
    }

    /// What of the group's rows it keeps, if that grows with them.
    pub(crate) fn keeps(&self) -> Option<&'static str> {
        match self.start() {
            Value::Multiset(_) if matches!(self.kind, Kind::TopK { .. }) && !self.retracts => None,
            Value::Multiset(_) | Value::Distinct(_) => Some("each different value"),
            Value::Sequence(_) => Some("each value"),
            _ => None,
        }
    }

    /// The state of a group without rows.
    pub(crate) fn start(&self) -> Value {
        let plain = match &self.kind {
            Kind::Count if self.distinct => return Value::Multiset(Box::default()),
            Kind::Count => return Value::Count(0),
            Kind::Elements { .. } if self.distinct => return Value::Multiset(Box::default()),
            Kind::Elements { .. } => return Value::Sequence(Box::default()),
            Kind::TopK { .. } => return Value::Multiset(Box::default()),
            Kind::Extreme { .. } if self.retracts => return Value::Multiset(Box::default()),
            Kind::Extreme { .. } => return Value::Extreme(None),
            Kind::Picked { .. } if self.retracts => return Value::Sequence(Box::default()),
            Kind::Picked { .. } => return Value::Picked(None),
            Kind::ApproxDistinct => return Value::Registers(Box::<HyperLogLog>::default()),
            Kind::Boolean { .. } => return Value::Booleans { trues: 0, falses: 0 },
            Kind::Sum | Kind::Avg => match self.over() {
                Some(DataType::Float64) => Value::Floats(Box::<FloatSum>::default()),
                Some(DataType::Decimal256(..)) => Value::Decimals { sum: i256::ZERO, count: 0 },
                _ => Value::Integers { sum: 0, count: 0 },
            },
            Kind::Variance { .. } => Value::Moments(Box::<Moments>::default()),
            Kind::Histogram { bins, .. } => Value::Counts(vec![0; bins + 2].into()),
            Kind::ApproxPercentile { .. } => Value::Quantiles(Box::<Quantiles>::default()),
        };
        if self.distinct { Value::Distinct(Box::new((Multiset::default(), plain))) } else { plain }
    }

    /// Takes the argument of row `i` in, or out again; returns whether the result may have changed.
    pub(crate) fn change(
        &self,
        value: &mut Value,
        arguments: &Arguments,
        (i, arrival, delete): (usize, Arrival<'_>, bool),
        bytes: &mut usize,
    ) -> bool {
        let Some(at) = arguments.place(i) else { return false };
        let element = || arguments.rows.as_ref().map_or(&[] as &[u8], |rows| rows.row(at).data());
        match value {
            Value::Count(count) => *count += sign(delete),
            Value::Extreme(best) => return self.better(best, element(), bytes),
            Value::Picked(picked) => {
                let Kind::Picked { newest } = self.kind else { return false };
                let before = picked.as_ref().map(|(time, _)| *time);
                let wins = before.is_none_or(|before| if newest { before <= arrival.time } else { before > arrival.time });
                return wins && pick(picked, arrival.time, element(), bytes);
            }
            Value::Multiset(set) => return self.change_set(set, element(), delete, bytes),
            Value::Sequence(sequence) if delete => return sequence.remove(arrival, bytes),
            Value::Sequence(sequence) => {
                let order = arguments.order.as_ref().map_or(&[] as &[u8], |rows| rows.row(at).data());
                sequence.add(order, element(), arrival, bytes);
            }
            Value::Registers(registers) => {
                let before = registers.bytes();
                let changed = registers.add(element());
                *bytes += registers.bytes() - before;
                return changed;
            }
            Value::Distinct(distinct) => {
                let (seen, inner) = &mut **distinct;
                if self.change_set(seen, element(), delete, bytes) {
                    self.change_number(inner, &arguments.numbers, at, delete, bytes);
                    return true;
                }
                return false;
            }
            number => self.change_number(number, &arguments.numbers, at, delete, bytes),
        }
        true
    }

    fn better(&self, best: &mut Option<Box<[u8]>>, candidate: &[u8], bytes: &mut usize) -> bool {
        let greatest = self.kind == Kind::Extreme { greatest: true };
        let better = best.as_deref().is_none_or(|best| if greatest { candidate > best } else { candidate < best });
        if better {
            *bytes = (*bytes + candidate.len()).saturating_sub(best.as_ref().map_or(0, |best| best.len()));
            *best = Some(candidate.into());
        }
        better
    }

    /// Returns whether the different values have changed, or of `topk` may have.
    fn change_set(&self, set: &mut Multiset, element: &[u8], delete: bool, bytes: &mut usize) -> bool {
        let changed = match (delete, self.retracts) {
            (true, _) => set.remove(element, bytes),
            (false, false) if self.distinct => set.add_once(element, bytes),
            (false, _) => set.add(element, bytes),
        };
        let Kind::TopK { k } = self.kind else { return changed };
        if !self.retracts {
            set.keep_greatest(k, bytes);
        }
        true
    }

    fn change_number(&self, value: &mut Value, numbers: &Numbers, at: usize, delete: bool, bytes: &mut usize) {
        let by = sign(delete);
        let before = value.bytes();
        match (&mut *value, numbers) {
            (Value::Integers { sum, count }, Numbers::Integers(values)) => {
                *sum += i128::from(by) * i128::from(number(values, at));
                *count += by;
            }
            (Value::Integers { sum, count }, Numbers::Unsigned(values)) => {
                *sum += i128::from(by) * i128::from(number(values, at));
                *count += by;
            }
            (Value::Decimals { sum, count }, Numbers::Decimals(values)) => {
                // 38 digits and 19 of a count are less than 76.
                let value = number(values, at);
                *sum = if delete { sum.wrapping_sub(value) } else { sum.wrapping_add(value) };
                *count += by;
            }
            (Value::Floats(sum), Numbers::Floats(values)) => sum.change(number(values, at), delete),
            (Value::Moments(moments), Numbers::Floats(values)) => moments.change(number(values, at), delete),
            (Value::Moments(moments), Numbers::Integers(values)) => moments.change_whole(number(values, at), delete),
            (Value::Quantiles(quantiles), Numbers::Floats(values)) => quantiles.change(number(values, at), delete),
            (Value::Counts(counts), Numbers::Floats(values)) => {
                let bin = self.bin(number(values, at));
                counts.get_mut(bin).into_iter().for_each(|count| *count += by);
            }
            (Value::Booleans { trues, falses }, Numbers::Booleans(values)) => {
                *if at < values.len() && values.value(at) { trues } else { falses } += by;
            }
            _ => {}
        }
        *bytes = (*bytes + value.bytes()).saturating_sub(before);
    }

    /// The position of a number's count in a histogram: below, the bins, at or above the upper bound. NaN is above.
    fn bin(&self, number: f64) -> usize {
        let Kind::Histogram { low, high, bins } = self.kind else { return 0 };
        if number < low {
            return 0;
        }
        if number >= high || number.is_nan() {
            return bins + 1;
        }
        // Halved, so that the difference of two great bounds is no infinity.
        let share = (number / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
        1 + ((share * bins as f64) as usize).min(bins - 1)
    }
}

impl Kind {
    fn of(aggregate: &Aggregate) -> Result<Self, CompileError> {
        use AggregateFunction as F;
        let name = aggregate.function.name();
        let extra = |at: usize, what: &str| match aggregate.arguments.get(at) {
            Some(expr) => literal(expr).ok_or_else(|| CompileError(format!("{what} of {name} must be a literal"))),
            None => Err(CompileError(format!("{name} lacks {what}"))),
        };
        let double = |at: usize, what: &str| match extra(at, what)?.cast_to(&DataType::Float64)? {
            ScalarValue::Float64(Some(number)) => Ok(number),
            _ => Err(CompileError(format!("{what} of {name} is NULL"))),
        };
        let whole = |at: usize, what: &str| match extra(at, what)?.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(Some(number @ 1..=MOST_ELEMENTS)) => Ok(number as usize),
            _ => Err(CompileError(format!("{what} of {name} must be between 1 and {MOST_ELEMENTS}"))),
        };
        Ok(match aggregate.function {
            F::Latest => Kind::Picked { newest: true },
            F::Earliest => Kind::Picked { newest: false },
            F::Count => Kind::Count,
            F::Sum => Kind::Sum,
            F::Min => Kind::Extreme { greatest: false },
            F::Max => Kind::Extreme { greatest: true },
            F::Avg => Kind::Avg,
            F::StddevPop => Kind::Variance { population: true, root: true },
            F::StddevSamp => Kind::Variance { population: false, root: true },
            F::VarPop => Kind::Variance { population: true, root: false },
            F::VarSamp => Kind::Variance { population: false, root: false },
            F::ArrayAgg => Kind::Elements { separator: None },
            F::StringAgg => match extra(1, "the separator")?.try_as_str() {
                Some(Some(separator)) => Kind::Elements { separator: Some(separator.to_owned()) },
                _ => return Err(CompileError("the separator of string_agg must be a text".into())),
            },
            F::BoolAnd => Kind::Boolean { all: true },
            F::BoolOr => Kind::Boolean { all: false },
            F::ApproxDistinct => Kind::ApproxDistinct,
            F::ApproxPercentile => match double(1, "the share")? {
                p if (0.0..=1.0).contains(&p) => Kind::ApproxPercentile { p },
                _ => return Err(CompileError("the share of approx_percentile must be between 0 and 1".into())),
            },
            F::Histogram => {
                let (low, high, bins) =
                    (double(1, "the lower bound")?, double(2, "the upper bound")?, whole(3, "the number of bins")?);
                if !(low < high && low.is_finite() && high.is_finite()) {
                    return Err(CompileError("the lower bound of histogram must be below the upper one".into()));
                }
                Kind::Histogram { low, high, bins }
            }
            F::TopK => Kind::TopK { k: whole(1, "the number of values")? as u64 },
        })
    }
}

/// Bins of a histogram, or values of `topk`, at most.
const MOST_ELEMENTS: i64 = 10_000;

/// The value of a literal, which may be negative.
fn literal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Negative(inner) => literal(inner)?.arithmetic_negate().ok(),
        Expr::Alias(alias) => literal(&alias.expr),
        _ => None,
    }
}

fn order(aggregate: &Aggregate, input: &DFSchema, kind: &Kind) -> Result<Option<(Vec<Expression>, RowConverter)>, CompileError> {
    if aggregate.order.is_empty() {
        return Ok(None);
    }
    if !matches!(kind, Kind::Elements { .. }) || aggregate.distinct {
        return Err(CompileError(format!("{} has no order", text_of_aggregate(aggregate))));
    }
    let mut fields = Vec::new();
    let mut expressions = Vec::new();
    for order in &aggregate.order {
        let expression = Expression::compile(&order.expr, input)?;
        let options = SortOptions { descending: order.descending, nulls_first: order.nulls_first };
        fields.push(SortField::new_with_options(expression.data_type().clone(), options));
        expressions.push(expression);
    }
    Ok(Some((expressions, RowConverter::new(fields)?)))
}

fn sign(delete: bool) -> i64 {
    if delete { -1 } else { 1 }
}

/// The number at a place that is there.
fn number<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>, at: usize) -> T::Native {
    values.values().get(at).copied().unwrap_or_default()
}

/// Replaces a picked row; returns whether it differs.
fn pick(picked: &mut Option<(i64, Box<[u8]>)>, time: i64, row: &[u8], bytes: &mut usize) -> bool {
    match picked {
        Some((at, kept)) => {
            *at = time;
            if **kept == *row {
                return false;
            }
            *bytes = (*bytes + row.len()).saturating_sub(kept.len());
            if kept.len() == row.len() {
                kept.copy_from_slice(row);
            } else {
                *kept = row.into();
            }
            true
        }
        None => {
            *bytes += row.len();
            *picked = Some((time, row.into()));
            true
        }
    }
}

/// An aggregate as SQL.
fn text_of_aggregate(aggregate: &Aggregate) -> String {
    let list = |expressions: Vec<String>| expressions.join(", ");
    let argument = |expr: &Expr| match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().map_or_else(|| text_of(expr), |text| format!("'{text}'")),
        expr => text_of(expr),
    };
    let arguments = match aggregate.arguments.as_slice() {
        [] => "*".into(),
        arguments => list(arguments.iter().map(argument).collect()),
    };
    let distinct = if aggregate.distinct { "DISTINCT " } else { "" };
    let order = match aggregate.order.as_slice() {
        [] => String::new(),
        order => format!(
            " ORDER BY {}",
            list(
                order
                    .iter()
                    .map(|order| format!("{}{}", text_of(&order.expr), if order.descending { " DESC" } else { "" }))
                    .collect()
            )
        ),
    };
    let filter = aggregate.filter.as_ref().map(|filter| format!(" FILTER (WHERE {})", text_of(filter))).unwrap_or_default();
    format!("{}({distinct}{arguments}{order}){filter}", aggregate.function.name())
}
