//! The calls: a place, a method, parameters and a body in, an answer out.

use serde_json::{Map, Value, json};

use super::Registry;
use super::deletes;
use super::errors::Refusal;
use super::paths::{Place, Query};
use super::records::Record;
use super::requests;
use super::schemas::{self, Kept, Placed};
use super::settings;
use super::store::{Guid, State, Version, Which};
use super::subject::Subject;
use crate::model::product::Format;

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Body {
    Json(Value),
    /// A schema's own text.
    Text(String),
}

/// The most schemas that one listing tells.
const MOST_SCHEMAS: usize = 1_000;

/// Answers a request. `method` is one of the place's.
///
/// # Errors
/// It is refused.
pub(super) fn answer(registry: &Registry, place: &Place, method: &str, query: &Query, body: &[u8]) -> Result<Body, Refusal> {
    if let Some(done) = change(registry, place, method, query, body) {
        return done.map(Body::Json);
    }
    registry.read(|state| {
        match (place, method) {
            (Place::Subject(subject), "POST") => look_up(state, &normal(subject), query, body),
            (Place::Check(subject, version), _) => check(state, &normal(subject), version.as_deref(), query, body),
            (Place::ClusterId, _) => {
                let clusters =
                    json!({"kafka-cluster": registry.settings.cluster_id, "schema-registry-cluster": "schema-registry"});
                Ok(json!({"scope": {"path": [], "clusters": clusters}}))
            }
            (Place::VersionText(subject, version), _) => {
                return version_of(state, &normal(subject), version, query)
                    .map(|version| Body::Text(formatted(state, &version, query)));
            }
            (Place::IdText(id), _) => return by_id(state, id, query).map(|version| Body::Text(formatted(state, version, query))),
            _ => read(state, place, query),
        }
        .map(Body::Json)
    })
}

/// The calls that change something; `None` for those that don't.
fn change(registry: &Registry, place: &Place, method: &str, query: &Query, body: &[u8]) -> Option<Result<Value, Refusal>> {
    let permanent = query.flag("permanent");
    let done = match (place, method) {
        (Place::Versions(subject), "POST") => register(registry, subject, query, body),
        (Place::Version(subject, version), "DELETE") => version_number(version).and_then(|number| {
            let deleted = |state: &State| deletes::version(state, &normal(subject), number, version, permanent);
            registry.write(deleted).map(|number| json!(number))
        }),
        (Place::Subject(subject), "DELETE") => {
            registry.write(|state| deletes::subject(state, &normal(subject), permanent)).map(|numbers| json!(numbers))
        }
        (Place::Config(subject), "PUT") => requests::object(body).and_then(|fields| fields.config()).and_then(|change| {
            let subject = normal(subject.as_deref().unwrap_or_default());
            registry.write(|state| settings::change_config(state, &subject, change))
        }),
        (Place::Config(subject), "DELETE") => {
            let subject = normal(subject.as_deref().unwrap_or_default());
            registry.write(|state| settings::delete_config(state, &subject))
        }
        (Place::Mode(subject), "PUT") => requests::object(body).and_then(|fields| fields.mode()).and_then(|mode| {
            let subject = normal(subject.as_deref().unwrap_or_default());
            let name = mode.clone().flatten();
            let set = |state: &State| Ok((settings::set_mode(state, &subject, mode, query.flag("force"))?, ()));
            registry.write(set).map(|()| json!({"mode": name}))
        }),
        (Place::Mode(Some(subject)), "DELETE") if Subject::of(subject).is_global() => Err(Refusal::invalid_subject(subject)),
        (Place::Mode(Some(subject)), "DELETE") => {
            registry.write(|state| settings::delete_mode(state, &normal(subject))).map(|mode| json!({"mode": mode.name()}))
        }
        _ => return None,
    };
    Some(done)
}

fn read(state: &State, place: &Place, query: &Query) -> Result<Value, Refusal> {
    match place {
        Place::Contexts => page(state.contexts(), query, usize::MAX),
        Place::Subjects => subjects(state, query),
        Place::WithMetadata(subject) => with_metadata(state, &normal(subject), query),
        Place::Versions(subject) => versions(state, &normal(subject), query),
        Place::Version(subject, version) => version_of(state, &normal(subject), version, query)
            .map(|version| in_format(state, &version, query, placed(&Placed::from(&version)))),
        Place::ReferencedBy(subject, version) => {
            let version = found_version(state, &normal(subject), version, Which::All)?;
            page(state.referring(&version.subject, version.version), query, MOST_SCHEMAS)
        }
        Place::Config(subject) => {
            let subject = normal(subject.as_deref().unwrap_or_default());
            settings::config(state, &subject, query.flag("defaultToGlobal")).ok_or_else(|| Refusal::no_config(&subject))
        }
        Place::Mode(subject) => {
            let subject = normal(subject.as_deref().unwrap_or_default());
            settings::mode(state, &subject, query.flag("defaultToGlobal")).map(|mode| json!({"mode": mode.name()}))
        }
        Place::Schemas => list_schemas(state, query),
        Place::Types => Ok(json!(["JSON", "PROTOBUF", "AVRO"])),
        Place::Id(id) => one_id(state, id, query),
        Place::IdSubjects(id) => {
            page(versions_of_id(state, id, query)?.into_iter().map(|(subject, _)| subject).collect(), query, usize::MAX)
        }
        Place::IdVersions(id) => {
            let versions = versions_of_id(state, id, query)?;
            page(
                versions.into_iter().map(|(subject, version)| json!({"subject": subject, "version": version})).collect(),
                query,
                usize::MAX,
            )
        }
        Place::Guid(guid) => one_guid(state, guid, query),
        Place::GuidIds(guid) => {
            let ids = Guid::read(guid).map(|guid| state.ids_of(guid)).unwrap_or_default();
            Ok(ids.into_iter().map(|(context, id)| json!({"context": context, "id": id})).collect())
        }
        Place::ServerVersion => Ok(json!({"version": "8.0.0", "commitId": concat!("mesh-", env!("CARGO_PKG_VERSION"))})),
        _ => Ok(json!({})),
    }
}

/// A subject's name in the form in which it is kept.
fn normal(subject: &str) -> String {
    Subject::of(subject).to_string()
}

// Parameters.

/// A version's number; -1 for the latest.
fn version_number(text: &str) -> Result<i32, Refusal> {
    let number = match text.trim() {
        latest if latest.eq_ignore_ascii_case("latest") => -1,
        number => number.parse().unwrap_or(0),
    };
    if number > 0 || number == -1 { Ok(number) } else { Err(Refusal::invalid_version(text)) }
}

/// A number in the path or the query; the framework knows no such place if it is none.
fn number(text: &str) -> Result<i32, Refusal> {
    text.parse().map_err(|_| Refusal::not_found())
}

fn number_of(query: &Query, key: &str, default: i32) -> Result<i32, Refusal> {
    query.get(key).filter(|text| !text.trim().is_empty()).map_or(Ok(default), number)
}

/// The part of a list that `offset` and `limit` ask for, but no more than `most`. No limit is what is not positive.
fn page<T: Into<Value>>(list: Vec<T>, query: &Query, most: usize) -> Result<Value, Refusal> {
    let offset = number_of(query, "offset", 0)?;
    let offset = usize::try_from(offset).map_err(|_| Refusal::http(422, "offset must not be negative"))?;
    let limit = usize::try_from(number_of(query, "limit", -1)?).ok().filter(|limit| (1..=most).contains(limit)).unwrap_or(most);
    Ok(Value::Array(list.into_iter().skip(offset).take(limit).map(Into::into).collect()))
}

fn which(query: &Query) -> Which {
    Which::asked(query.flag("deleted"), query.flag("deletedOnly"))
}

// Registering, looking up, checking.

fn register(registry: &Registry, subject: &str, query: &Query, body: &[u8]) -> Result<Value, Refusal> {
    let posted = requests::object(body)?.posted()?;
    if !Subject::of(subject).is_valid() {
        return Err(Refusal::invalid_subject(subject));
    }
    let subject = normal(subject);
    let normalize = query.flag("normalize");
    let place: Placed = registry.write(|state| schemas::register(state, &subject, &posted, normalize))?;
    let mut answer = placed(&place);
    if let Some(fields) = answer.as_object_mut() {
        fields.shift_remove("subject");
    }
    Ok(registry.read(|state| shown_in_format(state, &subject, &place.schema, query, answer)))
}

fn look_up(state: &State, subject: &str, query: &Query, body: &[u8]) -> Result<Value, Refusal> {
    let posted = requests::object(body)?.posted()?;
    let which = Which::asked(query.flag("deleted"), false);
    match schemas::look_up(state, subject, &posted, query.flag("normalize"), which)? {
        Some(place) => Ok(shown_in_format(state, &place.subject, &place.schema, query, placed(&place))),
        None if state.has(Some(subject), which) => Err(Refusal::no_schema(None)),
        None => Err(Refusal::no_subject(subject)),
    }
}

fn check(state: &State, subject: &str, version: Option<&str>, query: &Query, body: &[u8]) -> Result<Value, Refusal> {
    let posted = requests::object(body)?.posted()?;
    let number = version.map(version_number).transpose()?;
    if let Some(number) = number.filter(|number| *number != -1) {
        state.version(subject, number, Which::Live).ok_or_else(|| Refusal::no_version(number))?;
    }
    let verbose = query.flag("verbose");
    let messages = match schemas::check(state, subject, &posted, query.flag("normalize"), number) {
        Err(invalid) if verbose && invalid.code == 42201 => vec![invalid.message],
        checked => checked?,
    };
    let mut answer = json!({"is_compatible": messages.is_empty()});
    if verbose && let Some(fields) = answer.as_object_mut() {
        fields.insert("messages".to_owned(), json!(messages));
    }
    Ok(answer)
}

// Versions and subjects.

fn subjects(state: &State, query: &Query) -> Result<Value, Refusal> {
    let which = which(query);
    let counts = |versions: &[&Version]| which.takes(versions.iter().all(|version| version.deleted));
    let found = state.with_prefix(query.get("subjectPrefix").unwrap_or(":*:"));
    page(found.into_iter().filter(|(_, versions)| counts(versions)).map(|(subject, _)| subject).collect(), query, usize::MAX)
}

fn versions(state: &State, subject: &str, query: &Query) -> Result<Value, Refusal> {
    let which = which(query);
    if !state.has(Some(subject), if which == Which::Live { Which::Live } else { Which::All }) {
        return Err(Refusal::no_subject(subject));
    }
    page(state.versions(subject, which).map(|version| version.version).collect(), query, usize::MAX)
}

fn version_of(state: &State, subject: &str, version: &str, query: &Query) -> Result<Version, Refusal> {
    found_version(state, subject, version, Which::asked(query.flag("deleted"), false)).cloned()
}

fn found_version<'a>(state: &'a State, subject: &str, version: &str, which: Which) -> Result<&'a Version, Refusal> {
    let number = version_number(version)?;
    let missing = || if state.has(Some(subject), which) { Refusal::no_version(number) } else { Refusal::no_subject(subject) };
    state.version_anywhere(subject, number, which).ok_or_else(missing)
}

fn with_metadata(state: &State, subject: &str, query: &Query) -> Result<Value, Refusal> {
    let wanted: Vec<(&str, &str)> = query.all("key").zip(query.all("value")).collect();
    let which = Which::asked(query.flag("deleted"), false);
    let has_all = |version: &&Version| {
        let properties = version.metadata.as_ref().map(|metadata| &metadata.properties);
        properties.is_some_and(|has| wanted.iter().all(|(key, value)| has.get(*key).is_some_and(|has| has == value)))
    };
    match state.versions(subject, which).rev().find(has_all) {
        Some(version) => Ok(in_format(state, version, query, placed(&Placed::from(version)))),
        None if state.has(Some(subject), which) => Err(Refusal::no_schema(None)),
        None => Err(Refusal::no_subject(subject)),
    }
}

fn list_schemas(state: &State, query: &Query) -> Result<Value, Refusal> {
    let prefix = query.get("subjectPrefix").unwrap_or_default();
    let which = Which::asked(query.flag("deleted"), false);
    let mut found = state.with_prefix(prefix);
    let aliases = if query.flag("aliases") { state.aliases(prefix) } else { Default::default() };
    let others: Vec<&String> = aliases.keys().filter(|target| !found.iter().any(|(subject, _)| subject == *target)).collect();
    found.extend(others.into_iter().map(|subject| (subject.clone(), state.versions(subject, Which::All).collect())));
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut list = Vec::new();
    for (subject, mut versions) in found {
        versions.retain(|version| which.takes(version.deleted));
        let from = if query.flag("latestOnly") { versions.len().saturating_sub(1) } else { 0 };
        for version in versions.into_iter().skip(from) {
            let mut shown = placed(&Placed { since: None, ..Placed::from(version) });
            if let (Some(aliases), Some(fields)) = (aliases.get(&subject), shown.as_object_mut()) {
                fields.insert("aliases".to_owned(), json!(aliases));
            }
            list.push(shown);
        }
    }
    // Rules are not kept, so that no schema has one of any type.
    if query.get("ruleType").is_some_and(|rule| !rule.is_empty()) {
        list.clear();
    }
    page(list, query, MOST_SCHEMAS)
}

// Ids.

fn by_id<'a>(state: &'a State, id: &str, query: &Query) -> Result<&'a Version, Refusal> {
    let id = number(id)?;
    state.find(id, query.get("subject").unwrap_or_default()).ok_or_else(|| Refusal::no_schema(Some(&id.to_string())))
}

fn one_id(state: &State, id: &str, query: &Query) -> Result<Value, Refusal> {
    let version = by_id(state, id, query)?;
    let mut shown = placed(&Placed::from(version));
    if let Some(fields) = shown.as_object_mut() {
        fields.shift_remove("id");
        if query.flag("fetchMaxId") {
            fields.insert("maxId".to_owned(), json!(state.highest(&version.subject)));
        }
    }
    Ok(in_format(state, version, query, shown))
}

/// The subjects that have the schema of an id, with the newest version of each.
fn versions_of_id(state: &State, id: &str, query: &Query) -> Result<Vec<(String, i32)>, Refusal> {
    let id = number(id)?;
    let version = state.find(id, query.get("subject").unwrap_or_default()).ok_or_else(|| Refusal::no_schema(None))?;
    let (_, having) = state.registered(version.guid(), &version.subject).ok_or_else(|| Refusal::no_schema(None))?;
    let which = Which::asked(query.flag("deleted"), false);
    let count = having.len();
    let mut having: Vec<(&Subject, &i32)> = having.iter().collect();
    having.sort_by_key(|(subject, _)| subject.hash_place(count));
    let having = having.into_iter().map(|(subject, version)| (subject.to_string(), *version));
    Ok(having.filter(|(subject, version)| state.version(subject, *version, which).is_some()).collect())
}

fn one_guid(state: &State, guid: &str, query: &Query) -> Result<Value, Refusal> {
    let ids = Guid::read(guid).map(|guid| state.ids_of(guid)).unwrap_or_default();
    let first = ids.first().map(|(context, id)| (Subject { context: (*context).to_owned(), name: String::new() }.prefix(), *id));
    let version = first.and_then(|(context, id)| state.find(id, &context)).ok_or_else(|| Refusal::no_schema(Some(guid)))?;
    let mut shown = placed(&Placed::from(version));
    if let Some(fields) = shown.as_object_mut() {
        for left_out in ["subject", "version", "id"] {
            fields.shift_remove(left_out);
        }
    }
    Ok(in_format(state, version, query, shown))
}

// Showing.

/// A schema with where it is registered, as answers show it. What is empty is left out.
fn placed(place: &Placed) -> Value {
    let Kept { format, references, metadata, text } = &place.schema;
    let mut fields = Map::new();
    let mut show = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    show("subject", json!(place.subject));
    show("version", json!(place.version));
    show("id", json!(place.id));
    show("guid", json!(place.schema.guid().to_string()));
    show("schemaType", json!(format.registry_name()));
    if !references.is_empty() {
        show("references", json!(references));
    }
    if let Some(metadata) = metadata {
        show("metadata", json!(metadata));
    }
    show("schema", json!(text));
    if let Some((time, deleted)) = place.since {
        show("ts", json!(time));
        show("deleted", json!(deleted));
    }
    Value::Object(fields)
}

/// The same with the text in the form that `format` asks for, and the fingerprint of that text.
fn in_format(state: &State, version: &Version, query: &Query, mut shown: Value) -> Value {
    let text = formatted(state, version, query);
    if text != version.text {
        let guid = Guid::of(&text, &version.references, version.metadata.as_ref());
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("guid".to_owned(), json!(guid.to_string()));
            fields.insert("schema".to_owned(), json!(text));
        }
    }
    shown
}

/// The same for what is not, or not in this form, a version of the subject.
fn shown_in_format(state: &State, subject: &str, schema: &Kept, query: &Query, shown: Value) -> Value {
    if query.get("format").is_none_or(|format| format.trim().is_empty()) {
        return shown;
    }
    let version = Version {
        subject: subject.to_owned(),
        version: 0,
        id: 0,
        format: schema.format,
        references: schema.references.clone(),
        metadata: schema.metadata.clone(),
        text: schema.text.clone(),
        deleted: false,
        timestamp: 0,
        read: Default::default(),
    };
    in_format(state, &version, query, shown)
}

/// A version's text in the form that `format` asks for: of Avro `resolved`, with what it refers to written into it, of
/// Protobuf `serialized`, its descriptor. Other forms, and those of which there is none, are its own.
fn formatted(state: &State, version: &Version, query: &Query) -> String {
    let asked = query.get("format").unwrap_or_default().to_ascii_lowercase();
    let other = match (version.format, asked.as_str()) {
        (Format::Avro, "resolved") => schemas::written_out(state, version),
        (Format::Protobuf, "serialized") => schemas::meaning(state, version).ok().and_then(|meaning| meaning.serialized()),
        _ => None,
    };
    other.unwrap_or_else(|| version.text.clone())
}

/// What a change writes, and what it answers.
pub(super) type Changed<T> = Result<(Vec<Record>, T), Refusal>;
