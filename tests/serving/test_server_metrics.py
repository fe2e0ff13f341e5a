"""The counters of a server; `test_mlserver_runtime` asks a server for them.

Runs where the extra `[serving]` is installed, as in the stage "mlserver" of `.ci/run`.
"""

import pytest

from mmnet.serving import server_metrics

prometheus_client = pytest.importorskip("prometheus_client")


@pytest.fixture
def found():
    """Metrics of their own, and a function that reads a sample."""
    registry = prometheus_client.CollectorRegistry()
    metrics = server_metrics.ServerMetrics(registry)
    return metrics, lambda name, **labels: registry.get_sample_value(f"mmnet_{name}", labels)


def test_requests_count_by_outcome_and_refusals_by_reason(found):
    metrics, sample = found
    metrics.answered("v2")
    metrics.failed("v2")
    for status in (413, 413, 418):
        metrics.refused("v2", status)
    outcomes = {
        outcome: sample("requests_total", protocol="v2", outcome=outcome)
        for outcome in ("answered", "failed", "refused")
    }
    assert outcomes == {"answered": 1, "failed": 1, "refused": 3}
    assert sample("refusals_total", protocol="v2", reason="too_large") == 2
    assert sample("refusals_total", protocol="v2", reason="other") == 1


def test_rows_seconds_and_unknown_values_add_up(found):
    metrics, sample = found
    metrics.scored("m", "raw_columns", 3, 0.004, {"tags": 2})
    metrics.scored("m", "raw_columns", 4, 3.0, {})
    of = {"model": "m", "signature": "raw_columns"}
    assert sample("rows_total", **of) == 7
    assert sample("unknown_values_total", model="m", field="tags") == 2
    assert sample("model_seconds_sum", **of) == pytest.approx(3.004)
    assert sample("model_seconds_bucket", le="0.005", **of) == 1


def test_a_process_has_one_set():
    assert server_metrics.of_this_process() is server_metrics.of_this_process()
