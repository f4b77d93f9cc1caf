"""Telling by its content what a corpus is to be made from."""

from __future__ import annotations

from pathlib import Path

from eventfm.data.clips import KINDS, CorpusConfig
from eventfm.data.manifest import is_manifest
from eventfm.data.table import PICTURES, CollectionError
from eventfm.data.video_clips import frame_folders_in, videos_in
from eventfm.simulation.frame_folder import find_list
from eventfm.simulation.video import is_video

MANIFEST_KIND = "manifest"


def find_kind(source: str, config: CorpusConfig) -> str:
    """Return which of `KINDS` the source is, or `manifest`.

    A file is a manifest, a picture or a video by its first bytes. A folder with a list of times, or of which
    `video.fps` says that its pictures are frames, is one of frames; one with pictures or with videos is what it holds.
    A word that names a kind and no file is that kind.

    Raises:
        CollectionError: Nothing is there, or a folder holds pictures and videos alike, or neither.
    """
    path = Path(source)
    if not path.exists():
        if source in KINDS:
            return source
        raise CollectionError(f"no file or folder at {path}")
    if path.is_file():
        return _kind_of_file(path)
    if find_list(path) is not None or frame_folders_in(path):
        return "frames"
    pictures = next((file for file in path.rglob("*") if file.suffix.lower() in PICTURES), None)
    videos = videos_in(path)
    if pictures is not None and videos:
        raise CollectionError(
            f"{path} holds pictures ({pictures.name}, ...) and videos ({videos[0].name}, ...); say kind=pictures or "
            "kind=video"
        )
    if pictures is not None:
        return "frames" if config.video.fps is not None else "pictures"
    if videos:
        return "video"
    raise CollectionError(f"expected pictures, videos or frames in {path}, found none")


def _kind_of_file(path: Path) -> str:
    import cv2

    if is_manifest(path):
        return MANIFEST_KIND
    # Some pictures of a few frames are video to FFmpeg, and all plain ones too: pictures are asked for first.
    if path.suffix.lower() != ".gif" and cv2.haveImageReader(str(path)):
        return "pictures"
    if is_video(path):
        return "video"
    raise CollectionError(
        f"{path} is neither a picture nor a video that can be read, nor a manifest; is the file cut off? Of an MP4 or "
        "MOV that breaks off often nothing can be read"
    )
