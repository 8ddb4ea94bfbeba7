//! Where the registry's records are kept: the seam to the broker, with a version in memory for tests.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// A record of the topic `_schemas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Bytes,
    /// `None`: what the key names is taken away.
    pub value: Option<Bytes>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

/// Keeps records in order. Older records of a key may be forgotten, as in a compacted topic.
pub trait Journal: fmt::Debug + Send + Sync {
    /// All records, oldest first.
    ///
    /// # Errors
    /// They cannot be read.
    fn read_all(&self) -> io::Result<Vec<Entry>>;

    /// Keeps the records, all or none, through a kill of the process.
    ///
    /// # Errors
    /// They cannot be written. None is kept then.
    fn append(&self, entries: &[Entry]) -> io::Result<()>;
}

/// Keeps the records as long as a copy of it lives.
#[derive(Debug, Clone, Default)]
pub struct InMemory(Arc<Mutex<Vec<Entry>>>);

impl Journal for InMemory {
    fn read_all(&self) -> io::Result<Vec<Entry>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn append(&self, entries: &[Entry]) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(entries);
        Ok(())
    }
}
