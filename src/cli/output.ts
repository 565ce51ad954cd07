/**
 * Output of the command: one line for an error, JSON for machines, a progress bar for people.
 *
 * @module
 */

import { fitted, visible } from "../lib/printable.ts";

/** Formats a number of bytes for display, such as `8.0 MiB`. */
export function size(octets: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = octets;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${value} B` : `${value.toFixed(1)} ${units[unit]}`;
}

export interface Progress {
  /** Callable at any rate; redraws at most ten times a second. A new label replaces the previous one. */
  update(done: number, total: number | undefined, label?: string): void;
  /** Clears the bar until the next update, so that a line can be printed. */
  hide(): void;
  /** Clears the bar. */
  end(): void;
}

/** The bar appears only after this many milliseconds: short transfers need none. */
const PATIENCE = 1000;
const REDRAW = 100;

/** Assumed width of a terminal that does not report one. */
const COLUMNS = 80;

/**
 * Creates a progress bar on standard error. It appears only if that is a terminal and the work takes longer than a
 * second.
 *
 * @param label untrusted text: it is escaped, and cut to the width of the terminal
 */
export function progressBar(label: string, stream: NodeJS.WriteStream = process.stderr): Progress {
  const started = performance.now();
  let drawn = 0;
  let isShown = false;
  let shownLabel = label;
  const hide = () => {
    if (isShown) stream.write("\r\x1b[K");
    isShown = false;
  };
  return {
    update(done, total, newLabel = shownLabel) {
      shownLabel = newLabel;
      const now = performance.now();
      if (!stream.isTTY || now - started < PATIENCE || now - drawn < REDRAW) return;
      drawn = now;
      isShown = true;
      const rate = `${size(Math.round(done / ((now - started) / 1000)))}/s`;
      const figures = ` ${total === undefined ? size(done) : bar(done, total)} ${rate}`;
      // A longer line would wrap, and the wrapped part would never be cleared.
      const room = (stream.columns ?? COLUMNS) - figures.length - 1;
      stream.write(`\r\x1b[K${fitted(visible(shownLabel), room)}${figures}`);
    },
    hide() {
      hide();
      drawn = performance.now();
    },
    end: hide,
  };
}

function bar(done: number, total: number): string {
  const width = 24;
  const part = total === 0 ? 1 : Math.min(1, done / total);
  const full = Math.round(part * width);
  return `[${"#".repeat(full)}${"-".repeat(width - full)}] ${Math.floor(part * 100)}% ${size(done)} of ${size(total)}`;
}
