/**
 * The service behind `expose --socks`: a stream is a SOCKS 5 connection, whose target is judged, looked up, and dialed at
 * the addresses that were judged.
 *
 *   stream ─► SocksServer ─► judgeTarget ─► look-up ─► judgeAddresses ─► socket ─► bridge
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { DeviceStream } from "../../device/index.ts";
import { type Destination, judgeAddresses, judgeTarget, mayGoOn, type Target } from "../../edge/policy/destinations.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { Semaphore } from "../../lib/semaphore.ts";
import { codeOf } from "../files/file-system.ts";
import { bridge } from "./bridge.ts";
import { type Reply, SocksServer, socksReply } from "./socks-server.ts";
import type { Traffic } from "./stream-log.ts";

/** How long a stream may take until its target is connected, in milliseconds: longer than a look-up and a dial. */
const HANDSHAKE_TIMEOUT = 30_000;

/** How long the resolver may take, in milliseconds: it asks a silent server twice for 5 s. */
const LOOKUP_TIMEOUT = 12_000;

/** How long all addresses of a target may take together, and one that others follow, in milliseconds. */
const DIAL_TIMEOUT = 10_000;
const ADDRESS_TIMEOUT = 3_000;

/** Addresses that are tried: with each at its limit, all have a turn within `DIAL_TIMEOUT`. */
const ADDRESSES = 4;

/** How long a refused program may take to close, in milliseconds [RFC 1928 6: 10 seconds]. */
const LINGER = 10_000;

/** Look-ups at a time: each blocks one of Node's four threads, which the disk needs too. */
const LOOKUPS = 2;

export interface SocksServiceOptions {
  /** Default: none. */
  readonly destinations?: readonly Destination[];
  /** Told of each stream that is refused, and why. */
  readonly refused: (stream: DeviceStream, why: string) => void;
  /** Counts what is carried. */
  readonly traffic?: Traffic;
  /** The addresses of a name. Default: the system's resolver. */
  readonly resolve?: (name: string) => Promise<readonly string[]>;
}

/** A connection to a target. */
interface Connection {
  readonly stream: DeviceStream;
  readonly target: Target;
  /** The one that was dialed. */
  readonly address: string;
}

/** A reply other than success. */
class Refusal extends Error {
  readonly reply: Reply;

  constructor(reply: Reply, why: string) {
    super(why);
    this.reply = reply;
  }
}

export class SocksService {
  readonly #options: SocksServiceOptions;
  readonly #lookups = new Semaphore(LOOKUPS);
  readonly #connections = new Set<Connection>();
  #destinations: readonly Destination[];

  constructor(options: SocksServiceOptions) {
    this.#options = options;
    this.#destinations = options.destinations ?? [];
  }

  /** Reaches these destinations from now on, and no others: connections to all others end. */
  setDestinations(destinations: readonly Destination[]): void {
    this.#destinations = destinations;
    for (const { stream, target, address } of [...this.#connections]) {
      if (!mayGoOn(destinations, target, address)) stream.reset();
    }
  }

  /** Serves a stream until it has ended. */
  async serve(stream: DeviceStream): Promise<void> {
    const late = setTimeout(() => stream.reset(), HANDSHAKE_TIMEOUT);
    const gone = new AbortController();
    stream.closed.catch(() => gone.abort());
    try {
      const asked = await this.#handshake(stream);
      if (asked === undefined) return;
      const socket = await this.#connect(stream, asked.target, gone.signal);
      if (socket === undefined) return;
      clearTimeout(late);
      if (asked.rest.length > 0) socket.write(asked.rest);
      await bridge(stream, socket, this.#options.traffic);
    } catch {
      // The stream was reset, here or by the other end.
      stream.reset();
    } finally {
      clearTimeout(late);
    }
  }

  /** Reads what the program asks for; undefined if that was refused. */
  async #handshake(stream: DeviceStream): Promise<{ readonly target: Target; readonly rest: Uint8Array } | undefined> {
    const server = new SocksServer();
    const reader = stream.readable.getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) {
          stream.reset();
          return undefined;
        }
        for (const event of server.receive(value)) {
          if (event.type === "connect") return event;
          if (event.type === "send") await write(stream, event.octets);
          else {
            reader.releaseLock();
            this.#options.refused(stream, event.why);
            await end(stream, event.octets);
            return undefined;
          }
        }
      }
    } finally {
      reader.releaseLock();
    }
  }

  /** Connects the target and tells the program so; undefined if that was refused. */
  async #connect(stream: DeviceStream, target: Target, gone: AbortSignal): Promise<Socket | undefined> {
    let socket: Socket;
    try {
      socket = await this.#dial(stream, target, gone);
    } catch (error) {
      gone.throwIfAborted();
      const { reply, message } = error instanceof Refusal ? error : new Refusal("GeneralFailure", String(error));
      this.#options.refused(stream, message);
      await end(stream, socksReply(reply));
      return undefined;
    }
    // The bridge reads what the target writes first.
    socket.on("error", () => stream.reset());
    try {
      await write(stream, socksReply("Succeeded"));
      if (socket.destroyed) throw new Error("the target has closed meanwhile");
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return socket;
  }

  /** @throws Refusal; the reason of `gone` */
  async #dial(stream: DeviceStream, target: Target, gone: AbortSignal): Promise<Socket> {
    const { socket, address } = await dial(await this.#addresses(target), target.port, gone);
    if (!mayGoOn(this.#destinations, target, address)) {
      socket.destroy();
      throw new Refusal("NotAllowed", `${address} port ${target.port} is not listed any more`);
    }
    const connection: Connection = { stream, target, address };
    this.#connections.add(connection);
    socket.once("close", () => this.#connections.delete(connection));
    return socket;
  }

  /**
   * The addresses that may be dialed for a target.
   *
   * @throws Refusal
   */
  async #addresses(target: Target): Promise<readonly string[]> {
    const judged = judgeTarget(this.#destinations, target);
    if (judged.type === "refused") throw new Refusal("NotAllowed", judged.why);
    if (judged.type === "dial") return judged.addresses;
    const { name } = judged;
    const addresses = await this.#resolve(name);
    // The list may have changed meanwhile.
    const again = judgeTarget(this.#destinations, target);
    if (again.type === "refused") throw new Refusal("NotAllowed", again.why);
    const found = judgeAddresses(this.#destinations, { name, port: target.port }, addresses);
    if (found.type === "refused") throw new Refusal("NotAllowed", found.why);
    return found.addresses;
  }

  /** @throws Refusal */
  async #resolve(name: string): Promise<readonly string[]> {
    const { resolve = systemAddresses } = this.#options;
    const resolving = (async () => {
      await this.#lookups.take();
      try {
        return await resolve(name);
      } finally {
        this.#lookups.give();
      }
    })();
    try {
      const found = await within(LOOKUP_TIMEOUT, resolving);
      if (found !== undefined && found.value.length > 0) return found.value;
    } catch (error) {
      throw new Refusal("HostUnreachable", `${name} has no address (${codeOf(error) ?? error})`);
    }
    throw new Refusal("HostUnreachable", `${name} has no address: the resolver has not answered`);
  }
}

async function systemAddresses(name: string): Promise<readonly string[]> {
  return (await lookup(name, { all: true })).map(({ address }) => address);
}

/**
 * Connects to the first address that answers.
 *
 * @param gone when nobody waits for it any more
 * @throws Refusal; the reason of `gone`
 */
async function dial(
  addresses: readonly string[],
  port: number,
  gone: AbortSignal,
): Promise<{ readonly socket: Socket; readonly address: string }> {
  const deadline = performance.now() + DIAL_TIMEOUT;
  const tried = addresses.slice(0, ADDRESSES);
  let refusal = new Refusal("HostUnreachable", "it has no address");
  for (const [index, address] of tried.entries()) {
    gone.throwIfAborted();
    const left = deadline - performance.now();
    const limit = index === tried.length - 1 ? left : Math.min(left, ADDRESS_TIMEOUT);
    const socket = connect({ host: address, port, allowHalfOpen: true });
    try {
      const timeout = AbortSignal.timeout(Math.max(0, Math.ceil(limit)));
      await once(socket, "connect", { signal: AbortSignal.any([timeout, gone]) });
      return { socket, address };
    } catch (error) {
      socket.on("error", () => undefined);
      socket.destroy();
      refusal = new Refusal(
        replyFor(error),
        `${address} port ${port}: ${error instanceof Error ? error.message : error}`,
      );
    }
  }
  throw refusal;
}

function replyFor(error: unknown): Reply {
  if (error instanceof Error && error.name === "AbortError") return "TimedOut";
  switch (codeOf(error)) {
    case "ECONNREFUSED":
      return "ConnectionRefused";
    case "ENETUNREACH":
      return "NetworkUnreachable";
    case "EHOSTUNREACH":
    case "EHOSTDOWN":
      return "HostUnreachable";
    case "ETIMEDOUT":
      return "TimedOut";
    default:
      return "GeneralFailure";
  }
}

async function write(stream: DeviceStream, octets: Uint8Array): Promise<void> {
  const writer = stream.writable.getWriter();
  try {
    await writer.write(octets);
  } finally {
    writer.releaseLock();
  }
}

/** Sends the last octets, and waits until the program has read them and closes: a reset would overtake them. */
async function end(stream: DeviceStream, octets: Uint8Array): Promise<void> {
  const late = setTimeout(() => stream.reset(), LINGER);
  try {
    if (octets.length > 0) await write(stream, octets);
    await stream.writable.close();
    await stream.readable.pipeTo(new WritableStream());
  } finally {
    clearTimeout(late);
  }
}
