"""The gateway as an attacker meets it: who shows nothing, somebody else's, something old or something made up."""

from __future__ import annotations

import json
import random
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack_kit import Reply, Told, Wire
from tests.gateway_world import NOBODYS, World, endpoints, forged, jwt, world_of
from tests.research_kit import secret_of


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_of(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture
def wire(world: World) -> Iterator[Wire]:
    with Wire(world.address) as connection:
        yield connection


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def of_lung(world: World) -> list[tuple[str, str]]:
    return endpoints("lung", world.slides["lung"][0])


# --- without a good token ---------------------------------------------------------------------------------------------


def bad_credentials(world: World) -> dict[str, list[tuple[str, str]]]:
    good = world.tokens["alice"]
    secret, other = secret_of(good), secret_of(world.tokens["bob"])
    name = good.removesuffix(f"_{secret}")
    flipped = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    texts = {
        "an empty header": "",
        "only the word": "Bearer",
        "only the word and a space": "Bearer ",
        "another scheme": f"Basic {good}",
        "no scheme": good,
        "token as user of Basic": "Basic YWxpY2U6YWxpY2U=",
        "a letter off": f"Bearer {name}_{flipped}",
        "a letter less": f"Bearer {good[:-1]}",
        "a letter more": f"Bearer {good}a",
        "capitals": f"Bearer {good.upper()}",
        "another's secret": f"Bearer {name}_{other}",
        "no secret": f"Bearer {name}_",
        "no id": f"Bearer wst__{secret}",
        "a secret that matches everything": f"Bearer {name}_%",
        "an injection": f"Bearer {name}' OR '1'='1_{secret}",
        "two tokens in one": f"Bearer {good}, Bearer {good}",
        "two tokens, the good one last": f"Bearer {flipped} {good}",
        "a token of ten thousand letters": f"Bearer wst_{'a' * 5000}_{'b' * 5000}",
        "letters that are none": "Bearer wst_\xe9\xe8_\xfc\xdf",
        "expired": f"Bearer {world.tokens['expired']}",
        "revoked": f"Bearer {world.tokens['revoked']}",
        "alg none": f"Bearer {forged('none')}",
        "alg None": f"Bearer {forged('nOnE')}",
        "alg none and a signature": f"Bearer {forged('none')}c2lnbmVk",
        "alg HS256, signed with nothing": f"Bearer {forged('HS256')}",
        "no algorithm": f"Bearer {jwt({}, {'sub': 'alice'})}",
        "JSON that is no token": f"Bearer {jwt([], [])}",  # type: ignore[arg-type]
        "dots": "Bearer ..",
        "five parts": "Bearer a.b.c.d.e",
    }
    single = {what: [("Authorization", text)] for what, text in texts.items()}
    return single | {
        "nothing": [],
        "two headers, the bad one first": [("Authorization", "Bearer bad"), ("Authorization", f"Bearer {good}")],
        "two headers, the good one first": [("Authorization", f"Bearer {good}"), ("Authorization", "Bearer bad")],
        "a proxy's word for it": [("X-Forwarded-User", "alice"), ("Remote-User", "alice"), ("X-Remote-User", "alice")],
        "a proxy's header": [("Proxy-Authorization", f"Bearer {good}"), ("X-Authorization", f"Bearer {good}")],
        "the token as a cookie": [("Cookie",
        f"session={good}; token={good}; wsistore={good}; wsistore_session={good}")],
    }  # fmt: skip


def test_every_endpoint_tells_all_without_a_good_token_the_same(world: World, wire: Wire) -> None:
    targets = [("GET", "/projects"), *of_lung(world)]
    for method, target in targets:
        good = wire.ask(target, bearer(world.tokens["alice"]), method=method)
        assert good.status < 400 or (good.status in {404, 409} and method == "POST"), (target, good)
    told: dict[bool, set[Told]] = {True: set(), False: set()}
    for what, headers in bad_credentials(world).items():
        for method, target in targets:
            reply = wire.ask(target, headers, method=method)
            assert reply.status == 401, (what, method, target, reply)
            assert reply.head["www-authenticate"].startswith("Bearer")
            told[method == "HEAD"].add(reply.told)
    assert len(told[False]) == 1, told[False]
    assert len(told[True]) == 1, told[True]


def test_a_token_in_a_url_opens_nothing(world: World, wire: Wire) -> None:
    good = world.tokens["alice"]
    for name in ("token", "access_token", "bearer", "authorization", "Authorization", "key", "api_key"):
        for _, target in of_lung(world):
            assert wire.ask(f"{target}{'&' if '?' in target else '?'}{name}={good}").status in {401, 405}


def test_nobody_learns_without_a_token_which_paths_there_are(world: World, wire: Wire) -> None:
    real = of_lung(world)
    unreal = [
        ("GET", "/projects/lung/slides/nothing.zarr/zarr.json"),
        ("GET", "/projects/nothing"),
        ("GET", f"/projects/nothing/slides/{NOBODYS}/view"),
        ("GET", "/projects/lung/slides/../../etc/passwd"),
    ]
    answers = {wire.ask(target, method=method).told for method, target in [*real, *unreal] if method != "HEAD"}
    assert len(answers) == 1, answers


def test_what_was_revoked_is_out_at_the_next_request(world: World, wire: Wire) -> None:
    token = world.new_token("carol")
    assert wire.ask("/projects/colon", bearer(token)).status == 200
    world.revoke_grant("carol", "colon")
    slide = world.slides["colon"][0]
    for method, target in endpoints("colon", slide):
        assert wire.ask(target, bearer(token), method=method).status == 404, target
    assert wire.ask("/projects", bearer(token)).status == 200
    world.revoke_token(token)
    assert wire.ask("/projects", bearer(token)).status == 401


# --- what lies outside one's projects ---------------------------------------------------------------------------------


def test_nothing_tells_a_project_that_is_not_granted_from_one_that_is_not(world: World, wire: Wire) -> None:
    mine, alien = bearer(world.tokens["alice"]), world.slides["colon"][0]
    answers: dict[str, set[Told]] = {}
    for project, slide in (("nothing", NOBODYS), ("nothing", alien), ("colon", alien), ("colon", NOBODYS),
                           ("closed", world.slides["closed"][0]), ("over", world.slides["over"][0])):  # fmt: skip
        for method, target in endpoints(project, slide):
            reply = wire.ask(target, mine, method=method)
            assert reply.status == 404, (method, target, reply)
            answers.setdefault(method, set()).add(reply.told)
    for method, told in answers.items():
        assert len(told) == 1, (method, told)
    assert len({body for told in answers.values() for _, _, body in told if body}) == 1


def test_nothing_tells_a_slide_of_another_project_from_none(world: World, wire: Wire) -> None:
    mine = bearer(world.tokens["alice"])
    names = {
        "nobody's": NOBODYS,
        "of another project, which has the same slide": world.slides["colon"][0],
        "of a patient who objects": world.objected["lung"],
        "its key": world.keys["lung.svs"],
        "its name": "lung.svs",
        "the attempt's key": world.attempts["lung.svs"],
        "a patient's pseudonym": str(world.rows["lung"][0]["patient"]),
        "in capitals": world.slides["lung"][0].upper(),
        "one letter short": world.slides["lung"][0][:-1],
    }
    answers: dict[str, set[Told]] = {}
    for what, name in names.items():
        for method, target in endpoints("lung", name):
            if target.endswith(("/projects/lung", "/slides")) or "slides?" in target:
                continue
            reply = wire.ask(target, mine, method=method)
            assert reply.status == 404, (what, method, target, reply)
            answers.setdefault(method, set()).add(reply.told)
    for method, told in answers.items():
        assert len(told) == 1, (method, told)


def test_time_does_not_tell_a_slide_of_another_project_from_none(world: World, wire: Wire) -> None:
    mine = bearer(world.tokens["alice"])
    targets = {
        "other": f"/projects/colon/slides/{world.slides['colon'][0]}.zarr/zarr.json",
        "none": f"/projects/colom/slides/{NOBODYS}.zarr/zarr.json",
        "other's": f"/projects/lung/slides/{world.slides['colon'][0]}.zarr/zarr.json",
        "none's": f"/projects/lung/slides/{NOBODYS}.zarr/zarr.json",
    }
    order = random.Random(1)
    # Who does something else meanwhile may be to blame for one round, and not for five.
    assert any(_alike(wire, mine, targets, order) for _ in range(5))


def _alike(wire: Wire, mine: dict[str, str], targets: dict[str, str], order: random.Random) -> bool:
    """Say whether answers to pairs of targets take alike long."""
    taken: dict[str, list[float]] = {what: [] for what in targets}
    for number in range(150):
        # Who is asked first after a pause is answered later.
        wire.ask("/health")
        for what, target in order.sample(sorted(targets.items()), len(targets)):
            begin = time.perf_counter()
            reply = wire.ask(target, mine)
            if number >= 20 and reply.status == 404:
                taken[what].append(time.perf_counter() - begin)
    low = {what: statistics.quantiles(times, n=4)[0] for what, times in taken.items()}
    # A look into a store takes a file's opening and more; a dictionary's look-up does not show.
    pairs = [(low["other"], low["none"]), (low["other's"], low["none's"])]
    return all(abs(one - other) < 0.4 * min(one, other) + 2e-4 for one, other in pairs)


def test_lists_hold_own_slides_only(world: World, wire: Wire) -> None:
    for user, project in (("alice", "lung"), ("bob", "colon")):
        own = bearer(world.tokens[user])
        assert [one["name"] for one in listed(wire.ask("/projects", own), "projects")] == [project]
        rows = listed(wire.ask(f"/projects/{project}/slides", own), "slides")
        assert sorted(str(row["slide"]) for row in rows) == sorted(world.slides[project])
        assert world.objected[project] not in str(rows)
    assert not set(world.slides["lung"]) & set(world.slides["colon"])
    for kind in ("patient", "case", "block"):
        lung, colon = ({row[kind] for row in world.rows[project]} - {None} for project in ("lung", "colon"))
        assert not lung & colon, kind


def listed(reply: Reply, name: str) -> list[dict[str, object]]:
    assert reply.status == 200, reply
    document = reply.json()
    rows: list[dict[str, object]] = document if isinstance(document, list) else document[name]
    return rows


def test_a_patient_who_objects_is_out_at_the_next_request_and_back_when_it_is_withdrawn(
    world: World, wire: Wire
) -> None:
    own, slide = bearer(world.tokens["bob"]), world.slide_of("colon", "colon.svs")
    target = f"/projects/colon/slides/{slide}.zarr/0/image/c/0/0/0"
    assert wire.ask(target, own).status == 200
    world.object("PATIENT-0003")
    for method, one in endpoints("colon", slide):
        if slide in one:
            assert wire.ask(one, own, method=method).status == 404, one
    assert slide not in str(wire.ask("/projects/colon/slides", own).body)
    world.withdraw_objection("PATIENT-0003")
    assert wire.ask(target, own).status == 200


# --- methods, and what a refusal leaves behind ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "MOVE", "get", "QUERY"])
def test_nothing_can_be_changed_through_the_gateway(world: World, wire: Wire, method: str) -> None:
    before = world.state()
    for _, target in [("GET", "/projects"), ("GET", "/health"), *of_lung(world)]:
        for headers in ({}, bearer(world.tokens["alice"])):
            reply = wire.ask(target, headers, method=method, body=b"{}")
            assert reply.status in {400, 401, 404, 405, 501}, (method, target, reply)
            assert "access-control-allow-origin" not in reply.head
    assert wire.ask("/projects", bearer(world.tokens["alice"])).status == 200
    assert world.state() == before


def test_a_method_in_a_header_is_not_the_method(world: World, wire: Wire) -> None:
    headers = {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "PUT", "X-HTTP-Method": "POST"}
    own = bearer(world.tokens["alice"])
    target = f"/projects/lung/slides/{world.slides['lung'][0]}.zarr/zarr.json"
    assert wire.ask(target, {**own, **headers}).told == wire.ask(target, own).told
    rewritten = {"X-Original-URL": "/projects/colon/slides", "X-Rewrite-URL": "/projects/colon/slides"}
    assert wire.ask(target, {**own, **rewritten}).told == wire.ask(target, own).told


def test_every_refusal_leaves_no_trace_but_its_access_line(world: World, wire: Wire) -> None:
    own = bearer(world.tokens["alice"])
    earlier = len(world.lines())
    wire.ask("/projects", own)
    before, lines = world.state(), world.lines(at_least=earlier + 1)
    refused: list[tuple[str, Reply]] = []
    for what, headers in bad_credentials(world).items():
        refused.append((what, wire.ask(f"/projects/lung/slides/{world.slides['lung'][0]}.zarr/zarr.json", headers)))
    for target in ("/projects/colon/slides", f"/projects/lung/slides/{NOBODYS}", "/nothing",
    "/projects/lung/slides?x=1",
                   f"/projects/lung/slides/{world.slides['lung'][0]}.zarr/../../../wsistore.toml"):  # fmt: skip
        refused.append((target, wire.ask(target, own)))
    assert all(reply.status >= 400 for _, reply in refused), refused
    new = world.lines(at_least=len(lines) + len(refused))[len(lines) :]
    assert [line["status"] for line in new] == [reply.status for _, reply in refused]
    assert world.state() == before


def test_access_lines_hold_no_secret_and_nothing_of_the_inside(world: World, wire: Wire) -> None:
    slide = world.slides["lung"][0]
    good = world.tokens["alice"]
    before = len(world.lines())
    wire.ask(f"/projects/lung/slides/{slide}.zarr/0/image/c/0/0/0", bearer(good))
    wire.ask(f"/projects/lung/slides/{world.keys['lung.svs']}.zarr/zarr.json", bearer(good))
    wire.ask(f"/projects/lung/slides/PATIENT-0001?token={good}", bearer(good))
    wire.ask(f"/projects/{good}", bearer(good))
    lines = world.lines(at_least=before + 4)[before:]
    text = world.log.read_text("utf-8") + world.output()
    for secret in map(secret_of, world.tokens.values()):
        assert secret not in text
    for inside in (*world.keys.values(), *world.attempts.values(), "PATIENT-0", "lung.svs", str(world.site)):
        assert inside not in world.log.read_text("utf-8"), inside
    line = next(line for line in reversed(lines) if line["status"] == 200 and line.get("pseudonym") == slide)
    assert {"user", "token", "project", "pseudonym", "what", "view", "status", "bytes", "ms"} <= set(line)
    assert (line["user"], line["project"]) == ("alice", "lung")
    assert line["bytes"] > 0


def test_no_text_of_a_caller_makes_a_line_of_its_own(world: World, wire: Wire) -> None:
    own = bearer(world.tokens["alice"])
    lines = len(world.lines())
    forgery = json.dumps({"user": "mallory", "status": 200})
    targets = [
        f"/projects/%0A{forgery.replace(' ', '%20')}%0A",
        f"/projects/lung%0D%0ASet-Cookie:%20a=b/slides/%0A{NOBODYS}",
        "/projects/\u2028\u2029\u0085/slides",
        "/projects/%1b%5b2J%1b%5b31m",
        "/projects/%ff%fe%00",
    ]
    for target in targets:
        reply = wire.ask(target, {**own, "User-Agent": f"x\t{forgery}", "X-Request-ID": f"{forgery}"})
        assert reply.status in {400, 404}, reply
        assert "set-cookie" not in reply.head
    new = world.lines(at_least=lines + 1)[lines:]
    assert all(line.get("user") != "mallory" for line in new)
    raw = world.log.read_bytes()
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", raw)
    assert not re.search("[\u2028\u2029\u0085]", raw.decode("utf-8"))


def test_answers_are_kept_from_browsers_that_other_sites_steer(world: World, wire: Wire) -> None:
    own = {**bearer(world.tokens["alice"]), "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    for method, target in [("GET", "/projects"), ("GET", "/health"), *of_lung(world)]:
        reply = wire.ask(target, own, method=method)
        assert reply.head.get("access-control-allow-origin") is None, target
        assert reply.head.get("x-content-type-options") == "nosniff", target
        assert "last-modified" not in reply.head, "tells when the slide was taken in"
        assert not re.search(r"python|uvicorn/|starlette|/\d+\.\d+", reply.head.get("server", ""), re.IGNORECASE)
        if reply.status == 200 and "/projects" in target:
            cached = reply.head.get("cache-control", "")
            assert "private" in cached or "no-store" in cached, (target, cached)
            assert "public" not in cached


def test_etags_tell_nothing_of_the_inside(world: World, wire: Wire) -> None:
    hashes = world.object_hashes()
    for user, project in (("alice", "lung"), ("bob", "colon")):
        for slide in world.slides[project]:
            for key in ("zarr.json", "0/image/zarr.json", "0/image/c/0/0/0"):
                reply = wire.ask(f"/projects/{project}/slides/{slide}.zarr/{key}", bearer(world.tokens[user]))
                etag = reply.head["etag"].strip('"')
                assert not reply.head["etag"].startswith("W/")
                for inside in (*world.keys.values(), *world.attempts.values(), *hashes):
                    assert inside not in etag
                    assert not (len(etag) >= 16 and etag in inside)


# --- scopes -----------------------------------------------------------------------------------------------------------


def test_who_may_only_read_may_not_ask_for_recalls(world: World, wire: Wire) -> None:
    before = world.state()
    slide = world.slides["lung"][0]
    reply = wire.ask(f"/projects/lung/slides/{slide}/recall", bearer(world.tokens["reader"]), method="POST", body=b"")
    assert reply.status == 403
    assert world.state() == before


def test_presigned_urls_are_not_made_where_the_site_does_not_say_so(world: World, wire: Wire) -> None:
    slide = world.slides["lung"][0]
    body = json.dumps({"keys": ["zarr.json", "../../../private/x"]}).encode()
    reply = wire.ask(f"/projects/lung/slides/{slide}/presign", bearer(world.tokens["alice"]), method="POST", body=body)
    assert reply.status in {400, 403, 404, 409, 415, 501}
    assert b"X-Amz" not in reply.body
    assert b"://" not in reply.body


def test_levels_that_a_project_may_not_see_are_nowhere(world: World, wire: Wire) -> None:
    own, slide = bearer(world.tokens["dora"]), world.slides["coarse"][0]
    base = f"/projects/coarse/slides/{slide}"
    hidden = [
        f"{base}{view}/{key}"
        for view in (".zarr", ".jpeg.zarr", ".zstd.zarr")
        for key in ("0/zarr.json", "0/image/zarr.json", "0/image/c/0/0/0", "0/x/zarr.json", "0/y/zarr.json", "0/x/c/0")
    ]
    for target in [*hidden, f"{base}/tiles/0/0/0.jpeg"]:
        assert wire.ask(target, own).status == 404, target
    for view in (".zarr", ".jpeg.zarr", ".zstd.zarr"):
        document = wire.ask(f"{base}{view}/zarr.json", own).json()
        paths = [one["path"] for one in document["attributes"]["ome"]["multiscales"][0]["datasets"]]
        assert paths, view
        assert not any(path.split("/")[0] == "0" for path in paths), view
        assert '"0/' not in json.dumps(document)
    row = next(row for row in world.rows["coarse"] if row["slide"] == slide)
    assert (row["width"], row["height"]) == (100, 80)


def test_the_site_is_reached_by_nothing_but_the_gateways_paths(world: World, wire: Wire) -> None:
    own = bearer(world.tokens["alice"])
    for target in ("/", "/docs", "/redoc", "/metrics", "/debug", "/admin", "/wsistore.toml", "/catalog.db", "/store/",
                   "/private/", "/commits/", "/keyring/", "/.git/config", "/server-status",
                   "/projects/lung/slides.zarr",
                   "/favicon.ico", "/robots.txt", "/viewer/", "/viewer/../wsistore.toml", "/static/"):  # fmt: skip
        for headers in ({}, own):
            reply = wire.ask(target, headers)
            assert reply.status in {307, 308, 401, 404} or b"wsistore_" not in reply.body, (target, reply)
            for inside in (*world.keys.values(), str(world.site), "BEGIN", "SQLite"):
                assert inside.encode() not in reply.all_bytes


def test_files_of_the_site_stay_as_they_are(world: World, tmp_path: Path) -> None:
    """After all of the above: nothing was written but the access log and when tokens were used."""
    assert world.files() == world.files_before
