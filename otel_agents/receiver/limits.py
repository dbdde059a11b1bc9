"""Every limit of the receiver, once, with its reason.

The aim: whatever one request holds, it costs at most 64 MiB beside what the process has, and what
it costs is known before it is parsed. Measured with upb on CPython 3.11: an empty span takes 2
bytes on the wire and 170 in memory, the worst that OTLP has; text is not copied by the parser.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Bytes of one request after decompression. The specification advises 64 MiB for HTTP; 32 MiB is
# what can be held beside a slice being parsed. gRPC holds a message three times while it comes in.
MAX_PROTOBUF: Final = 32 * MIB
MAX_GRPC: Final = 16 * MIB
MAX_JSON: Final = 8 * MIB

# A trace request up to here is parsed whole (44 MiB at worst); a larger one in slices of half of
# it (22 MiB at worst, beside 32 MiB of request).
WHOLE: Final = 512 * KIB
# Of records and points objects are made: 350 bytes for one that takes 2 on the wire.
WHOLE_OBJECTS: Final = 128 * KIB
# A large trace request is committed in parts: so many traces (300 bytes each) or bytes.
PART_TRACES: Final = 20_000
PART_BYTES: Final = 8 * MIB
# What stands beside the spans of a slice, resource and scope, is repeated in each slice.
MAX_BESIDE: Final = 64 * KIB
# Spans, records and points in one sliced request, with the resources and scopes around them: 32
# MiB hold 93,000 spans of 360 bytes.
MAX_ELEMENTS: Final = 200_000
# A single span or record longer than a slice: its bytes, and the fields in it, nested ones too.
MAX_ELEMENT: Final = 4 * MIB
MAX_FIELDS: Final = 50_000
# A single data point longer than a slice. A count in it takes a byte, and sixteen in memory.
MAX_POINT: Final = 256 * KIB
# Messages inside each other. upb takes 100, an attribute's lists within lists two for each level.
MAX_DEPTH: Final = 100

# Objects, lists and members in a JSON request above 512 KiB: 72 bytes each at worst.
MAX_JSON_ITEMS: Final = 600_000
# The same in one span, record or point: up to 130 bytes each.
MAX_JSON_ELEMENT_ITEMS: Final = 100_000
# Values inside values in JSON: as deep as the protobuf made of them can be read again. The same in
# the attributes of a signal, of which our own programs nest four.
MAX_VALUE_DEPTH: Final = 40

# Bytes of one text; what is longer is cut and marked.
MAX_TEXT: Final = 64 * KIB
# Bytes of a signal's JSON, and characters of one of its ids.
MAX_SIGNAL: Final = 1 * MIB
MAX_ID: Final = 1024
MAX_TIME: Final = (1 << 63) - 1  # nanoseconds since the epoch, in a signed column: year 2262

# Members of a gzip body: each costs a copy of what follows it.
MAX_GZIP_MEMBERS: Final = 100
# Compressed bytes are taken in by so many at a time.
GZIP_STEP: Final = 64 * KIB

# Bytes of all requests from their arrival to their answer.
MAX_IN_FLIGHT: Final = 128 * MIB
# Up to here a request is decoded on the event loop, within about a millisecond.
INLINE: Final = 64 * KIB
DECODERS: Final = 2  # threads: each may hold the memory of one large request

# HTTP: the connection.
MAX_CONNECTIONS: Final = 1000
MAX_HEADER_BYTES: Final = 32 * KIB  # with the target
MAX_HEADERS: Final = 100
HEADER_SECONDS: Final = 10.0
REQUEST_SECONDS: Final = 30.0  # from its first byte to its last
IDLE_SECONDS: Final = 75  # an exporter sends every 5 to 60 seconds over one connection
# A client that is still sending when it is refused reads the answer only if we go on reading.
LINGER_BYTES: Final = 64 * MIB
LINGER_SECONDS: Final = 2.0

# gRPC: the connection and the calls.
MAX_CALLS: Final = 1000
MAX_STREAMS: Final = 100  # calls at once of one connection
MAX_METADATA: Final = 16 * KIB

RETRY_SECONDS: Final = 2  # where the store does not say
