//! Reading records: partitions of any topics that fill one queue, which is emptied in batches.

use std::ffi::CStr;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use super::{Client, Fault, Partitions, Queue, c_string, millis, raw, sys};
use crate::kafka::error::code;

/// The partitions that are read, and the queue they fill.
pub(in crate::kafka) struct Fetch {
    topics: Vec<Topic>,
    started: Vec<(usize, i32)>,
    queue: Queue,
    client: Arc<Client>,
}

struct Topic {
    name: String,
    rkt: *mut sys::rd_kafka_topic_t,
}

// SAFETY: the library's topics may be used by any thread, as its documentation says.
unsafe impl Send for Topic {}
// SAFETY: the same.
unsafe impl Sync for Topic {}

impl Fetch {
    /// Records of a topic are known by its place in `topics`, the first one if it is named twice.
    pub(in crate::kafka) fn new(client: &Arc<Client>, topics: &[String]) -> Result<Fetch, Fault> {
        let mut fetch = Fetch { topics: Vec::new(), started: Vec::new(), queue: Queue::new(client), client: client.clone() };
        for name in topics {
            let native = c_string(name)?;
            // SAFETY: the client and the name are alive; the name is copied.
            let rkt = unsafe { sys::rd_kafka_topic_new(client.rk(), native.as_ptr(), std::ptr::null_mut()) };
            if rkt.is_null() {
                return Err(last_error());
            }
            fetch.topics.push(Topic { name: name.clone(), rkt });
        }
        Ok(fetch)
    }

    fn name(&self, topic: usize) -> Option<&str> {
        self.topics.get(topic).map(|topic| topic.name.as_str())
    }

    /// Starts to read a partition at an offset.
    pub(in crate::kafka) fn start(&mut self, topic: usize, partition: i32, offset: i64) -> Result<(), Fault> {
        let rkt = self.topics.get(topic).ok_or_else(unknown_topic)?.rkt;
        // SAFETY: topic and queue are alive.
        if unsafe { sys::rd_kafka_consume_start_queue(rkt, partition, offset, self.queue.as_ptr()) } != 0 {
            return Err(last_error());
        }
        self.started.push((topic, partition));
        Ok(())
    }

    /// Moves a partition that is read to another offset; what waits in the queue is forgotten.
    pub(in crate::kafka) fn seek(&self, topic: usize, partition: i32, offset: i64, timeout: Duration) -> Result<(), Fault> {
        let name = self.name(topic).ok_or_else(unknown_topic)?;
        let list = Partitions::new([(name, partition, offset)])?;
        // SAFETY: client and list are alive; an error is freed.
        unsafe { Fault::take(sys::rd_kafka_seek_partitions(self.client.rk(), list.0, millis(timeout))) }?;
        // SAFETY: the list is alive.
        unsafe { Partitions::read(list.0) }.into_iter().try_for_each(|(_, _, offset)| offset.map(|_| ()))
    }

    /// Stops the flow of a partition, or lets it flow again from where it was.
    pub(in crate::kafka) fn pause(&self, topic: usize, partition: i32, pause: bool) -> Result<(), Fault> {
        let name = self.name(topic).ok_or_else(unknown_topic)?;
        let list = Partitions::new([(name, partition, -1001)])?;
        // SAFETY: client and list are alive.
        let code = unsafe {
            if pause {
                sys::rd_kafka_pause_partitions(self.client.rk(), list.0)
            } else {
                sys::rd_kafka_resume_partitions(self.client.rk(), list.0)
            }
        };
        if code as i32 == 0 {
            // SAFETY: the list is alive.
            return unsafe { Partitions::read(list.0) }.into_iter().try_for_each(|(_, _, offset)| offset.map(|_| ()));
        }
        Err(Fault::of(code as i32))
    }

    /// Returns when there may be something to poll.
    pub(in crate::kafka) async fn ready(&self) {
        self.queue.wake.notified().await;
    }

    /// What has come: waits for the first record until `timeout`, and takes at most `max` that are there.
    pub(in crate::kafka) fn poll(&mut self, timeout: Duration, max: usize) -> Result<Polled, Fault> {
        let mut raw: Vec<*mut sys::rd_kafka_message_t> = vec![std::ptr::null_mut(); max];
        // The library waits until a batch is full; asked for one first, and then for what is there, it does not.
        let (first, rest) = raw.split_at_mut(max.min(1));
        let mut count = self.take(first, timeout);
        if count == 1 {
            count += self.take(rest, Duration::ZERO);
        } else {
            self.client.tidy();
        }
        let mut polled =
            Polled { messages: Messages { all: Vec::with_capacity(count), client: self.client.clone() }, ends: Vec::new() };
        let mut fault = None;
        let mut last = (std::ptr::null_mut(), 0);
        for raw in raw.into_iter().take(count) {
            let Some(raw) = NonNull::new(raw) else { continue };
            let at = raw.as_ptr();
            // SAFETY: the queue gave a living message that is ours; its error code is read as an integer.
            let (code, rkt) = unsafe { ((&raw const (*at).err).cast::<i32>().read(), (*at).rkt) };
            if rkt != last.0 {
                last = (rkt, self.number(rkt));
            }
            // Freed with the others, whatever it says; what is no record is taken out again.
            polled.messages.all.push(Message { raw, topic: last.1 });
            if code != 0 {
                // SAFETY: the message is alive until it is taken out and destroyed, once.
                unsafe {
                    match code {
                        code::PARTITION_EOF => {
                            polled.ends.push(End { topic: last.1, partition: (*at).partition, offset: (*at).offset });
                        }
                        _ => fault = fault.or_else(|| Some(Fault::new(code, super::text(sys::rd_kafka_message_errstr(at))))),
                    }
                    polled.messages.all.pop();
                    sys::rd_kafka_message_destroy(at);
                }
            }
        }
        fault.map_or(Ok(polled), Err)
    }

    fn take(&self, into: &mut [*mut sys::rd_kafka_message_t], timeout: Duration) -> usize {
        // SAFETY: the queue is alive; the slice has room for as many pointers as it is long.
        let count =
            unsafe { sys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), millis(timeout), into.as_mut_ptr(), into.len()) };
        usize::try_from(count).unwrap_or(0).min(into.len())
    }

    fn number(&self, rkt: *mut sys::rd_kafka_topic_t) -> usize {
        if let Some(at) = self.topics.iter().position(|topic| topic.rkt == rkt) {
            return at;
        }
        if rkt.is_null() {
            return usize::MAX;
        }
        // SAFETY: a message's topic is alive as long as the message.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(rkt)) };
        self.topics.iter().position(|topic| topic.name.as_bytes() == name.to_bytes()).unwrap_or(usize::MAX)
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        for (topic, partition) in &self.started {
            if let Some(topic) = self.topics.get(*topic) {
                // SAFETY: the topic is alive.
                unsafe { sys::rd_kafka_consume_stop(topic.rkt, *partition) };
            }
        }
        for topic in &self.topics {
            // SAFETY: alive, ours, and not used any more.
            unsafe { sys::rd_kafka_topic_destroy(topic.rkt) };
        }
    }
}

fn unknown_topic() -> Fault {
    Fault::new(code::INVALID_ARGUMENT, "the topic is not one of this reader's")
}

pub(super) fn last_error() -> Fault {
    // SAFETY: reads a value of this thread.
    Fault::of(unsafe { raw::last_error() })
}

/// What one poll gave.
pub struct Polled {
    pub messages: Messages,
    /// Partitions that were read to their end.
    pub ends: Vec<End>,
}

/// A partition was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The topic's number.
    pub topic: usize,
    pub partition: i32,
    /// The offset that is read next. It may lie behind the last record by more than one: what was aborted, and the marks
    /// of transactions, take offsets too.
    pub offset: i64,
}

/// Records, in the order of their partitions. They stay where the library put them until this is dropped.
pub struct Messages {
    all: Vec<Message>,
    /// Messages must not outlive their client.
    #[allow(dead_code, reason = "keeps the client alive")]
    client: Arc<Client>,
}

impl Deref for Messages {
    type Target = [Message];

    fn deref(&self) -> &[Message] {
        &self.all
    }
}

impl<'a> IntoIterator for &'a Messages {
    type Item = &'a Message;
    type IntoIter = std::slice::Iter<'a, Message>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        for message in &self.all {
            // SAFETY: alive, ours, and not used any more: a message is never moved out of here.
            unsafe { sys::rd_kafka_message_destroy(message.raw.as_ptr()) };
        }
    }
}

/// One record. It is only ever lent by the [`Messages`] that own it.
pub struct Message {
    raw: NonNull<sys::rd_kafka_message_t>,
    topic: usize,
}

// SAFETY: a message is a value of its own, which any thread may read and destroy.
unsafe impl Send for Message {}
// SAFETY: shared, it is only read; the headers, which the library parses at the first look, are read under a lock.
unsafe impl Sync for Message {}

impl Message {
    fn get(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: alive as long as the `Messages` that lend it; its error code, which is zero, is in the enum.
        unsafe { self.raw.as_ref() }
    }

    /// The number of its topic: its place among those that were assigned.
    pub fn topic(&self) -> usize {
        self.topic
    }

    pub fn partition(&self) -> i32 {
        self.get().partition
    }

    pub fn offset(&self) -> i64 {
        self.get().offset
    }

    /// Milliseconds since 1970.
    pub fn timestamp(&self) -> Option<i64> {
        // SAFETY: alive; the kind of time stamp is not asked for.
        let ms = unsafe { sys::rd_kafka_message_timestamp(self.raw.as_ptr(), std::ptr::null_mut()) };
        (ms >= 0).then_some(ms)
    }

    pub fn key(&self) -> Option<&[u8]> {
        let message = self.get();
        // SAFETY: the library gives the length of the key, which lives as long as the message.
        unsafe { bytes(message.key.cast(), message.key_len) }
    }

    /// `None` is a tombstone.
    pub fn payload(&self) -> Option<&[u8]> {
        let message = self.get();
        // SAFETY: the library gives the length of the value, which lives as long as the message.
        unsafe { bytes(message.payload.cast(), message.len) }
    }

    /// The headers, read now.
    pub fn headers(&self) -> Vec<(String, Option<&[u8]>)> {
        /// The library parses them in place: one thread at a time.
        static PARSE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _parse = PARSE.lock();
        let mut headers = std::ptr::null_mut();
        // SAFETY: alive, and nobody else parses.
        if unsafe { sys::rd_kafka_message_headers(self.raw.as_ptr(), &raw mut headers) } as i32 != 0 || headers.is_null() {
            return Vec::new();
        }
        let mut found = Vec::new();
        // SAFETY: the headers, their names and their values live as long as the message.
        unsafe {
            for at in 0..sys::rd_kafka_header_cnt(headers) {
                let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
                if sys::rd_kafka_header_get_all(headers, at, &raw mut name, &raw mut value, &raw mut size) as i32 == 0 {
                    found.push((super::text(name), bytes(value.cast(), size)));
                }
            }
        }
        found
    }
}

/// # Safety
/// `at` is null, or points to `size` bytes that live for `'a`.
unsafe fn bytes<'a>(at: *const u8, size: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at, size) })
}
