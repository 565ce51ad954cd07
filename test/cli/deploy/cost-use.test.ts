/** What devices use of what Cloudflare bills, counted over a driven hour: the figures of the cost model. */
import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { ASSUMPTIONS, TRANSPORTS, USE, type Use } from "../../../src/cli/deploy/cost-model.ts";
import { bundleWorker } from "../../../src/cli/local-edge/bundle-worker.ts";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { ed25519, type Issuer, jwks } from "../../edge/issuer.ts";
import { connect, receive, startEdge } from "../../edge/mailbox/support.ts";
import type { Bill } from "../../support/counting-worker.ts";
import { FULL } from "../../support/long-form.ts";

/** How many times as fast the hour passes: a device that is silent for 62.5 s, and lost, has still three real seconds. */
const SPEED = 20;
const HOUR = 3600;

interface CountedEdge {
  readonly edge: LocalEdge;
  token(address: string): Promise<string>;
  /** How many times as fast its time passes. */
  readonly speed: number;
  /** Counting begins anew. */
  begin(): Promise<void>;
  bill(): Promise<Bill>;
}

async function startCounted(t: TestContext, speed = SPEED): Promise<CountedEdge> {
  const issuer: Issuer = await ed25519();
  const code = await bundleWorker(fileURLToPath(new URL("../../support/counting-worker.ts", import.meta.url)));
  const edge = await startEdge(t, { keys: jwks(issuer), code });
  await fetch(`${edge.url}/counting/${speed}`, { method: "PUT" });
  return {
    edge,
    speed,
    token: (address) =>
      issuer.issue({ address, scope: "connect receive send:*", exp: Math.floor(Date.now() / 1000) + 7 * 86_400 }),
    async begin() {
      await fetch(`${edge.url}/counting/${speed}`, { method: "PUT" });
    },
    async bill() {
      return (await (await fetch(`${edge.url}/counting`)).json()) as Bill;
    },
  };
}

/** A device in a process of its own. */
async function startDevice(
  t: TestContext,
  { edge, token, speed }: CountedEdge,
  { address, transport, more = [] }: { readonly address: string; readonly transport: string; readonly more?: string[] },
): Promise<{ readonly lines: string[]; readonly process: ChildProcessWithoutNullStreams }> {
  const program = fileURLToPath(new URL("../../support/idle-device.ts", import.meta.url));
  const args = [
    "--disable-warning=ExperimentalWarning",
    program,
    String(speed),
    edge.url,
    address,
    transport,
    await token(address),
  ];
  const child = spawn(process.execPath, [...args, ...more]);
  t.after(() => child.kill("SIGKILL"));
  child.stderr.pipe(process.stderr);
  const lines: string[] = [];
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      lines.push(line);
      if (line === "connected") resolve();
    });
    child.once("exit", (code) => reject(new Error(`the device ended with ${code}`)));
  });
  return { lines, process: child };
}

/** Lets an hour pass for an edge, and returns what was counted in it. */
async function passHour({ speed, begin, bill }: CountedEdge): Promise<Bill> {
  // What follows from connecting is over in two minutes.
  await sleep(120_000 / speed);
  await begin();
  await sleep((HOUR * 1000) / speed);
  return bill();
}

/** A bill as what is billed in an hour. */
function useOf({ seconds, requests, calls, messages, wakes, rowsWritten }: Bill): Use {
  const all = (counts: Readonly<Record<string, number>>) =>
    Object.values(counts).reduce((sum, count) => sum + count, 0);
  const hourly = (count: number) => Math.round((count * HOUR) / seconds);
  return {
    requests: hourly(requests),
    objectCalls: hourly(all(calls)),
    objectMessages: hourly(all(messages)),
    wakes: hourly(all(wakes)),
    rowsWritten: hourly(rowsWritten),
  };
}

/**
 * Part by which counts may differ from the model: an hour begins and ends anywhere. In the short form other tests keep the
 * machine busy, and what it takes longer for counts twenty times: an object that rests in the middle of a poll saves twice.
 */
const SLACK = FULL ? 1 / 8 : 1 / 4;

/** Part of the model's requests that an hour has at least. A device asks again after an answer, which may be late. */
const LEAST_REQUESTS = FULL ? 7 / 8 : 1 / 2;

/** Counts near zero may differ by a few. */
const FEW = 3;

/**
 * Asserts that a use is that of the model, for the requests that were really made.
 *
 * An object's alarm comes a second after its last event, when it is active for a second: it may be a wake of its own or
 * not, by a millisecond. So there may be as few wakes as requests.
 */
function assertUse(counted: Use, model: Use, what: string): void {
  const made = model.requests === 0 ? 1 : counted.requests / model.requests;
  for (const [key, hourly] of Object.entries(model) as [keyof Use, number][]) {
    const expected = key === "requests" ? hourly : hourly * made;
    const slack = Math.max(FEW, expected * SLACK);
    const lowest = { requests: hourly * LEAST_REQUESTS - FEW, wakes: counted.requests - slack }[key as string];
    assert.ok(
      counted[key] >= (lowest ?? expected - slack) && counted[key] <= expected + slack,
      `${what}: ${key} is ${counted[key]}, and ${expected.toFixed(1)} in the model: ${JSON.stringify(counted)}`,
    );
  }
}

// Beside other tests a device that is late by a second is late by twenty.
const skip = FULL ? false : "SKIPPED: set GROOVEWAY_TORTURE=full, and let nothing else run";

describe("an hour of a device that is idle", { skip, concurrency: true, timeout: 400_000 }, () => {
  for (const transport of TRANSPORTS) {
    it(`costs what the model says, by ${transport}`, async (t) => {
      const counted = await startCounted(t);
      const device = await startDevice(t, counted, { address: "alice/laptop", transport });
      const bill = await passHour(counted);
      assert.ok(bill.seconds >= HOUR);
      assert.deepEqual(device.lines, ["connected"], "its connection lasts");
      assertUse(useOf(bill), USE.idle[transport], transport);
    });
  }

  it("and of one that sends a message a minute costs what the model says", async (t) => {
    const counted = await startCounted(t);
    await startDevice(t, counted, { address: "bob/phone", transport: "websocket" });
    const more = ["bob/phone", String(HOUR / ASSUMPTIONS.chattyMessages), "1024"];
    const alice = await startDevice(t, counted, { address: "alice/laptop", transport: "websocket", more });
    const bill = await passHour(counted);
    const messages = await new Promise<number>((resolve) => {
      alice.process.stdin.end();
      alice.process.once("exit", () => resolve(Number(alice.lines.at(-1)?.slice("sent ".length))));
    });
    // A late timer is followed by one that is later still.
    const fewest = ASSUMPTIONS.chattyMessages * LEAST_REQUESTS;
    assert.ok(messages >= fewest && messages <= ASSUMPTIONS.chattyMessages + 2, `${messages} messages`);
    const idle = USE.idle.websocket;
    const use = useOf(bill);
    const each = Object.fromEntries(
      Object.entries(use).map(([key, count]) => [key, (count - 2 * idle[key as keyof Use]) / messages]),
    ) as unknown as Use;
    for (const [key, expected] of Object.entries(USE.message) as [keyof Use, number][]) {
      const slack = Math.max(0.2, expected * SLACK);
      assert.ok(Math.abs(each[key] - expected) <= slack, `${key} is ${each[key]}, and ${expected} in the model`);
    }
  });
});

/** Bytes of each message of the bulk, and how many of them are a MiB. */
const BULK_OCTETS = 65_536;
const PER_MEBIBYTE = 16;

/**
 * What a MiB of bulk may use at most, however its messages meet. A machine that is busy elsewhere lets fewer of them go
 * together, so the figures of the model hold where nothing else runs: in the long form. Without any batching each message
 * is a call that appends it, one that delivers it and one that acknowledges it, an acknowledgement of the device to
 * itself, and three rows: one written, one removed, and at most one of what the mailbox notes of it.
 */
const BULK_LIMIT: Use = FULL
  ? USE.mebibyte
  : {
      requests: 0,
      // Two for the lease of the sender's rate, and for what is counted.
      objectCalls: 3 * PER_MEBIBYTE + 2,
      objectMessages: USE.mebibyte.objectMessages + PER_MEBIBYTE,
      wakes: USE.mebibyte.wakes,
      rowsWritten: 3 * PER_MEBIBYTE,
    };

/** Calls that carry messages, of which there are fewer the more go together. */
const CARRYING = ["Mailbox.append", "Tunnel.deliver", "Mailbox.acknowledge"];

describe("a MiB of bulk", { timeout: 180_000 }, () => {
  it("costs no more than the model says", async (t) => {
    const counted = await startCounted(t, 1);
    const { edge } = counted;
    const [alice, bob] = await Promise.all(
      ["alice/laptop", "bob/phone"].map(async (address) =>
        connect(edge, address, "websocket", { token: await counted.token(address) }),
      ),
    );
    assert.ok(alice !== undefined && bob !== undefined);
    await sleep(6000);
    await counted.begin();
    const mebibytes = 64;
    const body = new Uint8Array(BULK_OCTETS);
    const receiving = receive(bob, mebibytes * PER_MEBIBYTE);
    for (let sent = 0; sent < mebibytes * PER_MEBIBYTE; sent += 64) {
      await Promise.all(Array.from({ length: 64 }, () => alice.send("bob/phone", body)));
    }
    await receiving;
    await sleep(6000);
    const bill = await counted.bill();
    const use = useOf({ ...bill, seconds: HOUR });
    for (const [key, limit] of Object.entries(BULK_LIMIT) as [keyof Use, number][]) {
      const each = use[key] / mebibytes;
      assert.ok(each <= limit * 1.1, `${key} is ${each}, and ${limit} at most: ${JSON.stringify(bill)}`);
    }
    const [appends = 0] = CARRYING.map((call) => bill.calls[call] ?? 0);
    assert.ok(appends > 0 && appends <= mebibytes * PER_MEBIBYTE, `${appends} appends`);
    assert.ok(bill.rowsWritten <= 3 * appends, `${bill.rowsWritten} rows in ${appends} appends`);
    const others = Object.entries(bill.calls).filter(([call]) => !CARRYING.includes(call));
    const overhead = others.reduce((sum, [, count]) => sum + count, 0);
    assert.ok(overhead <= 2 * mebibytes, `calls beside those with messages: ${JSON.stringify(others)}`);
  });
});
