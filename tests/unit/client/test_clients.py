"""What clients refuse before a broker is asked: states, settings, closed clients.

Method: real clients of librdkafka, with an address where nobody listens.
"""

import socket
from collections.abc import Iterator

import pytest

from ottla.client import Admin, Consumer, Fatal, Partition, Producer, TimedOut, TopicSpec
from ottla.client.producer import ALLOWED, State


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that is taken, where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        host, port = held.getsockname()
        yield f"{host}:{port}"


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("action", ALLOWED)
def test_a_transactional_producer_does_only_what_its_state_allows(
    nobody: str, action: str, state: State
):
    producer = Producer(nobody)
    producer.transactional_id = "id"
    producer.state = state
    if state in ALLOWED[action]:
        producer._allow(action)
    else:
        with pytest.raises(Fatal, match=f"cannot {action}: {state.value}"):
            producer._allow(action)


def test_a_commit_that_was_not_answered_can_only_be_asked_for_again():
    assert [action for action, states in ALLOWED.items() if State.UNKNOWN in states] == [
        "commit a transaction"
    ]


def test_without_a_transactional_id_there_are_no_transactions(nobody: str):
    producer = Producer(nobody)
    with (
        pytest.raises(Fatal, match="made without a transactional_id"),
        producer.transaction(),
    ):
        pass


def test_a_transactional_producer_needs_its_broker(nobody: str):
    with pytest.raises(TimedOut, match="Is the broker there"):
        Producer(nobody, transactional_id="id", timeout_ms=300)


def test_what_was_not_acknowledged_in_time_is_told(nobody: str):
    producer = Producer(nobody, timeout_ms=200)
    producer.send("topic", b"key", b"value")
    with pytest.raises(TimedOut, match="1 records were not acknowledged"):
        producer.flush()


def test_a_queue_that_stays_full_is_told(nobody: str):
    producer = Producer(nobody, timeout_ms=300, config={"queue.buffering.max.messages": 10})
    with pytest.raises(TimedOut, match="the queue stayed full"):
        producer.send_rows("topic", [(None, b"value", 0)] * 11)


def test_a_record_that_could_not_be_delivered_is_told_once(nobody: str):
    producer = Producer(nobody, timeout_ms=3_000, config={"message.timeout.ms": 100})
    producer.send("topic", b"key", b"value")
    with pytest.raises(Fatal, match="deliver a record to topic"):
        producer.flush()
    producer.flush()


def test_a_closed_producer_is_closed(nobody: str):
    producer = Producer(nobody, timeout_ms=200)
    producer.close()
    producer.close()
    with pytest.raises(Fatal, match="the producer is closed"):
        producer.send("topic", None, b"value")


def test_records_that_are_given_up_are_told(nobody: str):
    producer = Producer(nobody, timeout_ms=200)
    producer.send("topic", b"key", b"value")
    with pytest.raises(TimedOut, match=r"1 records were not acknowledged .* given up"):
        producer.close()


def test_the_block_s_own_error_comes_first(nobody: str):
    def work() -> None:
        with Producer(nobody, timeout_ms=200) as producer:
            producer.send("topic", b"key", b"value")
            raise KeyError

    with pytest.raises(KeyError) as raised:
        work()
    assert "given up" in raised.value.__notes__[0]


def test_a_closed_consumer_is_closed(nobody: str):
    consumer = Consumer(nobody, "group")
    consumer.close()
    with pytest.raises(Fatal, match="the consumer is closed"):
        consumer.consume(1, 0.01)


def test_settings_that_do_not_exist_are_refused(nobody: str):
    for make in (
        lambda: Producer(nobody, config={"no.such": 1}),
        lambda: Consumer(nobody, "group", config={"no.such": 1}),
        lambda: Admin(nobody, config={"no.such": 1}),
    ):
        with pytest.raises(Fatal, match=r"no\.such"):
            make()


def test_an_admin_needs_its_broker(nobody: str):
    admin = Admin(nobody, timeout_ms=300)
    with pytest.raises(TimedOut, match="list topics"):
        admin.partition_counts()
    with pytest.raises(TimedOut, match="create topic t"):
        admin.create_topics([TopicSpec("t")])
    with pytest.raises(TimedOut, match="list offsets of t-0"):
        admin.end_offsets([Partition("t", 0)])


def test_nothing_asked_is_nothing_answered(nobody: str):
    admin = Admin(nobody)
    assert admin.create_topics([]) == []
    assert admin.end_offsets([]) == {}
