/** @durable-streams/server, in a process of its own. */
import { createRequire } from "node:module";
import { PEERS } from "./peers.ts";
import { serve } from "./rpc.ts";

// What is used of it. Its types are not installed with the product.
interface ServerModule {
  readonly DurableStreamTestServer: new (options: {
    port: number;
    host: string;
    dataDir?: string;
    compression: boolean;
  }) => { start(): Promise<string> };
}

const requirePeer = createRequire(`${PEERS}package.json`);

// It tells of each request that goes away while it is held, which is how a round ends. What fails has a status.
console.info = () => undefined;
console.error = () => undefined;

serve({
  /** Its own name for itself is a test server; it is the one that the package has. */
  listen({ folder }: { folder?: string }) {
    const { DurableStreamTestServer } = requirePeer("@durable-streams/server") as ServerModule;
    // Compression costs it time and brings nothing on one machine.
    const options = { port: 0, host: "127.0.0.1", compression: false };
    return new DurableStreamTestServer(folder === undefined ? options : { ...options, dataDir: folder }).start();
  },
});
