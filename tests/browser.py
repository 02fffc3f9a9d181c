"""Chromium without a window, driven through its debugging pipe."""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import time

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
# All texts of a page, those in shadow trees too, joined, since a title may consist of several.
TEXTS = """(() => {
  const texts = [];
  const walk = (node) => {
    if (node.nodeType === Node.TEXT_NODE) texts.push(node.data.trim());
    if (["STYLE", "SCRIPT", "TEMPLATE"].includes(node.nodeName)) return;
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
  };
  walk(document.body);
  return texts.join("");
})()"""


def messages_of(pipe):
    """Messages end with a zero byte."""
    rest = b""
    while chunk := pipe.read1():
        *messages, rest = (rest + chunk).split(b"\0")
        yield from messages


class Page:
    """A page of a browser."""

    def __init__(self, send, receive, size):
        self._send, self._messages, self._ids = send, messages_of(receive), itertools.count(1)
        self._session = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": found["sessionId"]}
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)

    def call(self, method, **params):
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params, **self._session}
        self._send.write(json.dumps(message).encode() + b"\0")
        self._send.flush()
        for text in self._messages:  # events come in between
            answer = json.loads(text)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
        raise AssertionError("the browser has ended")

    def open(self, url):
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)

    def texts(self):
        return self.call("Runtime.evaluate", expression=TEXTS)["result"].get("value", "")

    def wait_for(self, *words, seconds=120):
        end = time.monotonic() + seconds
        while missing := [word for word in words if word not in (texts := self.texts())]:
            assert time.monotonic() < end, f"{missing} not in the page: {texts}"
            time.sleep(0.5)

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        return path


@contextlib.contextmanager
def page(size=(1600, 1400)):
    """Opens a page of `size`, in pixels."""
    commands, answers = os.pipe(), os.pipe()
    # Above 4, so that bash can make 3 and 4 of them; dash knows one digit only.
    theirs = [fcntl.fcntl(pipe, fcntl.F_DUPFD, 10) for pipe in (commands[0], answers[1])]
    shell = ["bash", "-c", f'exec "$@" 3<&{theirs[0]} 4>&{theirs[1]}', "bash", CHROMIUM, *FLAGS]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    browser = subprocess.Popen(shell, pass_fds=theirs, **quiet)
    for descriptor in (*theirs, commands[0], answers[1]):
        os.close(descriptor)
    try:
        with open(commands[1], "wb") as send, open(answers[0], "rb") as receive:
            yield Page(send, receive, size)
    finally:
        browser.terminate()
        browser.wait()
