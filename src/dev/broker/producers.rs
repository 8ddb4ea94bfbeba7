//! What a partition knows of its producers: who may append which sequence number next (KIP-98, KIP-360), which transactions
//! are open and which were aborted.
//!
//! All of it follows from the log: it is built anew from the batches when the log is opened, and nothing of it is on disk.

use std::collections::{BTreeMap, HashMap, VecDeque};

use kafka_protocol::error::ResponseError;

use super::batch::Header;
use super::log::LastWrite;

/// How many batches of a producer are remembered, so that a repetition is answered as the first time: what the clients have
/// in flight at the most.
const REMEMBERED: usize = 5;

/// The producers of one partition.
#[derive(Debug, Default)]
pub struct Producers {
    by_id: HashMap<i64, Producer>,
    /// Open transactions: first offset, producer.
    open: BTreeMap<i64, i64>,
    /// In the order of their markers.
    aborted: Vec<Aborted>,
}

/// An aborted transaction, in offsets of this partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    pub producer_id: i64,
    /// Its first record.
    pub first: i64,
    /// Its marker.
    pub marker: i64,
    /// The last stable offset once the marker was written. No transaction that ends later began before it.
    last_stable: i64,
}

/// A producer as `DescribeProducers` shows it; -1 where there is nothing to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Active {
    pub producer_id: i64,
    pub epoch: i16,
    pub last_sequence: i32,
    /// Of the last record or marker, ms.
    pub last_timestamp: i64,
    pub coordinator_epoch: i32,
    pub transaction_start: i64,
}

/// What is to be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// It stands in the log already.
    Duplicate {
        base_offset: i64,
        timestamp: i64,
    },
}

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    pub producer_id: i64,
    pub epoch: i16,
    pub coordinator_epoch: i32,
    pub commit: bool,
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    coordinator_epoch: i32,
    last_timestamp: i64,
    /// When it last wrote, by this broker's clock: what expiry looks at. Records may be of any time.
    seen: i64,
    /// Those of `epoch`, oldest first.
    batches: VecDeque<Written>,
    /// First offset of its open transaction.
    open: Option<i64>,
    /// How many of its transactions ended here since the log was opened.
    endings: u64,
}

#[derive(Debug, Clone, Copy)]
struct Written {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    last_offset: i64,
    timestamp: i64,
}

impl Producers {
    /// What is to be done with a client's batch. `verified` is what [`Producers::endings`] said before the transaction's
    /// coordinator agreed to the batch; `None` if it was not asked. `strict` says that the client bumps its epoch with every
    /// transaction (KIP-890), so that a producer not known here begins at sequence 0.
    ///
    /// # Errors
    /// `OutOfOrderSequenceNumber`, `InvalidProducerEpoch` or `InvalidTxnState`, as Kafka 4 has them.
    pub fn check(&self, batch: &Header, verified: Option<u64>, strict: bool) -> Result<Verdict, ResponseError> {
        if !batch.has_producer() {
            return Ok(Verdict::Append);
        }
        let producer = self.by_id.get(&batch.producer_id);
        if let Some(Written { base_offset, timestamp, .. }) = producer.and_then(|producer| producer.written(batch)) {
            return Ok(Verdict::Duplicate { base_offset, timestamp });
        }
        if batch.is_transactional() && !self.is_open(batch.producer_id, batch.producer_epoch) {
            // A transaction that ended between the coordinator's word and now must not begin again by a late batch.
            if verified != Some(self.endings(batch.producer_id)) {
                return Err(ResponseError::InvalidTxnState);
            }
        }
        match producer {
            Some(producer) => producer.check(batch)?,
            None if strict && batch.is_transactional() && batch.base_sequence != 0 => {
                return Err(ResponseError::OutOfOrderSequenceNumber);
            }
            None => {}
        }
        Ok(Verdict::Append)
    }

    /// Takes in a batch that was appended, its offsets given; `now` in ms.
    pub fn appended(&mut self, batch: &Header, now: i64) {
        if !batch.has_producer() {
            return;
        }
        let producer = self.by_id.entry(batch.producer_id).or_insert_with(|| Producer::new(batch.producer_epoch));
        producer.enter(batch.producer_epoch);
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Written {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset: batch.base_offset,
            last_offset: batch.last_offset(),
            timestamp: batch.max_timestamp,
        });
        producer.last_timestamp = batch.max_timestamp;
        producer.seen = now;
        if batch.is_transactional() && producer.open.is_none() {
            producer.open = Some(batch.base_offset);
            self.open.insert(batch.base_offset, batch.producer_id);
        }
    }

    /// Whether an end marker may be written.
    ///
    /// # Errors
    /// `InvalidProducerEpoch` for a marker older than the producer, `TransactionCoordinatorFenced` for one of an earlier
    /// coordinator.
    pub fn check_ending(&self, ending: &Ending) -> Result<(), ResponseError> {
        let Some(producer) = self.by_id.get(&ending.producer_id) else { return Ok(()) };
        if ending.epoch < producer.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        if ending.coordinator_epoch < producer.coordinator_epoch {
            return Err(ResponseError::TransactionCoordinatorFenced);
        }
        Ok(())
    }

    /// Takes in an end marker that was appended at `offset`; `now` in ms.
    pub fn ended(&mut self, ending: &Ending, offset: i64, timestamp: i64, now: i64) {
        let producer = self.by_id.entry(ending.producer_id).or_insert_with(|| Producer::new(ending.epoch));
        producer.enter(ending.epoch);
        producer.coordinator_epoch = ending.coordinator_epoch;
        producer.last_timestamp = timestamp;
        producer.seen = now;
        producer.endings = producer.endings.wrapping_add(1);
        let Some(first) = producer.open.take() else { return };
        self.open.remove(&first);
        if !ending.commit {
            let last_stable = self.first_open().unwrap_or(offset.saturating_add(1));
            self.aborted.push(Aborted { producer_id: ending.producer_id, first, marker: offset, last_stable });
        }
    }

    /// Whether the producer has an open transaction of this epoch here.
    pub fn is_open(&self, producer_id: i64, epoch: i16) -> bool {
        self.by_id.get(&producer_id).is_some_and(|producer| producer.open.is_some() && producer.epoch == epoch)
    }

    /// Whether a marker of this epoch ended the producer's last transaction here, and nothing was appended since. Only a
    /// coordinator that gives each marker an epoch of its own (KIP-890) can tell by it that this very marker was written.
    pub fn has_ended(&self, producer_id: i64, epoch: i16) -> bool {
        let ended = |producer: &Producer| producer.epoch == epoch && producer.open.is_none() && producer.batches.is_empty();
        self.by_id.get(&producer_id).is_some_and(ended)
    }

    /// A number that changes when a transaction of the producer ends here.
    pub fn endings(&self, producer_id: i64) -> u64 {
        self.by_id.get(&producer_id).map_or(0, |producer| producer.endings)
    }

    /// The first offset of the oldest open transaction: what is read as committed ends before it.
    pub fn first_open(&self) -> Option<i64> {
        self.open.first_key_value().map(|(first, _)| *first)
    }

    /// The aborted transactions with records in `from..upto`, and maybe more: what a fetch with read_committed carries.
    pub fn aborted(&self, from: i64, upto: i64) -> Vec<Aborted> {
        let begin = self.aborted.partition_point(|aborted| aborted.marker < from);
        let mut found = Vec::new();
        for aborted in self.aborted.get(begin..).unwrap_or_default() {
            if aborted.first < upto {
                found.push(*aborted);
            }
            if aborted.last_stable >= upto {
                break;
            }
        }
        found
    }

    /// The log begins at `start` now.
    pub fn forget_before(&mut self, start: i64) {
        let gone = self.aborted.partition_point(|aborted| aborted.marker < start);
        self.aborted.drain(..gone);
    }

    /// Forgets who wrote nothing since `before` (ms) and has no open transaction.
    pub fn expire(&mut self, before: i64) {
        self.by_id.retain(|_, producer| producer.open.is_some() || producer.seen >= before);
    }

    /// What each wrote last: compaction keeps that, so that the state can be built again.
    pub fn last_writes(&self) -> HashMap<i64, LastWrite> {
        let last = |producer: &Producer| LastWrite {
            offset: producer.batches.back().map(|last| last.last_offset),
            epoch: producer.epoch,
        };
        self.by_id.iter().map(|(id, producer)| (*id, last(producer))).collect()
    }

    /// All of them, by id.
    pub fn active(&self) -> Vec<Active> {
        let show = |(id, producer): (&i64, &Producer)| Active {
            producer_id: *id,
            epoch: producer.epoch,
            last_sequence: producer.batches.back().map_or(-1, |last| last.last_sequence),
            last_timestamp: producer.last_timestamp,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_start: producer.open.unwrap_or(-1),
        };
        let mut active: Vec<Active> = self.by_id.iter().map(show).collect();
        active.sort_unstable_by_key(|active| active.producer_id);
        active
    }
}

impl Producer {
    fn new(epoch: i16) -> Producer {
        let batches = VecDeque::new();
        Producer { epoch, coordinator_epoch: -1, last_timestamp: -1, seen: 0, batches, open: None, endings: 0 }
    }

    /// Sequences of an earlier epoch mean nothing in a new one.
    fn enter(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }

    fn written(&self, batch: &Header) -> Option<Written> {
        let last = batch.last_sequence();
        let same = |written: &&Written| written.first_sequence == batch.base_sequence && written.last_sequence == last;
        (self.epoch == batch.producer_epoch).then(|| self.batches.iter().find(same).copied())?
    }

    fn check(&self, batch: &Header) -> Result<(), ResponseError> {
        if batch.producer_epoch < self.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        let last = if batch.producer_epoch == self.epoch { self.batches.back().map(|last| last.last_sequence) } else { None };
        let next = match last {
            None | Some(i32::MAX) => 0,
            Some(last) => last.saturating_add(1),
        };
        if batch.base_sequence != next {
            return Err(ResponseError::OutOfOrderSequenceNumber);
        }
        if self.open.is_some() && !batch.is_transactional() {
            return Err(ResponseError::InvalidTxnState);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::broker::batch::{Producer as Writer, Record, build};
    use crate::dev::broker::compression::Compression;

    /// A batch of `count` records at an offset.
    fn batch(id: i64, epoch: i16, sequence: i32, count: usize, offset: i64, transactional: bool) -> Header {
        let writer = Writer { id, epoch, sequence, transactional };
        let bytes = build(&vec![Record::default(); count], writer, Compression::None).unwrap();
        Header { base_offset: offset, ..Header::parse(&bytes).unwrap() }
    }

    fn ending(id: i64, epoch: i16, commit: bool) -> Ending {
        Ending { producer_id: id, epoch, coordinator_epoch: 0, commit }
    }

    fn check(producers: &Producers, epoch: i16, sequence: i32, count: usize) -> Result<Verdict, ResponseError> {
        producers.check(&batch(1, epoch, sequence, count, 0, false), None, false)
    }

    #[test]
    fn a_repeated_batch_is_known_as_long_as_it_is_remembered() {
        let mut producers = Producers::default();
        for n in 0..6 {
            let next = batch(1, 0, n * 2, 2, i64::from(n) * 2, false);
            assert_eq!(producers.check(&next, None, false), Ok(Verdict::Append));
            producers.appended(&next, 0);
        }
        assert_eq!(check(&producers, 0, 0, 2), Err(ResponseError::OutOfOrderSequenceNumber));
        let Ok(Verdict::Duplicate { base_offset, .. }) = check(&producers, 0, 2, 2) else { panic!("forgotten") };
        assert_eq!(base_offset, 2);
        assert_eq!(check(&producers, 0, 2, 1), Err(ResponseError::OutOfOrderSequenceNumber));
        assert_eq!(check(&producers, 0, 14, 1), Err(ResponseError::OutOfOrderSequenceNumber));
        assert_eq!(check(&producers, 0, 12, 1), Ok(Verdict::Append));
        assert_eq!(check(&producers, 1, 12, 1), Err(ResponseError::OutOfOrderSequenceNumber));
        assert_eq!(check(&producers, 1, 0, 1), Ok(Verdict::Append));
        assert_eq!(check(&producers, -1, 12, 1), Err(ResponseError::InvalidProducerEpoch));
    }

    #[test]
    fn sequences_begin_again_behind_the_highest() {
        let mut producers = Producers::default();
        producers.appended(&batch(1, 0, i32::MAX - 1, 2, 0, false), 0);
        assert_eq!(check(&producers, 0, 0, 1), Ok(Verdict::Append));
        producers.appended(&batch(2, 0, i32::MAX, 2, 2, false), 0);
        assert_eq!(producers.active()[1].last_sequence, 0);
        assert_eq!(producers.check(&batch(2, 0, 1, 1, 0, false), None, false), Ok(Verdict::Append));
    }

    #[test]
    fn a_transaction_needs_the_word_of_its_coordinator_and_ends_once() {
        let mut producers = Producers::default();
        let first = batch(1, 0, 0, 1, 10, true);
        assert_eq!(producers.check(&first, None, false), Err(ResponseError::InvalidTxnState));
        let word = producers.endings(1);
        assert_eq!(producers.check(&first, Some(word), false), Ok(Verdict::Append));
        producers.appended(&first, 0);
        assert_eq!(producers.check(&batch(1, 0, 1, 1, 0, true), None, false), Ok(Verdict::Append));
        assert_eq!(check(&producers, 0, 1, 1), Err(ResponseError::InvalidTxnState));
        assert_eq!(producers.first_open(), Some(10));
        producers.ended(&ending(1, 0, true), 11, 0, 0);
        assert_eq!(producers.first_open(), None);
        // The word was given before the end: it does not open the next transaction.
        assert_eq!(producers.check(&batch(1, 0, 1, 1, 0, true), Some(word), false), Err(ResponseError::InvalidTxnState));
        assert!(producers.aborted(0, 100).is_empty());
    }

    #[test]
    fn markers_with_epochs_of_their_own_are_known_again() {
        let mut producers = Producers::default();
        producers.appended(&batch(1, 4, 0, 1, 0, true), 0);
        assert!(!producers.has_ended(1, 5));
        producers.ended(&ending(1, 5, false), 1, 0, 0);
        assert!(producers.has_ended(1, 5));
        assert_eq!(producers.check_ending(&ending(1, 4, false)), Err(ResponseError::InvalidProducerEpoch));
        assert_eq!(producers.check(&batch(1, 4, 1, 1, 0, true), Some(1), true), Err(ResponseError::InvalidProducerEpoch));
        assert_eq!(producers.check(&batch(1, 5, 1, 1, 0, true), Some(1), true), Err(ResponseError::OutOfOrderSequenceNumber));
        assert_eq!(producers.check(&batch(1, 5, 0, 1, 0, true), Some(1), true), Ok(Verdict::Append));
        assert_eq!(producers.check(&batch(9, 0, 3, 1, 0, true), Some(0), true), Err(ResponseError::OutOfOrderSequenceNumber));
    }

    #[test]
    fn a_fetch_gets_the_aborted_transactions_of_its_range() {
        let mut producers = Producers::default();
        producers.appended(&batch(1, 0, 0, 1, 0, true), 0);
        producers.appended(&batch(2, 0, 0, 1, 1, true), 0);
        producers.ended(&ending(2, 0, false), 2, 0, 0);
        producers.ended(&ending(1, 0, false), 3, 0, 0);
        producers.appended(&batch(2, 0, 1, 1, 4, true), 0);
        producers.ended(&ending(2, 0, false), 5, 0, 0);
        let of = |from, upto| producers.aborted(from, upto).iter().map(|one| (one.producer_id, one.first)).collect::<Vec<_>>();
        assert_eq!(of(0, 6), [(2, 1), (1, 0), (2, 4)]);
        assert_eq!(of(0, 1), [(1, 0)]);
        assert_eq!(of(3, 4), [(1, 0)]);
        assert_eq!(of(4, 6), [(2, 4)]);
        assert_eq!(of(6, 9), []);
        producers.forget_before(4);
        assert_eq!(producers.aborted(0, 9).len(), 1);
    }

    #[test]
    fn who_is_silent_is_forgotten_unless_a_transaction_is_open() {
        let mut producers = Producers::default();
        producers.appended(&batch(1, 0, 0, 1, 0, false), 100);
        producers.appended(&batch(2, 0, 0, 1, 1, true), 100);
        producers.expire(100);
        assert_eq!(producers.active().len(), 2);
        producers.expire(101);
        assert_eq!(producers.active().iter().map(|one| one.producer_id).collect::<Vec<_>>(), [2]);
    }
}
