//! One transactional id as a state machine: KIP-98 with the epochs of KIP-360 and KIP-890. No clock, file or lock is here:
//! each step takes the request and the time, and gives the next state or the error that the producer is told.
//!
//! ```text
//! Empty, CompleteCommit, CompleteAbort --add--> Ongoing --end--> PrepareCommit, PrepareAbort --completed--> CompleteCommit, CompleteAbort
//!       ^                                          |                                                            |
//!       +------------------------- init -----------+--- init, time-out: first PrepareAbort with a higher epoch   |
//!       +-------------------------------------------------- init ------------------------------------------------+
//! ```
//!
//! Two protocols share it. Clients before transaction version 2 add partitions by a request of their own and keep their epoch
//! for many transactions. Those of version 2 (`bump`) get a higher epoch with the end of each transaction, so that whatever
//! was under way for the transaction before can be told from the next one's.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use serde::{Deserialize, Serialize};

/// No producer id.
pub const NO_ID: i64 = -1;
/// No epoch.
pub const NO_EPOCH: i16 = -1;

/// Where a transactional id stands. The names are those that DescribeTransactions gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Initialized; no transaction since.
    Empty,
    /// Partitions or groups take part in a transaction.
    Ongoing,
    /// It is decided that the transaction is committed; the partitions and groups do not all know it yet.
    PrepareCommit,
    /// It is decided that the transaction is aborted.
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl State {
    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Ongoing => "Ongoing",
            State::PrepareCommit => "PrepareCommit",
            State::PrepareAbort => "PrepareAbort",
            State::CompleteCommit => "CompleteCommit",
            State::CompleteAbort => "CompleteAbort",
        }
    }

    fn prepared(commit: bool) -> State {
        if commit { State::PrepareCommit } else { State::PrepareAbort }
    }
}

/// A producer as it names itself in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

/// What takes part in a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// Topic and partition.
    Partition(&'a str, i32),
    /// A consumer group whose offsets are committed with the transaction.
    Group(&'a str),
}

/// All that is known of a transactional id. It is kept in the journal as it stands here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    pub producer_id: i64,
    pub epoch: i16,
    /// The producer id before the last step, which a repeated request may still name.
    pub previous_id: i64,
    /// The epoch before `epoch`, if it was the same producer's; a repeated request names it.
    pub last_epoch: i16,
    /// The producer id that takes over when the transaction's end is complete, because the epochs of this one are used up.
    pub next_id: Option<i64>,
    /// How long a transaction may take, in ms.
    pub timeout_ms: i32,
    pub state: State,
    pub partitions: BTreeMap<String, BTreeSet<i32>>,
    pub groups: BTreeSet<String>,
    /// When the transaction began, in ms since 1970; -1 when there was none since the producer was initialized.
    pub started: i64,
    /// When something was last asked for, in ms since 1970.
    pub updated: i64,
}

/// What a request does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the request was served before, and is answered as it was then.
    Stay,
    /// The next state, which must be written before the request is answered.
    To(Transaction),
}

/// Gives a producer id that was never given out.
pub type Fresh<'a> = &'a mut dyn FnMut() -> Result<i64, ResponseError>;

/// The highest epoch but one is the last that a producer gets; the highest fences it.
fn used_up(epoch: i16) -> bool {
    epoch >= i16::MAX - 1
}

/// InitProducerId for a transactional id. When a transaction is ongoing, the step leads to `PrepareAbort`: complete that, then
/// ask again. `expected` is the producer that wants to go on with its next epoch (KIP-360); without it, whoever used the
/// transactional id before is fenced.
///
/// # Errors
/// `PRODUCER_FENCED` when `expected` is no longer the producer; `CONCURRENT_TRANSACTIONS` while an end is not complete.
pub fn init(
    known: Option<&Transaction>,
    expected: Option<Producer>,
    timeout_ms: i32,
    now: i64,
    fresh: Fresh<'_>,
) -> Result<Step, ResponseError> {
    let Some(known) = known else {
        return Ok(Step::To(Transaction::new(fresh()?, timeout_ms, now)));
    };
    let retried_rotation = |it: Producer| it.id == known.previous_id && used_up(it.epoch);
    if expected.is_some_and(|it| it.id != known.producer_id && !retried_rotation(it)) {
        return Err(ResponseError::ProducerFenced);
    }
    match known.state {
        State::PrepareCommit | State::PrepareAbort => Err(ResponseError::ConcurrentTransactions),
        // Kafka aborts first and looks at the epoch afterwards: a zombie could abort its successor's transaction.
        State::Ongoing if expected.is_some_and(|it| it.epoch != known.epoch && it.epoch != known.last_epoch) => {
            Err(ResponseError::ProducerFenced)
        }
        State::Ongoing => Ok(Step::To(known.prepared(State::PrepareAbort, true, now, fresh)?)),
        State::Empty | State::CompleteCommit | State::CompleteAbort => {
            known.initialized(expected.map(|it| it.epoch), timeout_ms, now, fresh).map(Step::To)
        }
    }
}

impl Transaction {
    fn new(producer_id: i64, timeout_ms: i32, now: i64) -> Transaction {
        Transaction {
            producer_id,
            epoch: 0,
            previous_id: NO_ID,
            last_epoch: NO_EPOCH,
            next_id: None,
            timeout_ms,
            state: State::Empty,
            partitions: BTreeMap::new(),
            groups: BTreeSet::new(),
            started: -1,
            updated: now,
        }
    }

    /// Who the producer is once what was decided is complete: the answer to InitProducerId and EndTxn.
    pub fn producer(&self) -> Producer {
        match self.next_id {
            Some(id) => Producer { id, epoch: 0 },
            None => Producer { id: self.producer_id, epoch: self.epoch },
        }
    }

    /// `Some(commit)` while the partitions and groups must be told how the transaction ended.
    pub fn ending(&self) -> Option<bool> {
        match self.state {
            State::PrepareCommit => Some(true),
            State::PrepareAbort => Some(false),
            _ => None,
        }
    }

    fn initialized(
        &self,
        expected: Option<i16>,
        timeout_ms: i32,
        now: i64,
        fresh: Fresh<'_>,
    ) -> Result<Transaction, ResponseError> {
        let mut next = Transaction {
            previous_id: self.producer_id,
            last_epoch: if expected.is_some() { self.epoch } else { NO_EPOCH },
            epoch: self.epoch.saturating_add(1),
            ..Transaction::new(self.producer_id, timeout_ms, now)
        };
        if expected.is_some_and(|epoch| epoch != self.epoch) {
            if expected != Some(self.last_epoch) {
                return Err(ResponseError::ProducerFenced);
            }
            // The answer to the same request was lost. Had another producer come in between, it would have left no last epoch.
            (next.epoch, next.last_epoch) = (self.epoch, self.last_epoch);
        } else if used_up(self.epoch) {
            (next.producer_id, next.epoch) = (fresh()?, 0);
        }
        Ok(next)
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn, or by transaction version 2 the first Produce and TxnOffsetCommit.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`: it is another's transaction. `CONCURRENT_TRANSACTIONS`: the one before
    /// is not complete.
    pub fn add(&self, producer: Producer, parts: &[Part<'_>], now: i64) -> Result<Step, ResponseError> {
        self.own(producer)?;
        if self.state == State::Ongoing && parts.iter().all(|part| self.has(part)) {
            return Ok(Step::Stay);
        }
        let mut next = Transaction { previous_id: self.producer_id, state: State::Ongoing, updated: now, ..self.clone() };
        if self.state != State::Ongoing {
            next.started = now;
        }
        for part in parts {
            match part {
                Part::Partition(topic, index) => {
                    next.partitions.entry((*topic).to_owned()).or_default().insert(*index);
                }
                Part::Group(group) => {
                    next.groups.insert((*group).to_owned());
                }
            }
        }
        Ok(Step::To(next))
    }

    /// Whether `part` was added by `producer` (KIP-890: what comes too late for its transaction must not be written).
    ///
    /// # Errors
    /// As [`Transaction::add`]; `TRANSACTION_ABORTABLE` when it was not added.
    pub fn verify(&self, producer: Producer, part: &Part<'_>) -> Result<(), ResponseError> {
        self.own(producer)?;
        if self.has(part) { Ok(()) } else { Err(ResponseError::TransactionAbortable) }
    }

    fn own(&self, producer: Producer) -> Result<(), ResponseError> {
        if producer.id != self.producer_id {
            Err(ResponseError::InvalidProducerIdMapping)
        } else if producer.epoch != self.epoch {
            Err(ResponseError::ProducerFenced)
        } else if self.ending().is_some() {
            Err(ResponseError::ConcurrentTransactions)
        } else {
            Ok(())
        }
    }

    fn has(&self, part: &Part<'_>) -> bool {
        match part {
            Part::Partition(topic, index) => self.partitions.get(*topic).is_some_and(|indexes| indexes.contains(index)),
            Part::Group(group) => self.groups.contains(*group),
        }
    }

    /// EndTxn of a client before transaction version 2: the epoch stays.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`; `INVALID_TXN_STATE` when there is no transaction or it was ended the
    /// other way; `CONCURRENT_TRANSACTIONS` while the same end is not complete.
    pub fn end(&self, producer: Producer, commit: bool, now: i64, fresh: Fresh<'_>) -> Result<Step, ResponseError> {
        if producer.id != self.producer_id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if producer.epoch != self.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        match (self.state, commit) {
            (State::Ongoing, _) => Ok(Step::To(self.prepared(State::prepared(commit), false, now, fresh)?)),
            (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(Step::Stay),
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => Err(ResponseError::ConcurrentTransactions),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// EndTxn of a client of transaction version 2: the epoch rises, so that an epoch one below says that the request is a
    /// repeated one. A producer that has added nothing may abort.
    ///
    /// # Errors
    /// As [`Transaction::end`].
    pub fn end_and_bump(&self, producer: Producer, commit: bool, now: i64, fresh: Fresh<'_>) -> Result<Step, ResponseError> {
        // The answer that gave out a new producer id was lost.
        let rotated = producer.id == self.previous_id && producer.epoch == i16::MAX - 1 && self.epoch == 0;
        let retried = rotated || producer.epoch.checked_add(1) == Some(self.epoch);
        if producer.id != self.producer_id && !rotated {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        let fits = match self.state {
            State::Ongoing | State::Empty => producer.epoch == self.epoch,
            State::PrepareCommit | State::PrepareAbort => retried,
            State::CompleteCommit | State::CompleteAbort => retried || producer.epoch == self.epoch,
        };
        if !fits {
            return Err(ResponseError::ProducerFenced);
        }
        match (self.state, commit) {
            (State::Ongoing, _) => Ok(Step::To(self.prepared(State::prepared(commit), true, now, fresh)?)),
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => Err(ResponseError::ConcurrentTransactions),
            (State::CompleteCommit, true) | (State::CompleteAbort, false) if retried => Ok(Step::Stay),
            (State::Empty | State::CompleteCommit | State::CompleteAbort, false) if !retried => {
                let next = self.prepared(State::PrepareAbort, true, now, fresh)?;
                Ok(Step::To(Transaction { started: now, ..next }))
            }
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// The transaction took longer than it may: it is aborted, and its producer fenced. `None` when there is nothing to abort.
    pub fn timed_out(&self, now: i64, fresh: Fresh<'_>) -> Option<Result<Transaction, ResponseError>> {
        let late = self.started.saturating_add(i64::from(self.timeout_ms)) < now;
        (self.state == State::Ongoing && late).then(|| self.prepared(State::PrepareAbort, true, now, fresh))
    }

    fn prepared(&self, state: State, bump: bool, now: i64, fresh: Fresh<'_>) -> Result<Transaction, ResponseError> {
        let mut next = Transaction { previous_id: self.producer_id, state, updated: now, ..self.clone() };
        if bump {
            next.next_id = if used_up(self.epoch) { Some(fresh()?) } else { None };
            (next.epoch, next.last_epoch) = (self.epoch.saturating_add(1), self.epoch);
        }
        Ok(next)
    }

    /// All partitions and groups know how the transaction ended.
    pub fn completed(&self, now: i64) -> Transaction {
        let Producer { id, epoch } = self.producer();
        Transaction {
            producer_id: id,
            epoch,
            previous_id: self.producer_id,
            next_id: None,
            state: if self.state == State::PrepareCommit { State::CompleteCommit } else { State::CompleteAbort },
            partitions: BTreeMap::new(),
            groups: BTreeSet::new(),
            updated: now,
            ..self.clone()
        }
    }

    /// Whether nobody asked for anything in `after_ms`, so that the transactional id may be forgotten.
    pub fn expired(&self, after_ms: i64, now: i64) -> bool {
        let idle = matches!(self.state, State::Empty | State::CompleteCommit | State::CompleteAbort);
        idle && self.updated.saturating_add(after_ms) <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: i64 = 7;

    /// Producer 7 in epoch 5, before that in epoch 4, with a transaction since 100 that may take 50 ms.
    fn known(state: State) -> Transaction {
        let ending = matches!(state, State::Ongoing | State::PrepareCommit | State::PrepareAbort);
        let partitions = if ending { BTreeMap::from([("t".to_owned(), BTreeSet::from([0]))]) } else { BTreeMap::new() };
        let started = if state == State::Empty { -1 } else { 100 };
        Transaction { epoch: 5, last_epoch: 4, previous_id: ID, state, partitions, started, ..Transaction::new(ID, 50, 100) }
    }

    fn producer(epoch: i16) -> Producer {
        Producer { id: ID, epoch }
    }

    fn told(step: Result<Step, ResponseError>) -> String {
        match step {
            Ok(Step::Stay) => "ok".to_owned(),
            Ok(Step::To(next)) => {
                let next_id = next.next_id.map_or(String::new(), |id| format!(" then {id}"));
                format!(
                    "{} {}.{} after {}.{}{next_id}",
                    next.state.name(),
                    next.producer_id,
                    next.epoch,
                    next.previous_id,
                    next.last_epoch
                )
            }
            Err(error) => format!("{error:?}"),
        }
    }

    fn row(state: &Transaction) -> String {
        let fresh: Fresh<'_> = &mut || Ok(99);
        let (t0, t1) = (Part::Partition("t", 0), Part::Partition("t", 1));
        let current = producer(state.epoch);
        let before = producer(state.epoch - 1);
        let zombie = producer(state.epoch - 3);
        let mut rows = vec![
            ("init", told(init(Some(state), None, 60, 120, fresh))),
            ("init, goes on", told(init(Some(state), Some(current), 60, 120, fresh))),
            ("init, again", told(init(Some(state), Some(before), 60, 120, fresh))),
            ("init, zombie", told(init(Some(state), Some(zombie), 60, 120, fresh))),
            ("init, other id", told(init(Some(state), Some(Producer { id: 1, epoch: 0 }), 60, 120, fresh))),
            ("add", told(state.add(current, &[t1.clone(), Part::Group("g")], 120))),
            ("add, again", told(state.add(current, std::slice::from_ref(&t0), 120))),
            ("add, zombie", told(state.add(before, std::slice::from_ref(&t0), 120))),
            ("add, other id", told(state.add(Producer { id: 1, epoch: 5 }, std::slice::from_ref(&t0), 120))),
            ("verify", told(state.verify(current, &t0).map(|()| Step::Stay))),
            ("verify, not added", told(state.verify(current, &t1).map(|()| Step::Stay))),
            ("verify, zombie", told(state.verify(before, &t0).map(|()| Step::Stay))),
        ];
        for (who, producer) in [("", current), (", before", before)] {
            for (way, commit) in [("commit", true), ("abort", false)] {
                rows.push((format!("{way} v1{who}").leak(), told(state.end(producer, commit, 120, fresh))));
                rows.push((format!("{way} v2{who}").leak(), told(state.end_and_bump(producer, commit, 120, fresh))));
            }
        }
        rows.push(("in time", state.timed_out(150, fresh).map_or("-".to_owned(), |it| told(it.map(Step::To)))));
        rows.push(("late", state.timed_out(151, fresh).map_or("-".to_owned(), |it| told(it.map(Step::To)))));
        rows.push(("idle", state.expired(1000, 1100).to_string()));
        rows.into_iter().map(|(request, answer)| format!("{request:18} {answer}\n")).collect()
    }

    #[test]
    fn an_unknown_id_gets_a_new_producer_id_in_any_case() {
        let fresh: Fresh<'_> = &mut || Ok(99);
        assert_eq!(told(init(None, None, 60, 120, fresh)), "Empty 99.0 after -1.-1");
        assert_eq!(told(init(None, Some(producer(3)), 60, 120, fresh)), "Empty 99.0 after -1.-1");
    }

    #[test]
    fn empty() {
        insta::assert_snapshot!(row(&known(State::Empty)), @"
        init               Empty 7.6 after 7.-1
        init, goes on      Empty 7.6 after 7.5
        init, again        Empty 7.5 after 7.4
        init, zombie       ProducerFenced
        init, other id     ProducerFenced
        add                Ongoing 7.5 after 7.4
        add, again         Ongoing 7.5 after 7.4
        add, zombie        ProducerFenced
        add, other id      InvalidProducerIdMapping
        verify             TransactionAbortable
        verify, not added  TransactionAbortable
        verify, zombie     ProducerFenced
        commit v1          InvalidTxnState
        commit v2          InvalidTxnState
        abort v1           InvalidTxnState
        abort v2           PrepareAbort 7.6 after 7.5
        commit v1, before  ProducerFenced
        commit v2, before  ProducerFenced
        abort v1, before   ProducerFenced
        abort v2, before   ProducerFenced
        in time            -
        late               -
        idle               true
        ");
    }

    #[test]
    fn ongoing() {
        insta::assert_snapshot!(row(&known(State::Ongoing)), @"
        init               PrepareAbort 7.6 after 7.5
        init, goes on      PrepareAbort 7.6 after 7.5
        init, again        PrepareAbort 7.6 after 7.5
        init, zombie       ProducerFenced
        init, other id     ProducerFenced
        add                Ongoing 7.5 after 7.4
        add, again         ok
        add, zombie        ProducerFenced
        add, other id      InvalidProducerIdMapping
        verify             ok
        verify, not added  TransactionAbortable
        verify, zombie     ProducerFenced
        commit v1          PrepareCommit 7.5 after 7.4
        commit v2          PrepareCommit 7.6 after 7.5
        abort v1           PrepareAbort 7.5 after 7.4
        abort v2           PrepareAbort 7.6 after 7.5
        commit v1, before  ProducerFenced
        commit v2, before  ProducerFenced
        abort v1, before   ProducerFenced
        abort v2, before   ProducerFenced
        in time            -
        late               PrepareAbort 7.6 after 7.5
        idle               false
        ");
    }

    #[test]
    fn prepare_commit() {
        insta::assert_snapshot!(row(&known(State::PrepareCommit)), @"
        init               ConcurrentTransactions
        init, goes on      ConcurrentTransactions
        init, again        ConcurrentTransactions
        init, zombie       ConcurrentTransactions
        init, other id     ProducerFenced
        add                ConcurrentTransactions
        add, again         ConcurrentTransactions
        add, zombie        ProducerFenced
        add, other id      InvalidProducerIdMapping
        verify             ConcurrentTransactions
        verify, not added  ConcurrentTransactions
        verify, zombie     ProducerFenced
        commit v1          ConcurrentTransactions
        commit v2          ProducerFenced
        abort v1           InvalidTxnState
        abort v2           ProducerFenced
        commit v1, before  ProducerFenced
        commit v2, before  ConcurrentTransactions
        abort v1, before   ProducerFenced
        abort v2, before   InvalidTxnState
        in time            -
        late               -
        idle               false
        ");
    }

    #[test]
    fn prepare_abort() {
        insta::assert_snapshot!(row(&known(State::PrepareAbort)), @"
        init               ConcurrentTransactions
        init, goes on      ConcurrentTransactions
        init, again        ConcurrentTransactions
        init, zombie       ConcurrentTransactions
        init, other id     ProducerFenced
        add                ConcurrentTransactions
        add, again         ConcurrentTransactions
        add, zombie        ProducerFenced
        add, other id      InvalidProducerIdMapping
        verify             ConcurrentTransactions
        verify, not added  ConcurrentTransactions
        verify, zombie     ProducerFenced
        commit v1          InvalidTxnState
        commit v2          ProducerFenced
        abort v1           ConcurrentTransactions
        abort v2           ProducerFenced
        commit v1, before  ProducerFenced
        commit v2, before  InvalidTxnState
        abort v1, before   ProducerFenced
        abort v2, before   ConcurrentTransactions
        in time            -
        late               -
        idle               false
        ");
    }

    #[test]
    fn complete_commit() {
        insta::assert_snapshot!(row(&known(State::CompleteCommit)), @"
        init               Empty 7.6 after 7.-1
        init, goes on      Empty 7.6 after 7.5
        init, again        Empty 7.5 after 7.4
        init, zombie       ProducerFenced
        init, other id     ProducerFenced
        add                Ongoing 7.5 after 7.4
        add, again         Ongoing 7.5 after 7.4
        add, zombie        ProducerFenced
        add, other id      InvalidProducerIdMapping
        verify             TransactionAbortable
        verify, not added  TransactionAbortable
        verify, zombie     ProducerFenced
        commit v1          ok
        commit v2          InvalidTxnState
        abort v1           InvalidTxnState
        abort v2           PrepareAbort 7.6 after 7.5
        commit v1, before  ProducerFenced
        commit v2, before  ok
        abort v1, before   ProducerFenced
        abort v2, before   InvalidTxnState
        in time            -
        late               -
        idle               true
        ");
    }

    #[test]
    fn complete_abort() {
        insta::assert_snapshot!(row(&known(State::CompleteAbort)), @"
        init               Empty 7.6 after 7.-1
        init, goes on      Empty 7.6 after 7.5
        init, again        Empty 7.5 after 7.4
        init, zombie       ProducerFenced
        init, other id     ProducerFenced
        add                Ongoing 7.5 after 7.4
        add, again         Ongoing 7.5 after 7.4
        add, zombie        ProducerFenced
        add, other id      InvalidProducerIdMapping
        verify             TransactionAbortable
        verify, not added  TransactionAbortable
        verify, zombie     ProducerFenced
        commit v1          InvalidTxnState
        commit v2          InvalidTxnState
        abort v1           ok
        abort v2           PrepareAbort 7.6 after 7.5
        commit v1, before  ProducerFenced
        commit v2, before  InvalidTxnState
        abort v1, before   ProducerFenced
        abort v2, before   ok
        in time            -
        late               -
        idle               true
        ");
    }

    /// The last epoch that a producer gets.
    fn last(state: State) -> Transaction {
        Transaction { epoch: i16::MAX - 1, last_epoch: i16::MAX - 2, ..known(state) }
    }

    #[test]
    fn the_last_epoch_of_an_idle_id() {
        insta::assert_snapshot!(row(&last(State::CompleteCommit)), @"
        init               Empty 99.0 after 7.-1
        init, goes on      Empty 99.0 after 7.32766
        init, again        Empty 7.32766 after 7.32765
        init, zombie       ProducerFenced
        init, other id     ProducerFenced
        add                Ongoing 7.32766 after 7.32765
        add, again         Ongoing 7.32766 after 7.32765
        add, zombie        ProducerFenced
        add, other id      InvalidProducerIdMapping
        verify             TransactionAbortable
        verify, not added  TransactionAbortable
        verify, zombie     ProducerFenced
        commit v1          ok
        commit v2          InvalidTxnState
        abort v1           InvalidTxnState
        abort v2           PrepareAbort 7.32767 after 7.32766 then 99
        commit v1, before  ProducerFenced
        commit v2, before  ok
        abort v1, before   ProducerFenced
        abort v2, before   InvalidTxnState
        in time            -
        late               -
        idle               true
        ");
    }

    #[test]
    fn the_last_epoch_of_an_ongoing_transaction() {
        insta::assert_snapshot!(row(&last(State::Ongoing)), @"
        init               PrepareAbort 7.32767 after 7.32766 then 99
        init, goes on      PrepareAbort 7.32767 after 7.32766 then 99
        init, again        PrepareAbort 7.32767 after 7.32766 then 99
        init, zombie       ProducerFenced
        init, other id     ProducerFenced
        add                Ongoing 7.32766 after 7.32765
        add, again         ok
        add, zombie        ProducerFenced
        add, other id      InvalidProducerIdMapping
        verify             ok
        verify, not added  TransactionAbortable
        verify, zombie     ProducerFenced
        commit v1          PrepareCommit 7.32766 after 7.32765
        commit v2          PrepareCommit 7.32767 after 7.32766 then 99
        abort v1           PrepareAbort 7.32766 after 7.32765
        abort v2           PrepareAbort 7.32767 after 7.32766 then 99
        commit v1, before  ProducerFenced
        commit v2, before  ProducerFenced
        abort v1, before   ProducerFenced
        abort v2, before   ProducerFenced
        in time            -
        late               PrepareAbort 7.32767 after 7.32766 then 99
        idle               false
        ");
    }

    #[test]
    fn a_new_producer_id_takes_over_when_the_end_is_complete() {
        let fresh: Fresh<'_> = &mut || Ok(99);
        let ending = last(State::Ongoing).end_and_bump(producer(i16::MAX - 1), true, 120, fresh);
        let Ok(Step::To(ending)) = ending else { panic!("{ending:?}") };
        assert_eq!(ending.producer(), Producer { id: 99, epoch: 0 });
        let complete = ending.completed(130);
        assert_eq!(told(Ok(Step::To(complete.clone()))), "CompleteCommit 99.0 after 7.32766");
        // The answer was lost: the same request is answered the same, as is InitProducerId after it.
        assert_eq!(complete.end_and_bump(producer(i16::MAX - 1), true, 140, fresh), Ok(Step::Stay));
        assert_eq!(complete.end_and_bump(producer(i16::MAX - 1), false, 140, fresh), Err(ResponseError::InvalidTxnState));
        let again = init(Some(&complete), Some(producer(i16::MAX - 1)), 60, 140, fresh);
        assert_eq!(told(again), "Empty 99.0 after 99.32766");
    }

    #[test]
    fn what_takes_part_is_gone_when_the_end_is_complete() {
        let complete = known(State::PrepareAbort).completed(130);
        assert_eq!((complete.partitions.len(), complete.groups.len(), complete.updated), (0, 0, 130));
        assert_eq!(told(Ok(Step::To(complete))), "CompleteAbort 7.5 after 7.4");
    }

    #[test]
    fn a_transaction_begins_with_what_is_added_first() {
        let begun = known(State::CompleteCommit).add(producer(5), &[Part::Partition("t", 1)], 500).unwrap();
        let Step::To(begun) = begun else { panic!("{begun:?}") };
        assert_eq!((begun.started, begun.updated), (500, 500));
        let Step::To(more) = begun.add(producer(5), &[Part::Partition("t", 2)], 600).unwrap() else { panic!() };
        assert_eq!((more.started, more.updated, more.partitions["t"].len()), (500, 600, 2));
    }

    #[test]
    fn an_id_that_cannot_be_had_changes_nothing() {
        let fresh: Fresh<'_> = &mut || Err(ResponseError::CoordinatorNotAvailable);
        assert_eq!(told(init(None, None, 60, 120, fresh)), "CoordinatorNotAvailable");
        assert_eq!(told(init(Some(&last(State::Empty)), None, 60, 120, fresh)), "CoordinatorNotAvailable");
    }
}
