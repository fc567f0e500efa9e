"""Speed and accuracy benchmarks: each is `python -m benchmarks.NAME`, prints a table and writes
JSON under results/."""
