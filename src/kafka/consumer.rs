//! Reading: partitions that are named, from offsets that are given, committed records only.
//!
//! A [`Reader`] joins no group and commits nothing by itself. Its calls block, for a thread of its own; [`Reader::ready`]
//! lets async code wait. "Caught up" is an event: a partition that was read to its end says so, once each time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use super::native::{End, Message, Messages, Polled};

use super::admin::{At, in_order};
use super::client::{Client, Role};
use super::error::{KafkaError, code};
use super::native::{self, Fault, Fetch};
use crate::model::environment::Kafka;

/// How long a question about offsets may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads committed records of the partitions it is told to.
pub struct Reader {
    /// What is read, once it has been assigned.
    fetch: Option<Fetch>,
    client: Client,
    kafka: Kafka,
    root: PathBuf,
    group: String,
}

impl Reader {
    /// A reader that reads nothing yet. `group` is where [`Reader::committed`] looks.
    pub fn new(kafka: &Kafka, root: &Path, group: &str) -> Result<Reader, KafkaError> {
        let client = Client::new(kafka, root, Role::Reader)?;
        Ok(Reader { fetch: None, client, kafka: kafka.clone(), root: root.to_owned(), group: group.to_owned() })
    }

    fn tell<T>(&self, operation: &str, result: Result<T, Fault>) -> Result<T, KafkaError> {
        result.map_err(|fault| self.client.error(operation, &fault))
    }

    fn assigned<T>(&self, act: impl FnOnce(&Fetch) -> Result<T, Fault>) -> Result<T, Fault> {
        self.fetch.as_ref().ok_or_else(nothing_assigned).and_then(act)
    }

    /// Reads these partitions from now on, and nothing else: topic (its place in `topics`), partition, offset to start at.
    /// Called again, it starts anew.
    pub fn assign(&mut self, topics: &[String], partitions: &[(usize, i32, i64)]) -> Result<(), KafkaError> {
        // The old ones stop before the new ones start.
        self.fetch = None;
        let fetch = Fetch::new(&self.client.native, topics).and_then(|mut fetch| {
            partitions.iter().try_for_each(|(topic, partition, offset)| fetch.start(*topic, *partition, *offset))?;
            Ok(fetch)
        });
        self.fetch = Some(self.tell("start reading", fetch)?);
        Ok(())
    }

    /// What has come. Waits until `timeout` for something to come, then takes what is there, at most `max` records and
    /// ends. After an error, assign anew: what had come with it is lost.
    pub fn poll(&mut self, timeout: Duration, max: usize) -> Result<Polled, KafkaError> {
        let fetch = self.fetch.as_mut().ok_or_else(nothing_assigned);
        let polled = fetch.and_then(|fetch| fetch.poll(timeout, max.max(1)));
        self.tell("read", polled)
    }

    /// Returns when something may have come; may return once too often, but misses nothing.
    pub async fn ready(&self) {
        match &self.fetch {
            Some(fetch) => fetch.ready().await,
            None => std::future::pending().await,
        }
    }

    /// Goes on reading a partition at another offset. It waits until that has happened.
    pub fn seek(&self, topic: usize, partition: i32, offset: i64) -> Result<(), KafkaError> {
        self.tell("seek", self.assigned(|fetch| fetch.seek(topic, partition, offset, PATIENCE)))
    }

    /// Lets no more records of a partition come. Those that wait in the queue come after [`Reader::resume`].
    pub fn pause(&self, topic: usize, partition: i32) -> Result<(), KafkaError> {
        self.tell("pause", self.assigned(|fetch| fetch.pause(topic, partition, true)))
    }

    /// Goes on after [`Reader::pause`], with the record after the last one that came.
    pub fn resume(&self, topic: usize, partition: i32) -> Result<(), KafkaError> {
        self.tell("resume", self.assigned(|fetch| fetch.pause(topic, partition, false)))
    }

    /// How many partitions a topic has.
    pub fn partitions(&self, topic: &str) -> Result<i32, KafkaError> {
        const OPERATION: &str = "describe a topic";
        let described = native::describe_topics(&self.client.native, &[topic], PATIENCE).and_then(native::Call::wait);
        let state = self.tell(OPERATION, described)?.into_iter().find(|(name, _)| name == topic).map(|(_, state)| state);
        match state {
            Some(Ok((_, partitions))) => Ok(i32::try_from(partitions.len()).unwrap_or(i32::MAX)),
            Some(Err(error)) => {
                Err(self.client.error(OPERATION, &Fault::new(error.code, format!("topic {topic}: {}", error.message))))
            }
            None => Err(self.client.local_error(OPERATION, format!("no answer for topic {topic}"))),
        }
    }

    /// What the group has committed for each partition, in the order given. Offsets that a transaction is about to commit
    /// are waited for.
    pub fn committed(&self, partitions: &[(String, i32)]) -> Result<Vec<Option<i64>>, KafkaError> {
        let partitions: Vec<(&str, i32)> = partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition)).collect();
        let client = Client::new(&self.kafka, &self.root, Role::Group(&self.group))?;
        committed(&client, &partitions, PATIENCE)
    }

    /// The offset of each partition, in the order given. For [`At::Time`] without a record that late it is the end.
    pub fn offsets(&self, partitions: &[(&str, i32)], at: At) -> Result<Vec<i64>, KafkaError> {
        offsets(&self.client, partitions, at)
    }

    /// The first offset of a partition that is still there, and the one after its last committed record.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
        Ok((self.offset(topic, partition, At::Start)?, self.offset(topic, partition, At::CommittedEnd)?))
    }

    /// The first offset of a partition at or after a time in milliseconds since 1970; the end when there is none.
    pub fn offset_for_time(&self, topic: &str, partition: i32, ms: i64) -> Result<i64, KafkaError> {
        self.offset(topic, partition, At::Time(ms))
    }

    fn offset(&self, topic: &str, partition: i32, at: At) -> Result<i64, KafkaError> {
        let offsets = self.offsets(&[(topic, partition)], at)?;
        offsets.first().copied().ok_or_else(|| self.client.local_error("list offsets", "no answer"))
    }

    /// The last failure of a connection, for the words of someone who waits in vain.
    pub fn trouble(&self) -> Option<String> {
        self.client.native.seen().failure
    }
}

/// What the client's group has committed for each partition, in the order given.
pub(super) fn committed(client: &Client, partitions: &[(&str, i32)], patience: Duration) -> Result<Vec<Option<i64>>, KafkaError> {
    const OPERATION: &str = "read a group's offsets";
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let deadline = Instant::now() + patience;
    loop {
        let found = native::group_offsets(&client.native, partitions, patience);
        let passing = match &found {
            Err(fault) => is_passing(fault),
            Ok(found) => found.iter().any(|(_, _, offset)| offset.as_ref().is_err_and(is_passing)),
        };
        if !passing || Instant::now() > deadline {
            let found = in_order(client, OPERATION, partitions, found.map_err(|fault| client.error(OPERATION, &fault))?)?;
            return Ok(found.into_iter().map(|offset| (offset >= 0).then_some(offset)).collect());
        }
        // Nobody tells when the coordinator is ready.
        client.native.tidy_for(Duration::from_millis(20));
    }
}

/// Whether a group's coordinator will soon say something else: it is about to take its place, or a transaction that has
/// the offsets is about to end.
fn is_passing(fault: &Fault) -> bool {
    use code::{COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, UNSTABLE_OFFSET_COMMIT};
    matches!(fault.code, COORDINATOR_LOAD_IN_PROGRESS | COORDINATOR_NOT_AVAILABLE | NOT_COORDINATOR | UNSTABLE_OFFSET_COMMIT)
}

fn nothing_assigned() -> Fault {
    Fault::new(code::INVALID_ARGUMENT, "no partition has been assigned")
}

/// The offset of each partition, in the order given, for any client.
pub(super) fn offsets(client: &Client, partitions: &[(&str, i32)], at: At) -> Result<Vec<i64>, KafkaError> {
    const OPERATION: &str = "list offsets";
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    native::reach(&client.native, PATIENCE).map_err(|fault| client.error(OPERATION, &fault))?;
    let ask = |at| {
        let found = native::list_offsets(&client.native, partitions, at, PATIENCE).and_then(native::Call::wait);
        in_order(client, OPERATION, partitions, found.map_err(|fault| client.error(OPERATION, &fault))?)
    };
    let found = ask(at)?;
    if found.iter().all(|offset| *offset >= 0) {
        return Ok(found);
    }
    let ends = ask(At::CommittedEnd)?;
    Ok(found.into_iter().zip(ends).map(|(offset, end)| if offset < 0 { end } else { offset }).collect())
}
