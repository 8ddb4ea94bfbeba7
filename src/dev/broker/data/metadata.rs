//! `Metadata` and `DescribeTopicPartitions` (KIP-966): which topics and partitions there are, and where.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::dev::broker::partition::LEADER_EPOCH;
use crate::dev::broker::topics::{self, NewTopic, Topic};
use crate::dev::broker::{Broker, Call, NODE};

/// What a client may do that nothing forbids, as bits of the protocol's numbers of operations: on a topic read, write,
/// create, delete, alter, describe, describe configs, alter configs.
const ALL_ON_TOPIC: i32 = 0b1101_1111_1000;
/// On the cluster: create, alter, describe, cluster action, describe configs, alter configs, idempotent write.
const ALL_ON_CLUSTER: i32 = 0b1_1111_1010_0000;

/// `Metadata`: all topics, some, or none; those that are not there are made if client and broker want that.
pub async fn metadata(broker: &Arc<Broker>, call: &Call, request: MetadataRequest) -> MetadataResponse {
    let mut response = MetadataResponse::default()
        .with_brokers(vec![this_node(broker)])
        .with_cluster_id(Some(StrBytes::from_string(broker.cluster_id.clone())))
        .with_controller_id(BrokerId(NODE));
    // In version 0 an empty list means all; later that is null.
    let all = request.topics.as_ref().is_none_or(|topics| topics.is_empty() && call.version == 0);
    response.topics = match request.topics {
        Some(asked) if !all => named(broker, call, &asked, request.allow_auto_topic_creation || call.version < 4),
        _ => broker.topics.list().iter().map(|topic| described(topic)).collect(),
    };
    if request.include_topic_authorized_operations {
        for topic in &mut response.topics {
            topic.topic_authorized_operations = ALL_ON_TOPIC;
        }
    }
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = ALL_ON_CLUSTER;
    }
    response
}

fn this_node(broker: &Broker) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE))
        .with_host(StrBytes::from_string(broker.address.ip().to_string()))
        .with_port(i32::from(broker.address.port()))
}

/// The topics that were asked for, each once.
fn named(broker: &Broker, call: &Call, asked: &[MetadataRequestTopic], may_create: bool) -> Vec<MetadataResponseTopic> {
    let ids: BTreeSet<Uuid> = asked.iter().map(|topic| topic.topic_id).filter(|id| !id.is_nil()).collect();
    if !ids.is_empty() {
        // Names are not looked at when ids are given. Before version 12 ids cannot be asked for.
        let found = |id: Uuid| match broker.topics.by_id(id).filter(|_| call.version >= 12) {
            Some(topic) => described(&topic),
            None => missing(ResponseError::UnknownTopicId, None).with_topic_id(id),
        };
        return ids.into_iter().map(found).collect();
    }
    let names: BTreeSet<&str> = asked.iter().filter_map(|topic| topic.name.as_ref()).map(|name| name.as_str()).collect();
    let found = |name: &str| match topic_or_new(broker, name, may_create) {
        Ok(topic) => described(&topic),
        Err(error) => missing(error, Some(name)),
    };
    names.into_iter().map(found).collect()
}

fn topic_or_new(broker: &Broker, name: &str, may_create: bool) -> Result<Arc<Topic>, ResponseError> {
    if let Some(topic) = broker.topics.get(name) {
        return Ok(topic);
    }
    topics::check_name(name).map_err(|_| ResponseError::InvalidTopicException)?;
    if !may_create || topics::is_internal(name) || !broker.configs.flag("auto.create.topics.enable") {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    let partitions = i32::try_from(broker.configs.number("num.partitions")).unwrap_or(1);
    let new = NewTopic { name: name.to_owned(), partitions, ..NewTopic::default() };
    match broker.topics.create(broker, &new) {
        // Another client was faster.
        Err(ResponseError::TopicAlreadyExists) => broker.topics.get(name).ok_or(ResponseError::UnknownTopicOrPartition),
        made => made,
    }
}

fn described(topic: &Topic) -> MetadataResponseTopic {
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE))
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![BrokerId(NODE)])
            .with_isr_nodes(vec![BrokerId(NODE)])
    };
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(topics::is_internal(&topic.name))
        .with_partitions((0..topic.count()).map(partition).collect())
}

fn missing(error: ResponseError, name: Option<&str>) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(name.map(topic_name))
        .with_is_internal(name.is_some_and(topics::is_internal))
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// `DescribeTopicPartitions`: topics by name, a page of partitions at a time, and where the next page begins.
pub async fn describe_topic_partitions(
    broker: &Arc<Broker>,
    _: &Call,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let all = request.topics.is_empty();
    let mut names: BTreeSet<String> = request.topics.iter().map(|topic| topic.name.to_string()).collect();
    if all {
        names.extend(broker.topics.list().iter().map(|topic| topic.name.clone()));
    }
    let cursor =
        request.cursor.map_or_else(Default::default, |cursor| (cursor.topic_name.to_string(), cursor.partition_index.max(0)));
    let most = i32::try_from(broker.configs.number("max.request.partition.size.limit")).unwrap_or(i32::MAX).max(1);
    let mut room = request.response_partition_limit.clamp(1, most);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.range(cursor.0.clone()..) {
        let from = if *name == cursor.0 { cursor.1 } else { 0 };
        if room == 0 {
            response.next_cursor = Some(Cursor::default().with_topic_name(topic_name(name)).with_partition_index(from));
            break;
        }
        let Some(topic) = broker.topics.get(name) else {
            response.topics.extend((!all).then(|| undescribed(name)));
            continue;
        };
        let upto = topic.count().min(from.saturating_add(room));
        response.topics.push(page(&topic, from..upto));
        room = room.saturating_sub(upto.saturating_sub(from).max(0));
        if upto < topic.count() {
            response.next_cursor = Some(Cursor::default().with_topic_name(topic_name(name)).with_partition_index(upto));
            break;
        }
    }
    response
}

fn undescribed(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match topics::check_name(name) {
        Ok(()) => ResponseError::UnknownTopicOrPartition,
        Err(_) => ResponseError::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(topic_name(name)))
        .with_is_internal(topics::is_internal(name))
        .with_topic_authorized_operations(ALL_ON_TOPIC)
}

fn page(topic: &Topic, indexes: std::ops::Range<i32>) -> DescribeTopicPartitionsResponseTopic {
    let partition = |index| {
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE))
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![BrokerId(NODE)])
            .with_isr_nodes(vec![BrokerId(NODE)])
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(topics::is_internal(&topic.name))
        .with_partitions(indexes.map(partition).collect())
        .with_topic_authorized_operations(ALL_ON_TOPIC)
}
