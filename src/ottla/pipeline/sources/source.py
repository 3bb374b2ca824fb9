"""The source worker: files into a topic, each row once (KIP-618).

The order is everything:

    1  a transactional producer with the pipeline's own transactional.id: the broker aborts what
       the predecessor left open and fences it                                  -- the fence first
    2  read the positions, read_committed, to the end                           -- only then
    3  for each chunk of a file: one transaction with its rows, its dead letters, its position
    4  on any doubt drop everything in memory and begin again at 1

A position read before the fence may be overtaken by a predecessor that is still alive, and its rows
would come twice.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from ottla.client import ClientError, Producer, ProducerFenced, Transaction
from ottla.pipeline.errors import Fenced, PipelineStopped
from ottla.pipeline.model import PipelineSpec
from ottla.pipeline.reports import Reporter
from ottla.pipeline.sources.files import FilePosition, FileReader, find_files, shown_path
from ottla.pipeline.sources.rows import Parsed
from ottla.pipeline.topics import make_topics, read_topic
from ottla.pipeline.urls import FileSource
from ottla.ports.errors import InvariantBroken
from ottla.ports.failpoints import failpoint

_FOLLOW_INTERVAL_S = 0.5
_RETRY_WAIT_S = 0.5


class Chunk(NamedTuple):
    """What goes into one transaction."""

    parsed: Parsed
    position: FilePosition


class SourceWorker:
    """Reads the files of a pipeline into its input topic.

    `follow`: go on when everything was read, with files that grow and files that are new.
    `stop`: set from outside, ends the work after the transaction under way.
    """

    def __init__(
        self,
        spec: PipelineSpec,
        bootstrap_servers: str,
        report: Reporter,
        stop: threading.Event,
        *,
        follow: bool = False,
    ) -> None:
        if not isinstance(spec.source, FileSource):
            raise InvariantBroken(f"pipeline {spec.name} has no files as its source")
        self._spec = spec
        self._source = spec.source
        self._bootstrap_servers = bootstrap_servers
        self._report = report
        self._stop = stop
        self._follow = follow
        self._positions: dict[str, FilePosition] = {}
        self._committed = 0
        self._aborted = 0

    def run(self) -> None:
        """Work until all is read, or until `stop`. Raises Fenced, PipelineStopped, ClientError."""
        make_topics(self._spec, self._bootstrap_servers)
        while not self._stop.is_set():
            try:
                if self._session():
                    self._report.done(**self._facts())
                    return
            except ProducerFenced as error:
                raise Fenced(
                    f"another source worker of pipeline {self._spec.name} was started; it goes on "
                    "where this one was"
                ) from error
            except ClientError as error:
                # Whether the last transaction is in is settled by the next fence.
                self._aborted += 1
                self._report.waiting(str(error), **self._facts())
                self._stop.wait(_RETRY_WAIT_S)

    def _session(self) -> bool:
        """From the fence on, until everything is read (True) or `stop` is set (False)."""
        transactional_id = f"{self._spec.name}-source"
        with Producer(self._bootstrap_servers, transactional_id=transactional_id) as producer:
            failpoint("source.after_fence")
            self._positions = self._read_positions()
            failpoint("source.after_positions")
            while True:
                if not self._send_all(producer):
                    return False
                if not self._follow:
                    return self._check_found()
                self._report.progress(now=True, **self._facts())
                if self._stop.wait(_FOLLOW_INTERVAL_S):
                    return False

    def _send_all(self, producer: Producer) -> bool:
        """Send all there is now; False if `stop` was set before the end.

        The next chunk is parsed while the rows of this one are on their way.
        """
        chunks = self._chunks()
        chunk = next(chunks, None)
        while chunk is not None:
            if self._stop.is_set():
                return False
            stopped: PipelineStopped | None = None
            following: Chunk | None = None
            with producer.transaction() as transaction:
                self._send(producer, transaction, chunk)
                try:
                    following = next(chunks, None)
                except PipelineStopped as error:  # of the next chunk: this one goes in
                    stopped = error
                failpoint("source.before_commit")
            failpoint("source.after_commit")
            self._positions[chunk.position.path] = chunk.position
            self._committed += 1
            self._report.progress(**self._facts())
            if stopped is not None:
                raise stopped
            chunk = following
        return True

    def _read_positions(self) -> dict[str, FilePosition]:
        positions: dict[str, FilePosition] = {}
        for message in read_topic(self._bootstrap_servers, self._spec.positions_topic):
            value = message.value()
            if value is not None:
                position = FilePosition.from_bytes(value)
                positions[position.path] = position
        return positions

    def _chunks(self) -> Iterator[Chunk]:
        """The chunks of all files, each with the position behind it."""
        for path in find_files(self._source):
            name = shown_path(path, self._spec.base)
            known = self._positions.get(name)
            position = replace(known) if known is not None else FilePosition(name)
            reader = FileReader(path, self._source, position)
            try:
                for parsed in reader.batches(finish=not self._follow):
                    yield Chunk(parsed, replace(reader.position))
            finally:
                reader.close()

    def _send(self, producer: Producer, transaction: Transaction, chunk: Chunk) -> None:
        """Rows, dead letters and position."""
        spec, position = self._spec, chunk.position
        producer.send_rows(spec.input_topic, ((None, row, 0) for row in chunk.parsed.rows))
        for letter in chunk.parsed.dead:
            transaction.send(
                spec.dead_letters_topic, letter.source, letter.raw, headers=letter.headers()
            )
        transaction.send(spec.positions_topic, position.path, position.to_bytes())

    def _check_found(self) -> bool:
        if not self._positions:
            raise PipelineStopped(
                f"no file has rows in it, or none matches {self._source.glob}; "
                "with --follow it is waited for"
            )
        return True

    def _facts(self) -> dict[str, Any]:
        return {
            "rows_total": sum(each.rows for each in self._positions.values()),
            "dead_total": sum(each.dead for each in self._positions.values()),
            "files_total": len(self._positions),
            "committed": self._committed,
            "aborted": self._aborted,
            "at": time.time(),
        }
