//! Groups and their offsets: this node coordinates all of them.
//!
//! The rules are pure machines (`classic`, `consumer`, `offsets`); here they get a lock, a clock, the journal, and the
//! requests that wait for an answer. What is acknowledged is in the journal, so that groups come back after a kill as they
//! were: members go on with their heartbeats, or time out.

mod assignors;
mod classic;
mod consumer;
mod heartbeat;
mod list;
mod membership;
mod offset_calls;
mod offsets;
mod settings;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use super::Broker;
use super::configs::Configs;
use super::journal::{Change, Journal, Kind};
use super::topics::{Topic, Topics};
use assignors::TopicId;
use classic::{Classic, Outcome, Reply, Ticket};
use consumer::Consumer;
use offsets::{Edit, Offsets, Place};
use settings::Limits;

pub use heartbeat::consumer_group_heartbeat;
pub use list::{consumer_group_describe, delete_groups, describe_groups, list_groups};
pub use membership::{find_coordinator, heartbeat, join_group, leave_group, sync_group};
pub use offset_calls::{offset_commit, offset_delete, offset_fetch, txn_offset_commit};

/// The group config that says after how long a silent member of the consumer protocol is out.
const SESSION: &str = "consumer.session.timeout.ms";

/// All groups of the broker.
#[derive(Debug)]
pub struct Groups {
    inner: Mutex<Inner>,
    /// Tells the loop that something is due earlier than it thinks.
    earlier: Notify,
    /// When the loop looks again, in milliseconds since 1970.
    planned: AtomicI64,
}

#[derive(Debug, Default)]
struct Inner {
    groups: BTreeMap<String, Group>,
    offsets: Offsets,
    joins: HashMap<Ticket, oneshot::Sender<JoinGroupResponse>>,
    syncs: HashMap<Ticket, oneshot::Sender<SyncGroupResponse>>,
    /// Groups that could not be written when they changed.
    unwritten: BTreeSet<String>,
    next: Ticket,
}

#[derive(Debug)]
enum Group {
    Classic(Classic),
    Consumer(Consumer),
}

/// A group in the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KeptGroup {
    Classic(classic::Kept),
    Consumer(consumer::Kept),
}

impl Group {
    fn deadline(&self) -> Option<i64> {
        match self {
            Group::Classic(group) => group.deadline(),
            Group::Consumer(group) => group.deadline(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_empty(),
            Group::Consumer(group) => group.is_empty(),
        }
    }

    fn subscribes(&self, topic: &str) -> bool {
        match self {
            Group::Classic(group) => group.subscribes(topic),
            Group::Consumer(group) => group.subscribes(topic),
        }
    }

    fn kept(&self) -> KeptGroup {
        match self {
            Group::Classic(group) => KeptGroup::Classic(group.kept()),
            Group::Consumer(group) => KeptGroup::Consumer(group.kept().clone()),
        }
    }

    fn restore(kept: KeptGroup, session: i64, now: i64) -> Group {
        match kept {
            KeptGroup::Classic(kept) => Group::Classic(Classic::restore(kept, now)),
            KeptGroup::Consumer(kept) => Group::Consumer(Consumer::restore(kept, session, now)),
        }
    }
}

impl Groups {
    /// The groups and offsets of the journal. Members have their session's time from `now` on to be heard of.
    ///
    /// # Errors
    /// The journal was written by another version.
    pub(super) fn open(journal: &Journal, configs: &Configs, topics: &Topics, now: i64) -> io::Result<Groups> {
        let offsets = Offsets::load(journal.read(Kind::Offset)?, journal.read(Kind::PendingOffset)?)?;
        let restore = |(name, kept): (String, KeptGroup)| {
            let session = configs.group_number(&name, SESSION);
            (name, Group::restore(kept, session, now))
        };
        let mut groups: BTreeMap<_, _> = journal.read(Kind::Group)?.into_iter().map(restore).collect();
        for name in offsets.groups() {
            if !groups.contains_key(name) {
                groups.insert(name.clone(), Group::Classic(Classic::new()));
            }
        }
        let mut inner = Inner { groups, offsets, ..Inner::default() };
        // A kill between a topic's end and that of its offsets.
        let left = inner.offsets.forget_where(|_, (topic, _)| topics.get(topic).is_none());
        inner.edit(journal, left)?;
        Ok(Groups { inner: Mutex::new(inner), earlier: Notify::new(), planned: AtomicI64::new(0) })
    }

    /// Ends the part that a producer's transaction has in `groups`: offsets that it committed there count from now on, or
    /// go. Does nothing the second time. `_epoch` is not needed: a transaction ends before its producer's id begins another.
    ///
    /// # Errors
    /// The journal cannot be written; nothing has changed then.
    pub fn end_transaction(
        &self,
        broker: &Broker,
        producer: i64,
        _epoch: i16,
        groups: &[String],
        commit: bool,
    ) -> io::Result<()> {
        let mut inner = self.lock();
        let edits = inner.offsets.end(producer, groups, commit);
        inner.edit(&broker.journal, edits)
    }

    /// Forgets what groups committed of a topic that is deleted, transactions that run included.
    ///
    /// # Errors
    /// The journal cannot be written; nothing has changed then.
    pub fn forget_topic(&self, broker: &Broker, topic: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let edits = inner.offsets.forget_where(|_, (of, _)| of == topic);
        inner.edit(&broker.journal, edits)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A machine that panics half-way is a mistake of ours; the other groups are whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the group if the step asks for it, gives the answers out, and has the loop look when something is due.
    fn settle(&self, broker: &Broker, inner: &mut Inner, name: &str, outcome: Outcome) {
        let save = outcome.save || inner.unwritten.contains(name);
        let written = if save { inner.save(&broker.journal, name) } else { Ok(()) };
        for reply in outcome.replies {
            inner.reply(reply, written.is_ok());
        }
        self.watch(inner.groups.get(name).and_then(Group::deadline));
    }

    fn watch(&self, deadline: Option<i64>) {
        if deadline.is_some_and(|deadline| deadline < self.planned.load(Ordering::Relaxed)) {
            self.earlier.notify_one();
        }
    }

    /// Lets every group do what is due; when the next thing is.
    fn expire(&self, broker: &Broker, limits: &Limits) -> i64 {
        let (now, topics) = (broker.now(), topics(broker));
        let mut inner = self.lock();
        let due = |group: &Group| group.deadline().is_some_and(|deadline| deadline <= now);
        let names: Vec<String> = inner.groups.iter().filter(|(_, group)| due(group)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let outcome = match inner.groups.get_mut(&name) {
                Some(Group::Classic(group)) => group.expire(limits, now),
                Some(Group::Consumer(group)) => Outcome { replies: Vec::new(), save: group.expire(&topics, now) },
                None => continue,
            };
            self.settle(broker, &mut inner, &name, outcome);
        }
        for name in inner.unwritten.clone() {
            // If it cannot be written yet, it is tried again.
            let _ = inner.save(&broker.journal, &name);
        }
        let next = inner.groups.values().filter_map(Group::deadline).min().unwrap_or(i64::MAX);
        self.planned.store(next, Ordering::Relaxed);
        next
    }

    /// Forgets offsets that are too old (KIP-211), and empty groups without any.
    ///
    /// # Errors
    /// The journal cannot be written.
    fn clean(&self, broker: &Broker, limits: &Limits) -> io::Result<()> {
        let now = broker.now();
        let mut inner = self.lock();
        let old = |group: &str, place: &Place| inner.is_old(group, place, limits, now);
        let edits = inner.offsets.forget_where(old);
        inner.edit(&broker.journal, edits)?;
        let bare = |name: &String| inner.offsets.of(name).next().is_none() && !inner.offsets.has_pending(name);
        let gone: Vec<String> = inner
            .groups
            .iter()
            .filter(|(name, group)| group.is_empty() && !group.is_awaited() && bare(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            inner.remove(&broker.journal, &name)?;
        }
        Ok(())
    }
}

impl Group {
    /// Somebody was promised a place.
    fn is_awaited(&self) -> bool {
        self.deadline().is_some()
    }

    fn ages_from(&self, committed: i64) -> Option<i64> {
        match self {
            Group::Classic(group) => group.ages_from(committed),
            Group::Consumer(_) => Some(committed),
        }
    }
}

impl Inner {
    fn ticket(&mut self) -> Ticket {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn reply(&mut self, reply: Reply, written: bool) {
        let failed = ResponseError::CoordinatorNotAvailable.code();
        // Who gave up waiting does not get the answer; nothing is lost by that.
        match reply {
            Reply::Join(ticket, mut answer) => {
                let Some(waiting) = self.joins.remove(&ticket) else { return };
                if !written {
                    answer = JoinGroupResponse::default().with_error_code(failed);
                }
                let _ = waiting.send(answer);
            }
            Reply::Sync(ticket, mut answer) => {
                let Some(waiting) = self.syncs.remove(&ticket) else { return };
                if !written {
                    answer = SyncGroupResponse::default().with_error_code(failed);
                }
                let _ = waiting.send(answer);
            }
        }
    }

    fn save(&mut self, journal: &Journal, name: &str) -> io::Result<()> {
        let Some(group) = self.groups.get(name) else { return Ok(()) };
        let written = Change::put(Kind::Group, name, &group.kept()).and_then(|change| journal.write(&[change]));
        if written.is_ok() {
            self.unwritten.remove(name);
        } else {
            self.unwritten.insert(name.to_owned());
        }
        written
    }

    /// Makes the edits, all or none.
    fn edit(&mut self, journal: &Journal, edits: Vec<Edit>) -> io::Result<()> {
        journal.write(&offsets::changes(&edits)?)?;
        edits.into_iter().for_each(|edit| self.offsets.apply(edit));
        Ok(())
    }

    /// The group and all its offsets go.
    fn remove(&mut self, journal: &Journal, name: &str) -> io::Result<()> {
        let edits = self.offsets.forget_where(|group, _| group == name);
        let mut changes = offsets::changes(&edits)?;
        changes.push(Change::remove(Kind::Group, name));
        journal.write(&changes)?;
        edits.into_iter().for_each(|edit| self.offsets.apply(edit));
        self.groups.remove(name);
        self.unwritten.remove(name);
        Ok(())
    }

    fn is_old(&self, group: &str, place: &Place, limits: &Limits, now: i64) -> bool {
        let (Some(of), Some(committed)) = (self.groups.get(group), self.offsets.get(group, place)) else { return false };
        let Some(since) = of.ages_from(committed.at) else { return false };
        let old = match committed.expires {
            Some(at) => at <= now,
            None => now.saturating_sub(since) >= limits.offsets_retention,
        };
        old && !of.subscribes(&place.0) && !self.offsets.is_pending(group, place)
    }
}

/// Ends rounds and members whose time is over, and forgets old offsets, until the broker leaves.
pub(super) async fn groups_loop(broker: Arc<Broker>) {
    let mut clean_at = broker.now();
    loop {
        let limits = limits(&broker);
        let next = broker.groups.expire(&broker, &limits);
        if clean_at <= broker.now() {
            // A disk that is full now may have room the next time; what is old is old then, too.
            let _ = broker.groups.clean(&broker, &limits);
            clean_at = broker.now().saturating_add(limits.offsets_retention_check);
        }
        let wait = next.min(clean_at).saturating_sub(broker.now()).max(1);
        tokio::select! {
            () = broker.left() => return,
            () = broker.groups.earlier.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(wait.unsigned_abs())) => {}
        }
    }
}

/// All topics as they are now.
fn topics(broker: &Broker) -> consumer::Topics {
    let topic = |topic: &Arc<Topic>| (topic.name.clone(), (TopicId(topic.id), topic.count()));
    broker.topics.list().iter().map(topic).collect()
}

fn limits(broker: &Broker) -> Limits {
    Limits::of(|name| broker.configs.number(name))
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// The error's code; 0 for none.
fn code(result: Result<(), ResponseError>) -> i16 {
    result.map_or_else(|error| error.code(), |()| 0)
}

/// Bytes as base64 text, for the journal.
mod bytes_as_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offsets::Committed;

    const DAY: i64 = 24 * 3600 * 1000;

    fn limits() -> Limits {
        Limits::of(|name| if name == "offsets.retention.minutes" { 7 * 24 * 60 } else { 0 })
    }

    fn place(topic: &str) -> Place {
        (topic.to_owned(), 0)
    }

    /// A group with an offset of `t` that was committed at time 0.
    fn inner(group: Group, expires: Option<i64>) -> Inner {
        let mut inner = Inner::default();
        inner.groups.insert("g".to_owned(), group);
        let to = Committed { offset: 1, leader_epoch: -1, metadata: String::new(), at: 0, expires, order: 0 };
        inner.offsets.apply(Edit::Commit { group: "g".to_owned(), place: place("t"), to });
        inner
    }

    fn is_old(inner: &Inner, now: i64) -> bool {
        inner.is_old("g", &place("t"), &limits(), now)
    }

    #[test]
    fn an_offset_of_nobody_is_old_after_a_week_or_when_it_was_said_to_be() {
        let simple = inner(Group::Classic(Classic::new()), None);
        assert!(!is_old(&simple, 7 * DAY - 1) && is_old(&simple, 7 * DAY));
        let said = inner(Group::Classic(Classic::new()), Some(DAY));
        assert!(!is_old(&said, DAY - 1) && is_old(&said, DAY));
        assert!(!simple.is_old("other", &place("t"), &limits(), i64::MAX));
    }

    #[test]
    fn an_offset_of_a_transaction_that_runs_is_not_forgotten() {
        let mut simple = inner(Group::Classic(Classic::new()), None);
        let to = Committed { offset: 1, leader_epoch: -1, metadata: String::new(), at: 0, expires: None, order: 1 };
        simple.offsets.apply(Edit::Pend { producer: 1, group: "g".to_owned(), place: place("t"), to });
        assert!(!is_old(&simple, 8 * DAY));
    }

    #[test]
    fn a_group_that_emptied_keeps_its_offsets_for_a_week_from_then() {
        let kept = serde_json::json!({
            "classic": {"generation": 3, "protocol_type": "consumer", "protocol": null, "leader": null, "since": DAY, "members": {}}
        });
        let restored = Group::restore(serde_json::from_value(kept).unwrap(), 0, 0);
        let emptied = inner(restored, None);
        assert!(!is_old(&emptied, 8 * DAY - 1) && is_old(&emptied, 8 * DAY));
    }
}
