// The graph of a step in one or two panes: what is open, what is selected, what is found.

const START = 40; // boxes shown at first, at most
const PLENTY = 900; // boxes from which opening everything takes seconds

class GraphView {
  constructor(layouter, details, onStep) {
    this.layouter = layouter;
    this.details = details;
    this.onStep = onStep;
    this.viewport = new Viewport();
    this.open = new Map(); // by specialisation: numbers of open modules, kept from pass to pass
    this.side = true;
    this.withSlots = false;
    this.selected = null;
    this.finder = new Finder(this);
    this._busy = Promise.resolve();
    this._tools();
  }

  _tools() {
    const button = (id, text, title, action) => element("button", { id, type: "button", title, onclick: action }, text);
    const box = (id, text, checked, action) =>
      element(
        "label",
        {},
        element("input", { id, type: "checkbox", checked, onchange: (e) => action(e.target.checked) }),
        text,
      );
    byId("tools").append(
      this.finder.box,
      button("fit", "fit", "show everything (f)", () => this.fit()),
      button("closer", "+", "closer", () => this.viewport.zoom(1.3)),
      button("farther", "−", "farther", () => this.viewport.zoom(1 / 1.3)),
      button("previous-change", "‹", "previous change (p)", () => this.nextChange(-1)),
      button("next-change", "next change ›", "next change (n)", () => this.nextChange(1)),
      button("show-changes", "open changes", "open the modules that this pass changed", () => this.openChanges()),
      button("close-all", "close all", "close all modules", () => this._setOpen(new Set(), true)),
      button("open-all", "open all", "open all modules", () => this.openAll()),
      box("side-by-side", "before | after", true, (on) => {
        this.side = on;
        this._rebuild(false);
      }),
      box("with-slots", "parameters", false, (on) => {
        this.withSlots = on;
        this._rebuild(false);
      }),
    );
  }

  /** Show stage `index` of a specialisation. */
  async show(specialisation, index) {
    const isOther = this.specialisation !== specialisation;
    this.specialisation = specialisation;
    this.step = specialisation.step(index);
    if (isOther) this.selected = null;
    await this._rebuild(isOther);
    this.select(this.selected && this._exists(this.selected) ? this.selected : null);
    this.finder.find();
  }

  _exists(selected) {
    return selected.name ? this.step.nodes.has(selected.name) : this.outline.modules[selected.module]?.all.length;
  }

  async _rebuild(isOther) {
    const { specialisation, step } = this;
    this.outline = new Outline(specialisation, step, this.withSlots);
    if (!this.open.has(specialisation)) this.open.set(specialisation, this.outline.opening(START));
    specialisation.paired = Boolean(step.before) && this.side;
    const sides = specialisation.paired ? ["before", "after"] : ["after"];
    this.drawings = sides.map((side) => new Drawing(specialisation, side));
    byId("panes").replaceChildren(
      ...this.drawings.map((drawing) =>
        element(
          "div",
          { class: "holder" },
          element("div", { class: "caption" }, this._caption(drawing.side)),
          drawing.svg,
        ),
      ),
    );
    this.changed = [...step.nodes.values()]
      .filter((node) => node.state !== "same" || node.newlyKept)
      .map((node) => node.name);
    for (const id of ["show-changes", "previous-change", "next-change"]) byId(id).disabled = !this.changed.length;
    this.drawings.forEach(({ svg }) => svg.addEventListener("click", (event) => this._clicked(event)));
    this.viewport.watch(this.drawings);
    await this._arrange();
    if (isOther || !this.hasFitted) this.fit();
    this.hasFitted = true;
    this.mark();
  }

  _caption(side) {
    const { step } = this;
    if (!step.before) return `as captured: ${show.count(step.after.operations, "operation")}`;
    const stage = side === "before" ? step.before : step.after;
    return `${side} ${step.after.name}: ${show.count(stage.operations, "operation")}`;
  }

  /** Lay out and draw what is open; one after the other, since clicks may come faster than layouts. */
  _arrange(around = null) {
    this._busy = this._busy
      .then(() => this._arrangeNow(around))
      .catch((error) => {
        byId("legend").textContent = `The graph could not be laid out: ${error.message}`;
        console.error(error);
      });
    return this._busy;
  }

  async _arrangeNow(around) {
    const start = performance.now();
    const { outline, specialisation, step } = this;
    const visible = outline.visible(this.open.get(specialisation), sizeOf);
    const tree = forWorker(visible.root, `${specialisation.name}/${step.index}/${this.withSlots}`);
    byId("graph").classList.add("busy");
    const result = await this.layouter.arrange(tree);
    byId("graph").classList.remove("busy");
    if (outline !== this.outline) return; // another step was chosen meanwhile
    const previous = around && this.scene?.places.get(around);
    this.visible = visible;
    this.scene = absolute(result, visible);
    for (const drawing of this.drawings) drawing.draw(this.scene);
    const place = around && this.scene.places.get(around);
    if (previous && place) this.viewport.hold(previous, place);
    this.mark();
    document.body.dataset.arranged = String(Math.round(performance.now() - start));
    document.body.dataset.boxes = String(this.scene.places.size);
  }

  fit() {
    if (this.scene) this.viewport.fit({ x: 0, y: 0, width: this.scene.width, height: this.scene.height });
  }

  // --- opening and closing ------------------------------------------------------------------------------------------

  async _setOpen(open, refit = false, around = null) {
    this.open.set(this.specialisation, open);
    await this._arrange(around);
    if (refit) this.fit();
  }

  toggle(number) {
    const open = new Set(this.open.get(this.specialisation));
    if (open.has(number)) open.delete(number);
    else open.add(number);
    return this._setOpen(open, false, `m:${number}`);
  }

  async openChanges() {
    const open = new Set();
    for (const name of this.changed) this.outline.boxesAround(name).forEach((m) => open.add(m));
    await this._setOpen(open, true);
    if (this.viewport.scale < NEAR) await this.reveal(this.changed[0]); // the whole is too small to read
  }

  /** Go to the next of the changed nodes, from the selected one on. */
  nextChange(direction) {
    if (!this.changed.length) return Promise.resolve();
    const at = this.changed.indexOf(this.selected?.name);
    const next = at < 0 ? (direction > 0 ? 0 : this.changed.length - 1) : at + direction;
    return this.reveal(this.changed[(next + this.changed.length) % this.changed.length]);
  }

  openAll() {
    const modules = this.outline.modules.filter((module) => module.all.length && this.outline.hasBox(module));
    const boxes = modules.reduce((sum, module) => sum + module.own.length, 0);
    if (boxes > PLENTY && this.asked !== this.specialisation) {
      this.asked = this.specialisation;
      byId("legend").textContent =
        `${show.count(boxes, "box")}es make a large picture; click “open all” again to draw it.`;
      return Promise.resolve();
    }
    return this._setOpen(new Set(modules.map((module) => module.number)), true);
  }

  // --- selecting ----------------------------------------------------------------------------------------------------

  _clicked(event) {
    const id = event.target.closest("[data-id]")?.dataset.id;
    if (!id) return this.select(null);
    if (id.startsWith("n:")) return this.select({ name: id.slice(2) });
    const number = Number(id.slice(2));
    this.select({ module: number });
    return this.toggle(number);
  }

  /** Show a node: open the modules around it, move it to the middle, tell about it. */
  async reveal(name) {
    if (!this.step.nodes.has(name)) return;
    const node = this.step.nodes.get(name);
    if (node.isSlot && !this.withSlots) {
      byId("with-slots").checked = true;
      this.withSlots = true;
      await this._rebuild(false);
    }
    const open = new Set(this.open.get(this.specialisation));
    const size = open.size;
    this.outline.boxesAround(name).forEach((module) => open.add(module));
    if (open.size > size) await this._setOpen(open);
    const box = this.scene.places.get(`n:${name}`);
    if (box) this.viewport.centre(box);
    this.select({ name });
  }

  select(selected) {
    this.selected = selected;
    if (selected?.name) this.details.node(this.specialisation, this.step, selected.name);
    else if (selected) {
      const module = this.outline.modules[selected.module];
      this.details.module(this.specialisation, this.step, module, module.label);
    } else this.details.stage(this.specialisation, this.step);
    this.mark();
  }

  _idOf(name) {
    return this.visible?.paths.get(name)?.at(-1);
  }

  mark() {
    if (!this.scene) return;
    const name = this.selected?.name;
    const found = new Set(this.finder.matches.map((match) => this._idOf(match)).filter(Boolean));
    for (const drawing of this.drawings) {
      const id = name ? this._idOf(name) : this.selected && `m:${this.selected.module}`;
      drawing.mark("selected", id ? [id] : []);
      drawing.mark("found", found);
      drawing.drawLinks(name ? this._linksOf(name, drawing.side) : []);
    }
  }

  _linksOf(name, side) {
    const node = this.step.nodes.get(name);
    const here = this.scene.places.get(this._idOf(name));
    if (!node?.[side] || !here) return [];
    const sources = node[side].operands.map((operand) => ({ name: operand, kind: "in" }));
    const users = (this.step.users.get(name) ?? []).filter((user) =>
      this.step.nodes.get(user)[side]?.operands.includes(name),
    );
    const all = [...sources, ...users.map((user) => ({ name: user, kind: "out" }))];
    const seen = new Set();
    return all.flatMap(({ name: other, kind }) => {
      const id = this._idOf(other);
      const there = this.scene.places.get(id);
      if (!there || there === here || seen.has(id + kind)) return [];
      seen.add(id + kind);
      return [kind === "in" ? { from: there, to: here, kind } : { from: here, to: there, kind }];
    });
  }
}
