/**
 * An edge in a process of its own, `node runtime.ts FOLDER PORT ADMIN_TOKEN KEYS`: to throw an object out of memory stops the
 * process that asks for it until the object is idle, which would never come if its devices were in that process.
 */
import { startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";

/** What it can be asked for. */
export type Order = { readonly evict: { readonly kind: "Tunnel" | "Mailbox"; readonly name: string } } | "close";

/** What it says. */
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
// Whoever has started it is gone.
process.on("disconnect", () => process.exit());
say({ port: Number(new URL(edge.url).port) });
