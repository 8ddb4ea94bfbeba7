//! The state: what the records of `_schemas` add up to. It changes by [`State::apply`] alone, when the registry starts as
//! when it runs, so that a restart finds what was there.
//!
//! Who has which id is kept as Confluent's registry keeps it, which shows: of a subject's versions with one id only the one
//! that was written last is found by the id, and of several ids with one text the one that was written last is given.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use md5::{Digest, Md5};

use super::records::{Config, Metadata, Mode, Record, Reference, SchemaValue};
use super::subject::{self, Subject};
use crate::model::product::{Compatibility, Format};
use crate::schema::Schema;

/// A schema's fingerprint over text, references and metadata; its language is no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Guid([u8; 16]);

impl Guid {
    pub(super) fn of(text: &str, references: &[Reference], metadata: Option<&Metadata>) -> Guid {
        let mut hash = Md5::new();
        hash.update(text);
        for reference in references {
            hash.update(&reference.name);
            hash.update(&reference.subject);
            hash.update(reference.version.to_be_bytes());
        }
        if let Some(Metadata { tags, properties, sensitive }) = metadata {
            hash.update([1]);
            let tags = tags.iter().flat_map(|(path, tags)| std::iter::once(path).chain(tags));
            let properties = properties.iter().flat_map(|(key, value)| [key, value]);
            tags.chain(properties).chain(sensitive).for_each(|part| hash.update(part));
        }
        Guid(hash.finalize().into())
    }

    /// Reads `5dc3f779-b8f9-f027-359c-6140cfb455e0`, with or without the strokes.
    pub(super) fn read(text: &str) -> Option<Guid> {
        uuid::Uuid::try_parse(text).ok().map(|guid| Guid(guid.into_bytes()))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

/// A version of a subject.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub subject: String,
    pub version: i32,
    pub id: i32,
    pub format: Format,
    pub references: Vec<Reference>,
    pub metadata: Option<Metadata>,
    pub text: String,
    /// Deleted softly: found by its id, and otherwise only by those who ask for what is deleted.
    pub deleted: bool,
    /// When it was registered or deleted, in milliseconds since 1970.
    pub timestamp: i64,
    /// What its text means, read when first needed; an error if it cannot be read.
    pub read: Arc<OnceLock<Result<Schema, String>>>,
}

impl Version {
    pub(super) fn guid(&self) -> Guid {
        Guid::of(&self.text, &self.references, self.metadata.as_ref())
    }

    /// As the topic has it.
    pub(super) fn value(&self) -> SchemaValue {
        SchemaValue {
            subject: self.subject.clone(),
            version: self.version,
            id: self.id,
            schema_type: Some(self.format),
            references: self.references.clone(),
            metadata: self.metadata.clone(),
            schema: self.text.clone(),
            deleted: self.deleted,
        }
    }

    fn new(value: SchemaValue, timestamp: i64) -> Version {
        Version {
            subject: value.subject,
            version: value.version,
            id: value.id,
            format: value.schema_type.unwrap_or(Format::Avro),
            references: value.references,
            metadata: value.metadata,
            text: value.schema,
            deleted: value.deleted,
            timestamp,
            read: Arc::default(),
        }
    }
}

/// Which of the versions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Live,
    Deleted,
    All,
}

impl Which {
    /// As requests ask for it; the second wins.
    pub(super) fn asked(deleted: bool, deleted_only: bool) -> Which {
        if deleted_only {
            Which::Deleted
        } else if deleted {
            Which::All
        } else {
            Which::Live
        }
    }

    pub(super) fn takes(self, deleted: bool) -> bool {
        match self {
            Which::Live => !deleted,
            Which::Deleted => deleted,
            Which::All => true,
        }
    }
}

/// The ids of one context.
#[derive(Debug, Default)]
struct Ids {
    /// For each id the subjects that have it, and of each the version that was written last.
    versions: BTreeMap<i32, BTreeMap<Subject, i32>>,
    /// The ids of a schema, that which was written last behind the others.
    by_guid: HashMap<Guid, Vec<i32>>,
    /// The versions that refer to a version and are not deleted, with their ids.
    referring: HashMap<(Subject, i32), BTreeMap<(Subject, i32), i32>>,
    /// The highest id that was seen.
    highest: i32,
}

/// All that the registry knows.
#[derive(Debug, Default)]
pub(super) struct State {
    subjects: BTreeMap<Subject, BTreeMap<i32, Version>>,
    configs: BTreeMap<Subject, Config>,
    modes: BTreeMap<Subject, Mode>,
    contexts: BTreeSet<String>,
    ids: BTreeMap<String, Ids>,
}

/// The level where none is set.
const LEVEL: Compatibility = Compatibility::Backward;

// What the records do.
impl State {
    /// Takes a record in.
    pub(super) fn apply(&mut self, record: Record, timestamp: i64) {
        let place = |subject: Option<String>| Subject::of(subject.as_deref().unwrap_or_default());
        match record {
            Record::Schema { subject, version, value: Some(value) } => {
                // The key says where it belongs; who wrote another subject into the value was no registry.
                if value.subject == subject && value.version == version {
                    self.put(&Subject::of(&subject), Version::new(value, timestamp));
                }
            }
            Record::Schema { subject, version, value: None } => self.remove(&Subject::of(&subject), version),
            Record::Config { subject, value } => put_or_remove(&mut self.configs, place(subject), value),
            Record::Mode { subject, value } => put_or_remove(&mut self.modes, place(subject), value),
            Record::DeleteSubject { subject, version } => self.delete_upto(&Subject::of(&subject), version),
            Record::ClearSubject { subject } => self.clear(subject.as_deref().map(Subject::of).as_ref()),
            Record::Context { context } => {
                self.contexts.insert(context);
            }
        }
    }

    fn put(&mut self, subject: &Subject, version: Version) {
        // No id changes its meaning.
        let other = self.by_id(version.id, &subject.prefix());
        if other.is_some_and(|other| other.text != version.text) {
            return;
        }
        self.remove(subject, version.version);
        self.index(subject, &version);
        self.subjects.entry(subject.clone()).or_default().insert(version.version, version);
    }

    /// Notes id, fingerprint and references of a version that comes or is deleted softly.
    fn index(&mut self, subject: &Subject, version: &Version) {
        let ids = self.ids.entry(subject.context.clone()).or_default();
        ids.highest = ids.highest.max(version.id);
        ids.versions.entry(version.id).or_default().insert(subject.clone(), version.version);
        let same = ids.by_guid.entry(version.guid()).or_default();
        same.retain(|id| *id != version.id);
        same.push(version.id);
        self.index_references(subject, version, !version.deleted);
    }

    /// Notes what a version refers to; a deleted one guards nothing.
    fn index_references(&mut self, subject: &Subject, version: &Version, guards: bool) {
        for reference in &version.references {
            let target = subject.refer(&reference.subject);
            let referring = &mut self.ids.entry(target.context.clone()).or_default().referring;
            let referring = referring.entry((target, reference.version)).or_default();
            if guards {
                referring.insert((subject.clone(), version.version), version.id);
            } else {
                referring.remove(&(subject.clone(), version.version));
            }
        }
    }

    fn remove(&mut self, subject: &Subject, number: i32) {
        let Some(versions) = self.subjects.get_mut(subject) else { return };
        let Some(removed) = versions.remove(&number) else { return };
        let other = versions.values().rev().find(|other| other.id == removed.id).map(|other| other.version);
        if versions.is_empty() {
            self.subjects.remove(subject);
        }
        self.index_references(subject, &removed, false);
        let Some(ids) = self.ids.get_mut(&subject.context) else { return };
        let Some(having) = ids.versions.get_mut(&removed.id) else { return };
        if having.get(subject) == Some(&number) {
            put_or_remove(having, subject.clone(), other);
        }
        if having.is_empty() {
            ids.versions.remove(&removed.id);
            if let Some(same) = ids.by_guid.get_mut(&removed.guid()) {
                same.retain(|id| *id != removed.id);
            }
        }
    }

    fn delete_upto(&mut self, subject: &Subject, last: i32) {
        let Some(mut versions) = self.subjects.remove(subject) else { return };
        for (_, version) in versions.range_mut(..=last) {
            version.deleted = true;
            self.index(subject, version);
        }
        self.subjects.insert(subject.clone(), versions);
    }

    fn clear(&mut self, place: Option<&Subject>) {
        let covered = |subject: &Subject| place.is_none_or(|place| place.covers(subject));
        let deleted = self.subjects.iter().filter(|(subject, _)| covered(subject));
        let deleted = deleted.flat_map(|(subject, versions)| {
            versions.values().filter(|version| version.deleted).map(|version| (subject.clone(), version.version))
        });
        for (subject, version) in deleted.collect::<Vec<_>>() {
            self.remove(&subject, version);
        }
    }
}

fn put_or_remove<K: Ord, T>(map: &mut BTreeMap<K, T>, key: K, value: Option<T>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

// Versions and subjects.
impl State {
    /// The versions of a subject, oldest first.
    pub(super) fn versions(&self, subject: &str, which: Which) -> impl DoubleEndedIterator<Item = &Version> {
        let versions = self.subjects.get(&Subject::of(subject)).into_iter().flat_map(BTreeMap::values);
        versions.filter(move |version| which.takes(version.deleted))
    }

    /// The newest version that is not deleted.
    pub(super) fn latest(&self, subject: &str) -> Option<&Version> {
        self.versions(subject, Which::Live).next_back()
    }

    /// A version by its number; -1 is the latest, which is never a deleted one.
    pub(super) fn version(&self, subject: &str, number: i32, which: Which) -> Option<&Version> {
        if number == -1 {
            return self.latest(subject);
        }
        self.subjects.get(&Subject::of(subject))?.get(&number).filter(|version| which.takes(version.deleted))
    }

    /// The same, and if it is not there, in any context.
    pub(super) fn version_anywhere(&self, subject: &str, number: i32, which: Which) -> Option<&Version> {
        let found = self.version(subject, number, which);
        found.or_else(|| self.elsewhere(subject).into_iter().find_map(|subject| self.version(&subject, number, which)))
    }

    /// A name of no context in each of the contexts.
    pub(super) fn elsewhere(&self, subject: &str) -> Vec<String> {
        let Subject { context, name } = Subject::of(subject);
        let contexts = if context == subject::DEFAULT { Some(&self.contexts) } else { None };
        contexts
            .into_iter()
            .flatten()
            .map(|context| Subject { context: context.clone(), name: name.clone() }.to_string())
            .collect()
    }

    /// Whether there is a version of the subject, in the context, or without either anywhere.
    pub(super) fn has(&self, place: Option<&str>, which: Which) -> bool {
        !self.covered(place, which).is_empty()
    }

    /// The subjects that have a version: the one, those of the context, or all.
    pub(super) fn covered(&self, place: Option<&str>, which: Which) -> Vec<String> {
        let place = place.map(Subject::of);
        let covered = self.subjects.iter().filter(|(subject, _)| place.as_ref().is_none_or(|place| place.covers(subject)));
        let having = covered.filter(|(_, versions)| versions.values().any(|version| which.takes(version.deleted)));
        having.map(|(subject, _)| subject.to_string()).collect()
    }

    /// Subjects whose names begin so with their versions, in order; `:*:` looks into all contexts.
    pub(super) fn with_prefix(&self, prefix: &str) -> Vec<(String, Vec<&Version>)> {
        let prefixes = match prefix.strip_prefix(subject::EVERYWHERE) {
            Some(rest) if !rest.is_empty() => {
                let contexts = std::iter::once(subject::DEFAULT).chain(self.contexts.iter().map(String::as_str));
                contexts.map(|context| Subject { context: context.to_owned(), name: rest.to_owned() }.to_string()).collect()
            }
            _ => vec![prefix.to_owned()],
        };
        let mut found: Vec<(String, Vec<&Version>)> = Vec::new();
        for prefix in prefixes {
            let (from, to) = subject::range(&prefix);
            let within = self.subjects.range(from..to);
            found.extend(within.map(|(subject, versions)| (subject.to_string(), versions.values().collect())));
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        found
    }

    /// The contexts in use, the default one first.
    pub(super) fn contexts(&self) -> Vec<&str> {
        std::iter::once(subject::DEFAULT).chain(self.contexts.iter().map(String::as_str)).collect()
    }

    pub(super) fn has_context(&self, context: &str) -> bool {
        context == subject::DEFAULT || self.contexts.contains(context)
    }
}

// Ids, fingerprints, references.
impl State {
    /// A version with the id: the subject's, if it has it; else any of the subject's context.
    fn by_id(&self, id: i32, subject: &str) -> Option<&Version> {
        let place = Subject::of(subject);
        let having = self.ids.get(&place.context)?.versions.get(&id)?;
        let first = || having.iter().min_by_key(|(subject, _)| subject.hash_place(having.len()));
        let (subject, number) = if place.name.is_empty() { first()? } else { having.get_key_value(&place)? };
        self.subjects.get(subject)?.get(number)
    }

    /// A version with the id: the subject's, if it has it; else that of the same name in another context, else any.
    pub(super) fn find(&self, id: i32, subject: &str) -> Option<&Version> {
        let place = Subject::of(subject);
        let found = self.by_id(id, subject);
        if found.is_some() || place.name.is_empty() || !place.is_default_context() {
            return found;
        }
        let elsewhere = self.elsewhere(subject);
        elsewhere.iter().find_map(|subject| self.by_id(id, subject)).or_else(|| self.by_id(id, ""))
    }

    /// Where the schema with the fingerprint is registered in the context of `subject`: its id, and the newest version of
    /// each subject that has it, deleted ones included.
    pub(super) fn registered(&self, guid: Guid, subject: &str) -> Option<(i32, &BTreeMap<Subject, i32>)> {
        let ids = self.ids.get(&Subject::of(subject).context)?;
        let id = *ids.by_guid.get(&guid)?.last()?;
        Some((id, ids.versions.get(&id)?))
    }

    /// The ids of a fingerprint, by context.
    pub(super) fn ids_of(&self, guid: Guid) -> Vec<(&str, i32)> {
        let of = |context| Some((context, *self.ids.get(context)?.by_guid.get(&guid)?.last()?));
        self.contexts().into_iter().filter_map(of).collect()
    }

    /// The ids of the schemas that refer to a version and are not deleted.
    pub(super) fn referring(&self, subject: &str, version: i32) -> Vec<i32> {
        let target = Subject::of(subject);
        let referring = self.ids.get(&target.context).and_then(|ids| ids.referring.get(&(target, version)));
        let ids: BTreeSet<i32> = referring.into_iter().flat_map(BTreeMap::values).copied().collect();
        ids.into_iter().collect()
    }

    /// The highest id that was given in the subject's context.
    pub(super) fn highest(&self, subject: &str) -> i32 {
        self.ids.get(&Subject::of(subject).context).map_or(0, |ids| ids.highest)
    }
}

// Configs and modes.
impl State {
    /// What is set for a subject or context, or with an empty name globally.
    pub(super) fn config(&self, subject: &str) -> Option<&Config> {
        self.configs.get(&Subject::of(subject))
    }

    /// What holds for a subject: its own config, else that of its context. A level that is not set in it is the default,
    /// not that of the context.
    pub(super) fn config_in_scope(&self, subject: &str) -> Config {
        let place = Subject::of(subject);
        let outer = || self.configs.get(&Subject { name: String::new(), ..place.clone() });
        let config = self.configs.get(&place).or_else(outer).cloned().unwrap_or_default();
        Config { compatibility_level: config.compatibility_level.or(Some(LEVEL)), ..config }
    }

    /// The mode that is set for a subject or context; the global one is always set.
    pub(super) fn mode(&self, subject: &str) -> Option<Mode> {
        let global = self.global_mode();
        let place = Subject::of(subject);
        if global == Mode::ReadonlyOverride || place.is_global() {
            return Some(global);
        }
        self.modes.get(&place).copied()
    }

    /// The mode that is set for exactly this, whatever overrides it.
    pub(super) fn own_mode(&self, subject: &str) -> Option<Mode> {
        self.modes.get(&Subject::of(subject)).copied()
    }

    /// The mode that holds for a subject: the overriding one, its own, its context's.
    pub(super) fn mode_in_scope(&self, subject: &str) -> Mode {
        let place = Subject::of(subject);
        let outer = || self.modes.get(&Subject { name: String::new(), ..place.clone() }).copied();
        self.mode(subject).or_else(outer).unwrap_or(Mode::Readwrite)
    }

    fn global_mode(&self) -> Mode {
        self.modes.get(&Subject::of("")).copied().unwrap_or(Mode::Readwrite)
    }

    /// The subjects that others are an alias of, each with its aliases.
    pub(super) fn aliases(&self, prefix: &str) -> BTreeMap<String, Vec<String>> {
        let (from, to) = subject::range(prefix);
        let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (subject, config) in self.configs.range(from..to) {
            if let Some(alias) = config.alias.as_deref() {
                aliases.entry(subject.refer(alias).to_string()).or_default().push(subject.to_string());
            }
        }
        aliases
    }
}
