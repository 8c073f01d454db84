/** How a map is moved: wheel, drag, two fingers, keys. */

const STILL = 5;
const PAN = 60;

/** Listen on a map's canvas. */
export function gestures(map) {
  const { canvas } = map;
  const fingers = new Map();
  let moved = 0;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const step = event.deltaMode ? event.deltaY * 16 : event.deltaY;
    map.zoom(Math.exp(-Math.max(-80, Math.min(80, step)) * (event.ctrlKey ? 0.012 : 0.004)), place(event));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(event));
    if (fingers.size === 1) moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    const before = fingers.get(event.pointerId);
    if (!before) return map.point(map.find(now));
    if (fingers.size === 2) pinch(map, fingers, event.pointerId, now);
    else if ((moved += Math.hypot(now.x - before.x, now.y - before.y)) > STILL) {
      map.point(null);
      map.pan(now.x - before.x, now.y - before.y);
    }
    fingers.set(event.pointerId, now);
  });
  const release = (event) => {
    const alone = fingers.size === 1 && fingers.delete(event.pointerId);
    fingers.delete(event.pointerId);
    if (!alone || event.type === "pointercancel" || moved > STILL) return;
    const found = map.find(place(event));
    // The first touch shows what it is, as hovering does; the second opens it.
    if (found && (event.pointerType === "mouse" || map.over === found)) map.open(found);
    else map.point(found);
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && !fingers.size && map.point(null));
  canvas.addEventListener("dblclick", (event) => map.find(place(event)) || map.zoom(2, place(event), true));
  canvas.addEventListener("keydown", (event) => keys(map, event));
}

function pinch(map, fingers, id, now) {
  const before = fingers.get(id);
  const [[, other]] = [...fingers].filter(([each]) => each !== id);
  const apart = (one) => Math.max(Math.hypot(one.x - other.x, one.y - other.y), 1);
  map.zoom(apart(now) / apart(before), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
  map.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
}

function keys(map, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const act = { "+": () => map.zoom(1.6, undefined, true), "=": () => map.zoom(1.6, undefined, true), "-": () => map.zoom(1 / 1.6, undefined, true), 0: () => map.fit(), Enter: () => map.over && map.open(map.over) }[event.key];
  if (!way && !act) return;
  event.preventDefault();
  event.stopPropagation();
  if (act) act();
  else if (event.shiftKey) map.pan(-PAN * way[0], -PAN * way[1]);
  else map.step(...way);
}
