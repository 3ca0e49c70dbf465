"""The fault suite (docs/reliability.md): a module for each family of faults, one harness for all."""
