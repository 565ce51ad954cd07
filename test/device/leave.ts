/**
 * A program that connects, closes, and then has nothing to do: `node leave.ts RELAY SILENT`. It exits with 0 if
 * nothing keeps it running.
 */
import { createServer } from "node:net";
import { Device } from "../../src/device/index.ts";
import { startRelay } from "../../src/relay/index.ts";

const [relay = "", silent = ""] = process.argv.slice(2);

const idle = await Device.connect({ relay, address: "idle/pc" });
await idle.send("somebody", "hello");
await idle.close();

// A device whose relay is gone, in the pause before its next attempt.
const gone = await startRelay({ port: 0 });
const lost = Promise.withResolvers<void>();
const waiting = await Device.connect({
  relay: `127.0.0.1:${gone.port}`,
  address: "waiting/pc",
  onReconnect: () => lost.resolve(),
});
await gone.close();
await lost.promise;
await waiting.close();

// A device that is connecting to a silent relay.
const controller = new AbortController();
const connecting = Device.connect({ relay: silent, address: "connecting/pc", signal: controller.signal });
setTimeout(() => controller.abort(), 50);
await connecting.catch(() => undefined);

// A device that could not connect at all.
const server = createServer().listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const address = server.address();
const port = typeof address === "object" ? address?.port : 0;
await new Promise((resolve) => server.close(resolve));
await Device.connect({ relay: `127.0.0.1:${port}`, address: "refused/pc" }).catch(() => undefined);

console.log("done");
