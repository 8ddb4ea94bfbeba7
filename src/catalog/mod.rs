//! The catalog's records: the entries of the compacted topic `_mesh` as bytes, and all of them folded.
//!
//! How the bytes travel is not this room's: `apply` reads and writes them through a transactional producer with a fixed
//! id, which is also the lease.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::plan::entry::{Catalog, LEASE_KEY, Record, SCHEMA_VERSION, intent_key};

/// The transactional id that holds the lease over a catalog topic.
pub fn transactional_id(topic: &str) -> String {
    format!("mesh-apply.{topic}")
}

/// A record as it travels; a value of `None` deletes the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// The records that publish `record`; a product's entry takes its intent away.
pub fn publish(record: &Record) -> Result<Vec<Bytes>, serde_json::Error> {
    let mut all = vec![Bytes { key: record.key().into_bytes(), value: Some(encode(record)?) }];
    if let Record::Product(entry) = record {
        all.push(deleted(&intent_key(&entry.name)));
    }
    Ok(all)
}

/// The records that withdraw what is under `key`; a product's intent goes with its entry.
pub fn withdraw(key: &str) -> Vec<Bytes> {
    let intent = key.strip_prefix("product/").map(|product| deleted(&intent_key(product)));
    std::iter::once(deleted(key)).chain(intent).collect()
}

fn deleted(key: &str) -> Bytes {
    Bytes { key: key.as_bytes().to_vec(), value: None }
}

fn encode(record: &Record) -> Result<Vec<u8>, serde_json::Error> {
    fn bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(value)
    }
    match record {
        Record::Product(entry) => bytes(entry),
        Record::Domain(domain) => bytes(domain),
        Record::Team(team) => bytes(team),
        Record::Intent(intent) => bytes(intent),
        Record::Lease(lease) => bytes(lease),
    }
}

/// Folds a catalog's records, in their order: the last of a key counts.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    catalog: Catalog,
}

impl Fold {
    /// Takes one record in. Keys of other kinds are left to the later mesh that wrote them.
    pub fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Ok(key) = std::str::from_utf8(key) else { return };
        let catalog = &mut self.catalog;
        catalog.unreadable.remove(key);
        let read = match key.split_once('/') {
            Some(("product", name)) => put(&mut catalog.products, name, value),
            Some(("domain", name)) => put(&mut catalog.domains, name, value),
            Some(("team", name)) => put(&mut catalog.teams, name, value),
            Some(("intent", name)) => put(&mut catalog.intents, name, value),
            None if key == LEASE_KEY => value.map(decode).transpose().map(|lease| catalog.lease = lease),
            _ => Ok(()),
        };
        if let Err(reason) = read {
            catalog.unreadable.insert(key.to_owned(), reason);
        }
    }

    /// All of it.
    pub fn finish(self) -> Catalog {
        self.catalog
    }
}

fn put<T: DeserializeOwned>(
    map: &mut std::collections::BTreeMap<String, T>,
    name: &str,
    value: Option<&[u8]>,
) -> Result<(), String> {
    map.remove(name);
    if let Some(value) = value {
        map.insert(name.to_owned(), decode(value)?);
    }
    Ok(())
}

fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    let tree: Value = serde_json::from_slice(value).map_err(|_| "it is not JSON".to_owned())?;
    match tree.get("schema_version").and_then(Value::as_u64) {
        Some(version) if version > u64::from(SCHEMA_VERSION) => {
            return Err(format!("it has schema_version {version}, this mesh knows {SCHEMA_VERSION}"));
        }
        Some(_) => {}
        None => return Err("it has no schema_version".into()),
    }
    serde_json::from_value(tree).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Team;
    use crate::plan::entry::{Intent, Lease, Owned, Published};

    fn team(channel: &str) -> Record {
        let value = Team { name: "ops".into(), display_name: None, channel: Some(channel.into()), slack_alias: None };
        Record::Team(Published { schema_version: 1, root: "products".into(), value })
    }

    fn folded(records: impl IntoIterator<Item = Bytes>) -> Catalog {
        let mut fold = Fold::default();
        for record in records {
            fold.add(&record.key, record.value.as_deref());
        }
        fold.finish()
    }

    #[test]
    fn the_last_record_of_a_key_counts() {
        let records = [publish(&team("#old")).unwrap(), publish(&team("#new")).unwrap()].concat();
        assert_eq!(folded(records).teams["ops"].value.channel.as_deref(), Some("#new"));
        let records = [publish(&team("#old")).unwrap(), withdraw("team/ops")].concat();
        assert_eq!(folded(records), Catalog::default());
    }

    #[test]
    fn an_intent_goes_with_the_product() {
        let intent = Intent { schema_version: 1, product: "orders".into(), root: "products".into(), owned: Owned::default() };
        let records = publish(&Record::Intent(intent)).unwrap();
        assert!(folded(records.clone()).intents.contains_key("orders"));
        assert_eq!(folded([records, withdraw("product/orders")].concat()), Catalog::default());
    }

    #[test]
    fn what_a_later_mesh_wrote_is_kept_apart() {
        let record = |key: &str, value: &str| Bytes { key: key.into(), value: Some(value.into()) };
        let catalog = folded([
            record("product/orders", r#"{"schema_version": 2}"#),
            record("product/other", "oops"),
            record("lease", r#"{"schema_version": 1}"#),
            record("view/later", "whatever"),
        ]);
        assert_eq!(catalog.unreadable["product/orders"], "it has schema_version 2, this mesh knows 1");
        assert_eq!(catalog.unreadable["product/other"], "it is not JSON");
        assert_eq!(catalog.unreadable["lease"], "missing field `who`");
        assert_eq!(catalog.unreadable.len(), 3);
        let lease = Lease { schema_version: 1, who: "anna".into(), host: "h".into(), pid: 1, since_ms: 0 };
        let mended = folded([record("lease", "oops")].into_iter().chain(publish(&Record::Lease(lease)).unwrap()));
        assert!(mended.unreadable.is_empty());
    }
}
