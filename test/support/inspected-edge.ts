/** The product's edge with its objects open to the test: see miniflare.ts. */
import type { Miniflare } from "miniflare";
import { type LocalEdge, type LocalEdgeOptions, startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { startMiniflare } from "./miniflare.ts";

export interface InspectedEdge extends LocalEdge {
  readonly miniflare: Miniflare;
}

export async function startInspectedEdge(options: LocalEdgeOptions): Promise<InspectedEdge> {
  let miniflare: Miniflare | undefined;
  const edge = await startLocalEdge({
    ...options,
    start: async (given) => {
      const runtime = await startMiniflare(given);
      miniflare = runtime.miniflare;
      return runtime;
    },
  });
  if (miniflare === undefined) throw new Error("the edge did not start its runtime");
  return { ...edge, miniflare };
}
