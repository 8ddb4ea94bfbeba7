//! What administrators ask of groups: their list, their description, their end.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, GroupId, ListGroupsRequest, ListGroupsResponse, TopicName,
    consumer_group_describe_response as consumers,
};

use super::assignors::{Partitions, TopicId};
use super::consumer::{Consumer, Member, by_topic};
use super::{Group, Groups, code, text, topics};
use crate::dev::broker::{Broker, Call};

/// What one may do with a group, as bits by Kafka's operation codes: read, delete, describe, describe and alter configs.
const OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// ListGroups, filtered by state (version 4) and type (version 5) without regard to case.
pub async fn list_groups(broker: &Arc<Broker>, _: &Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let fits = |filter: &[_], value: &str| filter.is_empty() || filter.iter().any(|one: &String| one.eq_ignore_ascii_case(value));
    let words =
        |filter: Vec<kafka_protocol::protocol::StrBytes>| filter.iter().map(|one| one.trim().to_owned()).collect::<Vec<_>>();
    let (states, types) = (words(request.states_filter), words(request.types_filter));
    let inner = broker.groups.lock();
    let listed = inner.groups.iter().filter(|(_, group)| fits(&states, group.state()) && fits(&types, group.kind()));
    let listed = listed.map(|(name, group)| {
        ListedGroup::default()
            .with_group_id(GroupId(text(name)))
            .with_protocol_type(text(group.protocol_type()))
            .with_group_state(text(group.state()))
            .with_group_type(text(group.kind()))
    });
    ListGroupsResponse::default().with_groups(listed.collect())
}

/// DescribeGroups: classic groups. Any other is dead to this call, and not found since version 6.
pub async fn describe_groups(broker: &Arc<Broker>, call: &Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let operations = if request.include_authorized_operations { OPERATIONS } else { i32::MIN };
    let inner = broker.groups.lock();
    let describe = |name: GroupId| {
        let group = match inner.groups.get(&**name) {
            Some(Group::Classic(group)) => group.describe().with_authorized_operations(operations),
            _ if call.version < 6 => DescribedGroup::default().with_group_state(text("Dead")),
            other => {
                let words = if other.is_some() { "is not a classic group" } else { "not found" };
                DescribedGroup::default()
                    .with_group_state(text("Dead"))
                    .with_error_code(ResponseError::GroupIdNotFound.code())
                    .with_error_message(Some(text(&format!("Group {} {words}.", &**name))))
            }
        };
        group.with_group_id(name)
    };
    DescribeGroupsResponse::default().with_groups(request.groups.into_iter().map(describe).collect())
}

/// ConsumerGroupDescribe: groups of the consumer protocol (KIP-848), others are not found.
pub async fn consumer_group_describe(
    broker: &Arc<Broker>,
    _: &Call,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let operations = if request.include_authorized_operations { OPERATIONS } else { i32::MIN };
    let names: BTreeMap<TopicId, String> = topics(broker).into_iter().map(|(name, (id, _))| (id, name)).collect();
    let inner = broker.groups.lock();
    let describe = |name: GroupId| {
        let group = match inner.groups.get(&**name) {
            Some(Group::Consumer(group)) => describe_consumer(group, &names).with_authorized_operations(operations),
            other => {
                let words = if other.is_some() { "is not a consumer group" } else { "not found" };
                consumers::DescribedGroup::default()
                    .with_error_code(ResponseError::GroupIdNotFound.code())
                    .with_error_message(Some(text(&format!("Group {} {words}.", &**name))))
            }
        };
        group.with_group_id(name)
    };
    ConsumerGroupDescribeResponse::default().with_groups(request.group_ids.into_iter().map(describe).collect())
}

fn describe_consumer(group: &Consumer, names: &BTreeMap<TopicId, String>) -> consumers::DescribedGroup {
    let assignment = |partitions: Option<&Partitions>| {
        let topics = partitions.map(by_topic).unwrap_or_default().into_iter().filter_map(|(topic, partitions)| {
            let name = TopicName(text(names.get(&topic)?));
            Some(consumers::TopicPartitions::default().with_topic_id(topic.0).with_topic_name(name).with_partitions(partitions))
        });
        consumers::Assignment::default().with_topic_partitions(topics.collect())
    };
    let member = |(id, member, target): (&String, &Member, Option<&Partitions>)| {
        consumers::Member::default()
            .with_member_id(text(id))
            .with_instance_id(member.instance.as_deref().map(text))
            .with_rack_id(member.rack.as_deref().map(text))
            .with_member_epoch(member.epoch)
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.host))
            .with_subscribed_topic_names(member.names.iter().map(|name| TopicName(text(name))).collect())
            .with_subscribed_topic_regex(member.pattern.as_deref().map(text))
            .with_assignment(assignment(Some(&member.assigned)))
            .with_target_assignment(assignment(target))
            // 1 says that it speaks the consumer protocol.
            .with_member_type(1)
    };
    let (epoch, target_epoch) = group.epochs();
    consumers::DescribedGroup::default()
        .with_group_state(text(group.state()))
        .with_group_epoch(epoch)
        .with_assignment_epoch(target_epoch)
        .with_assignor_name(text(group.assignor()))
        .with_members(group.members().map(member).collect())
}

/// DeleteGroups: empty ones, with their offsets.
pub async fn delete_groups(broker: &Arc<Broker>, _: &Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let delete = |name: GroupId| {
        let result = broker.groups.delete(broker, &name);
        DeletableGroupResult::default().with_group_id(name).with_error_code(code(result))
    };
    DeleteGroupsResponse::default().with_results(request.groups_names.into_iter().map(delete).collect())
}

impl Groups {
    fn delete(&self, broker: &Broker, name: &str) -> Result<(), ResponseError> {
        let mut inner = self.lock();
        let group = inner.groups.get(name).ok_or(ResponseError::GroupIdNotFound)?;
        if !group.is_empty() {
            return Err(ResponseError::NonEmptyGroup);
        }
        inner.remove(&broker.journal, name).map_err(|_| ResponseError::CoordinatorNotAvailable)
    }
}

impl Group {
    fn state(&self) -> &'static str {
        match self {
            Group::Classic(group) => group.state().name(),
            Group::Consumer(group) => group.state(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Group::Classic(_) => "classic",
            Group::Consumer(_) => "consumer",
        }
    }

    fn protocol_type(&self) -> &str {
        match self {
            Group::Classic(group) => group.protocol_type(),
            Group::Consumer(_) => "consumer",
        }
    }
}
