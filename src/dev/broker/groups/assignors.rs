//! The server's assignors of KIP-848, by name: `uniform` and `range`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A topic's id; text in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct TopicId(pub(super) Uuid);

impl From<TopicId> for String {
    fn from(id: TopicId) -> String {
        id.0.to_string()
    }
}

impl TryFrom<String> for TopicId {
    type Error = uuid::Error;

    fn try_from(text: String) -> Result<TopicId, uuid::Error> {
        Uuid::parse_str(&text).map(TopicId)
    }
}

/// Partitions that belong together, by topic and index.
pub(super) type Partitions = BTreeSet<(TopicId, i32)>;
/// What each member gets, by member id.
pub(super) type Assignment = BTreeMap<String, Partitions>;

/// A member as an assignor sees it.
#[derive(Debug, Clone)]
pub(super) struct Subscriber {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) topics: BTreeSet<TopicId>,
    /// What it was meant to have before.
    pub(super) before: Partitions,
}

/// The assignors' names, the default first.
pub(super) const NAMES: [&str; 2] = ["uniform", "range"];

/// Shares out the partitions of `topics` (how many each has) among those who want them. All wanted partitions are given
/// to exactly one member.
pub(super) fn assign(name: &str, members: &[Subscriber], topics: &BTreeMap<TopicId, i32>) -> Assignment {
    if name == "range" { range(members, topics) } else { uniform(members, topics) }
}

/// Each topic in ranges: members with the same place in the order get the same places of every topic, so that topics with
/// equally many partitions can be joined. Static members come first, so that their order outlives restarts.
fn range(members: &[Subscriber], topics: &BTreeMap<TopicId, i32>) -> Assignment {
    let mut ordered: Vec<&Subscriber> = members.iter().collect();
    ordered.sort_by_key(|member| (member.instance.is_none(), member.instance.as_deref(), member.id.as_str()));
    let mut assignment: Assignment = members.iter().map(|member| (member.id.clone(), Partitions::new())).collect();
    for (topic, count) in topics {
        let wanting: Vec<_> = ordered.iter().filter(|member| member.topics.contains(topic)).collect();
        let mut next = 0..*count;
        for (place, member) in wanting.iter().enumerate() {
            let (count, place, of) = (usize::try_from(*count).unwrap_or(0), place, wanting.len());
            let share = count / of + usize::from(place < count % of);
            if let Some(partitions) = assignment.get_mut(&member.id) {
                partitions.extend(next.by_ref().take(share).map(|index| (*topic, index)));
            }
        }
    }
    assignment
}

/// As even as subscriptions allow, and as close to what members had before as that allows.
fn uniform(members: &[Subscriber], topics: &BTreeMap<TopicId, i32>) -> Assignment {
    let wants: BTreeMap<&str, &BTreeSet<TopicId>> = members.iter().map(|member| (member.id.as_str(), &member.topics)).collect();
    let all: Vec<(TopicId, i32)> = topics.iter().flat_map(|(topic, count)| (0..*count).map(|index| (*topic, index))).collect();
    let mut free: Partitions = all.iter().copied().collect();
    let mut assignment = Assignment::new();
    for member in members {
        let kept = member.before.iter().filter(|place| member.topics.contains(&place.0)).copied();
        let kept = kept.filter(|place| free.remove(place)).collect();
        assignment.insert(member.id.clone(), kept);
    }
    for place in free {
        let poorest = poorest(&assignment, &wants, place.0);
        if let Some(partitions) = poorest.and_then(|id| assignment.get_mut(&id)) {
            partitions.insert(place);
        }
    }
    // Each move takes from one with at least two more than the other, so this ends.
    while let Some((from, place, to)) = unfair(&assignment, &wants) {
        assignment.entry(from).or_default().remove(&place);
        assignment.entry(to).or_default().insert(place);
    }
    assignment
}

/// Who has least of those who want a topic.
fn poorest(assignment: &Assignment, wants: &BTreeMap<&str, &BTreeSet<TopicId>>, topic: TopicId) -> Option<String> {
    let wanting = assignment.iter().filter(|(id, _)| wants.get(id.as_str()).is_some_and(|topics| topics.contains(&topic)));
    wanting.min_by_key(|(id, partitions)| (partitions.len(), id.as_str())).map(|(id, _)| id.clone())
}

/// A partition that another member who wants it should have, as it has at least two fewer: of the richest, the last.
fn unfair(assignment: &Assignment, wants: &BTreeMap<&str, &BTreeSet<TopicId>>) -> Option<(String, (TopicId, i32), String)> {
    let mut rich: Vec<_> = assignment.iter().collect();
    rich.sort_by_key(|(_, partitions)| std::cmp::Reverse(partitions.len()));
    for (from, partitions) in rich {
        let mut topic_before = None;
        for place in partitions.iter().rev() {
            if topic_before.replace(place.0) == Some(place.0) {
                continue;
            }
            let Some(to) = poorest(assignment, wants, place.0) else { continue };
            let less = assignment.get(&to).map_or(0, BTreeSet::len);
            if less + 1 < partitions.len() {
                return Some((from.clone(), *place, to));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(number: u8) -> TopicId {
        TopicId(Uuid::from_u128(u128::from(number) + 1))
    }

    fn member(id: &str, topics: &[u8], before: &[(u8, i32)]) -> Subscriber {
        Subscriber {
            id: id.to_owned(),
            instance: None,
            topics: topics.iter().map(|number| topic(*number)).collect(),
            before: before.iter().map(|(number, index)| (topic(*number), *index)).collect(),
        }
    }

    fn shown(assignment: &Assignment) -> String {
        let place = |(topic, index): &(TopicId, i32)| format!("{}-{index}", topic.0.as_u128() - 1);
        let line =
            |(id, places): (&String, &Partitions)| format!("{id}: {}", places.iter().map(place).collect::<Vec<_>>().join(" "));
        assignment.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn range_gives_the_same_places_of_every_topic() {
        let mut members = [member("a", &[0, 1], &[]), member("b", &[0, 1], &[]), member("c", &[1], &[])];
        let topics = [(topic(0), 3), (topic(1), 4)].into();
        assert_eq!(shown(&assign("range", &members, &topics)), "a: 0-0 0-1 1-0 1-1; b: 0-2 1-2; c: 1-3");
        // Static members come first, by their instance ids.
        members[1].instance = Some("one".to_owned());
        assert_eq!(shown(&assign("range", &members, &topics)), "a: 0-2 1-2; b: 0-0 0-1 1-0 1-1; c: 1-3");
    }

    #[test]
    fn uniform_moves_only_what_must_be_moved() {
        let before = [(0, 0), (0, 1), (0, 2), (0, 3)];
        let topics = [(topic(0), 4)].into();
        let one = [member("a", &[0], &before)];
        assert_eq!(shown(&assign("uniform", &one, &topics)), "a: 0-0 0-1 0-2 0-3");
        let two = [member("a", &[0], &before), member("b", &[0], &[])];
        assert_eq!(shown(&assign("uniform", &two, &topics)), "a: 0-0 0-1; b: 0-2 0-3");
        let gone = [member("b", &[0], &[(0, 2), (0, 3)])];
        assert_eq!(shown(&assign("uniform", &gone, &topics)), "b: 0-0 0-1 0-2 0-3");
    }

    #[test]
    fn uniform_gives_nobody_what_it_did_not_ask_for() {
        let members = [member("a", &[0], &[(1, 0)]), member("b", &[0, 1], &[]), member("c", &[], &[(0, 1)])];
        let topics = [(topic(0), 2), (topic(1), 2)].into();
        assert_eq!(shown(&assign("uniform", &members, &topics)), "a: 0-0 0-1; b: 1-0 1-1; c: ");
    }

    proptest! {
        #[test]
        fn every_wanted_partition_is_given_once_and_evenly(
            wants in prop::collection::vec(prop::collection::btree_set(0_u8..4, 0..4), 1..6),
            counts in prop::collection::vec(1_i32..7, 4),
            befores in prop::collection::vec(prop::collection::btree_set((0_u8..5, 0_i32..8), 0..10), 6),
            name in prop::sample::select(NAMES.to_vec()),
        ) {
            let topics: BTreeMap<TopicId, i32> = (0_u8..4).map(topic).zip(counts).collect();
            let member = |number: usize| {
                let want: Vec<_> = wants[number].iter().copied().collect();
                let before: Vec<_> = befores[number].iter().copied().collect();
                member(&format!("m{number}"), &want, &before)
            };
            let members: Vec<_> = (0..wants.len()).map(member).collect();
            let assignment = assign(name, &members, &topics);
            let given: Vec<_> = assignment.values().flatten().copied().collect();
            let wanted: Partitions = topics
                .iter()
                .filter(|(topic, _)| members.iter().any(|member| member.topics.contains(topic)))
                .flat_map(|(topic, count)| (0..*count).map(|index| (*topic, index)))
                .collect();
            prop_assert_eq!(given.len(), wanted.len());
            prop_assert_eq!(given.into_iter().collect::<Partitions>(), wanted);
            for member in &members {
                prop_assert!(assignment[&member.id].iter().all(|(topic, _)| member.topics.contains(topic)));
            }
            let alike = members.iter().all(|member| member.topics == members[0].topics);
            if name == "uniform" && alike {
                let sizes: Vec<_> = assignment.values().map(BTreeSet::len).collect();
                prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
            }
        }
    }
}
