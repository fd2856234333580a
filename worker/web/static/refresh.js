// Keeps parts of a page current: asks for the same page again and takes each part over by its id.
"use strict";

const PATIENCE = 30_000;
const stale = document.getElementById("stale");

async function refresh(part) {
  // a page that answers a form has another address than the one to ask again
  const answer = await fetch(part.dataset.source || location.href, {
    headers: { "X-Gliograde-Refresh": "1" },
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (answer.redirected) {
    location.assign(answer.url);
    return;
  }
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById(part.id);
  if (!fresh) throw new Error(`no part ${part.id}`);
  if (fresh.innerHTML === part.dataset.shown) return;
  part.dataset.shown = fresh.innerHTML;
  // what a person has opened stays open, what has the focus keeps it
  const open = [...part.querySelectorAll("details")].map((item) => item.open);
  const link = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  part.replaceChildren(...fresh.childNodes);
  part.querySelectorAll("details").forEach((item, index) => (item.open = open[index] || false));
  if (link) part.querySelector(`a[href="${CSS.escape(link)}"]`)?.focus();
}

async function keepCurrent(part, since) {
  if (!document.hidden) {
    try {
      await refresh(part);
      since = new Date();
      stale.textContent = "";
    } catch {
      const words = `Not refreshed since ${since.toISOString().slice(11, 16)} UTC`;
      // a screen reader says again whatever is set again
      if (stale.textContent !== words) stale.textContent = words;
    }
  }
  wait(part, since);
}

function wait(part, since) {
  setTimeout(keepCurrent, 1000 * Number(part.dataset.refresh), part, since);
}

for (const part of document.querySelectorAll("[data-refresh]")) {
  part.dataset.shown = part.innerHTML;
  wait(part, new Date());
}
