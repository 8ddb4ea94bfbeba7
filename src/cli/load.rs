//! Reading the manifests for a verb: files, environment, bound queries, and everything that is wrong with them, said.

use std::path::PathBuf;

use clap::Args;

use super::exit::{Exit, Failure};
use super::out::Out;
use crate::manifest;
use crate::model::diagnostic::has_errors;
use crate::model::{Diagnostics, Mesh, Product, Texts};
use crate::plan::Bound;
use crate::report;

/// Where the manifests are, and which environment is meant.
#[derive(Debug, Clone, Args)]
pub(super) struct Manifests {
    /// Manifest files or folders (read recursively)
    #[arg(short = 'f', long = "file", value_name = "PATH", default_value = "products")]
    pub(super) files: Vec<PathBuf>,

    /// The Environment to use
    #[arg(short = 'e', long = "environment", value_name = "NAME", default_value = "local")]
    pub(super) environment: String,
}

/// What was read.
pub(super) struct Loaded {
    pub(super) mesh: Mesh,
    pub(super) bound: Bound,
    pub(super) texts: Texts,
}

impl Loaded {
    /// The product of that name, written as in the manifest or as in SQL.
    pub(super) fn product(&self, name: &str) -> Result<&Product, Failure> {
        self.mesh.product_of_relation(name).ok_or_else(|| unknown_product(name, self.mesh.products.keys().map(String::as_str)))
    }
}

/// Says that a product is unknown, with the nearest known name.
pub(super) fn unknown_product<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let nearest = known.map(|other| (strsim::damerau_levenshtein(name, other), other)).min();
    let failure = Failure::new(Exit::Usage, format!("there is no product {name}"));
    match nearest {
        Some((distance, other)) if distance <= 3.max(name.len() / 3) => {
            failure.hint(format!("did you mean {other}? `mesh list` shows all"))
        }
        _ => failure.hint("`mesh list` shows all"),
    }
}

/// What could be read, and everything that is wrong with it.
pub(super) struct Read {
    /// `None` when there is no mesh to speak of.
    pub(super) loaded: Option<Loaded>,
    /// Of the documents.
    pub(super) diagnostics: Diagnostics,
    /// Of the queries and what they promise.
    pub(super) unbound: Diagnostics,
    pub(super) texts: Texts,
}

/// Reads the manifests and says nothing; fails only when the files are not there.
pub(super) fn read(manifests: &Manifests) -> Result<Read, Failure> {
    let overrides = manifest::Overrides { bootstrap: variable("MESH_BOOTSTRAP"), registry: variable("MESH_REGISTRY") };
    if let Some(missing) = manifests.files.iter().find(|path| !path.exists()) {
        let failure = Failure::new(Exit::Usage, format!("there is no file or folder {}", missing.display()));
        return Err(failure.hint("name the folder of the manifests with -f"));
    }
    let files = manifest::disk::Disk::new(&manifests.files)?;
    let (mesh, diagnostics, texts) = manifest::read(&files, &manifests.files, &manifests.environment, &overrides);
    let Some(mesh) = mesh else { return Ok(Read { loaded: None, diagnostics, unbound: Vec::new(), texts }) };
    let (bound, unbound) = crate::plan::bind(&mesh);
    Ok(Read { loaded: Some(Loaded { mesh, bound, texts: texts.clone() }), diagnostics, unbound, texts })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reads the manifests and says all that is wrong with them; fails when anything is an error.
pub(super) fn checked(manifests: &Manifests, out: &Out) -> Result<Loaded, Failure> {
    let Read { loaded, mut diagnostics, unbound, texts } = read(manifests)?;
    diagnostics.extend(unbound);
    say(&diagnostics, &texts, out);
    match loaded {
        Some(loaded) if !has_errors(&diagnostics) => Ok(loaded),
        _ => Err(Failure::said(Exit::Forbidden)),
    }
}

/// What verbs need that only look at what is published: the environment. Manifests may be absent or wrong.
pub(super) fn environment(manifests: &Manifests, out: &Out) -> Result<Loaded, Failure> {
    let present: Vec<PathBuf> = manifests.files.iter().filter(|path| path.exists()).cloned().collect();
    let Read { loaded, diagnostics, texts, .. } = read(&Manifests { files: present, ..manifests.clone() })?;
    loaded.ok_or_else(|| {
        say(&diagnostics, &texts, out);
        Failure::said(Exit::Forbidden)
    })
}

/// The same, but queries that can't be bound are left to the plan, which says what they mean for whom.
pub(super) fn documents(manifests: &Manifests, out: &Out) -> Result<Loaded, Failure> {
    let Read { loaded, mut diagnostics, unbound, texts } = read(manifests)?;
    let fatal = has_errors(&diagnostics);
    diagnostics.extend(unbound);
    say(&diagnostics, &texts, out);
    match loaded {
        Some(loaded) if !fatal => Ok(loaded),
        _ => Err(Failure::said(Exit::Forbidden)),
    }
}

/// Says diagnostics on stderr.
pub(super) fn say(diagnostics: &Diagnostics, texts: &Texts, out: &Out) {
    if !diagnostics.is_empty() {
        out.talk(&report::diagnostics(diagnostics, texts, out.talk_color));
    }
}
