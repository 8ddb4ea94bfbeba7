//! The mesh: all that the manifests of one root declare, for one environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::product::Product;

/// All products, domains and teams, and the environment they are meant for.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    /// By name.
    pub products: BTreeMap<String, Product>,
    pub domains: BTreeMap<String, Domain>,
    pub teams: BTreeMap<String, Team>,
    pub environment: Environment,
    /// The project root: nearest ancestor of the manifests with a `.git`, or the given directory.
    pub root: PathBuf,
    /// What tells this set of manifests from others that are applied to the same cluster: the given paths relative
    /// to the project root, joined by commas. Products are pruned only by the root that applied them.
    pub root_id: String,
}

impl Mesh {
    /// The product that a SQL relation names: `stations_enriched` and `stations-enriched` both find `stations-enriched`.
    pub fn product_of_relation(&self, relation: &str) -> Option<&Product> {
        self.products.get(relation).or_else(|| self.products.get(&relation.replace('_', "-")))
    }
}

/// A Domain document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    pub name: String,
    pub display_name: Option<String>,
    pub executive_owner: Option<String>,
    pub executive_contact: Option<String>,
}

/// A Team document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Team {
    pub name: String,
    pub display_name: Option<String>,
    /// Where the team can be reached, such as `#bike-inv-oncall`.
    pub channel: Option<String>,
    pub slack_alias: Option<String>,
}
