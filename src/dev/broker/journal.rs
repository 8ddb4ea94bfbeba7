//! What the broker knows besides records, kept through a kill: a small map from (kind, key) to JSON, written as a log.
//!
//! One line is one write, `CRC32C of the rest, space, JSON array of changes`, and is there as a whole or not at all: what
//! must happen together is written together. A torn or damaged tail is cut off when the file is opened. When most of the
//! lines are history, the file is written anew beside its place and moved there.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The cluster itself.
    Cluster,
    /// A topic, by name: id, partitions.
    Topic,
    /// Configs set at run time, by resource: `topic/NAME`, `broker/ID`, `group/NAME`.
    Config,
    Acl,
    Quota,
    ScramUser,
    Feature,
    /// A group's generation and members, by name.
    Group,
    /// A committed offset.
    Offset,
    /// An offset that is committed when a transaction is.
    PendingOffset,
    /// A transaction, by transactional id.
    Transaction,
    /// The next producer id that was never given out.
    ProducerIds,
    /// Where a partition's log begins, when records before were deleted, by `TOPIC ID/PARTITION`.
    LogStart,
}

/// One entry put or taken away.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Change(Kind, String, Option<Value>);

impl Change {
    /// The entry's value from now on.
    ///
    /// # Errors
    /// The value has no JSON form.
    pub fn put(kind: Kind, key: impl Into<String>, value: &impl Serialize) -> io::Result<Change> {
        Ok(Change(kind, key.into(), Some(serde_json::to_value(value)?)))
    }

    /// The entry goes.
    pub fn remove(kind: Kind, key: impl Into<String>) -> Change {
        Change(kind, key.into(), None)
    }
}

/// The map and its file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    entries: BTreeMap<(Kind, String), Value>,
    /// Changes in the file; as many as entries when it was just written anew.
    written: usize,
}

impl Journal {
    /// Opens the journal at `path`, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn open(path: &Path) -> io::Result<Journal> {
        let mut entries = BTreeMap::new();
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let (good, written) = replay(&file, &mut entries)?;
        file.set_len(good)?;
        Ok(Journal { path: path.to_owned(), inner: Mutex::new(Inner { file, entries, written }) })
    }

    /// All entries of a kind, by key, as they are now.
    ///
    /// # Errors
    /// An entry is not what a `T` looks like: the file was written by another version.
    pub fn read<T: DeserializeOwned>(&self, kind: Kind) -> io::Result<Vec<(String, T)>> {
        let inner = self.lock();
        let of_kind = inner.entries.range((kind, String::new())..).take_while(|((of, _), _)| *of == kind);
        of_kind.map(|((_, key), value)| Ok((key.clone(), T::deserialize(value)?))).collect()
    }

    /// Makes the changes, all or none, and keeps them through a kill of the process.
    ///
    /// # Errors
    /// The file cannot be written. Nothing has changed then.
    pub fn write(&self, changes: &[Change]) -> io::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut inner = self.lock();
        let before = inner.file.metadata()?.len();
        let line = line(changes)?;
        if let Err(error) = inner.file.write_all(&line) {
            inner.file.set_len(before)?;
            return Err(error);
        }
        inner.written += changes.len();
        for change in changes {
            put(&mut inner.entries, change.clone());
        }
        if inner.written > 1_000 + 4 * inner.entries.len() {
            self.rewrite(&mut inner)?;
        }
        Ok(())
    }

    fn rewrite(&self, inner: &mut Inner) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&beside)?;
        let mut text = Vec::new();
        for ((kind, key), value) in &inner.entries {
            text.extend(line(&[Change(*kind, key.clone(), Some(value.clone()))])?);
        }
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        inner.file = OpenOptions::new().read(true).append(true).open(&self.path)?;
        inner.written = inner.entries.len();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing between lock and unlock panics half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(changes: &[Change]) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(changes)?;
    let mut line = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

fn put(entries: &mut BTreeMap<(Kind, String), Value>, Change(kind, key, value): Change) {
    match value {
        Some(value) => entries.insert((kind, key), value),
        None => entries.remove(&(kind, key)),
    };
}

/// Reads whole, undamaged lines; how many bytes and changes those were.
fn replay(file: &File, entries: &mut BTreeMap<(Kind, String), Value>) -> io::Result<(u64, usize)> {
    let mut reader = BufReader::new(file);
    let (mut good, mut written) = (0, 0);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        let Some(changes) = parse(&bytes) else { break };
        written += changes.len();
        changes.into_iter().for_each(|change| put(entries, change));
        good += bytes.len() as u64;
        bytes.clear();
    }
    Ok((good, written))
}

fn parse(bytes: &[u8]) -> Option<Vec<Change>> {
    let (crc, json) = bytes.strip_suffix(b"\n")?.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?.strip_suffix(' ')?, 16).ok()?;
    (crc == crc32c::crc32c(json)).then(|| serde_json::from_slice(json).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(journal: &Journal) -> Vec<(String, u32)> {
        journal.read(Kind::Topic).unwrap()
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = Journal::open(&path).unwrap();
        journal.write(&[Change::put(Kind::Topic, "a", &1).unwrap(), Change::put(Kind::Topic, "b", &2).unwrap()]).unwrap();
        journal.write(&[Change::remove(Kind::Topic, "a"), Change::put(Kind::Group, "a", &"g").unwrap()]).unwrap();
        assert_eq!(keys(&journal), [("b".to_owned(), 2)]);
        drop(journal);
        assert_eq!(keys(&Journal::open(&path).unwrap()), [("b".to_owned(), 2)]);
    }

    #[test]
    fn a_torn_tail_is_cut_and_a_write_is_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = Journal::open(&path).unwrap();
        journal.write(&[Change::put(Kind::Topic, "a", &1).unwrap()]).unwrap();
        let whole = std::fs::metadata(&path).unwrap().len();
        journal.write(&[Change::put(Kind::Topic, "b", &2).unwrap(), Change::remove(Kind::Topic, "a")]).unwrap();
        drop(journal);
        let bytes = std::fs::read(&path).unwrap();
        for cut in whole..bytes.len() as u64 {
            std::fs::write(&path, &bytes[..usize::try_from(cut).unwrap()]).unwrap();
            let journal = Journal::open(&path).unwrap();
            assert_eq!(keys(&journal), [("a".to_owned(), 1)], "cut at {cut}");
            journal.write(&[Change::put(Kind::Topic, "c", &3).unwrap()]).unwrap();
            drop(journal);
            assert_eq!(keys(&Journal::open(&path).unwrap()).len(), 2);
        }
    }

    #[test]
    fn history_does_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = Journal::open(&path).unwrap();
        for n in 0..20_000 {
            journal.write(&[Change::put(Kind::Topic, "a", &n).unwrap()]).unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() < 100_000);
        drop(journal);
        assert_eq!(keys(&Journal::open(&path).unwrap()), [("a".to_owned(), 19_999)]);
    }
}
