/** `grooveway connect`: what a file lists is exposed and forwarded, and changes of the file are followed. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it, type TestContext } from "node:test";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { REPLIES } from "../../../src/cli/streams/socks-server.ts";
import { afterAll, startEdge } from "../../edge/mailbox/support.ts";
import { folder, run, start, takenPort } from "../support.ts";
import { echo, errorOf, isEchoed, open, socksTo, told } from "./support.ts";

/** A file that is replaced as editors do it. */
class Listed {
  readonly path: string;

  constructor(place: string) {
    this.path = join(place, "connect.toml");
  }

  async write(text: string): Promise<void> {
    await writeFile(`${this.path}.new`, text, { mode: 0o600 });
    await rename(`${this.path}.new`, this.path);
  }
}

let count = 0;

/** Two users with a file each. */
async function users(t: TestContext, edge: LocalEdge) {
  const [here, there] = await Promise.all([folder(t), folder(t)]);
  const env = { XDG_CONFIG_HOME: here };
  const fingerprint = (await run(t, ["id"], undefined, env)).stdout.trim();
  count += 1;
  const [alice, office] = [`alice/laptop${count}`, `office/room${count}`];
  const way = ["--edge", edge.url, "--transport", "websocket"];
  const [exposed, forwarded] = [new Listed(there), new Listed(here)];
  const trust = ["--trust", `alice=${fingerprint}`];
  return {
    office,
    exposed,
    forwarded,
    here,
    expose: () =>
      start(t, ["connect", ...way, "--as", office, ...trust, exposed.path], undefined, { XDG_CONFIG_HOME: there }),
    forward: () => start(t, ["connect", ...way, "--as", alice, forwarded.path], undefined, env),
  };
}

describe("grooveway connect", () => {
  let edge: LocalEdge;
  const context = afterAll();
  before(async () => {
    edge = await startEdge(context);
  });

  it("follows its file: what is unchanged goes on undisturbed, and what is removed ends", async (t) => {
    const { office, exposed, forwarded, here, expose, forward } = await users(t, edge);
    const service = await echo(t);
    await exposed.write(`[expose]\nfirst = "${service}"\n`);
    await forwarded.write(`[forward]\n0 = "${office}:first"\n`);
    const exposing = expose();
    await exposing.line(/:first is /);
    const forwarding = forward();
    const [, bound = ""] = await forwarding.line(/127\.0\.0\.1:([0-9]+) is /);
    const first = open(t, { port: Number(bound), host: "127.0.0.1" });
    await isEchoed(first, "before");

    await exposed.write(`[expose]\nfirst = "${service}"\nsecond = "${service}"\n`);
    await exposing.line(/:second is /);
    const path = join(here, "second");
    await forwarded.write(`[forward]\n0 = "${office}:first"\n"unix:${path}" = "${office}:second"\n`);
    await forwarding.line(/unix:.* is /);
    const second = open(t, { path });
    await isEchoed(second, "by a unix socket");
    await isEchoed(first, "undisturbed");

    const gone = errorOf(first);
    await exposed.write(`[expose]\nsecond = "${service}"\n`);
    await exposing.line(/:first is exposed no more/);
    assert.equal(await gone, "ECONNRESET");
    await isEchoed(second, "still there");

    const ended = once(second, "close");
    await forwarded.write(`[forward]\n0 = "${office}:second"\n`);
    await forwarding.line(/unix:.* is forwarded no more/);
    await ended;
    const third = open(t, { port: Number(bound), host: "127.0.0.1" });
    assert.equal(await errorOf(third), "ECONNREFUSED");
  });

  it("exposes and forwards SOCKS, and ends connections to what is not listed any more", async (t) => {
    const { office, exposed, forwarded, here, expose, forward } = await users(t, edge);
    const [first, second] = [await echo(t), await echo(t)];
    const socks = join(here, "socks");
    await exposed.write(`[socks]\nexpose = ["${first}", "${second}"]\n`);
    await forwarded.write(`[socks.forward]\n"unix:${socks}" = "${office}"\n`);
    const exposing = expose();
    await exposing.line(new RegExp(`SOCKS at ${office} reaches ${second}$`, "m"));
    const forwarding = forward();
    await forwarding.line(/unix:.* is SOCKS at office/);
    const [one, other] = [open(t, { path: socks }), open(t, { path: socks })];
    assert.equal(await socksTo(one, first), REPLIES.Succeeded);
    assert.equal(await socksTo(other, second), REPLIES.Succeeded);
    await isEchoed(one, "one");
    await isEchoed(other, "other");

    const gone = once(one, "close");
    await exposed.write(`[expose]\necho = "${first}"\n[socks]\nexpose = ["${second}"]\n`);
    await exposing.line(new RegExp(`SOCKS at ${office} reaches ${first} no more`));
    await gone;
    await isEchoed(other, "undisturbed");
    assert.equal(await socksTo(open(t, { path: socks }), first), REPLIES.NotAllowed);

    const ended = once(other, "close");
    await exposed.write(`[expose]\necho = "${first}"\n`);
    await ended;
    const none = open(t, { path: socks }).resume();
    await once(none, "close");

    const path = join(here, "echo");
    await forwarded.write(`[forward]\n"unix:${path}" = "${office}:echo"\n`);
    await forwarding.line(/unix:.*echo is /);
    await isEchoed(open(t, { path }), "by its name");
  });

  it("goes on with what it has if the file cannot be read or a port is taken, and says so in a line each", async (t) => {
    const { office, exposed, forwarded, expose, forward } = await users(t, edge);
    const service = await echo(t);
    await exposed.write(`[expose]\nfirst = "${service}"\n`);
    await forwarded.write(`[forward]\n0 = "${office}:first"\n`);
    await expose().line(/:first is /);
    const forwarding = forward();
    const [, bound = ""] = await forwarding.line(/127\.0\.0\.1:([0-9]+) is /);
    const socket = open(t, { port: Number(bound), host: "127.0.0.1" });
    await isEchoed(socket, "before");
    const broken = told(forwarding, /line 1: it is not TOML.*\[ConfigUnusable\]; what was read before goes on\n/);
    await forwarded.write("[forward");
    await broken;
    const missing = told(forwarding, /there is no file .*\[CannotRead\]; what was read before goes on\n/);
    await rm(forwarded.path);
    await missing;
    const taken = told(forwarding, /is taken by another program.*\[PortTaken\]\n/);
    await forwarded.write(`[forward]\n0 = "${office}:first"\n${await takenPort(t)} = "${office}:first"\n`);
    await taken;
    await isEchoed(socket, "after");
    forwarding.process.kill("SIGTERM");
    const { code, stderr } = await forwarding.finished;
    assert.equal(code, 0);
    assert.equal(stderr.match(/goes on\n/g)?.length, 2, stderr);
  });

  it("does not start without a file that it can use", async (t) => {
    const { exposed, expose } = await users(t, edge);
    assert.equal((await expose().finished).code, 5);
    await exposed.write("[expose]\n");
    const { code, stderr } = await expose().finished;
    assert.equal(code, 2);
    assert.match(stderr, /has nothing to expose or forward/);
  });
});
