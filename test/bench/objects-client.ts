/** The client of the worker with two objects: a WebSocket to one of a pair, whose messages arrive at the other's. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { WebSocket } from "ws";
import { NODE_AES_GCM } from "../../src/device/streams/node-ciphers.ts";
import { TAG_OCTETS } from "../../src/streams/index.ts";
import type { Write } from "./blocks.ts";

/** Octets that the other object has not taken, before a writer waits: as much as a device has on its way. */
const UNTAKEN = 1024 * 1024;

/** One end of a pair. */
export interface ObjectEnd {
  /** Resolves when it is connected. */
  readonly opened: Promise<unknown>;
  readonly write: Write;
  readonly isOver: () => boolean;
  close(): void;
}

export interface ObjectAddress {
  readonly port: number;
  readonly side: "near" | "far";
  /** Of the pair. */
  readonly number: number;
  /** `host:port` that the object dials. Then it is no pair. */
  readonly dial?: string;
  /** Whether another object dials it. */
  readonly isApart?: boolean;
}

/**
 * Connects.
 *
 * @param take gets what arrives
 */
export function openObject(
  { port, side, number, dial, isApart = false }: ObjectAddress,
  take: (octets: Uint8Array) => void,
): ObjectEnd {
  const other = side === "near" ? "far" : "near";
  const by = isApart ? `&by=${other}-${number}` : "";
  const to = dial === undefined ? `to=${other}-${number}` : `dial=${dial}${by}`;
  const url = `ws://127.0.0.1:${port}/${side}-${number}?${to}`;
  const socket = new WebSocket(url, { perMessageDeflate: false });
  const untaken: number[] = [];
  let waiting = 0;
  let goOn: () => void = () => undefined;
  socket.on("message", (data: Buffer, isBinary: boolean) => {
    if (isBinary) {
      take(data);
      return;
    }
    waiting -= untaken.shift() ?? 0;
    goOn();
  });
  socket.on("error", () => socket.terminate());
  socket.on("close", () => goOn());
  return {
    opened: once(socket, "open"),
    write(block) {
      if (socket.readyState !== WebSocket.OPEN) return undefined;
      socket.send(block);
      untaken.push(block.length);
      waiting += block.length;
      if (waiting < UNTAKEN) return undefined;
      return new Promise((resolve) => {
        goOn = resolve;
      });
    },
    isOver: () => socket.readyState !== WebSocket.OPEN,
    close: () => socket.terminate(),
  };
}

const NOTHING = new Uint8Array(0);

/** Both ends have one, and one key for all: what sealing costs does not depend on it. */
const KEY = Buffer.alloc(32, 7);

/** Seals messages by the cipher that two devices agree on, each under its number, and opens them. */
export class SealedRecords {
  readonly #cipher = NODE_AES_GCM.cipher(KEY);
  readonly #nonce = randomBytes(12);

  /** An end of a pair whose messages are sealed on their way. */
  around(open: (take: (octets: Uint8Array) => void) => ObjectEnd, take: (octets: Uint8Array) => void): ObjectEnd {
    const end = open((octets) => take(this.#open(octets)));
    return { ...end, write: (block) => end.write(this.#seal(block)) };
  }

  #seal(block: Uint8Array): Uint8Array {
    const sealed = Buffer.allocUnsafe(this.#nonce.length + block.length + TAG_OCTETS);
    this.#nonce.writeUInt32LE((this.#nonce.readUInt32LE(0) + 1) % 2 ** 32, 0);
    sealed.set(this.#nonce);
    this.#cipher.seal(this.#nonce, NOTHING, block, sealed.subarray(this.#nonce.length));
    return sealed;
  }

  #open(octets: Uint8Array): Uint8Array {
    const { length } = this.#nonce;
    const opened = this.#cipher.open(octets.subarray(0, length), NOTHING, octets.subarray(length));
    if (opened === undefined) throw new Error("a message was changed on its way");
    return opened;
  }
}
