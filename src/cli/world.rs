//! What plan and apply share: connect, look, plan, and the ways a plan can be printed.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;

use super::exit::Failure;
use super::load::Loaded;
use super::out::Out;
use crate::apply::{self, Live};
use crate::model::Texts;
use crate::plan::{self, Desired, Observed, OwnTopics, Plan, SavedPlan};
use crate::report;

/// The version that saved plans and entries carry.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A form in which a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    Text,
    Json,
    Markdown,
}

/// A plan and what it was made of.
pub(super) struct Planned {
    pub(super) desired: Desired,
    pub(super) observed: Observed,
    pub(super) plan: Plan,
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Connects to the environment's servers.
pub(super) async fn connect(loaded: &Loaded) -> Result<Live, Failure> {
    Ok(Live::connect(&loaded.mesh.environment, &loaded.mesh.root, OwnTopics::default()).await?)
}

/// Looks at the world and plans.
pub(super) async fn plan(loaded: &Loaded, target: &mut Live, prune: bool) -> Result<Planned, Failure> {
    let desired = Desired::of(&loaded.mesh, &loaded.bound, &OwnTopics::default());
    let observed = apply::observe(target, &desired).await?;
    let plan = plan::plan(&desired, &observed, plan::Options { prune, now_ms: now_ms() });
    Ok(Planned { desired, observed, plan })
}

/// The plan in a form.
pub(super) fn render(plan: &Plan, form: Form, texts: &Texts, out: &Out) -> String {
    match form {
        Form::Text => report::plan_text(plan, texts, out.color),
        Form::Json => report::plan_json(plan, texts),
        Form::Markdown => report::plan_markdown(plan, texts),
    }
}

impl Planned {
    /// The plan with all that it relied on.
    pub(super) fn saved(&self) -> SavedPlan {
        SavedPlan::new(self.plan.clone(), &self.desired, &self.observed, VERSION)
    }
}
