//! Looking at the world: a number of Kafka round trips that does not grow with the products, and the registry beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::future::try_join_all;

use super::records;
use crate::apply::error::ApplyError;
use crate::apply::target::Question;
use crate::kafka::admin::{self, Admin, ConfigOp, NewTopic, TopicState};
use crate::model::environment::Kafka;
use crate::plan::desired::DesiredSubject;
use crate::plan::entry::{Catalog, Owned};
use crate::plan::observed::{Cluster, ConfigSource, ConfigValue, Known, Observed, ObservedSubject, ObservedTopic, Registered};
use crate::registry::{Registry, RegistryError, Schema};

/// All that `question` asks for.
pub(super) async fn observe(
    admin: &Admin,
    registry: &Registry,
    kafka: &Kafka,
    root: &Path,
    question: &Question,
) -> Result<Observed, ApplyError> {
    let (mut observed, (mut subjects, compatibility)) =
        tokio::try_join!(cluster(admin, kafka, root, question), declared(registry, question))?;
    // What this root owns beside what it declares, so that it can be told from what is gone.
    let owned = owned(&observed.catalog, question);
    let subject_names = owned.subjects.iter().chain(&question.more_subjects).filter(|name| !subjects.contains_key(*name));
    let more = try_join_all(
        subject_names.filter(|name| !question.subjects.contains_key(*name)).map(|name| subject(registry, name, None)),
    );
    subjects.extend(more.await?.into_iter().flatten());
    observed.subjects = subjects.into_iter().map(|(name, seen)| (name, Known::Is(seen))).collect();
    observed.compatibility = compatibility;
    Ok(observed)
}

async fn cluster(admin: &Admin, kafka: &Kafka, root: &Path, question: &Question) -> Result<Observed, ApplyError> {
    let own = [question.own.catalog.clone(), question.own.progress.clone()];
    let names: Vec<String> = question.topics.keys().chain(&own).chain(&question.more_topics).cloned().collect();
    let described = async { Ok::<_, ApplyError>(tokio::try_join!(admin.cluster(), admin.describe_topics(&names))?) };
    let (cluster, mut seen) = described.await?;
    let catalog = match seen.contains_key(&question.own.catalog) {
        true => records::read(admin, kafka, root, &question.own.catalog).await?,
        false => Catalog::default(),
    };
    let further: Vec<String> = owned(&catalog, question).topics.into_keys().filter(|name| !names.contains(name)).collect();
    seen.extend(admin.describe_topics(&further).await?);
    let refused = refused(admin, question, &seen).await?;
    let topic_configs: BTreeSet<String> = seen.values().flat_map(|state| state.config.keys().cloned()).collect();
    Ok(Observed {
        cluster: Cluster { id: Some(cluster.id), brokers: cluster.brokers.len(), topic_configs },
        topics: seen.into_iter().map(|(name, state)| (name, topic(state))).collect(),
        catalog,
        refused,
        ..Observed::default()
    })
}

fn owned(catalog: &Catalog, question: &Question) -> Owned {
    let mut owned = Owned::default();
    for entry in catalog.products.values().filter(|entry| entry.root == question.root) {
        owned.extend(&entry.owned);
    }
    for intent in catalog.intents.values().filter(|intent| intent.root == question.root) {
        owned.extend(&intent.owned);
    }
    owned
}

fn topic(state: TopicState) -> Known<ObservedTopic> {
    if state.config.is_empty() {
        return Known::Unknown("its configs may not be read".into());
    }
    let replication = state.partitions.first().map_or(0, |partition| partition.replicas.len());
    Known::Is(ObservedTopic {
        id: Some(state.id),
        partitions: i32::try_from(state.partitions.len()).unwrap_or(i32::MAX),
        replication: i16::try_from(replication).unwrap_or(i16::MAX),
        config: state.config.into_iter().filter_map(|(key, value)| Some((key, config(value)?))).collect(),
    })
}

fn config(value: admin::ConfigValue) -> Option<ConfigValue> {
    let source = match value.source {
        admin::ConfigSource::Topic => ConfigSource::Topic,
        admin::ConfigSource::Default => ConfigSource::Default,
        _ => ConfigSource::Broker,
    };
    Some(ConfigValue { value: value.value?, source, fallback: value.default })
}

/// What the brokers would refuse, asked without doing it: topics to create, configs to set.
async fn refused(
    admin: &Admin,
    question: &Question,
    seen: &BTreeMap<String, TopicState>,
) -> Result<BTreeMap<String, String>, ApplyError> {
    let mut creations = Vec::new();
    let mut changes = Vec::new();
    for (name, wanted) in &question.topics {
        match seen.get(name) {
            None => creations.push(NewTopic {
                name: name.clone(),
                partitions: wanted.partitions,
                replication: wanted.replication,
                config: wanted.config.clone(),
            }),
            Some(state) => {
                let differs = wanted
                    .config
                    .iter()
                    .filter(|(key, value)| state.config.get(*key).and_then(|now| now.value.as_ref()) != Some(*value));
                let sets: Vec<ConfigOp> = differs.map(|(key, value)| ConfigOp::Set(key.clone(), value.clone())).collect();
                if !sets.is_empty() {
                    changes.push((name.clone(), sets));
                }
            }
        }
    }
    let (created, altered) = tokio::try_join!(admin.create_topics(&creations, true), admin.alter_configs(&changes, true))?;
    let answers = created.into_iter().chain(altered);
    Ok(answers.filter_map(|(name, answer)| Some((name, answer.err()?.to_string()))).collect())
}

type Subjects = BTreeMap<String, ObservedSubject>;

/// The declared subjects, and the global level.
async fn declared(
    registry: &Registry,
    question: &Question,
) -> Result<(Subjects, Option<crate::model::product::Compatibility>), ApplyError> {
    let subjects = try_join_all(question.subjects.iter().map(|(name, wanted)| subject(registry, name, Some(wanted))));
    let (subjects, global) = tokio::try_join!(subjects, registry.compatibility(None))?;
    Ok((subjects.into_iter().flatten().collect(), global))
}

/// One subject: its latest version, and all of them if that is not what is wanted. `None` if it does not exist.
async fn subject(
    registry: &Registry,
    name: &str,
    wanted: Option<&DesiredSubject>,
) -> Result<Option<(String, ObservedSubject)>, RegistryError> {
    let Some(latest) = registry.latest(name).await? else { return Ok(None) };
    let (number, newest) = (latest.version, registered(registry, latest.schema).await?);
    let settled = wanted.is_none_or(|wanted| wanted.is(&newest));
    let mut versions = BTreeMap::from([(number, newest)]);
    if !settled {
        let earlier = registry.versions(name).await?.into_iter().filter(|version| *version != number);
        let earlier = earlier.map(|version| async move {
            match registry.version(name, version).await? {
                Some(found) => Ok(Some((version, registered(registry, found.schema).await?))),
                None => Ok::<_, RegistryError>(None),
            }
        });
        versions.extend(try_join_all(earlier).await?.into_iter().flatten());
    }
    let compatibility = registry.compatibility(Some(name)).await?;
    Ok(Some((name.to_owned(), ObservedSubject { versions, compatibility })))
}

async fn registered(registry: &Registry, schema: Schema) -> Result<Registered, RegistryError> {
    let references = registry.resolve(&schema.references).await?;
    Ok(Registered { id: schema.id, format: schema.format, text: schema.text, references })
}
