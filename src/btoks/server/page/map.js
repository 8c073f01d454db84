/**
 * The map: every item a point, what is alike lies together. Where there is room a point is a picture; which ones are
 * is settled per zoom level for the whole map, so that nothing blinks while it is moved.
 */

import { byId, h, KINDS, kindName, number, reducedMotion } from "./dom.js";
import { high, low, scatter } from "./places.js";
import { Sprites } from "./sprites.js";
import { gestures } from "./gestures.js";
import { tip } from "./tip.js";

const MARGIN = 56;
const LEVELS = 3;
/** How far apart pictures are at least, in sides: few are square, so they may come a little nearer. */
const ROOM = 0.94;
const REACH = 22;
/** How much more one direction may be drawn out than the other, to fill the window. */
const STRETCH = 1.5;
const MOST = 64;

/** A map on the page's canvas; `open` is called with an item that is chosen. */
export class LibraryMap {
  constructor(open) {
    this.canvas = byId("map");
    this.paint = this.canvas.getContext("2d");
    this.open = open;
    this.items = [];
    this.hits = new Map();
    this.keep = () => true;
    this.view = { scale: 1, x: 0, y: 0 };
    this.stretch = { x: 1, y: 1 };
    this.over = null;
    this.placed = new Map();
    this.sprites = new Sprites(() => this.redraw());
    new ResizeObserver(() => this.resize()).observe(this.canvas);
    gestures(this);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  /** Show these items, {id, kind, path, x, y}. */
  load(items) {
    const [xs, ys] = [items.map((item) => item.x), items.map((item) => item.y)];
    const [left, right, top, bottom] = [low(xs), high(xs), low(ys), high(ys)];
    const side = Math.max(right - left, bottom - top) || 1;
    this.size = { width: (right - left) / side || 0.001, height: (bottom - top) / side || 0.001 };
    this.items = items.map((item, place) => ({ ...item, x: (item.x - left) / side, y: (item.y - top) / side, order: scatter(place) }));
    this.byId = new Map(this.items.map((item) => [item.id, item]));
    this.over = null;
    this.settle();
    this.fit(false);
  }

  /** Bring hits out, with their scores by id; without any, everything counts. */
  highlight(hits) {
    this.hits = hits;
    this.settle();
  }

  /** Show only what a function keeps. */
  filter(keep) {
    this.keep = keep;
    this.settle();
  }

  /** What is shown has changed: places are given anew. */
  settle() {
    this.placed.clear();
    this.shown = this.items.filter(this.keep);
    this.drawLegend();
    this.redraw();
  }

  /** Show everything. */
  fit(slowly = true) {
    if (!this.items.length || !this.width) return;
    const wide = (this.width - 2 * MARGIN) / this.size.width;
    const tall = (this.height - 2 * MARGIN) / this.size.height;
    const scale = Math.max(Math.min(wide, tall), 10);
    this.stretch = { x: Math.min(Math.max(wide / scale, 1), STRETCH), y: Math.min(Math.max(tall / scale, 1), STRETCH) };
    this.least = scale / 2;
    const aside = (whole, along) => (whole - scale * this.stretch[along] * this.size[along === "x" ? "width" : "height"]) / 2;
    this.settle();
    this.move({ scale, x: aside(this.width, "x"), y: aside(this.height, "y") }, slowly);
  }

  /** Zoom by a factor around a point of the canvas. */
  zoom(factor, at = { x: this.width / 2, y: this.height / 2 }, slowly = false) {
    const from = this.target ?? this.view;
    const scale = Math.min(Math.max(from.scale * factor, this.least), this.least * 2 * MOST);
    const real = scale / from.scale;
    this.move({ scale, x: at.x - (at.x - from.x) * real, y: at.y - (at.y - from.y) * real }, slowly);
  }

  /** Push the map aside. */
  pan(dx, dy) {
    this.move({ ...this.view, x: this.view.x + dx, y: this.view.y + dy }, false);
  }

  /** Go to a view, at once or in a short glide. */
  move(view, slowly) {
    cancelAnimationFrame(this.gliding);
    this.target = null;
    if (!slowly || reducedMotion.matches) {
      this.view = view;
      this.sprites.forget();
      return this.redraw();
    }
    const [from, began] = [this.view, performance.now()];
    this.target = view;
    const glide = (now) => {
      const share = Math.min((now - began) / 240, 1);
      const eased = 1 - (1 - share) ** 3;
      const scale = from.scale * (view.scale / from.scale) ** eased;
      // A point that stays in place under the zoom: x moves with the scale, not with time.
      const along = view.scale === from.scale ? eased : (scale - from.scale) / (view.scale - from.scale);
      this.view = { scale, x: from.x + (view.x - from.x) * along, y: from.y + (view.y - from.y) * along };
      this.redraw();
      if (share < 1) this.gliding = requestAnimationFrame(glide);
      else this.target = null;
    };
    this.gliding = requestAnimationFrame(glide);
  }

  /** Point at an item, or at nothing. */
  point(item, { follow = false } = {}) {
    if (this.over === item) return;
    this.over = item;
    this.canvas.classList.toggle("pointing", Boolean(item));
    if (item && follow) this.bringIn(item);
    tip(item && { ...item, score: this.hits.get(item.id) }, item && this.at(item), this);
    this.redraw();
  }

  /** The item at a place of the canvas, if there is one near. */
  find(place) {
    let [best, least] = [null, Infinity];
    const thumbs = this.thumbs();
    for (const item of this.shown) {
      const { x, y } = this.at(item);
      const distance = Math.hypot(x - place.x, y - place.y);
      const reach = thumbs.has(item) ? this.side() / 2 : Math.min(REACH, this.side());
      if (distance < reach && distance < least) [best, least] = [item, distance];
    }
    return best;
  }

  /** The nearest item in a direction. */
  step(dx, dy) {
    const from = this.over ? this.at(this.over) : { x: this.width / 2, y: this.height / 2 };
    if (!this.over) return this.point(this.nearest(from), { follow: true });
    let [best, least] = [null, Infinity];
    for (const item of this.shown) {
      const { x, y } = this.at(item);
      const along = (x - from.x) * dx + (y - from.y) * dy;
      const aside = Math.abs((x - from.x) * dy - (y - from.y) * dx);
      const cost = along + 2.5 * aside;
      if (item !== this.over && along > 2 && aside < 2 * along && cost < least) [best, least] = [item, cost];
    }
    if (best) this.point(best, { follow: true });
  }

  nearest(place) {
    const distance = (item) => Math.hypot(this.at(item).x - place.x, this.at(item).y - place.y);
    return this.shown.reduce((best, item) => (!best || distance(item) < distance(best) ? item : best), null);
  }

  bringIn(item) {
    const { x, y } = this.at(item);
    const aside = (value, most) => Math.min(Math.max(value, 90), Math.max(most - 90, 90)) - value;
    if (aside(x, this.width) || aside(y, this.height)) this.pan(aside(x, this.width), aside(y, this.height));
  }

  at(item) {
    return { x: this.view.x + item.x * this.view.scale * this.stretch.x, y: this.view.y + item.y * this.view.scale * this.stretch.y };
  }

  resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width) return;
    const first = !this.width;
    [this.width, this.height, this.ratio] = [width, height, Math.min(devicePixelRatio || 1, 2)];
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    if (first || width !== this.fitted) this.fit(false);
    this.fitted = width;
    this.redraw();
  }

  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.width && this.items.length) this.drawAll();
    });
  }

  /** The side of a picture: larger the nearer one looks. */
  side() {
    return Math.min(44 + 14 * Math.log2(Math.max(this.view.scale / (2 * (this.least ?? 1)), 1)), 112);
  }

  /** The items that are pictures at this zoom: hits first, then in a scattered order, wherever there is room. */
  thumbs() {
    const level = Math.round(Math.log2(this.view.scale) * LEVELS);
    if (!this.placed.has(level)) this.placed.set(level, this.choose((this.side() * ROOM) / 2 ** (level / LEVELS)));
    return this.placed.get(level);
  }

  choose(side) {
    const [taken, chosen] = [new Map(), new Set()];
    const rank = (item) => this.hits.get(item.id) ?? -1;
    const able = this.shown.filter((item) => item.kind !== "text" && item.kind !== "vector");
    for (const item of able.sort((one, other) => rank(other) - rank(one) || one.order - other.order)) {
      const [x, y] = [item.x * this.stretch.x, item.y * this.stretch.y];
      const [column, row] = [Math.floor(x / side), Math.floor(y / side)];
      const near = [-1, 0, 1].flatMap((dx) => [-1, 0, 1].map((dy) => taken.get(`${column + dx},${row + dy}`)));
      if (near.some((each) => each && Math.abs(each.x - x) < side && Math.abs(each.y - y) < side)) continue;
      taken.set(`${column},${row}`, { x, y });
      chosen.add(item);
    }
    return chosen;
  }

  drawAll() {
    const { paint, width, height, ratio } = this;
    const style = getComputedStyle(this.canvas);
    const colour = Object.fromEntries([...KINDS, "vector"].map((kind) => [kind, style.getPropertyValue(`--${kind}`)]));
    paint.setTransform(ratio, 0, 0, ratio, 0, 0);
    paint.clearRect(0, 0, width, height);
    const [side, thumbs, dimmed] = [this.side(), this.thumbs(), this.hits.size > 0];
    const inside = this.shown.filter((item) => {
      const { x, y } = this.at(item);
      return x > -side && y > -side && x < width + side && y < height + side;
    });
    const radius = Math.min(2.2 + side / 40, 5);
    for (const kind of new Set(inside.map((item) => item.kind))) {
      for (const hit of [false, true]) {
        paint.fillStyle = colour[kind] ?? colour.vector;
        paint.globalAlpha = dimmed && !hit ? 0.22 : 0.85;
        paint.beginPath();
        for (const item of inside) {
          if (item.kind !== kind || this.hits.has(item.id) !== hit || (thumbs.has(item) && this.sprites.get(item.id))) continue;
          const { x, y } = this.at(item);
          paint.moveTo(x + radius, y);
          paint.arc(x, y, hit ? radius * 1.5 : radius, 0, 2 * Math.PI);
        }
        paint.fill();
      }
    }
    const pictures = inside.filter((item) => thumbs.has(item)).sort((one, other) => this.hits.has(one.id) - this.hits.has(other.id));
    for (const item of pictures) this.drawPicture(item, side, dimmed && !this.hits.has(item.id) ? 0.16 : 1, style);
    paint.globalAlpha = 1;
    if (this.over && this.keep(this.over)) this.drawOver(side, colour, style);
  }

  drawPicture(item, side, alpha, style) {
    const sprite = this.sprites.get(item.id);
    if (!sprite) return;
    const { x, y } = this.at(item);
    const scale = side / Math.max(sprite.width, sprite.height);
    const [width, height] = [sprite.width * scale, sprite.height * scale];
    this.paint.globalAlpha = alpha;
    this.paint.drawImage(sprite, x - width / 2, y - height / 2, width, height);
    if (this.hits.has(item.id)) this.ring(x, y, width, height, style.getPropertyValue("--accent"));
  }

  drawOver(side, colour, style) {
    const { x, y } = this.at(this.over);
    const sprite = this.over.kind === "text" ? null : this.sprites.get(this.over.id);
    if (sprite && this.thumbs().has(this.over)) {
      this.drawPicture(this.over, side * 1.2, 1, style);
      const scale = (side * 1.2) / Math.max(sprite.width, sprite.height);
      return this.ring(x, y, sprite.width * scale, sprite.height * scale, style.getPropertyValue("--ink"));
    }
    this.paint.fillStyle = colour[this.over.kind] ?? colour.vector;
    this.paint.beginPath();
    this.paint.arc(x, y, 7, 0, 2 * Math.PI);
    this.paint.fill();
    return this.ring(x, y, 14, 14, style.getPropertyValue("--ink"), 9);
  }

  ring(x, y, width, height, colour, corner = 6) {
    this.paint.strokeStyle = colour;
    this.paint.lineWidth = 2;
    this.paint.beginPath();
    this.paint.roundRect(x - width / 2 - 2, y - height / 2 - 2, width + 4, height + 4, corner);
    this.paint.stroke();
  }

  drawLegend() {
    const counts = new Map();
    for (const item of this.shown) counts.set(item.kind, (counts.get(item.kind) ?? 0) + 1);
    const rows = [...counts].sort(([one], [other]) => KINDS.indexOf(one) - KINDS.indexOf(other));
    byId("legend").replaceChildren(...rows.map(([kind, count]) => h("span", { "data-kind": kind }, h("i"), `${kindName(kind)} ${number(count)}`)));
    this.canvas.dataset.shown = this.shown.length;
  }
}
