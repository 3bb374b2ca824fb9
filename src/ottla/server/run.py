"""One broker from its options to its end: directory, address, recovery, loop, shutdown.

The directory is locked and the address bound before anything is read or changed, so that a second
broker is told so at once. Clients are refused until recovery is done. `explain` turns what ended a
broker into a text for a person and an exit code; both front doors (`ottla broker start` and
`python -m ottla.server`) use it.
"""

import asyncio
import contextlib
import functools
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ottla.broker.broker import Broker
from ottla.broker.config import BrokerConfig, Durability
from ottla.coordinator.consumer_groups import ConsumerGroupConfig
from ottla.log.recovery import Recovered
from ottla.ports.clock import RealClock
from ottla.ports.disk import RealDisk
from ottla.ports.errors import DataDamaged, DirectoryInUse, InvariantBroken, StorageFailed
from ottla.ports.failpoints import arm_from_environment
from ottla.ports.printable import printable
from ottla.ports.rng import RealRng
from ottla.server.address import AddressUnusable, NotUsable, bind, split_listener
from ottla.server.listener import Listener
from ottla.server.security import Guard, Security, advertised_address, shown
from ottla.server.server import Server

if TYPE_CHECKING:
    from ottla.server.metrics import Metrics

logger = logging.getLogger(__name__)


_FILES_CHECK_S = 10.0  # between two looks at certificates and keys of tokens
_BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"  # Linux


class OneLine(logging.Formatter):
    """A line for a message: what clients say is in it, and must not look like more lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own
        record.message = printable(record.message)
        return super().formatMessage(record)


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a broker is started with.

    `listen` are addresses, each with its security protocol ("sasl_ssl://0.0.0.0:9093"; plaintext
    without one); port 0 is any free port. `advertise` are those that clients are told to connect
    to, where they are others. `stop_with_stdin`: stop when standard input is closed, which
    a parent process does by ending, however it ends. `authorizer`, `super_users` ("User:admin")
    and `allow_everyone_if_no_acl_found` are Kafka's settings for ACLs; `consumer_groups` are those
    named group.consumer.*. `retention_check_interval_ms` and `cleaner_backoff_ms`: how often
    retention and compaction look for something to do. `metrics` is the HOST:PORT to serve them at.
    """

    data_dir: str
    listen: tuple[str, ...] = ("127.0.0.1:9092",)
    advertise: tuple[str, ...] = ()
    security: Security = Security()
    durability: Durability = "fsync"
    num_partitions: int = 1
    auto_create_topics: bool = True
    two_phase_commit: bool = False
    metrics: str | None = None
    verbose: bool = False
    stop_with_stdin: bool = False
    authorizer: bool = False
    super_users: tuple[str, ...] = ()
    allow_everyone_if_no_acl_found: bool = False
    consumer_groups: ConsumerGroupConfig = ConsumerGroupConfig()
    retention_check_interval_ms: int = 300_000
    cleaner_backoff_ms: int = 15_000


class Started(msgspec.Struct, frozen=True):
    """What there is to say about a broker that is ready; `listeners` as a person writes them."""

    host: str
    port: int
    listeners: tuple[str, ...]
    metrics: str | None
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
    to_stderr = logging.StreamHandler()
    to_stderr.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING, handlers=[to_stderr]
    )
    arm_from_environment()
    clock = RealClock()
    begun_ms = clock.monotonic_ms()
    guard = Guard(options.security, [split_listener(text)[0] for text in options.listen])
    disk = RealDisk(options.data_dir)
    with contextlib.ExitStack() as held:
        held.enter_context(contextlib.closing(disk))
        listeners = _bind(options, guard, held)
        metrics = _metrics(options.metrics, held)
        with _collector_at_rest():
            core = Broker(
                disk, clock, RealRng(), broker_config(options, listeners[0]), guard.verifier
            )
        _add_users(core, options.security, listeners)

        def ready() -> None:
            gc.freeze()  # what was made so far stays: the collector need not look at it again
            took_ms = clock.monotonic_ms() - begun_ms
            url = None if metrics is None else metrics.url
            report(started(options, listeners, url, core.recovered, took_ms))

        _raise_open_files_limit()
        server_of = functools.partial(Server, core, clock, guard.limits, metrics)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(server_of, guard, listeners, ready, options.stop_with_stdin))
        core.close()


def _bind(options: Options, guard: Guard, held: contextlib.ExitStack) -> list[Listener]:
    """The listeners, which `held` closes. Raises NotUsable."""
    listens = [split_listener(text) for text in options.listen]
    alone = len(listens) == 1
    protocols = {protocol for protocol, _, _ in listens}
    for text in options.advertise:
        if split_listener(text)[0] not in protocols and not (alone and "://" not in text):
            raise AddressUnusable(
                f"there is no listener that {text} could be advertised for",
                "name a protocol that is listened for: PROTOCOL://HOST:PORT",
            )
    found = []
    for protocol, host, port in listens:
        bound = held.enter_context(contextlib.closing(bind(host, port)))
        port = bound.getsockname()[1]
        told = advertised_address(protocol, host, port, options.advertise, alone=alone)
        found.append(guard.listener(protocol, bound, told))
    return found


def _metrics(address: str | None, held: contextlib.ExitStack) -> "Metrics | None":
    """What serves the metrics, which `held` closes. Raises NotUsable."""
    if address is None:
        return None
    try:
        from ottla.server.metrics import Metrics
    except ImportError as error:
        raise NotUsable(
            f"metrics need prometheus-client: {error}", "pip install 'ottla[metrics]'"
        ) from error
    return held.enter_context(contextlib.closing(Metrics(address)))


def _add_users(core: Broker, security: Security, listeners: Sequence[Listener]) -> None:
    """Give users the passwords that they were started with; later changes need no restart."""
    for user, password in security.users.items():
        core.commit(core.credentials.set_password(user, password, core.rng))
    passwords_only = any(each.mechanisms for each in listeners) and security.oauth is None
    if passwords_only and not core.credentials.users():
        logger.warning("nobody can authenticate, for there are no users: add one (--add-user)")


def broker_config(options: Options, listener: Listener) -> BrokerConfig:
    """The core's settings."""
    host, port = listener.advertised or ("", 0)
    return BrokerConfig(
        host=host,
        port=port,
        durability=options.durability,
        boot_id=_boot_id(),
        connections_max_reauth_ms=options.security.max_reauth_ms,
        num_partitions=options.num_partitions,
        auto_create_topics=options.auto_create_topics,
        two_phase_commit=options.two_phase_commit,
        authorizer=options.authorizer,
        super_users=options.super_users,
        allow_everyone_if_no_acl_found=options.allow_everyone_if_no_acl_found,
        consumer_groups=options.consumer_groups,
        retention_check_interval_ms=options.retention_check_interval_ms,
        cleaner_backoff_ms=options.cleaner_backoff_ms,
    )


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """A recovery makes objects that stay, and no cycles: looking for them took half its time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _boot_id() -> str:
    """What the system calls this start of the machine; "" where it does not say."""
    try:
        with open(_BOOT_ID_PATH, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def started(
    options: Options,
    listeners: Sequence[Listener],
    metrics: str | None,
    recovered: Recovered,
    took_ms: int,
) -> Started:
    """The report of a broker that is ready."""
    _, first_host, _ = split_listener(options.listen[0])
    return Started(
        first_host,
        listeners[0].port,
        tuple(
            shown(each.protocol, split_listener(text)[1], each.port)
            for each, text in zip(listeners, options.listen, strict=True)
        ),
        metrics,
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
    server_of: Callable[[], Server],
    guard: Guard,
    listeners: Sequence[Listener],
    ready: Callable[[], None],
    stop_with_stdin: bool,
) -> None:
    loop = asyncio.get_running_loop()
    server = server_of()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    if guard.reads_files:
        loop.add_signal_handler(signal.SIGHUP, guard.reload)

        def look_at_files() -> None:
            guard.reload_if_changed()
            loop.call_later(_FILES_CHECK_S, look_at_files)

        look_at_files()
    if stop_with_stdin:

        def read_stdin() -> None:
            if not os.read(sys.stdin.fileno(), 1_024):
                loop.remove_reader(sys.stdin.fileno())
                server.stop()

        loop.add_reader(sys.stdin.fileno(), read_stdin)
    await server.serve(listeners, ready)


def explain(error: BaseException) -> Explanation:
    """What ended a broker, for a person. An error that is not expected is raised again."""
    if isinstance(error, NotUsable):
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
