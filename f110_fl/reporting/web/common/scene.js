// The track from above: walls, lines, trails, beams, cars, and where the episode ended.

const CAR_MIN = 14; // px; a shorter car is drawn enlarged, so that it is seen on a whole circuit
const TRAILS = ["past", "whole", "off"];

/** @returns {Path2D} of polylines in metres */
function path(lines, closed) {
  const whole = new Path2D();
  for (const line of lines) {
    for (let i = 0; i < line.length; i += 2) {
      if (i) whole.lineTo(line[i], line[i + 1]);
      else whole.moveTo(line[0], line[1]);
    }
    if (closed && line.length) whole.closePath();
  }
  return whole;
}

class Scene {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {View} view
   * @param {Theme} theme
   */
  constructor(canvas, view, theme) {
    Object.assign(this, { canvas, view, theme, context: canvas.getContext("2d") });
    this.paths = new WeakMap(); // by track
  }

  /**
   * Draws everything as it is at a time.
   * @param {object} shown see `App.shown`; on a small canvas `scale` and `words` may be false:
   *   then the scale and the legend, or the outcomes' words are left out
   */
  draw(shown) {
    const { context, view } = this;
    const { width, height, ratio } = fitPixels(this.canvas);
    Object.assign(view, { width, height });
    this.ratio = ratio;
    this.labels = [];
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = this.theme.wall;
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.drawTrack(shown.episode.track);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.lineJoin = context.lineCap = "round";
    if (shown.ghost) this.drawGhostTrail(shown);
    if (shown.trail !== "off") this.drawTrails(shown);
    if (shown.beams) this.drawBeams(shown);
    this.drawEnds(shown);
    if (shown.ghost) this.drawCars(shown, shown.ghost, shown.ghostAt, true);
    this.drawCars(shown, shown.episode, shown.at, false);
    this.drawLabels();
    if (shown.scale === false) return;
    this.drawScale();
    if (shown.trail !== "off") this.drawLegend(shown.episode.maxSpeed);
  }

  drawTrack(track) {
    const { context, view, ratio, theme } = this;
    if (!this.paths.has(track)) {
      const centre = path([track.centre], track.closed);
      this.paths.set(track, { free: path(track.walls, true), centre });
    }
    const { free, centre } = this.paths.get(track);
    const scale = view.zoom * ratio;
    const [left, top] = view.toCanvas(0, 0);
    context.setTransform(scale, 0, 0, -scale, left * ratio, top * ratio);
    context.fillStyle = theme.free;
    context.fill(free, "evenodd");
    context.strokeStyle = theme.line;
    context.lineWidth = 1.5 / view.zoom;
    context.lineJoin = "round";
    context.stroke(free);
    context.strokeStyle = theme.faint;
    context.lineWidth = 1 / view.zoom;
    context.setLineDash([6 / view.zoom, 6 / view.zoom]);
    context.stroke(centre);
    context.setLineDash([]);
    if (track.finish.length) this.drawFinish(track.finish);
  }

  /** Two rows of squares, black and white, across the track. */
  drawFinish([leftX, leftY, rightX, rightY]) {
    const { context, view } = this;
    const length = Math.hypot(rightX - leftX, rightY - leftY);
    const square = Math.max(4 / view.zoom, 0.06);
    const count = Math.max(2, Math.round(length / square));
    context.save();
    context.translate(leftX, leftY);
    context.rotate(Math.atan2(rightY - leftY, rightX - leftX));
    for (let i = 0; i < count; i++) {
      for (let row = 0; row < 2; row++) {
        context.fillStyle = (i + row) % 2 ? "#fff" : "#16191d";
        context.fillRect((i * length) / count, (row - 1) * square, length / count, square);
      }
    }
    context.strokeStyle = this.theme.line;
    context.lineWidth = 1 / view.zoom;
    context.strokeRect(0, -square, length, 2 * square);
    context.restore();
  }

  /** Where the cars have been, in the colours of their speeds. */
  drawTrails({ episode, at, trail }) {
    const { context, view, theme } = this;
    const { cars, x, y, speed, maxSpeed } = episode;
    const last = trail === "whole" ? episode.last : Math.floor(at);
    context.lineWidth = Math.min(4, Math.max(2, 0.06 * view.zoom));
    for (let car = 0; car < cars; car++) {
      let shade = -1;
      for (let frame = 0; frame < last; frame++) {
        const [i, j] = [frame * cars + car, (frame + 1) * cars + car];
        const now = theme.shade((speed[i] + speed[j]) / 2 / maxSpeed);
        if (now !== shade) {
          if (shade >= 0) context.stroke();
          shade = now;
          context.strokeStyle = theme.shades[shade];
          context.beginPath();
          context.moveTo(...view.toCanvas(x[i], y[i]));
        }
        context.lineTo(...view.toCanvas(x[j], y[j]));
      }
      if (shade < 0) continue;
      if (trail === "past") {
        const { x: nowX, y: nowY } = episode.pose(car, at);
        context.lineTo(...view.toCanvas(nowX, nowY));
      }
      context.stroke();
    }
  }

  /** Where the ghost's cars have been: dashed, in the cars' colours. */
  drawGhostTrail({ ghost, ghostAt, trail }) {
    const { context, view, theme } = this;
    const last = trail === "whole" ? ghost.last : Math.floor(Math.min(ghostAt, ghost.last));
    context.lineWidth = 1.5;
    context.setLineDash([5, 4]);
    context.globalAlpha = 0.75;
    for (let car = 0; car < ghost.cars; car++) {
      context.strokeStyle = theme.car(car);
      context.beginPath();
      for (let frame = 0; frame <= last; frame++) {
        const i = frame * ghost.cars + car;
        context.lineTo(...view.toCanvas(ghost.x[i], ghost.y[i]));
      }
      context.stroke();
    }
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  /** What the selected car's range finder reads; beams that hit nothing are left out. */
  drawBeams({ episode, at, selected }) {
    const { context, view, theme } = this;
    const { angles, mountX, maxRange } = episode.recording.raw.lidar;
    const { x, y, yaw } = episode.pose(selected, at);
    const from = view.toCanvas(x + mountX * Math.cos(yaw), y + mountX * Math.sin(yaw));
    context.strokeStyle = context.fillStyle = theme.car(selected);
    context.lineWidth = 1;
    const hits = [];
    for (let beam = 0; beam < angles.length; beam++) {
      const range = episode.range(selected, beam, at);
      if (range >= maxRange - 0.005) continue;
      const way = yaw + angles[beam];
      hits.push([from[0] + range * view.zoom * Math.cos(way), from[1] - range * view.zoom * Math.sin(way)]);
    }
    context.globalAlpha = theme.dark ? 0.32 : 0.26;
    context.beginPath();
    for (const hit of hits) {
      context.moveTo(...from);
      context.lineTo(...hit);
    }
    context.stroke();
    context.globalAlpha = 0.9;
    for (const [left, top] of hits) context.fillRect(left - 1.5, top - 1.5, 3, 3);
    context.globalAlpha = 1;
  }

  drawCars(shown, episode, at, ghostly) {
    const poses = episode.ends.map((_, car) => episode.pose(car, at));
    for (let car = episode.cars - 1; car >= 0; car--) {
      const pose = poses[car];
      const end = episode.ends[car];
      const crashed = end.outcome === "crash" && at >= end.frame;
      const shape = episode.recording.raw.cars[car];
      const [left, top] = this.view.toCanvas(pose.x, pose.y);
      const selected = car === shown.selected && !ghostly && episode.cars > 1;
      this.drawCar(left, top, pose, shape, this.theme.car(car), { crashed, ghostly, selected });
      if (shown.names && !ghostly) {
        const below = crashed ? end.at[1] > pose.y : this.isUnder(pose, poses); // clear of the mark
        const text = `${shape.name}  ${decimal(pose.speed, 1)} m/s`;
        this.labels.push({ left, top, text, colour: this.theme.car(car), below, shape });
      }
    }
  }

  /** Whether another car is close by, and further up: then a car's name is written below it. */
  isUnder({ x, y }, poses) {
    const near = 90 / this.view.zoom;
    return poses.some((other) => other.y > y && Math.hypot(other.x - x, other.y - y) < near);
  }

  /** A rectangle with wheels, a windscreen and a nose, front to the right before it is turned. */
  drawCar(left, top, pose, shape, colour, { crashed, ghostly, selected }) {
    const { context, view, theme } = this;
    const scale = view.zoom * Math.max(1, CAR_MIN / (shape.length * view.zoom));
    const [long, wide] = [shape.length * scale, shape.width * scale];
    context.save();
    context.translate(left, top);
    context.rotate(-pose.yaw);
    if (selected) {
      context.strokeStyle = colour;
      context.globalAlpha = 0.45;
      context.lineWidth = 2;
      context.beginPath();
      context.arc(0, 0, Math.hypot(long, wide) / 2 + 5, 0, 2 * Math.PI);
      context.stroke();
      context.globalAlpha = 1;
    }
    if (ghostly) {
      context.globalAlpha = 0.35;
    } else if (long > 24) {
      this.drawWheels(long, wide, pose.steer);
    }
    context.fillStyle = colour;
    context.strokeStyle = crashed ? theme.bad : theme.dark ? "#0b0d10" : "#1c2127";
    context.lineWidth = crashed ? 2.5 : Math.min(1.5, long / 14);
    context.beginPath();
    context.roundRect(-long / 2, -wide / 2, long, wide, Math.min(wide / 3.5, 8));
    context.fill();
    context.globalAlpha = 1;
    if (ghostly) {
      context.strokeStyle = colour;
      context.lineWidth = 1.5;
      context.setLineDash([3, 2]);
    }
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = ghostly ? colour : "#fff"; // the nose: where the car is heading
    context.beginPath();
    context.moveTo(0.42 * long, 0);
    context.lineTo(0.14 * long, 0.3 * wide);
    context.lineTo(0.14 * long, -0.3 * wide);
    context.closePath();
    context.fill();
    context.restore();
  }

  drawWheels(long, wide, steer) {
    const { context, theme } = this;
    context.fillStyle = theme.dark ? "#8b949e" : "#2a3036";
    for (const ahead of [0.3, -0.3]) {
      for (const side of [-1, 1]) {
        context.save();
        context.translate(ahead * long, side * wide * 0.5);
        if (ahead > 0) context.rotate(-steer);
        context.fillRect(-0.1 * long, -0.09 * wide, 0.2 * long, 0.18 * wide);
        context.restore();
      }
    }
  }

  /** Rings where episodes ended for cars, with the outcome; crashes faintly before already. */
  drawEnds({ episode, at, words }) {
    const { context, view, theme } = this;
    episode.ends.forEach((end) => {
      if (["none", "other_done"].includes(end.outcome)) return;
      const over = at >= end.frame;
      if (!over && end.outcome !== "crash") return;
      const { word, colour } = outcomeOf(end.outcome);
      const [left, top] = view.toCanvas(...end.at);
      context.strokeStyle = theme[colour];
      context.lineWidth = 2;
      context.globalAlpha = over ? 1 : 0.5;
      context.beginPath();
      context.arc(left, top, over ? 9 : 6, 0, 2 * Math.PI);
      context.stroke();
      if (end.outcome === "crash") {
        const arm = over ? 13 : 8;
        context.beginPath();
        for (const side of [-1, 1]) {
          context.moveTo(left - arm * 0.7, top - side * arm * 0.7);
          context.lineTo(left + arm * 0.7, top + side * arm * 0.7);
        }
        context.stroke();
      }
      context.globalAlpha = 1;
      const parts = end.parts.length ? `: ${list(end.parts)}` : "";
      if (over && words !== false) {
        const text = `${word}${parts}`;
        this.labels.push({ left, top, text, colour: theme[colour], aside: true });
      }
    });
  }

  /** Texts on plates, which keep clear of what they name. */
  drawLabels() {
    const { context, theme, view } = this;
    context.font = `600 12px ${theme.font}`;
    context.textBaseline = "middle";
    for (const { left, top, text, colour, below, aside, shape } of this.labels) {
      if (left < -20 || left > view.width + 20 || top < -20 || top > view.height + 20) continue;
      const wide = context.measureText(text).width + 22;
      const reach = shape ? Math.max(CAR_MIN, shape.length * view.zoom) / 2 + 20 : 0;
      const start = aside ? left + 20 : left - wide / 2;
      const from = Math.max(6, Math.min(start, view.width - wide - 6));
      const middle = aside ? top : top + (below ? reach : -reach);
      context.fillStyle = theme.panel;
      context.globalAlpha = 0.9;
      context.beginPath();
      context.roundRect(from, middle - 11, wide, 22, 6);
      context.fill();
      context.globalAlpha = 1;
      context.fillStyle = colour;
      context.beginPath();
      context.arc(from + 9, middle, 3.5, 0, 2 * Math.PI);
      context.fill();
      context.fillStyle = theme.text;
      context.fillText(text, from + 17, middle + 0.5);
    }
  }

  /** A bar of 1, 2 or 5 times a power of ten metres. */
  drawScale() {
    const { context, theme, view } = this;
    const wanted = 110 / view.zoom;
    const power = 10 ** Math.floor(Math.log10(wanted));
    const metres = power * (wanted / power >= 5 ? 5 : wanted / power >= 2 ? 2 : 1);
    const long = metres * view.zoom;
    const [left, bottom] = [16, view.height - 16];
    context.strokeStyle = context.fillStyle = theme.muted;
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(left, bottom - 5);
    context.lineTo(left, bottom);
    context.lineTo(left + long, bottom);
    context.lineTo(left + long, bottom - 5);
    context.stroke();
    context.font = `11px ${theme.font}`;
    context.textBaseline = "alphabetic";
    context.fillText(`${metres} m`, left + 5, bottom - 6);
  }

  /** What the colours of the trails mean. */
  drawLegend(maxSpeed) {
    const { context, theme, view } = this;
    const [wide, bottom] = [96, view.height - 16];
    const left = view.width - wide - 16;
    theme.shades.forEach((shade, k) => {
      context.fillStyle = shade;
      context.fillRect(left + (k * wide) / SHADES, bottom - 6, wide / SHADES + 0.5, 6);
    });
    context.fillStyle = theme.muted;
    context.font = `11px ${theme.font}`;
    context.textBaseline = "alphabetic";
    context.fillText("0", left, bottom - 11);
    const text = `${decimal(maxSpeed, 1)} m/s`;
    context.fillText(text, left + wide - context.measureText(text).width, bottom - 11);
  }
}
