// The beginning of the page: what was run, how it ended, and which client is off.

/** The title, what is missing, and the summary. */
class Summary {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
  }

  update() {
    const { model } = this.app;
    document.title = `${model.title} \u2013 report`;
    write(byId("title"), model.title);
    const state = model.runs.length === 1 ? model.runs[0].raw.state : "complete";
    byId("state").hidden = state === "complete";
    write(byId("state"), state);
    this.subtitle();
    const missing = model.runs.flatMap(({ raw, name }) =>
      (raw.missing ?? []).map((text) => (model.runs.length > 1 ? `${name}: ${text}` : text)),
    );
    byId("missing").hidden = !missing.length;
    byId("missing-list").replaceChildren(...missing.map((text) => make("li", "", text)));
    const one = model.runs.length === 1;
    byId("runs-card").hidden = one;
    byId("tiles").hidden = !one;
    if (one) byId("tiles").replaceChildren(...this.tiles(model.runs[0]));
    else this.runs();
    this.details();
  }

  subtitle() {
    const { runs, raw } = this.app.model;
    const [first] = runs;
    const parts = [];
    if (runs.length === 1) {
      const { scenario, seed, clients, path } = first.raw;
      parts.push(scenario, `seed ${seed}`, first.raw.state);
      parts.push(plural(clients.length, "client"), first.federated ? "federated" : "not federated", path);
    } else {
      const scenarios = [...new Set(runs.map((run) => run.raw.scenario))];
      const { groups } = this.app.model;
      parts.push(list(scenarios), plural(runs.length, "run"));
      if (groups.length) parts.push(plural(groups.length, "group"));
    }
    parts.push(`written ${raw.written}`);
    write(byId("subtitle"), parts.filter(Boolean).join(" \u00b7 "));
  }

  /** Numbers of one run. */
  tiles(run) {
    const { raw } = run;
    const several = run.agents.length > 1;
    const found = run.agents.flatMap((agent) => this.learned(run, agent, several ? `, ${agent}` : ""));
    const done = (raw.episodes?.done ?? []).reduce((sum, each) => sum + (each ?? 0), 0);
    const planned = (raw.episodes?.planned ?? 0) * run.clients.length;
    const rate = raw.seconds ? `${compact(raw.steps / raw.seconds)} a second` : "";
    const facts = make("dl", "tile facts");
    const fact = (title, value, note) => {
      const box = make("div");
      box.append(make("dt", "", title), make("dd", "value", value), make("dd", "note", note));
      facts.append(box);
    };
    fact("Episodes", shown(done, "count"), planned ? `of ${count(planned)}` : "");
    fact("Steps", shown(raw.steps, "compact"), typeof raw.steps === "number" ? rate : "");
    fact("Wall-clock", shown(raw.seconds, "duration"), typeof raw.seconds === "number" ? "of training" : "");
    if (raw.rounds) {
      fact("Rounds", shown(raw.rounds.done, "count"), `of ${shown(raw.rounds.planned, "count")}`);
      const { asked, dropped } = repliesOf(run);
      fact("Dropped replies", asked ? count(dropped) : ABSENT, asked ? `of ${count(asked)}` : "");
    }
    return [...found, facts];
  }

  /** Success and return of an agent, with how they went. */
  learned(run, agent, suffix) {
    const judged = run.judged.filter((each) => each.agents?.[agent]);
    if (judged.length) {
      const all = judged.map((each) => each.agents[agent]);
      const last = all.at(-1);
      const best = Math.max(...all.map(({ success }) => success ?? -1));
      const where = judged[all.findIndex(({ success }) => success === best)];
      const apart = interval(last.low, last.high, "share");
      const note = apart ? `95\u202f% interval ${apart}` : "";
      const peak = best >= 0 ? `best ${share(best)}, round ${where.round}` : "";
      return [
        tile(`Success of the global model${suffix}`, shown(last.success, "share"), note, {
          line: sparkline(
            all.map(({ success }) => success),
            "outcome-success",
            [0, 1],
          ),
          more: peak,
        }),
        tile(`Return of the global model${suffix}`, shown(last.return), returnNote(last), {
          line: sparkline(all.map((each) => each.return)),
          more: `round ${judged.at(-1).round}`,
        }),
      ];
    }
    const now = latest(run.mean, agent);
    if (!now) return [];
    const own = run.mean.agents[agent];
    return [
      tile(`Success in training${suffix}`, shown(now.outcomes.get("success"), "share"), "last tenth", {
        line: sparkline(own.outcomes?.success ?? [], "outcome-success", [0, 1]),
      }),
      tile(`Return in training${suffix}`, shown(now.return), "last tenth", {
        line: sparkline(own.return ?? []),
      }),
    ];
  }

  /** A table of several runs. */
  runs() {
    const { model, choice } = this.app;
    const columns = [
      { title: "Run", words: true },
      { title: "Group", words: true },
      { title: "State", words: true },
      { title: "Success", hint: "of the last evaluation of the global model, or of training's last tenth" },
      { title: "Return" },
      { title: "Episodes" },
      { title: "Steps" },
      { title: "Wall-clock" },
      { title: "Rounds" },
      { title: "Dropped" },
    ];
    const rows = model.runs.map((run) => {
      const { raw } = run;
      const judged = run.judged.at(-1)?.agents?.[choice.agent];
      const now = judged ?? this.trained(run);
      const button = make("button", "link", run.name);
      button.type = "button";
      button.title = "Show this run";
      button.addEventListener("click", () => this.app.choose({ run: run.index }, "curves"));
      const group = model.groupOf(run.index);
      const done = (raw.episodes?.done ?? []).reduce((sum, each) => sum + (each ?? 0), 0);
      const { dropped } = repliesOf(run);
      return [
        button,
        group < 0 ? ABSENT : tagged(model.groups[group].name, group),
        raw.state,
        withInterval(now?.success, now?.low, now?.high, "share"),
        shown(now?.return),
        shown(done, "count"),
        shown(raw.steps, "compact"),
        shown(raw.seconds, "duration"),
        shown(raw.rounds?.done, "count"),
        run.federated ? count(dropped) : ABSENT,
      ];
    });
    fillTable(byId("runs"), columns, rows, "Runs");
  }

  trained(run) {
    const now = latest(run.mean, this.app.choice.agent);
    return now && { success: now.outcomes.get("success"), return: now.return };
  }

  /** The findings, and the clients of the run that is shown. */
  details() {
    const { run, choice, model } = this.app;
    const groups = run ? [] : groupFindings(model);
    byId("details").hidden = !run && !groups.length;
    byId("ends-part").hidden = !run;
    byId("clients-card").hidden = !run || run.clients.length < 2;
    if (!run) {
      write(byId("short-title"), "In short");
      return this.find(groups);
    }
    const several = this.app.model.runs.length > 1 ? ` \u2013 ${run.name}` : "";
    write(byId("short-title"), `In short${several}`);
    const clients = new Clients(run, choice.agent);
    this.find(findings(run, choice.agent, clients));
    byId("ends").replaceChildren(...endings(run, choice.agent));
    if (run.clients.length > 1) clients.fill(byId("clients"));
  }

  find(all) {
    const parts = all.flatMap(({ title, text, tone }) => [
      make("dt", tone ?? "", title),
      make("dd", "", text),
    ]);
    byId("findings").replaceChildren(...parts);
  }
}

/** How many clients were asked in all rounds, and how many of their replies were dropped. */
function repliesOf({ history }) {
  const sum = (count) => history.reduce((all, round) => all + count(round), 0);
  return {
    asked: sum(({ asked }) => asked?.length ?? 0),
    dropped: sum(({ dropped }) => Object.keys(dropped ?? {}).length),
  };
}

/** How much the return scatters. */
function returnNote({ returnSd }) {
  return typeof returnSd === "number" ? `\u00b1 ${number(returnSd)} between episodes` : "";
}

/** One number that matters. */
function tile(title, value, note, { line, more } = {}) {
  const box = make("div", line ? "tile large" : "tile");
  const figures = make("p", "value", value);
  box.append(make("h3", "", title), figures);
  if (line) box.append(line);
  if (note) box.append(make("p", "note", note));
  if (more) box.append(make("p", "note", more));
  return box;
}

/** How training's episodes ended lately: one bar, and its parts in words. */
function endings(run, agent) {
  const now = latest(run.mean, agent);
  const known = now ? [...now.outcomes].filter(([, value]) => value) : [];
  if (!known.length) return [make("p", "empty", "No episode of training is recorded.")];
  known.sort(([a], [b]) => STACK.indexOf(a) - STACK.indexOf(b));
  const bar = make("div", "ends-bar");
  const words = make("ul", "ends-words");
  for (const [name, value] of known) {
    const part = make("i");
    part.style.flexGrow = value;
    part.style.background = `var(--${outcomeColour(name)})`;
    bar.append(part);
    const item = make("li");
    item.append(
      swatch({ kind: "area", colour: outcomeColour(name) }),
      `${outcomeOf(name).word} `,
      make("b", "", share(value)),
    );
    words.append(item);
  }
  return [bar, words];
}

/** An outcome's colour in stacks, which the colour-blind tell apart too. */
function outcomeColour(name) {
  return STACK.includes(name) ? `outcome-${name}` : "faint";
}
