import dataclasses
import importlib

import ml_collections
import pytest

from configs import protocols
from jaxvsr import models
from jaxvsr.config import (
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


def test_the_published_recipe_of_miavsr():
    config = load("miavsr")
    assert (config.data.frames, config.data.crop, config.data.batch) == (16, 256, 24)
    optim = config.optim
    assert (optim.lr, optim.lr_end, optim.b1, optim.b2, optim.ema) == (2e-4, 1e-7, 0.9, 0.99, 0.999)
    assert (optim.flow_lr_mul, optim.fix_flow, config.train.steps) == (0.125, 5000, 600_000)
    assert (config.loss.eps, config.loss.sparsity) == (1e-12, 1e-4)
    vimeo = load("miavsr", "vimeo")
    assert (vimeo.data.frames, vimeo.data.mirror, vimeo.train.steps) == (7, True, 300_000)
    assert (vimeo.optim.lr, vimeo.optim.flow_lr_mul) == (1e-4, 0.25)


def test_the_published_recipe_of_basicvsr():
    config = load("basicvsr")
    assert (config.data.frames, config.data.crop, config.data.batch) == (15, 256, 8)
    optim = config.optim
    assert (optim.lr, optim.lr_end, optim.b1, optim.b2, optim.ema) == (2e-4, 1e-7, 0.9, 0.99, 0.999)
    assert (optim.flow_lr_mul, optim.fix_flow, config.train.steps) == (0.125, 5000, 300_000)
    vimeo = load("basicvsr", "vimeo")
    assert (vimeo.data.frames, vimeo.data.mirror, vimeo.eval.input) == (7, True, "mirror")


def test_the_published_recipes_of_rvrt():
    config = load("rvrt")
    assert (config.data.frames, config.data.crop, config.data.batch) == (30, 256, 8)
    assert (config.optim.lr, config.optim.flow_lr_mul, config.optim.fix_flow) == (
        4e-4,
        0.25,
        30_000,
    )
    assert (config.loss.eps, config.train.steps, config.eval.tile) == (1e-9, 600_000, (0, 128, 128))
    blurred = load("rvrt", "003")
    assert (blurred.data.mirror, blurred.optim.lr, blurred.optim.fix_flow) == (True, 2e-4, 0)
    assert blurred.eval.dataset == blurred.data.dataset == "vimeo90k/bd"
    assert load("rvrt", "004").model.to_dict() == load("rvrt", "005").model.to_dict()
    light = load("rvrt_light", "vimeo")
    assert (light.optim.lr, light.loss.eps, light.eval.input) == (2e-4, 1e-12, "mirror")


def test_the_published_recipe_of_basicvsrpp():
    config = load("basicvsrpp")
    assert (config.data.frames, config.data.crop, config.data.batch) == (30, 256, 8)
    assert (config.optim.lr, config.optim.flow_lr_mul, config.optim.fix_flow) == (1e-4, 0.25, 5000)
    vimeo = load("basicvsrpp", "vimeo")
    assert (vimeo.data.mirror, vimeo.optim.fix_flow, vimeo.train.steps) == (True, 0, 300_000)


def test_the_published_recipe_of_psrt():
    config = load("psrt")
    assert config.model.depths == config.model.num_heads == (6, 6, 6)
    assert (config.data.frames, config.data.crop, config.data.batch) == (16, 256, 8)
    assert (config.optim.lr, config.train.steps, config.loss.sparsity) == (2e-4, 600_000, 0)
    vimeo = load("psrt", "vimeo,vid4")
    assert (vimeo.data.frames, vimeo.data.mirror, vimeo.data.batch) == (7, True, 8)
    assert (vimeo.optim.lr, vimeo.train.steps) == (1e-4, 300_000)


def test_the_published_recipe_of_iconvsr():
    reds, vimeo = load("iconvsr"), load("iconvsr", "vimeo")
    assert (reds.model.keyframe_stride, reds.model.temporal_padding) == (5, 2)
    assert (vimeo.model.keyframe_stride, vimeo.model.temporal_padding) == (5, 3)
    assert reds.optim.to_dict() == load("basicvsr").optim.to_dict()


def test_the_published_recipe_of_vrt():
    config = load("vrt")
    assert (config.data.frames, config.data.crop, config.data.batch) == (6, 256, 8)
    optim = config.optim
    assert (optim.lr, optim.lr_end, optim.b1, optim.b2, optim.ema) == (4e-4, 1e-7, 0.9, 0.99, 0)
    assert (optim.flow_lr_mul, optim.fix_flow, config.train.steps) == (0.125, 20_000, 300_000)
    assert (optim.flow_params, config.loss.eps) == (("spynet", "deform"), 1e-9)
    assert (load("vrt", "002").data.frames, load("vrt", "003").data.frames) == (16, 7)
    assert load("vrt", "004,vid4_bd").data.dataset == "vimeo90k/bd"
    for variant in ("005", "006", "007", "008", "009"):
        config = load("vrt", variant)
        assert (config.model.scale, config.data.crop) == (1, 192)


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
    expected = {"crop": 0, "frames": (), "input": "plain"} | protocols.PROTOCOLS[benchmark]
    assert {field: config.eval[field] for field in expected} == expected
    check_settings(config)
    create_model(config)
    # What is scored has nothing to do with what is trained.
    if name != "bicubic":
        assert config.data.to_dict() == load(name, VARIANTS[name][1]).data.to_dict()


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


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("train.step", "7", "no field --config.train.step; did you mean --config.train.steps"),
        ("train.steps", "many", "--config.train.steps=many must be of the type of 1200"),
        ("train.steps", "1.5", "--config.train.steps=1.5 must be of the type of 1200"),
        ("model.align", "perhaps", "--config.model.align=perhaps must be of the type of False"),
    ],
)
def test_fields_that_cannot_be_set(field, text, message):
    with pytest.raises(InputError, match=message):
        load_config("miavsr:tiny", {field: text})
