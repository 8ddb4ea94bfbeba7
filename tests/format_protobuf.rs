//! Protobuf's bytes to rows and back: values pinned against bytes written by another implementation (Python's protobuf
//! 6), poisoned records, schemas that evolve, keys and deletes, and round trips.

#![allow(clippy::expect_used)]

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use mesh::engine::batch::Batch;
use mesh::format::{self, Decoded, Decoder, Encoded, Encoder, Layout, Line, LineEncoder, Record, frame};
use mesh::model::product::{Format, Framing, Shape};
use mesh::model::row::RowType;
use mesh::schema;
use proptest::prelude::*;

const ALL: &str = r#"syntax = "proto3";
package t;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message All {
  int32 i = 1; sint64 z = 2; uint32 u = 3; fixed64 f8 = 4; sfixed32 f4 = 5; double d = 6; float f = 7; bool b = 8;
  string s = 9; bytes raw = 10; Color c = 11; optional int64 o = 12; google.protobuf.Timestamp at = 13;
  google.protobuf.StringValue w = 14; repeated int32 ns = 15; repeated string ss = 16; map<string, Inner> m = 17; Inner n = 18;
  oneof pick { string card = 19; int64 iban = 20; } repeated Inner many = 21; repeated Color cs = 22; uint64 big = 23;
  repeated double ds = 24 [packed = false];
  message Inner { bool x = 1; optional string y = 2; }
  enum Color { RED = 0; BLUE = 5; DEEP = -1; }
}
message Other { string a = 1; }"#;

/// What Python writes of a record that has a value in each field but `iban`.
const WRITTEN: &str = "08f9ffffffffffffffff0110051880d0acf30e2101000000000000002dfeffffff31000000000000f83f3d000080be40014a02c3a9520200ff580560006a0b08d7f181af061080e59a7772007a0d01ffffffffffffffffff01ac02820101618201008a01070a016b120208019201041202696e9a010476697361aa01020801aa0100b2010c05ffffffffffffffffff0100b801ffffffffffffffffff01c101000000000000e03fc1010000000000000040";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hex")).collect()
}

/// A frame with the indexes of a message before its bytes.
fn framed(id: i32, indexes: &str, hex: &str) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(id, &mut out);
    out.extend(bytes(indexes));
    out.extend(bytes(hex));
    out
}

fn value(bytes: &[u8]) -> Record<'_> {
    Record::new(None, Some(bytes), 1_000)
}

fn layout(contract: &str, key: &[&str], shape: Shape) -> Layout {
    let row_type = Arc::new(schema::parse(Format::Protobuf, contract, &[]).expect("a schema").columns().row_type);
    let key = key.iter().map(|name| row_type.index_of(name).expect("a key column")).collect();
    Layout { format: Format::Protobuf, framing: Framing::Confluent, row_type, key, time_column: None, shape }
}

/// A decoder that knows its contract as schema 1.
fn decoder(layout: Layout, contract: &str) -> Decoder {
    let mut decoder = Decoder::new(layout, contract, None).expect("a decoder");
    decoder.add_schema(1, contract).expect("a schema");
    decoder
}

fn stream(contract: &str) -> Decoder {
    decoder(layout(contract, &[], Shape::Stream), contract)
}

/// Rows as text, a line each.
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

/// The bodies of encoded values, as hexadecimal digits.
fn values(encoded: &Encoded) -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    encoded.records.iter().map(|record| encoded.value(record).map_or("-".into(), hex)).collect()
}

#[test]
fn values_of_another_implementation() {
    let mut decoder = stream(ALL);
    let written = framed(1, "00", WRITTEN);
    let empty = framed(1, "00", "");
    let decoded = decoder.decode(&[value(&written), value(&empty)]);
    assert_eq!(bad(&decoded), "");
    insta::assert_snapshot!(show(&decoded.batch.rows), @"
    -7 | -3 | 4000000000 | 1 | -2 | 1.5 | -0.25 | true | é | 00ff | BLUE | 0 | 2024-02-29T12:30:15.250Z |  | [1, -1, 300] | [a, ] | {k: {x: true, y: null}} | {x: false, y: in} | visa | null | [{x: true, y: null}, {x: false, y: null}] | [BLUE, DEEP, RED] | 18446744073709551615 | [0.5, 2.0]
    0 | 0 | 0 | 0 | 0 | 0.0 | 0.0 | false |  |  | RED | null | null | null | [] | [] | {} | null | null | null | [] | [] | 0 | []
    ");
    let mut encoder = Encoder::new(layout(ALL, &[], Shape::Stream), ALL, 1, None).expect("an encoder");
    let mut encoded = Encoded::default();
    encoder.encode(&decoded.batch, &mut encoded).expect("encoded");
    // Python writes fields in the order of their numbers, too.
    assert_eq!(values(&encoded), [format!("000000000100{WRITTEN}"), "000000000100".to_owned()]);
}

/// A record as it is shown is a line that gives the same record again.
#[test]
fn records_are_shown_and_lines_become_records() {
    let shown = format::to_json(Format::Protobuf, Some(ALL.into()), &[bytes("00"), bytes(WRITTEN)].concat()).expect("a record");
    insta::assert_snapshot!(shown, @r#"{"i":-7,"z":-3,"u":4000000000,"f8":1,"f4":-2,"d":1.5,"f":-0.25,"b":true,"s":"é","raw":"AP8=","c":"BLUE","o":0,"at":"2024-02-29T12:30:15.250000Z","w":"","ns":[1,-1,300],"ss":["a",""],"m":{"k":{"x":true}},"n":{"x":false,"y":"in"},"card":"visa","many":[{"x":true},{"x":false}],"cs":["BLUE","DEEP","RED"],"big":18446744073709551615,"ds":[0.5,2.0]}"#);
    let mut lines = LineEncoder::new((Format::Protobuf, Framing::Confluent), ALL, &["s".into()], 1, Some(2)).expect("an encoder");
    let mut out = Encoded::default();
    lines.encode_line(&Line { value: Some(&shown), key: None, timestamp: 9 }, &mut out).expect("a line");
    let key = serde_json::json!("é");
    lines.encode_line(&Line { value: None, key: Some(&key), timestamp: 9 }, &mut out).expect("a delete");
    assert_eq!(values(&out), [format!("000000000100{WRITTEN}"), "-".to_owned()]);
    let keyed = framed(2, "00", "0a02c3a9");
    assert_eq!(out.records.iter().map(|record| out.key(record)).collect::<Vec<_>>(), [Some(&*keyed), Some(&*keyed)]);
    let mut refuse = |field: &str, value: serde_json::Value| {
        let mut line = shown.clone();
        line[field] = value;
        lines.encode_line(&Line { value: Some(&line), key: None, timestamp: 0 }, &mut out).expect_err("a wrong value").to_string()
    };
    let reasons = [
        refuse("i", 2_147_483_648_i64.into()),
        refuse("c", "GREEN".into()),
        refuse("at", "yesterday".into()),
        refuse("n", serde_json::json!({"x": true, "y": null, "z": 1})),
        refuse("more", 1.into()),
        refuse("s", serde_json::Value::Null),
    ];
    insta::assert_snapshot!(reasons.join("\n"), @r#"
    i: 2147483648 does not fit into 4 bytes
    c: "GREEN" is no value of the contract's enum
    /at: value is not a "date-time"
    /n: Additional properties are not allowed ('z' was unexpected)
    Additional properties are not allowed ('more' was unexpected)
    the value has nothing in s, which form the key
    "#);
    assert_eq!(out.records.len(), 2);
    let other = format::to_json(Format::Protobuf, Some(ALL.into()), &bytes("020200")).expect_err("another message").to_string();
    insta::assert_snapshot!(other, @"the record is a Other, and the contract's message is All");
}

#[test]
fn columns_of_a_query_only() {
    let mut layout = layout(ALL, &[], Shape::Stream);
    layout.row_type = Arc::new(layout.row_type.project(&[17, 8]).expect("columns"));
    let mut decoder = decoder(layout, ALL);
    let written = framed(1, "00", WRITTEN);
    assert_eq!(show(&decoder.decode(&[value(&written)]).batch.rows), "{x: false, y: in} | é");
}

#[test]
fn what_stands_twice_counts_as_protobuf_has_it() {
    let contract = r#"syntax = "proto3"; message M { int32 a = 1; repeated int32 l = 2; N n = 3; map<string, int32> m = 4; message N { int32 x = 1; int32 y = 2; } }"#;
    let mut decoder = stream(contract);
    // a twice; the list unpacked, then packed; a message in two parts; a key twice; unknown fields and a group between them.
    let twice = "0801 0802 1001 12020203 1a020801 1a021002 22050a016b1001 22050a016b1002 22030a016c";
    let unknown = "9a0603616263 9b03 0801 a306 0802 a406 9c03";
    let record = framed(1, "0200", &format!("{unknown} {twice} {unknown}"));
    let decoded = decoder.decode(&[value(&record)]);
    insta::assert_snapshot!(format!("{}\n{}", show(&decoded.batch.rows), bad(&decoded)), @"
    2 | [1, 2, 3] | {x: 1, y: 2} | {k: 2, l: 0}
    ");
}

#[test]
fn poisoned_records_leave_no_trace() {
    let mut decoder = stream(ALL);
    let good = framed(1, "00", "08014a0178");
    let records: Vec<Vec<u8>> = [
        ("00", "08"),
        ("00", "4a05616263"),
        ("00", "08ffffffffffffffffffff01"),
        ("00", "0a0161"),
        ("00", "4a01ff"),
        ("00", "6a0510ffffff7f"),
        ("00", "0700"),
        ("00", "0c"),
        ("00", "0b08"),
        ("00", "92010708010a03ff"),
        ("00", "8a01020805"),
        ("00", "8a01030a01ff"),
        ("00", "b20102ffff"),
        ("00", "000000"),
        ("0202", "0a0161"),
        ("0206", ""),
        ("01", ""),
        ("ffffffffffffffffff01", ""),
        ("", ""),
    ]
    .iter()
    .map(|(indexes, hex)| framed(1, indexes, hex))
    .collect();
    let mut all: Vec<Record<'_>> = vec![value(&good)];
    all.extend(records.iter().map(|bytes| value(bytes)));
    all.push(value(&good));
    let decoded = decoder.decode(&all);
    insta::assert_snapshot!(bad(&decoded), @"
    1 truncated: the body ends within a number
    2 truncated: the body ends too early: 5 bytes are expected, 3 are left
    3 malformed: a number of more than 64 bits
    4 incompatible_schema: i: the writer's bytes are of another type than the contract's field
    5 invalid_utf8: s: the text is not UTF-8
    7 malformed: a field of number 0
    8 malformed: a group ends that did not begin
    9 truncated: the body ends within a number
    10 truncated: the body ends too early: 7 bytes are expected, 5 are left
    12 invalid_utf8: m: the text is not UTF-8
    13 truncated: cs[0]: the body ends within a number
    14 malformed: a field of number 0
    15 incompatible_schema: the record is a Other, and the contract's message is All
    16 malformed: the writer's schema has no message at [3]
    17 malformed: a message's index is negative
    18 malformed: a message's index is negative
    19 truncated: the body ends within a number
    ");
    let clean = decoder.decode(&[value(&good), value(&good)]);
    assert_eq!(decoded.batch.rows.slice(0, 1), clean.batch.rows.slice(0, 1));
    assert_eq!(show(&decoded.batch.rows).lines().last(), show(&clean.batch.rows).lines().last());
}

#[test]
fn schemas_evolve_by_numbers() {
    let contract = r#"syntax = "proto3"; package a; message M { int64 id = 1; optional string name = 2; E e = 4; enum E { Z = 0; ONE = 1; } }"#;
    let mut decoder = stream(contract);
    // The writer's message is not the first, its fields have other names, it has more of them, and an unknown value.
    let writer = r#"syntax = "proto3"; package b; message Other {} message M { uint32 key = 1; bytes more = 9; E e = 4; enum E { Z = 0; TWO = 2; } }"#;
    decoder.add_schema(2, writer).expect("a schema");
    decoder.add_schema(3, "syntax = \"proto3\"; message N { int64 id = 1; }").expect("a schema");
    let records =
        [framed(2, "0202", "0805 4a0100 2002"), framed(2, "00", ""), framed(3, "00", "0805"), framed(1, "00", "0805 1200 2001")];
    let decoded = decoder.decode(&records.each_ref().map(|record| value(record)));
    insta::assert_snapshot!(format!("{}\n{}", show(&decoded.batch.rows), bad(&decoded)), @"
    5 | null | 2
    5 |  | ONE
    1 incompatible_schema: the record is a Other, and the contract's message is M
    2 incompatible_schema: the record is a N, and the contract's message is M
    ");
    assert_eq!(decoder.decode(&[value(&framed(9, "00", ""))]).missing, [frame::SchemaId::Id(9)]);
    assert!(decoder.add_schema(4, "nope").is_err());
}

#[test]
fn required_fields_of_proto2() {
    let contract = "message M { required int32 a = 1; optional string b = 2; repeated int32 c = 3; }";
    let mut decoder = stream(contract);
    let records = [framed(1, "00", "0800"), framed(1, "00", "1200")];
    let decoded = decoder.decode(&records.each_ref().map(|record| value(record)));
    insta::assert_snapshot!(format!("{}\n{}", show(&decoded.batch.rows), bad(&decoded)), @"
    0 | null | []
    1 missing: a: missing, and the schema requires it
    ");
    let mut encoder = Encoder::new(layout(contract, &[], Shape::Stream), contract, 1, None).expect("an encoder");
    let mut encoded = Encoded::default();
    encoder.encode(&decoded.batch, &mut encoded).expect("encoded");
    // What is required is written even if it is zero.
    assert_eq!(values(&encoded), ["0000000001000800"]);
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> Batch {
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let rows = columns.first().map_or(0, |(_, array)| array.len());
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let rows_batch = RecordBatch::try_new(Arc::new(RowType::new(fields)), arrays).expect("a batch");
    Batch { rows: rows_batch, times: vec![5; rows].into(), deletes: None, origins: None }
}

#[test]
fn rows_that_can_not_be_written() {
    let contract = r#"syntax = "proto3"; message M { uint32 u = 1; string s = 2; oneof o { string a = 3; string b = 4; } E e = 5; enum E { Z = 0; } }"#;
    let mut encoder = Encoder::new(layout(contract, &[], Shape::Stream), contract, 1, None).expect("an encoder");
    let text = |values: [Option<&str>; 5]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let some = [Some("x"); 5];
    let rows = batch(vec![
        ("u", Arc::new(Int64Array::from(vec![1, -1, 3, 4, 5]))),
        ("s", text([Some("x"), Some("x"), None, Some("x"), Some("x")])),
        ("a", text(some)),
        ("b", text([None, None, None, Some("y"), None])),
        ("e", text([Some("Z"), Some("Z"), Some("Z"), Some("Z"), Some("NO")])),
    ]);
    let mut encoded = Encoded::default();
    let bad = encoder.encode(&rows, &mut encoded).expect_err("bad rows");
    let lines: Vec<String> = bad.iter().map(|b| format!("{} {}: {}", b.record, b.code, b.reason)).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    1 out_of_range: u: -1 is out of the range of uint32
    2 null_value: s: null, and the contract has none there
    3 contract: b: a has a value, too, and oneof o allows one of them
    4 out_of_range: e: "NO" is no value of the contract's enum
    "#);
    assert_eq!(values(&encoded), ["00000000010008011201781a0178"]);
}

#[test]
fn contracts_that_do_not_fit_are_refused() {
    let error = |contract: &str, data_type: DataType| {
        let row_type = Arc::new(RowType::new(vec![Field::new("a", data_type, true)]));
        let layout = Layout {
            format: Format::Protobuf,
            framing: Framing::Confluent,
            row_type,
            key: Vec::new(),
            time_column: None,
            shape: Shape::Stream,
        };
        let read = Decoder::new(layout.clone(), contract, None).err().map_or("-".to_owned(), |e| e.to_string());
        let write = Encoder::new(layout, contract, 1, None).err().map_or("-".to_owned(), |e| e.to_string());
        format!("{read}\n{write}")
    };
    let lines = [
        error("syntax = \"proto3\"; message M { int32 a = 1; }", DataType::Utf8),
        error("syntax = \"proto3\"; message M { int32 b = 1; }", DataType::Utf8),
        error("syntax = \"proto3\"; message M { map<int32, int32> a = 1; }", DataType::Int32),
        error("message M { optional string a = 1; required int32 b = 2; }", DataType::Utf8),
        error("", DataType::Utf8),
        error("nope", DataType::Utf8),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
    the schemas do not fit: field "a": int32 does not fit a column of type STRING
    the schemas do not fit: field "a": STRING can't be written as int32
    the schemas do not fit: message M has no field "a"
    the schemas do not fit: message M has no field "a"
    the schemas do not fit: field "a": a map does not fit a column of type INTEGER
    the schemas do not fit: field "a": INTEGER can't be written as a map
    -
    the schemas do not fit: field "b" is required and has no column
    the schemas do not fit: the contract declares no message
    the schemas do not fit: the contract declares no message
    the schema can't be read: not Protobuf: found "nope" where message, enum, import or another declaration is expected
    the schema can't be read: not Protobuf: found "nope" where message, enum, import or another declaration is expected
    "#);
}

#[test]
fn keys_and_deletes() {
    let contract = r#"syntax = "proto3"; message M { string id = 1; int64 n = 2; optional string more = 3; }"#;
    let layout = layout(contract, &["id", "n"], Shape::Table);
    let mut encoder = Encoder::new(layout.clone(), contract, 1, Some(2)).expect("an encoder");
    let mut rows = batch(vec![
        ("id", Arc::new(StringArray::from(vec!["a", ""]))),
        ("n", Arc::new(Int64Array::from(vec![7, 0]))),
        ("more", Arc::new(StringArray::from(vec![Some("x"), None]))),
    ]);
    rows.deletes = Some(vec![false, true].into());
    let mut encoded = Encoded::default();
    encoder.encode(&rows, &mut encoded).expect("encoded");
    let records: Vec<Record<'_>> =
        encoded.records.iter().map(|record| Record::new(encoded.key(record), encoded.value(record), record.timestamp)).collect();
    assert_eq!(records.iter().map(|record| record.key.map(<[u8]>::len)).collect::<Vec<_>>(), [Some(11), Some(6)]);
    let mut decoder = decoder(layout, contract);
    let parsed = schema::parse(Format::Protobuf, contract, &[]).expect("a schema").columns();
    let key = schema::key_schema(Format::Protobuf, &[parsed.row_type.field(0).clone(), parsed.row_type.field(1).clone()]);
    decoder.add_schema(2, &key).expect("a schema");
    let decoded = decoder.decode(&records);
    assert_eq!((show(&decoded.batch.rows).as_str(), bad(&decoded).as_str()), ("a | 7 | x\n | 0 | null", ""));
    assert_eq!((decoded.batch.is_delete(0), decoded.batch.is_delete(1)), (false, true));
}

#[test]
fn days_times_and_decimals() {
    let contract = r#"syntax = "proto3"; import "google/type/date.proto"; import "google/type/timeofday.proto"; import "confluent/meta.proto"; import "confluent/type/decimal.proto";
        message M { google.type.Date day = 1; google.type.TimeOfDay time = 2;
          confluent.type.Decimal d = 3 [(confluent.field_meta).params = [{ key: "precision", value: "5" }, { key: "scale", value: "2" }]]; }"#;
    let mut decoder = stream(contract);
    let records = [
        // 2024-02-29, 23:59:59.000001, -1.23 of scale 2; then a decimal 5 of scale 0; then what is none.
        framed(1, "00", "0a0708e80f1002181d 12090817103b183b20e807 1a070a018510031802"),
        framed(1, "00", "1a030a0105"),
        framed(1, "00", "0a0508e80f100d"),
        framed(1, "00", "12020818"),
        framed(1, "00", "1a050a0301869f"),
        framed(1, "00", "1a050a01051803"),
    ];
    let decoded = decoder.decode(&records.each_ref().map(|record| value(record)));
    insta::assert_snapshot!(format!("{}\n{}", show(&decoded.batch.rows), bad(&decoded)), @"
    2024-02-29 | 23:59:59.000001 | -1.23
    null | null | 5.00
    2 out_of_range: day: 2024-13-0 is no day
    3 out_of_range: time: 24:0:0 and 0 nanoseconds are no time of day
    4 out_of_range: d: a decimal of scale 0 does not fit into DECIMAL(5, 2)
    5 out_of_range: d: a decimal of scale 3 does not fit into DECIMAL(5, 2)
    ");
    let mut encoder = Encoder::new(layout(contract, &[], Shape::Stream), contract, 1, None).expect("an encoder");
    let mut encoded = Encoded::default();
    encoder.encode(&decoded.batch, &mut encoded).expect("encoded");
    insta::assert_snapshot!(values(&encoded).join("\n"), @"
    0000000001000a0708e80f1002181d12090817103b183b20e8071a070a018510031802
    0000000001001a080a0201f410031802
    ");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
        let mut decoder = stream(ALL);
        let mut record = framed(1, "00", "");
        record.extend(&bytes);
        let mut torn = framed(1, "00", WRITTEN);
        let at = 5 + cut.index(torn.len() - 5);
        torn.splice(at..at, bytes.iter().take(3).copied());
        let decoded = decoder.decode(&[value(&record), value(&torn)]);
        prop_assert_eq!(decoded.bad.len() + decoded.records.len(), 2);
        prop_assert_eq!(decoded.batch.rows.num_rows(), decoded.records.len());
        // What was read can be written, and means the same then.
        let mut encoder = Encoder::new(layout(ALL, &[], Shape::Stream), ALL, 1, None).expect("an encoder");
        let mut encoded = Encoded::default();
        if encoder.encode(&decoded.batch, &mut encoded).is_ok() {
            let records: Vec<Record<'_>> = encoded.records.iter().map(|r| Record::new(None, encoded.value(r), 0)).collect();
            let again = decoder.decode(&records);
            prop_assert_eq!(show(&again.batch.rows), show(&decoded.batch.rows));
        }
    }
}
