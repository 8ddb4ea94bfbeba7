import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.StringReader;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs a text file of calls of Kafka's own tools, all in one Java machine, and prints what each prints.
 *
 * <pre>
 * # a comment
 * == a title
 * file NAME           the lines that follow, up to one that is a dot, are a file $WORK/NAME
 * TOOL arguments..    with words in 'quotes' kept together; {RUN}, {WORK} and {BOOTSTRAP} replaced; TOOL's --bootstrap-server is added
 * transaction ID TOPIC N   begins a transaction, sends N records to partition 0 of the topic and leaves it open;
 * commit ID                ends it
 * member GROUP TOPIC NAME PROTOCOL   joins a consumer to a group and waits until it has partitions; leave NAME
 *   before TOOL:  sort             its lines are sorted
 *                 keep=PATTERN     only lines that match are shown
 *                 until=PATTERN    called again until what it shows matches (Kafka answers before every part of it has heard)
 *                 in=NAME          its standard input
 *                 sub=/PATTERN/TO/ replaced in every line
 * </pre>
 */
public class Tools {
    static final Map<String, String> CLASSES = Map.ofEntries(
        Map.entry("kafka-topics", "org.apache.kafka.tools.TopicCommand"),
        Map.entry("kafka-configs", "kafka.admin.ConfigCommand"),
        Map.entry("kafka-acls", "org.apache.kafka.tools.AclCommand"),
        Map.entry("kafka-consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
        Map.entry("kafka-groups", "org.apache.kafka.tools.GroupsCommand"),
        Map.entry("kafka-console-producer", "org.apache.kafka.tools.ConsoleProducer"),
        Map.entry("kafka-console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
        Map.entry("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
        Map.entry("kafka-delete-records", "org.apache.kafka.tools.DeleteRecordsCommand"),
        Map.entry("kafka-transactions", "org.apache.kafka.tools.TransactionsCommand"),
        Map.entry("kafka-producer-perf-test", "org.apache.kafka.tools.ProducerPerformance"),
        Map.entry("kafka-consumer-perf-test", "org.apache.kafka.tools.ConsumerPerformance"),
        Map.entry("kafka-log-dirs", "org.apache.kafka.tools.LogDirsCommand"),
        Map.entry("kafka-broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand"),
        Map.entry("kafka-leader-election", "org.apache.kafka.tools.LeaderElectionCommand"),
        Map.entry("kafka-reassign-partitions", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
        Map.entry("kafka-verifiable-producer", "org.apache.kafka.tools.VerifiableProducer"),
        Map.entry("kafka-verifiable-consumer", "org.apache.kafka.tools.VerifiableConsumer"),
        Map.entry("kafka-client-metrics", "org.apache.kafka.tools.ClientMetricsCommand"),
        Map.entry("kafka-features", "org.apache.kafka.tools.FeatureCommand"),
        Map.entry("kafka-metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand"),
        Map.entry("kafka-cluster", "org.apache.kafka.tools.ClusterTool"),
        Map.entry("kafka-e2e-latency", "org.apache.kafka.tools.EndToEndLatency"),
        Map.entry("client-compatibility-test", "org.apache.kafka.tools.ClientCompatibilityTest"));

    /** What a broker says about an error is in its own words: only the kind of error is compared. */
    static final Map<Pattern, String> WORDS = Map.of(
        Pattern.compile("(org\\.apache\\.kafka\\.common\\.errors\\.\\w+): .*"), "$1: (words)",
        Pattern.compile("(Error while executing topic command) : .*"), "$1: (words)");

    /** Where what the tools print goes: Scala keeps the first stream that it saw, so the stream stays and its end is moved. */
    static final class Out extends OutputStream {
        volatile ByteArrayOutputStream end = new ByteArrayOutputStream();

        @Override public void write(int b) { end.write(b); }
        @Override public void write(byte[] bytes, int from, int count) { end.write(bytes, from, count); }
    }

    /** Thrown where a tool would have ended the machine. */
    static final class Left extends RuntimeException { }

    /** What had been printed when the tool running now asked to end, and with which code: what follows is its handling of our throw. */
    static volatile String left;

    static final PrintStream REAL = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    static final Out OUT = new Out();
    /** What the tool running now would have done as its machine ended: some flush only then. */
    static final Queue<Runnable> HOOKS = new ConcurrentLinkedQueue<>();
    static final String RUN = System.getenv("RUN"), WORK = System.getenv("WORK"), BOOTSTRAP = System.getenv("BOOTSTRAP");

    public static void main(String[] args) throws Exception {
        PrintStream captured = new PrintStream(OUT, true, StandardCharsets.UTF_8);
        System.setOut(captured);
        System.setErr(captured);
        Exit.setExitProcedure((code, message) -> leave(code));
        Exit.setHaltProcedure((code, message) -> leave(code));
        Exit.setShutdownHookAdder((name, runnable) -> HOOKS.add(runnable));
        BufferedReader script = new BufferedReader(new StringReader(Files.readString(Path.of(args[0]))));
        for (String line; (line = script.readLine()) != null; ) {
            line = line.strip().replace("{RUN}", RUN).replace("{WORK}", WORK).replace("{BOOTSTRAP}", BOOTSTRAP);
            if (line.isEmpty() || line.startsWith("#")) continue;
            if (line.startsWith("==")) REAL.println(line);
            else if (line.startsWith("file ")) file(line.substring(5), script);
            else if (!Actors.act(words(line))) call(words(line));
        }
        REAL.flush();
        Runtime.getRuntime().halt(0);
    }

    static void leave(int code) {
        System.out.flush();
        if (left == null) left = OUT.end.toString(StandardCharsets.UTF_8) + (code == 0 ? "" : "exit " + code);
        throw new Left();
    }

    static void file(String name, BufferedReader script) throws Exception {
        StringBuilder text = new StringBuilder();
        for (String line; (line = script.readLine()) != null && !line.equals("."); )
            text.append(line.replace("{RUN}", RUN).replace("\\t", "\t")).append('\n');
        Files.writeString(Path.of(WORK, name), text);
    }

    static List<String> words(String line) {
        List<String> words = new ArrayList<>();
        Matcher matcher = Pattern.compile("(?:'[^']*'|[^\\s'])+").matcher(line);
        while (matcher.find()) words.add(matcher.group().replace("'", ""));
        return words;
    }

    static void call(List<String> words) throws Exception {
        boolean sort = false;
        Pattern keep = null, until = null;
        Map<Pattern, String> subs = new LinkedHashMap<>();
        String in = "";
        List<String> rest = new ArrayList<>(words);
        for (; ; rest.remove(0)) {
            String word = rest.get(0);
            if (word.equals("sort")) sort = true;
            else if (word.startsWith("keep=")) keep = Pattern.compile(word.substring(5));
            else if (word.startsWith("until=")) until = Pattern.compile(word.substring(6), Pattern.DOTALL);
            else if (word.startsWith("in=")) in = Files.readString(Path.of(WORK, word.substring(3)));
            else if (word.startsWith("sub=")) {
                String[] parts = word.substring(5).split("/", -1);
                subs.put(Pattern.compile(parts[0]), parts[1]);
            } else break;
        }
        String tool = rest.remove(0);
        REAL.println("> " + tool + " " + String.join(" ", rest));
        String shown;
        long deadline = System.currentTimeMillis() + 20_000;
        do {
            List<String> lines = new ArrayList<>(run(tool, rest, in).lines().map(String::stripTrailing).toList());
            Pattern wanted = keep;
            subs.forEach((pattern, by) -> lines.replaceAll(line -> pattern.matcher(line).replaceAll(by)));
            if (wanted != null) lines.removeIf(line -> !wanted.matcher(line).find());
            if (sort) lines.sort(null);
            shown = String.join("\n", lines);
        } while (until != null && !until.matcher(shown).find() && System.currentTimeMillis() < deadline);
        if (!shown.isEmpty()) REAL.println(shown);
        if (System.getenv("TIMES") != null) REAL.println("took " + (System.currentTimeMillis() - deadline + 20_000));
    }

    /** What a tool prints, and how it left when that was not well. */
    static String run(String tool, List<String> arguments, String in) throws Exception {
        List<String> all = new ArrayList<>(arguments);
        if (!arguments.contains("--bootstrap-server")) all.addAll(0, List.of("--bootstrap-server", BOOTSTRAP));
        if (tool.equals("kafka-cluster")) all.add(0, all.remove(all.indexOf(arguments.get(0))));
        OUT.end = new ByteArrayOutputStream();
        System.setIn(new ByteArrayInputStream(in.getBytes(StandardCharsets.UTF_8)));
        Class<?> type = Class.forName(CLASSES.getOrDefault(tool, tool));
        if (tool.equals("kafka-console-consumer")) {
            Field count = type.getDeclaredField("messageCount");
            count.setAccessible(true);
            count.setInt(null, 0);
        }
        left = null;
        Thread thread = new Thread(() -> {
            try {
                type.getMethod("main", String[].class).invoke(null, (Object) all.toArray(new String[0]));
            } catch (InvocationTargetException e) {
                if (!(e.getCause() instanceof Left)) System.out.println("threw " + e.getCause());
            } catch (ReflectiveOperationException e) {
                System.out.println("threw " + e);
            }
            for (Runnable hook; (hook = HOOKS.poll()) != null; ) hook.run();
        });
        thread.setDaemon(true);
        thread.start();
        thread.join(45_000);
        if (thread.isAlive()) {
            REAL.println(OUT.end.toString(StandardCharsets.UTF_8) + "not done in 45 s");
            REAL.flush();
            Runtime.getRuntime().halt(1);
        }
        System.out.flush();
        String printed = left == null ? OUT.end.toString(StandardCharsets.UTF_8) : left;
        for (Map.Entry<Pattern, String> words : WORDS.entrySet()) printed = words.getKey().matcher(printed).replaceAll(words.getValue());
        return printed.replaceAll("(?m)^\\t(at |\\.\\.\\. \\d+ more).*\\R", "");
    }
}
