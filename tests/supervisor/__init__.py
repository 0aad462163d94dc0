"""Tests of the supervising process and its parts."""
