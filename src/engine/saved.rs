//! State records: how an operator's state is written to the changelog, and read back without trusting it.
//!
//! A record is: layout (4 bytes), checksum of key and payload (4 bytes), payload. The layout is a digest of everything that
//! decides what the payload means, so a record of another query is refused instead of misread. All numbers little endian.

use arrow::datatypes::i256;

use super::error::StateError;

/// Changed whenever the payload's form does, Arrow's row encoding included.
const VERSION: &str = "2";

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

    /// Some bytes, or none.
    pub(crate) fn optional(&mut self, value: Option<&[u8]>) {
        self.integer(i64::from(value.is_some()));
        value.into_iter().for_each(|value| self.bytes(value));
    }

    pub(crate) fn long(&mut self, value: i128) {
        self.0.extend(value.to_le_bytes());
    }

    pub(crate) fn wide(&mut self, value: i256) {
        self.0.extend(value.to_le_bytes());
    }

    /// What was written, without layout and checksum.
    pub(crate) fn payload(self) -> Vec<u8> {
        self.0
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

    /// Reads what [`Saved::payload`] gave.
    pub(crate) fn of(payload: &'a [u8]) -> Self {
        Reader(payload)
    }

    pub(crate) fn optional(&mut self) -> Result<Option<&'a [u8]>, StateError> {
        if self.integer()? == 0 { Ok(None) } else { self.bytes().map(Some) }
    }

    pub(crate) fn long(&mut self) -> Result<i128, StateError> {
        self.fixed().map(i128::from_le_bytes)
    }

    pub(crate) fn wide(&mut self) -> Result<i256, StateError> {
        self.fixed().map(i256::from_le_bytes)
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
        saved.long(i128::MIN);
        saved.optional(None);
        saved.finish(7, b"key")
    }

    #[test]
    fn a_record_comes_back() {
        let record = record();
        let mut reader = Reader::open(&record, 7, b"key").unwrap();
        assert_eq!((reader.integer().unwrap(), reader.bytes().unwrap()), (-5, b"abc" as &[u8]));
        assert_eq!((reader.long().unwrap(), reader.optional().unwrap()), (i128::MIN, None));
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
