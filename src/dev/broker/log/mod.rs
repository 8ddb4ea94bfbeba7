//! One partition's log: batches in segments on disk, found by offset and by time.
//!
//! A log is a folder with files of batches as they came, `segment` by segment; only the last one is written to. What is
//! known of them in memory is rebuilt when the log is opened, by going through them once: a torn tail is cut off, damage
//! before it is taken out and reported. The `cleaner` removes what a newer record of the same key has replaced.

mod cleaner;
mod recovery;
mod segment;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::{Buf, Bytes};

use super::batch::{self, Corrupt, HEADER, Header, Keep, NONE};
pub use cleaner::{Compacted, Compaction, LastWrite};
use segment::{Found, INTERVAL, Segment, read_at};

/// The configs of a topic that its logs obey, by Kafka's names and with Kafka's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `segment.bytes`
    pub segment_bytes: u64,
    /// `segment.ms`
    pub segment_ms: i64,
    /// `retention.ms`; -1 for ever.
    pub retention_ms: i64,
    /// `retention.bytes`; -1 without limit.
    pub retention_bytes: i64,
    /// Whether `cleanup.policy` has `delete`.
    pub delete: bool,
    /// Whether `cleanup.policy` has `compact`.
    pub compact: bool,
    /// `delete.retention.ms`: how long tombstones and markers are kept once a compaction has seen them.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`
    pub min_cleanable_dirty_ratio: f64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            segment_bytes: 1024 * 1024 * 1024,
            segment_ms: 7 * 24 * 3_600_000,
            retention_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            delete: true,
            compact: false,
            delete_retention_ms: 24 * 3_600_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: 0.5,
        }
    }
}

/// Bytes of a log that were no batches, found when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    pub position: u64,
    pub size: u64,
    pub why: Corrupt,
    /// Where the bytes are kept; `None` for the torn end of the last file, which is cut off.
    pub kept: Option<PathBuf>,
}

/// A log. Who appends to it holds it alone; a read holds it only to learn where its bytes are, see [`Slice`].
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    config: Config,
    /// By offset; never empty. The last is the active one.
    segments: Vec<Segment>,
    start: i64,
    /// What is before this offset was compacted.
    cleaned: i64,
    damage: Vec<Damage>,
}

impl Log {
    /// The first offset that can be read.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// The offset that the next record gets.
    pub fn end(&self) -> i64 {
        self.segments.last().map_or(self.start, |active| active.last.saturating_add(1))
    }

    /// Bytes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// How many files there are.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// What is before this offset was compacted already.
    pub fn cleaned(&self) -> i64 {
        self.cleaned
    }

    /// Where it is kept.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was damaged when the log was opened.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Obeys `config` from now on.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
    }

    /// Appends one whole batch, which gets its offset and epoch here and, with an `append_time`, that as the timestamp of
    /// all its records. What was appended survives a kill of the process.
    ///
    /// # Errors
    /// It is no batch, the offset is not behind all others, or the file cannot be written; the log is as before then.
    pub fn append(&mut self, batch: &Bytes, base_offset: i64, leader_epoch: i32, append_time: Option<i64>) -> io::Result<()> {
        let mut header = Header::parse(batch).map_err(invalid)?;
        if header.size != batch.len() || base_offset < self.end() {
            return Err(invalid("not one batch, or not behind the log's end"));
        }
        let mut batch = batch.clone();
        if let Some(now) = append_time {
            (header, batch) = batch::restamp(&header, &batch, now, true);
        }
        (header.base_offset, header.leader_epoch) = (base_offset, leader_epoch);
        if self.is_full_for(&header) {
            self.roll(base_offset)?;
        }
        let mut front = [0; 16];
        front[..8].copy_from_slice(&base_offset.to_be_bytes());
        front[8..12].copy_from_slice(batch.get(8..12).unwrap_or_default());
        front[12..].copy_from_slice(&leader_epoch.to_be_bytes());
        let active = self.segments.last_mut().ok_or(io::ErrorKind::NotFound)?;
        active.append(&header, [&front, batch.get(16..).unwrap_or_default()])
    }

    /// Whether the active segment has no room for the batch, or is too old for it.
    fn is_full_for(&self, batch: &Header) -> bool {
        let Some(active) = self.segments.last().filter(|active| !active.is_empty()) else { return false };
        let age = match active.first_timestamp {
            NONE.. => batch.max_timestamp.saturating_sub(active.first_timestamp),
            _ => 0,
        };
        active.size.saturating_add(batch.size as u64) > self.config.segment_bytes
            || (active.first_timestamp >= 0 && age > self.segment_ms())
    }

    /// A compacted topic's segments do not stay active, where compaction cannot reach them, beyond the highest lag.
    fn segment_ms(&self) -> i64 {
        let lag = if self.config.compact { self.config.max_compaction_lag_ms } else { i64::MAX };
        self.config.segment_ms.min(lag)
    }

    /// Begins a new segment, empty and active. Its file says where the log ends when those before it are gone.
    fn roll(&mut self, base: i64) -> io::Result<()> {
        let mut next = Segment::new(&self.dir, base);
        next.activate()?;
        if let Some(active) = self.segments.last_mut() {
            active.retire();
        }
        self.segments.push(next);
        Ok(())
    }

    /// Whole batches from the one that holds offset `from` on, those that begin before `upto`, in `max_bytes`; but at least
    /// one if `at_least_one`. May give less than there is: a read ends with its file. Empty at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self, from: i64, upto: i64, max_bytes: usize, at_least_one: bool) -> io::Result<Bytes> {
        self.slice(from, upto, max_bytes, at_least_one)?.map_or(Ok(Bytes::new()), |slice| slice.read())
    }

    /// Where a [`read`](Log::read) finds its bytes, without reading them: that can be done when the log is no longer held.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn slice(&self, from: i64, upto: i64, max_bytes: usize, at_least_one: bool) -> io::Result<Option<Slice>> {
        let at = self.segments.partition_point(|segment| segment.last < from);
        // Compaction leaves gaps, and a segment in which nothing is left.
        let mut behind = self.segments.iter().skip(at).skip_while(|segment| segment.is_empty());
        let Some(segment) = behind.next().filter(|segment| segment.base < upto && from < upto) else { return Ok(None) };
        let (position, end) = (segment.position(from), segment.size);
        Ok(Some(Slice { file: segment.file()?, position, end, from, upto, max_bytes, at_least_one }))
    }

    /// The first record with this timestamp or a later one: its offset and timestamp.
    ///
    /// # Errors
    /// A file cannot be read, or a batch in it.
    pub fn offset_for_time(&self, timestamp: i64) -> io::Result<Option<(i64, i64)>> {
        for segment in self.segments.iter().filter(|segment| segment.max_timestamp >= timestamp && !segment.is_empty()) {
            let mut scan = segment.scan(segment.position_of_time(timestamp))?;
            while let Some(found) = scan.next()? {
                let Found::Batch(_, header, bytes) = found else { return Err(invalid("a batch cannot be read")) };
                if header.max_timestamp < timestamp || header.last_offset() < self.start {
                    continue;
                }
                if let Some(found) = first_since(&header, &bytes, timestamp, self.start).map_err(invalid)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The highest timestamp and the offset of the first record that has it; `None` without a record that has one.
    ///
    /// # Errors
    /// A file cannot be read, or a batch in it.
    pub fn max_timestamp(&self) -> io::Result<Option<(i64, i64)>> {
        let max = self.segments.iter().map(|segment| segment.max_timestamp).max().unwrap_or(NONE);
        if max < 0 {
            return Ok(None);
        }
        Ok(self.offset_for_time(max)?.map(|(offset, timestamp)| (timestamp, offset)))
    }

    /// Makes `offset` the first that can be read, if it is behind the one that is, and removes segments that are wholly
    /// before. The caller keeps the offset for the next [`open`](Log::open).
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn delete_before(&mut self, offset: i64) -> io::Result<()> {
        self.start = self.start.max(offset.min(self.end()));
        let keep = self.segments.iter().skip(1).take_while(|segment| segment.base <= self.start).count();
        self.remove_first(keep)
    }

    /// Removes segments whose time or room is over, if the cleanup policy has `delete`: whole ones, oldest first. When that
    /// is all of them, a new one is begun before, so that the log's end is kept. Whether something was removed.
    ///
    /// # Errors
    /// A file cannot be written or removed.
    pub fn retain(&mut self, now: i64) -> io::Result<bool> {
        let expired = if self.config.delete { self.expired(now) } else { 0 };
        if expired == 0 {
            return Ok(false);
        }
        if expired == self.segments.len() {
            self.roll(self.end())?;
        }
        if let Some(first) = self.segments.get(expired) {
            self.start = self.start.max(first.base);
        }
        self.remove_first(expired)?;
        Ok(true)
    }

    /// How many segments, from the oldest on, are to go. An empty active one never is.
    fn expired(&self, now: i64) -> usize {
        let Config { retention_ms, retention_bytes, .. } = self.config;
        let filled = self.segments.len() - usize::from(self.segments.last().is_some_and(Segment::is_empty));
        let too_old = |segment: &&Segment| retention_ms >= 0 && now.saturating_sub(newest(segment, now)) > retention_ms;
        let too_old = self.segments.iter().take(filled).take_while(too_old).count();
        let Ok(room) = u64::try_from(retention_bytes) else { return too_old };
        let mut excess = self.size_bytes().saturating_sub(room);
        let too_much = self.segments.iter().take(filled).take_while(|segment| {
            let goes = segment.size <= excess && excess > 0;
            excess = excess.saturating_sub(segment.size);
            goes
        });
        too_old.max(too_much.count())
    }

    fn remove_first(&mut self, count: usize) -> io::Result<()> {
        for segment in self.segments.drain(..count.min(self.segments.len())) {
            match std::fs::remove_file(&segment.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The time of a segment's newest record; when they have none, of the last write.
fn newest(segment: &Segment, now: i64) -> i64 {
    if segment.max_timestamp >= 0 {
        return segment.max_timestamp;
    }
    let modified = std::fs::metadata(&segment.path).and_then(|data| data.modified()).ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(now)
}

/// Offset and timestamp of a batch's first record at or behind both.
fn first_since(header: &Header, batch: &Bytes, timestamp: i64, start: i64) -> Result<Option<(i64, i64)>, Corrupt> {
    let mut found = None;
    batch::skim(header, batch, Keep::Nothing, |record| {
        if record.timestamp >= timestamp && record.offset >= start {
            found = Some((record.offset, record.timestamp));
        }
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// A read that is still to be done: it needs no log, and sees the batches that were there when it was made, though they
/// may be deleted or compacted in the meantime.
#[derive(Debug)]
pub struct Slice {
    file: Arc<File>,
    position: u64,
    end: u64,
    from: i64,
    upto: i64,
    max_bytes: usize,
    at_least_one: bool,
}

impl Slice {
    /// The batches, in one buffer of `max_bytes` and a little more at most, or of the one batch's size.
    ///
    /// # Errors
    /// The file cannot be read, or has changed under us.
    pub fn read(&self) -> io::Result<Bytes> {
        let room = (self.max_bytes as u64).saturating_add(INTERVAL + HEADER as u64);
        let mut position = self.position;
        let mut bytes = read_at(&self.file, position, room.min(self.end.saturating_sub(position)))?;
        let first = loop {
            let header = Header::parse(&bytes).map_err(invalid)?;
            if header.last_offset() >= self.from {
                break header;
            }
            if header.size >= bytes.len() {
                return Err(invalid("a batch is not where it was"));
            }
            bytes.advance(header.size);
            position = position.saturating_add(header.size as u64);
        };
        if first.base_offset >= self.upto || (first.size > self.max_bytes && !self.at_least_one) {
            return Ok(Bytes::new());
        }
        if first.size > bytes.len() {
            bytes = read_at(&self.file, position, first.size as u64)?;
            return if bytes.len() == first.size { Ok(bytes) } else { Err(invalid("a batch is not where it was")) };
        }
        bytes.truncate(self.whole(&bytes, first.size));
        Ok(bytes)
    }

    /// How many of the bytes are batches that belong to the read; `first`, the size of the first one, do.
    fn whole(&self, bytes: &Bytes, first: usize) -> usize {
        let mut whole = first;
        while let Some(front) = bytes.get(whole..).and_then(|rest| rest.first_chunk::<12>()) {
            let mut front = front.as_slice();
            let (offset, size) = (front.get_i64(), usize::try_from(front.get_i32()).unwrap_or(usize::MAX));
            let behind = whole.saturating_add(size).saturating_add(12);
            if offset >= self.upto || behind > bytes.len() || behind > self.max_bytes {
                break;
            }
            whole = behind;
        }
        whole
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::super::batch::{Producer, Record, build, records, split};
    use super::super::compression::Compression;
    use super::*;

    pub(super) fn open(dir: &Path, config: &Config) -> Log {
        Log::open(dir, config, 0, &mut |_, _| {}).unwrap()
    }

    pub(super) fn record(timestamp: i64, key: &str, value: &str) -> Record {
        let bytes = |text: &str| Some(Bytes::copy_from_slice(text.as_bytes()));
        Record { offset: 0, timestamp, key: bytes(key), value: bytes(value), headers: Vec::new() }
    }

    pub(super) fn batch(records: &[Record]) -> Bytes {
        build(records, Producer::NONE, Compression::None).unwrap()
    }

    /// Appends a batch of these values, one millisecond apart from `time` on.
    pub(super) fn put(log: &mut Log, time: i64, values: &[&str]) {
        let records: Vec<_> = values.iter().zip(time..).map(|(value, time)| record(time, "k", value)).collect();
        log.append(&batch(&records), log.end(), 0, None).unwrap();
    }

    /// Offsets and values of all records, read in pieces of `max_bytes`.
    pub(super) fn all(log: &Log, max_bytes: usize) -> Vec<(i64, String)> {
        let (mut found, mut from) = (Vec::new(), log.start());
        while from < log.end() {
            let bytes = log.read(from, log.end(), max_bytes, true).unwrap();
            for (header, batch) in split(&bytes).unwrap() {
                from = header.last_offset() + 1;
                for record in records(&header, &batch).unwrap() {
                    let value = record.value.map(|value| String::from_utf8(value.to_vec()).unwrap());
                    found.push((record.offset, value.unwrap_or_default()));
                }
            }
        }
        found
    }

    #[test]
    fn what_is_appended_is_read_also_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { segment_bytes: 400, ..Config::default() };
        let mut log = open(dir.path(), &config);
        for n in 0..50 {
            put(&mut log, n, &[&format!("{n}a"), &format!("{n}b")]);
        }
        assert!(log.segments() > 10);
        let expected: Vec<_> = (0..50).flat_map(|n| [(2 * n, format!("{n}a")), (2 * n + 1, format!("{n}b"))]).collect();
        assert_eq!(all(&log, 1), expected);
        assert_eq!(all(&log, 100_000), expected);
        let size = log.size_bytes();
        drop(log);
        let mut offsets = Vec::new();
        let log = Log::open(dir.path(), &config, 0, &mut |header, _| offsets.push(header.base_offset)).unwrap();
        assert_eq!(offsets, (0..50).map(|n| 2 * n).collect::<Vec<_>>());
        assert_eq!((all(&log, 300), log.end(), log.size_bytes()), (expected, 100, size));
    }

    fn small() -> Config {
        Config { segment_bytes: 400, ..Config::default() }
    }

    /// Base offsets and sizes of the batches that a read gives.
    fn bases(log: &Log, from: i64, upto: i64, max_bytes: usize, at_least_one: bool) -> Vec<i64> {
        let bytes = log.read(from, upto, max_bytes, at_least_one).unwrap();
        split(&bytes).unwrap().iter().map(|(header, _)| header.base_offset).collect()
    }

    #[test]
    fn a_read_gives_whole_batches_and_obeys_its_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &Config::default());
        assert!(bases(&log, 0, 10, 1_000, true).is_empty());
        for n in 0..10 {
            put(&mut log, n, &["first", "second", "third"]);
        }
        let size = usize::try_from(log.size_bytes() / 10).unwrap();
        assert_eq!(bases(&log, 0, 30, 3 * size, true), [0, 3, 6]);
        assert_eq!(bases(&log, 0, 30, 3 * size - 1, true), [0, 3]);
        assert!(bases(&log, 0, 30, size - 1, false).is_empty());
        assert_eq!(bases(&log, 0, 30, 0, true), [0]);
        // The batch that holds the offset, from its beginning.
        assert_eq!(bases(&log, 5, 30, 2 * size, true), [3, 6]);
        assert_eq!(bases(&log, 0, 6, usize::MAX, true), [0, 3]);
        assert!(bases(&log, 6, 6, usize::MAX, true).is_empty());
        assert_eq!(bases(&log, 29, 30, usize::MAX, true), [27]);
        assert!(bases(&log, 30, 40, usize::MAX, true).is_empty());
    }

    #[test]
    fn a_batch_larger_than_what_is_read_at_once_comes_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &Config::default());
        let large = "x".repeat(3_000_000);
        put(&mut log, 1, &["a"]);
        put(&mut log, 2, &[&large]);
        put(&mut log, 3, &["b"]);
        assert_eq!(bases(&log, 1, 3, 10, true), [1]);
        assert!(bases(&log, 1, 3, 10, false).is_empty());
        assert_eq!(all(&log, 4_000_000).len(), 3);
        drop(log);
        assert_eq!(all(&open(dir.path(), &Config::default()), 1)[1].1, large);
    }

    #[test]
    fn each_offset_is_found_whatever_the_sizes() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { segment_bytes: 100_000, ..Config::default() };
        let mut log = open(dir.path(), &config);
        let mut expected = Vec::new();
        for n in 0..300_usize {
            let value = "x".repeat(n * 7919 % 5_000);
            let first = log.end();
            put(&mut log, 1, &vec![value.as_str(); 1 + n % 3]);
            expected.extend((first..log.end()).map(|offset| (offset, first)));
        }
        for log in [&log, &open(dir.path(), &config)] {
            for (offset, first) in &expected {
                assert_eq!(bases(log, *offset, i64::MAX, 1, true), [*first]);
            }
        }
    }

    #[test]
    fn what_is_not_one_batch_behind_the_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &Config::default());
        let one = batch(&[record(1, "k", "v")]);
        assert!(log.append(&one.slice(..one.len() - 1), 0, 0, None).is_err());
        assert!(log.append(&[one.clone(), one.clone()].concat().into(), 0, 0, None).is_err());
        log.append(&one, 5, 0, None).unwrap();
        assert!(log.append(&one, 5, 0, None).is_err());
        assert_eq!((log.end(), all(&log, 1).len()), (6, 1));
    }

    #[test]
    fn offset_epoch_and_append_time_are_written_into_the_batch() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &Config::default());
        log.append(&batch(&[record(1, "k", "v"), record(2, "k", "v")]), 40, 7, None).unwrap();
        log.append(&batch(&[record(1, "k", "v"), record(2, "k", "v")]), 42, 7, Some(900)).unwrap();
        let read = split(&log.read(40, 44, 10_000, true).unwrap()).unwrap();
        let heads = read.iter().map(|(header, _)| (header.base_offset, header.leader_epoch, header.max_timestamp));
        assert_eq!(heads.collect::<Vec<_>>(), [(40, 7, 2), (42, 7, 900)]);
        let stamped = records(&read[1].0, &read[1].1).unwrap();
        assert_eq!(stamped.iter().map(|record| (record.offset, record.timestamp)).collect::<Vec<_>>(), [(42, 900), (43, 900)]);
    }

    #[test]
    fn a_segment_ends_by_size_and_by_the_time_of_its_records() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { segment_ms: 1_000, ..Config::default() };
        let mut log = open(dir.path(), &config);
        for time in [5_000, 6_000, 6_001, 6_500, 7_002] {
            put(&mut log, time, &["v"]);
        }
        assert_eq!(log.segments.iter().map(|segment| segment.base).collect::<Vec<_>>(), [0, 2, 4]);
        // A compacted topic's segments end earlier if they must be compacted earlier.
        log.configure(Config { compact: true, max_compaction_lag_ms: 10, ..config });
        put(&mut log, 7_012, &["v"]);
        put(&mut log, 7_013, &["v"]);
        assert_eq!(log.segments.iter().map(|segment| segment.base).collect::<Vec<_>>(), [0, 2, 4, 6]);
        // One batch fits whatever its size.
        log.configure(Config { segment_bytes: 1, ..Config::default() });
        put(&mut log, 7_014, &["v"]);
        put(&mut log, 7_014, &["v"]);
        assert_eq!(log.segments(), 6);
    }

    #[test]
    fn times_are_found_record_by_record() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { segment_bytes: 300, ..Config::default() };
        let mut log = open(dir.path(), &config);
        assert_eq!((log.offset_for_time(0).unwrap(), log.max_timestamp().unwrap()), (None, None));
        let times = [[100, 110, 105], [90, 120, 120], [115, 116, 117], [300, 200, 250], [300, 10, 10]];
        for (times, compression) in times.iter().zip(Compression::ALL) {
            let records: Vec<_> = times.iter().map(|time| record(*time, "k", "v")).collect();
            let batch = build(&records, Producer::NONE, compression).unwrap();
            log.append(&batch, log.end(), 0, None).unwrap();
        }
        assert!(log.segments() > 1);
        for log in [&log, &open(dir.path(), &config)] {
            for time in 0..=301 {
                let expected = times.as_flattened().iter().zip(0_i64..).find(|(at, _)| **at >= time);
                assert_eq!(log.offset_for_time(time).unwrap(), expected.map(|(at, offset)| (offset, *at)), "time {time}");
            }
            assert_eq!(log.max_timestamp().unwrap(), Some((300, 9)));
        }
        log.delete_before(2).unwrap();
        assert_eq!(log.offset_for_time(0).unwrap(), Some((2, 105)));
        assert_eq!(log.offset_for_time(106).unwrap(), Some((4, 120)));
    }

    #[test]
    fn times_are_found_in_a_large_segment() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &Config::default());
        let value = "x".repeat(100);
        for time in 0..500 {
            put(&mut log, 10 * time, &[&value, &value]);
        }
        for time in (0..5_000).step_by(37) {
            let expected = if time % 10 == 0 { (time / 5, time) } else { ((time - 1) / 10 * 2 + 1, (time - 1) / 10 * 10 + 1) };
            let expected = if time % 10 > 1 { ((time / 10 + 1) * 2, (time / 10 + 1) * 10) } else { expected };
            assert_eq!(log.offset_for_time(time).unwrap(), Some(expected).filter(|(offset, _)| *offset < 1_000), "time {time}");
        }
    }

    #[test]
    fn what_is_deleted_before_an_offset_is_gone_by_segments_and_for_readers_by_offset() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &small());
        for n in 0..30 {
            put(&mut log, n, &["some value", "another"]);
        }
        let (segments, second) = (log.segments(), log.segments[1].base);
        log.delete_before(second - 1).unwrap();
        assert_eq!((log.segments(), log.start()), (segments, second - 1));
        log.delete_before(second + 1).unwrap();
        assert_eq!((log.segments(), log.start()), (segments - 1, second + 1));
        log.delete_before(3).unwrap();
        assert_eq!(log.start(), second + 1);
        log.delete_before(i64::MAX).unwrap();
        assert_eq!((log.segments(), log.start(), log.end()), (1, 60, 60));
        drop(log);
        let mut log = Log::open(dir.path(), &small(), 60, &mut |_, _| {}).unwrap();
        assert_eq!((log.start(), log.end()), (60, 60));
        put(&mut log, 1, &["new"]);
        assert_eq!(all(&log, 1), [(60, "new".to_owned())]);
        drop(log);
        // The files were lost, or their end was cut: offsets are not given out twice.
        let log = Log::open(dir.path(), &small(), 100, &mut |_, _| {}).unwrap();
        assert_eq!((log.start(), log.end(), log.segments()), (100, 100, 1));
        drop(log);
        let log = Log::open(dir.path(), &small(), 0, &mut |_, _| {}).unwrap();
        assert_eq!((log.start(), log.end()), (100, 100));
    }

    #[test]
    fn retention_removes_segments_by_time_and_by_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &small());
        for n in 0..40 {
            put(&mut log, 1_000 + n, &["some value"]);
        }
        let segments = log.segments();
        let (third, in_third) = (log.segments[2].base, log.segments[2].max_timestamp);
        log.configure(Config { retention_ms: 500, ..small() });
        assert!(!log.retain(1_200).unwrap());
        assert!(log.retain(in_third + 500).unwrap());
        assert_eq!((log.segments(), log.start()), (segments - 2, third));
        log.configure(Config { retention_ms: 500, delete: false, ..small() });
        assert!(!log.retain(100_000).unwrap());

        let keep = log.segments.iter().rev().take(2).map(|segment| segment.size).sum::<u64>();
        log.configure(Config { retention_bytes: i64::try_from(keep).unwrap(), retention_ms: -1, ..small() });
        assert!(log.retain(100_000).unwrap());
        assert_eq!((log.segments(), log.size_bytes()), (2, keep));
        assert!(!log.retain(100_000).unwrap());
        log.configure(Config { retention_bytes: i64::try_from(keep).unwrap() - 1, retention_ms: -1, ..small() });
        assert!(!log.retain(100_000).unwrap(), "a segment goes only when what is left is still enough");
    }

    #[test]
    fn when_all_of_it_is_expired_the_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &small());
        assert!(!log.retain(i64::MAX).unwrap());
        for n in 0..10 {
            put(&mut log, n, &["v"]);
        }
        assert!(log.retain(i64::MAX).unwrap());
        assert_eq!((log.segments(), log.start(), log.end(), log.size_bytes()), (1, 10, 10, 0));
        assert!(!log.retain(i64::MAX).unwrap());
        drop(log);
        let mut log = open(dir.path(), &small());
        assert_eq!((log.start(), log.end()), (10, 10));
        put(&mut log, 1, &["v"]);
        assert_eq!(all(&log, 1).len(), 1);
        // Records without a time: the file's counts.
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &small());
        log.append(&batch(&[record(NONE, "k", "v")]), 0, 0, None).unwrap();
        let now = i64::try_from(std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        let week = Config::default().retention_ms;
        assert!(!log.retain(now + week - 60_000).unwrap());
        assert!(log.retain(now + week + 60_000).unwrap());
    }

    #[test]
    fn a_read_that_has_begun_is_not_hurt_by_deletion() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &small());
        for n in 0..40 {
            put(&mut log, n, &["some value"]);
        }
        let slices = [0, 20, 39].map(|from| log.slice(from, 40, 10_000, true).unwrap().unwrap());
        let before = slices.each_ref().map(|slice| slice.read().unwrap());
        log.delete_before(40).unwrap();
        put(&mut log, 40, &["new"]);
        assert_eq!(slices.each_ref().map(|slice| slice.read().unwrap()), before);
        assert!(before.iter().all(|bytes| !bytes.is_empty()));
    }

    #[test]
    fn a_segment_that_is_not_written_to_holds_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &small());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no file before the first record");
        for n in 0..40 {
            put(&mut log, n, &["some value"]);
        }
        let count = |log: &Log| log.segments.iter().filter(|segment| segment.is_open()).count();
        assert_eq!(count(&log), 1);
        drop(log);
        assert_eq!(count(&open(dir.path(), &small())), 0);
    }
}
