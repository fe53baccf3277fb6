"""wsidicomizer: conversion to DICOM as its command line does it by default."""

from __future__ import annotations

import os
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from bench.support.serving import Answer, serve, timed
from bench.workers.jpegs import sample, scan_of

_dicomizer: Any = import_module("wsidicomizer").WsiDicomizer


def convert(source: str, folder: str) -> Answer:
    """Convert `source` into `folder`."""
    return {"seconds": timed(lambda: _dicomizer.convert(source, folder, workers=os.cpu_count()))}


def check(source: str, folder: str) -> Answer:
    """Compare frames of the largest level with the tiles of the source: are the scans passed through?"""
    pydicom: Any = import_module("pydicom")
    encaps: Any = import_module("pydicom.encaps")
    instances = [pydicom.dcmread(path, defer_size=1024) for path in Path(folder).iterdir()]
    largest = max(instances, key=lambda one: int(one.get("NumberOfFrames", 0)))
    tiles = sample(source)
    frames = encaps.generate_frames(largest.PixelData, number_of_frames=int(largest.NumberOfFrames))
    found = {number: frame for number, frame in enumerate(islice(frames, max(tiles) + 1)) if number in tiles}
    changed = [number for number, tile in tiles.items() if scan_of(tile) not in found[number]]
    return {"compared": len(tiles), "changed": changed}


if __name__ == "__main__":
    serve({"convert": convert, "check": check})
