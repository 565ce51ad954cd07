/** The device's half of a Tunnel in this process: connections over a relay whose input and output the test has. */

import type { ByteChannel, Inflow } from "../../../src/edge/byte-channel.ts";
import type { Reason } from "../../../src/edge/reasons.ts";
import type { ConnectionContext, DeviceConnection } from "../../../src/edge/tunnel/device-connection.ts";
import { Condition } from "../../../src/lib/condition.ts";

/** More calls of `ready` than any test needs: a connection that never waits would block this process for ever. */
const CALLS = 10_000;

/** A relay. It takes what is written at once, unless it is `blocked`. */
export class FakeRelay implements ByteChannel {
  readonly came: Uint8Array[] = [];
  /** Resolves when the relay takes what is written. */
  blocked: Promise<void> | undefined;
  /** Calls of `ready` that wait. */
  waiting = 0;
  #inflow: Inflow | undefined;
  readonly #changed = new Condition();
  #calls = 0;

  send(octets: Uint8Array): void {
    this.#inflow = { kind: "octets", octets };
    this.#changed.notifyAll();
  }

  async write(octets: Uint8Array): Promise<void> {
    this.came.push(new Uint8Array(octets));
    await this.blocked;
  }

  ready(): Promise<void> {
    this.#calls += 1;
    if (this.#calls > CALLS) throw new Error("the connection does not wait for the relay");
    if (this.#inflow !== undefined) return Promise.resolve();
    this.waiting += 1;
    return this.#changed.wait().finally(() => {
      this.waiting -= 1;
    });
  }

  peek(): Inflow | undefined {
    return this.#inflow;
  }

  take(max: number): Inflow | undefined {
    const taken = this.#inflow;
    if (taken?.kind !== "octets") return taken;
    const { octets } = taken;
    this.#inflow = octets.length > max ? { kind: "octets", octets: octets.subarray(max) } : undefined;
    return { kind: "octets", octets: octets.subarray(0, max) };
  }

  async pipeFrom(): Promise<void> {
    throw new Error("no test pipes");
  }

  async pipeTo(): Promise<void> {
    throw new Error("no test pipes");
  }

  close(): void {
    this.#inflow = { kind: "ended", reason: "OriginClosed" };
    this.#changed.notifyAll();
  }
}

/** A Tunnel around a connection, with a relay that is reached at once. */
export interface FakeTunnel {
  readonly relay: FakeRelay;
  readonly context: ConnectionContext;
  /** The connection, which is closed once when it ends. */
  connection: DeviceConnection | undefined;
  /** Why it has ended. */
  ended: Reason | undefined;
}

export function fakeTunnel(): FakeTunnel {
  const relay = new FakeRelay();
  let channel: Promise<ByteChannel> | undefined;
  const far = {
    endpoint: undefined,
    get channel() {
      return channel;
    },
    unreached: "OriginUnreachable",
    reach() {
      channel = Promise.resolve(relay);
      return channel;
    },
  };
  const tunnel: FakeTunnel = {
    relay,
    connection: undefined,
    ended: undefined,
    context: {
      far: far as unknown as ConnectionContext["far"],
      standing: { fresh: () => true, judge: () => Promise.resolve(true) },
      sockets: { acceptWebSocket: () => undefined, getWebSockets: () => [] },
      end(reason) {
        if (tunnel.ended !== undefined) return;
        tunnel.ended = reason;
        tunnel.connection?.close(reason);
        relay.close();
      },
      fail(error) {
        throw error;
      },
    },
  };
  return tunnel;
}
