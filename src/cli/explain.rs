//! `mesh explain`: a derivation's dataflow, or what a diagnostic's code means.

use clap::Args;

use super::exit::{Exit, Failure};
use super::load::{self, Manifests};
use super::out::Out;
use crate::model::diagnostic::CodeDoc;

/// Explain a derivation's dataflow (a product's name) or a diagnostic (a code such as M0102)
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A product's name, or a diagnostic's code
    subject: String,
    #[command(flatten)]
    manifests: Manifests,
}

pub(super) fn run(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    if looks_like_code(&arguments.subject) {
        return explain_code(&arguments.subject.to_uppercase(), out);
    }
    explain_product(&arguments.subject, &arguments.manifests, out)
}

fn looks_like_code(subject: &str) -> bool {
    let mut characters = subject.chars();
    matches!(characters.next(), Some('M' | 'm')) && subject.len() == 5 && characters.all(|c| c.is_ascii_digit())
}

/// All codes, in order.
pub(super) fn codes() -> Vec<CodeDoc> {
    let rooms = [crate::manifest::codes::ALL, crate::sql::codes::ALL, crate::plan::codes::ALL, crate::testing::codes::ALL];
    let mut all: Vec<CodeDoc> = rooms.into_iter().flatten().copied().collect();
    all.sort_by_key(|doc| doc.code);
    all
}

fn explain_code(code: &str, out: &Out) -> Result<Exit, Failure> {
    let Some(doc) = codes().into_iter().find(|doc| doc.code.0 == code) else {
        let known: Vec<&str> = codes().iter().map(|doc| doc.code.0).collect();
        return Err(
            Failure::new(Exit::Usage, format!("there is no code {code}")).hint(format!("the codes are {}", known.join(", ")))
        );
    };
    out.data(&format!("{}: {}\n\n{}\n", doc.code, doc.title, doc.explanation.trim()))?;
    Ok(Exit::Worked)
}

fn explain_product(name: &str, manifests: &Manifests, out: &Out) -> Result<Exit, Failure> {
    let loaded = load::checked(manifests, out)?;
    let product = loaded.product(name)?;
    let Some(query) = loaded.bound.queries.get(&product.name) else {
        let origin = match product.origin {
            crate::model::product::Origin::Source(_) => "a source brings its records in",
            _ => "another program writes its topic",
        };
        out.data(&format!("{name} has no derivation: {origin}\n"))?;
        return Ok(Exit::Worked);
    };
    let flow = crate::engine::Dataflow::compile(query).map_err(|error| Failure::new(Exit::Failed, error))?;
    out.data(&format!("{name} -> topic {}\n\n{}\n", product.topic.name, flow.describe().to_string().trim_end()))?;
    Ok(Exit::Worked)
}
