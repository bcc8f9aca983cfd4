/*
 * Small charts in SVG: bars, lines, heat map.
 *
 * They are as wide as they are told, and scroll sideways beside their axis where that is too narrow. Series
 * differ by colour and by texture, or by colour, marker and dash; every mark says its numbers as its title.
 */
(() => {
  "use strict";

  const {
    mark,
    surface,
    scroller,
    legend,
    label,
    line,
    box,
    texture,
    TEXTURES,
    formatter,
    number,
    count,
    ticks,
    measure,
    fit,
    round,
  } = globalThis.Ductaflow.pictures;

  // ---------------------------------------------------------------- series: colour and shape

  /** Markers around (0, 0). Eight differ in shape, and the lines' dashes differ too. */
  const MARKERS = [
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0Z",
    "M-4 -4H4V4H-4Z",
    "M0 -5.5L5.5 0L0 5.5L-5.5 0Z",
    "M0 -5.5L5.2 4H-5.2Z",
    "M0 5.5L5.2 -4H-5.2Z",
    "M-1.7 -5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5V-1.7H-1.7Z",
    "M-5 -3V3H5V-3Z",
    "M-2.6 -5H2.6L5.2 0L2.6 5H-2.6L-5.2 0Z",
  ];
  const DASHES = ["", "7 4", "2 3", "10 3 2 3", "5 2", "12 4", "1 4", "8 2 2 2 2 2"];
  const SERIES = MARKERS.length;
  const colour = (index) => `series-${(index % SERIES) + 1}`;
  const dash = (index) => DASHES[(index + Math.floor(index / SERIES)) % SERIES];

  /** Fills for n series, as attributes, with what defines them. */
  function fills(api, size, plain = false) {
    const definitions = api.svg("defs", {});
    const attributes = Array.from({ length: size }, (_, index) => {
      const drawing = TEXTURES[(index + Math.floor(index / SERIES)) % SERIES];
      if (plain || !drawing) return { class: `solid ${colour(index)}` };
      const { id, definition } = texture(api, drawing, colour(index));
      definitions.append(definition);
      return { class: `textured ${colour(index)}`, fill: `url(#${id})` };
    });
    return { definitions, attributes };
  }

  // ---------------------------------------------------------------- bars and lines

  /**
   * `spec`: {name: for focus and scroll, label: said by screen readers, y: {name, unit, format},
   * x: {name, values: [text], numbers: [number] or null}, by: name of the series' dimension or "",
   * series: [{name, points: Map(text → {mean, low, high, rows: [row]})}], reference: null or {name, value}, width: px}.
   */
  function bars(api, spec) {
    return xy(api, spec, true);
  }

  /** As `bars`; along a true axis if the values are numbers. */
  function lines(api, spec) {
    return xy(api, spec, false);
  }

  function xy(api, spec, standing) {
    const { y, x, series, reference } = spec;
    const all = series.flatMap((it) => [...it.points.values()].flatMap((point) => [point.low, point.high]));
    if (reference) all.push(reference.value);
    if (!all.length) return api.el("p", { class: "none" }, "Nothing to plot.");
    let [low, high] = [Math.min(...all), Math.max(...all)];
    if (standing || (low > 0 && low < 0.5 * high)) low = Math.min(0, low);
    if (standing || (high < 0 && high > 0.5 * low)) high = Math.max(0, high);
    const levels = ticks(low, high, 5);
    const [bottom, top] = [levels[0], levels[levels.length - 1]];
    const format = y.format || formatter(levels);
    const words = levels.map((level) => format(level));
    const left = Math.ceil(Math.max(...words.map((it) => measure(it)))) + 14;
    const numeric = !standing && x.numbers;
    const name = (values) => Math.max(...values.map((it) => Math.min(110, measure(it))));
    const least = standing ? series.length * 7 + 8 : 18;
    const room = spec.width - left - 12;
    const slot = numeric ? 0 : Math.max(least, Math.min(room / x.values.length, 90 + 70 * series.length));
    const inner = numeric ? room : slot * x.values.length;
    const span = numeric ? [Math.min(...x.numbers), Math.max(...x.numbers)] : null;
    const turned = !numeric && name(x.values) > slot - 6;
    const height = 260;
    const head = 26;
    const below = turned ? 20 + name(x.values) * 0.66 + 22 : 42;
    const vertical = (value) => round(head + height * (1 - (value - bottom) / (top - bottom)));
    const across = numeric
      ? (index) =>
          round(
            14 +
              (inner - 28) * (span[1] === span[0] ? 0.5 : (x.numbers[index] - span[0]) / (span[1] - span[0])),
          )
      : (index) => round(slot * (index + 0.5));

    const axis = surface(api, left, head + height + below, "");
    const plot = surface(api, inner + 12, head + height + below, spec.label);
    axis.append(
      label(api, 2, 13, fit(y.unit ? `${y.name} [${y.unit}]` : y.name, spec.width - 20, "600 12px"), {
        class: "name",
      }),
    );
    levels.forEach((level, index) => {
      axis.append(label(api, left - 8, vertical(level) + 4, words[index], { class: "tick end" }));
      plot.append(
        line(api, 0, vertical(level), inner, vertical(level), { class: level === 0 ? "zero" : "grid" }),
      );
    });
    if (numeric) abscissa(api, plot, x, across, inner, head + height);
    else categories(api, plot, x, across, slot, head + height, turned);
    plot.append(
      label(api, Math.min(inner / 2, room / 2), head + height + below - 4, fit(x.name, inner, "600 12px"), {
        class: "name middle",
      }),
    );

    const { definitions, attributes } = fills(api, standing ? series.length : 0);
    plot.append(definitions);
    const zero = vertical(Math.min(Math.max(0, bottom), top));
    series.forEach((it, index) => {
      const found = x.values
        .map((value, position) => [position, it.points.get(value)])
        .filter(([, point]) => point);
      if (!standing) {
        const path = found
          .map(([position, point]) => `${across(position)} ${vertical(point.mean)}`)
          .join("L");
        plot.append(
          api.svg("path", {
            d: `M${path}`,
            class: `curve ${colour(index)}`,
            "stroke-dasharray": dash(index),
          }),
        );
      }
      for (const [position, point] of found) {
        const thick = Math.min(64, (slot - Math.min(10, slot * 0.25)) / series.length);
        const middle = standing
          ? across(position) + (index - (series.length - 1) / 2) * thick
          : across(position);
        const at = vertical(point.mean);
        const shape = standing
          ? box(
              api,
              middle - thick / 2 + 0.5,
              Math.min(at, zero),
              thick - 1,
              Math.max(1, Math.abs(zero - at)),
              attributes[index],
            )
          : api.svg("path", {
              d: MARKERS[index % SERIES],
              class: `solid ${colour(index)}`,
              transform: `translate(${middle} ${at})`,
            });
        const parts = [shape];
        if (point.high > point.low)
          parts.push(
            whisker(
              api,
              middle,
              vertical(point.low),
              vertical(point.high),
              standing ? "over" : colour(index),
            ),
          );
        if (!standing) parts.push(api.svg("circle", { cx: middle, cy: at, r: 11, class: "reach" }));
        plot.append(pointMark(api, spec, it, x.values[position], point, parts));
      }
    });
    if (reference)
      plot.append(
        line(api, 0, vertical(reference.value), inner, vertical(reference.value), { class: "reference" }),
      );
    const swatches = series.map((it, index) => ({
      name: it.name,
      swatch: swatch(api, index, standing, attributes[index]),
    }));
    if (reference) {
      const value = withUnit(y, (y.format || number)(reference.value));
      const drawing = line(api, 0, 7, 30, 7, { class: "reference" });
      swatches.push({
        name: `⚑ ${reference.name}: ${value}`,
        swatch: api.svg("svg", { width: 30, height: 14, class: "swatch", "aria-hidden": "true" }, drawing),
      });
    }
    // The legend's textures are those of the chart: both are in one figure.
    return api.el(
      "figure",
      { class: "chart" },
      ...(spec.by || reference ? [legend(api, spec.by, spec.by ? swatches : swatches.slice(-1))] : []),
      scroller(api, spec.name, axis, plot),
    );
  }

  const withUnit = (y, words) => (y.unit ? `${words} ${y.unit}` : words);

  function pointMark(api, spec, series, value, point, parts) {
    const format = spec.y.format || formatter([point.mean, point.low, point.high]);
    const first = point.rows[0];
    const where = [`${spec.x.name} = ${value}`, ...(spec.by ? [`${spec.by} = ${series.name}`] : [])].join(
      ", ",
    );
    const what =
      point.rows.length === 1
        ? `${spec.y.name}: ${withUnit(spec.y, format(point.mean))}\n${api.light(first).symbol} ${first.name}`
        : `${spec.y.name}: mean ${withUnit(spec.y, format(point.mean))}, from ${format(point.low)} to ${format(point.high)}\n${count(point.rows.length, "instance")}`;
    const focus = `${spec.name}|${series.name}|${value}`;
    return mark(
      api,
      { class: "mark", title: `${where}\n${what}`, focus, open: point.rows.length === 1 ? first.path : "" },
      ...parts,
    );
  }

  function whisker(api, x, low, high, tone) {
    return api.svg("path", {
      d: `M${x} ${low}V${high}M${x - 4} ${low}H${x + 4}M${x - 4} ${high}H${x + 4}`,
      class: `whisker ${tone}`,
    });
  }

  function swatch(api, index, standing, attributes) {
    const parts = standing
      ? [box(api, 1, 1, 20, 12, attributes)]
      : [
          line(api, 0, 7, 30, 7, { class: `curve ${colour(index)}`, "stroke-dasharray": dash(index) }),
          api.svg("path", {
            d: MARKERS[index % SERIES],
            class: `solid ${colour(index)}`,
            transform: "translate(15 7)",
          }),
        ];
    return api.svg(
      "svg",
      { width: standing ? 22 : 30, height: 14, class: "swatch", "aria-hidden": "true" },
      ...parts,
    );
  }

  /** Ticks of a numeric axis: the values themselves where there is room for all, else round numbers. */
  function abscissa(api, plot, x, across, inner, base) {
    const [low, high] = [Math.min(...x.numbers), Math.max(...x.numbers)];
    const format = formatter(x.numbers);
    const places = x.numbers.map((value, index) => [across(index), format(value)]);
    const crowded = places.some(([at, words], index) => {
      if (!index) return false;
      const [before, last] = places[index - 1];
      return at - before < (measure(words) + measure(last)) / 2 + 8;
    });
    const scale = (value) =>
      across(0) + ((value - low) / (high - low)) * (across(x.numbers.length - 1) - across(0));
    const levels = crowded
      ? ticks(low, high, Math.max(2, inner / 90)).filter((it) => it >= low && it <= high)
      : [];
    const round_ = formatter(levels);
    const shown = crowded ? levels.map((level) => [scale(level), round_(level)]) : places;
    for (const [at, words] of shown) {
      plot.append(line(api, at, base, at, base + 4, { class: "zero" }));
      plot.append(label(api, at, base + 18, words, { class: "tick middle" }));
    }
  }

  function categories(api, plot, x, across, slot, base, turned) {
    x.values.forEach((value, index) => {
      const at = across(index);
      const words = fit(value, turned ? 110 : slot);
      const turn = turned
        ? { transform: `rotate(-40 ${at + 4} ${base + 14})`, class: "tick end" }
        : { class: "tick middle" };
      plot.append(label(api, turned ? at + 4 : at, base + (turned ? 14 : 18), words, turn));
    });
  }

  // ---------------------------------------------------------------- heat map

  /** As `bars`, with the series as lines of fields; the number stands in its field. */
  function heatmap(api, spec) {
    const { x, y, series } = spec;
    const means = series.flatMap((it) => [...it.points.values()].map((point) => point.mean));
    if (!means.length) return api.el("p", { class: "none" }, "Nothing to plot.");
    const [low, high] = [Math.min(...means), Math.max(...means)];
    const format = y.format || formatter(means);
    const left = Math.ceil(Math.max(...series.map((it) => Math.min(120, measure(it.name))))) + 14;
    const least = Math.max(...means.map((it) => measure(format(it)))) + 22;
    const room = spec.width - left - 6;
    const slot = Math.max(least, Math.min(120, room / x.values.length));
    const names = Math.max(...x.values.map((it) => Math.min(110, measure(it))));
    const turned = names > slot - 6;
    const [tall, head] = [32, 22];
    const base = head + tall * series.length;
    const height = base + (turned ? 20 + names * 0.66 + 22 : 42);
    const inner = slot * x.values.length;
    const axis = surface(api, left, height, "");
    const plot = surface(api, inner + 6, height, spec.label);
    axis.append(label(api, 2, 13, fit(spec.by, left + room, "600 12px"), { class: "name" }));
    const across = (index) => round(slot * (index + 0.5));
    series.forEach((it, row) => {
      const at = head + tall * row;
      axis.append(label(api, left - 8, at + tall / 2 + 4, fit(it.name, 120), { class: "tick end" }));
      x.values.forEach((value, column) => {
        const point = it.points.get(value);
        if (!point) {
          plot.append(label(api, across(column), at + tall / 2 + 4, "·", { class: "tick middle" }));
          return;
        }
        const share = high > low ? (point.mean - low) / (high - low) : 0.3;
        const field = box(api, slot * column + 1, at + 1, slot - 2, tall - 2, { rx: 3, class: "heat" });
        field.style.setProperty("--heat", `${Math.round(4 + 51 * share)}%`);
        const sign = high > low && point.mean === low ? "▼ " : high > low && point.mean === high ? "▲ " : "";
        const words = label(api, across(column), at + tall / 2 + 4, sign + format(point.mean), {
          class: "middle",
        });
        plot.append(pointMark(api, spec, it, value, point, [field, words]));
      });
    });
    categories(api, plot, x, across, slot, base, turned);
    plot.append(
      label(api, Math.min(inner, room) / 2, height - 4, fit(x.name, inner, "600 12px"), {
        class: "name middle",
      }),
    );
    const key = api.el(
      "p",
      { class: "hint" },
      `${y.name}${y.unit ? ` [${y.unit}]` : ""}: ▼ ${format(low)} lowest, ▲ ${format(high)} highest; the more colour, the higher.`,
    );
    return api.el("figure", { class: "chart" }, scroller(api, spec.name, axis, plot), key);
  }

  globalThis.Ductaflow.charts = { bars, lines, heatmap };
})();
