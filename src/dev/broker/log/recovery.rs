//! Opening a log: what a kill left half done is finished or undone, and what is in the files is learnt by reading them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::segment::{Found, Scan, Segment, name, read_at};
use super::{Config, Corrupt, Damage, Header, Log};

/// Ends of the names of files: one that is being written, one that waits to take its place, and bytes that were no batches.
pub(super) const UNFINISHED: &str = "unfinished";
pub(super) const SWAP: &str = "swap";
const DAMAGED: &str = "damaged";

impl Log {
    /// Opens the log in `dir`, which is made if it is not there. `start` is the first offset that is to be read, as given to
    /// [`delete_before`](Log::delete_before), 0 otherwise. Every batch is shown to `visit` once, in order, also those before
    /// `start` that are still there.
    ///
    /// # Errors
    /// The files cannot be read or written. Damaged ones are no error: see [`damage`](Log::damage).
    pub fn open(dir: &Path, config: &Config, start: i64, visit: &mut dyn FnMut(&Header, &Bytes)) -> io::Result<Log> {
        fs::create_dir_all(dir)?;
        finish_swaps(dir)?;
        let bases = bases(dir)?;
        let mut log = Log {
            dir: dir.to_owned(),
            config: config.clone(),
            segments: Vec::with_capacity(bases.len()),
            start: start.max(0),
            cleaned: super::cleaner::read_mark(dir),
            damage: Vec::new(),
        };
        for (at, base) in bases.iter().enumerate() {
            let segment = log.learn(*base, bases.get(at + 1).copied(), visit)?;
            log.segments.push(segment);
        }
        log.begin()?;
        Ok(log)
    }

    /// Sees to it that there is an active segment, and that start and end are in order.
    fn begin(&mut self) -> io::Result<()> {
        match self.segments.first() {
            // No file yet: the first append makes it.
            None => self.segments.push(Segment::new(&self.dir, self.start)),
            Some(first) => self.start = self.start.max(first.base),
        }
        if self.start > self.end() {
            self.roll(self.start)?;
            self.remove_first(self.segments.len() - 1)?;
        }
        Ok(())
    }

    /// Reads a segment whose offsets end before `limit`, the next one's base, if there is one.
    fn learn(&mut self, base: i64, limit: Option<i64>, visit: &mut dyn FnMut(&Header, &Bytes)) -> io::Result<Segment> {
        let mut segment = Segment::new(&self.dir, base);
        let file = File::open(&segment.path)?;
        let length = file.metadata()?.len();
        let file = Arc::new(file);
        let mut scan = Scan::new(file.clone(), 0, length);
        let (mut good, mut bad) = (Vec::new(), Vec::<(u64, u64, Corrupt)>::new());
        while let Some(found) = scan.next()? {
            let (position, size, why) = match found {
                Found::Batch(position, header, batch) => match fits(&header, &batch, &segment, limit) {
                    Ok(()) => {
                        segment.note(&header);
                        visit(&header, &batch);
                        good.push((position, header.size as u64));
                        continue;
                    }
                    Err(why) => (position, header.size as u64, why),
                },
                Found::Damage { position, size, why } => {
                    let size = size.unwrap_or(length.saturating_sub(position));
                    scan.skip(size);
                    (position, size, why)
                }
            };
            bad.push((position, size, why));
        }
        let behind = good.last().map_or(0, |(position, size)| position + size);
        // The end of the last file is cut off: a batch that a kill tore was not acknowledged.
        let torn = |position: u64| limit.is_none() && position >= behind;
        if bad.iter().any(|(position, ..)| !torn(*position)) {
            keep_only(&file, &segment, &good)?;
        } else if !bad.is_empty() {
            fs::OpenOptions::new().write(true).open(&segment.path)?.set_len(behind)?;
        }
        for (position, size, why) in bad {
            let kept = if torn(position) { None } else { Some(set_aside(&file, &segment, position, size)?) };
            self.damage.push(Damage { file: segment.path.clone(), position, size, why, kept });
        }
        Ok(segment)
    }
}

/// Whether the batch is whole and behind all others of the segment, and before the next segment.
fn fits(header: &Header, batch: &Bytes, segment: &Segment, limit: Option<i64>) -> Result<(), Corrupt> {
    Header::verify(batch)?;
    let behind = header.base_offset.checked_add(i64::from(header.last_offset_delta)).and_then(|last| last.checked_add(1));
    if header.base_offset <= segment.last || behind.is_none_or(|behind| limit.is_some_and(|limit| behind > limit)) {
        return Err(Corrupt::Damaged("its offsets are out of order"));
    }
    Ok(())
}

/// Writes the segment anew without what is damaged.
fn keep_only(file: &File, segment: &Segment, good: &[(u64, u64)]) -> io::Result<()> {
    let beside = segment.path.with_extension(UNFINISHED);
    let mut out = File::create(&beside)?;
    for (position, size) in good {
        out.write_all(&read_at(file, *position, *size)?)?;
    }
    out.sync_all()?;
    fs::rename(beside, &segment.path)
}

/// Keeps bytes that were no batches for whoever wants to look at them.
fn set_aside(file: &File, segment: &Segment, position: u64, size: u64) -> io::Result<PathBuf> {
    let path = segment.path.with_extension(format!("{position}.{DAMAGED}"));
    fs::write(&path, read_at(file, position, size)?)?;
    Ok(path)
}

pub(super) fn bases(dir: &Path) -> io::Result<Vec<i64>> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(dir)? {
        let file = entry?.file_name();
        let base = file.to_str().and_then(|file| file.strip_suffix(".log")).and_then(|base| base.parse().ok());
        bases.extend(base.filter(|base| file.to_str() == Some(&name(*base)) && *base >= 0));
    }
    bases.sort_unstable();
    Ok(bases)
}

/// What compaction wrote whole takes its place; what it did not finish goes.
fn finish_swaps(dir: &Path) -> io::Result<()> {
    let paths: Vec<_> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    for path in paths {
        match path.extension().and_then(|end| end.to_str()) {
            Some(UNFINISHED) => fs::remove_file(path)?,
            Some(SWAP) => super::cleaner::swap(dir, &path)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{all, batch, open, put, record};
    use super::*;
    use crate::dev::broker::batch::HEADER;
    use crate::dev::broker::batch::{self, Producer};
    use crate::dev::broker::compression::Compression;

    fn small() -> Config {
        Config { segment_bytes: 300, ..Config::default() }
    }

    /// The only log file of a new log with these batches' values, and where each batch ends.
    fn written(dir: &Path, values: &[&str]) -> (PathBuf, Vec<u8>, Vec<usize>) {
        let mut log = open(dir, &Config::default());
        let mut ends = Vec::new();
        for value in values {
            put(&mut log, 1, &[value]);
            ends.push(usize::try_from(log.size_bytes()).unwrap());
        }
        let path = dir.join(name(0));
        let bytes = fs::read(&path).unwrap();
        (path, bytes, ends)
    }

    fn values(log: &Log) -> Vec<String> {
        all(log, 1_000).into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn a_kill_at_any_byte_leaves_the_batches_before() {
        let dir = tempfile::tempdir().unwrap();
        let (path, bytes, ends) = written(dir.path(), &["a", "b", "c"]);
        for cut in 0..bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let mut log = open(dir.path(), &Config::default());
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(values(&log), ["a", "b", "c"][..whole], "cut at {cut}");
            assert_eq!(log.damage().len(), usize::from(cut > 0 && !ends.contains(&cut)));
            assert!(log.damage().iter().all(|damage| damage.kept.is_none()));
            put(&mut log, 1, &["d"]);
            drop(log);
            let log = open(dir.path(), &Config::default());
            assert_eq!((values(&log).len(), log.damage()), (whole + 1, &[][..]));
        }
    }

    #[test]
    fn a_last_batch_that_is_whole_but_wrong_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut bytes, ends) = written(dir.path(), &["a", "b", "c"]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let log = open(dir.path(), &Config::default());
        assert_eq!((values(&log), log.end()), (vec!["a".to_owned(), "b".to_owned()], 2));
        assert_eq!(fs::metadata(&path).unwrap().len(), ends[1] as u64);
        // So are zeros, as a file system leaves them behind after a loss of power.
        fs::write(&path, [&bytes[..ends[1]], &[0; 5_000]].concat()).unwrap();
        assert_eq!(values(&open(dir.path(), &Config::default())).len(), 2);
        assert_eq!(fs::metadata(&path).unwrap().len(), ends[1] as u64);
    }

    #[test]
    fn damage_before_other_batches_is_taken_out_and_kept_beside() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut bytes, ends) = written(dir.path(), &["a", "b", "c", "d"]);
        bytes[ends[1] - 1] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let mut offsets = Vec::new();
        let mut log = Log::open(dir.path(), &small(), 0, &mut |header, _| offsets.push(header.base_offset)).unwrap();
        assert_eq!(offsets, [0, 2, 3]);
        let damage = &log.damage()[0];
        assert_eq!(
            (damage.position, damage.size, damage.why),
            (ends[0] as u64, (ends[1] - ends[0]) as u64, { Corrupt::Damaged("its CRC is wrong") })
        );
        assert_eq!(fs::read(damage.kept.as_ref().unwrap()).unwrap(), bytes[ends[0]..ends[1]]);
        // Reading what is not there goes on behind it.
        let read = batch::split(&log.read(1, 4, 1, true).unwrap()).unwrap();
        assert_eq!(read[0].0.base_offset, 2);
        put(&mut log, 1, &["e"]);
        assert_eq!(values(&log), ["a", "c", "d", "e"]);
        drop(log);
        let log = open(dir.path(), &small());
        assert_eq!((values(&log).len(), log.damage().len()), (4, 0));
    }

    #[test]
    fn an_older_segments_lost_end_is_reported_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &small());
        for n in 0..12 {
            put(&mut log, n, &["value"]);
        }
        let first = log.segments[0].path.clone();
        let (per, all_of_them) = (log.segments[1].base, log.segments());
        drop(log);
        assert!(all_of_them > 2 && per > 1);
        let bytes = fs::read(&first).unwrap();
        fs::write(&first, &bytes[..bytes.len() - 3]).unwrap();
        let log = open(dir.path(), &small());
        assert_eq!((log.segments(), log.damage().len(), log.end()), (all_of_them, 1, 12));
        assert!(log.damage()[0].kept.is_some());
        let offsets: Vec<_> = all(&log, 1).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(offsets, (0..12).filter(|offset| *offset != per - 1).collect::<Vec<_>>());
        drop(log);
        assert!(open(dir.path(), &small()).damage().is_empty());
        // The whole file of garbage.
        fs::write(&first, [7; 1_000]).unwrap();
        let log = open(dir.path(), &small());
        assert_eq!((all(&log, 1).len() as i64, log.start(), log.end()), (12 - per, 0, 12));
    }

    #[test]
    fn batches_out_of_order_are_damage() {
        let dir = tempfile::tempdir().unwrap();
        let (path, bytes, ends) = written(dir.path(), &["a", "b", "c"]);
        fs::write(&path, [&bytes[..ends[1]], &bytes[..ends[0]], &bytes[ends[1]..]].concat()).unwrap();
        let log = open(dir.path(), &small());
        assert_eq!(values(&log), ["a", "b", "c"]);
        assert_eq!(log.damage()[0].why, Corrupt::Damaged("its offsets are out of order"));
        // A segment whose batches reach into the next one's offsets.
        drop(log);
        fs::write(dir.path().join(name(2)), &bytes[ends[1]..]).unwrap();
        let log = open(dir.path(), &small());
        assert_eq!((values(&log).len(), log.damage().len(), log.segments()), (3, 1, 2));
    }

    #[test]
    fn other_files_do_not_disturb() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), &["a"]);
        for other in ["x.log", "1.log", "-0000000000000000001.log", "00000000000000000009.index", "a.swap", "notes"] {
            fs::write(dir.path().join(other), b"whatever").unwrap();
        }
        fs::write(dir.path().join("00000000000000000007.unfinished"), b"whatever").unwrap();
        assert_eq!(values(&open(dir.path(), &small())), ["a"]);
        assert!(!dir.path().join("00000000000000000007.unfinished").exists());
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), &small());
        put(&mut log, 1, &["a"]);
        let path = log.segments[0].path.clone();
        // A file that cannot be written to any more.
        log.segments[0].make_read_only();
        assert!(log.append(&batch(&[record(1, "k", "b")]), 1, 0, None).is_err());
        assert_eq!((log.end(), fs::metadata(&path).unwrap().len()), (1, log.size_bytes()));
        assert!(log.size_bytes() > HEADER as u64);
        // The file is opened anew, and cut, if that did not work at once.
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"half of a batch").unwrap();
        put(&mut log, 1, &["b"]);
        assert_eq!(values(&log), ["a", "b"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn arbitrary_bytes_in_files_never_stop_the_log(
            files in proptest::collection::btree_map(0_i64..200, any_file(), 1..4),
            start in 0_i64..300,
        ) {
            let dir = tempfile::tempdir().unwrap();
            for (base, bytes) in &files {
                fs::write(dir.path().join(name(*base)), bytes).unwrap();
            }
            let mut seen = Vec::new();
            let mut log = Log::open(dir.path(), &small(), start, &mut |header, _| seen.push(header.base_offset)).unwrap();
            prop_assert!(seen.is_sorted());
            prop_assert!(log.start() >= start && log.end() >= log.start());
            let before = seen.iter().filter(|offset| **offset >= log.start()).count();
            let mut from = log.start();
            let mut read = 0;
            while from < log.end() {
                let bytes = log.read(from, i64::MAX, 100, true).unwrap();
                let batches = batch::split(&bytes).unwrap();
                prop_assert!(!batches.is_empty() || from + 1 >= log.end() || seen.iter().all(|offset| *offset < from));
                read += batches.iter().filter(|(header, _)| header.base_offset >= log.start()).count();
                from = batches.last().map_or(log.end(), |(header, _)| header.last_offset() + 1);
            }
            prop_assert_eq!(read, before);
            let _ = log.offset_for_time(5);
            let _ = log.max_timestamp();
            put(&mut log, 1, &["new"]);
            let (end, count) = (log.end(), log.damage().len());
            drop(log);
            let log = open(dir.path(), &small());
            prop_assert_eq!((log.end(), log.damage().len()), (end, 0), "there were {} damages before", count);
        }
    }

    /// Whole batches, damaged ones and garbage, one behind the other.
    fn any_file() -> impl Strategy<Value = Vec<u8>> {
        let batch = (0_i64..250, 1_usize..4, proptest::option::of((0_usize..90, any::<u8>())));
        let batch = batch.prop_map(|(base, count, change)| {
            let records: Vec<_> = (0..count).map(|_| record(5, "k", "v")).collect();
            let mut bytes = batch::build(&records, Producer::NONE, Compression::None).unwrap().to_vec();
            bytes[..8].copy_from_slice(&base.to_be_bytes());
            if let Some((at, to)) = change {
                let at = at % bytes.len();
                bytes[at] = to;
            }
            bytes
        });
        let garbage = proptest::collection::vec(any::<u8>(), 0..100);
        let piece = prop_oneof![4 => batch, 1 => garbage];
        proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }
}
