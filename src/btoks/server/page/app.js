/** The page: what the address asks for is asked of the server, and shown. */

import * as api from "./api.js";
import * as about from "./about.js";
import * as detail from "./detail.js";
import { announce, byId, copyPath, h, icon, KINDS, kindName, number, oneOf } from "./dom.js";
import * as filters from "./filters.js";
import { LibraryMap } from "./map.js";
import { kept, spread } from "./places.js";
import * as query from "./query.js";
import * as results from "./results.js";
import { asks, go, onChange, sameQuestion, state } from "./state.js";

const MOST = 480;
const [COLUMN, ROW] = [184, 240];
const SLOW = 160;
const THEMES = { auto: "as the system", light: "light", dark: "dark" };

let running = null;
let reach = 0;
let complete = true;
let map = null;
let places = null;
let library = "";
let facets = { kinds: {}, folders: {}, years: {} };

/** What the address asks by: one medium and words are one thing, several media are things of equal weight. */
function given() {
  const words = state.q.trim() ? { text: state.q.trim() } : null;
  const media = state.media.map((upload) => ({ upload }));
  if (media.length > 1) return words ? [words, ...media] : media;
  return media.length || words ? { ...words, ...media[0] } : null;
}

/** The body of a search for what the address asks. */
function question(k) {
  return {
    query: given(),
    k,
    where: filters.condition(),
    hybrid: Boolean(state.words && state.q.trim()),
    ...(state.weak && { min_score: 0 }),
    ...(state.byFile && { group: "file" }),
    ...(state.like.length && { like: state.like }),
    ...(state.less.length && { unlike: state.less }),
    ...(state.library && { library: state.library }),
  };
}

/** As many results as the window shows, and two rows more. */
function enough() {
  const rows = Math.ceil(innerHeight / ROW) + 2;
  return Math.min(Math.max(rows * Math.floor(innerWidth / COLUMN), 24), 120);
}

async function ask(k = enough(), { further = false } = {}) {
  running?.abort();
  const mine = (running = new AbortController());
  reach = k;
  if (!asks()) return browse();
  const slow = setTimeout(() => (byId("busy").hidden = false), SLOW);
  const began = performance.now();
  try {
    const found = (await api.search(question(k), mine.signal)).hits;
    if (mine.signal.aborted) return;
    complete = found.length < k || k >= MOST;
    const hits = found.filter((hit) => !state.less.includes(hit.id));
    byId("intro").hidden = true;
    results.draw(hits);
    if (!further) scrollTo({ top: 0 });
    tell(hits.length, performance.now() - began);
    nothing(hits.length);
    end(hits.length);
    map?.highlight(new Map(hits.map((hit) => [hit.id, hit.score])));
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    failed(error);
  } finally {
    clearTimeout(slow);
    if (running === mine) byId("busy").hidden = true;
  }
}

function tell(count, took) {
  const more = complete ? "" : "+";
  const results = count === 1 ? "result" : "results";
  byId("status").textContent = count ? `${number(count)}${more} ${results} in ${Math.round(took)} ms` : "No results";
}

/** Below the last result: the way to what lies further away. */
function end(count) {
  const further = count && complete && !state.weak && h("button", { type: "button", class: "link", onclick: () => go({ weak: true }) }, "Show weaker matches too");
  byId("end").replaceChildren(...(further ? [h("p", {}, "That is all that clearly matches. ", further)] : []));
}

/** Without a question: a look around, things from all over the map. */
async function browse() {
  complete = true;
  byId("busy").hidden = true;
  const mine = running;
  map?.highlight(new Map());
  try {
    const all = (await allPlaces()).filter(kept());
    if (mine.signal.aborted) return;
    results.draw(spread(all, enough()), { scored: false });
    end(0);
    intro();
    byId("status").textContent = filters.filtered() ? `${number(all.length)} here` : "";
    byId("nothing").hidden = all.length > 0;
    if (!all.length) byId("nothing").replaceChildren(...emptyLibrary());
  } catch (error) {
    if (!mine.signal.aborted) failed(error);
  }
}

function intro() {
  const counts = Object.entries(facets.kinds).sort(([one], [other]) => KINDS.indexOf(one) - KINDS.indexOf(other));
  const all = counts.reduce((sum, [, count]) => sum + count, 0);
  byId("intro").hidden = filters.filtered() || !all;
  const parts = counts.map(([kind, count]) => `${number(count)} ${(count === 1 ? oneOf(kind) : kindName(kind)).toLowerCase()}`).join(", ");
  byId("intro").replaceChildren(h("h1", {}, "A look around"), h("p", {}, `${number(all)} things in ${library}: ${parts}.`));
}

function emptyLibrary() {
  if (filters.filtered()) return [h("h2", {}, "Nothing here with these filters"), h("button", { type: "button", class: "primary", onclick: filters.unfilter }, "Clear filters")];
  return [h("h2", {}, "This library is empty"), h("p", {}, "Add a folder to it with ", h("code", {}, "btoks index"), "; what it finds will be here.")];
}

async function allPlaces() {
  places ??= api.map(library).then((found) => found.items);
  places.catch(() => (places = null));
  return places;
}

function nothing(count) {
  byId("nothing").hidden = count > 0;
  if (count) return;
  const asked = state.q ? `Nothing here matches “${state.q}”` : "Nothing here matches that";
  const ways = [
    !state.weak && h("button", { type: "button", class: "primary", onclick: () => go({ weak: true }) }, "Show the nearest anyway"),
    filters.filtered() && h("button", { type: "button", class: "secondary", onclick: filters.unfilter }, "Clear filters"),
  ];
  const why = state.weak ? "The filters leave nothing to show." : "What there is lies no nearer than it does to any unrelated query.";
  byId("nothing").replaceChildren(h("h2", {}, asked), h("p", {}, why), h("div", { class: "row" }, ...ways.filter(Boolean)));
}

function failed(error) {
  byId("busy").hidden = true;
  results.draw([]);
  end(0);
  byId("intro").hidden = true;
  byId("status").textContent = "";
  byId("nothing").hidden = false;
  const offline = error instanceof api.ServerError ? error.message : "The server cannot be reached.";
  byId("nothing").replaceChildren(h("h2", {}, "That did not work"), h("p", { role: "alert" }, offline), h("button", { type: "button", class: "primary", onclick: () => ask() }, "Try again"));
}

async function drawView() {
  const onMap = state.view === "map";
  byId("map-view").hidden = !onMap;
  byId("grid-view").hidden = onMap;
  byId("view-map").setAttribute("aria-pressed", onMap);
  byId("view-grid").setAttribute("aria-pressed", !onMap);
  document.body.classList.toggle("on-map", onMap);
  if (!onMap) return;
  map ??= new LibraryMap((item) => (query.remember(item), go({ item: item.id, page: "" })));
  map.filter(kept());
  if (map.drawn === places && places) return;
  byId("map-note").hidden = false;
  byId("map-note").textContent = "Drawing the map …";
  try {
    const items = await allPlaces();
    map.load(items);
    map.drawn = places;
    map.highlight(new Map(asks() ? results.hits().map((hit) => [hit.id, hit.score]) : []));
    byId("map-note").hidden = items.length > 0;
    byId("map-note").textContent = "There is nothing to draw yet.";
  } catch (error) {
    byId("map-note").textContent = error.message;
  }
}

function theme(next) {
  const names = Object.keys(THEMES);
  const chosen = next ? names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length] : document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = chosen;
  localStorage.setItem("btoks-theme", chosen);
  const label = `Colours: ${THEMES[chosen]}`;
  byId("theme").replaceChildren(icon({ auto: "auto", light: "sun", dark: "moon" }[chosen]));
  byId("theme").setAttribute("aria-label", label);
  byId("theme").title = `${label} (t)`;
  map?.redraw();
  if (next) announce(label);
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input, textarea, select");
  if (event.key === "Escape") return escape(event, typing);
  if (typing) {
    if (event.target.id === "q" && event.key === "ArrowDown" && state.view !== "map") results.focus() && event.preventDefault();
    return;
  }
  const chosen = results.hitOf(document.activeElement?.closest?.(".card")?.dataset.id);
  const kinds = [...byId("kinds").children];
  const act = {
    "/": () => (byId("q").focus(), byId("q").select()),
    m: () => go({ view: state.view === "map" ? "" : "map" }),
    t: () => theme(true),
    "?": about.openHelp,
    c: chosen && (() => copyPath(chosen)),
    "+": chosen && (() => results.moreLike(chosen)),
    "-": chosen && asks() && (() => results.lessLike(chosen)),
  }[event.key] ?? (/^[1-9]$/.test(event.key) && kinds[event.key - 1] && (() => kinds[event.key - 1].click()));
  if (!act) return;
  event.preventDefault();
  act();
}

function escape(event, typing) {
  if (document.querySelector(":popover-open")) return;
  if (typing && !state.q && !asks()) return event.target.blur();
  if (asks()) query.clear();
  else if (state.view === "map") go({ view: "" });
}

/** Which library it is, and what is in it. */
async function open() {
  const { libraries } = await api.libraries();
  const names = libraries.map((each) => each.name ?? each);
  library = names.includes(state.library) ? state.library : names[0];
  const select = byId("library");
  select.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
  select.value = library;
  byId("library-label").hidden = names.length < 2;
  document.title = `${library} · btoks`;
  facets = await api.facets(library);
  filters.fill(facets);
}

async function changed(now, before) {
  // The question goes out first: all that is drawn is drawn while it is answered.
  if (!sameQuestion(now, before) && now.library === before.library) ask();
  query.draw();
  filters.draw();
  if (now.library !== before.library) {
    places = null;
    await open().then(() => ask(), failed);
  }
  drawView();
  detail.draw();
}

function live() {
  query.start();
  filters.start();
  results.start();
  detail.start();
  about.start();
  theme(false);
  onChange(changed);
  addEventListener("keydown", keys);
  byId("home").addEventListener("click", (event) => (event.preventDefault(), query.clear(), filters.unfilter(), go({ view: "" })));
  byId("view-grid").addEventListener("click", () => go({ view: "" }));
  byId("view-map").addEventListener("click", () => go({ view: "map" }));
  byId("zoom-in").addEventListener("click", () => map.zoom(1.6, undefined, true));
  byId("zoom-out").addEventListener("click", () => map.zoom(1 / 1.6, undefined, true));
  byId("zoom-fit").addEventListener("click", () => map.fit());
  byId("theme").addEventListener("click", () => theme(true));
  byId("show-help").addEventListener("click", about.openHelp);
  byId("show-stats").addEventListener("click", () => about.openStats(library, facets));
  byId("library").addEventListener("change", (event) => go({ library: event.target.value, folder: "", from: "", to: "", kinds: [], like: [], less: [], item: "" }));
  new IntersectionObserver(([end]) => end.isIntersecting && !complete && ask(Math.min(2 * reach, MOST), { further: true }), { rootMargin: "200px" }).observe(byId("end"));
}

live();
query.draw();
open().then(() => {
  drawView();
  detail.draw();
  return ask();
}).catch(failed);
