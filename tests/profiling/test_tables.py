"""Tables of profiles."""

import dataclasses

import numpy as np
import pytest
from profiled import masked, swrn

from jaxvsr.profiling import tables


def test_tables_show_layers_that_sum_to_the_whole():
    text = tables.report(swrn(), depth=2, rows=3)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    start = next(i for i, row in enumerate(rows) if row[:1] == ["layer"])
    shown = rows[start + 2 :]
    assert [row[0] for row in shown[-2:]] == ["(7 others)", "total"]
    numbers = [[float(cell.replace(",", "")) for cell in row[1:]] for row in shown]
    *parts, whole = np.array(numbers)
    np.testing.assert_allclose(sum(parts), whole, rtol=0.01)
    assert whole[0] == swrn().parameters and whole[1] == 100


def test_the_table_of_layers_is_as_deep_as_gives_some():
    assert "cell/conv_last" in tables.report(swrn(), None, 20)
    assert "cell/conv_last" not in tables.report(swrn(), 1, 20)


def test_masks_are_shown_by_branch_and_block_with_what_they_were_computed_on():
    text = tables.report(masked(), 1, 5)
    row = next(line for line in text.splitlines() if line.startswith("| backward_1/group_0"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["0", "100", "50"]
    assert (
        "Masks of random noise; weights: untrained. Masks of an untrained model have no meaning"
        in text
    )


@pytest.mark.parametrize(
    ("made", "seconds", "expected"),
    [
        (swrn, 0.06, 1 / 25 + 0.01),  # one later frame, and its own computation: 6 frames a call
        (masked, 0.04, 3 / 25 + 0.04),  # the other three frames, and all four
        (masked, 0.4, 3 * 0.1 + 0.4),  # too slow for 25 frames per second
    ],
)
def test_the_longest_wait_in_a_stream(made, seconds, expected):
    timed = dataclasses.replace(made(), seconds=(seconds,))
    assert timed.longest_wait == pytest.approx(expected)
    assert "| longest wait (ms) " in tables.report(timed, 1, 5)
    untimed = dataclasses.replace(made(), seconds=())
    assert untimed.longest_wait is None and "longest wait" not in tables.report(untimed, 1, 5)


def test_a_comparison_has_a_row_a_model_and_says_what_masks_spare():
    lines = tables.comparison([masked(), swrn()]).splitlines()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[0] == "|"]
    heads, _, mia, small = (dict(zip(table[0], row, strict=True)) for row in table)
    assert list(heads)[:3] == ["model", "parameters", "GFLOPs"]
    assert (mia["model"], small["model"]) == ("mia", "swrn")
    assert float(mia["with masks"]) < float(mia["GFLOPs"]) and small["with masks"] == ""
    assert mia["relative time"] == "1.00" and float(small["relative time"]) > 0
    assert (mia["lookahead"], small["lookahead"]) == ("clip", "1")
    assert float(mia["longest wait (ms)"]) > float(small["longest wait (ms)"]) > 40
    assert float(mia["ms"]) > 0 and int(mia["memory (MiB)"]) >= 0
