/** Ports at which programs reach services of other devices. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Dialer, ForwardedPort } from "../../../src/cli/streams/forwarded-port.ts";
import { StreamLog } from "../../../src/cli/streams/stream-log.ts";
import { folder } from "../support.ts";

const target = { address: "office/desk", service: "ssh" };
const options = () => ({ target, dialer: new Dialer(), log: new StreamLog() });

describe("a forwarded unix socket", () => {
  it("is for this user only, and leaves the mask of the process as it was", async (t) => {
    const place = await folder(t);
    const before = process.umask();
    const paths = ["a", "b"].map((name) => join(place, name));
    const ports = await Promise.all(paths.map((path) => ForwardedPort.open({ at: { path }, ...options() })));
    assert.equal(process.umask(), before);
    for (const path of paths) assert.equal(statSync(path).mode & 0o777, 0o600);
    for (const port of ports) port.close();
  });

  // If it does not, nothing else ends the test.
  it("ends a connection that leads nowhere, which ended the command", { timeout: 60_000 }, async (t) => {
    const path = join(await folder(t), "socket");
    const port = await ForwardedPort.open({ at: { path }, ...options() });
    const socket = connect({ path });
    socket.resume();
    const [hadError] = await once(socket, "close");
    assert.equal(hadError, false);
    port.close();
  });
});
