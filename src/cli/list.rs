//! `mesh list`: the products that are published.

use clap::Args;

use super::exit::{Exit, Failure};
use super::load::{self, Manifests};
use super::out::{Out, table};
use super::{graph::shape_name, published};

/// List the products that are published
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,

    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    let loaded = load::environment(&arguments.manifests, out)?;
    let catalog = super::runtime()?.block_on(published::catalog(&loaded))?;
    if catalog.products.is_empty() {
        out.talk("no product is published yet: `mesh apply` does it");
        return Ok(Exit::Worked);
    }
    if arguments.json {
        for entry in catalog.products.values() {
            let line = serde_json::to_string(entry).map_err(|error| Failure::new(Exit::Failed, error))?;
            out.data(&format!("{line}\n"))?;
        }
        return Ok(Exit::Worked);
    }
    let dash = || "-".to_owned();
    let rows: Vec<Vec<String>> = catalog
        .products
        .values()
        .map(|entry| {
            let owner = entry.owner.as_ref().map_or_else(dash, |owner| owner.name.clone());
            let (domain, team) = (entry.domain.clone().unwrap_or_else(dash), entry.team.clone().unwrap_or_else(dash));
            vec![
                entry.name.clone(),
                shape_name(entry.shape).into(),
                domain,
                team,
                owner,
                entry.lineage.origin.clone(),
                entry.topic.clone(),
            ]
        })
        .collect();
    out.data(&table(&["PRODUCT", "SHAPE", "DOMAIN", "TEAM", "OWNER", "ORIGIN", "TOPIC"], &rows))?;
    Ok(Exit::Worked)
}
