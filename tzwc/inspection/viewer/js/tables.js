// The table of remarks, with filters.

const ROWS = 300; // shown at a time

class RemarkTable {
  constructor(section, actions) {
    this.section = section;
    this.actions = actions;
    this.chosen = { pass: "", kind: "", rule: "", text: "" };
  }

  show(specialisation, common) {
    this.specialisation = specialisation;
    this.remarks = [...common, ...specialisation.remarks];
    this.limit = ROWS;
    const filters = ["pass", "kind", "rule"].map((field) => {
      const values = [...new Set(this.remarks.map((remark) => remark[field]))];
      if (!values.includes(this.chosen[field])) this.chosen[field] = "";
      const counts = (value) => this.remarks.filter((remark) => remark[field] === value).length;
      return element(
        "label",
        {},
        field,
        " ",
        element(
          "select",
          { id: `filter-${field}`, onchange: (e) => this._choose(field, e.target.value) },
          element("option", { value: "" }, `all (${this.remarks.length})`),
          values.map((value) =>
            element("option", { value, selected: value === this.chosen[field] }, `${value} (${counts(value)})`),
          ),
        ),
      );
    });
    const text = element("input", {
      id: "filter-text",
      type: "search",
      placeholder: "words in reason, node, module or source",
      value: this.chosen.text,
      oninput: quietly(80, (e) => this._choose("text", e.target.value)),
    });
    this.tally = element("span", { id: "remark-count" });
    this.body = element("tbody");
    this.more = element("button", {
      type: "button",
      onclick: () => {
        this.limit += ROWS;
        this._fill();
      },
    });
    this.section.replaceChildren(
      element("div", { class: "filters" }, filters, text, this.tally),
      element(
        "table",
        {},
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            ["pass", "kind", "rule", "reason", "nodes", "where"].map((name) => element("th", {}, name)),
          ),
        ),
        this.body,
      ),
      this.more,
    );
    this._fill();
  }

  _choose(field, value) {
    this.chosen[field] = value;
    this.limit = ROWS;
    this._fill();
  }

  _fill() {
    const { pass, kind, rule, text } = this.chosen;
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.remarks.filter(
      (r) =>
        (!pass || r.pass === pass) &&
        (!kind || r.kind === kind) &&
        (!rule || r.rule === rule) &&
        words.every((word) => [r.reason, r.module, r.code, r.file, ...r.nodes].join(" ").toLowerCase().includes(word)),
    );
    this.tally.textContent = `${found.length} of ${show.count(this.remarks.length, "remark")}`;
    this.body.replaceChildren(...found.slice(0, this.limit).map((remark) => this._row(remark)));
    this.more.hidden = found.length <= this.limit;
    this.more.textContent = `show more of ${found.length - this.limit}`;
  }

  _row(remark) {
    const numbers = Object.entries(remark.numbers)
      .map(([name, value]) => `${name} ${show.number(value)}`)
      .join(" · ");
    const step = this.specialisation.stages.findIndex((stage) => stage.name === remark.stage);
    return element(
      "tr",
      { class: remark.kind },
      element("td", {}, remark.pass),
      element("td", {}, element("span", { class: `pill ${remark.kind}` }, remark.kind)),
      element("td", {}, remark.rule),
      element("td", {}, remark.reason, numbers ? element("div", { class: "numbers" }, numbers) : ""),
      element(
        "td",
        {},
        remark.nodes.map((name) => [
          step < 0
            ? name
            : element("button", { class: "link", type: "button", onclick: () => this.actions.node(name, step) }, name),
          " ",
        ]),
      ),
      element(
        "td",
        { class: "where" },
        element("div", {}, remark.module || "(root)"),
        remark.file ? element("div", { class: "file" }, `${remark.file}:${remark.line}`) : "",
        remark.code ? element("code", {}, remark.code) : "",
      ),
    );
  }
}
