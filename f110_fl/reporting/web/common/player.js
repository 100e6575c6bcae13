// The time that is shown, and how it runs on.

const RATES = [0.1, 0.25, 0.5, 1, 2, 4, 8, 16];

class Player {
  /** @param {() => void} changed called whenever anything here has changed */
  constructor(changed) {
    Object.assign(this, { at: 0, last: 0, period: 1, playing: false, rate: 1, changed });
  }

  /** @param {Episode} episode shown from its start */
  load(episode) {
    this.last = episode.last;
    this.period = episode.period;
    this.at = 0;
    this.changed();
  }

  /** @returns {number} s */
  get time() {
    return this.at * this.period;
  }

  /** @returns {number} the frame at or before the time */
  get frame() {
    return Math.floor(this.at);
  }

  /** Goes to a frame; between two if the number is not whole. */
  seek(at) {
    this.at = Math.min(Math.max(at, 0), this.last);
    this.changed();
  }

  /** Stops, and goes on by whole frames. */
  step(frames) {
    this.playing = false;
    const whole = frames < 0 ? Math.ceil(this.at) : Math.floor(this.at);
    this.seek(whole + frames);
  }

  /** Plays or stops; at the end it plays from the start. */
  toggle() {
    if (!this.playing && this.at >= this.last) this.at = 0;
    this.playing = !this.playing && this.last > 0;
    this.changed();
  }

  /** @param {number} by how many of `RATES` faster */
  faster(by) {
    const place = RATES.indexOf(this.rate) + by;
    this.setRate(RATES[Math.min(Math.max(place, 0), RATES.length - 1)]);
  }

  /** @param {number} rate of `RATES` */
  setRate(rate) {
    this.rate = rate;
    this.changed();
  }

  /** Lets seconds pass on the clock on the wall. */
  tick(seconds) {
    if (!this.playing) return;
    this.at = Math.min(this.at + (seconds * this.rate) / this.period, this.last);
    if (this.at >= this.last) this.playing = false;
    this.changed();
  }
}
