from mmnet.evaluation import other_outputs
from mmnet.schema import SCENARIOS, Output


def scores(mse):
    one = {"mse": mse, "precision_at_5": 0.5, "precision_at_10": None, "n": 7}
    return dict.fromkeys(SCENARIOS, one)


OUTPUTS = {
    Output("", 1, "predicted_share_rate"): scores(1.0),
    Output("", 3, "predicted_share_rate_h3"): scores(2.0),
    Output("like", 1, "predicted_like"): scores(3.0),
    Output("like", 3, "predicted_like_h3"): scores(4.0),
}


def test_further_outputs_are_nested_by_rate_and_horizon():
    found = other_outputs.nested(OUTPUTS)
    assert set(found) == {*SCENARIOS, "horizons", "rates"}
    assert found["normal"]["mse"] == 1
    assert found["horizons"]["3"] == scores(2.0)
    assert found["rates"]["like"]["normal"]["mse"] == 3
    assert found["rates"]["like"]["horizons"]["3"] == scores(4.0)


def test_a_single_output_is_nested_in_nothing():
    main = dict(list(OUTPUTS.items())[:1])
    assert other_outputs.nested(main) == scores(1.0)
    assert other_outputs.cells(scores(1.0))[1] == []


def test_the_table_names_each_further_output():
    header, rows = other_outputs.cells(other_outputs.nested(OUTPUTS))
    assert header[:3] == ["Output", "Normal MSE", "Normal P@5"]
    assert [row[0] for row in rows] == ["at horizon 3", "like", "like at horizon 3"]
    assert rows[1] == ["like", *["3.000", "0.500", "–"] * 3, "7"]
