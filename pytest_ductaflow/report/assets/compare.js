/*
 * The "Compare" tab: this session against an older copy of its runs, a plot of a measure, and a table of
 * instances × measures with the differences to a baseline.
 *
 * Which direction of a measure is the better one is not known here: the lowest and the highest are marked, in
 * two colours that say neither good nor bad. Lights do have a direction, so theirs is said.
 */
(() => {
  "use strict";

  const { bars, lines, heatmap } = globalThis.Ductaflow.charts;
  const { picture, text, own, isNumber, formatter, signed, percent, duration, count } =
    globalThis.Ductaflow.pictures;
  const { measuresOf, lightIn } = globalThis.Ductaflow.pictures;

  /** So many bars or points beside each other, and so many series, are still a picture. */
  const MOST_PLACES = 200;
  const MOST_SERIES = 16;
  const MOST_FIELDS = 4000;
  const SECONDS = "seconds";

  globalThis.Ductaflow.compare = (element, page, api) => picture(element, page, api, "compare", draw);

  function draw(it) {
    const { page, api } = it;
    const rows = api.visible();
    const columns = measureColumns(page, rows);
    const baseline = page.rows.find((row) => row.path === api.get("compare.baseline")) || null;
    if (page.before) drawBefore(it, rows, columns);
    drawPlot(it, rows, columns, baseline);
    drawTable(it, rows, columns, baseline);
  }

  // ---------------------------------------------------------------- columns

  /** What can be compared: the duration, then every measure that a row has; `value(row)` may be undefined. */
  function measureColumns(page, rows) {
    const names = Object.keys(page.measures || {});
    const found = names.map((name) => ({
      key: `measure:${name}`,
      name,
      unit: text(own(page.measures, name) || "").replace("–", ""),
      value: (row) => measuresOf(row).get(name),
    }));
    const time = {
      key: SECONDS,
      name: "duration",
      unit: "",
      value: (row) => finished(row) && row.seconds,
      format: duration,
    };
    const columns = [time, ...found].map((column) => {
      const known = rows.map((row) => column.value(row)).filter((value) => value !== undefined);
      const values = known.filter(isNumber);
      const [low, high] = extremes(values);
      const format = column.format || formatter(values);
      return { ...column, format, used: known.length > 0, numeric: values.length > 0, low, high };
    });
    return columns.filter((column) => column.used || column === columns[0]);
  }

  const finished = (row) => (row.light === "running" || row.light === "waiting" ? undefined : row);

  function extremes(values) {
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return [low, high];
  }

  const heading = (column) => (column.unit ? `${column.name} [${column.unit}]` : column.name);
  const written = (column, value) => (isNumber(value) ? column.format(value) : text(value));

  /** What an instance has in a dimension, as text; "" if it has none. */
  const dimensionOf = (row, name) => (own(row.scenario, name) === undefined ? "" : text(row.scenario[name]));

  /** What can be plotted over, in the fragment's words: key → {name, value(row), raw(row)}. */
  function places(page) {
    const found = new Map();
    for (const name of page.dimensions || []) {
      const raw = (row) => own(row.scenario, name);
      found.set(`dimension:${name}`, { name, raw, value: (row) => dimensionOf(row, name) });
    }
    found.set("flow", { name: "flow", raw: (row) => row.flow, value: (row) => row.flow || "" });
    found.set("instance", { name: "instance", raw: (row) => row.name, value: (row) => row.name });
    return found;
  }

  /** A place's different values among the rows, numbers in their order, others as they come first. */
  function valuesOf(place, rows) {
    const found = new Map();
    for (const row of rows) {
      const value = place.value(row);
      if (value !== "" && !found.has(value)) found.set(value, place.raw(row));
    }
    const values = [...found.keys()];
    const numeric = values.length > 0 && [...found.values()].every(isNumber);
    if (numeric) values.sort((a, b) => found.get(a) - found.get(b));
    return { values, numbers: numeric ? values.map((value) => found.get(value)) : null };
  }

  // ---------------------------------------------------------------- the plot

  function drawPlot(it, rows, columns, baseline) {
    const { page, api } = it;
    const part = it.section("plot", "Plot");
    const measured = columns.filter((column) => column.numeric);
    if (!measured.length) {
      part.fill(
        [],
        [
          empty(
            api,
            rows,
            "Nothing to plot yet: no instance shown has finished or has a number as a measure.",
          ),
        ],
      );
      return;
    }
    const all = places(page);
    const various = [...all.keys()].filter((key) => valuesOf(all.get(key), rows).values.length > 1);
    const overs = various.length ? various : ["instance"];
    const measureKey = it.chosen(
      "compare.measure",
      measured.map((column) => column.key),
      (measured.slice(1).find((other) => other.low < other.high) ?? measured[1])?.key,
    );
    const column = measured.find((other) => other.key === measureKey);
    const having = rows.filter((row) => isNumber(column.value(row)));
    const scale = overs.find((key) => valuesOf(all.get(key), having).numbers?.length > 2);
    const apart = overs.find((key) => valuesOf(all.get(key), having).values.length > 1);
    const overKey = it.chosen("compare.over", overs, scale ?? apart);
    const bys = ["none", ...overs.filter((key) => key !== overKey && key !== "instance")];
    const over = all.get(overKey);
    const placed = having.filter((row) => over.value(row) !== "");
    const few = bys.find((key) => {
      if (!key.startsWith("dimension:")) return false;
      const size = valuesOf(all.get(key), placed).values.length;
      return size > 1 && size <= 8;
    });
    const byKey = it.chosen("compare.by", bys, few);
    const by = byKey === "none" ? null : all.get(byKey);
    const { values, numbers } = valuesOf(over, having);
    const usual = numbers && values.length > 2 ? "lines" : "bars";
    const kind = it.chosen("compare.kind", ["bars", "lines", ...(by ? ["heatmap"] : [])], usual);

    const names = by ? valuesOf(by, having).values : [""];
    const shown = {
      values: values.slice(0, MOST_PLACES),
      names: names.slice(
        0,
        kind === "heatmap"
          ? Math.max(1, Math.floor(MOST_FIELDS / Math.min(values.length, MOST_PLACES)))
          : MOST_SERIES,
      ),
    };
    const series = gather(having, column, over, by, shown);
    const points = series.flatMap((one) => [...one.points.values()]);
    const what = `${heading(column)} over ${over.name}${by ? `, by ${by.name}` : ""}`;
    const value = baseline && column.value(baseline);
    const spec = {
      name: "compare.plot",
      label: `${{ bars: "Bars", lines: "Lines", heatmap: "Heat map" }[kind]}: ${what}. The numbers are in the table below.`,
      x: { name: over.name, values: shown.values, numbers: numbers?.slice(0, MOST_PLACES) },
      y: { name: column.name, unit: column.unit, format: column.key === SECONDS ? duration : null },
      by: by ? by.name : "",
      series,
      reference: isNumber(value) ? { name: baseline.name, value } : null,
      width: it.width,
    };
    const chart = { bars, lines, heatmap }[kind](api, spec);

    const notes = [];
    if (points.some((point) => point.rows.length > 1)) {
      notes.push(
        kind === "heatmap"
          ? "Several instances in a field: their mean."
          : "Several instances at a point: their mean, with the range from lowest to highest.",
      );
    }
    if (values.length > shown.values.length)
      notes.push(
        `The first ${MOST_PLACES} of ${count(values.length, "value")} of ${over.name} are shown: filter to see others.`,
      );
    if (names.length > shown.names.length)
      notes.push(
        `The first ${shown.names.length} of ${count(names.length, "value")} of ${by.name} are shown: filter to see others.`,
      );
    const without =
      rows.length - having.filter((row) => over.value(row) !== "" && by?.value(row) !== "").length;
    if (without) {
      const lack = [column, over, ...(by ? [by] : [])].map((one) => one.name);
      const [last, ...first] = lack.reverse();
      notes.push(`Left out: ${count(without, "instance")} without ${first.reverse().join(", ")} or ${last}.`);
    }

    const option = (key) => [key, all.get(key).name];
    part.fill(
      [
        it.choice(
          "compare.measure",
          "Measure",
          measured.map((other) => [other.key, heading(other)]),
          measureKey,
        ),
        it.choice("compare.over", "over", overs.map(option), overKey),
        it.choice(
          "compare.by",
          "by",
          bys.map((key) => (key === "none" ? [key, "(nothing)"] : option(key))),
          byKey,
        ),
        it.choice(
          "compare.kind",
          "as",
          [["bars", "bars"], ["lines", "lines"], ...(by ? [["heatmap", "heat map"]] : [])],
          kind,
        ),
      ],
      [chart, ...(notes.length ? [api.el("p", { class: "hint" }, notes.join(" "))] : [])],
    );
  }

  /** The points of each series: mean, lowest, highest and the rows at each value. */
  function gather(rows, column, over, by, shown) {
    const series = new Map(shown.names.map((name) => [name, { name, points: new Map() }]));
    const wanted = new Set(shown.values);
    for (const row of rows) {
      const one = series.get(by ? by.value(row) : "");
      const place = over.value(row);
      if (!one || !wanted.has(place)) continue;
      const value = column.value(row);
      const point = one.points.get(place);
      if (!point) one.points.set(place, { sum: value, low: value, high: value, rows: [row] });
      else {
        point.sum += value;
        point.low = Math.min(point.low, value);
        point.high = Math.max(point.high, value);
        point.rows.push(row);
      }
    }
    const found = [...series.values()].filter((one) => one.points.size);
    for (const one of found)
      for (const point of one.points.values()) point.mean = point.sum / point.rows.length;
    return found;
  }

  // ---------------------------------------------------------------- the table

  function drawTable(it, rows, columns, baseline) {
    const { page, api } = it;
    const part = it.section("table", "Instances and measures");
    const unique = new Set(rows.map((row) => row.name)).size === rows.length;
    const named = (page.dimensions || []).map((name) => ({
      key: `dimension:${name}`,
      name,
      value: (row) => own(row.scenario, name),
    }));
    const dimensions = named.filter((column) => rows.some((row) => column.value(row) !== undefined));
    const name = { key: "name", name: "instance", value: (row) => (unique ? row.name : row.path) };
    const all = [name, ...dimensions, ...columns];
    const sort = it.chosen(
      "compare.sort",
      ["", ...all.flatMap((column) => [column.key, `-${column.key}`])],
      "",
    );
    const sorted = order(rows, all, sort);
    const top = sorted.slice(0, it.shown("table"));
    const pinned = baseline ? [baseline, ...top.filter((row) => row !== baseline)] : top;

    const lines_ = pinned.map((row) => {
      const first = api.el(
        "div",
        { class: "who" },
        flag(api, row, baseline),
        opener(api, row, name.value(row)),
      );
      const cells = [api.el("th", { scope: "row" }, first)];
      for (const column of dimensions)
        cells.push(
          api.el("td", { class: isNumber(column.value(row)) ? "number" : "words" }, plain(column.value(row))),
        );
      for (const column of columns) cells.push(cell(api, column, row, baseline));
      return api.el("tr", row === baseline ? { class: "baseline" } : {}, ...cells);
    });
    const candidates = rows.length > 500 ? [] : rows;
    const known = !baseline || candidates.includes(baseline) ? candidates : [baseline, ...candidates];
    const options = [
      ["", baseline ? "(none)" : rows.length > 500 ? "choose with ⚑ in the table" : "(none)"],
      ...(known.length ? known : baseline ? [baseline] : []).map((row) => [
        row.path,
        unique ? row.name : row.path,
      ]),
    ];
    const marks = columns.some((column) => column.numeric && column.low < column.high)
      ? "▼ lowest and ▲ highest of the instances shown. "
      : "";
    const hint = baseline
      ? `${marks}Below each value: the difference to ⚑ ${baseline.name}.`
      : `${marks}⚑ makes an instance the baseline: the others then show their differences to it.`;
    const recorded =
      columns.length > 1
        ? ""
        : 'No measures yet: record_measure("mean_delay", 12.3, unit="min") in a flow adds a column. ';
    part.fill(
      [it.choice("compare.baseline", "Baseline ⚑", options, baseline ? baseline.path : "")],
      rows.length
        ? [
            api.el("p", { class: "hint" }, recorded + hint),
            table(api, "compare.table", "Measures of the instances", all, sort, lines_),
            ...more(api, "table", top.length, rows.length),
          ]
        : [empty(api, rows)],
    );
  }

  const plain = (value) => (value === undefined ? "" : Ductaflow.brief(value));

  function flag(api, row, baseline) {
    const is = row === baseline;
    const title = is ? "No baseline" : `Compare with ${row.name}`;
    const does = {
      "data-set": "compare.baseline",
      "data-value": is ? "" : row.path,
      "data-focus": `flag|${row.path}`,
    };
    return api.el(
      "button",
      { type: "button", class: "flag", title, "aria-label": title, "aria-pressed": String(is), ...does },
      "⚑",
    );
  }

  function opener(api, row, name) {
    const { symbol, word } = api.light(row);
    const light = api.el("span", { class: `light ${row.light}`, title: word }, symbol);
    const to = {
      type: "button",
      class: "link",
      "data-open": row.path,
      "data-focus": `open|${row.path}`,
      title: row.path,
    };
    return api.el("button", to, light, " ", api.el("bdi", {}, name));
  }

  function cell(api, column, row, baseline) {
    const value = column.value(row);
    if (value === undefined)
      return api.el("td", { class: `${column.numeric ? "number" : "words"} none` }, "–");
    const children = [];
    let state = "";
    if (isNumber(value) && column.low < column.high) {
      if (value === column.low) state = " lowest";
      if (value === column.high) state = " highest";
    }
    if (state)
      children.push(
        api.el("span", { class: "sign", title: state.trim() }, state === " lowest" ? "▼ " : "▲ "),
      );
    children.push(written(column, value));
    const base = baseline && row !== baseline ? column.value(baseline) : undefined;
    if (base !== undefined) {
      const words =
        isNumber(value) && isNumber(base)
          ? difference(column, value, base)
          : same(value, base)
            ? "="
            : `⚑ ${text(base)}`;
      children.push(api.el("small", {}, words));
    }
    return api.el(
      "td",
      {
        class: `${isNumber(value) ? "number" : "words"}${state}`,
        title: isNumber(value) && column.key !== SECONDS ? String(value) : text(value),
      },
      ...children,
    );
  }

  /** "+0.8 · +6.5 %", or "=". */
  function difference(column, value, base) {
    if (same(value, base)) return "=";
    const share = percent(value, base);
    return signed(value - base, column.format) + (share ? ` · ${share}` : "");
  }

  /** Equal but for what adding in another order does to a number. */
  function same(a, b) {
    if (isNumber(a) && isNumber(b)) return Math.abs(a - b) <= 1e-12 * Math.max(Math.abs(a), Math.abs(b));
    return text(a) === text(b);
  }

  function order(rows, columns, sort) {
    if (!sort) return rows;
    const column = columns.find((one) => one.key === sort.replace(/^-/, ""));
    const direction = sort.startsWith("-") ? -1 : 1;
    const keyed = rows.map((row) => [column.value(row), row]);
    keyed.sort(([a], [b]) => Ductaflow.order(a, b, direction));
    return keyed.map(([, row]) => row);
  }

  function table(api, name, label, columns, sort, body, prefix = "compare.sort") {
    const heads = columns.map((column) => {
      const [up, down] = [column.key, `-${column.key}`];
      const next = sort === up ? down : sort === down ? "" : up;
      const arrow = sort === up ? "↑" : sort === down ? "↓" : "";
      const does = {
        type: "button",
        class: "sort",
        "data-set": prefix,
        "data-value": next,
        "data-focus": `${prefix}|${column.key}`,
      };
      const words = column.unit !== undefined ? heading(column) : column.name;
      const aria =
        sort === up ? { "aria-sort": "ascending" } : sort === down ? { "aria-sort": "descending" } : {};
      const kind = column.numeric ? "number" : "words";
      return api.el(
        "th",
        { scope: "col", class: kind, ...aria },
        api.el("button", does, api.el("bdi", {}, words), api.el("span", { class: "arrow" }, arrow)),
      );
    });
    const head = api.el("thead", {}, api.el("tr", {}, ...heads));
    const whole = api.el(
      "table",
      { class: "measures", "aria-label": label },
      head,
      api.el("tbody", {}, ...body),
    );
    return api.el("div", { class: "tall", "data-scroll": name }, whole);
  }

  function more(api, name, shown, of) {
    if (shown >= of) return [];
    const words = `Show ${count(Math.min(500, of - shown), "row")} more`;
    const button = api.el(
      "button",
      { type: "button", class: "more", "data-more": name, "data-focus": `more|${name}` },
      words,
    );
    return [
      api.el(
        "p",
        { class: "hint" },
        `${shown.toLocaleString("en")} of ${count(of, "instance")} shown. `,
        button,
      ),
    ];
  }

  const empty = (api, rows, words) =>
    api.el("p", { class: "none" }, rows.length ? words : "No instance passes the filters.");

  // ---------------------------------------------------------------- against an older copy of the runs

  const BADNESS = { green: 0, orange: 1, red: 2, xfailed: 2 };

  function drawBefore(it, visible, columns) {
    const { page, api } = it;
    const part = it.section("before", `Against ${text(page.before.path)}`);
    const older = page.before.rows || {};
    const taken = page.session && page.rows.some((row) => row.now);
    const rows = taken ? visible.filter((row) => row.now) : visible;
    const both = [];
    const added = [];
    const pending = [];
    for (const row of rows) {
      const was = own(older, row.path);
      if (!was) added.push(row);
      else if (!finished(row)) pending.push(row);
      else both.push(versus(row, was, columns));
    }
    const here = new Set(page.rows.map((row) => row.path));
    const gone = Object.keys(older).filter((path) => !here.has(path) && !below(path, older, here));

    const kinds = [
      ["all", "all instances"],
      ["changed", "light or measures changed"],
      ["lights", "light changed"],
      ["added", "only here"],
      ["gone", `only in ${text(page.before.path)}`],
    ];
    const kind = it.chosen(
      "compare.changes",
      kinds.map(([key]) => key),
      "all",
    );
    const sums = {
      worse: both.filter((one) => one.worse > 0).length,
      better: both.filter((one) => one.worse < 0).length,
      measured: both.filter((one) => one.changed).length,
    };
    const content = [summary(api, both, added, gone, pending, sums)];
    if (kind === "added" || kind === "gone")
      content.push(...names(it, kind, kind === "added" ? added : gone));
    else content.push(...changes(it, both, columns, kind));
    const numbers = {
      all: both.length,
      changed: both.filter((one) => one.changed || one.worse).length,
      lights: sums.worse + sums.better,
      added: added.length,
      gone: gone.length,
    };
    part.fill(
      [
        it.choice(
          "compare.changes",
          "Show",
          kinds.map(([key, words]) => [key, `${words} (${numbers[key].toLocaleString("en")})`]),
          kind,
        ),
      ],
      content,
    );
  }

  /** Whether the path lies in a run that is known, here or there: a flow of a build. */
  function below(path, older, here) {
    for (let cut = path.lastIndexOf("/"); cut > 0; cut = path.lastIndexOf("/", cut - 1)) {
      const parent = path.slice(0, cut);
      if (here.has(parent) || Object.hasOwn(older, parent)) return true;
    }
    return false;
  }

  function versus(row, was, columns) {
    const old = { light: was.light, seconds: was.seconds, measures: was.measures };
    let [changed, largest] = [false, 0];
    for (const column of columns) {
      if (column.key === SECONDS) continue;
      const [now, then] = [column.value(row), column.value(old)];
      if (now === undefined && then === undefined) continue;
      if (now !== undefined && then !== undefined && same(now, then)) continue;
      changed = true;
      const share = isNumber(now) && isNumber(then) && then !== 0 ? Math.abs((now - then) / then) : 1;
      largest = Math.max(largest, share);
    }
    const worse = (BADNESS[row.light] ?? 0) - (BADNESS[was.light] ?? BADNESS[row.light] ?? 0);
    return { row, old, worse, changed, largest };
  }

  function summary(api, both, added, gone, pending, sums) {
    const parts = [`${count(both.length, "instance")} in both`];
    const item = (tone, words) => api.el("li", { class: tone }, words);
    const items = [
      item("", parts[0]),
      item(sums.worse ? "red" : "muted", `✖ ${count(sums.worse, "light")} worse`),
      item(sums.better ? "green" : "muted", `● ${count(sums.better, "light")} better`),
      item(sums.measured ? "" : "muted", `≠ ${count(sums.measured, "instance")} with other measures`),
    ];
    if (added.length) items.push(item("", `+ ${added.length.toLocaleString("en")} only here`));
    if (gone.length) items.push(item("", `− ${gone.length.toLocaleString("en")} only there`));
    if (pending.length) items.push(item("muted", `${pending.length.toLocaleString("en")} not finished`));
    const timed = both.filter(({ row, old }) => isNumber(row.seconds) && isNumber(old.seconds));
    const [now, then] = [
      timed.reduce((sum, { row }) => sum + row.seconds, 0),
      timed.reduce((sum, { old }) => sum + old.seconds, 0),
    ];
    if (timed.length)
      items.push(
        item("", `durations ${duration(then)} → ${duration(now)}${then ? ` (${percent(now, then)})` : ""}`),
      );
    return api.el("ul", { class: "sums" }, ...items);
  }

  function names(it, kind, list) {
    const { api } = it;
    if (!list.length) return [api.el("p", { class: "none" }, "None.")];
    const shown = list.slice(0, it.shown(kind));
    const items = shown.map((one) =>
      kind === "added" ? opener(api, one, one.path) : api.el("bdi", {}, one),
    );
    return [
      api.el("ul", { class: "names" }, ...items.map((item) => api.el("li", {}, item))),
      ...more(api, kind, shown.length, list.length),
    ];
  }

  /** The table of what is here and there; without a chosen order the worst changes come first. */
  function changes(it, both, columns, kind) {
    const { api } = it;
    const chosen = both.filter((one) => kind === "all" || one.worse || (kind === "changed" && one.changed));
    if (!chosen.length)
      return [api.el("p", { class: "none" }, both.length ? "No such change." : "No instance is in both.")];
    const shares = columns.map((column) => ({ ...column, value: (one) => change(column, one) }));
    const all = [
      { key: "name", name: "instance", value: (one) => one.row.path },
      { key: "light", name: "light", value: (one) => one.worse },
      ...shares,
    ];
    const sort = it.chosen(
      "compare.changes.sort",
      ["", ...all.flatMap((column) => [column.key, `-${column.key}`])],
      "",
    );
    const usual = () => [...chosen].sort((a, b) => b.worse - a.worse || b.largest - a.largest);
    const sorted = sort ? order(chosen, all, sort) : usual();
    const top = sorted.slice(0, it.shown("before"));
    const unique = new Set(both.map(({ row }) => row.name)).size === both.length;
    const body = top.map((one) => {
      const { row, old, worse } = one;
      const lights =
        own(BADNESS, old.light) === undefined ||
        old.light === row.light ||
        (!worse && row.light === "xfailed")
          ? [lightOf(api, row.light)]
          : [
              lightOf(api, old.light),
              " → ",
              lightOf(api, row.light),
              api.el("small", {}, worse > 0 ? "worse" : worse < 0 ? "better" : "other"),
            ];
      const cells = columns.map((column) => pair(api, column, column.value(old), column.value(row)));
      const first = api.el("th", { scope: "row" }, opener(api, row, unique ? row.name : row.path));
      return api.el("tr", {}, first, api.el("td", { class: "words" }, ...lights), ...cells);
    });
    const hint = `Before → now, below it the difference. ${sort ? "" : "Worse lights and larger changes come first. "}Columns are ordered by the difference in percent.`;
    return [
      api.el("p", { class: "hint" }, hint),
      table(
        api,
        "compare.before",
        "This session against the older runs",
        all,
        sort,
        body,
        "compare.changes.sort",
      ),
      ...more(api, "before", top.length, chosen.length),
    ];
  }

  const lightOf = (api, light) => api.el("span", { class: `light ${light}` }, lightIn(api, light));

  function change(column, { row, old }) {
    const [now, then] = [column.value(row), column.value(old)];
    if (!isNumber(now) || !isNumber(then)) return undefined;
    return then === 0 ? now : (now - then) / Math.abs(then);
  }

  function pair(api, column, then, now) {
    if (then === undefined && now === undefined) {
      return api.el("td", { class: `${column.numeric ? "number" : "words"} none` }, "–");
    }
    const kind = isNumber(now ?? then) ? "number" : "words";
    if (then !== undefined && now !== undefined && same(then, now)) {
      return api.el("td", { class: `${kind} equal`, title: "unchanged" }, "= ", written(column, now));
    }
    const words = `${then === undefined ? "–" : written(column, then)} → ${now === undefined ? "–" : written(column, now)}`;
    const small = isNumber(then) && isNumber(now) ? [api.el("small", {}, difference(column, now, then))] : [];
    return api.el("td", { class: kind, title: `${text(then)} → ${text(now)}` }, words, ...small);
  }
})();
