"""`ottla consume`: records from topics to standard output.

Without a group, partitions are read from where -o says, and nothing is remembered. With a group,
the group's offsets decide, and are committed once what they stand for has been written out: a
record may come twice after a crash, and none is lost.
"""

import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

from ottla.cli.cluster import EXIT_INTERRUPTED, Mistake, on_a_cluster, settings_of
from ottla.cli.progress import Progress
from ottla.cli.record_format import Formatter, formatter
from ottla.cli.times import parse_time_ms
from ottla.client import topics as client
from ottla.client.access import Access
from ottla.client.cluster import Cluster
from ottla.client.consumer import Consumer
from ottla.client.errors import refused
from ottla.client.types import Partition, Position
from ottla.ports.errors import ErrorCode

_BATCH = 1_000
_POLL_S = 0.1
_COMMIT_INTERVAL_S = 1.0
_NULL = b"NULL"


class Isolation(StrEnum):
    """Which records are read."""

    COMMITTED = "read_committed"
    UNCOMMITTED = "read_uncommitted"


Topics = Annotated[list[str], typer.Argument(metavar="TOPIC")]
Partitions = Annotated[
    list[int] | None,
    typer.Option("--partition", "-p", min=0, metavar="N", help="Only this one; may be several."),
]
Offset = Annotated[
    str,
    typer.Option(
        "--offset",
        "-o",
        metavar="WHERE",
        help="beginning, end, N, -N (the last N of each partition), or s@TIME: ISO 8601, "
        "milliseconds since 1970, or -2h.",
    ),
]
ExitAtEnd = Annotated[
    bool, typer.Option("--exit", "-e", help="End when all that is there has been read.")
]
Count = Annotated[
    int | None, typer.Option("--count", "-c", min=1, metavar="N", help="End after N records.")
]
Template = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="json, or text with %k key, %v value, %h headers, %t topic, %p partition, "
        "%o offset, %T timestamp, %K %S sizes of key and value, \\n, \\t, \\xNN.",
    ),
]
KeyDelimiter = Annotated[
    str | None,
    typer.Option("--key-delimiter", "-K", metavar="TEXT", help="Print KEY TEXT VALUE."),
]
Null = Annotated[bool, typer.Option("--null", "-Z", help="Print null as NULL.")]
Group = Annotated[
    str | None,
    typer.Option("--group", "-g", metavar="GROUP", help="Read as a member of this group."),
]
IsolationOption = Annotated[
    Isolation, typer.Option(help="Leave out what is not committed, or not.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


@on_a_cluster
def consume(
    access: Access,
    topics: Topics,
    partitions: Partitions = None,
    offset: Offset = "beginning",
    exit_at_end: ExitAtEnd = False,
    count: Count = None,
    template: Template = None,
    key_delimiter: KeyDelimiter = None,
    null: Null = False,
    group: Group = None,
    isolation: IsolationOption = Isolation.COMMITTED,
    quiet: Quiet = False,
) -> None:
    """Print records.

    Ctrl-C ends it; in a group, the offsets of what was printed are committed.

    \b
    Examples:
      ottla consume orders -o -20 -e
      ottla consume orders -f '%p %o %k %v\\n' -o s@2026-01-31T12:00:00Z
      ottla consume orders -f json --group billing --isolation read_uncommitted
    """
    if template is not None and key_delimiter is not None:
        raise Mistake("--key-delimiter and --format are two ways to say the same")
    between = "" if key_delimiter is None else f"%k{key_delimiter.replace('%', '%%')}"
    written = formatter(
        template or f"{between}%v\\n",
        null=_NULL if null else b"",
        terminal=sys.stdout.isatty(),
    )
    with Cluster(access) as cluster:
        found = [
            each
            for each in client.partitions_of(cluster, topics)
            if partitions is None or each.partition in partitions
        ]
        if not found:
            raise refused(
                f"read partitions {partitions} of {', '.join(topics)}",
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            )
        start = None
        if group is None:
            start = _start(cluster, found, offset, read_committed=isolation is Isolation.COMMITTED)
        elif offset not in ("beginning", "end") or partitions is not None:
            raise Mistake("a group has its own offsets: -o beginning or end, and no -p")
    reading = Reading(written, exit_at_end=exit_at_end, count=count, quiet=quiet)
    with Consumer(
        access.bootstrap_servers,
        group or "ottla-consume",
        isolation=isolation.value,
        offset_reset={"beginning": "earliest", "end": "latest"}[offset] if group else "error",
        timeout_ms=access.timeout_ms,
        # An empty answer tells of the end: one that ends there need not wait long for it.
        config=settings_of(access) | ({"fetch.wait.max.ms": 10} if exit_at_end else {}),
    ) as consumer:
        try:
            reading.run(consumer, start, topics)
        except KeyboardInterrupt:
            reading.finish(consumer)
            if exit_at_end or count is not None:
                raise typer.Exit(EXIT_INTERRUPTED) from None


class Reading:
    """Reads until the end that is wanted."""

    def __init__(
        self, written: Formatter, *, exit_at_end: bool, count: int | None, quiet: bool
    ) -> None:
        self._written = written
        self._exit_at_end = exit_at_end
        self._left = count
        self._in_group = False
        self._joined = False
        self._ended: set[Partition] = set()
        self._committed: dict[Partition, int] = {}
        self._last_commit = time.monotonic()
        self._progress = Progress("read", shown=not quiet and not sys.stdout.isatty())

    def run(
        self, consumer: Consumer, start: Mapping[Partition, int] | None, topics: list[str]
    ) -> None:
        """Read what `start` names, or as a member of the consumer's group."""
        if start is None:
            self._in_group = True
            consumer.subscribe(
                topics,
                on_assign=lambda _: self._assigned(),
                on_revoke=lambda _: self._commit(consumer),
                on_lost=lambda _: None,
            )
        else:
            consumer.assign(start)
        while self._left is None or self._left > 0:
            wanted = _BATCH if self._left is None else min(_BATCH, self._left)
            for _, messages in consumer.consume(wanted, _POLL_S):
                content = b"".join(map(self._written, messages))
                sys.stdout.buffer.write(content)
                self._progress.add(len(messages), len(content))
                if self._left is not None:
                    self._left -= len(messages)
            sys.stdout.buffer.flush()
            if self._in_group and time.monotonic() - self._last_commit >= _COMMIT_INTERVAL_S:
                self._commit(consumer)
            if self._exit_at_end and self._is_at_end(consumer, start):
                break
        self.finish(consumer)

    def _assigned(self) -> None:
        self._joined = True

    def _is_at_end(self, consumer: Consumer, start: Mapping[Partition, int] | None) -> bool:
        """Whether each partition has been at its end once; producers may go on."""
        if start is None and not self._joined:
            return False
        reads = consumer.assignment() if start is None else list(start)
        self._ended.update(each for each in reads if consumer.at_end(each))
        return self._ended.issuperset(reads)

    def finish(self, consumer: Consumer) -> None:
        """Write out what is left, and commit it."""
        sys.stdout.buffer.flush()
        if self._in_group:
            self._commit(consumer)
        self._progress.close()

    def _commit(self, consumer: Consumer) -> None:
        """Commit what was written out."""
        self._last_commit = time.monotonic()
        # At an end the position lies before the last transaction's marker, which is read as well.
        positions = {
            each: max(offset, consumer.ended[each]) if consumer.at_end(each) else offset
            for each, offset in consumer.positions().items()
        }
        offsets = {
            each: offset
            for each, offset in positions.items()
            if self._committed.get(each) != offset
        }
        if offsets:
            consumer.commit({each: Position(offset) for each, offset in offsets.items()})
            self._committed |= offsets


def _start(
    cluster: Cluster, partitions: list[Partition], where: str, *, read_committed: bool
) -> dict[Partition, int]:
    """The offsets to begin with. Raises Mistake, or Refused for one that is not in the log."""
    starts = client.start_offsets(cluster, partitions)
    if where == "beginning":
        return starts
    if where.startswith("s@"):
        at_ms = parse_time_ms(where[2:], now_ms=int(time.time() * 1000))
        return client.time_offsets(cluster, partitions, at_ms)
    ends = client.end_offsets(cluster, partitions, read_committed=read_committed)
    if where == "end":
        return ends
    if not where.removeprefix("-").isdecimal():
        raise Mistake(f"{where!r} is none of beginning, end, N, -N, s@TIME", param_hint="-o")
    if where.startswith("-"):
        return {each: max(starts[each], ends[each] + int(where)) for each in partitions}
    offset = int(where)
    for each in partitions:
        if not starts[each] <= offset <= ends[each]:
            raise refused(
                f"read {each} from offset {offset}",
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"it holds offsets {starts[each]} to {ends[each]}",
            )
    return dict.fromkeys(partitions, offset)
