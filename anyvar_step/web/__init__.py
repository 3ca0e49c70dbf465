"""The web API: AnyVar's run endpoints (CONTRACTS.md §3) over the Celery transport, with FastAPI.

``app`` puts it together; ``submitting`` and ``routes`` are the endpoints, ``asking`` what they share;
``runs`` does their work in threads, ``upload`` and ``handout`` are the way in and out of a VCF, ``serving``
binds and serves.
"""
