//! Arbitrary bytes as records of each format. The first byte says which, whether a right frame goes in
//! front, and whether they are shown as well.

#![no_main]

use std::cell::RefCell;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mesh::format::{Decoder, Layout, Record, frame, to_json};
use mesh::model::product::{Format, Framing, Shape};
use mesh::schema;

const AVRO: &str = r#"{"type":"record","name":"R","fields":[{"name":"k","type":"string"},{"name":"n","type":["null","long"]},{"name":"f","type":"double"},
 {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
 {"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},{"name":"l","type":{"type":"array","items":["null","string"]}},
 {"name":"m","type":{"type":"map","values":"int"}},{"name":"i","type":{"type":"record","name":"I","fields":[{"name":"x","type":"boolean"}]}},
 {"name":"u","type":{"type":"string","logicalType":"uuid"}},{"name":"fx","type":{"type":"fixed","name":"F","size":3}}]}"#;
const JSON: &str = r#"{"type":"object","properties":{"k":{"type":"string"},"n":{"type":["integer","null"]},"f":{"type":"number"},"at":{"type":"string","format":"date-time"},
 "b":{"type":"boolean"},"l":{"type":"array","items":{"type":"object","properties":{"x":{"type":"integer"}}}},"m":{"type":"object","additionalProperties":{"type":"number"}}},
 "required":["k"]}"#;
const PROTOBUF: &str = r#"syntax = "proto3"; message R { string k = 1; sint64 n = 2; double f = 3; repeated int32 l = 4; map<string, I> m = 5; I i = 6; oneof o { bytes b = 7; E e = 8; }
 message I { bool x = 1; I deeper = 2; } enum E { A = 0; B = 1; } }"#;

const FORMATS: [(Format, &str); 3] = [(Format::Avro, AVRO), (Format::Json, JSON), (Format::Protobuf, PROTOBUF)];

/// A decoder that knows its own schema as number 1.
fn decoder((format, text): (Format, &str)) -> Decoder {
    let row_type = schema::parse(format, text, &[]).expect("a schema").columns().row_type;
    let key = row_type.index_of("k").into_iter().collect();
    let layout = Layout {
        format,
        framing: Framing::Confluent,
        row_type: Arc::new(row_type),
        key,
        time_column: None,
        shape: Shape::Stream,
    };
    let mut decoder = Decoder::new(layout, text, None).expect("a decoder");
    decoder.add_schema(1, text).expect("the same schema");
    decoder
}

thread_local! {
    // As a run does it, one decoder reads record after record; making one takes ten times as long as a record.
    static DECODERS: RefCell<[Decoder; 3]> = RefCell::new(FORMATS.map(decoder));
}

fuzz_target!(|data: &[u8]| {
    let Some((way, data)) = data.split_first() else { return };
    let which = usize::from(way % 3);
    let (format, text) = FORMATS[which];
    let mut bytes = Vec::new();
    if way & 4 != 0 {
        frame::write(1, &mut bytes);
        if format == Format::Protobuf {
            bytes.push(0);
        }
    }
    bytes.extend_from_slice(data);
    let record = Record::new(None, Some(&bytes), 1);
    let decoded = DECODERS.with_borrow_mut(|decoders| decoders[which].decode(&[record]));
    assert_eq!(decoded.batch.len() + decoded.bad.len() + decoded.missing.len().min(1), 1, "read, bad, or its schema is missing");
    if way & 8 != 0 {
        let _ = to_json(format, Some(text.into()), data);
    }
});
