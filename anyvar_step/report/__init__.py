"""What the reports of many runs say together: a page for people, sections for MultiQC, a JSON Schema."""
