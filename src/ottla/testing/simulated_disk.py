"""A disk in memory that can lose its power, fill up and fail, for crash tests.

The fault model is that of the port, `ottla.ports.disk`, and no kinder:

- What `sync` made durable never changes. Everything later is unsynced, and after a power cut each
  512-byte sector of the file holds what it held at *some* moment since the last sync: sectors reach
  the disk in any order, but no sector mixes two moments. The length of the file is such a value of
  its own; what lies below it and never arrived reads as zeros.
- A name that was made, renamed or removed is durable once `sync_directory` of its directory has
  returned; `sync` of the file does not do it. Unsynced changes of one directory survive in their
  order up to some point; two directories know nothing of each other. A rename is atomic.
- A full disk takes the first half of a write. A failed `sync` loses the pages that it should have
  written, and the next `sync` knows nothing of them (as Linux does), so trying again loses data.

Not modelled: bits that change by themselves, and a device that says "synced" and lies.

Every change is a step with a moment before and a moment after it, numbered from 1. The hook is
called at each and may raise PowerCut; from then on every call does. `after_power_cut` gives the
disk as it comes back, and may be asked again and again for other ways in which it might. So an
exhaustive crash test runs a workload once to count `moments`, then once per moment:

    disk = SimulatedDisk(power_cut_at(moment))
    with contextlib.suppress(PowerCut):
        workload(disk)
    for policy in POLICIES:
        check(disk.after_power_cut(policy, random.Random(seed)))
"""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ottla.ports.disk import Buffer
from ottla.ports.errors import StorageFailed
from ottla.testing.unsynced import Fate, Inode, Truncate, Write

Kind = Literal[
    "write", "truncate", "sync", "create", "make_directory", "rename", "remove", "sync_directory"
]


class Operation(NamedTuple):
    """A change that was asked for. `position` and `length` are zero where they mean nothing."""

    kind: Kind
    path: str
    position: int = 0
    length: int = 0


Hook = Callable[[int, Operation], None]


class PowerCut(BaseException):
    """The machine stops here. A BaseException: no handler of the code under test may catch it."""


def power_cut_at(moment: int) -> Hook:
    """Cuts the power at the n-th moment: 2k - 1 is before the k-th operation, 2k after it."""

    def hook(now: int, operation: Operation) -> None:
        if now == moment:
            raise PowerCut(f"at moment {now}, {operation}")

    return hook


@dataclass(frozen=True, slots=True)
class PowerCutPolicy:
    """The fate of unsynced content, and that of unsynced names."""

    writes: Fate
    names: Fate


POLICIES = tuple(PowerCutPolicy(*fates) for fates in itertools.product(Fate, Fate))


@dataclass(eq=False, slots=True)
class _Directory:
    """Names as programs see them, and as the disk has them."""

    names: dict[str, "Inode | _Directory"] = field(default_factory=dict)
    durable: dict[str, "Inode | _Directory"] = field(default_factory=dict)


class _NameChange(NamedTuple):
    """An atomic change of names in one directory, or in two by a rename."""

    entries: list[tuple[_Directory, str, "Inode | _Directory | None"]]

    @property
    def directories(self) -> set[_Directory]:
        return {directory for directory, _, _ in self.entries}


def _set_name(names: dict[str, Inode | _Directory], name: str, node: object) -> None:
    if isinstance(node, Inode | _Directory):
        names[name] = node
    else:
        names.pop(name, None)


@dataclass(slots=True)
class _Failure:
    kind: Kind
    after: int
    times: int


class SimulatedFile:
    """An open file of a SimulatedDisk."""

    def __init__(self, disk: "SimulatedDisk", path: str, inode: Inode) -> None:
        self._disk = disk
        self._path = path
        self._inode: Inode | None = inode

    def _open(self) -> Inode:
        self._disk.check_power()
        if self._inode is None:
            raise ValueError(f"{self._path} was closed")
        return self._inode

    def write(self, position: int, buffers: Sequence[Buffer]) -> int:
        inode = self._open()
        content = b"".join(buffers)
        self._disk.step(
            Operation("write", self._path, position, len(content)),
            lambda: inode.change(Write(position, content)),
            lambda: inode.change(Write(position, content[: len(content) // 2])),
        )
        return len(content)

    def read(self, position: int, length: int) -> bytes:
        return bytes(self._open().content[position : position + length])

    def size(self) -> int:
        return len(self._open().content)

    def truncate(self, length: int) -> None:
        inode = self._open()
        self._disk.step(
            Operation("truncate", self._path, length=length),
            lambda: inode.change(Truncate(length)),
        )

    def allocate(self, length: int) -> None:
        if length > self.size():
            self.truncate(length)

    def sync(self) -> None:
        inode = self._open()
        self._disk.step(Operation("sync", self._path), inode.sync, inode.lose)

    def close(self) -> None:
        self._inode = None


class SimulatedDisk:
    """A data directory in memory.

    `hook` is called with the number of the moment and the operation, before and after each change.
    `operations` is the log of all changes asked for; `moments` counts the calls of the hook.
    `free` is what `free_bytes` tells; it does not fall by itself.
    """

    def __init__(self, hook: Hook | None = None) -> None:
        self.hook = hook
        self.moments = 0
        self.free = 1 << 40
        self.operations: list[Operation] = []
        self._root = _Directory()
        self._unsynced: list[_NameChange] = []
        self._failures: list[_Failure] = []
        self._powered = True

    # -- faults -------------------------------------------------------------------------------

    def fail(self, kind: Kind, nth: int = 1, times: int = 1) -> None:
        """Let the n-th operation of this kind from now on fail, and those after it, `times` in all.

        A write finds the disk full, anything else an input/output error: StorageFailed.
        """
        self._failures.append(_Failure(kind, nth - 1, times))

    def check_power(self) -> None:
        if not self._powered:
            raise PowerCut("the power is off")

    def step(
        self,
        operation: Operation,
        change: Callable[[], object],
        broken: Callable[[], object] = lambda: None,
    ) -> None:
        """One change, with its two moments; `broken` is what it does when it is made to fail."""
        self.check_power()
        self.operations.append(operation)
        self._moment(operation)
        if self._fails(operation.kind):
            broken()
            where = self.describe(operation.path)
            raise StorageFailed(
                f"no space left for {where}: the disk is full"
                if operation.kind == "write"
                else f"cannot {operation.kind} {where}: Input/output error"
            )
        change()
        self._moment(operation)

    def _moment(self, operation: Operation) -> None:
        self.moments += 1
        if self.hook is not None:
            try:
                self.hook(self.moments, operation)
            except PowerCut:
                self._powered = False
                raise

    def _fails(self, kind: Kind) -> bool:
        for failure in self._failures:
            if failure.kind == kind and failure.times:
                if failure.after:
                    failure.after -= 1
                else:
                    failure.times -= 1
                    return True
        return False

    def after_power_cut(self, policy: PowerCutPolicy, rng: random.Random) -> "SimulatedDisk":
        """The disk as it is when the power comes back: one of many ways, drawn from `rng`.

        It is a disk of its own, all of it durable, without hook and failures.
        """
        names: dict[_Directory, dict[str, Inode | _Directory]] = {}
        for change in self._surviving_changes(policy.names, rng):
            for directory, name, node in change.entries:
                _set_name(names.setdefault(directory, dict(directory.durable)), name, node)
        survivor = SimulatedDisk()

        def copy(directory: _Directory) -> _Directory:
            found = names.get(directory, directory.durable)
            copied: dict[str, Inode | _Directory] = {}
            for name, node in sorted(found.items()):
                if isinstance(node, _Directory):
                    copied[name] = copy(node)
                else:
                    copied[name] = Inode.stored(node.surviving(policy.writes, rng))
            return _Directory(copied, dict(copied))

        survivor._root = copy(self._root)
        return survivor

    def _surviving_changes(self, fate: Fate, rng: random.Random) -> list[_NameChange]:
        if fate is Fate.TORN:
            return self._unsynced[: rng.randint(0, len(self._unsynced))]
        if fate is not Fate.SCATTERED:
            return self._unsynced if fate is Fate.KEPT else []
        survivors: list[_NameChange] = []
        stopped: set[_Directory] = set()
        for change in self._unsynced:
            if change.directories & stopped or rng.random() < 0.3:
                stopped |= change.directories
            else:
                survivors.append(change)
        return survivors

    # -- the port -----------------------------------------------------------------------------

    def open(self, path: str) -> SimulatedFile:
        directory, name = self._parent(path, "open")
        node = directory.names.get(name)
        if isinstance(node, _Directory):
            raise StorageFailed(f"cannot open {self.describe(path)}: Is a directory")
        if node is None:
            node = Inode()
            self._change_names(Operation("create", path), [(directory, name, node)])
        return SimulatedFile(self, path, node)

    def exists(self, path: str) -> bool:
        return self._find(path) is not None

    def list(self, path: str) -> list[str]:
        node = self._find(path)
        return sorted(node.names) if isinstance(node, _Directory) else []

    def make_directory(self, path: str) -> None:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            part = "/".join(parts[:depth])
            directory, name = self._parent(part, "make")
            node = directory.names.get(name)
            if isinstance(node, Inode):
                raise StorageFailed(f"cannot make {self.describe(part)}: File exists")
            if node is None:
                operation = Operation("make_directory", part)
                self._change_names(operation, [(directory, name, _Directory())])

    def sync_directory(self, path: str) -> None:
        directory = self._find(path)
        if not isinstance(directory, _Directory):
            raise StorageFailed(f"cannot sync {self.describe(path)}: No such directory")
        self.step(Operation("sync_directory", path), lambda: self._sync_names(directory))

    def rename(self, source: str, target: str) -> None:
        source_directory, source_name = self._parent(source, "rename")
        target_directory, target_name = self._parent(target, "rename")
        node = source_directory.names.get(source_name)
        if node is None:
            raise StorageFailed(f"cannot rename {self.describe(source)}: No such file or directory")
        if isinstance(target_directory.names.get(target_name), _Directory):
            raise StorageFailed(f"cannot rename {self.describe(source)}: the target is a directory")
        self._change_names(
            Operation("rename", f"{source} -> {target}"),
            [(source_directory, source_name, None), (target_directory, target_name, node)],
        )

    def remove(self, path: str) -> None:
        node = self._find(path)
        if node is None:
            raise StorageFailed(f"cannot remove {self.describe(path)}: No such file or directory")
        if isinstance(node, _Directory):
            for name in sorted(node.names):
                self.remove(f"{path}/{name}")
        directory, name = self._parent(path, "remove")
        self._change_names(Operation("remove", path), [(directory, name, None)])

    def free_bytes(self) -> int:
        return self.free

    def total_bytes(self) -> int:
        return self.free

    def describe(self, path: str) -> str:
        return f"simulated disk:{path}"

    def _find(self, path: str) -> Inode | _Directory | None:
        self.check_power()
        node: Inode | _Directory | None = self._root
        for part in filter(None, path.split("/")):
            node = node.names.get(part) if isinstance(node, _Directory) else None
        return node

    def _parent(self, path: str, verb: str) -> tuple[_Directory, str]:
        parent, _, name = path.rpartition("/")
        directory = self._find(parent)
        if not isinstance(directory, _Directory) or not name:
            raise StorageFailed(f"cannot {verb} {self.describe(path)}: No such file or directory")
        return directory, name

    def _change_names(
        self,
        operation: Operation,
        entries: "Sequence[tuple[_Directory, str, Inode | _Directory | None]]",
    ) -> None:
        def change() -> None:
            for directory, name, node in entries:
                _set_name(directory.names, name, node)
            self._unsynced.append(_NameChange([*entries]))

        self.step(operation, change)

    def _sync_names(self, directory: _Directory) -> None:
        """Make its changes durable, and with a rename those of the other directory before it."""
        wanted = {directory}
        synced: list[_NameChange] = []
        others: list[_NameChange] = []
        for change in reversed(self._unsynced):
            if change.directories & wanted:
                wanted |= change.directories
                synced.append(change)
            else:
                others.append(change)
        self._unsynced = others[::-1]
        for change in reversed(synced):
            for parent, name, node in change.entries:
                _set_name(parent.durable, name, node)
