"""The scenarios that come with wsistore."""

from __future__ import annotations

from pathlib import Path

from wsistore.errors import Kind, MissingError
from wsistore.settings.values import did_you_mean

_FOLDER = Path(__file__).resolve().parent.parent / "data" / "scenarios"
_COMMON = "hospital"
"""What the others have in common: no scenario by itself."""
ORDER = ("all-hot", "vendor-plus-zarr", "s3-lifecycle", "ours", "ours-on-premises", "ours-in-the-cloud")
"""As they are shown."""


def shipped_files() -> tuple[Path, ...]:
    """Return all files that scenarios that ship are made of, sorted."""
    return tuple(sorted(path for path in _FOLDER.iterdir() if path.suffix in (".yaml", ".toml")))


def shipped_scenarios() -> dict[str, Path]:
    """Return the scenarios that come with wsistore, by name, in the order in which they are shown."""
    names = [path.stem for path in shipped_files() if path.suffix == ".yaml" and path.stem != _COMMON]
    return {name: _FOLDER / f"{name}.yaml" for name in sorted(names, key=lambda one: (one not in ORDER, _place(one)))}


def _place(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


def scenario_path(named: str) -> Path:
    """Return the file of a scenario: a path as it is, a name without ``/`` and ending of one that ships.

    Raises
    ------
    MissingError
        If none of this name ships.

    """
    if "/" in named or Path(named).suffix:
        return Path(named).expanduser()
    known = shipped_scenarios()
    if named not in known:
        msg = f"No scenario {named!r} comes with wsistore{did_you_mean(named, known)}."
        remedy = f"There are: {', '.join(known)}; or name a file, such as ./{named}.yaml."
        raise MissingError(msg, kind=Kind.PATH_MISSING, remedy=remedy)
    return known[named]
