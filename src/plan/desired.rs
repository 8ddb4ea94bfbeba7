//! What should exist: the manifests and their bound queries, as resources.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::bound::{Bound, ProductContract};
use super::entry::{self, ColumnEntry, ContractEntry, Lineage, Owned, OwnedTopic, ProductEntry, Published, Record};
use super::step::{Affected, NotYet};
use crate::model::environment::Safety;
use crate::model::product::{Compatibility, Deletion, Format, Lifecycle, Origin, Source};
use crate::model::row::type_name;
use crate::model::{Diagnostic, Mesh, Place, Product, Shape};

/// The names of mesh's own topics; tests that share a cluster choose others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnTopics {
    /// Catalog, ownership and lease.
    pub catalog: String,
    /// The progress of the running derivations.
    pub progress: String,
}

impl Default for OwnTopics {
    fn default() -> Self {
        OwnTopics { catalog: "_mesh".into(), progress: "_mesh.progress".into() }
    }
}

/// What should exist.
#[derive(Debug, Clone)]
pub struct Desired {
    pub environment: String,
    pub root: String,
    pub safety: Safety,
    /// Mesh's own topics, in the order in which they are needed.
    pub own: Vec<DesiredTopic>,
    /// By topic name.
    pub topics: BTreeMap<String, DesiredTopic>,
    /// By subject name.
    pub subjects: BTreeMap<String, DesiredSubject>,
    /// By record key (`product/orders`, `domain/sales`, `team/sales`).
    pub entries: BTreeMap<String, Record>,
    /// By name.
    pub products: BTreeMap<String, ProductFacts>,
    pub not_yet: Vec<NotYet>,
}

/// A topic that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredTopic {
    pub name: String,
    /// `None`: one of mesh's own.
    pub product: Option<String>,
    pub partitions: i32,
    pub replication: Option<i16>,
    pub config: BTreeMap<String, String>,
}

/// A subject that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredSubject {
    pub name: String,
    pub product: String,
    pub role: Role,
    pub format: Format,
    pub text: String,
    pub compatibility: Compatibility,
}

/// Which part of a record a subject's schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Key,
    Value,
}

/// What the plan must know of a product beside its resources.
#[derive(Debug, Clone)]
pub struct ProductFacts {
    pub affected: Affected,
    pub shape: Shape,
    pub key: Vec<String>,
    /// The products that its query reads, each once.
    pub inputs: BTreeSet<String>,
    /// Those of them that it joins with others.
    pub joined: BTreeSet<String>,
    pub lifecycle: Lifecycle,
    pub deletion: Deletion,
    pub adopt: bool,
    /// The oldest record that a replay brings, in milliseconds since 1970.
    pub replay_oldest_ms: Option<i64>,
    /// Why it can't be bound, if it can't.
    pub broken: Vec<Diagnostic>,
    /// Why its own tests fail, if they do.
    pub failing: Vec<Diagnostic>,
    /// Names of its columns.
    pub columns: Vec<String>,
    pub fingerprint: String,
    /// The topic's name.
    pub topic: String,
    places: BTreeMap<&'static str, Place>,
}

impl ProductFacts {
    /// Where the manifest speaks of something: `/spec/topic/partitions`, `/spec/topic/replication`,
    /// `/spec/topic/config`, `/spec/schema`, `/spec/derivation`, `/spec/source`; `""` is its name.
    pub fn place(&self, pointer: &str) -> Option<Place> {
        self.places.get(pointer).or_else(|| self.places.get("")).cloned()
    }
}

const POINTERS: [&str; 9] = [
    "",
    "/spec/topic/partitions",
    "/spec/topic/replication",
    "/spec/topic/config",
    "/spec/schema",
    "/spec/schema/compatibility",
    "/spec/derivation",
    "/spec/source",
    "/spec/topic",
];

impl Desired {
    /// What `mesh` and its bound queries imply.
    pub fn of(mesh: &Mesh, bound: &Bound, own: &OwnTopics) -> Desired {
        let mut desired = Desired {
            environment: mesh.environment.name.clone(),
            root: mesh.root_id.clone(),
            safety: mesh.environment.safety.clone(),
            own: own_topics(own, mesh.environment.defaults.replication),
            topics: BTreeMap::new(),
            subjects: BTreeMap::new(),
            entries: published(mesh),
            products: BTreeMap::new(),
            not_yet: not_yet(mesh),
        };
        for product in mesh.products.values() {
            let contract = bound.contracts.get(&product.name);
            desired.products.insert(product.name.clone(), facts(mesh, bound, product));
            desired.topics.insert(product.topic.name.clone(), topic(product));
            if let Some(contract) = contract {
                desired.subjects.extend(subjects(product, contract).map(|s| (s.name.clone(), s)));
                let entry = product_entry(product, contract, &mesh.root_id, inputs(bound, product));
                let record = Record::Product(Box::new(entry));
                desired.entries.insert(record.key(), record);
            }
        }
        desired
    }

    /// The products that read `product`, directly or through others, nearest first.
    pub fn downstream(&self, product: &str) -> Vec<String> {
        let mut found: Vec<String> = vec![product.to_owned()];
        let mut at = 0;
        while let Some(current) = found.get(at).cloned() {
            let readers = self.products.iter().filter(|(_, facts)| facts.inputs.contains(&current));
            for (name, _) in readers {
                if !found.contains(name) {
                    found.push(name.clone());
                }
            }
            at += 1;
        }
        found.remove(0);
        found
    }

    /// Whom to talk to about these products.
    pub fn affected<'a>(&self, products: impl IntoIterator<Item = &'a String>) -> Vec<Affected> {
        products.into_iter().filter_map(|name| self.products.get(name)).map(|facts| facts.affected.clone()).collect()
    }
}

/// Names of all topics and subjects that a plan must know about, for the edges.
pub fn own_topics(own: &OwnTopics, replication: Option<i16>) -> Vec<DesiredTopic> {
    let topic = |name: &str| DesiredTopic {
        name: name.to_owned(),
        product: None,
        partitions: 1,
        replication,
        config: BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]),
    };
    vec![topic(&own.catalog), topic(&own.progress)]
}

fn topic(product: &Product) -> DesiredTopic {
    DesiredTopic {
        name: product.topic.name.clone(),
        product: Some(product.name.clone()),
        partitions: product.topic.partitions,
        replication: product.topic.replication,
        config: product.topic.config.clone(),
    }
}

fn subjects(product: &Product, contract: &ProductContract) -> impl Iterator<Item = DesiredSubject> {
    let subject = |name: String, role, text: &String| DesiredSubject {
        name,
        product: product.name.clone(),
        role,
        format: contract.format,
        text: text.clone(),
        compatibility: product.contract.compatibility,
    };
    let value = subject(product.value_subject(), Role::Value, &contract.value);
    let key = product.key_subject().zip(contract.key.as_ref()).map(|(name, text)| subject(name, Role::Key, text));
    key.into_iter().chain([value])
}

fn product_entry(product: &Product, contract: &ProductContract, root: &str, inputs: BTreeSet<String>) -> ProductEntry {
    let owned_topic = OwnedTopic { config: product.topic.config.keys().cloned().collect() };
    let key_subject = product.key_subject().filter(|_| contract.key.is_some());
    ProductEntry {
        schema_version: entry::SCHEMA_VERSION,
        name: product.name.clone(),
        description: product.description.clone(),
        version: product.version.clone(),
        lifecycle: product.lifecycle,
        owner: product.owner.clone(),
        team: product.team.clone(),
        domain: product.domain.clone(),
        tags: product.tags.clone(),
        labels: product.labels.clone(),
        shape: product.shape,
        key: product.key.clone(),
        topic: product.topic.name.clone(),
        contract: ContractEntry {
            format: contract.format,
            framing: product.contract.framing,
            value_subject: product.value_subject(),
            key_subject: key_subject.clone(),
            compatibility: product.contract.compatibility,
            fingerprint: contract.fingerprint.clone(),
            columns: columns(contract),
        },
        lineage: Lineage { inputs: inputs.into_iter().collect(), origin: origin_name(&product.origin).into() },
        deletion: product.deletion,
        manifest: product.fingerprint.clone(),
        query: product.derivation().map(|d| sql_fingerprint(&d.sql.text)),
        owned: Owned {
            topics: BTreeMap::from([(product.topic.name.clone(), owned_topic)]),
            subjects: key_subject.into_iter().chain([product.value_subject()]).collect(),
        },
        root: root.to_owned(),
        applied: None,
    }
}

fn columns(contract: &ProductContract) -> Vec<ColumnEntry> {
    let column = |field: &arrow::datatypes::FieldRef| ColumnEntry {
        name: field.name().clone(),
        type_name: type_name(field.data_type()),
        nullable: field.is_nullable(),
    };
    contract.row_type.fields().iter().map(column).collect()
}

fn origin_name(origin: &Origin) -> &'static str {
    match origin {
        Origin::External => "external",
        Origin::Source(_) => "source",
        Origin::Derivation(_) => "derivation",
    }
}

fn published(mesh: &Mesh) -> BTreeMap<String, Record> {
    let root = &mesh.root_id;
    let domains = mesh.domains.values().map(|d| Record::Domain(wrap(root, d.clone())));
    let teams = mesh.teams.values().map(|t| Record::Team(wrap(root, t.clone())));
    domains.chain(teams).map(|record| (record.key(), record)).collect()
}

fn wrap<T>(root: &str, value: T) -> Published<T> {
    Published { schema_version: entry::SCHEMA_VERSION, root: root.to_owned(), value }
}

fn inputs(bound: &Bound, product: &Product) -> BTreeSet<String> {
    bound.reads.get(&product.name).cloned().unwrap_or_default()
}

fn facts(mesh: &Mesh, bound: &Bound, product: &Product) -> ProductFacts {
    let replay_oldest_ms = match &product.origin {
        Origin::Source(Source::Replay(replay)) => replay.oldest_ms,
        _ => None,
    };
    let columns = bound.contracts.get(&product.name).map(|c| c.row_type.fields().iter().map(|f| f.name().clone()).collect());
    ProductFacts {
        affected: affected(mesh, product),
        shape: product.shape,
        key: product.key.clone(),
        inputs: inputs(bound, product),
        joined: bound.queries.get(&product.name).map(super::bound::joined_inputs).unwrap_or_default(),
        lifecycle: product.lifecycle,
        deletion: product.deletion,
        adopt: product.adopt,
        replay_oldest_ms,
        broken: bound.broken.get(&product.name).cloned().unwrap_or_default(),
        failing: bound.failing.get(&product.name).cloned().unwrap_or_default(),
        columns: columns.unwrap_or_default(),
        fingerprint: product.fingerprint.clone(),
        topic: product.topic.name.clone(),
        places: POINTERS.iter().filter_map(|pointer| Some((*pointer, product.place(pointer)?))).collect(),
    }
}

fn affected(mesh: &Mesh, product: &Product) -> Affected {
    let team = product.team.as_ref().and_then(|name| mesh.teams.get(name));
    Affected {
        product: product.name.clone(),
        owner: product.owner.as_ref().map(|o| o.name.clone()),
        contact: product.owner.as_ref().and_then(|o| o.contact.clone()),
        team: team.map(|t| t.display_name.clone().unwrap_or_else(|| t.name.clone())).or_else(|| product.team.clone()),
        channel: team.and_then(|t| t.channel.clone()),
    }
}

fn not_yet(mesh: &Mesh) -> Vec<NotYet> {
    let of_environment = mesh.environment.not_yet.iter().map(|section| NotYet {
        product: None,
        section: section.clone(),
        place: mesh.environment.place.clone(),
    });
    let of_products = mesh.products.values().flat_map(|product| {
        product.not_yet.iter().map(|(section, place)| NotYet {
            product: Some(product.name.clone()),
            section: section.clone(),
            place: place.clone(),
        })
    });
    of_environment.chain(of_products).collect()
}

/// SHA-256 (hex) of a query's text; comments and the amount of white space outside quotes don't count.
pub fn sql_fingerprint(sql: &str) -> String {
    let mut bare = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (skip, keep) = match first {
            '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), " "),
            '/' if rest.starts_with("/*") => (rest.find("*/").map_or(rest.len(), |end| end + 2), " "),
            '\'' | '"' => {
                let end = rest[1..].find(first).map_or(rest.len(), |end| end + 2);
                (end, &rest[..end])
            }
            c if c.is_whitespace() => (c.len_utf8(), " "),
            c => (c.len_utf8(), &rest[..c.len_utf8()]),
        };
        if keep != " " || !bare.ends_with(' ') {
            bare.push_str(keep);
        }
        rest = &rest[skip..];
    }
    hash(bare.trim().trim_end_matches(';').trim_end())
}

/// SHA-256 of a text, in hex.
pub fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_and_comments_do_not_change_a_query() {
        let plain = sql_fingerprint("SELECT a, 'x  y' FROM b");
        assert_eq!(plain, sql_fingerprint("SELECT a,   'x  y' -- why\n FROM /* a\n comment */ b ;\n"));
        assert_ne!(plain, sql_fingerprint("SELECT a, 'x y' FROM b"));
        assert_ne!(plain, sql_fingerprint("SELECT a, 'x  y' FROM c"));
    }
}
