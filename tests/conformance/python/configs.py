"""Configs of topics, of the broker and of groups: described with sources and synonyms, altered, and what is refused."""
import warnings

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from kit import PATIENCE, admin, each, named, part, told, topic, until

client = admin()
changes, marked = 0, topic("configs-marked")
NAMES = {int(source.value): source.name for source in __import__("confluent_kafka.admin", fromlist=["ConfigSource"]).ConfigSource}


def source(entry):
    return NAMES.get(getattr(entry.source, "value", entry.source), entry.source)


def entry_text(entry):
    flags = "".join(f" {flag}" for flag in ("is_read_only", "is_sensitive", "is_default") if getattr(entry, flag))
    synonyms = [f"{s.name}={s.value}({source(s)})" for s in entry.synonyms.values()]
    return f"{entry.name}={entry.value} {source(entry)}{flags} <- {', '.join(synonyms)}"


def caught_up():
    """Waits until a change made now can be seen, and so every change before it: Kafka answers before its broker has heard."""
    global changes
    changes += 1
    entry = ConfigEntry("segment.jitter.ms", str(changes), incremental_operation=AlterConfigOpType.SET)
    asked = ConfigResource(ResourceType.TOPIC, marked, incremental_configs=[entry])
    client.incremental_alter_configs([asked])[asked].result(PATIENCE)
    seen = ConfigResource(ResourceType.TOPIC, marked)
    until(lambda: client.describe_configs([seen])[seen].result(PATIENCE)["segment.jitter.ms"].value == str(changes))


def describe(resource, *only):
    caught_up()
    result = client.describe_configs([resource])[resource]
    try:
        entries = result.result(PATIENCE)
    except Exception:
        return told(f"{resource.restype.name}", lambda: result.result(PATIENCE))
    for name in sorted(entries):
        if not only or name in only:
            print(f"  {entry_text(entries[name])}")


def alter(label, resource, *changes, **options):
    """Changes are (operation, name, value)."""
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType[operation]) for operation, name, value in changes]
    asked = ConfigResource(resource.restype, resource.name, incremental_configs=entries)
    each(label, {"": client.incremental_alter_configs([asked], **options)[asked]})


part("a topic's, all of them")
name = topic("configs", 1, retention_ms="3600000", cleanup_policy="compact,delete")
of_topic = ConfigResource(ResourceType.TOPIC, name)
describe(of_topic)

part("incremental")
SEEN = ("retention.ms", "cleanup.policy", "segment.bytes", "max.message.bytes", "compression.type", "min.insync.replicas",
        "follower.replication.throttled.replicas", "leader.replication.throttled.replicas")
alter("set", of_topic, ("SET", "retention.ms", "7200000"), ("SET", "segment.bytes", "1048576"))
alter("delete", of_topic, ("DELETE", "retention.ms", None))
alter("delete what is not set", of_topic, ("DELETE", "max.message.bytes", None))
alter("append", of_topic, ("APPEND", "follower.replication.throttled.replicas", "0:1"))
alter("append again", of_topic, ("APPEND", "follower.replication.throttled.replicas", "0:1"))
alter("append another", of_topic, ("APPEND", "follower.replication.throttled.replicas", "1:1,2:1"))
describe(of_topic, *SEEN)
alter("subtract", of_topic, ("SUBTRACT", "cleanup.policy", "delete"))
alter("subtract what is not there", of_topic, ("SUBTRACT", "cleanup.policy", "delete"))
alter("subtract some", of_topic, ("SUBTRACT", "follower.replication.throttled.replicas", "1:1"))
alter("append to what is no list", of_topic, ("APPEND", "retention.ms", "5"))
alter("the same twice", of_topic, ("SET", "retention.ms", "5"), ("SET", "retention.ms", "6"))
alter("set to nothing", of_topic, ("SET", "retention.ms", ""))
alter("validate only", of_topic, ("SET", "min.insync.replicas", "3"), validate_only=True)
describe(of_topic, *SEEN)

part("names and values that are refused")
for config, value in (("nonsense", "1"), ("retention.ms", "x"), ("retention.ms", "-5"), ("cleanup.policy", "shred"), ("cleanup.policy", ""), ("segment.bytes", "1"),
                      ("min.insync.replicas", "0"), ("min.insync.replicas", "2147483648"), ("compression.type", "GZIP"), ("min.cleanable.dirty.ratio", "2"),
                      ("min.cleanable.dirty.ratio", "abc"), ("message.timestamp.type", "never"), ("preallocate", "yes"), ("segment.ms", "0"),
                      ("flush.messages", "0"), ("segment.jitter.ms", "-1"), ("index.interval.bytes", "-1"), ("compression.zstd.level", "99"),
                      ("compression.lz4.level", "18"), ("file.delete.delay.ms", "-1"), ("follower.replication.throttled.replicas", "x:y"),
                      ("leader.replication.throttled.replicas", "none"), ("message.timestamp.before.max.ms", "-1"), ("max.message.bytes", "1.5"),
                      ("delete.retention.ms", "-1"), ("max.compaction.lag.ms", "0"), ("retention.ms", " 77 "), ("remote.storage.enable", "true")):
    alter(f"{config}={value!r}", of_topic, ("SET", config, value), validate_only=True)
alter("a topic that is not there", ConfigResource(ResourceType.TOPIC, named("configs-ghost")), ("SET", "retention.ms", "1"))
describe(ConfigResource(ResourceType.TOPIC, named("configs-ghost")))
describe(ConfigResource(ResourceType.TOPIC, "not a name"))

part("all at once, the old way")
warnings.simplefilter("ignore")
def replace(label, **config):
    asked = ConfigResource(ResourceType.TOPIC, name, set_config={key.replace("_", "."): value for key, value in config.items()})
    each(label, {"": client.alter_configs([asked])[asked]})

replace("replace", max_message_bytes="2000000")
describe(of_topic, *SEEN)
replace("refused", max_message_bytes="many")
replace("nothing")
describe(of_topic, *SEEN)

part("the broker's")
OF_BROKER = ("log.index.interval.bytes", "log.retention.ms", "log.cleaner.threads", "num.partitions", "default.replication.factor",
             "log.segment.bytes", "message.max.bytes", "compression.type", "log.cleanup.policy", "auto.create.topics.enable", "min.insync.replicas", "log.message.timestamp.type")
broker = ConfigResource(ResourceType.BROKER, "1")
describe(broker, *OF_BROKER)
alter("broker's own", broker, ("SET", "log.index.interval.bytes", "16384"))
describe(broker, "log.index.interval.bytes")
describe(of_topic, "index.interval.bytes")
alter("back", broker, ("DELETE", "log.index.interval.bytes", None))
describe(of_topic, "index.interval.bytes")
alter("read only", broker, ("SET", "broker.id", "7"))
alter("nonsense", broker, ("SET", "nonsense.of.mine", "7"), validate_only=True)
alter("bad value", broker, ("SET", "log.cleaner.threads", "x"), validate_only=True)

part("a group's")
group = ConfigResource(ResourceType.GROUP, named("configs-group"))
alter("set", group, ("SET", "consumer.session.timeout.ms", "50000"))
describe(group, "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms")
alter("too small", group, ("SET", "consumer.session.timeout.ms", "1"))
alter("nonsense", group, ("SET", "nonsense", "1"))
alter("back", group, ("DELETE", "consumer.session.timeout.ms", None))
