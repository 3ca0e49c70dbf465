"""The queue: the message that a step sends is Celery's own, and those of cancelled runs leave it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import private_redis
from support import Site

from anyvar_step.runs.connection import connect
from anyvar_step.runs.queue import Queue, encode_message
from anyvar_step.settings import load


@pytest.fixture
def queue(site: Site) -> Iterator[Queue]:
    yield Queue(load(site.environ))
    with connect(site.redis_url) as redis:
        redis.delete(site.queue)


def fill(site: Site, number: int) -> list[str]:
    run_ids = [f"run-{n}" for n in range(number)]
    with connect(site.redis_url) as redis:
        redis.lpush(site.queue, *(encode_message(site.queue, "task", {}, run_id) for run_id in run_ids))
    return run_ids


def test_a_message_is_removed_wherever_it_stands(site: Site, queue: Queue) -> None:
    run_ids = fill(site, 2500)
    for number in (0, 1, 25, 1249, 2499):
        assert queue.remove(run_ids[number])
        assert not queue.remove(run_ids[number])
    assert queue.length() == 2495
    assert not queue.remove("run-25")  # of which run-250 begins with the id
    assert queue.remove("run-250")


@pytest.mark.slow
def test_a_message_is_removed_or_taken_by_a_worker_and_never_both(site: Site, queue: Queue) -> None:
    run_ids = fill(site, 1500)
    taken: list[str] = []

    def take() -> None:
        with connect(site.redis_url) as redis:
            while raw := redis.rpop(site.queue):
                taken.append(str(raw))

    worker = threading.Thread(target=take)
    worker.start()
    removed = [run_id for run_id in reversed(run_ids) if queue.remove(run_id)]
    worker.join()
    assert len(removed) + len(taken) == 1500
    assert not any(f'"id": "{run_id}"' in raw for run_id in removed for raw in taken)


#: What differs from message to message.
VARYING = ("origin", "reply_to", "delivery_tag")


def test_a_published_message_is_the_one_that_celery_sends(tmp_path: Path) -> None:
    arguments = {"input_file_path": "/w/pâth x.vcf", "assembly": "GRCh38", "for_ref": True}
    with private_redis(tmp_path) as url:
        queue = Queue(load({"CELERY_BROKER_URL": url}))
        queue.publish("some.task", arguments, "run-1")
        with queue.celery() as app:
            app.send_task("some.task", kwargs=arguments, task_id="run-1", queue=queue.name, retry=False)
        with connect(url) as client:
            celerys, ours = (json.loads(raw) for raw in client.lrange(queue.name, 0, -1))
    assert body(ours) == body(celerys)
    for message in (ours, celerys):
        del message["body"]
        for part in ("headers", "properties"):
            for name in VARYING:
                message[part].pop(name, None)
    assert ours == celerys


def body(message: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(message["body"]))
