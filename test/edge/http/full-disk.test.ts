/**
 * Another program fills the disk while streams and mailboxes are written over HTTP: everything is refused by name,
 * nothing that was acknowledged is lost or doubled, and all of it works again when there is room.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { start } from "../../cli/support.ts";
import { fillDisk, freeDisk, smallDisk } from "../../support/small-disk.ts";
import { InboxApi } from "../inboxes/support.ts";
import { eventually } from "../support.ts";

/** More than the ballast of 8 MiB has room for, at 20,000 bytes each. */
const ROOM_IN_BALLAST = 1000;

const PADDING = "x".repeat(20_000);

interface Answer {
  readonly status: number;
  readonly reason: string;
}

/** A way to write, whose n-th request writes n, and may be repeated. */
interface Way {
  readonly name: string;
  write(n: number): Promise<Answer>;
  /** What is there, in order. */
  read(): Promise<number[]>;
}

function waysOf(url: string, hook: string): Way[] {
  const ask = async (method: string, path: string, headers: Record<string, string> = {}, body?: string) => {
    const init = { method, headers, ...(body !== undefined && { body }) };
    const answer = await fetch(new URL(path, url), init);
    const text = await answer.text();
    const reason = answer.ok ? "ok" : (answer.headers.get("grooveway-reason") ?? text);
    return { status: answer.status, reason, text };
  };
  const json = { "Content-Type": "application/json" };
  const record = (n: number) => JSON.stringify({ n, PADDING });
  const producer = (n: number) => ({ "Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": String(n) });
  /** Reads all pages of a stream or mailbox. */
  const readAll = async (path: string): Promise<unknown[]> => {
    const all: unknown[] = [];
    for (let offset = "-1"; ; ) {
      const answer = await fetch(new URL(`${path}?offset=${offset}`, url));
      if (!answer.ok) assert.fail(`reading ${path} while the disk is full: ${await answer.text()}`);
      all.push(...((await answer.json()) as unknown[]));
      offset = answer.headers.get("stream-next-offset") ?? "";
      if (answer.headers.get("stream-up-to-date") === "true") return all;
    }
  };
  const numbers = (records: unknown[]) => records.map((one) => (one as { n: number }).n);
  const bodies = async (path: string) => numbers((await readAll(path)).map((one) => (one as { body: unknown }).body));
  const made: number[] = [];
  return [
    {
      name: "a producer",
      write: (n) => ask("POST", "/mailboxes/app/full/producer", { ...json, ...producer(n) }, record(n)),
      read: async () => numbers(await readAll("/mailboxes/app/full/producer")),
    },
    {
      name: "a creation",
      write: async (n) => {
        const answer = await ask("PUT", `/mailboxes/app/full/new${n}`, json, record(n));
        if (answer.status < 300) made[n] = n;
        return answer;
      },
      read: async () => {
        const all = Array.from({ length: made.length }, (_, n) => readAll(`/mailboxes/app/full/new${n}`));
        return numbers((await Promise.all(all)).flat());
      },
    },
    {
      name: "a producer at a mailbox",
      write: (n) => ask("POST", "/mailboxes/bob%2Fpc?from=alice/pc", { ...json, ...producer(n) }, record(n)),
      read: () => bodies("/mailboxes/bob%2Fpc"),
    },
    {
      name: "a message",
      write: (n) => ask("POST", "/send/carol%2Fpc?from=alice/pc", { ...json, "Idempotency-Key": `k${n}` }, record(n)),
      read: () => bodies("/mailboxes/carol%2Fpc"),
    },
    {
      name: "a webhook",
      write: (n) => ask("POST", hook, { ...json, "webhook-number": String(n) }, record(n)),
      read: async () => {
        const texts = (await readAll("/mailboxes/dora%2Fpc")).map((one) => JSON.stringify(one));
        return texts.map((text) => Number(/webhook-number[^0-9]*([0-9]+)/.exec(decoded(text))?.[1]));
      },
    },
  ];
}

/** The text of an envelope, whose body may be base64. */
function decoded(text: string): string {
  const { body, encoding } = JSON.parse(text) as { readonly body: unknown; readonly encoding: string };
  return encoding === "base64" ? Buffer.from(String(body), "base64").toString("latin1") : JSON.stringify(body);
}

/** A disk counts as full for ten seconds after a write that failed. In milliseconds, with time for a busy machine. */
const RECOVERY = 30_000;

/** How a full disk is refused. */
const FULL = ["StorageFull", "InboxFull"];

// Most of the time they wait.
describe("a disk that another program has filled", { concurrency: true }, () => {
  for (const [what, options] of [
    ["and a minimum that is kept free", []],
    ["to its last byte", ["--min-free", "0"]],
  ] as const) {
    it(`loses and doubles nothing that is written over HTTP: ${what}`, async (context) => {
      const at = await smallDisk(context);
      if (at === undefined) return;
      const state = join(at, "state");
      const edge = start(context, ["edge", "--port", "0", "--json", "--dev", "--state", state, ...options]);
      const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
      await eventually("the ballast is there", () => existsSync(join(state, "ballast")));
      const { url: hook } = await new InboxApi(url).make("dora/pc", { verify: "none", rate: 200 });
      const made = await fetch(`${url}/mailboxes/app/full/producer`, {
        method: "PUT",
        headers: { "Content-Type": "application/json" },
      });
      assert.equal(made.status, 201);
      const ways = waysOf(url, hook);
      const acknowledged = new Map(ways.map((way) => [way, 0]));
      /** Writes on until it is refused, and returns how. */
      const writeOn = async (way: Way, most: number): Promise<Answer | undefined> => {
        for (let n = 0; n < most; n += 1) {
          const next = acknowledged.get(way) ?? 0;
          const answer = await way.write(next);
          if (answer.status >= 300) return answer;
          acknowledged.set(way, next + 1);
        }
        return undefined;
      };
      for (const way of ways) assert.equal(await writeOn(way, 3), undefined, way.name);
      for (const round of [1, 2]) {
        fillDisk(at);
        const refusals = await Promise.all(ways.map((way) => writeOn(way, ROOM_IN_BALLAST)));
        for (const [index, refusal] of refusals.entries()) {
          assert.ok(FULL.includes(refusal?.reason ?? ""), `${ways[index]?.name}: ${JSON.stringify(refusal)}`);
        }
        // Ways that do not append.
        for (const [method, path] of [
          ["PUT", "/mailboxes/eve%2Fpc"],
          ["POST", "/tickets"],
          ["DELETE", "/mailboxes/app/full/none"],
        ] as const) {
          const init = { method, ...(method === "POST" && { body: '{"mailbox": "app/full/producer"}' }) };
          const answer = await fetch(new URL(path, url), init);
          const reason = answer.headers.get("grooveway-reason") ?? "";
          assert.ok(["StorageFull", "StreamNotFound"].includes(reason), `${method} ${path}: ${await answer.text()}`);
        }
        // What waits is read meanwhile.
        for (const way of ways) {
          const there = await way.read();
          assert.deepEqual(there, [...there.keys()], `${way.name}, round ${round}`);
          assert.equal(there.length, acknowledged.get(way), `${way.name}, round ${round}`);
        }
        freeDisk(at);
        for (const way of ways) {
          await eventually(`${way.name} goes on`, async () => (await writeOn(way, 1)) === undefined, RECOVERY);
          assert.equal(await writeOn(way, 2), undefined, way.name);
          const there = await way.read();
          assert.deepEqual(
            there,
            Array.from({ length: acknowledged.get(way) ?? 0 }, (_, n) => n),
            way.name,
          );
        }
      }
      assert.equal(edge.process.exitCode, null, "nothing was restarted");
    });
  }
});
