import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import PLACES, PredictConfig, PrepareConfig, TableFlags, TaskFlags, TrainConfig
from mmnet.flags import Flags, LogFlags, as_before, build, named_options, parse, to_flagfile, usage

# What a line of a flagfile can hold: no line breaks, no spaces at the ends.
words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
names = st.lists(words, min_size=1, max_size=3).map(" ".join)
positive = st.floats(1e-9, 1e9)
configs = st.fixed_dictionaries(
    {
        "counts": names,
        "window": st.integers(1, 10**6),
        "seed": st.integers(),
        "taxonomies": st.lists(names, max_size=3).map(tuple),
        "vectors": st.lists(names, max_size=3).map(tuple),
        "set": st.lists(names, max_size=3).map(tuple),
        "split_ratios": st.tuples(positive, positive, positive),
        "mode_weights": st.lists(st.floats(0, 1), max_size=3).map(tuple),
        "split": st.sampled_from(["chronological", "by_item", "random_window"]),
        "learning_rate": positive,
        "noisy_rate": st.floats(0, 1),
        "jit": st.booleans(),
        "rate_may_exceed_one": st.booleans(),
    }
)


def sentence(arguments, config=TrainConfig):
    with pytest.raises(InputError) as caught:
        parse(config, arguments)
    return str(caught.value)


@settings(deadline=None, max_examples=60)
@given(given_flags=configs)
def test_a_flagfile_reads_back_to_the_same_flags(given_flags, tmp_path_factory):
    flags = TrainConfig(**given_flags)
    file = tmp_path_factory.mktemp("flags") / "flags.txt"
    file.write_text(to_flagfile(flags, leave_out=PLACES), encoding="utf-8")
    assert parse(TrainConfig, [f"--flagfile={file}"]) == flags


def test_a_flagfile_leaves_places_out():
    flags = TrainConfig(
        run_dir="somewhere", dataset_dir="elsewhere", resume=True, source_dir="data"
    )
    text = to_flagfile(flags, leave_out=PLACES)
    assert not any(line.startswith(f"--{name}=") for line in text.splitlines() for name in PLACES)


def test_whole_ratios_are_written_as_whole_numbers():
    assert "--split_ratios=8,1,1\n" in to_flagfile(TrainConfig(), leave_out=())


def test_a_name_that_holds_a_comma_is_quoted():
    assert '--taxonomies="a,b",c\n' in to_flagfile(
        TrainConfig(taxonomies=("a,b", "c")), leave_out=()
    )
    assert parse(TrainConfig, ['--taxonomies="a,b",c']).taxonomies == ("a,b", "c")


def test_flagfiles_may_name_others_and_the_later_line_wins(tmp_path):
    (tmp_path / "full.txt").write_text("# the full model\n--window=4\n--seed=3\n")
    (tmp_path / "less.txt").write_text(f"--flagfile={tmp_path / 'full.txt'}\n--seed=5\n")
    flags = parse(TrainConfig, [f"--flagfile={tmp_path / 'less.txt'}", "--horizon=2"])
    assert (flags.window, flags.seed, flags.horizon) == (4, 5, (2,))


def test_a_flagfile_in_another_encoding_is_one_sentence(tmp_path):
    (tmp_path / "flags.txt").write_bytes("--counts=café.csv\n".encode("latin-1"))
    (tmp_path / "outer.txt").write_text(f"--flagfile={tmp_path / 'flags.txt'}\n")
    for name in ("flags", "outer"):
        wrong = sentence([f"--flagfile={tmp_path / f'{name}.txt'}"])
        rule = "not a UTF-8 text file; save it with UTF-8 encoding"
        assert wrong == f"--flagfile={tmp_path / 'flags.txt'}: {rule}"


def test_repeated_flags_gather_and_lists_are_cut_at_commas():
    flags = parse(TrainConfig, ["--set=a=1", "--set=b=2", "--taxonomies=category, tags"])
    assert flags.set == ("a=1", "b=2")
    assert flags.taxonomies == ("category", "tags")


def test_a_boolean_is_set_by_name_by_no_name_or_by_value():
    assert parse(TrainConfig, ["--nojit"]).jit is False
    assert parse(TrainConfig, ["--jit=false"]).jit is False
    assert parse(TrainConfig, ["--deterministic"]).deterministic is True


def test_a_boolean_by_no_name_has_no_value():
    wrong = sentence(["--nojit=true"])
    assert wrong == "--nojit=true does not take an argument; write settings as --flag=value"


def test_no_flags_are_the_defaults():
    assert parse(TrainConfig, []) == TrainConfig()


def test_an_unknown_flag_names_the_nearest():
    assert sentence(["--windw=3"]) == "unknown flag --windw. Did you mean window?"
    assert sentence(["--zzz=3"]) == "unknown flag --zzz"


def test_an_unknown_flag_in_a_flagfile_names_the_nearest(tmp_path):
    (tmp_path / "flags.txt").write_text("--taxonomy=category\n")
    wrong = sentence([f"--flagfile={tmp_path / 'flags.txt'}"])
    assert wrong == "unknown flag --taxonomy. Did you mean taxonomies?"


def test_a_flagfile_that_is_not_there():
    assert (
        sentence(["--flagfile=nowhere.txt"]) == "--flagfile=nowhere.txt: No such file or directory"
    )


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        (
            "--window=six",
            "--window: input should be a valid integer, unable to parse string as an integer. "
            "Received: 'six'",
        ),
        (
            "--window=0",
            "--window: input should be greater than or equal to 1. Received: '0'",
        ),
        (
            "--learning_rate=nan",
            "--learning_rate: input should be greater than 0. Received: 'nan'",
        ),
        (
            "--split_ratios=8,one,1",
            "--split_ratios: input should be a valid number, unable to parse string as a number. "
            "Received: 'one'",
        ),
        (
            "--split=random",
            "--split=random: value should be one of <chronological|by_item|random_window>",
        ),
        ("--jit=maybe", "--jit=maybe: must be true or false"),
        ("--window", "Missing value for flag --window"),
        ("counts.csv", "unexpected argument 'counts.csv'; write settings as --flag=value"),
    ],
)
def test_a_wrong_value_is_one_sentence(argument, said):
    assert sentence([argument]) == said


def test_build_says_what_is_wrong_with_a_stored_value():
    with pytest.raises(InputError, match=r"^--horizon: .* Received: 0$"):
        build(TrainConfig, {"horizon": 0})


def test_a_single_horizon_is_stored_and_written_as_a_number():
    for value in (2, "2", (2,), ["2"]):
        flags = build(TaskFlags, {"horizon": [value] if value == "2" else value})
        assert flags.horizon == (2,)
        assert flags.model_dump(mode="json")["horizon"] == 2
        assert "--horizon=2\n" in to_flagfile(flags, leave_out=())


def test_further_rates_are_written_only_if_there_are_some():
    assert "also_predict" not in to_flagfile(TableFlags(), leave_out=())
    assert "also_predict" not in TableFlags().model_dump(mode="json")
    assert TableFlags().model_dump()["also_predict"] == ()
    some = TableFlags(also_predict=("like", "b"))
    assert "--also_predict=like,b\n" in to_flagfile(some, leave_out=())
    assert TableFlags.model_validate_json(some.model_dump_json()) == some


def test_several_horizons_are_a_list():
    flags = parse(TaskFlags, ["--horizon=1,2,4"])
    assert (flags.main_horizon, flags.longest_horizon) == (1, 4)
    assert TaskFlags.model_validate_json(flags.model_dump_json()) == flags
    assert "--horizon=1,2,4\n" in to_flagfile(flags, leave_out=())


@pytest.mark.parametrize("wrong", ["2,1", "1,1", ""])
def test_horizons_ascend(wrong):
    with pytest.raises(InputError, match=r"^--horizon: must be .*"):
        parse(TaskFlags, [f"--horizon={wrong}"])


def model(
    spec, *, units: int = 64, filters: tuple[int, ...] = (256,), rate: float | None = 0.1
): ...


def test_options_are_read_by_the_annotations_of_the_function():
    found = named_options(model, ["units=32", "filters=8,4", "rate=none"], "set")
    assert found == {"units": 32, "filters": (8, 4), "rate": None}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "unit=32",
            "--set=unit=32: model has no option 'unit'. Did you mean units? "
            "(available: units, filters, rate)",
        ),
        ("units", "--set must be NAME=VALUE. Received: 'units'"),
        (
            "units=many",
            "--set=units=many: input should be a valid integer, unable to parse string as an "
            "integer",
        ),
        ("spec=3", "--set=spec=3: model has no option 'spec' (available: units, filters, rate)"),
    ],
)
def test_a_wrong_option_is_one_sentence(setting, said):
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        named_options(model, [setting], "set")


def groups(of=Flags):
    """Every group of flags, and every driver's."""
    return {of}.union(*(groups(one) for one in of.__subclasses__()))


def test_essential_flags_are_flags_of_their_group():
    for group in groups():
        assert set(group.ESSENTIAL or ()) <= set(group.model_fields), group


def test_usage_shows_a_drivers_own_flags_first_and_the_essential_ones_of_its_groups():
    text = usage(PredictConfig, "Scores.", full=False)
    assert 0 < text.index("--as_of=") < text.index("--counts=")
    assert "--engine_spill=" not in text
    every = len(PredictConfig.model_fields) + len(LogFlags.model_fields)
    hidden = every - len(re.findall(r"^  --", text, re.MULTILINE))
    assert f"--helpfull shows {hidden} more flags." in text


def test_usage_lists_every_flag_once_with_its_default():
    text = usage(PrepareConfig, "Prepares.", full=True)
    for name in PrepareConfig.model_fields:
        assert len(re.findall(rf"^  --{name}=", text, re.MULTILINE)) == 1
    assert "--split_ratios=8,1,1" in text


def test_a_flag_added_later_is_left_out_of_fingerprints_at_its_default():
    late = {"split_seed", "split_group", "inputs", "test_periods", "hash_vocabularies"}
    assert as_before(TaskFlags()) == as_before(TaskFlags(split="by_item")) == late
    assert as_before(TaskFlags(split_seed=1)) == late - {"split_seed"}
    added = as_before(TableFlags())
    assert {"null_comparisons", "text_set", "repeats", "list_separator", "time_format"} <= added
    assert as_before(TableFlags(repeats="drop")) == added - {"repeats"}
