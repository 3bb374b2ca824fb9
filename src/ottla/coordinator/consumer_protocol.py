"""The one thing the coordinator reads in a member's metadata: the topics a consumer subscribes to.

Metadata is opaque to the coordinator, but OffsetDelete must refuse the offsets of a topic that is
being consumed. All versions of the "consumer" protocol begin with version 0: an int16 version and
an array of topic names; what follows is left unread.
"""

import struct

CONSUMER_PROTOCOL_TYPE = "consumer"


def subscribed_topics(metadata: bytes) -> set[str] | None:
    """The topics in a consumer's subscription, or None if it is not one."""
    try:
        (count,) = struct.unpack_from(">i", metadata, 2)
        if count < 0:
            return None
        position = 6
        topics = set()
        for _ in range(count):
            (length,) = struct.unpack_from(">h", metadata, position)
            position += 2
            name = metadata[position : position + length]
            if length < 0 or len(name) != length:
                return None
            topics.add(name.decode())
            position += length
    except (struct.error, UnicodeDecodeError):
        return None
    return topics
