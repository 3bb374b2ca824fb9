// One transactional producer back to back: bootstrap, topic, records a transaction, seconds.
// Prints one JSON line: transactions a second, and the percentiles of begin to committed.
//
// The Java client with transaction version 2 (seen with 4.3.1, on either broker, about once in
// 50,000 transactions) sends EndTxn before the only Produce of its transaction: its sender looks
// for unsent batches, the application begins, sends and commits, and only then the sender takes
// the EndTxn that is due. The broker rightly refuses (INVALID_TXN_STATE), which is fatal to the
// producer. It is made anew here, within the time that is measured.

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.InvalidTxnStateException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Transactions {
    private static final int PARTITIONS = 4;
    private static final double WARM_UP_SECONDS = 2.0;

    private final Properties properties = new Properties();
    private final String topic;
    private final int records;
    private final byte[] value = new byte[100];
    private KafkaProducer<byte[], byte[]> producer;

    private Transactions(String bootstrapServers, String topic, int records) {
        this.topic = topic;
        this.records = records;
        properties.put("bootstrap.servers", bootstrapServers);
        properties.put("transactional.id", topic);
        makeProducer();
    }

    public static void main(String[] arguments) {
        double seconds = Double.parseDouble(arguments[3]);
        Transactions transactions =
                new Transactions(arguments[0], arguments[1], Integer.parseInt(arguments[2]));
        transactions.run(WARM_UP_SECONDS);
        long began = System.nanoTime();
        List<Double> latencies = transactions.run(seconds);
        double spent = (System.nanoTime() - began) / 1e9;
        transactions.producer.close();
        Collections.sort(latencies);
        System.out.printf("{\"tx/s\": %.3f, \"p50 ms\": %.3f, \"p99 ms\": %.3f}%n",
                latencies.size() / spent, at(latencies, 0.5), at(latencies, 0.99));
    }

    private void makeProducer() {
        ByteArraySerializer bytes = new ByteArraySerializer();
        producer = new KafkaProducer<>(properties, bytes, bytes);
        producer.initTransactions();
    }

    private List<Double> run(double seconds) {
        List<Double> latencies = new ArrayList<>();
        long end = System.nanoTime() + (long) (seconds * 1e9);
        while (System.nanoTime() < end) {
            long began = System.nanoTime();
            try {
                producer.beginTransaction();
                for (int number = 0; number < records; number++) {
                    producer.send(new ProducerRecord<>(topic, number % PARTITIONS, null, value));
                }
                producer.commitTransaction();
                latencies.add((System.nanoTime() - began) / 1e6);
            } catch (InvalidTxnStateException raced) {
                System.err.println("the producer was made anew: " + raced.getMessage());
                producer.close();
                makeProducer();
            }
        }
        return latencies;
    }

    private static double at(List<Double> sorted, double share) {
        return sorted.get(Math.min((int) (sorted.size() * share), sorted.size() - 1));
    }
}
