"""One of Python's clients behind the line protocol of java/Worker.java.

python -m tests.clients.worker confluent|kafka-python|aiokafka
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from tests.clients import drivers
from tests.clients.driver import Abortable, ClientError, Consumer, Driver, Fenced, Producer
from tests.clients.remote import decode, encode


class Worker:
    """Holds the driver as object 0 and what was made of it under the ids that follow."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._objects: dict[int, Any] = {}

    def run(self, object_id: int, method: str, a: Sequence[Any]) -> Any:
        if object_id == 0:
            return self._make(method, a)
        target = self._objects[object_id]
        if isinstance(target, Producer):
            return self._produce(target, method, a)
        if isinstance(target, Consumer):
            return self._consume(target, method, a)
        return getattr(target, method)(*a)

    def _make(self, kind: str, a: Sequence[Any]) -> int:
        made: object
        if kind == "producer":
            made = self._driver.producer(
                a[0], transactional_id=a[1], transaction_timeout_ms=a[2], compression=a[3]
            )
        elif kind == "consumer":
            made = self._driver.consumer(a[0], group_id=a[1], committed_only=a[2])
        else:
            made = self._driver.admin(a[0])
        return self._keep(made)

    def _keep(self, made: object) -> int:
        self._objects[len(self._objects) + 1] = made
        return len(self._objects)

    def _produce(self, producer: Producer, method: str, a: Sequence[Any]) -> Any:
        if method == "send":
            headers = [(name, decode(content)) for name, content in a[4]]
            return producer.send(
                a[0],
                decode(a[1]),
                partition=a[2],
                key=decode(a[3]),
                headers=headers,
                timestamp_ms=a[5],
            )
        if method == "send_offsets":
            return producer.send_offsets(_offsets(a[0]), self._objects[a[1]])
        return getattr(producer, method)(*a)

    def _consume(self, consumer: Consumer, method: str, a: Sequence[Any]) -> Any:
        if method == "poll":
            return [
                (
                    *record[:3],
                    encode(record.key),
                    encode(record.value),
                    [(name, encode(content)) for name, content in record.headers],
                    record.timestamp_ms,
                )
                for record in consumer.poll(a[0] / 1000)
            ]
        if method == "assign":
            return consumer.assign([(topic, partition) for topic, partition in a[0]])
        if method == "group":
            return self._keep(consumer.group())
        if method == "assignment":
            return sorted(consumer.assignment())
        if method == "commit":
            return consumer.commit(_offsets(a[0]))
        if method in ("seek", "committed", "offset_for_time", "end_offset"):
            return getattr(consumer, method)((a[0][0], a[0][1]), *a[1:])
        return getattr(consumer, method)(*a)


def _offsets(triples: list[list[Any]]) -> dict[tuple[str, int], int]:
    return {(topic, partition): offset for topic, partition, offset in triples}


def _describe(error: ClientError) -> dict[str, str]:
    kinds = {Fenced: "fenced", Abortable: "abortable"}
    return {"kind": kinds.get(type(error), "error"), "native": error.native, "text": str(error)}


def main() -> None:
    """Answer calls until standard input ends; then end at once, as in a crash."""
    worker = Worker(drivers.make(sys.argv[1]))
    for line in sys.stdin:
        call = json.loads(line)
        try:
            result = worker.run(call["object"], call["method"], call["arguments"])
            answer = {"result": result}
        except ClientError as error:
            answer = {"error": _describe(error)}
        print(json.dumps(answer), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
