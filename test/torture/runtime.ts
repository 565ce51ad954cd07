/**
 * An edge in a separate process, `node runtime.ts FOLDER PORT ADMIN_TOKEN KEYS OPTIONS`, with more options as JSON:
 * evicting an object blocks the calling process until the object is idle, which would never happen if its devices were in
 * that process.
 */
import type { LocalEdgeOptions } from "../../src/cli/local-edge/local-edge.ts";
import { startInspectedEdge } from "../support/inspected-edge.ts";

/** Requests to the process. */
export type Order = { readonly evict: { readonly kind: Kind; readonly name: string } } | "close";

/** Objects that may be evicted. */
export type Kind = "Tunnel" | "Mailbox" | "PlainStream";

/** Its answers. */
export type Word = { readonly port: number } | { readonly evicted: boolean } | { readonly log: string };

const [folder = "", port = "0", adminToken = "", keys = "", more = "{}"] = process.argv.slice(2);
const options = JSON.parse(more) as Partial<LocalEdgeOptions>;
const say = (word: Word) => process.send?.(word);

const edge = await startInspectedEdge({
  port: Number(port),
  relayAllow: [],
  keys,
  state: folder,
  adminToken,
  ...options,
  log: (level, line) => say({ log: `${level} ${line}` }),
});

process.on("message", async (order: Order) => {
  if (order === "close") {
    await edge.close();
    process.exit();
  }
  const { kind, name } = order.evict;
  const evicted = await edge.miniflare.unsafeEvictDurableObject("grooveway", kind, { name }).then(
    () => true,
    // It was not in memory.
    () => false,
  );
  say({ evicted });
});
// The parent process is gone.
process.on("disconnect", () => process.exit());
say({ port: Number(new URL(edge.url).port) });
