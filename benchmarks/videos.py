"""Videos to measure with, made on the spot: a moving picture, music and speech."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dev import stack
from vod import media

RATE = 48_000

_TONE = (
    "0.22*exp(-5*mod(t,0.5))*(sin(2*PI*ld(0)*t)+0.6*sin(4*PI*ld(0)*t)+0.4*sin(6.01*PI*ld(0)*t)"
    "+0.5*sin(2.52*PI*ld(0)*t)+0.5*sin(2.996*PI*ld(0)*t))"
)
"""A struck chord every half second, over the pitch in register 0."""
_BEAT = "0.25*(random({seed})-0.5)*exp(-25*mod(t+0.25,0.5))"

_CONTAINERS = {
    "mp4": ("h264", "aac"),
    "mkv": ("h264", "aac"),
    "ts": ("h264", "aac"),
    "webm": ("vp8", "opus"),
}
CONTAINERS = tuple(_CONTAINERS)

_PICTURES = {
    "h264": ("mp4", ("libx264", "-preset", "ultrafast", "-g", "50")),
    "vp8": ("webm", ("libvpx", "-deadline", "realtime", "-cpu-used", "16")),
}
_SOUNDS = {
    "aac": ("aac", ("aac", "-b:a", "160k", "-aac_coder", "fast")),
    "opus": ("opus", ("libopus", "-b:a", "128k")),
}


def ffmpeg(*arguments: str | Path) -> bytes:
    """Run ffmpeg and return what it writes to stdout."""
    command = [media.find_ffmpeg(), "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def music(path: Path, seconds: float) -> Path:
    """Chords and a beat, in stereo: tones with sharp attacks, which encoders find hard."""
    sides = [
        f"st(0,{pitch}*pow(2,mod(floor(t/2)*5,12)/12));{_TONE}+{_BEAT.format(seed=pitch)}"
        for pitch in (220, 221)
    ]
    ffmpeg("-f", "lavfi", "-i", f"aevalsrc=exprs='{'|'.join(sides)}':s={RATE}:d={seconds}", path)
    return path


def speech(path: Path) -> Path:
    """What is said in the samples, one after the other."""
    videos = stack.sample_videos()
    inputs = [part for video in videos for part in ("-i", video)]
    parts = [f"[{index}:a:0]aresample={RATE}[{index}]" for index in range(len(videos))]
    joined = "".join(f"[{index}]" for index in range(len(videos)))
    graph = f"{';'.join(parts)};{joined}concat=n={len(videos)}:v=0:a=1,pan=stereo|FL=c0|FR=c0"
    ffmpeg(*inputs, "-filter_complex", graph, path)
    return path


class Studio:
    """Makes videos in a folder. Only what is to be repeated in them is encoded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def video(self, container: str, seconds: float, *, bit_rate: int, name: str | None = None) -> Path:
        """A video of so many *seconds*.

        :param bit_rate: bit/s of the picture.
        :param name: By length and container when omitted.
        """
        path = self._folder / f"{name or f'{seconds:g}-s'}.{container}"
        if not path.exists():
            picture, sound = _CONTAINERS[container]
            inputs = (
                "-stream_loop",
                "-1",
                "-i",
                self._picture(picture, bit_rate),
                *self._sound(sound, seconds),
            )
            length = ("-t", f"{seconds:g}")
            ffmpeg(*inputs, "-map", "0:v", "-map", "1:a", "-c", "copy", *length, path)
        return path

    def _picture(self, codec: str, bit_rate: int) -> Path:
        suffix, (encoder, *options) = _PICTURES[codec]
        path = self._folder / f"picture-{bit_rate}.{suffix}"
        if not path.exists():
            source = "testsrc2=s=1280x720:r=25:d=10,noise=alls=12:allf=t,format=yuv420p"
            rate = ("-b:v", str(bit_rate), "-maxrate", str(bit_rate), "-bufsize", str(bit_rate))
            ffmpeg("-f", "lavfi", "-i", source, "-c:v", encoder, *options, *rate, path)
        return path

    def _sound(self, codec: str, seconds: float) -> tuple[str | Path, ...]:
        suffix, (encoder, *options) = _SOUNDS[codec]
        mixed = self._folder / "mix.wav"
        if not mixed.exists():
            played, said = music(self._folder / "music.wav", 60), speech(self._folder / "speech.wav")
            mix = "[1:a]aloop=-1:size=4000000[said];[0:a][said]amix=duration=first"
            ffmpeg("-i", played, "-i", said, "-filter_complex", mix, mixed)
        repeated = self._folder / f"sound-{seconds:g}.{suffix}"
        if codec != "aac":
            # An Opus stream begins before its first sound: repeated, it would be no plain recording.
            if not repeated.exists():
                length = ("-t", f"{seconds:g}", "-c:a", encoder, *options)
                ffmpeg("-stream_loop", "-1", "-i", mixed, *length, repeated)
            return "-i", repeated
        path = self._folder / f"sound.{suffix}"
        if not path.exists():
            ffmpeg("-i", mixed, "-c:a", encoder, *options, path)
        # ADTS has no clock, and ffmpeg's guess is 0.02 s off each time.
        repeated.write_bytes(path.read_bytes() * (int(seconds / 60) + 1))
        return "-i", repeated
