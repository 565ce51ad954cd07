/**
 * The near side, in its own process: what is in front of the edge.
 *
 * Client and far side must not share an event loop: bare TCP between two ends of one loop would be slower than between
 * two processes, which the tunnels have in any case, and every ratio to it would be flattering. The bench itself, which
 * is the parent of workerd, only waits while these two work, so that two cores are left to three processes.
 */
import { randomBytes } from "node:crypto";
import { Device, type DeviceOptions } from "../../src/device/index.ts";
import { serve } from "../support/rpc.ts";
import { formatCommand, pour, READY, type Received, Receiver, type Write } from "./blocks.ts";
import { type Line, openLine, type Way } from "./lines.ts";
import { type EngineTransport, engineClient } from "./peers.ts";

/** Octets of the messages whose round trip is measured, unless others are asked for. */
export const MESSAGE = 100;

/** A message that has not returned after this time is lost. */
const PATIENCE = 10_000;

/** The results of round trips. */
export interface Trips {
  /** Milliseconds of each. */
  readonly samples: readonly number[];
  readonly lost: number;
  readonly duplicated: number;
}

/** Sends a message; the callback given at creation gets what returns. */
interface Ping {
  send(message: Uint8Array): void;
  close(): void;
}

interface Pinging {
  ping: Ping;
  /** Octets of a message. One of fewer than four carries only the end of its number. */
  octets: number;
  /** The number of a returned message. */
  back: (number: number) => void;
  sent: number;
}

const lines = new Map<number, Line>();
const written = new Map<number, number>();
const pings = new Map<number, Pinging>();
const held = new Map<number, readonly Line[]>();

serve({
  /** Sends blocks up; resolves with their number when the last is written. The line stays open until `close`. */
  async up({ way, id, size, milliseconds }: { way: Way; id: number; size: number; milliseconds: number }) {
    const line = await openLine(way, formatCommand({ wish: "sink", id, rate: 0 }), () => undefined);
    lines.set(id, line);
    const count = await pour(line.write, size, milliseconds, () => line.lost() !== undefined);
    const lost = line.lost();
    if (lost !== undefined) throw new Error(lost);
    return count;
  },

  /** Requests blocks down; resolves when the last has arrived. */
  async down({ way, id, size, milliseconds }: { way: Way; id: number; size: number; milliseconds: number }) {
    const receiver = new Receiver();
    const done = Promise.withResolvers<void>();
    const take = (octets: Uint8Array) => {
      try {
        receiver.push(octets);
      } catch (error) {
        done.reject(error);
      }
      if (receiver.done) done.resolve();
    };
    const line = await openLine(way, formatCommand({ wish: "source", id, size, milliseconds }), take);
    lines.set(id, line);
    const watch = setInterval(() => {
      const lost = line.lost();
      if (lost !== undefined) done.reject(new Error(lost));
    }, 250);
    await done.promise.finally(() => clearInterval(watch));
    line.close();
    lines.delete(id);
    return receiver.result() satisfies Received;
  },

  /** Starts to push `size` octets to a sink that reads `rate` octets a second, and returns at once. */
  async push({ way, id, size, rate }: { way: Way; id: number; size: number; rate: number }) {
    const line = await openLine(way, formatCommand({ wish: "sink", id, rate }), () => undefined);
    lines.set(id, line);
    written.set(id, 0);
    const write: Write = (block) => {
      written.set(id, (written.get(id) ?? 0) + block.length);
      return line.write(block);
    };
    void pour(write, size, Number.POSITIVE_INFINITY, () => line.lost() !== undefined);
  },

  /** Octets of a push that were written so far. */
  written: (id: number) => written.get(id) ?? 0,

  /** Why a line has ended; undefined while it is there. */
  lost: (id: number) => lines.get(id)?.lost(),

  close(id: number) {
    lines.get(id)?.close();
    lines.delete(id);
  },

  /** Opens a line to an echo of messages of so many octets. */
  async openEcho({ way, id, octets: size = MESSAGE }: { way: Way; id: number; octets?: number }) {
    let came = Buffer.alloc(0);
    const pinging = pingingOf(id);
    pinging.octets = size;
    const ready = Promise.withResolvers<void>();
    const line = await openLine(way, formatCommand({ wish: "echo", id }), (octets) => {
      came = Buffer.concat([came, octets]);
      if (pinging.sent === 0) {
        came = came.subarray(READY.length);
        ready.resolve();
      }
      for (; came.length >= size; came = came.subarray(size)) pinging.back(came.readUIntLE(0, Math.min(4, size)));
    });
    pinging.ping = { send: (message) => void line.write(message), close: () => line.close() };
    await ready.promise;
  },

  /** Opens lines to an echo, one each way, and leaves them idle. */
  async hold({ ways, id }: { ways: readonly Way[]; id: number }) {
    const opening = ways.map(async (way) => {
      const ready = Promise.withResolvers<void>();
      const line = await openLine(way, formatCommand({ wish: "echo", id }), () => ready.resolve());
      await ready.promise;
      return line;
    });
    held.set(id, await Promise.all(opening));
  },

  /** Ends what `hold` has opened. */
  release(id: number) {
    for (const line of held.get(id) ?? []) line.close();
    held.delete(id);
  },

  async openDevice({ options, to, id }: { options: DeviceOptions; to: string; id: number }) {
    const pinging = pingingOf(id);
    const device = await Device.connect(options);
    void (async () => {
      for await (const message of device.messages()) {
        message.done();
        pinging.back(Buffer.from(message.body).readUInt32LE(0));
      }
    })();
    pinging.ping = { send: (message) => void device.send(to, message), close: () => void device.close() };
  },

  async openEngine({ url, transport, id }: { url: string; transport: EngineTransport; id: number }) {
    const pinging = pingingOf(id);
    const client = await engineClient(url, transport, (message) =>
      pinging.back(Number.parseInt(Buffer.from(message).toString(), 10)),
    );
    pinging.ping = {
      // As text, which long-polling carries unchanged: binary would be encoded in base64.
      send: (message) => client.send(String(Buffer.from(message).readUInt32LE(0)).padStart(MESSAGE, "0")),
      close: () => client.close(),
    };
  },

  /** Sends one message at a time, until there are `count` or time is up. */
  async ping({ id, count, milliseconds }: { id: number; count: number; milliseconds: number }): Promise<Trips> {
    const pinging = pingingOf(id);
    const samples: number[] = [];
    let lost = 0;
    let duplicated = 0;
    const until = performance.now() + milliseconds;
    while (samples.length + lost < count && performance.now() < until) {
      pinging.sent += 1;
      const width = Math.min(4, pinging.octets);
      const number = pinging.sent % 256 ** width;
      const message = randomBytes(pinging.octets);
      message.writeUIntLE(number, 0, width);
      const began = performance.now();
      const came = await new Promise<boolean>((resolve) => {
        const timer = setTimeout(() => resolve(false), PATIENCE);
        pinging.back = (back) => {
          if (back !== number) {
            duplicated += 1;
            return;
          }
          clearTimeout(timer);
          resolve(true);
        };
        pinging.ping.send(message);
      });
      if (came) samples.push(performance.now() - began);
      else lost += 1;
    }
    return { samples, lost, duplicated };
  },

  closePing(id: number) {
    pings.get(id)?.ping.close();
    pings.delete(id);
  },
});

function pingingOf(id: number): Pinging {
  let pinging = pings.get(id);
  if (pinging === undefined) {
    pinging = {
      ping: { send: () => undefined, close: () => undefined },
      octets: MESSAGE,
      back: () => undefined,
      sent: 0,
    };
    pings.set(id, pinging);
  }
  return pinging;
}
