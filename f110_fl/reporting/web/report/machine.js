// The time machine: what the policies did, round after round, on the same start.

const KEPT = 64; // episodes that stay unpacked

class Machine {
  /** @param {App} app */
  constructor(app) {
    Object.assign(this, { app, stages: [], round: null, at: null, stale: false, recording: null });
    this.player = new Player(() => this.invalidate());
    this.slider = byId("round");
    this.scrubber = byId("scrubber");
    this.listen();
    app.theme.onChange(() => this.invalidate());
  }

  listen() {
    const { player } = this;
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    byId("round-back").addEventListener("click", () => this.go(this.round - 1));
    byId("round-on").addEventListener("click", () => this.go(this.round + 1));
    byId("play").addEventListener("click", () => player.toggle());
    byId("back").addEventListener("click", () => player.step(-1));
    byId("forward").addEventListener("click", () => player.step(1));
    this.scrubber.addEventListener("input", () => player.seek(Number(this.scrubber.value)));
    options(
      byId("rate"),
      RATES.filter((rate) => rate >= 0.25 && rate <= 8).map((rate) => [`${rate}\u00d7`, rate]),
      1,
    );
    byId("rate").addEventListener("change", ({ target }) => player.setRate(Number(target.value)));
    byId("machine").addEventListener("keydown", (event) => this.key(event));
  }

  /** Has the next frame drawn. */
  invalidate() {
    this.stale = true;
  }

  /** Shows the data's replays; where they are as before, nothing is touched. */
  async update() {
    const { raw } = this.app.model;
    const { replays } = raw;
    byId("machine-content").hidden = !replays?.rounds?.length;
    byId("machine-empty").hidden = Boolean(replays?.rounds?.length);
    const single = replays?.rounds?.length === 1;
    write(
      byId("machine-note"),
      single
        ? "The same start, driven by each policy."
        : "The same start, driven by the policies of each round.",
    );
    byId("machine-note").hidden = !replays?.rounds?.length;
    write(byId("machine-empty"), raw.replaysMissing ?? "There are no replays.");
    if (!replays?.rounds?.length) return;
    for (const stage of this.stages) stage.write(this.app.choice.agent);
    if (replays === this.replays) return; // something else was chosen
    const text = JSON.stringify(replays);
    if (text === this.text) return;
    Object.assign(this, { replays, text });
    const before = this.rounds?.[this.round]?.label;
    const last = this.rounds && this.round === this.rounds.length - 1;
    this.recording = new Recording(replays.recording, KEPT);
    this.rounds = replays.rounds;
    this.slider.max = this.rounds.length - 1;
    for (const id of ["round-back", "round-on", "round"]) byId(id).hidden = this.rounds.length < 2;
    const same = this.rounds.findIndex(({ label }) => label === before);
    await this.go(last || same < 0 ? this.rounds.length - 1 : same);
  }

  /** Shows a round; the moment stays as it is, and the end stays the end. */
  async go(round) {
    if (!this.rounds) return;
    this.round = Math.min(Math.max(round, 0), this.rounds.length - 1);
    const { label, policies } = this.rounds[this.round];
    this.slider.value = this.round;
    this.slider.setAttribute("aria-valuetext", label);
    write(byId("round-label"), label);
    this.arrange(policies);
    const wanted = this.round;
    const { clients } = this.app.model.runs[0];
    const { agent } = this.app.choice;
    await Promise.all(
      policies.map((policy, k) =>
        this.stages[k].load(this.recording, policy, clients.indexOf(policy.client), agent),
      ),
    );
    if (wanted !== this.round) return;
    this.measure();
  }

  /** As many stages as there are policies; the global model's is large. */
  arrange(policies) {
    while (this.stages.length > policies.length) this.stages.pop().forget();
    while (this.stages.length < policies.length) {
      this.stages.push(new Stage(this.app.theme, () => this.invalidate()));
    }
    this.stages.forEach((stage, k) => {
      stage.large = k === 0 && (policies[0].client === null || policies.length === 1);
      const box = byId(stage.large ? "stage-large" : "stages");
      if (stage.element.parentElement !== box) box.append(stage.element);
    });
    byId("stage-large").hidden = !this.stages[0]?.large;
    byId("stages").hidden = this.stages.every(({ large }) => large);
  }

  /** Takes the longest episode's length. */
  measure() {
    const { player } = this;
    const atEnd = this.at === null || player.at >= player.last;
    const episodes = this.stages.map(({ episode }) => episode);
    player.last = Math.max(...episodes.map(({ last }) => last));
    player.period = this.recording.raw.period;
    this.scrubber.max = player.last;
    write(byId("duration"), clock(player.last * player.period));
    player.seek(atEnd && !player.playing ? player.last : player.at);
    this.at = player.at;
  }

  /** Draws a frame if anything has changed; called for each of the screen's. */
  draw(now) {
    this.player.tick(Math.min((now - (this.before ?? now)) / 1000, 0.25));
    this.before = now;
    if (!this.stale || !this.recording) return;
    this.stale = false;
    for (const stage of this.stages) stage.draw(this.player.at);
    this.tell();
  }

  /** Shows the time. */
  tell() {
    const { player, scrubber } = this;
    scrubber.value = Math.floor(player.at);
    scrubber.style.setProperty("--played", `${(100 * player.at) / Math.max(player.last, 1)}%`);
    this.slider.style.setProperty("--played", `${(100 * this.round) / Math.max(this.rounds.length - 1, 1)}%`);
    scrubber.setAttribute("aria-valuetext", `${clock(player.time)}, step ${player.frame} of ${player.last}`);
    write(byId("now"), clock(player.time));
    const play = byId("play");
    play.dataset.playing = player.playing;
    play.setAttribute("aria-label", player.playing ? "Pause" : "Play");
    if (Number(byId("rate").value) !== player.rate) byId("rate").value = player.rate;
  }

  key(event) {
    const { player, slider } = this;
    if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLSelectElement) return;
    if (event.target instanceof HTMLButtonElement && [" ", "Enter"].includes(event.key)) return;
    if (event.target === slider && /^(Arrow|Home|End)/.test(event.key)) return; // they choose the round
    const slower = () => player.rate > 0.25 && player.faster(-1);
    const faster = () => player.rate < 8 && player.faster(1);
    const acts = {
      " ": () => player.toggle(),
      k: () => player.toggle(),
      ArrowLeft: () => player.step(-1),
      ArrowRight: () => player.step(1),
      Home: () => player.seek(0),
      End: () => player.seek(player.last),
      "[": slower,
      "]": faster,
      ",": () => this.go(this.round - 1),
      ".": () => this.go(this.round + 1),
      PageDown: () => this.go(this.round - 1),
      PageUp: () => this.go(this.round + 1),
    };
    if (!Object.hasOwn(acts, event.key)) return;
    event.preventDefault();
    acts[event.key]();
  }

  /** What tests may know. */
  state() {
    const { player, rounds, round } = this;
    if (!rounds) return null;
    return {
      ...{ round, label: rounds[round].label, at: player.at, last: player.last },
      ...{ playing: player.playing, rate: player.rate },
      stages: this.stages.map((stage) => stage.state(player.at)),
    };
  }
}
