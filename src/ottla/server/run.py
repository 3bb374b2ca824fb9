"""One broker from its options to its end: directory, address, recovery, loop, shutdown.

The directory is locked and the address bound before anything is read or changed, so that a second
broker is told so at once. Clients are refused until recovery is done. `explain` turns what ended a
broker into a text for a person and an exit code; both front doors (`ottla broker start` and
`python -m ottla.server`) use it.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ottla.broker.broker import Broker
from ottla.broker.config import BrokerConfig, Durability
from ottla.log.recovery import Recovered
from ottla.ports.clock import RealClock
from ottla.ports.disk import RealDisk
from ottla.ports.errors import DataDamaged, DirectoryInUse, InvariantBroken, StorageFailed
from ottla.ports.failpoints import arm_from_environment
from ottla.ports.rng import RealRng
from ottla.server.address import WILDCARDS, AddressUnusable, bind, split_address
from ottla.server.server import Server


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a broker is started with.

    `port` 0 is any free port. `advertise` is the HOST:PORT that clients are told to connect to,
    when it is not the address itself. `stop_with_stdin`: stop when standard input is closed, which
    a parent process does by ending, however it ends. `authorizer`, `super_users` ("User:admin")
    and `allow_everyone_if_no_acl_found` are Kafka's settings for ACLs.
    """

    data_dir: str
    host: str = "127.0.0.1"
    port: int = 9092
    advertise: str | None = None
    durability: Durability = "fsync"
    num_partitions: int = 1
    auto_create_topics: bool = True
    verbose: bool = False
    stop_with_stdin: bool = False
    authorizer: bool = False
    super_users: tuple[str, ...] = ()
    allow_everyone_if_no_acl_found: bool = False


class Started(msgspec.Struct, frozen=True):
    """What there is to say about a broker that is ready."""

    host: str
    port: int
    data_dir: str
    durability: str
    partitions: int
    replayed_frames: int
    torn_bytes: int
    took_ms: int


class Explanation(NamedTuple):
    """What happened, why, what to do next; and the exit code."""

    what: str
    why: str
    next: str
    exit_code: int

    def __str__(self) -> str:
        return f"ottla: {self.what}\n  why:  {self.why}\n  next: {self.next}"


def run(options: Options, report: Callable[[Started], None]) -> None:
    """Run a broker until SIGTERM or SIGINT; `report` is called once it is ready.

    Raises what `explain` explains.
    """
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    arm_from_environment()
    clock = RealClock()
    begun_ms = clock.monotonic_ms()
    disk = RealDisk(options.data_dir)
    with contextlib.closing(disk), contextlib.closing(bind(options.host, options.port)) as listener:
        port = listener.getsockname()[1]
        core = Broker(disk, clock, RealRng(), broker_config(options, port))

        def ready() -> None:
            gc.freeze()  # what was made so far stays: the collector need not look at it again
            report(started(options, port, core.recovered, clock.monotonic_ms() - begun_ms))

        _raise_open_files_limit()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(core, clock, listener, ready, options.stop_with_stdin))
        core.close()


def broker_config(options: Options, port: int) -> BrokerConfig:
    """The core's settings. Raises AddressUnusable when clients could not find the broker."""
    host = options.host
    if options.advertise is not None:
        host, port = split_address(options.advertise)
    elif host in WILDCARDS:
        raise AddressUnusable(
            f"{host or '*'} is an address to listen on, and not one that clients can connect to",
            "advertise the HOST:PORT that they should use (--advertise)",
        )
    return BrokerConfig(
        host=host,
        port=port,
        durability=options.durability,
        num_partitions=options.num_partitions,
        auto_create_topics=options.auto_create_topics,
        authorizer=options.authorizer,
        super_users=options.super_users,
        allow_everyone_if_no_acl_found=options.allow_everyone_if_no_acl_found,
    )


def started(options: Options, port: int, recovered: Recovered, took_ms: int) -> Started:
    """The report of a broker that is ready."""
    return Started(
        options.host,
        port,
        os.path.abspath(options.data_dir),
        options.durability,
        recovered.partitions,
        recovered.frames,
        recovered.torn_bytes,
        took_ms,
    )


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed, else asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _raise_open_files_limit() -> None:
    """A connection is an open file, and so are segments: take what the system lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(
    core: Broker,
    clock: RealClock,
    listener: socket.socket,
    ready: Callable[[], None],
    stop_with_stdin: bool,
) -> None:
    loop = asyncio.get_running_loop()
    server = Server(core, clock)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    if stop_with_stdin:

        def read_stdin() -> None:
            if not os.read(sys.stdin.fileno(), 1_024):
                loop.remove_reader(sys.stdin.fileno())
                server.stop()

        loop.add_reader(sys.stdin.fileno(), read_stdin)
    await server.serve(listener, ready)


def explain(error: BaseException) -> Explanation:
    """What ended a broker, for a person. An error that is not expected is raised again."""
    if isinstance(error, AddressUnusable):
        return Explanation("the broker did not start", str(error), error.hint, 3)
    if isinstance(error, DirectoryInUse):
        return Explanation(
            "the broker did not start",
            str(error),
            "stop that one first, or choose another data directory",
            4,
        )
    if isinstance(error, StorageFailed):
        return Explanation(
            "the broker cannot use its data directory, and has stopped",
            str(error),
            "free space or repair the disk, then start again on the same directory: "
            "nothing that was acknowledged is lost",
            4,
        )
    if isinstance(error, DataDamaged):
        return Explanation(
            "the broker did not start, for its data is damaged; it has changed nothing",
            str(error),
            "restore the directory from a copy, or begin with an empty one",
            5,
        )
    if isinstance(error, InvariantBroken):
        return Explanation(
            "the broker stopped, for it found a mistake of its own",
            str(error),
            "start again on the same directory: nothing that was acknowledged is lost; "
            "please report the text above",
            1,
        )
    raise error
