//! Values: what one aggregate remembers of one group.

use arrow::datatypes::i256;

use super::error::StateError;
use super::exact::{FloatSum, Moments};
use super::multiset::Multiset;
use super::operator::WriteState;
use super::saved::{Reader, Saved};
use super::sequence::Sequence;
use super::sketch::{HyperLogLog, Quantiles};

/// An aggregate's state in one group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Count(i64),
    /// Wide enough that adding never overflows; the result is checked when it is sent.
    Integers {
        sum: i128,
        count: i64,
    },
    Decimals {
        sum: i256,
        count: i64,
    },
    Floats(Box<FloatSum>),
    Moments(Box<Moments>),
    Booleans {
        trues: i64,
        falses: i64,
    },
    /// The encoding of the smallest or greatest value, whose bytes sort as the values do.
    Extreme(Option<Box<[u8]>>),
    /// The encoded arguments of the newest or oldest row, and its time.
    Picked(Option<(i64, Box<[u8]>)>),
    /// A histogram's counts.
    Counts(Box<[i64]>),
    Quantiles(Box<Quantiles>),
    Registers(Box<HyperLogLog>),
    Multiset(Box<Multiset>),
    Sequence(Box<Sequence>),
    /// Which values were counted, and what they make.
    Distinct(Box<(Multiset, Value)>),
}

impl Value {
    /// Appends it to a payload, but for what has records of its own.
    pub(crate) fn save(&self, saved: &mut Saved) {
        match self {
            Value::Count(count) => saved.integer(*count),
            Value::Integers { sum, count } => {
                saved.long(*sum);
                saved.integer(*count);
            }
            Value::Decimals { sum, count } => {
                saved.wide(*sum);
                saved.integer(*count);
            }
            Value::Floats(sum) => sum.save(saved),
            Value::Moments(moments) => moments.save(saved),
            Value::Booleans { trues, falses } => {
                saved.integer(*trues);
                saved.integer(*falses);
            }
            Value::Extreme(best) => saved.optional(best.as_deref()),
            Value::Picked(picked) => {
                saved.optional(picked.as_ref().map(|(_, row)| row.as_ref()));
                picked.iter().for_each(|(time, _)| saved.integer(*time));
            }
            Value::Counts(counts) => counts.iter().for_each(|count| saved.integer(*count)),
            Value::Quantiles(quantiles) => quantiles.save(saved),
            Value::Registers(registers) => registers.save(saved),
            Value::Multiset(_) => {}
            Value::Sequence(sequence) => sequence.save(saved),
            Value::Distinct(distinct) => distinct.1.save(saved),
        }
    }

    /// Reads back what `save` wrote. It is of the right kind and empty but for what has records of its own.
    pub(crate) fn load(&mut self, saved: &mut Reader<'_>, bytes: &mut usize) -> Result<(), StateError> {
        match self {
            Value::Count(count) => *count = saved.integer()?,
            Value::Integers { sum, count } => (*sum, *count) = (saved.long()?, saved.integer()?),
            Value::Decimals { sum, count } => (*sum, *count) = (saved.wide()?, saved.integer()?),
            Value::Floats(sum) => **sum = FloatSum::load(saved)?,
            Value::Moments(moments) => **moments = Moments::load(saved)?,
            Value::Booleans { trues, falses } => (*trues, *falses) = (saved.integer()?, saved.integer()?),
            Value::Extreme(best) => *best = saved.optional()?.map(Into::into),
            Value::Picked(picked) => {
                *picked = match saved.optional()? {
                    Some(row) => Some((saved.integer()?, row.into())),
                    None => None,
                }
            }
            Value::Counts(counts) => counts.iter_mut().try_for_each(|count| saved.integer().map(|saved| *count = saved))?,
            Value::Quantiles(quantiles) => **quantiles = Quantiles::load(saved)?,
            Value::Registers(registers) => **registers = HyperLogLog::load(saved)?,
            Value::Multiset(_) => {}
            Value::Sequence(sequence) => sequence.load(saved)?,
            Value::Distinct(distinct) => return distinct.1.load(saved, bytes),
        }
        *bytes += self.bytes();
        Ok(())
    }

    /// Writes what has records of its own and changed since the last call.
    pub(crate) fn drain(&mut self, write: &mut WriteState<'_>) {
        match self {
            Value::Multiset(set) => set.drain(write),
            Value::Sequence(sequence) => sequence.drain(write),
            Value::Distinct(distinct) => distinct.0.drain(write),
            _ => {}
        }
    }

    /// Takes back one of these records.
    pub(crate) fn restore(&mut self, key: &[u8], record: &[u8], bytes: &mut usize) -> Result<(), StateError> {
        match self {
            Value::Multiset(set) => set.restore(key, record, bytes),
            Value::Sequence(sequence) => sequence.restore(key, record, bytes),
            Value::Distinct(distinct) => distinct.0.restore(key, record, bytes),
            _ => Err(StateError::Damaged("it belongs to nothing".into())),
        }
    }

    /// Forgets all, and what has records of its own deletes them. `empty` is the value of a group without rows.
    pub(crate) fn clear(&mut self, empty: Value, bytes: &mut usize) {
        *bytes = bytes.saturating_sub(self.bytes());
        match self {
            Value::Multiset(set) => set.clear(bytes),
            Value::Sequence(sequence) => sequence.clear(bytes),
            Value::Distinct(distinct) => {
                distinct.0.clear(bytes);
                if let Value::Distinct(empty) = empty {
                    distinct.1 = empty.1;
                }
            }
            other => *other = empty,
        }
    }

    /// About the memory that it takes besides itself, but for what has records of its own.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Value::Extreme(Some(best)) => best.len(),
            Value::Picked(Some((_, row))) => row.len(),
            Value::Floats(sum) => sum.bytes(),
            Value::Moments(moments) => moments.bytes(),
            Value::Counts(counts) => size_of_val(counts.as_ref()),
            Value::Quantiles(quantiles) => quantiles.bytes(),
            Value::Registers(registers) => registers.bytes(),
            Value::Distinct(distinct) => distinct.1.bytes(),
            _ => 0,
        }
    }
}
