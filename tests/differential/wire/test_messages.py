"""Every message, byte for byte, against two other implementations of the protocol.

Method: messages made from the schema tables are encoded by us, decoded and encoded again by kio
(all APIs) and kafka-python (those it has), and must come out as the same bytes. kafka-python makes
its fields from Kafka's own definitions, so its names and values must be ours too.
"""

import io
from typing import Any

import pytest
from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

from ottla.wire.message import Message, Structure
from tests.differential.wire import kafka_python
from tests.unit.wire.samples import Case, apis, cases, samples

APIS = [api.name for api in apis()]
SAMPLES = 12
# kafka-python knows no KIP-848; it reads an ApiVersionsResponse that has an error as version 0.
NOT_IN_KAFKA_PYTHON = {"ConsumerGroupHeartbeat", "ConsumerGroupDescribe"}
# It shows these bit fields as sets.
SHOWN_OTHERWISE = "authorized_operations"


def samples_of(name: str) -> list[tuple[Case, Message]]:
    return [
        (case, message)
        for case in cases()
        if case.api.name == name
        for message in samples(case, SAMPLES, tame=True)
    ]


@pytest.mark.parametrize("name", APIS)
def test_kio_reads_and_writes_the_same_bytes(name: str):
    for case, message in samples_of(name):
        encoded = bytes(message.encode(case.version))
        load = load_request_schema if case.kind == "Request" else load_response_schema
        schema = load(case.api.key, case.version)
        entity, size_bytes = entity_reader(schema)(encoded, 0)
        written = io.BytesIO()
        entity_writer(schema)(written, entity)
        assert size_bytes == len(encoded), case
        assert written.getvalue() == encoded, case


@pytest.mark.parametrize("name", [name for name in APIS if name not in NOT_IN_KAFKA_PYTHON])
def test_kafka_python_reads_and_writes_the_same_bytes_and_names(name: str):
    for case, message in samples_of(name):
        if name == "ApiVersions" and case.kind == "Response":
            message.error_code = 0  # type: ignore[attr-defined]
        encoded = bytes(message.encode(case.version))
        theirs = kafka_python.messages()[name + case.kind].decode(
            memoryview(encoded), version=case.version
        )
        check_fields(theirs.to_dict(json=False), message, str(case))
        theirs._header = None
        written = theirs.encode(version=case.version)
        assert written == encoded, case
        decoded, _ = case.message.decode(memoryview(written), 0, case.version)
        assert decoded == message, case


def check_fields(theirs: Any, ours: Any, where: str) -> None:
    """All fields that a version has are there by the same names, with the same values."""
    if isinstance(ours, Structure):
        for name, value in theirs.items():
            if not name.endswith(SHOWN_OTHERWISE):
                check_fields(value, getattr(ours, name), f"{where}.{name}")
    elif isinstance(ours, list):
        assert len(theirs) == len(ours), where
        for their, our in zip(theirs, ours, strict=True):
            check_fields(their, our, where)
    elif ours is None and isinstance(theirs, dict):
        pass  # a tagged struct that is not there: all defaults to them
    else:
        assert theirs == ours, where
