"""Promise: each record takes effect once in the sink, whatever happens to its workers.

Every sink passes the same tests: killed at each step, two workers alive at once, a commit whose
answer was lost, a position set back by a person, a topic made anew, an owner that was stopped.
"""

import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ottla.pipeline.errors import Fenced, PipelineStopped, SinkAway
from ottla.pipeline.model import SinkOptions
from ottla.pipeline.sinks.sink import Batch, Move, SinkRow
from ottla.ports.failpoints import FailpointHit, armed
from tests.pipeline.conftest import Destination
from tests.pipeline.sink_process import batch

FAILPOINTS = ("sink.before_positions", "sink.before_commit", "sink.after_commit")
COUNT = 300


def start_worker(destination: Destination, failpoints: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.pipeline.sink_process",
            destination.scheme,
            destination.address,
            str(COUNT),
            "20",
        ],
        env={**os.environ, "OTTLA_FAILPOINTS": failpoints},
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> int:
    with process:
        return process.wait()


@pytest.fixture
def stopped_worker(destination: Destination) -> Iterator[subprocess.Popen[str]]:
    """A worker that stands still (SIGSTOP) in the middle of its second transaction."""
    process = start_worker(destination, "sink.before_commit=stop@2")
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    yield process
    process.kill()
    process.wait()


def numbers(destination: Destination) -> list[int]:
    return [n for (n,) in destination.query("SELECT n FROM t ORDER BY n")]


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_killed_at_each_step_every_record_is_in_once(
    destination: Destination, failpoint: str
) -> None:
    for nth in (1, 3):
        assert finish(start_worker(destination, f"{failpoint}=exit@{nth}")) == -signal.SIGKILL
    assert finish(start_worker(destination)) == 0
    assert numbers(destination) == list(range(COUNT))


def test_killed_at_random_steps_every_record_is_in_once(destination: Destination) -> None:
    random_steps = random.Random(7)
    for _ in range(6):
        point = random_steps.choice(FAILPOINTS)
        finish(start_worker(destination, f"{point}=exit@{random_steps.randint(1, 4)}"))
    assert finish(start_worker(destination)) == 0
    assert numbers(destination) == list(range(COUNT))


def test_of_two_live_workers_the_older_one_is_fenced(destination: Destination) -> None:
    old, young = destination.sink(owner="old"), destination.sink(owner="young")
    epoch = old.claim({0: 0})[0].epoch
    old.write(batch(epoch, 0, 20))
    position = young.claim({0: 0})[0]
    assert position == (epoch + 1, 20)
    with pytest.raises((Fenced, SinkAway)):  # PostgreSQL: its session was ended
        old.write(batch(epoch, 20, 40))
    young.write(batch(position.epoch, 20, 30))
    assert numbers(destination) == list(range(30))
    old.close()
    young.close()


def test_a_stale_offset_moves_nothing_even_with_the_right_epoch(destination: Destination) -> None:
    sink = destination.sink()
    epoch = sink.claim({0: 0})[0].epoch
    sink.write(batch(epoch, 0, 20))
    with pytest.raises(Fenced):
        sink.write(batch(epoch, 0, 20))
    assert numbers(destination) == list(range(20))
    sink.close()


def test_many_live_workers_taking_over_from_each_other(destination: Destination) -> None:
    workers = [start_worker(destination) for _ in range(3)]
    codes = [finish(worker) for worker in workers]
    assert 0 in codes
    assert set(codes) <= {0, 3}
    assert numbers(destination) == list(range(COUNT))


@pytest.mark.parametrize("failpoint", ["sink.before_commit", "sink.after_commit"])
def test_the_outcome_of_an_interrupted_commit_is_read_not_guessed(
    destination: Destination, failpoint: str
) -> None:
    sink = destination.sink()
    epoch = sink.claim({0: 0})[0].epoch

    def fail() -> None:
        raise FailpointHit(failpoint)

    with armed(failpoint, fail), pytest.raises(FailpointHit):
        sink.write(batch(epoch, 0, 20))
    sink.connect()
    position = sink.recorded()[0]
    assert position == (epoch, 20 if failpoint == "sink.after_commit" else 0)
    sink.write(batch(epoch, position.next_offset, 40))
    assert numbers(destination) == list(range(40))
    sink.close()


def test_a_position_set_back_by_a_person_fences_the_owner(destination: Destination) -> None:
    sink = destination.sink(SinkOptions(key=("n",)))
    epoch = sink.claim({0: 0})[0].epoch
    sink.write(batch(epoch, 0, 20))
    destination.query("UPDATE _ottla_offsets SET epoch = epoch + 1, next_offset = 0")
    with pytest.raises(Fenced):
        sink.write(batch(epoch, 20, 40))
    position = sink.claim({0: 0})[0]
    assert position.next_offset == 0
    sink.write(batch(position.epoch, 0, 40))
    assert numbers(destination) == list(range(40))
    sink.close()


def test_an_owner_that_finds_its_old_offset_again_is_fenced_all_the_same(
    destination: Destination,
) -> None:
    """Set back by a person, loaded again by another owner up to the very same offset."""
    sink = destination.sink(SinkOptions(key=("n",)))
    epoch = sink.claim({0: 0})[0].epoch
    sink.write(batch(epoch, 0, 20))
    destination.query("UPDATE _ottla_offsets SET epoch = epoch + 1, next_offset = 0")
    destination.query("UPDATE _ottla_offsets SET next_offset = 20")
    with pytest.raises(Fenced):
        sink.write(batch(epoch, 20, 40))
    assert numbers(destination) == list(range(20))
    sink.close()


def test_a_topic_made_anew_stops_the_pipeline(destination: Destination) -> None:
    sink = destination.sink(topic_id="id-1")
    sink.write(batch(sink.claim({0: 0})[0].epoch, 0, 20))
    sink.close()
    other = destination.sink(topic_id="id-2")
    with pytest.raises(PipelineStopped, match=r"deleted and made anew.*id-1.*position 20"):
        other.claim({0: 0})
    other.close()


def test_a_claim_that_is_not_the_first_ignores_the_start_offset(destination: Destination) -> None:
    sink = destination.sink()
    assert sink.claim({0: 5, 1: 9}) == {0: (1, 5), 1: (1, 9)}
    assert sink.claim({0: 70, 1: 70}) == {0: (2, 5), 1: (2, 9)}
    sink.close()


@pytest.mark.postgres
@pytest.mark.parametrize("destination", ["postgresql"], indirect=True)
def test_a_stopped_owner_holds_nobody_up_and_writes_nothing_when_it_wakes(
    destination: Destination, stopped_worker: subprocess.Popen[str]
) -> None:
    assert finish(start_worker(destination)) == 0
    assert numbers(destination) == list(range(COUNT))
    os.kill(stopped_worker.pid, signal.SIGCONT)
    assert finish(stopped_worker) == 3
    assert numbers(destination) == list(range(COUNT))


def test_the_last_row_of_a_key_wins_within_and_between_batches(destination: Destination) -> None:
    sink = destination.sink(SinkOptions(key=("k",)))
    position = sink.claim({0: 0})[0]
    for start in range(0, 100, 25):
        sink.write(batch(position.epoch, start, start + 25))
    assert destination.query("SELECT k, n FROM t ORDER BY k") == [(k, 90 + k) for k in range(10)]
    sink.close()


def rows_of(values: list[dict[str, object]], epoch: int, start: int = 0) -> Batch:
    rows = [SinkRow(0, start + i, v, f"in.csv:{start + i + 2}") for i, v in enumerate(values)]
    return Batch(rows, [], [Move(0, epoch, start, start + len(rows), len(rows))])


def test_a_value_that_the_column_refuses_is_a_dead_letter_and_the_others_go_in(
    destination: Destination,
) -> None:
    sink = destination.sink()
    epoch = sink.claim({0: 0})[0].epoch
    written = sink.write(
        rows_of([{"n": 1, "s": "a"}, {"n": "two", "s": "b"}, {"n": 3, "s": None}], epoch)
    )
    assert written == (2, 1)
    assert destination.query("SELECT n, s FROM t ORDER BY n") == [(1, "a"), (3, None)]
    [(offset, source, column, reason, raw)] = destination.query(
        'SELECT "offset", source, "column", reason, raw FROM _ottla_dead_letters'
    )
    assert (offset, source, column) == (1, "in.csv:3", "n")
    assert reason == "'two' is text, the column is integer"
    assert raw == '{"n":"two","s":"b"}'
    assert destination.query("SELECT next_offset, records_total FROM _ottla_offsets") == [(3, 3)]
    sink.close()


def test_a_number_too_large_for_the_column_is_found_by_halving(destination: Destination) -> None:
    sink = destination.sink(SinkOptions(key=("n",)))
    epoch = sink.claim({0: 0})[0].epoch
    values: list[dict[str, object]] = [{"n": n, "v": 1} for n in range(50)]
    values[13]["v"] = 10**30
    values[37]["v"] = -(10**30)
    assert sink.write(rows_of(values, epoch)) == (48, 2)
    assert destination.query("SELECT count(*) FROM t") == [(48,)]
    assert destination.query('SELECT "offset" FROM _ottla_dead_letters ORDER BY "offset"') == [
        (13,),
        (37,),
    ]
    sink.close()


def test_a_constraint_of_a_table_of_the_users_own_is_respected(destination: Destination) -> None:
    destination.query("CREATE TABLE t (n INTEGER PRIMARY KEY, v INTEGER CHECK (v < 10))")
    sink = destination.sink(SinkOptions(key=("n",)))
    epoch = sink.claim({0: 0})[0].epoch
    assert sink.write(rows_of([{"n": 1, "v": 5}, {"n": 2, "v": 50}], epoch)) == (1, 1)
    assert destination.query("SELECT n, v FROM t") == [(1, 5)]
    sink.close()


def test_when_the_last_row_of_a_key_is_refused_the_one_before_it_stays(
    destination: Destination,
) -> None:
    sink = destination.sink(SinkOptions(key=("k",)))
    epoch = sink.claim({0: 0})[0].epoch
    sink.write(rows_of([{"k": 1, "v": 1}, {"k": 1, "v": 2}, {"k": 1, "v": 10**30}], epoch))
    assert destination.query("SELECT k, v FROM t") == [(1, 2)]
    sink.close()


def test_columns_are_added_as_they_appear_and_nested_values_are_json(
    destination: Destination,
) -> None:
    sink = destination.sink()
    epoch = sink.claim({0: 0})[0].epoch
    sink.write(rows_of([{"a": 1, "b": None}], epoch))
    sink.write(rows_of([{"a": 2, "b": 2.5, "c": {"d": [1]}, "ok": True}], epoch, start=1))
    found = destination.query("SELECT a, b, ok FROM t ORDER BY a")
    assert found == [(1, None, None), (2, 2.5, True)]
    [(nested,)] = destination.query("SELECT c FROM t WHERE a = 2")
    assert nested in ({"d": [1]}, '{"d":[1]}')
    sink.close()


def test_a_frozen_schema_makes_an_unknown_column_a_dead_letter(destination: Destination) -> None:
    destination.query("CREATE TABLE t (a INTEGER)")
    sink = destination.sink(SinkOptions(schema="freeze"))
    epoch = sink.claim({0: 0})[0].epoch
    assert sink.write(rows_of([{"a": 1}, {"a": 2, "b": 3}], epoch)) == (1, 1)
    assert destination.query('SELECT "column" FROM _ottla_dead_letters') == [("b",)]
    sink.close()


def test_a_name_that_cannot_be_a_column_makes_a_dead_letter(destination: Destination) -> None:
    """Names come with the data: quoted, whatever is in them, and none ends the pipeline."""
    odd = ['a"b', "x; DROP TABLE t; --", "%s", "select", "é", "a b", "\\", "{}", "$1", "'"]
    bad = ["", "nul\0", "line\nfeed", "\x1b[2J", "n" * 1_001]
    sink = destination.sink()
    epoch = sink.claim({0: 0})[0].epoch
    rows: list[dict[str, object]] = [{"id": 1} | dict.fromkeys(odd, 7)]
    rows += [{"id": 2, name: 7} for name in bad]
    rows.append({f"c{number}": 7 for number in range(1_001)})
    assert sink.write(rows_of(rows, epoch)) == (1, 6)
    assert sink.write(rows_of([{"id": 3}], epoch, start=7)) == (1, 0)
    columns, found = sink.sample(9)
    assert columns == ["id", *odd]
    assert sorted(found, key=lambda row: int(row[0])) == [(1, *[7] * 10), (3, *[None] * 10)]
    assert len(destination.query("SELECT raw FROM _ottla_dead_letters")) == 6
    sink.close()


def test_columns_that_a_database_does_not_tell_apart(destination: Destination) -> None:
    sink = destination.sink()
    epoch = sink.claim({0: 0})[0].epoch
    sink.write(rows_of([{"a": 1}], epoch))
    written = sink.write(rows_of([{"a": 2, "A": 2}, {"a": 3}], epoch, start=1))
    assert written == ((1, 1) if destination.scheme == "sqlite" else (2, 0))
    sink.close()


def test_types_given_are_used_and_a_row_without_key_is_a_dead_letter(
    destination: Destination,
) -> None:
    options = SinkOptions(key=("id",), columns=(("zip", "text"),))
    sink = destination.sink(options)
    epoch = sink.claim({0: 0})[0].epoch
    values: list[dict[str, object]] = [{"id": 1, "zip": 1234}, {"id": None, "zip": "x"}]
    assert sink.write(rows_of(values, epoch)) == (1, 1)
    assert destination.query("SELECT id, zip FROM t") == [(1, "1234")]
    sink.close()


def test_a_table_without_an_index_on_the_key_is_refused(destination: Destination) -> None:
    destination.query("CREATE TABLE t (a INTEGER, b INTEGER)")
    sink = destination.sink(SinkOptions(key=("a", "b")))
    epoch = sink.claim({0: 0})[0].epoch
    with pytest.raises(PipelineStopped, match=r"no unique index on \(a, b\)"):
        sink.write(rows_of([{"a": 1, "b": 2}], epoch))
    destination.query("CREATE UNIQUE INDEX i ON t (b, a)")
    assert sink.write(rows_of([{"a": 1, "b": 2}], epoch)) == (1, 0)
    sink.close()


def test_text_of_every_kind_arrives_as_it_was(destination: Destination) -> None:
    texts = ["", "tab\there", "line\nbreak\r", "back\\slash \\N", "quote ' \"", "żółć 🚀", "NULL"]
    sink = destination.sink()
    epoch = sink.claim({0: 0})[0].epoch
    sink.write(rows_of([{"i": i, "s": s} for i, s in enumerate(texts)], epoch))
    assert [s for (s,) in destination.query("SELECT s FROM t ORDER BY i")] == texts
    sink.close()


def test_several_partitions_move_in_one_transaction_or_not_at_all(
    destination: Destination,
) -> None:
    sink = destination.sink()
    positions = sink.claim({0: 0, 1: 0})
    rows = [SinkRow(p, 0, {"n": p}, None) for p in (0, 1)]
    stale = [Move(0, positions[0].epoch, 0, 1, 1), Move(1, positions[1].epoch, 7, 8, 1)]
    with pytest.raises(Fenced, match="1 of 2"):
        sink.write(Batch(rows, [], stale))
    good = [Move(p, positions[p].epoch, 0, 1, 1) for p in (0, 1)]
    sink.write(Batch(rows, [], good))
    assert numbers(destination) == [0, 1]
    assert sink.recorded() == {p: (positions[p].epoch, 1) for p in (0, 1)}
    assert list(itertools.chain(*destination.query("SELECT count(*) FROM _ottla_offsets"))) == [2]
    sink.close()
