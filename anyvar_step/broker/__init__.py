"""Redis and Celery: the app made from settings, task names, and the board on which runs' states stand.

``names`` needs neither package, ``board`` needs redis, ``app`` needs celery; import the module you need.
"""
