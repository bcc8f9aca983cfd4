/** What all parts of the page use: elements, words, numbers, the view's state. */
var Ductaflow = {};

(() => {
  "use strict";

  const LIGHTS = {
    red: { symbol: "✖", word: "red" },
    running: { symbol: "◐", word: "running" },
    orange: { symbol: "▲", word: "orange" },
    xfailed: { symbol: "×", word: "xfailed" },
    waiting: { symbol: "○", word: "waiting" },
    green: { symbol: "●", word: "green" },
  };

  function add(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : String(value));
    }
    for (const child of children.flat(3)) {
      if (child !== null && child !== undefined && child !== false) element.append(child);
    }
    return element;
  }

  /** An HTML element; texts among the children stay texts, a key like `onclick` is a listener. */
  function el(tag, attributes, ...children) {
    return add(document.createElement(tag), attributes, children);
  }

  /** The same in SVG. */
  function svg(tag, attributes, ...children) {
    return add(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  }

  /** An element whose width is a share between 0 and 1. */
  function bar(share, attributes) {
    const element = el("span", attributes);
    element.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    return element;
  }

  /** Seconds as people say them. */
  function duration(seconds) {
    if (typeof seconds !== "number") return "";
    if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
    if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.95 ? 2 : 1)} s`;
    const rounded = Math.round(seconds);
    const [hours, minutes] = [Math.floor(rounded / 3600), Math.floor((rounded % 3600) / 60)];
    if (hours) return `${hours} h ${String(minutes).padStart(2, "0")} min`;
    return `${minutes} min ${String(rounded % 60).padStart(2, "0")} s`;
  }

  /** A stretch of time as people guess it. */
  function roughly(seconds) {
    return seconds < 1 ? "less than a second" : seconds < 60 ? `${Math.round(seconds)} s` : duration(seconds);
  }

  const whole = new Intl.NumberFormat("en", { useGrouping: "min2", maximumFractionDigits: 0 });
  const short = new Intl.NumberFormat("en", { useGrouping: "min2", maximumSignificantDigits: 4 });

  /** A number with as many digits as tell something. */
  function number(value) {
    if (typeof value !== "number") return text(value);
    const size = Math.abs(value);
    if (size >= 1e15 || (size < 1e-4 && size > 0)) return value.toExponential(3);
    return (size >= 1000 || Number.isInteger(value) ? whole : short).format(value);
  }

  function text(value) {
    return typeof value === "string" ? value : JSON.stringify(value);
  }

  /** A value in a table: a long one on one line, cut by the style; the end of a path stays in sight. */
  function brief(value) {
    const words = text(value);
    if (words.length <= 24) return words;
    const slash = words.lastIndexOf("/");
    const cut = slash > 0 && words.length - slash <= 24 ? slash : words.length;
    return el(
      "span",
      { class: "brief", title: words },
      el("span", {}, words.slice(0, cut)),
      words.slice(cut),
    );
  }

  /** When something was, with the date only if it was not today. */
  function moment(seconds) {
    const date = new Date(seconds * 1000);
    const time = date.toLocaleTimeString([], { timeStyle: "medium", hourCycle: "h23" });
    return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString()} ${time}`;
  }

  /** What an object of the data has of its own: keys are anybody's, also `constructor`. */
  function own(object, key) {
    return object && Object.hasOwn(object, key) ? object[key] : undefined;
  }

  /** `3 runs`, `1 run`. */
  function count(size, word) {
    return `${number(size)} ${word}${size === 1 ? "" : "s"}`;
  }

  /** The order of values of any kind: numbers, then texts, in either direction; what is missing is last. */
  const collator = new Intl.Collator(undefined, { numeric: true });
  const kind = (value) => (value === undefined || value === null ? 2 : typeof value === "number" ? 0 : 1);
  function order(a, b, direction = 1) {
    if (kind(a) !== kind(b) || kind(a) === 2) return kind(a) - kind(b);
    return direction * (kind(a) === 0 ? a - b : collator.compare(text(a), text(b)));
  }

  /** A row and the runs nested in it. */
  function partsOf(row) {
    return [row, ...(row.runs ?? []).flatMap(partsOf)];
  }

  // --- the view's state: in the URL's fragment, so that a view can be shared ---

  let listener = () => {};
  let state = new URLSearchParams(location.hash.slice(1));

  function get(key) {
    return state.get(key) ?? "";
  }

  /** Set keys of the state; an empty value removes one. */
  function set(key, value) {
    const changes = typeof key === "string" ? { [key]: value } : key;
    const elsewhere = "view" in changes && changes.view !== get("view"); // the way back is to what was seen
    for (const [name, wanted] of Object.entries(changes)) {
      if (wanted) state.set(name, wanted);
      else state.delete(name);
    }
    history[elsewhere ? "pushState" : "replaceState"](null, "", `#${state}`);
    listener();
  }

  window.addEventListener("hashchange", () => {
    state = new URLSearchParams(location.hash.slice(1));
    listener();
  });

  Object.assign(Ductaflow, {
    LIGHTS,
    el,
    svg,
    bar,
    duration,
    roughly,
    number,
    text,
    brief,
    moment,
    count,
    own,
    order,
    partsOf,
    state: {
      get,
      set,
      keys: () => [...state.keys()],
      onChange: (change) => {
        listener = change;
      },
    },
    light: (row) => LIGHTS[row.light] ?? LIGHTS.waiting,
  });
})();
