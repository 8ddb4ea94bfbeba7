//! What can go wrong between mesh and the world.

use std::fmt;

/// Why a call failed, as far as an exit code depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nobody answers there, or not in time.
    Unreachable,
    /// Not authenticated, or not allowed.
    Unauthorised,
    /// Another apply has taken over.
    Fenced,
    /// Answered, but not with what was asked for.
    Failed,
}

/// A failed call: where, doing what, and why. It holds no credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyError {
    pub kind: ErrorKind,
    /// `kafka localhost:9092`, `registry http://localhost:8081`.
    pub endpoint: String,
    /// What was tried: `describe topics`.
    pub operation: String,
    pub message: String,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: could not {}: {}", self.endpoint, self.operation, self.message)
    }
}

impl std::error::Error for ApplyError {}
