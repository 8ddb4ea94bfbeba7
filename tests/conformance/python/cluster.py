"""The cluster, leader elections and SCRAM users."""
from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import ScramCredentialInfo, ScramMechanism, UserScramCredentialDeletion, UserScramCredentialUpsertion

from kit import PATIENCE, RUN, admin, each, named, part, told, topic, until

client = admin()


def cluster_text(result):
    operations = sorted(o.name for o in result.authorized_operations or [])
    return f"id of {len(result.cluster_id)} letters, controller {result.controller.id}, nodes {[(n.id, n.host, n.rack) for n in result.nodes]}, {operations}"


part("cluster")
told("describe", lambda: cluster_text(client.describe_cluster().result(PATIENCE)))
told("with operations", lambda: cluster_text(client.describe_cluster(include_authorized_operations=True).result(PATIENCE)))
told("metadata agrees", lambda: client.list_topics(timeout=PATIENCE).cluster_id == client.describe_cluster().result(PATIENCE).cluster_id)
told("controller", lambda: client.list_topics(timeout=PATIENCE).controller_id)
told("brokers", lambda: [(b.id, b.host) for b in client.list_topics(timeout=PATIENCE).brokers.values()])

part("elections")
name = topic("cluster", 2)
def elect(label, kind, partitions):
    told(label, lambda: sorted((p.topic, p.partition, error and error.name()) for p, error in client.elect_leaders(kind, partitions).result(PATIENCE).items()))

elect("preferred", ElectionType.PREFERRED, [TopicPartition(name, 0), TopicPartition(name, 1)])
elect("unclean", ElectionType.UNCLEAN, [TopicPartition(name, 0)])
elect("unknown", ElectionType.PREFERRED, [TopicPartition(name, 7), TopicPartition(named("cluster-ghost"), 0)])

part("SCRAM users")
u, v = f"u-{RUN}", f"v-{RUN}"
S256, S512 = ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512


def user_text(description):
    return [(i.mechanism.name, i.iterations) for i in sorted(description.scram_credential_infos, key=lambda i: i.mechanism.name)]


def upsert(user, mechanism, iterations=4096, password=b"secret", salt=b"salt"):
    return UserScramCredentialUpsertion(user, ScramCredentialInfo(mechanism, iterations), password, salt)


def alter(label, *alterations):
    each(label, client.alter_user_scram_credentials(list(alterations)))


alter("two mechanisms at once", upsert(u, S256), upsert(u, S512, 8192))
alter("create", upsert(u, S256), upsert(v, S512))
alter("another", upsert(u, S512, 8192))
until(lambda: len(client.describe_user_scram_credentials([u])[u].result(PATIENCE).scram_credential_infos) == 2)
each("describe", client.describe_user_scram_credentials([u, v]), user_text)
told("all", lambda: sorted((name, user_text(d)) for name, d in client.describe_user_scram_credentials().result(PATIENCE).items() if RUN in name))
each("unknown", client.describe_user_scram_credentials([named("nobody")]), user_text)
alter("replace", upsert(u, S256, 5000))
until(lambda: (S256, 5000) in [(i.mechanism, i.iterations) for i in client.describe_user_scram_credentials([u])[u].result(PATIENCE).scram_credential_infos])
each("describe", client.describe_user_scram_credentials([u]), user_text)
alter("too few iterations", upsert(u, S256, 4095))
alter("too many iterations", upsert(u, S256, 16385))
alter("the same twice", upsert(u, S256, 4096), UserScramCredentialDeletion(u, S256))
alter("delete one", UserScramCredentialDeletion(u, S256))
until(lambda: len(client.describe_user_scram_credentials([u])[u].result(PATIENCE).scram_credential_infos) == 1)
alter("delete what is gone", UserScramCredentialDeletion(u, S256))
each("describe", client.describe_user_scram_credentials([u, v]), user_text)
alter("delete", UserScramCredentialDeletion(u, S512), UserScramCredentialDeletion(v, S512))
until(lambda: not any(RUN in name for name in client.describe_user_scram_credentials().result(PATIENCE)))
each("describe", client.describe_user_scram_credentials([u, v]), user_text)
