import dataclasses
import importlib
import json

import ml_collections
import pytest

from configs import miavsr, protocols
from jaxvsr import models
from jaxvsr.config import (
    PATHS,
    closest_field,
    defaults,
    differences,
    fields,
    load_config,
    save_config,
)
from jaxvsr.errors import InputError
from jaxvsr.preflight import check_settings, create_model

FILES = [
    "miavsr",
    "iiavsr",
    "psrt",
    "basicvsr",
    "iconvsr",
    "basicvsrpp",
    "vrt",
    "rvrt",
    "rvrt_light",
    "swrn",
    "vrt",
]
# Of each file, the first one is what no variant stands for.
VARIANTS = dict.fromkeys(FILES, ("reds", "vimeo", "tiny"))
VARIANTS["vrt"] = (*(f"00{i}" for i in range(1, 10)), "tiny")
VARIANTS["rvrt"] = (*(f"00{i}" for i in range(1, 7)), "tiny")
VARIANTS["rvrt_light"] = ("vimeo", "tiny")


def load(name, *arg):
    return importlib.import_module(f"configs.{name}").get_config(*arg)


@pytest.mark.parametrize(
    ("name", "variant"), [(name, variant) for name in FILES for variant in VARIANTS[name]]
)
def test_every_variant_is_whole_and_possible(name, variant):
    config = load(name, variant)
    assert config.model.name == name
    expected = {path for path, _ in fields(defaults()) if path[:5] != "model"}
    assert {path for path, _ in fields(config) if path[:5] != "model"} == expected
    check_settings(config)
    create_model(config)


@pytest.mark.parametrize("name", FILES)
def test_a_field_of_the_model_is_a_field_of_its_class(name):
    """So that each can be set on the command line, and none is without effect."""
    config = load(name)
    names = set(config.model) - {"name"}
    known = {field.name for field in dataclasses.fields(models.MODELS[name])}
    assert names == known - {"parent", "name"}
    model = models.create(**config.model)
    for field in names:
        assert getattr(model, field) == config.model[field]


@pytest.mark.parametrize("name", FILES)
def test_without_a_variant_it_is_the_first(name):
    assert load(name).to_dict() == load(name, VARIANTS[name][0]).to_dict()


@pytest.mark.parametrize("name", FILES)
def test_an_unknown_variant_names_the_closest(name):
    meant = VARIANTS[name][1]
    mistyped = meant[:-2] + meant[-1]
    known = ", ".join(VARIANTS[name])
    with pytest.raises(ValueError, match=f"no variant '{mistyped}', only {known}.*'{meant}'"):
        load(name, mistyped)


def test_recipes_share_what_they_are_said_to_share():
    for variant in ("reds", "vimeo"):
        icon, basic = load("iconvsr", variant), load("basicvsr", variant)
        assert icon.optim.fix_part == "edvr"
        icon.optim.fix_part = ""
        assert all(icon[section] == basic[section] for section in ("data", "optim", "train"))
        mia, iia, psrt = (load(name, variant) for name in ("miavsr", "iiavsr", "psrt"))
        assert mia.optim == iia.optim == psrt.optim and mia.train == iia.train
        assert set(mia.model) - set(iia.model) == {*miavsr.MASKS}
    for name, variants in {"vrt": ("005", "006", "007"), "rvrt": ("004", "005")}.items():
        models_of_tasks = [load(name, variant).model for variant in variants]
        assert all(model == models_of_tasks[0] for model in models_of_tasks)
    for name, variant in (("vrt", "004"), ("rvrt", "003")):  # BD is trained and scored
        config = load(name, variant)
        assert config.eval.dataset == config.data.dataset == "vimeo90k/bd"


def test_closest_field_goes_by_the_whole_path():
    config = load("miavsr")
    assert closest_field(config, "train.step") == "train.steps"
    assert closest_field(config, "trian.seed") == "train.seed"
    assert closest_field(config, "optim.learning_rate") in dict(fields(config))


def test_a_run_fits_itself_and_what_differs_is_told(tmp_path):
    config = load("miavsr", "tiny")
    assert differences(config, tmp_path) == []
    save_config(config, tmp_path)
    assert differences(config, tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    config.train.steps += 1
    config.model.use_mask = False
    lines = differences(config, tmp_path)
    assert len(lines) == 2 and "train.steps" in lines[1] and "model.use_mask: True" in lines[0]


def test_a_run_older_than_pruned_channels_fits(tmp_path):
    config = load("swrn", "tiny")
    save_config(config, tmp_path)
    path = tmp_path / "config.json"
    there = json.loads(path.read_text())
    del there["model"]["prune_channels"]
    path.write_text(json.dumps(there))
    assert differences(config, tmp_path) == []
    config.model.prune_channels = 0.5
    with pytest.raises(InputError, match="model.prune_channels: None there, 0.5 now"):
        differences(config, tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"[]"])
def test_a_damaged_config_of_a_run_is_named(tmp_path, data):
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        differences(load("miavsr", "tiny"), tmp_path)


@pytest.mark.parametrize(
    ("field", "value"), [("model.dim", 8), ("optim.ema", 0.0), ("model.name", "iiavsr")]
)
def test_another_tree_does_not_fit(tmp_path, field, value):
    config = load("miavsr", "tiny")
    save_config(config, tmp_path)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=f"{field}: .* there, {value!r} now"):
        differences(config, tmp_path)


def test_fields_are_the_leaves():
    config = ml_collections.ConfigDict({"b": {"c": 1, "a": (2,)}, "a": "x"})
    assert list(fields(config)) == [("a", "x"), ("b.a", (2,)), ("b.c", 1)]


@pytest.mark.parametrize("name", [*FILES, "bicubic"])
@pytest.mark.parametrize("benchmark", protocols.PROTOCOLS)
def test_every_benchmark_can_be_asked_of_every_model(name, benchmark):
    config = load(name, benchmark if name == "bicubic" else f"{VARIANTS[name][1]},{benchmark}")
    expected = protocols.PLAIN | protocols.PROTOCOLS[benchmark]
    assert {field: config.eval[field] for field in expected} == expected
    check_settings(config)
    create_model(config)
    # What is scored has nothing to do with what is trained.
    if name != "bicubic":
        assert config.data.to_dict() == load(name, VARIANTS[name][1]).data.to_dict()


@pytest.mark.parametrize("name", FILES)
def test_every_recipe_can_train_for_real_videos(name):
    first, tiny = load(name, "real"), load(name, "tiny,real")
    assert first.data.degradation == tiny.data.degradation == "compressed"
    assert first.model.to_dict() == load(name).model.to_dict()
    assert tiny.model.to_dict() == load(name, "tiny").model.to_dict()
    check_settings(first)


@pytest.mark.parametrize(
    ("words", "dataset", "degradation"),
    [
        ("vid4,crf18", "test_sets/vid4", "h264(crf=18)"),
        ("crf35", "reds", "h264(crf=35)"),
        ("vid4,duf", "test_sets/vid4", "duf"),
        ("udm10,tecogan,crf25", "test_sets/udm10_bd", "tecogan, h264(crf=25)"),
    ],
)
def test_a_benchmark_may_have_other_inputs(words, dataset, degradation):
    config = load("miavsr", f"reds,{words}")
    assert (config.eval.dataset, config.eval.degradation) == (dataset, degradation)
    assert config.data == load("miavsr").data
    check_settings(config)


@pytest.mark.parametrize(("words", "message"), [("crf25,bd", "put it first"), ("bd,duf", "first")])
def test_inputs_that_cannot_be_combined_are_refused(words, message):
    with pytest.raises(InputError, match=f"eval.degradation: .*{message}"):
        check_settings(load("miavsr", f"reds,{words}"))


def test_an_unknown_benchmark_names_the_closest():
    with pytest.raises(ValueError, match="no variant 'vid5'.*the closest is 'vid4'"):
        load("miavsr", "reds,vid5")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["configs/miavsr.py:tiny", "miavsr:tiny"])
def test_configs_of_the_package_are_found_from_any_folder(elsewhere, name):
    assert load_config(name) == load("miavsr", "tiny")


def test_a_file_of_the_user_comes_first_and_may_import_those_of_the_package(elsewhere):
    text = "from configs import miavsr\ndef get_config():\n    config = miavsr.get_config('tiny')\n"
    (elsewhere / "own.py").write_text(f"{text}    config.train.steps = 1\n    return config\n")
    assert load_config("own.py").train.steps == load_config(f"{elsewhere}/own.py").train.steps == 1
    (elsewhere / "configs").mkdir()
    (elsewhere / "configs" / "shared_by_mine.py").write_text("STEPS = 2\n")
    (elsewhere / "configs" / "swrn.py").write_text(
        f"from configs import shared_by_mine\n{text}"
        "    config.train.steps = shared_by_mine.STEPS\n    return config\n"
    )
    assert load_config("swrn").train.steps == load_config("configs/swrn.py").train.steps == 2
    assert load_config("basicvsr:tiny") == load("basicvsr", "tiny")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("configs/swnr.py", r"no config file 'configs/swnr.py'; the closest are configs/swrn.py"),
        ("swnr:tiny", r"no config file 'swnr'; the closest are configs/swrn.py"),
        ("mine/swrn.py", "no config file 'mine/swrn.py'"),
        ("configs/protocols.py", "configs/protocols.py is no config: it defines no get_config"),
        ("swrn:tni", "swrn: there is no variant 'tni', only reds, vimeo, tiny; .* 'tiny'"),
    ],
)
def test_a_config_that_does_not_exist(elsewhere, name, message):
    with pytest.raises(InputError, match=message):
        load_config(name)


def test_fields_are_set_by_text():
    texts = {
        "model.depths": "(2, 2)",
        "model.align": "true",
        "optim.lr": "1",
        "data.dir": "7",
        "train.steps": "5",
    }
    config = load_config("miavsr:tiny", texts)
    assert config.model.depths == (2, 2) and config.model.align is True
    assert config.optim.lr == 1.0 and config.data.dir == "7" and config.train.steps == 5


def test_tuples_may_be_repeated_and_joined():
    config = load_config("vrt:tiny", {"model.dims": "(24,)*7+(48,) * 6", "train.steps": "1e5"})
    assert config.model.dims == (24,) * 7 + (48,) * 6 and config.train.steps == 100_000


def test_clips_of_ones_own_are_scored_where_they_are_trained_on():
    own = {"data.dataset": "frames/mine"}
    scored = load_config("configs/miavsr.py:vimeo", own).eval
    assert (scored.dataset, scored.split, scored.frames) == ("frames/mine", "val", ())
    assert load_config("configs/miavsr.py:vimeo", own | {"eval.frames": "(1,)"}).eval.frames == (1,)
    for field, value in {"eval.dataset": "vimeo90k", "eval.split": "test"}.items():
        scored = load_config("configs/miavsr.py:vimeo", own | {field: value}).eval
        assert (scored.dataset, scored.split, scored.frames) == ("vimeo90k", "test", (3,))
    other = load_config("configs/miavsr.py:tiny", {"data.dataset": "reds"})
    assert other.eval.dataset == "dead_leaves/small"


def test_a_tilde_in_a_field_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    pairs = {path for path in PATHS if isinstance(dict(fields(defaults()))[path], tuple)}
    given = {path: "('~/a', '')" if path in pairs else "~/a" for path in PATHS}
    config = load_config("miavsr:tiny", given)
    for path in PATHS:
        home = f"{tmp_path}/a"
        assert dict(fields(config))[path] == ((home, "") if path in pairs else home)


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("train.step", "7", "no field --config.train.step; did you mean --config.train.steps"),
        ("train.steps", "many", "--config.train.steps=many must be of the type of 1200"),
        ("train.steps", "1.5", "--config.train.steps=1.5 must be of the type of 1200"),
        ("optim.lr", "1e999", "--config.optim.lr=1e999 .*must be finite"),
        ("model.align", "perhaps", "--config.model.align=perhaps must be of the type of False"),
        ("model.align", "1", "it must be True or False; got 1"),
        ("model.align", "'True'", "it must be True or False; got 'true'"),
        ("train.steps", "True", "it must be an integer; got True"),
        ("optim.lr", "True", "it must be a number; got True"),
        ("optim.lr", "(1, 2)", r"it must be a number; got \(1, 2\)"),
        ("data.intervals", "2", "it must be a tuple, for example .*; got 2"),
        ("data.intervals", "'(1,) * 2'", r"it must be a tuple, .*; got '\(1,\) \* 2'"),
        ("data.intervals", "('a',)", "an element of it must be an integer; got 'a'"),
        ("data.noise", "('a', 'b')", "an element of it must be a number; got 'a'"),
        ("optim.lr_steps", "((1, 'a'),)", "an element of it must be a number; got 'a'"),
        ("eval.metrics", "(1,)", "an element of it must be a text; got 1"),
        ("model.depths", "(24,) * 10 ** 9", "'10 \\*\\* 9' is no value"),
        ("model.depths", "(24,) * 1000000000", "is no value"),
        ("model.depths", "range(3)", r"'range\(3\)' is no value"),
        ("model.depths", "(" * 500, "must be of the type of"),
        ("model.depths", "", "must be of the type of"),
        ("model.depths", "\0", "must be of the type of"),
    ],
)
def test_fields_that_cannot_be_set(field, text, message):
    with pytest.raises(InputError, match=message):
        load_config("miavsr:tiny", {field: text})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"mine\.py is no config: it defines no get_config"),
        (b"get_config = 7", "is no config: it defines no get_config"),
        (b"x = 1\ndef get_config(:", r"mine\.py, line 2: SyntaxError: "),
        (b"x = '\xff\xfe'", "SyntaxError: .*utf-8"),
        (b"x = 1\0", "null bytes"),
        (b"import nothing_of_this_name", r"line 1: ModuleNotFoundError: .*nothing_of_this_name"),
        (b"\nx = 1 / 0", r"mine\.py, line 2: ZeroDivisionError: division by zero"),
        (b"def get_config():\n    return unknown", r"line 2: NameError: .*unknown"),
        (b"def get_config():\n    return None", r"get_config\(\) returned NoneType"),
        (b"def get_config():\n    raise ValueError('a wish')", "mine.py: a wish"),
        (
            b"from jaxvsr.config import defaults\ndef get_config():\n"
            b"    config = defaults()\n    del config.train\n    return config",
            "has no field train.accumulate: start from jaxvsr.config.defaults",
        ),
        (
            b"from jaxvsr.config import defaults\ndef get_config():\n"
            b"    config = defaults()\n    config.data.intervals = ('1',)\n    return config",
            "an element of .*: data.intervals must be an integer; got '1'",
        ),
    ],
)
def test_faults_of_a_config_file_are_one_line(tmp_path, text, message):
    (tmp_path / "mine.py").write_bytes(text)
    with pytest.raises(InputError, match=message) as raised:
        load_config(str(tmp_path / "mine.py"))
    assert "\n" not in str(raised.value)


def test_a_colon_in_the_name_of_a_folder_is_no_variant(tmp_path):
    text = (
        "from jaxvsr.config import defaults\n"
        "def get_config(arg='none'):\n"
        "    config = defaults()\n"
        "    config.data.split = arg\n"
        "    return config\n"
    )
    (tmp_path / "a:b").mkdir()
    (tmp_path / "a:b" / "mine.py").write_text(text)
    assert load_config(f"{tmp_path}/a:b/mine.py").data.split == "none"
    assert load_config(f"{tmp_path}/a:b/mine.py:tiny").data.split == "tiny"


@pytest.mark.parametrize(
    ("fields_", "message"),
    [
        ({"depths": "(24,)*7"}, r"depths of model 'miavsr' must be a tuple.*; got '\(24,\)\*7'"),
        (
            {"depths": ("2", "2")},
            "an element of depths of model 'miavsr' must be an integer; got '2'",
        ),
        ({"dim": "8"}, "dim of model 'miavsr' must be an integer; got '8'"),
        ({"dim": True}, "dim of model 'miavsr' must be an integer; got True"),
        ({"align": 1}, "align of model 'miavsr' must be True or False; got 1"),
        (
            {"depths": (6, 6), "num_heads": (6,)},
            "entry per stage in each of: depths 2, num_heads 1",
        ),
        ({"window_size": (8, 8)}, r"window_size=\(8, 8\) of model 'miavsr' must have 3 elements"),
    ],
)
def test_fields_of_a_model_have_the_types_of_their_defaults(fields_, message):
    with pytest.raises(ValueError, match=message):
        models.create("miavsr", **fields_)


def test_a_runs_folder_is_a_config(tmp_path):
    """Sections and tuples come back, newer fields have their defaults, fields can be set."""
    config = load("rvrt", "001")
    config.optim.lr_steps = ((3, 1e-4), (5, 1e-5))
    save_config(config, tmp_path)
    assert load_config(str(tmp_path)).to_dict() == config.to_dict()
    changed = load_config(str(tmp_path), {"eval.tile": "(9, 0, 0)", "model.dtype": "bfloat16"})
    assert changed.eval.tile == (9, 0, 0) and changed.model.dtype == "bfloat16"
    with pytest.raises(InputError, match="no field --config.model.dtpye; did you mean"):
        load_config(str(tmp_path), {"model.dtpye": "bfloat16"})

    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["train"]["prune"], saved["eval"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    older = load_config(str(tmp_path))
    assert older.train.prune == 0 and older.eval.to_dict() == defaults().eval.to_dict()
    config.loss.terms = {"l1": 1.0}
    save_config(config, tmp_path)
    assert load_config(str(tmp_path)).loss.terms.to_dict() == {"l1": 1.0}


@pytest.mark.parametrize(
    "changes",
    [
        *({"train": train} for train in (7, None, [1], {"steps": "many"}, {"steps": None})),
        *({"loss": {"terms": terms}} for terms in ([], 3, {"l1": "x"}, {"a.b": 1.0})),
        {"a.b": {"c": 1}},
        {"model": 3},
    ],
)
def test_a_damaged_config_of_a_run_is_explained(tmp_path, changes):
    saved = defaults().to_dict() | changes
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(InputError, match="config.json.* (damaged|must be)"):
        load_config(str(tmp_path))


def test_terms_of_the_loss_are_added_and_changed_on_the_command_line(tmp_path):
    overrides = {"loss.terms.fft": "0.1", "loss.terms.charbonnier": "2", "loss.terms.l1": "0"}
    config = load_config("swrn:tiny", overrides)
    assert config.loss.terms.to_dict() == {"charbonnier": 2.0, "fft": 0.1, "l1": 0}
    with pytest.raises(InputError, match=r"--config.loss.terms.fft=much must be of the type"):
        load_config("swrn:tiny", {"loss.terms.fft": "much"})
    own = "from jaxvsr.config import defaults\n\n\ndef get_config():\n    config = defaults()\n"
    (tmp_path / "one.py").write_text(
        f"{own}    config.loss.terms = {{'fft': 1}}\n    return config\n"
    )
    assert load_config(str(tmp_path / "one.py")).loss.terms.to_dict() == {"fft": 1}
    (tmp_path / "two.py").write_text(f"{own}    config.loss.terms.l1 = 'x'\n    return config\n")
    with pytest.raises(InputError, match=r"two.py: loss.terms.l1 must be a number; got 'x'"):
        load_config(str(tmp_path / "two.py"))


def test_a_run_of_before_a_field_existed_had_its_default(tmp_path):
    config = load_config("swrn:tiny")
    saved = json.loads(config.to_json())
    del saved["loss"]["terms"], saved["train"]["prune"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert differences(config, tmp_path) == []
    config.loss.terms = {"l1": 1.0}
    lines = differences(config, tmp_path)
    assert lines == [
        "  loss.terms.charbonnier: 1.0 there, None now",
        "  loss.terms.l1: None there, 1.0 now",
    ]


def test_a_run_of_another_optimizer_is_not_resumed(tmp_path):
    config = load_config("swrn:tiny")
    save_config(config, tmp_path)
    config.optim.name = "lion"
    with pytest.raises(InputError, match="optim.name: 'adam' there, 'lion' now"):
        differences(config, tmp_path)
