"""Measure the latency and throughput of exported files."""
