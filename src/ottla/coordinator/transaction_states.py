"""The states of a transaction and what EndTxn does in each, as tables.

Kafka writes PrepareCommit or PrepareAbort first, then the markers to other nodes, then Complete*.
On one node all of it is one atomic frame of the journal: PrepareCommit, PrepareAbort and
PrepareEpochFence exist here in name only (ListTransactions may ask for them), so there is no
moment at which CONCURRENT_TRANSACTIONS would have to be answered. Dead is what a TransactionalId
becomes when it expires: it is forgotten.

Two versions of the protocol for ending a transaction live side by side, chosen by the request:

- version 1 (EndTxn v0-4): the epoch stays. The same result again is taken for a retry.
- version 2 (EndTxn v5, KIP-890): the epoch rises with every transaction, so a late message of an
  earlier transaction is always recognised, and a retry is known by its old epoch.
"""

from enum import Enum, IntEnum

from ottla.ports.errors import ErrorCode

TRANSACTION_VERSION_1 = 1
TRANSACTION_VERSION_2 = 2


class TransactionState(IntEnum):
    """Kafka's states with Kafka's numbers."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7

    @property
    def label(self) -> str:
        """The name Kafka shows in ListTransactions and DescribeTransactions."""
        return "".join(word.capitalize() for word in self.name.split("_"))


_EMPTY = TransactionState.EMPTY
_ONGOING = TransactionState.ONGOING
_COMMITTED = TransactionState.COMPLETE_COMMIT
_ABORTED = TransactionState.COMPLETE_ABORT
_DEAD = TransactionState.DEAD

TRANSITIONS: dict[TransactionState, frozenset[TransactionState]] = {
    # InitProducerId again; a first partition; an abort with nothing open (version 2); expiry
    _EMPTY: frozenset({_EMPTY, _ONGOING, _ABORTED, _DEAD}),
    # one more partition; EndTxn or a time-out; InitProducerId, which aborts and begins in one
    _ONGOING: frozenset({_ONGOING, _COMMITTED, _ABORTED, _EMPTY}),
    # here the same again: the raise of the epoch after a power cut
    _COMMITTED: frozenset({_COMMITTED, _EMPTY, _ONGOING, _ABORTED, _DEAD}),
    _ABORTED: frozenset({_EMPTY, _ONGOING, _ABORTED, _DEAD}),
}


class Claim(Enum):
    """Who a version 2 request says it is, against what is known of its TransactionalId."""

    CURRENT = "current"
    """The producer as it is."""
    RETRY = "retry"
    """The same producer before its last epoch bump: it may not have seen the answer."""
    SHUT_OUT = "shut out"
    """The producer before a power cut, which may have taken what it had open."""


class Step(Enum):
    """What EndTxn does when it does not refuse."""

    END = "end"
    """End what is open (in version 2 possibly nothing) and write down the result."""
    REPEAT = "repeat"
    """It was done before: give the same answer."""


_FENCED = ErrorCode.PRODUCER_FENCED
_WRONG = ErrorCode.INVALID_TXN_STATE
_ABORTABLE = ErrorCode.TRANSACTION_ABORTABLE

END_VERSION_1: dict[tuple[TransactionState, bool], Step | ErrorCode] = {
    # (state, commit)
    (_EMPTY, True): _WRONG,
    (_EMPTY, False): _WRONG,
    (_ONGOING, True): Step.END,
    (_ONGOING, False): Step.END,
    (_COMMITTED, True): Step.REPEAT,
    (_COMMITTED, False): _WRONG,
    (_ABORTED, True): _WRONG,
    (_ABORTED, False): Step.REPEAT,
}

END_VERSION_2: dict[tuple[TransactionState, bool, Claim], Step | ErrorCode] = {
    # (state, commit, claim)
    (_EMPTY, True, Claim.CURRENT): _WRONG,
    (_EMPTY, False, Claim.CURRENT): Step.END,
    (_EMPTY, True, Claim.RETRY): _FENCED,
    (_EMPTY, False, Claim.RETRY): _FENCED,
    (_ONGOING, True, Claim.CURRENT): Step.END,
    (_ONGOING, False, Claim.CURRENT): Step.END,
    (_ONGOING, True, Claim.RETRY): _FENCED,
    (_ONGOING, False, Claim.RETRY): _FENCED,
    (_COMMITTED, True, Claim.CURRENT): _WRONG,
    (_COMMITTED, False, Claim.CURRENT): Step.END,
    (_COMMITTED, True, Claim.RETRY): Step.REPEAT,
    (_COMMITTED, False, Claim.RETRY): _WRONG,
    (_ABORTED, True, Claim.CURRENT): _WRONG,
    (_ABORTED, False, Claim.CURRENT): Step.END,
    (_ABORTED, True, Claim.RETRY): _WRONG,
    (_ABORTED, False, Claim.RETRY): Step.REPEAT,
    (_EMPTY, True, Claim.SHUT_OUT): _ABORTABLE,
    (_EMPTY, False, Claim.SHUT_OUT): Step.REPEAT,
    (_ONGOING, True, Claim.SHUT_OUT): _FENCED,  # cannot be: what begins anew forgets it
    (_ONGOING, False, Claim.SHUT_OUT): _FENCED,
    (_COMMITTED, True, Claim.SHUT_OUT): _ABORTABLE,
    (_COMMITTED, False, Claim.SHUT_OUT): Step.REPEAT,
    (_ABORTED, True, Claim.SHUT_OUT): _ABORTABLE,
    (_ABORTED, False, Claim.SHUT_OUT): Step.REPEAT,
}


def for_old_clients(error: ErrorCode, version: int, fenced_since: int) -> ErrorCode:
    """The error as a client of this request version knows it.

    PRODUCER_FENCED came with KIP-588: clients before `fenced_since` know INVALID_PRODUCER_EPOCH.
    """
    if error is ErrorCode.PRODUCER_FENCED and version < fenced_since:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    return error
