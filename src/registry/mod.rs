//! The schema registry: Confluent's REST API, read leniently.
//!
//! Confluent's own registry, Apicurio (whose API lies under a path) and Karapace differ in what they answer for what is
//! not there; [`Registry`] asks for little and treats those answers alike. Every call may safely be repeated, and is,
//! within one deadline. Errors name endpoint and operation and hold neither credentials nor bodies.

mod client;
mod error;

pub use client::{Lookup, Reference, Registry, Schema, Version};
pub use error::{Kind, RegistryError};
