/** A service that is forwarded through an edge that dies, with an obstacle before each of the two commands. */
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { folder, type Running, run, start } from "../cli/support.ts";
import { Obstacle } from "../support/obstacle.ts";
import { type Mortal, tokenFor } from "./support.ts";

export interface Forwarded {
  /** Between the forward and the edge. */
  readonly here: Obstacle;
  /** Between the exposing device and the edge. */
  readonly there: Obstacle;
  readonly forward: Running;
  /** Where the forward listens. */
  readonly port: number;
}

/** Starts a TCP service on a free port of 127.0.0.1. Returns the port. */
export async function service(t: TestContext, handle: (socket: Socket) => void): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, handle);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return (server.address() as { port: number }).port;
}

/** Exposes a port of 127.0.0.1 and forwards it. */
export async function forwarded(t: TestContext, edge: Mortal, port: number): Promise<Forwarded> {
  const [here, there, mine, theirs] = await Promise.all([
    Obstacle.start(t, edge.url),
    Obstacle.start(t, edge.url),
    folder(t),
    folder(t),
  ]);
  const asAlice = { XDG_CONFIG_HOME: mine, GROOVEWAY_TOKEN: await tokenFor("alice/pc") };
  const asOffice = { XDG_CONFIG_HOME: theirs, GROOVEWAY_TOKEN: await tokenFor("office/desk") };
  const fingerprint = (await run(t, ["id"], undefined, asAlice)).stdout.trim();
  const trust = ["--trust", `alice/pc=${fingerprint}`];
  const offer = ["expose", "--edge", there.url, "--as", "office/desk", ...trust, `service=127.0.0.1:${port}`];
  const expose = start(t, offer, undefined, asOffice);
  await expose.line(/:service is /);
  const take = ["forward", "--edge", here.url, "--as", "alice/pc", "0", "office/desk:service"];
  const forward = start(t, take, undefined, asAlice);
  const [, listening = ""] = await forward.line(/127\.0\.0\.1:([0-9]+) is /);
  return { here, there, forward, port: Number(listening) };
}
