"""The paper's large-scale tables at full size, by one command: `python -m benchmarks.paper`."""
