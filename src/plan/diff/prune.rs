//! What the manifests no longer declare: listed always, deleted only when everything allows it.

use super::ownership::Whose;
use super::{Part, World, entry, step};
use crate::model::ResourceId;
use crate::model::product::Deletion;
use crate::plan::entry::{Owned, ProductEntry, Record, product_key};
use crate::plan::observed::Known;
use crate::plan::step::{Action, NoLongerDeclared, Operation, Resource, Risk, RiskLevel, Step};

/// Products and resources of this root that are no longer declared.
pub(super) fn prune(world: &World<'_>) -> (Part, Vec<NoLongerDeclared>) {
    let mut part = Part::default();
    let mut listed = Vec::new();
    for gone in going(world) {
        if gone.kept.is_none() {
            part.steps.extend(deletions(world, gone.name, gone.entry, &gone.resources));
        }
        listed.push(NoLongerDeclared { product: gone.name.to_owned(), resources: gone.resources, kept: gone.kept });
    }
    for (name, intent) in &world.observed.catalog.intents {
        let published = world.observed.catalog.products.contains_key(name);
        if intent.root == world.desired.root && !published && !world.desired.products.contains_key(name) {
            let kept = Some("an interrupted apply made it: declare it again, or delete it by hand".into());
            listed.push(NoLongerDeclared { product: name.clone(), resources: remaining(world, name, &intent.owned), kept });
        }
    }
    for name in world.desired.products.keys() {
        listed.extend(former(world, name));
    }
    (part, listed)
}

/// A product that is no longer declared.
struct Gone<'a> {
    name: &'a str,
    entry: &'a ProductEntry,
    resources: Vec<ResourceId>,
    /// Why it stays.
    kept: Option<String>,
}

/// The products that are no longer declared. One that stays keeps what it reads.
fn going<'a>(world: &'a World<'_>) -> Vec<Gone<'a>> {
    let catalog = &world.observed.catalog;
    let undeclared =
        |name: &str, entry: &ProductEntry| entry.root == world.desired.root && !world.desired.products.contains_key(name);
    let mut all: Vec<Gone<'a>> = Vec::new();
    for (name, entry) in catalog.products.iter().filter(|(name, entry)| undeclared(name, entry)) {
        let mut owned = entry.owned.clone();
        if let Some(intent) = catalog.intents.get(name) {
            owned.extend(&intent.owned);
        }
        let resources = remaining(world, name, &owned);
        let kept = why_kept(world, name, entry, &resources);
        all.push(Gone { name, entry, resources, kept });
    }
    loop {
        let staying: Vec<(&str, &ProductEntry)> =
            all.iter().filter(|gone| gone.kept.is_some()).map(|gone| (gone.name, gone.entry)).collect();
        let reads = |gone: &Gone<'_>| staying.iter().find(|(_, entry)| entry.lineage.inputs.iter().any(|i| i == gone.name));
        let saved = all.iter().enumerate().filter(|(_, gone)| gone.kept.is_none());
        let found = saved.filter_map(|(at, gone)| Some((at, reads(gone)?.0.to_owned()))).next();
        let Some((at, reader)) = found else { return all };
        if let Some(gone) = all.get_mut(at) {
            gone.kept = Some(format!("product {reader}, which stays, reads it"));
        }
    }
}

/// Of what a product owned, what exists and nobody else declares.
fn remaining(world: &World<'_>, name: &str, owned: &Owned) -> Vec<ResourceId> {
    let (desired, observed) = (world.desired, world.observed);
    let topics = owned.topics.keys().filter(|t| !desired.topics.contains_key(*t) && entry::exists(observed.topics.get(*t)));
    let subjects =
        owned.subjects.iter().filter(|s| !desired.subjects.contains_key(*s) && entry::exists(observed.subjects.get(*s)));
    let all = topics.cloned().map(ResourceId::Topic).chain(subjects.cloned().map(ResourceId::Subject));
    all.filter(|resource| matches!(world.ownership.whose(name, resource), Whose::Ours(_))).collect()
}

/// Why a product that is no longer declared stays; `None` when it may go.
fn why_kept(world: &World<'_>, name: &str, entry: &ProductEntry, resources: &[ResourceId]) -> Option<String> {
    if !world.options.prune {
        return Some("delete it with --prune".into());
    }
    if world.desired.products.is_empty() {
        return Some("no product is declared at all: nothing is deleted then".into());
    }
    if !world.desired.safety.prune {
        return Some(format!("environment {} does not allow --prune (safety.prune)", world.desired.environment));
    }
    if entry.deletion == Deletion::Protect {
        return Some("its manifest did not say `deletion: allow` when it was applied last".into());
    }
    let protected = resources.iter().find_map(|resource| match resource {
        ResourceId::Topic(topic) => world.desired.safety.protect.iter().find(|pattern| matches(pattern, topic)),
        _ => None,
    });
    if let Some(pattern) = protected {
        return Some(format!("environment {} protects {pattern}", world.desired.environment));
    }
    if let Some(unseen) = resources.iter().find(|resource| unseen(world, resource)) {
        return Some(format!("{unseen} can't be described"));
    }
    reader(world, name).map(|reader| format!("product {reader} reads it"))
}

fn unseen(world: &World<'_>, resource: &ResourceId) -> bool {
    match resource {
        ResourceId::Topic(name) => matches!(world.observed.topics.get(name), Some(Known::Unknown(_))),
        ResourceId::Subject(name) => matches!(world.observed.subjects.get(name), Some(Known::Unknown(_))),
        ResourceId::Entry(_) => false,
    }
}

/// A product that stays and reads `name`, declared here or by others.
fn reader<'a>(world: &'a World<'_>, name: &str) -> Option<&'a str> {
    let declared =
        world.desired.products.iter().find(|(_, facts)| facts.inputs.contains(name)).map(|(reader, _)| reader.as_str());
    let published = || {
        let staying = world.observed.catalog.products.iter().filter(|(_, entry)| entry.root != world.desired.root);
        staying.into_iter().find(|(_, entry)| entry.lineage.inputs.iter().any(|i| i == name)).map(|(reader, _)| reader.as_str())
    };
    declared.or_else(published)
}

/// Whether `topic` is meant by a pattern of `safety.protect`.
fn matches(pattern: &str, topic: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => topic.starts_with(prefix),
        None => pattern == topic,
    }
}

fn deletions(world: &World<'_>, name: &str, entry: &ProductEntry, resources: &[ResourceId]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for resource in resources {
        let mut step = deletion(world, name, resource);
        if matches!(resource, ResourceId::Subject(_)) {
            step.depends_on = steps.iter().filter(|s| matches!(s.resource, ResourceId::Topic(_))).map(|s| s.id.clone()).collect();
        }
        steps.push(step);
    }
    let id = ResourceId::Entry(name.into());
    let mut last = step(Some(name), id, Action::Delete, vec![Operation::Withdraw { key: product_key(name) }], "withdraw".into());
    last.cause = "no longer declared".into();
    last.from = Some(Resource::Entry { entry: Box::new(Record::Product(Box::new(entry.clone()))) });
    last.depends_on = steps.iter().map(|step| step.id.clone()).collect();
    steps.push(last);
    steps
}

fn deletion(world: &World<'_>, name: &str, resource: &ResourceId) -> Step {
    let (operation, risk, from) = match resource {
        ResourceId::Topic(topic) => {
            let seen = match world.observed.topics.get(topic) {
                Some(Known::Is(seen)) => Some(seen),
                _ => None,
            };
            let mut risk = Risk::default();
            risk.raise(RiskLevel::DestroysData, "all records of the topic are deleted");
            let from = seen.map(|seen| Resource::Topic {
                partitions: seen.partitions,
                replication: Some(seen.replication),
                config: Default::default(),
            });
            (Operation::DeleteTopic { topic: topic.clone(), id: seen.and_then(|seen| seen.id.clone()) }, risk, from)
        }
        other => (Operation::DeleteSubject { subject: other.name().to_owned() }, Risk::default(), None),
    };
    let mut step = step(Some(name), resource.clone(), Action::Delete, vec![operation], "delete".into());
    step.cause = "no longer declared".into();
    step.risk = risk;
    step.from = from;
    step
}

/// What a declared product owned under another name: it stays, since only a whole product is pruned.
fn former(world: &World<'_>, name: &str) -> Option<NoLongerDeclared> {
    let resources = remaining(world, name, &entry::former(world, name));
    let kept = Some(format!("product {name} used it before; delete it by hand when nobody reads it"));
    (!resources.is_empty()).then(|| NoLongerDeclared { product: name.to_owned(), resources, kept })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_protects_what_it_names() {
        assert!(matches("inventory.*", "inventory.low"));
        assert!(!matches("inventory.*", "inventory"));
        assert!(!matches("acme.user", "acme.userprops"));
        assert!(matches("*", "anything"));
    }
}
