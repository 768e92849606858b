"""Throughput and memory against the number of sub-environments."""
