//! `mesh plan`: what apply would do, and why.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::exit::{Exit, Failure};
use super::load::{self, Manifests};
use super::out::Out;
use super::test;
use super::world::{self, Form};
use crate::plan::Plan;

/// Show what apply would do, what would break, and for whom; changes nothing
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,

    /// Save the plan to a file, for `mesh apply FILE`
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    save: Option<PathBuf>,

    /// The form of the output
    #[arg(long, default_value = "text")]
    format: Form,

    /// Plan the deletion of what is no longer declared, where that is allowed
    #[arg(long)]
    prune: bool,

    /// Do not run the products' tests
    #[arg(long)]
    no_tests: bool,

    /// End with 2 when there are changes
    #[arg(long)]
    detailed_exitcode: bool,
}

pub(super) fn run(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    let mut loaded = load::documents(&arguments.manifests, out)?;
    if !arguments.no_tests {
        test::run_for_plan(&mut loaded, out);
    }
    let planned = super::runtime()?.block_on(async {
        let mut target = world::connect(&loaded).await?;
        world::plan(&loaded, &mut target, arguments.prune).await
    })?;
    out.data(&world::render(&planned.plan, arguments.format, &loaded.texts, out))?;
    if let Some(path) = &arguments.save {
        save(path, &planned)?;
    }
    tell_github(&planned.plan)?;
    Ok(exit(&planned.plan, arguments.detailed_exitcode))
}

/// How a plan ends the program.
pub(super) fn exit(plan: &Plan, detailed: bool) -> Exit {
    if !plan.blocked.is_empty() {
        return Exit::Forbidden;
    }
    if detailed && !plan.is_empty() { Exit::Pending } else { Exit::Worked }
}

fn save(path: &PathBuf, planned: &world::Planned) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&planned.saved()).map_err(|error| Failure::new(Exit::Failed, error))?;
    std::fs::write(path, text + "\n").map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", path.display())))
}

/// Counts for later steps of a GitHub workflow.
fn tell_github(plan: &Plan) -> Result<(), Failure> {
    let Some(path) = std::env::var_os("GITHUB_OUTPUT").filter(|path| !path.is_empty()) else { return Ok(()) };
    let counts = &plan.counts;
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    writeln!(file, "create={}\nchange={}\ndelete={}\nblocked={}", counts.create, counts.change, counts.delete, counts.blocked)?;
    Ok(())
}
