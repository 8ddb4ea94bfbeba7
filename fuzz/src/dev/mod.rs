//! The guest house without its registry.

#[path = "../../../src/dev/broker/mod.rs"]
pub mod broker;
