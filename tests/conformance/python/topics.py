"""Topics: create with every option, describe, add partitions, delete, and what is refused."""
from confluent_kafka import TopicCollection
from confluent_kafka.admin import NewPartitions, NewTopic

from kit import PATIENCE, admin, each, named, part, settled, told, until

client = admin()


def create(label, *topics, **options):
    each(label, client.create_topics(list(topics), request_timeout=PATIENCE, **options))


def described(description):
    partitions = [f"{p.id}: leader {p.leader.id} replicas {[n.id for n in p.replicas]} isr {[n.id for n in p.isr]}" for p in description.partitions]
    operations = sorted(o.name for o in description.authorized_operations or [])
    identified = "with an id" if str(description.topic_id) != "AAAAAAAAAAAAAAAAAAAAAA" else "without an id"
    return f"{identified}, internal {description.is_internal}, {operations}, {partitions}"


def describe(label, *names, **options):
    each(label, client.describe_topics(TopicCollection(list(names)), **options), described)


def topic_id(name):
    return str(client.describe_topics(TopicCollection([name]))[name].result(PATIENCE).topic_id)


part("create")
a, b, c, d, e = (named(f"topics-{letter}") for letter in "abcde")
create("two", NewTopic(a, 3, 1), NewTopic(b, 1, 1, config={"cleanup.policy": "compact", "retention.ms": "1000"}))
create("again", NewTopic(a, 3, 1))
create("defaults", NewTopic(c, -1, -1))
create("assigned", NewTopic(d, 2, replica_assignment=[[1], [1]]))
create("one good, one bad", NewTopic(e, 1, 1), NewTopic(named("topics_bad"), 0, 1))
settled(client, a, b, c, d, e)
describe("describe", a, b, c, d, e)

part("validate only")
ghost = named("topics-ghost")
create("fine", NewTopic(ghost, 2, 1), validate_only=True)
create("exists", NewTopic(a, 2, 1), validate_only=True)
create("bad config", NewTopic(ghost, 2, 1, config={"retention.ms": "soon"}), validate_only=True)
describe("ghost", ghost)

part("names")
for name in ("", ".", "..", "with space", "slash/name", "semi;colon", "ünïcode", "n" * 249 , "n" * 250):
    label = name if len(name) < 20 else f"{len(name)} letters"
    future = client.create_topics([NewTopic(name, 1, 1)], validate_only=True, request_timeout=PATIENCE)
    told(f"name {label!r}", lambda: future[name].result(PATIENCE))
dotted = named("topics-col_lision")
create("with _", NewTopic(dotted, 1, 1))
create("the same with .", NewTopic(dotted.replace("_", "."), 1, 1))

part("counts")
for partitions, replicas in ((0, 1), (-2, 1), (1, 2), (1, 0), (1, -2), (1, 32000)):
    told(f"{partitions} partitions, {replicas} replicas",
         lambda: client.create_topics([NewTopic(ghost, partitions, replicas)], validate_only=True)[ghost].result(PATIENCE))
for assignment in ([[99]], [[1, 1]], [[]], [[1], []], [[1], [1, 2]], [[-1]]):
    told(f"assignment {assignment}", lambda: client.create_topics(
        [NewTopic(ghost, len(assignment), replica_assignment=assignment)], validate_only=True)[ghost].result(PATIENCE))

part("configs at creation")
for config in ({"nonsense": "1"}, {"retention.ms": "-2"}, {"retention.ms": "ten"}, {"cleanup.policy": "shred"}, {"cleanup.policy": "compact,delete"},
               {"min.insync.replicas": "0"}, {"max.message.bytes": "-1"}, {"compression.type": "brotli"}, {"segment.bytes": "13"},
               {"min.cleanable.dirty.ratio": "1.5"}, {"message.timestamp.type": "Whenever"}, {"unclean.leader.election.enable": "maybe"},
               {"compression.type": "gzip", "compression.gzip.level": "12"}, {"retention.bytes": ""}, {"follower.replication.throttled.replicas": "*"},
               {"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"}, {"local.retention.ms": "10", "retention.ms": "5"},
               {"remote.storage.enable": "true"}, {"preallocate": "TRUE"}, {"segment.ms": "9223372036854775808"}, {"message.format.version": "2.8"}):
    told(f"{config}", lambda: client.create_topics([NewTopic(ghost, 1, 1, config=config)], validate_only=True)[ghost].result(PATIENCE))

part("partitions")
def partitions(label, *new, **options):
    each(label, client.create_partitions(list(new), request_timeout=PATIENCE, **options))

partitions("more", NewPartitions(a, 5))
partitions("as many", NewPartitions(a, 5))
partitions("fewer", NewPartitions(a, 2))
partitions("validate only", NewPartitions(a, 9), validate_only=True)
partitions("unknown", NewPartitions(ghost, 2))
partitions("assigned", NewPartitions(b, 2, [[1]]))
partitions("assigned twice", NewPartitions(b, 3, [[1], [1]]))
partitions("assigned to nobody", NewPartitions(b, 3, [[7]]))
until(lambda: len(client.list_topics(a, PATIENCE).topics[a].partitions) == 5 and len(client.list_topics(b, PATIENCE).topics[b].partitions) == 2)
describe("describe", a, b)
describe("operations", a, include_authorized_operations=True)

part("metadata")
metadata = client.list_topics(a, PATIENCE).topics[a]
told("partitions", lambda: sorted((p.id, p.leader, p.replicas, p.isrs, str(p.error)) for p in metadata.partitions.values()))
metadata = client.list_topics(ghost, PATIENCE).topics[ghost]
told("unknown", lambda: (metadata.error.name(), metadata.partitions))
told("all of them", lambda: sorted(name for name in client.list_topics(timeout=PATIENCE).topics if name.endswith(a.split(".")[-1])))
told("invalid", lambda: client.list_topics("a b", PATIENCE).topics["a b"].error.name())

part("delete")
before = topic_id(a)
told("id stays", lambda: topic_id(a) == before)
each("delete", client.delete_topics([a, b, ghost], operation_timeout=10))
settled(client, gone=[a, b])
describe("describe", a)
create("create again", NewTopic(a, 1, 1))
settled(client, a)
told("id is another", lambda: topic_id(a) != before)
describe("describe", a)
each("delete again", client.delete_topics([a, b, c, d, e, dotted], operation_timeout=10))
settled(client, gone=[a, c, d, e, dotted])
told("left", lambda: sorted(name for name in client.list_topics(timeout=PATIENCE).topics if name.endswith(a.split(".")[-1])))
