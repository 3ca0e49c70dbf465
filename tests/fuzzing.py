"""What the fuzz tests share: how many cases, from which seed, the changes to a sample, and what may come out.

``FUZZ_CASES=20000 FUZZ_SEED=7 pytest --timeout 0 tests/unit/test_fuzz_*.py`` is a campaign; a case
that fails says its seed, and the same seed makes it again.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from anyvar_step.errors import StepError

#: Cases of each quick test; slow ones take a part of them.
CASES = int(os.environ.get("FUZZ_CASES", "150"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
#: Seconds of processor time after which a case hangs: a busy machine does not count.
DEADLINE = 10.0

NUMBERS = (
    b"0",
    b"-1",
    b"255",
    b"65536",
    b"4294967296",
    b"9223372036854775808",
    b"9" * 5000,
    b"1e999",
    b"NaN",
)
WORDS = (b"", b"\0", b"\r\n", b"\n", b"\t", b"\xff\xfe", b'"', b"<", b",", b"=", b";", b"#", b"../", b"%00")
DEEP = b"[" * 100_000
#: JSON values that are another type, too large, no Unicode, or too deep.
VALUES = (
    *(
        None,
        True,
        0,
        -1,
        10**30,
        10**400,
        1e308,
        float("nan"),
        float("inf"),
        float("-inf"),
        "",
        "\0",
        "\ud800",
    ),
    *("../../etc/passwd", "x" * 300, "9" * 5000, [], {}, [[]], ["a", 1], {"a": {"b": []}}),
)


class Hang(BaseException):
    """The case took longer than it may."""


@contextmanager
def deadline(seconds: float = DEADLINE) -> Iterator[None]:
    """Raise Hang in what uses more processor time; pytest's own timeout ends what waits for ever."""

    def late(*_: object) -> None:
        raise Hang(f"no end after {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def mutated(draw: random.Random, data: bytes, words: Sequence[bytes] = ()) -> bytes:
    """The bytes with one to four changes, of which none, one or many may matter."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        data = draw.choice(_CHANGES)(draw, data, (*WORDS, *NUMBERS, *words))
    return data


def _flip(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def _overwrite(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _slice(draw, data)
    return data[:start] + draw.randbytes(end - start) + data[end:]


def _insert(draw: random.Random, data: bytes, words: Sequence[bytes]) -> bytes:
    at = draw.randint(0, len(data))
    return data[:at] + draw.choice(words) + data[at:]


def _cut(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _slice(draw, data)
    return data[:start] + data[end:]


def _truncate(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: draw.randint(0, len(data))]


def _repeat(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _slice(draw, data)
    return data[:end] + data[start:end] * draw.choice((1, 2, 50)) + data[end:]


def _renumber(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    found = list(re.finditer(rb"\d+", data))
    if not found:
        return data
    match = draw.choice(found)
    return data[: match.start()] + draw.choice(NUMBERS) + data[match.end() :]


_CHANGES = (_flip, _overwrite, _insert, _cut, _truncate, _repeat, _renumber)


def _slice(draw: random.Random, data: bytes) -> tuple[int, int]:
    start = draw.randint(0, len(data))
    return start, min(len(data), start + draw.choice((1, 1, 4, 20, 200)))


def mutated_json(draw: random.Random, value: Any) -> bytes:
    """The value as JSON with leaves of another kind, members left out or added, or bytes changed."""
    value = json.loads(json.dumps(value))
    for _ in range(draw.choice((1, 1, 2, 5))):
        value = _other(draw, value)
    text = json.dumps(value).encode()
    chance = draw.random()
    if chance < 0.2:
        return mutated(draw, text, (DEEP,))
    if chance < 0.25:
        return b'{"a":' * 100_000 if draw.random() < 0.5 else text[:1] + b'"zz": ' + DEEP
    return text


def _other(draw: random.Random, value: Any) -> Any:
    """The value with one change somewhere below."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        chance = draw.random()
        if chance < 0.1:
            return {name: each for name, each in value.items() if name != key}
        if chance < 0.2:
            return {**value, draw.choice(("", "x", "\ud800", "status")): draw.choice(VALUES)}
        return {**value, key: _other(draw, value[key])}
    if isinstance(value, list) and value and draw.random() < 0.9:
        at = draw.randrange(len(value))
        return [*value[:at], _other(draw, value[at]), *value[at + 1 :]]
    return draw.choice(VALUES)


def fuzz(
    name: str, case: Callable[[random.Random], None], *, cases: int = CASES, ends: type[Exception] = StepError
) -> int:
    """Run so many cases; each returns or raises ``ends``. The number that came out well.

    A case draws all it needs from its own generator, so that its seed alone makes it again.
    """
    well = 0
    for number in range(cases):
        seed = f"{SEED}/{name}/{number}"
        try:
            with deadline():
                case(random.Random(seed))
        except ends as error:
            said = str(error)
        except (Exception, Hang) as error:
            raise AssertionError(f"the case of random.Random({seed!r}) ended in {error!r:.500}") from error
        else:
            said = "well"
            well += 1
        assert said, f"the case of random.Random({seed!r}) failed without a word"
    return well
