/*
 * What the pictures share: how numbers are written, how a picture is redrawn, the parts that it is made of.
 *
 * A picture is drawn by a pure function of (page, api): everything that can be chosen lives in the URL's
 * fragment, which `api` reads and writes. `tools.picture` calls that function again for every new page of
 * data, keeps focus and scroll positions by name (data-focus, data-scroll), and owns the only listeners:
 * marks and buttons say with data attributes what they do (data-open, data-set with data-value, data-more).
 * Nothing here makes elements from markup, so no string of a user can become one.
 */
(() => {
  "use strict";

  globalThis.Ductaflow = globalThis.Ductaflow || {};

  // ---------------------------------------------------------------- values and numbers

  const collator = new Intl.Collator("en", { numeric: true });
  const minus = (text) => text.replace("-", "−");
  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

  /** `object[key]` if it is the object's own: a measure may be called "constructor". */
  const own = (object, key) => (object && Object.hasOwn(object, key) ? object[key] : undefined);

  /** A scenario's or measure's value as text. */
  function text(value) {
    if (value === undefined || value === null) return "–";
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  }

  const formats = new Map();

  function intl(options) {
    const key = JSON.stringify(options);
    if (!formats.has(key)) formats.set(key, new Intl.NumberFormat("en", { useGrouping: "min2", ...options }));
    return formats.get(key);
  }

  /** How to write these numbers so that they can be compared: one number of decimals for all of them. */
  function formatter(values) {
    let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    let whole = true;
    for (const value of values) {
      if (!isNumber(value)) continue;
      [low, high] = [Math.min(low, value), Math.max(high, value)];
      whole = whole && Number.isInteger(value);
    }
    if (low > high) [low, high] = [0, 0];
    const largest = Math.max(Math.abs(low), Math.abs(high));
    const span = high - low > 1e-9 * largest ? high - low : 0; // less is rounding
    const long = largest >= 1e15 || (largest >= 1e12 && !(whole && span > 0 && span < largest / 1000));
    if (long || (largest > 0 && largest < 1e-3)) {
      return (value) => (value === 0 ? "0" : minus(value.toExponential(2)));
    }
    const usual = largest > 0 ? Math.min(6, 3 - Math.floor(Math.log10(largest))) : 0;
    const apart = span > 0 ? Math.min(10, 1 - Math.floor(Math.log10(span))) : 0; // to tell values apart
    const decimals = whole ? 0 : Math.max(0, usual, apart);
    const fixed = intl({ minimumFractionDigits: decimals, maximumFractionDigits: decimals });
    const small = intl({ maximumSignificantDigits: 2 });
    return (value) =>
      minus((value !== 0 && Math.abs(value) < 0.5 * 10 ** -decimals ? small : fixed).format(value));
  }

  /** One number with up to four significant digits. */
  const number = (value) => formatter([value])(value);

  /** "+0.8", "−3": a difference, always with its sign. */
  function signed(value, format) {
    return `${value > 0 ? "+" : value < 0 ? "" : "±"}${format(value)}`;
  }

  /** "+6.5 %": by how much `value` is more than `base`; empty if that has no meaning. */
  function percent(value, base) {
    if (base === 0) return "";
    const change = (100 * (value - base)) / Math.abs(base);
    if (!Number.isFinite(change)) return "";
    const size = Math.abs(change);
    const decimals = size >= 100 || size === 0 ? 0 : size >= 0.1 ? 1 : 2;
    return `${signed(change, (it) => minus(intl({ maximumFractionDigits: decimals }).format(it)))}\u00a0%`;
  }

  /** Seconds for reading: "0.53 s", "12.3 s", "2 min 05 s", "1 h 02 min", with spaces that do not break. */
  function duration(seconds) {
    const size = Math.abs(seconds);
    const whole = Math.round(size);
    const two = (value) => String(Math.floor(value)).padStart(2, "0");
    const words = () => {
      if (size === 0) return "0 s";
      if (size < 0.9995) return `${size.toFixed(size < 0.01 ? 3 : 2)} s`;
      if (size < 59.95) return `${size.toFixed(1)} s`;
      if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
      return `${intl({}).format(Math.floor(whole / 3600))} h ${two((whole % 3600) / 60)} min`;
    };
    return (seconds < 0 ? "−" : "") + words().replaceAll(" ", "\u00a0");
  }

  /** "1 instance", "1,200 instances". */
  const count = (size, one, many = `${one}s`) =>
    `${intl({ useGrouping: true }).format(size)} ${size === 1 ? one : many}`;

  /** "a", "a and b", "a, b and c". */
  const listed = (words) =>
    words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;

  /** Round numbers from at most `low` to at least `high`, about `wanted` of them. */
  function ticks(low, high, wanted) {
    const alike = high - low <= 1e-11 * Math.max(Math.abs(low), Math.abs(high)); // but for rounding
    const span = alike ? Math.abs(high) || 1 : high - low;
    const rough = span / Math.max(1, wanted);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * ([1, 2, 2.5, 5].find((factor) => factor * power >= rough * 0.999) || 10);
    const first = Math.floor(low / step + 1e-9);
    const last = Math.ceil((alike ? low + span : high) / step - 1e-9);
    return Array.from({ length: last - first + 1 }, (_, index) =>
      Number(((first + index) * step).toPrecision(15)),
    );
  }

  let context = null;

  /** Width of a text in px; `font` is its size, or "600 13px". */
  function measure(words, font = "12px") {
    context = context || document.createElement("canvas").getContext("2d");
    context.font = `${font} system-ui, sans-serif`;
    return context.measureText(words).width;
  }

  /** The text, cut in the middle so that it is at most `width` px wide. */
  function fit(words, width, font = "12px") {
    // A text of a thousand letters is not measured to find that it is too long.
    if (words.length < width && measure(words, font) <= width) return words;
    let [few, many] = [0, Math.min(words.length, Math.ceil(width / 2))];
    const cut = (length) => {
      const head = Math.ceil(length * 0.6);
      return `${words.slice(0, head)}…${length > head ? words.slice(head - length) : ""}`;
    };
    while (few < many) {
      const middle = Math.ceil((few + many) / 2);
      if (measure(cut(middle), font) <= width) few = middle;
      else many = middle - 1;
    }
    return few ? cut(few) : "";
  }

  // ---------------------------------------------------------------- rows

  /** The row's measures, name → value; a build has those of its flows that only one of them recorded. */
  function measuresOf(row) {
    let found = measureCache.get(row);
    if (found) return found;
    found = new Map();
    const twice = new Set();
    for (const run of row.runs || []) {
      for (const [name, value] of measuresOf(run)) {
        if (found.has(name)) twice.add(name);
        found.set(name, value);
      }
    }
    for (const name of twice) found.delete(name);
    for (const [name, value] of Object.entries(row.measures || {})) found.set(name, value);
    measureCache.set(row, found);
    return found;
  }
  const measureCache = new WeakMap();

  /** The lights in the order of how much they need attention. */
  const LIGHTS = ["red", "orange", "running", "xfailed", "waiting", "green"];

  /** Rows by light, worst first: [["red", 3], …]. */
  function byLight(rows) {
    const found = new Map();
    for (const row of rows) found.set(row.light, (found.get(row.light) || 0) + 1);
    return LIGHTS.filter((light) => found.has(light)).map((light) => [light, found.get(light)]);
  }

  const lightIn = (api, light) => `${api.light({ light }).symbol} ${api.light({ light }).word}`;

  // ---------------------------------------------------------------- a picture

  const pictures = new WeakMap();

  /**
   * Draw into `element`, now and whenever it is called again, the user chooses something or the width changes.
   * `draw(picture)` fills `picture.section(…)`s; `picture.point(mark or null)` may be set by it.
   */
  function picture(element, page, api, name, draw) {
    const names = pictures.get(element) || new Map();
    pictures.set(element, names);
    const it = names.get(name) || new Picture(api, name, draw);
    names.set(name, it);
    it.page = page;
    it.api = api;
    if (element.childNodes.length !== 1 || element.firstChild !== it.root) element.replaceChildren(it.root);
    it.redraw();
  }

  class Picture {
    constructor(api, name, draw) {
      this.api = api;
      this.draw = draw;
      this.root = api.el("div", { class: `picture picture-${name}` });
      this.tip = api.el("div", { class: "picture-tip", "aria-hidden": "true", hidden: "hidden" });
      this.sections = new Map();
      this.choices = new Map();
      /** How many rows of a table are shown, layouts that did not change: what no link shares. */
      this.kept = new Map();
      this.point = null;
      /** What there is to draw in, in px. */
      this.width = 800;
      this.listen();
    }

    /** A part with heading, controls and content: its content is replaced, its controls stay. */
    section(name, title) {
      let part = this.sections.get(name);
      if (!part) {
        const [bar, body] = [this.api.el("div", { class: "bar" }), this.api.el("div", { class: "body" })];
        const heading = this.api.el("h2", {});
        part = {
          box: this.api.el("section", { class: `part part-${name}` }, heading, bar, body),
          heading,
          bar,
          body,
        };
        this.sections.set(name, part);
      }
      part.heading.textContent = title;
      part.heading.hidden = !title;
      return {
        fill: (controls, children) => {
          this.drawn.push(part.box);
          replace(part.bar, controls);
          part.bar.hidden = !controls.length;
          part.body.replaceChildren(...children);
        },
      };
    }

    /** A select for a key of the fragment; options are [value, label]. It stays the same element. */
    choice(key, label, options, value) {
      let part = this.choices.get(key);
      if (!part) {
        const select = this.api.el("select", { "data-set": key, "data-focus": key });
        part = { box: this.api.el("label", { class: "choice" }, label, select), select, options: "" };
        this.choices.set(key, part);
      }
      const options_ = JSON.stringify(options);
      if (part.options !== options_) {
        part.options = options_;
        part.select.replaceChildren(
          ...options.map(([it, words]) => this.api.el("option", { value: it }, words)),
        );
      }
      part.select.value = value;
      return part.box;
    }

    /** A key's value if it is one of the possible ones, else the first of those. */
    chosen(key, possible, otherwise) {
      const value = this.api.get(key);
      return possible.includes(value) ? value : possible.includes(otherwise) ? otherwise : possible[0];
    }

    redraw() {
      // Asked before anything changes: afterwards it would cost a layout for each section.
      this.width = Math.max(280, this.root.clientWidth || this.width);
      const active = this.root.contains(document.activeElement) ? document.activeElement : null;
      const focus = active?.getAttribute("data-focus");
      const places = new Map();
      for (const it of this.root.querySelectorAll("[data-scroll]")) {
        places.set(it.getAttribute("data-scroll"), [it.scrollLeft, it.scrollTop]);
      }
      const [pointed, event] = [this.pointed?.getAttribute("data-focus"), this.event];
      this.hide();
      this.point = null;
      this.drawn = [];
      this.draw(this);
      replace(this.root, [...this.drawn, this.tip]);
      for (const it of this.root.querySelectorAll("[data-scroll]")) {
        const place = places.get(it.getAttribute("data-scroll"));
        if (place) [it.scrollLeft, it.scrollTop] = place;
      }
      for (const chart of this.root.querySelectorAll("svg.marks")) {
        if (!chart.querySelector("[data-mark]")) continue;
        chart.querySelector("[data-mark]").setAttribute("tabindex", "0");
      }
      if (focus && document.activeElement !== active) this.focus(this.named(focus));
      if (pointed) this.over(this.named(pointed), event);
    }

    named(focus) {
      return this.root.querySelector(`[data-focus="${CSS.escape(focus)}"]`);
    }

    focus(mark) {
      if (!mark) return;
      for (const other of mark.closest("svg")?.querySelectorAll('[tabindex="0"]') || [])
        other.setAttribute("tabindex", "-1");
      if (mark.hasAttribute("data-mark")) mark.setAttribute("tabindex", "0");
      mark.focus({ preventScroll: true });
    }

    // ------------------------------------------------------------ what the user does

    listen() {
      const on = (event, does) => this.root.addEventListener(event, does);
      on("click", (event) => this.act(event.target));
      on("change", (event) => {
        const key = event.target.getAttribute("data-set");
        if (key) this.set(key, event.target.value);
      });
      on("keydown", (event) => this.key(event));
      on("pointerover", (event) => this.over(event.target.closest("[data-mark]"), event));
      on("pointerleave", () => this.over(null));
      on("focusin", (event) => this.over(event.target.closest("[data-mark]")));
      on("focusout", () => this.over(null));
      this.root.addEventListener("scroll", () => this.hide(), true);
      new ResizeObserver(() => {
        const width = this.root.clientWidth;
        if (width && this.page && Math.abs(Math.max(280, width) - this.width) > 20) this.redraw();
      }).observe(this.root);
    }

    set(key, value) {
      this.api.set(key, value);
      this.redraw();
    }

    act(target) {
      const mark = target.closest("[data-open], [data-more], button[data-set], g[data-set]");
      if (!mark) return;
      if (mark.hasAttribute("data-open")) this.api.open(mark.getAttribute("data-open"));
      else if (mark.hasAttribute("data-set"))
        this.set(mark.getAttribute("data-set"), mark.getAttribute("data-value"));
      else {
        const name = mark.getAttribute("data-more");
        this.kept.set(name, (this.kept.get(name) || 0) + 500);
        this.redraw();
      }
    }

    /** So many rows of a table or list are shown. */
    shown(name, first = 500) {
      return first + (this.kept.get(name) || 0);
    }

    /** Enter and Space do what a click does; arrows go to the next mark in that direction. */
    key(event) {
      const mark = event.target.closest("[data-mark]");
      if (!mark || event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === "Enter" || event.key === " ") this.act(mark);
      else if (event.key === "Escape") this.hide();
      else if (event.key.startsWith("Arrow")) step(mark, event.key);
      else return;
      event.preventDefault();
    }

    // ------------------------------------------------------------ the tip beside a mark

    over(mark, event) {
      if (mark === this.pointed && mark) return;
      this.hide();
      [this.pointed, this.event] = [mark, event];
      if (this.point) this.point(mark);
      if (!mark) return;
      // The browser's own tip would come a second later on top of ours: the title is away while ours is shown.
      this.title = mark.querySelector(":scope > title");
      if (!this.title) return;
      const lines = this.title.textContent.split("\n");
      if (event) this.title.remove();
      this.tip.replaceChildren(...lines.map((line) => this.api.el("div", {}, line)));
      this.tip.hidden = false;
      const [at, size] = [mark.getBoundingClientRect(), this.tip.getBoundingClientRect()];
      const middle = event && at.width > 120 ? event.clientX : at.left + at.width / 2;
      const left = Math.max(
        4,
        Math.min(middle - size.width / 2, document.documentElement.clientWidth - size.width - 4),
      );
      const above = at.top - size.height - 6;
      this.tip.style.left = `${left}px`;
      this.tip.style.top = `${above > 4 ? above : at.bottom + 6}px`;
    }

    hide() {
      if (this.title && this.pointed && !this.title.parentNode) this.pointed.prepend(this.title);
      this.title = this.pointed = null;
      this.tip.hidden = true;
    }
  }

  /** Replace the children unless they are these already: a select that is open stays so. */
  function replace(parent, children) {
    const same = parent.childNodes.length === children.length;
    if (!same || children.some((child, index) => child !== parent.childNodes[index]))
      parent.replaceChildren(...children);
  }

  /** Focus the nearest mark of the same chart in the arrow's direction. */
  function step(mark, arrow) {
    const sideways = arrow === "ArrowLeft" || arrow === "ArrowRight";
    const sign = arrow === "ArrowRight" || arrow === "ArrowDown" ? 1 : -1;
    const centre = (it) => {
      const box = it.getBoundingClientRect();
      const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
      return sideways ? [x, y] : [y, x];
    };
    const [along, across] = centre(mark);
    let [best, least] = [null, Infinity];
    for (const other of mark.closest("svg").querySelectorAll("[data-mark]")) {
      if (other === mark) continue;
      const [a, b] = centre(other);
      const ahead = sign * (a - along);
      if (ahead <= 0.5) continue;
      const far = ahead + 3 * Math.abs(b - across);
      if (far < least) [best, least] = [other, far];
    }
    if (!best) return;
    mark.setAttribute("tabindex", "-1");
    best.setAttribute("tabindex", "0");
    best.focus({ preventScroll: true });
    best.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Part of a picture with a text beside the pointer or focus; with `open`, a path, it opens that row. */
  function mark(api, { title, focus, open, set, value, ...attributes }, ...children) {
    const more = { "data-mark": "", "data-focus": focus, tabindex: "-1", role: "img" };
    if (open) Object.assign(more, { "data-open": open, role: "button" });
    if (set) Object.assign(more, { "data-set": set, "data-value": value, role: "button" });
    return api.svg("g", { ...more, ...attributes }, api.svg("title", {}, title), ...children);
  }

  /** An axis that stays and, beside it, what scrolls sideways. */
  function scroller(api, name, axis, plot) {
    return api.el("div", { class: "scroller", "data-scroll": name }, axis, plot);
  }

  function surface(api, width, height, label, ...children) {
    const size = { width: Math.ceil(width), height: Math.ceil(height) };
    return label
      ? api.svg("svg", { ...size, class: "marks", role: "group", "aria-label": label }, ...children)
      : api.svg("svg", { ...size, class: "axis", "aria-hidden": "true" }, ...children);
  }

  const label = (api, x, y, words, attributes = {}) => api.svg("text", { x, y, ...attributes }, words);
  const line = (api, x1, y1, x2, y2, attributes = {}) => api.svg("line", { x1, y1, x2, y2, ...attributes });
  const box = (api, x, y, width, height, attributes = {}) =>
    api.svg("rect", {
      x: round(x),
      y: round(y),
      width: round(Math.max(0, width)),
      height: round(Math.max(0, height)),
      ...attributes,
    });
  const round = (value) => Math.round(value * 100) / 100;

  /** What is drawn over a bar's colour, by series; the first is plain. */
  const TEXTURES = [
    "",
    "M-1 3L3 -1M-1 9L9 -1M3 9L9 3",
    "M0 2H8M0 6H8",
    "M-1 -1L9 9M-1 5L3 9M5 -1L9 3",
    "M2 0V8M6 0V8",
    "M1 2h2M5 6h2",
    "M0 0L8 8M8 0L0 8",
    "M0 4H8M4 0V8",
  ];

  let patterns = 0;

  /** A texture's definition and its name; `tone` is the class that gives the colour. */
  function texture(api, drawing, tone) {
    patterns += 1;
    const id = `picture-texture-${patterns}`;
    const size = { width: 8, height: 8, patternUnits: "userSpaceOnUse" };
    const parts = [box(api, 0, 0, 8, 8, { class: "tone" }), api.svg("path", { d: drawing, class: "grain" })];
    return { id, definition: api.svg("pattern", { id, class: tone, ...size }, ...parts) };
  }

  function legend(api, title, entries) {
    const items = entries.map(({ swatch, name }) => api.el("li", {}, swatch, api.el("bdi", {}, name)));
    return api.el(
      "ul",
      { class: "legend", "aria-label": title ? `Legend: ${title}` : "Legend" },
      ...(title ? [api.el("li", { class: "of" }, title)] : []),
      ...items,
    );
  }

  globalThis.Ductaflow.pictures = {
    picture,
    mark,
    surface,
    scroller,
    legend,
    label,
    line,
    box,
    texture,
    TEXTURES,
    text,
    own,
    isNumber,
    collator,
    formatter,
    number,
    signed,
    percent,
    duration,
    count,
    listed,
    ticks,
    measure,
    fit,
    round,
    measuresOf,
    byLight,
    lightIn,
    LIGHTS,
  };
})();
