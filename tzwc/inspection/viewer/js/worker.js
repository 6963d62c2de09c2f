// Lays out nested groups from the inside out. Runs in a worker together with the layout library, whose `layout` it
// calls once for every group: that keeps each problem small, and a group is laid out again only when it changes.

const GAP = { nodesep: 18, edgesep: 10, ranksep: 30 };
const PADDING = 14;
const HEADER = 34;
const MANY = 1500; // from here on, the quick ranking

const memory = new Map();

/** `tree` is {key, items: [{id, width, height, inner?}], edges: [[from, to]]}; gives sizes, places and lines. */
export function arrange(tree) {
  const known = memory.get(tree.key);
  if (known) return known;
  const inner = new Map();
  const nodes = tree.items.map((item) => {
    let { width, height } = item;
    if (item.inner) {
      const result = arrange(item.inner);
      inner.set(item.id, result);
      width = Math.max(width, result.width + 2 * PADDING);
      height = result.height + HEADER + PADDING;
    }
    return { v: item.id, width, height };
  });
  const edges = tree.edges.map(([v, w]) => ({
    v,
    w,
    minlen: 1,
    weight: 1,
    width: 0,
    height: 0,
    labeloffset: 10,
    labelpos: "r",
  }));
  if (nodes.length === 1) Object.assign(nodes[0], { x: nodes[0].width / 2, y: nodes[0].height / 2 });
  else if (nodes.length) {
    const options = { ...GAP };
    if (nodes.length > MANY) options.ranker = "longest-path";
    layout(nodes, edges, options, {});
  }
  const left = Math.min(
    ...nodes.map((n) => n.x - n.width / 2),
    ...edges.flatMap((e) => (e.points ?? []).map((p) => p.x)),
  );
  const top = Math.min(...nodes.map((n) => n.y - n.height / 2));
  const result = { items: [], lines: [], width: 0, height: 0 };
  for (const node of nodes) {
    const place = { id: node.v, x: node.x - node.width / 2 - left, y: node.y - node.height / 2 - top };
    Object.assign(place, { width: node.width, height: node.height, inner: inner.get(node.v) ?? null });
    place.innerX = (node.width - (place.inner?.width ?? 0)) / 2;
    place.innerY = HEADER;
    result.items.push(place);
    result.width = Math.max(result.width, place.x + place.width);
    result.height = Math.max(result.height, place.y + place.height);
  }
  for (const edge of edges) {
    const points = (edge.points ?? []).map((p) => ({ x: p.x - left, y: p.y - top }));
    result.lines.push({ from: edge.v, to: edge.w, points });
    for (const point of points) result.width = Math.max(result.width, point.x);
  }
  memory.set(tree.key, result);
  return result;
}

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) {
  self.onmessage = (event) => {
    try {
      self.postMessage({ number: event.data.number, result: arrange(event.data.tree) });
    } catch (error) {
      self.postMessage({ number: event.data.number, error: String(error?.stack ?? error) });
    }
  };
}
