//! `Produce`: batches of a producer, one a partition, each appended or refused by itself.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;

use crate::dev::broker::batch::Header;
use crate::dev::broker::compression::Compression;
use crate::dev::broker::dispatch::Reply;
use crate::dev::broker::partition::{Appended, Partition, Refused, Terms};
use crate::dev::broker::topics::Topic;
use crate::dev::broker::transactions::before_version_2;
use crate::dev::broker::{Broker, Call};

/// The first version in which a partition joins a transaction by the first batch (KIP-890).
const IMPLICIT: i16 = 12;
/// The first version whose clients know `TRANSACTION_ABORTABLE` (KIP-890).
const ABORTABLE: i16 = 11;
/// The first version that may bring zstd (KIP-110).
const ZSTD: i16 = 7;

/// `Produce`. With acks 0 there is no answer; what went wrong is said by closing the connection.
pub async fn produce(broker: &Arc<Broker>, call: &Call, request: ProduceRequest) -> Reply<ProduceResponse> {
    let acks = request.acks;
    let id = request.transactional_id.as_ref().map(|id| id.as_str());
    let refusal = refusal(acks, id, &request.topic_data);
    let topics = request.topic_data.iter().map(|data| {
        let topic = if call.version >= 13 { broker.topics.by_id(data.topic_id) } else { broker.topics.get(&data.name) };
        let partitions = data.partition_data.iter().map(|part| {
            let done = match (refusal, &topic) {
                (Some(error), _) => Err(error.into()),
                (None, None) if call.version >= 13 => Err(ResponseError::UnknownTopicId.into()),
                (None, None) => Err(ResponseError::UnknownTopicOrPartition.into()),
                (None, Some(topic)) => append(broker, call.version, id, topic, part),
            };
            answered(part.index, done)
        });
        TopicProduceResponse::default()
            .with_name(data.name.clone())
            .with_topic_id(data.topic_id)
            .with_partition_responses(partitions.collect())
    });
    let responses: Vec<TopicProduceResponse> = topics.collect();
    if acks == 0 {
        let failed = responses.iter().flat_map(|topic| &topic.partition_responses).any(|part| part.error_code != 0);
        return if failed { Reply::Close } else { Reply::Nothing };
    }
    Reply::Answer(ProduceResponse::default().with_responses(responses))
}

/// Why nothing of the request can be done.
fn refusal(acks: i16, transactional_id: Option<&str>, topics: &[TopicProduceData]) -> Option<ResponseError> {
    if !(-1..=1).contains(&acks) {
        return Some(ResponseError::InvalidRequiredAcks);
    }
    let batches = topics.iter().flat_map(|topic| &topic.partition_data).filter_map(|part| part.records.as_ref());
    let headers = batches.filter_map(|records| Header::parse(records).ok());
    let mut producers = headers.filter(Header::is_transactional).map(|header| (header.producer_id, header.producer_epoch));
    let first = producers.next()?;
    if transactional_id.is_none() {
        return Some(ResponseError::TransactionalIdAuthorizationFailed);
    }
    producers.any(|other| other != first).then_some(ResponseError::InvalidProducerIdMapping)
}

fn append(
    broker: &Broker,
    version: i16,
    transactional_id: Option<&str>,
    topic: &Topic,
    part: &PartitionProduceData,
) -> Result<Appended, Refused> {
    let partition = topic.partition(part.index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let records = part.records.clone().unwrap_or_default();
    let header = Header::parse(&records);
    if version < ZSTD && header.is_ok_and(|header| header.compression() == Ok(Compression::Zstd)) {
        return Err(ResponseError::UnsupportedCompressionType.into());
    }
    let mut terms = Terms { verified: None, strict: version >= IMPLICIT };
    if let (Ok(header), Some(id)) = (header, transactional_id)
        && header.is_transactional()
        && !partition.is_open(header.producer_id, header.producer_epoch)
    {
        terms.verified = Some(agreed(broker, version, id, &header, &partition)?);
    }
    partition.append(broker, &records, terms)
}

/// Asks the transaction's coordinator before a transaction's first batch. What [`Partition::endings`] said before that.
fn agreed(broker: &Broker, version: i16, id: &str, batch: &Header, partition: &Partition) -> Result<u64, ResponseError> {
    let endings = partition.endings(batch.producer_id);
    let (topic, index) = (&*partition.place.topic, partition.place.index);
    let (producer_id, epoch) = (batch.producer_id, batch.producer_epoch);
    let agreed = if version >= IMPLICIT {
        broker.transactions.add_partition(broker, id, producer_id, epoch, topic, index)
    } else {
        broker.transactions.verify(id, producer_id, epoch, topic, index)
    };
    match agreed {
        Ok(()) => Ok(endings),
        // Older clients repeat the batch only for an error that they know to pass.
        Err(ResponseError::ConcurrentTransactions) if version < IMPLICIT => Err(ResponseError::NotEnoughReplicas),
        Err(ResponseError::CoordinatorNotAvailable) => Err(ResponseError::NotEnoughReplicas),
        Err(error) if version < ABORTABLE => Err(before_version_2(error)),
        Err(error) => Err(error),
    }
}

fn answered(index: i32, done: Result<Appended, Refused>) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(index);
    match done {
        Ok(Appended { base_offset, append_time, start }) => {
            answer.with_base_offset(base_offset).with_log_append_time_ms(append_time).with_log_start_offset(start)
        }
        Err(Refused { error, message, start, records }) => {
            let fault = |(index, message)| {
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(index)
                    .with_batch_index_error_message(Some(StrBytes::from_string(message)))
            };
            answer
                .with_error_code(error.code())
                .with_base_offset(-1)
                .with_log_start_offset(start)
                .with_record_errors(records.into_iter().map(fault).collect())
                .with_error_message(message.map(StrBytes::from_string))
        }
    }
}
