"""`ottla produce`: records from standard input or files to a topic.

A line is a record. With a transactional id the whole input is one transaction: all of it is seen
by read_committed consumers, or nothing, whatever interrupts it.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated

import typer

from ottla.cli.cluster import (
    EXIT_COMMAND,
    EXIT_INTERRUPTED,
    Mistake,
    on_a_cluster,
    pairs,
    settings_of,
    tell,
)
from ottla.cli.progress import Progress
from ottla.cli.record_format import Record, record_of, unescaped
from ottla.client.access import Access
from ottla.client.errors import refused
from ottla.client.producer import Producer, Transaction
from ottla.client.raw import Brokers
from ottla.ports.errors import ErrorCode
from ottla.ports.printable import printable

LINE_BYTES_MAX = 67_108_864
_ANY_PARTITION = -1


class Format(StrEnum):
    """What a line is."""

    LINE = "line"
    JSON = "json"


class Acks(StrEnum):
    """Who has to have a record before it is acknowledged."""

    ALL = "all"
    ONE = "1"
    NONE = "0"


class Compression(StrEnum):
    """How batches are compressed."""

    NONE = "none"
    GZIP = "gzip"
    SNAPPY = "snappy"
    LZ4 = "lz4"
    ZSTD = "zstd"


class BadInput(Exception):  # noqa: N818 - says what it is
    """A line that is no record. Carries the place and the reason."""


Topic = Annotated[str, typer.Argument(metavar="TOPIC")]
Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE", help="Without files, or with -, standard input."),
]
Key = Annotated[
    str | None, typer.Option("--key", "-k", metavar="KEY", help="The key of all records.")
]
KeyDelimiter = Annotated[
    str | None,
    typer.Option(
        "--key-delimiter",
        "-K",
        metavar="TEXT",
        help="A line is KEY TEXT VALUE; one without TEXT has no key. \\t is a tab.",
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", "-H", metavar="NAME=VALUE", help="A header of all records."),
]
Partition = Annotated[
    int | None,
    typer.Option("--partition", "-p", min=0, metavar="N", help="Else by the key, as Kafka."),
]
FormatOption = Annotated[
    Format,
    typer.Option("--format", "-f", help="A line is a value, or what `consume -f json` prints."),
]
Null = Annotated[
    bool, typer.Option("--null", "-Z", help="An empty key or value is null: a tombstone.")
]
AcksOption = Annotated[Acks, typer.Option("--acks", "-a", help="How sure to be.")]
CompressionOption = Annotated[Compression, typer.Option("--compression", "-z")]
TransactionalId = Annotated[
    str | None,
    typer.Option(
        "--transactional-id",
        metavar="ID",
        help="All of the input in one transaction: all or nothing.",
    ),
]
TransactionTimeoutMs = Annotated[
    int,
    typer.Option(min=1_000, metavar="MS", help="The broker aborts it when it takes longer."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


@on_a_cluster
def produce(
    access: Access,
    topic: Topic,
    files: Files = None,
    key: Key = None,
    key_delimiter: KeyDelimiter = None,
    headers: Headers = None,
    partition: Partition = None,
    format_: FormatOption = Format.LINE,
    null: Null = False,
    acks: AcksOption = Acks.ALL,
    compression: CompressionOption = Compression.NONE,
    transactional_id: TransactionalId = None,
    transaction_timeout_ms: TransactionTimeoutMs = 60_000,
    quiet: Quiet = False,
) -> None:
    """Send records, one for each line, and wait until all are acknowledged.

    \b
    Examples:
      ottla produce orders orders.txt
      echo 'k1:v1' | ottla produce orders --key-delimiter :
      ottla produce orders day.jsonl -f json --transactional-id load-day
    """
    if transactional_id is not None and acks is not Acks.ALL:
        raise Mistake("a transaction needs --acks all")
    if key is not None and key_delimiter is not None:
        raise Mistake("--key and --key-delimiter are two ways to say the same")
    reading = _Reading(
        format_,
        None if key is None else key.encode(),
        None if key_delimiter is None else unescaped(key_delimiter),
        [(name, text.encode()) for name, text in pairs(headers or [], "--header").items()],
        null=null,
    )
    with Brokers(access) as brokers:
        count = brokers.await_topic(topic)
        if partition is not None and partition >= count:
            raise refused(
                f"write to {topic}-{partition}",
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"the topic has {count} partitions, from 0",
            )
    watched = not quiet and not sys.stdin.isatty()
    progress = Progress("sent", shown=watched)
    config = {**settings_of(access), "compression.type": compression.value}
    if acks is not Acks.ALL:
        config |= {"acks": acks.value, "enable.idempotence": "false"}
    try:
        with Producer(
            access.bootstrap_servers,
            transactional_id=transactional_id,
            transaction_timeout_ms=transaction_timeout_ms,
            timeout_ms=access.timeout_ms,
            config=config,
        ) as producer:
            _send_all(producer, topic, partition, reading.records(files or []), progress)
    except (BadInput, KeyboardInterrupt) as error:
        raise _ended_early(error, progress.records, transactional_id) from error
    progress.close()


def _send_all(
    producer: Producer,
    topic: str,
    partition: int | None,
    records: Iterator[Record],
    progress: Progress,
) -> None:
    """Send the records, in one transaction if the producer has an id."""
    with ExitStack() as stack:
        to: Producer | Transaction = producer
        if producer.transactional_id is not None:
            to = stack.enter_context(producer.transaction())
        for record in records:
            to.send(
                topic,
                record.key,
                record.value,
                headers=record.headers,
                partition=_ANY_PARTITION if partition is None else partition,
            )
            progress.add(1, len(record.key or b"") + len(record.value or b""))
    if producer.transactional_id is None:
        producer.flush()


def _ended_early(
    error: BadInput | KeyboardInterrupt, records: int, transactional_id: str | None
) -> typer.Exit:
    outcome = "; ".join(getattr(error, "__notes__", ())) or (
        f"the {records:,} records before it were sent"
        if transactional_id is None
        else "the transaction was aborted: nothing was written"
    )
    if isinstance(error.__context__, KeyboardInterrupt):  # a second one, while the rest was sent
        outcome = "what was not acknowledged is given up: it may be stored or not"
    if isinstance(error, KeyboardInterrupt):
        typer.echo(f"\nottla: interrupted; {outcome}", err=True)
        return typer.Exit(EXIT_INTERRUPTED)
    tell("the input cannot be sent", printable(error), f"{outcome}; correct it and send the rest")
    return typer.Exit(EXIT_COMMAND)


class _Reading:
    """Lines as records."""

    def __init__(
        self,
        format_: Format,
        key: bytes | None,
        key_delimiter: bytes | None,
        headers: list[tuple[str, bytes]],
        *,
        null: bool,
    ) -> None:
        self._format = format_
        self._key = key
        self._key_delimiter = key_delimiter
        self._headers = headers
        self._null = null

    def records(self, files: list[Path]) -> Iterator[Record]:
        """The records of all files, in order. Raises BadInput."""
        for path in files or [Path("-")]:
            if str(path) == "-":
                yield from self._lines(sys.stdin.buffer, "standard input")
                continue
            try:
                with path.open("rb") as file:
                    yield from self._lines(file, str(path))
            except OSError as error:
                raise BadInput(f"{path}: {error.strerror}") from error

    def _lines(self, file: IO[bytes], name: str) -> Iterator[Record]:
        number = 0
        while line := file.readline(LINE_BYTES_MAX + 1):
            number += 1
            if len(line) > LINE_BYTES_MAX:
                raise BadInput(f"{name}, line {number}: longer than {LINE_BYTES_MAX:,} bytes")
            try:
                record = self._record(line.removesuffix(b"\n"))
            except ValueError as error:
                raise BadInput(f"{name}, line {number}: {error}") from error
            yield record

    def _record(self, line: bytes) -> Record:
        if self._format is Format.JSON:
            found = record_of(line)
            key, value = found.key if self._key is None else self._key, found.value
            return Record(key, value, [*found.headers, *self._headers])
        key, value = self._key, line
        if self._key_delimiter is not None:
            before, delimiter, after = line.partition(self._key_delimiter)
            if delimiter:
                key, value = before, after
        empty = None if self._null else b""
        key = empty if key == b"" else key
        return Record(key, value or empty, list(self._headers))
