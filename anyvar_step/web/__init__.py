"""The web API: AnyVar's run endpoints (docs/contract.md#web-api) over the Celery transport, with FastAPI.

``app`` is the application and its server; ``auth`` checks tokens, hosts and origins; ``routes`` has the
endpoints and ``responses`` their answers; ``runs`` does their work in threads; ``uploads`` receives VCFs.
"""
