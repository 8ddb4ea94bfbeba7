//! Topic configs: when two values are the same, what a change destroys, and which keys there are.

use std::collections::BTreeSet;

/// Whether two values of a config mean the same.
pub(super) fn same(key: &str, a: &str, b: &str) -> bool {
    let (a, b) = (a.trim(), b.trim());
    if a == b {
        return true;
    }
    if key == "cleanup.policy" {
        return policies(a) == policies(b);
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a.eq_ignore_ascii_case(b) && matches!(a.to_ascii_lowercase().as_str(), "true" | "false"),
    }
}

/// The policies of a `cleanup.policy`.
pub(super) fn policies(value: &str) -> BTreeSet<&str> {
    value.split(',').map(str::trim).filter(|policy| !policy.is_empty()).collect()
}

/// What going from one value to another destroys, if anything.
pub(super) fn destroys(key: &str, from: &str, to: &str) -> Option<String> {
    match key {
        "retention.ms" | "retention.bytes" | "local.retention.ms" | "local.retention.bytes" => {
            let limit = |value: &str| value.trim().parse::<i64>().ok().map(|n| if n < 0 { i64::MAX } else { n });
            let (from_limit, to_limit) = (limit(from)?, limit(to)?);
            (to_limit < from_limit).then(|| format!("{key} goes from {from} to {to}: records beyond it are deleted"))
        }
        "cleanup.policy" => {
            let (from, to) = (policies(from), policies(to));
            if to.contains("delete") && !from.contains("delete") {
                Some("records older than the topic's retention are deleted".into())
            } else if to.contains("compact") && !from.contains("compact") {
                Some("only the latest record of each key is kept".into())
            } else {
                None
            }
        }
        _ => None,
    }
}

/// Milliseconds as people say them.
pub(super) fn duration(ms: i64) -> String {
    let (unit, name) = match ms {
        86_400_000.. => (86_400_000, "day"),
        3_600_000.. => (3_600_000, "hour"),
        60_000.. => (60_000, "minute"),
        _ => (1000, "second"),
    };
    let count = ms / unit;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// The nearest of `known` to `key`, if one is near.
pub(super) fn nearest<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (strsim::jaro_winkler(key, name), name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// Topic configs of Apache Kafka, for clusters that have no topic yet to ask about.
pub(super) const KAFKA: [&str; 34] = [
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.copy.disable",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_by_what_they_mean() {
        assert!(same("retention.ms", "3600000", " 3600000 "));
        assert!(same("min.cleanable.dirty.ratio", "0.5", "0.50"));
        assert!(same("preallocate", "True", "true"));
        assert!(same("cleanup.policy", "compact,delete", "delete, compact"));
        assert!(!same("cleanup.policy", "compact", "delete"));
        assert!(!same("compression.type", "ZSTD", "zstd"));
    }

    #[test]
    fn only_narrowing_destroys() {
        assert!(destroys("retention.ms", "-1", "1000").is_some());
        assert!(destroys("retention.ms", "1000", "-1").is_none());
        assert!(destroys("retention.bytes", "2000", "1000").is_some());
        assert!(destroys("cleanup.policy", "compact", "compact,delete").is_some());
        assert!(destroys("cleanup.policy", "compact,delete", "compact").is_none());
        assert!(destroys("segment.ms", "2", "1").is_none());
    }

    #[test]
    fn a_misspelt_key_finds_its_neighbour() {
        assert_eq!(nearest("retension.ms", KAFKA), Some("retention.ms"));
        assert_eq!(nearest("frobnicate", KAFKA), None);
    }
}
