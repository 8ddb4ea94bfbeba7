//! Files to a mesh, in one walk: list and parse the files; pick the environment; render and check every document against
//! the format; resolve products against the environment; check what documents say of each other.
//!
//! All that is wrong is collected. A mesh comes out whenever the environment could be read, without the documents that
//! are broken; the caller looks for errors among the diagnostics before acting on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::document::{DataProductSpec, DomainSpec, EnvironmentSpec, Kind, Metadata, PolicySpec, TeamSpec};
use super::environment::{self, Overrides};
use super::files::{self, Files, Named};
use super::json_schema::API_VERSION;
use super::template::{TemplateError, Templates, is_template};
use super::walk::{Rewritten, Walked, closest, walk};
use super::yaml::{self, Node, RefusalKind};
use super::{checks, codes, product};
use crate::model::diagnostic::{Code, Diagnostic, Diagnostics, Place, Texts};
use crate::model::environment::Environment;
use crate::model::mesh::{Domain, Mesh, Team};

/// Reads the manifests at `given` for the environment named. The environment variables that override `local`'s addresses
/// are handed in.
pub fn read(
    files: &dyn Files,
    given: &[PathBuf],
    environment: &str,
    overrides: &Overrides,
) -> (Option<Mesh>, Diagnostics, Texts) {
    let mut reading =
        Reading { files, texts: Texts::default(), order: Vec::new(), secrets: BTreeMap::new(), diagnostics: Vec::new() };
    let documents = reading.documents(given);
    let environment = reading.environment(&documents, environment, overrides);
    let templates = environment.as_ref().map(|environment| Templates::new(&environment.name, &environment.vars));
    let declared = reading.declared(&documents, templates.as_ref());
    let mesh = environment.map(|environment| reading.mesh(given, declared, environment, templates.as_ref()));
    reading.hide_secrets();
    let order = &reading.order;
    let position = |d: &Diagnostic| {
        let place = d.place.as_ref()?;
        let file = order.iter().position(|file| *file == place.file).unwrap_or(order.len());
        Some((file, place.clone()))
    };
    reading.diagnostics.sort_by_cached_key(position);
    (mesh, reading.diagnostics, reading.texts)
}

/// What is gathered while reading.
pub(super) struct Reading<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) texts: Texts,
    /// The manifest files, in the order they were read.
    order: Vec<Arc<str>>,
    /// Bytes of each file that hold a secret against the rules.
    pub(super) secrets: BTreeMap<Arc<str>, Vec<Range<usize>>>,
    pub(super) diagnostics: Diagnostics,
}

/// One document of a manifest file.
pub(super) struct Document {
    pub(super) kind: Kind,
    pub(super) node: Node,
    /// As places name it.
    pub(super) file: Arc<str>,
    /// The same as a path.
    pub(super) path: PathBuf,
    /// The file's folder, canonical.
    folder: PathBuf,
}

/// A document that was checked, as its own type.
pub(super) struct Declared<'d, S> {
    pub(super) document: &'d Document,
    pub(super) metadata: Metadata,
    pub(super) spec: S,
    pub(super) walked: Walked,
}

/// The documents by kind, each by its name.
#[derive(Default)]
pub(super) struct AllDeclared<'d> {
    /// The names of all documents by kind, of those too that are broken: what names them is not wrong.
    pub(super) names: BTreeMap<Kind, BTreeSet<String>>,
    pub(super) products: BTreeMap<String, Declared<'d, DataProductSpec>>,
    pub(super) domains: BTreeMap<String, Declared<'d, DomainSpec>>,
    pub(super) teams: BTreeMap<String, Declared<'d, TeamSpec>>,
}

impl Document {
    /// The name as it is written, where it is one.
    fn name(&self) -> Option<&Node> {
        self.node.get("metadata")?.get("name").filter(|name| matches!(name.value, yaml::Value::Scalar(_)))
    }
}

impl<S> Declared<'_, S> {
    /// The place of a part of the document: the longest known prefix of `pointer`.
    pub(super) fn place(&self, pointer: &str) -> Place {
        let mut pointer = pointer;
        loop {
            match (self.walked.places.get(pointer), pointer.rfind('/')) {
                (Some(place), _) => return place.clone(),
                (None, Some(cut)) => pointer = &pointer[..cut],
                (None, None) => return Place::start_of(self.document.file.clone()),
            }
        }
    }

    /// The place of the document's name.
    pub(super) fn name_place(&self) -> Place {
        self.place("/metadata/name")
    }
}

impl<'a> Reading<'a> {
    pub(super) fn error(&mut self, code: Code, place: impl Into<Option<Place>>, message: String, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(code, place, message).help(help));
    }

    /// All documents of the given files whose kind is known.
    fn documents(&mut self, given: &[PathBuf]) -> Vec<Document> {
        let mut documents = Vec::new();
        let mut paths: Vec<PathBuf> = Vec::new();
        for path in given {
            match self.files.list(path) {
                Ok(found) if found.is_empty() => {
                    let message = format!("no manifests below {}", path.display());
                    self.error(codes::UNREADABLE, None, message, "manifests are files that end in .yaml or .yml");
                }
                Ok(found) => paths.extend(found),
                Err(error) => {
                    let message = format!("{}: {}", path.display(), files::trouble(&error));
                    self.error(codes::UNREADABLE, None, message, "give a file or a directory with -f");
                }
            }
        }
        let mut seen = BTreeSet::new();
        for path in paths.into_iter().filter(|path| seen.insert(path.clone())) {
            self.documents_of(path, &mut documents);
        }
        documents
    }

    fn documents_of(&mut self, path: PathBuf, documents: &mut Vec<Document>) {
        let Some((file, text)) = self.text(&path, &path, yaml::MAX_BYTES, None) else { return };
        self.order.push(file.clone());
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = match self.files.canonical(folder) {
            Ok(folder) => folder,
            Err(error) => {
                let message = format!("its folder: {}", files::trouble(&error));
                return self.error(codes::UNREADABLE, Place::start_of(file), message, "give a file or a directory with -f");
            }
        };
        let (nodes, refusals) = yaml::read(&text);
        if !refusals.is_empty() {
            self.texts.insert(file.clone(), without_likely_secrets(&text));
        }
        for refusal in refusals {
            let code = match refusal.kind {
                RefusalKind::Syntax => codes::SYNTAX,
                RefusalKind::Unsupported => codes::UNSUPPORTED_YAML,
                RefusalKind::Twice => codes::GIVEN_TWICE,
                RefusalKind::TooLarge => codes::TOO_LARGE,
            };
            self.error(code, Place::new(file.clone(), refusal.bytes), refusal.message, refusal.help);
        }
        for node in nodes {
            if let Some(kind) = self.kind(&node, &file) {
                documents.push(Document { kind, node, file: file.clone(), path: path.clone(), folder: folder.clone() });
            }
        }
    }

    /// A document's kind, looked at before anything else, so that every other message speaks of one kind only.
    fn kind(&mut self, node: &Node, file: &Arc<str>) -> Option<Kind> {
        let names: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
        let help = format!("a document begins with `apiVersion: {API_VERSION}` and `kind:`, one of {}", names.join(", "));
        let Some(entry) = node.entry("kind") else {
            self.error(
                codes::UNKNOWN_KIND,
                Place::new(file.clone(), node.bytes.clone()),
                "a document without a `kind`".into(),
                help,
            );
            return None;
        };
        let name = entry.node.text().unwrap_or_default();
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        if found.is_none() {
            let help = closest(name, &names).map_or(help, |close| format!("did you mean `{close}`?"));
            let shown = if entry.node.bytes.is_empty() { &entry.key_bytes } else { &entry.node.bytes };
            self.error(codes::UNKNOWN_KIND, Place::new(file.clone(), shown.clone()), "an unknown `kind`".into(), help);
        }
        found
    }

    /// A text file, kept under the name that is shown, for showing places in it. `from` is where it is named.
    pub(super) fn text(&mut self, path: &Path, shown: &Path, limit: u64, from: Option<&Place>) -> Option<(Arc<str>, Arc<str>)> {
        let file: Arc<str> = shown.display().to_string().into();
        if let Some(text) = self.texts.get(&file) {
            return Some((file.clone(), text.clone()));
        }
        let trouble = match self.files.read(path, limit) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => {
                    let text: Arc<str> = text.strip_prefix('\u{feff}').unwrap_or(&text).into();
                    self.texts.insert(file.clone(), text.clone());
                    return Some((file, text));
                }
                Err(_) => "it is not UTF-8 text".into(),
            },
            Err(error) if files::is_outside(&error) => {
                self.outside(from.cloned().unwrap_or(Place::start_of(file)), "leads out of the project root");
                return None;
            }
            Err(error) => files::trouble(&error),
        };
        let help =
            if from.is_some() { "paths are relative to the manifest's own folder" } else { "see its name, permissions and size" };
        let place = from.cloned().unwrap_or(Place::start_of(file.clone()));
        self.error(codes::UNREADABLE, place, format!("{file}: {trouble}"), help);
        None
    }

    fn outside(&mut self, place: Place, reason: &str) {
        let help = "files lie below the project root, the nearest folder above the manifests with a `.git`, and are named relative to the manifest";
        self.error(codes::OUTSIDE, place, format!("the path {reason}"), help);
    }

    /// The file that a document names at `pointer`.
    pub(super) fn named<S>(&mut self, declared: &Declared<'_, S>, name: &str, pointer: &str) -> Option<Named> {
        let document = declared.document;
        match files::named(name, &document.path, &document.folder, self.files.root()) {
            Ok(named) => Some(named),
            Err(refused) => {
                self.outside(declared.place(pointer), refused.reason());
                None
            }
        }
    }

    /// Checks a document against its kind, and its name.
    fn declare<'d, S: for<'x> Deserialize<'x>>(
        &mut self,
        document: &'d Document,
        rewrite: &dyn Fn(&str) -> Rewritten,
    ) -> Option<Declared<'d, S>> {
        #[derive(Deserialize)]
        struct Envelope<S> {
            metadata: Metadata,
            spec: S,
        }
        let mut walked = walk(document.kind, &document.node, &document.file, rewrite);
        self.diagnostics.append(&mut walked.diagnostics);
        if !walked.secrets.is_empty() {
            self.secrets.entry(document.file.clone()).or_default().append(&mut walked.secrets);
        }
        if let Some(name) = document.name() {
            self.check_name(document, name);
        }
        let value = walked.value.clone()?;
        match serde_json::from_value::<Envelope<S>>(value) {
            Ok(Envelope { metadata, spec }) => Some(Declared { document, metadata, spec, walked }),
            Err(error) => {
                let place = Place::new(document.file.clone(), document.node.bytes.clone());
                self.error(
                    codes::BAD_VALUE,
                    place,
                    format!("a {} that can't be read: {error}", document.kind.noun()),
                    "compare it with the format",
                );
                None
            }
        }
    }

    fn check_name(&mut self, document: &Document, name: &Node) {
        let text = name.text().unwrap_or_default();
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() || text.len() > 63 || !text.chars().all(fits) || text.starts_with('-') || text.ends_with('-') {
            let noun = document.kind.noun();
            let message = format!("the name of a {noun} is lower-case letters, digits and hyphens between them, at most 63");
            let better: String = text.to_lowercase().chars().map(|c| if fits(c) { c } else { '-' }).take(63).collect();
            let better = better.trim_matches('-');
            let help = if better.is_empty() { "such as `stations-info`".into() } else { format!("such as `{better}`") };
            self.error(codes::BAD_VALUE, Place::new(document.file.clone(), name.bytes.clone()), message, help);
        }
    }

    /// The environment named, its variables replaced. The others are only checked for their form.
    fn environment(&mut self, documents: &[Document], name: &str, overrides: &Overrides) -> Option<Environment> {
        let mut names: BTreeMap<String, Place> = BTreeMap::new();
        let (mut selected, mut broken) = (None, false);
        for document in documents.iter().filter(|d| d.kind == Kind::Environment) {
            let own_name = document.name();
            let chosen = own_name.and_then(Node::text) == Some(name);
            let files = self.files;
            let expand = |text: &str| environment::expand(text, chosen.then_some(&|name: &str| files.env(name)));
            let declared = self.declare::<EnvironmentSpec>(document, &expand);
            if let (Some(own_name), Some(node)) = (own_name.and_then(Node::text), own_name) {
                let place = Place::new(document.file.clone(), node.bytes.clone());
                self.once(&mut names, Kind::Environment, own_name, place);
            }
            match declared {
                Some(declared) if chosen && selected.is_none() => selected = self.resolve_environment(&declared, overrides),
                _ => {}
            }
            broken |= chosen;
        }
        match selected {
            Some(environment) => Some(environment),
            // What is wrong with it was said already.
            None if broken => None,
            None if name == Environment::local().name => Some(self.override_local(Environment::local(), overrides)),
            None => {
                let mut known: Vec<&str> = names.keys().map(String::as_str).collect();
                if !known.contains(&"local") {
                    known.push("local");
                }
                let help = format!("known are {}", known.join(", "));
                let help = closest(name, &known).map_or(help.clone(), |close| format!("did you mean `{close}`? {help}"));
                self.error(codes::UNKNOWN_ENVIRONMENT, None, format!("there is no environment `{name}`"), help);
                None
            }
        }
    }

    /// Complains when a name was declared before.
    fn once(&mut self, names: &mut BTreeMap<String, Place>, kind: Kind, name: &str, place: Place) -> bool {
        if let Some(first) = names.get(name) {
            let message = format!("the {} `{name}` is declared twice", kind.noun());
            let diagnostic = Diagnostic::error(codes::DECLARED_TWICE, place, message).help("rename or remove one of the two");
            self.diagnostics.push(diagnostic.related(first.clone(), "first declared here"));
            return false;
        }
        names.insert(name.to_owned(), place);
        true
    }

    /// The other documents, checked. Without templates, what is a template is only checked for its place.
    fn declared<'d>(&mut self, documents: &'d [Document], templates: Option<&Templates>) -> AllDeclared<'d> {
        let render = |text: &str| match templates {
            _ if !is_template(text) => Rewritten::Same,
            None => Rewritten::Unknown,
            Some(templates) => match templates.render(text) {
                Ok(text) => Rewritten::Text(text),
                Err(error) => {
                    let (code, message) = template_message(&error, text.lines().count() > 1);
                    Rewritten::Refused { code, message, help: error.help }
                }
            },
        };
        let mut all = AllDeclared::default();
        let mut names: BTreeMap<Kind, BTreeMap<String, Place>> = BTreeMap::new();
        for document in documents {
            if let Some(name) = document.name().and_then(Node::text) {
                all.names.entry(document.kind).or_default().insert(name.to_owned());
            }
            let names = names.entry(document.kind).or_default();
            match document.kind {
                Kind::DataProduct => self.keep(document, &render, names, &mut all.products),
                Kind::Domain => self.keep(document, &render, names, &mut all.domains),
                Kind::Team => self.keep(document, &render, names, &mut all.teams),
                Kind::Policy => self.policy(document, &render),
                Kind::Environment => {}
            }
        }
        all
    }

    fn keep<'d, S: for<'x> Deserialize<'x>>(
        &mut self,
        document: &'d Document,
        render: &dyn Fn(&str) -> Rewritten,
        names: &mut BTreeMap<String, Place>,
        into: &mut BTreeMap<String, Declared<'d, S>>,
    ) {
        let Some(declared) = self.declare::<S>(document, render) else { return };
        if self.once(names, document.kind, &declared.metadata.name, declared.name_place()) {
            into.insert(declared.metadata.name.clone(), declared);
        }
    }

    fn policy(&mut self, document: &Document, render: &dyn Fn(&str) -> Rewritten) {
        let Some(declared) = self.declare::<PolicySpec>(document, render) else { return };
        let message =
            format!("the policy `{}` would not be enforced: this version does not carry out policies", declared.metadata.name);
        self.error(codes::POLICY_NOT_YET, declared.name_place(), message, "remove it, or keep it out of the given folders");
    }

    fn mesh(
        &mut self,
        given: &[PathBuf],
        declared: AllDeclared<'_>,
        environment: Environment,
        templates: Option<&Templates>,
    ) -> Mesh {
        let mut products = BTreeMap::new();
        for (name, product) in &declared.products {
            if let Some(product) = product::resolve(self, product, &environment, templates) {
                products.insert(name.clone(), product);
            }
        }
        checks::across(&mut self.diagnostics, &declared, &products);
        let domain = |d: Declared<'_, DomainSpec>| Domain {
            name: d.metadata.name,
            display_name: d.spec.display_name,
            executive_owner: d.spec.executive_owner,
            executive_contact: d.spec.executive_contact,
        };
        let team = |t: Declared<'_, TeamSpec>| Team {
            name: t.metadata.name,
            display_name: t.spec.display_name,
            channel: t.spec.channel,
            slack_alias: t.spec.slack_alias,
        };
        Mesh {
            products,
            domains: declared.domains.into_iter().map(|(name, d)| (name, domain(d))).collect(),
            teams: declared.teams.into_iter().map(|(name, t)| (name, team(t))).collect(),
            environment,
            root: self.files.root().to_path_buf(),
            root_id: self.root_id(given),
        }
    }

    /// The given paths relative to the root, in order, with slashes.
    fn root_id(&self, given: &[PathBuf]) -> String {
        let below = |path: &PathBuf| {
            let real = self.files.canonical(path).ok()?;
            let below = real.strip_prefix(self.files.root()).ok()?.to_string_lossy().replace('\\', "/");
            Some(if below.is_empty() { ".".to_owned() } else { below })
        };
        let mut ids: Vec<String> = given.iter().filter_map(below).collect();
        ids.sort();
        ids.dedup();
        ids.join(",")
    }

    /// Blots out secrets that stand in manifests against the rules, so that no report shows their line.
    fn hide_secrets(&mut self) {
        for (file, secrets) in std::mem::take(&mut self.secrets) {
            if let Some(text) = self.texts.get(&file) {
                let blotted = blot(text, &secrets);
                self.texts.insert(file, blotted);
            }
        }
    }
}

/// The code and the words for a template's error.
pub(super) fn template_message(error: &TemplateError, several_lines: bool) -> (Code, String) {
    let code = if error.undefined { codes::UNDEFINED_VARIABLE } else { codes::TEMPLATE };
    let line = error.line.filter(|_| several_lines).map_or(String::new(), |line| format!(" (line {line} of the template)"));
    (code, format!("{}{line}", error.message))
}

/// The text with some bytes replaced by as many `*`.
fn blot(text: &str, secrets: &[Range<usize>]) -> String {
    let hidden = |at: usize| secrets.iter().any(|range| range.contains(&at));
    let mut blotted = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if hidden(at) && c != '\n' {
            blotted.extend(std::iter::repeat_n('*', c.len_utf8()));
        } else {
            blotted.push(c);
        }
    }
    blotted
}

/// A text that could not be read as YAML, with what follows a secret's usual name blotted out.
fn without_likely_secrets(text: &str) -> String {
    let mut secrets = Vec::new();
    let mut from = 0;
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        for word in ["password", "bearer", "token", "secret", "secret_key", "access_key"] {
            if let Some(at) = lower.find(&format!("{word}:")) {
                let value = at + word.len() + 1;
                if !lower[value..].trim_start().starts_with('{') {
                    secrets.push(from + value..from + line.len());
                }
            }
        }
        from += line.len();
    }
    blot(text, &secrets)
}
