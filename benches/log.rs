//! A partition's log: batches of 16 KiB with records of 100 bytes appended, read, checked and taken apart: `cargo bench --bench log`.

#![allow(clippy::expect_used)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mesh::dev::broker::batch::{self, Producer, Record};
use mesh::dev::broker::compression::Compression;
use mesh::dev::broker::log::{Config, Log};

/// Records of 100 bytes in a batch of 16 KiB.
const RECORDS: i32 = 150;
/// 1 M records.
const BATCHES: i64 = 6_667;

fn one(compression: Compression) -> Bytes {
    let record = |n: i32| {
        let value: Vec<u8> = (0..92).map(|at| b'a' + u8::try_from((n * 7 + at * at) % 23).unwrap_or(0)).collect();
        let key = Bytes::from(format!("{n:08}"));
        Record { offset: 0, timestamp: 1_700_000_000_000, key: Some(key), value: Some(value.into()), headers: Vec::new() }
    };
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    batch::build(&records, Producer::NONE, compression).expect("a batch")
}

fn filled(dir: &std::path::Path, batch: &Bytes) -> Log {
    let mut log = Log::open(dir, &Config::default(), 0, &mut |_, _| {}).expect("a log");
    for n in 0..BATCHES {
        log.append(batch, n * i64::from(RECORDS), 0, None).expect("append");
    }
    log
}

fn files(c: &mut Criterion) {
    let batch = one(Compression::None);
    let mut group = c.benchmark_group("1 M records of 100 bytes");
    group.throughput(Throughput::Elements(BATCHES.unsigned_abs() * u64::from(RECORDS.unsigned_abs()))).sample_size(10);
    group.bench_function("append", |bencher| {
        bencher.iter_with_large_drop(|| {
            let dir = tempfile::tempdir().expect("a folder");
            (filled(dir.path(), &batch), dir)
        });
    });
    let dir = tempfile::tempdir().expect("a folder");
    let log = filled(dir.path(), &batch);
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let (mut from, mut size) = (0, 0);
            while from < log.end() {
                let bytes = log.read(from, log.end(), 1024 * 1024, true).expect("read");
                from += i64::try_from(bytes.len() / batch.len()).expect("a number") * i64::from(RECORDS);
                size += bytes.len();
            }
            size
        });
    });
    group.bench_function("open", |bencher| {
        bencher.iter(|| Log::open(dir.path(), &Config::default(), 0, &mut |_, _| {}).expect("a log").end());
    });
    group.finish();
}

fn batches(c: &mut Criterion) {
    for compression in Compression::ALL {
        let batch = one(compression);
        let mut group = c.benchmark_group(format!("batch, {}", compression.name()));
        group.throughput(Throughput::Elements(u64::from(RECORDS.unsigned_abs())));
        group.bench_function("split", |bencher| bencher.iter(|| batch::split(black_box(&batch)).expect("whole")));
        let (header, _) = batch::split(&batch).expect("whole").remove(0);
        group.bench_function("check", |bencher| bencher.iter(|| batch::check_produced(&header, black_box(&batch), true)));
        group.bench_function("records", |bencher| bencher.iter(|| batch::records(&header, black_box(&batch))));
        group.finish();
    }
}

criterion_group!(benches, files, batches);
criterion_main!(benches);
