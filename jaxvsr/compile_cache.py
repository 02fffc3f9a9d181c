"""JAX's persistent compilation cache: programs that were compiled once start at once."""

import hashlib
import os
import pathlib
import platform
import sys

SIZE = 4 * 2**30  # bytes; the programs that were unused for longest are deleted


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

    A folder in $JAX_COMPILATION_CACHE_DIR is used instead of the default one. Where the folder
    cannot be written, programs are compiled anew.

    Args:
        folder: "" for the default; "off" for none.
    """
    if folder == "off":
        settings = {"jax_enable_compilation_cache": "false"}
    elif not folder and os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    else:
        place = pathlib.Path(folder) if folder else default_folder()
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        settings = {
            "jax_compilation_cache_dir": str(place),
            "jax_compilation_cache_max_size": str(SIZE),
        }
    for name, value in settings.items():
        os.environ[name.upper()] = value  # read when JAX is imported, and by processes of this one
    if jax := sys.modules.get("jax"):
        for name, value in settings.items():
            jax.config.update(name, {"false": False, str(SIZE): SIZE}.get(value, value))


def _processor() -> str:
    """The features of this machine's processor, as far as the system tells them."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {features or platform.processor()}"
