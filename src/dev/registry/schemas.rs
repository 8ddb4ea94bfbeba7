//! Schemas on their way in: read with what they refer to, brought into the form in which they are kept, compared with what
//! is there, registered and looked up.
//!
//! Two schemas of a subject are one version when text, references and metadata are the same (see [`Guid`]), and also when
//! they differ in what [`matches`] leaves aside.

use std::collections::BTreeSet;

use super::errors::Refusal;
use super::inline;
use super::records::{self, Config, Metadata, Mode, Record, Reference};
use super::requests::Posted;
use super::store::{Guid, State, Version, Which};
use super::subject::Subject;
use crate::model::product::{Compatibility, Format};
use crate::schema::{self, Schema, UNDECIDED};

/// The property under which a version's number is kept in the metadata, where it was asked for.
const VERSION: &str = "confluent:version";
/// The property that lists names of fields which are not to be used.
const RESERVED: &str = "confluent:reserved";
/// The most schemas that one may refer to, directly and through others.
const MOST_REFERENCES: usize = 1_000;
/// How deep references may refer on.
const DEEPEST: usize = 60;

/// Where a schema is registered, and how an answer shows it.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub subject: String,
    pub version: i32,
    pub id: i32,
    pub schema: Kept,
    /// Time and whether it is deleted, where the answer tells.
    pub since: Option<(i64, bool)>,
}

/// A schema in the form in which it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub format: Format,
    pub references: Vec<Reference>,
    pub metadata: Option<Metadata>,
    pub text: String,
}

impl Kept {
    pub(super) fn guid(&self) -> Guid {
        Guid::of(&self.text, &self.references, self.metadata.as_ref())
    }
}

impl From<&Version> for Kept {
    fn from(version: &Version) -> Kept {
        Kept {
            format: version.format,
            references: version.references.clone(),
            metadata: version.metadata.clone(),
            text: version.text.clone(),
        }
    }
}

impl From<&Version> for Placed {
    fn from(version: &Version) -> Placed {
        Placed {
            subject: version.subject.clone(),
            version: version.version,
            id: version.id,
            schema: Kept::from(version),
            since: Some((version.timestamp, version.deleted)),
        }
    }
}

/// A schema that was read.
#[derive(Debug)]
struct Read {
    kept: Kept,
    schema: Schema,
    /// The text as it would be kept if it were posted as it is kept; only after normalising does that differ.
    plain: String,
}

// Reading.

/// Reads what was posted; `None` for an empty text.
fn read(state: &State, subject: &str, posted: &Posted, normalize: bool) -> Result<Option<Read>, Refusal> {
    if posted.text.trim().is_empty() {
        return Ok(None);
    }
    let format = records::format(&posted.kind);
    let format = format.ok_or_else(|| Refusal::invalid_schema(format!("Invalid schema type {}", posted.kind)))?;
    let invalid = |why: String| Refusal::invalid_schema(format!("Invalid schema: {why}"));
    let mut references = posted.references.clone();
    for reference in &mut references {
        if reference.version == -1 {
            let target = Subject::of(subject).refer(&reference.subject).to_string();
            reference.version = state.latest(&target).map_or(-1, |latest| latest.version);
        }
    }
    let resolved = resolve(state, subject, &references).map_err(invalid)?;
    let schema = schema::parse(format, &posted.text, &resolved).map_err(|error| invalid(error.message))?;
    if normalize {
        references.sort_by(|a, b| (&a.subject, a.version).cmp(&(&b.subject, b.version)));
        references.dedup();
    }
    let strict = state.config_in_scope(subject).validate_fields == Some(true);
    if strict && let Some(field) = fields(&schema).iter().find(|field| field.starts_with("$$")) {
        return Err(invalid(format!("the name of field {field} begins with $$")));
    }
    let text = schema.stored(normalize);
    let is_whole = format == Format::Avro && references.is_empty();
    let plain = if normalize && is_whole { read_again(&text) } else { text.clone() };
    let kept = Kept { format, references, metadata: posted.metadata.clone(), text };
    Ok(Some(Read { kept, schema, plain }))
}

/// The texts of all that `references` lead to. A name is followed once, wherever it is met again.
pub(super) fn resolve(state: &State, subject: &str, references: &[Reference]) -> Result<Vec<schema::Reference>, String> {
    follow(state, subject, references, &mut BTreeSet::new(), 0)
}

fn follow(
    state: &State,
    subject: &str,
    references: &[Reference],
    met: &mut BTreeSet<String>,
    depth: usize,
) -> Result<Vec<schema::Reference>, String> {
    if depth > DEEPEST {
        return Err(format!("references that refer on more than {DEEPEST} times"));
    }
    let mut resolved = Vec::new();
    for Reference { name, subject: of, version } in references {
        let target = Subject::of(subject).refer(of).to_string();
        let found = state.version(&target, *version, Which::All);
        let found = found.ok_or_else(|| format!("it refers to version {version} of subject '{target}', which does not exist"))?;
        if !met.insert(name.clone()) {
            continue;
        }
        if met.len() > MOST_REFERENCES {
            return Err(format!("more than {MOST_REFERENCES} references"));
        }
        let below = follow(state, &target, &found.references, met, depth + 1)?;
        resolved.push(schema::Reference { name: name.clone(), text: found.text.clone(), references: below });
    }
    Ok(resolved)
}

/// What the text of a version means.
pub(super) fn meaning<'a>(state: &State, version: &'a Version) -> Result<&'a Schema, String> {
    let read = || {
        let resolved = resolve(state, &version.subject, &version.references)?;
        schema::parse(version.format, &version.text, &resolved).map_err(|error| error.message)
    };
    version.read.get_or_init(read).as_ref().map_err(Clone::clone)
}

// Comparing.

/// Whether `new` is the version: the same schema, although references are written into the one and referred to by the
/// other, or although one keeps its version's number in the metadata.
fn matches(state: &State, new: &Read, old: &Version) -> bool {
    if new.kept.format != old.format || !same_metadata(new.kept.metadata.as_ref(), old) {
        return false;
    }
    let inlines = new.kept.references.is_empty() && !old.references.is_empty();
    if inlines && new.kept.format == Format::Avro {
        return written_out(state, old).is_some_and(|text| text == new.plain);
    }
    (inlines || new.kept.references == old.references) && (new.kept.text == old.text || new.plain == old.text)
}

fn read_again(avro: &str) -> String {
    schema::parse(Format::Avro, avro, &[]).map_or_else(|_| avro.to_owned(), |schema| schema.stored(false))
}

/// An Avro version's text with what it refers to written into it.
pub(super) fn written_out(state: &State, version: &Version) -> Option<String> {
    let resolved = resolve(state, &version.subject, &version.references).ok()?;
    let whole = inline::write_out(&version.text, &resolved)?;
    schema::parse(Format::Avro, &whole, &[]).ok().map(|schema| schema.stored(false))
}

fn same_metadata(new: Option<&Metadata>, old: &Version) -> bool {
    let number = |metadata: Option<&Metadata>| metadata?.properties.get(VERSION)?.parse::<i32>().ok();
    let without = |metadata: Option<&Metadata>| {
        let mut metadata = metadata.cloned().unwrap_or_default();
        metadata.properties.remove(VERSION);
        metadata
    };
    match (number(new), number(old.metadata.as_ref())) {
        (None, Some(_)) => new.cloned().unwrap_or_default() == without(old.metadata.as_ref()),
        (Some(number), None) => number == old.version && without(new) == old.metadata.clone().unwrap_or_default(),
        _ => new == old.metadata.as_ref(),
    }
}

/// What speaks against a schema, given the versions before it, oldest first: `TYPE path` each, as Confluent names them.
fn incompatibilities(state: &State, config: &Config, new: &Read, before: &[&Version]) -> Vec<String> {
    let level = config.compatibility_level.unwrap_or(Compatibility::Backward);
    let misused = if config.validate_fields == Some(true) { misused(new, before.last().copied()) } else { Vec::new() };
    if level == Compatibility::None || !misused.is_empty() {
        return misused;
    }
    let group = |metadata: Option<&Metadata>| metadata?.properties.get(config.compatibility_group.as_ref()?).cloned();
    let compared = before
        .iter()
        .rev()
        .filter(|old| config.compatibility_group.is_none() || group(new.kept.metadata.as_ref()) == group(old.metadata.as_ref()));
    for old in compared.take(if level.transitive() { usize::MAX } else { 1 }) {
        let mut reasons: Vec<String> = Vec::new();
        match meaning(state, old) {
            _ if old.format != new.kept.format => reasons.push("Incompatible because of different schema type".to_owned()),
            Err(why) => reasons.push(format!("Version {} cannot be read: {why}", old.version)),
            Ok(meaning) => {
                for found in schema::check(level, &new.schema, std::slice::from_ref(meaning)) {
                    let undecided = found.kind == UNDECIDED;
                    reasons.push(if undecided {
                        found.message
                    } else {
                        format!("{} {}", found.kind, found.path).trim_end().to_owned()
                    });
                }
            }
        }
        if !reasons.is_empty() {
            let mut told = BTreeSet::new();
            reasons.retain(|reason| told.insert(reason.clone()));
            return reasons;
        }
    }
    Vec::new()
}

/// What `validateFields` finds: the metadata may reserve names of fields, which must then not be used, and stay reserved.
fn misused(new: &Read, before: Option<&Version>) -> Vec<String> {
    let reserved = |metadata: Option<&Metadata>| -> BTreeSet<String> {
        let names = metadata.and_then(|metadata| metadata.properties.get(RESERVED)).map(String::as_str).unwrap_or_default();
        names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let now = reserved(new.kept.metadata.as_ref());
    let before = reserved(before.and_then(|before| before.metadata.as_ref()));
    let freed = before.difference(&now).map(|name| format!("The reserved field {name} is not reserved any more"));
    let fields = fields(&new.schema);
    freed.chain(now.intersection(&fields).map(|name| format!("The field {name} is reserved by the metadata"))).collect()
}

/// The names of a schema's fields, those of its first message in Protobuf.
fn fields(schema: &Schema) -> BTreeSet<String> {
    let columns = schema.columns();
    let known = columns.row_type.fields().iter().map(|field| field.name().clone());
    known.chain(columns.unsupported.into_iter().map(|(name, _)| name)).collect()
}

/// What speaks against a schema in the subject. `number` is the version that it is held against; all, if `None`.
///
/// # Errors
/// It is no schema.
pub(super) fn check(
    state: &State,
    subject: &str,
    posted: &Posted,
    normalize: bool,
    number: Option<i32>,
) -> Result<Vec<String>, Refusal> {
    let config = state.config_in_scope(subject);
    let new = read(state, subject, posted, normalize || config.normalize == Some(true))?;
    let new = new.ok_or_else(|| Refusal::invalid_schema("Empty schema"))?;
    let before: Vec<&Version> = match number {
        Some(number) => state.version(subject, number, Which::Live).into_iter().collect(),
        None => state.versions(subject, Which::Live).collect(),
    };
    Ok(incompatibilities(state, &config, &new, &before))
}

// Looking up.

/// Where a schema is registered in the subject, or in the subject of that name in another context.
///
/// # Errors
/// It is no schema.
pub(super) fn look_up(
    state: &State,
    subject: &str,
    posted: &Posted,
    normalize: bool,
    which: Which,
) -> Result<Option<Placed>, Refusal> {
    let normalize = normalize || state.config_in_scope(subject).normalize == Some(true);
    let found = look_up_here(state, subject, posted, normalize, which)?;
    if found.is_some() {
        return Ok(found);
    }
    let elsewhere = state.elsewhere(subject);
    Ok(elsewhere.iter().find_map(|subject| look_up_here(state, subject, posted, normalize, which).ok().flatten()))
}

fn look_up_here(state: &State, subject: &str, posted: &Posted, normalize: bool, which: Which) -> Result<Option<Placed>, Refusal> {
    let Some(new) = read(state, subject, posted, normalize)? else { return Ok(None) };
    if let Some(found) = look_up_read(state, subject, &new, which) {
        return Ok(Some(found));
    }
    // As it would be registered: with the metadata of the version before.
    let Some(before) = state.latest(subject) else { return Ok(None) };
    let metadata = merged_metadata(&state.config_in_scope(subject), posted, Some(before), None);
    if metadata.is_none() || metadata == posted.metadata {
        return Ok(None);
    }
    let new = Read { kept: Kept { metadata, ..new.kept }, ..new };
    Ok(look_up_read(state, subject, &new, which))
}

fn look_up_read(state: &State, subject: &str, new: &Read, which: Which) -> Option<Placed> {
    if let Some((id, versions)) = state.registered(new.kept.guid(), subject) {
        let number = versions.get(&Subject::of(subject)).copied();
        if let Some(version) = number.filter(|number| state.version(subject, *number, which).is_some()) {
            return Some(Placed { subject: subject.to_owned(), version, id, schema: new.kept.clone(), since: None });
        }
    }
    state.versions(subject, which).rev().find(|old| matches(state, new, old)).map(Placed::from)
}

// Registering.

/// Registers a schema: the records to write, none if it is there, and where it is then.
///
/// # Errors
/// It is no schema, incompatible, or the subject's mode does not allow it.
pub(super) fn register(state: &State, subject: &str, posted: &Posted, normalize: bool) -> Result<(Vec<Record>, Placed), Refusal> {
    let config = state.config_in_scope(subject);
    let normalize = normalize || config.normalize == Some(true);
    if config.default_metadata.is_none()
        && config.override_metadata.is_none()
        && let Some(found) = registered_already(state, subject, posted, normalize)?
    {
        return Ok((Vec::new(), found));
    }
    let mode = state.mode_in_scope(subject);
    check_mode(subject, posted, mode)?;
    let before: Vec<&Version> = state.versions(subject, Which::Live).collect();
    let next = state.versions(subject, Which::All).map(|old| old.version.saturating_add(1)).max().unwrap_or(1);
    let posted = if mode == Mode::Import { posted.clone() } else { complete(&config, posted, before.last().copied(), next)? };
    let new = read(state, subject, &posted, normalize)?.ok_or_else(|| Refusal::invalid_schema("Empty schema"))?;

    let known = state.registered(new.kept.guid(), subject).map(|(known, _)| known);
    let known = known.filter(|known| posted.id < 0 || posted.id == *known);
    let id = known.unwrap_or(posted.id);
    if posted.version == 0
        && let Some((version, id)) = same_before(state, subject, &new, known, id, &before)
    {
        return Ok((Vec::new(), Placed { subject: subject.to_owned(), version, id, schema: new.kept, since: None }));
    }
    if mode != Mode::Import {
        let reasons = incompatibilities(state, &config, &new, &before);
        if !reasons.is_empty() {
            return Err(Refusal::incompatible(subject, &reasons));
        }
        if posted.version > 0 && posted.version != next {
            let message = format!("Version is not one more than previous version {}", next.saturating_sub(1));
            return Err(Refusal::invalid_schema(message));
        }
    }
    let version = if posted.version > 0 { posted.version } else { next };
    let id = if id >= 0 { not_another(state, subject, id, &new.kept)? } else { next_id(state, subject)? };
    let place = Placed { subject: subject.to_owned(), version, id, schema: new.kept, since: None };
    Ok((records_of(state, &place), place))
}

/// Version and id of a schema that is in the subject already: under the id that is `known` of it in the subject's context,
/// or as a version that matches.
fn same_before(state: &State, subject: &str, new: &Read, known: Option<i32>, id: i32, before: &[&Version]) -> Option<(i32, i32)> {
    let place = Subject::of(subject);
    let number = known.and_then(|_| state.registered(new.kept.guid(), subject)?.1.get(&place).copied());
    let live = number.filter(|number| state.version(subject, *number, Which::Live).is_some());
    let same = || before.iter().rev().find(|old| (id < 0 || id == old.id) && matches(state, new, old));
    live.zip(known).or_else(|| same().map(|old| (old.version, old.id)))
}

/// Where a schema is registered already, which is asked before anything else: neither mode nor compatibility matter then.
fn registered_already(state: &State, subject: &str, posted: &Posted, normalize: bool) -> Result<Option<Placed>, Refusal> {
    let Some(new) = read(state, subject, posted, normalize)? else { return Ok(None) };
    if posted.version == -1 {
        let latest = state.latest(subject).filter(|latest| matches(state, &new, latest));
        return Ok(latest.map(Placed::from).filter(|found| posted.id < 0 || posted.id == found.id));
    }
    let Some(found) = look_up_read(state, subject, &new, Which::Live) else { return Ok(None) };
    if posted.version == 0 {
        return Ok((posted.id < 0 || posted.id == found.id).then_some(found));
    }
    if posted.id != found.id {
        return Ok(None);
    }
    if posted.version == found.version {
        return Ok(Some(found));
    }
    // The same schema may have been imported under several numbers.
    let other = state.version(subject, posted.version, Which::Live);
    Ok(other.filter(|other| other.id == found.id && other.guid() == found.schema.guid()).map(Placed::from))
}

fn check_mode(subject: &str, posted: &Posted, mode: Mode) -> Result<(), Refusal> {
    match mode {
        Mode::Readonly | Mode::ReadonlyOverride => Err(read_only(subject)),
        Mode::Readwrite if posted.id >= 0 => Err(Refusal::not_permitted(format!("Subject {subject} is not in import mode"))),
        Mode::Import if posted.id < 0 => Err(Refusal::not_permitted(format!("Subject {subject} is not in read-write mode"))),
        _ => Ok(()),
    }
}

pub(super) fn read_only(subject: &str) -> Refusal {
    Refusal::not_permitted(format!("Subject {subject} is in read-only mode"))
}

/// What was posted, completed from the version before: without a text it is that version again, with other metadata perhaps.
fn complete(config: &Config, posted: &Posted, before: Option<&Version>, next: i32) -> Result<Posted, Refusal> {
    let mut whole = posted.clone();
    if posted.text.trim().is_empty() {
        let before = before.ok_or_else(|| Refusal::invalid_schema("Empty schema"))?;
        whole.text.clone_from(&before.text);
        whole.kind = before.format.registry_name().to_owned();
        whole.references.clone_from(&before.references);
    }
    whole.metadata = merged_metadata(config, posted, before, Some(next));
    Ok(whole)
}

/// The metadata of a new version: its own or those of the version before, between the config's defaults and overrides.
/// The number of the version is noted in it where one was given, or was noted before.
fn merged_metadata(config: &Config, posted: &Posted, before: Option<&Version>, next: Option<i32>) -> Option<Metadata> {
    let own = posted.metadata.as_ref().or_else(|| before?.metadata.as_ref());
    let layers = [config.default_metadata.as_ref(), own, config.override_metadata.as_ref()];
    let mut merged: Option<Metadata> = None;
    for layer in layers.into_iter().flatten() {
        let merged = merged.get_or_insert_default();
        merged.tags.extend(layer.tags.clone());
        merged.properties.extend(layer.properties.clone());
        merged.sensitive.extend(layer.sensitive.clone());
    }
    let noted = merged.as_ref().is_some_and(|merged| merged.properties.contains_key(VERSION));
    if let Some(next) = next.filter(|_| posted.version != 0 || noted) {
        merged.get_or_insert_default().properties.insert(VERSION.to_owned(), next.to_string());
    }
    merged
}

/// Refuses an id that means another schema.
fn not_another(state: &State, subject: &str, id: i32, new: &Kept) -> Result<i32, Refusal> {
    let context = Subject::of(subject).prefix();
    match state.find(id, &context) {
        Some(known) if Kept::from(known) != *new => {
            Err(Refusal::not_permitted(format!("Overwrite new schema with id {id} is not permitted: the id has another schema")))
        }
        _ => Ok(id),
    }
}

fn next_id(state: &State, subject: &str) -> Result<i32, Refusal> {
    state
        .highest(subject)
        .checked_add(1)
        .ok_or_else(|| Refusal::not_permitted("The highest id of all is taken: there is no next one"))
}

/// A version that comes, and what goes with it: the context, if it is new; older deleted versions of the same id go.
fn records_of(state: &State, place: &Placed) -> Vec<Record> {
    let Placed { subject, version, id, schema, .. } = place;
    let context = Subject::of(subject).context;
    let mut records = Vec::new();
    if !state.has_context(&context) {
        records.push(Record::Context { context });
    }
    let outdated = state.versions(subject, Which::Deleted).filter(|old| old.id == *id && old.version < *version);
    records.extend(outdated.map(|old| Record::Schema { subject: subject.clone(), version: old.version, value: None }));
    let value = records::SchemaValue {
        subject: subject.clone(),
        version: *version,
        id: *id,
        schema_type: Some(schema.format),
        references: schema.references.clone(),
        metadata: schema.metadata.clone(),
        schema: schema.text.clone(),
        deleted: false,
    };
    records.push(Record::Schema { subject: subject.clone(), version: *version, value: Some(value) });
    records
}
