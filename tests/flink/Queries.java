// Runs queries on Flink SQL over topics, to their end, and prints the rows that each result holds then.
//
//   java Queries BOOTSTRAP DATA TABLES QUERIES
//
// DATA has a file for each topic, a record a line: time, key and value, parted by tabs; an empty value is a tombstone. They are
// written to topics of one partition first. TABLES is DDL, parted by `;`. QUERIES has a file NAME.sql for each query. Results go
// to QUERIES/NAME.out, a row a line, fields parted by tabs, in the order of the text.

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.serialization.StringSerializer;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;
import org.apache.flink.util.CloseableIterator;

public class Queries {
    public static void main(String[] given) throws Exception {
        write(given[0], Path.of(given[1]));
        TableEnvironment tables = TableEnvironment.create(EnvironmentSettings.inStreamingMode());
        tables.getConfig().set("table.local-time-zone", "UTC");
        tables.getConfig().set("parallelism.default", "1");
        for (String statement : Files.readString(Path.of(given[2])).replace("BOOTSTRAP", given[0]).split(";")) {
            if (!statement.isBlank()) {
                tables.executeSql(statement);
            }
        }
        List<Path> queries;
        try (Stream<Path> files = Files.list(Path.of(given[3]))) {
            queries = files.filter(file -> file.toString().endsWith(".sql")).sorted().toList();
        }
        for (Path query : queries) {
            long began = System.nanoTime();
            List<String> rows;
            try {
                rows = result(tables, Files.readString(query));
            } catch (Exception failed) {
                Throwable cause = failed;
                while (cause.getCause() != null) {
                    cause = cause.getCause();
                }
                rows = List.of("FAILED " + cause);
            }
            Files.write(Path.of(query.toString().replace(".sql", ".out")), rows);
            System.out.printf("%s %d rows, %.1f s%n", query.getFileName(), rows.size(), (System.nanoTime() - began) / 1e9);
        }
    }

    /** Writes every file of a folder to the topic of its name. */
    static void write(String bootstrap, Path data) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("linger.ms", "20");
        List<Path> files;
        try (Stream<Path> found = Files.list(data)) {
            files = found.sorted().toList();
        }
        try (var producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
            for (Path file : files) {
                for (String line : Files.readAllLines(file)) {
                    String[] parts = line.split("\t", -1);
                    String value = parts[2].isEmpty() ? null : parts[2];
                    producer.send(new ProducerRecord<>(file.getFileName().toString(), 0, Long.parseLong(parts[0]), parts[1], value));
                }
            }
            producer.flush();
        }
    }

    /** The names of a query's columns, and the rows that are left when all changes are carried out. */
    static List<String> result(TableEnvironment tables, String query) throws Exception {
        Map<String, Integer> rows = new TreeMap<>();
        TableResult running = tables.executeSql(query);
        String names = "# " + String.join("\t", running.getResolvedSchema().getColumnNames());
        try (CloseableIterator<Row> changes = running.collect()) {
            while (changes.hasNext()) {
                Row row = changes.next();
                boolean comes = row.getKind() == RowKind.INSERT || row.getKind() == RowKind.UPDATE_AFTER;
                rows.merge(text(row), comes ? 1 : -1, Integer::sum);
            }
        }
        return Stream.concat(Stream.of(names), rows.entrySet().stream().flatMap(row -> {
            if (row.getValue() < 0) {
                throw new IllegalStateException("taken back more often than given: " + row.getKey());
            }
            return Stream.generate(row::getKey).limit(row.getValue());
        })).toList();
    }

    static String text(Row row) {
        StringBuilder text = new StringBuilder();
        for (int at = 0; at < row.getArity(); at++) {
            text.append(at == 0 ? "" : "\t").append(value(row.getField(at)));
        }
        return text.toString();
    }

    static String value(Object value) {
        if (value instanceof Instant time) {
            return Long.toString(time.toEpochMilli());
        }
        if (value instanceof LocalDateTime time) {
            return Long.toString(time.toInstant(ZoneOffset.UTC).toEpochMilli());
        }
        if (value instanceof Object[] list) {
            return Arrays.stream(list).map(Queries::value).toList().toString();
        }
        return value == null ? "NULL" : value.toString();
    }
}
