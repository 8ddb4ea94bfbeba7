#!/usr/bin/env python3
"""Python's confluent-kafka against a registry and a broker: its serializers and its registry client.

  REGISTRY=http://127.0.0.1:8081 BOOTSTRAP=127.0.0.1:9092 python.py

Needs confluent-kafka[avro,json,protobuf,schemaregistry]. Prints a line for each case, what it saw or what was wrong, and
exits 0 only if all are well. Names are new each time, so that it can run again on the same servers.
"""
import json
import os
import sys
import traceback
import uuid

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    header_schema_id_serializer,
    topic_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.common.schema_registry_client import Metadata, MetadataProperties
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

RUN = uuid.uuid4().hex[:8]
STRATEGY = {"subject.name.strategy": topic_subject_name_strategy}
CASES = []


def case(function):
    CASES.append(function)
    return function


class Servers:
    def __init__(self, registry, bootstrap):
        self.registry = SchemaRegistryClient({"url": registry})
        # Readers have a client of their own, as in another process: the client keeps the text that an answer to registering
        # tells, and would take it for the descriptor that a reader of Protobuf asks for.
        self.reader = SchemaRegistryClient({"url": registry})
        self.bootstrap = bootstrap
        self.admin = AdminClient({"bootstrap.servers": bootstrap})

    def topic(self, name):
        name = f"{name}-{RUN}"
        self.admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
        return name

    def carry(self, topic, values, serializer, deserializer):
        """Writes the values to the topic and reads them back; gives what was read, and the raw bytes."""
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for value in values:
            headers = []
            context = SerializationContext(topic, MessageField.VALUE, headers)
            producer.produce(topic, value=serializer(value, context), headers=context.headers)
        assert producer.flush(30) == 0
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": f"{topic}-{uuid.uuid4()}",
                             "auto.offset.reset": "earliest", "enable.auto.commit": False})
        consumer.subscribe([topic])
        read, raw = [], []
        try:
            while len(read) < len(values):
                message = consumer.poll(30)
                assert message is not None, f"only {len(read)} of {len(values)} records came back"
                assert message.error() is None, message.error()
                raw.append(message.value())
                read.append(deserializer(message.value(), SerializationContext(topic, MessageField.VALUE, message.headers())))
        finally:
            consumer.close()
        return read, raw


def refused(code, call):
    try:
        call()
    except SchemaRegistryError as error:
        assert error.error_code == code, f"refused with {error.error_code}, not {code}: {error}"
        return str(error.error_code)
    raise AssertionError(f"not refused with {code}")


def record(name, *fields):
    return json.dumps({"type": "record", "name": name, "namespace": "t", "fields": list(fields)})


A = {"name": "a", "type": "string"}
B = {"name": "b", "type": ["null", "long"], "default": None}


@case
def avro_round_trip(servers):
    topic = servers.topic("avro")
    values = [{"a": "ä", "b": 7}, {"a": "", "b": None}]
    schema = record("R", A, B)
    serializer = AvroSerializer(servers.registry, schema, conf=STRATEGY)
    read, raw = servers.carry(topic, values, serializer, AvroDeserializer(servers.reader))
    assert read == values, read
    latest = servers.registry.get_latest_version(f"{topic}-value")
    assert raw[0][0] == 0 and int.from_bytes(raw[0][1:5], "big") == latest.schema_id
    return f"{len(read)} records, version {latest.version}"


@case
def avro_evolves(servers):
    topic = servers.topic("avro-evolves")
    subject = f"{topic}-value"
    old = AvroSerializer(servers.registry, record("R", A), conf=STRATEGY)
    read, _ = servers.carry(topic, [{"a": "x"}], old, AvroDeserializer(servers.reader, record("R", A, B)))
    assert read == [{"a": "x", "b": None}], read
    servers.registry.register_schema(subject, Schema(record("R", A, B), "AVRO"))
    retyped = Schema(record("R", {"name": "a", "type": "int"}), "AVRO")
    assert not servers.registry.test_compatibility(subject, retyped)
    refused(409, lambda: servers.registry.register_schema(subject, retyped))
    latest = AvroSerializer(servers.registry, conf={"use.latest.version": True, "auto.register.schemas": False, **STRATEGY})
    framed = latest({"a": "y", "b": 1}, SerializationContext(topic, MessageField.VALUE))
    assert int.from_bytes(framed[1:5], "big") == servers.registry.get_version(subject, 2).schema_id
    return f"versions {servers.registry.get_versions(subject)}"


@case
def avro_references(servers):
    topic = servers.topic("avro-references")
    address = servers.registry.register_schema(f"address-{RUN}", Schema(record("Address", A), "AVRO"))
    person = record("Person", {"name": "home", "type": "t.Address"})
    schema = Schema(person, "AVRO", [SchemaReference("t.Address", f"address-{RUN}", 1)])
    values = [{"home": {"a": "x"}}]
    read, _ = servers.carry(topic, values, AvroSerializer(servers.registry, schema, conf=STRATEGY), AvroDeserializer(servers.reader))
    assert read == values, read
    registered = servers.registry.get_latest_version(f"{topic}-value")
    assert [(r.name, r.version) for r in registered.schema.references] == [("t.Address", 1)]
    refused(42206, lambda: servers.registry.delete_version(f"address-{RUN}", 1))
    assert address != registered.schema_id
    return "a record within a record"


@case
def json_round_trip(servers):
    topic = servers.topic("json")
    schema = json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", "title": "R", "type": "object",
                         "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]})
    values = [{"a": "ä", "b": 7}, {"a": ""}]
    serializer = JSONSerializer(schema, servers.registry, conf=STRATEGY)
    read, _ = servers.carry(topic, values, serializer, JSONDeserializer(schema, schema_registry_client=servers.reader))
    assert read == values, read
    return f"{len(read)} records"


@case
def json_references(servers):
    topic = servers.topic("json-references")
    servers.registry.register_schema(f"size-{RUN}", Schema('{"type":"integer","minimum":1}', "JSON"))
    schema = Schema(json.dumps({"title": "R", "type": "object", "properties": {"s": {"$ref": "size.json"}}}), "JSON",
                    [SchemaReference("size.json", f"size-{RUN}", 1)])
    serializer = JSONSerializer(schema, servers.registry, conf=STRATEGY)
    read, _ = servers.carry(topic, [{"s": 3}], serializer, JSONDeserializer(schema, schema_registry_client=servers.reader))
    assert read == [{"s": 3}], read
    return "a value by $ref"


def messages():
    """Two files, one of which imports the other and a well-known type, as a compiler would give them."""
    field = descriptor_pb2.FieldDescriptorProto
    size = descriptor_pb2.FileDescriptorProto(name=f"size_{RUN}.proto", package="t", syntax="proto3")
    declared = size.message_type.add(name="Size")
    declared.field.add(name="cm", number=1, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    thing = descriptor_pb2.FileDescriptorProto(name=f"thing_{RUN}.proto", package="t", syntax="proto3")
    thing.dependency.extend([size.name, "google/protobuf/timestamp.proto"])
    first = thing.message_type.add(name="Other")
    first.field.add(name="x", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    declared = thing.message_type.add(name="Thing")
    declared.field.add(name="name", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    declared.field.add(name="size", number=2, type=field.TYPE_MESSAGE, type_name=".t.Size", label=field.LABEL_OPTIONAL)
    declared.field.add(name="tags", number=3, type=field.TYPE_STRING, label=field.LABEL_REPEATED)
    declared.field.add(name="at", number=4, type=field.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp", label=field.LABEL_OPTIONAL)
    declared.field.add(name="kind", number=5, type=field.TYPE_ENUM, type_name=".t.Thing.Kind", label=field.LABEL_OPTIONAL)
    kinds = declared.enum_type.add(name="Kind")
    for number, name in enumerate(["UNKNOWN", "SMALL", "LARGE"]):
        kinds.value.add(name=name, number=number)
    entry = declared.nested_type.add(name="CountsEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL)
    declared.field.add(name="counts", number=6, type=field.TYPE_MESSAGE, type_name=".t.Thing.CountsEntry", label=field.LABEL_REPEATED)
    declared.nested_type.add(name="Part").field.add(name="n", number=1, type=field.TYPE_SINT32, label=field.LABEL_OPTIONAL)
    declared.oneof_decl.add(name="either")
    declared.field.add(name="one", number=7, type=field.TYPE_BOOL, label=field.LABEL_OPTIONAL, oneof_index=0)
    declared.field.add(name="part", number=8, type=field.TYPE_MESSAGE, type_name=".t.Thing.Part", label=field.LABEL_OPTIONAL, oneof_index=0)
    pool = descriptor_pool.Default()
    for file in (size, thing):
        pool.AddSerializedFile(file.SerializeToString())
    find = lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    return find("t.Thing"), find("t.Thing.Part")


@case
def protobuf_round_trip(servers):
    topic = servers.topic("protobuf")
    thing, part = messages()
    value = thing(name="ä", size={"cm": 7}, tags=["x", "y"], at=timestamp_pb2.Timestamp(seconds=5), kind=2, counts={"k": 1}, part={"n": -3})
    serializer = ProtobufSerializer(thing, servers.registry, conf=STRATEGY)
    read, _ = servers.carry(topic, [value, thing()], serializer, ProtobufDeserializer(thing, {}, servers.reader))
    assert read == [value, thing()], read
    nested = servers.topic("protobuf-nested")
    serializer = ProtobufSerializer(part, servers.registry, conf=STRATEGY)
    read, _ = servers.carry(nested, [part(n=5)], serializer, ProtobufDeserializer(part, {}, servers.reader))
    assert read == [part(n=5)], read
    latest = servers.registry.get_latest_version(f"{topic}-value")
    assert "message Thing {" in latest.schema.schema_str, latest.schema.schema_str
    return f"{len(latest.schema.references)} reference(s), kept as text"


@case
def ids_in_headers(servers):
    topic = servers.topic("headers")
    schema = record("R", A)
    conf = {"schema.id.serializer": header_schema_id_serializer, **STRATEGY}
    serializer = AvroSerializer(servers.registry, schema, conf=conf)
    # The client takes a value that is shorter than a frame for no record at all.
    read, raw = servers.carry(topic, [{"a": "as long as a frame"}], serializer, AvroDeserializer(servers.reader))
    assert read == [{"a": "as long as a frame"}], read
    assert raw[0][0] != 0, "the id is in the header, not in the value"
    guid = servers.registry.get_latest_version(f"{topic}-value").guid
    assert servers.registry.get_schema_by_guid(guid).schema_str
    return f"guid {len(guid)} characters"


@case
def subjects_and_versions(servers):
    registry, subject = servers.registry, f"subject/{RUN} ä"
    ids = [registry.register_schema(subject, Schema(record("R", *fields), "AVRO")) for fields in ([A], [A, B])]
    assert ids[0] != ids[1]
    assert registry.get_versions(subject) == [1, 2]
    assert subject in registry.get_subjects()
    assert registry.lookup_schema(subject, Schema(record("R", A), "AVRO")).version == 1
    assert registry.get_version(subject, 2).schema_id == ids[1]
    assert subject in registry.get_subjects_by_schema_id(ids[0])
    assert (subject, 1) in [(v.subject, v.version) for v in registry.get_schema_versions(ids[0])]
    refused(40402, lambda: registry.get_version(subject, 9))
    refused(40401, lambda: registry.get_latest_version(f"none-{RUN}"))
    refused(40403, lambda: registry.get_schema(2_000_000_000))
    refused(42201, lambda: registry.register_schema(subject, Schema("nonsense", "AVRO")))
    assert registry.delete_version(subject, 1) == 1
    refused(40406, lambda: registry.delete_version(subject, 1))
    refused(40405, lambda: registry._rest_client.delete(f"subjects/{subject.replace('/', '%2F').replace(' ', '%20')}?permanent=true"))
    assert registry.delete_subject(subject) == [2]
    assert registry.delete_subject(subject, permanent=True) is not None
    assert subject not in registry.get_subjects(deleted=True)
    return "registered, found, deleted"


@case
def settings(servers):
    registry, subject = servers.registry, f"settings-{RUN}"
    registry.register_schema(subject, Schema('"int"', "AVRO"))
    registry.set_compatibility(subject, "FORWARD_TRANSITIVE")
    assert registry.get_compatibility(subject) == "FORWARD_TRANSITIVE"
    refused(40408, lambda: registry.get_compatibility(f"none-{RUN}"))
    refused(42203, lambda: registry.set_compatibility(subject, "SOME"))
    assert registry.get_compatibility() in ("NONE", "BACKWARD", "FORWARD", "FULL")
    return "compatibility set and read"


@case
def metadata(servers):
    registry, subject = servers.registry, f"metadata-{RUN}"
    for owner in ("x", "y"):
        schema = Schema('"int"', "AVRO", [], Metadata(None, MetadataProperties({"owner": owner}), None), None)
        registry.register_schema(subject, schema)
    found = registry.get_latest_with_metadata(subject, {"owner": "x"})
    assert found.version == 1 and found.schema.metadata.properties.properties == {"owner": "x"}, found
    return "a version by its metadata"


def main():
    servers = Servers(os.environ["REGISTRY"], os.environ["BOOTSTRAP"])
    failed = 0
    for one in CASES:
        try:
            print(f"ok     {one.__name__}: {one(servers)}")
        except Exception:  # whatever goes wrong in a case is the case's failure
            failed += 1
            print(f"FAILED {one.__name__}\n{traceback.format_exc()}")
    print(f"{len(CASES) - failed} of {len(CASES)} cases are well")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
