//! Kafka's protocol as it stands on the wire: a request in one version, and the answer to it.
#![allow(dead_code, reason = "not every test asks for all of it")]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

/// Who a producer is: its id and epoch.
pub(crate) type Identity = (i64, i16);

/// A connection to a broker.
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Panics without a broker.
    pub(crate) fn connect(bootstrap: &str) -> Wire {
        Wire::try_connect(bootstrap).expect("a broker")
    }

    /// Fails without a broker.
    pub(crate) fn try_connect(bootstrap: &str) -> io::Result<Wire> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream })
    }

    /// Panics without an answer.
    pub(crate) fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.try_ask(version, request).unwrap_or_else(|error| panic!("no answer to API {} version {version}: {error}", R::KEY))
    }

    /// Fails when the connection ends before the answer.
    pub(crate) fn try_ask<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        self.stream.write_all(&frame(version, request))?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
        self.stream.read_exact(&mut answer)?;
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
        Ok(R::Response::decode(&mut answer, version).unwrap())
    }
}

/// A request's frame, its size in front.
pub(crate) fn frame<R: Request>(version: i16, request: &R) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version).with_correlation_id(1);
    header.encode(&mut frame, R::header_version(version)).unwrap();
    request.encode(&mut frame, version).unwrap();
    let size = i32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A batch of a transaction, the first of its records having this sequence number.
pub(crate) fn batch(producer: Identity, sequence: i32, values: &[String]) -> Bytes {
    let record = |(at, value): (i32, &String)| Record {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer.0,
        producer_epoch: producer.1,
        timestamp_type: TimestampType::Creation,
        offset: i64::from(at),
        sequence: sequence + at,
        timestamp: 1,
        key: None,
        value: Some(Bytes::from(value.clone())),
        headers: Default::default(),
    };
    let records: Vec<Record> = (0..).zip(values).map(record).collect();
    let mut batch = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut batch, &records, &options).unwrap();
    batch.freeze()
}
