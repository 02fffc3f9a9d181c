"""Progress of scoring: the clip, the part of it, the time left."""

from jaxvsr.data.sources import Clip
from jaxvsr.evaluation.progress import ClipProgress


def test_the_time_left_counts_pixels_parts_and_no_compiling(monkeypatch):
    now = compiling = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    clips = [Clip("a", 10, 10, 10), Clip("b", 10, 10, 20), Clip("c", 10, 10, 10)]
    progress = ClipProgress(clips, lambda: compiling)
    now, compiling = 40.0, 30.0
    assert progress.line() == "scoring clip 1/3, a  0:00:10 so far"
    progress.restored(0.5)
    assert progress.line() == "scoring clip 1/3, a  50% restored  0:01:10 left"
    now = 50.0
    progress.finished()
    assert progress.line() == "scoring clip 2/3, b  0:01:00 left"
    now = 65.0  # in one long call
    assert progress.line() == "scoring clip 2/3, b  0:00:45 left"
    now = 200.0  # it takes longer than the first
    assert progress.line() == "scoring clip 2/3, b  0:00:00 left"
    now = 240.0
    for _ in range(2):
        progress.finished()
    assert progress.line() == "scored 3 clips"


def test_a_host_without_clips_has_a_line_too():
    assert ClipProgress([], lambda: 0.0).line() == "scored 0 clips"
