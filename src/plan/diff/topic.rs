//! Topics: partitions, replication and configs, owned key by key.

use std::collections::{BTreeMap, BTreeSet};

use super::ownership::Whose;
use super::{Part, World, blocked, config, finding, step};
use crate::model::{ResourceId, Shape};
use crate::plan::codes;
use crate::plan::desired::{DesiredTopic, ProductFacts};
use crate::plan::observed::{ConfigSource, Known, ObservedTopic};
use crate::plan::step::{Action, Blocked, Change, Operation, Resource, Risk, RiskLevel, Step, Unmanaged, Weight};

/// One of mesh's own topics: there and usable, or created.
pub(super) fn own(world: &World<'_>, wanted: &DesiredTopic) -> Part {
    let mut part = Part::default();
    match world.observed.topics.get(&wanted.name) {
        None => part.steps.push(create_own(world, wanted)),
        Some(Known::Unknown(reason)) => {
            part.blocked.push(own_blocked(
                wanted,
                codes::UNSEEN,
                format!("it can't be described: {reason}"),
                "allow mesh to describe it",
            ));
        }
        Some(Known::Is(seen)) => {
            let policy = seen.config.get("cleanup.policy").map_or("", |c| c.value.as_str());
            if seen.partitions != 1 || config::policies(policy) != BTreeSet::from(["compact"]) {
                let reason =
                    format!("it has {} partitions and cleanup.policy {policy:?}; mesh needs 1 and compact", seen.partitions);
                part.blocked.push(own_blocked(
                    wanted,
                    codes::OWN_TOPIC,
                    reason,
                    "delete it if nobody uses it; mesh creates it anew",
                ));
            }
        }
    }
    part
}

fn own_blocked(wanted: &DesiredTopic, code: crate::model::Code, reason: String, help: &str) -> Blocked {
    Blocked { product: None, ..blocked(code, ResourceId::Topic(wanted.name.clone()), "", reason, help, None) }
}

fn create_own(world: &World<'_>, wanted: &DesiredTopic) -> Step {
    let brokers = i16::try_from(world.observed.cluster.brokers).unwrap_or(i16::MAX).max(1);
    let fitting = DesiredTopic { replication: wanted.replication.map(|n| n.min(brokers)), ..wanted.clone() };
    let mut step = create(&fitting);
    step.comment = "mesh's own topic".into();
    step.cause = "mesh keeps its records in the cluster".into();
    step
}

/// A product's topic.
pub(super) fn diff(world: &World<'_>, facts: &ProductFacts, wanted: &DesiredTopic) -> Part {
    let mut part = Part { blocked: check(world, facts, wanted), ..Part::default() };
    warn_min_insync(world, facts, wanted, &mut part);
    let name = facts.affected.product.as_str();
    let id = ResourceId::Topic(wanted.name.clone());
    match world.observed.topics.get(&wanted.name) {
        None => {
            let mut step = create(wanted);
            step.cause = format!("declared by product {name}");
            step.place = facts.place("/spec/topic");
            step.depends_on = subjects_of(world, name);
            part.steps.push(step);
        }
        Some(Known::Unknown(reason)) => {
            let reason = format!("it can't be described: {reason}");
            part.blocked.push(blocked(codes::UNSEEN, id, name, reason, "allow mesh to describe it", facts.place("/spec/topic")));
        }
        Some(Known::Is(seen)) => match owned_keys(world, facts, &id) {
            Ok(keys) => update(world, facts, wanted, seen, &keys, &mut part),
            Err(why) => part.blocked.push(*why),
        },
    }
    part
}

/// The config keys that are ours, or why the topic is not.
fn owned_keys(world: &World<'_>, facts: &ProductFacts, id: &ResourceId) -> Result<BTreeSet<String>, Box<Blocked>> {
    let name = facts.affected.product.as_str();
    match world.ownership.whose(name, id) {
        Whose::Ours(keys) => Ok(keys),
        Whose::Nobody if facts.adopt => Ok(BTreeSet::new()),
        Whose::Nobody => {
            let help = "add `adopt: true` to the manifest's spec to take it over, or choose another topic name";
            let reason = "it exists and was not created by mesh".to_owned();
            Err(Box::new(blocked(codes::NOT_OURS, id.clone(), name, reason, help, facts.place("/spec/topic"))))
        }
        Whose::Of(other) => {
            let reason = format!("it belongs to product {other}");
            let help = "choose another topic name, or delete that product first";
            Err(Box::new(blocked(codes::OTHERS, id.clone(), name, reason, help, facts.place("/spec/topic"))))
        }
    }
}

fn subjects_of(world: &World<'_>, product: &str) -> Vec<String> {
    world
        .desired
        .subjects
        .values()
        .filter(|s| s.product == product)
        .map(|s| ResourceId::Subject(s.name.clone()).to_string())
        .collect()
}

/// What would be refused whatever exists.
fn check(world: &World<'_>, facts: &ProductFacts, wanted: &DesiredTopic) -> Vec<Blocked> {
    let name = facts.affected.product.as_str();
    let id = || ResourceId::Topic(wanted.name.clone());
    let mut all = Vec::new();
    let brokers = world.observed.cluster.brokers;
    let absent = !world.observed.topics.contains_key(&wanted.name);
    if let Some(replication) = wanted.replication.filter(|n| absent && usize::try_from(*n).is_ok_and(|n| n > brokers)) {
        let reason = format!("replication {replication} needs as many brokers, the cluster has {brokers}");
        let help = format!("set topic.replication to at most {brokers}");
        all.push(blocked(codes::REPLICATION_ABOVE_BROKERS, id(), name, reason, help, facts.place("/spec/topic/replication")));
    }
    for key in wanted.config.keys() {
        if let Some(suggestion) = unknown_key(world, key) {
            let reason = format!("unknown topic config {key}");
            all.push(blocked(codes::UNKNOWN_CONFIG, id(), name, reason, suggestion, facts.place("/spec/topic/config")));
        }
    }
    if let Some(reason) = world.observed.refused.get(&wanted.name).filter(|_| all.is_empty()) {
        let reason = format!("the cluster would refuse it: {reason}");
        all.push(blocked(codes::REFUSED, id(), name, reason, "correct spec.topic", facts.place("/spec/topic")));
    }
    all
}

/// Help for a key that the cluster does not know; `None` if it does, or may.
fn unknown_key(world: &World<'_>, key: &str) -> Option<String> {
    let seen = &world.observed.cluster.topic_configs;
    let known: Vec<&str> = if seen.is_empty() { config::KAFKA.to_vec() } else { seen.iter().map(String::as_str).collect() };
    // A vendor's own keys can't be known before a topic has been seen.
    let vendor = seen.is_empty() && ["confluent.", "redpanda."].iter().any(|prefix| key.starts_with(prefix));
    if vendor || known.contains(&key) {
        return None;
    }
    Some(match config::nearest(key, known) {
        Some(near) => format!("did you mean {near}?"),
        None => "kafka's documentation lists the topic configs".into(),
    })
}

fn warn_min_insync(world: &World<'_>, facts: &ProductFacts, wanted: &DesiredTopic, part: &mut Part) {
    let seen = match world.observed.topics.get(&wanted.name) {
        Some(Known::Is(seen)) => Some(seen.replication),
        _ => wanted.replication,
    };
    let least = wanted.config.get("min.insync.replicas").and_then(|value| value.trim().parse::<i16>().ok());
    if let (Some(replication), Some(least)) = (seen, least)
        && least > replication
    {
        let message = format!(
            "topic {}: min.insync.replicas {least} above replication {replication}: no record could be written",
            wanted.name
        );
        let help = format!("set min.insync.replicas to at most {replication}");
        part.findings.push(finding(codes::MIN_INSYNC, Weight::Warning, message, help, facts.place("/spec/topic/config")));
    }
}

fn create(wanted: &DesiredTopic) -> Step {
    let operation = Operation::CreateTopic {
        topic: wanted.name.clone(),
        partitions: wanted.partitions,
        replication: wanted.replication,
        config: wanted.config.clone(),
    };
    let comment = format!("create with {} partition{}", wanted.partitions, if wanted.partitions == 1 { "" } else { "s" });
    let id = ResourceId::Topic(wanted.name.clone());
    let mut step = step(wanted.product.as_deref(), id, Action::Create, vec![operation], comment);
    let field = |field: &str, to: String| Change { field: field.to_owned(), from: None, to: Some(to) };
    step.changes.push(field("partitions", wanted.partitions.to_string()));
    step.changes.extend(wanted.replication.map(|n| field("replication", n.to_string())));
    step.changes.extend(wanted.config.iter().map(|(key, value)| field(&format!("config.{key}"), value.clone())));
    step.to =
        Some(Resource::Topic { partitions: wanted.partitions, replication: wanted.replication, config: wanted.config.clone() });
    step
}

/// What differs of a topic that exists and is ours.
fn update(
    world: &World<'_>,
    facts: &ProductFacts,
    wanted: &DesiredTopic,
    seen: &ObservedTopic,
    keys: &BTreeSet<String>,
    part: &mut Part,
) {
    let mut draft = Draft::default();
    partitions(world, facts, wanted, seen, &mut draft);
    replication(facts, wanted, seen, &mut draft);
    configs(wanted, seen, keys, &mut draft);
    part.blocked.append(&mut draft.blocked);
    part.unmanaged.extend(unmanaged(wanted, seen, keys));
    if draft.operations.is_empty() {
        return;
    }
    let id = ResourceId::Topic(wanted.name.clone());
    let comment = draft.changes.iter().map(said).collect::<Vec<_>>().join(", ");
    let mut step = step(Some(&facts.affected.product), id, Action::Update, draft.operations, comment);
    step.cause = format!("the manifest of {} says so", facts.affected.product);
    step.place = facts.place("/spec/topic");
    step.from = Some(whole(seen.partitions, seen.replication, observed_config(wanted, seen, keys)));
    step.to = Some(whole(wanted.partitions, seen.replication, wanted.config.clone()));
    step.changes = draft.changes;
    step.risk = draft.risk;
    step.depends_on = subjects_of(world, &facts.affected.product);
    part.steps.push(step);
}

fn whole(partitions: i32, replication: i16, config: BTreeMap<String, String>) -> Resource {
    Resource::Topic { partitions, replication: Some(replication), config }
}

fn said(change: &Change) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".into());
    format!("{} {} -> {}", change.field.trim_start_matches("config."), shown(&change.from), shown(&change.to))
}

#[derive(Default)]
struct Draft {
    operations: Vec<Operation>,
    changes: Vec<Change>,
    risk: Risk,
    blocked: Vec<Blocked>,
}

fn partitions(world: &World<'_>, facts: &ProductFacts, wanted: &DesiredTopic, seen: &ObservedTopic, draft: &mut Draft) {
    let name = facts.affected.product.as_str();
    if wanted.partitions < seen.partitions {
        let reason = format!("it has {} partitions and can't have fewer ({} declared)", seen.partitions, wanted.partitions);
        let help = format!("declare {} partitions, or a new topic name and let the records be written anew", seen.partitions);
        let id = ResourceId::Topic(wanted.name.clone());
        draft.blocked.push(blocked(codes::FEWER_PARTITIONS, id, name, reason, help, facts.place("/spec/topic/partitions")));
    }
    if wanted.partitions <= seen.partitions {
        return;
    }
    draft.operations.push(Operation::AddPartitions { topic: wanted.name.clone(), total: wanted.partitions });
    draft.changes.push(Change {
        field: "partitions".into(),
        from: Some(seen.partitions.to_string()),
        to: Some(wanted.partitions.to_string()),
    });
    if !facts.key.is_empty() {
        let noun = if facts.shape == Shape::Table { "table" } else { "stream" };
        let reason = format!(
            "the {noun} is keyed by {}: keys move to other partitions, old records stay where they are",
            facts.key.join(", ")
        );
        draft.risk.raise(RiskLevel::Caution, reason);
    }
    let joining: Vec<&String> =
        world.desired.products.iter().filter(|(_, reader)| reader.joined.contains(name)).map(|(reader, _)| reader).collect();
    if !joining.is_empty() {
        let names: Vec<&str> = joining.iter().map(|n| n.as_str()).collect();
        draft
            .risk
            .raise(RiskLevel::Caution, format!("joined by {}: no longer partitioned as its partners are", names.join(", ")));
        draft.risk.affected = world.desired.affected(joining);
    }
}

fn replication(facts: &ProductFacts, wanted: &DesiredTopic, seen: &ObservedTopic, draft: &mut Draft) {
    let Some(replication) = wanted.replication.filter(|n| *n != seen.replication) else { return };
    let reason =
        format!("replication is {} and {replication} is declared: reassignment is not carried out yet", seen.replication);
    let help = format!("reassign the partitions with kafka-reassign-partitions, or declare {}", seen.replication);
    let id = ResourceId::Topic(wanted.name.clone());
    let place = facts.place("/spec/topic/replication");
    draft.blocked.push(blocked(codes::REPLICATION_CHANGE, id, &facts.affected.product, reason, help, place));
}

fn configs(wanted: &DesiredTopic, seen: &ObservedTopic, keys: &BTreeSet<String>, draft: &mut Draft) {
    let mut set = BTreeMap::new();
    for (key, value) in &wanted.config {
        let now = seen.config.get(key);
        if now.is_some_and(|now| config::same(key, &now.value, value)) {
            continue;
        }
        set.insert(key.clone(), value.clone());
        config_change(key, now.map(|c| c.value.clone()), Some(value.clone()), draft);
    }
    let mut reset = BTreeSet::new();
    for key in keys.iter().filter(|key| !wanted.config.contains_key(*key)) {
        let Some(now) = seen.config.get(key).filter(|now| now.source == ConfigSource::Topic) else { continue };
        reset.insert(key.clone());
        config_change(key, Some(now.value.clone()), now.fallback.clone(), draft);
        if now.fallback.is_none() {
            draft
                .risk
                .raise(RiskLevel::Caution, format!("{key} returns to the broker's default, which the cluster does not tell"));
        }
    }
    if !set.is_empty() || !reset.is_empty() {
        draft.operations.push(Operation::AlterConfigs { topic: wanted.name.clone(), set, reset });
    }
}

fn config_change(key: &str, from: Option<String>, to: Option<String>, draft: &mut Draft) {
    if let (Some(from), Some(to)) = (&from, &to)
        && let Some(reason) = config::destroys(key, from, to)
    {
        draft.risk.raise(RiskLevel::DestroysData, reason);
    }
    draft.changes.push(Change { field: format!("config.{key}"), from, to });
}

/// Of what is set on the topic, the keys that are or become ours.
fn observed_config(wanted: &DesiredTopic, seen: &ObservedTopic, keys: &BTreeSet<String>) -> BTreeMap<String, String> {
    let ours = |key: &String| keys.contains(key) || wanted.config.contains_key(key);
    seen.config.iter().filter(|(key, _)| ours(key)).map(|(key, now)| (key.clone(), now.value.clone())).collect()
}

fn unmanaged(wanted: &DesiredTopic, seen: &ObservedTopic, keys: &BTreeSet<String>) -> Vec<Unmanaged> {
    let others = seen
        .config
        .iter()
        .filter(|(key, now)| now.source == ConfigSource::Topic && !keys.contains(*key) && !wanted.config.contains_key(*key));
    others.map(|(key, now)| Unmanaged { topic: wanted.name.clone(), key: key.clone(), value: now.value.clone() }).collect()
}
