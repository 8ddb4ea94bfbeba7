//! What can go wrong: a query that has no dataflow, a row that can't be computed, state that can't be read back.

use arrow::error::ArrowError;
use datafusion_common::DataFusionError;
use thiserror::Error;

/// Why a query can't be compiled.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct CompileError(pub String);

impl From<DataFusionError> for CompileError {
    fn from(error: DataFusionError) -> Self {
        CompileError(reason(&error))
    }
}

impl From<ArrowError> for CompileError {
    fn from(error: ArrowError) -> Self {
        CompileError(arrow_reason(&error))
    }
}

/// A row that can't be computed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{expression}: {reason}")]
pub struct RowError {
    /// The record that caused it: position of its batch among those given to `step`, and of its row there. `None`
    /// when the row is a join's or an aggregate's result and has no single cause.
    pub record: Option<(usize, usize)>,
    /// The input that record belongs to.
    pub input: Option<usize>,
    /// The expression that failed, as SQL.
    pub expression: String,
    /// Why, such as `division by zero`.
    pub reason: String,
}

/// Why a state record of the changelog can't be restored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StateError {
    #[error("the state record's key names no operator of this query")]
    UnknownOperator,
    #[error("the state record was written by another query or another version of mesh")]
    OtherLayout,
    #[error("the state record is damaged: {0}")]
    Damaged(String),
}

/// An expression that failed on some row of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub expression: String,
    pub reason: String,
}

impl Failure {
    /// The failure of `expression`, in DataFusion's words without its prefixes.
    pub fn of(expression: impl Into<String>, error: &DataFusionError) -> Self {
        Failure { expression: expression.into(), reason: reason(error) }
    }
}

impl From<ArrowError> for Failure {
    fn from(error: ArrowError) -> Self {
        Failure { expression: "rows".into(), reason: arrow_reason(&error) }
    }
}

fn reason(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => arrow_reason(error),
        DataFusionError::Execution(message) | DataFusionError::Plan(message) | DataFusionError::NotImplemented(message) => {
            lower_first(message)
        }
        other => lower_first(&other.strip_backtrace()),
    }
}

fn arrow_reason(error: &ArrowError) -> String {
    match error {
        ArrowError::DivideByZero => "division by zero".into(),
        ArrowError::ArithmeticOverflow(message)
        | ArrowError::CastError(message)
        | ArrowError::ParseError(message)
        | ArrowError::ComputeError(message)
        | ArrowError::InvalidArgumentError(message) => lower_first(message),
        other => lower_first(&other.to_string()),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        // "Overflow happened" but "UTF-8 ..."
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}
