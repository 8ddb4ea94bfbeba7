//! How mesh ends: the one table of exit codes, and the failures that lead to them in words.

use std::fmt;
use std::process::ExitCode;

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It worked.
    Worked = 0,
    /// It failed.
    Failed = 1,
    /// Changes are pending (`plan --detailed-exitcode` only).
    Pending = 2,
    /// A manifest, a contract or a policy forbids it.
    Forbidden = 3,
    /// It could not connect, or is not authorised.
    Unreachable = 4,
    /// The saved plan is stale.
    Stale = 5,
    /// Wrong usage.
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a verb could not do what it was asked, in words.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// Empty when everything was said already.
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with a message.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Failure { exit, message: message.to_string(), hint: None }
    }

    /// A failure whose reasons have been printed.
    pub fn said(exit: Exit) -> Self {
        Failure::new(exit, "")
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // A reader that has seen enough (`mesh tail | head`) is no failure.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::said(Exit::Worked);
        }
        Failure::new(Exit::Failed, error)
    }
}
