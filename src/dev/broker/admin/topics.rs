//! `CreateTopics`, `DeleteTopics` and `CreatePartitions`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse,
};
use uuid::Uuid;

use super::{NO_SUCH_PARTITION, check_replicas, storage_failed, text, told, topic_name};
use crate::dev::broker::configs::{Refused, Resource, Values};
use crate::dev::broker::security::acls::{operation, resource};
use crate::dev::broker::topics::NewTopic;
use crate::dev::broker::{Broker, Call};

/// Kafka's own log of metadata, which no client may make.
const METADATA_LOG: &str = "__cluster_metadata";
/// How many partitions a topic grows by at once, as in Kafka's controller.
const MOST: i32 = 10_000;

/// `CreateTopics`: each topic for itself; a name that a request has twice is made not at all.
pub async fn create(broker: &Arc<Broker>, call: &Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let names = counted(request.topics.iter().map(|topic| topic.name.to_string()));
    let mut topics = Vec::new();
    for (name, times) in &names {
        let asked = request.topics.iter().find(|topic| topic.name.as_str() == name.as_str());
        let made = match asked {
            Some(asked) if *times == 1 => create_one(broker, call, asked, request.validate_only),
            _ => Err(Refused::new(ResponseError::InvalidRequest, "The request has the topic more than once.")),
        };
        topics.push(made.unwrap_or_else(|refused| {
            let (code, message) = told(Err(refused));
            CreatableTopicResult::default()
                .with_name(topic_name(name))
                .with_error_code(code)
                .with_error_message(message)
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(Some(Vec::new()))
        }));
    }
    CreateTopicsResponse::default().with_topics(topics)
}

/// How often each of them is there.
fn counted<T: Ord>(all: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_insert(0_usize) += 1;
    }
    counts
}

fn create_one(broker: &Broker, call: &Call, asked: &CreatableTopic, validate: bool) -> Result<CreatableTopicResult, Refused> {
    let name = asked.name.as_str();
    if name == METADATA_LOG {
        return Err(Refused::new(ResponseError::InvalidRequest, format!("Nobody but Kafka itself makes {METADATA_LOG}.")));
    }
    let (name_is_free, configs) = (broker.topics.check(name, 1), new_configs(asked)?);
    name_is_free.map_err(|(error, message)| Refused::new(error, message))?;
    broker.configs.check(&Resource::Topic(name.to_owned()), &configs)?;
    let partitions = new_partitions(broker, asked)?;
    broker.topics.check(name, partitions).map_err(|(error, message)| Refused::new(error, message))?;
    let new = NewTopic { name: name.to_owned(), partitions, configs };
    let id = if validate { Uuid::nil() } else { make(broker, &new)? };
    let result = CreatableTopicResult::default().with_name(asked.name.clone()).with_topic_id(id).with_error_message(None);
    if !broker.allows(&call.session, operation::DESCRIBE_CONFIGS, resource::TOPIC, name) {
        let code = ResponseError::TopicAuthorizationFailed.code();
        return Ok(result.with_topic_config_error_code(code).with_num_partitions(-1).with_replication_factor(-1));
    }
    let configs = shown_configs(broker, &new.configs);
    Ok(result.with_num_partitions(partitions).with_replication_factor(1).with_configs(Some(configs)))
}

fn make(broker: &Broker, new: &NewTopic) -> Result<Uuid, Refused> {
    let made = broker.topics.create(broker, new).map_err(|error| match error {
        ResponseError::KafkaStorageError => storage_failed(),
        // Another client was faster.
        _ => match broker.topics.check(&new.name, new.partitions) {
            Err((error, message)) => Refused::new(error, message),
            Ok(()) => Refused::new(error, "Another request was in the way; try again."),
        },
    })?;
    Ok(made.id)
}

fn new_configs(asked: &CreatableTopic) -> Result<Values, Refused> {
    let without: Vec<&str> =
        asked.configs.iter().filter(|config| config.value.is_none()).map(|config| config.name.as_str()).collect();
    if !without.is_empty() {
        let message = format!("A topic's configs need a value: {}", without.join(", "));
        return Err(Refused::new(ResponseError::InvalidConfig, message));
    }
    let value = |config: &kafka_protocol::messages::create_topics_request::CreatableTopicConfig| {
        Some((config.name.to_string(), config.value.as_ref()?.to_string()))
    };
    Ok(asked.configs.iter().filter_map(value).collect())
}

/// How many partitions a new topic gets.
fn new_partitions(broker: &Broker, asked: &CreatableTopic) -> Result<i32, Refused> {
    if !asked.assignments.is_empty() {
        if asked.replication_factor != -1 || asked.num_partitions != -1 {
            let message = "With partitions assigned by hand, the number of partitions and the replication factor have to be -1.";
            return Err(Refused::new(ResponseError::InvalidRequest, message));
        }
        return assigned(&asked.assignments);
    }
    let default = || i16::try_from(broker.configs.number("default.replication.factor")).unwrap_or(1);
    let factor = if asked.replication_factor == -1 { default() } else { asked.replication_factor };
    if factor <= 0 {
        let message = "The replication factor has to be larger than 0, or -1 for the broker's default.";
        return Err(Refused::new(ResponseError::InvalidReplicationFactor, message));
    }
    let partitions = match asked.num_partitions {
        -1 => i32::try_from(broker.configs.number("num.partitions")).unwrap_or(1),
        partitions => partitions,
    };
    if partitions <= 0 {
        let message = "The number of partitions has to be larger than 0, or -1 for the broker's default.";
        return Err(Refused::new(ResponseError::InvalidPartitions, message));
    }
    if factor > 1 {
        let message = format!("Unable to replicate the partition {factor} times: there is only 1 broker.");
        return Err(Refused::new(ResponseError::InvalidReplicationFactor, message));
    }
    Ok(partitions)
}

fn assigned(assignments: &[CreatableReplicaAssignment]) -> Result<i32, Refused> {
    let refuse = |message: String| Err(Refused::new(ResponseError::InvalidReplicaAssignment, message));
    let mut seen = BTreeSet::new();
    for assignment in assignments {
        if !seen.insert(assignment.partition_index) {
            return refuse(format!("Partition {} is assigned more than once.", assignment.partition_index));
        }
        check_replicas(&assignment.broker_ids)?;
    }
    let count = i32::try_from(seen.len()).unwrap_or(i32::MAX);
    if !seen.into_iter().eq(0..count) {
        return refuse("The assigned partitions have to be 0, 1, 2 and so on, without a gap.".to_owned());
    }
    Ok(count)
}

fn shown_configs(broker: &Broker, own: &Values) -> Vec<CreatableTopicConfigs> {
    let shown = |(name, value, source): (&str, String, crate::dev::broker::configs::Source)| {
        CreatableTopicConfigs::default().with_name(text(name)).with_value(Some(text(value))).with_config_source(source as i8)
    };
    broker.configs.of_new_topic(own).into_iter().map(shown).collect()
}

/// `DeleteTopics`: by name, or from version 6 on by id (KIP-516). What a request names twice is not deleted at all.
pub async fn delete(broker: &Arc<Broker>, call: &Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let mut responses = Vec::new();
    let mut names: Vec<String> = request.topic_names.iter().map(|name| name.to_string()).collect();
    let mut ids = Vec::new();
    for topic in request.topics {
        match (topic.name, topic.topic_id) {
            (None, id) if id.is_nil() => {
                let message = "Neither the topic's name nor its id is given.";
                responses.push(deletion(None, id, Err(Refused::new(ResponseError::InvalidRequest, message))));
            }
            (None, id) => ids.push(id),
            (Some(name), id) if id.is_nil() => names.push(name.to_string()),
            (Some(name), id) => {
                let message = "Both the topic's name and its id are given.";
                responses.push(deletion(Some(name.as_str()), id, Err(Refused::new(ResponseError::InvalidRequest, message))));
            }
        }
    }
    let names = counted(names.into_iter());
    let mut ids = counted(ids.into_iter());
    for (name, times) in &names {
        // Named by its id as well: one answer, and the topic stays.
        let id = broker.topics.get(name).map(|topic| topic.id).filter(|id| *times == 1 && ids.remove(id).is_some());
        responses.push(match id {
            Some(id) => {
                let message = "The request has the topic both by its name and by its id.";
                deletion(Some(name), id, Err(Refused::new(ResponseError::InvalidRequest, message)))
            }
            None => delete_by_name(broker, call, name, *times),
        });
    }
    responses.extend(ids.iter().map(|(id, times)| delete_by_id(broker, call, *id, *times)));
    DeleteTopicsResponse::default().with_responses(responses)
}

fn deletion(name: Option<&str>, id: Uuid, outcome: Result<(), Refused>) -> DeletableTopicResult {
    let (code, message) = told(outcome);
    DeletableTopicResult::default()
        .with_name(name.map(topic_name))
        .with_topic_id(id)
        .with_error_code(code)
        .with_error_message(message)
}

fn delete_by_id(broker: &Broker, call: &Call, id: Uuid, times: usize) -> DeletableTopicResult {
    if times > 1 {
        let refused = Refused::new(ResponseError::InvalidRequest, "The request has the topic's id more than once.");
        return deletion(None, id, Err(refused));
    }
    let Some(topic) = broker.topics.by_id(id) else {
        return deletion(None, id, Err(Refused::new(ResponseError::UnknownTopicId, "There is no topic with this id here.")));
    };
    deletion(Some(&topic.name), id, remove(broker, call, &topic.name))
}

fn delete_by_name(broker: &Broker, call: &Call, name: &str, times: usize) -> DeletableTopicResult {
    if times > 1 {
        let refused = Refused::new(ResponseError::InvalidRequest, "The request has the topic's name more than once.");
        return deletion(Some(name), Uuid::nil(), Err(refused));
    }
    let Some(topic) = broker.topics.get(name) else {
        let refused = Refused::new(ResponseError::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."));
        return deletion(Some(name), Uuid::nil(), Err(refused));
    };
    deletion(Some(name), topic.id, remove(broker, call, name))
}

fn remove(broker: &Broker, call: &Call, name: &str) -> Result<(), Refused> {
    if !broker.configs.flag("delete.topic.enable") {
        let error = if call.version < 3 { ResponseError::InvalidRequest } else { ResponseError::TopicDeletionDisabled };
        return Err(Refused::new(error, "Topics cannot be deleted: delete.topic.enable is false."));
    }
    broker.topics.delete(broker, name).map_err(|error| match error {
        ResponseError::KafkaStorageError => storage_failed(),
        error => Refused::new(error, NO_SUCH_PARTITION),
    })?;
    broker.groups.forget_topic(broker, name).map_err(|_| storage_failed())
}

/// `CreatePartitions`: grows topics.
pub async fn create_partitions(broker: &Arc<Broker>, _: &Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let names = counted(request.topics.iter().map(|topic| topic.name.to_string()));
    let mut results = Vec::new();
    for (name, times) in &names {
        let asked = request.topics.iter().find(|topic| topic.name.as_str() == name.as_str());
        let grown = match asked {
            Some(asked) if *times == 1 => grow(broker, asked, request.validate_only),
            _ => Err(Refused::new(ResponseError::InvalidRequest, "The request has the topic more than once.")),
        };
        let (code, message) = told(grown);
        let result = CreatePartitionsTopicResult::default().with_name(topic_name(name));
        results.push(result.with_error_code(code).with_error_message(message));
    }
    CreatePartitionsResponse::default().with_results(results)
}

fn grow(broker: &Broker, asked: &CreatePartitionsTopic, validate: bool) -> Result<(), Refused> {
    let name = asked.name.as_str();
    let unknown = || Refused::new(ResponseError::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."));
    let count = broker.topics.get(name).ok_or_else(unknown)?.count();
    let more = asked.count.saturating_sub(count);
    if more <= 0 {
        let message = match more {
            0 => format!("The topic '{name}' already has {count} partition(s)."),
            _ => format!("The topic '{name}' has {count} partition(s); {} would not be an increase.", asked.count),
        };
        return Err(Refused::new(ResponseError::InvalidPartitions, message));
    }
    if let Some(assignments) = &asked.assignments {
        if i32::try_from(assignments.len()) != Ok(more) {
            let message = format!("{more} partition(s) are to be added, but {} are assigned.", assignments.len());
            return Err(Refused::new(ResponseError::InvalidReplicaAssignment, message));
        }
        assignments.iter().try_for_each(|assignment| check_replicas(&assignment.broker_ids))?;
    }
    if more > MOST {
        let message = format!("No more than {MOST} partitions can be added at once.");
        return Err(Refused::new(ResponseError::PolicyViolation, message));
    }
    if validate {
        return Ok(());
    }
    broker.topics.add_partitions(broker, name, asked.count).map_err(|error| match error {
        ResponseError::KafkaStorageError => storage_failed(),
        ResponseError::UnknownTopicOrPartition => unknown(),
        error => Refused::new(error, format!("The topic '{name}' cannot have {} partitions.", asked.count)),
    })
}
