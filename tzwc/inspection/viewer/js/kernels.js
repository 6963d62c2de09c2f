// Kept values as pictures, block by block: maps as coloured taps, sequences as curves.

function bytesOf(text) {
  const raw = atob(text);
  return Uint8Array.from(raw, (letter) => letter.charCodeAt(0));
}

/** Blue below zero, white at zero, red above; a range on one side of zero goes from white. */
function colour(value, low, high) {
  const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
  const t = Math.max(-1, Math.min(1, value / most));
  const blend = (end) => end.map((part) => Math.round(250 + (part - 250) * Math.abs(t) ** 0.8));
  return blend(t < 0 ? [24, 92, 190] : [196, 40, 46]);
}

function drawMap(picture, values) {
  const { width, height } = picture;
  const canvas = element("canvas", { width, height, class: width >= 24 ? "map large" : "map" });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  values.forEach((value, i) => image.data.set([...colour(value, picture.low, picture.high), 255], 4 * i));
  context.putImageData(image, 0, 0);
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = Math.min(width - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * width)));
    const y = Math.min(height - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * height)));
    canvas.title = `[${y}, ${x}] = ${values[y * width + x].toPrecision(4)}`;
  });
  return canvas;
}

function drawCurve(picture, values) {
  const span = picture.high - picture.low || 1;
  const points = values.map((value, i) => {
    const x = values.length > 1 ? (100 * i) / (values.length - 1) : 50;
    return `${x.toFixed(2)},${(38 - (36 * (value - picture.low)) / span).toFixed(2)}`;
  });
  const zero = 38 - (36 * (0 - picture.low)) / span;
  const parts = [shape("polyline", { points: points.join(" ") })];
  if (zero >= 0 && zero <= 40) parts.unshift(shape("line", { x1: 0, x2: 100, y1: zero, y2: zero }));
  return shape("svg", { class: "curve", viewBox: "0 0 100 40", preserveAspectRatio: "none" }, parts);
}

function drawPicture(picture) {
  const raw = bytesOf(picture.data);
  const size = picture.width * picture.height;
  const cells = [];
  for (let channel = 0; channel < picture.shown; channel += 1) {
    const values = Array.from(
      raw.subarray(channel * size, (channel + 1) * size),
      (byte) => picture.low + ((picture.high - picture.low) * byte) / 255,
    );
    cells.push(
      element(
        "figure",
        {},
        picture.height > 1 ? drawMap(picture, values) : drawCurve(picture, values),
        element("figcaption", {}, channel),
      ),
    );
  }
  return cells;
}

function showKernels(section, specialisation, actions) {
  const { pictures, stages } = specialisation;
  if (!pictures.length) {
    section.replaceChildren(
      element(
        "p",
        { class: "empty" },
        specialisation.frontier.length
          ? "Nothing has been evaluated yet, or no kept value has taps: call the module, then dump."
          : "No value is kept between calls, so there are no kernels to show.",
      ),
    );
    return;
  }
  const blocks = new Map();
  for (const picture of pictures) {
    if (!blocks.has(picture.block)) blocks.set(picture.block, []);
    blocks.get(picture.block).push(picture);
  }
  const note =
    "Values of the last evaluation, the first channels of each. Red is above zero, blue below; " +
    "hover over a tap for its value.";
  section.replaceChildren(
    element("div", { class: "filters" }, element("b", {}, show.count(pictures.length, "kept value")), note),
    ...[...blocks].map(([block, several]) =>
      element(
        "section",
        { class: "block" },
        element("h2", {}, block || "(root)"),
        several.map((picture) =>
          element(
            "article",
            { class: "picture" },
            element(
              "header",
              {},
              element(
                "button",
                { class: "link", type: "button", onclick: () => actions.node(picture.node, stages.length - 1) },
                picture.node,
              ),
              " ",
              element("b", {}, picture.module.slice(block.length).replace(/^\./, "") || picture.module),
              " ",
              picture.type,
              " ",
              element(
                "span",
                { class: "numbers" },
                `${picture.magnitude ? "magnitudes " : ""}${show.number(picture.low)} … ${show.number(picture.high)}` +
                  (picture.shown < picture.channels ? ` · ${picture.shown} of ${picture.channels} channels` : ""),
              ),
            ),
            element("div", { class: "cells" }, drawPicture(picture)),
          ),
        ),
      ),
    ),
  );
}
