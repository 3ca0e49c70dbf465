"""The board's keys in Redis: whoever is killed between two commands leaves none for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from support import Site

from anyvar_step.runs.state import RunState
from anyvar_step.settings import load


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    ("kind", "act"),
    [
        ("leases", lambda board: board.leases.take("r-1", "somebody")),
        ("attempts", lambda board: board.next_attempt("a-digest")),
        ("told", lambda board: board.deliveries.tell("r-1")),
    ],
)
def test_no_key_is_kept_for_ever_by_a_process_that_was_killed(
    site: Site, monkeypatch: pytest.MonkeyPatch, kind: str, act: Callable[[RunState], object]
) -> None:
    def die(*_: object) -> None:
        raise Killed

    with RunState(load(site.environ)) as board:
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


def test_a_run_id_is_taken_and_announced_at_once_or_not_at_all(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = f"{site.queue}-1"
    with RunState(load(site.environ)) as board:
        with monkeypatch.context() as patched:
            written, write = [], redis.Redis.set

            def die_at_second(client: redis.Redis, name: str, *others: Any, **options: Any) -> Any:
                if written:
                    raise Killed
                written.append(name)
                return write(client, name, *others, **options)

            patched.setattr(redis.Redis, "set", die_at_second)
            with pytest.raises(Killed):
                board.begin(run_id)
        assert board.meta(run_id) is None
        assert board.begin(run_id)
        assert board.is_announced(run_id)
        board.mark_published(run_id)
        assert not board.begin(run_id)
        assert board.is_published(run_id)
