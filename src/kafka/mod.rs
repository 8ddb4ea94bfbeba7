//! Kafka: the door to a cluster. It moves bytes and asks questions; what to do with them is decided elsewhere.
//!
//! `client` turns an environment into a client's settings, `admin` asks and changes (async), `consumer` reads records and
//! `producer` writes them in transactions (both block, for threads of their own). `native` alone touches the C library.

pub mod admin;
mod client;
pub mod consumer;
mod error;
mod native;
pub mod producer;

pub use admin::Admin;
pub use error::{KafkaError, Kind};
