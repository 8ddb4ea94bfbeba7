//! What `DescribeConfigs` shows of a resource: each config's value, where it comes from, and what else it could come from.

use super::keys::{Key, Type};
use super::topics::{GROUP, METRICS, TOPIC, TopicKey};
use super::{Configs, Levels, Resource, Source, Values, brokers};

/// A config as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub name: String,
    /// `None` if there is none, or if it is secret.
    pub value: Option<String>,
    pub source: Source,
    /// Where the value is set and what would hold without that, the nearest first.
    pub synonyms: Vec<Synonym>,
    /// `None` for a config that is not known, which is then kept for a plugin.
    pub kind: Option<Type>,
    pub sensitive: bool,
    pub read_only: bool,
    pub doc: &'static str,
}

/// A value that a config has or would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    pub name: String,
    pub value: Option<String>,
    pub source: Source,
}

impl Configs {
    /// All configs of a resource. Of the cluster, those that are set.
    pub fn describe(&self, resource: &Resource) -> Vec<Shown> {
        let own = self.set_for(resource);
        let inner = self.inner();
        let levels = self.levels(&inner);
        match resource {
            Resource::Topic(_) => TOPIC.iter().map(|of| shown_topic(levels, &own, of)).collect(),
            Resource::Broker => shown_broker(levels),
            Resource::Cluster => own.keys().map(|name| shown_cluster(levels, name)).collect(),
            Resource::Group(_) => GROUP.iter().map(|of| shown_group(levels, &own, of)).collect(),
            Resource::Metrics(_) => METRICS.iter().map(|(key, doc)| shown_metrics(&own, key, doc)).collect(),
        }
    }

    /// The configs of a topic that is made with these, with what a client is told of them: name, value as it was set,
    /// source (KIP-525).
    pub fn of_new_topic(&self, own: &Values) -> Vec<(&'static str, String, Source)> {
        let inner = self.inner();
        let levels = self.levels(&inner);
        let shown = |of: &TopicKey| {
            let (source, value) = levels.topic_value(own, of);
            (of.key.name, value, source)
        };
        TOPIC.iter().map(shown).collect()
    }
}

fn shown(key: &Key, value: Option<String>, synonyms: Vec<Synonym>, doc: &'static str) -> Shown {
    Shown {
        name: key.name.to_owned(),
        value: value.filter(|_| !key.sensitive()),
        source: synonyms.first().map_or(Source::Default, |synonym| synonym.source),
        synonyms,
        kind: Some(key.kind),
        sensitive: key.sensitive(),
        read_only: false,
        doc,
    }
}

fn shown_topic(levels: Levels<'_>, own: &Values, of: &TopicKey) -> Shown {
    let value = levels.topic_value(own, of).1;
    let value = of.key.read(&value).unwrap_or(value);
    let mut synonyms = Vec::new();
    if own.contains_key(of.key.name) {
        synonyms.push(Synonym { name: of.key.name.to_owned(), value: Some(value.clone()), source: Source::Topic });
    }
    if let Some((first, _)) = of.synonyms.first() {
        synonyms.extend(broker_synonyms(levels, first));
    }
    shown(&of.key, Some(value), synonyms, of.doc)
}

fn shown_group(levels: Levels<'_>, own: &Values, of: &super::topics::GroupKey) -> Shown {
    let (source, value) = levels.group_value(own, of);
    let value = of.key.read(&value).unwrap_or(value);
    let mut synonyms = Vec::new();
    if source == Source::Group || of.synonym.is_none() {
        synonyms.push(Synonym { name: of.key.name.to_owned(), value: Some(value.clone()), source });
    }
    synonyms.extend(of.synonym.into_iter().flat_map(|synonym| broker_synonyms(levels, synonym)));
    shown(&of.key, Some(value), synonyms, of.doc)
}

fn shown_metrics(own: &Values, key: &Key, doc: &'static str) -> Shown {
    let Some(value) = own.get(key.name) else { return shown(key, key.default.map(str::to_owned), Vec::new(), doc) };
    let value = key.read(value).unwrap_or_else(|_| value.clone());
    let synonym = Synonym { name: key.name.to_owned(), value: Some(value.clone()), source: Source::Metrics };
    shown(key, Some(value), vec![synonym], doc)
}

/// This broker's configs: all that have a value whatever is set, and what else is set.
fn shown_broker(levels: Levels<'_>) -> Vec<Shown> {
    let mut all: Vec<Shown> = brokers::BROKER.iter().map(|key| shown_broker_key(levels, key.name)).collect();
    let mut others: Vec<&String> = levels.all().flat_map(|(_, values)| values.keys()).collect();
    others.retain(|name| !brokers::BROKER.iter().any(|key| key.name == **name));
    others.sort_unstable();
    others.dedup();
    all.extend(others.into_iter().map(|name| shown_broker_key(levels, name)));
    all
}

fn shown_cluster(levels: Levels<'_>, name: &str) -> Shown {
    let mut shown = shown_broker_key(Levels { broker: None, ..levels }, name);
    shown.synonyms.retain(|synonym| synonym.source == Source::Cluster);
    shown
}

fn shown_broker_key(levels: Levels<'_>, name: &str) -> Shown {
    let synonyms = broker_synonyms(levels, name);
    let value = levels.find(name).map(|(_, value)| value.to_owned());
    let Some(key) = brokers::find(name) else {
        // It may be a plugin's password, for all that is known.
        let source = synonyms.first().map_or(Source::Default, |synonym| synonym.source);
        let name = name.to_owned();
        return Shown { name, value: None, source, synonyms, kind: None, sensitive: true, read_only: true, doc: "" };
    };
    let value = value.map(|value| key.read(&value).unwrap_or(value));
    let mut shown = shown(key, value, synonyms, doc(name));
    shown.read_only = key.change == super::keys::Change::Restart;
    shown
}

/// What a broker's config says is said by the topic's, where there is one.
fn doc(name: &str) -> &'static str {
    TOPIC.iter().find(|of| of.synonyms.iter().any(|(synonym, _)| *synonym == name)).map_or("", |of| of.doc)
}

/// The values a broker's config has or would have: its own and those of its synonyms in smaller and larger units, level by
/// level. Kafka leaves out what comes before the config's own name, and all of them if it is set nowhere.
fn broker_synonyms(levels: Levels<'_>, name: &str) -> Vec<Synonym> {
    let single = [(name, 1)];
    let family = TOPIC.iter().map(|of| of.synonyms).find(|family| family.len() > 1 && family.iter().any(|(of, _)| *of == name));
    // Of these two, the second has a meaning of its own.
    let family = family.filter(|_| name != "log.flush.scheduler.interval.ms").unwrap_or(&single);
    let sensitive = brokers::find(name).is_none_or(Key::sensitive);
    let synonym = |name: &str, value: &str, source| {
        let value = (!sensitive).then(|| value.to_owned());
        Synonym { name: name.to_owned(), value, source }
    };
    let set = levels
        .all()
        .flat_map(|(source, values)| family.iter().filter_map(move |(of, _)| Some(synonym(of, values.get(*of)?, source))));
    let defaults = family.iter().filter_map(|(of, _)| Some(synonym(of, brokers::find(of)?.default?, Source::Default)));
    set.chain(defaults).skip_while(|synonym| synonym.name != name).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{configs, values};
    use super::*;

    fn line(shown: &Shown) -> String {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
        let synonym = |of: &Synonym| format!(" {:?}:{}={}", of.source, of.name, value(&of.value));
        let flags = [(shown.read_only, " ro"), (shown.sensitive, " sensitive")];
        let flags: String = flags.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
        let synonyms: String = shown.synonyms.iter().map(synonym).collect();
        format!("{}={} {:?}{flags} |{synonyms}", shown.name, value(&shown.value), shown.source)
    }

    fn lines(configs: &Configs, resource: &Resource, names: &[&str]) -> Vec<String> {
        let shown = configs.describe(resource);
        let find = |name: &&str| shown.iter().find(|shown| shown.name == **name).map(line).unwrap_or_default();
        names.iter().map(find).collect()
    }

    #[test]
    fn values_come_with_their_sources() {
        let dir = tempfile::tempdir().unwrap();
        let (configs, journal) = configs(dir.path(), &[("log.retention.ms", "-1"), ("log.roll.hours", "24")]);
        let t = Resource::Topic("t".into());
        let set = vec![
            (t.clone(), values(&[("cleanup.policy", " compact , delete "), ("preallocate", "TRUE")])),
            (Resource::Broker, values(&[("log.retention.ms", "9"), ("a.plugin", "7")])),
            (Resource::Cluster, values(&[("log.retention.ms", "7"), ("min.insync.replicas", "2")])),
            (Resource::Group("g".into()), values(&[("consumer.session.timeout.ms", "50000")])),
            (Resource::Metrics("m".into()), values(&[("interval.ms", "5000")])),
        ];
        configs.put(&journal, set).unwrap();
        // As Apache Kafka 4.3.1 answers, but for its own test server's settings.
        let names = ["cleanup.policy", "preallocate", "retention.ms", "segment.ms", "flush.ms", "min.insync.replicas"];
        assert_eq!(
            lines(&configs, &t, &names),
            [
                "cleanup.policy=compact,delete Topic | Topic:cleanup.policy=compact,delete Default:log.cleanup.policy=delete",
                "preallocate=true Topic | Topic:preallocate=true Default:log.preallocate=false",
                "retention.ms=9 Broker | Broker:log.retention.ms=9 Cluster:log.retention.ms=7 Static:log.retention.ms=-1 Default:log.retention.hours=168",
                "segment.ms=86400000 Default |",
                "flush.ms=9223372036854775807 Default |",
                "min.insync.replicas=2 Cluster | Cluster:min.insync.replicas=2 Default:min.insync.replicas=1",
            ]
        );
        let names =
            ["log.retention.ms", "log.retention.minutes", "log.retention.hours", "a.plugin", "num.partitions", "log.roll.ms"];
        assert_eq!(
            lines(&configs, &Resource::Broker, &names),
            [
                "log.retention.ms=9 Broker | Broker:log.retention.ms=9 Cluster:log.retention.ms=7 Static:log.retention.ms=-1 Default:log.retention.hours=168",
                "log.retention.minutes=null Default ro |",
                "log.retention.hours=168 Default ro | Default:log.retention.hours=168",
                "a.plugin=null Broker ro sensitive | Broker:a.plugin=null",
                "num.partitions=1 Default ro | Default:num.partitions=1",
                "log.roll.ms=null Default |",
            ]
        );
        let cluster: Vec<String> = configs.describe(&Resource::Cluster).iter().map(line).collect();
        assert_eq!(
            cluster,
            [
                "log.retention.ms=7 Cluster | Cluster:log.retention.ms=7",
                "min.insync.replicas=2 Cluster | Cluster:min.insync.replicas=2"
            ]
        );
        let names = ["consumer.session.timeout.ms", "consumer.heartbeat.interval.ms", "share.auto.offset.reset"];
        assert_eq!(
            lines(&configs, &Resource::Group("g".into()), &names),
            [
                "consumer.session.timeout.ms=50000 Group | Group:consumer.session.timeout.ms=50000 Default:group.consumer.session.timeout.ms=45000",
                "consumer.heartbeat.interval.ms=5000 Default | Default:group.consumer.heartbeat.interval.ms=5000",
                "share.auto.offset.reset=latest Default | Default:share.auto.offset.reset=latest",
            ]
        );
        let metrics: Vec<String> = configs.describe(&Resource::Metrics("m".into())).iter().map(line).collect();
        assert_eq!(metrics, ["interval.ms=5000 Metrics | Metrics:interval.ms=5000", "match= Default |", "metrics= Default |"]);
    }

    #[test]
    fn a_new_topic_is_told_its_configs_as_they_were_set() {
        let dir = tempfile::tempdir().unwrap();
        let (configs, _) = configs(dir.path(), &[("log.roll.hours", "1")]);
        let told = configs.of_new_topic(&values(&[("preallocate", "TRUE")]));
        let find = |name: &str| told.iter().find(|(of, ..)| *of == name).map(|(_, value, source)| (value.as_str(), *source));
        assert_eq!(told.len(), TOPIC.len());
        assert_eq!(find("preallocate"), Some(("TRUE", Source::Topic)));
        assert_eq!(find("segment.ms"), Some(("3600000", Source::Static)));
        assert_eq!(find("retention.ms"), Some(("604800000", Source::Default)));
    }
}
