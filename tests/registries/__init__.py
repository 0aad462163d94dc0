"""Tests of what this machine's package tools are configured to use."""
