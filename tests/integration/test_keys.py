"""The board's keys in Redis: whoever is killed between two commands leaves none for ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from support import Site

from anyvar_step.broker.board import Board
from anyvar_step.environment import load


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    ("kind", "act"),
    [
        ("leases", lambda board: board.leases.take("r-1", "somebody")),
        ("attempts", lambda board: board.next_attempt("a-digest")),
        ("told", lambda board: board.handouts.tell("r-1")),
    ],
)
def test_no_key_is_kept_for_ever_by_a_process_that_was_killed(
    site: Site, monkeypatch: pytest.MonkeyPatch, kind: str, act: Callable[[Board], object]
) -> None:
    def die(*_: object) -> None:
        raise Killed

    with Board(load(site.environ)) as board:
        client = board._redis
        before = {key for key in client.scan_iter(f"anyvar_step-{kind}-*") if client.ttl(key) == -1}
        with monkeypatch.context() as patched:
            patched.setattr(redis.Redis, "expire", die)
            with pytest.raises(Killed):
                act(board)
        after = {key for key in client.scan_iter(f"anyvar_step-{kind}-*") if client.ttl(key) == -1}
        assert after <= before
        act(board)
        kept = [key for key in client.scan_iter(f"anyvar_step-{kind}-*") if client.ttl(key) != -1]
        assert kept
