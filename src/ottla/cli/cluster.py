"""What the commands on a cluster have in common: how it is reached, and errors in three lines.

A command that takes `access: Access` and is decorated with `on_a_cluster` gets the options for it,
the same everywhere. What goes wrong is told as what happened, why, and what to do next.
"""

import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ottla.client.access import Access, access_to, read_settings
from ottla.client.errors import ClientError, Fatal, ProducerFenced, Refused, TimedOut
from ottla.client.types import Partition
from ottla.ports.errors import ErrorCode
from ottla.ports.printable import printable_lines

EXIT_COMMAND = 2
EXIT_REFUSED = 3
EXIT_CLUSTER = 4
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141  # as a shell tells of a program that SIGPIPE ended

EXIT_CODES = """
    \b
    Exit codes:
      0    done
      2    the command was not understood
      3    refused: what was asked for is not there, or not allowed, or was not wanted
      4    the cluster cannot be used
      130  interrupted before the end
"""

_OPTIONS = {
    "bootstrap_servers": (
        Annotated[
            str,
            typer.Option(
                "--bootstrap-servers",
                "-b",
                metavar="HOST:PORT,...",
                envvar="OTTLA_BOOTSTRAP_SERVERS",
                help="The cluster, Ottla or Apache Kafka; or a URL: "
                "sasl_ssl://NAME:PASSWORD@HOST:PORT.",
            ),
        ],
        "127.0.0.1:9092",
    ),
    "client_config": (
        Annotated[
            Path | None,
            typer.Option(
                "--client-config",
                metavar="FILE",
                envvar="OTTLA_CLIENT_CONFIG",
                help="Lines of name=value with librdkafka's names: security.protocol, "
                "sasl.mechanism, sasl.username, sasl.password, ssl.ca.location, ...",
            ),
        ],
        None,
    ),
    "settings": (
        Annotated[
            list[str] | None,
            typer.Option(
                "-X",
                metavar="NAME=VALUE",
                help="One such setting. Others on this machine can see it: passwords belong in "
                "the file.",
            ),
        ],
        None,
    ),
}

_NEXT = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: "`ottla topics list` shows the topics that are there",
    ErrorCode.TOPIC_ALREADY_EXISTS: "choose another name, or `ottla topics describe` this one",
    ErrorCode.INVALID_TOPIC_EXCEPTION: "use letters, digits, dot, dash and underscore, at most 249",
    ErrorCode.INVALID_PARTITIONS: "a topic can only grow; `ottla topics describe` shows its size",
    ErrorCode.INVALID_REPLICATION_FACTOR: "leave --replicas away, or have at most one per broker",
    ErrorCode.GROUP_ID_NOT_FOUND: "`ottla groups list` shows the groups that are there",
    ErrorCode.NON_EMPTY_GROUP: "stop its consumers first; `ottla groups members` shows them",
    ErrorCode.UNKNOWN_MEMBER_ID: "stop its consumers first; `ottla groups members` shows them",
    ErrorCode.TRANSACTIONAL_ID_NOT_FOUND: "`ottla transactions list` shows those that are there",
    ErrorCode.OFFSET_OUT_OF_RANGE: "`ottla topics describe` shows where partitions begin and end",
    ErrorCode.INVALID_CONFIG: "`ottla configs describe` shows the names and values that there are",
    ErrorCode.RESOURCE_NOT_FOUND: "`ottla users list` shows the credentials that are there",
    ErrorCode.SECURITY_DISABLED: "switch the broker's authorizer on first",
    ErrorCode.INVALID_RECORD: "a compacted topic needs a key: --key, or --key-delimiter",
    ErrorCode.MESSAGE_TOO_LARGE: "send smaller records, or raise the topic's max.message.bytes",
    ErrorCode.UNSUPPORTED_VERSION: "use a broker that knows this request",
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: "ask for an ACL on the topic, or come as another user",
    ErrorCode.GROUP_AUTHORIZATION_FAILED: "ask for an ACL on the group, or come as another user",
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: "ask for an ACL on the cluster, or come as another "
    "user",
    ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "ask for an ACL on the transactional id",
    ErrorCode.CONCURRENT_TRANSACTIONS: "its markers are being written: try again in a moment",
}


_SILENT = logging.getLogger("ottla.librdkafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class Mistake(typer.BadParameter):
    """The command was not understood."""


def on_a_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes `access` the options for it, and errors as exit codes."""

    @functools.wraps(command)
    def run(*_: Any, **given: Any) -> None:
        with errors_in_three_lines():
            access = access_of(*(given.pop(name) for name in _OPTIONS))
            command(access=access, **given)

    signature = inspect.signature(command)
    own = [each for each in signature.parameters.values() if each.name != "access"]
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )
        for name, (annotation, default) in _OPTIONS.items()
    ]
    keyword_only = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    run.__signature__ = signature.replace(parameters=[*keyword_only, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in [*own, *added]}
    run.__doc__ = inspect.cleandoc(command.__doc__ or "") + "\n" + inspect.cleandoc(EXIT_CODES)
    return run


def access_of(
    bootstrap_servers: str, client_config: Path | None, settings: list[str] | None
) -> Access:
    """How the cluster is reached, by the options. Raises Mistake."""
    try:
        found = read_settings(client_config) if client_config is not None else {}
        found |= pairs(settings or [], "-X")
        access = access_to(bootstrap_servers, found)
        access.addresses()
    except Fatal as error:
        raise Mistake(str(error)) from error
    return access


def settings_of(access: Access) -> dict[str, Any]:
    """What a producer or consumer is given: librdkafka is silent, for errors are told by us."""
    return {**access.librdkafka(), "logger": _SILENT}


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """The NAME=VALUE of an option. Raises Mistake."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Mistake(f"{text!r} is not of the form NAME=VALUE", param_hint=option)
        found[name] = value
    return found


def topic_and_partition(text: str) -> Partition:
    """TOPIC:PARTITION. Raises Mistake."""
    topic, colon, number = text.rpartition(":")
    if not colon or not topic or not number.isdecimal():
        raise Mistake(f"{text!r} is not of the form TOPIC:PARTITION")
    return Partition(topic, int(number))


@contextmanager
def errors_in_three_lines() -> Iterator[None]:
    """Print what went wrong, and end with the exit code for it."""
    try:
        yield
    except Refused as error:
        tell(f"cannot {error.doing}", error.reason, _next_step(error.code))
        raise typer.Exit(EXIT_REFUSED) from error
    except TimedOut as error:
        tell(
            "the cluster does not answer",
            str(error),
            "is the broker running, and is --bootstrap-servers where it listens? "
            "`ottla broker start --data DIR` starts one on 127.0.0.1:9092",
        )
        raise typer.Exit(EXIT_CLUSTER) from error
    except Fatal as error:
        # What the client says for programs, after the reason, is no use on a command line.
        reason = str(error).partition(". Close it")[0]
        broker_said = error.code > 0 or isinstance(error, ProducerFenced)
        what = "the cluster refused it" if broker_said else "the cluster cannot be used"
        next_step = _next_step(error.code)
        if isinstance(error, ProducerFenced):
            next_step = (
                "nothing of the transaction was written: run it again, alone under its "
                "--transactional-id, or with a longer --transaction-timeout-ms"
            )
        tell(what, reason, next_step or "correct the cause and run it again")
        raise typer.Exit(EXIT_REFUSED if broker_said else EXIT_CLUSTER) from error
    except ClientError as error:
        tell("the work could not be finished", str(error), "run the command again")
        raise typer.Exit(EXIT_CLUSTER) from error
    except BrokenPipeError:
        leave_the_pipe()


def _next_step(code: int) -> str:
    return _NEXT.get(ErrorCode(code), "") if code in set(ErrorCode) else ""


def tell(what: str, why: str, next_step: str = "") -> None:
    """An error for a person: what happened, why, what to do next."""
    typer.echo(f"ottla: {printable_lines(what)}\n  why:  {printable_lines(why)}", err=True)
    if next_step:
        typer.echo(f"  next: {next_step}", err=True)


def leave_the_pipe() -> None:
    """Whoever read what we print has gone: end as a program does that a signal ends."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())  # what Python still has to flush goes nowhere
    raise typer.Exit(EXIT_PIPE)
