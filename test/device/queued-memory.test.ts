/** What a device's queue takes in memory: an application may have very many messages waiting. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { deviceFor, ScriptedRelay } from "./support.ts";

/** Enough that what else happens in the process does not matter. */
const MESSAGES = 20_000;

test("a queued message of 100 bytes takes at most 800", async (t) => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const used = () => {
    collect();
    collect();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const device = await deviceFor(t, await ScriptedRelay.start(t), "alice/laptop");
  // Not part of what is measured.
  const texts = Array.from({ length: MESSAGES }, (_, number) => Buffer.alloc(100, `${number} `).toString("latin1"));
  const sent = new Array<Promise<unknown>>(MESSAGES).fill(Promise.resolve());
  const before = used();
  for (const [number, text] of texts.entries()) sent[number] = device.send("bob", text);
  const each = (used() - before) / MESSAGES;
  await Promise.all(sent);
  assert.ok(each < 800, `${each} bytes a message`);
});
