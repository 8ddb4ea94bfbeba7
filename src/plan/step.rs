//! The plan itself: steps that leave no choice to apply, and all that could not or may not be done.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::entry::{Intent, Record};
use crate::model::product::{Compatibility, Format};
use crate::model::{Place, ResourceId};

/// The version of the plan's JSON form.
pub const SCHEMA_VERSION: u32 = 1;

/// What apply will do, what it will not, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub schema_version: u32,
    /// The environment it is meant for.
    pub environment: String,
    pub counts: Counts,
    /// In an order in which they can be carried out.
    pub steps: Vec<Step>,
    /// What may not or can't be done. A blocked product has no steps.
    pub blocked: Vec<Blocked>,
    pub findings: Vec<Finding>,
    /// What manifests say and mesh reads but does not carry out yet.
    pub not_yet: Vec<NotYet>,
    /// Topic configs that somebody else has set: shown, left alone.
    pub unmanaged: Vec<Unmanaged>,
    pub no_longer_declared: Vec<NoLongerDeclared>,
    /// What is committed to the catalog before the first change, so that a killed apply is known again.
    pub intents: Vec<Intent>,
    /// What each derivation reads, by product.
    pub lineage: BTreeMap<String, BTreeSet<String>>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// How many resources a plan touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub create: usize,
    pub change: usize,
    pub delete: usize,
    pub blocked: usize,
}

/// One change of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in the plan and the same in every plan: the resource's name (`topic orders`).
    pub id: String,
    /// `None` for mesh's own topics, domains and teams.
    pub product: Option<String>,
    pub resource: ResourceId,
    pub action: Action,
    /// The whole resource before and after.
    pub from: Option<Resource>,
    pub to: Option<Resource>,
    /// Field by field what differs, for readers.
    pub changes: Vec<Change>,
    /// What apply does, in this order; each is harmless when it is done twice.
    pub operations: Vec<Operation>,
    pub comment: String,
    /// Why it is done at all, and where the manifest says so.
    pub cause: String,
    pub place: Option<Place>,
    pub risk: Risk,
    /// Ids of the steps that must be done before.
    pub depends_on: Vec<String>,
}

/// What happens to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Create,
    Update,
    Delete,
}

/// A resource as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Resource {
    Topic {
        partitions: i32,
        /// `None`: the broker's default.
        replication: Option<i16>,
        /// The config keys that are mesh's.
        config: BTreeMap<String, String>,
    },
    Subject {
        format: Format,
        text: String,
        compatibility: Option<Compatibility>,
    },
    Entry {
        entry: Box<Record>,
    },
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `partitions`, `config.retention.ms`, `schema`, `compatibility`, `team`, ..
    pub field: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

/// One call to the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "call")]
pub enum Operation {
    CreateTopic {
        topic: String,
        partitions: i32,
        replication: Option<i16>,
        config: BTreeMap<String, String>,
    },
    AddPartitions {
        topic: String,
        /// How many it has afterwards.
        total: i32,
    },
    AlterConfigs {
        topic: String,
        set: BTreeMap<String, String>,
        /// Keys that return to the broker's default.
        reset: BTreeSet<String>,
    },
    DeleteTopic {
        topic: String,
        /// The topic that is meant; another one under its name is left alone.
        id: Option<String>,
    },
    Register {
        subject: String,
        format: Format,
        text: String,
    },
    SetCompatibility {
        subject: String,
        level: Compatibility,
    },
    DeleteSubject {
        subject: String,
    },
    /// Writes a record of the catalog; a product's entry takes its intent away in the same transaction.
    Publish {
        record: Box<Record>,
    },
    /// Deletes a record of the catalog.
    Withdraw {
        key: String,
    },
}

/// What a step may do to those who depend on the resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Risk {
    pub level: RiskLevel,
    pub reasons: Vec<String>,
    /// For whom.
    pub affected: Vec<Affected>,
}

/// How bad a step may be, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RiskLevel {
    #[default]
    Safe,
    Caution,
    Breaking,
    DestroysData,
}

impl RiskLevel {
    /// The words of the plan.
    pub fn name(self) -> &'static str {
        match self {
            RiskLevel::Safe => "safe",
            RiskLevel::Caution => "caution",
            RiskLevel::Breaking => "breaking",
            RiskLevel::DestroysData => "destroys data",
        }
    }
}

impl Risk {
    /// Raises the risk to at least `level`, for a reason.
    pub fn raise(&mut self, level: RiskLevel, reason: impl Into<String>) {
        self.level = self.level.max(level);
        self.reasons.push(reason.into());
    }
}

/// A product that a change concerns, and whom to talk to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Affected {
    pub product: String,
    pub owner: Option<String>,
    pub contact: Option<String>,
    pub team: Option<String>,
    pub channel: Option<String>,
}

/// Something that will not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    pub resource: ResourceId,
    /// `None` where the whole plan is blocked.
    pub product: Option<String>,
    pub code: String,
    pub reason: String,
    /// Line by line what stands behind it, such as an incompatibility of each field.
    pub details: Vec<String>,
    /// What to do.
    pub help: String,
    pub place: Option<Place>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    Note,
    Warning,
    Error,
}

/// Something that a reader of the plan should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub code: String,
    pub severity: Weight,
    pub message: String,
    pub help: Option<String>,
    pub place: Option<Place>,
    /// The products it concerns, nearest first.
    pub affected: Vec<Affected>,
}

/// A section that is read but not carried out yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NotYet {
    /// `None`: the environment.
    pub product: Option<String>,
    /// The section, as a path below `spec`.
    pub section: String,
    pub place: Option<Place>,
}

/// A topic config that somebody else has set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unmanaged {
    pub topic: String,
    pub key: String,
    pub value: String,
}

/// Something of ours that the manifests no longer declare.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NoLongerDeclared {
    pub product: String,
    /// What it consists of.
    pub resources: Vec<ResourceId>,
    /// Why it stays; `None` when the plan deletes it.
    pub kept: Option<String>,
}
