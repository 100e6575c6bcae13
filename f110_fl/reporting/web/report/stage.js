// One policy of the time machine: its episode from above, and how it ended.

const SHAPES = { least: 0.75, most: 2.6 }; // of a canvas: its width over its height

const ROOMY = 480; // px; a narrower canvas has no room for names and a scale

class Stage {
  /**
   * @param {Theme} theme
   * @param {() => void} changed called when it has to be drawn anew
   */
  constructor(theme, changed) {
    Object.assign(this, { theme, changed, episode: null, wanted: 0, large: false });
    this.element = make("figure", "stage");
    this.canvas = make("canvas");
    this.canvas.setAttribute("role", "img");
    this.caption = make("figcaption");
    this.element.append(this.canvas, this.caption);
    this.view = new View();
    this.scene = new Scene(this.canvas, this.view, theme);
    this.sizes = new ResizeObserver(() => this.fit());
    this.sizes.observe(this.canvas);
  }

  /** Shows a policy's episode, as soon as it is unpacked. */
  async load(recording, { episode: place, name, client }, index, agent) {
    const wanted = ++this.wanted;
    const episode = await recording.episode(place);
    if (wanted !== this.wanted) return;
    Object.assign(this, { episode, name, client, index });
    const { left, right, bottom, top } = episode.track.box;
    const shape = (right - left + 1) / (top - bottom + 1);
    this.canvas.style.aspectRatio = Math.min(Math.max(shape, SHAPES.least), SHAPES.most);
    this.write(agent);
    this.fit();
  }

  /**
   * How the episode ends for an agent: a word, when, and what it earned.
   * @param {string} agent
   */
  write(agent) {
    if (!this.episode) return;
    const { episode, client, name } = this;
    const { agents, cars } = episode.recording.raw;
    const place = Math.max(
      agents.findIndex((each) => cars[each].name === agent),
      0,
    );
    const car = agents[place] ?? 0;
    const end = episode.ends[car];
    const { word, colour } = outcomeOf(end.outcome);
    const title = make("span", "stage-name");
    if (client !== null) title.append(swatch({ ...styleOf(this.index), weight: "thick" }));
    title.append(name);
    const fate = make("span", `fate ${colour}`, word);
    const why = reason(end, cars);
    if (why) fate.title = why;
    const time = make("span", "when", clock(end.frame * episode.period));
    const paid = agents.length ? make("span", "when", `return ${number(episode.raw.returns[place])}`) : "";
    this.caption.replaceChildren(title, fate, time, paid);
    this.canvas.setAttribute("aria-label", `${name}: ${word} after ${clock(end.frame * episode.period)}`);
  }

  fit() {
    if (!this.episode) return;
    Object.assign(this.view, { width: this.canvas.clientWidth, height: this.canvas.clientHeight });
    this.view.fit(this.episode.track.box);
    this.changed();
  }

  /** Draws a moment, and after the end the last one. */
  draw(at) {
    if (!this.episode || !this.canvas.clientWidth) return;
    const now = Math.min(at, this.episode.last);
    const shown = { episode: this.episode, ghost: null, at: now, ghostAt: now, selected: -1 };
    const roomy = this.large && this.canvas.clientWidth >= ROOMY;
    const how = { beams: false, names: roomy, trail: "past", scale: roomy, words: false };
    this.scene.draw({ ...shown, ...how });
  }

  forget() {
    this.sizes.disconnect();
    this.element.remove();
  }

  /** What tests may know: where the cars are, and where they are drawn. */
  state(at) {
    const { episode, name, view } = this;
    if (!episode) return null;
    const cars = episode.ends.map((_, car) => {
      const pose = episode.pose(car, Math.min(at, episode.last));
      return { ...pose, canvas: view.toCanvas(pose.x, pose.y) };
    });
    return { name, number: episode.number, last: episode.last, cars };
  }
}
