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

fn bases(dir: &Path) -> io::Result<Vec<i64>> {
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
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match path.extension().and_then(|end| end.to_str()) {
            Some(UNFINISHED) => fs::remove_file(path)?,
            Some(SWAP) => super::cleaner::swap(dir, &path)?,
            _ => {}
        }
    }
    Ok(())
}
