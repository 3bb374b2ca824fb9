"""Who a client's certificate is for: its subject, written as Java and so Kafka writes it.

Kafka's principal of a client with a certificate is "User:" and the subject's distinguished name in
RFC 2253: the last part first, `CN=alice,OU=readers,O=Example`. Nine kinds of names have a short
form; others are their number with the value's DER in hexadecimal. Values are escaped, so that no
value can look like two: `CN=a,CN=b` is never one common name "a,CN=b".

The certificate has been checked by OpenSSL before it comes here.
"""

from collections.abc import Iterator

_SHORT = {
    "2.5.4.3": "CN",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.6": "C",
    "2.5.4.9": "STREET",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
}
_ENCODINGS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
_VERSION_TAG, _SEQUENCE_TAG = 0xA0, 0x30
_ESCAPED = ',=+<>#;"\\'


class UnreadableCertificate(Exception):  # noqa: N818 - says what it is
    """The subject of a certificate cannot be read."""


def subject_of(certificate: bytes) -> str:
    """The subject of a certificate in DER. Raises UnreadableCertificate."""
    try:
        (_, _, to_be_signed), *_ = _parts(_only(certificate))
        fields = list(_parts(to_be_signed))
        if fields[0][0] == _VERSION_TAG:
            fields = fields[1:]
        subject = fields[4][2]  # serial number, algorithm, issuer, validity, subject
        names = [_relative_name(name) for _, _, name in _parts(subject)]
    except (IndexError, ValueError) as error:
        raise UnreadableCertificate(f"the certificate's subject cannot be read: {error}") from error
    return ",".join(reversed(names))


def _only(buffer: bytes) -> bytes:
    """The contents of the one SEQUENCE that the buffer is."""
    ((tag, _, contents),) = _parts(buffer)
    if tag != _SEQUENCE_TAG:
        raise ValueError(f"tag {tag} where a sequence should be")
    return contents


def _parts(buffer: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The DER values in a buffer: tag, the value whole, its contents."""
    position = 0
    while position < len(buffer):
        tag, length = buffer[position], buffer[position + 1]
        begin = position + 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(buffer[begin : begin + size], "big")
            begin += size
        end = begin + length
        if end > len(buffer):
            raise ValueError("a value runs over its end")
        yield tag, buffer[position:end], buffer[begin:end]
        position = end


def _relative_name(name: bytes) -> str:
    return "+".join(_attribute(contents) for _, _, contents in _parts(name))


def _attribute(attribute: bytes) -> str:
    (_, _, kind), (tag, whole, value) = _parts(attribute)
    number = _object_id(kind)
    if number not in _SHORT or tag not in _ENCODINGS:
        return f"{number}=#{whole.hex()}"
    return f"{_SHORT[number]}={_escaped(value.decode(_ENCODINGS[tag]))}"


def _object_id(contents: bytes) -> str:
    numbers = [min(contents[0] // 40, 2)]
    numbers.append(contents[0] - 40 * numbers[0])
    number = 0
    for byte in contents[1:]:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    return ".".join(map(str, numbers))


def _escaped(value: str) -> str:
    escaped = "".join(f"\\{c}" if c in _ESCAPED else c for c in value)
    kept = escaped.strip(" ")
    before = len(escaped) - len(escaped.lstrip(" "))
    after = len(escaped) - before - len(kept) if kept else 0
    return "\\ " * before + kept + "\\ " * after
