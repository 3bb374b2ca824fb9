"""DescribeUserScramCredentials: v0 (KIP-554).

Behaviour: which users there are, with which mechanisms and how many iterations; all, or those that
are named. Salts and keys never leave the broker.
"""

from collections import Counter
from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.broker.sasl.credentials import MECHANISM_IDS
from ottla.ports.errors import ErrorCode
from ottla.wire.messages.describe_user_scram_credentials import (
    CredentialInfo,
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request


@api(50, 0, 0)
def handle(broker: "Broker", request: "Request[DescribeUserScramCredentialsRequest]") -> None:
    named = Counter(user.name for user in request.body.users or ())
    results = [
        _describe(broker, user, named[user]) for user in (named or broker.credentials.users())
    ]
    request.respond(
        DescribeUserScramCredentialsResponse(
            error_code=ErrorCode.NONE, error_message=None, results=results
        )
    )


def _describe(broker: "Broker", user: str, times_named: int) -> DescribeUserScramCredentialsResult:
    def refused(code: ErrorCode, message: str) -> DescribeUserScramCredentialsResult:
        return DescribeUserScramCredentialsResult(user=user, error_code=code, error_message=message)

    if times_named > 1:
        return refused(
            ErrorCode.DUPLICATE_RESOURCE,
            "Cannot describe SCRAM credentials for the same user twice in a single request: "
            f"{user}",
        )
    known = broker.credentials.of_user(user)
    if not known:
        return refused(
            ErrorCode.RESOURCE_NOT_FOUND,
            f"Attempt to describe a user credential that does not exist: {user}",
        )
    infos = [
        CredentialInfo(mechanism=number, iterations=known[mechanism].iterations)
        for number, mechanism in MECHANISM_IDS.items()
        if mechanism in known
    ]
    return DescribeUserScramCredentialsResult(user=user, credential_infos=infos)
