//! What goes wrong with Kafka, in words: the endpoint, the operation, and what the client library or the broker said.

use std::fmt;

use super::native::{self, Fault};

/// An operation on Kafka that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaError {
    pub kind: Kind,
    /// The bootstrap servers as the environment names them.
    pub endpoint: String,
    /// What was tried: "describe the cluster".
    pub operation: String,
    /// Kafka's name of the error (`TOPIC_AUTHORIZATION_FAILED`), or librdkafka's with a leading underscore (`_TRANSPORT`).
    pub code: String,
    /// What the broker or the connection said.
    pub message: String,
}

/// What kind of failure it is, as far as a caller acts upon it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No broker could be talked to, or none answered in time.
    Unreachable,
    /// A broker refused who we are, or what we may do.
    Unauthorized,
    /// A broker answered and refused.
    Refused,
    /// Everything else: settings, a bad certificate file, a fault of the library.
    Other,
}

impl std::error::Error for KafkaError {}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KafkaError { kind, endpoint, operation, code, message } = self;
        match kind {
            Kind::Unreachable => write!(f, "could not {operation}: kafka at {endpoint} is unreachable: {message}"),
            _ => write!(f, "could not {operation}: kafka at {endpoint}: {message}"),
        }?;
        if code.is_empty() { Ok(()) } else { write!(f, " ({code})") }
    }
}

impl KafkaError {
    /// Whether another producer has taken over the transactional id.
    pub fn is_fenced(&self) -> bool {
        ["_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH"].contains(&self.code.as_str())
    }

    /// What a broker or the library said of `operation`. A time-out or a lost connection is told by `failure`, the last
    /// failure of a connection, where there was one.
    pub(super) fn of(fault: &Fault, endpoint: &str, operation: &str, failure: Option<String>) -> KafkaError {
        let kind = kind(fault.code);
        let message = match failure {
            Some(failure) if kind == Kind::Unreachable => with_hint(failure),
            _ => fault.text.clone(),
        };
        KafkaError { kind, endpoint: endpoint.into(), operation: operation.into(), code: native::code_name(fault.code), message }
    }

    /// A fault that was found without asking Kafka.
    pub(super) fn local(endpoint: &str, operation: &str, message: impl Into<String>) -> KafkaError {
        let (endpoint, operation) = (endpoint.into(), operation.into());
        KafkaError { kind: Kind::Other, endpoint, operation, code: String::new(), message: message.into() }
    }
}

/// A listener that wants TLS or SASL hangs up on who begins without.
fn with_hint(failure: String) -> String {
    if failure.ends_with("connection closed by peer: receive 0 after POLLIN") {
        return format!("{failure}: does its listener want TLS or SASL?");
    }
    failure
}

fn kind(code: i32) -> Kind {
    match code {
        code::TRANSPORT | code::RESOLVE | code::ALL_BROKERS_DOWN | code::TIMED_OUT | code::TIMED_OUT_QUEUE | code::SSL => {
            Kind::Unreachable
        }
        code::AUTHENTICATION
        | code::TOPIC_AUTHORIZATION_FAILED
        | code::GROUP_AUTHORIZATION_FAILED
        | code::CLUSTER_AUTHORIZATION_FAILED
        | code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        | code::SASL_AUTHENTICATION_FAILED => Kind::Unauthorized,
        1.. => Kind::Refused,
        _ => Kind::Other,
    }
}

/// The error codes that are told apart; librdkafka's own are negative.
pub(super) mod code {
    pub(in crate::kafka) const TRANSPORT: i32 = -195;
    pub(in crate::kafka) const RESOLVE: i32 = -193;
    pub(in crate::kafka) const PARTITION_EOF: i32 = -191;
    pub(in crate::kafka) const ALL_BROKERS_DOWN: i32 = -187;
    pub(in crate::kafka) const INVALID_ARGUMENT: i32 = -186;
    pub(in crate::kafka) const TIMED_OUT: i32 = -185;
    pub(in crate::kafka) const SSL: i32 = -181;
    pub(in crate::kafka) const AUTHENTICATION: i32 = -169;
    pub(in crate::kafka) const TIMED_OUT_QUEUE: i32 = -166;
    pub(in crate::kafka) const FATAL: i32 = -150;
    pub(in crate::kafka) const FENCED: i32 = -144;
    pub(in crate::kafka) const UNKNOWN_TOPIC_OR_PARTITION: i32 = 3;
    pub(in crate::kafka) const COORDINATOR_LOAD_IN_PROGRESS: i32 = 14;
    pub(in crate::kafka) const COORDINATOR_NOT_AVAILABLE: i32 = 15;
    pub(in crate::kafka) const NOT_COORDINATOR: i32 = 16;
    pub(in crate::kafka) const TOPIC_AUTHORIZATION_FAILED: i32 = 29;
    pub(in crate::kafka) const GROUP_AUTHORIZATION_FAILED: i32 = 30;
    pub(in crate::kafka) const CLUSTER_AUTHORIZATION_FAILED: i32 = 31;
    pub(in crate::kafka) const INVALID_PRODUCER_EPOCH: i32 = 47;
    pub(in crate::kafka) const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i32 = 53;
    pub(in crate::kafka) const SASL_AUTHENTICATION_FAILED: i32 = 58;
    pub(in crate::kafka) const UNSTABLE_OFFSET_COMMIT: i32 = 88;
    pub(in crate::kafka) const PRODUCER_FENCED: i32 = 90;
}
