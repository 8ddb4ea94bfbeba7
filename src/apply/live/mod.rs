//! The live cluster: Kafka, the registry, and the catalog in the topic `_mesh`.
//!
//! The lease is the transactional id of the catalog's producer: whoever initialises it last has it, and every batch of
//! steps begins with a transaction, so that an apply that has lost it stops before it changes anything more.

mod observe;
mod records;
mod topics;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;

use super::error::{ApplyError, ErrorKind};
use super::target::{Question, StepError, Target, Who};
use crate::kafka::{self, Admin, KafkaError};
use crate::model::Environment;
use crate::model::environment::Kafka;
use crate::plan::entry::{Catalog, Intent, Record};
use crate::plan::step::{Operation, Step};
use crate::plan::{Observed, OwnTopics};
use crate::registry::{self, Registry, RegistryError};
use records::Writer;

/// How long a call to Kafka may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The live cluster of an environment.
pub struct Live {
    admin: Admin,
    registry: Registry,
    kafka: Kafka,
    root: PathBuf,
    own: OwnTopics,
    /// `Some` while the lease is ours.
    writer: Option<Writer>,
    who: Option<Who>,
}

impl Live {
    /// Connects to Kafka and makes a client of the registry, which is asked at the first observation. Secrets' files are
    /// relative to `root`.
    pub async fn connect(environment: &Environment, root: &Path, own: OwnTopics) -> Result<Live, ApplyError> {
        let registry = Registry::connect(&environment.registry, root)?;
        let admin = Admin::connect(&environment.kafka, root, DEADLINE).await?;
        Ok(Live { admin, registry, kafka: environment.kafka.clone(), root: root.to_owned(), own, writer: None, who: None })
    }

    /// The registry's client.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All that is published; empty when nothing ever was.
    pub async fn catalog(&mut self) -> Result<Catalog, ApplyError> {
        let seen = self.admin.describe_topics(std::slice::from_ref(&self.own.catalog)).await?;
        if !seen.contains_key(&self.own.catalog) {
            return Ok(Catalog::default());
        }
        records::read(&self.admin, &self.kafka, &self.root, &self.own.catalog).await
    }

    /// Commits records of the catalog in one transaction.
    async fn commit(&mut self, records: Vec<crate::catalog::Bytes>) -> Result<(), StepError> {
        let Some(writer) = self.writer.take() else {
            return Err(StepError { kind: ErrorKind::Failed, message: "the lease was not taken".into() });
        };
        let (writer, result) = writer.commit(records).await;
        let fenced = matches!(&result, Err(error) if error.kind == ErrorKind::Fenced);
        self.writer = writer.filter(|_| !fenced);
        match result {
            Err(error) if fenced => Err(StepError { message: self.holder(error.message).await, ..error }),
            result => result,
        }
    }

    /// Who has the lease now, for the one who has lost it.
    async fn holder(&self, otherwise: String) -> String {
        match records::read(&self.admin, &self.kafka, &self.root, &self.own.catalog).await {
            Ok(Catalog { lease: Some(lease), .. }) => {
                let since = records::utc(lease.since_ms);
                format!("another apply has taken over: {} on {} (process {}), since {since}", lease.who, lease.host, lease.pid)
            }
            _ => format!("another apply has taken over ({otherwise})"),
        }
    }

    /// Makes sure that the lease is still ours.
    async fn hold(&mut self) -> Result<(), StepError> {
        let Some(who) = self.who.clone().filter(|_| self.writer.is_some()) else { return Ok(()) };
        let lease = encode(&Record::Lease(who.lease()))?;
        self.commit(lease).await
    }

    /// The `round`th operation of each step that has one and has not failed.
    async fn round(&mut self, steps: &[&Step], round: usize, results: &mut [Result<(), StepError>]) {
        let due: Vec<(usize, &Operation)> = steps
            .iter()
            .enumerate()
            .filter(|(at, _)| results.get(*at).is_some_and(Result::is_ok))
            .filter_map(|(at, step)| Some((at, step.operations.get(round)?)))
            .collect();
        let mut answers = topics::execute(&self.admin, &due).await;
        answers.extend(self.registry_calls(&due).await);
        answers.extend(self.catalog_calls(&due).await);
        for (at, answer) in answers {
            if let Some(result) = results.get_mut(at) {
                *result = answer;
            }
        }
    }

    async fn registry_calls(&self, due: &[(usize, &Operation)]) -> Vec<(usize, Result<(), StepError>)> {
        let calls = due.iter().map(|(at, operation)| async move {
            let done = match operation {
                Operation::Register { subject, format, text } => self.registry.register(subject, *format, text).await.map(|_| ()),
                Operation::SetCompatibility { subject, level } => self.registry.set_compatibility(subject, *level).await,
                Operation::DeleteSubject { subject } => self.registry.delete_subject(subject).await,
                _ => return None,
            };
            Some((*at, done.map_err(|error| StepError::from(ApplyError::from(error)))))
        });
        join_all(calls).await.into_iter().flatten().collect()
    }

    /// All records of a round in one transaction: done together, or not.
    async fn catalog_calls(&mut self, due: &[(usize, &Operation)]) -> Vec<(usize, Result<(), StepError>)> {
        let mut bytes = Vec::new();
        let mut answers = Vec::new();
        let mut at_stake = Vec::new();
        for (at, operation) in due {
            let records = match operation {
                Operation::Publish { record } => encode(&self.signed(record)),
                Operation::Withdraw { key } => Ok(crate::catalog::withdraw(key)),
                _ => continue,
            };
            match records {
                Ok(records) => {
                    bytes.extend(records);
                    at_stake.push(*at);
                }
                Err(error) => answers.push((*at, Err(error))),
            }
        }
        if !at_stake.is_empty() {
            let result = self.commit(bytes).await;
            answers.extend(at_stake.into_iter().map(|at| (at, result.clone())));
        }
        answers
    }

    /// The record with who wrote it, and when.
    fn signed(&self, record: &Record) -> Record {
        let (Record::Product(entry), Some(who)) = (record, &self.who) else { return record.clone() };
        let mut entry = entry.clone();
        let mesh = env!("CARGO_PKG_VERSION").to_owned();
        entry.applied = Some(crate::plan::entry::Applied { by: who.user.clone(), at_ms: now_ms(), mesh });
        Record::Product(entry)
    }
}

impl Target for Live {
    async fn observe(&mut self, question: &Question) -> Result<Observed, ApplyError> {
        observe::observe(&self.admin, &self.registry, &self.kafka, &self.root, question).await
    }

    async fn begin(&mut self, who: &Who, intents: &[Intent]) -> Result<(), ApplyError> {
        let writer = Writer::take_lease(&self.kafka, &self.root, &self.own.catalog).await?;
        self.writer = Some(writer);
        self.who = Some(who.clone());
        let records = std::iter::once(Record::Lease(who.lease())).chain(intents.iter().cloned().map(Record::Intent));
        let bytes: Result<Vec<_>, StepError> = records.map(|record| encode(&record)).collect();
        let committed = match bytes {
            Ok(bytes) => self.commit(bytes.concat()).await,
            Err(error) => Err(error),
        };
        if let Some(writer) = &mut self.writer {
            writer.holds(who.lease());
        }
        committed.map_err(|error| self.failed("take the lease", error))
    }

    async fn execute(&mut self, steps: &[&Step]) -> Vec<Result<(), StepError>> {
        let records_only = steps
            .iter()
            .all(|s| s.operations.iter().all(|o| matches!(o, Operation::Publish { .. } | Operation::Withdraw { .. })));
        if !records_only && let Err(lost) = self.hold().await {
            return vec![Err(lost); steps.len()];
        }
        let mut results = vec![Ok(()); steps.len()];
        let rounds = steps.iter().map(|step| step.operations.len()).max().unwrap_or(0);
        for round in 0..rounds {
            self.round(steps, round, &mut results).await;
        }
        results
    }

    async fn end(&mut self) -> Result<(), ApplyError> {
        let given_back = match self.writer.is_some() {
            true => self.commit(crate::catalog::withdraw(crate::plan::entry::LEASE_KEY)).await,
            false => Ok(()),
        };
        self.writer = None;
        given_back.map_err(|error| self.failed("give the lease back", error))
    }
}

impl Live {
    fn failed(&self, operation: &str, error: StepError) -> ApplyError {
        let endpoint = format!("kafka {}", self.kafka.bootstrap);
        ApplyError { kind: error.kind, endpoint, operation: operation.into(), message: error.message }
    }
}

fn encode(record: &Record) -> Result<Vec<crate::catalog::Bytes>, StepError> {
    crate::catalog::publish(record).map_err(|error| StepError { kind: ErrorKind::Failed, message: error.to_string() })
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl From<KafkaError> for ApplyError {
    fn from(error: KafkaError) -> Self {
        let kind = match error.kind {
            kafka::Kind::Unreachable => ErrorKind::Unreachable,
            kafka::Kind::Unauthorized => ErrorKind::Unauthorised,
            kafka::Kind::Refused | kafka::Kind::Other => ErrorKind::Failed,
        };
        let message = if error.code.is_empty() { error.message } else { format!("{} ({})", error.message, error.code) };
        ApplyError { kind, endpoint: format!("kafka {}", error.endpoint), operation: error.operation, message }
    }
}

impl From<RegistryError> for ApplyError {
    fn from(error: RegistryError) -> Self {
        let kind = match error.kind {
            registry::Kind::Unreachable => ErrorKind::Unreachable,
            registry::Kind::Unauthorised => ErrorKind::Unauthorised,
            _ => ErrorKind::Failed,
        };
        ApplyError { kind, endpoint: format!("registry {}", error.endpoint), operation: error.operation, message: error.message }
    }
}

impl From<ApplyError> for StepError {
    fn from(error: ApplyError) -> Self {
        StepError { kind: error.kind, message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn servers_that_do_not_answer_are_named_in_time() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut environment = Environment::local();
        environment.kafka.bootstrap = format!("127.0.0.1:{port}");
        let began = Instant::now();
        let error = Live::connect(&environment, Path::new("."), OwnTopics::default()).await.map(|_| ()).unwrap_err();
        assert_eq!((error.kind, error.endpoint), (ErrorKind::Unreachable, format!("kafka 127.0.0.1:{port}")));
        assert!(began.elapsed() < Duration::from_secs(12));
    }
}
