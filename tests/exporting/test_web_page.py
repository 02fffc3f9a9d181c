"""The page that runs a file in a browser, in headless Chromium."""

import functools
import http.server
import importlib.util
import json
import shutil
import subprocess
import threading

import numpy as np
import pytest

from jaxvsr import cli, presets
from jaxvsr import export as program
from jaxvsr.exporting import clips, phone_file
from jaxvsr.exporting.phone_graph import phone_graph
from jaxvsr.exporting.playing import Player
from jaxvsr.exporting.web_page import write_page

SIZE = (32, 48)
PAGE = """<!doctype html>
<script type="importmap">
{"imports": {"@litertjs/core": "./node_modules/@litertjs/core/dist/index.js",
             "@litertjs/wasm-utils": "./node_modules/@litertjs/wasm-utils/dist/index.js"}}
</script>
<script type="module">
  const send = (path, body) => fetch(path, {method: "POST", body});
  try {
    const {Upscaler} = await import("./upscaler.js");
    const upscaler = await Upscaler.load("file");
    const bytes = new Uint8Array(await (await fetch("./frames.bin")).arrayBuffer());
    const length = upscaler.width * upscaler.height * 3, parts = [];
    for (let i = 0; i < bytes.length; i += length) {
      const output = await upscaler.push(bytes.slice(i, i + length));
      if (output) parts.push(output.sr);
    }
    parts.push((await upscaler.finish()).sr);
    await send("/done", new Blob(parts));
  } catch (error) { await send("/failed", String(error.stack || error)); }
</script>
"""


@pytest.fixture
def exported(tmp_path):
    """An int8 file of the built-in network with its page, and the expected output."""
    pytest.importorskip("litert_converter")
    model, variables, _ = presets.load("swrn")
    graph = phone_graph(model, variables, SIZE)
    texture = clips.moving_texture(SIZE)
    data = phone_file.quantize_int8(graph, [texture])
    measured = phone_file.measure(graph, data, data, [texture])
    description = phone_file.describe(graph, data, measured, {})
    (tmp_path / "file.tflite").write_bytes(data)
    (tmp_path / "file.json").write_text(json.dumps(description))
    (tmp_path / "frames.bin").write_bytes(texture.tobytes())
    write_page(tmp_path / "file.tflite")
    return tmp_path, Player(data).upscale(texture)


def test_the_page_names_the_file(tmp_path, capsys):
    pytest.importorskip("litert_converter")
    words = ["--preset=swrn", "--size=16x16", f"--out={tmp_path}", "--page"]
    assert cli.run_command(program.command("export"), words) == 0
    assert 'Upscaler.load("swrn_16x16_fp32")' in (tmp_path / "index.html").read_text()
    assert "npm install @litertjs/core@2" in capsys.readouterr().out


@pytest.mark.slow
def test_a_browser_computes_the_same_bytes(exported):
    folder, expected = exported
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser or not shutil.which("npm"):
        pytest.skip("needs Chromium and npm")
    install = ["npm", "install", "--no-audit", "--no-fund", "@litertjs/core@2"]
    if subprocess.run(install, cwd=folder, capture_output=True).returncode:
        pytest.skip("npm could not install @litertjs/core")
    (folder / "test.html").write_text(PAGE)
    answers, received = {}, threading.Event()
    spec = importlib.util.spec_from_file_location("serve", folder / "serve.py")
    serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)

    class Handler(serve.Handler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            answers[self.path] = body
            received.set()

        def log_message(self, *words):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/test.html"
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    process = subprocess.Popen(
        [browser, *flags, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert received.wait(120), "the page sent nothing"
    finally:
        process.terminate()
        process.wait()
        server.shutdown()
    assert "/failed" not in answers, answers["/failed"].decode()
    found = np.frombuffer(answers["/done"], np.uint8).reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)
