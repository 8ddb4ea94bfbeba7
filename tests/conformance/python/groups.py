"""Groups of several members: rebalances under each protocol and assignor, static members, expiry, fencing."""
from confluent_kafka import TopicPartition

from kit import PATIENCE, Polling, admin, consumer, named, part, producer, record, sent, settled, told, topic, until

writer, client = producer(), admin()
QUICK = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300}


def partitions(*members):
    return [[p for _, p in m.assignment] for m in members]


def shared(members, total):
    """Whether the members have all partitions between them, none of them none."""
    got = [p for m in members for p in m.assignment]
    return len(got) == total == len(set(got)) and all(m.assignment for m in members)


def values(*members):
    return sorted(r.value().decode() for m in members for r in m.records)


for title, settings in (("range", {"partition_assignment_strategy": "range", **QUICK}), ("roundrobin", {"partition_assignment_strategy": "roundrobin", **QUICK}),
                        ("cooperative-sticky", {"partition_assignment_strategy": "cooperative-sticky", **QUICK}), ("consumer", {"group_protocol": "consumer"})):
    part(title)
    name, group = topic(f"groups-{title}", 4), named(f"groups-{title}")
    sent(writer, name, [{"value": f"{i:02}", "partition": i % 4} for i in range(20)])
    a = Polling(group, [name], client_id="a", **settings)
    until(lambda: len(a.records) == 20 and len(a.assignment) == 4, what="all read")
    told("alone", lambda: partitions(a))
    told("commit", lambda: sorted((p.partition, p.offset) for p in a.does(lambda c: c.commit(asynchronous=False))))
    b = Polling(group, [name], client_id="b", **settings)
    until(lambda: shared([a, b], 4), what="shared")
    told("sizes", lambda: sorted(len(p) for p in partitions(a, b)))
    sent(writer, name, [{"value": f"{i:02}", "partition": i % 4} for i in range(20, 40)])
    until(lambda: len(a.records) + len(b.records) >= 40, what="read by two")
    told("each record once", lambda: values(a, b) == [f"{i:02}" for i in range(40)])
    described = client.describe_consumer_groups([group])[group].result(PATIENCE)
    told("described", lambda: (described.state.name, described.type.name, described.partition_assignor, sorted(
        (m.client_id, len(m.assignment.topic_partitions), m.group_instance_id) for m in described.members)))
    told("commit of both", lambda: sum(len(m.does(lambda c: c.commit(asynchronous=False))) for m in (a, b)))
    a.leave()
    until(lambda: len(b.assignment) == 4, what="b has all")
    told("who stays has all", lambda: partitions(b))
    told("whole revocations", lambda: sum(1 for what, p in a.events if what == "revoked" and len(p) == 4))
    sent(writer, name, [{"value": f"{i:02}", "partition": i % 4} for i in range(40, 44)])
    until(lambda: len(a.records) + len(b.records) >= 44, what="read by one")
    told("each record once", lambda: values(a, b) == [f"{i:02}" for i in range(44)])
    b.leave()

part("a third member than partitions")
name, group = topic("groups-crowd", 2), named("groups-crowd")
crowd = [Polling(group, [name], client_id=f"m{i}", **QUICK) for i in range(3)]
until(lambda: sorted(len(m.assignment) for m in crowd) == [0, 1, 1], what="two of three")
until(lambda: client.describe_consumer_groups([group])[group].result(PATIENCE).state.name == "STABLE", what="the last has joined")
described = client.describe_consumer_groups([group])[group].result(PATIENCE)
told("described", lambda: (described.state.name, sorted(len(m.assignment.topic_partitions) for m in described.members)))
for member in crowd:
    member.leave()

part("partitions come")
name, group = topic("groups-grow", 1), named("groups-grow")
member = Polling(group, [name], topic_metadata_refresh_interval_ms=300, metadata_max_age_ms=1000, **QUICK)
until(lambda: len(member.assignment) == 1, what="assigned")
from confluent_kafka.admin import NewPartitions
client.create_partitions([NewPartitions(name, 3)])[name].result(PATIENCE)
until(lambda: len(member.assignment) == 3, what="three")
told("assigned", lambda: partitions(member))
member.leave()

part("static members")
for protocol in ({"partition_assignment_strategy": "range", **QUICK}, {"group_protocol": "consumer"}):
    kind = protocol.get("group_protocol", "classic")
    name, group = topic(f"groups-static-{kind}", 2), named(f"groups-static-{kind}")
    a = Polling(group, [name], group_instance_id="one", client_id="a", **protocol)
    b = Polling(group, [name], group_instance_id="two", client_id="b", **protocol)
    until(lambda: shared([a, b], 2), what="shared")
    before, seen = partitions(a), len(b.events)
    told(f"{kind} instances", lambda: sorted(m.group_instance_id for m in client.describe_consumer_groups([group])[group].result(PATIENCE).members))
    a.leave()
    a = Polling(group, [name], group_instance_id="one", client_id="a2", **protocol)
    until(lambda: shared([a, b], 2), what="back")
    told("back with the same partitions", lambda: partitions(a) == before)
    told("the other was left alone", lambda: sum(1 for what, p in b.events[seen:] if what == "revoked"))
    if kind == "classic":
        rival = Polling(group, [name], group_instance_id="one", client_id="a3", **protocol)
        until(lambda: rival.assignment, what="rival")
        told("a rival takes its place", lambda: partitions(rival) == before)
        def fenced():
            error = a.does(lambda c: c.commit(offsets=[TopicPartition(name, 0, 0)], asynchronous=False))
            return error
        told("the first is fenced", lambda: fenced())
        rival.leave()
        a.stopping.set()
    else:
        a.leave()
    b.leave()
