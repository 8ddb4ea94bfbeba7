//! Administration: each function asks one thing and returns the call that is under way.

use std::collections::BTreeMap;
use std::ffi::{CString, c_int};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Answer, Buffer, Call, Client, Fault, Offsets, Partitions, Queue, c_string, elements, millis, raw, sys, text};
use crate::kafka::admin::{
    Acl, AclFilter, Answers, At, Broker, Cluster, ConfigOp, ConfigSource, ConfigValue, NewTopic, Operation, Partition, Pattern,
    Permission, Resource, TopicError,
};
use crate::kafka::error::code;

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
pub(in crate::kafka) fn describe_cluster(client: &Arc<Client>, timeout: Duration) -> Result<Call<Cluster>, Fault> {
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
pub(in crate::kafka) fn describe_topics(
    client: &Arc<Client>,
    names: &[&str],
    timeout: Duration,
) -> Result<Call<Described<Layout>>, Fault> {
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
pub(in crate::kafka) fn describe_configs(
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
pub(in crate::kafka) fn create_topics(
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
pub(in crate::kafka) fn create_partitions(
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
pub(in crate::kafka) fn delete_topics(
    client: &Arc<Client>,
    topics: &[String],
    timeout: Duration,
) -> Result<Call<Answers>, Fault> {
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
pub(in crate::kafka) fn alter_configs(
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
pub(in crate::kafka) fn list_offsets(
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
pub(in crate::kafka) fn group_offsets(client: &Client, partitions: &[(&str, i32)], timeout: Duration) -> Result<Offsets, Fault> {
    let list = Partitions::new(partitions.iter().map(|(topic, partition)| (*topic, *partition, -1001)))?;
    // SAFETY: the client and the list are alive.
    let code = unsafe { sys::rd_kafka_committed(client.rk(), list.0, millis(timeout)) } as i32;
    // SAFETY: the list is alive.
    if code == 0 { Ok(unsafe { Partitions::read(list.0) }) } else { Err(Fault::of(code)) }
}

/// The names of all topics. It blocks; the library has no other way.
pub(in crate::kafka) fn topic_names(client: &Client, timeout: Duration) -> Result<Vec<String>, Fault> {
    let mut metadata: *const sys::rd_kafka_metadata = std::ptr::null();
    // SAFETY: the client is alive, `metadata` is written only when there is no error.
    let code = unsafe { sys::rd_kafka_metadata(client.rk(), 1, std::ptr::null_mut(), &raw mut metadata, millis(timeout)) } as i32;
    // SAFETY: null, or a living object that is ours.
    let Some(found) = (unsafe { metadata.as_ref() }) else { return Err(Fault::of(code)) };
    let count = usize::try_from(found.topic_cnt).unwrap_or(0);
    // SAFETY: the object has that many topics; only their names are read.
    let names = (0..count).map(|at| unsafe { text((*found.topics.add(at)).topic) }).collect();
    // SAFETY: ours, and not used any more.
    unsafe { sys::rd_kafka_metadata_destroy(metadata) };
    Ok(names)
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
pub(in crate::kafka) fn create_acls(
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
pub(in crate::kafka) fn describe_acls(
    client: &Arc<Client>,
    filter: &AclFilter,
    timeout: Duration,
) -> Result<Call<Vec<Acl>>, Fault> {
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
pub(in crate::kafka) fn delete_acls(
    client: &Arc<Client>,
    filters: &[AclFilter],
    timeout: Duration,
) -> Result<Call<Deleted>, Fault> {
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
