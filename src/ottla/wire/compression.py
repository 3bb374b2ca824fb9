"""The four codecs of record batches, with a bound on what they may unfold to.

Formats as Kafka's clients write them: gzip one member, snappy raw (librdkafka) or in xerial's
framing (Java), lz4 one frame, zstd frames, with or without their content size, one or several. We
write xerial's framing, which every client reads. Decompression takes memory as output appears,
never on the word of a header, and stops at the limit: zstd can fold 32,000 bytes into one.
"""

import zlib
from collections.abc import Callable, Iterator
from enum import IntEnum
from struct import Struct

import cramjam
import lz4.frame
import zstandard

from ottla.ports.errors import ProtocolError
from ottla.wire.writing import Bytes

_INT32 = Struct(">i")
_GZIP_WINDOW_BITS = 31  # zlib's largest window, +16 for gzip's header
_STEP_BYTES = 1 << 20  # output asked of a codec at a time
_ZSTD_INPUT_BYTES = 1 << 10
_SNAPPY_RATIO_MAX = 22  # a copy takes three bytes and gives at most 64
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + _INT32.pack(1) + _INT32.pack(1)  # version, oldest reader's version
_XERIAL_BLOCK_BYTES = 1 << 15
_LZ4_USUAL_LEVEL, _LZ4_THOROUGH_LEVEL_MIN = 9, 3
_ZSTD_USUAL_LEVEL = 3


class Compression(IntEnum):
    """The codec in the lowest three bits of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


def compress(codec: int, data: Bytes, level: int | None = None) -> bytes:
    """`data` in a codec's format, at a level as Kafka counts them (KIP-390), or the usual one."""
    match Compression(codec):
        case Compression.NONE:
            return bytes(data)
        case Compression.GZIP:
            gzip_level = zlib.Z_DEFAULT_COMPRESSION if level is None else level
            return zlib.compress(data, gzip_level, wbits=_GZIP_WINDOW_BITS)
        case Compression.SNAPPY:
            return _compress_xerial(data)
        case Compression.LZ4:
            # Java's reader refuses blocks that refer to those before them.
            lz4_level = _lz4_level(level)
            return bytes(lz4.frame.compress(data, lz4_level, block_linked=False))
        case Compression.ZSTD:
            zstd_level = _ZSTD_USUAL_LEVEL if level is None else level
            return zstandard.ZstdCompressor(zstd_level).compress(data)


def _lz4_level(level: int | None) -> int:
    """Kafka's level as the library counts: 9 is its fast compressor, all others the thorough one.

    The library's thorough compressor begins at 3.
    """
    if level is None or level == _LZ4_USUAL_LEVEL:
        return 0
    return max(level, _LZ4_THOROUGH_LEVEL_MIN)


def decompress(codec: int, data: Bytes, limit_bytes: int) -> bytes:
    """What `data` was before `compress`.

    Raises ProtocolError if it is not the codec's format, if bytes are missing or left over, or if
    it would be longer than `limit_bytes`; and for a codec that does not exist.
    """
    unfold = _UNFOLD.get(codec)
    if unfold is None:
        raise ProtocolError(f"the compression codec {codec} does not exist")
    pieces = []
    size_bytes = 0
    try:
        for piece in unfold(memoryview(data), limit_bytes):
            size_bytes += len(piece)
            if size_bytes > limit_bytes:
                raise ProtocolError(f"compressed data unfolds to more than {limit_bytes} bytes")
            pieces.append(piece)
    except _CODEC_ERRORS as error:
        raise ProtocolError(f"{Compression(codec).name} data cannot be read: {error}") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _compress_xerial(data: Bytes) -> bytes:
    view = memoryview(data)
    out = bytearray(_XERIAL_HEADER)
    for start in range(0, len(view), _XERIAL_BLOCK_BYTES):
        block = memoryview(cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK_BYTES]))
        out += _INT32.pack(len(block))
        out += block
    return bytes(out)


def _unfold_none(data: memoryview, limit_bytes: int) -> Iterator[bytes]:
    yield bytes(data)


def _unfold_gzip(data: memoryview, limit_bytes: int) -> Iterator[bytes]:
    decoder = zlib.decompressobj(_GZIP_WINDOW_BITS)
    step_bytes = min(_STEP_BYTES, limit_bytes + 1)
    rest: Bytes = data
    while not decoder.eof:
        piece = decoder.decompress(rest, step_bytes)
        if not piece and not decoder.eof:
            raise ProtocolError("gzip data is cut short")
        yield piece
        rest = decoder.unconsumed_tail
    if decoder.unused_data:
        raise ProtocolError("gzip data has bytes left over")


def _unfold_snappy(data: memoryview, limit_bytes: int) -> Iterator[bytes]:
    if data[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        yield _unfold_snappy_block(data, limit_bytes)
        return
    position = len(_XERIAL_HEADER)
    if len(data) < position:
        raise ProtocolError("snappy data is cut short")
    while position < len(data):
        if len(data) - position < _INT32.size:
            raise ProtocolError("snappy data is cut short")
        (size_bytes,) = _INT32.unpack_from(data, position)
        position += _INT32.size
        if not 0 <= size_bytes <= len(data) - position:
            raise ProtocolError("snappy data is cut short")
        yield _unfold_snappy_block(data[position : position + size_bytes], limit_bytes)
        position += size_bytes


def _unfold_snappy_block(block: memoryview, limit_bytes: int) -> bytes:
    """One raw block. It opens with the length of its content, and would be given that memory."""
    claimed_bytes = cramjam.snappy.decompress_raw_len(block)
    if claimed_bytes > min(len(block) * _SNAPPY_RATIO_MAX, limit_bytes):
        raise ProtocolError(f"{len(block)} bytes of snappy cannot hold {claimed_bytes}")
    return bytes(cramjam.snappy.decompress_raw(block))


def _unfold_lz4(data: memoryview, limit_bytes: int) -> Iterator[bytes]:
    decoder = lz4.frame.LZ4FrameDecompressor()
    step_bytes = min(_STEP_BYTES, limit_bytes + 1)
    rest: Bytes = data
    while not decoder.eof:
        piece = decoder.decompress(rest, step_bytes)
        if not piece and not decoder.eof:
            raise ProtocolError("lz4 data is cut short")
        yield piece
        rest = b""
    if decoder.unused_data:
        raise ProtocolError("lz4 data has bytes left over")


def _unfold_zstd(data: memoryview, limit_bytes: int) -> Iterator[bytes]:
    """Frame after frame. The decoder cannot be told how much to put out: it is fed little.

    It refuses windows above 128 MB by itself.
    """
    factory = zstandard.ZstdDecompressor()
    decoder = factory.decompressobj()
    for start in range(0, len(data), _ZSTD_INPUT_BYTES):
        rest: Bytes = data[start : start + _ZSTD_INPUT_BYTES]
        while rest:
            if decoder.eof:
                decoder = factory.decompressobj()
            yield decoder.decompress(rest)
            rest = decoder.unused_data
    if not decoder.eof:
        raise ProtocolError("zstd data is cut short")


_UNFOLD: dict[int, Callable[[memoryview, int], Iterator[bytes]]] = {
    Compression.NONE: _unfold_none,
    Compression.GZIP: _unfold_gzip,
    Compression.SNAPPY: _unfold_snappy,
    Compression.LZ4: _unfold_lz4,
    Compression.ZSTD: _unfold_zstd,
}

# lz4 has no exception of its own.
_CODEC_ERRORS = (zlib.error, cramjam.DecompressionError, RuntimeError, zstandard.ZstdError)
