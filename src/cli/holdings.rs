//! How much the products' topics hold: records of streams, keys of tables.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::exit::Failure;
use super::load::Loaded;
use crate::kafka::consumer::Reader;
use crate::model::Shape;

/// Of each product that has a topic: how many committed records, or, of a table, how many keys whose last value is none that
/// deletes. Reads the topics to the ends that they have now.
pub(super) fn of(loaded: &Loaded) -> Result<BTreeMap<String, usize>, Failure> {
    let mesh = &loaded.mesh;
    let mut reader = Reader::new(&mesh.environment.kafka, &mesh.root, "mesh.holdings")?;
    let products: Vec<_> = mesh.products.values().collect();
    let topics: Vec<String> = products.iter().map(|product| product.topic.name.clone()).collect();
    let (mut starts, mut open) = (Vec::new(), HashSet::new());
    for (at, topic) in topics.iter().enumerate() {
        for partition in 0..reader.partitions(topic)? {
            starts.push((at, partition, reader.watermarks(topic, partition)?.0));
            open.insert((at, partition));
        }
    }
    reader.assign(&topics, &starts)?;
    let mut records = vec![0; topics.len()];
    let mut keys: Vec<HashSet<Vec<u8>>> = vec![HashSet::new(); topics.len()];
    while !open.is_empty() {
        let polled = reader.poll(Duration::from_millis(100), 10_000)?;
        for message in &polled.messages {
            let at = message.topic();
            match (products.get(at).map(|product| product.shape), keys.get_mut(at), records.get_mut(at)) {
                (Some(Shape::Table), Some(keys), _) => {
                    let key = message.key().unwrap_or_default();
                    if message.payload().is_some() {
                        keys.insert(key.to_vec())
                    } else {
                        keys.remove(key)
                    };
                }
                (_, _, Some(records)) => *records += 1,
                _ => {}
            }
        }
        for end in &polled.ends {
            open.remove(&(end.topic, end.partition));
        }
    }
    let held = |at: usize| keys[at].len() + records[at];
    Ok(products.iter().enumerate().map(|(at, product)| (product.name.clone(), held(at))).collect())
}
