"""Scrubs of a tier in a bucket of a real S3 server: damage, loss and leftovers are found there, and mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.s3_kit import S3Server
from tests.s3_move_kit import assert_settled, bucket_of, with_bucket
from tests.scrub_kit import copy_in, flip, rotting, scrub
from tests.site_kit import files_of, ingest, tiny_svs
from wsistore import ops
from wsistore.model import Preset


@pytest.mark.parametrize(("kind", "preset"), [("plain", Preset.KEEP), ("versions", Preset.PACK)])
def test_damage_in_a_bucket_is_found_and_mended(s3_server: S3Server, tmp_path: Path, kind: str, preset: Preset) -> None:
    path = tiny_svs(tmp_path / "in" / "a.svs")
    with bucket_of(kind, s3_server) as bucket:
        folder = with_bucket(tmp_path / "site", bucket, preset=str(preset))
        with ops.open_site(folder) as site:
            slide = str(ingest(site, path)[0].slide)
            (result,) = ops.copy(site, [slide], "far")
            assert result.error is None
            far = site.tier("far")
            names = list(dict(rotting(copy_in(site, slide, "far"))))
            for number, name in enumerate(dict.fromkeys(("commit", names[1], names[-1]))):
                key = dict(rotting(copy_in(site, slide, "far")))[name]
                # Where versions are kept, a person's deletion leaves a mark that nobody takes away.
                is_gone = number % 2 == 1 and kind == "plain"
                if is_gone:
                    far.delete(key)
                else:
                    far.put(key, flip(0.5)(far.get(key)))
                done = scrub(site, "far")
                assert done.statuses(slide) == {"far": "repaired"}, name
                assert done.found == ([("missing", "far")] if is_gone else [])
            far.put("notes.txt", b"somebody's")
            assert scrub(site, "far", deep=True).found == [("foreign", "far")]
            assert far.get("notes.txt") == b"somebody's"
            far.delete("notes.txt", version=far.head("notes.txt").version)
            assert_settled(site, bucket, slide, files_of(path), "hot", "far")
