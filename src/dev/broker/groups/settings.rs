//! The broker configs that groups obey.

/// Bounds and times. Times are in milliseconds.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// What a classic member may ask for as its session's time.
    pub(super) session: (i64, i64),
    /// How long the first round of an empty group waits for further members. Kafka waits three seconds unless it is told
    /// otherwise, and everybody who runs it for tests tells it otherwise: here it is 0 unless it is set.
    pub(super) initial_rebalance_delay: i64,
    pub(super) group_max_size: usize,
    /// In characters.
    pub(super) offset_metadata_max: usize,
    pub(super) offsets_retention: i64,
    pub(super) offsets_retention_check: i64,
    /// KIP-848.
    pub(super) consumer_max_size: usize,
}

impl Limits {
    /// What the configs say: `number` gives that of a name.
    pub(super) fn of(number: impl Fn(&str) -> i64) -> Limits {
        let size = |key: &str| usize::try_from(number(key)).unwrap_or(usize::MAX);
        Limits {
            session: (number("group.min.session.timeout.ms"), number("group.max.session.timeout.ms")),
            initial_rebalance_delay: number("group.initial.rebalance.delay.ms").max(0),
            group_max_size: size("group.max.size"),
            offset_metadata_max: size("offset.metadata.max.bytes"),
            offsets_retention: number("offsets.retention.minutes").saturating_mul(60_000),
            offsets_retention_check: number("offsets.retention.check.interval.ms").max(1),
            consumer_max_size: size("group.consumer.max.size"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::broker::configs::tests::configs;

    #[test]
    fn limits_are_kafkas_unless_they_are_set() {
        let dir = tempfile::tempdir().unwrap();
        let (configs, _) = configs(dir.path(), &[("group.max.size", "3"), ("offsets.retention.minutes", "2")]);
        let limits = Limits::of(|name| configs.number(name));
        assert_eq!((limits.group_max_size, limits.offsets_retention), (3, 120_000));
        assert_eq!((limits.session, limits.initial_rebalance_delay), ((6_000, 1_800_000), 0));
        assert_eq!((limits.offset_metadata_max, limits.offsets_retention_check), (4_096, 600_000));
        assert_eq!(limits.consumer_max_size, 2_147_483_647);
    }
}
