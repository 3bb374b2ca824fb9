"""What members ask of a group, free of protocol versions, and how they are refused.

The handlers make these from the wire, and own the bytes in them: metadata and assignments outlive
the request they came in. Answers are the wire's own messages, for they may be given long after the
handler is done.
"""

from typing import NamedTuple

import msgspec

from ottla.ports.errors import ErrorCode
from ottla.wire.messages.join_group import JoinGroupResponse
from ottla.wire.messages.sync_group import SyncGroupResponse

UNKNOWN_MEMBER_ID = ""


class JoinRequest(msgspec.Struct, frozen=True):
    """A JoinGroup.

    `protocols` are (name, opaque metadata), the member's favourite first. `requires_member_id`:
    the client knows MEMBER_ID_REQUIRED (v4+). `can_skip_assignment`: it knows SkipAssignment (v9+).
    """

    group_id: str
    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: list[tuple[str, bytes]]
    requires_member_id: bool = True
    can_skip_assignment: bool = True


class SyncRequest(msgspec.Struct, frozen=True):
    """A SyncGroup. `assignments` maps member ids to opaque assignments; only the leader has any."""

    group_id: str
    member_id: str
    group_instance_id: str | None
    generation_id: int
    assignments: dict[str, bytes]
    protocol_type: str | None = None
    protocol_name: str | None = None


class LeavingMember(NamedTuple):
    """Who is to leave: by member id, or with that empty by instance id (an administrator)."""

    member_id: str
    group_instance_id: str | None


def join_refused(error: ErrorCode, member_id: str) -> JoinGroupResponse:
    """The answer to a JoinGroup that does not lead into a generation."""
    return JoinGroupResponse(error_code=error, member_id=member_id)


def sync_refused(error: ErrorCode) -> SyncGroupResponse:
    """The answer to a SyncGroup that brings no assignment."""
    return SyncGroupResponse(error_code=error)
