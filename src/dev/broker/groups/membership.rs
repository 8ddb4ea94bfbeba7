//! The calls by which members come, stay and go in classic groups, and where clients find the coordinator.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;

use super::classic::{Caller, Classic};
use super::{Group, Groups, Inner, code, limits, text};
use crate::dev::broker::{Broker, Call, NODE};

/// FindCoordinator: always this node. Keys of share groups are refused, as these are not served.
pub async fn find_coordinator(broker: &Arc<Broker>, call: &Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    // 0 is a group, 1 a transaction.
    let known = matches!(request.key_type, 0 | 1);
    let error = if known { Ok(()) } else { Err(ResponseError::InvalidRequest) };
    let node = if known { NODE } else { -1 };
    let host = if known { text(&broker.address.ip().to_string()) } else { StrBytes::default() };
    let port = if known { i32::from(broker.address.port()) } else { -1 };
    if call.version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(code(error))
            .with_node_id(node.into())
            .with_host(host)
            .with_port(port);
    }
    let coordinator = |key: StrBytes| {
        Coordinator::default()
            .with_key(key)
            .with_error_code(code(error))
            .with_node_id(node.into())
            .with_host(host.clone())
            .with_port(port)
    };
    FindCoordinatorResponse::default().with_coordinators(request.coordinator_keys.into_iter().map(coordinator).collect())
}

/// JoinGroup: answered when the round is complete, or at once with what is wrong.
pub async fn join_group(broker: &Arc<Broker>, call: &Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let id = request.member_id.clone();
    let refused = |error: ResponseError| {
        JoinGroupResponse::default().with_generation_id(-1).with_member_id(id).with_error_code(error.code())
    };
    let mut answer = match broker.groups.join(broker, call, &request) {
        Ok(waiting) => waiting.await.unwrap_or_else(|_| refused(ResponseError::CoordinatorNotAvailable)),
        Err(error) => refused(error),
    };
    if call.version < 7 {
        answer.protocol_name.get_or_insert_default();
    }
    answer
}

/// SyncGroup: answered when the leader gave its assignment.
pub async fn sync_group(broker: &Arc<Broker>, _: &Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let refused = |error: ResponseError| SyncGroupResponse::default().with_error_code(error.code());
    match broker.groups.sync(broker, &request) {
        Ok(waiting) => waiting.await.unwrap_or_else(|_| refused(ResponseError::CoordinatorNotAvailable)),
        Err(error) => refused(error),
    }
}

/// Heartbeat of a classic member.
pub async fn heartbeat(broker: &Arc<Broker>, _: &Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let result = broker.groups.heartbeat(broker, &request);
    HeartbeatResponse::default().with_error_code(code(result))
}

/// LeaveGroup: one member before version 3, any number since.
pub async fn leave_group(broker: &Arc<Broker>, call: &Call, mut request: LeaveGroupRequest) -> LeaveGroupResponse {
    if request.group_id.is_empty() {
        return LeaveGroupResponse::default().with_error_code(ResponseError::InvalidGroupId.code());
    }
    if call.version < 3 {
        request.members = vec![MemberIdentity::default().with_member_id(request.member_id.clone())];
    }
    let results = broker.groups.leave(broker, &request);
    if call.version < 3 {
        let error = results.into_iter().next().map_or(0, code);
        return LeaveGroupResponse::default().with_error_code(error);
    }
    let member = |(member, result): (MemberIdentity, Result<(), ResponseError>)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code(result))
    };
    LeaveGroupResponse::default().with_members(request.members.into_iter().zip(results).map(member).collect())
}

impl Groups {
    fn join(
        &self,
        broker: &Broker,
        call: &Call,
        request: &JoinGroupRequest,
    ) -> Result<oneshot::Receiver<JoinGroupResponse>, ResponseError> {
        let limits = limits(broker);
        if request.group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        if !(limits.session.0..=limits.session.1).contains(&i64::from(request.session_timeout_ms)) {
            return Err(ResponseError::InvalidSessionTimeout);
        }
        let (sender, waiting) = oneshot::channel();
        let mut inner = self.lock();
        let ticket = inner.ticket();
        let caller = Caller {
            version: call.version,
            client_id: call.client_id.clone(),
            host: format!("/{}", call.session.peer.ip()),
            ticket,
            unique: uuid::Uuid::new_v4().to_string(),
        };
        let new = !matches!(inner.groups.get(&**request.group_id), Some(Group::Classic(_)));
        let group = inner.group_to_join(request)?;
        let mut outcome = group.join(request, &caller, &limits, broker.now());
        outcome.save |= new;
        inner.joins.insert(ticket, sender);
        self.settle(broker, &mut inner, &request.group_id, outcome);
        Ok(waiting)
    }

    fn sync(&self, broker: &Broker, request: &SyncGroupRequest) -> Result<oneshot::Receiver<SyncGroupResponse>, ResponseError> {
        if request.group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        let (sender, waiting) = oneshot::channel();
        let mut inner = self.lock();
        let ticket = inner.ticket();
        let outcome = inner.classic(&request.group_id)?.sync(request, ticket, broker.now());
        inner.syncs.insert(ticket, sender);
        self.settle(broker, &mut inner, &request.group_id, outcome);
        Ok(waiting)
    }

    fn heartbeat(&self, broker: &Broker, request: &HeartbeatRequest) -> Result<(), ResponseError> {
        if request.group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        let mut inner = self.lock();
        let group = inner.classic(&request.group_id)?;
        group.heartbeat(&request.member_id, request.group_instance_id.as_deref(), request.generation_id, broker.now())
    }

    fn leave(&self, broker: &Broker, request: &LeaveGroupRequest) -> Vec<Result<(), ResponseError>> {
        let limits = limits(broker);
        let mut inner = self.lock();
        let (results, outcome) = match inner.classic(&request.group_id) {
            Ok(group) => group.leave(&request.members, &limits, broker.now()),
            Err(error) => return request.members.iter().map(|_| Err(error)).collect(),
        };
        self.settle(broker, &mut inner, &request.group_id, outcome);
        results
    }
}

impl Inner {
    /// The group of a JoinGroup, made if the joiner is new to it; an empty group of the other protocol becomes a classic one.
    fn group_to_join(&mut self, request: &JoinGroupRequest) -> Result<&mut Classic, ResponseError> {
        let name = request.group_id.to_string();
        match self.groups.get(&name) {
            Some(Group::Classic(_)) => {}
            Some(Group::Consumer(group)) if !group.is_empty() => return Err(ResponseError::InconsistentGroupProtocol),
            Some(Group::Consumer(_)) | None => {
                if !request.member_id.is_empty() {
                    return Err(ResponseError::UnknownMemberId);
                }
                self.groups.insert(name.clone(), Group::Classic(Classic::new()));
            }
        }
        self.classic(&name)
    }

    /// A group whose members speak the classic protocol. To a member, any other group is one that it is not in.
    fn classic(&mut self, name: &str) -> Result<&mut Classic, ResponseError> {
        match self.groups.get_mut(name) {
            Some(Group::Classic(group)) => Ok(group),
            Some(Group::Consumer(_)) | None => Err(ResponseError::UnknownMemberId),
        }
    }
}
