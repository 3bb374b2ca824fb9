"""How records are printed and read: format strings in the manner of kcat, and JSON.

In JSON a key, a value or a header's value is a string where it is UTF-8, null where it is null, and
{"base64": "..."} otherwise, so that what `ottla consume` prints `ottla produce` can send again.

Records come from anybody. On a terminal, what is not printable in keys, values and headers is shown
as an escape, but for line feeds and tabs; a pipe and a file get the bytes as they are.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from ottla.cli.cluster import Mistake
from ottla.client.types import Message
from ottla.ports.printable import printable

JSON = "json"
_TOKEN = re.compile(r"%(.?)", re.DOTALL)
_ESCAPES = re.compile(r"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\"}
Formatter = Callable[[Message], bytes]


@dataclass(frozen=True, slots=True)
class Record:
    """A record to send."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def unescaped(text: str) -> bytes:
    """The bytes that a text stands for: \\n, \\r, \\t, \\0, \\\\ and \\xNN are escapes."""
    parts, at = [], 0
    for found in _ESCAPES.finditer(text):
        parts.append(text[at : found.start()].encode())
        code, at = found[1], found.end()
        if len(code) == 3:
            parts.append(bytes([int(code[1:], 16)]))
        else:
            parts.append(_ESCAPED.get(code, found[0]).encode())
    parts.append(text[at:].encode())
    return b"".join(parts)


def formatter(template: str, *, null: bytes = b"", terminal: bool = False) -> Formatter:
    """What prints a record by a format string, or as a line of JSON. Raises Mistake.

    `null` stands for keys and values that are null; `terminal`: a person watches.
    """
    if template == JSON:
        return lambda message: orjson.dumps(json_of(message)) + b"\n"
    fields = _fields(null, _escaped if terminal else bytes)
    parts: list[Formatter] = []
    at = 0
    for found in _TOKEN.finditer(template):
        if text := unescaped(template[at : found.start()]):
            parts.append(lambda _, text=text: text)  # type: ignore[misc]
        if found[1] not in fields:
            raise Mistake(f"%{found[1]} is none of {' '.join(f'%{name}' for name in fields)}")
        parts.append(fields[found[1]])
        at = found.end()
    if text := unescaped(template[at:]):
        parts.append(lambda _, text=text: text)  # type: ignore[misc]
    return lambda message: b"".join([part(message) for part in parts])


def _escaped(content: bytes) -> bytes:
    text = content.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text.encode()
    return "".join(each if each in "\n\t" else printable(each) for each in text).encode()


def _fields(null: bytes, shown: Callable[[bytes], bytes]) -> dict[str, Formatter]:
    def value(message: Message) -> bytes:
        found = message.value()
        return null if found is None else shown(found)

    def key(message: Message) -> bytes:
        found = message.key()
        return null if found is None else shown(found)

    def size(content: bytes | None) -> bytes:
        return b"%d" % (-1 if content is None else len(content))

    return {
        "v": value,
        "s": value,
        "k": key,
        "S": lambda message: size(message.value()),
        "K": lambda message: size(message.key()),
        "o": lambda message: b"%d" % message.offset(),
        "p": lambda message: b"%d" % message.partition(),
        "t": lambda message: message.topic().encode(),
        "T": lambda message: b"%d" % message.timestamp()[1],
        "h": lambda message: b",".join(
            shown(name.encode()) + b"=" + (null if content is None else shown(content))
            for name, content in message.headers() or []
        ),
        "%": lambda _: b"%",
    }


def json_of(message: Message) -> dict[str, Any]:
    """A record as JSON."""
    return {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": message.timestamp()[1],
        "headers": [[name, text_of(value)] for name, value in message.headers() or []],
        "key": text_of(message.key()),
        "value": text_of(message.value()),
    }


def text_of(content: bytes | None) -> Any:
    """The content as JSON has it."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(content).decode()}


def record_of(line: bytes) -> Record:
    """The record that a line of JSON describes. Raises ValueError.

    Topic, partition, offset and timestamp are left alone: a record gets its own.
    """
    found = orjson.loads(line)
    if not isinstance(found, dict) or "value" not in found:
        raise ValueError("no JSON object with a value")
    headers = found.get("headers") or []
    if isinstance(headers, dict):
        headers = list(headers.items())
    try:
        pairs = [(str(name), _bytes(value)) for name, value in headers]
    except TypeError as error:
        raise ValueError("headers are not pairs of a name and a value") from error
    return Record(_bytes(found.get("key")), _bytes(found["value"]), pairs)


def _bytes(content: Any) -> bytes | None:
    if content is None:
        return None
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, dict) and set(content) == {"base64"}:
        if not isinstance(content["base64"], str):
            raise ValueError("base64 is no string")
        return b64decode(content["base64"], validate=True)
    return orjson.dumps(content)
