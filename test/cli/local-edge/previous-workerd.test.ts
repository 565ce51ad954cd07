/**
 * A state folder that the workerd before the pinned one has written is read by this one: workerd calls its storage on
 * disk experimental. Whoever changes the pin makes a new folder with the old one first: the messages and the stream of
 * the test, then `tar -cz do`, with the version in its name.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { startLocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { Device } from "../../../src/device/index.ts";
import { folder } from "../support.ts";

const HERE = fileURLToPath(new URL(".", import.meta.url));

for (const name of readdirSync(HERE).filter((file) => file.startsWith("state-of-workerd-"))) {
  it(`has what ${name} kept, and goes on with it`, async (t) => {
    const state = join(await folder(t), "state");
    mkdirSync(state);
    execFileSync("tar", ["-xzf", join(HERE, name), "-C", state]);
    const edge = await startLocalEdge({ port: 0, relayAllow: [], dev: "open", state });
    t.after(() => edge.close());
    const alice = await Device.connect({ edge: edge.url, address: "alice/pc", transport: "websocket" });
    await alice.send("bob/pc", "from now");
    await alice.close();
    const bob = await Device.connect({ edge: edge.url, address: "bob/pc", transport: "websocket" });
    t.after(() => bob.close());
    const came: string[] = [];
    for await (const { body } of bob.messages()) {
      came.push(new TextDecoder().decode(body));
      if (came.length === 7) break;
    }
    const kept = ["message 0", "message 1", "message 2", "message 3", "message 4"];
    assert.deepEqual(
      came.filter((text) => text !== "to the identity"),
      [...kept, "from now"],
    );
    assert(came.includes("to the identity"));
    const stream = `${edge.url}/mailboxes/app/logs/today`;
    const more = { method: "POST", headers: { "Content-Type": "text/plain" }, body: "from now;" };
    assert.equal((await fetch(stream, more)).status, 204);
    assert.equal(await (await fetch(`${stream}?offset=-1`)).text(), "line 0;line 1;line 2;from now;");
  });
}
