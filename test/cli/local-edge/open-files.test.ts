/** An edge that can open few more files refuses new connections, keeps those that it has, and takes new ones later. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { it } from "node:test";
import { areShort, ENOUGH, openFilesOf, SHORT } from "../../../src/cli/local-edge/open-files.ts";
import { Device } from "../../../src/device/index.ts";
import type { Readiness } from "../../../src/edge/http/ready.ts";
import { eventually } from "../../edge/support.ts";
import { startShell } from "../support.ts";

const LINUX = { skip: process.platform !== "linux" && "SKIPPED: only Linux tells how many files a process has open" };

/** workerd has some 80 open when nothing happens. */
const LIMIT = 1000;

/** The process of workerd that an edge has started. */
function runtimeOf(edge = 0): number {
  const children = readFileSync(`/proc/${edge}/task/${edge}/children`, "utf8").trim().split(" ").map(Number);
  return children.find((pid) => readFileSync(`/proc/${pid}/comm`, "utf8") === "workerd\n") ?? 0;
}

it("files are short from one share of the limit, until there are fewer than another", () => {
  const most = 1000;
  assert.deepEqual(
    [SHORT * most - 1, SHORT * most, most].map((open) => areShort({ open, most }, false)),
    [false, true, true],
  );
  assert.deepEqual(
    [SHORT * most - 1, ENOUGH * most, ENOUGH * most - 1].map((open) => areShort({ open, most }, true)),
    [true, true, false],
  );
});

it("the files of a process are counted, and one that has ended has none", LINUX, () => {
  const { open = 0, most = 0 } = openFilesOf(process.pid) ?? {};
  assert(open > 2 && open < most, `${open} of ${most}`);
  assert.equal(openFilesOf(2 ** 30), undefined);
});

it("an edge with few files left refuses new connections by name, and goes on", LINUX, async (t) => {
  const edge = startShell(t, `ulimit -n ${LIMIT}; exec "$@"`, ["edge", "--json", "--dev", "--port", "0"]);
  const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
  const connect = (n: number) => Device.connect({ edge: url, address: `many${n}/pc`, transport: "websocket" });
  const ready = async () => (await (await fetch(`${url}/ready`)).json()) as Readiness;
  const runtime = runtimeOf(edge.process.pid);
  const isShort = () => areShort(openFilesOf(runtime) ?? { open: 0, most: LIMIT }, false);
  const devices: Device[] = [];
  t.after(() => Promise.all(devices.map((device) => device.close())));
  while (!isShort()) {
    devices.push(await connect(devices.length));
    assert(devices.length < LIMIT);
  }
  await eventually("it says that it is not ready", async () => !(await ready()).ready);
  const { problems } = await ready();
  assert.deepEqual(
    problems.map(({ part, code }) => [part, code]),
    [["storage", "TooManyOpenFiles"]],
  );
  const target = `${url}/2.0/127.0.0.1/${crypto.randomUUID()},ConnType=LongLived,ContentLength=100000`;
  const refused = await fetch(target);
  await refused.body?.cancel();
  assert.deepEqual([refused.status, refused.headers.get("Grooveway-Reason")], [500, "TooManyOpenFiles"]);
  assert(Number(refused.headers.get("Retry-After")) > 0);
  // This one comes back by itself, when idle objects have left memory: the platform keeps them for ten seconds.
  const late = connect(devices.length);

  const [first, second] = devices;
  assert(first !== undefined && second !== undefined, `${devices.length} are connected`);
  await first.send("many1/pc", "still here");
  for await (const message of second.messages()) {
    assert.equal(new TextDecoder().decode(message.body), "still here");
    message.done();
    break;
  }

  devices.push(await late);
  edge.process.kill("SIGTERM");
  const { stderr } = await edge.finished;
  assert.match(stderr, /of 1000 files open: new connections are refused; .*\[TooManyOpenFiles\][\s\S]*accepted/);
  assert.doesNotMatch(stderr, /EdgeCrashed/);
});
