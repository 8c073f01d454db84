/** The grid: one card a hit, kept from answer to answer so that nothing flickers, and moved through by arrow keys. */

import { address, show } from "./api.js";
import { byId, copyPath, folderOf, h, icon, iconButton, marked, nameOf, oneOf, placeOf, reducedMotion } from "./dom.js";
import { remember } from "./query.js";
import { go, href, state } from "./state.js";

const REST = 180;
const ALIKE = 12;
/** A picture so long that its middle does not stand for it. */
const LONG = 1.7;
let cards = new Map();
let shown = [];

/** The hits that are shown, in their order. */
export const hits = () => shown;

/** The hit with an id, if it is shown. */
export const hitOf = (id) => shown.find((hit) => hit.id === id);

/** Show hits; what was there already stays as it is. */
export function draw(found, { scored = true } = {}) {
  const before = cards;
  cards = new Map(found.map((hit) => [hit.id, refresh(before.get(hit.id) ?? card(hit), hit, scored)]));
  shown = found;
  const list = byId("grid");
  const held = list.contains(document.activeElement) ? document.activeElement : null;
  list.replaceChildren(...cards.values());
  list.querySelectorAll("a.open").forEach((link, place) => (link.tabIndex = place ? -1 : 0));
  if (held?.isConnected) held.focus({ preventScroll: true });
}

/** Put the focus on the first card, or on one by its id. */
export function focus(id) {
  const wanted = id ? cards.get(id) : byId("grid").firstElementChild;
  wanted?.querySelector("a.open").focus();
  return Boolean(wanted);
}

/** Make the grid live: arrow keys go through it, clicks open without leaving the page. */
export function start() {
  byId("grid").addEventListener("keydown", (event) => {
    const place = [...cards.values()].findIndex((each) => each.contains(event.target));
    const next = neighbour(place, event.key);
    if (next == null || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (next < 0) return byId("q").focus();
    const link = [...cards.values()][next].querySelector("a.open");
    byId("grid").querySelectorAll("a.open[tabindex='0']").forEach((each) => (each.tabIndex = -1));
    link.tabIndex = 0;
    link.focus();
    link.scrollIntoView({ block: "nearest", behavior: reducedMotion.matches ? "auto" : "smooth" });
  });
}

/** Like this one, in place of the rest of the query or beside its text. */
export function moreLike(hit) {
  remember(hit);
  go({ like: [...state.like.filter((id) => id !== hit.id), hit.id], less: state.less.filter((id) => id !== hit.id), item: "", page: "", view: "", weak: false });
}

/** Not like this one; where nothing else is asked for, there is nothing to be less like. */
export function lessLike(hit) {
  remember(hit);
  go({ less: [...state.less.filter((id) => id !== hit.id), hit.id], like: state.like.filter((id) => id !== hit.id), item: "", page: "" });
}

function neighbour(place, key) {
  if (place < 0) return null;
  const columns = getComputedStyle(byId("grid")).gridTemplateColumns.split(" ").length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -place, End: shown.length - 1 - place }[key];
  if (step == null) return null;
  const next = place + step;
  if (next < 0) return key === "ArrowUp" ? -1 : 0;
  return Math.min(next, shown.length - 1);
}

function card(hit) {
  const preview = h("div", { class: "preview" }, picture(hit));
  const link = h("a", { class: "open" }, preview, h("span", { class: "name" }, nameOf(hit)), h("span", { class: "where" }, folderOf(hit) || "\u00a0"));
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    go({ item: hit.id, page: "" });
  });
  const place = placeOf(hit);
  if (place) preview.append(h("span", { class: "badge" }, hit.kind === "video" ? icon("video") : null, place));
  const made = h("li", { class: `card ${hit.kind}`, "data-id": hit.id }, link, h("div", { class: "score" }, h("i"), h("span")));
  // Buttons come with the first look at a card: most cards get none, and are painted sooner.
  for (const event of ["pointerenter", "focusin"]) made.addEventListener(event, () => made.querySelector(".actions") ?? made.append(actions(hit)));
  if (hit.kind === "video") plays(made, preview, hit);
  return made;
}

function actions(hit) {
  return h("div", { class: "actions" },
    iconButton("more", `More like ${nameOf(hit)}`, () => moreLike(hit)),
    iconButton("less", `Less like ${nameOf(hit)}`, () => lessLike(hit), { class: "round lesser" }),
    iconButton("copy", `Copy the path of ${nameOf(hit)}`, () => copyPath(hit)));
}

function picture(hit) {
  if (hit.kind === "text" || hit.kind === "vector") return h("p", { class: "passage" });
  const image = h("img", { alt: "", loading: "lazy", decoding: "async", draggable: "false" });
  image.addEventListener("load", () => {
    const ground = hit.kind === "pdf" ? null : groundOf(image);
    const ratio = image.naturalWidth / image.naturalHeight;
    image.classList.toggle("whole", Boolean(ground) || Math.max(ratio, 1 / ratio) > LONG);
    if (ground) image.parentElement?.style.setProperty("background", ground);
    image.classList.add("loaded");
  });
  image.addEventListener("error", () => image.replaceWith(h("span", { class: "glyph" }, icon(hit.kind))));
  show(image, address(hit.id, "thumbnail"));
  return image;
}

/** The colour that a picture is drawn on, if its whole edge has it: it is shown whole then, and the card goes on in it. */
function groundOf(image) {
  const side = 16;
  const paint = h("canvas", { width: side, height: side }).getContext("2d", { willReadFrequently: true });
  paint.drawImage(image, 0, 0, side, side);
  const { data } = paint.getImageData(0, 0, side, side);
  const alike = (x, y) => [0, 1, 2].every((part) => Math.abs(data[4 * (y * side + x) + part] - data[part]) <= ALIKE);
  const last = side - 1;
  const edge = Array.from({ length: side }, (_, place) => [[place, 0], [place, last], [0, place], [last, place]]).flat();
  return edge.every(([x, y]) => alike(x, y)) ? `rgb(${data[0]} ${data[1]} ${data[2]})` : null;
}

/** What differs from query to query: the score, the marked words, the address. */
function refresh(made, hit, scored) {
  const link = made.querySelector("a.open");
  link.setAttribute("href", href({ item: hit.id, page: "" }));
  const percent = Math.round(100 * hit.score);
  const told = [nameOf(hit), oneOf(hit.kind), placeOf(hit), scored && `score ${percent} of 100`].filter(Boolean);
  link.setAttribute("aria-label", told.join(", "));
  const score = made.querySelector(".score");
  score.hidden = !scored;
  score.title = `Score ${(hit.score ?? 0).toFixed(2)} of 1`;
  score.style.setProperty("--score", hit.score ?? 0);
  score.querySelector("span").textContent = percent;
  const passage = made.querySelector(".passage");
  if (passage) passage.replaceChildren(...marked(hit.text ?? nameOf(hit), state.q));
  made.classList.toggle("scored", scored);
  return made;
}

/** A clip plays under the pointer, from where it was found. */
function plays(made, preview, hit) {
  let timer = 0;
  const stop = () => {
    clearTimeout(timer);
    preview.querySelector("video")?.remove();
  };
  const begin = () => {
    stop();
    if (!reducedMotion.matches) timer = setTimeout(() => preview.append(clip(hit)), REST);
  };
  made.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && begin());
  made.addEventListener("pointerleave", stop);
  made.addEventListener("focusin", (event) => event.target.matches(":focus-visible") && begin());
  made.addEventListener("focusout", stop);
}

/** A muted clip that goes round between the hit's start and end. */
export function clip(hit, attributes = {}) {
  const video = h("video", { playsinline: true, "aria-hidden": "true", tabindex: "-1", ...attributes });
  video.muted = true;
  const start = hit.start ?? 0;
  video.addEventListener("loadedmetadata", () => {
    video.currentTime = start;
    video.play().catch(() => {});
  }, { once: true });
  video.addEventListener("playing", () => video.classList.add("playing"), { once: true });
  video.addEventListener("timeupdate", () => {
    if (hit.end != null && video.currentTime >= hit.end && video.currentTime > start) video.currentTime = start;
  });
  video.addEventListener("ended", () => {
    video.currentTime = start;
    video.play().catch(() => {});
  });
  show(video, address(hit.id, "file"));
  return video;
}
