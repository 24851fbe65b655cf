"""Benchmarks: each measures kubetune and its limit in the same run. docs/benchmarks.md tells what and how."""
