"""Producing: plain and idempotent, every compression, big and empty records, headers, timestamps, and what is refused."""
import time

from confluent_kafka import KafkaException, TopicPartition

from kit import PATIENCE, consumer, named, part, producer, read, record, sent, told, topic


def delivered(results):
    """Sorted: between partitions there is no order."""
    return sorted(f"{r.partition()}@{r.offset():03}" if hasattr(r, "offset") else r.name() for r in results)


part("plain")
plain = topic("produce-plain", 3)
told("keys choose partitions", lambda: delivered(sent(producer(partitioner="murmur2_random"), plain, [(f"key-{i}", f"value-{i}") for i in range(12)])))
told("null key and value", lambda: delivered(sent(producer(), plain, [
    {"key": b"k", "value": None, "partition": 0}, {"key": None, "value": b"v", "partition": 0}, {"key": None, "value": None, "partition": 0},
    {"key": b"", "value": b"", "partition": 0}])))
told("headers", lambda: delivered(sent(producer(), plain, [
    {"value": "h", "partition": 1, "headers": [("a", b"1"), ("a", b"2"), ("empty", b""), ("null", None), ("ü", b"\x00\xff")]}])))
told("no such partition", lambda: sent(producer(), plain, [{"value": "x", "partition": 9}]))
told("no such topic", lambda: delivered(sent(producer(topic_metadata_propagation_max_ms=500), named("produce-ghost"), [(None, "x")])))
for message in read(plain, (0, 1, 2)):
    print(record(message))

part("acknowledgements")
acks = topic("produce-acks")
for level in ("all", "1", "0"):  # what is sent without acknowledgement may be lost while a topic is new
    told(f"acks={level}", lambda: [r.error() for r in sent(producer(acks=level), acks, [(None, f"{level}-{i}") for i in range(3)])])
for message in read(acks, count=9):
    print(record(message))
strict = topic("produce-strict", 1, min_insync_replicas="2")
told("too few in sync", lambda: delivered(sent(producer(message_timeout_ms=2000), strict, [(None, "x")])))

part("compression")
for kind in ("none", "gzip", "snappy", "lz4", "zstd"):
    name = topic(f"produce-{kind}")
    records = [(f"k{i}", f"{kind} " * 50 + str(i)) for i in range(200)]
    results = sent(producer(compression_codec=kind, linger_ms=50), name, records)
    messages = read(name)
    told(kind, lambda: (len(results), [(m.key().decode(), m.value().decode()) for m in messages] == records, messages[-1].offset()))
for kind in ("gzip", "uncompressed", "zstd"):
    name = topic(f"produce-to-{kind}", 1, compression_type=kind)
    told(f"the topic says {kind}", lambda: delivered(sent(producer(compression_codec="snappy"), name, [(None, "x" * 1000)] * 5)))
    told("read", lambda: [record(m) for m in read(name)])

part("idempotent")
once = topic("produce-once", 2)
client = producer(enable_idempotence=True, compression_codec="lz4")
for turn in range(3):
    told("delivered", lambda: delivered(sent(client, once, [{"value": f"{turn}-{i}", "partition": i % 2} for i in range(6)])))
told("read", lambda: [record(m) for m in read(once, (0, 1))])

part("sizes")
big = topic("produce-big", 1, max_message_bytes="2097152")
told("a million", lambda: delivered(sent(producer(message_max_bytes=3000000), big, [(None, "x" * 1_000_000)])))
told("two million, compressed", lambda: delivered(sent(producer(message_max_bytes=3000000, compression_codec="gzip"), big, [(None, "x" * 2_000_000)])))
told("over the topic's limit", lambda: delivered(sent(producer(message_max_bytes=3000000), big, [(None, "x" * 2_500_000)])))
told("over the broker's limit", lambda: delivered(sent(producer(message_max_bytes=3000000), plain, [{"value": "x" * 1_100_000, "partition": 2}])))
told("read", lambda: [record(m) for m in read(big)])
told("read with a small fetch", lambda: [record(m) for m in read(big, fetch_max_bytes=10000, message_max_bytes=10000, max_partition_fetch_bytes=1000)])

part("timestamps")
times = topic("produce-times")
told("given", lambda: delivered(sent(producer(), times, [{"value": "x", "timestamp": t} for t in (1, 1_000_000_000_000, 1_500_000_000_000)])))
told("kept", lambda: [m.timestamp() for m in read(times)])
told("too far ahead", lambda: delivered(sent(producer(), times, [{"value": "x", "timestamp": int(time.time() * 1000) + 7_200_000}])))
narrow = topic("produce-narrow", 1, message_timestamp_before_max_ms="1000", message_timestamp_after_max_ms="1000000000000")
told("too old", lambda: delivered(sent(producer(), narrow, [{"value": "x", "timestamp": 1_500_000_000_000}])))
told("ahead, as allowed", lambda: delivered(sent(producer(), narrow, [{"value": "x", "timestamp": int(time.time() * 1000) + 7_200_000}])))
append = topic("produce-append", 1, message_timestamp_type="LogAppendTime")
before = int(time.time() * 1000)
results = sent(producer(), append, [{"value": "x", "timestamp": 5}])
told("the log's own time", lambda: [(m.timestamp()[0], before <= m.timestamp()[1] <= int(time.time() * 1000)) for m in results + read(append)])

part("compacted topics need keys")
compact = topic("produce-compact", 1, cleanup_policy="compact")
told("without", lambda: delivered(sent(producer(), compact, [(None, "x")])))
told("with", lambda: delivered(sent(producer(), compact, [("k", "x"), ("k", None)])))
