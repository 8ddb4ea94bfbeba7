//! The dev broker under librdkafka: what is produced is consumed, in every way that the client has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it is wrong")]
#![allow(clippy::disallowed_methods, reason = "what a broker does by itself is looked for again and again")]

use std::time::{Duration, Instant};

use mesh::dev::broker::topics::NewTopic;
use mesh::dev::broker::{Running, Settings};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

const WAIT: Duration = Duration::from_secs(30);

struct Stand {
    running: Running,
    runtime: tokio::runtime::Runtime,
    data: tempfile::TempDir,
}

/// A record as a test compares it: partition's offset, key, value.
type Seen = (i64, String, String);

impl Stand {
    fn new() -> Stand {
        Stand::with(&[])
    }

    fn with(configs: &[(&str, &str)]) -> Stand {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let data = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(data.path());
        settings.configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let running = runtime.block_on(Running::start(settings)).unwrap();
        Stand { running, runtime, data }
    }

    /// Stops the broker and starts it anew on the same data, on another port.
    fn restart(mut self) -> Stand {
        self.runtime.block_on(self.running.stop());
        let running = self.runtime.block_on(Running::start(Settings::new(self.data.path()))).unwrap();
        Stand { running, ..self }
    }

    fn client(&self, more: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.running.bootstrap());
        for (key, value) in more {
            config.set(*key, *value);
        }
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client(&[]).create().unwrap()
    }

    fn topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let topic = NewTopic { name: name.to_owned(), partitions, configs };
        self.running.broker.topics.create(&self.running.broker, &topic).unwrap();
    }

    fn producer(&self, more: &[(&str, &str)]) -> BaseProducer {
        self.client(more).create().unwrap()
    }

    fn transactional(&self, id: &str) -> BaseProducer {
        let producer = self.producer(&[("transactional.id", id), ("linger.ms", "0")]);
        producer.init_transactions(WAIT).unwrap();
        producer
    }

    fn reader(&self, topic: &str, from: Offset, more: &[(&str, &str)]) -> BaseConsumer {
        let usual = [("group.id", "g"), ("enable.partition.eof", "true"), ("check.crcs", "true"), ("fetch.wait.max.ms", "20")];
        let consumer: BaseConsumer = self.client(&[usual.as_slice(), more].concat()).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, from).unwrap();
        consumer.assign(&list).unwrap();
        consumer
    }

    /// All records of partition 0 until its end.
    fn read(&self, topic: &str, more: &[(&str, &str)]) -> Vec<Seen> {
        drain(&self.reader(topic, Offset::Beginning, more))
    }
}

fn drain(consumer: &BaseConsumer) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        match consumer.poll(WAIT).expect("records or the end, in time") {
            Ok(message) => {
                let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or(b"-").to_vec()).unwrap();
                seen.push((message.offset(), text(message.key()), text(message.payload())));
            }
            Err(KafkaError::PartitionEOF(_)) => return seen,
            Err(error) => panic!("{error}"),
        }
    }
}

fn send(producer: &BaseProducer, topic: &str, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let (key, value) = (format!("k{n}"), format!("value {n}"));
        producer.send(BaseRecord::to(topic).partition(0).key(&key).payload(&value)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(WAIT).unwrap();
}

fn values(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|(_, _, value)| value.as_str()).collect()
}

fn expected(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|n| format!("value {n}")).collect()
}

#[test]
fn every_compression_arrives_as_it_was_sent() {
    let stand = Stand::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("in-{codec}");
        stand.topic(&topic, 1, &[]);
        let producer = stand.producer(&[("compression.type", codec), ("linger.ms", "50"), ("enable.idempotence", "true")]);
        send(&producer, &topic, 0..2_000);
        let headers = OwnedHeaders::new().insert(Header { key: "h", value: Some("v") });
        producer.send(BaseRecord::<(), str>::to(&topic).partition(0).payload("last").headers(headers)).unwrap();
        producer.flush(WAIT).unwrap();
        let seen = stand.read(&topic, &[]);
        assert_eq!(seen.len(), 2_001, "{codec}");
        assert_eq!(values(&seen[..2_000]), expected(0..2_000), "{codec}");
        assert_eq!(seen.iter().map(|(offset, ..)| *offset).collect::<Vec<_>>(), (0..2_001).collect::<Vec<_>>());
        let reader = stand.reader(&topic, Offset::Offset(2_000), &[]);
        let last = reader.poll(WAIT).unwrap().unwrap();
        assert_eq!(last.headers().unwrap().get(0), Header { key: "h", value: Some(b"v".as_slice()) });
        assert_eq!(last.key(), None);
    }
}

#[test]
fn a_topic_keeps_its_records_in_its_own_compression() {
    let stand = Stand::new();
    stand.topic("plain", 1, &[("compression.type", "uncompressed")]);
    stand.topic("packed", 1, &[("compression.type", "zstd")]);
    let producer = stand.producer(&[("compression.type", "gzip"), ("linger.ms", "50"), ("enable.idempotence", "true")]);
    for topic in ["plain", "packed"] {
        send(&producer, topic, 0..1_000);
        assert_eq!(values(&stand.read(topic, &[])), expected(0..1_000));
    }
    let size = |topic| stand.running.broker.topics.partition(topic, 0).unwrap().size();
    assert!(size("plain") > 4 * size("packed"), "{} {}", size("plain"), size("packed"));
}

#[test]
fn who_waits_for_a_record_gets_it_at_once() {
    let stand = Stand::new();
    stand.topic("quick", 1, &[]);
    let reader = stand.reader("quick", Offset::Beginning, &[("fetch.wait.max.ms", "20000"), ("enable.partition.eof", "false")]);
    assert!(reader.poll(Duration::from_millis(1_500)).is_none());
    let producer = stand.producer(&[("linger.ms", "0")]);
    let begin = Instant::now();
    send(&producer, "quick", 0..1);
    assert_eq!(reader.poll(WAIT).unwrap().unwrap().payload(), Some(b"value 0".as_slice()));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn committed_readers_see_no_open_and_no_aborted_record() {
    let stand = Stand::new();
    stand.topic("money", 1, &[]);
    let (one, two) = (stand.transactional("one"), stand.transactional("two"));
    one.begin_transaction().unwrap();
    two.begin_transaction().unwrap();
    send(&one, "money", 0..3);
    send(&two, "money", 3..6);
    one.commit_transaction(WAIT).unwrap();
    let committed = [("isolation.level", "read_committed")];
    assert_eq!(values(&stand.read("money", &committed)), expected(0..3));
    two.abort_transaction(WAIT).unwrap();
    one.begin_transaction().unwrap();
    send(&one, "money", 6..8);
    one.commit_transaction(WAIT).unwrap();
    let wanted: Vec<String> = expected(0..3).into_iter().chain(expected(6..8)).collect();
    assert_eq!(values(&stand.read("money", &committed)), wanted);
    assert_eq!(stand.read("money", &[("isolation.level", "read_uncommitted")]).len(), 8);
    let stand = stand.restart();
    assert_eq!(values(&stand.read("money", &committed)), wanted);
}

#[test]
fn an_open_transaction_holds_back_what_comes_after_it() {
    let stand = Stand::new();
    stand.topic("held", 1, &[]);
    let open = stand.transactional("open");
    open.begin_transaction().unwrap();
    send(&open, "held", 0..1);
    send(&stand.producer(&[]), "held", 1..3);
    let committed = [("isolation.level", "read_committed"), ("enable.partition.eof", "false")];
    let reader = stand.reader("held", Offset::Beginning, &committed);
    assert!(reader.poll(Duration::from_secs(1)).is_none());
    assert_eq!(reader.fetch_watermarks("held", 0, WAIT).unwrap(), (0, 0));
    open.commit_transaction(WAIT).unwrap();
    for wanted in expected(0..3) {
        assert_eq!(reader.poll(WAIT).unwrap().unwrap().payload(), Some(wanted.as_bytes()));
    }
}

#[test]
fn a_fenced_producer_cannot_write() {
    let stand = Stand::new();
    stand.topic("fence", 1, &[]);
    let old = stand.transactional("same");
    old.begin_transaction().unwrap();
    send(&old, "fence", 0..1);
    let new = stand.transactional("same");
    new.begin_transaction().unwrap();
    send(&new, "fence", 1..2);
    new.commit_transaction(WAIT).unwrap();
    let failed = old.commit_transaction(WAIT).unwrap_err();
    assert_eq!(failed.rdkafka_error_code(), Some(RDKafkaErrorCode::Fenced));
    assert_eq!(values(&stand.read("fence", &[("isolation.level", "read_committed")])), expected(1..2));
}

#[test]
fn offsets_are_found_by_time() {
    let stand = Stand::new();
    stand.topic("times", 1, &[]);
    let producer = stand.producer(&[("linger.ms", "100")]);
    for n in 0..100_i64 {
        let value = format!("{n}");
        producer.send(BaseRecord::<(), str>::to("times").partition(0).payload(&value).timestamp(1_000_000 + n * 1_000)).unwrap();
    }
    producer.flush(WAIT).unwrap();
    let reader = stand.reader("times", Offset::Beginning, &[]);
    let at = |time: i64| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("times", 0, Offset::Offset(time)).unwrap();
        reader.offsets_for_times(list, WAIT).unwrap().elements()[0].offset()
    };
    assert_eq!(at(0), Offset::Offset(0));
    assert_eq!(at(1_042_000), Offset::Offset(42));
    assert_eq!(at(1_042_001), Offset::Offset(43));
    assert_eq!(at(1_099_001), Offset::End);
}

#[test]
fn deleted_records_stay_deleted() {
    let stand = Stand::new();
    stand.topic("cut", 1, &[]);
    send(&stand.producer(&[]), "cut", 0..10);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("cut", 0, Offset::Offset(4)).unwrap();
    let admin = stand.admin();
    let done = stand.runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
    assert_eq!(done.elements()[0].offset(), Offset::Offset(4));
    assert_eq!(values(&stand.read("cut", &[])), expected(4..10));
    let stand = stand.restart();
    assert_eq!(values(&stand.read("cut", &[])), expected(4..10));
    let reader = stand.reader("cut", Offset::Beginning, &[]);
    assert_eq!(reader.fetch_watermarks("cut", 0, WAIT).unwrap(), (4, 10));
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("cut", 0, Offset::End).unwrap();
    stand.runtime.block_on(stand.admin().delete_records(&list, &AdminOptions::new())).unwrap();
    assert_eq!(reader.fetch_watermarks("cut", 0, WAIT).unwrap(), (10, 10));
}

#[test]
fn a_topic_that_is_asked_for_is_made() {
    let stand = Stand::with(&[("num.partitions", "3")]);
    let producer = stand.producer(&[]);
    send(&producer, "new", 0..1);
    assert_eq!(values(&stand.read("new", &[])), expected(0..1));
    let metadata = producer.client().fetch_metadata(Some("new"), WAIT).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 3);
    let stand = Stand::with(&[("auto.create.topics.enable", "false")]);
    let metadata = stand.producer(&[]).client().fetch_metadata(Some("new"), WAIT).unwrap();
    assert_eq!(metadata.topics()[0].error(), Some(rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART));
}

#[test]
fn a_deleted_topic_comes_back_empty() {
    let stand = Stand::new();
    stand.topic("again", 1, &[]);
    send(&stand.producer(&[]), "again", 0..5);
    stand.running.broker.topics.delete(&stand.running.broker, "again").unwrap();
    stand.topic("again", 1, &[]);
    send(&stand.producer(&[]), "again", 5..6);
    let stand = stand.restart();
    assert_eq!(stand.read("again", &[]), [(0, "k5".to_owned(), "value 5".to_owned())]);
    assert_eq!(std::fs::read_dir(stand.data.path().join("logs")).unwrap().count(), 1);
}

#[test]
fn what_is_too_large_or_has_no_key_is_refused() {
    let stand = Stand::new();
    stand.topic("small", 1, &[("max.message.bytes", "1000")]);
    stand.topic("keys", 1, &[("cleanup.policy", "compact")]);
    let refused = |topic: &str, value: &[u8]| {
        let context = Deliveries::default();
        let producer: BaseProducer<Deliveries> = stand.client(&[]).create_with_context(context.clone()).unwrap();
        producer.send(BaseRecord::<(), [u8]>::to(topic).partition(0).payload(value)).unwrap();
        producer.flush(WAIT).unwrap();
        let mut codes = context.0.lock().unwrap();
        codes.pop().unwrap()
    };
    assert_eq!(refused("small", &[0; 2_000]), Some(RDKafkaErrorCode::MessageSizeTooLarge));
    assert_eq!(refused("small", &[0; 100]), None);
    assert_eq!(refused("keys", b"x"), Some(RDKafkaErrorCode::InvalidRecord));
}

#[test]
fn a_compacted_topic_keeps_the_last_value_of_each_key() {
    let stand = Stand::with(&[("log.cleaner.backoff.ms", "50")]);
    let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0"), ("segment.bytes", "1048576")];
    stand.topic("table", 1, &configs);
    let producer = stand.producer(&[("linger.ms", "20"), ("batch.size", "100000")]);
    let padding = "x".repeat(1_000);
    for n in 0..3_000 {
        let (key, value) = (format!("k{}", n % 10), format!("{n} {padding}"));
        producer.send(BaseRecord::to("table").partition(0).key(&key).payload(&value)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(WAIT).unwrap();
    let partition = stand.running.broker.topics.partition("table", 0).unwrap();
    let begin = Instant::now();
    // All but the active segment, which holds less than 1 MiB.
    while partition.size() > 1_200_000 {
        assert!(begin.elapsed() < WAIT, "{} bytes", partition.size());
        std::thread::sleep(Duration::from_millis(20));
    }
    let last: std::collections::BTreeMap<String, String> =
        stand.read("table", &[]).into_iter().map(|(_, key, value)| (key, value)).collect();
    let wanted = (2_990..3_000).map(|n| (format!("k{}", n % 10), format!("{n} {padding}")));
    assert_eq!(last, wanted.collect());
    assert_eq!(partition.end(), 3_000);
}

#[test]
fn old_records_go_and_the_log_begins_later() {
    let stand = Stand::with(&[("log.retention.check.interval.ms", "50")]);
    stand.topic("old", 1, &[("retention.ms", "3600000")]);
    let reader = stand.reader("old", Offset::Beginning, &[]);
    let producer = stand.producer(&[]);
    producer.send(BaseRecord::<(), str>::to("old").partition(0).payload("x").timestamp(1_000)).unwrap();
    producer.flush(WAIT).unwrap();
    let begin = Instant::now();
    while reader.fetch_watermarks("old", 0, WAIT).unwrap() != (1, 1) {
        assert!(begin.elapsed() < WAIT);
        std::thread::sleep(Duration::from_millis(20));
    }
    send(&producer, "old", 1..2);
    assert_eq!(stand.restart().read("old", &[]), [(1, "k1".to_owned(), "value 1".to_owned())]);
}

/// What became of each record.
#[derive(Clone, Default)]
struct Deliveries(std::sync::Arc<std::sync::Mutex<Vec<Option<RDKafkaErrorCode>>>>);

impl rdkafka::ClientContext for Deliveries {}

impl rdkafka::producer::ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::message::DeliveryResult<'_>, (): ()) {
        let error = result.as_ref().err().and_then(|(error, _)| error.rdkafka_error_code());
        self.0.lock().unwrap().push(error);
    }
}
