//! Epochs: everything that a product's producer writes goes through here, one Kafka transaction at a time.
//!
//! A transaction holds outputs, dead letters, changelog, the offsets of what was read, and the progress record, so that
//! a reader of committed records sees all of an epoch or nothing of it. Whenever the outcome of a transaction is not
//! known for certain the producer is given up and the whole job starts again from what Kafka has committed: the new
//! producer, under the same transactional id, fences what may still be in flight.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::progress::{self, Progress};
use super::{DEAD_LETTERS, Ended, Shared, changelog_topic};
use crate::format::{Encoded, codes};
use crate::kafka::producer::{Header, Outcome, Transactional};
use crate::model::Product;

/// How long an epoch lasts while records keep coming.
pub(super) const EPOCH: Duration = Duration::from_millis(100);

/// What can't be used.
#[derive(Debug, Default)]
pub(super) struct DeadLetter<'a> {
    /// `None` for a row that comes of more than one record.
    pub(super) record: Option<Cause<'a>>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    /// One of `format::codes`.
    pub(super) code: &'a str,
    pub(super) reason: &'a str,
    /// Further headers: names and values.
    pub(super) more: &'a [(&'static str, String)],
}

/// What the topic of dead letters takes, in bytes: the largest letter with its headers.
pub(super) const LARGEST_LETTERS: usize = 20 << 20;
/// The largest key and value that are kept; of larger ones only what was wrong is told.
const LARGEST_LETTER: usize = 19 << 20;

/// The record that a dead letter is, or that its row was made of.
#[derive(Debug)]
pub(super) struct Cause<'a> {
    /// Where it came from: a topic or a file.
    pub(super) origin: &'a str,
    pub(super) partition: i32,
    /// Its offset, or its line in the file.
    pub(super) offset: i64,
    /// Milliseconds since 1970, where it is known.
    pub(super) timestamp: Option<i64>,
}

/// The transactional writer of one product.
pub(super) struct Epoch<'a> {
    shared: &'a Shared<'a>,
    product: &'a Product,
    producer: Transactional,
    pub(super) progress: Progress,
    /// Since when a transaction is open.
    open: Option<Instant>,
    sent: u64,
    letters: u64,
}

impl<'a> Epoch<'a> {
    /// Takes over the product: fences whoever produced it before, and reads how far it had come.
    pub(super) fn open(shared: &'a Shared<'a>, product: &'a Product) -> Result<Epoch<'a>, Ended> {
        let id = format!("mesh.{}", product.name);
        let mut producer = Transactional::new(shared.kafka, shared.root, &id).map_err(Ended::from_kafka)?;
        done(producer.init())?;
        let progress = shared.read_progress(&product.name)?;
        Ok(Epoch { shared, product, producer, progress, open: None, sent: 0, letters: 0 })
    }

    /// Whether something waits to be committed.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// How long the open transaction lasts already; zero without one.
    pub(super) fn age(&self) -> Duration {
        self.open.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Opens a transaction unless one is open.
    pub(super) fn begin(&mut self) -> Result<(), Ended> {
        if self.open.is_none() {
            done(self.producer.begin())?;
            self.open = Some(Instant::now());
        }
        Ok(())
    }

    /// Writes encoded records to the product's topic.
    pub(super) fn send(&mut self, encoded: &Encoded) -> Result<(), Ended> {
        self.begin()?;
        for record in &encoded.records {
            let part = |range: &Option<std::ops::Range<usize>>| range.clone().and_then(|range| encoded.slab.get(range));
            self.send_record(part(&record.key), part(&record.value), record.timestamp)?;
        }
        Ok(())
    }

    /// Writes one record to the product's topic.
    pub(super) fn send_record(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64) -> Result<(), Ended> {
        self.begin()?;
        self.producer.send(&self.product.topic.name, None, key, value, Some(timestamp), &[]).map_err(Ended::from_kafka)?;
        self.sent += 1;
        Ok(())
    }

    /// Writes what can't be used to the dead letters, the record's bytes untouched.
    pub(super) fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Ended> {
        self.begin()?;
        let mut texts: Vec<(&str, Cow<'_, str>)> = vec![("mesh.product", self.product.name.as_str().into())];
        if let Some(record) = &letter.record {
            texts.push(("mesh.origin", record.origin.into()));
            texts.push(("mesh.partition", record.partition.to_string().into()));
            texts.push(("mesh.offset", record.offset.to_string().into()));
            texts.extend(record.timestamp.map(|timestamp| ("mesh.timestamp", timestamp.to_string().into())));
        }
        texts.extend([("mesh.code", letter.code.into()), ("mesh.reason", letter.reason.into())]);
        texts.extend(letter.more.iter().map(|(name, value)| (*name, value.as_str().into())));
        let bytes = letter.key.map_or(0, <[u8]>::len) + letter.value.map_or(0, <[u8]>::len);
        let kept = bytes <= LARGEST_LETTER;
        if !kept {
            texts.push(("mesh.lost", format!("{bytes} bytes are more than a dead letter holds").into()));
        }
        let headers: Vec<Header<'_>> = texts.iter().map(|(name, value)| Header::new(name, value.as_bytes())).collect();
        // The time of arrival, so that retention counts from when it was put aside.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let (key, value) = if kept { (letter.key, letter.value) } else { (None, None) };
        self.producer.send(DEAD_LETTERS, None, key, value, Some(now), &headers).map_err(Ended::from_kafka)?;
        self.letters += u64::from(letter.code != codes::LATE);
        Ok(())
    }

    /// Writes a change of the derivation's state.
    pub(super) fn changelog(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Ended> {
        self.begin()?;
        let topic = changelog_topic(&self.product.name);
        self.producer.send(&topic, Some(0), Some(key), value, None, &[]).map_err(Ended::from_kafka)
    }

    /// Ends the epoch: offsets of what was read, the progress record, commit. Without an open transaction it does nothing.
    pub(super) fn commit(&mut self, offsets: &[(String, i32, i64)], frontier: i64) -> Result<(), Ended> {
        if self.open.is_none() {
            return Ok(());
        }
        self.progress.epoch += 1;
        self.progress.frontier = (frontier > i64::MIN).then_some(frontier);
        let record = self.progress.encode();
        let key = self.product.name.as_bytes();
        self.producer.send(progress::TOPIC, Some(0), Some(key), Some(&record), None, &[]).map_err(Ended::from_kafka)?;
        if !offsets.is_empty() {
            done(self.producer.send_offsets(&super::group(&self.product.name), offsets))?;
        }
        done(self.producer.commit())?;
        self.open = None;
        let counts = self.shared.counts(&self.product.name);
        counts.records_out.fetch_add(std::mem::take(&mut self.sent), Ordering::Relaxed);
        counts.dead_letters.fetch_add(std::mem::take(&mut self.letters), Ordering::Relaxed);
        counts.epochs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// For each partition of the product's topic, the offset after its last committed record.
    pub(super) fn ends(&self) -> Arc<Vec<i64>> {
        let topic = &self.product.topic.name;
        // A partition whose end can't be told holds its readers back until it can.
        let end = |partition| self.producer.end(topic, partition).unwrap_or(i64::MAX);
        Arc::new((0..self.shared.partitions(topic)).map(end).collect())
    }
}

/// Only a certain success lets a job go on.
fn done(outcome: Outcome) -> Result<(), Ended> {
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::InDoubt(reason) | Outcome::Failed(reason) => Err(Ended::Again(reason)),
        Outcome::Fenced(reason) => Err(Ended::Fenced(reason)),
    }
}
