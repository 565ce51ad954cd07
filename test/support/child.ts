/** Programs in separate processes, which a test may kill. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { soon } from "./watch.ts";

/** A program that has printed its first line. */
export interface Child {
  readonly process: ChildProcess;
  /** Its first line. */
  readonly line: string;
  /** Kills it without warning, as a machine failure would. Resolves when it is gone. */
  kill(): Promise<void>;
}

/** Starts a TypeScript program of the tests and waits for its first line. */
export async function startChild(program: URL, ...args: string[]): Promise<Child> {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", fileURLToPath(program), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout });
  const line = await soon(
    Promise.race([
      once(lines, "line").then(([text]) => String(text)),
      once(child, "exit").then(([code]) => Promise.reject(new Error(`${program} ended with ${code}`))),
    ]),
    `the first line of ${program}`,
  );
  return {
    process: child,
    line,
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
    },
  };
}
