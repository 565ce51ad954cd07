/** What a helper does when the tests of a file are over, also where several files share a process: see run.ts. */
import { after } from "node:test";

const endings: (() => unknown)[] = [];

/** Calls this after the tests of each file, before the hooks of the file itself. Call it when the helper is loaded. */
export function atFileEnd(end: () => unknown): void {
  endings.push(end);
}

/** Ends a file. */
export async function endFile(): Promise<void> {
  for (const end of endings) await end();
}

after(endFile);
