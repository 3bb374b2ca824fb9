"""Every error of librdkafka becomes one of ours, with what happened and what to do next.

Method: a table of codes and flags; the text of each kind must name the next step.
"""

import pytest
from confluent_kafka import KafkaError, KafkaException

from ottla.client.errors import (
    Abortable,
    ClientError,
    Fatal,
    MemberFenced,
    OffsetLost,
    OutcomeUnknown,
    ProducerFenced,
    TimedOut,
    kafka_error,
    translate,
)

FATAL = {"fatal": True}
ABORTABLE = {"txn_requires_abort": True}
RETRIABLE = {"retriable": True}

TABLE = [
    (KafkaError._FENCED, FATAL, ProducerFenced),
    (KafkaError.PRODUCER_FENCED, {}, ProducerFenced),
    (KafkaError.INVALID_PRODUCER_EPOCH, ABORTABLE, ProducerFenced),
    (KafkaError.FENCED_INSTANCE_ID, {}, MemberFenced),
    (KafkaError._AUTO_OFFSET_RESET, {}, OffsetLost),
    (KafkaError.ILLEGAL_GENERATION, ABORTABLE, Abortable),
    (KafkaError.UNKNOWN_MEMBER_ID, ABORTABLE, Abortable),
    (KafkaError.REBALANCE_IN_PROGRESS, {}, Abortable),
    (KafkaError.TOPIC_AUTHORIZATION_FAILED, ABORTABLE, Abortable),
    (KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, FATAL, Fatal),
    (KafkaError._TIMED_OUT, RETRIABLE, TimedOut),
    (KafkaError.REQUEST_TIMED_OUT, {}, TimedOut),
    (KafkaError.COORDINATOR_LOAD_IN_PROGRESS, RETRIABLE, TimedOut),
    (KafkaError._TRANSPORT, {}, TimedOut),
    (KafkaError._MSG_TIMED_OUT, {}, Fatal),
    (KafkaError._INVALID_ARG, {}, Fatal),
]


@pytest.mark.parametrize(("code", "flags", "kind"), TABLE)
def test_errors_are_sorted(code: int, flags: dict[str, bool], kind: type[ClientError]):
    found = translate(KafkaError(code, "what the broker said", **flags), "commit a transaction")
    assert type(found) is kind
    assert found.code == code
    assert str(found).startswith("cannot commit a transaction: what the broker said")


@pytest.mark.parametrize(
    ("code", "flags", "step"),
    [
        (KafkaError._FENCED, FATAL, "Run one producer per transactional.id"),
        (KafkaError.FENCED_INSTANCE_ID, {}, "Give every process a name of its own"),
        (KafkaError.ILLEGAL_GENERATION, ABORTABLE, "go on from the committed offsets"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ABORTABLE, "Abort the transaction and do its work"),
        (KafkaError._TIMED_OUT, RETRIABLE, "The call can be made again"),
        (KafkaError._AUTO_OFFSET_RESET, {}, "commit another offset"),
        (KafkaError._FATAL, FATAL, "make a new one"),
    ],
)
def test_every_error_says_what_to_do_next(code: int, flags: dict[str, bool], step: str):
    assert step in str(translate(KafkaError(code, "it", **flags), "go on"))


def test_a_fatal_error_of_a_consumer_has_its_cause_in_the_text():
    said = "Static consumer fenced by other consumer with same group.instance.id"
    assert type(translate(KafkaError(KafkaError._FATAL, said), "consume")) is MemberFenced


def test_the_kinds_are_what_one_catches():
    assert issubclass(ProducerFenced, Fatal)
    assert issubclass(MemberFenced, Fatal)
    assert issubclass(OffsetLost, Fatal)
    for kind in (Abortable, Fatal, TimedOut, OutcomeUnknown):
        assert issubclass(kind, ClientError)
    assert not issubclass(OutcomeUnknown, Abortable | Fatal)


def test_an_exception_without_an_error_inside_is_one_all_the_same():
    assert kafka_error(KafkaException("plain text")).str() == "plain text"
