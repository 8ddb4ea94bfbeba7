//! A classic group: members join in rounds, the leader hands out the assignment, everybody fetches theirs by syncing.
//!
//! A pure machine: a step takes a request and the time, and leaves what must be answered in an [`Outcome`]. An answer may
//! belong to an earlier request (whoever joins is answered when the round is complete), so requests carry tickets. What
//! is kept through a kill is written when Kafka writes it: when an assignment is there, when the group empties, when a
//! static member comes back. Rules: Kafka's group membership protocol, KIP-345 (static members), KIP-394 (member id
//! required), KIP-814 (no new assignment when a static leader returns).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;
use serde::{Deserialize, Serialize};

use super::settings::Limits;
use super::{bytes_as_text, text};

/// Names one request that waits for its answer.
pub(super) type Ticket = u64;

/// Milliseconds that a member may take from its first join to the end of that round, as in Kafka.
const NEW_MEMBER: i64 = 5 * 60 * 1000;
/// The protocol type of consumers, whose subscriptions Kafka reads.
const CONSUMER: &str = "consumer";

/// The answer to a waiting request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    Join(Ticket, JoinGroupResponse),
    Sync(Ticket, SyncGroupResponse),
}

/// What a step asks of the world.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) replies: Vec<Reply>,
    /// The group must be written before the replies go out.
    pub(super) save: bool,
}

/// Who joins, besides what the request says.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) version: i16,
    pub(super) client_id: String,
    pub(super) host: String,
    pub(super) ticket: Ticket,
    /// Makes a member id unique, should one be needed.
    pub(super) unique: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    /// Kafka's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Member {
    instance: Option<String>,
    client_id: String,
    host: String,
    /// Milliseconds.
    session: i32,
    rebalance: i32,
    /// Names and metadata, the preferred first.
    protocols: Vec<(String, Metadata)>,
    assignment: Metadata,
    #[serde(skip)]
    joining: Option<Ticket>,
    #[serde(skip)]
    syncing: Option<Ticket>,
    /// In its first round: it may be put out even while it waits.
    #[serde(skip)]
    new: bool,
    /// When it is put out unless it is heard of.
    #[serde(skip)]
    due: Option<i64>,
}

/// Bytes that stand as base64 in the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Metadata(#[serde(with = "bytes_as_text")] Bytes);

#[derive(Debug, Clone, Copy)]
enum Round {
    /// The first round of an empty group waits a little for others to come: delay and how much may be waited after it.
    First {
        at: i64,
        delay: i64,
        rest: i64,
    },
    Until(i64),
}

/// What of a group is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    since: Option<i64>,
    members: BTreeMap<String, Member>,
}

/// A group of the classic protocol.
#[derive(Debug)]
pub(super) struct Classic {
    state: State,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    /// When it came into its state.
    since: Option<i64>,
    members: BTreeMap<String, Member>,
    /// Ids that were given out and not yet joined with, with when they lapse.
    promised: BTreeMap<String, i64>,
    /// Members of this generation that did not sync yet, and until when they may.
    unsynced: BTreeSet<String>,
    sync_by: Option<i64>,
    round: Option<Round>,
    /// The round that runs is the first one of a group that was empty.
    first_round: bool,
    newcomers: bool,
    /// Topics that members subscribe to; `None` when that cannot be known.
    subscribed: Option<BTreeSet<String>>,
}

impl Classic {
    pub(super) fn new() -> Classic {
        Classic {
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            since: None,
            members: BTreeMap::new(),
            promised: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            sync_by: None,
            round: None,
            first_round: false,
            newcomers: false,
            subscribed: None,
        }
    }

    /// A group as it was written; its members have their session's time from now on to be heard of.
    pub(super) fn restore(kept: Kept, now: i64) -> Classic {
        let mut group = Classic::new();
        group.state = if kept.members.is_empty() { State::Empty } else { State::Stable };
        group.generation = kept.generation;
        group.protocol_type = kept.protocol_type;
        group.protocol = kept.protocol;
        group.leader = kept.leader;
        group.since = kept.since;
        group.members = kept.members;
        group.members.values_mut().for_each(|member| member.due = Some(now.saturating_add(member.session.into())));
        group.subscribed = group.subscriptions();
        group
    }

    pub(super) fn kept(&self) -> Kept {
        Kept {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since: self.since,
            members: self.members.clone(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// When something is due, at the earliest.
    pub(super) fn deadline(&self) -> Option<i64> {
        let round = self.round.map(|round| match round {
            Round::First { at, .. } | Round::Until(at) => at,
        });
        let members = self.members.values().filter_map(|member| member.due);
        members.chain(self.promised.values().copied()).chain(self.sync_by).chain(round).min()
    }

    /// JoinGroup. The session's time is checked by the caller.
    pub(super) fn join(&mut self, request: &JoinGroupRequest, caller: &Caller, limits: &Limits, now: i64) -> Outcome {
        let mut out = Outcome::default();
        let id = request.member_id.to_string();
        let refused = if !self.admits(&id, limits) {
            self.drop_member(&id);
            Some((String::new(), ResponseError::GroupMaxSizeReached))
        } else if !self.supports(request) {
            Some((id.clone(), ResponseError::InconsistentGroupProtocol))
        } else if id.is_empty() {
            self.join_unknown(request, caller, limits, now, &mut out);
            None
        } else {
            self.join_known(&id, request, caller, limits, now, &mut out).err().map(|error| (id.clone(), error))
        };
        if let Some((id, error)) = refused {
            out.replies.push(Reply::Join(caller.ticket, refusal(&id, error)));
        }
        out
    }

    fn admits(&self, id: &str, limits: &Limits) -> bool {
        let member = self.members.get(id);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                let joining = self.members.values().filter(|member| member.joining.is_some()).count();
                member.is_some_and(|member| member.joining.is_some()) || joining < limits.group_max_size
            }
            State::CompletingRebalance | State::Stable => member.is_some() || self.members.len() < limits.group_max_size,
        }
    }

    /// Whether a joiner's protocols go with those of the members: same type, and one that all of them know.
    fn supports(&self, request: &JoinGroupRequest) -> bool {
        if self.state == State::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let common = self.common_protocols();
        self.protocol_type.as_deref() == Some(&*request.protocol_type)
            && request.protocols.iter().any(|protocol| common.contains(&*protocol.name))
    }

    fn common_protocols(&self) -> BTreeSet<&str> {
        let mut members =
            self.members.values().map(|member| member.protocols.iter().map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>());
        let first = members.next().unwrap_or_default();
        members.fold(first, |common, names| common.intersection(&names).copied().collect())
    }

    fn join_unknown(&mut self, request: &JoinGroupRequest, caller: &Caller, limits: &Limits, now: i64, out: &mut Outcome) {
        if let Some(instance) = request.group_instance_id.as_deref() {
            let id = format!("{instance}-{}", caller.unique);
            match self.static_member(instance) {
                Some(old) => self.return_static(&old, &id, request, caller, limits, now, out),
                None => self.add(&id, request, caller, limits, now, out),
            }
            return;
        }
        let id = format!("{}-{}", caller.client_id, caller.unique);
        if caller.version < 4 {
            return self.add(&id, request, caller, limits, now, out);
        }
        self.promised.insert(id.clone(), now.saturating_add(request.session_timeout_ms.into()));
        out.replies.push(Reply::Join(caller.ticket, refusal(&id, ResponseError::MemberIdRequired)));
    }

    fn join_known(
        &mut self,
        id: &str,
        request: &JoinGroupRequest,
        caller: &Caller,
        limits: &Limits,
        now: i64,
        out: &mut Outcome,
    ) -> Result<(), ResponseError> {
        if self.promised.contains_key(id) {
            if request.group_instance_id.is_some() {
                return Err(ResponseError::UnknownServerError);
            }
            self.add(id, request, caller, limits, now, out);
            return Ok(());
        }
        self.check_member(id, request.group_instance_id.as_deref())?;
        let same = self.members.get(id).is_some_and(|member| member.offers(request));
        let again = match self.state {
            State::Empty => return Err(ResponseError::UnknownMemberId),
            State::PreparingRebalance => true,
            State::CompletingRebalance => !same,
            State::Stable => !same || self.leader.as_deref() == Some(id),
        };
        if again {
            self.update(id, request, caller.ticket, out);
            self.rebalance(limits, now, out);
        } else {
            // It lost the answer, most likely, and asks again.
            let mut answer = self.joined(id);
            if self.state == State::Stable {
                answer.members.clear();
            }
            out.replies.push(Reply::Join(caller.ticket, answer));
        }
        Ok(())
    }

    fn static_member(&self, instance: &str) -> Option<String> {
        self.members.iter().find(|(_, member)| member.instance.as_deref() == Some(instance)).map(|(id, _)| id.clone())
    }

    /// A member must be known, and be the one that holds its instance id (KIP-345).
    fn check_member(&self, id: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        if let Some(instance) = instance {
            match self.static_member(instance) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(holder) if holder != id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    fn add(&mut self, id: &str, request: &JoinGroupRequest, caller: &Caller, limits: &Limits, now: i64, out: &mut Outcome) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.to_string());
        }
        let member = Member {
            instance: request.group_instance_id.as_ref().map(ToString::to_string),
            client_id: caller.client_id.clone(),
            host: caller.host.clone(),
            session: request.session_timeout_ms,
            rebalance: request.rebalance_timeout_ms,
            protocols: protocols(request),
            assignment: Metadata::default(),
            joining: Some(caller.ticket),
            syncing: None,
            new: true,
            due: Some(now.saturating_add(NEW_MEMBER)),
        };
        self.newcomers |= self.state == State::PreparingRebalance && self.first_round;
        self.leader.get_or_insert_with(|| id.to_owned());
        self.members.insert(id.to_owned(), member);
        self.promised.remove(id);
        self.rebalance(limits, now, out);
    }

    fn update(&mut self, id: &str, request: &JoinGroupRequest, ticket: Ticket, out: &mut Outcome) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.protocols = protocols(request);
        member.session = request.session_timeout_ms;
        member.rebalance = request.rebalance_timeout_ms;
        if let Some(before) = member.joining.replace(ticket) {
            // One answer a member: the request before came over a connection that is gone.
            out.replies.push(Reply::Join(before, refusal(id, ResponseError::RebalanceInProgress)));
        }
    }

    /// A static member came back: it takes the place, and the assignment, of the one before, which is fenced.
    #[allow(clippy::too_many_arguments, reason = "one join's whole circumstances")]
    fn return_static(
        &mut self,
        old: &str,
        id: &str,
        request: &JoinGroupRequest,
        caller: &Caller,
        limits: &Limits,
        now: i64,
        out: &mut Outcome,
    ) {
        let leader_before = self.leader.clone();
        self.replace(old, id, now, out);
        self.update(id, request, caller.ticket, out);
        match self.state {
            State::Stable if self.vote() == self.protocol => {
                out.save = true;
                self.answer_return(id, leader_before, caller.version, out);
            }
            State::Stable | State::CompletingRebalance => self.prepare(limits, now, out),
            State::Empty | State::PreparingRebalance => self.complete_if_all_joined(now, out),
        }
    }

    fn replace(&mut self, old: &str, id: &str, now: i64, out: &mut Outcome) {
        let Some(mut member) = self.members.remove(old) else { return };
        if let Some(ticket) = member.joining.take() {
            out.replies.push(Reply::Join(ticket, refusal(old, ResponseError::FencedInstanceId)));
        }
        if let Some(ticket) = member.syncing.take() {
            out.replies.push(Reply::Sync(ticket, sync_refusal(ResponseError::FencedInstanceId)));
        }
        member.due = Some(now.saturating_add(member.session.into()));
        if self.unsynced.remove(old) {
            self.unsynced.insert(id.to_owned());
        }
        if self.leader.as_deref() == Some(old) {
            self.leader = Some(id.to_owned());
        }
        self.members.insert(id.to_owned(), member);
    }

    fn answer_return(&mut self, id: &str, leader_before: Option<String>, version: i16, out: &mut Outcome) {
        let Some(ticket) = self.members.get_mut(id).and_then(|member| member.joining.take()) else { return };
        let mut answer = self.joined(id);
        if version >= 9 {
            answer.skip_assignment = self.leader.as_deref() == Some(id);
        } else {
            // An old client would assign anew if it read that it leads.
            answer.members.clear();
            answer.leader = text(leader_before.as_deref().unwrap_or_default());
        }
        out.replies.push(Reply::Join(ticket, answer));
    }

    /// After members changed: a new round, or perhaps the end of the one that runs.
    fn rebalance(&mut self, limits: &Limits, now: i64, out: &mut Outcome) {
        if self.state == State::PreparingRebalance {
            self.complete_if_all_joined(now, out);
        } else {
            self.prepare(limits, now, out);
        }
    }

    fn prepare(&mut self, limits: &Limits, now: i64, out: &mut Outcome) {
        if self.state == State::CompletingRebalance {
            self.members.values_mut().for_each(|member| member.assignment = Metadata::default());
            self.answer_syncs(Some(ResponseError::RebalanceInProgress), now, out);
        }
        self.unsynced.clear();
        self.sync_by = None;
        self.first_round = self.state == State::Empty;
        self.enter(State::PreparingRebalance, now);
        if self.first_round {
            let delay = limits.initial_rebalance_delay;
            let rest = self.rebalance_timeout().saturating_sub(delay).max(0);
            self.round = Some(Round::First { at: now.saturating_add(delay), delay, rest });
            self.round_due(limits, now, out);
        } else if self.all_joined() {
            self.complete(now, out);
        } else {
            self.round = Some(Round::Until(now.saturating_add(self.rebalance_timeout())));
        }
    }

    fn enter(&mut self, state: State, now: i64) {
        self.state = state;
        self.since = Some(now);
    }

    fn rebalance_timeout(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance)).max().unwrap_or_default()
    }

    fn all_joined(&self) -> bool {
        self.promised.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    fn complete_if_all_joined(&mut self, now: i64, out: &mut Outcome) {
        if self.state == State::PreparingRebalance && !self.first_round && self.all_joined() {
            self.complete(now, out);
        }
    }

    /// Ends the round: who did not join is out, unless it is a static member; the rest are the next generation.
    fn complete(&mut self, now: i64, out: &mut Outcome) {
        self.round = None;
        let missing =
            |(id, member): (&String, &Member)| (member.joining.is_none() && member.instance.is_none()).then(|| id.clone());
        for id in self.members.iter().filter_map(missing).collect::<Vec<_>>() {
            self.drop_member(&id);
        }
        if !self.members.is_empty() && !self.elect() {
            self.round = Some(Round::Until(now.saturating_add(self.rebalance_timeout())));
            return;
        }
        self.first_round = false;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.unsynced.clear();
        self.protocol = self.vote();
        self.subscribed = self.subscriptions();
        if self.members.is_empty() {
            self.enter(State::Empty, now);
            out.save = true;
            return;
        }
        self.enter(State::CompletingRebalance, now);
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let answer = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(ticket) = member.joining.take() {
                out.replies.push(Reply::Join(ticket, answer));
            }
            member.due = Some(now.saturating_add(member.session.into()));
            member.new = false;
            self.unsynced.insert(id);
        }
        self.sync_by = Some(now.saturating_add(self.rebalance_timeout()));
    }

    /// The leader stays, if it joined; else one who did leads from now on. False if nobody did.
    fn elect(&mut self) -> bool {
        let joined = |id: &String| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let next = self.members.keys().find(|id| joined(id)).cloned();
        let found = next.is_some();
        if found {
            self.leader = next;
        }
        found
    }

    /// The protocol that most members like best among those that all know; the leader's wish decides a tie.
    fn vote(&self) -> Option<String> {
        let common = self.common_protocols();
        let favourite =
            |member: &Member| member.protocols.iter().map(|(name, _)| name).find(|name| common.contains(name.as_str())).cloned();
        let mut votes: BTreeMap<String, usize> = BTreeMap::new();
        for name in self.members.values().filter_map(favourite) {
            *votes.entry(name).or_default() += 1;
        }
        let leaders = self.leader.as_ref().and_then(|id| self.members.get(id)).and_then(favourite);
        votes.into_iter().max_by_key(|(name, count)| (*count, Some(name) == leaders.as_ref())).map(|(name, _)| name)
    }

    fn subscriptions(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(&member.metadata(self.protocol.as_deref()))?);
        }
        Some(topics)
    }

    fn joined(&self, id: &str) -> JoinGroupResponse {
        let member = |(id, member): (&String, &Member)| {
            JoinGroupResponseMember::default()
                .with_member_id(text(id))
                .with_group_instance_id(member.instance.as_deref().map(text))
                .with_metadata(member.metadata(self.protocol.as_deref()))
        };
        let leads = self.leader.as_deref() == Some(id);
        JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.as_deref().map(text))
            .with_protocol_name(self.protocol.as_deref().map(text))
            .with_leader(text(self.leader.as_deref().unwrap_or_default()))
            .with_member_id(text(id))
            .with_members(if leads { self.members.iter().map(member).collect() } else { Vec::new() })
    }

    /// SyncGroup.
    pub(super) fn sync(&mut self, request: &SyncGroupRequest, ticket: Ticket, now: i64) -> Outcome {
        let mut out = Outcome::default();
        if let Err(error) = self.try_sync(request, ticket, now, &mut out) {
            out.replies.push(Reply::Sync(ticket, sync_refusal(error)));
        }
        out
    }

    fn try_sync(&mut self, request: &SyncGroupRequest, ticket: Ticket, now: i64, out: &mut Outcome) -> Result<(), ResponseError> {
        let id = request.member_id.to_string();
        self.check_member(&id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        let differs =
            |said: &Option<StrBytes>, is: &Option<String>| matches!((said, is), (Some(said), Some(is)) if **said != **is);
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol_name, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            State::CompletingRebalance => {
                self.synced(&id);
                if let Some(before) = self.members.get_mut(&id).and_then(|member| member.syncing.replace(ticket)) {
                    out.replies.push(Reply::Sync(before, sync_refusal(ResponseError::RebalanceInProgress)));
                }
                if self.leader.as_deref() == Some(&id) {
                    self.assign(request, now, out);
                }
                Ok(())
            }
            State::Stable => {
                self.synced(&id);
                out.replies.push(Reply::Sync(ticket, self.assigned(&id)));
                Ok(())
            }
        }
    }

    fn synced(&mut self, id: &str) {
        self.unsynced.remove(id);
        if self.unsynced.is_empty() {
            self.sync_by = None;
        }
    }

    fn assign(&mut self, request: &SyncGroupRequest, now: i64, out: &mut Outcome) {
        self.members.values_mut().for_each(|member| member.assignment = Metadata::default());
        for assigned in &request.assignments {
            if let Some(member) = self.members.get_mut(&*assigned.member_id) {
                member.assignment = Metadata(assigned.assignment.clone());
            }
        }
        self.enter(State::Stable, now);
        out.save = true;
        self.answer_syncs(None, now, out);
    }

    fn answer_syncs(&mut self, error: Option<ResponseError>, now: i64, out: &mut Outcome) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let answer = error.map_or_else(|| self.assigned(&id), sync_refusal);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(ticket) = member.syncing.take() {
                member.due = Some(now.saturating_add(member.session.into()));
                out.replies.push(Reply::Sync(ticket, answer));
            }
        }
    }

    fn assigned(&self, id: &str) -> SyncGroupResponse {
        SyncGroupResponse::default()
            .with_protocol_type(self.protocol_type.as_deref().map(text))
            .with_protocol_name(self.protocol.as_deref().map(text))
            .with_assignment(self.members.get(id).map(|member| member.assignment.0.clone()).unwrap_or_default())
    }

    /// Heartbeat: 0 lines of news, or the reason to join again.
    pub(super) fn heartbeat(&mut self, id: &str, instance: Option<&str>, generation: i32, now: i64) -> Result<(), ResponseError> {
        self.check_member(id, instance)?;
        if generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        self.heard(id, now);
        if self.state == State::PreparingRebalance { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }

    fn heard(&mut self, id: &str, now: i64) {
        if let Some(member) = self.members.get_mut(id) {
            member.due = Some(now.saturating_add(member.session.into()));
        }
    }

    /// LeaveGroup: a result for each of `leaving`, in their order.
    pub(super) fn leave(
        &mut self,
        leaving: &[MemberIdentity],
        limits: &Limits,
        now: i64,
    ) -> (Vec<Result<(), ResponseError>>, Outcome) {
        let mut out = Outcome::default();
        let results: Vec<_> = leaving.iter().map(|member| self.leave_one(member, &mut out)).collect();
        if results.iter().any(Result::is_ok) && self.state != State::Empty {
            self.rebalance(limits, now, &mut out);
        }
        (results, out)
    }

    fn leave_one(&mut self, leaving: &MemberIdentity, out: &mut Outcome) -> Result<(), ResponseError> {
        let mut id = leaving.member_id.to_string();
        if id.is_empty() {
            // KIP-345: an administrator removes a static member by its instance id alone.
            let instance = leaving.group_instance_id.as_deref().ok_or(ResponseError::UnknownMemberId)?;
            id = self.static_member(instance).ok_or(ResponseError::UnknownMemberId)?;
        } else if self.promised.remove(&id).is_none() {
            self.check_member(&id, leaving.group_instance_id.as_deref())?;
        }
        self.put_out(&id, out);
        Ok(())
    }

    fn put_out(&mut self, id: &str, out: &mut Outcome) {
        let Some(member) = self.drop_member(id) else { return };
        if let Some(ticket) = member.joining {
            out.replies.push(Reply::Join(ticket, refusal("", ResponseError::UnknownMemberId)));
        }
        if let Some(ticket) = member.syncing {
            out.replies.push(Reply::Sync(ticket, sync_refusal(ResponseError::UnknownMemberId)));
        }
    }

    fn drop_member(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id);
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.promised.remove(id);
        self.unsynced.remove(id);
        member
    }

    /// What is due at `now`: members that were not heard of, rounds that waited long enough.
    pub(super) fn expire(&mut self, limits: &Limits, now: i64) -> Outcome {
        let mut out = Outcome::default();
        let lapsed = self.promised.len();
        self.promised.retain(|_, due| *due > now);
        if self.promised.len() < lapsed {
            self.complete_if_all_joined(now, &mut out);
        }
        let due = self.members.iter().filter(|(_, member)| member.due.is_some_and(|due| due <= now));
        for id in due.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.expire_member(&id, limits, now, &mut out);
        }
        if self.sync_by.is_some_and(|by| by <= now) {
            self.sync_by = None;
            let unsynced = std::mem::take(&mut self.unsynced);
            if !unsynced.is_empty() && matches!(self.state, State::CompletingRebalance | State::Stable) {
                unsynced.iter().for_each(|id| self.put_out(id, &mut out));
                self.prepare(limits, now, &mut out);
            }
        }
        self.round_due(limits, now, &mut out);
        out
    }

    fn expire_member(&mut self, id: &str, limits: &Limits, now: i64, out: &mut Outcome) {
        let Some(member) = self.members.get_mut(id) else { return };
        // An earlier expiry may have started a round, which gives members new times.
        if member.due.is_none_or(|due| due > now) {
            return;
        }
        member.due = None;
        if !member.new && (member.joining.is_some() || member.syncing.is_some()) {
            return;
        }
        self.put_out(id, out);
        if self.state != State::Empty {
            self.rebalance(limits, now, out);
        }
    }

    fn round_due(&mut self, limits: &Limits, now: i64, out: &mut Outcome) {
        match self.round {
            Some(Round::First { at, delay, rest }) if at <= now => {
                if self.newcomers && rest > 0 {
                    self.newcomers = false;
                    let next = limits.initial_rebalance_delay.min(rest);
                    self.round =
                        Some(Round::First { at: now.saturating_add(next), delay: next, rest: rest.saturating_sub(delay).max(0) });
                } else {
                    self.complete(now, out);
                }
            }
            Some(Round::Until(at)) if at <= now => self.complete(now, out),
            _ => {}
        }
    }

    /// Whether who says to be this member of this generation may commit offsets. A commit is a sign of life.
    ///
    /// # Errors
    /// As Kafka's: who is not of the group, is of an older generation, or should sync first.
    pub(super) fn may_commit(
        &mut self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
        transactional: bool,
        now: i64,
    ) -> Result<(), ResponseError> {
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation >= 0 || !id.is_empty() || instance.is_some() {
            self.check_member(id, instance)?;
            if generation != self.generation {
                return Err(ResponseError::IllegalGeneration);
            }
        } else if !transactional {
            return Err(ResponseError::UnknownMemberId);
        }
        if !transactional && self.state == State::CompletingRebalance {
            return Err(ResponseError::RebalanceInProgress);
        }
        if !transactional {
            self.heard(id, now);
        }
        Ok(())
    }

    /// Whether a member reads `topic`, as far as can be known.
    pub(super) fn subscribes(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.protocol_type.as_deref() == Some(CONSUMER),
        }
    }

    /// Whether single offsets may be deleted: of consumers always, as their subscriptions say which are in use.
    pub(super) fn may_delete_offsets(&self) -> bool {
        self.is_empty() || self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// From when on an offset committed at `committed` ages; `None` while it does not (KIP-211).
    pub(super) fn ages_from(&self, committed: i64) -> Option<i64> {
        match (&self.protocol_type, self.state) {
            (None, _) => Some(committed),
            (Some(_), State::Empty) => Some(self.since.unwrap_or(committed)),
            (Some(kind), State::Stable) if kind == CONSUMER && self.subscribed.is_some() => Some(committed),
            _ => None,
        }
    }

    /// The group as DescribeGroups gives it. Metadata and assignments only while they hold.
    pub(super) fn describe(&self) -> DescribedGroup {
        let stable = self.state == State::Stable;
        let member = |(id, member): (&String, &Member)| {
            let described = DescribedGroupMember::default()
                .with_member_id(text(id))
                .with_group_instance_id(member.instance.as_deref().map(text))
                .with_client_id(text(&member.client_id))
                .with_client_host(text(&member.host));
            if !stable {
                return described;
            }
            described
                .with_member_metadata(member.metadata(self.protocol.as_deref()))
                .with_member_assignment(member.assignment.0.clone())
        };
        let protocol = if stable { self.protocol.as_deref().unwrap_or_default() } else { "" };
        DescribedGroup::default()
            .with_group_state(text(self.state.name()))
            .with_protocol_type(text(self.protocol_type()))
            .with_protocol_data(text(protocol))
            .with_members(self.members.iter().map(member).collect())
    }
}

impl Member {
    fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let of = self.protocols.iter().find(|(name, _)| Some(name.as_str()) == protocol);
        of.map(|(_, metadata)| metadata.0.clone()).unwrap_or_default()
    }

    fn offers(&self, request: &JoinGroupRequest) -> bool {
        self.protocols == protocols(request)
    }
}

fn protocols(request: &JoinGroupRequest) -> Vec<(String, Metadata)> {
    request.protocols.iter().map(|protocol| (protocol.name.to_string(), Metadata(protocol.metadata.clone()))).collect()
}

fn refusal(id: &str, error: ResponseError) -> JoinGroupResponse {
    JoinGroupResponse::default().with_generation_id(-1).with_member_id(text(id)).with_error_code(error.code())
}

fn sync_refusal(error: ResponseError) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(error.code())
}

/// The topics of a consumer's subscription: a version and an array of names begin it in every version. `None` if it is
/// something else.
fn subscribed_topics(metadata: &[u8]) -> Option<Vec<String>> {
    let (count, mut rest) = metadata.get(2..)?.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..i32::from_be_bytes(*count).max(0) {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let (name, tail) = tail.split_at_checked(usize::try_from(i16::from_be_bytes(*length)).ok()?)?;
        topics.push(String::from_utf8(name.to_vec()).ok()?);
        rest = tail;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
    use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
    use proptest::prelude::*;

    use super::*;

    /// A group, its clock, and what it answered so far.
    struct Table {
        group: Classic,
        limits: Limits,
        now: i64,
        next: Ticket,
        joined: BTreeMap<Ticket, JoinGroupResponse>,
        synced: BTreeMap<Ticket, SyncGroupResponse>,
        saves: usize,
    }

    impl Table {
        fn new() -> Table {
            let limits = Limits::of(|name| match name {
                "group.max.size" => 100,
                _ => 0,
            });
            let (joined, synced) = (BTreeMap::new(), BTreeMap::new());
            Table { group: Classic::new(), limits, now: 1_000, next: 0, joined, synced, saves: 0 }
        }

        fn take(&mut self, outcome: Outcome) {
            self.saves += usize::from(outcome.save);
            for reply in outcome.replies {
                let again = match reply {
                    Reply::Join(ticket, answer) => self.joined.insert(ticket, answer).is_some(),
                    Reply::Sync(ticket, answer) => self.synced.insert(ticket, answer).is_some(),
                };
                assert!(!again, "a request was answered twice");
            }
        }

        fn join_as(&mut self, version: i16, request: &JoinGroupRequest) -> Ticket {
            self.next += 1;
            let unique = format!("{}", self.next);
            let caller = Caller { version, client_id: "c".to_owned(), host: "/h".to_owned(), ticket: self.next, unique };
            let outcome = self.group.join(request, &caller, &self.limits, self.now);
            self.take(outcome);
            self.next
        }

        fn join(&mut self, id: &str) -> Ticket {
            self.join_as(9, &request(id, None, &["range"]))
        }

        /// Joins as a new dynamic member does: once to get an id, once with it.
        fn come(&mut self) -> (String, Ticket) {
            let first = self.join("");
            let promised = self.joined[&first].clone();
            assert_eq!(promised.error_code, ResponseError::MemberIdRequired.code());
            let id = promised.member_id.to_string();
            let ticket = self.join(&id);
            (id, ticket)
        }

        fn sync(&mut self, id: &str, generation: i32, assignments: &[(&str, &str)]) -> Ticket {
            self.next += 1;
            let assign = |(id, what): &(&str, &str)| {
                let what = Bytes::from((*what).to_owned());
                SyncGroupRequestAssignment::default().with_member_id(text(id)).with_assignment(what)
            };
            let request = SyncGroupRequest::default()
                .with_member_id(text(id))
                .with_generation_id(generation)
                .with_assignments(assignments.iter().map(assign).collect());
            let outcome = self.group.sync(&request, self.next, self.now);
            self.take(outcome);
            self.next
        }

        fn leave(&mut self, id: &str, instance: Option<&str>) -> Result<(), ResponseError> {
            let member = MemberIdentity::default().with_member_id(text(id)).with_group_instance_id(instance.map(text));
            let (results, outcome) = self.group.leave(&[member], &self.limits, self.now);
            self.take(outcome);
            results.into_iter().next().unwrap()
        }

        /// Lets time pass, deadline by deadline.
        fn pass(&mut self, time: i64) {
            let until = self.now + time;
            while let Some(due) = self.group.deadline().filter(|due| *due <= until) {
                self.now = due.max(self.now);
                let outcome = self.group.expire(&self.limits, self.now);
                self.take(outcome);
            }
            self.now = until;
        }

        fn error(&self, ticket: Ticket) -> i16 {
            self.joined.get(&ticket).map_or_else(|| self.synced[&ticket].error_code, |joined| joined.error_code)
        }

        /// Two members, the first of whom leads, synced in generation 2.
        fn pair(&mut self) -> (String, String) {
            let (a, _) = self.come();
            let (b, _) = self.come();
            self.join(&a);
            self.sync(&a, 2, &[(&a, "for a"), (&b, "for b")]);
            self.sync(&b, 2, &[]);
            assert_eq!(self.group.state(), State::Stable);
            (a, b)
        }
    }

    fn request(id: &str, instance: Option<&str>, protocols: &[&str]) -> JoinGroupRequest {
        let protocol =
            |name: &&str| JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(Bytes::from(name.to_string()));
        JoinGroupRequest::default()
            .with_member_id(text(id))
            .with_group_instance_id(instance.map(text))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(60_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(protocols.iter().map(protocol).collect())
    }

    #[test]
    fn a_round_ends_when_all_joined_and_the_leader_reads_the_members() {
        let mut table = Table::new();
        let (a, first) = table.come();
        assert_eq!((table.joined[&first].generation_id, table.joined[&first].members.len()), (1, 1));
        let (b, second) = table.come();
        assert!(!table.joined.contains_key(&second), "the first has not joined again yet");
        assert_eq!(table.group.heartbeat(&a, None, 1, table.now), Err(ResponseError::RebalanceInProgress));
        let again = table.join(&a);
        let (lead, follow) = (&table.joined[&again], &table.joined[&second]);
        assert_eq!((lead.generation_id, follow.generation_id), (2, 2));
        assert_eq!((&*lead.leader, &*follow.leader), (&*a, &*a));
        assert_eq!((lead.members.len(), follow.members.len()), (2, 0));
        let waits = table.sync(&b, 2, &[]);
        assert!(!table.synced.contains_key(&waits));
        let assigned = table.sync(&a, 2, &[(&a, "x"), (&b, "y")]);
        assert_eq!(table.synced[&assigned].assignment, "x");
        assert_eq!(table.synced[&waits].assignment, "y");
        assert_eq!(table.saves, 1);
        assert_eq!(table.group.heartbeat(&b, None, 2, table.now), Ok(()));
    }

    #[test]
    fn who_is_unknown_or_late_is_told_why() {
        let mut table = Table::new();
        let (a, b) = table.pair();
        assert_eq!(table.group.heartbeat("x", None, 2, table.now), Err(UnknownMemberId));
        assert_eq!(table.group.heartbeat(&a, None, 1, table.now), Err(IllegalGeneration));
        let tickets = [table.join("x"), table.sync("x", 2, &[]), table.sync(&b, 1, &[])];
        let other = table.join_as(9, &request(&b, None, &["other"]));
        let no_consumer = request("", None, &["range"]).with_protocol_type(text("connect"));
        let connect = table.join_as(9, &no_consumer);
        let codes = tickets.into_iter().chain([other, connect]).map(|ticket| table.error(ticket)).collect::<Vec<_>>();
        use ResponseError::{IllegalGeneration, InconsistentGroupProtocol, UnknownMemberId};
        let expected =
            [UnknownMemberId, UnknownMemberId, IllegalGeneration, InconsistentGroupProtocol, InconsistentGroupProtocol];
        assert_eq!(codes, expected.map(|error| error.code()));
    }

    #[test]
    fn a_silent_member_is_put_out_and_the_rest_go_on() {
        let mut table = Table::new();
        let (a, b) = table.pair();
        table.pass(9_000);
        assert_eq!(table.group.heartbeat(&a, None, 2, table.now), Ok(()));
        table.pass(2_000);
        assert_eq!(table.group.heartbeat(&b, None, 2, table.now), Err(ResponseError::UnknownMemberId));
        assert_eq!(table.group.heartbeat(&a, None, 2, table.now), Err(ResponseError::RebalanceInProgress));
        let again = table.join(&a);
        assert_eq!((table.joined[&again].generation_id, table.joined[&again].members.len()), (3, 1));
    }

    #[test]
    fn who_does_not_join_again_in_time_is_out_and_another_leads() {
        let mut table = Table::new();
        let (a, b) = table.pair();
        let (c, waiting) = table.come();
        let also = table.join(&b);
        // a beats on but never joins
        for _ in 0..12 {
            table.pass(5_000);
            let _ = table.group.heartbeat(&a, None, 2, table.now);
        }
        let (new, old) = (&table.joined[&waiting], &table.joined[&also]);
        assert_eq!((new.generation_id, old.generation_id), (3, 3));
        assert_eq!(new.leader, old.leader);
        assert_ne!(&*new.leader, &*a);
        assert_eq!(new.members.len() + old.members.len(), 2);
        assert_eq!(table.group.heartbeat(&c, None, 3, table.now), Ok(()));
    }

    #[test]
    fn who_does_not_sync_in_time_is_out() {
        let mut table = Table::new();
        let (a, _) = table.come();
        let (b, _) = table.come();
        table.join(&a);
        table.sync(&a, 2, &[(&a, "x")]);
        for _ in 0..12 {
            table.pass(5_000);
            let _ = table.group.heartbeat(&a, None, 2, table.now);
            let _ = table.group.heartbeat(&b, None, 2, table.now);
        }
        assert_eq!(table.group.heartbeat(&b, None, 2, table.now), Err(ResponseError::UnknownMemberId));
        assert_eq!(table.group.state(), State::PreparingRebalance);
    }

    #[test]
    fn a_static_member_returns_to_its_assignment_and_the_one_before_is_fenced() {
        let mut table = Table::new();
        let first = table.join_as(9, &request("", Some("one"), &["range"]));
        let a = table.joined[&first].member_id.to_string();
        assert!(a.starts_with("one-"), "{a}");
        table.sync(&a, 1, &[(&a, "mine")]);
        let back = table.join_as(9, &request("", Some("one"), &["range"]));
        let answer = table.joined[&back].clone();
        assert_eq!((answer.generation_id, answer.skip_assignment, answer.members.len()), (1, true, 1));
        assert_eq!(answer.leader, answer.member_id);
        let synced = table.sync(&answer.member_id, 1, &[]);
        assert_eq!(table.synced[&synced].assignment, "mine");
        assert_eq!(table.group.heartbeat(&a, Some("one"), 1, table.now), Err(ResponseError::FencedInstanceId));
        // An older client must not think that it leads.
        let old = table.join_as(8, &request("", Some("one"), &["range"]));
        let old = &table.joined[&old];
        assert_ne!(old.leader, old.member_id);
        assert_eq!((old.skip_assignment, old.members.len()), (false, 0));
        assert_eq!(table.leave("", Some("one")), Ok(()));
        assert_eq!(table.group.state(), State::Empty);
    }

    #[test]
    fn a_static_member_that_left_without_a_word_stays_until_its_session_ends() {
        let mut table = Table::new();
        let first = table.join_as(9, &request("", Some("one"), &["range"]));
        let a = table.joined[&first].member_id.to_string();
        table.sync(&a, 1, &[(&a, "mine")]);
        table.pass(9_999);
        assert_eq!(table.group.state(), State::Stable);
        table.pass(1);
        assert_eq!(table.group.state(), State::Empty);
    }

    #[test]
    fn the_first_round_waits_for_others_as_long_as_it_is_told() {
        let mut table = Table::new();
        table.limits.initial_rebalance_delay = 3_000;
        let (_, first) = table.come();
        table.pass(2_000);
        let (_, second) = table.come();
        table.pass(2_000);
        assert!(!table.joined.contains_key(&first), "a newcomer lengthens the wait");
        table.pass(2_000);
        assert_eq!((table.joined[&first].generation_id, table.joined[&second].generation_id), (1, 1));
    }

    #[test]
    fn the_protocol_is_the_one_that_most_like_best_of_those_all_know() {
        let mut table = Table::new();
        table.limits.initial_rebalance_delay = 100;
        let wishes: [&[&str]; 3] = [&["b", "a"], &["a", "b", "c"], &["c", "a", "b"]];
        let tickets = wishes.map(|wish| table.join_as(3, &request("", None, wish)));
        table.pass(200);
        assert_eq!(table.joined[&tickets[0]].protocol_name.as_deref(), Some("a"));
    }

    #[test]
    fn a_full_group_takes_no_more() {
        let mut table = Table::new();
        table.limits.group_max_size = 2;
        table.pair();
        let ticket = table.join("");
        assert_eq!(table.error(ticket), ResponseError::GroupMaxSizeReached.code());
    }

    #[test]
    fn offsets_are_taken_from_members_of_this_generation_only() {
        use ResponseError::{IllegalGeneration, RebalanceInProgress, UnknownMemberId};
        let mut table = Table::new();
        assert_eq!(table.group.may_commit("", None, -1, false, 0), Ok(()));
        let (a, b) = table.pair();
        let mut may =
            |id: &str, generation, transactional| table.group.may_commit(id, None, generation, transactional, table.now);
        assert_eq!(may("", -1, false), Err(UnknownMemberId));
        assert_eq!(may("", -1, true), Ok(()));
        assert_eq!(may(&a, 1, false), Err(IllegalGeneration));
        assert_eq!(may("x", 2, true), Err(UnknownMemberId));
        assert_eq!(may(&a, 2, false), Ok(()));
        table.leave(&b, None).unwrap();
        table.join(&a);
        assert_eq!(table.group.may_commit(&a, None, 3, false, table.now), Err(RebalanceInProgress));
        assert_eq!(table.group.may_commit(&a, None, 3, true, table.now), Ok(()));
    }

    #[test]
    fn what_is_kept_is_the_generation_with_its_members() {
        let mut table = Table::new();
        let (a, b) = table.pair();
        let kept = serde_json::from_value(serde_json::to_value(table.group.kept()).unwrap()).unwrap();
        table.group = Classic::restore(kept, table.now);
        assert_eq!(table.group.heartbeat(&a, None, 2, table.now), Ok(()));
        let synced = table.sync(&b, 2, &[]);
        assert_eq!(table.synced[&synced].assignment, "for b");
        table.pass(10_000);
        assert_eq!(table.group.heartbeat(&a, None, 2, table.now), Err(ResponseError::UnknownMemberId));
        assert!(table.group.is_empty());
    }

    #[test]
    fn subscriptions_are_read_and_garbage_is_no_subscription() {
        let good = [0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 0, 0, 0, 0];
        assert_eq!(subscribed_topics(&good), Some(vec!["a".to_owned(), "bc".to_owned()]));
        assert_eq!(subscribed_topics(&[0, 1, 127, 255, 255, 255, 0, 1, b'a']), None);
        assert_eq!(subscribed_topics(&[0, 1, 0, 0, 0, 1, 255, 255]), None);
        assert_eq!(subscribed_topics(&[]), None);
    }

    /// What a client of the proptest believes.
    #[derive(Debug, Default, Clone)]
    struct Client {
        id: String,
        instance: Option<String>,
        join: Option<Ticket>,
        sync: Option<Ticket>,
        generation: i32,
        leads: bool,
        members: Vec<String>,
    }

    #[derive(Debug, Clone)]
    enum Act {
        Join(usize),
        Sync(usize),
        Beat(usize),
        Leave(usize),
        Forget(usize),
        Pass(i64),
        Restart,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (0..4_usize).prop_map(Act::Join),
            4 => (0..4_usize).prop_map(Act::Sync),
            4 => (0..4_usize).prop_map(Act::Beat),
            1 => (0..4_usize).prop_map(Act::Leave),
            1 => (0..4_usize).prop_map(Act::Forget),
            2 => (1..40_000_i64).prop_map(Act::Pass),
            1 => Just(Act::Restart),
        ]
    }

    /// Reads the answers that came for a client.
    fn hear(table: &Table, client: &mut Client) {
        if let Some(answer) = client.join.and_then(|ticket| table.joined.get(&ticket)) {
            client.join = None;
            client.id = answer.member_id.to_string();
            if answer.error_code == 0 {
                client.generation = answer.generation_id;
                client.leads = answer.leader == answer.member_id && !answer.skip_assignment;
                client.members = answer.members.iter().map(|member| member.member_id.to_string()).collect();
            } else if answer.error_code != ResponseError::MemberIdRequired.code() {
                client.id.clear();
            }
        }
        if client.sync.is_some_and(|ticket| table.synced.contains_key(&ticket)) {
            client.sync = None;
        }
    }

    fn play(table: &mut Table, clients: &mut [Client], act: &Act) {
        match *act {
            Act::Join(of) => {
                let client = &mut clients[of];
                client.sync = None;
                client.join = Some(table.join_as(9, &request(&client.id, client.instance.as_deref(), &["range"])));
            }
            Act::Sync(of) => {
                let client = clients[of].clone();
                let plan: Vec<_> = client.members.iter().map(|id| (id.as_str(), "part")).collect();
                clients[of].sync = Some(table.sync(&client.id, client.generation, if client.leads { &plan } else { &[] }));
            }
            Act::Beat(of) => {
                let client = &clients[of];
                let _ = table.group.heartbeat(&client.id, client.instance.as_deref(), client.generation, table.now);
            }
            Act::Leave(of) => {
                let _ = table.leave(&clients[of].id.clone(), clients[of].instance.clone().as_deref());
            }
            Act::Forget(of) => clients[of] = Client { instance: clients[of].instance.clone(), ..Client::default() },
            Act::Pass(time) => table.pass(time),
            Act::Restart => {
                // Whoever waits for an answer loses the connection.
                let kept = serde_json::from_value(serde_json::to_value(table.group.kept()).unwrap()).unwrap();
                if table.group.state() == State::Stable || table.group.state() == State::Empty {
                    table.group = Classic::restore(kept, table.now);
                    clients.iter_mut().for_each(|client| (client.join, client.sync) = (None, None));
                }
            }
        }
        clients.iter_mut().for_each(|client| hear(table, client));
    }

    /// One leader and a whole assignment of each generation; nobody waits for ever.
    fn hold(table: &Table) {
        let mut leaders: BTreeMap<i32, BTreeSet<&str>> = BTreeMap::new();
        for answer in table.joined.values().filter(|answer| answer.error_code == 0 && !answer.members.is_empty()) {
            leaders.entry(answer.generation_id).or_default().insert(&answer.member_id);
        }
        let group = &table.group;
        assert!(group.leader.is_none() == group.members.is_empty());
        assert!(group.leader.as_ref().is_none_or(|leader| group.members.contains_key(leader)));
        let expected = matches!(group.state, State::Stable | State::CompletingRebalance);
        assert!(group.members.is_empty() != expected || group.state == State::PreparingRebalance);
        let waits = group.members.values().any(|member| member.joining.is_some() || member.syncing.is_some());
        assert!(!waits || group.deadline().is_some());
        assert!(
            group.members.values().all(|member| member.due.is_some() || member.joining.is_some() || member.syncing.is_some())
        );
        // A generation has more than one leader only when a static one came back under another id.
        assert!(leaders.values().all(|ids| ids.len() == 1 || ids.iter().all(|id| id.starts_with("fixed"))), "{leaders:?}");
    }

    proptest! {
        #[test]
        fn whatever_members_do_the_group_stays_whole(acts in prop::collection::vec(act(), 1..120)) {
            let mut table = Table::new();
            let mut clients = vec![Client::default(); 4];
            clients[3].instance = Some("fixed".to_owned());
            for act in &acts {
                play(&mut table, &mut clients, act);
                hold(&table);
            }
            // After silence everybody is gone, and every request was answered.
            table.pass(10 * 60 * 1000);
            clients.iter_mut().for_each(|client| hear(&table, client));
            assert!(table.group.is_empty());
            assert!(clients.iter().all(|client| client.join.is_none() && client.sync.is_none()), "{clients:?}");
        }
    }
}
