/*
 * The "Graph" tab: which instances use the outputs of which.
 *
 * Up to 300 instances are shown one by one; those that stand in the same place (same flow, same needs, same
 * users) share a frame, so that a fan of forty is one arrow and not forty. Beyond that, they are grouped by
 * instance file, flow or step. dagre does the layout; it is kept while the structure does not change, as when
 * a session is followed and only the lights do.
 */
(() => {
  "use strict";

  const { picture, mark, surface, label, box, count, fit, measure, round, byLight, lightIn, LIGHTS } =
    globalThis.Ductaflow.pictures;

  const MOST_NODES = 300;
  /** dagre takes seconds beyond: nodes plus one for every rank that an arrow passes. */
  const MOST_STATIONS = 2500;
  const [TALL, GAP, PAD] = [26, 6, 8];
  const GROUPS = {
    file: ["instance file", (row) => (row.id || row.path).split("::")[0]],
    flow: ["flow", (row) => row.flow || "(no flow)"],
    step: ["step", (row) => row.path.split("/")[0]],
  };

  globalThis.Ductaflow.graph = (element, page, api) => picture(element, page, api, "graph", draw);

  function draw(it) {
    const { page, api } = it;
    const part = it.section("graph", "Who needs whom");
    const { linked, needs, missing } = edgesOf(page.rows);
    if (!linked.length) {
      const words = page.rows.length
        ? `No instance uses another's outputs: ${count(page.rows.length, "instance stands", "instances stand")} alone. A path below runs/ in a config, such as "runs/prepare/JFK/flights.csv", makes one need the other.`
        : "There are no instances yet.";
      part.fill([], [api.el("p", { class: "none" }, words)]);
      return;
    }
    const single = it.kept.get("single") || {};
    const structure = JSON.stringify([
      linked.map((row) => row.path),
      linked.map((row) => [...needs.get(row)].map((one) => one.path)),
    ]);
    if (single.structure !== structure) {
      const blocks = linked.length <= MOST_NODES ? blocksOf(linked, needs) : null;
      const simple = blocks && stations(blocks) <= MOST_STATIONS;
      it.kept.set("single", { structure, simple });
    }
    const { simple } = it.kept.get("single");
    const kinds = [...(simple ? ["each"] : []), ...Object.keys(GROUPS)];
    const kind = it.chosen("graph.as", kinds, kinds[0]);
    const grouped = kind !== "each";
    const blocks = grouped ? groupsOf(linked, needs, GROUPS[kind][1]) : blocksOf(linked, needs);
    const plan = layout(it, `${kind} ${structure}`, blocks, grouped);

    const visible = new Set(api.visible());
    const chart = grouped ? drawGroups(it, plan, visible) : drawEach(it, plan, visible);
    const options = kinds.map((key) => [key, key === "each" ? "each instance" : `by ${GROUPS[key][0]}`]);
    const lights = byLight(linked).map(([light, size]) =>
      api.el(
        "li",
        {},
        api.el("span", { class: `light ${light}` }, lightIn(api, light)),
        ` ${size.toLocaleString("en")}`,
      ),
    );
    const sentences = ["An arrow goes from an instance to those that use its outputs."];
    if (grouped && !simple)
      sentences.push(
        `${count(linked.length, "instance")} with arrows are too many or too entangled to show one by one.`,
      );
    const alone = page.rows.length - linked.length;
    if (alone)
      sentences.push(
        `Left out: ${count(alone, "instance")} that ${alone === 1 ? "needs none and is" : "need none and are"} needed by none.`,
      );
    if (missing) sentences.push(`${count(missing, "needed run is", "needed runs are")} not on this page.`);
    const within = blocks.reduce((sum, block) => sum + (block.within || 0), 0);
    if (within)
      sentences.push(`${count(within, "arrow")} within a group ${within === 1 ? "is" : "are"} not drawn.`);
    if (plan.dropped)
      sentences.push(
        `Only the ${MOST_NODES} largest groups are shown, ${count(plan.dropped, "group")} more are not: choose another grouping.`,
      );
    if (visible.size < page.rows.length) sentences.push("Pale: what the filters leave out.");
    part.fill(
      [
        it.choice("graph.as", "Show", options, kind),
        api.el("ul", { class: "legend", "aria-label": "Lights" }, ...lights),
      ],
      [chart, api.el("p", { class: "hint" }, sentences.join(" ")), ...(grouped ? members(it, blocks) : [])],
    );
  }

  // ---------------------------------------------------------------- the graph of the rows

  /** Rows that need or are needed, and whom each of them needs; what a build's flows need, the build needs. */
  function edgesOf(rows) {
    const owner = new Map();
    const own = (run, row) => {
      owner.set(run.path, row);
      for (const inner of run.runs || []) own(inner, row);
    };
    for (const row of rows) own(row, row);
    const absent = new Set();
    const needs = new Map();
    const linked = new Set();
    const collect = (run, found, row) => {
      for (const path of run.needs || []) {
        const other = owner.get(path);
        if (!other) absent.add(path);
        else if (other !== row) found.add(other);
      }
      for (const inner of run.runs || []) collect(inner, found, row);
    };
    for (const row of rows) {
      const found = new Set();
      collect(row, found, row);
      needs.set(row, found);
      if (found.size) linked.add(row);
      for (const other of found) linked.add(other);
    }
    return { linked: rows.filter((row) => linked.has(row)), needs, missing: absent.size };
  }

  /** Blocks of rows that stand in the same place: {name, rows, needs: Map(block → number of arrows)}. */
  function blocksOf(linked, needs) {
    const number = new Map(linked.map((row, index) => [row, index]));
    const users = new Map(linked.map((row) => [row, []]));
    for (const row of linked) for (const other of needs.get(row)) users.get(other).push(number.get(row));
    const place = (row) =>
      JSON.stringify([
        row.flow,
        [...needs.get(row)].map((other) => number.get(other)).sort((a, b) => a - b),
        users.get(row),
      ]);
    const alike = new Map();
    for (const row of linked) {
      const key = place(row);
      if (!alike.has(key)) alike.set(key, []);
      alike.get(key).push(row);
    }
    const named = [...alike.values()].flatMap((rows) =>
      rows.length > 3 ? [rows] : rows.map((row) => [row]),
    );
    return connect(
      named.map((rows) => ({ name: rows[0].path, rows })),
      needs,
    );
  }

  function groupsOf(linked, needs, nameOf) {
    const groups = new Map();
    for (const row of linked) {
      const name = nameOf(row);
      if (!groups.has(name)) groups.set(name, { name, rows: [] });
      groups.get(name).rows.push(row);
    }
    return connect([...groups.values()], needs);
  }

  function connect(blocks, needs) {
    const home = new Map(blocks.flatMap((block) => block.rows.map((row) => [row, block])));
    for (const block of blocks) {
      block.needs = new Map();
      for (const row of block.rows) {
        for (const other of needs.get(row)) {
          const from = home.get(other);
          if (from === block) block.within = (block.within || 0) + 1;
          else if (from) block.needs.set(from, (block.needs.get(from) || 0) + 1);
        }
      }
    }
    return blocks;
  }

  /** How much dagre would have to place: blocks, and a station for every rank that an arrow passes. */
  function stations(blocks) {
    const rank = new Map();
    const visit = (block, depth) => {
      if (rank.has(block)) return rank.get(block);
      rank.set(block, 0);
      if (depth > MOST_NODES) return 0;
      let most = 0;
      for (const other of block.needs.keys()) most = Math.max(most, visit(other, depth + 1) + 1);
      rank.set(block, most);
      return most;
    };
    let size = 0;
    for (const block of blocks) {
      size += 1;
      for (const other of block.needs.keys())
        size += Math.max(1, Math.abs(visit(block, 0) - visit(other, 0)));
    }
    return size;
  }

  // ---------------------------------------------------------------- where things are

  /** The blocks with x, y (of their centre), width, height, and the arrows with their points, in px. */
  function layout(it, structure, all, grouped) {
    const sorted =
      grouped && all.length > MOST_NODES ? [...all].sort((a, b) => b.rows.length - a.rows.length) : all;
    const blocks = sorted.slice(0, MOST_NODES);
    const known = it.kept.get("layout");
    if (known && known.structure === structure) {
      const places = known.places;
      for (const [index, block] of blocks.entries()) Object.assign(block, places[index]);
      return {
        ...known.size,
        blocks,
        dropped: all.length - blocks.length,
        arrows: known.arrows.map(([from, to, points]) => [blocks[from], blocks[to], points]),
      };
    }
    const { dagre } = globalThis;
    const graph = new dagre.graphlib.Graph();
    graph.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 76, edgesep: 8, marginx: 4, marginy: 4 });
    graph.setDefaultEdgeLabel(() => ({}));
    const index = new Map(blocks.map((block, position) => [block, position]));
    for (const block of blocks)
      graph.setNode(String(index.get(block)), grouped ? groupSize(block) : blockSize(block));
    for (const block of blocks) {
      for (const other of block.needs.keys()) {
        if (index.has(other))
          graph.setEdge(String(index.get(other)), String(index.get(block)), { weight: 1 });
      }
    }
    dagre.layout(graph);
    const places = blocks.map((_, position) => {
      const { x, y, width, height, columns, wide } = graph.node(String(position));
      return { x, y, width, height, columns, wide };
    });
    const arrows = graph.edges().map((edge) => [Number(edge.v), Number(edge.w), graph.edge(edge).points]);
    const size = { width: graph.graph().width, height: graph.graph().height };
    it.kept.set("layout", { structure, places, arrows, size });
    return layout(it, structure, all, grouped);
  }

  function blockSize(block) {
    const widest = Math.max(...block.rows.map((row) => measure(`● ${row.name}`)));
    const wide = Math.ceil(Math.min(170, Math.max(64, widest + 18)));
    if (block.rows.length === 1) return { width: wide, height: TALL, columns: 1, wide };
    const columns = Math.min(6, Math.ceil(block.rows.length / 10));
    const lines = Math.ceil(block.rows.length / columns);
    return {
      width: columns * (wide + GAP) - GAP + 2 * PAD,
      height: lines * (TALL + GAP) - GAP + 2 * PAD,
      columns,
      wide,
    };
  }

  function groupSize(block) {
    const counts = byLight(block.rows).length * 52 + 20;
    const width = Math.ceil(Math.min(260, Math.max(150, counts, measure(block.name, "600 13px") + 24)));
    return { width, height: 62, columns: 1, wide: width };
  }

  // ---------------------------------------------------------------- drawing

  function drawEach(it, plan, visible) {
    const { api } = it;
    const chart = surface(
      api,
      plan.width,
      plan.height,
      "Instance graph: who needs whom. The arrow keys go from one to the next, Enter opens it.",
    );
    const { links, reach } = arrows(api, plan);
    chart.append(links);
    const marks = new Map();
    for (const block of plan.blocks) {
      const [left, top] = [block.x - block.width / 2, block.y - block.height / 2];
      const many = block.rows.length > 1;
      if (many) chart.append(box(api, left, top, block.width, block.height, { rx: 8, class: "frame" }));
      block.rows.forEach((row, index) => {
        const x = left + (many ? PAD + (index % block.columns) * (block.wide + GAP) : 0);
        const y = top + (many ? PAD + Math.floor(index / block.columns) * (TALL + GAP) : 0);
        const node = nodeOf(api, row, x, y, block, visible.has(row));
        marks.set(node, block);
        chart.append(node);
      });
    }
    lighting(it, chart, marks, reach);
    return api.el("div", { class: "scroller sheet", "data-scroll": "graph" }, chart);
  }

  function nodeOf(api, row, x, y, block, shown) {
    const { symbol, word } = api.light(row);
    const details = [row.flow, row.because].filter(Boolean);
    const title = [`${symbol} ${row.name}: ${word}`, row.path, ...details].join("\n");
    const words = fit(row.name, block.wide - 30);
    return mark(
      api,
      {
        class: `mark node ${row.light}${shown ? "" : " pale"}`,
        title,
        focus: `node|${row.path}`,
        open: row.path,
      },
      box(api, x, y, block.wide, TALL, { rx: 5, class: "card" }),
      label(api, x + 8, y + TALL / 2 + 4, symbol, { class: "symbol" }),
      label(api, x + 23, y + TALL / 2 + 4, words, { class: "words" }),
    );
  }

  function drawGroups(it, plan, visible) {
    const { api } = it;
    const chart = surface(
      api,
      plan.width,
      plan.height,
      "Graph of the groups: which needs which. The arrow keys go from one to the next, Enter lists its instances.",
    );
    const { links, reach } = arrows(api, plan);
    chart.append(links);
    const marks = new Map();
    for (const block of plan.blocks) {
      const [x, y] = [block.x - block.width / 2, block.y - block.height / 2];
      const lights = byLight(block.rows);
      const title = [
        block.name,
        count(block.rows.length, "instance"),
        ...lights.map(([light, size]) => `${lightIn(api, light)}: ${size.toLocaleString("en")}`),
      ].join("\n");
      const shown = block.rows.some((row) => visible.has(row));
      const parts = [
        box(api, x, y, block.width, block.height, { rx: 7, class: "card" }),
        label(api, x + 10, y + 20, fit(block.name, block.width - 20, "600 13px"), { class: "title" }),
      ];
      let [at, bar] = [x + 10, x + 10];
      const scale = (block.width - 20) / block.rows.length;
      for (const [light, size] of lights) {
        const words = `${api.light({ light }).symbol} ${size.toLocaleString("en")}`;
        parts.push(
          label(api, at, y + 39, words, { class: `count ${light}` }),
          box(api, bar, y + 48, size * scale, 6, { class: `share ${light}` }),
        );
        at += measure(words) + 12;
        bar += size * scale;
      }
      const chosen = api.get("graph.group") === block.name;
      const classes = `mark group${shown ? "" : " pale"}${chosen ? " chosen" : ""}`;
      const node = mark(
        api,
        {
          class: classes,
          title,
          focus: `group|${block.name}`,
          set: "graph.group",
          value: chosen ? "" : block.name,
        },
        ...parts,
      );
      marks.set(node, block);
      chart.append(node);
    }
    lighting(it, chart, marks, reach);
    return api.el("div", { class: "scroller sheet", "data-scroll": "graph" }, chart);
  }

  /** The arrows, and for each block the arrows and blocks that touch it. */
  function arrows(api, plan) {
    const links = api.svg("g", { class: "links" });
    const reach = new Map(plan.blocks.map((block) => [block, new Set([block])]));
    const ranks = ranksOf(plan.blocks);
    const most = Math.max(1, ...plan.arrows.map(([from, to]) => to.needs.get(from) || 1));
    for (const [from, to, points] of plan.arrows) {
      const ahead = from.x <= to.x ? 1 : -1;
      const end = [to.x - ahead * (to.width / 2 + 6), to.y];
      const path = wire(from, to, points, ranks, ahead);
      const wide = round(1.2 + (2.5 * Math.log(to.needs.get(from) || 1)) / Math.log(most + 1));
      const head = `M${round(end[0] + ahead * 7)} ${round(end[1])}l${-8 * ahead} -4.5v9Z`;
      const link = api.svg(
        "g",
        { class: "link" },
        api.svg("path", { d: path, class: "wire", "stroke-width": wide }),
        api.svg("path", { d: head, class: "tip" }),
      );
      links.append(link);
      for (const [one, other] of [
        [from, to],
        [to, from],
      ])
        reach.get(one).add(link).add(other);
    }
    return { links, reach };
  }

  /** Each rank's left and right border by the x of its centre: arrows are straight inside, curved between. */
  function ranksOf(blocks) {
    const ranks = new Map();
    for (const { x, width } of blocks) {
      const half = Math.max(width / 2, ranks.get(Math.round(x)) || 0);
      ranks.set(Math.round(x), half);
    }
    return ranks;
  }

  function wire(from, to, points, ranks, ahead) {
    const half = (x) => ranks.get(Math.round(x));
    const passed = points.slice(1, -1).filter(({ x }) => half(x) !== undefined && x !== from.x && x !== to.x);
    const stops = [{ x: from.x, y: from.y }, ...passed, { x: to.x, y: to.y }];
    const path = [`M${round(from.x + (ahead * from.width) / 2)} ${round(from.y)}`];
    stops.slice(1).forEach((stop, index) => {
      const before = stops[index];
      const leave = before.x + ahead * half(before.x);
      const arrive = stop.x - ahead * (half(stop.x) + 8);
      const middle = round((leave + arrive) / 2);
      path.push(
        `H${round(leave)}C${middle} ${round(before.y)} ${middle} ${round(stop.y)} ${round(arrive)} ${round(stop.y)}`,
      );
    });
    path.push(`H${round(to.x - ahead * (to.width / 2 + 6))}`);
    return path.join("");
  }

  /** What touches the mark under pointer or focus stands out, the rest steps back. */
  function lighting(it, chart, marks, reach) {
    let lit = [];
    it.point = (node) => {
      for (const one of lit) one.classList.remove("lit");
      lit = [];
      const block = node && marks.get(node);
      chart.classList.toggle("lighting", Boolean(block));
      if (!block) return;
      const near = reach.get(block);
      lit = [...near].filter((one) => one instanceof Element);
      for (const [other, home] of marks)
        if (home === block ? other === node || home.rows.length === 1 : near.has(home)) lit.push(other);
      for (const one of lit) one.classList.add("lit");
    };
  }

  /** The instances of the chosen group, those that need attention first. */
  function members(it, blocks) {
    const { api } = it;
    const block = blocks.find((one) => one.name === api.get("graph.group"));
    if (!block) return [api.el("p", { class: "hint" }, "Choose a group to list its instances.")];
    const rows = [...block.rows].sort((a, b) => LIGHTS.indexOf(a.light) - LIGHTS.indexOf(b.light));
    const shown = rows.slice(0, it.shown("members", 100));
    const items = shown.map((row) => {
      const light = api.el(
        "span",
        { class: `light ${row.light}`, title: api.light(row).word },
        api.light(row).symbol,
      );
      const does = {
        type: "button",
        class: "link",
        "data-open": row.path,
        "data-focus": `open|${row.path}`,
        title: row.path,
      };
      return api.el("li", {}, api.el("button", does, light, " ", api.el("bdi", {}, row.name)));
    });
    const rest = rows.length - shown.length;
    const more = api.el(
      "button",
      { type: "button", class: "more", "data-more": "members", "data-focus": "more|members" },
      `Show ${count(Math.min(500, rest), "row")} more`,
    );
    return [
      api.el("h3", {}, api.el("bdi", {}, block.name), `: ${count(rows.length, "instance")}`),
      api.el("ul", { class: "names" }, ...items),
      ...(rest > 0
        ? [
            api.el(
              "p",
              { class: "hint" },
              `${shown.length.toLocaleString("en")} of ${count(rows.length, "instance")} shown. `,
              more,
            ),
          ]
        : []),
    ];
  }
})();
