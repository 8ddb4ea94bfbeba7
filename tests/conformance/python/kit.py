"""What the Python cases share: names of this run, printing of answers and errors, reading and writing in one line."""
import concurrent.futures
import os
import queue
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP = os.environ["BOOTSTRAP"]
RUN = os.environ["RUN"]
PATIENCE = 30  # seconds for what should be there at once


def named(name):
    """A name that no other run uses."""
    return f"{name}.{RUN}"


def part(title):
    print(f"== {title}", flush=True)


def error_text(error):
    """An error's name; not its words, which are each broker's own."""
    flags = "".join(f" {flag}" for flag in ("fatal", "retriable", "txn_requires_abort") if getattr(error, flag)())
    return f"{error.name()}{flags}"


def told(label, call):
    """Prints what a call gives, or its error; returns the result."""
    try:
        result = call()
    except KafkaException as e:
        print(f"{label}: {error_text(e.args[0])}", flush=True)
        return None
    except (ValueError, TypeError) as e:
        print(f"{label}: {type(e).__name__} {e}", flush=True)
        return None
    print(f"{label}: {shown(result)}", flush=True)
    return result


def shown(value):
    return "ok" if value is None else value


def each(label, futures, show=shown):
    """Prints each result of a map of futures, in the order of their keys."""
    for key in sorted(futures, key=str):
        told(f"{label} {key}", lambda: show(futures[key].result(PATIENCE)))


def admin(**config):
    return AdminClient({"bootstrap.servers": BOOTSTRAP, **config})


def topic(name, partitions=1, **config):
    """Creates a topic of this run; its full name."""
    name = named(name)
    config = {key.replace("_", "."): value for key, value in config.items()}
    client = admin()
    client.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(PATIENCE)
    settled(client, name)
    return name


def settled(client, *there, gone=()):
    """Waits until metadata shows these topics, each partition with its leader, and no longer those: Kafka answers before."""
    def seen(name):
        found = client.list_topics(name, PATIENCE).topics[name]
        return found.partitions and not found.error and all(p.leader >= 0 and not p.error for p in found.partitions.values())
    until(lambda: all(seen(name) for name in there) and not any(seen(name) for name in gone), what=f"{there} there, {gone} gone")


def producer(**config):
    """Errors of the client itself are not printed: they tell of connections, not of answers."""
    settings = {key.replace("_", "."): value for key, value in config.items()}
    return Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 2, "error_cb": lambda _: None, "log_level": 0, **settings})


def consumer(group, **config):
    settings = {key.replace("_", "."): value for key, value in config.items()}
    return Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                     "error_cb": lambda _: None, "log_level": 0, **settings})


def sent(client, topic, records):
    """Produces (key, value) pairs or dictionaries of produce's arguments, waits, and returns the delivered messages or errors."""
    results = []
    for record in records:
        arguments = record if isinstance(record, dict) else {"key": record[0], "value": record[1]}
        client.produce(topic, on_delivery=lambda error, message: results.append(error or message), **arguments)
    left = client.flush(PATIENCE)
    if left:
        raise TimeoutError(f"{left} records were not delivered")
    return results


def read(topic, partitions=(0,), count=None, isolation="read_uncommitted", begin=0, **config):
    """Every record of partitions up to their ends, sorted by partition and offset, without a group."""
    client = consumer(named("reader"), isolation_level=isolation, enable_partition_eof=True, **config)
    client.assign([TopicPartition(topic, p, begin) for p in partitions])
    ended, messages, deadline = set(), [], time.monotonic() + PATIENCE
    while len(ended) < len(partitions) and (count is None or len(messages) < count):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{topic}: read {len(messages)}, ends of {sorted(ended)}")
        message = client.poll(1)
        if message is None:
            continue
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                raise KafkaException(message.error())
            ended.add(message.partition())
        else:
            messages.append(message)
    client.close()
    return sorted(messages, key=lambda m: (m.partition(), m.offset()))


def polled(client, count, seconds=PATIENCE):
    """The next `count` records of a consumer, in the order it gives them."""
    messages, deadline = [], time.monotonic() + seconds
    while len(messages) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(messages)} of {count} records")
        message = client.poll(0.5)
        if message is not None and not message.error():
            messages.append(message)
        elif message is not None and message.error().code() != KafkaError._PARTITION_EOF:
            raise KafkaException(message.error())
    return messages


def until(condition, *clients, what="condition"):
    """Polls consumers until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        for client in clients:
            client.poll(0.1)
        if not clients:
            time.sleep(0.05)


class Polling:
    """Polls a consumer in a thread of its own, as members of a group do; keeps its assignment and its records."""

    def __init__(self, group, topics, **config):
        self.records, self.events, self.stopping, self.error = [], [], threading.Event(), None
        self.client = consumer(group, **config)
        self.client.subscribe(topics, on_assign=self.saw("assigned"), on_revoke=self.saw("revoked"), on_lost=self.saw("lost"))
        self.assignment, self.orders = [], queue.Queue()
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def saw(self, what):
        return lambda client, partitions: self.events.append((what, sorted(p.partition for p in partitions)))

    def loop(self):
        try:
            while not self.stopping.is_set():
                while not self.orders.empty():
                    order, result = self.orders.get()
                    try:
                        result.set_result(order(self.client))
                    except Exception as e:
                        result.set_exception(e)
                message = self.client.poll(0.05)
                if message is not None and not message.error():
                    self.records.append(message)
                self.assignment = sorted((p.topic, p.partition) for p in self.client.assignment())
        except Exception as e:
            self.error = e

    def does(self, order):
        """What the consumer's own thread gets from a call: a consumer isn't for two threads."""
        result = concurrent.futures.Future()
        self.orders.put((order, result))
        return result.result(PATIENCE)

    def leave(self):
        """Stops polling and closes the consumer."""
        self.stopping.set()
        self.thread.join()
        self.client.close()
        if self.error:
            raise self.error


def record(message):
    """A record in one line."""
    value = message.value()
    if value is not None and len(value) > 40:
        value = f"{len(value)} bytes"
    return f"{message.partition()}@{message.offset()} {message.key()} {value} {message.headers() or ''}".rstrip()
