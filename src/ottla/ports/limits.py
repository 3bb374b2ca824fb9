"""Every bound in one table: what a client can make the broker hold or do is finite."""

REQUEST_BYTES_MAX = 104_857_600  # socket.request.max.bytes
MESSAGE_BYTES_MAX = 1_048_588  # message.max.bytes: one record batch, with its 12 bytes of overhead
DECOMPRESSED_BYTES_MAX = 268_435_456  # what one compressed batch may grow to
ARRAY_ELEMENTS_MAX = 1_000_000  # elements one request may name in all its arrays together
IN_FLIGHT_REQUESTS_MAX = 100  # per connection; beyond it the socket is not read
CONNECTIONS_MAX = 10_000
FETCH_SESSIONS_MAX = 1_000  # max.incremental.fetch.session.cache.slots
TOPIC_NAME_LENGTH_MAX = 249
PARTITIONS_PER_TOPIC_MAX = 10_000
OFFSET_METADATA_BYTES_MAX = 4_096  # offset.metadata.max.bytes
GROUP_MEMBERS_MAX = 10_000
GROUP_SESSION_TIMEOUT_MS_MIN = 6_000  # group.min.session.timeout.ms
GROUP_SESSION_TIMEOUT_MS_MAX = 1_800_000  # group.max.session.timeout.ms
TRANSACTION_TIMEOUT_MS_MAX = 900_000  # transaction.max.timeout.ms
TRANSACTIONAL_ID_EXPIRATION_MS = 604_800_000  # transactional.id.expiration.ms
PRODUCER_ID_EXPIRATION_MS = 86_400_000  # producer.id.expiration.ms
PRODUCER_ID_BLOCK_SIZE = 1_000
PRODUCER_BATCHES_RETAINED = 5  # what max.in.flight.requests.per.connection=5 needs
DISK_RESERVE_BYTES = 33_554_432  # with less than this free, nothing new is taken in
