//! `mesh get`: one product, as it is published.

use std::fmt::Write as _;

use clap::Args;

use super::exit::{Exit, Failure};
use super::load::{self, Manifests};
use super::out::{Out, table};
use super::{graph::shape_name, published};
use crate::plan::entry::{Catalog, ProductEntry};

/// Show one published product: its promise, owner, columns and lineage
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The product
    name: String,

    #[command(flatten)]
    manifests: Manifests,

    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    let loaded = load::environment(&arguments.manifests, out)?;
    let catalog = super::runtime()?.block_on(published::catalog(&loaded))?;
    let entry = published::find(&catalog, &arguments.name)?;
    let text = if arguments.json {
        serde_json::to_string_pretty(entry).map_err(|error| Failure::new(Exit::Failed, error))? + "\n"
    } else {
        describe(entry, &catalog)
    };
    out.data(&text)?;
    Ok(Exit::Worked)
}

fn describe(entry: &ProductEntry, catalog: &Catalog) -> String {
    let mut text = String::new();
    let version = entry.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    let _ = writeln!(text, "{}{version} ({})", entry.name, shape_name(entry.shape));
    if let Some(description) = &entry.description {
        let _ = writeln!(text, "{}", description.trim());
    }
    text.push('\n');
    for (name, value) in facts(entry, catalog) {
        let _ = writeln!(text, "{name:<12}{value}");
    }
    text.push('\n');
    let column = |column: &crate::plan::entry::ColumnEntry| {
        vec![column.name.clone(), column.type_name.clone(), if column.nullable { "may be null" } else { "required" }.into()]
    };
    text.push_str(&table(&["COLUMN", "TYPE", ""], &entry.contract.columns.iter().map(column).collect::<Vec<_>>()));
    text
}

/// What there is to say, each with its name; what is not known is left out.
fn facts(entry: &ProductEntry, catalog: &Catalog) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(owner) = &entry.owner {
        let contact = owner.contact.as_deref().map(|contact| format!(" <{contact}>")).unwrap_or_default();
        facts.push(("owner", format!("{}{contact}", owner.name)));
    }
    if let Some(name) = &entry.team {
        let team = catalog.teams.get(name).map(|team| &team.value);
        let channel = team.and_then(|team| team.channel.as_deref()).map(|channel| format!(" {channel}")).unwrap_or_default();
        facts.push(("team", format!("{}{channel}", team.and_then(|team| team.display_name.as_deref()).unwrap_or(name))));
    }
    if let Some(name) = &entry.domain {
        let domain = catalog.domains.get(name).map(|domain| &domain.value);
        facts.push(("domain", domain.and_then(|domain| domain.display_name.as_deref()).unwrap_or(name).to_owned()));
    }
    if !entry.tags.is_empty() {
        facts.push(("tags", entry.tags.join(", ")));
    }
    facts.push(("topic", entry.topic.clone()));
    if !entry.key.is_empty() {
        facts.push(("key", entry.key.join(", ")));
    }
    facts.push((
        "schema",
        format!(
            "{} {}, {}",
            entry.contract.format.registry_name(),
            entry.contract.value_subject,
            entry.contract.compatibility.name()
        ),
    ));
    let origin = &entry.lineage.origin;
    facts.push((
        "made by",
        if entry.lineage.inputs.is_empty() {
            origin.clone()
        } else {
            format!("{origin} from {}", entry.lineage.inputs.join(", "))
        },
    ));
    let readers: Vec<&str> = catalog
        .products
        .values()
        .filter(|other| other.lineage.inputs.contains(&entry.name))
        .map(|other| other.name.as_str())
        .collect();
    if !readers.is_empty() {
        facts.push(("read by", readers.join(", ")));
    }
    facts
}
