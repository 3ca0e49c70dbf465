"""The worker: AnyVar's Celery tasks, each a few lines over a Job, and the worker's life cycle.

``start`` puts it together and serves; ``tasks`` are Celery's side of a run, ``job`` is ours, with ``hold``
(claim and heartbeat) and ``stores`` (registration); ``lifetime`` ends the worker, ``housekeeping`` sweeps
the work dir, ``looking`` answers `anyvar-step check`, ``metrics`` and ``counters`` answer Prometheus.
"""
