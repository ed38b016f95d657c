// Lets the reader pick a decision by a click or by keys, hide curves, and see finer curves on looking
// closer. All text goes in as text.
(() => {
  const MOST_POINTS = 2000;

  // Places of the least and the greatest value of each curve in each bucket of time, and the last.
  function kept(x, rows, from, to, most) {
    if (to - from <= most) return [...Array(to - from).keys()].map((place) => from + place);
    const buckets = Math.max(1, Math.floor((most - 1) / (2 * rows.length + 1)));
    const width = (x[to - 1] - x[from]) / buckets;
    const bucket = (place) => Math.min(buckets - 1, Math.floor((x[place] - x[from]) / width));
    const found = new Set([from]);
    for (let start = from; start < to;) {
      let end = start + 1;
      while (end < to && bucket(end) === bucket(start)) end += 1;
      found.add(end - 1);
      for (const row of rows) {
        let low = -1, high = -1;
        for (let place = start; place < end; place += 1) {
          if (row[place] === null) continue;
          if (low < 0 || row[place] < row[low]) low = place;
          if (high < 0 || row[place] > row[high]) high = place;
        }
        if (low >= 0) found.add(low).add(high);
      }
      start = end;
    }
    return [...found].sort((one, other) => one - other);
  }

  function refine(plot, range) {
    for (const part of plot.figure.fine || []) {
      const before = range ? part.x.findLastIndex((x) => x < range[0]) : 0;
      const after = range ? part.x.findIndex((x) => x > range[1]) : -1;
      const places = kept(part.x, part.y, Math.max(0, before),
        after < 0 ? part.x.length : after + 1, MOST_POINTS);
      part.traces.forEach((number, row) => {
        const trace = plot.figure.data[number];
        trace.x = places.map((place) => part.x[place]);
        trace.y = places.map((place) => part.y[row][place]);
      });
    }
    plot.redraw();
  }

  function zooming(plot) {
    plot.on("plotly_relayout", (change) => {
      if ("xaxis.range[0]" in change) refine(plot, [change["xaxis.range[0]"], change["xaxis.range[1]"]]);
      else if (change["xaxis.autorange"]) refine(plot, null);
    });
  }

  function picking(plot, card) {
    const decisions = plot.figure.decisions;
    const title = card.querySelector("h3"), list = card.querySelector("dl");
    let picked = 0;

    function show(number) {
      picked = Math.max(0, Math.min(decisions.length - 1, number));
      const one = decisions[picked];
      title.textContent = one.heading;
      list.replaceChildren(...one.details.flatMap(([name, value]) => [["dt", name], ["dd", value]])
        .map(([tag, text]) => Object.assign(document.createElement(tag), {textContent: text})));
      card.dataset.picked = picked;
      plot.figure.layout.shapes = [{type: "line", xref: "x", yref: "paper", x0: one.x, x1: one.x,
        y0: 0, y1: 1, line: {color: "#8a94a6", width: 1.5, dash: "dash"}}];
      Plotly.relayout(plot, {shapes: plot.figure.layout.shapes});
    }

    function nearest(x) {
      let best = 0;
      decisions.forEach((one, place) => {
        if (Math.abs(one.x - x) < Math.abs(decisions[best].x - x)) best = place;
      });
      return best;
    }

    function keys(event) {
      const to = {ArrowLeft: picked - 1, ArrowRight: picked + 1, Home: 0, End: decisions.length - 1};
      if (!(event.key in to) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      show(to[event.key]);
    }

    plot.on("plotly_click", ({points}) => {
      const mark = points.find((point) => point.customdata !== undefined);
      show(mark ? mark.customdata : nearest(points[0].x));
    });
    plot.tabIndex = 0;
    plot.addEventListener("keydown", keys);
    card.addEventListener("keydown", keys);
    for (const button of card.querySelectorAll("button")) {
      button.addEventListener("click", () => show(picked + Number(button.dataset.step)));
    }
  }

  function hiding(plot, button) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", shown);
      for (const trace of plot.figure.data) {
        if (trace.name === button.dataset.curves) trace.visible = shown;
      }
      plot.redraw();
    });
  }

  if (typeof Plotly === "undefined") return;
  for (const plot of document.querySelectorAll("[data-figure]")) {
    if (plot.figure.fine) zooming(plot);
    const card = document.querySelector(`[data-decisions="${plot.dataset.figure}"]`);
    if (card && plot.figure.decisions) picking(plot, card);
    const choices = document.querySelector(`[data-of="${plot.dataset.figure}"]`);
    for (const button of choices ? choices.querySelectorAll("button") : []) hiding(plot, button);
  }
})();
