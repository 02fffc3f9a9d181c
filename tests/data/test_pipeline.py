import collections
import itertools
import types

import ml_collections
import numpy as np
import pytest
import reference

from jaxvsr.data import pipeline
from jaxvsr.data.degradations import compressed, parse_degradation
from jaxvsr.data.sources import Clip, TFDSClips


class Numbered:
    """A source whose pixels encode clip, frame and place."""

    scale = 4
    clips = (Clip("a", 5, 32, 40), Clip("short", 2, 32, 32), Clip("b", 4, 36, 32))

    def read(self, clip, frames, top, left, size):
        height, width = self.clips[clip].height, self.clips[clip].width
        gt = np.zeros((len(frames), height, width, 3), np.uint8)
        gt[..., 0] = 10 * clip + np.array(frames)[:, None, None]
        gt[..., 1] = np.arange(height)[:, None]
        gt[..., 2] = np.arange(width)
        gt = gt[:, 4 * top : 4 * (top + size[0]), 4 * left : 4 * (left + size[1])]
        return {"gt": gt, "lq": gt[:, ::4, ::4]}


class Moving:
    """A clip of noise that moves by (2, 1) pixels, later by (-1, 3), with its flow."""

    scale = 1
    clips = (Clip("a", 5, 40, 40),)
    places = np.cumsum([(4, 0), (2, 1), (2, 1), (-1, 3), (-1, 3)], axis=0)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)

    def read(self, clip, frames, top, left, size):
        lq = [self.noise[16 - y :, 16 - x :][:40, :40] for x, y in self.places[list(frames)]]
        lq = np.stack(lq)[:, top : top + size[0], left : left + size[1]]
        return {"gt": lq, "lq": lq}

    def read_flow(self, clip, frames, top, left, size):
        out = {}
        for way, step in (("forward", -1), ("backward", 1)):
            ends = np.clip(np.array(frames) + step, 0, 4)
            flow = (self.places[ends] - self.places[list(frames)]).astype(np.float32)
            out[f"flow_{way}"] = np.tile(flow[:, None, None], (1, *size, 1))
            out[f"visible_{way}"] = np.full((len(frames), *size), 1 + ends[:, None, None], np.uint8)
        return out


@pytest.mark.parametrize("turns", list(itertools.product((False, True), repeat=3)))
@pytest.mark.parametrize("frames", [range(1, 5), range(4, 0, -1)])
def test_flows_turn_with_their_frames(frames, turns):
    """Flipped, transposed and reversed, they still lead from each frame to its neighbors."""
    read = pipeline.SampleReader(Moving(), 24, False, {"gt": (), "lq": ()}, flow=True)
    sample = read(pipeline.Sample(0, frames, 3, 5, *turns))
    inner = np.mgrid[4:20, 4:20]
    for way, step in (("forward", -1), ("backward", 1)):
        for t in range(max(0, -step), min(4, 4 - step)):
            dx, dy = sample[f"flow_{way}"][t][0, 0].astype(int)
            y, x = inner + np.array([dy, dx])[:, None, None]
            assert (dx, dy) != (0, 0)
            np.testing.assert_array_equal(sample["lq"][t + step][y, x], sample["lq"][t][*inner])
            assert (sample[f"visible_{way}"][t] == 1 + frames[t + step]).all()


def settings(**changes):
    fields = {
        "dataset": "numbered",
        "frames": 3,
        "crop": 16,
        "intervals": (1,),
        "reverse": False,
        "mirror": False,
        "lq_frames": (),
        "gt_frames": (),
        "degradation": "",
        "batch": 4,
        "workers": 0,
    }
    return ml_collections.ConfigDict(fields | changes)


def take(count, source=None, **how):
    data = how.pop("data", settings())
    batches = pipeline.training_batches(data, source or Numbered(), seed=7, **how)
    return list(itertools.islice(batches, count))


def assert_equal(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        for key in x:
            np.testing.assert_array_equal(x[key], y[key])


def test_gt_and_lq_have_the_same_crop_and_augmentation():
    for batch in take(5):
        assert batch["gt"].shape == (4, 3, 16, 16, 3) and batch["lq"].shape == (4, 3, 4, 4, 3)
        assert batch["gt"].dtype == batch["lq"].dtype == np.uint8
        for gt, lq, key in zip(batch["gt"], batch["lq"], batch["key"], strict=True):
            name, start = str(key).split("/")
            clip = {"a": 0, "b": 2}[name]
            frames = np.unique(gt[..., 0].reshape(3, -1), axis=1)[:, 0] - 10 * clip
            np.testing.assert_array_equal(frames, int(start) + np.arange(3))
            # Every low-resolution pixel is one of its 4x4 block, wherever the turns put it.
            blocks = gt.reshape(3, 4, 4, 4, 4, 3)
            found = (blocks == lq[:, :, None, :, None]).all(-1).any((2, 4))
            assert found.all()


def test_windows_and_augmentations_are_drawn_uniformly():
    keys, turns = collections.Counter(), collections.Counter()
    sampler = pipeline.Sampler(Numbered(), 3, 16)
    assert len(sampler) == 3 + 0 + 2
    for batch in take(200):
        keys.update(str(key) for key in batch["key"])
        for gt in batch["gt"][:, 0]:
            rows, columns = np.sign(np.int32(gt[-1, -1]) - np.int32(gt[0, 0]))[1:]
            swapped = gt[0, 0, 1] != gt[0, 1, 1]
            turns[rows, columns, swapped] += 1
    assert sorted(keys) == ["a/0", "a/1", "a/2", "b/0", "b/1"]
    assert set(keys.values()) == {160}  # each once an epoch
    assert len(turns) == 8 and min(turns.values()) > 70


@pytest.mark.parametrize("rule", ["n16_i1", "n30_i1", "n16_i2", "n15_i3", "n6_i1"])
def test_last_start_golden(rule):
    _, _, arrays = reference.load("data_rules")
    frames, interval = map(int, rule[1:].split("_i"))
    source = types.SimpleNamespace(scale=4, clips=(Clip("a", 100, 64, 64),))
    sampler = pipeline.Sampler(source, frames, 64, (interval,))
    assert len(sampler) == arrays[f"reds/last_start/{rule}"] + 1
    sample = sampler(len(sampler) - 1, np.random.default_rng(0))
    start = len(sampler) - 1
    assert sample.frames == range(start, start + frames * interval, interval)


def test_intervals_and_directions_are_drawn_uniformly():
    source = types.SimpleNamespace(
        scale=4, clips=(Clip("short", 7, 64, 64), Clip("long", 12, 64, 64))
    )
    sampler = pipeline.Sampler(source, 4, 64, (1, 2), reverse=True)
    assert len(sampler) == 12 - 4 + 1  # a clip that cannot hold 4 frames 2 apart is left out
    samples = [sampler(i % 9, np.random.default_rng(i)) for i in range(2700)]
    assert {sample.clip for sample in samples} == {1}
    steps = collections.Counter(sample.frames.step for sample in samples)
    assert sorted(steps) == [-2, -1, 1, 2] and min(steps.values()) > 600
    for step, last in ((1, 8), (2, 4)):
        starts = collections.Counter(
            min(sample.frames) for sample in samples if abs(sample.frames.step) == step
        )
        assert sorted(starts) == list(range(last + 1))
        share = sum(starts.values()) / (last + 1)
        assert all(0.75 * share < count < 1.25 * share for count in starts.values())


def test_batches_have_the_drawn_intervals_and_directions():
    data = settings(frames=2, intervals=(2,), reverse=True)
    firsts = set()
    for batch in take(8, data=data):
        for gt, key in zip(batch["gt"], batch["key"], strict=True):
            times = gt[:, 0, 0, 0].astype(int) % 10
            assert times[0] == int(str(key).split("/")[1])
            firsts.add(times[1] - times[0])
    assert firsts == {-2, 2}


def test_the_order_depends_only_on_seed_and_position():
    whole = take(6)
    assert_equal(take(6), whole)
    assert_equal(take(3, position=12), whole[3:])
    other = pipeline.training_batches(settings(), Numbered(), seed=8)
    assert not all((next(other)["gt"] == batch["gt"]).all() for batch in whole)


def test_hosts_share_every_batch():
    whole = take(3)
    hosts = [take(3, process_index=i, process_count=2) for i in range(2)]
    for step, batch in enumerate(whole):
        for i in range(2):
            np.testing.assert_array_equal(hosts[i][step]["gt"], batch["gt"][i::2])


def test_workers_do_not_change_the_order(data_dir):
    source = TFDSClips("dead_leaves/test", "train", str(data_dir))
    data = settings(crop=64, frames=2)
    alone = take(3, source, data=data)
    data.workers = 2
    assert_equal(take(3, source, data=data), alone)


def test_workers_use_no_shared_memory(data_dir, monkeypatch):
    """It would stay behind where all processes are killed at once."""

    def refuse(*args, **kwargs):
        raise AssertionError("a batch came through shared memory")

    monkeypatch.setattr("multiprocessing.shared_memory.SharedMemory", refuse)
    source = TFDSClips("dead_leaves/test", "train", str(data_dir))
    assert len(take(2, source, data=settings(crop=64, frames=2, workers=1))) == 2


def test_a_batch_may_be_one_sample():
    singles = take(8, data=settings(batch=1))
    whole = take(2)
    for number, batch in enumerate(singles):
        np.testing.assert_array_equal(batch["gt"][0], whole[number // 4]["gt"][number % 4])


def test_mirroring_appends_the_reversed_sample():
    (batch,) = take(1, data=settings(mirror=True))
    assert batch["lq"].shape == (4, 6, 4, 4, 3)
    np.testing.assert_array_equal(batch["gt"], batch["gt"][:, ::-1])


def test_inputs_are_degraded_while_they_are_read():
    data = settings(degradation="compressed(crf=(30, 40), noise=0.0)")
    batches = take(3, data=data)
    assert_equal(batches, take(3, data=data))
    for plain, degraded in zip(take(3), batches, strict=True):
        assert degraded["lq"].shape == plain["lq"].shape
        assert (degraded["lq"] != plain["lq"]).any()
    # The parameters of each sample are its own, and a run resumes with the same ones.
    assert_equal(take(1, data=data, position=4), batches[1:2])


def test_a_degradation_sees_the_target_of_its_sample():
    sample = pipeline.Sample(0, range(3), 1, 2, False, False, False, seed=5)
    read = pipeline.SampleReader(
        Numbered(), 16, False, {"lq": (), "gt": ()}, parse_degradation("compressed")
    )
    found = read(sample)
    expected = compressed(found["gt"], np.random.default_rng(5))
    np.testing.assert_array_equal(found["lq"], expected)
