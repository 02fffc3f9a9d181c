"""docs/changing_one_thing.md is a config file that works."""

import pathlib
import re
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scored

from jaxvsr import models
from jaxvsr.config import load_config
from jaxvsr.data.degradations import chosen, parse_degradation
from jaxvsr.errors import InputError
from jaxvsr.evaluation import protocol, scoring
from jaxvsr.preflight import check_settings, create_model
from jaxvsr.training import losses
from jaxvsr.training.optimizer import make_optimizer
from jaxvsr.training.state import initial_state
from jaxvsr.training.step import make_loss, make_step

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "changing_one_thing.md"


TABLES = models.MODELS, losses.TERMS, protocol.METRICS, chosen.OF_LQ


@pytest.fixture
def file(tmp_path):
    """The blocks of the page but the first, which is a command, as a file outside of the project.

    The tables are as before afterwards.
    """
    before = [dict(table) for table in TABLES]
    blocks = re.findall(r"^(?: {4}.*\n|\n)+", PAGE.read_text(), re.M)
    code = [textwrap.dedent(block) for block in blocks if block.strip()]
    (tmp_path / "mine.py").write_text("".join(code[1:]))
    yield tmp_path / "mine.py"
    for table, names in zip(TABLES, before, strict=True):
        table.clear()
        table.update(names)


def test_the_page_is_a_config_that_trains_and_scores(file):
    config = load_config(f"{file}:tiny", {"loss.cap": "0.2", "model.dim": "4"})
    check_settings(config)
    model = create_model(config)
    assert (type(model).__name__, model.dim, config.loss.cap) == ("Residual", 4, 0.2)

    optimizer, _ = make_optimizer(config.optim, config.train.steps)
    state = jax.eval_shape(lambda: initial_state(model, optimizer, 0, ema=False))
    step = make_step(make_loss(model, config.loss), optimizer, 1, 0.0)
    batch = {
        "lq": jax.ShapeDtypeStruct((1, 2, 8, 8, 3), np.uint8),
        "gt": jax.ShapeDtypeStruct((1, 2, 32, 32, 3), np.uint8),
    }
    after, measured = jax.eval_shape(step, state, batch)
    assert measured.keys() >= {"charbonnier", "darkness", "robust"}
    assert after.weights.params.keys() == {"Conv_0", "Conv_1"}
    sr, gt = (np.full((1, 2, 4, 4, 3), value, np.float32) for value in (0.25, 0.75))
    values = losses.values(losses.Seen(sr, gt, {}, {}), config.loss)
    assert config.loss.sum_frames  # there are two
    assert float(values["darkness"]) == pytest.approx(2 * 0.5)
    assert float(values["robust"]) == pytest.approx(2 * 0.2)

    settings = scored.protocol(metrics=config.eval.metrics, clips=1)
    weights = {"params": jnp.zeros(())}
    result = scoring.evaluate(scored.repeat_pixels, scored.Source(), settings, weights)
    assert " bias ↓ " in result.table()
    assert protocol.best_score(config.eval, {"bias": 0.25}) == -0.25

    lq = np.full((1, 8, 8, 3), 77, np.uint8)
    degraded = parse_degradation(config.data.degradation).lq(lq, lq, np.random.default_rng(0))
    np.testing.assert_array_equal(degraded, 64)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.name", "residul", "unknown model 'residul'; did you mean 'residual'"),
        ("loss.terms.darknes", "1", "unknown term 'darknes'.*did you mean 'darkness'"),
        ("eval.metrics", "('psnr', 'bia')", "unknown metric 'bia'.*did you mean 'bias'"),
        ("data.degradation", "posteriz", "unknown degradation 'posteriz'; did you mean 'poster"),
        ("optim.name", "lyon", "unknown optim.name='lyon'; did you mean 'lion'"),
        ("optim.schedule", "cosin", "unknown optim.schedule='cosin'; did you mean 'cosine'"),
    ],
)
def test_misspelt_names_are_refused(file, field, value, message):
    changes = {"eval.best": "psnr", field: value}
    with pytest.raises(InputError, match=message):
        config = load_config(str(file), changes)
        check_settings(config)
        create_model(config)


def test_each_change_takes_less_than_ten_lines():
    for section in PAGE.read_text().split("\n## ")[1:-1]:
        block = re.findall(r"^ {4}.+$", section, re.M)
        assert 0 < len(block) < 12, section.splitlines()[0]
