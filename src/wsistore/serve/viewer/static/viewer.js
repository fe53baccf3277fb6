// Shows one slide. Which one stands in the page's own address, /projects/<project>/slides/<slide>/view; what it looks
// like is asked of the gateway: its row, and its levels and tiles. Tiles come as the scanner wrote them.
"use strict";

const HERE = location.pathname.replace(/\/view$/, "");
const NAME = HERE.slice(HERE.lastIndexOf("/") + 1);
const MAGNIFICATIONS = [1.25, 2.5, 5, 10, 20, 40];
const BAR_PIXELS = 160;
const element = (id) => document.getElementById(id);

function state(name) {
    document.body.dataset.state = name;
}

function say(text, button) {
    element("message").replaceChildren(text, ...(button ? [button] : []));
    element("message").hidden = false;
}

async function ask(path, options) {
    const answer = await fetch(path, { credentials: "same-origin", ...options });
    const body = await answer.json().catch(() => ({}));
    return { status: answer.status, ok: answer.ok, body };
}

function refused({ status, body }) {
    state("failed");
    if (status === 401) {
        location.assign(`/viewer/sign-in.html#${location.pathname}`);
    } else if (status === 409 && body.error === "cold") {
        state("cold");
        cold(body);
    } else {
        say([body.message, body.remedy].filter(Boolean).join(" ") || "This slide cannot be shown.");
    }
}

function cold(body) {
    const hours = body.expected_hours;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Ask for it";
    button.addEventListener("click", async () => {
        const answer = await ask(body.recall, { method: "POST" });
        const waits = answer.body.state === "needs-approval" ? " An administrator has to agree." : "";
        const asked = `It was asked for.${waits} Come back later.`;
        say(answer.ok ? asked : answer.body.message || "It cannot be asked for.");
    });
    const time = hours === null || hours === undefined ? "" : ` That takes about ${Math.max(1, Math.round(hours))} h.`;
    say(`This slide is in an archive, and must be brought back before it can be seen.${time}`, button);
}

// Levels from the largest to the smallest, as the gateway tells them; OpenSeadragon counts from the smallest.
function source(levels) {
    const first = levels[0];
    const at = (level) => levels[levels.length - 1 - level];
    const tiles = (level) => {
        const one = at(level);
        return [Math.ceil(one.width / one.tile_width), Math.ceil(one.height / one.tile_height)];
    };
    return {
        width: first.width,
        height: first.height,
        minLevel: 0,
        maxLevel: levels.length - 1,
        tileSize: Math.max(first.tile_width, first.tile_height),
        getLevelScale: (level) => at(level).width / first.width,
        getTileWidth: (level) => at(level).tile_width,
        getTileHeight: (level) => at(level).tile_height,
        getNumTiles: (level) => new OpenSeadragon.Point(...tiles(level)),
        getTileUrl: (level, x, y) => `${HERE}/tiles/${at(level).number}/${y}/${x}.jpeg`,
    };
}

function viewerOf(levels) {
    return OpenSeadragon({
        element: element("slide"),
        tileSources: source(levels),
        drawer: "canvas",
        showNavigationControl: false,
        showNavigator: true,
        navigatorPosition: "BOTTOM_RIGHT",
        navigatorAutoFade: false,
        navigatorBackground: "#fff",
        navigatorOpacity: 1,
        maxZoomPixelRatio: 2,
        visibilityRatio: 0.5,
        animationTime: 0.4,
        imageLoaderLimit: 8,
        timeout: 60000,
        gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    });
}

// Pixels of the screen to a pixel of the slide's first level.
function zoomOf(viewer) {
    return viewer.world.getItemAt(0).viewportToImageZoom(viewer.viewport.getZoom(true));
}

function zoomTo(viewer, ratio) {
    const item = viewer.world.getItemAt(0);
    viewer.viewport.zoomTo(item.imageToViewportZoom(ratio));
    viewer.viewport.applyConstraints();
}

function number(value) {
    return String(Number(value.toPrecision(value < 10 ? 2 : 3)));
}

function tellMagnification(viewer, magnification) {
    const zoom = zoomOf(viewer);
    element("magnification").textContent = magnification
        ? `${number(zoom * magnification)}\u00d7`
        : `${number(100 * zoom)} %`;
}

// The longest of 1, 2, 5, 10, … micrometres that is no wider than BAR_PIXELS.
function tellScale(viewer, size) {
    element("scale").hidden = !size;
    if (!size) {
        return;
    }
    const perPixel = size[1] / zoomOf(viewer);
    const most = perPixel * BAR_PIXELS;
    const power = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].map((step) => step * power).find((one) => one <= most) ?? power;
    const text = length >= 1000 ? `${number(length / 1000)} mm` : `${number(length)} \u00b5m`;
    element("scale").style.width = `${length / perPixel}px`;
    element("scale").setAttribute("aria-label", `Scale bar: ${text}`);
    element("length").textContent = text;
}

function toggleHelp() {
    element("help").hidden = !element("help").hidden;
    element("keys").setAttribute("aria-expanded", String(!element("help").hidden));
}

function listen(viewer, magnification) {
    const zoomBy = (factor) => {
        viewer.viewport.zoomBy(factor);
        viewer.viewport.applyConstraints();
    };
    element("in").addEventListener("click", () => zoomBy(2));
    element("out").addEventListener("click", () => zoomBy(0.5));
    element("home").addEventListener("click", () => viewer.viewport.goHome());
    element("keys").addEventListener("click", toggleHelp);
    // OpenSeadragon has its own keys (arrows, W A S D, + -, R, F) while the slide has the focus.
    document.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) {
            return;
        }
        if (event.key === "?") {
            toggleHelp();
        } else if (event.key === "0") {
            viewer.viewport.goHome();
        } else if (magnification && /^[1-6]$/.test(event.key)) {
            zoomTo(viewer, MAGNIFICATIONS[Number(event.key) - 1] / magnification);
        }
    });
}

function shown(viewer, row, size) {
    const tell = () => {
        tellMagnification(viewer, row.magnification);
        tellScale(viewer, size);
    };
    for (const event of ["animation", "animation-finish", "resize", "open"]) {
        viewer.addHandler(event, tell);
    }
    viewer.addHandler("tile-load-failed", () => {
        say("Some of this slide could not be loaded. Reload the page to try again.");
    });
    viewer.addOnceHandler("open", () => {
        const item = viewer.world.getItemAt(0);
        const loaded = () => state(item.getFullyLoaded() ? "loaded" : "open");
        item.addHandler("fully-loaded-change", loaded);
        loaded();
        tell();
        element("slide").querySelector(".openseadragon-canvas")?.focus();
    });
    listen(viewer, row.magnification);
}

async function start() {
    element("name").textContent = NAME;
    document.title = NAME;
    const tiles = await ask(`${HERE}/tiles`);
    if (!tiles.ok) {
        refused(tiles);
        return;
    }
    const row = await ask(HERE);
    if (!row.ok) {
        refused(row);
        return;
    }
    const levels = tiles.body.levels;
    const viewer = viewerOf(levels);
    shown(viewer, row.body, levels[0].um_per_px);
}

start().catch(() => {
    state("failed");
    say("The gateway cannot be reached. Reload the page to try again.");
});
