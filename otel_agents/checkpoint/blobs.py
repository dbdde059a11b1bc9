"""Contents read from the repository: raw, one after the other, and held to their names."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from typing import IO, TYPE_CHECKING, Final

from otel_agents.checkpoint.record import said
from otel_agents.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from otel_agents.checkpoint.repository import Repository

_CHUNK: Final = 1 << 20
_SHA1_DIGITS: Final = 40


@contextlib.contextmanager
def contents(repository: Repository, blobs: Iterable[str]) -> Generator[IO[bytes]]:
    """Yield a stream of blobs, of which `content` reads one after the other."""
    with tempfile.TemporaryFile() as names:
        names.write(b"".join(blob.encode() + b"\n" for blob in blobs))
        names.seek(0)
        with repository.start("cat-file", "--batch", "--buffer", stdin=names) as process:
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            try:
                yield process.stdout
            finally:
                process.kill()


def content(stream: IO[bytes], path: bytes) -> Iterator[bytes]:
    """Yield the parts of the next blob of `contents`, which is that of a path.

    Raises:
        CheckpointError: The repository does not have it any more, or has another in its place.

    """
    head = stream.readline().split()
    if len(head) != 3 or head[1] != b"blob":  # noqa: PLR2004 - name, type, size
        message = f"The repository has lost the content of {said(path)}."
        raise CheckpointError(message)
    left = int(head[2])
    algorithm = "sha1" if len(head[0]) == _SHA1_DIGITS else "sha256"
    blob = hashlib.new(algorithm, b"blob %d\0" % left, usedforsecurity=False)
    while left:
        part = stream.read(min(left, _CHUNK))
        if not part:
            message = f"git stopped in the content of {said(path)}."
            raise CheckpointError(message)
        left -= len(part)
        blob.update(part)
        yield part
    stream.read(1)
    if blob.hexdigest().encode() != head[0]:  # git does not look, where it only reads
        message = f"The repository has lost the content of {said(path)}."
        raise CheckpointError(message)
