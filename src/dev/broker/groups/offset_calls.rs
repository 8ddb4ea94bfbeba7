//! The calls that commit, fetch and delete offsets.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::classic::Classic;
use super::offsets::{Committed, Edit, Place};
use super::{Group, Groups, Inner, code, limits, text};
use crate::dev::broker::transactions::before_version_2;
use crate::dev::broker::transactions::machine::Producer;
use crate::dev::broker::{Broker, Call};

/// One offset that a request wants committed.
struct Wanted {
    place: Place,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<String>,
}

/// Who commits: the member it says to be, and its generation or epoch.
struct Member<'a> {
    id: &'a str,
    instance: Option<&'a str>,
    epoch: i32,
    version: i16,
}

type Results = Vec<Result<(), ResponseError>>;

/// OffsetCommit.
pub async fn offset_commit(broker: &Arc<Broker>, call: &Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let wanted = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| Wanted {
            place: (topic.name.to_string(), partition.partition_index),
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.as_ref().map(ToString::to_string),
        })
    });
    let member = Member {
        id: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        epoch: request.generation_id_or_member_epoch,
        version: call.version,
    };
    // Before version 5 a client may say how long its offsets are to be kept; -1 leaves it to the broker.
    let expires = (request.retention_time_ms >= 0).then(|| broker.now().saturating_add(request.retention_time_ms));
    let wanted: Vec<_> = wanted.collect();
    let mut results = broker.groups.commit(broker, &request.group_id, &member, wanted, expires).into_iter();
    let topic = |topic: kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic| {
        let partitions = topic.partitions.iter().zip(&mut results).map(|(partition, result)| {
            OffsetCommitResponsePartition::default().with_partition_index(partition.partition_index).with_error_code(code(result))
        });
        OffsetCommitResponseTopic::default().with_partitions(partitions.collect()).with_name(topic.name)
    };
    OffsetCommitResponse::default().with_topics(request.topics.into_iter().map(topic).collect())
}

/// TxnOffsetCommit: offsets that count when the transaction commits.
pub async fn txn_offset_commit(broker: &Arc<Broker>, call: &Call, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let wanted = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| Wanted {
            place: (topic.name.to_string(), partition.partition_index),
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.as_ref().map(ToString::to_string),
        })
    });
    let wanted: Vec<_> = wanted.collect();
    let count = wanted.len();
    let results = broker.groups.pend(broker, call, &request, wanted).unwrap_or_else(|error| vec![Err(error); count]);
    let mut results = results.into_iter();
    let topic = |topic: kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic| {
        let partitions = topic.partitions.iter().zip(&mut results).map(|(partition, result)| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code(result))
        });
        TxnOffsetCommitResponseTopic::default().with_partitions(partitions.collect()).with_name(topic.name)
    };
    TxnOffsetCommitResponse::default().with_topics(request.topics.into_iter().map(topic).collect())
}

/// OffsetFetch: of one group before version 8, of any number since.
pub async fn offset_fetch(broker: &Arc<Broker>, call: &Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let inner = broker.groups.lock();
    let stable = request.require_stable;
    if call.version >= 8 {
        let groups = request.groups.iter().map(|group| inner.fetch(group, stable));
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let topics = request.topics.map(|topics| {
        let topic = |topic: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
            OffsetFetchRequestTopics::default().with_name(topic.name).with_partition_indexes(topic.partition_indexes)
        };
        topics.into_iter().map(topic).collect()
    });
    let asked = OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(topics).with_member_epoch(-1);
    let fetched = inner.fetch(&asked, stable);
    let partition = |partition: OffsetFetchResponsePartitions| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    };
    let topic = |topic: OffsetFetchResponseTopics| {
        OffsetFetchResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(topic.partitions.into_iter().map(partition).collect())
    };
    OffsetFetchResponse::default()
        .with_error_code(fetched.error_code)
        .with_topics(fetched.topics.into_iter().map(topic).collect())
}

/// OffsetDelete (KIP-496): of topics that no member reads.
pub async fn offset_delete(broker: &Arc<Broker>, _: &Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let places = request
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.name.to_string(), partition.partition_index)));
    let places: Vec<Place> = places.collect();
    let results = match broker.groups.delete_offsets(broker, &request.group_id, &places) {
        Ok(results) => results,
        Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code()),
    };
    let mut results = results.into_iter();
    let topic = |topic: kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic| {
        let partitions = topic.partitions.iter().zip(&mut results).map(|(partition, result)| {
            OffsetDeleteResponsePartition::default().with_partition_index(partition.partition_index).with_error_code(code(result))
        });
        OffsetDeleteResponseTopic::default().with_partitions(partitions.collect()).with_name(topic.name)
    };
    OffsetDeleteResponse::default().with_topics(request.topics.into_iter().map(topic).collect())
}

impl Groups {
    fn commit(&self, broker: &Broker, group: &str, member: &Member, wanted: Vec<Wanted>, expires: Option<i64>) -> Results {
        let now = broker.now();
        let mut inner = self.lock();
        // Kafka looks at the topics first, and asks the coordinator about those that are there.
        let mut results = check(broker, &wanted);
        if results.iter().all(Result::is_err) && !results.is_empty() {
            return results;
        }
        if let Err(error) = inner.may_commit(group, member, now) {
            refuse_all(&mut results, error);
            return results;
        }
        let mut order = inner.offsets.next();
        let edits = edits(&wanted, &results, now, expires, &mut order);
        let edits = edits.map(|(place, to)| Edit::Commit { group: group.to_owned(), place, to }).collect();
        if inner.edit(&broker.journal, edits).is_err() {
            refuse_all(&mut results, ResponseError::CoordinatorNotAvailable);
        }
        results
    }

    /// The offsets wait for the end of the transaction, which cannot end meanwhile.
    fn pend(
        &self,
        broker: &Broker,
        call: &Call,
        request: &TxnOffsetCommitRequest,
        wanted: Vec<Wanted>,
    ) -> Result<Results, ResponseError> {
        if request.group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        // From version 5 on the group needs not be added to the transaction before (KIP-890).
        let add = call.version >= 5;
        let pend = || self.pend_now(broker, call, request, &wanted);
        let results = broker.transactions.with_group(broker, &request.transactional_id, producer, &request.group_id, add, pend);
        results.map_err(|error| if call.version < 4 { before_version_2(error) } else { error })
    }

    fn pend_now(
        &self,
        broker: &Broker,
        call: &Call,
        request: &TxnOffsetCommitRequest,
        wanted: &[Wanted],
    ) -> Result<Results, ResponseError> {
        let now = broker.now();
        let mut inner = self.lock();
        let mut results = check(broker, wanted);
        let member = Member {
            id: &request.member_id,
            instance: request.group_instance_id.as_deref(),
            epoch: request.generation_id,
            version: call.version,
        };
        inner.may_pend(&request.group_id, &member, now)?;
        let mut order = inner.offsets.next();
        let edits = edits(wanted, &results, now, None, &mut order);
        let producer = request.producer_id.0;
        let edits = edits.map(|(place, to)| Edit::Pend { producer, group: request.group_id.to_string(), place, to }).collect();
        if inner.edit(&broker.journal, edits).is_err() {
            refuse_all(&mut results, ResponseError::CoordinatorNotAvailable);
        }
        Ok(results)
    }

    fn delete_offsets(&self, broker: &Broker, group: &str, places: &[Place]) -> Result<Results, ResponseError> {
        let mut inner = self.lock();
        let of = inner.groups.get(group).ok_or(ResponseError::GroupIdNotFound)?;
        match of {
            Group::Classic(group) if !group.may_delete_offsets() => return Err(ResponseError::NonEmptyGroup),
            Group::Classic(_) | Group::Consumer(_) => {}
        }
        let result = |place: &Place| {
            if !exists(broker, place) {
                Err(ResponseError::UnknownTopicOrPartition)
            } else if of.subscribes(&place.0) {
                Err(ResponseError::GroupSubscribedToTopic)
            } else {
                Ok(())
            }
        };
        let results: Results = places.iter().map(result).collect();
        let going = places.iter().zip(&results).filter(|(_, result)| result.is_ok());
        let edits = going.flat_map(|(place, _)| inner.offsets.forget(group, place)).collect();
        inner.edit(&broker.journal, edits).map_err(|_| ResponseError::CoordinatorNotAvailable)?;
        Ok(results)
    }
}

impl Inner {
    /// Whether a member may commit. Who says to be nobody's member makes a group that only has offsets, if there is none.
    fn may_commit(&mut self, group: &str, member: &Member, now: i64) -> Result<(), ResponseError> {
        if !self.groups.contains_key(group) {
            if member.epoch >= 0 {
                return Err(if member.version >= 9 { ResponseError::GroupIdNotFound } else { ResponseError::IllegalGeneration });
            }
            self.groups.insert(group.to_owned(), Group::Classic(Classic::new()));
        }
        match self.groups.get_mut(group) {
            Some(Group::Classic(group)) => group.may_commit(member.id, member.instance, member.epoch, false, now),
            Some(Group::Consumer(group)) => group.may_commit(member.id, member.epoch, false, member.version),
            None => Err(ResponseError::GroupIdNotFound),
        }
    }

    fn may_pend(&mut self, group: &str, member: &Member, now: i64) -> Result<(), ResponseError> {
        if !self.groups.contains_key(group) {
            if member.epoch >= 0 {
                return Err(ResponseError::IllegalGeneration);
            }
            self.groups.insert(group.to_owned(), Group::Classic(Classic::new()));
        }
        match self.groups.get_mut(group) {
            Some(Group::Classic(group)) => group.may_commit(member.id, member.instance, member.epoch, true, now),
            Some(Group::Consumer(group)) => group.may_commit(member.id, member.epoch, true, member.version),
            None => Err(ResponseError::IllegalGeneration),
        }
    }

    fn may_fetch(&self, asked: &OffsetFetchRequestGroup) -> Result<(), ResponseError> {
        match self.groups.get(&**asked.group_id) {
            Some(Group::Consumer(group)) => group.may_fetch(asked.member_id.as_deref(), asked.member_epoch),
            Some(Group::Classic(_)) | None => Ok(()),
        }
    }

    fn fetch(&self, asked: &OffsetFetchRequestGroup, stable: bool) -> OffsetFetchResponseGroup {
        let name = asked.group_id.clone();
        if let Err(error) = self.may_fetch(asked) {
            return OffsetFetchResponseGroup::default().with_group_id(name).with_error_code(error.code());
        }
        let topics = match &asked.topics {
            Some(topics) => topics.iter().map(|topic| (topic.name.clone(), topic.partition_indexes.clone())).collect(),
            None => self.topics_of(&name),
        };
        let topic = |(topic, partitions): (TopicName, Vec<i32>)| {
            let partitions = partitions.into_iter().map(|index| self.fetch_one(&name, (topic.to_string(), index), stable));
            OffsetFetchResponseTopics::default().with_partitions(partitions.collect()).with_name(topic)
        };
        let topics = topics.into_iter().map(topic).collect();
        OffsetFetchResponseGroup::default().with_group_id(name.clone()).with_topics(topics)
    }

    /// All that the group has offsets of.
    fn topics_of(&self, group: &str) -> Vec<(TopicName, Vec<i32>)> {
        let mut topics: Vec<(TopicName, Vec<i32>)> = Vec::new();
        for ((topic, partition), _) in self.offsets.of(group) {
            match topics.last_mut() {
                Some((last, partitions)) if ***last == **topic => partitions.push(*partition),
                _ => topics.push((TopicName(text(topic)), vec![*partition])),
            }
        }
        topics
    }

    fn fetch_one(&self, group: &str, place: Place, stable: bool) -> OffsetFetchResponsePartitions {
        let unknown = OffsetFetchResponsePartitions::default()
            .with_partition_index(place.1)
            .with_committed_offset(-1)
            .with_committed_leader_epoch(-1)
            .with_metadata(Some(text("")));
        if stable && self.offsets.is_pending(group, &place) {
            return unknown.with_error_code(ResponseError::UnstableOffsetCommit.code());
        }
        match self.offsets.get(group, &place) {
            Some(committed) => unknown
                .with_committed_offset(committed.offset)
                .with_committed_leader_epoch(committed.leader_epoch)
                .with_metadata(Some(text(&committed.metadata))),
            None => unknown,
        }
    }
}

/// Partitions must be there, and metadata short enough.
fn check(broker: &Broker, wanted: &[Wanted]) -> Results {
    let longest = limits(broker).offset_metadata_max;
    let long = |metadata: &String| metadata.encode_utf16().count() > longest;
    let check = |wanted: &Wanted| {
        if !exists(broker, &wanted.place) {
            Err(ResponseError::UnknownTopicOrPartition)
        } else if wanted.metadata.as_ref().is_some_and(long) {
            Err(ResponseError::OffsetMetadataTooLarge)
        } else {
            Ok(())
        }
    };
    wanted.iter().map(check).collect()
}

fn exists(broker: &Broker, (topic, partition): &Place) -> bool {
    broker.topics.partition(topic, *partition).is_some()
}

/// Where nothing else was wrong, this is.
fn refuse_all(results: &mut Results, error: ResponseError) {
    results
        .iter_mut()
        .filter(|result| **result != Err(ResponseError::UnknownTopicOrPartition))
        .for_each(|result| *result = Err(error));
}

/// The offsets of those `wanted` that nothing is wrong with.
fn edits<'a>(
    wanted: &'a [Wanted],
    results: &'a Results,
    now: i64,
    expires: Option<i64>,
    order: &'a mut u64,
) -> impl Iterator<Item = (Place, Committed)> + 'a {
    wanted.iter().zip(results).filter(|(_, result)| result.is_ok()).map(move |(wanted, _)| {
        let to = Committed {
            offset: wanted.offset,
            leader_epoch: wanted.leader_epoch,
            metadata: wanted.metadata.clone().unwrap_or_default(),
            at: now,
            expires,
            order: *order,
        };
        *order = order.saturating_add(1);
        (wanted.place.clone(), to)
    })
}
