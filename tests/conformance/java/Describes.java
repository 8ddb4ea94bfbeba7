import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.*;

/** What an administrator of the Java client can ask: cluster, features, quorum, topics by id, configs, directories, quotas, reassignments. */
class Describes extends Case {
    static String entry(ConfigEntry e) {
        return e.name() + "=" + e.value() + " " + e.source() + " " + e.type() + (e.isReadOnly() ? " read-only" : "") + (e.isSensitive() ? " sensitive" : "")
            + " documented " + (e.documentation() != null && !e.documentation().isEmpty())
            + " " + e.synonyms().stream().map(s -> s.name() + "=" + s.value() + "(" + s.source() + ")").toList();
    }

    static void configs(String label, ConfigResource resource, Set<String> names) {
        told(label, () -> of(ADMIN.describeConfigs(List.of(resource), new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true)).values().get(resource))
            .entries().stream().filter(e -> names.isEmpty() || names.contains(e.name())).map(e -> "\n    " + entry(e)).sorted().collect(Collectors.joining()));
    }

    static void alter(String label, ConfigResource resource, boolean dry, AlterConfigOp... changes) {
        did(label, () -> of(ADMIN.incrementalAlterConfigs(Map.of(resource, List.of(changes)), new AlterConfigsOptions().validateOnly(dry)).all()));
    }

    static AlterConfigOp op(String name, String value, AlterConfigOp.OpType type) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    public static void main(String[] args) throws Exception {
        part("cluster");
        DescribeClusterResult cluster = ADMIN.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
        told("nodes", () -> of(cluster.nodes()).stream().map(n -> n.id() + " " + n.rack()).toList());
        told("controller", () -> of(cluster.controller()).id());
        told("operations", () -> new TreeSet<>(of(cluster.authorizedOperations())));
        told("quorum", () -> {
            QuorumInfo quorum = of(ADMIN.describeMetadataQuorum().quorumInfo());
            return quorum.leaderId() + " " + quorum.voters().stream().map(v -> v.replicaId()).toList() + " " + quorum.observers().size() + " " + (quorum.highWatermark() >= 0);
        });
        told("finalized features", () -> new TreeMap<>(of(ADMIN.describeFeatures().featureMetadata()).finalizedFeatures()));
        told("supported features", () -> new TreeMap<>(of(ADMIN.describeFeatures().featureMetadata()).supportedFeatures()));
        did("unknown feature", () -> of(ADMIN.updateFeatures(Map.of("nonsense.version", new FeatureUpdate((short) 1, FeatureUpdate.UpgradeType.UPGRADE)), new UpdateFeaturesOptions()).all()));
        did("unregister", () -> of(ADMIN.unregisterBroker(99).all()));

        part("topics");
        String name = topic("jdesc", 2), other = topic("jdesc-other", 1);
        Uuid id = of(ADMIN.describeTopics(List.of(name)).topicNameValues().get(name)).topicId();
        told("by id", () -> of(ADMIN.describeTopics(TopicCollection.ofTopicIds(List.of(id))).topicIdValues().get(id)).name());
        Uuid strange = Uuid.randomUuid();
        told("by a strange id", () -> of(ADMIN.describeTopics(TopicCollection.ofTopicIds(List.of(strange))).topicIdValues().get(strange)).name());
        told("created", () -> {
            CreateTopicsResult result = ADMIN.createTopics(List.of(new NewTopic(named("jdesc-new"), Optional.empty(), Optional.empty()).configs(Map.of("cleanup.policy", "compact"))));
            String fresh = named("jdesc-new");
            return of(result.numPartitions(fresh)) + " " + of(result.replicationFactor(fresh)) + " " + of(result.config(fresh)).entries().stream().map(e -> e.name() + "=" + e.value() + " " + e.source()).sorted().toList();
        });
        did("delete by id", () -> of(ADMIN.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all()));
        until("gone", () -> !of(ADMIN.listTopics().names()).contains(name));
        did("delete by id again", () -> of(ADMIN.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all()));
        told("listed", () -> of(ADMIN.listTopics().listings()).stream().filter(t -> t.name().endsWith(RUN)).map(t -> t.name() + " " + t.isInternal()).sorted().toList());

        part("configs");
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, other), broker = new ConfigResource(ConfigResource.Type.BROKER, "1"), all = new ConfigResource(ConfigResource.Type.BROKER, "");
        configs("topic", topic, Set.of());
        configs("broker", broker, Set.of("num.partitions", "log.retention.ms", "message.max.bytes", "compression.type", "log.cleaner.threads", "auto.create.topics.enable"));
        configs("broker one", new ConfigResource(ConfigResource.Type.BROKER, "one"), Set.of("num.partitions"));
        configs("logger", new ConfigResource(ConfigResource.Type.BROKER_LOGGER, "1"), Set.of("nothing"));
        alter("validate", topic, true, op("retention.ms", "5", AlterConfigOp.OpType.SET));
        alter("bad", topic, false, op("retention.ms", "x", AlterConfigOp.OpType.SET));
        alter("twice", topic, false, op("retention.ms", "1", AlterConfigOp.OpType.SET), op("retention.ms", null, AlterConfigOp.OpType.DELETE));
        alter("null", topic, false, op("retention.ms", null, AlterConfigOp.OpType.SET));
        alter("no topic", new ConfigResource(ConfigResource.Type.TOPIC, ""), false, op("retention.ms", "1", AlterConfigOp.OpType.SET));
        alter("broker 99", new ConfigResource(ConfigResource.Type.BROKER, "all"), false, op("log.retention.ms", "1", AlterConfigOp.OpType.SET));
        alter("nonsense for all", all, false, op("nonsense." + RUN, "1", AlterConfigOp.OpType.SET));
        alter("nonsense for all", all, false, op("nonsense." + RUN, null, AlterConfigOp.OpType.DELETE));

        part("offsets and directories");
        try (KafkaProducer<String, String> producer = producer()) {
            for (int i = 0; i < 5; i++) producer.send(new ProducerRecord<>(other, 0, 1_600_000_000_000L + i * 10, null, "v")).get();
        }
        TopicPartition at = new TopicPartition(other, 0);
        for (Map.Entry<String, OffsetSpec> spec : new TreeMap<>(Map.of("earliest", OffsetSpec.earliest(), "latest", OffsetSpec.latest(), "max", OffsetSpec.maxTimestamp(),
                "time", OffsetSpec.forTimestamp(1_600_000_000_025L), "earliest local", OffsetSpec.earliestLocal(), "latest tiered", OffsetSpec.latestTiered())).entrySet())
            told(spec.getKey(), () -> {
                ListOffsetsResult.ListOffsetsResultInfo found = of(ADMIN.listOffsets(Map.of(at, spec.getValue())).partitionResult(at));
                return found.offset() + " " + found.timestamp() + " epoch " + optional(found.leaderEpoch());
            });
        told("directories", () -> of(ADMIN.describeLogDirs(List.of(1)).allDescriptions()).get(1).values().stream().map(d ->
            d.error() + " total " + d.totalBytes().isPresent() + " usable " + d.usableBytes().isPresent() + " " + d.replicaInfos().entrySet().stream().filter(e -> e.getKey().topic().equals(other))
                .map(e -> e.getKey() + " " + (e.getValue().size() > 0) + " lag " + e.getValue().offsetLag() + " future " + e.getValue().isFuture()).toList()).toList());
        TopicPartitionReplica replica = new TopicPartitionReplica(other, 0, 1);
        told("replica's directory", () -> {
            DescribeReplicaLogDirsResult.ReplicaLogDirInfo found = of(ADMIN.describeReplicaLogDirs(List.of(replica)).values().get(replica));
            return (found.getCurrentReplicaLogDir() != null) + " " + found.getFutureReplicaLogDir();
        });
        did("to a strange directory", () -> of(ADMIN.alterReplicaLogDirs(Map.of(replica, "/nowhere")).all()));
        told("records deleted", () -> of(ADMIN.deleteRecords(Map.of(at, RecordsToDelete.beforeOffset(2))).lowWatermarks().get(at)).lowWatermark());

        part("reassignments and elections");
        told("none", () -> of(ADMIN.listPartitionReassignments().reassignments()));
        told("none of it", () -> of(ADMIN.listPartitionReassignments(Set.of(at)).reassignments()));
        did("to itself", () -> of(ADMIN.alterPartitionReassignments(Map.of(at, Optional.of(new NewPartitionReassignment(List.of(1))))).all()));
        did("to nobody", () -> of(ADMIN.alterPartitionReassignments(Map.of(at, Optional.of(new NewPartitionReassignment(List.of(5))))).all()));
        did("twice to itself", () -> of(ADMIN.alterPartitionReassignments(Map.of(at, Optional.of(new NewPartitionReassignment(List.of(1, 1))))).all()));
        did("cancel", () -> of(ADMIN.alterPartitionReassignments(Map.of(at, Optional.empty())).all()));
        did("of a ghost", () -> of(ADMIN.alterPartitionReassignments(Map.of(new TopicPartition(named("jdesc-ghost"), 0), Optional.of(new NewPartitionReassignment(List.of(1))))).all()));
        told("election", () -> of(ADMIN.electLeaders(ElectionType.PREFERRED, Set.of(at)).partitions()).get(at).map(e -> e.getClass().getSimpleName()).orElse("done"));

        part("quotas");
        ClientQuotaEntity user = new ClientQuotaEntity(Map.of("user", named("u"))), both = new ClientQuotaEntity(Map.of("user", named("u"), "client-id", named("c")));
        did("alter", () -> of(ADMIN.alterClientQuotas(List.of(
            new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1000.0))),
            new ClientQuotaAlteration(both, List.of(new ClientQuotaAlteration.Op("request_percentage", 12.5), new ClientQuotaAlteration.Op("controller_mutation_rate", 3.0))))).all()));
        until("quotas", () -> of(ADMIN.describeClientQuotas(quotas(true)).entities()).size() == 2);
        for (boolean any : new boolean[] {true, false}) told("of the user" + (any ? " and more" : " only"), () -> quotasText(of(ADMIN.describeClientQuotas(quotas(any)).entities())));
        did("unknown", () -> of(ADMIN.alterClientQuotas(List.of(new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("nonsense", 1.0))))).all()));
        did("negative", () -> of(ADMIN.alterClientQuotas(List.of(new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", -1.0))))).all()));
        did("fraction", () -> of(ADMIN.alterClientQuotas(List.of(new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1000.5))))).all()));
        did("strange entity", () -> of(ADMIN.alterClientQuotas(List.of(new ClientQuotaAlteration(new ClientQuotaEntity(Map.of("planet", "x")), List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1.0))))).all()));
        did("bad address", () -> of(ADMIN.alterClientQuotas(List.of(new ClientQuotaAlteration(new ClientQuotaEntity(Map.of("ip", "not an address")), List.of(new ClientQuotaAlteration.Op("connection_creation_rate", 1.0))))).all()));
        did("remove", () -> of(ADMIN.alterClientQuotas(List.of(
            new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", null))),
            new ClientQuotaAlteration(both, List.of(new ClientQuotaAlteration.Op("request_percentage", null), new ClientQuotaAlteration.Op("controller_mutation_rate", null))))).all()));
        until("no quotas", () -> of(ADMIN.describeClientQuotas(quotas(true)).entities()).isEmpty());
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    static ClientQuotaFilter quotas(boolean more) {
        List<ClientQuotaFilterComponent> of = List.of(ClientQuotaFilterComponent.ofEntity("user", named("u")));
        return more ? ClientQuotaFilter.contains(of) : ClientQuotaFilter.containsOnly(of);
    }

    static String quotasText(Map<ClientQuotaEntity, Map<String, Double>> found) {
        return found.entrySet().stream().map(e -> new TreeMap<>(e.getKey().entries()) + " " + new TreeMap<>(e.getValue())).sorted().toList().toString();
    }
}
