//! Arbitrary bytes as record batches and as the files of a log. The first byte says how the others are taken.
//!
//! A CRC stops nearly all arbitrary bytes at once, so most ways put a right one in front: what is behind it is what a client
//! can make up, too.

#![no_main]

use std::collections::HashMap;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mesh::dev::broker::batch::{self, Header, Keep, Record};
use mesh::dev::broker::compression::Compression;
use mesh::dev::broker::log::{Config, Log};

fuzz_target!(|data: &[u8]| {
    let Some((way, data)) = data.split_first() else { return };
    match way % 4 {
        0 => batches(&Bytes::copy_from_slice(data)),
        1 => batches(&sealed(data, 0)),
        2 => files(way / 4, data),
        _ => decompress(way / 4, data),
    }
});

/// A batch of these bytes from its attributes on, with the right format, size and CRC in front.
fn sealed(data: &[u8], base_offset: i64) -> Bytes {
    let mut bytes = Vec::with_capacity(data.len() + 21);
    bytes.extend_from_slice(&base_offset.to_be_bytes());
    bytes.extend_from_slice(&u32::try_from(data.len() + 9).expect("small").to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0, 2]);
    bytes.extend_from_slice(&crc32c::crc32c(data).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes.into()
}

fn batches(bytes: &Bytes) {
    let Ok(batches) = batch::split(bytes) else { return };
    assert_eq!(batches.iter().map(|(header, _)| header.size).sum::<usize>(), bytes.len());
    for (header, batch) in batches {
        let _ = batch::check_produced(&header, &batch, true);
        let _ = batch::marker(&header, &batch);
        let mut skimmed = Vec::new();
        let skim = batch::skim(&header, &batch, Keep::All, |record| {
            skimmed.push(record);
            Ok(true)
        });
        let records = batch::records(&header, &batch);
        assert_eq!(skim.is_ok(), records.is_ok(), "{skim:?} {records:?}");
        if let Ok(records) = records {
            assert_eq!(skimmed, records);
            again(&header, &records);
        }
    }
}

/// What compaction would write is a batch with the same records.
fn again(header: &Header, records: &[Record]) {
    let Ok(rebuilt) = batch::rebuild(header, records, None) else { return };
    let split = batch::split(&rebuilt).expect("what was built is whole");
    let [(rebuilt_header, rebuilt)] = split.as_slice() else { panic!("{} batches", split.len()) };
    assert_eq!(batch::records(rebuilt_header, rebuilt).expect("records"), records);
    assert_eq!((rebuilt_header.last_offset(), rebuilt_header.last_sequence()), (header.last_offset(), header.last_sequence()));
}

/// A log of two files, of raw bytes or of batches with right CRCs, is opened, used, compacted and opened again.
fn files(way: u8, data: &[u8]) {
    let dir = tempfile::tempdir().expect("a folder");
    let (first, second) = data.split_at(data.len() / 2);
    for (base, data) in [(0, first), (40, second)] {
        let bytes = if way & 1 == 0 {
            data.to_vec()
        } else {
            data.chunks(90).zip(base..).flat_map(|(data, at)| sealed(data, at)).collect()
        };
        std::fs::write(dir.path().join(format!("{base:020}.log")), bytes).expect("a file");
    }
    let config = Config { compact: way & 2 == 0, min_cleanable_dirty_ratio: 0.0, segment_bytes: 300, ..Config::default() };
    let mut seen = 0;
    let mut log = Log::open(dir.path(), &config, i64::from(way & 4), &mut |_, _| seen += 1).expect("damage is no error");
    read(&log);
    let (start, end) = (log.start(), log.end());
    // A batch may be whole and its records not: compaction refuses it and leaves all as it was.
    let _ = log.compact(1_000, i64::MAX, HashMap::new());
    let _ = log.retain(1_000);
    assert!(log.start() >= start && log.end() == end);
    read(&log);
    let record = Record { key: Some(Bytes::from_static(b"k")), ..Record::default() };
    let batch = batch::build(&[record], batch::Producer::NONE, Compression::None).expect("a batch");
    log.append(&batch, end, 0, None).expect("append");
    drop(log);
    let log = Log::open(dir.path(), &config, 0, &mut |_, _| ()).expect("open");
    assert_eq!((log.end(), log.damage()), (end + 1, &[][..]));
}

fn read(log: &Log) {
    let mut from = log.start();
    while from < log.end() {
        let bytes = log.read(from, log.end(), 100, true).expect("read");
        let batches = batch::split(&bytes).expect("whole batches");
        let Some((last, _)) = batches.last() else { break };
        assert!(last.last_offset() >= from);
        from = last.last_offset() + 1;
    }
    let _ = log.offset_for_time(1_000);
    let _ = log.max_timestamp();
}

fn decompress(way: u8, data: &[u8]) {
    let compression = Compression::ALL[usize::from(way) % Compression::ALL.len()];
    if let Ok(unfolded) = compression.decompress(data) {
        let folded = compression.compress(&unfolded, None).expect("compress");
        assert_eq!(compression.decompress(&folded).expect("decompress"), unfolded);
    }
}
