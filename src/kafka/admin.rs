//! Asking and changing a cluster: topics, configs, offsets, ACLs. Every call has the deadline that `connect` was given.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::client::{Client, Role};
use super::consumer;
use super::error::{KafkaError, code};
use super::native::{self, Call, Fault, Offsets};
use crate::model::environment::Kafka;

/// How long all brokers may be down before connecting is given up; a broker that just starts gets that much time.
const GRACE: Duration = Duration::from_secs(3);

/// A cluster and its brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub id: String,
    pub controller: Option<i32>,
    /// Those that are up.
    pub brokers: Vec<Broker>,
    /// What we may do with the cluster itself, as Kafka names it (`CREATE`, `ALTER`); empty when that is nothing, or when
    /// it does not tell.
    pub operations: Vec<String>,
}

/// A broker that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicState {
    /// Kafka's topic id in its own base64: another one under the same name is another topic.
    pub id: String,
    /// In order of their numbers.
    pub partitions: Vec<Partition>,
    /// Every config, wherever its value comes from; empty when we may not see them.
    pub config: BTreeMap<String, ConfigValue>,
}

/// A partition and the ids of the brokers that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub id: i32,
    pub leader: Option<i32>,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
}

/// A topic config's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigValue {
    /// `None` for sensitive values, and for null.
    pub value: Option<String>,
    pub source: ConfigSource,
    /// What it is, or would be, when the topic does not set it.
    pub default: Option<String>,
    pub sensitive: bool,
    pub read_only: bool,
}

/// Where a topic config's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// The topic itself sets it.
    Topic,
    /// One broker's setting, changed while it runs.
    DynamicBroker,
    /// The cluster's setting for all brokers, changed while they run.
    DynamicDefault,
    /// A broker's configuration file.
    StaticBroker,
    /// Kafka's own default.
    Default,
    Unknown,
}

impl ConfigSource {
    /// From the protocol's number.
    pub(super) fn from_code(code: i32) -> ConfigSource {
        match code {
            1 => ConfigSource::Topic,
            2 => ConfigSource::DynamicBroker,
            3 => ConfigSource::DynamicDefault,
            4 => ConfigSource::StaticBroker,
            5 => ConfigSource::Default,
            _ => ConfigSource::Unknown,
        }
    }
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    /// `None`: the broker's default.
    pub replication: Option<i16>,
    pub config: BTreeMap<String, String>,
}

/// A change of one config of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOp {
    Set(String, String),
    /// Back to what it falls back to.
    Delete(String),
}

/// Why a broker refused something for one topic (or one ACL).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({name})")]
pub struct TopicError {
    /// Kafka's name of the error: `TOPIC_ALREADY_EXISTS`.
    pub name: String,
    pub code: i32,
    /// The broker's own words.
    pub message: String,
}

impl From<Fault> for TopicError {
    fn from(fault: Fault) -> Self {
        TopicError { name: native::code_name(fault.code), code: fault.code, message: fault.text }
    }
}

/// For each topic, whether it was done.
pub type Answers = Vec<(String, Result<(), TopicError>)>;

/// Which offset of a partition is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Its first record that is still there.
    Start,
    /// After its last record, committed or not.
    End,
    /// After the last record that readers of committed records get to see by now.
    CommittedEnd,
    /// The first record at or after this time (milliseconds since 1970), which may be the mark of a transaction's end, as
    /// the time of that is when it was written; the end when there is none.
    Time(i64),
}

/// What an ACL is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    Topic,
    Group,
    Cluster,
    TransactionalId,
}

impl Resource {
    pub(super) const ALL: [Resource; 4] = [Resource::Topic, Resource::Group, Resource::Cluster, Resource::TransactionalId];
}

/// Whether an ACL's name is a whole name or the start of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    Literal,
    Prefixed,
}

impl Pattern {
    pub(super) const ALL: [Pattern; 2] = [Pattern::Literal, Pattern::Prefixed];
}

/// Whether an ACL allows or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    Allow,
    Deny,
}

impl Permission {
    pub(super) const ALL: [Permission; 2] = [Permission::Allow, Permission::Deny];
}

/// What an ACL allows or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    All,
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    ClusterAction,
    DescribeConfigs,
    AlterConfigs,
    IdempotentWrite,
}

impl Operation {
    pub(super) const ALL_KINDS: [Operation; 11] = [
        Operation::All,
        Operation::Read,
        Operation::Write,
        Operation::Create,
        Operation::Delete,
        Operation::Alter,
        Operation::Describe,
        Operation::ClusterAction,
        Operation::DescribeConfigs,
        Operation::AlterConfigs,
        Operation::IdempotentWrite,
    ];
}

/// One ACL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    /// `User:name`.
    pub principal: String,
    /// An address, or `*`.
    pub host: String,
    pub operation: Operation,
    pub permission: Permission,
    pub resource: Resource,
    /// `kafka-cluster` for the cluster.
    pub name: String,
    pub pattern: Pattern,
}

/// Which ACLs are meant; what is left out matches anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AclFilter {
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<Operation>,
    pub permission: Option<Permission>,
    pub resource: Option<Resource>,
    pub name: Option<String>,
    pub pattern: Option<Pattern>,
}

impl From<&Acl> for AclFilter {
    /// Exactly this one.
    fn from(acl: &Acl) -> Self {
        AclFilter {
            principal: Some(acl.principal.clone()),
            host: Some(acl.host.clone()),
            operation: Some(acl.operation),
            permission: Some(acl.permission),
            resource: Some(acl.resource),
            name: Some(acl.name.clone()),
            pattern: Some(acl.pattern),
        }
    }
}

/// A connection for asking and changing.
pub struct Admin {
    client: Client,
    kafka: Kafka,
    root: PathBuf,
    deadline: Duration,
}

/// How often a question is asked again whose connection dropped.
const DROPPED: u32 = 3;

impl Admin {
    /// Connects, and comes back when a broker has answered. An unreachable cluster is noticed within `deadline`, and after
    /// three seconds already when every broker refuses the connection.
    pub async fn connect(kafka: &Kafka, root: &Path, deadline: Duration) -> Result<Admin, KafkaError> {
        let admin =
            Admin { client: Client::new(kafka, root, Role::Admin)?, kafka: kafka.clone(), root: root.to_owned(), deadline };
        let started = Instant::now();
        let hopeless = async {
            let seen = &admin.client.native;
            seen.until(|seen| seen.unauthorized || seen.all_down).await;
            // A name that is refused stays refused; a broker that is down may come up.
            let _ = tokio::time::timeout_at((started + GRACE).into(), seen.until(|seen| seen.unauthorized)).await;
        };
        tokio::select! {
            biased;
            cluster = admin.cluster() => cluster.map(|_| ())?,
            () = hopeless => {
                let seen = admin.client.native.seen();
                let code = if seen.unauthorized { code::AUTHENTICATION } else { code::TRANSPORT };
                let text = seen.failure.unwrap_or_else(|| "no broker accepts a connection".into());
                return Err(admin.client.error("connect", &Fault::new(code, text)));
            }
        }
        Ok(admin)
    }

    async fn ask<T>(&self, operation: &str, call: Result<Call<T>, Fault>) -> Result<T, KafkaError> {
        let answer = match call {
            Ok(call) => call.answer().await,
            Err(fault) => Err(fault),
        };
        answer.map_err(|fault| self.client.error(operation, &fault))
    }

    /// Asks what changes nothing. A connection that dropped before the answer came says nothing about the next one, so it may
    /// be asked again.
    async fn look<T>(&self, operation: &str, call: impl Fn() -> Result<Call<T>, Fault>) -> Result<T, KafkaError> {
        let mut dropped = 0;
        loop {
            let answer = match call() {
                Ok(call) => call.answer().await,
                Err(fault) => Err(fault),
            };
            match answer {
                Err(fault) if fault.code == code::TRANSPORT && dropped < DROPPED => dropped += 1,
                answer => return answer.map_err(|fault| self.client.error(operation, &fault)),
            }
        }
    }

    /// The cluster's id and its brokers.
    pub async fn cluster(&self) -> Result<Cluster, KafkaError> {
        self.look("describe the cluster", || native::describe_cluster(&self.client.native, self.deadline)).await
    }

    /// The names of all topics, internal ones included.
    pub async fn topic_names(&self) -> Result<Vec<String>, KafkaError> {
        const OPERATION: &str = "list topics";
        let (client, deadline) = (self.client.native.clone(), self.deadline);
        let names = tokio::task::spawn_blocking(move || native::topic_names(&client, deadline)).await;
        let mut names = names
            .map_err(|error| self.client.local_error(OPERATION, error.to_string()))?
            .map_err(|fault| self.client.error(OPERATION, &fault))?;
        names.sort();
        Ok(names)
    }

    /// These topics as they are; those that don't exist are left out. Two round trips, however many topics.
    pub async fn describe_topics(&self, names: &[String]) -> Result<BTreeMap<String, TopicState>, KafkaError> {
        const OPERATION: &str = "describe topics";
        let names: Vec<&str> = names.iter().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let described = self.look(OPERATION, || native::describe_topics(&self.client.native, &names, self.deadline)).await?;
        let mut topics = BTreeMap::new();
        for (name, state) in described {
            match state {
                Ok((id, mut partitions)) => {
                    partitions.sort_by_key(|partition| partition.id);
                    topics.insert(name, TopicState { id, partitions, config: BTreeMap::new() });
                }
                Err(error) if error.code == code::UNKNOWN_TOPIC_OR_PARTITION => {}
                Err(error) => return Err(self.topic_error(OPERATION, &name, error)),
            }
        }
        let present: Vec<&str> = topics.keys().map(String::as_str).collect();
        if present.is_empty() {
            return Ok(topics);
        }
        let configs =
            self.look("describe configs", || native::describe_configs(&self.client.native, &present, self.deadline)).await?;
        for (name, config) in configs {
            match config {
                Ok(config) => {
                    topics.entry(name).and_modify(|topic| topic.config = config);
                }
                // Deleted in between.
                Err(error) if error.code == code::UNKNOWN_TOPIC_OR_PARTITION => drop(topics.remove(&name)),
                Err(error) if error.code == code::TOPIC_AUTHORIZATION_FAILED => {}
                Err(error) => return Err(self.topic_error("describe configs", &name, error)),
            }
        }
        Ok(topics)
    }

    fn topic_error(&self, operation: &str, topic: &str, error: TopicError) -> KafkaError {
        let text = format!("topic {topic}: {}", error.message);
        self.client.error(operation, &Fault::new(error.code, text))
    }

    /// Creates topics; with `validate_only` the brokers only say whether they would.
    pub async fn create_topics(&self, topics: &[NewTopic], validate_only: bool) -> Result<Answers, KafkaError> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        self.ask("create topics", native::create_topics(&self.client.native, topics, validate_only, self.deadline)).await
    }

    /// Raises the number of partitions of topics to a total; with `validate_only` the brokers only say whether they would.
    pub async fn add_partitions(&self, totals: &[(String, i32)], validate_only: bool) -> Result<Answers, KafkaError> {
        if totals.is_empty() {
            return Ok(Vec::new());
        }
        self.ask("add partitions", native::create_partitions(&self.client.native, totals, validate_only, self.deadline)).await
    }

    /// Deletes topics.
    pub async fn delete_topics(&self, topics: &[String]) -> Result<Answers, KafkaError> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        self.ask("delete topics", native::delete_topics(&self.client.native, topics, self.deadline)).await
    }

    /// Changes the named configs of topics and no others.
    pub async fn alter_configs(&self, topics: &[(String, Vec<ConfigOp>)], validate_only: bool) -> Result<Answers, KafkaError> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        self.ask("alter configs", native::alter_configs(&self.client.native, topics, validate_only, self.deadline)).await
    }

    /// Comes back when each of these topics is known to the brokers with at least that many partitions, all of which have
    /// a leader; an error when the deadline passes first.
    pub async fn await_topics(&self, topics: &[(String, i32)]) -> Result<(), KafkaError> {
        const OPERATION: &str = "await topics";
        let names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
        if names.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + self.deadline;
        let mut pause = Duration::from_millis(5);
        loop {
            let described = self.look(OPERATION, || native::describe_topics(&self.client.native, &names, self.deadline)).await?;
            let led = |name: &str| {
                let state = described.iter().find(|(described, _)| described == name).and_then(|(_, state)| state.as_ref().ok());
                state.map_or(0, |(_, partitions)| partitions.iter().filter(|partition| partition.leader.is_some()).count())
            };
            let missing = topics.iter().find(|(name, partitions)| led(name) < usize::try_from(*partitions).unwrap_or(0));
            let Some((name, partitions)) = missing else { return Ok(()) };
            if Instant::now() + pause > deadline {
                let text = format!("topic {name} has {} of {partitions} partitions with a leader", led(name));
                return Err(self.client.local_error(OPERATION, text));
            }
            // Metadata can only be asked for, nobody tells when it changes.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// The offset of each partition, in the order given. One request to each leader.
    pub async fn offsets(&self, partitions: &[(&str, i32)], at: At) -> Result<Vec<i64>, KafkaError> {
        let operation = "list offsets";
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.look(operation, || native::list_offsets(&self.client.native, partitions, at, self.deadline)).await?;
        let found = in_order(&self.client, operation, partitions, found)?;
        if found.iter().all(|offset| *offset >= 0) {
            return Ok(found);
        }
        // No record is that late: the end.
        let ends = self.look(operation, || native::list_offsets(&self.client.native, partitions, At::End, self.deadline)).await?;
        let ends = in_order(&self.client, operation, partitions, ends)?;
        Ok(found.into_iter().zip(ends).map(|(offset, end)| if offset < 0 { end } else { offset }).collect())
    }

    /// For each partition, its first offset and the one after its last record.
    pub async fn watermarks(&self, partitions: &[(&str, i32)]) -> Result<Vec<(i64, i64)>, KafkaError> {
        let starts = self.offsets(partitions, At::Start).await?;
        let ends = self.offsets(partitions, At::End).await?;
        Ok(starts.into_iter().zip(ends).collect())
    }

    /// The offset after the last committed record of each partition of a topic that has so many.
    pub async fn end_offsets(&self, topic: &str, partitions: i32) -> Result<Vec<i64>, KafkaError> {
        let partitions: Vec<_> = (0..partitions).map(|partition| (topic, partition)).collect();
        self.offsets(&partitions, At::CommittedEnd).await
    }

    /// What a group has committed for each partition, in the order given; offsets of an open transaction are waited for.
    pub async fn group_offsets(&self, group: &str, partitions: &[(&str, i32)]) -> Result<Vec<Option<i64>>, KafkaError> {
        let client = Client::new(&self.kafka, &self.root, Role::Group(group))?;
        let partitions: Vec<(String, i32)> =
            partitions.iter().map(|(topic, partition)| ((*topic).to_owned(), *partition)).collect();
        let deadline = self.deadline;
        let asked = tokio::task::spawn_blocking(move || {
            let partitions: Vec<(&str, i32)> = partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition)).collect();
            consumer::committed(&client, &partitions, deadline)
        });
        asked.await.unwrap_or_else(|error| Err(self.client.local_error("read a group's offsets", error.to_string())))
    }

    /// Creates ACLs; the answers stand in the same order.
    pub async fn create_acls(&self, acls: &[Acl]) -> Result<Vec<Result<(), TopicError>>, KafkaError> {
        if acls.is_empty() {
            return Ok(Vec::new());
        }
        self.ask("create acls", native::create_acls(&self.client.native, acls, self.deadline)).await
    }

    /// The ACLs that match; `SECURITY_DISABLED` when the cluster has no authorizer.
    pub async fn describe_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, KafkaError> {
        const OPERATION: &str = "describe acls";
        let mut acls = self.look(OPERATION, || native::describe_acls(&self.client.native, filter, self.deadline)).await?;
        if acls.is_empty() {
            self.check_acls_can_be_seen(OPERATION).await?;
        }
        acls.sort();
        Ok(acls)
    }

    /// The library takes a broker's refusal to tell ACLs for "there are none". So, when there are none, the broker is asked to
    /// delete an ACL that can't exist: that it refuses to us, too.
    async fn check_acls_can_be_seen(&self, operation: &str) -> Result<(), KafkaError> {
        let nobody = AclFilter {
            principal: Some("User:mesh-asks-whether-acls-are-kept".into()),
            host: Some("192.0.2.1".into()),
            operation: Some(Operation::Describe),
            permission: Some(Permission::Deny),
            resource: Some(Resource::Topic),
            name: Some("mesh-asks-whether-acls-are-kept".into()),
            pattern: Some(Pattern::Literal),
        };
        let answers = self.delete_acls(&[nobody]).await?;
        let Some(Err(error)) = answers.into_iter().next() else { return Ok(()) };
        // Who may see ACLs need not be allowed to delete them.
        let may_see = || async { Ok(self.cluster().await?.operations.iter().any(|operation| operation == "DESCRIBE")) };
        let message = match error.code {
            code::CLUSTER_AUTHORIZATION_FAILED if may_see().await? => return Ok(()),
            code::CLUSTER_AUTHORIZATION_FAILED => "describing the cluster is not allowed".into(),
            _ => error.message,
        };
        Err(self.client.error(operation, &Fault::new(error.code, message)))
    }

    /// Deletes the ACLs that match; for each filter, what was deleted.
    pub async fn delete_acls(&self, filters: &[AclFilter]) -> Result<Vec<Result<Vec<Acl>, TopicError>>, KafkaError> {
        if filters.is_empty() {
            return Ok(Vec::new());
        }
        self.ask("delete acls", native::delete_acls(&self.client.native, filters, self.deadline)).await
    }
}

/// Offsets in the order in which their partitions were asked for.
pub(super) fn in_order(
    client: &Client,
    operation: &str,
    partitions: &[(&str, i32)],
    found: Offsets,
) -> Result<Vec<i64>, KafkaError> {
    let mut by_partition: BTreeMap<(String, i32), _> =
        found.into_iter().map(|(topic, partition, offset)| ((topic, partition), offset)).collect();
    let mut take = |(topic, partition): &(&str, i32)| match by_partition.get_mut(&((*topic).to_owned(), *partition)) {
        Some(Ok(offset)) => Ok(*offset),
        Some(Err(fault)) => {
            let text = format!("partition {partition} of topic {topic}: {}", fault.text);
            Err(client.error(operation, &Fault { text, ..fault.clone() }))
        }
        None => Err(client.local_error(operation, format!("no answer for partition {partition} of topic {topic}"))),
    };
    partitions.iter().map(&mut take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::Kind;

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_unreachable_and_named() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let kafka = Kafka { bootstrap: format!("127.0.0.1:{port}"), security: None };
        let started = Instant::now();
        let error = Admin::connect(&kafka, Path::new("."), Duration::from_secs(10)).await.map(|_| ()).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
        assert_eq!(error.kind, Kind::Unreachable);
        let text = error.to_string();
        assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("Connection refused"), "{text}");
    }

    #[tokio::test]
    async fn a_port_that_never_answers_is_given_up_at_the_deadline() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let kafka = Kafka { bootstrap: silent.local_addr().unwrap().to_string(), security: None };
        let started = Instant::now();
        let error = Admin::connect(&kafka, Path::new("."), Duration::from_secs(2)).await.map(|_| ()).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
        assert_eq!(error.kind, Kind::Unreachable, "{error}");
    }
}
