import numpy as np
import pytest

from mmnet.evaluation import scenarios
from mmnet.schema import AgeSpec, CycleSpec, LifetimeSpec
from mmnet.serving import reasons
from tests.models import tiny

SPEC = tiny.SPEC.model_copy(
    update={
        "age": AgeSpec(since="release", hidden=False),
        "cycles": (CycleSpec(name="weekday", seen=(0, 1)),),
        "lifetime": LifetimeSpec(log_start=0),
    }
)
BATCH = tiny.batch(SPEC)


def hidden(name, spec=SPEC, batch=BATCH):
    return batch | reasons.filled(batch, reasons.hidden(spec)[name])


def same(found, wanted):
    for name, array in wanted.items():
        assert found[name].dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(found[name], array)


EVIDENCE = tiny.SEVERAL.model_copy(update={"taxonomy_evidence": True})


@pytest.mark.parametrize("spec", [SPEC, EVIDENCE], ids=["one output", "several"])
def test_hidden_inputs_are_those_of_the_evaluation(spec):
    """A reason is what the report's table of lost inputs and its cold start show."""
    lost, batch = scenarios.outages(spec), tiny.batch(spec)
    assert set(reasons.hidden(spec)) == {"own_clicks", *lost} - {"nothing", "content"}
    for name in set(reasons.hidden(spec)) - {"own_clicks"}:
        same(hidden(name, spec, batch), scenarios.remove(batch, lost[name]))
    everything = np.ones(batch["clicks"].shape, bool)
    found = hidden("own_clicks", spec, batch)
    same(found, scenarios.disturb(batch, everything))
    for rate in spec.rates:  # the histories of all rates are hidden together
        names = spec.sequences(rate.name)
        assert not found[names["clicks"]].any()
        assert found[names["missing_flag"]].all()
