"""What TensorBoard shows of a run, in a browser."""

import contextlib
import os
import re
import subprocess
import sys

import browser
import numpy as np
import pytest
from PIL import Image
from scored import score

from jaxvsr import evaluate
from jaxvsr.config import defaults
from jaxvsr.training.summaries import Summaries

SET = "eval/made_up"
COLOR = (255, 0, 255)  # of the output, and of nothing else on the page


def write_run(workdir):
    """The logs of two evaluations in a training, and of the report at its end."""
    workdir.mkdir()
    config = defaults()
    config.model.name, config.eval.dataset, config.eval.split = "model", "made", "up"
    result = score(baseline=True)
    result.drawn["frame"]["sr"][:] = COLOR
    with contextlib.closing(Summaries(workdir, 0)) as summaries:
        summaries.describe(0, config)
        for step in (10, 20):
            summaries.scalars(step, {"train/loss": 1 / step, "time/steps_per_second": 3.0})
            evaluate.log_scores(result, config, step, summaries)
            for kind in ("frame", "profile"):
                evaluate.log_picture(result.drawn[kind], kind, config, step, summaries)
    drawn = {kind: result.drawn[kind] for kind in evaluate.REPORTED}
    with contextlib.closing(Summaries(workdir, None)) as summaries:
        evaluate.publish(result, drawn, config, 20, workdir, summaries)


@contextlib.contextmanager
def tensorboard(logdir):
    """Yields the address of a server."""
    words = [sys.executable, "-m", "tensorboard.main", f"--logdir={logdir}", "--port=0"]
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env)
    try:
        for line in server.stderr:
            if found := re.search(r"http://\S+:\d+", line):
                yield found[0]
                break
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow
@pytest.mark.skipif(not browser.CHROMIUM, reason="needs Chromium: apt install chromium")
def test_tensorboard_shows_the_cards_of_a_run(tmp_path):
    write_run(tmp_path / "mine")
    with tensorboard(tmp_path) as address, browser.page(size=(1600, 2400)) as page:
        page.open(f"{address}/?tagFilter=psnr|loss|per_second#timeseries")
        page.wait_for(f"{SET}/psnr", "train/loss", "time/steps_per_second")
        page.wait_for("mine", "mine/bicubic", "mine/eval")
        page.open(f"{address}/?tagFilter=frame|profile#timeseries")
        page.wait_for(f"{SET}/frame", f"{SET}/profile", "Sample 4/4", "Step 20")
        shown = 0
        for _ in range(60):  # until the pictures are loaded
            with Image.open(page.screenshot(tmp_path / "images.png")) as picture:
                shown = (np.asarray(picture.convert("RGB")) == COLOR).all(-1).sum()
            if shown:
                break
        assert shown > 100 * 100
        page.open(f"{address}/#text")
        page.wait_for("config/model", "config/optim", "charbonnier", "mine")
        page.open(f"{address}/?tagFilter=scores#text")
        page.wait_for(f"{SET}/scores", "PSNR (dB)", "bicubic")
        page.open(f"{address}/#hparams")
        page.wait_for("Trial ID", "mine", "data.batch", f"{SET}/psnr")
