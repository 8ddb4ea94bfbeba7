//! Reading a file of lines, plain or gzip, from a remembered position on.
//!
//! A position is a number of lines and the SHA-256 of all bytes up to there, so that a file that was replaced by
//! another is noticed and read from its beginning, while one that was appended to goes on where it was.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A line longer than this is refused rather than read into memory.
const LINE_LIMIT: u64 = 16 * 1024 * 1024;

/// How far a file was read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    pub lines: u64,
    /// Lower-case hex; empty at the start of the file.
    pub sha256: String,
}

/// A file that is read line by line.
pub struct Lines {
    reader: Box<dyn BufRead + Send>,
    digest: Sha256,
    lines: u64,
}

impl Lines {
    /// Opens a file; gzip is known by its first two bytes, not by its name.
    pub fn open(path: &Path) -> io::Result<Lines> {
        let mut file = BufReader::with_capacity(256 * 1024, File::open(path)?);
        let gzip = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn BufRead + Send> =
            if gzip { Box::new(BufReader::with_capacity(256 * 1024, MultiGzDecoder::new(file))) } else { Box::new(file) };
        Ok(Lines { reader, digest: Sha256::new(), lines: 0 })
    }

    /// Opens a file at a position. `false`: the file does not begin with what was read before, and is read anew.
    pub fn resume(path: &Path, position: &Position) -> io::Result<(Lines, bool)> {
        let mut lines = Lines::open(path)?;
        let mut line = Vec::new();
        while lines.lines < position.lines && lines.next(&mut line)? {}
        if lines.position() == *position {
            return Ok((lines, true));
        }
        Ok((Lines::open(path)?, position.lines == 0))
    }

    /// Reads the next line into `line`, without its end; `false` at the end of the file.
    pub fn next(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        let read = (&mut self.reader).take(LINE_LIMIT).read_until(b'\n', line)?;
        if read == 0 {
            return Ok(false);
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LINE_LIMIT {
            let message = format!("line {} is longer than {} MiB", self.lines + 1, LINE_LIMIT >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.digest.update(&line);
        self.lines += 1;
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        Ok(true)
    }

    /// How far the file was read.
    pub fn position(&self) -> Position {
        if self.lines == 0 {
            return Position::default();
        }
        Position { lines: self.lines, sha256: format!("{:x}", self.digest.clone().finalize()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn rest(lines: &mut Lines) -> Vec<String> {
        let (mut line, mut all) = (Vec::new(), Vec::new());
        while lines.next(&mut line).unwrap() {
            all.push(String::from_utf8(line.clone()).unwrap());
        }
        all
    }

    #[test]
    fn plain_and_gzip_give_the_same_lines_and_positions() {
        let text = b"one\r\ntwo\n\nfour";
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text).unwrap();
        let (plain, packed) = (file(text), file(&gzip.finish().unwrap()));
        let mut plain = Lines::open(plain.path()).unwrap();
        let mut packed = Lines::open(packed.path()).unwrap();
        assert_eq!(rest(&mut plain), ["one", "two", "", "four"]);
        assert_eq!(rest(&mut packed), ["one", "two", "", "four"]);
        assert_eq!(plain.position(), packed.position());
    }

    #[test]
    fn an_appended_file_goes_on_and_a_replaced_one_starts_anew() {
        let mut before = Lines::open(file(b"a\nb\n").path()).unwrap();
        rest(&mut before);
        let (mut lines, same) = Lines::resume(file(b"a\nb\nc\n").path(), &before.position()).unwrap();
        assert!(same);
        assert_eq!(rest(&mut lines), ["c"]);
        let (mut lines, same) = Lines::resume(file(b"x\nb\nc\n").path(), &before.position()).unwrap();
        assert!(!same);
        assert_eq!(rest(&mut lines), ["x", "b", "c"]);
        let (mut lines, same) = Lines::resume(file(b"a\n").path(), &before.position()).unwrap();
        assert!(!same);
        assert_eq!(rest(&mut lines), ["a"]);
    }

    #[test]
    fn damaged_gzip_is_an_error_not_an_end() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&b"line\n".repeat(1000)).unwrap();
        let mut bytes = gzip.finish().unwrap();
        bytes.truncate(bytes.len() / 2);
        let mut lines = Lines::open(file(&bytes).path()).unwrap();
        let mut line = Vec::new();
        let end = loop {
            match lines.next(&mut line) {
                Ok(true) => {}
                other => break other,
            }
        };
        assert!(end.is_err());
    }
}
