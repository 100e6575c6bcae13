// Learning curves: of one run with its clients, or of groups of runs over their seeds.

const INK = { colour: "text", dash: "" }; // of means and global models: clients are in colour
const PERCENT = { form: "share", domain: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1] };

/** What is drawn how. */
const NOTES = {
  clients:
    "Bands: quartiles of a client's episodes; of a mean, the clients' range. " +
    "Evaluations: 95\u202f% intervals.",
  groups:
    "Interquartile means over seeds with 95\u202f% intervals (stratified bootstrap); " +
    "thin lines: single runs.",
  smooth:
    "Smoothed lines are moving means over a twenty-fifth of the axis; " +
    "the crosshair reads the numbers themselves.",
};

/** Names of what bands are of. */
const OF = { global: "global model", training: "training", evaluation: "evaluation" };
const METRICS = { success: "Success", return: "Return", lap: "Lap time" };

/** The section of learning curves, with the choices that it obeys. */
class Curves {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.grid = new Grid(byId("curve-charts"), app.painter);
    this.losses = new Grid(byId("loss-charts"), app.painter);
    this.losses.link = this.grid.link;
    this.legend = new Legend(byId("curve-legend"), (key) => app.toggle(key));
    for (const button of byId("axis").children) {
      button.addEventListener("click", () => app.choose({ axis: button.dataset.axis }));
    }
    const number = (text) => (text === "" ? null : Number(text));
    byId("run").addEventListener("change", ({ target }) =>
      app.choose({ run: number(target.value), client: null }),
    );
    byId("client").addEventListener("change", ({ target }) => app.choose({ client: number(target.value) }));
    byId("agent").addEventListener("change", ({ target }) => app.choose({ agent: target.value }));
    for (const id of ["log", "smooth"]) {
      byId(id).addEventListener("click", () => app.choose({ [id]: !app.choice[id] }));
    }
  }

  update() {
    const { model, run, choice } = this.app;
    this.choices(model, run, choice);
    const specs = run ? chartsOf(run, choice) : chartsOfGroups(model, choice);
    const losses = run ? lossesOf(run, choice) : [];
    this.grid.show(specs);
    this.losses.show(losses);
    byId("losses").hidden = !losses.length;
    byId("losses-title").textContent = losses.some(({ id }) => id === "stage")
      ? "Losses and curriculum"
      : "Losses";
    for (const id of ["log", "smooth"]) byId(id).setAttribute("aria-pressed", choice[id]);
    const all = [...specs, ...losses].flatMap(({ series, legend }) => (legend === false ? [] : series));
    const order = { faint: 2, thin: 1, thick: 0 };
    this.legend.show(
      [...all].sort((a, b) => order[b.weight] - order[a.weight]),
      choice.hidden,
    );
    const bands = run ? NOTES.clients : NOTES.groups;
    write(byId("curves-note"), choice.smooth ? `${bands} ${NOTES.smooth}` : bands);
  }

  choices(model, run, choice) {
    for (const button of byId("axis").children) {
      button.setAttribute("aria-pressed", button.dataset.axis === choice.axis);
    }
    const runs = model.runs.map(({ name, index }) => [name, index]);
    options(
      byId("run"),
      [...(model.groups.length ? [["All, by group", ""]] : []), ...runs],
      choice.run ?? "",
    );
    byId("run-field").hidden = model.runs.length < 2;
    const clients = (run?.clients ?? []).map((client) => [clientName(client), client]);
    options(byId("client"), [["All", ""], ...clients], choice.client ?? "");
    byId("client-field").hidden = clients.length < 2;
    options(
      byId("agent"),
      model.agents.map((agent) => [agent, agent]),
      choice.agent ?? "",
    );
    byId("agent-field").hidden = model.agents.length < 2;
  }
}

/** Fills a choice where it differs, so that an open one stays open. */
function options(select, all, chosen) {
  const now = [...select.options].map(({ text, value }) => [text, value]);
  if (JSON.stringify(now) !== JSON.stringify(all.map(([text, value]) => [text, String(value)]))) {
    select.replaceChildren(...all.map(([text, value]) => new Option(text, value)));
  }
  select.value = String(chosen);
}

/**
 * Lines of a run's curves: all clients thin and their mean thick, or one client.
 * @param {Run} run
 * @param {Choice} choice
 * @param {object[]} curves of which lines are made
 * @param {(curve: object) => object | undefined} read gives {y, low, high} of a curve
 */
function clientLines(run, { axis, client, smooth }, curves, read) {
  const own = curves.filter((each) => each.client !== null && (client === null || each.client === client));
  const alone = own.length === 1;
  const found = own.map((curve) => {
    const { y, low, high } = read(curve) ?? {};
    const name = clientName(curve.client);
    const style = styleOf(run.clients.indexOf(curve.client));
    const about = { key: `client:${curve.client}`, name, x: curve[axis], y, ...style };
    const how = alone ? { weight: "thick", low, high } : { weight: "thin", label: name.slice(7) };
    const series = new Series({ ...about, ...how });
    return series.smooth(smooth ? smoothing(series.x.length) : 0);
  });
  const mean = client === null && !alone && curves.find((each) => each.client === null);
  if (mean) {
    const { y, low, high } = read(mean) ?? {};
    const about = { key: "mean", name: "mean over clients", label: "mean", weight: "thick", ...INK };
    const series = new Series({ ...about, x: mean[axis], y, low, high });
    found.push(series.smooth(smooth ? smoothing(series.x.length) : 0));
  }
  return found;
}

/** The global model's evaluations, as points; on the server and on the clients apart. */
function globalPoints(run, axis, read) {
  const places = [
    ["server", "global", "global model", INK],
    ["clients", "global:clients", "global model, on the clients", { colour: "muted", dash: "2 3" }],
  ];
  return places.flatMap(([on, key, name, style]) => {
    const all = run.globals.filter((each) => each.on === on);
    if (!all.length) return [];
    const found = all.map((each) => read(each) ?? {});
    const about = { key, name, label: "global", kind: "points", weight: "thick", ...style };
    const x = all.map((each) => each[axis === "rounds" ? "round" : axis]);
    const column = (name) => found.map((each) => each[name] ?? null);
    return [new Series({ ...about, x, y: column("y"), low: column("low"), high: column("high") })];
  });
}

/** The charts of one run. */
function chartsOf(run, choice) {
  const { agent, axis, client, hidden } = choice;
  const base = { axis, hidden };
  const training = [...run.own, ...(run.mean && run.mean.client === null ? [run.mean] : [])];
  const lines = (read) => clientLines(run, choice, training, (curve) => read(curve.agents?.[agent] ?? {}));
  const returns = lines((own) => ({ y: own.return, low: own.low, high: own.high }));
  const successes = lines((own) => ({ y: own.outcomes?.success }));
  const evaluated = (name) => [
    ...clientLines(run, choice, run.evaluations, ({ agents }) => {
      const own = agents?.[agent] ?? {};
      return name === "success" ? { y: own.success, low: own.low, high: own.high } : { y: own[name] };
    }),
    ...globalPoints(run, axis, ({ agents }) => {
      const own = agents?.[agent] ?? {};
      return name === "success" ? { y: own.success, low: own.low, high: own.high } : { y: own[name] };
    }),
  ];
  const laps = lines((own) => ({ y: own.lap }));
  const none = "No episode of training is recorded.";
  const found = [
    { id: "return", title: "Return", unit: "training", form: "number", series: returns, empty: none },
    { id: "success", title: "Success", unit: "training", ...PERCENT, series: successes, empty: none },
    outcomesOf(run, choice),
  ];
  const judged = evaluated("success");
  if (judged.some(({ some }) => some)) {
    found.push({ id: "evaluation", title: "Success", unit: "evaluation", ...PERCENT, series: judged });
    found.push({
      id: "evaluation-return",
      title: "Return",
      unit: "evaluation",
      form: "number",
      series: evaluated("return"),
      empty: "No return of an evaluation is recorded.",
    });
  } else {
    found.push({
      id: "evaluation",
      title: "Success",
      unit: "evaluation",
      ...PERCENT,
      series: [],
      empty: "There was no evaluation during training.",
    });
  }
  const lapped = [...laps, ...evaluated("lap").filter(({ kind }) => kind === "points")];
  if (lapped.some(({ some }) => some)) {
    found.push({ id: "lap", title: "Lap time", unit: "s", form: "seconds", series: lapped });
  }
  return found.map((spec) => {
    const main =
      spec.series.find(({ key }) => key === "global") ?? spec.series.find(({ weight }) => weight === "thick");
    const lastly =
      main && client === null && run.own.length > 1 ? `${main.label || main.name}, last` : "last";
    return { empty: none, main: spec.id === "outcomes" ? undefined : main, lastly, ...base, ...spec };
  });
}

/** How episodes ended, as shares of all on top of each other. */
function outcomesOf(run, { agent, axis, client, smooth }) {
  const curve = run.curve(client);
  const outcomes = curve?.agents?.[agent]?.outcomes ?? {};
  const names = Object.keys(outcomes).filter((name) => outcomes[name].some((value) => value > 0));
  names.sort((a, b) => STACK.indexOf(a) - STACK.indexOf(b));
  const series = names.map((name) => {
    const about = { key: `outcome:${name}`, name: outcomeOf(name).word, label: outcomeOf(name).word };
    const how = { colour: outcomeColour(name), kind: "area", x: curve[axis], y: outcomes[name] };
    const area = new Series({ ...about, ...how });
    return area.smooth(smooth ? smoothing(area.x.length) : 0);
  });
  const unit = client === null && run.own.length > 1 ? "training, all clients" : "training";
  return {
    id: "outcomes",
    title: "Outcomes",
    unit,
    ...PERCENT,
    series: stack(series),
    hidden: new Set(),
    legend: false,
  };
}

/** A small chart for each loss of the agent. */
function lossesOf(run, choice) {
  const { agent, axis, log, hidden } = choice;
  const curves = [...run.own, ...(run.mean && run.mean.client === null ? [run.mean] : [])];
  const names = [...new Set(curves.flatMap(({ losses }) => Object.keys(losses ?? {})))];
  const own = names.filter((name) => run.agents.length < 2 || name.startsWith(`${agent}/`));
  const found = own.map((name) => {
    const series = clientLines(run, choice, curves, ({ losses }) => ({ y: losses?.[name] }));
    const positive = series.every(({ y }) => y.every((value) => value === null || value > 0));
    const main = series.find(({ weight }) => weight === "thick");
    const title = name.startsWith(`${agent}/`) ? name.slice(agent.length + 1) : name;
    const unit = log && !positive ? "linear: not all above zero" : "loss";
    const base = { id: `loss:${name}`, title, unit, form: "number", axis, hidden, series };
    return { ...base, log: log && positive, main, empty: "This loss was not recorded." };
  });
  if (run.own.some(({ stage }) => stage?.length)) {
    const stages = clientLines(run, { ...choice, smooth: false }, run.own, (curve) => ({ y: curve.stage }));
    const series = stages.map((each) => Object.assign(each, { kind: "steps" }));
    found.push({ id: "stage", title: "Curriculum stage", form: "count", axis, hidden, series });
  }
  return found;
}

/** The charts of groups: a band over the seeds, and the single runs behind it. */
function chartsOfGroups(model, choice) {
  const { agent, axis, hidden } = choice;
  const about = ({ metric, of }) => `${metric}:${of}`;
  const mine = model.bands.filter((band) => band.agent === agent && band.axis === axis);
  const order = [
    "success:global",
    "success:evaluation",
    "success:training",
    "return:global",
    "return:evaluation",
    "return:training",
  ];
  const place = (kind) => (order.includes(kind) ? order.indexOf(kind) : order.length);
  const kinds = [...new Set(mine.map(about))].sort((a, b) => place(a) - place(b));
  if (!kinds.length) {
    return [
      {
        id: "groups",
        title: "Groups",
        axis,
        form: "number",
        series: [],
        empty: "The runs have nothing in common that could be averaged.",
      },
    ];
  }
  return kinds.map((kind) => {
    const [metric, of] = kind.split(":");
    const bands = mine.filter((band) => about(band) === kind);
    const series = bands.flatMap((band) => groupSeries(model, band, choice));
    const how = metric === "success" ? PERCENT : { form: metric === "lap" ? "seconds" : "number" };
    const title = METRICS[metric] ?? metric;
    return {
      id: `group-${kind}`,
      title,
      unit: OF[of] ?? of,
      ...how,
      axis,
      hidden,
      series,
      empty: `No ${title.toLowerCase()} is recorded.`,
    };
  });
}

function groupSeries(model, { group, metric, of, x, iqm, low, high }, choice) {
  const { name, runs } = model.groups[group];
  const style = styleOf(group);
  const key = `group:${group}`;
  const single = runs
    .flatMap((index) => runLines(model.runs[index], metric, of, choice))
    .map(({ run, xs, y }) => new Series({ key, name: run.name, ...style, weight: "faint", x: xs, y }));
  const short = name.split("=").at(-1);
  const label = short.length > 14 ? `${short.slice(0, 13)}\u2026` : short;
  const main = new Series({ key, name, label, ...style, weight: "thick", x, y: iqm, low, high });
  const half = choice.smooth && of === "training" ? smoothing(main.x.length) : 0;
  return [...single, main].map((series) => series.smooth(half));
}

/** What a single run has of a metric. */
function runLines(run, metric, of, { agent, axis }) {
  if (of === "global") {
    const xs = run.judged.map((each) => each[axis]);
    return [{ run, xs, y: run.judged.map((each) => each.agents?.[agent]?.[metric] ?? null) }];
  }
  const curves = of === "training" ? [run.mean].filter(Boolean) : run.evaluations;
  return curves.map((curve) => {
    const own = curve.agents?.[agent] ?? {};
    const y = of === "training" && metric === "success" ? own.outcomes?.success : own[metric];
    return { run, xs: curve[axis], y };
  });
}
