"""Members of a group of the new protocol (KIP-848) that do whatever they like: same answers.

Random walks, always the same ones (OTTLA_SOAK=1 takes more): five members, two of which share an
instance id, join, leave, send heartbeats in epochs that are theirs or not, own what they were given
or not, commit and fetch offsets. Each step is taken on Ottla and on Apache Kafka, and answered with
the same error, words, epoch and partitions. The assignor is "range", whose choice is no matter of
taste. At the end of a walk both tell the same of the group.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ottla.client.admin import Admin, TopicSpec
from ottla.wire.messages.metadata import MetadataRequest
from tests.clients.reading import eventually
from tests.differential.raw import Raw
from tests.differential.test_consumer_groups import Group

WALKS = 1_000 if os.environ.get("OTTLA_SOAK") == "1" else 15
STEPS = 60
SEED = os.environ.get("OTTLA_SEED", "1")
TOPIC, PARTITIONS = "walks", 5
INSTANCES = {"s1": "i", "s2": "i"}
MEMBERS = ("a", "b", "c", *INSTANCES)
ACTIONS = {
    "heartbeat": 10,
    "join": 2,
    "leave": 1,
    "leave for a while": 1,
    "heartbeat in another epoch": 2,
    "commit": 2,
    "fetch": 1,
}

pytestmark = pytest.mark.kafka


@dataclass
class Member:
    """What a member believes."""

    epoch: int = 0
    before: int = 0
    owned: frozenset[int] = frozenset()


@pytest.fixture
def places(quick_groups_ottla: str, quick_groups_kafka: str) -> Iterator[list[tuple[Raw, Any]]]:
    """A connection and the topic's id, for each of the two brokers."""
    found = []
    for address in (quick_groups_ottla, quick_groups_kafka):
        raw = Raw(address)
        raw.find_coordinator(0, "anything")
        Admin(address).create_topics([TopicSpec(TOPIC, PARTITIONS)])
        topics = raw.ask(12, MetadataRequest(topics=None)).topics
        (topic_id,) = [topic.topic_id for topic in topics if topic.name == TOPIC]
        probe = Group(raw, "probe", TOPIC, topic_id)
        eventually(lambda probe=probe: bool(probe.beat("m", 0).assigned), "the topic is known")
        found.append((raw, topic_id))
    yield found
    for raw, _ in found:
        raw.close()


def test_random_walks(places: list[tuple[Raw, Any]]) -> None:
    for number in range(WALKS):
        rng = random.Random(f"{SEED}-{number}")
        group_id = f"walk-{number}"
        ours, theirs = (Group(raw, group_id, TOPIC, topic_id) for raw, topic_id in places)
        members = {name: Member() for name in MEMBERS}
        for _ in range(STEPS):
            step = _step(rng, members)
            answers = [_take(step, group) for group in (ours, theirs)]
            assert answers[0] == answers[1], f"walk {number}: {step}"
            _believe(step, members, answers[0])
        assert _told(ours) == _told(theirs), f"walk {number}"


def _step(rng: random.Random, members: dict[str, Member]) -> tuple[str, str, int, dict[str, Any]]:
    """An action, a member, the epoch it names, and the rest of the request."""
    (action,) = rng.choices(list(ACTIONS), list(ACTIONS.values()))
    name = rng.choice(MEMBERS)
    member = members[name]
    others = [member.before, member.epoch + 1, member.epoch - 1]
    if action in ("commit", "fetch"):
        epoch = rng.choice([member.epoch, *others])
        return action, name, epoch, {"partition": rng.randrange(PARTITIONS)}
    epoch = {
        "heartbeat": member.epoch,
        "join": 0,
        "leave": -1,
        "leave for a while": -2,
        "heartbeat in another epoch": rng.choice(others),
    }[action]
    fields: dict[str, Any] = {"instance_id": INSTANCES.get(name)}
    if epoch == 0:
        fields["server_assignor"] = "range"
    elif epoch > 0:
        some = frozenset(sorted(member.owned)[:1])
        everything = frozenset(range(PARTITIONS))
        fields["owned"] = rng.choice([member.owned, member.owned, None, some, everything])
    return action, name, epoch, fields


def _take(step: tuple[str, str, int, dict[str, Any]], group: Group) -> Any:
    action, name, epoch, fields = step
    if action == "commit":
        return group.commit(name, epoch, fields["partition"])
    if action == "fetch":
        return group.fetch(name, epoch)
    answer = group.beat(name, epoch, **fields)
    message = answer.message and answer.message.replace(group.group_id, "GROUP")
    return answer._replace(message=message)


def _believe(
    step: tuple[str, str, int, dict[str, Any]], members: dict[str, Member], answer: Any
) -> None:
    action, name, epoch, _ = step
    member = members[name]
    if action in ("commit", "fetch"):
        return
    if answer.error or epoch < 0:
        if action != "heartbeat in another epoch" or not answer.error:
            members[name] = Member()
        return
    if answer.epoch != member.epoch:
        member.before = member.epoch
    member.epoch = answer.epoch
    if answer.assigned is not None:
        member.owned = answer.assigned


def _told(group: Group) -> Any:
    """What ConsumerGroupDescribe says, in an order of its own."""
    told = group.describe()
    members = [
        (
            member.member_id,
            member.instance_id,
            member.member_epoch,
            *(
                sorted(one for topic in assignment.topic_partitions for one in topic.partitions)
                for assignment in (member.assignment, member.target_assignment)
            ),
        )
        for member in told.members
    ]
    state = told.group_state, told.group_epoch, told.assignment_epoch, told.assignor_name
    return told.error_code, *state, sorted(members, key=lambda member: str(member[0]))
