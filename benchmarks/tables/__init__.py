"""The paper's tables and figures, one file each; `python -m benchmarks.tables NAME` makes one."""
