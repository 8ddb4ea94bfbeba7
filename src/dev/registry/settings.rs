//! Configs and modes: what may be set, and what the setting answers.

use serde_json::{Value, json};

use super::errors::Refusal;
use super::records::{Config, Mode, Record};
use super::requests::{Change, ConfigChange};
use super::schemas::read_only;
use super::store::{State, Which};
use super::subject::Subject;
use crate::model::product::Compatibility;

/// The subject as a record names it: none where the global setting is meant.
fn place(subject: &str) -> Option<String> {
    let subject = Subject::of(subject);
    (!subject.is_global()).then(|| subject.to_string())
}

fn check_name(subject: &str) -> Result<(), Refusal> {
    if Subject::of(subject).is_valid() { Ok(()) } else { Err(Refusal::invalid_subject(subject)) }
}

fn check_writable(state: &State, subject: &str) -> Result<(), Refusal> {
    match state.mode_in_scope(subject) {
        Mode::Readonly | Mode::ReadonlyOverride => Err(read_only(subject)),
        Mode::Readwrite | Mode::Import => Ok(()),
    }
}

/// Changes a config: what is named changes, null takes away. The answer is the whole config as it is then.
///
/// # Errors
/// An unknown level, an impossible name, or a mode that is read-only.
pub(super) fn change_config(state: &State, subject: &str, change: ConfigChange) -> Result<(Vec<Record>, Value), Refusal> {
    let level = |name: String| name.to_uppercase().parse::<Compatibility>().map_err(|_| Refusal::invalid_level());
    let level = change.compatibility.map(|name| name.map(level).transpose()).transpose()?;
    check_name(subject)?;
    check_writable(state, subject)?;
    let old = state.config(subject).cloned().unwrap_or_default();
    let config = Config {
        alias: change.alias.unwrap_or(old.alias),
        normalize: change.normalize.unwrap_or(old.normalize),
        validate_fields: change.validate_fields.unwrap_or(old.validate_fields),
        validate_rules: change.validate_rules.unwrap_or(old.validate_rules),
        compatibility_level: level.unwrap_or(old.compatibility_level),
        compatibility_group: change.compatibility_group.unwrap_or(old.compatibility_group),
        default_metadata: change.default_metadata.unwrap_or(old.default_metadata),
        override_metadata: change.override_metadata.unwrap_or(old.override_metadata),
    };
    let mut answer = json!(config);
    if let Some(fields) = answer.as_object_mut() {
        // What is read is called otherwise than what is written.
        if let Some(level) = fields.remove("compatibilityLevel") {
            fields.insert("compatibility".to_owned(), level);
        }
    }
    Ok((vec![Record::Config { subject: place(subject), value: Some(config) }], answer))
}

/// A config as it is read; `None` if the subject has none of its own and `in_scope` does not ask for what holds for it.
pub(super) fn config(state: &State, subject: &str, in_scope: bool) -> Option<Value> {
    let has_its_own = Subject::of(subject).is_global() || state.config(subject).is_some();
    (has_its_own || in_scope).then(|| {
        let mut config = json!(state.config_in_scope(subject));
        if let Some(fields) = config.as_object_mut() {
            fields.retain(|_, value| value != "");
        }
        config
    })
}

/// Takes a config away; the answer is what it was.
///
/// # Errors
/// The subject has none, or its mode is read-only.
pub(super) fn delete_config(state: &State, subject: &str) -> Result<(Vec<Record>, Value), Refusal> {
    let old = config(state, subject, false).ok_or_else(|| Refusal::no_subject(subject))?;
    check_writable(state, subject)?;
    Ok((vec![Record::Config { subject: place(subject), value: None }], old))
}

/// Sets a mode, or takes it away. `IMPORT` needs a place without schemas, unless it is forced, and forgets the deleted ones.
///
/// # Errors
/// An unknown mode, an impossible name, or schemas in the way.
pub(super) fn set_mode(state: &State, subject: &str, mode: Change<String>, force: bool) -> Result<Vec<Record>, Refusal> {
    check_name(subject)?;
    let name = mode.ok_or_else(Refusal::invalid_mode)?;
    let of =
        |name: String| Mode::ALL.into_iter().find(|mode| mode.name() == name.to_uppercase()).ok_or_else(Refusal::invalid_mode);
    let mode = name.map(of).transpose()?;
    let place = place(subject);
    let mut records = Vec::new();
    if mode == Some(Mode::Import) && state.mode_in_scope(subject) != Mode::Import && !force {
        if state.has(place.as_deref(), Which::Live) {
            return Err(Refusal::not_permitted("Cannot import since found existing subjects; force=true does it all the same"));
        }
        for gone in state.covered(place.as_deref(), Which::All) {
            for version in state.versions(&gone, Which::All) {
                if !state.referring(&gone, version.version).is_empty() {
                    return Err(Refusal::is_referenced(&gone, version.version));
                }
                records.push(Record::Schema { subject: gone.clone(), version: version.version, value: None });
            }
        }
        records.push(Record::ClearSubject { subject: place.clone() });
    }
    records.push(Record::Mode { subject: place, value: mode });
    Ok(records)
}

/// The mode that is set, or with `in_scope` the one that holds.
///
/// # Errors
/// None is set.
pub(super) fn mode(state: &State, subject: &str, in_scope: bool) -> Result<Mode, Refusal> {
    if in_scope {
        return Ok(state.mode_in_scope(subject));
    }
    state.mode(subject).ok_or_else(|| Refusal::no_mode(subject))
}

/// Takes a subject's mode away; the answer is what it was.
///
/// # Errors
/// None is set.
pub(super) fn delete_mode(state: &State, subject: &str) -> Result<(Vec<Record>, Mode), Refusal> {
    let old = state.mode(subject).ok_or_else(|| Refusal::no_subject(subject))?;
    Ok((vec![Record::Mode { subject: place(subject), value: None }], old))
}
