//! What the dev broker answers to requests about records, right and wrong, word for word beside Apache Kafka.
//!
//! The script of calls below is a client of its own. Its transcript from Apache Kafka 4.3 stands in `data/broker/answers.txt`;
//! the dev broker must give the same. With `MESH_BOOTSTRAP` set the script runs on that cluster instead, and with
//! `MESH_RECORD=1` as well what it answers is written there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it is wrong")]
#![allow(clippy::disallowed_methods, reason = "what a broker does by itself is looked for again and again")]

use std::fmt::{Debug, Write as _};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::*;
use kafka_protocol::messages::{
    add_partitions_to_txn_request as add, create_topics_request as create, delete_records_request as delete,
    fetch_request as fetch, list_offsets_request as list, offset_for_leader_epoch_request as epochs, produce_request as produce,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use mesh::dev::broker::batch::{self, Producer, Record};
use mesh::dev::broker::compression::Compression;
use mesh::dev::broker::{Running, Settings};
use uuid::Uuid;

const RECORDED: &str = "tests/data/broker/answers.txt";
/// What differs, and may.
const MASKED: i64 = -7;

/// A client that writes down what it is answered.
struct Script {
    stream: TcpStream,
    transcript: String,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// What a run's names end in, so that a cluster may be used again.
static SUFFIX: LazyLock<String> = LazyLock::new(|| format!("-{}", Uuid::new_v4().simple()));

fn topic(name: &str) -> TopicName {
    TopicName(if name.is_empty() { text("") } else { own(name) })
}

fn own(name: &str) -> StrBytes {
    StrBytes::from_string(format!("{name}{}", *SUFFIX))
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn error(code: i16) -> String {
    code.err().map_or("ok".to_owned(), |error| format!("{error:?}"))
}

fn record(key: Option<&'static str>, value: &'static str, timestamp: i64) -> Record {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    Record { key: key.map(bytes), value: Some(bytes(value)), timestamp, ..Record::default() }
}

fn built(records: &[Record], producer: Producer, compression: Compression) -> Bytes {
    batch::build(records, producer, compression).unwrap()
}

/// Three records without a producer.
fn plain() -> Bytes {
    let at = now();
    built(&[record(Some("a"), "1", at), record(None, "2", at), record(Some("c"), "3", at)], Producer::NONE, Compression::None)
}

/// Two records of a producer.
fn idempotent(id: i64, epoch: i16, sequence: i32, transactional: bool) -> Bytes {
    let at = now();
    built(
        &[record(Some("a"), "1", at), record(None, "2", at)],
        Producer { id, epoch, sequence, transactional },
        Compression::None,
    )
}

/// The batch with other bytes at a place, and the CRC of that if wanted.
fn patched(batch: &Bytes, at: usize, bytes: &[u8], crc: bool) -> Bytes {
    let mut patched = batch.to_vec();
    patched[at..at + bytes.len()].copy_from_slice(bytes);
    if crc {
        let crc = crc32c::crc32c(&patched[21..]);
        patched[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    Bytes::from(patched)
}

impl Script {
    fn new(bootstrap: &str) -> Script {
        let stream = TcpStream::connect(bootstrap).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Script { stream, transcript: String::new() }
    }

    fn note(&mut self, line: impl std::fmt::Display) {
        let line = line.to_string().replace(SUFFIX.as_str(), "");
        writeln!(self.transcript, "{line}").unwrap();
    }

    /// `None` when the connection is closed instead.
    fn try_ask<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        let mut frame = BytesMut::from([0; 4].as_slice());
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_client_id(Some(text("script")));
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        let size = u32::try_from(frame.len() - 4).unwrap();
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.stream.write_all(&frame).unwrap();
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).ok()?;
        let mut answer = vec![0; u32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut answer).unwrap();
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
        Some(R::Response::decode(&mut answer, version).unwrap())
    }

    fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.try_ask(version, request).expect("an answer")
    }

    fn id(&mut self, name: &str) -> Uuid {
        let asked = metadata_request::MetadataRequestTopic::default().with_name(Some(topic(name)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked]));
        self.ask(12, &request).topics[0].topic_id
    }

    /// Makes a topic with one partition, and waits for its leader.
    fn create(&mut self, name: &str, configs: &[(&str, &str)]) {
        let config = |(name, value): &(&str, &str)| {
            create::CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let asked = create::CreatableTopic::default()
            .with_name(topic(name))
            .with_num_partitions(1)
            .with_replication_factor(1)
            .with_configs(configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![asked]).with_timeout_ms(30_000);
        let made = self.ask(7, &request);
        assert_eq!(made.topics[0].error_code, 0, "{made:?}");
        let begin = Instant::now();
        while self.listed(10, name, 0, &[-1])[0].error_code != 0 {
            assert!(begin.elapsed() < Duration::from_secs(30), "no leader");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn listed(
        &mut self,
        version: i16,
        name: &str,
        isolation: i8,
        times: &[i64],
    ) -> Vec<list_offsets_response::ListOffsetsPartitionResponse> {
        let asked = |time: &i64| list::ListOffsetsPartition::default().with_timestamp(*time).with_current_leader_epoch(-1);
        let mut request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_isolation_level(isolation);
        request.topics =
            vec![list::ListOffsetsTopic::default().with_name(topic(name)).with_partitions(times.iter().map(asked).collect())];
        self.ask(version, &request).topics.remove(0).partitions
    }

    fn list(&mut self, what: &str, version: i16, name: &str, isolation: i8, times: &[i64]) {
        for part in self.listed(version, name, isolation, times) {
            let time = if part.timestamp > 0 { MASKED } else { part.timestamp };
            let (code, offset, epoch) = (error(part.error_code), part.offset, part.leader_epoch);
            self.note(format!("list {what} v{version} {times:?}: {code} offset {offset} time {time} epoch {epoch}"));
        }
    }

    fn produced(
        &mut self,
        version: i16,
        acks: i16,
        name: &str,
        id: Option<&str>,
        records: Option<Bytes>,
    ) -> Option<ProduceResponse> {
        let data = produce::PartitionProduceData::default().with_records(records);
        let mut of = produce::TopicProduceData::default().with_name(topic(name)).with_partition_data(vec![data]);
        if version >= 13 {
            of.topic_id = if name == "unknown" { Uuid::from_u128(7) } else { self.id(name) };
            of.name = topic("");
        }
        let request = ProduceRequest::default()
            .with_acks(acks)
            .with_timeout_ms(30_000)
            .with_transactional_id(id.map(|id| TransactionalId(own(id))))
            .with_topic_data(vec![of]);
        self.try_ask(version, &request)
    }

    fn produce(&mut self, what: &str, version: i16, name: &str, id: Option<&str>, records: Option<Bytes>) {
        self.produce_with(what, version, -1, name, id, records);
    }

    fn produce_with(&mut self, what: &str, version: i16, acks: i16, name: &str, id: Option<&str>, records: Option<Bytes>) {
        let Some(mut response) = self.produced(version, acks, name, id, records) else {
            return self.note(format!("produce {what} v{version}: closed"));
        };
        let part = response.responses.remove(0).partition_responses.remove(0);
        let time = if part.log_append_time_ms > 0 { MASKED } else { part.log_append_time_ms };
        let at: Vec<i32> = part.record_errors.iter().map(|error| error.batch_index).collect();
        let (code, base, start) = (error(part.error_code), part.base_offset, part.log_start_offset);
        self.note(format!("produce {what} v{version}: {code} base {base} time {time} start {start} records {at:?}"));
    }

    fn fetch(&mut self, what: &str, version: i16, name: &str, change: impl FnOnce(&mut FetchRequest)) {
        let part = fetch::FetchPartition::default().with_current_leader_epoch(-1).with_partition_max_bytes(1 << 20);
        let mut of = fetch::FetchTopic::default().with_topic(topic(name)).with_partitions(vec![part]);
        if version >= 13 {
            of.topic_id = if name == "unknown" { Uuid::from_u128(7) } else { self.id(name) };
        }
        let mut request = FetchRequest::default().with_max_bytes(1 << 20).with_min_bytes(1).with_max_wait_ms(10);
        request.session_epoch = -1;
        request.topics = vec![of];
        change(&mut request);
        let response = self.ask(version, &request);
        self.note(format!("fetch {what} v{version}: {} session {}", error(response.error_code), response.session_id.min(1)));
        for part in response.responses.iter().flat_map(|topic| &topic.partitions) {
            let bases = bases(&part.records.clone().unwrap_or_default());
            let aborted: Option<Vec<i64>> =
                part.aborted_transactions.as_ref().map(|all| all.iter().map(|one| one.first_offset).collect());
            let (code, end, stable, start) =
                (error(part.error_code), part.high_watermark, part.last_stable_offset, part.log_start_offset);
            self.note(format!("    {code} end {end} stable {stable} start {start} aborted {aborted:?} batches {bases:?}"));
        }
    }

    fn delete(&mut self, what: &str, name: &str, offset: i64) {
        let part = delete::DeleteRecordsPartition::default().with_offset(offset);
        let of = delete::DeleteRecordsTopic::default().with_name(topic(name)).with_partitions(vec![part]);
        let response = self.ask(2, &DeleteRecordsRequest::default().with_timeout_ms(10_000).with_topics(vec![of]));
        let part = &response.topics[0].partitions[0];
        self.note(format!("delete {what}: {} low {}", error(part.error_code), part.low_watermark));
    }

    fn epoch(&mut self, current: i32, asked: i32, name: &str) {
        let part = epochs::OffsetForLeaderPartition::default().with_current_leader_epoch(current).with_leader_epoch(asked);
        let of = epochs::OffsetForLeaderTopic::default().with_topic(topic(name)).with_partitions(vec![part]);
        let request = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-2)).with_topics(vec![of]);
        let response = self.ask(4, &request);
        let part = &response.topics[0].partitions[0];
        let (code, epoch, end) = (error(part.error_code), part.leader_epoch, part.end_offset);
        self.note(format!("epoch {asked} of {current} in {name}: {code} epoch {epoch} end {end}"));
    }

    fn producers(&mut self, name: &str) {
        let of = describe_producers_request::TopicRequest::default().with_name(topic(name)).with_partition_indexes(vec![0, 1]);
        let response = self.ask(0, &DescribeProducersRequest::default().with_topics(vec![of]));
        for part in &response.topics[0].partitions {
            self.note(format!("producers of {name}: {}", error(part.error_code)));
            let mut active: Vec<_> = part.active_producers.iter().collect();
            active.sort_by_key(|producer| producer.producer_id.0);
            for one in active {
                let (id, epoch, sequence) = (one.producer_id.0.min(9_000_000), one.producer_epoch, one.last_sequence);
                let id = if id < 5_000 { MASKED } else { id };
                let (coordinator, start) = (one.coordinator_epoch, one.current_txn_start_offset);
                self.note(format!("    {id} epoch {epoch} sequence {sequence} coordinator {coordinator} start {start}"));
            }
        }
    }

    fn init(&mut self, id: &str, version: i16) -> (i64, i16) {
        let find = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![own(id)]);
        let init = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(own(id))))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let begin = Instant::now();
        loop {
            let found = self.ask(4, &find).coordinators[0].error_code == 0;
            let response = if found { Some(self.ask(version, &init)) } else { None };
            match response {
                Some(response) if response.error_code == 0 => return (response.producer_id.0, response.producer_epoch),
                _ => assert!(begin.elapsed() < Duration::from_secs(60), "no producer id"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn add(&mut self, id: &str, (producer, epoch): (i64, i16), name: &str) {
        let of = add::AddPartitionsToTxnTopic::default().with_name(topic(name)).with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(own(id)))
            .with_v3_and_below_producer_id(ProducerId(producer))
            .with_v3_and_below_producer_epoch(epoch)
            .with_v3_and_below_topics(vec![of]);
        let begin = Instant::now();
        // The end of the transaction before may not be through.
        while self.ask(3, &request).results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code == 51 {
            assert!(begin.elapsed() < Duration::from_secs(30));
        }
    }

    /// Ends the transaction; the producer's id and epoch from then on.
    fn end(&mut self, id: &str, (producer, epoch): (i64, i16), version: i16, commit: bool) -> (i64, i16) {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(own(id)))
            .with_producer_id(ProducerId(producer))
            .with_producer_epoch(epoch)
            .with_committed(commit);
        let response = self.ask(version, &request);
        assert_eq!(response.error_code, 0, "{response:?}");
        if version >= 5 { (response.producer_id.0, response.producer_epoch) } else { (producer, epoch) }
    }

    /// Waits until the partition's last stable offset is its end.
    fn settled(&mut self, name: &str) {
        let begin = Instant::now();
        while self.listed(10, name, 0, &[-1])[0].offset != self.listed(10, name, 1, &[-1])[0].offset {
            assert!(begin.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn described(&mut self, what: &str, names: &[&str], limit: i32, cursor: Option<(&str, i32)>) {
        let of = |name: &&str| describe_topic_partitions_request::TopicRequest::default().with_name(topic(name));
        let cursor = cursor.map(|(name, index)| {
            describe_topic_partitions_request::Cursor::default().with_topic_name(topic(name)).with_partition_index(index)
        });
        let request = DescribeTopicPartitionsRequest::default()
            .with_topics(names.iter().map(of).collect())
            .with_response_partition_limit(limit)
            .with_cursor(cursor);
        let response = self.ask(0, &request);
        let next = response.next_cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
        self.note(format!("describe {what}: next {next:?}"));
        for one in response.topics {
            let indexes: Vec<i32> = one.partitions.iter().map(|part| part.partition_index).collect();
            let (code, internal, may) = (error(one.error_code), one.is_internal, one.topic_authorized_operations);
            let name = one.name.as_deref().map(|name| name.as_str());
            self.note(format!("    {name:?} {code} id {} internal {internal} may {may} {indexes:?}", !one.topic_id.is_nil()));
            if let Some(part) = one.partitions.first() {
                let (leader, epoch, replicas) = (part.leader_id.0, part.leader_epoch, part.replica_nodes.len());
                let (eligible, last) = (show(&part.eligible_leader_replicas), show(&part.last_known_elr));
                self.note(format!("    leader {leader} epoch {epoch} replicas {replicas} eligible {eligible} last {last}"));
            }
        }
    }

    fn metadata(&mut self, what: &str, version: i16, change: impl FnOnce(&mut MetadataRequest)) {
        let mut request = MetadataRequest::default().with_allow_auto_topic_creation(version < 4).with_topics(Some(Vec::new()));
        change(&mut request);
        let Some(response) = self.try_ask(version, &request) else {
            return self.note(format!("metadata {what} v{version}: closed"));
        };
        let (brokers, may) = (response.brokers.len(), response.cluster_authorized_operations);
        self.note(format!("metadata {what} v{version}: brokers {brokers} may {may} {}", error(response.error_code)));
        // Kafka gives them in no order.
        let mut topics = response.topics;
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        for one in topics.iter().filter(|one| one.name.as_ref().is_none_or(|name| name.ends_with(SUFFIX.as_str()))) {
            let (code, id, parts) = (error(one.error_code), !one.topic_id.is_nil(), one.partitions.len());
            let name = one.name.as_deref().map(|name| name.as_str());
            self.note(format!("    {name:?} {code} id {id} partitions {parts} may {}", one.topic_authorized_operations));
        }
    }
}

/// The base offsets of whole batches; Kafka may send a part of one behind them.
fn bases(mut records: &[u8]) -> Vec<i64> {
    let mut bases = Vec::new();
    while let Ok(header) = batch::Header::parse(records) {
        let Some(rest) = records.get(header.size..) else { break };
        bases.push(header.base_offset);
        records = rest;
    }
    bases
}

fn show(value: &impl Debug) -> String {
    format!("{value:?}")
}

fn produces(script: &mut Script) {
    script.create("p", &[]);
    for version in [3, 9, 13] {
        script.produce("three", version, "p", None, Some(plain()));
    }
    script.produce("unknown topic", 9, "unknown", None, Some(plain()));
    script.produce("unknown topic", 13, "unknown", None, Some(plain()));
    script.produce_with("acks 2", 9, 2, "p", None, Some(plain()));
    script.produce_with("acks 1", 9, 1, "p", None, Some(plain()));
    script.produce("nothing", 9, "p", None, Some(Bytes::new()));
    let batch = plain();
    script.produce("magic 1", 9, "p", None, Some(patched(&batch, 16, &[1], false)));
    script.produce("magic 3", 9, "p", None, Some(patched(&batch, 16, &[3], false)));
    script.produce("wrong CRC", 9, "p", None, Some(patched(&batch, 17, &[0; 4], false)));
    script.produce("cut", 9, "p", None, Some(batch.slice(..batch.len() - 1)));
    script.produce("two batches", 9, "p", None, Some([&batch[..], &batch[..]].concat().into()));
    script.produce("base offset 5", 9, "p", None, Some(patched(&batch, 0, &5_i64.to_be_bytes(), false)));
    script.produce("leader epoch 5", 9, "p", None, Some(patched(&batch, 12, &5_i32.to_be_bytes(), false)));
    script.produce("control", 9, "p", None, Some(patched(&batch, 22, &[1 << 5], true)));
    script.produce("count 2 of 3", 9, "p", None, Some(patched(&batch, 57, &2_i32.to_be_bytes(), true)));
    script.produce("broker's time", 9, "p", None, Some(patched(&batch, 22, &[1 << 3], true)));
    let zstd = built(&[record(None, "z", now())], Producer::NONE, Compression::Zstd);
    script.produce("zstd", 6, "p", None, Some(zstd.clone()));
    script.produce("zstd", 7, "p", None, Some(zstd));
    let future = built(&[record(None, "1", now()), record(None, "2", now() + 7_200_000)], Producer::NONE, Compression::None);
    script.produce("future", 9, "p", None, Some(future));
    script.produce("no time", 9, "p", None, Some(built(&[record(None, "1", -1)], Producer::NONE, Compression::None)));
    script.create("compact", &[("cleanup.policy", "compact")]);
    script.produce("no key", 9, "compact", None, Some(plain()));
    script.create("stamped", &[("message.timestamp.type", "LogAppendTime")]);
    script.produce("stamped", 9, "stamped", None, Some(plain()));
    script.create("small", &[("max.message.bytes", "70")]);
    script.produce("too large", 9, "small", None, Some(plain()));
    script.create("insync", &[("min.insync.replicas", "2")]);
    script.produce("two in sync", 9, "insync", None, Some(plain()));
    script.create("recent", &[("message.timestamp.before.max.ms", "1000")]);
    let past = built(&[record(None, "1", now() - 5_000), record(None, "2", now())], Producer::NONE, Compression::Lz4);
    script.produce("past", 9, "recent", None, Some(past));
}

fn sequences(script: &mut Script) {
    script.create("s", &[]);
    let mut send = |what: &str, epoch, sequence| {
        script.produce(
            &format!("{what}, epoch {epoch} sequence {sequence}"),
            9,
            "s",
            None,
            Some(idempotent(5_000, epoch, sequence, false)),
        );
    };
    send("first", 0, 0);
    send("next", 0, 2);
    send("first again", 0, 0);
    send("overlapping", 0, 1);
    send("gap", 0, 6);
    for sequence in [4, 6, 8, 10, 12] {
        send("more", 0, sequence);
    }
    send("first once more", 0, 0);
    send("third again", 0, 4);
    send("new epoch in the middle", 1, 5);
    send("new epoch", 1, 0);
    send("old epoch", 0, 14);
    send("old epoch, known", 0, 12);
    script.produce("unknown in the middle", 9, "s", None, Some(idempotent(6_000, 3, 9, false)));
    script.produce("wrapping", 9, "s", None, Some(idempotent(7_000, 0, i32::MAX, false)));
    script.produce("wrapped", 9, "s", None, Some(idempotent(7_000, 0, 1, false)));
    script.produce("no sequence", 9, "s", None, Some(idempotent(8_000, 0, -1, false)));
    script.produce("transactional without id", 9, "s", None, Some(idempotent(8_000, 0, 0, true)));
    script.producers("s");
    script.producers("unknown");
    script.producers("not/valid");
}

fn offsets(script: &mut Script) {
    script.create("o", &[]);
    script.list("empty", 10, "o", 0, &[-2]);
    for time in [-1, -3, -4, -5, -6, -7, 0, 5] {
        script.list("empty", 10, "o", 0, &[time]);
    }
    let at = 1_700_000_000_000;
    let three = |first: i64| [record(None, "1", first), record(None, "2", first + 20), record(None, "3", first + 10)];
    script.produce("times", 9, "o", None, Some(built(&three(at), Producer::NONE, Compression::None)));
    script.produce("times", 9, "o", None, Some(built(&three(at + 15), Producer::NONE, Compression::Gzip)));
    for time in [-1, -2, -3, -4, -5, 0, at, at + 1, at + 20, at + 21, at + 35, at + 36] {
        script.list("times", 10, "o", 0, &[time]);
    }
    for (version, time) in [(1, -1), (1, -3), (6, -3), (7, -3), (7, -4), (8, -4), (8, -5), (9, -5), (3, at), (4, at)] {
        script.list("version", version, "o", 0, &[time]);
    }
    script.list("twice", 10, "o", 0, &[-1, -2]);
    script.list("unknown", 10, "unknown", 0, &[-1]);
    for (current, asked) in [(-1, 0), (-1, -1), (-1, 5), (0, 0), (7, 0)] {
        script.epoch(current, asked, "o");
    }
    script.epoch(-1, 0, "unknown");
    script.delete("beyond", "o", 7);
    script.delete("below", "o", -2);
    script.delete("two", "o", 2);
    script.delete("two again", "o", 1);
    script.list("cut", 10, "o", 0, &[-2]);
    script.list("cut", 10, "o", 0, &[0]);
    script.delete("all", "o", -1);
    script.list("cut", 10, "o", 0, &[-2]);
    script.delete("compacted", "compact", 0);
    script.delete("unknown", "unknown", 0);
}

fn fetches(script: &mut Script) {
    script.create("f", &[]);
    for _ in 0..3 {
        script.produced(9, -1, "f", None, Some(plain()));
    }
    let at = |request: &mut FetchRequest, offset| request.topics[0].partitions[0].fetch_offset = offset;
    for version in [4, 11, 13, 18] {
        script.fetch("all", version, "f", |_| {});
    }
    script.fetch("within a batch", 12, "f", |request| at(request, 4));
    script.fetch("end", 12, "f", |request| at(request, 9));
    script.fetch("beyond", 12, "f", |request| at(request, 10));
    script.fetch("before", 12, "f", |request| at(request, -1));
    script.fetch("one byte", 12, "f", |request| request.max_bytes = 1);
    script.fetch("one byte of the partition", 12, "f", |request| request.topics[0].partitions[0].partition_max_bytes = 1);
    script.fetch("two batches", 12, "f", |request| request.max_bytes = i32::try_from(plain().len()).unwrap() * 2 + 1);
    script.fetch("committed", 12, "f", |request| request.isolation_level = 1);
    script.fetch("newer epoch", 12, "f", |request| request.topics[0].partitions[0].current_leader_epoch = 7);
    script.fetch("same epoch", 12, "f", |request| request.topics[0].partitions[0].current_leader_epoch = 0);
    script.fetch("last epoch", 12, "f", |request| {
        request.topics[0].partitions[0].last_fetched_epoch = 0;
        at(request, 3);
    });
    script.fetch("unknown", 12, "unknown", |_| {});
    script.fetch("unknown", 13, "unknown", |_| {});
    script.fetch("unknown partition", 12, "f", |request| request.topics[0].partitions[0].partition = 3);
    script.fetch("unknown partition", 13, "f", |request| request.topics[0].partitions[0].partition = 3);
    script.fetch("session that is none", 12, "f", |request| (request.session_id, request.session_epoch) = (77, 3));
    script.fetch("stamped", 12, "stamped", |_| {});
    script.fetch("nothing", 12, "f", |request| request.topics.clear());
}

fn transactions(script: &mut Script) {
    script.create("t", &[]);
    let one = script.init("one", 4);
    let send = |(id, epoch): (i64, i16), sequence| Some(idempotent(id, epoch, sequence, true));
    script.produce("not added", 9, "t", Some("one"), send(one, 0));
    script.produce("not added", 11, "t", Some("one"), send(one, 0));
    script.add("one", one, "t");
    script.produce("added", 11, "t", Some("one"), send(one, 0));
    script.produce("not in the transaction", 11, "t", None, Some(idempotent(one.0, one.1, 2, false)));
    script.fetch("open", 12, "t", |request| request.isolation_level = 1);
    script.list("open", 10, "t", 1, &[-1]);
    script.list("open", 10, "t", 1, &[0]);
    script.list("open", 10, "t", 1, &[-3]);
    script.producers("t");
    script.end("one", one, 4, false);
    script.settled("t");
    script.produce("after the end", 11, "t", Some("one"), send(one, 2));
    script.fetch("aborted", 12, "t", |request| request.isolation_level = 1);
    script.fetch("aborted, uncommitted", 12, "t", |_| {});
    script.producers("t");
    script.create("t2", &[]);
    let two = script.init("two", 5);
    script.produce("implicit, in the middle", 12, "t2", Some("two"), send(two, 3));
    script.produce("implicit", 12, "t2", Some("two"), send(two, 0));
    script.produce("wrong epoch", 12, "t2", Some("two"), send((two.0, two.1 + 1), 2));
    let next = script.end("two", two, 5, true);
    script.settled("t2");
    script.note(format!("epoch goes up by {}", next.1 - two.1));
    script.produce("old epoch", 12, "t2", Some("two"), send(two, 2));
    script.produce("new epoch in the middle", 12, "t2", Some("two"), send(next, 2));
    script.produce("new epoch", 12, "t2", Some("two"), send(next, 0));
    script.producers("t2");
    let next = script.end("two", next, 5, false);
    script.settled("t2");
    script.producers("t2");
    script.fetch("two ended", 12, "t2", |request| request.isolation_level = 1);
    script.produce("wrong id", 12, "t2", Some("three"), send(next, 0));
}

fn described(script: &mut Script) {
    script.described("some", &["p", "f", "unknown", "not/valid"], 100, None);
    script.described("limit", &["p", "f", "o"], 2, None);
    script.described("cursor", &["p", "f", "o"], 2, Some(("o", 0)));
    script.described("cursor behind the partitions", &["o", "p"], 1, Some(("o", 1)));
    let named = |names: &[&str]| -> Option<Vec<_>> {
        let of = |name: &&str| metadata_request::MetadataRequestTopic::default().with_name(Some(topic(name)));
        Some(names.iter().map(of).collect())
    };
    script.metadata("none", 12, |_| {});
    script.metadata("some", 12, |request| request.topics = named(&["p", "unknown", "not/valid", "p"]));
    script.metadata("some", 1, |request| request.topics = named(&["p", "not/valid"]));
    script.metadata("all", 1, |request| request.topics = None);
    script.metadata("all", 0, |_| {});
    script.metadata("operations", 10, |request| {
        request.include_topic_authorized_operations = true;
        request.include_cluster_authorized_operations = true;
        request.topics = named(&["p", "unknown"]);
    });
    script.metadata("unknown id", 12, |request| {
        let of = metadata_request::MetadataRequestTopic::default().with_topic_id(Uuid::from_u128(7));
        request.topics = Some(vec![of.with_name(None)]);
    });
}

fn transcript(bootstrap: &str) -> String {
    let mut script = Script::new(bootstrap);
    for (title, part) in [
        ("produce", produces as fn(&mut Script)),
        ("sequences", sequences),
        ("offsets", offsets),
        ("fetch", fetches),
        ("transactions", transactions),
        ("described", described),
    ] {
        script.note(format!("\n# {title}"));
        part(&mut script);
    }
    script.transcript
}

#[test]
fn answers_are_those_of_apache_kafka() {
    if let Ok(bootstrap) = std::env::var("MESH_BOOTSTRAP") {
        let transcript = transcript(&bootstrap);
        if std::env::var("MESH_RECORD").is_ok() {
            std::fs::write(RECORDED, &transcript).unwrap();
        }
        assert_eq!(std::fs::read_to_string(RECORDED).unwrap(), transcript);
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let data = tempfile::tempdir().unwrap();
    let running = runtime.block_on(Running::start(Settings::new(data.path()))).unwrap();
    let transcript = transcript(&running.bootstrap());
    let recorded = std::fs::read_to_string(RECORDED).unwrap_or_default();
    let lacks = |all: &str, title: &str, of: &str| -> Vec<String> {
        of.lines().filter(|line| !all.lines().any(|other| other == *line)).map(|line| format!("{title} {line}")).collect()
    };
    let differences = [lacks(&transcript, "Kafka:", &recorded), lacks(&recorded, "dev:", &transcript)].concat();
    assert!(recorded == transcript, "\n{}", differences.join("\n"));
}
