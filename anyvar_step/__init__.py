"""anyvar-step: annotate VCFs with GA4GH VRS identifiers as one step of a pipeline."""

__version__ = "1.1.0"

#: The version of the GA4GH Variation Representation Specification whose identifiers are computed.
VRS_VERSION = "2.0.1"
