//! Plan: desired and observed to steps, findings and what is blocked.
//!
//! A walk: [`bound::bind`] types every derivation against the contracts of what it reads; [`Desired::of`] turns mesh and
//! queries into resources; the edges bring an [`Observed`] of the same shape; [`plan`] compares them. All of it is pure:
//! the clock is an argument, and planning twice gives the same plan.

pub mod bound;
pub mod codes;
pub mod desired;
mod diff;
pub mod entry;
pub mod observed;
pub mod saved;
pub mod step;

pub use bound::{Bound, ProductContract, bind};
pub use desired::{Desired, OwnTopics};
pub use diff::{Options, plan};
pub use observed::{Cluster, ConfigSource, ConfigValue, Known, Observed, ObservedSubject, ObservedTopic, Registered};
pub use saved::{SavedPlan, stale};
pub use step::{Action, Affected, Blocked, Finding, Operation, Plan, Resource, Risk, RiskLevel, Step, Weight};
