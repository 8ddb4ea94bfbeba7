//! What happens to logs by themselves: retention, compaction, producers that are forgotten.

use std::sync::Arc;
use std::time::Duration;

use crate::dev::broker::Broker;
use crate::dev::broker::partition::Partition;

/// Removes what is not to be kept, each `log.retention.check.interval.ms`, until the broker leaves.
pub(in crate::dev::broker) async fn retention_loop(broker: Arc<Broker>) {
    while pause(&broker, "log.retention.check.interval.ms").await {
        off_the_runtime(&broker, |broker| {
            let now = broker.now();
            let seen = now.saturating_sub(broker.configs.number("producer.id.expiration.ms"));
            for partition in all(broker) {
                // What fails now is tried again the next time.
                let _ = partition.retain(now);
                partition.remove_expired_producers(seen);
            }
        })
        .await;
    }
}

/// Compacts logs, each `log.cleaner.backoff.ms`, until the broker leaves.
pub(in crate::dev::broker) async fn compaction_loop(broker: Arc<Broker>) {
    while pause(&broker, "log.cleaner.backoff.ms").await {
        if broker.configs.flag("log.cleaner.enable") {
            off_the_runtime(&broker, |broker| {
                for partition in all(broker) {
                    // As long as a round leaves something to the next; one that fails is tried again after the pause.
                    while partition.compact(broker.now()).unwrap_or(false) {}
                }
            })
            .await;
        }
    }
}

fn all(broker: &Broker) -> impl Iterator<Item = Arc<Partition>> {
    broker.topics.list().into_iter().flat_map(|topic| topic.partitions())
}

/// Waits as long as the broker's config says; false when the broker leaves.
async fn pause(broker: &Broker, config: &str) -> bool {
    let pause = Duration::from_millis(u64::try_from(broker.configs.number(config)).unwrap_or(0).max(1));
    tokio::select! {
        () = tokio::time::sleep(pause) => true,
        () = broker.left() => false,
    }
}

/// Whole files are gone through: that is no work for the threads that serve.
async fn off_the_runtime(broker: &Arc<Broker>, work: impl FnOnce(&Broker) + Send + 'static) {
    let broker = broker.clone();
    let _ = tokio::task::spawn_blocking(move || work(&broker)).await;
}
