"""Producers, consumers and administration over confluent-kafka, typed, with errors to act on.

The only package that imports confluent-kafka. It knows nothing of a broker, so that what is built
on it cannot tell Ottla from Apache Kafka.
"""

from ottla.client.admin import Admin, TopicSpec
from ottla.client.consumer import EARLIEST, Consumer
from ottla.client.errors import (
    Abortable,
    ClientError,
    Fatal,
    MemberFenced,
    NotLetIn,
    OffsetLost,
    OutcomeUnknown,
    ProducerFenced,
    TimedOut,
)
from ottla.client.producer import Producer, Transaction
from ottla.client.types import Headers, Message, Partition, Position

__all__ = [
    "EARLIEST",
    "Abortable",
    "Admin",
    "ClientError",
    "Consumer",
    "Fatal",
    "Headers",
    "MemberFenced",
    "Message",
    "NotLetIn",
    "OffsetLost",
    "OutcomeUnknown",
    "Partition",
    "Position",
    "Producer",
    "ProducerFenced",
    "TimedOut",
    "TopicSpec",
    "Transaction",
]
