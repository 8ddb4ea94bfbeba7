//! `mesh schema`: the JSON Schema of the manifest format, for editors.

use clap::Args;

use super::exit::{Exit, Failure};
use super::out::Out;

/// Print the JSON Schema of the manifest format
#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments, out: &Out) -> Result<Exit, Failure> {
    let schema = crate::manifest::json_schema();
    out.data(&format!("{schema:#}\n"))?;
    Ok(Exit::Worked)
}
