//! Arbitrary text as a schema of each format: parsed, printed and read again, and compared with itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh::model::product::{Compatibility, Format};
use mesh::schema;

fuzz_target!(|data: &[u8]| {
    let Some((way, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let format = [Format::Avro, Format::Json, Format::Protobuf][usize::from(way % 3)];
    let Ok(parsed) = schema::parse(format, text, &[]) else { return };
    let _ = (parsed.canonical(), parsed.fingerprint(), parsed.columns());
    let stored = parsed.stored(false);
    let again = schema::parse(format, &stored, &[]).expect("what is stored can be read");
    assert!(parsed.same_as(&again, true), "what is stored means the same");
    let _ = schema::check(Compatibility::FullTransitive, &parsed, &[again]);
});
