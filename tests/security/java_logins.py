"""Kafka's Java client, several logins in one process."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests import kafka_runner
from tests.clients.remote import JVM_OPTIONS

_SOURCE = """
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.*;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.Node;

public class Logins {
    public static void main(String[] arguments) throws Exception {
        ObjectMapper json = new ObjectMapper();
        for (JsonNode login : json.readTree(System.in)) {
            Map<String, Object> config = new HashMap<>();
            login.fields().forEachRemaining(f -> config.put(f.getKey(), f.getValue().asText()));
            System.out.println(json.writeValueAsString(outcome(config)));
        }
        System.exit(0);
    }

    static String outcome(Map<String, Object> config) {
        try (Admin admin = Admin.create(config)) {
            Node node = admin.describeCluster().nodes().get().iterator().next();
            return node.host() + ":" + node.port();
        } catch (Exception error) {
            Throwable found = error.getCause() == null ? error : error.getCause();
            return found.getClass().getSimpleName() + ": " + found.getMessage();
        }
    }
}
"""


def java_logins(directory: Path, logins: Sequence[dict[str, str]], *jvm_options: str) -> list[str]:
    """What comes of each: the address of the node that it found, or the error."""
    source = directory / "Logins.java"
    source.write_text(_SOURCE)
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=off"
    ended = subprocess.run(
        [
            *(kafka_runner.java(), *JVM_OPTIONS, quiet, *jvm_options),
            *("-cp", kafka_runner.class_path(), str(source)),
        ],
        input=json.dumps(list(logins)),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [json.loads(line) for line in ended.stdout.splitlines()]
