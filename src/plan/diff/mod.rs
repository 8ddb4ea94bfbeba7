//! Desired against observed: one plan, total and pure.

mod config;
mod entry;
mod findings;
mod ownership;
mod prune;
mod subject;
mod topic;

use std::collections::{BTreeMap, BTreeSet};

use super::codes;
use super::desired::{Desired, ProductFacts};
use super::entry as records;
use super::observed::Observed;
use super::step::{
    Action, Blocked, Counts, Finding, NoLongerDeclared, Operation, Plan, Risk, SCHEMA_VERSION, Step, Unmanaged, Weight,
};
use crate::model::diagnostic::Code;
use crate::model::{Place, ResourceId};
use ownership::Ownership;

/// What the one who plans chooses, and what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Whether products that are no longer declared may be deleted.
    pub prune: bool,
    /// Milliseconds since 1970.
    pub now_ms: i64,
}

/// What apply has to do to make `observed` what is `desired`.
pub fn plan(desired: &Desired, observed: &Observed, options: Options) -> Plan {
    let world = World { desired, observed, options, ownership: Ownership::of(desired, &observed.catalog) };
    let mut all = Part::default();
    let mut intents = Vec::new();
    let whole = world.whole();
    if whole.blocked.is_empty() {
        all.extend(whole);
        for (name, facts) in &desired.products {
            let part = world.product(name, facts);
            if part.blocked.is_empty() && part.steps.iter().any(|step| !matches!(step.resource, ResourceId::Entry(_))) {
                intents.extend(entry::intent(&world, name));
            }
            all.extend(part);
        }
        all.extend(entry::published(&world));
        let (part, no_longer_declared) = prune::prune(&world);
        all.extend(part);
        all.no_longer_declared.extend(no_longer_declared);
    } else {
        all.extend(whole);
    }
    findings::add(&world, &mut all);
    finish(&world, all, intents)
}

/// All that one decision needs.
struct World<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    options: Options,
    ownership: Ownership<'a>,
}

/// What one decision adds to the plan.
#[derive(Default)]
struct Part {
    steps: Vec<Step>,
    blocked: Vec<Blocked>,
    findings: Vec<Finding>,
    unmanaged: Vec<Unmanaged>,
    no_longer_declared: Vec<NoLongerDeclared>,
}

impl Part {
    fn extend(&mut self, other: Part) {
        self.steps.extend(other.steps);
        self.blocked.extend(other.blocked);
        self.findings.extend(other.findings);
        self.unmanaged.extend(other.unmanaged);
        self.no_longer_declared.extend(other.no_longer_declared);
    }
}

impl World<'_> {
    /// What concerns the whole cluster: is it the right one, and can mesh's own topics be used.
    fn whole(&self) -> Part {
        let mut part = Part::default();
        let wanted = self.desired.safety.cluster_id.as_deref();
        let seen = self.observed.cluster.id.as_deref();
        if let Some(wanted) = wanted.filter(|wanted| Some(*wanted) != seen) {
            let reason =
                format!("this is cluster {}, the environment is meant for {wanted}", seen.unwrap_or("without a readable id"));
            let help = "check the bootstrap address, or safety.cluster_id of the Environment".to_owned();
            part.blocked.push(Blocked {
                resource: ResourceId::Topic(self.catalog_topic()),
                product: None,
                code: codes::WRONG_CLUSTER.to_string(),
                reason,
                details: Vec::new(),
                help,
                place: None,
            });
            return part;
        }
        for own in &self.desired.own {
            part.extend(topic::own(self, own));
        }
        if !part.blocked.is_empty() {
            part.steps.clear();
        }
        part
    }

    fn catalog_topic(&self) -> String {
        self.desired.own.first().map(|own| own.name.clone()).unwrap_or_default()
    }

    /// Everything about one product: all of its steps, or why it has none.
    fn product(&self, name: &str, facts: &ProductFacts) -> Part {
        let mut part = Part::default();
        if let Some(reason) = self.observed.catalog.unreadable.get(&records::product_key(name)) {
            let help = "apply with the version of mesh that wrote it, or a later one";
            let reason = format!("its catalog entry can't be read: {reason}");
            part.blocked.push(blocked(
                codes::UNREADABLE_ENTRY,
                ResourceId::Entry(name.into()),
                name,
                reason,
                help,
                facts.place(""),
            ));
        }
        if !facts.broken.is_empty() {
            part.blocked.push(broken(name, facts));
        }
        part.blocked.extend(failing(name, facts));
        for subject in self.desired.subjects.values().filter(|subject| subject.product == name) {
            part.extend(subject::diff(self, facts, subject));
        }
        if let Some(topic) = self.desired.topics.get(&facts.topic) {
            part.extend(topic::diff(self, facts, topic));
        }
        if part.blocked.is_empty() {
            part.extend(entry::diff(self, name, facts, &part.steps));
        } else {
            part.steps.clear();
        }
        part
    }
}

fn broken(name: &str, facts: &ProductFacts) -> Blocked {
    let first = facts.broken.first();
    Blocked {
        resource: ResourceId::Entry(name.into()),
        product: Some(name.into()),
        code: codes::UNBOUND.to_string(),
        reason: format!("it can't be understood: {}", first.map_or("", |d| d.message.as_str())),
        details: facts.broken.iter().skip(1).map(|d| format!("{}: {}", d.code, d.message)).collect(),
        help: first.and_then(|d| d.help.clone()).unwrap_or_else(|| "correct the text at its place".into()),
        place: first.and_then(|d| d.place.clone()).or_else(|| facts.place("/spec/derivation")),
    }
}

/// A product whose own tests fail.
fn failing(name: &str, facts: &ProductFacts) -> Option<Blocked> {
    let first = facts.failing.first()?;
    let reason = match facts.failing.len() {
        1 => format!("its test {}", first.message),
        several => format!("{several} of its tests fail, the first: {}", first.message),
    };
    let help = "mend the query or the test: `mesh test` shows all that differs; --no-tests plans without them";
    let resource = ResourceId::Entry(name.into());
    let mut blocked = blocked(codes::TESTS_FAIL, resource, name, reason, help, first.place.clone().or_else(|| facts.place("")));
    blocked.details = facts.failing.iter().skip(1).map(|d| format!("{}: {}", d.code, d.message)).collect();
    Some(blocked)
}

fn blocked(
    code: Code,
    resource: ResourceId,
    product: &str,
    reason: String,
    help: impl Into<String>,
    place: Option<Place>,
) -> Blocked {
    Blocked {
        resource,
        product: Some(product.into()),
        code: code.to_string(),
        reason,
        details: Vec::new(),
        help: help.into(),
        place,
    }
}

fn finding(code: Code, severity: Weight, message: String, help: impl Into<String>, place: Option<Place>) -> Finding {
    Finding { code: code.to_string(), severity, message, help: Some(help.into()), place, affected: Vec::new() }
}

/// The id of the step that changes `resource`.
fn step_id(resource: &ResourceId) -> String {
    resource.to_string()
}

/// A step without fields, risks or dependencies.
fn step(product: Option<&str>, resource: ResourceId, action: Action, operations: Vec<Operation>, comment: String) -> Step {
    Step {
        id: step_id(&resource),
        product: product.map(str::to_owned),
        resource,
        action,
        from: None,
        to: None,
        changes: Vec::new(),
        operations,
        comment,
        cause: String::new(),
        place: None,
        risk: Risk::default(),
        depends_on: Vec::new(),
    }
}

/// Puts the steps into an order in which they can be carried out, and counts.
fn finish(world: &World<'_>, mut all: Part, intents: Vec<records::Intent>) -> Plan {
    depend_on_own_topics(world, &mut all.steps);
    all.steps.sort_by_key(|step| (phase(world, step), step.resource.clone()));
    all.blocked.sort_by(|a, b| (&a.product, &a.resource).cmp(&(&b.product, &b.resource)));
    all.findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| (&a.code, &a.message).cmp(&(&b.code, &b.message))));
    all.unmanaged.sort();
    all.no_longer_declared.sort();
    let count = |action| all.steps.iter().filter(|step| step.action == action).count();
    let counts = Counts {
        create: count(Action::Create),
        change: count(Action::Update),
        delete: count(Action::Delete),
        blocked: all.blocked.len(),
    };
    Plan {
        schema_version: SCHEMA_VERSION,
        environment: world.desired.environment.clone(),
        counts,
        steps: all.steps,
        blocked: all.blocked,
        findings: all.findings,
        not_yet: world.desired.not_yet.clone(),
        unmanaged: all.unmanaged,
        no_longer_declared: all.no_longer_declared,
        intents,
        lineage: lineage(world),
    }
}

fn lineage(world: &World<'_>) -> BTreeMap<String, BTreeSet<String>> {
    let derived = world.desired.products.iter().filter(|(_, facts)| !facts.inputs.is_empty());
    derived.map(|(name, facts)| (name.clone(), facts.inputs.clone())).collect()
}

fn is_own(world: &World<'_>, step: &Step) -> bool {
    matches!(&step.resource, ResourceId::Topic(name) if world.desired.own.iter().any(|own| own.name == *name))
}

/// Nothing can be recorded before the catalog's topic is there.
fn depend_on_own_topics(world: &World<'_>, steps: &mut [Step]) {
    let own: BTreeSet<String> = steps.iter().filter(|step| is_own(world, step)).map(|step| step.id.clone()).collect();
    for step in steps.iter_mut().filter(|step| !is_own(world, step)) {
        step.depends_on.extend(own.iter().cloned());
    }
}

/// Own topics, schemas, topics, entries; deletions last and the other way round, the entry that knows of them at the end.
fn phase(world: &World<'_>, step: &Step) -> u8 {
    match (&step.resource, step.action) {
        (ResourceId::Topic(_), Action::Create) if is_own(world, step) => 0,
        (ResourceId::Subject(_), Action::Create | Action::Update) => 1,
        (ResourceId::Topic(_), Action::Create | Action::Update) => 2,
        (ResourceId::Topic(_), Action::Delete) => 4,
        (ResourceId::Subject(_), Action::Delete) => 5,
        (ResourceId::Entry(_), Action::Delete) => 6,
        (ResourceId::Entry(_), _) => 3,
    }
}
