//! Why a request is refused: HTTP status, Confluent's error code, and what a person should know.

use std::io;

/// An answer other than 200. Its body is `{"error_code": .., "message": ..}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    /// Five digits, of which the first three are the status, or the status itself.
    pub code: i32,
    pub message: String,
}

impl Refusal {
    fn new(status: u16, code: i32, message: impl Into<String>) -> Refusal {
        Refusal { status, code, message: message.into() }
    }

    /// A status without a code of its own.
    pub(super) fn http(status: u16, message: impl Into<String>) -> Refusal {
        Refusal::new(status, i32::from(status), message)
    }

    pub(super) fn not_found() -> Refusal {
        Refusal::http(404, "HTTP 404 Not Found")
    }

    pub(super) fn no_subject(subject: &str) -> Refusal {
        Refusal::new(404, 40401, format!("Subject '{subject}' not found."))
    }

    /// -1 stands for the latest.
    pub(super) fn no_version(version: i32) -> Refusal {
        Refusal::new(404, 40402, format!("Version {version} not found."))
    }

    pub(super) fn no_schema(what: Option<&str>) -> Refusal {
        let name = what.map(|what| format!(" {what}")).unwrap_or_default();
        Refusal::new(404, 40403, format!("Schema{name} not found"))
    }

    pub(super) fn subject_is_deleted(subject: &str) -> Refusal {
        Refusal::new(404, 40404, format!("Subject '{subject}' was soft deleted; permanent=true deletes it for good"))
    }

    pub(super) fn subject_is_not_deleted(subject: &str) -> Refusal {
        Refusal::new(404, 40405, format!("Subject '{subject}' was not deleted softly, which must come before permanent=true"))
    }

    pub(super) fn version_is_deleted(subject: &str, version: &str) -> Refusal {
        Refusal::new(
            404,
            40406,
            format!("Subject '{subject}' Version {version} was soft deleted; permanent=true deletes it for good"),
        )
    }

    pub(super) fn version_is_not_deleted(subject: &str, version: i32) -> Refusal {
        Refusal::new(
            404,
            40407,
            format!("Subject '{subject}' Version {version} was not deleted softly, which must come before permanent=true"),
        )
    }

    pub(super) fn no_config(subject: &str) -> Refusal {
        Refusal::new(404, 40408, format!("Subject '{subject}' does not have a compatibility level of its own"))
    }

    pub(super) fn no_mode(subject: &str) -> Refusal {
        Refusal::new(404, 40409, format!("Subject '{subject}' does not have a mode of its own"))
    }

    pub(super) fn incompatible(subject: &str, reasons: &[String]) -> Refusal {
        let message =
            format!("Schema being registered is incompatible with an earlier one of subject '{subject}': {}", reasons.join("; "));
        Refusal::new(409, 409, message)
    }

    pub(super) fn invalid_schema(message: impl Into<String>) -> Refusal {
        Refusal::new(422, 42201, message)
    }

    pub(super) fn invalid_version(version: &str) -> Refusal {
        Refusal::new(422, 42202, format!("The specified version '{version}' is neither a number from 1 on nor 'latest'"))
    }

    pub(super) fn invalid_level() -> Refusal {
        Refusal::new(
            422,
            42203,
            "Invalid compatibility level. Valid values are none, backward, forward, full, and the last three with _transitive",
        )
    }

    pub(super) fn invalid_mode() -> Refusal {
        Refusal::new(422, 42204, "Invalid mode. Valid values are READWRITE, READONLY, READONLY_OVERRIDE and IMPORT")
    }

    pub(super) fn not_permitted(message: impl Into<String>) -> Refusal {
        Refusal::new(422, 42205, message)
    }

    pub(super) fn is_referenced(subject: &str, version: i32) -> Refusal {
        Refusal::new(422, 42206, format!("One or more references exist to version {version} of subject '{subject}'"))
    }

    pub(super) fn invalid_subject(subject: &str) -> Refusal {
        Refusal::new(422, 42208, format!("The specified subject '{subject}' is no valid name"))
    }

    pub(super) fn too_large(bytes: usize, most: usize) -> Refusal {
        Refusal::new(422, 42209, format!("The schema takes {bytes} bytes to store, and {most} are the most"))
    }

    /// The topic could not be written; nothing has changed.
    pub(super) fn store(error: &io::Error) -> Refusal {
        Refusal::new(500, 50001, format!("The change could not be stored: {error}"))
    }
}
