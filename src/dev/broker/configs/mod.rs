//! Configs: which there are ([`keys`], [`topics`], [`brokers`]), what is set, and what holds.
//!
//! What holds is looked for from the nearest to the farthest: set for the topic, for this broker, for all brokers, in the
//! settings the broker was started with, Kafka's default. What is set at run time is kept in the journal.

pub mod alter;
pub mod brokers;
pub mod describe;
pub mod keys;
pub mod topics;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kafka_protocol::error::ResponseError;

use super::compression::Compression;
use super::journal::{Change, Journal, Kind};
use super::log;
use super::topics::TopicConfig;
use super::{NODE, Settings};
use keys::elements;
use topics::TopicKey;

/// Configs by name, as they were set.
pub type Values = BTreeMap<String, String>;

/// Why something is not done: Kafka's code, and a sentence for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub error: ResponseError,
    pub message: String,
}

impl Refused {
    pub fn new(error: ResponseError, message: impl Into<String>) -> Refused {
        Refused { error, message: message.into() }
    }
}

/// What a config is set for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Topic(String),
    /// This broker.
    Broker,
    /// All brokers, where nothing is set for one.
    Cluster,
    /// A group (KIP-848).
    Group(String),
    /// A client metrics subscription (KIP-714).
    Metrics(String),
}

impl Resource {
    /// The type's number in Kafka's protocol.
    pub const TOPIC: i8 = 2;
    pub const BROKER: i8 = 4;
    pub const LOGGER: i8 = 8;
    pub const METRICS: i8 = 16;
    pub const GROUP: i8 = 32;

    fn journal_key(&self) -> String {
        match self {
            Resource::Topic(name) => format!("topic/{name}"),
            Resource::Broker => format!("broker/{NODE}"),
            Resource::Cluster => "broker/".to_owned(),
            Resource::Group(name) => format!("group/{name}"),
            Resource::Metrics(name) => format!("client-metrics/{name}"),
        }
    }

    fn of_journal_key(key: &str) -> Option<Resource> {
        let (kind, name) = key.split_once('/')?;
        Some(match kind {
            "topic" => Resource::Topic(name.to_owned()),
            "broker" if name.is_empty() => Resource::Cluster,
            "broker" => Resource::Broker,
            "group" => Resource::Group(name.to_owned()),
            "client-metrics" => Resource::Metrics(name.to_owned()),
            _ => return None,
        })
    }
}

/// Where a value comes from, as `DescribeConfigs` numbers it (KIP-226).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Topic = 1,
    Broker = 2,
    Cluster = 3,
    Static = 4,
    Default = 5,
    Metrics = 7,
    Group = 8,
}

/// All configs.
#[derive(Debug)]
pub struct Configs {
    /// What the broker was started with, and what it says of itself.
    statics: Values,
    inner: RwLock<Inner>,
    /// Goes up when anything changed.
    version: AtomicU64,
    /// Held by whoever reads what is set, changes it and writes it.
    changing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    set: BTreeMap<Resource, Values>,
    /// Read once, for the topics that are asked for.
    topics: HashMap<String, Arc<TopicConfig>>,
}

impl Configs {
    /// What the journal keeps, over what the broker was started with.
    ///
    /// # Errors
    /// The journal cannot be read or written, or a config of the settings has no such value.
    pub fn open(settings: &Settings, address: SocketAddr, journal: &Journal) -> io::Result<Configs> {
        let statics = statics(settings, address);
        for (name, value) in &statics {
            if let Some(Err(refused)) = brokers::find(name).map(|key| key.read(value)) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, refused.message));
            }
        }
        let mut set = BTreeMap::new();
        for (key, values) in journal.read::<Values>(Kind::Config)? {
            let unknown = || io::Error::new(io::ErrorKind::InvalidData, format!("configs of an unknown resource: {key}"));
            set.insert(Resource::of_journal_key(&key).ok_or_else(unknown)?, values);
        }
        let inner = RwLock::new(Inner { set, topics: HashMap::new() });
        let configs = Configs { statics, inner, version: AtomicU64::new(0), changing: Mutex::new(()) };
        configs.set_min_insync(journal)?;
        Ok(configs)
    }

    /// Kafka 4 sets this for the cluster when it is made, as leaders are elected by it (KIP-966); there it stays.
    fn set_min_insync(&self, journal: &Journal) -> io::Result<()> {
        let mut values = self.set_for(&Resource::Cluster);
        if values.contains_key(alter::MIN_INSYNC) {
            return Ok(());
        }
        let value = self.statics.get(alter::MIN_INSYNC).map_or("1", String::as_str);
        values.insert(alter::MIN_INSYNC.to_owned(), value.to_owned());
        self.put(journal, vec![(Resource::Cluster, values)])
    }

    /// Goes up with every change: who keeps something that it got here knows by it whether to ask again.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What holds for a topic, which there is: for other names ask [`Configs::topic_with`], which keeps nothing.
    pub fn topic(&self, name: &str) -> Arc<TopicConfig> {
        if let Some(config) = self.inner().topics.get(name) {
            return config.clone();
        }
        let mut inner = self.inner_mut();
        let own = inner.set.get(&Resource::Topic(name.to_owned())).cloned();
        let config = Arc::new(self.levels(&inner).topic_config(&own.unwrap_or_default()));
        inner.topics.insert(name.to_owned(), config.clone());
        config
    }

    /// What would hold for a topic with these configs.
    pub fn topic_with(&self, own: &Values) -> Arc<TopicConfig> {
        Arc::new(self.levels(&self.inner()).topic_config(own))
    }

    /// A broker's config by Kafka's name, as it was set; `None` if there is no such config or it has no value.
    pub fn broker(&self, name: &str) -> Option<String> {
        self.levels(&self.inner()).find(name).map(|(_, value)| value.trim().to_owned())
    }

    /// A broker's config that is a number; 0 if it has no value.
    pub fn number(&self, name: &str) -> i64 {
        self.broker(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// A broker's config that is true or false; false if it has no value.
    pub fn flag(&self, name: &str) -> bool {
        self.broker(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// A group's config that is a number, such as `consumer.session.timeout.ms`; 0 if there is no such config.
    pub fn group_number(&self, group: &str, name: &str) -> i64 {
        let Some(of) = topics::find_group(name) else { return 0 };
        let own = self.set_for(&Resource::Group(group.to_owned()));
        let (_, value) = self.levels(&self.inner()).group_value(&own, of);
        value.trim().parse().unwrap_or(0)
    }

    /// What is set for a resource.
    pub fn set_for(&self, resource: &Resource) -> Values {
        self.inner().set.get(resource).cloned().unwrap_or_default()
    }

    /// The groups and client metrics subscriptions that something is set for.
    pub fn named(&self) -> Vec<Resource> {
        let named = |of: &&Resource| matches!(of, Resource::Group(_) | Resource::Metrics(_));
        self.inner().set.keys().filter(named).cloned().collect()
    }

    /// The journal's changes for a topic that is made with these configs, to be written with the topic itself. They hold
    /// from now on.
    ///
    /// # Errors
    /// None that can be thought of: the configs have no JSON form.
    pub fn topic_changes(&self, name: &str, own: &Values) -> io::Result<Vec<Change>> {
        let resource = Resource::Topic(name.to_owned());
        let change = journaled(&resource, own)?;
        self.remember(vec![(resource, own.clone())]);
        Ok(vec![change])
    }

    /// The journal's changes for a topic that goes. Its configs hold no longer.
    pub fn topic_removal(&self, name: &str) -> Vec<Change> {
        let resource = Resource::Topic(name.to_owned());
        let change = Change::remove(Kind::Config, resource.journal_key());
        self.remember(vec![(resource, Values::new())]);
        vec![change]
    }

    /// Sets for each resource exactly these configs, in the journal and from now on.
    ///
    /// # Errors
    /// The journal cannot be written; nothing has changed then.
    pub fn put(&self, journal: &Journal, all: Vec<(Resource, Values)>) -> io::Result<()> {
        let changes = all.iter().map(|(resource, values)| journaled(resource, values)).collect::<io::Result<Vec<_>>>()?;
        journal.write(&changes)?;
        self.remember(all);
        Ok(())
    }

    /// To be held from reading what is set to having it changed.
    pub fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, all: Vec<(Resource, Values)>) {
        let mut inner = self.inner_mut();
        for (resource, values) in all {
            match &resource {
                Resource::Topic(name) => drop(inner.topics.remove(name)),
                Resource::Broker | Resource::Cluster => inner.topics.clear(),
                Resource::Group(_) | Resource::Metrics(_) => {}
            }
            if values.is_empty() {
                inner.set.remove(&resource)
            } else {
                inner.set.insert(resource, values)
            };
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    fn levels<'a>(&'a self, inner: &'a Inner) -> Levels<'a> {
        Levels { broker: inner.set.get(&Resource::Broker), cluster: inner.set.get(&Resource::Cluster), statics: &self.statics }
    }

    fn inner(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner_mut(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn journaled(resource: &Resource, values: &Values) -> io::Result<Change> {
    if values.is_empty() {
        return Ok(Change::remove(Kind::Config, resource.journal_key()));
    }
    Change::put(Kind::Config, resource.journal_key(), values)
}

/// The settings' configs, over what is different on one node: one replica of everything, and no waiting for more members.
fn statics(settings: &Settings, address: SocketAddr) -> Values {
    let data = std::path::absolute(&settings.data).unwrap_or_else(|_| settings.data.clone());
    let own = [
        ("advertised.listeners", format!("PLAINTEXT://{address}")),
        ("broker.id", NODE.to_string()),
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
        ("listeners", format!("PLAINTEXT://{address}")),
        ("log.dirs", data.display().to_string()),
        ("node.id", NODE.to_string()),
        ("offsets.topic.replication.factor", "1".to_owned()),
        ("process.roles", "broker,controller".to_owned()),
        ("transaction.state.log.min.isr", "1".to_owned()),
        ("transaction.state.log.replication.factor", "1".to_owned()),
    ];
    let mut statics: Values = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    statics.extend(settings.configs.clone());
    statics
}

/// The places where a broker's config may be set, the nearest first.
#[derive(Debug, Clone, Copy)]
struct Levels<'a> {
    broker: Option<&'a Values>,
    cluster: Option<&'a Values>,
    statics: &'a Values,
}

impl<'a> Levels<'a> {
    fn all(&self) -> impl Iterator<Item = (Source, &'a Values)> {
        let dynamic = [(Source::Broker, self.broker), (Source::Cluster, self.cluster)];
        let dynamic = dynamic.into_iter().filter_map(|(source, values)| Some((source, values?)));
        dynamic.chain([(Source::Static, self.statics)])
    }

    /// A broker's own config.
    fn find(&self, name: &str) -> Option<(Source, &'a str)> {
        let set = self.all().find_map(|(source, values)| Some((source, values.get(name)?.as_str())));
        set.or_else(|| Some((Source::Default, brokers::find(name)?.default?)))
    }

    /// What holds for a topic, and where that was set: its text as it was set, in the topic's unit.
    fn topic_value(&self, own: &Values, of: &TopicKey) -> (Source, String) {
        if let Some(value) = own.get(of.key.name) {
            return (Source::Topic, value.clone());
        }
        for (source, values) in self.all() {
            for (synonym, unit) in of.synonyms {
                if let Some(value) = values.get(*synonym) {
                    return (source, converted(value, *unit));
                }
            }
        }
        (Source::Default, of.key.default.unwrap_or_default().to_owned())
    }

    fn group_value(&self, own: &Values, of: &topics::GroupKey) -> (Source, String) {
        if let Some(value) = own.get(of.key.name) {
            return (Source::Group, value.clone());
        }
        let synonym = of.synonym.and_then(|synonym| self.find(synonym));
        let (source, value) = synonym.unwrap_or((Source::Default, of.key.default.unwrap_or_default()));
        (source, value.to_owned())
    }

    fn topic_config(&self, own: &Values) -> TopicConfig {
        let text = |name: &str| {
            let value = topics::find(name).map(|of| self.topic_value(own, of).1).unwrap_or_default();
            value.trim().to_owned()
        };
        let long = |name: &str| text(name).parse::<i64>().unwrap_or(0);
        let segment_bytes = if own.contains_key("internal.segment.bytes") { "internal.segment.bytes" } else { "segment.bytes" };
        let policy = text("cleanup.policy");
        let has = |wanted: &str| elements(&policy).contains(&wanted);
        let compression = text("compression.type");
        // Kafka's name for what clients call none.
        let codec = if compression == "uncompressed" { "none" } else { &compression };
        TopicConfig {
            log: log::Config {
                segment_bytes: u64::try_from(long(segment_bytes)).unwrap_or(1),
                segment_ms: long("segment.ms"),
                retention_ms: long("retention.ms"),
                retention_bytes: long("retention.bytes"),
                delete: has("delete"),
                compact: has("compact"),
                delete_retention_ms: long("delete.retention.ms"),
                min_compaction_lag_ms: long("min.compaction.lag.ms"),
                max_compaction_lag_ms: long("max.compaction.lag.ms"),
                min_cleanable_dirty_ratio: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            },
            max_message_bytes: usize::try_from(long("max.message.bytes")).unwrap_or(0),
            compression: Compression::ALL.into_iter().find(|of| of.name() == codec),
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            before_max_ms: long("message.timestamp.before.max.ms"),
            after_max_ms: long("message.timestamp.after.max.ms"),
        }
    }
}

/// A broker's value in the unit of a topic's: hours as milliseconds. Below zero is no limit, in any unit.
fn converted(value: &str, unit: i64) -> String {
    match value.trim().parse::<i64>() {
        Ok(number) if unit > 1 && number < 0 => "-1".to_owned(),
        Ok(number) if unit > 1 => number.saturating_mul(unit).to_string(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;

    /// Configs of a broker that was started with these, and their journal.
    pub(crate) fn configs(dir: &Path, given: &[(&str, &str)]) -> (Configs, Journal) {
        let mut settings = Settings::new(dir);
        settings.configs = values(given);
        let journal = Journal::open(&dir.join("journal")).unwrap();
        (Configs::open(&settings, "127.0.0.1:9092".parse().unwrap(), &journal).unwrap(), journal)
    }

    pub(crate) fn values(of: &[(&str, &str)]) -> Values {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_nearest_value_holds() {
        let dir = tempfile::tempdir().unwrap();
        let (configs, journal) = configs(dir.path(), &[("log.retention.hours", "2"), ("log.roll.ms", "5")]);
        let retention = |configs: &Configs| configs.topic("t").log.retention_ms;
        assert_eq!((retention(&configs), configs.topic("t").log.segment_ms), (7_200_000, 5));
        let set = |resource, of: &[(&str, &str)]| configs.put(&journal, vec![(resource, values(of))]).unwrap();
        let version = configs.version();
        set(Resource::Cluster, &[("log.retention.ms", "30"), ("min.insync.replicas", "1")]);
        assert!(configs.version() > version);
        assert_eq!(retention(&configs), 30);
        set(Resource::Broker, &[("log.retention.ms", "40"), ("log.cleanup.policy", "compact, delete")]);
        assert_eq!(retention(&configs), 40);
        set(Resource::Topic("t".into()), &[("retention.ms", " 50 "), ("cleanup.policy", "")]);
        assert_eq!(retention(&configs), 50);
        let policy = |name: &str| (configs.topic(name).log.delete, configs.topic(name).log.compact);
        assert_eq!((policy("t"), policy("other")), ((false, false), (true, true)));
        set(Resource::Broker, &[]);
        set(Resource::Topic("t".into()), &[]);
        assert_eq!(retention(&configs), 30);
        assert_eq!(configs.topic_with(&values(&[("retention.ms", "-1")])).log.retention_ms, -1);
    }

    #[test]
    fn without_settings_kafkas_defaults_hold() {
        let dir = tempfile::tempdir().unwrap();
        let (configs, _) = configs(dir.path(), &[]);
        let config = configs.topic("t");
        assert_eq!((config.log.retention_ms, config.log.segment_bytes), (604_800_000, 1 << 30));
        assert_eq!(config.max_message_bytes, 1_048_588);
        assert_eq!(*config, TopicConfig::default());
        let compression = |name: &str| configs.topic_with(&values(&[("compression.type", name)])).compression;
        assert_eq!((compression("zstd"), compression("uncompressed")), (Some(Compression::Zstd), Some(Compression::None)));
        assert_eq!(configs.topic_with(&values(&[("internal.segment.bytes", "100")])).log.segment_bytes, 100);
        assert_eq!(configs.number("transaction.max.timeout.ms"), 900_000);
        assert_eq!(configs.number("offsets.topic.replication.factor"), 1);
        assert_eq!((configs.flag("auto.create.topics.enable"), configs.flag("nonsense")), (true, false));
        assert_eq!((configs.broker("log.retention.ms"), configs.number("nonsense")), (None, 0));
    }

    #[test]
    fn what_is_set_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        {
            let (configs, journal) = configs(dir.path(), &[("min.insync.replicas", "2")]);
            let group = (Resource::Group("g".into()), values(&[("consumer.session.timeout.ms", "50000")]));
            configs.put(&journal, vec![group, (Resource::Metrics("m".into()), values(&[("interval.ms", "100")]))]).unwrap();
            journal.write(&configs.topic_changes("t", &values(&[("retention.ms", "9")])).unwrap()).unwrap();
            journal.write(&configs.topic_changes("gone", &values(&[("retention.ms", "9")])).unwrap()).unwrap();
            journal.write(&configs.topic_removal("gone")).unwrap();
            assert_eq!(configs.topic("gone").log.retention_ms, 604_800_000);
        }
        let (configs, _) = configs(dir.path(), &[]);
        assert_eq!(configs.group_number("g", "consumer.session.timeout.ms"), 50_000);
        assert_eq!(configs.group_number("other", "consumer.session.timeout.ms"), 45_000);
        assert_eq!((configs.topic("t").log.retention_ms, configs.topic("gone").log.retention_ms), (9, 604_800_000));
        assert_eq!(configs.number("min.insync.replicas"), 2, "kept from the first start");
        assert_eq!(configs.named(), [Resource::Group("g".into()), Resource::Metrics("m".into())]);
    }

    #[test]
    fn a_setting_without_sense_keeps_the_broker_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(dir.path());
        settings.configs = values(&[("num.partitions", "none")]);
        let journal = Journal::open(&dir.path().join("journal")).unwrap();
        let error = Configs::open(&settings, "127.0.0.1:9092".parse().unwrap(), &journal).unwrap_err();
        assert_eq!(error.to_string(), "Invalid value 'none' of num.partitions: it is a whole number of type INT");
    }
}
