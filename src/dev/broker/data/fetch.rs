//! `Fetch`: records of several partitions, waited for until there are enough of them.
//!
//! There are no fetch sessions (KIP-227): a client that asks for one gets session 0, which is what Kafka answers when its
//! cache of sessions is full, and sends all its partitions again the next time. On loopback that costs nothing that is felt,
//! and a client that never comes back leaves nothing behind.
//!
//! The bytes of all answers that are not yet written share [`Answers`]. When that is used up, an answer carries its first
//! batch only, and waits for it, so that clients that do not read cannot take the memory of those who do.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, ProducerId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::{check_leader_epoch, code};
use crate::dev::broker::partition::{Ends, Isolation, Partition, Read};
use crate::dev::broker::topics::Topic;
use crate::dev::broker::{Broker, Call};

/// The most that an answer carries whatever the broker's `fetch.max.bytes` says, unless its first batch is larger.
const LARGEST: i64 = 64 * 1024 * 1024;
/// The first version that names topics by id.
const BY_ID: i16 = 13;

/// What the answers that are not yet written may take together, in KiB.
#[derive(Debug, Clone)]
pub struct Answers(Arc<Semaphore>);

impl Default for Answers {
    fn default() -> Answers {
        Answers(Arc::new(Semaphore::new(Answers::TOTAL as usize)))
    }
}

impl Answers {
    const TOTAL: u32 = 256 * 1024;

    fn weight(bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(1024)).unwrap_or(Answers::TOTAL).min(Answers::TOTAL)
    }

    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_many_owned(Answers::weight(bytes)).ok()
    }

    async fn wait(&self, bytes: usize, until: Instant) -> Option<OwnedSemaphorePermit> {
        timeout_at(until, self.0.clone().acquire_many_owned(Answers::weight(bytes))).await.ok()?.ok()
    }
}

/// A fetch and the partitions that it is about.
struct Fetch {
    isolation: Isolation,
    min_bytes: usize,
    max_bytes: usize,
    version: i16,
    topics: Vec<FetchTopic>,
}

/// What one look at all partitions gave, partition by partition as they were asked for.
struct Found {
    parts: Vec<Result<Read, ResponseError>>,
    bytes: usize,
}

/// `Fetch`.
pub async fn fetch(broker: &Arc<Broker>, call: &Call, request: FetchRequest) -> FetchResponse {
    // Epoch 0 asks for a session, -1 for none; any other goes on with one, and there are none.
    if request.session_epoch > 0 {
        return FetchResponse::default().with_error_code(ResponseError::FetchSessionIdNotFound.code());
    }
    let most = broker.configs.number("fetch.max.bytes").min(LARGEST);
    let max_bytes = usize::try_from(most.min(i64::from(request.max_bytes))).unwrap_or(0);
    let fetch = Fetch {
        isolation: if request.isolation_level == 1 { Isolation::Committed } else { Isolation::Uncommitted },
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        max_bytes,
        version: call.version,
        topics: request.topics,
    };
    let until = Instant::now() + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let found = fetch.enough(broker, until).await;
    let (found, share) = fetch.afford(broker, found, until).await;
    call.session.hold(share);
    fetch.answer(found)
}

impl Fetch {
    /// Looks, and waits until there is enough, something is wrong, or the time is over.
    async fn enough(&self, broker: &Arc<Broker>, until: Instant) -> Found {
        loop {
            let found = self.look(broker, self.max_bytes);
            let done = found.bytes >= self.min_bytes || found.parts.iter().any(Result::is_err);
            if done || found.parts.is_empty() || Instant::now() >= until {
                return found;
            }
            let bell = Arc::new(Notify::new());
            let mut partitions = self.listen(broker, &bell);
            // The records are read again when there are enough: who waits holds none.
            let Found { parts, bytes } = found;
            let read: Vec<Ends> = parts.into_iter().filter_map(|part| part.ok().map(|read| read.ends)).collect();
            if !self.wait(broker, &bell, &mut partitions, &read, bytes, until).await {
                // The last look is the first one's, or what came in the last moment.
                return self.look(broker, self.max_bytes);
            }
        }
    }

    /// Asks all partitions to ring the bell.
    fn listen(&self, broker: &Broker, bell: &Arc<Notify>) -> Vec<(Arc<Partition>, Ends)> {
        let all = self.asked(broker).filter_map(|(topic, asked)| topic?.partition(asked.partition));
        all.map(|partition| (partition.clone(), partition.listen(bell))).collect()
    }

    /// Waits until another look is worth it; false when the time is over or the broker leaves. `read` is what the partitions
    /// were like when `bytes` bytes were found in them.
    async fn wait(
        &self,
        broker: &Broker,
        bell: &Arc<Notify>,
        partitions: &mut [(Arc<Partition>, Ends)],
        read: &[Ends],
        bytes: usize,
        until: Instant,
    ) -> bool {
        if partitions.len() != read.len() {
            // A topic came or went in between.
            return true;
        }
        loop {
            let (mut come, mut other) = (bytes as u64, false);
            for ((_, now), then) in partitions.iter().zip(read) {
                come = come.saturating_add(now.appended.saturating_sub(then.appended));
                // What a transaction's end makes visible was appended long before.
                other |= now.closed || now.start != then.start;
                other |= self.isolation == Isolation::Committed && now.last_stable != then.last_stable;
            }
            let moved = partitions.iter().zip(read).any(|((_, now), then)| now != then);
            if moved && (other || come >= self.min_bytes as u64) {
                return true;
            }
            tokio::select! {
                rung = timeout_at(until, bell.notified()) => if rung.is_err() { return false },
                () = broker.left() => return false,
            }
            for (partition, then) in partitions.iter_mut() {
                // A bell is rung once; what changed must be asked again.
                if partition.ends() != *then {
                    *then = partition.listen(bell);
                }
            }
        }
    }

    /// Reads what is there, in the order that was asked for; the first batch that is found is taken whatever its size.
    fn look(&self, broker: &Broker, max_bytes: usize) -> Found {
        let mut found = Found { parts: Vec::new(), bytes: 0 };
        for (topic, asked) in self.asked(broker) {
            let room = max_bytes.saturating_sub(found.bytes);
            let part = self.read(topic.as_deref(), asked, room, found.bytes == 0);
            found.bytes = found.bytes.saturating_add(part.as_ref().map_or(0, |read| read.records.len()));
            found.parts.push(part);
        }
        found
    }

    fn read(&self, topic: Option<&Topic>, asked: &FetchPartition, room: usize, first: bool) -> Result<Read, ResponseError> {
        let unknown = if self.version >= BY_ID { ResponseError::UnknownTopicId } else { ResponseError::UnknownTopicOrPartition };
        let topic = topic.ok_or(unknown)?;
        let partition = topic.partition(asked.partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
        check_leader_epoch(asked.current_leader_epoch)?;
        let room = room.min(usize::try_from(asked.partition_max_bytes).unwrap_or(0));
        partition.read(asked.fetch_offset, self.isolation, room, first)
    }

    /// What was asked for, with the topics as they are now.
    fn asked<'a>(&'a self, broker: &'a Broker) -> impl Iterator<Item = (Option<Arc<Topic>>, &'a FetchPartition)> {
        self.topics.iter().flat_map(move |asked| {
            let topic = if self.version >= BY_ID { broker.topics.by_id(asked.topic_id) } else { broker.topics.get(&asked.topic) };
            asked.partitions.iter().map(move |part| (topic.clone(), part))
        })
    }

    /// Sees to it that the answer has its share of what answers may take.
    async fn afford(&self, broker: &Arc<Broker>, found: Found, until: Instant) -> (Found, Option<OwnedSemaphorePermit>) {
        if found.bytes == 0 {
            return (found, None);
        }
        if let Some(share) = broker.answers.take(found.bytes) {
            return (found, Some(share));
        }
        drop(found);
        let mut first = self.look(broker, 0);
        let mut share = broker.answers.take(first.bytes);
        if share.is_none() {
            let bytes = first.bytes;
            first.empty();
            // Who waits for room holds nothing.
            share = tokio::select! {
                share = broker.answers.wait(bytes, until) => share,
                () = broker.left() => None,
            };
            if share.is_some() {
                first = self.look(broker, 0);
            }
        }
        (first, share)
    }

    fn answer(&self, found: Found) -> FetchResponse {
        let mut parts = found.parts.into_iter();
        let topics = self.topics.iter().map(|asked| {
            // As many parts as were asked for; each look goes over all of them.
            let partitions = asked.partitions.iter().zip(parts.by_ref());
            FetchableTopicResponse::default()
                .with_topic(asked.topic.clone())
                .with_topic_id(asked.topic_id)
                .with_partitions(partitions.map(|(asked, part)| self.part(asked.partition, part)).collect())
        });
        FetchResponse::default().with_responses(topics.collect())
    }

    fn part(&self, index: i32, part: Result<Read, ResponseError>) -> PartitionData {
        let answer = PartitionData::default().with_partition_index(index).with_error_code(code(&part));
        let Read { records, ends, aborted } = match part {
            Ok(read) => read,
            Err(error) => {
                // Kafka makes the difference, whatever it is for.
                let unknown = matches!(error, ResponseError::UnknownTopicOrPartition | ResponseError::UnknownTopicId);
                return answer.with_high_watermark(-1).with_aborted_transactions(unknown.then(Vec::new));
            }
        };
        let aborted = aborted.iter().map(|aborted| {
            AbortedTransaction::default().with_producer_id(ProducerId(aborted.producer_id)).with_first_offset(aborted.first)
        });
        answer
            .with_high_watermark(ends.end)
            .with_last_stable_offset(ends.last_stable)
            .with_log_start_offset(ends.start)
            .with_aborted_transactions((self.isolation == Isolation::Committed).then(|| aborted.collect()))
            .with_records(Some(records))
    }
}

impl Found {
    /// Leaves everything but the records.
    fn empty(&mut self) {
        for read in self.parts.iter_mut().flatten() {
            read.records.clear();
            read.aborted.clear();
        }
        self.bytes = 0;
    }
}
