// The panel at the side: everything about a node, a module or a pass.

class Details {
  constructor(panel, actions) {
    this.panel = panel;
    this.actions = actions; // {node(name, step), stage(index), module(number)}
  }

  _show(kind, title, ...content) {
    this.panel.replaceChildren(
      element("div", { class: "kind" }, kind),
      element("h2", {}, title),
      ...content.flat().filter(Boolean),
    );
    this.panel.scrollTop = 0;
  }

  _facts(pairs) {
    const rows = pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined);
    return element(
      "dl",
      {},
      rows.map(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
    );
  }

  _link(name, step, text = name) {
    return element("button", { class: "link", type: "button", onclick: () => this.actions.node(name, step) }, text);
  }

  /** Links to nodes of a step; a parameter goes by its dotted name. */
  _links(names, step) {
    const few = names
      .slice(0, 40)
      .flatMap((name) => [this._link(name, step.index, step.nodes.get(name)?.record.slot || name), " "]);
    return element("span", {}, few, names.length > 40 ? `and ${names.length - 40} more` : "");
  }

  _source(record) {
    if (!record.file && !record.code) return null;
    const where = record.file ? `${record.file}:${record.line}` : "";
    return element("div", { class: "source" }, element("div", {}, where), element("code", {}, record.code));
  }

  remark(remark, step) {
    const numbers = Object.entries(remark.numbers)
      .map(([name, value]) => `${name} ${show.number(value)}`)
      .join(" · ");
    return element(
      "div",
      { class: `remark ${remark.kind}` },
      element("div", { class: "who" }, `${remark.pass}/${remark.rule} `, element("b", {}, remark.kind)),
      element("div", {}, remark.reason),
      numbers ? element("div", { class: "numbers" }, numbers) : null,
      step === null
        ? null
        : element(
            "div",
            {},
            remark.nodes.map((name) => [this._link(name, step), " "]),
          ),
    );
  }

  node(specialisation, step, name) {
    const node = step.nodes.get(name);
    const { record } = node;
    const binding = specialisation.binding(record);
    const kept = specialisation.keptValues.get(name);
    const cost = record.seconds
      ? `${show.seconds(record.seconds)} · ${show.flops(record.flops)} · ${show.bytes(record.bytes)}`
      : "";
    const facts = this._facts([
      ["computes", record.value],
      ["module", specialisation.modulePath(record.module)],
      ["parameter", record.slot],
      ["estimate", cost],
      ["made by", record.made_by || (record.op.startsWith("call") ? "captured from the program" : "")],
      ["when", binding ? element("span", { class: `pill ${binding}` }, binding) : ""],
      ["because", specialisation.bindingReason(record)],
      ["operands", record.operands.length ? this._links([...new Set(record.operands)], step) : ""],
      ["used by", step.users.has(name) ? this._links(step.users.get(name), step) : ""],
    ]);
    const calls =
      node.state === "altered"
        ? [
            element("pre", { class: "call gone" }, node.before.call),
            element("pre", { class: "call new" }, node.after.call),
          ]
        : [element("pre", { class: "call" }, record.call)];
    this._show(
      this._kind(node, step),
      name,
      ...calls,
      this._source(record),
      facts,
      kept ? this._kept(kept) : null,
      element("h3", {}, "history"),
      this._history(specialisation, step, name),
    );
  }

  _kind(node, step) {
    const words = {
      same: "node",
      added: "node added",
      removed: "node removed",
      replaced: "node replaced",
      replacement: "node put in place of another",
      altered: "node altered",
    };
    if (node.newlyKept) return `node kept from ${step.after.name} on`;
    return node.state === "same" ? words.same : `${words[node.state]} by ${step.after.name}`;
  }

  _kept(kept) {
    return element(
      "div",
      { class: "keptbox" },
      element("b", {}, `kept between calls: ${show.bytes(kept.nbytes)}`),
      element("div", {}, kept.reason),
      element(
        "details",
        {},
        element("summary", {}, `renewed when one of ${show.count(kept.slots.length, "parameter")} changes`),
        element("div", { class: "slots" }, kept.slots.join(", ")),
      ),
    );
  }

  _history(specialisation, step, name) {
    const events = specialisation.history(name);
    const list = element("ol", { class: "history" });
    for (const event of events) {
      const where =
        event.record && specialisation.stages[event.index].nodes.has(name) ? event.index : Math.max(0, event.index);
      list.append(
        element(
          "li",
          { class: event.index === step.index ? "here" : "" },
          element(
            "button",
            { class: "link stage", type: "button", onclick: () => this.actions.node(name, where) },
            event.stage,
          ),
          " ",
          event.what,
          " ",
          event.link ? this._link(event.link, event.index) : "",
          event.what === "altered" ? element("pre", { class: "call" }, event.record.call) : "",
          event.remarks.map((remark) => this.remark(remark, null)),
        ),
      );
    }
    return list;
  }

  module(specialisation, step, module, label) {
    const records = module.all.map((node) => node.record).filter((record) => record.op.startsWith("call"));
    const sum = (field) => records.reduce((total, record) => total + record[field], 0);
    const still = records.filter((record) => specialisation.binding(record) === "static");
    const counts = countStates(module.all);
    const operators = new Map();
    for (const record of records) operators.set(operator(record), (operators.get(operator(record)) ?? 0) + 1);
    const common = [...operators]
      .sort((a, b) => b[1] - a[1])
      .slice(0, 12)
      .map(([name, count]) => `${count} × ${name}`);
    const remarks = specialisation.remarksIn(step.after.name).filter((r) => {
      const path = specialisation.modules.paths[module.number];
      return !path || r.module === path || r.module.startsWith(`${path}.`);
    });
    this._show(
      "module",
      label,
      this._facts([
        ["path", specialisation.modulePath(module.number)],
        ["operations", records.length],
        ["static", records.length ? `${still.length} (${Math.round((100 * still.length) / records.length)} %)` : ""],
        ["estimate", `${show.seconds(sum("seconds"))} · ${show.flops(sum("flops"))}`],
        [
          "changed here",
          [
            ["added", "+"],
            ["removed", "−"],
            ["altered", "~"],
            ["kept", "●"],
          ]
            .filter(([state]) => counts[state])
            .map(([state, sign]) => `${sign}${counts[state]} ${state}`)
            .join(", "),
        ],
        ["operators", common.join(", ")],
      ]),
      remarks.length ? element("h3", {}, `${show.count(remarks.length, "remark")} of ${step.after.name}`) : null,
      remarks.slice(0, 30).map((remark) => this.remark(remark, step.index)),
    );
  }

  stage(specialisation, step) {
    const counts = countStates(step.nodes.values());
    const remarks = specialisation.remarksIn(step.after.name);
    const tally = (kind) => remarks.filter((remark) => remark.kind === kind).length;
    this._show(
      step.index ? "pass" : "captured graph",
      step.after.name,
      this._facts([
        [
          "operations",
          step.before
            ? `${show.count(step.before.operations)} → ${show.count(step.after.operations)}`
            : show.count(step.after.operations),
        ],
        [
          "nodes",
          step.before
            ? `${counts.added} added, ${counts.removed} removed, ${counts.altered} altered`
            : show.count(step.nodes.size),
        ],
        ["kept", counts.kept ? show.count(counts.kept, "value") : ""],
        ["time", show.seconds(step.index ? step.after.seconds : (specialisation.capture?.seconds ?? 0))],
        [
          "remarks",
          remarks.length
            ? `${tally("applied")} applied, ${tally("declined")} declined, ${tally("note")} notes`
            : "none",
        ],
      ]),
      element(
        "p",
        { class: "hint" },
        "Click a module to open it, its title to close it, a node to see where it comes from. " +
          "Drag to move, wheel to zoom; both sides move together. Keys: / search, f fit, n and p next and previous " +
          "change, ← → passes, Esc nothing selected.",
      ),
      remarks.slice(0, 30).map((remark) => this.remark(remark, step.index)),
    );
  }
}
