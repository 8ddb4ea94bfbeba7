//! What a request to change configs makes of what is set: each change alone, then all of a resource's values together.

use kafka_protocol::error::ResponseError;
use regex::Regex;

use super::keys::{Change, Key, Type, elements};
use super::topics::{find, find_group, find_metrics};
use super::{Configs, Levels, Refused, Resource, Values, brokers};

/// What Kafka 4 keeps set for the cluster.
pub(super) const MIN_INSYNC: &str = "min.insync.replicas";

/// One change of `IncrementalAlterConfigs` (KIP-339).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Set(String),
    Delete,
    /// Adds the elements that a list does not have.
    Append(String),
    /// Takes elements from a list.
    Subtract(String),
}

impl Configs {
    /// What is set for a resource after these changes.
    ///
    /// # Errors
    /// `INVALID_CONFIG`, or `INVALID_REQUEST` where Kafka says that: a config is unknown, has no such value, or cannot be
    /// changed while the broker runs.
    pub fn altered(&self, resource: &Resource, ops: &[(String, Op)]) -> Result<Values, Refused> {
        let before = self.set_for(resource);
        let mut after = before.clone();
        for (name, op) in ops {
            match op {
                Op::Set(value) => drop(after.insert(name.clone(), value.clone())),
                Op::Delete => drop(after.remove(name)),
                Op::Append(value) => drop(after.insert(name.clone(), self.list_with(resource, &before, name, value, true)?)),
                Op::Subtract(value) => drop(after.insert(name.clone(), self.list_with(resource, &before, name, value, false)?)),
            }
        }
        self.check(resource, &after)?;
        Ok(after)
    }

    /// What is set for a resource when exactly these configs are set.
    ///
    /// # Errors
    /// As [`Configs::altered`].
    pub fn replaced(&self, resource: &Resource, ops: &[(String, Op)]) -> Result<Values, Refused> {
        let set = |(name, op): &(String, Op)| match op {
            Op::Set(value) => Some((name.clone(), value.clone())),
            _ => None,
        };
        let after = ops.iter().filter_map(set).collect();
        self.check(resource, &after)?;
        Ok(after)
    }

    /// A list with elements added or taken away. Where nothing is set, it begins with Kafka's default, not with what holds.
    fn list_with(&self, resource: &Resource, before: &Values, name: &str, value: &str, append: bool) -> Result<String, Refused> {
        let verb = if append { "append to" } else { "subtract from" };
        let Some(key) = key(resource, name).filter(|key| key.kind == Type::List && !matches!(resource, Resource::Metrics(_)))
        else {
            return Err(Refused::new(ResponseError::InvalidConfig, format!("Cannot {verb} {name}: it is not a list")));
        };
        let set = before.get(name).map_or(key.default.unwrap_or_default(), String::as_str);
        let mut list: Vec<&str> = elements(set).into_iter().filter(|element| !element.is_empty()).collect();
        for element in value.split(',') {
            let at = list.iter().position(|of| *of == element);
            match (append, at) {
                (true, None) => list.push(element),
                (false, Some(at)) => drop(list.remove(at)),
                _ => {}
            }
        }
        Ok(list.join(","))
    }

    /// Whether a resource may have exactly these configs.
    ///
    /// # Errors
    /// As [`Configs::altered`].
    pub fn check(&self, resource: &Resource, values: &Values) -> Result<(), Refused> {
        match resource {
            Resource::Topic(_) => check_topic(self.levels(&self.inner()), values),
            Resource::Broker | Resource::Cluster => self.check_broker(resource, values),
            Resource::Group(_) => check_group(self.levels(&self.inner()), values),
            Resource::Metrics(_) => check_metrics(values),
        }
    }

    fn check_broker(&self, resource: &Resource, values: &Values) -> Result<(), Refused> {
        let cluster = *resource == Resource::Cluster;
        for (name, value) in values {
            check_broker_value(name, value)?;
            self.check_threads(name, value)?;
        }
        // KIP-966: with eligible leader replicas, which Kafka 4 has from the start, this one is the cluster's alone.
        if cluster && !values.contains_key(MIN_INSYNC) {
            let message = format!("{MIN_INSYNC} of the cluster cannot be removed: eligible leader replicas need it");
            return Err(Refused::new(ResponseError::InvalidConfig, message));
        }
        if !cluster && values.contains_key(MIN_INSYNC) {
            let message = format!("{MIN_INSYNC} cannot be set for one broker: with eligible leader replicas it is the cluster's");
            return Err(Refused::new(ResponseError::InvalidConfig, message));
        }
        Ok(())
    }
}

impl Configs {
    /// KIP-226: a number of threads is at most doubled or halved in one step.
    fn check_threads(&self, name: &str, value: &str) -> Result<(), Refused> {
        const THREADS: [&str; 5] = [
            "background.threads",
            "log.cleaner.threads",
            "num.io.threads",
            "num.network.threads",
            "num.recovery.threads.per.data.dir",
        ];
        let (now, wanted) = (self.number(name), value.trim().parse::<i64>().unwrap_or(0));
        if !THREADS.contains(&name) || (now / 2..=now.saturating_mul(2)).contains(&wanted) {
            return Ok(());
        }
        let message = format!("{name} is {now}: it is at most doubled or halved at once, not made {wanted}");
        Err(Refused::new(ResponseError::InvalidRequest, message))
    }
}

/// The config of a resource by its name.
pub fn key(resource: &Resource, name: &str) -> Option<&'static Key> {
    match resource {
        Resource::Topic(_) => find(name).map(|of| &of.key),
        Resource::Broker | Resource::Cluster => brokers::find(name),
        Resource::Group(_) => find_group(name).map(|of| &of.key),
        Resource::Metrics(_) => find_metrics(name).map(|(key, _)| key),
    }
}

fn check_topic(levels: Levels<'_>, values: &Values) -> Result<(), Refused> {
    for (name, value) in values {
        let unknown = || Refused::new(ResponseError::InvalidConfig, format!("Unknown topic config name: {name}"));
        find(name).ok_or_else(unknown)?.key.read(value)?;
    }
    let config = levels.topic_config(values).log;
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
        let (min, max) = (config.min_compaction_lag_ms, config.max_compaction_lag_ms);
        let message = format!("min.compaction.lag.ms ({min}) is greater than max.compaction.lag.ms ({max})");
        return Err(Refused::new(ResponseError::InvalidConfig, message));
    }
    if values.get("remote.storage.enable").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
        let message = "remote.storage.enable cannot be true: this broker has no tiered storage";
        return Err(Refused::new(ResponseError::InvalidConfig, message));
    }
    Ok(())
}

/// Kafka answers with `INVALID_REQUEST` whatever is wrong with a broker's config (KAFKA-13609).
fn check_broker_value(name: &str, value: &str) -> Result<(), Refused> {
    let refuse = |message: String| Err(Refused::new(ResponseError::InvalidRequest, message));
    let Some(key) = brokers::find(name) else {
        if brokers::FOREIGN.iter().any(|start| name.starts_with(start)) {
            return refuse(format!("{name} cannot be changed while the broker runs; this broker does not use it at all"));
        }
        // Kafka keeps what it does not know, for plugins.
        return Ok(());
    };
    match key.change {
        Change::Restart => refuse(format!("{name} cannot be changed while the broker runs")),
        _ => key.read(value).map(drop).or_else(|refused| refuse(refused.message)),
    }
}

fn check_group(levels: Levels<'_>, values: &Values) -> Result<(), Refused> {
    let refuse = |message: String| Err(Refused::new(ResponseError::InvalidConfig, message));
    for (name, value) in values {
        let Some(of) = find_group(name) else { return refuse(format!("Unknown group config name: {name}")) };
        let Ok(number) = of.key.read(value)?.parse::<i64>() else { continue };
        let (kind, rest) = name.split_once('.').unwrap_or_default();
        let rest = rest.strip_prefix("num.").unwrap_or(rest);
        let bound = |which: &str| {
            let bound = format!("group.{kind}.{which}.{rest}");
            let value = levels.find(&bound).and_then(|(_, value)| value.trim().parse::<i64>().ok());
            value.map(|value| (bound, value))
        };
        if let Some((bound, min)) = bound("min").filter(|(_, min)| number < *min) {
            return refuse(format!("{name} must be greater than or equal to {bound}, which is {min}"));
        }
        if let Some((bound, max)) = bound("max").filter(|(_, max)| number > *max) {
            return refuse(format!("{name} must be less than or equal to {bound}, which is {max}"));
        }
    }
    for kind in ["consumer", "share", "streams"] {
        let (session, heartbeat) = (format!("{kind}.session.timeout.ms"), format!("{kind}.heartbeat.interval.ms"));
        let number = |name: &str| find_group(name).and_then(|of| levels.group_value(values, of).1.trim().parse::<i64>().ok());
        if number(&session) <= number(&heartbeat) {
            return refuse(format!("{session} must be greater than {heartbeat}"));
        }
    }
    Ok(())
}

fn check_metrics(values: &Values) -> Result<(), Refused> {
    const FIELDS: [&str; 6] = [
        "client_instance_id",
        "client_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    ];
    let refuse = |error, message: String| Err(Refused::new(error, message));
    for (name, value) in values {
        let Some((key, _)) = find_metrics(name) else {
            return refuse(ResponseError::InvalidRequest, format!("Unknown client metrics config name: {name}"));
        };
        let value = key.read(value)?;
        if name == "interval.ms" && !value.parse().is_ok_and(|interval: i64| (100..=3_600_000).contains(&interval)) {
            let message = format!("Invalid value '{value}' of interval.ms: it is between 100 and 3600000, an hour");
            return refuse(ResponseError::InvalidRequest, message);
        }
        let bad = |element: &&str| {
            let parts = element.split_once('=').map(|(field, pattern)| (field.trim(), pattern.trim()));
            !parts.is_some_and(|(field, pattern)| FIELDS.contains(&field) && Regex::new(pattern).is_ok())
        };
        if name == "match"
            && let Some(element) = elements(&value).into_iter().find(bad)
        {
            let message =
                format!("Invalid element '{element}' of match: it is FIELD=PATTERN, FIELD one of {}", FIELDS.join(", "));
            return refuse(ResponseError::InvalidConfig, message);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{configs, values};
    use super::*;

    fn op(text: &str) -> (String, Op) {
        let (name, op) = text.split_once(' ').unwrap();
        let op = match op.split_at(1) {
            ("=", value) => Op::Set(value.to_owned()),
            ("+", value) => Op::Append(value.to_owned()),
            ("-", value) => Op::Subtract(value.to_owned()),
            _ => Op::Delete,
        };
        (name.to_owned(), op)
    }

    fn told(result: Result<Values, Refused>) -> String {
        match result {
            Ok(values) => values.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; "),
            Err(refused) => format!("{:?}: {}", refused.error, refused.message),
        }
    }

    #[test]
    fn changes_are_made_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (configs, journal) = configs(dir.path(), &[]);
        let (t, g, m) = (Resource::Topic("t".into()), Resource::Group("g".into()), Resource::Metrics("m".into()));
        let set = vec![
            (t.clone(), values(&[("retention.ms", "5"), ("cleanup.policy", "compact")])),
            (m.clone(), values(&[("metrics", "a")])),
        ];
        configs.put(&journal, set).unwrap();
        let (b, c) = (Resource::Broker, Resource::Cluster);
        let table: &[(&Resource, &[&str], &str)] = &[
            (&t, &["retention.ms !", "cleanup.policy !"], ""),
            (&t, &["retention.ms =7"], "cleanup.policy=compact; retention.ms=7"),
            (&t, &["cleanup.policy +delete,compact"], "cleanup.policy=compact,delete; retention.ms=5"),
            (&t, &["cleanup.policy -delete,compact"], "cleanup.policy=; retention.ms=5"),
            (&t, &["nonsense !"], "cleanup.policy=compact; retention.ms=5"),
            (&t, &["nonsense =1"], "InvalidConfig: Unknown topic config name: nonsense"),
            (&t, &["nonsense +1"], "InvalidConfig: Cannot append to nonsense: it is not a list"),
            (&t, &["retention.ms -1"], "InvalidConfig: Cannot subtract from retention.ms: it is not a list"),
            (
                &t,
                &["cleanup.policy +none"],
                "InvalidConfig: Invalid value 'none' of cleanup.policy: it is one of compact, delete",
            ),
            (&t, &["segment.bytes =10"], "InvalidConfig: Invalid value '10' of segment.bytes: it is at least 1048576"),
            (
                &t,
                &["min.compaction.lag.ms =11", "max.compaction.lag.ms =10"],
                "InvalidConfig: min.compaction.lag.ms (11) is greater than max.compaction.lag.ms (10)",
            ),
            (
                &t,
                &["remote.storage.enable =true"],
                "InvalidConfig: remote.storage.enable cannot be true: this broker has no tiered storage",
            ),
            (&b, &["log.retention.ms =9"], "log.retention.ms=9"),
            (&b, &["log.cleanup.policy +compact"], "log.cleanup.policy=delete,compact"),
            (&b, &["some.plugin =1"], "some.plugin=1"),
            (&c, &["log.retention.ms =9"], "log.retention.ms=9; min.insync.replicas=1"),
            (&b, &["log.retention.hours =9"], "InvalidRequest: log.retention.hours cannot be changed while the broker runs"),
            (
                &b,
                &["max.connections.per.ip =-7"],
                "InvalidRequest: Invalid value '-7' of max.connections.per.ip: it is at least 0",
            ),
            (&b, &["num.io.threads =16"], "num.io.threads=16"),
            (&b, &["num.network.threads =1"], "num.network.threads=1"),
            (
                &b,
                &["num.io.threads =17"],
                "InvalidRequest: num.io.threads is 8: it is at most doubled or halved at once, not made 17",
            ),
            (
                &b,
                &["num.io.threads =3"],
                "InvalidRequest: num.io.threads is 8: it is at most doubled or halved at once, not made 3",
            ),
            (&b, &["log.cleaner.threads +1"], "InvalidConfig: Cannot append to log.cleaner.threads: it is not a list"),
            (
                &c,
                &["ssl.keystore.location =x"],
                "InvalidRequest: ssl.keystore.location cannot be changed while the broker runs; this broker does not use it at all",
            ),
            (
                &c,
                &["min.insync.replicas !"],
                "InvalidConfig: min.insync.replicas of the cluster cannot be removed: eligible leader replicas need it",
            ),
            (
                &b,
                &["min.insync.replicas =2"],
                "InvalidConfig: min.insync.replicas cannot be set for one broker: with eligible leader replicas it is the cluster's",
            ),
            (&g, &["consumer.session.timeout.ms =50000"], "consumer.session.timeout.ms=50000"),
            (&g, &["share.auto.offset.reset =by_duration:PT1H"], "share.auto.offset.reset=by_duration:PT1H"),
            (
                &g,
                &["consumer.session.timeout.ms =44999"],
                "InvalidConfig: consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms, which is 45000",
            ),
            (
                &g,
                &["streams.num.standby.replicas =3"],
                "InvalidConfig: streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas, which is 2",
            ),
            (&g, &["nonsense =1"], "InvalidConfig: Unknown group config name: nonsense"),
            (&m, &["match =client_id=a.*", "interval.ms =100"], "interval.ms=100; match=client_id=a.*; metrics=a"),
            (&m, &["metrics +b"], "InvalidConfig: Cannot append to metrics: it is not a list"),
            (&m, &["nonsense =1"], "InvalidRequest: Unknown client metrics config name: nonsense"),
            (
                &m,
                &["interval.ms =99"],
                "InvalidRequest: Invalid value '99' of interval.ms: it is between 100 and 3600000, an hour",
            ),
            (
                &m,
                &["match =client_id=("],
                "InvalidConfig: Invalid element 'client_id=(' of match: it is FIELD=PATTERN, FIELD one of client_instance_id, client_id, client_software_name, client_software_version, client_source_address, client_source_port",
            ),
        ];
        for (resource, ops, expected) in table {
            let ops: Vec<_> = ops.iter().map(|text| op(text)).collect();
            assert_eq!(&told(configs.altered(resource, &ops)), expected, "{resource:?} {ops:?}");
        }
    }

    #[test]
    fn a_session_outlasts_a_heartbeat() {
        let dir = tempfile::tempdir().unwrap();
        let (configs, _) = configs(dir.path(), &[("group.consumer.max.heartbeat.interval.ms", "60000")]);
        let refused = configs.check(&Resource::Group("g".into()), &values(&[("consumer.heartbeat.interval.ms", "45000")]));
        assert_eq!(
            refused.unwrap_err().message,
            "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms"
        );
    }
}
