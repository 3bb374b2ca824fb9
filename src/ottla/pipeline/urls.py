"""The two ends of a pipeline as URLs.

    file:flights*.csv?format=csv          sqlite:flights.db?table=delays
    file:/data/in/*.jsonl.gz              postgresql://dw@warehouse/shop?table=analytics.orders
    kafka:orders                          kafka:orders-clean

A relative path is relative to the file that describes the pipeline, not to where a person stands.
Settings of ours are taken out of the query; what is left of a PostgreSQL URL is handed to libpq.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ottla.pipeline.nodes import Node, nearest

SOURCE_SCHEMES = ("file", "kafka")
SINK_SCHEMES = ("sqlite", "postgresql", "kafka")
_FILE_SETTINGS = ("format", "types", "bytes_per_transaction")
_SINK_SETTINGS = ("table",)
_FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
# Also what is no good URL because its password was not escaped: up to the last @.
_PASSWORD = re.compile(r"(://[^/@:\s]*):\S*@|(password=)[^&\s]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FileSource:
    """Files to read, in the order of their names."""

    glob: str
    format: str  # csv, tsv or jsonl
    infer_types: bool  # otherwise every column of a CSV file is text
    bytes_per_transaction: int
    shown: str


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    """A topic of the same broker, as source or as destination."""

    topic: str
    shown: str


@dataclass(frozen=True, slots=True)
class DatabaseSink:
    """A table of a database."""

    scheme: str  # sqlite or postgresql
    address: str = field(repr=False)  # a path, or a URL for libpq; may hold a password
    table: str
    shown: str


Source = FileSource | KafkaTopic
Sink = DatabaseSink | KafkaTopic


def redacted(text: str) -> str:
    """The text without passwords."""
    return _PASSWORD.sub(lambda match: f"{match[1]}:***@" if match[1] else f"{match[2]}***", text)


def parse_source(node: Node, base: Path) -> Source:
    """The source a URL names. Raises ConfigError at the place of `node`."""
    text = node.text()
    scheme, rest = _split_scheme(text, node, SOURCE_SCHEMES)
    shown = redacted(node.raw_text())
    path, settings = _split_query(rest, node)
    if scheme == "kafka":
        _refuse_unknown(settings, (), node)
        return KafkaTopic(_topic(path, node), shown)
    _refuse_unknown(settings, _FILE_SETTINGS, node)
    glob = _local_path(path, base, node)
    kind = settings.get("format") or _format_of(path)
    if kind is None:
        node.fail(f"say which format {path!r} has: ?format=csv, ?format=tsv or ?format=jsonl")
    if kind not in _FORMATS.values():
        node.fail(f"there is no format {kind!r}; {nearest(kind, _FORMATS.values())}")
    types = settings.get("types", "infer")
    if types not in ("infer", "text"):
        node.fail(f"types={types}: {nearest(types, ('infer', 'text'))}")
    size = settings.get("bytes_per_transaction", "1048576")
    if not size.isdigit() or int(size) == 0:
        node.fail(f"bytes_per_transaction={size}: a whole number of at least 1 is needed")
    return FileSource(glob, kind, types == "infer", int(size), shown)


def parse_sink(node: Node, base: Path, default_table: str) -> Sink:
    """The destination a URL names. Raises ConfigError at the place of `node`."""
    text = node.text()
    scheme, rest = _split_scheme(text, node, SINK_SCHEMES)
    shown = redacted(node.raw_text())
    if scheme == "postgresql":
        parts = urlsplit(f"postgresql:{rest}")
        settings = dict(parse_qsl(parts.query, keep_blank_values=True))
        table = settings.pop("table", default_table)
        address = urlunsplit(parts._replace(query=urlencode(settings)))
        return DatabaseSink("postgresql", address, _table(table, node), shown)
    path, settings = _split_query(rest, node)
    if scheme == "kafka":
        _refuse_unknown(settings, (), node)
        return KafkaTopic(_topic(path, node), shown)
    _refuse_unknown(settings, _SINK_SETTINGS, node)
    table = _table(settings.get("table", default_table), node)
    return DatabaseSink("sqlite", _local_path(path, base, node), table, shown)


def _split_scheme(text: str, node: Node, known: tuple[str, ...]) -> tuple[str, str]:
    scheme, colon, rest = text.partition(":")
    if scheme == "postgres":
        scheme = "postgresql"
    if not colon or not rest:
        node.fail(f"{redacted(text)!r} is not a URL such as {known[0]}:…; {nearest('', known)}")
    if scheme not in known:
        node.fail(f"{scheme}: is not supported here; {nearest(scheme, known)}")
    return scheme, rest


def _split_query(rest: str, node: Node) -> tuple[str, dict[str, str]]:
    # A question mark is also a wildcard: what follows is a query only if it has a setting in it.
    path, mark, query = rest.rpartition("?")
    if not mark or "=" not in query:
        return rest, {}
    pairs = parse_qsl(query, keep_blank_values=True)
    settings = dict(pairs)
    if len(settings) != len(pairs):
        node.fail(f"a setting is given twice in {query!r}")
    return path, settings


def _refuse_unknown(settings: dict[str, str], known: tuple[str, ...], node: Node) -> None:
    for name in settings:
        if name not in known:
            hint = nearest(name, known) if known else "there are none for this kind of URL"
            node.fail(f"there is no setting {name!r} in this URL; {hint}")


def _local_path(path: str, base: Path, node: Node) -> str:
    if path.startswith("//"):
        host, slash, local = path[2:].partition("/")
        if host not in ("", "localhost"):
            node.fail(f"{path!r} names another machine; only local paths are supported")
        path = slash + local
    if not path:
        node.fail("the path is missing")
    return str(base / Path(path).expanduser())


def _format_of(path: str) -> str | None:
    return _FORMATS.get(Path(path.removesuffix(".gz")).suffix.lower())


def _topic(name: str, node: Node) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9._-]{1,200}", name):
        node.fail(f"{name!r} is no name for a topic: letters, digits, '.', '_' and '-' make one")
    return name


def _table(name: str, node: Node) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?", name):
        node.fail(f"{name!r} is no name for a table: letters, digits and '_' make one")
    return name
