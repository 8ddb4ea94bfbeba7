//! `mesh graph`: what is made from what.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};

use super::exit::{Exit, Failure};
use super::load::{self, Loaded, Manifests};
use super::out::Out;
use crate::model::Shape;

/// Show lineage: what is made from what
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,

    /// The form of the output
    #[arg(long, default_value = "text")]
    format: Form,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Mermaid,
}

pub(super) fn run(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    let loaded = load::checked(&arguments.manifests, out)?;
    let text = match arguments.format {
        Form::Text => text(&loaded),
        Form::Mermaid => mermaid(&loaded),
    };
    out.data(&text)?;
    Ok(Exit::Worked)
}

/// One tree for each product that is read by no other, down to what it is made from.
fn text(loaded: &Loaded) -> String {
    let read: std::collections::BTreeSet<&String> = loaded.bound.reads.values().flatten().collect();
    let mut text = String::new();
    for name in loaded.mesh.products.keys().filter(|name| !read.contains(name)) {
        branch(loaded, name, "", "", &mut text);
    }
    text
}

fn branch(loaded: &Loaded, name: &str, lead: &str, below: &str, text: &mut String) {
    let shape = loaded.mesh.products.get(name).map_or("?", |product| shape_name(product.shape));
    let _ = writeln!(text, "{lead}{name} ({shape})");
    let inputs: Vec<&String> = loaded.bound.reads.get(name).into_iter().flatten().collect();
    for (i, input) in inputs.iter().enumerate() {
        let last = i + 1 == inputs.len();
        let (lead, next) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        branch(loaded, input, &format!("{below}{lead}"), &format!("{below}{next}"), text);
    }
}

fn mermaid(loaded: &Loaded) -> String {
    let mut text = String::from("graph LR\n");
    for (name, product) in &loaded.mesh.products {
        let (open, close) = match product.shape {
            Shape::Table => ("[(", ")]"),
            Shape::Stream => ("([", "])"),
        };
        let _ = writeln!(text, "  {name}{open}\"{name}\"{close}");
    }
    for (name, inputs) in &loaded.bound.reads {
        for input in inputs {
            let _ = writeln!(text, "  {input} --> {name}");
        }
    }
    text
}

/// A shape's name as manifests write it.
pub(super) fn shape_name(shape: Shape) -> &'static str {
    match shape {
        Shape::Stream => "stream",
        Shape::Table => "table",
    }
}
