"""Doing jobs: workers, their queue, and the process of one job."""
