//! The broker configs that groups obey, by Kafka's names and with Kafka's defaults, except the first round's delay.

use std::collections::BTreeMap;

/// Bounds and times. Times are in milliseconds.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// What a classic member may ask for as its session's time.
    pub(super) session: (i32, i32),
    /// How long the first round of an empty group waits for further members. Kafka waits three seconds unless it is told
    /// otherwise, and everybody who runs it for tests tells it otherwise: here it is 0.
    pub(super) initial_rebalance_delay: i64,
    pub(super) group_max_size: usize,
    /// In characters.
    pub(super) offset_metadata_max: usize,
    pub(super) offsets_retention: i64,
    pub(super) offsets_retention_check: i64,
    /// KIP-848: what members are told, and the bounds of what a group's own config may say.
    pub(super) consumer_session: i64,
    pub(super) consumer_heartbeat: i32,
    pub(super) consumer_max_size: usize,
}

impl Limits {
    /// What `configs` say, and defaults where they are silent or say no number.
    pub(super) fn of(configs: &BTreeMap<String, String>) -> Limits {
        let number = |key: &str, default: i64| configs.get(key).and_then(|value| value.trim().parse().ok()).unwrap_or(default);
        let int = |key: &str, default: i32| i32::try_from(number(key, default.into())).unwrap_or(default);
        let size = |key: &str| usize::try_from(number(key, i32::MAX.into())).unwrap_or(usize::MAX);
        Limits {
            session: (int("group.min.session.timeout.ms", 6_000), int("group.max.session.timeout.ms", 1_800_000)),
            initial_rebalance_delay: number("group.initial.rebalance.delay.ms", 0).max(0),
            group_max_size: size("group.max.size"),
            offset_metadata_max: usize::try_from(number("offset.metadata.max.bytes", 4_096)).unwrap_or(4_096),
            offsets_retention: number("offsets.retention.minutes", 10_080).saturating_mul(60_000),
            offsets_retention_check: number("offsets.retention.check.interval.ms", 600_000).max(1),
            consumer_session: number("group.consumer.session.timeout.ms", 45_000),
            consumer_heartbeat: int("group.consumer.heartbeat.interval.ms", 5_000),
            consumer_max_size: size("group.consumer.max.size"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_are_read_and_what_is_no_number_is_the_default() {
        let configs = [("group.max.size", "3"), ("group.min.session.timeout.ms", "soon"), ("offsets.retention.minutes", "2")];
        let configs = configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let limits = Limits::of(&configs);
        assert_eq!((limits.group_max_size, limits.session.0, limits.offsets_retention), (3, 6_000, 120_000));
        assert_eq!(limits.initial_rebalance_delay, 0);
    }
}
