// The search box: what is found is listed, outlined in the graph, and walked through with Enter.

class Finder {
  constructor(view) {
    this.view = view;
    this.matches = [];
    this.position = -1;
    this.input = element("input", {
      id: "search",
      type: "search",
      placeholder: "search nodes, operators, modules, source…  ( / )",
      autocomplete: "off",
      oninput: quietly(80, () => this.find()),
      onkeydown: (e) => this._key(e),
    });
    this.results = element("div", { id: "results", hidden: true });
    this.box = element("div", { class: "finder" }, this.input, this.results);
  }

  find() {
    const words = this.input.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.position = -1;
    this.matches = !words.length
      ? []
      : [...this.view.step.nodes.values()]
          .filter((node) => {
            if (
              node.isSlot &&
              !this.view.withSlots &&
              !words.some((word) => node.record.slot.toLowerCase().includes(word))
            )
              return false;
            const { record } = node;
            const text = [
              record.name,
              record.target,
              this.view.specialisation.modulePath(record.module),
              record.code,
              record.value,
              record.slot,
              record.made_by,
              node.state,
            ]
              .join(" ")
              .toLowerCase();
            return words.every((word) => text.includes(word));
          })
          .sort((a, b) => Number(a.isSlot) - Number(b.isSlot))
          .map((node) => node.name);
    this._listMatches(words.length > 0);
    this.view.mark();
  }

  _listMatches(asked) {
    this.results.hidden = !asked || document.activeElement !== this.input;
    this.results.replaceChildren(
      element("div", { class: "tally" }, show.count(this.matches.length, "node")),
      ...this.matches.slice(0, 60).map((name) => {
        const { record, state } = this.view.step.nodes.get(name);
        return element(
          "button",
          {
            type: "button",
            class: `match ${state}`,
            onmousedown: (e) => e.preventDefault(),
            onclick: () => this._take(name),
          },
          element("b", {}, name),
          " ",
          operator(record),
          " ",
          element("span", {}, record.value),
          " ",
          element("i", {}, this.view.specialisation.modulePath(record.module)),
        );
      }),
    );
  }

  _take(name) {
    this.results.hidden = true;
    this.input.blur();
    return this.view.reveal(name);
  }

  _key(event) {
    if (event.key === "Escape") {
      this.input.value = "";
      this.find();
      this.input.blur();
    } else if (event.key === "Enter" && this.matches.length) {
      const step = event.shiftKey ? -1 : 1;
      this.position = (this.position + step + this.matches.length) % this.matches.length;
      this.results.hidden = true;
      this.view.reveal(this.matches[this.position]);
    }
  }
}
