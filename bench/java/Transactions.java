// One transactional producer back to back: bootstrap, topic, records a transaction, seconds.
// Prints one JSON line: transactions a second, and the percentiles of begin to committed.

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Transactions {
    private static final int PARTITIONS = 4;

    public static void main(String[] arguments) {
        String topic = arguments[1];
        int records = Integer.parseInt(arguments[2]);
        double seconds = Double.parseDouble(arguments[3]);
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("transactional.id", topic);
        List<Double> latencies = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.initTransactions();
            run(producer, topic, records, 1.0, new ArrayList<>());
            long began = System.nanoTime();
            run(producer, topic, records, seconds, latencies);
            double spent = (System.nanoTime() - began) / 1e9;
            Collections.sort(latencies);
            System.out.printf("{\"tx/s\": %.3f, \"p50 ms\": %.3f, \"p99 ms\": %.3f}%n",
                    latencies.size() / spent, at(latencies, 0.5), at(latencies, 0.99));
        }
    }

    private static void run(KafkaProducer<byte[], byte[]> producer, String topic, int records,
            double seconds, List<Double> latencies) {
        long end = System.nanoTime() + (long) (seconds * 1e9);
        byte[] value = new byte[100];
        while (System.nanoTime() < end) {
            long began = System.nanoTime();
            producer.beginTransaction();
            for (int number = 0; number < records; number++) {
                producer.send(new ProducerRecord<>(topic, number % PARTITIONS, null, value));
            }
            producer.commitTransaction();
            latencies.add((System.nanoTime() - began) / 1e6);
        }
    }

    private static double at(List<Double> sorted, double share) {
        return sorted.get(Math.min((int) (sorted.size() * share), sorted.size() - 1));
    }
}
