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

impl From<crate::kafka::KafkaError> for Failure {
    fn from(error: crate::kafka::KafkaError) -> Self {
        use crate::kafka::Kind;
        match error.kind {
            Kind::Unreachable => Failure::new(Exit::Unreachable, &error).hint(WHERE_KAFKA),
            Kind::Unauthorized => Failure::new(Exit::Unreachable, &error).hint("ask who runs Kafka for that right"),
            Kind::Refused | Kind::Other => Failure::new(Exit::Failed, &error),
        }
    }
}

impl From<crate::registry::RegistryError> for Failure {
    fn from(error: crate::registry::RegistryError) -> Self {
        use crate::registry::Kind;
        match error.kind {
            Kind::Unreachable | Kind::Unauthorised => Failure::new(Exit::Unreachable, &error).hint(WHERE_REGISTRY),
            _ => Failure::new(Exit::Failed, &error),
        }
    }
}

impl From<crate::apply::ApplyError> for Failure {
    fn from(error: crate::apply::ApplyError) -> Self {
        use crate::apply::ErrorKind;
        match error.kind {
            ErrorKind::Unreachable | ErrorKind::Unauthorised => {
                let hint = if error.endpoint.starts_with("registry") { WHERE_REGISTRY } else { WHERE_KAFKA };
                Failure::new(Exit::Unreachable, &error).hint(hint)
            }
            ErrorKind::Fenced => Failure::new(Exit::Failed, &error).hint("let it end, then plan and apply again"),
            ErrorKind::Failed => Failure::new(Exit::Failed, &error),
        }
    }
}

impl From<crate::run::RunError> for Failure {
    fn from(error: crate::run::RunError) -> Self {
        use crate::run::RunError;
        match error {
            RunError::Kafka(error) => error.into(),
            RunError::Registry(error) => error.into(),
            RunError::NotApplied(_) => Failure::new(Exit::Failed, error).hint("`mesh apply` makes what a run needs"),
            RunError::Unreachable(_) => Failure::new(Exit::Unreachable, error),
            RunError::Job(_) => Failure::new(Exit::Failed, error),
        }
    }
}

const WHERE_KAFKA: &str = "the environment's kafka.bootstrap says where Kafka is; MESH_BOOTSTRAP overrides it for local";
const WHERE_REGISTRY: &str = "the environment's registry.url says where the registry is; MESH_REGISTRY overrides it for local";
