"""Tests of file trees as data."""
