/** The page: header, filters, views; it follows the file it was loaded from while a session runs. */
(() => {
  "use strict";

  const { el, bar, roughly, number, text, moment, count, order, own, partsOf, state, LIGHTS } = Ductaflow;
  const root = document.getElementById("page");
  const VIEWS = {
    runs: "Runs",
    failures: "Failures",
    compare: "Compare",
    graph: "Graph",
    timeline: "Timeline",
  };
  /** Without a sign of life for so many seconds a session is taken for dead. */
  const PATIENCE = 15;
  /** Up to so many instances each is one square of the picture at the top. */
  const SQUARES = 3000;

  let page = JSON.parse(document.getElementById("data").textContent);

  // The page in the hidden frame only hands over its data.
  if (location.hash === "#follow" && parent !== window) {
    parent.postMessage({ ductaflow: page }, "*");
    return;
  }

  let byPath = new Map();
  const api = {
    el,
    svg: Ductaflow.svg,
    get: state.get,
    set: state.set,
    light: Ductaflow.light,
    byPath: (path) => byPath.get(path),
    visible: () => visible,
    open(path) {
      const others = state
        .get("open")
        .split("|")
        .filter((one) => one && one !== path);
      const hidden = !visible.some((row) => row.path === path); // then the filters go
      state.set({ ...(hidden ? unfiltered() : {}), view: "", open: [...others, path].join("|") });
      document.getElementById(`row-${path}`)?.scrollIntoView({ block: "center" });
      document.querySelector(`[data-path="${CSS.escape(path)}"]`)?.focus();
    },
  };

  // --- filters ---

  let visible = [];
  const haystacks = new WeakMap();

  function haystack(row) {
    if (!haystacks.has(row)) {
      const parts = [
        row.id,
        ...Object.values(row.scenario ?? {}).map(text),
        ...partsOf(row).flatMap((part) => [
          part.name,
          part.flow,
          part.error?.type,
          part.error?.message,
          ...(part.warnings ?? []).map((warning) => warning.text),
        ]),
      ];
      haystacks.set(row, parts.filter(Boolean).join("\n").toLowerCase());
    }
    return haystacks.get(row);
  }

  function list(key) {
    return state.get(key).split(",").filter(Boolean);
  }

  function filtered() {
    const words = state.get("q").toLowerCase().split(/\s+/).filter(Boolean);
    const lights = list("light");
    const flow = state.get("flow");
    const now = state.get("now");
    const dimensions = page.dimensions
      .map((name) => [name, state.get(`d.${name}`)])
      .filter(([, wanted]) => wanted);
    return page.rows.filter(
      (row) =>
        (!lights.length || lights.includes(row.light)) &&
        (!flow || row.flow === flow) &&
        (!now || row.now) &&
        dimensions.every(
          ([name, wanted]) => own(row.scenario, name) !== undefined && text(row.scenario[name]) === wanted,
        ) &&
        words.every((word) => haystack(row).includes(word)),
    );
  }

  function select(key, title, values) {
    const element = el(
      "select",
      { "aria-label": title, "data-key": key, onchange: (event) => state.set(key, event.target.value) },
      el("option", { value: "" }, `${title}: all`),
      values.map((value) =>
        el("option", { value, selected: value === state.get(key) }, `${title}: ${value}`),
      ),
    );
    element.value = state.get(key);
    return element;
  }

  function values(of) {
    return [...new Set(page.rows.map(of).filter((value) => value !== undefined))].sort(order);
  }

  // Always the same element: another one would break what is being composed, and forget what to undo.
  let composing = false;
  const search = el("input", {
    type: "search",
    placeholder: "search name, flow, error, warning",
    "aria-label": "search",
    oninput: () => composing || state.set("q", search.value),
    oncompositionstart: () => {
      composing = true;
    },
    oncompositionend: () => {
      composing = false;
      state.set("q", search.value);
    },
  });

  function filters() {
    const flows = values((row) => row.flow);
    if (!composing && search.value !== state.get("q")) search.value = state.get("q");
    return [
      search,
      page.dimensions.map((name) => {
        const found = values((row) => own(row.scenario, name));
        return found.length > 1 && found.length <= 500 && select(`d.${name}`, name, found.map(text));
      }),
      flows.length > 1 && select("flow", "flow", flows),
      page.session &&
        page.rows.some((row) => !row.now) &&
        el(
          "label",
          {},
          el("input", {
            type: "checkbox",
            "data-key": "now",
            checked: Boolean(state.get("now")),
            onchange: (event) => state.set("now", event.target.checked ? "1" : ""),
          }),
          " this session only",
        ),
      Object.keys(unfiltered()).length > 0 &&
        el("button", { type: "button", onclick: () => state.set(unfiltered()) }, "clear filters"),
    ];
  }

  /** The change of the state that leaves no filter. */
  function unfiltered() {
    const keys = state
      .keys()
      .filter((key) => ["q", "light", "flow", "now"].includes(key) || key.startsWith("d."));
    return Object.fromEntries(keys.map((key) => [key, ""]));
  }

  // --- header ---

  function counts() {
    const found = Object.fromEntries(Object.keys(LIGHTS).map((light) => [light, 0]));
    for (const row of page.rows) found[row.light] += 1;
    return found;
  }

  /** Whether a session that is not known to have died gives no sign of life any more. */
  function dies() {
    return (
      page.session?.state === "running" &&
      Date.now() / 1000 - page.generated > Math.max(PATIENCE, 4 * (page.session.interval ?? 1))
    );
  }

  function condition(found) {
    const { session } = page;
    if (!session) return `written ${moment(page.generated)}`;
    const mine = page.rows.filter((row) => row.now);
    const done = mine.filter((row) => !["running", "waiting"].includes(row.light) && !row.interrupted).length;
    const fresh = mine.filter((row) => row.fresh).length;
    const elapsed = roughly((session.ended ?? page.generated) - session.started);
    const upToDate = fresh ? `, ${number(fresh)} of them up to date` : "";
    if (session.state === "died")
      return `The session stopped: its last sign of life was ${moment(page.generated)}, after ${elapsed}. ${done} of ${mine.length} were done.`;
    if (session.state === "running") {
      const left = typeof session.remaining === "number" ? `, about ${roughly(session.remaining)} left` : "";
      return `running for ${elapsed}: ${number(done)} of ${number(mine.length)} done${upToDate}${left}`;
    }
    const word = session.state === "stopped" ? "stopped" : "finished";
    const size =
      done < session.selected
        ? `${number(done)} of ${count(session.selected, "instance")}`
        : count(done, "instance");
    return `${word} ${moment(session.ended)} after ${elapsed}: ${size}${upToDate}${found.waiting ? `, ${found.waiting} not run` : ""}`;
  }

  function chips(found) {
    const chosen = list("light");
    return Object.entries(LIGHTS)
      .filter(
        ([light]) => found[light] || ["red", "orange", "green"].includes(light) || chosen.includes(light),
      )
      .map(([light, { symbol, word }]) => {
        const pressed = chosen.includes(light);
        const wanted = pressed ? chosen.filter((one) => one !== light) : [...chosen, light];
        const shown = light === "waiting" && page.session?.state !== "running" ? "not run" : word;
        return el(
          "button",
          {
            type: "button",
            class: `chip ${light}`,
            "aria-pressed": String(pressed),
            "data-light": light,
            onclick: () => state.set("light", wanted.join(",")),
          },
          el("span", { "aria-hidden": "true" }, symbol),
          el("strong", {}, ` ${number(found[light])}`),
          ` ${shown}`,
        );
      });
  }

  function shares(found) {
    const shown = ["green", "orange", "red", "xfailed", "running", "waiting"].filter((light) => found[light]);
    return el(
      "div",
      {
        class: "shares",
        role: "img",
        "aria-label": shown.map((light) => `${found[light]} ${light}`).join(", "),
      },
      shown.map((light) => bar(found[light] / page.rows.length, { class: light })),
    );
  }

  function squares() {
    if (page.rows.length < 2 || page.rows.length > SQUARES) return [];
    const element = el(
      "div",
      { class: "squares", "aria-hidden": "true" },
      page.rows.map((row) =>
        el("i", { class: row.light, title: `${row.name}: ${row.light}`, "data-open": row.path }),
      ),
    );
    element.addEventListener(
      "click",
      (event) => event.target.dataset.open && api.open(event.target.dataset.open),
    );
    return element;
  }

  function header() {
    const found = counts();
    const { session } = page;
    const versions = Object.entries(session?.versions ?? {}).map(([name, version]) => `${name} ${version}`);
    return [
      el("h1", {}, page.project, " ", el("small", { class: "muted" }, "scenarios")),
      el("p", { class: "condition", role: "status" }, condition(found)),
      (session?.problems ?? []).map((problem) =>
        el("p", { class: "problem message" }, el("strong", {}, "✖ not collected: "), problem),
      ),
      el("div", { class: "chips" }, chips(found)),
      shares(found),
      squares(),
      session &&
        el(
          "p",
          { class: "muted meta" },
          el("code", {}, session.command),
          session.workers?.length > 1 && el("span", {}, count(session.workers.length, "worker")),
          versions.map((version) => el("span", {}, version)),
          session.html && el("a", { href: session.html }, "pytest-html's report"),
        ),
    ];
  }

  // --- failures ---

  function clusters(title, found, unshown) {
    if (!found.length) return [];
    return [
      el("h2", {}, title),
      el(
        "ol",
        { class: "clusters" },
        found.map((cluster) =>
          el(
            "li",
            {},
            el(
              "p",
              { class: "message" },
              el("strong", {}, `${cluster.count} of ${cluster.of}`),
              ` ${cluster.place ? `${cluster.place} ` : ""}`,
              cluster.type && el("strong", {}, `${cluster.type}: `),
              cluster.message,
            ),
            cluster.example &&
              cluster.example !== cluster.message &&
              el("p", { class: "muted message" }, `for example: ${cluster.example}`),
            (cluster.common ?? []).map((fact) => el("p", { class: "fact" }, fact)),
            members(cluster),
          ),
        ),
      ),
      unshown ? el("p", { class: "muted" }, `and ${count(unshown, "more cause")}`) : [],
    ];
  }

  const expanded = new Set(); // clusters of which all members are shown
  let printing = false;

  function members({ place, type, message, paths }) {
    const key = [place, type, message].join(" ");
    const all = printing || expanded.has(key) || paths.length <= 10;
    const link = (path) =>
      el(
        "a",
        {
          href: `#open=${encodeURIComponent(path)}`,
          "data-member": `${key} ${path}`,
          onclick: (event) => {
            event.preventDefault();
            api.open(path);
          },
        },
        byPath.get(path)?.name ?? path,
      );
    const more = {
      type: "button",
      "data-member": key,
      onclick: () => {
        expanded.add(key);
        render();
      },
    };
    return el(
      "p",
      { class: "members" },
      paths.slice(0, all ? paths.length : 10).map(link),
      !all && el("button", more, `and ${paths.length - 10} more`),
    );
  }

  for (const [name, prints] of [
    ["beforeprint", true],
    ["afterprint", false],
  ])
    window.addEventListener(name, () => {
      printing = prints;
      render();
    });

  Ductaflow.failures = (element) => {
    const shown = [
      ...clusters("Failures", page.clusters, page.unshown.clusters),
      ...clusters("Warnings", page.warnings, page.unshown.warnings),
    ];
    const nothing = el("p", { class: "muted" }, "Nothing failed, and nothing warned.");
    replace(element, shown.length ? shown : [nothing], ["member"]);
  };

  // --- views ---

  function available() {
    const measured = Object.keys(page.measures).length > 0 || page.before;
    const needs = page.rows.some((row) => row.needs);
    const executed = page.rows.some((row) => row.now && !row.fresh && row.start);
    const shown = {
      runs: true,
      failures: page.clusters.length || page.warnings.length,
      compare: measured,
      graph: needs,
      timeline: executed,
    };
    return Object.keys(VIEWS).filter((view) => shown[view]);
  }

  /** What the view of causes is called: by what there is. */
  function causes() {
    if (!page.warnings.length) return "Failures";
    return page.clusters.length ? "Failures and warnings" : "Warnings";
  }

  function tabs(views, view) {
    const sizes = {
      failures: [
        page.clusters.length && `✖ ${page.clusters.length + page.unshown.clusters}`,
        page.warnings.length && `▲ ${page.warnings.length + page.unshown.warnings}`,
      ]
        .filter(Boolean)
        .join(" "),
    };
    return views.map((name) =>
      el(
        "button",
        {
          type: "button",
          "aria-current": name === view ? "page" : null,
          "data-view": name,
          onclick: () => state.set("view", name === "runs" ? "" : name),
        },
        name === "failures" ? causes() : VIEWS[name],
        sizes[name] ? [" ", el("span", { class: "size", title: "causes" }, sizes[name])] : null,
      ),
    );
  }

  const parts = {
    head: el("header"),
    tabs: el("nav", { "aria-label": "views", class: "tabs" }),
    filters: el("div", { class: "filters", role: "search" }),
    views: Object.fromEntries(
      Object.keys(VIEWS).map((view) => [view, el("section", { id: view, "aria-label": VIEWS[view] })]),
    ),
  };

  /** Replace those of an element's children that changed; what has the focus keeps it. */
  function replace(element, children, keys) {
    const active = element.contains(document.activeElement) ? document.activeElement : null;
    const key = active && keys.find((name) => active.dataset[name] !== undefined);
    const value = key && active.dataset[key];
    const wanted = children.flat(3).filter(Boolean);
    wanted.forEach((child, index) => {
      const there = element.childNodes[index];
      if (!there) element.append(child);
      else if (!there.isEqualNode(child)) there.replaceWith(child); // else somebody may be pressing it
    });
    while (element.childNodes.length > wanted.length) element.lastChild.remove();
    if (document.activeElement === active) return;
    if (key) element.querySelector(`[data-${key}="${CSS.escape(value)}"]`)?.focus({ preventScroll: true });
  }

  /** What ran when the session died was interrupted. */
  function settle() {
    if (!dies()) return;
    Object.assign(page.session, { state: "died", ended: page.generated });
    for (const row of page.rows.flatMap(partsOf).filter((one) => one.light === "running")) {
      row.light = "red";
      row.interrupted = true;
      row.error = { type: "Interrupted", message: "the session stopped during the run" };
    }
  }

  function render() {
    settle();
    byPath = new Map(page.rows.map((row) => [row.path, row]));
    visible = filtered();
    const views = available();
    const view = views.includes(state.get("view")) ? state.get("view") : "runs";
    parts.head.className = page.session?.state ?? "";
    replace(parts.head, header(), ["light"]);
    replace(parts.tabs, tabs(views, view), ["view"]);
    replace(parts.filters, filters(), ["key"]);
    parts.filters.hidden = !["runs", "compare", "graph", "timeline"].includes(view) || !page.rows.length;
    for (const [name, element] of Object.entries(parts.views)) {
      element.hidden = name !== view;
      if (name === view) Ductaflow[name](element, page, api);
    }
  }

  // --- following ---

  /** Show what is new; the rows in sight stay where they are, also those whose elements are new. */
  function renderInPlace() {
    const rows = scrollY > 0 ? [...document.querySelectorAll("#runs tbody tr")] : [];
    const before = rows.map((row) => [row.id, row.getBoundingClientRect()]);
    render();
    const shifts = before
      .filter(([id, { top, bottom }]) => bottom > 0 && top < innerHeight && document.getElementById(id))
      .map(([id, { top }]) => document.getElementById(id).getBoundingClientRect().top - top)
      .sort((a, b) => a - b);
    if (shifts.length) scrollBy({ top: shifts[Math.floor(shifts.length / 2)], behavior: "instant" }); // some moved
  }

  /** Load the file again in a hidden frame, which hands over its data, unless the session came to an end. */
  function follow() {
    if (!["running", "died"].includes(page.session?.state)) return;
    const asked = performance.now();
    const frame = el("iframe", { hidden: true, title: "the page as it is now" });
    const again = () => {
      window.removeEventListener("message", receive);
      frame.remove();
      const took = (performance.now() - asked) / 1000;
      setTimeout(follow, 1000 * Math.max(1, 10 * took));
    };
    const receive = (event) => {
      if (event.source !== frame.contentWindow || event.data?.ductaflow?.format !== page.format) return;
      const newer = event.data.ductaflow.generated !== page.generated;
      if (newer) page = event.data.ductaflow;
      if (newer || dies()) renderInPlace();
      clearTimeout(given);
      again();
    };
    const given = setTimeout(() => {
      if (dies()) renderInPlace();
      again();
    }, 10000);
    window.addEventListener("message", receive);
    frame.src = `${location.href.split("#")[0].split("?")[0]}?${Date.now()}#follow`;
    document.body.append(frame);
  }

  /** Scroll to the row that the address opens last, unless it was open before. */
  let opened = "";
  function reveal() {
    const paths = state.get("open").split("|").filter(Boolean);
    const path = paths.at(-1);
    const news = path && !opened.split("|").includes(path);
    opened = state.get("open");
    if (!news || state.get("view")) return;
    const row = page.rows.find((one) => `${path}/`.startsWith(`${one.path}/`));
    if (row) document.getElementById(`row-${row.path}`)?.scrollIntoView({ block: "center" });
  }

  root.append(parts.head, parts.tabs, parts.filters, ...Object.values(parts.views));
  if (!page.rows.length) root.append(el("p", {}, "There are no runs here yet."));
  state.onChange(render);
  render();
  if (performance.getEntriesByType("navigation")[0]?.type === "navigate") reveal();
  window.addEventListener("hashchange", reveal);
  follow();
})();
