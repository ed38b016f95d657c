"use strict";
// Draws the figures in the page's own colours, and again when the reader's theme changes.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = [...document.querySelectorAll("[data-figure]")];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 600px)");

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function themed(layout) {
    const line = colour("--line"), ink = colour("--ink"), soft = colour("--soft");
    const result = {
      ...layout,
      autosize: true,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: {family: getComputedStyle(document.body).fontFamily, size: 12, color: soft},
      hovermode: layout.hovermode || "closest",
      hoverlabel: {bgcolor: colour("--card"), bordercolor: line, font: {color: ink, size: 12}},
      annotations: (layout.annotations || []).map((note) => ({bgcolor: colour("--card"), ...note})),
    };
    const axes = new Set(["xaxis", "yaxis", ...Object.keys(layout).filter((k) => /^[xy]axis\d*$$/.test(k))]);
    for (const key of axes) {
      result[key] = {
        gridcolor: line, linecolor: line, zeroline: false, automargin: true,
        showline: key.startsWith("x"), ticks: key.startsWith("x") ? "outside" : "",
        tickcolor: line, ...layout[key],
        ...(narrow.matches && key.startsWith("x") ? {tickangle: "auto", nticks: 5} : {}),
      };
    }
    return result;
  }

  function draw() {
    for (const plot of plots) plot.redraw();
  }

  // Other scripts may change a plot's figure and have it drawn again.
  for (const plot of plots) {
    plot.figure = figures[plot.dataset.figure];
    plot.redraw = () => Plotly.react(plot, plot.figure.data, themed(plot.figure.layout), {
      displaylogo: false, displayModeBar: false,
    });
  }

  if (typeof Plotly === "undefined") {
    for (const plot of plots) {
      plot.className = "note";
      plot.textContent = "This plot needs plotly.min.js, which was written with this page. " +
        "Move both together, or write the page with --self-contained.";
    }
    return;
  }
  draw();
  // A card may change width without the window doing so.
  const resized = new ResizeObserver((entries) => {
    for (const entry of entries) Plotly.relayout(entry.target, {autosize: true});
  });
  for (const plot of plots) resized.observe(plot);
  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
})();
