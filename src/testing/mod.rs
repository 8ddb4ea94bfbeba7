//! Manifests' tests: what a derivation makes of given records, offline.
//!
//! A test's records go the way they go in production: JSON to rows by the contract's types, merged by event time as `run`
//! merges partitions (each input is one), stepped row by row through a [`Dataflow`], so that the watermark stands as high
//! as it can for each row, and out again through the contract. One test's way: `form` reads what the manifest says, and all
//! that is wrong with it; `drive` steps; `compare` finds what is not as expected; `update` says what should stand there.
//!
//! **Invariant:** no server, clock or file: the same test gives the same result.

pub mod codes;
mod compare;
mod drive;
mod form;
mod rows;
mod update;

use std::collections::BTreeMap;

pub use update::Rewrite;

use crate::engine::Dataflow;
use crate::format::Encoder;
use crate::model::product::Product;
use crate::model::test::{Mismatch, Section};
use crate::model::{Diagnostic, Diagnostics, Mesh};
use crate::plan::Bound;
use crate::sql::query::Query;
use form::Script;
use rows::Canon;

/// The tests of one product, ready to run.
pub struct Suite<'a> {
    product: &'a Product,
    query: &'a Query,
    canon: Canon,
    /// Writes what comes out as it is written in production, to see whether the contract takes it.
    writer: Encoder,
    /// `None`: what the manifest says of the test is wrong.
    tests: Vec<Option<Script>>,
}

/// What became of a test.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Empty: it passed.
    pub mismatches: Vec<Mismatch>,
    /// For each section that is not as expected, the rows that it should have.
    pub rewrites: BTreeMap<Section, Vec<Rewrite>>,
}

/// Reads a product's tests; with them comes all that is wrong with their form. `None` where there are none, or where the
/// query they are of can't be understood.
pub fn prepare<'a>(mesh: &'a Mesh, bound: &'a Bound, product: &'a Product) -> (Option<Suite<'a>>, Diagnostics) {
    if product.tests.is_empty() {
        return (None, Vec::new());
    }
    if product.derivation().is_none() {
        let message = format!("`{}` has tests and no derivation", product.name);
        let help = "tests are of a query: of what it makes of the records of its inputs; remove them";
        return (None, vec![Diagnostic::error(codes::NO_DERIVATION, product.place("/spec/tests"), message).help(help)]);
    }
    let (Some(query), Some(contract)) = (bound.queries.get(&product.name), bound.contracts.get(&product.name)) else {
        return (None, Vec::new());
    };
    let made = rows::writer(product, contract, query)
        .and_then(|writer| Ok((writer, Canon::new(contract, query)?, form::Inputs::new(mesh, bound, query)?)));
    match made {
        Ok((writer, canon, inputs)) => {
            let mut suite = Suite { product, query, canon, writer, tests: Vec::new() };
            let mut diagnostics = Vec::new();
            let mut inputs = inputs;
            for index in 0..product.tests.len() {
                let (script, mut wrong) = form::read(&mut suite.canon, &mut inputs, product, query, index);
                suite.tests.push(script.filter(|_| wrong.is_empty()));
                diagnostics.append(&mut wrong);
            }
            diagnostics.sort_by(|a, b| a.place.cmp(&b.place));
            (Some(suite), diagnostics)
        }
        Err(error) => {
            let message = format!("the tests of `{}` can't be run: {error}", product.name);
            (None, vec![Diagnostic::error(codes::NOT_RUN, product.place("/spec/tests"), message)])
        }
    }
}

/// All that is wrong with the form of the products' tests.
pub fn check(mesh: &Mesh, bound: &Bound) -> Diagnostics {
    mesh.products.values().flat_map(|product| prepare(mesh, bound, product).1).collect()
}

/// Runs all tests: what fails, by product. What is wrong with their form fails too, and is returned beside.
pub fn failing(mesh: &Mesh, bound: &Bound) -> (BTreeMap<String, Vec<Diagnostic>>, Diagnostics) {
    let (mut failing, mut all_wrong) = (BTreeMap::new(), Vec::new());
    for product in mesh.products.values() {
        let (suite, wrong) = prepare(mesh, bound, product);
        let mut of = wrong.clone();
        if let Some(mut suite) = suite {
            for (index, test) in product.tests.iter().enumerate() {
                let outcome = suite.run(index).unwrap_or_default();
                let first = outcome.mismatches.into_iter().next().map(|mismatch| mismatch.diagnostic);
                of.extend(
                    first.map(|first| Diagnostic { message: format!("`{}` fails: {}", test.name, first.message), ..first }),
                );
            }
        }
        if !of.is_empty() {
            failing.insert(product.name.clone(), of);
        }
        all_wrong.extend(wrong);
    }
    (failing, all_wrong)
}

impl Suite<'_> {
    /// The product whose tests these are.
    pub fn product(&self) -> &Product {
        self.product
    }

    /// Runs a test, by its place in the manifest; `None` if its form is wrong.
    pub fn run(&mut self, index: usize) -> Option<Outcome> {
        let (test, script) = (self.product.tests.get(index)?, self.tests.get(index)?.as_ref()?);
        let ran = Dataflow::compile(self.query).map_err(|error| error.to_string()).and_then(|flow| {
            let driven = drive::drive(flow, self.query, script)?;
            drive::found(driven, self.query, script, &mut self.writer, &mut self.canon)
        });
        Some(match ran {
            Ok(found) => compare::compare(self.product, test, index, script, &found),
            Err(reason) => {
                let place = self.product.place(&format!("/spec/tests/{index}/name"));
                let diagnostic = Diagnostic::error(codes::NOT_RUN, place, format!("the test can't be run: {reason}"));
                let mismatch = Mismatch { section: Section::Expect, diagnostic, cells: Vec::new() };
                Outcome { mismatches: vec![mismatch], rewrites: BTreeMap::new() }
            }
        })
    }
}
