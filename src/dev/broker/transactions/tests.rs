//! The coordinator beside a slow twin: two producers share a transactional id, the process is killed between any two of the
//! things that it does, time passes; in the end committed reads are what the twin's plain list says.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const ID: &str = "id";
/// What a transaction may take, in ms.
const TIMEOUT: i32 = 100;

/// What a partition or a group has in its log: by whom, and what.
#[derive(Debug, Clone, PartialEq)]
enum Entry {
    Value(Producer, u32),
    End(Producer, bool),
}

/// A disk that survives kills, and a clock.
#[derive(Debug)]
struct Disk {
    dir: tempfile::TempDir,
    journal: RefCell<Journal>,
    /// Partitions by number, groups by name.
    partitions: RefCell<BTreeMap<i32, Vec<Entry>>>,
    groups: RefCell<BTreeMap<String, Vec<Entry>>>,
    now: Cell<i64>,
    /// After how many more effects the process is killed.
    fuse: Cell<Option<u32>>,
}

impl Disk {
    fn new() -> Disk {
        let dir = tempfile::tempdir().unwrap();
        let journal = RefCell::new(Journal::open(&dir.path().join("journal")).unwrap());
        let (partitions, groups) = (RefCell::default(), RefCell::default());
        Disk { dir, journal, partitions, groups, now: Cell::new(1), fuse: Cell::new(None) }
    }

    fn open(&self) -> Transactions {
        self.fuse.set(None);
        *self.journal.borrow_mut() = Journal::open(&self.dir.path().join("journal")).unwrap();
        let transactions = Transactions::open(&self.journal.borrow()).unwrap();
        transactions.recover(self);
        transactions
    }

    fn burn(&self) -> io::Result<()> {
        match self.fuse.get() {
            Some(0) => return Err(io::Error::other("killed")),
            Some(left) => self.fuse.set(Some(left - 1)),
            None => {}
        }
        Ok(())
    }

    fn killed(&self) -> bool {
        self.fuse.get() == Some(0)
    }

    /// What a partition does with a record of a transaction: an old epoch is refused.
    fn append(&self, index: i32, producer: Producer, value: u32) -> Result<(), ResponseError> {
        self.burn().map_err(unwritten)?;
        let mut partitions = self.partitions.borrow_mut();
        let log = partitions.entry(index).or_default();
        let epoch = |entry: &Entry| match entry {
            Entry::Value(of, _) | Entry::End(of, _) => (of.id == producer.id).then_some(of.epoch),
        };
        if log.iter().filter_map(epoch).max().is_some_and(|newest| producer.epoch < newest) {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        log.push(Entry::Value(producer, value));
        Ok(())
    }
}

impl World for Disk {
    fn now(&self) -> i64 {
        self.now.get()
    }

    fn write(&self, changes: &[Change]) -> io::Result<()> {
        self.burn()?;
        self.journal.borrow().write(changes)
    }

    fn end_partition(&self, _: &str, index: i32, producer: Producer, commit: bool) -> Result<(), ResponseError> {
        self.burn().map_err(unwritten)?;
        self.partitions.borrow_mut().entry(index).or_default().push(Entry::End(producer, commit));
        Ok(())
    }

    fn end_groups(&self, groups: &[String], producer: Producer, commit: bool) -> io::Result<()> {
        self.burn()?;
        for group in groups {
            self.groups.borrow_mut().entry(group.clone()).or_default().push(Entry::End(producer, commit));
        }
        Ok(())
    }
}

/// Committed values of a log, in order, and how many values are neither committed nor aborted.
fn committed(log: &[Entry]) -> (Vec<u32>, usize) {
    let mut committed: Vec<(usize, u32)> = Vec::new();
    let mut open: Vec<(usize, i64, u32)> = Vec::new();
    for (at, entry) in log.iter().enumerate() {
        match entry {
            Entry::Value(producer, value) => open.push((at, producer.id, *value)),
            Entry::End(producer, commit) => {
                let (ended, others) = open.into_iter().partition::<Vec<_>, _>(|(_, id, _)| *id == producer.id);
                open = others;
                committed.extend(ended.into_iter().filter(|_| *commit).map(|(at, _, value)| (at, value)));
            }
        }
    }
    committed.sort_unstable();
    (committed.into_iter().map(|(_, value)| value).collect(), open.len())
}

#[derive(Debug, Clone)]
enum Op {
    Init {
        keep: bool,
    },
    Produce {
        index: i32,
    },
    Offsets,
    End {
        commit: bool,
    },
    /// Time passes.
    Wait {
        ms: i64,
    },
}

/// One request of one of two producers; the process may be killed before its n-th effect, or the answer be lost.
#[derive(Debug, Clone)]
struct Act {
    who: usize,
    op: Op,
    kill: Option<u32>,
    lost: bool,
}

/// What the twin knows of a transaction's end.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Committed,
    Aborted,
    /// The end was asked for and never answered.
    Unknown,
}

/// What a producer sent in one transaction: partition (or none for the group) and value.
#[derive(Debug, Clone)]
struct Sent {
    values: Vec<(Option<i32>, u32)>,
    fate: Fate,
}

/// A producer as the twin sees it.
#[derive(Debug)]
struct Client {
    bump: bool,
    /// `None` until it is initialized, and after an answer that tells it to begin anew.
    producer: Option<Producer>,
    last: Option<Producer>,
    sent: Sent,
    added: Vec<Option<i32>>,
}

struct Play {
    disk: Disk,
    coordinator: Transactions,
    clients: [Client; 2],
    /// Transactions that are over.
    list: Vec<Sent>,
    next_value: u32,
    /// Who was initialized last, if that is known.
    owner: Option<usize>,
}

fn nothing() -> Sent {
    Sent { values: Vec::new(), fate: Fate::Aborted }
}

impl Play {
    fn new(bumps: [bool; 2]) -> Play {
        let disk = Disk::new();
        let coordinator = disk.open();
        let client = |bump| Client { bump, producer: None, last: None, sent: nothing(), added: Vec::new() };
        Play { disk, coordinator, clients: bumps.map(client), list: Vec::new(), next_value: 0, owner: None }
    }

    fn act(&mut self, act: &Act) {
        self.disk.now.set(self.disk.now.get() + 1);
        self.disk.fuse.set(act.kill);
        match &act.op {
            Op::Init { keep } => self.init(act.who, *keep, act.lost),
            Op::Produce { index } => self.send(act.who, Some(*index)),
            Op::Offsets => self.send(act.who, None),
            Op::End { commit } => self.end(act.who, *commit, act.lost),
            Op::Wait { ms } => {
                self.disk.now.set(self.disk.now.get() + ms);
                self.coordinator.sweep(&self.disk, 1_000_000);
            }
        }
        if act.kill.is_some() {
            self.coordinator = self.disk.open();
        }
    }

    /// The transaction is over for the producer, which does not end it.
    fn over(&mut self, who: usize, fate: Fate) {
        let client = &mut self.clients[who];
        client.added.clear();
        let sent = std::mem::replace(&mut client.sent, nothing());
        if !sent.values.is_empty() {
            self.list.push(Sent { fate, ..sent });
        }
    }

    fn init(&mut self, who: usize, keep: bool, lost: bool) {
        self.over(who, Fate::Aborted);
        let expected = if keep { self.clients[who].last } else { None };
        let answer = self.coordinator.init(&self.disk, ID, expected, TIMEOUT);
        self.owner = None;
        self.clients[who].producer = None;
        if let (Ok(producer), false) = (answer, lost) {
            let other = self.clients[1 - who].producer;
            assert!(other != Some(producer), "two producers are called {producer:?}");
            (self.clients[who].producer, self.clients[who].last) = (Some(producer), Some(producer));
            self.owner = Some(who);
        }
    }

    /// A record to a partition, or an offset of the group.
    fn send(&mut self, who: usize, index: Option<i32>) {
        let Some(producer) = self.clients[who].producer else { return };
        self.next_value += 1;
        let value = self.next_value;
        self.clients[who].sent.values.push((index, value));
        if let Err(error) = self.sent(who, producer, index, value) {
            assert!(!matches!(error, ResponseError::TransactionAbortable), "a part was forgotten");
            // Not acknowledged; the producer gives up its transaction.
            self.over(who, Fate::Aborted);
            self.clients[who].producer = None;
        } else {
            assert!(self.owner.is_none_or(|owner| owner == who), "a zombie's record was taken");
        }
    }

    fn sent(&mut self, who: usize, producer: Producer, index: Option<i32>, value: u32) -> Result<(), ResponseError> {
        let bump = self.clients[who].bump;
        let part = index.map_or(Part::Group("g"), |index| Part::Partition("t", index));
        if !bump && !self.clients[who].added.contains(&index) {
            self.coordinator.add(&self.disk, ID, producer, &[part])?;
            self.clients[who].added.push(index);
        }
        let Some(index) = index else {
            return self.coordinator.with_group(&self.disk, ID, producer, "g", bump, || {
                self.disk.burn().map_err(unwritten)?;
                self.disk.groups.borrow_mut().entry("g".to_owned()).or_default().push(Entry::Value(producer, value));
                Ok(())
            });
        };
        if bump {
            self.coordinator.add_partition(&self.disk, ID, producer.id, producer.epoch, "t", index)?;
        } else {
            self.coordinator.verify(ID, producer.id, producer.epoch, "t", index)?;
        }
        self.disk.append(index, producer, value)
    }

    fn end(&mut self, who: usize, commit: bool, lost: bool) {
        let Some(producer) = self.clients[who].producer else { return };
        if self.clients[who].sent.values.is_empty() {
            return;
        }
        let bump = self.clients[who].bump;
        let mut answer = self.coordinator.end(&self.disk, ID, producer, commit, bump);
        if self.disk.killed() || lost {
            // Who gets no answer asks again.
            self.coordinator = self.disk.open();
            answer = self.coordinator.end(&self.disk, ID, producer, commit, bump);
        }
        match answer {
            Ok(next) => {
                assert!(self.owner.is_none_or(|owner| owner == who), "a zombie ended its successor's transaction");
                self.over(who, if commit { Fate::Committed } else { Fate::Aborted });
                if bump {
                    assert_ne!(next, producer);
                    (self.clients[who].producer, self.clients[who].last) = (Some(next), Some(next));
                }
            }
            Err(_) => {
                self.over(who, if commit { Fate::Unknown } else { Fate::Aborted });
                self.clients[who].producer = None;
            }
        }
    }

    /// Everybody goes away; what is open is ended by time alone.
    fn finish(mut self) {
        (0..2).for_each(|who| self.over(who, Fate::Aborted));
        self.coordinator = self.disk.open();
        self.disk.now.set(self.disk.now.get() + i64::from(TIMEOUT) + 1);
        self.coordinator.sweep(&self.disk, 1_000_000);
        let mut logs: BTreeMap<Option<i32>, Vec<Entry>> = BTreeMap::new();
        logs.extend(self.disk.partitions.take().into_iter().map(|(index, log)| (Some(index), log)));
        logs.extend(self.disk.groups.take().into_values().map(|log| (None, log)));
        let mut read: BTreeMap<Option<i32>, Vec<u32>> = BTreeMap::new();
        for (part, log) in &logs {
            let (values, open) = committed(log);
            assert_eq!(open, 0, "a transaction hangs in {part:?}: {log:?}");
            read.insert(*part, values);
        }
        let there = |part: &Option<i32>, value: &u32| read.get(part).is_some_and(|values| values.contains(value));
        let mut expected: BTreeMap<Option<i32>, Vec<u32>> = logs.keys().map(|part| (*part, Vec::new())).collect();
        for sent in &self.list {
            let count = sent.values.iter().filter(|(part, value)| there(part, value)).count();
            assert!(count == 0 || count == sent.values.len(), "torn: {sent:?} in {read:?}");
            if sent.fate == Fate::Committed || (sent.fate == Fate::Unknown && count > 0) {
                sent.values.iter().for_each(|(part, value)| expected.entry(*part).or_default().push(*value));
            }
        }
        expected.values_mut().for_each(|values| values.sort_unstable());
        assert_eq!(read, expected, "{:?}", self.list);
        let states: Vec<_> = self.coordinator.list().into_iter().map(|(_, it)| it.state.name()).collect();
        assert!(states.iter().all(|state| !state.starts_with("Prepare") && *state != "Ongoing"), "{states:?}");
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let op = prop_oneof![
        2 => any::<bool>().prop_map(|keep| Op::Init { keep }),
        5 => (0..3).prop_map(|index| Op::Produce { index }),
        2 => Just(Op::Offsets),
        4 => prop::bool::weighted(0.8).prop_map(|commit| Op::End { commit }),
        1 => (0_i64..150).prop_map(|ms| Op::Wait { ms }),
    ];
    let act = (0_usize..2, op, prop::option::weighted(0.2, 0_u32..7), prop::bool::weighted(0.1));
    prop::collection::vec(act.prop_map(|(who, op, kill, lost)| Act { who, op, kill, lost }), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn committed_reads_are_the_twins(bumps in any::<[bool; 2]>(), acts in acts()) {
        let mut play = Play::new(bumps);
        for act in &acts {
            play.act(act);
        }
        play.finish();
    }
}

fn transactions(disk: &Disk) -> (Transactions, Producer) {
    let transactions = disk.open();
    let producer = transactions.init(disk, ID, None, TIMEOUT).unwrap();
    (transactions, producer)
}

fn state(transactions: &Transactions) -> &'static str {
    transactions.get(ID).unwrap().state.name()
}

#[test]
fn what_was_decided_before_a_kill_is_completed_at_the_start() {
    let disk = Disk::new();
    let (transactions, producer) = transactions(&disk);
    transactions.add_partition(&disk, ID, producer.id, producer.epoch, "t", 0).unwrap();
    transactions.add_partition(&disk, ID, producer.id, producer.epoch, "t", 1).unwrap();
    // Killed after the decision and the first marker.
    disk.fuse.set(Some(2));
    let next = transactions.end(&disk, ID, producer, true, true).unwrap();
    assert_eq!((state(&transactions), next.epoch), ("PrepareCommit", 1));
    assert_eq!(disk.partitions.borrow().values().map(Vec::len).sum::<usize>(), 1);
    let transactions = disk.open();
    assert_eq!(state(&transactions), "CompleteCommit");
    let end = Entry::End(next, true);
    assert_eq!(*disk.partitions.borrow(), BTreeMap::from([(0, vec![end.clone(), end.clone()]), (1, vec![end])]));
}

#[test]
fn a_decision_that_cannot_be_carried_out_blocks_until_the_sweep() {
    let disk = Disk::new();
    let (transactions, producer) = transactions(&disk);
    transactions.add_partition(&disk, ID, producer.id, producer.epoch, "t", 0).unwrap();
    disk.fuse.set(Some(1));
    let next = transactions.end(&disk, ID, producer, false, true).unwrap();
    let add = || transactions.add_partition(&disk, ID, next.id, next.epoch, "t", 0);
    assert_eq!(add(), Err(ResponseError::ConcurrentTransactions));
    assert_eq!(transactions.init(&disk, ID, None, TIMEOUT), Err(ResponseError::ConcurrentTransactions));
    assert_eq!(transactions.end(&disk, ID, producer, false, true), Err(ResponseError::ConcurrentTransactions));
    disk.fuse.set(None);
    transactions.sweep(&disk, 1_000_000);
    assert_eq!((state(&transactions), add()), ("CompleteAbort", Ok(())));
}

#[test]
fn a_transaction_that_cannot_be_written_is_not_taken_over() {
    let disk = Disk::new();
    let (transactions, producer) = transactions(&disk);
    disk.fuse.set(Some(0));
    let added = transactions.add_partition(&disk, ID, producer.id, producer.epoch, "t", 0);
    assert_eq!((added, state(&transactions)), (Err(ResponseError::CoordinatorNotAvailable), "Empty"));
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let disk = Disk::new();
    let (transactions, producer) = transactions(&disk);
    disk.now.set(1000);
    transactions.add(&disk, ID, producer, &[Part::Partition("t", 0)]).unwrap();
    disk.now.set(1000 + i64::from(TIMEOUT));
    transactions.sweep(&disk, 1_000_000);
    assert_eq!(state(&transactions), "Ongoing");
    // The time counts from the transaction's beginning, also when the broker was started again.
    let transactions = disk.open();
    disk.now.set(1001 + i64::from(TIMEOUT));
    transactions.sweep(&disk, 1_000_000);
    assert_eq!(state(&transactions), "CompleteAbort");
    let fenced = Err(ResponseError::InvalidProducerEpoch);
    assert_eq!(transactions.verify(ID, producer.id, producer.epoch, "t", 0), fenced);
    assert_eq!(transactions.end(&disk, ID, producer, true, false), Err(ResponseError::ProducerFenced));
    // A client of version 2 may abort what was aborted, and goes on with the next epoch; it may not commit it.
    assert_eq!(transactions.end(&disk, ID, producer, true, true), Err(ResponseError::InvalidTxnState));
    assert_eq!(transactions.end(&disk, ID, producer, false, true), Ok(Producer { epoch: 1, ..producer }));
}

#[test]
fn an_id_that_nobody_uses_is_forgotten_but_no_transaction() {
    let disk = Disk::new();
    let (transactions, producer) = transactions(&disk);
    transactions.sweep(&disk, 10);
    assert!(transactions.get(ID).is_some());
    transactions.add(&disk, ID, producer, &[Part::Partition("t", 0)]).unwrap();
    disk.now.set(12);
    transactions.sweep(&disk, 10);
    assert_eq!(state(&transactions), "Ongoing");
    transactions.end(&disk, ID, producer, true, false).unwrap();
    disk.now.set(22);
    transactions.sweep(&disk, 10);
    assert_eq!(transactions.get(ID), None);
    assert_eq!(disk.open().list(), []);
    let added = transactions.add(&disk, ID, producer, &[]);
    assert_eq!(added, Err(ResponseError::InvalidProducerIdMapping));
}

#[test]
fn a_group_that_was_not_added_gets_no_offsets() {
    let disk = Disk::new();
    let (transactions, producer) = transactions(&disk);
    let commit = |add| transactions.with_group(&disk, ID, producer, "g", add, || Ok(()));
    assert_eq!(commit(false), Err(ResponseError::TransactionAbortable));
    assert_eq!(commit(true), Ok(()));
    assert_eq!(commit(false), Ok(()));
    assert_eq!(before_version_2(ResponseError::TransactionAbortable), ResponseError::InvalidTxnState);
}
