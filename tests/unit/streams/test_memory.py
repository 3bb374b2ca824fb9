"""The test driver's cluster behaves as Kafka's logs do: offsets, markers, isolation.

The hash that finds partitions is compared with the values of Kafka's own tests of it.
"""

import pytest

from ottla.client import Partition
from ottla.streams.memory import MemoryChangelogs, MemoryCluster, MemoryOutput, murmur2

AT = Partition("t", 0)


@pytest.fixture
def cluster() -> MemoryCluster:
    made = MemoryCluster()
    made.create("t", 1)
    return made


def values(cluster: MemoryCluster) -> list[tuple[int, bytes | None]]:
    return [(each.offset(), each.value()) for each in cluster.read(AT, 0)]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_hash_as_in_kafka(key: bytes, expected: int):
    assert murmur2(key) == expected & 0xFFFFFFFF


def test_an_open_transaction_hides_what_comes_after_it(cluster: MemoryCluster):
    output = MemoryOutput(cluster)
    output.begin()
    output.send_rows("t", [(None, b"in it", 0)])
    cluster.append(AT, None, b"after it", 0)
    assert values(cluster) == []
    assert (cluster.stable_end(AT), cluster.bounds(AT)) == (0, (0, 2))
    output.commit()
    assert values(cluster) == [(0, b"in it"), (1, b"after it")]
    assert cluster.stable_end(AT) == 3  # a marker took an offset


def test_an_aborted_transaction_is_never_read(cluster: MemoryCluster):
    output = MemoryOutput(cluster)
    output.begin()
    output.send_rows("t", [(None, b"no", 0)])
    output.abort()
    cluster.append(AT, None, b"yes", 0)
    assert values(cluster) == [(2, b"yes")]


def test_a_reader_of_changelogs_passes_markers(cluster: MemoryCluster):
    output = MemoryOutput(cluster)
    output.begin()
    output.send_changelog(AT, [(b"k", b"v")], lambda offset: None)
    output.flush()
    output.commit()
    reader = MemoryChangelogs(cluster)
    reader.read_from({AT: 0})
    ((_, messages),) = reader.poll(0)
    assert [each.key() for each in messages] == [b"k"]
    assert reader.reached(AT) == reader.bounds([AT])[AT][1] == 2


def test_the_offset_of_a_changelog_is_told_when_it_is_acknowledged(cluster: MemoryCluster):
    told: list[int] = []
    output = MemoryOutput(cluster)
    output.begin()
    output.send_changelog(AT, [(b"a", b"1"), (b"b", b"2")], told.append)
    assert told == []
    output.flush()
    assert told == [1]


def test_one_transaction_at_a_time(cluster: MemoryCluster):
    output = MemoryOutput(cluster)
    with pytest.raises(ValueError, match="no transaction is open"):
        output.commit()
