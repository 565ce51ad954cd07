/**
 * Connects through a chain of proxies: to the first, from there to the second, and so on to the destination. The
 * handshakes are in `http-connect.ts` and `socks.ts`; this file moves their bytes over sockets.
 *
 * @module
 */
import type { Socket } from "node:net";
import { formatHostPort } from "../../../lib/host-port.ts";
import { within } from "../../../lib/runtime/timeout.ts";
import { DeviceError } from "../../device-error.ts";
import { type Dialler, direct, type Patience } from "../dial.ts";
import { seconds } from "../dial-error.ts";
import type { Endpoint } from "../endpoint.ts";
import { secured } from "../tls.ts";
import type { ProxyChain, ProxyServer } from "../transport.ts";
import { type AuthenticationStep, Authenticator, negotiateStep } from "./authenticate.ts";
import type { Credentials, ProxyAccounts, Trial } from "./credentials.ts";
import { type ConnectEvent, type ConnectRequest, HttpConnect } from "./http-connect.ts";
import { type Negotiate, type NegotiateStep, negotiate } from "./negotiate.ts";
import {
  type NamedProxy,
  notAProxy,
  proxyNeedsCredentials,
  proxyOffersNothing,
  proxyRefuses,
  proxyRefusesCredentials,
  proxySilent,
  proxyUnreachable,
  statusText,
} from "./proxy-error.ts";
import { type SocksEvent, type SocksHandshake, socks4, socks5 } from "./socks.ts";

/** Connections to one proxy for one tunnel: the first, one for the credentials, one for a newer nonce. */
const CONNECTIONS = 3;

/** Requests on one connection to a proxy. NTLM takes three, and Negotiate rarely more. */
const REQUESTS = 6;

/**
 * How long Kerberos may take for a token, in milliseconds. It asks a server of the domain, which answers at once; away
 * from that network it would wait for half a minute and more.
 */
const KERBEROS_TIMEOUT = 3000;

export interface TunnelOptions {
  /** Where the setting was found, for error messages. */
  readonly source: string;
  readonly accounts: ProxyAccounts;
  /** PEM certificates of the authorities to trust in addition, for proxies reached over TLS. */
  readonly ca?: string | undefined;
  /** Connects to the first proxy. Default: directly. */
  readonly dialler?: Dialler | undefined;
  /** Default: by the package `kerberos`. */
  readonly negotiate?: Negotiate | undefined;
}

/**
 * Makes a dialler that connects through proxies, the nearest first.
 *
 * Its errors: DeviceError ProxyRefuses, ProxyNeedsCredentials, ProxyRefusesCredentials, ProxyFailed, and those of a
 * direct connection to the first proxy.
 */
export function tunnelDialler(chain: ProxyChain, options: TunnelOptions): Dialler {
  return (to, { signal, timeout }) => {
    const tunnel = new Tunnel(options, signal, timeout);
    return tunnel.reach(chain, to);
  };
}

/**
 * Makes a dialler to the last proxy itself, for requests with absolute targets.
 */
export function proxyDialler(chain: ProxyChain, options: TunnelOptions): Dialler {
  return (_, { signal, timeout }) => new Tunnel(options, signal, timeout).open(chain);
}

/**
 * Shows the last proxy of a chain its credentials with a request of their own, before other requests with absolute
 * targets carry them: several at once would count as several attempts.
 *
 * @throws DeviceError as {@link tunnelDialler}
 */
export async function proveCredentials(
  chain: ProxyChain,
  question: { readonly url: string; readonly to: Endpoint },
  { signal, timeout, ...options }: TunnelOptions & Patience,
): Promise<void> {
  const proxy = chain.at(-1);
  const credentials = proxy && options.accounts.find(proxy);
  if (proxy === undefined || credentials === undefined || options.accounts.isAccepted(proxy, credentials)) return;
  const { url, to } = question;
  const request = { method: "GET", target: url, host: formatHostPort(to) } as const;
  const socket = await new Tunnel(options, signal, timeout).ask(chain, proxy, request);
  socket.destroy();
}

/** One attempt to connect through a chain. */
class Tunnel {
  readonly #options: TunnelOptions;
  readonly signal: AbortSignal;
  readonly #timeout: number;
  readonly #end: number;

  constructor(options: TunnelOptions, signal: AbortSignal, timeout: number) {
    this.#options = options;
    this.signal = signal;
    this.#timeout = timeout;
    this.#end = performance.now() + timeout;
  }

  /** Connects to an endpoint through a chain. */
  async reach(chain: ProxyChain, to: Endpoint): Promise<Socket> {
    const proxy = chain.at(-1);
    if (proxy === undefined) return (this.#options.dialler ?? direct())(to, this.#patience());
    const target = formatHostPort(to);
    if (proxy.kind === "socks5" || proxy.kind === "socks4") return this.#socks(chain, proxy, to);
    return this.ask(chain, proxy, { method: "CONNECT", target, host: target });
  }

  /** Connects to the last proxy of a chain. */
  async open(chain: ProxyChain): Promise<Socket> {
    const proxy = chain.at(-1);
    if (proxy === undefined) throw new DeviceError("InternalError", "a chain of proxies is empty");
    const connect = () => this.reach(chain.slice(0, -1), proxy);
    try {
      if (proxy.kind !== "https") return await connect();
      const { host, port } = proxy;
      return await secured(connect, { host, port, ca: this.#options.ca, ...this.#patience() });
    } catch (error) {
      // A proxy before this one has reported its own part.
      if (!(error instanceof DeviceError) || error.code.startsWith("Proxy")) throw error;
      throw proxyUnreachable(this.#named(proxy), error);
    }
  }

  /** Makes a request to the last proxy of a chain, with credentials if it asks. Resolves with the accepted connection. */
  async ask(chain: ProxyChain, proxy: ProxyServer, request: ConnectRequest): Promise<Socket> {
    const credentials = this.#options.accounts.find(proxy);
    const { method, target: uri } = request;
    const named = this.#named(proxy);
    const trial = await this.#begin(named, credentials, uri);
    const authenticator = new Authenticator({ named, credentials, method, uri, mayNegotiate: true });
    const asking = new Asking(this, { named, request, authenticator, host: proxy.host });
    try {
      for (let connections = 0; connections < CONNECTIONS; connections += 1) {
        const socket = await this.open(chain);
        const isAccepted = await this.#keep(socket, () => asking.over(socket));
        if (!isAccepted) continue;
        if (authenticator.hasSentPassword) trial?.accepted();
        return socket;
      }
      throw notAProxy(named, "It asks for credentials again and again.");
    } catch (error) {
      if (error !== REFUSED) throw error;
      trial?.refused();
      throw proxyRefusesCredentials(named, this.#options.accounts.cure);
    } finally {
      trial?.unknown();
    }
  }

  async #socks(chain: ProxyChain, proxy: ProxyServer, to: Endpoint): Promise<Socket> {
    const credentials = this.#options.accounts.find(proxy);
    const named = this.#named(proxy);
    const target = formatHostPort(to);
    // SOCKS 4 has no password that could be refused.
    const trial = proxy.kind === "socks4" ? undefined : await this.#begin(named, credentials, target);
    const handshake: SocksHandshake = (proxy.kind === "socks5" ? socks5 : socks4)(to, credentials);
    try {
      const socket = await this.open(chain);
      await this.#keep(socket, () => this.#shake(socket, handshake, named, target));
      if (handshake.hasSentPassword) trial?.accepted();
      return socket;
    } catch (error) {
      if (error !== REFUSED) throw error;
      trial?.refused();
      throw proxyRefusesCredentials(named, this.#options.accounts.cure);
    } finally {
      trial?.unknown();
    }
  }

  async #shake(socket: Socket, handshake: SocksHandshake, named: NamedProxy, target: string): Promise<true> {
    let event: SocksEvent = handshake.start();
    for (;;) {
      switch (event.type) {
        case "send":
          socket.write(event.octets);
          break;
        case "accepted":
          return true;
        case "needsCredentials":
          if (this.#options.accounts.find(named.proxy) === undefined) throw proxyNeedsCredentials(named, []);
          throw proxyOffersNothing(named, "it does not take a user name and password, but another way to log in");
        case "refusesCredentials":
          throw REFUSED;
        case "refused":
          throw proxyRefuses(named, target, event.why);
        case "invalid":
          throw notAProxy(named, event.detail);
      }
      event = await this.next<SocksEvent>(socket, named, target, handshake);
    }
  }

  /** Destroys the socket unless `use` resolves with true. */
  async #keep(socket: Socket, use: () => Promise<boolean>): Promise<boolean> {
    const ignore = () => undefined;
    socket.on("error", ignore);
    let isKept = false;
    try {
      isKept = await use();
      return isKept;
    } finally {
      socket.off("error", ignore);
      if (!isKept) socket.on("error", ignore).destroy();
    }
  }

  /** Begins to use a password, perhaps after other connections that try it. */
  async #begin(named: NamedProxy, credentials: Credentials | undefined, target: string): Promise<Trial | undefined> {
    if (credentials === undefined) return undefined;
    const { accounts } = this.#options;
    const late = AbortSignal.timeout(Math.ceil(this.#patience().timeout));
    let trial: Trial | undefined;
    try {
      trial = await accounts.begin(named.proxy, credentials, AbortSignal.any([this.signal, late]));
    } catch {
      this.signal.throwIfAborted();
      throw proxySilent(named, target, seconds(this.#timeout));
    }
    if (trial === undefined) throw proxyRefusesCredentials(named, accounts.cure);
    return trial;
  }

  async beginNegotiate(host: string): Promise<NegotiateStep | undefined> {
    const step = await this.#ticket((this.#options.negotiate ?? negotiate)(host));
    return step && (async (token) => (await this.#ticket(step(token))) ?? Promise.reject(new Error("no token")));
  }

  /** Waits for Kerberos, which cannot be cancelled. Resolves with undefined if it takes too long. */
  async #ticket<T>(asking: Promise<T>): Promise<T | undefined> {
    const { signal, timeout } = this.#patience();
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      return (await within(Math.min(timeout, KERBEROS_TIMEOUT), Promise.race([asking, aborted.promise])))?.value;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /**
   * Reads until the handshake gives an event. Leaves the socket without listeners of ours, not flowing, and with what
   * came behind the handshake.
   */
  next<E extends ConnectEvent | SocksEvent>(
    socket: Socket,
    named: NamedProxy,
    target: string,
    handshake: Handshake<E>,
  ): Promise<E> {
    const { promise, resolve, reject } = Promise.withResolvers<E>();
    const { signal } = this.#patience();
    const settle = (act: () => void) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      socket.off("readable", onReadable).off("end", onEnd).off("close", onEnd);
      act();
    };
    const onAbort = () => settle(() => reject(signal.reason));
    const onEnd = () => settle(() => resolve(handshake.ended()));
    const onReadable = () => {
      for (let octets = socket.read(); octets instanceof Uint8Array; octets = socket.read()) {
        const event = handshake.receive(octets);
        if (event === undefined) continue;
        // At once: after its end, a stream takes nothing back.
        if (event.type === "accepted" && event.rest.length > 0) socket.unshift(event.rest);
        settle(() => resolve(event));
        return;
      }
    };
    const late = () => settle(() => reject(proxySilent(named, target, seconds(this.#timeout))));
    const timer = setTimeout(late, this.#patience().timeout);
    if (signal.aborted) onAbort();
    else if (socket.destroyed || socket.readableEnded) onEnd();
    else {
      signal.addEventListener("abort", onAbort, { once: true });
      socket.on("readable", onReadable).on("end", onEnd).on("close", onEnd);
    }
    return promise;
  }

  #patience(): Patience {
    return { signal: this.signal, timeout: Math.max(1, this.#end - performance.now()) };
  }

  #named(proxy: ProxyServer): NamedProxy {
    return { proxy, source: this.#options.source };
  }
}

/** Thrown where a proxy has judged the credentials, and refuses them. */
const REFUSED = Symbol("the proxy refuses the credentials");

interface Handshake<E> {
  receive(octets: Uint8Array): E | undefined;
  ended(): E;
}

interface AskingOptions {
  readonly named: NamedProxy;
  readonly request: ConnectRequest;
  readonly authenticator: Authenticator;
  /** Of the proxy, for Kerberos. */
  readonly host: string;
}

/** The requests for one tunnel, over one or several connections. */
class Asking {
  readonly #tunnel: Tunnel;
  readonly #options: AskingOptions;
  #authorization: string | undefined;
  #negotiate: NegotiateStep | undefined;

  constructor(tunnel: Tunnel, options: AskingOptions) {
    this.#tunnel = tunnel;
    this.#options = options;
  }

  /** Asks over one connection. Resolves with false if another connection is needed. */
  async over(socket: Socket): Promise<boolean> {
    const { named, request, authenticator } = this.#options;
    const connect = new HttpConnect(request);
    for (let requests = 0; requests < REQUESTS; requests += 1) {
      socket.write(connect.request(this.#authorization));
      const event = await this.#tunnel.next<ConnectEvent>(socket, named, request.target, connect);
      switch (event.type) {
        case "accepted":
          return true;
        case "refused":
          throw proxyRefuses(named, request.target, statusText(event.head.status));
        case "closed":
          // Some proxies close the connection after a 407 without announcing it.
          if (requests > 0 && authenticator.mayRepeat) return false;
          throw notAProxy(named, "It closed the connection without an answer.");
        case "invalid":
          throw notAProxy(named, event.detail);
        case "challenged":
          this.#authorization = await this.#authorize(event.challenges, event.isOpen);
          if (!event.isOpen) return false;
      }
    }
    throw notAProxy(named, "It asks for credentials again and again.");
  }

  async #authorize(challenges: readonly string[], isOpen: boolean): Promise<string> {
    const { authenticator, host } = this.#options;
    let step: AuthenticationStep = authenticator.answer(challenges, isOpen);
    while (step.type === "negotiate") {
      this.#negotiate ??= await this.#tunnel.beginNegotiate(host);
      step = await negotiateStep(authenticator, this.#negotiate, { token: step.token, challenges });
      this.#tunnel.signal.throwIfAborted();
    }
    if (step.type === "refused") throw REFUSED;
    if (step.type === "failed") throw step.error;
    return step.value;
  }
}
