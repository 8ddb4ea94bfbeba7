//! Saved plans: a plan with all that it relied on, so that a world that has moved is noticed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::desired::{Desired, hash};
use super::entry::product_key;
use super::observed::{Known, Observed, ObservedSubject, ObservedTopic};
use super::step::{Plan, SCHEMA_VERSION};
use crate::model::ResourceId;

/// A plan as it is written to a file. It holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPlan {
    pub schema_version: u32,
    /// The version of mesh that made it.
    pub mesh: String,
    pub environment: String,
    /// The manifests' root.
    pub root: String,
    pub cluster_id: Option<String>,
    /// Fingerprint of each product's manifest.
    pub manifests: BTreeMap<String, String>,
    /// Of each resource that the plan looked at, field by field; long values as their hash.
    pub relied_on: BTreeMap<String, Facts>,
    pub plan: Plan,
}

/// A resource's fields; empty for one that does not exist.
pub type Facts = BTreeMap<String, String>;

impl SavedPlan {
    /// A plan, and what it was made of. `version` is mesh's.
    pub fn new(plan: Plan, desired: &Desired, observed: &Observed, version: &str) -> SavedPlan {
        let resources = resources(desired, observed);
        SavedPlan {
            schema_version: SCHEMA_VERSION,
            mesh: version.to_owned(),
            environment: desired.environment.clone(),
            root: desired.root.clone(),
            cluster_id: observed.cluster.id.clone(),
            manifests: desired.products.iter().map(|(name, facts)| (name.clone(), facts.fingerprint.clone())).collect(),
            relied_on: resources.into_iter().map(|id| (id.to_string(), facts(&id, observed))).collect(),
            plan,
        }
    }

    /// The resources that must be observed again: topics and subjects by name.
    pub fn resources(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let named = |kind: &str| -> BTreeSet<String> {
            self.relied_on.keys().filter_map(|id| id.strip_prefix(kind)).map(str::to_owned).collect()
        };
        (named("topic "), named("subject "))
    }
}

/// What has moved since the plan was made, a line for each; empty when it still holds.
pub fn stale(saved: &SavedPlan, observed: &Observed, version: &str) -> Vec<String> {
    let mut moved = Vec::new();
    if saved.schema_version != SCHEMA_VERSION || saved.mesh != version {
        moved.push(format!("the plan was made by mesh {}, this is {version}", saved.mesh));
    }
    if saved.cluster_id != observed.cluster.id {
        let name = |id: &Option<String>| id.clone().unwrap_or_else(|| "without a readable id".into());
        moved.push(format!("the plan was made for cluster {}, this is {}", name(&saved.cluster_id), name(&observed.cluster.id)));
    }
    for (id, before) in &saved.relied_on {
        let now = parse(id).map(|id| facts(&id, observed)).unwrap_or_default();
        moved.extend(difference(id, before, &now));
    }
    moved
}

fn difference(id: &str, before: &Facts, now: &Facts) -> Vec<String> {
    match (before.is_empty(), now.is_empty()) {
        (true, false) => return vec![format!("{id} did not exist and does now")],
        (false, true) => return vec![format!("{id} existed and does no longer")],
        _ => {}
    }
    let fields: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let shown = |value: Option<&String>| value.map_or("unset", String::as_str).to_owned();
    let differs = fields.into_iter().filter(|field| before.get(*field) != now.get(*field));
    differs.map(|field| format!("{id}: {field} was {}, is {}", shown(before.get(field)), shown(now.get(field)))).collect()
}

fn parse(id: &str) -> Option<ResourceId> {
    let topic = id.strip_prefix("topic ").map(|name| ResourceId::Topic(name.into()));
    let subject = || id.strip_prefix("subject ").map(|name| ResourceId::Subject(name.into()));
    let entry = || id.strip_prefix("catalog entry ").map(|name| ResourceId::Entry(name.into()));
    topic.or_else(subject).or_else(entry)
}

fn resources(desired: &Desired, observed: &Observed) -> BTreeSet<ResourceId> {
    let own = desired.own.iter().map(|topic| &topic.name);
    let topics = own.chain(desired.topics.keys()).chain(observed.topics.keys()).cloned().map(ResourceId::Topic);
    let subjects = desired.subjects.keys().chain(observed.subjects.keys()).cloned().map(ResourceId::Subject);
    let published = observed.catalog.products.iter().filter(|(_, entry)| entry.root == desired.root).map(|(name, _)| name);
    let products = desired.products.keys().chain(published).cloned().map(ResourceId::Entry);
    topics.chain(subjects).chain(products).collect()
}

fn facts(id: &ResourceId, observed: &Observed) -> Facts {
    match id {
        ResourceId::Topic(name) => known(observed.topics.get(name), topic),
        ResourceId::Subject(name) => known(observed.subjects.get(name), subject),
        ResourceId::Entry(name) => entry(name, observed),
    }
}

fn known<T>(seen: Option<&Known<T>>, fields: impl Fn(&T) -> Facts) -> Facts {
    match seen {
        None => Facts::new(),
        Some(Known::Unknown(reason)) => Facts::from([("unknown".into(), reason.clone())]),
        Some(Known::Is(seen)) => fields(seen),
    }
}

fn topic(seen: &ObservedTopic) -> Facts {
    let mut facts = Facts::from([
        ("partitions".to_owned(), seen.partitions.to_string()),
        ("replication".to_owned(), seen.replication.to_string()),
    ]);
    facts.extend(seen.id.clone().map(|id| ("id".to_owned(), id)));
    facts.extend(seen.config.iter().map(|(key, config)| (format!("config.{key}"), config.value.clone())));
    facts
}

fn subject(seen: &ObservedSubject) -> Facts {
    // Earlier versions never change; only the latest is always looked at.
    let latest = seen.latest().map(|(version, schema)| (format!("version {version}"), hash(&schema.text)));
    let level = seen.compatibility.map(|level| ("compatibility".to_owned(), level.name().to_owned()));
    latest.into_iter().chain(level).collect()
}

fn entry(product: &str, observed: &Observed) -> Facts {
    let catalog = &observed.catalog;
    let text = |value: serde_json::Result<String>| hash(&value.unwrap_or_default());
    let mut facts = Facts::new();
    facts.extend(catalog.products.get(product).map(|entry| ("entry".to_owned(), text(serde_json::to_string(entry)))));
    facts.extend(catalog.intents.get(product).map(|intent| ("intent".to_owned(), text(serde_json::to_string(intent)))));
    facts.extend(catalog.unreadable.get(&product_key(product)).map(|reason| ("unreadable".to_owned(), reason.clone())));
    facts
}
