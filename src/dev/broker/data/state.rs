//! What partitions say of themselves: `DescribeProducers` and `DescribeLogDirs`.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeProducersRequest, DescribeProducersResponse, ProducerId, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::dev::broker::partition::Partition;
use crate::dev::broker::producers::Active;
use crate::dev::broker::topics::{Topic, check_name};
use crate::dev::broker::{Broker, Call};

/// `DescribeProducers` (KIP-664): who writes to a partition, and since where its transaction is open.
pub async fn describe_producers(broker: &Arc<Broker>, _: &Call, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let topics = request.topics.iter().map(|topic| {
        let unknown = if check_name(&topic.name).is_ok() {
            ResponseError::UnknownTopicOrPartition
        } else {
            ResponseError::InvalidTopicException
        };
        let partitions = topic.partition_indexes.iter().map(|index| {
            let answer = PartitionResponse::default().with_partition_index(*index);
            match broker.topics.partition(&topic.name, *index) {
                Some(partition) => answer.with_active_producers(partition.producers().into_iter().map(producer).collect()),
                None => answer.with_error_code(unknown.code()),
            }
        });
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn producer(active: Active) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(active.producer_id))
        .with_producer_epoch(i32::from(active.epoch))
        .with_last_sequence(active.last_sequence)
        .with_last_timestamp(active.last_timestamp)
        .with_coordinator_epoch(active.coordinator_epoch)
        .with_current_txn_start_offset(active.transaction_start)
}

/// `DescribeLogDirs`: the one directory, and how much each partition takes there. How large the disk is it does not say (-1).
pub async fn describe_log_dirs(broker: &Arc<Broker>, _: &Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let topics = match request.topics {
        None => broker.topics.list().iter().map(|topic| sizes(topic, |_| true)).collect(),
        Some(asked) => {
            let sizes = asked.iter().filter_map(|asked| {
                let wanted: HashSet<i32> = asked.partitions.iter().copied().collect();
                Some(sizes(broker.topics.get(&asked.topic)?.as_ref(), |index| wanted.contains(&index)))
            });
            sizes.filter(|topic| !topic.partitions.is_empty()).collect()
        }
    };
    let dir = std::path::absolute(&broker.settings.data).unwrap_or_else(|_| broker.settings.data.clone());
    let result =
        DescribeLogDirsResult::default().with_log_dir(StrBytes::from_string(dir.display().to_string())).with_topics(topics);
    DescribeLogDirsResponse::default().with_results(vec![result])
}

fn sizes(topic: &Topic, wanted: impl Fn(i32) -> bool) -> DescribeLogDirsTopic {
    let size = |partition: &Arc<Partition>| {
        DescribeLogDirsPartition::default()
            .with_partition_index(partition.place.index)
            .with_partition_size(i64::try_from(partition.size()).unwrap_or(i64::MAX))
    };
    let partitions = topic.partitions();
    let wanted = partitions.iter().filter(|partition| wanted(partition.place.index));
    DescribeLogDirsTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.name.clone())))
        .with_partitions(wanted.map(size).collect())
}
