import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;

/** Transactions of the Java producer: with clients from 4.0 on under KIP-890, whose epochs grow with every transaction. */
class Transactions extends Case {
    static void send(KafkaProducer<String, String> producer, String topic, int partition, String... values) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (String value : values) sent.add(producer.send(new ProducerRecord<>(topic, partition, null, value)));
        for (Future<RecordMetadata> one : sent) one.get();
    }

    static String state(String id) throws Exception {
        TransactionDescription t = of(ADMIN.describeTransactions(List.of(id)).description(id));
        return t.state() + " epoch " + t.producerEpoch() + " timeout " + t.transactionTimeoutMs() + " started " + t.transactionStartTimeMs().isPresent() + " "
            + t.topicPartitions().stream().map(TopicPartition::toString).sorted().toList();
    }

    /** Waits for what the coordinator does after it has answered. */
    static void settled(String id) throws Exception {
        until("state of " + id, () -> state(id).matches("(Empty|Complete).*"));
    }

    static List<String> producers(String topic, int partition) throws Exception {
        TopicPartition at = new TopicPartition(topic, partition);
        return of(ADMIN.describeProducers(List.of(at)).partitionResult(at)).activeProducers().stream().map(Transactions::producer).sorted().toList();
    }

    static String producer(ProducerState p) {
        return "epoch " + p.producerEpoch() + " sequence " + p.lastSequence() + " coordinator " + p.coordinatorEpoch() + " open from " + p.currentTransactionStartOffset();
    }

    /** The kind of a failure whose words depend on which of two calls is told first. */
    static String kind(Act act) {
        try {
            act.run();
            return "ok";
        } catch (Exception e) {
            return (e instanceof java.util.concurrent.ExecutionException ? e.getCause() : e).getClass().getSimpleName();
        }
    }

    public static void main(String[] args) throws Exception {
        part("epochs and states");
        String topic = topic("jtxn", 2), id = named("jtxn");
        KafkaProducer<String, String> producer = producer("transactional.id", id);
        producer.initTransactions();
        told("after init", () -> state(id));
        for (int turn = 0; turn < 4; turn++) {
            producer.beginTransaction();
            send(producer, topic, 0, turn + "-a", turn + "-b");
            send(producer, topic, 1, turn + "-c");
            told("open", () -> state(id));
            told("producers", () -> producers(topic, 0));
            if (turn % 2 == 0) producer.commitTransaction(); else producer.abortTransaction();
            settled(id);
            told("ended", () -> state(id));
            told("producers", () -> producers(topic, 0));
        }
        told("committed", () -> texts(topic, "read_committed"));
        told("all", () -> texts(topic, "read_uncommitted"));
        producer.beginTransaction();
        did("empty commit", producer::commitTransaction);
        producer.beginTransaction();
        did("empty abort", producer::abortTransaction);
        told("state", () -> state(id));
        did("commit without begin", producer::commitTransaction);
        told("listed", () -> of(ADMIN.listTransactions(new ListTransactionsOptions()).all()).stream().filter(t -> t.transactionalId().equals(id)).map(t -> t.state()).toList());

        part("a new producer of the same id");
        producer.beginTransaction();
        send(producer, topic, 0, "lost");
        KafkaProducer<String, String> heir = producer("transactional.id", id);
        did("init", heir::initTransactions);
        settled(id);
        told("the first sends", () -> kind(() -> send(producer, topic, 0, "zombie")));
        told("the first commits", () -> kind(producer::commitTransaction));
        producer.close(Duration.ZERO);
        heir.beginTransaction();
        send(heir, topic, 0, "heir");
        did("the second commits", heir::commitTransaction);
        told("committed", () -> texts(topic, "read_committed"));
        heir.close();

        part("offsets with the group's metadata");
        String source = topic("jtxn-in", 1), target = topic("jtxn-out", 1), group = named("jtxn-group"), copier = named("jtxn-copier");
        try (KafkaProducer<String, String> plain = producer()) {
            send(plain, source, 0, "a", "b", "c", "d");
        }
        TopicPartition in = new TopicPartition(source, 0);
        try (KafkaProducer<String, String> copy = producer("transactional.id", copier);
             KafkaConsumer<String, String> consumer = consumer("group.id", group, "isolation.level", "read_committed", "max.poll.records", 2)) {
            copy.initTransactions();
            consumer.subscribe(List.of(source));
            for (int turn = 0; turn < 2; turn++) {
                List<ConsumerRecord<String, String>> batch = new ArrayList<>();
                until("two records", () -> {
                    consumer.poll(Duration.ofMillis(100)).forEach(batch::add);
                    return batch.size() == 2;
                });
                copy.beginTransaction();
                for (ConsumerRecord<String, String> record : batch) send(copy, target, 0, record.value());
                long next = batch.get(1).offset() + 1;
                did("offsets", () -> copy.sendOffsetsToTransaction(Map.of(in, new OffsetAndMetadata(next, "m" + next)), consumer.groupMetadata()));
                told("state", () -> state(copier));
                if (turn == 0) copy.commitTransaction(); else copy.abortTransaction();
                settled(copier);
                told("committed", () -> of(ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(in).offset());
            }
            copy.beginTransaction();
            did("offsets of a stranger", () -> copy.sendOffsetsToTransaction(Map.of(in, new OffsetAndMetadata(1)), new ConsumerGroupMetadata(group, 77, "stranger", java.util.Optional.empty())));
            did("abort", copy::abortTransaction);
        }
        told("target", () -> texts(target, "read_committed"));

        part("ended by others");
        String hanging = named("jtxn-hanging"), open = topic("jtxn-open", 1);
        KafkaProducer<String, String> victim = producer("transactional.id", hanging);
        victim.initTransactions();
        victim.beginTransaction();
        send(victim, open, 0, "hangs");
        told("fence", () -> of(ADMIN.fenceProducers(List.of(hanging)).epochId(hanging)));
        settled(hanging);
        did("fenced commit", victim::commitTransaction);
        victim.close(Duration.ZERO);
        KafkaProducer<String, String> other = producer("transactional.id", hanging);
        other.initTransactions();
        other.beginTransaction();
        send(other, open, 0, "aborted by marker");
        TopicPartition at = new TopicPartition(open, 0);
        ProducerState state = of(ADMIN.describeProducers(List.of(at)).partitionResult(at)).activeProducers().get(0);
        did("abort by an administrator", () -> of(ADMIN.abortTransaction(new AbortTransactionSpec(at, state.producerId(), (short) state.producerEpoch(), Math.max(0, state.coordinatorEpoch().orElse(0)))).all()));
        told("producers", () -> producers(open, 0));
        told("read", () -> texts(open, "read_committed"));
        other.close(Duration.ZERO);

        part("time-out");
        String slow = named("jtxn-slow");
        KafkaProducer<String, String> late = producer("transactional.id", slow, "transaction.timeout.ms", 1000);
        late.initTransactions();
        late.beginTransaction();
        send(late, open, 0, "late");
        until("aborted", () -> state(slow).startsWith("CompleteAbort"));
        told("state", () -> state(slow));
        did("its commit", late::commitTransaction);
        late.close(Duration.ZERO);
        did("too long", () -> {
            try (KafkaProducer<String, String> long_ = producer("transactional.id", slow, "transaction.timeout.ms", 1_000_000)) {
                long_.initTransactions();
            }
        });
        told("unknown id", () -> state(named("jtxn-ghost")));
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }
}
