//! The configs of topics, groups and client metrics: those of Apache Kafka 4.3, and the brokers' that they fall back to.
//!
//! Of a topic's, these have an effect: `cleanup.policy`, `compression.type`, `delete.retention.ms`, `max.compaction.lag.ms`,
//! `max.message.bytes`, `message.timestamp.*`, `min.cleanable.dirty.ratio`, `min.compaction.lag.ms`, `retention.*`,
//! `segment.bytes`, `segment.ms`. The others are checked, kept and shown: what they set has no counterpart on one node whose
//! logs are not flushed, have no tiers and lose old segments at once.

use super::keys::{
    Change, Key,
    Rule::{self, Any, AtLeast, Between, BetweenOr, OneOf, Part, Replicas, Reset},
    Type::{self, Boolean, Double, Int, List, Long, String},
};

/// A topic's config.
#[derive(Debug)]
pub struct TopicKey {
    pub key: Key,
    /// The brokers' configs that say what holds without it, the first that is set; how many of the topic's units one of
    /// theirs is.
    pub synonyms: &'static [(&'static str, i64)],
    /// What it does, in short.
    pub doc: &'static str,
}

/// A group's config (KIP-848, KIP-932, KIP-1071).
#[derive(Debug)]
pub struct GroupKey {
    pub key: Key,
    /// The broker's config that holds without it.
    pub synonym: Option<&'static str>,
    pub doc: &'static str,
}

const fn topic(
    name: &'static str,
    kind: Type,
    default: &'static str,
    rule: Rule,
    synonyms: &'static [(&'static str, i64)],
    doc: &'static str,
) -> TopicKey {
    TopicKey { key: Key::new(name, kind, Some(default), rule, Change::Cluster), synonyms, doc }
}

const fn group(
    name: &'static str,
    kind: Type,
    default: &'static str,
    rule: Rule,
    synonym: Option<&'static str>,
    doc: &'static str,
) -> GroupKey {
    GroupKey { key: Key::new(name, kind, Some(default), rule, Change::Cluster), synonym, doc }
}

/// The topic's config called `name`; the one that only tests use is among them.
pub fn find(name: &str) -> Option<&'static TopicKey> {
    TOPIC.iter().chain(HIDDEN).find(|of| of.key.name == name)
}

/// The group's config called `name`.
pub fn find_group(name: &str) -> Option<&'static GroupKey> {
    GROUP.iter().find(|of| of.key.name == name)
}

/// The client metrics' config called `name`.
pub fn find_metrics(name: &str) -> Option<&'static (Key, &'static str)> {
    METRICS.iter().find(|(key, _)| key.name == name)
}

const HOUR: i64 = 3_600_000;
const LONGEST: &str = "9223372036854775807";
const CODECS: Rule = OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);
const TIMES: Rule = OneOf(&["CreateTime", "LogAppendTime"]);
const RETENTION: &[(&str, i64)] = &[("log.retention.ms", 1), ("log.retention.minutes", 60_000), ("log.retention.hours", HOUR)];
const ROLL: &[(&str, i64)] = &[("log.roll.ms", 1), ("log.roll.hours", HOUR)];
const JITTER: &[(&str, i64)] = &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR)];
const FLUSH: &[(&str, i64)] = &[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)];
const BEFORE: &[(&str, i64)] = &[("log.message.timestamp.before.max.ms", 1)];
const AFTER: &[(&str, i64)] = &[("log.message.timestamp.after.max.ms", 1)];
const DELETE_DELAY: &[(&str, i64)] = &[("log.segment.delete.delay.ms", 1)];
const MAX_LAG: &[(&str, i64)] = &[("log.cleaner.max.compaction.lag.ms", 1)];
const MIN_LAG: &[(&str, i64)] = &[("log.cleaner.min.compaction.lag.ms", 1)];
const UNCLEAN: &[(&str, i64)] = &[("unclean.leader.election.enable", 1)];

/// A topic's configs, sorted by name.
#[rustfmt::skip]
pub const TOPIC: &[TopicKey] = &[
    topic("cleanup.policy", List, "delete", OneOf(&["compact", "delete"]), &[("log.cleanup.policy", 1)], "What becomes of old segments: delete, compact, both, or neither when empty."),
    topic("compression.gzip.level", Int, "-1", BetweenOr(1, 9, -1), &[("compression.gzip.level", 1)], "Kept, without effect."),
    topic("compression.lz4.level", Int, "9", Between(1, 17), &[("compression.lz4.level", 1)], "Kept, without effect."),
    topic("compression.type", String, "producer", CODECS, &[("compression.type", 1)], "How batches are kept: as the producer sent them, or in this codec."),
    topic("compression.zstd.level", Int, "3", Between(-131_072, 22), &[("compression.zstd.level", 1)], "Kept, without effect."),
    topic("delete.retention.ms", Long, "86400000", AtLeast(0), &[("log.cleaner.delete.retention.ms", 1)], "How long compaction keeps a tombstone."),
    topic("file.delete.delay.ms", Long, "60000", AtLeast(0), DELETE_DELAY, "Kept, without effect: the file goes at once."),
    topic("flush.messages", Long, LONGEST, AtLeast(1), &[("log.flush.interval.messages", 1)], "Kept, without effect."),
    topic("flush.ms", Long, LONGEST, AtLeast(0), FLUSH, "Kept, without effect."),
    topic("follower.replication.throttled.replicas", List, "", Replicas, &[], "Kept, without effect on one node."),
    topic("index.interval.bytes", Int, "4096", AtLeast(0), &[("log.index.interval.bytes", 1)], "Kept, without effect."),
    topic("leader.replication.throttled.replicas", List, "", Replicas, &[], "Kept, without effect on one node."),
    topic("local.retention.bytes", Long, "-2", AtLeast(-2), &[("log.local.retention.bytes", 1)], "Kept, without effect: logs have no tiers."),
    topic("local.retention.ms", Long, "-2", AtLeast(-2), &[("log.local.retention.ms", 1)], "Kept, without effect: logs have no tiers."),
    topic("max.compaction.lag.ms", Long, LONGEST, AtLeast(1), MAX_LAG, "How long a record may stay uncompacted."),
    topic("max.message.bytes", Int, "1048588", AtLeast(0), &[("message.max.bytes", 1)], "The largest batch taken, in bytes."),
    topic("message.timestamp.after.max.ms", Long, "3600000", AtLeast(0), AFTER, "How far in the future a record's time may be."),
    topic("message.timestamp.before.max.ms", Long, LONGEST, AtLeast(0), BEFORE, "How far in the past a record's time may be."),
    topic("message.timestamp.type", String, "CreateTime", TIMES, &[("log.message.timestamp.type", 1)], "Whether records keep the producer's time or get the broker's."),
    topic("min.cleanable.dirty.ratio", Double, "0.5", Part(1.0), &[("log.cleaner.min.cleanable.ratio", 1)], "The uncompacted part of a log that starts a compaction."),
    topic("min.compaction.lag.ms", Long, "0", AtLeast(0), MIN_LAG, "How long a record stays uncompacted at the least."),
    topic("min.insync.replicas", Int, "1", AtLeast(1), &[("min.insync.replicas", 1)], "Kept, without effect: where there is one replica, one is enough."),
    topic("preallocate", Boolean, "false", Any, &[("log.preallocate", 1)], "Kept, without effect."),
    topic("remote.log.copy.disable", Boolean, "false", Any, &[], "Kept, without effect: logs have no tiers."),
    topic("remote.log.delete.on.disable", Boolean, "false", Any, &[], "Kept, without effect: logs have no tiers."),
    topic("remote.storage.enable", Boolean, "false", Any, &[], "Only false: logs have no tiers."),
    topic("retention.bytes", Long, "-1", Any, &[("log.retention.bytes", 1)], "The size of a partition above which old segments go; -1 for none."),
    topic("retention.ms", Long, "604800000", AtLeast(-1), RETENTION, "How long records stay; -1 for ever."),
    topic("segment.bytes", Int, "1073741824", AtLeast(1_048_576), &[("log.segment.bytes", 1)], "The size at which a new segment begins."),
    topic("segment.index.bytes", Int, "10485760", AtLeast(4), &[("log.index.size.max.bytes", 1)], "Kept, without effect."),
    topic("segment.jitter.ms", Long, "0", AtLeast(0), JITTER, "Kept, without effect."),
    topic("segment.ms", Long, "604800000", AtLeast(1), ROLL, "The age at which a new segment begins."),
    topic("unclean.leader.election.enable", Boolean, "false", Any, UNCLEAN, "Kept, without effect on one node."),
];

/// Kafka's own, too: a `segment.bytes` below 1 MiB, for tests; taken and never shown.
const HIDDEN: &[TopicKey] = &[topic("internal.segment.bytes", Int, "1073741824", AtLeast(1), &[], "")];

/// A group's configs, sorted by name. Those of share groups and streams groups are only kept.
#[rustfmt::skip]
pub const GROUP: &[GroupKey] = &[
    group("consumer.assignment.interval.ms", Int, "1000", AtLeast(0), Some("group.consumer.assignment.interval.ms"), "The least time between two assignments."),
    group("consumer.heartbeat.interval.ms", Int, "5000", AtLeast(1), Some("group.consumer.heartbeat.interval.ms"), "How often members are told to say that they are there."),
    group("consumer.session.timeout.ms", Int, "45000", AtLeast(1), Some("group.consumer.session.timeout.ms"), "After how long a silent member is out."),
    group("share.assignment.interval.ms", Int, "1000", AtLeast(0), Some("group.share.assignment.interval.ms"), "Kept, without effect."),
    group("share.auto.offset.reset", String, "latest", Reset, None, "Kept, without effect."),
    group("share.delivery.count.limit", Int, "5", AtLeast(2), Some("group.share.delivery.count.limit"), "Kept, without effect."),
    group("share.heartbeat.interval.ms", Int, "5000", AtLeast(1), Some("group.share.heartbeat.interval.ms"), "Kept, without effect."),
    group("share.isolation.level", String, "read_uncommitted", OneOf(&["read_committed", "read_uncommitted"]), None, "Kept, without effect."),
    group("share.partition.max.record.locks", Int, "2000", AtLeast(100), Some("group.share.partition.max.record.locks"), "Kept, without effect."),
    group("share.record.lock.duration.ms", Int, "30000", AtLeast(1000), Some("group.share.record.lock.duration.ms"), "Kept, without effect."),
    group("share.renew.acknowledge.enable", Boolean, "true", Any, None, "Kept, without effect."),
    group("share.session.timeout.ms", Int, "45000", AtLeast(1), Some("group.share.session.timeout.ms"), "Kept, without effect."),
    group("streams.assignment.interval.ms", Int, "1000", AtLeast(0), Some("group.streams.assignment.interval.ms"), "Kept, without effect."),
    group("streams.heartbeat.interval.ms", Int, "5000", AtLeast(1), Some("group.streams.heartbeat.interval.ms"), "Kept, without effect."),
    group("streams.initial.rebalance.delay.ms", Int, "3000", AtLeast(0), Some("group.streams.initial.rebalance.delay.ms"), "Kept, without effect."),
    group("streams.num.standby.replicas", Int, "0", AtLeast(0), Some("group.streams.num.standby.replicas"), "Kept, without effect."),
    group("streams.session.timeout.ms", Int, "45000", AtLeast(1), Some("group.streams.session.timeout.ms"), "Kept, without effect."),
];

/// The configs of a client metrics subscription (KIP-714), with what they say. They are kept; no client is asked for metrics.
#[rustfmt::skip]
pub const METRICS: &[(Key, &str)] = &[
    (Key::new("interval.ms", Int, Some("300000"), Any, Change::Cluster), "How often clients send, in milliseconds."),
    (Key::new("match", List, Some(""), Any, Change::Cluster), "Which clients: a list of FIELD=PATTERN."),
    (Key::new("metrics", List, Some(""), Any, Change::Cluster), "Which metrics: a list of beginnings of names."),
];

#[cfg(test)]
mod tests {
    use super::super::brokers;
    use super::*;

    #[test]
    fn the_tables_are_sorted_and_fall_back_to_configs_that_there_are() {
        assert!(TOPIC.is_sorted_by(|a, b| a.key.name < b.key.name));
        assert!(GROUP.is_sorted_by(|a, b| a.key.name < b.key.name));
        for of in TOPIC {
            assert_eq!(of.key.read(of.key.default.unwrap()).unwrap(), of.key.default.unwrap());
            for (synonym, unit) in of.synonyms {
                let synonym = brokers::find(synonym).unwrap_or_else(|| panic!("{} has no {synonym}", of.key.name));
                assert!(*unit > 1 || synonym.kind == of.key.kind, "{}", of.key.name);
            }
        }
        for of in GROUP {
            assert_eq!(of.key.read(of.key.default.unwrap()).unwrap(), of.key.default.unwrap());
            if let Some(synonym) = of.synonym {
                assert_eq!(brokers::find(synonym).unwrap().default, of.key.default, "{}", of.key.name);
            }
        }
    }
}
