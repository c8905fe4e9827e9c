"""Writing films: GIF by Pillow, and MP4 by ffmpeg where there is one."""

import contextlib
import importlib
import math
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from landscape.checks import check_count, check_number
from landscape.errors import InputError
from landscape.storage.files import written_whole

__all__ = ["Film", "animation_formats"]

MOST_FRAMES = 300
LONGEST = 300.0  # seconds of a film and of its pause; GIF shows a frame for 655 seconds at most
SMOOTH = 15.0  # frames a second of a movement
LEAST_RATE = 10.0  # frames a second of an MP4 file, below which some players show nothing


@dataclass(frozen=True)
class Film:
    """How long a film is, and its resolution."""

    seconds: float  # without the pause
    pause: float  # seconds for which the last frame stays
    dpi: int  # dots per inch

    def check(self, path: Path) -> None:
        """Raise InputError for values that no film can have, and for a file that cannot be written here."""
        check_number("seconds", self.seconds, above=0, most=LONGEST)
        check_number("pause", self.pause, least=0, most=LONGEST)
        check_count("dpi", self.dpi, least=10, most=1000)
        if path.suffix not in (".gif", ".mp4"):
            raise InputError(f"cannot write {path}: a film ends in .gif or .mp4")
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder; give the name of a file in it")
        if path.suffix not in animation_formats():
            raise InputError(
                f"cannot write {path}: MP4 needs ffmpeg, which is not on the PATH; install it, or the package "
                "imageio-ffmpeg, or write a .gif"
            )

    @property
    def frames(self) -> int:
        """The number of frames of a smooth movement."""
        return min(MOST_FRAMES, max(2, round(self.seconds * SMOOTH)))

    def write(self, path: Path, frames: Iterator[np.ndarray], count: int) -> Path:
        """Write ``count`` frames [H, W, 3] uint8, which are shown for equal times, and the last one longer."""
        write = _write_gif if path.suffix == ".gif" else _write_mp4
        with written_whole(path) as temporary:
            write(temporary, frames, self.seconds / count, self.pause)
        return path


def animation_formats() -> tuple[str, ...]:
    """The suffixes of the films that can be written on this machine."""
    return (".gif", ".mp4") if _ffmpeg() else (".gif",)


def _ffmpeg() -> str | None:
    """The program ffmpeg: that of matplotlib's settings, or else that of the package imageio-ffmpeg."""
    if path := shutil.which(str(matplotlib.rcParams["animation.ffmpeg_path"])):
        return str(path)
    try:
        return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ImportError, RuntimeError):  # the package may come without a program
        return None


def _write_gif(path: Path, frames: Iterator[np.ndarray], duration: float, pause: float) -> None:
    images = [_in_few_colors(frame) for frame in frames]
    times = np.arange(len(images) + 1) * duration
    times[-1] += pause
    durations = 10 * np.diff(np.round(100 * times).astype(int))  # milliseconds; the format counts hundredths of seconds
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations.tolist(), loop=0)


def _in_few_colors(frame: np.ndarray) -> Image.Image:
    """``frame`` in 256 colours, which cover all that occur, as those of small markers; that of its corner is exact."""
    some = Image.fromarray(np.ascontiguousarray(frame[::3, ::3]))
    colors = some.quantize(method=Image.Quantize.MAXCOVERAGE, kmeans=1)
    image = Image.fromarray(frame).quantize(palette=colors, dither=Image.Dither.NONE)
    palette, corner = image.getpalette() or [], 3 * int(np.asarray(image)[0, 0])
    palette[corner : corner + 3] = frame[0, 0].tolist()
    image.putpalette(palette)
    return image


def _write_mp4(path: Path, frames: Iterator[np.ndarray], duration: float, pause: float) -> None:
    """Write frames of even width and height, as the usual colours of MP4 need them.

    Raises:
        InputError: ffmpeg fails.
    """
    repeats = math.ceil(LEAST_RATE * duration)
    rate = repeats / duration
    first = _even(next(frames))
    height, width, _ = first.shape
    command = [
        str(_ffmpeg()), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
        "-r", f"{rate:.6f}", "-i", "-", "-an", "-vcodec", matplotlib.rcParams["animation.codec"], "-pix_fmt", "yuv420p",
        str(path),
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stderr
        last = first
        with contextlib.suppress(BrokenPipeError):  # ffmpeg has ended, and its message says why
            process.stdin.write(repeats * first.tobytes())
            for frame in frames:
                last = _even(frame)
                process.stdin.write(repeats * last.tobytes())
            process.stdin.write(round(pause * rate) * last.tobytes())
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        message = process.stderr.read().decode(errors="replace")
    if process.returncode:
        raise InputError(f"ffmpeg cannot write {path}: {' '.join(message.split()) or process.returncode}")


def _even(frame: np.ndarray) -> np.ndarray:
    height, width, _ = frame.shape
    return frame[: height - height % 2, : width - width % 2]
