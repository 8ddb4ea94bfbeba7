import java.io.File;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Produced;

/** Kafka Streams counts words exactly once (v2) in a process of its own, which is killed in the middle of its work and started again. */
class WordCount extends Case {
    static final String[] WORDS = {"apple", "pear", "plum", "fig", "quince", "grape", "lemon", "cherry", "melon", "kiwi", "lime"};
    static final int LINES = 3000;

    /** The program that is killed. */
    static void count(String in, String out) {
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(in, Consumed.with(Serdes.String(), Serdes.String()))
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
            .count().toStream().mapValues(String::valueOf).to(out, Produced.with(Serdes.String(), Serdes.String()));
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, named("wordcount"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, BOOTSTRAP);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, WORK + File.separator + "state");
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 6000);
        settings.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), 500);
        new KafkaStreams(builder.build(), settings).start();
    }

    static Process start(String in, String out) throws Exception {
        List<String> command = List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", System.getProperty("java.class.path"), "WordCount", in, out);
        return new ProcessBuilder(command).inheritIO().start();
    }

    static String line(int i) {
        return WORDS[i % WORDS.length] + " " + WORDS[(i * i + 3) % WORDS.length] + " " + WORDS[(i / 7) % WORDS.length];
    }

    static void send(String in, int from, int to) {
        try (KafkaProducer<String, String> producer = producer()) {
            for (int i = from; i < to; i++) producer.send(new ProducerRecord<>(in, i % 2, null, line(i)));
        }
    }

    /** The last count of each word among what is committed. */
    static Map<String, Long> counts(List<ConsumerRecord<String, String>> records) {
        Map<String, Long> counts = new TreeMap<>();
        for (ConsumerRecord<String, String> record : records) counts.put(record.key(), Long.parseLong(record.value()));
        return counts;
    }

    static long total(String out) {
        return counts(read(out, "read_committed")).values().stream().mapToLong(Long::longValue).sum();
    }

    public static void main(String[] args) throws Exception {
        if (args.length == 2) {
            count(args[0], args[1]);
            return;
        }
        String in = topic("words", 2), out = topic("counts", 1);
        send(in, 0, LINES / 3);
        Process first = start(in, out);
        until("counting", () -> total(out) > 0);
        Thread sender = new Thread(() -> send(in, LINES / 3, 2 * LINES / 3));
        sender.start();
        until("in the middle", () -> total(out) > LINES);
        first.destroyForcibly().waitFor();
        sender.join();
        System.out.println("killed");
        Process second = start(in, out);
        send(in, 2 * LINES / 3, LINES);
        Map<String, Long> expected = new TreeMap<>();
        for (int i = 0; i < LINES; i++) for (String word : line(i).split(" ")) expected.merge(word, 1L, Long::sum);
        until("all counted", () -> total(out) >= 3L * LINES);
        List<ConsumerRecord<String, String>> records = read(out, "read_committed");
        told("counts", () -> counts(records));
        told("as counted here", () -> counts(records).equals(expected));
        Map<String, Long> last = new HashMap<>();
        told("no count comes twice or goes back", () -> records.stream().allMatch(r -> {
            Long before = last.put(r.key(), Long.parseLong(r.value()));
            return before == null || before < Long.parseLong(r.value());
        }));
        second.destroyForcibly().waitFor();
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }
}
