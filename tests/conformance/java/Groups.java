import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Groups of the Java consumer, under the classic protocol and under KIP-848. */
class Groups extends Case {
    /** A member that polls in a thread of its own. */
    static final class Member extends Thread {
        final KafkaConsumer<String, String> consumer;
        final List<ConsumerRecord<String, String>> records = Collections.synchronizedList(new ArrayList<>());
        volatile Set<TopicPartition> assignment = Set.of();
        volatile boolean leaving;
        volatile Exception failure;

        Member(String group, Pattern pattern, Object... pairs) {
            List<Object> all = new ArrayList<>(List.of("group.id", group, "enable.auto.commit", "true", "auto.commit.interval.ms", 100));
            all.addAll(List.of(pairs));
            consumer = consumer(all.toArray());
            consumer.subscribe(pattern);
            setDaemon(true);
            start();
        }

        @Override public void run() {
            try {
                while (!leaving) {
                    consumer.poll(Duration.ofMillis(50)).forEach(records::add);
                    assignment = consumer.assignment();
                }
                consumer.close();
            } catch (Exception e) {
                failure = e;
            }
        }

        void leave() throws Exception {
            leaving = true;
            join(30_000);
            if (failure != null) throw failure;
        }
    }

    static String described(String group) throws Exception {
        ConsumerGroupDescription d = of(ADMIN.describeConsumerGroups(List.of(group)).describedGroups().get(group));
        return d.partitionAssignor() + " " + d.members().stream().map(m -> m.clientId() + " " + optional(m.groupInstanceId()) + " " + m.assignment().topicPartitions().size()).sorted().toList();
    }

    static boolean shared(int total, Member... members) {
        return Stream.of(members).allMatch(m -> !m.assignment.isEmpty()) && Stream.of(members).flatMap(m -> m.assignment.stream()).distinct().count() == total
            && Stream.of(members).mapToInt(m -> m.assignment.size()).sum() == total;
    }

    static List<Integer> sizes(Member... members) {
        return Stream.of(members).map(m -> m.assignment.size()).sorted().toList();
    }

    public static void main(String[] args) throws Exception {
        for (String protocol : List.of("classic", "cooperative", "consumer")) {
            part(protocol);
            Object[] settings = switch (protocol) {
                case "classic" -> new Object[] {"heartbeat.interval.ms", 300};
                case "cooperative" -> new Object[] {"heartbeat.interval.ms", 300, "partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"};
                default -> new Object[] {"group.protocol", "consumer"};
            };
            String group = named("jgroup-" + protocol), first = topic("jgroup-" + protocol + "-1", 2);
            topic("jgroup-" + protocol + "-2", 2);
            Pattern pattern = Pattern.compile("jgroup-" + protocol + "-[12]-" + RUN);
            Member a = new Member(group, pattern, with(settings, "client.id", "a"));
            until("a has four", () -> a.assignment.size() == 4);
            told("one", () -> described(group));
            Member b = new Member(group, pattern, with(settings, "client.id", "b"));
            until("shared", () -> shared(4, a, b));
            told("two", () -> sizes(a, b));
            try (KafkaProducer<String, String> producer = producer()) {
                for (int i = 0; i < 40; i++) producer.send(new ProducerRecord<>(first, i % 2, null, "v" + i)).get();
            }
            until("read", () -> a.records.size() + b.records.size() >= 40);
            told("each once", () -> Stream.of(a, b).flatMap(m -> m.records.stream()).map(ConsumerRecord::value).distinct().count() + " of " + (a.records.size() + b.records.size()));
            until("stable", () -> described(group).contains(" b "));
            told("two", () -> described(group));
            a.leave();
            until("b has four", () -> b.assignment.size() == 4);
            told("one", () -> described(group));
            b.leave();
            told("none", () -> described(group));
            told("committed", () -> offsets(group));
            told("delete offsets", () -> {
                TopicPartition at = new TopicPartition(first, 0);
                of(ADMIN.deleteConsumerGroupOffsets(group, Set.of(at)).partitionResult(at));
                return offsets(group);
            });
            did("alter", () -> of(ADMIN.alterConsumerGroupOffsets(group, Map.of(new TopicPartition(first, 0), new OffsetAndMetadata(3, "by hand"))).all()));
            told("altered", () -> offsets(group));
            did("delete", () -> of(ADMIN.deleteConsumerGroups(List.of(group)).all()));
            told("gone", () -> offsets(group));
        }

        part("static members removed by an administrator");
        String name = topic("jgroup-static", 2), group = named("jgroup-static");
        Member one = new Member(group, Pattern.compile(name), "group.instance.id", "one", "client.id", "one", "heartbeat.interval.ms", 300);
        Member two = new Member(group, Pattern.compile(name), "group.instance.id", "two", "client.id", "two", "heartbeat.interval.ms", 300);
        until("shared", () -> shared(2, one, two));
        told("members", () -> described(group));
        told("offsets of a topic in use", () -> {
            TopicPartition at = new TopicPartition(name, 0);
            of(ADMIN.deleteConsumerGroupOffsets(group, Set.of(at)).partitionResult(at));
            return null;
        });
        two.leave();
        told("it is still there", () -> described(group));
        did("remove", () -> of(ADMIN.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("two")))).all()));
        did("remove a stranger", () -> of(ADMIN.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("three")))).all()));
        until("one has both", () -> one.assignment.size() == 2);
        told("members", () -> described(group));
        one.leave();
        told("unknown", () -> described(named("jgroup-ghost")));
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    static Object[] with(Object[] settings, Object... more) {
        List<Object> all = new ArrayList<>(List.of(settings));
        all.addAll(List.of(more));
        return all.toArray();
    }

    static String offsets(String group) throws Exception {
        Map<String, String> found = new TreeMap<>();
        of(ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).forEach((at, offset) -> found.put(at.toString(), offset.offset() + " " + offset.metadata()));
        return found.toString();
    }
}
