/**
 * Files with unusual names go from `send` to `recv` while both, and the edge with its runtime, are killed at random
 * times. Every file arrives complete and once, and nothing is left except what `recv --list` shows.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { listLeftOvers } from "../../src/cli/files/left-overs.ts";
import { folder } from "../cli/support.ts";
import { FULL } from "../support/long-form.ts";
import { pattern } from "../support/watch.ts";
import { Chance, Mortal, seedOf, tokenFor } from "./support.ts";

const FILES = FULL ? 300 : 30;
const BYTES = FULL ? 2 * 1024 ** 3 : 24 * 1024 ** 2;
const KILLS = FULL ? 200 : 8;
/** The share of kills that do not wait for progress: they hit processes that are starting. */
const EARLY = 0.2;
/** The longest time, in milliseconds, from the moment at which a kill is due: about that in which a process starts. */
const PAUSE = 1500;
/** The longest time from progress to a kill, in milliseconds: that of a few parts. */
const SOON = 100;

/** Names that a file system allows and a recipient must sanitize, and some that only look alike. */
const ODD = [
  "plain.txt",
  "PLAIN.TXT",
  " leading and trailing ",
  "dots...",
  ".hidden",
  "new\nline",
  "\x1b[2K\rsent",
  "\u202egnp.exe",
  "caf\u00e9",
  "cafe\u0301",
  "CON",
  "nul.txt",
  "a:b*c?",
  "back\\slash",
  "-rf",
  "漢".repeat(80),
  `${"x".repeat(250)}.tar`,
  "👩‍👩‍👧",
  "deep/er/and/deeper",
  "%2e%2e%2fx",
];

test("kills of sender, receiver, and edge with its runtime: every file arrives exactly once", {
  timeout: FULL ? 5_400_000 : 600_000,
}, async (context) => {
  const seed = seedOf();
  const chance = new Chance(seed);
  const at = await folder(context);
  const [top, out, state] = [join(at, "top"), join(at, "out"), join(at, "recv-state")];
  const sent = makeFiles(top, chance);
  const bytes = bytesUnder(top);
  const edge = await Mortal.start();
  context.after(() => edge.close());
  const way = async (address: string) => [
    "--edge",
    `http://127.0.0.1:${edge.port}`,
    "--as",
    address,
    "--token",
    await tokenFor(address),
  ];
  const send = ["send", ...(await way("alice/pc")), "--state", join(at, "send-state"), "bob/x", top];
  const recv = ["recv", ...(await way("bob/x")), "--state", state, "--out", out, "--follow"];

  let isOver = false;
  const kills = { sender: 0, receiver: 0, edge: 0 };
  /** The bytes that had arrived at each kill. */
  const killedAt: number[] = [];
  const errors: string[] = [];
  const sender = new Repeated(context, send, errors);
  const receiver = new Repeated(context, recv, errors);
  const receiving = receiver.run(() => !isOver);
  let isSent = false;
  const sending = sender
    .run(({ code }) => code !== 0)
    .then(() => {
      isSent = true;
    });
  // Kills are spread over bytes, not time: otherwise most come when a fast machine has moved all files.
  const killing = (async () => {
    for (let n = 1; n <= KILLS; n += 1) {
      if (chance.next() < EARLY) await sleep(chance.below(PAUSE));
      else {
        while (bytesUnder(out) < (bytes * n) / (KILLS + 1) && errors.length === 0) await sleep(20);
        await sleep(chance.below(SOON));
      }
      const victim = chance.of(isSent ? (["receiver", "edge"] as const) : (["sender", "receiver", "edge"] as const));
      kills[victim] += 1;
      killedAt.push(bytesUnder(out));
      if (victim === "edge") await edge.kill();
      else (victim === "sender" ? sender : receiver).kill();
    }
  })();
  await sending;
  await killing;
  while ((await edge.mailbox("bob/x")).messages > 0) await sleep(200);
  isOver = true;
  receiver.end();
  await receiving;

  const progress = `first and last kill at ${killedAt.at(0)} and ${killedAt.at(-1)} of ${bytes} bytes`;
  console.log(`files: seed ${seed}: ${sent.length} files, kills ${JSON.stringify(kills)}, ${progress}`);
  assert.deepEqual(errors, [], "no process failed by itself");
  const late = killedAt.filter((arrived) => arrived >= bytes).length;
  // In the short form, a fast machine moves all files during one pause.
  assert.ok(!FULL || late <= KILLS / 4, `${late} of ${KILLS} kills came after all files`);
  assert.deepEqual(hashesUnder(out), sent.sort(), "every file is complete and exactly once");
  assert.deepEqual(await listLeftOvers({ out, state }), []);
  const left = readdirSync(join(out, ".grooveway")).filter((name) => /\.(part|journal|whole)$/.test(name));
  assert.deepEqual(left, [], "everything left is listed");
});

/** Creates the files, all different, and returns their hashes. */
function makeFiles(top: string, chance: Chance): string[] {
  const hashes: string[] = [];
  // A fifth of them use nearly all byte values.
  const large = Math.floor((BYTES / FILES) * 5);
  for (let n = 0; n < FILES; n += 1) {
    const name = ODD[n % ODD.length] ?? "";
    const round = Math.floor(n / ODD.length);
    const path = join(top, `${round}`, name);
    const bytes = pattern(n % 5 === 0 ? large : 1 + chance.below(4000), n + 1);
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, bytes);
    hashes.push(sha256(bytes));
  }
  return hashes;
}

/** The bytes of all files in a folder, unfinished ones included. */
function bytesUnder(folder: string): number {
  if (!existsSync(folder)) return 0;
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .map((entry) => statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false }))
    .reduce((sum, entry) => sum + (entry?.isFile() ? entry.size : 0), 0);
}

function hashesUnder(out: string): string[] {
  return readdirSync(out, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes(".grooveway"))
    .map((entry) => sha256(readFileSync(join(entry.parentPath, entry.name))))
    .sort();
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Exit statuses allowed when the edge is killed: it could not be reached. */
const UNREACHABLE = 3;

/** The exit status after SIGTERM. */
const TERMINATED = 143;

interface Ended {
  readonly code: number | null;
}

/** A command that is restarted whenever it ends, as a user or a service manager would. */
class Repeated {
  readonly #args: readonly string[];
  readonly #errors: string[];
  #child: ChildProcess | undefined;
  #isEnded = false;

  constructor(context: TestContext, args: readonly string[], errors: string[]) {
    this.#args = args;
    this.#errors = errors;
    context.after(() => this.kill());
  }

  async run(isAgain: (ended: Ended) => boolean): Promise<void> {
    const entry = fileURLToPath(new URL("../../src/cli/grooveway.js", import.meta.url));
    for (;;) {
      const child = spawn(process.execPath, [entry, ...this.#args], { stdio: ["ignore", "pipe", "pipe"] });
      this.#child = child;
      let stderr = "";
      child.stdout.resume();
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        stderr = (stderr + text).slice(-2000);
      });
      const [code] = (await once(child, "close")) as [number | null];
      const isExpected = code === null || code === 0 || code === UNREACHABLE || (this.#isEnded && code === TERMINATED);
      if (!isExpected) this.#errors.push(`${this.#args[0]} ended with ${code}: ${stderr}`);
      if (!isAgain({ code }) || !isExpected) return;
      await sleep(100);
      // It may have ended meanwhile.
      if (this.#isEnded) return;
    }
  }

  kill(): void {
    this.#child?.kill("SIGKILL");
  }

  end(): void {
    this.#isEnded = true;
    this.#child?.kill("SIGTERM");
  }
}
