//! What can go wrong between mesh and a registry.

use std::fmt;

/// What kind of failure it is, as far as what to do depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody answers, or not in time.
    Unreachable,
    /// 401 or 403.
    Unauthorised,
    /// 5xx or 429, after all repetitions: the status.
    Unavailable(u16),
    /// It answered, but not as a registry does: HTML, half a JSON, something else.
    Malformed,
    /// It said no: its error code, or the status where it gives none.
    Refused(i64),
    /// The client itself can't be made: a bad address, a secret that is not there.
    Setup,
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// The base URL without credentials.
    pub endpoint: String,
    /// What was tried: `read subject orders-value`.
    pub operation: String,
    pub kind: Kind,
    pub message: String,
    /// How long the registry asked to wait, in seconds.
    pub(super) retry_after: Option<u64>,
}

impl RegistryError {
    /// Whether the same call may succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Unreachable | Kind::Unavailable(_))
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "registry {}: could not {}: {}", self.endpoint, self.operation, self.message)
    }
}

impl std::error::Error for RegistryError {}
