"""The worker: AnyVar's Celery tasks, each a few lines over a Job, and the worker's life cycle.

``app`` checks the requirements, serves the queue and schedules sweeps. ``tasks`` has Celery's side of a run,
``job`` ours. ``broker`` adapts Celery and kombu to outages, malformed messages and tasks of other workers.
``registration`` registers the worker and answers `anyvar-step check`; ``shutdown`` drains it; ``metrics`` and
``counters`` serve Prometheus.
"""
