//! The topics: their names, ids and partitions, made, grown and deleted.
//!
//! A topic is there when the journal says so. Its logs stand in `logs/ID/PARTITION` under the data directory, so that a name
//! may come back before the old files are gone; a directory that the journal does not know is removed when the broker opens.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kafka_protocol::error::ResponseError;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Broker;
use super::compression::Compression;
use super::journal::{Change, Journal, Kind};
use super::partition::{Partition, Place};

/// The longest name, in bytes: a directory's name has 255, and Kafka appends the partition to it.
const LONGEST: usize = 249;
/// The most partitions a topic is made with or grown by at once, as in Kafka's controller.
const MOST: i32 = 10_000;

/// All topics.
#[derive(Debug)]
pub struct Topics {
    logs: PathBuf,
    known: RwLock<Known>,
    /// Held by whoever makes, grows or deletes a topic.
    changing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

/// A topic.
#[derive(Debug)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
    partitions: RwLock<Vec<Arc<Partition>>>,
}

/// A topic to be made. Its configs are valid: who asks for it has checked them.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    pub configs: BTreeMap<String, String>,
}

/// What a topic's configs mean for its records.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    pub log: super::log::Config,
    /// `max.message.bytes`
    pub max_message_bytes: usize,
    /// `compression.type`; `None` leaves it to the producer.
    pub compression: Option<Compression>,
    /// Whether `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub after_max_ms: i64,
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig {
            log: super::log::Config::default(),
            max_message_bytes: 1_048_588,
            compression: None,
            log_append_time: false,
            before_max_ms: i64::MAX,
            after_max_ms: 3_600_000,
        }
    }
}

/// A topic in the journal, by its name.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    id: String,
    partitions: i32,
}

impl Entry {
    fn new(id: Uuid, partitions: i32) -> Entry {
        Entry { id: id.to_string(), partitions }
    }
}

/// Whether a topic may have this name.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return Err(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    if name.len() > LONGEST {
        return Err(format!("Topic name is invalid: the length of '{name}' is longer than the max allowed length {LONGEST}"));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return Err(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// Topics that belong to the broker itself.
pub fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

impl Topics {
    /// Opens all topics that the journal knows, and removes the logs of all others.
    ///
    /// # Errors
    /// A log cannot be read or written.
    pub(super) fn open(
        data: &Path,
        journal: &Journal,
        config: impl Fn(&str) -> Arc<TopicConfig>,
        now: i64,
    ) -> io::Result<Topics> {
        let logs = data.join("logs");
        std::fs::create_dir_all(&logs)?;
        let starts: HashMap<String, i64> = journal.read(Kind::LogStart)?.into_iter().collect();
        let mut known = Known::default();
        for (name, entry) in journal.read::<Entry>(Kind::Topic)? {
            let config = config(&name);
            let id = Uuid::parse_str(&entry.id).map_err(io::Error::other)?;
            let open = |index| {
                let start = starts.get(&log_start_key(id, index)).copied().unwrap_or(0);
                Partition::open(place(&logs, &name, id, index), config.clone(), start, now).map(Arc::new)
            };
            let partitions = (0..entry.partitions).map(open).collect::<io::Result<Vec<_>>>()?;
            known.add(Arc::new(Topic { name, id, partitions: RwLock::new(partitions) }));
        }
        sweep(&logs, &known)?;
        Ok(Topics { logs, known: RwLock::new(known), changing: Mutex::new(()) })
    }

    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.known().by_name.get(name).cloned()
    }

    pub fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.known().by_id.get(&id).cloned()
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Arc<Topic>> {
        self.known().by_name.values().cloned().collect()
    }

    /// The partition, if there is such a topic and it has such a partition.
    pub fn partition(&self, name: &str, index: i32) -> Option<Arc<Partition>> {
        self.get(name)?.partition(index)
    }

    /// Whether a topic could be made now: what [`Topics::create`] would refuse, and why.
    ///
    /// # Errors
    /// `InvalidTopicException`, `TopicAlreadyExists`, `InvalidPartitions` or `PolicyViolation`, with a sentence.
    pub fn check(&self, name: &str, partitions: i32) -> Result<(), (ResponseError, String)> {
        check_name(name).map_err(|why| (ResponseError::InvalidTopicException, why))?;
        let known = self.known();
        if known.by_name.contains_key(name) {
            return Err((ResponseError::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        // Metrics of Kafka's write "." as "_", so names that differ in nothing else are one.
        let flat = |name: &str| name.replace('.', "_");
        if let Some(other) = known.by_name.keys().find(|other| flat(other) == flat(name)) {
            let why = format!("Topic '{name}' collides with existing topic: {other}");
            return Err((ResponseError::InvalidTopicException, why));
        }
        if partitions <= 0 {
            return Err((ResponseError::InvalidPartitions, "Number of partitions must be larger than 0.".to_owned()));
        }
        if partitions > MOST {
            let why = format!("Excessively large number of partitions per request: {partitions}");
            return Err((ResponseError::PolicyViolation, why));
        }
        Ok(())
    }

    /// Makes a topic, with its configs in the same breath.
    ///
    /// # Errors
    /// As [`Topics::check`]; `KafkaStorageError` when the files cannot be written.
    pub fn create(&self, broker: &Broker, new: &NewTopic) -> Result<Arc<Topic>, ResponseError> {
        let _changing = self.changing();
        self.check(&new.name, new.partitions).map_err(|(error, _)| error)?;
        let id = Uuid::new_v4();
        let config = broker.configs.topic_with(&new.configs);
        let made = self.make(broker, &new.name, id, 0..new.partitions, &config).and_then(|partitions| {
            let mut changes = vec![Change::put(Kind::Topic, &new.name, &Entry::new(id, new.partitions))?];
            changes.extend(broker.configs.topic_changes(&new.name, &new.configs)?);
            broker.journal.write(&changes)?;
            Ok(partitions)
        });
        let partitions = made.map_err(|_| {
            let _ = std::fs::remove_dir_all(self.logs.join(id.to_string()));
            ResponseError::KafkaStorageError
        })?;
        let topic = Arc::new(Topic { name: new.name.clone(), id, partitions: RwLock::new(partitions) });
        self.known_mut().add(topic.clone());
        Ok(topic)
    }

    /// Grows a topic to `total` partitions.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`; `InvalidPartitions` if it has as many already; `KafkaStorageError`.
    pub fn add_partitions(&self, broker: &Broker, name: &str, total: i32) -> Result<(), ResponseError> {
        let _changing = self.changing();
        let topic = self.get(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let before = topic.count();
        if total <= before || total.saturating_sub(before) > MOST {
            return Err(ResponseError::InvalidPartitions);
        }
        let config = broker.configs.topic(name);
        let made = self.make(broker, name, topic.id, before..total, &config).and_then(|partitions| {
            broker.journal.write(&[Change::put(Kind::Topic, name, &Entry::new(topic.id, total))?])?;
            Ok(partitions)
        });
        let mut made = made.map_err(|_| ResponseError::KafkaStorageError)?;
        topic.partitions.write().unwrap_or_else(PoisonError::into_inner).append(&mut made);
        Ok(())
    }

    /// Deletes a topic and its files. Who waits for its records is woken.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`; `KafkaStorageError` when the journal cannot be written.
    pub fn delete(&self, broker: &Broker, name: &str) -> Result<(), ResponseError> {
        let _changing = self.changing();
        let topic = self.get(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        let mut changes = vec![Change::remove(Kind::Topic, name)];
        changes.extend(broker.configs.topic_removal(name));
        changes.extend((0..topic.count()).map(|index| Change::remove(Kind::LogStart, log_start_key(topic.id, index))));
        broker.journal.write(&changes).map_err(|_| ResponseError::KafkaStorageError)?;
        self.known_mut().remove(&topic);
        topic.partitions().iter().for_each(|partition| partition.close());
        // Offsets that are left over would be those of the next topic of the name.
        broker.groups.forget_topic(broker, name).map_err(|_| ResponseError::KafkaStorageError)?;
        // What cannot be removed now is removed when the broker opens again.
        let _ = std::fs::remove_dir_all(self.logs.join(topic.id.to_string()));
        Ok(())
    }

    /// Hands each topic its configs anew, after configs changed.
    pub fn reconfigure(&self, broker: &Broker) {
        for topic in self.list() {
            let config = broker.configs.topic(&topic.name);
            topic.partitions().iter().for_each(|partition| partition.reconfigure(config.clone()));
        }
    }

    fn make(
        &self,
        broker: &Broker,
        name: &str,
        id: Uuid,
        indexes: std::ops::Range<i32>,
        config: &Arc<TopicConfig>,
    ) -> io::Result<Vec<Arc<Partition>>> {
        let open = |index| {
            let place = place(&self.logs, name, id, index);
            // Left over from a growth that was cut short.
            if place.dir.exists() {
                std::fs::remove_dir_all(&place.dir)?;
            }
            Partition::open(place, config.clone(), 0, broker.now()).map(Arc::new)
        };
        indexes.map(open).collect()
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn add(&mut self, topic: Arc<Topic>) {
        self.by_name.insert(topic.name.clone(), topic.clone());
        self.by_id.insert(topic.id, topic);
    }

    fn remove(&mut self, topic: &Topic) {
        self.by_name.remove(&topic.name);
        self.by_id.remove(&topic.id);
    }
}

impl Topic {
    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.get(usize::try_from(index).ok()?).cloned()
    }

    /// All of them, by index.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many partitions it has.
    pub fn count(&self) -> i32 {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        i32::try_from(partitions.len()).unwrap_or(i32::MAX)
    }
}

/// The key of a partition's entry of [`Kind::LogStart`].
pub(super) fn log_start_key(id: Uuid, index: i32) -> String {
    format!("{id}/{index}")
}

fn place(logs: &Path, name: &str, topic_id: Uuid, index: i32) -> Place {
    let dir = logs.join(topic_id.to_string()).join(index.to_string());
    Place { dir, topic: name.into(), topic_id, index }
}

/// Removes the directories of topics and partitions that are not known.
fn sweep(logs: &Path, known: &Known) -> io::Result<()> {
    for entry in std::fs::read_dir(logs)? {
        let entry = entry?;
        let id = entry.file_name().to_str().and_then(|name| Uuid::parse_str(name).ok());
        let Some(topic) = id.and_then(|id| known.by_id.get(&id)) else {
            std::fs::remove_dir_all(entry.path())?;
            continue;
        };
        for partition in std::fs::read_dir(entry.path())? {
            let partition = partition?;
            let index = partition.file_name().to_str().and_then(|name| name.parse().ok());
            if index.is_none_or(|index: i32| topic.partition(index).is_none()) {
                std::fs::remove_dir_all(partition.path())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kafka_takes() {
        for good in ["a", "A-b_c.9", "__x", &"n".repeat(249)] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in ["", ".", "..", "a/b", "a b", "\u{e4}", "a:b", &"n".repeat(250)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_the_journal_does_not_know_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("journal")).unwrap();
        let id = Uuid::from_u128(1);
        journal.write(&[Change::put(Kind::Topic, "a", &Entry::new(id, 2)).unwrap()]).unwrap();
        let open = || Topics::open(dir.path(), &journal, |_| Arc::new(TopicConfig::default()), 0).unwrap();
        let topics = open();
        assert_eq!(topics.by_id(id).unwrap().count(), 2);
        let logs = dir.path().join("logs");
        let kept = logs.join(id.to_string());
        for stray in [logs.join(Uuid::from_u128(2).to_string()).join("0"), logs.join("junk"), kept.join("2"), kept.join("x")] {
            std::fs::create_dir_all(stray).unwrap();
        }
        drop(topics);
        open();
        let names = |dir: &Path| {
            let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&logs), [id.to_string().as_str()]);
        assert_eq!(names(&kept), ["0", "1"]);
    }
}
