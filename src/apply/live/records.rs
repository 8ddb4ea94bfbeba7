//! The catalog's topic: read whole, written in transactions.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::apply::error::{ApplyError, ErrorKind};
use crate::apply::target::StepError;
use crate::catalog::{Bytes, Fold, transactional_id};
use crate::kafka::admin::At;
use crate::kafka::consumer::Reader;
use crate::kafka::producer::{Outcome, Transactional};
use crate::kafka::{Admin, KafkaError, Kind};
use crate::model::environment::Kafka;
use crate::plan::entry::{Catalog, Lease};

/// How often a transaction whose outcome is unknown is tried again, under a new producer of the same id.
const TRIES: usize = 3;
/// How long nothing may come while the end is not reached.
const PATIENCE: Duration = Duration::from_secs(10);

/// The catalog: every committed record up to now, folded. The end is that of committed records, so that a transaction
/// that a killed apply has left open is not waited for.
pub(super) async fn read(admin: &Admin, kafka: &Kafka, root: &Path, topic: &str) -> Result<Catalog, ApplyError> {
    let ends = admin.end_offsets(topic, 1).await?;
    let end = ends.first().copied().unwrap_or(0);
    let (kafka, root, topic) = (kafka.clone(), root.to_owned(), topic.to_owned());
    let endpoint = format!("kafka {}", kafka.bootstrap);
    let folded = tokio::task::spawn_blocking(move || read_to(&kafka, &root, &topic, end)).await;
    match folded {
        Ok(folded) => Ok(folded?),
        Err(broken) => Err(ApplyError {
            kind: ErrorKind::Failed,
            endpoint,
            operation: "read the catalog".into(),
            message: broken.to_string(),
        }),
    }
}

fn read_to(kafka: &Kafka, root: &Path, topic: &str, end: i64) -> Result<Catalog, KafkaError> {
    let mut fold = Fold::default();
    if end == 0 {
        return Ok(fold.finish());
    }
    let mut reader = Reader::new(kafka, root, "mesh.catalog")?;
    let start = reader.offsets(&[(topic, 0)], At::Start)?.first().copied().unwrap_or(0);
    reader.assign(&[topic.to_owned()], &[(0, 0, start)])?;
    let mut position = start;
    let mut since = Instant::now();
    while position < end {
        let before = position;
        let polled = reader.poll(Duration::from_millis(500), 10_000)?;
        for message in &polled.messages {
            position = message.offset() + 1;
            fold.add(message.key().unwrap_or_default(), message.payload());
        }
        if let Some(end) = polled.ends.last() {
            position = position.max(end.offset);
        }
        if position > before {
            since = Instant::now();
        } else if since.elapsed() > PATIENCE {
            return Err(stalled(kafka, topic, reader.trouble()));
        }
    }
    Ok(fold.finish())
}

fn stalled(kafka: &Kafka, topic: &str, trouble: Option<String>) -> KafkaError {
    let message = trouble.unwrap_or_else(|| format!("nothing came for {} seconds", PATIENCE.as_secs()));
    let operation = format!("read topic {topic}");
    KafkaError { kind: Kind::Unreachable, endpoint: kafka.bootstrap.clone(), operation, code: String::new(), message }
}

/// The transactional producer that is the lease.
pub(super) struct Writer {
    producer: Transactional,
    kafka: Kafka,
    root: PathBuf,
    topic: String,
    /// What is written there while the lease is ours.
    lease: Option<Lease>,
}

impl Writer {
    /// Takes the lease: fences whoever had it, and ends what it left open.
    pub(super) async fn take_lease(kafka: &Kafka, root: &Path, topic: &str) -> Result<Writer, ApplyError> {
        let (kafka, root, topic) = (kafka.clone(), root.to_owned(), topic.to_owned());
        let endpoint = format!("kafka {}", kafka.bootstrap);
        let failed = |message: String| ApplyError {
            kind: ErrorKind::Failed,
            endpoint: endpoint.clone(),
            operation: "take the lease".into(),
            message,
        };
        match tokio::task::spawn_blocking(move || Writer::open(kafka, root, topic)).await {
            Ok(Ok(writer)) => Ok(writer),
            Ok(Err(error)) => Err(ApplyError { kind: error.kind, ..failed(error.message) }),
            Err(broken) => Err(failed(broken.to_string())),
        }
    }

    fn open(kafka: Kafka, root: PathBuf, topic: String) -> Result<Writer, StepError> {
        let producer = Transactional::new(&kafka, &root, &transactional_id(&topic)).map_err(step_error)?;
        let mut writer = Writer { producer, kafka, root, topic, lease: None };
        checked(writer.producer.init())?;
        Ok(writer)
    }

    /// Says that `lease` is written now: whoever finds another there has lost it.
    pub(super) fn holds(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// Commits records in one transaction. The writer comes back unless it was lost.
    pub(super) async fn commit(self, records: Vec<Bytes>) -> (Option<Writer>, Result<(), StepError>) {
        match tokio::task::spawn_blocking(move || self.commit_surely(&records)).await {
            Ok((writer, result)) => (writer, result),
            Err(broken) => (None, Err(StepError { kind: ErrorKind::Failed, message: broken.to_string() })),
        }
    }

    /// Tries again while the outcome is unknown: the records are the same, so that twice is as good as once.
    fn commit_surely(mut self, records: &[Bytes]) -> (Option<Writer>, Result<(), StepError>) {
        let mut last = Ok(());
        for _ in 0..TRIES {
            last = self.commit_once(records);
            match &last {
                Ok(()) => return (Some(self), Ok(())),
                Err(error) if error.kind == ErrorKind::Fenced => return (Some(self), last),
                Err(_) => {}
            }
            // A new producer fences whoever came in between, so it is made only while the lease that is written is ours.
            if let Err(error) = self.still_ours() {
                return (None, Err(error));
            }
            match Writer::open(self.kafka.clone(), self.root.clone(), self.topic.clone()) {
                Ok(writer) => self = Writer { lease: self.lease, ..writer },
                Err(error) => return (None, Err(error)),
            }
        }
        (Some(self), last)
    }

    fn still_ours(&self) -> Result<(), StepError> {
        let Some(ours) = &self.lease else { return Ok(()) };
        let ends = Reader::new(&self.kafka, &self.root, "mesh.catalog")
            .and_then(|reader| reader.offsets(&[(&self.topic, 0)], At::CommittedEnd));
        let end = ends.map_err(step_error)?.first().copied().unwrap_or(0);
        let catalog = read_to(&self.kafka, &self.root, &self.topic, end).map_err(step_error)?;
        match catalog.lease {
            Some(lease) if lease != *ours => Err(StepError { kind: ErrorKind::Fenced, message: "the lease is another's".into() }),
            _ => Ok(()),
        }
    }

    fn commit_once(&mut self, records: &[Bytes]) -> Result<(), StepError> {
        checked(self.producer.begin())?;
        for record in records {
            let sent = self.producer.send(&self.topic, Some(0), Some(&record.key), record.value.as_deref(), None, &[]);
            sent.map_err(step_error)?;
        }
        checked(self.producer.commit())
    }
}

fn checked(outcome: Outcome) -> Result<(), StepError> {
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Fenced(message) => Err(StepError { kind: ErrorKind::Fenced, message }),
        Outcome::InDoubt(message) | Outcome::Failed(message) => Err(StepError { kind: ErrorKind::Failed, message }),
    }
}

fn step_error(error: KafkaError) -> StepError {
    StepError::from(ApplyError::from(error))
}

/// Milliseconds since 1970 as `2026-01-31 12:00:00 UTC`.
pub(super) fn utc(ms: i64) -> String {
    let (days, second) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 1000);
    // Days since 0000-03-01, in eras of 400 years; a year begins in March, so that the leap day is its last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_827_696_000), "2000-02-29 12:34:56 UTC");
        assert_eq!(utc(1_767_225_599_999), "2025-12-31 23:59:59 UTC");
    }
}
