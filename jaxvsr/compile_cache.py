"""JAX's persistent compilation cache: programs that were compiled once start at once."""

import hashlib
import os
import pathlib
import platform
import sys
from typing import Any

SIZE = 4 * 2**30  # bytes; the programs that were unused for longest are deleted
SHORTEST = 0.1  # seconds of compiling from which a program is kept
TRACED = "JAXVSR_PROGRAMS"  # names the folder of `programs`; unset: they are not kept


def default_folder() -> pathlib.Path:
    """A folder in the user's cache, for this kind of processor, whose features CPU programs need.

    Returns:
        ~/.cache/jaxvsr/programs-<kind>, or below $XDG_CACHE_HOME.
    """
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    kind = hashlib.sha256(_processor().encode()).hexdigest()[:8]
    return pathlib.Path(root) / "jaxvsr" / f"programs-{kind}"


def use_compile_cache(folder: str) -> None:
    """Sets the folder of compiled programs, before anything is compiled.

    A folder in $JAX_COMPILATION_CACHE_DIR is used instead of the default one; it gets no traced
    programs. Where the folder cannot be written, programs are compiled anew.

    Args:
        folder: "" for the default; "off" for none.
    """
    settings: dict[str, Any]
    if folder == "off":
        os.environ.pop(TRACED, None)
        settings = {"jax_enable_compilation_cache": False}
    elif not folder and os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    else:
        place = pathlib.Path(folder) if folder else default_folder()
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        os.environ[TRACED] = str(place / "traced")
        settings = {
            "jax_compilation_cache_dir": str(place),
            "jax_compilation_cache_max_size": SIZE,
        }
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            settings["jax_persistent_cache_min_compile_time_secs"] = SHORTEST
    for name, value in settings.items():
        # Read when JAX is imported, and by processes of this one.
        os.environ[name.upper()] = str(value).lower() if isinstance(value, bool) else str(value)
    if jax := sys.modules.get("jax"):
        for name, value in settings.items():
            jax.config.update(name, value)


def _processor() -> str:
    """The features of this machine's processor, as far as the system tells them."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {features or platform.processor()}"
