"""Leases: the interest of steps in a run, and the names of their holders.

Each step renews its own lease while it waits; Redis's clock counts.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from functools import cache
from pathlib import Path

import redis

from anyvar_step.runs.connection import now
from anyvar_step.runs.keys import meta_key, step_key

#: Seconds for which a step's lease on a run stands without being renewed.
LEASE_SECONDS = 90
#: The holder of the lease on a run that was submitted without waiting for it: it ends with the collection.
DETACHED = "detached"
#: Seconds for which the leases of a run are kept, all together.
KEPT_SECONDS = 14 * 86_400

#: A Lua function: removes a holder's lease and the expired ones, and returns how many stand.
RELEASE_LEASE = """
local function release_lease(key, holder)
  local time = redis.call('TIME')
  redis.call('ZREM', key, holder)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', time[1] + time[2] / 1e6)
  return redis.call('ZCARD', key)
end
"""
#: KEYS: leases, result. ARGV: holder, seconds or "inf", seconds for which the leases are kept.
_ACQUIRE = """
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
local time = redis.call('TIME')
local expires = ARGV[2] == 'inf' and '+inf' or time[1] + time[2] / 1e6 + ARGV[2]
redis.call('ZADD', KEYS[1], expires, ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
#: KEYS: leases. ARGV: holder.
_RELEASE = f"{RELEASE_LEASE} return release_lease(KEYS[1], ARGV[1])"


class Leases:
    """The leases in one result backend, over the connection of RunState."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._acquire, self._release = client.register_script(_ACQUIRE), client.register_script(_RELEASE)

    def acquire(self, run_id: str, holder: str) -> bool:
        """Take a lease for LEASE_SECONDS, or renew it; without end for DETACHED.

        False where the run has no state: another step has forgotten it, or it has expired.
        """
        seconds = "inf" if holder == DETACHED else LEASE_SECONDS
        keys = [step_key("leases", run_id), meta_key(run_id)]
        return bool(self._acquire(keys, [holder, seconds, KEPT_SECONDS]))

    def holders(self, run_id: str) -> list[str]:
        """The holders of leases on the run, expired ones included."""
        return [str(holder) for holder in self._redis.zrange(step_key("leases", run_id), 0, -1)]

    def release(self, run_id: str, holder: str) -> bool:
        """End the holder's lease; whether no lease stands now.

        Whoever ends the run with its last lease uses ``RunState.forget`` or ``RunState.cancel``, which do
        both at once.
        """
        return int(self._release([step_key("leases", run_id)], [holder])) == 0

    def expired_for(self, run_id: str) -> float:
        """Seconds since the last lease on the run expired; 0 while one stands, and where there never was one.

        AnyVar's web API takes none: its runs go on whatever happens.
        """
        last = self._redis.zrange(step_key("leases", run_id), -1, -1, withscores=True)
        return max(0.0, now(self._redis) - float(last[0][1])) if last else 0.0


# -- holders: by its name a step knows which leases its own killed predecessors left --------------------

#: Hashes of the output's path and of the host, then the process's number and the tick at which it began.
_NAME = re.compile(r"([0-9a-f]{16})([0-9a-f]{16})p([0-9]{1,9})s([0-9]{1,18})")


def holder_for(output: Path) -> str:
    """The name of this process as the one that writes ``output``: letters and digits, as a header has."""
    began = _began(os.getpid())
    name = f"{_hash(str(output.absolute()))}{_host()}p{os.getpid()}s{began}"
    return name if began else secrets.token_hex(8)


def is_predecessor(other: str, holder: str) -> bool:
    """Whether ``other`` wrote the path of ``holder``, from the same host, and is no more.

    It was killed, or left its run for the next call. What ended on another host cannot be seen from here.
    """
    ours, theirs = _NAME.fullmatch(holder), _NAME.fullmatch(other)
    if ours is None or theirs is None or ours.group(1, 2) != theirs.group(1, 2):
        return False
    return not _lives(int(theirs[3]), theirs[4])


def _lives(pid: int, began: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, whose /proc may be hidden
        return True
    return _began(pid) == began


def _began(pid: int) -> str:
    """When that process began, in ticks of the kernel; empty where it is dead or there is no /proc."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]


@cache
def _host() -> str:
    """The host since it booted, and the namespace of its process numbers: a container has its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return _hash(f"{boot} {Path('/proc/self/ns/pid').readlink()}")
    except OSError:
        return secrets.token_hex(8)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
