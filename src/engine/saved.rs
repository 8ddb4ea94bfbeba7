//! State records: how an operator's state is written to the changelog, and read back without trusting it.
//!
//! A record is: layout (4 bytes), checksum of key and payload (4 bytes), payload. The layout is a digest of everything that
//! decides what the payload means, so a record of another query is refused instead of misread. All numbers little endian.

use arrow::datatypes::i256;

use super::accumulator::Value;
use super::error::StateError;

/// Changed whenever the payload's form does, Arrow's row encoding included.
const VERSION: &str = "1";

/// A payload that is being written.
#[derive(Default)]
pub(crate) struct Saved(Vec<u8>);

impl Saved {
    /// The digest of what decides a payload's meaning.
    pub(crate) fn layout(meaning: &str) -> u32 {
        digest([VERSION.as_bytes(), meaning.as_bytes()])
    }

    pub(crate) fn integer(&mut self, value: i64) {
        self.0.extend(value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.integer(value.len() as i64);
        self.0.extend(value);
    }

    /// The whole record.
    pub(crate) fn finish(self, layout: u32, key: &[u8]) -> Vec<u8> {
        let mut record = Vec::with_capacity(self.0.len() + 8);
        record.extend(layout.to_le_bytes());
        record.extend(digest([key, &self.0]).to_le_bytes());
        record.extend(self.0);
        record
    }
}

/// A payload that is being read.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Checks a record and opens its payload.
    pub(crate) fn open(record: &'a [u8], layout: u32, key: &[u8]) -> Result<Self, StateError> {
        let (found, rest) = record.split_first_chunk::<4>().ok_or_else(too_short)?;
        if u32::from_le_bytes(*found) != layout {
            return Err(StateError::OtherLayout);
        }
        let (sum, payload) = rest.split_first_chunk::<4>().ok_or_else(too_short)?;
        if u32::from_le_bytes(*sum) != digest([key, payload]) {
            return Err(StateError::Damaged("its checksum differs".into()));
        }
        Ok(Reader(payload))
    }

    pub(crate) fn integer(&mut self) -> Result<i64, StateError> {
        self.fixed().map(i64::from_le_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], StateError> {
        let length = usize::try_from(self.integer()?).map_err(|_| too_short())?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(too_short)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Nothing may be left over.
    pub(crate) fn end(self) -> Result<(), StateError> {
        if self.0.is_empty() { Ok(()) } else { Err(StateError::Damaged("it is too long".into())) }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or_else(too_short)?;
        self.0 = rest;
        Ok(*bytes)
    }
}

impl Value {
    /// Appends it to a payload.
    pub(crate) fn save(&self, saved: &mut Saved) {
        match self {
            Value::Count(count) => saved.integer(*count),
            Value::Integers { sum, count } => {
                saved.0.extend(sum.to_le_bytes());
                saved.integer(*count);
            }
            Value::Floats { sum, count } => {
                saved.0.extend(sum.to_bits().to_le_bytes());
                saved.integer(*count);
            }
            Value::Decimals { sum, count } => {
                saved.0.extend(sum.to_le_bytes());
                saved.integer(*count);
            }
            Value::Extreme(best) => {
                saved.integer(i64::from(best.is_some()));
                if let Some(best) = best {
                    saved.bytes(best);
                }
            }
        }
    }

    /// Reads back a value of the same kind as `like`.
    pub(crate) fn load(like: &Value, saved: &mut Reader<'_>) -> Result<Value, StateError> {
        Ok(match like {
            Value::Count(_) => Value::Count(saved.integer()?),
            Value::Integers { .. } => Value::Integers { sum: i128::from_le_bytes(saved.fixed()?), count: saved.integer()? },
            Value::Floats { .. } => {
                Value::Floats { sum: f64::from_bits(u64::from_le_bytes(saved.fixed()?)), count: saved.integer()? }
            }
            Value::Decimals { .. } => Value::Decimals { sum: i256::from_le_bytes(saved.fixed()?), count: saved.integer()? },
            Value::Extreme(_) => {
                let some = saved.integer()? != 0;
                Value::Extreme(if some { Some(saved.bytes()?.into()) } else { None })
            }
        })
    }
}

fn too_short() -> StateError {
    StateError::Damaged("it is too short".into())
}

/// FNV-1a, 32 bits, with the parts' lengths: enough to notice damage, not to withstand an adversary.
fn digest(parts: [&[u8]; 2]) -> u32 {
    let add = |digest: u32, byte: u8| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    parts.into_iter().fold(0x811c_9dc5, |digest, part| {
        let length = (part.len() as u64).to_le_bytes();
        length.iter().chain(part).fold(digest, |digest, byte| add(digest, *byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<u8> {
        let mut saved = Saved::default();
        saved.integer(-5);
        saved.bytes(b"abc");
        Value::Integers { sum: i128::MIN, count: 3 }.save(&mut saved);
        Value::Extreme(None).save(&mut saved);
        saved.finish(7, b"key")
    }

    #[test]
    fn a_record_comes_back() {
        let record = record();
        let mut reader = Reader::open(&record, 7, b"key").unwrap();
        assert_eq!((reader.integer().unwrap(), reader.bytes().unwrap()), (-5, b"abc" as &[u8]));
        let like = Value::Integers { sum: 0, count: 0 };
        assert_eq!(Value::load(&like, &mut reader).unwrap(), Value::Integers { sum: i128::MIN, count: 3 });
        assert_eq!(Value::load(&Value::Extreme(None), &mut reader).unwrap(), Value::Extreme(None));
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn what_is_not_ours_or_damaged_is_refused() {
        let record = record();
        let open = |record: &[u8], key: &[u8]| Reader::open(record, 7, key).map(|_| ()).unwrap_err().to_string();
        insta::assert_snapshot!(open(&record, b"other"), @"the state record is damaged: its checksum differs");
        insta::assert_snapshot!(open(&record[..3], b"key"), @"the state record is damaged: it is too short");
        insta::assert_snapshot!(open(&record[..record.len() - 1], b"key"), @"the state record is damaged: its checksum differs");
        let mut other = record;
        other[0] ^= 1;
        insta::assert_snapshot!(open(&other, b"key"), @"the state record was written by another query or another version of mesh");
    }
}
