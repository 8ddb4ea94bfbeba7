//! Where partitions are and who leads them. On one node there is nothing to move and nobody else to lead: the answers are
//! those that Kafka gives there.

use std::path::Path;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse, ElectLeadersRequest, ElectLeadersResponse, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
};

use super::{NO_SUCH_PARTITION, check_replicas, told, topic_name};
use crate::dev::broker::configs::Refused;
use crate::dev::broker::{Broker, Call};

/// `AlterPartitionReassignments` (KIP-455): to this node, where the partition is; a reassignment that could be cancelled
/// there never is.
pub async fn reassign(
    broker: &Arc<Broker>,
    _: &Call,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let response = AlterPartitionReassignmentsResponse::default()
        .with_error_message(None)
        .with_allow_replication_factor_change(request.allow_replication_factor_change);
    let mut topics = Vec::new();
    for topic in request.topics {
        let partition = |asked: &ReassignablePartition| {
            let (code, message) = told(reassigned(broker, &topic.name, asked));
            let result = ReassignablePartitionResponse::default().with_partition_index(asked.partition_index);
            result.with_error_code(code).with_error_message(message)
        };
        let partitions = topic.partitions.iter().map(partition).collect();
        topics.push(ReassignableTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    response.with_responses(topics)
}

fn reassigned(broker: &Broker, topic: &str, asked: &ReassignablePartition) -> Result<(), Refused> {
    exists(broker, topic, asked.partition_index)?;
    match &asked.replicas {
        None => Err(Refused::new(ResponseError::NoReassignmentInProgress, "The partition is not being reassigned.")),
        Some(replicas) => check_replicas(replicas),
    }
}

fn exists(broker: &Broker, topic: &str, index: i32) -> Result<(), Refused> {
    let unknown = || Refused::new(ResponseError::UnknownTopicOrPartition, format!("{topic}-{index}: {NO_SUCH_PARTITION}."));
    broker.topics.partition(topic, index).map(drop).ok_or_else(unknown)
}

/// `ListPartitionReassignments`: none.
pub async fn list_reassignments(
    _: &Arc<Broker>,
    _: &Call,
    _: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default().with_error_message(None)
}

/// `ElectLeaders` (KIP-460): this node leads already.
pub async fn elect(broker: &Arc<Broker>, _: &Call, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let unknown = || Refused::new(ResponseError::InvalidRequest, format!("{} is no type of election.", request.election_type));
    let known = (0..=1).contains(&request.election_type).then_some(()).ok_or_else(unknown);
    let response = ElectLeadersResponse::default().with_error_code(told(known.clone()).0);
    // Asked for all partitions, Kafka names those where a leader was elected: none.
    let Some(asked) = request.topic_partitions else {
        let none = |name: &str| ReplicaElectionResult::default().with_topic(topic_name(name));
        let topics = broker.topics.list();
        let results = topics.iter().filter(|_| known.is_ok()).map(|topic| none(&topic.name)).collect();
        return response.with_replica_election_results(results);
    };
    let mut results = Vec::new();
    for topic in asked {
        let partition = |index: &i32| {
            let not_needed = Refused::new(ResponseError::ElectionNotNeeded, "The partition has the leader that it should have.");
            let outcome = known.clone().and_then(|()| exists(broker, &topic.topic, *index)).and(Err(not_needed));
            let (code, message) = told(outcome);
            PartitionResult::default().with_partition_id(*index).with_error_code(code).with_error_message(message)
        };
        let partitions = topic.partitions.iter().map(partition).collect();
        results.push(ReplicaElectionResult::default().with_topic(topic.topic.clone()).with_partition_result(partitions));
    }
    response.with_replica_election_results(results)
}

/// `AlterReplicaLogDirs` (KIP-113): to the one directory that there is, where the partitions are.
pub async fn move_dirs(broker: &Arc<Broker>, _: &Call, request: AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    let own = std::path::absolute(&broker.settings.data).unwrap_or_else(|_| broker.settings.data.clone());
    let mut results = Vec::new();
    for dir in request.dirs {
        let known = Path::new(dir.path.as_str()) == own;
        for topic in dir.topics {
            let partition = |index: &i32| {
                let unknown = Refused::new(ResponseError::LogDirNotFound, "");
                let outcome = if known { exists(broker, &topic.name, *index) } else { Err(unknown) };
                AlterReplicaLogDirPartitionResult::default().with_partition_index(*index).with_error_code(told(outcome).0)
            };
            let partitions = topic.partitions.iter().map(partition).collect();
            let result = AlterReplicaLogDirTopicResult::default().with_topic_name(topic.name.clone());
            results.push(result.with_partitions(partitions));
        }
    }
    AlterReplicaLogDirsResponse::default().with_results(results)
}
