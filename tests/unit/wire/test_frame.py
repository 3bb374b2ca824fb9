"""Frames and headers.

Method: a stream cut anywhere, also into single bytes, gives the frames that one piece gives
(Hypothesis picks the cuts). Headers are compared with bytes written by hand, and with what comes
back from them; hostile ones raise ProtocolError only.
"""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.ports.errors import ProtocolError
from ottla.ports.limits import REQUEST_BYTES_MAX
from ottla.wire.api import API, ApiKey
from ottla.wire.frame import (
    FrameReader,
    RequestHeader,
    decode_request_header,
    decode_response_header,
    encode_request,
    encode_response,
)


def framed(*bodies: bytes) -> bytes:
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


def read_all(reader: FrameReader, pieces: list[bytes]) -> list[bytes]:
    return [bytes(frame) for piece in pieces for frame in reader.feed(piece)]


def pieces_of(stream: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        yield stream[start:end]


@settings(deadline=None)
@given(
    bodies=st.lists(st.binary(max_size=40), max_size=8),
    rest=st.binary(max_size=3),
    cuts=st.lists(st.integers(0, 1 << 16), max_size=20),
)
def test_a_stream_may_be_cut_anywhere(bodies: list[bytes], rest: bytes, cuts: list[int]):
    stream = framed(*bodies) + rest
    reader = FrameReader()
    assert read_all(reader, list(pieces_of(stream, cuts))) == bodies
    assert reader.partial_bytes == len(rest)


@settings(deadline=None)
@given(bodies=st.lists(st.binary(max_size=40), max_size=8))
def test_single_bytes_give_what_one_piece_gives(bodies: list[bytes]):
    stream = framed(*bodies)
    assert read_all(FrameReader(), [bytes([byte]) for byte in stream]) == bodies
    assert read_all(FrameReader(), [stream]) == bodies


def test_frames_within_one_piece_are_views_of_it():
    stream = framed(b"first", b"second")
    first, second = FrameReader().feed(stream)
    assert first.obj is stream
    assert second.obj is stream


def test_frames_are_read_only():
    reader = FrameReader()
    whole = list(reader.feed(framed(b"abc")))
    list(reader.feed(framed(b"def")[:5]))
    joined = list(reader.feed(framed(b"def")[5:]))
    assert [bytes(frame) for frame in whole + joined] == [b"abc", b"def"]
    assert all(frame.readonly for frame in whole + joined)


@pytest.mark.parametrize("size", [-1, -(1 << 31), 101, (1 << 31) - 1])
def test_an_impossible_size_ends_the_stream_after_the_frames_before_it(size: int):
    stream = framed(b"fine") + size.to_bytes(4, "big", signed=True) + b"rest"
    for pieces in ([stream], [bytes([byte]) for byte in stream]):
        reader = FrameReader(frame_bytes_max=100)
        seen: list[bytes] = []
        with pytest.raises(ProtocolError, match=f"a frame of {size} bytes, at most 100"):
            seen.extend(bytes(frame) for piece in pieces for frame in reader.feed(piece))
        assert seen == [b"fine"]


def test_a_claimed_size_takes_no_memory():
    reader = FrameReader()
    assert list(reader.feed(REQUEST_BYTES_MAX.to_bytes(4, "big") + b"x")) == []
    assert reader.partial_bytes == 5


def test_request_headers_by_hand():
    version_1 = bytes.fromhex("001a 0002 00000007 0003 636c69".replace(" ", ""))
    expected = RequestHeader(ApiKey.END_TXN, 2, 7, "cli")
    assert decode_request_header(memoryview(version_1 + b"body")) == (expected, len(version_1))
    # The client id stays an int16 string in header v2 (KIP-482).
    version_2 = bytes.fromhex("001a 0003 00000007 ffff 01 05 01 aa".replace(" ", ""))
    expected = RequestHeader(ApiKey.END_TXN, 3, 7, None)
    assert decode_request_header(memoryview(version_2 + b"body")) == (expected, len(version_2))


@pytest.mark.parametrize("key", ApiKey)
def test_requests_come_back(key: ApiKey):
    api = API[key]
    for version in range(api.min_version, api.max_version + 1):
        frame = encode_request(key, version, 99, "client-ü", api.request())
        (inner,) = FrameReader().feed(bytes(frame))
        header, position = decode_request_header(inner)
        assert header == RequestHeader(key, version, 99, "client-ü")
        body, end = api.request.decode(inner, position, version)
        assert (body, end) == (api.request(), len(inner))


@pytest.mark.parametrize("key", ApiKey)
def test_responses_come_back(key: ApiKey):
    api = API[key]
    for version in range(api.min_version, api.max_version + 1):
        frame = encode_response(key, version, 99, api.response())
        (inner,) = FrameReader().feed(bytes(frame))
        correlation_id, position = decode_response_header(inner, key, version)
        assert correlation_id == 99
        body, end = api.response.decode(inner, position, version)
        assert (body, end) == (api.response(), len(inner))


def test_the_header_of_an_api_versions_response_is_always_the_oldest():
    api = API[ApiKey.API_VERSIONS]
    frame = encode_response(ApiKey.API_VERSIONS, 4, 99, api.response())
    assert frame[8:] == api.response().encode(4)
    flexible = encode_response(ApiKey.END_TXN, 3, 99, API[ApiKey.END_TXN].response())
    assert flexible[8:] == b"\x00" + API[ApiKey.END_TXN].response().encode(3)


def test_a_version_beyond_ours_has_a_header_all_the_same():
    frame = bytes.fromhex("0012 0063 00000007 ffff 00".replace(" ", ""))
    expected = RequestHeader(ApiKey.API_VERSIONS, 99, 7, None)
    assert decode_request_header(memoryview(frame)) == (expected, len(frame))


@settings(deadline=None)
@given(st.binary(max_size=30))
def test_a_hostile_request_header_is_read_or_refused(data: bytes):
    try:
        header, position = decode_request_header(memoryview(data))
    except ProtocolError:
        return
    assert position <= len(data)
    assert header.api_key in API


@pytest.mark.parametrize("version", [2, 3])
def test_a_request_header_cut_short_is_refused(version: int):
    frame = memoryview(encode_request(26, version, 7, "client", API[26].request()))[4:]
    _, end = decode_request_header(frame)
    for length in range(end):
        with pytest.raises(ProtocolError):
            decode_request_header(frame[:length])


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x00", b"\x00\x00\x00\x07"])
def test_a_response_header_cut_short_is_refused(data: bytes):
    with pytest.raises(ProtocolError):
        decode_response_header(memoryview(data), ApiKey.END_TXN, 3)


def test_tagged_fields_in_a_response_header_are_skipped_and_bounded():
    frame = memoryview(b"\x00\x00\x00\x07" + b"\x01\x05\x02ab" + b"body")
    assert decode_response_header(frame, ApiKey.END_TXN, 3) == (7, 9)
    with pytest.raises(ProtocolError):
        decode_response_header(memoryview(b"\x00\x00\x00\x07\x01\x05\x7f"), ApiKey.END_TXN, 3)


def test_an_unknown_api_key_is_refused():
    with pytest.raises(ProtocolError, match="the API key 6 is unknown"):
        decode_request_header(memoryview(bytes.fromhex("0006000000000007ffff")))
    with pytest.raises(ProtocolError, match="the API key 6 is unknown"):
        decode_response_header(memoryview(bytes(8)), 6, 0)
