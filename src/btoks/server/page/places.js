/** Items by where they lie: which of them are shown, and some that stand for all. */

import { state } from "./state.js";

/** The least and the largest of many values. */
export const low = (values) => values.reduce((least, value) => Math.min(least, value), Infinity);
export const high = (values) => values.reduce((most, value) => Math.max(most, value), -Infinity);

/** An order of places that is the same every time and follows no other. */
export const scatter = (place) => ((place * 2654435761) >>> 0) / 2 ** 32;

/** What the map and the look around show under the filters that can be told from a place alone. */
export function kept() {
  const { kinds, folder, from, to } = state;
  return (item) =>
    (!kinds.length || kinds.includes(item.kind)) &&
    (!folder || item.folder === folder || Boolean(item.folder?.startsWith(`${folder}/`))) &&
    (!from || item.year >= Number(from)) &&
    (!to || item.year <= Number(to));
}

/** Some of the items, from as many corners of the map as possible; the same ones every time. */
export function spread(items, count) {
  if (items.length <= count) return items;
  const corners = new Map();
  const cells = Math.ceil(Math.sqrt(count) * 1.6);
  const [xs, ys] = [items.map((each) => each.x), items.map((each) => each.y)];
  const bounds = [xs, ys].map((values) => [low(values), high(values)]);
  const cell = (value, [low, high]) => Math.min(Math.floor((cells * (value - low)) / (high - low || 1)), cells - 1);
  for (const item of items) {
    const key = cell(item.x, bounds[0]) * cells + cell(item.y, bounds[1]);
    corners.set(key, [...(corners.get(key) ?? []), item]);
  }
  const chosen = [];
  const groups = [...corners].sort(([one], [other]) => ((one * 7919) % 1009) - ((other * 7919) % 1009)).map(([, group]) => group);
  for (let round = 0; chosen.length < count; round += 1) {
    for (const group of groups) if (group[round] && chosen.length < count) chosen.push(group[round]);
  }
  return chosen;
}
