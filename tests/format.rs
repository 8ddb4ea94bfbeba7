//! Bytes to rows and back: values pinned against texts written by hand and bytes written by another implementation
//! (Python's fastavro 1.13), poisoned batches, schemas that evolve, and round trips of everything.

#![allow(clippy::expect_used)]

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array,
    Int64Array, ListBuilder, MapBuilder, RecordBatch, StringArray, StringBuilder, StringViewArray, StructArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use mesh::engine::batch::Batch;
use mesh::format::frame::SchemaId;
use mesh::format::{self};
use mesh::format::{
    Bad, Decoded, Decoder, Encoded, Encoder, FormatError, Layout, Line, LineEncoder, MAX_RECORD, Record, codes, frame, to_json,
};
use mesh::model::product::{Format, Framing, Shape};
use mesh::model::row::RowType;
use mesh::schema;
use proptest::prelude::*;

fn framed(id: i32, body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(id, &mut out);
    out.extend_from_slice(body.as_ref());
    out
}

fn value(bytes: &[u8]) -> Record<'_> {
    Record::new(None, Some(bytes), 1_000)
}

fn row_type(format: Format, contract: &str) -> Arc<RowType> {
    Arc::new(schema::parse(format, contract, &[]).expect("a schema").columns().row_type)
}

fn layout(format: Format, row_type: Arc<RowType>, key: &[&str], shape: Shape) -> Layout {
    let key = key.iter().map(|name| row_type.index_of(name).expect("a key column")).collect();
    Layout { format, framing: Framing::Confluent, row_type, key, time_column: None, shape }
}

fn stream(format: Format, contract: &str) -> Layout {
    layout(format, row_type(format, contract), &[], Shape::Stream)
}

/// A decoder that knows its contract as schema 1.
fn decoder(layout: Layout, contract: &str) -> Decoder {
    let mut decoder = Decoder::new(layout, contract, None).expect("a decoder");
    decoder.add_schema(1, contract).expect("a schema");
    decoder
}

fn show(rows: &RecordBatch) -> String {
    let options = FormatOptions::default().with_null("null");
    let columns: Vec<ArrayFormatter<'_>> =
        rows.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).expect("shown")).collect();
    let line = |row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" | ");
    (0..rows.num_rows()).map(line).collect::<Vec<_>>().join("\n")
}

fn bad(decoded: &Decoded) -> String {
    decoded.bad.iter().map(|b| format!("{} {}: {}", b.record, b.code, b.reason)).collect::<Vec<_>>().join("\n")
}

fn texts(encoded: &Encoded) -> Vec<String> {
    let text = |bytes: Option<&[u8]>| match bytes {
        None => "-".to_owned(),
        Some(bytes) => {
            let (id, body) = frame::parse(bytes).expect("a frame");
            format!("{id}:{}", String::from_utf8_lossy(body))
        }
    };
    encoded.records.iter().map(|r| format!("{} {} @{}", text(encoded.key(r)), text(encoded.value(r)), r.timestamp)).collect()
}

fn batch(columns: Vec<(&str, ArrayRef, bool)>) -> Batch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array, nullable)| Field::new(*name, array.data_type().clone(), *nullable)).collect();
    let arrays: Vec<ArrayRef> = columns.into_iter().map(|(_, array, _)| array).collect();
    let rows = RecordBatch::try_new(Arc::new(RowType::new(fields)), arrays).expect("a batch");
    let times = (0..rows.num_rows() as i64).collect::<Vec<_>>();
    Batch::inserts(rows, times.into())
}

const STATION: &str = r#"{"type":"object","properties":{
    "station_id":{"type":"string"},"name":{"type":["string","null"]},"bikes":{"type":"integer"},"lat":{"type":"number"},"open":{"type":"boolean"},
    "tags":{"type":"array","items":{"type":"string"}},
    "place":{"type":"object","properties":{"street":{"type":"string"},"no":{"type":"integer"}},"required":["street"],"additionalProperties":false},
    "docks":{"type":"object","additionalProperties":{"type":"integer"}}},
    "required":["station_id","name","bikes"],"additionalProperties":false}"#;

#[test]
fn json_values_become_columns() {
    let mut decoder = decoder(stream(Format::Json, STATION), STATION);
    let rows = [
        r#"{"station_id":"a","name":"Zo\u00eb \"1\"","bikes":3,"lat":37.5,"open":true,"tags":["x","y"],"place":{"street":"Main","no":7},"docks":{"n":1,"s":2}}"#,
        // Another order, unknown properties, absent and null ones, a whole number with a fraction of zero.
        r#" {"more":{"deep":[[{"station_id":"no"}]]},"bikes":3.0,"lat":5,"name":null,"tags":[],"station_id":"b","place":{"no":null,"street":""},"docks":{}} "#,
        r#"{"bikes":9007199254740993,"name":"","station_id":"c","open":null}"#,
        r#"{"bikes":-9223372036854775808,"name":"n","station_id":"d","lat":-1e-3}"#,
    ];
    let bytes: Vec<Vec<u8>> = rows.iter().map(|text| framed(1, text)).collect();
    let decoded = decoder.decode(&bytes.iter().map(|b| value(b)).collect::<Vec<_>>());
    assert_eq!(bad(&decoded), "");
    assert_eq!(decoded.records, [0, 1, 2, 3]);
    assert_eq!(decoded.batch.times.as_ref(), [1_000; 4]);
    insta::assert_snapshot!(show(&decoded.batch.rows), @r#"
    a | Zoë "1" | 3 | 37.5 | true | [x, y] | {street: Main, no: 7} | {n: 1, s: 2}
    b | null | 3 | 5.0 | null | [] | {street: , no: null} | {}
    c |  | 9007199254740993 | null | null | null | null | null
    d | n | -9223372036854775808 | -0.001 | null | null | null | null
    "#);
}

#[test]
fn only_the_columns_wanted_are_read() {
    let all = row_type(Format::Json, STATION);
    let few = Arc::new(all.project(&[2, 0]).expect("columns"));
    let mut decoder = decoder(layout(Format::Json, few, &[], Shape::Stream), STATION);
    // What is not wanted may be anything, twice even.
    let text = framed(1, r#"{"lat":"?","lat":[],"station_id":"a","place":7,"bikes":3}"#);
    let decoded = decoder.decode(&[value(&text)]);
    assert_eq!((show(&decoded.batch.rows).as_str(), bad(&decoded).as_str()), ("3 | a", ""));

    let none = layout(Format::Json, Arc::new(RowType::empty()), &[], Shape::Stream);
    let mut decoder = self::decoder(none, STATION);
    let decoded = decoder.decode(&[value(&text), value(&text)]);
    assert_eq!(decoded.batch.rows.num_rows(), 2);
}

#[test]
fn poisoned_json_leaves_its_neighbours_alone() {
    let good = |n: usize| {
        format!(
            r#"{{"station_id":"s{n}","name":"n{n}","bikes":{n},"tags":["t{n}"],"place":{{"street":"p{n}"}},"docks":{{"k":{n}}}}}"#
        )
    };
    let with = |more: &str| {
        framed(1, format!(r#"{{"station_id":"x","name":"y","tags":["a"],"place":{{"street":"b"}},"docks":{{"c":1}},{more}}}"#))
    };
    let deep = format!(r#"{{"station_id":"x","name":"y","bikes":1,"more":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    let poison: Vec<(Option<Vec<u8>>, &str)> = vec![
        (None, codes::NULL_VALUE),
        (Some(vec![]), codes::NOT_FRAMED),
        (Some(vec![0]), codes::NOT_FRAMED),
        (Some(good(1).into_bytes()), codes::NOT_FRAMED),
        (Some(vec![0xde, 0xad, 0xbe, 0xef, 0, 1, 2]), codes::NOT_FRAMED),
        (Some(framed(404, good(1))), codes::UNKNOWN_SCHEMA),
        (Some(framed(1, "")), codes::NOT_JSON),
        (Some(framed(1, "   ")), codes::NOT_JSON),
        (Some(framed(1, &good(1)[..30])), codes::NOT_JSON),
        (Some(framed(1, good(1) + "}")), codes::NOT_JSON),
        (Some(framed(1, [0x80, 0x12, 0xff, 0x00])), codes::INVALID_UTF8),
        (Some(framed(1, "[1,2]")), codes::WRONG_TYPE),
        (Some(framed(1, "null")), codes::WRONG_TYPE),
        (Some(framed(1, "7")), codes::WRONG_TYPE),
        (Some(framed(1, deep)), codes::TOO_DEEP),
        (
            Some(framed(1, [br#"{"station_id":"#.as_slice(), b"\"\xc3\x28\"", br#","name":"y","bikes":1}"#].concat())),
            codes::INVALID_UTF8,
        ),
        (Some(with(r#""bikes":NaN"#)), codes::NOT_JSON),
        (Some(with(r#""bikes":1e400"#)), codes::OUT_OF_RANGE),
        (Some(with(r#""bikes":1,"lat":1e400"#)), codes::OUT_OF_RANGE),
        (Some(with(r#""bikes":1,"more":[01]"#)), codes::NOT_JSON),
        (Some(with(r#""bikes":1,"more":"\ud800""#)), codes::NOT_JSON),
        (Some(with(r#""bikes":1.5"#)), codes::WRONG_TYPE),
        (Some(with(r#""bikes":"3""#)), codes::WRONG_TYPE),
        (Some(with(r#""bikes":null"#)), codes::NULL_VALUE),
        (Some(with(r#""lat":1"#)), codes::MISSING),
        (Some(with(r#""bikes":9223372036854775808"#)), codes::OUT_OF_RANGE),
        (Some(with(r#""bikes":1e19"#)), codes::OUT_OF_RANGE),
        (Some(with(r#""bikes":1,"bikes":1"#)), codes::DUPLICATE),
        (Some(with(r#""bikes":1,"\u0062ikes":1"#)), codes::DUPLICATE),
        (Some(with(r#""bikes":1,"open":1"#)), codes::WRONG_TYPE),
        (Some(framed(1, r#"{"station_id":"x","name":"y","bikes":1,"tags":["a",null]}"#)), codes::NULL_VALUE),
        (Some(framed(1, r#"{"station_id":"x","name":"y","bikes":1,"tags":["a",["b"]]}"#)), codes::WRONG_TYPE),
        (Some(framed(1, r#"{"station_id":"x","name":"y","bikes":1,"place":{"no":1}}"#)), codes::MISSING),
        (Some(framed(1, r#"{"station_id":"x","name":"y","bikes":1,"docks":{"a":1,"b":"c"}}"#)), codes::WRONG_TYPE),
        (Some(framed(1, r#"{"station_id":"x","name":"y","bikes":1,"docks":{"a":1,"a":1}}"#)), codes::DUPLICATE),
        (Some(framed(1, format!(r#"{{"station_id":"{}"}}"#, "x".repeat(MAX_RECORD)))), codes::TOO_LARGE),
    ];
    let mut bytes: Vec<Option<Vec<u8>>> = Vec::new();
    for (n, (poison, _)) in poison.iter().enumerate() {
        bytes.push(Some(framed(1, good(n))));
        bytes.push(poison.clone());
    }
    bytes.push(Some(framed(1, good(poison.len()))));
    let records: Vec<Record<'_>> = bytes.iter().map(|b| Record::new(None, b.as_deref(), 5)).collect();
    let mut decoder = decoder(stream(Format::Json, STATION), STATION);
    assert_eq!(decoder.decode(&records).missing, [SchemaId::Id(404)]);
    decoder.refuse_schema(404, "the registry does not know it");
    let decoded = decoder.decode(&records);

    let found: Vec<(u32, &str)> = decoded.bad.iter().map(|b| (b.record, b.code)).collect();
    let expected: Vec<(u32, &str)> = poison.iter().enumerate().map(|(n, (_, code))| (2 * n as u32 + 1, *code)).collect();
    assert_eq!(found, expected, "{}", bad(&decoded));
    assert_eq!(decoded.records, (0..=poison.len() as u32).map(|n| 2 * n).collect::<Vec<_>>());
    let lines: Vec<String> = (0..=poison.len())
        .map(|n| format!("s{n} | n{n} | {n} | null | null | [t{n}] | {{street: p{n}, no: null}} | {{k: {n}}}"))
        .collect();
    assert_eq!(show(&decoded.batch.rows), lines.join("\n"));
}

#[test]
fn reasons_say_where_and_what() {
    let mut decoder = decoder(stream(Format::Json, STATION), STATION);
    let texts = [
        r#"{"station_id":"x","name":"y","bikes":"3"}"#,
        r#"{"station_id":"x","name":"y","bikes":1,"tags":["a",7]}"#,
        r#"{"station_id":"x","name":"y","bikes":1,"place":{"street":"s","no":9e99}}"#,
        r#"{"station_id":"x","name":"y"}"#,
        r#"{"station_id":"x","name":"y","#,
    ];
    let bytes: Vec<Vec<u8>> = texts.iter().map(|text| framed(1, text)).collect();
    let decoded = decoder.decode(&bytes.iter().map(|b| value(b)).collect::<Vec<_>>());
    insta::assert_snapshot!(bad(&decoded), @r#"
    0 wrong_type: bikes: an integer is expected, found a text
    1 wrong_type: tags[1]: a text is expected, found a number
    2 out_of_range: place.no: 9e99 does not fit into 8 bytes
    3 missing: bikes: missing, and the contract requires it
    4 not_json: the body is not a JSON text: it ends too early
    "#);
}

#[test]
fn a_tables_null_is_a_delete_by_its_key() {
    let all = row_type(Format::Json, STATION);
    let mut decoder = decoder(layout(Format::Json, all.clone(), &["station_id"], Shape::Table), STATION);
    decoder.add_schema(2, r#"{"type":"string"}"#).expect("a schema");
    let (live, key, not_a_text) = (framed(1, r#"{"station_id":"a","name":"n","bikes":1}"#), framed(2, r#""b""#), framed(2, "7"));
    let delete = |key| Record::new(key, None, 9);
    let records = [value(&live), delete(Some(&key)), delete(None), delete(Some(b"b")), delete(Some(&not_a_text)), value(&live)];
    let decoded = decoder.decode(&records);
    insta::assert_snapshot!(show(&decoded.batch.rows), @r#"
    a | n | 1 | null | null | null | null | null
    b | null | 0 | null | null | null | null | null
    a | n | 1 | null | null | null | null | null
    "#);
    assert_eq!(decoded.records, [0, 1, 5]);
    assert_eq!(decoded.batch.times.as_ref(), [1_000, 9, 1_000]);
    assert_eq!((0..3).map(|row| decoded.batch.is_delete(row)).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(decoded.batch.rows.schema(), all);
    insta::assert_snapshot!(bad(&decoded), @r#"
    2 bad_key: a delete without a key
    3 not_framed: key: the first byte is 0x62; a framed record starts with 0x00 and a schema id of four bytes
    4 wrong_type: key: a text is expected, found a number
    "#);

    let mut pairs = self::decoder(layout(Format::Json, all, &["bikes", "station_id"], Shape::Table), STATION);
    let (key, half) = (framed(1, r#"{"station_id":"b","bikes":4}"#), framed(1, r#"{"bikes":4}"#));
    let decoded = pairs.decode(&[delete(Some(&key)), delete(Some(&half))]);
    assert!(show(&decoded.batch.rows).starts_with("b |  | 4 |") || show(&decoded.batch.rows).starts_with("b | null | 4 |"));
    assert_eq!(bad(&decoded), "1 missing: key.station_id: missing, and the contract requires it");
}

#[test]
fn a_header_names_the_schema_of_bytes_without_a_frame() {
    let mut decoder = Decoder::new(stream(Format::Avro, ALL), ALL, None).expect("a decoder");
    let guid = [&[1_u8][..], &0x8979_1c4e_1b7f_4b6a_9d5d_4f2c_1a0b_3c4d_u128.to_be_bytes()].concat();
    let body = hex(WRITTEN[1]);
    let named = |header: &'static [u8]| Record { value_schema: Some(header), ..value(&body) };
    let by_guid = Record { value_schema: Some(&guid), ..value(&body) };
    let missing = decoder.decode(&[by_guid]).missing;
    assert_eq!(missing.iter().map(ToString::to_string).collect::<Vec<_>>(), ["89791c4e-1b7f-4b6a-9d5d-4f2c1a0b3c4d"]);
    decoder.add_schema(missing[0], ALL).expect("a schema");
    decoder.add_schema(7, ALL).expect("a schema");
    let framed = framed(7, &body);
    let decoded = decoder.decode(&[value(&framed), by_guid, named(b"\0\0\0\0\x07"), named(b"\x02")]);
    assert_eq!(
        bad(&decoded),
        "3 not_framed: the header that names the schema has 1 bytes; it is a byte 1 and 16 of a GUID, or a zero byte and 4 of an id"
    );
    let rows = show(&decoded.batch.rows);
    assert_eq!(rows.lines().collect::<std::collections::BTreeSet<_>>().len(), 1, "{rows}");
    assert_eq!(rows.lines().count(), 3);
}

#[test]
fn plain_json_has_no_frame_and_bare_keys() {
    let plain = |key: &[&str], shape| Layout {
        framing: Framing::None,
        ..layout(Format::Json, row_type(Format::Json, STATION), key, shape)
    };
    let mut decoder = Decoder::new(plain(&["station_id"], Shape::Table), STATION, None).expect("a decoder");
    let live = br#"{"station_id":"a","name":"n","bikes":1}"#;
    let records =
        [value(live), Record::new(Some(b"say \"b\""), None, 9), value(b"\0\0\0\0\x01{}"), Record::new(Some(b"\xff"), None, 9)];
    let decoded = decoder.decode(&records);
    insta::assert_snapshot!(show(&decoded.batch.rows), @r#"
    a | n | 1 | null | null | null | null | null
    say "b" | null | 0 | null | null | null | null | null
    "#);
    let codes_of: Vec<_> = decoded.bad.iter().map(|bad| (bad.record, bad.code)).collect();
    assert_eq!(codes_of, [(2, codes::NOT_JSON), (3, codes::INVALID_UTF8)]);
    let mut encoder = Encoder::new(plain(&["station_id"], Shape::Table), STATION, 1, Some(2)).expect("an encoder");
    let mut out = Encoded::default();
    encoder.encode(&decoded.batch, &mut out).expect("rows");
    let text = |bytes: Option<&[u8]>| bytes.map_or("nothing".into(), |bytes| String::from_utf8_lossy(bytes).into_owned());
    let written: Vec<String> =
        out.records.iter().map(|record| format!("{} -> {}", text(out.key(record)), text(out.value(record)))).collect();
    assert_eq!(written, [r#"a -> {"station_id":"a","name":"n","bikes":1}"#, r#"say "b" -> nothing"#]);
    let line = serde_json::json!({"station_id": "a", "name": "n", "bikes": 1});
    let mut lines =
        LineEncoder::new((Format::Json, Framing::None), STATION, &["station_id".into()], 1, Some(2)).expect("an encoder");
    let mut out = Encoded::default();
    lines.encode_line(&Line { value: Some(&line), key: None, timestamp: 1 }, &mut out).expect("a line");
    assert_eq!((text(out.key(&out.records[0])), text(out.value(&out.records[0]))), ("a".into(), line.to_string()));
    assert_eq!(format::plain_to_json(b"bare"), serde_json::json!("bare"));
}

#[test]
fn event_time_comes_from_its_column() {
    let columns = vec![Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true)];
    let row_type = Arc::new(RowType::new(columns));
    let layout = Layout {
        format: Format::Json,
        framing: Framing::Confluent,
        row_type,
        key: vec![],
        time_column: Some(0),
        shape: Shape::Stream,
    };
    let mut decoder = decoder(layout, "{}");
    let (early, none) = (framed(1, r#"{"at":"1969-12-31T23:59:59.999999Z"}"#), framed(1, r#"{"at":null}"#));
    let decoded = decoder.decode(&[value(&early), value(&none)]);
    assert_eq!(decoded.batch.times.as_ref(), [-1]);
    assert_eq!(bad(&decoded), "1 no_event_time: at: the event time is null");
}

#[test]
fn rows_become_json() {
    let columns = || {
        let place = StructArray::from(vec![
            (
                Arc::new(Field::new("street", DataType::Utf8, true)),
                Arc::new(StringArray::from(vec![Some("a\u{1}\"\\\n/é"), Some("")])) as ArrayRef,
            ),
            (Arc::new(Field::new("no", DataType::Int64, true)), Arc::new(Int64Array::from(vec![None, Some(-7)]))),
        ]);
        vec![
            ("bikes", Arc::new(Int64Array::from(vec![9_007_199_254_740_993, i64::MIN])) as ArrayRef, false),
            ("station_id", Arc::new(StringViewArray::from(vec!["a", "b"])), false),
            ("name", Arc::new(StringArray::from(vec![None, Some("n")])), true),
            ("lat", Arc::new(Float64Array::from(vec![Some(16.0), Some(1.4)])), true),
            ("open", Arc::new(BooleanArray::from(vec![Some(true), None])), true),
            ("place", Arc::new(place), true),
        ]
    };
    let layout = layout(Format::Json, row_type(Format::Json, STATION), &["station_id"], Shape::Table);
    let mut encoder = Encoder::new(layout, STATION, 1, Some(2)).expect("an encoder");
    let mut out = Encoded::default();
    let mut rows = batch(columns());
    encoder.encode(&rows, &mut out).expect("rows that can be written");
    // In the contract's order, whatever the batch's is; "name" is required and may be null, so it is written.
    assert_eq!(
        texts(&out),
        [
            r#"2:"a" 1:{"station_id":"a","name":null,"bikes":9007199254740993,"lat":16.0,"open":true,"place":{"street":"a\u0001\"\\\n/é"}} @0"#,
            r#"2:"b" 1:{"station_id":"b","name":"n","bikes":-9223372036854775808,"lat":1.4,"place":{"street":"","no":-7}} @1"#,
        ]
    );
    rows.deletes = Some(BooleanArray::from(vec![true, false]));
    encoder.encode(&rows, &mut out).expect("rows that can be written");
    assert_eq!(texts(&out)[0], r#"2:"a" - @0"#);

    let mut wrong = columns();
    wrong[3].1 = Arc::new(Float64Array::from(vec![f64::NAN, 0.1]));
    let refused = encoder.encode(&batch(wrong), &mut out).expect_err("a NaN");
    assert_eq!(refused, [Bad { record: 0, code: codes::NOT_FINITE, reason: "lat: NaN is no JSON number".into() }]);
    assert_eq!(
        texts(&out),
        [r#"2:"b" 1:{"station_id":"b","name":"n","bikes":-9223372036854775808,"lat":0.1,"place":{"street":"","no":-7}} @1"#]
    );
    assert_eq!(out.records[0].row, 1);

    let mut wrong = columns();
    wrong[0].1 = Arc::new(StringArray::from(vec!["1", "2"]));
    let refused = encoder.encode(&batch(wrong), &mut out).expect_err("a text");
    assert_eq!(refused.len(), 2);
    assert_eq!(refused[0].reason, "the schemas do not fit: column bikes: STRING can't be written as BIGINT");
}

#[test]
fn numbers_are_written_shortest() {
    let contract = r#"{"type":"object","properties":{"d":{"type":"number"},"f":{"type":"number"}}}"#;
    let columns = vec![Field::new("d", DataType::Float64, true), Field::new("f", DataType::Float32, true)];
    let mut encoder = Encoder::new(layout(Format::Json, Arc::new(RowType::new(columns)), &[], Shape::Stream), contract, 1, None)
        .expect("an encoder");
    let mut out = Encoded::default();
    let doubles = [1.4, 16.0, 0.1 + 0.2, 1e300, -0.0, 5e-324, 123_456_789.125];
    let floats = [1.4_f32, 16.0, 0.3, 1e30, -0.0, 1e-45, 0.1];
    let rows = batch(vec![
        ("d", Arc::new(Float64Array::from(doubles.to_vec())) as ArrayRef, true),
        ("f", Arc::new(Float32Array::from(floats.to_vec())), true),
    ]);
    encoder.encode(&rows, &mut out).expect("rows that can be written");
    let bodies: Vec<String> =
        texts(&out).iter().map(|t| t.trim_start_matches("- 1:").split(" @").next().expect("a body").to_owned()).collect();
    insta::assert_snapshot!(bodies.join("\n"), @r#"
    {"d":1.4,"f":1.4}
    {"d":16.0,"f":16.0}
    {"d":0.30000000000000004,"f":0.3}
    {"d":1e300,"f":1e30}
    {"d":-0.0,"f":-0.0}
    {"d":5e-324,"f":1e-45}
    {"d":123456789.125,"f":0.1}
    "#);
}

const ALL: &str = include_str!("format/all.avsc");
/// Two records of [`ALL`], as fastavro writes them.
const WRITTEN: [&str; 2] = [
    "010182808080808080200000c03f9a9999999999b9bf105a6fc3ab202231220400ff61626364020602020002d7040002026b0e0000000000000002400204696e00000278c6b10294ebe201feffbadd8305a2b78f94ac6201a0b78f94ac6204fb1e00000000075bcd15",
    "00feffffff0fffffffffffffffffff01000000809c7500883ce4377e0000000000000000000000000000000000000201020000000000000200ffffffffffffffff",
];

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

#[test]
fn avro_is_that_of_another_implementation() {
    let mut decoder = decoder(stream(Format::Avro, ALL), ALL);
    let bytes: Vec<Vec<u8>> = WRITTEN.iter().map(|text| framed(1, hex(text))).collect();
    let decoded = decoder.decode(&bytes.iter().map(|b| value(b)).collect::<Vec<_>>());
    assert_eq!(bad(&decoded), "");
    insta::assert_snapshot!(show(&decoded.batch.rows), @r#"
    true | -1 | 9007199254740993 | 1.5 | -0.1 | Zoë "1" | 00ff | 61626364 | HEARTS | [1, null, -300] | {k: 7} | {x: 2.25, t: in} | null | x | 2023-07-17 | 00:30:58.250 | 23:59:59.999999 | 2023-07-17T00:30:58.001Z | 1969-12-31T23:59:59.999999Z | 2023-07-17T00:30:58 | -12.50 | 123456.789
    false | 2147483647 | -9223372036854775808 | -0.0 | 1e300 |  |  | 00000000 | SPADES | [] | {} | {x: 0.0, t: null} | -1 | null | 1970-01-01 | 00:00:00 | 00:00:00 | 1970-01-01T00:00:00Z | 1970-01-01T00:00:00Z | 1970-01-01T00:00:00 | 0.00 | -0.001
    "#);
    let mut encoder = Encoder::new(stream(Format::Avro, ALL), ALL, 1, None).expect("an encoder");
    let mut out = Encoded::default();
    encoder.encode(&decoded.batch, &mut out).expect("rows that can be written");
    let written: Vec<Vec<u8>> = out.records.iter().filter_map(|r| out.value(r).map(<[u8]>::to_vec)).collect();
    assert_eq!(written, bytes);
    insta::assert_snapshot!(to_json(Format::Avro, Some(ALL.into()), &bytes[0][5..]).expect("a record"), @r#"{"b":true,"i":-1,"l":9007199254740993,"f":1.5,"d":-0.1,"s":"Zoë \"1\"","by":"AP8=","fx":"YWJjZA==","e":"HEARTS","a":[1,null,-300],"m":{"k":7},"r":{"x":2.25,"t":"in"},"n":null,"u":"x","day":"2023-07-17","tm":"00:30:58.250","tu":"23:59:59.999999","ts":"2023-07-17T00:30:58.001Z","tsu":"1969-12-31T23:59:59.999999Z","lt":"2023-07-17T00:30:58","dec":"-12.50","decf":"123456.789"}"#);
}

/// The bytes of an Avro record, written by hand: longs, texts and the indexes of branches.
struct Bytes(Vec<u8>);

impl Bytes {
    fn new() -> Self {
        Bytes(vec![0, 0, 0, 0, 1])
    }

    fn long(mut self, value: i64) -> Self {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
        self
    }

    fn text(self, text: &str) -> Self {
        let mut out = self.long(text.len() as i64);
        out.0.extend_from_slice(text.as_bytes());
        out
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

#[test]
fn poisoned_avro_leaves_its_neighbours_alone() {
    let contract = record(
        r#"{"name":"s","type":"string"},{"name":"n","type":["null","long"]},{"name":"i","type":"int"},{"name":"a","type":{"type":"array","items":"string"}},
           {"name":"e","type":{"type":"enum","name":"E","symbols":["X","Y"]}},{"name":"b","type":"boolean"}"#,
    );
    let good = |n: i64| Bytes::new().text(&format!("s{n}")).long(1).long(n).long(7).long(1).text("t").long(0).long(1).raw(&[1]);
    let to_array = || Bytes::new().text("s").long(0).long(7);
    let poison: Vec<(Vec<u8>, &str)> = vec![
        (vec![], codes::NOT_FRAMED),
        (vec![0], codes::NOT_FRAMED),
        (good(1).0[5..].to_vec(), codes::NOT_FRAMED),
        (Bytes::new().0, codes::TRUNCATED),
        (good(1).0[..9].to_vec(), codes::TRUNCATED),
        (good(1).raw(b"x").0, codes::TRAILING_BYTES),
        (Bytes::new().long(i64::MAX).0, codes::TRUNCATED),
        (Bytes::new().long(-1).0, codes::MALFORMED),
        (Bytes::new().raw(&[0xff; 12]).0, codes::MALFORMED),
        (Bytes::new().long(2).raw(&[0xc3, 0x28]).0, codes::INVALID_UTF8),
        (Bytes::new().text("s").long(2).long(7).0, codes::MALFORMED),
        (Bytes::new().text("s").long(-1).0, codes::MALFORMED),
        (Bytes::new().text("s").long(0).long(1 << 31).0, codes::MALFORMED),
        (to_array().long(1 << 40).0, codes::TOO_LARGE),
        (to_array().long(i64::MIN).0, codes::MALFORMED),
        (to_array().long(-1).long(-5).0, codes::MALFORMED),
        (to_array().long(-1).long(2).text("t").long(0).long(2).raw(&[1]).0, codes::MALFORMED),
        (to_array().long(0).long(1).raw(&[2]).0, codes::MALFORMED),
        (Bytes::new().raw(&vec![0; MAX_RECORD + 1]).0, codes::TOO_LARGE),
        (framed(404, b""), codes::UNKNOWN_SCHEMA),
        (framed(2, b"\x02"), codes::INCOMPATIBLE_SCHEMA),
        (framed(3, b"\x02"), codes::INCOMPATIBLE_SCHEMA),
    ];
    let mut bytes: Vec<Vec<u8>> = Vec::new();
    for (n, (poison, _)) in (0..).zip(&poison) {
        bytes.push(good(n).0);
        bytes.push(poison.clone());
    }
    // The same array in two blocks, one of them with its size before it.
    bytes.push(to_array().long(-1).long(2).text("u").long(1).text("v").long(0).long(0).raw(&[0]).0);
    let records: Vec<Record<'_>> = bytes.iter().map(|b| value(b)).collect();
    let mut decoder = decoder(stream(Format::Avro, &contract), &contract);
    decoder.refuse_schema(404, "the registry does not know it");
    decoder.add_schema(2, r#""int""#).expect("a schema");
    assert!(decoder.add_schema(3, "{").is_err());
    let decoded = decoder.decode(&records);

    let found: Vec<(u32, &str)> = decoded.bad.iter().map(|b| (b.record, b.code)).collect();
    let expected: Vec<(u32, &str)> = poison.iter().enumerate().map(|(n, (_, code))| (2 * n as u32 + 1, *code)).collect();
    assert_eq!(found, expected, "{}", bad(&decoded));
    let mut lines: Vec<String> = (0..poison.len()).map(|n| format!("s{n} | {n} | 7 | [t] | Y | true")).collect();
    lines.push("s | null | 7 | [u, v] | X | false".into());
    assert_eq!(show(&decoded.batch.rows), lines.join("\n"));
}

#[test]
fn hostile_avro_costs_no_time_and_no_memory() {
    // Items without bytes, a list that goes on for ever, records that double at each level: all in fields not wanted.
    let doubling: String = (1..24).rev().fold(r#"{"type":"record","name":"D24","fields":[]}"#.into(), |inner, n| {
        format!(
            r#"{{"type":"record","name":"D{n}","fields":[{{"name":"a","type":{inner}}},{{"name":"b","type":"D{}"}}]}}"#,
            n + 1
        )
    });
    let writer = |of: &str| record(&format!(r#"{{"name":"x","type":{of}}},{{"name":"s","type":"string"}}"#));
    let contract = record(r#"{"name":"s","type":"string"}"#);
    let mut decoder = decoder(stream(Format::Avro, &contract), &contract);
    decoder.add_schema(2, &writer(r#"{"type":"array","items":{"type":"array","items":"null"}}"#)).expect("a schema");
    decoder
        .add_schema(3, &writer(r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#))
        .expect("a schema");
    decoder.add_schema(4, &writer(&doubling)).expect("a schema");
    let nulls = Bytes(vec![0, 0, 0, 0, 2]).long(1 << 62).0;
    let nested =
        (0..10_000).fold(Bytes(vec![0, 0, 0, 0, 2]).long(10_000), |bytes, _| bytes.long(60_000).long(0)).long(0).text("s").0;
    let long = (0..1_000_000).fold(Bytes(vec![0, 0, 0, 0, 3]), |bytes, _| bytes.long(1)).0;
    let short = (0..50).fold(Bytes(vec![0, 0, 0, 0, 3]), |bytes, _| bytes.long(1)).long(0).text("fine").0;
    let doubled = Bytes(vec![0, 0, 0, 0, 4]).text("s").0;
    let decoded = decoder.decode(&[value(&nulls), value(&nested), value(&long), value(&short), value(&doubled)]);
    assert_eq!(
        decoded.bad.iter().map(|b| (b.record, b.code)).collect::<Vec<_>>(),
        [(0, codes::TOO_LARGE), (1, codes::TOO_LARGE), (2, codes::TOO_DEEP), (4, codes::TOO_LARGE)]
    );
    assert_eq!(show(&decoded.batch.rows), "fine");
    assert!(to_json(Format::Avro, Some(writer(&doubling).as_str().into()), &doubled[5..]).is_err());
    assert!(matches!(
        to_json(
            Format::Avro,
            Some(writer(r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#).as_str().into()),
            &long[5..]
        ),
        Err(FormatError::Record { code: codes::TOO_DEEP, .. })
    ));
}

#[test]
fn avro_written_with_another_schema_is_resolved() {
    let contract = record(
        r#"{"name":"id","type":"string"},{"name":"n","type":["null","long"]},{"name":"price","type":"double","aliases":["cost"]},
           {"name":"added","type":["null","string"],"default":null},{"name":"level","type":"int","default":3},
           {"name":"tags","type":{"type":"array","items":"string"},"default":["new"]},
           {"name":"suit","type":{"type":"enum","name":"Suit","symbols":["OTHER","HEARTS"],"default":"OTHER"}},
           {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
           {"name":"in","type":{"type":"record","name":"In","fields":[{"name":"a","type":"float"},{"name":"b","type":"string","default":"-"}]}}"#,
    );
    // Removed: gone, more. Promoted: n, price, at, in.a. Renamed: cost. Without: added, level, tags, in.b.
    let writer = record(
        r#"{"name":"gone","type":{"type":"map","values":["null",{"type":"array","items":"double"}]}},{"name":"cost","type":"int"},{"name":"n","type":"int"},
           {"name":"suit","type":{"type":"enum","name":"Suit","symbols":["SPADES","HEARTS"]}},{"name":"id","type":"bytes"},
           {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
           {"name":"in","type":{"type":"record","name":"In","fields":[{"name":"more","type":{"type":"fixed","name":"F","size":2}},{"name":"a","type":"long"}]}}"#,
    );
    let mut decoder = decoder(stream(Format::Avro, &contract), &contract);
    decoder.add_schema(2, &writer).expect("a schema");
    let old = |id: &str, suit| {
        let gone = Bytes(vec![0, 0, 0, 0, 2]).long(1).text("k").long(1).long(1).raw(&1.5_f64.to_le_bytes()).long(0).long(0);
        gone.long(12).long(-5).long(suit).text(id).long(1_689_553_858_001).raw(b"zz").long(1 << 24).0
    };
    let new = Bytes::new().text("c").long(0).raw(&2.5_f64.to_le_bytes()).long(1).text("x").long(9).long(0).long(1).long(-1);
    let new = new.raw(&0.5_f32.to_le_bytes()).text("y").0;
    let decoded = decoder.decode(&[value(&old("a", 1)), value(&new), value(&old("b", 0))]);
    assert_eq!(bad(&decoded), "");
    insta::assert_snapshot!(show(&decoded.batch.rows), @r#"
    a | -5 | 12.0 | null | 3 | [new] | HEARTS | 2023-07-17T00:30:58.001Z | {a: 16777216.0, b: -}
    c | null | 2.5 | x | 9 | [] | HEARTS | 1969-12-31T23:59:59.999999Z | {a: 0.5, b: y}
    b | -5 | 12.0 | null | 3 | [new] | OTHER | 2023-07-17T00:30:58.001Z | {a: 16777216.0, b: -}
    "#);
}

#[test]
fn avro_that_does_not_fit_says_why() {
    let contract = record(
        r#"{"name":"id","type":"string"},{"name":"n","type":"int"},{"name":"d","type":["null",{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}]}"#,
    );
    let why = |fields: &str, body: Bytes| {
        let mut decoder = decoder(stream(Format::Avro, &contract), &contract);
        decoder.add_schema(1, &record(fields)).expect("a schema");
        bad(&decoder.decode(&[value(&body.0)]))
    };
    let cases = [
        why(r#"{"name":"id","type":"string"}"#, Bytes::new().text("a")),
        why(
            r#"{"name":"id","type":"string"},{"name":"n","type":"long"},{"name":"d","type":"null"}"#,
            Bytes::new().text("a").long(1),
        ),
        why(
            r#"{"name":"id","type":["int","string"]},{"name":"n","type":"int"},{"name":"d","type":"null"}"#,
            Bytes::new().long(0).long(1).long(1),
        ),
        why(
            r#"{"name":"id","type":["null","string"]},{"name":"n","type":"int"},{"name":"d","type":"null"}"#,
            Bytes::new().long(0).long(1),
        ),
        why(
            r#"{"name":"id","type":"string"},{"name":"n","type":"int"},{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":3}}"#,
            Bytes::new().text("a").long(1).long(0),
        ),
        why(
            r#"{"name":"id","type":"string"},{"name":"n","type":"int"},{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}"#,
            Bytes::new().text("a").long(1).long(3).raw(&[1, 0, 0]),
        ),
    ];
    insta::assert_snapshot!(cases.join("\n"), @r#"
    0 incompatible_schema: field "n" is missing from the writer's schema and has no default
    0 incompatible_schema: field "n": long can't be read as int
    0 incompatible_schema: id: int can't be read as string
    0 incompatible_schema: id: null can't be read as string
    0 incompatible_schema: field "d": decimals of another scale
    0 out_of_range: d: 65536 has more than 4 digits
    "#);
}

#[test]
fn avro_keys_are_bare_or_records() {
    let contract = record(r#"{"name":"a","type":["null","string"]},{"name":"v","type":"long"},{"name":"b","type":"int"}"#);
    for (key, id, key_schema, bytes) in [
        (vec!["a"], 2, r#""string""#.to_owned(), vec![2, b'x']),
        (vec!["b", "a"], 2, record(r#"{"name":"b","type":"int"},{"name":"a","type":"string"}"#), vec![14, 2, b'x']),
    ] {
        let layout = layout(Format::Avro, row_type(Format::Avro, &contract), &key, Shape::Table);
        let mut encoder = Encoder::new(layout.clone(), &contract, 1, Some(id)).expect("an encoder");
        let mut rows = batch(vec![
            ("b", Arc::new(Int32Array::from(vec![7, 7])) as ArrayRef, false),
            ("a", Arc::new(StringArray::from(vec![Some("x"), None])), true),
            ("v", Arc::new(Int64Array::from(vec![1, 1])), false),
        ]);
        rows.deletes = Some(BooleanArray::from(vec![true, true]));
        let mut out = Encoded::default();
        let refused = encoder.encode(&rows, &mut out).expect_err("a null key");
        assert_eq!(refused, [Bad { record: 1, code: codes::BAD_KEY, reason: "a: null in a key column of a table".into() }]);
        assert_eq!(out.key(&out.records[0]), Some(framed(id, bytes).as_slice()));

        let mut decoder = Decoder::new(layout, &contract, Some(&key_schema)).expect("a decoder");
        let delete = [Record::new(out.key(&out.records[0]), None, 3)];
        assert_eq!(decoder.decode(&delete).missing, [SchemaId::Id(id)]);
        decoder.add_schema(id, &key_schema).expect("a schema");
        let decoded = decoder.decode(&delete);
        assert_eq!(bad(&decoded), "");
        assert_eq!(show(&decoded.batch.rows), if key.len() == 1 { "x | 0 | 0" } else { "x | 0 | 7" });
        assert!(decoded.batch.is_delete(0));
    }
}

#[test]
fn a_missing_schema_is_asked_for_and_nothing_else_happens() {
    let mut decoder = decoder(stream(Format::Json, STATION), STATION);
    let good = r#"{"station_id":"a","name":"n","bikes":1}"#;
    let (known, unknown, bad_one) = (framed(1, good), framed(8, good), framed(1, "{"));
    let records = [value(&known), value(&unknown), value(&bad_one), value(&unknown)];
    let decoded = decoder.decode(&records);
    assert_eq!(
        (decoded.missing.as_slice(), decoded.records.len(), decoded.bad.len(), decoded.batch.len()),
        ([SchemaId::Id(8)].as_slice(), 0, 0, 0)
    );
    decoder.add_schema(8, STATION).expect("a schema");
    let decoded = decoder.decode(&records);
    assert_eq!((decoded.records.as_slice(), decoded.bad.len()), ([0, 1, 3].as_slice(), 1));
}

#[test]
fn what_can_not_be_carried_is_refused_at_once() {
    let odd =
        |data_type| layout(Format::Json, Arc::new(RowType::new(vec![Field::new("c", data_type, true)])), &[], Shape::Stream);
    let error = |layout: Layout| Decoder::new(layout, "{}", None).err().map(|e| e.to_string());
    assert_eq!(
        error(odd(DataType::Interval(arrow::datatypes::IntervalUnit::DayTime))).as_deref(),
        Some("column c has the type INTERVAL, which records can't carry")
    );
    let avro = |contract: &str| {
        Decoder::new(stream(Format::Avro, &record(r#"{"name":"c","type":"string"}"#)), contract, None)
            .err()
            .map(|e| e.to_string())
    };
    assert_eq!(avro(&record("")).as_deref(), Some("the schemas do not fit: the contract has no field \"c\""));
    assert_eq!(avro(r#""nope""#).as_deref(), Some("the schema can't be read: unknown type \"nope\""));
}

#[test]
fn lines_become_records() {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let mut encoder =
        LineEncoder::new((Format::Json, Framing::Confluent), STATION, &["station_id".into()], 1, Some(2)).expect("an encoder");
    let mut out = Encoded::default();
    let mut add = |value: Option<&str>, key: Option<&str>| {
        let (value, key) = (value.map(json), key.map(json));
        let line = Line { value: value.as_ref(), key: key.as_ref(), timestamp: 4 };
        encoder.encode_line(&line, &mut out).err().map_or_else(|| "fine".to_owned(), |error| error.to_string())
    };
    let good = r#"{"station_id":"a","name":null,"bikes":9007199254740993,"lat":16.0}"#;
    let outcomes = [
        add(Some(good), None),
        add(Some(good), Some("\"a\"")),
        add(Some(good), Some("\"b\"")),
        add(None, Some("\"a\"")),
        add(Some("null"), Some("\"a\"")),
        add(None, None),
        add(None, Some("{\"station_id\":\"a\"}")),
        add(Some(r#"{"station_id":"a","name":null,"bikes":"many","more":1}"#), None),
        add(Some("[]"), None),
    ];
    insta::assert_snapshot!(outcomes.join("\n"), @r#"
    fine
    fine
    the line's key is not what its value has in station_id
    fine
    fine
    a delete needs a key
    the line's key is the bare value of station_id
    /bikes: value is not of type "integer"; Additional properties are not allowed ('more' was unexpected)
    value is not of type "object"
    "#);
    assert_eq!(
        texts(&out),
        [&format!(r#"2:"a" 1:{good} @4"#), &format!(r#"2:"a" 1:{good} @4"#), r#"2:"a" - @4"#, r#"2:"a" - @4"#]
    );
}

#[test]
fn lines_become_avro() {
    let mut encoder =
        LineEncoder::new((Format::Avro, Framing::Confluent), ALL, &["e".into(), "n".into()], 1, Some(2)).expect("an encoder");
    let mut out = Encoded::default();
    // The record as it is shown is a line that gives the same record again.
    let shown = to_json(Format::Avro, Some(ALL.into()), &hex(WRITTEN[1])).expect("a record");
    encoder.encode_line(&Line { value: Some(&shown), key: None, timestamp: 0 }, &mut out).expect("a record");
    assert_eq!(out.value(&out.records[0]), Some(framed(1, hex(WRITTEN[1])).as_slice()));
    assert_eq!(out.key(&out.records[0]), Some(framed(2, [0, 1]).as_slice()));
    let mut refuse = |field: &str, value: serde_json::Value| {
        let mut line = shown.clone();
        line[field] = value;
        encoder
            .encode_line(&Line { value: Some(&line), key: None, timestamp: 0 }, &mut out)
            .expect_err("a wrong value")
            .to_string()
    };
    let reasons = [
        refuse("i", 2_147_483_648_i64.into()),
        refuse("l", 1.5.into()),
        refuse("s", serde_json::Value::Null),
        refuse("e", "CLUBS".into()),
        refuse("a", serde_json::json!([1, "x"])),
        refuse("ts", "yesterday".into()),
        refuse("dec", "1.005".into()),
        refuse("fx", "YWI=".into()),
        refuse("more", 1.into()),
        refuse("n", serde_json::Value::Null),
    ];
    insta::assert_snapshot!(reasons.join("\n"), @r#"
    i: 2147483648 does not fit into 4 bytes
    l: an integer is expected, found 1.5
    s: string is expected, found null
    key: "CLUBS" is no symbol of enum Suit
    a[1]: an integer is expected, found "x"
    ts: a date-time with an offset is expected, found "yesterday"
    dec: "1.005" is not a decimal number of the contract's precision that the field can hold
    fx: 4 bytes are expected, found 2
    more: the contract has no such field
    the value has nothing in e, n, which form the key
    "#);
    assert_eq!(out.records.len(), 1);
}

/// A row of every type that both formats have.
#[derive(Debug, Clone)]
struct Row {
    text: String,
    bool: Option<bool>,
    int: Option<i32>,
    long: i64,
    float: f32,
    double: Option<f64>,
    bytes: Option<Vec<u8>>,
    date: i32,
    at: Option<i64>,
    decimal: i128,
    list: Option<Vec<Option<String>>>,
    map: std::collections::BTreeMap<String, i64>,
    inner: Option<(i64, Option<String>)>,
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let finite = |f: &f64| f.is_finite();
    let plain = (
        any::<String>(),
        any::<Option<bool>>(),
        any::<Option<i32>>(),
        any::<i64>(),
        any::<f32>().prop_filter("finite", |f| f.is_finite()),
        proptest::option::of(any::<f64>().prop_filter("finite", finite)),
        any::<Option<Vec<u8>>>(),
        -719_528..2_932_896_i32,
        proptest::option::of(-62_167_219_200_000..253_402_300_799_999_i64),
        -99_999_999_999_999_999_999_i128..=99_999_999_999_999_999_999,
    );
    let nested = (
        any::<Option<Vec<Option<String>>>>(),
        proptest::collection::btree_map(any::<String>(), any::<i64>(), 0..4),
        any::<Option<(i64, Option<String>)>>(),
    );
    let row =
        (plain, nested).prop_map(|((text, bool, int, long, float, double, bytes, date, at, decimal), (list, map, inner))| Row {
            text,
            bool,
            int,
            long,
            float,
            double,
            bytes,
            date,
            at,
            decimal,
            list,
            map,
            inner,
        });
    proptest::collection::vec(row, 0..20)
}

fn columns_of(rows: &[Row]) -> Batch {
    let mut bytes = BinaryBuilder::new();
    let mut list = ListBuilder::new(StringBuilder::new());
    let names = arrow::array::MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut map = MapBuilder::new(Some(names), StringBuilder::new(), arrow::array::Int64Builder::new())
        .with_values_field(Field::new("value", DataType::Int64, false));
    for row in rows {
        bytes.append_option(row.bytes.as_ref());
        match &row.list {
            Some(items) => list.append_value(items.iter().map(Option::as_deref)),
            None => list.append_null(),
        }
        for (key, value) in &row.map {
            map.keys().append_value(key);
            map.values().append_value(*value);
        }
        map.append(true).expect("a map");
    }
    let fields = Fields::from(vec![Field::new("x", DataType::Int64, false), Field::new("y", DataType::Utf8, true)]);
    let inner = StructArray::new(
        fields,
        vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.inner.as_ref().map_or(0, |i| i.0)))) as ArrayRef,
            Arc::new(rows.iter().map(|row| row.inner.as_ref().and_then(|i| i.1.clone())).collect::<StringArray>()),
        ],
        Some(rows.iter().map(|row| row.inner.is_some()).collect::<Vec<_>>().into()),
    );
    let decimals =
        Decimal128Array::from_iter_values(rows.iter().map(|row| row.decimal)).with_precision_and_scale(20, 4).expect("decimals");
    batch(vec![
        ("text", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.text))) as ArrayRef, false),
        ("bool", Arc::new(rows.iter().map(|row| row.bool).collect::<BooleanArray>()), true),
        ("int", Arc::new(rows.iter().map(|row| row.int).collect::<Int32Array>()), true),
        ("long", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.long))), false),
        ("float", Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.float))), false),
        ("double", Arc::new(rows.iter().map(|row| row.double).collect::<Float64Array>()), true),
        ("bytes", Arc::new(bytes.finish()), true),
        ("date", Arc::new(Date32Array::from_iter_values(rows.iter().map(|row| row.date))), false),
        ("at", Arc::new(rows.iter().map(|row| row.at).collect::<TimestampMillisecondArray>().with_timezone("UTC")), true),
        ("decimal", Arc::new(decimals), false),
        ("list", Arc::new(list.finish()), true),
        ("map", Arc::new(map.finish()), false),
        ("inner", Arc::new(inner), true),
    ])
}

fn there_and_back(format: Format, rows: &Batch, slices: bool) -> RecordBatch {
    let row_type = rows.rows.schema();
    let contract = schema::from_row_type(format, "all", &row_type).expect("a contract");
    let layout = layout(format, row_type, &["text"], Shape::Stream);
    let mut encoder = Encoder::new(layout.clone(), &contract, 1, Some(1)).expect("an encoder");
    let mut decoder = decoder(layout, &contract);
    let middle = rows.len() / 2;
    let parts = if slices { vec![(0, middle), (middle, rows.len() - middle)] } else { vec![(0, rows.len())] };
    let mut back = Vec::new();
    for (start, len) in parts {
        let mut out = Encoded::default();
        let part = Batch::inserts(rows.rows.slice(start, len), rows.times.slice(start, len));
        encoder.encode(&part, &mut out).expect("rows that can be written");
        let records: Vec<Record<'_>> = out.records.iter().map(|r| Record::new(out.key(r), out.value(r), r.timestamp)).collect();
        let decoded = decoder.decode(&records);
        assert_eq!(bad(&decoded), "");
        assert_eq!(decoded.batch.times, part.times);
        back.push(decoded.batch.rows);
    }
    arrow::compute::concat_batches(&rows.rows.schema(), &back).expect("one batch")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_row_survives_both_formats(rows in rows(), slices: bool) {
        let rows = columns_of(&rows);
        prop_assert_eq!(&there_and_back(Format::Json, &rows, slices), &rows.rows);
        prop_assert_eq!(&there_and_back(Format::Avro, &rows, slices), &rows.rows);
    }

    #[test]
    fn any_bytes_are_a_row_or_bad_and_their_neighbours_are_fine(body: Vec<u8>, cut in 0_usize..200, flip in 0_usize..200) {
        for (format, contract, good) in [
            (Format::Json, STATION, framed(1, r#"{"station_id":"a","name":"n","bikes":1,"tags":["x"],"docks":{"n":1}}"#)),
            (Format::Avro, ALL, framed(1, hex(WRITTEN[0]))),
        ] {
            let mut flipped = good.clone();
            let at = 5 + flip % (flipped.len() - 5);
            flipped[at] ^= 1 << (cut % 8);
            let cut = good[..cut.min(good.len() - 1)].to_vec();
            let random = framed(1, &body);
            let records = [&good, &random, &good, &cut, &flipped, &good].map(|bytes| value(bytes));
            let mut decoder = decoder(stream(format, contract), contract);
            let decoded = decoder.decode(&records);
            prop_assert_eq!(decoded.records.len() + decoded.bad.len(), records.len());
            prop_assert!(decoded.bad.iter().any(|b| b.record == 3));
            let shown = show(&decoded.batch.rows);
            let lines: Vec<&str> = shown.lines().collect();
            for record in [0, 2, 5] {
                prop_assert!(decoded.records.contains(&record), "{}", bad(&decoded));
            }
            prop_assert_eq!(lines.first(), lines.last());
            let _ = to_json(format, Some(contract.into()), &random);
        }
    }
}

#[test]
fn a_query_result_is_written_in_the_contracts_types() {
    let contract = record(
        r#"{"name":"n","type":"long"},{"name":"s","type":{"type":"record","name":"S","fields":[{"name":"b","type":"double"},{"name":"a","type":["null","string"]}]}}"#,
    );
    let inner = StructArray::from(vec![
        (Arc::new(Field::new("a", DataType::Utf8View, true)), Arc::new(StringViewArray::from(vec!["x"])) as ArrayRef),
        (Arc::new(Field::new("b", DataType::Int32, true)), Arc::new(Int32Array::from(vec![2])) as ArrayRef),
    ]);
    let rows = batch(vec![("s", Arc::new(inner), true), ("n", Arc::new(Int32Array::from(vec![1])), true)]);
    let mut encoder = Encoder::new(stream(Format::Avro, &contract), &contract, 1, None).expect("an encoder");
    let mut out = Encoded::default();
    encoder.encode(&rows, &mut out).expect("rows that can be written");
    assert_eq!(out.value(&out.records[0]), Some(Bytes::new().long(1).raw(&2.0_f64.to_le_bytes()).long(1).text("x").0.as_slice()));

    // JSON has texts for times, and an open contract takes more columns.
    let contract =
        r#"{"type":"object","properties":{"at":{"type":"string","format":"date-time"},"n":{"type":"number"}},"required":["at"]}"#;
    let rows = batch(vec![
        ("more", Arc::new(StringViewArray::from(vec!["x"])) as ArrayRef, true),
        ("n", Arc::new(Int64Array::from(vec![9_007_199_254_740_993])), true),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![1_689_553_858_001]).with_timezone("UTC")), true),
    ]);
    let mut encoder = Encoder::new(stream(Format::Json, contract), contract, 1, None).expect("an encoder");
    encoder.encode(&rows, &mut out).expect("rows that can be written");
    assert_eq!(texts(&out), [r#"- 1:{"at":"2023-07-17T00:30:58.001Z","n":9007199254740993,"more":"x"} @0"#]);
}

#[test]
fn a_long_column_keeps_every_bit_in_json() {
    let contract = r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#;
    let mut decoder = decoder(stream(Format::Json, contract), contract);
    let numbers: Vec<i64> = vec![0, -1, 1, i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1, 999_999_999_999_999_999];
    let bytes: Vec<Vec<u8>> = numbers.iter().map(|n| framed(1, format!(r#"{{"n":{n}}}"#))).collect();
    let decoded = decoder.decode(&bytes.iter().map(|b| value(b)).collect::<Vec<_>>());
    assert_eq!(decoded.batch.rows.column(0).as_primitive::<Int64Type>().values().as_ref(), numbers.as_slice());
}
