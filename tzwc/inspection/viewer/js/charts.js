// The candidates for every convolution, and the values that are kept.

/** A chart for each convolution: one bar for each way to compute it. */
function showChoices(section, specialisation, actions) {
  const rows = specialisation.choices.map((choice) => ({ ...choice, remark: specialisation.remarks[choice.remark] }));
  if (!rows.length) {
    section.replaceChildren(
      element("p", { class: "empty" }, "No pass had to choose between ways to compute a convolution."),
    );
    return;
  }
  const tally = new Map();
  for (const row of rows) tally.set(row.choice, (tally.get(row.choice) ?? 0) + 1);
  const times = ({ predicted, measured }) => [predicted, measured].filter((time) => time !== undefined);
  const longest = (row) => Math.max(...Object.values(row.candidates).flatMap(times));
  const most = Math.max(...rows.map(longest));
  const chart = (row, common) =>
    Object.entries(row.candidates).map(([name, time]) => {
      const isChosen = name === row.choice;
      const bars = ["predicted", "measured"]
        .filter((kind) => time[kind] !== undefined)
        .map((kind) => {
          const length = shape(
            "svg",
            { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none" },
            shape("rect", {
              class: `${kind} ${isChosen ? "chosen" : ""}`,
              width: Math.max(0.4, (100 * time[kind]) / (common ? most : longest(row))),
              height: 10,
              rx: 0.5,
            }),
          );
          return element(
            "div",
            { class: "measure" },
            length,
            element("span", {}, `${show.seconds(time[kind] * 1e-6)} ${kind}`),
          );
        });
      return element(
        "div",
        { class: `candidate ${isChosen ? "chosen" : ""}` },
        element("span", { class: "name" }, isChosen ? `✓ ${name}` : name),
        element("div", {}, bars),
      );
    });
  const body = element("div", { id: "choices" });
  const fillIn = (common) =>
    body.replaceChildren(
      ...rows.map((row) => {
        const step = specialisation.stages.findIndex((stage) => stage.name === row.remark.stage);
        return element(
          "article",
          { class: "choice" },
          element(
            "header",
            {},
            element(
              "button",
              { class: "link", type: "button", onclick: () => actions.node(row.remark.nodes[0], step) },
              row.remark.nodes[0] ?? "?",
            ),
            " ",
            element("b", {}, row.remark.module || "(root)"),
            element("div", { class: "why" }, row.remark.reason),
          ),
          chart(row, common),
        );
      }),
    );
  fillIn(false);
  section.replaceChildren(
    element(
      "div",
      { class: "filters" },
      element("b", {}, show.count(rows.length, "convolution")),
      [...tally].map(([name, count]) => element("span", { class: "pill" }, `${count} × ${name}`)),
      element(
        "label",
        {},
        element("input", { type: "checkbox", onchange: (e) => fillIn(e.target.checked) }),
        "one scale for all",
      ),
    ),
    body,
  );
}

/** The values at the border between what is evaluated once and what runs at every call. */
function showKept(section, specialisation, actions) {
  const { frontier, cache, stages } = specialisation;
  const last = stages.length - 1;
  if (!frontier.length) {
    section.replaceChildren(element("p", { class: "empty" }, "No value is kept between calls."));
    return;
  }
  const total = frontier.reduce((sum, value) => sum + value.nbytes, 0);
  const saved = frontier.reduce((sum, value) => sum + (value.seconds_saved ?? 0), 0);
  const most = Math.max(...frontier.map((value) => value.seconds_saved ?? 0), 1e-12);
  section.replaceChildren(
    element(
      "div",
      { class: "filters" },
      element("b", {}, `${show.count(frontier.length, "value")}, ${show.bytes(total)}`),
      `an estimated ${show.seconds(saved)} less at every call; evaluated ${show.count(cache.evaluations, "time")}, ` +
        `reused ${show.count(cache.reuses, "time")}`,
    ),
    element(
      "table",
      {},
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          ["value", "module", "computes", "bytes", "saves", "why", "source"].map((name) => element("th", {}, name)),
        ),
      ),
      element(
        "tbody",
        {},
        frontier.map((value) =>
          element(
            "tr",
            {},
            element(
              "td",
              {},
              element(
                "button",
                { class: "link", type: "button", onclick: () => actions.node(value.node, last) },
                value.node,
              ),
            ),
            element("td", {}, value.location.module_path || "(root)"),
            element("td", {}, value.type),
            element("td", { class: "figure" }, show.bytes(value.nbytes)),
            element(
              "td",
              { class: "figure" },
              value.seconds_saved === null
                ? ""
                : element(
                    "div",
                    { class: "measure" },
                    shape(
                      "svg",
                      { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none" },
                      shape("rect", { class: "chosen", width: (100 * value.seconds_saved) / most, height: 10 }),
                    ),
                    element("span", {}, show.seconds(value.seconds_saved)),
                  ),
            ),
            element("td", {}, value.reason),
            element("td", {}, element("code", {}, value.location.code ?? "")),
          ),
        ),
      ),
    ),
  );
}
