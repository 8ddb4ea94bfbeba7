//! Transactions on the dev broker, and the same on Apache Kafka where `MESH_BOOTSTRAP` names one: scripts whose every request
//! goes over the wire as it stands, and what the broker answers to it; then librdkafka's producers and consumers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it is wrong")]

mod wire;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_protocol::error::{ParseResponseErrorCode, ResponseError};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeTransactionsRequest,
    EndTxnRequest, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListTransactionsRequest, OffsetFetchRequest,
    ProduceRequest, TopicName, TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::records::RecordBatchDecoder;
use mesh::dev::broker::journal::{Change, Journal, Kind};
use mesh::dev::broker::transactions::machine::Transaction;
use mesh::dev::broker::{Running, Settings};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use wire::{Identity, Wire, batch, text};

const DEADLINE: Duration = Duration::from_secs(30);

// ---------------------------------------------------------------------------------------------------------------- //
// Answers

fn named(code: i16) -> String {
    code.err().map_or("ok".to_owned(), |error| format!("{error:?}"))
}

/// The wire tells of nothing by itself: who waits for something asks again after a while, as clients do.
#[allow(clippy::disallowed_methods, reason = "between two questions of a poll with a deadline")]
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// What a client does while a transaction's end is under way, or its coordinator is loading: it asks again.
fn again<T>(mut ask: impl FnMut() -> (i16, T)) -> (i16, T) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (code, answer) = ask();
        let wait = matches!(
            code.err(),
            Some(
                ResponseError::ConcurrentTransactions
                    | ResponseError::NotCoordinator
                    | ResponseError::CoordinatorNotAvailable
                    | ResponseError::CoordinatorLoadInProgress
                    | ResponseError::UnstableOffsetCommit
                    // A topic that was made just now.
                    | ResponseError::NotLeaderOrFollower
                    | ResponseError::UnknownTopicOrPartition
            )
        );
        if !wait || Instant::now() > deadline {
            return (code, answer);
        }
        pause(20);
    }
}

// ---------------------------------------------------------------------------------------------------------------- //
// The scripts

/// Runs scripts of one request a line: `WHO VERB ARGUMENTS`. A verb ends in the version of the API that it uses: `init4`.
struct Stage {
    wire: Wire,
    topic: String,
    transactional_id: String,
    group: String,
    producers: BTreeMap<String, Identity>,
    /// Producer ids in the order in which they were seen.
    ids: Vec<i64>,
    sequences: BTreeMap<(Identity, i32), i32>,
}

fn request(line: &str) -> &str {
    line.split("=>").next().unwrap_or_default().trim()
}

impl Stage {
    fn new(bootstrap: &str) -> Stage {
        let unique = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let mut stage = Stage {
            wire: Wire::connect(bootstrap),
            topic: format!("topic-{unique}"),
            transactional_id: format!("id-{unique}"),
            group: format!("group-{unique}"),
            producers: BTreeMap::new(),
            ids: Vec::new(),
            sequences: BTreeMap::new(),
        };
        stage.create(&stage.topic.clone());
        for (kind, key) in [(1, stage.transactional_id.clone()), (0, stage.group.clone())] {
            let find = FindCoordinatorRequest::default().with_key(text(&key)).with_key_type(kind);
            assert_eq!(again(|| (stage.wire.ask(3, &find).error_code, ())).0, 0);
        }
        stage
    }

    fn create(&mut self, topic: &str) {
        let new = CreatableTopic::default().with_name(TopicName(text(topic))).with_num_partitions(2).with_replication_factor(1);
        let answer = self.wire.ask(5, &CreateTopicsRequest::default().with_topics(vec![new]).with_timeout_ms(10_000));
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
        for index in 0..2 {
            again(|| (self.fetched(index, 0).error_code, ()));
        }
    }

    /// The script again, each line with its answer.
    fn play(&mut self, script: &str) -> String {
        let mut played = String::new();
        for line in script.lines().map(request).filter(|line| !line.is_empty()) {
            let answer = self.line(line);
            writeln!(played, "{line:36}=> {answer}").unwrap();
        }
        played
    }

    fn line(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (who, verb, rest) = (words[0], words[1], &words[2..]);
        let version = verb.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
        match verb.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "init" => self.init(who, version, rest),
            "is" => {
                let producer = self.producers[rest[0]];
                self.producers.insert(who.to_owned(), producer);
                self.shown(producer)
            }
            "add" => self.add(who, version, rest),
            "offsets" => self.offsets(who, version),
            "send" => self.send(who, version, rest[0].parse().unwrap(), rest[1]),
            "offset" => self.offset(who, version, rest[0].parse().unwrap()),
            "commit" => self.end(who, version, true),
            "abort" => self.end(who, version, false),
            "describe" => self.describe(),
            "list" => self.list(version, rest),
            "read" => self.read(rest[0].parse().unwrap()),
            "fetch-offset" => self.fetch_offset(),
            "until" => {
                let deadline = Instant::now() + DEADLINE;
                while *self.state().transaction_state != *rest[0] {
                    assert!(Instant::now() < deadline, "{:?}", self.state());
                    pause(20);
                }
                String::new()
            }
            "wait" => {
                pause(rest[0].parse().unwrap());
                String::new()
            }
            "delete-topic" => self.delete_topic(),
            other => panic!("no such verb: {other}"),
        }
    }

    fn shown(&mut self, (id, epoch): Identity) -> String {
        let place = self.ids.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.ids.push(id);
            self.ids.len() - 1
        });
        if id < 0 { format!("{id}.{epoch}") } else { format!("P{}.{epoch}", place + 1) }
    }

    fn id(&self) -> TransactionalId {
        TransactionalId(text(&self.transactional_id))
    }

    fn init(&mut self, who: &str, version: i16, rest: &[&str]) -> String {
        let option = |name: &str| rest.iter().find_map(|word| word.strip_prefix(name));
        let (id, epoch) = option("as=").map_or((-1, -1), |of| self.producers[of]);
        let timeout = option("timeout=").map_or(60_000, |ms| ms.parse().unwrap());
        let transactional_id = if rest.contains(&"idempotent") { None } else { Some(self.id()) };
        let request = InitProducerIdRequest::default()
            .with_transactional_id(transactional_id)
            .with_transaction_timeout_ms(timeout)
            .with_producer_id(id.into())
            .with_producer_epoch(epoch);
        let (code, answer) = again(|| {
            let answer = self.wire.ask(version, &request);
            (answer.error_code, (answer.producer_id.0, answer.producer_epoch))
        });
        if code != 0 {
            return format!("{} {}.{}", named(code), answer.0, answer.1);
        }
        self.producers.insert(who.to_owned(), answer);
        self.shown(answer)
    }

    fn add(&mut self, who: &str, version: i16, parts: &[&str]) -> String {
        let (id, epoch) = self.producers[who];
        let topic = |name: &str, index: i32| {
            AddPartitionsToTxnTopic::default().with_name(TopicName(text(name))).with_partitions(vec![index])
        };
        let topics = parts.iter().map(|part| match part.parse() {
            Ok(index) => topic(&self.topic, index),
            Err(_) => topic(part, 0),
        });
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.id())
            .with_v3_and_below_producer_id(id.into())
            .with_v3_and_below_producer_epoch(epoch)
            .with_v3_and_below_topics(topics.collect());
        let topic = self.topic.clone();
        again(|| {
            let answer = self.wire.ask(version, &request);
            let results = answer.results_by_topic_v3_and_below.iter().flat_map(|topic| {
                topic.results_by_partition.iter().map(|it| (topic.name.to_string(), it.partition_index, it.partition_error_code))
            });
            let mut results: Vec<_> = results.collect();
            results.sort();
            let told = results.iter().map(|(of, index, code)| {
                if *of == topic { format!("{index}: {}", named(*code)) } else { format!("{of}: {}", named(*code)) }
            });
            let retry = |code: i16| code == ResponseError::ConcurrentTransactions.code();
            let told = told.collect::<Vec<_>>().join(", ");
            (results.iter().map(|it| it.2).find(|code| retry(*code)).unwrap_or(0), told)
        })
        .1
    }

    fn offsets(&mut self, who: &str, version: i16) -> String {
        let (id, epoch) = self.producers[who];
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.id())
            .with_producer_id(id.into())
            .with_producer_epoch(epoch)
            .with_group_id(text(&self.group).into());
        named(again(|| (self.wire.ask(version, &request).error_code, ())).0)
    }

    fn send(&mut self, who: &str, version: i16, index: i32, value: &str) -> String {
        let producer = self.producers[who];
        let sequence = self.sequences.get(&(producer, index)).copied().unwrap_or(0);
        let batch = batch(producer, sequence, &[value.to_owned()]);
        let partition = PartitionProduceData::default().with_index(index).with_records(Some(batch));
        let topic = TopicProduceData::default().with_name(TopicName(text(&self.topic))).with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.id()))
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![topic]);
        let code = again(|| (self.wire.ask(version, &request).responses[0].partition_responses[0].error_code, ())).0;
        if code == 0 {
            self.sequences.insert((producer, index), sequence + 1);
        }
        named(code)
    }

    /// TxnOffsetCommit, for partition 0.
    fn offset(&mut self, who: &str, version: i16, offset: i64) -> String {
        let (id, epoch) = self.producers[who];
        let partition = TxnOffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(offset);
        let topic =
            TxnOffsetCommitRequestTopic::default().with_name(TopicName(text(&self.topic))).with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.id())
            .with_group_id(text(&self.group).into())
            .with_producer_id(id.into())
            .with_producer_epoch(epoch)
            .with_topics(vec![topic]);
        named(again(|| (self.wire.ask(version, &request).topics[0].partitions[0].error_code, ())).0)
    }

    fn end(&mut self, who: &str, version: i16, commit: bool) -> String {
        let (id, epoch) = self.producers[who];
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id())
            .with_producer_id(id.into())
            .with_producer_epoch(epoch)
            .with_committed(commit);
        let (code, next) = again(|| {
            let answer = self.wire.ask(version, &request);
            (answer.error_code, (answer.producer_id.0, answer.producer_epoch))
        });
        if code == 0 {
            // The answer comes before the end is made known everywhere.
            self.state();
        }
        if code != 0 || version < 5 {
            return named(code);
        }
        self.producers.insert(who.to_owned(), next);
        self.shown(next)
    }

    /// The state when no end is under way.
    fn state(&mut self) -> TransactionState {
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![self.id()]);
        again(|| {
            let state = self.wire.ask(0, &request).transaction_states.remove(0);
            let ending = state.transaction_state.starts_with("Prepare");
            (if ending { ResponseError::ConcurrentTransactions.code() } else { state.error_code }, state)
        })
        .1
    }

    fn describe(&mut self) -> String {
        let state = self.state();
        if state.error_code != 0 {
            return named(state.error_code);
        }
        let producer = self.shown((state.producer_id.0, state.producer_epoch));
        let mut topics: Vec<_> = state
            .topics
            .iter()
            .map(|topic| {
                let mut partitions = topic.partitions.clone();
                partitions.sort_unstable();
                // Which partition a group has is its hash, and its name is another in every run.
                if *topic.topic.0 == *self.topic {
                    format!("{partitions:?}")
                } else {
                    format!("{} of {}", partitions.len(), topic.topic.0)
                }
            })
            .collect();
        topics.sort();
        let started = if state.transaction_start_time_ms > 0 { "" } else { ", never begun" };
        format!("{} {producer}, {} ms{started} {}", state.transaction_state, state.transaction_timeout_ms, topics.join(" "))
            .trim_end()
            .to_owned()
    }

    /// Whether our transactional id is listed; filters are `state=`, `duration=`, `pattern=`, `producer=`.
    fn list(&mut self, version: i16, filters: &[&str]) -> String {
        let mut request = ListTransactionsRequest::default().with_duration_filter(-1);
        for filter in filters {
            let (name, value) = filter.split_once('=').unwrap();
            match name {
                "state" => request.state_filters.push(text(value)),
                "duration" => request.duration_filter = value.parse().unwrap(),
                "producer" => request.producer_id_filters.push(self.producers[value].0.into()),
                "pattern" => request.transactional_id_pattern = Some(text(value)),
                other => panic!("no such filter: {other}"),
            }
        }
        let answer = self.wire.ask(version, &request);
        let found = answer.transaction_states.iter().find(|state| state.transactional_id == self.id());
        let unknown: Vec<_> = answer.unknown_state_filters.iter().map(|state| format!(", unknown: {state}")).collect();
        let found = match found {
            Some(state) => {
                let producer = self.shown((state.producer_id.0, 0));
                format!("{} {}", state.transaction_state, producer.trim_end_matches(".0"))
            }
            None => "-".to_owned(),
        };
        format!("{} {found}{}", named(answer.error_code), unknown.concat())
    }

    /// What is committed in a partition: each value, with the end of the log and the last stable offset.
    fn read(&mut self, index: i32) -> String {
        let (mut values, mut from, mut aborted) = (Vec::new(), 0, BTreeMap::new());
        loop {
            let data = self.fetched(index, from);
            assert_eq!(data.error_code, 0);
            for it in data.aborted_transactions.iter().flatten() {
                aborted.insert((it.first_offset, it.producer_id.0), ());
            }
            let mut records = data.records.unwrap_or_default();
            let records = RecordBatchDecoder::decode_all(&mut records).unwrap();
            for record in records.into_iter().flat_map(|set| set.records) {
                from = record.offset + 1;
                if record.control {
                    // An end of this producer's transaction: from here on it may be another one.
                    aborted.retain(|(first, id), ()| *id != record.producer_id || *first > record.offset);
                } else if !aborted.keys().any(|(first, id)| *id == record.producer_id && *first <= record.offset) {
                    values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                }
            }
            if from >= data.last_stable_offset {
                return format!("[{}] stable {} of {}", values.join(" "), data.last_stable_offset, data.high_watermark);
            }
        }
    }

    fn fetched(&mut self, index: i32, from: i64) -> PartitionData {
        let partition = FetchPartition::default().with_partition(index).with_fetch_offset(from).with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(TopicName(text(&self.topic))).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_max_bytes(1 << 20)
            .with_isolation_level(1)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        self.wire.ask(11, &request).responses.remove(0).partitions.remove(0)
    }

    fn fetch_offset(&mut self) -> String {
        let topic = OffsetFetchRequestTopic::default().with_name(TopicName(text(&self.topic))).with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default()
            .with_group_id(text(&self.group).into())
            .with_topics(Some(vec![topic]))
            .with_require_stable(false);
        let answer = again(|| {
            let answer = self.wire.ask(7, &request);
            (answer.error_code, answer)
        });
        answer.1.topics[0].partitions[0].committed_offset.to_string()
    }

    fn delete_topic(&mut self) -> String {
        let topic = DeleteTopicState::default().with_name(Some(TopicName(text(&self.topic))));
        let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        named(self.wire.ask(6, &request).responses[0].error_code)
    }
}

/// A broker of ours in a directory that goes with it.
struct Ours {
    running: Running,
    dir: tempfile::TempDir,
}

impl Ours {
    async fn start() -> Ours {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::start(settings(&dir)).await.unwrap();
        Ours { running, dir }
    }

    /// Stopped and started again, on the same port.
    async fn again(self) -> Ours {
        let Ours { mut running, dir } = self;
        let mut settings = settings(&dir);
        settings.port = running.broker.address.port();
        running.stop().await;
        Ours { running: Running::start(settings).await.unwrap(), dir }
    }
}

fn settings(dir: &tempfile::TempDir) -> Settings {
    let mut settings = Settings::new(dir.path());
    settings.configs.insert("transaction.abort.timed.out.transaction.cleanup.interval.ms".to_owned(), "100".to_owned());
    settings
}

/// Plays a script on the broker of ours, and on Kafka if there is one: each line is a request and, behind `=>`, its answer.
async fn played(expected: &'static str) {
    if let Ok(bootstrap) = std::env::var("MESH_BOOTSTRAP") {
        let played = tokio::task::spawn_blocking(move || Stage::new(&bootstrap).play(expected)).await.unwrap();
        compare(&played, expected, "MESH_BOOTSTRAP");
    }
    on_ours(expected).await;
}

async fn on_ours(expected: &'static str) {
    let ours = Ours::start().await;
    let bootstrap = ours.running.bootstrap();
    let played = tokio::task::spawn_blocking(move || Stage::new(&bootstrap).play(expected)).await.unwrap();
    compare(&played, expected, "the dev broker");
}

fn compare(played: &str, expected: &str, whose: &str) {
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    if lines(played) != lines(expected) {
        panic!("{whose} answers otherwise than expected:\n{played}\nexpected:\n{expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_and_abort() {
    let expected = "
        A init4                             => P1.0
        A describe                          => Empty P1.0, 60000 ms, never begun
        A add3 0 1                          => 0: ok, 1: ok
        A send11 0 a                        => ok
        A send11 1 b                        => ok
        A describe                          => Ongoing P1.0, 60000 ms [0, 1]
        A list2 state=Ongoing               => ok Ongoing P1
        A read 0                            => [] stable 0 of 1
        A commit4                           => ok
        A describe                          => CompleteCommit P1.0, 60000 ms
        A commit4                           => ok
        A abort4                            => InvalidTxnState
        A add3 0                            => 0: ok
        A send11 0 c                        => ok
        A abort4                            => ok
        A abort4                            => ok
        A commit4                           => InvalidTxnState
        A read 0                            => [a] stable 4 of 4
        A read 1                            => [b] stable 2 of 2
    ";
    played(expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_and_abort_in_version_2() {
    let expected = "
        A init5                             => P1.0
        A abort5                            => P1.1
        A commit5                           => InvalidTxnState
        Z is A                              => P1.1
        A send12 0 a                        => ok
        A send12 1 b                        => ok
        A describe                          => Ongoing P1.1, 60000 ms [0, 1]
        A commit5                           => P1.2
        A send12 0 c                        => ok
        Z commit5                           => ProducerFenced
        A abort5                            => P1.3
        Z commit5                           => ProducerFenced
        Z abort5                            => ProducerFenced
        Y is A                              => P1.3
        A send12 0 d                        => ok
        A commit5                           => P1.4
        Y commit5                           => P1.4
        A describe                          => CompleteCommit P1.4, 60000 ms
        Y abort5                            => P1.5
        Y send12 0 e                        => ok
        Z send12 0 e                        => InvalidProducerEpoch
        A read 0                            => [a d] stable 6 of 7
        A read 1                            => [b] stable 2 of 2
    ";
    played(expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_producer_fences_the_first() {
    let expected = "
        A init4                             => P1.0
        A add3 0                            => 0: ok
        A send11 0 a                        => ok
        B init4                             => P1.2
        A describe                          => Empty P1.2, 60000 ms, never begun
        A send9 0 b                         => InvalidProducerEpoch
        A send11 0 b                        => InvalidProducerEpoch
        A add3 1                            => 1: ProducerFenced
        A add1 1                            => 1: InvalidProducerEpoch
        A offsets3                          => ProducerFenced
        A offsets1                          => InvalidProducerEpoch
        A commit4                           => ProducerFenced
        A commit1                           => InvalidProducerEpoch
        A init4 as=A                        => ProducerFenced -1.-1
        A init3 as=A                        => InvalidProducerEpoch -1.-1
        B add3 0                            => 0: ok
        B send11 0 c                        => ok
        B commit4                           => ok
        B read 0                            => [c] stable 4 of 4
    ";
    played(expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_producer_fences_the_first_in_version_2() {
    let expected = "
        A init5                             => P1.0
        A send12 0 a                        => ok
        B init5                             => P1.2
        A describe                          => Empty P1.2, 60000 ms, never begun
        A send12 0 b                        => InvalidProducerEpoch
        A abort5                            => ProducerFenced
        A commit5                           => ProducerFenced
        A init5 as=A                        => ProducerFenced -1.-1
        B send12 0 c                        => ok
        B commit5                           => P1.3
        B read 0                            => [c] stable 4 of 4
    ";
    played(expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_goes_on_after_an_error() {
    let expected = "
        A init4                             => P1.0
        Z is A                              => P1.0
        A add3 0                            => 0: ok
        A send11 0 a                        => ok
        A init4 as=A                        => P1.1
        Z init4 as=Z                        => P1.1
        Z init4 as=Z                        => P1.2
        A describe                          => Empty P1.2, 60000 ms, never begun
        A add3 0                            => 0: ProducerFenced
        A send11 0 b                        => InvalidProducerEpoch
        A commit4                           => ProducerFenced
        A init4 as=A                        => P1.2
        Z init4 as=Z                        => P1.3
        A read 0                            => [] stable 2 of 2
    ";
    played(expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_asked_for_rightly_is_refused() {
    let expected = "
        A init4 timeout=0                   => InvalidTransactionTimeout -1.-1
        A init4 timeout=900001              => InvalidTransactionTimeout -1.-1
        A init4 timeout=900000              => P1.0
        A describe                          => Empty P1.0, 900000 ms, never begun
        A send11 0 a                        => TransactionAbortable
        A send10 0 a                        => InvalidTxnState
        A send9 0 a                         => InvalidTxnState
        A commit4                           => InvalidTxnState
        A abort4                            => InvalidTxnState
        A commit5                           => InvalidTxnState
        A add3 0 nowhere                    => nowhere: UnknownTopicOrPartition, 0: OperationNotAttempted
        A describe                          => Empty P1.0, 900000 ms, never begun
        A add3 0                            => 0: ok
        A send11 1 a                        => TransactionAbortable
        A send11 0 a                        => ok
        A describe                          => Ongoing P1.0, 900000 ms [0]
        A offset3 7                         => InvalidTxnState
        A offset4 7                         => TransactionAbortable
        A commit4                           => ok
        A send11 0 b                        => TransactionAbortable
        A send9 0 b                         => InvalidTxnState
        I init4 idempotent                  => P2.0
        J init4 idempotent as=I             => P3.0
        I commit4                           => InvalidProducerIdMapping
        I add3 0                            => 0: InvalidProducerIdMapping
        I send11 0 b                        => InvalidProducerIdMapping
        I init4 as=I                        => ProducerFenced -1.-1
        A read 0                            => [a] stable 2 of 2
    ";
    played(expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_committed_with_the_transaction() {
    let expected = "
        A init4                             => P1.0
        A fetch-offset                      => -1
        A offsets3                          => ok
        A describe                          => Ongoing P1.0, 60000 ms 1 of __consumer_offsets
        A offset3 5                         => ok
        A fetch-offset                      => -1
        A commit4                           => ok
        A fetch-offset                      => 5
        A offsets3                          => ok
        A offset3 6                         => ok
        A abort4                            => ok
        A fetch-offset                      => 5
        B init5                             => P1.1
        A offset3 7                         => InvalidProducerEpoch
        A offset5 7                         => InvalidProducerEpoch
        B offset5 8                         => ok
        B describe                          => Ongoing P1.1, 60000 ms 1 of __consumer_offsets
        B commit5                           => P1.2
        B fetch-offset                      => 8
        B offset5 9                         => ok
        B abort5                            => P1.3
        B fetch-offset                      => 8
    ";
    played(expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_listed() {
    let expected = "
        A list2 state=Empty                 => ok -
        A init5                             => P1.0
        A list0 state=Empty                 => ok Empty P1
        A list0 state=Ongoing               => ok -
        A list0 state=Empty state=Nonsense  => ok Empty P1, unknown: Nonsense
        A list0 state=Nonsense              => ok -, unknown: Nonsense
        A list0 state=PrepareEpochFence     => ok -
        A list1 producer=A                  => ok Empty P1
        A send12 0 a                        => ok
        A wait 5                            =>
        A list1 duration=60000              => ok -
        A list1 duration=0                  => ok Ongoing P1
        A list1 duration=0 state=Empty      => ok -
        A list2 pattern=id-[0-9]+           => ok Ongoing P1
        A list2 pattern=id-                 => ok -
        A list2 pattern=[                   => InvalidRegularExpression -
        A list2 pattern=.*                  => ok Ongoing P1
    ";
    played(expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_in_a_transaction_does_not_hold_it_up() {
    let expected = "
        A init5                             => P1.0
        A send12 0 a                        => ok
        A delete-topic                      => ok
        A wait 500                          =>
        A commit5                           => P1.1
        A describe                          => CompleteCommit P1.1, 60000 ms
        B init5                             => P1.2
        B abort5                            => P1.3
    ";
    played(expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_takes_too_long_is_aborted() {
    let expected = "
        A init4 timeout=500                 => P1.0
        A add3 0                            => 0: ok
        A send11 0 a                        => ok
        A until CompleteAbort               =>
        A describe                          => CompleteAbort P1.1, 500 ms
        A send11 0 b                        => InvalidProducerEpoch
        A add3 0                            => 0: ProducerFenced
        A commit4                           => ProducerFenced
        A abort4                            => ProducerFenced
        A init4 as=A                        => P1.1
        A add3 0                            => 0: ok
        A send11 0 c                        => ok
        A commit4                           => ok
        A read 0                            => [c] stable 4 of 4
    ";
    played(expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_takes_too_long_is_aborted_in_version_2() {
    let expected = "
        A init5 timeout=500                 => P1.0
        A send12 0 a                        => ok
        A offset5 1                         => ok
        A until CompleteAbort               =>
        A describe                          => CompleteAbort P1.1, 500 ms
        A send12 0 b                        => InvalidProducerEpoch
        A offset5 2                         => InvalidProducerEpoch
        A commit5                           => InvalidTxnState
        A abort5                            => P1.1
        A send12 0 c                        => ok
        A commit5                           => P1.2
        A read 0                            => [c] stable 4 of 4
        A fetch-offset                      => -1
    ";
    played(expected).await;
}

/// Not on Kafka: 32,766 requests take more than five minutes there. Here the journal is made to say that they were.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_whose_epochs_are_used_up_gets_a_new_id() {
    let Ours { mut running, dir } = Ours::start().await;
    let bootstrap = running.bootstrap();
    let begun = tokio::task::spawn_blocking(move || {
        let mut stage = Stage::new(&bootstrap);
        stage.play("A init5");
        stage
    });
    let mut stage = begun.await.unwrap();
    running.stop().await;
    {
        let journal = Journal::open(&dir.path().join("journal")).unwrap();
        let (id, known) = journal.read::<Transaction>(Kind::Transaction).unwrap().remove(0);
        let known = Transaction { epoch: i16::MAX - 1, ..known };
        journal.write(&[Change::put(Kind::Transaction, id, &known).unwrap()]).unwrap();
    }
    let ours = Ours { running: Running::start(settings(&dir)).await.unwrap(), dir };
    stage.wire = Wire::connect(&ours.running.bootstrap());
    stage.producers.get_mut("A").unwrap().1 = i16::MAX - 1;
    let expected = "
        A send12 0 a                        => ok
        A describe                          => Ongoing P1.32766, 60000 ms [0]
        Z is A                              => P1.32766
        A commit5                           => P2.0
        Z send12 0 z                        => InvalidProducerIdMapping
        Z abort5                            => InvalidTxnState
        Z commit5                           => P2.0
        A init5 as=A                        => P2.1
        A send12 0 b                        => ok
        A commit5                           => P2.2
        A read 0                            => [a b] stable 4 of 4
    ";
    let played = tokio::task::spawn_blocking(move || stage.play(expected)).await.unwrap();
    compare(&played, expected, "the dev broker");
}

// ---------------------------------------------------------------------------------------------------------------- //
// librdkafka

/// A producer of librdkafka, initialized; `timeout` is that of its transactions.
fn producer(bootstrap: &str, id: &str, timeout: Duration) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", id)
        .set("transaction.timeout.ms", timeout.as_millis().to_string())
        .set("socket.timeout.ms", timeout.as_millis().min(10_000).to_string())
        .create()
        .unwrap();
    producer.init_transactions(DEADLINE).expect("a producer id");
    producer
}

fn send(producer: &BaseProducer, topic: &str, values: std::ops::Range<u32>) {
    for value in values {
        let (key, value) = (value.to_string(), value.to_string());
        producer.send(BaseRecord::to(topic).key(&key).payload(&value)).expect("room in the queue");
        producer.poll(Duration::ZERO);
    }
}

fn consumer(bootstrap: &str, group: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("isolation.level", isolation)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap()
}

/// A record, or the end of a partition. Other events, such as a rebalance, come as nothing.
fn next(consumer: &BaseConsumer) -> Result<BorrowedMessage<'_>, KafkaError> {
    let deadline = Instant::now() + DEADLINE;
    std::iter::repeat_with(|| consumer.poll(DEADLINE))
        .take_while(|_| Instant::now() < deadline)
        .flatten()
        .next()
        .expect("records or an end")
}

/// All values of a topic, in the order of their numbers.
fn values(bootstrap: &str, topic: &str, isolation: &str) -> Vec<u32> {
    let consumer = consumer(bootstrap, "nobody", isolation);
    let mut assignment = TopicPartitionList::new();
    (0..2).for_each(|index| assignment.add_partition_offset(topic, index, Offset::Beginning).unwrap());
    consumer.assign(&assignment).unwrap();
    let (mut values, mut ended) = (Vec::new(), 0);
    while ended < 2 {
        match next(&consumer) {
            Ok(record) => values.push(std::str::from_utf8(record.payload().unwrap()).unwrap().parse().unwrap()),
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    values.sort_unstable();
    values
}

/// Runs a test on the broker of ours, and on Kafka if there is one; it gets the bootstrap address and a topic.
async fn with_clients(test: fn(&str, &str)) {
    let run = move |bootstrap: String| {
        let stage = Stage::new(&bootstrap);
        test(&bootstrap, &stage.topic);
    };
    if let Ok(bootstrap) = std::env::var("MESH_BOOTSTRAP") {
        tokio::task::spawn_blocking(move || run(bootstrap)).await.unwrap();
    }
    let ours = Ours::start().await;
    let bootstrap = ours.running.bootstrap();
    tokio::task::spawn_blocking(move || run(bootstrap)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn librdkafka_commits_and_aborts() {
    with_clients(|bootstrap, topic| {
        let producer = producer(bootstrap, topic, DEADLINE);
        for round in 0..4 {
            producer.begin_transaction().unwrap();
            send(&producer, topic, round * 100..round * 100 + 100);
            if round % 2 == 0 {
                producer.commit_transaction(DEADLINE).unwrap();
            } else {
                producer.flush(DEADLINE).unwrap();
                producer.abort_transaction(DEADLINE).unwrap();
            }
        }
        let committed: Vec<u32> = (0..100).chain(200..300).collect();
        assert_eq!(values(bootstrap, topic, "read_committed"), committed);
        assert_eq!(values(bootstrap, topic, "read_uncommitted"), (0..400).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn librdkafkas_zombie_is_fenced() {
    with_clients(|bootstrap, topic| {
        let zombie = producer(bootstrap, topic, DEADLINE);
        zombie.begin_transaction().unwrap();
        send(&zombie, topic, 0..10);
        zombie.flush(DEADLINE).unwrap();
        let successor = producer(bootstrap, topic, DEADLINE);
        successor.begin_transaction().unwrap();
        send(&successor, topic, 100..110);
        successor.flush(DEADLINE).unwrap();
        let refused = zombie.commit_transaction(DEADLINE).unwrap_err();
        let KafkaError::Transaction(refused) = refused else { panic!("{refused}") };
        assert!(refused.is_fatal(), "{refused}");
        assert_eq!(refused.code(), RDKafkaErrorCode::Fenced);
        successor.commit_transaction(DEADLINE).unwrap();
        assert_eq!(values(bootstrap, topic, "read_committed"), (100..110).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn librdkafka_commits_offsets_with_its_transaction() {
    with_clients(|bootstrap, topic| {
        let filled = producer(bootstrap, &format!("{topic}-filler"), DEADLINE);
        filled.begin_transaction().unwrap();
        send(&filled, topic, 0..50);
        filled.commit_transaction(DEADLINE).unwrap();
        let worker = producer(bootstrap, topic, DEADLINE);
        for (commit, expected) in [(false, 50), (true, 50), (true, 0)] {
            let consumer = consumer(bootstrap, topic, "read_committed");
            consumer.subscribe(&[topic]).unwrap();
            let (mut seen, mut ended) = (0, 0);
            worker.begin_transaction().unwrap();
            while ended < 2 {
                match next(&consumer) {
                    Ok(_) => seen += 1,
                    Err(KafkaError::PartitionEOF(_)) => ended += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            let (position, group) = (consumer.position().unwrap(), consumer.group_metadata().unwrap());
            worker.send_offsets_to_transaction(&position, &group, DEADLINE).unwrap();
            if commit {
                worker.commit_transaction(DEADLINE).unwrap();
            } else {
                worker.abort_transaction(DEADLINE).unwrap();
            }
            assert_eq!(seen, expected);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn librdkafka_is_told_that_its_transaction_took_too_long() {
    with_clients(|bootstrap, topic| {
        let late = producer(bootstrap, topic, Duration::from_millis(1000));
        late.begin_transaction().unwrap();
        send(&late, topic, 0..10);
        late.flush(DEADLINE).unwrap();
        let deadline = Instant::now() + DEADLINE;
        let mut stage = Stage { transactional_id: topic.to_owned(), ..Stage::new(bootstrap) };
        while *stage.state().transaction_state != *"CompleteAbort" {
            assert!(Instant::now() < deadline, "{:?}", stage.state());
            pause(50);
        }
        let refused = late.commit_transaction(DEADLINE).unwrap_err();
        let KafkaError::Transaction(refused) = refused else { panic!("{refused}") };
        assert!(refused.is_fatal() || refused.txn_requires_abort(), "{refused}");
        assert_eq!(values(bootstrap, topic, "read_committed"), Vec::<u32>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_goes_on_when_the_broker_was_started_again() {
    let ours = Ours::start().await;
    let bootstrap = ours.running.bootstrap();
    let address = bootstrap.clone();
    let begun = move || {
        let topic = Stage::new(&address).topic;
        let producer = producer(&address, "id", DEADLINE);
        producer.begin_transaction().unwrap();
        send(&producer, &topic, 0..100);
        producer.flush(DEADLINE).unwrap();
        (producer, topic)
    };
    let (producer, topic) = tokio::task::spawn_blocking(begun).await.unwrap();
    let ours = ours.again().await;
    assert_eq!(ours.running.bootstrap(), bootstrap);
    let ended = move || {
        assert_eq!(values(&bootstrap, &topic, "read_committed"), Vec::<u32>::new());
        send(&producer, &topic, 100..200);
        producer.commit_transaction(DEADLINE).unwrap();
        assert_eq!(values(&bootstrap, &topic, "read_committed"), (0..200).collect::<Vec<_>>());
    };
    tokio::task::spawn_blocking(ended).await.unwrap();
    drop(ours);
}
