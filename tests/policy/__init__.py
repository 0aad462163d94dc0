"""Tests of the policy language and of its decisions."""
