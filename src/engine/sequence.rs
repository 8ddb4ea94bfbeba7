//! Sequences: elements of a group in a given order, from which one can be taken out again by the row that it came from.
//!
//! The order is that of the elements' places: the bytes of ORDER BY, then the event time, then the order of arrival. Of an
//! input that retracts, each element is also found by its row. Each element is a record of its own in the changelog.

use std::collections::{BTreeMap, BTreeSet};

use super::error::StateError;
use super::key::KeyMap;
use super::multiset::ENTRY_BYTES;
use super::operator::WriteState;
use super::saved::{Reader, Saved};

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sequence {
    elements: BTreeMap<Box<[u8]>, Element>,
    /// The places of the elements that came from a row.
    places: KeyMap<BTreeSet<Box<[u8]>>>,
    /// How many elements ever came: the next one's number.
    arrived: u64,
    unsaved: BTreeSet<Box<[u8]>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Element {
    bytes: Box<[u8]>,
    /// The row that it came from, if rows are taken out.
    row: Option<Box<[u8]>>,
}

/// A row that comes or goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) time: i64,
    /// What tells it from other rows; `None`: the input does not retract.
    pub(crate) row: Option<&'a [u8]>,
}

impl Sequence {
    /// Adds an element.
    pub(crate) fn add(&mut self, order: &[u8], element: &[u8], arrival: Arrival<'_>, bytes: &mut usize) {
        let mut place = Vec::with_capacity(order.len() + 16);
        place.extend(order);
        place.extend(sortable(arrival.time));
        place.extend(self.arrived.to_be_bytes());
        self.arrived += 1;
        self.unsaved.insert(place.as_slice().into());
        self.insert(place.into(), element, arrival.row, bytes);
    }

    fn insert(&mut self, place: Box<[u8]>, element: &[u8], row: Option<&[u8]>, bytes: &mut usize) {
        *bytes += cost(&place, element, row);
        if let Some(row) = row {
            self.places.entry_ref(row).or_default().insert(place.clone());
        }
        self.elements.insert(place, Element { bytes: element.into(), row: row.map(Into::into) });
    }

    /// Takes the element out that came from a row: of several equal rows one with the time of the arrival, else the first.
    /// Returns whether there was one.
    pub(crate) fn remove(&mut self, arrival: Arrival<'_>, bytes: &mut usize) -> bool {
        let Some(row) = arrival.row else { return false };
        let Some(places) = self.places.get_mut(row) else { return false };
        let time = sortable(arrival.time);
        let same_time = |place: &[u8]| {
            let end = place.len().saturating_sub(8);
            place.get(end.saturating_sub(8)..end) == Some(&time)
        };
        let Some(place) = places.iter().find(|place| same_time(place)).or_else(|| places.first()).cloned() else { return false };
        places.remove(&place);
        if places.is_empty() {
            self.places.remove(row);
        }
        if let Some(element) = self.elements.remove(&place) {
            *bytes = bytes.saturating_sub(cost(&place, &element.bytes, Some(row)));
        }
        self.unsaved.insert(place);
        true
    }

    /// The elements in their order.
    pub(crate) fn elements(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.elements.values().map(|element| element.bytes.as_ref())
    }

    /// Takes all out.
    pub(crate) fn clear(&mut self, bytes: &mut usize) {
        let taken = self.elements.iter().map(|(place, element)| cost(place, &element.bytes, element.row.as_deref()));
        *bytes = bytes.saturating_sub(taken.sum());
        self.unsaved.extend(std::mem::take(&mut self.elements).into_keys());
        self.places.clear();
        self.arrived = 0;
    }

    /// Appends what the elements' records don't say.
    pub(crate) fn save(&self, saved: &mut Saved) {
        saved.integer(self.arrived as i64);
    }

    pub(crate) fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), StateError> {
        self.arrived = saved.integer()? as u64;
        Ok(())
    }

    /// Writes the elements that changed since the last call; nothing for those that are gone.
    pub(crate) fn drain(&mut self, write: &mut WriteState<'_>) {
        for place in std::mem::take(&mut self.unsaved) {
            let record = self.elements.get(&place).map(|element| {
                let mut saved = Saved::default();
                saved.bytes(&element.bytes);
                saved.optional(element.row.as_deref());
                saved.payload()
            });
            write(&place, record.as_deref());
        }
    }

    /// Takes back what `drain` wrote.
    pub(crate) fn restore(&mut self, place: &[u8], record: &[u8], bytes: &mut usize) -> Result<(), StateError> {
        let mut saved = Reader::of(record);
        let (element, row) = (saved.bytes()?, saved.optional()?);
        saved.end()?;
        self.insert(place.into(), element, row, bytes);
        Ok(())
    }
}

fn cost(place: &[u8], element: &[u8], row: Option<&[u8]>) -> usize {
    let places = row.map_or(0, |row| 2 * row.len() + place.len() + ENTRY_BYTES);
    place.len() + element.len() + ENTRY_BYTES + places
}

/// A time as bytes that sort as the times do.
fn sortable(time: i64) -> [u8; 8] {
    (time as u64 ^ 1 << 63).to_be_bytes()
}
