/** Folders for what tests store. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const folders: string[] = [];

// A leftover folder is no failure.
process.once("exit", () => {
  for (const folder of folders) {
    try {
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    } catch {
      // Somebody else's process may still write there.
    }
  }
});

/**
 * An empty folder, removed when this process ends. Not by a hook of the test: hooks run in the order in which they were
 * registered, so an edge that was started after the folder was made would still write there. That hook would fail, and
 * the later ones, which close the edge, would not run.
 */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "grooveway-test-"));
  folders.push(folder);
  return folder;
}
