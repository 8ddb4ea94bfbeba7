//! Writing records: a producer with transactions.

use std::ffi::{CString, c_void};
use std::sync::Arc;
use std::time::Duration;

use super::{Client, Fault, Partitions, c_string, millis, sys};

type Kind = sys::rd_kafka_vtype_t;
type Value = sys::rd_kafka_vu_s__bindgen_ty_1;

/// A header of a record to write.
#[derive(Debug, Clone)]
pub struct Header<'a> {
    name: CString,
    value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// A header with a value. Zero bytes, which a name can't have, are left out of it.
    pub fn new(name: &str, value: impl Into<Option<&'a [u8]>>) -> Header<'a> {
        let name: Vec<u8> = name.bytes().filter(|byte| *byte != 0).collect();
        // Without zero bytes it can't fail.
        Header { name: CString::new(name).unwrap_or_default(), value: value.into() }
    }
}

/// The writing side of a client, with the topics that were written to.
pub(in crate::kafka) struct Writer {
    topics: Vec<Topic>,
    last: usize,
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

impl Writer {
    pub(in crate::kafka) fn new(client: &Arc<Client>) -> Writer {
        Writer { topics: Vec::new(), last: 0, client: client.clone() }
    }

    fn topic(&mut self, name: &str) -> Result<*mut sys::rd_kafka_topic_t, Fault> {
        if let Some(topic) = self.topics.get(self.last).filter(|topic| topic.name == name) {
            return Ok(topic.rkt);
        }
        if let Some(at) = self.topics.iter().position(|topic| topic.name == name) {
            self.last = at;
        } else {
            let native = c_string(name)?;
            // SAFETY: the client and the name are alive; the name is copied.
            let rkt = unsafe { sys::rd_kafka_topic_new(self.client.rk(), native.as_ptr(), std::ptr::null_mut()) };
            if rkt.is_null() {
                return Err(super::fetch::last_error());
            }
            self.last = self.topics.len();
            self.topics.push(Topic { name: name.to_owned(), rkt });
        }
        self.topics.get(self.last).map(|topic| topic.rkt).ok_or_else(|| Fault::of(super::code::INVALID_ARGUMENT))
    }

    /// The offset after the last record that this producer has written to a partition.
    pub(in crate::kafka) fn end(&self, topic: &str, partition: i32) -> Option<i64> {
        let topic = self.topics.iter().find(|known| known.name == topic)?;
        self.client.signs.written().get(topic.rkt, partition)
    }

    /// Hands a record over, which is copied; blocks while the library's queue is full.
    pub(in crate::kafka) fn send(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: Option<i64>,
        headers: &[Header<'_>],
    ) -> Result<(), Fault> {
        let rkt = self.topic(topic)?;
        let memory = |bytes: Option<&[u8]>| {
            let (ptr, size) = bytes.map_or((std::ptr::null(), 0), |bytes| (bytes.as_ptr(), bytes.len()));
            Value { mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr: ptr.cast_mut().cast::<c_void>(), size } }
        };
        let arguments = [
            argument(Kind::RD_KAFKA_VTYPE_RKT, Value { rkt }),
            argument(Kind::RD_KAFKA_VTYPE_PARTITION, Value { i32_: partition.unwrap_or(-1) }),
            argument(Kind::RD_KAFKA_VTYPE_MSGFLAGS, Value { i: sys::RD_KAFKA_MSG_F_COPY | sys::RD_KAFKA_MSG_F_BLOCK }),
            argument(Kind::RD_KAFKA_VTYPE_TIMESTAMP, Value { i64_: timestamp.unwrap_or(0) }),
            argument(Kind::RD_KAFKA_VTYPE_KEY, memory(key)),
            argument(Kind::RD_KAFKA_VTYPE_VALUE, memory(value)),
        ];
        if headers.is_empty() {
            // SAFETY: the client, the topic and the arguments are alive; key and value are copied; an error is freed.
            return unsafe { Fault::take(sys::rd_kafka_produceva(self.client.rk(), arguments.as_ptr(), arguments.len())) };
        }
        let mut arguments = arguments.to_vec();
        arguments.extend(headers.iter().map(|header| {
            let (val, size) = header.value.map_or((std::ptr::null(), 0), |value| (value.as_ptr(), value.len()));
            let (name, val, size) = (header.name.as_ptr(), val.cast::<c_void>(), isize::try_from(size).unwrap_or(0));
            argument(
                Kind::RD_KAFKA_VTYPE_HEADER,
                Value { header: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_2 { name, val, size } },
            )
        }));
        // SAFETY: the same, and the headers are copied.
        unsafe { Fault::take(sys::rd_kafka_produceva(self.client.rk(), arguments.as_ptr(), arguments.len())) }
    }

    /// Waits until all that was handed over is written or has failed.
    pub(in crate::kafka) fn flush(&self, timeout: Duration) -> Result<(), Fault> {
        // SAFETY: the client is alive.
        let code = unsafe { sys::rd_kafka_flush(self.client.rk(), millis(timeout)) } as i32;
        if code == 0 { Ok(()) } else { Err(Fault::of(code)) }
    }

    /// Takes over the transactional id: fences its former owner and ends what that left open.
    pub(in crate::kafka) fn init(&self, timeout: Duration) -> Result<(), Fault> {
        // SAFETY: the client is alive; an error is freed.
        unsafe { Fault::take(sys::rd_kafka_init_transactions(self.client.rk(), millis(timeout))) }
    }

    pub(in crate::kafka) fn begin(&self) -> Result<(), Fault> {
        self.client.tidy();
        // SAFETY: the client is alive; an error is freed.
        unsafe { Fault::take(sys::rd_kafka_begin_transaction(self.client.rk())) }
    }

    /// Adds a group's offsets to the transaction, for a group without members.
    pub(in crate::kafka) fn send_offsets(
        &self,
        group: &str,
        offsets: &[(String, i32, i64)],
        timeout: Duration,
    ) -> Result<(), Fault> {
        let group = c_string(group)?;
        let list = Partitions::new(offsets.iter().map(|(topic, partition, offset)| (topic.as_str(), *partition, *offset)))?;
        // SAFETY: client, name and list are alive and not kept; the group's metadata is ours and freed; an error is freed.
        unsafe {
            let metadata = sys::rd_kafka_consumer_group_metadata_new(group.as_ptr());
            let error = sys::rd_kafka_send_offsets_to_transaction(self.client.rk(), list.0, metadata, millis(timeout));
            sys::rd_kafka_consumer_group_metadata_destroy(metadata);
            Fault::take(error)
        }
    }

    /// Commits; waits as long as the transaction may live.
    pub(in crate::kafka) fn commit(&self) -> Result<(), Fault> {
        // SAFETY: the client is alive; an error is freed.
        unsafe { Fault::take(sys::rd_kafka_commit_transaction(self.client.rk(), -1)) }
    }

    /// Aborts; waits as long as the transaction may live.
    pub(in crate::kafka) fn abort(&self) -> Result<(), Fault> {
        // SAFETY: the client is alive; an error is freed.
        unsafe { Fault::take(sys::rd_kafka_abort_transaction(self.client.rk(), -1)) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        for topic in &self.topics {
            // SAFETY: alive, ours, and not used any more.
            unsafe { sys::rd_kafka_topic_destroy(topic.rkt) };
        }
    }
}

fn argument(vtype: Kind, u: Value) -> sys::rd_kafka_vu_t {
    sys::rd_kafka_vu_t { vtype, u }
}
