//! Confluent's framing: a zero byte and a schema's id before the body.

use thiserror::Error;

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
