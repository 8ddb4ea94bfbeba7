//! Client quotas (KIP-546): stored and shown. They are not enforced.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_client_quotas_request::{EntryData, OpData};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};
use kafka_protocol::messages::{alter_client_quotas_response, describe_client_quotas_response};
use kafka_protocol::protocol::StrBytes;
use serde::{Deserialize, Serialize};

use crate::dev::broker::journal::{Change, Journal, Kind};
use crate::dev::broker::{Broker, Call};

/// Type to name; `None` is the default of its type.
type Entity = BTreeMap<String, Option<String>>;

/// Quotas by their names, such as `producer_byte_rate`.
type Values = BTreeMap<String, f64>;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    entity: Entity,
    values: Values,
}

/// All quotas, by entity.
#[derive(Debug)]
pub struct Quotas(RwLock<BTreeMap<Entity, Values>>);

impl Quotas {
    pub(super) fn open(journal: &Journal) -> io::Result<Quotas> {
        let entries = journal.read::<Entry>(Kind::Quota)?;
        Ok(Quotas(RwLock::new(entries.into_iter().map(|(_, entry)| (entry.entity, entry.values)).collect())))
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Entity, Values>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves `DescribeClientQuotas`.
pub async fn describe(broker: &Arc<Broker>, _: &Call, request: DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    let response = DescribeClientQuotasResponse::default();
    if let Some(reason) = wrong_filter(&request.components) {
        return (response.with_error_code(ResponseError::InvalidRequest.code()))
            .with_error_message(Some(StrBytes::from_static_str(reason)))
            .with_entries(None);
    }
    let quotas = broker.security.quotas.read();
    let fitting = quotas.iter().filter(|(entity, _)| fits(entity, &request));
    response.with_entries(Some(fitting.map(shown).collect()))
}

/// How a component of a filter names an entity.
mod matching {
    pub(super) const EXACT: i8 = 0;
    pub(super) const DEFAULT: i8 = 1;
    pub(super) const ANY: i8 = 2;
}

fn wrong_filter(components: &[ComponentData]) -> Option<&'static str> {
    let twice = |at: usize, of: &ComponentData| components.iter().take(at).any(|other| other.entity_type == of.entity_type);
    components.iter().enumerate().find_map(|(at, component)| match component {
        of if !["user", "client-id", "ip"].contains(&&*of.entity_type) => Some("entity types are user, client-id and ip"),
        of if twice(at, of) => Some("an entity type is named twice"),
        of if of.match_type == matching::EXACT && of._match.is_none() => Some("an exact match names what it matches"),
        of if of.match_type != matching::EXACT && of._match.is_some() => Some("only an exact match names what it matches"),
        of if !(matching::EXACT..=matching::ANY).contains(&of.match_type) => Some("the match type is not known"),
        _ => None,
    })
}

fn fits(entity: &Entity, request: &DescribeClientQuotasRequest) -> bool {
    let component = |of: &ComponentData| match (entity.get(&*of.entity_type), of.match_type) {
        (None, _) => false,
        (Some(name), matching::EXACT) => name.as_deref() == of._match.as_deref(),
        (Some(name), matching::DEFAULT) => name.is_none(),
        (Some(_), _) => true,
    };
    request.components.iter().all(component) && (!request.strict || entity.len() == request.components.len())
}

fn shown((entity, values): (&Entity, &Values)) -> describe_client_quotas_response::EntryData {
    use describe_client_quotas_response::{EntityData, EntryData, ValueData};
    let part = |(kind, name): (&String, &Option<String>)| {
        EntityData::default()
            .with_entity_type(StrBytes::from_string(kind.clone()))
            .with_entity_name(name.clone().map(StrBytes::from_string))
    };
    let value =
        |(key, value): (&String, &f64)| ValueData::default().with_key(StrBytes::from_string(key.clone())).with_value(*value);
    EntryData::default().with_entity(entity.iter().map(part).collect()).with_values(values.iter().map(value).collect())
}

/// Serves `AlterClientQuotas`: each entity by itself.
pub async fn alter(broker: &Arc<Broker>, _: &Call, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    use alter_client_quotas_response::{EntityData, EntryData};
    let mut entries = Vec::new();
    for entry in &request.entries {
        let part = |of: &kafka_protocol::messages::alter_client_quotas_request::EntityData| {
            EntityData::default().with_entity_type(of.entity_type.clone()).with_entity_name(of.entity_name.clone())
        };
        let answer = EntryData::default().with_entity(entry.entity.iter().map(part).collect());
        entries.push(match altered(broker, entry, request.validate_only) {
            Ok(()) => answer,
            Err((error, reason)) => answer.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(reason))),
        });
    }
    AlterClientQuotasResponse::default().with_entries(entries)
}

fn altered(broker: &Broker, entry: &EntryData, validate_only: bool) -> Result<(), (ResponseError, String)> {
    let invalid = |reason: String| (ResponseError::InvalidRequest, reason);
    let entity = entity(entry).map_err(|reason| invalid(reason.into()))?;
    if let Some(reason) = entry.ops.iter().find_map(|op| wrong(op, entity.contains_key("ip"))) {
        return Err(invalid(reason));
    }
    if validate_only {
        return Ok(());
    }
    let mut quotas = broker.security.quotas.0.write().unwrap_or_else(PoisonError::into_inner);
    let mut values = quotas.get(&entity).cloned().unwrap_or_default();
    for op in &entry.ops {
        if op.remove {
            values.remove(&*op.key);
        } else {
            values.insert(op.key.to_string(), op.value);
        }
    }
    let written = change(&entity, &values).and_then(|change| broker.journal.write(&[change]));
    written.map_err(|error| (ResponseError::KafkaStorageError, error.to_string()))?;
    if values.is_empty() {
        quotas.remove(&entity);
    } else {
        quotas.insert(entity, values);
    }
    Ok(())
}

fn change(entity: &Entity, values: &Values) -> io::Result<Change> {
    let key = serde_json::to_string(entity)?;
    match values.is_empty() {
        true => Ok(Change::remove(Kind::Quota, key)),
        false => Change::put(Kind::Quota, key, &Entry { entity: entity.clone(), values: values.clone() }),
    }
}

/// Who a quota is for: a user, a client id, both, or an address.
fn entity(entry: &EntryData) -> Result<Entity, &'static str> {
    let mut entity = Entity::new();
    for part in &entry.entity {
        if part.entity_name.as_ref().is_some_and(|name| name.is_empty()) {
            return Err("an entity's name is empty; null is the default of its type");
        }
        let address = |name: &str| name == "localhost" || name.parse::<IpAddr>().is_ok();
        if &*part.entity_type == "ip" && part.entity_name.as_ref().is_some_and(|name| !address(name)) {
            return Err("the name of an ip is not an address");
        }
        if entity.insert(part.entity_type.to_string(), part.entity_name.as_ref().map(ToString::to_string)).is_some() {
            return Err("an entity type is named twice");
        }
    }
    let kinds: Vec<&str> = entity.keys().map(String::as_str).collect();
    match kinds.as_slice() {
        ["user" | "client-id" | "ip"] | ["client-id", "user"] => Ok(entity),
        _ => Err("a quota is for a user, a client-id, a user and a client-id, or an ip"),
    }
}

fn wrong(op: &OpData, address: bool) -> Option<String> {
    let (key, value) = (&*op.key, op.value);
    let known = match address {
        true => ["connection_creation_rate"].contains(&key),
        false => ["producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate"].contains(&key),
    };
    if !known {
        return Some(format!("there is no quota {key} for this kind of entity"));
    }
    if op.remove {
        return None;
    }
    let whole = matches!(key, "producer_byte_rate" | "consumer_byte_rate" | "connection_creation_rate");
    if !(value > 0.0 && value.is_finite()) || (whole && value.fract() != 0.0) {
        let kind = if whole { "a whole number above 0" } else { "a number above 0" };
        return Some(format!("{key} is {kind}, not {value}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::alter_client_quotas_request::EntityData;

    use super::*;

    #[test]
    fn an_ip_has_an_address() {
        let of = |name: Option<&'static str>| {
            let part = EntityData::default().with_entity_type(StrBytes::from_static_str("ip"));
            entity(&EntryData::default().with_entity(vec![part.with_entity_name(name.map(StrBytes::from_static_str))])).is_ok()
        };
        for right in [Some("127.0.0.9"), Some("::1"), Some("localhost"), None] {
            assert!(of(right), "{right:?}");
        }
        for wrong in ["", "not an address", "300.1.1.1"] {
            assert!(!of(Some(wrong)), "{wrong}");
        }
    }
}
