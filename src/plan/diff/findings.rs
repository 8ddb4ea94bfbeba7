//! What a reader of the plan should know beside the steps.

use super::{Part, World, config, finding};
use crate::model::product::Lifecycle;
use crate::plan::codes;
use crate::plan::desired::ProductFacts;
use crate::plan::observed::Known;
use crate::plan::step::{Finding, Weight};

/// Kafka's own default of `retention.ms`: seven days.
const KAFKA_RETENTION_MS: i64 = 604_800_000;

pub(super) fn add(world: &World<'_>, all: &mut Part) {
    for (name, facts) in &world.desired.products {
        all.findings.extend(broken(world, name, facts));
        all.findings.extend(replay(world, name, facts));
        all.findings.extend(fading_inputs(world, name, facts));
    }
}

/// A derivation that no longer fits what it reads, and everybody downstream of it. What only follows from another is
/// named there, and a circle by its own diagnostic.
fn broken(world: &World<'_>, name: &str, facts: &ProductFacts) -> Option<Finding> {
    let own = |code| code != codes::UNBOUND && code != codes::CYCLE;
    let first = facts.broken.iter().find(|d| own(d.code)).filter(|_| !facts.inputs.is_empty())?;
    let downstream = world.desired.downstream(name);
    let message = match downstream.as_slice() {
        [] => format!("{name} breaks: {}", first.message),
        readers => format!("{name} breaks, and with it what reads it ({}): {}", readers.join(", "), first.message),
    };
    let help = "if the contract of what it reads has changed, give it back what is missing, or change this query first; talk to the owners";
    let mut finding = finding(codes::BREAKS_DOWNSTREAM, Weight::Error, message, help, first.place.clone());
    finding.affected = world.desired.affected(std::iter::once(&name.to_owned()).chain(&downstream));
    Some(finding)
}

/// A replay whose records are older than the topic keeps: a broker deletes them within a minute.
fn replay(world: &World<'_>, name: &str, facts: &ProductFacts) -> Option<Finding> {
    let oldest = facts.replay_oldest_ms?;
    let wanted = world.desired.topics.get(&facts.topic)?;
    let seen = |key: &str| match world.observed.topics.get(&wanted.name) {
        Some(Known::Is(seen)) => seen.config.get(key).map(|c| c.value.clone()),
        _ => None,
    };
    let value = |key: &str| wanted.config.get(key).cloned().or_else(|| seen(key));
    if value("cleanup.policy").is_some_and(|policy| !config::policies(&policy).contains("delete")) {
        return None;
    }
    let keeps = value("retention.ms").and_then(|ms| ms.trim().parse().ok()).unwrap_or(KAFKA_RETENTION_MS);
    let age = world.options.now_ms.saturating_sub(oldest);
    if keeps < 0 || age <= keeps {
        return None;
    }
    let message = format!(
        "the records that {name} replays are up to {} old, topic {} keeps {}: a broker deletes them soon after they are written",
        config::duration(age),
        wanted.name,
        config::duration(keeps)
    );
    let help = "set topic.config retention.ms to -1, or to more than the records' age";
    let mut finding = finding(codes::REPLAY_OLDER_THAN_RETENTION, Weight::Warning, message, help, facts.place("/spec/source"));
    finding.affected = world.desired.affected(std::iter::once(&name.to_owned()));
    Some(finding)
}

/// An active product that is computed from one that is on its way out.
fn fading_inputs(world: &World<'_>, name: &str, facts: &ProductFacts) -> Vec<Finding> {
    if !matches!(facts.lifecycle, Lifecycle::Active | Lifecycle::Draft) {
        return Vec::new();
    }
    let fading = facts.inputs.iter().filter_map(|input| {
        let stage = match world.desired.products.get(input)?.lifecycle {
            Lifecycle::Deprecated => "deprecated",
            Lifecycle::Retired => "retired",
            Lifecycle::Draft | Lifecycle::Active => return None,
        };
        let message = format!("{name} reads {input}, which is {stage}");
        let help = "ask its owner what replaces it";
        let mut finding = finding(codes::FADING_INPUT, Weight::Warning, message, help, facts.place("/spec/derivation"));
        finding.affected = world.desired.affected([name.to_owned(), input.clone()].iter());
        Some(finding)
    });
    fading.collect()
}
