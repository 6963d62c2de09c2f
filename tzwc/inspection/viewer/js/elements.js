// Elements and numbers. Text always goes in as text nodes: what is shown comes from the user's program.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

/** An HTML element; attributes that start with "on" are listeners, texts become text nodes. */
function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element, in the same way. */
function shape(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG_NAMESPACE, tag), attributes, children);
}

function byId(id) {
  return document.getElementById(id);
}

function scaled(value, steps) {
  const [limit, factor, unit] = steps.find(([bound]) => Math.abs(value) < bound) ?? steps.at(-1);
  return `${Number((value * factor).toPrecision(3))} ${unit}`;
}

const show = {
  count: (number, noun = "") => `${number.toLocaleString("en")} ${number === 1 || !noun ? noun : `${noun}s`}`.trim(),
  seconds: (value) =>
    value === 0
      ? "0 s"
      : scaled(value, [
          [1e-3, 1e6, "µs"],
          [1, 1e3, "ms"],
          [Infinity, 1, "s"],
        ]),
  bytes: (value) =>
    scaled(value, [
      [1024, 1, "B"],
      [1024 ** 2, 1 / 1024, "KiB"],
      [1024 ** 3, 1024 ** -2, "MiB"],
      [Infinity, 1024 ** -3, "GiB"],
    ]),
  flops: (value) =>
    scaled(value, [
      [1e3, 1, "FLOP"],
      [1e6, 1e-3, "kFLOP"],
      [1e9, 1e-6, "MFLOP"],
      [1e12, 1e-9, "GFLOP"],
      [Infinity, 1e-12, "TFLOP"],
    ]),
  number: (value) =>
    typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value),
};

/** Calls `action` once things have been quiet for some milliseconds. */
function quietly(milliseconds, action) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}
