//! A query's text to a typed query.
pub mod query;
