//! The guest house: a Kafka-protocol broker and a Confluent-compatible registry in one process, for laptops and tests.
//!
//! It listens on loopback only and knows nothing of products: `cli` (`mesh dev`) and the tests are its only guests. It may
//! import `model`, `schema` and library crates, nothing else of the house.

pub mod broker;
pub mod registry;
