"""ACLs: created, described by every kind of filter, deleted, and what is refused."""
from confluent_kafka.admin import AclBinding, AclBindingFilter, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from kit import PATIENCE, RUN, admin, named, part, told, until

client = admin()
R, P, O, T = ResourceType, ResourcePatternType, AclOperation, AclPermissionType
EVERY = (R.ANY, None, P.ANY, None, None, O.ANY, T.ANY)
alice, bob = f"User:alice-{RUN}", f"User:bob-{RUN}"
# what should be there, by the answers to create and to delete
there = set()


def binding_text(acl):
    return f"{acl.restype.name} {acl.name} {acl.resource_pattern_type.name} {acl.principal} {acl.host} {acl.operation.name} {acl.permission_type.name}"


def made(binding, future):
    future.result(PATIENCE)
    there.update(binding_text(acl) for acl in ours([binding]))


def create(*bindings):
    for binding, future in client.create_acls(list(bindings)).items():
        told(f"create {binding_text(binding)}", lambda: made(binding, future))


def texts(acls):
    return "".join(f"\n    {text}" for text in sorted(binding_text(acl) for acl in acls))


def ours(acls):
    """Other cases have ACLs of their own."""
    return [acl for acl in acls if RUN in acl.principal]


def found(label, *filter):
    told(label, lambda: texts(ours(client.describe_acls(AclBindingFilter(*filter)).result(PATIENCE))))


def caught_up():
    """Apache Kafka answers a change before its broker has heard."""
    def seen():
        return {binding_text(acl) for acl in ours(client.describe_acls(AclBindingFilter(*EVERY)).result(PATIENCE))}
    until(lambda: seen() == there, what=f"{there}")


def taken(acls):
    there.difference_update(binding_text(acl) for acl in acls)
    return texts(acls)


def deleted(label, *filters):
    for filter, future in client.delete_acls([AclBindingFilter(*f) for f in filters]).items():
        told(f"{label} {filter.name} {filter.resource_pattern_type.name}", lambda: taken(future.result(PATIENCE)))


part("create")
orders, order, group, txn = named("acls-orders"), "acls-ord", named("acls-group"), named("acls-txn")
create(AclBinding(R.TOPIC, orders, P.LITERAL, alice, "*", O.READ, T.ALLOW),
       AclBinding(R.TOPIC, orders, P.LITERAL, alice, "*", O.WRITE, T.DENY),
       AclBinding(R.TOPIC, order, P.PREFIXED, alice, "10.0.0.1", O.ALL, T.ALLOW),
       AclBinding(R.TOPIC, "*", P.LITERAL, alice, "*", O.DESCRIBE, T.ALLOW),
       AclBinding(R.TOPIC, orders, P.PREFIXED, bob, "*", O.DESCRIBE_CONFIGS, T.ALLOW),
       AclBinding(R.GROUP, group, P.LITERAL, alice, "*", O.READ, T.ALLOW),
       AclBinding(R.GROUP, "*", P.LITERAL, bob, "*", O.DELETE, T.DENY),
       AclBinding(R.TRANSACTIONAL_ID, txn, P.PREFIXED, bob, "*", O.WRITE, T.ALLOW),
       AclBinding(R.BROKER, "kafka-cluster", P.LITERAL, bob, "*", O.IDEMPOTENT_WRITE, T.ALLOW),
       AclBinding(R.BROKER, "kafka-cluster", P.LITERAL, bob, "*", O.CLUSTER_ACTION, T.DENY))
create(AclBinding(R.TOPIC, orders, P.LITERAL, alice, "*", O.READ, T.ALLOW))

part("refused")
for bad in ((R.TOPIC, orders, P.LITERAL, "alice", "*", O.READ, T.ALLOW), (R.TOPIC, orders, P.LITERAL, "Group:a:b", "*", O.READ, T.ALLOW), (R.TOPIC, "", P.LITERAL, alice, "*", O.READ, T.ALLOW),
            (R.TOPIC, orders, P.MATCH, alice, "*", O.READ, T.ALLOW), (R.TOPIC, orders, P.ANY, alice, "*", O.READ, T.ALLOW),
            (R.ANY, orders, P.LITERAL, alice, "*", O.READ, T.ALLOW), (R.TOPIC, orders, P.LITERAL, alice, "*", O.ANY, T.ALLOW),
            (R.TOPIC, orders, P.LITERAL, alice, "*", O.READ, T.ANY), (R.BROKER, "another-cluster", P.LITERAL, alice, "*", O.ALTER, T.ALLOW),
            (R.TOPIC, orders, P.LITERAL, alice, "", O.READ, T.ALLOW), (R.GROUP, group, P.LITERAL, alice, "*", O.WRITE, T.ALLOW),
            (R.TOPIC, "a b", P.LITERAL, alice, "*", O.READ, T.ALLOW), (R.TOPIC, orders, P.LITERAL, "", "*", O.READ, T.ALLOW)):
    told(f"create {[getattr(x, 'name', x) for x in bad]}", lambda: made(*next(iter(client.create_acls([AclBinding(*bad)]).items()))))

part("describe")
caught_up()
found("all", *EVERY)
found("topics", R.TOPIC, None, P.ANY, None, None, O.ANY, T.ANY)
found("literal by name", R.TOPIC, orders, P.LITERAL, None, None, O.ANY, T.ANY)
found("prefixed by name", R.TOPIC, order, P.PREFIXED, None, None, O.ANY, T.ANY)
found("any pattern by name", R.TOPIC, orders, P.ANY, None, None, O.ANY, T.ANY)
found("match", R.TOPIC, orders, P.MATCH, None, None, O.ANY, T.ANY)
found("match what only a prefix and the wildcard match", R.TOPIC, order + "er", P.MATCH, None, None, O.ANY, T.ANY)
found("wildcard only", R.TOPIC, "*", P.LITERAL, None, None, O.ANY, T.ANY)
found("by principal", R.ANY, None, P.ANY, bob, None, O.ANY, T.ANY)
found("by host", R.ANY, None, P.ANY, None, "10.0.0.1", O.ANY, T.ANY)
found("by operation", R.ANY, None, P.ANY, None, None, O.READ, T.ANY)
found("by permission", R.ANY, None, P.ANY, None, None, O.ANY, T.DENY)
found("operation ALL is only itself", R.ANY, None, P.ANY, None, None, O.ALL, T.ANY)
found("prefixed without a name", R.ANY, None, P.PREFIXED, None, None, O.ANY, T.ANY)
found("nothing", R.TOPIC, named("acls-nothing"), P.LITERAL, None, None, O.ANY, T.ANY)
found("clusters", R.BROKER, None, P.ANY, None, None, O.ANY, T.ANY)

part("delete")
deleted("one", (R.TOPIC, orders, P.LITERAL, alice, "*", O.READ, T.ALLOW))
deleted("none", (R.TOPIC, orders, P.LITERAL, alice, "*", O.READ, T.ALLOW))
deleted("two filters", (R.TOPIC, orders, P.MATCH, alice, None, O.ANY, T.ANY), (R.GROUP, None, P.ANY, alice, None, O.ANY, T.ANY))
caught_up()
found("left", *EVERY)
deleted("bob's", (R.ANY, None, P.ANY, bob, None, O.ANY, T.ANY))
deleted("alice's", (R.ANY, None, P.ANY, alice, None, O.ANY, T.ANY))
caught_up()
found("left", *EVERY)
