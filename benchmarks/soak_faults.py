"""Faults at random moments, each printed: a kill of the server or of a program, a stop, a refusal.

They follow from a seed, but for what the machine makes of them.
"""

from __future__ import annotations

import signal
import threading
import time
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from soak_parts import Agents, Relay, Server

KINDS: Final = ("kill the server", "kill an agent program", "stop the server", "refuse the port")
_BEGIN, _END = 0.06, 0.9  # the part of the time in which faults begin


class Fault(NamedTuple):
    """A fault: when it begins, and for how long it lasts, in seconds."""

    at: float
    kind: str
    lasts: float


def planned(seconds: float, seed: int) -> list[Fault]:
    """Return the faults of a soak of so many seconds: of each kind about as many.

    Four at least; one a minute in ten minutes, 20 in an hour, evenly spread, so that processes live
    for long enough to show whether they grow.
    """
    chance = Random(seed)  # noqa: S311 - to be repeatable
    count = int(max(4, min(10, seconds // 60)) + max(0, (seconds - 600) // 300))
    slot = seconds * (_END - _BEGIN) / count
    longest = min(20.0, slot / 4)
    found: list[Fault] = []
    for number in range(count):
        if number % len(KINDS) == 0:
            kinds = chance.sample(KINDS, len(KINDS))
        at = seconds * _BEGIN + slot * (number + chance.uniform(0, 0.5))
        lasts = chance.uniform(longest / 4, longest)
        found.append(Fault(at, kinds[number % len(KINDS)], lasts))
    return found


class Faults(threading.Thread):
    """Brings faults about, one after the other; `follow` gets the name of each new process.

    Attributes:
        done: The faults that were brought about, with what is to be said of each.
        failure: What went wrong with it, if anything.

    """

    def __init__(
        self,
        plan: list[Fault],
        server: Server,
        victim: Agents,
        relay: Relay,
        follow: Callable[[str], None],
    ) -> None:
        super().__init__(daemon=True)
        self.done: list[dict[str, Any]] = []
        self.failure: BaseException | None = None
        self._plan = plan
        self._server, self._victim, self._relay = server, victim, relay
        self._follow = follow
        self._over = threading.Event()

    def run(self) -> None:
        """Bring all about."""
        begun = time.monotonic()
        try:
            for fault in self._plan:
                if self._over.wait(max(0.0, begun + fault.at - time.monotonic())):
                    return
                at = time.monotonic() - begun
                print(f"{at:7.1f} s  {fault.kind}, for {fault.lasts:.1f} s", flush=True)
                self._bring(fault)
                lasted = time.monotonic() - begun - at
                self.done.append({"at": at, "kind": fault.kind, "seconds": lasted})
        except BaseException as error:  # noqa: BLE001 - who joins it raises it
            self.failure = error

    def end(self) -> None:
        """Begin no more of them, and wait for what is under way to be over."""
        self._over.set()
        self.join()
        if self.failure is not None:
            raise self.failure

    def _bring(self, fault: Fault) -> None:
        if fault.kind == "kill the server":
            self._server.end(signal.SIGKILL)
            time.sleep(fault.lasts)
            self._server.start()
        elif fault.kind == "kill an agent program":
            self._victim.end(signal.SIGKILL)
            time.sleep(fault.lasts)
            self._follow(self._victim.start())
        elif fault.kind == "stop the server":
            self._server.signal(signal.SIGSTOP)
            time.sleep(fault.lasts)
            self._server.signal(signal.SIGCONT)
        else:
            self._relay.refuse()
            time.sleep(fault.lasts)
            self._relay.listen()
