"""What the client raises: classes a program can act on, as KIP-1050 sorts them, and one more.

Abortable       leave the transaction; the block does it, and the work can be done again
Fatal           this producer or consumer is of no more use; close it, make another
NotLetIn        (Fatal) the broker does not take our name, password, token or certificate, or we
                not its certificate
ProducerFenced  (Fatal) another producer took over the transactional.id; the producer is closed
MemberFenced    (Fatal) another consumer took over the group.instance.id
OffsetLost      (Fatal) the offset to read from is not in the log: records are gone unread
Refused         the broker refused what an administrator asked for, and says why
OutcomeUnknown  a commit was asked for and not answered: neither done nor not done. Only the
                broker knows. Commit again, or make a new producer with the same
                transactional.id (its start settles the old transaction), and read the
                committed offsets. Never abort: that could undo what others have read.
"""

from confluent_kafka import KafkaError, KafkaException

from ottla.ports.errors import ErrorCode


class ClientError(Exception):
    """The base of all errors of the client. `code` is Kafka's or librdkafka's number."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Abortable(ClientError):  # noqa: N818 - as KIP-1050 names it
    """The transaction cannot go on; aborted, it can be tried again."""


class Fatal(ClientError):  # noqa: N818 - as KIP-1050 names it
    """The producer or consumer cannot go on."""


class NotLetIn(Fatal):
    """The broker and this client do not trust each other; the text says which of them, and why."""


class ProducerFenced(Fatal):
    """A producer with the same transactional.id was started after this one."""


class MemberFenced(Fatal):
    """A consumer with the same group.instance.id has joined the group after this one."""


class OffsetLost(Fatal):
    """The offset to read from is not in the log any more, or not yet."""


class Refused(ClientError):  # noqa: N818
    """The broker refused a request of administration. `doing` and `reason` make the message."""

    def __init__(self, doing: str, reason: str, code: int) -> None:
        super().__init__(f"cannot {doing}: {reason}", code)
        self.doing = doing
        self.reason = reason


class OutcomeUnknown(ClientError):  # noqa: N818 - it is no error to repair
    """A commit was not answered in time: it may have happened or not."""


class TimedOut(ClientError):  # noqa: N818
    """The broker did not answer in time; the same call can be made again."""


_FENCED = frozenset(
    (
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
    )
)
_UNANSWERED = frozenset(
    (
        KafkaError._TIMED_OUT,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
    )
)
# How librdkafka tells that metadata has no such partition, before it asks a broker.
_NO_SUCH_PARTITION = frozenset(
    (KafkaError._NOENT, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
)
# The group has moved on (KIP-447): the work belongs to another member now.
_GROUP_MOVED_ON = frozenset(
    (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS)
)


def kafka_error(error: KafkaException) -> KafkaError:
    """The error inside a KafkaException."""
    found = error.args[0]
    return found if isinstance(found, KafkaError) else KafkaError(KafkaError._FAIL, str(found))


def code_name(code: int) -> str:
    """Kafka's name of an error code, or librdkafka's of its own, which are below -1."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(KafkaError(code).name())


def not_let_in(doing: str, reason: str) -> NotLetIn:
    """The error for what TLS or SASL has said."""
    return NotLetIn(
        f"cannot {doing}: {reason}. Look at security_protocol, sasl_mechanism, username, password "
        "and ssl_ca",
        int(KafkaError._AUTHENTICATION),
    )


def refused(doing: str, code: int, message: str | None = None) -> ClientError:
    """The error of a request of administration: Refused, or TimedOut when nobody answered."""
    if code in _NO_SUCH_PARTITION:
        code, message = int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), None
    text = (message or KafkaError(code).str()).removeprefix("Broker: ")
    reason = f"{text} ({code_name(code)})"
    if code in _UNANSWERED:
        return TimedOut(f"cannot {doing}: {reason}", code)
    return Refused(doing, reason, code)


def translate(error: KafkaError, doing: str) -> ClientError:
    """The error as one of ours. `doing` says what was attempted: "commit a transaction"."""
    code, said = error.code(), f"cannot {doing}: {error.str() or error.name()} ({error.name()})"
    if code in _FENCED:
        return ProducerFenced(
            f"{said}. Another producer with the same transactional.id was started, or the "
            "transaction outlived transaction.timeout.ms. This producer is closed; its open "
            "transaction was aborted by the broker. Run one producer per transactional.id",
            code,
        )
    # A consumer's fatal error has its cause in the text alone.
    fenced_instance = code == KafkaError._FATAL and "group.instance.id" in error.str()
    if code == KafkaError.FENCED_INSTANCE_ID or fenced_instance:
        return MemberFenced(
            f"{said}. Another consumer runs under the same name, and has taken over. Give every "
            "process a name of its own",
            code,
        )
    if code == KafkaError._AUTO_OFFSET_RESET:
        return OffsetLost(
            f"{said}. Retention has deleted records before they were read, or the topic was made "
            "anew. Nothing is skipped silently: commit another offset for the group to go on",
            code,
        )
    if code in _GROUP_MOVED_ON:
        return Abortable(
            f"{said}. The consumer group was rebalanced and this member's generation is over: "
            "abort, then go on from the committed offsets of the partitions assigned now",
            code,
        )
    if error.fatal():
        return Fatal(f"{said}. Close it and make a new one", code)
    if error.txn_requires_abort():
        return Abortable(f"{said}. Abort the transaction and do its work again", code)
    if code in _UNANSWERED:
        return TimedOut(f"{said}. Is the broker there? The call can be made again", code)
    if error.retriable():
        return TimedOut(f"{said}. The call can be made again", code)
    return Fatal(f"{said}. Close it, correct the cause and make a new one", code)
