//! What happens to logs by themselves: retention, compaction, producers that are forgotten.

use std::sync::Arc;
use std::time::Duration;

use crate::dev::broker::Broker;

/// Cleans all logs, each `log.retention.check.interval.ms`, until the broker leaves.
pub(in crate::dev::broker) async fn retention_loop(broker: Arc<Broker>) {
    let interval = broker.configs.number("log.retention.check.interval.ms");
    let interval = Duration::from_millis(u64::try_from(interval).unwrap_or(0).max(1));
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = broker.left() => return,
        }
        let broker = broker.clone();
        // Files are gone through: that is no work for the threads that serve.
        let _ = tokio::task::spawn_blocking(move || clean(&broker)).await;
    }
}

fn clean(broker: &Broker) {
    let now = broker.now();
    let expiration = broker.configs.number("producer.id.expiration.ms");
    for partition in broker.topics.list().iter().flat_map(|topic| topic.partitions()) {
        // What fails now is tried again the next time.
        let _ = partition.clean(now);
        partition.remove_expired_producers(now.saturating_sub(expiration));
    }
}
