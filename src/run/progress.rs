//! Progress records: how far each product's producer has come, written in the transaction of every epoch.
//!
//! They live in the compacted topic `_mesh.progress`, one key for each product. What Kafka itself keeps (the input
//! offsets, under the group `mesh.PRODUCT`) is not repeated here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sources::replay::Position;

/// The topic of progress records.
pub const TOPIC: &str = "_mesh.progress";

/// How far a product's producer has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Counts the transactions of the product.
    pub epoch: u64,
    /// The event time that its output has reached.
    pub frontier: Option<i64>,
    /// A replay's position in its file.
    pub replay: Option<Position>,
    /// Records written to each partition so far, deletes included.
    pub written: BTreeMap<i32, u64>,
    /// Fingerprint of the query that the state belongs to.
    pub query: Option<String>,
}

impl Progress {
    /// The record's value.
    pub fn encode(&self) -> Vec<u8> {
        // A struct of numbers and strings has no value that JSON can't hold.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a record's value.
    pub fn decode(bytes: &[u8]) -> Result<Progress, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("a progress record in {TOPIC} can't be read: {error}"))
    }
}
