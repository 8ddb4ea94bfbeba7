//! Faults on request, for tests: delays, error codes, connections that drop before or after the work was done.
//!
//! A fault names an API and says how often it strikes: by count, or by probability from a seed, so that a failing test can
//! be run again as it was.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::*;
use serde::Deserialize;

use super::dispatch::SERVED;

/// What a fault does to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Answered only after this time.
    Delay(Duration),
    /// Answered with this error code; the work is not done.
    Error(i16),
    /// The connection ends; the work is not done.
    DropBefore,
    /// The work is done, and the connection ends without an answer.
    DropAfter,
}

/// One fault.
#[derive(Debug, Clone)]
pub struct Fault {
    pub api: ApiKey,
    pub effect: Effect,
    /// Requests of that API that pass before the first is struck.
    pub skip: u32,
    /// How many are struck at most; `None`: no limit.
    pub count: Option<u32>,
    /// How likely each one is struck, between 0 and 1.
    pub probability: f64,
}

impl Fault {
    /// Strikes the next request of an API, once.
    pub fn once(api: ApiKey, effect: Effect) -> Fault {
        Fault { api, effect, skip: 0, count: Some(1), probability: 1.0 }
    }
}

/// The faults of a broker. They may be changed while it runs.
#[derive(Debug)]
pub struct Faults(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    faults: Vec<Fault>,
    random: fastrand::Rng,
    /// How many requests were struck.
    struck: u64,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::new(Vec::new(), 0)
    }
}

impl Faults {
    /// `seed` decides which requests are struck where probabilities are given.
    pub fn new(faults: Vec<Fault>, seed: u64) -> Faults {
        Faults(Mutex::new(Inner { faults, random: fastrand::Rng::with_seed(seed), struck: 0 }))
    }

    /// Adds a fault to those there are.
    pub fn add(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Takes all faults away.
    pub fn clear(&self) {
        self.lock().faults.clear();
    }

    /// How many requests were struck until now.
    pub fn struck(&self) -> u64 {
        self.lock().struck
    }

    /// What happens to the next request of an API: the effect of the first fault that strikes.
    pub(super) fn strike(&self, api: ApiKey) -> Option<Effect> {
        let mut inner = self.lock();
        let Inner { faults, random, struck } = &mut *inner;
        for fault in faults.iter_mut().filter(|fault| fault.api == api && fault.count != Some(0)) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.probability >= 1.0 || random.f64() < fault.probability {
                fault.count = fault.count.map(|count| count - 1);
                *struck += 1;
                return Some(fault.effect);
            }
        }
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of faults.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    seed: u64,
    faults: Vec<Written>,
}

/// A fault as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    api: String,
    #[serde(default)]
    skip: u32,
    count: Option<u32>,
    probability: Option<f64>,
    delay_ms: Option<u64>,
    error: Option<String>,
    drop: Option<Moment>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Moment {
    Before,
    After,
}

/// Why a file of faults can't be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable(String);

impl std::error::Error for Unusable {}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Faults {
    /// Reads a file's text: YAML with `faults`, a list, and a `seed`.
    ///
    /// # Errors
    /// Says which fault is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Faults, Unusable> {
        let file: File = serde_yaml::from_str(text).map_err(|error| Unusable(error.to_string()))?;
        let fault = |(at, written): (usize, &Written)| {
            fault(written).map_err(|reason| Unusable(format!("fault {} ({}): {reason}", at + 1, written.api)))
        };
        let faults = file.faults.iter().enumerate().map(fault).collect::<Result<_, _>>()?;
        Ok(Faults::new(faults, file.seed))
    }
}

fn fault(written: &Written) -> Result<Fault, String> {
    let named = SERVED.iter().map(|(api, ..)| *api).find(|api| format!("{api:?}") == written.api);
    let api = named.ok_or("no API that the broker serves has this name; names are Kafka's, such as EndTxn")?;
    let effect = match (written.delay_ms, &written.error, written.drop) {
        (Some(ms), None, None) => Effect::Delay(Duration::from_millis(ms)),
        (None, Some(name), None) => Effect::Error(error_code(name)?),
        (None, None, Some(Moment::Before)) => Effect::DropBefore,
        (None, None, Some(Moment::After)) => Effect::DropAfter,
        _ => return Err("say one of delay_ms: 200, error: NOT_COORDINATOR, drop: before, drop: after".into()),
    };
    if matches!(effect, Effect::Error(_)) && !ERRORS.contains(&api) {
        return Err("answers of this API can't be made up; delay_ms and drop work for every API".into());
    }
    let probability = written.probability.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&probability) {
        return Err(format!("probability {probability} is not between 0 and 1"));
    }
    Ok(Fault { api, effect, skip: written.skip, count: written.count, probability })
}

/// The code of an error by its name, such as `NOT_COORDINATOR`.
fn error_code(name: &str) -> Result<i16, String> {
    let plain = name.replace('_', "").to_lowercase();
    let of = |code: &i16| ResponseError::try_from_code(*code).is_some_and(|error| error.to_string().to_lowercase() == plain);
    (-1..200).find(of).ok_or_else(|| format!("Kafka has no error {name}; names are such as NOT_COORDINATOR"))
}

/// Lists the APIs whose answers can be made up, and makes them: those with one code for all, and those with a code for each
/// thing that the request names.
macro_rules! answers {
    (whole: $($api:ident $request:ident $response:ident),* ; each: $($each:ident $asked:ident => $answer:expr),* $(,)?) => {
        /// The APIs whose answers can be made up.
        const ERRORS: &[ApiKey] = &[$(ApiKey::$api,)* $(ApiKey::$each),*];

        /// The answer to `request` that says nothing but `code`.
        pub(super) fn refused(request: &dyn Any, code: i16) -> Option<Box<dyn Any + Send>> {
            $(if request.is::<$request>() {
                return Some(Box::new($response::default().with_error_code(code)));
            })*
            $(if let Some(request) = request.downcast_ref::<$asked>() {
                let answer: fn(&$asked, i16) -> Box<dyn Any + Send> = $answer;
                return Some(answer(request, code));
            })*
            None
        }
    };
}

answers! {
    whole:
        AddOffsetsToTxn AddOffsetsToTxnRequest AddOffsetsToTxnResponse,
        ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse,
        DescribeAcls DescribeAclsRequest DescribeAclsResponse,
        DescribeCluster DescribeClusterRequest DescribeClusterResponse,
        EndTxn EndTxnRequest EndTxnResponse,
        Fetch FetchRequest FetchResponse,
        FindCoordinator FindCoordinatorRequest FindCoordinatorResponse,
        Heartbeat HeartbeatRequest HeartbeatResponse,
        InitProducerId InitProducerIdRequest InitProducerIdResponse,
        JoinGroup JoinGroupRequest JoinGroupResponse,
        LeaveGroup LeaveGroupRequest LeaveGroupResponse,
        ListGroups ListGroupsRequest ListGroupsResponse,
        SyncGroup SyncGroupRequest SyncGroupResponse;
    each:
        AddPartitionsToTxn AddPartitionsToTxnRequest => add_partitions_to_txn,
        CreateAcls CreateAclsRequest => create_acls,
        CreatePartitions CreatePartitionsRequest => create_partitions,
        CreateTopics CreateTopicsRequest => create_topics,
        DeleteAcls DeleteAclsRequest => delete_acls,
        DeleteTopics DeleteTopicsRequest => delete_topics,
        IncrementalAlterConfigs IncrementalAlterConfigsRequest => incremental_alter_configs,
        ListOffsets ListOffsetsRequest => list_offsets,
        OffsetCommit OffsetCommitRequest => offset_commit,
        Produce ProduceRequest => produce,
        TxnOffsetCommit TxnOffsetCommitRequest => txn_offset_commit,
}

type Boxed = Box<dyn Any + Send>;

fn produce(request: &ProduceRequest, code: i16) -> Boxed {
    use produce_response::{PartitionProduceResponse, TopicProduceResponse};
    let partition = |index: i32| PartitionProduceResponse::default().with_index(index).with_error_code(code).with_base_offset(-1);
    let topic = |topic: &produce_request::TopicProduceData| {
        let partitions = topic.partition_data.iter().map(|of| partition(of.index)).collect();
        let answer = TopicProduceResponse::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
        answer.with_partition_responses(partitions)
    };
    Box::new(ProduceResponse::default().with_responses(request.topic_data.iter().map(topic).collect()))
}

fn list_offsets(request: &ListOffsetsRequest, code: i16) -> Boxed {
    use list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    let partition = |index: i32| ListOffsetsPartitionResponse::default().with_partition_index(index).with_error_code(code);
    let topic = |topic: &list_offsets_request::ListOffsetsTopic| {
        let partitions = topic.partitions.iter().map(|of| partition(of.partition_index)).collect();
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    };
    Box::new(ListOffsetsResponse::default().with_topics(request.topics.iter().map(topic).collect()))
}

fn offset_commit(request: &OffsetCommitRequest, code: i16) -> Boxed {
    use offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
    let partition = |index: i32| OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code);
    let topic = |topic: &offset_commit_request::OffsetCommitRequestTopic| {
        let partitions = topic.partitions.iter().map(|of| partition(of.partition_index)).collect();
        let answer = OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
        answer.with_partitions(partitions)
    };
    Box::new(OffsetCommitResponse::default().with_topics(request.topics.iter().map(topic).collect()))
}

fn txn_offset_commit(request: &TxnOffsetCommitRequest, code: i16) -> Boxed {
    use txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic};
    let partition = |index: i32| TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code);
    let topic = |topic: &txn_offset_commit_request::TxnOffsetCommitRequestTopic| {
        let partitions = topic.partitions.iter().map(|of| partition(of.partition_index)).collect();
        TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
    };
    Box::new(TxnOffsetCommitResponse::default().with_topics(request.topics.iter().map(topic).collect()))
}

fn add_partitions_to_txn(request: &AddPartitionsToTxnRequest, code: i16) -> Boxed {
    use add_partitions_to_txn_response::{AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult};
    let partition =
        |index: i32| AddPartitionsToTxnPartitionResult::default().with_partition_index(index).with_partition_error_code(code);
    let topic = |topic: &add_partitions_to_txn_request::AddPartitionsToTxnTopic| {
        let partitions = topic.partitions.iter().map(|index| partition(*index)).collect();
        AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone()).with_results_by_partition(partitions)
    };
    let topics = request.v3_and_below_topics.iter().map(topic).collect();
    Box::new(AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics))
}

fn create_topics(request: &CreateTopicsRequest, code: i16) -> Boxed {
    use create_topics_response::CreatableTopicResult;
    let topic = |topic: &create_topics_request::CreatableTopic| {
        CreatableTopicResult::default().with_name(topic.name.clone()).with_error_code(code)
    };
    Box::new(CreateTopicsResponse::default().with_topics(request.topics.iter().map(topic).collect()))
}

fn delete_topics(request: &DeleteTopicsRequest, code: i16) -> Boxed {
    use delete_topics_response::DeletableTopicResult;
    let named = request.topic_names.iter().map(|name| DeletableTopicResult::default().with_name(Some(name.clone())));
    let of = |topic: &delete_topics_request::DeleteTopicState| {
        DeletableTopicResult::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id)
    };
    let all = named.chain(request.topics.iter().map(of)).map(|topic| topic.with_error_code(code));
    Box::new(DeleteTopicsResponse::default().with_responses(all.collect()))
}

fn create_partitions(request: &CreatePartitionsRequest, code: i16) -> Boxed {
    use create_partitions_response::CreatePartitionsTopicResult;
    let topic = |topic: &create_partitions_request::CreatePartitionsTopic| {
        CreatePartitionsTopicResult::default().with_name(topic.name.clone()).with_error_code(code)
    };
    Box::new(CreatePartitionsResponse::default().with_results(request.topics.iter().map(topic).collect()))
}

fn incremental_alter_configs(request: &IncrementalAlterConfigsRequest, code: i16) -> Boxed {
    use incremental_alter_configs_response::AlterConfigsResourceResponse;
    let resource = |of: &incremental_alter_configs_request::AlterConfigsResource| {
        let answer = AlterConfigsResourceResponse::default().with_resource_type(of.resource_type);
        answer.with_resource_name(of.resource_name.clone()).with_error_code(code)
    };
    Box::new(IncrementalAlterConfigsResponse::default().with_responses(request.resources.iter().map(resource).collect()))
}

fn create_acls(request: &CreateAclsRequest, code: i16) -> Boxed {
    use create_acls_response::AclCreationResult;
    let results = request.creations.iter().map(|_| AclCreationResult::default().with_error_code(code)).collect();
    Box::new(CreateAclsResponse::default().with_results(results))
}

fn delete_acls(request: &DeleteAclsRequest, code: i16) -> Boxed {
    use delete_acls_response::DeleteAclsFilterResult;
    let results = request.filters.iter().map(|_| DeleteAclsFilterResult::default().with_error_code(code)).collect();
    Box::new(DeleteAclsResponse::default().with_filter_results(results))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_strike_as_often_as_they_say() {
        let fault = Fault { skip: 1, count: Some(2), ..Fault::once(ApiKey::EndTxn, Effect::DropAfter) };
        let faults = Faults::new(vec![fault], 0);
        let struck: Vec<bool> = (0..5).map(|_| faults.strike(ApiKey::EndTxn).is_some()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
        assert_eq!(faults.strike(ApiKey::Produce), None);
    }

    #[test]
    fn a_seed_gives_the_same_again() {
        let pattern = |seed| {
            let fault = Fault { count: None, probability: 0.5, ..Fault::once(ApiKey::Fetch, Effect::DropBefore) };
            let faults = Faults::new(vec![fault], seed);
            (0..64).map(|_| faults.strike(ApiKey::Fetch).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(pattern(7), pattern(7));
        assert_ne!(pattern(7), pattern(8));
    }

    #[test]
    fn a_wrong_file_says_what_would_be_right() {
        let refused = |text: &str| Faults::parse(text).unwrap_err().to_string();
        assert_eq!(
            refused("faults: [{api: EndTransaction, drop: after}]"),
            "fault 1 (EndTransaction): no API that the broker serves has this name; names are Kafka's, such as EndTxn"
        );
        assert_eq!(
            refused("faults: [{api: ApiVersions}]"),
            "fault 1 (ApiVersions): say one of delay_ms: 200, error: NOT_COORDINATOR, drop: before, drop: after"
        );
        assert_eq!(
            refused("faults: [{api: ApiVersions, error: NOT_COORDINATOR}]"),
            "fault 1 (ApiVersions): answers of this API can't be made up; delay_ms and drop work for every API"
        );
        assert_eq!(
            refused("faults: [{api: ApiVersions, error: NO_COORDINATOR}]"),
            "fault 1 (ApiVersions): Kafka has no error NO_COORDINATOR; names are such as NOT_COORDINATOR"
        );
        assert!(refused("faults: [{api: ApiVersions, drop: after, often: yes}]").contains("often"));
    }
}
