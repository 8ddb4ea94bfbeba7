//! The heartbeat of the consumer protocol (KIP-848), by which members also join and leave.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::consumer::{self, Caller, Consumer, Refusal};
use super::{Group, Groups, Inner, SESSION, limits, text, topics};
use crate::dev::broker::{Broker, Call};

/// The group config that says how often members are to be heard of.
const HEARTBEAT: &str = "consumer.heartbeat.interval.ms";

/// ConsumerGroupHeartbeat.
pub async fn consumer_group_heartbeat(
    broker: &Arc<Broker>,
    call: &Call,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let answer = consumer::check(&request, call.version).and_then(|()| broker.groups.beat(broker, call, &request));
    answer.unwrap_or_else(|Refusal(error, words)| {
        ConsumerGroupHeartbeatResponse::default().with_error_code(error.code()).with_error_message(Some(text(&words)))
    })
}

impl Groups {
    fn beat(
        &self,
        broker: &Broker,
        call: &Call,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let limits = limits(broker);
        let caller = Caller {
            client_id: call.client_id.clone(),
            host: format!("/{}", call.session.peer.ip()),
            unique: uuid::Uuid::new_v4().to_string(),
            session: broker.configs.group_number(&request.group_id, SESSION),
            heartbeat: i32::try_from(broker.configs.group_number(&request.group_id, HEARTBEAT)).unwrap_or(i32::MAX),
            max_size: limits.consumer_max_size,
        };
        // The topics have a lock of their own, which is not held here.
        let topics = topics(broker);
        let name = request.group_id.to_string();
        let mut inner = self.lock();
        let mut made = inner.group_to_beat(&name, request.member_epoch)?;
        let group = match (&mut made, inner.groups.get_mut(&name)) {
            (Some(made), _) => made,
            (None, Some(Group::Consumer(group))) => group,
            (None, _) => return Err(not_found(&name, "not found")),
        };
        let (answer, changed) = group.heartbeat(request, &caller, &topics, broker.now())?;
        let next = group.deadline();
        if let Some(made) = made {
            inner.groups.insert(name.clone(), Group::Consumer(made));
        }
        let save = changed || inner.unwritten.contains(&name);
        if save && inner.save(&broker.journal, &name).is_err() {
            return Err(Refusal(ResponseError::CoordinatorNotAvailable, "The group could not be written.".to_owned()));
        }
        self.watch(next);
        Ok(answer)
    }
}

impl Inner {
    /// A new group if the heartbeat is of one who joins and there is none, or an empty one of the classic protocol; `None`
    /// if there is a group of the consumer protocol. A group of classic members stays what it is, as it does in Kafka with
    /// `group.consumer.migration.policy=disabled`.
    fn group_to_beat(&self, name: &str, epoch: i32) -> Result<Option<Consumer>, Refusal> {
        match self.groups.get(name) {
            Some(Group::Consumer(_)) => Ok(None),
            None if epoch == 0 => Ok(Some(Consumer::new())),
            Some(Group::Classic(group)) if epoch == 0 && group.is_empty() => Ok(Some(Consumer::new())),
            Some(Group::Classic(_)) => Err(not_found(name, "is not a consumer group")),
            None => Err(not_found(name, "not found")),
        }
    }
}

fn not_found(name: &str, words: &str) -> Refusal {
    Refusal(ResponseError::GroupIdNotFound, format!("Group {name} {words}."))
}
