/** The table of instances, and what a row opens to. */
(() => {
  "use strict";

  const { el, bar, duration, number, text, brief, moment, count, order, own, partsOf, LIGHTS } = Ductaflow;
  const STEP = 200;
  const USUAL_FILES = ["notebook", "config", "log"];
  const UP_TO_DATE = " up to date";
  const SEVERITY = Object.keys(LIGHTS);
  const elements = new Map(); // path to the row's key and elements
  let limit = STEP;
  let reached = new Set(); // the opened rows, each of which was in sight once
  let longest = 0; // of all rows, in seconds
  let page = null;
  let api = null;

  // --- links and commands ---

  function href(...parts) {
    return parts
      .join("/")
      .split("/")
      .map((part) => (part === ".." ? part : encodeURIComponent(part)))
      .join("/");
  }

  function quoted(argument) {
    return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\"'\"'")}'`;
  }

  function stem(row) {
    return row.flow.split("/").pop().replace(/\.py$/, "");
  }

  function files(row) {
    if (!row.flow) return [];
    const names = {
      notebook: `${stem(row)}.ipynb`,
      log: `${stem(row)}_execution_output.txt`,
      config: `${stem(row)}_config.json`,
      html: `${stem(row)}.html`,
      "script's log": "_cli_execution_output.txt",
    };
    return (row.files ?? USUAL_FILES).map((kind) => [kind, href(row.path, names[kind])]);
  }

  function command(words, line) {
    const copy = el("button", { type: "button", class: "copy", title: `copy: ${line}` }, "copy");
    copy.addEventListener("click", () => {
      const done = () => {
        copy.textContent = "copied";
      };
      const select = () => getSelection().selectAllChildren(shown);
      if (navigator.clipboard) navigator.clipboard.writeText(line).then(done, select);
      else select();
    });
    const shown = el("code", {}, line);
    return el("div", { class: "command" }, el("span", { class: "muted" }, words), shown, copy);
  }

  function commands(row, instance) {
    const found = [];
    if (instance.id) {
      // What is red by what is expected of it alone is judged again, but not executed.
      const runs =
        ["red", "xfailed", "waiting"].includes(instance.light) && instance.error?.type !== "ExpectationError";
      const force = runs ? "" : "--ductaflow-force ";
      found.push(command("re-run", `pytest ${force}${quoted(instance.id)}`));
    }
    if (row.flow && (row.files ?? USUAL_FILES).includes("notebook")) {
      found.push(command("open", `jupyter lab ${quoted(`${page.runs}/${row.path}/${stem(row)}.ipynb`)}`));
    }
    return found;
  }

  // --- what a row opens to ---

  /** What somebody folded or unfolded stays so when its row is made again. */
  const folds = new Map();
  function fold(key, open, attributes, summary, ...content) {
    const toggle = () => folds.set(key, !element.open);
    const element = el(
      "details",
      { ...attributes, open: folds.get(key) ?? open },
      el("summary", { "data-fold": key, onclick: toggle }, summary),
      content,
    );
    return element;
  }

  function light(row, finished = page.session?.state !== "running") {
    const { symbol, word } = LIGHTS[row.light] ?? LIGHTS.waiting;
    const shown = row.light === "waiting" && finished ? "not run" : word;
    return el(
      "span",
      { class: `light ${row.light}` },
      el("span", { "aria-hidden": "true" }, symbol),
      ` ${shown}`,
    );
  }

  function clusterOf(row) {
    return page.clusters?.find((found) => found.count > 1 && found.paths.includes(row.path));
  }

  function failure(row) {
    const { error } = row;
    if (!error) return [];
    const cluster = clusterOf(row);
    return el(
      "section",
      { class: "failure" },
      el("p", { class: "message" }, el("strong", {}, error.type), error.message ? `: ${error.message}` : ""),
      error.place && el("p", { class: "muted" }, `at ${error.place}`),
      (error.frames ?? []).map((frame) =>
        el(
          "figure",
          { class: "source" },
          el("figcaption", {}, frame.place, frame.in && frame.in !== "<module>" ? ` in ${frame.in}` : ""),
          el(
            "pre",
            {},
            frame.source.map((line) =>
              el("span", { class: line.startsWith(">") ? "here" : null }, `${line}\n`),
            ),
          ),
        ),
      ),
      error.traceback &&
        fold(`${row.path} traceback`, false, {}, "traceback", el("pre", {}, error.traceback)),
      cluster &&
        el(
          "p",
          {},
          `${cluster.count} instances fail like this. `,
          here("view=failures", () => api.set("view", "failures"), "All failures"),
        ),
    );
  }

  function warnings(row) {
    if (!row.warned) return [];
    const shown = row.warnings ?? [];
    return el(
      "section",
      {},
      el("h2", {}, count(row.warned, "warning")),
      el(
        "ul",
        { class: "warnings" },
        shown.map((warning) =>
          el(
            "li",
            {},
            warning.text,
            el("span", { class: "muted" }, ` ${warning.place ?? ""}`),
            warning.line && el("span", { class: "muted" }, `, line ${warning.line} of the log`),
          ),
        ),
        shown.length < row.warned &&
          el("li", { class: "muted" }, `and ${row.warned - shown.length} more in the log`),
      ),
    );
  }

  function timings(row) {
    const found = (row.timings ?? []).filter(([line]) => line);
    if (!found.length) return [];
    const longest = Math.max(...found.map(([, seconds]) => seconds));
    const total = found.reduce((sum, [, seconds]) => sum + seconds, 0);
    return fold(
      `${row.path} timings`,
      false,
      { class: "timings" },
      `${count(found.length, "cell")}, ${duration(total)}`,
      el(
        "ol",
        {},
        found.map(([line, seconds], index) =>
          el(
            "li",
            {},
            el("span", { class: "muted" }, `cell ${index + 1}, line ${line}`),
            el("span", { class: "track" }, bar(seconds / longest, { class: "fill" })),
            el("span", { class: "figure" }, duration(seconds)),
          ),
        ),
      ),
    );
  }

  /** The keys in which the configs of a flow's rows differ. */
  const varying = new Map();
  function varies(flow, key) {
    if (!varying.has(flow)) {
      const keys = new Set();
      const look = (row) => {
        if (row.flow === flow)
          for (const name of [...Object.keys(row.config ?? {}), ...(row.without ?? [])]) keys.add(name);
        (row.runs ?? []).forEach(look);
      };
      page.rows.forEach(look);
      varying.set(flow, keys);
    }
    return varying.get(flow).has(key);
  }

  function config(row) {
    if (!row.config) return []; // it is not known yet
    const whole = { ...own(page.configs, row.flow), ...row.config };
    for (const key of row.without ?? []) delete whole[key];
    const entries = Object.entries(whole);
    const table = (chosen) =>
      el(
        "table",
        { class: "config" },
        chosen.map(([key, value]) =>
          el("tr", {}, el("th", { scope: "row" }, key), el("td", {}, el("code", {}, text(value)))),
        ),
      );
    const differing = entries.filter(([key]) => varies(row.flow, key));
    const common = entries.filter(([key]) => !varies(row.flow, key));
    return el(
      "section",
      {},
      differing.length > 0 && [el("h2", {}, "Config: differs from others"), table(differing)],
      common.length > 0 &&
        fold(
          `${row.path} config`,
          !differing.length && common.length < 8,
          {},
          differing.length ? "the same in all" : "Config",
          table(common),
        ),
    );
  }

  function figures(row) {
    if (!row.figures) return [];
    return el(
      "div",
      { class: "figures" },
      row.figures.map((name) =>
        el(
          "a",
          { href: href(name) },
          el("img", { src: href(name), loading: "lazy", alt: `figure of ${row.name}` }),
        ),
      ),
    );
  }

  /** A measure, with the light that it got if something was expected of it. */
  function measured(row, name) {
    const [light, reason] = own(row.judged, name) ?? [];
    const found = row.measures[name];
    const value = typeof found === "number" ? number(found) : brief(found);
    if (!light) return value;
    return el("span", { class: light, title: reason }, `${LIGHTS[light].symbol} `, value);
  }

  function measures(row) {
    const found = Object.entries(row.measures ?? {});
    if (!found.length) return [];
    return el(
      "dl",
      { class: "measures" },
      found.map(([name]) => [
        el("dt", {}, name),
        el("dd", {}, measured(row, name), own(page.measures, name) ? ` ${page.measures[name]}` : ""),
      ]),
    );
  }

  function progress(row) {
    if (row.light !== "running") return [];
    const { total = 0, done = 0 } = row.cells ?? {};
    return el(
      "p",
      { class: "progress" },
      total > 0 && [
        `cell ${Math.min(done + 1, total)} of ${total} `,
        el("progress", { max: total, value: done }),
      ],
      row.output?.length > 0 && el("code", { class: "last" }, row.output.at(-1)),
    );
  }

  /** Why an instance has not started. */
  function waiting(row) {
    if (row.light !== "waiting") return [];
    if (row.because) return el("p", {}, row.because);
    if (page.session?.state !== "running") return el("p", { class: "muted" }, "It was not run.");
    const open = (row.needs ?? []).filter((path) => ["running", "waiting"].includes(api.byPath(path)?.light));
    return el(
      "p",
      {},
      "waits for ",
      open.length ? open.map((path, index) => [index ? ", " : "", link(path)]) : "a free worker",
    );
  }

  function link(path) {
    const row = api.byPath(path);
    return row ? here(`open=${encodeURIComponent(path)}`, () => api.open(path), row.name) : path;
  }

  /** A link to another place of the page, where the filters and the order stay as they are. */
  function here(fragment, go, words) {
    const onclick = (event) => {
      event.preventDefault();
      go();
    };
    return el("a", { href: `#${fragment}`, onclick }, words);
  }

  function nested(row, instance) {
    if (!row.runs) return [];
    return el(
      "div",
      { class: "nested" },
      row.runs.map((run) => {
        const usually = run.light === "red" || run.light === "running" || isOpen(run);
        const element = fold(run.path, usually, {}, [
          light(run, true),
          el("span", { class: "name" }, run.name),
          el("span", { class: "muted" }, run.flow),
          warned(run) > 0 && el("span", { class: "orange" }, count(warned(run), "warning")),
          el("span", { class: "figure" }, duration(run.seconds)),
        ]);
        const fill = () => {
          if (element.open && element.children.length < 2) element.append(details(run, instance));
        };
        element.addEventListener("toggle", fill);
        element.firstChild.addEventListener("click", () => open(run, !element.open));
        fill();
        return element;
      }),
    );
  }

  function details(row, instance = row) {
    const paths = files(row);
    const element = el(
      "div",
      { class: "details" },
      progress(row),
      mark(row),
      waiting(row),
      failure(row),
      warnings(row),
      measures(row),
      config(row),
      nested(row, instance),
      figures(row),
      row.light !== "running" &&
        row.output &&
        el("section", {}, el("h2", {}, "Last lines of output"), el("pre", {}, row.output.join("\n"))),
      timings(row),
      row.needs &&
        el(
          "p",
          {},
          "uses ",
          row.needs.map((path, index) => [index ? ", " : "", link(path)]),
        ),
      el(
        "p",
        { class: "links" },
        paths.map(([kind, target]) => el("a", { href: target }, kind)),
        el("a", { href: `${href(row.path)}/` }, "directory"),
        row.start && el("span", { class: "muted" }, `started ${moment(row.start)}`),
        row.fresh && el("span", { class: "muted" }, "up to date, not executed again"),
        row.cut && el("span", { class: "muted" }, "shortened here: the record and the log have all"),
      ),
      commands(row, instance),
    );
    for (const one of element.querySelectorAll("a, button:not([data-focus])"))
      one.dataset.focus ??= `${row.path} ${one.title || one.textContent}`;
    return element;
  }

  // --- the table ---

  function columns() {
    const flows = new Set(page.rows.map((row) => row.flow));
    longest = page.rows.reduce((most, row) => Math.max(most, row.seconds ?? 0), 0.001);
    return [
      { key: "light", title: "Light", value: (row) => SEVERITY.indexOf(row.light), cell: opener },
      {
        key: "name",
        title: "Instance",
        value: (row) => row.name,
        cell: (row) => el("span", { class: row.name.length > 24 ? "name" : "name short" }, row.name),
      },
      ...page.dimensions.map((name) => ({
        key: `d.${name}`,
        title: name,
        value: (row) => own(row.scenario, name),
        cell: (row) => (own(row.scenario, name) === undefined ? "" : brief(row.scenario[name])),
      })),
      ...(flows.size > 1
        ? [{ key: "flow", title: "Flow or build", value: (row) => row.flow, cell: flowOf }]
        : []),
      {
        key: "seconds",
        title: "Duration",
        figure: true,
        value: (row) => row.seconds,
        cell: (row) => (row.light === "running" ? progress(row) : took(row)),
      },
      {
        key: "warned",
        title: "Warnings",
        figure: true,
        value: warned,
        cell: (row) => (warned(row) ? el("span", { class: "orange" }, number(warned(row))) : ""),
      },
      ...Object.entries(page.measures).map(([name, unit]) => ({
        key: `m.${name}`,
        title: unit ? `${name} [${unit}]` : name,
        figure: true,
        value: (row) => own(row.measures, name),
        cell: (row) => (own(row.measures, name) === undefined ? "" : measured(row, name)),
      })),
    ];
  }

  /** How often a row warned, with the runs nested in it. */
  function warned(row) {
    return partsOf(row).reduce((sum, part) => sum + (part.warned ?? 0), 0);
  }

  /** A flow's path, which may be broken after a directory. */
  function flowOf(row) {
    return (row.flow ?? "").split("/").flatMap((part, index) => (index ? ["/", el("wbr"), part] : [part]));
  }

  function took(row) {
    if (typeof row.seconds !== "number") return "";
    return [
      el(
        "span",
        { class: "track" },
        bar(row.seconds / longest, { class: `fill ${row.fresh ? "fresh" : ""}` }),
      ),
      duration(row.seconds),
    ];
  }

  function opener(row) {
    const open = isOpen(row);
    const said = light(row);
    return el(
      "button",
      {
        type: "button",
        class: "opener",
        "aria-expanded": String(open),
        // It begins with what is to be read: who speaks to the page says that.
        "aria-label": `${said.textContent.slice(2)}${row.xfail?.[0] === "xpassed" ? " xpassed" : ""}${row.fresh ? UP_TO_DATE : ""} ${row.name}: ${open ? "close" : "open"}`,
        "data-path": row.path,
      },
      el("span", { class: "arrow", "aria-hidden": "true" }, open ? "▾" : "▸"),
      said,
      row.xfail?.[0] === "xpassed" && el("span", { class: "muted" }, row.fresh ? " xpassed," : " xpassed"),
      row.fresh && el("span", { class: "muted" }, UP_TO_DATE),
    );
  }

  /** What a mark `xfail` made of it. */
  function mark(row) {
    if (!row.xfail || row.light === "red") return []; // its error says the same
    const [word, reason] = row.xfail;
    return el("p", {}, el("strong", {}, word), reason ? `: ${reason}` : "");
  }

  function opened() {
    return api.get("open").split("|").filter(Boolean);
  }

  function isOpen(row) {
    return opened().includes(row.path);
  }

  /** Open or close a row, with the runs nested in it. */
  function open(row, wanted) {
    const others = opened().filter((path) => path !== row.path && !path.startsWith(`${row.path}/`));
    api.set("open", (wanted ? [...others, row.path] : others).join("|"));
  }

  /** The elements of a row, each made again only if what it shows changed: somebody may be reading it. */
  function rowElements(row, shown) {
    const known = elements.get(row.path) ?? {};
    elements.set(row.path, known);
    const data = JSON.stringify(row);
    const state = page.session?.state;
    const key = [isOpen(row), longest, state, ...shown.map((column) => column.key), data].join(" ");
    if (known.key !== key) Object.assign(known, { key, line: lineOf(row, shown) });
    if (!isOpen(row)) return [known.line];
    const unsettled = ["running", "waiting"].includes(row.light);
    const around = [
      unsettled && [state, (row.needs ?? []).map((path) => api.byPath(path)?.light)],
      clusterOf(row)?.count,
      partsOf(row).map((part) => Object.keys(part.config ?? {}).filter((name) => varies(part.flow, name))),
    ];
    const openedKey = JSON.stringify(around) + data;
    if (known.openedKey !== openedKey) {
      const opened = el("tr", { class: "opened", id: `opened-${row.path}` }, el("td", {}, details(row)));
      Object.assign(known, { openedKey, opened });
    }
    known.opened.cells[0].colSpan = shown.length;
    return [known.line, known.opened];
  }

  function lineOf(row, shown) {
    const cells = shown.map((column) =>
      el("td", { "data-title": column.title, class: column.figure ? "figure" : null }, column.cell(row)),
    );
    const name = `row ${row.light}${isOpen(row) ? " open" : ""}`;
    const line = el("tr", { class: name, id: `row-${row.path}` }, cells);
    line.addEventListener("click", (event) => {
      if (!event.target.closest("a") && !String(getSelection())) open(row, !isOpen(row));
    });
    return line;
  }

  /** Put elements into a parent; those that are there already are not touched. */
  function place(parent, wanted) {
    wanted.forEach((element, index) => {
      if (parent.children[index] !== element) parent.insertBefore(element, parent.children[index] ?? null);
    });
    while (parent.children.length > wanted.length) parent.lastChild.remove();
  }

  function sorted(found, shown) {
    const wanted = api.get("sort") || "light";
    const column = shown.find((one) => one.key === wanted.replace(/^-/, ""));
    if (!column) return found;
    const direction = wanted.startsWith("-") ? -1 : 1;
    const keyed = found.map((row, index) => [column.value(row), index, row]);
    keyed.sort((a, b) => order(a[0], b[0], direction) || a[1] - b[1]);
    return keyed.map((entry) => entry[2]);
  }

  function head(column) {
    const sort = api.get("sort") || "light";
    const direction = sort === column.key ? "ascending" : sort === `-${column.key}` ? "descending" : "none";
    const mark = { ascending: " ↑", descending: " ↓", none: "" }[direction];
    return el(
      "th",
      { scope: "col", "aria-sort": direction, class: column.figure ? "figure" : null },
      el(
        "button",
        {
          type: "button",
          "data-sort": column.key,
          onclick: () => api.set("sort", direction === "ascending" ? `-${column.key}` : column.key),
        },
        column.title + mark,
      ),
    );
  }

  /** Runs of instances that are gone: set apart, and counted nowhere. */
  function leftovers(found) {
    if (!found.length) return [];
    const one = ({ path, name, light: word, flow, start }) =>
      el(
        "tr",
        {},
        el("td", {}, light({ light: word }, true)),
        el("td", {}, el("a", { href: `${href(path)}/` }, path)),
        el("td", { class: "muted" }, flow ?? name),
        el("td", { class: "muted" }, start ? moment(start) : ""),
      );
    return fold(
      "leftovers",
      false,
      { class: "leftovers" },
      count(found.length, "leftover"),
      el(
        "p",
        {},
        "Their instances are gone, so they count nowhere. ",
        el("code", {}, "ductaflow prune"),
        " lists them, and ",
        el("code", {}, "ductaflow prune --delete"),
        " deletes them.",
      ),
      el("table", {}, found.map(one)),
    );
  }

  window.addEventListener("beforeprint", () => {
    limit = Number.POSITIVE_INFINITY;
    api?.set({});
  });

  Ductaflow.runs = (element, data, given) => {
    page = data;
    api = given;
    varying.clear();
    const shown = columns();
    const found = sorted(api.visible(), shown);
    for (const path of opened().filter((one) => !reached.has(one))) {
      limit = Math.max(limit, 1 + found.findIndex((row) => row.path === path));
    }
    reached = new Set(opened());
    if (!element.querySelector("table")) {
      element.append(
        el("p", { class: "count muted", role: "status" }),
        el("table", { class: "runs" }, el("thead"), el("tbody")),
        el("button", {
          type: "button",
          class: "more",
          onclick: () => {
            limit += 5 * STEP;
            api.set({});
          },
        }),
        el("div"),
      );
      const watcher = new IntersectionObserver(
        ([entry]) => {
          if (entry.isIntersecting && !entry.target.hidden) {
            limit += STEP;
            api.set({});
          }
        },
        { rootMargin: "600px" },
      );
      watcher.observe(element.querySelector(".more"));
    }
    const focused = document.activeElement?.dataset ?? {};
    const [status, table, more, apart] = element.children;
    const titles = JSON.stringify(shown.map((column) => column.title)) + api.get("sort");
    if (table.tHead.dataset.titles !== titles) {
      table.tHead.replaceChildren(el("tr", {}, shown.map(head)));
      table.tHead.dataset.titles = titles;
    }
    place(
      table.tBodies[0],
      found.slice(0, limit).flatMap((row) => rowElements(row, shown)),
    );
    status.textContent =
      found.length === page.rows.length
        ? count(found.length, "instance")
        : `${number(found.length)} of ${count(page.rows.length, "instance")}`;
    more.hidden = found.length <= limit;
    more.textContent = `show more (${number(found.length - limit)})`;
    const gone = JSON.stringify(page.leftovers);
    if (apart.dataset.shown !== gone) apart.replaceChildren(...[leftovers(page.leftovers)].flat());
    apart.dataset.shown = gone;
    for (const name of ["path", "sort", "fold", "focus"]) {
      if (focused[name])
        element
          .querySelector(`[data-${name}="${CSS.escape(focused[name])}"]`)
          ?.focus({ preventScroll: true });
    }
  };
})();
