/**
 * An edge in a separate process, `node runtime.ts FOLDER PORT ADMIN_TOKEN KEYS`: evicting an object blocks the calling
 * process until the object is idle, which would never happen if its devices were in that process.
 */
import { startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";

/** Requests to the process. */
export type Order = { readonly evict: { readonly kind: "Tunnel" | "Mailbox"; readonly name: string } } | "close";

/** Its answers. */
export type Word = { readonly port: number } | { readonly evicted: boolean } | { readonly log: string };

const [folder = "", port = "0", adminToken = "", keys = ""] = process.argv.slice(2);
const say = (word: Word) => process.send?.(word);

const edge = await startLocalEdge({
  port: Number(port),
  relayAllow: [],
  keys,
  state: folder,
  adminToken,
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
