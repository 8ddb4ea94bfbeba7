"""Consuming without help of others: positions, seeks, times, pauses, resets, commits, and group protocols with one member."""
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException, TopicPartition

from kit import PATIENCE, Polling, consumer, named, part, polled, producer, read, record, sent, told, topic, until

name = topic("consume", 2)
writer = producer()
for p in (0, 1):
    sent(writer, name, [{"key": f"k{i}", "value": f"{p}-{i}", "partition": p, "timestamp": 1_700_000_000_000 + 1000 * i} for i in range(20)])


def at(partition, offset=-1001):
    return TopicPartition(name, partition, offset)


part("positions and seeks")
client = consumer(named("consume-a"), enable_auto_offset_store=False)
client.assign([at(0, OFFSET_BEGINNING)])
told("first", lambda: [record(m) for m in polled(client, 3)])
told("position", lambda: [p.offset for p in client.position([at(0)])])
client.seek(at(0, 17))
told("after a seek", lambda: [record(m) for m in polled(client, 3)])
client.seek(at(0, OFFSET_BEGINNING))
told("from the beginning", lambda: [record(m) for m in polled(client, 1)])
times = client.offsets_for_times([at(0, 1_700_000_005_500), at(1, 1_700_000_019_000)], PATIENCE)
told("for times", lambda: [(p.partition, p.offset) for p in times])
client.assign(times)
told("by time", lambda: sorted(record(m) for m in polled(client, 15)))
told("watermarks", lambda: client.get_watermark_offsets(at(1), PATIENCE))
told("watermarks kept", lambda: client.get_watermark_offsets(at(1), cached=True))

part("pause and resume")
client.assign([at(0, 0), at(1, 0)])
client.pause([at(0)])
told("only 1", lambda: {m.partition() for m in polled(client, 20)})
client.resume([at(0)])
told("then 0", lambda: {m.partition() for m in polled(client, 20)})
told("nothing more", lambda: client.poll(0.2))
tail = consumer(named("consume-tail"), enable_partition_eof=True)
tail.assign([at(0, OFFSET_END)])
told("at the end", lambda: (lambda m: (m.error().name(), m.offset()))(tail.poll(PATIENCE)))
sent(writer, name, [{"value": "0-20", "partition": 0}])
told("what comes", lambda: [record(m) for m in polled(tail, 1)])
tail.close()

part("out of range")
for reset in ("earliest", "latest", "error"):
    other = consumer(named("consume-range"), auto_offset_reset=reset, enable_partition_eof=True)
    other.assign([at(0, 500)])
    def first():
        message = other.poll(PATIENCE)
        return message.error().name() if message.error() else record(message)
    told(f"reset {reset}", first)
    other.close()
told("unknown topic", lambda: consumer(named("consume-ghost")).get_watermark_offsets(TopicPartition(named("consume-ghost"), 0), PATIENCE))

part("commits")
client.assign([at(0, 0), at(1, 0)])
told("commit", lambda: [(p.partition, p.offset, p.error) for p in client.commit(offsets=[TopicPartition(name, 0, 5, "note"), at(1, 6)], asynchronous=False)])
told("committed", lambda: [(p.partition, p.offset, p.metadata) for p in client.committed([at(0), at(1)], PATIENCE)])
message = polled(client, 1)[0]
told("commit a message", lambda: [(p.offset == message.offset() + 1) for p in client.commit(message=message, asynchronous=False)])
told("unknown partition", lambda: [(p.partition, p.error and p.error.name()) for p in client.commit(offsets=[at(9, 1)], asynchronous=False)])
told("none stored", lambda: client.commit(asynchronous=False))
told("of another group", lambda: [(p.partition, p.offset) for p in consumer(named("consume-other")).committed([at(0)], PATIENCE)])
client.close()
again = consumer(named("consume-a"))
again.assign([at(1)])
told("goes on", lambda: 0 <= polled(again, 1)[0].offset() <= 20)
again.close()

part("subscriptions")
for protocol in ("classic", "consumer"):
    one = consumer(named(f"consume-{protocol}"), group_protocol=protocol)
    one.subscribe([name])
    told(protocol, lambda: len(polled(one, 41)))
    told("assignment", lambda: sorted(p.partition for p in one.assignment()))
    told("commit", lambda: sorted((p.partition, p.offset, p.error) for p in one.commit(asynchronous=False)))
    told("member", lambda: len(one.memberid()) > 20)
    one.close()
    told("committed", lambda: [(p.partition, p.offset) for p in consumer(named(f"consume-{protocol}")).committed([at(0), at(1)], PATIENCE)])
several = [topic(f"consume-many-{i}") for i in range(3)]
for i, each in enumerate(several):
    sent(writer, each, [(None, f"{i}")])
for protocol in ("classic", "consumer"):
    one = consumer(named(f"consume-pattern-{protocol}"), group_protocol=protocol)
    one.subscribe([f"^consume-many-.*{name.split('.')[-1]}$"])
    told(f"{protocol} pattern", lambda: sorted(record(m) for m in polled(one, 3)))
    told("assignment", lambda: sorted(p.topic for p in one.assignment()))
    one.close()
one = consumer(named("consume-unknown"), topic_metadata_propagation_max_ms=500, allow_auto_create_topics=False)
one.subscribe([named("consume-ghost")])
told("unknown topic", lambda: one.poll(PATIENCE).error().name())
one.close()
auto = consumer(named("consume-auto"), enable_auto_commit=True, auto_commit_interval_ms=100)
auto.subscribe([name])
polled(auto, 41)
auto.close()
told("committed on leaving", lambda: [(p.partition, p.offset) for p in consumer(named("consume-auto")).committed([at(0), at(1)], PATIENCE)])
