/**
 * How the command speaks: one line for an error, JSON for machines, a progress bar for a person.
 *
 * @module
 */

import { fitted, visible } from "../lib/printable.ts";
import type { ExitName } from "./exit-codes.ts";

/** An error that the user can mend. Its message is the line that is printed; its code is listed in the README. */
export class CommandError extends Error {
  readonly code: string;
  /** How the command ends, where exit-codes.ts does not tell that by the code. */
  readonly ending: ExitName | undefined;

  constructor(code: string, message: string, ending?: ExitName) {
    super(message);
    this.name = "CommandError";
    this.code = code;
    this.ending = ending;
  }
}

/** Octets for a person: `8.0 MiB`. */
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
  /** Called as often as the caller likes; draws at most ten times a second. A label takes the place of the one before. */
  update(done: number, total: number | undefined, label?: string): void;
  /** Takes the bar off the screen until the next update, so that a line can be written. */
  hide(): void;
  /** Takes the bar off the screen. */
  end(): void;
}

/** A bar appears only for what takes longer than this, in milliseconds: short transfers need none. */
const PATIENCE = 1000;
const REDRAW = 100;

/** Columns of a terminal that does not say. */
const COLUMNS = 80;

/**
 * A progress bar on standard error, when that is a terminal and the work takes longer than a second. Otherwise nothing.
 *
 * @param label anybody's text: it is escaped, and cut where the terminal is too narrow
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
      // A line that is too long would go on in the next one, where nothing takes it away.
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
