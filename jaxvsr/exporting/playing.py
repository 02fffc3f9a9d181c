"""Runs LiteRT files over clips, as an app does."""

import time
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float, Float32, UInt8

from jaxvsr.exporting import flatbuffer


class Player:
    """A LiteRT file in memory.

    Attributes:
        ends: its inputs and outputs.
    """

    def __init__(self, data: bytes, threads: int = 1, keep_tensors: bool = False) -> None:
        """Loads a file.

        Args:
            data: its bytes.
            threads: of the processor.
            keep_tensors: whether `ranges` is needed; slower, without optimized kernels.
        """
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = OpResolverType.AUTO
        if keep_tensors:
            resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._interpreter = Interpreter(
                model_content=data,
                num_threads=threads,
                experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=keep_tensors,
            )
            self._run = self._interpreter.get_signature_runner(flatbuffer.SIGNATURE)
        self.ends = flatbuffer.ends(data)

    def step(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Runs one step on inputs in the dtypes of `ends`; images are in 0..255."""
        return self._run(**inputs)

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Minimum and maximum of every float tensor in the last step, by internal name."""
        found = {}
        for detail in self._interpreter.get_tensor_details():
            if detail["dtype"] != np.float32:
                continue
            try:
                values = self._interpreter.get_tensor(detail["index"])
            except ValueError:  # the tensor has no memory of its own
                continue
            if values.size:
                found[detail["name"]] = float(values.min()), float(values.max())
        return found

    def play(self, clip: UInt8[np.ndarray, "t h w 3"]) -> Iterator[Mapping[str, np.ndarray]]:
        """Runs a clip from its first frame on.

        Args:
            clip: the frames.

        Yields:
            For each frame the inputs and outputs of its step.
        """
        hidden = self.ends.get("hidden")
        state = np.zeros(()) if hidden is None else self.initial_state()
        for frames in windows(clip, self.ends["frames"].shape[-1] // 3):
            inputs = {"frames": frames.astype(self.ends["frames"].dtype)}
            if hidden is not None:
                inputs["hidden"] = state
            outputs = self.step(**inputs)
            if hidden is not None:
                state = outputs["hidden_out"]
            yield {**inputs, **outputs}

    def initial_state(self) -> np.ndarray:
        """The state before the first frame: zero, in the integers of a quantized file."""
        end = self.ends["hidden"]
        return np.full(end.shape, end.zero_point, end.dtype)

    def upscale(self, clip: UInt8[np.ndarray, "t h w 3"]) -> Float32[np.ndarray, "t H W 3"]:
        """Upscales a clip to float frames in 0..255."""
        return np.stack([step["sr"][0].astype(np.float32) for step in self.play(clip)])

    def seconds(self, clip: UInt8[np.ndarray, "t h w 3"], rounds: int = 5) -> float:
        """Smallest processor time of one step."""
        inputs = dict(next(iter(self.play(clip[:3]))))
        inputs = {name: inputs[name] for name in inputs if name in ("frames", "hidden")}
        times = []
        for _ in range(rounds):
            begin = time.process_time()
            self.step(**inputs)
            times.append(time.process_time() - begin)
        return min(times)


def windows(
    clip: UInt8[np.ndarray, "t h w 3"], count: int
) -> Iterator[UInt8[np.ndarray, "1 h w n*3"]]:
    """Yields, for each frame, it and its neighbors as channels; the ends are repeated."""
    last = len(clip) - 1
    for i in range(len(clip)):
        indices = [max(i - 1, 0), i, min(i + 1, last)][:count]
        yield np.concatenate([clip[j] for j in indices], axis=-1)[None]


def psnr(frames: Float[np.ndarray, "t h w 3"], reference: Float[np.ndarray, "t h w 3"]) -> float:
    """Mean PSNR of frames in 0..255 against others, dB; infinite if equal."""
    errors = np.square(np.float64(frames) - reference).mean((1, 2, 3))
    with np.errstate(divide="ignore"):
        return float(np.mean(10 * np.log10(255**2 / errors)))
