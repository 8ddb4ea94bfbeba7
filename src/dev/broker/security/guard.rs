//! Which rights each request needs, when ACLs are enforced (the table of Kafka's documentation, "Operations and Resources on
//! Protocols"). What a client may not do is taken out of its request before it is served, and answered with an error.

use std::any::Any;
use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::*;
use uuid::Uuid;

use super::acls::CLUSTER_NAME;
use super::acls::operation::{ALTER, ALTER_CONFIGS, CREATE, DELETE, DESCRIBE, DESCRIBE_CONFIGS, IDEMPOTENT_WRITE, READ, WRITE};
use super::acls::resource::{CLUSTER, GROUP, TOPIC, TRANSACTIONAL_ID};
use crate::dev::broker::refusals::refused;
use crate::dev::broker::{Broker, Session};

/// Puts what was refused into the answer to the rest.
type Merge = Box<dyn FnOnce(&mut dyn Any) + Send>;

/// What becomes of a request.
pub(in crate::dev::broker) enum Verdict {
    Pass,
    /// All of it is refused with this code.
    Refuse(i16),
    /// What may not be done was taken out of the request.
    Partly(Merge),
}

/// Who asks.
struct Asker<'a> {
    broker: &'a Broker,
    session: &'a Session,
}

impl Asker<'_> {
    fn may(&self, operation: i8, resource_type: i8, name: &str) -> bool {
        self.broker.allows(self.session, operation, resource_type, name)
    }

    fn on_topic(&self, operation: i8, name: &str) -> bool {
        self.may(operation, TOPIC, name)
    }

    fn on_cluster(&self, operation: i8) -> Result<(), i16> {
        self.need(operation, CLUSTER, CLUSTER_NAME)
    }

    /// A topic's config, or that of something that belongs to the cluster.
    fn on_config(&self, operation: i8, resource_type: i8, name: &str) -> bool {
        if resource_type == TOPIC { self.on_topic(operation, name) } else { self.on_cluster(operation).is_ok() }
    }

    /// A topic's name; requests of newer versions give its id alone.
    fn named(&self, name: &TopicName, id: Uuid) -> String {
        let by_id = || self.broker.topics.by_id(id).map(|topic| topic.name.clone());
        if name.is_empty() { by_id().unwrap_or_default() } else { name.to_string() }
    }

    /// The code for a right that is missing.
    fn need(&self, operation: i8, resource_type: i8, name: &str) -> Result<(), i16> {
        let error = match resource_type {
            TOPIC => ResponseError::TopicAuthorizationFailed,
            GROUP => ResponseError::GroupAuthorizationFailed,
            TRANSACTIONAL_ID => ResponseError::TransactionalIdAuthorizationFailed,
            _ => ResponseError::ClusterAuthorizationFailed,
        };
        if self.may(operation, resource_type, name) { Ok(()) } else { Err(error.code()) }
    }
}

/// Judges a request; one without a line here needs no right.
pub(in crate::dev::broker) fn judge(broker: &Broker, session: &Session, request: &mut dyn Any) -> Verdict {
    if !broker.settings.authorize {
        return Verdict::Pass;
    }
    let asker = Asker { broker, session };
    if let Err(code) = whole(&asker, request) {
        return Verdict::Refuse(code);
    }
    each(&asker, request).map_or(Verdict::Pass, Verdict::Partly)
}

/// Rights without which nothing of a request is done.
fn whole(asker: &Asker<'_>, request: &dyn Any) -> Result<(), i16> {
    macro_rules! needs {
        ($($of:ident => |$request:pat_param| $check:expr;)*) => {
            $(if let Some($request) = request.downcast_ref::<$of>() { return $check; })*
        };
    }
    needs! {
        JoinGroupRequest => |of| asker.need(READ, GROUP, &of.group_id);
        SyncGroupRequest => |of| asker.need(READ, GROUP, &of.group_id);
        HeartbeatRequest => |of| asker.need(READ, GROUP, &of.group_id);
        LeaveGroupRequest => |of| asker.need(READ, GROUP, &of.group_id);
        ConsumerGroupHeartbeatRequest => |of| asker.need(READ, GROUP, &of.group_id);
        OffsetCommitRequest => |of| asker.need(READ, GROUP, &of.group_id);
        OffsetDeleteRequest => |of| asker.need(DELETE, GROUP, &of.group_id);
        OffsetFetchRequest => |of| offset_fetch(asker, of);
        FindCoordinatorRequest => |of| find_coordinator(asker, of);
        InitProducerIdRequest => |of| init_producer_id(asker, of);
        AddOffsetsToTxnRequest => |of| asker.need(WRITE, TRANSACTIONAL_ID, &of.transactional_id).and(asker.need(READ, GROUP, &of.group_id));
        AddPartitionsToTxnRequest => |of| asker.need(WRITE, TRANSACTIONAL_ID, &of.v3_and_below_transactional_id);
        EndTxnRequest => |of| asker.need(WRITE, TRANSACTIONAL_ID, &of.transactional_id);
        TxnOffsetCommitRequest => |of| asker.need(WRITE, TRANSACTIONAL_ID, &of.transactional_id).and(asker.need(READ, GROUP, &of.group_id));
        ProduceRequest => |of| of.transactional_id.as_ref().map_or(Ok(()), |id| asker.need(WRITE, TRANSACTIONAL_ID, id));
        CreateAclsRequest => |_| asker.on_cluster(ALTER);
        DeleteAclsRequest => |_| asker.on_cluster(ALTER);
        DescribeAclsRequest => |_| asker.on_cluster(DESCRIBE);
        AlterClientQuotasRequest => |_| asker.on_cluster(ALTER_CONFIGS);
        DescribeClientQuotasRequest => |_| asker.on_cluster(DESCRIBE_CONFIGS);
        AlterUserScramCredentialsRequest => |_| asker.on_cluster(ALTER);
        DescribeUserScramCredentialsRequest => |_| asker.on_cluster(DESCRIBE);
        DescribeLogDirsRequest => |_| asker.on_cluster(DESCRIBE);
        DescribeQuorumRequest => |_| asker.on_cluster(DESCRIBE);
        ElectLeadersRequest => |_| asker.on_cluster(ALTER);
        AlterPartitionReassignmentsRequest => |_| asker.on_cluster(ALTER);
        ListPartitionReassignmentsRequest => |_| asker.on_cluster(DESCRIBE);
        UpdateFeaturesRequest => |_| asker.on_cluster(ALTER);
        UnregisterBrokerRequest => |_| asker.on_cluster(ALTER);
        AlterReplicaLogDirsRequest => |_| asker.on_cluster(ALTER);
        ListConfigResourcesRequest => |_| asker.on_cluster(DESCRIBE_CONFIGS);
    }
    Ok(())
}

fn init_producer_id(asker: &Asker<'_>, request: &InitProducerIdRequest) -> Result<(), i16> {
    match &request.transactional_id {
        Some(id) => asker.need(WRITE, TRANSACTIONAL_ID, id),
        // KIP-679: who may write to any topic may do so idempotently.
        None if asker.broker.allows_any(asker.session, WRITE, TOPIC) => Ok(()),
        None => asker.on_cluster(IDEMPOTENT_WRITE),
    }
}

fn find_coordinator(asker: &Asker<'_>, request: &FindCoordinatorRequest) -> Result<(), i16> {
    let resource_type = if request.key_type == 1 { TRANSACTIONAL_ID } else { GROUP };
    let one = request.coordinator_keys.is_empty().then_some(&request.key);
    let mut keys = request.coordinator_keys.iter().chain(one);
    keys.try_for_each(|key| asker.need(DESCRIBE, resource_type, key))
}

fn offset_fetch(asker: &Asker<'_>, request: &OffsetFetchRequest) -> Result<(), i16> {
    let one = request.groups.is_empty().then_some(&request.group_id);
    let mut groups = request.groups.iter().map(|group| &group.group_id).chain(one);
    groups.try_for_each(|group| asker.need(DESCRIBE, GROUP, group))
}

/// Takes out of a request what may not be done, and makes the answers to it.
fn each(asker: &Asker<'_>, request: &mut dyn Any) -> Option<Merge> {
    use ResponseError::{GroupAuthorizationFailed, TopicAuthorizationFailed, TransactionalIdAuthorizationFailed};
    /// A line: request and its list; what must be allowed of an element, else which error; response and its list.
    macro_rules! lists {
        ($($asked:ident . $items:ident $(. $list:ident())?, |$of:pat_param| $allowed:expr, $error:ident => $answer:ident . $answers:ident;)*) => {
            $(if let Some(request) = request.downcast_mut::<$asked>() {
                let items = |request: &mut $asked| std::mem::take(&mut request.$items)$(.$list())?;
                let put = |request: &mut $asked, items| request.$items = lists!(@list items $($list)?);
                let merge = |all: &mut $answer, refused: $answer| all.$answers.extend(refused.$answers);
                return split(request, items, put, |$of| $allowed, $error, merge);
            })*
        };
        (@list $items:ident) => { $items };
        (@list $items:ident $list:ident) => { Some($items) };
    }
    if request.downcast_ref::<MetadataRequest>().is_some_and(|request| request.topics.is_none()) {
        return Some(only_described(asker));
    }
    lists! {
        ProduceRequest.topic_data, |of| asker.on_topic(WRITE, &asker.named(&of.name, of.topic_id)), TopicAuthorizationFailed => ProduceResponse.responses;
        FetchRequest.topics, |of| asker.on_topic(READ, &asker.named(&of.topic, of.topic_id)), TopicAuthorizationFailed => FetchResponse.responses;
        ListOffsetsRequest.topics, |of| asker.on_topic(DESCRIBE, &of.name), TopicAuthorizationFailed => ListOffsetsResponse.topics;
        OffsetForLeaderEpochRequest.topics, |of| asker.on_topic(DESCRIBE, &of.topic), TopicAuthorizationFailed => OffsetForLeaderEpochResponse.topics;
        MetadataRequest.topics.unwrap_or_default(), |of| asker.on_topic(DESCRIBE, &asker.named(&of.name.clone().unwrap_or_default(), of.topic_id)), TopicAuthorizationFailed => MetadataResponse.topics;
        OffsetCommitRequest.topics, |of| asker.on_topic(READ, &asker.named(&of.name, of.topic_id)), TopicAuthorizationFailed => OffsetCommitResponse.topics;
        OffsetDeleteRequest.topics, |of| asker.on_topic(READ, &of.name), TopicAuthorizationFailed => OffsetDeleteResponse.topics;
        TxnOffsetCommitRequest.topics, |of| asker.on_topic(READ, &of.name), TopicAuthorizationFailed => TxnOffsetCommitResponse.topics;
        AddPartitionsToTxnRequest.v3_and_below_topics, |of| asker.on_topic(WRITE, &of.name), TopicAuthorizationFailed => AddPartitionsToTxnResponse.results_by_topic_v3_and_below;
        CreateTopicsRequest.topics, |of| asker.on_cluster(CREATE).is_ok() || asker.on_topic(CREATE, &of.name), TopicAuthorizationFailed => CreateTopicsResponse.topics;
        CreatePartitionsRequest.topics, |of| asker.on_topic(ALTER, &of.name), TopicAuthorizationFailed => CreatePartitionsResponse.results;
        DeleteRecordsRequest.topics, |of| asker.on_topic(DELETE, &of.name), TopicAuthorizationFailed => DeleteRecordsResponse.topics;
        DescribeProducersRequest.topics, |of| asker.on_topic(READ, &of.name), TopicAuthorizationFailed => DescribeProducersResponse.topics;
        DescribeGroupsRequest.groups, |of| asker.may(DESCRIBE, GROUP, of), GroupAuthorizationFailed => DescribeGroupsResponse.groups;
        DeleteGroupsRequest.groups_names, |of| asker.may(DELETE, GROUP, of), GroupAuthorizationFailed => DeleteGroupsResponse.results;
        DescribeTransactionsRequest.transactional_ids, |of| asker.may(DESCRIBE, TRANSACTIONAL_ID, of), TransactionalIdAuthorizationFailed => DescribeTransactionsResponse.transaction_states;
        DescribeConfigsRequest.resources, |of| asker.on_config(DESCRIBE_CONFIGS, of.resource_type, &of.resource_name), TopicAuthorizationFailed => DescribeConfigsResponse.results;
        AlterConfigsRequest.resources, |of| asker.on_config(ALTER_CONFIGS, of.resource_type, &of.resource_name), TopicAuthorizationFailed => AlterConfigsResponse.responses;
        IncrementalAlterConfigsRequest.resources, |of| asker.on_config(ALTER_CONFIGS, of.resource_type, &of.resource_name), TopicAuthorizationFailed => IncrementalAlterConfigsResponse.responses;
    }
    delete_topics(asker, request.downcast_mut()?)
}

/// Leaves in `request` the elements that are allowed; the rest of them is what the merge puts into the answer.
fn split<R: Clone + 'static, T, A: Send + 'static>(
    request: &mut R,
    take: impl Fn(&mut R) -> Vec<T>,
    put: impl Fn(&mut R, Vec<T>),
    allowed: impl FnMut(&T) -> bool,
    error: ResponseError,
    merge: fn(&mut A, A),
) -> Option<Merge> {
    let (pass, denied): (Vec<T>, Vec<T>) = take(request).into_iter().partition(allowed);
    let mut rest = request.clone();
    put(request, pass);
    if denied.is_empty() {
        return None;
    }
    put(&mut rest, denied);
    let refused = refused(&rest, error.code())?.downcast::<A>().ok()?;
    Some(Box::new(move |response| {
        if let Some(response) = response.downcast_mut::<A>() {
            merge(response, *refused);
        }
    }))
}

/// Topics are named in one list or another, by version.
fn delete_topics(asker: &Asker<'_>, request: &mut DeleteTopicsRequest) -> Option<Merge> {
    let merge = |all: &mut DeleteTopicsResponse, refused: DeleteTopicsResponse| all.responses.extend(refused.responses);
    let error = ResponseError::TopicAuthorizationFailed;
    if !request.topic_names.is_empty() {
        let take = |request: &mut DeleteTopicsRequest| std::mem::take(&mut request.topic_names);
        return split(
            request,
            take,
            |request, names| request.topic_names = names,
            |name| asker.on_topic(DELETE, name),
            error,
            merge,
        );
    }
    let take = |request: &mut DeleteTopicsRequest| std::mem::take(&mut request.topics);
    let allowed = |of: &delete_topics_request::DeleteTopicState| {
        asker.on_topic(DELETE, &asker.named(&of.name.clone().unwrap_or_default(), of.topic_id))
    };
    split(request, take, |request, topics| request.topics = topics, allowed, error, merge)
}

/// Who asks for all topics sees those that it may describe.
fn only_described(asker: &Asker<'_>) -> Merge {
    let names: Vec<String> = asker.broker.topics.list().iter().map(|topic| topic.name.clone()).collect();
    let seen: BTreeSet<String> = names.into_iter().filter(|name| asker.on_topic(DESCRIBE, name)).collect();
    Box::new(move |response| {
        if let Some(response) = response.downcast_mut::<MetadataResponse>() {
            response.topics.retain(|topic| topic.name.as_ref().is_some_and(|name| seen.contains(name.as_str())));
        }
    })
}
