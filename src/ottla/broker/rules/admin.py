"""Rules of the APIs that administer the cluster: ACLs, configs, quotas, credentials, features."""

from typing import TYPE_CHECKING, Any

from ottla.broker.authorizer import Operation
from ottla.broker.rules.rule import (
    CLUSTER_DENIED,
    GROUP_DENIED,
    MESSAGES,
    TOPIC_DENIED,
    part,
    refusal,
)
from ottla.ports.errors import ErrorCode
from ottla.wire.message import Message
from ottla.wire.messages import alter_configs as replacing
from ottla.wire.messages import incremental_alter_configs as incremental
from ottla.wire.messages.alter_client_quotas import AlterClientQuotasResponse, EntryResult
from ottla.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)
from ottla.wire.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsResponse,
    AlterUserScramCredentialsResult,
)
from ottla.wire.messages.create_acls import AclCreationResult, CreateAclsResponse
from ottla.wire.messages.delete_acls import DeleteAclsFilterResult, DeleteAclsResponse
from ottla.wire.messages.describe_configs import DescribeConfigsResult
from ottla.wire.messages.elect_leaders import (
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

_TOPIC, _GROUP = 2, 32  # config resource types
_CLUSTER_CONFIGS = (4, 8, 16)  # broker, broker logger, client metrics
_MESSAGE = MESSAGES[CLUSTER_DENIED]


def describe(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DESCRIBE on the cluster."""
    allowed = request.access.cluster(Operation.DESCRIBE)
    return None if allowed else refusal(request, CLUSTER_DENIED)


describe_acls = describe
describe_log_dirs = describe


def alter(broker: "Broker", request: "Request[Any]") -> Message | None:
    """ALTER on the cluster."""
    allowed = request.access.cluster(Operation.ALTER)
    return None if allowed else refusal(request, CLUSTER_DENIED)


def create_acls(broker: "Broker", request: "Request[Any]") -> Message | None:
    """ALTER on the cluster."""
    if request.access.cluster(Operation.ALTER):
        return None
    refused = [AclCreationResult(CLUSTER_DENIED, _MESSAGE) for _ in request.body.creations]
    return CreateAclsResponse(results=refused)


def delete_acls(broker: "Broker", request: "Request[Any]") -> Message | None:
    """ALTER on the cluster."""
    if request.access.cluster(Operation.ALTER):
        return None
    refused = [DeleteAclsFilterResult(CLUSTER_DENIED, _MESSAGE, []) for _ in request.body.filters]
    return DeleteAclsResponse(filter_results=refused)


def elect_leaders(broker: "Broker", request: "Request[Any]") -> Message | None:
    """ALTER on the cluster."""
    if request.access.cluster(Operation.ALTER):
        return None
    return ElectLeadersResponse(
        error_code=CLUSTER_DENIED,
        replica_election_results=[
            ReplicaElectionResult(
                topic.topic,
                [PartitionResult(index, CLUSTER_DENIED, _MESSAGE) for index in topic.partitions],
            )
            for topic in request.body.topic_partitions or ()
        ],
    )


def alter_replica_log_dirs(broker: "Broker", request: "Request[Any]") -> Message | None:
    """ALTER on the cluster."""
    if request.access.cluster(Operation.ALTER):
        return None
    return AlterReplicaLogDirsResponse(
        results=[
            AlterReplicaLogDirTopicResult(
                topic.name,
                [
                    AlterReplicaLogDirPartitionResult(index, CLUSTER_DENIED)
                    for index in topic.partitions
                ],
            )
            for directory in request.body.dirs
            for topic in directory.topics
        ]
    )


# -- configs --------------------------------------------------------------------------------------


def _config_refusal(request: "Request[Any]", resource: Any, op: Operation) -> ErrorCode | None:
    """Why the configs of a resource may not be touched; a type unknown is the handler's affair."""
    access, kind, name = request.access, resource.resource_type, resource.resource_name
    if kind == _TOPIC:
        return None if access.topic(op, name) else TOPIC_DENIED
    if kind == _GROUP:
        return None if access.group(op, name) else GROUP_DENIED
    if kind in _CLUSTER_CONFIGS:
        return None if access.cluster(op) else CLUSTER_DENIED
    return None


def describe_configs(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DESCRIBE_CONFIGS on the topic or the group, or on the cluster for a broker's."""
    body, op = request.body, Operation.DESCRIBE_CONFIGS
    body.resources, denied = part(
        body.resources, lambda one: _config_refusal(request, one, op) is None
    )
    refused = []
    for one in denied:
        code = _config_refusal(request, one, op) or CLUSTER_DENIED
        refused.append(
            DescribeConfigsResult(code, MESSAGES[code], one.resource_type, one.resource_name, [])
        )
    request.amend(lambda response: response.results.extend(refused))
    return None


def alter_configs(broker: "Broker", request: "Request[Any]") -> Message | None:
    """ALTER_CONFIGS on the topic or the group, or on the cluster for a broker's."""
    body, op = request.body, Operation.ALTER_CONFIGS
    answer = (
        incremental.AlterConfigsResourceResponse
        if request.api_key == incremental.IncrementalAlterConfigsRequest.API_KEY
        else replacing.AlterConfigsResourceResponse
    )
    body.resources, denied = part(
        body.resources, lambda one: _config_refusal(request, one, op) is None
    )
    refused = []
    for one in denied:
        code = _config_refusal(request, one, op) or CLUSTER_DENIED
        refused.append(answer(code, MESSAGES[code], one.resource_type, one.resource_name))
    request.amend(lambda response: response.responses.extend(refused))
    return None


def describe_configs_of_cluster(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DESCRIBE_CONFIGS on the cluster."""
    allowed = request.access.cluster(Operation.DESCRIBE_CONFIGS)
    return None if allowed else refusal(request, CLUSTER_DENIED)


# -- quotas and credentials -----------------------------------------------------------------------


def describe_client_quotas(broker: "Broker", request: "Request[Any]") -> Message | None:
    """DESCRIBE_CONFIGS on the cluster."""
    if request.access.cluster(Operation.DESCRIBE_CONFIGS):
        return None
    response: Any = refusal(request, CLUSTER_DENIED)
    response.entries = None
    return response  # type: ignore[no-any-return]


def alter_client_quotas(broker: "Broker", request: "Request[Any]") -> Message | None:
    """ALTER_CONFIGS on the cluster."""
    if request.access.cluster(Operation.ALTER_CONFIGS):
        return None
    refused = [EntryResult(CLUSTER_DENIED, _MESSAGE, one.entity) for one in request.body.entries]
    return AlterClientQuotasResponse(entries=refused)


def alter_user_scram_credentials(broker: "Broker", request: "Request[Any]") -> Message | None:
    """ALTER on the cluster."""
    if request.access.cluster(Operation.ALTER):
        return None
    body = request.body
    users = dict.fromkeys(one.name for one in (*body.deletions, *body.upsertions))
    refused = [AlterUserScramCredentialsResult(user, CLUSTER_DENIED, _MESSAGE) for user in users]
    return AlterUserScramCredentialsResponse(results=refused)
