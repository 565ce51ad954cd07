/** `grooveway top`: the figures of an edge in a terminal. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, it } from "node:test";
import { type Reading, screen } from "../../../src/cli/top/screen.ts";
import { connect, startEdge, until } from "../../edge/mailbox/support.ts";
import { runHere, start } from "../support.ts";

const READY = { ready: true, problems: [], warnings: [] };

function reading(totals: Record<string, number>, gauges: Reading["gauges"] = {}): Reading {
  return { totals, gauges };
}

describe("the screen", () => {
  it("has rates between two readings, and totals in the first", () => {
    const before = reading({ "messagesReceived stored": 100, "bytesReceived stored": 1000 });
    const now = reading({ "messagesReceived stored": 130, "bytesReceived stored": 3048, "messagesReceived passed": 5 });
    const line = (lines: string[], name: string) => lines.find((text) => text.startsWith(name));
    const view = { edge: "https://edge.example.com", readiness: READY, now };
    assert.equal(line(screen(view), "received"), "received      135 in all, 3.0 KiB in all");
    const later = screen({ ...view, before: { reading: before, seconds: 2 } });
    assert.equal(line(later, "received"), "received      17.5/s, 1.0 KiB/s");
    // The edge was started again in between.
    const fallen = screen({ ...view, now: reading({}), before: { reading: before, seconds: 2 } });
    assert.equal(line(fallen, "received"), "received      0/s, 0 B/s");
  });

  it("says what fails, and what to do", () => {
    const problem = { part: "links", code: "OriginUnreachable", cure: "Check the relay." };
    const readiness = { ready: false, problems: [problem], warnings: [] };
    const lines = screen({ edge: "http://localhost", readiness, now: reading({}) });
    assert.match(lines.join("\n"), /NOT READY\n {14}links: OriginUnreachable\. Check the relay\./);
  });

  it("has the largest of many reasons", () => {
    const totals = Object.fromEntries(Array.from({ length: 9 }, (_, at) => [`requestsRefused R${at}`, at]));
    const refused = screen({ edge: "", readiness: READY, now: reading(totals) }).find((line) =>
      line.startsWith("refused"),
    );
    assert.equal(refused, "refused       R8 8, R7 7, R6 6, R5 5, R4 4, R3 3, and 2 more");
  });
});

describe("grooveway top", () => {
  it("shows an edge, once or again and again", { timeout: 60_000 }, async (t) => {
    const edge = await startEdge(t, { adminToken: "admin" });
    const alice = await connect(edge, "alice/laptop", "websocket");
    await alice.send("carol/desk", "waits");
    const args = ["top", "--edge", edge.url, "--token", "admin"];
    await until("it is shown", async () => /waiting +1 messages/.test((await runHere([...args, "--once"])).stdout));
    const { stdout } = await runHere([...args, "--once"]);
    assert.match(stdout, /^http:\/\/127\.0\.0\.1:\d+ {2}ready$/m);
    assert.match(stdout, /^connections +WebSocket 1, /m);
    assert.match(stdout, /^received +1 in all, /m);
    const json = await runHere([...args, "--once", "--json"]);
    assert.equal(JSON.parse(json.stdout).totals["messagesReceived stored"], 1);
    const running = start(t, [...args, "--interval", "1s"]);
    await running.line(/received +0\/s, 0 B\/s/);
    running.process.kill("SIGINT");
    assert.equal((await running.finished).code, 0);
    await alice.close();
  });

  it("refuses without the right, and what is no answer of an edge", async (t) => {
    const edge = await startEdge(t, { adminToken: "admin" });
    const refused = await runHere(["top", "--edge", edge.url, "--token", "wrong", "--once"]);
    assert.match(refused.stderr, /\[AdminTokenNeeded\]/);
    const liar = createServer((_, response) =>
      response.end('{"totals":{"x":"\\u001b[2J"},"gauges":{},"readiness":{}}'),
    );
    await new Promise<void>((resolve) => liar.listen(0, "127.0.0.1", resolve));
    t.after(() => liar.close());
    const { port } = liar.address() as AddressInfo;
    const lied = await runHere(["top", "--edge", `http://127.0.0.1:${port}`, "--token", "x", "--once"]);
    assert.match(lied.stderr, /\[NotAnEdge\]/);
    const usage = await runHere(["top", "--interval", "soon", "--token", "x"]);
    assert.equal(usage.code, 2);
  });
});
