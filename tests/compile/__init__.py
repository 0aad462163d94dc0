"""Declarations read from a syntax tree: the same as importing gives, or refused with line and column."""
