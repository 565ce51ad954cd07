/** A process that tries to take what it is told to, and prints the result. For tests of locks. */
import { createInterface } from "node:readline";
import { CommandError } from "../../../src/cli/command-error.ts";
import { beginRun } from "../../../src/cli/local-edge/edge-run.ts";
import { FileLock, LockHeld } from "../../../src/lib/node/file-lock.ts";

let release: () => void = () => {};

for await (const line of createInterface({ input: process.stdin })) {
  const [word, path = ""] = line.split(" ");
  if (word === "release") release();
  else console.log(word === "lock" ? lock(path) : await run(path));
  if (word === "release") console.log("released");
}

function lock(path: string): string {
  try {
    const taken = new FileLock(path);
    release = () => taken.release();
    return "won";
  } catch (error) {
    if (error instanceof LockHeld) return `lost to ${error.holder?.pid}`;
    throw error;
  }
}

async function run(state: string): Promise<string> {
  try {
    const taken = await beginRun(state);
    release = () => taken.close();
    return "won";
  } catch (error) {
    if (error instanceof CommandError) return `lost to ${/ process (\d+) /.exec(error.message)?.[1]}`;
    throw error;
  }
}
