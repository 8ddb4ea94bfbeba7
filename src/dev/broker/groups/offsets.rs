//! Offsets that groups committed, and those that wait for the end of a transaction.
//!
//! A pure store. Every change is a list of [`Edit`]s, which the caller writes to the journal before it applies them, so that
//! what is acknowledged is on disk, and what could not be written did not happen.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::dev::broker::journal::{Change, Kind};

/// A topic's name and a partition's index.
pub(super) type Place = (String, i32);
type ByGroup = BTreeMap<String, BTreeMap<Place, Committed>>;

/// Where a group goes on reading a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Committed {
    pub(super) offset: i64,
    /// -1 when it was not said (KIP-320).
    pub(super) leader_epoch: i32,
    pub(super) metadata: String,
    /// When, in milliseconds since 1970.
    pub(super) at: i64,
    /// When it goes, if the client said so (OffsetCommit before version 5).
    pub(super) expires: Option<i64>,
    /// Numbers commits as they came: a transaction's offset does not replace one that was committed after it.
    #[serde(default)]
    pub(super) order: u64,
}

/// A change of one offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    Commit {
        group: String,
        place: Place,
        to: Committed,
    },
    Forget {
        group: String,
        place: Place,
    },
    /// Of a transaction, by its producer's id.
    Pend {
        producer: i64,
        group: String,
        place: Place,
        to: Committed,
    },
    Unpend {
        producer: i64,
        group: String,
        place: Place,
    },
}

/// All groups' offsets.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    committed: ByGroup,
    pending: BTreeMap<i64, ByGroup>,
    next: u64,
}

impl Edit {
    fn change(&self) -> io::Result<Change> {
        Ok(match self {
            Edit::Commit { group, place, to } => Change::put(Kind::Offset, key(&(group, &place.0, place.1))?, to)?,
            Edit::Forget { group, place } => Change::remove(Kind::Offset, key(&(group, &place.0, place.1))?),
            Edit::Pend { producer, group, place, to } => {
                Change::put(Kind::PendingOffset, key(&(producer, group, &place.0, place.1))?, to)?
            }
            Edit::Unpend { producer, group, place } => {
                Change::remove(Kind::PendingOffset, key(&(producer, group, &place.0, place.1))?)
            }
        })
    }
}

/// Names may hold any character, so keys are JSON arrays.
fn key(parts: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(parts)?)
}

/// The journal's form of `edits`.
///
/// # Errors
/// None that a name or an offset can cause.
pub(super) fn changes(edits: &[Edit]) -> io::Result<Vec<Change>> {
    edits.iter().map(Edit::change).collect()
}

impl Offsets {
    /// The store as the journal's entries say it was.
    ///
    /// # Errors
    /// A key is not one of ours.
    pub(super) fn load(committed: Vec<(String, Committed)>, pending: Vec<(String, Committed)>) -> io::Result<Offsets> {
        let mut offsets = Offsets::default();
        for (key, to) in committed {
            let (group, topic, partition) = serde_json::from_str(&key)?;
            offsets.apply(Edit::Commit { group, place: (topic, partition), to });
        }
        for (key, to) in pending {
            let (producer, group, topic, partition) = serde_json::from_str(&key)?;
            offsets.apply(Edit::Pend { producer, group, place: (topic, partition), to });
        }
        Ok(offsets)
    }

    /// Does what `edit` says.
    pub(super) fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::Commit { group, place, to } => {
                self.next = self.next.max(to.order.saturating_add(1));
                self.committed.entry(group).or_default().insert(place, to);
            }
            Edit::Forget { group, place } => remove(&mut self.committed, &group, &place),
            Edit::Pend { producer, group, place, to } => {
                self.next = self.next.max(to.order.saturating_add(1));
                self.pending.entry(producer).or_default().entry(group).or_default().insert(place, to);
            }
            Edit::Unpend { producer, group, place } => {
                let of = self.pending.entry(producer).or_default();
                remove(of, &group, &place);
                if of.is_empty() {
                    self.pending.remove(&producer);
                }
            }
        }
    }

    /// The number of the next commit.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The names of all groups that have an offset, committed or pending.
    pub(super) fn groups(&self) -> impl Iterator<Item = &String> {
        self.committed.keys().chain(self.pending.values().flat_map(BTreeMap::keys))
    }

    pub(super) fn get(&self, group: &str, place: &Place) -> Option<&Committed> {
        self.committed.get(group)?.get(place)
    }

    /// All of a group's committed offsets, by topic and partition.
    pub(super) fn of(&self, group: &str) -> impl Iterator<Item = (&Place, &Committed)> {
        self.committed.get(group).into_iter().flatten()
    }

    /// Whether a transaction that runs wants to commit this partition's offset (KIP-447: a reader must wait).
    pub(super) fn is_pending(&self, group: &str, place: &Place) -> bool {
        self.pending.values().any(|groups| groups.get(group).is_some_and(|places| places.contains_key(place)))
    }

    /// Whether a transaction that runs has offsets of the group.
    pub(super) fn has_pending(&self, group: &str) -> bool {
        self.pending.values().any(|groups| groups.contains_key(group))
    }

    /// The edits that forget an offset, pending ones of it included.
    pub(super) fn forget(&self, group: &str, place: &Place) -> Vec<Edit> {
        let mut edits = Vec::new();
        if self.get(group, place).is_some() {
            edits.push(Edit::Forget { group: group.to_owned(), place: place.clone() });
        }
        for (producer, groups) in &self.pending {
            if groups.get(group).is_some_and(|places| places.contains_key(place)) {
                edits.push(Edit::Unpend { producer: *producer, group: group.to_owned(), place: place.clone() });
            }
        }
        edits
    }

    /// The edits that forget all offsets of which `goes` says so.
    pub(super) fn forget_where(&self, goes: impl Fn(&str, &Place) -> bool) -> Vec<Edit> {
        let pending = self.pending.values().flatten();
        let mut places: Vec<(&str, &Place)> = self
            .committed
            .iter()
            .chain(pending)
            .flat_map(|(group, places)| places.keys().map(|place| (group.as_str(), place)))
            .collect();
        places.sort_unstable();
        places.dedup();
        places.retain(|(group, place)| goes(group, place));
        places.into_iter().flat_map(|(group, place)| self.forget(group, place)).collect()
    }

    /// The edits that end a transaction's part in `groups`: its offsets become committed, or go. None the second time.
    pub(super) fn end(&self, producer: i64, groups: &[String], commit: bool) -> Vec<Edit> {
        let mut edits = Vec::new();
        let Some(pending) = self.pending.get(&producer) else { return edits };
        for group in groups {
            for (place, to) in pending.get(group).into_iter().flatten() {
                let newer = self.get(group, place).is_some_and(|committed| committed.order > to.order);
                edits.push(Edit::Unpend { producer, group: group.clone(), place: place.clone() });
                if commit && !newer {
                    edits.push(Edit::Commit { group: group.clone(), place: place.clone(), to: to.clone() });
                }
            }
        }
        edits
    }
}

fn remove(groups: &mut ByGroup, group: &str, place: &Place) {
    if let Some(places) = groups.get_mut(group) {
        places.remove(place);
        if places.is_empty() {
            groups.remove(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32) -> Place {
        ("t".to_owned(), partition)
    }

    fn committed(offset: i64, order: u64) -> Committed {
        Committed { offset, leader_epoch: -1, metadata: String::new(), at: 5, expires: None, order }
    }

    fn commit(partition: i32, offset: i64, order: u64) -> Edit {
        Edit::Commit { group: "g".to_owned(), place: place(partition), to: committed(offset, order) }
    }

    fn pend(producer: i64, partition: i32, offset: i64, order: u64) -> Edit {
        Edit::Pend { producer, group: "g".to_owned(), place: place(partition), to: committed(offset, order) }
    }

    fn store(edits: impl IntoIterator<Item = Edit>) -> Offsets {
        let mut offsets = Offsets::default();
        edits.into_iter().for_each(|edit| offsets.apply(edit));
        offsets
    }

    fn offset(offsets: &Offsets, partition: i32) -> Option<i64> {
        offsets.get("g", &place(partition)).map(|committed| committed.offset)
    }

    #[test]
    fn a_transactions_offsets_count_when_it_commits_and_never_when_it_aborts() {
        for (ends, expected) in [(true, Some(9)), (false, Some(3))] {
            let mut offsets = store([commit(0, 3, 0), pend(7, 0, 9, 1)]);
            assert!(offsets.is_pending("g", &place(0)) && !offsets.is_pending("g", &place(1)));
            assert_eq!(offset(&offsets, 0), Some(3));
            let edits = offsets.end(7, &["g".to_owned()], ends);
            edits.into_iter().for_each(|edit| offsets.apply(edit));
            assert_eq!(offset(&offsets, 0), expected);
            assert!(!offsets.has_pending("g"));
            assert_eq!(offsets.end(7, &["g".to_owned()], ends), []);
        }
    }

    #[test]
    fn a_commit_that_came_after_a_transactions_is_not_replaced_by_it() {
        let mut offsets = store([pend(7, 0, 9, 0), commit(0, 20, 1)]);
        let edits = offsets.end(7, &["g".to_owned()], true);
        edits.into_iter().for_each(|edit| offsets.apply(edit));
        assert_eq!(offset(&offsets, 0), Some(20));
    }

    #[test]
    fn groups_that_are_not_named_stay_pending() {
        let offsets = store([pend(7, 0, 9, 0)]);
        assert_eq!(offsets.end(7, &["other".to_owned()], true), []);
        assert_eq!(offsets.end(8, &["g".to_owned()], true), []);
    }

    #[test]
    fn forgetting_a_topic_forgets_what_is_pending_too() {
        let mut offsets = store([commit(0, 3, 0), pend(7, 0, 9, 1), pend(8, 1, 2, 2)]);
        let edits = offsets.forget_where(|_, (topic, _)| topic == "t");
        assert_eq!(edits.len(), 3);
        edits.into_iter().for_each(|edit| offsets.apply(edit));
        assert_eq!(offsets.groups().count(), 0);
    }

    #[test]
    fn the_journal_gives_back_what_was_written_whatever_the_names() {
        use crate::dev::broker::journal::Journal;
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("journal")).unwrap();
        let place: Place = ("a\"],[\\".to_owned(), 3);
        let edits = [
            Edit::Commit { group: "g/\u{0}é".to_owned(), place: place.clone(), to: committed(1, 4) },
            Edit::Pend { producer: -5, group: String::new(), place: place.clone(), to: committed(2, 9) },
        ];
        journal.write(&changes(&edits).unwrap()).unwrap();
        let read = Offsets::load(journal.read(Kind::Offset).unwrap(), journal.read(Kind::PendingOffset).unwrap()).unwrap();
        assert_eq!(read.get("g/\u{0}é", &place), Some(&committed(1, 4)));
        assert!(read.is_pending("", &place));
        assert_eq!(read.next(), 10);
    }
}
