//! One partition: its log, its producers, and who waits for its records.
//!
//! There are no replicas, so what is written is committed: the high watermark is the end of the log. Who appends holds the
//! partition's lock; who reads takes it only to learn where to read.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::Notify;
use uuid::Uuid;

use super::Broker;
use super::batch::{self, Corrupt, Header};
use super::data::validate;
use super::journal::{Change, Kind};
use super::log::Log;
use super::producers::{Aborted, Active, Ending, Producers, Verdict};
use super::topics::{TopicConfig, log_start_key};

/// The leader's epoch: the one node leads each partition from the beginning.
pub const LEADER_EPOCH: i32 = 0;

/// Which partition it is, and where its files are.
#[derive(Debug, Clone)]
pub struct Place {
    pub dir: PathBuf,
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub index: i32,
}

/// A partition.
#[derive(Debug)]
pub struct Partition {
    pub place: Place,
    config: RwLock<Arc<TopicConfig>>,
    inner: Mutex<Inner>,
    watched: Mutex<Watched>,
}

#[derive(Debug)]
struct Watched {
    /// What `inner` says of its offsets, for those who only want to know that.
    ends: Ends,
    /// Who is told when `ends` changes, once.
    bells: Vec<Weak<Notify>>,
}

#[derive(Debug)]
struct Inner {
    log: Log,
    producers: Producers,
    /// The topic was deleted: nothing is written any more.
    closed: bool,
}

/// Where a partition's log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// The first offset.
    pub start: i64,
    /// One behind the last record: the high watermark.
    pub end: i64,
    /// One behind the last record that no open transaction can still abort.
    pub last_stable: i64,
    /// Bytes appended since the log was opened.
    pub appended: u64,
    pub closed: bool,
}

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    Uncommitted,
    Committed,
}

/// Under which conditions a batch is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// For the first batch of a transaction: [`Partition::endings`] as it was before the coordinator agreed.
    pub verified: Option<u64>,
    /// The producer's epoch changes with every transaction (KIP-890).
    pub strict: bool,
}

/// A batch that stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    /// The broker's time if the topic's records have that, else -1; a repeated batch's own.
    pub append_time: i64,
    /// The first offset of the log.
    pub start: i64,
}

/// A batch that was not appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub error: ResponseError,
    pub message: Option<String>,
    /// The first offset of the log, if the log had a look at the batch; else -1.
    pub start: i64,
    /// Records at fault, by their index in the batch (KIP-467).
    pub records: Vec<(i32, String)>,
}

/// What a fetch gets.
#[derive(Debug, Clone)]
pub struct Read {
    /// Whole batches.
    pub records: Bytes,
    pub ends: Ends,
    /// With read_committed: the aborted transactions that have records in `records`.
    pub aborted: Vec<Aborted>,
}

impl From<ResponseError> for Refused {
    fn from(error: ResponseError) -> Refused {
        Refused { error, message: None, start: -1, records: Vec::new() }
    }
}

impl From<Refused> for ResponseError {
    fn from(refused: Refused) -> ResponseError {
        refused.error
    }
}

impl From<Corrupt> for Refused {
    fn from(corrupt: Corrupt) -> Refused {
        let error = match corrupt {
            Corrupt::Damaged(_) => ResponseError::CorruptMessage,
            // Kafka 4 no longer knows the older formats: to it these are no records.
            Corrupt::Invalid(_) | Corrupt::Format(_) => ResponseError::InvalidRecord,
        };
        Refused { message: Some(corrupt.to_string()), ..error.into() }
    }
}

impl Partition {
    /// Opens the log in the place's directory, which is made if it is not there. Records before `start` were deleted.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn open(place: Place, config: Arc<TopicConfig>, start: i64, now: i64) -> io::Result<Partition> {
        let mut producers = Producers::default();
        let log = Log::open(&place.dir, &config.log, start, &mut |header, batch| note(&mut producers, header, batch, now))?;
        producers.forget_before(log.start());
        let inner = Inner { log, producers, closed: false };
        let watched = Mutex::new(Watched { ends: inner.ends(0), bells: Vec::new() });
        Ok(Partition { place, config: RwLock::new(config), inner: Mutex::new(inner), watched })
    }

    /// Where the log begins and ends.
    pub fn ends(&self) -> Ends {
        self.watched().ends
    }

    /// The first offset.
    pub fn start(&self) -> i64 {
        self.ends().start
    }

    /// One behind the last record: the high watermark.
    pub fn end(&self) -> i64 {
        self.ends().end
    }

    /// One behind the last record that a reader of committed records may see.
    pub fn last_stable(&self) -> i64 {
        self.ends().last_stable
    }

    /// What the topic's configs are now.
    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the log begins and ends; `bell` rings once when that is no longer so.
    pub fn listen(&self, bell: &Arc<Notify>) -> Ends {
        let mut watched = self.watched();
        if watched.bells.len() == watched.bells.capacity() {
            // Before the list grows, those go who heard of another partition in the meantime.
            watched.bells.retain(|bell| bell.strong_count() > 0);
        }
        watched.bells.push(Arc::downgrade(bell));
        watched.ends
    }

    /// Appends a batch as a producer sends it.
    ///
    /// # Errors
    /// As Kafka refuses them: for what they are, or for what their producer did.
    pub fn append(&self, broker: &Broker, records: &Bytes, terms: Terms) -> Result<Appended, Refused> {
        let (header, batch) = validate::single(records)?;
        let now = broker.now();
        let ready = validate::produced(header, batch, &self.config(), now);
        let done = ready.and_then(|(header, batch)| self.append_ready(&header, &batch, terms, now));
        done.map_err(|refused| match refused.error {
            ResponseError::MessageTooLarge | ResponseError::CorruptMessage => refused,
            ResponseError::KafkaStorageError | ResponseError::UnknownTopicOrPartition => refused,
            _ => Refused { start: self.start(), ..refused },
        })
    }

    /// Appends one batch whose content is in order.
    fn append_ready(&self, batch: &Header, bytes: &Bytes, terms: Terms, now: i64) -> Result<Appended, Refused> {
        let mut inner = self.open_inner()?;
        match inner.producers.check(batch, terms.verified, terms.strict)? {
            Verdict::Duplicate { base_offset, timestamp } => {
                return Ok(Appended { base_offset, append_time: timestamp, start: inner.log.start() });
            }
            Verdict::Append => {}
        }
        let base_offset = inner.log.end();
        inner.log.append(bytes, base_offset, LEADER_EPOCH, None).map_err(|_| ResponseError::KafkaStorageError)?;
        inner.producers.appended(&Header { base_offset, ..*batch }, now);
        let start = inner.log.start();
        self.moved(inner, bytes.len());
        let append_time = if batch.is_log_append_time() { batch.max_timestamp } else { -1 };
        Ok(Appended { base_offset, append_time, start })
    }

    /// Writes the marker that ends the producer's transaction here. A second time it writes nothing if that can be told:
    /// when each marker has an epoch of its own (KIP-890).
    ///
    /// # Errors
    /// `InvalidProducerEpoch`, `TransactionCoordinatorFenced`; `UnknownTopicOrPartition` when the topic is deleted;
    /// `KafkaStorageError`.
    pub fn end_transaction(
        &self,
        producer_id: i64,
        epoch: i16,
        coordinator_epoch: i32,
        commit: bool,
        now: i64,
    ) -> Result<(), ResponseError> {
        let ending = Ending { producer_id, epoch, coordinator_epoch, commit };
        let mut inner = self.open_inner()?;
        inner.producers.check_ending(&ending)?;
        let marker = batch::end_marker(producer_id, epoch, coordinator_epoch, commit, now);
        let offset = inner.log.end();
        inner.log.append(&marker, offset, LEADER_EPOCH, None).map_err(|_| ResponseError::KafkaStorageError)?;
        inner.producers.ended(&ending, offset, now, now);
        self.moved(inner, marker.len());
        Ok(())
    }

    /// Whether the marker of this epoch stands here already, for a coordinator that gives each marker an epoch of its own.
    pub fn has_ended(&self, producer_id: i64, epoch: i16) -> bool {
        self.inner().producers.has_ended(producer_id, epoch)
    }

    /// Whether the producer has an open transaction of this epoch here.
    pub fn is_open(&self, producer_id: i64, epoch: i16) -> bool {
        self.inner().producers.is_open(producer_id, epoch)
    }

    /// A number that changes when a transaction of the producer ends here: see [`Terms`].
    pub fn endings(&self, producer_id: i64) -> u64 {
        self.inner().producers.endings(producer_id)
    }

    /// Its producers, by id.
    pub fn producers(&self) -> Vec<Active> {
        self.inner().producers.active()
    }

    /// Forgets producers that wrote nothing since `before` (ms) and have no open transaction.
    pub fn remove_expired_producers(&self, before: i64) {
        self.inner().producers.expire(before);
    }

    /// Whole batches from the one with `from` on, `max_bytes` at the most; the first one even if it is larger when
    /// `at_least_one`.
    ///
    /// # Errors
    /// `OffsetOutOfRange`, `UnknownTopicOrPartition` when the topic is deleted, `KafkaStorageError`.
    pub fn read(&self, from: i64, isolation: Isolation, max_bytes: usize, at_least_one: bool) -> Result<Read, ResponseError> {
        let ends = self.ends();
        if ends.closed {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        if !(ends.start..=ends.end).contains(&from) {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let upto = match isolation {
            Isolation::Uncommitted => ends.end,
            Isolation::Committed => ends.last_stable,
        };
        let nothing = Read { records: Bytes::new(), ends, aborted: Vec::new() };
        if from >= upto || (max_bytes == 0 && !at_least_one) {
            return Ok(nothing);
        }
        let failed =
            |_| if self.ends().closed { ResponseError::UnknownTopicOrPartition } else { ResponseError::KafkaStorageError };
        let slice = self.inner().log.slice(from, upto, max_bytes, at_least_one).map_err(failed)?;
        let records = slice.map_or(Ok(Bytes::new()), |slice| slice.read()).map_err(failed)?;
        let aborted = match isolation {
            Isolation::Committed if !records.is_empty() => self.inner().producers.aborted(from, behind(&records).unwrap_or(upto)),
            _ => Vec::new(),
        };
        Ok(Read { records, aborted, ..nothing })
    }

    /// The first record of this time or later: its offset and time. With read_committed only what is before the last stable
    /// offset.
    ///
    /// # Errors
    /// `KafkaStorageError`.
    pub fn offset_for_time(&self, timestamp: i64, isolation: Isolation) -> Result<Option<(i64, i64)>, ResponseError> {
        let inner = self.inner();
        let upto = if isolation == Isolation::Committed { inner.last_stable() } else { inner.log.end() };
        let found = inner.log.offset_for_time(timestamp).map_err(|_| ResponseError::KafkaStorageError)?;
        Ok(found.filter(|(offset, _)| *offset < upto))
    }

    /// The record with the highest time: its time and offset.
    ///
    /// # Errors
    /// `KafkaStorageError`.
    pub fn max_timestamp(&self) -> Result<Option<(i64, i64)>, ResponseError> {
        self.inner().log.max_timestamp().map_err(|_| ResponseError::KafkaStorageError)
    }

    /// The log's files in bytes.
    pub fn size(&self) -> u64 {
        self.inner().log.size_bytes()
    }

    /// Deletes the records before `offset`, those before the high watermark if it is -1. Gives the first offset that is left.
    ///
    /// # Errors
    /// `OffsetOutOfRange`, `PolicyViolation` when the topic's `cleanup.policy` keeps its records, `KafkaStorageError`.
    pub fn delete_records(&self, broker: &Broker, offset: i64) -> Result<i64, ResponseError> {
        let deletes = self.config().log.delete;
        let mut inner = self.open_inner()?;
        if !deletes {
            return Err(ResponseError::PolicyViolation);
        }
        let end = inner.log.end();
        let offset = if offset == -1 { end } else { offset };
        if !(0..=end).contains(&offset) {
            return Err(ResponseError::OffsetOutOfRange);
        }
        if offset > inner.log.start() {
            let key = log_start_key(self.place.topic_id, self.place.index);
            let change = Change::put(Kind::LogStart, key, &offset);
            let kept = change.and_then(|change| broker.journal.write(&[change]));
            kept.and_then(|()| inner.log.delete_before(offset)).map_err(|_| ResponseError::KafkaStorageError)?;
            inner.producers.forget_before(offset);
        }
        let start = inner.log.start();
        self.moved(inner, 0);
        Ok(start)
    }

    /// Uses other configs from now on.
    pub fn reconfigure(&self, config: Arc<TopicConfig>) {
        self.inner().log.configure(config.log.clone());
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Removes what retention no longer keeps.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn retain(&self, now: i64) -> io::Result<()> {
        let mut inner = self.inner();
        if !inner.closed && inner.log.retain(now)? {
            let start = inner.log.start();
            inner.producers.forget_before(start);
            self.moved(inner, 0);
        }
        Ok(())
    }

    /// Removes records that newer ones of the same key replaced, if the topic is compacted and enough has come together.
    /// Appends and reads go on meanwhile. There may be one of these at a time. Whether it did.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub fn compact(&self, now: i64) -> io::Result<bool> {
        let round = {
            let inner = self.inner();
            if inner.closed || !self.config().log.compact {
                return Ok(false);
            }
            inner.log.compaction(now, inner.last_stable(), inner.producers.last_writes())
        };
        let Some(round) = round else { return Ok(false) };
        let compacted = round.run()?;
        let mut inner = self.inner();
        if inner.closed { Ok(false) } else { inner.log.install(compacted) }
    }

    /// The topic is deleted: nothing is written from now on, and who waits is told.
    pub fn close(&self) {
        let mut inner = self.inner();
        inner.closed = true;
        self.moved(inner, 0);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_inner(&self) -> Result<MutexGuard<'_, Inner>, ResponseError> {
        let inner = self.inner();
        if inner.closed { Err(ResponseError::UnknownTopicOrPartition) } else { Ok(inner) }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the log and tells who waits, if its ends are others now.
    fn moved(&self, inner: MutexGuard<'_, Inner>, appended: usize) {
        let mut watched = self.watched();
        let ends = inner.ends(watched.ends.appended.wrapping_add(appended as u64));
        let moved = watched.ends != ends;
        watched.ends = ends;
        let bells = if moved { std::mem::take(&mut watched.bells) } else { Vec::new() };
        drop(watched);
        drop(inner);
        bells.iter().filter_map(Weak::upgrade).for_each(|bell| bell.notify_one());
    }
}

impl Inner {
    fn ends(&self, appended: u64) -> Ends {
        let (start, end) = (self.log.start(), self.log.end());
        Ends { start, end, last_stable: self.last_stable(), appended, closed: self.closed }
    }

    fn last_stable(&self) -> i64 {
        let (start, end) = (self.log.start(), self.log.end());
        // Records of an open transaction may have been deleted.
        self.producers.first_open().map_or(end, |first| first.clamp(start, end))
    }
}

/// Takes a batch of a log that is opened into account.
fn note(producers: &mut Producers, header: &Header, batch: &Bytes, now: i64) {
    if !header.is_control() {
        producers.appended(header, now);
        return;
    }
    // A marker that cannot be read, or was emptied by compaction, ends nothing.
    if let Ok(Some(marker)) = batch::marker(header, batch) {
        let ending = Ending {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            coordinator_epoch: marker.coordinator_epoch,
            commit: marker.commit,
        };
        producers.ended(&ending, header.base_offset, header.max_timestamp, now);
    }
}

/// One behind the last offset of these batches.
fn behind(records: &Bytes) -> Option<i64> {
    let (mut rest, mut behind) = (records.as_ref(), None);
    while let Ok(header) = Header::parse(rest) {
        behind = Some(header.last_offset().saturating_add(1));
        rest = rest.get(header.size..)?;
    }
    behind
}
