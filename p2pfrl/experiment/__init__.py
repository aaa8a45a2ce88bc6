"""Experiments: run, verify, compare and sweep scenarios."""
