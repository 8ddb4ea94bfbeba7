"""Transactions: commit, abort, isolation, offsets in transactions, fencing, time-outs."""
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from kit import BOOTSTRAP, PATIENCE, consumer, error_text, named, part, polled, producer, read, record, sent, told, topic, until


def transactional(name, **config):
    return producer(transactional_id=named(name), **config)


def values(topic, isolation="read_committed", partitions=(0,)):
    return [f"{m.partition()}@{m.offset()} {m.value().decode()}" for m in read(topic, partitions, isolation=isolation)]


part("commit and abort")
name = topic("transactions", 2)
client = transactional("transactions")
told("before init", lambda: client.begin_transaction())
told("init", lambda: client.init_transactions(PATIENCE))
told("send outside", lambda: client.produce(name, "x"))
client.begin_transaction()
sent(client, name, [{"value": f"a{i}", "partition": i % 2} for i in range(4)])
told("open: committed", lambda: values(name, partitions=(0, 1)))
told("open: uncommitted", lambda: values(name, "read_uncommitted", (0, 1)))
told("commit", lambda: client.commit_transaction(PATIENCE))
told("committed", lambda: values(name, partitions=(0, 1)))
client.begin_transaction()
sent(client, name, [{"value": f"b{i}", "partition": i % 2} for i in range(4)])
told("abort", lambda: client.abort_transaction(PATIENCE))
told("after abort: committed", lambda: values(name, partitions=(0, 1)))
told("after abort: uncommitted", lambda: values(name, "read_uncommitted", (0, 1)))
client.begin_transaction()
told("empty commit", lambda: client.commit_transaction(PATIENCE))
client.begin_transaction()
told("empty abort", lambda: client.abort_transaction(PATIENCE))
told("commit without begin", lambda: client.commit_transaction(PATIENCE))
told("begin", lambda: client.begin_transaction())
told("begin twice", lambda: client.begin_transaction())
client.abort_transaction(PATIENCE)
for turn in range(5):
    client.begin_transaction()
    sent(client, name, [{"value": f"c{turn}", "partition": 0}])
    (client.commit_transaction if turn % 2 else client.abort_transaction)(PATIENCE)
told("alternating", lambda: values(name))

part("last stable offset")
open_one, plain = transactional("transactions-open"), producer()
name = topic("transactions-stable")
sent(plain, name, [(None, "p0")])
open_one.init_transactions(PATIENCE)
open_one.begin_transaction()
sent(open_one, name, [(None, "t0")])
sent(plain, name, [(None, "p1")])
told("committed stops at the open one", lambda: values(name))
told("uncommitted goes on", lambda: values(name, "read_uncommitted"))
for isolation in ("read_committed", "read_uncommitted"):
    watch = consumer(named("watch"), isolation_level=isolation)
    told(f"end for {isolation}", lambda: watch.get_watermark_offsets(TopicPartition(name, 0), PATIENCE))
    watch.close()
open_one.commit_transaction(PATIENCE)
told("then", lambda: values(name))

part("offsets in transactions")
source, target, group = topic("transactions-in"), topic("transactions-out"), named("transactions-group")
sent(plain, source, [(None, f"r{i}") for i in range(6)])
copier = transactional("transactions-copier")
copier.init_transactions(PATIENCE)
reader = consumer(group, isolation_level="read_committed")
reader.subscribe([source])
def committed():
    watch = consumer(group)
    return [p.offset for p in watch.committed([TopicPartition(source, 0)], PATIENCE)]

for batch, finish in ((2, copier.commit_transaction), (2, copier.abort_transaction)):
    copier.begin_transaction()
    messages = polled(reader, batch)
    sent(copier, target, [(None, "copy of " + m.value().decode()) for m in messages])
    told("send offsets", lambda: copier.send_offsets_to_transaction(reader.position(reader.assignment()), reader.consumer_group_metadata(), PATIENCE))
    finish(PATIENCE)
    told(finish.__name__, committed)
told("target", lambda: values(target))
copier.begin_transaction()
stale = reader.consumer_group_metadata()
reader.close()
told("offsets of who has left", lambda: copier.send_offsets_to_transaction([TopicPartition(source, 0, 6)], stale, PATIENCE))
told("abort", lambda: copier.abort_transaction(PATIENCE))
told("committed", committed)

part("fencing")
name = topic("transactions-fence")
old, new = transactional("transactions-fence"), transactional("transactions-fence")
old.init_transactions(PATIENCE)
old.begin_transaction()
sent(old, name, [(None, "old")])
told("a second producer", lambda: new.init_transactions(PATIENCE))
def zombie():
    old.produce(name, "zombie")
    old.commit_transaction(PATIENCE)

told("the first", zombie)
new.begin_transaction()
sent(new, name, [(None, "new")])
told("the second", lambda: new.commit_transaction(PATIENCE))
told("read", lambda: values(name))
told("all", lambda: values(name, "read_uncommitted"))
old = transactional("transactions-fence")
old.init_transactions(PATIENCE)
told("the second is now the first", lambda: (new.begin_transaction(), new.produce(name, "zombie"), new.commit_transaction(PATIENCE)))

part("time-outs")
told("longer than the broker allows", lambda: transactional("transactions-long", transaction_timeout_ms=1_000_000).init_transactions(PATIENCE))
name = topic("transactions-timeout")
slow = transactional("transactions-timeout", transaction_timeout_ms=1000)
slow.init_transactions(PATIENCE)
slow.begin_transaction()
sent(slow, name, [(None, "late")])
sent(plain, name, [(None, "waits behind it")])
told("open", lambda: values(name))
until(lambda: len(values(name)) == 1, what="the transaction is aborted")
told("aborted by the broker", lambda: values(name))
told("its commit", lambda: slow.commit_transaction(PATIENCE))
