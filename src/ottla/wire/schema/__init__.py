"""The tables that `ottla.wire.generate` turns into `ottla.wire.messages`: one text file per API.

They hold the facts of Kafka's message definitions, at the version ranges of Apache Kafka 4.3, in
the notation that `ottla.wire.schema.grammar` explains and reads.
"""
