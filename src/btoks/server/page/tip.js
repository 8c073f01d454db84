/** The small card beside a point of the map. */

import { address, show } from "./api.js";
import { byId, folderOf, h, icon, nameOf, oneOf, placeOf } from "./dom.js";

const WIDTH = 216;

/** Show what an item is, beside its place on a map, or nothing. */
export function tip(item, at, map) {
  const card = byId("tip");
  card.hidden = !item;
  if (!item) return;
  const picture = item.kind === "text" || item.kind === "vector" ? null : h("img", { alt: "" });
  if (picture) show(picture, address(item.id, "thumbnail"));
  const score = item.score > 0 ? `${Math.round(100 * item.score)} of 100` : "";
  const where = [oneOf(item.kind), placeOf(item), score].filter(Boolean).join(" · ");
  card.replaceChildren(picture ?? h("span", { class: "glyph" }, icon(item.kind)), h("strong", {}, nameOf(item)), h("span", {}, where), h("span", { class: "where" }, folderOf(item)));
  const right = at.x + 28 + WIDTH < map.width;
  card.style.setProperty("left", `${Math.max(8, right ? at.x + 28 : at.x - 28 - WIDTH)}px`);
  const tall = card.offsetHeight;
  card.style.setProperty("top", `${Math.min(Math.max(8, at.y - tall / 2), Math.max(map.height - tall - 8, 8))}px`);
}
