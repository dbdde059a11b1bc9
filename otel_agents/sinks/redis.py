"""The KPIs by hour and by day in Redis, where any program can get them by a key.

    metrics:hourly:2026-11-21T17:00:00    for 7 days
    metrics:daily:2026-11-21              for 30 days

Hours and days are UTC's, by the time of the events; a value is JSON, with the six KPIs and what
they are made from under "counts" (docs/reference/kpis.md). They are written after 100 events,
every 5 seconds and at the end, and are exact however many processes write: see `redis_bucket`.
While Redis is away events stay counted here, and are written once when it is back. The two keys
of a bucket need to be on one server, so a Redis Cluster is no place for them.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - redis wants it, and it cannot be had at exit
import contextlib
import os
import random
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from otel_agents.boundary import boundary, caught
from otel_agents.errors import SettingsError
from otel_agents.sinks.redis_bucket import PUT, SHOW, Bucket
from otel_agents.state.kpis import Kpis
from otel_agents.state.kpis_buckets import DAY, HOUR, hour_of, start_of
from otel_agents.state.kpis_signals import counted_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis import Redis

    from otel_agents.signals import Signal
    from otel_agents.workspace import Workspace

HOUR_LIFE: Final = 7 * DAY  # seconds, as that of days
DAY_LIFE: Final = 30 * DAY
FLUSH_EVENTS: Final = 100
_TIMEOUT: Final = 1.0  # of connecting, and of every answer
_CLOSE_SECONDS: Final = 1.0
_FIRST_PAUSE: Final = 0.25
_LAST_PAUSE: Final = 30.0
_QUIET_SECONDS: Final = 60.0
_ROUNDS: Final = 5
_AT_ONCE: Final = 8  # buckets in a request, so that each is answered well within the time-out
_KEEP_OWN: Final = 2 * DAY  # how long we can restore what a Redis has lost
_TAKES: Final = "redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH"


class RedisSink:
    """Counts events into the KPIs of their hours and days, and keeps these in Redis.

    `dropped`, where it is set, is called with a reason and a number of events that could not be
    written before their hour's life was over.
    """

    name = "redis"
    every = 5.0

    def __init__(self, url: str, dropped: Callable[[str, int], None] | None = None) -> None:
        self.where = _checked(url)
        self.dropped = dropped
        self._url = url
        self._begin()
        # It takes 0.3 s, which neither the program nor the end of a short one has to spare.
        threading.Thread(target=_warm, name="otel-agents-redis-import", daemon=True).start()

    def _begin(self) -> None:
        """Begin with nothing, as this process and no other."""
        self._pid = os.getpid()
        self._client: Redis | None = None
        self._pending: dict[str, Kpis] = {}  # by hour
        self._unflushed = 0
        self._buckets: dict[str, Bucket] = {}
        self._try_again = self._pause = 0.0
        self._said = -_QUIET_SECONDS

    def write(self, signals: Sequence[Signal]) -> None:
        """Count the signals that are events; write to Redis where a hundred have come together."""
        self._in_this_process()
        for signal in signals:
            event = counted_of(signal)
            if event is None:
                continue
            hour = hour_of(event.time)
            kpis = self._pending.get(hour)
            if kpis is None:
                self._pending[hour] = kpis = Kpis()
            kpis.apply(event)
            self._unflushed += 1
        if self._unflushed >= FLUSH_EVENTS and time.monotonic() >= self._try_again:
            self._flush()

    def tick(self) -> None:
        """Write to Redis what is not there yet."""
        self._in_this_process()
        if time.monotonic() >= self._try_again:
            self._flush()

    def flush(self) -> None:
        """Write to Redis what is not there yet: somebody waits for it."""
        self.tick()

    def close(self) -> None:
        """Write what is left, for a second at most, and let go of the connection."""
        self._in_this_process()
        for name in sorted(filter(_is_day, self._buckets))[-1:]:
            self._buckets[name].dirty = True  # Redis may have lost what it had since we last asked
        # A name server that does not answer is not bound by any time-out of a socket.
        last = threading.Thread(target=self._last, name="otel-agents-redis-close", daemon=True)
        try:
            last.start()
        except RuntimeError:  # the interpreter is ending
            self._last()
        else:
            last.join(_CLOSE_SECONDS)

    def _last(self) -> None:
        try:
            self._flush()
        except Exception as error:  # noqa: BLE001 - nobody is left to raise it to
            self._say("otel-agents: the last KPIs are not in Redis at %s: %s", error)
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _in_this_process(self) -> None:
        if self._pid != os.getpid():
            # What a forked child finds is its parent's to write, and so is the connection.
            self._begin()

    # ------------------------------------------------------------------ to Redis

    def _flush(self) -> None:
        """Bring all to Redis; keep it, and try again later, where that does not take it."""
        try:
            self._exchange()
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing is lost by it
            self._pause = min(_LAST_PAUSE, self._pause * 2 or _FIRST_PAUSE)
            self._try_again = time.monotonic() + self._pause * random.uniform(0.8, 1.2)  # noqa: S311
            if not _is_away(error):
                caught("sink redis", error)
                return
            self._say("otel-agents: Redis at %s does not take KPIs, which wait for it: %s", error)
        else:
            self._pause = self._try_again = 0.0

    def _exchange(self) -> None:
        self._drop_old()
        for _ in range(_ROUNDS):
            self._seal()
            dirty = [name for name, bucket in self._buckets.items() if bucket.dirty]
            for first in range(0, len(dirty), _AT_ONCE):
                self._bring([self._buckets[name] for name in dirty[first : first + _AT_ONCE]])
            if not self._unflushed and not any(one.dirty for one in self._buckets.values()):
                break
        self._forget()

    def _seal(self) -> None:
        """Make what is pending of an hour an entry of it and of its day.

        While Redis is away entries would pile up, so there is one at most of the latest hours.
        """
        latest = sorted(self._pending)[-2:]
        for hour in list(self._pending):
            bucket = self._bucket(f"hourly:{hour}", HOUR_LIFE, HOUR)
            if hour in latest and bucket.waiting:
                continue
            kpis = self._pending.pop(hour)
            self._unflushed -= kpis.events
            state = kpis.to_bytes()
            bucket.add(state)
            self._bucket(f"daily:{hour[:10]}", DAY_LIFE, DAY).add(state)

    def _bucket(self, name: str, life: int, length: int) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            end = start_of(name.partition(":")[2]) + length
            self._buckets[name] = bucket = Bucket(name, life, end)
        return bucket

    def _bring(self, buckets: list[Bucket]) -> None:
        """Add what is ours to buckets in Redis, and show the KPIs of what they are then."""
        requests = [(PUT, [one.companion], one.put()) for one in buckets]
        kept = [one.took(answer) for one, answer in zip(buckets, self._eval(requests), strict=True)]
        if not all(kept):
            for one in self._buckets.values():
                one.dirty = True  # what is lost of one is lost of others
        now = time.time()
        current = [one for one, whole in zip(buckets, kept, strict=True) if whole]
        requests = [(SHOW, [one.companion, one.key], one.show(now)) for one in current]
        for one, shown in zip(current, self._eval(requests), strict=True):
            one.dirty = not shown or bool(one.waiting)

    def _eval(self, requests: list[tuple[str, list[str], list[Any]]]) -> list[Any]:
        """Run scripts in one round trip; their text goes along, as a new server knows none."""
        if not requests:
            return []
        if self._client is None:
            self._client = _connected(self._url)
        pipeline = self._client.pipeline(transaction=False)
        for script, keys, arguments in requests:
            pipeline.eval(script, len(keys), *keys, *arguments)
        return pipeline.execute()

    def _drop_old(self) -> None:
        """Let go of hours and days whose life is over."""
        earliest = hour_of(time.time() - HOUR_LIFE)
        lost = 0
        for hour in [hour for hour in self._pending if hour < earliest]:
            events = self._pending.pop(hour).events
            self._unflushed -= events
            lost += events
        for name, bucket in list(self._buckets.items()):
            if bucket.end + bucket.life < time.time():
                del self._buckets[name]
                if not _is_day(name):
                    states = [Kpis.from_bytes(entry.state) for entry in bucket.waiting]
                    lost += sum(kpis.events for kpis in states)
        if lost:
            if self.dropped is not None:
                self.dropped("too old", lost)
            self._say("otel-agents: Redis at %s has no room for %s events of over 7 days ago", lost)

    def _forget(self) -> None:
        """Keep the views of the latest buckets, and what is ours of the latest days."""
        names = sorted(self._buckets)
        latest = {
            *[n for n in names if _is_day(n)][-2:],
            *[n for n in names if not _is_day(n)][-2:],
        }
        oldest = time.time() - _KEEP_OWN
        for name in names:
            bucket = self._buckets[name]
            if name not in latest:
                bucket.forget()
                if bucket.end < oldest and not bucket.dirty:
                    del self._buckets[name]

    def _say(self, message: str, what: object) -> None:
        """Say something, once a minute at most, and without the password."""
        now = time.monotonic()
        if now - self._said < _QUIET_SECONDS:
            return
        self._said = now
        said = f"{type(what).__name__}: {what}" if isinstance(what, Exception) else str(what)
        secret = urlsplit(self._url).password
        if secret:
            said = said.replace(secret, "***").replace(unquote(secret), "***")
        boundary.warn(message, self.where, said)


def _warm() -> None:
    """Import the package ahead of its use."""
    with contextlib.suppress(Exception):  # it will be said where it is used
        import redis  # noqa: F401


def _is_day(name: str) -> bool:
    return name.startswith("daily:")


def _is_away(error: Exception) -> bool:
    """Return whether it is Redis or the way to it that failed, rather than we."""
    from redis import RedisError

    return isinstance(error, RedisError | OSError)


def _checked(url: str) -> str:
    """Return what a URL names, without user and password; raises SettingsError where nothing."""
    if find_spec("redis") is None:
        message = "KPIs in Redis need one more package: pip install 'otel-agents[redis]'."
        raise SettingsError(message)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme == "unix" and parts.path.strip("/"):
        return f"unix://{parts.path}"
    database = parts.path.strip("/")
    known = url.startswith(("redis://", "rediss://"))
    if not known or not parts.scheme or (database and not database.isdecimal()):
        message = f"A URL of the sink redis: names no Redis; use {_TAKES}."
        raise SettingsError(message)
    return f"{parts.scheme}://{parts.hostname or 'localhost'}:{port or 6379}/{database or 0}"


def _connected(url: str) -> Redis:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # Trying again is ours to do: it would multiply the time-outs.
    return Redis.from_url(
        url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, retry=Retry(NoBackoff(), 0)
    )


def make(url: str, _workspace: Workspace | None = None) -> RedisSink:
    """Return the sink of a `redis:`, `rediss:` or `unix:` URL."""
    return RedisSink(url)
