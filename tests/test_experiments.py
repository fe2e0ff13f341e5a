from pathlib import Path

import pytest

from mmnet import config
from mmnet.config import TrainConfig

ROOT = Path(__file__).parents[1]
FLAGFILES = sorted(ROOT.glob("experiments/**/*.txt"))


def read(path, monkeypatch):
    monkeypatch.chdir(ROOT)  # flagfiles name each other from the repository's root
    return config.parse(TrainConfig, [f"--flagfile={path}"])


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_flagfile_is_read(path, monkeypatch):
    read(path, monkeypatch)


@pytest.mark.parametrize(
    ("name", "weights", "coarse"),
    [
        ("mmnet_m", (1, 0, 0), True),
        ("mmnet_c", (1, 0, 0), False),
        ("norm_noisy", (1, 0, 1), True),
        ("norm_cold", (1, 1, 0), True),
    ],
)
def test_an_ablation_is_the_full_model_but_for_its_own_lines(name, weights, coarse, monkeypatch):
    full = read("experiments/full/flags.txt", monkeypatch)
    ablation = read(f"experiments/ablations/{name}.txt", monkeypatch)
    expected = full.model_copy(update={"mode_weights": weights, "coarse_granularity": coarse})
    assert ablation == expected


def test_the_full_model_is_the_default_model(monkeypatch):
    full = read("experiments/full/flags.txt", monkeypatch)
    assert full.model_copy(update={"mode_weights": ()}) == TrainConfig()
