// The rounds of a federation, and the evaluations of its global model.

class Rounds {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.strip = new Strip(byId("strip"), app.painter);
    this.grid = new Grid(byId("round-charts"), app.painter);
    this.legend = new Legend(byId("round-legend"), (key) => app.toggle(key));
  }

  update() {
    const { run, choice } = this.app;
    const some = Boolean(run?.history.length);
    this.app.show("rounds", Boolean(run?.federated));
    byId("rounds-empty").hidden = some;
    byId("rounds-content").hidden = !some;
    if (!some) return;
    write(byId("rounds-run"), this.app.model.runs.length > 1 ? run.name : "");
    this.strip.set(run);
    const specs = roundCharts(run, choice);
    this.grid.show(specs);
    this.legend.show(
      specs.flatMap(({ series }) => series).filter(({ key }) => key.startsWith("client:")),
      choice.hidden,
    );
    this.table(run, choice.agent);
  }

  table(run, agent) {
    const columns = [
      { title: "Round", words: true },
      { title: "Took part" },
      { title: "Duration" },
      { title: "Success", hint: "in training, weighted mean over the clients" },
      { title: "Return" },
      { title: "Update", hint: "distance of the new global model from the one before" },
      { title: "Agreement", hint: "mean cosine between the clients' updates" },
      { title: "Dropped", words: true, long: true },
    ];
    const rows = [...run.history].reverse().map((round) => {
      const train = round.train?.[agent] ?? {};
      const lost = Object.entries(round.dropped ?? {}).map(
        ([client, why]) => `${clientName(client)}: ${why}`,
      );
      return [
        count(round.round),
        `${(round.clients ?? []).length} of ${(round.asked ?? []).length}`,
        shown(round.seconds, "duration"),
        shown(train.success, "share"),
        shown(train.return),
        shown(round.norm),
        shown(round.agreement),
        lost.join("; ") || ABSENT,
      ];
    });
    fillTable(byId("round-table"), columns, rows, "Rounds, the last first");
  }
}

/** What happened in the rounds, as charts. */
function roundCharts(run, { hidden }) {
  const { history, clients } = run;
  const x = history.map(({ round }) => round);
  const one = (key, name, read, extra = {}) =>
    new Series({ key, name, weight: "thick", ...INK, x, y: history.map(read), ...extra });
  const each = (name) =>
    clients.map((client, index) => {
      const label = clientName(client).slice(7);
      const about = { key: `client:${client}`, name: clientName(client), label, ...styleOf(index) };
      return new Series({
        ...about,
        x,
        y: history.map((round) => round[name]?.[client] ?? null),
        bridge: true,
      });
    });
  const base = { axis: "rounds", hidden, form: "number" };
  const norms = "Norms of the updates were not recorded.";
  const seconds = one("seconds", "duration", (round) => round.seconds);
  const norm = one("norm", "global model", ({ norm: value }) => value, { label: "global" });
  const agreement = one("agreement", "agreement", (round) => round.agreement);
  const known = agreement.y.filter((value) => value !== null);
  const domain = [Math.min(0, ...known), Math.max(1, ...known)];
  return [
    {
      ...base,
      id: "drift",
      title: "Distance from the average",
      unit: "client to new global model",
      series: each("drift"),
      empty: norms,
    },
    {
      ...base,
      id: "update",
      title: "Size of the update",
      unit: "from the global model before",
      series: [...each("update"), norm],
      empty: norms,
    },
    {
      ...base,
      id: "agreement",
      title: "Agreement",
      unit: "mean cosine of updates",
      series: [agreement],
      main: agreement,
      domain,
      empty: "Cosines between updates were not recorded.",
    },
    {
      ...base,
      id: "seconds",
      title: "Duration of a round",
      unit: "seconds",
      series: [seconds],
      main: seconds,
      empty: "Durations were not recorded.",
    },
  ];
}

/** The evaluations of the global model. */
class Globals {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.grid = new Grid(byId("global-charts"), app.painter);
  }

  update() {
    const { run, choice } = this.app;
    this.app.show("global", Boolean(run && (run.federated || run.globals.length)));
    if (!run) return;
    const some = run.globals.length > 0;
    byId("global-empty").hidden = some;
    byId("global-content").hidden = !some;
    if (!some) return;
    const read =
      (name, low, high) =>
      ({ agents }) => {
        const own = agents?.[choice.agent] ?? {};
        return { y: own[name], low: low?.(own), high: high?.(own) };
      };
    const success = globalPoints(
      run,
      "rounds",
      read(
        "success",
        (own) => own.low,
        (own) => own.high,
      ),
    );
    const apart = (sign) => (own) =>
      typeof own.returnSd === "number" ? own.return + sign * own.returnSd : null;
    const returns = globalPoints(run, "rounds", read("return", apart(-1), apart(1)));
    const base = { axis: "rounds", hidden: new Set() };
    this.grid.show([
      {
        ...base,
        id: "global-success",
        title: "Success",
        unit: "95\u202f% interval",
        ...PERCENT,
        series: success,
        main: success[0],
        empty: "No success is recorded.",
      },
      {
        ...base,
        id: "global-return",
        title: "Return",
        unit: "\u00b1 s.d. of episodes",
        form: "number",
        series: returns,
        main: returns[0],
        empty: "No return is recorded.",
      },
    ]);
    this.table(run, choice.agent);
  }

  table(run, agent) {
    const columns = [
      { title: "Round", words: true },
      { title: "On", words: true },
      { title: "Trained", hint: "episodes per client so far" },
      { title: "Success" },
      { title: "95\u202f% interval" },
      { title: "Trials" },
      { title: "Crash" },
      { title: "Return" },
      { title: "\u00b1 s.d." },
      { title: "Lap" },
      { title: "Dropped", words: true, long: true },
    ];
    const rows = [...run.globals].reverse().map((each) => {
      const own = each.agents?.[agent] ?? {};
      const lost = Object.entries(each.dropped ?? {}).map(([client, why]) => `${clientName(client)}: ${why}`);
      const trials =
        typeof own.trials === "number" ? `${shown(own.count, "count")} of ${count(own.trials)}` : ABSENT;
      return [
        count(each.round),
        each.on === "server" ? "server" : "clients",
        shown(each.episodes, "count"),
        shareBar(own.success),
        interval(own.low, own.high, "share") || ABSENT,
        trials,
        shown(own.crash, "share"),
        shown(own.return),
        shown(own.returnSd),
        shown(own.lap, "seconds"),
        lost.join("; ") || ABSENT,
      ];
    });
    fillTable(byId("global-table"), columns, rows, "Evaluations of the global model, the last first");
  }
}
