"""Writes a page that runs an exported file in a browser, by LiteRT.js."""

import pathlib

from jaxvsr.console import say
from jaxvsr.errors import InputError
from jaxvsr.files import write_text

FOLDER = pathlib.Path(__file__).parent / "page"
FILES = ("index.html", "upscaler.js", "serve.py")


def write_page(file: pathlib.Path) -> None:
    """Writes the page into the folder of a file of `export_phone_file`.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        for name in FILES:
            text = (FOLDER / name).read_text(encoding="utf-8").replace('"FILE"', f'"{file.stem}"')
            write_text(file.with_name(name), text)
    except OSError as error:
        raise InputError(f"--out={file.parent} cannot be written: {error}") from error
    say(
        f"to try it in a browser: cd {file.parent}; npm install @litertjs/core@2; python serve.py; "
        "then open http://localhost:8000"
    )
