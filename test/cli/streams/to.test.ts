/** `grooveway forward --to`: programs reach TCP services beside the edge. And `--plain`, which both devices must say. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { startDialling } from "../../edge/egress/support.ts";
import { afterAll } from "../../edge/mailbox/support.ts";
import { folder, run, start } from "../support.ts";
import { echo, errorOf, isEchoed, open } from "./support.ts";

let edge: LocalEdge;
const context = afterAll();
before(async () => {
  edge = await startDialling(context);
});

describe("grooveway forward --to", () => {
  it("makes services beside the edge available at ports of this machine, several with a list", async (t) => {
    const env = { XDG_CONFIG_HOME: await folder(t) };
    const [one, other] = [await echo(t), await echo(t)];
    const args = ["forward", "--edge", edge.url, "--as", "alice/to", "--to", one, "0", "--to", other, "0"];
    const forward = start(t, args, undefined, env);
    const [, first = ""] = await forward.line(new RegExp(`127\\.0\\.0\\.1:([0-9]+) is ${one} from the edge`));
    const [, second = ""] = await forward.line(new RegExp(`127\\.0\\.0\\.1:([0-9]+) is ${other} from the edge`));
    for (const port of [first, second]) {
      const socket = open(t, { host: "127.0.0.1", port: Number(port) });
      await isEchoed(socket, "to the edge and back");
      socket.end();
      await once(socket.resume(), "end");
    }
    forward.process.kill("SIGTERM");
    assert.equal((await forward.finished).code, 0);
  });

  it("resets a connection to what is not listed, and says why", async (t) => {
    const env = { XDG_CONFIG_HOME: await folder(t) };
    const args = ["forward", "--edge", edge.url, "--as", "alice/unlisted", "--to", "127.0.0.2:22", "0"];
    const forward = start(t, args, undefined, env);
    const [, port = ""] = await forward.line(/127\.0\.0\.1:([0-9]+) is /);
    assert.equal(await errorOf(open(t, { host: "127.0.0.1", port: Number(port) })), "ECONNRESET");
    forward.process.kill("SIGTERM");
    assert.match((await forward.finished).stderr, /127\.0\.0\.2:22: .*--stream-allow.*\[OriginNotAllowed\]/);
  });

  it("connects standard input and output, and is a table of connect", async (t) => {
    const home = await folder(t);
    const env = { XDG_CONFIG_HOME: home };
    const at = await echo(t);
    const sent = randomBytes(100_000).toString("base64");
    const way = ["--edge", edge.url, "--as", "alice/stdio"];
    assert.deepEqual(await run(t, ["forward", ...way, "--stdio", "--to", at], sent, env), {
      code: 0,
      stdout: sent,
      stderr: "",
    });
    const file = join(home, "to.toml");
    await writeFile(file, `[to]\n0 = "${at}"\n`);
    const connecting = start(t, ["connect", ...way, file], undefined, env);
    const [, port = ""] = await connecting.line(/127\.0\.0\.1:([0-9]+) is .* from the edge/);
    await isEchoed(open(t, { host: "127.0.0.1", port: Number(port) }), "from a file");
    connecting.process.kill("SIGTERM");
    assert.equal((await connecting.finished).code, 0);
  });

  it("is refused with another number of ports, with --socks, and with no HOST:PORT", async (t) => {
    for (const args of [
      ["--to", "a:1", "1", "2"],
      ["--to", "a:1"],
      ["--to", "a:1", "--socks", "1"],
      ["--to", "a", "1"],
    ]) {
      const { code, stderr } = await run(t, ["forward", ...args]);
      assert.deepEqual([code, /--to|destination/.test(stderr)], [2, true], stderr);
    }
  });
});

describe("--plain", () => {
  it("carries connections if both devices say it, and is refused by name at both ends if one does", async (t) => {
    const [mine, theirs] = await Promise.all([folder(t), folder(t)]);
    const at = await echo(t);
    const fingerprint = (await run(t, ["id"], undefined, { XDG_CONFIG_HOME: mine })).stdout.trim();
    const exposing = ["expose", "--edge", edge.url, "--as", "office/plain", "--trust", `alice=${fingerprint}`];
    const expose = start(t, [...exposing, "--plain", `echo=${at}`], undefined, { XDG_CONFIG_HOME: theirs });
    await expose.line(/:echo is /);
    const forward = (...more: string[]) =>
      run(t, ["forward", "--edge", edge.url, "--as", "alice/plain", ...more, "--stdio", "office/plain:echo"], "hello", {
        XDG_CONFIG_HOME: mine,
      });
    const both = await forward("--plain");
    assert.deepEqual([both.code, both.stdout], [0, "hello"]);
    assert.match(both.stderr, /--plain: the edge can read and change/);
    const only = await forward();
    assert.deepEqual([only.code, only.stdout], [4, ""]);
    assert.match(only.stderr, /\[SuiteRefused\]/);
    expose.process.kill("SIGTERM");
    const { stderr } = await expose.finished;
    assert.match(stderr, /--plain: the edge can read and change/);
    assert.match(stderr, /refused alice\/plain: .*--plain.*\[SuiteRefused\]/);
  });
});
