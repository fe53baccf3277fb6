"""The rest of a re-encoded copy, beside its shards: documents, companion, layout, skeleton; both zips if packed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wsistore.compress import archive, companion, keys, layout, metadata, skeleton, source_proof
from wsistore.compress.codings import coding_of
from wsistore.compress.grid import from_metadata
from wsistore.compress.keys import Place
from wsistore.compress.reader import StoredSlide
from wsistore.compress.recording import Recorder
from wsistore.compress.reencoding import ReencodePlan, whole_file
from wsistore.compress.shard_task import ShardNote
from wsistore.compress.skeleton import SkeletonIndex
from wsistore.compress.threads import processors, shared_pool
from wsistore.compress.writer import Draft
from wsistore.errors import IntegrityError
from wsistore.model import Mode, ObjectRecord, Preset
from wsistore.storage.base import Storage
from wsistore.storage.erasing import lying

Json = dict[str, Any]


def finish_reencode(
    stored: StoredSlide,
    storage: Storage,
    plan: ReencodePlan,
    notes: Iterable[ShardNote],
    entry: Mapping[str, Any],
) -> Draft:
    """Write all that a new copy has beside its shards; `sweep` follows when it is verified.

    Parameters
    ----------
    stored
        The copy that it is made from.
    storage
        The tier of the new copy.
    plan
        What was planned.
    notes
        What became of every shard.
    entry
        The history's new entry: ``at``, ``action``, ``preset``, ``software``, …

    Returns
    -------
    Draft
        All objects of the new copy, which is neither verified nor committed.

    Raises
    ------
    IntegrityError
        If the source copy is damaged; or if the preset `keep` came out different from what it was.
    StorageError
        If a tier fails. In both cases objects may be left behind, under the attempt's keys and without a commit.

    """
    notes = list(notes)
    written = [note.record for note in notes if note.record is not None]
    with Recorder(storage) as recorder:
        for record in written:
            recorder.add(record)
        _copy_documents(stored, recorder, plan)
        _write_companion(stored, recorder, plan, notes, entry)
    records = recorder.records
    _check_keep(stored, plan, records)
    if plan.encoding.packed:
        records = _pack(storage, plan.target, records)
    return Draft(plan.target, records, stored.companion.files)


def sweep(storage: Storage, draft: Draft) -> None:
    """Remove what an attempt has beside its copy's objects: notes, and what was put into archives.

    Not before the copy is verified: a run that is interrupted until then goes on with what is there.
    """
    objects = {record.key for record in draft.objects}
    for prefix in (draft.place.store, draft.place.private):
        for info in list(lying(storage, prefix)):
            if info.key not in objects:
                storage.delete(info.key, version=info.version)


def _copy_documents(stored: StoredSlide, recorder: Recorder, plan: ReencodePlan) -> None:
    """Write the store's other objects: they are the same in every preset, but for what says how chunks are encoded."""
    arrays = {f"{level}/image": document for level, document in enumerate(plan.documents)}
    for folder, document in arrays.items():
        recorder.put(f"{plan.target.store}{folder}/zarr.json", metadata.dump(document))
    for name, data in source_proof.documents(stored, plan):
        recorder.put(plan.target.store + name, metadata.with_arrays(data, arrays) if name == "zarr.json" else data)


def _write_companion(
    stored: StoredSlide,
    recorder: Recorder,
    plan: ReencodePlan,
    notes: Sequence[ShardNote],
    entry: Mapping[str, Any],
) -> None:
    known, private, index = stored.companion, plan.target.private, stored.companion.skeleton
    if known.mode is Mode.WHOLE:
        index = _write_whole(stored, recorder, plan)
    else:
        table = _layout(stored, plan)
        source_proof.prove_unlisted(stored, plan, notes, table)
        recorder.put(private + keys.LAYOUT, layout.encode(table))
        _copy(stored, recorder, stored.place.private + keys.SKELETON, private + keys.SKELETON)
    described = replace(
        known,
        attempt=plan.target.attempt,
        skeleton=index,
        history=(*known.history, dict(entry)),
        keep=None if plan.encoding.preset is Preset.KEEP else plan.keep,
    )
    recorder.put(private + keys.FILES, companion.encode(described))


def _write_whole(stored: StoredSlide, recorder: Recorder, plan: ReencodePlan) -> SkeletonIndex | None:
    """Write the files of a slide that is kept whole: one by one as they are, or all together in frames."""
    files = stored.companion.files
    if not plan.framed:
        for number in range(len(files)):
            with recorder.upload(plan.target.source(number)) as upload:
                for block in whole_file(stored, number):
                    upload.write(block)
                upload.complete()
        return None
    blocks = (block for number in range(len(files)) for block in whole_file(stored, number))
    sizes = []
    with recorder.upload(plan.target.private + keys.SKELETON) as upload:
        for frame in skeleton.compress(blocks, shared_pool("frames", processors())):
            sizes.append(len(frame))
            upload.write(frame)
        upload.complete()
    return SkeletonIndex(tuple(sizes), sum(file.size_bytes for file in files))


def _copy(stored: StoredSlide, recorder: Recorder, source: str, target: str) -> None:
    with recorder.upload(target) as upload:
        for block in stored.storage.stream(source):
            upload.write(block)
        upload.complete()


def _layout(stored: StoredSlide, plan: ReencodePlan) -> npt.NDArray[np.void]:
    """Return the layout with the chunks and pieces that the new copy has."""
    table = stored.layout()
    for level, document in enumerate(plan.documents):
        where = f"{plan.target.store}{level}/image/zarr.json"
        grid, coding = from_metadata(f"{level}/image", document, where=where), coding_of(document, where=where)
        found, before = stored.array(level)[0], stored.coding(level)
        mine = table["level"] == level
        tiles = found.tiles_of_chunks(table["chunk"][mine], table["piece"][mine].astype(np.int64), before.tiles)
        table["chunk"][mine], table["piece"][mine] = grid.chunks_of_tiles(tiles, coding.tiles)
    return table


def _check_keep(stored: StoredSlide, plan: ReencodePlan, records: Sequence[ObjectRecord]) -> None:
    """Refuse a copy in the preset `keep` that is not, object by object, what it was at first."""
    if plan.encoding.preset is not Preset.KEEP or plan.keep is None:
        return
    prefix = plan.target.store
    made = {r.key.removeprefix(prefix): (r.size_bytes, r.sha256) for r in records if r.key.startswith(prefix)}
    was = {record.key: (record.size_bytes, record.sha256) for record in plan.keep.objects}
    if different := sorted(name for name in made.keys() | was.keys() if made.get(name) != was.get(name)):
        msg = f"{len(different)} objects of slide {stored.place.slide} did not come back as they were at ingest "
        msg += f"({', '.join(different[:3])})."
        raise IntegrityError(msg, remedy="The copy that it was made from is untouched. Verify it, and report this.")


def _pack(storage: Storage, place: Place, records: Sequence[ObjectRecord]) -> tuple[ObjectRecord, ...]:
    """Put store and companion into one zip each; the loose objects stay until `sweep`."""
    with Recorder(storage) as recorder:
        archive.pack(storage, place, records, recorder)
    return recorder.records
