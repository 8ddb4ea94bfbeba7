//! Exact sums of floating point numbers, from which what was added can be taken away again.
//!
//! A sum in a `f64` drifts: `1e20 + 1 - 1e20` is 0, and adding in another order gives another result. Here the sum is a
//! whole number of tiny units, as long as it must be, so only the result is rounded, once.

use super::error::StateError;
use super::saved::{Reader, Saved};

const LIMB_BITS: i32 = 32;
const LIMB_MASK: i64 = 0xffff_ffff;

/// The sum of `limbs[k] * 2^(32 * (low + k))`. All limbs but the last are within 0 .. 2^32; the last one has the sign.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Exact {
    low: i32,
    limbs: Vec<i64>,
}

/// A number without its sign: `digits[k] * 2^(32 * (low + k))`.
struct Magnitude {
    low: i32,
    digits: Vec<u32>,
}

impl Exact {
    /// Adds `±word * 2^exponent`.
    fn add(&mut self, negative: bool, word: u64, exponent: i32) {
        if word == 0 {
            return;
        }
        let (first, shift) = (exponent.div_euclid(LIMB_BITS), exponent.rem_euclid(LIMB_BITS));
        let mut rest = u128::from(word) << shift;
        let at = self.reach(first, 3);
        let mut carry = 0i64;
        let mut k = at;
        while rest != 0 || carry != 0 {
            let part = (rest as i64) & LIMB_MASK;
            rest >>= LIMB_BITS;
            let last = k + 1 >= self.limbs.len();
            let Some(limb) = self.limbs.get_mut(k) else { break };
            *limb += carry + if negative { -part } else { part };
            carry = 0;
            if !last {
                carry = *limb >> LIMB_BITS;
                *limb &= LIMB_MASK;
            }
            k += 1;
        }
        // Room for what the next ones may carry.
        if let Some(last) = self.limbs.last_mut()
            && last.unsigned_abs() >> 40 != 0
        {
            let carry = *last >> LIMB_BITS;
            *last &= LIMB_MASK;
            self.limbs.push(carry);
        }
    }

    /// Makes room for `count` limbs from `first`, and says where that one is.
    fn reach(&mut self, first: i32, count: usize) -> usize {
        if self.limbs.is_empty() {
            self.low = first;
        }
        if first < self.low {
            let more = usize::try_from(self.low.saturating_sub(first)).unwrap_or(0);
            self.limbs.splice(0..0, std::iter::repeat_n(0, more));
            self.low = first;
        }
        let at = usize::try_from(first.saturating_sub(self.low)).unwrap_or(0);
        while self.limbs.len() < at + count {
            // The last limb's sign moves up.
            let carry = self.limbs.last_mut().map_or(0, |last| {
                let carry = *last >> LIMB_BITS;
                *last &= LIMB_MASK;
                carry
            });
            self.limbs.push(carry);
        }
        at
    }

    fn add_magnitude(&mut self, negative: bool, number: &Magnitude) {
        for (digit, k) in number.digits.iter().zip(number.low..) {
            self.add(negative, u64::from(*digit), k.saturating_mul(LIMB_BITS));
        }
    }

    /// Adds a finite number, or takes it away.
    fn change(&mut self, number: f64, take: bool) {
        let (negative, mantissa, exponent) = parts(number);
        self.add(negative != take, mantissa, exponent);
    }

    fn change_by_square(&mut self, mantissa: u64, exponent: i32, take: bool) {
        let square = u128::from(mantissa) * u128::from(mantissa);
        self.add(take, square as u64, exponent * 2);
        self.add(take, (square >> 64) as u64, exponent * 2 + 64);
    }

    fn is_negative(&self) -> bool {
        self.limbs.last().is_some_and(|last| *last < 0)
    }

    fn magnitude(&self) -> Magnitude {
        let negative = self.is_negative();
        let mut digits = Vec::with_capacity(self.limbs.len() + 1);
        let mut carry = 0i64;
        for limb in &self.limbs {
            let value = carry + if negative { -limb } else { *limb };
            digits.push((value & LIMB_MASK) as u32);
            carry = value >> LIMB_BITS;
        }
        while carry > 0 {
            digits.push((carry & LIMB_MASK) as u32);
            carry >>= LIMB_BITS;
        }
        Magnitude { low: self.low, digits }
    }

    /// The nearest `f64`, ties to even; an infinity if it is too great for any.
    pub(crate) fn rounded(&self) -> f64 {
        let (mantissa, exponent) = self.magnitude().leading_bits(-1074);
        let value = scaled(mantissa as f64, exponent);
        if self.is_negative() { -value } else { value }
    }

    fn save(&self, saved: &mut Saved) {
        saved.integer(i64::from(self.low));
        saved.integer(self.limbs.len() as i64);
        self.limbs.iter().for_each(|limb| saved.integer(*limb));
    }

    fn load(saved: &mut Reader<'_>) -> Result<Self, StateError> {
        let low = i32::try_from(saved.integer()?).map_err(|_| StateError::Damaged("a sum is out of bounds".into()))?;
        let length = saved.integer()?;
        let limbs = (0..length).map(|_| saved.integer()).collect::<Result<_, _>>()?;
        Ok(Exact { low, limbs })
    }
}

impl Magnitude {
    fn of(number: u64) -> Self {
        Magnitude { low: 0, digits: vec![number as u32, (number >> LIMB_BITS) as u32] }
    }

    fn times(&self, other: &Magnitude) -> Magnitude {
        let mut digits = vec![0u32; self.digits.len() + other.digits.len()];
        for (i, a) in self.digits.iter().enumerate() {
            let mut carry = 0u64;
            for (digit, b) in digits.iter_mut().skip(i).zip(other.digits.iter().chain(std::iter::repeat(&0))) {
                let value = u64::from(*a) * u64::from(*b) + u64::from(*digit) + carry;
                *digit = value as u32;
                carry = value >> LIMB_BITS;
            }
        }
        Magnitude { low: self.low.saturating_add(other.low), digits }
    }

    /// Its 53 leading bits, rounded to nearest, ties to even, and the exponent of the last one, which is at least `lowest`.
    fn leading_bits(&self, lowest: i32) -> (u64, i32) {
        let Some(top) = self.digits.iter().rposition(|digit| *digit != 0) else { return (0, 0) };
        let bits = |digit: usize| self.digits.get(digit).copied().unwrap_or(0);
        let origin = self.low.saturating_mul(LIMB_BITS);
        let width = top as i32 * LIMB_BITS + LIMB_BITS - bits(top).leading_zeros() as i32;
        let exponent = (origin + width - 53).max(lowest);
        // How many bits fall away.
        let cut = exponent - origin;
        let bit = |at: i32| usize::try_from(at).is_ok_and(|at| bits(at / 32) >> (at % 32) & 1 == 1);
        let mantissa = (cut..width).rev().fold(0u64, |mantissa, at| mantissa << 1 | u64::from(bit(at)));
        let half = bit(cut - 1);
        let more = (0..cut - 1).any(bit);
        (mantissa + u64::from(half && (more || mantissa & 1 == 1)), exponent)
    }
}

/// `number = ±mantissa * 2^exponent`, of a finite number.
fn parts(number: f64) -> (bool, u64, i32) {
    let bits = number.to_bits();
    let (fraction, exponent) = (bits & ((1 << 52) - 1), ((bits >> 52) & 0x7ff) as i32);
    let negative = number.is_sign_negative();
    if exponent == 0 { (negative, fraction, -1074) } else { (negative, fraction | 1 << 52, exponent - 1075) }
}

/// `number * 2^exponent`, also where the power alone would be out of bounds.
fn scaled(number: f64, exponent: i32) -> f64 {
    let half = exponent / 2;
    number * 2f64.powi(half) * 2f64.powi(exponent - half)
}

/// The sum of floating point numbers of any kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FloatSum {
    finite: Exact,
    pub(crate) count: i64,
    not_numbers: i64,
    infinite: i64,
    negative_infinite: i64,
}

impl FloatSum {
    /// Adds a number, or takes it away.
    pub(crate) fn change(&mut self, number: f64, take: bool) {
        let by = if take { -1 } else { 1 };
        self.count += by;
        if number.is_nan() {
            self.not_numbers += by;
        } else if number == f64::INFINITY {
            self.infinite += by;
        } else if number == f64::NEG_INFINITY {
            self.negative_infinite += by;
        } else {
            self.finite.change(number, take);
        }
    }

    /// The sum; `None` if it is finite and too great for a `f64`.
    pub(crate) fn total(&self) -> Option<f64> {
        match (self.not_numbers, self.infinite, self.negative_infinite) {
            (0, 0, 0) => Some(self.finite.rounded()).filter(|sum| sum.is_finite()),
            (0, _, 0) => Some(f64::INFINITY),
            (0, 0, _) => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.finite.limbs.len() * size_of::<i64>()
    }

    pub(crate) fn save(&self, saved: &mut Saved) {
        self.finite.save(saved);
        [self.count, self.not_numbers, self.infinite, self.negative_infinite].into_iter().for_each(|n| saved.integer(n));
    }

    pub(crate) fn load(saved: &mut Reader<'_>) -> Result<Self, StateError> {
        Ok(FloatSum {
            finite: Exact::load(saved)?,
            count: saved.integer()?,
            not_numbers: saved.integer()?,
            infinite: saved.integer()?,
            negative_infinite: saved.integer()?,
        })
    }
}

/// The sums of numbers and of their squares, of which variances are made without loss.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Moments {
    sum: Exact,
    squares: Exact,
    pub(crate) count: i64,
    not_finite: i64,
}

impl Moments {
    /// Adds a number, or takes it away.
    pub(crate) fn change(&mut self, number: f64, take: bool) {
        if number.is_finite() {
            let (negative, mantissa, exponent) = parts(number);
            self.change_by(negative, mantissa, exponent, take);
        } else {
            self.count += if take { -1 } else { 1 };
            self.not_finite += if take { -1 } else { 1 };
        }
    }

    /// The same of a whole number.
    pub(crate) fn change_whole(&mut self, number: i64, take: bool) {
        self.change_by(number < 0, number.unsigned_abs(), 0, take);
    }

    fn change_by(&mut self, negative: bool, mantissa: u64, exponent: i32, take: bool) {
        self.count += if take { -1 } else { 1 };
        self.sum.add(negative != take, mantissa, exponent);
        self.squares.change_by_square(mantissa, exponent, take);
    }

    /// The mean square distance from the mean: of all (`population`), or as the estimate from a sample. `None` without
    /// (enough) numbers.
    pub(crate) fn variance(&self, population: bool) -> Option<f64> {
        let divisor = if population { self.count } else { self.count - 1 };
        let count = u64::try_from(self.count).ok().filter(|_| divisor > 0)?;
        if self.not_finite != 0 {
            return Some(f64::NAN);
        }
        // count * sum(x^2) - sum(x)^2, which is never negative.
        let sum = self.sum.magnitude();
        let mut distance = Exact::default();
        distance.add_magnitude(false, &self.squares.magnitude().times(&Magnitude::of(count)));
        distance.add_magnitude(true, &sum.times(&sum));
        let (mantissa, exponent) = distance.magnitude().leading_bits(i32::MIN / 2);
        Some(scaled(mantissa as f64 / (self.count as f64 * divisor as f64), exponent))
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + (self.sum.limbs.len() + self.squares.limbs.len()) * size_of::<i64>()
    }

    pub(crate) fn save(&self, saved: &mut Saved) {
        self.sum.save(saved);
        self.squares.save(saved);
        saved.integer(self.count);
        saved.integer(self.not_finite);
    }

    pub(crate) fn load(saved: &mut Reader<'_>) -> Result<Self, StateError> {
        Ok(Moments {
            sum: Exact::load(saved)?,
            squares: Exact::load(saved)?,
            count: saved.integer()?,
            not_finite: saved.integer()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(numbers: &[f64]) -> f64 {
        let mut sum = FloatSum::default();
        numbers.iter().for_each(|number| sum.change(*number, false));
        sum.total().unwrap_or(f64::INFINITY)
    }

    /// Python 3, `math.fsum`.
    #[test]
    fn sums_are_rounded_once() {
        assert_eq!(sum(&[1e20, 1.0, -1e20]), 1.0);
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[1e308, 1e308, -1e308]), 1e308);
        assert_eq!(sum(&[1e16, 1.0, 1e-16]), 10_000_000_000_000_002.0);
        assert_eq!(sum(&[5e-324, 5e-324]), 1e-323);
        assert_eq!(sum(&[-0.5, 0.25]), -0.25);
        assert_eq!(sum(&[2.0, -2.0]), 0.0);
        assert_eq!(sum(&[1e308, 1e308]), f64::INFINITY);
        assert_eq!(sum(&[f64::INFINITY, -1e308]), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn what_was_added_can_be_taken_away() {
        let mut sum = FloatSum::default();
        let numbers = [1e300, -3.7, f64::NAN, 1e-300, f64::INFINITY, 0.1];
        numbers.iter().for_each(|number| sum.change(*number, false));
        [f64::NAN, 1e300, f64::INFINITY, 1e-300].iter().for_each(|number| sum.change(*number, true));
        assert_eq!((sum.total(), sum.count), (Some(-3.6), 2));
    }

    /// Python 3: `statistics.pvariance(x)`, `statistics.variance(x)`.
    #[test]
    fn variances() {
        let of = |numbers: &[f64]| {
            let mut moments = Moments::default();
            numbers.iter().for_each(|number| moments.change(*number, false));
            (moments.variance(true), moments.variance(false))
        };
        assert_eq!(of(&[]), (None, None));
        assert_eq!(of(&[3.0]), (Some(0.0), None));
        assert_eq!(of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]), (Some(4.0), Some(4.571_428_571_428_571)));
        assert_eq!(of(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]), (Some(22.5), Some(30.0)));
        assert_eq!(of(&[0.1, 0.2, 0.3]), (Some(0.006_666_666_666_666_665), Some(0.009_999_999_999_999_998)));
    }
}
