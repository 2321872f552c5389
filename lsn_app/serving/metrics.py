"""Numbers for operators: how many questions, how long, how they ended; without photos, names or addresses."""

from __future__ import annotations

import sys

from starlette.responses import Response

from lsn_core import UserError


class Metrics:
    """Prometheus' counters and histograms of this server.

    Raises:
        UserError: the package prometheus_client is not installed.
    """

    def __init__(self) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError as error:
            raise UserError(
                "LSN_METRICS needs a package that is not installed: pip install prometheus-client, or unset it."
            ) from error
        self._prometheus, self._registry = prometheus, prometheus.CollectorRegistry()
        self._seconds = prometheus.Histogram(
            "lsn_request_seconds",
            "Seconds of work for a request, by what was asked",
            ["asked"],
            registry=self._registry,
        )
        self._ended = prometheus.Counter(
            "lsn_requests", "Requests that were worked on", ["asked", "outcome"], registry=self._registry
        )
        self._verdicts = prometheus.Counter("lsn_verdicts", "Verdicts given", ["verdict"], registry=self._registry)
        self._refused = prometheus.Counter(
            "lsn_refused", "Requests refused for more than a fair share", registry=self._registry
        )
        self._waiting = prometheus.Gauge("lsn_waiting", "Requests that wait or run", registry=self._registry)
        self._memory = prometheus.Gauge(
            "lsn_peak_memory_bytes", "Largest memory of the process so far", registry=self._registry
        )

    def ended(self, asked: str, seconds: float, outcome: str) -> None:
        """One request was worked on."""
        self._seconds.labels(asked).observe(seconds)
        self._ended.labels(asked, outcome).inc()

    def verdict(self, verdict: str) -> None:
        """One verdict was given: "ID" or "OOD"."""
        self._verdicts.labels(verdict).inc()

    def refused(self) -> None:
        """One request was more than a client's share."""
        self._refused.inc()

    def response(self, waiting: int) -> Response:
        """What Prometheus reads."""
        self._waiting.set(waiting)
        self._memory.set(peak_memory())
        return Response(
            self._prometheus.generate_latest(self._registry), media_type=self._prometheus.CONTENT_TYPE_LATEST
        )


def peak_memory() -> int:
    """Bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
