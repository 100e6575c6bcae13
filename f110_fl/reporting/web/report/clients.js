// The clients of a run, which of them is off, and the run in a few sentences.

/** A run's clients beside each other. */
class Clients {
  /**
   * @param {Run} run
   * @param {string} agent
   */
  constructor(run, agent) {
    Object.assign(this, { run, agent });
    this.rows = run.clients.map((client) => {
      const now = latest(run.curve(client), agent);
      return {
        client,
        success: now?.outcomes.get("success") ?? null,
        return: now?.return ?? null,
        lap: now?.lap ?? null,
        drift: run.drift(client),
        dropped: run.dropped(client),
      };
    });
    const column = (key) => this.rows.map((row) => row[key]);
    const far = 0.2 * (median(column("drift")) ?? 0);
    const off = { success: outliers(column("success"), 0.05), drift: outliers(column("drift"), far) };
    this.rows.forEach((row, k) => {
      row.off = Object.keys(off).filter((key) => off[key][k]);
    });
    this.middle = median(column("success"));
  }

  /** @returns {object[]} the rows of those that are off */
  get off() {
    return this.rows.filter(({ off }) => off.length);
  }

  /** @param {HTMLTableElement} table */
  fill(table) {
    const { run } = this;
    const laps = this.rows.some(({ lap }) => lap !== null);
    const drifts = this.rows.some(({ drift }) => drift !== null);
    const columns = [
      { title: "Client", words: true },
      { title: "Success", hint: "in the last tenth of training" },
      { title: "Return" },
    ];
    if (laps) columns.push({ title: "Lap" });
    if (drifts) {
      columns.push({
        title: "From average",
        hint: "median distance of its model from the new global model, last quarter of the rounds",
      });
    }
    if (run.federated) columns.push({ title: "Dropped", hint: "replies that were not used" });
    const rows = this.rows.map((row) => {
      const name = tagged(clientName(row.client), run.clients.indexOf(row.client));
      if (row.off.length) name.append(make("em", "off", "off"));
      const cells = [
        name,
        shareBar(row.success, styleOf(run.clients.indexOf(row.client)).colour),
        shown(row.return),
      ];
      if (laps) cells.push(shown(row.lap, "seconds"));
      if (drifts) cells.push(shown(row.drift));
      if (run.federated) cells.push(count(row.dropped));
      return cells;
    });
    fillTable(table, columns, rows, "Clients");
  }
}

/**
 * A run in a few sentences, each of them a matter of its numbers.
 * @param {Run} run
 * @param {string} agent
 * @param {Clients} clients
 * @returns {{title: string, text: string, tone?: string}[]}
 */
function findings(run, agent, clients) {
  const found = [learning(run, agent), stability(run, agent)];
  if (run.clients.length > 1) found.push(offClients(clients));
  if (run.federated && run.history.length) found.push(replies(run));
  return found.filter(Boolean);
}

/** Success over time: of the global model, or of training. */
function courseOf(run, agent) {
  const judged = run.judged.filter((each) => typeof each.agents?.[agent]?.success === "number");
  if (judged.length > 1) {
    const points = judged.map((each) => ({ at: `round ${each.round}`, value: each.agents[agent].success }));
    return { what: "The global model's success", points };
  }
  const { episodes = [], agents } = run.mean ?? {};
  const shares = agents?.[agent]?.outcomes?.success ?? [];
  const length = Math.ceil(shares.length * LATE);
  const points = [];
  for (let from = 0; from < shares.length; from += length) {
    const last = Math.min(from + length, shares.length) - 1;
    const value = meanOf(shares.slice(from, last + 1));
    if (value !== null) points.push({ at: `the tenth up to episode ${count(episodes[last])}`, value });
  }
  return points.length > 1 ? { what: "Success in training", points } : null;
}

function learning(run, agent) {
  const course = courseOf(run, agent);
  if (!course) return { title: "Learning", text: "There are too few evaluations and episodes to say." };
  const { what, points } = course;
  const [first, last] = [points[0], points.at(-1)];
  const best = points.reduce((most, point) => (point.value > most.value ? point : most));
  const way = last.value > first.value ? "rose" : last.value < first.value ? "fell" : "stayed";
  const text = `${what} ${way} from ${share(first.value)} (${first.at}) to ${share(last.value)} (${last.at}).`;
  const more = best.value > last.value ? ` It was highest, ${share(best.value)}, in ${best.at}.` : "";
  return { title: "Learning", text: text + more, tone: way === "rose" ? "good" : "warn" };
}

function stability(run, agent) {
  const course = courseOf(run, agent);
  const late = course?.points.slice(-Math.max(2, Math.ceil(course.points.length / 4)));
  if (!late) return null;
  const values = late.map(({ value }) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const range = `between ${share(low)} and ${share(high)}`;
  const text = `In the last quarter, from ${late[0].at} on, success was ${range}.`;
  return { title: "Stability", text, tone: high - low > 0.2 ? "warn" : "good" };
}

function offClients(clients) {
  const { off, rows, middle } = clients;
  if (rows.every((row) => row.success === null && row.drift === null)) return null;
  if (rows.length < 3) return { title: "Clients", text: "Of two clients neither can be called off." };
  if (!off.length) {
    const text =
      "None is off: no success and no distance from the average lies far from the clients' median.";
    return { title: "Clients", text, tone: "good" };
  }
  const texts = off.slice(0, 4).map((row) => {
    const why = [];
    if (row.off.includes("success"))
      why.push(`success ${share(row.success)}, the median is ${share(middle)}`);
    if (row.off.includes("drift")) why.push(`distance from the average ${number(row.drift)}`);
    return `${clientName(row.client)} is off: ${why.join("; ")}.`;
  });
  const more = off.length > 4 ? ` ${off.length - 4} more are off.` : "";
  const text = texts.join(" ") + more;
  return { title: "Clients", text: text[0].toUpperCase() + text.slice(1), tone: "warn" };
}

function replies(run) {
  const lost = run.history.flatMap(({ dropped }) => Object.entries(dropped ?? {}));
  const asked = run.history.reduce((sum, each) => sum + (each.asked?.length ?? 0), 0);
  if (!lost.length) return { title: "Replies", text: `All ${count(asked)} were used.`, tone: "good" };
  const reasons = new Map();
  for (const [, why] of lost) reasons.set(why, (reasons.get(why) ?? 0) + 1);
  const why = [...reasons].sort((a, b) => b[1] - a[1]).slice(0, 3);
  const words = list(why.map(([text, times]) => `${text} (${times})`));
  return {
    title: "Replies",
    text: `${lost.length} of ${count(asked)} were dropped: ${words}.`,
    tone: "warn",
  };
}

/** Groups against each other in a few sentences, each of them a paired difference. */
function groupFindings({ raw, groups }) {
  const { columns = [], pairs = [] } = raw.table ?? {};
  const tones = { better: "good", worse: "warn" };
  return (pairs ?? []).slice(0, 6).map((pair) => {
    const { title = pair.key, form = "number" } = columns.find(({ key }) => key === pair.key) ?? {};
    const [own, other] = [pair.group, pair.other].map((index) => groups[index].name);
    const apart = differenceText(pair, form);
    const seeds = plural(pair.seeds, "seed");
    const text =
      pair.verdict === "indistinguishable"
        ? `${own} and ${other} cannot be told apart: ${apart}, ${seeds}.`
        : `${own} is ${pair.verdict} than ${other}: ${apart}, ${seeds}.`;
    return { title, text, tone: tones[pair.verdict] };
  });
}

/** A signed difference with its 95 % interval; of shares in points. */
function differenceText({ difference: value, low, high }, form) {
  const unit = form === "share" ? " points" : "";
  const apart = typeof low === "number" ? ` (${signed(low, form)} to ${signed(high, form)})` : "";
  return `${signed(value, form)}${unit}${apart}`;
}

/** A number with its sign; a share in points. */
function signed(value, form) {
  if (typeof value !== "number") return ABSENT;
  const text = form === "share" ? decimal(100 * value, 0) : shown(value, form);
  return value > 0 ? `+${text}` : text;
}
