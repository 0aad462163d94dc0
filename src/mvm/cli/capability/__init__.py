"""The verbs of `mvmctl capability`: files in which each tool has its fixed grants."""
