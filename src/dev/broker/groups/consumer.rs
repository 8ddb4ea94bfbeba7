//! A group of the consumer protocol (KIP-848): members say in their heartbeats what they want and what they own, and are
//! told what they should own. A member gives up first what it has to; only then does another get it.
//!
//! A pure machine. Three epochs: the group's goes up when what members or topics are has changed; the target assignment has
//! the epoch of the group that it was made for; a member has the epoch of the target that it has reached.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions as Owned;
use kafka_protocol::messages::consumer_group_heartbeat_response as answer;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::assignors::{self, Assignment, NAMES, Partitions, Subscriber, TopicId};
use super::text;

/// A member's epoch when it joins, when it leaves, and when a static member leaves for a while.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;
pub(super) const AWAY: i32 = -2;
/// What a compiled pattern may take, in bytes.
const PATTERN: usize = 256 * 1024;

/// All topics of the broker, by name: their ids and how many partitions they have.
pub(super) type Topics = BTreeMap<String, (TopicId, i32)>;

/// Why a request is refused: the code, and words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) ResponseError, pub(super) String);

/// Who sends a heartbeat, besides what it says, and what it is told to do.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) client_id: String,
    pub(super) host: String,
    /// A member id, should one be needed.
    pub(super) unique: String,
    /// Milliseconds.
    pub(super) session: i64,
    pub(super) heartbeat: i32,
    pub(super) max_size: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Standing {
    /// It has what it should have, of its epoch.
    Stable,
    /// It has to give up partitions first.
    Unrevoked,
    /// Others still have what it should get.
    Unreleased,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) instance: Option<String>,
    pub(super) rack: Option<String>,
    pub(super) client_id: String,
    pub(super) host: String,
    /// Milliseconds to give up partitions in.
    rebalance: i32,
    pub(super) names: BTreeSet<String>,
    pub(super) pattern: Option<String>,
    assignor: Option<String>,
    pub(super) epoch: i32,
    epoch_before: i32,
    standing: Standing,
    pub(super) assigned: Partitions,
    revoking: Partitions,
}

/// All of a group that is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    epoch: i32,
    target_epoch: i32,
    /// The topics that members want, as they were when the group's epoch was made: names and how many partitions.
    topics: BTreeMap<TopicId, (String, i32)>,
    members: BTreeMap<String, Member>,
    target: Assignment,
}

/// A group of the consumer protocol.
#[derive(Debug)]
pub(super) struct Consumer {
    kept: Kept,
    /// When members are put out that are not heard of.
    due: BTreeMap<String, i64>,
    /// When members are put out that did not give up partitions: of the epoch in which they were told to.
    revoke_by: BTreeMap<String, (i32, i64)>,
}

impl Consumer {
    pub(super) fn new() -> Consumer {
        Consumer { kept: Kept::default(), due: BTreeMap::new(), revoke_by: BTreeMap::new() }
    }

    /// A group as it was written. Members have `session` ms from `now` on to be heard of.
    pub(super) fn restore(kept: Kept, session: i64, now: i64) -> Consumer {
        let due = kept.members.keys().map(|id| (id.clone(), now.saturating_add(session))).collect();
        let unrevoked = kept.members.iter().filter(|(_, member)| member.standing == Standing::Unrevoked);
        let by = |member: &Member| (member.epoch, now.saturating_add(member.rebalance.into()));
        let revoke_by = unrevoked.map(|(id, member)| (id.clone(), by(member))).collect();
        Consumer { kept, due, revoke_by }
    }

    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.members.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<i64> {
        self.due.values().copied().chain(self.revoke_by.values().map(|(_, at)| *at)).min()
    }

    /// Kafka's name of the state.
    pub(super) fn state(&self) -> &'static str {
        let Kept { epoch, target_epoch, members, .. } = &self.kept;
        if members.is_empty() {
            "Empty"
        } else if epoch > target_epoch {
            "Assigning"
        } else if members.values().any(|member| !member.has_reached(*target_epoch)) {
            "Reconciling"
        } else {
            "Stable"
        }
    }

    pub(super) fn subscribes(&self, topic: &str) -> bool {
        self.kept.topics.values().any(|(name, _)| name == topic)
            || self.kept.members.values().any(|member| member.names.contains(topic))
    }

    /// A heartbeat, a join or a leave. The second is whether the group must be written before the answer goes out.
    ///
    /// # Errors
    /// As Kafka's, among them `FENCED_MEMBER_EPOCH`, `UNKNOWN_MEMBER_ID`, `UNRELEASED_INSTANCE_ID`. Nothing has changed then.
    pub(super) fn heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        caller: &Caller,
        topics: &Topics,
        now: i64,
    ) -> Result<(ConsumerGroupHeartbeatResponse, bool), Refusal> {
        let mut next = self.kept.clone();
        let answer = if request.member_epoch < 0 { next.leave(request, topics)? } else { next.beat(request, caller, topics)? };
        let id = answer.member_id.as_deref().unwrap_or_default().to_owned();
        let changed = next != self.kept;
        self.kept = next;
        self.set_times(&id, caller, now);
        Ok((answer, changed))
    }

    fn set_times(&mut self, id: &str, caller: &Caller, now: i64) {
        let members = &self.kept.members;
        self.due.retain(|id, _| members.contains_key(id));
        self.revoke_by.retain(|id, _| members.get(id).is_some_and(|member| member.standing == Standing::Unrevoked));
        let Some(member) = members.get(id).filter(|member| member.epoch != AWAY) else { return };
        self.due.insert(id.to_owned(), now.saturating_add(caller.session));
        let told_now = self.revoke_by.get(id).is_none_or(|(epoch, _)| *epoch != member.epoch);
        if member.standing == Standing::Unrevoked && told_now {
            self.revoke_by.insert(id.to_owned(), (member.epoch, now.saturating_add(member.rebalance.into())));
        }
    }

    /// Puts out whose time is over at `now`. Whether the group must be written.
    pub(super) fn expire(&mut self, topics: &Topics, now: i64) -> bool {
        let silent = self.due.iter().filter(|(_, due)| **due <= now).map(|(id, _)| id);
        let slow = self.revoke_by.iter().filter(|(_, (_, by))| *by <= now).map(|(id, _)| id);
        let gone: BTreeSet<String> = silent.chain(slow).cloned().collect();
        for id in &gone {
            self.kept.remove(id, topics);
            self.due.remove(id);
            self.revoke_by.remove(id);
        }
        !gone.is_empty()
    }

    /// Whether this member, with this epoch, may commit offsets. Negative epochs are of those who are no members.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`; `STALE_MEMBER_EPOCH`; `UNSUPPORTED_VERSION` for a client that could not understand the latter.
    pub(super) fn may_commit(&self, id: &str, epoch: i32, transactional: bool, version: i16) -> Result<(), ResponseError> {
        if epoch < 0 && (self.is_empty() || (transactional && id.is_empty())) {
            return Ok(());
        }
        let member = self.kept.members.get(id).ok_or(ResponseError::UnknownMemberId)?;
        if !transactional && version < 9 {
            return Err(ResponseError::UnsupportedVersion);
        }
        match (member.epoch == epoch, transactional) {
            (true, _) => Ok(()),
            (false, true) => Err(ResponseError::IllegalGeneration),
            (false, false) => Err(ResponseError::StaleMemberEpoch),
        }
    }

    /// Whether this member may fetch offsets; who names no member may.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `STALE_MEMBER_EPOCH`.
    pub(super) fn may_fetch(&self, id: Option<&str>, epoch: i32) -> Result<(), ResponseError> {
        let id = match id {
            None if epoch < 0 => return Ok(()),
            id => id.unwrap_or_default(),
        };
        let member = self.kept.members.get(id).ok_or(ResponseError::UnknownMemberId)?;
        if member.epoch == epoch { Ok(()) } else { Err(ResponseError::StaleMemberEpoch) }
    }

    pub(super) fn epochs(&self) -> (i32, i32) {
        (self.kept.epoch, self.kept.target_epoch)
    }

    /// The assignor that most members ask for, or the default.
    pub(super) fn assignor(&self) -> &'static str {
        self.kept.assignor()
    }

    /// Members by id, with what they should have.
    pub(super) fn members(&self) -> impl Iterator<Item = (&String, &Member, Option<&Partitions>)> {
        self.kept.members.iter().map(|(id, member)| (id, member, self.kept.target.get(id)))
    }
}

impl Member {
    fn has_reached(&self, target_epoch: i32) -> bool {
        self.standing == Standing::Stable && self.epoch == target_epoch
    }
}

impl Kept {
    fn leave(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        topics: &Topics,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let id = request.member_id.to_string();
        match request.instance_id.as_deref() {
            None => {
                self.member(&id, &request.group_id)?;
            }
            Some(instance) => self.check_instance(instance, &id)?,
        }
        if request.member_epoch == AWAY {
            // KIP-345: the place is kept until the session ends.
            if let Some(member) = self.members.get_mut(&id) {
                (member.epoch, member.standing) = (AWAY, Standing::Stable);
                member.revoking.clear();
            }
        } else {
            self.remove(&id, topics);
        }
        let epoch = request.member_epoch;
        Ok(ConsumerGroupHeartbeatResponse::default().with_member_id(Some(text(&id))).with_member_epoch(epoch))
    }

    fn member(&self, id: &str, group: &str) -> Result<&Member, Refusal> {
        let unknown = || Refusal(ResponseError::UnknownMemberId, format!("Member {id} is not a member of group {group}."));
        self.members.get(id).ok_or_else(unknown)
    }

    fn static_member(&self, instance: &str) -> Option<&String> {
        self.members.iter().find(|(_, member)| member.instance.as_deref() == Some(instance)).map(|(id, _)| id)
    }

    fn check_instance(&self, instance: &str, id: &str) -> Result<(), Refusal> {
        match self.static_member(instance) {
            None => Err(Refusal(ResponseError::UnknownMemberId, format!("Instance id {instance} is unknown."))),
            Some(holder) if holder != id => {
                let words = format!("Static member {id} with instance id {instance} was fenced by member {holder}.");
                Err(Refusal(ResponseError::FencedInstanceId, words))
            }
            Some(_) => Ok(()),
        }
    }

    fn remove(&mut self, id: &str, topics: &Topics) {
        self.members.remove(id);
        self.target.remove(id);
        self.topics = self.wanted(topics);
        self.epoch = self.epoch.saturating_add(1);
    }

    fn beat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        caller: &Caller,
        topics: &Topics,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let asked = if request.member_id.is_empty() { caller.unique.clone() } else { request.member_id.to_string() };
        if self.members.len() >= caller.max_size && !self.members.contains_key(&asked) {
            let words = format!("The consumer group has reached its maximum capacity of {} members.", caller.max_size);
            return Err(Refusal(ResponseError::GroupMaxSizeReached, words));
        }
        let before = self.admit(&asked, request)?;
        pattern(request.subscribed_topic_regex.as_deref())?;
        let changed = self.describe_member(&asked, request, caller);
        let wanted = self.wanted(topics);
        if changed || wanted != self.topics {
            self.topics = wanted;
            self.epoch = self.epoch.saturating_add(1);
        }
        if self.epoch > self.target_epoch {
            self.target = assignors::assign(self.assignor(), &self.subscribers(), &self.counts());
            self.target_epoch = self.epoch;
        }
        self.reconcile(&asked, request.topic_partitions.as_deref());
        Ok(self.told(&asked, request, caller, before.as_ref()))
    }

    /// Finds the member or makes it; what was assigned to it before, if it was there.
    fn admit(&mut self, id: &str, request: &ConsumerGroupHeartbeatRequest) -> Result<Option<Partitions>, Refusal> {
        let joins = request.member_epoch == JOINS;
        if let Some(instance) = request.instance_id.as_deref() {
            match self.static_member(instance).cloned() {
                Some(holder) if joins => self.take_place(&holder, id, instance)?,
                None if joins => {}
                _ => self.check_instance(instance, id)?,
            }
        }
        if !self.members.contains_key(id) && joins {
            self.members.insert(id.to_owned(), Member::new());
            return Ok(None);
        }
        let member = self.member(id, &request.group_id)?;
        check_epoch(member, request)?;
        Ok(Some(member.assigned.clone()))
    }

    /// A static member is back under another member id, and has what the one before had.
    fn take_place(&mut self, holder: &str, id: &str, instance: &str) -> Result<(), Refusal> {
        let away = self.members.get(holder).is_some_and(|member| member.epoch == AWAY);
        if !away {
            let words = format!(
                "Static member {id} with instance id {instance} cannot join the group because the instance id is owned by {holder} member."
            );
            return Err(Refusal(ResponseError::UnreleasedInstanceId, words));
        }
        if let Some(mut member) = self.members.remove(holder) {
            (member.epoch, member.epoch_before) = (0, 0);
            self.members.insert(id.to_owned(), member);
        }
        if let Some(target) = self.target.remove(holder) {
            self.target.insert(id.to_owned(), target);
        }
        Ok(())
    }

    /// Takes over what the member says of itself. Whether it wants other topics now.
    fn describe_member(&mut self, id: &str, request: &ConsumerGroupHeartbeatRequest, caller: &Caller) -> bool {
        let Some(member) = self.members.get_mut(id) else { return false };
        let (names, pattern) = (member.names.clone(), member.pattern.clone());
        let own = |text: &Option<_>, was: &Option<String>| text.as_ref().map(ToString::to_string).or_else(|| was.clone());
        member.instance = own(&request.instance_id, &member.instance);
        member.rack = own(&request.rack_id, &member.rack);
        member.assignor = own(&request.server_assignor, &member.assignor);
        member.pattern = own(&request.subscribed_topic_regex, &member.pattern).filter(|pattern| !pattern.is_empty());
        if let Some(topics) = &request.subscribed_topic_names {
            member.names = topics.iter().map(|name| name.to_string()).collect();
        }
        if request.rebalance_timeout_ms != -1 {
            member.rebalance = request.rebalance_timeout_ms;
        }
        member.client_id.clone_from(&caller.client_id);
        member.host.clone_from(&caller.host);
        let joined = member.epoch == JOINS && member.assigned.is_empty();
        joined || names != member.names || pattern != member.pattern
    }

    /// The topics that any member wants and that are there.
    fn wanted(&self, topics: &Topics) -> BTreeMap<TopicId, (String, i32)> {
        let names = self.members.values().flat_map(|member| member.names.iter());
        let mut wanted: BTreeSet<&String> = names.filter(|name| topics.contains_key(*name)).collect();
        for member in self.members.values() {
            // A pattern was checked when the member gave it.
            if let Ok(Some(pattern)) = pattern(member.pattern.as_deref()) {
                wanted.extend(topics.keys().filter(|name| pattern.is_match(name)));
            }
        }
        wanted.into_iter().filter_map(|name| topics.get(name).map(|(id, count)| (*id, (name.clone(), *count)))).collect()
    }

    fn counts(&self) -> BTreeMap<TopicId, i32> {
        self.topics.iter().map(|(id, (_, count))| (*id, *count)).collect()
    }

    fn subscribers(&self) -> Vec<Subscriber> {
        let subscriber = |(id, member): (&String, &Member)| {
            let pattern = pattern(member.pattern.as_deref()).ok().flatten();
            let wants =
                |name: &String| member.names.contains(name) || pattern.as_ref().is_some_and(|pattern| pattern.is_match(name));
            Subscriber {
                id: id.clone(),
                instance: member.instance.clone(),
                topics: self.topics.iter().filter(|(_, (name, _))| wants(name)).map(|(id, _)| *id).collect(),
                before: self.target.get(id).cloned().unwrap_or_default(),
            }
        };
        self.members.iter().map(subscriber).collect()
    }

    fn assignor(&self) -> &'static str {
        let votes = |name: &str| self.members.values().filter(|member| member.assignor.as_deref() == Some(name)).count();
        // The first of the most: the default wins a tie.
        NAMES.into_iter().rev().max_by_key(|name| votes(name)).unwrap_or(NAMES[0])
    }

    /// Brings a member nearer to its target: it gives up, waits, or gets.
    fn reconcile(&mut self, id: &str, owned: Option<&[Owned]>) {
        let Some(member) = self.members.get(id) else { return };
        if member.has_reached(self.target_epoch) {
            return;
        }
        let owns = |places: &Partitions| owned.is_none_or(|owned| holds_any(owned, places));
        let mut epoch = member.epoch;
        if member.standing == Standing::Unrevoked {
            if owns(&member.revoking) {
                return;
            }
            epoch = epoch.saturating_add(1);
        }
        let target = self.target.get(id).cloned().unwrap_or_default();
        let kept: Partitions = member.assigned.intersection(&target).copied().collect();
        let revoking: Partitions = member.assigned.difference(&kept).copied().collect();
        let held: Partitions =
            self.members.values().flat_map(|member| member.assigned.union(&member.revoking)).copied().collect();
        let missing = || target.difference(&kept);
        let waits = missing().any(|place| held.contains(place));
        let free: Vec<_> = missing().filter(|place| !held.contains(place)).copied().collect();
        let target_epoch = self.target_epoch;
        let Some(member) = self.members.get_mut(id) else { return };
        if !revoking.is_empty() && owns(&revoking) {
            member.reach(epoch, Standing::Unrevoked, kept, revoking);
        } else {
            let standing = if waits { Standing::Unreleased } else { Standing::Stable };
            member.reach(target_epoch, standing, kept.into_iter().chain(free).collect(), Partitions::new());
        }
    }

    fn told(
        &self,
        id: &str,
        request: &ConsumerGroupHeartbeatRequest,
        caller: &Caller,
        before: Option<&Partitions>,
    ) -> ConsumerGroupHeartbeatResponse {
        let Some(member) = self.members.get(id) else { return ConsumerGroupHeartbeatResponse::default() };
        let told = ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(id)))
            .with_member_epoch(member.epoch)
            .with_heartbeat_interval_ms(caller.heartbeat);
        let subscribed = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
        let full = request.member_epoch == JOINS
            || (request.rebalance_timeout_ms != -1 && subscribed && request.topic_partitions.is_some());
        if !full && before == Some(&member.assigned) {
            return told;
        }
        let partitions = by_topic(&member.assigned)
            .into_iter()
            .map(|(topic, partitions)| answer::TopicPartitions::default().with_topic_id(topic.0).with_partitions(partitions));
        told.with_assignment(Some(answer::Assignment::default().with_topic_partitions(partitions.collect())))
    }
}

impl Member {
    fn new() -> Member {
        Member {
            instance: None,
            rack: None,
            client_id: String::new(),
            host: String::new(),
            rebalance: -1,
            names: BTreeSet::new(),
            pattern: None,
            assignor: None,
            epoch: 0,
            epoch_before: 0,
            standing: Standing::Stable,
            assigned: Partitions::new(),
            revoking: Partitions::new(),
        }
    }

    fn reach(&mut self, epoch: i32, standing: Standing, assigned: Partitions, revoking: Partitions) {
        if epoch != self.epoch {
            self.epoch_before = self.epoch;
        }
        (self.epoch, self.standing, self.assigned, self.revoking) = (epoch, standing, assigned, revoking);
    }
}

/// What is wrong with a heartbeat by itself, whatever the group is like.
pub(super) fn check(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Result<(), Refusal> {
    let invalid = |words: &str| Err(Refusal(ResponseError::InvalidRequest, words.to_owned()));
    let empty = |value: &Option<kafka_protocol::protocol::StrBytes>| value.as_ref().is_some_and(|value| value.trim().is_empty());
    if request.group_id.trim().is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if empty(&request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if empty(&request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    if (version >= 1 || request.member_epoch != JOINS) && request.member_id.trim().is_empty() {
        return invalid("MemberId can't be empty.");
    }
    match request.member_epoch {
        JOINS => {
            if request.rebalance_timeout_ms == -1 {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
                return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
            }
        }
        AWAY if request.instance_id.is_none() => return invalid("InstanceId can't be null."),
        LEAVES | AWAY | 1.. => {}
        _ => return invalid("MemberEpoch is invalid."),
    }
    match request.server_assignor.as_deref() {
        Some(name) if !NAMES.contains(&name) => {
            let words = format!("ServerAssignor {name} is not supported. Supported assignors: {}.", NAMES.join(", "));
            Err(Refusal(ResponseError::UnsupportedAssignor, words))
        }
        _ => Ok(()),
    }
}

/// A member must be where it says it is; one step behind is all right, as it may have lost an answer.
fn check_epoch(member: &Member, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let (said, known) = (request.member_epoch, member.epoch);
    let owned = request.topic_partitions.as_ref();
    let within = || owned.is_some_and(|owned| owned.iter().flat_map(places).all(|place| member.assigned.contains(&place)));
    let size = match said.cmp(&known) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less if said == member.epoch_before && within() => return Ok(()),
        std::cmp::Ordering::Less => "smaller",
        std::cmp::Ordering::Greater => "greater",
    };
    let words = format!(
        "The consumer group member has a {size} member epoch ({said}) than the one known by the group coordinator ({known}). \
         The member must abandon all its partitions and rejoin."
    );
    Err(Refusal(ResponseError::FencedMemberEpoch, words))
}

fn places(owned: &Owned) -> impl Iterator<Item = (TopicId, i32)> + '_ {
    owned.partitions.iter().map(|index| (TopicId(owned.topic_id), *index))
}

fn holds_any(owned: &[Owned], of: &Partitions) -> bool {
    owned.iter().flat_map(places).any(|place| of.contains(&place))
}

/// The topics of `partitions`, each with its partitions.
pub(super) fn by_topic(partitions: &Partitions) -> BTreeMap<TopicId, Vec<i32>> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (topic, index) in partitions {
        topics.entry(*topic).or_default().push(*index);
    }
    topics
}

/// A subscription's pattern, which has to match a whole name. None when there is none, or it is empty.
fn pattern(pattern: Option<&str>) -> Result<Option<Regex>, Refusal> {
    let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) else { return Ok(None) };
    let whole = RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(PATTERN).build();
    whole.map(Some).map_err(|error| {
        let words = format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {error}.");
        Refusal(ResponseError::InvalidRegularExpression, words)
    })
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const SESSION: i64 = 45_000;

    fn topic(name: &str, number: u128, partitions: i32) -> (String, (TopicId, i32)) {
        (name.to_owned(), (TopicId(Uuid::from_u128(number)), partitions))
    }

    /// A client: what it believes, and what it really holds.
    #[derive(Debug, Clone, Default)]
    struct Client {
        id: String,
        instance: Option<String>,
        epoch: i32,
        owned: Partitions,
        told: Partitions,
    }

    impl Client {
        fn new(id: &str) -> Client {
            Client { id: id.to_owned(), ..Client::default() }
        }

        fn request(&self) -> ConsumerGroupHeartbeatRequest {
            let owned = by_topic(&self.owned).into_iter();
            let owned = owned.map(|(topic, partitions)| Owned::default().with_topic_id(topic.0).with_partitions(partitions));
            let owned = if self.epoch == JOINS { Vec::new() } else { owned.collect() };
            ConsumerGroupHeartbeatRequest::default()
                .with_group_id(kafka_protocol::messages::GroupId(text("g")))
                .with_member_id(text(&self.id))
                .with_member_epoch(self.epoch)
                .with_instance_id(self.instance.as_deref().map(text))
                .with_rebalance_timeout_ms(60_000)
                .with_subscribed_topic_names(Some(vec![TopicName(text("t"))]))
                .with_topic_partitions(Some(owned))
        }

        fn forget(&mut self) {
            self.epoch = JOINS;
            self.owned.clear();
            self.told.clear();
        }
    }

    struct Table {
        group: Consumer,
        topics: Topics,
        now: i64,
    }

    impl Table {
        fn new() -> Table {
            Table { group: Consumer::new(), topics: [topic("t", 1, 4), topic("u", 2, 1)].into(), now: 1_000 }
        }

        fn send(&mut self, request: &ConsumerGroupHeartbeatRequest) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
            let caller = Caller {
                client_id: "c".to_owned(),
                host: "/h".to_owned(),
                unique: "fresh".to_owned(),
                session: SESSION,
                heartbeat: 5_000,
                max_size: 3,
            };
            check(request, 1)?;
            self.group.heartbeat(request, &caller, &self.topics, self.now).map(|(answer, _)| answer)
        }

        /// A heartbeat of a client that does at once what it is told.
        fn beat(&mut self, client: &mut Client) -> Result<(), ResponseError> {
            let answer = self.send(&client.request()).map_err(|refusal| refusal.0)?;
            client.epoch = answer.member_epoch;
            if let Some(assignment) = answer.assignment {
                let places = |of: &answer::TopicPartitions| {
                    of.partitions.iter().map(|index| (TopicId(of.topic_id), *index)).collect::<Vec<_>>()
                };
                client.told = assignment.topic_partitions.iter().flat_map(places).collect();
            }
            client.owned = client.told.clone();
            Ok(())
        }

        fn indexes(&self, client: &Client) -> Vec<i32> {
            client.owned.iter().map(|(_, index)| *index).collect()
        }
    }

    #[test]
    fn a_member_gives_up_before_another_gets() {
        let mut table = Table::new();
        let (mut a, mut b) = (Client::new("a"), Client::new("b"));
        table.beat(&mut a).unwrap();
        assert_eq!((a.epoch, table.indexes(&a)), (1, vec![0, 1, 2, 3]));
        table.beat(&mut b).unwrap();
        assert_eq!((b.epoch, table.indexes(&b)), (2, vec![]), "all is still with the first");
        assert_eq!(table.group.state(), "Reconciling");
        // The first is told to give up; it says that it still owns them, then that it does not.
        let answer = table.send(&a.request()).unwrap();
        assert_eq!((answer.member_epoch, answer.assignment.unwrap().topic_partitions[0].partitions.clone()), (1, vec![0, 1]));
        table.beat(&mut b).unwrap();
        assert_eq!(table.indexes(&b), Vec::<i32>::new());
        a.owned.retain(|(_, index)| *index < 2);
        a.told = a.owned.clone();
        table.beat(&mut a).unwrap();
        assert_eq!(a.epoch, 2);
        table.beat(&mut b).unwrap();
        assert_eq!((table.indexes(&a), table.indexes(&b)), (vec![0, 1], vec![2, 3]));
        assert_eq!(table.group.state(), "Stable");
    }

    #[test]
    fn who_leaves_leaves_its_partitions_to_the_others() {
        let mut table = Table::new();
        let (mut a, mut b) = (Client::new("a"), Client::new("b"));
        for _ in 0..3 {
            table.beat(&mut a).unwrap();
            table.beat(&mut b).unwrap();
        }
        a.epoch = LEAVES;
        assert_eq!(table.send(&a.request()).unwrap().member_epoch, LEAVES);
        assert_eq!(table.group.state(), "Assigning");
        table.beat(&mut b).unwrap();
        assert_eq!(table.indexes(&b), [0, 1, 2, 3]);
        assert_eq!(table.send(&a.request()).unwrap_err().0, ResponseError::UnknownMemberId);
    }

    #[test]
    fn silent_members_and_those_that_never_give_up_are_put_out() {
        let mut table = Table::new();
        let (mut a, mut b) = (Client::new("a"), Client::new("b"));
        table.beat(&mut a).unwrap();
        table.beat(&mut b).unwrap();
        for _ in 0..6 {
            table.now += 14_000;
            // a is told to give up, and goes on owning all.
            let _ = table.send(&a.request());
            let _ = table.beat(&mut b);
            table.group.expire(&table.topics, table.now);
        }
        assert_eq!(table.beat(&mut a), Err(ResponseError::UnknownMemberId));
        table.beat(&mut b).unwrap();
        assert_eq!(table.indexes(&b), [0, 1, 2, 3]);
        table.now += SESSION;
        assert_eq!(table.group.deadline(), Some(table.now));
        assert!(table.group.expire(&table.topics, table.now));
        assert_eq!(table.group.state(), "Empty");
    }

    #[test]
    fn epochs_must_fit_but_a_lost_answer_is_forgiven() {
        let mut table = Table::new();
        let (mut a, mut b) = (Client::new("a"), Client::new("b"));
        table.beat(&mut a).unwrap();
        let mut lost = Client { epoch: 0, ..Client::new("a") };
        assert_eq!(table.beat(&mut lost), Ok(()), "joins again, as its answer was lost");
        let mut ahead = Client { epoch: 7, ..a.clone() };
        assert_eq!(table.beat(&mut ahead), Err(ResponseError::FencedMemberEpoch));
        for _ in 0..3 {
            table.beat(&mut a).unwrap();
            table.beat(&mut b).unwrap();
        }
        let mut behind = Client { epoch: 1, ..Client::new("b") };
        assert_eq!(table.beat(&mut behind), Err(ResponseError::FencedMemberEpoch));
        assert_eq!(table.group.may_commit("a", a.epoch, false, 9), Ok(()));
        assert_eq!(table.group.may_commit("a", 1, false, 9), Err(ResponseError::StaleMemberEpoch));
        assert_eq!(table.group.may_commit("a", 1, true, 5), Err(ResponseError::IllegalGeneration));
        assert_eq!(table.group.may_commit("a", a.epoch, false, 8), Err(ResponseError::UnsupportedVersion));
        assert_eq!(table.group.may_commit("", -1, false, 9), Err(ResponseError::UnknownMemberId));
        assert_eq!(table.group.may_fetch(None, -1), Ok(()));
        assert_eq!(table.group.may_fetch(Some("b"), 1), Err(ResponseError::StaleMemberEpoch));
    }

    #[test]
    fn a_static_member_has_its_partitions_when_it_is_back() {
        let mut table = Table::new();
        let mut a = Client { instance: Some("one".to_owned()), ..Client::new("a") };
        table.beat(&mut a).unwrap();
        let mut other = Client { instance: Some("one".to_owned()), ..Client::new("z") };
        assert_eq!(table.beat(&mut other), Err(ResponseError::UnreleasedInstanceId));
        a.epoch = AWAY;
        table.send(&a.request()).unwrap();
        table.beat(&mut other).unwrap();
        assert_eq!((other.epoch, table.indexes(&other)), (1, vec![0, 1, 2, 3]));
        a.epoch = 1;
        assert_eq!(table.beat(&mut a), Err(ResponseError::FencedInstanceId));
    }

    #[test]
    fn a_pattern_finds_topics_that_come_later() {
        let mut table = Table::new();
        let mut a = Client::new("a");
        let first = a.request();
        let join =
            |pattern: &str| first.clone().with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text(pattern)));
        let answer = table.send(&join("u.*")).unwrap();
        assert_eq!(answer.assignment.unwrap().topic_partitions.len(), 1);
        table.topics.extend([topic("u2", 3, 2), topic("nu", 4, 2)]);
        a.epoch = answer.member_epoch;
        let beat = a.request().with_subscribed_topic_names(None).with_topic_partitions(None).with_rebalance_timeout_ms(-1);
        let answer = table.send(&beat).unwrap();
        assert_eq!((answer.member_epoch, answer.assignment.unwrap().topic_partitions.len()), (2, 2));
        let refusal = table.send(&join("(").with_member_id(text("b"))).unwrap_err();
        assert_eq!(refusal.0, ResponseError::InvalidRegularExpression);
        assert!(table.group.subscribes("u2") && !table.group.subscribes("nu"));
    }

    #[test]
    fn a_heartbeat_that_makes_no_sense_is_refused_with_words() {
        let mut table = Table::new();
        let a = Client::new("a").request();
        let refusals = [
            a.clone().with_member_id(text("")),
            a.clone().with_member_epoch(-3),
            a.clone().with_rebalance_timeout_ms(-1),
            a.clone().with_topic_partitions(None),
            a.clone().with_subscribed_topic_names(None),
            a.clone().with_member_epoch(AWAY),
            a.clone().with_server_assignor(Some(text("best"))),
            a.with_member_epoch(3),
        ];
        let codes = refusals.map(|request| table.send(&request).unwrap_err().0);
        let expected = [
            [ResponseError::InvalidRequest; 6].as_slice(),
            &[ResponseError::UnsupportedAssignor, ResponseError::UnknownMemberId],
        ];
        assert_eq!(codes, *expected.concat());
        for id in ["a", "b", "c"] {
            table.beat(&mut Client::new(id)).unwrap();
        }
        assert_eq!(table.beat(&mut Client::new("d")), Err(ResponseError::GroupMaxSizeReached));
        assert!(table.group.members().count() == 3);
    }

    #[test]
    fn what_is_kept_goes_on_where_it_was() {
        let mut table = Table::new();
        let (mut a, mut b) = (Client::new("a"), Client::new("b"));
        table.beat(&mut a).unwrap();
        table.beat(&mut b).unwrap();
        let kept = serde_json::from_value(serde_json::to_value(table.group.kept()).unwrap()).unwrap();
        table.group = Consumer::restore(kept, SESSION, table.now);
        for _ in 0..3 {
            table.beat(&mut a).unwrap();
            table.beat(&mut b).unwrap();
        }
        assert_eq!((table.indexes(&a), table.indexes(&b)), (vec![0, 1], vec![2, 3]));
    }

    #[derive(Debug, Clone)]
    enum Act {
        /// The answer comes, or is lost.
        Beat(usize, bool),
        Revoke(usize),
        Leave(usize),
        Restart(usize),
        Pass(i64),
        Grow,
        Kill,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            8 => (0..3_usize, prop::bool::weighted(0.85)).prop_map(|(of, heard)| Act::Beat(of, heard)),
            5 => (0..3_usize).prop_map(Act::Revoke),
            1 => (0..3_usize).prop_map(Act::Leave),
            1 => (0..3_usize).prop_map(Act::Restart),
            2 => (1..30_000_i64).prop_map(Act::Pass),
            1 => Just(Act::Grow),
            1 => Just(Act::Kill),
        ]
    }

    /// A client sends what it owns, takes what is new, and gives up later what it should.
    fn lively(table: &mut Table, client: &mut Client, heard: bool) {
        let result = table.send(&client.request());
        match result {
            Ok(answer) if heard => {
                client.epoch = answer.member_epoch;
                if let Some(assignment) = answer.assignment {
                    let of = assignment.topic_partitions.iter();
                    client.told = of.flat_map(|of| of.partitions.iter().map(|index| (TopicId(of.topic_id), *index))).collect();
                    client.owned.extend(client.told.iter().copied());
                }
            }
            Ok(_) => {}
            Err(_) => client.forget(),
        }
    }

    fn play(table: &mut Table, clients: &mut [Client], act: &Act) {
        match *act {
            Act::Beat(of, heard) => lively(table, &mut clients[of], heard),
            Act::Revoke(of) => clients[of].owned = clients[of].told.clone(),
            Act::Leave(of) => {
                let away = if clients[of].instance.is_some() { AWAY } else { LEAVES };
                let _ = table.send(&Client { epoch: away, ..clients[of].clone() }.request());
                clients[of].forget();
            }
            Act::Restart(of) => {
                clients[of] =
                    Client { id: format!("{}'", clients[of].id), instance: clients[of].instance.clone(), ..Client::default() }
            }
            Act::Pass(time) => {
                table.now += time;
                table.group.expire(&table.topics, table.now);
                // Who is put out stops by itself, as it could not reach the coordinator.
                let members: BTreeSet<_> = table.group.members().map(|(id, _, _)| id.clone()).collect();
                clients.iter_mut().filter(|client| !members.contains(&client.id)).for_each(Client::forget);
            }
            Act::Grow => table.topics.extend([topic("t", 1, table.topics["t"].1 + 1)]),
            Act::Kill => {
                let kept = serde_json::from_value(serde_json::to_value(table.group.kept()).unwrap()).unwrap();
                table.group = Consumer::restore(kept, SESSION, table.now);
            }
        }
    }

    /// Nobody owns what another owns.
    fn hold(clients: &[Client]) {
        let mut all = Partitions::new();
        for place in clients.iter().flat_map(|client| &client.owned) {
            assert!(all.insert(*place), "{place:?} is owned twice: {clients:#?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_partition_is_owned_twice_and_calm_brings_balance(acts in prop::collection::vec(act(), 1..150)) {
            let mut table = Table::new();
            let mut clients = [Client::new("a"), Client::new("b"), Client { instance: Some("fixed".to_owned()), ..Client::new("c") }];
            for act in &acts {
                play(&mut table, &mut clients, act);
                hold(&clients);
            }
            // Ghosts of restarted clients go when their sessions end; then a few calm rounds.
            for _ in 0..12 {
                for of in 0..3 {
                    play(&mut table, &mut clients, &Act::Beat(of, true));
                    play(&mut table, &mut clients, &Act::Revoke(of));
                    hold(&clients);
                }
                play(&mut table, &mut clients, &Act::Pass(10_000));
            }
            prop_assert_eq!(table.group.state(), "Stable");
            let count: usize = clients.iter().map(|client| client.owned.len()).sum();
            prop_assert_eq!(count, usize::try_from(table.topics["t"].1).unwrap());
        }
    }
}
