import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxvsr.data.sources import Clip, TFDSClips
from jaxvsr.errors import InputError
from tfds_builders.dead_leaves import render


def test_clips_are_known_and_frames_read_by_number(data_dir):
    source = TFDSClips("dead_leaves/test", "train", str(data_dir))
    assert source.clips == (Clip("00000", 3, 128, 128), Clip("00001", 3, 128, 128))
    assert source.scale == 4
    clip = render.render_clip(0, "train", 1, 3, (128, 128))
    frames = source.read(1, [2, 0])
    assert frames.keys() == {"gt", "lq"}
    for name in frames:
        np.testing.assert_array_equal(frames[name], clip[name][[2, 0]])


def test_what_is_not_prepared_is_said_with_the_command(data_dir):
    with pytest.raises(InputError, match="'reds' is not prepared in (?s:.*)make data DATASET=reds"):
        TFDSClips("reds", "train", str(data_dir))
    with pytest.raises(InputError, match="no split 'valid', but train, val"):
        TFDSClips("dead_leaves/test", "valid", str(data_dir))


def test_a_data_set_of_others_is_not_taken_for_clips(data_dir):
    class Other(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "other"
        VERSION = tfds.core.Version("1.0.0")
        url_infos = None

        def _info(self):
            features = tfds.features.FeaturesDict({"x": tfds.features.Scalar(np.int32)})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": [(0, {"x": 1})]}

        def _generate_examples(self):
            raise AssertionError

    Other(data_dir=data_dir, file_format="array_record").download_and_prepare()
    with pytest.raises(InputError, match="'other' is not prepared"):
        TFDSClips("other", "train", str(data_dir))


def test_an_empty_split_is_refused(data_dir, tmp_path):
    import json
    import shutil

    shutil.copytree(data_dir / "dead_leaves", tmp_path / "dead_leaves")
    path = tmp_path / "dead_leaves" / "test" / "1.0.0" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["clips"]["val"] = []
    path.write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="'val'.*is empty"):
        TFDSClips("dead_leaves/test", "val", str(tmp_path))
