//! The dataflow.
pub mod batch;
