// The data of one specialisation: stages, what each pass changed, modules, and the history of every node.

class Specialisation {
  constructor(raw, fields, texts) {
    Object.assign(this, {
      name: raw.name,
      key: raw.key,
      level: raw.level,
      calls: raw.calls,
      cache: raw.cache,
      capture: raw.capture,
      timings: raw.timings,
      notes: raw.notes,
      remarks: raw.remarks,
      choices: raw.choices,
      frontier: raw.frontier,
      pictures: raw.pictures,
      modules: raw.modules,
    });
    const isText = new Set(texts);
    const decoded = raw.records.map((row) => {
      const record = {};
      fields.forEach((field, i) => {
        record[field] = isText.has(field) ? raw.strings[row[i]] : row[i];
      });
      record.operands = record.operands.map((i) => raw.strings[i]);
      return record;
    });
    this.stages = raw.stages.map((stage) => ({
      name: stage.name,
      seconds: stage.seconds,
      operations: stage.operations,
      changes: stage.changes,
      nodes: new Map(stage.records.map((i) => [decoded[i].name, decoded[i]])),
    }));
    this.remarks.forEach((remark, number) => {
      remark.number = number;
    });
    this.keptValues = new Map(this.frontier.map((value) => [value.node, value]));
    this._remarksOf = new Map();
    for (const remark of this.remarks) {
      for (const name of remark.nodes) {
        if (!this._remarksOf.has(name)) this._remarksOf.set(name, []);
        this._remarksOf.get(name).push(remark);
      }
    }
    this._binding = new Map();
    for (const stage of this.stages) {
      for (const record of stage.nodes.values()) if (record.binding) this._binding.set(record.name, record);
    }
    this._steps = new Map();
  }

  /** "static", "dynamic" or "": known from the pass that analysed it, and true of the node in all stages before. */
  binding(record) {
    return record.binding || (this._binding.get(record.name)?.binding ?? "");
  }

  bindingReason(record) {
    return record.reason || (this._binding.get(record.name)?.reason ?? "");
  }

  remarksOf(name) {
    return this._remarksOf.get(name) ?? [];
  }

  remarksIn(stage) {
    return this.remarks.filter((remark) => remark.stage === stage);
  }

  modulePath(number) {
    return this.modules.paths[number] || "(model)";
  }

  /** The graphs around stage `index` as one: every node of either, with what became of it. */
  step(index) {
    if (!this._steps.has(index)) this._steps.set(index, this._makeStep(index));
    return this._steps.get(index);
  }

  _makeStep(index) {
    const after = this.stages[index];
    const before = index > 0 ? this.stages[index - 1] : null;
    const { removed = {}, added = {}, altered = [], kept = [] } = after.changes ?? {};
    const isAltered = new Set(altered);
    const newlyKept = new Set(kept);
    const names = new Set([...(before?.nodes.keys() ?? []), ...after.nodes.keys()]);
    const nodes = new Map();
    for (const name of names) {
      const old = before?.nodes.get(name) ?? null;
      const now = after.nodes.get(name) ?? null;
      let state = "same";
      if (before && !now) state = removed[name] ? "replaced" : "removed";
      else if (before && !old) state = added[name] ? "replacement" : "added";
      else if (isAltered.has(name)) state = "altered";
      const record = now ?? old;
      nodes.set(name, {
        name,
        before: old,
        after: now,
        record,
        state,
        inPlaceOf: added[name] ?? "",
        replacedBy: removed[name] ?? "",
        newlyKept: newlyKept.has(name),
        isSlot: record.op === "placeholder" && record.slot !== "",
      });
    }
    const users = new Map();
    for (const node of nodes.values()) {
      for (const operand of new Set([...(node.before?.operands ?? []), ...(node.after?.operands ?? [])])) {
        if (!users.has(operand)) users.set(operand, []);
        users.get(operand).push(node.name);
      }
    }
    return { index, before, after, nodes, users };
  }

  /** What happened to a node, stage by stage. */
  history(name) {
    const events = [];
    this.stages.forEach((stage, index) => {
      const record = stage.nodes.get(name);
      const previous = index > 0 ? this.stages[index - 1].nodes.get(name) : null;
      const changes = stage.changes ?? { removed: {}, added: {}, altered: [], kept: [] };
      const event = {
        index,
        stage: stage.name,
        record,
        remarks: this.remarksOf(name).filter((r) => r.stage === stage.name),
      };
      if (record && !previous) {
        const origin = changes.added[name];
        const how = index === 0 ? "captured" : `made by ${record.made_by || stage.name}`;
        const remarks = index ? this._remarksOnMaking(record, index) : [];
        events.push({
          ...event,
          remarks: [...new Set([...event.remarks, ...remarks])],
          what: origin ? `${how} in place of` : how,
          link: origin,
        });
      } else if (!record && previous) {
        const heir = changes.removed[name];
        events.push({ ...event, what: heir ? "replaced by" : "removed", link: heir, record: previous });
      } else if (record && changes.altered.includes(name)) {
        events.push({ ...event, what: "altered", record, previous });
      } else if (record && event.remarks.length && !changes.kept.includes(name)) {
        events.push({ ...event, what: "left as it was" });
      }
      if (record && changes.kept.includes(name)) {
        const said = events.at(-1)?.index === index;
        events.push({ ...event, remarks: said ? [] : event.remarks, what: "kept between calls from here on" });
      }
    });
    return events;
  }

  /** What the rule that made a node said about the nodes in whose place it, or what reads it, stands. */
  _remarksOnMaking(record, index) {
    const stage = this.stages[index];
    const { users } = this.step(index);
    const heirs = new Set([record.name, ...(users.get(record.name) ?? [])]);
    const rule = record.made_by.split("/").at(-1);
    return this.remarksIn(stage.name).filter(
      (remark) =>
        remark.rule === rule &&
        remark.kind === "applied" &&
        remark.nodes.some((name) => heirs.has(name) || heirs.has(stage.changes.removed[name])),
    );
  }
}

function countStates(nodes) {
  const counts = { added: 0, removed: 0, altered: 0, kept: 0 };
  for (const node of nodes) {
    if (node.state === "added" || node.state === "replacement") counts.added += 1;
    if (node.state === "removed" || node.state === "replaced") counts.removed += 1;
    if (node.state === "altered") counts.altered += 1;
    if (node.newlyKept) counts.kept += 1;
  }
  return counts;
}
