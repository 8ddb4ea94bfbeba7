//! The seam between apply and the world.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use super::error::{ApplyError, ErrorKind};
use crate::plan::Observed;
use crate::plan::desired::{Desired, DesiredSubject, DesiredTopic, OwnTopics};
use crate::plan::entry::{Intent, Lease};
use crate::plan::step::Step;

/// What a plan must know. What the catalog says this root owns is looked at beside it.
#[derive(Debug, Clone, Default)]
pub struct Question {
    pub root: String,
    pub own: OwnTopics,
    /// By name.
    pub topics: BTreeMap<String, DesiredTopic>,
    pub subjects: BTreeMap<String, DesiredSubject>,
    /// Further names, of which only the state matters.
    pub more_topics: BTreeSet<String>,
    pub more_subjects: BTreeSet<String>,
}

impl Question {
    /// All that a plan for `desired` must know.
    pub fn of(desired: &Desired) -> Question {
        let mut own = desired.own.iter().map(|topic| topic.name.clone());
        let names = OwnTopics::default();
        Question {
            root: desired.root.clone(),
            own: OwnTopics { catalog: own.next().unwrap_or(names.catalog), progress: own.next().unwrap_or(names.progress) },
            topics: desired.topics.clone(),
            subjects: desired.subjects.clone(),
            ..Question::default()
        }
    }
}

/// Who applies, and when it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    pub user: String,
    pub host: String,
    pub pid: u32,
    /// Milliseconds since 1970.
    pub since_ms: i64,
}

impl Who {
    /// The lease's record.
    pub fn lease(&self) -> Lease {
        Lease {
            schema_version: crate::plan::entry::SCHEMA_VERSION,
            who: self.user.clone(),
            host: self.host.clone(),
            pid: self.pid,
            since_ms: self.since_ms,
        }
    }
}

/// Why a step was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError {
    pub kind: ErrorKind,
    pub message: String,
}

/// The world, or one in memory.
pub trait Target {
    /// All that the question asks for. An endpoint that does not answer is an error, never an empty world.
    fn observe(&mut self, question: &Question) -> impl Future<Output = Result<Observed, ApplyError>> + Send;

    /// Takes the lease, fencing whoever had it, and commits what is about to be owned.
    fn begin(&mut self, who: &Who, intents: &[Intent]) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// Carries out steps that don't depend on each other, each as an *ensure*: done twice it is harmless. One result
    /// for each step, in their order.
    fn execute(&mut self, steps: &[&Step]) -> impl Future<Output = Vec<Result<(), StepError>>> + Send;

    /// Gives the lease back.
    fn end(&mut self) -> impl Future<Output = Result<(), ApplyError>> + Send;
}
