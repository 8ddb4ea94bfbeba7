//! Resource ids: the names of what mesh creates in the world.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing in the world that a product implies. Ordered as steps are: schemas, topics, then the catalog.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum ResourceId {
    /// A subject of the schema registry, such as `orders-value`.
    Subject(String),
    /// A Kafka topic.
    Topic(String),
    /// A product's entry in the catalog, by the product's name; a domain's or a team's as `domain/NAME`, `team/NAME`.
    Entry(String),
}

impl ResourceId {
    /// The kind as users read it.
    pub fn kind(&self) -> &'static str {
        match self {
            ResourceId::Subject(_) => "subject",
            ResourceId::Topic(_) => "topic",
            ResourceId::Entry(_) => "catalog entry",
        }
    }

    /// The name within its kind.
    pub fn name(&self) -> &str {
        match self {
            ResourceId::Subject(name) | ResourceId::Topic(name) | ResourceId::Entry(name) => name,
        }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}
