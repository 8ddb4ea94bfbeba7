import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What the Java cases share; in the words of clients 3.9 and 4.3 alike. */
class Case {
    static final String BOOTSTRAP = System.getenv("BOOTSTRAP"), RUN = System.getenv("RUN"), WORK = System.getenv("WORK");
    static final Admin ADMIN = Admin.create(Map.of("bootstrap.servers", BOOTSTRAP));

    static String named(String name) {
        return name + "-" + RUN;
    }

    static void part(String title) {
        System.out.println("== " + title);
    }

    /** Prints what a call gives, or the kind of error that it ends with; not its words, which are each broker's own. */
    static <T> T told(String label, Callable<T> call) {
        try {
            T result = call.call();
            System.out.println(label + ": " + (result == null ? "ok" : result));
            return result;
        } catch (Exception e) {
            Throwable cause = e instanceof ExecutionException ? e.getCause() : e;
            System.out.println(label + ": " + cause.getClass().getSimpleName());
            return null;
        }
    }

    static <T> T of(KafkaFuture<T> future) throws Exception {
        return future.get(30, TimeUnit.SECONDS);
    }

    /** The same for a call that gives nothing. */
    interface Act {
        void run() throws Exception;
    }

    static void did(String label, Act act) {
        told(label, () -> {
            act.run();
            return null;
        });
    }

    static Map<String, Object> settings(Object... pairs) {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", BOOTSTRAP));
        for (int i = 0; i < pairs.length; i += 2) settings.put((String) pairs[i], pairs[i + 1]);
        return settings;
    }

    /** A topic of this run, there for all to see. */
    static String topic(String name, int partitions) throws Exception {
        String full = named(name);
        of(ADMIN.createTopics(List.of(new NewTopic(full, partitions, (short) 1))).all());
        until(full + " there", () -> {
            try {
                TopicDescription description = of(ADMIN.describeTopics(List.of(full)).topicNameValues().get(full));
                return description.partitions().stream().allMatch(p -> p.leader() != null);
            } catch (ExecutionException e) {
                if (e.getCause() instanceof UnknownTopicOrPartitionException) return false;
                throw e;
            }
        });
        return full;
    }

    static void until(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.currentTimeMillis() + 40_000;
        while (!condition.call()) {
            if (System.currentTimeMillis() > deadline) throw new IllegalStateException("in vain: " + what);
            Thread.sleep(20);
        }
    }

    static KafkaProducer<String, String> producer(Object... pairs) {
        return new KafkaProducer<>(settings(pairs), new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(Object... pairs) {
        Map<String, Object> settings = settings("auto.offset.reset", "earliest", "enable.auto.commit", "false");
        for (int i = 0; i < pairs.length; i += 2) settings.put((String) pairs[i], pairs[i + 1]);
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    static String text(ConsumerRecord<String, String> record) {
        return record.partition() + "@" + record.offset() + " " + record.key() + "=" + record.value();
    }

    /** All records of a topic up to its end, by partition and offset. */
    static List<ConsumerRecord<String, String>> read(String topic, String isolation) {
        List<ConsumerRecord<String, String>> found = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer = consumer("isolation.level", isolation)) {
            Collection<TopicPartition> partitions = consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            long deadline = System.currentTimeMillis() + 30_000;
            while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                consumer.poll(Duration.ofMillis(100)).forEach(found::add);
                if (System.currentTimeMillis() > deadline) throw new IllegalStateException("the end of " + topic + " was not reached");
            }
        }
        found.sort(Comparator.comparing((ConsumerRecord<String, String> r) -> r.partition()).thenComparing(r -> r.offset()));
        return found;
    }

    static List<String> texts(String topic, String isolation) {
        return read(topic, isolation).stream().map(Case::text).toList();
    }

    static String optional(Optional<?> value) {
        return value.map(Object::toString).orElse("none");
    }
}
