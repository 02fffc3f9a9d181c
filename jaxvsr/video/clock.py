"""The clock of a file, whose times may begin late, wrap around or begin anew in the middle."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from jaxvsr.video.pyav import require_av

LATE = 1  # seconds; a film that starts later starts at zero in the output
FORWARD, BACKWARD = 10, Fraction(1, 10)  # seconds; larger jumps of the clock start a new part
STRAY = 3  # seconds; a packet farther from its stream and from the video has a damaged time
REORDERED = 17  # frames; no codec displays a frame later after its decoding


class Clock:
    """Moves the times of packets so that they start at zero and continue after a jump.

    Recordings (transport and program streams) can be joined byte for byte: their times begin anew
    in the middle. The times of the video define the parts. All streams of a part are moved by the
    same duration, so that they stay in sync.

    Attributes:
        origin: seconds on the file's clock that become zero.
        first: seconds after that at which the video starts.
        shifts: seconds that are added to the times of each part found so far.
        part: index of the part that the video is in.
        restarts: whether the format allows times to begin anew. Seeking by time is impossible then.
    """

    def __init__(self, container: Any, video: Any, shifts: Sequence[Fraction] = ()) -> None:
        """Reads the start times; reads no packets.

        Args:
            container: open for reading, by PyAV.
            video: the stream that defines the parts.
            shifts: of all parts, from a first pass over the file; (): found during this pass.
        """
        flags = require_av().format.Flags
        self.restarts = bool(container.format.flags & flags.ts_discont.value)
        starts = [
            stream.start_time * stream.time_base
            for stream in (video, *container.streams.audio)
            if stream.start_time is not None
        ]
        first = min(starts, default=Fraction(0))
        self.origin = first if self.restarts or first >= LATE else Fraction(0)
        self.first = (video.start_time or 0) * video.time_base - self.origin
        self.shifts = list(shifts) or [-self.origin]
        self._video, self.part = video.index, 0
        self._step = 1 / (video.average_rate or 25)
        self._next: dict[int, Fraction] = {}  # stream -> expected time of its next packet

    def move(self, packet: Any) -> bool:
        """Moves the times of the file's next packet, in place.

        Returns:
            Whether they are plausible. A packet of sound with a damaged time is not moved.
        """
        time = packet.dts if packet.dts is not None else packet.pts
        if time is None:
            return True
        unit, stream = packet.time_base, packet.stream.index
        shift = self._shift(stream, time * unit) if self.restarts else self.shifts[0]
        if shift is None:
            return False
        step = self._step if stream == self._video else 0
        self._next[stream] = time * unit + shift + (packet.duration * unit or step)
        moved = round(shift / unit)
        if self._is_misplaced(packet):
            packet.pts = None
        if packet.pts is not None:
            packet.pts += moved
        if packet.dts is not None:
            packet.dts += moved
        return True

    def _shift(self, stream: int, time: Fraction) -> Fraction | None:
        """Seconds to be added to the time of a stream's next packet; None: the time is damaged."""
        if stream != self._video:
            # Packets of other streams come a little before or after the video's new part.
            near = self.shifts[max(self.part - 1, 0) : self.part + 2]
            expected = [self._next[i] for i in (stream, self._video) if i in self._next]
            best = min(near, key=lambda shift: sum(abs(time + shift - t) for t in expected))
            distance = min((abs(time + best - t) for t in expected), default=Fraction(0))
            return best if distance <= STRAY else None
        shift = self.shifts[self.part]
        jump = time + shift - self._next.get(stream, time + shift)
        if not -BACKWARD <= jump <= FORWARD:
            self.part += 1
            if self.part == len(self.shifts):
                self.shifts.append(shift - jump)
        return self.shifts[self.part]

    def _is_misplaced(self, packet: Any) -> bool:
        """Whether the last frame of a part has a display time that is not from this part."""
        if not self.restarts or packet.stream.index != self._video or packet.pts is None:
            return False
        delay = (packet.pts - packet.dts) * packet.time_base if packet.dts is not None else 0
        return abs(delay) > REORDERED * self._step
