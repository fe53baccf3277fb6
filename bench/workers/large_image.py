"""large_image as a tile server: what Girder's routes `tiles/region` and `tiles/zxy` do, on the server that serves ours.

Started as ``python -m bench.workers.large_image PORT PROCESSES SLIDE``. Tiles that need no change are sent as the slide
has them; regions are encoded, as large_image does it by default.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any


def _application() -> Any:
    applications: Any = import_module("starlette.applications")
    responses: Any = import_module("starlette.responses")
    routing: Any = import_module("starlette.routing")
    # Which of its sources is quickest for an SVS of JPEG tiles was tried: libtiff's.
    source = import_module("large_image_source_tiff").TiffFileTileSource(os.environ["BENCH_SLIDE"], encoding="JPEG")

    def tile(request: Any) -> Any:
        z, x, y = (int(request.path_params[name]) for name in "zxy")
        return responses.Response(source.getTile(x, y, z), media_type="image/jpeg")

    def region(request: Any) -> Any:
        names = {"left": "left", "top": "top", "width": "regionWidth", "height": "regionHeight"}
        place = {name: int(request.query_params[given]) for name, given in names.items()}
        data, kind = source.getRegion(region=place, encoding="JPEG")
        return responses.Response(data, media_type=kind)

    routes = [routing.Route("/tiles/zxy/{z}/{x}/{y}", tile), routing.Route("/tiles/region", region)]
    return applications.Starlette(routes=routes)


def __getattr__(name: str) -> Any:
    # Made when a process of the server asks for it, once: this module is imported by those that only start others too.
    if name != "application":
        raise AttributeError(name)
    return _application()


if __name__ == "__main__":
    os.environ["BENCH_SLIDE"] = sys.argv[3]
    import_module("uvicorn").run(
        "bench.workers.large_image:application",
        host="127.0.0.1", port=int(sys.argv[1]), workers=int(sys.argv[2]), access_log=False, log_level="warning",
    )  # fmt: skip
