"""Tests of the plan: pure."""
