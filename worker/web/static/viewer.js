// Scrolls through the attention images; all of them are loaded at once, so that scrolling doesn't wait.
"use strict";

const viewer = document.getElementById("viewer");
const layered = viewer.dataset.layered === "yes";
const slices = viewer.dataset.slices.split(",");
const slice = document.getElementById("slice");
const opacity = document.getElementById("opacity");
const stack = document.getElementById("stack");

function load(position, layer, words) {
  const image = new Image();
  image.src = `${viewer.dataset.base}${position}/${layer}.png`;
  image.alt = words;
  return image;
}

// [below, above]; without layers the whole image as it was sent
const images = slices.map((position) =>
  layered
    ? [load(position, "plain", "Slice of T1 post-contrast"), load(position, "overlay", "The same under its attention")]
    : [load(position, "page", "Attention image as it was sent")],
);

function show() {
  const index = Number(slice.value) - 1;
  stack.replaceChildren(...images[index]);
  if (layered) {
    images[index][1].style.opacity = opacity.value / 100;
    document.getElementById("opacity-words").value = `${opacity.value} %`;
  }
  document.getElementById("slice-words").value = `${slice.value} of ${slices.length}`;
  document.getElementById("page").href = `${viewer.dataset.base}${slices[index]}/page.png`;
}

function move(knob, steps) {
  // a range keeps its value within its ends
  knob.value = Number(knob.value) + steps * Number(knob.step || 1);
  show();
}

const keys = {
  ArrowUp: () => move(slice, 1),
  ArrowDown: () => move(slice, -1),
  PageUp: () => move(slice, 5),
  PageDown: () => move(slice, -5),
  Home: () => move(slice, -slices.length),
  End: () => move(slice, slices.length),
  "+": () => opacity && move(opacity, 1),
  "-": () => opacity && move(opacity, -1),
};

viewer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
});
viewer.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    move(slice, event.deltaY < 0 ? 1 : -1);
  },
  { passive: false },
);
document.getElementById("knobs").addEventListener("input", show);
document.getElementById("knobs").addEventListener("submit", (event) => event.preventDefault());
show();
viewer.focus({ preventScroll: true });
