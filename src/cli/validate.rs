//! `mesh validate`: everything that can be said of the manifests without asking a server.

use clap::Args;

use super::exit::{Exit, Failure};
use super::load::{self, Manifests};
use super::out::Out;
use crate::model::diagnostic::has_errors;

/// Check manifests, references, schemas, SQL and the form of tests; asks no server
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,
}

pub(super) fn run(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    let loaded = load::checked(&arguments.manifests, out)?;
    let wrong = crate::testing::check(&loaded.mesh, &loaded.bound);
    load::say(&wrong, &loaded.texts, out);
    if has_errors(&wrong) {
        return Err(Failure::said(Exit::Forbidden));
    }
    let derived = loaded.bound.queries.len();
    let products = loaded.mesh.products.len();
    out.talk(&format!("{} and {derived} of them derived: valid", counted(products, "product")));
    Ok(Exit::Worked)
}

/// `1 product`, `2 products`.
pub(super) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
