//! A world in memory: for tests, and for what would happen.

use std::collections::BTreeMap;

use super::error::{ApplyError, ErrorKind};
use super::target::{Question, StepError, Target, Who};
use crate::plan::entry::{Applied, Intent, Record, intent_key};
use crate::plan::observed::{ConfigSource, ConfigValue, Known, Observed, ObservedSubject, ObservedTopic, Registered};
use crate::plan::step::{Operation, Step};

/// A world in memory, with faults on request.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    pub world: Observed,
    /// What a topic's configs are when nobody sets them.
    pub defaults: BTreeMap<String, String>,
    pub fault: Option<Fault>,
    /// How many calls changed the world, or tried to.
    pub calls: usize,
    next_id: i32,
    who: Option<Who>,
}

/// What goes wrong, and at which call (counted from 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed before this call: neither it nor any later one happens.
    KilledBefore(usize),
    /// The call happens, but its answer is lost.
    AnswerLost(usize),
    /// Another apply takes over before this call.
    Fenced(usize),
}

impl Memory {
    /// A world that looks like `world`.
    pub fn new(world: Observed) -> Memory {
        let ids = world.subjects.values().filter_map(|s| match s {
            Known::Is(subject) => subject.versions.values().map(|v| v.id).max(),
            Known::Unknown(_) => None,
        });
        let next_id = ids.max().unwrap_or(0) + 1;
        Memory { world, next_id, ..Memory::default() }
    }

    /// Does `change`, unless a fault has it otherwise.
    fn call(&mut self, change: impl FnOnce(&mut Memory) -> Result<(), String>) -> Result<(), StepError> {
        let at = self.calls;
        self.calls += 1;
        let failed = |message: &str| StepError { kind: ErrorKind::Failed, message: message.to_owned() };
        match self.fault {
            Some(Fault::KilledBefore(n)) if at >= n => Err(failed("killed")),
            Some(Fault::Fenced(n)) if at >= n => {
                Err(StepError { kind: ErrorKind::Fenced, message: "another apply has the lease".into() })
            }
            Some(Fault::AnswerLost(n)) if at == n => {
                change(self).map_err(|message| failed(&message))?;
                Err(failed("no answer"))
            }
            _ => change(self).map_err(|message| failed(&message)),
        }
    }

    fn operate(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::CreateTopic { topic, partitions, replication, config } => {
                self.create(topic, *partitions, *replication, config)
            }
            Operation::AddPartitions { topic, total } => {
                let topic = self.topic(topic)?;
                topic.partitions = topic.partitions.max(*total);
                Ok(())
            }
            Operation::AlterConfigs { topic, set, reset } => {
                let defaults = self.defaults.clone();
                let topic = self.topic(topic)?;
                for (key, value) in set {
                    topic.config.insert(key.clone(), set_value(&defaults, key, value));
                }
                for key in reset {
                    match defaults.get(key) {
                        Some(value) => topic.config.insert(key.clone(), default_value(value)),
                        None => topic.config.remove(key),
                    };
                }
                Ok(())
            }
            Operation::DeleteTopic { topic, .. } => {
                self.world.topics.remove(topic);
                Ok(())
            }
            Operation::Register { subject, format, text } => {
                let schema = Registered { id: self.next_id, format: *format, text: text.clone(), references: Vec::new() };
                self.register(subject, schema);
                Ok(())
            }
            Operation::SetCompatibility { subject, level } => match self.world.subjects.get_mut(subject) {
                Some(Known::Is(seen)) => {
                    seen.compatibility = Some(*level);
                    Ok(())
                }
                _ => Err(format!("unknown subject {subject}")),
            },
            Operation::DeleteSubject { subject } => {
                self.world.subjects.remove(subject);
                Ok(())
            }
            Operation::Publish { record } => {
                self.publish(record);
                Ok(())
            }
            Operation::Withdraw { key } => {
                self.withdraw(key);
                Ok(())
            }
        }
    }

    fn topic(&mut self, name: &str) -> Result<&mut ObservedTopic, String> {
        match self.world.topics.get_mut(name) {
            Some(Known::Is(topic)) => Ok(topic),
            _ => Err(format!("unknown topic {name}")),
        }
    }

    fn create(
        &mut self,
        name: &str,
        partitions: i32,
        replication: Option<i16>,
        set: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let mut config: BTreeMap<String, ConfigValue> =
            self.defaults.iter().map(|(k, v)| (k.clone(), default_value(v))).collect();
        config.extend(set.iter().map(|(key, value)| (key.clone(), set_value(&self.defaults, key, value))));
        if let Some(Known::Is(there)) = self.world.topics.get(name) {
            let same = there.partitions == partitions && there.config == config;
            return if same { Ok(()) } else { Err(format!("topic {name} exists, and is another than was wanted")) };
        }
        let topic = ObservedTopic { id: None, partitions, replication: replication.unwrap_or(1), config };
        self.world.topics.insert(name.to_owned(), Known::Is(topic));
        Ok(())
    }

    fn register(&mut self, subject: &str, schema: Registered) {
        let seen = self.world.subjects.entry(subject.to_owned()).or_insert_with(|| Known::Is(ObservedSubject::default()));
        let Known::Is(seen) = seen else { return };
        if seen.versions.values().any(|v| v.text == schema.text && v.format == schema.format) {
            return;
        }
        let version = seen.latest().map_or(1, |(latest, _)| latest + 1);
        seen.versions.insert(version, schema);
        seen.compatibility = seen.compatibility.or(self.world.compatibility);
        self.next_id += 1;
    }

    fn publish(&mut self, record: &Record) {
        let catalog = &mut self.world.catalog;
        match record.clone() {
            Record::Product(mut entry) => {
                let who = self.who.as_ref();
                entry.applied = who.map(|who| Applied { by: who.user.clone(), at_ms: who.since_ms, mesh: "test".into() });
                catalog.intents.remove(&entry.name);
                catalog.products.insert(entry.name.clone(), *entry);
            }
            Record::Domain(domain) => drop(catalog.domains.insert(domain.value.name.clone(), domain)),
            Record::Team(team) => drop(catalog.teams.insert(team.value.name.clone(), team)),
            Record::Intent(intent) => drop(catalog.intents.insert(intent.product.clone(), intent)),
            Record::Lease(lease) => catalog.lease = Some(lease),
        }
    }

    fn withdraw(&mut self, key: &str) {
        let catalog = &mut self.world.catalog;
        match key.split_once('/') {
            Some(("product", name)) => {
                catalog.products.remove(name);
                catalog.intents.remove(name);
            }
            Some(("domain", name)) => drop(catalog.domains.remove(name)),
            Some(("team", name)) => drop(catalog.teams.remove(name)),
            _ => catalog.lease = None,
        }
    }
}

fn set_value(defaults: &BTreeMap<String, String>, key: &str, value: &str) -> ConfigValue {
    ConfigValue { value: value.to_owned(), source: ConfigSource::Topic, fallback: defaults.get(key).cloned() }
}

fn default_value(value: &str) -> ConfigValue {
    ConfigValue { value: value.to_owned(), source: ConfigSource::Default, fallback: Some(value.to_owned()) }
}

impl Target for Memory {
    async fn observe(&mut self, _question: &Question) -> Result<Observed, ApplyError> {
        Ok(self.world.clone())
    }

    async fn begin(&mut self, who: &Who, intents: &[Intent]) -> Result<(), ApplyError> {
        self.who = Some(who.clone());
        let records: Vec<Record> =
            std::iter::once(Record::Lease(who.lease())).chain(intents.iter().cloned().map(Record::Intent)).collect();
        debug_assert!(records.iter().all(|r| r.key() == "lease" || r.key().starts_with(&intent_key(""))));
        // One transaction: all of them or none.
        let done = self.call(|memory| {
            records.iter().for_each(|record| memory.publish(record));
            Ok(())
        });
        done.map_err(|error| ApplyError {
            kind: error.kind,
            endpoint: "memory".into(),
            operation: "take the lease".into(),
            message: error.message,
        })
    }

    async fn execute(&mut self, steps: &[&Step]) -> Vec<Result<(), StepError>> {
        let mut results = Vec::new();
        for step in steps {
            results.push(step.operations.iter().try_for_each(|operation| self.call(|memory| memory.operate(operation))));
        }
        results
    }

    async fn end(&mut self) -> Result<(), ApplyError> {
        self.world.catalog.lease = None;
        Ok(())
    }
}
