"""The web API: AnyVar's run endpoints (docs/contract.md#web-api) over the Celery transport, with FastAPI.

``app`` is the application and its server; ``auth`` checks tokens; ``protection`` checks hosts and origins and
limits time; ``routes`` and ``variations`` are the endpoints; ``runs`` does their work in threads; ``uploads``
receives VCFs.
"""
