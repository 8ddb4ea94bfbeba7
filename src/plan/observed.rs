//! What exists, as the edges saw it: the same ordered maps as [`Desired`](super::Desired).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::entry::Catalog;
use crate::model::product::{Compatibility, Format};
use crate::schema::Reference;

/// Something that was looked at: seen, or not to be seen, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known<T> {
    Is(T),
    /// It may exist or not; the reason why this can't be told.
    Unknown(String),
}

/// The world, as far as a plan asks about it. What was asked for and is not in a map does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Observed {
    pub cluster: Cluster,
    pub topics: BTreeMap<String, Known<ObservedTopic>>,
    pub subjects: BTreeMap<String, Known<ObservedSubject>>,
    pub catalog: Catalog,
    /// The registry's global level; `None` when it doesn't tell.
    pub compatibility: Option<Compatibility>,
    /// What the cluster said when it was asked to check the creation or change of a topic without doing it: the
    /// topics that it would refuse, with its reason.
    pub refused: BTreeMap<String, String>,
}

/// What is known of the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    pub id: Option<String>,
    /// How many brokers are up.
    pub brokers: usize,
    /// The names of all topic configs that the cluster knows; empty when it did not tell.
    pub topic_configs: BTreeSet<String>,
}

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedTopic {
    /// Kafka's topic id: another one under the same name is another topic.
    pub id: Option<String>,
    pub partitions: i32,
    pub replication: i16,
    /// Every config, wherever its value comes from.
    #[serde(default)]
    pub config: BTreeMap<String, ConfigValue>,
}

/// A topic config's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigValue {
    pub value: String,
    pub source: ConfigSource,
    /// What it would be if the topic did not set it, when the cluster tells.
    #[serde(default)]
    pub fallback: Option<String>,
}

/// Where a topic config's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigSource {
    /// The topic itself sets it.
    Topic,
    /// A broker's or the cluster's setting.
    Broker,
    /// Kafka's own default.
    Default,
}

/// A subject that exists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ObservedSubject {
    /// By version. Always the latest; all of them where the latest is not what is wanted.
    pub versions: BTreeMap<i32, Registered>,
    /// Its own level. `None`: the global one holds, until somebody changes it; so what is declared is set in any case.
    pub compatibility: Option<Compatibility>,
}

impl ObservedSubject {
    /// The latest version, if it has one.
    pub fn latest(&self) -> Option<(i32, &Registered)> {
        self.versions.last_key_value().map(|(version, schema)| (*version, schema))
    }
}

/// A registered schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub id: i32,
    pub format: Format,
    pub text: String,
    #[serde(default)]
    pub references: Vec<Reference>,
}
