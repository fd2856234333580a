// Keeps parts of a page current: asks for the same page again and takes each part over by its id.
"use strict";

async function refresh(part) {
  const answer = await fetch(location.href, { headers: { "X-Gliograde-Refresh": "1" } });
  if (answer.redirected) {
    location.reload();
    return;
  }
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById(part.id);
  if (!fresh || fresh.innerHTML === part.dataset.shown) return;
  part.dataset.shown = fresh.innerHTML;
  // what a person has opened stays open, what has the focus keeps it
  const open = [...part.querySelectorAll("details")].map((item) => item.open);
  const link = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  part.replaceChildren(...fresh.childNodes);
  part.querySelectorAll("details").forEach((item, index) => (item.open = open[index] || false));
  if (link) part.querySelector(`a[href="${CSS.escape(link)}"]`)?.focus();
}

for (const part of document.querySelectorAll("[data-refresh]")) {
  part.dataset.shown = part.innerHTML;
  setInterval(() => {
    if (!document.hidden) refresh(part).catch(() => {});
  }, 1000 * Number(part.dataset.refresh));
}
