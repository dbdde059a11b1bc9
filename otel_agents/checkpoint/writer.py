"""One `git fast-import` a checkpoint: what is new goes in, the commit and its ref come out."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from otel_agents.checkpoint.repository import PATIENCE, refusal
from otel_agents.errors import CheckpointError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Generator, Iterable, Mapping
    from pathlib import Path

    from otel_agents.checkpoint.repository import Repository

_WHO: Final = b"otel-agents <otel-agents@localhost>"


class Writer:
    """Writes objects, and at last a commit; git is started when there is something to write.

    Without `commit` no ref is made, and the objects written are dropped by git in its time.
    """

    def __init__(
        self,
        repository: Repository,
        deadline: float | None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._repository = repository
        self._environment = environment
        self._deadline = time.monotonic() + PATIENCE if deadline is None else deadline
        self._started: subprocess.Popen[bytes] | None = None
        self._clock: threading.Timer | None = None
        self._packs: set[Path] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def blob(self, size: int, parts: Iterable[bytes]) -> None:
        """Write a blob of so many bytes, which `parts` make up exactly."""
        self._write(b"blob\ndata %d\n" % size)
        for part in parts:
            self._write(part)
        self._write(b"\n")

    def commit(
        self,
        ref: str,
        message: bytes,
        base: str,
        changes: Iterable[tuple[bytes, int, str]],
    ) -> tuple[str, str]:
        """Write a commit without parents and its ref; return the commit and its tree.

        Args:
            ref: The full name of a ref that does not exist.
            message: The commit's.
            base: The tree that the changes are made to, "" for an empty one.
            changes: Paths with their git mode and blob, those that are gone first, with mode 0.

        """
        self._write(b"commit %b\nmark :1\n" % ref.encode())
        self._write(b"committer %b %d +0000\n" % (_WHO, int(time.time())))
        self._write(b"data %d\n%b\n" % (len(message), message))
        if base:
            self._write(b'M 040000 %b ""\n' % base.encode())
        for path, mode, blob in changes:
            if mode:
                self._write(b"M %o %b %b\n" % (mode, blob.encode(), _quoted(path)))
            else:
                self._write(b"D %b\n" % _quoted(path))
        self._write(b"\nget-mark :1\n")
        commit = self._answer()
        self._write(b'ls :1 ""\n')
        tree = self._answer().split()[2]
        return commit, tree

    def forget(self, ref: str) -> None:
        """Leave out the ref of a commit that was written, before `finish`."""
        gone = b"0" * (40 if self._repository.algorithm == "sha1" else 64)
        self._write(b"reset %b\nfrom %b\n\n" % (ref.encode(), gone))

    def finish(self) -> None:
        """Make what was written stand; the ref is there after this."""
        self._write(b"done\n")
        process = self._process()
        with self._failing():
            _, warnings = process.communicate()
        if process.returncode:
            raise self._refused(warnings)
        self.close()

    def close(self) -> None:
        """End git, whatever it is at; nothing that was not finished stands."""
        if self._clock is not None:
            self._clock.cancel()
        process = self._started
        if process is None:
            return
        process.kill()  # nothing, where it has ended
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):  # what was still to be written
                pipe and pipe.close()
        if process.returncode:
            for pack in self._parts() - self._packs:
                if not _is_in_use(pack):
                    pack.unlink(missing_ok=True)
        for folder in {self._repository.git_dir, self._repository.common_dir}:
            with contextlib.suppress(OSError):  # there is none, or nothing can be removed
                (folder / f"fast_import_crash_{process.pid}").unlink()

    def _parts(self) -> set[Path]:
        """Return the packs that are being written, by us or others, or were left by who died."""
        return set((self._repository.common_dir / "objects/pack").glob("tmp_pack_*"))

    def _process(self) -> subprocess.Popen[bytes]:
        if self._started is None:
            left = self._deadline - time.monotonic()
            self._packs = self._parts()
            self._started = self._repository.start(
                "fast-import", "--quiet", "--done", environment=self._environment
            )
            self._clock = threading.Timer(max(left, 0), self._started.kill)
            self._clock.daemon = True
            self._clock.start()
        return self._started

    def _write(self, data: bytes) -> None:
        stdin = self._process().stdin
        assert stdin is not None  # noqa: S101 - a pipe was asked for
        with self._failing():
            stdin.write(data)

    def _answer(self) -> str:
        process = self._process()
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        with self._failing():
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise BrokenPipeError
        return line.decode().strip()

    @contextlib.contextmanager
    def _failing(self) -> Generator[None]:
        """Turn the end of git into the sentence it said."""
        try:
            yield
        except (BrokenPipeError, ValueError):
            process = self._process()
            with contextlib.suppress(OSError, ValueError):
                process.stdin and process.stdin.close()
            warnings = process.stderr.read() if process.stderr else b""
            process.wait()
            raise self._refused(warnings) from None

    def _refused(self, warnings: bytes) -> CheckpointError:
        if time.monotonic() >= self._deadline:
            return CheckpointError("The checkpoint took too long, and was given up.")
        return CheckpointError(refusal("fast-import", warnings.decode("utf-8", "replace")))


def _is_in_use(path: Path) -> bool:
    """Say whether a file may be another's: open in a process, or not to be found out."""
    try:
        if path.lstat().st_uid != os.getuid():
            return True
        processes = [one for one in os.listdir("/proc") if one.isdigit()]  # noqa: PTH208
    except (OSError, AttributeError):
        return True
    for process in processes:
        with contextlib.suppress(OSError):  # it ended, or is another user's
            for entry in os.scandir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path) == str(path):  # noqa: PTH115
                        return True
    return False


def _quoted(path: bytes) -> bytes:
    path = path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + path + b'"'
