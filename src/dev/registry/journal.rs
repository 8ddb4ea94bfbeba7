//! Where the registry's records are kept: the seam to the broker, with a version in memory for tests.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::dev::broker::Broker;
use crate::dev::broker::batch::{self, Producer, Record};
use crate::dev::broker::compression::Compression;
use crate::dev::broker::partition::{Isolation, Partition, Terms};
use crate::dev::broker::topics::NewTopic;

/// A record of the topic `_schemas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Bytes,
    /// `None`: what the key names is taken away.
    pub value: Option<Bytes>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

/// Keeps records in order. Older records of a key may be forgotten, as in a compacted topic.
pub trait Journal: fmt::Debug + Send + Sync {
    /// All records, oldest first.
    ///
    /// # Errors
    /// They cannot be read.
    fn read_all(&self) -> io::Result<Vec<Entry>>;

    /// Keeps the records, all or none, through a kill of the process.
    ///
    /// # Errors
    /// They cannot be written. None is kept then.
    fn append(&self, entries: &[Entry]) -> io::Result<()>;
}

/// Keeps the records as long as a copy of it lives.
#[derive(Debug, Clone, Default)]
pub struct InMemory(Arc<Mutex<Vec<Entry>>>);

impl Journal for InMemory {
    fn read_all(&self) -> io::Result<Vec<Entry>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn append(&self, entries: &[Entry]) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(entries);
        Ok(())
    }
}

/// The topic's name, as Confluent's registry has it.
const TOPIC: &str = "_schemas";
/// How much of the log is read at once, in bytes.
const READ: usize = 1 << 20;

/// Keeps the records in the topic `_schemas` of a broker in this process, beside whatever others write there.
#[derive(Debug)]
pub struct OnTopic {
    broker: Arc<Broker>,
    partition: Arc<Partition>,
}

impl OnTopic {
    /// Makes the topic, compacted and of one partition, if it is not there.
    ///
    /// # Errors
    /// It cannot be made, or has no partition.
    pub fn open(broker: Arc<Broker>) -> io::Result<OnTopic> {
        if broker.topics.get(TOPIC).is_none() {
            let configs = [("cleanup.policy".to_owned(), "compact".to_owned())].into();
            let made = broker.topics.create(&broker, &NewTopic { name: TOPIC.to_owned(), partitions: 1, configs });
            made.map_err(|error| failed("make the topic", &error))?;
        }
        let partition = broker.topics.partition(TOPIC, 0).ok_or_else(|| failed("find the partition", &TOPIC))?;
        Ok(OnTopic { broker, partition })
    }
}

impl Journal for OnTopic {
    fn read_all(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let (mut next, end) = (self.partition.start(), self.partition.end());
        while next < end {
            let read = self.partition.read(next, Isolation::Uncommitted, READ, true);
            let read = read.map_err(|error| failed("read", &error))?;
            let batches = batch::split(&read.records).map_err(|error| failed("read", &error))?;
            let Some((last, _)) = batches.last() else { break };
            let behind = last.last_offset() + 1;
            for (header, bytes) in batches.iter().filter(|(header, _)| !header.is_control()) {
                let records = batch::records(header, bytes).map_err(|error| failed("read", &error))?;
                let new = records.into_iter().filter(|record| record.offset >= next);
                entries
                    .extend(new.filter_map(|Record { key, value, timestamp, .. }| Some(Entry { key: key?, value, timestamp })));
            }
            next = behind;
        }
        Ok(entries)
    }

    fn append(&self, entries: &[Entry]) -> io::Result<()> {
        let record = |entry: &Entry| Record {
            offset: 0,
            timestamp: entry.timestamp,
            key: Some(entry.key.clone()),
            value: entry.value.clone(),
            headers: Vec::new(),
        };
        let records: Vec<Record> = entries.iter().map(record).collect();
        let batch = batch::build(&records, Producer::NONE, Compression::None).map_err(|error| failed("write", &error))?;
        let appended = self.partition.append(&self.broker, &batch, Terms::default());
        appended.map(|_| ()).map_err(|refused| failed("write", &refused.error))
    }
}

fn failed(what: &str, error: &dyn fmt::Debug) -> io::Error {
    io::Error::other(format!("could not {what}, {TOPIC}: {error:?}"))
}
