//! The coordinator of transactions: KIP-98, with KIP-360, KIP-664 and, for clients of transaction version 2, KIP-890.
//!
//! [`machine`] decides what a request does to a transactional id. [`Transactions`] does it: it writes the next state to the
//! journal, tells the partitions and groups how a transaction ended, and only then lets the request be answered. A transaction
//! ends in this order, so that a kill at any point loses and doubles nothing:
//!
//! 1. the journal says that it will be committed (or aborted): from here on there is no way back;
//! 2. each partition gets an end marker, each group makes the offsets committed (or drops them);
//! 3. the journal says that it is complete.
//!
//! Who finds step 1 in the journal without step 3 does step 2 again, at the start or in the `sweep`.

pub mod api;
pub mod machine;
mod producer_ids;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::error::ResponseError;

use super::Broker;
use super::journal::{Change, Journal, Kind};
use machine::{Part, Producer, Step, Transaction};
use producer_ids::ProducerIds;

/// The epoch of the one coordinator that there is.
pub const COORDINATOR_EPOCH: i32 = 0;

/// What a coordinator does to the rest of the broker.
pub trait World {
    /// Ms since 1970.
    fn now(&self) -> i64;
    /// Writes to the journal, all or nothing.
    ///
    /// # Errors
    /// It cannot be written.
    fn write(&self, changes: &[Change]) -> io::Result<()>;
    /// Writes an end marker into a partition; nothing when the partition is no more.
    ///
    /// # Errors
    /// The partition cannot be written.
    fn end_partition(&self, topic: &str, index: i32, producer: Producer, commit: bool) -> Result<(), ResponseError>;
    /// Makes the offsets that these groups got in the transaction committed, or drops them.
    ///
    /// # Errors
    /// The journal cannot be written.
    fn end_groups(&self, groups: &[String], producer: Producer, commit: bool) -> io::Result<()>;
}

/// A transactional id with its lock. It is empty for the moment in which it is made.
type Slot = Arc<Mutex<Option<Transaction>>>;

/// All transactional ids. Locks are taken in this order: the map, one slot, whatever the [`World`] locks. So nobody may hold a
/// lock of a partition or a group when it calls in here.
#[derive(Debug)]
pub struct Transactions {
    slots: Mutex<BTreeMap<String, Slot>>,
    producer_ids: ProducerIds,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A step replaces the state as a whole: a panic leaves the one before.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The journal or a partition could not be written: the client is to ask again.
fn unwritten(_: io::Error) -> ResponseError {
    ResponseError::CoordinatorNotAvailable
}

impl Transactions {
    /// What the journal knows. Call [`Transactions::recover`] before clients are served.
    ///
    /// # Errors
    /// The journal's entries are not understood.
    pub fn open(journal: &Journal) -> io::Result<Transactions> {
        let known = journal.read::<Transaction>(Kind::Transaction)?.into_iter();
        let slots = known.map(|(id, transaction)| (id, Arc::new(Mutex::new(Some(transaction))))).collect();
        Ok(Transactions { slots: Mutex::new(slots), producer_ids: ProducerIds::open(journal)? })
    }

    /// Completes what was decided before the process ended. What cannot be completed yet is left to the sweep.
    pub fn recover(&self, world: &impl World) {
        for (id, slot) in self.all() {
            let _ = self.complete(world, &id, &mut locked(&slot));
        }
    }

    /// InitProducerId without a transactional id.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE` when the journal cannot be written.
    pub fn fresh_producer_id(&self, world: &impl World) -> Result<i64, ResponseError> {
        self.producer_ids.fresh(|changes| world.write(changes)).map_err(unwritten)
    }

    /// InitProducerId with a transactional id: whoever used it before is fenced, its transaction aborted. `expected` as in
    /// [`machine::init`]; `timeout_ms` is what the producer's transactions may take.
    ///
    /// # Errors
    /// As [`machine::init`]; `COORDINATOR_NOT_AVAILABLE` when the journal cannot be written.
    pub fn init(
        &self,
        world: &impl World,
        id: &str,
        expected: Option<Producer>,
        timeout_ms: i32,
    ) -> Result<Producer, ResponseError> {
        let slot = locked(&self.slots).entry(id.to_owned()).or_default().clone();
        let mut state = locked(&slot);
        loop {
            // What cannot be completed now is CONCURRENT_TRANSACTIONS to the machine.
            let _ = self.complete(world, id, &mut state);
            let step = machine::init(state.as_ref(), expected, timeout_ms, world.now(), &mut || self.fresh_producer_id(world))?;
            let next = self.take(world, id, &mut state, step)?;
            if next.ending().is_none() {
                return Ok(next.producer());
            }
            // The transaction that was ongoing is aborted first. Kafka answers CONCURRENT_TRANSACTIONS here, so that the client
            // asks again.
        }
    }

    /// AddPartitionsToTxn, AddOffsetsToTxn.
    ///
    /// # Errors
    /// As [`Transaction::add`]; `INVALID_PRODUCER_ID_MAPPING` for an unknown transactional id.
    pub fn add(&self, world: &impl World, id: &str, producer: Producer, parts: &[Part<'_>]) -> Result<(), ResponseError> {
        self.with(id, |state| {
            let step = known(state)?.add(producer, parts, world.now())?;
            self.take(world, id, state, step).map(drop)
        })
    }

    /// Adds a partition to the transaction because something is to be appended to it: Produce from version 12 (KIP-890). An
    /// append that comes after the transaction's end has an old epoch, by which the partition knows it.
    ///
    /// # Errors
    /// As for Produce: `INVALID_PRODUCER_EPOCH` for a fenced producer, `INVALID_PRODUCER_ID_MAPPING`, `CONCURRENT_TRANSACTIONS`.
    pub fn add_partition(
        &self,
        world: &impl World,
        id: &str,
        producer_id: i64,
        epoch: i16,
        topic: &str,
        index: i32,
    ) -> Result<(), ResponseError> {
        self.add(world, id, Producer { id: producer_id, epoch }, &[Part::Partition(topic, index)]).map_err(as_epoch)
    }

    /// Whether the producer added the partition to its transaction: asked before appending for Produce up to version 11.
    ///
    /// # Errors
    /// As for Produce of version 11: `TRANSACTION_ABORTABLE` when it did not, `INVALID_PRODUCER_EPOCH` for a fenced producer,
    /// `INVALID_PRODUCER_ID_MAPPING`, `CONCURRENT_TRANSACTIONS`; see [`before_version_2`].
    pub fn verify(&self, id: &str, producer_id: i64, epoch: i16, topic: &str, index: i32) -> Result<(), ResponseError> {
        let producer = Producer { id: producer_id, epoch };
        self.with(id, |state| known(state)?.verify(producer, &Part::Partition(topic, index))).map_err(as_epoch)
    }

    /// TxnOffsetCommit: does `commit` while the transaction cannot end. With `add` (from version 5, KIP-890) the group is added
    /// to the transaction, without it must have been. `commit` may lock groups, so the caller must not.
    ///
    /// # Errors
    /// Those of `commit`; `TRANSACTION_ABORTABLE` when the group was not added, `INVALID_PRODUCER_EPOCH` for a fenced producer,
    /// `INVALID_PRODUCER_ID_MAPPING`, `CONCURRENT_TRANSACTIONS`; see [`before_version_2`].
    pub fn with_group<T>(
        &self,
        world: &impl World,
        id: &str,
        producer: Producer,
        group: &str,
        add: bool,
        commit: impl FnOnce() -> Result<T, ResponseError>,
    ) -> Result<T, ResponseError> {
        let part = Part::Group(group);
        self.with(id, |state| {
            if add {
                let step = known(state)?.add(producer, &[part], world.now()).map_err(as_epoch)?;
                self.take(world, id, state, step)?;
            } else {
                known(state)?.verify(producer, &part).map_err(as_epoch)?;
            }
            commit()
        })
    }

    /// EndTxn; `bump` for clients of transaction version 2. Gives what the producer is called from now on.
    ///
    /// # Errors
    /// As [`Transaction::end`] and [`Transaction::end_and_bump`]; `INVALID_PRODUCER_ID_MAPPING` for an unknown transactional id.
    pub fn end(
        &self,
        world: &impl World,
        id: &str,
        producer: Producer,
        commit: bool,
        bump: bool,
    ) -> Result<Producer, ResponseError> {
        self.with(id, |state| {
            // Not complete yet, if it is the same end: Kafka would answer CONCURRENT_TRANSACTIONS, and we as well if it
            // cannot be completed now.
            let _ = self.complete(world, id, state);
            let fresh: machine::Fresh<'_> = &mut || self.fresh_producer_id(world);
            let known = known(state)?;
            let step = if bump {
                known.end_and_bump(producer, commit, world.now(), fresh)?
            } else {
                known.end(producer, commit, world.now(), fresh)?
            };
            let next = self.take(world, id, state, step)?.producer();
            // The decision is written, so the answer is yes; what is left to do is done by the sweep if it cannot be now.
            let _ = self.complete(world, id, state);
            Ok(next)
        })
    }

    /// Does what time has brought: completes what is not, aborts what takes too long, forgets who was not seen for
    /// `expiration_ms`.
    pub fn sweep(&self, world: &impl World, expiration_ms: i64) {
        for (id, slot) in self.all() {
            let mut state = locked(&slot);
            let _ = self.complete(world, &id, &mut state);
            let late = state.as_ref().and_then(|it| it.timed_out(world.now(), &mut || self.fresh_producer_id(world)));
            if let Some(Ok(next)) = late {
                let _ = self.take(world, &id, &mut state, Step::To(next)).map(drop);
                let _ = self.complete(world, &id, &mut state);
            }
        }
        self.forget(world, expiration_ms);
    }

    fn forget(&self, world: &impl World, expiration_ms: i64) {
        let now = world.now();
        locked(&self.slots).retain(|id, slot| {
            // Nobody else has the slot, and nobody gets it while the map is locked.
            let Some(state) = Arc::get_mut(slot) else { return true };
            let state = state.get_mut().unwrap_or_else(PoisonError::into_inner);
            let expired = state.as_ref().is_none_or(|it| it.expired(expiration_ms, now));
            !expired || (state.is_some() && world.write(&[Change::remove(Kind::Transaction, id)]).is_err())
        });
    }

    /// Every transactional id with its state, by id.
    pub fn list(&self) -> Vec<(String, Transaction)> {
        let state = |(id, slot): (String, Slot)| Some((id, locked(&slot).clone()?));
        self.all().into_iter().filter_map(state).collect()
    }

    /// The state of one transactional id.
    pub fn get(&self, id: &str) -> Option<Transaction> {
        let slot = locked(&self.slots).get(id).cloned()?;
        locked(&slot).clone()
    }

    fn all(&self) -> Vec<(String, Slot)> {
        locked(&self.slots).iter().map(|(id, slot)| (id.clone(), slot.clone())).collect()
    }

    fn with<T>(
        &self,
        id: &str,
        step: impl FnOnce(&mut Option<Transaction>) -> Result<T, ResponseError>,
    ) -> Result<T, ResponseError> {
        let slot = locked(&self.slots).get(id).cloned().ok_or(ResponseError::InvalidProducerIdMapping)?;
        let mut state = locked(&slot);
        step(&mut state)
    }

    /// Makes a step: writes it, then takes it over.
    fn take<'a>(
        &self,
        world: &impl World,
        id: &str,
        state: &'a mut Option<Transaction>,
        step: Step,
    ) -> Result<&'a Transaction, ResponseError> {
        if let Step::To(next) = step {
            world.write(&[Change::put(Kind::Transaction, id, &next).map_err(unwritten)?]).map_err(unwritten)?;
            *state = Some(next);
        }
        known(state)
    }

    /// Tells the partitions and groups how the transaction ended, if that is to be done.
    fn complete(&self, world: &impl World, id: &str, state: &mut Option<Transaction>) -> Result<(), ResponseError> {
        let Some(ending) = state.as_ref() else { return Ok(()) };
        let Some(commit) = ending.ending() else { return Ok(()) };
        let producer = Producer { id: ending.producer_id, epoch: ending.epoch };
        for (topic, indexes) in &ending.partitions {
            for index in indexes {
                world.end_partition(topic, *index, producer, commit)?;
            }
        }
        let groups: Vec<_> = ending.groups.iter().cloned().collect();
        if !groups.is_empty() {
            world.end_groups(&groups, producer, commit).map_err(unwritten)?;
        }
        let step = Step::To(ending.completed(world.now()));
        self.take(world, id, state, step).map(drop)
    }
}

fn known(state: &Option<Transaction>) -> Result<&Transaction, ResponseError> {
    state.as_ref().ok_or(ResponseError::InvalidProducerIdMapping)
}

/// Produce and TxnOffsetCommit know a fenced producer by its epoch only.
fn as_epoch(error: ResponseError) -> ResponseError {
    match error {
        ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        other => other,
    }
}

/// A refusal of [`Transactions::verify`] and [`Transactions::with_group`] for a client that does not know
/// `TRANSACTION_ABORTABLE`: Produce before version 11, TxnOffsetCommit before version 4 (KIP-890).
pub fn before_version_2(error: ResponseError) -> ResponseError {
    match error {
        ResponseError::TransactionAbortable => ResponseError::InvalidTxnState,
        other => other,
    }
}

/// Sweeps every now and then until the broker leaves.
pub(super) async fn sweep(broker: Arc<Broker>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(api::sweep_interval_ms(&broker))) => {}
            () = broker.left() => return,
        }
        broker.transactions.sweep(&*broker, api::expiration_ms(&broker));
    }
}

#[cfg(test)]
mod tests;
