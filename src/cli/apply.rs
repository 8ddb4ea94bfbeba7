//! `mesh apply`: makes the world what the manifests say.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::exit::{Exit, Failure};
use super::load::{self, Loaded, Manifests};
use super::out::{Out, table};
use super::test;
use super::world::{self, Form, Planned};
use crate::apply::{self, Event, Live, Outcome, State, Who};
use crate::model::Texts;
use crate::plan::{Plan, SavedPlan};

/// Make topics, schemas and catalog what the manifests say
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A plan saved by `mesh plan -o`; refused when the world has moved since
    plan: Option<PathBuf>,

    #[command(flatten)]
    manifests: Manifests,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Do not run the products' tests
    #[arg(long)]
    no_tests: bool,

    /// Delete what is no longer declared, where that is allowed
    #[arg(long)]
    prune: bool,
}

pub(super) fn run(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    let mut loaded = load::documents(&arguments.manifests, out)?;
    // A saved plan has been planned with or without them.
    if !arguments.no_tests && arguments.plan.is_none() {
        test::run_for_plan(&mut loaded, out);
    }
    super::runtime()?.block_on(carry_out(arguments, &loaded, out))
}

async fn carry_out(arguments: &Arguments, loaded: &Loaded, out: &Out) -> Result<Exit, Failure> {
    let mut target = world::connect(loaded).await?;
    let planned = world::plan(loaded, &mut target, arguments.prune).await?;
    let plan = match &arguments.plan {
        Some(path) => saved(path, &planned)?.plan,
        None => planned.plan,
    };
    let blocked = !plan.blocked.is_empty();
    out.data(&world::render(&plan, Form::Text, &loaded.texts, out))?;
    if plan.is_empty() {
        return Ok(if blocked { Exit::Forbidden } else { Exit::Worked });
    }
    agree(arguments.yes, out)?;
    let outcome = execute(&mut target, &plan, out).await;
    tell(&outcome, out)?;
    if let Some(error) = outcome.error {
        return Err(error.into());
    }
    let (_, failed, skipped) = outcome.counts();
    let again = world::plan(loaded, &mut target, arguments.prune).await?;
    conclude(&again.plan, &loaded.texts, out)?;
    Ok(match (failed + skipped, again.plan.is_empty(), blocked) {
        (0, true, false) => Exit::Worked,
        (0, true, true) => Exit::Forbidden,
        _ => Exit::Failed,
    })
}

/// Reads a saved plan and checks that the world and the manifests are still those it was made for.
fn saved(path: &PathBuf, now: &Planned) -> Result<SavedPlan, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    let saved: SavedPlan = serde_json::from_str(&text).map_err(|error| unreadable(&format!("not a saved plan: {error}")))?;
    let mut moved = crate::plan::stale(&saved, &now.observed, world::VERSION);
    if saved.environment != now.desired.environment {
        moved.push(format!("the plan was made for environment {}, this is {}", saved.environment, now.desired.environment));
    }
    let manifests = now.desired.products.iter().map(|(name, facts)| (name.clone(), facts.fingerprint.clone())).collect();
    if saved.manifests != manifests {
        moved.push("the manifests have changed".into());
    }
    if moved.is_empty() {
        return Ok(saved);
    }
    let failure = Failure::new(Exit::Stale, format!("the saved plan no longer holds:\n  {}", moved.join("\n  ")));
    Err(failure.hint("plan again, look at the new plan, and apply that"))
}

/// Asks, unless `--yes` says so already.
fn agree(yes: bool, out: &Out) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, "there is no terminal to ask on").hint("say --yes to apply without being asked"));
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "Apply this? Only `yes` is taken for yes: ")?;
    stderr.flush()?;
    drop(stderr);
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == "yes" {
        return Ok(());
    }
    out.talk("nothing was changed");
    Err(Failure::said(Exit::Failed))
}

pub(super) async fn execute(target: &mut Live, plan: &Plan, out: &Out) -> Outcome {
    let bar = if out.watched { ProgressBar::new(plan.steps.len() as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {wide_msg}") {
        bar.set_style(style);
    }
    let mut on_event = |event: Event| match event {
        Event::Begun => {}
        Event::Started { step } => bar.set_message(step),
        Event::Ended { .. } => bar.inc(1),
    };
    let outcome = apply::execute(target, plan, &who(), &mut on_event).await;
    bar.finish_and_clear();
    outcome
}

/// Who the lease and the entries name.
fn who() -> Who {
    let variable = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    Who {
        user: variable(&["GITHUB_ACTOR", "GITLAB_USER_LOGIN", "USER", "LOGNAME"]).unwrap_or_else(|| "unknown".into()),
        host: variable(&["HOSTNAME"]).or(host).unwrap_or_else(|| "unknown".into()),
        pid: std::process::id(),
        since_ms: world::now_ms(),
    }
}

/// Prints a table of what was not done; nothing when everything was.
pub(super) fn tell(outcome: &Outcome, out: &Out) -> Result<(), Failure> {
    let (done, failed, skipped) = outcome.counts();
    let row = |result: &apply::StepResult| match &result.state {
        State::Done => None,
        State::Failed(reason) => Some(vec![result.step.clone(), "failed".into(), reason.clone()]),
        State::Skipped(reason) => Some(vec![result.step.clone(), "skipped".into(), reason.clone()]),
    };
    let rows: Vec<Vec<String>> = outcome.results.iter().filter_map(row).collect();
    if !rows.is_empty() {
        out.data(&format!("\n{}", table(&["STEP", "STATE", "WHY"], &rows)))?;
    }
    out.data(&format!("\nApplied: {done} done, {failed} failed, {skipped} skipped.\n"))
}

/// Says what planning again gives: nothing, when all was applied.
fn conclude(plan: &Plan, texts: &Texts, out: &Out) -> Result<(), Failure> {
    if plan.is_empty() && plan.blocked.is_empty() {
        return out.data("No changes. The mesh matches the manifests.\n");
    }
    out.data(&format!("\nStill to do:\n{}", world::render(plan, Form::Text, texts, out)))
}
