// What is visible (which modules are open), as nested groups; and the way to the worker that lays them out.

class Layouter {
  constructor(library, worker) {
    // One module of both texts: the worker's code uses what the library declares.
    this._address = URL.createObjectURL(new Blob([library, "\n", worker], { type: "text/javascript" }));
    this._waiting = new Map();
    this._number = 0;
    try {
      this._worker = new Worker(this._address, { type: "module" });
      this._worker.onmessage = ({ data }) => this._answered(data);
      this._worker.onerror = (event) => this._withoutWorker(event);
    } catch {
      this._worker = null; // some browsers start none from a file
    }
  }

  arrange(tree) {
    return new Promise((resolve, reject) => {
      const number = (this._number += 1);
      this._waiting.set(number, { tree, resolve, reject });
      if (this._worker) this._worker.postMessage({ number, tree });
      else this._here(number);
    });
  }

  _answered({ number, result, error }) {
    const { resolve, reject } = this._waiting.get(number);
    this._waiting.delete(number);
    if (error) reject(new Error(error));
    else resolve(result);
  }

  _withoutWorker(event) {
    event.preventDefault();
    this._worker = null;
    for (const number of this._waiting.keys()) this._here(number);
  }

  async _here(number) {
    try {
      const { arrange } = await import(this._address);
      this._answered({ number, result: arrange(this._waiting.get(number).tree) });
    } catch (error) {
      this._answered({ number, error: String(error) });
    }
  }
}

const FEW = 2; // a module with this many nodes or fewer is drawn as its nodes: a box around one box says nothing

/** The modules of one step with their nodes. */
class Outline {
  constructor(specialisation, step, withSlots) {
    this.specialisation = specialisation;
    this.step = step;
    this.withSlots = withSlots;
    const { parents, labels } = specialisation.modules;
    this.modules = parents.map((parent, number) => ({
      number,
      parent,
      label: this._label(number),
      own: [],
      children: [],
      all: [],
    }));
    for (const node of step.nodes.values()) {
      if (!this._visible(node)) continue;
      this.modules[node.record.module].own.push(node);
      for (let m = node.record.module; m >= 0; m = parents[m]) this.modules[m].all.push(node);
    }
    parents.forEach((parent, number) => {
      if (parent >= 0 && this.modules[number].all.length) this.modules[parent].children.push(this.modules[number]);
    });
  }

  _label(number) {
    const { parents, labels } = this.specialisation.modules;
    // A bare number says less than "blocks.3".
    return /^\d+$/.test(labels[number]) && parents[number] > 0
      ? `${labels[parents[number]]}.${labels[number]}`
      : labels[number];
  }

  _visible(node) {
    // Parameters would be four of ten boxes; inputs and results always show. What nobody reads is no part of the flow.
    return node.isSlot ? this.withSlots && this.step.users.has(node.name) : true;
  }

  /** Below a chain of modules that hold nothing but each other, the one worth a box, and the labels passed. */
  worthwhile(module) {
    const labels = [module.label];
    const { labels: bare } = this.specialisation.modules;
    let found = module;
    while (!found.own.length && found.children.length === 1) {
      found = found.children[0];
      labels.push(bare[found.number]);
    }
    return { module: found, label: labels.join(".") };
  }

  isInline(module) {
    return !module.children.length && module.own.length <= FEW;
  }

  /** Modules from the root down to `name`'s own that have a box. */
  boxesAround(name) {
    const node = this.step.nodes.get(name);
    if (!node) return [];
    const path = [];
    for (let m = node.record.module; m > 0; m = this.modules[m].parent) path.unshift(this.modules[m]);
    return path.filter((module) => this.hasBox(module)).map((module) => module.number);
  }

  hasBox(module) {
    return module.number > 0 && !this.isInline(module) && this.worthwhile(module).module === module;
  }

  /** Which modules to open at first: level by level, as long as the picture stays small. */
  opening(limit) {
    const open = new Set();
    let level = [this.modules[0]];
    let visible = this._items(this.modules[0]).length;
    while (level.length) {
      const next = level.flatMap((module) =>
        this._items(module)
          .filter((item) => item.module)
          .map((item) => item.module),
      );
      const more = next.reduce((sum, module) => sum + this._items(module).length, 0);
      if (visible + more > limit) break;
      visible += more;
      next.forEach((module) => open.add(module.number));
      level = next;
    }
    return open;
  }

  _items(module) {
    const items = module.own.map((node) => ({ node, prefix: "" }));
    for (const child of module.children) {
      const { module: found, label } = this.worthwhile(child);
      if (this.isInline(found)) items.push(...found.own.map((node) => ({ node, prefix: label })));
      else items.push({ module: found, label });
    }
    return items;
  }

  /** The nested groups for the worker, with where every node is shown and the lines of each group. */
  visible(open, sizeOf) {
    const paths = new Map();
    const groups = new Map();
    const build = (module, path, id) => {
      const group = { key: "", id, items: [], edges: new Map() };
      groups.set(id, group);
      for (const item of this._items(module)) {
        if (item.node) {
          const own = `n:${item.node.name}`;
          group.items.push({ id: own, ...item, ...sizeOf(item) });
          paths.set(item.node.name, [...path, own]);
          continue;
        }
        const own = `m:${item.module.number}`;
        const isOpen = open.has(item.module.number);
        const entry = { id: own, ...item, isOpen, ...sizeOf(item) };
        group.items.push(entry);
        if (isOpen) entry.group = build(item.module, [...path, own], own);
        else for (const node of item.module.all) paths.set(node.name, [...path, own]);
      }
      return group;
    };
    const root = build(this.modules[0], [], "root");
    for (const node of this.step.nodes.values()) {
      if (!paths.has(node.name)) continue;
      for (const side of ["before", "after"]) {
        for (const operand of node[side]?.operands ?? []) this._connect(groups, paths, operand, node, side);
      }
    }
    return { root, groups, paths };
  }

  _connect(groups, paths, operand, node, side) {
    const from = paths.get(operand);
    const to = paths.get(node.name);
    if (!from) return;
    let depth = 0;
    while (from[depth] === to[depth] && depth < from.length) depth += 1;
    if (depth >= from.length || depth >= to.length) return; // both in one closed module
    const group = groups.get(depth ? from[depth - 1] : "root");
    const key = `${from[depth]} ${to[depth]}`;
    if (!group.edges.has(key)) {
      group.edges.set(key, {
        from: from[depth],
        to: to[depth],
        before: new Set(),
        after: new Set(),
        keptOn: new Set(),
      });
    }
    const edge = group.edges.get(key);
    edge[side].add(operand);
    const source = this.step.nodes.get(operand)[side];
    if (source?.kept && this.specialisation.binding(node.record) !== "static") edge.keptOn.add(side);
  }
}

/** The part of a group that the worker needs; the key names everything that the layout depends on. */
function forWorker(group, prefix) {
  const items = group.items.map(({ id, width, height, group: inner }) => ({
    id,
    width,
    height,
    ...(inner ? { inner: forWorker(inner, prefix) } : {}),
  }));
  const state = items.map((item) => (item.inner ? `[${item.inner.key}]` : "")).join("");
  return { key: `${prefix}/${group.id}${state}`, items, edges: [...group.edges.values()].map((e) => [e.from, e.to]) };
}
