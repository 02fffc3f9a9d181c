"""Serves this folder on http://localhost:8000, with the headers that threads in a browser need.

npm install @litertjs/core@2
python serve.py
"""

import functools
import http.server
import pathlib


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files of a page that is isolated from other origins."""

    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        """Adds the headers."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


if __name__ == "__main__":
    folder = str(pathlib.Path(__file__).parent)
    handler = functools.partial(Handler, directory=folder)
    http.server.ThreadingHTTPServer(("127.0.0.1", 8000), handler).serve_forever()
