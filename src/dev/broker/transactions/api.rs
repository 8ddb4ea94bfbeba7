//! The coordinator's requests: what Kafka answers to them, by version.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, ListTransactionsRequest, ListTransactionsResponse, TopicName, TransactionalId,
    WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use kafka_protocol::messages::{describe_transactions_response as described, list_transactions_response as listed};
use kafka_protocol::protocol::StrBytes;
use regex::RegexBuilder;

use super::super::journal::Change;
use super::super::{Broker, Call};
use super::machine::{NO_EPOCH, NO_ID, Part, Producer, State, Transaction};
use super::{COORDINATOR_EPOCH, World};

/// The partitions of `__consumer_offsets` in Kafka: a group that takes part in a transaction is shown as one of them.
const OFFSETS_PARTITIONS: i32 = 50;
/// What a compiled pattern of ListTransactions may take, in bytes.
const PATTERN: usize = 256 * 1024;

impl World for Broker {
    fn now(&self) -> i64 {
        self.now()
    }

    fn write(&self, changes: &[Change]) -> io::Result<()> {
        self.journal.write(changes)
    }

    fn end_partition(&self, topic: &str, index: i32, producer: Producer, commit: bool) -> Result<(), ResponseError> {
        match mark(self, topic, index, producer, COORDINATOR_EPOCH, commit) {
            // The topic was deleted, and the transaction's records with it.
            Err(ResponseError::UnknownTopicOrPartition) => Ok(()),
            // Somebody ended the transaction there by hand (kafka-transactions abort), as a later producer or coordinator:
            // no marker of ours will be taken any more, and none is needed.
            Err(ResponseError::InvalidProducerEpoch | ResponseError::TransactionCoordinatorFenced) => Ok(()),
            other => other,
        }
    }

    fn end_groups(&self, groups: &[String], producer: Producer, commit: bool) -> io::Result<()> {
        self.groups.end_transaction(self, producer.id, producer.epoch, groups, commit)
    }
}

fn mark(
    broker: &Broker,
    topic: &str,
    index: i32,
    producer: Producer,
    coordinator_epoch: i32,
    commit: bool,
) -> Result<(), ResponseError> {
    let partition = broker.topics.partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    partition.end_transaction(producer.id, producer.epoch, coordinator_epoch, commit, broker.now())
}

/// How often is looked for transactions that take too long, in ms.
pub(super) fn sweep_interval_ms(broker: &Broker) -> u64 {
    let interval = broker.configs.number("transaction.abort.timed.out.transaction.cleanup.interval.ms");
    u64::try_from(interval).unwrap_or(0).max(1)
}

/// How long a transactional id is remembered that is not used, in ms.
pub(super) fn expiration_ms(broker: &Broker) -> i64 {
    broker.configs.number("transactional.id.expiration.ms")
}

/// What a fenced producer was told before there was `PRODUCER_FENCED` (KIP-588): InitProducerId before version 4, the others
/// before version 2.
fn fenced(error: ResponseError, known: bool) -> ResponseError {
    if error == ResponseError::ProducerFenced && !known { ResponseError::InvalidProducerEpoch } else { error }
}

fn code(result: Result<(), ResponseError>) -> i16 {
    result.err().map_or(0, |error| error.code())
}

/// InitProducerId 0 to 5: an id and epoch for an idempotent producer, or for a transactional one, whose predecessor is fenced.
pub async fn init_producer_id(broker: &Arc<Broker>, call: &Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    match initialized(broker, &request) {
        Ok(producer) => {
            InitProducerIdResponse::default().with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch)
        }
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(fenced(error, call.version >= 4).code())
            .with_producer_id(NO_ID.into())
            .with_producer_epoch(NO_EPOCH),
    }
}

fn initialized(broker: &Broker, request: &InitProducerIdRequest) -> Result<Producer, ResponseError> {
    let expected = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    if (expected.id == NO_ID) != (expected.epoch == NO_EPOCH) {
        return Err(ResponseError::InvalidRequest);
    }
    let Some(id) = &request.transactional_id else {
        // An id is given whatever the producer had before, as Kafka does.
        return Ok(Producer { id: broker.transactions.fresh_producer_id(broker)?, epoch: 0 });
    };
    if id.is_empty() {
        return Err(ResponseError::InvalidRequest);
    }
    let timeout = request.transaction_timeout_ms;
    if timeout <= 0 || i64::from(timeout) > broker.configs.number("transaction.max.timeout.ms") {
        return Err(ResponseError::InvalidTransactionTimeout);
    }
    broker.transactions.init(broker, id, (expected.id != NO_ID).then_some(expected), timeout)
}

/// AddPartitionsToTxn 0 to 3, which clients use; later versions are for brokers among themselves. All partitions or none.
pub async fn add_partitions_to_txn(
    broker: &Arc<Broker>,
    call: &Call,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let topics = &request.v3_and_below_topics;
    let unknown: BTreeSet<(&str, i32)> =
        parts(topics).filter(|(topic, index)| broker.topics.partition(topic, *index).is_none()).collect();
    let refusal = if unknown.is_empty() {
        let producer = Producer { id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
        let parts: Vec<_> = parts(topics).map(|(topic, index)| Part::Partition(topic, index)).collect();
        let added = transactional(&request.v3_and_below_transactional_id)
            .and_then(|id| broker.transactions.add(&**broker, id, producer, &parts));
        code(added.map_err(|error| fenced(error, call.version >= 2)))
    } else {
        ResponseError::OperationNotAttempted.code()
    };
    let result = |topic: &AddPartitionsToTxnTopic, index: i32| {
        let known = !unknown.contains(&(topic.name.as_str(), index));
        let code = if known { refusal } else { ResponseError::UnknownTopicOrPartition.code() };
        AddPartitionsToTxnPartitionResult::default().with_partition_index(index).with_partition_error_code(code)
    };
    let results = topics.iter().map(|topic| {
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(topic.partitions.iter().map(|index| result(topic, *index)).collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
}

fn parts(topics: &[AddPartitionsToTxnTopic]) -> impl Iterator<Item = (&str, i32)> {
    topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (topic.name.as_str(), *index)))
}

fn transactional(id: &TransactionalId) -> Result<&str, ResponseError> {
    if id.is_empty() { Err(ResponseError::InvalidRequest) } else { Ok(id.as_str()) }
}

/// AddOffsetsToTxn 0 to 4: the offsets of a group are to be committed with the transaction.
pub async fn add_offsets_to_txn(broker: &Arc<Broker>, call: &Call, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let added = transactional(&request.transactional_id)
        .and_then(|id| broker.transactions.add(&**broker, id, producer, &[Part::Group(&request.group_id)]));
    AddOffsetsToTxnResponse::default().with_error_code(code(added.map_err(|error| fenced(error, call.version >= 2))))
}

/// EndTxn 0 to 5; from version 5 the answer says what the producer is called from now on (KIP-890).
pub async fn end_txn(broker: &Arc<Broker>, call: &Call, request: EndTxnRequest) -> EndTxnResponse {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let ended = transactional(&request.transactional_id)
        .and_then(|id| broker.transactions.end(&**broker, id, producer, request.committed, call.version >= 5));
    let (code, next) = match ended {
        Ok(next) if call.version >= 5 => (0, next),
        Ok(_) => (0, Producer { id: NO_ID, epoch: NO_EPOCH }),
        Err(error) => (fenced(error, call.version >= 2).code(), Producer { id: NO_ID, epoch: NO_EPOCH }),
    };
    EndTxnResponse::default().with_error_code(code).with_producer_id(next.id.into()).with_producer_epoch(next.epoch)
}

/// WriteTxnMarkers 1: the markers that coordinators send to partitions. Admin clients send one to end a transaction that hangs
/// in a partition because its coordinator does not know of it (KIP-664); the coordinator is not asked.
pub async fn write_txn_markers(broker: &Arc<Broker>, _: &Call, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let marked = |marker: WritableTxnMarker| {
        let producer = Producer { id: marker.producer_id.0, epoch: marker.producer_epoch };
        let partition = |topic: &str, index: i32| {
            let marked = mark(broker, topic, index, producer, marker.coordinator_epoch, marker.transaction_result);
            WritableTxnMarkerPartitionResult::default().with_partition_index(index).with_error_code(code(marked))
        };
        let topics = marker.topics.iter().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| partition(&topic.name, *index));
            WritableTxnMarkerTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics.collect())
    };
    WriteTxnMarkersResponse::default().with_markers(request.markers.into_iter().map(marked).collect())
}

/// DescribeTransactions 0 (KIP-664).
pub async fn describe_transactions(
    broker: &Arc<Broker>,
    _: &Call,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let states = request.transactional_ids.into_iter().map(|id| {
        let found = transactional(&id).and_then(|id| broker.transactions.get(id).ok_or(ResponseError::TransactionalIdNotFound));
        match found {
            Ok(transaction) => shown(&transaction).with_transactional_id(id),
            Err(error) => described::TransactionState::default().with_error_code(error.code()).with_transactional_id(id),
        }
    });
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}

fn shown(transaction: &Transaction) -> described::TransactionState {
    let topic = |name: &str, partitions: Vec<i32>| {
        let name = TopicName(StrBytes::from_string(name.to_owned()));
        described::TopicData::default().with_topic(name).with_partitions(partitions)
    };
    let mut topics: Vec<_> =
        transaction.partitions.iter().map(|(name, indexes)| topic(name, indexes.iter().copied().collect())).collect();
    let groups: BTreeSet<_> = transaction.groups.iter().map(|group| offsets_partition(group)).collect();
    if !groups.is_empty() {
        topics.push(topic("__consumer_offsets", groups.into_iter().collect()));
    }
    described::TransactionState::default()
        .with_producer_id(transaction.producer_id.into())
        .with_producer_epoch(transaction.epoch)
        .with_transaction_state(StrBytes::from_static_str(transaction.state.name()))
        .with_transaction_timeout_ms(transaction.timeout_ms)
        .with_transaction_start_time_ms(transaction.started)
        .with_topics(topics)
}

/// Which partition of `__consumer_offsets` a group has in Kafka: by Java's hash of a string, its sign cut off.
fn offsets_partition(group: &str) -> i32 {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX).checked_rem(OFFSETS_PARTITIONS).unwrap_or(0)
}

/// ListTransactions 0 to 2: by state, producer id, how long they take (version 1), pattern of the id (version 2, KIP-1152).
pub async fn list_transactions(broker: &Arc<Broker>, _: &Call, request: ListTransactionsRequest) -> ListTransactionsResponse {
    list(broker.transactions.list(), &request, broker.now())
}

fn list(all: Vec<(String, Transaction)>, request: &ListTransactionsRequest, now: i64) -> ListTransactionsResponse {
    let pattern = request.transactional_id_pattern.as_ref().filter(|pattern| !pattern.is_empty());
    let pattern = pattern.map(|it| RegexBuilder::new(&format!("^(?:{})$", it.as_str())).size_limit(PATTERN).build()).transpose();
    let Ok(pattern) = pattern else {
        return ListTransactionsResponse::default().with_error_code(ResponseError::InvalidRegularExpression.code());
    };
    let states = &request.state_filters;
    let ids = &request.producer_id_filters;
    let taking = |it: &Transaction| now.saturating_sub(it.started);
    let found = all.into_iter().filter(|(id, it)| {
        (states.is_empty() || states.iter().any(|state| state.as_str() == it.state.name()))
            && (ids.is_empty() || ids.iter().any(|id| id.0 == it.producer_id))
            && (request.duration_filter < 0 || taking(it) > request.duration_filter)
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
    });
    let found = found.map(|(id, it)| {
        listed::TransactionState::default()
            .with_transactional_id(TransactionalId(StrBytes::from_string(id)))
            .with_producer_id(it.producer_id.into())
            .with_transaction_state(StrBytes::from_static_str(it.state.name()))
    });
    ListTransactionsResponse::default()
        .with_transaction_states(found.collect())
        .with_unknown_state_filters(states.iter().filter(|state| !is_state(state)).cloned().collect())
}

fn is_state(name: &str) -> bool {
    let shown =
        [State::Empty, State::Ongoing, State::PrepareCommit, State::PrepareAbort, State::CompleteCommit, State::CompleteAbort];
    // Kafka has two more, in which no transactional id is ever seen.
    shown.iter().any(|state| state.name() == name) || name == "Dead" || name == "PrepareEpochFence"
}
