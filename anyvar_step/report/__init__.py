"""The reports of many runs together: ``html`` makes a page for people, ``multiqc`` sections for MultiQC.

``samples`` reads the reports and finds what needs attention.
"""
