"""The codecs: what they fold unfolds again, in every form that clients write, and no bomb goes off.

Method: round trips, the other forms built by hand or by the codec libraries, limits, every
truncation, and random damage, which must give data or ProtocolError.
"""

import random
import zlib

import cramjam
import lz4.frame
import pytest
import zstandard

from ottla.ports.errors import ProtocolError
from ottla.wire.compression import Compression, compress, decompress

CODECS = [codec for codec in Compression if codec != Compression.NONE]
MIXED = bytes(random.Random(0).randbytes(3000)) + b"abc" * 40_000
LIMIT = 1 << 20


@pytest.mark.parametrize("codec", Compression)
@pytest.mark.parametrize("data", [b"", b"x", MIXED], ids=len)
def test_what_was_folded_unfolds(codec: Compression, data: bytes):
    assert decompress(codec, compress(codec, data), len(data)) == data
    assert decompress(codec, memoryview(compress(codec, memoryview(data))), LIMIT) == data


@pytest.mark.parametrize("codec", Compression)
def test_the_limit_is_exact(codec: Compression):
    folded = compress(codec, MIXED)
    assert decompress(codec, folded, len(MIXED)) == MIXED
    for limit_bytes in (0, 1, len(MIXED) - 1):
        with pytest.raises(ProtocolError):
            decompress(codec, folded, limit_bytes)


@pytest.mark.parametrize("codec", CODECS)
def test_data_cut_short_is_refused(codec: Compression):
    folded = compress(codec, MIXED[:5000])
    if codec == Compression.SNAPPY:  # a cut between two xerial blocks cannot be seen
        folded = bytes(cramjam.snappy.compress_raw(MIXED[:5000]))
    for length in range(0, len(folded), 1 + len(folded) // 400):
        with pytest.raises(ProtocolError):
            decompress(codec, folded[:length], LIMIT)


@pytest.mark.parametrize("codec", CODECS)
def test_damaged_data_unfolds_or_is_refused(codec: Compression):
    rng = random.Random(codec)
    folded = compress(codec, MIXED[2900:8000])
    for _ in range(1500):
        damaged = bytearray(folded)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            assert len(decompress(codec, damaged, 100_000)) <= 100_000
        except ProtocolError:
            continue


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 40, b"\x82SNAPPY\x00", b"(\xb5/\xfd"])
def test_what_is_not_the_format_is_refused(codec: Compression, data: bytes):
    if codec == Compression.SNAPPY and data == b"\x00":
        assert decompress(codec, data, LIMIT) == b""  # a raw block of no bytes
        return
    with pytest.raises(ProtocolError):
        decompress(codec, data, LIMIT)


@pytest.mark.parametrize("codec", [5, 7, -1])
def test_a_codec_that_does_not_exist(codec: int):
    with pytest.raises(ProtocolError, match=f"codec {codec} does not exist"):
        decompress(codec, b"", LIMIT)


def test_snappy_comes_raw_and_in_xerials_framing():
    raw = bytes(cramjam.snappy.compress_raw(MIXED))
    assert decompress(Compression.SNAPPY, raw, LIMIT) == MIXED
    framed = compress(Compression.SNAPPY, MIXED)
    assert framed.startswith(b"\x82SNAPPY\x00" + b"\x00\x00\x00\x01" * 2)
    assert len(framed) < len(MIXED) / 4


def test_lz4_blocks_stand_alone_because_java_reads_no_others():
    frame = lz4.frame.get_frame_info(compress(Compression.LZ4, MIXED))
    assert not frame["block_linked"]


def test_a_zstd_frame_cannot_ask_for_a_huge_window():
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = compressor.compress(b"data") + compressor.flush()
    assert zstandard.get_frame_parameters(frame).window_size == 1 << 28
    with pytest.raises(ProtocolError, match="memory"):
        decompress(Compression.ZSTD, frame, LIMIT)


def test_a_snappy_block_is_not_believed():
    with pytest.raises(ProtocolError, match="cannot hold"):
        decompress(Compression.SNAPPY, cramjam.snappy.compress_raw(MIXED), len(MIXED) - 1)
    claims_much = b"\xff\xff\xff\x7f" + b"\x00a"
    with pytest.raises(ProtocolError, match="cannot hold"):
        decompress(Compression.SNAPPY, claims_much, 1 << 40)
    for size in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x00\x00"):
        framed = compress(Compression.SNAPPY, b"")[:16] + size
        with pytest.raises(ProtocolError, match="cut short"):
            decompress(Compression.SNAPPY, framed, LIMIT)


def test_zstd_without_content_size_and_in_several_frames():
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    frame = compressor.compress(MIXED)
    assert zstandard.get_frame_parameters(frame).content_size == zstandard.CONTENTSIZE_UNKNOWN
    assert decompress(Compression.ZSTD, frame, LIMIT) == MIXED
    several = frame + compress(Compression.ZSTD, b"second") + compressor.compress(b"third")
    assert decompress(Compression.ZSTD, several, LIMIT) == MIXED + b"secondthird"
    with pytest.raises(ProtocolError, match="cut short"):
        decompress(Compression.ZSTD, several[:-1], LIMIT)


def test_many_small_zstd_frames_take_no_quadratic_time():
    frame = compress(Compression.ZSTD, b"x")
    assert decompress(Compression.ZSTD, frame * 20_000, LIMIT) == b"x" * 20_000


def test_a_bomb_does_not_go_off():
    bomb = compress(Compression.ZSTD, bytes(200_000_000))
    assert len(bomb) < 20_000
    with pytest.raises(ProtocolError, match="more than 1000000 bytes"):
        decompress(Compression.ZSTD, bomb, 1_000_000)
    for codec, folded in (
        (Compression.GZIP, zlib.compress(bytes(20_000_000), wbits=31)),
        (Compression.LZ4, lz4.frame.compress(bytes(20_000_000))),
    ):
        with pytest.raises(ProtocolError, match="more than 1000000 bytes"):
            decompress(codec, folded, 1_000_000)


@pytest.mark.parametrize("codec", [Compression.GZIP, Compression.LZ4, Compression.ZSTD])
def test_bytes_left_over_are_refused(codec: Compression):
    with pytest.raises(ProtocolError):
        decompress(codec, compress(codec, b"data") + b"rest", LIMIT)
