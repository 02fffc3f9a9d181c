"""A short run of `benchmarks.fuzz`: damaged files are read, or refused in one line."""

import random

import pytest

pytest.importorskip("av")
from benchmarks import fuzz

SHORT = [kind for kind in fuzz.KINDS if kind.name in ("images", "videos", "weights", "configs")]


@pytest.mark.parametrize("kind", SHORT, ids=lambda kind: kind.name)
def test_damaged_files_are_read_or_refused(kind, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    kind.make(base)
    results = {seed: fuzz.attempt(kind, base, tmp_path / "work", seed) for seed in range(40)}
    assert set(results.values()) <= {"read", "refused"}, results
    assert "refused" in results.values()


def test_damage_depends_on_the_seed_alone():
    data = bytes(range(256)) * 4
    damaged = [fuzz.damage(data, random.Random(seed)) for seed in range(50)]
    assert damaged == [fuzz.damage(data, random.Random(seed)) for seed in range(50)]
    assert sum(each != data for each in damaged) > 45
