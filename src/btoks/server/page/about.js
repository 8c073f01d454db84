/** What the library holds, and what the keyboard does. */

import { stats } from "./api.js";
import { bytes, byId, h, iconButton, KINDS, kindName, number } from "./dom.js";

const KEYS = [
  ["/", "go to the search box"],
  ["↑ ↓ ← →", "go through results, or the map"],
  ["Enter", "open what is chosen"],
  ["Esc", "close, or clear the search"],
  ["m", "map or grid"],
  ["1 – 4", "filter by type"],
  ["+  −", "more, less like the open or chosen result; zoom the map"],
  ["c", "copy the path of the open or chosen result"],
  ["[  ]", "page through an open PDF"],
  ["0", "show the whole map"],
  ["t", "dark, light, or as the system"],
  ["?", "this help"],
];

const closer = (dialog) => iconButton("close", "Close", () => dialog.close(), { class: "round closer" });

/** Make both dialogs close by a click beside them. */
export function start() {
  for (const dialog of [byId("stats"), byId("help")]) {
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }
}

/** Show the keys. */
export function openHelp() {
  const dialog = byId("help");
  const rows = KEYS.map(([keys, what]) => h("tr", {}, h("th", { scope: "row" }, ...keys.split(/\s+/).map((key) => (key === "–" ? " – " : h("kbd", {}, key)))), h("td", {}, what)));
  dialog.replaceChildren(
    closer(dialog),
    h("h2", { id: "help-title" }, "Keyboard and tips"),
    h("table", { class: "keys" }, h("tbody", {}, ...rows)),
    h("ul", { class: "tips" },
      h("li", {}, "Drop or paste pictures, videos or PDFs anywhere, several at once, and add words to them."),
      h("li", {}, "The score says how far a result stands out from what unrelated queries find: 50 is where results end, 100 the best there can be."),
      h("li", {}, "The address holds all you see: keep it, share it, go back.")),
  );
  dialog.showModal();
}

/** Show what a library holds. */
export async function openStats(name, facets) {
  const dialog = byId("stats");
  dialog.replaceChildren(closer(dialog), h("h2", { id: "stats-title" }, name), h("p", { class: "lead" }, "Counting …"));
  dialog.showModal();
  let found;
  try {
    found = await stats(name);
  } catch (error) {
    dialog.querySelector(".lead").textContent = error.message;
    return;
  }
  const kinds = Object.entries(found.kinds ?? {}).sort(([one], [other]) => KINDS.indexOf(one) - KINDS.indexOf(other));
  const folders = Object.entries(facets.folders).sort((one, other) => other[1] - one[1] || one[0].localeCompare(other[0])).slice(0, 8);
  dialog.replaceChildren(
    closer(dialog),
    h("h2", { id: "stats-title" }, name),
    h("p", { class: "lead" }, h("strong", {}, number(found.rows ?? 0)), " things to find in ", h("strong", {}, number(found.files ?? 0)), found.files === 1 ? " file" : " files"),
    h("h3", {}, "Types"), bars(kinds.map(([kind, count]) => [kindName(kind), count, kind])),
    ...(folders.length ? [h("h3", {}, folders.length < Object.keys(facets.folders).length ? "Largest folders" : "Folders"), bars(folders.map(([folder, count]) => [folder || "(top)", count, ""]))] : []),
    h("dl", { class: "facts" }, ...facts(found).flatMap(([key, value]) => [h("dt", {}, key), h("dd", {}, value)])),
  );
}

function facts(found) {
  return [
    ["On disk", found.bytes ? bytes(found.bytes) : ""],
    ["Vectors", found.dim ? `${number(found.dim)} dimensions` : ""],
    ["Model", found.model ? String(found.model).split(/[\\/]/).slice(-2).join("/") : "none"],
    ["Unreadable files", found.bad_files ? number(found.bad_files) : ""],
  ].filter(([, value]) => value);
}

function bars(rows) {
  const most = Math.max(...rows.map(([, count]) => count), 1);
  return h("ul", { class: "bars" }, ...rows.map(([name, count, kind]) => {
    const row = h("li", { "data-kind": kind }, h("span", {}, name), h("i"), h("b", {}, number(count)));
    row.style.setProperty("--share", count / most);
    return row;
  }));
}
