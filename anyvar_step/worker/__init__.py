"""The worker: AnyVar's Celery tasks, each a few lines over a Job, and the worker's life cycle."""
