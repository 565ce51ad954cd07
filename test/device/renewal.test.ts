/** How a connection that is nearly used up is replaced. */
import assert from "node:assert/strict";
import { describe, it, type TestContext, test } from "node:test";
import { Inbox } from "../../src/device/inbox.ts";
import { DeviceError, openTransport } from "../../src/device/index.ts";
import { MESSAGE_LIMIT } from "../../src/device/limits.ts";
import { type ConnectionOptions, settingsOf } from "../../src/device/options.ts";
import { RenewedConnection } from "../../src/device/renewed-connection.ts";
import type { OpenTransport, Transport } from "../../src/device/transports/transport.ts";
import { MAX_CONTENT_LENGTH } from "../../src/encapsulation/index.ts";
import { eventually } from "../support/watch.ts";
import { ScriptedRelay } from "./support.ts";

test("messages begin on a new connection at once when it replaces one that is used up", async (t) => {
  const relay = await ScriptedRelay.start(t);
  const options: ConnectionOptions = { address: "alice/pc", relay: `127.0.0.1:${relay.port}`, transport: "tcp" };
  /** Whether the outbox would have had to wait, each time that it was given a connection. */
  const renewing: boolean[] = [];
  const connection: RenewedConnection = new RenewedConnection({
    options,
    settings: settingsOf(options),
    platform: {
      open: openTransport,
      ways: () => Promise.resolve([]),
      network: () => "",
      streams: () => assert.fail("it has no keyring"),
    },
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

/** A transport by TCP that says of itself what a LongLived one would. */
class Worn implements Transport {
  readonly name = "longlived";
  readonly #real: Transport;
  remaining: number;

  constructor(real: Transport, remaining: number) {
    this.#real = real;
    this.remaining = remaining;
  }

  get capabilities() {
    return this.#real.capabilities;
  }

  get established() {
    return this.#real.established;
  }

  get answered() {
    return this.#real.answered;
  }

  get ended() {
    return this.#real.ended;
  }

  get heardAt() {
    return this.#real.heardAt;
  }

  get lost() {
    return this.#real.lost;
  }

  read() {
    return this.#real.read();
  }

  write(octets: readonly Uint8Array[]) {
    return this.#real.write(octets);
  }

  close() {
    this.#real.close();
  }
}

describe("a LongLived connection that is used up", () => {
  /** What a connection asked its transports for, and the outbox that it sees. */
  interface World {
    readonly connection: RenewedConnection;
    /** The content lengths asked for. */
    readonly asked: (number | undefined)[];
    readonly outbox: { isBusy: boolean; acknowledged: () => void };
    /** How often the outbox was given a connection. */
    attached: number;
  }

  async function world(
    t: TestContext,
    options: Partial<ConnectionOptions> = {},
    refuses: (contentLength: number | undefined) => boolean = () => false,
  ): Promise<World> {
    const relay = await ScriptedRelay.start(t);
    const to: ConnectionOptions = {
      address: "alice/pc",
      relay: `127.0.0.1:${relay.port}`,
      transport: "tcp",
      ...options,
    };
    const asked: (number | undefined)[] = [];
    const open: OpenTransport = ({ contentLength, ...rest }) => {
      asked.push(contentLength);
      if (!refuses(contentLength)) return new Worn(openTransport({ ...rest, transport: "tcp" }), contentLength ?? 0);
      throw new DeviceError("Refused", "the body is too long");
    };
    let progress = Promise.withResolvers<void>();
    const outbox = {
      isBusy: false,
      acknowledged: () => {
        progress.resolve();
        progress = Promise.withResolvers<void>();
      },
    };
    const made: World = {
      connection: new RenewedConnection({
        options: to,
        settings: settingsOf(to),
        platform: {
          open,
          ways: () => Promise.resolve([]),
          network: () => "",
          streams: () => assert.fail("it has no keyring"),
        },
        outbox: {
          attach: () => {
            made.attached += 1;
          },
          detach: () => undefined,
          on: () => undefined,
          ending: () => ({ stuck: 0, arrived: 0, still: 0 }),
          get isBusy() {
            return outbox.isBusy;
          },
          isSending: false,
          progress: () => progress.promise,
        },
        inbox: new Inbox(MESSAGE_LIMIT),
        onLost: (error) => assert.fail(error),
      }),
      asked,
      outbox,
      attached: 0,
    };
    t.after(() => {
      const { carrier } = made.connection;
      made.connection.end();
      carrier?.abandon();
    });
    await made.connection.start();
    return made;
  }

  it("is followed by one that may carry as much as LongLived can", async (t) => {
    const { connection, asked } = await world(t);
    await connection.renew();
    assert.deepEqual(asked, [undefined, MAX_CONTENT_LENGTH]);
  });

  it("is followed by another of the default if a longer one is refused, also later", async (t) => {
    const { connection, asked } = await world(t, {}, (contentLength) => contentLength === MAX_CONTENT_LENGTH);
    await connection.renew();
    await connection.renew();
    assert.deepEqual(asked, [undefined, MAX_CONTENT_LENGTH, undefined, undefined]);
  });

  it("is followed by one of the length that the application has set", async (t) => {
    const { connection, asked } = await world(t, { contentLength: 64 * 1024 * 1024 });
    await connection.renew();
    assert.deepEqual(asked, [64 * 1024 * 1024, 64 * 1024 * 1024]);
  });

  it("stays until all is acknowledged, while a device that only sends opens the next", async (t) => {
    const there = await world(t, { receive: false });
    there.outbox.isBusy = true;
    const renewed = there.connection.renew();
    const first = there.connection.carrier;
    await eventually(() => there.asked.length === 2, "the next connection");
    there.outbox.acknowledged();
    assert.equal(there.connection.carrier, first);
    there.outbox.isBusy = false;
    there.outbox.acknowledged();
    await renewed;
    assert.equal(there.attached, 2);
    assert.notEqual(there.connection.carrier, first);
  });

  it("of a device that receives is kept until all is acknowledged, since the next would replace it", async (t) => {
    const there = await world(t);
    there.outbox.isBusy = true;
    const renewed = there.connection.renew();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(there.asked.length, 1);
    there.outbox.isBusy = false;
    there.outbox.acknowledged();
    await renewed;
    assert.equal(there.asked.length, 2);
  });
});
