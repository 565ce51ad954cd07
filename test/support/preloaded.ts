/** A library that is preloaded into a process, and steered by a file which it maps. */
import { execFileSync } from "node:child_process";
import { closeSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { temporaryFolder } from "./temporary-folder.ts";

export interface Preloaded {
  /** Environment of the processes that have it. */
  readonly env: Readonly<Record<string, string>>;
  /** Writes the steering file, which takes effect at once. */
  steer(bytes: Uint8Array): void;
}

/**
 * Compiles a library.
 *
 * @param source name of the C file in this folder
 * @param variable by which the library finds its file
 * @param bytes what the file has at first
 * @returns undefined where that is impossible; the test is then skipped
 */
export function preloaded(source: string, variable: string, bytes: Uint8Array): Preloaded | undefined {
  if (process.platform !== "linux") return undefined;
  const folder = temporaryFolder();
  const [library, file] = [join(folder, "library.so"), join(folder, "steering")];
  try {
    const path = fileURLToPath(new URL(source, import.meta.url));
    execFileSync("cc", ["-O2", "-shared", "-fPIC", "-o", library, path], { stdio: "pipe" });
  } catch {
    return undefined;
  }
  writeFileSync(file, bytes);
  return {
    env: { LD_PRELOAD: library, [variable]: file },
    steer(next) {
      const fd = openSync(file, "r+");
      writeSync(fd, next, 0, next.length, 0);
      closeSync(fd);
    },
  };
}
