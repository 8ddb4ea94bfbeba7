//! Offsets of logs: `ListOffsets`, `OffsetForLeaderEpoch`, `DeleteRecords`.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};

use super::{check_leader_epoch, code};
use crate::dev::broker::partition::{Isolation, LEADER_EPOCH, Partition};
use crate::dev::broker::topics::is_internal;
use crate::dev::broker::{Broker, Call};

/// Times that mean a place: KIP-79, KIP-734, KIP-405, KIP-1005.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// An offset as `ListOffsets` answers it: offset, timestamp, leader epoch.
type Listed = (i64, i64, i32);
const NOTHING: Listed = (-1, -1, -1);

/// `ListOffsets`: the offset at a place or a time.
pub async fn list_offsets(broker: &Arc<Broker>, call: &Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation = if request.isolation_level == 1 { Isolation::Committed } else { Isolation::Uncommitted };
    let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
    for (topic, part) in request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |part| (topic, part))) {
        if !seen.insert((topic.name.as_str(), part.partition_index)) {
            twice.insert((topic.name.as_str(), part.partition_index));
        }
    }
    // What is asked for twice is refused, once.
    let mut refused = HashSet::new();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().filter_map(|part| {
            let place = (topic.name.as_str(), part.partition_index);
            let found = if !twice.contains(&place) {
                let partition = broker.topics.partition(&topic.name, part.partition_index);
                listed(call.version, partition.as_deref(), isolation, part)
            } else if refused.insert(place) {
                Err(ResponseError::InvalidRequest)
            } else {
                return None;
            };
            let (offset, timestamp, epoch) = found.unwrap_or(NOTHING);
            let answer = ListOffsetsPartitionResponse::default()
                .with_partition_index(part.partition_index)
                .with_error_code(code(&found))
                .with_offset(offset)
                .with_timestamp(timestamp)
                .with_leader_epoch(if call.version >= 4 { epoch } else { -1 });
            Some(answer)
        });
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn listed(
    version: i16,
    partition: Option<&Partition>,
    isolation: Isolation,
    asked: &ListOffsetsPartition,
) -> Result<Listed, ResponseError> {
    let first_version = match asked.timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST.. => 0,
        _ => i16::MAX,
    };
    if version < first_version {
        return Err(ResponseError::UnsupportedVersion);
    }
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_leader_epoch(asked.current_leader_epoch)?;
    let ends = partition.ends();
    Ok(match asked.timestamp {
        LATEST if isolation == Isolation::Committed => (ends.last_stable, -1, LEADER_EPOCH),
        LATEST => (ends.end, -1, LEADER_EPOCH),
        EARLIEST | EARLIEST_LOCAL => (ends.start, -1, LEADER_EPOCH),
        LATEST_TIERED => NOTHING,
        MAX_TIMESTAMP => match partition.max_timestamp()? {
            Some((timestamp, offset)) if isolation == Isolation::Uncommitted || offset < ends.last_stable => {
                (offset, timestamp, LEADER_EPOCH)
            }
            _ => NOTHING,
        },
        time => match partition.offset_for_time(time, isolation)? {
            Some((offset, timestamp)) => (offset, timestamp, LEADER_EPOCH),
            None => NOTHING,
        },
    })
}

/// `OffsetForLeaderEpoch` (KIP-320): where the records of an epoch end.
pub async fn offset_for_leader_epoch(
    broker: &Arc<Broker>,
    _: &Call,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|part| {
            let partition = broker.topics.partition(&topic.topic, part.partition);
            let found = epoch_end(partition.as_deref(), part);
            let (epoch, end) = found.unwrap_or((-1, -1));
            EpochEndOffset::default()
                .with_partition(part.partition)
                .with_error_code(code(&found))
                .with_leader_epoch(epoch)
                .with_end_offset(end)
        });
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn epoch_end(partition: Option<&Partition>, asked: &OffsetForLeaderPartition) -> Result<(i32, i64), ResponseError> {
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_leader_epoch(asked.current_leader_epoch)?;
    Ok(if asked.leader_epoch == LEADER_EPOCH { (LEADER_EPOCH, partition.end()) } else { (-1, -1) })
}

/// `DeleteRecords`: those before an offset.
pub async fn delete_records(broker: &Arc<Broker>, _: &Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|part| {
            let done = match broker.topics.partition(&topic.name, part.partition_index) {
                None => Err(ResponseError::UnknownTopicOrPartition),
                Some(_) if is_internal(&topic.name) => Err(ResponseError::InvalidTopicException),
                Some(partition) => partition.delete_records(broker, part.offset),
            };
            DeleteRecordsPartitionResult::default()
                .with_partition_index(part.partition_index)
                .with_error_code(code(&done))
                .with_low_watermark(done.unwrap_or(-1))
        });
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}
