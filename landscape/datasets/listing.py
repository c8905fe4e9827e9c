"""Listing the images of a folder by class, without the hidden files of operating systems and notebooks."""

import os
import warnings
from pathlib import Path

from landscape.datasets.images import SUFFIXES
from landscape.errors import InputError
from landscape.escaping import is_text, one_line

__all__ = ["list_images"]

# Folders that operating systems and tools create, and whose names do not all begin with a dot.
SYSTEM = ("__MACOSX", "__pycache__", "@eaDir", "#recycle", "lost+found", "$RECYCLE.BIN", "System Volume Information")


def list_images(folder: Path) -> tuple[list[str], list[int], tuple[str, ...]]:
    """Files, class numbers and class names of the images ``folder``/<class>/.../<image>, sorted by name.

    Hidden folders and files, and files that are not images, are left out with a warning.

    Raises:
        InputError: there are no classes, a class has no images, or a file or folder cannot be read.
    """
    left_out: list[str] = []
    classes = []
    for entry in sorted(_scanned(folder), key=lambda entry: entry.name):
        if not os.path.isdir(entry.path):
            left_out.append(entry.name)
        elif _hidden(entry.name):
            left_out.append(entry.name + os.sep)
        else:
            classes.append(_named(entry))
    if not classes:
        raise InputError(f"{folder} is no image folder: it has no classes; expected {folder}/<class>/<image>")
    files: list[str] = []
    targets: list[int] = []
    for number, name in enumerate(classes):
        images = _images_below(os.path.join(folder.absolute(), name), left_out)
        if not images:
            raise InputError(
                f"{folder} is no image folder: no image in {name!r}; remove that folder, or use one of the formats "
                f"{', '.join(SUFFIXES)}"
            )
        files += images
        targets += [number] * len(images)
    if left_out:
        examples = ", ".join(one_line(name) for name in sorted(left_out)[:3])
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        warnings.warn(f"{folder}: left out {examples}{more}, which are hidden or no images", stacklevel=5)
    return files, targets, tuple(classes)


def _images_below(folder: str, left_out: list[str]) -> list[str]:
    """The images in ``folder`` and its subfolders; a link to a folder that was listed before is refused."""
    files, waiting, entered = [], [folder], set()
    while waiting:
        folder = waiting.pop()
        status = os.stat(folder)
        if (place := (status.st_dev, status.st_ino)) in entered:
            raise InputError(f"{one_line(folder)} is a link to a folder that was read before; remove the link")
        entered.add(place)
        for entry in _scanned(folder):
            if _hidden(entry.name):
                left_out.append(entry.name)
            elif os.path.isdir(entry.path):
                waiting.append(entry.path)
            elif not entry.name.lower().endswith(SUFFIXES):
                left_out.append(entry.name)
            elif not os.path.isfile(entry.path):
                raise InputError(f"{one_line(entry.path)} is a broken link, a pipe or a device, no file; remove it")
            else:
                files.append(entry.path)
    return sorted(files, key=os.path.split)


def _scanned(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(f"{one_line(str(folder))} cannot be read: {error.strerror}") from error


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in SYSTEM


def _named(entry: os.DirEntry[str]) -> str:
    if not is_text(entry.name):
        raise InputError(
            f"{one_line(entry.path)}: the name of this class cannot be decoded as text; rename it, or set PYTHONUTF8=1"
        )
    return entry.name
