"""Traced programs that outlive a process."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import videos

from jaxvsr import models, programs, upscale
from jaxvsr.compile_cache import TRACED
from jaxvsr.kernels import switch
from jaxvsr.training.state import initial_shapes, initial_weights

MODEL = models.create("swrn", dim=4, num_blocks=1)
# Of equal shapes: only the description of the network tells them apart.
OTHER = MODEL.clone(dtype="bfloat16")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(TRACED, str(tmp_path / "traced"))
    return tmp_path / "traced"


def made(model=MODEL, details="", what="a test"):
    """Whether the content was made, instead of found."""
    calls = []
    found = programs.kept(what, model, details, lambda: calls.append(1) or b"content")
    assert found == b"content"
    return bool(calls)


def test_a_second_start_does_not_trace_the_network(folder, monkeypatch):
    clip = videos.blocks(3, 32, 32)
    shapes = initial_shapes(MODEL, False)
    variables = jax.tree.map(lambda x: np.full(x.shape, 0.1, x.dtype), shapes.variables)
    first = upscale.upscale(clip, MODEL, variables)

    def traced(*args, **kwargs):
        raise AssertionError("the network was traced")

    for method in ("__call__", "step"):
        monkeypatch.setattr(type(MODEL), method, traced)
    assert initial_shapes(MODEL, False) == shapes
    np.testing.assert_array_equal(upscale.upscale(clip, MODEL, variables), first)
    with pytest.raises(AssertionError, match="was traced"):
        upscale.upscale(clip, OTHER, variables)
    with pytest.raises(AssertionError, match="was traced"):
        upscale.upscale(clip[:, :24], MODEL, variables)


def test_shapes_are_those_of_the_weights(folder):
    for _ in range(2):
        found = initial_shapes(MODEL, True)
        expected = jax.eval_shape(lambda: initial_weights(MODEL, jax.random.key(0), True))
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
        assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_network_is_described(name):
    model = models.create(name)
    if hasattr(model, "dim"):
        found = [programs._network(model.clone(dim=dim)) for dim in (8, 16)]
        assert found[0] and found[0] != found[1]
    assert programs._network(model) and " at 0x" not in programs._network(model)


def test_what_a_result_depends_on(folder, monkeypatch):
    assert made() and not made()
    assert made(OTHER) and made(details="other") and made(what="another test")
    with jax.default_matmul_precision("bfloat16"):
        assert made()
    with monkeypatch.context() as patch:
        patch.setenv(switch.VARIABLE, "off")
        assert made()
    for name, value in (
        ("code", lambda: "other code or versions"),
        ("_devices", lambda: ["other devices"]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(programs, name, value)
            assert made() and not made()
    assert not made()


def test_the_code_is_its_files_and_the_versions_of_its_libraries(tmp_path, monkeypatch):
    def found():
        programs.code.cache_clear()
        return programs.code(tmp_path)

    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "part").mkdir()
    states = [found()]
    assert found() == states[0]
    for change in (
        lambda: (tmp_path / "a.py").write_text("x = 2"),
        lambda: (tmp_path / "part" / "b.py").write_text(""),
        lambda: (tmp_path / "a.py").rename(tmp_path / "c.py"),
        lambda: monkeypatch.setattr(programs.metadata, "version", lambda name: "other"),
    ):
        change()
        states.append(found())
    assert len(set(states)) == len(states)
    programs.code.cache_clear()


def test_damaged_files_are_replaced(folder):
    assert made()
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", whole[:-1] + b"?"):
        path.write_bytes(damaged)
        assert made() and not made()
        assert path.read_bytes() == whole
    assert [found.name for found in folder.iterdir()] == [path.name]


def test_nothing_is_kept_without_a_folder_or_of_networks_elsewhere(folder, monkeypatch):
    assert made(videos.Trail()) and made(videos.Trail())
    assert made(MODEL.clone(dim=videos.Trail)) and not folder.exists()
    monkeypatch.delenv(TRACED)
    assert made() and made()
    monkeypatch.setenv(TRACED, str(folder / "file" / "folder"))
    folder.mkdir()
    (folder / "file").touch()
    assert made() and made()


def test_the_files_that_were_unused_for_longest_are_deleted(folder, monkeypatch):
    assert made(details="a")
    (size,) = (path.stat().st_size for path in folder.iterdir())
    monkeypatch.setattr(programs, "SIZE", 2 * size)
    for age, name in enumerate("bc"):
        for path in folder.iterdir():
            os.utime(path, (age, age))
        assert not made(details="a") and made(details=name)
    assert not made(details="a") and not made(details="c") and made(details="b")


def test_what_cannot_be_exported_is_lowered_anew(folder):
    def doubled(x):
        return jax.pure_callback(lambda x: 2 * np.asarray(x), jax.typeof(x), x)

    for _ in range(2):
        lowered = programs.lower(jax.jit(doubled), MODEL, "doubled", jnp.ones(2))
        np.testing.assert_array_equal(lowered.compile()(jnp.ones(2)), [2, 2])
