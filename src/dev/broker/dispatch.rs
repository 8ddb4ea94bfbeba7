//! Which APIs are served, in which versions, and by which function: one line each. `ApiVersions` advertises this table.

use std::any::Any;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};

use super::data::{fetch, metadata, offsets, produce, state};
use super::faults::Effect;
use super::refusals::refused;
use super::security::guard::{self, Verdict};
use super::security::{acls, quotas, sasl, scram};
use super::transactions::api as transactions;
use super::{Broker, Call, Session, admin, groups, layout};

/// What becomes of a connection after a request.
#[derive(Debug)]
pub enum Answer {
    /// A whole frame, its size in front.
    Send(BytesMut),
    /// The client asked for no answer.
    Nothing,
    /// The request cannot be understood, or is of an API that is not served; Kafka closes the connection as well.
    Close,
}

/// What a function answers a request with. Most only know the first; a response alone is that.
#[derive(Debug)]
pub enum Reply<T> {
    Answer(T),
    /// The client wants no answer.
    Nothing,
    /// It wants none, but has to see that something went wrong: the connection is closed.
    Close,
}

impl<T> From<T> for Reply<T> {
    fn from(response: T) -> Reply<T> {
        Reply::Answer(response)
    }
}

/// Whether the request is one that is not answered: a Produce with acks 0.
fn is_silent(request: &dyn Any) -> bool {
    request.downcast_ref::<ProduceRequest>().is_some_and(|request| request.acks == 0)
}

/// A line: API, lowest and highest version, request, function. The function gets the broker, the call and the request, and
/// answers with the API's response, in which errors are.
macro_rules! served {
    ($($api:ident $min:literal ..= $max:literal $request:path => $serve:path;)*) => {
        /// The APIs that are served: key, lowest and highest version.
        pub const SERVED: &[(ApiKey, i16, i16)] = &[$((ApiKey::$api, $min, $max)),*];

        /// With a `refusal` the answer is that error code, and nothing is done.
        async fn serve(broker: &Arc<Broker>, call: &Call, request: Received, refusal: Option<i16>) -> Option<Answer> {
            let Received { api, correlation, body } = request;
            match api {
                $(ApiKey::$api => {
                    let mut request: $request = decode(body, call.version)?;
                    let verdict = refusal.map_or_else(|| guard::judge(broker, &call.session, &mut request), Verdict::Refuse);
                    let silent = is_silent(&request);
                    let reply: Reply<<$request as Request>::Response> = match verdict {
                        Verdict::Refuse(_) if silent => Reply::Close,
                        Verdict::Refuse(code) => Reply::Answer(*refused(&request, code)?.downcast().ok()?),
                        Verdict::Pass => Box::pin($serve(broker, call, request)).await.into(),
                        Verdict::Partly(merge) => match Box::pin($serve(broker, call, request)).await.into() {
                            Reply::Answer(mut response) => {
                                merge(&mut response);
                                Reply::Answer(response)
                            }
                            _ => Reply::Close,
                        },
                    };
                    match reply {
                        Reply::Answer(response) => encode::<$request>(&response, call.version, correlation),
                        Reply::Nothing => Some(Answer::Nothing),
                        Reply::Close => Some(Answer::Close),
                    }
                })*
                _ => None,
            }
        }
    };
}

served! {
    ApiVersions 0..=4 ApiVersionsRequest => api_versions;
    // data: produce, fetch, offsets of logs, metadata
    Produce 3..=13 ProduceRequest => produce::produce;
    Fetch 4..=18 FetchRequest => fetch::fetch;
    ListOffsets 1..=10 ListOffsetsRequest => offsets::list_offsets;
    OffsetForLeaderEpoch 2..=4 OffsetForLeaderEpochRequest => offsets::offset_for_leader_epoch;
    DeleteRecords 0..=2 DeleteRecordsRequest => offsets::delete_records;
    DescribeProducers 0..=0 DescribeProducersRequest => state::describe_producers;
    DescribeLogDirs 1..=4 DescribeLogDirsRequest => state::describe_log_dirs;
    Metadata 0..=13 MetadataRequest => metadata::metadata;
    DescribeTopicPartitions 0..=0 DescribeTopicPartitionsRequest => metadata::describe_topic_partitions;

    // groups
    FindCoordinator 0..=6 FindCoordinatorRequest => groups::find_coordinator;
    JoinGroup 2..=9 JoinGroupRequest => groups::join_group;
    SyncGroup 0..=5 SyncGroupRequest => groups::sync_group;
    Heartbeat 0..=4 HeartbeatRequest => groups::heartbeat;
    LeaveGroup 0..=5 LeaveGroupRequest => groups::leave_group;
    OffsetCommit 2..=9 OffsetCommitRequest => groups::offset_commit;
    OffsetFetch 1..=9 OffsetFetchRequest => groups::offset_fetch;
    OffsetDelete 0..=0 OffsetDeleteRequest => groups::offset_delete;
    TxnOffsetCommit 0..=5 TxnOffsetCommitRequest => groups::txn_offset_commit;
    DescribeGroups 0..=6 DescribeGroupsRequest => groups::describe_groups;
    ListGroups 0..=5 ListGroupsRequest => groups::list_groups;
    DeleteGroups 0..=2 DeleteGroupsRequest => groups::delete_groups;
    ConsumerGroupHeartbeat 0..=1 ConsumerGroupHeartbeatRequest => groups::consumer_group_heartbeat;
    ConsumerGroupDescribe 0..=1 ConsumerGroupDescribeRequest => groups::consumer_group_describe;

    // transactions
    InitProducerId 0..=5 InitProducerIdRequest => transactions::init_producer_id;
    AddPartitionsToTxn 0..=3 AddPartitionsToTxnRequest => transactions::add_partitions_to_txn;
    AddOffsetsToTxn 0..=4 AddOffsetsToTxnRequest => transactions::add_offsets_to_txn;
    EndTxn 0..=5 EndTxnRequest => transactions::end_txn;
    DescribeTransactions 0..=0 DescribeTransactionsRequest => transactions::describe_transactions;
    ListTransactions 0..=2 ListTransactionsRequest => transactions::list_transactions;
    WriteTxnMarkers 1..=1 WriteTxnMarkersRequest => transactions::write_txn_markers;

    // administration
    CreateTopics 2..=7 CreateTopicsRequest => admin::topics::create;
    DeleteTopics 1..=6 DeleteTopicsRequest => admin::topics::delete;
    CreatePartitions 0..=3 CreatePartitionsRequest => admin::topics::create_partitions;
    DescribeConfigs 1..=4 DescribeConfigsRequest => admin::configs::describe;
    AlterConfigs 0..=2 AlterConfigsRequest => admin::configs::replace;
    IncrementalAlterConfigs 0..=1 IncrementalAlterConfigsRequest => admin::configs::alter;
    ListConfigResources 0..=1 ListConfigResourcesRequest => admin::configs::list;
    AlterPartitionReassignments 0..=1 AlterPartitionReassignmentsRequest => admin::replicas::reassign;
    ListPartitionReassignments 0..=0 ListPartitionReassignmentsRequest => admin::replicas::list_reassignments;
    ElectLeaders 0..=2 ElectLeadersRequest => admin::replicas::elect;
    AlterReplicaLogDirs 1..=2 AlterReplicaLogDirsRequest => admin::replicas::move_dirs;
    DescribeCluster 0..=2 DescribeClusterRequest => admin::cluster::describe;
    DescribeQuorum 0..=2 DescribeQuorumRequest => admin::cluster::quorum;
    UnregisterBroker 0..=0 UnregisterBrokerRequest => admin::cluster::unregister;
    UpdateFeatures 0..=2 UpdateFeaturesRequest => admin::features::update;

    // security
    SaslHandshake 0..=1 SaslHandshakeRequest => sasl::handshake;
    SaslAuthenticate 0..=2 SaslAuthenticateRequest => sasl::authenticate;
    DescribeAcls 1..=3 DescribeAclsRequest => acls::describe;
    CreateAcls 1..=3 CreateAclsRequest => acls::create;
    DeleteAcls 1..=3 DeleteAclsRequest => acls::delete;
    DescribeClientQuotas 0..=1 DescribeClientQuotasRequest => quotas::describe;
    AlterClientQuotas 0..=1 AlterClientQuotasRequest => quotas::alter;
    DescribeUserScramCredentials 0..=0 DescribeUserScramCredentialsRequest => scram::describe;
    AlterUserScramCredentials 0..=0 AlterUserScramCredentialsRequest => scram::alter;
}

/// Answers one frame.
pub async fn answer(broker: &Arc<Broker>, session: &Arc<Session>, frame: Bytes) -> Answer {
    answered(broker, session, frame).await.unwrap_or(Answer::Close)
}

async fn answered(broker: &Arc<Broker>, session: &Arc<Session>, mut frame: Bytes) -> Option<Answer> {
    let key = i16::from_be_bytes([*frame.first()?, *frame.get(1)?]);
    let version = i16::from_be_bytes([*frame.get(2)?, *frame.get(3)?]);
    let api = ApiKey::try_from(key).ok()?;
    let served = SERVED.iter().any(|(of, min, max)| *of == api && (*min..=*max).contains(&version));
    if !served && api == ApiKey::ApiVersions {
        // A client newer than the broker learns how to ask from an answer of version 0.
        let correlation = i32::from_be_bytes(frame.get(4..8)?.try_into().ok()?);
        return encode::<ApiVersionsRequest>(&too_new(), 0, correlation);
    }
    if !served {
        return None;
    }
    let header = RequestHeader::decode(&mut frame, api.request_header_version(version)).ok()?;
    if !layout::fits(key, version, &frame) {
        return None;
    }
    let call =
        Call { version, client_id: header.client_id.map(|id| id.to_string()).unwrap_or_default(), session: session.clone() };
    let request = Received { api, correlation: header.correlation_id, body: frame };
    match broker.settings.faults.strike(api) {
        None => serve(broker, &call, request, None).await,
        Some(Effect::Delay(time)) => {
            tokio::time::sleep(time).await;
            serve(broker, &call, request, None).await
        }
        Some(Effect::Error(code)) => serve(broker, &call, request, Some(code)).await,
        Some(Effect::DropBefore) => None,
        Some(Effect::DropAfter) => {
            serve(broker, &call, request, None).await;
            None
        }
    }
}

/// A request whose header is read.
struct Received {
    api: ApiKey,
    correlation: i32,
    body: Bytes,
}

fn decode<R: Request>(mut body: Bytes, version: i16) -> Option<R> {
    R::decode(&mut body, version).ok()
}

/// The frame of an answer; `None` when the answer has no form in this version, which would be our mistake.
fn encode<R: Request>(response: &R::Response, version: i16, correlation: i32) -> Option<Answer> {
    // Records are most of a large answer: room for them once.
    let mut frame = BytesMut::with_capacity(response.compute_size(version).unwrap_or(0).saturating_add(64));
    frame.extend_from_slice(&[0; 4]);
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header.encode(&mut frame, R::Response::header_version(version)).ok()?;
    response.encode(&mut frame, version).ok()?;
    let size = i32::try_from(frame.len() - 4).ok()?;
    frame.get_mut(..4)?.copy_from_slice(&size.to_be_bytes());
    Some(Answer::Send(frame))
}

fn versions() -> ApiVersionsResponse {
    let api = |(key, min, max): &(ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(*key as i16).with_min_version(*min).with_max_version(*max)
    };
    ApiVersionsResponse::default().with_api_keys(SERVED.iter().map(api).collect())
}

/// KIP-511: which versions of `ApiVersions` there are, and no other row: a client that got the whole table would not ask
/// again, and never learn the features, which version 0 has no room for.
fn too_new() -> ApiVersionsResponse {
    let mut answer = versions().with_error_code(ResponseError::UnsupportedVersion.code());
    answer.api_keys.retain(|row| row.api_key == ApiKey::ApiVersions as i16);
    answer
}

async fn api_versions(broker: &Arc<Broker>, call: &Call, request: ApiVersionsRequest) -> ApiVersionsResponse {
    let names = [request.client_software_name.as_str(), request.client_software_version.as_str()];
    if call.version >= 3 && !names.into_iter().all(is_software_name) {
        return ApiVersionsResponse::default().with_error_code(ResponseError::InvalidRequest.code());
    }
    broker.features.show(versions(), call.version)
}

/// KIP-511: letters and digits, `-` and `.` between them.
fn is_software_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let ends = |end: Option<u8>| end.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.bytes().all(inner) && ends(name.bytes().next()) && ends(name.bytes().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_client_is_told_how_to_ask_again_and_nothing_else() {
        let rows: Vec<_> = too_new().api_keys.iter().map(|row| (row.api_key, row.min_version, row.max_version)).collect();
        assert_eq!(rows, [(18, 0, 4)]);
    }
}
