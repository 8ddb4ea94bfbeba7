//! Records in and out, and where they are: Produce, Fetch, offsets of logs, metadata.

pub mod metadata;
pub(super) mod validate;
