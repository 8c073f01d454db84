/** What is shown is a function of the address: every part reads `state`, and changes it with `go` alone. */

const MANY = { media: "up", like: "like", less: "less", kinds: "kind" };
const ONE = { library: "lib", q: "q", folder: "folder", from: "from", to: "to", view: "view", item: "item", page: "page" };
const FLAGS = { words: "words", byFile: "file", weak: "weak" };

const listeners = [];
/** The current state; frozen, a change makes a new one. */
export let state = read(location.search);

/** The state that an address tells. */
export function read(search) {
  const given = new URLSearchParams(search);
  const found = {};
  for (const [name, key] of Object.entries(MANY)) found[name] = given.getAll(key);
  for (const [name, key] of Object.entries(ONE)) found[name] = given.get(key) ?? "";
  for (const [name, key] of Object.entries(FLAGS)) found[name] = given.has(key);
  return Object.freeze(found);
}

/** The address of the current state with some changes. */
export function href(changes = {}) {
  const wanted = { ...state, ...changes };
  const out = new URLSearchParams();
  for (const [name, key] of Object.entries(ONE)) if (wanted[name]) out.set(key, wanted[name]);
  for (const [name, key] of Object.entries(MANY)) for (const value of wanted[name]) out.append(key, value);
  for (const [name, key] of Object.entries(FLAGS)) if (wanted[name]) out.set(key, "1");
  return out.size ? `?${out}` : location.pathname;
}

/** Change the state; with `replace` the step is not one to come back to. */
export function go(changes, { replace = false } = {}) {
  const address = href(changes);
  if (address === href()) return;
  history[replace ? "replaceState" : "pushState"](null, "", address);
  moved();
}

/** Be told of every change, as (state, the one before). */
export function onChange(listener) {
  listeners.push(listener);
}

/** Whether anything is asked for. */
export const asks = (of = state) => Boolean(of.q.trim() || of.media.length || of.like.length);

/** Whether two states want the same results. */
export function sameQuestion(one, other) {
  const relevant = ({ item, page, view, ...rest }) => JSON.stringify(rest);
  return relevant(one) === relevant(other);
}

function moved() {
  const before = state;
  state = read(location.search);
  for (const listener of listeners) listener(state, before);
}

addEventListener("popstate", moved);
