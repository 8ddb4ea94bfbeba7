//! The board: what each product's producer in this process has finished, for those who read the product.
//!
//! A reader of a topic can't tell a partition that is quiet from one whose next record is on its way. Where the producer
//! runs in the same process it says so itself: the offsets it has committed up to, the event time it has reached, and
//! whether more is expected. For other producers a partition that is read to its end for a while counts as idle.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a product's producer has finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finished {
    /// For each partition, the offset after its last committed record.
    pub(super) ends: Arc<Vec<i64>>,
    /// No record to come has a position in event time below this.
    pub(super) frontier: i64,
    /// Its inputs are drained and all it made of them is committed.
    pub(super) idle: bool,
}

/// Everything finished, by product, and whether all is to stop.
#[derive(Debug, Default)]
pub(super) struct Board {
    finished: Mutex<BTreeMap<String, Finished>>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Finished>> {
        // A producer that panicked left a whole value behind.
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces that a product is produced in this process. Called for all before any of them starts.
    pub(super) fn announce(&self, product: &str) {
        let nothing = Finished { ends: Arc::new(Vec::new()), frontier: i64::MIN, idle: false };
        self.lock().insert(product.into(), nothing);
    }

    /// Says what a product's producer has finished.
    pub(super) fn publish(&self, product: &str, finished: Finished) {
        self.lock().insert(product.into(), finished);
        self.changed.notify_all();
    }

    /// What the producer of a product has finished; `None` when it isn't in this process.
    pub(super) fn finished(&self, product: &str) -> Option<Finished> {
        self.lock().get(product).cloned()
    }

    /// Asks everybody to commit and leave.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let _guard = self.lock();
        self.changed.notify_all();
    }

    /// Whether everybody is asked to leave.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Waits until all are asked to leave, for `at_most` if given; tells whether they are.
    pub(super) fn wait_for_stop(&self, at_most: Option<Duration>) -> bool {
        let guard = self.lock();
        match at_most {
            None => drop(self.changed.wait_while(guard, |_| !self.is_stopped())),
            Some(time) => drop(self.changed.wait_timeout_while(guard, time, |_| !self.is_stopped())),
        }
        self.is_stopped()
    }

    /// Waits until every product of this process is idle, or all are asked to leave.
    pub(super) fn wait_for_idle(&self) {
        let busy = |finished: &mut BTreeMap<String, Finished>| !self.is_stopped() && finished.values().any(|f| !f.idle);
        drop(self.changed.wait_while(self.lock(), busy));
    }
}
