//! Reading: partitions that are named, from offsets that are given, committed records only.
//!
//! A [`Reader`] joins no group and commits nothing by itself. Its calls block, for a thread of its own; [`Reader::ready`]
//! lets async code wait. "Caught up" is an event: a partition that was read to its end says so, once each time.

use std::path::Path;
use std::time::Duration;

pub use super::native::{Message, Polled};

use super::admin::{At, in_order};
use super::client::{Client, Role};
use super::error::KafkaError;
use super::native::{self, Fault, Fetch};
use crate::model::environment::Kafka;

/// How long a question about offsets may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads committed records of the partitions it is told to.
pub struct Reader {
    fetch: Fetch,
    client: Client,
    group: String,
}

impl Reader {
    /// A reader that reads nothing yet. `group` is where [`Reader::committed`] looks.
    pub fn new(kafka: &Kafka, root: &Path, group: &str) -> Result<Reader, KafkaError> {
        let client = Client::new(kafka, root, Role::Reader)?;
        Ok(Reader { fetch: Fetch::new(&client.native), client, group: group.to_owned() })
    }

    fn tell<T>(&self, operation: &str, result: Result<T, Fault>) -> Result<T, KafkaError> {
        result.map_err(|fault| self.client.error(operation, &fault))
    }

    /// The number by which records of a topic are told apart: 0 for the first that is named, and so on.
    pub fn topic(&mut self, name: &str) -> Result<usize, KafkaError> {
        let number = self.fetch.topic(name);
        self.tell("name a topic", number)
    }

    /// A topic's name by its number.
    pub fn topic_name(&self, topic: usize) -> Option<&str> {
        self.fetch.name(topic)
    }

    /// Starts to read a partition at an offset. A partition is started once.
    pub fn start(&mut self, topic: usize, partition: i32, offset: i64) -> Result<(), KafkaError> {
        let started = self.fetch.start(topic, partition, offset);
        self.tell("start reading", started)
    }

    /// Starts to read all of these: topic, partition, offset. Topics get their numbers in the order in which they come.
    pub fn assign(&mut self, partitions: &[(String, i32, i64)]) -> Result<(), KafkaError> {
        for (topic, partition, offset) in partitions {
            let topic = self.topic(topic)?;
            self.start(topic, *partition, *offset)?;
        }
        Ok(())
    }

    /// What has come. Waits until `timeout` for something to come, then takes what is there, at most `max` records and
    /// ends. After an error the reader must be made anew: what had come with it is lost.
    pub fn poll_batch(&mut self, timeout: Duration, max: usize) -> Result<Polled, KafkaError> {
        let polled = self.fetch.poll(timeout, max);
        self.tell("read", polled)
    }

    /// Returns when something may have come; may return once too often, but misses nothing.
    pub async fn ready(&self) {
        self.fetch.ready().await;
    }

    /// Goes on reading a partition at another offset. It waits until that has happened.
    pub fn seek(&self, topic: usize, partition: i32, offset: i64) -> Result<(), KafkaError> {
        self.tell("seek", self.fetch.seek(topic, partition, offset, PATIENCE))
    }

    /// Lets no more records of a partition come. Those that wait in the queue come after [`Reader::resume`].
    pub fn pause(&self, topic: usize, partition: i32) -> Result<(), KafkaError> {
        self.tell("pause", self.fetch.pause(topic, partition, true))
    }

    /// Goes on after [`Reader::pause`], with the record after the last one that came.
    pub fn resume(&self, topic: usize, partition: i32) -> Result<(), KafkaError> {
        self.tell("resume", self.fetch.pause(topic, partition, false))
    }

    /// What the group has committed for each partition, in the order given. Offsets that a transaction is about to commit
    /// are waited for.
    pub fn committed(&self, partitions: &[(&str, i32)]) -> Result<Vec<Option<i64>>, KafkaError> {
        const OPERATION: &str = "read a group's offsets";
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let found = native::group_offsets(&self.client.native, &self.group, partitions, PATIENCE).and_then(native::Call::wait);
        let found = in_order(&self.client, OPERATION, partitions, self.tell(OPERATION, found)?)?;
        Ok(found.into_iter().map(|offset| (offset >= 0).then_some(offset)).collect())
    }

    /// The offset of each partition, in the order given. For [`At::Time`] without a record that late it is the end.
    pub fn offsets(&self, partitions: &[(&str, i32)], at: At) -> Result<Vec<i64>, KafkaError> {
        offsets(&self.client, partitions, at)
    }

    /// The last failure of a connection, for the words of someone who waits in vain.
    pub fn trouble(&self) -> Option<String> {
        self.client.native.seen().failure
    }
}

/// The same for any client.
pub(super) fn offsets(client: &Client, partitions: &[(&str, i32)], at: At) -> Result<Vec<i64>, KafkaError> {
    const OPERATION: &str = "list offsets";
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
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
