//! The only unsafe code of the house: librdkafka's C interface, wrapped so that nothing outside can misuse it.
//!
//! Every native object has an owner that frees it, and every owner keeps the client alive that the object belongs to.
//! The library is called by functions only; of its callbacks four are used, each of which does no more than note
//! something: a log line, an answer that got lost, a record that was written, and "the queue has something".
//!
//! Error codes are read as plain integers, not as the enums of the bindings: a newer broker knows more of them.
#![allow(unsafe_code)]

mod admin;
mod fetch;
mod write;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rdkafka_sys as sys;
use tokio::sync::{Notify, watch};

use super::error::code;

pub(super) use admin::*;
pub(super) use fetch::Fetch;
pub use fetch::{End, Message, Messages, Polled};
pub use write::Header;
pub(super) use write::Writer;

/// What the library said of a call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Kafka's error code; librdkafka's own are negative.
    pub(super) code: i32,
    pub(super) text: String,
    /// The client is of no use any more.
    pub(super) fatal: bool,
    /// The transaction must be aborted.
    pub(super) abort: bool,
}

impl Fault {
    pub(super) fn new(code: i32, text: impl Into<String>) -> Fault {
        Fault { code, text: text.into(), fatal: false, abort: false }
    }

    /// The library's own words for a code.
    fn of(code: i32) -> Fault {
        // SAFETY: the function takes any number and returns a string that is never freed.
        Fault::new(code, unsafe { text(raw::err2str(code)) })
    }

    /// Takes over an error object; null is success.
    ///
    /// # Safety
    /// `error` is null or an error object that nobody else destroys.
    unsafe fn take(error: *mut sys::rd_kafka_error_t) -> Result<(), Fault> {
        // SAFETY: as the caller promises.
        let fault = unsafe { Fault::peek(error) };
        if !error.is_null() {
            // SAFETY: not null, and ours.
            unsafe { sys::rd_kafka_error_destroy(error) };
        }
        fault
    }

    /// Reads an error object that belongs to something else; null is success.
    ///
    /// # Safety
    /// `error` is null or a living error object.
    unsafe fn peek(error: *const sys::rd_kafka_error_t) -> Result<(), Fault> {
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: not null, and alive as the caller promises; the functions only read it.
        unsafe {
            match raw::error_code(error) {
                0 => Ok(()),
                code => Err(Fault {
                    code,
                    text: text(sys::rd_kafka_error_string(error)),
                    fatal: sys::rd_kafka_error_is_fatal(error) != 0,
                    abort: sys::rd_kafka_error_txn_requires_abort(error) != 0,
                }),
            }
        }
    }
}

/// Kafka's name of an error code, such as `TOPIC_ALREADY_EXISTS`.
pub(super) fn code_name(code: i32) -> String {
    // SAFETY: the function takes any number and returns a string that is never freed, or null.
    unsafe { text(raw::err2name(code)) }
}

/// Functions whose error codes are read as integers.
mod raw {
    use super::{c_char, c_int, sys};

    unsafe extern "C" {
        #[link_name = "rd_kafka_err2str"]
        pub(super) fn err2str(code: c_int) -> *const c_char;
        #[link_name = "rd_kafka_err2name"]
        pub(super) fn err2name(code: c_int) -> *const c_char;
        #[link_name = "rd_kafka_last_error"]
        pub(super) fn last_error() -> c_int;
        #[link_name = "rd_kafka_error_code"]
        pub(super) fn error_code(error: *const sys::rd_kafka_error_t) -> c_int;
        #[link_name = "rd_kafka_event_error"]
        pub(super) fn event_error(event: *mut sys::rd_kafka_event_t) -> c_int;
        #[link_name = "rd_kafka_topic_result_error"]
        pub(super) fn topic_result_error(result: *const sys::rd_kafka_topic_result_t) -> c_int;
        #[link_name = "rd_kafka_ConfigResource_error"]
        pub(super) fn config_resource_error(resource: *const sys::rd_kafka_ConfigResource_t) -> c_int;
        #[link_name = "rd_kafka_ConfigEntry_source"]
        pub(super) fn config_entry_source(entry: *const sys::rd_kafka_ConfigEntry_t) -> c_int;
        #[link_name = "rd_kafka_AclBinding_restype"]
        pub(super) fn acl_resource(acl: *const sys::rd_kafka_AclBinding_t) -> c_int;
        #[link_name = "rd_kafka_AclBinding_operation"]
        pub(super) fn acl_operation(acl: *const sys::rd_kafka_AclBinding_t) -> c_int;
        #[link_name = "rd_kafka_AclBinding_permission_type"]
        pub(super) fn acl_permission(acl: *const sys::rd_kafka_AclBinding_t) -> c_int;
        #[link_name = "rd_kafka_AclBinding_resource_pattern_type"]
        pub(super) fn acl_pattern(acl: *const sys::rd_kafka_AclBinding_t) -> c_int;
        #[link_name = "rd_kafka_AclOperation_name"]
        pub(super) fn acl_operation_name(operation: c_int) -> *const c_char;
    }
}

/// A C string's text; null is empty.
///
/// # Safety
/// `from` is null or a living string that ends with a zero byte.
unsafe fn text(from: *const c_char) -> String {
    if from.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned()
}

/// A name as C wants it.
fn c_string(name: &str) -> Result<CString, Fault> {
    CString::new(name).map_err(|_| Fault::new(code::INVALID_ARGUMENT, format!("{name:?} has a zero byte in it")))
}

/// A time-out as C wants it.
fn millis(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX)
}

/// Room for a message of the library.
struct Buffer([u8; 512]);

impl Buffer {
    fn new() -> Buffer {
        Buffer([0; 512])
    }

    fn parts(&mut self) -> (*mut c_char, usize) {
        (self.0.as_mut_ptr().cast(), self.0.len())
    }

    fn text(&self) -> String {
        CStr::from_bytes_until_nul(&self.0).map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
    }
}

/// What kind of client the library makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Producer,
    Consumer,
}

/// What a client's log told, as far as it matters.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The last failure of a connection: `127.0.0.1:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: Connection refused`.
    pub(super) failure: Option<String>,
    /// A broker did not accept who we are.
    pub(super) unauthorized: bool,
    /// No broker is connected, and all of them were tried.
    pub(super) all_down: bool,
}

/// Where the callbacks of one client write to.
struct Signs {
    seen: watch::Sender<Seen>,
    /// Requests that were sent, or about to be, and whose answer never came.
    lost: AtomicU64,
    written: Mutex<Written>,
}

/// How far the partitions that a producer writes to reach.
#[derive(Default)]
struct Written {
    /// The topic, which is only compared, the partition, and the offset after its last record.
    ends: Vec<(*const sys::rd_kafka_topic_t, i32, i64)>,
    /// Where the last record was found: records come partition by partition.
    last: usize,
}

// SAFETY: the pointers in it are only compared.
unsafe impl Send for Written {}

impl Written {
    fn get(&self, topic: *const sys::rd_kafka_topic_t, partition: i32) -> Option<i64> {
        self.ends.iter().find(|end| (end.0, end.1) == (topic, partition)).map(|end| end.2)
    }

    fn raise(&mut self, topic: *const sys::rd_kafka_topic_t, partition: i32, end: i64) {
        let is_it = |at: &(*const sys::rd_kafka_topic_t, i32, i64)| (at.0, at.1) == (topic, partition);
        if !self.ends.get(self.last).is_some_and(is_it) {
            self.last = self.ends.iter().position(is_it).unwrap_or(self.ends.len());
        }
        match self.ends.get_mut(self.last) {
            Some(known) => known.2 = known.2.max(end),
            None => self.ends.push((topic, partition, end)),
        }
    }
}

impl Signs {
    fn new() -> Signs {
        Signs { seen: watch::Sender::new(Seen::default()), lost: AtomicU64::new(0), written: Mutex::default() }
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, facility: &str, line: &str) {
        let line = line.split(" (after ").next().unwrap_or(line);
        let refused = line.contains("SASL authentication error") || line.contains("SASL handshake failed");
        if facility == "ERROR" && line.ends_with("brokers are down") {
            self.seen.send_modify(|seen| seen.all_down = true);
        } else if facility == "FAIL" || refused {
            self.seen.send_modify(|seen| {
                seen.failure = Some(line.to_owned());
                seen.unauthorized |= refused;
            });
        }
    }
}

/// A client of the library. It is destroyed when the last of what was made with it is gone.
pub(super) struct Client {
    rk: NonNull<sys::rd_kafka_t>,
    signs: Arc<Signs>,
}

// SAFETY: the library's client may be used by any number of threads at once, as its documentation says.
unsafe impl Send for Client {}
// SAFETY: the same.
unsafe impl Sync for Client {}

impl Client {
    /// Makes a client. Nothing is connected before something is asked.
    pub(super) fn new(role: Role, settings: &[(&'static str, String)]) -> Result<Arc<Client>, Fault> {
        let signs = Arc::new(Signs::new());
        let opaque = Arc::as_ptr(&signs).cast_mut().cast::<c_void>();
        let conf = Conf::new();
        for (name, value) in settings {
            conf.set(name, value)?;
        }
        // SAFETY: `conf` is alive. `signs` lives until the client is destroyed, see `drop`.
        unsafe {
            sys::rd_kafka_conf_set_opaque(conf.0, opaque);
            sys::rd_kafka_conf_set_log_cb(conf.0, Some(on_log));
            sys::rd_kafka_conf_interceptor_add_on_new(conf.0, c"mesh".as_ptr(), Some(on_new), opaque);
        }
        let kind = match role {
            Role::Producer => sys::rd_kafka_type_t::RD_KAFKA_PRODUCER,
            Role::Consumer => sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
        };
        let mut buffer = Buffer::new();
        let (at, size) = buffer.parts();
        // SAFETY: `conf` is alive; it belongs to the client when there is one.
        let rk = unsafe { sys::rd_kafka_new(kind, conf.0, at, size) };
        // When there is none, the library has freed the settings' interceptors: freeing the rest would free those again.
        std::mem::forget(conf);
        let rk = NonNull::new(rk).ok_or_else(|| Fault::new(code::INVALID_ARGUMENT, buffer.text()))?;
        Ok(Arc::new(Client { rk, signs }))
    }

    fn rk(&self) -> *mut sys::rd_kafka_t {
        self.rk.as_ptr()
    }

    /// What the log told so far.
    pub(super) fn seen(&self) -> Seen {
        self.signs.seen.borrow().clone()
    }

    /// Returns when what the log told satisfies `condition`.
    pub(super) async fn until(&self, condition: impl FnMut(&Seen) -> bool) {
        let mut seen = self.signs.seen.subscribe();
        // The sender lives as long as `self`, so there is always an answer.
        let _ = seen.wait_for(condition).await;
    }

    /// How many requests were left without an answer.
    pub(super) fn lost(&self) -> u64 {
        self.signs.lost.load(Ordering::SeqCst)
    }

    /// Lets the library empty its queue of things that it would tell by callbacks that are not set.
    pub(super) fn tidy(&self) {
        self.tidy_for(Duration::ZERO);
    }

    /// The same, waiting for such things so long.
    pub(super) fn tidy_for(&self, timeout: Duration) {
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_poll(self.rk(), millis(timeout)) };
    }

    /// The first fatal error of the client, if there was one.
    pub(super) fn fatal(&self) -> Option<Fault> {
        let mut buffer = Buffer::new();
        let (at, size) = buffer.parts();
        // SAFETY: the client is alive, the buffer has the size given.
        let code = unsafe { sys::rd_kafka_fatal_error(self.rk(), at, size) } as i32;
        (code != 0).then(|| Fault { fatal: true, ..Fault::new(code, buffer.text()) })
    }
}

impl Drop for Client {
    /// Destroying joins the library's threads, one of which may be looking up a name for a long time: it is given two seconds.
    fn drop(&mut self) {
        struct Last(NonNull<sys::rd_kafka_t>, #[allow(dead_code, reason = "outlives the client")] Arc<Signs>);
        // SAFETY: the pointer is used by one thread only from now on.
        unsafe impl Send for Last {}
        impl Last {
            fn destroy(self) {
                // SAFETY: nothing that was made with the client is left, each of them held an `Arc` of it.
                unsafe { sys::rd_kafka_destroy(self.0.as_ptr()) };
            }
        }

        let last = Last(self.rk, self.signs.clone());
        let (done, ended) = mpsc::channel();
        let destroyer = std::thread::Builder::new().name("kafka-destroy".into()).spawn(move || {
            last.destroy();
            let _ = done.send(());
        });
        // Without a thread to be had the client is leaked, as the process is at its end anyway.
        if destroyer.is_ok() {
            let _ = ended.recv_timeout(Duration::from_secs(2));
        }
    }
}

/// A client's settings while they are collected.
struct Conf(*mut sys::rd_kafka_conf_t);

impl Conf {
    fn new() -> Conf {
        // SAFETY: no precondition; the library ends the process when there is no memory.
        Conf(unsafe { sys::rd_kafka_conf_new() })
    }

    /// The error does not repeat the value, which may be a secret.
    fn set(&self, name: &str, value: &str) -> Result<(), Fault> {
        let refused =
            || Fault::new(code::INVALID_ARGUMENT, format!("the client library refuses the value of its setting {name}"));
        let (name, value) = (c_string(name)?, CString::new(value).map_err(|_| refused())?);
        let mut buffer = Buffer::new();
        let (at, size) = buffer.parts();
        // SAFETY: the settings are alive, the strings end with a zero byte, the buffer has the size given.
        let result = unsafe { sys::rd_kafka_conf_set(self.0, name.as_ptr(), value.as_ptr(), at, size) };
        if result == sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK { Ok(()) } else { Err(refused()) }
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: alive, and ours.
        unsafe { sys::rd_kafka_conf_destroy(self.0) };
    }
}

/// Notes a log line; called by any of the library's threads.
unsafe extern "C" fn on_log(rk: *const sys::rd_kafka_t, _level: c_int, facility: *const c_char, line: *const c_char) {
    if rk.is_null() {
        return;
    }
    // SAFETY: the client is alive while it logs; its opaque is null or the `Signs` that outlive it; both strings are C's.
    unsafe {
        if let Some(signs) = sys::rd_kafka_opaque(rk).cast::<Signs>().as_ref() {
            signs.note(&text(facility), &text(line));
        }
    }
}

/// Asks to be told of answers, while the client is made.
unsafe extern "C" fn on_new(
    rk: *mut sys::rd_kafka_t,
    _conf: *const sys::rd_kafka_conf_t,
    opaque: *mut c_void,
    _error: *mut c_char,
    _size: usize,
) -> sys::rd_kafka_resp_err_t {
    // SAFETY: the client is being made and alive; `opaque` is what `Client::new` gave.
    unsafe {
        if sys::rd_kafka_type(rk) == sys::rd_kafka_type_t::RD_KAFKA_PRODUCER {
            sys::rd_kafka_interceptor_add_on_acknowledgement(rk, c"mesh".as_ptr(), Some(on_written), opaque);
        }
        sys::rd_kafka_interceptor_add_on_response_received(rk, c"mesh".as_ptr(), Some(on_response), opaque)
    }
}

/// Notes where a record was written to.
unsafe extern "C" fn on_written(
    _rk: *mut sys::rd_kafka_t,
    message: *mut sys::rd_kafka_message_t,
    opaque: *mut c_void,
) -> sys::rd_kafka_resp_err_t {
    // SAFETY: the message is alive during the call, its error code is read as an integer; the `Signs` outlive the client.
    unsafe {
        let code = (&raw const (*message).err).cast::<i32>().read();
        if let (0, 0.., Some(signs)) = (code, (*message).offset, opaque.cast::<Signs>().as_ref()) {
            signs.written().raise((*message).rkt, (*message).partition, (*message).offset + 1);
        }
    }
    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// Counts the requests of a transaction that end without an answer: they may have been carried out, or still be.
unsafe extern "C" fn on_response(
    _rk: *mut sys::rd_kafka_t,
    _socket: c_int,
    _broker: *const c_char,
    _broker_id: i32,
    api_key: i16,
    _api_version: i16,
    _correlation: i32,
    _size: usize,
    _round_trip: i64,
    error: sys::rd_kafka_resp_err_t,
    opaque: *mut c_void,
) -> sys::rd_kafka_resp_err_t {
    /// Produce, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, TxnOffsetCommit.
    const TRANSACTION: [i16; 5] = [0, 24, 25, 26, 28];
    // Here the library gives codes of its own only, all of which the enum has.
    if error as i32 != 0 && TRANSACTION.contains(&api_key) {
        // SAFETY: the `Signs` that `Client::new` gave; they outlive the client.
        if let Some(signs) = unsafe { opaque.cast::<Signs>().as_ref() } {
            signs.lost.fetch_add(1, Ordering::SeqCst);
        }
    }
    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// A queue of the library that wakes who waits for it.
struct Queue {
    rkqu: NonNull<sys::rd_kafka_queue_t>,
    /// Boxed, because the library keeps its address.
    wake: Box<Notify>,
    client: Arc<Client>,
}

// SAFETY: the library's queues may be used by any thread, as its documentation says.
unsafe impl Send for Queue {}
// SAFETY: the same.
unsafe impl Sync for Queue {}

impl Queue {
    fn new(client: &Arc<Client>) -> Queue {
        /// Called with the queue's lock held, hence never after `drop` took the callback away.
        unsafe extern "C" fn on_something(_rk: *mut sys::rd_kafka_t, opaque: *mut c_void) {
            // SAFETY: the `Notify` of a queue that is alive.
            if let Some(wake) = unsafe { opaque.cast::<Notify>().as_ref() } {
                wake.notify_one();
            }
        }
        let wake = Box::new(Notify::new());
        let opaque = (&raw const *wake).cast_mut().cast::<c_void>();
        // SAFETY: the client is alive; the library ends the process when there is no memory, so the queue is not null.
        let rkqu = unsafe {
            let rkqu = NonNull::new_unchecked(sys::rd_kafka_queue_new(client.rk()));
            sys::rd_kafka_queue_cb_event_enable(rkqu.as_ptr(), Some(on_something), opaque);
            rkqu
        };
        Queue { rkqu, wake, client: client.clone() }
    }

    fn as_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.rkqu.as_ptr()
    }

    fn event(&self, timeout: Duration) -> Option<Answer> {
        // SAFETY: the queue is alive; the event is ours.
        NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.as_ptr(), millis(timeout)) }).map(Answer)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the queue is alive and ours; taking the callback away waits for the queue's lock.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.as_ptr(), None, std::ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.as_ptr());
        }
        let _ = &self.client;
    }
}

/// An answer to something that was asked, as the library keeps it.
struct Answer(NonNull<sys::rd_kafka_event_t>);

// SAFETY: an event is a value of its own that one thread at a time reads.
unsafe impl Send for Answer {}

impl Answer {
    fn as_ptr(&self) -> *mut sys::rd_kafka_event_t {
        self.0.as_ptr()
    }

    /// The event, unless it is one error for the whole call.
    fn check(self) -> Result<Answer, Fault> {
        // SAFETY: the event is alive.
        match unsafe { raw::event_error(self.as_ptr()) } {
            0 => Ok(self),
            code => Err(Fault::new(code, unsafe { text(sys::rd_kafka_event_error_string(self.as_ptr())) })),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: alive, and ours.
        unsafe { sys::rd_kafka_event_destroy(self.as_ptr()) };
    }
}

/// A question that is under way, and how its answer is read.
pub(super) struct Call<T> {
    queue: Queue,
    /// The library answers by then, if only with a time-out; a little later the caller stops to wait.
    deadline: Instant,
    read: fn(&Answer) -> Result<T, Fault>,
}

impl<T> Call<T> {
    fn read(&self, answer: Answer) -> Result<T, Fault> {
        (self.read)(&answer.check()?)
    }

    fn late() -> Fault {
        Fault::new(code::TIMED_OUT, "no answer in time")
    }

    /// The answer, without blocking a thread.
    pub(super) async fn answer(self) -> Result<T, Fault> {
        loop {
            if let Some(answer) = self.queue.event(Duration::ZERO) {
                return self.read(answer);
            }
            if tokio::time::timeout_at(self.deadline.into(), self.queue.wake.notified()).await.is_err() {
                return Err(Call::<T>::late());
            }
        }
    }

    /// The answer, blocking the thread.
    pub(super) fn wait(self) -> Result<T, Fault> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.queue.event(left).map_or_else(|| Err(Call::<T>::late()), |answer| self.read(answer))
    }
}

/// What is told of partitions: topic, partition, and the offset or what went wrong.
pub(super) type Offsets = Vec<(String, i32, Result<i64, Fault>)>;

/// A list of partitions with offsets.
struct Partitions(*mut sys::rd_kafka_topic_partition_list_t);

impl Partitions {
    /// `offset` is what each means to the call it is made for.
    fn new<'a>(of: impl IntoIterator<Item = (&'a str, i32, i64)>) -> Result<Partitions, Fault> {
        // SAFETY: no precondition; not null.
        let list = Partitions(unsafe { sys::rd_kafka_topic_partition_list_new(8) });
        for (topic, partition, offset) in of {
            let topic = c_string(topic)?;
            // SAFETY: the list is alive and copies the name; what it returns is its new, living element.
            unsafe { (*sys::rd_kafka_topic_partition_list_add(list.0, topic.as_ptr(), partition)).offset = offset };
        }
        Ok(list)
    }

    /// What a list says: topic, partition, and the offset or what went wrong.
    ///
    /// # Safety
    /// `list` is null or a living list.
    unsafe fn read(list: *const sys::rd_kafka_topic_partition_list_t) -> Offsets {
        // SAFETY: as the caller promises.
        let Some(list) = (unsafe { list.as_ref() }) else { return Vec::new() };
        let count = usize::try_from(list.cnt).unwrap_or(0);
        // SAFETY: a list has `cnt` elements; the error code is read as an integer.
        let read = |at: usize| unsafe {
            let element = list.elems.add(at);
            let code = (&raw const (*element).err).cast::<i32>().read();
            let offset = if code == 0 { Ok((*element).offset) } else { Err(Fault::of(code)) };
            (text((*element).topic), (*element).partition, offset)
        };
        (0..count).map(read).collect()
    }
}

impl Drop for Partitions {
    fn drop(&mut self) {
        // SAFETY: alive, and ours.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0) };
    }
}

/// The elements of an array that the library returned.
///
/// # Safety
/// `array` points to `count` pointers, all of which live as long as the reading takes, or `count` is zero.
unsafe fn elements<'a, T>(array: *mut *const T, count: usize) -> &'a [*const T] {
    if array.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(array, count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_names_and_unknown_ones_do_no_harm() {
        assert_eq!(code_name(36), "TOPIC_ALREADY_EXISTS");
        assert_eq!(code_name(code::TRANSPORT), "_TRANSPORT");
        assert_eq!(code_name(31_999), "ERR_31999?");
    }

    #[test]
    fn the_log_is_read_for_what_matters() {
        let signs = Signs::new();
        signs.note("FAIL", "h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)");
        assert_eq!(
            signs.seen.borrow().failure.as_deref(),
            Some("h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused")
        );
        assert!(!signs.seen.borrow().all_down);
        signs.note("ERROR", "1/1 brokers are down");
        assert!(signs.seen.borrow().all_down && !signs.seen.borrow().unauthorized);
        signs.note("FAIL", "h:1/bootstrap: SASL authentication error: Authentication failed during authentication");
        assert!(signs.seen.borrow().unauthorized);
    }

    #[test]
    fn a_setting_that_is_refused_does_not_show_its_value() {
        let fault = Client::new(Role::Producer, &[("socket.timeout.ms", "s3cret".into())]).map(|_| ()).unwrap_err();
        assert!(fault.text.contains("socket.timeout.ms") && !fault.text.contains("s3cret"), "{fault:?}");
    }
}
