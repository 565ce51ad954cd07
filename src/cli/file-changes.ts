/**
 * Notices that files have changed, by looking at them: watching fails on many file systems.
 *
 * @module
 */
import { statSync } from "node:fs";
import { codeOf } from "./files/file-system.ts";

/** How often files are looked at, in milliseconds. */
const LOOK = 500;

/** Changes when one of the files is replaced or written. */
export function stateOf(paths: readonly string[]): string {
  return paths.map(stateOfOne).join("\n");
}

function stateOfOne(path: string): string {
  try {
    const { ino, size, mtimeMs } = statSync(path);
    return `${ino} ${size} ${mtimeMs}`;
  } catch (error) {
    return codeOf(error) ?? "";
  }
}

export interface Watched {
  readonly paths: readonly string[];
  /** Their {@link stateOf} before they were read. */
  readonly state: string;
  readonly signal: AbortSignal;
  /** Milliseconds between two looks; default half a second. */
  readonly look?: number;
}

/**
 * Calls `changed` whenever files have changed and then stay as they are for one look: they may be in the middle of being
 * written.
 */
export function onChange({ paths, state, signal, look = LOOK }: Watched, changed: () => void): void {
  let [known, seen] = [state, state];
  const timer = setInterval(() => {
    const now = stateOf(paths);
    if (now === seen && now !== known) {
      known = now;
      changed();
    }
    seen = now;
  }, look);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}
