"""What `ottla log dump` shows: one line for each record of state, frame entry, batch and record."""

from collections.abc import Iterator
from typing import Any

import msgspec

from ottla.broker.broker import Record as StateRecord
from ottla.cli.record_format import text_of
from ottla.log.checkpoint import PATH, read_checkpoint
from ottla.log.inspect import batches, journal_entries, partition_directory
from ottla.log.journal import DIRECTORY, Scan, file_name, file_positions
from ottla.ports.errors import DataDamaged, ProtocolError
from ottla.ports.shadow_disk import ShadowDisk
from ottla.wire.compression import Compression
from ottla.wire.records import BatchHeader, read_batch_header, read_marker, read_records

Line = dict[str, Any]
_decode = msgspec.msgpack.Decoder(StateRecord).decode


def lines(disk: ShadowDisk, only: str, *, with_records: bool) -> Iterator[Line]:
    """All that is below the path `only`. Raises DataDamaged where something cannot be read."""
    only = only.strip("/")
    if _wanted(PATH, only) and disk.exists(PATH):
        yield from _checkpoint_lines(disk)
    if _wanted(DIRECTORY, only):
        yield from _journal_lines(disk, only, with_records=with_records)
    if _wanted("topics", only):
        for path in _log_paths(disk, "topics"):
            if _wanted(path, only):
                yield from _segment_lines(disk, path, with_records=with_records)


def _wanted(path: str, only: str) -> bool:
    """Whether one of the two lies in the other."""
    return not only or f"{path}/".startswith(f"{only}/") or f"{only}/".startswith(f"{path}/")


def _checkpoint_lines(disk: ShadowDisk) -> Iterator[Line]:
    checkpoint = read_checkpoint(disk)
    if checkpoint is None:
        return
    yield {"file": PATH, "journal_position": checkpoint.journal_position}
    for record in checkpoint.records:
        yield {"file": PATH, "record": _state(record, disk.describe(PATH))}
    for state in checkpoint.partitions:
        yield {
            "file": PATH,
            "partition": partition_directory(disk, state) or state.topic_id.hex(),
            "log_start_offset": state.log_start_offset,
            "next_offset": state.next_offset,
            "segments": [segment.base_offset for segment in state.segments],
            "producers": [
                f"{each.producer_id}/{each.epoch}"
                + (
                    ""
                    if each.transaction_first_offset is None
                    else f" open since {each.transaction_first_offset}"
                )
                for each in state.producers
            ],
        }


def _state(encoded: bytes | memoryview, place: str) -> str:
    """A record of the broker's state; the records themselves keep secrets out of their text."""
    try:
        return repr(_decode(encoded))
    except msgspec.MsgspecError as error:
        raise DataDamaged(f"{place}: a record of the broker's state is unknown: {error}") from error


def _journal_lines(disk: ShadowDisk, only: str, *, with_records: bool) -> Iterator[Line]:
    """The frames from the checkpoint on; without a good checkpoint, from the first file on."""
    starts = file_positions(disk)
    try:
        checkpoint = read_checkpoint(disk)
    except DataDamaged:
        checkpoint = None
    position = checkpoint.journal_position if checkpoint is not None else min(starts, default=0)
    if position not in starts and not starts:
        return
    for entry in journal_entries(disk, position, Scan(position)):
        path = file_name(max(start for start in starts if start <= entry.frame))
        if not _wanted(path, only):
            continue
        line: Line = {"file": path, "frame": entry.frame}
        if entry.topic_id is None:
            yield line | {"record": _state(entry.content, disk.describe(path))}
            continue
        name = _partition_name(disk, entry.topic_id.hex, entry.partition)
        header = read_batch_header(entry.content)
        yield from _batch_lines(
            line | {"partition": name}, header, bytes(entry.content), with_records=with_records
        )


def _partition_name(disk: ShadowDisk, topic_id: str, index: int) -> str:
    end = f"-{index}.{topic_id}"
    names = (name for name in disk.list("topics") if name.endswith(end))
    return next(names, f"*{end}").removesuffix(f".{topic_id}")


def _log_paths(disk: ShadowDisk, directory: str) -> Iterator[str]:
    for name in disk.list(directory):
        path = f"{directory}/{name}"
        if disk.is_directory(path):
            yield from _log_paths(disk, path)
        elif name.endswith(".log"):
            yield path


def _segment_lines(disk: ShadowDisk, path: str, *, with_records: bool) -> Iterator[Line]:
    compacted = path.count("/") > 2  # in a directory of its own in the partition's
    for position, header, content in batches(disk, path, compacted=compacted):
        line = {"file": path, "position": position}
        yield from _batch_lines(line, header, content, with_records=with_records)


def _batch_lines(
    line: Line, header: BatchHeader, content: bytes, *, with_records: bool
) -> Iterator[Line]:
    line = line | {
        "offset": header.base_offset,
        "last_offset": header.last_offset,
        "records": header.record_count,
        "bytes": header.size_bytes,
        "compression": Compression(header.compression).name.lower(),
    }
    if header.producer_id >= 0:
        line |= {
            "producer": f"{header.producer_id}/{header.producer_epoch}",
            "sequence": header.base_sequence,
            "transactional": header.is_transactional,
        }
    try:
        if header.is_control:
            line["marker"] = _marker(header, content)
        yield line
        if with_records and not header.is_control:
            for record in read_records(content):
                yield {
                    "offset": record.offset,
                    "timestamp": record.timestamp,
                    "key": text_of(record.key),
                    "value": text_of(record.value),
                    "headers": [[name, text_of(value)] for name, value in record.headers],
                }
    except ProtocolError as error:
        raise DataDamaged(f"{line['file']}: the batch of {header.base_offset}: {error}") from error


def _marker(header: BatchHeader, content: bytes) -> str:
    if not header.record_count:
        return "compacted away"
    return "commit" if read_marker(content).commit else "abort"
