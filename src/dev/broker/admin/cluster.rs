//! `DescribeCluster`, `DescribeQuorum` and `UnregisterBroker`: one node, which is broker, controller and the only voter.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, DescribeQuorumRequest, DescribeQuorumResponse,
    UnregisterBrokerRequest, UnregisterBrokerResponse,
};

use super::{NO_SUCH_PARTITION, text, told};
use crate::dev::broker::configs::Refused;
use crate::dev::broker::security::acls::{CLUSTER_NAME, operation, resource};
use crate::dev::broker::{Broker, Call, NODE};

/// The name of Kafka's metadata log, whose voters `DescribeQuorum` is asked for.
const METADATA_LOG: &str = "__cluster_metadata";
/// What there is to do on a cluster.
const ON_CLUSTER: [i8; 7] = [
    operation::CREATE,
    operation::ALTER,
    operation::DESCRIBE,
    operation::CLUSTER_ACTION,
    operation::DESCRIBE_CONFIGS,
    operation::ALTER_CONFIGS,
    operation::IDEMPOTENT_WRITE,
];

/// `DescribeCluster` (KIP-700).
pub async fn describe(broker: &Arc<Broker>, call: &Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    // KIP-919: who wants to speak with a controller finds a broker's port here.
    let refused = match request.endpoint_type {
        1 => None,
        2 => Some(Refused::new(ResponseError::MismatchedEndpointType, "This is a broker's endpoint, not a controller's.")),
        other => Some(Refused::new(ResponseError::UnsupportedEndpointType, format!("There are no endpoints of type {other}."))),
    };
    let response = DescribeClusterResponse::default().with_endpoint_type(1);
    if let Some(refused) = refused {
        let (code, message) = told(Err(refused));
        return response.with_error_code(code).with_error_message(message).with_controller_id(BrokerId(-1));
    }
    let node = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(NODE))
        .with_host(text(broker.address.ip().to_string()))
        .with_port(i32::from(broker.address.port()));
    let allowed = |operation: &i8| broker.allows(&call.session, *operation, resource::CLUSTER, CLUSTER_NAME);
    let operations = ON_CLUSTER.iter().filter(|operation| allowed(operation)).fold(0, |bits, operation| bits | 1 << *operation);
    response
        .with_cluster_id(text(broker.cluster_id.clone()))
        .with_controller_id(BrokerId(NODE))
        .with_brokers(vec![node])
        .with_cluster_authorized_operations(if request.include_cluster_authorized_operations { operations } else { i32::MIN })
}

/// `DescribeQuorum` (KIP-595): this node votes alone. There is no metadata log, hence nothing that it could be behind in.
pub async fn quorum(broker: &Arc<Broker>, call: &Call, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let mut found = false;
    let mut topics = Vec::new();
    for topic in request.topics {
        let partition = |index: i32| {
            let partition = PartitionData::default().with_partition_index(index);
            if topic.topic_name.as_str() != METADATA_LOG || index != 0 {
                let refused = Refused::new(ResponseError::UnknownTopicOrPartition, NO_SUCH_PARTITION);
                let (code, message) = told(Err(refused));
                let message = message.filter(|_| call.version >= 2);
                return (partition.with_error_code(code).with_error_message(message), false);
            }
            let mut voter = ReplicaState::default().with_replica_id(BrokerId(NODE)).with_log_end_offset(0);
            if call.version >= 1 {
                voter = voter.with_last_fetch_timestamp(broker.now()).with_last_caught_up_timestamp(broker.now());
            }
            (partition.with_leader_id(BrokerId(NODE)).with_leader_epoch(1).with_current_voters(vec![voter]), true)
        };
        let partitions: Vec<_> = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
        found |= partitions.iter().any(|(_, found)| *found);
        let partitions = partitions.into_iter().map(|(partition, _)| partition).collect();
        topics.push(TopicData::default().with_topic_name(topic.topic_name.clone()).with_partitions(partitions));
    }
    let listener = Listener::default()
        .with_name(text("PLAINTEXT"))
        .with_host(text(broker.address.ip().to_string()))
        .with_port(broker.address.port());
    let node = Node::default().with_node_id(BrokerId(NODE)).with_listeners(vec![listener]);
    DescribeQuorumResponse::default().with_topics(topics).with_nodes(if found && call.version >= 2 {
        vec![node]
    } else {
        Vec::new()
    })
}

/// `UnregisterBroker` (KIP-631): the only one stays.
pub async fn unregister(_: &Arc<Broker>, _: &Call, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    let refused = match request.broker_id.0 {
        NODE => Refused::new(ResponseError::InvalidRequest, "The only broker cannot be taken out of the cluster."),
        other => Refused::new(ResponseError::BrokerIdNotRegistered, format!("There is no broker {other}.")),
    };
    let (code, message) = told(Err(refused));
    UnregisterBrokerResponse::default().with_error_code(code).with_error_message(message)
}
