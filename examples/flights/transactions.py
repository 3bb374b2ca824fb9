"""Counting transactions where they leave their traces: the markers in a broker's log files."""

from collections import Counter
from pathlib import Path

from ottla.wire.records import iterate_batches, read_marker


def count_transactions(data_dir: Path) -> dict[str, int]:
    """How many transactions were committed and aborted, by the markers in all partitions.

    `data_dir` is the directory of a broker that does not run. The markers of one transaction are
    written at one moment, so producer id, epoch and time tell transactions apart. Transactions
    that wrote offsets only, and those whose segments were deleted, leave no marker.
    """
    ended: dict[tuple[int, int, int], bool] = {}
    for file in sorted(data_dir.glob("topics/*/*.log")):
        for header, batch in iterate_batches(file.read_bytes()):
            if header.is_control:
                moment = (header.producer_id, header.producer_epoch, header.base_timestamp)
                ended[moment] = read_marker(batch).commit
    counts = Counter("committed" if commit else "aborted" for commit in ended.values())
    return {"committed": counts["committed"], "aborted": counts["aborted"]}
