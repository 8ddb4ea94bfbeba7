//! The dev broker's groups under librdkafka: members share partitions, come back, and their offsets outlive the broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it is wrong")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mesh::dev::broker::topics::NewTopic;
use mesh::dev::broker::{Running, Settings};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};

const WAIT: Duration = Duration::from_secs(40);
const SHORT: Duration = Duration::from_millis(20);
const PARTITIONS: i32 = 4;

/// A broker with the topic `t`, and clients for it.
struct Stand {
    running: Running,
    runtime: tokio::runtime::Runtime,
    data: tempfile::TempDir,
}

impl Stand {
    fn new() -> Stand {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let data = tempfile::tempdir().unwrap();
        let running = runtime.block_on(Running::start(Settings::new(data.path()))).unwrap();
        let stand = Stand { running, runtime, data };
        stand.make("t");
        stand
    }

    fn make(&self, name: &str) {
        let topic = NewTopic { name: name.to_owned(), partitions: PARTITIONS, ..NewTopic::default() };
        self.running.broker.topics.create(&self.running.broker, &topic).unwrap();
    }

    /// Ends the broker and starts it anew, on the same data and port: its clients think that it was away for a moment.
    fn restart(&mut self) {
        let mut settings = Settings::new(self.data.path());
        settings.port = self.running.broker.address.port();
        self.runtime.block_on(self.running.stop());
        let deadline = Instant::now() + WAIT;
        // The port is free as soon as the last connection of before is gone.
        self.running = loop {
            match self.runtime.block_on(Running::start(settings.clone())) {
                Ok(running) => break running,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        };
    }

    fn client(&self, more: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.running.bootstrap());
        config.set("reconnect.backoff.max.ms", "200");
        for (key, value) in more {
            config.set(*key, *value);
        }
        config
    }

    /// A member of group `g` that reads `t`.
    fn member(&self, more: &[(&str, &str)]) -> BaseConsumer {
        let new = more.contains(&("group.protocol", "consumer"));
        let classic = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "200")];
        let usual = [("group.id", "g"), ("enable.auto.commit", "false"), ("auto.offset.reset", "earliest")];
        let times = if new { [].as_slice() } else { classic.as_slice() };
        let consumer: BaseConsumer = self.client(&[usual.as_slice(), times, more].concat()).create().unwrap();
        consumer.subscribe(&["t"]).unwrap();
        consumer
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client(&[]).create().unwrap()
    }

    /// What the group committed of partition 0, as somebody sees it who is no member.
    fn committed(&self, topic: &str, wait: Duration) -> Result<Offset, KafkaError> {
        let reader: BaseConsumer = self.client(&[("group.id", "g")]).create().unwrap();
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, 0);
        Ok(reader.committed_offsets(asked, wait)?.elements()[0].offset())
    }

    fn delete_group(&self) -> Result<(), RDKafkaErrorCode> {
        let deleted = self.runtime.block_on(self.admin().delete_groups(&["g"], &AdminOptions::new())).unwrap();
        deleted[0].clone().map(drop).map_err(|(_, error)| error)
    }
}

fn offsets(topic: &str, offset: i64) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    list
}

fn assigned(member: &BaseConsumer) -> BTreeSet<i32> {
    member.assignment().unwrap().elements().iter().map(|place| place.partition()).collect()
}

/// Lets members work until `done`, and says whether that came to be.
fn until(members: &[&BaseConsumer], done: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + WAIT;
    while Instant::now() < deadline {
        for member in members {
            // Errors are told, not fatal: the broker may be away.
            let _ = member.poll(SHORT);
        }
        if done() {
            return true;
        }
    }
    false
}

/// Two members have all partitions between them, as evenly as can be.
fn shared(a: &BaseConsumer, b: &BaseConsumer) -> bool {
    let (a, b) = (assigned(a), assigned(b));
    a.len() == 2 && b.len() == 2 && a.is_disjoint(&b)
}

fn share_and_leave(more: &[(&str, &str)]) {
    let stand = Stand::new();
    let (a, b) = (stand.member(more), stand.member(more));
    assert!(until(&[&a, &b], || shared(&a, &b)), "{more:?}");
    drop(b);
    assert!(until(&[&a], || assigned(&a).len() == 4), "{more:?}");
    a.commit(&offsets("t", 7), CommitMode::Sync).unwrap();
    assert_eq!(stand.committed("t", WAIT).unwrap(), Offset::Offset(7));
    assert_eq!(stand.delete_group(), Err(RDKafkaErrorCode::NonEmptyGroup));
    drop(a);
    assert_eq!(stand.delete_group(), Ok(()));
    assert_eq!(stand.committed("t", WAIT).unwrap(), Offset::Invalid);
}

#[test]
fn members_share_and_who_leaves_leaves_its_part() {
    share_and_leave(&[("partition.assignment.strategy", "range")]);
    share_and_leave(&[("partition.assignment.strategy", "cooperative-sticky")]);
}

#[test]
fn members_of_the_consumer_protocol_share_as_well() {
    share_and_leave(&[("group.protocol", "consumer")]);
}

#[test]
fn a_group_goes_on_when_the_broker_is_back() {
    for more in [[("client.id", "classic")], [("group.protocol", "consumer")]] {
        let mut stand = Stand::new();
        let (a, b) = (stand.member(&more), stand.member(&more));
        assert!(until(&[&a, &b], || shared(&a, &b)));
        let before = (assigned(&a), assigned(&b));
        let generation = || {
            let list = a.fetch_group_list(Some("g"), WAIT).unwrap();
            (list.groups()[0].state().to_owned(), list.groups()[0].members().len())
        };
        let shown = generation();
        stand.restart();
        let first = if before.0.contains(&0) { &a } else { &b };
        // The commit is one of the same generation: no new round was needed.
        assert!(until(&[&a, &b], || first.commit(&offsets("t", 9), CommitMode::Sync).is_ok()), "{more:?}");
        assert_eq!((assigned(&a), assigned(&b)), before);
        assert_eq!(generation(), shown);
        assert_eq!(stand.committed("t", WAIT).unwrap(), Offset::Offset(9));
    }
}

#[test]
fn a_static_member_comes_back_to_its_part_and_fences_its_twin() {
    let stand = Stand::new();
    let (one, two) = (stand.member(&[("group.instance.id", "one")]), stand.member(&[("group.instance.id", "two")]));
    assert!(until(&[&one, &two], || shared(&one, &two)));
    let before = (assigned(&one), assigned(&two));
    drop(two);
    let back = stand.member(&[("group.instance.id", "two")]);
    assert!(until(&[&one, &back], || (assigned(&one), assigned(&back)) == before));
    let twin = stand.member(&[("group.instance.id", "two")]);
    assert!(until(&[&one, &back, &twin], || back.client().fatal_error().is_some()));
    assert_eq!(back.client().fatal_error().unwrap().0, RDKafkaErrorCode::FencedInstanceId);
    assert_eq!((assigned(&one), assigned(&twin)), before);
}

#[test]
fn offsets_go_with_their_topic_and_do_not_come_back() {
    let stand = Stand::new();
    stand.make("u");
    let consumer: BaseConsumer = stand.client(&[("group.id", "g")]).create().unwrap();
    for topic in ["t", "u"] {
        consumer.commit(&offsets(topic, 3), CommitMode::Sync).unwrap();
    }
    stand.running.broker.topics.delete(&stand.running.broker, "t").unwrap();
    stand.make("t");
    assert_eq!(stand.committed("t", WAIT).unwrap(), Offset::Invalid);
    assert_eq!(stand.committed("u", WAIT).unwrap(), Offset::Offset(3));
    let nowhere = consumer.commit(&offsets("nowhere", 3), CommitMode::Sync).unwrap_err();
    assert_eq!(nowhere.rdkafka_error_code(), Some(RDKafkaErrorCode::UnknownTopicOrPartition));
}

#[test]
fn a_transactions_offsets_wait_for_its_end_even_through_a_restart() {
    let mut stand = Stand::new();
    let member = stand.member(&[]);
    assert!(until(&[&member], || assigned(&member).len() == 4));
    let producer: BaseProducer = stand.client(&[("transactional.id", "tx")]).create().unwrap();
    producer.init_transactions(WAIT).unwrap();
    for (commits, expected) in [(false, Offset::Invalid), (true, Offset::Offset(5))] {
        producer.begin_transaction().unwrap();
        producer.send_offsets_to_transaction(&offsets("t", 5), &member.group_metadata().unwrap(), WAIT).unwrap();
        // librdkafka asks for stable offsets, and asks again until they are.
        let waits = stand.committed("t", Duration::from_millis(500)).unwrap_err();
        assert_eq!(waits.rdkafka_error_code(), Some(RDKafkaErrorCode::OperationTimedOut));
        stand.restart();
        let waits = stand.committed("t", Duration::from_millis(500)).unwrap_err();
        assert_eq!(waits.rdkafka_error_code(), Some(RDKafkaErrorCode::OperationTimedOut));
        let ended = if commits { producer.commit_transaction(WAIT) } else { producer.abort_transaction(WAIT) };
        ended.unwrap();
        assert_eq!(stand.committed("t", WAIT).unwrap(), expected);
    }
}
