//! Catalog entries: what mesh publishes about a product, and by which it knows what it owns.
//!
//! They live in the compacted topic `_mesh`, one record for each key: `product/NAME`, `domain/NAME`, `team/NAME`,
//! `intent/NAME` (what an apply is about to own) and `lease` (who is applying). The bytes are the `catalog` room's.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::product::{Compatibility, Deletion, Format, Framing, Lifecycle, Owner};
use crate::model::{Domain, Shape, Team};

/// The version of the entries' form that this program writes; entries of a later one are not touched.
pub const SCHEMA_VERSION: u32 = 1;

/// A published product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductEntry {
    pub schema_version: u32,
    pub name: String,
    pub description: Option<String>,
    pub version: Option<String>,
    pub lifecycle: Lifecycle,
    pub owner: Option<Owner>,
    pub team: Option<String>,
    pub domain: Option<String>,
    pub tags: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub shape: Shape,
    /// Columns of the value that form the record key.
    pub key: Vec<String>,
    /// The topic that carries it.
    pub topic: String,
    pub contract: ContractEntry,
    pub lineage: Lineage,
    pub deletion: Deletion,
    /// SHA-256 (hex) of all that decided what was applied.
    pub manifest: String,
    /// SHA-256 (hex) of the derivation's SQL, white space and comments left out.
    pub query: Option<String>,
    pub owned: Owned,
    /// What tells one set of manifests from another; only the same root prunes.
    pub root: String,
    /// `None` in a plan; filled in when it is written.
    pub applied: Option<Applied>,
}

impl ProductEntry {
    /// Whether both say the same, whoever wrote them and whenever.
    pub fn same(&self, other: &ProductEntry) -> bool {
        let bare = |entry: &ProductEntry| ProductEntry { applied: None, ..entry.clone() };
        bare(self) == bare(other)
    }
}

/// The promise about a product's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractEntry {
    pub format: Format,
    #[serde(default, skip_serializing_if = "is_confluent")]
    pub framing: Framing,
    pub value_subject: String,
    pub key_subject: Option<String>,
    pub compatibility: Compatibility,
    /// Fingerprint of the value's schema.
    pub fingerprint: String,
    pub columns: Vec<ColumnEntry>,
}

/// What entries that say nothing of it mean.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_confluent(framing: &Framing) -> bool {
    *framing == Framing::Confluent
}

/// One column of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnEntry {
    pub name: String,
    /// As SQL users write it.
    #[serde(rename = "type")]
    pub type_name: String,
    pub nullable: bool,
}

/// Where a product's records come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lineage {
    /// Names of the products that it is derived from, each once, sorted.
    pub inputs: Vec<String>,
    /// `derivation`, `source` or `external`.
    pub origin: String,
}

/// The resources that a product owns, field by field. Former ones stay until they are pruned.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Owned {
    pub topics: BTreeMap<String, OwnedTopic>,
    pub subjects: BTreeSet<String>,
}

impl Owned {
    /// Adds what `other` owns.
    pub fn extend(&mut self, other: &Owned) {
        for (name, topic) in &other.topics {
            self.topics.entry(name.clone()).or_default().config.extend(topic.config.iter().cloned());
        }
        self.subjects.extend(other.subjects.iter().cloned());
    }
}

/// What is owned of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OwnedTopic {
    /// The config keys that mesh has set; all others belong to somebody else.
    pub config: BTreeSet<String>,
}

/// Who wrote an entry, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub by: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// Version of mesh.
    pub mesh: String,
}

/// What an apply is about to own. It is committed before the first change, so that what a killed apply has created
/// is known as mesh's own by the next; the product's entry replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub schema_version: u32,
    pub product: String,
    pub root: String,
    pub owned: Owned,
}

/// Who is applying. The right itself is the transactional id's; this says to the one who lost it who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub schema_version: u32,
    pub who: String,
    pub host: String,
    pub pid: u32,
    /// Milliseconds since 1970.
    pub since_ms: i64,
}

/// A domain or a team, as published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published<T> {
    pub schema_version: u32,
    /// The root that declares it.
    pub root: String,
    #[serde(rename = "spec")]
    pub value: T,
}

/// All that the catalog holds: the topic `_mesh`, folded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Catalog {
    /// By product.
    pub products: BTreeMap<String, ProductEntry>,
    pub domains: BTreeMap<String, Published<Domain>>,
    pub teams: BTreeMap<String, Published<Team>>,
    /// By product.
    pub intents: BTreeMap<String, Intent>,
    pub lease: Option<Lease>,
    /// Record keys whose value could not be read, with the reason: written by a later mesh, or not by mesh.
    pub unreadable: BTreeMap<String, String>,
}

/// One record of the catalog; a key without one is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record", content = "value")]
pub enum Record {
    Product(Box<ProductEntry>),
    Domain(Published<Domain>),
    Team(Published<Team>),
    Intent(Intent),
    Lease(Lease),
}

impl Record {
    /// The record's key in the topic.
    pub fn key(&self) -> String {
        match self {
            Record::Product(entry) => product_key(&entry.name),
            Record::Domain(domain) => format!("domain/{}", domain.value.name),
            Record::Team(team) => format!("team/{}", team.value.name),
            Record::Intent(intent) => intent_key(&intent.product),
            Record::Lease(_) => LEASE_KEY.into(),
        }
    }
}

/// Key of the lease.
pub const LEASE_KEY: &str = "lease";

/// Key of a product's entry.
pub fn product_key(product: &str) -> String {
    format!("product/{product}")
}

/// Key of a product's intent.
pub fn intent_key(product: &str) -> String {
    format!("intent/{product}")
}
