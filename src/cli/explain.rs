//! `mesh explain`: a derivation's dataflow, what a diagnostic's code means, or what a field of a manifest is.

use clap::{Args, ValueEnum};

use super::exit::{Exit, Failure};
use super::graph::shape_name;
use super::load::{self, Loaded, Manifests};
use super::out::Out;
use crate::engine;
use crate::manifest;
use crate::model::Product;
use crate::model::diagnostic::CodeDoc;
use crate::model::row::ROWTIME;
use crate::report::{self, explain};
use crate::sql::query::Query;

/// Explain a derivation's dataflow (a product's name), a diagnostic (a code such as M0102) or a field
/// (KIND.field, such as DataProduct.spec.topic)
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A product's name, a diagnostic's code, or a field of a manifest
    subject: String,

    #[command(flatten)]
    manifests: Manifests,

    /// The form in which a dataflow is shown
    #[arg(long, default_value = "text")]
    format: Form,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Mermaid,
    Json,
}

pub(super) fn run(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    let subject = &arguments.subject;
    if looks_like_code(subject) {
        return explain_code(&subject.to_uppercase(), out);
    }
    match manifest::field(subject) {
        Some(Ok(text)) => {
            out.data(&text)?;
            Ok(Exit::Worked)
        }
        Some(Err(known)) => Err(Failure::new(Exit::Usage, format!("there is no field {subject}")).hint(known)),
        None => explain_product(arguments, out),
    }
}

fn looks_like_code(subject: &str) -> bool {
    let mut characters = subject.chars();
    matches!(characters.next(), Some('M' | 'm')) && subject.len() == 5 && characters.all(|c| c.is_ascii_digit())
}

/// All codes, in order.
pub(super) fn codes() -> Vec<CodeDoc> {
    let rooms = [manifest::codes::ALL, crate::sql::codes::ALL, crate::plan::codes::ALL, crate::testing::codes::ALL];
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

fn explain_product(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    let loaded = load::checked(&arguments.manifests, out)?;
    let product = loaded.product(&arguments.subject)?;
    let Some(query) = loaded.bound.queries.get(&product.name) else {
        let origin = match product.origin {
            crate::model::product::Origin::Source(_) => "a source brings its records in",
            _ => "another program writes its topic",
        };
        out.data(&format!("{} has no derivation: {origin}\n", product.name))?;
        return Ok(Exit::Worked);
    };
    let flow = dataflow(&loaded, product, query)?;
    out.data(&match arguments.format {
        Form::Text => report::explain_text(&flow, out.color),
        Form::Mermaid => report::explain_mermaid(&flow),
        Form::Json => report::explain_json(&flow),
    })?;
    Ok(Exit::Worked)
}

fn dataflow(loaded: &Loaded, product: &Product, query: &Query) -> Result<explain::Dataflow, Failure> {
    let flow = engine::Dataflow::compile(query).map_err(|error| Failure::new(Exit::Failed, error))?;
    let input = |(at, input): (usize, &crate::sql::query::Input)| {
        let of = loaded.mesh.products.get(&input.product);
        explain::Input {
            product: input.product.clone(),
            alias: input.alias.clone(),
            shape: shape_name(input.shape),
            key: of.map_or_else(Vec::new, |of| of.key.clone()),
            time: of.map_or_else(|| ROWTIME.into(), |of| of.time.field.clone()),
            disorder_ms: input.disorder_ms,
            restart: flow.rebuild_text(at),
        }
    };
    Ok(explain::Dataflow {
        product: product.name.clone(),
        shape: shape_name(product.shape),
        topic: product.topic.name.clone(),
        key: product.key.clone(),
        disorder_ms: query.inputs.iter().map(|input| input.disorder_ms).max().unwrap_or(0),
        inputs: query.inputs.iter().enumerate().map(input).collect(),
        root: operator(flow.explain(query)),
    })
}

fn operator(of: engine::Explained) -> explain::Operator {
    let edge = of.description.edge();
    let entries = of.entries.into_iter().map(|(noun, bytes)| (noun.to_owned(), bytes)).collect();
    explain::Operator {
        edge,
        name: of.description.operator,
        details: of.description.details.into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
        rekeyed: of.rekeyed,
        lag_ms: of.lag_ms,
        row_bytes: of.row_bytes,
        state: of.description.state.map(|state| explain::State {
            what: state.what,
            why: state.why,
            rebuilt: state.rebuilt,
            entries,
        }),
        inputs: of.inputs.into_iter().map(operator).collect(),
    }
}
