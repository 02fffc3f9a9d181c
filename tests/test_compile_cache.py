"""Compiled programs that outlive a process."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import videos

from jaxvsr import compile_cache


def upscale(folder, *flags, **env):
    source, output = folder / "a.mkv", folder / "b.mkv"
    if not source.exists():
        videos.write(source, videos.blocks(3))
    env = os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"} | env
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    words = ["upscale", str(source), str(output), "--overwrite", "--lossless", *flags]
    done = subprocess.run(
        [sys.executable, "-m", "jaxvsr", *words], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return videos.read(output).frames


def test_a_second_start_finds_the_programs_of_the_first(tmp_path):
    home = tmp_path / "home"
    first = upscale(tmp_path, XDG_CACHE_HOME=str(home))
    (folder,) = (home / "jaxvsr").iterdir()
    assert folder.name == compile_cache.default_folder().name
    programs = {path.name for path in folder.glob("*-cache")}
    traced = {path.name: path.read_bytes() for path in (folder / "traced").iterdir()}
    assert programs and traced
    second = upscale(tmp_path, XDG_CACHE_HOME=str(home))
    assert {path.name for path in folder.glob("*-cache")} == programs
    assert {path.name: path.read_bytes() for path in (folder / "traced").iterdir()} == traced
    np.testing.assert_array_equal(first, second)


def test_it_can_be_elsewhere_off_or_impossible(tmp_path):
    home, other = tmp_path / "home", tmp_path / "other"
    upscale(tmp_path, "--compile_cache=off", XDG_CACHE_HOME=str(home))
    assert not home.exists()
    upscale(tmp_path, f"--compile_cache={other}", XDG_CACHE_HOME=str(home))
    assert list(other.glob("*-cache")) and list(other.glob("traced/*")) and not home.exists()
    home.write_text("a file where a folder should be")
    upscale(tmp_path, XDG_CACHE_HOME=str(home))


def test_a_folder_of_the_users_own_is_left_alone(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/of/the/user")
    before = dict(os.environ)
    compile_cache.use_compile_cache("")
    assert dict(os.environ) == before


@pytest.mark.parametrize("given", ["", "/elsewhere"])
def test_the_default_is_in_the_users_cache(monkeypatch, given):
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    root = pathlib.Path(given or pathlib.Path.home() / ".cache")
    assert compile_cache.default_folder().parent == root / "jaxvsr"
