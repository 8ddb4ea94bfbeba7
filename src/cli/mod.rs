//! The command line: one file for each verb, whose doc comments are its help text.
//!
//! stdout is data, stderr is talk. How a verb ends stands in `exit`, how it is said in `out`.

pub mod exit;
mod load;
mod out;

mod apply;
mod dev;
mod doctor;
mod explain;
mod get;
mod graph;
mod holdings;
mod list;
mod plan;
mod published;
mod run;
mod schema;
mod tail;
mod test;
mod validate;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::{Exit, Failure};
use out::Out;

/// Declarative data products on Kafka: plan them, apply them, run them.
#[derive(Debug, Parser)]
#[command(name = "mesh", version, propagate_version = true, disable_help_subcommand = true, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,

    /// When to colour: auto is where a terminal is and NO_COLOR is not set.
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    color: out::ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Validate(validate::Arguments),
    Plan(plan::Arguments),
    Apply(apply::Arguments),
    Test(test::Arguments),
    Run(run::Arguments),
    Dev(dev::Arguments),
    List(list::Arguments),
    Get(get::Arguments),
    Tail(tail::Arguments),
    Graph(graph::Arguments),
    Explain(explain::Arguments),
    Doctor(doctor::Arguments),
    Schema(schema::Arguments),
}

/// Runs the command line that the process was started with.
pub fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Worked };
            // Nobody is left to tell when even this can't be printed.
            let _ = error.print();
            return exit.into();
        }
    };
    let out = Out::new(line.color);
    let ended = match &line.verb {
        Verb::Validate(arguments) => validate::run(arguments, &out),
        Verb::Plan(arguments) => plan::run(arguments, &out),
        Verb::Apply(arguments) => apply::run(arguments, &out),
        Verb::Test(arguments) => test::run(arguments, &out),
        Verb::Run(arguments) => run::run(arguments, &out),
        Verb::Dev(arguments) => dev::run(arguments, &out),
        Verb::List(arguments) => list::run(arguments, &out),
        Verb::Get(arguments) => get::run(arguments, &out),
        Verb::Tail(arguments) => tail::run(arguments, &out),
        Verb::Graph(arguments) => graph::run(arguments, &out),
        Verb::Explain(arguments) => explain::run(arguments, &out),
        Verb::Doctor(arguments) => doctor::run(arguments, &out),
        Verb::Schema(arguments) => schema::run(arguments, &out),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            out.failure(&failure);
            failure.exit.into()
        }
    }
}

/// The runtime for verbs that talk to servers.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
