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
#[derive(Debug, Clone)]
pub struct OnTopic(Arc<Broker>);

impl OnTopic {
    /// The journal on this broker. The topic, compacted and of one partition, is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(broker: Arc<Broker>) -> io::Result<OnTopic> {
        let journal = OnTopic(broker);
        journal.make()?;
        Ok(journal)
    }

    fn partition(&self) -> io::Result<Arc<Partition>> {
        self.0.topics.partition(TOPIC, 0).ok_or_else(|| failed("find", &"there is no such topic"))
    }

    fn make(&self) -> io::Result<()> {
        if self.0.topics.get(TOPIC).is_some() {
            return Ok(());
        }
        let configs = [("cleanup.policy".to_owned(), "compact".to_owned())].into();
        let made = self.0.topics.create(&self.0, &NewTopic { name: TOPIC.to_owned(), partitions: 1, configs });
        made.map(|_| ()).map_err(|error| failed("make", &error))
    }
}

impl Journal for OnTopic {
    fn read_all(&self) -> io::Result<Vec<Entry>> {
        let partition = self.partition()?;
        let mut entries = Vec::new();
        let (mut next, end) = (partition.start(), partition.end());
        while next < end {
            let read = partition.read(next, Isolation::Uncommitted, READ, true);
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
        let appended = self.partition()?.append(&self.0, &batch, Terms::default());
        appended.map(|_| ()).map_err(|refused| failed("write", &refused.error))
    }
}

fn failed(what: &str, error: &dyn fmt::Debug) -> io::Error {
    io::Error::other(format!("could not {what} {TOPIC}: {error:?}"))
}
