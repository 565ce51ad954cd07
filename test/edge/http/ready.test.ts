/** /ready says whether the edge can be used, and why not, and soon says so when it can again. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../../src/cli/local-edge/listening-address.ts";
import type { Readiness } from "../../../src/edge/http/ready.ts";
import { startRelay } from "../../../src/relay/index.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { startWorker } from "../../support/worker.ts";
import { ed25519, jwks } from "../issuer.ts";
import { edgeFor } from "../link/link-support.ts";
import { startEdge } from "../mailbox/support.ts";
import { startOperator } from "../operator.ts";

/** Within this time after the cause is gone, the edge is ready. */
const SOON = 10_000;

async function ready(url: string): Promise<{ status: number; codes: string[]; readiness: Readiness }> {
  const answer = await fetch(`${url}/ready`);
  const readiness = (await answer.json()) as Readiness;
  for (const { detail, cure } of [...readiness.problems, ...readiness.warnings]) assert.ok(detail && cure);
  return { status: answer.status, codes: readiness.problems.map(({ part, code }) => `${part} ${code}`), readiness };
}

/** Waits until it answers so, and fails if that takes longer than {@link SOON}. */
async function becomes(url: string, codes: readonly string[]): Promise<void> {
  const until = Date.now() + SOON;
  for (;;) {
    const now = await ready(url);
    if (JSON.stringify(now.codes) === JSON.stringify(codes)) {
      assert.equal(now.status, codes.length === 0 ? 200 : 503);
      return;
    }
    assert.ok(Date.now() < until, `${JSON.stringify(now.readiness)} after ${SOON} ms, not ${codes}`);
    await sleep(250);
  }
}

async function startDriven(t: TestContext, variables: Readonly<Record<string, string>>): Promise<string> {
  const miniflare = await startWorker(variables);
  t.after(() => miniflare.dispose());
  return (await miniflare.ready).origin;
}

describe("/ready", () => {
  it("is 200 without a token when nothing is wrong, and needs none", async (t) => {
    const edge: InspectedEdge = await startEdge(t);
    const { status, readiness } = await ready(edge.url);
    assert.deepEqual([status, readiness], [200, { ready: true, problems: [], warnings: [] }]);
  });

  it("is false while keys cannot be had", { timeout: 60_000 }, async (t) => {
    const issuer = await ed25519();
    const operator = await startOperator(issuer);
    t.after(() => operator.close());
    operator.fail(true);
    const edge = await startEdge(t, { ...operator.settings, dev: "private" });
    await becomes(edge.url, ["keys KeysUnavailable"]);
    operator.fail(false);
    await becomes(edge.url, []);
  });

  it("warns while the last keys count, and says when none do", { timeout: 60_000 }, async (t) => {
    const operator = await startOperator(await ed25519());
    t.after(() => operator.close());
    const url = await startDriven(t, { RELAY_NAME: "localhost", JWKS_URL: operator.settings.keysURL ?? "" });
    await becomes(url, []);
    operator.fail(true);
    await fetch(`${url}/clock/30000`);
    const { readiness } = await ready(url);
    assert.equal(readiness.ready, true);
    assert.deepEqual(
      readiness.warnings.map(({ part, code }) => [part, code]),
      [["keys", "KeysUnavailable"]],
    );
    await fetch(`${url}/clock/7200000`);
    await becomes(url, ["keys KeysUnavailable"]);
  });

  it("is false while there are no keys at all", async (t) => {
    const url = await startDriven(t, { RELAY_NAME: "localhost" });
    await becomes(url, ["keys NoKeys"]);
  });

  it("is false while a configured link is down, even after a long outage", { timeout: 120_000 }, async (t) => {
    const port = await freePort("127.0.0.1", 0);
    const start = () => startRelay({ port, names: ["127.0.0.1"] });
    const edge = await edgeFor(t, [port], { links: [`127.0.0.1:${port}`] });
    // Each look tries again; the pause after as many failures as these is up to a minute.
    for (let looks = 0; looks < 6; looks += 1) {
      await becomes(edge.url, ["links OriginUnreachable"]);
      await sleep(4_000);
    }
    const relay = await start();
    t.after(() => relay.close());
    await becomes(edge.url, []);
    await relay.close();
    const until = Date.now() + SOON;
    while ((await ready(edge.url)).status === 200) {
      assert.ok(Date.now() < until);
      await sleep(250);
    }
    const again = await start();
    t.after(() => again.close());
    await becomes(edge.url, []);
  });

  it("is false while a setting is malformed, also when nothing else is served", async (t) => {
    const KEYS = jwks(await ed25519());
    const url = await startDriven(t, { RELAY_NAME: "localhost", KEYS, RATE: "connections=many" });
    const { codes, readiness } = await ready(url);
    assert.deepEqual(codes, ["settings EdgeMisconfigured"]);
    assert.match(readiness.problems[0]?.detail ?? "", /^RATE is malformed or insecure \(MalformedRate\)/);
    assert.equal((await fetch(`${url}/health`)).status, 500);
  });

  it("is false while names of relays cannot be resolved", { timeout: 60_000 }, async (t) => {
    let works = false;
    const resolver = createServer((_, response) => {
      response.writeHead(works ? 200 : 500, { "Content-Type": "application/dns-json" }).end('{"Status":3}');
    });
    await new Promise<void>((resolve) => resolver.listen(0, "127.0.0.1", resolve));
    t.after(() => resolver.close());
    const { port } = resolver.address() as AddressInfo;
    const edge = await startEdge(t, {
      relayAllow: ["relay.example.com"],
      resolver: `http://127.0.0.1:${port}/dns-query`,
    });
    await becomes(edge.url, ["resolver DNSLookupFailed"]);
    works = true;
    await becomes(edge.url, []);
  });

  it("looks at its parts no more often for many that ask", async (t) => {
    const operator = await startOperator(await ed25519());
    t.after(() => operator.close());
    operator.fail(true);
    const edge = await startEdge(t, { ...operator.settings, dev: "private" });
    const before = operator.asked;
    const answers = await Promise.all(Array.from({ length: 100 }, () => ready(edge.url)));
    assert.ok(answers.every(({ status }) => status === 503));
    // One try for the keys, and one for the list.
    assert.ok(operator.asked - before <= 2, `${operator.asked - before} requests`);
  });
});
