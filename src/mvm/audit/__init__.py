"""The record of a run: what may be said, chained, written before its effect, read back and verified."""
