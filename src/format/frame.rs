//! Confluent's framing: a zero byte and a schema's id before the body, or a header that names the schema.
//!
//! Newer serializers leave the body alone and write a header: a byte 1 and the schema's GUID (or a zero byte and its id), and for
//! Protobuf the message's indexes behind it.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

/// The header that names a value's schema.
pub const VALUE_HEADER: &str = "__value_schema_id";

/// The header that names a key's schema.
pub const KEY_HEADER: &str = "__key_schema_id";

/// What a schema is known by in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaId {
    Id(i32),
    Guid(u128),
}

impl From<i32> for SchemaId {
    fn from(id: i32) -> Self {
        SchemaId::Id(id)
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SchemaId::Id(id) => write!(f, "{id}"),
            SchemaId::Guid(guid) => {
                let hex = format!("{guid:032x}");
                let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| hex.get(part).unwrap_or_default());
                f.write_str(&parts.join("-"))
            }
        }
    }
}

/// The bytes before a body: the magic byte and the id.
pub const LENGTH: usize = 5;

/// Bytes that carry no frame.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("a frame of {LENGTH} bytes (a zero byte and a schema id) is expected, and there are no bytes")]
    Empty,
    #[error("the first byte is {0:#04x}; a framed record starts with 0x00 and a schema id of four bytes")]
    Magic(u8),
    #[error("a frame has {LENGTH} bytes, here are {0}")]
    Short(usize),
    #[error("the header that names the schema has {0} bytes; it is a byte 1 and 16 of a GUID, or a zero byte and 4 of an id")]
    Header(usize),
}

/// The schema that a header names, and what stands behind it there.
fn header(bytes: &[u8]) -> Result<(SchemaId, &[u8]), FrameError> {
    let wrong = FrameError::Header(bytes.len());
    match bytes.split_first() {
        Some((0, rest)) => {
            let (id, rest) = rest.split_first_chunk().ok_or(wrong)?;
            Ok((SchemaId::Id(i32::from_be_bytes(*id)), rest))
        }
        Some((1, rest)) => {
            let (guid, rest) = rest.split_first_chunk().ok_or(wrong)?;
            Ok((SchemaId::Guid(u128::from_be_bytes(*guid)), rest))
        }
        _ => Err(wrong),
    }
}

/// The schema of a key or value, and its body: what a header names, where there is one, goes before a frame.
pub fn locate<'a>(named: Option<&[u8]>, bytes: &'a [u8]) -> Result<(SchemaId, Cow<'a, [u8]>), FrameError> {
    match named {
        None => parse(bytes).map(|(id, body)| (SchemaId::Id(id), Cow::Borrowed(body))),
        Some(named) => match header(named)? {
            (id, []) => Ok((id, Cow::Borrowed(bytes))),
            (id, indexes) => Ok((id, Cow::Owned([indexes, bytes].concat()))),
        },
    }
}

/// The schema's id and the body behind it.
pub fn parse(bytes: &[u8]) -> Result<(i32, &[u8]), FrameError> {
    match bytes {
        [] => Err(FrameError::Empty),
        [0, a, b, c, d, body @ ..] => Ok((i32::from_be_bytes([*a, *b, *c, *d]), body)),
        [0, ..] => Err(FrameError::Short(bytes.len())),
        [magic, ..] => Err(FrameError::Magic(*magic)),
    }
}

/// Writes the frame of a body that the caller writes next.
pub fn write(id: i32, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_parsed() {
        let mut bytes = Vec::new();
        write(100_042, &mut bytes);
        bytes.extend_from_slice(b"{}");
        assert_eq!(bytes, [0, 0, 1, 0x86, 0xca, b'{', b'}']);
        assert_eq!(parse(&bytes), Ok((100_042, &b"{}"[..])));
    }

    #[test]
    fn a_header_names_the_schema() {
        let guid = [1, 0x89, 0x79, 0x1c, 0x4e, 0x1b, 0x7f, 0x4b, 0x6a, 0x9d, 0x5d, 0x4f, 0x2c, 0x1a, 0x0b, 0x3c, 0x4d];
        let (id, body) = locate(Some(&guid), b"\0abc").unwrap();
        assert_eq!((id.to_string().as_str(), &*body), ("89791c4e-1b7f-4b6a-9d5d-4f2c1a0b3c4d", &b"\0abc"[..]));
        assert_eq!(locate(Some(b"\0\0\0\0\x07"), b"{}").unwrap().0, SchemaId::Id(7));
        // Protobuf's message indexes go before the body.
        assert_eq!(&*locate(Some(&[&guid[..], &[2, 4]].concat()), b"abc").unwrap().1, b"\x02\x04abc");
        assert_eq!(locate(None, b"\0\0\0\0\x07{}").unwrap().0, SchemaId::Id(7));
        for wrong in [&b""[..], b"\x02aaaaaaaaaaaaaaaa", &guid[..16], b"\0\0\0"] {
            assert_eq!(locate(Some(wrong), b""), Err(FrameError::Header(wrong.len())));
        }
    }

    #[test]
    fn what_has_no_frame_is_refused() {
        assert_eq!(parse(b""), Err(FrameError::Empty));
        assert_eq!(parse(b"\0\0\0"), Err(FrameError::Short(3)));
        assert_eq!(
            parse(b"{\"a\":1}").map_err(|e| e.to_string()),
            Err("the first byte is 0x7b; a framed record starts with 0x00 and a schema id of four bytes".into())
        );
        assert_eq!(parse(b"\0\0\0\0\x07"), Ok((7, &b""[..])));
    }
}
