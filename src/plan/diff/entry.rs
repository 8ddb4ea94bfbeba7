//! Catalog entries: what is published of products, domains and teams.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Part, World, finding, step};
use crate::model::ResourceId;
use crate::plan::codes;
use crate::plan::desired::ProductFacts;
use crate::plan::entry::{Intent, Owned, ProductEntry, Record, SCHEMA_VERSION, product_key};
use crate::plan::observed::Known;
use crate::plan::step::{Action, Change, Operation, Resource, RiskLevel, Step, Weight};

/// The entry of a product whose other steps are `steps`.
pub(super) fn diff(world: &World<'_>, name: &str, facts: &ProductFacts, steps: &[Step]) -> Part {
    let mut part = Part::default();
    let Some(Record::Product(wanted)) = world.desired.entries.get(&product_key(name)) else { return part };
    let mut wanted = wanted.as_ref().clone();
    wanted.owned.extend(&former(world, name));
    let seen = world.observed.catalog.products.get(name);
    let interrupted = world.observed.catalog.intents.contains_key(name);
    if seen.is_some_and(|seen| seen.same(&wanted)) && !interrupted && steps.is_empty() {
        return part;
    }
    let action = if seen.is_some() { Action::Update } else { Action::Create };
    let comment = match (seen, interrupted) {
        (_, true) => "finish what an interrupted apply began",
        (None, _) => "publish",
        (Some(_), _) => "publish the change",
    };
    let record = Record::Product(Box::new(wanted.clone()));
    let operations = vec![Operation::Publish { record: Box::new(record.clone()) }];
    let mut step = step(Some(name), ResourceId::Entry(name.into()), action, operations, comment.into());
    step.cause = format!("declared by product {name}");
    step.place = facts.place("");
    step.depends_on = steps.iter().map(|step| step.id.clone()).collect();
    step.changes = seen.map(|seen| differences(seen, &wanted)).unwrap_or_default();
    step.from = seen.map(|seen| Resource::Entry { entry: Box::new(Record::Product(Box::new(seen.clone()))) });
    step.to = Some(Resource::Entry { entry: Box::new(record) });
    if let Some(seen) = seen {
        rebuilt(world, seen, &wanted, &mut step);
        another_root(seen, &wanted, facts, &mut part);
    }
    part.steps.push(step);
    part
}

/// A changed query can't go on from what the old one has remembered.
fn rebuilt(world: &World<'_>, seen: &ProductEntry, wanted: &ProductEntry, step: &mut Step) {
    let (Some(before), Some(after)) = (&seen.query, &wanted.query) else { return };
    if before == after {
        return;
    }
    let reason = "the query changed, so the derivation must be rebuilt: what it remembers and has written is the old query's";
    step.risk.raise(RiskLevel::Caution, reason);
    step.risk.raise(
        RiskLevel::Caution,
        "to rebuild, give it a new topic name and run it from the earliest record; under the same topic only new records follow the new query",
    );
    step.risk.affected = world.desired.affected(&world.desired.downstream(&wanted.name));
}

fn another_root(seen: &ProductEntry, wanted: &ProductEntry, facts: &ProductFacts, part: &mut Part) {
    if seen.root == wanted.root {
        return;
    }
    let message = format!("product {} was applied from {} before, now from {}", wanted.name, seen.root, wanted.root);
    let help = "apply a product from one place only: --prune deletes what the last place no longer declares";
    part.findings.push(finding(codes::OTHER_ROOT, Weight::Warning, message, help, facts.place("")));
}

/// What the product owned before and no longer declares, as long as it exists. Another product that declares it now does
/// not get it by that.
pub(super) fn former(world: &World<'_>, name: &str) -> Owned {
    let catalog = &world.observed.catalog;
    let mut owned = Owned::default();
    for before in catalog.products.get(name).map(|e| &e.owned).into_iter().chain(catalog.intents.get(name).map(|i| &i.owned)) {
        owned.extend(before);
    }
    let (desired, observed) = (world.desired, world.observed);
    let declares_topic = |topic: &String| desired.topics.get(topic).is_some_and(|t| t.product.as_deref() == Some(name));
    let declares_subject = |subject: &String| desired.subjects.get(subject).is_some_and(|s| s.product == name);
    owned.topics.retain(|topic, _| !declares_topic(topic) && exists(observed.topics.get(topic)));
    owned.subjects.retain(|subject| !declares_subject(subject) && exists(observed.subjects.get(subject)));
    owned
}

/// What the product will own while its steps are carried out: what it declares and all that it owned.
pub(super) fn intent(world: &World<'_>, name: &str) -> Option<Intent> {
    let Some(Record::Product(wanted)) = world.desired.entries.get(&product_key(name)) else { return None };
    let mut owned = wanted.owned.clone();
    owned.extend(&former(world, name));
    if let Some(before) = world.observed.catalog.intents.get(name) {
        owned.extend(&before.owned);
    }
    Some(Intent { schema_version: SCHEMA_VERSION, product: name.to_owned(), root: world.desired.root.clone(), owned })
}

/// Domains and teams.
pub(super) fn published(world: &World<'_>) -> Part {
    let mut part = Part::default();
    let catalog = &world.observed.catalog;
    for (key, wanted) in &world.desired.entries {
        let seen = match wanted {
            Record::Domain(domain) => {
                catalog.domains.get(&domain.value.name).map(|seen| (seen.value == domain.value, Record::Domain(seen.clone())))
            }
            Record::Team(team) => {
                catalog.teams.get(&team.value.name).map(|seen| (seen.value == team.value, Record::Team(seen.clone())))
            }
            Record::Product(_) | Record::Intent(_) | Record::Lease(_) => continue,
        };
        if seen.as_ref().is_some_and(|(same, _)| *same) {
            continue;
        }
        let action = if seen.is_some() { Action::Update } else { Action::Create };
        let operations = vec![Operation::Publish { record: Box::new(wanted.clone()) }];
        let mut step = step(None, ResourceId::Entry(key.clone()), action, operations, "publish".into());
        step.cause = "declared in the manifests".into();
        step.changes = seen.as_ref().map(|(_, seen)| differences(seen, wanted)).unwrap_or_default();
        step.from = seen.map(|(_, seen)| Resource::Entry { entry: Box::new(seen) });
        step.to = Some(Resource::Entry { entry: Box::new(wanted.clone()) });
        part.steps.push(step);
    }
    part
}

/// Field by field what differs, as paths (`contract.compatibility`). Hashes and bookkeeping are left out.
fn differences<T: serde::Serialize>(from: &T, to: &T) -> Vec<Change> {
    let (Ok(from), Ok(to)) = (serde_json::to_value(from), serde_json::to_value(to)) else { return Vec::new() };
    let mut changes = Vec::new();
    compare(&mut String::new(), Some(&from), Some(&to), &mut changes);
    changes
}

const BOOKKEEPING: [&str; 5] = ["applied", "schema_version", "record", "owned", "fingerprint"];

fn compare(path: &mut String, from: Option<&Value>, to: Option<&Value>, changes: &mut Vec<Change>) {
    if from == to {
        return;
    }
    if let (Some(Value::Object(a)), Some(Value::Object(b))) = (from, to) {
        let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for key in keys.into_iter().filter(|key| !BOOKKEEPING.contains(&key.as_str())) {
            let length = path.len();
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(key);
            compare(path, a.get(key), b.get(key), changes);
            path.truncate(length);
        }
        return;
    }
    let shown = |value: Option<&Value>| match value {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if matches!(path.as_str(), "manifest" | "query") => Some(text.chars().take(8).collect()),
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(items)) => Some(items.iter().map(item).collect::<Vec<_>>().join(", ")),
        Some(other) => Some(other.to_string()),
    };
    changes.push(Change { field: path.trim_start_matches("value.").to_owned(), from: shown(from), to: shown(to) });
}

fn item(value: &Value) -> String {
    match (value, value.get("name"), value.get("type")) {
        (Value::String(text), ..) => text.clone(),
        (_, Some(Value::String(name)), Some(Value::String(kind))) => format!("{name} {kind}"),
        _ => value.to_string(),
    }
}

/// Whether a resource is there, or may be.
pub(super) fn exists<T>(seen: Option<&Known<T>>) -> bool {
    seen.is_some()
}
