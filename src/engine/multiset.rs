//! Multisets: the values of a group in their order, each with how often it is there.
//!
//! What `min` or `count(DISTINCT x)` must know to give a value back when the row that had it goes. Each value is a record
//! of its own in the changelog, so a group of a million values is not written anew when one of them comes.

use std::collections::{BTreeMap, BTreeSet};

use super::error::StateError;
use super::operator::WriteState;

/// What a map's entry takes besides its bytes, about.
pub(crate) const ENTRY_BYTES: usize = 48;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Multiset {
    counts: BTreeMap<Box<[u8]>, u64>,
    /// How many there are, repeated ones included.
    total: u64,
    unsaved: BTreeSet<Box<[u8]>>,
}

impl Multiset {
    /// Adds a value; returns whether it was not there.
    pub(crate) fn add(&mut self, value: &[u8], bytes: &mut usize) -> bool {
        self.unsaved.insert(value.into());
        self.total += 1;
        if let Some(count) = self.counts.get_mut(value) {
            *count += 1;
            return false;
        }
        *bytes += value.len() + ENTRY_BYTES;
        self.counts.insert(value.into(), 1);
        true
    }

    /// Adds a value that is not there; returns whether it was not.
    pub(crate) fn add_once(&mut self, value: &[u8], bytes: &mut usize) -> bool {
        !self.counts.contains_key(value) && self.add(value, bytes)
    }

    /// Takes a value out; returns whether it was the last of its kind.
    pub(crate) fn remove(&mut self, value: &[u8], bytes: &mut usize) -> bool {
        let Some(count) = self.counts.get_mut(value) else { return false };
        self.unsaved.insert(value.into());
        self.total = self.total.saturating_sub(1);
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.counts.remove(value);
        *bytes = bytes.saturating_sub(value.len() + ENTRY_BYTES);
        true
    }

    /// Takes the smallest out as long as there are more than `most`.
    pub(crate) fn keep_greatest(&mut self, most: u64, bytes: &mut usize) {
        while self.total > most {
            let Some(least) = self.counts.keys().next().cloned() else { return };
            self.remove(&least, bytes);
        }
    }

    /// How many different values there are.
    pub(crate) fn kinds(&self) -> usize {
        self.counts.len()
    }

    pub(crate) fn least(&self) -> Option<&[u8]> {
        self.counts.keys().next().map(AsRef::as_ref)
    }

    pub(crate) fn greatest(&self) -> Option<&[u8]> {
        self.counts.keys().next_back().map(AsRef::as_ref)
    }

    /// The different values, smallest first.
    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.counts.keys().map(AsRef::as_ref)
    }

    /// The values, greatest first, each as often as it is there.
    pub(crate) fn descending(&self) -> impl Iterator<Item = &[u8]> {
        self.counts.iter().rev().flat_map(|(value, count)| (0..*count).map(|_| value.as_ref()))
    }

    /// Takes all out.
    pub(crate) fn clear(&mut self, bytes: &mut usize) {
        let taken: usize = self.counts.keys().map(|value| value.len() + ENTRY_BYTES).sum();
        *bytes = bytes.saturating_sub(taken);
        self.unsaved.extend(std::mem::take(&mut self.counts).into_keys());
        self.total = 0;
    }

    /// Writes the values that changed since the last call, with their counts; nothing for those that are gone.
    pub(crate) fn drain(&mut self, write: &mut WriteState<'_>) {
        for value in std::mem::take(&mut self.unsaved) {
            let count = self.counts.get(&value).map(|count| count.to_le_bytes());
            write(&value, count.as_ref().map(<[u8; 8]>::as_slice));
        }
    }

    /// Takes back what `drain` wrote.
    pub(crate) fn restore(&mut self, value: &[u8], count: &[u8], bytes: &mut usize) -> Result<(), StateError> {
        let count = <[u8; 8]>::try_from(count).map_err(|_| StateError::Damaged("a count is of another size".into()))?;
        let count = u64::from_le_bytes(count);
        *bytes += value.len() + ENTRY_BYTES;
        self.total += count;
        self.counts.insert(value.into(), count);
        Ok(())
    }
}
