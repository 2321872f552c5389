"""`python -m benchmarks.tables NAME` makes a table or figure of the paper."""

from benchmarks.tables.table import main

main()
