// Puts the parts together.

const data = JSON.parse(byId("data").textContent);
const layoutTexts = JSON.parse(byId("layout-data").textContent);
const specialisations = data.specialisations.map((raw) => new Specialisation(raw, data.fields, data.texts));

const TABS = [
  ["graph", "Graph"],
  ["convolutions", "Convolutions"],
  ["kernels", "Kernels"],
  ["kept", "Kept values"],
  ["remarks", "Remarks"],
];
const state = { current: 0, step: 0, tab: "graph", shown: new Set() };

const actions = {
  async node(name, index) {
    await chooseStep(index);
    chooseTab("graph");
    await graph.reveal(name);
  },
};
const details = new Details(byId("details"), actions);
const graph = new GraphView(new Layouter(layoutTexts.library, layoutTexts.worker), details);
const remarkTable = new RemarkTable(byId("remarks"), actions);

function chooseTab(tab) {
  state.tab = tab;
  for (const [id] of TABS) byId(id).hidden = id !== tab;
  byId("details").hidden = tab !== "graph";
  for (const button of byId("tabs").children) button.setAttribute("aria-selected", String(button.dataset.tab === tab));
  fillTab();
}

/** Tables and pictures are made when they are first looked at. */
function fillTab() {
  const specialisation = specialisations[state.current];
  const key = `${state.current}/${state.tab}`;
  if (!specialisation || state.shown.has(key) || state.tab === "graph") return;
  for (const other of [...state.shown]) if (other.endsWith(`/${state.tab}`)) state.shown.delete(other);
  state.shown.add(key);
  if (state.tab === "convolutions") showChoices(byId("convolutions"), specialisation, actions);
  if (state.tab === "kernels") showKernels(byId("kernels"), specialisation, actions);
  if (state.tab === "kept") showKept(byId("kept"), specialisation, actions);
  if (state.tab === "remarks") remarkTable.show(specialisation, data.remarks);
}

function chooseStep(index) {
  state.step = index;
  for (const item of byId("timeline").children)
    item.firstChild.setAttribute("aria-current", String(Number(item.dataset.step) === index));
  location.replace(`#${state.current}/${specialisations[state.current].stages[index].name}`);
  return graph.show(specialisations[state.current], index);
}

function showTimeline(specialisation) {
  const longest = Math.max(
    ...specialisation.stages.map((stage) => stage.seconds),
    specialisation.capture?.seconds ?? 0,
    1e-9,
  );
  byId("timeline").replaceChildren(
    ...specialisation.stages.map((stage, index) => {
      const counts = countStates(index ? specialisation.step(index).nodes.values() : []);
      const seconds = index ? stage.seconds : (specialisation.capture?.seconds ?? 0);
      const remarks = specialisation.remarksIn(stage.name);
      const applied = remarks.filter((remark) => remark.kind === "applied").length;
      const chips = [
        ["added", "+"],
        ["removed", "−"],
        ["altered", "~"],
        ["kept", "●"],
      ]
        .filter(([kind]) => counts[kind])
        .map(([kind, sign]) => element("span", { class: `chip ${kind}`, title: kind }, `${sign}${counts[kind]}`));
      const bar = shape(
        "svg",
        { class: "time", viewBox: "0 0 100 3", preserveAspectRatio: "none" },
        shape("rect", { width: Math.max(0.5, 100 * Math.sqrt(seconds / longest)), height: 3 }),
      );
      return element(
        "li",
        { "data-step": index },
        element(
          "button",
          {
            type: "button",
            onclick: () => {
              chooseTab("graph");
              chooseStep(index);
            },
          },
          element("span", { class: "name" }, index ? stage.name : "capture"),
          element("span", { class: "what" }, `${show.count(stage.operations)} ops · ${show.seconds(seconds)}`),
          element(
            "span",
            { class: "chips" },
            chips.length ? chips : index ? element("span", { class: "chip none" }, "no node changed") : "",
            remarks.length
              ? element(
                  "span",
                  { class: "chip", title: `${applied} applied of ${remarks.length} remarks` },
                  `${remarks.length} ✎`,
                )
              : "",
          ),
          bar,
        ),
      );
    }),
  );
}

async function chooseSpecialisation(current, stageName = "") {
  state.current = current;
  const specialisation = specialisations[current];
  const { cache, key } = specialisation;
  byId("facts").replaceChildren(
    Object.entries(key)
      .map(([name, value]) => `${name} ${value}`)
      .join(" · "),
    ` · ${specialisation.level} · ${show.count(specialisation.calls, "call")}`,
    ` · kept values reused ${show.count(cache.reuses, "time")}`,
  );
  if (!specialisation.stages.length) {
    byId("timeline").replaceChildren();
    byId("panes").replaceChildren(element("p", { class: "empty" }, "The model was not captured; the remarks say why."));
    chooseTab("remarks");
    return;
  }
  showTimeline(specialisation);
  const named = specialisation.stages.findIndex((stage) => stage.name === stageName);
  await chooseStep(named >= 0 ? named : Math.min(1, specialisation.stages.length - 1));
  chooseTab(state.tab);
}

function showLegend() {
  const entry = (className, text) => element("span", { class: `key ${className}` }, text);
  byId("legend").replaceChildren(
    entry("removed", "removed"),
    entry("added", "added"),
    entry("replaced", "replaced"),
    entry("altered", "altered"),
    entry("static", "static: evaluated once"),
    entry("dynamic", "dynamic: at every call"),
    entry("kept", "kept between calls (frontier)"),
  );
  byId("legend").title = layoutTexts.credit;
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const last = (specialisations[state.current]?.stages.length ?? 0) - 1;
  if (event.key === "/") {
    event.preventDefault();
    chooseTab("graph");
    byId("search").focus();
  } else if (event.key === "f") graph.fit();
  else if (event.key === "n") graph.nextChange(1);
  else if (event.key === "p") graph.nextChange(-1);
  else if (event.key === "Escape" && last >= 0) graph.select(null);
  else if (event.key === "ArrowRight" && state.step < last) chooseStep(state.step + 1);
  else if (event.key === "ArrowLeft" && state.step > 0) chooseStep(state.step - 1);
});

async function start() {
  byId("title").replaceChildren("tzwc ", element("span", {}, data.model));
  byId("title").title = Object.entries(data.versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(", ");
  byId("tabs").append(
    ...TABS.map(([id, name]) =>
      element("button", { type: "button", role: "tab", "data-tab": id, onclick: () => chooseTab(id) }, name),
    ),
  );
  showLegend();
  if (!specialisations.length) {
    byId("panes").append(
      element("p", { class: "empty" }, ["The module has not been captured.", ...data.notes].join(" ")),
    );
    remarkTable.show({ remarks: [], stages: [] }, data.remarks);
    state.shown.add("0/remarks");
    chooseTab(data.remarks.length ? "remarks" : "graph");
  } else {
    const select = byId("specialisation");
    select.append(...specialisations.map((one, i) => element("option", { value: i }, one.name)));
    select.addEventListener("change", () => chooseSpecialisation(Number(select.value)));
    byId("choose").hidden = specialisations.length < 2;
    const [, current, stage] = /^#(\d+)\/(.+)$/.exec(decodeURIComponent(location.hash)) ?? [null, "0", ""];
    const chosen = Math.min(Number(current), specialisations.length - 1);
    select.value = String(chosen);
    await chooseSpecialisation(chosen, stage);
  }
  document.body.dataset.ready = String(Math.round(performance.now()));
}

start();
