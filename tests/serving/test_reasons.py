import numpy as np

from mmnet.evaluation import scenarios
from mmnet.schema import AgeSpec, CycleSpec
from mmnet.serving import reasons
from tests.models import tiny

SPEC = tiny.SPEC.model_copy(
    update={
        "age": AgeSpec(since="release", hidden=False),
        "cycles": (CycleSpec(name="weekday", seen=(0, 1)),),
    }
)
BATCH = tiny.batch(SPEC)


def hidden(name):
    return BATCH | reasons.filled(BATCH, reasons.hidden(SPEC)[name])


def same(found, wanted):
    for name, array in wanted.items():
        assert found[name].dtype == BATCH[name].dtype
        np.testing.assert_array_equal(found[name], array)


def test_hidden_inputs_are_those_of_the_evaluation():
    """A reason is what the report's table of lost inputs and its cold start show."""
    lost = scenarios.outages(SPEC)
    assert set(reasons.hidden(SPEC)) == {"own_clicks", *lost} - {"nothing", "content"}
    for name in set(reasons.hidden(SPEC)) - {"own_clicks"}:
        same(hidden(name), scenarios.remove(BATCH, lost[name]))
    everything = np.ones(BATCH["clicks"].shape, bool)
    same(hidden("own_clicks"), scenarios.disturb(BATCH, everything))
