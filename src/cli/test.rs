//! `mesh test`: runs the products' own tests, offline.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};

use super::exit::{Exit, Failure};
use super::load::{self, Loaded, Manifests};
use super::out::Out;
use crate::manifest::edit;
use crate::model::diagnostic::has_errors;
use crate::model::test::{Section, TestResult};
use crate::model::{Diagnostics, Product};
use crate::report;
use crate::testing::{self, Rewrite};

/// Run the products' tests: what their queries make of given records; asks no server
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Products to test; all that have tests when none is named
    names: Vec<String>,

    #[command(flatten)]
    manifests: Manifests,

    /// Write what came out into the manifests where tests fail, for review
    #[arg(long)]
    update: bool,

    /// Write the results to a file as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,

    /// The form of the output
    #[arg(long, default_value = "text")]
    format: Form,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Json,
}

/// What a manifest should say in place of what it says.
struct Wanted {
    product: String,
    index: usize,
    section: Section,
    rows: Vec<Rewrite>,
}

pub(super) fn run(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    let loaded = load::checked(&arguments.manifests, out)?;
    let products = chosen(&loaded, &arguments.names)?;
    let Ran { mut results, wanted, wrong } = run_all(&loaded, &products);
    load::say(&wrong, &loaded.texts, out);
    if has_errors(&wrong) {
        return Err(Failure::said(Exit::Forbidden));
    }
    if results.is_empty() {
        out.talk("no tests: a derived product declares them under `tests`");
    }
    if arguments.update {
        for (index, wanted) in wanted {
            for wanted in wanted {
                write(&loaded, &wanted)?;
            }
            if let Some(result) = results.get_mut(index) {
                result.updated = true;
            }
        }
    }
    if let Some(path) = &arguments.junit {
        let text = report::tests_junit(&results, &loaded.texts);
        std::fs::write(path, text).map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", path.display())))?;
    }
    out.data(&match arguments.format {
        Form::Text => report::tests_text(&results, &loaded.texts, out.color),
        Form::Json => report::tests_json(&results, &loaded.texts),
    })?;
    Ok(if results.iter().all(|result| result.passed() || result.updated) { Exit::Worked } else { Exit::Failed })
}

fn chosen<'a>(loaded: &'a Loaded, names: &[String]) -> Result<Vec<&'a Product>, Failure> {
    if names.is_empty() {
        return Ok(loaded.mesh.products.values().collect());
    }
    names.iter().map(|name| loaded.product(name)).collect()
}

/// What became of all tests.
struct Ran {
    results: Vec<TestResult>,
    /// By place among the results: what the manifest should say.
    wanted: Vec<(usize, Vec<Wanted>)>,
    /// What is wrong with the tests' form.
    wrong: Diagnostics,
}

fn run_all(loaded: &Loaded, products: &[&Product]) -> Ran {
    let mut ran = Ran { results: Vec::new(), wanted: Vec::new(), wrong: Vec::new() };
    for product in products {
        let (suite, wrong) = testing::prepare(&loaded.mesh, &loaded.bound, product);
        ran.wrong.extend(wrong);
        let Some(mut suite) = suite else { continue };
        for (index, test) in product.tests.iter().enumerate() {
            let started = Instant::now();
            let Some(outcome) = suite.run(index) else { continue };
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            let wanted = outcome.rewrites.into_iter();
            let wanted = wanted.map(|(section, rows)| Wanted { product: product.name.clone(), index, section, rows });
            let wanted: Vec<Wanted> = wanted.collect();
            if !wanted.is_empty() {
                ran.wanted.push((ran.results.len(), wanted));
            }
            ran.results.push(TestResult {
                product: product.name.clone(),
                name: test.name.clone(),
                place: product.place(&format!("/spec/tests/{index}/name")),
                micros,
                mismatches: outcome.mismatches,
                updated: false,
            });
        }
    }
    ran
}

/// Runs all tests before a plan, which blocks the products whose tests fail. What is wrong with their form is said.
pub(super) fn run_for_plan(loaded: &mut Loaded, out: &Out) {
    let (failing, wrong) = testing::failing(&loaded.mesh, &loaded.bound);
    load::say(&wrong, &loaded.texts, out);
    loaded.bound.failing = failing;
}

/// Writes what came out into the manifest.
fn write(loaded: &Loaded, wanted: &Wanted) -> Result<(), Failure> {
    let failed = |file: &str, reason: &dyn std::fmt::Display| {
        let failure = Failure::new(Exit::Failed, format!("{file}: {reason}"));
        failure.hint("the manifest is as it was; write the expected rows by hand")
    };
    let Some(place) = loaded.mesh.products.get(&wanted.product).and_then(|product| product.place("")) else { return Ok(()) };
    let text = std::fs::read_to_string(&*place.file).map_err(|error| failed(&place.file, &error))?;
    let rows: Vec<edit::Row<'_>> = wanted
        .rows
        .iter()
        .map(|row| match row {
            Rewrite::Keep(at) => edit::Row::Keep(*at),
            Rewrite::New(value) => edit::Row::New(value),
        })
        .collect();
    let text = edit::set_rows(&text, &wanted.product, wanted.index, wanted.section.field(), &rows)
        .map_err(|reason| failed(&place.file, &reason))?;
    std::fs::write(&*place.file, text).map_err(|error| failed(&place.file, &error))
}
