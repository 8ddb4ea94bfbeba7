//! Producer ids: each is given out once, whatever happens to the process.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::super::journal::{Change, Journal, Kind};

/// How many ids one line of the journal reserves; those of a block that were not given out are lost with the process.
const BLOCK: i64 = 1000;

/// Gives out producer ids.
#[derive(Debug)]
pub(super) struct ProducerIds {
    /// The next id, and where the reserved block ends.
    block: Mutex<(i64, i64)>,
}

impl ProducerIds {
    /// Goes on after what the journal says may have been given out.
    ///
    /// # Errors
    /// The journal's entry is not a number.
    pub(super) fn open(journal: &Journal) -> io::Result<ProducerIds> {
        let next = journal.read::<i64>(Kind::ProducerIds)?.into_iter().map(|(_, next)| next).max().unwrap_or(0);
        Ok(ProducerIds { block: Mutex::new((next, next)) })
    }

    /// An id that was never given out; `write` writes to the journal.
    ///
    /// # Errors
    /// The journal cannot be written. No id is used up then.
    pub(super) fn fresh(&self, write: impl FnOnce(&[Change]) -> io::Result<()>) -> io::Result<i64> {
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, end) = *block;
        if next < end {
            block.0 = next.saturating_add(1);
        } else {
            let end = next.saturating_add(BLOCK);
            write(&[Change::put(Kind::ProducerIds, "next", &end)?])?;
            *block = (next.saturating_add(1), end);
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_is_given_out_twice() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..4 {
            let journal = Journal::open(&dir.path().join("journal")).unwrap();
            let ids = ProducerIds::open(&journal).unwrap();
            for _ in 0..1500 {
                assert!(seen.insert(ids.fresh(|changes| journal.write(changes)).unwrap()));
            }
        }
    }

    #[test]
    fn an_id_that_could_not_be_reserved_is_not_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("journal")).unwrap();
        let ids = ProducerIds::open(&journal).unwrap();
        assert!(ids.fresh(|_| Err(io::Error::other("full"))).is_err());
        assert_eq!(ids.fresh(|changes| journal.write(changes)).unwrap(), 0);
    }
}
