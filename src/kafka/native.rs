//! The only unsafe code of the house: librdkafka's C interface, wrapped so that nothing outside can misuse it.
//!
//! Every native object has an owner that frees it, and every owner keeps the client alive that the object belongs to.
//! The library is called by functions only; of its callbacks four are used, each of which does no more than note
//! something: a log line, an answer that got lost, a record that was written, and "the queue has something".
//!
//! Error codes are read as plain integers, not as the enums of the bindings: a newer broker knows more of them.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use tokio::sync::{Notify, watch};

use super::admin::{
    Acl, AclFilter, Answers, At, Broker, Cluster, ConfigOp, ConfigSource, ConfigValue, NewTopic, Operation, Partition, Pattern,
    Permission, Resource, TopicError,
};
use super::error::code;

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

    fn written(&self) -> MutexGuard<'_, Written> {
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
    /// Whether a broker has answered, see [`reach`].
    reached: AtomicBool,
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
        Ok(Arc::new(Client { rk, signs, reached: AtomicBool::new(false) }))
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

// ---- Administration: each function asks one thing and returns the call that is under way -----------------------------

type Op = sys::rd_kafka_admin_op_t;
/// A topic's name, with what is known of it or why nothing is known.
type Described<T> = Vec<(String, Result<T, TopicError>)>;

/// A topic's id and its partitions.
type Layout = (String, Vec<Partition>);

/// For each filter, the ACLs that were deleted.
type Deleted = Vec<Result<Vec<Acl>, TopicError>>;

/// What goes with a call.
struct Options(NonNull<sys::rd_kafka_AdminOptions_t>);

impl Options {
    fn new(client: &Client, op: Op, timeout: Duration) -> Result<Options, Fault> {
        // SAFETY: the client is alive.
        let options = NonNull::new(unsafe { sys::rd_kafka_AdminOptions_new(client.rk(), op) });
        let options = Options(options.ok_or_else(|| Fault::new(code::INVALID_ARGUMENT, "the library does not know the call"))?);
        let mut buffer = Buffer::new();
        let (at, size) = buffer.parts();
        // SAFETY: the options are alive, the buffer has the size given.
        unsafe { sys::rd_kafka_AdminOptions_set_request_timeout(options.as_ptr(), millis(timeout), at, size) };
        Ok(options)
    }

    fn as_ptr(&self) -> *mut sys::rd_kafka_AdminOptions_t {
        self.0.as_ptr()
    }

    fn validate_only(&self, yes: bool) {
        let mut buffer = Buffer::new();
        let (at, size) = buffer.parts();
        // SAFETY: the options are alive, the buffer has the size given.
        unsafe { sys::rd_kafka_AdminOptions_set_validate_only(self.as_ptr(), c_int::from(yes), at, size) };
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: alive, and ours.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.as_ptr()) };
    }
}

/// Native objects that are handed to a call together, and freed after it: the library copies them.
struct Objects<T> {
    all: Vec<*mut T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Objects<T> {
    fn new(destroy: unsafe extern "C" fn(*mut T)) -> Objects<T> {
        Objects { all: Vec::new(), destroy }
    }

    /// Keeps a new object; null is what `error` says.
    fn push(&mut self, object: *mut T, error: &Buffer) -> Result<*mut T, Fault> {
        if object.is_null() {
            return Err(Fault::new(code::INVALID_ARGUMENT, error.text()));
        }
        self.all.push(object);
        Ok(object)
    }

    fn parts(&mut self) -> (*mut *mut T, usize) {
        (self.all.as_mut_ptr(), self.all.len())
    }
}

impl<T> Drop for Objects<T> {
    fn drop(&mut self) {
        for object in &self.all {
            // SAFETY: each is alive, ours, and of the type that the function destroys.
            unsafe { (self.destroy)(*object) };
        }
    }
}

/// A call that is under way with `options`, once `ask` has asked.
fn call<T>(
    client: &Arc<Client>,
    timeout: Duration,
    read: fn(&Answer) -> Result<T, Fault>,
    ask: impl FnOnce(*mut sys::rd_kafka_t, *mut sys::rd_kafka_queue_t),
) -> Call<T> {
    let queue = Queue::new(client);
    client.tidy();
    ask(client.rk(), queue.as_ptr());
    Call { queue, deadline: Instant::now() + timeout + Duration::from_secs(1), read }
}

/// The cluster and its brokers.
pub(super) fn describe_cluster(client: &Arc<Client>, timeout: Duration) -> Result<Call<Cluster>, Fault> {
    let options = Options::new(client, Op::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER, timeout)?;
    // SAFETY: the options are alive and take the flag; an error of it is freed.
    unsafe { Fault::take(sys::rd_kafka_AdminOptions_set_include_authorized_operations(options.as_ptr(), 1)) }?;
    Ok(call(client, timeout, read_cluster, |rk, queue| {
        // SAFETY: client, options and queue are alive.
        unsafe { sys::rd_kafka_DescribeCluster(rk, options.as_ptr(), queue) };
    }))
}

fn read_cluster(answer: &Answer) -> Result<Cluster, Fault> {
    // SAFETY: the event is alive for the whole function, and so is all that its result points to.
    unsafe {
        let result = sys::rd_kafka_event_DescribeCluster_result(answer.as_ptr());
        if result.is_null() {
            return Err(unexpected());
        }
        let mut count = 0;
        let nodes = sys::rd_kafka_DescribeCluster_result_nodes(result, &raw mut count);
        let brokers = elements(nodes, count).iter().map(|node| {
            let rack = Some(text(sys::rd_kafka_Node_rack(*node))).filter(|rack| !rack.is_empty());
            Broker {
                id: sys::rd_kafka_Node_id(*node),
                host: text(sys::rd_kafka_Node_host(*node)),
                port: sys::rd_kafka_Node_port(*node),
                rack,
            }
        });
        let brokers = brokers.collect();
        let controller = sys::rd_kafka_DescribeCluster_result_controller(result);
        let mut count = 0;
        let operations = sys::rd_kafka_DescribeCluster_result_authorized_operations(result, &raw mut count).cast::<c_int>();
        let allowed = if operations.is_null() { &[] } else { std::slice::from_raw_parts(operations, count) };
        Ok(Cluster {
            id: text(sys::rd_kafka_DescribeCluster_result_cluster_id(result)),
            controller: (!controller.is_null()).then(|| sys::rd_kafka_Node_id(controller)),
            brokers,
            operations: allowed.iter().map(|operation| text(raw::acl_operation_name(*operation))).collect(),
        })
    }
}

/// The id and the partitions of topics.
pub(super) fn describe_topics(client: &Arc<Client>, names: &[&str], timeout: Duration) -> Result<Call<Described<Layout>>, Fault> {
    let options = Options::new(client, Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout)?;
    let names = names.iter().map(|name| c_string(name)).collect::<Result<Vec<CString>, Fault>>()?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    Ok(call(client, timeout, read_topics, |rk, queue| {
        // SAFETY: client, options, queue and names are alive; the collection copies the names, and the call the collection.
        unsafe {
            let topics = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            sys::rd_kafka_DescribeTopics(rk, topics, options.as_ptr(), queue);
            sys::rd_kafka_TopicCollection_destroy(topics);
        }
    }))
}

fn read_topics(answer: &Answer) -> Result<Described<Layout>, Fault> {
    // SAFETY: the event is alive for the whole function, and so is all that its result points to.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(answer.as_ptr());
        if result.is_null() {
            return Err(unexpected());
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let described = elements(topics, count).iter().map(|topic| {
            let state = Fault::peek(sys::rd_kafka_TopicDescription_error(*topic)).map_err(TopicError::from).map(|()| {
                let id = sys::rd_kafka_TopicDescription_topic_id(*topic);
                let id = if id.is_null() { String::new() } else { text(sys::rd_kafka_Uuid_base64str(id)) };
                let mut count = 0;
                let partitions = sys::rd_kafka_TopicDescription_partitions(*topic, &raw mut count);
                (id, elements(partitions, count).iter().map(|partition| read_partition(*partition)).collect())
            });
            (text(sys::rd_kafka_TopicDescription_name(*topic)), state)
        });
        Ok(described.collect())
    }
}

/// # Safety
/// `partition` is alive.
unsafe fn read_partition(partition: *const sys::rd_kafka_TopicPartitionInfo_t) -> Partition {
    // SAFETY: as the caller promises; nodes live as long as their partition.
    unsafe {
        let leader = sys::rd_kafka_TopicPartitionInfo_leader(partition);
        let ids = |nodes, count| elements(nodes, count).iter().map(|node| sys::rd_kafka_Node_id(*node)).collect();
        let (mut replicas, mut isr) = (0, 0);
        let replica_nodes = sys::rd_kafka_TopicPartitionInfo_replicas(partition, &raw mut replicas);
        let isr_nodes = sys::rd_kafka_TopicPartitionInfo_isr(partition, &raw mut isr);
        Partition {
            id: sys::rd_kafka_TopicPartitionInfo_partition(partition),
            leader: (!leader.is_null()).then(|| sys::rd_kafka_Node_id(leader)),
            replicas: ids(replica_nodes, replicas),
            isr: ids(isr_nodes, isr),
        }
    }
}

/// All configs of topics.
pub(super) fn describe_configs(
    client: &Arc<Client>,
    topics: &[&str],
    timeout: Duration,
) -> Result<Call<Described<BTreeMap<String, ConfigValue>>>, Fault> {
    let options = Options::new(client, Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout)?;
    let mut resources = topic_resources(topics.iter().copied())?;
    Ok(call(client, timeout, read_configs, |rk, queue| {
        let (all, count) = resources.parts();
        // SAFETY: client, options, queue and resources are alive; the call copies the resources.
        unsafe { sys::rd_kafka_DescribeConfigs(rk, all, count, options.as_ptr(), queue) };
    }))
}

fn topic_resources<'a>(topics: impl IntoIterator<Item = &'a str>) -> Result<Objects<sys::rd_kafka_ConfigResource_t>, Fault> {
    let mut resources = Objects::new(sys::rd_kafka_ConfigResource_destroy);
    for topic in topics {
        let name = c_string(topic)?;
        // SAFETY: the name is alive and copied.
        let resource =
            unsafe { sys::rd_kafka_ConfigResource_new(sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, name.as_ptr()) };
        resources.push(resource, &Buffer::new())?;
    }
    Ok(resources)
}

fn read_configs(answer: &Answer) -> Result<Described<BTreeMap<String, ConfigValue>>, Fault> {
    // SAFETY: the event is alive for the whole function, and so is all that its result points to.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConfigs_result(answer.as_ptr());
        if result.is_null() {
            return Err(unexpected());
        }
        let mut count = 0;
        let resources = sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
        let described = elements(resources, count).iter().map(|resource| {
            let (name, state) = read_resource(*resource);
            let state = state.map(|()| {
                let mut count = 0;
                let entries = sys::rd_kafka_ConfigResource_configs(*resource, &raw mut count);
                elements(entries, count)
                    .iter()
                    .map(|entry| (text(sys::rd_kafka_ConfigEntry_name(*entry)), read_entry(*entry)))
                    .collect()
            });
            (name, state)
        });
        Ok(described.collect())
    }
}

/// # Safety
/// `resource` is alive.
unsafe fn read_resource(resource: *const sys::rd_kafka_ConfigResource_t) -> (String, Result<(), TopicError>) {
    // SAFETY: as the caller promises.
    unsafe {
        let error = refusal(raw::config_resource_error(resource), || text(sys::rd_kafka_ConfigResource_error_string(resource)));
        (text(sys::rd_kafka_ConfigResource_name(resource)), error)
    }
}

/// # Safety
/// `entry` is alive.
unsafe fn read_entry(entry: *const sys::rd_kafka_ConfigEntry_t) -> ConfigValue {
    // SAFETY: as the caller promises; synonyms live as long as their entry.
    unsafe {
        let value = |entry| {
            let value = sys::rd_kafka_ConfigEntry_value(entry);
            (!value.is_null()).then(|| text(value))
        };
        let source = |entry| ConfigSource::from_code(raw::config_entry_source(entry));
        let mut count = 0;
        let synonyms = sys::rd_kafka_ConfigEntry_synonyms(entry, &raw mut count);
        let own = source(entry);
        // Synonyms stand in the order in which they count; what is not the topic's own is what it falls back to.
        let fallback = elements(synonyms, count).iter().find(|synonym| source(**synonym) != ConfigSource::Topic);
        let default = if own == ConfigSource::Topic { fallback.and_then(|synonym| value(*synonym)) } else { value(entry) };
        ConfigValue {
            value: value(entry),
            source: own,
            default,
            sensitive: sys::rd_kafka_ConfigEntry_is_sensitive(entry) > 0,
            read_only: sys::rd_kafka_ConfigEntry_is_read_only(entry) > 0,
        }
    }
}

/// Creates topics, or checks whether they could be created.
pub(super) fn create_topics(
    client: &Arc<Client>,
    topics: &[NewTopic],
    validate_only: bool,
    timeout: Duration,
) -> Result<Call<Answers>, Fault> {
    let options = Options::new(client, Op::RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout)?;
    options.validate_only(validate_only);
    let mut new = Objects::new(sys::rd_kafka_NewTopic_destroy);
    for topic in topics {
        let name = c_string(&topic.name)?;
        let mut buffer = Buffer::new();
        let (at, size) = buffer.parts();
        let replication = topic.replication.map_or(-1, c_int::from);
        // SAFETY: the name is alive and copied, the buffer has the size given.
        let object = unsafe { sys::rd_kafka_NewTopic_new(name.as_ptr(), topic.partitions, replication, at, size) };
        let object = new.push(object, &buffer)?;
        for (key, value) in &topic.config {
            let (key, value) = (c_string(key)?, c_string(value)?);
            // SAFETY: the object is alive; both strings are copied.
            unsafe { sys::rd_kafka_NewTopic_set_config(object, key.as_ptr(), value.as_ptr()) };
        }
    }
    // SAFETY (of the reader): the event is alive while it is read.
    let read = |answer: &Answer| unsafe {
        read_answers(sys::rd_kafka_event_CreateTopics_result(answer.as_ptr()), |result, count| {
            sys::rd_kafka_CreateTopics_result_topics(result, count)
        })
    };
    Ok(call(client, timeout, read, |rk, queue| {
        let (all, count) = new.parts();
        // SAFETY: client, options, queue and topics are alive; the call copies the topics.
        unsafe { sys::rd_kafka_CreateTopics(rk, all, count, options.as_ptr(), queue) };
    }))
}

/// Raises the number of partitions of topics to a total.
pub(super) fn create_partitions(
    client: &Arc<Client>,
    totals: &[(String, i32)],
    validate_only: bool,
    timeout: Duration,
) -> Result<Call<Answers>, Fault> {
    let options = Options::new(client, Op::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS, timeout)?;
    options.validate_only(validate_only);
    let mut new = Objects::new(sys::rd_kafka_NewPartitions_destroy);
    for (topic, total) in totals {
        let name = c_string(topic)?;
        let total = usize::try_from(*total).map_err(|_| Fault::new(code::INVALID_ARGUMENT, format!("{total} partitions")))?;
        let mut buffer = Buffer::new();
        let (at, size) = buffer.parts();
        // SAFETY: the name is alive and copied, the buffer has the size given.
        let object = unsafe { sys::rd_kafka_NewPartitions_new(name.as_ptr(), total, at, size) };
        new.push(object, &buffer)?;
    }
    // SAFETY (of the reader): the event is alive while it is read.
    let read = |answer: &Answer| unsafe {
        read_answers(sys::rd_kafka_event_CreatePartitions_result(answer.as_ptr()), |result, count| {
            sys::rd_kafka_CreatePartitions_result_topics(result, count)
        })
    };
    Ok(call(client, timeout, read, |rk, queue| {
        let (all, count) = new.parts();
        // SAFETY: client, options, queue and partitions are alive; the call copies the partitions.
        unsafe { sys::rd_kafka_CreatePartitions(rk, all, count, options.as_ptr(), queue) };
    }))
}

/// Deletes topics.
pub(super) fn delete_topics(client: &Arc<Client>, topics: &[String], timeout: Duration) -> Result<Call<Answers>, Fault> {
    let options = Options::new(client, Op::RD_KAFKA_ADMIN_OP_DELETETOPICS, timeout)?;
    let mut gone = Objects::new(sys::rd_kafka_DeleteTopic_destroy);
    for topic in topics {
        let name = c_string(topic)?;
        // SAFETY: the name is alive and copied.
        gone.push(unsafe { sys::rd_kafka_DeleteTopic_new(name.as_ptr()) }, &Buffer::new())?;
    }
    // SAFETY (of the reader): the event is alive while it is read.
    let read = |answer: &Answer| unsafe {
        read_answers(sys::rd_kafka_event_DeleteTopics_result(answer.as_ptr()), |result, count| {
            sys::rd_kafka_DeleteTopics_result_topics(result, count)
        })
    };
    Ok(call(client, timeout, read, |rk, queue| {
        let (all, count) = gone.parts();
        // SAFETY: client, options, queue and topics are alive; the call copies the topics.
        unsafe { sys::rd_kafka_DeleteTopics(rk, all, count, options.as_ptr(), queue) };
    }))
}

/// Sets and deletes configs of topics, leaving all others as they are.
pub(super) fn alter_configs(
    client: &Arc<Client>,
    topics: &[(String, Vec<ConfigOp>)],
    validate_only: bool,
    timeout: Duration,
) -> Result<Call<Answers>, Fault> {
    type Type = sys::rd_kafka_AlterConfigOpType_t;
    let options = Options::new(client, Op::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS, timeout)?;
    options.validate_only(validate_only);
    let mut resources = topic_resources(topics.iter().map(|(topic, _)| topic.as_str()))?;
    for (resource, (_, ops)) in resources.all.iter().zip(topics) {
        for op in ops {
            let (key, value, op) = match op {
                ConfigOp::Set(key, value) => (c_string(key)?, Some(c_string(value)?), Type::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET),
                ConfigOp::Delete(key) => (c_string(key)?, None, Type::RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE),
            };
            let value = value.as_ref().map_or(std::ptr::null(), |value| value.as_ptr());
            // SAFETY: the resource is alive; the strings are copied; an error is freed.
            unsafe { Fault::take(sys::rd_kafka_ConfigResource_add_incremental_config(*resource, key.as_ptr(), op, value)) }?;
        }
    }
    let read = |answer: &Answer| {
        // SAFETY: the event is alive for the whole function, and so is all that its result points to.
        unsafe {
            let result = sys::rd_kafka_event_IncrementalAlterConfigs_result(answer.as_ptr());
            if result.is_null() {
                return Err(unexpected());
            }
            let mut count = 0;
            let resources = sys::rd_kafka_IncrementalAlterConfigs_result_resources(result, &raw mut count);
            Ok(elements(resources, count).iter().map(|resource| read_resource(*resource)).collect())
        }
    };
    Ok(call(client, timeout, read, |rk, queue| {
        let (all, count) = resources.parts();
        // SAFETY: client, options, queue and resources are alive; the call copies the resources.
        unsafe { sys::rd_kafka_IncrementalAlterConfigs(rk, all, count, options.as_ptr(), queue) };
    }))
}

/// What an answer about topics says of each.
///
/// # Safety
/// `result` is null or alive, and `topics` returns its living topics.
unsafe fn read_answers<R>(
    result: *const R,
    topics: impl FnOnce(*const R, *mut usize) -> *mut *const sys::rd_kafka_topic_result_t,
) -> Result<Answers, Fault> {
    if result.is_null() {
        return Err(unexpected());
    }
    let mut count = 0;
    let all = topics(result, &raw mut count);
    // SAFETY: as the caller promises.
    let read = |topic: &*const sys::rd_kafka_topic_result_t| unsafe {
        let answer = refusal(raw::topic_result_error(*topic), || text(sys::rd_kafka_topic_result_error_string(*topic)));
        (text(sys::rd_kafka_topic_result_name(*topic)), answer)
    };
    // SAFETY: as the caller promises.
    Ok(unsafe { elements(all, count) }.iter().map(read).collect())
}

fn refusal(code: i32, message: impl FnOnce() -> String) -> Result<(), TopicError> {
    if code == 0 { Ok(()) } else { Err(TopicError::from(Fault::new(code, message()))) }
}

fn unexpected() -> Fault {
    Fault::new(code::INVALID_ARGUMENT, "the library answered something else than was asked")
}

/// Offsets of partitions, in the order in which they are asked for. `committed`: of what is committed only.
pub(super) fn list_offsets(
    client: &Arc<Client>,
    partitions: &[(&str, i32)],
    at: At,
    timeout: Duration,
) -> Result<Call<Offsets>, Fault> {
    type Isolation = sys::rd_kafka_IsolationLevel_t;
    let options = Options::new(client, Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout)?;
    let isolation = match at {
        At::CommittedEnd => Isolation::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
        _ => Isolation::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
    };
    // SAFETY: the options are alive and take the level; an error of it is freed.
    unsafe { Fault::take(sys::rd_kafka_AdminOptions_set_isolation_level(options.as_ptr(), isolation)) }?;
    let spec = match at {
        At::Start => -2,
        At::End | At::CommittedEnd => -1,
        At::Time(ms) => ms.max(0),
    };
    let list = Partitions::new(partitions.iter().map(|(topic, partition)| (*topic, *partition, spec)))?;
    Ok(call(client, timeout, read_offsets, |rk, queue| {
        // SAFETY: client, options, queue and list are alive; the call copies the list.
        unsafe { sys::rd_kafka_ListOffsets(rk, list.0, options.as_ptr(), queue) };
    }))
}

fn read_offsets(answer: &Answer) -> Result<Offsets, Fault> {
    // SAFETY: the event is alive for the whole function, and so is all that its result points to.
    unsafe {
        let result = sys::rd_kafka_event_ListOffsets_result(answer.as_ptr());
        if result.is_null() {
            return Err(unexpected());
        }
        let mut count = 0;
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        let read = |info: &*const sys::rd_kafka_ListOffsetsResultInfo_t| {
            let partition = sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*info);
            let code = (&raw const (*partition).err).cast::<i32>().read();
            let offset = if code == 0 { Ok((*partition).offset) } else { Err(Fault::of(code)) };
            (text((*partition).topic), (*partition).partition, offset)
        };
        Ok(elements(infos, count).iter().map(read).collect())
    }
}

/// The offsets that the client's group has committed; it blocks. The administrative call for it is not used: on a client
/// without a group, the library (2.12) dereferences null when the coordinator is not ready.
pub(super) fn group_offsets(client: &Client, partitions: &[(&str, i32)], timeout: Duration) -> Result<Offsets, Fault> {
    let list = Partitions::new(partitions.iter().map(|(topic, partition)| (*topic, *partition, -1001)))?;
    // SAFETY: the client and the list are alive.
    let code = unsafe { sys::rd_kafka_committed(client.rk(), list.0, millis(timeout)) } as i32;
    // SAFETY: the list is alive.
    if code == 0 { Ok(unsafe { Partitions::read(list.0) }) } else { Err(Fault::of(code)) }
}

/// The names of all topics. It blocks; the library has no other way.
pub(super) fn topic_names(client: &Client, timeout: Duration) -> Result<Vec<String>, Fault> {
    metadata(client, true, timeout, |found| {
        let count = usize::try_from(found.topic_cnt).unwrap_or(0);
        // SAFETY: the object has that many topics; only their names are read.
        (0..count).map(|at| unsafe { text((*found.topics.add(at)).topic) }).collect()
    })
}

/// Waits until one of the cluster's brokers has answered. To be called before the library looks for the leader of a partition
/// or for a coordinator: it (2.12) looks at once, in vain while nothing is connected, and then not for three seconds, or half a
/// second. That what it was bootstrapped with has answered is not enough: that connection is closed as soon as the brokers'
/// addresses are known.
pub(super) fn reach(client: &Client, timeout: Duration) -> Result<(), Fault> {
    if client.reached.load(Ordering::Relaxed) {
        return Ok(());
    }
    let deadline = Instant::now() + timeout;
    // It may answer a few times more before it closes; where it stays, it serves.
    for _ in 0..10 {
        let left = deadline.saturating_duration_since(Instant::now());
        if metadata(client, false, left, |found| found.orig_broker_id)? >= 0 {
            break;
        }
    }
    client.reached.store(true, Ordering::Relaxed);
    Ok(())
}

/// Asks a broker for the metadata of all topics, or of those only that the client uses, and takes out of it what `read` wants.
fn metadata<T>(
    client: &Client,
    all: bool,
    timeout: Duration,
    read: impl FnOnce(&sys::rd_kafka_metadata) -> T,
) -> Result<T, Fault> {
    let mut metadata: *const sys::rd_kafka_metadata = std::ptr::null();
    let answer = &raw mut metadata;
    // SAFETY: the client is alive, `metadata` is written only when there is no error.
    let code =
        unsafe { sys::rd_kafka_metadata(client.rk(), i32::from(all), std::ptr::null_mut(), answer, millis(timeout)) } as i32;
    // SAFETY: null, or a living object that is ours.
    let Some(found) = (unsafe { metadata.as_ref() }) else { return Err(Fault::of(code)) };
    let found = read(found);
    // SAFETY: ours, and not used any more.
    unsafe { sys::rd_kafka_metadata_destroy(metadata) };
    Ok(found)
}

/// An ACL, or a filter when a part is left out.
fn binding(acl: &AclFilter) -> Result<Objects<sys::rd_kafka_AclBinding_t>, Fault> {
    let optional = |value: &Option<String>| value.as_deref().map(c_string).transpose();
    let (name, principal, host) = (optional(&acl.name)?, optional(&acl.principal)?, optional(&acl.host)?);
    let pointer = |value: &Option<CString>| value.as_ref().map_or(std::ptr::null(), |value| value.as_ptr());
    let mut buffer = Buffer::new();
    let (at, size) = buffer.parts();
    let mut bindings = Objects::new(sys::rd_kafka_AclBinding_destroy);
    // SAFETY: the strings are null or alive, and copied; the buffer has the size given.
    let object = unsafe {
        sys::rd_kafka_AclBindingFilter_new(
            resource_type(acl.resource),
            pointer(&name),
            pattern_type(acl.pattern),
            pointer(&principal),
            pointer(&host),
            operation_type(acl.operation),
            permission_type(acl.permission),
            at,
            size,
        )
    };
    bindings.push(object, &buffer)?;
    Ok(bindings)
}

fn resource_type(resource: Option<Resource>) -> sys::rd_kafka_ResourceType_t {
    use sys::rd_kafka_ResourceType_t as T;
    match resource {
        None => T::RD_KAFKA_RESOURCE_ANY,
        Some(Resource::Topic) => T::RD_KAFKA_RESOURCE_TOPIC,
        Some(Resource::Group) => T::RD_KAFKA_RESOURCE_GROUP,
        Some(Resource::Cluster) => T::RD_KAFKA_RESOURCE_BROKER,
        Some(Resource::TransactionalId) => T::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID,
    }
}

fn pattern_type(pattern: Option<Pattern>) -> sys::rd_kafka_ResourcePatternType_t {
    use sys::rd_kafka_ResourcePatternType_t as T;
    match pattern {
        None => T::RD_KAFKA_RESOURCE_PATTERN_ANY,
        Some(Pattern::Literal) => T::RD_KAFKA_RESOURCE_PATTERN_LITERAL,
        Some(Pattern::Prefixed) => T::RD_KAFKA_RESOURCE_PATTERN_PREFIXED,
    }
}

fn permission_type(permission: Option<Permission>) -> sys::rd_kafka_AclPermissionType_t {
    use sys::rd_kafka_AclPermissionType_t as T;
    match permission {
        None => T::RD_KAFKA_ACL_PERMISSION_TYPE_ANY,
        Some(Permission::Allow) => T::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
        Some(Permission::Deny) => T::RD_KAFKA_ACL_PERMISSION_TYPE_DENY,
    }
}

fn operation_type(operation: Option<Operation>) -> sys::rd_kafka_AclOperation_t {
    use sys::rd_kafka_AclOperation_t as T;
    match operation {
        None => T::RD_KAFKA_ACL_OPERATION_ANY,
        Some(Operation::All) => T::RD_KAFKA_ACL_OPERATION_ALL,
        Some(Operation::Read) => T::RD_KAFKA_ACL_OPERATION_READ,
        Some(Operation::Write) => T::RD_KAFKA_ACL_OPERATION_WRITE,
        Some(Operation::Create) => T::RD_KAFKA_ACL_OPERATION_CREATE,
        Some(Operation::Delete) => T::RD_KAFKA_ACL_OPERATION_DELETE,
        Some(Operation::Alter) => T::RD_KAFKA_ACL_OPERATION_ALTER,
        Some(Operation::Describe) => T::RD_KAFKA_ACL_OPERATION_DESCRIBE,
        Some(Operation::ClusterAction) => T::RD_KAFKA_ACL_OPERATION_CLUSTER_ACTION,
        Some(Operation::DescribeConfigs) => T::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS,
        Some(Operation::AlterConfigs) => T::RD_KAFKA_ACL_OPERATION_ALTER_CONFIGS,
        Some(Operation::IdempotentWrite) => T::RD_KAFKA_ACL_OPERATION_IDEMPOTENT_WRITE,
    }
}

/// An ACL that Kafka told of; `None` for kinds that mesh has no name for.
///
/// # Safety
/// `acl` is alive.
unsafe fn read_acl(acl: *const sys::rd_kafka_AclBinding_t) -> Option<Acl> {
    // SAFETY: as the caller promises.
    unsafe {
        Some(Acl {
            principal: text(sys::rd_kafka_AclBinding_principal(acl)),
            host: text(sys::rd_kafka_AclBinding_host(acl)),
            operation: Operation::ALL_KINDS.into_iter().find(|o| operation_type(Some(*o)) as i32 == raw::acl_operation(acl))?,
            permission: Permission::ALL.into_iter().find(|p| permission_type(Some(*p)) as i32 == raw::acl_permission(acl))?,
            resource: Resource::ALL.into_iter().find(|r| resource_type(Some(*r)) as i32 == raw::acl_resource(acl))?,
            name: text(sys::rd_kafka_AclBinding_name(acl)),
            pattern: Pattern::ALL.into_iter().find(|p| pattern_type(Some(*p)) as i32 == raw::acl_pattern(acl))?,
        })
    }
}

/// Creates ACLs; the answers stand in the order of the ACLs.
pub(super) fn create_acls(
    client: &Arc<Client>,
    acls: &[Acl],
    timeout: Duration,
) -> Result<Call<Vec<Result<(), TopicError>>>, Fault> {
    let options = Options::new(client, Op::RD_KAFKA_ADMIN_OP_CREATEACLS, timeout)?;
    let bindings = acls.iter().map(|acl| binding(&AclFilter::from(acl))).collect::<Result<Vec<_>, Fault>>()?;
    let mut all: Vec<_> = bindings.iter().flat_map(|one| one.all.iter().copied()).collect();
    let read = |answer: &Answer| {
        // SAFETY: the event is alive for the whole function, and so is all that its result points to.
        unsafe {
            let result = sys::rd_kafka_event_CreateAcls_result(answer.as_ptr());
            if result.is_null() {
                return Err(unexpected());
            }
            let mut count = 0;
            let acls = sys::rd_kafka_CreateAcls_result_acls(result, &raw mut count);
            Ok(elements(acls, count)
                .iter()
                .map(|acl| Fault::peek(sys::rd_kafka_acl_result_error(*acl)).map_err(TopicError::from))
                .collect())
        }
    };
    Ok(call(client, timeout, read, |rk, queue| {
        // SAFETY: client, options, queue and ACLs are alive; the call copies the ACLs.
        unsafe { sys::rd_kafka_CreateAcls(rk, all.as_mut_ptr(), all.len(), options.as_ptr(), queue) };
    }))
}

/// The ACLs that match a filter.
pub(super) fn describe_acls(client: &Arc<Client>, filter: &AclFilter, timeout: Duration) -> Result<Call<Vec<Acl>>, Fault> {
    let options = Options::new(client, Op::RD_KAFKA_ADMIN_OP_DESCRIBEACLS, timeout)?;
    let filter = binding(filter)?;
    let read = |answer: &Answer| {
        // SAFETY: the event is alive for the whole function, and so is all that its result points to.
        unsafe {
            let result = sys::rd_kafka_event_DescribeAcls_result(answer.as_ptr());
            if result.is_null() {
                return Err(unexpected());
            }
            let mut count = 0;
            let acls = sys::rd_kafka_DescribeAcls_result_acls(result, &raw mut count);
            Ok(elements(acls, count).iter().filter_map(|acl| read_acl(*acl)).collect())
        }
    };
    Ok(call(client, timeout, read, |rk, queue| {
        for filter in &filter.all {
            // SAFETY: client, options, queue and filter are alive; the call copies the filter.
            unsafe { sys::rd_kafka_DescribeAcls(rk, *filter, options.as_ptr(), queue) };
        }
    }))
}

/// Deletes all ACLs that match one of the filters; what was deleted, by filter.
pub(super) fn delete_acls(client: &Arc<Client>, filters: &[AclFilter], timeout: Duration) -> Result<Call<Deleted>, Fault> {
    let options = Options::new(client, Op::RD_KAFKA_ADMIN_OP_DELETEACLS, timeout)?;
    let bindings = filters.iter().map(binding).collect::<Result<Vec<_>, Fault>>()?;
    let mut all: Vec<_> = bindings.iter().flat_map(|one| one.all.iter().copied()).collect();
    let read = |answer: &Answer| {
        // SAFETY: the event is alive for the whole function, and so is all that its result points to.
        unsafe {
            let result = sys::rd_kafka_event_DeleteAcls_result(answer.as_ptr());
            if result.is_null() {
                return Err(unexpected());
            }
            let mut count = 0;
            let responses = sys::rd_kafka_DeleteAcls_result_responses(result, &raw mut count);
            let read = |response: &*const sys::rd_kafka_DeleteAcls_result_response_t| {
                Fault::peek(sys::rd_kafka_DeleteAcls_result_response_error(*response)).map_err(TopicError::from)?;
                let mut count = 0;
                let acls = sys::rd_kafka_DeleteAcls_result_response_matching_acls(*response, &raw mut count);
                Ok(elements(acls, count).iter().filter_map(|acl| read_acl(*acl)).collect())
            };
            Ok(elements(responses, count).iter().map(read).collect())
        }
    };
    Ok(call(client, timeout, read, |rk, queue| {
        // SAFETY: client, options, queue and filters are alive; the call copies the filters.
        unsafe { sys::rd_kafka_DeleteAcls(rk, all.as_mut_ptr(), all.len(), options.as_ptr(), queue) };
    }))
}

// ---- Topics ------------------------------------------------------------------------------------------------------------

/// A topic of a client.
struct Topic {
    name: String,
    rkt: *mut sys::rd_kafka_topic_t,
}

// SAFETY: the library's topics may be used by any thread, as its documentation says.
unsafe impl Send for Topic {}
// SAFETY: the same.
unsafe impl Sync for Topic {}

impl Topic {
    fn new(client: &Client, name: &str) -> Result<Topic, Fault> {
        let native = c_string(name)?;
        // SAFETY: the client and the name are alive; the name is copied.
        let rkt = unsafe { sys::rd_kafka_topic_new(client.rk(), native.as_ptr(), std::ptr::null_mut()) };
        if rkt.is_null() { Err(last_error()) } else { Ok(Topic { name: name.to_owned(), rkt }) }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: alive, ours, and not used any more; whoever owns it holds the client, too.
        unsafe { sys::rd_kafka_topic_destroy(self.rkt) };
    }
}

// ---- Reading: partitions of any topics fill one queue, which is emptied in batches -------------------------------------

/// The partitions that are read, and the queue they fill.
pub(super) struct Fetch {
    topics: Vec<Topic>,
    started: Vec<(usize, i32)>,
    queue: Queue,
    client: Arc<Client>,
}

impl Fetch {
    /// Records of a topic are known by its place in `topics`, the first one if it is named twice.
    pub(super) fn new(client: &Arc<Client>, topics: &[String]) -> Result<Fetch, Fault> {
        let mut fetch = Fetch { topics: Vec::new(), started: Vec::new(), queue: Queue::new(client), client: client.clone() };
        for name in topics {
            fetch.topics.push(Topic::new(client, name)?);
        }
        Ok(fetch)
    }

    fn name(&self, topic: usize) -> Option<&str> {
        self.topics.get(topic).map(|topic| topic.name.as_str())
    }

    /// Starts to read a partition at an offset.
    pub(super) fn start(&mut self, topic: usize, partition: i32, offset: i64) -> Result<(), Fault> {
        let rkt = self.topics.get(topic).ok_or_else(unknown_topic)?.rkt;
        // SAFETY: topic and queue are alive.
        if unsafe { sys::rd_kafka_consume_start_queue(rkt, partition, offset, self.queue.as_ptr()) } != 0 {
            return Err(last_error());
        }
        self.started.push((topic, partition));
        Ok(())
    }

    /// Moves a partition that is read to another offset; what waits in the queue is forgotten.
    pub(super) fn seek(&self, topic: usize, partition: i32, offset: i64, timeout: Duration) -> Result<(), Fault> {
        let name = self.name(topic).ok_or_else(unknown_topic)?;
        let list = Partitions::new([(name, partition, offset)])?;
        // SAFETY: client and list are alive; an error is freed.
        unsafe { Fault::take(sys::rd_kafka_seek_partitions(self.client.rk(), list.0, millis(timeout))) }?;
        // SAFETY: the list is alive.
        unsafe { Partitions::read(list.0) }.into_iter().try_for_each(|(_, _, offset)| offset.map(|_| ()))
    }

    /// Stops the flow of a partition, or lets it flow again from where it was.
    pub(super) fn pause(&self, topic: usize, partition: i32, pause: bool) -> Result<(), Fault> {
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
    pub(super) async fn ready(&self) {
        self.queue.wake.notified().await;
    }

    /// What has come: waits for the first record until `timeout`, and takes at most `max` that are there.
    pub(super) fn poll(&mut self, timeout: Duration, max: usize) -> Result<Polled, Fault> {
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
                        _ => fault = fault.or_else(|| Some(Fault::new(code, text(sys::rd_kafka_message_errstr(at))))),
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
    }
}

fn unknown_topic() -> Fault {
    Fault::new(code::INVALID_ARGUMENT, "the topic is not one of this reader's")
}

fn last_error() -> Fault {
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
        static PARSE: Mutex<()> = Mutex::new(());
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
                    found.push((text(name), bytes(value.cast(), size)));
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

// ---- Writing: a producer with transactions -----------------------------------------------------------------------------

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
pub(super) struct Writer {
    topics: Vec<Topic>,
    last: usize,
    client: Arc<Client>,
}

impl Writer {
    pub(super) fn new(client: &Arc<Client>) -> Writer {
        Writer { topics: Vec::new(), last: 0, client: client.clone() }
    }

    fn topic(&mut self, name: &str) -> Result<*mut sys::rd_kafka_topic_t, Fault> {
        if let Some(topic) = self.topics.get(self.last).filter(|topic| topic.name == name) {
            return Ok(topic.rkt);
        }
        if let Some(at) = self.topics.iter().position(|topic| topic.name == name) {
            self.last = at;
        } else {
            self.last = self.topics.len();
            self.topics.push(Topic::new(&self.client, name)?);
        }
        self.topics.get(self.last).map(|topic| topic.rkt).ok_or_else(|| Fault::of(code::INVALID_ARGUMENT))
    }

    /// The offset after the last record that this producer has written to a partition.
    pub(super) fn end(&self, topic: &str, partition: i32) -> Option<i64> {
        let topic = self.topics.iter().find(|known| known.name == topic)?;
        self.client.signs.written().get(topic.rkt, partition)
    }

    /// Hands a record over, which is copied; blocks while the library's queue is full.
    pub(super) fn send(
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
    pub(super) fn flush(&self, timeout: Duration) -> Result<(), Fault> {
        // SAFETY: the client is alive.
        let code = unsafe { sys::rd_kafka_flush(self.client.rk(), millis(timeout)) } as i32;
        if code == 0 { Ok(()) } else { Err(Fault::of(code)) }
    }

    /// Takes over the transactional id: fences its former owner and ends what that left open.
    pub(super) fn init(&self, timeout: Duration) -> Result<(), Fault> {
        let deadline = Instant::now() + timeout;
        reach(&self.client, timeout)?;
        let timeout = deadline.saturating_duration_since(Instant::now());
        // SAFETY: the client is alive; an error is freed.
        unsafe { Fault::take(sys::rd_kafka_init_transactions(self.client.rk(), millis(timeout))) }
    }

    pub(super) fn begin(&self) -> Result<(), Fault> {
        self.client.tidy();
        // SAFETY: the client is alive; an error is freed.
        unsafe { Fault::take(sys::rd_kafka_begin_transaction(self.client.rk())) }
    }

    /// Adds a group's offsets to the transaction, for a group without members.
    pub(super) fn send_offsets(&self, group: &str, offsets: &[(String, i32, i64)], timeout: Duration) -> Result<(), Fault> {
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
    pub(super) fn commit(&self) -> Result<(), Fault> {
        // SAFETY: the client is alive; an error is freed.
        unsafe { Fault::take(sys::rd_kafka_commit_transaction(self.client.rk(), -1)) }
    }

    /// Aborts; waits as long as the transaction may live.
    pub(super) fn abort(&self) -> Result<(), Fault> {
        // SAFETY: the client is alive; an error is freed.
        unsafe { Fault::take(sys::rd_kafka_abort_transaction(self.client.rk(), -1)) }
    }
}

fn argument(vtype: Kind, u: Value) -> sys::rd_kafka_vu_t {
    sys::rd_kafka_vu_t { vtype, u }
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
