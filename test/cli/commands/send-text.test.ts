/** `grooveway send --text`: one message arrives, and the exit status says so. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { EXIT_CODES } from "../../../src/cli/exit-codes.ts";
import { Device } from "../../../src/device/index.ts";
import { startRelay } from "../../../src/relay/index.ts";
import { QUOTA } from "../../../src/store-and-forward/sender-share.ts";
import { receive } from "../../edge/mailbox/support.ts";
import { folder, run, runHere, start } from "../support.ts";

describe("a text", () => {
  it("arrives as one message, whatever it contains", async (context) => {
    const relay = await startRelay({ port: 0, names: ["127.0.0.1"] });
    context.after(() => relay.close());
    const where = ["--relay", `127.0.0.1:${relay.port}`, "--state", await folder(context)];
    const bob = await Device.connect({ relay: `127.0.0.1:${relay.port}`, address: "bob/laptop" });
    context.after(() => bob.close());
    const plain = await run(context, ["send", ...where, "--as", "alice/pc", "bob", "--text", "Grüße\n-- alice"]);
    assert.deepEqual([plain.code, plain.stderr], [0, ""]);
    assert.equal(plain.stdout, "sent a message of 16 B to bob\n");
    const json = await run(context, ["send", ...where, "--as", "alice/pc", "bob/laptop", "--text", "", "--json"]);
    const messages = await receive(bob, 2);
    assert.deepEqual(
      messages.map((message) => [message.from, message.resource, message.text()]),
      [
        ["alice/pc", "message", "Grüße\n-- alice"],
        ["alice/pc", "message", ""],
      ],
    );
    assert.deepEqual(JSON.parse(json.stdout), { event: "sent", to: "bob/laptop", id: messages[1]?.id, bytes: 0 });
  });

  it("that finds no room waits, and says when it is interrupted that it was not sent", async (context) => {
    const relay = await startRelay({ port: 0, names: ["127.0.0.1"], quota: { ...QUOTA, messages: 2 } });
    context.after(() => relay.close());
    const where = ["--relay", `127.0.0.1:${relay.port}`, "--state", await folder(context), "--as", "alice/pc"];
    const alice = await Device.connect({ relay: `127.0.0.1:${relay.port}`, address: "alice/pc", receive: false });
    await alice.send("bob/laptop", "all that it may have waiting");
    await alice.close();
    const command = start(context, ["send", ...where, "bob/laptop", "--text", "one too many"]);
    command.process.stderr?.on("data", (text: string) => {
      if (text.includes("waiting until bob/laptop receives")) command.process.kill("SIGINT");
    });
    const { code, stderr } = await command.finished;
    assert.equal(code, EXIT_CODES.Interrupted.status);
    assert.match(stderr, /interrupted: the message was not sent \[Interrupted\]\n$/);
  });

  it("is refused together with files, and without an address", async () => {
    for (const args of [["bob", "file", "--text", "x"], ["bob", "--text", "x", "--fresh"], ["--text", "x"], ["bob"]]) {
      const { code, stderr } = await runHere(["send", ...args]);
      assert.equal(code, EXIT_CODES.Usage.status, args.join(" "));
      assert.match(stderr, /--text/);
    }
  });
});
