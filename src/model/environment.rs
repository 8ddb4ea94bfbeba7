//! Environments: where Kafka and the registry are, and what holds there by default.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::diagnostic::Place;

/// A reference to a secret. Its value is looked up at the moment of connecting and is never kept, printed or planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// An environment variable's name.
    Env(String),
    /// A file, relative to the project root; a trailing newline does not belong to the secret.
    File(PathBuf),
}

/// One Environment document, its `${VAR}` references replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    pub name: String,
    pub kafka: Kafka,
    pub registry: Registry,
    pub defaults: Defaults,
    /// Applied in order to products that match; the last one wins.
    pub overrides: Vec<Override>,
    pub safety: Safety,
    /// What templates may use.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Sections that are read but not carried out yet, as `spec` paths (`catalogs`, `connections`, ..).
    pub not_yet: Vec<String>,
    pub place: Option<Place>,
}

/// How to reach Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port`, several separated by commas.
    pub bootstrap: String,
    /// `None`: plain text without authentication.
    pub security: Option<Security>,
}

/// Transport security and authentication for Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// `None`: TLS without SASL.
    pub sasl: Option<Sasl>,
    /// Whether the connection is encrypted; `false` only for SASL over plain text on a loopback or private net.
    pub tls: bool,
    /// The certificate authority's PEM file, relative to the project root; `None`: the system's.
    pub ca: Option<PathBuf>,
}

/// SASL with a user name and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sasl {
    pub mechanism: Mechanism,
    pub username: String,
    pub password: Secret,
}

/// The SASL mechanisms that are compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Mechanism {
    /// The name Kafka knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// How to reach the schema registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Base URL, a path included (`http://host:8080/apis/ccompat/v7`), without a trailing slash.
    pub url: String,
    pub basic: Option<Basic>,
}

/// HTTP basic authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basic {
    pub username: String,
    pub password: Secret,
}

/// What a manifest may leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    pub partitions: i32,
    /// `None`: the broker's own default.
    pub replication: Option<i16>,
    pub compatibility: super::product::Compatibility,
}

/// Values for the products that match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Override {
    /// All of these tags; empty matches any.
    pub tags: Vec<String>,
    /// One of these names; empty matches any.
    pub names: Vec<String>,
    pub partitions: Option<i32>,
    pub replication: Option<i16>,
    pub config: BTreeMap<String, String>,
}

/// What may not happen in this environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Safety {
    /// Whether `--prune` is allowed at all.
    pub prune: bool,
    /// Topic names (`*` at the end matches any rest) that are never deleted.
    pub protect: Vec<String>,
    /// Plan and apply refuse any other cluster.
    pub cluster_id: Option<String>,
}

impl Environment {
    /// The built-in `local`: a broker and a registry on this machine.
    pub fn local() -> Self {
        Environment {
            name: "local".into(),
            kafka: Kafka { bootstrap: "localhost:9092".into(), security: None },
            registry: Registry { url: "http://localhost:8081".into(), basic: None },
            defaults: Defaults { partitions: 6, replication: None, compatibility: super::product::Compatibility::Backward },
            overrides: Vec::new(),
            safety: Safety::default(),
            vars: BTreeMap::new(),
            not_yet: Vec::new(),
            place: None,
        }
    }
}
