import pickle

import numpy as np
import pytest

from jaxvsr.data import degradations
from jaxvsr.data.degradations import Compressed, Order, Realistic, Walk, parse_degradation
from jaxvsr.errors import InputError


@pytest.fixture(scope="module")
def clip():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, 12, 16, 3), np.uint8)
    gt = degradations.imresize(coarse, 4)
    return gt, degradations.imresize(gt, 1 / 4)


def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("compressed", lambda gt, lq: degradations.compressed(gt, rng())),
        (
            "compressed(crf=(30, 31), noise=1.0)",
            lambda gt, lq: degradations.compressed(gt, rng(), Compressed(crf=(30, 31), noise=1.0)),
        ),
        (
            "realistic(second=Order(blur=0.0, scale=Walk(0.5, 1.0)), sinc=0.0)",
            lambda gt, lq: degradations.realistic(
                gt, rng(), Realistic(second=Order(blur=0.0, scale=Walk(0.5, 1.0)), sinc=0.0)
            ),
        ),
        ("h264(crf=25)", lambda gt, lq: degradations.h264(lq, crf=25)),
        ("jpeg(quality=40)", lambda gt, lq: degradations.jpeg(lq, 40)),
        ("bicubic", lambda gt, lq: lq),
        ("bd", lambda gt, lq: degradations.blur_downsample(gt, "bd")),
        ("duf", lambda gt, lq: degradations.blur_downsample(gt, "duf")),
        (
            "tecogan, jpeg(quality=40), jpeg(quality=30)",
            lambda gt, lq: degradations.jpeg(
                degradations.jpeg(degradations.blur_downsample(gt, "tecogan"), 40), 30
            ),
        ),
    ],
)
def test_a_line_of_text_chooses_a_degradation_and_its_settings(text, expected, clip):
    found = pickle.loads(pickle.dumps(parse_degradation(text)))  # it goes to other processes
    assert found.text == text
    np.testing.assert_array_equal(found.lq(*clip, rng()), expected(*clip))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("compresed", "unknown degradation 'compresed'; did you mean 'compressed'?"),
        ("compressed(crv=(18, 35))", "no setting 'crv'; did you mean 'crf'?"),
        ("compressed(scale=2)", "no setting 'scale'"),  # it is that of the data set
        ("compressed(crf=(60, 70))", "crf must be in 0..51"),
        ("h264()", "set either crf or bitrate"),
        ("jpeg(quality=0)", "quality must be in 1..100"),
        ("realistic(first=Ordre())", "unknown 'Ordre'; did you mean 'Order'?"),
        ("realistic(first=Order(scale=Walk(2, 1)))", "low <= high"),
        ("compressed((18, 35))", "settings are given by name"),
        ("bd(scale=2)", "the degradation 'bd' has no setting 'scale'"),
        ("h264(crf=25), bd", "bd makes lq from gt; put it first"),
        ("bd, h246(crf=25)", "unknown degradation 'h246'; did you mean 'h264'?"),
        ("compressed(crf=open('x'))", "unknown 'open'"),
        ("compressed(crf=__import__)", "must be a name with settings"),
        ("a b", "must be a name with settings"),
        ("x.y(z=1)", "settings are given by name"),
    ],
)
def test_a_wrong_line_is_explained(text, message):
    with pytest.raises(InputError) as error:
        parse_degradation(text)
    assert message in str(error.value)


def test_a_kind_of_bd_that_is_not_defined_for_the_scale_is_refused():
    assert parse_degradation("duf", 2).of_gt
    with pytest.raises(InputError, match="the degradation 'bd': .*scale"):
        parse_degradation("bd", 2)
