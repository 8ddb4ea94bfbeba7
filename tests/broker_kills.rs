//! The dev broker's process is killed, again and again, in the middle of transactions, and started on the same data: what
//! producers were told is committed is read exactly once, and no transaction in part.
//!
//! Three producers work at the same time: two of librdkafka, whose transactions are those before KIP-890, and one that speaks
//! transaction version 2 over the wire, repeats each request until it is answered, and so must never lose a transaction.
//! `MESH_KILLS` (default 4) kills fall at random into `MESH_KILL_RECORDS` (default 4000) records; MESH is another binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it is wrong")]

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, EndTxnRequest, InitProducerIdRequest, ListOffsetsRequest, ListTransactionsRequest, ProduceRequest,
    TopicName, TransactionalId,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use wire::{Identity, Wire, batch, text};

const TOPIC: &str = "killed";
const PARTITIONS: i32 = 3;
/// Records of a transaction.
const SIZE: u32 = 100;
const DEADLINE: Duration = Duration::from_secs(60);
/// Who produces: a producer's records are those of its million.
const PRODUCERS: u32 = 3;
const GROUP: &str = "group";

/// The broker's process.
struct Process {
    dir: PathBuf,
    port: u16,
    child: Child,
}

impl Process {
    fn start(dir: &Path, port: u16) -> Process {
        let mesh = std::env::var("MESH").ok().or(option_env!("CARGO_BIN_EXE_mesh").map(str::to_owned)).expect("MESH");
        let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let child = Command::new(mesh)
            .args(["dev", "--only", "broker", "--port", &port.to_string(), "--data"])
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut process = Process { dir: dir.to_owned(), port, child };
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(process.address()).is_err() {
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}: {}", process.log());
            pause(2);
        }
        process
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }

    /// Returns when the journal has grown, or nobody writes to it.
    fn await_write(&self) {
        let length = || std::fs::metadata(self.dir.join("data/broker/journal")).unwrap().len();
        let (before, deadline) = (length(), Instant::now() + Duration::from_millis(500));
        while length() == before && Instant::now() < deadline {
            std::hint::spin_loop();
        }
    }

    /// SIGKILL, then a new process on the same data.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        *self = Process::start(&self.dir, self.port);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[allow(clippy::disallowed_methods, reason = "between two questions of a poll with a deadline, and random moments")]
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// What a producer knows of its transactions: each is the values from one number on.
#[derive(Debug, Default)]
struct Told {
    committed: Vec<u32>,
    /// Its end was asked for, and no answer came: all of it is there, or nothing.
    unknown: Vec<u32>,
}

/// Which partition a value goes to.
fn partition(value: u32) -> i32 {
    i32::try_from(value).unwrap() % PARTITIONS
}

// ---------------------------------------------------------------------------------------------------------------- //
// librdkafka

fn librdkafka(address: &str, id: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("transactional.id", id)
        .set("transaction.timeout.ms", "60000")
        .set("socket.timeout.ms", "10000")
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "100")
        .set("linger.ms", "1")
        .create()
        .unwrap();
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = producer.init_transactions(Duration::from_secs(5)) {
        assert!(Instant::now() < deadline, "{error}");
    }
    producer
}

/// Produces transaction after transaction from number `from` on until there are `records`. What a transaction committed for
/// the group is its last number.
fn produce(address: &str, from: u32, records: u32, done: &AtomicU32) -> Told {
    let id = format!("librdkafka-{from}");
    let group: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", address).set("group.id", format!("{GROUP}-{from}")).create().unwrap();
    let group = group.group_metadata().unwrap();
    let mut producer = librdkafka(address, &id);
    let mut told = Told::default();
    let mut next = from;
    while next < from + records {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(TOPIC, 0, Offset::Offset(i64::from(next))).unwrap();
        let sent = (|| {
            producer.begin_transaction()?;
            for value in next..next + SIZE {
                let payload = value.to_string();
                let record = BaseRecord::<str, str>::to(TOPIC).partition(partition(value)).payload(&payload);
                producer.send(record).map_err(|(error, _)| error)?;
            }
            retried(|| producer.send_offsets_to_transaction(&offsets, &group, Duration::from_secs(10)))
        })();
        let ended = sent.and_then(|()| {
            retried(|| producer.commit_transaction(Duration::from_secs(10))).inspect_err(|_| {
                told.unknown.push(next);
            })
        });
        match ended {
            Ok(()) => told.committed.push(next),
            // librdkafka says which transaction it has to abort; whether that was committed is not to be known.
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                if retried(|| producer.abort_transaction(Duration::from_secs(10))).is_err() {
                    producer = librdkafka(address, &id);
                }
            }
            Err(_) => producer = librdkafka(address, &id),
        }
        next += SIZE;
        done.fetch_add(SIZE, Ordering::Relaxed);
    }
    told
}

fn retried(mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
            other => return other,
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------- //
// Transaction version 2

/// A connection that is made anew until a request is answered with something else than to ask again.
struct Stubborn {
    address: String,
    wire: Option<Wire>,
}

impl Stubborn {
    fn ask<T>(&mut self, mut ask: impl FnMut(&mut Wire) -> std::io::Result<(i16, T)>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < deadline, "no answer");
            let Some(wire) = &mut self.wire else {
                self.wire = Wire::try_connect(&self.address).ok();
                pause(5);
                continue;
            };
            match ask(wire) {
                Ok((0, answer)) => return answer,
                Ok((code, _)) => {
                    let error = code.err().unwrap();
                    assert!(error.is_retriable(), "{error:?}");
                    pause(5);
                }
                Err(_) => self.wire = None,
            }
        }
    }
}

/// As [`produce`], by Produce 12 and EndTxn 5: every transaction is committed.
fn produce_in_version_2(address: &str, from: u32, records: u32, done: &AtomicU32) -> Told {
    let mut broker = Stubborn { address: address.to_owned(), wire: None };
    let id = TransactionalId(text("version-2"));
    let init = InitProducerIdRequest::default().with_transactional_id(Some(id.clone())).with_transaction_timeout_ms(60_000);
    let mut producer: Identity = broker.ask(|wire| {
        let answer = wire.try_ask(5, &init)?;
        Ok((answer.error_code, (answer.producer_id.0, answer.producer_epoch)))
    });
    let mut told = Told::default();
    for first in (from..from + records).step_by(SIZE as usize) {
        for index in 0..PARTITIONS {
            let values: Vec<_> =
                (first..first + SIZE).filter(|value| partition(*value) == index).map(|it| it.to_string()).collect();
            // Two batches, so that the second one's sequence number is not the first.
            let (head, tail) = values.split_at(values.len() / 2);
            for (sequence, values) in [(0, head), (i32::try_from(head.len()).unwrap(), tail)] {
                let data =
                    PartitionProduceData::default().with_index(index).with_records(Some(batch(producer, sequence, values)));
                let topic = TopicProduceData::default().with_name(TopicName(text(TOPIC))).with_partition_data(vec![data]);
                let request = ProduceRequest::default()
                    .with_transactional_id(Some(id.clone()))
                    .with_acks(-1)
                    .with_timeout_ms(10_000)
                    .with_topic_data(vec![topic]);
                broker.ask(|wire| Ok((wire.try_ask(12, &request)?.responses[0].partition_responses[0].error_code, ())));
            }
        }
        let end = EndTxnRequest::default()
            .with_transactional_id(id.clone())
            .with_producer_id(producer.0.into())
            .with_producer_epoch(producer.1)
            .with_committed(true);
        let next = broker.ask(|wire| {
            let answer = wire.try_ask(5, &end)?;
            Ok((answer.error_code, (answer.producer_id.0, answer.producer_epoch)))
        });
        assert_ne!(next, producer);
        producer = next;
        told.committed.push(first);
        done.fetch_add(SIZE, Ordering::Relaxed);
    }
    told
}

// ---------------------------------------------------------------------------------------------------------------- //
// What is read

/// Committed values, by partition, in the order of the log.
fn read(address: &str) -> BTreeMap<i32, Vec<u32>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("group.id", "reader")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    (0..PARTITIONS).for_each(|index| assignment.add_partition_offset(TOPIC, index, Offset::Beginning).unwrap());
    consumer.assign(&assignment).unwrap();
    let mut values: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    let (mut ended, deadline) = (BTreeSet::new(), Instant::now() + DEADLINE);
    while ended.len() < PARTITIONS as usize {
        assert!(Instant::now() < deadline, "the end of a partition");
        match consumer.poll(Duration::from_secs(5)) {
            Some(Ok(record)) => {
                let value = std::str::from_utf8(record.payload().unwrap()).unwrap().parse().unwrap();
                values.entry(record.partition()).or_default().push(value);
            }
            Some(Err(KafkaError::PartitionEOF(index))) => drop(ended.insert(index)),
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    values
}

/// Every partition is stable to its end, and no transaction open.
fn nothing_hangs(wire: &mut Wire) {
    for index in 0..PARTITIONS {
        let mut end = |isolation| {
            let partition = ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-1);
            let topic = ListOffsetsTopic::default().with_name(TopicName(text(TOPIC))).with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default().with_isolation_level(isolation).with_topics(vec![topic]);
            wire.ask(4, &request).topics[0].partitions[0].offset
        };
        assert_eq!(end(1), end(0), "a transaction hangs in partition {index}");
    }
    let states = wire.ask(0, &ListTransactionsRequest::default()).transaction_states;
    assert!(
        states.iter().all(|it| matches!(it.transaction_state.as_str(), "Empty" | "CompleteCommit" | "CompleteAbort")),
        "{states:?}"
    );
}

/// What a group was left at, in its partition 0.
fn committed_offset(address: &str, from: u32) -> i64 {
    let group: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", address).set("group.id", format!("{GROUP}-{from}")).create().unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition(TOPIC, 0);
    let found = group.committed_offsets(asked, DEADLINE).unwrap();
    found.find_partition(TOPIC, 0).unwrap().offset().to_raw().unwrap()
}

/// Compares what a producer was told with what is read.
fn verify(told: &Told, read: &BTreeMap<i32, Vec<u32>>, from: u32) -> u32 {
    let own = |value: &u32| value / 1_000_000 == from / 1_000_000;
    let there: BTreeSet<u32> = read.values().flatten().copied().filter(own).collect();
    assert_eq!(there.len(), read.values().flatten().filter(|value| own(value)).count(), "a record is there twice");
    for values in read.values() {
        let own: Vec<u32> = values.iter().copied().filter(own).collect();
        assert!(own.is_sorted(), "the order is not that of the producer {from}");
    }
    let count = |first: u32| (first..first + SIZE).filter(|value| there.contains(value)).count();
    for first in &told.committed {
        assert_eq!(count(*first), SIZE as usize, "of a committed transaction");
    }
    for first in &told.unknown {
        assert!([0, SIZE as usize].contains(&count(*first)), "torn: {} of {first}", count(*first));
    }
    let known: usize = told.committed.iter().chain(&told.unknown).map(|first| count(*first)).sum();
    assert_eq!(known, there.len(), "what was aborted is there");
    u32::try_from(there.len()).unwrap()
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().map_or(default, |number| number.parse().expect("a number"))
}

/// A port that is free, and not of those that are given to clients.
fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(12_000..20_000)).find(free).unwrap()
}

#[allow(clippy::print_stdout, reason = "says how far it is, with --nocapture")]
fn say(text: &str) {
    println!("{text}");
}

#[test]
fn what_is_acknowledged_is_there_once_whenever_the_broker_is_killed() {
    let (kills, records) = (number("MESH_KILLS", 4), number("MESH_KILL_RECORDS", 4000));
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Process::start(dir.path(), free_port());
    let address = broker.address();
    let new =
        CreatableTopic::default().with_name(TopicName(text(TOPIC))).with_num_partitions(PARTITIONS).with_replication_factor(1);
    let create = CreateTopicsRequest::default().with_topics(vec![new]).with_timeout_ms(10_000);
    assert_eq!(Wire::connect(&address).ask(5, &create).topics[0].error_code, 0);
    let share = records.div_ceil(PRODUCERS).next_multiple_of(SIZE);
    let done = AtomicU32::new(0);
    let mut moments: Vec<u32> = (0..kills).map(|_| fastrand::u32(0..share * PRODUCERS * 19 / 20)).collect();
    moments.sort_unstable();
    let told: Vec<Told> = std::thread::scope(|scope| {
        let (address, done) = (&address, &done);
        let mut producers: Vec<_> =
            (0..2).map(|who| scope.spawn(move || produce(address, who * 1_000_000, share, done))).collect();
        producers.push(scope.spawn(move || produce_in_version_2(address, 2_000_000, share, done)));
        for (kill, moment) in (1_u32..).zip(moments) {
            while done.load(Ordering::Relaxed) < moment && !producers.iter().all(|it| it.is_finished()) {
                pause(1);
            }
            // Somewhere in the next transactions; every other time right behind a write to the journal, where what was
            // decided is not carried out yet.
            pause(fastrand::u64(0..60));
            if kill % 2 == 0 {
                broker.await_write();
            }
            say(&format!("kill {kill} after {} records", done.load(Ordering::Relaxed)));
            broker.kill();
        }
        producers.into_iter().map(|it| it.join().unwrap()).collect()
    });
    // One more, so that all is read from what is on disk.
    broker.kill();
    nothing_hangs(&mut Wire::connect(&address));
    let read = read(&address);
    for (from, told) in (0..).step_by(1_000_000).zip(&told) {
        let count = verify(told, &read, from);
        say(&format!("{count} records of {} acknowledged and {} unknown transactions", told.committed.len(), told.unknown.len()));
        if from < 2_000_000 {
            let last = told
                .committed
                .iter()
                .copied()
                .chain(read.values().flatten().copied().filter(|it| it / 1_000_000 == from / 1_000_000));
            assert_eq!(committed_offset(&address, from), last.max().map_or(-1001, |it| i64::from(it / SIZE * SIZE)));
        }
    }
    assert_eq!(told[2].committed.len(), (share / SIZE) as usize);
}
