"""The message that a step queues is Celery's own, though Celery is not loaded for it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from anyvar_step.embedded import private_redis
from anyvar_step.runs.connection import connect
from anyvar_step.runs.queue import Queue
from anyvar_step.settings import load

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
