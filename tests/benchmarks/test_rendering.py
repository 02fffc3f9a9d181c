"""What the trainings of built-in weights render, and the measure of flows."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import dead_leaves, photos, render_clips, render_pairs

METRICS = "needs jaxvsr[metrics]"


def test_a_rendered_clip_has_one_input_per_degradation(monkeypatch):
    pytest.importorskip("av")
    monkeypatch.setattr(render_clips, "RENDERED", {64: 1.0})
    monkeypatch.setattr(render_clips, "SIZE", 64)
    monkeypatch.setattr(render_clips, "FRAMES", 3)
    clip = render_clips.clip(0, 1)
    assert clip["gt"].shape == (3, 64, 64, 3) and clip["gt"].dtype == np.uint8
    assert clip["lq"].shape == (4, 3, 16, 16, 3)
    clean = clip["lq"][0].astype(int)
    assert all(np.abs(lq - clean).max() > 0 for lq in clip["lq"][1:])


@pytest.fixture
def photo(tmp_path):
    """A file of noise as smooth as a photograph."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(noise).resize((240, 160), Image.Resampling.BICUBIC).save(path)
    return path


def test_a_clip_shows_a_photograph(monkeypatch, photo):
    pytest.importorskip("av")
    pytest.importorskip("benchmarks.render_photos", reason=METRICS)
    for name, value in {"PHOTOGRAPHS": 1.0, "SIZE": 64, "FRAMES": 3}.items():
        monkeypatch.setattr(render_clips, name, value)
    monkeypatch.setattr(render_clips, "leaves", None)
    clip, again, other = (render_clips.clip(0, index, [photo]) for index in (1, 1, 2))
    assert clip["gt"].shape == (3, 64, 64, 3) and clip["lq"].shape == (4, 3, 16, 16, 3)
    assert all((clip[name] == again[name]).all() for name in clip)
    assert (clip["gt"] != other["gt"]).any()


def test_photographs_move_in_most_clips(photo):
    render_photos = pytest.importorskip("benchmarks.render_photos", reason=METRICS)
    clips = [
        render_photos.frames(np.random.default_rng(seed), [photo], 3, 64) for seed in range(60)
    ]
    moves = [np.abs(clip[2].astype(int) - clip[0]).mean() > 0.5 for clip in clips]
    assert 30 < sum(moves) < 60
    assert min(clip.std() for clip in clips) > 4


def test_a_layer_follows_its_path():
    render_photos = pytest.importorskip("benchmarks.render_photos", reason=METRICS)
    texture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    cover = np.ones((20, 30), np.float32)
    path, pose = np.array([32 + 32j, 37 + 29j]), np.ones(2, complex)
    layer = render_photos.Layer(texture, cover, 15 + 10j, path, pose)
    for t, (left, top) in enumerate([(17, 22), (22, 19)]):
        frame = np.zeros((64, 64, 3), np.float32)
        layer.paint(frame, t, None)
        np.testing.assert_array_equal(frame[top : top + 20, left : left + 30], texture)
        frame[top : top + 20, left : left + 30] = 0
        assert not frame.any()


def test_photographs_are_collected_from_packages(tmp_path, capsys):
    folder = tmp_path / "packages" / "usr/share/wallpapers/Path/contents/images"
    folder.mkdir(parents=True)
    Image.new("RGB", (2800, 700)).save(folder / "2560x1600.jpg")
    photos.main([str(tmp_path / "packages"), str(tmp_path / "photos")])
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["Path.jpg"]
    assert Image.open(tmp_path / "photos" / "Path.jpg").size == (1400, 350)
    assert "photos: 1 photographs" in capsys.readouterr().out


def test_rendering_resumes_and_is_deterministic(tmp_path):
    made = []

    def make(seed, index):
        made.append(index)
        return {"gt": np.full(2, seed + index)}

    render_clips.write(make, tmp_path, 5, 0, 4, 2)
    render_clips.write(make, tmp_path, 5, 0, 4, 2)
    assert made == [0, 2]
    assert np.load(tmp_path / "000002.npz")["gt"].tolist() == [7, 7]


def test_rendered_pairs_have_flow_both_ways():
    pairs = render_pairs.pairs(0, 0)
    count, side = render_pairs.PAIRS, render_pairs.SIDE
    assert pairs["frames"].shape == (count, 2, side, side, 3)
    assert pairs["flow"].shape == (count, 2, side, side, 2)
    assert pairs["visible"].shape == (count, 2, side, side)
    assert set(np.unique(pairs["visible"])) <= {0, 1} and np.isfinite(pairs["flow"]).all()


def test_an_estimated_flow_is_nearer_than_none(monkeypatch):
    flow = pytest.importorskip("benchmarks.flow", reason=METRICS)
    for name, value in {"CLIPS": 1, "FRAMES": 4, "SIZE": (256, 256)}.items():
        monkeypatch.setattr(flow, name, value)
    rows = flow.errors({"none": flow.none, "DIS": flow.dis})
    none, dis = (float(row[2]) for row in rows)
    assert dis < none


def test_two_versions_of_the_renderer_are_compared(monkeypatch, tmp_path, capsys):
    seen = []

    def seconds(tree, *clip):
        seen.append((tree == tmp_path, *clip))
        return 3.0 if tree == tmp_path else 1.5

    monkeypatch.setattr(dead_leaves, "seconds", seconds)
    dead_leaves.main([f"--before={tmp_path}", "--clips=2", "--configs", "test"])
    assert seen == [(before, i, 3, (128, 128)) for i in range(2) for before in (True, False)]
    row = capsys.readouterr().out.splitlines()[2]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["test", "3 frames of 128x128", "3.00", "1.50", "0.50", "3", "0.00"]


def test_the_renderer_of_a_checkout_is_timed():
    assert 0 < dead_leaves.seconds(dead_leaves.ROOT, 1, 1, (64, 64)) < 60
