"""One hour's or day's KPIs in Redis, to which many processes add and which each can show.

Beside the value that readers get there is a companion key, a hash: a log of what the writers
counted, in one order, and a state that stands for the beginning of that log.

- A writer numbers what it adds. The hash knows the last number of each, so that what is sent
  again, since the answer was lost, is not counted again; and a writer that finds a lower number
  than it knows of sees that Redis lost data, and adds what is missing of its own.
- A writer that has merged the log up to some version shows the KPIs of that version. A version
  older than the one shown is not shown, so nobody has to wait or to try again for another.
- What its reader knows, by version and by the name of the entry there, needs not be sent again.

Both scripts run alone in the server. All is in one key, which lives and is lost as a whole.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agents.state.kpis import Kpis

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMPANION: Final = "otelagents:kpis:1:"
"""Before the name of a bucket; with the version of what is kept there."""
_KEPT_APART: Final = 100  # entries of ours: Redis may lose the latest and have those before
_FOR_OTHERS: Final = 32  # entries that stay when a state stands for them: others need just these
_STATE_FROM: Final = 64 * 1024  # bytes of the log that are always kept apart

_COMMON: Final = """
local key = KEYS[1]
local function number(field) return tonumber(redis.call('HGET', key, field) or 0) end
local version, base, floor = number('version'), number('base'), number('floor')
local function name(of)
  if of == base then return redis.call('HGET', key, 'name') or '' end
  local entry = redis.call('HGET', key, 'entry:' .. of)
  return entry and string.match(entry, '^[^\\n]*') or ''
end
"""
# Adds a writer's entries and returns what it does not know yet.
PUT: Final = (
    _COMMON
    + """
local life, writer, known, known_name = ARGV[1], ARGV[2], tonumber(ARGV[4]), ARGV[5]
local mine = number('writer:' .. writer)
if mine >= tonumber(ARGV[3]) then
  for i = 6, #ARGV, 2 do
    if tonumber(ARGV[i]) > mine then
      version, mine = version + 1, tonumber(ARGV[i])
      redis.call('HSET', key, 'entry:' .. version, writer .. ':' .. mine .. '\\n' .. ARGV[i + 1],
        'version', version, 'writer:' .. writer, mine)
      redis.call('HINCRBY', key, 'size', #ARGV[i + 1])
    end
  end
  redis.call('EXPIRE', key, life)
end
local there = known == base or (known > floor and known <= version)
local anew = not there or name(known) ~= known_name
local answer = {mine, version, name(version), number('size'), redis.call('HSTRLEN', key, 'state'),
  anew and (redis.call('HGET', key, 'state') or '{}') or ''}
for v = (anew and base or known) + 1, version do
  answer[#answer + 1] = redis.call('HGET', key, 'entry:' .. v)
end
return answer
"""
)
# Shows the KPIs of a version; with a state, that takes the place of the log up to there.
SHOW: Final = (
    _COMMON
    + """
local shown, life, state = tonumber(ARGV[1]), ARGV[4], ARGV[5]
if base > shown then return 1 end
if shown > version or name(shown) ~= ARGV[2] then return 0 end
if shown >= number('shown') then
  redis.call('SET', KEYS[2], ARGV[3], 'EX', life)
  redis.call('HSET', key, 'shown', shown)
end
if state ~= '' and shown > base then
  local freed = 0
  for v = base + 1, shown do
    local entry = redis.call('HGET', key, 'entry:' .. v)
    freed = freed + #entry - string.find(entry, '\\n', 1, true)
  end
  for v = floor + 1, shown - tonumber(ARGV[6]) do
    redis.call('HDEL', key, 'entry:' .. v)
    floor = v
  end
  redis.call('HSET', key, 'state', state, 'base', shown, 'name', ARGV[2], 'floor', floor)
  redis.call('HINCRBY', key, 'size', -freed)
end
redis.call('EXPIRE', key, life)
return 1
"""
)


class Entry(msgspec.Struct, frozen=True):
    """What a writer counted: the state of its entries with the numbers `after` + 1 to `last`."""

    after: int
    last: int
    state: bytes


class Bucket:
    """A writer's side of an hour or day: what it counted itself, and what it knows of all."""

    def __init__(self, name: str, life: int, end: float) -> None:
        # A name of its own: one that begins to count anew must not be taken for a repeat.
        self._writer = os.urandom(8).hex()
        self.key = f"metrics:{name}"
        self.companion = f"{_COMPANION}{name}"
        self.life = life
        self.end = end
        self.dirty = False
        self._own: list[Entry] = []
        self._taken = 0  # the number of our last entry that is in Redis
        self.forget()

    def forget(self) -> None:
        """Keep no more of the others than what Redis has; it is read again when needed."""
        self._view: Kpis | None = None
        self._version = -1
        self._name = b""
        self._compact = False

    def add(self, state: bytes) -> None:
        """Have one more state of ours to be written."""
        last = self._own[-1].last if self._own else 0
        self._own.append(Entry(last, last + 1, state))
        self.dirty = True
        self._shorten()

    @property
    def waiting(self) -> list[Entry]:
        """What of ours is not in Redis, as far as is known.

        What Redis lost in part of entries that were since made one cannot be told apart; it is
        left out rather than counted twice.
        """
        return [entry for entry in self._own if entry.after >= self._taken]

    def put(self) -> list[Any]:
        """Return the arguments of `PUT`."""
        entries = [part for entry in self.waiting for part in (entry.last, entry.state)]
        return [self.life, self._writer, self._taken, self._version, self._name, *entries]

    def took(self, answer: Sequence[Any]) -> bool:
        """Read the answer to `PUT`; False where Redis has lost what it had of ours."""
        mine, version, name, size, state_size, state, *entries = answer
        kept: bool = mine >= self._taken
        self._taken = mine
        if not kept:
            self.dirty = True
        view, self._view = self._view, None  # not left behind half merged
        if state or view is None:
            view = Kpis.from_bytes(state or b"{}")
        for entry in entries:
            view.merge(Kpis.from_bytes(entry.partition(b"\n")[2]))
        self._view, self._version, self._name = view, version, name
        self._compact = size > _STATE_FROM + state_size
        return kept

    def show(self, now: float) -> list[Any]:
        """Return the arguments of `SHOW`; the window of a bucket ends with it at the latest."""
        view = self._view or Kpis()
        value = msgspec.json.encode(view.reading(min(now, self.end)))
        state = view.to_bytes() if self._compact else b""
        return [self._version, self._name, value, self.life, state, _FOR_OTHERS]

    def _shorten(self) -> None:
        """Make the oldest entries that are in Redis one, when they are as large as what was one."""
        apart = self._own[1:-_KEPT_APART]
        if len(apart) < _KEPT_APART or apart[-1].last > self._taken:
            return
        if sum(len(entry.state) for entry in apart) < len(self._own[0].state):
            return
        whole = Kpis.from_bytes(self._own[0].state)
        for entry in apart:
            whole.merge(Kpis.from_bytes(entry.state))
        one = Entry(self._own[0].after, apart[-1].last, whole.to_bytes())
        self._own = [one, *self._own[-_KEPT_APART:]]
