"""The event file on a disk that is full, after a crash, and with several processes at it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.event_types import Event
from otel_agents.sinks.events import line_of
from otel_agents.sinks.lines import LineFile

from .conftest import PATIENCE, by_emitter, environment, events_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Program, Started

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits and signals of POSIX")

# A limit on the size of files is a disk that is full: a write is taken in part, then refused.
_FULL = """
    import json, resource, sys
    from pathlib import Path
    from otel_agents import emit_event, get_emitter, runtime
    from otel_agents.metrics import Metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry import metrics

    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    room, before, during, after = map(int, sys.argv[1:])
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    file = Path("logs/agent-events.jsonl")

    def tell(first, last):
        for n in range(first, last):
            payload = {"scope": "day", "limit": 9, "spent": 8, "emitter": "it", "n": n}
            emit_event("budget_warning", payload)

    class Beside:
        name, count, linger = "beside", 0, 0.0
        def write(self, signals): self.count += len(signals)
        def close(self): pass

    beside = Beside()
    pipeline = runtime.get().open_events()
    pipeline.add(beside)
    tell(0, before)
    assert get_emitter().flush(90)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + room, hard))
    for first in range(before, before + during, 5000):
        tell(first, min(first + 5000, before + during))
        pipeline.catch_up(30)  # so that it is the sink's queue that is full, and no other
    print(get_emitter().flush(0.2), flush=True)
    said = get_emitter().get_metrics()["counts"]["events"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    tell(before + during, before + during + after)
    assert get_emitter().flush(90)
    dropped = {}
    for resource_ in reader.get_metrics_data().resource_metrics:
        for scope in resource_.scope_metrics:
            for metric in scope.metrics:
                if metric.name == "otelagents.telemetry.dropped":
                    for point in metric.data.data_points:
                        key = "/".join(map(str, point.attributes.values()))
                        dropped[key] = dropped.get(key, 0) + point.value
    print(json.dumps({"beside": beside.count, "counted": said, "dropped": dropped}))
"""


@pytest.mark.parametrize("room", [0, 1, 130, 5000])
def test_what_a_full_disk_does_not_take_is_written_when_there_is_room(
    program: Program, tmp_path: Path, room: int
) -> None:
    """Each once, in order, no line torn, whatever part of a line the disk took; nothing is lost."""
    done = program(_FULL, str(room), "10", "1000", "10")

    assert done.returncode == 0, done.stderr
    flushed, said = done.stdout.splitlines()
    assert flushed == "False"
    assert json.loads(said) == {"beside": 1020, "counted": 1010, "dropped": {}}
    payloads = [one["payload"] for one in events_in(tmp_path / "logs")]
    assert by_emitter(payloads) == {"it": list(range(1020))}
    assert "agent-events.jsonl" in done.stderr  # it says what cannot be written


def test_what_does_not_fit_into_memory_either_is_counted(program: Program, tmp_path: Path) -> None:
    """Of 25,000 events during which the disk is full, those that are missing are those counted."""
    done = program(_FULL, "1000", "10", "25000", "0")

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[1])
    assert said["beside"] == 25010
    assert said["counted"] == 25010
    payloads = [one["payload"] for one in events_in(tmp_path / "logs")]
    numbers = by_emitter(payloads)["it"]
    assert numbers == sorted(set(numbers))
    assert said["dropped"] == {"events/queue full": 25010 - len(numbers)}
    assert len(numbers) > 20_000


def test_a_device_that_is_full_costs_the_program_nothing(program: Program) -> None:
    """/dev/full refuses every write: the program ends as it would, and hears of the loss."""
    done = program(
        """
        from otel_agents import emit_event, get_emitter
        for n in range(100):
            emit_event("budget_warning", {"scope": "day", "limit": 9, "spent": 8})
        get_emitter().flush(0.5)
        print(get_emitter().get_metrics()["counts"]["events"])
        """,
        OTEL_AGENTS_SINKS="events:/dev/full",
    )

    assert (done.returncode, done.stdout) == (0, "100\n"), done.stderr
    assert done.stderr.count("No space left on device") == 1
    assert "lost 100 signals" in done.stderr


def test_a_torn_line_of_a_crash_does_not_swallow_the_next(tmp_path: Path) -> None:
    """The torn line stays a line of its own, whatever it was cut to."""
    path = tmp_path / "agent-events.jsonl"
    one = Event(id="1", type="budget_warning", time=1.5, run_id=None, payload={"n": 1})
    whole = line_of(one)
    for length in range(1, len(whole)):
        path.write_bytes(whole + whole[:length])
        file = LineFile(path, max_bytes=1 << 20, keep=1)
        file.append([whole, whole])
        file.close()

        assert path.read_bytes() == whole + whole[:length] + b"\n" + whole + whole


def test_a_program_that_is_killed_leaves_whole_lines(
    started: Callable[..., Started], tmp_path: Path
) -> None:
    """Killed three times in the middle of it, a file has whole lines, each event at most once."""
    for number in range(3):
        one = started(
            """
            import itertools, sys, time
            from otel_agents import emit_event, get_emitter
            for n in itertools.count():
                payload = {"scope": "day", "limit": 9, "spent": 8, "emitter": sys.argv[1], "n": n}
                emit_event("budget_warning", payload)
                if n % 100 == 0:
                    get_emitter().flush(90)
                    print(n, flush=True)
            """,
            str(number),
        )
        while int(one.says()) < 500:
            pass
        one.send(signal.SIGKILL)
        one.end()

    numbers = by_emitter([one["payload"] for one in events_in(tmp_path / "logs")])
    assert sorted(numbers) == ["0", "1", "2"]
    for found in numbers.values():
        assert found == list(range(len(found)))
        assert len(found) > 500


_ROTATING = """
    import sys
    from otel_agents.sinks import events
    events.MAX_BYTES, events.KEEP = int(sys.argv[2]), int(sys.argv[3])
    from otel_agents import emit_event, get_emitter
    get_emitter().flush()
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(2500):
        payload = {"scope": "day", "limit": 9, "spent": 8, "emitter": sys.argv[1], "n": n}
        emit_event("budget_warning", payload)
        if n % 20 == 0:
            assert get_emitter().flush(90)
"""


def _write_together(started: Callable[..., Started], *arguments: str) -> None:
    running = [started(_ROTATING, str(number), *arguments) for number in range(4)]
    for one in running:
        assert one.says() == "ready"
    for one in running:
        one.go_on()
    for one in running:
        assert one.end() == (0, "")


def test_rotation_by_four_processes_loses_no_line(
    started: Callable[..., Started], tmp_path: Path
) -> None:
    """10,000 events of four processes over dozens of files: each once, in order of its process."""
    _write_together(started, "20000", "1000")

    logs = tmp_path / "logs"
    events = events_in(logs)
    assert len(list(logs.glob("agent-events-*.jsonl"))) > 30
    numbers = by_emitter([one["payload"] for one in events])
    assert {name: sorted(found) for name, found in numbers.items()} == {
        str(number): list(range(2500)) for number in range(4)
    }
    assert not list(logs.glob("*.lock"))


def test_rotation_keeps_so_many_files(started: Callable[..., Started], tmp_path: Path) -> None:
    """Four processes leave the files that are to be kept, about as large, with the last events."""
    _write_together(started, "20000", "4")

    files = list((tmp_path / "logs").glob("agent-events-*.jsonl"))
    assert len(files) == 4
    assert all(20_000 < one.stat().st_size < 40_000 for one in files)
    numbers = by_emitter([one["payload"] for one in events_in(tmp_path / "logs")])
    assert max(number for found in numbers.values() for number in found) == 2499


def test_a_rotation_that_cannot_be_made_loses_no_line(program: Program, tmp_path: Path) -> None:
    """Where the directory takes no new file, the old one grows, and nothing is counted as lost."""
    done = program(
        """
        import os, sys
        from pathlib import Path
        from otel_agents.sinks import events, lines
        events.MAX_BYTES = 1000
        from otel_agents import emit_event, get_emitter
        made = os.open
        def full(path, flags, *rest, **more):
            if str(path).endswith(".lock"):
                raise OSError(28, "No space left on device")
            return made(path, flags, *rest, **more)
        lines.os.open = full  # no inode is left; as root a directory cannot be made read-only
        for n in range(100):
            payload = {"scope": "day", "limit": 9, "spent": 8, "emitter": "it", "n": n}
            emit_event("budget_warning", payload)
            assert get_emitter().flush(90)
        """
    )

    assert done.returncode == 0, done.stderr
    numbers = by_emitter([one["payload"] for one in events_in(tmp_path / "logs")])
    assert numbers == {"it": list(range(100))}
    assert "lost" not in done.stderr


def test_a_process_that_opens_the_file_while_another_writes_leaves_no_empty_line(
    tmp_path: Path,
) -> None:
    """What another process has half written is no torn line of a crash."""
    path = tmp_path / "agent-events.jsonl"
    source = textwrap.dedent("""
        import sys
        from pathlib import Path
        from otel_agents.sinks.lines import LineFile
        for number in range(int(sys.argv[3])):
            file = LineFile(Path(sys.argv[1]), max_bytes=1 << 40, keep=1)
            file.append([b"%d\\n" % number * int(sys.argv[2])])
            file.close()
    """)
    running = [
        subprocess.Popen(  # noqa: S603 - the test's own program
            [sys.executable, "-c", source, str(path), *arguments], env=environment(tmp_path)
        )
        for arguments in (("1000000", "20"), ("1", "3000"))
    ]
    for one in running:
        assert one.wait(PATIENCE) == 0

    lines = path.read_bytes().splitlines()
    assert lines.count(b"") == 0
    assert len(lines) == 20 * 1_000_000 + 3000


def test_an_event_file_that_is_removed_is_made_anew(program: Program, tmp_path: Path) -> None:
    """Who cleans up, or rotates by other means, gets the next events in a new file."""
    done = program(
        """
        import shutil
        from otel_agents import emit_event, get_emitter
        for n in range(3):
            payload = {"scope": "day", "limit": 9, "spent": 8, "emitter": "it", "n": n}
            emit_event("budget_warning", payload)
            assert get_emitter().flush(90)
            if n < 2:
                shutil.rmtree("logs")
        """
    )

    assert (done.returncode, done.stderr) == (0, "")
    payloads: list[dict[str, Any]] = [one["payload"] for one in events_in(tmp_path / "logs")]
    assert by_emitter(payloads) == {"it": [2]}
