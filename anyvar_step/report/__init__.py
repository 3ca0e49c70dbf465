"""What the reports of many runs say together: a page for people, sections for MultiQC, a JSON Schema.

``reading`` reads them; ``page`` is made of ``findings`` and ``charts``; ``multiqc`` and ``schema`` make the
others.
"""
