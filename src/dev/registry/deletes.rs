//! Deleting, softly and for good. What is deleted softly is still found by its id; for good goes only what was deleted
//! softly before. What others refer to stays.

use super::errors::Refusal;
use super::records::{Mode, Record, SchemaValue};
use super::schemas::read_only;
use super::store::{State, Version, Which};

/// Deletes one version. Tells its number.
///
/// # Errors
/// It is not there, not deleted softly before it is to go for good, referred to, or the subject is read-only.
pub(super) fn version(
    state: &State,
    subject: &str,
    number: i32,
    as_given: &str,
    permanent: bool,
) -> Result<(Vec<Record>, i32), Refusal> {
    let found = state.version(subject, number, Which::All);
    if !permanent && found.is_some_and(|found| found.deleted) {
        return Err(Refusal::version_is_deleted(subject, as_given));
    }
    let Some(found) = found else {
        let known = state.has(Some(subject), Which::All);
        return Err(if known { Refusal::no_version(number) } else { Refusal::no_subject(subject) });
    };
    check(state, subject, found)?;
    if permanent {
        if !found.deleted {
            return Err(Refusal::version_is_not_deleted(subject, found.version));
        }
        return Ok((vec![gone(found)], found.version));
    }
    let value = SchemaValue { deleted: true, ..found.value() };
    let mut records = vec![Record::Schema { subject: subject.to_owned(), version: found.version, value: Some(value) }];
    if state.versions(subject, Which::Live).count() == 1 {
        records.extend(settings(state, subject));
    }
    Ok((records, found.version))
}

/// Deletes all versions of a subject. Tells their numbers.
///
/// # Errors
/// There are none, not all are deleted softly before they are to go for good, one is referred to, or the subject is
/// read-only.
pub(super) fn subject(state: &State, subject: &str, permanent: bool) -> Result<(Vec<Record>, Vec<i32>), Refusal> {
    if !state.has(Some(subject), Which::All) {
        return Err(Refusal::no_subject(subject));
    }
    if !permanent && !state.has(Some(subject), Which::Live) {
        return Err(Refusal::subject_is_deleted(subject));
    }
    check_mode(state, subject)?;
    let which = if permanent { Which::All } else { Which::Live };
    let versions: Vec<&Version> = state.versions(subject, which).collect();
    for version in &versions {
        check(state, subject, version)?;
        if permanent && !version.deleted {
            return Err(Refusal::subject_is_not_deleted(subject));
        }
    }
    let numbers: Vec<i32> = versions.iter().map(|version| version.version).collect();
    if permanent {
        return Ok((versions.into_iter().map(gone).collect(), numbers));
    }
    let last = numbers.last().copied().unwrap_or(0);
    let mut records = vec![Record::DeleteSubject { subject: subject.to_owned(), version: last }];
    records.extend(settings(state, subject));
    Ok((records, numbers))
}

fn check(state: &State, subject: &str, version: &Version) -> Result<(), Refusal> {
    check_mode(state, subject)?;
    if state.referring(subject, version.version).is_empty() {
        Ok(())
    } else {
        Err(Refusal::is_referenced(subject, version.version))
    }
}

fn check_mode(state: &State, subject: &str) -> Result<(), Refusal> {
    match state.mode_in_scope(subject) {
        Mode::Readonly | Mode::ReadonlyOverride => Err(read_only(subject)),
        Mode::Readwrite | Mode::Import => Ok(()),
    }
}

fn gone(version: &Version) -> Record {
    Record::Schema { subject: version.subject.clone(), version: version.version, value: None }
}

/// A subject that is deleted loses its mode and config.
fn settings(state: &State, subject: &str) -> Vec<Record> {
    let place = Some(subject.to_owned());
    let mode = state.own_mode(subject).map(|_| Record::Mode { subject: place.clone(), value: None });
    let config = state.config(subject).map(|_| Record::Config { subject: place, value: None });
    mode.into_iter().chain(config).collect()
}
