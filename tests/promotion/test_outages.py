"""Every input is taken away once, and both models are measured on the same day without it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from mmnet import schema
from mmnet.promotion import comparing, outages
from mmnet.promotion.outages import Outage, Outages
from mmnet.schema import FeatureSpec, FieldSpec


def compare(judged):
    noisy = {"missing_rate": 0.5, "scenario_seed": 0}
    return comparing.compare(judged, judged, periods=2, **noisy)


@pytest.fixture(scope="module")
def found(judged):
    return outages.measure(judged, judged, periods=2, most_rows=150)


def test_every_column_modality_and_the_history_is_lost_once(found, judged):
    columns = ("category", "tags", "author", "duration", "title")
    modalities = set(judged.about.fitted.spec.modalities())
    names = {one.gone for one in found.lost}
    assert {"history", "taxonomies"} | modalities | {f"column {c}" for c in columns} <= names
    assert "nothing" not in names
    assert found.rows == 150


def test_a_model_loses_as_much_as_itself(found):
    assert all(one.champion == one.challenger > 0 for one in found.lost)
    assert not found.above(0.0)
    assert found.to_json()["lost"]["history"]["growth"] == 0


def test_the_history_lost_is_cold_start(judged):
    everything = outages.measure(judged, judged, periods=2)
    lost = {one.gone: one.champion for one in everything.lost}
    expected = compare(judged).paired("cold_start").mse[0]
    assert lost["history"] == pytest.approx(expected, rel=1e-6)


class Leaning(comparing.Judged):
    """Predicts well while the author is known, and 100 percent otherwise."""

    def predict(self, inputs):
        known = tf.reduce_any(inputs["field_author"] > 0, axis=1)
        return np.where(known, super().predict(inputs), np.float32(100))


def test_a_challenger_that_leans_on_one_input_is_found(judged):
    leaning = Leaning(judged.path, judged.about, judged.dataset, judged._loaded)
    found = outages.measure(judged, leaning, periods=2, most_rows=150)
    names = {one.gone for one in found.above(0.1)}
    assert names == {"column author", "meta", "content"}
    assert found.above(0.1)[0].growth > 1


def test_an_input_that_the_champion_lacks_is_measured_against_its_usual_error(judged):
    spec = judged.about.fitted.spec
    fields = tuple(one for one in spec.fields if one.name != "author")
    fitted = judged.dataset.fitted.model_copy(
        update={"spec": spec.model_copy(update={"fields": fields})}
    )
    champion = comparing.Judged(
        judged.path,
        judged.about,
        dataclasses.replace(judged.dataset, fitted=fitted),
        judged._loaded,
    )
    lost = {one.gone: one for one in outages.measure(champion, judged, periods=2).lost}
    usual = compare(judged).paired("normal").mse[0]
    assert lost["column author"].champion == pytest.approx(usual, rel=1e-6)
    assert lost["column author"].champion != lost["column author"].challenger


def test_a_taxonomys_means_go_with_its_column():
    spec = FeatureSpec(
        window=2,
        horizon=1,
        taxonomies=("category", "tags"),
        fields=(FieldSpec(name="category", size=4), FieldSpec(name="tags", size=4)),
    )
    inputs = {
        schema.TAXONOMY_RATE.name: tf.ones([3, 2, 2]),
        schema.TAXONOMY_MISSING_FLAG.name: tf.zeros([3, 2, 2]),
        "field_category": tf.ones([3, 1], tf.int32),
        "field_tags": tf.ones([3, 1], tf.int32),
    }
    lost = outages.without_column(inputs, spec, "column tags")
    assert lost[schema.TAXONOMY_RATE.name].numpy().tolist() == [[[1, 0], [1, 0]]] * 3
    assert lost[schema.TAXONOMY_MISSING_FLAG.name].numpy().tolist() == [[[0, 1], [0, 1]]] * 3
    assert lost["field_tags"].numpy().tolist() == [[0]] * 3
    assert lost["field_category"].numpy().tolist() == [[1]] * 3


def test_growth_from_a_perfect_champion_is_infinite():
    assert Outage("age", 0.0, 0.0).growth == 0
    assert Outages(1, (Outage("age", 0.0, 1.0),)).to_json()["lost"]["age"]["growth"] is None
