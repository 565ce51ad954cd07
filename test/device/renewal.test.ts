/** How a connection that is nearly used up is replaced. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Inbox } from "../../src/device/inbox.ts";
import { openTransport } from "../../src/device/index.ts";
import { MESSAGE_LIMIT } from "../../src/device/limits.ts";
import { type ConnectionOptions, settingsOf } from "../../src/device/options.ts";
import { RenewedConnection } from "../../src/device/renewed-connection.ts";
import { ScriptedRelay } from "./support.ts";

test("messages begin on a new connection at once when it replaces one that is used up", async (t) => {
  const relay = await ScriptedRelay.start(t);
  const options: ConnectionOptions = { address: "alice/pc", relay: `127.0.0.1:${relay.port}`, transport: "tcp" };
  /** Whether the outbox would have had to wait, each time that it was given a connection. */
  const renewing: boolean[] = [];
  const connection: RenewedConnection = new RenewedConnection({
    options,
    settings: settingsOf(options),
    platform: { open: openTransport, ways: () => Promise.resolve([]), network: () => "" },
    outbox: {
      attach: () => void renewing.push(connection.isRenewing),
      detach: () => undefined,
      on: () => undefined,
      ending: () => ({ stuck: 0, arrived: 0, still: 0 }),
      isBusy: false,
      isSending: false,
      progress: () => Promise.resolve(),
    },
    inbox: new Inbox(MESSAGE_LIMIT),
    onLost: (error) => assert.fail(error),
  });
  t.after(() => {
    const { carrier } = connection;
    connection.end();
    carrier?.abandon();
  });
  await connection.start();
  const renewed = connection.renew();
  assert.equal(connection.isRenewing, true);
  await renewed;
  assert.deepEqual(renewing, [false, false]);
});
