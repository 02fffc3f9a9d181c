"""Parts of data sets: their clips and names."""

import pytest

from jaxvsr.data import parts
from jaxvsr.errors import InputError

LISTS = {"train": ["b", "a", "c"], "test": ["d"]}


@pytest.mark.parametrize(
    ("text", "clips"),
    [("8", 8), ("000,011", ("000", "011")), ("011, 000,011", ("000", "011")), ("240,", ("240",))],
)
def test_clips_are_a_number_or_names(text, clips):
    assert parts.parse_clips(text) == clips


@pytest.mark.parametrize("text", ["0", ",", " "])
def test_no_clips_are_refused(text):
    with pytest.raises(InputError, match="--clips must be names of clips, such as 000,011, or a"):
        parts.parse_clips(text)


@pytest.mark.parametrize("text", ["8", "000,011", "240,", "a", "00001/0001,00001/0002", "x" * 70])
def test_the_name_of_a_part_leads_back_to_its_flag(text):
    clips = parts.parse_clips(text)
    config = parts.part_of(parts.PartConfig(name="bd_given"), clips)
    assert config.name.startswith("bd_given-") and "/" not in config.name
    assert len(config.name) < 80
    whole, flag = parts.flag_of(config.name)
    assert whole == config.whole == "bd_given"
    assert flag == "..." or parts.parse_clips(flag) == clips
    assert parts.flag_of("bd_given") == ("bd_given", "")


def test_other_clips_have_another_name():
    chosen = [3, ("3",), ("a", "b"), ("a/b",), ("a/c",), ("a_b",), ("a b",)]
    assert len({parts.part_of(parts.PartConfig(name="x"), clips).name for clips in chosen}) == 7


def test_selected_clips_keep_their_order():
    assert parts.select(LISTS, ()) == LISTS
    assert parts.select(LISTS, 2) == {"train": ["b", "a"], "test": ["d"]}
    assert parts.select(LISTS, 2, of_each=False) == {"train": ["b", "a"]}
    assert parts.select(LISTS, ("c", "b")) == {"train": ["b", "c"]}


@pytest.mark.parametrize(
    ("clips", "of_each", "words"),
    [
        (("a", "e"), True, "there is no clip 'e'; clips have names from 'a' to 'd'"),
        (3, True, "--clips=3: there are 3 clips; leave out --clips"),
        (4, False, "--clips=4: there are 4 clips"),
    ],
)
def test_clips_that_are_not_there_are_refused(clips, of_each, words):
    with pytest.raises(InputError, match=words):
        parts.select(LISTS, clips, of_each=of_each)


def test_views_hold_stored_clips_alone():
    views = {"all": {"train": ["a", "b"], "test": ["d"]}, "none": {"test": ["d"]}}
    assert parts.narrow(views, {"train": {"b", "c"}}) == {"all": {"train": ["b"]}}


def test_the_command_prepares_the_data_set():
    assert parts.command_for("dead_leaves/small", "/x") == (
        "jaxvsr data dead_leaves/small --data_dir=/x"
    )
    by_hand = parts.command_for("reds/blur-000+011")
    assert by_hand.startswith("jaxvsr data reds/blur --clips=000,011 --manual_dir=")
    assert """frames --config='{"name": "mine", "gt": """ in parts.command_for("frames/mine")
