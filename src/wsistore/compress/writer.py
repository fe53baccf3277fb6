"""Writing a slide into a tier: store and companion of one attempt, streamed, not yet verified and not yet committed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd

from wsistore.compress import companion, keys, layout, metadata, shard_writer, skeleton, thumbnail
from wsistore.compress.crew import Crew
from wsistore.compress.head_start import HeadStart
from wsistore.compress.keys import Place
from wsistore.compress.levels import LevelPlan, plan_level
from wsistore.compress.recording import Recorder
from wsistore.compress.shard_writer import CheckTile
from wsistore.compress.skeleton import SkeletonIndex
from wsistore.compress.source_bytes import SourceBytes
from wsistore.errors import InputError
from wsistore.model import FileRecord, Mode, ObjectRecord
from wsistore.slides.base import Source
from wsistore.slides.regions import WholeReader
from wsistore.storage.base import Storage

Progress = Callable[[int], None]
"""Gets the number of source bytes just dealt with."""
Check = Callable[[int], CheckTile | None]
"""Makes a tile check for a level by its number; each is used by one thread."""

_WRITERS = 2
"""Shards written at a time: enough to overlap hashing with the disk, few enough to bound memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """What an attempt wrote."""

    place: Place
    objects: tuple[ObjectRecord, ...]
    files: tuple[FileRecord, ...]


def write_slide(
    source: Source,
    storage: Storage,
    place: Place,
    *,
    history: Sequence[Mapping[str, Any]],
    check: Check = lambda _: None,
    progress: Progress = lambda _: None,
    ahead: HeadStart | None = None,
) -> Draft:
    """Write all objects of a slide except its commit.

    Memory stays bounded whatever the slide's size: windows of a few MiB per writer. `ahead` is what has begun to hash
    the source's first file.

    Raises
    ------
    InputError
        If the source turns out to be damaged, or a tile may not be stored as it is.
    ConflictError
        If the source changed meanwhile.
    StorageError
        If the tier fails. In each case objects may be left behind, under the attempt's keys and without a commit.

    """
    with SourceBytes(source.files, ahead) as files, Crew(_WRITERS + 1) as pool:
        records: Future[tuple[FileRecord, ...]] = pool.submit(files.hash_files, progress)
        with Recorder(storage) as recorder:
            try:
                index = None
                if source.mode is Mode.WHOLE:
                    _write_whole(source, files, recorder, place, pool)
                else:
                    index = _write_tiles(source, files, recorder, place, pool, check, progress)
                hashed = records.result()
            except BaseException:
                files.stop()
                raise
            files.check_unchanged()
            described = companion.describe(source, place.slide, place.attempt, hashed, index, history)
            recorder.put(place.private + keys.FILES, companion.encode(described))
        return Draft(place, recorder.records, hashed)


def _run(tasks: Sequence[Future[None]]) -> None:
    """Wait for all; after the first failure start no more of them."""
    wait(tasks, return_when=FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    wait(tasks)
    failures = [task.exception() for task in tasks if not task.cancelled()]
    for failure in failures:
        if failure is not None:
            raise failure


def _write_tiles(
    source: Source,
    files: SourceBytes,
    recorder: Recorder,
    place: Place,
    pool: Executor,
    check: Check,
    progress: Progress,
) -> SkeletonIndex:
    plans = [plan_level(level, number) for number, level in enumerate(source.levels)]
    tasks = [
        pool.submit(shard_writer.write_shard, job, files, recorder, place.store, progress)
        for number, plan in enumerate(plans)
        for job in shard_writer.jobs(plan, partial(check, number))
    ]
    try:
        _put_documents(source, plans, recorder, place)
        index = _write_skeleton(source, plans, files, recorder, place)
        picture = thumbnail.overview(source, files, metadata.fill_value(source, "uint8"))
        _put_picture(source, picture, recorder, place)
    except BaseException:
        for task in tasks:
            task.cancel()
        wait(tasks)
        raise
    _run(tasks)
    return index


def _put_documents(source: Source, plans: Sequence[LevelPlan], recorder: Recorder, place: Place) -> None:
    recorder.put(place.store + "zarr.json", metadata.dump(metadata.root(source)))
    for number, plan in enumerate(plans):
        folder = f"{place.store}{number}/"
        recorder.put(folder + "zarr.json", metadata.dump(metadata.group()))
        recorder.put(folder + "image/zarr.json", metadata.dump(metadata.image(plan, source)))
        for axis in range(2):
            document, values = metadata.coordinate(source, number, axis)
            recorder.put(f"{folder}{'yx'[axis]}/zarr.json", metadata.dump(document))
            recorder.put(f"{folder}{'yx'[axis]}/c/0", metadata.pack_coordinate(values))
    if source.icc_profile:
        profile = source.icc_profile
        codecs: list[metadata.Json] = [
            {"name": "bytes"},
            {"name": "zstd", "configuration": {"level": 9, "checksum": False}},
        ]
        document = metadata.array((len(profile),), (len(profile),), "uint8", codecs, ["icc_byte"])
        recorder.put(place.store + "icc/zarr.json", metadata.dump(document))
        recorder.put(place.store + "icc/c/0", bytes(Zstd(level=9).encode(profile)))


def _put_picture(source: Source, picture: thumbnail.Picture, recorder: Recorder, place: Place) -> None:
    document, data = thumbnail.encode(picture, sum(f.size_bytes for f in source.files))
    recorder.put(place.store + "thumbnail/zarr.json", metadata.dump(document))
    recorder.put(place.store + "thumbnail/c/0/0/0", data)


def _write_skeleton(
    source: Source, plans: Sequence[LevelPlan], files: SourceBytes, recorder: Recorder, place: Place
) -> SkeletonIndex:
    table = layout.layout_of(plans)
    recorder.put(place.private + keys.LAYOUT, layout.encode(table))
    gaps = layout.gaps(table, [f.size_bytes for f in source.files])
    del table  # with a million strips it is large
    rows = layout.rows_of(gaps, "file", "offset", "length")
    blocks = (block for file, offset, length in rows for block in files.blocks(file, offset, length))
    sizes = []
    with recorder.upload(place.private + keys.SKELETON) as upload:
        for frame in skeleton.compress(blocks):
            sizes.append(len(frame))
            upload.write(frame)
        upload.complete()
    return SkeletonIndex(tuple(sizes), int(gaps["length"].sum()))


def _write_whole(source: Source, files: SourceBytes, recorder: Recorder, place: Place, pool: Executor) -> None:
    def copy(number: int) -> None:
        with recorder.upload(place.source(number)) as upload:
            for block in files.blocks(number, 0, source.files[number].size_bytes):
                upload.write(block)
            upload.complete()

    tasks = [pool.submit(copy, number) for number in range(len(source.files))]
    try:
        recorder.put(place.store + "zarr.json", metadata.dump(metadata.root(source)))
        picture = _library_picture(source)
        if picture is not None:
            _put_picture(source, picture, recorder, place)
    finally:
        _run(tasks)


def _library_picture(source: Source) -> thumbnail.Picture | None:
    """Return the thumbnail of a `whole` slide; None where no library here decodes its pixels.

    The readers have looked at the files: what they describe is sound. It is kept, and its pixels wait for a decoder.
    """
    try:
        with WholeReader(source.files[0].path) as reader:
            return np.asarray(reader.read_thumbnail(thumbnail.EDGE), np.uint8)
    except InputError:
        return None
