"""Counters of a server in Prometheus format, next to those that MLServer keeps itself.

| metric | labels |
|---|---|
| `mmnet_requests_total` | protocol (v2, tf_serving), outcome (answered, refused, failed) |
| `mmnet_refusals_total` | protocol, reason: a key of `REASONS` or `other` |
| `mmnet_rows_total` | model, signature |
| `mmnet_model_seconds` (histogram) | model, signature |
| `mmnet_unknown_values_total` | model, field |

Every label has few values, none of which a request can choose: a model is one of the server's, a
signature or a field is one of the model's.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

REASONS = {
    400: "wrong",
    408: "slow",
    413: "too_large",
    415: "content_type",
    422: "not_finite",
    429: "busy",
}
"""Status of a refusal -> its reason."""
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
"""Upper limits of the histogram's bins."""


class ServerMetrics:
    """Counts requests, in any thread; `of_this_process` has the ones that are published.

    Args:
        registry: of prometheus_client; the default is what MLServer's metrics endpoint shows.
    """

    def __init__(self, registry: object | None = None):
        import prometheus_client  # MLServer installs it, and configures it before it loads a model

        more = {} if registry is None else {"registry": registry}
        counter = functools.partial(prometheus_client.Counter, **more)
        self._requests = counter(
            "mmnet_requests_total", "Requests by outcome.", ("protocol", "outcome")
        )
        self._refusals = counter(
            "mmnet_refusals_total", "Refused requests by reason.", ("protocol", "reason")
        )
        self._rows = counter("mmnet_rows_total", "Scored rows.", ("model", "signature"))
        self._unknown = counter(
            "mmnet_unknown_values_total",
            "Values of a field that are unknown to the model.",
            ("model", "field"),
        )
        self._seconds = prometheus_client.Histogram(
            "mmnet_model_seconds",
            "Seconds of the model per request.",
            ("model", "signature"),
            buckets=SECONDS,
            **more,
        )

        # A look-up of labels by the client library takes a lock and converts each of them to text.
        self._of = functools.cache(lambda metric, *labels: metric.labels(*labels))

    def answered(self, protocol: str) -> None:
        """Counts a request that was answered."""
        self._of(self._requests, protocol, "answered").inc()

    def failed(self, protocol: str) -> None:
        """Counts a request that an error of the server ended."""
        self._requests.labels(protocol, "failed").inc()

    def refused(self, protocol: str, status: int) -> None:
        """Counts a refused request.

        Args:
            protocol: v2 or tf_serving.
            status: of HTTP.
        """
        self._requests.labels(protocol, "refused").inc()
        self._refusals.labels(protocol, REASONS.get(status, "other")).inc()

    def scored(
        self, model: str, signature: str, rows: int, seconds: float, unknown: Mapping[str, int]
    ) -> None:
        """Counts what a model did for a request.

        Args:
            model: name of the model in the server.
            signature: one that the model has.
            rows: number of scored rows.
            seconds: that the model took.
            unknown: number of unknown values by field.
        """
        self._of(self._rows, model, signature).inc(rows)
        self._of(self._seconds, model, signature).observe(seconds)
        for field, number in unknown.items():
            self._of(self._unknown, model, field).inc(number)


@functools.cache
def of_this_process() -> ServerMetrics:
    """Returns the published metrics: one set, however many models are loaded."""
    return ServerMetrics()
