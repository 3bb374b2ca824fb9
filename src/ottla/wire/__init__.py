"""Kafka's protocol: bytes to messages and back. No I/O, no clock.

- `frame`: frames in a stream, headers of requests and responses;
- `messages`: the body of every request and response, generated from the tables in `schema`;
- `api`: which of them there are, at which versions;
- `records`, `compression`: record batches, which travel inside Produce and Fetch as opaque bytes.

Bytes from a peer that are not the protocol raise `ProtocolError`, and nothing else.
"""
