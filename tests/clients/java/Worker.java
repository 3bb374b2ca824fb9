import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TransactionAbortableException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The Java client behind a line protocol: a JSON object per line on standard input, one per line
 * back. {"object": id, "method": name, "arguments": [...]} is answered by {"result": ...} or
 * {"error": {"kind", "native", "text"}}. Object 0 makes producers, consumers and admins, and
 * answers with their ids. Bytes are base64. tests/clients/worker.py speaks the same protocol.
 */
public final class Worker {
    private static final Duration WAIT = Duration.ofSeconds(30);
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Map<Integer, Object> OBJECTS = new HashMap<>();
    private static final Map<Integer, List<Future<RecordMetadata>>> SENT = new HashMap<>();

    public static void main(String[] ignored) throws Exception {
        PrintStream out = System.out;
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            Map<String, Object> answer = new LinkedHashMap<>();
            try {
                JsonNode call = JSON.readTree(line);
                int object = call.get("object").asInt();
                answer.put("result", run(object, call.get("method").asText(), call.get("arguments")));
            } catch (Exception error) {
                answer.put("error", describe(error));
            }
            out.println(JSON.writeValueAsString(answer));
            out.flush();
        }
        System.exit(0); // clients that were not closed go with the process, as in a crash
    }

    private static Map<String, String> describe(Exception error) {
        Throwable found = error instanceof ExecutionException ? error.getCause() : error;
        String kind = "error";
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof ProducerFencedException || cause instanceof InvalidProducerEpochException) {
                kind = "fenced";
                found = cause;
            } else if (cause instanceof TransactionAbortableException) {
                kind = "abortable";
            }
        }
        return Map.of("kind", kind, "native", found.getClass().getSimpleName(), "text", String.valueOf(found.getMessage()));
    }

    private static Object run(int id, String method, JsonNode a) throws Exception {
        Object object = OBJECTS.get(id);
        if (id == 0) {
            return make(method, a);
        }
        if (object instanceof Admin admin) {
            return admin(admin, method, a);
        }
        if (object instanceof Consumer<?, ?>) {
            @SuppressWarnings("unchecked")
            Consumer<byte[], byte[]> consumer = (Consumer<byte[], byte[]>) object;
            return consumer(consumer, method, a);
        }
        @SuppressWarnings("unchecked")
        Producer<byte[], byte[]> producer = (Producer<byte[], byte[]>) object;
        return producer(id, producer, method, a);
    }

    private static int make(String kind, JsonNode a) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", a.get(0).asText());
        Object made;
        if (kind.equals("admin")) {
            made = Admin.create(config);
        } else if (kind.equals("consumer")) {
            if (!a.get(1).isNull()) {
                config.put("group.id", a.get(1).asText());
            }
            config.put("isolation.level", a.get(2).asBoolean() ? "read_committed" : "read_uncommitted");
            config.put("auto.offset.reset", "earliest");
            config.put("enable.auto.commit", false);
            config.put("session.timeout.ms", 6000);
            config.put("heartbeat.interval.ms", 300);
            config.put("fetch.max.wait.ms", 50);
            if (a.size() > 3) { // settings: a value, or null to leave it at its default
                a.get(3).fields().forEachRemaining(setting -> {
                    if (setting.getValue().isNull()) {
                        config.remove(setting.getKey());
                    } else {
                        config.put(setting.getKey(), setting.getValue().asText());
                    }
                });
            }
            made = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        } else {
            if (!a.get(1).isNull()) {
                config.put("transactional.id", a.get(1).asText());
                config.put("transaction.timeout.ms", a.get(2).asInt());
            }
            config.put("compression.type", a.get(3).asText());
            config.put("max.request.size", 20_000_000);
            config.put("linger.ms", 5);
            config.put("max.block.ms", WAIT.toMillis());
            a.path(4).properties().forEach(entry -> config.put(entry.getKey(), entry.getValue().asText()));
            made = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
        }
        return keep(made);
    }

    private static int keep(Object made) {
        int id = OBJECTS.size() + 1;
        OBJECTS.put(id, made);
        SENT.put(id, new ArrayList<>());
        return id;
    }

    private static Object producer(int id, Producer<byte[], byte[]> producer, String method, JsonNode a) throws Exception {
        switch (method) {
            case "init_transactions" -> producer.initTransactions();
            case "begin" -> {
                SENT.get(id).clear();
                producer.beginTransaction();
            }
            case "send" -> {
                Long timestamp = a.get(5).isNull() ? null : a.get(5).asLong();
                SENT.get(id).add(producer.send(new ProducerRecord<>(
                    a.get(0).asText(), a.get(2).asInt(), timestamp, bytes(a.get(3)), bytes(a.get(1)), headers(a.get(4)))));
            }
            case "flush" -> {
                List<Future<RecordMetadata>> sent = new ArrayList<>(SENT.get(id));
                SENT.get(id).clear();
                producer.flush();
                List<Long> offsets = new ArrayList<>();
                for (Future<RecordMetadata> future : sent) {
                    offsets.add(future.get().offset());
                }
                return offsets;
            }
            case "send_offsets" -> producer.sendOffsetsToTransaction(
                offsets(a.get(0)), (ConsumerGroupMetadata) OBJECTS.get(a.get(1).asInt()));
            case "commit" -> producer.commitTransaction();
            case "abort" -> producer.abortTransaction();
            case "close" -> producer.close(Duration.ofSeconds(5));
            default -> throw new IllegalArgumentException(method);
        }
        return null;
    }

    private static Object consumer(Consumer<byte[], byte[]> consumer, String method, JsonNode a) {
        switch (method) {
            case "assign" -> {
                List<TopicPartition> partitions = new ArrayList<>();
                a.get(0).forEach(pair -> partitions.add(partition(pair)));
                consumer.assign(partitions);
                consumer.seekToBeginning(partitions);
            }
            case "subscribe" -> consumer.subscribe(List.of(a.get(0).asText()));
            case "subscribe_pattern" -> consumer.subscribe(new SubscriptionPattern(a.get(0).asText()));
            case "assignment" -> {
                return consumer.assignment().stream().map(p -> List.of(p.topic(), p.partition())).toList();
            }
            case "group" -> {
                return keep(consumer.groupMetadata());
            }
            case "poll" -> {
                List<List<Object>> records = new ArrayList<>();
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(a.get(0).asLong()))) {
                    records.add(row(record));
                }
                return records;
            }
            case "seek" -> consumer.seek(partition(a.get(0)), a.get(1).asLong());
            case "commit" -> consumer.commitSync(offsets(a.get(0)), WAIT);
            case "committed" -> {
                TopicPartition where = partition(a.get(0));
                OffsetAndMetadata found = consumer.committed(java.util.Set.of(where), WAIT).get(where);
                return found == null ? null : found.offset();
            }
            case "offset_for_time" -> {
                TopicPartition where = partition(a.get(0));
                var found = consumer.offsetsForTimes(Map.of(where, a.get(1).asLong()), WAIT).get(where);
                return found == null ? null : found.offset();
            }
            case "end_offset" -> {
                TopicPartition where = partition(a.get(0));
                return consumer.endOffsets(List.of(where), WAIT).get(where);
            }
            case "close" -> consumer.close();
            default -> throw new IllegalArgumentException(method);
        }
        return null;
    }

    private static Object admin(Admin admin, String method, JsonNode a) throws Exception {
        switch (method) {
            case "create_topic" -> {
                NewTopic topic = new NewTopic(a.get(0).asText(), Optional.of(a.get(1).asInt()), Optional.empty());
                Map<String, String> config = new HashMap<>();
                a.get(2).properties().forEach(entry -> config.put(entry.getKey(), entry.getValue().asText()));
                admin.createTopics(List.of(topic.configs(config))).all().get();
            }
            case "delete_topic" -> admin.deleteTopics(List.of(a.get(0).asText())).all().get();
            case "partitions" -> {
                try {
                    return admin.describeTopics(List.of(a.get(0).asText())).allTopicNames().get()
                        .get(a.get(0).asText()).partitions().size();
                } catch (ExecutionException error) {
                    if (error.getCause() instanceof UnknownTopicOrPartitionException) {
                        return null;
                    }
                    throw error;
                }
            }
            case "topic_config" -> {
                ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, a.get(0).asText());
                Map<String, String> found = new HashMap<>();
                admin.describeConfigs(List.of(resource)).all().get().get(resource).entries()
                    .forEach(entry -> found.put(entry.name(), entry.value()));
                return found;
            }
            case "producer_states" -> {
                TopicPartition where = partition(a.get(0));
                return admin.describeProducers(List.of(where)).partitionResult(where).get().activeProducers().stream()
                    .map(p -> List.of(p.producerId(), p.producerEpoch(), p.currentTransactionStartOffset().orElse(-1)))
                    .toList();
            }
            case "transaction" -> {
                var found = admin.describeTransactions(List.of(a.get(0).asText())).all().get().get(a.get(0).asText());
                return List.of(found.state().toString(), found.producerId(), found.producerEpoch(), found.topicPartitions().size());
            }
            case "fence" -> admin.fenceProducers(List.of(a.get(0).asText())).all().get();
            case "close" -> admin.close();
            default -> throw new IllegalArgumentException(method);
        }
        return null;
    }

    private static List<Object> row(ConsumerRecord<byte[], byte[]> record) {
        List<List<String>> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            List<String> pair = new ArrayList<>();
            pair.add(header.key());
            pair.add(text(header.value()));
            headers.add(pair);
        }
        List<Object> row = new ArrayList<>(List.of(record.topic(), record.partition(), record.offset()));
        row.add(text(record.key()));
        row.add(text(record.value()));
        row.add(headers);
        row.add(record.timestamp());
        return row;
    }

    private static TopicPartition partition(JsonNode pair) {
        return new TopicPartition(pair.get(0).asText(), pair.get(1).asInt());
    }

    private static Map<TopicPartition, OffsetAndMetadata> offsets(JsonNode triples) {
        Map<TopicPartition, OffsetAndMetadata> found = new HashMap<>();
        triples.forEach(triple -> found.put(partition(triple), new OffsetAndMetadata(triple.get(2).asLong())));
        return found;
    }

    private static Headers headers(JsonNode pairs) {
        RecordHeaders headers = new RecordHeaders();
        pairs.forEach(pair -> headers.add(pair.get(0).asText(), bytes(pair.get(1))));
        return headers;
    }

    private static byte[] bytes(JsonNode node) {
        return node.isNull() ? null : Base64.getDecoder().decode(node.asText());
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }
}
