"""Commands about tiers: tier add, tier ls, tier check."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore import ops
from wsistore.cli.context import JsonOption, opened, options, reported
from wsistore.cli.output import print_json, print_table, say, tell, warn
from wsistore.errors import StorageError
from wsistore.ops.tier_rows import CheckRow, Result, is_fit
from wsistore.settings import CertificateState, find_site
from wsistore.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

_HELP = """Add tiers, list them, and prove by doing what they can do.

A tier is a place that slides are kept in, a folder or a bucket, with what it costs and how slides are kept there.

\b
  wsistore tier add warm /srv/nas/wsistore --preset fold
  wsistore tier ls
  wsistore tier check warm
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

_Text = str | None
_S3 = "For s3:// only. "


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Up to 32 lower-case letters, digits, '-' and '_'.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="A path, file://, s3://bucket/prefix, or fsspec's URLs.")],
    preset: Annotated[_Text, typer.Option(help="How copies are encoded: keep, fold or pack.")] = None,
    endpoint: Annotated[_Text, typer.Option(metavar="URL", help=f"{_S3}The service.")] = None,
    region: Annotated[_Text, typer.Option(help=f"{_S3}By default the environment's.")] = None,
    profile: Annotated[_Text, typer.Option(help=f"{_S3}Section of the credentials file.")] = None,
    key_file: Annotated[_Text, typer.Option(metavar="FILE", help=f"{_S3}Credentials, mode 0600.")] = None,
    path_style: Annotated[
        bool | None, typer.Option("--path-style/--virtual-style", help=f"{_S3}endpoint/bucket or bucket.endpoint.")
    ] = None,
    allow_http: Annotated[bool, typer.Option("--allow-http", help=f"{_S3}Let an endpoint be without TLS.")] = False,
    ca_bundle: Annotated[_Text, typer.Option(metavar="FILE", help=f"{_S3}Certificates to trust.")] = None,
    storage_class: Annotated[_Text, typer.Option(metavar="CLASS", help=f"{_S3}Such as STANDARD_IA.")] = None,
    encryption: Annotated[_Text, typer.Option(help=f"{_S3}none, AES256 or aws:kms.")] = None,
    kms_key: Annotated[_Text, typer.Option(metavar="NAME", help=f"{_S3}Of the key for aws:kms.")] = None,
    lock_mode: Annotated[_Text, typer.Option(help=f"{_S3}Object Lock: governance or compliance.")] = None,
    lock_days: Annotated[int | None, typer.Option(help=f"{_S3}How long objects are locked.")] = None,
    prices: Annotated[_Text, typer.Option(metavar="NAME|FILE", help="What the tier costs.")] = None,
    energy: Annotated[_Text, typer.Option(metavar="NAME|FILE", help="Coefficients of energy and carbon.")] = None,
    required_copies: Annotated[
        int | None, typer.Option(help="Good copies that must remain elsewhere when one here is dropped.")
    ] = None,
    minimum_storage_days: Annotated[int | None, typer.Option(help="Days that are billed at least.")] = None,
    capacity: Annotated[_Text, typer.Option(metavar="SIZE", help="Such as '40 TB'.")] = None,
    high_watermark: Annotated[_Text, typer.Option(metavar="PERCENT", help="Relieve above, such as '85 %'.")] = None,
    low_watermark: Annotated[_Text, typer.Option(metavar="PERCENT", help="Relieve down to, such as '75 %'.")] = None,
    location: Annotated[_Text, typer.Option(help="Country code or any text.")] = None,
    hds_number: Annotated[_Text, typer.Option(help="Of the host's certificate for health data.")] = None,
    hds_valid_until: Annotated[_Text, typer.Option(metavar="DATE", help="Its last day: 2027-05-31.")] = None,
    encrypt_companions: Annotated[
        bool, typer.Option("--encrypt-companions", help="Encrypt what identifies patients with the site's keys.")
    ] = False,
    bandwidth_up: Annotated[_Text, typer.Option(metavar="RATE", help="Per process, such as '200 MB/s'.")] = None,
    bandwidth_down: Annotated[_Text, typer.Option(metavar="RATE", help="Per process, such as '200 MB/s'.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at everything, write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add a tier: a table in wsistore.toml, and the marker that makes its place a tier.

    \b
      wsistore tier add vault /mnt/nas/slides --capacity "40 TB"
      wsistore tier add far s3://slides/far --endpoint https://s3.example.org --profile slides --dry-run

    The rest of wsistore.toml stays as it is. Run again after an interruption it finishes.
    """  # noqa: D301
    plain = {
        "url": url, "preset": preset, "endpoint": endpoint, "region": region, "profile": profile, "key_file": key_file,
        "path_style": path_style, "allow_http": allow_http or None, "ca_bundle": ca_bundle,
        "storage_class": storage_class, "prices": prices, "energy": energy, "required_copies": required_copies,
        "minimum_storage_days": minimum_storage_days, "capacity": capacity, "high_watermark": high_watermark,
        "low_watermark": low_watermark, "location": location, "bandwidth_up": bandwidth_up,
        "bandwidth_down": bandwidth_down, "encrypt_companions": encrypt_companions or None,
    }  # fmt: skip
    tables: dict[str, dict[str, Any]] = {
        "encryption": {"method": encryption, "key": kms_key},
        "object_lock": {"mode": lock_mode, "days": lock_days},
        "hds_certificate": {"number": hds_number, "valid_until": hds_valid_until},
    }
    with reported(as_json=as_json):
        folder = find_site(options(context).folder, os.environ)
        _print_added(ops.add_tier(folder, name, _given(plain, tables), dry_run=dry_run), dry_run, as_json)


def _given(plain: dict[str, Any], tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what was told, as keys of the settings file."""
    given = {key: value for key, value in plain.items() if value is not None}
    for key, table in tables.items():
        inner = {name: value for name, value in table.items() if value is not None}
        if inner:
            given[key] = inner
    return given


def _print_added(added: ops.AddedTier, dry_run: bool, as_json: bool) -> None:
    tier = added.tier
    if as_json:
        found = {"tier": tier.name, "id": tier.id, "url": tier.url, "changed": added.changed, "dry_run": dry_run}
        print_json(found | {"lines": added.lines})
        return
    if added.lines:
        for line in (*added.lines.splitlines(), ""):
            say(line)
    if not added.changed:
        say(f"{tier.name} is a tier already, and as told; nothing is to be done.")
    elif dry_run:
        say(f"Nothing was written. Without --dry-run {tier.url} becomes the tier {tier.name}.")
    else:
        say(f"{tier.url} is the tier {tier.name} now. Next:")
        say(f"  wsistore tier check {tier.name}")


@app.command("ls")
def ls(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the tiers: where they are, what they hold and cost, and whether they may be given more.

    \b
      wsistore tier ls
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=False) as site:
            rows = list(ops.list_tiers(site))
        if as_json:
            for row in rows:
                print_json(row)
            return
        columns = (
            "tier",
            "place",
            "preset",
            "prices",
            "€/TB/month",
            "copies",
            "stored",
            "capacity",
            "full",
            "state",
            "location",
        )
        right = ("€/TB/month", "copies", "stored", "capacity", "full")
        print_table((*columns, "certificate"), map(_cells, rows), right=right)
        for row in rows:
            _warn_of(row)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    certificate = f"{row['certificate_state']} ({row['certificate_until']})" if row["certificate"] else ""
    return (
        row["tier"],
        f"{row['url']} at {row['endpoint']}" if row["endpoint"] else row["url"],
        row["preset"],
        row["prices"],
        f"{row['eur_per_tb_month']:.2f}",
        str(row["copies"]),
        format_bytes(row["bytes_stored"]),
        "" if row["capacity_bytes"] is None else format_bytes(row["capacity_bytes"]),
        "" if row["fill"] is None else f"{row['fill']:.0%}",
        row["state"],
        row["location"] or "",
        certificate,
    )


def _warn_of(row: dict[str, Any]) -> None:
    if row["above_watermark"]:
        mark, low = row["high_watermark"], row["low_watermark"]
        warn(
            f"{row['tier']} is {row['fill']:.0%} full, above its high watermark of {mark:.0%}: relieve it to {low:.0%}"
        )
    if row["why_closed"]:
        warn(f"{row['why_closed']} It takes no new copies.")
    elif row["certificate_state"] == CertificateState.EXPIRES_SOON:
        warn(f"the certificate {row['certificate']} of {row['tier']} is valid until {row['certificate_until']} only")
    if row["slides_short_of_copies"]:
        count, required = row["slides_short_of_copies"], row["required_copies"]
        warn(f"{count} slides in {row['tier']} have good copies in fewer than {required} tiers")


@app.command("check")
def check(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Tiers; by default all of the site.")
    ] = None,
    size: Annotated[str, typer.Option(metavar="SIZE", help="Of the large object that is timed.")] = "64 MiB",
    lock: Annotated[
        bool, typer.Option("--lock", help="Try Object Lock, too: leaves one object for as long as the lock lasts.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Prove by doing what tiers can do. Everything is written below check/ and removed again.

    \b
      wsistore tier check
      wsistore tier check far --size "1 GiB"

    Exit code 0: fit for slides. 6: at least one tier is not; the table says why, and what to do.
    """  # noqa: D301
    try:
        size_bytes = parse_bytes(size)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with reported(as_json=as_json):
        failed: set[int] = set()
        with opened(context, writing=False) as site:
            for name in dict.fromkeys(names or [tier.name for tier in site.settings.tiers]):
                if not as_json:
                    tell(f"checking {name} …")
                rows: list[CheckRow] = []
                with closing(ops.check_tier(site, name, lock=lock, size_bytes=size_bytes)) as found:  # type: ignore[type-var]
                    for row in found:
                        rows.append(row)
                        if as_json:
                            print_json(asdict(row))
                if not as_json:
                    _print_rows(name, rows)
                if not is_fit(rows):
                    failed.add(StorageError.exit_code)
        if failed:
            raise typer.Exit(StorageError.exit_code)


def _print_rows(name: str, rows: Iterable[CheckRow]) -> None:
    rows = list(rows)
    print_table(
        (name, "result", "seen", "what to do"),
        ((row.check, str(row.result), row.figure, "" if row.result is Result.OK else row.remedy) for row in rows),
    )
    lacking = [row.check for row in rows if row.needed and not is_fit([row])]
    say(f"{name} is fit for slides." if not lacking else f"{name} is NOT fit for slides: {', '.join(lacking)}.")
    say("")
