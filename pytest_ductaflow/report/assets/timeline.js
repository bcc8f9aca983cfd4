/*
 * The "Timeline" tab: what each worker did when, and where parallelism was lost.
 *
 * Bars are the rows that pass the page's filters; what the filters leave out stays as a pale trace, and the
 * sentences are about everything that was executed, since a worker that runs another instance is not idle.
 */
(() => {
  "use strict";

  const { picture, mark, surface, scroller, label, line, box, texture, TEXTURES } =
    globalThis.Ductaflow.pictures;
  const { byLight, collator, count, duration, fit, isNumber, lightIn, LIGHTS, listed, measure, round, text } =
    globalThis.Ductaflow.pictures;

  const [BAR, LANE_GAP, STRIP] = [22, 10, 40];
  /** Bars that overlap in one lane are stacked up to so many deep. */
  const MOST_DEEP = 6;
  /** Narrower bars are merged with their neighbours, in px, up to a bar of so many px. */
  const [NARROW, MERGED] = [2, 12];
  const TEXTURE = { orange: TEXTURES[1], red: TEXTURES[3], running: TEXTURES[2] };

  globalThis.Ductaflow.timeline = (element, page, api) => picture(element, page, api, "timeline", draw);

  function draw(it) {
    const { page, api } = it;
    const part = it.section("timeline", "What ran when");
    const runs = executed(page);
    if (!runs.length) {
      const words =
        page.session && page.rows.some((row) => row.now)
          ? "Nothing was executed in this session: everything is up to date or still waits."
          : "No session's times are known here.";
      part.fill([], [api.el("p", { class: "none" }, words)]);
      return;
    }
    const lanes = lanesOf(page, runs);
    const begin = Math.min(
      page.session?.started ?? Infinity,
      ...lanes.map((lane) => lane.runs[0]?.start ?? Infinity),
    );
    const close = page.session?.state === "running" ? page.generated : page.session?.ended || 0;
    const end = Math.max(begin + 0.001, close || 0, ...lanes.map((lane) => lane.last));
    const facts = { ...analyse(lanes), begin };
    const scale = it.chosen("timeline.scale", ["1", "4", "16"], "1");
    const chart = sheet(it, lanes, facts, { begin, end }, Number(scale));
    const key = legendOf(it, runs, chart.fills);
    part.fill(
      [
        it.choice(
          "timeline.scale",
          "Width",
          [
            ["1", "fits"],
            ["4", "4 ×"],
            ["16", "16 ×"],
          ],
          scale,
        ),
        key,
      ],
      [chart.element, caption(api, begin, lanes, chart.pale), ...sentences(api, page, lanes, facts)],
    );
  }

  // ---------------------------------------------------------------- what ran

  /** The rows executed in this session: {row, start, end, worker}, by start; what still runs grows to now. */
  function executed(page) {
    const until =
      page.session && page.session.state !== "running"
        ? page.session.ended || page.generated
        : page.generated;
    const found = [];
    for (const row of page.rows) {
      if (!row.now || row.fresh || !isNumber(row.start)) continue;
      const end = row.light === "running" ? Math.max(row.start, until) : row.start + (row.seconds || 0);
      found.push({ row, start: row.start, end, worker: row.worker || "main" });
    }
    return found.sort((a, b) => a.start - b.start);
  }

  /** A lane per worker: its runs, how deep they are stacked, its busy intervals, when the last one ends. */
  function lanesOf(page, runs) {
    const lanes = new Map((page.session?.workers || []).map((name) => [name, []]));
    for (const run of runs) {
      if (!lanes.has(run.worker)) lanes.set(run.worker, []);
      lanes.get(run.worker).push(run);
    }
    if (lanes.get("main")?.length === 0 && lanes.size > 1) lanes.delete("main");
    const named = [...lanes].sort(([a], [b]) => collator.compare(a, b));
    return named.map(([name, mine]) => {
      const ends = [];
      for (const run of mine) {
        let depth = ends.findIndex((end) => end <= run.start + 1e-3);
        if (depth < 0) depth = Math.min(ends.length, MOST_DEEP - 1);
        ends[depth] = Math.max(ends[depth] ?? 0, run.end);
        run.depth = depth;
      }
      const busy = [];
      for (const { start, end } of mine) {
        const last = busy[busy.length - 1];
        if (last && start <= last[1]) last[1] = Math.max(last[1], end);
        else busy.push([start, end]);
      }
      const last = busy.length ? busy[busy.length - 1][1] : 0;
      return { name, runs: mine, deep: Math.max(1, ends.length), busy, last };
    });
  }

  /**
   * Between the first start and the last end: each lane's busy seconds, and the longest stretch in which at most
   * one worker worked: {from, to, runs} or null.
   */
  function analyse(lanes) {
    const events = [];
    for (const lane of lanes) {
      lane.worked = 0;
      for (const [start, end] of lane.busy) {
        lane.worked += end - start;
        events.push([start, 1], [end, -1]);
      }
    }
    events.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const [from, to] = [events[0][0], events[events.length - 1][0]];
    let [working, since, longest] = [0, from, null];
    for (const [at, change] of events) {
      const before = working;
      working += change;
      if (before <= 1 && working > 1 && at - since > (longest ? longest.to - longest.from : 0))
        longest = { from: since, to: at };
      if (before > 1 && working <= 1) since = at;
    }
    if (working <= 1 && to - since > (longest ? longest.to - longest.from : 0)) longest = { from: since, to };
    const whole = to - from;
    const worked = lanes.reduce((sum, lane) => sum + lane.worked, 0);
    const lonely = lanes.length > 1 && longest && longest.to - longest.from > 0.02 * whole ? longest : null;
    if (lonely) lonely.runs = during(lanes, lonely);
    return { from, to, whole, worked, lonely };
  }

  /** What ran in the stretch, the longest first. */
  function during(lanes, stretch) {
    return lanes
      .flatMap((lane) => lane.runs)
      .filter((run) => overlap(run, stretch) > 0)
      .sort((a, b) => overlap(b, stretch) - overlap(a, stretch));
  }

  /** Seconds that the run has in the stretch. */
  const overlap = (run, { from, to }) => Math.min(run.end, to) - Math.max(run.start, from);

  // ---------------------------------------------------------------- sentences

  function caption(api, begin, lanes, pale) {
    const time = new Date(begin * 1000).toLocaleTimeString("en-GB");
    const busy = lanes.length > 1 ? " Busy: share of the time between the first start and the last end." : "";
    return api.el(
      "p",
      { class: "hint" },
      `Time since ${time}.${busy}${pale ? " Grey: what the filters leave out." : ""}`,
    );
  }

  function sentences(api, page, lanes, facts) {
    const { whole, worked, lonely } = facts;
    const share = (part, of) => `${Math.round((100 * part) / (of || 1))}\u00a0%`;
    const said = [];
    const size = lanes.length;
    const running = page.session?.state === "running";
    if (size === 1) {
      said.push([
        "One worker",
        ` ${running ? "has been" : "was"} busy ${share(worked, whole)} of ${duration(whole)}. More workers, such as pytest -n 2, run instances beside each other.`,
      ]);
    } else {
      const lost = size * whole - worked;
      said.push([
        `${size} workers`,
        ` ${running ? "have been" : "were"} busy ${share(worked, size * whole)} of ${duration(whole)} on average; together they were idle for ${duration(lost)}. ${busiest(lanes, whole, share)}`,
      ]);
    }
    if (lonely) {
      const time = lonely.to - lonely.from;
      const at = (seconds) => clock(seconds - facts.begin);
      const long = lonely.runs.filter((run, index) => !index || overlap(run, lonely) > 0.05 * time);
      const first = long.slice(0, 3);
      const more = long.length - first.length;
      const names = first.map(({ row, worker }) => ["open", row, ` on ${worker}`]);
      const stretch = `Longest stretch with one worker at most: ${duration(time)}`;
      const before = ` (${share(time, whole)} of the time, from ${at(lonely.from)} to ${at(lonely.to)}). Then ran `;
      said.push([
        stretch,
        before,
        ...join(names),
        more > 0 ? ` and ${count(more, "more", "more")}` : "",
        `. ${reason(lanes, lonely, long, running)}`,
      ]);
    } else if (size > 1) {
      said.push(["No long stretch", " in which only one worker worked."]);
    }
    return said.map(([strong, ...rest]) =>
      api.el(
        "p",
        { class: "fact" },
        api.el("strong", {}, strong),
        ...rest.map((part) => (typeof part === "string" ? part : opener(api, part))),
      ),
    );
  }

  function opener(api, [, row, words]) {
    const does = {
      type: "button",
      class: "link",
      "data-open": row.path,
      "data-focus": `fact|${row.path}`,
      title: row.path,
    };
    return api.el("span", {}, api.el("button", does, api.el("bdi", {}, row.name)), words);
  }

  /** Parts with "," and "and" between them. */
  const join = (parts) =>
    parts.flatMap((part, index) => [...(index ? [index === parts.length - 1 ? " and " : ", "] : []), part]);

  function busiest(lanes, whole, share) {
    const sorted = [...lanes].sort((a, b) => b.worked - a.worked);
    const [most, least] = [sorted[0], sorted[sorted.length - 1]];
    if (most.worked - least.worked < 0.02 * whole) return "All of them about equally.";
    return `Most: ${most.name} with ${share(most.worked, whole)}, least: ${least.name} with ${share(least.worked, whole)}.`;
  }

  /** Why the others had nothing to do, as far as the rows tell. */
  function reason(lanes, lonely, long, running) {
    for (const { row } of long) {
      const other = long.find((run) => run.row !== row && uses(row, run.row));
      if (other) return `${row.name} needs ${other.row.name}, so they could not run beside each other.`;
    }
    const after = lanes
      .flatMap((lane) => lane.runs)
      .filter((run) => run.start >= lonely.to - 0.05 && !lonely.runs.includes(run));
    const blocked = after.filter(({ row }) => long.slice(0, 20).some((run) => uses(row, run.row)));
    if (blocked.length)
      return `${count(blocked.length, "instance")} could start only afterwards: ${blocked.length === 1 ? "it needs" : "they need"} what ran then.`;
    if (after.length) return "";
    if (running) return "";
    return "Nothing else was left to run: it would have ended earlier had that started earlier or been split.";
  }

  /** Whether the row needs the other one, or a flow of it. */
  const uses = (row, other) =>
    (row.needs || []).some((need) => need === other.path || need.startsWith(`${other.path}/`));

  /** Seconds since a start as "0:07", "12:03", "1:02:03". */
  function clock(seconds) {
    const whole = Math.round(seconds);
    const two = (value) => String(value).padStart(2, "0");
    const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
    return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  }

  // ---------------------------------------------------------------- drawing

  function sheet(it, lanes, facts, { begin, end }, scale) {
    const { api } = it;
    const visible = new Set(api.visible());
    const wanted = Math.max(
      ...lanes.map((lane) => Math.max(measure(lane.name, "600 13px"), measure("100 % busy", "11px"))),
    );
    const left = Math.ceil(Math.min(wanted, 120)) + 18;
    const inner = Math.max(200, (it.width - left - 8) * scale);
    const across = (seconds) => ((seconds - begin) / (end - begin)) * (inner - 2);
    const several = lanes.length > 1;
    const head = several ? STRIP + 26 : 8;
    const height = head + lanes.reduce((sum, lane) => sum + lane.deep * BAR + LANE_GAP, 0);
    const axis = surface(api, left, height + 26, "");
    const said =
      "Timeline: one lane per worker, one bar per instance. The arrow keys go from one to the next, Enter opens it.";
    const plot = surface(api, inner + 6, height + 26, said);
    const { definitions, fills } = fillsOf(api);
    plot.append(definitions);
    if (facts.lonely) {
      const [from, to] = [across(facts.lonely.from), across(facts.lonely.to)];
      plot.append(box(api, from, several ? 14 : 0, to - from, height - 14, { class: "lonely" }));
    }
    const bottom = times(api, plot, across, begin, end, inner, height);
    if (several) strip(api, axis, plot, lanes, across, inner, left);
    let top = head;
    for (const lane of lanes) {
      const tall = lane.deep * BAR;
      const busy = `${Math.round((100 * lane.worked) / (facts.whole || 1))} % busy`;
      axis.append(
        label(api, left - 10, top + Math.max(9, tall / 2 - 3), fit(text(lane.name), left - 14, "600 13px"), {
          class: "lane end",
        }),
      );
      axis.append(label(api, left - 10, top + Math.max(9, tall / 2 - 3) + 13, busy, { class: "busy end" }));
      plot.append(
        box(api, across(facts.from), top, across(facts.to) - across(facts.from), tall, { class: "track" }),
      );
      const bars = api.svg("g", {});
      for (let depth = 0; depth < lane.deep; depth += 1) {
        const here = lane.runs.filter((run) => run.depth === depth);
        for (const bar of merge(
          here.filter((run) => !visible.has(run.row)),
          across,
        )) {
          bars.append(
            box(api, bar.from, top + depth * BAR + 2, bar.to - bar.from, BAR - 4, { class: "trace" }),
          );
        }
        for (const bar of merge(
          here.filter((run) => visible.has(run.row)),
          across,
        )) {
          bars.append(barOf(api, bar, top + depth * BAR + 2, fills, begin));
        }
      }
      plot.append(bars);
      top += tall + LANE_GAP;
    }
    plot.append(bottom);
    const pale = lanes.some((lane) => lane.runs.some((run) => !visible.has(run.row)));
    return { element: scroller(api, "timeline", axis, plot), fills, pale };
  }

  /** Bars in px, {from, to, runs}: those too narrow to be seen are merged with their neighbours. */
  function merge(runs, across) {
    const bars = [];
    let open = null;
    for (const run of runs) {
      const [from, to] = [across(run.start), across(run.end)];
      const narrow = to - from < NARROW;
      if (narrow && open && from - open.to < 1 && open.to - open.from < MERGED) {
        open.to = Math.max(open.to, to);
        open.runs.push(run);
        continue;
      }
      const bar = { from, to: Math.max(to, from + 1), runs: [run] };
      bars.push(bar);
      open = narrow ? bar : null;
    }
    return bars;
  }

  function barOf(api, { from, to, runs }, y, fills, begin) {
    const worst = runs.reduce((a, b) => (LIGHTS.indexOf(b.row.light) < LIGHTS.indexOf(a.row.light) ? b : a));
    const { row } = worst;
    const { symbol } = api.light(row);
    const width = Math.max(1, to - from - (to - from > 3 ? 1 : 0));
    const parts =
      runs.length > 1
        ? layers(api, runs, from, y, width, fills)
        : [box(api, from, y, width, BAR - 4, { rx: width > 6 ? 3 : 0, ...fills[row.light] })];
    if (width > 15 && runs.length === 1) {
      const words = width > 44 ? `${symbol} ${fit(row.name, width - 26, "600 11px")}` : symbol;
      parts.push(label(api, from + 4, y + 13, words, { class: `on ${row.light}` }));
    }
    const title = runs.length === 1 ? one(api, worst, begin) : several(api, runs, begin);
    return mark(
      api,
      { class: "mark run", title, focus: `bar|${runs[0].row.path}`, open: row.path },
      ...parts,
    );
  }

  /** A merged bar shows its lights by their shares, the worst on top; each can be seen. */
  function layers(api, runs, from, y, width, fills) {
    const lights = byLight(runs.map((run) => run.row));
    const tall = BAR - 4 - 3 * (lights.length - 1);
    let top = y;
    return lights.map(([light, size], index) => {
      const share = (tall * size) / runs.length + (index < lights.length - 1 ? 3 : 0);
      const layer = box(api, from, top, width, share, fills[light]);
      top += share;
      return layer;
    });
  }

  function one(api, { row, start, end, worker }, begin) {
    const { symbol, word } = api.light(row);
    const time = `${duration(end - start)} on ${worker}, from ${clock(start - begin)}${row.light === "running" ? " until now" : ` to ${clock(end - begin)}`}`;
    return [`${symbol} ${row.name}: ${word}`, time, row.flow].filter(Boolean).join("\n");
  }

  function several(api, runs, begin) {
    const lights = byLight(runs.map((run) => run.row));
    const words = lights.map(([light, size]) => `${size} ${lightIn(api, light)}`);
    const names = runs.slice(0, 4).map(({ row }) => row.name);
    if (runs.length > 4) names.push(`${runs.length - 4} more`);
    return `${count(runs.length, "short instance")} from ${clock(runs[0].start - begin)}: ${listed(words)}\n${listed(names)}`;
  }

  function times(api, plot, across, begin, end, inner, height) {
    const steps = [
      0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400,
    ];
    const rough = (end - begin) / Math.max(2, inner / 90);
    const step = steps.find((one) => one >= rough) || Math.ceil(rough / 86400) * 86400;
    const words = api.svg("g", {});
    for (let index = 0; index * step <= end - begin; index += 1) {
      const at = round(across(begin + index * step));
      plot.append(line(api, at, 14, at, height, { class: "grid" }));
      const said = step < 1 ? `${(index * step).toFixed(1)} s` : clock(index * step);
      if (at < inner - 16)
        words.append(label(api, at, height + 16, said, { class: index ? "tick middle" : "tick" }));
    }
    return words;
  }

  /** Above the lanes: how many workers worked, over time. */
  function strip(api, axis, plot, lanes, across, inner, left) {
    const columns = new Float64Array(Math.ceil(inner) + 2);
    for (const lane of lanes) {
      for (const [start, end] of lane.busy) {
        const [from, to] = [across(start), across(end)];
        const [first, last] = [Math.floor(from), Math.floor(to)];
        if (first === last) columns[first] += to - from;
        else {
          columns[first] += first + 1 - from;
          for (let at = first + 1; at < last; at += 1) columns[at] += 1;
          columns[last] += to - last;
        }
      }
    }
    const [base, tall] = [14 + STRIP, STRIP];
    const path = [`M0 ${base}`];
    let before = -1;
    columns.forEach((working, at) => {
      const y = round(base - (tall * Math.min(working, lanes.length)) / lanes.length);
      if (y !== before) path.push(`H${at}V${y}`);
      before = y;
    });
    path.push(`H${columns.length}V${base}Z`);
    plot.append(
      box(api, 0, 14, inner, tall, { class: "track" }),
      api.svg("path", { d: path.join(""), class: "working" }),
    );
    axis.append(
      label(api, left - 10, 18, String(lanes.length), { class: "tick end" }),
      label(api, left - 10, base, "0", { class: "tick end" }),
    );
    axis.append(
      label(api, left - 22, 33, "workers", { class: "tick end" }),
      label(api, left - 22, 46, "busy", { class: "tick end" }),
    );
  }

  function fillsOf(api) {
    const definitions = api.svg("defs", {});
    const fills = {};
    for (const light of LIGHTS) {
      fills[light] = { class: `fill ${light}` };
      if (!TEXTURE[light]) continue;
      const { id, definition } = texture(api, TEXTURE[light], `tone-of ${light}`);
      definitions.append(definition);
      fills[light] = { class: `fill textured ${light}`, fill: `url(#${id})` };
    }
    return { definitions, fills };
  }

  function legendOf(it, runs, fills) {
    const { api } = it;
    const items = LIGHTS.map((light) => [light, runs.filter(({ row }) => row.light === light).length]).filter(
      ([, size]) => size,
    );
    const swatch = (light) =>
      api.svg(
        "svg",
        { width: 22, height: 14, class: "swatch", "aria-hidden": "true" },
        box(api, 1, 1, 20, 12, { rx: 2, ...fills[light] }),
      );
    return api.el(
      "ul",
      { class: "legend", "aria-label": "Lights" },
      ...items.map(([light, size]) =>
        api.el(
          "li",
          {},
          swatch(light),
          api.el("span", { class: `light ${light}` }, lightIn(api, light)),
          ` ${size.toLocaleString("en")}`,
        ),
      ),
    );
  }
})();
