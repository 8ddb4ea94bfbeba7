"""Groups and their offsets as an administrator sees them; offsets of logs by specification; records deleted."""
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, ConsumerGroupType, IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec

from kit import PATIENCE, RUN, Polling, admin, consumer, each, named, part, producer, read, record, sent, told, topic, until

client = admin()
name = topic("offsets", 3)
other = topic("offsets-other")
group = named("offsets-group")
writer = producer()
for p in range(3):
    sent(writer, name, [{"value": f"{p}-{i}", "partition": p, "timestamp": 1_700_000_000_000 + i * 1000} for i in range(10)])


def committed_text(result):
    return [(p.topic, p.partition, p.offset, p.metadata and p.metadata[:20], p.error and p.error.name()) for p in sorted(result.topic_partitions, key=lambda p: (p.topic, p.partition))]


def offsets(label, of=group, partitions=None, **options):
    each(label, client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(of, partitions)], **options), committed_text)


def alter(label, partitions, of=group):
    each(label, client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(of, partitions)]), committed_text)


def group_text(g):
    members = sorted(f"{m.client_id} {sorted((p.topic, p.partition) for p in m.assignment.topic_partitions)} instance {m.group_instance_id}" for m in g.members)
    return f"{g.state.name} {g.type.name if g.type else None} simple {g.is_simple_consumer_group} assignor {g.partition_assignor!r} {members} {sorted(o.name for o in g.authorized_operations or [])} at {g.coordinator.id}"


def listing(label, **options):
    told(label, lambda: sorted(f"{g.group_id} {g.state.name} {g.type.name} simple {g.is_simple_consumer_group}"
                               for g in client.list_consumer_groups(**options).result(PATIENCE).valid if RUN in g.group_id))


part("offsets without a group")
offsets("unknown group")
alter("alter", [TopicPartition(name, 0, 4), TopicPartition(name, 1, 5), TopicPartition(name, 2, 6, metadata="note")])
offsets("list")
offsets("some", partitions=[TopicPartition(name, 1), TopicPartition(name, 9), TopicPartition(named("offsets-ghost"), 0)])
offsets("stable", require_stable=True)
alter("beyond the end", [TopicPartition(name, 0, 4000)])
alter("back", [TopicPartition(name, 0, 10)])
alter("no such partition", [TopicPartition(name, 9, 1)])
alter("no such topic", [TopicPartition(named("offsets-ghost"), 0, 1)])
alter("long metadata", [TopicPartition(name, 0, 5, metadata="m" * 5000)])
each("describe", client.describe_consumer_groups([group], include_authorized_operations=True), group_text)
listing("list")

part("a group with a member")
member = Polling(group, [name], client_id="offsets-member")
until(lambda: len(member.records) == 9 and len(member.assignment) == 3, what="records")
told("starts from what is committed", lambda: [min((m.offset() for m in member.records if m.partition() == p), default=None) for p in range(3)])
each("describe", client.describe_consumer_groups([group]), group_text)
listing("stable", states={ConsumerGroupState.STABLE})
listing("empty", states={ConsumerGroupState.EMPTY})
listing("classic", types={ConsumerGroupType.CLASSIC})
listing("consumer", types={ConsumerGroupType.CONSUMER})
alter("while it is used", [TopicPartition(name, 0, 1)])
each("delete", client.delete_consumer_groups([group]))
told("commit", lambda: [(p.partition, p.offset) for p in sorted(member.does(lambda c: c.commit(offsets=[TopicPartition(name, p, 10) for p in range(3)], asynchronous=False)), key=lambda p: p.partition)])
offsets("list")
member.leave()
each("describe", client.describe_consumer_groups([group]), group_text)
listing("empty", states={ConsumerGroupState.EMPTY})
each("delete", client.delete_consumer_groups([group, named("offsets-nobody")]))
each("describe", client.describe_consumer_groups([group]), group_text)
offsets("list")

part("offsets of logs")
def log_offsets(label, spec, partitions=(0,), of=name, **options):
    futures = client.list_offsets({TopicPartition(of, p): spec for p in partitions}, **options)
    for at in sorted(futures, key=lambda p: p.partition):
        told(f"{label} {at.partition}", lambda: (lambda r: (r.offset, r.timestamp if r.timestamp < 1_710_000_000_000 else "now"))(futures[at].result(PATIENCE)))

log_offsets("earliest", OffsetSpec.earliest(), (0, 1, 2))
log_offsets("latest", OffsetSpec.latest(), (0, 9))
log_offsets("latest committed", OffsetSpec.latest(), isolation_level=IsolationLevel.READ_COMMITTED)
log_offsets("max timestamp", OffsetSpec.max_timestamp())
log_offsets("max timestamp of nothing", OffsetSpec.max_timestamp(), of=other)
for at in (0, 1_700_000_000_000, 1_700_000_004_500, 1_700_000_009_000, 1_700_000_009_001):
    log_offsets(f"for {at}", OffsetSpec.for_timestamp(at))
log_offsets("unknown topic", OffsetSpec.latest(), of=named("offsets-ghost"))
watch = consumer(group)
told("watermarks", lambda: watch.get_watermark_offsets(TopicPartition(name, 0), PATIENCE))
told("for times", lambda: [(p.partition, p.offset) for p in watch.offsets_for_times([TopicPartition(name, p, 1_700_000_003_500 + p * 4000) for p in range(3)], PATIENCE)])

part("records deleted")
def delete(label, *partitions):
    each(label, {f"{p.partition}": f for p, f in client.delete_records(list(partitions)).items()}, lambda r: r.low_watermark)

delete("up to 4 and all", TopicPartition(name, 0, 4), TopicPartition(name, 1, -1))
delete("less", TopicPartition(name, 0, 2))
delete("beyond the end", TopicPartition(name, 0, 11))
delete("negative", TopicPartition(name, 0, -7))
delete("unknown", TopicPartition(name, 9, 1))
delete("unknown topic", TopicPartition(named("offsets-ghost"), 0, 1))
log_offsets("earliest", OffsetSpec.earliest(), (0, 1, 2))
log_offsets("for 0", OffsetSpec.for_timestamp(0), (0, 1))
for message in read(name, (0, 1)):
    print(record(message))
watch.assign([TopicPartition(name, 0, 2)])
told("from a deleted offset", lambda: record(watch.poll(PATIENCE)))
watch.close()
