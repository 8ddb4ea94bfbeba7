//! The four compressions of record batches, as streams, so that a small input that unfolds to much takes no memory.

use std::io::{self, Cursor, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

/// What one batch may unfold to, in bytes.
pub const LIMIT: usize = 256 * 1024 * 1024;

/// How the records of a batch are compressed. The numbers are those of a batch's attributes (KIP-98, KIP-110).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Compression {
    /// All of them.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The one with this number in a batch's attributes.
    pub fn of(attributes: i16) -> Option<Compression> {
        Compression::ALL.into_iter().find(|one| *one as i16 == attributes & 0x07)
    }

    /// Kafka's name, as in the config `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// Reads what `input` unfolds to, piece by piece. It is for the caller to stop at [`LIMIT`].
    ///
    /// # Errors
    /// The input's beginning is not of this compression; its rest shows when it is read.
    pub fn reader(self, input: &[u8]) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Compression::None => Box::new(input),
            Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
            Compression::Snappy => Box::new(Unsnap::new(input)),
            Compression::Lz4 => Box::new(FrameDecoder::new(input)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        })
    }

    /// All that `input` unfolds to.
    ///
    /// # Errors
    /// It is not of this compression, or unfolds to more than [`LIMIT`].
    pub fn decompress(self, input: &[u8]) -> io::Result<Vec<u8>> {
        let mut output = Vec::with_capacity(input.len().saturating_mul(2).min(LIMIT));
        self.reader(input)?.take(LIMIT as u64 + 1).read_to_end(&mut output)?;
        if output.len() > LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "unfolds to more than 256 MiB"));
        }
        Ok(output)
    }

    /// `input` compressed, on Kafka's default level unless one is given (KIP-390). Snappy is framed as Java's clients frame it.
    ///
    /// # Errors
    /// The level is none that the compression knows.
    pub fn compress(self, input: &[u8], level: Option<i32>) -> io::Result<Vec<u8>> {
        match self {
            Compression::None => Ok(input.to_vec()),
            Compression::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok()).filter(|level| *level <= 9).unwrap_or(6);
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(level));
                encoder.write_all(input)?;
                encoder.finish()
            }
            Compression::Snappy => snap(input),
            Compression::Lz4 => {
                let frame = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
                let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
                encoder.write_all(input)?;
                Ok(encoder.finish()?)
            }
            Compression::Zstd => zstd::stream::encode_all(Cursor::new(input), level.unwrap_or(3)),
        }
    }
}

/// What Java's SnappyOutputStream writes before its blocks: a magic and two version numbers.
const XERIAL: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER: usize = 16;
/// How much Java's clients put into one block.
const XERIAL_BLOCK: usize = 32 * 1024;
/// The most that a byte of snappy can stand for: a copy of 64 bytes takes three.
const SNAPPY_RATIO: usize = 22;

fn snap(input: &[u8]) -> io::Result<Vec<u8>> {
    let mut output = XERIAL.to_vec();
    output.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(XERIAL_BLOCK) {
        let block = encoder.compress_vec(block)?;
        output.extend_from_slice(&u32::try_from(block.len()).map_err(io::Error::other)?.to_be_bytes());
        output.extend_from_slice(&block);
    }
    Ok(output)
}

/// Snappy in Java's framing (blocks with their sizes before them), or bare, as librdkafka writes it: one block.
struct Unsnap<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    read: usize,
}

impl<'a> Unsnap<'a> {
    fn new(input: &'a [u8]) -> Unsnap<'a> {
        Unsnap { rest: input, framed: input.starts_with(&XERIAL), block: Vec::new(), read: 0 }
    }

    /// The next compressed block; `None` at the end.
    fn next_block(&mut self) -> io::Result<Option<&'a [u8]>> {
        if !self.framed {
            return Ok(Some(std::mem::take(&mut self.rest)).filter(|block| !block.is_empty()));
        }
        // A stream may be several, one behind the other.
        while self.rest.starts_with(&XERIAL) {
            self.rest = self.rest.get(XERIAL_HEADER..).ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (size, rest) = self.rest.split_first_chunk::<4>().ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = usize::try_from(u32::from_be_bytes(*size)).map_err(io::Error::other)?;
        let (block, rest) = rest.split_at_checked(size).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.rest = rest;
        Ok(Some(block))
    }
}

impl Read for Unsnap<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read >= self.block.len() {
            let Some(block) = self.next_block()? else { return Ok(0) };
            let size = snap::raw::decompress_len(block)?;
            // The size is only claimed: it reserves no more than the block can unfold to.
            if size > block.len().saturating_mul(SNAPPY_RATIO).min(LIMIT) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a snappy block claims more than it can hold"));
            }
            self.block.resize(size, 0);
            self.read = 0;
            snap::raw::Decoder::new().decompress(block, &mut self.block)?;
        }
        let read = self.block.get(self.read..).unwrap_or_default().read(into)?;
        self.read += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<u8> {
        (0..20_000).flat_map(|n| format!("record {n}, ").into_bytes()).collect()
    }

    #[test]
    fn each_unfolds_what_it_folded() {
        for compression in Compression::ALL {
            for input in [Vec::new(), b"a".to_vec(), text()] {
                let folded = compression.compress(&input, None).unwrap();
                assert_eq!(compression.decompress(&folded).unwrap(), input, "{}", compression.name());
            }
            assert_eq!(Compression::of(compression as i16 | 0x30), Some(compression));
        }
        assert_eq!(Compression::of(5), None);
    }

    #[test]
    fn a_level_changes_the_size_and_not_the_content() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let low = compression.compress(&text(), Some(1)).unwrap();
            let high = compression.compress(&text(), Some(9)).unwrap();
            assert_ne!(high.len(), low.len());
            assert_eq!(compression.decompress(&high).unwrap(), text());
        }
    }

    #[test]
    fn snappy_is_read_bare_and_framed_and_framed_twice() {
        let bare = snap::raw::Encoder::new().compress_vec(&text()).unwrap();
        assert_eq!(Compression::Snappy.decompress(&bare).unwrap(), text());
        let framed = Compression::Snappy.compress(&text(), None).unwrap();
        assert!(framed.starts_with(&XERIAL));
        let twice = [framed.as_slice(), framed.as_slice()].concat();
        assert_eq!(Compression::Snappy.decompress(&twice).unwrap(), [text(), text()].concat());
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error_or_shorter() {
        for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let folded = compression.compress(&text(), None).unwrap();
            for cut in (1..folded.len()).step_by(folded.len() / 50) {
                let unfolded = compression.decompress(&folded[..cut]);
                assert!(unfolded.is_err() || unfolded.unwrap().len() < text().len(), "{} at {cut}", compression.name());
            }
            assert!(compression.decompress(b"no such thing, whatever it is").is_err(), "{}", compression.name());
        }
    }

    #[test]
    fn a_claim_reserves_no_memory() {
        // A snappy block of five bytes that claims 4 GiB; a frame whose block claims more than is there.
        assert!(Compression::Snappy.decompress(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
        let framed = [&XERIAL[..], &[0, 0, 0, 1, 0, 0, 0, 1], &[0x7f, 0xff, 0xff, 0xff], b"abc"].concat();
        assert!(Compression::Snappy.decompress(&framed).is_err());
        let zeros = zstd::stream::encode_all(io::repeat(0).take(LIMIT as u64 + 1), 1).unwrap();
        assert!(Compression::Zstd.decompress(&zeros).is_err());
    }
}
