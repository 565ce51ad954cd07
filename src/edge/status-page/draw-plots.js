/*
 * Draws the plots of the status page with uPlot, and writes its times in the time zone of the browser. Without this script
 * the page has all numbers in tables, and times in UTC. It runs as it is: no build makes it.
 */

/* global uPlot */

/** How often plots are drawn anew, in milliseconds: as often as the history has another interval. */
const AGAIN = 120_000;
const HEIGHT = 190;

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

function amount(value, unit) {
  if (value === null || value === undefined) return "–";
  let [shown, prefix] = [value, ""];
  if (unit === "B/s") {
    let at = 0;
    while (Math.abs(shown) >= 1024 && at < UNITS.length - 1) [shown, at] = [shown / 1024, at + 1];
    prefix = ` ${UNITS[at]}/s`;
  } else prefix = unit;
  return new Intl.NumberFormat("en", { maximumSignificantDigits: 3 }).format(shown) + prefix;
}

/** @param colours a function that returns the value of a custom property of the page */
function optionsOf(width, unit, lines, colours) {
  const axis = { stroke: colours("--quiet"), grid: { stroke: colours("--line"), width: 1 }, ticks: { show: false } };
  const series = lines.map(({ label }, at) => ({
    label,
    stroke: colours(`--plot-${(at % 6) + 1}`),
    width: 2,
    // A line of its own kind, for who cannot tell the colours apart.
    dash: [[], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [10, 4]][at % 6],
    points: { show: false },
    value: (_, value) => amount(value, unit),
  }));
  return {
    width,
    height: HEIGHT,
    series: [{ value: (_, at) => (at === null ? "–" : new Date(at * 1000).toLocaleTimeString()) }, ...series],
    axes: [
      { ...axis, space: 72 },
      { ...axis, size: 80, values: (_, values) => values.map((value) => amount(value, unit)) },
    ],
    scales: { y: { range: (_, _least, most) => [0, most > 0 ? most * 1.1 : 1] } },
    cursor: { drag: { x: true, y: false } },
    // The legend has the last values until the mouse is at others.
    hooks: { ready: [(plot) => plot.setLegend({ idx: plot.data[0].length - 1 })] },
  };
}

const drawn = new Map();

function draw({ times, plots }) {
  const styles = getComputedStyle(document.documentElement);
  const colours = (name) => styles.getPropertyValue(name).trim();
  for (const figure of document.querySelectorAll("figure[data-plot]")) {
    const plot = plots[figure.dataset.plot];
    const place = figure.querySelector(".plot");
    if (plot === undefined) continue;
    drawn.get(place)?.destroy();
    drawn.delete(place);
    if (plot.lines.length === 0) {
      place.textContent = "None in this time.";
      continue;
    }
    place.textContent = "";
    const values = plot.lines.map((line) => line.values);
    const drawing = new uPlot(optionsOf(place.clientWidth, plot.unit, plot.lines, colours), [times, ...values], place);
    drawn.set(place, drawing);
  }
}

function writeTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (time.dataset.age === undefined) time.textContent = at.toLocaleString();
    else time.title = at.toLocaleString();
  }
}

async function begin() {
  writeTimes();
  const places = document.querySelectorAll("figure[data-plot] .plot");
  if (places.length === 0) return;
  let last;
  const load = async () => {
    const answer = await fetch("history.json", { cache: "no-store" }).catch(() => undefined);
    if (answer?.ok) {
      last = await answer.json();
      draw(last);
    } else if (last === undefined) {
      for (const place of places) place.textContent = "The history cannot be read. Load the page again.";
    }
  };
  const again = () => last !== undefined && draw(last);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  new ResizeObserver(() => {
    for (const [place, plot] of drawn) {
      if (place.clientWidth > 0 && place.clientWidth !== plot.width)
        plot.setSize({ width: place.clientWidth, height: HEIGHT });
    }
  }).observe(document.body);
  await load();
  setInterval(load, AGAIN);
}

void begin();
