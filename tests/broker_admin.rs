//! Administration of the dev broker, and the same on Apache Kafka where `MESH_BOOTSTRAP` names one: scripts of one request a
//! line and what the broker answers to it; then librdkafka's admin client, and what is there after a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it is wrong")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use mesh::dev::broker::{Running, Settings};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::types::RDKafkaErrorCode;
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(10);

// ---------------------------------------------------------------------------------------------------------------- //
// The wire

/// A connection to a broker.
struct Wire(TcpStream);

impl Wire {
    fn connect(bootstrap: &str) -> Wire {
        let stream = TcpStream::connect(bootstrap).expect("a broker");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Wire(stream)
    }

    fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let header =
            RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version).with_correlation_id(1);
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        let size = i32::try_from(frame.len() - 4).unwrap();
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.0.write_all(&frame).unwrap();
        let mut size = [0; 4];
        self.0.read_exact(&mut size).unwrap_or_else(|error| panic!("no answer to API {} version {version}: {error}", R::KEY));
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
        self.0.read_exact(&mut answer).unwrap();
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
        R::Response::decode(&mut answer, version).unwrap()
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

fn named(code: i16) -> String {
    code.err().map_or("ok".to_owned(), |error| format!("{error:?}"))
}

/// Between two questions of a poll with a deadline.
#[allow(clippy::disallowed_methods, reason = "the wire tells of nothing by itself")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

// ---------------------------------------------------------------------------------------------------------------- //
// The scripts

/// Runs scripts of one request a line, `VERB ARGUMENTS`; `?` as the last argument only validates. `%` in a name is a part
/// that no other run has.
struct Stage {
    wire: Wire,
    run: String,
    ids: BTreeMap<String, Uuid>,
}

/// `retention.ms=5` as name, sign and value; a name alone is one to be shown or deleted.
fn setting(argument: &str) -> (&str, char, &str) {
    match argument.find(['=', '+', '~', '!']) {
        Some(at) => (&argument[..at], argument[at..].chars().next().unwrap(), &argument[at + 1..]),
        None => (argument, ' ', ""),
    }
}

fn brokers(list: &str) -> Vec<BrokerId> {
    list.split('+').filter(|id| *id != "none").map(|id| BrokerId(id.parse().unwrap())).collect()
}

fn kind(word: &str) -> i8 {
    match word {
        "topic" => 2,
        "broker" => 4,
        "logger" => 8,
        "metrics" => 16,
        "group" => 32,
        _ => word.parse().unwrap(),
    }
}

impl Stage {
    fn new(bootstrap: &str) -> Stage {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let run = format!("{}-{now}", std::process::id());
        Stage { wire: Wire::connect(bootstrap), run, ids: BTreeMap::new() }
    }

    /// The script with what was answered. A broker shows what was changed a moment later: what only looks is asked again
    /// until the answer is the expected one.
    fn play(&mut self, script: &str) -> String {
        let mut played = String::new();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (request, expected) = line.split_once("=>").expect("an answer");
            let deadline = Instant::now() + DEADLINE;
            let answer = loop {
                let answer = self.line(&request.replace('%', &self.run)).replace(&self.run, "%");
                if answer == expected.trim() || !request.starts_with("show") || Instant::now() > deadline {
                    break answer;
                }
                pause();
            };
            played.push_str(&format!("{} => {answer}\n", request.trim()));
        }
        played
    }

    fn line(&mut self, line: &str) -> String {
        let mut words: Vec<&str> = line.split_whitespace().map(|word| if word == "''" { "" } else { word }).collect();
        let validate = words.last() == Some(&"?");
        if validate {
            words.pop();
        }
        match words.as_slice() {
            ["create", name, partitions, factor, configs @ ..] => self.create(name, partitions, factor, configs, validate),
            ["assign", name, replicas @ ..] => self.assign(name, replicas),
            ["delete", names @ ..] => self.delete(names),
            ["grow", name, count, replicas @ ..] => self.grow(name, count, replicas, validate),
            ["show", of, name, keys @ ..] => self.show(of, name, keys),
            ["alter", of, name, configs @ ..] => self.alter(of, name, configs, validate),
            ["replace", of, name, configs @ ..] => self.replace(of, name, configs),
            ["reassign", name, index, to] => self.reassign(name, index, to),
            ["elect", how, name, index] => self.elect(how, name, index),
            ["move", dir, name, index] => self.move_dir(dir, name, index),
            ["feature", name, level, way] => self.feature(name, level, way, validate),
            ["unregister", id] => {
                let request = UnregisterBrokerRequest::default().with_broker_id(BrokerId(id.parse().unwrap()));
                named(self.wire.ask(0, &request).error_code)
            }
            ["quorum", name, index] => self.quorum(name, index),
            _ => panic!("what is {line}?"),
        }
    }

    fn create(&mut self, name: &str, partitions: &str, factor: &str, configs: &[&str], validate: bool) -> String {
        let config = |argument: &&str| {
            let (name, sign, value) = setting(argument);
            CreatableTopicConfig::default().with_name(text(name)).with_value((sign == '=').then(|| text(value)))
        };
        let asked = CreatableTopic::default()
            .with_name(topic(name))
            .with_num_partitions(partitions.parse().unwrap())
            .with_replication_factor(factor.parse().unwrap())
            .with_configs(configs.iter().map(config).collect());
        self.created(vec![asked], validate)
    }

    fn assign(&mut self, name: &str, replicas: &[&str]) -> String {
        let assignment = |argument: &&str| {
            let (index, replicas) = argument.split_once(':').unwrap();
            let assignment = CreatableReplicaAssignment::default().with_partition_index(index.parse().unwrap());
            assignment.with_broker_ids(brokers(replicas))
        };
        let asked = CreatableTopic::default()
            .with_name(topic(name))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(replicas.iter().map(assignment).collect());
        self.created(vec![asked], true)
    }

    fn created(&mut self, topics: Vec<CreatableTopic>, validate: bool) -> String {
        let request = CreateTopicsRequest::default().with_topics(topics).with_validate_only(validate).with_timeout_ms(10_000);
        let answer = self.wire.ask(7, &request).topics.remove(0);
        if answer.error_code != 0 {
            assert!(answer.error_message.is_some_and(|message| !message.is_empty()), "an error says what is wrong");
            return named(answer.error_code);
        }
        self.ids.insert(answer.name.to_string(), answer.topic_id);
        let configs = answer.configs.unwrap();
        let set: Vec<String> = configs
            .iter()
            .filter(|config| config.config_source == 1)
            .map(|config| format!(" {}={}", config.name.as_str(), config.value.as_ref().unwrap().as_str()))
            .collect();
        format!("{} x {}, {} configs{}", answer.num_partitions, answer.replication_factor, configs.len(), set.concat())
    }

    fn delete(&mut self, names: &[&str]) -> String {
        let state = |name: &&str| match name.strip_prefix('#') {
            Some(of) => DeleteTopicState::default().with_name(None).with_topic_id(self.ids.get(of).copied().unwrap_or_default()),
            None => DeleteTopicState::default().with_name(Some(topic(name))),
        };
        let topics = names.iter().map(state).collect();
        let request = DeleteTopicsRequest::default().with_topics(topics).with_timeout_ms(10_000);
        let mut answers: Vec<String> = self.wire.ask(6, &request).responses.iter().map(|of| named(of.error_code)).collect();
        answers.sort();
        answers.join(", ")
    }

    fn grow(&mut self, name: &str, count: &str, replicas: &[&str], validate: bool) -> String {
        let assignment = |list: &&str| CreatePartitionsAssignment::default().with_broker_ids(brokers(list));
        let assignments = (!replicas.is_empty()).then(|| replicas.iter().map(assignment).collect());
        let asked = CreatePartitionsTopic::default()
            .with_name(topic(name))
            .with_count(count.parse().unwrap())
            .with_assignments(assignments);
        let request = CreatePartitionsRequest::default().with_topics(vec![asked]).with_validate_only(validate);
        named(self.wire.ask(3, &request.with_timeout_ms(10_000)).results[0].error_code)
    }

    fn show(&mut self, of: &str, name: &str, keys: &[&str]) -> String {
        let keys: Vec<StrBytes> = keys.iter().map(|key| text(key)).collect();
        let asked = DescribeConfigsResource::default()
            .with_resource_type(kind(of))
            .with_resource_name(text(name))
            .with_configuration_keys((!keys.is_empty()).then_some(keys));
        let request = DescribeConfigsRequest::default().with_resources(vec![asked]).with_include_synonyms(true);
        let mut result = self.wire.ask(4, &request).results.remove(0);
        if result.error_code != 0 {
            return named(result.error_code);
        }
        result.configs.sort_by(|a, b| a.name.cmp(&b.name));
        result.configs.iter().map(shown).collect::<Vec<_>>().join("; ")
    }

    fn alter(&mut self, of: &str, name: &str, configs: &[&str], validate: bool) -> String {
        use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
        let config = |argument: &&str| {
            let (name, sign, value) = setting(argument);
            let operation = match sign {
                '=' | ' ' => 0,
                '!' => 1,
                '+' => 2,
                _ => 3,
            };
            let value = (sign != '!' && sign != ' ').then(|| text(value));
            AlterableConfig::default().with_name(text(name)).with_config_operation(operation).with_value(value)
        };
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind(of))
            .with_resource_name(text(name))
            .with_configs(configs.iter().map(config).collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(validate);
        named(self.wire.ask(1, &request).responses[0].error_code)
    }

    fn replace(&mut self, of: &str, name: &str, configs: &[&str]) -> String {
        use alter_configs_request::{AlterConfigsResource, AlterableConfig};
        let config = |argument: &&str| {
            let (name, _, value) = setting(argument);
            AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind(of))
            .with_resource_name(text(name))
            .with_configs(configs.iter().map(config).collect());
        named(self.wire.ask(2, &AlterConfigsRequest::default().with_resources(vec![resource])).responses[0].error_code)
    }

    fn reassign(&mut self, name: &str, index: &str, to: &str) -> String {
        let replicas = (to != "cancel").then(|| brokers(to));
        let partition = ReassignablePartition::default().with_partition_index(index.parse().unwrap()).with_replicas(replicas);
        let asked = ReassignableTopic::default().with_name(topic(name)).with_partitions(vec![partition]);
        let answer = self.wire.ask(0, &AlterPartitionReassignmentsRequest::default().with_topics(vec![asked]));
        assert!(self.wire.ask(0, &ListPartitionReassignmentsRequest::default().with_topics(None)).topics.is_empty());
        format!("{}, {}", named(answer.error_code), named(answer.responses[0].partitions[0].error_code))
    }

    fn elect(&mut self, how: &str, name: &str, index: &str) -> String {
        let asked = TopicPartitions::default().with_topic(topic(name)).with_partitions(vec![index.parse().unwrap()]);
        let request =
            ElectLeadersRequest::default().with_election_type(how.parse().unwrap()).with_topic_partitions(Some(vec![asked]));
        let answer = self.wire.ask(2, &request.with_timeout_ms(10_000));
        let partition = &answer.replica_election_results[0].partition_result[0];
        format!("{}, {}", named(answer.error_code), named(partition.error_code))
    }

    fn move_dir(&mut self, dir: &str, name: &str, index: &str) -> String {
        let dir = match dir {
            "own" => self.wire.ask(4, &DescribeLogDirsRequest::default().with_topics(None)).results[0].log_dir.to_string(),
            dir => dir.to_owned(),
        };
        let asked = AlterReplicaLogDirTopic::default().with_name(topic(name)).with_partitions(vec![index.parse().unwrap()]);
        let dir = AlterReplicaLogDir::default().with_path(text(&dir)).with_topics(vec![asked]);
        let answer = self.wire.ask(2, &AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]));
        named(answer.results[0].partitions[0].error_code)
    }

    fn feature(&mut self, name: &str, level: &str, way: &str, validate: bool) -> String {
        let way = match way {
            "upgrade" => 1,
            "downgrade" => 2,
            way => way.parse().unwrap(),
        };
        let update = FeatureUpdateKey::default().with_feature(text(name)).with_max_version_level(level.parse().unwrap());
        let request = UpdateFeaturesRequest::default()
            .with_feature_updates(vec![update.with_upgrade_type(way)])
            .with_validate_only(validate)
            .with_timeout_ms(10_000);
        named(self.wire.ask(2, &request).error_code)
    }

    fn quorum(&mut self, name: &str, index: &str) -> String {
        use describe_quorum_request::{PartitionData, TopicData};
        let partition = PartitionData::default().with_partition_index(index.parse().unwrap());
        let asked = TopicData::default().with_topic_name(topic(name)).with_partitions(vec![partition]);
        let answers: Vec<String> = (0..=2)
            .map(|version| {
                let answer = self.wire.ask(version, &DescribeQuorumRequest::default().with_topics(vec![asked.clone()]));
                let partition = &answer.topics[0].partitions[0];
                let voters: Vec<i32> = partition.current_voters.iter().map(|voter| voter.replica_id.0).collect();
                format!("{} leader {} voters {voters:?}", named(partition.error_code), partition.leader_id.0)
            })
            .collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        answers[0].clone()
    }
}

/// `retention.ms=5 from 1 (retention.ms=5 from 1, log.retention.hours=168 from 5)`
fn shown(config: &DescribeConfigsResourceResult) -> String {
    let value = |value: &Option<StrBytes>| value.as_ref().map_or("null".to_owned(), |value| value.to_string());
    let synonym = |of: &describe_configs_response::DescribeConfigsSynonym| {
        format!("{}={} from {}", of.name.as_str(), value(&of.value), of.source)
    };
    let synonyms: Vec<String> = config.synonyms.iter().map(synonym).collect();
    let flags = [(config.read_only, " read-only"), (config.is_sensitive, " secret")];
    let flags: String = flags.iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect();
    let (name, source) = (config.name.as_str(), config.config_source);
    format!("{name}={} from {source}{flags} ({})", value(&config.value), synonyms.join(", "))
}

/// Plays a script on the broker of ours, and on Kafka if there is one.
async fn played(expected: &'static str) {
    if let Ok(bootstrap) = std::env::var("MESH_BOOTSTRAP") {
        let played = tokio::task::spawn_blocking(move || Stage::new(&bootstrap).play(expected)).await.unwrap();
        compare(&played, expected, "MESH_BOOTSTRAP");
    }
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(Settings::new(dir.path())).await.unwrap();
    let bootstrap = running.bootstrap();
    let played = tokio::task::spawn_blocking(move || Stage::new(&bootstrap).play(expected)).await.unwrap();
    compare(&played, expected, "the dev broker");
}

fn compare(played: &str, expected: &str, whose: &str) {
    let tight = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = |text: &str| text.lines().map(tight).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    for (played, expected) in lines(played).iter().zip(&lines(expected)) {
        assert_eq!(played, expected, "{whose} answers otherwise than expected");
    }
    assert_eq!(lines(played).len(), lines(expected).len());
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_grown_and_deleted() {
    let script = "
        create a% 3 1 retention.ms=5000                  => 3 x 1, 33 configs retention.ms=5000
        create a% 3 1                                    => TopicAlreadyExists
        create b% 2 -1 ?                                 => 2 x 1, 33 configs
        create b% 0 1                                    => InvalidPartitions
        create b% -2 1                                   => InvalidPartitions
        create b% 1 0                                    => InvalidReplicationFactor
        create b% 1 2                                    => InvalidReplicationFactor
        create b% 10001 1 ?                              => PolicyViolation
        create b/% 1 1                                   => InvalidTopicException
        create .. 1 1                                    => InvalidTopicException
        create __cluster_metadata 1 1                    => InvalidRequest
        create b% 1 1 nonsense=1                         => InvalidConfig
        create b% 1 1 retention.ms=-2                    => InvalidConfig
        create b% 1 1 cleanup.policy=none                => InvalidConfig
        create b% 1 1 cleanup.policy                     => InvalidConfig
        create b% 1 1 min.compaction.lag.ms=2 max.compaction.lag.ms=1 => InvalidConfig
        create b% 1 1 segment.bytes=1000                 => InvalidConfig
        create b% 1 1 preallocate=TRUE cleanup.policy=compact,delete ? => 1 x 1, 33 configs cleanup.policy=compact,delete preallocate=TRUE
        create x.y% 1 1                                  => 1 x 1, 33 configs
        create x_y% 1 1                                  => InvalidTopicException
        assign m% 0:1 1:1                                => 2 x 1, 33 configs
        assign m% 1:1                                    => InvalidReplicaAssignment
        assign m% 0:1 0:1                                => InvalidReplicaAssignment
        assign m% 0:2                                    => InvalidReplicaAssignment
        assign m% 0:1+1                                  => InvalidReplicaAssignment
        assign m% 0:none                                 => InvalidReplicaAssignment
        grow a% 3                                        => InvalidPartitions
        grow a% 2                                        => InvalidPartitions
        grow nope% 2                                     => UnknownTopicOrPartition
        grow a% 4 ?                                      => ok
        grow a% 5 1                                      => InvalidReplicaAssignment
        grow a% 5 1 2                                    => InvalidReplicaAssignment
        grow a% 5 1 1                                    => ok
        grow a% 4                                        => InvalidPartitions
        delete nope%                                     => UnknownTopicOrPartition
        delete #nope%                                    => InvalidRequest
        delete a% a%                                     => InvalidRequest
        delete a% #a%                                    => InvalidRequest
        delete #a% #a%                                   => InvalidRequest
        delete #a% x.y%                                  => ok, ok
        delete #a%                                       => UnknownTopicId
        delete a%                                        => UnknownTopicOrPartition
    ";
    played(script).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_are_set_and_shown_with_their_sources() {
    let script = "
        create a% 1 1                                    => 1 x 1, 33 configs
        alter topic a% max.message.bytes=2000 cleanup.policy+compact => ok
        show topic a% max.message.bytes cleanup.policy nonsense => cleanup.policy=delete,compact from 1 (cleanup.policy=delete,compact from 1, log.cleanup.policy=delete from 5); max.message.bytes=2000 from 1 (max.message.bytes=2000 from 1, message.max.bytes=1048588 from 5)
        alter topic a% cleanup.policy~delete max.message.bytes! => ok
        show topic a% max.message.bytes cleanup.policy   => cleanup.policy=compact from 1 (cleanup.policy=compact from 1, log.cleanup.policy=delete from 5); max.message.bytes=1048588 from 5 (message.max.bytes=1048588 from 5)
        alter topic a% max.message.bytes=9 ?             => ok
        show topic a% max.message.bytes                  => max.message.bytes=1048588 from 5 (message.max.bytes=1048588 from 5)
        alter topic a% max.message.bytes=-9 ?            => InvalidConfig
        alter topic a% max.message.bytes+1               => InvalidConfig
        alter topic a% max.message.bytes                 => InvalidRequest
        alter topic a% max.message.bytes=1 max.message.bytes! => InvalidRequest
        alter topic a% nonsense=1                        => InvalidConfig
        alter topic a% nonsense!                         => ok
        alter topic nope% max.message.bytes=1            => UnknownTopicOrPartition
        alter topic '' max.message.bytes=1               => InvalidRequest
        alter topic a/b max.message.bytes=1              => InvalidTopicException
        alter 3 a% max.message.bytes=1                   => InvalidRequest
        replace topic a% segment.index.bytes=100         => ok
        show topic a% cleanup.policy segment.index.bytes => cleanup.policy=delete from 5 (log.cleanup.policy=delete from 5); segment.index.bytes=100 from 1 (segment.index.bytes=100 from 1, log.index.size.max.bytes=10485760 from 5)
        replace topic a% segment.index.bytes=1           => InvalidConfig
        show topic nope%                                 => UnknownTopicOrPartition
        show topic a% segment.ms flush.ms                => flush.ms=9223372036854775807 from 5 (); segment.ms=604800000 from 5 ()
        alter broker '' log.index.interval.bytes=5000    => ok
        alter broker 1 log.index.interval.bytes=6000     => ok
        show topic a% index.interval.bytes               => index.interval.bytes=6000 from 2 (log.index.interval.bytes=6000 from 2, log.index.interval.bytes=5000 from 3, log.index.interval.bytes=4096 from 5)
        show broker '' log.index.interval.bytes          => log.index.interval.bytes=5000 from 3 (log.index.interval.bytes=5000 from 3)
        alter broker 1 log.index.interval.bytes!         => ok
        show broker 1 log.index.interval.bytes           => log.index.interval.bytes=5000 from 3 (log.index.interval.bytes=5000 from 3, log.index.interval.bytes=4096 from 5)
        alter broker '' log.index.interval.bytes!        => ok
        show broker 1 log.index.interval.bytes num.partitions => log.index.interval.bytes=4096 from 5 (log.index.interval.bytes=4096 from 5); num.partitions=1 from 5 read-only (num.partitions=1 from 5)
        alter broker 1 num.partitions=2                  => InvalidRequest
        alter broker 1 max.connections=many              => InvalidRequest
        alter broker 1 log.cleaner.threads+2             => InvalidConfig
        alter broker 2 max.connections=9                 => InvalidRequest
        alter broker '' min.insync.replicas!             => InvalidConfig
        alter broker 1 min.insync.replicas=2             => InvalidConfig
        alter broker 1 ssl.keystore.location=x           => InvalidRequest
        show broker 2                                    => InvalidRequest
        alter group g% consumer.session.timeout.ms=50000 => ok
        show group g% consumer.session.timeout.ms share.auto.offset.reset => consumer.session.timeout.ms=50000 from 8 (consumer.session.timeout.ms=50000 from 8, group.consumer.session.timeout.ms=45000 from 5); share.auto.offset.reset=latest from 5 (share.auto.offset.reset=latest from 5)
        alter group g% consumer.session.timeout.ms=9     => InvalidConfig
        alter group g% nonsense=9                        => InvalidConfig
        alter group '' consumer.session.timeout.ms=50000 => InvalidRequest
        alter group g% consumer.session.timeout.ms!      => ok
        alter metrics m% interval.ms=100 match=client_id=a => ok
        show metrics m%                                  => interval.ms=100 from 7 (interval.ms=100 from 7); match=client_id=a from 7 (match=client_id=a from 7); metrics= from 5 ()
        alter metrics m% interval.ms=99                  => InvalidRequest
        alter metrics m% match=nonsense=a                => InvalidConfig
        alter metrics m% nonsense=a                      => InvalidRequest
        alter metrics m% interval.ms! match!             => ok
        alter logger 2 root=INFO                         => InvalidRequest
        delete a%                                        => ok
    ";
    played(script).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_nowhere_else_to_be() {
    let script = "
        create a% 2 1                                    => 2 x 1, 33 configs
        reassign a% 0 1                                  => ok, ok
        reassign a% 0 2                                  => ok, InvalidReplicaAssignment
        reassign a% 0 none                               => ok, InvalidReplicaAssignment
        reassign a% 0 cancel                             => ok, NoReassignmentInProgress
        reassign a% 9 1                                  => ok, UnknownTopicOrPartition
        elect 0 a% 0                                     => ok, ElectionNotNeeded
        elect 1 a% 1                                     => ok, ElectionNotNeeded
        elect 0 a% 9                                     => ok, UnknownTopicOrPartition
        elect 0 nope% 0                                  => ok, UnknownTopicOrPartition
        elect 7 a% 0                                     => InvalidRequest, InvalidRequest
        move /nowhere a% 0                               => LogDirNotFound
        move own a% 0                                    => ok
        move own a% 9                                    => UnknownTopicOrPartition
        unregister 77                                    => BrokerIdNotRegistered
        quorum __cluster_metadata 0                      => ok leader 1 voters [1]
        quorum a% 0                                      => UnknownTopicOrPartition leader 0 voters []
        feature transaction.version 2 upgrade            => ok
        feature transaction.version 9 upgrade            => InvalidUpdateVersion
        feature transaction.version 1 upgrade ?          => InvalidUpdateVersion
        feature transaction.version 1 downgrade ?        => ok
        feature transaction.version 1 9 ?                => InvalidUpdateVersion
        feature metadata.version 99 upgrade ?            => InvalidUpdateVersion
        feature nonsense 1 upgrade                       => InvalidUpdateVersion
        delete a%                                        => ok
    ";
    played(script).await;
}

// ---------------------------------------------------------------------------------------------------------------- //
// librdkafka

/// A broker of ours in a directory that goes with it.
struct Ours {
    running: Running,
    dir: tempfile::TempDir,
}

impl Ours {
    async fn start() -> Ours {
        let dir = tempfile::tempdir().unwrap();
        Ours { running: Running::start(Settings::new(dir.path())).await.unwrap(), dir }
    }

    /// Stopped and started again.
    async fn again(mut self) -> Ours {
        self.running.stop().await;
        Ours { running: Running::start(Settings::new(self.dir.path())).await.unwrap(), dir: self.dir }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", self.running.bootstrap()).create().unwrap()
    }

    /// A topic's config: its value, and whether it is the topic's own.
    async fn config(&self, topic: &str, name: &str) -> (String, bool) {
        let described = self.admin().describe_configs(&[ResourceSpecifier::Topic(topic)], &AdminOptions::new()).await.unwrap();
        let entry = described[0].as_ref().unwrap().get(name).unwrap();
        (entry.value.clone().unwrap(), entry.source == ConfigSource::DynamicTopic)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn librdkafka_administers_topics_and_what_it_did_is_there_after_a_restart() {
    let ours = Ours::start().await;
    let admin = ours.admin();
    let new = NewTopic::new("a", 2, TopicReplication::Fixed(1)).set("retention.ms", "5000");
    let dry = AdminOptions::new().validate_only(true);
    assert_eq!(admin.create_topics([&new], &dry).await.unwrap(), [Ok("a".to_owned())]);
    assert_eq!(admin.create_topics([&new], &AdminOptions::new()).await.unwrap(), [Ok("a".to_owned())]);
    let again = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
    assert_eq!(again, [Err(("a".to_owned(), RDKafkaErrorCode::TopicAlreadyExists))]);
    let grown = admin.create_partitions([&NewPartitions::new("a", 5)], &AdminOptions::new()).await.unwrap();
    assert_eq!(grown, [Ok("a".to_owned())]);
    assert_eq!(ours.config("a", "retention.ms").await, ("5000".to_owned(), true));
    assert_eq!(ours.config("a", "cleanup.policy").await, ("delete".to_owned(), false));

    // The old call sets all that it names and unsets the rest.
    let altered = AlterConfig::new(ResourceSpecifier::Topic("a")).set("cleanup.policy", "compact");
    assert!(admin.alter_configs([&altered], &AdminOptions::new()).await.unwrap()[0].is_ok());

    let ours = ours.again().await;
    assert_eq!(ours.config("a", "retention.ms").await, ("604800000".to_owned(), false));
    assert_eq!(ours.config("a", "cleanup.policy").await, ("compact".to_owned(), true));
    let metadata = ours.admin().inner().fetch_metadata(Some("a"), DEADLINE).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 5);
    assert!(ours.running.broker.topics.get("a").unwrap().partitions()[0].config().log.compact, "and its logs know");

    assert_eq!(ours.admin().delete_topics(&["a"], &AdminOptions::new()).await.unwrap(), [Ok("a".to_owned())]);
    let new = NewTopic::new("a", 1, TopicReplication::Fixed(1));
    assert_eq!(ours.admin().create_topics([&new], &AdminOptions::new()).await.unwrap(), [Ok("a".to_owned())]);
    assert_eq!(ours.config("a", "cleanup.policy").await, ("delete".to_owned(), false), "a new topic begins anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn features_and_resources_are_listed() {
    let ours = Ours::start().await;
    let mut wire = Wire::connect(&ours.running.bootstrap());
    let level = |wire: &mut Wire| {
        let name = |name: &str| text(name);
        let request = ApiVersionsRequest::default().with_client_software_name(name("t")).with_client_software_version(name("1"));
        let answer = wire.ask(4, &request);
        let found = answer.finalized_features.iter().find(|of| of.name.as_str() == "transaction.version");
        (answer.finalized_features_epoch, found.map(|of| of.max_version_level))
    };
    let (epoch, now) = level(&mut wire);
    assert_eq!(now, Some(2));
    let update = FeatureUpdateKey::default().with_feature(text("transaction.version")).with_max_version_level(1);
    let request = UpdateFeaturesRequest::default().with_feature_updates(vec![update.with_upgrade_type(2)]);
    assert_eq!(wire.ask(2, &request).error_code, 0);
    assert_eq!(level(&mut wire), (epoch + 1, Some(1)));
    let ours = ours.again().await;
    let mut wire = Wire::connect(&ours.running.bootstrap());
    assert_eq!(level(&mut wire), (epoch + 1, Some(1)), "kept");
    let broken = ApiVersionsRequest::default().with_client_software_name(text("a b")).with_client_software_version(text("1"));
    assert_eq!(named(wire.ask(3, &broken).error_code), "InvalidRequest");

    let mut stage = Stage::new(&ours.running.bootstrap());
    assert_eq!(stage.line("create a 1 1"), "1 x 1, 33 configs");
    assert_eq!(stage.line("alter group g consumer.heartbeat.interval.ms=6000"), "ok");
    assert_eq!(stage.line("alter metrics m interval.ms=6000"), "ok");
    let mut list = |version, kinds: &[i8]| {
        let answer = wire.ask(version, &ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec()));
        let one =
            |of: &list_config_resources_response::ConfigResource| format!("{}{}", of.resource_type, of.resource_name.as_str());
        (named(answer.error_code), answer.config_resources.iter().map(one).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(list(1, &[]), ("ok".to_owned(), "2a 41 81 16m 32g".to_owned()));
    assert_eq!(list(1, &[32, 2]), ("ok".to_owned(), "2a 32g".to_owned()));
    assert_eq!(list(0, &[]).1, "16m");
    assert_eq!(list(1, &[3]).0, "UnsupportedVersion");
    assert_eq!(ours.running.broker.configs.group_number("g", "consumer.heartbeat.interval.ms"), 6_000);

    let cluster = wire.ask(2, &DescribeClusterRequest::default().with_include_cluster_authorized_operations(true));
    assert_eq!((cluster.controller_id.0, cluster.brokers.len(), cluster.cluster_authorized_operations), (1, 1, 8_096));
    let controllers = wire.ask(1, &DescribeClusterRequest::default().with_endpoint_type(2));
    assert_eq!(named(controllers.error_code), "MismatchedEndpointType");
}
