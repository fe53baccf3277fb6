// Shows the gateway a token once, for a cookie that no script can read. Where to go then stands behind the #, which
// browsers send to nobody: /viewer/sign-in.html#/projects/<project>/slides/<slide>/view
"use strict";

const form = document.getElementById("sign-in");
const message = document.getElementById("message");
const SLIDE = /^\/projects\/[A-Za-z0-9._-]+\/slides\/[A-Za-z0-9._-]+\/view$/;

function say(text) {
    message.textContent = text;
    message.hidden = !text;
}

form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const field = document.getElementById("token");
    const body = JSON.stringify({ token: field.value.trim() });
    field.value = "";
    let answer;
    try {
        answer = await fetch("/session", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    } catch {
        say("The gateway cannot be reached. Try again later.");
        return;
    }
    if (!answer.ok) {
        say("This token is not accepted. Ask for a new one.");
        return;
    }
    document.body.dataset.state = "in";
    const target = location.hash.slice(1);
    if (SLIDE.test(target)) {
        location.assign(target);
    } else {
        say("You are signed in. Open the address of a slide.");
    }
});
