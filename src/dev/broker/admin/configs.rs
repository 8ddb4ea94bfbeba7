//! `DescribeConfigs`, `AlterConfigs`, `IncrementalAlterConfigs` (KIP-339) and `ListConfigResources` (KIP-1142).

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as ReplaceResult;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as AlterResult;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{storage_failed, text, told};
use crate::dev::broker::configs::alter::Op;
use crate::dev::broker::configs::describe::{Shown, Synonym};
use crate::dev::broker::configs::{Refused, Resource, Values};
use crate::dev::broker::topics::check_name;
use crate::dev::broker::{Broker, Call, NODE};

/// `DescribeConfigs`: of topics, this broker, all brokers, groups and client metrics subscriptions.
pub async fn describe(broker: &Arc<Broker>, _: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let describe = |asked: &DescribeConfigsResource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name.clone());
        let shown = described(broker, asked.resource_type, &asked.resource_name);
        let (code, message) = (shown.as_ref().err().map_or(0, |refused| refused.error.code()), shown.as_ref().err());
        let message = text(message.map_or("", |refused| refused.message.as_str()));
        let keys = asked.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
        let wanted = |shown: &Shown| keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == shown.name));
        let configs = shown.unwrap_or_default().into_iter().filter(wanted);
        let configs = configs.map(|shown| entry(shown, request.include_synonyms, request.include_documentation)).collect();
        result.with_error_code(code).with_error_message(Some(message)).with_configs(configs)
    };
    let results = request.resources.iter().map(describe).collect();
    DescribeConfigsResponse::default().with_results(results)
}

fn described(broker: &Broker, kind: i8, name: &str) -> Result<Vec<Shown>, Refused> {
    let invalid = |message: &str| Refused::new(ResponseError::InvalidRequest, message);
    let resource = match kind {
        Resource::TOPIC => {
            check_name(name).map_err(|why| Refused::new(ResponseError::InvalidTopicException, why))?;
            exists(broker, name)?;
            Resource::Topic(name.to_owned())
        }
        Resource::BROKER if name.is_empty() => Resource::Cluster,
        Resource::BROKER => this_broker(name).map(|()| Resource::Broker)?,
        // This broker has no logger whose level could be set: the list is empty.
        Resource::LOGGER => return this_broker(name).map(|()| Vec::new()),
        Resource::METRICS if name.is_empty() => return Err(invalid("The client metrics subscription's name is empty.")),
        Resource::METRICS => Resource::Metrics(name.to_owned()),
        Resource::GROUP if name.is_empty() => return Err(invalid("The group's name is empty.")),
        Resource::GROUP => Resource::Group(name.to_owned()),
        _ => return Err(unknown_kind(kind)),
    };
    Ok(broker.configs.describe(&resource))
}

fn exists(broker: &Broker, topic: &str) -> Result<(), Refused> {
    let unknown = || Refused::new(ResponseError::UnknownTopicOrPartition, format!("The topic '{topic}' does not exist."));
    broker.topics.get(topic).map(drop).ok_or_else(unknown)
}

fn this_broker(name: &str) -> Result<(), Refused> {
    let message = match name.parse::<i32>() {
        Ok(NODE) => return Ok(()),
        Ok(other) => format!("There is no broker {other}: {NODE} is the only one."),
        Err(_) => format!("A broker's id is a whole number, not '{name}'."),
    };
    Err(Refused::new(ResponseError::InvalidRequest, message))
}

fn unknown_kind(kind: i8) -> Refused {
    Refused::new(ResponseError::InvalidRequest, format!("There are no configs of resources of type {kind}."))
}

fn entry(shown: Shown, synonyms: bool, docs: bool) -> DescribeConfigsResourceResult {
    let synonym = |of: Synonym| {
        DescribeConfigsSynonym::default().with_name(text(of.name)).with_value(of.value.map(text)).with_source(of.source as i8)
    };
    let synonyms = if synonyms { shown.synonyms } else { Vec::new() };
    DescribeConfigsResourceResult::default()
        .with_name(text(shown.name))
        .with_value(shown.value.map(text))
        .with_read_only(shown.read_only)
        .with_config_source(shown.source as i8)
        .with_is_sensitive(shown.sensitive)
        .with_synonyms(synonyms.into_iter().map(synonym).collect())
        .with_config_type(shown.kind.map_or(0, |kind| kind as i8))
        .with_documentation(docs.then(|| text(shown.doc)))
}

/// A resource and what is to be changed there, or why it cannot even be tried.
type Wanted = (i8, StrBytes, Result<Vec<(String, Op)>, Refused>);

/// `IncrementalAlterConfigs`: changes what is named and leaves the rest.
pub async fn alter(broker: &Arc<Broker>, _: &Call, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let wanted = |asked: &kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource| {
        (asked.resource_type, asked.resource_name.clone(), ops(&asked.configs))
    };
    let wanted = request.resources.iter().map(wanted).collect();
    let result = |(kind, name, outcome)| {
        let (code, message) = told(outcome);
        AlterResult::default().with_resource_type(kind).with_resource_name(name).with_error_code(code).with_error_message(message)
    };
    let outcomes = change(broker, wanted, false, request.validate_only);
    IncrementalAlterConfigsResponse::default().with_responses(outcomes.into_iter().map(result).collect())
}

/// `AlterConfigs`: what is named is all that is set from now on.
pub async fn replace(broker: &Arc<Broker>, _: &Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let wanted = |asked: &kafka_protocol::messages::alter_configs_request::AlterConfigsResource| {
        let configs = asked.configs.iter().map(|config| {
            let config = config.clone();
            AlterableConfig::default().with_name(config.name).with_value(config.value)
        });
        (asked.resource_type, asked.resource_name.clone(), ops(&configs.collect::<Vec<_>>()))
    };
    let wanted = request.resources.iter().map(wanted).collect();
    let result = |(kind, name, outcome)| {
        let (code, message) = told(outcome);
        ReplaceResult::default()
            .with_resource_type(kind)
            .with_resource_name(name)
            .with_error_code(code)
            .with_error_message(message)
    };
    let outcomes = change(broker, wanted, true, request.validate_only);
    AlterConfigsResponse::default().with_responses(outcomes.into_iter().map(result).collect())
}

fn ops(configs: &[AlterableConfig]) -> Result<Vec<(String, Op)>, Refused> {
    let refuse = |message: String| Err(Refused::new(ResponseError::InvalidRequest, message));
    let mut ops = BTreeMap::new();
    for config in configs {
        let value = config.value.as_ref().map(|value| value.to_string());
        let op = match (config.config_operation, value) {
            (1, _) => Op::Delete,
            (0, Some(value)) => Op::Set(value),
            (2, Some(value)) => Op::Append(value),
            (3, Some(value)) => Op::Subtract(value),
            (0..=3, None) => return refuse(format!("{} needs a value.", config.name.as_str())),
            (unknown, _) => return refuse(format!("{unknown} is no operation on a config.")),
        };
        if ops.insert(config.name.to_string(), op).is_some() {
            return refuse(format!("The request has {} more than once for this resource.", config.name.as_str()));
        }
    }
    Ok(ops.into_iter().collect())
}

/// Makes the changes that can be made, all of a resource's or none, and says what became of each resource.
fn change(broker: &Broker, wanted: Vec<Wanted>, whole: bool, validate: bool) -> Vec<(i8, StrBytes, Result<(), Refused>)> {
    let _changing = broker.configs.changing();
    let twice = |kind: i8, name: &StrBytes| wanted.iter().filter(|(of, named, _)| *of == kind && named == name).count() > 1;
    let mut puts = Vec::new();
    let mut outcomes = Vec::new();
    for (kind, name, ops) in &wanted {
        let outcome = match ops {
            _ if twice(*kind, name) => {
                Err(Refused::new(ResponseError::InvalidRequest, "The request has the resource more than once."))
            }
            Ok(ops) => changed(broker, (*kind, name), ops, whole),
            Err(refused) => Err(refused.clone()),
        };
        outcomes.push((*kind, name.clone(), outcome.map(|change| puts.extend(change))));
    }
    if !validate && !puts.is_empty() && apply(broker, puts).is_err() {
        let done = outcomes.iter_mut().filter(|(.., outcome)| outcome.is_ok());
        done.for_each(|(.., outcome)| *outcome = Err(storage_failed()));
    }
    outcomes
}

/// What is set for a resource after the changes. `None` if it is of a kind for which nothing is kept.
fn changed(
    broker: &Broker,
    (kind, name): (i8, &str),
    ops: &[(String, Op)],
    whole: bool,
) -> Result<Option<(Resource, Values)>, Refused> {
    let invalid = |message: &str| Refused::new(ResponseError::InvalidRequest, message);
    let resource = match kind {
        Resource::TOPIC if name.is_empty() => return Err(invalid("Configs cannot be set for all topics at once.")),
        Resource::TOPIC => {
            check_name(name).map_err(|why| Refused::new(ResponseError::InvalidTopicException, why))?;
            Resource::Topic(name.to_owned())
        }
        Resource::BROKER if name.is_empty() => Resource::Cluster,
        Resource::BROKER => this_broker(name).map(|()| Resource::Broker)?,
        Resource::LOGGER if !whole => return this_broker(name).and_then(|()| check_loggers(ops)),
        Resource::METRICS if name.is_empty() => return Err(invalid("The client metrics subscription's name is empty.")),
        Resource::METRICS => Resource::Metrics(name.to_owned()),
        Resource::GROUP if name.is_empty() => return Err(invalid("Configs cannot be set for all groups at once.")),
        Resource::GROUP => Resource::Group(name.to_owned()),
        _ => return Err(unknown_kind(kind)),
    };
    let after = if whole { broker.configs.replaced(&resource, ops)? } else { broker.configs.altered(&resource, ops)? };
    if kind == Resource::TOPIC {
        exists(broker, name)?;
    }
    Ok(Some((resource, after)))
}

/// KIP-412: levels of loggers. There is none here that has one.
fn check_loggers(ops: &[(String, Op)]) -> Result<Option<(Resource, Values)>, Refused> {
    match ops.first() {
        None => Ok(None),
        Some((name, _)) => Err(Refused::new(ResponseError::InvalidConfig, format!("There is no logger {name} here."))),
    }
}

fn apply(broker: &Broker, puts: Vec<(Resource, Values)>) -> std::io::Result<()> {
    let resources: Vec<Resource> = puts.iter().map(|(resource, _)| resource.clone()).collect();
    broker.configs.put(&broker.journal, puts)?;
    if resources.iter().any(|resource| matches!(resource, Resource::Broker | Resource::Cluster)) {
        broker.topics.reconfigure(broker);
        return Ok(());
    }
    for resource in resources {
        if let Resource::Topic(name) = resource
            && let Some(topic) = broker.topics.get(&name)
        {
            let config = broker.configs.topic(&name);
            topic.partitions().iter().for_each(|partition| partition.reconfigure(config.clone()));
        }
    }
    Ok(())
}

/// `ListConfigResources`: what there is to describe; in version 0 client metrics subscriptions only (KIP-1000).
pub async fn list(broker: &Arc<Broker>, call: &Call, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse {
    const ALL: [i8; 5] = [Resource::TOPIC, Resource::BROKER, Resource::LOGGER, Resource::METRICS, Resource::GROUP];
    let response = ListConfigResourcesResponse::default();
    let kinds: &[i8] = match (call.version, request.resource_types.as_slice()) {
        (0, _) => &[Resource::METRICS],
        (_, []) => &ALL,
        (_, kinds) => kinds,
    };
    if !kinds.iter().all(|kind| ALL.contains(kind)) {
        return response.with_error_code(ResponseError::UnsupportedVersion.code());
    }
    let mut resources = Vec::new();
    for kind in ALL.into_iter().filter(|kind| kinds.contains(kind)) {
        let resource = |name: String| ConfigResource::default().with_resource_name(text(name)).with_resource_type(kind);
        resources.extend(named(broker, kind).into_iter().map(resource));
    }
    response.with_config_resources(resources)
}

fn named(broker: &Broker, kind: i8) -> Vec<String> {
    match kind {
        Resource::TOPIC => broker.topics.list().iter().map(|topic| topic.name.clone()).collect(),
        Resource::BROKER | Resource::LOGGER => vec![NODE.to_string()],
        _ => {
            let name = |resource| match resource {
                Resource::Group(name) if kind == Resource::GROUP => Some(name),
                Resource::Metrics(name) if kind == Resource::METRICS => Some(name),
                _ => None,
            };
            broker.configs.named().into_iter().filter_map(name).collect()
        }
    }
}
