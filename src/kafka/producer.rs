//! Writing in transactions, and knowing how they ended.
//!
//! librdkafka repeats a request whose answer it did not see, and a late copy of such a request may end the *next*
//! transaction. So an `Ok` is not yet success: when an answer got lost on the way, or it took long, the outcome is in
//! doubt, and the caller gives the producer up, makes a new one under the same id (whose [`Transactional::init`] fences
//! what may still be in flight) and looks up what has been committed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use super::native::Header;

use super::admin::At;
use super::client::{Client, Role};
use super::consumer;
use super::error::{KafkaError, code};
use super::native::{Fault, Writer};
use crate::model::environment::Kafka;

/// An answer that takes longer is not trusted to be the only one under way.
const SLOW: Duration = Duration::from_secs(2);
/// How long taking over a transactional id may take; what its former owner left open is ended first.
const TAKE_OVER: Duration = Duration::from_secs(30);
/// How long records may take to be written; as long as the library tries.
const DELIVERY: Duration = Duration::from_secs(45);

/// How a call of a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// For certain.
    Done,
    /// It may have happened, may happen yet, or not at all: make a new producer and look it up.
    InDoubt(String),
    /// Another producer has taken over the transactional id.
    Fenced(String),
    /// For certain it did not happen, nor will it. The transaction can be aborted, or the producer given up.
    Failed(String),
}

/// A producer with transactions. Its calls block, for a thread of its own.
pub struct Transactional {
    writer: Writer,
    client: Client,
    /// Answers that were lost up to the end of the last transaction.
    lost: u64,
    /// Where partitions ended that nothing has been written to yet.
    asked: Mutex<BTreeMap<(String, i32), i64>>,
}

impl Transactional {
    /// A producer; call [`Transactional::init`] first.
    pub fn new(kafka: &Kafka, root: &Path, transactional_id: &str) -> Result<Transactional, KafkaError> {
        let client = Client::new(kafka, root, Role::Writer(transactional_id))?;
        Ok(Transactional { writer: Writer::new(&client.native), client, lost: 0, asked: Mutex::default() })
    }

    /// Takes over the transactional id: fences whoever had it and ends the transaction that was left open.
    pub fn init(&mut self) -> Outcome {
        let result = self.writer.init(TAKE_OVER);
        self.lost = self.client.native.lost();
        match result {
            Ok(()) => Outcome::Done,
            Err(fault) => self.failed("take over the transactional id", fault),
        }
    }

    /// Begins a transaction; nothing is sent yet.
    pub fn begin(&mut self) -> Outcome {
        match self.writer.begin() {
            Ok(()) => Outcome::Done,
            Err(fault) => self.failed("begin a transaction", fault),
        }
    }

    /// Adds a record to the transaction. Without a partition, the key's hash chooses one (as Java's producers do);
    /// without a time stamp it is now. The bytes are copied. It blocks while 32 MiB wait to be written, for 45 s at most.
    /// That a record could not be written is told by [`Transactional::commit`]; an error here may be
    /// that another producer has taken over, see [`KafkaError::is_fenced`].
    pub fn send(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: Option<i64>,
        headers: &[Header<'_>],
    ) -> Result<(), KafkaError> {
        let sent = self.writer.send(topic, partition, key, value, timestamp, headers);
        sent.map_err(|fault| self.client.error(&format!("write to {topic}"), &self.cause(fault)))
    }

    /// Adds the offsets that a group reads next to the transaction: topic, partition, offset.
    pub fn send_offsets(&mut self, group: &str, offsets: &[(String, i32, i64)]) -> Outcome {
        if offsets.is_empty() {
            return Outcome::Done;
        }
        let started = Instant::now();
        let result = self.writer.send_offsets(group, offsets, TAKE_OVER);
        self.outcome("add offsets to the transaction", result, started)
    }

    /// Ends the transaction: all of it becomes visible, or nothing.
    pub fn commit(&mut self) -> Outcome {
        const OPERATION: &str = "commit the transaction";
        // Writing out what waits may take its time; only the commit's own answer must come soon.
        if let Err(fault) = self.writer.flush(DELIVERY) {
            return self.failed(OPERATION, fault);
        }
        let started = Instant::now();
        let result = self.writer.commit();
        self.outcome(OPERATION, result, started)
    }

    /// Ends the transaction: nothing of it becomes visible.
    pub fn abort(&mut self) -> Outcome {
        let started = Instant::now();
        let result = self.writer.abort();
        self.outcome("abort the transaction", result, started)
    }

    /// The offset after the last record that this producer has written to a partition; before its first one, where the
    /// partition ends, which is asked for once. `None` when the cluster can't tell.
    pub fn end(&self, topic: &str, partition: i32) -> Option<i64> {
        if let Some(end) = self.writer.end(topic, partition) {
            return Some(end);
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (topic.to_owned(), partition);
        if !asked.contains_key(&key) {
            let ends = consumer::offsets(&self.client, &[(topic, partition)], At::End).ok()?;
            asked.insert(key.clone(), ends.first().copied()?);
        }
        asked.get(&key).copied()
    }

    fn outcome(&mut self, operation: &str, result: Result<(), Fault>, started: Instant) -> Outcome {
        let (took, lost) = (started.elapsed(), self.client.native.lost());
        let unanswered = lost - std::mem::replace(&mut self.lost, lost);
        judge(result.map_err(|fault| self.cause(fault)), took, unanswered, |fault| {
            self.client.error(operation, fault).to_string()
        })
        .unwrap_or_else(|reason| {
            let endpoint = self.client.local_error(operation, reason);
            Outcome::InDoubt(endpoint.to_string())
        })
    }

    /// The outcome of a call that failed before anything could be in doubt.
    fn failed(&self, operation: &str, fault: Fault) -> Outcome {
        let fault = self.cause(fault);
        let text = self.client.error(operation, &fault).to_string();
        if is_fenced(&fault) { Outcome::Fenced(text) } else { Outcome::Failed(text) }
    }

    /// What is behind a fault: a producer of no use any more says only in its first fatal error why, such as being fenced.
    fn cause(&self, fault: Fault) -> Fault {
        let fatal = fault.fatal || fault.code == code::FATAL;
        if fatal { self.client.native.fatal().unwrap_or(fault) } else { fault }
    }
}

fn is_fenced(fault: &Fault) -> bool {
    matches!(fault.code, code::FENCED | code::PRODUCER_FENCED | code::INVALID_PRODUCER_EPOCH)
}

/// How a call ended that asked the coordinator; an error says why it is in doubt.
fn judge(
    result: Result<(), Fault>,
    took: Duration,
    unanswered: u64,
    words: impl Fn(&Fault) -> String,
) -> Result<Outcome, String> {
    match result {
        Err(fault) if is_fenced(&fault) => Ok(Outcome::Fenced(words(&fault))),
        Err(fault) if unanswered == 0 && (fault.abort || fault.fatal || fault.code > 0) => Ok(Outcome::Failed(words(&fault))),
        Err(fault) => Ok(Outcome::InDoubt(words(&fault))),
        Ok(()) if unanswered > 0 => Err(format!("{unanswered} requests of the transaction were left without an answer")),
        Ok(()) if took > SLOW => Err(format!("the answer took {} ms", took.as_millis())),
        Ok(()) => Ok(Outcome::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: i32, abort: bool) -> Fault {
        Fault { code, text: "text".into(), fatal: false, abort }
    }

    fn judged(result: Result<(), Fault>, took: Duration, unanswered: u64) -> Result<Outcome, String> {
        judge(result, took, unanswered, |fault| format!("{} {}", fault.code, fault.text))
    }

    #[test]
    fn only_a_prompt_answer_with_nothing_lost_is_certain() {
        let soon = Duration::from_millis(3);
        assert_eq!(judged(Ok(()), soon, 0), Ok(Outcome::Done));
        assert_eq!(judged(Ok(()), soon, 1), Err("1 requests of the transaction were left without an answer".into()));
        assert_eq!(judged(Ok(()), Duration::from_millis(2500), 0), Err("the answer took 2500 ms".into()));
    }

    #[test]
    fn a_refusal_is_certain_and_a_silence_is_not() {
        let soon = Duration::from_millis(3);
        assert_eq!(judged(Err(fault(code::TRANSPORT, true)), soon, 0), Ok(Outcome::Failed("-195 text".into())));
        assert_eq!(judged(Err(fault(code::TIMED_OUT, false)), soon, 0), Ok(Outcome::InDoubt("-185 text".into())));
        assert_eq!(judged(Err(fault(3, false)), soon, 0), Ok(Outcome::Failed("3 text".into())));
        assert_eq!(judged(Err(fault(3, false)), soon, 2), Ok(Outcome::InDoubt("3 text".into())));
        assert_eq!(judged(Err(fault(code::FENCED, false)), soon, 2), Ok(Outcome::Fenced("-144 text".into())));
    }
}
