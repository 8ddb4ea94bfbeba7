//! Subjects: which schema is registered, at which level, and whether the new one may follow the old.

use std::collections::{BTreeMap, BTreeSet};

use super::ownership::Whose;
use super::{Part, World, blocked, finding, step};
use crate::model::ResourceId;
use crate::model::product::Compatibility;
use crate::model::row::type_name;
use crate::plan::codes;
use crate::plan::desired::{DesiredSubject, ProductFacts, Role};
use crate::plan::observed::{Known, ObservedSubject, Registered};
use crate::plan::step::{Action, Blocked, Change, Operation, Resource, Risk, RiskLevel, Step, Weight};
use crate::schema::{self, Incompatibility, Schema, SchemaError};

/// One subject of a product.
pub(super) fn diff(world: &World<'_>, facts: &ProductFacts, wanted: &DesiredSubject) -> Part {
    let mut part = Part::default();
    let name = facts.affected.product.as_str();
    let id = ResourceId::Subject(wanted.name.clone());
    let seen = match world.observed.subjects.get(&wanted.name) {
        None => {
            part.steps.push(create(facts, wanted));
            return part;
        }
        Some(Known::Unknown(reason)) => {
            let reason = format!("it can't be read: {reason}");
            part.blocked.push(blocked(
                codes::UNSEEN,
                id,
                name,
                reason,
                "see that the registry answers for it",
                facts.place("/spec/schema"),
            ));
            return part;
        }
        Some(Known::Is(seen)) => seen,
    };
    match world.ownership.whose(name, &id) {
        Whose::Ours(_) => update(world, facts, wanted, seen, &mut part),
        Whose::Nobody if facts.adopt => update(world, facts, wanted, seen, &mut part),
        Whose::Nobody => {
            let reason = "it exists and was not registered by mesh".to_owned();
            let help = "add `adopt: true` to the manifest's spec to take it over, or choose another topic name";
            part.blocked.push(blocked(codes::NOT_OURS, id, name, reason, help, facts.place("/spec/schema")));
        }
        Whose::Of(other) => {
            let reason = format!("it belongs to product {other}");
            let help = "choose another topic name, or delete that product first";
            part.blocked.push(blocked(codes::OTHERS, id, name, reason, help, facts.place("/spec/schema")));
        }
    }
    part
}

fn register(wanted: &DesiredSubject) -> Operation {
    Operation::Register { subject: wanted.name.clone(), format: wanted.format, text: wanted.text.clone() }
}

fn set_level(wanted: &DesiredSubject) -> Operation {
    Operation::SetCompatibility { subject: wanted.name.clone(), level: wanted.compatibility }
}

fn whole(wanted: &DesiredSubject) -> Resource {
    Resource::Subject { format: wanted.format, text: wanted.text.clone(), compatibility: Some(wanted.compatibility) }
}

/// A subject that does not exist: registered first, since a registry may not know the level of what is not there.
fn create(facts: &ProductFacts, wanted: &DesiredSubject) -> Step {
    let comment = format!("register the {} schema, {}", role(wanted.role), wanted.compatibility.name());
    let id = ResourceId::Subject(wanted.name.clone());
    let mut step = step(Some(&facts.affected.product), id, Action::Create, vec![register(wanted), set_level(wanted)], comment);
    step.cause = format!("the contract of {}", facts.affected.product);
    step.place = facts.place("/spec/schema");
    step.changes.push(Change { field: "schema".into(), from: None, to: Some(wanted.format.registry_name().into()) });
    step.changes.push(Change { field: "compatibility".into(), from: None, to: Some(wanted.compatibility.name().into()) });
    step.to = Some(whole(wanted));
    step
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Key => "key",
        Role::Value => "value",
    }
}

/// A subject that exists and is ours.
fn update(world: &World<'_>, facts: &ProductFacts, wanted: &DesiredSubject, seen: &ObservedSubject, part: &mut Part) {
    let mut draft = Draft::default();
    if seen.compatibility != Some(wanted.compatibility) {
        level(wanted, seen, &mut draft);
    }
    match position(wanted, seen) {
        Position::Latest => {}
        Position::Earlier(version) => part.findings.push(reverted(facts, wanted, seen, version)),
        Position::New => new_version(world, facts, wanted, seen, &mut draft),
    }
    part.blocked.append(&mut draft.blocked);
    if draft.operations.is_empty() {
        return;
    }
    let id = ResourceId::Subject(wanted.name.clone());
    let mut step = step(Some(&facts.affected.product), id, Action::Update, draft.operations, draft.comments.join(", "));
    step.cause = format!("the contract of {}", facts.affected.product);
    step.place = facts.place("/spec/schema");
    step.changes = draft.changes;
    step.risk = draft.risk;
    step.from = seen.latest().map(|(_, latest)| Resource::Subject {
        format: latest.format,
        text: latest.text.clone(),
        compatibility: seen.compatibility,
    });
    step.to = Some(whole(wanted));
    part.steps.push(step);
}

#[derive(Default)]
struct Draft {
    operations: Vec<Operation>,
    comments: Vec<String>,
    changes: Vec<Change>,
    risk: Risk,
    blocked: Vec<Blocked>,
}

/// Another level: set before a new version is registered, which is checked against it.
fn level(wanted: &DesiredSubject, seen: &ObservedSubject, draft: &mut Draft) {
    draft.operations.push(set_level(wanted));
    let from = seen.compatibility.map(Compatibility::name);
    draft.comments.push(format!("compatibility {} -> {}", from.unwrap_or("unset"), wanted.compatibility.name()));
    let to = Some(wanted.compatibility.name().to_owned());
    draft.changes.push(Change { field: "compatibility".into(), from: from.map(str::to_owned), to });
    if let Some(before) = seen.compatibility {
        let lost = [
            (before.backward() && !wanted.compatibility.backward(), "new readers may no longer understand old records"),
            (before.forward() && !wanted.compatibility.forward(), "old readers may no longer understand new records"),
            (before.transitive() && !wanted.compatibility.transitive(), "only the latest version is compared from now on"),
        ];
        for (_, reason) in lost.iter().filter(|(lost, _)| *lost) {
            draft.risk.raise(RiskLevel::Caution, *reason);
        }
    }
}

/// Where the wanted schema stands among the registered ones.
enum Position {
    Latest,
    Earlier(i32),
    New,
}

fn position(wanted: &DesiredSubject, seen: &ObservedSubject) -> Position {
    let found = seen.versions.iter().rev().find(|(_, registered)| wanted.is(registered)).map(|(version, _)| *version);
    match (found, seen.latest()) {
        (Some(version), Some((latest, _))) if version == latest => Position::Latest,
        (Some(version), _) => Position::Earlier(version),
        (None, _) => Position::New,
    }
}

fn reverted(facts: &ProductFacts, wanted: &DesiredSubject, seen: &ObservedSubject, version: i32) -> crate::plan::step::Finding {
    let latest = seen.latest().map_or(version, |(latest, _)| latest);
    let message = format!("subject {}: the declared schema is version {version}, the latest is {latest}", wanted.name);
    let help = "records are written with the declared version; change the schema, if only its description, to make it the latest";
    finding(codes::REVERTED, Weight::Warning, message, help, facts.place("/spec/schema"))
}

/// A schema that is not registered yet: may it follow the registered ones?
fn new_version(world: &World<'_>, facts: &ProductFacts, wanted: &DesiredSubject, seen: &ObservedSubject, draft: &mut Draft) {
    let verdict = verdict(wanted, seen, wanted.compatibility);
    let id = || ResourceId::Subject(wanted.name.clone());
    let name = facts.affected.product.as_str();
    let place = facts.place("/spec/schema");
    match verdict {
        Verdict::NotComparable(reason) => {
            let help = "choose a new topic for the new contract, or set schema.compatibility to NONE";
            draft.blocked.push(blocked(codes::NOT_COMPARABLE, id(), name, reason, help, place));
        }
        Verdict::Incompatible(details) => {
            let reason = format!("the {} schema is not {} compatible", role(wanted.role), wanted.compatibility.name());
            let help = "keep what earlier records need, or choose a new topic for the new contract";
            draft.blocked.push(Blocked { details, ..blocked(codes::INCOMPATIBLE, id(), name, reason, help, place) });
        }
        Verdict::Compatible => {}
    }
    if wanted.role == Role::Value {
        draft.blocked.extend(takes_away(world, facts, wanted, seen));
    } else {
        draft
            .risk
            .raise(RiskLevel::Caution, "the key's schema changes: equal keys may be written as other bytes, to other partitions");
    }
    if wanted.compatibility == Compatibility::None {
        unchecked(world, facts, wanted, seen, draft);
    }
    draft.operations.push(register(wanted));
    let latest = seen.latest().map(|(version, _)| version);
    draft.comments.push(format!("register a new {} schema after version {}", role(wanted.role), latest.unwrap_or_default()));
    let from = latest.map(|version| format!("version {version}"));
    draft.changes.push(Change { field: "schema".into(), from, to: Some("a new version".into()) });
    draft.changes.extend(column_changes(wanted, seen));
}

/// What a level of NONE lets through.
fn unchecked(world: &World<'_>, facts: &ProductFacts, wanted: &DesiredSubject, seen: &ObservedSubject, draft: &mut Draft) {
    if let Verdict::Incompatible(details) = verdict(wanted, seen, Compatibility::Backward) {
        draft.risk.raise(RiskLevel::Breaking, "level NONE checks nothing; BACKWARD would refuse it");
        draft.risk.reasons.extend(details);
        draft.risk.affected = world.desired.affected(&world.desired.downstream(&facts.affected.product));
    }
}

/// Columns that go away while a derivation that reads the product can no longer be bound.
fn takes_away(world: &World<'_>, facts: &ProductFacts, wanted: &DesiredSubject, seen: &ObservedSubject) -> Option<Blocked> {
    let name = &facts.affected.product;
    let gone: Vec<String> = column_changes(wanted, seen).into_iter().filter(|c| c.from.is_some()).map(|c| c.field).collect();
    let readers = world.desired.products.iter().filter(|(_, reader)| reader.inputs.contains(name) && !reader.broken.is_empty());
    let readers: Vec<&str> = readers.map(|(reader, _)| reader.as_str()).collect();
    if gone.is_empty() || readers.is_empty() {
        return None;
    }
    let columns: Vec<&str> = gone.iter().map(|field| field.trim_start_matches("column ")).collect();
    let reason =
        format!("it takes away or retypes {}, and {} can then no longer be bound", columns.join(", "), readers.join(", "));
    let help = "change the queries that read it first, and talk to their owners";
    let id = ResourceId::Subject(wanted.name.clone());
    Some(blocked(codes::TAKES_AWAY, id, name, reason, help, facts.place("/spec/schema")))
}

/// What becomes of the columns, as far as both schemas have them.
fn column_changes(wanted: &DesiredSubject, seen: &ObservedSubject) -> Vec<Change> {
    let Some((_, latest)) = seen.latest() else { return Vec::new() };
    let declared = schema::parse(wanted.format, &wanted.text, &[]);
    let (Some(before), Some(after)) = (columns(registered(latest)), columns(declared)) else { return Vec::new() };
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    changed
        .map(|name| Change { field: format!("column {name}"), from: before.get(name).cloned(), to: after.get(name).cloned() })
        .collect()
}

/// Whether one schema may follow others.
enum Verdict {
    Compatible,
    /// The reasons, field by field.
    Incompatible(Vec<String>),
    NotComparable(String),
}

/// Whether the wanted schema may follow the registered ones, all that the level asks for.
fn verdict(wanted: &DesiredSubject, seen: &ObservedSubject, level: Compatibility) -> Verdict {
    if level == Compatibility::None {
        return Verdict::Compatible;
    }
    let new = match schema::parse(wanted.format, &wanted.text, &[]) {
        Ok(new) => new,
        Err(error) => return Verdict::NotComparable(format!("the declared schema can't be read: {error}")),
    };
    let count = if level.transitive() { seen.versions.len() } else { 1 };
    let asked: Vec<(i32, &Registered)> =
        seen.versions.iter().rev().take(count).map(|(version, schema)| (*version, schema)).collect();
    let mut old = Vec::new();
    for (version, before) in asked.iter().rev() {
        if before.format != wanted.format {
            let (is, declared) = (before.format.registry_name(), wanted.format.registry_name());
            return Verdict::NotComparable(format!("version {version} is {is}, the declared schema is {declared}"));
        }
        match registered(before) {
            Ok(schema) => old.push(schema),
            Err(error) => return Verdict::NotComparable(format!("version {version} can't be read: {error}")),
        }
    }
    let numbers: Vec<i32> = asked.iter().rev().map(|(version, _)| *version).collect();
    let found = schema::check(level, &new, &old);
    if found.is_empty() { Verdict::Compatible } else { Verdict::Incompatible(found.iter().map(|i| said(i, &numbers)).collect()) }
}

fn said(found: &Incompatibility, versions: &[i32]) -> String {
    let version = versions.get(found.version).copied().unwrap_or_default();
    let at = if found.path.is_empty() { String::new() } else { format!("{}: ", found.path) };
    format!("{at}{} ({}, version {version})", found.message, found.kind)
}

fn registered(schema: &Registered) -> Result<Schema, SchemaError> {
    schema::parse(schema.format, &schema.text, &schema.references)
}

impl DesiredSubject {
    /// Whether a registered schema is this one, however it is written.
    pub fn is(&self, seen: &Registered) -> bool {
        if seen.format != self.format {
            return false;
        }
        match (schema::parse(self.format, &self.text, &[]), registered(seen)) {
            (Ok(wanted), Ok(seen)) => wanted.same_as(&seen, true),
            _ => self.text == seen.text && seen.references.is_empty(),
        }
    }
}

/// The columns of a schema with their types, by name.
fn columns(schema: Result<Schema, SchemaError>) -> Option<BTreeMap<String, String>> {
    let columns = schema.ok()?.columns();
    Some(columns.row_type.fields().iter().map(|field| (field.name().clone(), type_name(field.data_type()))).collect())
}
