// The report's data, and what is computed from it for the eye.

/** The version of the data that this page reads. */
const FORMAT = 1;

/** The share of a run at its end whose mean is shown as where it has come to. */
const LATE = 0.1;

/** One run. */
class Run {
  constructor(raw, index) {
    Object.assign(this, { raw, index, name: raw.name, federated: Boolean(raw.federated) });
    this.clients = raw.clients ?? [];
    this.agents = raw.agents ?? [];
    this.globals = raw.globals ?? [];
    this.history = raw.history ?? [];
    const training = raw.training ?? [];
    /** Curves of training, one a client. */
    this.own = training.filter(({ client }) => client !== null);
    /** The mean over the clients; of a single client its own. */
    this.mean = training.find(({ client }) => client === null) ?? this.own[0] ?? null;
    this.evaluations = raw.evaluations?.clients ?? [];
  }

  /** The evaluations of the global model on the server, or else on the clients. */
  get judged() {
    const places = ["server", "clients"].map((on) => this.globals.filter((each) => each.on === on));
    return places.find((each) => each.length) ?? [];
  }

  /** Its curve of training: a client's, or the mean over all. */
  curve(client) {
    return client === null ? this.mean : (this.own.find((each) => each.client === client) ?? null);
  }

  /** A client's number of replies that were dropped, in rounds. */
  dropped(client) {
    return this.history.filter(({ dropped }) => Object.hasOwn(dropped ?? {}, client)).length;
  }

  /** How far a client's model usually was from the average, in the last quarter of the rounds. */
  drift(client) {
    const last = this.history.slice(-Math.ceil(this.history.length / 4) || this.history.length);
    return median(last.map(({ drift }) => drift?.[client] ?? null));
  }
}

/** The mean of the numbers that are there; null without any. */
function meanOf(values) {
  const known = values.filter((value) => typeof value === "number");
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

/** The mean of the last numbers of a curve; null without any. */
function lately(values) {
  return values?.length ? meanOf(values.slice(-Math.ceil(values.length * LATE))) : null;
}

/** What a curve's agent came to lately: shares of outcomes, return, lap. */
function latest(curve, agent) {
  const own = curve?.agents?.[agent];
  if (!own) return null;
  const outcomes = Object.entries(own.outcomes ?? {}).map(([name, shares]) => [name, lately(shares)]);
  return { outcomes: new Map(outcomes), return: lately(own.return), lap: lately(own.lap) };
}

/**
 * Which of several numbers lie off: further from the median than three median absolute
 * deviations, scaled to a normal distribution's standard deviation (Leys et al., Journal of
 * Experimental Social Psychology 49, 2013), and by at least as much as matters.
 * @param {(number | null)[]} values at least three known, else none lies off
 * @param {number} least difference that matters
 * @returns {boolean[]}
 */
function outliers(values, least) {
  const known = values.filter((value) => typeof value === "number");
  const middle = median(known);
  const apart = known.length < 3 ? Infinity : 1.4826 * median(known.map((v) => Math.abs(v - middle)));
  const limit = Math.max(3 * apart, least);
  return values.map((value) => typeof value === "number" && Math.abs(value - middle) > limit);
}

/** All that the page shows. */
class Model {
  /** @param {object} raw as Python wrote it */
  constructor(raw) {
    if (raw.kind !== "report" || !Array.isArray(raw.runs)) throw new Error("This file is not a report.");
    if (raw.format > FORMAT) {
      throw new Error("This report was written by a newer version than this page can read.");
    }
    Object.assign(this, { raw, title: raw.title, bands: raw.bands ?? [], groups: raw.groups ?? [] });
    this.runs = raw.runs.map((each, index) => new Run(each, index));
  }

  /** The group that a run belongs to; -1 without any. */
  groupOf(run) {
    return this.groups.findIndex(({ runs }) => runs.includes(run));
  }

  /** @returns {string[]} all agents, in the order of the runs */
  get agents() {
    return [...new Set(this.runs.flatMap(({ agents }) => agents))];
  }
}

/**
 * What of the data is chosen to be seen; kept when the data changes.
 */
class Choice {
  constructor(model) {
    Object.assign(this, { run: null, axis: "episodes", client: null, agent: null });
    Object.assign(this, { log: false, smooth: true });
    this.hidden = new Set();
    this.fit(model);
  }

  /** Keeps only what the data has. */
  fit(model) {
    const { runs, agents } = model;
    if (this.run !== null && this.run >= runs.length) this.run = null;
    if (runs.length === 1 || !model.groups.length) this.run ??= 0;
    if (!agents.includes(this.agent)) this.agent = agents[0] ?? null;
    if (this.run === null || !runs[this.run]?.clients.includes(this.client)) this.client = null;
  }
}
