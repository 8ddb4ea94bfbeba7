//! Rows per second of decoding and encoding, by format and width: `cargo bench --bench format`.

#![allow(clippy::expect_used)]

use std::hint::black_box;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use mesh::engine::batch::Batch;
use mesh::format::{Decoder, Encoded, Encoder, Layout, Record};
use mesh::model::product::{Format, Framing, Shape};
use mesh::model::row::RowType;

const ROWS: usize = 1_024;

/// Fifteen properties, of which twelve are read: a bike station's status.
fn status(i: usize) -> String {
    format!(
        r#"{{"eightd_has_available_keys":false,"is_installed":1,"is_renting":1,"is_returning":1,"last_reported":{},"legacy_id":"{}","num_bikes_available":{},"num_bikes_disabled":0,"num_docks_available":{},"num_docks_disabled":1,"num_ebikes_available":{},"num_scooters_available":0,"num_scooters_unavailable":0,"station_id":"003d58af-e449-4800-aa6d-{:012x}","station_status":"active"}}"#,
        1_689_553_767 + i,
        i % 600,
        i % 30,
        27 - i % 27,
        i % 7,
        i
    )
}

fn status_columns() -> Vec<Field> {
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let text = |name: &str| Field::new(name, DataType::Utf8, name != "station_id");
    vec![
        Field::new("eightd_has_available_keys", DataType::Boolean, true),
        number("is_installed"),
        number("is_renting"),
        number("is_returning"),
        number("last_reported"),
        text("legacy_id"),
        number("num_bikes_available"),
        number("num_bikes_disabled"),
        number("num_docks_available"),
        number("num_ebikes_available"),
        text("station_id"),
        text("station_status"),
    ]
}

/// Thirty columns: ten texts, ten integers, ten doubles.
fn wide(i: usize) -> String {
    let columns = (0..10).map(|c| format!(r#""text{c}":"value {c} of {i}","int{c}":{},"double{c}":{}.{c}5"#, i * c, i + c));
    format!("{{{}}}", columns.collect::<Vec<_>>().join(","))
}

fn wide_columns() -> Vec<Field> {
    (0..10)
        .flat_map(|c| {
            [
                Field::new(format!("text{c}"), DataType::Utf8, false),
                Field::new(format!("int{c}"), DataType::Int64, false),
                Field::new(format!("double{c}"), DataType::Float64, false),
            ]
        })
        .collect()
}

fn layout(format: Format, columns: &[Field]) -> Layout {
    Layout {
        format,
        framing: Framing::Confluent,
        row_type: Arc::new(RowType::new(columns.to_vec())),
        key: vec![],
        time_column: None,
        shape: Shape::Stream,
    }
}

fn avro_contract(columns: &[Field]) -> String {
    let fields: Vec<String> = columns
        .iter()
        .map(|field| {
            let name = match field.data_type() {
                DataType::Boolean => "boolean",
                DataType::Int64 => "long",
                DataType::Float64 => "double",
                _ => "string",
            };
            let of = if field.is_nullable() { format!(r#"["null","{name}"],"default":null"#) } else { format!(r#""{name}""#) };
            format!(r#"{{"name":"{}","type":{of}}}"#, field.name())
        })
        .collect();
    format!(r#"{{"type":"record","name":"Row","fields":[{}]}}"#, fields.join(","))
}

fn decode(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, layout: Layout, contract: &str, values: &[Vec<u8>]) -> Batch {
    let records: Vec<Record<'_>> = values.iter().map(|value| Record::new(None, Some(value), 0)).collect();
    let mut decoder = Decoder::new(layout, contract, None).expect("a decoder");
    decoder.add_schema(1, contract).expect("a schema");
    let decoded = decoder.decode(&records);
    assert_eq!((decoded.records.len(), decoded.bad.len()), (values.len(), 0));
    group.bench_function(name, |b| b.iter(|| decoder.decode(black_box(&records))));
    decoded.batch
}

fn encode(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, layout: Layout, contract: &str, batch: &Batch) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(layout, contract, 1, None).expect("an encoder");
    let mut out = Encoded::default();
    encoder.encode(batch, &mut out).expect("rows that can be written");
    group.bench_function(name, |b| b.iter(|| encoder.encode(black_box(batch), &mut out)));
    out.records.iter().filter_map(|record| out.value(record).map(<[u8]>::to_vec)).collect()
}

fn formats(c: &mut Criterion) {
    let mut group = c.benchmark_group("format");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, columns, text) in [
        ("12 of 15 columns", status_columns(), status as fn(usize) -> String),
        ("30 columns", wide_columns(), wide as fn(usize) -> String),
    ] {
        let framed: Vec<Vec<u8>> = (0..ROWS).map(|i| [b"\0\0\0\0\x01", text(i).as_bytes()].concat()).collect();
        let batch = decode(&mut group, &format!("json decode, {name}"), layout(Format::Json, &columns), "{}", &framed);
        encode(&mut group, &format!("json encode, {name}"), layout(Format::Json, &columns), "{}", &batch);
        let contract = avro_contract(&columns);
        let avro = encode(&mut group, &format!("avro encode, {name}"), layout(Format::Avro, &columns), &contract, &batch);
        let back = decode(&mut group, &format!("avro decode, {name}"), layout(Format::Avro, &columns), &contract, &avro);
        assert_eq!(back.rows, batch.rows);
        let few: Vec<Field> = columns.iter().step_by(4).cloned().collect();
        decode(&mut group, &format!("json decode, {} of {name}", few.len()), layout(Format::Json, &few), "{}", &framed);
        decode(&mut group, &format!("avro decode, {} of {name}", few.len()), layout(Format::Avro, &few), &contract, &avro);
    }
    group.finish();
}

criterion_group!(benches, formats);
criterion_main!(benches);
