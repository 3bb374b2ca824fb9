"""AlterUserScramCredentials: v0 (KIP-554).

Behaviour: sets and deletes credentials. The client salts and iterates the password itself, so the
broker never sees it. One change for each user in a request, whatever the mechanism; all of them in
one frame. Iterations must be between 4096 and 16384, as in Kafka.
"""

from typing import TYPE_CHECKING

from ottla.broker.registry import api
from ottla.broker.sasl.credentials import (
    MECHANISM_IDS,
    CredentialRecord,
    ScramCredentialDeleted,
    credential_of,
)
from ottla.ports.errors import ErrorCode, KafkaError, error_text
from ottla.ports.limits import SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN
from ottla.wire.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse,
    AlterUserScramCredentialsResult,
    ScramCredentialDeletion,
    ScramCredentialUpsertion,
)

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.broker.request import Request

Change = ScramCredentialDeletion | ScramCredentialUpsertion


@api(51, 0, 0)
def handle(broker: "Broker", request: "Request[AlterUserScramCredentialsRequest]") -> None:
    body = request.body
    changes: dict[str, list[Change]] = {}
    both: list[Change] = [*body.deletions, *body.upsertions]
    for change in both:
        changes.setdefault(change.name, []).append(change)
    records: list[CredentialRecord] = []
    results = []
    for user, of_user in changes.items():
        result = AlterUserScramCredentialsResult(user=user, error_message=None)
        try:
            records.append(_record(broker, of_user))
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error_text(error)
        results.append(result)
    if records:
        broker.check_disk_space()
        broker.commit(records)
    request.respond(AlterUserScramCredentialsResponse(results=results))


def _record(broker: "Broker", changes: list[Change]) -> CredentialRecord:
    """The record of a user's one change; of several the first is looked at, as in Kafka."""
    change = changes[0]
    mechanism = _checked(change)
    deletes = isinstance(change, ScramCredentialDeletion)
    if deletes and broker.credentials.find(change.name, mechanism) is None:
        raise KafkaError(
            ErrorCode.RESOURCE_NOT_FOUND,
            "Attempt to delete a user credential that does not exist",
        )
    if len(changes) > 1:
        raise KafkaError(
            ErrorCode.DUPLICATE_RESOURCE,
            "A user credential cannot be altered twice in the same request",
        )
    if isinstance(change, ScramCredentialDeletion):
        return ScramCredentialDeleted(change.name, mechanism)
    salt, salted = bytes(change.salt), bytes(change.salted_password)
    if not salted:
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)  # as Kafka says to an empty key
    return credential_of(change.name, mechanism, salt, change.iterations, salted)


def _checked(change: Change) -> str:
    """The mechanism of a change that may be made. Raises KafkaError."""
    if not change.name:
        raise KafkaError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Username must not be empty")
    mechanism = MECHANISM_IDS.get(change.mechanism)
    if mechanism is None:
        raise KafkaError(ErrorCode.UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism")
    if isinstance(change, ScramCredentialUpsertion):
        if change.iterations < SCRAM_ITERATIONS_MIN:
            raise KafkaError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Too few iterations")
        if change.iterations > SCRAM_ITERATIONS_MAX:
            raise KafkaError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Too many iterations")
    return mechanism
