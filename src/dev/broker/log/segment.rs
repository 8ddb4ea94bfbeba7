//! One file of a log, its batches one behind the other, and what is known of it in memory.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::dev::broker::batch::{Corrupt, HEADER, Header, NONE};

/// A file has an entry in memory each so many bytes: Kafka's `index.interval.bytes`.
pub(super) const INTERVAL: u64 = 4_096;
/// How much is read at once when a file is gone through.
const CHUNK: u64 = 1024 * 1024;

/// A batch that stands at the first place [`INTERVAL`] bytes or more behind the entry before.
#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: i64,
    position: u64,
    /// The highest timestamp of all batches before it.
    before: i64,
}

/// A file of batches: named by the lowest offset that it may hold, of which it also knows the time.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) base: i64,
    pub(super) path: PathBuf,
    /// Open for appending; only the last segment has it. Others are opened by whoever reads them, so that a log of many
    /// segments does not hold as many files.
    file: Option<Arc<File>>,
    /// Bytes of whole batches.
    pub(super) size: u64,
    /// The last batch's last offset; below the base when there is no batch.
    pub(super) last: i64,
    /// The first batch's highest timestamp, -1 without a batch.
    pub(super) first_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// Whether there is a marker or a transactional batch in it.
    pub(super) transactional: bool,
    index: Vec<Entry>,
}

impl Segment {
    /// A segment that nothing is known of yet: [`note`](Segment::note) tells it its batches.
    pub(super) fn new(dir: &Path, base: i64) -> Segment {
        Segment {
            base,
            path: dir.join(name(base)),
            file: None,
            size: 0,
            last: base.saturating_sub(1),
            first_timestamp: NONE,
            max_timestamp: NONE,
            transactional: false,
            index: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.size == 0
    }

    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    #[cfg(test)]
    pub(super) fn make_read_only(&mut self) {
        self.file = Some(Arc::new(File::open(&self.path).unwrap()));
    }

    /// Takes note of a batch that stands at the end.
    pub(super) fn note(&mut self, header: &Header) {
        if self.index.last().is_none_or(|entry| self.size.saturating_sub(entry.position) >= INTERVAL) {
            self.index.push(Entry { offset: header.base_offset, position: self.size, before: self.max_timestamp });
        }
        if self.is_empty() {
            self.first_timestamp = header.max_timestamp;
        }
        self.size = self.size.saturating_add(header.size as u64);
        self.last = header.last_offset();
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        self.transactional |= header.is_transactional();
    }

    /// Opens the file for appending, made if it is not there, and cut to what is known of it.
    pub(super) fn activate(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
        if file.metadata()?.len() != self.size {
            file.set_len(self.size)?;
        }
        self.file = Some(Arc::new(file));
        Ok(())
    }

    /// Nothing is appended from now on.
    pub(super) fn retire(&mut self) {
        self.file = None;
        self.index.shrink_to_fit();
    }

    /// Writes a batch, given as its header and its body, at the end; all of it or nothing.
    pub(super) fn append(&mut self, header: &Header, parts: [&[u8]; 2]) -> io::Result<()> {
        if self.file.is_none() {
            self.activate()?;
        }
        let Some(file) = self.file.take() else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = write_all(&file, parts) {
            // What was half written must not stand before the next batch. If it cannot be cut off now, it is when the file
            // is opened for the next batch.
            let _ = file.set_len(self.size);
            return Err(error);
        }
        self.file = Some(file);
        self.note(header);
        Ok(())
    }

    /// The file, for reading at places.
    pub(super) fn file(&self) -> io::Result<Arc<File>> {
        match &self.file {
            Some(file) => Ok(file.clone()),
            None => File::open(&self.path).map(Arc::new),
        }
    }

    /// Where a batch may begin that holds `offset`: not behind it, and less than [`INTERVAL`] bytes before it.
    pub(super) fn position(&self, offset: i64) -> u64 {
        let behind = self.index.partition_point(|entry| entry.offset <= offset);
        behind.checked_sub(1).and_then(|at| self.index.get(at)).map_or(0, |entry| entry.position)
    }

    /// Where the first batch may be that has a timestamp of `timestamp` or later: not behind it.
    pub(super) fn position_of_time(&self, timestamp: i64) -> u64 {
        let behind = self.index.partition_point(|entry| entry.before < timestamp);
        behind.checked_sub(1).and_then(|at| self.index.get(at)).map_or(0, |entry| entry.position)
    }

    /// Goes through the batches from `position` on.
    pub(super) fn scan(&self, position: u64) -> io::Result<Scan> {
        Ok(Scan::new(self.file()?, position, self.size))
    }
}

/// The name of the file of a segment: `00000000000000000042.log`.
pub(super) fn name(base: i64) -> String {
    format!("{base:020}.log")
}

fn write_all(mut file: &File, [header, body]: [&[u8]; 2]) -> io::Result<()> {
    // One call in nearly all cases, without copying the body.
    let written = file.write_vectored(&[IoSlice::new(header), IoSlice::new(body)])?;
    match header.get(written..) {
        Some(rest) => {
            file.write_all(rest)?;
            file.write_all(body)
        }
        None => file.write_all(body.get(written.saturating_sub(header.len())..).unwrap_or_default()),
    }
}

/// Reads up to `size` bytes at `position`; fewer at the end of the file.
pub(super) fn read_at(file: &File, position: u64, size: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match read_some(file, rest, position.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(Bytes::from(bytes))
}

#[cfg(unix)]
fn read_some(file: &File, into: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, into, position)
}

#[cfg(windows)]
fn read_some(file: &File, into: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, into, position)
}

/// What stands at a place of a file.
#[derive(Debug)]
pub(super) enum Found {
    /// A header that can be, and the batch's bytes, whose CRC was not looked at.
    Batch(u64, Header, Bytes),
    /// No batch. The size is known if its header can be read and it ends within the file.
    Damage { position: u64, size: Option<u64>, why: Corrupt },
}

/// A walk over the batches of a file, which is read in large pieces.
#[derive(Debug)]
pub(super) struct Scan {
    file: Arc<File>,
    /// Of the next batch.
    position: u64,
    end: u64,
    /// What was read and not yet given; it begins at `position`.
    chunk: Bytes,
}

impl Scan {
    pub(super) fn new(file: Arc<File>, position: u64, end: u64) -> Scan {
        Scan { file, position, end, chunk: Bytes::new() }
    }

    /// Goes on behind what [`next`](Scan::next) found damaged.
    pub(super) fn skip(&mut self, size: u64) {
        self.position = self.position.saturating_add(size).min(self.end);
        match usize::try_from(size) {
            Ok(size) if size <= self.chunk.len() => self.chunk.advance(size),
            _ => self.chunk = Bytes::new(),
        }
    }

    /// The next batch; `None` at the end. Damage is not passed over: [`skip`](Scan::skip) does that.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        let left = self.end.saturating_sub(self.position);
        if left == 0 {
            return Ok(None);
        }
        if (self.chunk.len() as u64) < left.min(HEADER as u64) {
            self.fill(CHUNK)?;
        }
        let header = match Header::parse(&self.chunk) {
            Ok(header) => header,
            Err(why) => {
                let size = self.chunk.get(8..12).and_then(|size| size.try_into().ok()).map(i32::from_be_bytes);
                let size = size.and_then(|size| u64::try_from(size).ok()).map(|size| size + 12);
                return Ok(Some(self.damage(size.filter(|size| *size >= HEADER as u64), why)));
            }
        };
        let size = header.size as u64;
        if size > left {
            return Ok(Some(self.damage(None, Corrupt::Damaged("it ends before its size"))));
        }
        if (self.chunk.len() as u64) < size {
            self.fill(size.max(CHUNK))?;
        }
        if self.chunk.len() < header.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let batch = self.chunk.split_to(header.size);
        let position = self.position;
        self.position = position.saturating_add(size);
        Ok(Some(Found::Batch(position, header, batch)))
    }

    fn damage(&self, size: Option<u64>, why: Corrupt) -> Found {
        let size = size.filter(|size| *size <= self.end.saturating_sub(self.position));
        Found::Damage { position: self.position, size, why }
    }

    fn fill(&mut self, size: u64) -> io::Result<()> {
        self.chunk = read_at(&self.file, self.position, size.min(self.end.saturating_sub(self.position)))?;
        Ok(())
    }
}
