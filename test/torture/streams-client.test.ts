/**
 * The protocol's own client, `@durable-streams/client`, through a proxy that cuts connections and drops replies, while
 * the edge is restarted: every record is stored and read once, in order.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { BackoffDefaults, createFetchWithBackoff, DurableStream, IdempotentProducer } from "@durable-streams/client";
import { type LocalEdge, startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { AUDIENCE, hs256, jwks } from "../edge/issuer.ts";
import { FULL } from "../support/long-form.ts";
import { listen, type TestServer } from "../support/sockets.ts";
import { readRecords } from "./read-records.ts";

const RECORDS = FULL ? 20_000 : 2000;

/** Of a hundred pieces of what the edge says, so many are dropped with their connection. */
const DROPPED = 15;

let folder: string;
let edge: LocalEdge;
let proxy: TestServer;
let start: () => Promise<LocalEdge>;
let headers: Record<string, string>;
let dropped = 0;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "grooveway-streams-client-"));
  const issuer = await hs256();
  headers = { Authorization: `Bearer ${await issuer.issue({ scope: "create:* read:* write:*", sub: "client" })}` };
  const options = { relayAllow: [], keys: jwks(issuer), relayName: AUDIENCE, state: folder };
  edge = await startLocalEdge({ port: 0, ...options });
  const port = Number(new URL(edge.url).port);
  start = () => startLocalEdge({ port, ...options });
  proxy = await listen((client) => {
    const upstream = connect({ port, host: "127.0.0.1" });
    const cut = () => {
      client.resetAndDestroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream] satisfies Socket[]) socket.on("error", cut);
    client.pipe(upstream);
    upstream.on("data", (data) => {
      if (Math.random() * 100 < DROPPED) {
        dropped += 1;
        cut();
      } else client.write(data);
    });
    upstream.on("end", () => client.end());
  });
});
after(async () => {
  await proxy.close();
  await edge.close();
  await rm(folder, { recursive: true });
});

describe("the protocol's own client", () => {
  it("loses and doubles nothing, whatever is cut, dropped or restarted", async () => {
    const url = `http://127.0.0.1:${proxy.port}/mailboxes/app/test/client`;
    const handle = await DurableStream.create({ url, headers, contentType: "application/json" });
    const leave = new AbortController();
    const reading = readRecords({ url, headers, count: RECORDS, signal: leave.signal });
    const failures: Error[] = [];
    const producer = new IdempotentProducer(handle, "producer", {
      lingerMs: 1,
      maxBatchBytes: 256,
      onError: (error) => failures.push(error),
      // By itself the producer sends each batch once; with this, one at a time, since it throws on a gap.
      maxInFlight: 1,
      fetch: createFetchWithBackoff(fetch, {
        ...BackoffDefaults,
        initialDelay: 10,
        maxDelay: 500,
        maxRetries: Number.POSITIVE_INFINITY,
      }),
    });
    for (let n = 0; n < RECORDS; n += 1) {
      producer.append(JSON.stringify({ n }));
      if (n % 100 === 0) await producer.flush();
      if (n === RECORDS / 4 || n === RECORDS / 2) {
        await edge.close();
        edge = await start();
      }
    }
    await producer.flush();
    const read = await reading;
    leave.abort();
    const expected = Array.from({ length: RECORDS }, (_, n) => n);
    assert.deepEqual(failures, []);
    assert.ok(dropped > 5, `${dropped} replies were dropped`);
    assert.deepEqual(read, expected);
    const answer = await fetch(`${edge.url}/mailboxes/app/test/client`, { headers });
    const stored = (await answer.json()) as { n: number }[];
    assert.deepEqual(
      stored.map(({ n }) => n),
      expected,
    );
  });
});
