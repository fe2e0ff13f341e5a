"""tests/ mirrors mmnet/: what tests a module is in the file of its name, in the mirrored place."""

from pathlib import Path

import mmnet

PACKAGE, TESTS = Path(mmnet.__file__).parent, Path(__file__).parent

DRIVERS, EXPERIMENT = "test_drivers.py", "experiments/test_experiment.py"
CLICKS_DRIVERS, GENERATOR = "mma4ctr/test_drivers.py", "mma4ctr/data/test_generator.py"
MODALITIES, CATALOGUE = "mma4ctr/data/test_modalities.py", "serving/test_catalogue.py"
WITHOUT_OWN_FILE = {
    "checks.py": "test_bad_input.py",
    "data/arrays.py": "data/test_pipeline.py",
    "data/event_times.py": "data/test_events.py",
    "data/histories.py": "data/test_pipeline.py",
    "data/item_tensors.py": "data/test_pipeline.py",
    "data/rate_scale.py": "data/test_pipeline.py",
    "data/taxonomy_means.py": "data/test_taxonomies.py",
    "drift.py": DRIVERS,
    "driver.py": DRIVERS,
    "encode.py": DRIVERS,
    "encoders/handles.py": "encoders/test_hub_text.py",
    "encoders/problems.py": "encoders/test_cache.py",
    "evaluate.py": DRIVERS,
    "evaluation/error_tables.py": "evaluation/test_report.py",
    "evaluation/html_filter.py": "evaluation/test_html_report.py",
    "evaluation/html_sections.py": "evaluation/test_html_report.py",
    "evaluation/plots.py": "evaluation/test_report.py",
    "experiment.py": EXPERIMENT,
    "experiment_flags.py": EXPERIMENT,
    "experiments/cells.py": EXPERIMENT,
    "experiments/comparison.py": EXPERIMENT,
    "experiments/figures.py": EXPERIMENT,
    "experiments/paper.py": EXPERIMENT,
    "experiments/results.py": EXPERIMENT,
    "experiments/running.py": EXPERIMENT,
    "experiments/share_rate_tables.py": EXPERIMENT,
    "experiments/share_rates.py": EXPERIMENT,
    "experiments/tables.py": EXPERIMENT,
    "flags.py": "test_config.py",
    "hashing.py": "evaluation/test_scenarios.py",
    "mma4ctr/config.py": CLICKS_DRIVERS,
    "mma4ctr/evaluate.py": CLICKS_DRIVERS,
    "mma4ctr/experiment.py": CLICKS_DRIVERS,
    "mma4ctr/experiments/clicks.py": CLICKS_DRIVERS,
    "mma4ctr/experiments/tables.py": CLICKS_DRIVERS,
    "mma4ctr/data/features.py": "mma4ctr/data/test_protocols.py",
    "mma4ctr/evaluation/figures.py": CLICKS_DRIVERS,
    "mma4ctr/data/generator/plays.py": GENERATOR,
    "mma4ctr/data/generator/tiktok_files.py": GENERATOR,
    "mma4ctr/data/generator/truth.py": GENERATOR,
    "mma4ctr/data/generator/wechat_files.py": GENERATOR,
    "mma4ctr/data/generator/writing.py": GENERATOR,
    "mma4ctr/data/modalities/raw.py": MODALITIES,
    "mma4ctr/data/modalities/reduction.py": MODALITIES,
    "mma4ctr/predict.py": CLICKS_DRIVERS,
    "mma4ctr/prepare.py": CLICKS_DRIVERS,
    "mma4ctr/evaluation/references.py": "mma4ctr/test_leak.py",
    "mma4ctr/system.py": "mma4ctr/test_leak.py",
    "mma4ctr/tasks.py": CLICKS_DRIVERS,
    "mma4ctr/train.py": CLICKS_DRIVERS,
    "models/estimator.py": "models/test_lightgbm.py",
    "models/fine_granularity.py": "models/test_mmnet.py",
    "models/meta_info.py": "models/test_missing_content.py",
    "models/options.py": "models/test_registry.py",
    "models/seeding.py": "models/test_mmnet.py",
    "nightly.py": "tasks/test_night.py",
    "predict.py": DRIVERS,
    "prepare.py": DRIVERS,
    "promotion_flags.py": "tasks/test_night.py",
    "run_flags.py": "test_config.py",
    "series.py": EXPERIMENT,
    "scoring_flags.py": DRIVERS,
    "serving/blocks.py": CATALOGUE,
    "serving/budget.py": CATALOGUE,
    "serving/checksums.py": "serving/test_bundle.py",
    "serving/exported.py": "serving/test_export.py",
    "serving/first_pass.py": CATALOGUE,
    "serving/golden.py": "serving/test_bundle.py",
    "serving/job.py": CATALOGUE,
    "serving/mlserver_requests.py": "serving/test_mlserver_runtime.py",
    "serving/profile.py": "serving/test_drift.py",
    "serving/rules.py": "serving/test_decision.py",
    "serving/settling.py": CATALOGUE,
    "serving/static_cache.py": CATALOGUE,
    "tasks/building.py": "models/test_registry.py",
    "tasks/comparing.py": "api/test_exports.py",
    "tasks/evaluating.py": DRIVERS,
    "tasks/night_steps.py": "tasks/test_night.py",
    "tasks/preparing.py": DRIVERS,
    "tasks/shown.py": DRIVERS,
    "tasks/starting.py": DRIVERS,
    "train.py": DRIVERS,
    "training/sessions.py": "training/test_fitting.py",
    "training/share_rates.py": "training/test_fitting.py",
    "training/tensorboard.py": "training/test_fitting.py",
}
"""Modules without a test file of their own, and where they are tested. May only shrink."""

OF_NO_MODULE = {
    "cases/*": "inputs of users, each with the rows or the sentence that is right for it",
    "compat/test_compat.py": "files that earlier versions wrote",
    "data/test_shards.py": "the pipeline, cut into shards or not",
    "experiments/test_experiment.py": "the driver and what it runs",
    "mma4ctr/test_bounds.py": "extreme numbers, from files to scores",
    "mma4ctr/test_drivers.py": "the drivers of the second system",
    "mma4ctr/test_leak.py": "what a split lets through",
    "mma4ctr/test_reliability.py": "drivers that are killed at any moment",
    "models/test_bounds.py": "extreme numbers, for every model",
    "models/test_missing_content.py": "absent modalities, for every network",
    "models/test_registry.py": "the registry, in models/__init__.py, and golden files",
    "serving/test_bounds.py": "extreme numbers, for every runtime",
    "serving/test_parity.py": "all signatures and runtimes score alike",
    "training/test_killed.py": "training that is killed",
}
"""Test files inside a room that are named after no module of it, and their subject. May only
shrink. Files directly in tests/ may have any subject: they look at the package as a whole."""


def modules():
    """Every module, relative to the package."""
    found = (path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")))
    return [path for path in found if path.name != "__init__.py"]


def mirrored(module):
    return TESTS / module.parent / f"test_{module.stem}.py"


def test_every_module_has_a_test_file_of_its_own():
    without = {module.as_posix() for module in modules() if not mirrored(module).exists()}
    assert without <= WITHOUT_OWN_FILE.keys()
    # An exception that is no longer needed is taken off the list.
    assert WITHOUT_OWN_FILE.keys() <= without


def test_exceptions_name_a_test_file_that_is_there():
    assert not [name for name in set(WITHOUT_OWN_FILE.values()) if not (TESTS / name).exists()]


def test_every_test_file_in_a_room_is_of_a_module_or_a_package():
    without = set()
    for path in TESTS.rglob("test_*.py"):
        room = path.parent.relative_to(TESTS)
        subject = PACKAGE / room / path.stem.removeprefix("test_")
        if room == Path("cases"):
            without.add("cases/*")
        elif room != Path() and not (subject.with_suffix(".py").exists() or subject.is_dir()):
            without.add(path.relative_to(TESTS).as_posix())
    assert without == OF_NO_MODULE.keys()
