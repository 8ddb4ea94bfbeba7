//! Records in and out, and where they are: Produce, Fetch, offsets of logs, metadata.

pub mod fetch;
pub mod metadata;
pub mod offsets;
pub mod produce;
pub mod state;
pub mod upkeep;
pub(super) mod validate;

use kafka_protocol::error::ResponseError;

use super::partition::LEADER_EPOCH;

/// Whether a client that believes the leader's epoch to be `epoch` (-1: does not say) asks the leader it means (KIP-320).
///
/// # Errors
/// `FencedLeaderEpoch` for an older epoch, `UnknownLeaderEpoch` for one that is yet to come.
fn check_leader_epoch(epoch: i32) -> Result<(), ResponseError> {
    match epoch {
        ..=-1 | LEADER_EPOCH => Ok(()),
        _ => Err(ResponseError::UnknownLeaderEpoch),
    }
}

/// The code of an error, 0 for none.
fn code<T>(result: &Result<T, ResponseError>) -> i16 {
    result.as_ref().err().map_or(0, ResponseError::code)
}
