"""Where Ottla's answers may differ from Apache Kafka's, each with its reason.

One row allows one place in the answers of one API to differ. `docs/compatibility.md` prints this
table; a row that the generated requests do not need is taken out, for a test says so.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.differential.comparing import SILENT


@dataclass(frozen=True)
class Allowed:
    """`api` and `place` are regular expressions: the API's name, and the path in its answer.

    A place of "" is the whole answer. `when` sees our value and theirs. What is rare is met only
    in long campaigns.
    """

    api: str
    place: str
    reason: str
    when: Callable[[Any, Any], bool] = field(default=lambda _ours, _theirs: True)
    rare: bool = False


def _theirs(*values: Any) -> Callable[[Any, Any], bool]:
    return lambda _ours, theirs: theirs in values


def _both(ours_values: Any, theirs_values: Any) -> Callable[[Any, Any], bool]:
    return lambda ours, theirs: ours in ours_values and theirs in theirs_values


def _whole(name: str, *values: Any) -> Callable[[Any, Any], bool]:
    """Kafka's whole answer has one of these values in its field `name`."""
    return lambda _ours, theirs: isinstance(theirs, dict) and theirs.get(name) in values


_MORE_THAN_ONE_FAULT = (
    "a request that is wrong in more than one way: which of its errors is found first is no promise"
)
NOT_COMPARED = {
    "DescribeConfigs": "each broker has configs of its own; those that both have are compared by "
    "name where the admin clients are tested",
    "WriteTxnMarkers": "goes from broker to broker; what a wrong one does to a partition, the "
    "tests of hanging transactions say",
}
ALLOWED = [
    Allowed(
        ".*",
        r"(.*\.)?error_message",
        "Ottla says in words what is wrong where Kafka gives the code alone",
        _both({"some words"}, {None}),
    ),
    Allowed(
        "ApiVersions",
        r"api_keys|(supported|finalized)_features(_epoch)?(\[\].*)?",
        "each broker tells what it serves itself; the tests of the other APIs show that it does",
    ),
    Allowed(
        "Fetch",
        "",
        "a topic id of zeros: Kafka fails (UNKNOWN_SERVER_ERROR), Ottla answers UNKNOWN_TOPIC_ID "
        "for that topic and what was asked for the others",
        _whole("error_code", "UNKNOWN_SERVER_ERROR"),
    ),
    Allowed(
        "Metadata",
        "",
        "a topic id before version 12: Kafka refuses the request, Ottla that topic",
        _whole("cluster_id", None),
    ),
    Allowed(
        "Metadata",
        "",
        "a topic named neither by id nor by name, or by one id twice: Kafka leaves it out",
        lambda ours, theirs: len(ours["topics"]) > len(theirs["topics"]),
    ),
    Allowed(
        "CreateTopics",
        r"topics\[\]\.configs\[\]\.config_source",
        "Kafka keeps some of its defaults as configs of the cluster",
        _both({5}, {3}),
    ),
    Allowed(
        "DescribeQuorum",
        r".*\.(leader_epoch|high_watermark|log_end_offset|last_(fetch|caught_up)_timestamp)",
        "how far each broker's own log of metadata is",
    ),
    Allowed(
        "ElectLeaders",
        "replica_election_results",
        "asked for all partitions, Kafka lists the topics, each without a result; where no leader "
        "can change, Ottla lists none",
        lambda ours, theirs: ours == [] and not any(row["partition_result"] for row in theirs),
    ),
    Allowed(
        "TxnOffsetCommit",
        r"topics\[\]\.partitions\[\]\.error_code",
        "an empty transactional id: Kafka takes the offsets without a transaction that could end "
        "them, Ottla refuses the request",
        _both({"INVALID_REQUEST"}, {"NONE", "OFFSET_METADATA_TOO_LARGE", "INVALID_PRODUCER_EPOCH"}),
        rare=True,
    ),
    Allowed(
        "TxnOffsetCommit",
        r"topics\[\]\.partitions\[\]\.error_code",
        _MORE_THAN_ONE_FAULT,
        _both({"INVALID_PRODUCER_ID_MAPPING"}, {"UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION"}),
        rare=True,
    ),
    Allowed(
        "DescribeTopicPartitions",
        "",
        'a topic named "": Kafka fails with it (UNKNOWN_SERVER_ERROR)',
        lambda _ours, theirs: any(
            topic["error_code"] == "UNKNOWN_SERVER_ERROR" for topic in theirs["topics"]
        ),
        rare=True,
    ),
    Allowed(
        "DescribeTopicPartitions",
        "",
        "where a page over all topics ends: Kafka has topics of its own among them",
        lambda ours, theirs: ours["next_cursor"] != theirs["next_cursor"],
        rare=True,
    ),
    Allowed(
        "OffsetDelete",
        "",
        "a group without members is gone with its last offset; Kafka keeps it until it next looks "
        "for old offsets",
        lambda ours, theirs: (
            (ours["error_code"], theirs["error_code"]) == ("GROUP_ID_NOT_FOUND", "NONE")
        ),
    ),
    Allowed(
        "AddPartitionsToTxn",
        "",
        "a request for no transaction at all: Kafka never answers it",
        _theirs(SILENT),
    ),
]


# What the clients have met: API, place, reason.
MET_BY_CLIENTS = [
    (
        "Produce",
        "inside a compressed batch",
        "Kafka opens it, and fails with an LZ4 frame whose blocks need each other; Ottla keeps it",
    ),
    (
        "AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, Produce",
        "CONCURRENT_TRANSACTIONS, NOT_ENOUGH_REPLICAS while a transaction ends",
        "Ottla ends a transaction before it answers, and never gives these; the tests ask Kafka "
        "again",
    ),
]
# A length below zero that is not null's -1, in a field that may be null, by API.
TAKEN_FOR_NULL = dict.fromkeys(
    ("Metadata", "InitProducerId", "DescribeLogDirs", "ElectLeaders"),
    "Kafka takes any length below zero for null's, Ottla only -1",
)
USED: set[str] = set()  # the reasons that this run has needed


def reason_for(api: str, path: str, ours: Any, theirs: Any) -> Allowed | None:
    """The row that allows this difference, or None."""
    for row in ALLOWED:
        named = re.fullmatch(row.api, api) and re.fullmatch(row.place, path)
        if named and row.when(ours, theirs):
            USED.add(row.reason)
            return row
    return None
