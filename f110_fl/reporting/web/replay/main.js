// What is shown, and the loop that draws it.

class App {
  /** @param {Recording[]} recordings */
  constructor(recordings) {
    Object.assign(this, { recordings, recording: recordings[0], rival: null, frames: 0 });
    Object.assign(this, { episode: null, ghost: null, number: null, wanted: 0, stale: true });
    Object.assign(this, { follow: null, beams: true, names: true, trail: "past" });
    this.selected = this.firstAgent();
    this.theme = new Theme();
    this.view = new View();
    this.player = new Player(() => this.invalidate());
    const canvas = byId("track");
    this.scene = new Scene(canvas, this.view, this.theme);
    this.overview = new Overview(byId("overview"), this.view, this.theme);
    this.charts = new Charts(byId("plots"), this.theme, (at) => this.player.seek(Math.round(at)));
    this.list = new EpisodeList(this);
    this.tools = new Tools(this);
    this.transport = new Transport(this);
    this.panels = [new Header(this), new Cars(this), this.tools, this.transport];
    this.tabs = new Tabs();
    listenToKeys(this);
    gestures(canvas, this.view, {
      moved: (panned) => this.moved(panned),
      tapped: (left, top) => this.tapped(left, top),
      reset: () => this.fit(),
    });
    this.resized(); // the observer speaks only later, perhaps after the first episode is there
    new ResizeObserver(() => this.resized()).observe(canvas);
    this.theme.onChange(() => this.refresh());
  }

  firstAgent() {
    return this.recording.raw.agents[0] ?? 0;
  }

  /** What the scene draws. */
  get shown() {
    const { episode, ghost, player, selected, beams, names, trail } = this;
    const at = player.at;
    return { episode, ghost, at, ghostAt: at, selected, beams, names, trail };
  }

  /** Has the next frame drawn. */
  invalidate() {
    this.stale = true;
  }

  /** Changes how things are shown, and the tools that tell so. */
  set(changes) {
    Object.assign(this, changes);
    this.tools.update();
    this.invalidate();
  }

  /** Has all panels tell what is shown now. */
  refresh() {
    if (!this.episode) return;
    for (const panel of this.panels) panel.update();
    this.invalidate();
  }

  /** The view was moved by hand: if it was panned, no car is followed any more. */
  moved(panned) {
    if (panned && this.follow !== null) this.set({ follow: null });
    this.invalidate();
  }

  /** Selects a car: its beams, its outcomes and its reward's terms are shown. */
  select(car) {
    this.selected = car;
    if (this.episode) this.charts.show(this.episode, this.ghost, car);
    this.refresh();
    this.list.update();
  }

  /** Shows another recording, at the same episode if it has it. */
  async choose(recording) {
    this.recording = recording;
    if (this.rival === recording) this.rival = null;
    if (this.selected >= recording.raw.cars.length) this.selected = this.firstAgent();
    const has = recording.raw.episodes.some(({ number }) => number === this.number);
    await this.show(has ? this.number : recording.raw.episodes[0].number);
    this.list.update();
  }

  /** Lays another recording over this one, as a ghost; null: none. */
  async compare(recording) {
    if (recording && !recording.comparable(this.recording)) {
      this.say(`${recording.name} has another seed, period or number of cars: it cannot be compared.`);
      return;
    }
    this.rival = recording;
    await this.show(this.number, this.player.at);
    this.list.update();
  }

  /** Takes the next recording that can be compared, or none, as the ghost. */
  nextRival() {
    const others = this.recordings.filter((each) => each !== this.recording);
    const all = [null, ...others.filter((each) => each.comparable(this.recording))];
    this.compare(all[(all.indexOf(this.rival) + 1) % all.length]);
  }

  /**
   * Shows an episode.
   * @param {number} number of its seed
   * @param {number} at frames
   */
  async show(number, at = 0) {
    const wanted = ++this.wanted; // whoever asks last is shown, whatever is unpacked first
    const both = [this.recording, this.rival].map((each) => each && each.episode(number));
    const [episode, rival] = await Promise.all(both);
    if (wanted !== this.wanted) return;
    const moved = this.episode?.track !== episode.track;
    const ghost = rival?.beginsLike(episode) ? rival : null;
    Object.assign(this, { episode, ghost, number });
    this.player.load(episode);
    this.player.seek(at);
    this.charts.show(episode, ghost, this.selected);
    if (moved) this.frame();
    this.refresh();
    this.list.mark();
    const { word } = outcomeOf(episode.ends[this.selected].outcome);
    this.say(`Episode ${number}: ${word}`, true);
    if (this.rival && !ghost) {
      const lack = rival ? "begins episode" : "has no episode";
      this.say(`${this.rival.name} ${lack} ${number}${rival ? " elsewhere" : ""}.`);
    }
  }

  /** Tells something: to those who hear the page only, or to all. */
  say(text, quietly = false) {
    write(byId(quietly ? "spoken" : "notice"), text);
    if (quietly) return;
    clearTimeout(this.silence);
    this.silence = setTimeout(() => write(byId("notice"), ""), 6000);
  }

  zoom(factor) {
    this.view.zoomAt(this.view.width / 2, this.view.height / 2, factor);
    this.invalidate();
  }

  /** Shows the whole track, or follows the selected car where that would be a speck. */
  frame() {
    this.fit();
    const { length } = this.recording.raw.cars[this.selected];
    if (length * this.view.zoom < CAR_SPECK) this.follow = this.selected;
  }

  /** Shows the whole track. */
  fit() {
    if (!this.episode) return;
    this.view.fit(this.episode.track.box);
    this.set({ follow: null });
  }

  resized() {
    const { canvas } = this.scene;
    Object.assign(this.view, { width: canvas.clientWidth, height: canvas.clientHeight });
    if (this.view.whole && this.episode) this.view.fit(this.episode.track.box);
    this.invalidate();
  }

  /** Selects the car that a finger or the mouse was put on. */
  tapped(left, top) {
    let [nearest, away] = [null, 28];
    for (let car = 0; car < this.episode.cars; car++) {
      const { x, y } = this.episode.pose(car, this.player.at);
      const [carLeft, carTop] = this.view.toCanvas(x, y);
      const distance = Math.hypot(carLeft - left, carTop - top);
      if (distance < away) [nearest, away] = [car, distance];
    }
    if (nearest !== null) this.select(nearest);
  }

  /** Draws a frame if anything has changed; called for each of the screen's. */
  draw(now) {
    this.player.tick(Math.min((now - (this.before ?? now)) / 1000, 0.25));
    this.before = now;
    if (!this.stale && !this.charts.stale) return;
    this.stale = false;
    if (this.follow !== null) {
      const { x, y } = this.episode.pose(this.follow, this.player.at);
      const { zoom, width, height } = this.view;
      const near = Math.max(FOLLOW_ZOOM, Math.min(width, height) / FOLLOW_SIGHT);
      if (this.view.whole) this.view.zoom = Math.max(zoom, near);
      Object.assign(this.view, { x, y, whole: false });
    }
    this.scene.draw(this.shown);
    this.overview.draw(this.shown);
    this.charts.draw(this.player.at);
    this.transport.tick();
    this.frames++;
  }

  /** What tests may know. */
  state() {
    const { player, recording, rival, number, episode, ghost, selected, follow, frames } = this;
    const poses = (each) => each && recording.raw.cars.map((_, car) => each.pose(car, player.at));
    return {
      ...{ recording: recording.name, rival: rival && rival.name, number, selected, follow, frames },
      ...{ frame: player.frame, at: player.at, time: player.time, last: player.last },
      ...{ playing: player.playing, rate: player.rate, zoom: this.view.zoom },
      ...{ beams: this.beams, names: this.names, trail: this.trail, dark: this.theme.dark },
      listed: this.list.numbers,
      cars: poses(episode),
      ghost: poses(ghost),
    };
  }
}

const FOLLOW_ZOOM = 60; // px/m at least, where a car is followed
const FOLLOW_SIGHT = 10; // m at most that are seen around it, across the shorter side
const CAR_SPECK = 5; // px

/** Starts the page; `data-ready` at the root says that the first frame is drawn. */
async function start() {
  const root = document.documentElement;
  try {
    const app = new App(readRecordings(document));
    app.list.update();
    await app.show(app.recording.raw.episodes[0].number);
    const loop = (now) => {
      app.draw(now);
      root.dataset.ready = "1";
      requestAnimationFrame(loop);
    };
    requestAnimationFrame(loop);
    window.replay = Object.freeze({
      toCanvas: (x, y) => app.view.toCanvas(x, y),
      state: () => app.state(),
    });
  } catch (error) {
    const old = typeof DecompressionStream === "undefined";
    byId("notice").textContent = old ? "This browser is too old for this page." : error.message;
    throw error;
  }
}

start();
