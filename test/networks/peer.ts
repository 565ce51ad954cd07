/** Devices in a process of their own, which a test starts in a network namespace and drives. */
import { Device, DeviceError, type DeviceOptions } from "../../src/device/index.ts";
import { serve } from "../support/rpc.ts";
import { Watch } from "../support/watch.ts";
import { type Batch, bodyOf, Counter, type Tally } from "./exchange.ts";

/** What a test may set of a device, and how long it may take to connect and to send its first message. */
export interface ConnectArgument {
  readonly options: Omit<DeviceOptions, "signal" | "token" | "onReconnect" | "onHeld" | "onReleased">;
  /** Who gets the first message, which is a batch of one. */
  readonly first?: { readonly to: string; readonly batch: number };
  /** In milliseconds. */
  readonly patience: number;
}

export type Connected =
  /** After how many milliseconds the device was connected, and its first message acknowledged. */
  | { readonly connected: number; readonly first: number; readonly transport: string }
  /** Why it did not connect. `Silence`: nothing had come of it when the patience was over. */
  | { readonly failed: string; readonly message: string; readonly after: number };

interface Running {
  readonly device: Device;
  readonly counter: Counter;
  readonly watch: Watch;
  /** Codes of the connections that it lost. */
  readonly lost: string[];
}

const devices = new Map<string, Running>();

function running(address: string): Running {
  const found = devices.get(address);
  if (found === undefined) throw new Error(`no device ${address} is connected`);
  return found;
}

async function connect({ options, first, patience }: ConnectArgument): Promise<Connected> {
  const started = performance.now();
  const after = () => Math.round(performance.now() - started);
  const late = AbortSignal.timeout(patience);
  const lost: string[] = [];
  try {
    const giving = new AbortController();
    const give = () => giving.abort();
    late.addEventListener("abort", give);
    const device = await Device.connect({
      ...options,
      signal: giving.signal,
      onReconnect: ({ code }) => lost.push(code),
    });
    const connected = after();
    const found: Running = { device, counter: new Counter(), watch: new Watch(), lost };
    if (first !== undefined) {
      const batch = { batch: first.batch, count: 1, bytes: 100 };
      await device.send(first.to, bodyOf(batch, 0));
    }
    late.removeEventListener("abort", give);
    devices.set(options.address, found);
    void receive(found);
    return { connected, first: after(), transport: device.transport ?? "none" };
  } catch (error) {
    const { code, message } = error instanceof DeviceError ? error : { code: "Unknown", message: String(error) };
    // A way that keeps failing is retried until the patience is over: then the first reason counts.
    const failed = late.aborted ? (lost[0] ?? "Silence") : code;
    return { failed, message, after: after() };
  }
}

async function receive({ device, counter, watch, lost }: Running): Promise<void> {
  try {
    for await (const message of device.messages()) {
      counter.add(message.body);
      message.done();
      watch.changed();
    }
  } catch (error) {
    lost.push(error instanceof DeviceError ? error.code : String(error));
    watch.changed();
  }
}

serve({
  connect,

  /** Sends a batch; resolves when all of it is acknowledged. */
  async send({ from, to, batch }: { from: string; to: string; batch: Batch }): Promise<void> {
    const { device } = running(from);
    const sending = new Set<Promise<unknown>>();
    for (let number = 0; number < batch.count; number += 1) {
      const body = bodyOf(batch, number);
      // The outbox of a device is limited.
      while (sending.size > 0 && sending.size * body.length > 8 * 1024 * 1024) await Promise.race(sending);
      const sent: Promise<unknown> = device.send(to, body).finally(() => sending.delete(sent));
      sending.add(sent);
    }
    await Promise.all(sending);
  },

  /** Resolves when all of a batch has arrived, or when it is late. */
  async arrived({ at, batch, patience }: { at: string; batch: Batch; patience: number }): Promise<Tally> {
    const { counter, watch } = running(at);
    await watch
      .until(() => counter.tally(batch).arrived >= batch.count, `batch ${batch.batch}`, patience)
      .catch(() => undefined);
    return counter.tally(batch);
  },

  /** Closes a device; returns why it lost connections, and its transport at the end, or "none". */
  async close({ address }: { address: string }): Promise<{ lost: readonly string[]; transport: string }> {
    const { device, lost } = running(address);
    devices.delete(address);
    const { transport = "none" } = device;
    await device.close();
    return { lost, transport };
  },
});
