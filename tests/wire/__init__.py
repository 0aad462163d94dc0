"""The readers, by vectors, cut anywhere, and fuzzed."""
