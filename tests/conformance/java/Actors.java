import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Who is there while the tools look: producers with open transactions, members of groups. */
class Actors {
    static final Map<String, KafkaProducer<String, String>> PRODUCERS = new HashMap<>();
    static final Map<String, Member> MEMBERS = new HashMap<>();

    /** A consumer that polls in a thread of its own, committing what it read, until it is told to leave. */
    static final class Member extends Thread {
        final KafkaConsumer<String, String> consumer;
        final CountDownLatch assigned = new CountDownLatch(1);
        volatile boolean leaving;

        Member(String group, String topic, String name, String protocol) {
            Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", Tools.BOOTSTRAP, "group.id", group, "client.id", name,
                "group.protocol", protocol, "auto.offset.reset", "earliest", "auto.commit.interval.ms", 50));
            consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
            consumer.subscribe(List.of(topic));
            setDaemon(true);
        }

        @Override public void run() {
            while (!leaving) {
                consumer.poll(Duration.ofMillis(50));
                if (!consumer.assignment().isEmpty()) assigned.countDown();
            }
            consumer.close();
        }
    }

    /** Does what a line asks for; whether it was such a line. */
    static boolean act(List<String> words) throws Exception {
        switch (words.get(0)) {
            case "transaction" -> {
                KafkaProducer<String, String> producer = PRODUCERS.computeIfAbsent(words.get(1), id -> {
                    Map<String, Object> settings = Map.of("bootstrap.servers", Tools.BOOTSTRAP, "transactional.id", id);
                    KafkaProducer<String, String> fresh = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
                    fresh.initTransactions();
                    return fresh;
                });
                producer.beginTransaction();
                for (int i = 0; i < Integer.parseInt(words.get(3)); i++)
                    producer.send(new ProducerRecord<>(words.get(2), 0, "k" + i, words.get(1) + "-" + i)).get(30, TimeUnit.SECONDS);
            }
            case "commit" -> {
                try {
                    PRODUCERS.get(words.get(1)).commitTransaction();
                    Tools.REAL.println("committed");
                } catch (RuntimeException e) {
                    Tools.REAL.println("commit: " + e.getClass().getSimpleName());
                }
            }
            case "member" -> {
                Member member = new Member(words.get(1), words.get(2), words.get(3), words.get(4));
                MEMBERS.put(words.get(3), member);
                member.start();
                if (!member.assigned.await(30, TimeUnit.SECONDS)) throw new IllegalStateException("no partitions for " + words);
            }
            case "leave" -> {
                Member member = MEMBERS.remove(words.get(1));
                member.leaving = true;
                member.join(30_000);
            }
            default -> {
                return false;
            }
        }
        return true;
    }
}
