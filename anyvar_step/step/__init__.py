"""The blocking step over a transport: submit, wait, deliver, and leave nothing behind.

``annotate``, ``scatter`` and ``ingest`` are the steps, ``run`` the life that they share; ``intake`` is the
way in, ``waiting`` the wait and ``endings`` what its end means; ``delivery`` is the way out, with ``drafts``
(files before they have their names) and ``companions`` (files beside OUT); ``judging`` looks at all pieces.
"""
