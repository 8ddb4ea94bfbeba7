//! `mesh`: declarative data products on Kafka.
pub mod apply;
pub mod catalog;
pub mod cli;
pub mod dev;
pub mod engine;
pub mod format;
pub mod kafka;
pub mod manifest;
pub mod model;
pub mod plan;
pub mod registry;
pub mod report;
pub mod run;
pub mod schema;
pub mod sources;
pub mod sql;
pub mod testing;
