"""Zoos to use in turn, and accounts that are made up while other tests look at theirs."""

from __future__ import annotations

import contextlib
import queue
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from .kit import Account, account
from .zoo import Zoo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_AT_ONCE: Final = 3  # they wait more than they work


@pytest.fixture(scope="session")
def zoos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Zoos]]:
    """Lend zoos, plain or with TLS; each is one borrower's at a time."""
    made = Zoos(tmp_path_factory.mktemp("zoos"))
    yield made
    made.close()


class Zoos:
    """Zoos that nobody uses just now; one is made where there is none."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: list[Zoo] = []
        self._free: dict[bool, queue.SimpleQueue[Zoo]] = {
            tls: queue.SimpleQueue() for tls in (False, True)
        }

    @contextlib.contextmanager
    def lent(self, *, tls: bool = False) -> Iterator[Zoo]:
        """Give a zoo that has seen nothing, healthy, for the length of a block."""
        try:
            zoo = self._free[tls].get_nowait()
        except queue.Empty:
            zoo = Zoo(Path(tempfile.mkdtemp(dir=self._directory)), tls=tls)
            self._made.append(zoo)
        zoo.become("healthy")
        zoo.forget()
        try:
            yield zoo
        finally:
            self._free[tls].put(zoo)

    def close(self) -> None:
        """End them all."""
        for zoo in self._made:
            zoo.close()


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait for something to be so, for a while."""

    def wait(holds: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        ends = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < ends, f"no {what} in {seconds} s"
            time.sleep(0.02)

    return wait


@pytest.fixture
def zoo(zoos: Zoos) -> Iterator[Zoo]:
    """A healthy backend."""
    with zoos.lent() as found:
        yield found


@pytest.fixture
def zoo_tls(zoos: Zoos) -> Iterator[Zoo]:
    """A healthy backend that speaks TLS."""
    with zoos.lent(tls=True) as found:
        yield found


@pytest.fixture(scope="session")
def accounts(
    zoos: Zoos, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Account]]:
    """Return the account of a case; those of all cases that were chosen are begun at once."""
    pool = ThreadPoolExecutor(_AT_ONCE)
    directory = tmp_path_factory.mktemp("cases")
    begun: dict[object, Future[Account]] = {}

    def make(case: Any) -> Account:
        home = directory / f"{case.name}{'-tls' * case.tls}"
        with zoos.lent(tls=case.tls) as zoo:
            return account(zoo, home, case.beast, case.protocol, zero_code=case.zero_code)

    for item in request.session.items:
        if "accounts" in getattr(item, "fixturenames", ()):
            case = item.callspec.params["case"]
            if case not in begun:
                begun[case] = pool.submit(make, case)
    yield lambda case: begun[case].result()
    pool.shutdown(cancel_futures=True)
