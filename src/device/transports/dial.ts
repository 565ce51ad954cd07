/**
 * Dialling: connects to a host by name, with optional TLS. Every connection to an edge or relay is made here.
 *
 *   name ─► addresses, IPv6 and IPv4 in turn ─► attempts that overlap ─► the first that connects ─► TLS
 *
 * An attempt runs until the deadline: on a slow line, or after a lost SYN, it takes more than a second. The next
 * attempt starts when one fails, or in parallel after 250 ms [RFC 8305 5].
 *
 * A proxy is another {@link Dialler} in place of {@link direct}; TLS runs on top of any dialler.
 *
 * @module
 */
import { lookup } from "node:dns";
import { connect, isIP, type Socket } from "node:net";
import type { DeviceError } from "../device-error.ts";
import { ADDRESS_MEMORY, ATTEMPT_DELAY, DIAL_ADDRESSES, DIAL_TIMEOUT, REMEMBERED_NAMES } from "../limits.ts";
import { unreachable, unresolved } from "./dial-error.ts";
import type { Endpoint } from "./endpoint.ts";
import { secured } from "./tls.ts";

/** How long to try to connect. */
export interface Patience {
  /** Cancels the attempt; the promise rejects with the signal's reason. */
  readonly signal: AbortSignal;
  /** Timeout in milliseconds. */
  readonly timeout: number;
}

/**
 * Opens a byte stream to an endpoint, directly or through a proxy. The socket is connected and has no other reader.
 * Rejects with a DeviceError that names each address and what to do.
 */
export type Dialler = (to: Endpoint, patience: Patience) => Promise<Socket>;

export interface DialOptions extends Endpoint {
  /** Adds TLS. Default false. */
  readonly secure?: boolean | undefined;
  /** PEM certificates of the authorities to trust in addition to the system's and Node's. */
  readonly ca?: string | undefined;
  /** Default {@link direct}. */
  readonly dialler?: Dialler | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Timeout in milliseconds, TLS included. Default 25 s. */
  readonly timeout?: number | undefined;
}

/**
 * Connects to an edge or relay. The returned socket is connected, has completed its TLS handshake if `secure`, and has
 * no listeners.
 *
 * @throws DeviceError ConnectFailed, CertificateRefused, TlsFailed, TokenInClear; the reason of an aborted signal
 */
export async function dial(options: DialOptions): Promise<Socket> {
  const { host, port, ca, dialler = direct(), timeout = DIAL_TIMEOUT } = options;
  const signal = options.signal ?? new AbortController().signal;
  const end = performance.now() + timeout;
  const connect = async () => {
    const socket = await dialler({ host, port }, { signal, timeout: Math.max(1, end - performance.now()) });
    socket.setNoDelay(true);
    return socket;
  };
  return options.secure === true ? secured(connect, { host, port, ca, signal, timeout }) : connect();
}

/** One address of a name. */
export interface ResolvedAddress {
  readonly address: string;
  readonly family: number;
}

/** The system calls of a direct connection. */
export interface Network {
  /** Addresses of a name, best first: of both families for 0, otherwise of one. */
  lookup(host: string, family: 0 | 4 | 6): Promise<readonly ResolvedAddress[]>;
  /** Starts connecting to an address. */
  connect(address: string, port: number): Socket;
}

/** Lookups in progress, shared by all callers: a hanging lookup blocks a thread of the process. */
const lookups = new Map<string, Promise<readonly ResolvedAddress[]>>();

const NODE: Network = {
  lookup(host, family) {
    const key = `${family} ${host}`;
    const running = lookups.get(key);
    if (running !== undefined) return running;
    const found = new Promise<readonly ResolvedAddress[]>((resolve, reject) => {
      lookup(host, { all: true, family, order: "verbatim" }, (error, addresses) => {
        lookups.delete(key);
        if (error === null) resolve(addresses);
        else reject(error);
      });
    });
    lookups.set(key, found);
    return found;
  },
  connect: (address, port) => connect({ host: address, port, autoSelectFamily: false }),
};

export interface DirectOptions {
  /** Returns an error for an address that must not be dialled. One such address rejects the whole name. */
  readonly refuse?: ((address: string) => DeviceError | undefined) | undefined;
  /** Default: Node's. */
  readonly network?: Network | undefined;
}

/** A dialler without a proxy. It tries the address that last connected first. */
export function direct({ refuse = () => undefined, network = NODE }: DirectOptions = {}): Dialler {
  let answered: string | undefined;
  return async (to, patience) => {
    patience.signal.throwIfAborted();
    const won = await new Race(to, patience, { network, refuse, answered, lately: latelyOf(network, to.host) }).won;
    answered = won.address;
    remember(network, to.host, won);
    return won.socket;
  };
}

/** Addresses that have connected, by name, and when. */
const connected = new WeakMap<Network, Map<string, ResolvedAddress & { readonly at: number }>>();

function remember(network: Network, host: string, { address }: Attempt): void {
  const names = connected.get(network) ?? new Map();
  connected.set(network, names);
  names.delete(host);
  if (isIP(host) === 0) names.set(host, { address, family: isIP(address), at: performance.now() });
  const [oldest] = names.keys();
  if (names.size > REMEMBERED_NAMES) names.delete(oldest);
}

function latelyOf(network: Network, host: string): ResolvedAddress | undefined {
  const known = connected.get(network)?.get(host);
  return known !== undefined && performance.now() - known.at < ADDRESS_MEMORY ? known : undefined;
}

interface RaceOptions {
  readonly network: Network;
  readonly refuse: (address: string) => DeviceError | undefined;
  /** The address that this dialler last connected to. */
  readonly answered: string | undefined;
  /** An address of the name from not long ago. */
  readonly lately: ResolvedAddress | undefined;
}

/** One attempt. It has failed if `error` is set. */
interface Attempt {
  readonly address: string;
  readonly socket: Socket;
  error?: NodeJS.ErrnoException;
}

/** All attempts to connect to one name. */
class Race {
  readonly won: Promise<Attempt>;
  readonly #settle: { readonly resolve: (won: Attempt) => void; readonly reject: (why: unknown) => void };
  readonly #to: Endpoint;
  readonly #patience: Patience;
  readonly #network: Network;
  readonly #refuse: (address: string) => DeviceError | undefined;
  readonly #answered: string | undefined;
  readonly #known = new Set<string>();
  /** Best first. */
  readonly #untried: ResolvedAddress[] = [];
  readonly #attempts: Attempt[] = [];
  /** Family of the latest attempt. */
  #family = 0;
  /** Families whose lookups are pending. */
  readonly #asked = new Set<0 | 4 | 6>();
  #lookupError: NodeJS.ErrnoException | undefined;
  #over = false;
  readonly #deadline: NodeJS.Timeout;
  /** While set, the next attempt waits, unless one fails. */
  #delay: NodeJS.Timeout | undefined;
  #slowLookup: NodeJS.Timeout | undefined;

  constructor(to: Endpoint, patience: Patience, { network, refuse, answered, lately }: RaceOptions) {
    this.#to = to;
    this.#patience = patience;
    this.#network = network;
    this.#refuse = refuse;
    this.#answered = answered;
    const { promise, resolve, reject } = Promise.withResolvers<Attempt>();
    this.won = promise;
    this.#settle = { resolve, reject };
    patience.signal.addEventListener("abort", this.#onAbort, { once: true });
    this.#deadline = setTimeout(() => this.#timeOut(), patience.timeout);
    const family = isIP(to.host);
    if (family !== 0) this.#add([{ address: to.host, family }]);
    else {
      this.#lookup(0);
      // A broken resolver may answer for one family only, and the combined lookup then waits for both.
      this.#slowLookup = setTimeout(() => {
        this.#lookup(4);
        this.#lookup(6);
        if (lately !== undefined) this.#add([lately]);
      }, ATTEMPT_DELAY);
    }
  }

  readonly #onAbort = () => this.#end(() => this.#settle.reject(this.#patience.signal.reason));

  #lookup(family: 0 | 4 | 6): void {
    this.#asked.add(family);
    const answered = () => {
      this.#asked.delete(family);
      if (family === 0) clearTimeout(this.#slowLookup);
    };
    this.#network.lookup(this.#to.host, family).then(
      (addresses) => {
        answered();
        // The answer for both families is complete.
        if (family === 0) this.#asked.clear();
        this.#add(addresses);
      },
      (error: NodeJS.ErrnoException) => {
        answered();
        this.#lookupError ??= error;
        this.#goOn();
      },
    );
  }

  #add(addresses: readonly ResolvedAddress[]): void {
    if (this.#over) return;
    for (const resolved of addresses) {
      const { address } = resolved;
      if (this.#known.has(address) || this.#known.size === DIAL_ADDRESSES) continue;
      this.#known.add(address);
      const refusal = this.#refuse(address);
      if (refusal !== undefined) {
        this.#end(() => this.#settle.reject(refusal));
        return;
      }
      if (address === this.#answered) this.#untried.unshift(resolved);
      else this.#untried.push(resolved);
    }
    this.#goOn();
  }

  /** Starts the next attempt if it is due; fails when nothing is left to try. */
  #goOn(): void {
    if (this.#over) return;
    const isRunning = this.#attempts.some(({ error }) => error === undefined);
    if (this.#untried.length > 0) {
      if (this.#delay === undefined || !isRunning) this.#begin();
    } else if (!isRunning && this.#asked.size === 0) this.#fail();
  }

  #begin(): void {
    const other = this.#untried.findIndex(({ family }) => family !== this.#family);
    const [next] = this.#untried.splice(Math.max(0, other), 1);
    if (next === undefined) return;
    this.#family = next.family;
    const attempt: Attempt = { address: next.address, socket: this.#network.connect(next.address, this.#to.port) };
    this.#attempts.push(attempt);
    const { socket } = attempt;
    const onError = (error: NodeJS.ErrnoException) => this.#failed(attempt, error);
    socket.on("error", onError);
    socket.once("connect", () => {
      socket.off("error", onError);
      this.#end(() => this.#settle.resolve(attempt), attempt);
    });
    clearTimeout(this.#delay);
    this.#delay = setTimeout(() => {
      this.#delay = undefined;
      this.#goOn();
    }, ATTEMPT_DELAY);
  }

  #failed(attempt: Attempt, error: NodeJS.ErrnoException): void {
    if (this.#over) return;
    attempt.error = error;
    clearTimeout(this.#delay);
    this.#delay = undefined;
    this.#goOn();
  }

  #timeOut(): void {
    for (const attempt of this.#attempts) {
      attempt.error ??= Object.assign(new Error("no answer within the deadline"), { code: "ETIMEDOUT" });
    }
    this.#fail();
  }

  #fail(): void {
    const { host, port } = this.#to;
    const failed = this.#attempts.flatMap(({ address, error }) => (error === undefined ? [] : [{ address, error }]));
    const error =
      failed.length > 0 ? unreachable(host, port, failed) : unresolved(host, this.#patience.timeout, this.#lookupError);
    this.#end(() => this.#settle.reject(error));
  }

  /** Settles the race once and destroys every attempt except the kept one. */
  #end(settle: () => void, kept?: Attempt): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#deadline);
    clearTimeout(this.#delay);
    clearTimeout(this.#slowLookup);
    this.#patience.signal.removeEventListener("abort", this.#onAbort);
    for (const attempt of this.#attempts) if (attempt !== kept) attempt.socket.destroy();
    settle();
  }
}
