// Boxes and lines of one pane. Both panes get the same places; a node that one side lacks leaves an empty outline.

const LETTER = 7.2; // pixels, about, of the 12 px bold font
const BOX = { least: 64, module: 124, most: 260, height: 43 };

function clip(text, letters) {
  return text.length <= letters ? text : `${text.slice(0, letters - 1)}…`;
}

/** The operator without its namespace and overload: aten.conv2d.default is conv2d. */
function operator(record) {
  if (record.op === "placeholder") return record.slot ? record.slot.split(".").at(-1) : record.name;
  if (record.op === "output") return "output";
  const parts = record.target.split(".");
  return record.target.startsWith("aten.") || record.target.startsWith("prims.") ? parts[1] : parts.at(-1);
}

function captionOf(item) {
  if (item.module) {
    const { all } = item.module;
    const operations = all.filter((node) => node.record.op.startsWith("call")).length;
    const kept = all.filter((node) => node.after?.kept || (!node.after && node.before?.kept)).length;
    return [item.label, [show.count(operations, "op"), kept ? `${kept} kept` : ""].filter(Boolean).join(" · ")];
  }
  const { record } = item.node;
  const title = operator(record);
  return [item.prefix ? `${item.prefix} · ${title}` : title, record.value];
}

/** Size of the box of an item that is a node or a closed module. */
function sizeOf(item) {
  const [title, subtitle] = captionOf(item);
  const letters = Math.max(title.length + (item.module ? 6 : 1), subtitle.length);
  const width = Math.min(BOX.most, Math.max(item.module ? BOX.module : BOX.least, letters * LETTER + 22));
  return { width, height: BOX.height };
}

/** Absolute places of all visible items, by id, and of all lines. */
function absolute(result, visible) {
  const places = new Map();
  const lines = [];
  const walk = (layout, group, x, y) => {
    const items = new Map(group.items.map((item) => [item.id, item]));
    for (const place of layout.items) {
      const item = items.get(place.id);
      const box = { x: x + place.x, y: y + place.y, width: place.width, height: place.height, item };
      places.set(place.id, box);
      if (item.group) walk(place.inner, item.group, box.x + place.innerX, box.y + place.innerY);
    }
    for (const line of layout.lines) {
      const points = line.points.map((p) => ({ x: x + p.x, y: y + p.y }));
      lines.push({ edge: group.edges.get(`${line.from} ${line.to}`), points });
    }
  };
  walk(result, visible.root, 0, 0);
  return { places, lines, width: result.width, height: result.height };
}

/** A smooth line through the points that the layout gave. */
function curve(points) {
  if (points.length < 2) return "";
  const text = (p) => `${p.x.toFixed(1)} ${p.y.toFixed(1)}`;
  let path = `M${text(points[0])}`;
  for (let i = 1; i < points.length - 1; i += 1) {
    const middle = { x: (points[i].x + points[i + 1].x) / 2, y: (points[i].y + points[i + 1].y) / 2 };
    path += `Q${text(points[i])} ${text(i === points.length - 2 ? points[i + 1] : middle)}`;
  }
  return points.length === 2 ? `${path}L${text(points[1])}` : path;
}

class Drawing {
  constructor(specialisation, side) {
    this.specialisation = specialisation;
    this.side = side;
    this.svg = shape("svg", {
      class: "pane",
      tabindex: 0,
      "data-side": side,
      role: "img",
      "aria-label": `graph ${side}`,
    });
    const arrow = {
      viewBox: "0 0 8 8",
      refX: 7,
      refY: 4,
      markerWidth: 8,
      markerHeight: 8,
      markerUnits: "userSpaceOnUse",
      orient: "auto-start-reverse",
    };
    this.svg.append(
      shape("defs", {}, shape("marker", { id: `arrow-${side}`, ...arrow }, shape("path", { d: "M0 0L8 4L0 8z" }))),
    );
    this.world = shape("g", { class: "world" });
    this.svg.append(this.world);
    this.boxes = new Map();
  }

  draw(scene) {
    const groups = shape("g");
    const lines = shape("g", { class: "lines" });
    const boxes = shape("g");
    this.over = shape("g", { class: "over" });
    this.boxes = new Map();
    for (const line of scene.lines) lines.append(this._line(line));
    for (const [id, box] of scene.places) {
      const drawn = box.item.isOpen ? this._group(box) : this._box(box);
      this.boxes.set(id, drawn);
      (box.item.isOpen ? groups : boxes).append(drawn);
    }
    this.world.replaceChildren(groups, lines, boxes, this.over);
  }

  _line({ edge, points }) {
    const here = edge[this.side];
    const there = edge[this.side === "before" ? "after" : "before"];
    const classes = ["line"];
    if (!here.size) classes.push("absent");
    else if (!there.size && this.specialisation.paired) classes.push(this.side === "before" ? "gone" : "new");
    if (edge.keptOn.has(this.side)) classes.push("kept");
    const drawn = shape("path", {
      class: classes.join(" "),
      d: curve(points),
      "marker-end": `url(#arrow-${this.side})`,
    });
    const values = [...here]
      .slice(0, 6)
      .map((name) => name)
      .join(", ");
    drawn.append(shape("title", {}, here.size > 6 ? `${values} and ${here.size - 6} more` : values));
    return drawn;
  }

  _nodes(item) {
    return item.node ? [item.node] : item.module.all;
  }

  _classes(item) {
    const nodes = this._nodes(item);
    const present = nodes.filter((node) => node[this.side]);
    const classes = [item.node ? "node" : "module"];
    if (!present.length) classes.push("absent");
    if (item.node) {
      classes.push(item.node.state, this.specialisation.binding(item.node.record), item.node.record.op);
      if (item.node[this.side]?.kept) classes.push("kept");
    } else if (nodes.some((node) => node.state !== "same")) classes.push("touched");
    return classes.filter(Boolean).join(" ");
  }

  _box({ x, y, width, height, item }) {
    const [title, subtitle] = captionOf(item);
    const letters = Math.floor((width - 16) / LETTER);
    const drawn = shape(
      "g",
      {
        class: this._classes(item),
        transform: `translate(${x} ${y})`,
        "data-id": item.module ? `m:${item.module.number}` : `n:${item.node.name}`,
      },
      shape("rect", { class: "frame", width, height, rx: item.module ? 9 : 5 }),
    );
    if (item.module) drawn.append(...this._summary(item, width, height));
    else drawn.append(shape("rect", { class: "binding", width: 5, height: height - 8, x: 4, y: 4, rx: 2.5 }));
    const indent = item.module ? 20 : 15;
    drawn.append(
      shape("text", { class: "title", x: indent, y: 17 }, clip(title, letters)),
      shape("text", { class: "subtitle", x: indent, y: 32 }, clip(subtitle, letters + 2)),
    );
    if (item.node?.[this.side]?.kept) drawn.append(shape("circle", { class: "pin", cx: width, cy: 0, r: 6 }));
    return drawn;
  }

  _group({ x, y, width, height, item }) {
    return shape(
      "g",
      { class: `${this._classes(item)} open`, transform: `translate(${x} ${y})`, "data-id": `m:${item.module.number}` },
      shape("rect", { class: "frame", width, height, rx: 9 }),
      shape("rect", { class: "header", width, height: 22, rx: 9 }),
      shape("text", { class: "title", x: 20, y: 15 }, item.label),
      shape("text", { class: "mark", x: 7, y: 15 }, "−"),
    );
  }

  /** What a closed module holds: how much of it is static, and what the pass changed in it. */
  _summary(item, width, height) {
    const present = item.module.all.filter((node) => node[this.side] && node.record.op.startsWith("call"));
    const still = present.filter((node) => this.specialisation.binding(node.record) === "static").length;
    const parts = [shape("text", { class: "mark", x: 7, y: 17 }, "+")];
    if (present.length) {
      const full = width - 24;
      parts.push(shape("rect", { class: "share", x: 12, y: height - 5, width: full, height: 2.5 }));
      parts.push(
        shape("rect", {
          class: "share static",
          x: 12,
          y: height - 5,
          width: (full * still) / present.length,
          height: 2.5,
        }),
      );
    }
    const counts = countStates(item.module.all);
    const badges =
      this.side === "before"
        ? [
            ["removed", "−"],
            ["altered", "~"],
          ]
        : [
            ["added", "+"],
            ["altered", "~"],
            ["kept", "●"],
          ];
    let right = width - 4;
    for (const [state, sign] of badges.reverse()) {
      if (!counts[state]) continue;
      const text = `${sign}${counts[state]}`;
      const wide = text.length * 6.5 + 8;
      right -= wide + 2;
      parts.push(
        shape(
          "g",
          { class: `badge ${state}`, transform: `translate(${right} -11)` },
          shape("rect", { width: wide, height: 16, rx: 8 }),
          shape("text", { x: wide / 2, y: 12 }, text),
        ),
      );
    }
    return parts;
  }

  /** Lines from and to a node, drawn over everything, whatever groups they cross. */
  drawLinks(links) {
    this.over?.replaceChildren(
      ...links.map(({ from, to, kind }) => {
        const start = { x: from.x + from.width / 2, y: from.y + from.height };
        const end = { x: to.x + to.width / 2, y: to.y };
        const bend = Math.max(24, Math.min(160, Math.abs(end.y - start.y) / 2));
        const d = `M${start.x} ${start.y}C${start.x} ${start.y + bend} ${end.x} ${end.y - bend} ${end.x} ${end.y}`;
        return shape("path", { class: `tie ${kind}`, d, "marker-end": `url(#arrow-${this.side})` });
      }),
    );
  }

  mark(className, ids) {
    for (const drawn of this.svg.querySelectorAll(`.${className}`)) drawn.classList.remove(className);
    for (const id of ids) this.boxes.get(id)?.classList.add(className);
  }
}
