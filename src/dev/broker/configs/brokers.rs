//! The broker's own configs: those of Apache Kafka 4.3 that mean something on one node without TLS, tiers and replicas.
//!
//! Their effect is where they are asked for: `grep 'broker.configs'`; what nobody asks for is only kept and shown, such as
//! the numbers of threads. Names and defaults are facts of Kafka's documentation.

use super::keys::{
    Change::{self, Cluster, Restart},
    Key,
    Rule::{self, Any, AtLeast, Between, BetweenOr, OneOf, OneOfAnyCase, Part},
    Type::{self, Boolean, Double, Int, List, Long, Short, String},
};

const fn key(name: &'static str, kind: Type, default: Option<&'static str>, rule: Rule, change: Change) -> Key {
    Key::new(name, kind, default, rule, change)
}

/// The config called `name`, if it is one of a broker's.
pub fn find(name: &str) -> Option<&'static Key> {
    let sorted = BROKER.binary_search_by(|key| key.name.cmp(name)).ok().and_then(|at| BROKER.get(at));
    sorted.or_else(|| UNSET.iter().find(|key| key.name == name))
}

/// Starts of names of configs that Kafka has and that mean nothing here: setting them is refused.
pub const FOREIGN: &[&str] = &[
    "ssl.",
    "sasl.",
    "listener.name.",
    "remote.",
    "controller.",
    "metadata.",
    "delegation.token.",
    "replica.",
    "security.",
    "share.coordinator.",
];

/// Configs that are shown only when they are set: how fast replicas may move (KIP-73). Kept, without effect on one node.
const UNSET: &[Key] = &[
    key("follower.replication.throttled.rate", Long, None, AtLeast(0), Cluster),
    key("leader.replication.throttled.rate", Long, None, AtLeast(0), Cluster),
    key("replica.alter.log.dirs.io.max.bytes.per.second", Long, None, AtLeast(0), Cluster),
];

/// The configs that have a value whatever is set, sorted by name.
#[rustfmt::skip]
pub const BROKER: &[Key] = &[
    key("advertised.listeners", List, None, Any, Restart),
    key("authorizer.class.name", String, Some(""), Any, Restart),
    key("auto.create.topics.enable", Boolean, Some("true"), Any, Restart),
    key("background.threads", Int, Some("10"), AtLeast(1), Cluster),
    key("broker.id", Int, Some("-1"), Any, Restart),
    key("broker.rack", String, None, Any, Restart),
    key("compression.gzip.level", Int, Some("-1"), BetweenOr(1, 9, -1), Cluster),
    key("compression.lz4.level", Int, Some("9"), Between(1, 17), Cluster),
    key("compression.type", String, Some("producer"), OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), Cluster),
    key("compression.zstd.level", Int, Some("3"), Between(-131072, 22), Cluster),
    key("connection.failed.authentication.delay.ms", Int, Some("100"), AtLeast(0), Restart),
    key("connections.max.idle.ms", Long, Some("600000"), Any, Restart),
    key("connections.max.reauth.ms", Long, Some("0"), Any, Restart),
    key("controller.quota.window.num", Int, Some("11"), AtLeast(1), Restart),
    key("controller.quota.window.size.seconds", Int, Some("1"), AtLeast(1), Restart),
    key("default.replication.factor", Int, Some("1"), Any, Restart),
    key("delete.records.purgatory.purge.interval.requests", Int, Some("1"), Any, Restart),
    key("delete.topic.enable", Boolean, Some("true"), Any, Restart),
    key("fetch.max.bytes", Int, Some("57671680"), AtLeast(1024), Restart),
    key("fetch.purgatory.purge.interval.requests", Int, Some("1000"), Any, Restart),
    key("group.consumer.assignment.interval.ms", Int, Some("1000"), AtLeast(0), Cluster),
    key("group.consumer.assignors", List, Some("uniform,range"), Any, Restart),
    key("group.consumer.heartbeat.interval.ms", Int, Some("5000"), AtLeast(1), Restart),
    key("group.consumer.max.assignment.interval.ms", Int, Some("15000"), AtLeast(0), Restart),
    key("group.consumer.max.heartbeat.interval.ms", Int, Some("15000"), AtLeast(1), Restart),
    key("group.consumer.max.session.timeout.ms", Int, Some("60000"), AtLeast(1), Restart),
    key("group.consumer.max.size", Int, Some("2147483647"), AtLeast(1), Restart),
    key("group.consumer.migration.policy", String, Some("bidirectional"), OneOfAnyCase(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"]), Restart),
    key("group.consumer.min.assignment.interval.ms", Int, Some("0"), AtLeast(0), Restart),
    key("group.consumer.min.heartbeat.interval.ms", Int, Some("5000"), AtLeast(1), Restart),
    key("group.consumer.min.session.timeout.ms", Int, Some("45000"), AtLeast(1), Restart),
    key("group.consumer.session.timeout.ms", Int, Some("45000"), AtLeast(1), Restart),
    key("group.coordinator.append.linger.ms", Int, Some("-1"), AtLeast(-1), Restart),
    key("group.coordinator.background.threads", Int, Some("2"), AtLeast(1), Restart),
    key("group.coordinator.cached.buffer.max.bytes", Int, Some("1048588"), AtLeast(524288), Cluster),
    key("group.coordinator.rebalance.protocols", List, Some("classic,consumer,streams"), OneOf(&["consumer", "classic", "share", "streams"]), Restart),
    key("group.coordinator.threads", Int, Some("4"), AtLeast(1), Restart),
    key("group.initial.rebalance.delay.ms", Int, Some("3000"), Any, Restart),
    key("group.max.session.timeout.ms", Int, Some("1800000"), Any, Restart),
    key("group.max.size", Int, Some("2147483647"), AtLeast(1), Restart),
    key("group.min.session.timeout.ms", Int, Some("6000"), Any, Restart),
    key("group.share.assignment.interval.ms", Int, Some("1000"), AtLeast(0), Cluster),
    key("group.share.delivery.count.limit", Int, Some("5"), Between(2, 10), Restart),
    key("group.share.heartbeat.interval.ms", Int, Some("5000"), AtLeast(1), Restart),
    key("group.share.max.assignment.interval.ms", Int, Some("15000"), AtLeast(0), Restart),
    key("group.share.max.delivery.count.limit", Int, Some("10"), Between(5, 25), Restart),
    key("group.share.max.heartbeat.interval.ms", Int, Some("15000"), AtLeast(1), Restart),
    key("group.share.max.partition.max.record.locks", Int, Some("4000"), Between(2000, 10000), Restart),
    key("group.share.max.record.lock.duration.ms", Int, Some("60000"), Between(30000, 3600000), Restart),
    key("group.share.max.session.timeout.ms", Int, Some("60000"), AtLeast(1), Restart),
    key("group.share.min.assignment.interval.ms", Int, Some("0"), AtLeast(0), Restart),
    key("group.share.min.delivery.count.limit", Int, Some("2"), Between(2, 5), Restart),
    key("group.share.min.heartbeat.interval.ms", Int, Some("5000"), AtLeast(1), Restart),
    key("group.share.min.partition.max.record.locks", Int, Some("100"), Between(100, 2000), Restart),
    key("group.share.min.record.lock.duration.ms", Int, Some("15000"), Between(1000, 30000), Restart),
    key("group.share.min.session.timeout.ms", Int, Some("45000"), AtLeast(1), Restart),
    key("group.share.partition.max.record.locks", Int, Some("2000"), Between(100, 10000), Restart),
    key("group.share.record.lock.duration.ms", Int, Some("30000"), Between(1000, 3600000), Restart),
    key("group.share.session.timeout.ms", Int, Some("45000"), AtLeast(1), Restart),
    key("group.streams.assignment.interval.ms", Int, Some("1000"), AtLeast(0), Cluster),
    key("group.streams.heartbeat.interval.ms", Int, Some("5000"), AtLeast(1), Restart),
    key("group.streams.initial.rebalance.delay.ms", Int, Some("3000"), AtLeast(0), Restart),
    key("group.streams.max.assignment.interval.ms", Int, Some("15000"), AtLeast(0), Restart),
    key("group.streams.max.heartbeat.interval.ms", Int, Some("15000"), AtLeast(1), Restart),
    key("group.streams.max.session.timeout.ms", Int, Some("60000"), AtLeast(1), Restart),
    key("group.streams.max.size", Int, Some("2147483647"), AtLeast(1), Restart),
    key("group.streams.max.standby.replicas", Int, Some("2"), AtLeast(0), Restart),
    key("group.streams.min.assignment.interval.ms", Int, Some("0"), AtLeast(0), Restart),
    key("group.streams.min.heartbeat.interval.ms", Int, Some("5000"), AtLeast(1), Restart),
    key("group.streams.min.session.timeout.ms", Int, Some("45000"), AtLeast(1), Restart),
    key("group.streams.num.standby.replicas", Int, Some("0"), AtLeast(0), Restart),
    key("group.streams.session.timeout.ms", Int, Some("45000"), AtLeast(1), Restart),
    key("listener.security.protocol.map", String, Some("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"), Any, Restart),
    key("listeners", List, Some("PLAINTEXT://:9092"), Any, Restart),
    key("log.cleaner.backoff.ms", Long, Some("15000"), AtLeast(0), Cluster),
    key("log.cleaner.dedupe.buffer.size", Long, Some("134217728"), Any, Cluster),
    key("log.cleaner.delete.retention.ms", Long, Some("86400000"), AtLeast(0), Cluster),
    key("log.cleaner.enable", Boolean, Some("true"), Any, Restart),
    key("log.cleaner.io.buffer.load.factor", Double, Some("0.9"), Any, Cluster),
    key("log.cleaner.io.buffer.size", Int, Some("524288"), AtLeast(0), Cluster),
    key("log.cleaner.io.max.bytes.per.second", Double, Some("1.7976931348623157E308"), Any, Cluster),
    key("log.cleaner.max.compaction.lag.ms", Long, Some("9223372036854775807"), AtLeast(1), Cluster),
    key("log.cleaner.min.cleanable.ratio", Double, Some("0.5"), Part(1.0), Cluster),
    key("log.cleaner.min.compaction.lag.ms", Long, Some("0"), AtLeast(0), Cluster),
    key("log.cleaner.threads", Int, Some("1"), AtLeast(0), Cluster),
    key("log.cleanup.policy", List, Some("delete"), OneOf(&["compact", "delete"]), Cluster),
    key("log.dirs", List, None, Any, Restart),
    key("log.flush.interval.messages", Long, Some("9223372036854775807"), AtLeast(1), Cluster),
    key("log.flush.interval.ms", Long, None, Any, Cluster),
    key("log.flush.offset.checkpoint.interval.ms", Int, Some("60000"), AtLeast(0), Restart),
    key("log.flush.scheduler.interval.ms", Long, Some("9223372036854775807"), Any, Restart),
    key("log.flush.start.offset.checkpoint.interval.ms", Int, Some("60000"), AtLeast(0), Restart),
    key("log.index.interval.bytes", Int, Some("4096"), AtLeast(0), Cluster),
    key("log.index.size.max.bytes", Int, Some("10485760"), AtLeast(4), Cluster),
    key("log.local.retention.bytes", Long, Some("-2"), AtLeast(-2), Cluster),
    key("log.local.retention.ms", Long, Some("-2"), AtLeast(-2), Cluster),
    key("log.message.timestamp.after.max.ms", Long, Some("3600000"), AtLeast(0), Cluster),
    key("log.message.timestamp.before.max.ms", Long, Some("9223372036854775807"), AtLeast(0), Cluster),
    key("log.message.timestamp.type", String, Some("CreateTime"), OneOf(&["CreateTime", "LogAppendTime"]), Cluster),
    key("log.preallocate", Boolean, Some("false"), Any, Cluster),
    key("log.retention.bytes", Long, Some("-1"), Any, Cluster),
    key("log.retention.check.interval.ms", Long, Some("300000"), AtLeast(1), Restart),
    key("log.retention.hours", Int, Some("168"), Any, Restart),
    key("log.retention.minutes", Int, None, Any, Restart),
    key("log.retention.ms", Long, None, Any, Cluster),
    key("log.roll.hours", Int, Some("168"), AtLeast(1), Restart),
    key("log.roll.jitter.hours", Int, Some("0"), AtLeast(0), Restart),
    key("log.roll.jitter.ms", Long, None, Any, Cluster),
    key("log.roll.ms", Long, None, Any, Cluster),
    key("log.segment.bytes", Int, Some("1073741824"), AtLeast(1048576), Cluster),
    key("log.segment.delete.delay.ms", Long, Some("60000"), AtLeast(0), Cluster),
    key("max.connection.creation.rate", Int, Some("2147483647"), AtLeast(0), Cluster),
    key("max.connections", Int, Some("2147483647"), AtLeast(0), Cluster),
    key("max.connections.per.ip", Int, Some("2147483647"), AtLeast(0), Cluster),
    key("max.connections.per.ip.overrides", String, Some(""), Any, Cluster),
    key("max.incremental.fetch.session.cache.slots", Int, Some("1000"), AtLeast(0), Restart),
    key("max.request.partition.size.limit", Int, Some("2000"), AtLeast(1), Restart),
    key("message.max.bytes", Int, Some("1048588"), AtLeast(0), Cluster),
    key("min.insync.replicas", Int, Some("1"), AtLeast(1), Cluster),
    key("node.id", Int, None, AtLeast(0), Restart),
    key("num.io.threads", Int, Some("8"), AtLeast(1), Cluster),
    key("num.network.threads", Int, Some("3"), AtLeast(1), Cluster),
    key("num.partitions", Int, Some("1"), AtLeast(1), Restart),
    key("num.recovery.threads.per.data.dir", Int, Some("2"), AtLeast(1), Cluster),
    key("offset.metadata.max.bytes", Int, Some("4096"), Any, Restart),
    key("offsets.commit.timeout.ms", Int, Some("5000"), AtLeast(1), Restart),
    key("offsets.load.buffer.size", Int, Some("5242880"), AtLeast(1), Restart),
    key("offsets.retention.check.interval.ms", Long, Some("600000"), AtLeast(1), Restart),
    key("offsets.retention.minutes", Int, Some("10080"), AtLeast(1), Restart),
    key("offsets.topic.compression.codec", Int, Some("0"), Any, Restart),
    key("offsets.topic.num.partitions", Int, Some("50"), AtLeast(1), Restart),
    key("offsets.topic.replication.factor", Short, Some("3"), AtLeast(1), Restart),
    key("offsets.topic.segment.bytes", Int, Some("104857600"), AtLeast(1), Restart),
    key("process.roles", List, None, OneOf(&["broker", "controller"]), Restart),
    key("producer.id.expiration.ms", Int, Some("86400000"), AtLeast(1), Cluster),
    key("producer.purgatory.purge.interval.requests", Int, Some("1000"), Any, Restart),
    key("queued.max.request.bytes", Long, Some("-1"), Any, Restart),
    key("queued.max.requests", Int, Some("500"), AtLeast(1), Restart),
    key("quota.window.num", Int, Some("11"), AtLeast(1), Restart),
    key("quota.window.size.seconds", Int, Some("1"), AtLeast(1), Restart),
    key("request.timeout.ms", Int, Some("30000"), Any, Restart),
    key("socket.listen.backlog.size", Int, Some("50"), AtLeast(1), Restart),
    key("socket.receive.buffer.bytes", Int, Some("102400"), Any, Restart),
    key("socket.request.max.bytes", Int, Some("104857600"), AtLeast(1), Restart),
    key("socket.send.buffer.bytes", Int, Some("102400"), Any, Restart),
    key("telemetry.max.bytes", Int, Some("1048576"), AtLeast(1), Restart),
    key("transaction.abort.timed.out.transaction.cleanup.interval.ms", Int, Some("10000"), AtLeast(1), Restart),
    key("transaction.max.timeout.ms", Int, Some("900000"), AtLeast(1), Restart),
    key("transaction.partition.verification.enable", Boolean, Some("true"), Any, Cluster),
    key("transaction.remove.expired.transaction.cleanup.interval.ms", Int, Some("3600000"), AtLeast(1), Restart),
    key("transaction.state.log.load.buffer.size", Int, Some("5242880"), AtLeast(1), Restart),
    key("transaction.state.log.min.isr", Int, Some("2"), AtLeast(1), Restart),
    key("transaction.state.log.num.partitions", Int, Some("50"), AtLeast(1), Restart),
    key("transaction.state.log.replication.factor", Short, Some("3"), AtLeast(1), Restart),
    key("transaction.state.log.segment.bytes", Int, Some("104857600"), AtLeast(1), Restart),
    key("transaction.two.phase.commit.enable", Boolean, Some("false"), Any, Restart),
    key("transactional.id.expiration.ms", Int, Some("604800000"), AtLeast(1), Restart),
    key("unclean.leader.election.enable", Boolean, Some("false"), Any, Cluster),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_values() {
        assert!(BROKER.is_sorted_by(|a, b| a.name < b.name));
        for key in BROKER {
            assert_eq!(find(key.name).unwrap().name, key.name);
            if let Some(default) = key.default {
                assert_eq!(key.read(default).unwrap(), default, "{}", key.name);
            }
        }
        assert!(find("leader.replication.throttled.rate").is_some() && find("nonsense").is_none());
    }
}
