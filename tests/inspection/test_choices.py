from mmnet.config import InspectConfig
from mmnet.inspection.choices import Choices


def test_what_is_given_stays():
    choices = Choices(InspectConfig(period="1h", taxonomies=("tags",)))
    choices.propose("period", "7d", "the times are 7d apart")
    choices.propose("categoricals", ("author", "kind"), "they recur")
    choices.propose("min_target_clicks", 20, "enough")
    choices.propose("rate_may_exceed_one", True, "it does")
    assert choices.tables.period == "1h"
    assert (choices.tables.taxonomies, choices.task.min_target_clicks) == (("tags",), 20)
    assert choices.tables.categoricals == ("author", "kind")
    assert choices.tables.rate_may_exceed_one is True
    assert "period" not in choices.proposed


def test_a_proposal_can_be_withdrawn():
    choices = Choices(InspectConfig())
    choices.propose("release", "born", "known")
    choices.withdraw("release")
    assert not choices.tables.release


def test_the_first_reason_of_a_column_stays():
    choices = Choices(InspectConfig())
    for reason in ("one", "two"):
        choices.leave_out("items", "x", reason)
    assert [one.reason for one in choices.unused] == ["one"]
