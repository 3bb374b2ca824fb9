"""Frames: a size, a header, a body; in both directions, and found in a stream.

    request    int32 size | int16 api key | int16 version | int32 correlation id | client id | body
    response   int32 size | int32 correlation id | body

From an API's first flexible version on a header ends in tagged fields, which makes it header v2
(requests) or v1 (responses). Two exceptions are Kafka's own (KIP-482, KIP-511): the client id stays
an old string, so that a broker can read a header before it knows the version, and the header of an
ApiVersions response stays v0, so that a client can read it before it knows the broker.
"""

from collections.abc import Iterator
from struct import Struct, error
from typing import NamedTuple

from ottla.ports.errors import ProtocolError
from ottla.ports.limits import ARRAY_ELEMENTS_MAX, REQUEST_BYTES_MAX
from ottla.wire.api import API, ApiKey
from ottla.wire.message import Message
from ottla.wire.reading import read_nullable_string, skip_tags
from ottla.wire.writing import write_nullable_string

_REQUEST_START = Struct(">hhi")
_RESPONSE_START = Struct(">ii")
_INT32 = Struct(">i")
_API_VERSIONS = int(ApiKey.API_VERSIONS)
SIZE_BYTES = 4  # of a frame's own size field


class RequestHeader(NamedTuple):
    """Header v1 or v2 of a request."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None


def is_flexible(api_key: int, api_version: int) -> bool:
    """Whether the messages of this API and version have tagged fields.

    Raises ProtocolError for an unknown API key: such a header cannot be read.
    """
    api = API.get(api_key)
    if api is None:
        raise ProtocolError(f"the API key {api_key} is unknown")
    return api_version >= api.flexible_from


def decode_request_header(frame: memoryview) -> tuple[RequestHeader, int]:
    """The header of a request frame (without its size), and where the body starts.

    The version need not be one that exists: to an ApiVersions request of a newer one, a broker must
    still find the correlation id. Raises ProtocolError, also for an unknown API key.
    """
    try:
        api_key, api_version, correlation_id = _REQUEST_START.unpack_from(frame)
        client_id, position = read_nullable_string(frame, _REQUEST_START.size)
        if is_flexible(api_key, api_version):
            position = _skip_tags(frame, position)
    except (IndexError, error, UnicodeDecodeError) as cause:
        raise ProtocolError(f"a request header cannot be read: {cause}") from cause
    if position > len(frame):
        raise ProtocolError("a request header is cut short")
    return RequestHeader(api_key, api_version, correlation_id, client_id), position


def encode_request(
    api_key: int, api_version: int, correlation_id: int, client_id: str | None, body: Message
) -> bytearray:
    """A whole request frame, with its size."""
    out = bytearray(SIZE_BYTES)
    out += _REQUEST_START.pack(api_key, api_version, correlation_id)
    write_nullable_string(out, client_id)
    if api_version >= body.FLEXIBLE_FROM:
        out.append(0)
    body.write(out, api_version)
    _INT32.pack_into(out, 0, len(out) - SIZE_BYTES)
    return out


def decode_response_header(frame: memoryview, api_key: int, api_version: int) -> tuple[int, int]:
    """The correlation id of a response frame (without its size), and where the body starts.

    Raises ProtocolError.
    """
    try:
        (correlation_id,) = _INT32.unpack_from(frame)
        position = _INT32.size
        if is_flexible(api_key, api_version) and api_key != _API_VERSIONS:
            position = _skip_tags(frame, position)
    except (IndexError, error) as cause:
        raise ProtocolError(f"a response header cannot be read: {cause}") from cause
    if position > len(frame):
        raise ProtocolError("a response header is cut short")
    return correlation_id, position


def encode_response(
    api_key: int, api_version: int, correlation_id: int, body: Message
) -> bytearray:
    """A whole response frame, with its size."""
    out = bytearray(_RESPONSE_START.pack(0, correlation_id))
    if api_version >= body.FLEXIBLE_FROM and api_key != _API_VERSIONS:
        out.append(0)
    body.write(out, api_version)
    _INT32.pack_into(out, 0, len(out) - SIZE_BYTES)
    return out


def _skip_tags(frame: memoryview, position: int) -> int:
    if frame[position] == 0:
        return position + 1
    return skip_tags(frame, position, [min(len(frame), ARRAY_ELEMENTS_MAX)])


class FrameReader:
    """Finds the frames in a stream of bytes.

    A frame that lies within one piece of data is a view of it; one that does not is put together,
    copied once. It holds at most the part of one frame that has arrived, and takes no memory on the
    word of a size that the peer only claims. `frame_bytes_max` may be changed between frames.
    """

    __slots__ = ("_partial", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int = REQUEST_BYTES_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._partial = bytearray()  # a frame's size and what is there of it

    @property
    def partial_bytes(self) -> int:
        """How much of an unfinished frame is held."""
        return len(self._partial)

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Take the next piece of the stream; yield each complete frame, without its size.

        Go through all of it before the next piece is fed. Raises ProtocolError, once the frames
        before it are out, for a size that is negative or above the bound: the stream has no
        beginning of a frame after that.
        """
        view = memoryview(data)
        end = len(view)
        position = 0
        if self._partial:
            position = self._complete(view)
            if position < 0:
                return
            frame, self._partial = self._partial, bytearray()
            yield memoryview(frame)[SIZE_BYTES:].toreadonly()
        while end - position >= SIZE_BYTES:
            frame_end = position + SIZE_BYTES + self._size(view, position)
            if frame_end > end:
                break
            yield view[position + SIZE_BYTES : frame_end].toreadonly()
            position = frame_end
        self._partial += view[position:]

    def _complete(self, view: memoryview) -> int:
        """Fill up the unfinished frame: where `view` goes on, or -1 if the frame needs more."""
        partial = self._partial
        position = 0
        if len(partial) < SIZE_BYTES:
            position = SIZE_BYTES - len(partial)
            partial += view[:position]
            if len(partial) < SIZE_BYTES:
                return -1
        missing = SIZE_BYTES + self._size(partial, 0) - len(partial)
        partial += view[position : position + missing]
        position += missing
        return position if position <= len(view) else -1

    def _size(self, buffer: bytearray | memoryview, position: int) -> int:
        (size_bytes,) = _INT32.unpack_from(buffer, position)
        if not 0 <= size_bytes <= self.frame_bytes_max:
            raise ProtocolError(f"a frame of {size_bytes} bytes, at most {self.frame_bytes_max}")
        return int(size_bytes)
