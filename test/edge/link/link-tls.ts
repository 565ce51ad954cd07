/**
 * A separate program, since the runtime reads its trusted authorities from the environment at start: sends a message
 * over a TLS link, and prints what the device behind the relay received, or that it received nothing.
 *
 *   NODE_EXTRA_CA_CERTS=ca.pem node link-tls.ts FOLDER    with key.pem and cert.pem in the folder
 */
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createServer } from "node:tls";
import { startLocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { Device } from "../../../src/device/index.ts";
import { startRelay } from "../../../src/relay/index.ts";

const [folder = "", patience = "5000"] = process.argv.slice(2);
let relayPort = 0;
const server = createServer(
  { key: readFileSync(join(folder, "key.pem")), cert: readFileSync(join(folder, "cert.pem")) },
  (secure) => {
    const plain = connect(relayPort, "127.0.0.1");
    secure.pipe(plain).pipe(secure);
    secure.on("error", () => plain.destroy());
    plain.on("error", () => secure.destroy());
  },
);
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const address = server.address();
const port = typeof address === "object" && address !== null ? address.port : 0;
const name = `localhost:${port}`;
const relay = await startRelay({ port: 0, names: ["127.0.0.1", name] });
relayPort = relay.port;
const edge = await startLocalEdge({
  port: 0,
  relayAllow: [name],
  dev: "1",
  relayName: "edge.test",
  linkWays: `tls:${port}`,
});
const alice = await Device.connect({ edge: edge.url, relay: "edge.test", address: "alice/pc", transport: "websocket" });
const bob = await Device.connect({ relay: `127.0.0.1:${relay.port}`, address: "bob/pc", transport: "tcp" });
await alice.send(`bob/pc@${name}`, "by TLS");
const first = await Promise.race([bob.messages().next(), sleep(Number(patience), undefined)]);
console.log(first === undefined || first.done ? "nothing" : first.value.text());
await Promise.all([alice.close(), bob.close()]);
await edge.close();
process.exit(0);
