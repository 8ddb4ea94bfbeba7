//! Answers that say nothing but an error: to faults on request, and to what the client may not do.
//!
//! Some APIs have one code for all; most have a code for each thing that the request names.

use std::any::Any;

use kafka_protocol::messages::*;

/// An answer whose type is known to who asked.
type Boxed = Box<dyn Any + Send>;

/// Lists the APIs whose answers can be made up, and makes them.
macro_rules! refusals {
    (whole: $($api:ident $request:ident $response:ident),* ; each: $($each:ident $asked:ident => $answer:expr),* $(,)?) => {
        /// The APIs whose answers can be made up.
        pub(super) const REFUSABLE: &[ApiKey] = &[$(ApiKey::$api,)* $(ApiKey::$each),*];

        /// The answer to `request` that says nothing but `code`; `None` for other APIs.
        pub(super) fn refused(request: &dyn Any, code: i16) -> Option<Boxed> {
            $(if request.is::<$request>() {
                return Some(Box::new($response::default().with_error_code(code)));
            })*
            $(if let Some(request) = request.downcast_ref::<$asked>() {
                let answer: fn(&$asked, i16) -> Boxed = $answer;
                return Some(answer(request, code));
            })*
            None
        }
    };
}

refusals! {
    whole:
        AddOffsetsToTxn AddOffsetsToTxnRequest AddOffsetsToTxnResponse,
        AlterPartitionReassignments AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse,
        ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse,
        DescribeAcls DescribeAclsRequest DescribeAclsResponse,
        DescribeClientQuotas DescribeClientQuotasRequest DescribeClientQuotasResponse,
        DescribeCluster DescribeClusterRequest DescribeClusterResponse,
        DescribeLogDirs DescribeLogDirsRequest DescribeLogDirsResponse,
        DescribeQuorum DescribeQuorumRequest DescribeQuorumResponse,
        DescribeUserScramCredentials DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse,
        ElectLeaders ElectLeadersRequest ElectLeadersResponse,
        EndTxn EndTxnRequest EndTxnResponse,
        Heartbeat HeartbeatRequest HeartbeatResponse,
        InitProducerId InitProducerIdRequest InitProducerIdResponse,
        JoinGroup JoinGroupRequest JoinGroupResponse,
        LeaveGroup LeaveGroupRequest LeaveGroupResponse,
        ListGroups ListGroupsRequest ListGroupsResponse,
        ListConfigResources ListConfigResourcesRequest ListConfigResourcesResponse,
        ListPartitionReassignments ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse,
        OffsetDelete OffsetDeleteRequest OffsetDeleteResponse,
        SyncGroup SyncGroupRequest SyncGroupResponse,
        UnregisterBroker UnregisterBrokerRequest UnregisterBrokerResponse,
        UpdateFeatures UpdateFeaturesRequest UpdateFeaturesResponse;
    each:
        AddPartitionsToTxn AddPartitionsToTxnRequest => add_partitions_to_txn,
        AlterClientQuotas AlterClientQuotasRequest => alter_client_quotas,
        AlterConfigs AlterConfigsRequest => alter_configs,
        AlterReplicaLogDirs AlterReplicaLogDirsRequest => alter_replica_log_dirs,
        AlterUserScramCredentials AlterUserScramCredentialsRequest => alter_user_scram_credentials,
        CreateAcls CreateAclsRequest => create_acls,
        CreatePartitions CreatePartitionsRequest => create_partitions,
        CreateTopics CreateTopicsRequest => create_topics,
        DeleteAcls DeleteAclsRequest => delete_acls,
        DeleteGroups DeleteGroupsRequest => delete_groups,
        DeleteRecords DeleteRecordsRequest => delete_records,
        DeleteTopics DeleteTopicsRequest => delete_topics,
        DescribeConfigs DescribeConfigsRequest => describe_configs,
        DescribeGroups DescribeGroupsRequest => describe_groups,
        DescribeProducers DescribeProducersRequest => describe_producers,
        DescribeTransactions DescribeTransactionsRequest => describe_transactions,
        Fetch FetchRequest => fetch,
        FindCoordinator FindCoordinatorRequest => find_coordinator,
        IncrementalAlterConfigs IncrementalAlterConfigsRequest => incremental_alter_configs,
        ListOffsets ListOffsetsRequest => list_offsets,
        Metadata MetadataRequest => metadata,
        OffsetCommit OffsetCommitRequest => offset_commit,
        OffsetFetch OffsetFetchRequest => offset_fetch,
        OffsetForLeaderEpoch OffsetForLeaderEpochRequest => offset_for_leader_epoch,
        Produce ProduceRequest => produce,
        TxnOffsetCommit TxnOffsetCommitRequest => txn_offset_commit,
}

fn alter_replica_log_dirs(request: &AlterReplicaLogDirsRequest, code: i16) -> Boxed {
    use alter_replica_log_dirs_response::{AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult};
    let partition = |index: i32| AlterReplicaLogDirPartitionResult::default().with_partition_index(index).with_error_code(code);
    let topic = |topic: &alter_replica_log_dirs_request::AlterReplicaLogDirTopic| {
        let partitions = topic.partitions.iter().map(|index| partition(*index)).collect();
        AlterReplicaLogDirTopicResult::default().with_topic_name(topic.name.clone()).with_partitions(partitions)
    };
    let topics = request.dirs.iter().flat_map(|dir| &dir.topics).map(topic).collect();
    Box::new(AlterReplicaLogDirsResponse::default().with_results(topics))
}

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

fn fetch(request: &FetchRequest, code: i16) -> Boxed {
    use fetch_response::{FetchableTopicResponse, PartitionData};
    let partition = |index: i32| {
        let data = PartitionData::default().with_partition_index(index).with_error_code(code);
        data.with_high_watermark(-1).with_records(Some(bytes::Bytes::new()))
    };
    let topic = |topic: &fetch_request::FetchTopic| {
        let partitions = topic.partitions.iter().map(|of| partition(of.partition)).collect();
        let answer = FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_topic_id(topic.topic_id);
        answer.with_partitions(partitions)
    };
    Box::new(FetchResponse::default().with_responses(request.topics.iter().map(topic).collect()))
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

fn metadata(request: &MetadataRequest, code: i16) -> Boxed {
    use metadata_response::MetadataResponseTopic;
    let topic = |topic: &metadata_request::MetadataRequestTopic| {
        MetadataResponseTopic::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id).with_error_code(code)
    };
    let topics = request.topics.iter().flatten().map(topic).collect();
    Box::new(MetadataResponse::default().with_topics(topics))
}

fn offset_for_leader_epoch(request: &OffsetForLeaderEpochRequest, code: i16) -> Boxed {
    use offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
    let partition = |index: i32| EpochEndOffset::default().with_partition(index).with_error_code(code);
    let topic = |topic: &offset_for_leader_epoch_request::OffsetForLeaderTopic| {
        let partitions = topic.partitions.iter().map(|of| partition(of.partition)).collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions)
    };
    Box::new(OffsetForLeaderEpochResponse::default().with_topics(request.topics.iter().map(topic).collect()))
}

fn delete_records(request: &DeleteRecordsRequest, code: i16) -> Boxed {
    use delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
    let partition = |index: i32| {
        DeleteRecordsPartitionResult::default().with_partition_index(index).with_low_watermark(-1).with_error_code(code)
    };
    let topic = |topic: &delete_records_request::DeleteRecordsTopic| {
        let partitions = topic.partitions.iter().map(|of| partition(of.partition_index)).collect();
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions)
    };
    Box::new(DeleteRecordsResponse::default().with_topics(request.topics.iter().map(topic).collect()))
}

fn describe_producers(request: &DescribeProducersRequest, code: i16) -> Boxed {
    use describe_producers_response::{PartitionResponse, TopicResponse};
    let partition = |index: &i32| PartitionResponse::default().with_partition_index(*index).with_error_code(code);
    let topic = |topic: &describe_producers_request::TopicRequest| {
        let partitions = topic.partition_indexes.iter().map(partition).collect();
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    };
    Box::new(DescribeProducersResponse::default().with_topics(request.topics.iter().map(topic).collect()))
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

fn offset_fetch(request: &OffsetFetchRequest, code: i16) -> Boxed {
    use offset_fetch_response::OffsetFetchResponseGroup;
    let group = |of: &offset_fetch_request::OffsetFetchRequestGroup| {
        OffsetFetchResponseGroup::default().with_group_id(of.group_id.clone()).with_error_code(code)
    };
    let groups = request.groups.iter().map(group).collect();
    Box::new(OffsetFetchResponse::default().with_error_code(code).with_groups(groups))
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

fn find_coordinator(request: &FindCoordinatorRequest, code: i16) -> Boxed {
    use find_coordinator_response::Coordinator;
    let coordinator = |key: &kafka_protocol::protocol::StrBytes| {
        Coordinator::default().with_key(key.clone()).with_node_id((-1).into()).with_port(-1).with_error_code(code)
    };
    let coordinators = request.coordinator_keys.iter().map(coordinator).collect();
    let answer = FindCoordinatorResponse::default().with_error_code(code).with_node_id((-1).into()).with_port(-1);
    Box::new(answer.with_coordinators(coordinators))
}

fn describe_groups(request: &DescribeGroupsRequest, code: i16) -> Boxed {
    use describe_groups_response::DescribedGroup;
    let group = |id: &GroupId| DescribedGroup::default().with_group_id(id.clone()).with_error_code(code);
    Box::new(DescribeGroupsResponse::default().with_groups(request.groups.iter().map(group).collect()))
}

fn delete_groups(request: &DeleteGroupsRequest, code: i16) -> Boxed {
    use delete_groups_response::DeletableGroupResult;
    let group = |id: &GroupId| DeletableGroupResult::default().with_group_id(id.clone()).with_error_code(code);
    Box::new(DeleteGroupsResponse::default().with_results(request.groups_names.iter().map(group).collect()))
}

fn describe_transactions(request: &DescribeTransactionsRequest, code: i16) -> Boxed {
    use describe_transactions_response::TransactionState;
    let state = |id: &TransactionalId| TransactionState::default().with_transactional_id(id.clone()).with_error_code(code);
    let states = request.transactional_ids.iter().map(state).collect();
    Box::new(DescribeTransactionsResponse::default().with_transaction_states(states))
}

fn add_partitions_to_txn(request: &AddPartitionsToTxnRequest, code: i16) -> Boxed {
    use add_partitions_to_txn_response::{AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult};
    let partition =
        |index: &i32| AddPartitionsToTxnPartitionResult::default().with_partition_index(*index).with_partition_error_code(code);
    let topic = |topic: &add_partitions_to_txn_request::AddPartitionsToTxnTopic| {
        let partitions = topic.partitions.iter().map(partition).collect();
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

fn describe_configs(request: &DescribeConfigsRequest, code: i16) -> Boxed {
    use describe_configs_response::DescribeConfigsResult;
    let resource = |of: &describe_configs_request::DescribeConfigsResource| {
        let answer = DescribeConfigsResult::default().with_resource_type(of.resource_type);
        answer.with_resource_name(of.resource_name.clone()).with_error_code(code)
    };
    Box::new(DescribeConfigsResponse::default().with_results(request.resources.iter().map(resource).collect()))
}

fn alter_configs(request: &AlterConfigsRequest, code: i16) -> Boxed {
    use alter_configs_response::AlterConfigsResourceResponse;
    let resource = |of: &alter_configs_request::AlterConfigsResource| {
        let answer = AlterConfigsResourceResponse::default().with_resource_type(of.resource_type);
        answer.with_resource_name(of.resource_name.clone()).with_error_code(code)
    };
    Box::new(AlterConfigsResponse::default().with_responses(request.resources.iter().map(resource).collect()))
}

fn incremental_alter_configs(request: &IncrementalAlterConfigsRequest, code: i16) -> Boxed {
    use incremental_alter_configs_response::AlterConfigsResourceResponse;
    let resource = |of: &incremental_alter_configs_request::AlterConfigsResource| {
        let answer = AlterConfigsResourceResponse::default().with_resource_type(of.resource_type);
        answer.with_resource_name(of.resource_name.clone()).with_error_code(code)
    };
    Box::new(IncrementalAlterConfigsResponse::default().with_responses(request.resources.iter().map(resource).collect()))
}

fn alter_client_quotas(request: &AlterClientQuotasRequest, code: i16) -> Boxed {
    use alter_client_quotas_response::{EntityData, EntryData};
    let part = |of: &alter_client_quotas_request::EntityData| {
        EntityData::default().with_entity_type(of.entity_type.clone()).with_entity_name(of.entity_name.clone())
    };
    let entry = |of: &alter_client_quotas_request::EntryData| {
        EntryData::default().with_error_code(code).with_entity(of.entity.iter().map(part).collect())
    };
    Box::new(AlterClientQuotasResponse::default().with_entries(request.entries.iter().map(entry).collect()))
}

fn alter_user_scram_credentials(request: &AlterUserScramCredentialsRequest, code: i16) -> Boxed {
    use alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
    let deleted = request.deletions.iter().map(|of| &of.name);
    let users = deleted.chain(request.upsertions.iter().map(|of| &of.name));
    let result = |user: &kafka_protocol::protocol::StrBytes| {
        AlterUserScramCredentialsResult::default().with_user(user.clone()).with_error_code(code)
    };
    Box::new(AlterUserScramCredentialsResponse::default().with_results(users.map(result).collect()))
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
