//! Sketches: estimates in bounded memory that depend neither on the order nor on the batches of what they were given.

use std::collections::BTreeMap;

use super::error::StateError;
use super::saved::{Reader, Saved};

/// The hash of some bytes: the same on every machine, each bit of it depending on all of them.
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = mixed(seed ^ bytes.len() as u64);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = mixed(hash.rotate_left(23) ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    mixed(hash.rotate_left(23) ^ u64::from_le_bytes(last))
}

/// Splitmix64's finalizer: one to one, and any bit flipped flips half of the others.
fn mixed(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// How many different values there were, by HyperLogLog with 4,096 registers (a standard error of 1.6 %) and the estimator
/// of Ertl 2017, which needs no corrections for small and for great numbers. Nothing can be taken away from it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct HyperLogLog {
    /// Registers that are not 0. A few hundred values need few of them.
    registers: BTreeMap<u16, u8>,
}

const INDEX_BITS: u32 = 12;
const REGISTERS: usize = 1 << INDEX_BITS;
const RANK_BITS: u32 = 64 - INDEX_BITS;

impl HyperLogLog {
    /// Adds a value; returns whether that changed anything.
    pub(crate) fn add(&mut self, value: &[u8]) -> bool {
        let hash = hash(0, value);
        let index = (hash >> RANK_BITS) as u16;
        let rank = ((hash << INDEX_BITS | 1 << (INDEX_BITS - 1)).leading_zeros() + 1) as u8;
        let register = self.registers.entry(index).or_default();
        let more = rank > *register;
        *register = rank.max(*register);
        more
    }

    pub(crate) fn estimate(&self) -> i64 {
        let mut counts = [0u32; RANK_BITS as usize + 2];
        for rank in self.registers.values() {
            if let Some(count) = counts.get_mut(usize::from(*rank)) {
                *count += 1;
            }
        }
        let m = REGISTERS as f64;
        let empty = (REGISTERS - self.registers.len().min(REGISTERS)) as f64;
        let [_, middle @ .., full] = &counts;
        let mut z = m * tau(1.0 - f64::from(*full) / m);
        for count in middle.iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += m * sigma(empty / m);
        (m * m / (2.0 * std::f64::consts::LN_2 * z)).round() as i64
    }

    pub(crate) fn bytes(&self) -> usize {
        self.registers.len() * 4
    }

    pub(crate) fn save(&self, saved: &mut Saved) {
        let bytes: Vec<u8> = self.registers.iter().flat_map(|(index, rank)| [*index as u8, (*index >> 8) as u8, *rank]).collect();
        saved.bytes(&bytes);
    }

    pub(crate) fn load(saved: &mut Reader<'_>) -> Result<Self, StateError> {
        let (registers, _) = saved.bytes()?.as_chunks::<3>();
        let registers = registers.iter().map(|[low, high, rank]| (u16::from_le_bytes([*low, *high]), *rank)).collect();
        Ok(HyperLogLog { registers })
    }
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

/// Percentiles with a bounded relative error: how many numbers there were of each exponent and 7 leading bits of the
/// mantissa. A percentile is the least number of its bucket (by its distance from zero), so it is at most 1/128 (0.8 %)
/// nearer to zero than the exact one, and exact for numbers of up to 8 bits. Counts can be taken away again.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Quantiles {
    counts: BTreeMap<i64, i64>,
    total: i64,
}

/// Bits of a `f64` that are below those of its bucket.
const CUT: u32 = 52 - 7;

impl Quantiles {
    /// Adds a number, or takes it away. NaN is greater than all others, as in PostgreSQL.
    pub(crate) fn change(&mut self, number: f64, take: bool) {
        let by = if take { -1 } else { 1 };
        let bucket = bucket(number);
        let count = self.counts.entry(bucket).or_default();
        *count += by;
        if *count == 0 {
            self.counts.remove(&bucket);
        }
        self.total += by;
    }

    /// The smallest number that is not smaller than a share `p` of all.
    pub(crate) fn at(&self, p: f64) -> Option<f64> {
        let wanted = ((p * self.total as f64).ceil() as i64).clamp(1, self.total.max(1));
        let mut seen = 0;
        let found = self.counts.iter().find(|(_, count)| {
            seen += **count;
            seen >= wanted
        });
        found.map(|(bucket, _)| number(*bucket))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.counts.len() * 24
    }

    pub(crate) fn save(&self, saved: &mut Saved) {
        saved.integer(self.counts.len() as i64);
        for (bucket, count) in &self.counts {
            saved.integer(*bucket);
            saved.integer(*count);
        }
    }

    pub(crate) fn load(saved: &mut Reader<'_>) -> Result<Self, StateError> {
        let length = saved.integer()?;
        let counts = (0..length).map(|_| Ok((saved.integer()?, saved.integer()?))).collect::<Result<BTreeMap<_, _>, _>>()?;
        let total = counts.values().fold(0i64, |total, count| total.saturating_add(*count));
        Ok(Quantiles { counts, total })
    }
}

/// Buckets sort as their numbers do.
fn bucket(number: f64) -> i64 {
    if number.is_nan() {
        return i64::MAX;
    }
    let bucket = (number.abs().to_bits() >> CUT) as i64;
    if number < 0.0 { -bucket } else { bucket }
}

fn number(bucket: i64) -> f64 {
    if bucket == i64::MAX {
        return f64::NAN;
    }
    let number = f64::from_bits(bucket.unsigned_abs() << CUT);
    if bucket < 0 { -number } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three standard errors are 4.9 %.
    #[test]
    fn distinct_values_are_estimated() {
        for n in [0u32, 1, 2, 10, 100, 1_000, 10_000, 100_000, 1_000_000] {
            let mut sketch = HyperLogLog::default();
            (0..n).rev().for_each(|i| {
                sketch.add(&i.to_le_bytes());
            });
            (0..n.min(5000)).for_each(|i| assert!(!sketch.add(&i.to_le_bytes())));
            let error = (sketch.estimate() as f64 - f64::from(n)).abs() / f64::from(n.max(1));
            assert!(error < 0.049, "{} of {n}", sketch.estimate());
        }
    }

    #[test]
    fn percentiles_are_within_their_error() {
        let mut sketch = Quantiles::default();
        assert_eq!(sketch.at(0.5), None);
        let mut numbers: Vec<f64> = (0..4001).map(|i| f64::from(i - 1500).powi(3) / 7.0).collect();
        numbers.iter().for_each(|number| sketch.change(*number, false));
        for p in [0.0f64, 0.01, 0.25, 0.375, 0.5, 0.9, 0.999, 1.0] {
            let exact = numbers[((p * 4001.0).ceil() as usize).max(1) - 1];
            let estimate = sketch.at(p).unwrap();
            assert!((estimate - exact).abs() <= exact.abs() / 128.0 && estimate.abs() <= exact.abs(), "{estimate} for {exact}");
        }
        numbers.drain(3..).for_each(|number| sketch.change(number, true));
        [f64::NAN, f64::INFINITY].iter().for_each(|number| sketch.change(*number, false));
        assert_eq!(sketch.at(0.8), Some(f64::INFINITY));
        assert!(sketch.at(0.81).unwrap().is_nan());
    }

    #[test]
    fn numbers_of_up_to_eight_bits_are_exact() {
        for i in -255..=255 {
            let mut sketch = Quantiles::default();
            sketch.change(f64::from(i) / 4.0, false);
            assert_eq!(sketch.at(0.5), Some(f64::from(i) / 4.0));
        }
    }
}
