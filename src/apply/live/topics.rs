//! Kafka's part of a batch: one call for all creations, one for all partitions, one for all configs, one for all
//! deletions. What a broker refuses because it is done already counts as done only if it is what was wanted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::apply::error::{ApplyError, ErrorKind};
use crate::apply::target::StepError;
use crate::kafka::admin::{Admin, Answers, ConfigOp, ConfigSource, NewTopic, TopicError, TopicState};
use crate::kafka::{KafkaError, Kind};
use crate::plan::step::Operation;

/// How often a call is repeated whose answer did not arrive.
const TRIES: usize = 3;

/// How long a change may take to be seen.
const VISIBLE: Duration = Duration::from_secs(5);

type Results = Vec<(usize, Result<(), StepError>)>;

/// Carries out the operations on topics among `due`.
pub(super) async fn execute(admin: &Admin, due: &[(usize, &Operation)]) -> Results {
    let mut results = create(admin, due).await;
    results.extend(add_partitions(admin, due).await);
    results.extend(alter(admin, due).await);
    results.extend(delete(admin, due).await);
    results
}

async fn create(admin: &Admin, due: &[(usize, &Operation)]) -> Results {
    let wanted: Vec<(usize, NewTopic)> = due
        .iter()
        .filter_map(|(at, operation)| match operation {
            Operation::CreateTopic { topic, partitions, replication, config } => {
                let topic =
                    NewTopic { name: topic.clone(), partitions: *partitions, replication: *replication, config: config.clone() };
                Some((*at, topic))
            }
            _ => None,
        })
        .collect();
    let topics: Vec<NewTopic> = wanted.iter().map(|(_, topic)| topic.clone()).collect();
    let answers = repeat(|| admin.create_topics(&topics, false)).await;
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let as_wanted = |name: &str, state: &TopicState| {
        topics.iter().find(|topic| topic.name == name).is_some_and(|topic| is_as_created(topic, state))
    };
    let mut done = settle(admin, &names, answers, as_wanted).await;
    let created: Vec<(String, i32)> =
        topics.iter().filter(|t| matches!(done.get(&t.name), Some(Ok(())))).map(|t| (t.name.clone(), t.partitions)).collect();
    if let Err(error) = admin.await_topics(&created).await {
        let error = StepError::from(ApplyError::from(error));
        done.extend(created.into_iter().map(|(name, _)| (name, Err(error.clone()))));
    }
    by_step(wanted.into_iter().map(|(at, topic)| (at, topic.name)), &done)
}

fn is_as_created(wanted: &NewTopic, state: &TopicState) -> bool {
    let partitions = i32::try_from(state.partitions.len()) == Ok(wanted.partitions);
    let replicas = state.partitions.first().map_or(0, |partition| partition.replicas.len());
    let replication = wanted.replication.is_none_or(|n| usize::try_from(n) == Ok(replicas));
    partitions && replication && has_configs(state, &wanted.config)
}

fn has_configs(state: &TopicState, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| state.config.get(key).and_then(|now| now.value.as_ref()) == Some(value))
}

async fn add_partitions(admin: &Admin, due: &[(usize, &Operation)]) -> Results {
    let wanted: Vec<(usize, (String, i32))> = due
        .iter()
        .filter_map(|(at, operation)| match operation {
            Operation::AddPartitions { topic, total } => Some((*at, (topic.clone(), *total))),
            _ => None,
        })
        .collect();
    let totals: Vec<(String, i32)> = wanted.iter().map(|(_, total)| total.clone()).collect();
    let answers = repeat(|| admin.add_partitions(&totals, false)).await;
    let names: Vec<String> = totals.iter().map(|(name, _)| name.clone()).collect();
    let as_wanted = |name: &str, state: &TopicState| {
        totals.iter().any(|(topic, total)| topic == name && i32::try_from(state.partitions.len()) == Ok(*total))
    };
    let mut done = settle(admin, &names, answers, as_wanted).await;
    let grown: Vec<(String, i32)> = totals.into_iter().filter(|(name, _)| matches!(done.get(name), Some(Ok(())))).collect();
    if let Err(error) = admin.await_topics(&grown).await {
        let error = StepError::from(ApplyError::from(error));
        done.extend(grown.into_iter().map(|(name, _)| (name, Err(error.clone()))));
    }
    by_step(wanted.into_iter().map(|(at, (name, _))| (at, name)), &done)
}

async fn alter(admin: &Admin, due: &[(usize, &Operation)]) -> Results {
    let mut wanted = Vec::new();
    let mut changes = Vec::new();
    for (at, operation) in due {
        if let Operation::AlterConfigs { topic, set, reset } = operation {
            let sets = set.iter().map(|(key, value)| ConfigOp::Set(key.clone(), value.clone()));
            let resets = reset.iter().map(|key| ConfigOp::Delete(key.clone()));
            changes.push((topic.clone(), sets.chain(resets).collect::<Vec<_>>()));
            wanted.push((*at, topic.clone()));
        }
    }
    let answers = repeat(|| admin.alter_configs(&changes, false)).await;
    let names: Vec<String> = wanted.iter().map(|(_, name)| name.clone()).collect();
    let done = settle(admin, &names, answers, |_, _| false).await;
    let visible = |seen: &BTreeMap<String, TopicState>| {
        changes
            .iter()
            .filter(|(name, _)| matches!(done.get(name), Some(Ok(()))))
            .all(|(name, ops)| seen.get(name).is_none_or(|s| altered(s, ops)))
    };
    until(admin, &names, visible).await;
    by_step(wanted.into_iter(), &done)
}

fn altered(state: &TopicState, changes: &[ConfigOp]) -> bool {
    changes.iter().all(|change| match change {
        ConfigOp::Set(key, value) => state.config.get(key).is_some_and(|now| {
            // a value that is kept secret isn't shown
            now.source == ConfigSource::Topic && now.value.as_ref().is_none_or(|now| now == value)
        }),
        ConfigOp::Delete(key) => state.config.get(key).is_none_or(|now| now.source != ConfigSource::Topic),
    })
}

/// Waits until what was done can be seen, for a while: a broker learns it a moment after the controller. That it can't be
/// seen yet is no failure; the next plan tells.
async fn until(admin: &Admin, names: &[String], visible: impl Fn(&BTreeMap<String, TopicState>) -> bool) {
    let started = Instant::now();
    let mut pause = Duration::from_millis(5);
    while !names.is_empty() && started.elapsed() < VISIBLE {
        match admin.describe_topics(names).await {
            Ok(seen) if visible(&seen) => return,
            // Metadata can only be asked for, nobody tells when it changes.
            Ok(_) => tokio::time::sleep(pause).await,
            Err(_) => return,
        }
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

async fn delete(admin: &Admin, due: &[(usize, &Operation)]) -> Results {
    let mut wanted = Vec::new();
    for (at, operation) in due {
        if let Operation::DeleteTopic { topic, id } = operation {
            wanted.push((*at, topic.clone(), id.clone()));
        }
    }
    let names: Vec<String> = wanted.iter().map(|(_, name, _)| name.clone()).collect();
    let seen = match admin.describe_topics(&names).await {
        Ok(seen) => seen,
        Err(error) => {
            let error = StepError::from(ApplyError::from(error));
            return wanted.into_iter().map(|(at, ..)| (at, Err(error.clone()))).collect();
        }
    };
    let other =
        |name: &String, id: &Option<String>| id.as_ref().is_some_and(|id| seen.get(name).is_some_and(|state| state.id != *id));
    let mut done: BTreeMap<String, Result<(), StepError>> = BTreeMap::new();
    let mut doomed = Vec::new();
    for (_, name, id) in &wanted {
        if other(name, id) {
            done.insert(name.clone(), Err(failed(format!("topic {name} is another than the one that was planned to go"))));
        } else if seen.contains_key(name) {
            doomed.push(name.clone());
        } else {
            done.insert(name.clone(), Ok(()));
        }
    }
    let answers = repeat(|| admin.delete_topics(&doomed)).await;
    done.extend(settle(admin, &doomed, answers, |_, _| false).await.into_iter().map(|(name, result)| match result {
        Err(error) if error.message.contains("UNKNOWN_TOPIC") => (name, Ok(())),
        result => (name, result),
    }));
    let gone: Vec<String> = doomed.into_iter().filter(|name| matches!(done.get(name), Some(Ok(())))).collect();
    until(admin, &gone, BTreeMap::is_empty).await;
    by_step(wanted.into_iter().map(|(at, name, _)| (at, name)), &done)
}

/// Repeats a call while nobody answers; every one of them is harmless when it is done twice.
async fn repeat<F: Future<Output = Result<Answers, KafkaError>>>(mut call: impl FnMut() -> F) -> Result<Answers, KafkaError> {
    let mut answer = call().await;
    for _ in 1..TRIES {
        match &answer {
            Err(error) if error.kind == Kind::Unreachable => answer = call().await,
            _ => break,
        }
    }
    answer
}

/// What became of each topic: a refusal counts as done if the topic is as it was wanted, which is looked up.
async fn settle(
    admin: &Admin,
    names: &[String],
    answers: Result<Answers, KafkaError>,
    as_wanted: impl Fn(&str, &TopicState) -> bool,
) -> BTreeMap<String, Result<(), StepError>> {
    let mut done: BTreeMap<String, Result<(), StepError>> = match answers {
        Ok(answers) => answers.into_iter().map(|(name, answer)| (name, answer.map_err(refused))).collect(),
        Err(error) => {
            let error = StepError::from(ApplyError::from(error));
            names.iter().map(|name| (name.clone(), Err(error.clone()))).collect()
        }
    };
    for name in names {
        done.entry(name.clone()).or_insert_with(|| Err(failed(format!("no answer for topic {name}"))));
    }
    let doubtful: Vec<String> = done.iter().filter(|(_, result)| result.is_err()).map(|(name, _)| name.clone()).collect();
    if let Ok(seen) = admin.describe_topics(&doubtful).await {
        for (name, state) in seen {
            if as_wanted(&name, &state) {
                done.insert(name, Ok(()));
            } else if let Some(Err(error)) =
                done.get_mut(&name).filter(|r| matches!(r, Err(e) if e.message.contains("ALREADY_EXISTS")))
            {
                error.message = format!("topic {name} exists, and is another than was wanted");
            }
        }
    }
    done
}

fn refused(error: TopicError) -> StepError {
    failed(error.to_string())
}

fn failed(message: String) -> StepError {
    StepError { kind: ErrorKind::Failed, message }
}

fn by_step(wanted: impl Iterator<Item = (usize, String)>, done: &BTreeMap<String, Result<(), StepError>>) -> Results {
    wanted
        .map(|(at, name)| (at, done.get(&name).cloned().unwrap_or_else(|| Err(failed(format!("no answer for topic {name}"))))))
        .collect()
}
