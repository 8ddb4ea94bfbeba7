//! Compaction (`cleanup.policy=compact`): of each key the latest record stays, at its offset.
//!
//! A round has three parts, so that the log is held only for the first and the last: [`Log::compaction`] says which segments,
//! [`Compaction::run`] writes them anew beside their place, [`Log::install`] puts them there. It goes as Kafka's cleaner does:
//!
//! * Whole segments, never the active one, none that a transaction is still open in, none younger than the lowest lag.
//! * First the keys of the records since the last round are read, as hashes with the latest offset, [`KEYS`] of them at most;
//!   then all segments up to there are copied without the records that one of these has replaced.
//! * Records of aborted transactions go. A marker goes when no batch of its transaction was seen in the round before, and the
//!   delete horizon that was then written into its batch is over; so does a tombstone (KIP-534).
//! * A batch keeps its offsets and sequence numbers whatever is left of it, and stays, empty, when it is the last of an active
//!   producer, whose next sequence number is known by it, or the last of the round.
//!
//! Groups of segments that fit into one become one. A group is swapped in by renaming, the oldest first, so that a kill never
//! brings back what a later tombstone or marker was about; [`swap`] finishes it when the log is opened.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::recovery::{SWAP, UNFINISHED};
use super::segment::{Found, Scan, Segment, name};
use super::{Config, Corrupt, Header, Log, invalid};
use crate::dev::broker::batch::{self, Keep};

/// How many keys a round looks at: as many as fit a hash table of 26 MB, 24 bytes each. What is behind them is for the next.
const KEYS: usize = (1 << 20) / 8 * 7;
/// The file that says up to where the log is compacted.
const MARK: &str = "compacted";

/// What a producer wrote last, of which compaction leaves the batch so that its next sequence number or epoch stays known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastWrite {
    /// The last offset of its last batch of records; `None` if it only wrote markers.
    pub offset: Option<i64>,
    pub epoch: i16,
}

/// A round that is to be done.
#[derive(Debug)]
pub struct Compaction {
    config: Config,
    now: i64,
    /// All segments of the log; those of this round are before `upto`.
    pieces: Vec<Piece>,
    first_dirty: i64,
    upto: i64,
    producers: HashMap<i64, LastWrite>,
    keys: usize,
}

/// A segment as it was when the round began.
#[derive(Debug)]
struct Piece {
    base: i64,
    last: i64,
    path: PathBuf,
    size: u64,
    transactional: bool,
}

/// A round that was done and waits to be installed.
#[derive(Debug)]
pub struct Compacted {
    groups: Vec<Group>,
    cleaned: i64,
}

/// What some segments became: one, or nothing new.
#[derive(Debug)]
struct Group {
    /// Base and size of each segment.
    of: Vec<(i64, u64)>,
    /// The file is still [`UNFINISHED`]; `None` if it would be as before.
    becomes: Option<Segment>,
    /// The base of the segment behind the group.
    behind: i64,
}

impl Log {
    /// The round of compaction that is due: enough is new since the last one (`min.cleanable.dirty.ratio`), or the oldest of it
    /// waits too long (`max.compaction.lag.ms`). Nothing from offset `upto` on, the last stable one, is touched. `producers`
    /// are those that are active, as they are in this moment.
    pub fn compaction(&self, now: i64, upto: i64, producers: HashMap<i64, LastWrite>) -> Option<Compaction> {
        let active = self.segments.last()?;
        let first_dirty = if self.cleaned > self.end() { self.start } else { self.cleaned.max(self.start) };
        let lag = self.config.min_compaction_lag_ms;
        let too_young = |segment: &&Segment| segment.last >= first_dirty && segment.max_timestamp > now.saturating_sub(lag);
        let young = self.segments.iter().find(too_young).filter(|_| lag > 0).map_or(i64::MAX, |segment| segment.base);
        let upto = upto.min(active.base).min(young);
        let cleanable = self.segments.partition_point(|segment| segment.last < upto && segment.base < active.base);
        let upto = self.segments.get(cleanable)?.base;
        let segments = self.segments.get(..cleanable)?;
        let is_dirty = |segment: &&Segment| segment.last >= first_dirty;
        let dirty: u64 = segments.iter().filter(is_dirty).map(|segment| segment.size).sum();
        let total: u64 = segments.iter().map(|segment| segment.size).sum();
        let waits_since = segments.iter().filter(is_dirty).map(|segment| segment.first_timestamp).filter(|time| *time > 0).min();
        let too_long = waits_since.is_some_and(|since| since < now.saturating_sub(self.config.max_compaction_lag_ms));
        let enough = dirty as f64 > self.config.min_cleanable_dirty_ratio * total as f64;
        let due = self.config.compact && dirty > 0 && (too_long || enough);
        due.then(|| Compaction {
            config: self.config.clone(),
            now,
            pieces: self.segments.iter().map(Piece::of).collect(),
            first_dirty,
            upto,
            producers,
            keys: KEYS,
        })
    }

    /// Puts what a round has written into its place. Whether it did: not when segments were removed in the meantime. There may
    /// be one round of a log at a time.
    ///
    /// # Errors
    /// A file cannot be renamed; opening the log again finishes what was begun.
    pub fn install(&mut self, compacted: Compacted) -> io::Result<bool> {
        if compacted.groups.iter().any(|group| self.place(group).is_none()) {
            compacted.groups.iter().for_each(Group::discard);
            return Ok(false);
        }
        for group in compacted.groups {
            let (Some(at), Some(mut becomes)) = (self.place(&group), group.becomes) else { continue };
            let unfinished = std::mem::replace(&mut becomes.path, self.dir.join(name(becomes.base)));
            let waiting = self.dir.join(format!("{:020}-{:020}.{SWAP}", becomes.base, group.behind));
            fs::rename(unfinished, &waiting)?;
            swap(&self.dir, &waiting)?;
            self.segments.splice(at..at + group.of.len(), [becomes]);
        }
        self.cleaned = compacted.cleaned;
        write_mark(&self.dir, self.cleaned)?;
        Ok(true)
    }

    /// All parts of a round at once. Whether one was due and done.
    ///
    /// # Errors
    /// As those of [`Compaction::run`] and [`install`](Log::install).
    pub fn compact(&mut self, now: i64, upto: i64, producers: HashMap<i64, LastWrite>) -> io::Result<bool> {
        match self.compaction(now, upto, producers) {
            Some(compaction) => self.install(compaction.run()?),
            None => Ok(false),
        }
    }

    /// Where the group's segments are, if they are all there as they were.
    fn place(&self, group: &Group) -> Option<usize> {
        let (first, _) = group.of.first()?;
        let at = self.segments.iter().position(|segment| segment.base == *first)?;
        let there = self.segments.get(at..at.checked_add(group.of.len())?)?;
        let same = there.iter().zip(&group.of).all(|(segment, of)| (segment.base, segment.size) == *of);
        same.then_some(at)
    }
}

impl Group {
    /// Removes what was written. If that does not work, opening the log does it.
    fn discard(&self) {
        if let Some(becomes) = &self.becomes {
            let _ = fs::remove_file(&becomes.path);
        }
    }
}

impl Piece {
    fn of(segment: &Segment) -> Piece {
        let Segment { base, last, size, transactional, .. } = *segment;
        Piece { base, last, path: segment.path.clone(), size, transactional }
    }

    /// Shows each batch to `visit`, until it answers false.
    fn each(&self, mut visit: impl FnMut(&Header, &Bytes) -> io::Result<bool>) -> io::Result<bool> {
        let mut scan = Scan::new(Arc::new(File::open(&self.path)?), 0, self.size);
        while let Some(found) = scan.next()? {
            let Found::Batch(_, header, bytes) = found else { return Err(invalid("a batch cannot be read")) };
            if !visit(&header, &bytes)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Compaction {
    /// Does the round, beside the log. What it has written goes when it fails, or when the log is opened without it having
    /// been [installed](Log::install).
    ///
    /// # Errors
    /// A file cannot be read or written, or a batch in it; or it was removed in the meantime, which is no harm.
    pub fn run(&self) -> io::Result<Compacted> {
        let aborted = self.aborted()?;
        let (latest, behind) = self.latest(&aborted)?;
        let mut cleaning = Cleaning { round: self, latest, behind, aborted, seen: HashSet::new() };
        let count = self.pieces.iter().take_while(|piece| piece.base < behind.min(self.upto)).count();
        let (mut groups, mut rest) = (Vec::new(), self.pieces.get(..count).unwrap_or_default());
        while !rest.is_empty() {
            let (group, after) = rest.split_at(self.fitting(rest));
            let next = self.pieces.get(count.saturating_sub(after.len())).map_or(self.upto, |piece| piece.base);
            match cleaning.group(group, next) {
                Ok(group) => groups.push(group),
                Err(error) => {
                    groups.iter().for_each(Group::discard);
                    return Err(error);
                }
            }
            rest = after;
        }
        Ok(Compacted { groups, cleaned: behind })
    }

    /// How many of the pieces, one at least, fit into one segment.
    fn fitting(&self, pieces: &[Piece]) -> usize {
        let mut size = 0_u64;
        let fits = pieces.iter().take_while(|piece| {
            size = size.saturating_add(piece.size);
            size <= self.config.segment_bytes
        });
        fits.count().max(1)
    }

    /// The transactions that were aborted, by producer and in order: first offset and the marker's. Their markers may stand
    /// behind the round, so all of the log is gone through, if there are transactions in it.
    fn aborted(&self) -> io::Result<HashMap<i64, VecDeque<(i64, i64)>>> {
        let (mut open, mut aborted) = (HashMap::new(), HashMap::<i64, VecDeque<(i64, i64)>>::new());
        for piece in self.pieces.iter().filter(|piece| piece.transactional) {
            piece.each(|header, bytes| {
                if header.is_transactional() && !header.is_control() {
                    open.entry(header.producer_id).or_insert(header.base_offset);
                } else if let Some(marker) = batch::marker(header, bytes).map_err(invalid)? {
                    match open.remove(&header.producer_id) {
                        Some(first) if !marker.commit => {
                            aborted.entry(header.producer_id).or_default().push_back((first, header.base_offset));
                        }
                        _ => {}
                    }
                }
                Ok(true)
            })?;
        }
        Ok(aborted)
    }

    /// Hashes of the keys since the last round with their latest offsets, and the offset behind what was looked at.
    fn latest(&self, aborted: &HashMap<i64, VecDeque<(i64, i64)>>) -> io::Result<(HashMap<[u8; 16], i64>, i64)> {
        let mut latest = HashMap::new();
        let mut behind = self.upto;
        for piece in self.pieces.iter().filter(|piece| piece.last >= self.first_dirty && piece.base < self.upto) {
            let whole = piece.each(|header, bytes| {
                let count = usize::try_from(header.count).unwrap_or(0);
                if header.last_offset() < self.first_dirty || header.is_control() || is_aborted(header, aborted) {
                    return Ok(true);
                }
                // A round does one batch at the least.
                if !latest.is_empty() && latest.len().saturating_add(count) > self.keys {
                    behind = header.base_offset;
                    return Ok(false);
                }
                let read = batch::skim(header, bytes, Keep::Keys, |record| {
                    if let Some(key) = record.key.filter(|_| record.offset >= self.first_dirty) {
                        latest.insert(hash(&key), record.offset);
                    }
                    Ok(true)
                });
                read.map(|()| true).map_err(invalid)
            })?;
            if !whole {
                break;
            }
        }
        Ok((latest, behind))
    }
}

/// The beginning of the key's SHA-256: two keys never have the same.
fn hash(key: &[u8]) -> [u8; 16] {
    Sha256::digest(key).first_chunk().copied().unwrap_or_default()
}

fn is_aborted(header: &Header, aborted: &HashMap<i64, VecDeque<(i64, i64)>>) -> bool {
    let Some(ranges) = aborted.get(&header.producer_id).filter(|_| header.is_transactional()) else { return false };
    // The first that ends behind the batch is the only one that the batch can be of.
    let at = ranges.partition_point(|(_, marker)| *marker < header.base_offset);
    ranges.get(at).is_some_and(|(first, _)| *first <= header.base_offset)
}

/// The second half of a round: copying.
struct Cleaning<'a> {
    round: &'a Compaction,
    latest: HashMap<[u8; 16], i64>,
    /// Records from here on are not looked at.
    behind: i64,
    aborted: HashMap<i64, VecDeque<(i64, i64)>>,
    /// Producers of which a batch was seen in a transaction whose marker is still to come.
    seen: HashSet<i64>,
}

/// What becomes of a batch.
enum Fate {
    Same,
    Changed(Bytes),
    Gone,
}

impl Cleaning<'_> {
    /// Copies a group of segments into one.
    fn group(&mut self, pieces: &[Piece], behind: i64) -> io::Result<Group> {
        let of = pieces.iter().map(|piece| (piece.base, piece.size)).collect();
        let Some(first) = pieces.first() else { return Ok(Group { of, becomes: None, behind }) };
        let mut becomes = Segment::new(Path::new(""), first.base);
        becomes.path = first.path.with_extension(UNFINISHED);
        let copied = self.copy(pieces, &mut becomes);
        let changed = *copied.as_ref().unwrap_or(&false) || pieces.len() > 1;
        let group = Group { of, becomes: Some(becomes), behind };
        if copied.is_err() || !changed {
            group.discard();
        }
        copied.map(|_| if changed { group } else { Group { becomes: None, ..group } })
    }

    /// Writes what is left of the pieces. Whether something is not as it was.
    fn copy(&mut self, pieces: &[Piece], into: &mut Segment) -> io::Result<bool> {
        let mut out = BufWriter::with_capacity(256 * 1024, File::create(&into.path)?);
        let mut changed = false;
        for piece in pieces {
            piece.each(|header, bytes| {
                Header::verify(bytes).map_err(invalid)?;
                let left = match self.fate(header, bytes).map_err(invalid)? {
                    Fate::Same => bytes.clone(),
                    Fate::Changed(left) => left,
                    Fate::Gone => Bytes::new(),
                };
                changed |= left != *bytes;
                if !left.is_empty() {
                    out.write_all(&left)?;
                    into.note(&Header::parse(&left).map_err(invalid)?);
                }
                Ok(true)
            })?;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_data()?;
        Ok(changed)
    }

    fn fate(&mut self, header: &Header, bytes: &Bytes) -> Result<Fate, Corrupt> {
        if header.base_offset >= self.behind {
            return Ok(Fate::Same);
        }
        let is_over = self.is_over(header);
        let over_since_long = header.delete_horizon().is_some_and(|horizon| horizon <= self.round.now);
        let all_go = if header.is_control() { is_over && over_since_long } else { is_over };
        let keep = if all_go { Vec::new() } else { self.keep(header, bytes)? };
        let kept = keep.iter().filter(|(keep, _)| *keep).count();
        if kept == 0 {
            let stays = self.is_last_of_producer(header) || header.last_offset().saturating_add(1) == self.round.upto;
            return if stays { batch::rebuild(header, &[], None).map(Fate::Changed) } else { Ok(Fate::Gone) };
        }
        let tombstones = keep.iter().any(|(keep, has_value)| *keep && !has_value);
        let new_horizon = header.delete_horizon().is_none() && (tombstones || header.is_control() && is_over);
        if kept == keep.len() && !new_horizon {
            return Ok(Fate::Same);
        }
        let horizon = if new_horizon { Some(self.round.horizon()) } else { header.delete_horizon() };
        let records: Vec<_> = batch::records(header, bytes)?.into_iter().zip(&keep).collect();
        let records: Vec<_> = records.into_iter().filter(|(_, (keep, _))| *keep).map(|(record, _)| record).collect();
        batch::rebuild(header, &records, horizon).map(Fate::Changed)
    }

    /// Whether the records were aborted; of a marker, whether no batch of its transaction was there to be seen.
    fn is_over(&mut self, header: &Header) -> bool {
        if header.is_control() {
            return header.count == 0 || !self.seen.remove(&header.producer_id);
        }
        if header.is_transactional() {
            self.seen.insert(header.producer_id);
        }
        is_aborted(header, &self.aborted)
    }

    /// For each record of the batch, whether it stays and whether it has a value.
    fn keep(&self, header: &Header, bytes: &Bytes) -> Result<Vec<(bool, bool)>, Corrupt> {
        let tombstones = header.delete_horizon().is_none_or(|horizon| self.round.now < horizon);
        let mut keep = Vec::new();
        batch::skim(header, bytes, Keep::Keys, |record| {
            let replaced = |key: &Bytes| self.latest.get(&hash(key)).is_some_and(|latest| *latest > record.offset);
            let stays = match &record.key {
                _ if header.is_control() => true,
                // A record without key has no place in a compacted log.
                None => false,
                Some(key) => !replaced(key) && (record.value.is_some() || tombstones),
            };
            keep.push((stays, record.value.is_some()));
            Ok(true)
        })?;
        Ok(keep)
    }

    fn is_last_of_producer(&self, header: &Header) -> bool {
        let Some(last) = self.round.producers.get(&header.producer_id).filter(|_| header.has_producer()) else { return false };
        match last.offset {
            Some(offset) => header.last_offset() == offset,
            None => header.is_control() && header.producer_epoch == last.epoch,
        }
    }
}

impl Compaction {
    /// From when on what is seen to be over in this round may go.
    fn horizon(&self) -> i64 {
        self.now.saturating_add(self.config.delete_retention_ms)
    }
}

/// Puts the file of a compacted group, `BASE-BEHIND.swap`, in the place of the group's segments. A kill in between leaves the
/// file, and this is done again.
pub(super) fn swap(dir: &Path, waiting: &Path) -> io::Result<()> {
    let range = waiting.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.split_once('-'));
    let Some((base, behind)) = range.and_then(|(base, behind)| Some((base.parse().ok()?, behind.parse::<i64>().ok()?))) else {
        return Ok(());
    };
    for of in super::recovery::bases(dir)? {
        if base < of && of < behind {
            fs::remove_file(dir.join(name(of)))?;
        }
    }
    fs::rename(waiting, dir.join(name(base)))
}

/// The offset that the log is compacted up to; 0 when that is not known, which only costs time.
pub(super) fn read_mark(dir: &Path) -> i64 {
    fs::read_to_string(dir.join(MARK)).ok().and_then(|mark| mark.trim().parse().ok()).unwrap_or(0)
}

fn write_mark(dir: &Path, offset: i64) -> io::Result<()> {
    let beside = dir.join(MARK).with_extension(UNFINISHED);
    fs::write(&beside, offset.to_string())?;
    fs::rename(beside, dir.join(MARK))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::Config;
    use super::super::tests::{open, record};
    use super::*;
    use crate::dev::broker::batch::{Producer, Record, build, end_marker, split};
    use crate::dev::broker::compression::Compression;

    /// Each batch is a segment of its own; a round is always due.
    fn config() -> Config {
        Config {
            segment_bytes: 1,
            delete: false,
            compact: true,
            delete_retention_ms: 1_000,
            min_cleanable_dirty_ratio: 0.0,
            ..Config::default()
        }
    }

    fn of(id: i64, sequence: i32, transactional: bool) -> Producer {
        Producer { id, epoch: 3, sequence, transactional }
    }

    /// Appends a batch of `key=value` words, in which a key without `=` is a tombstone; its first offset.
    fn put(log: &mut Log, producer: Producer, compression: Compression, words: &str) -> i64 {
        let one = |word: &str| match word.split_once('=') {
            Some((key, value)) => record(5, key, value),
            None => Record { value: None, ..record(5, word, "") },
        };
        let records: Vec<_> = words.split(' ').map(one).collect();
        let base = log.end();
        log.append(&build(&records, producer, compression).unwrap(), base, 0, None).unwrap();
        base
    }

    fn plain(log: &mut Log, words: &str) -> i64 {
        put(log, Producer::NONE, Compression::None, words)
    }

    fn end(log: &mut Log, id: i64, commit: bool) {
        log.append(&end_marker(id, 3, 0, commit, 5), log.end(), 0, None).unwrap();
    }

    fn batches(log: &Log) -> Vec<(Header, Vec<Record>)> {
        let (mut found, mut from) = (Vec::new(), log.start());
        loop {
            let bytes = log.read(from, log.end(), 100_000, true).unwrap();
            if bytes.is_empty() {
                return found;
            }
            for (header, bytes) in split(&bytes).unwrap() {
                from = header.last_offset() + 1;
                found.push((header, batch::records(&header, &bytes).unwrap()));
            }
        }
    }

    /// The log as words: `0:a=1 2:b` for records with their offsets, `5:commit` for markers, `(6)` for empty batches.
    fn text(log: &Log) -> String {
        let mut words = Vec::new();
        for (header, records) in batches(log) {
            if records.is_empty() {
                words.push(format!("({})", header.base_offset));
            }
            for Record { offset, key, value, .. } in records {
                let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                let key = key.as_ref().map(text).unwrap_or_default();
                words.push(match value {
                    _ if header.is_control() => format!("{offset}:{}", if key.ends_with('\u{1}') { "commit" } else { "abort" }),
                    Some(value) => format!("{offset}:{key}={}", text(&value)),
                    None => format!("{offset}:{key}"),
                });
            }
        }
        words.join(" ")
    }

    fn compact(log: &mut Log, now: i64) -> bool {
        log.compact(now, i64::MAX, HashMap::new()).unwrap()
    }

    #[test]
    fn the_latest_of_each_key_stays_at_its_offset_and_the_active_segment_as_it_is() {
        for compression in Compression::ALL {
            let dir = tempfile::tempdir().unwrap();
            let mut log = open(dir.path(), &config());
            put(&mut log, Producer::NONE, compression, "a=1 b=1 a=2");
            put(&mut log, Producer::NONE, compression, "c=1 a=3");
            put(&mut log, Producer::NONE, compression, "a=4 a=5");
            put(&mut log, Producer::NONE, compression, "c=9 c=10");
            assert!(compact(&mut log, 10));
            let expected = "1:b=1 3:c=1 6:a=5 7:c=9 8:c=10";
            assert_eq!(text(&log), expected);
            let kept: Vec<_> = batches(&log).iter().map(|(header, _)| (header.base_offset, header.last_offset())).collect();
            assert_eq!(kept, [(0, 2), (3, 4), (5, 6), (7, 8)]);
            assert_eq!((log.start(), log.end(), log.cleaned()), (0, 9, 7));
            assert!(!compact(&mut log, 10), "nothing is new");
            drop(log);
            let mut log = open(dir.path(), &config());
            assert_eq!((text(&log).as_str(), log.cleaned(), log.end(), log.damage().len()), (expected, 7, 9, 0));
            plain(&mut log, "d=1");
            assert!(compact(&mut log, 10));
            assert_eq!(text(&log), "1:b=1 6:a=5 8:c=10 9:d=1");
        }
    }

    #[test]
    fn segments_are_joined_up_to_the_size_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &config());
        for n in 0..20 {
            plain(&mut log, &format!("k{}={n:02}", n % 10));
        }
        let one = log.segments[0].size;
        log.configure(Config { segment_bytes: 4 * one, ..config() });
        assert!(compact(&mut log, 10));
        assert_eq!(log.segments.iter().map(|segment| segment.base).collect::<Vec<_>>(), [0, 4, 8, 12, 16, 19]);
        let expected: Vec<_> = (9..20).map(|n| format!("{n}:k{}={n:02}", n % 10)).collect();
        assert_eq!(text(&log), expected.join(" "), "the active segment's records replace none");
        drop(log);
        let log = open(dir.path(), &config());
        assert_eq!((text(&log), log.start(), log.segments()), (expected.join(" "), 0, 6));
    }

    #[test]
    fn records_without_key_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &config());
        let keyless = Record { key: None, ..record(5, "", "v") };
        log.append(&build(&[keyless, record(5, "a", "1")], Producer::NONE, Compression::None).unwrap(), 0, 0, None).unwrap();
        plain(&mut log, "b=1");
        assert!(compact(&mut log, 10));
        assert_eq!(text(&log), "1:a=1 2:b=1");
    }

    #[test]
    fn tombstones_stay_for_a_while_after_the_first_round_that_sees_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &config());
        plain(&mut log, "a=1 b=1");
        plain(&mut log, "a x=1");
        plain(&mut log, "c=1");
        assert!(compact(&mut log, 10_000));
        assert_eq!(text(&log), "1:b=1 2:a 3:x=1 4:c=1");
        let horizon: Vec<_> = batches(&log).iter().map(|(header, _)| header.delete_horizon()).collect();
        assert_eq!(horizon, [None, Some(11_000), None]);
        assert!(batches(&log).iter().flat_map(|(_, records)| records).all(|record| record.timestamp == 5));
        plain(&mut log, "d=1");
        assert!(compact(&mut log, 10_999));
        assert_eq!(text(&log), "1:b=1 2:a 3:x=1 4:c=1 5:d=1");
        plain(&mut log, "e=1");
        assert!(compact(&mut log, 11_000));
        assert_eq!(text(&log), "1:b=1 3:x=1 4:c=1 5:d=1 6:e=1");
    }

    #[test]
    fn aborted_records_go_and_markers_when_nothing_of_their_transaction_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &config());
        plain(&mut log, "a=0 b=0");
        put(&mut log, of(1, 0, true), Compression::None, "a=1");
        put(&mut log, of(2, 0, true), Compression::Lz4, "b=1 c=1");
        end(&mut log, 1, false);
        put(&mut log, of(1, 1, true), Compression::None, "d=1");
        end(&mut log, 2, true);
        end(&mut log, 1, true);
        plain(&mut log, "z=1");
        assert_eq!(text(&log), "0:a=0 1:b=0 2:a=1 3:b=1 4:c=1 5:abort 6:d=1 7:commit 8:commit 9:z=1");
        // What was aborted does not replace; its marker stays for readers that have begun.
        assert!(compact(&mut log, 10_000));
        assert_eq!(text(&log), "0:a=0 3:b=1 4:c=1 5:abort 6:d=1 7:commit 8:commit 9:z=1");
        // No batch of the transaction was seen: its marker gets a horizon.
        plain(&mut log, "z=2");
        assert!(compact(&mut log, 20_000));
        assert_eq!(text(&log), "0:a=0 3:b=1 4:c=1 5:abort 6:d=1 7:commit 8:commit 9:z=1 10:z=2");
        let marker = batches(&log).into_iter().find(|(header, _)| header.base_offset == 5).unwrap().0;
        assert_eq!(marker.delete_horizon(), Some(21_000));
        assert!(marker.is_control() && marker.is_transactional());
        // All records of a committed transaction are replaced: its marker outlives them likewise.
        plain(&mut log, "d=2 b=2 c=2");
        plain(&mut log, "z=3");
        assert!(compact(&mut log, 21_000));
        assert_eq!(text(&log), "0:a=0 7:commit 8:commit 10:z=2 11:d=2 12:b=2 13:c=2 14:z=3");
        plain(&mut log, "z=4");
        assert!(compact(&mut log, 30_000));
        plain(&mut log, "z=5");
        assert!(compact(&mut log, 31_000));
        assert_eq!(text(&log), "0:a=0 11:d=2 12:b=2 13:c=2 15:z=4 16:z=5");
    }

    #[test]
    fn nothing_of_an_open_transaction_or_behind_it_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &config());
        plain(&mut log, "a=1");
        plain(&mut log, "a=2");
        let open_since = put(&mut log, of(1, 0, true), Compression::None, "a=3");
        plain(&mut log, "a=4");
        plain(&mut log, "b=1");
        assert!(log.compact(10, open_since, HashMap::new()).unwrap());
        assert_eq!(text(&log), "1:a=2 2:a=3 3:a=4 4:b=1");
        assert!(!log.compact(10, open_since, HashMap::new()).unwrap());
        // An abort behind the round counts for what is before.
        end(&mut log, 1, false);
        plain(&mut log, "c=1");
        let round = log.compaction(10, 4, HashMap::new()).unwrap();
        assert_eq!(round.upto, 4);
        assert!(log.install(round.run().unwrap()).unwrap());
        assert_eq!(text(&log), "3:a=4 4:b=1 5:abort 6:c=1");
    }

    #[test]
    fn a_segment_that_reaches_into_an_open_transaction_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &Config { segment_bytes: 1_000_000, ..config() });
        plain(&mut log, "a=1");
        put(&mut log, of(1, 0, true), Compression::None, "a=2");
        log.configure(config());
        plain(&mut log, "b=1");
        assert!(log.compaction(10, 1, HashMap::new()).is_none());
        assert!(log.compaction(10, 2, HashMap::new()).is_some());
    }

    #[test]
    fn the_last_batch_of_an_active_producer_stays_though_it_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &config());
        put(&mut log, of(1, 0, false), Compression::Gzip, "a=1");
        let last = put(&mut log, of(1, 1, false), Compression::Gzip, "a=2 b=2");
        put(&mut log, of(2, 0, true), Compression::Gzip, "a=3");
        end(&mut log, 2, false);
        plain(&mut log, "a=4 b=4");
        plain(&mut log, "z=1");
        let one = LastWrite { offset: Some(last + 1), epoch: 3 };
        let two = LastWrite { offset: None, epoch: 3 };
        assert!(log.compact(10_000, i64::MAX, HashMap::from([(1, one), (2, two)])).unwrap());
        assert_eq!(text(&log), "(1) 4:abort 5:a=4 6:b=4 7:z=1");
        let header = batches(&log)[0].0;
        assert_eq!((header.producer_id, header.producer_epoch, header.last_offset(), header.last_sequence()), (1, 3, 2, 2));
        // The last thing that a producer wrote was a marker: it stays, emptied in the end.
        for now in [20_000, 30_000] {
            plain(&mut log, "z=2");
            assert!(log.compact(now, i64::MAX, HashMap::from([(2, two)])).unwrap());
        }
        assert_eq!(text(&log), "(4) 5:a=4 6:b=4 8:z=2 9:z=2");
        plain(&mut log, "z=3");
        assert!(compact(&mut log, 40_000));
        assert_eq!(text(&log), "5:a=4 6:b=4 9:z=2 10:z=3");
    }

    #[test]
    fn the_last_batch_of_a_round_stays_so_that_readers_get_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &config());
        plain(&mut log, "a=1");
        put(&mut log, of(1, 0, true), Compression::None, "b=1");
        end(&mut log, 1, false);
        let aborted = put(&mut log, of(1, 0, true), Compression::None, "c=1");
        plain(&mut log, "d=1");
        end(&mut log, 1, false);
        let round = log.compaction(10, aborted + 1, HashMap::new()).unwrap();
        assert!(log.install(round.run().unwrap()).unwrap());
        assert_eq!(text(&log), "0:a=1 2:abort (3) 4:d=1 5:abort");
    }

    #[test]
    fn a_round_is_due_when_enough_is_new_or_waits_too_long_or_is_old_enough() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &config());
        for n in 0..4 {
            plain(&mut log, &format!("k{n}=1"));
        }
        assert!(compact(&mut log, 10));
        plain(&mut log, "x=1");
        let due = |log: &mut Log, config: Config, now: i64| {
            log.configure(config);
            log.compaction(now, i64::MAX, HashMap::new()).map(|round| (round.first_dirty, round.upto))
        };
        // One new segment of four.
        assert_eq!(due(&mut log, Config { min_cleanable_dirty_ratio: 0.24, ..config() }, 10), Some((3, 4)));
        let rarely = Config { min_cleanable_dirty_ratio: 0.26, ..config() };
        let soon = Config { max_compaction_lag_ms: 100, min_cleanable_dirty_ratio: 0.26, ..config() };
        assert_eq!(due(&mut log, rarely, 10), None);
        assert_eq!(due(&mut log, soon.clone(), 105), None);
        assert_eq!(due(&mut log, soon, 106), Some((3, 4)));
        assert_eq!(due(&mut log, Config { min_compaction_lag_ms: 100, ..config() }, 104), None);
        assert_eq!(due(&mut log, Config { min_compaction_lag_ms: 100, ..config() }, 105), Some((3, 4)));
        assert_eq!(due(&mut log, Config { compact: false, ..config() }, 10), None);
    }

    #[test]
    fn what_does_not_fit_into_one_round_is_done_in_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &Config { segment_bytes: 300, ..config() });
        for n in 0..60 {
            plain(&mut log, &format!("a{}={n} b{}={n}", n % 7, n % 11));
        }
        log.roll(log.end()).unwrap();
        let mut rounds = 0;
        while let Some(mut round) = log.compaction(10, i64::MAX, HashMap::new()) {
            round.keys = 5;
            assert!(log.install(round.run().unwrap()).unwrap());
            rounds += 1;
            assert!(rounds < 200);
        }
        assert!(rounds > 10);
        let records: Vec<_> = batches(&log).into_iter().flat_map(|(_, records)| records).collect();
        assert_eq!(records.len(), 18);
        assert_eq!(records.iter().map(|record| record.key.clone()).collect::<HashSet<_>>().len(), 18);
    }

    #[test]
    fn a_tombstone_waits_until_a_round_has_looked_at_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &Config { segment_bytes: 1_000_000, ..config() });
        for words in ["a=1", "k=1", "l=1", "a", "m=1"] {
            plain(&mut log, words);
        }
        log.roll(log.end()).unwrap();
        let mut now = 0;
        while let Some(mut round) = log.compaction(now, i64::MAX, HashMap::new()) {
            round.keys = 1;
            assert!(log.install(round.run().unwrap()).unwrap());
            let left = text(&log);
            assert!(!left.contains("0:a=1") || left.contains("3:a"), "what was deleted is back: {left}");
            now += 10_000;
        }
        assert_eq!((text(&log).as_str(), now), ("1:k=1 2:l=1 4:m=1", 50_000));
    }

    #[test]
    fn the_log_is_used_while_a_round_runs() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &config());
        for n in 0..6 {
            plain(&mut log, &format!("a={n}"));
        }
        let round = log.compaction(10, i64::MAX, HashMap::new()).unwrap();
        plain(&mut log, "a=6");
        let slice = log.slice(0, 7, 1_000, true).unwrap().unwrap();
        let compacted = round.run().unwrap();
        plain(&mut log, "a=7");
        assert!(log.install(compacted).unwrap());
        assert_eq!(text(&log), "4:a=4 5:a=5 6:a=6 7:a=7");
        assert_eq!(split(&slice.read().unwrap()).unwrap()[0].0.count, 1);

        // Segments went in the meantime: the round is for nothing, and does no harm.
        let round = log.compaction(10, i64::MAX, HashMap::new()).unwrap();
        let compacted = round.run().unwrap();
        log.delete_before(5).unwrap();
        assert!(!log.install(compacted).unwrap());
        let round = log.compaction(10, i64::MAX, HashMap::new()).unwrap();
        log.delete_before(6).unwrap();
        assert!(round.run().is_err());
        assert_eq!(text(&log), "6:a=6 7:a=7");
        let left = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        assert!(left.into_iter().all(|file| !file.ends_with(UNFINISHED)));
    }

    #[test]
    fn a_damaged_batch_ends_the_round_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &config());
        for n in 0..6 {
            plain(&mut log, &format!("a={n}"));
        }
        let path = log.segments[3].path.clone();
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last - 2] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(log.compact(10, i64::MAX, HashMap::new()).is_err());
        assert_eq!((log.segments(), log.cleaned()), (6, 0));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 6);
    }

    /// The files of a folder in another one.
    fn copy(from: &Path) -> tempfile::TempDir {
        let to = tempfile::tempdir().unwrap();
        for file in fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
        }
        to
    }

    #[test]
    fn a_kill_at_any_step_leaves_the_log_before_or_after_a_group() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &config());
        for n in 0..9 {
            plain(&mut log, &format!("a={n} b{}={n}", n % 2));
        }
        log.configure(Config { segment_bytes: 4 * log.segments[0].size, ..config() });
        let latest = |log: &Log| {
            let records = batches(log).into_iter().flat_map(|(_, records)| records);
            records.map(|record| (record.key, record.offset)).collect::<BTreeMap<_, _>>()
        };
        let (before, expected) = (text(&log), latest(&log));
        let compacted = log.compaction(10, i64::MAX, HashMap::new()).unwrap().run().unwrap();
        let mut seen = Vec::new();
        let mut look = || {
            let dir = copy(dir.path());
            let log = open(dir.path(), &config());
            assert_eq!((latest(&log), log.start(), log.end(), log.damage().len()), (expected.clone(), 0, 18, 0));
            let now = text(&log);
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            let files = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
            assert!(files.into_iter().all(|file| file.extension().is_some_and(|end| end == "log")));
        };
        look();
        for group in &compacted.groups {
            let base = group.of[0].0;
            let waiting = dir.path().join(format!("{base:020}-{:020}.{SWAP}", group.behind));
            fs::rename(&group.becomes.as_ref().unwrap().path, &waiting).unwrap();
            look();
            for (of, _) in &group.of[1..] {
                fs::remove_file(dir.path().join(name(*of))).unwrap();
                look();
            }
            fs::rename(&waiting, dir.path().join(name(base))).unwrap();
            look();
        }
        assert_eq!(seen.first(), Some(&before));
        assert_eq!(seen.len(), 1 + compacted.groups.len(), "each group is a step, and there is nothing between");
        assert_eq!(seen.last().unwrap(), "13:b0=6 14:a=7 15:b1=7 16:a=8 17:b0=8");
    }

    /// One step of a random history.
    #[derive(Debug, Clone)]
    enum Step {
        Put { producer: i64, transactional: bool, compression: Compression, records: Vec<(u8, bool)> },
        End { producer: i64, commit: bool },
        Compact { keys: usize, later: i64, active: bool },
        Reopen,
    }

    fn step() -> impl Strategy<Value = Step> {
        let records = proptest::collection::vec((0_u8..6, proptest::bool::weighted(0.8)), 1..4);
        let compression = proptest::sample::select(&Compression::ALL[..]);
        prop_oneof![
            8 => (0_i64..3, any::<bool>(), compression, records).prop_map(|(producer, transactional, compression, records)| {
                Step::Put { producer, transactional, compression, records }
            }),
            4 => (0_i64..3, any::<bool>()).prop_map(|(producer, commit)| Step::End { producer, commit }),
            2 => (1_usize..9, 0_i64..2_000, any::<bool>()).prop_map(|(keys, later, active)| Step::Compact { keys, later, active }),
            1 => Just(Step::Reopen),
        ]
    }

    /// What a reader of committed records sees: by key the latest value and its offset; and all there is, by offset.
    fn committed(log: &Log) -> (BTreeMap<Bytes, Record>, BTreeMap<i64, Record>) {
        let (mut open, mut latest, mut there) = (HashMap::<i64, Vec<Record>>::new(), Vec::new(), BTreeMap::new());
        for (header, records) in batches(log) {
            if header.is_control() {
                let of_producer = open.remove(&header.producer_id).unwrap_or_default();
                let commit = records.first().is_some_and(|record| record.key.as_ref().unwrap().ends_with(&[1]));
                latest.extend(of_producer.into_iter().filter(|_| commit));
                continue;
            }
            there.extend(records.iter().map(|record| (record.offset, record.clone())));
            if header.is_transactional() {
                open.entry(header.producer_id).or_default().extend(records);
            } else {
                latest.extend(records);
            }
        }
        latest.sort_by_key(|record| record.offset);
        (latest.into_iter().map(|record| (record.key.clone().unwrap(), record)).collect(), there)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn readers_see_the_same_latest_values_whatever_was_compacted(
            steps in proptest::collection::vec(step(), 1..60),
            segment_bytes in 1_u64..600,
        ) {
            let config = Config { segment_bytes, ..config() };
            let (dir, twin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            // The twin has the same history and is never compacted.
            let (mut log, mut whole) = (open(dir.path(), &config), open(twin.path(), &Config::default()));
            let (mut open_since, mut now, mut written) = (BTreeMap::<i64, i64>::new(), 1_000, 0);
            let mut producers = HashMap::<i64, LastWrite>::new();
            let mut sequences = HashMap::<i64, i32>::new();
            for step in steps {
                match step {
                    Step::Put { producer, transactional, compression, records } => {
                        // A producer is either in a transaction or writes without.
                        let transactional = transactional || open_since.contains_key(&producer);
                        let base = log.end();
                        let make = |(key, has_value): &(u8, bool)| {
                            written += 1;
                            let record = record(5, &format!("k{key}"), &format!("v{written}"));
                            if *has_value { record } else { Record { value: None, ..record } }
                        };
                        let records: Vec<_> = records.iter().map(make).collect();
                        let sequence = sequences.entry(producer).or_insert(0);
                        let batch = build(&records, of(producer, *sequence, transactional), compression).unwrap();
                        *sequence += records.len() as i32;
                        log.append(&batch, base, 0, None).unwrap();
                        whole.append(&batch, base, 0, None).unwrap();
                        producers.insert(producer, LastWrite { offset: Some(log.end() - 1), epoch: 3 });
                        if transactional {
                            open_since.entry(producer).or_insert(base);
                        }
                    }
                    Step::End { producer, commit } => {
                        if open_since.remove(&producer).is_some() {
                            end(&mut log, producer, commit);
                            end(&mut whole, producer, commit);
                        }
                    }
                    Step::Compact { keys, later, active } => {
                        now += later;
                        let stable = open_since.values().min().copied().unwrap_or(i64::MAX);
                        let active = if active { producers.clone() } else { HashMap::new() };
                        if let Some(mut round) = log.compaction(now, stable, active.clone()) {
                            round.keys = keys;
                            prop_assert!(log.install(round.run().unwrap()).unwrap());
                        }
                        let last = batches(&log);
                        for (producer, write) in active {
                            let kept = last.iter().find(|(header, _)| Some(header.last_offset()) == write.offset);
                            prop_assert!(kept.is_some_and(|(header, _)| header.last_sequence() + 1 == sequences[&producer]));
                        }
                        if !producers.is_empty() && !active_in(&last, &producers) {
                            // What a round with no active producer removed cannot be asked for later.
                            producers.retain(|_, write| last.iter().any(|(header, _)| Some(header.last_offset()) == write.offset));
                        }
                    }
                    Step::Reopen => {
                        drop(log);
                        log = open(dir.path(), &config);
                        prop_assert!(log.damage().is_empty());
                    }
                }
                prop_assert_eq!((log.end(), log.start()), (whole.end(), 0));
            }
            let ((latest, there), (expected, all)) = (committed(&log), committed(&whole));
            for (key, record) in &expected {
                match latest.get(key) {
                    Some(found) => prop_assert_eq!(found, record),
                    // A tombstone may be gone, and what it was about with it.
                    None => prop_assert!(record.value.is_none(), "{:?} is lost", record),
                }
            }
            prop_assert!(latest.keys().all(|key| expected.contains_key(key)));
            for (offset, record) in &there {
                prop_assert_eq!(record, &all[offset]);
            }
        }

        #[test]
        fn in_the_end_each_key_is_there_once(
            puts in proptest::collection::vec((0_i64..2, any::<bool>(), 0_u8..5, any::<bool>()), 1..40),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut log = open(dir.path(), &Config { segment_bytes: 500, ..config() });
            let mut expected = BTreeMap::new();
            for (number, (producer, commit, key, has_value)) in puts.into_iter().enumerate() {
                let word = if has_value { format!("k{key}={number}") } else { format!("k{key}") };
                let offset = put(&mut log, of(producer, 0, true), Compression::None, &word);
                end(&mut log, producer, commit);
                if commit {
                    expected.insert(key, (offset, has_value));
                }
            }
            // Whatever is to go has gone after three rounds, and time for tombstones and markers between them.
            for round in 1..=4 {
                plain(&mut log, "x=1");
                log.roll(log.end()).unwrap();
                compact(&mut log, 10_000 * round);
            }
            let mut left: Vec<_> = batches(&log).into_iter().filter(|(header, _)| !header.is_control()).flat_map(|(_, records)| records).collect();
            left.retain(|record| record.key.as_deref() != Some(b"x"));
            let mut expected: Vec<_> = expected.into_values().filter(|(_, has_value)| *has_value).map(|(offset, _)| offset).collect();
            expected.sort_unstable();
            prop_assert_eq!(left.iter().map(|record| record.offset).collect::<Vec<_>>(), expected.clone());
            let markers = batches(&log).iter().filter(|(header, _)| header.is_control()).count();
            prop_assert_eq!(markers, expected.len(), "a marker for each transaction of which something is left");
        }
    }

    fn active_in(batches: &[(Header, Vec<Record>)], producers: &HashMap<i64, LastWrite>) -> bool {
        producers.values().all(|write| batches.iter().any(|(header, _)| Some(header.last_offset()) == write.offset))
    }
}
