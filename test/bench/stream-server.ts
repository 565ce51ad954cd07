/** @durable-streams/server, in its own process. */
import { createRequire } from "node:module";
import { serve } from "../support/rpc.ts";
import { PEERS } from "./peers.ts";

// The part used here. Its types are not installed with the product.
interface ServerModule {
  readonly DurableStreamTestServer: new (options: {
    port: number;
    host: string;
    dataDir?: string;
    compression: boolean;
  }) => { start(): Promise<string> };
}

const requirePeer = createRequire(`${PEERS}package.json`);

// It logs each request that is closed while held, which is how a round ends. A failure has a status.
console.info = () => undefined;
console.error = () => undefined;

serve({
  /** It calls itself a test server; it is the only one in the package. */
  listen({ folder }: { folder?: string }) {
    const { DurableStreamTestServer } = requirePeer("@durable-streams/server") as ServerModule;
    // Compression costs it time and gains nothing on one machine.
    const options = { port: 0, host: "127.0.0.1", compression: false };
    return new DurableStreamTestServer(folder === undefined ? options : { ...options, dataDir: folder }).start();
  },
});
