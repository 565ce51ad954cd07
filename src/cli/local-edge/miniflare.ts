/**
 * Loads Miniflare when an edge starts, so that no other use of the command waits for it.
 *
 * @module
 */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/** `import` would scan its bundle of 6 MB for exports, which takes longer than running it. */
export function loadMiniflare(): typeof import("miniflare") {
  return require("miniflare");
}
