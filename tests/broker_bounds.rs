//! What hostile or careless clients can do to the dev broker: nothing. It runs in a process of its own, whose memory is
//! looked at.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it is wrong")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use wire::{Wire, frame};

mod wire;

/// The most memory that the broker may take, in MiB.
const MOST: u64 = 512;

/// A broker's process.
struct Broker {
    child: Child,
    address: String,
    _data: tempfile::TempDir,
}

impl Broker {
    fn start() -> Broker {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesh"));
        command.args(["dev", "--only", "broker", "--port", "0", "--data"]).arg(data.path()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.starts_with("broker ")).expect("the broker says where it is");
        let address = line.split_whitespace().nth(1).unwrap().to_owned();
        Broker { child, address, _data: data }
    }

    /// Resident memory in MiB.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the broker runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// That a client like any other is served, and that memory is as it should be.
    fn is_well(&self) {
        let name = || StrBytes::from_static_str("test");
        let request = ApiVersionsRequest::default().with_client_software_name(name()).with_client_software_version(name());
        let answer = Wire::connect(&self.address).ask(3, &request);
        assert_eq!(answer.error_code, 0);
        let resident = self.resident();
        assert!(resident < MOST, "{resident} MiB");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the broker ends the connection.
fn is_ended(mut stream: TcpStream) -> bool {
    matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_))
}

#[test]
fn a_frame_that_is_announced_is_not_reserved() {
    let broker = Broker::start();
    let mut stream = broker.connect();
    stream.write_all(&0x4000_0000_u32.to_be_bytes()).unwrap();
    assert!(is_ended(stream), "a frame of 1 GiB is refused");
    // 90 MiB are allowed, and none of these comes.
    let mut waiting: Vec<TcpStream> = (0..200).map(|_| broker.connect()).collect();
    for stream in &mut waiting {
        stream.write_all(&(90 * 1024 * 1024_u32).to_be_bytes()).unwrap();
        stream.write_all(&[0; 1000]).unwrap();
    }
    broker.is_well();
}

#[test]
fn an_array_that_is_announced_is_not_reserved() {
    let broker = Broker::start();
    for length in [u32::MAX / 2, 1_000_000_000, 10_000_000] {
        let mut stream = broker.connect();
        let mut frame = vec![0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff];
        frame.extend(length.to_be_bytes());
        stream.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
        stream.write_all(&frame).unwrap();
        assert!(is_ended(stream), "an array of {length} topics in {} bytes is refused", frame.len());
    }
    broker.is_well();
}

#[test]
fn ten_thousand_connections_leave_room_for_one_more() {
    let broker = Broker::start();
    // Where processes may open fewer files, the broker has places for three quarters of them.
    let most = (rlimit::increase_nofile_limit(u64::MAX).unwrap() / 2).min(10_000);
    let connections: Vec<TcpStream> = (0..most).map(|_| broker.connect()).collect();
    assert_eq!(connections.len() as u64, most);
    broker.is_well();
    drop(connections);
    broker.is_well();
}

/// 64 records of half a mebibyte that do not compress.
fn batch() -> Bytes {
    let record = |offset: i64| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: -1,
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(Bytes::from(vec![offset as u8; 900_000])),
        headers: Default::default(),
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &[record(0)], &options).unwrap();
    bytes.freeze()
}

#[test]
fn clients_that_never_read_take_no_memory() {
    let broker = Broker::start();
    let mut wire = Wire::connect(&broker.address);
    let name = || TopicName(StrBytes::from_static_str("large"));
    let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(name()));
    let made = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true);
    let started = Instant::now();
    while wire.ask(8, &made).topics[0].error_code != 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "the topic is not made");
    }
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(batch()));
    let topic = TopicProduceData::default().with_name(name()).with_partition_data(vec![partition]);
    let produce = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic]);
    for _ in 0..64 {
        assert_eq!(wire.ask(9, &produce).responses[0].partition_responses[0].error_code, 0);
    }
    let partition = FetchPartition::default().with_partition_max_bytes(i32::MAX).with_current_leader_epoch(-1);
    let topic = FetchTopic::default().with_topic(name()).with_partitions(vec![partition]);
    let fetch =
        FetchRequest::default().with_max_wait_ms(100).with_max_bytes(i32::MAX).with_session_epoch(-1).with_topics(vec![topic]);
    let fetch = frame(11, &fetch);
    let silent: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = broker.connect();
            stream.write_all(&fetch).unwrap();
            stream
        })
        .collect();
    // Each of them is being answered when the first byte is there.
    for stream in &silent {
        assert_eq!(stream.peek(&mut [0; 1]).unwrap(), 1);
    }
    broker.is_well();
}
